"""
Clusters without a label
========================

A frozen encoder in front of UMAP and HDBSCAN finds groups in an unlabelled survey. The classes are
used only at the end, to check the groups.
"""

# %%
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from sklearn.frozen import FrozenEstimator
from sklearn.pipeline import make_pipeline

from skastro import (
    ClusterDisplay,
    EmbeddingClusterer,
    PropertyPretrainedEncoder,
    make_survey,
    select_columns,
)

survey = make_survey(600, random_state=0)
magnitudes = select_columns(survey.catalog, "mag_*")
first, new = np.arange(450), np.arange(450, 600)

# %%
# The encoder is trained on the first objects, on their catalogue and on properties measured from
# the pixels. A frozen encoder keeps its weights when it is cloned or refitted as a part of another
# estimator.
encoder = PropertyPretrainedEncoder("stamp_resnet10", max_epochs=20, random_state=0)
encoder.fit(survey.images[first], properties=magnitudes.iloc[first])
clusterer = EmbeddingClusterer(min_cluster_size=15, min_samples=5, random_state=0)
model = make_pipeline(FrozenEstimator(encoder), clusterer)

# %%
# Stamps of objects fainter than about 21.7 show little but noise, and faint objects of all kinds
# look alike. Few objects are left, so smaller clusters than by default are allowed.
bright = (magnitudes["mag_i"] < 21.7).to_numpy()
first, new = first[bright[first]], new[bright[new]]
model.fit(survey.images[first])

# %%
# Which objects are in the clusters? Sizes and medians need no label. The classes, which have not
# been used so far, show how pure the clusters are. Stability shows which of them would reappear in
# another sample.
columns = survey.catalog[["mag_i", "size"]].assign(g_i=magnitudes["mag_g"] - magnitudes["mag_i"])
summary = clusterer.cluster_summary(columns.iloc[first], survey.target[first])
summary["stability"] = clusterer.stability(random_state=0)
print(summary.round(2).to_string())

# %%
# New objects are assigned to the existing clusters; -1 is noise.
clusters = model.predict(survey.images[new])
print(pd.crosstab(survey.target[new], clusters, rownames=["class"], colnames=["cluster"]))

# %%
# A row for each cluster, with the most typical objects first: look at them before you name the
# clusters.
ClusterDisplay.from_predictions(
    clusterer.labels_,
    survey.images[first],
    probabilities=clusterer.probabilities_,
    exemplars=clusterer.exemplar_indices_,
    y=survey.target[first],
    n_stamps=12,
)
plt.show()
