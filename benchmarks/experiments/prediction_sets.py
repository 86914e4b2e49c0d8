"""Coverage and size of the sets of `SelfSupervisedClassifier.predict_set` on real stamps.

    python -m benchmarks.experiments.prediction_sets sdss efigi --splits 100,101,102 --out sets.json

A `SelfSupervisedClassifier` with its default teachers learns from subsets of labels (by default
10), and predicts test rows (30 %) that no training has seen. The pretraining sees the training rows
without labels. ``--strategy auto`` compares networks with the probe, and takes much longer.
"""

from __future__ import annotations

import argparse
import warnings

import numpy as np
from sklearn.frozen import FrozenEstimator

from benchmarks._results import write_results
from benchmarks._stamps import PROPERTIES, label_subsets
from benchmarks.experiments._arms import load_some, make_parser
from benchmarks.experiments.real_stamps import fit_encoder
from skastro import SelfSupervisedClassifier


def measure_sets(options: argparse.Namespace, name: str, split: int) -> dict[int, list[dict]]:
    """Return the coverage, overall and by class, and the sizes of sets for each subset."""
    task = load_some(name, split, options.stamps)
    encoder = FrozenEstimator(fit_encoder(task, untrained=False))
    model = SelfSupervisedClassifier(encoder, strategy=options.strategy, random_state=0)
    truth = task.labels[task.test]
    found: dict[int, list[dict]] = {}
    for count in options.counts:
        for rows in label_subsets(task, count, options.repeats):
            model.fit(task.images[rows], task.labels[rows])
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", UserWarning)  # that a class has few labels
                sets = model.predict_set(task.images[task.test], coverage=options.coverage)
            held = sets[np.arange(len(truth)), np.searchsorted(model.classes_, truth)]
            size = sets.sum(axis=1)
            found.setdefault(count, []).append(
                {
                    "coverage": float(held.mean()),
                    "classes": {str(c): float(held[truth == c].mean()) for c in model.classes_},
                    "size": float(size.mean()),
                    "single": float((size == 1).mean()),
                }
            )
    return found


def tabulate(results: dict[str, list[dict[int, list[dict]]]]) -> str:
    """Return a Markdown table of means over all subsets and draws."""
    lines = [
        "| stamps | labels | coverage | by class | mean size | sets of one class |",
        "| --- | ---: | ---: | --- | ---: | ---: |",
    ]
    for name, splits in results.items():
        for count in splits[0]:
            runs = [run for split in splits for run in split[count]]
            coverage, size, single = (
                np.mean([run[key] for run in runs]) for key in ("coverage", "size", "single")
            )
            classes = ", ".join(
                f"{each} {np.mean([run['classes'][each] for run in runs]):.3f}"
                for each in runs[0]["classes"]
            )
            line = f"| {name} | {count} | {coverage:.3f} | {classes} | {size:.2f} | {single:.0%} |"
            lines.append(line)
    return "\n".join(lines)


def main() -> None:
    """Measure the sets on each draw of the test rows."""
    parser = make_parser(__doc__)
    parser.add_argument("tasks", nargs="+", choices=list(PROPERTIES))
    parser.add_argument("--coverage", type=float, default=0.9)
    parser.add_argument("--strategy", choices=("probe", "auto"), default="probe")
    parser.set_defaults(counts="30,100,300", splits="100")
    options = parser.parse_args()
    results: dict[str, list[dict[int, list[dict]]]] = {}
    for name in options.tasks:
        for split in options.splits:
            results.setdefault(name, []).append(measure_sets(options, name, split))
            settings = {"coverage": options.coverage, "strategy": options.strategy}
            write_results(options.out, settings | {"draws": results}, tabulate(results))


if __name__ == "__main__":
    main()
