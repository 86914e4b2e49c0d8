"""How far predictions can be trusted: calibration, abstention, accuracy by brightness."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from skastro.utils.validation import check_labels

_SUM_TOLERANCE = 1e-3  # of probabilities, which float16 keeps to about this


def expected_calibration_error(
    y_true: ArrayLike,
    probabilities: ArrayLike,
    *,
    classes: ArrayLike | None = None,
    n_bins: int = 10,
) -> float:
    """Measure how far the probability of the predicted class is from how often it is right.

    Parameters
    ----------
    y_true : array-like of shape (n,)
        Classes, with unlabelled rows marked as in `SelfSupervisedClassifier.fit`; these are
        left out.
    probabilities : array-like or DataFrame of shape (n, n_classes)
        As of ``predict_proba``.
    classes : array-like of shape (n_classes,), default=None
        The class of each column. None takes the names of a DataFrame's columns, or else the
        sorted classes of ``y_true``.
    n_bins : int, default=10
        Bins of equal numbers of objects; objects of equal probability stay in one bin.

    Returns
    -------
    error : float
        Mean over objects of the gap between accuracy and mean probability in their bins: 0 at
        best.

    Raises
    ------
    ValueError
        Shapes do not fit, probabilities are none, or the classes of the columns are unclear.

    References
    ----------
    Guo et al. 2017, ICML, "On Calibration of Modern Neural Networks", equation 3, with bins of
    equal numbers after Nixon et al. 2019, CVPR workshops, "Measuring Calibration in Deep
    Learning".

    Examples
    --------
    >>> y = ["star", "star", "galaxy", "star"]
    >>> expected_calibration_error(y, [[0.2, 0.8], [0.2, 0.8], [0.2, 0.8], [0.2, 0.8]])
    0.05
    """
    table = reliability_curve(y_true, probabilities, classes=classes, n_bins=n_bins)
    gaps = (table["accuracy"] - table["confidence"]).abs()
    return float((gaps * table["n"]).sum() / table["n"].sum())


def reliability_curve(
    y_true: ArrayLike,
    probabilities: ArrayLike,
    *,
    classes: ArrayLike | None = None,
    n_bins: int = 10,
    confidence: float = 0.95,
) -> pd.DataFrame:
    """Compare the probability of the predicted class with how often it is right, in bins.

    Parameters
    ----------
    y_true : array-like of shape (n,)
    probabilities : array-like or DataFrame of shape (n, n_classes)
    classes : array-like of shape (n_classes,), default=None
    n_bins : int, default=10
        As in `expected_calibration_error`.
    confidence : float in (0, 1), default=0.95
        Probability content of the intervals of the accuracy (Wilson 1927).

    Returns
    -------
    table : DataFrame
        A row for each bin, from unsure to sure: ``confidence`` (mean probability of the
        predicted class), ``accuracy``, ``low``, ``high`` and ``n``.

    Examples
    --------
    >>> y = ["star", "star", "galaxy", "star"]
    >>> reliability_curve(y, [[0.4, 0.6], [0.1, 0.9], [0.4, 0.6], [0.1, 0.9]], n_bins=2).round(2)
       confidence  accuracy   low  high  n
    0         0.6       0.5  0.09  0.91  2
    1         0.9       1.0  0.34  1.00  2
    """
    sure, right = top_labels(y_true, probabilities, classes)
    records = []
    for bin_ in _equal_bins(sure, n_bins):
        low, high = _wilson(right[bin_].sum(), len(bin_), confidence)
        records.append((sure[bin_].mean(), right[bin_].mean(), low, high, len(bin_)))
    return pd.DataFrame(records, columns=["confidence", "accuracy", "low", "high", "n"])


def risk_coverage(
    y_true: ArrayLike, probabilities: ArrayLike, *, classes: ArrayLike | None = None
) -> pd.DataFrame:
    """Tell what abstaining buys: the accuracy of those objects that are classified.

    Parameters
    ----------
    y_true : array-like of shape (n,)
    probabilities : array-like or DataFrame of shape (n, n_classes)
    classes : array-like of shape (n_classes,), default=None
        As in `expected_calibration_error`.

    Returns
    -------
    table : DataFrame
        A row for each distinct probability of a predicted class, highest first:
        ``threshold`` (for `abstain`), ``coverage`` (share of objects that reach it) and
        ``accuracy`` of these; the risk is 1 - accuracy.

    References
    ----------
    El-Yaniv & Wiener 2010, JMLR 11, 1605, "On the Foundations of Noise-free Selective
    Classification".

    Examples
    --------
    >>> y = ["star", "star", "galaxy", "star"]
    >>> risk_coverage(y, [[0.4, 0.6], [0.1, 0.9], [0.4, 0.6], [0.1, 0.9]])
       threshold  coverage  accuracy
    0        0.9       0.5      1.00
    1        0.6       1.0      0.75
    """
    sure, right = top_labels(y_true, probabilities, classes)
    order = np.argsort(-sure, kind="stable")
    taken = np.arange(1, len(sure) + 1)
    accuracy = np.cumsum(right[order]) / taken
    last = np.flatnonzero(np.append(np.diff(sure[order]) != 0, True))
    return pd.DataFrame(
        {
            "threshold": sure[order][last],
            "coverage": taken[last] / len(sure),
            "accuracy": accuracy[last],
        }
    )


def abstain(probabilities: ArrayLike, classes: ArrayLike, *, threshold: float) -> NDArray[Any]:
    """Predict the most probable class, and none where it is not probable enough.

    Parameters
    ----------
    probabilities : array-like of shape (n, n_classes)
    classes : array-like of shape (n_classes,)
        The class of each column, such as ``classes_`` of a classifier.
    threshold : float
        Least probability of a prediction; `risk_coverage` tells what it buys.

    Returns
    -------
    predicted : array of shape (n,)
        Classes; where the probability is lower, what marks an unlabelled row among them:
        ``""`` for text, -1 for integers, NaN for floats.

    Raises
    ------
    ValueError
        Shapes do not fit, or -1 is itself a class.

    Examples
    --------
    >>> abstain([[0.4, 0.6], [0.1, 0.9]], ["galaxy", "star"], threshold=0.8).tolist()
    ['', 'star']
    """
    classes = np.asarray(classes)
    table = _check_probabilities(probabilities, len(classes))
    mark = {"i": -1, "u": -1, "f": np.nan}.get(classes.dtype.kind, "")
    if classes.dtype.kind == "i" and (classes == -1).any():
        raise ValueError("classes holds -1, which marks abstentions: use other labels.")
    if classes.dtype.kind == "u":
        classes = classes.astype(np.int64)
    elif classes.dtype.kind == "b":
        classes = classes.astype(object)
    predicted = classes[table.argmax(axis=1)]
    predicted[table.max(axis=1) < threshold] = mark
    return predicted


def accuracy_by_magnitude(
    y_true: ArrayLike,
    y_pred: ArrayLike,
    magnitude: ArrayLike,
    *,
    bins: int | Sequence[float] = 8,
    balanced: bool = True,
    confidence: float = 0.95,
) -> pd.DataFrame:
    """Measure the accuracy in bins of magnitude, or of any other property.

    Parameters
    ----------
    y_true, y_pred : array-like of shape (n,)
        Classes. Rows whose ``y_true`` is marked as unlabelled, as in
        `SelfSupervisedClassifier.fit`, are left out.
    magnitude : array-like of shape (n,)
        Rows where it is NaN are left out.
    bins : int or sequence of float, default=8
        Number of bins, of equal width over the central 98 % of the objects, the outer two
        taking in the rest; or edges. A bin holds its lower edge, the last its upper one too.
    balanced : bool, default=True
        Give each class that a bin has the same weight (balanced accuracy).
    confidence : float in (0, 1), default=0.95
        Probability content of the intervals.

    Returns
    -------
    table : DataFrame
        A row for each bin that holds objects: ``magnitude`` (median), ``from``, ``to``
        (edges), ``n``, ``score``, ``low`` and ``high``.

    Raises
    ------
    ValueError
        Lengths differ, the edges do not increase, or no row can be used.

    Notes
    -----
    The intervals join those of Wilson (1927) for the classes as Zou, Huang & Zhang (2009,
    Computational Statistics & Data Analysis 53, 1080) do for sums of proportions. They hold
    for one classifier on new objects, and do not cover the draw of its training labels.

    Examples
    --------
    >>> y = ["star", "galaxy"] * 4
    >>> predicted = ["star", "galaxy"] * 2 + ["star"] * 4
    >>> table = accuracy_by_magnitude(y, predicted, range(15, 23), bins=2)
    >>> table[["magnitude", "n", "score"]]
       magnitude  n  score
    0       16.5  4    1.0
    1       20.5  4    0.5
    """
    _, codes = check_labels(y_true)
    magnitude = np.asarray(magnitude, dtype=np.float64)
    predicted = np.asarray(y_pred, dtype=object)
    if not len(predicted) == len(codes) == len(magnitude):
        raise ValueError(
            f"y_true, y_pred and magnitude have {len(codes)}, {len(predicted)} and "
            f"{len(magnitude)} rows: pass one of each for each object."
        )
    right = np.asarray(y_true, dtype=object) == predicted
    used = np.flatnonzero((codes >= 0) & np.isfinite(magnitude))
    if not len(used):
        raise ValueError("magnitude is NaN in all labelled rows: choose another.")
    records = []
    for low, high, rows in _magnitude_bins(magnitude, used, bins):
        score = _mean_of_shares(right[rows], codes[rows] * balanced, confidence)
        records.append((np.median(magnitude[rows]), low, high, len(rows), *score))
    return pd.DataFrame(records, columns=["magnitude", "from", "to", "n", "score", "low", "high"])


def top_labels(
    y_true: ArrayLike, probabilities: ArrayLike, classes: ArrayLike | None = None
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Return the probability of each predicted class, and whether it is right.

    Parameters
    ----------
    y_true, probabilities, classes
        As in `expected_calibration_error`.

    Returns
    -------
    sure : float array of shape (n_labelled,)
    right : bool array of shape (n_labelled,)

    Examples
    --------
    >>> top_labels(["b", "", "a"], [[0.3, 0.7], [0.5, 0.5], [0.2, 0.8]])
    (array([0.7, 0.8]), array([ True, False]))
    """
    known, codes = check_labels(y_true)
    if classes is None:
        classes = getattr(probabilities, "columns", known)
    classes = np.asarray(classes)
    table = _check_probabilities(probabilities, len(classes))
    if len(table) != len(codes):
        raise ValueError(
            f"probabilities has {len(table)} rows, but y_true has {len(codes)} labels: "
            "pass one row for each."
        )
    if strange := [label for label in known.tolist() if label not in classes.tolist()]:
        raise ValueError(
            f"y_true holds {strange[0]!r}, but the columns of probabilities are "
            f"{classes.tolist()}: pass their classes."
        )
    place = np.array([classes.tolist().index(label) for label in known.tolist()])
    labelled = codes >= 0
    table = table[labelled]
    return table.max(axis=1), table.argmax(axis=1) == place[codes[labelled]]


