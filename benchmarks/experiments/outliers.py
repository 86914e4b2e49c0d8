"""Average precision of outlier scores, for oddities that were put into real stamps.

    python -m benchmarks.experiments.outliers --out outliers.json
    python -m benchmarks.experiments.outliers sdss --share 0.002 --seeds 10,11,12

One stamp in a hundred becomes an oddity of each kind, the encoder is pretrained on all of them
without labels, and each score ranks the embeddings. The table has the average precision (1 if all
oddities come first; chance is their share) of each kind among the unchanged stamps, and of all
kinds together. The stamps have oddities of their own, such as trails and spikes of bright stars,
which count as mistakes. `outlier_scores` was chosen on the seeds 0 to 2; the others are for the
report.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import ndimage, stats
from sklearn.covariance import LedoitWolf
from sklearn.decomposition import PCA
from sklearn.ensemble import IsolationForest
from sklearn.metrics import average_precision_score
from sklearn.neighbors import LocalOutlierFactor, NearestNeighbors

from benchmarks._results import write_results
from benchmarks._stamps import find_folder
from benchmarks.experiments.real_stamps import parse_counts
from skastro import (
    EmbeddingClusterer,
    PropertyPretrainedEncoder,
    load_folder,
    outlier_scores,
    to_rgb,
)
from skastro.stamps.scaling import measure_sky

Stamp = NDArray[np.floating]
BEFORE = "HDBSCAN (GLOSH) on 5 UMAP columns"
AFTER = "outlier_scores"
EFIGI_SIZE = 44  # pixels: half of the stamps' size, to save time


class Scene(NamedTuple):
    """What an oddity is made of, besides the stamp."""

    noise: Stamp  # of the sky in each band
    other: Stamp  # stamp of another object
    rng: np.random.Generator


def add_trail(stamp: Stamp, scene: Scene) -> Stamp:
    """Draw the trail of a satellite through one band, of 10 to 50 times the sky noise."""
    y, x = np.indices(stamp.shape[1:]) - (np.array(stamp.shape[1:])[:, None, None] - 1) / 2
    angle, offset = scene.rng.uniform(0, np.pi), scene.rng.uniform(-0.3, 0.3) * stamp.shape[1]
    distance = x * np.cos(angle) + y * np.sin(angle) - offset
    band = scene.rng.integers(len(stamp))
    stamp[band] += scene.rng.uniform(10, 50) * scene.noise[band] * np.exp(-(distance**2) / 2)
    return stamp


def add_blend(stamp: Stamp, scene: Scene) -> Stamp:
    """Add another object, a fifth of the stamp's size away."""
    angle, reach = scene.rng.uniform(0, 2 * np.pi), 0.2 * stamp.shape[1]
    return stamp + ndimage.shift(
        scene.other, (0, reach * np.sin(angle), reach * np.cos(angle)), order=1
    )


def saturate(stamp: Stamp, scene: Scene) -> Stamp:
    """Brighten the object 20 to 100 times, and clip it; charge bleeds along the columns."""
    stamp = np.maximum(stamp, 0) * scene.rng.uniform(20, 100)
    level = 0.3 * stamp.max(axis=(1, 2), keepdims=True)
    full = stamp > level
    bleeding = ndimage.binary_dilation(full, np.ones((1, stamp.shape[1] | 1, 1)))
    bleeding &= full.sum(axis=1, keepdims=True) > 2  # only the columns of the core
    return np.where(full | bleeding, level, stamp)


