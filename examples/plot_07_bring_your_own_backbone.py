"""
Bring your own backbone
=======================

The network is a parameter: a name of skastro or timm, a function from the number of bands to a
module, or a module. Its output may be a vector, a feature map or tokens.
"""

# %%
import time
from itertools import pairwise

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from sklearn.model_selection import train_test_split
from torch import nn

from skastro import (
    LinearProbe,
    ProjectionDisplay,
    PropertyPretrainedEncoder,
    make_survey,
    select_columns,
)

survey = make_survey(600, random_state=0)
magnitudes = select_columns(survey.catalog, "mag_*")
train, test = train_test_split(
    np.arange(600), test_size=0.5, stratify=survey.target, random_state=0
)


# %%
# The function is called when the number of bands is known. Its module receives scaled pixels, with
# NaN replaced by the sky. Its feature map is pooled, and a head that predicts the properties is
# added.
def three_layers(n_bands: int) -> nn.Module:
    """Return a network of three convolutions."""
    widths = (n_bands, 24, 48, 96)
    layers = []
    for before, after in pairwise(widths):
        layers += [
            nn.Conv2d(before, after, 3, stride=2, padding=1, bias=False),
            nn.BatchNorm2d(after),
            nn.ReLU(),
        ]
    return nn.Sequential(*layers)


# %%
# A module is copied with its weights. Any timm model that can process such stamps can be named.
backbones = {
    "a module": nn.Sequential(nn.AvgPool2d(4), nn.Flatten(), nn.Linear(6 * 64, 128), nn.ReLU()),
    "a callable": three_layers,
    "timm: resnet10t": "resnet10t",
    "stamp_resnet10": "stamp_resnet10",
}
rows, embeddings = {}, {}
for name, backbone in backbones.items():
    start = time.perf_counter()
    encoder = PropertyPretrainedEncoder(
        backbone, max_epochs=12, average_views=False, random_state=0
    )
    encoder.fit(survey.images[train], properties=magnitudes.iloc[train])
    embeddings[name] = encoder.transform(survey.images[test])
    probe = LinearProbe(random_state=0).fit(
        encoder.transform(survey.images[train]), survey.target[train]
    )
    rows[name] = {
        "weights": sum(each.numel() for each in encoder.network_.backbone.parameters()),
        "columns": embeddings[name].shape[1],
        "seconds": time.perf_counter() - start,
        "R2": encoder.score(survey.images[test], properties=magnitudes.iloc[test]),
        "accuracy": probe.score(embeddings[name], survey.target[test]),
    }
table = pd.DataFrame(rows).T
print(table.round({"seconds": 1, "R2": 3, "accuracy": 3}).to_string())

# %%
# The embeddings of the same unseen objects by each network, in their first two principal components
# and coloured by magnitude: all networks first learn how bright an object is.
figure = plt.figure(figsize=(10, 8), layout="constrained")
displays = ProjectionDisplay.from_embeddings(
    embeddings,
    magnitudes["mag_i"].iloc[test],
    method="pca",
    figure=figure,
    name="i magnitude",
    unit="mag",
)
for name, display in displays.items():
    display.ax_.set_title(f"{name}: $R^2$ = {table.loc[name, 'R2']:.2f}", loc="left")
plt.show()
