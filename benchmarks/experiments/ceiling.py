"""The best possible scores on a set of stamps: training with all labels.

    python -m benchmarks.experiments.ceiling sdss [--repeats 5]
    python -m benchmarks.experiments.ceiling efigi

An encoder learns from all stamps (and no label); classifiers of four kinds then learn from the
labels of four fifths of the rows and predict the others, in repeated, stratified cross-validation.
This is easier than a study, whose test stamps the pretraining has not seen: remaining errors come
from the images, or from wrong labels. Prints Markdown: balanced accuracies, which
classes the kernel probe confuses, and how often all classifiers err together.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import stats
from sklearn.base import ClassifierMixin
from sklearn.ensemble import ExtraTreesClassifier
from sklearn.impute import SimpleImputer
from sklearn.metrics import balanced_accuracy_score, confusion_matrix
from sklearn.model_selection import StratifiedKFold, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

from benchmarks._results import write_results
from benchmarks._stamps import Task, load_task
from skastro import KernelProbe, LinearProbe, PropertyPretrainedEncoder, measure_properties

BEST = "kernel probe"


def represent(task: Task) -> tuple[NDArray, NDArray]:
    """Return embeddings of all stamps, and their predicted and measured properties."""
    encoder = PropertyPretrainedEncoder(random_state=0)
    encoder.fit(task.images, properties=task.properties, property_errors=task.errors)
    embeddings = encoder.transform(task.images)
    predicted = encoder.predict_embedded(embeddings)
    return embeddings, np.hstack([predicted, measure_properties(task.images)])


def make_classifiers(
    n_embedding: int, n_properties: int
) -> dict[str, tuple[ClassifierMixin, slice]]:
    """Return classifiers, and the columns that each gets."""
    everything, properties = slice(None), slice(n_embedding, None)
    machine = SVC(C=3.0, class_weight="balanced")
    trees = ExtraTreesClassifier(500, min_samples_leaf=2, class_weight="balanced", random_state=0)
    filled = [make_pipeline(SimpleImputer(), StandardScaler(), each) for each in (machine, trees)]
    return {
        BEST: (KernelProbe(n_properties), everything),
        "logistic regression on the embedding": (LinearProbe(), slice(n_embedding)),
        "support vectors on properties": (filled[0], properties),
        "randomised trees on properties": (filled[1], properties),
    }


def predict(
    classifiers: dict[str, tuple[ClassifierMixin, slice]],
    columns: NDArray,
    labels: NDArray,
    seed: int,
) -> dict[str, NDArray]:
    """Return each classifier's predictions of rows that it has not learned from."""
    folds = StratifiedKFold(5, shuffle=True, random_state=seed)
    return {
        name: cross_val_predict(model, columns[:, part], labels, cv=folds)
        for name, (model, part) in classifiers.items()
    }


def tabulate_scores(labels: NDArray, repeats: list[dict[str, NDArray]]) -> tuple[str, dict]:
    """Return balanced accuracies as a Markdown table, and as numbers."""
    scores = {
        name: [balanced_accuracy_score(labels, found[name]) for found in repeats]
        for name in repeats[0]
    }
    lines = ["| with four fifths of the labels | balanced accuracy |", "| --- | --- |"]
    for name, values in scores.items():
        reach = stats.sem(values) * stats.t.ppf(0.975, len(values) - 1)
        lines.append(f"| {name} | {np.mean(values):.3f} ± {reach:.3f} |")
    return "\n".join(lines), scores


def tabulate_errors(labels: NDArray, repeats: list[dict[str, NDArray]]) -> str:
    """Return what the best takes for what, and the share of each class that all get wrong."""
    classes = np.unique(labels)
    votes = np.concatenate([found[BEST] for found in repeats])
    truth = np.tile(labels, len(repeats))
    shares = confusion_matrix(truth, votes, normalize="true")
    # in every repeat, by every classifier: nothing that these have learned speaks for the label
    always = np.all([each != labels for found in repeats for each in found.values()], axis=0)
    lines = [
        "| is, predicted as | " + " | ".join(classes) + " | all err, always |",
        "| --- " * (len(classes) + 2) + "|",
    ]
    for name, row in zip(classes, shares, strict=True):
        cells = [f"{share:.3f}" for share in [*row, always[labels == name].mean()]]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main() -> None:
    """Cross-validate one task, print tables and write JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("task", choices=["sdss", "efigi"])
    parser.add_argument("--repeats", type=int, default=5, help="of the cross-validation")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    task = load_task(options.task)
    embeddings, properties = represent(task)
    columns = np.hstack([embeddings, properties])
    classifiers = make_classifiers(embeddings.shape[1], properties.shape[1])
    repeats = [predict(classifiers, columns, task.labels, seed) for seed in range(options.repeats)]
    table, scores = tabulate_scores(task.labels, repeats)
    result = {"task": options.task, "stamps": len(task.labels), "balanced_accuracy": scores}
    write_results(options.out, result, table + "\n\n" + tabulate_errors(task.labels, repeats))


if __name__ == "__main__":
    main()
