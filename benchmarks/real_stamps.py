"""Balanced accuracy at few labels on real stamps: pretrained and frozen, and from scratch.

    python benchmarks/real_stamps.py sdss --out benchmarks/sdss.json
    python benchmarks/real_stamps.py efigi --scratch-counts 100,1000 --scratch-repeats 3

Test rows (30 %) are seen by nothing; the pretext sees the training rows without their labels.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import numpy as np
from _stamps import Task, label_subsets, load_task
from numpy.typing import NDArray
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import balanced_accuracy_score

from skastro import PropertyPretrainedEncoder, SelfSupervisedClassifier


def fit_encoder(task: Task, *, untrained: bool, **params: object) -> PropertyPretrainedEncoder:
    """Pretrain on the training rows, with the catalogue's and the measured properties."""
    source = "measured" if untrained else "catalog+measured"
    encoder = PropertyPretrainedEncoder(properties=source, random_state=0, **params)
    errors = None if task.errors is None else task.errors.iloc[task.train]
    if untrained:
        return encoder.set_params(max_epochs=0).fit(task.images[task.train])
    return encoder.fit(
        task.images[task.train],
        properties=task.properties.iloc[task.train],
        property_errors=errors,
    )


def probe_scores(
    task: Task, embeddings: NDArray, counts: list[int], repeats: int, C: float
) -> dict[int, list[float]]:
    """Return the test scores of class-balanced logistic regression on frozen embeddings."""
    embeddings = embeddings.astype(np.float64)  # in float32 the solver's stopping rule is lost
    return {
        count: [
            balanced_accuracy_score(
                task.labels[task.test],
                LogisticRegression(C=C, class_weight="balanced", max_iter=3000)
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


def main() -> None:
    """Run one task, print a table and write JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("task", choices=["sdss", "efigi"], default="sdss", nargs="?")
    parser.add_argument("--counts", type=parse_counts, default="30,100,300,1000")
    parser.add_argument("--repeats", type=int, default=10)
    parser.add_argument("--scratch-counts", type=parse_counts, default="100,1000")
    parser.add_argument("--scratch-repeats", type=int, default=3)
    parser.add_argument("--finetune-counts", type=parse_counts, default="")
    parser.add_argument("--C", type=float, default=0.1)
    parser.add_argument("--split", type=int, default=0, help="seed of the test rows")
    parser.add_argument("--encoder", type=json.loads, default={}, help="parameters, as JSON")
    parser.add_argument("--out", type=Path, default=None)
    options = parser.parse_args()

    task = load_task(options.task, options.split)
    start = time.perf_counter()
    encoder = fit_encoder(task, untrained=False, **options.encoder)
    seconds = time.perf_counter() - start
    blank = fit_encoder(task, untrained=True, **options.encoder)
    rows = {
        name: probe_scores(
            task, e.transform(task.images), options.counts, options.repeats, options.C
        )
        for name, e in {"pretrained, frozen": encoder, "untrained, frozen": blank}.items()
    }
    for strategy, counts in {
        "scratch": options.scratch_counts,
        "finetune": options.finetune_counts,
    }.items():
        if counts:
            rows[strategy] = network_scores(
                task, encoder, strategy, counts, options.scratch_repeats
            )
    print(f"{options.task}: pretraining of {len(task.train)} stamps took {seconds:.0f} s")
    print("| | " + " | ".join(map(str, options.counts)) + " |")
    print("| --- " * (len(options.counts) + 1) + "|")
    for name, scores in rows.items():
        cells = [f"{np.mean(scores[n]):.3f}" if n in scores else "-" for n in options.counts]
        print(f"| {name} | " + " | ".join(cells) + " |")
    if options.out:
        result = {"task": options.task, "pretraining_seconds": seconds, "scores": rows}
        options.out.write_text(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
