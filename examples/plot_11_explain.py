"""
Why this class?
===============

``explain`` tells why a classifier gives a galaxy its class: by which properties, where in the
stamp, and like which labelled examples.
"""

# %%
# A classifier learns from 120 simulated galaxies with a label. The weights of
# ``load_pretrained("galaxies")`` describe them.
import numpy as np
from sklearn.frozen import FrozenEstimator

from skastro import (
    ExplanationDisplay,
    SelfSupervisedClassifier,
    explain,
    load_pretrained,
    make_galaxies,
)

galaxies = make_galaxies(160, pictures=True, random_state=5)
truth = np.asarray(galaxies.target, dtype=str)
classifier = SelfSupervisedClassifier(
    FrozenEstimator(load_pretrained("galaxies")), strategy="probe", random_state=0
).fit(galaxies.images[:120], truth[:120])

# %%
# Three others are explained: each sentence has the class, its probability, and the properties that
# speak for it and against it, with what they add to the probability.
stamps = galaxies.images[120:123]
reasons = explain(classifier, stamps)
print(reasons)

# %%
# In the maps, covering a blue patch lowers the probability, and covering an orange one raises it.
ExplanationDisplay.from_explanation(reasons, stamps, ids=truth[120:123])

# %%
# All contributions of the first galaxy, which add up to its probability:
first = reasons.table[reasons.table["object"] == 0]
print(first[["property", "value", "typical", "contribution"]].round(2).to_string(index=False))

# %%
# And the labelled galaxies that are most like it:
print(reasons.nearest[reasons.nearest["object"] == 0].round(2).to_string(index=False))
