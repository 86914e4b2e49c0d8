"""The gain of more stamps, human labels or ImageNet's weights in the pretraining on EFIGI.

    python -m benchmarks.experiments.pools --splits 1,2 --out pools.json
    python -m benchmarks.experiments.pools --rows "EFIGI alone;pool first" --repeats 20

All rows share test rows, label subsets and probes. The pool, `sdss_pool`, is 9,700 unlabelled
colour stamps of stars and galaxies: their middle 44 pixels,
doubled to EFIGI's 88, which the stamp backbones halve. Targets are what is measured in the pixels,
and for EFIGI its catalogue. The visual attributes are human labels: how far targets can go. The
ImageNet rows need `skastro[imagenet]`; each is also combined with the first.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import stats
from sklearn.metrics import balanced_accuracy_score

import skastro
from benchmarks._results import write_results
from benchmarks._stamps import Task, find_folder, label_subsets
from benchmarks.experiments._arms import load_some, make_parser, rows_of, standardised
from benchmarks.experiments.imagenet import embed, make_inputs
from benchmarks.experiments.property_sets import ATTRIBUTES
from benchmarks.experiments.real_stamps import fit_encoder
from skastro import KernelProbe, LinearProbe, PropertyPretrainedEncoder

ALONE = "EFIGI alone"  # the reference
BESIDE = ("ImageNet-initialised", "ImageNet, frozen")  # rows to join with the reference, too
PROBES = {"kernel": "Embedding and properties, `KernelProbe`", "linear": "`LinearProbe`"}
Scores = dict[str, dict[int, list[float]]]


def read_pool(most: int | None) -> NDArray[np.uint8]:
    """Return the middles of the stamps of the pool, each pixel doubled: (n, 3, 88, 88)."""
    stamps = np.asarray(skastro.load_folder(find_folder("sdss_pool")).images[:most])
    return stamps[:, :, 10:54, 10:54].repeat(2, axis=2).repeat(2, axis=3)


def fit_alone(task: Task, options: argparse.Namespace) -> PropertyPretrainedEncoder:
    """Pretrain as by default."""
    return fit_encoder(task, untrained=False, max_epochs=options.epochs)


def fit_with_pool(task: Task, options: argparse.Namespace) -> PropertyPretrainedEncoder:
    """Pretrain on the training rows and the pool together, mixed."""
    pool = read_pool(options.stamps)
    known = task.properties.iloc[task.train]
    unknown = pd.DataFrame(np.nan, index=range(len(pool)), columns=known.columns)
    return PropertyPretrainedEncoder(
        targets="catalog+measured", max_epochs=options.pool_epochs, random_state=0
    ).fit(
        np.concatenate([task.images[task.train], pool]),
        properties=pd.concat([known, unknown], ignore_index=True),
    )


def fit_pool_first(task: Task, options: argparse.Namespace) -> PropertyPretrainedEncoder:
    """Pretrain on the pool, and from there on the training rows."""
    with tempfile.TemporaryDirectory() as folder:
        first = Path(folder) / "pool.safetensors"
        PropertyPretrainedEncoder(
            targets="measured", max_epochs=options.pool_epochs, random_state=0
        ).fit(read_pool(options.stamps)).save(first)
        return fit_encoder(task, untrained=False, weights=first, max_epochs=options.epochs)


def fit_attributes(task: Task, options: argparse.Namespace) -> PropertyPretrainedEncoder:
    """Pretrain on the experts' visual attributes beside the usual targets."""
    both = pd.concat([task.properties, task.catalog[ATTRIBUTES]], axis=1)
    return fit_alone(task._replace(properties=both), options)


def fit_imagenet(task: Task, options: argparse.Namespace) -> PropertyPretrainedEncoder:
    """Fine-tune EfficientNet-Lite0, from ImageNet's weights, on the usual targets at 128 pixels."""
    lite0 = {"backbone": "tf_efficientnet_lite0", "weights": "imagenet", "learning_rate": 5e-4}
    return fit_encoder(task, untrained=False, max_epochs=options.imagenet_epochs, **lite0)


def embed_frozen(task: Task, options: argparse.Namespace) -> NDArray[np.float32]:
    """Return the features of four stages of EfficientNet-Lite0, of one view, as they are."""
    pixels, scaling = make_inputs(task)["RGB"]
    return embed(pixels, scaling, options.imagenet_side, views=False)


ROWS: dict[str, Callable[[Task, argparse.Namespace], PropertyPretrainedEncoder | NDArray]] = {
    ALONE: fit_alone,
    "with sdss_pool": fit_with_pool,
    "pool first": fit_pool_first,
    "attributes (human labels)": fit_attributes,
    "ImageNet-initialised": fit_imagenet,
    "ImageNet, frozen": embed_frozen,
}


