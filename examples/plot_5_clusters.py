"""
Clusters without a label
========================

A frozen encoder in front of UMAP and HDBSCAN: groups in a survey that nobody has labelled. The
classes are looked at in the end only.
"""

# %%
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from sklearn.frozen import FrozenEstimator
from sklearn.pipeline import make_pipeline

from skastro import ClusterDisplay, EmbeddingClusterer, PropertyPretrainedEncoder, make_survey

survey = make_survey(600, random_state=0)
magnitudes = survey.catalog.filter(like="mag_")
known, new = np.arange(450), np.arange(450, 600)

# %%
# The known objects train the encoder, on their catalogue and on what the pixels tell. Frozen, it
# can be cloned and refitted as a part of anything without losing its weights.
encoder = PropertyPretrainedEncoder(
    "stamp_resnet10", properties="catalog+measured", max_epochs=20, random_state=0
)
encoder.fit(survey.images[known], properties=magnitudes.iloc[known])
clusterer = EmbeddingClusterer(min_cluster_size=15, min_samples=5, random_state=0)
model = make_pipeline(FrozenEstimator(encoder), clusterer)

# %%
# Fainter than about 21.7 a stamp shows little but noise, and faint objects of all kinds merge. Of
# the few that are left, smaller clusters are allowed than by default.
bright = (magnitudes["mag_i"] < 21.7).to_numpy()
known, new = known[bright[known]], new[bright[new]]
model.fit(survey.images[known])

# %%
# What are they? Sizes and medians need no label; the classes, which nothing has seen so far, tell
# how pure the clusters are. Stability says which of them another sample would show again.
columns = survey.catalog[["mag_i", "size"]].assign(g_i=magnitudes["mag_g"] - magnitudes["mag_i"])
summary = clusterer.cluster_summary(columns.iloc[known], survey.target[known])
summary["stability"] = clusterer.stability(random_state=0)
print(summary.round(2).to_string())

# %%
# Objects that came later are placed among the clusters there are; -1 is noise.
found = model.predict(survey.images[new])
print(pd.crosstab(survey.target[new], found, rownames=["class"], colnames=["cluster"]))

# %%
# A row for each cluster, the most typical objects first: what to look at before naming them.
ClusterDisplay.from_predictions(
    clusterer.labels_,
    survey.images[known],
    probabilities=clusterer.probabilities_,
    exemplars=clusterer.exemplar_indices_,
    y=survey.target[known],
    n_stamps=12,
)
plt.show()
