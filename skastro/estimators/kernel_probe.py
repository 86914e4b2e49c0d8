"""KernelProbe: what a representation and its properties know, by kernel least squares."""

from __future__ import annotations

from numbers import Integral
from typing import Any, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax, softmax
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.metrics.pairwise import euclidean_distances
from sklearn.utils.class_weight import compute_sample_weight
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, validate_data

from skastro.utils.validation import Documented, draw_seed

_Floats = NDArray[np.float64]
_STRENGTHS = np.geomspace(1e-3, 100.0, 16)  # of the regularisation, that are compared
_BIAS = 0.3  # a constant in the kernel: the intercept, regularised a little
_CLIP = 5.0  # standard deviations: an outlier is far, not infinitely far
_SAMPLE = 500  # rows whose distances give the width of the radial kernel
_SHARPNESS = (-3.0, 5.0)  # natural logarithms between which the sharpness lies
_MOST_LEVERAGE = 1 - 1e-9
_RANK = 1e-10  # eigenvalues below it, of the largest, are rounding


class _Parts(NamedTuple):
    """Rows as the two kernels see them."""

    embedding: _Floats
    properties: _Floats


class KernelProbe(Documented, ClassifierMixin, BaseEstimator):
    r"""Classify by kernel least squares on an embedding and on properties.

    The kernel is the mean of a linear one on the embedding and a radial one on the properties,

    .. math:: k(x, x') = \frac{1}{2} \frac{e \cdot e'}{\langle |e|^2 \rangle}
              + \frac{1}{2} \exp\!\left(-\frac{|p - p'|^2}{\operatorname{med} |p - p'|^2}\right) .

    With few labels the first generalises; with many the second draws the curved borders between
    classes, in magnitudes, colours and sizes, that no linear probe can. Both the regularisation
    and the sharpness of the probabilities are chosen by the log loss of the labelled rows, each
    predicted by all others, which costs nothing (leave-one-out in closed form: Rifkin & Lippert
    2007, MIT-CSAIL-TR-2007-025). It is the mean of a Gaussian process, too.

    Parameters
    ----------
    n_properties : int, default=0
        So many last columns are properties, in any units, and the columns before them the
        embedding, of mean 0 and about the same spread. 0: all columns are both.
    class_weight : dict, "balanced" or None, default="balanced"
        As in scikit-learn.
    max_centers : int, default=1000
        With more rows, the kernel is approximated by as many of them, drawn at random
        (Nyström); the solution still learns from all.
    random_state : int, RandomState or None, default=0
        Of that draw.

    Attributes
    ----------
    classes_ : array of shape (k,)
    alpha_ : float
        Regularisation that was chosen.
    sharpness_ : float
        Factor from the outputs of the least squares to the logits.
    loo_loss_ : float
        Weighted mean log loss of the labelled rows, each predicted by all others (nat), with one
        more label of each class counted for every row.
    loo_probabilities_ : array of shape (n, k)
        Of the labelled rows, each predicted by all others.
    centers_ : int array
        Rows of the fit that carry the kernel.
    n_features_in_ : int

    Notes
    -----
    A property that is NaN counts as the mean of its column. Probabilities with
    ``class_weight="balanced"`` are those for classes of equal frequency.

    Examples
    --------
    A ring around a disc, which no straight line can tell apart:

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

    def fit(self, X: Any, y: Any) -> Self:
        """Learn from all rows.

        Parameters
        ----------
        X : array-like of shape (n, d)
            Properties may be NaN.
        y : array-like of shape (n,)
            Classes of any dtype.

        Returns
        -------
        self : KernelProbe

        Raises
        ------
        ValueError
            There is one class only, ``n_properties`` is not a number of columns, or the
            embedding holds NaN.
        """
        X, y = validate_data(self, X, y, dtype=np.float64, ensure_all_finite="allow-nan")
        check_classification_targets(y)
        self._check_parameters()
        self.classes_, codes = np.unique(y, return_inverse=True)
        if len(self.classes_) < 2:
            raise ValueError(
                f"y holds one class only ({self.classes_[0]!r}): label rows of two at least."
            )
        weights = compute_sample_weight(self.class_weight, y)
        parts = self._measure_scales(X)
        self._choose_centers(parts)
        self._solve(self._features(parts), codes, weights / weights.mean())
        return self

    def predict(self, X: Any) -> NDArray[Any]:
        """Return the most probable class of each row.

        Parameters
        ----------
        X : array-like of shape (n, d)
            As in `fit`.

        Returns
        -------
        classes : array of shape (n,)
            In the dtype of the labels.
        """
        outputs = self._outputs(X)
        return self.classes_[outputs.argmax(axis=1)]

    def predict_proba(self, X: Any) -> _Floats:
        """Return the probability of each class.

        Parameters
        ----------
        X : array-like of shape (n, d)
            As in `fit`.

        Returns
        -------
        probabilities : float64 array of shape (n, k)
            In the order of ``classes_``.
        """
        outputs = self._outputs(X)
        return softmax(self.sharpness_ * outputs, axis=1)

    def _check_parameters(self) -> None:
        n = self.n_properties
        if not isinstance(n, Integral) or not 0 <= n <= self.n_features_in_:
            raise ValueError(
                f"n_properties={n!r} must be a number of columns: X has {self.n_features_in_}."
            )
        if self.max_centers < 2:
            raise ValueError(f"max_centers={self.max_centers} must be at least 2.")

    def _split(self, X: NDArray[Any]) -> _Parts:
        first = X.shape[1] - self.n_properties
        embedding = X[:, :first] if self.n_properties else X
        properties = X[:, first:] if self.n_properties else X
        if np.isnan(embedding).any():
            row = int(np.flatnonzero(np.isnan(embedding).any(axis=1))[0])
            raise ValueError(f"X holds NaN in the embedding of row {row}: embed it again.")
        return _Parts(embedding, properties)

    def _scaled(self, parts: _Parts) -> _Parts:
        properties = (parts.properties - self.center_) / self.scale_
        properties = np.clip(np.nan_to_num(properties, nan=0.0), -_CLIP, _CLIP)
        return _Parts(parts.embedding / self.length_, properties)

    def _measure_scales(self, X: NDArray[Any]) -> _Parts:
        parts = self._split(X)
        values = np.ma.masked_invalid(parts.properties)
        self.center_ = values.mean(axis=0).filled(0.0)
        spread = values.std(axis=0).filled(0.0)
        # a column that is constant tells nothing
        self.scale_ = np.where(spread > 1e-9 * (1 + np.abs(self.center_)), spread, np.inf)
        self.length_ = np.sqrt((parts.embedding**2).sum(axis=1).mean()) or 1.0
        self.width_ = 1.0
        scaled = self._scaled(parts)
        sample = scaled.properties[:: -(-len(X) // _SAMPLE)]
        distances = euclidean_distances(sample, squared=True)
        self.width_ = float(np.median(distances[np.triu_indices(len(sample), 1)])) or 1.0
        return scaled

    def _choose_centers(self, parts: _Parts) -> None:
        """Take rows to carry the kernel, and the map that makes their features orthonormal."""
        n = len(parts.embedding)
        self.centers_ = np.arange(n)
        if n > self.max_centers:
            generator = np.random.default_rng(draw_seed(self.random_state))
            self.centers_ = np.sort(generator.choice(n, self.max_centers, replace=False))
        self._center_parts = _Parts(*(part[self.centers_] for part in parts))
        values, vectors = np.linalg.eigh(self._kernel(self._center_parts))
        kept = values > _RANK * values[-1]
        self._whitening = vectors[:, kept] / np.sqrt(values[kept])

    def _kernel(self, parts: _Parts) -> _Floats:
        linear = parts.embedding @ self._center_parts.embedding.T
        distances = euclidean_distances(
            parts.properties, self._center_parts.properties, squared=True
        )
        return (linear + np.exp(-distances / self.width_)) / 2 + _BIAS

    def _features(self, parts: _Parts) -> _Floats:
        return self._kernel(parts) @ self._whitening

    def _solve(self, features: _Floats, codes: NDArray[np.intp], weights: _Floats) -> None:
        """Weighted ridge regression on the classes; strength and sharpness by leaving one out."""
        n_classes = len(self.classes_)
        targets = np.eye(n_classes)[codes] - 1 / n_classes
        values, vectors = np.linalg.eigh(features.T @ (weights[:, None] * features))
        rotated = features @ vectors
        projected = rotated.T @ (weights[:, None] * targets)
        self.loo_loss_ = np.inf
        for strength in _STRENGTHS:
            inverse = 1 / (np.maximum(values, 0.0) + strength)
            fitted = rotated @ (inverse[:, None] * projected)
            leverage = np.minimum(weights * (rotated**2 @ inverse), _MOST_LEVERAGE)
            outputs = targets + (fitted - targets) / (1 - leverage)[:, None]
            sharpness, loss = _sharpen(outputs, codes, weights)
            if loss < self.loo_loss_:
                self.alpha_, self.sharpness_, self.loo_loss_ = float(strength), sharpness, loss
                self.loo_probabilities_ = softmax(sharpness * outputs, axis=1)
                self._coef = self._whitening @ (vectors @ (inverse[:, None] * projected))

    def _outputs(self, X: Any) -> _Floats:
        check_is_fitted(self)
        X = validate_data(self, X, reset=False, dtype=np.float64, ensure_all_finite="allow-nan")
        return self._kernel(self._scaled(self._split(X))) @ self._coef

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = self.n_properties > 0
        return tags


def _sharpen(outputs: _Floats, codes: NDArray[np.intp], weights: _Floats) -> tuple[float, float]:
    """Return the factor that makes the outputs the best logits, and their log loss.

    One more label of each class is counted for every output: that all of a few labels were
    predicted rightly does not make the next one certain.
    """
    rows, (n, n_classes) = np.arange(len(codes)), outputs.shape

    def loss(log_sharpness: float) -> float:
        logs = log_softmax(np.exp(log_sharpness) * outputs, axis=1)
        others = logs.sum(axis=1)
        return -float(np.average(n * logs[rows, codes] + others, weights=weights)) / (n + n_classes)

    found = minimize_scalar(loss, bounds=_SHARPNESS, method="bounded")
    return float(np.exp(found.x)), float(found.fun)
