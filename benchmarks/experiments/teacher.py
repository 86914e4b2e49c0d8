"""What the simulated teachers know of real stamps: with no label, with few, and against experts.

    python -m benchmarks.experiments.teacher efigi --out teacher_efigi.json
    python -m benchmarks.experiments.teacher radio
    python -m benchmarks.experiments.teacher efigi --files 1e5.safetensors 1e6.safetensors  # growth
    python -m benchmarks.experiments.teacher efigi --mistakes mistakes.png
    python -m benchmarks.experiments.teacher efigi --classifier probe --counts 30,100,300,1000

The last command also fits `SelfSupervisedClassifier` with and without teachers, on an encoder that
has learned from the training rows. No row of these surveys was used to train a teacher. Test rows
(30 %) are drawn three times; in the radio survey they lie in other cells of the sky than the
training rows.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.stats import spearmanr
from sklearn.cluster import KMeans
from sklearn.frozen import FrozenEstimator
from sklearn.metrics import adjusted_rand_score, balanced_accuracy_score, recall_score
from sklearn.model_selection import GroupShuffleSplit, train_test_split
from sklearn.preprocessing import StandardScaler

from benchmarks._results import write_results
from benchmarks._stamps import PROPERTIES, find_folder, load_task
from benchmarks.experiments.real_stamps import parse_counts
from skastro import (
    EmbeddingClusterer,
    LinearProbe,
    PropertyPretrainedEncoder,
    SelfSupervisedClassifier,
    load_folder,
    to_rgb,
)
from skastro.networks.weights import find_pretrained, read_encoder
from skastro.stamps.rgb import display_bands

TEACHERS = {"efigi": "galaxies", "radio": "radio"}
KINDS = {  # class of the survey: kind of the simulation
    "efigi": {name: name for name in ("elliptical", "lenticular", "spiral", "irregular")},
    "radio": {"Compact": "compact", "FRI": "fr1", "FRII": "fr2", "Bent": "bent"},
}
# what experts saw in EFIGI (Baillard et al. 2011), and the property of the teacher
ATTRIBUTES = {
    "inclination": "inclination", "bulge_to_total": "bulge_fraction",
    "flocculence": "flocculence", "arm_strength": "arm_strength", "perturbation": "perturbation",
    "hot_spots": "clumpiness", "visible_dust": "dust", "bar_length": "bar_length",
    "arm_curvature": "pitch_angle", "inner_ring": "ring", "outer_ring": "outer_ring",
    "arm_rotation": "winding", "multiplicity": "merging",
}  # fmt: skip
COUNTS = (30, 100, 300, 1000)
N_DRAWS = 3
N_MISTAKES = 8  # that are drawn of each class
RADIO_SIDE = 150  # pixels in the middle of the 300 of a stamp


def load_rows(task: str) -> tuple[NDArray, NDArray[np.str_], NDArray | None, pd.DataFrame]:
    """Return the stamps of a survey, their classes, groups on the sky, and the catalogue."""
    if task == "efigi":
        rows = load_task("efigi")
        return rows.images, rows.labels, None, rows.catalog
    data = load_folder(find_folder("radio"), label="class")
    cut = (data.images.shape[-1] - RADIO_SIDE) // 2
    images = np.asarray(data.images)[..., cut : cut + RADIO_SIDE, cut : cut + RADIO_SIDE]
    cells = np.floor(data.catalog["ra"]) * 1000 + np.floor(data.catalog["dec"])
    return images, np.asarray(data.target, dtype=str), cells.to_numpy(int), data.catalog


def split_rows(
    labels: NDArray, groups: NDArray | None, seed: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return training and test rows."""
    rows = np.arange(len(labels))
    if groups is None:
        return tuple(train_test_split(rows, test_size=0.3, stratify=labels, random_state=seed))
    splitter = GroupShuffleSplit(1, test_size=0.3, random_state=seed)
    return next(splitter.split(rows, labels, groups))


def score_zero_labels(
    table: pd.DataFrame, labels: NDArray, groups: NDArray | None, kinds: dict[str, str]
) -> dict[str, float]:
    """Return the balanced accuracy and recalls of the most probable kinds, over the draws."""
    classes = np.array(list(kinds))
    predicted = classes[table[list(kinds.values())].to_numpy().argmax(axis=1)]
    tests = [split_rows(labels, groups, seed)[1] for seed in range(N_DRAWS)]
    result = {
        "balanced_accuracy": np.mean(
            [balanced_accuracy_score(labels[test], predicted[test]) for test in tests]
        )
    }
    recalls = [recall_score(labels[t], predicted[t], labels=classes, average=None) for t in tests]
    return result | dict(zip(classes, np.mean(recalls, axis=0), strict=True))


