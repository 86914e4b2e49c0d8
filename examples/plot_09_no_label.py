"""
Morphology without a label
==========================

The weights of ``load_pretrained("galaxies")`` have learned from simulated galaxies whose structure
is known. They describe stamps of any bands and size, and name the kind of a galaxy, before anybody
has labelled one.
"""

# %%
# New simulated galaxies stand for real ones here, because no survey can be downloaded in an
# example. They have seeing, noise, neighbours, satellite trails and missing edges.
import matplotlib.pyplot as plt
import numpy as np

from skastro import load_pretrained, make_galaxies

galaxies = make_galaxies(600, pictures=True, random_state=42)
print(galaxies.images.shape, galaxies.images.dtype)

columns = 10
sheet = np.vstack(
    [
        np.hstack(galaxies.images[galaxies.target == kind][:columns].transpose(0, 2, 3, 1))
        for kind in galaxies.target_names
    ]
)
figure, axes = plt.subplots(figsize=(9, 4.5), layout="constrained")
axes.imshow(sheet)
axes.set_xticks([])
axes.set_yticks(64 * np.arange(5) + 32, galaxies.target_names)

# %%
# Two lines answer with properties in their units, and with the probability of each kind.
teacher = load_pretrained("galaxies")
morphology = teacher.predict(galaxies.images)

kinds = list(galaxies.target_names)
print(morphology[["bulge_fraction", "inclination", *kinds]].head().round(2))
named = np.array(kinds)[morphology[kinds].to_numpy().argmax(axis=1)]
print(f"{np.mean(named == galaxies.target):.0%} of the kinds are right")

# %%
# What is easy and what is hard to see: predictions against the truth of the simulation.
shown = ["inclination", "bulge_fraction", "arm_strength", "dust", "bar_length", "clumpiness"]
figure, panels = plt.subplots(2, 3, figsize=(9, 6), layout="constrained")
for name, axes in zip(shown, panels.flat, strict=True):
    axes.plot(galaxies.truth[name], morphology[name], ".", color="C0", alpha=0.4)
    known = galaxies.truth[name].notna()
    correlation = galaxies.truth[name][known].corr(morphology[name][known], method="spearman")
    unit = galaxies.truth.attrs["units"].get(name, "")
    axes.set_title(f"{name.replace('_', ' ')} {unit and f'({unit})'}: rank corr. {correlation:.2f}")
    axes.set_xlabel("simulated")
    axes.set_ylabel("predicted")

# %%
# The teacher also says how sure it is: the larger its uncertainty, the larger its error.
morphology, spread = teacher.predict(galaxies.images, return_std=True)
error = (morphology["inclination"] - galaxies.truth["inclination"]).abs()
sure = spread["inclination"] < spread["inclination"].median()
print(f"median error: {error[sure].median():.0f} deg where sure, {error[~sure].median():.0f} else")
plt.show()
