"""KernelRegression: predict a number by kernel least squares, with its uncertainty."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from typing import Any, Self

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, RegressorMixin, clone
from sklearn.model_selection import GroupKFold
from sklearn.utils.validation import check_is_fitted, validate_data

from skastro.probes.kernels import (
    KERNEL_CONSTANT,
    MAX_LEVERAGE,
    STRENGTHS,
    ColumnGroup,
    Floats,
    check_sizes,
    choose_centers,
    decompose,
    split_columns,
)
from skastro.utils.fitting import fits_as_a_whole
from skastro.utils.validation import check_groups, draw_seed, plain_rows

LINEAR_SHARES = (0.05, 0.2, 0.5, 0.8)  # of the linear kernel, to compare
MIN_VALUES = 3  # known values that a regression needs
_SPREAD_STRENGTHS = np.geomspace(0.1, 1e4, 16)  # the strongest leave a constant spread
_MIN_SHARE = 0.01  # of the predictions; a kernel with less is left out
_SMOOTHING = 1e-3  # of the variance of y, added to losses and squared residuals: few values may fit
_N_FOLDS = 5  # in which errors are measured
_MAX_FOLD_VALUES = 1000  # with more, the leave-one-out errors are as good
_MAX_SPREAD = 5.0  # largest factor between the spread of a prediction and the usual one


class KernelRegression(RegressorMixin, BaseEstimator):
    r"""Predict a number by kernel least squares on an embedding and on properties.

    The kernels are those of `KernelProbe`: a linear one on the embedding and a radial one on the
    properties, of which several means are compared, alone and with each further representation. The
    predictions are the mean over all of them, weighted by the likelihood of the left-out values.

    A second least squares, on the logarithm of the squared residuals of the left-out values,
    predicts how large the error of a prediction is, where that predicts them better than a
    constant. Both are repeated in five folds: only errors of values that had no part in any choice
    are as large as those of new rows.

    Parameters
    ----------
    n_properties : int, default=0
    others : sequence of (int, int) or (int, int, float), default=()
    max_centers : int, default=1000
    random_state : int, RandomState or None, default=0
        All as in `KernelProbe`.

    Attributes
    ----------
    center_, scale_ : float
        Mean and standard deviation of the values.
    shares_ : array of shape (1 + g, 4)
        Weights of the means of kernels, for the first representation and for it with one of the g
        others; the columns are for 5, 20, 50 and 80 % of the linear kernel.
    alpha_ : array of shape (1 + g, 4)
        Strength of the regularisation that was chosen for each.
    coefs_ : array of shape (1 + g, 4, m)
        Coefficients of the m centres, for values of mean 0 and standard deviation 1.
    spread_coef_ : array of shape (m,)
        Coefficients of the logarithm of the variance, for the kernel of the largest share.
    spread_center_ : float
        Logarithm of the variance of a usual prediction.
    loo_predictions_, loo_std_ : array of shape (n,)
        Predictions and standard deviations of the known values in leave-one-out cross-validation.
    scores_ : array of shape (n,)
        Errors of the known values, in units of their standard deviations, in five folds; in
        leave-one-out cross-validation where there are more than 1,000 values, or fewer than six.
    values_ : array of shape (n,)
        The known values.
    centers_ : int array
        Numbers of the rows of `fit` that were used as centres of the kernel.
    n_features_in_ : int

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> X = rng.uniform(-2, 2, size=(200, 2))
    >>> y = np.sin(X[:, 0]) + 0.1 * rng.normal(size=200)
    >>> model = KernelRegression().fit(X[:100], y[:100])
    >>> model.score(X[100:], y[100:]) > 0.9
    True
    >>> mean, std = model.predict(X[100:], return_std=True)
    >>> bool(0.08 < std.mean() < 0.15)
    True
    """

    centers_: NDArray[np.int64]
    loo_std_: Floats

    def __init__(
        self,
        n_properties: int = 0,
        *,
        others: Sequence[tuple[float, ...]] = (),
        max_centers: int = 1000,
        random_state: int | np.random.RandomState | None = 0,
    ) -> None:
        self.n_properties = n_properties
        self.others = others
        self.max_centers = max_centers
        self.random_state = random_state

    @fits_as_a_whole
    def fit(self, X: Any, y: Any, groups: Any = None) -> Self:
        """Learn from the rows whose value is known.

        Parameters
        ----------
        X : array-like of shape (n, d)
            Properties may be NaN.
        y : array-like of shape (n,)
            Values; NaN where unknown.
        groups : array-like of shape (n,), default=None
            Rows of one group are left out together.

        Returns
        -------
        self : KernelRegression

        Raises
        ------
        ValueError
            Fewer than three values are known, or ``n_properties`` and ``others`` are not numbers
            of columns.
        """
        X = validate_data(
            self,
            plain_rows(X),
            dtype=np.float64,
            ensure_all_finite="allow-nan",
            ensure_min_samples=1,
        )
        check_sizes(self.n_properties, self.others, X.shape[1])
        y = np.asarray(y, dtype=np.float64)
        groups = check_groups(groups, len(y))
        known = np.flatnonzero(~np.isnan(y))
        check_count(len(known))
        groups = None if groups is None else groups[known]
        self._learn(X[known], y[known], groups)
        self.centers_ = known[self.centers_]
        self._calibrate(X[known], groups)
        return self

    def _learn(self, X: Floats, y: Floats, groups: NDArray[np.int64] | None) -> Self:
        """Learn from rows that all have a value."""
        together = _list_groups(groups)
        self.values_, self.center_ = y, float(y.mean())
        self.scale_ = float(y.std()) or 1.0
        targets = (y - self.center_) / self.scale_
        # a regression on each mean of kernels
        centers = choose_centers(len(X), self.max_centers, self.random_state)
        self.centers_ = centers
        parts = split_columns(X, self.n_properties, self.others)
        self.groups_ = [ColumnGroup.measure(*part, centers) for part in parts]
        kernels = self._mix(parts)
        found = [[_solve(k, centers, targets, together) for k in row] for row in kernels]
        self.alpha_ = np.array([[strength for _, strength, _ in row] for row in found])
        self.coefs_ = np.array([[coef for coef, _, _ in row] for row in found])
        left_out = np.array([[outputs for _, _, outputs in row] for row in found])
        self.shares_ = self._weigh(((left_out - targets) ** 2).mean(axis=2))
        outputs = np.einsum("ij,ijn->n", self.shares_, left_out)
        self.loo_predictions_ = self.center_ + self.scale_ * outputs
        # how large errors are
        best = kernels[self._best[0]][self._best[1]]
        self._fit_spread(best, centers, (targets - outputs) ** 2, together)
        return self

    def _calibrate(self, X: Floats, groups: NDArray[np.int64] | None) -> None:
        """Measure errors of values that had no part in any choice, and scale the spread by them."""
        y, units = self.values_, np.arange(len(X)) if groups is None else groups
        n_units = len(np.unique(units))
        scores = np.abs(y - self.loo_predictions_) / self.loo_std_
        if n_units >= 2 * MIN_VALUES and len(X) <= _MAX_FOLD_VALUES:
            folds = GroupKFold(_N_FOLDS, shuffle=True, random_state=draw_seed(self.random_state))
            for learn, test in folds.split(X, groups=units):
                if len(learn) < MIN_VALUES:  # one group has nearly all
                    continue
                part = None if groups is None else groups[learn]
                model = clone(self)._learn(X[learn], y[learn], part)  # noqa: SLF001
                values, std = model._predict(X[test])  # noqa: SLF001
                scores[test] = np.abs(y[test] - values) / std
        size = float(np.sqrt((scores**2).mean())) or 1.0
        self.scores_ = scores / size
        self.spread_center_ += 2 * math.log(size)
        self.loo_std_ = self.loo_std_ * size

    def predict(self, X: Any, *, return_std: bool = False) -> Any:
        """Predict values, and the standard deviation of their errors with ``return_std``.

        Parameters
        ----------
        X : array-like of shape (n, d)
        return_std : bool, default=False

        Returns
        -------
        values : float64 array of shape (n,)
        std : float64 array of shape (n,)
            If asked for; in the unit of the values.
        """
        check_is_fitted(self)
        X = validate_data(
            self, plain_rows(X), reset=False, dtype=np.float64, ensure_all_finite="allow-nan"
        )
        values, std = self._predict(X)
        return (values, std) if return_std else values

    def _predict(self, X: Floats) -> tuple[Floats, Floats]:
        """Return values and standard deviations."""
        kernels = self._mix(split_columns(X, self.n_properties, self.others))
        values = np.full(len(X), self.center_)
        for i, j in np.argwhere(self.shares_):
            values += self.scale_ * self.shares_[i, j] * (kernels[i][j] @ self.coefs_[i, j])
        best = kernels[self._best[0]][self._best[1]]
        return values, self._to_std(best @ self.spread_coef_)

    def interval_factor(self, coverage: float) -> float:
        """Return the number of standard deviations that intervals of a coverage reach.

        The errors of left-out values, in units of their standard deviations, are below it with
        this probability (split conformal prediction, with order statistics interpolated).
        """
        if not 0 < coverage < 1:
            raise ValueError(f"coverage={coverage} must be between 0 and 1, such as 0.9.")
        needed = math.ceil(1 / (1 - coverage) - 1 - 1e-9)
        if len(self.values_) < needed:
            warnings.warn(
                f"{coverage:.0%} cannot be promised from fewer than {needed} values, but there "
                f"are {len(self.values_)}: measure more, or ask for a smaller coverage.",
                stacklevel=3,
            )
        return float(np.quantile(self.scores_, coverage, method="weibull"))

    @property
    def _best(self) -> tuple[int, int]:
        """Place of the largest share."""
        i, j = np.unravel_index(self.shares_.argmax(), self.shares_.shape)
        return int(i), int(j)

    def _mix(self, parts: Sequence[tuple[Floats, Floats]]) -> list[list[Floats]]:
        """Return the means of the kernels of rows with the centres, in the order of ``shares_``."""
        pairs = [g.kernels(*part) for g, part in zip(self.groups_, parts, strict=True)]
        mixed: list[list[Floats]] = []
        for number, pair in enumerate(pairs):
            linear, radial = (
                own if number == 0 else (own + first) / 2
                for own, first in zip(pair, pairs[0], strict=True)
            )
            mixed.append([s * linear + (1 - s) * radial + KERNEL_CONSTANT for s in LINEAR_SHARES])
        return mixed

    def _weigh(self, losses: Floats) -> Floats:
        """Return the shares of kernels by their mean squared errors of left-out values."""
        odds = np.array([1.0, *(other[2] if len(other) > 2 else 1.0 for other in self.others)])
        # the likelihood of normal errors of this variance
        logs = -len(self.values_) / 2 * np.log(losses + _SMOOTHING)
        shares = odds[:, None] * np.exp(logs - logs.max())
        shares[shares < _MIN_SHARE * shares.sum()] = 0.0
        return shares / shares.sum()

    def _fit_spread(
        self, kernel: Floats, centers: NDArray[np.int64], squares: Floats, together: Any
    ) -> None:
        """Learn the logarithm of the variance from squared residuals, unless it is a constant."""
        squares = squares + _SMOOTHING * squares.mean() + np.finfo(float).tiny
        logs = np.log(squares)
        coef, _, left_out = _solve(kernel, centers, logs - logs.mean(), together, _SPREAD_STRENGTHS)
        left_out = _clip(left_out)
        self.spread_coef_ = coef
        self.spread_center_ = float(np.log((squares / np.exp(left_out)).mean()))
        # the negative log likelihood of normal errors, without what both have in common
        if self.spread_center_ + left_out.mean() >= np.log(squares.mean()):
            self.spread_coef_, left_out = np.zeros_like(coef), np.zeros_like(left_out)
            self.spread_center_ = float(np.log(squares.mean()))
        self.loo_std_ = self._to_std(left_out)

    def _to_std(self, excess: Floats) -> Floats:
        """Return standard deviations for logarithms of the variance, relative to the usual one."""
        return self.scale_ * np.exp((self.spread_center_ + _clip(excess)) / 2)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        n_properties = [self.n_properties, *(other[1] for other in self.others)]
        tags.input_tags.allow_nan = max(n_properties) > 0
        return tags


def check_count(n: int) -> None:
    """Refuse fewer known values than a regression needs."""
    if n < MIN_VALUES:
        raise ValueError(
            f"y has a known value for {n} sample{'s' * (n != 1)} only: pass at least {MIN_VALUES} "
            "values, and NaN where it is unknown."
        )


def _clip(excess: Floats) -> Floats:
    reach = 2 * np.log(_MAX_SPREAD)
    return excess.clip(-reach, reach)


def _list_groups(groups: NDArray[np.int64] | None) -> list[NDArray[np.intp]]:
    """Return the rows of each group of several rows."""
    if groups is None:
        return []
    return [rows for rows in pd.Series(groups).groupby(groups).indices.values() if len(rows) > 1]


def _solve(
    kernel: Floats,
    centers: NDArray[np.int64],
    targets: Floats,
    together: Sequence[NDArray[np.intp]],
    strengths: Floats = STRENGTHS,
) -> tuple[Floats, float, Floats]:
    """Fit a ridge regression with the strength of the least leave-one-out error.

    Returns the coefficients (m,), the strength, and the predictions of left-out rows (n,). Rows
    that belong ``together`` are left out together.
    """
    values, rotated, back = decompose(kernel, centers, np.ones(len(kernel)))
    projected, squares = rotated.T @ targets, rotated**2
    best: tuple[float, float, Floats] = (np.inf, 0.0, targets)
    for strength in strengths:
        inverse = 1 / (np.maximum(values, 0.0) + strength)
        residuals = targets - rotated @ (inverse * projected)
        errors = residuals / (1 - np.minimum(squares @ inverse, MAX_LEVERAGE))
        for rows in together:
            hat = rotated[rows] * inverse @ rotated[rows].T
            errors[rows] = np.linalg.solve((1 + 1e-9) * np.eye(len(rows)) - hat, residuals[rows])
        loss = float((errors**2).mean())
        if loss < best[0]:
            best = loss, float(strength), targets - errors
    _, strength, outputs = best
    inverse = 1 / (np.maximum(values, 0.0) + strength)
    return back @ (inverse * projected), strength, outputs
