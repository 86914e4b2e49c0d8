"""Measure how far predictions can be trusted: calibration, abstention, accuracy by magnitude."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from skastro.utils.masks import fill_masked
from skastro.utils.validation import check_labels, plain_labels

_SUM_TOLERANCE = 1e-3  # sums of float16 probabilities differ from 1 by about this much


def expected_calibration_error(
    y_true: ArrayLike,
    probabilities: ArrayLike,
    *,
    classes: ArrayLike | None = None,
    n_bins: int = 10,
) -> float:
    """Measure how much the probability of the predicted class differs from the accuracy.

    Parameters
    ----------
    y_true : array-like of shape (n,)
        True classes. Rows marked as unlabelled, as in `SelfSupervisedClassifier.fit`, are
        left out.
    probabilities : array-like or DataFrame of shape (n, n_classes)
        Probabilities as ``predict_proba`` returns them.
    classes : array-like of shape (n_classes,), default=None
        The class of each column of ``probabilities``. None uses the column names of a
        DataFrame, or else the sorted classes of ``y_true``.
    n_bins : int, default=10
        Number of bins with equal numbers of objects; objects of equal probability stay in
        one bin.

    Returns
    -------
    error : float
        Mean over objects of the gap between accuracy and mean probability in their bins; 0 is
        best.

    Raises
    ------
    ValueError
        Shapes do not fit, rows of ``probabilities`` do not sum to 1, or ``y_true`` holds a
        class without a column.

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
    """Compare the probability of the predicted class with the accuracy, in bins.

    Parameters
    ----------
    y_true : array-like of shape (n,)
    probabilities : array-like or DataFrame of shape (n, n_classes)
    classes : array-like of shape (n_classes,), default=None
    n_bins : int, default=10
        Like the parameters above, as in `expected_calibration_error`.
    confidence : float in (0, 1), default=0.95
        Probability content of the intervals of the accuracy (Wilson 1927).

    Returns
    -------
    table : DataFrame
        One row for each bin, in ascending order of probability: ``confidence`` (mean
        probability of the predicted class), ``accuracy``, ``low``, ``high`` and ``n``.

    Raises
    ------
    ValueError
        As in `expected_calibration_error`, or ``n_bins`` is below 1.

    Examples
    --------
    >>> y = ["star", "star", "galaxy", "star"]
    >>> reliability_curve(y, [[0.4, 0.6], [0.1, 0.9], [0.4, 0.6], [0.1, 0.9]], n_bins=2).round(2)
       confidence  accuracy   low  high  n
    0         0.6       0.5  0.09  0.91  2
    1         0.9       1.0  0.34  1.00  2
    """
    top, right = top_labels(y_true, probabilities, classes)
    if n_bins < 1:
        raise ValueError(f"n_bins={n_bins} must be at least 1.")
    # bins of equal numbers; equal probabilities have equal ranks, which puts them into one bin
    number = ((stats.rankdata(top) - 0.5) * n_bins / len(top)).astype(np.int64)
    records = []
    for rows in (number == bin_ for bin_ in np.unique(number)):
        interval = _wilson(right[rows], confidence)
        records.append((top[rows].mean(), right[rows].mean(), *interval, rows.sum()))
    return pd.DataFrame(records, columns=["confidence", "accuracy", "low", "high", "n"])


