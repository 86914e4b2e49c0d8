"""A pretrained network in a scikit-learn pipeline.

Stars, galaxies and quasars are told apart by logistic regression on what a network has learned
from predicting the catalogue's magnitudes. Runs in under a minute; the survey is simulated once
and then comes from the disk.
"""

# %%
# A small survey, with rows set apart before anything is learned.
import matplotlib.pyplot as plt
import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import ConfusionMatrixDisplay, balanced_accuracy_score
from sklearn.model_selection import train_test_split
from sklearn.pipeline import Pipeline

from skastro import PropertyPretrainedEncoder, make_survey, to_rgb

survey = make_survey(600, random_state=0, n_jobs=2)
images, labels = survey.images, survey.target
magnitudes = survey.catalog.filter(like="mag_")
errors = survey.catalog.filter(like="err_")
train, test = train_test_split(
    np.arange(len(labels)), test_size=0.3, stratify=labels, random_state=0
)

# %%
# The magnitudes are the encoder's targets; the classes reach the logistic regression only.
model = Pipeline(
    [
        ("enc", PropertyPretrainedEncoder("stamp_resnet10", random_state=0)),
        ("clf", LogisticRegression(class_weight="balanced", max_iter=2000)),
    ]
)
model.fit(
    images[train],
    labels[train],
    enc__properties=magnitudes.iloc[train],
    enc__property_errors=errors.iloc[train],
)
predicted = model.predict(images[test])
print(f"balanced accuracy on unseen stamps: {balanced_accuracy_score(labels[test], predicted):.3f}")

# %%
# What the pretext has learned, what the pipeline confuses, and how the stamps look.
figure, (left, middle, right) = plt.subplots(1, 3, figsize=(13, 4), layout="constrained")

true, regressed = magnitudes["mag_i"].iloc[test], model["enc"].predict(images[test])["mag_i"]
left.scatter(true, regressed, s=8)
left.axline((20, 20), slope=1, color="black", linewidth=1)
left.set(xlabel="i magnitude", ylabel="i magnitude, predicted from the stamp")

ConfusionMatrixDisplay.from_predictions(
    labels[test], predicted, normalize="true", ax=middle, colorbar=False, cmap="Blues"
)

shown = [np.flatnonzero(labels == name)[:5] for name in survey.target_names]
rgb = to_rgb(images, bands=(3, 2, 1))  # i, r, g as red, green, blue
right.imshow(
    np.vstack([np.hstack(rgb[rows].transpose(0, 2, 3, 1)) for rows in shown]), origin="lower"
)
height = images.shape[2]
right.set_yticks([height * (i + 0.5) for i in range(len(shown))], survey.target_names)
right.set_xticks([])
plt.show()
