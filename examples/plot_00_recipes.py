"""
Twenty recipes
==============

I have this, I want that: each recipe is a few lines that run, and what they show. The stamps are
simulated; put yours in their place.
"""

# %%
# I want to look at my stamps
# ---------------------------
# Stamps are arrays of the shape (n, bands, height, width), in any unit. ``to_rgb`` makes pictures.
from typing import Any

import matplotlib.pyplot as plt
import numpy as np

from skastro import load_pretrained, make_galaxies, make_survey, to_rgb

galaxies = make_galaxies(200, image_size=48, pictures=True, random_state=1)


def show(stamps: Any, titles: Any, bands: tuple[int, ...] = (0, 1, 2)) -> None:
    """Draw some stamps in a row, each with a title."""
    _, axes = plt.subplots(1, len(titles), figsize=(9, 2.4), layout="constrained")
    for ax, picture, title in zip(axes, to_rgb(stamps, bands=bands), titles, strict=True):
        ax.imshow(picture.transpose(1, 2, 0), origin="lower")
        ax.set_title(title, fontsize=9)
        ax.axis("off")


show(galaxies.images[:6], galaxies.target[:6])

# %%
# I have galaxies, and want their morphology
# ------------------------------------------
# No label, no training, no download.
teacher = load_pretrained("galaxies")
morphology = teacher.predict(galaxies.images)
titles = [
    f"{row.spiral:.0%} spiral\ninclination {row.inclination:.0f}°"
    for row in morphology.head(6).itertuples()
]
show(galaxies.images[:6], titles)

# %%
# I have galaxies, and want classes without a label
# -------------------------------------------------
from skastro import ConfusionDisplay, SelfSupervisedClassifier

kinds = ["elliptical", "lenticular", "spiral", "irregular"]
known = np.isin(galaxies.target, kinds)
images, truth = galaxies.images[known], np.asarray(galaxies.target, dtype=str)[known]
unlabelled = SelfSupervisedClassifier(classes=kinds).fit(images)
ConfusionDisplay.from_predictions(truth, unlabelled.predict(images))

# %%
# I have a folder of stamps with a catalogue
# ------------------------------------------
# ``load_folder`` joins files and rows by id, and reads pixels when they are needed.
import tempfile
from pathlib import Path

from skastro import load_folder, write_survey

survey = make_survey(400, bands="gri", random_state=0)
folder = Path(tempfile.mkdtemp()) / "survey"
write_survey(survey, folder)
survey = load_folder(folder, label="class")
print(survey)
show(np.asarray(survey.images[:6]), survey.target[:6], bands=(2, 1, 0))

# %%
# I want to know what is wrong with my data
# -----------------------------------------
from skastro import inspect_survey

print(inspect_survey(survey.images, survey.catalog, label="class"))

# %%
# I have a catalogue, and want a representation of my stamps
# ----------------------------------------------------------
# The network learns to predict the columns, and what can be measured from the pixels. Here it is
# small and the training short.
from skastro import PropertyDisplay, PropertyPretrainedEncoder, select_columns

stamps = np.asarray(survey.images)
magnitudes = select_columns(survey.catalog, "mag_*")
encoder = PropertyPretrainedEncoder("stamp_resnet10", max_epochs=6, random_state=0)
encoder.fit(stamps[:300], properties=magnitudes[:300])
PropertyDisplay.from_estimator(encoder, stamps[300:], magnitudes["mag_r"][300:], name="mag_r")

# %%
# I want to see what it has learned
# ---------------------------------
from skastro import ProjectionDisplay

embeddings = encoder.transform(stamps)
ProjectionDisplay.from_embedding(embeddings, method="pca", color=survey.target, name="class")

# %%
# I have sixty labels, and want a classifier
# ------------------------------------------
# The other rows have an empty label, and are used as well.
from sklearn.frozen import FrozenEstimator

labels = np.array(survey.target, dtype=object)
labels[60:] = ""
classifier = SelfSupervisedClassifier(FrozenEstimator(encoder), strategy="probe", random_state=0)
classifier.fit(stamps[:300], labels[:300])
ConfusionDisplay.from_estimator(classifier, stamps[300:], survey.target[300:])

