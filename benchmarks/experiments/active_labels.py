"""What a person is asked next: balanced accuracy against labels at random, and rare objects found.

    python -m benchmarks.experiments.active_labels sdss efigi radio --out active_labels.json
    python -m benchmarks.experiments.active_labels efigi --columns efigi=columns.npz --rare 20

True labels are given one by one for the objects of `LabelQueue`, one in six of them at random, and
a `KernelProbe` on the embedding and the properties (predicted and measured) learns again: after
each label up to 30, and then after every third. Each repeat draws other test rows (30 %, in other
cells of the sky for radio), which are neither asked for nor used for any choice. "Random" is the
mean of five draws for each repeat; intervals (95 %) are over the paired differences of the repeats.
The embeddings are those of the released weights (EFIGI, radio), or of an encoder that has learned
from all stamps and the catalogue without classes (SDSS). `--columns` names a NumPy file with the
arrays emb, props, y and groups instead, and `--rare` searches for 30 irregulars among 2,000 of
EFIGI's galaxies, with 150 answers.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import stats
from sklearn.metrics import balanced_accuracy_score

from benchmarks._results import write_results
from benchmarks._stamps import load_task
from benchmarks.experiments.teacher import TEACHERS, load_rows, split_rows
from skastro import KernelProbe, PropertyPretrainedEncoder, load_pretrained, measure_properties
from skastro.embeddings.active_learning import LabelQueue

COUNTS = (30, 100)
N_RANDOM = 5  # draws of random labels for each repeat
SINGLY, ROUND = 30, 3  # answers after each of which the probe learns, then answers a round
RARE, N_WANTED, N_ROWS, N_ANSWERS = "irregular", 30, 2000, 150


class Columns(NamedTuple):
    """What the classifier learns from: embeddings, properties, and classes."""

    embeddings: NDArray
    properties: NDArray
    labels: NDArray[np.str_]
    groups: NDArray | None
    prior: NDArray | None = None  # of the rare class, by the teacher


def load_columns(name: str, file: str | None) -> Columns:
    """Embed and measure the stamps of a survey, or read a file with its columns."""
    if file:
        with np.load(file) as columns:
            y, groups, properties = (columns[key] for key in ("y", "groups", "props"))
            alone = len(np.unique(groups)) == len(groups)
            prior = None
            if name == "efigi":
                prior = properties[:, load_pretrained().targets_.names.index(RARE)]
            return Columns(columns["emb"], properties, y, None if alone else groups, prior)
    if name == "sdss":
        task = load_task("sdss")
        images, labels, groups = task.images, task.labels, None
        encoder = PropertyPretrainedEncoder(random_state=0).fit(
            images, properties=task.properties, property_errors=task.errors
        )
    else:
        images, labels, groups, _ = load_rows(name)
        encoder = load_pretrained(TEACHERS[name])
    embeddings = encoder.transform(images)
    table = encoder.predict_embedded(embeddings)
    properties = np.hstack([table, measure_properties(images)])
    prior = table[RARE].to_numpy() if RARE in table else None
    return Columns(np.asarray(embeddings), properties, labels, groups, prior)


def ask(data: Columns, pool: NDArray, test: NDArray, seed: int, *, random: bool) -> list[float]:
    """Ask for labels of the pool; return the test score at each of the counts."""
    X = np.hstack([data.embeddings, data.properties])
    names, codes = np.unique(data.labels, return_inverse=True)
    y, known = codes[pool], np.full(len(pool), -1)
    queue = LabelQueue(data.embeddings[pool], data.properties[pool], random_state=seed)
    order = np.random.default_rng(seed).permutation(len(pool))
    probabilities, scores = None, []
    while (n := int((known >= 0).sum())) < COUNTS[-1]:
        step = min(1 if n < SINGLY else ROUND, COUNTS[-1] - n)
        if random:
            rows = order[n : n + step]
        else:
            rows = [row for row, _ in queue.next(known, step, probabilities=probabilities)]
        known[rows] = y[rows]
        learned = known >= 0
        counts = n + step in COUNTS
        if len(present := np.unique(known[learned])) < 2 or (random and not counts):
            continue
        probe = KernelProbe(data.properties.shape[1]).fit(X[pool[learned]], known[learned])
        probabilities = np.zeros((len(pool), len(names)))
        probabilities[:, present] = probe.predict_proba(X[pool])
        if counts:
            scores.append(float(balanced_accuracy_score(codes[test], probe.predict(X[test]))))
    return scores


def find_rare(data: Columns, seed: int, *, use_prior: bool) -> list[int]:
    """Search for irregulars; return the numbers of answers after which each one was found."""
    rng = np.random.default_rng(seed)
    wanted = np.flatnonzero(data.labels == RARE)
    rows = np.concatenate(
        [
            rng.choice(wanted, N_WANTED, replace=False),
            rng.choice(np.setdiff1d(np.arange(len(data.labels)), wanted), N_ROWS - N_WANTED, False),
        ]
    )
    rows = rng.permutation(rows)
    prior = data.prior[rows] if use_prior else None
    queue = LabelQueue(data.embeddings[rows], data.properties[rows], random_state=seed)
    codes, found = np.full(N_ROWS, -1), []
    for n in range(1, N_ANSWERS + 1):
        row = queue.rank_rare(codes, 0, prior=prior)[0]
        codes[row] = data.labels[rows[row]] != RARE
        if codes[row] == 0:
            found.append(n)
    return found


def with_interval(values: list[float] | NDArray) -> str:
    """Return mean and half-width of the 95 % interval."""
    half = stats.t.ppf(0.975, len(values) - 1) * stats.sem(values)
    return f"{np.mean(values):.3f} ± {half:.3f}"


def tabulate(results: dict, rare: dict) -> str:
    """Return Markdown tables."""
    head = " | ".join(f"{count} random | {count} asked minus random" for count in COUNTS)
    lines = [f"| stamps | {head} |", "| --- |" + " ---: |" * 2 * len(COUNTS)]
    for name, scores in results.items():
        random, asked = np.mean(scores["random"], axis=1), np.array(scores["asked"])
        cells = [
            f"{random[:, i].mean():.3f} | {with_interval(asked[:, i] - random[:, i])}"
            for i in range(len(COUNTS))
        ]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    for name, found in rare.items():
        shares = [len(each) / N_WANTED for each in found]
        first = np.median([each[0] if each else N_ANSWERS + 1 for each in found])
        lines.append(
            f"\n{name}: {with_interval(shares)} of the {N_WANTED} irregulars found with "
            f"{N_ANSWERS} answers, at least {min(shares):.2f}; the first one after {first:.0f} "
            "(median)."
        )
    return "\n".join(lines)


def main() -> None:
    """Run the comparison."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("tasks", nargs="+", choices=("sdss", "efigi", "radio"))
    parser.add_argument("--repeats", type=int, default=20)
    parser.add_argument("--first-seed", type=int, default=100, help="of the draws of test rows")
    parser.add_argument("--rare", type=int, default=0, help="searches for irregulars (efigi)")
    parser.add_argument("--columns", nargs="*", default=[], help="task=file.npz")
    parser.add_argument("--out", type=Path, help="JSON; Markdown goes beside it")
    options = parser.parse_args()
    files = dict(each.split("=", 1) for each in options.columns)
    seeds = range(options.first_seed, options.first_seed + options.repeats)
    results: dict = {}
    rare: dict = {}
    for name in options.tasks:
        data = load_columns(name, files.get(name))
        scores = results[name] = {"random": [], "asked": []}
        for seed in seeds:
            split = split_rows(data.labels, data.groups, seed)
            draws = range(N_RANDOM * seed, N_RANDOM * (seed + 1))
            scores["random"].append([ask(data, *split, draw, random=True) for draw in draws])
            scores["asked"].append(ask(data, *split, seed, random=False))
        if name == "efigi" and options.rare:
            for title, use_prior in (("without a prior", False), ("with the teacher", True)):
                rare[title] = [
                    find_rare(data, seed, use_prior=use_prior) for seed in range(options.rare)
                ]
    result = {**vars(options), "out": None, "scores": results, "rare": rare}
    write_results(options.out, result, tabulate(results, rare))


if __name__ == "__main__":
    main()