def represent(found: PropertyPretrainedEncoder | NDArray, task: Task) -> tuple[NDArray, NDArray]:
    """Return embeddings, standardised on EFIGI's training rows, and predicted properties."""
    if isinstance(found, np.ndarray):
        return standardised(found, task.train), np.empty((len(found), 0))
    embeddings = found.transform(task.images)
    predicted = found.predict_embedded(embeddings).to_numpy()
    return standardised(embeddings, task.train), predicted


def join(*parts: tuple[NDArray, NDArray]) -> tuple[NDArray, NDArray]:
    """Set representations side by side, each of the same length whatever its width."""
    embeddings = [each / np.sqrt(each.shape[1]) for each, _ in parts]
    width = np.sqrt(sum(each.shape[1] for each, _ in parts) / len(parts))
    return width * np.hstack(embeddings), np.hstack([predicted for _, predicted in parts])


def score(
    task: Task, seen: tuple[NDArray, NDArray], measured: NDArray, options: argparse.Namespace
) -> Scores:
    """Return the test scores of both probes, for each label subset."""
    embeddings, predicted = seen
    known = np.hstack([predicted, measured])
    probes = {
        "kernel": (KernelProbe(known.shape[1]), np.hstack([embeddings, known])),
        "linear": (LinearProbe(), embeddings),
    }
    found: Scores = {name: {} for name in probes}
    for count in options.counts:
        subsets = label_subsets(task, count, options.repeats)
        for name, (probe, columns) in probes.items():
            found[name][count] = []
            for rows in subsets:
                guess = probe.fit(columns[rows], task.labels[rows]).predict(columns[task.test])
                found[name][count].append(balanced_accuracy_score(task.labels[task.test], guess))
    return found


def score_split(
    options: argparse.Namespace, split: int
) -> tuple[dict[str, Scores], dict[str, float]]:
    """Return the scores of each row on one draw of the test rows, and the seconds it took."""
    task = load_some("efigi", split, options.stamps)
    measured = skastro.measure_properties(task.images).to_numpy()
    scores, seconds, seen = {}, {}, {}
    for name in options.rows:
        start = time.perf_counter()
        seen[name] = represent(ROWS[name](task, options), task)
        seconds[name] = time.perf_counter() - start
        scores[name] = score(task, seen[name], measured, options)
        print(f"  {name}, split {split}: {seconds[name]:.0f} s", flush=True)
        if name in BESIDE and ALONE in seen:
            both = join(seen[ALONE], seen[name])
            scores[f"{name}, beside the first"] = score(task, both, measured, options)
    return scores, seconds


def tabulate(found: list[dict[str, Scores]], counts: list[int], probe: str) -> str:
    """Return a Markdown table: means of the draws, and the paired difference to the first row."""
    lines = ["| | " + " | ".join(map(str, counts)) + " |", "| --- " * (len(counts) + 1) + "|"]
    reference = next(iter(found[0]))
    for name in found[0]:
        cells = []
        for count in counts:
            ours, theirs = (
                np.concatenate([scores[row][probe][count] for scores in found])
                for row in (name, reference)
            )
            cell = f"{ours.mean():.3f}"
            if name != reference:
                gain = ours - theirs
                reach = stats.t.ppf(0.975, len(gain) - 1) * stats.sem(gain) if len(gain) > 1 else 0
                cell += f" ({gain.mean():+.3f} ± {reach:.3f})"
            cells.append(cell)
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main() -> None:
    """Run all rows on the same splits, print tables and write them."""
    parser = make_parser(__doc__)
    text = "the first is the reference"
    parser.add_argument("--rows", type=rows_of(ROWS), default=";".join(ROWS), help=text)
    parser.add_argument("--epochs", type=int, default=None, help="on EFIGI; None is the default's")
    parser.add_argument("--pool-epochs", type=int, default=None, help="on the pool, or both")
    parser.add_argument("--imagenet-epochs", type=int, default=4)
    parser.add_argument("--imagenet-side", type=int, default=224, help="pixels, of the frozen")
    options = parser.parse_args()

    found, seconds = [], []
    for split in options.splits:
        scores, took = score_split(options, split)
        found.append(scores)
        seconds.append(took)
        result = {"settings": vars(options) | {"out": None}, "seconds": seconds, "splits": found}
        tables = [f"{title}\n\n{tabulate(found, options.counts, p)}" for p, title in PROBES.items()]
        write_results(options.out, result, "\n\n".join(tables))


if __name__ == "__main__":
    main()
