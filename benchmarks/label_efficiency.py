"""Label efficiency on several draws of the test rows, with every row of a study.

    python benchmarks/label_efficiency.py sdss --seeds 0,1,2,3,4 --repeats 10 --no-networks
    python benchmarks/label_efficiency.py efigi --seeds 0 --repeats 3 --auto --out efigi.json
    python benchmarks/label_efficiency.py survey --objects 20000

Each seed is a whole study: other test rows (30 %), other label subsets, another pretraining that
never sees the test rows. Subsets of one draw share its test rows and are not independent:
intervals are over the means of the draws where there are several. Prints Markdown; --out writes
JSON, too.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import pandas as pd
from _stamps import find_folder

from skastro.evaluation import LabelEfficiencyCurve, label_saving
from skastro.report import METHOD, METRIC_NAMES, score_table
from skastro.study import FULL, run_study
from skastro.study_data import StudyData, load_data

_EFIGI = ("redshift", "log_d25_01arcmin", "log_r25", "B_T_mag", "B_V_T")
TASKS = {
    "sdss": ("sdss", {"label": "class", "properties": ["mag_*"], "errors": ["err_*"]}),
    "sdss-phot": ("sdss", {"label": "phot_type", "properties": ["mag_*"], "errors": ["err_*"]}),
    "efigi": (
        "efigi",
        {
            "label": "class",
            "properties": _EFIGI,
            "classes": ["elliptical", "lenticular", "spiral", "irregular"],
        },
    ),
    "efigi-2": (
        "efigi",
        {"label": "class", "properties": _EFIGI, "classes": ["elliptical", "spiral"]},
    ),
    "survey": (None, {}),
}


def load(task: str, objects: int) -> StudyData:
    """Read the stamps of a task, or simulate them."""
    folder, columns = TASKS[task]
    if folder is None:
        return load_data(n_objects=objects)
    return load_data(find_folder(folder), **columns)


def study(data: StudyData, seed: int, options: argparse.Namespace) -> tuple[pd.DataFrame, float]:
    """Return the scores of one draw, and the seconds it took."""
    networks = not options.no_networks
    plan = replace(
        FULL,
        label_counts=options.counts,
        n_repeats=options.repeats,
        finetune=networks,
        scratch=networks,
        auto=options.auto,
        side_by_side=False,
    )
    start = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        found = run_study(
            data, Path(folder) / "study", plan=plan, random_state=seed, say=lambda _: None
        )
    return found.curve.scores.assign(split=seed), time.perf_counter() - start


def tabulate(curve: LabelEfficiencyCurve, metric: str) -> str:
    """Return a Markdown table: mean ± half-width of the 95 % interval."""
    lines = [
        "| " + METRIC_NAMES[metric] + " | " + " | ".join(map(str, curve.label_counts)) + " |",
        "| --- " * (len(curve.label_counts) + 1) + "|",
    ]
    for row in score_table(curve, metric):
        cells = [f"**{c['text']}**" if c["best"] else c["text"] for c in row["cells"]]
        lines.append(f"| {row['name']} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def savings(curve: LabelEfficiencyCurve) -> pd.DataFrame | None:
    """Return how many times fewer labels ours needs than the network from scratch."""
    if "scratch" not in curve.estimators or len(curve.label_counts) < 2:
        return None
    return label_saving(curve, METHOD, "scratch")


def main() -> None:
    """Study each draw, then print tables and write JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("task", choices=list(TASKS))
    numbers = lambda text: tuple(int(part) for part in text.split(","))  # noqa: E731
    parser.add_argument("--seeds", type=numbers, default="0,1,2,3,4")
    parser.add_argument("--counts", type=numbers, default="30,100,300,1000")
    parser.add_argument("--repeats", type=int, default=10)
    parser.add_argument("--objects", type=int, default=6000, help="of the simulated survey")
    parser.add_argument("--no-networks", action="store_true", help="no scratch, no fine-tuning")
    parser.add_argument("--auto", action="store_true", help="a row for strategy auto, too")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()

    data = load(options.task, options.objects)
    parts, seconds = [], []
    for seed in options.seeds:
        scores, took = study(data, seed, options)
        parts.append(scores)
        seconds.append(round(took))
        print(f"seed {seed}: {took:.0f} s", file=sys.stderr, flush=True)
        curve = LabelEfficiencyCurve.from_scores(pd.concat(parts))
        if options.out:  # after each draw: the draws take long
            options.out.write_text(
                json.dumps(
                    {
                        "task": options.task,
                        "seconds": seconds,
                        "threads": os.environ.get("OMP_NUM_THREADS"),
                        "scores": curve.scores.to_dict("list"),
                    }
                )
            )
    for metric in curve.metrics:
        print(tabulate(curve, metric), end="\n\n")
    if (saved := savings(curve)) is not None:
        print(saved.round(2).to_string(index=False))


if __name__ == "__main__":
    main()