def risk_coverage(
    y_true: ArrayLike, probabilities: ArrayLike, *, classes: ArrayLike | None = None
) -> pd.DataFrame:
    """Measure the accuracy of the objects that remain when unsure predictions are left out.

    Parameters
    ----------
    y_true : array-like of shape (n,)
    probabilities : array-like or DataFrame of shape (n, n_classes)
    classes : array-like of shape (n_classes,), default=None
        Like the parameters above, as in `expected_calibration_error`.

    Returns
    -------
    table : DataFrame
        One row for each distinct probability of a predicted class, highest first:
        ``threshold`` (for `abstain`), ``coverage`` (share of the objects whose probability
        reaches the threshold) and ``accuracy`` of these objects; the risk is 1 - accuracy.

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
    top, right = top_labels(y_true, probabilities, classes)
    order = np.argsort(-top, kind="stable")
    n_predicted = np.arange(1, len(top) + 1)
    table = pd.DataFrame({"threshold": top[order], "coverage": n_predicted / len(top)})
    table["accuracy"] = right[order].cumsum() / n_predicted
    return table.drop_duplicates("threshold", keep="last", ignore_index=True)


def abstain(probabilities: ArrayLike, classes: ArrayLike, threshold: float) -> NDArray[Any]:
    """Predict the most probable class, or no class where its probability is too low.

    Parameters
    ----------
    probabilities : array-like of shape (n, n_classes)
    classes : array-like of shape (n_classes,)
        The class of each column, such as ``classes_`` of a classifier.
    threshold : float in [0, 1]
        Smallest probability of a prediction; `risk_coverage` lists thresholds with their accuracy.

    Returns
    -------
    predicted : array of shape (n,)
        Predicted classes. Where the probability is below the threshold it is the mark of an
        unlabelled row: ``""`` for text, -1 for integers, NaN for floats.

    Raises
    ------
    ValueError
        Shapes do not fit, rows of ``probabilities`` do not sum to 1, ``threshold`` is
        not between 0 and 1, or -1 is itself a class.

    Examples
    --------
    >>> abstain([[0.4, 0.6], [0.1, 0.9]], ["galaxy", "star"], 0.8).tolist()
    ['', 'star']
    """
    if not 0 <= threshold <= 1:
        raise ValueError(f"threshold={threshold!r} must be a probability: pass 0.7, for example.")
    classes = np.asarray(classes)
    table = _check_probabilities(probabilities, len(classes))
    kind = classes.dtype.kind
    if kind == "i" and (classes == -1).any():
        raise ValueError("classes holds -1, which marks abstentions: use other labels.")
    # unsigned integers and booleans have no room for the mark
    classes = classes.astype({"u": np.int64, "b": object}.get(kind, classes.dtype))
    predicted = classes[table.argmax(axis=1)]
    predicted[table.max(axis=1) < threshold] = {"i": -1, "u": -1, "f": np.nan}.get(kind, "")
    return predicted


def tabulate_predictions(
    ids: NDArray[Any],
    labels: NDArray[Any],
    probabilities: NDArray[Any],
    classes: NDArray[Any],
    *,
    threshold: float = 0.0,
) -> pd.DataFrame:
    """Return a table of n predictions, from arrays as in `abstain`.

    Its columns are ``id``, ``label``, ``prediction`` (by `abstain`), ``most_probable`` (the class
    without a threshold), its ``probability``, and ``p_<class>`` for each class.
    """
    columns = {
        "id": ids,
        "label": labels,
        "prediction": abstain(probabilities, classes, threshold=threshold),
        "most_probable": classes[probabilities.argmax(axis=1)],
        "probability": probabilities.max(axis=1),
    }
    columns |= {f"p_{name}": probabilities[:, i] for i, name in enumerate(classes)}
    return pd.DataFrame(columns)


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
        True and predicted classes. Rows whose ``y_true`` is marked as unlabelled, as in
        `SelfSupervisedClassifier.fit`, are left out.
    magnitude : array-like of shape (n,)
        Magnitudes; rows with NaN are left out.
    bins : int or sequence of float, default=8
        Number of bins of equal width over the central 98 % of the objects, where the outer two
        bins include the rest; or edges. A bin includes its lower edge, the last bin both edges.
    balanced : bool, default=True
        Whether all classes in a bin have the same weight (balanced accuracy).
    confidence : float in (0, 1), default=0.95
        Probability content of the intervals.

    Returns
    -------
    table : DataFrame
        One row for each bin that holds objects: ``magnitude`` (median), ``from``, ``to``
        (edges), ``n``, ``score``, ``low`` and ``high``.

    Raises
    ------
    ValueError
        Lengths differ, the edges do not increase, or no row can be used.

    Notes
    -----
    The intervals of Wilson (1927) for the classes are combined by the method of Zou, Huang &
    Zhang (2009, Computational Statistics & Data Analysis 53, 1080) for sums of proportions. They
    hold for one classifier on new objects, and do not cover the draw of its training labels.

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
    magnitude = fill_masked(magnitude).astype(np.float64)
    true, predicted = (plain_labels(y)[0].astype(object) for y in (y_true, y_pred))
    if not len(predicted) == len(codes) == len(magnitude):
        raise ValueError(
            f"y_true, y_pred and magnitude have {len(codes)}, {len(predicted)} and "
            f"{len(magnitude)} rows: pass one of each for each object."
        )
    right = true == predicted
    used = np.flatnonzero((codes >= 0) & np.isfinite(magnitude))
    if not len(used):
        raise ValueError("magnitude is NaN in all labelled rows: choose another.")
    # find the bin of each row
    values = magnitude[used]
    edges = np.asarray(bins, dtype=np.float64)
    if edges.ndim == 0:
        edges = equal_widths(values, int(edges))
    if len(edges) < 2 or not (np.diff(edges) > 0).all():
        raise ValueError(f"bins={bins} must be a number of bins, or two or more increasing edges.")
    number = np.searchsorted(edges, values, side="right") - 1
    number[values == edges[-1]] = len(edges) - 2
    # score the bins that hold objects
    records = []
    for bin_, limits in enumerate(pairwise(edges)):
        if len(rows := used[number == bin_]):
            score = _mean_of_shares(right[rows], codes[rows] * balanced, confidence)
            records.append((np.median(magnitude[rows]), *limits, len(rows), *score))
    if not records:
        raise ValueError(f"bins={bins} hold no object: choose other edges.")
    return pd.DataFrame(records, columns=["magnitude", "from", "to", "n", "score", "low", "high"])


def top_labels(
    y_true: ArrayLike, probabilities: ArrayLike, classes: ArrayLike | None = None
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Return the highest probability of each labelled row, and whether that class is right.

    Examples
    --------
    >>> top_labels(["b", "", "a"], [[0.3, 0.7], [0.5, 0.5], [0.2, 0.8]])
    (array([0.7, 0.8]), array([ True, False]))
    """
    true_classes, codes = check_labels(y_true)
    if classes is None:
        classes = getattr(probabilities, "columns", true_classes)
    classes = np.asarray(classes)
    table = _check_probabilities(probabilities, len(classes))
    if len(table) != len(codes):
        raise ValueError(
            f"probabilities has {len(table)} rows, but y_true has {len(codes)} labels: "
            "pass one row for each."
        )
    names = classes.tolist()
    if missing := [label for label in true_classes.tolist() if label not in names]:
        raise ValueError(
            f"y_true holds {missing[0]!r}, but the columns of probabilities are {names}: pass "
            "their classes."
        )
    place = np.array([names.index(label) for label in true_classes.tolist()])
    labelled = codes >= 0
    table = table[labelled]
    return table.max(axis=1), table.argmax(axis=1) == place[codes[labelled]]


