"""Measure how many labels one method saves against another."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from skastro.evaluation.label_efficiency import (
    LabelEfficiencyCurve,
    find_independent_unit,
    select_metric,
)


def label_saving(
    curve: LabelEfficiencyCurve,
    method: str,
    baseline: str,
    *,
    metric: str | None = None,
    n_bootstrap: int = 1000,
    confidence: float = 0.95,
    random_state: int | None = 0,
) -> pd.DataFrame:
    """How many times fewer labels a method needs for the score a baseline reaches.

    Both mean curves are made monotone (running maximum) and read off linearly in the logarithm
    of the number of labels. The saving is the ratio of the fewest labels at which either
    reaches the baseline's score, so that a curve saves nothing over itself, not even where it
    is flat.

    Parameters
    ----------
    curve : LabelEfficiencyCurve
        Both estimators must have the same runs, without NaN scores.
    method, baseline : str
        Names of estimators.
    metric : str, default=None
        None takes the first.
    n_bootstrap : int, default=1000
        Resamples of the runs, the same for both since they share their label subsets.
    confidence : float in (0, 1), default=0.95
        Probability content of the percentile interval.
    random_state : int or None, default=0
        Seed of the bootstrap.

    Returns
    -------
    saving : DataFrame
        One row for each label count of the baseline: ``n_labels``, ``baseline_score``,
        ``method_labels``, ``saving``, ``low``, ``high`` and ``bound``. ``bound`` is ``"="``
        inside the measured range; ``">="`` if the method's fewest labels do better already, the
        saving being at least what is given; ``"<="`` if its most labels do not suffice.
        Resamples outside the range count as unbounded: ``high`` can be infinite and ``low`` 0.
        Both are NaN with a single run.

    Raises
    ------
    ValueError
        Unknown names, runs that only one of the two has, or NaN scores.

    Notes
    -----
    What is resampled is what `LabelEfficiencyCurve.summary` averages: repeats on one test
    split, whole splits where there are several. Five of them make a rough interval that
    tends to be too narrow.

    Examples
    --------
    >>> import pandas as pd
    >>> scores = pd.DataFrame({
    ...     "estimator": ["probe", "probe", "scratch", "scratch"], "n_labels": [10, 100, 10, 100],
    ...     "split": 0, "repeat": 0, "metric": "accuracy", "score": [0.6, 0.8, 0.4, 0.7],
    ... })
    >>> curve = LabelEfficiencyCurve.from_scores(scores)
    >>> label_saving(curve, "probe", "scratch")[["n_labels", "method_labels", "saving", "bound"]]
       n_labels  method_labels  saving bound
    0        10         10.000   1.000    >=
    1       100         31.623   3.162     =
    """
    scores = select_metric(curve, metric)
    wide = {name: _units_by_count(curve, scores, name) for name in (method, baseline)}
    ours, theirs = wide[method], wide[baseline]
    if not ours.index.equals(theirs.index):
        raise ValueError(
            f"curve has different runs of {method!r} and {baseline!r}: score both on the same ones."
        )
    mean = _savings(ours, theirs, np.full(len(ours), 1 / len(ours)))
    rng = np.random.default_rng(random_state)
    draws = rng.multinomial(len(ours), np.full(len(ours), 1 / len(ours)), size=n_bootstrap)
    low, high = _bootstrap_interval(ours, theirs, draws / len(ours), confidence)
    return pd.DataFrame(
        {
            "n_labels": theirs.columns.to_numpy(),
            "baseline_score": theirs.mean().to_numpy(),
            "method_labels": mean.method_labels,
            "saving": mean.saving,
            "low": low,
            "high": high,
            "bound": np.array(["<=", "=", ">="])[mean.side + 1],
        }
    )


class _Savings(NamedTuple):
    method_labels: NDArray[np.float64]
    saving: NDArray[np.float64]
    side: NDArray[np.intp]  # 1: the saving is at least this, -1: at most


def _units_by_count(curve: LabelEfficiencyCurve, scores: pd.DataFrame, name: str) -> pd.DataFrame:
    if name not in curve.estimators:
        raise ValueError(f"{name!r} is not in the curve: choose from {curve.estimators}.")
    runs = scores[scores["estimator"] == name]
    table = runs.pivot(index=["split", "repeat"], columns="n_labels", values="score")
    if table.isna().to_numpy().any():
        raise ValueError(f"curve lacks a score of {name!r}: a run is missing or its score is NaN.")
    return table.groupby(level=find_independent_unit(curve)).mean()


def _savings(ours: pd.DataFrame, theirs: pd.DataFrame, weights: NDArray[Any]) -> _Savings:
    method, baseline = (
        np.maximum.accumulate(weights @ table.to_numpy()) for table in (ours, theirs)
    )
    needed = [_fewest_labels(ours.columns, method, score) for score in baseline]
    had = np.array([_fewest_labels(theirs.columns, baseline, score)[0] for score in baseline])
    labels = np.array([n for n, _ in needed])
    return _Savings(labels, had / labels, np.array([side for _, side in needed]))


def _fewest_labels(counts: pd.Index, reached: NDArray[Any], score: float) -> tuple[float, int]:
    at = int(np.searchsorted(reached, score))
    if at == len(counts):
        return float(counts[-1]), -1
    if at == 0:
        return float(counts[0]), int(reached[0] > score)
    share = (score - reached[at - 1]) / (reached[at] - reached[at - 1])
    return float(counts[at - 1] * (counts[at] / counts[at - 1]) ** share), 0


def _bootstrap_interval(
    ours: pd.DataFrame, theirs: pd.DataFrame, weights: NDArray[Any], confidence: float
) -> tuple[NDArray[Any], NDArray[Any]]:
    if len(ours) < 2:
        return np.full(theirs.shape[1], np.nan), np.full(theirs.shape[1], np.nan)
    resampled = [_savings(ours, theirs, weight) for weight in weights]
    saving = np.array([each.saving for each in resampled])
    side = np.array([each.side for each in resampled])
    # a bound says nothing about its open end
    at_least, at_most = np.where(side < 0, 0.0, saving), np.where(side > 0, np.inf, saving)
    tail = (1 - confidence) / 2
    # order statistics: interpolating towards infinity would give NaN
    return (
        np.quantile(at_least, tail, axis=0, method="lower"),
        np.quantile(at_most, 1 - tail, axis=0, method="higher"),
    )
