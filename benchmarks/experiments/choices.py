"""Each default of the pretext task and of the probe against its alternatives, on five seeds.

    python -m benchmarks.experiments.choices sdss --out choices_sdss.json
    python -m benchmarks.experiments.choices efigi --rows "no augmentation" --splits 0,1,2

Each row differs from the default in one choice. Each seed has its own draw of the test rows, its
own pretraining and label subsets, the same for all rows; differences are paired, and their 95 %
intervals are over the means of the seeds, which are independent but for the stamps they share.
"""

from __future__ import annotations

import argparse
import time
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import stats
from sklearn.base import ClassifierMixin
from sklearn.metrics import balanced_accuracy_score

from benchmarks._results import write_results
from benchmarks._stamps import Task, label_subsets
from benchmarks.experiments._arms import load_some, make_parser, rows_of
from benchmarks.experiments.real_stamps import fit_encoder
from skastro import KernelProbe, LinearProbe, PropertyPretrainedEncoder, measure_properties

DEFAULT = "default"
ENCODERS: dict[str, dict[str, Any]] = {  # each is pretrained anew
    DEFAULT: {},
    "loss: mean absolute error": {"loss": "mae"},
    "targets: the catalogue alone": {"targets": "catalog"},
    "targets: measured alone": {"targets": "measured"},
    "no augmentation": {"augment": False},
    "backbone: stamp_resnet10": {"backbone": "stamp_resnet10"},
    "untrained": {"max_epochs": 0},
}
READINGS = {  # of the default encoder
    "embedding of one view": "one view",
    "probe: embedding alone, both kernels": "embedding",
    "probe: properties alone, radial kernel": "properties",
    "probe: logistic regression on the embedding": "logistic",
}
Scores = dict[int, list[float]]


class Seen(NamedTuple):
    """What an encoder tells of all stamps."""

    embeddings: NDArray[np.float32]
    properties: NDArray[np.float64]  # predicted and measured


def look(encoder: PropertyPretrainedEncoder, task: Task, measured: NDArray) -> Seen:
    """Embed all stamps, and predict what can be predicted."""
    embeddings = encoder.transform(task.images)
    if not encoder.history_:  # a head that never learned predicts nothing
        return Seen(embeddings, measured)
    predicted = encoder.predict_embedded(embeddings).to_numpy()
    return Seen(embeddings, np.hstack([predicted, measured]))


def read_out(seen: Seen, how: str) -> tuple[ClassifierMixin, NDArray]:
    """Return a probe and the columns that it gets."""
    embeddings, properties = seen
    if how == "logistic":
        return LinearProbe(), embeddings
    if how == "embedding":
        return KernelProbe(0), embeddings
    if how == "properties":
        return KernelProbe(properties.shape[1]), properties
    return KernelProbe(properties.shape[1]), np.hstack([embeddings, properties])


def score(task: Task, seen: Seen, how: str, options: argparse.Namespace) -> Scores:
    """Return the test scores on each label subset."""
    probe, columns = read_out(seen, how)
    return {
        count: [
            balanced_accuracy_score(
                task.labels[task.test],
                probe.fit(columns[rows], task.labels[rows]).predict(columns[task.test]),
            )
            for rows in label_subsets(task, count, options.repeats)
        ]
        for count in options.counts
    }


def score_split(
    options: argparse.Namespace, split: int
) -> tuple[dict[str, Scores], dict[str, float]]:
    """Return the scores of each row on one seed, and the seconds of each pretraining."""
    task = load_some(options.task, split, options.stamps)
    measured = measure_properties(task.images).to_numpy()
    epochs = {} if options.epochs is None else {"max_epochs": options.epochs}
    scores, seconds = {}, {}
    for name in (name for name in ENCODERS if name in (DEFAULT, *options.rows)):
        start = time.perf_counter()
        params = {"random_state": split, **epochs, **ENCODERS[name]}
        encoder = fit_encoder(task, untrained=False, **params)
        seconds[name] = time.perf_counter() - start
        seen = look(encoder, task, measured)
        scores[name] = score(task, seen, "everything", options)
        if name == DEFAULT:
            one_view = look(encoder.set_params(average_views=False), task, measured)
            for reading in (reading for reading in READINGS if reading in options.rows):
                how = READINGS[reading]
                scores[reading] = score(task, one_view if how == "one view" else seen, how, options)
        print(f"  {name}, split {split}: {seconds[name]:.0f} s", flush=True)
    return scores, seconds


def tabulate(
    found: list[dict[str, Scores]], seconds: list[dict[str, float]], counts: list[int]
) -> str:
    """Return a Markdown table: the default's means, and the others' differences to it."""
    lines = ["| | " + " | ".join(map(str, counts)) + " | pretraining, s |"]
    lines.append("| --- " * (len(counts) + 2) + "|")
    for name in found[0]:
        cells = []
        for count in counts:
            means = np.array([np.mean(scores[name][count]) for scores in found])
            if name != DEFAULT:
                means = means - [np.mean(scores[DEFAULT][count]) for scores in found]
            cell = f"{means.mean():.3f}" if name == DEFAULT else f"{means.mean():+.3f}"
            if len(means) > 1:
                cell += f" ± {stats.t.ppf(0.975, len(means) - 1) * stats.sem(means):.3f}"
            cells.append(cell)
        took = [each[name] for each in seconds if name in each]
        cells.append(f"{np.mean(took):.0f}" if took else "")
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main() -> None:
    """Run all rows on each seed, print a table and write it."""
    parser = make_parser(__doc__)
    parser.set_defaults(splits="0,1,2,3,4")
    parser.add_argument("task", choices=["sdss", "efigi"], default="sdss", nargs="?")
    every = [*ENCODERS, *READINGS]
    text = "besides the default"
    parser.add_argument("--rows", type=rows_of(every), default=";".join(every), help=text)
    parser.add_argument("--epochs", type=int, default=None, help="of the pretext, for a trial")
    options = parser.parse_args()

    found, seconds = [], []
    for split in options.splits:
        scores, took = score_split(options, split)
        found.append(scores)
        seconds.append(took)
        result = {"settings": vars(options) | {"out": None}, "seconds": seconds, "splits": found}
        write_results(options.out, result, tabulate(found, seconds, options.counts))


if __name__ == "__main__":
    main()
