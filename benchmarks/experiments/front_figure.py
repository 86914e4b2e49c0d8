"""Draw the figure of the front page: how many labels the default classifier saves.

    python -m benchmarks.experiments.front_figure --out docs/images/label_saving.png

The scores are in ``benchmarks/results/front_figure.csv``, and were measured by
`benchmarks.experiments.label_efficiency`; the columns ``draws`` and ``subsets`` say on how many
draws of the test rows and subsets of the labels.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import pandas as pd

from skastro.plots.style import OKABE_ITO

SCORES = Path(__file__).parents[1] / "results" / "front_figure.csv"
TITLES = {"efigi": "EFIGI: four kinds of galaxies", "sdss": "SDSS: galaxies and point sources"}
OURS, SCRATCH = "skastro", "network from scratch, trained with care"
STYLES: dict[str, tuple[str, Any, str]] = {
    OURS: ("o", "-", OKABE_ITO[0]),
    "simulated teacher alone": ("s", (0, (5, 2)), OKABE_ITO[4]),
    "skastro without the teacher": ("^", (0, (1, 1)), OKABE_ITO[2]),
    "aperture photometry": ("D", (0, (3, 1, 1, 1)), OKABE_ITO[1]),
    SCRATCH: ("X", "-", "#000000"),
}


def draw_survey(axes: Any, table: pd.DataFrame) -> None:
    """Draw the curve of each method; the numbers of labels are equally far apart."""
    counts = sorted(table["n_labels"].unique())
    places = {count: place for place, count in enumerate(counts)}
    for name, (marker, line, colour) in STYLES.items():
        rows = table[table["method"] == name].sort_values("n_labels")
        is_ours = name == OURS
        axes.plot(
            rows["n_labels"].map(places), rows["score"], marker=marker, linestyle=line,
            color=colour, linewidth=2.8 if is_ours else 1.4, markersize=7 if is_ours else 5,
            label=name, zorder=3 if is_ours else 2,
        )  # fmt: skip
    axes.set_xticks(range(len(counts)), [f"{count:,}" for count in counts])
    axes.set_xlabel("labels")
    axes.set_title(TITLES[table["survey"].iloc[0]], loc="left", fontsize=10)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", alpha=0.25)


def main() -> None:
    """Draw both surveys side by side."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("docs/images/label_saving.png"))
    options = parser.parse_args()
    plt.rcParams.update({"font.size": 10})
    figure, both = plt.subplots(1, 2, figsize=(9.5, 4.2), sharey=True, layout="constrained")
    scores = pd.read_csv(SCORES)
    for axes, survey in zip(both, TITLES, strict=True):
        draw_survey(axes, scores[scores["survey"] == survey])
    both[0].set_ylabel("balanced accuracy")
    handles, names = both[0].get_legend_handles_labels()
    figure.legend(handles, names, loc="outside lower center", ncols=3, frameon=False)
    figure.savefig(options.out, dpi=150)


if __name__ == "__main__":
    main()
