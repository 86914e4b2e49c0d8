"""KernelProbe: classify by kernel least squares on an embedding and on properties."""

from __future__ import annotations

from numbers import Integral
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax, softmax
from sklearn.metrics.pairwise import euclidean_distances
from sklearn.utils.class_weight import compute_sample_weight
from sklearn.utils.validation import validate_data

from skastro.estimators.linear_probe import Probe
from skastro.utils.fitting import fits_as_a_whole
from skastro.utils.validation import draw_seed, plain_rows

_Floats = NDArray[np.float64]
_STRENGTHS = np.geomspace(1e-3, 100.0, 16)  # of the regularisation, to compare
_KERNEL_CONSTANT = 0.3  # added to the kernel: acts as a weakly regularised intercept
_MAX_DEVIATIONS = 5.0  # standard deviations at which outliers are clipped
_N_WIDTH_ROWS = 500  # rows whose distances give the width of the radial kernel
_LOG_SHARPNESS_RANGE = (-3.0, 5.0)
_MAX_LEVERAGE = 1 - 1e-9
_MIN_EIGENVALUE = 1e-10  # of the largest; smaller ones are rounding noise


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

    Parameters
    ----------
    n_properties : int, default=0
        Number of properties, in any units: the last columns. The columns before them are the
        embedding, with mean 0 and about the same spread. With 0, both kernels use all columns.
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
    alpha_ : float
        Strength of the regularisation that was chosen.
    sharpness_ : float
        Factor between the outputs of the least squares and the logits.
    loo_loss_ : float
        Weighted mean log loss (nat) in leave-one-out cross-validation, with one more label of each
        class counted for every row.
    loo_probabilities_ : array of shape (n, k)
        Probabilities of the labelled rows in leave-one-out cross-validation.
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
    """

    def __init__(
        self,
        n_properties: int = 0,
        *,
        class_weight: dict[Any, float] | str | None = "balanced",
        max_centers: int = 1000,
        random_state: int | np.random.RandomState | None = 0,
    ) -> None:
        self.n_properties = n_properties
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
            There is one class only, ``n_properties`` is not a number of columns, or the
            embedding holds NaN.
        """
        X, codes = self._check_rows(X, y, ensure_all_finite="allow-nan")
        if not isinstance(self.n_properties, Integral) or not 0 <= self.n_properties <= X.shape[1]:
            raise ValueError(
                f"n_properties={self.n_properties!r} must be a number of columns: X has "
                f"{X.shape[1]}."
            )
        if self.max_centers < 2:
            raise ValueError(f"max_centers={self.max_centers} must be at least 2.")
        labelled = np.flatnonzero(codes >= 0)
        X, codes = X[labelled], codes[labelled]
        weights = compute_sample_weight(self.class_weight, self.classes_[codes])
        rows = self._measure_scales(X)
        whitening = self._choose_centers(*rows, labelled)
        self._solve(self._kernel(*rows), whitening, codes, weights / weights.mean())
        return self

    def _split(self, X: _Floats) -> tuple[_Floats, _Floats]:
        """Return the embedding and the properties."""
        first = X.shape[1] - self.n_properties
        embedding, properties = (X[:, :first], X[:, first:]) if self.n_properties else (X, X)
        if np.isnan(embedding).any():
            row = int(np.flatnonzero(np.isnan(embedding).any(axis=1))[0])
            raise ValueError(f"X holds NaN in the embedding of row {row}: embed it again.")
        return embedding, properties

    def _scale(self, embedding: _Floats, properties: _Floats) -> tuple[_Floats, _Floats]:
        properties = (properties - self.center_) / self.scale_
        properties = np.nan_to_num(properties, nan=0.0).clip(-_MAX_DEVIATIONS, _MAX_DEVIATIONS)
        return embedding / self.length_, properties

    def _measure_scales(self, X: _Floats) -> tuple[_Floats, _Floats]:
        """Measure the scales of the two kernels, and return the scaled rows."""
        embedding, properties = self._split(X)
        values = np.ma.masked_invalid(properties)
        self.center_ = values.mean(axis=0).filled(0.0)
        spread = values.std(axis=0).filled(0.0)
        # a constant column is left out by an infinite scale
        self.scale_ = np.where(spread > 1e-9 * (1 + np.abs(self.center_)), spread, np.inf)
        self.length_ = np.sqrt((embedding**2).sum(axis=1).mean()) or 1.0
        scaled = self._scale(embedding, properties)
        sample = scaled[1][:: -(-len(X) // _N_WIDTH_ROWS)]
        distances = euclidean_distances(sample, squared=True)
        self.width_ = float(np.median(distances[np.triu_indices(len(sample), 1)])) or 1.0
        return scaled

    def _choose_centers(
        self, embedding: _Floats, properties: _Floats, rows: NDArray[np.int64]
    ) -> _Floats:
        """Choose the centres; return the map that makes their kernel features orthonormal.

        ``rows`` are the numbers of these rows in X.
        """
        n = len(embedding)
        centers: NDArray[np.int64] = np.arange(n)
        if n > self.max_centers:
            generator = np.random.default_rng(draw_seed(self.random_state))
            centers = np.sort(generator.choice(n, self.max_centers, replace=False))
        self.centers_ = rows[centers]
        self._center_embedding, self._center_properties = embedding[centers], properties[centers]
        kernel = self._kernel(self._center_embedding, self._center_properties)
        values, vectors = np.linalg.eigh(kernel)
        large = values > _MIN_EIGENVALUE * values[-1]
        return vectors[:, large] / np.sqrt(values[large])

    def _kernel(self, embedding: _Floats, properties: _Floats) -> _Floats:
        distances = euclidean_distances(properties, self._center_properties, squared=True)
        radial = np.exp(-distances / self.width_)
        return (embedding @ self._center_embedding.T + radial) / 2 + _KERNEL_CONSTANT

    def _solve(
        self, kernel: _Floats, whitening: _Floats, codes: NDArray[np.intp], weights: _Floats
    ) -> None:
        """Fit a weighted ridge regression on the classes, with the best leave-one-out loss."""
        features = kernel @ whitening
        n_classes = len(self.classes_)
        targets = np.eye(n_classes)[codes] - 1 / n_classes
        values, vectors = np.linalg.eigh(features.T @ (weights[:, None] * features))
        rotated = features @ vectors
        projected = rotated.T @ (weights[:, None] * targets)
        self.loo_loss_ = np.inf
        for strength in _STRENGTHS:
            inverse = 1 / (np.maximum(values, 0.0) + strength)
            fitted = rotated @ (inverse[:, None] * projected)
            leverage = np.minimum(weights * (rotated**2 @ inverse), _MAX_LEVERAGE)
            outputs = targets + (fitted - targets) / (1 - leverage)[:, None]
            sharpness, loss = _sharpen(outputs, codes, weights)
            if loss < self.loo_loss_:
                self.alpha_, self.sharpness_, self.loo_loss_ = float(strength), sharpness, loss
                self.loo_probabilities_ = softmax(sharpness * outputs, axis=1)
                self._coef = whitening @ (vectors @ (inverse[:, None] * projected))

    def _probabilities(self, X: Any) -> _Floats:
        X = plain_rows(X)
        X = validate_data(self, X, reset=False, dtype=np.float64, ensure_all_finite="allow-nan")
        outputs = self._kernel(*self._scale(*self._split(X))) @ self._coef
        return softmax(self.sharpness_ * outputs, axis=1)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = self.n_properties > 0
        return tags


def _sharpen(outputs: _Floats, codes: NDArray[np.intp], weights: _Floats) -> tuple[float, float]:
    """Return the factor that turns outputs into logits with the least log loss, and that loss.

    One more label of each class is counted for every output, because the next prediction is not
    certain even if all of a few labels are predicted correctly.
    """
    rows, (n, n_classes) = np.arange(len(codes)), outputs.shape

    def loss(log_sharpness: float) -> float:
        logs = log_softmax(np.exp(log_sharpness) * outputs, axis=1)
        others = logs.sum(axis=1)
        return -float(np.average(n * logs[rows, codes] + others, weights=weights)) / (n + n_classes)

    best = minimize_scalar(loss, bounds=_LOG_SHARPNESS_RANGE, method="bounded")
    return float(np.exp(best.x)), float(best.fun)
