"""KernelProbe: classify by kernel least squares on an embedding and on properties."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from operator import itemgetter
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax, softmax
from sklearn.utils.class_weight import compute_sample_weight
from sklearn.utils.validation import validate_data

from skastro.probes.kernels import (
    MAX_LEVERAGE,
    STRENGTHS,
    ColumnGroup,
    Floats,
    check_sizes,
    choose_centers,
    decompose,
    join_kernels,
    split_columns,
)
from skastro.probes.linear_probe import Probe
from skastro.utils.fitting import fits_as_a_whole
from skastro.utils.validation import plain_rows

_LOG_SHARPNESS_RANGE = (-3.0, 5.0)
_MIN_SHARE = 0.01  # of the probabilities; a kernel with less is left out
_CLASS_FLOOR = 1e-3  # added to probabilities of classes that are columns: none is excluded


@dataclass(frozen=True)
class KernelMachine:
    """Kernel least squares, with the regularisation of the least leave-one-out loss."""

    coef: Floats  # (m, k)
    alpha: float  # strength of the regularisation
    sharpness: float  # factor between outputs and logits
    outputs: Floats  # (n, k), of the learned rows in leave-one-out cross-validation


class KernelProbe(Probe):
    r"""Classify by kernel least squares on an embedding and on properties.

    The kernel is the mean of a linear one on the embedding and a radial one on the properties,

    .. math:: k(x, x') = \frac{1}{2} \frac{e \cdot e'}{\langle |e|^2 \rangle}
              + \frac{1}{2} \exp\!\left(-\frac{|p - p'|^2}{\operatorname{med} |p - p'|^2}\right) .

    With few labels the linear kernel generalises; with many the radial one learns curved borders
    between classes, in magnitudes, colours and sizes, which a linear probe cannot. The
    regularisation and the sharpness of the probabilities minimise the log loss of the labelled
    rows in leave-one-out cross-validation, in closed form at almost no cost (Rifkin & Lippert 2007,
    MIT-CSAIL-TR-2007-025). The outputs are also the mean of a Gaussian process.

    Further representations, such as those of `load_pretrained`, may help or not. For each of them
    a second kernel, the mean of the first kernel and its own, is fitted, too. The probabilities
    are the mean over the kernels, weighted by the likelihood of the left-out labels.

    Parameters
    ----------
    n_properties : int, default=0
        Number of properties, in any units, after the columns of the embedding, which have mean 0
        and about the same spread. With 0, both kernels use all columns of the representation.
    others : sequence of (int, int) or (int, int, float), default=()
        Further representations, which are the last columns: the number of columns of the embedding
        and of the properties of each, and the odds that it helps, before the labels are seen (1
        where they are left out).
    class_columns : sequence of int, default=None
        Columns that already hold a probability of each class, in the order of ``classes_``. The
        probabilities are multiplied by a power of theirs, chosen by the leave-one-out loss, too.
    class_weight : dict, "balanced" or None, default="balanced"
        Weights of the classes, as in scikit-learn.
    max_centers : int, default=1000
        With more rows than this, the kernel is approximated by this many random rows (Nyström);
        the probe still learns from all rows.
    random_state : int, RandomState or None, default=0
        Seed of the draw of centres.

    Attributes
    ----------
    classes_ : array of shape (k,)
    shares_ : array of shape (1 + g,)
        Weights of the first kernel and of those with one of the g other representations.
    alpha_ : array of shape (1 + g,)
        Strength of the regularisation that was chosen for each kernel.
    sharpness_ : array of shape (1 + g,)
        Factor between the outputs of the least squares and the logits, for each kernel.
    class_powers_ : array of shape (1 + g,)
        Power of the probabilities in ``class_columns``, for each kernel; 0 without them.
    loo_loss_ : float
        Weighted mean log loss (nat) in leave-one-out cross-validation, with one more label of each
        class counted for every row.
    loo_probabilities_ : array of shape (n, k)
        Probabilities of the labelled rows in leave-one-out cross-validation.
    coefs_ : array of shape (1 + g, m, k)
        Coefficients of the m centres of each kernel.
    centers_ : int array
        Numbers of the rows of `fit` that were used as centres of the kernel.
    n_features_in_ : int

    Notes
    -----
    A property that is NaN is replaced by the mean of its column. Probabilities with
    ``class_weight="balanced"`` hold for classes of equal frequency.

    Examples
    --------
    A ring around a disc, which a straight line cannot separate:

    >>> import numpy as np
    >>> rng = np.random.default_rng(0)
    >>> angle, ring = rng.uniform(0, 2 * np.pi, 200), np.arange(200) % 2
    >>> radius = 1 + 2 * ring + rng.normal(scale=0.2, size=200)
    >>> points = radius[:, None] * np.column_stack([np.cos(angle), np.sin(angle)])
    >>> KernelProbe().fit(points[:100], ring[:100]).score(points[100:], ring[100:])
    1.0

    A representation that says nothing, beside one that does:

    >>> noise = rng.normal(size=(200, 2))
    >>> probe = KernelProbe(others=[(0, 2)]).fit(np.hstack([noise, points]), ring)
    >>> probe.shares_.round(2).tolist()
    [0.0, 1.0]
    """

    def __init__(
        self,
        n_properties: int = 0,
        *,
        others: Sequence[tuple[float, ...]] = (),
        class_columns: Sequence[int] | None = None,
        class_weight: dict[Any, float] | str | None = "balanced",
        max_centers: int = 1000,
        random_state: int | np.random.RandomState | None = 0,
    ) -> None:
        self.n_properties = n_properties
        self.others = others
        self.class_columns = class_columns
        self.class_weight = class_weight
        self.max_centers = max_centers
        self.random_state = random_state

    @fits_as_a_whole
    def fit(self, X: Any, y: Any) -> Self:
        """Learn from the labelled rows.

        Parameters
        ----------
        X : array-like of shape (n, d)
            Properties may be NaN.
        y : array-like of shape (n,)
            Classes of any dtype; rows without a label, which are left out, are marked as in
            `SelfSupervisedClassifier`.

        Returns
        -------
        self : KernelProbe

        Raises
        ------
        ValueError
            There is one class only, ``n_properties``, ``others`` or ``class_columns`` are not
            numbers of columns, or an embedding holds NaN.
        """
        X, codes = self._check_rows(X, y, ensure_all_finite="allow-nan")
        self._check_parameters(X.shape[1])
        labelled = np.flatnonzero(codes >= 0)
        X, codes = X[labelled], codes[labelled]
        weights = compute_sample_weight(self.class_weight, self.classes_[codes])
        weights = weights / weights.mean()
        # the kernel of each representation
        centers = choose_centers(len(X), self.max_centers, self.random_state)
        self.centers_ = labelled[centers]
        parts = split_columns(X, self.n_properties, self.others)
        self.groups_ = [ColumnGroup.measure(*part, centers) for part in parts]
        kernels = join_kernels([g.kernel(*p) for g, p in zip(self.groups_, parts, strict=True)])
        # least squares with each
        machines = [self._solve(kernel, centers, codes, weights) for kernel in kernels]
        self._weigh(machines, X, codes, weights)
        return self

    def _check_parameters(self, n_columns: int) -> None:
        check_sizes(self.n_properties, self.others, n_columns)
        columns = self.class_columns
        if columns is not None and len(columns) != len(self.classes_):
            raise ValueError(
                f"class_columns has {len(columns)} columns, but y has {len(self.classes_)} "
                "classes: pass a column for each."
            )
        if self.max_centers < 2:
            raise ValueError(f"max_centers={self.max_centers} must be at least 2.")

    def _solve(
        self,
        kernel: Floats,
        centers: NDArray[np.int64],
        codes: NDArray[np.intp],
        weights: Floats,
    ) -> KernelMachine:
        """Fit a weighted ridge regression on the classes, with the best leave-one-out loss."""
        n_classes = len(self.classes_)
        targets = np.eye(n_classes)[codes] - 1 / n_classes
        values, rotated, back = decompose(kernel, centers, weights)
        # the regression, for all strengths at once
        projected = rotated.T @ (weights[:, None] * targets)
        squares, found = rotated**2, []
        for strength in STRENGTHS:
            inverse = 1 / (np.maximum(values, 0.0) + strength)
            fitted = rotated @ (inverse[:, None] * projected)
            leverage = np.minimum(weights * (squares @ inverse), MAX_LEVERAGE)
            outputs = targets + (fitted - targets) / (1 - leverage)[:, None]
            sharpness, loss = _sharpen(outputs, codes, weights)
            found.append((loss, float(strength), sharpness, outputs))
        _, strength, sharpness, outputs = min(found, key=itemgetter(0))
        inverse = 1 / (np.maximum(values, 0.0) + strength)
        coef = back @ (inverse[:, None] * projected)
        return KernelMachine(coef, strength, sharpness, outputs)

    def _weigh(
        self,
        machines: list[KernelMachine],
        X: Floats,
        codes: NDArray[np.intp],
        weights: Floats,
    ) -> None:
        """Choose the powers of the classes that are columns, and the shares of the kernels."""
        known = self._known_classes(X)
        logits = [m.sharpness * m.outputs for m in machines]
        powers = np.zeros(len(logits))
        if known is not None:
            powers = np.array([_find_power(each, known, codes, weights) for each in logits])
            logits = [each + p * known for each, p in zip(logits, powers, strict=True)]
        losses = np.array([_smoothed_loss(log_softmax(z, axis=1), codes, weights) for z in logits])
        # the likelihood of as many labels as count, where weights are unequal (Kish 1965)
        n_effective = weights.sum() ** 2 / (weights**2).sum()
        odds = np.array([1.0, *(other[2] if len(other) > 2 else 1.0 for other in self.others)])
        shares = odds * np.exp(-n_effective * (losses - losses.min()))
        shares[shares < _MIN_SHARE * shares.sum()] = 0.0
        self.shares_, self.class_powers_ = shares / shares.sum(), powers
        self.alpha_ = np.array([machine.alpha for machine in machines])
        self.sharpness_ = np.array([machine.sharpness for machine in machines])
        self.coefs_ = np.stack([machine.coef for machine in machines])
        mean = sum(s * softmax(z, axis=1) for s, z in zip(self.shares_, logits, strict=True))
        self.loo_probabilities_ = np.asarray(mean)
        logs = np.log(np.maximum(self.loo_probabilities_, np.finfo(float).tiny))
        self.loo_loss_ = _smoothed_loss(logs, codes, weights)

    def _known_classes(self, X: Floats) -> Floats | None:
        """Return the logarithm of the probabilities that are columns (n, k), if there are any."""
        if self.class_columns is None:
            return None
        probabilities = np.nan_to_num(X[:, list(self.class_columns)]) + _CLASS_FLOOR
        return np.log(probabilities / probabilities.sum(axis=1, keepdims=True))

    def _probabilities(self, X: Any) -> Floats:
        X = plain_rows(X)
        X = validate_data(self, X, reset=False, dtype=np.float64, ensure_all_finite="allow-nan")
        known = self._known_classes(X)
        parts = split_columns(X, self.n_properties, self.others)
        kernels = join_kernels([g.kernel(*p) for g, p in zip(self.groups_, parts, strict=True)])
        total = np.zeros((len(X), len(self.classes_)))
        for number in np.flatnonzero(self.shares_):
            logits = self.sharpness_[number] * (kernels[number] @ self.coefs_[number])
            if known is not None:
                logits += self.class_powers_[number] * known
            total += self.shares_[number] * softmax(logits, axis=1)
        return total

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        n_properties = [self.n_properties, *(other[1] for other in self.others)]
        tags.input_tags.allow_nan = max(n_properties) > 0
        return tags


def _smoothed_loss(logs: Floats, codes: NDArray[np.intp], weights: Floats) -> float:
    """Return the weighted mean log loss of logarithms of probabilities (n, k).

    One more label of each class is counted for every row, because the next prediction is not
    certain even if all of a few labels are predicted correctly.
    """
    n, n_classes = logs.shape
    own = np.take_along_axis(logs, codes[:, None], axis=1)[:, 0]
    return -float(np.average(n * own + logs.sum(axis=1), weights=weights)) / (n + n_classes)


def _sharpen(outputs: Floats, codes: NDArray[np.intp], weights: Floats) -> tuple[float, float]:
    """Return the factor that turns outputs into logits with the least log loss, and that loss."""

    def loss(log_sharpness: float) -> float:
        logs = log_softmax(np.exp(log_sharpness) * outputs, axis=1)
        return _smoothed_loss(logs, codes, weights)

    best = minimize_scalar(loss, bounds=_LOG_SHARPNESS_RANGE, method="bounded")
    return float(np.exp(best.x)), float(best.fun)


def _find_power(logits: Floats, known: Floats, codes: NDArray[np.intp], weights: Floats) -> float:
    """Return the power of known probabilities whose product with others has the least log loss."""

    def loss(power: float) -> float:
        return _smoothed_loss(log_softmax(logits + power * known, axis=1), codes, weights)

    return float(minimize_scalar(loss, bounds=(0, 1), method="bounded").x)