def equal_widths(values: NDArray[np.float64], number: int) -> NDArray[np.float64]:
    """Return edges of bins of equal width that far outliers do not stretch.

    Parameters
    ----------
    values : float array of shape (n,)
        Finite.
    number : int

    Returns
    -------
    edges : float64 array of shape (number + 1,)
        Equal widths over the central 98 % of the values, the outer bins taking in the rest;
        one bin if that range is empty.

    Examples
    --------
    >>> equal_widths(np.append(np.linspace(20.0, 22.0, 200), 99.0), 4).round(1)
    array([20. , 20.5, 21. , 21.5, 99. ])
    """
    low, high = np.quantile(values, [0.01, 0.99])
    edges = np.linspace(low, high, number + 1)
    if number < 1 or edges[0] == edges[-1]:
        return np.array([values.min() - 0.5, values.max() + 0.5])[: number + 1]
    edges[[0, -1]] = values.min(), values.max()
    return edges


def _check_probabilities(probabilities: ArrayLike, n_classes: int) -> NDArray[np.float64]:
    table = np.asarray(probabilities, dtype=np.float64)
    if table.ndim != 2 or table.shape[1] != n_classes:
        raise ValueError(
            f"probabilities has shape {table.shape}, but there are {n_classes} classes: "
            "pass (n, n_classes), and classes= for the columns."
        )
    wrong = ~((table >= 0).all(axis=1) & (np.abs(table.sum(axis=1) - 1) < _SUM_TOLERANCE))
    if wrong.any():
        raise ValueError(
            f"probabilities in row {int(wrong.argmax())} are no shares of 1: "
            "pass what predict_proba returns."
        )
    return table