def score_probe(
    embeddings: NDArray, labels: NDArray, groups: NDArray | None, repeats: int
) -> dict[int, list[float]]:
    """Return the balanced accuracy of logistic regression for each number of labels and draw."""
    scores: dict[int, list[float]] = {}
    for count in COUNTS:
        for seed in range(N_DRAWS):
            train, test = split_rows(labels, groups, seed)
            if count >= len(train):
                continue
            found = []
            for repeat in range(repeats):
                rows, _ = train_test_split(
                    train, train_size=count, stratify=labels[train], random_state=repeat
                )
                probe = LinearProbe().fit(embeddings[rows], labels[rows])
                found.append(balanced_accuracy_score(labels[test], probe.predict(embeddings[test])))
            scores.setdefault(count, []).append(float(np.mean(found)))
    return scores


def score_classifier(
    task: str, rows: tuple, options: argparse.Namespace
) -> dict[str, dict[int, list[float]]]:
    """Return the balanced accuracies of the classifier with and without teachers, of all draws."""
    images, labels, groups, catalog = rows
    names = PROPERTIES[task][0] if task in PROPERTIES else None
    scores: dict[str, dict[int, list[float]]] = {}
    for seed in range(N_DRAWS):
        train, test = split_rows(labels, groups, seed)
        properties = None if names is None else catalog[names].iloc[train]
        encoder = PropertyPretrainedEncoder(random_state=seed).fit(
            images[train], properties=properties
        )
        for count in options.counts:
            if count >= len(train):
                continue
            for repeat in range(options.repeats):
                drawn, _ = train_test_split(
                    np.arange(len(train)), train_size=count, stratify=labels[train],
                    random_state=repeat,
                )  # fmt: skip
                y = np.full(len(train), "", dtype=labels.dtype)
                y[drawn] = labels[train[drawn]]
                for name, pretrained in (("with teachers", "auto"), ("without", None)):
                    model = SelfSupervisedClassifier(
                        FrozenEstimator(encoder), strategy=options.classifier,
                        pretrained=pretrained, random_state=repeat,
                    ).fit(images[train], y)  # fmt: skip
                    score = balanced_accuracy_score(labels[test], model.predict(images[test]))
                    scores.setdefault(name, {}).setdefault(count, []).append(score)
            means = {name: np.mean(found[count]) for name, found in scores.items()}
            print(f"draw {seed}, {count} labels, means so far: {means}", flush=True)
    return scores


def score_clusters(table: pd.DataFrame, kinds: Sequence[str], labels: NDArray) -> dict[str, float]:
    """Return adjusted Rand indices of clusters, by all columns of the teacher and by its kinds."""
    every = StandardScaler().fit_transform(table.fillna(table.mean()))
    result = {}
    for name, values in (("all columns", every), ("kinds", table[list(kinds)].to_numpy())):
        means = KMeans(4, n_init=10, random_state=0).fit_predict(values)
        dense = EmbeddingClusterer(random_state=0).fit_predict(values)
        result[f"k-means on {name}"] = adjusted_rand_score(labels, means)
        result[f"HDBSCAN on {name}"] = adjusted_rand_score(labels, dense)
    return result


def rank_against_experts(table: pd.DataFrame, catalog: pd.DataFrame) -> dict[str, float]:
    """Return Spearman's correlation of each property with what experts saw."""
    result = {}
    for attribute, name in ATTRIBUTES.items():
        known = catalog[attribute].notna() & table[name].notna()
        result[attribute] = float(spearmanr(catalog[attribute][known], table[name][known])[0])
    return result


def standard_error(values: list[float]) -> float:
    """Return the standard error of the mean; subsets of one draw are taken as independent."""
    return float(np.std(values) / np.sqrt(len(values)))


def as_markdown(result: dict) -> str:
    """Return the tables of a result."""
    zero, probe = result["zero labels"], result["logistic regression"]
    lines = [
        f"{result['task']}: {result['stamps_seen']:,} simulated stamps seen, no real one.", "",
        "| labels | 0 | " + " | ".join(map(str, probe)) + " |", "| --- " * (len(probe) + 2) + "|",
        f"| balanced accuracy | {zero['balanced_accuracy']:.3f} | "
        + " | ".join(f"{np.mean(v):.3f}" for v in probe.values()) + " |", "",
        "Recall without a label: "
        + ", ".join(f"{k} {v:.2f}" for k, v in zero.items() if k != "balanced_accuracy") + ".",
        "Adjusted Rand index: "
        + ", ".join(f"{k} {v:.2f}" for k, v in result["clusters"].items()) + ".",
    ]  # fmt: skip
    for name, found in result.get("classifier", {}).items():
        cells = (f"{n}: {np.mean(v):.3f} ± {standard_error(v):.3f}" for n, v in found.items())
        lines.append(f"The classifier {name}: {', '.join(cells)}.")
    if ranks := result.get("experts"):
        lines += ["", "| seen by experts | Spearman |", "| --- | --- |"]
        lines += [f"| {name} | {value:.2f} |" for name, value in ranks.items()]
    return "\n".join(lines)


