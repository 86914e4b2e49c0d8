"""
ImageNet weights, or properties?
================================

A network trained on a million photographs also gives useful features of stamps, although it has
never seen the sky. It is compared with a small network trained on the magnitudes of a few hundred
objects. Needs ``pip install 'skastro[imagenet,projection]'``; nothing is downloaded when it runs.
"""

# %%
import time

import matplotlib.pyplot as plt
import numpy as np
from sklearn.model_selection import train_test_split

from skastro import (
    EmbeddingClusterer,
    ProjectionDisplay,
    PropertyPretrainedEncoder,
    compare_representations,
    make_survey,
    select_columns,
    to_rgb,
)

survey = make_survey(600, random_state=0)
magnitudes = select_columns(survey.catalog, "mag_*")
train, test = train_test_split(
    np.arange(600), test_size=0.5, stratify=survey.target, random_state=0
)

# %%
# Photographs have three bands of 8 bits, so colour pictures are made of the stamps first. With 0
# epochs, the weights stay those of ImageNet. Stamps of 32 pixels are enlarged bicubically. To save
# time, neither network averages over the eight orientations of a stamp. The comparison is not quite
# fair: photographs are large, and the pictures show three bands of our six.
inputs = {
    "ImageNet": (
        PropertyPretrainedEncoder(
            "tf_efficientnet_lite0",
            weights="imagenet",
            max_epochs=0,
            average_views=False,
            random_state=0,
        ),
        to_rgb(survey.images, bands="irg", color_smoothing=0),
    ),
    "properties": (
        PropertyPretrainedEncoder(
            "stamp_resnet10", max_epochs=30, average_views=False, random_state=0
        ),
        survey.images,
    ),
}
embeddings = {}
for name, (encoder, images) in inputs.items():
    start = time.perf_counter()
    encoder.fit(images[train], properties=magnitudes.iloc[train])
    embeddings[name] = encoder.transform(images[test])
    size = sum(weights.numel() for weights in encoder.network_.backbone.parameters()) / 1e6
    print(
        f"{name}: {size:.1f} million weights, {embeddings[name].shape[1]} columns, "
        f"{time.perf_counter() - start:.0f} s"
    )

# %%
# Both must be better than raw pixels. All are scored on objects that no network was trained on; the
# classes are used only for the scores.
pixels = survey.images[test].reshape(len(test), -1)
embeddings["pixels"] = np.arcsinh((pixels - pixels.mean(0)) / pixels.std(0))
table = compare_representations(
    embeddings, survey.target[test], clusterer=EmbeddingClusterer(reduce="pca", random_state=0)
)
print(table[["knn_accuracy", "probe_accuracy", "silhouette", "kmeans_ari"]].round(3).to_string())

# %%
# Three maps of the same objects, by t-SNE.
figure = plt.figure(figsize=(13, 4.6), layout="constrained")
ProjectionDisplay.from_embeddings(
    embeddings, survey.target[test], n_columns=3, figure=figure, name="class", random_state=0
)
plt.show()
