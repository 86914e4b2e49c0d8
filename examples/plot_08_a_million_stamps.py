"""
A million stamps
================

Stamps need not fit into memory. They stay in a file, an encoder is fitted on a sample, and
embeddings are written piece by piece into another file. Only a part is embedded here, and its rate
shows how long a million stamps would take.
"""

# %%
# A file of a million stamps in three bands, 12 GB. It is sparse: on most disks, parts that were
# never written take no space. The first 1,500 rows are simulated objects, the others are empty.
import tempfile
import time
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from sklearn.neighbors import NearestNeighbors

from skastro import PropertyPretrainedEncoder, make_survey, open_stamps, select_columns, to_rgb

n_stamps, n_filled = 1_000_000, 1500
survey = make_survey(n_filled, bands="gri", random_state=0)
scratch = tempfile.TemporaryDirectory()
path = Path(scratch.name, "stamps.npy")
file = np.lib.format.open_memmap(path, "w+", np.float32, (n_stamps, *survey.images.shape[1:]))
file[:n_filled] = survey.images
file.flush()
del file

# %%
# Opening reads no pixels. Rows are read when they are needed.
stamps = open_stamps(path, bands="gri")
print(f"{stamps}, {path.stat().st_size / 1e9:.1f} GB")

# %%
# A sample is enough for the training: the pretraining uses each stamp only a few times.
sample = np.sort(np.random.default_rng(0).choice(n_filled, 500, replace=False))
properties = select_columns(survey.catalog, "mag_*").iloc[sample]
encoder = PropertyPretrainedEncoder(
    "stamp_resnet10", max_epochs=15, average_views=False, random_state=0
)
encoder.fit(stamps[sample], properties=properties)

# %%
# The embeddings go into a file as well, in half precision. Memory holds only one chunk, for any
# number of stamps. On all cores, or on many machines, :func:`skastro.embed_survey` does the same.
chunk = 500
out = np.lib.format.open_memmap(
    Path(scratch.name, "embeddings.npy"), "w+", np.float16, (n_stamps, 256)
)
done, seconds, start = [], [], time.perf_counter()
for first in range(0, n_filled, chunk):
    rows = slice(first, first + chunk)
    out[rows] = encoder.transform(stamps[rows])
    done.append(rows.stop)
    seconds.append(time.perf_counter() - start)
rate = done[-1] / seconds[-1]
print(f"{done[-1]} stamps in {seconds[-1]:.1f} s, {rate:.0f} a second")
minutes = n_stamps / rate / 60
print(f"a million would take {minutes:.0f} min, or {4 * minutes:.0f} with four views of each")

# %%
# Embeddings find similar objects: the nearest objects in the part, for two of each class, at about
# magnitude 19.
magnitude = survey.catalog["mag_i"].to_numpy()
queries = []
for name in survey.target_names:
    members = np.flatnonzero(survey.target == name)
    queries += members[np.argsort(np.abs(magnitude[members] - 19))][:2].tolist()
embeddings = out[:n_filled].astype(np.float32)
neighbors = NearestNeighbors(n_neighbors=9).fit(embeddings).kneighbors(return_distance=False)
share = (survey.target[neighbors] == survey.target[:, None]).mean()
chance = np.square(np.unique(survey.target, return_counts=True)[1] / n_filled).sum()
print(f"{share:.0%} of the nearest nine have the same class; of nine at random {chance:.0%}")

# %%
# Time grows with the number of stamps, memory does not. The dashed lines are extrapolated, not
# measured, and a slow disk would add to them.
figure, (left, right) = plt.subplots(
    1, 2, figsize=(12, 5), width_ratios=(0.6, 1), layout="constrained"
)
counts = np.array([done[-1], n_stamps])
for views, color in ((1, "#0072B2"), (4, "#D55E00")):
    total = views * counts / rate / 60
    left.plot(counts, total, "--", color=color)
    left.annotate(
        f"{views} view{'s' * (views > 1)}:\n{total[-1]:.0f} min",
        (counts[-1], total[-1]),
        xytext=(6, 0),
        textcoords="offset points",
        va="center",
        color=color,
    )
left.plot(done, np.array(seconds) / 60, "o-", color="#0072B2")
left.annotate("measured", (done[-1], seconds[-1] / 60), xytext=(8, -12), textcoords="offset points")
left.set(xscale="log", yscale="log", xlabel="stamps", ylabel="minutes on this machine")
left.spines[["top", "right"]].set_visible(False)

shown = np.column_stack([queries, neighbors[queries]])
rgb = to_rgb(stamps[shown.ravel()], bands="irg").transpose(0, 2, 3, 1)
rgb = np.pad(rgb, ((0, 0), (1, 1), (1, 1), (0, 0)), constant_values=255)
lines = [np.hstack(line) for line in np.split(rgb, len(queries))]
side = rgb.shape[1]
right.imshow(np.vstack(lines))
right.axvline(side - 0.5, color="white", linewidth=8)
right.set_yticks([side * (i + 0.5) for i in range(len(queries))], survey.target[queries])
right.set_xticks([side * 0.5, side * 5.5], ["asked for", "its nine nearest in the embedding"])
right.xaxis.tick_top()
right.tick_params(length=0)
right.spines[:].set_visible(False)
plt.show()

# %%
del out
scratch.cleanup()
