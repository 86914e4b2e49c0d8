"""A number from few known values: the regression of `SelfSupervisedRegressor` against others.

    python -m benchmarks.experiments.regression efigi:log_r25 efigi:redshift sdss:redshift \
        --encoder sdss=encoder.safetensors --out regression.json

For each draw of the test rows (30 %), subsets of the other values are learned from, and R2, scatter
(sigma_NMAD) and the share of outliers are measured on the test rows, with the coverage of the 90 %
intervals. The columns of all stamps are computed once, by a frozen encoder: that of ``--encoder``,
or the weights ``galaxies`` of skastro, which have seen no real stamp. No value to predict is a
target of either: a saved encoder of SDSS must have learned magnitudes only, as `skastro pretrain`
with ``--properties 'mag_*'`` does.

The forest learns from the properties that `measure_properties` measures. ``--estimators network``
trains the network of the classifier on the values alone, from random weights, which is slow.

SDSS ``redshift`` is that of extended sources. Point sources are quasars and stars, whose redshift
is a matter of their colours alone: ``sdss:redshift:point`` takes these.
"""

from __future__ import annotations

import argparse
import warnings
from collections.abc import Iterator
from functools import cache
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import stats
from sklearn.base import clone
from sklearn.ensemble import RandomForestRegressor
from sklearn.frozen import FrozenEstimator
from sklearn.impute import SimpleImputer
from sklearn.metrics import r2_score
from sklearn.pipeline import make_pipeline

from benchmarks._results import write_results
from benchmarks._stamps import load_task
from skastro import (
    PropertyPretrainedEncoder,
    SelfSupervisedRegressor,
    load_pretrained,
    measure_properties,
)
from skastro.utils.scoring import measure_outliers, measure_scatter

KINDS = {"point": "star", "extended": "galaxy"}
STEPS = 30  # of the network, times the root of the number of values, as of the classifier


def draw_rows(
    rows: NDArray, seed: int, counts: list[int], repeats: int
) -> Iterator[tuple[int, NDArray, NDArray]]:
    """Yield numbers of values, rows to learn from and test rows of a draw."""
    order = np.random.default_rng(seed).permutation(rows)
    n_test = round(0.3 * len(order))
    for count in counts:
        for repeat in range(repeats):
            drawn = np.random.default_rng([seed, repeat]).permutation(order[n_test:])
            yield count, drawn[:count], order[:n_test]


def grade(y: NDArray, predicted: NDArray) -> dict[str, float]:
    """Return R2, scatter and share of outliers."""
    return {
        "r2": float(r2_score(y, predicted)),
        "scatter": measure_scatter(y, predicted),
        "outliers": measure_outliers(y, predicted),
    }


def train_network(images: NDArray, y: NDArray, seed: int) -> PropertyPretrainedEncoder:
    """Train a network on the values alone, for as many steps as a classifier would."""
    steps = int(np.clip(STEPS * np.sqrt(len(y)), 150, 1400))
    epochs = -(-steps // -(-len(y) // 32))
    model = PropertyPretrainedEncoder(batch_size=32, max_epochs=epochs, random_state=seed)
    return model.fit(images, y.astype(float))


@cache
def describe_stamps(survey: str, path: str | None) -> tuple[Any, NDArray, pd.DataFrame]:
    """Return an unfitted regression, its columns of all stamps, and their measured properties."""
    images = load_task(survey).images
    encoder = PropertyPretrainedEncoder.load(path) if path else load_pretrained("galaxies")
    model = SelfSupervisedRegressor(FrozenEstimator(encoder), random_state=0)
    # any values serve: the sizes and the odds of teachers depend on the stamps alone
    values = np.where(np.arange(len(images)) % 30 == 0, np.arange(len(images)) / 7, np.nan)
    model.fit(images, values)
    return clone(model.probe_), model.describe(images), measure_properties(images)


def measure_target(options: argparse.Namespace, name: str) -> dict[str, dict[int, list[dict]]]:
    """Return the grades of each estimator for each number of values, over draws and repeats."""
    survey, column, *kind = name.split(":")
    task = load_task(survey)
    y = pd.to_numeric(task.catalog[column], errors="coerce").to_numpy(dtype=float)
    known = np.isfinite(y)
    if survey == "sdss":
        known &= (task.catalog["phot_type"] == KINDS[(kind or ["extended"])[0]]).to_numpy()
    rows = np.flatnonzero(known)
    path = dict(pair.split("=") for pair in options.encoder).get(survey)
    images, values = task.images[rows], y[rows]
    if {"regressor", "forest"} & set(options.estimators):
        probe, columns, measured = describe_stamps(survey, path)
        columns, measured = columns[rows], measured.iloc[rows]
    forest = make_pipeline(SimpleImputer(), RandomForestRegressor(500, random_state=0))
    found: dict[str, dict[int, list[dict]]] = {each: {} for each in options.estimators}
    draws = [
        (seed, *drawn)
        for seed in options.splits
        for drawn in draw_rows(np.arange(len(rows)), seed, options.counts, options.repeats)
    ]
    for estimator, (seed, count, learn, test) in product(options.estimators, draws):
        coverage = {}
        if estimator == "regressor":
            model = clone(probe).fit(columns[learn], values[learn])
            predicted, std = model.predict(columns[test], return_std=True)
            errors = np.abs(predicted - values[test])
            coverage["coverage"] = float((errors <= model.interval_factor(0.9) * std).mean())
        elif estimator == "forest":
            forest.fit(measured.iloc[learn], values[learn])
            predicted = forest.predict(measured.iloc[test])
        else:
            network = train_network(images[learn], values[learn], seed)
            predicted = network.predict(images[test]).to_numpy()[:, 0]
        run = grade(values[test], predicted) | coverage | {"seed": seed}
        found[estimator].setdefault(count, []).append(run)
        if options.verbose:
            print(name, estimator, count, run, flush=True)
    return found


def tabulate(results: dict[str, dict[str, dict[int, list[dict]]]]) -> str:
    """Return a Markdown table of means over draws, with 95 % intervals of R2."""
    lines = [
        "| target | estimator | values | R2 | scatter | outliers | 90 % intervals hold |",
        "| --- | --- | ---: | ---: | ---: | ---: | ---: |",
    ]
    for target, estimators in results.items():
        for estimator, counts in estimators.items():
            for count, runs in counts.items():
                draws = pd.DataFrame(runs).groupby("seed").mean()
                means, n = draws.mean(), len(draws)
                r2 = f"{means['r2']:.3f}"
                if n > 1:
                    half = stats.t.ppf(0.975, n - 1) * draws["r2"].std() / np.sqrt(n)
                    r2 += f" \N{PLUS-MINUS SIGN} {half:.3f}"
                held = f"{means['coverage']:.3f}" if "coverage" in means else ""
                lines.append(
                    f"| {target} | {estimator} | {count} | {r2} | {means['scatter']:.4f} | "
                    f"{means['outliers']:.1%} | {held} |"
                )
    return "\n".join(lines)


def main() -> None:
    """Measure each target."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("targets", nargs="+", help="SURVEY:COLUMN, or sdss:COLUMN:point")
    parser.add_argument("--encoder", action="append", default=[], help="SURVEY=FILE")
    parser.add_argument("--counts", type=int, nargs="+", default=[30, 100, 300])
    parser.add_argument("--splits", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--estimators", nargs="+", default=["regressor", "forest"])
    parser.add_argument("--verbose", action="store_true")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    warnings.simplefilter("ignore", UserWarning)
    results = {name: measure_target(options, name) for name in options.targets}
    write_results(options.out, results, tabulate(results))


if __name__ == "__main__":
    main()
