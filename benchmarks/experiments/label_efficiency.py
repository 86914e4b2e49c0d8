r"""Label efficiency on several draws of the test rows, with every row of a study.

    python -m benchmarks.experiments.label_efficiency --auto --keep studies \
        --out label_efficiency.json
    python -m benchmarks.experiments.label_efficiency sdss --seeds 2,3,4 --repeats 10 --no-networks
    python -m benchmarks.experiments.label_efficiency survey --objects 20000

Without a task all are run. Each seed is a whole study: other test rows (30 %), other label
subsets, another pretraining that never sees the test rows. Subsets of one draw share its test rows
and are not independent: intervals are over the means of the draws where there are several. With
--keep the studies stay in a folder, and what is cut off goes on from there.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import matplotlib.figure
import pandas as pd

from benchmarks._results import write_results
from benchmarks._stamps import find_folder
from benchmarks.experiments.real_stamps import parse_counts
from skastro.evaluation.label_efficiency import METHOD, LabelEfficiencyCurve, metric_name
from skastro.evaluation.label_saving import label_saving
from skastro.pages.summary import score_table
from skastro.plots.label_efficiency import LabelEfficiencyDisplay
from skastro.study.data import StudyData, load_data
from skastro.study.run import FULL, Plan, run_study
from skastro.utils.files import replacing

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
DEFAULT = f"{METHOD}, auto"  # what `SelfSupervisedClassifier()` does
NOT_DRAWN = (f"{METHOD}, linear probe", f"{METHOD} + catalogue")


def load(task: str, objects: int) -> StudyData:
    """Read the stamps of a task, or simulate them."""
    folder, columns = TASKS[task]
    if folder is None:
        return load_data(n_objects=objects)
    return load_data(find_folder(folder), **columns)


def make_plan(options: argparse.Namespace) -> Plan:
    """Return what a study of each draw computes."""
    networks = not options.no_networks
    return replace(
        FULL,
        n_objects=options.objects,
        label_counts=tuple(options.counts),
        n_repeats=options.repeats,
        finetune=networks,
        scratch=networks,
        auto=options.auto,
        side_by_side=False,
    )


def study(data: StudyData, name: str, seed: int, options: argparse.Namespace) -> dict[str, Any]:
    """Return the scores of one draw and the seconds it took, now or in an earlier run."""
    plan = make_plan(options)
    asked = json.loads(json.dumps(asdict(plan)))
    note = options.keep / f"{name}-{seed}.json"
    if note.exists() and (kept := json.loads(note.read_text()))["plan"] == asked:
        return kept
    start = time.perf_counter()
    folder = note.with_suffix("")
    found = run_study(data, folder, plan=plan, random_state=seed, say=lambda _: None)
    seconds = time.perf_counter() - start
    print(f"{name}, seed {seed}: {seconds:.0f} s", file=sys.stderr, flush=True)
    scores = found.curve.scores.assign(split=seed).to_dict("list")
    result = {"plan": asked, "seconds": round(seconds), "scores": scores}
    with replacing(note) as temporary:
        temporary.write_text(json.dumps(result))
    return result


def tabulate(curve: LabelEfficiencyCurve, metric: str, *, best: bool = True) -> str:
    """Return a Markdown table: mean ± half-width of the 95 % interval."""
    lines = [
        "| " + metric_name(metric) + " | " + " | ".join(map(str, curve.label_counts)) + " |",
        "| --- " * (len(curve.label_counts) + 1) + "|",
    ]
    for row in score_table(curve, metric):
        cells = [f"**{c['text']}**" if best and c["best"] else c["text"] for c in row["cells"]]
        lines.append(f"| {row['name']} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def describe(name: str, curve: LabelEfficiencyCurve) -> str:
    """Return the tables of a task: scores, differences to ours, and labels saved."""
    ours = next(row for row in (DEFAULT, METHOD) if row in curve.estimators)
    first = curve.metrics[0]
    others = curve.difference_to(ours).scores.query("estimator != @ours")
    parts = [f"## {name}", *(tabulate(curve, metric) for metric in curve.metrics)]
    parts.append(f"The same minus {ours!r}, on the same runs:")
    parts.append(tabulate(LabelEfficiencyCurve.from_scores(others), first, best=False))
    if "scratch" in curve.estimators and len(curve.label_counts) > 1:
        saved = label_saving(curve, ours, "scratch").round(2)
        parts.append(f"```text\n{saved.to_string(index=False)}\n```")
    return "\n\n".join(parts)


def draw(curve: LabelEfficiencyCurve, path: Path) -> None:
    """Draw the scores of a task, ours first."""
    drawn = curve.scores[~curve.scores["estimator"].isin(NOT_DRAWN)]
    ours_first = drawn.sort_values("estimator", key=lambda names: names != DEFAULT, kind="stable")
    figure = matplotlib.figure.Figure(figsize=(8.0, 4.6), layout="constrained")
    LabelEfficiencyDisplay.from_result(
        LabelEfficiencyCurve.from_scores(ours_first), ax=figure.subplots()
    )
    figure.savefig(path, dpi=140)


def study_all(options: argparse.Namespace) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """Study draw after draw of task after task, and yield the draws of the task so far."""
    for name in options.tasks or TASKS:
        data, draws = load(name, options.objects), []
        for seed in options.seeds:
            draws.append(study(data, name, seed, options))
            yield name, draws


def main() -> None:
    """Study each draw of each task; print and write what there is after each."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    text = f"of {', '.join(TASKS)}; all, if none is named"
    parser.add_argument("tasks", nargs="*", metavar="task", help=text)
    parser.add_argument("--seeds", type=parse_counts, default="0,1,2,3,4")
    parser.add_argument("--counts", type=parse_counts, default="30,100,300,1000")
    parser.add_argument("--repeats", type=int, default=10)
    parser.add_argument("--objects", type=int, default=6000, help="of the simulated survey")
    parser.add_argument("--no-networks", action="store_true", help="no scratch, no fine-tuning")
    parser.add_argument("--auto", action="store_true", help="a row for strategy auto, too")
    parser.add_argument("--keep", type=Path, default=None, help="folder for the studies")
    text = "JSON; Markdown and figures go beside it"
    parser.add_argument("--out", type=Path, default=None, help=text)
    options = parser.parse_args()
    if unknown := [name for name in options.tasks if name not in TASKS]:
        parser.error(f"{unknown[0]!r} is no task of {', '.join(TASKS)}")

    result: dict[str, Any] = {"threads": os.environ.get("OMP_NUM_THREADS"), "tasks": {}}
    pages: dict[str, str] = {}
    with tempfile.TemporaryDirectory() as temporary:
        options.keep = options.keep or Path(temporary)
        options.keep.mkdir(parents=True, exist_ok=True)
        for name, draws in study_all(options):
            scores = pd.concat([pd.DataFrame(each["scores"]) for each in draws])
            curve = LabelEfficiencyCurve.from_scores(scores)
            pages[name] = describe(name, curve)
            seconds = [each["seconds"] for each in draws]
            result["tasks"][name] = {"seconds": seconds, "scores": scores.to_dict("list")}
            write_results(options.out, result, "\n\n".join(pages.values()))
            if options.out:
                draw(curve, options.out.with_name(f"{options.out.stem}_{name}.png"))


if __name__ == "__main__":
    main()
