"""Pictures of what a representation knows.

A small network is pretrained on the magnitudes of a simulated survey. Each display then answers
one question about it, on objects that it has not seen. Runs in about a minute.
"""

# %%
# Pretrain, and classify unseen objects by logistic regression on the representation.
import matplotlib.pyplot as plt
import numpy as np
from sklearn.cluster import KMeans
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split

from skastro import (
    ClusterDisplay,
    ConfusionDisplay,
    MagnitudeDisplay,
    ProjectionDisplay,
    PropertyDisplay,
    PropertyPretrainedEncoder,
    ReliabilityDisplay,
    make_survey,
)

survey = make_survey(600, random_state=0, n_jobs=2)
names = survey.target
magnitudes, errors = survey.catalog.filter(like="mag_"), survey.catalog.filter(like="err_")
train, test = train_test_split(np.arange(600), test_size=0.5, stratify=names, random_state=0)

encoder = PropertyPretrainedEncoder("stamp_resnet10", random_state=0)
encoder.fit(
    survey.images[train], properties=magnitudes.iloc[train], property_errors=errors.iloc[train]
)
E = encoder.transform(survey.images)
probe = LogisticRegression(class_weight="balanced", C=0.1, max_iter=2000)
probe.fit(E[train], names[train])

# %%
# How well are magnitudes read off the stamps, and how well are the classes told apart?
figure, axes = plt.subplots(1, 2, figsize=(11, 5.5), layout="constrained")
PropertyDisplay.from_estimator(
    encoder, survey.images[test], magnitudes.iloc[test], name="mag_i", unit="mag",
    property_errors=errors.iloc[test], ax=axes[0],
)  # fmt: skip
ConfusionDisplay.from_estimator(probe, E[test], names[test], images=survey.images[test], ax=axes[1])

# %%
# Down to which magnitude, and are the probabilities true?
figure, axes = plt.subplots(1, 2, figsize=(11, 4.4), layout="constrained")
MagnitudeDisplay.from_predictions(
    names[test],
    probe.predict(E[test]),
    magnitudes["mag_i"].iloc[test],
    bins=5,
    name="i",
    ax=axes[0],
)
ReliabilityDisplay.from_estimator(probe, E[test], names[test], n_bins=6, ax=axes[1])

# %%
# Which objects lie together? PCA takes no time; ``method="tsne"`` shows neighbourhoods better.
ProjectionDisplay.from_embedding(
    E, method="pca", random_state=0, color=names, name="class", images=survey.images
)
clusters = KMeans(6, random_state=0).fit_predict(E)
ClusterDisplay.from_predictions(clusters, survey.images, y=names)
plt.show()
