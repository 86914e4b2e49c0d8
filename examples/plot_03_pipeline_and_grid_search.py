"""
A pipeline, and a search over it
================================

The encoder is an ordinary transformer. It works in a pipeline, scikit-learn routes the catalogue's
properties to it in cross-validation, and a grid search tunes both parts of the pipeline.
"""

# %%
import tempfile

import matplotlib.pyplot as plt
import numpy as np
import sklearn
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import balanced_accuracy_score
from sklearn.model_selection import GridSearchCV, train_test_split
from sklearn.pipeline import Pipeline

from skastro import ConfusionDisplay, PropertyPretrainedEncoder, make_survey, select_columns

survey = make_survey(600, random_state=0)
images, labels = survey.images, survey.target
magnitudes = select_columns(survey.catalog, "mag_*")
errors = select_columns(survey.catalog, "err_*")
train, test = train_test_split(np.arange(600), test_size=0.3, stratify=labels, random_state=0)

# %%
# Pretraining costs more than the classifier after it. With ``memory`` it is done once for each fold
# and setting of the encoder, and shared by all classifiers.
cache = tempfile.TemporaryDirectory()
encoder = PropertyPretrainedEncoder("stamp_resnet10", average_views=False, random_state=0)
model = Pipeline(
    [
        ("enc", encoder),
        ("clf", LogisticRegression(class_weight="balanced", max_iter=2000)),
    ],
    memory=cache.name,
)
grid = {"enc__max_epochs": [0, 4, 16], "clf__C": [0.001, 0.01, 0.1, 1.0]}

# %%
# The encoder requests its properties itself: with metadata routing, pass them to ``fit`` of the
# search, and each fold gets its own rows.
search = GridSearchCV(model, grid, cv=2, scoring="balanced_accuracy", error_score="raise")
with sklearn.config_context(enable_metadata_routing=True):
    search.fit(
        images[train],
        labels[train],
        properties=magnitudes.iloc[train],
        property_errors=errors.iloc[train],
    )
best = search.best_estimator_
predicted = best.predict(images[test])
print(f"best: {search.best_params_}")
print(f"cross-validated: {search.best_score_:.3f}")
print(f"on unseen stamps: {balanced_accuracy_score(labels[test], predicted):.3f}")

# %%
# 0 epochs give the untrained network, as a reference; 4 epochs are about sixteen batches here,
# which is not enough. On the right, the confusions of the best pipeline, with stamps of each kind.
epochs, strengths = grid["enc__max_epochs"], grid["clf__C"]
where = dict(
    zip(map(str, search.cv_results_["params"]), search.cv_results_["mean_test_score"], strict=True)
)
scores = np.array(
    [[where[str({"clf__C": C, "enc__max_epochs": n})] for n in epochs] for C in strengths]
)

figure, (left, right) = plt.subplots(
    1, 2, figsize=(12, 5.6), width_ratios=(0.75, 1), layout="constrained"
)
picture = left.imshow(scores, cmap="cividis", origin="lower", aspect="auto")
for (row, column), score in np.ndenumerate(scores):
    dark = score < scores.mean()
    left.text(
        column, row, f"{score:.3f}", ha="center", va="center", color="white" if dark else "black"
    )
left.set_xticks(range(len(epochs)), epochs)
left.set_yticks(range(len(strengths)), strengths)
left.set(
    xlabel="epochs of pretraining",
    ylabel="C of the logistic regression",
    title="balanced accuracy, cross-validated",
)
ConfusionDisplay.from_predictions(labels[test], predicted, images=images[test], ax=right)
plt.show()

# %%
cache.cleanup()
