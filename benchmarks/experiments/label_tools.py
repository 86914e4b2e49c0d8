"""Whether the accuracy, its forecast and the audit of labels say the truth, on real stamps.

    python -m benchmarks.experiments.label_tools sdss efigi radio --out label_tools.json
    python -m benchmarks.experiments.label_tools efigi --columns efigi=efigi.npz --first 0

Accuracy and forecast: true labels are given one by one for the objects of `LabelQueue`, one in six
of them at random. Test rows (30 %, others in each repeat) are neither asked for nor used for any
choice; "true" is the balanced accuracy there of the probe that has learned from all labels so far,
over all classes. A look is one repeat with one number of labels (20 to 200). The forecast is made
from 60 labels for 300.

Audit: of 600 labels, 5 % are changed to one of the other classes ("changed"), or are permuted among
these rows such that each gets another class ("permuted"), which keeps the number of each class. For
SDSS the labels are the photometric types of the catalogue, star and galaxy, and the classes.

The constants of `estimate_accuracy` and `forecast_labels` were found with
``--first 0 --repeats 5``.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.metrics import average_precision_score, balanced_accuracy_score

from benchmarks._results import write_results
from benchmarks._stamps import load_task
from benchmarks.experiments.active_labels import Columns, load_columns
from benchmarks.experiments.teacher import split_rows
from skastro import KernelProbe
from skastro.embeddings.active_learning import LabelQueue
from skastro.evaluation.label_audit import audit_labels
from skastro.evaluation.label_forecast import estimate_accuracy, forecast_labels

LOOKS = (20, 30, 45, 60, 80, 100, 140, 200)
FROM, TO = 60, 300
N_LABELS, SHARE, N_FIRST = 600, 0.05, 20  # of the audit


def label_one_by_one(data: Columns, seed: int) -> tuple[list[dict], dict]:
    """Give labels of the pool; return what was said at each look, and the forecast."""
    X = np.hstack([data.embeddings, data.properties])
    names, codes = np.unique(data.labels, return_inverse=True)
    n_properties = data.properties.shape[1]
    pool, test = split_rows(data.labels, data.groups, seed)
    queue = LabelQueue(data.embeddings[pool], data.properties[pool], random_state=seed)
    known, is_random = np.full(len(pool), -1), np.zeros(len(pool), dtype=bool)
    probabilities, looks, forecast = None, [], {}
    while (n := int((known >= 0).sum())) < TO:
        step = next(c for c in (*LOOKS, TO) if c > n) - n
        step = min(step, 1 if n < 30 else 3 if n < 100 else 10)
        for row, how in queue.next(known, step, probabilities=probabilities):
            known[row], is_random[row] = codes[pool[row]], how == "random"
        n, rows = n + step, np.flatnonzero(known >= 0)
        if len(present := np.unique(known[rows])) < 2:
            continue
        probe = KernelProbe(n_properties).fit(X[pool[rows]], known[rows])
        probabilities = np.zeros((len(pool), len(names)))
        probabilities[:, present] = probe.predict_proba(X[pool])
        if n not in (*LOOKS, TO):
            continue
        truth = balanced_accuracy_score(codes[test], probe.predict(X[test]))
        if n == TO:
            forecast["truth"] = float(truth)
            continue
        said = {"n": n, "truth": float(truth)}
        for name, free in (("all", known < 0), ("random only", None)):
            found = estimate_accuracy(
                np.searchsorted(present, known[rows]), probe.loo_probabilities_, is_random[rows],
                population=None if free is None else probabilities[free][:, present],
            )  # fmt: skip
            said[name] = (found.value, found.low, found.high)
            if n == FROM and name == "all":
                table = forecast_labels(
                    X[pool[rows]], known[rows], n_properties=n_properties, now=found,
                    label_counts=[TO],
                ).table  # fmt: skip
                forecast["now"] = found.value
                forecast["said"] = table[["mean", "low", "high"]].iloc[0].astype(float).tolist()
        looks.append(said)
    return looks, forecast


def spoil(codes: NDArray, seed: int, *, permute: bool) -> tuple[NDArray, NDArray]:
    """Return labels of which some are wrong, and which ones."""
    rng = np.random.default_rng(seed)
    wrong = rng.permutation(len(codes))[: round(SHARE * len(codes))]
    spoilt, k = codes.copy(), codes.max() + 1
    if permute:
        # pairs of rows of different classes swap their labels
        pairs = rng.permutation(len(codes)).reshape(2, -1)
        differ = np.flatnonzero(codes[pairs[0]] != codes[pairs[1]])[: len(wrong) // 2]
        first, second = pairs[:, differ]
        spoilt[first], spoilt[second] = codes[second], codes[first]
        wrong = np.concatenate([first, second])
    else:
        spoilt[wrong] = (codes[wrong] + rng.integers(1, k, len(wrong))) % k
    return spoilt, np.isin(np.arange(len(codes)), wrong)


def audit(data: Columns, labels: NDArray, seed: int, *, permute: bool) -> tuple[float, int]:
    """Return the average precision of the audit, and the wrong labels among the first."""
    rows = np.random.default_rng(seed).permutation(len(labels))[:N_LABELS]
    codes = np.unique(labels[rows], return_inverse=True)[1]
    spoilt, wrong = spoil(codes, seed, permute=permute)
    X = np.hstack([data.embeddings, data.properties])[rows]
    table = audit_labels(X, spoilt, n_properties=data.properties.shape[1])
    score = np.zeros(len(rows))
    score[table["row"]] = table["probability"]
    first = wrong[table["row"][:N_FIRST]].sum()
    return float(average_precision_score(wrong, score)), int(first)


def holds(values: list[float], truth: float) -> bool:
    """Return whether the interval of (value, low, high) holds the truth."""
    return bool(values[1] <= truth <= values[2])


def tabulate(results: dict[str, dict]) -> str:
    """Return Markdown tables: accuracy, forecast (both with 90 % intervals) and audit."""
    lines = [
        "| stamps | looks | true value held | mean width | mean error | by random labels | width |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for name, each in results.items():
        said = pd.DataFrame(
            {
                "all": holds(look["all"], look["truth"]),
                "width": look["all"][2] - look["all"][1],
                "error": look["all"][0] - look["truth"],
                "random": holds(look["random only"], look["truth"]),
                "random width": look["random only"][2] - look["random only"][1],
            }
            for look in each["looks"]
        ).mean()
        lines.append(
            f"| {name} | {len(each['looks'])} | {said['all']:.0%} | {said['width']:.2f} | "
            f"{said['error']:+.3f} | {said['random']:.0%} | {said['random width']:.2f} |"
        )
    lines += [
        "",
        f"| stamps | forecasts from {FROM} for {TO} | true value held | mean width | mean error |",
        "| --- | ---: | ---: | ---: | ---: |",
    ]
    for name, each in results.items():
        cases = each["forecasts"]
        held = np.mean([holds(case["said"], case["truth"]) for case in cases])
        width = np.mean([case["said"][2] - case["said"][1] for case in cases])
        error = np.mean([case["said"][0] - case["truth"] for case in cases])
        lines.append(f"| {name} | {len(cases)} | {held:.0%} | {width:.2f} | {error:+.3f} |")
    lines += [
        "",
        f"| labels | wrong ones | average precision | among the first {N_FIRST} |",
        "| --- | --- | ---: | ---: |",
    ]
    for each in results.values():
        for name, runs in each["audits"].items():
            precision, first = np.mean(runs, axis=0)
            lines.append(f"| {name.replace(', ', ' | ')} | {precision:.2f} | {first:.1f} |")
    return "\n".join(lines)


def main() -> None:
    """Measure all three for each survey."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("tasks", nargs="+", choices=("sdss", "efigi", "radio"))
    parser.add_argument("--repeats", type=int, default=20)
    parser.add_argument("--first", type=int, default=100, help="seed of the first repeat")
    parser.add_argument("--columns", action="append", default=[], metavar="TASK=FILE.npz")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    files = dict(each.split("=", 1) for each in options.columns)
    seeds = range(options.first, options.first + options.repeats)
    results: dict[str, dict] = {}
    for name in options.tasks:
        data = load_columns(name, files.get(name))
        labels = {name: data.labels}
        if name == "sdss":
            labels["sdss phot_type"] = load_task("sdss").catalog["phot_type"].to_numpy(dtype=str)
        each = results[name] = {"looks": [], "forecasts": [], "audits": {}}
        for kind, y in labels.items():
            for how in ("changed", "permuted"):
                each["audits"][f"{kind}, {how}"] = [
                    audit(data, y, seed, permute=how == "permuted") for seed in seeds
                ]
        for seed in seeds:
            looks, forecast = label_one_by_one(data, seed)
            each["looks"] += looks
            each["forecasts"].append(forecast)
            write_results(options.out, results, tabulate(results))


if __name__ == "__main__":
    main()
