"""
Pretrain on properties, and predict them
========================================

The pretext task: a network learns to predict the magnitudes and sizes of the catalogue from the
stamps. No label is needed. The quality of the predictions shows how much the representation can
contain.
"""

# %%
# Half of the objects are held out: a network may overfit the magnitudes of its training stamps.
import matplotlib.pyplot as plt
import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import balanced_accuracy_score
from sklearn.model_selection import train_test_split

from skastro import PropertyDisplay, PropertyPretrainedEncoder, make_survey, select_columns

survey = make_survey(600, random_state=0)
properties = select_columns(survey.catalog, "mag_*,size")
train, test = train_test_split(
    np.arange(600), test_size=0.5, stratify=survey.target, random_state=0
)

# %%
# The catalogue may have gaps (NaN): missing values do not enter the loss.
print(f"not measured: {properties.iloc[train].isna().mean().mean():.1%} of the values")
encoder = PropertyPretrainedEncoder(
    "stamp_resnet10", targets="catalog", max_epochs=30, random_state=0
)
encoder.fit(survey.images[train], properties=properties.iloc[train])
print(f"loss {encoder.history_[0]['train_loss']:.3f} -> {encoder.history_[-1]['train_loss']:.3f}")

# %%
# Predictions are in the units of the catalogue. The score is R², the mean over properties.
predicted = encoder.predict(survey.images[test])
print(predicted.head(3).round(2).to_string(index=False))
score = encoder.score(survey.images[test], properties=properties.iloc[test])
print(f"R2 on unseen objects: {score:.3f}")

# %%
# Bias and scatter by magnitude: the left figure shows the i magnitude in bins of itself, the right
# figure the size in bins of the i magnitude. After training on 300 stamps, the network is less
# accurate than photometry: its scatter is several times the catalogue's own error. This does not
# matter, because the pretext task is only a means to learn features.
figure, axes = plt.subplots(1, 2, figsize=(10.5, 6), layout="constrained")
magnitude = PropertyDisplay.from_predictions(
    properties["mag_i"].iloc[test],
    predicted["mag_i"],
    errors=survey.catalog["err_i"].iloc[test],
    name="i magnitude",
    unit="mag",
    n_bins=6,
    ax=axes[0],
)
size = PropertyDisplay.from_predictions(
    properties["size"].iloc[test],
    predicted["size"],
    magnitude=properties["mag_i"].iloc[test],
    magnitude_name="i magnitude (mag)",
    name="size",
    unit="arcsec",
    n_bins=6,
    ax=axes[1],
)
print(f"i magnitude: bias {magnitude.bias:+.3f}, scatter {magnitude.scatter:.3f} mag")
print(f"size: bias {size.bias:+.3f}, scatter {size.scatter:.3f} arcsec")
plt.show()

# %%
# The embedding is the layer before the predictions. A linear classifier can find classes in it that
# the network has never seen.
embeddings = encoder.transform(survey.images)
probe = LogisticRegression(class_weight="balanced", C=0.1, max_iter=2000)
probe.fit(embeddings[train], survey.target[train])
accuracy = balanced_accuracy_score(survey.target[test], probe.predict(embeddings[test]))
print(
    f"{embeddings.shape[1]} columns; balanced accuracy of stars, galaxies, quasars: {accuracy:.3f}"
)