def _equal_bins(values: NDArray[Any], n_bins: int) -> list[NDArray[np.intp]]:
    """Return the rows of bins of about equal numbers; equal values stay together."""
    if n_bins < 1:
        raise ValueError(f"n_bins={n_bins} must be at least 1.")
    ranks = stats.rankdata(values, method="average") - 0.5
    number = (ranks * n_bins / len(values)).astype(np.int64)
    return [np.flatnonzero(number == each) for each in np.unique(number)]


def _magnitude_bins(
    magnitude: NDArray[Any], used: NDArray[np.intp], bins: int | Sequence[float]
) -> list[tuple[float, float, NDArray[np.intp]]]:
    values = magnitude[used]
    edges = np.asarray(bins, dtype=np.float64)
    if edges.ndim == 0:
        edges = equal_widths(values, int(edges))
    if len(edges) < 2 or not (np.diff(edges) > 0).all():
        raise ValueError(f"bins={bins} must be a number of bins, or two or more increasing edges.")
    number = np.searchsorted(edges, values, side="right") - 1
    number[values == edges[-1]] = len(edges) - 2
    places = [each for each in np.unique(number) if 0 <= each < len(edges) - 1]
    if not places:
        raise ValueError(f"bins={bins} hold no object: choose other edges.")
    return [(edges[i], edges[i + 1], used[number == i]) for i in places]


def _mean_of_shares(
    right: NDArray[np.bool_], codes: NDArray[np.int64], confidence: float
) -> tuple[float, float, float]:
    """Return the mean over classes of the share that is right, and its interval."""
    classes = np.unique(codes)
    shares = np.array([right[codes == each].mean() for each in classes])
    limits = np.array(
        [_wilson(right[codes == c].sum(), (codes == c).sum(), confidence) for c in classes]
    )
    mean = shares.mean()
    # Zou, Huang & Zhang (2009), equation 2
    below, above = np.sqrt(((limits.T - shares) ** 2).sum(axis=1)) / len(classes)
    return mean, max(mean - below, 0.0), min(mean + above, 1.0)


def _wilson(right: int, n: int, confidence: float) -> tuple[float, float]:
    interval = stats.binomtest(int(right), int(n)).proportion_ci(confidence, method="wilson")
    return float(interval.low), float(interval.high)
