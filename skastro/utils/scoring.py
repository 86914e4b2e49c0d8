"""Scorers of scikit-learn by name, and those of a predicted number that astronomers use."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from scipy.stats import median_abs_deviation
from sklearn.metrics import get_scorer, get_scorer_names, make_scorer

Scorer = Callable[..., Any]
Scoring = str | Scorer | Sequence[str] | Mapping[str, str | Scorer]
_CLASS_SCORING = "balanced_accuracy"
_VALUE_SCORING = ("r2", "neg_scatter", "neg_outlier_share")
_OUTLIER = 5.0  # scatters beyond which an error is an outlier


def measure_scatter(y: ArrayLike, predicted: ArrayLike) -> float:
    """Return the scatter of errors, sigma_NMAD: 1.4826 times their median absolute deviation.

    It is the standard deviation of normal errors, which a few outliers do not change.

    Examples
    --------
    >>> round(measure_scatter([1.0, 2.0, 3.0, 4.0, 5.0], [1.1, 1.9, 3.0, 4.1, 90.0]), 4)
    0.1483
    """
    errors = np.asarray(predicted, float) - np.asarray(y, float)
    return float(median_abs_deviation(errors, scale="normal"))


def measure_outliers(y: ArrayLike, predicted: ArrayLike) -> float:
    """Return the share of errors that lie more than 5 scatters from the median error.

    Examples
    --------
    >>> measure_outliers([1.0, 2.0, 3.0, 4.0, 5.0], [1.1, 1.9, 3.0, 4.1, 90.0])
    0.2
    """
    errors = np.asarray(predicted, float) - np.asarray(y, float)
    far = np.abs(errors - np.median(errors)) > _OUTLIER * measure_scatter(y, predicted)
    return float(far.mean())


_SCORERS = {
    "neg_scatter": make_scorer(measure_scatter, greater_is_better=False),
    "neg_outlier_share": make_scorer(measure_outliers, greater_is_better=False),
}


def check_scorers(scoring: Scoring | None, *, of_values: bool = False) -> dict[str, Scorer]:
    """Return the scorer of each metric by its name; usual ones, of classes or values, for None.

    Examples
    --------
    >>> list(check_scorers(["r2", "neg_scatter"]))
    ['r2', 'neg_scatter']
    """
    if scoring is None:
        scoring = _VALUE_SCORING if of_values else _CLASS_SCORING
    if isinstance(scoring, str):
        scoring = [scoring]
    if callable(scoring):
        scoring = {getattr(scoring, "__name__", "score"): scoring}
    named = dict(scoring) if isinstance(scoring, Mapping) else {str(s): s for s in scoring}
    for scorer in named.values():
        if isinstance(scorer, str) and scorer not in (*_SCORERS, *get_scorer_names()):
            raise ValueError(
                f"scoring={scorer!r} is not a metric of scikit-learn: "
                f"see sklearn.metrics.get_scorer_names() for the names, or use "
                f"{' or '.join(_SCORERS)}."
            )
    if not named:
        raise ValueError("scoring is empty: name at least one metric.")
    return {
        name: _SCORERS.get(scorer) or get_scorer(scorer) if isinstance(scorer, str) else scorer
        for name, scorer in named.items()
    }