# %%
# I want all classes that an object may have
# ------------------------------------------
# The true class is in the set for nine objects in ten.
sets = classifier.predict_set(stamps[300:306], coverage=0.9)
show(stamps[300:306], ["\n".join(classifier.classes_[row]) for row in sets], bands=(2, 1, 0))

# %%
# I want a pipeline of scikit-learn
# ---------------------------------
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import cross_val_predict
from sklearn.pipeline import Pipeline

pipeline = Pipeline([("enc", FrozenEstimator(encoder)), ("clf", LogisticRegression(max_iter=2000))])
predicted = cross_val_predict(pipeline, stamps[300:], survey.target[300:], cv=4)
ConfusionDisplay.from_predictions(survey.target[300:], predicted)

# %%
# I want to know whether "90 %" means 90 %
# ----------------------------------------
from skastro import ReliabilityDisplay

ReliabilityDisplay.from_predictions(
    survey.target[300:], classifier.predict_proba(stamps[300:]), classes=classifier.classes_
)

# %%
# I want to know where it fails
# -----------------------------
from skastro import MagnitudeDisplay

predicted = classifier.predict(stamps[300:])
MagnitudeDisplay.from_predictions(
    survey.target[300:], predicted, magnitudes["mag_i"][300:], bins=4, name="i"
)

# %%
# I want to know why
# ------------------
from skastro import ExplanationDisplay, explain

reasons = explain(classifier, stamps[300:302])
print(reasons)
ExplanationDisplay.from_explanation(reasons, stamps[300:302])

# %%
# I want more like this one
# -------------------------
from skastro import SimilarDisplay, find_similar

found = find_similar(teacher.transform(images), [0, 1], 6, properties=morphology[known])
SimilarDisplay.from_result(found, images)

# %%
# I want the groups in my survey
# ------------------------------
from skastro import ClusterDisplay, EmbeddingClusterer

clusterer = EmbeddingClusterer(random_state=0).fit(embeddings)
ClusterDisplay.from_estimator(clusterer, stamps)

# %%
# I want the strangest objects
# ----------------------------
from skastro import outlier_scores

scores = outlier_scores(embeddings)
strangest = np.argsort(scores)[::-1][:6]
show(stamps[strangest], [f"{scores[row]:.1f}" for row in strangest], bands=(2, 1, 0))

# %%
# I want to know which object to label next
# -----------------------------------------
# ``skastro label`` asks for the same ones on a page in the browser.
from skastro import suggest_labels

rows = suggest_labels(embeddings, labels, n=6, random_state=0)
show(stamps[rows], [f"row {row}" for row in rows], bands=(2, 1, 0))

# %%
# I want to find wrong labels
# ---------------------------
from skastro import audit_labels

wrong = np.asarray(survey.target, dtype=str)[:300]
wrong[[3, 50, 120]] = ["quasar", "star", "galaxy"]
doubtful = audit_labels(embeddings[:300], wrong)
print(doubtful.head().round(2))

# %%
# I want to know what more labels would give
# ------------------------------------------
from skastro import LabelForecastDisplay, forecast_labels

forecast = forecast_labels(embeddings, labels, label_counts=[60, 120, 300])
LabelForecastDisplay.from_result(forecast)

# %%
# I have some redshifts, and want the others
# ------------------------------------------
from skastro import SelfSupervisedRegressor

redshift = survey.catalog["redshift"].to_numpy(dtype=float).copy()
redshift[150:] = np.nan
regressor = SelfSupervisedRegressor(FrozenEstimator(encoder), random_state=0)
regressor.fit(stamps[:300], redshift[:300])
values, std = regressor.predict(stamps[300:306], return_std=True)
titles = [f"z = {z:.2f} ± {s:.2f}" for z, s in zip(values, std, strict=True)]
show(stamps[300:306], titles, bands=(2, 1, 0))

# %%
# I have stamps of another instrument
# -----------------------------------
# Does the encoder know such stamps? Here they are ten times as bright as those of its training.
from skastro import check_encoder

print(check_encoder(encoder, 10 * stamps[300:]))
