"""Balanced accuracy with few labels chosen by `suggest_labels`, against random choice.

    python -m benchmarks.experiments.active_labels sdss efigi --out active_labels.json
    python -m benchmarks.experiments.active_labels sdss --embeddings sdss=embeddings.npy

Labels are requested in rounds of 20 (of 10 up to 30), and each choice uses the labels of the
earlier rounds, as in practice. A `LinearProbe` learns from them; its test rows (30 %) are not used
in any training. Intervals are over repeats of the choice on the same test rows.
"""

from __future__ import annotations

import argparse
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import stats
from sklearn.metrics import balanced_accuracy_score

from benchmarks._results import write_results
from benchmarks._stamps import Task, load_task
from benchmarks.experiments.real_stamps import fit_encoder
from skastro import LinearProbe, suggest_labels

COUNTS = (30, 100, 300)
FIRST_ROUNDS, ROUNDS = 10, 20


def choose_at_random(_: NDArray, y: NDArray, *, n: int, random_state: int) -> NDArray:
    """Return unlabelled rows, drawn at random."""
    free = np.flatnonzero(y == "")
    return np.random.default_rng([random_state, len(free)]).choice(free, n, replace=False)


METHODS = {
    "random": choose_at_random,
    **{name: partial(suggest_labels, strategy=name) for name in ("typical", "uncertain", "auto")},
}


def score_rounds(task: Task, embeddings: NDArray, method: str, seed: int) -> dict[int, float]:
    """Ask for labels round by round; return the test score at each count."""
    pool, truth = embeddings[task.train], task.labels[task.train]
    y = np.full(len(pool), "", dtype=truth.dtype)
    scores = {}
    while (known := int((y != "").sum())) < COUNTS[-1]:
        goal = next(count for count in COUNTS if count > known)
        n = min(FIRST_ROUNDS if known < COUNTS[0] else ROUNDS, goal - known)
        rows = METHODS[method](pool, y, n=n, random_state=seed)
        y[rows] = truth[rows]
        if known + n == goal:
            learned = y != ""
            probe = LinearProbe().fit(pool[learned], y[learned])
            predicted = probe.predict(embeddings[task.test])
            scores[goal] = float(balanced_accuracy_score(task.labels[task.test], predicted))
    return scores


def summarise(scores: list[dict[int, float]]) -> dict[int, tuple[float, float]]:
    """Return mean and half-width of the 95 % interval at each count."""
    found = {}
    for count in COUNTS:
        values = np.array([each[count] for each in scores])
        half = stats.t.ppf(0.975, len(values) - 1) * stats.sem(values)
        found[count] = (float(values.mean()), float(half))
    return found


def tabulate(results: dict) -> str:
    """Return a Markdown table."""
    head = " | ".join(f"{count} labels" for count in COUNTS)
    lines = [f"| stamps | labels chosen | {head} |", "| --- | --- |" + " ---: |" * len(COUNTS)]
    for name, methods in results.items():
        for method, scores in methods.items():
            summary = summarise(scores)
            cells = [f"{mean:.3f} ± {half:.3f}" for mean, half in summary.values()]
            lines.append(f"| {name} | {method} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main() -> None:
    """Run the comparison."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("tasks", nargs="+", choices=("sdss", "efigi"))
    parser.add_argument("--repeats", type=int, default=10)
    parser.add_argument("--split", type=int, default=0, help="draw of the test rows")
    parser.add_argument("--methods", default=",".join(METHODS))
    parser.add_argument(
        "--embeddings", nargs="*", default=[], help="task=file.npy, instead of pretraining"
    )
    parser.add_argument("--out", type=Path, help="JSON; Markdown goes beside it")
    options = parser.parse_args()
    files = dict(each.split("=", 1) for each in options.embeddings)
    results: dict = {}
    for name in options.tasks:
        task = load_task(name, options.split)
        if name in files:
            embeddings = np.load(files[name])
        else:
            embeddings = fit_encoder(task, untrained=False).transform(task.images)
        results[name] = {
            method: [
                score_rounds(task, embeddings, method, seed) for seed in range(options.repeats)
            ]
            for method in options.methods.split(",")
        }
    result = {**vars(options), "out": None, "scores": results}
    write_results(options.out, result, tabulate(results))


if __name__ == "__main__":
    main()
