"""Measure how many labels one method saves compared with another."""

from __future__ import annotations

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
    """Return how many times fewer labels a method needs to reach the score of a baseline.

    Both mean curves are made monotone (running maximum) and interpolated linearly in the
    logarithm of the number of labels. The saving is the ratio of the smallest numbers of labels
    with which baseline and method reach the baseline's score. The saving of a curve compared
    with itself is therefore 1, even where the curve is flat. Scores with 0 labels are left out,
    because a ratio to none has no meaning.

    Parameters
    ----------
    curve : LabelEfficiencyCurve
        Both estimators must have scores without NaN. Runs that only one of them has are left out.
    method, baseline : str
        Names of estimators.
    metric : str, default=None
        Metric to compare; None uses the first.
    n_bootstrap : int, default=1000
        Number of resamples of the runs. Both estimators share each resample, since they share
        their label subsets.
    confidence : float in (0, 1), default=0.95
        Probability content of the percentile interval.
    random_state : int or None, default=0
        Seed of the bootstrap.

    Returns
    -------
    saving : DataFrame
        One row for each label count of the baseline but 0: ``n_labels``, ``baseline_score``,
        ``method_labels``, ``saving``, ``low``, ``high`` and ``bound``. ``bound`` is ``"="``
        inside the measured range; ``">="`` if the method is better already with its fewest
        labels, so that the saving is a lower bound; ``"<="`` if it does not reach the score
        with its most labels. Resamples outside the range count as unbounded: ``high`` can be
        infinite and ``low`` 0. Both are NaN with a single run.

    Raises
    ------
    ValueError
        A name is unknown or has scores without labels only, the two have no run in common, or a
        score is NaN.

    Notes
    -----
    The bootstrap resamples the units that `LabelEfficiencyCurve.summary` averages: repeats on
    one test split, or whole splits if there are several. With five of them the interval is
    rough and tends to be too narrow.

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
    of_method, of_baseline = (_list_runs(curve, scores, name) for name in (method, baseline))
    common = of_method.index.intersection(of_baseline.index)
    if common.empty:
        raise ValueError(
            f"curve has no run of both {method!r} and {baseline!r}: score both on the same ones."
        )
    unit = find_independent_unit(curve)
    parts = of_method.loc[common], of_baseline.loc[common]
    tables = parts[0].groupby(level=unit).mean(), parts[1].groupby(level=unit).mean()
    # the savings of the mean curves
    n = len(tables[0])
    labels, saving, side = _measure_savings(*tables, np.full(n, 1 / n))
    # their intervals by a bootstrap of the runs
    low = high = np.full(len(saving), np.nan)
    if n > 1:
        rng = np.random.default_rng(random_state)
        draws = rng.multinomial(n, np.full(n, 1 / n), size=n_bootstrap) / n
        resampled = [_measure_savings(*tables, weights) for weights in draws]
        savings, sides = (np.array([draw[i] for draw in resampled]) for i in (1, 2))
        tail = (1 - confidence) / 2
        # a bound counts as 0 or infinite; quantiles are not interpolated, since a mean with
        # infinity is not a number
        low = np.quantile(np.where(sides < 0, 0.0, savings), tail, axis=0, method="lower")
        high = np.quantile(np.where(sides > 0, np.inf, savings), 1 - tail, axis=0, method="higher")
    return pd.DataFrame(
        {
            "n_labels": tables[1].columns.to_numpy(),
            "baseline_score": tables[1].mean().to_numpy(),
            "method_labels": labels,
            "saving": saving,
            "low": low,
            "high": high,
            "bound": np.array(["<=", "=", ">="])[side + 1],
        }
    )


def _list_runs(curve: LabelEfficiencyCurve, scores: pd.DataFrame, name: str) -> pd.DataFrame:
    """Return the scores of an estimator: a row for each run, a column for each number of labels."""
    if name not in curve.estimators:
        raise ValueError(f"{name!r} is not in the curve: choose from {curve.estimators}.")
    runs = scores[(scores["estimator"] == name) & (scores["n_labels"] > 0)]
    if runs.empty:
        raise ValueError(f"{name!r} has no score with a label: measure it with more than 0.")
    table = runs.pivot(index=["split", "repeat"], columns="n_labels", values="score")
    if table.isna().to_numpy().any():
        raise ValueError(f"curve lacks a score of {name!r}: a run is missing or its score is NaN.")
    return table


def _measure_savings(
    method: pd.DataFrame, baseline: pd.DataFrame, weights: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.intp]]:
    """Measure the saving of a method for each score of a baseline, with weights of the runs.

    Returns the numbers of labels that the method needs, the savings, and 1, -1 or 0 where the
    saving is a lower bound, an upper bound or exact.
    """
    method_scores, baseline_scores = (
        np.maximum.accumulate(weights @ table.to_numpy()) for table in (method, baseline)
    )
    needed = [_fewest_labels(method.columns, method_scores, score) for score in baseline_scores]
    labels, side = (np.array(values) for values in zip(*needed, strict=True))
    baseline_labels = np.array(
        [_fewest_labels(baseline.columns, baseline_scores, score)[0] for score in baseline_scores]
    )
    return labels, baseline_labels / labels, side


def _fewest_labels(
    counts: pd.Index, scores: NDArray[np.float64], score: float
) -> tuple[float, int]:
    """Return the number of labels with which a monotone curve reaches a score, and its kind.

    The kind is 1 if all scores of the curve are higher, -1 if all are lower, else 0.
    """
    at = int(np.searchsorted(scores, score))
    if at == len(counts):
        return float(counts[-1]), -1
    if at == 0:
        return float(counts[0]), int(scores[0] > score)
    share = (score - scores[at - 1]) / (scores[at] - scores[at - 1])
    return float(counts[at - 1] * (counts[at] / counts[at - 1]) ** share), 0
