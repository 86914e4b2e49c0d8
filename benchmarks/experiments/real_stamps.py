"""Balanced accuracy with few labels on real stamps: pretrained and frozen, and from scratch.

    python -m benchmarks.experiments.real_stamps sdss --splits 0,1,2,3,4 --out sdss.json
    python -m benchmarks.experiments.real_stamps efigi --scratch-counts 100,1000 --network-repeats 3

Test rows (30 %) are not used in any training; the pretraining sees training rows without labels.
Repeats on the same test rows are not independent: intervals are over the means of the splits.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import stats
from sklearn.frozen import FrozenEstimator
from sklearn.metrics import balanced_accuracy_score

from benchmarks._results import write_results
from benchmarks._stamps import Task, label_subsets, load_task
from skastro import LinearProbe, PropertyPretrainedEncoder, SelfSupervisedClassifier


def fit_encoder(task: Task, *, untrained: bool, **params: object) -> PropertyPretrainedEncoder:
    """Pretrain on the training rows, with the catalogue's and the measured properties."""
    encoder = PropertyPretrainedEncoder(**{"random_state": 0, **params})
    errors = None if task.errors is None else task.errors.iloc[task.train]
    if untrained:
        return encoder.set_params(max_epochs=0).fit(task.images[task.train])
    return encoder.fit(
        task.images[task.train],
        properties=task.properties.iloc[task.train],
        property_errors=errors,
    )


def probe_scores(
    task: Task, embeddings: NDArray, counts: list[int], repeats: int
) -> dict[int, list[float]]:
    """Return the test scores of class-balanced logistic regression on frozen embeddings."""
    return {
        count: [
            balanced_accuracy_score(
                task.labels[task.test],
                LinearProbe()
                .fit(embeddings[rows], task.labels[rows])
                .predict(embeddings[task.test]),
            )
            for rows in label_subsets(task, count, repeats)
        ]
        for count in counts
    }


def network_scores(
    task: Task, encoder: PropertyPretrainedEncoder, strategy: str, counts: list[int], repeats: int
) -> dict[int, list[float]]:
    """Return the test scores of a network trained on the labelled rows."""
    scores: dict[int, list[float]] = {}
    for count in counts:
        scores[count] = []
        for rows in label_subsets(task, count, repeats):
            start = time.perf_counter()
            model = SelfSupervisedClassifier(
                FrozenEstimator(encoder), strategy=strategy, random_state=0
            ).fit(task.images[rows], task.labels[rows])
            predicted = model.predict(task.images[task.test])
            scores[count].append(balanced_accuracy_score(task.labels[task.test], predicted))
            seconds = time.perf_counter() - start
            print(f"  {strategy} {count}: {scores[count][-1]:.4f} ({seconds:.0f} s)", flush=True)
    return scores


def parse_counts(text: str) -> list[int]:
    """Read "30,100" as numbers; an empty text is no number."""
    return [int(part) for part in text.split(",") if part]


def score_split(options: argparse.Namespace, split: int) -> tuple[dict, float]:
    """Return the scores of each method on one draw of the test rows, and seconds of pretraining."""
    task = load_task(options.task, split)
    start = time.perf_counter()
    encoder = fit_encoder(task, untrained=False, **options.encoder)
    seconds = time.perf_counter() - start
    frozen = {"pretrained, frozen": encoder}
    if options.untrained:
        frozen["untrained, frozen"] = fit_encoder(task, untrained=True, **options.encoder)
    rows = {
        name: probe_scores(task, each.transform(task.images), options.counts, options.repeats)
        for name, each in frozen.items()
    }
    for strategy in ("scratch", "finetune", "auto"):
        if counts := getattr(options, f"{strategy}_counts"):
            repeats = options.network_repeats
            rows[strategy] = network_scores(task, encoder, strategy, counts, repeats)
    return rows, seconds


def summarise(splits: list[dict], counts: list[int]) -> str:
    """Return a Markdown table of means, with the half-widths of 95 % intervals over splits."""
    lines = ["| | " + " | ".join(map(str, counts)) + " |", "| --- " * (len(counts) + 1) + "|"]
    for name in splits[0]:
        cells = []
        for count in counts:
            means = [np.mean(split[name][count]) for split in splits if count in split[name]]
            cell = f"{np.mean(means):.3f}" if means else "-"
            if len(means) > 1:
                reach = stats.t.ppf(0.975, len(means) - 1) * stats.sem(means)
                cell += f" ± {reach:.3f}"
            cells.append(cell)
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main() -> None:
    """Run one task, and print and write what there is after each split."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("task", choices=["sdss", "efigi"], default="sdss", nargs="?")
    parser.add_argument("--counts", type=parse_counts, default="30,100,300,1000")
    parser.add_argument("--repeats", type=int, default=10)
    parser.add_argument("--untrained", action="store_true", help="a row for random weights")
    parser.add_argument("--scratch-counts", type=parse_counts, default="")
    parser.add_argument("--finetune-counts", type=parse_counts, default="")
    parser.add_argument("--auto-counts", type=parse_counts, default="")
    parser.add_argument("--network-repeats", type=int, default=3)
    parser.add_argument("--splits", type=parse_counts, default="0", help="seeds of the test rows")
    parser.add_argument("--encoder", type=json.loads, default={}, help="parameters, as JSON")
    parser.add_argument("--out", type=Path, default=None, help="JSON; Markdown goes beside it")
    options = parser.parse_args()

    found, seconds = [], []
    for split in options.splits:
        rows, took = score_split(options, split)
        found.append(rows)
        seconds.append(took)
        print(f"split {split}: pretraining took {took:.0f} s; {len(found)} splits so far")
        result = {"task": options.task, "pretraining_seconds": seconds, "splits": found}
        write_results(options.out, result, summarise(found, options.counts))


if __name__ == "__main__":
    main()
