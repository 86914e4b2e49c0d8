"""Whether explanations are true to the classifier: deleted pixels, changed properties, time.

    python -m benchmarks.experiments.explanations sdss efigi --out explanations.json
    python -m benchmarks.experiments.explanations sdss --encoder sdss=encoder.safetensors

A classifier (strategy "probe", no teacher) learns from 300 labels, drawn at random from the
training rows; the encoder is a released one (EFIGI), or has learned from all stamps and the
catalogue without classes (SDSS). Test rows are explained.

Pixels: of 100 test rows, the 10 % of the pixels with the largest drop are deleted in all bands, and
for comparison as many pixels at random, a square of this size at a random place, and the pixels
nearest to the centre. A deleted pixel gets the mean of those around it, by Gaussians that grow
until they reach enough pixels, or the median of the border. The drop of the probability of the
predicted class is averaged.

Properties: of 500 test rows, each property alone is changed to the median of the labelled rows of
the second most probable class; embedding and other properties follow (`PropertyShapley.change`).
The share of decisions that flip is given by the place of the property in the sentence, and for the
one property that flips most decisions of all objects. Time is that of the processor, one thread.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from time import process_time

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter
from sklearn.frozen import FrozenEstimator

from benchmarks._results import write_results
from benchmarks._stamps import load_task
from skastro import PropertyPretrainedEncoder, SelfSupervisedClassifier, load_pretrained
from skastro.evaluation.explanation import explain, name_columns
from skastro.evaluation.shapley import PropertyShapley

N_LABELS, N_PIXELS, N_PROPERTIES, SHARE = 300, 100, 500, 0.1
WIDTHS = (1, 2, 4, 8, 16, 32)  # pixels, of the Gaussians


def fit(name: str, file: str | None) -> tuple[SelfSupervisedClassifier, dict, dict]:
    """Return a classifier, its labelled rows, and test rows."""
    task = load_task(name)
    if file:
        encoder = PropertyPretrainedEncoder.load(file)
    elif name == "efigi":
        encoder = load_pretrained("galaxies")
    else:
        encoder = PropertyPretrainedEncoder(random_state=0).fit(
            task.images, properties=task.properties, property_errors=task.errors
        )
    rng = np.random.default_rng(0)
    learned = np.sort(rng.choice(task.train, N_LABELS, replace=False))
    shown = rng.permutation(task.test)[:N_PROPERTIES]
    classifier = SelfSupervisedClassifier(
        FrozenEstimator(encoder), strategy="probe", pretrained=None, random_state=0
    ).fit(task.images[learned], task.labels[learned])
    parts = [
        {"images": task.images[rows], "labels": task.labels[rows]} for rows in (learned, shown)
    ]
    return classifier, *parts


def fill(stamp: NDArray, mask: NDArray) -> NDArray:
    """Return a stamp in which deleted pixels have the mean of those around them."""
    known, left, result = (~mask).astype(np.float32), mask.copy(), stamp.copy()
    for width in WIDTHS:
        weight = gaussian_filter(known, width, mode="nearest")
        near = left & (weight > 0.15)
        blurred = gaussian_filter(stamp * known, (0, width, width), mode="nearest")
        result[:, near] = blurred[:, near] / weight[near]
        left &= ~near
    # photographs stay whole numbers, by which the classifier recognises them
    return np.rint(result) if (np.rint(stamp) == stamp).all() else result


def fill_with_border(stamp: NDArray, mask: NDArray) -> NDArray:
    """Return a stamp in which deleted pixels have the median of the border."""
    border = np.concatenate([stamp[:, 0], stamp[:, -1], stamp[:, :, 0], stamp[:, :, -1]], axis=1)
    return np.where(mask, np.median(border, axis=1)[:, None, None], stamp).astype(np.float32)


def delete_pixels(classifier: SelfSupervisedClassifier, images: NDArray) -> dict:
    """Return the mean drop of the probability by the pixels that are deleted, and the time."""
    images, rng = images.astype(np.float32), np.random.default_rng(0)
    explain(classifier, images[:1])
    start = process_time()
    reasons = explain(classifier, images)
    seconds = (process_time() - start) / len(images)
    codes = np.searchsorted(classifier.classes_, reasons.classes)
    n, side = round(SHARE * images[0, 0].size), images.shape[-1]
    square, y, x = round(np.sqrt(n)), *(np.indices((side, side)) - (side - 1) / 2)

    def largest(values: NDArray) -> NDArray:
        order = np.argsort(-values.ravel(), kind="stable")
        return np.isin(np.arange(values.size), order[:n]).reshape(values.shape)

    def random_square() -> NDArray:
        mask, (top, left) = np.zeros((side, side), bool), rng.integers(0, side - square + 1, 2)
        mask[top : top + square, left : left + square] = True
        return mask

    masks = {
        "named first": [largest(each) for each in reasons.where],
        "single bands": [largest(each.sum(axis=0)) for each in reasons.bands],
        "random pixels": [largest(rng.random((side, side))) for _ in images],
        "random square": [random_square() for _ in images],
        "centre": [largest(-(x**2) - y**2)] * len(images),
    }
    drops = {"seconds": seconds, "probability": float(reasons.probabilities.mean())}
    for method, how in (("surroundings", fill), ("border", fill_with_border)):
        for name, each in masks.items():
            deleted = np.stack([how(*pair) for pair in zip(images, each, strict=True)])
            left = classifier.predict_proba(deleted)[np.arange(len(images)), codes]
            drops[f"{name}, {method}"] = float((reasons.probabilities - left).mean())
    return drops


def change_properties(classifier: SelfSupervisedClassifier, learned: dict, images: NDArray) -> dict:
    """Return the share of decisions that flip, by the place of the property that is changed."""
    probe, columns = classifier.probe_, classifier.describe(images)
    names = name_columns(classifier.encoder_, dict.fromkeys(classifier.measured_names_, ""))
    codes = np.searchsorted(classifier.classes_, learned["labels"])
    properties = PropertyShapley(
        probe, {k: name for k, (name, _) in names.items()}, codes[probe.centers_]
    )
    probabilities = probe.predict_proba(columns)
    order = np.argsort(-probabilities, axis=1)
    first, second = order[:, 0], order[:, 1]
    _, added, known = properties.explain(columns, first)
    of_labels = classifier.describe(learned["images"])[:, properties.columns_]
    medians = np.array([np.nanmedian(of_labels[codes == k], axis=0) for k in range(order.shape[1])])
    flips = np.column_stack([
        probe.predict_proba(properties.change(columns, name, medians[second, k])).argmax(1) != first
        for k, name in enumerate(properties.names_)
    ])  # fmt: skip
    places = np.take_along_axis(flips, np.argsort(-added, axis=1), axis=1).mean(axis=0)
    return {
        "flips by place": places.round(3).tolist(),
        "flips by one property": [
            properties.names_[flips.mean(axis=0).argmax()], float(flips.mean(axis=0).max()),
        ],
        "flips at random": float(flips.mean()),
        "properties": len(properties.names_),
        "probability": float(probabilities.max(axis=1).mean()),
        "probability of known": float(known.mean()),
    }  # fmt: skip


def tabulate(results: dict) -> str:
    """Return the results as a Markdown table."""
    lines = ["| | " + " | ".join(results) + " |", "| --- |" + " --- |" * len(results)]
    each = [
        {"accuracy": one["accuracy"], **one["pixels"], **one["properties"]}
        for one in results.values()
    ]
    lines += [f"| {key} | " + " | ".join(str(one[key]) for one in each) + " |" for key in each[0]]
    return "\n".join(lines)


def main() -> None:
    """Measure, and print or write the results."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("tasks", nargs="+", choices=("sdss", "efigi"))
    parser.add_argument("--encoder", action="append", default=[], metavar="TASK=FILE")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    files, results = dict(text.split("=", 1) for text in options.encoder), {}
    for name in options.tasks:
        classifier, learned, shown = fit(name, files.get(name))
        results[name] = {
            "accuracy": float(classifier.score(shown["images"], shown["labels"])),
            "properties": change_properties(classifier, learned, shown["images"]),
            "pixels": delete_pixels(classifier, shown["images"][:N_PIXELS]),
        }
    write_results(options.out, results, tabulate(results))


if __name__ == "__main__":
    main()
