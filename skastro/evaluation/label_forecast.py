"""Estimate how good a classifier is now, and forecast how good more labels would make it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy import stats
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax, softmax
from sklearn.base import clone

from skastro.evaluation.label_audit import describe_rows
from skastro.probes.kernel_probe import KernelProbe
from skastro.utils.validation import check_labels, check_whole_number

_Floats = NDArray[np.float64]
_MIN_LABELS = 10
_MAX_ROWS = 2_000  # of the population, evenly spaced: more change nothing
_TINY = 1e-6
# constants of the accuracy, found on the pool rows of three surveys, seeds 0 to 4
_SHARPNESS_PENALTY = 8.0  # keeps the logarithm of the sharpness near that expected:
# predictions by all labels are sharper than those that leave one out, most with few labels
_LOG_SHARPNESS, _LOG_SHARPNESS_FEW, _FEWEST = 0.1, 15.0, 20
_MODEL_LABELS = 30.0  # random labels of a class that count as much as the classifier's own word
_PRIOR_LABELS = 0.5  # of each class, in the variance
_MODEL_DEVIATION = 0.05  # error of the probabilities that all classes have in common,
_FEW_LABELS = 30  # whose square is twice as large with so many labels
# exponent of the error against the number of labels, from the same rows: prior, and its measurement
_EXPONENT, _EXPONENT_DEVIATION = 0.15, 0.10
_SLOPE_BIAS, _SLOPE_DEVIATION = 0.12, 0.18  # the latter with 60 labels
_STEPS = (1.0, 1.25, 1.5, 2.0, 3.0, 5.0)  # numbers of labels, relative to that of now
_N_DRAWS = 4_000


@dataclass(frozen=True)
class AccuracyEstimate:
    """Hold the estimated balanced accuracy of a classifier, with its interval.

    Attributes
    ----------
    value : float
        Mean recall of the classes that have labels, between 0 and 1; NaN if it is not known.
    low, high : float
        Limits of the interval; NaN if it is not known.
    deviation : float
        Standard deviation of the posterior; NaN if it is not known.
    n : int
        Number of labels that were drawn at random.

    Examples
    --------
    >>> AccuracyEstimate(0.84, low=0.76, high=0.91, deviation=0.045, n=10).value
    0.84
    """

    value: float
    low: float
    high: float
    deviation: float
    n: int


def estimate_accuracy(
    codes: ArrayLike,
    probabilities: ArrayLike,
    is_random: ArrayLike,
    *,
    population: ArrayLike | None = None,
    coverage: float = 0.9,
) -> AccuracyEstimate:
    """Estimate the balanced accuracy of a classifier for all objects, labelled and not.

    Labels that were chosen, for example because the classifier is unsure of them, are no fair
    sample: only those drawn at random are. As they are few, the probabilities of all objects
    are used, too.

    Parameters
    ----------
    codes : int array of shape (n,)
        Classes of the labelled rows, as columns of ``probabilities``.
    probabilities : array of shape (n, k)
        Predictions of these rows by the other labels, for classes of equal frequency: such as
        ``loo_probabilities_`` of `KernelProbe`.
    is_random : bool array of shape (n,)
        Which labelled rows were drawn at random from all rows, by a rule that looks at neither
        labels nor predictions.
    population : array of shape (m, k), default=None
        Predictions of the rows without a label, for classes of equal frequency. Without them,
        only the random labels count, and the interval is wider.
    coverage : float, default=0.9
        Probability content of the interval, between 0 and 1.

    Returns
    -------
    estimate : AccuracyEstimate
        All values are NaN with fewer than 10 labels, no random label, or fewer than two classes.

    Raises
    ------
    ValueError
        The shapes do not agree, ``codes`` are no columns, or ``coverage`` is out of range.

    Notes
    -----
    The probabilities are sharpened such that they suit the labels, and multiplied by the
    frequencies of the classes (Saerens et al. 2002). This is sound for labels chosen by what is
    seen of an object, since that does not change the class of an object that looks like this. The
    expected recall of each class is then combined with the recall of the random labels of the
    class (a beta distribution). The result for all classes has the mean and the variance of the
    mean of these distributions. Classes without any label are not counted.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> codes, p = rng.integers(0, 2, 60), rng.uniform(0.6, 1, 60)
    >>> own = np.where(np.arange(60) < 48, p, 1 - p)  # 48 of 60 are right
    >>> probabilities = np.where(np.eye(2)[codes] > 0, own[:, None], 1 - own[:, None])
    >>> found = estimate_accuracy(codes, probabilities, np.full(60, True))
    >>> round(found.low, 2), round(found.value, 2), round(found.high, 2), found.n
    (0.72, 0.8, 0.88, 60)
    """
    codes, values, is_random = _check_predictions(codes, probabilities, is_random, coverage)
    n_random = int(is_random.sum())
    present, codes = np.unique(codes, return_inverse=True)
    k = len(present)
    if len(codes) < _MIN_LABELS or not n_random or k < 2:
        return AccuracyEstimate(np.nan, np.nan, np.nan, np.nan, n_random)
    logs = np.log(np.maximum(values[:, present], _TINY))
    correct = logs.argmax(axis=1) == codes
    random_counts = np.bincount(codes[is_random], minlength=k)
    random_correct = np.bincount(codes[is_random], weights=correct[is_random], minlength=k)
    if population is None:
        # the random labels alone, with two more labels for each class of the recall of all
        counts, common = random_counts, 0.0
        all_recall = (random_correct.sum() + 1) / (n_random + 2)
        recall = (random_correct + 2 * all_recall) / (random_counts + 2)
    else:
        others = np.asarray(population, dtype=np.float64)
        if others.ndim != 2 or others.shape[1] != values.shape[1]:
            raise ValueError(
                f"population has shape {others.shape}: pass the probabilities of the "
                f"{values.shape[1]} classes for each row without a label."
            )
        counts = np.bincount(codes, minlength=k)
        common = _MODEL_DEVIATION * np.sqrt(1 + _FEW_LABELS / len(codes))
        recall = _expect_recall(logs, codes, random_counts, correct, others[:, present])
        recall = (_MODEL_LABELS * recall + random_correct) / (_MODEL_LABELS + random_counts)
    value = float(recall.mean())
    shrunk = (counts * recall + _PRIOR_LABELS * value) / (counts + _PRIOR_LABELS)
    variance = (shrunk * (1 - shrunk) / (counts + _PRIOR_LABELS)).sum() / k**2 + common**2
    posterior = _beta(value, float(np.sqrt(variance)))
    low, high = map(float, posterior.interval(coverage))
    return AccuracyEstimate(
        value, min(low, value), max(high, value), float(posterior.std()), n_random
    )


def predict_population(
    predict: Callable[[NDArray[np.int64]], _Floats], free: NDArray[np.int64], most: int
) -> _Floats | None:
    """Return the ``population`` of `estimate_accuracy`, None if there are no rows.

    ``predict`` returns the probabilities of rows (m, k). At most so many of the rows ``free`` are
    predicted; they stand for the others.
    """
    if not len(free):
        return None
    step = -(-len(free) // most)
    return predict(free[::step]).repeat(step, axis=0)[: len(free)]


def _check_predictions(
    codes: ArrayLike, probabilities: ArrayLike, is_random: ArrayLike, coverage: float
) -> tuple[NDArray[np.int64], _Floats, NDArray[np.bool_]]:
    codes, values = np.asarray(codes, dtype=np.int64), np.asarray(probabilities, dtype=np.float64)
    drawn = np.asarray(is_random, dtype=bool)
    if values.ndim != 2 or not codes.shape == drawn.shape == values.shape[:1]:
        raise ValueError(
            f"codes, probabilities and is_random have shapes {codes.shape}, {values.shape} and "
            f"{drawn.shape}: pass (n,), (n, k) and (n,)."
        )
    if len(codes) and not 0 <= codes.min() <= codes.max() < values.shape[1]:
        raise ValueError(
            f"codes must be between 0 and {values.shape[1] - 1}, columns of probabilities: leave "
            "rows without a label out."
        )
    if not 0 < coverage < 1:
        raise ValueError(f"coverage={coverage!r} must be between 0 and 1.")
    return codes, values, drawn


def _expect_recall(
    logs: _Floats,
    codes: NDArray[np.int64],
    random_counts: NDArray[np.int64],
    correct: NDArray[np.bool_],
    population: _Floats,
) -> _Floats:
    """Return the recall of each class that the classifier's own probabilities predict.

    Labelled rows count as they are, those of the population by their probabilities.
    """
    n, k = logs.shape
    counts = np.bincount(codes, minlength=k)
    weights = n / k / counts[codes]

    # sharpen the probabilities, with classes of equal weight as in the probe
    expected = _LOG_SHARPNESS + _LOG_SHARPNESS_FEW / max(n, _FEWEST)

    def loss(log_sharpness: float) -> float:
        own = log_softmax(np.exp(log_sharpness) * logs, axis=1)[np.arange(n), codes]
        return -float(weights @ own) + _SHARPNESS_PENALTY * (log_sharpness - expected) ** 2

    sharpness = np.exp(minimize_scalar(loss, bounds=(-1.0, 1.5), method="bounded").x)
    rows = population[:: max(1, -(-len(population) // _MAX_ROWS))]
    scale = len(population) / max(len(rows), 1)
    likelihood = softmax(sharpness * np.log(np.maximum(rows, _TINY)), axis=1)

    # find the frequencies of the classes by expectation maximisation, with the random labels
    frequency = np.full(k, 1 / k)
    posterior = likelihood
    for _ in range(30):
        posterior = likelihood * frequency
        posterior = posterior / posterior.sum(axis=1, keepdims=True)
        frequency = posterior.sum(axis=0) + 3 * random_counts + 1
        frequency /= frequency.sum()
    predicted = np.eye(k)[rows.argmax(axis=1)]
    hits = scale * (posterior * predicted).sum(axis=0)
    hits += np.bincount(codes, weights=correct, minlength=k)
    return np.asarray(hits / (scale * posterior.sum(axis=0) + counts))


def _beta(mean: float, deviation: float) -> Any:
    """Return the beta distribution of a mean and a standard deviation.

    A mean nearer to 0 or 1 than the deviation is moved to this distance: the distribution would
    have its peak at the end, and an interval that says more than is known.
    """
    deviation = min(max(deviation, 1e-3), 0.3)
    mean = min(max(mean, deviation), 1 - deviation)
    size = mean * (1 - mean) / deviation**2 - 1
    return stats.beta(mean * size, (1 - mean) * size)


@dataclass(frozen=True, repr=False, eq=False)
class LabelForecast:
    """Hold the accuracy that more labels would give; made by `forecast_labels`.

    Attributes
    ----------
    now : AccuracyEstimate
        Balanced accuracy with the labels there are.
    n_labels : int
        Number of labels there are.
    table : DataFrame
        ``n_labels`` (int64), ``mean``, ``low`` and ``high`` (float64): the expected balanced
        accuracy for each number of labels, and its interval. NaN where nothing is known.
    coverage : float
        Probability content of the intervals.

    Examples
    --------
    >>> now = AccuracyEstimate(0.84, low=0.76, high=0.91, deviation=0.045, n=10)
    >>> more = pd.DataFrame({"n_labels": [120], "mean": [0.86], "low": [0.78], "high": [0.92]})
    >>> LabelForecast(now, 60, more, 0.9)
    <LabelForecast from 60 labels: 0.84 now; 60 more labels: 0.78 to 0.92>
    """

    now: AccuracyEstimate
    n_labels: int
    table: pd.DataFrame = field(repr=False)
    coverage: float

    def summary(self) -> str:
        """Return a sentence such as "0.84 now; 60 more labels: 0.82 to 0.91".

        Returns
        -------
        text : str
            The number of labels is that of the table which is nearest to twice that of now.
        """
        if np.isnan(self.now.value):
            return "More labels are needed to say how good the classifier is."
        text = f"{self.now.value:.2f} now"
        more = self.table[self.table["n_labels"] > self.n_labels]
        if more.empty:
            return text
        row = more.iloc[int((more["n_labels"] - 2 * self.n_labels).abs().argmin())]
        n_more = int(row["n_labels"]) - self.n_labels
        plural = "label" if n_more == 1 else "labels"
        return f"{text}; {n_more:,} more {plural}: {row['low']:.2f} to {row['high']:.2f}"

    def __repr__(self) -> str:
        return f"<LabelForecast from {self.n_labels:,} labels: {self.summary()}>"


def forecast_labels(
    X: Any,
    y: ArrayLike,
    *,
    label_counts: Sequence[int] | None = None,
    n_properties: int = 0,
    is_random: ArrayLike | None = None,
    now: AccuracyEstimate | None = None,
    encoder: Any = None,
    coverage: float = 0.9,
    random_state: int | None = 0,
) -> LabelForecast:
    r"""Forecast the balanced accuracy that a classifier would have with more labels.

    Parameters
    ----------
    X : array-like of shape (n, d), or stamps of shape (n, bands, height, width)
        As in `audit_labels`. Rows without a label help to estimate the accuracy.
    y : array-like of shape (n,)
        Classes of any dtype. Rows without a label are marked as in `SelfSupervisedClassifier`.
    label_counts : sequence of int, default=None
        Numbers of labels to forecast for; by default 1 to 5 times that of now.
    n_properties : int, default=0
        Number of properties at the end of the columns of ``X``, which may be NaN.
    is_random : bool array of shape (n,), default=None
        Which labelled rows were drawn at random, as in `estimate_accuracy`. None means all.
    now : AccuracyEstimate, default=None
        Accuracy with the labels there are. By default, it is estimated.
    encoder : PropertyPretrainedEncoder, default=None
        Fitted encoder for stamps. None pretrains one on them.
    coverage : float, default=0.9
        Probability content of the intervals, between 0 and 1.
    random_state : int or None, default=0
        Seed of the halves of the labels, and of the draws that make the intervals.

    Returns
    -------
    forecast : LabelForecast
        NaN with fewer than 10 labels, as in `estimate_accuracy`.

    Raises
    ------
    ValueError
        There are fewer than two classes, shapes do not agree, or an argument is out of range.

    Notes
    -----
    The share of errors falls as :math:`m^{-\gamma}` with the number m of labels. The exponent has
    a prior of mean 0.15 and standard deviation 0.1, as on galaxies, radio sources, and stars and
    quasars. It is combined with the exponent between halves of the labels and all of them, by the
    mean probability of the wrong classes in leave-one-out predictions. The intervals contain what
    is not known of the present accuracy and of the exponent. Classes that no label has shown yet
    are not foreseen.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> classes = rng.integers(0, 2, 400)
    >>> embeddings = rng.normal(size=(400, 5)) + 1.5 * classes[:, None] * [1, 0, 0, 0, 0]
    >>> labels = np.where(np.arange(400) < 60, classes, -1)
    >>> forecast = forecast_labels(embeddings, labels, label_counts=[60, 120, 300])
    >>> forecast.table["n_labels"].tolist()
    [60, 120, 300]
    >>> bool(forecast.table["mean"].is_monotonic_increasing)
    True
    """
    _, codes = check_labels(y)
    rows = np.flatnonzero(codes >= 0)
    n = len(rows)
    counts = [round(step * n) for step in _STEPS] if label_counts is None else list(label_counts)
    for count in counts:
        check_whole_number("label_counts", count, least=1)
    drawn = np.full(len(codes), True) if is_random is None else np.asarray(is_random, dtype=bool)
    if drawn.shape != codes.shape:
        raise ValueError(f"is_random has shape {drawn.shape}: pass ({len(codes)},), as y has.")
    columns, probe = describe_rows(
        X, y, n_properties=n_properties, encoder=encoder, random_state=random_state
    )
    probe.fit(columns[rows], codes[rows])
    if now is None:
        population = predict_population(
            lambda some: probe.predict_proba(columns[some]), np.flatnonzero(codes < 0), _MAX_ROWS
        )
        now = estimate_accuracy(
            codes[rows], probe.loo_probabilities_, drawn[rows], coverage=coverage,
            population=population,
        )  # fmt: skip
    table = pd.DataFrame({"n_labels": counts, "mean": np.nan, "low": np.nan, "high": np.nan})
    if np.isfinite(now.value):
        rng = np.random.default_rng(random_state)
        mean, deviation = _find_exponent(probe, columns[rows], codes[rows], rng)
        # draw errors and exponents; a gamma distribution is positive
        errors = 1 - _beta(now.value, now.deviation).rvs(_N_DRAWS, random_state=rng)
        exponents = rng.gamma((mean / deviation) ** 2, deviation**2 / mean, _N_DRAWS)
        scores = 1 - np.minimum(errors * (n / np.array(counts)[:, None]) ** exponents, 1.0)
        table["mean"] = scores.mean(axis=1)
        tail = (1 - coverage) / 2
        table["low"], table["high"] = np.quantile(scores, [tail, 1 - tail], axis=1)
    return LabelForecast(now, n, table, coverage)


def _find_exponent(
    probe: KernelProbe, columns: _Floats, codes: NDArray[np.int64], rng: np.random.Generator
) -> tuple[float, float]:
    """Return mean and standard deviation of the exponent with which the error falls."""
    counts = np.bincount(codes)
    shared = counts[codes] < 2  # the only label of a class belongs to both halves
    judged = np.flatnonzero(~shared)
    weights = 1 / counts[codes[judged]]
    whole = np.average(1 - probe.loo_probabilities_[judged, codes[judged]], weights=weights)
    # halves of each class
    order = np.lexsort((rng.random(len(codes)), codes))
    first = np.zeros(len(codes), dtype=bool)
    first[order[::2]] = True
    losses = []
    for half in (first | shared, ~first | shared):
        learner = clone(probe).fit(columns[half], codes[half])
        probabilities = np.empty((len(codes), len(counts)))
        probabilities[half] = learner.loo_probabilities_
        probabilities[~half] = learner.predict_proba(columns[~half])
        losses.append(np.average(1 - probabilities[judged, codes[judged]], weights=weights))
    slope = float(np.log2(np.mean(losses) / max(whole, _TINY))) - _SLOPE_BIAS
    # combine it with the prior
    precision = _EXPONENT_DEVIATION**-2
    measured = len(codes) / 60 / _SLOPE_DEVIATION**2
    mean = (precision * _EXPONENT + measured * slope) / (precision + measured)
    return max(mean, 0.02), float((precision + measured) ** -0.5)
