"""Shapley values of named properties: what moved the probability that a probe gives a class."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import comb

from skastro.probes.kernel_probe import KernelProbe

_Floats = NDArray[np.float64]
_MAX_EXACT = 10  # properties up to which all sets of them are compared
_N_ORDERS = 16  # random orders of more properties, each taken in both directions
_SAME = 0.9  # correlation from which two columns are one property, under the first name
_RIDGE = 0.1  # regularisation of the regression on properties, in units of their variances
_MAX_DEVIATIONS = 5.0  # standard deviations at which the probe clips properties
_MIN_VARIANCE = 1e-6  # of a column in units of the probe; constants explain nothing
_MAX_CHUNK = 2**24  # numbers in the rows that are classified at once


class PropertyShapley:
    """Share the probability of a class among named properties of an object.

    A set of properties is worth the probability of the class at the columns that are expected when
    only these properties are known, by a ridge regression of all columns, the embedding too, on
    them. Nothing known is the typical object: the mean over the classes.

    Parameters
    ----------
    probe : KernelProbe
        Fitted; its centres are the labelled rows from which the regression learns.
    names : mapping of int to str
        Names of columns that may explain, the clearest names first. A column that correlates with
        an earlier one by more than 0.9 stands under the name of that one.
    codes : int array of shape (m,), default=None
        Classes of the m centres, which all count the same then.

    Attributes
    ----------
    names_ : list of str
        The K properties among which the probability is shared.
    columns_ : int array of shape (K,)
    typical_ : float64 array of shape (K,)
        Their values for the typical object.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> X = rng.normal(size=(200, 3))
    >>> probe = KernelProbe(2).fit(X, X[:, 1] > 0)
    >>> properties = PropertyShapley(probe, {1: "flux", 2: "noise"})
    >>> base, contributions, known = properties.explain([[0.0, 2.0, 0.0]], [1])
    >>> bool(abs(contributions[0, 0]) > 5 * abs(contributions[0, 1]))
    True
    >>> bool(np.allclose(base + contributions.sum(axis=1), known))
    True
    """

    def __init__(
        self, probe: KernelProbe, names: Mapping[int, str], codes: NDArray[Any] | None = None
    ) -> None:
        self.probe = probe
        self._measure_background(codes)
        # one column of each property
        spread = np.sqrt(np.maximum(np.diag(self._covariance), 1e-300))
        chosen: list[int] = []
        for column in names:
            if spread[column] ** 2 < _MIN_VARIANCE:
                continue
            along = self._covariance[column, chosen] / (spread[column] * spread[chosen])
            if not (np.abs(along) > _SAME).any():
                chosen.append(column)
        self.columns_ = np.array(chosen, dtype=np.int64)
        self.names_ = [names[column] for column in chosen]
        self.typical_ = self._restore(self._mean[None])[0, self.columns_]

    def explain(
        self, X: Any, codes: Any, *, random_state: int = 0
    ) -> tuple[_Floats, _Floats, _Floats]:
        """Share the probability of one class of each object among the properties.

        Up to 10 properties the values are exact, and else a mean over 32 orders of the properties.

        Parameters
        ----------
        X : array-like of shape (n, d)
            Columns of the probe; properties may be NaN, which counts as typical.
        codes : array-like of shape (n,)
            Number of the class of each object, in the order of ``classes_`` of the probe.
        random_state : int, default=0
            Seed of the orders.

        Returns
        -------
        base : float64 array of shape (n,)
            Probability of the class for the typical object.
        contributions : float64 array of shape (n, K)
        known : float64 array of shape (n,)
            Probability where all properties are known: base and contributions together.
        """
        X, codes = np.asarray(X, dtype=np.float64), np.asarray(codes)
        sets, weights = _plan_sets(len(self.columns_), random_state)
        away = self._scale_rows(X)[:, self.columns_] - self._mean[self.columns_]
        n_each = max(1, _MAX_CHUNK // (len(sets) * X.shape[1]))
        worth = [
            self._value(sets, away[start : start + n_each], codes[start : start + n_each])
            for start in range(0, len(X), n_each)
        ]
        values = np.hstack([np.empty((len(sets), 0)), *worth])  # (sets, n)
        return values[0], (weights @ values).T, values[-1]

    def change(self, X: Any, name: str, value: Any) -> _Floats:
        """Return the columns that are expected when one property changes.

        Parameters
        ----------
        X : array-like of shape (n, d)
        name : str
            One of ``names_``.
        value : float or array-like of shape (n,)
            Its new value; the other columns follow by the regression on this property.

        Returns
        -------
        columns : float64 array of shape (n, d)
        """
        rows = self._scale_rows(np.asarray(X, dtype=np.float64))
        column = self.columns_[self.names_.index(name)]
        goal = (np.asarray(value) - self._center[column]) / self._spread[column]
        slope = self._covariance[column] / self._covariance[column, column]
        return self._restore(rows + (goal - rows[:, column])[:, None] * slope)

    def similarities(self, X: Any) -> _Floats:
        """Return the kernel of the probe between rows and its centres (n, m), 1 for equal rows."""
        rows, centers = self._scale_rows(np.asarray(X, dtype=np.float64)), self._background
        raw, shares = self._restore(rows), self.probe.shares_
        # what each representation adds to the mean of the kernels
        parts = [shares[0] + shares[1:].sum() / 2, *shares[1:] / 2]
        total = np.zeros((len(rows), len(centers)))
        own = [np.zeros(len(rows)), np.zeros(len(centers))]  # of each row with itself
        for share, (embedding, properties), group in zip(
            parts, self._parts, self.probe.groups_, strict=True
        ):
            total += share * group.kernel(raw[:, embedding], raw[:, properties])
            for k, values in enumerate((rows, centers)):
                own[k] += share * ((values[:, embedding] ** 2).sum(axis=1) + 1) / 2
        return total / np.sqrt(own[0][:, None] * own[1])

    def _measure_background(self, codes: NDArray[Any] | None) -> None:
        """Measure scales, means and covariances of all columns, of the centres of the probe."""
        probe = self.probe
        sizes = [tuple(map(int, other[:2])) for other in probe.others]
        first = probe.n_features_in_ - probe.n_properties - sum(map(sum, sizes))
        center, scale, parts, blocks, is_property, start = [], [], [], [], [], 0
        for (d, p), group in zip([(first, probe.n_properties), *sizes], probe.groups_, strict=True):
            embedding = slice(start, start + d)
            # as in the probe, one kind of columns serves both kernels
            parts.append((embedding, slice(start + d, start + d + p) if p else embedding))
            is_property += [np.zeros(d, bool), np.ones(p, bool)]
            center += [np.zeros(d), group.center[:p]]
            scale += [np.full(d, group.length), group.scale[:p]]
            blocks += [group.embedding, group.properties[:, :p]]
            start += d + p
        self._center, self._parts = np.concatenate(center), parts
        self._scale = np.concatenate(scale)
        self._spread = np.where(np.isfinite(self._scale), self._scale, 0.0)
        self._is_property = np.concatenate(is_property)
        self._background = np.hstack(blocks)
        weights = np.ones(len(self._background))
        if codes is not None:
            weights = 1 / np.bincount(codes)[codes]
        weights /= weights.sum()
        self._mean = weights @ self._background
        away = self._background - self._mean
        self._covariance = (away * weights[:, None]).T @ away

    def _scale_rows(self, X: _Floats) -> _Floats:
        """Return columns in the units of the probe, without NaN."""
        rows = np.nan_to_num((X - self._center) / self._scale)
        clipped = rows.clip(-_MAX_DEVIATIONS, _MAX_DEVIATIONS)
        return np.where(self._is_property, clipped, rows)

    def _restore(self, rows: _Floats) -> _Floats:
        """Return columns in their own units; those with probabilities of classes stay in 0 to 1."""
        X = rows * self._spread + self._center
        if self.probe.class_columns is not None:
            columns = list(self.probe.class_columns)
            X[:, columns] = X[:, columns].clip(0, 1)
        return X

    def _value(self, sets: NDArray[np.bool_], away: _Floats, codes: NDArray[Any]) -> _Floats:
        """Return the probability of a class of each object, if each set is known (sets, n)."""
        rows = np.empty((len(sets), len(away), len(self._mean)))
        for number, known in enumerate(sets):
            columns = self.columns_[known]
            matrix = self._covariance[np.ix_(columns, columns)].copy()
            matrix[np.diag_indices_from(matrix)] *= 1 + _RIDGE
            slopes = np.linalg.solve(matrix, away[:, known].T)
            rows[number] = self._mean + slopes.T @ self._covariance[columns]
        probabilities = self.probe.predict_proba(self._restore(rows.reshape(-1, len(self._mean))))
        probabilities = probabilities.reshape(len(sets), len(away), -1)
        return probabilities[:, np.arange(len(away)), codes]


def _plan_sets(k: int, seed: int) -> tuple[NDArray[np.bool_], _Floats]:
    """Return sets of k properties (s, k), and weights (k, s) of their worths in Shapley values.

    The first set is empty, and the last one is full.
    """
    if k <= _MAX_EXACT:
        sets = (np.arange(2**k)[:, None] >> np.arange(k) & 1).astype(bool)
        size = sets.sum(axis=1)
        within = 1 / np.maximum(k * comb(k - 1, np.maximum(size - 1, 0)), 1e-9)
        outside = 1 / np.maximum(k * comb(k - 1, np.minimum(size, k - 1)), 1e-9)
        return sets, np.where(sets.T, within, -outside)
    # random orders and their opposites: a step to the next set is what one property adds
    rng = np.random.default_rng(seed)
    orders = [rng.permutation(k) for _ in range(_N_ORDERS)]
    ranks = np.argsort([*orders, *(order[::-1] for order in orders)], axis=1)  # (orders, k)
    paths = np.arange(k + 1)[:, None] > ranks[:, None, :]  # (orders, k + 1, k)
    sets, place = np.unique(paths.reshape(-1, k), axis=0, return_inverse=True)
    places = place.reshape(len(ranks), k + 1)
    weights = np.zeros((k, len(sets)))
    for row, rank in zip(places, ranks, strict=True):
        np.add.at(weights, (np.arange(k), row[rank + 1]), 1 / len(ranks))
        np.add.at(weights, (np.arange(k), row[rank]), -1 / len(ranks))
    return sets, weights
