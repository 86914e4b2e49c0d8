"""Draw the picture of the front page: real galaxies in, morphology, classes and a map out.

    python -m benchmarks.front_picture --out docs/images/front.jpg

The galaxies are those of EFIGI (Baillard et al. 2011; images of SDSS). Nothing was trained on them,
and none has a label here: the weights of `load_pretrained` have learned from simulated galaxies.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.patches import Rectangle
from numpy.typing import NDArray

from benchmarks._stamps import load_task
from skastro import load_pretrained, project_embedding, to_rgb
from skastro.plots.style import OKABE_ITO
from skastro.stamps.rgb import display_bands

KINDS = ("elliptical", "lenticular", "spiral", "irregular")
N_EXAMPLES = 6
N_ACROSS = 26  # cells of the map
SEED = 0


def choose_examples(table: pd.DataFrame) -> list[int]:
    """Return galaxies that the teacher is sure of: some of each kind, open and inclined spirals."""
    face_on = table["inclination"] < 40
    scores = [
        table["elliptical"],
        table["lenticular"] * (table["inclination"] > 60),
        table["spiral"] * face_on * table["arm_strength"],
        table["spiral"] * face_on * (table["bar"] / table["bar"].max()),
        table["spiral"] * (table["inclination"] / 90),
        table["irregular"],
    ]
    return [int(np.argmax(score.to_numpy())) for score in scores]


def describe(row: pd.Series) -> str:
    """Return what the teacher says of a galaxy, in three short lines."""
    kind = max(KINDS, key=lambda name: row[name])
    lines = [f"{kind} {row[kind]:.2f}", f"inclination {row['inclination']:.0f}°"]
    if kind == "spiral" and row["inclination"] < 70:
        lines.append(f"arm strength {row['arm_strength']:.2f}")
    else:
        lines.append(f"bulge {100 * row['bulge_fraction']:.0f} % of the light")
    return "\n".join(lines)


def draw_map(axes: Any, where: NDArray, pictures: NDArray, kinds: NDArray) -> None:
    """Draw a stamp in each cell of a grid over the map, with a frame in the colour of its kind."""
    low, high = np.percentile(where, [0.5, 99.5], axis=0)
    cells = np.floor((where - low) / (high - low) * N_ACROSS).astype(int)
    drawn = set()
    for row in np.random.default_rng(SEED).permutation(len(where)):
        cell = tuple(cells[row])
        if cell in drawn or min(cell) < 0 or max(cell) >= N_ACROSS:
            continue
        drawn.add(cell)
        x, y = cell
        colour = OKABE_ITO[list(KINDS).index(kinds[row])]
        axes.add_patch(Rectangle((x + 0.03, y + 0.03), 0.94, 0.94, facecolor=colour))
        extent = (x + 0.1, x + 0.9, y + 0.1, y + 0.9)
        axes.imshow(pictures[row].transpose(1, 2, 0), extent=extent, zorder=2)
    axes.set(xlim=(0, N_ACROSS), ylim=(0, N_ACROSS), aspect="equal")
    axes.axis("off")
    for number, kind in enumerate(KINDS):
        axes.plot([], [], "s", color=OKABE_ITO[number], label=kind)
    axes.legend(
        loc="upper center", bbox_to_anchor=(0.5, 0.0), ncols=4, frameon=False, handletextpad=0.1,
        columnspacing=1.0,
    )  # fmt: skip


def main() -> None:
    """Describe all galaxies, and draw six of them beside the map of all."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("docs/images/front.jpg"))
    options = parser.parse_args()
    task = load_task("efigi")
    teacher = load_pretrained("galaxies")
    embeddings = teacher.transform(task.images)
    table = teacher.predict_embedded(embeddings)
    kinds = table[list(KINDS)].idxmax(axis=1).to_numpy()
    where = project_embedding(embeddings, method="tsne", random_state=SEED).coordinates
    pictures = to_rgb(task.images, bands=display_bands(task.images))

    plt.rcParams.update({"font.size": 9})
    figure = plt.figure(figsize=(10.0, 5.2), layout="constrained")
    left, right = figure.subfigures(1, 2, width_ratios=[1.0, 1.08])
    for axes, row in zip(left.subplots(2, 3).flat, choose_examples(table), strict=True):
        axes.imshow(pictures[row].transpose(1, 2, 0))
        axes.axis("off")
        axes.set_title(describe(table.iloc[row]), loc="left", fontsize=8.5, linespacing=1.25)
    left.suptitle("What it says of a galaxy, without any label", x=0.02, ha="left", weight="bold")
    draw_map(right.subplots(), where, pictures, kinds)
    right.suptitle(f"Its map of {len(where):,} galaxies", x=0.02, ha="left", weight="bold")
    figure.savefig(options.out, dpi=150, pil_kwargs={"quality": 86})


if __name__ == "__main__":
    main()
