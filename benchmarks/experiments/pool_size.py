r"""How the labels saved against a network from scratch grow with the stamps of the pretext.

    python -m benchmarks.experiments.pool_size survey --objects 22400 \
        --sizes 300,1000,3000,10000,20000
    python -m benchmarks.experiments.pool_size sdss --sizes 300,1000,2120
    python -m benchmarks.experiments.pool_size efigi --sizes 300,1000,2147
    python -m benchmarks.experiments.pool_size survey --sizes 20000 --strategy finetune \
        --counts 30,100

Test rows, label subsets and the network from scratch are the same for all pools. Test rows (30 % of
--labelled rows) are in no pool; each pool holds the smaller ones. Labelled stamps are drawn from
the others, whether in the pool or not. A kernel probe learns from each pool's embeddings, and with
--strategy the classifier from its encoder, too. Prints two Markdown tables: scores, and label
savings with bootstrapped 95 % intervals over the subsets, of one draw of the test rows.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.base import ClassifierMixin
from sklearn.frozen import FrozenEstimator
from sklearn.metrics import balanced_accuracy_score
from sklearn.model_selection import train_test_split

from benchmarks._results import write_results
from benchmarks.experiments.label_efficiency import TASKS, load, tabulate
from benchmarks.experiments.real_stamps import parse_counts
from skastro import (
    KernelProbe,
    LabelEfficiencyCurve,
    PropertyPretrainedEncoder,
    SelfSupervisedClassifier,
    label_saving,
    measure_properties,
)
from skastro.study.data import StudyData

METRIC = "balanced_accuracy"
Run = tuple[int, int]  # labels, repeat


def draw(data: StudyData, options: argparse.Namespace) -> tuple[NDArray, NDArray, NDArray]:
    """Return rows to label, rows to test on, and all others in the order in which pools grow."""
    rng = np.random.default_rng(options.seed)
    known = rng.permutation(np.flatnonzero(np.asarray(data.labels) != ""))[: options.labelled]
    train, test = train_test_split(
        known, test_size=0.3, stratify=data.labels[known], random_state=options.seed
    )
    others = np.setdiff1d(np.arange(len(data.labels)), test)
    return np.sort(train), np.sort(test), rng.permutation(others)


def draw_subsets(
    data: StudyData, train: NDArray, options: argparse.Namespace
) -> dict[Run, NDArray]:
    """Return stratified subsets of the rows to label."""
    return {
        (count, repeat): train_test_split(
            train, train_size=count, stratify=data.labels[train], random_state=repeat
        )[0]
        for count in options.counts
        for repeat in range(options.repeats)
    }


def pretrain(data: StudyData, pool: NDArray, seed: int) -> PropertyPretrainedEncoder:
    """Pretrain on a pool with what its catalogue and its pixels tell."""
    return PropertyPretrainedEncoder(random_state=seed).fit(
        data.images[pool],
        properties=None if data.properties is None else data.properties.iloc[pool],
        property_errors=None if data.errors is None else data.errors[pool],
    )


def describe(
    encoder: PropertyPretrainedEncoder, images: NDArray, measured: pd.DataFrame
) -> tuple[NDArray, int]:
    """Return embeddings and properties side by side, and how many of the columns are the latter."""
    embeddings = encoder.transform(images)
    predicted = encoder.predict_embedded(embeddings)
    columns = np.hstack([embeddings, predicted, measured])
    return columns, predicted.shape[1] + measured.shape[1]


def score(model: ClassifierMixin, train: tuple, test: tuple) -> tuple[float, float]:
    """Fit a classifier; return its balanced accuracy on test rows, and the seconds of the fit."""
    start = time.perf_counter()
    model.fit(*train)
    seconds = time.perf_counter() - start
    return balanced_accuracy_score(test[1], model.predict(test[0])), seconds


def tell(name: str, start: float) -> None:
    """Say on the standard error what has been done."""
    print(f"{name}: {time.perf_counter() - start:.0f} s", file=sys.stderr, flush=True)


def study(data: StudyData, options: argparse.Namespace) -> pd.DataFrame:
    """Return the scores of a probe and networks on each pool, and of networks from scratch."""
    train, test, order = draw(data, options)
    subsets = draw_subsets(data, train, options)
    seen = np.union1d(test, np.concatenate(list(subsets.values())))  # the rest is never asked for
    place = np.full(len(data.labels), -1)
    place[seen] = np.arange(len(seen))
    images = np.asarray(data.images[seen])
    measured = measure_properties(images)
    rows = []

    def note(name: str, run: Run, found: tuple[float, float]) -> None:
        rows.append((name, run[0], 0, run[1], METRIC, *found))

    def note_networks(name: str, encoder: PropertyPretrainedEncoder, strategy: str) -> None:
        for run, subset in subsets.items():
            start = time.perf_counter()
            network = SelfSupervisedClassifier(
                FrozenEstimator(encoder), strategy=strategy, random_state=run[1]
            )
            parts = [(images[place[r]], data.labels[r]) for r in (subset, test)]
            found = score(network, *parts)
            note(name, run, found)
            tell(f"{name} {run} {found[0]:.3f}", start)

    for size in options.sizes:
        start = time.perf_counter()
        encoder = pretrain(data, np.sort(order[:size]), options.seed)
        columns, n_properties = describe(encoder, images, measured)
        for run, subset in subsets.items():
            parts = [(columns[place[r]], data.labels[r]) for r in (subset, test)]
            note(f"pool of {size:,}", run, score(KernelProbe(n_properties), *parts))
        tell(f"pool of {size:,}", start)
        if options.strategy is not None:
            name = f"pool of {size:,}, {options.strategy}"
            note_networks(name, encoder, options.strategy)
    note_networks("scratch", encoder, "scratch")
    names = ["estimator", "n_labels", "split", "repeat", "metric", "score", "fit_seconds"]
    return pd.DataFrame(rows, columns=names)


def tabulate_savings(curve: LabelEfficiencyCurve) -> str:
    """Return a Markdown table: how many times fewer labels each pool needs than scratch."""
    lines = [
        "| labels saved | " + " | ".join(map(str, curve.label_counts)) + " |",
        "| --- " * (len(curve.label_counts) + 1) + "|",
    ]
    for name in curve.estimators[:-1]:
        cells = [
            f"{row.bound.removeprefix('=')}{row.saving:.1f} ({row.low:.1f}, {row.high:.1f})"
            for row in label_saving(curve, name, "scratch").itertuples()
        ]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main() -> None:
    """Study one task, print tables and write JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("task", choices=list(TASKS))
    parser.add_argument("--objects", type=int, default=22_400, help="of the simulated survey")
    parser.add_argument("--labelled", type=int, default=8_000, help="at most, with the test rows")
    parser.add_argument("--sizes", type=parse_counts, default="300,1000,3000,10000,20000")
    parser.add_argument("--counts", type=parse_counts, default="30,100,300,1000")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--strategy", choices=["auto", "finetune"], help="of networks, beside")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    curve = LabelEfficiencyCurve.from_scores(study(load(options.task, options.objects), options))
    result = {"task": options.task, "seed": options.seed, "scores": curve.scores.to_dict("list")}
    write_results(options.out, result, tabulate(curve, METRIC) + "\n\n" + tabulate_savings(curve))


if __name__ == "__main__":
    main()