def equal_widths(values: NDArray[np.float64], number: int) -> NDArray[np.float64]:
    """Return edges of bins of equal width over the central 98 % of finite values.

    The outer bins include the rest. If all values are nearly equal there is one bin.

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
            f"probabilities in row {int(wrong.argmax())} do not sum to 1: "
            "pass what predict_proba returns."
        )
    return table


def _mean_of_shares(
    right: NDArray[np.bool_], codes: NDArray[np.int64], confidence: float
) -> tuple[float, float, float]:
    """Return the mean over classes of the share of right predictions, and its interval."""
    by_class = [right[codes == code] for code in np.unique(codes)]
    shares = np.array([values.mean() for values in by_class])
    limits = np.array([_wilson(values, confidence) for values in by_class])
    mean = shares.mean()
    # Zou, Huang & Zhang (2009), equation 2
    below, above = np.sqrt(((limits.T - shares) ** 2).sum(axis=1)) / len(by_class)
    return mean, max(mean - below, 0.0), min(mean + above, 1.0)


def _wilson(right: NDArray[np.bool_], confidence: float) -> tuple[float, float]:
    """Return the interval of the share of right predictions."""
    test = stats.binomtest(int(right.sum()), len(right))
    interval = test.proportion_ci(confidence, method="wilson")
    return float(interval.low), float(interval.high)
