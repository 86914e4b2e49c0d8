"""Clusters without a label.

A frozen encoder in front of PCA and HDBSCAN: groups in a survey that nobody has labelled. The
classes are looked at in the end only. Runs in under a minute.
"""

# %%
import numpy as np
import pandas as pd
from hdbscan import HDBSCAN, approximate_predict
from sklearn.decomposition import PCA
from sklearn.frozen import FrozenEstimator
from sklearn.metrics import adjusted_rand_score
from sklearn.pipeline import make_pipeline

from skastro import PropertyPretrainedEncoder, make_survey

survey = make_survey(600, random_state=0, n_jobs=2)
magnitudes = survey.catalog.filter(like="mag_")
known, new = np.arange(450), np.arange(450, 600)

# %%
# The known objects train the encoder, on their catalogue and on what the pixels tell. Frozen, it
# can be cloned and refitted as a part of anything without losing its weights.
encoder = PropertyPretrainedEncoder("stamp_resnet10", properties="catalog+measured", random_state=0)
encoder.fit(survey.images[known], properties=magnitudes.iloc[known])
reduced = make_pipeline(FrozenEstimator(encoder), PCA(2, random_state=0))

# %%
# Fainter than about 21 a stamp shows little but noise, and faint objects of all kinds merge.
bright = (magnitudes["mag_i"] < 21).to_numpy()
known, new = known[bright[known]], new[bright[new]]
clusterer = HDBSCAN(min_cluster_size=15, min_samples=5, prediction_data=True)
clusters = clusterer.fit_predict(reduced.fit_transform(survey.images[known]))

# %%
# Objects that came later are placed among the clusters there are; -1 is noise.
new_clusters, _ = approximate_predict(clusterer, reduced.transform(survey.images[new]))

# %%
# The classes, which nothing has seen so far. Galaxies stand apart; stars and quasars, points both,
# share a cluster in a survey as small as this.
for name, rows, found in (("known", known, clusters), ("new", new, new_clusters)):
    inside = found >= 0
    agreement = adjusted_rand_score(survey.target[rows][inside], found[inside])
    print(f"{name}: {inside.mean():.0%} of {len(rows)} in clusters, adjusted Rand {agreement:.2f}")
    print(pd.crosstab(survey.target[rows], found, rownames=["class"], colnames=["cluster"]), "\n")