def zoom_stamp(stamp: Stamp, scene: Scene) -> Stamp:
    """Change the pixel scale by a factor of two, either way; new borders hold sky and noise."""
    side = stamp.shape[1]
    if scene.rng.random() < 0.5:
        cut = slice(side // 4, side // 4 + side // 2)
        return ndimage.zoom(stamp[:, cut, cut], (1, 2, 2), order=1)
    border = (side - side // 2) // 2
    sky = np.median(stamp[:, :2], axis=(1, 2), keepdims=True)
    wide = sky + scene.noise[:, None, None] * scene.rng.normal(size=stamp.shape)
    inside = slice(border, border + side // 2)
    wide[:, inside, inside] = ndimage.zoom(stamp, (1, 0.5, 0.5), order=1)
    return wide


def kill_band(stamp: Stamp, scene: Scene) -> Stamp:
    """Set one band to zero."""
    stamp[scene.rng.integers(len(stamp))] = 0
    return stamp


def add_cosmic_rays(stamp: Stamp, scene: Scene) -> Stamp:
    """Add 10 to 30 short tracks of 20 to 100 times the sky noise, each in one band."""
    for _ in range(scene.rng.integers(10, 31)):
        band, (y, x) = scene.rng.integers(len(stamp)), scene.rng.uniform(0, stamp.shape[1], 2)
        angle, steps = scene.rng.uniform(0, np.pi), np.arange(scene.rng.integers(1, 6))
        ys = (y + steps * np.sin(angle)).astype(int).clip(0, stamp.shape[1] - 1)
        xs = (x + steps * np.cos(angle)).astype(int).clip(0, stamp.shape[2] - 1)
        stamp[band, ys, xs] += scene.rng.uniform(20, 100) * scene.noise[band]
    return stamp


def replace(_: Stamp, scene: Scene) -> Stamp:
    """Take a stamp of another survey in its place."""
    return scene.other


ODDITIES: dict[str, Callable[..., Stamp]] = {
    "satellite trail": add_trail,
    "blend": add_blend,
    "saturated": saturate,
    "wrong pixel scale": zoom_stamp,
    "other survey": replace,
    "dead band": kill_band,
    "cosmic rays": add_cosmic_rays,
}


def read_stamps(name: str) -> NDArray[Any]:
    """Read all stamps of a survey; those of EFIGI become smaller."""
    images = np.asarray(load_folder(find_folder(name)).images)
    if name == "sdss":
        return images.astype(np.float32)
    side = images.shape[2] // EFIGI_SIZE
    blocks = images.reshape(*images.shape[:2], EFIGI_SIZE, side, EFIGI_SIZE, side)
    return blocks.mean(axis=(3, 5)).round().astype(np.uint8)


def adapt(foreign: NDArray[Any], name: str, noise: Stamp, rng: np.random.Generator) -> Stamp:
    """Bring stamps of the other survey to the bands, the size and the noise level of this one."""
    if name == "efigi":
        pictures = to_rgb(foreign, bands=(3, 2, 1), color_smoothing=0)
        return resize(pictures.astype(np.float32), EFIGI_SIZE)
    ugriz = resize(foreign[:, [2, 2, 1, 0, 0]].astype(np.float32), 32)
    return noise[:, None, None] * (ugriz + rng.normal(size=ugriz.shape))


def resize(stamps: Stamp, side: int) -> Stamp:
    """Resample stamps to a number of pixels."""
    scale = side / stamps.shape[2]
    return ndimage.zoom(stamps, (1, 1, scale, scale), order=1)


def contaminate(
    name: str, stamps: NDArray[Any], foreign: NDArray[Any], options: argparse.Namespace, seed: int
) -> tuple[NDArray[Any], NDArray[np.str_]]:
    """Draw stamps and turn some into oddities; return them, and their kinds ("" is unchanged)."""
    rng = np.random.default_rng(seed)
    drawn = stamps[rng.choice(len(stamps), min(options.stamps, len(stamps)), replace=False)]
    images, kinds = drawn.astype(np.float32), np.full(len(drawn), "", dtype="U20")
    _, noise = measure_sky(images)
    count = max(2, round(options.share * len(images)))
    rows = rng.choice(len(images), (len(ODDITIES), count), replace=False)
    for (kind, change), some in zip(ODDITIES.items(), rows, strict=True):
        others = drawn[rng.choice(len(drawn), count)].astype(np.float32)
        if change is replace:
            drawn_there = foreign[rng.choice(len(foreign), count, replace=False)]
            others = adapt(drawn_there, name, noise, rng)
        for row, other in zip(some, others, strict=True):
            images[row] = change(images[row].copy(), Scene(noise, other, rng))
        kinds[some] = kind
    if stamps.dtype == np.uint8:
        images = images.round().clip(0, 255).astype(np.uint8)
    return images, kinds


def mean_rank(*scores: NDArray[Any]) -> NDArray[Any]:
    """Mix several scores by their mean rank."""
    return np.mean([stats.rankdata(score) for score in scores], axis=0)


def distance(E: NDArray[Any], k: int, **params: Any) -> NDArray[Any]:
    """Return the mean distance of each row to its k nearest neighbours."""
    return NearestNeighbors(n_neighbors=k, **params).fit(E).kneighbors()[0].mean(axis=1)


def score(E: NDArray[Any], seed: int) -> dict[str, NDArray[Any]]:
    """Return all scores of embeddings by name; large values are odd."""
    scores = {BEFORE: glosh(E, seed), AFTER: outlier_scores(E)}
    for k in (5, 10, 20, 50):
        scores[f"distance to {k} neighbours"] = distance(E, k)
    scores["distance to 20 neighbours, by cosine"] = distance(E, 20, metric="cosine")
    for k in (20, 50):
        scores[f"local outlier factor, {k} neighbours"] = lof(E, k)
    for columns in (10, 20, 50):
        white = PCA(columns, whiten=True, random_state=seed).fit_transform(E)
        scores[f"distance to 30 neighbours, {columns} scaled components"] = distance(white, 30)
        scores[f"local outlier factor, 30 neighbours, {columns} scaled components"] = lof(white, 30)
    scores["isolation forest"] = -IsolationForest(random_state=seed).fit(E).score_samples(E)
    scores["Mahalanobis distance"] = LedoitWolf().fit(E).mahalanobis(E)
    near = scores["distance to 20 neighbours"]
    for other in (BEFORE, AFTER, "isolation forest", "Mahalanobis distance"):
        name = f"mean rank of distance to 20 neighbours and {other}"
        scores[name] = mean_rank(near, scores[other])
    return scores


def glosh(E: NDArray[Any], seed: int) -> NDArray[Any]:
    """Return HDBSCAN's own outlier score."""
    return np.nan_to_num(EmbeddingClusterer(random_state=seed).fit(E).model_.outlier_scores_)


def lof(E: NDArray[Any], k: int) -> NDArray[Any]:
    """Return local outlier factors."""
    return -LocalOutlierFactor(n_neighbors=k).fit(E).negative_outlier_factor_


def grade(scores: dict[str, NDArray[Any]], kinds: NDArray[np.str_]) -> pd.DataFrame:
    """Return the average precision of each score (rows) for each kind and for all (columns)."""
    odd = kinds != ""
    table = {}
    for name, values in scores.items():
        row = {}
        for kind in ODDITIES:
            some = (kinds == kind) | ~odd
            row[kind] = average_precision_score(kinds[some] == kind, values[some])
        row["mean of kinds"] = np.mean(list(row.values()))
        row["all kinds"] = average_precision_score(odd, values)
        table[name] = row
    return pd.DataFrame(table).T


def embed(
    name: str, seed: int, stamps: dict[str, NDArray[Any]], options: argparse.Namespace
) -> tuple[NDArray[Any], NDArray[np.str_]]:
    """Return embeddings of contaminated stamps and their kinds, computed or kept from before."""
    kept = options.keep and options.keep / f"{name}-{seed}.npz"
    if kept and kept.exists():
        with np.load(kept) as file:
            return file["embeddings"], file["kinds"]
    foreign = stamps["efigi" if name == "sdss" else "sdss"]
    images, kinds = contaminate(name, stamps[name], foreign, options, seed)
    encoder = PropertyPretrainedEncoder(
        options.backbone, max_epochs=options.epochs, random_state=seed
    )
    embeddings = encoder.fit_transform(images)
    if kept:
        np.savez(kept, embeddings=embeddings, kinds=kinds)
    return embeddings, kinds


def tabulate(grades: list[pd.DataFrame]) -> str:
    """Return a Markdown table of the mean over seeds, with the 95 % interval of the last column."""
    mean = sum(grades) / len(grades)
    lines = [f"| | {' | '.join(mean.columns)} |", "| --- " * (len(mean.columns) + 1) + "|"]
    for name, row in mean.iterrows():
        cells = [f"{value:.2f}" for value in row]
        if len(grades) > 1:
            last = [table.loc[name].iloc[-1] for table in grades]
            cells[-1] += f" ± {stats.t.ppf(0.975, len(last) - 1) * stats.sem(last):.2f}"
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    """Contaminate, embed, score and grade each survey with each seed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("tasks", nargs="*", default=["sdss", "efigi"], help="sdss, efigi or both")
    parser.add_argument("--seeds", type=parse_counts, default="10,11,12,13,14")
    parser.add_argument("--stamps", type=int, default=1500, help="of each survey, drawn at random")
    parser.add_argument("--share", type=float, default=0.01, help="of each kind of oddity")
    parser.add_argument("--backbone", default="stamp_resnet10")
    parser.add_argument("--epochs", type=int, default=None, help="of the pretext")
    parser.add_argument("--keep", type=Path, default=None, help="folder to keep embeddings in")
    parser.add_argument("--out", type=Path, default=None, help="JSON; Markdown goes beside it")
    options = parser.parse_args()

    stamps = {name: read_stamps(name) for name in ("sdss", "efigi")}
    result: dict[str, Any] = {}
    texts = []
    for name in options.tasks:
        grades = []
        for seed in options.seeds:
            embeddings, kinds = embed(name, seed, stamps, options)
            grades.append(grade(score(embeddings, seed), kinds))
            print(f"  {name}, seed {seed}", flush=True)
        texts.append(f"{name}\n\n{tabulate(grades)}")
        result[name] = [grades_of_seed.to_dict("index") for grades_of_seed in grades]
    write_results(options.out, result, "\n\n".join(texts))


if __name__ == "__main__":
    main()
