"""Clusters without a label.

A frozen encoder in front of UMAP and HDBSCAN: groups in a survey that nobody has labelled. The
classes are looked at in the end only. Runs in under a minute.
"""

# %%
import numpy as np
import pandas as pd
from sklearn.frozen import FrozenEstimator
from sklearn.pipeline import make_pipeline

from skastro import EmbeddingClusterer, PropertyPretrainedEncoder, make_survey

survey = make_survey(600, random_state=0, n_jobs=2)
magnitudes = survey.catalog.filter(like="mag_")
known, new = np.arange(450), np.arange(450, 600)

# %%
# The known objects train the encoder, on their catalogue and on what the pixels tell. Frozen, it
# can be cloned and refitted as a part of anything without losing its weights.
encoder = PropertyPretrainedEncoder("stamp_resnet10", properties="catalog+measured", random_state=0)
encoder.fit(survey.images[known], properties=magnitudes.iloc[known])
model = make_pipeline(FrozenEstimator(encoder), EmbeddingClusterer(random_state=0))

# %%
# Fainter than about 21 a stamp shows little but noise, and faint objects of all kinds merge.
bright = (magnitudes["mag_i"] < 21).to_numpy()
known, new = known[bright[known]], new[bright[new]]
model.fit(survey.images[known])
clusterer = model[-1]

# %%
# What are they? Sizes and medians need no label; the classes, which nothing has seen so far, tell
# how pure the clusters are. Stability says which of them another sample would show again.
summary = clusterer.cluster_summary(magnitudes[["mag_r"]].iloc[known], survey.target[known])
summary["stability"] = clusterer.stability(random_state=0)
print(summary.round(2).to_string(), "\n")

# %%
# The most typical object of each cluster, by its row: a picture to look at first.
print("typical:", {c: int(known[rows[0]]) for c, rows in enumerate(clusterer.exemplar_indices_)})

# %%
# Objects that came later are placed among the clusters there are; -1 is noise.
found = model.predict(survey.images[new])
print(pd.crosstab(survey.target[new], found, rownames=["class"], colnames=["cluster"]))
