"""A pipeline that gets only images and labels, against the same pipeline with an untrained encoder.

    python -m benchmarks.speed.pipeline --labels 300 --repeats 5

The encoder learns properties measured from the pixels of the labelled stamps; test rows (30 %) are
not used in any training.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import balanced_accuracy_score
from sklearn.pipeline import Pipeline

from benchmarks._results import write_results
from benchmarks._stamps import Task, label_subsets, load_task
from skastro import PropertyPretrainedEncoder


def score(task: Task, rows: NDArray[np.int64], encoder: PropertyPretrainedEncoder) -> float:
    """Fit on some stamps and their labels; return the balanced accuracy on the test rows."""
    pipeline = Pipeline([("enc", encoder), ("clf", LogisticRegression(max_iter=3000))])
    pipeline.fit(task.images[rows], task.labels[rows])
    predicted = pipeline.predict(task.images[task.test])
    return balanced_accuracy_score(task.labels[task.test], predicted)


def main() -> None:
    """Compare both on the same subsets."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--labels", type=int, default=300)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--out", type=Path, default=None)
    options = parser.parse_args()
    task = load_task("sdss")
    gains = []
    for rows in label_subsets(task, options.labels, options.repeats):
        trained = score(task, rows, PropertyPretrainedEncoder(random_state=0))
        blank = score(task, rows, PropertyPretrainedEncoder(max_epochs=0, random_state=0))
        gains.append(trained - blank)
        print(
            f"trained {trained:.3f}, untrained {blank:.3f}, gain {gains[-1]:+.3f}", file=sys.stderr
        )
    row = f"| {options.labels} | {np.mean(gains):+.3f} | {min(gains):+.3f} to {max(gains):+.3f} |"
    lines = ["| labels | gain in balanced accuracy, mean | range |", "| --- | --- | --- |", row]
    write_results(options.out, {"labels": options.labels, "gains": gains}, "\n".join(lines))


if __name__ == "__main__":
    main()