def tabulate_growth(results: list[dict]) -> str:
    """Return a table of the scores against the number of simulated stamps."""
    counts = list(results[0]["logistic regression"])
    lines = [
        "| simulated stamps | 0 labels | " + " | ".join(f"{c} labels" for c in counts) + " |",
        "| --- " * (len(counts) + 2) + "|",
    ]
    for result in results:
        cells = [result["zero labels"]["balanced_accuracy"]]
        cells += [np.mean(values) for values in result["logistic regression"].values()]
        row = " | ".join(f"{cell:.3f}" for cell in cells)
        lines.append(f"| {result['stamps_seen']:,} | {row} |")
    return "\n".join(lines)


def draw_growth(results: list[dict], path: Path) -> None:
    """Draw the scores against the number of simulated stamps."""
    figure, axes = plt.subplots(figsize=(6.0, 3.8), layout="constrained")
    seen = [result["stamps_seen"] for result in results]
    lines = {"no label": [r["zero labels"]["balanced_accuracy"] for r in results]}
    for count in results[0]["logistic regression"]:
        lines[f"{count:,} labels"] = [np.mean(r["logistic regression"][count]) for r in results]
    markers = "so^Dv"
    for (name, scores), marker in zip(lines.items(), markers, strict=False):
        axes.plot(seen, scores, marker=marker, label=name)
        axes.annotate(name, (seen[-1], scores[-1]), xytext=(8, -3), textcoords="offset points")
    axes.set_xscale("log")
    axes.set_xlim(right=seen[-1] * 2.2)
    axes.set_xlabel("simulated stamps that the teacher has seen")
    axes.set_ylabel("balanced accuracy on real galaxies")
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=150)


def draw_mistakes(
    images: NDArray, labels: NDArray, table: pd.DataFrame, kinds: dict[str, str], path: Path
) -> None:
    """Draw the stamps of each class that are taken for another one with most confidence."""
    classes = np.array(list(kinds))
    probabilities = table[list(kinds.values())].to_numpy()
    predicted, confidence = classes[probabilities.argmax(axis=1)], probabilities.max(axis=1)
    figure, axes = plt.subplots(
        len(classes), N_MISTAKES, figsize=(1.3 * N_MISTAKES, 1.6 * len(classes)),
        layout="constrained",
    )  # fmt: skip
    for name, row in zip(classes, axes, strict=True):
        wrong = np.flatnonzero((labels == name) & (predicted != name))
        worst = wrong[confidence[wrong].argsort()[::-1]][:N_MISTAKES]
        row[0].set_title(f"{name}, taken for", loc="left", fontsize=9)
        for ax in row:
            ax.axis("off")
        for ax, k in zip(row, worst, strict=False):
            picture = to_rgb(images[k : k + 1], bands=display_bands(images))
            ax.imshow(picture[0].transpose(1, 2, 0))
            ax.text(0.5, -0.02, f"{predicted[k]} {confidence[k]:.2f}", fontsize=7, ha="center",
                    va="top", transform=ax.transAxes)  # fmt: skip
    figure.savefig(path, dpi=130)


def main() -> None:
    """Score one or several files of weights on one survey."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("task", choices=TEACHERS, default="efigi", nargs="?")
    parser.add_argument(
        "--files", type=Path, nargs="+", help="weights, to compare; default: as shipped"
    )
    parser.add_argument("--repeats", type=int, default=10)
    parser.add_argument("--counts", type=parse_counts, default=COUNTS, help="of the classifier")
    parser.add_argument(
        "--classifier", choices=("probe", "auto"), help="also fit the classifier, this strategy"
    )
    parser.add_argument("--mistakes", type=Path, help="PNG to draw: what is named wrongly")
    parser.add_argument("--out", type=Path, default=None, help="JSON; Markdown goes beside it")
    parser.add_argument("--figure", type=Path, default=None, help="of several files: PNG to draw")
    options = parser.parse_args()

    images, labels, groups, catalog = load_rows(options.task)
    results = []
    for path in options.files or [find_pretrained(TEACHERS[options.task])]:
        teacher = PropertyPretrainedEncoder.load(path)
        embeddings = teacher.transform(images)
        table = teacher.predict_embedded(embeddings)
        result = {
            "task": options.task,
            "stamps_seen": read_encoder(path)[1]["card"]["n_stamps"],
            "zero labels": score_zero_labels(table, labels, groups, KINDS[options.task]),
            "logistic regression": score_probe(embeddings, labels, groups, options.repeats),
            "clusters": score_clusters(table, teacher.targets_.kinds, labels),
        }
        if options.task == "efigi":
            result["experts"] = rank_against_experts(table, catalog)
        results.append(result)
    if options.mistakes:
        draw_mistakes(images, labels, table, KINDS[options.task], options.mistakes)
    if options.classifier:
        rows = (images, labels, groups, catalog)
        results[-1]["classifier"] = score_classifier(options.task, rows, options)
    text = as_markdown(results[-1])
    if len(results) > 1:
        text = f"{tabulate_growth(results)}\n\n{text}"
    write_results(options.out, results, text)
    if options.figure:
        draw_growth(results, options.figure)


if __name__ == "__main__":
    main()
