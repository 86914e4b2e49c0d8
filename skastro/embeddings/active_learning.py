"""Which objects to label next: typical ones, and those the classifier is least sure of."""

from __future__ import annotations

import warnings
from numbers import Integral
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy.stats import rankdata
from sklearn.cluster import KMeans, kmeans_plusplus
from sklearn.decomposition import PCA
from sklearn.exceptions import ConvergenceWarning
from sklearn.neighbors import NearestNeighbors
from sklearn.preprocessing import StandardScaler
from sklearn.utils.validation import check_array

from skastro.estimators.linear_probe import LinearProbe
from skastro.utils.validation import check_labels, draw_seed

_STRATEGIES = ("auto", "typical", "uncertain")
_FEW = 60  # labels below which a classifier cannot say where it is unsure
_TYPICAL_SHARE = 0.5  # of "auto"; uncertain objects alone miss rare classes for long
_COMPONENTS = 32  # distances in more are all alike
_MOST_CLUSTERS = 500  # as in the paper
_NEIGHBOURS = 20  # as in the paper
_ROWS = 20_000  # k-means with hundreds of clusters on more takes minutes
_C = 0.03  # of the probe
_SHARPNESS = 8  # half of the chance to be drawn lies with the least certain 7 %


def suggest_labels(
    embeddings: ArrayLike,
    y: ArrayLike | None = None,
    *,
    n: int = 20,
    strategy: str = "auto",
    groups: ArrayLike | None = None,
    random_state: int | np.random.RandomState | None = None,
) -> NDArray[np.int64]:
    """Choose the unlabelled objects whose labels are worth most.

    Parameters
    ----------
    embeddings : array-like of shape (n_rows, d)
        Finite; columns are standardised here.
    y : array-like of shape (n_rows,), default=None
        Classes of any dtype. Unlabelled rows are marked as for `SelfSupervisedClassifier`: -1
        for integers, NaN for floats, None, NaN or ``""`` for text. None: nothing is labelled yet.
    n : int, default=20
        Rows to choose.
    strategy : {"auto", "typical", "uncertain"}, default="auto"
        "typical": the densest point of each of the largest clusters that hold no label
        (TypiClust). "uncertain": a `LinearProbe` learns from the labelled rows; rows are drawn
        with chances that grow with the rank of its doubt (a small margin between the two most
        probable classes) and with their distance from those drawn before. "auto": typical
        rows up to 60 labels, then these and uncertain ones by halves.
    groups : array-like of shape (n_rows,), default=None
        Rows of one group show the same object: one of them at most is chosen, and none if one
        has a label.
    random_state : int, RandomState or None, default=None

    Returns
    -------
    rows : int64 array of shape (at most n,)
        Row numbers, the most valuable first; fewer than ``n`` where no more are left.

    Raises
    ------
    ValueError
        An argument cannot be used, or no unlabelled row is left.

    References
    ----------
    Hacohen, Dekel and Weinshall (2022), "Active learning on a budget: opposite strategies suit
    high and low budgets", arXiv:2202.02794. Ash et al. (2020), "Deep batch active learning by
    diverse, uncertain gradient lower bounds", arXiv:1906.03671.

    Examples
    --------
    >>> import numpy as np
    >>> centres = np.repeat([[0.0, 0.0], [9.0, 0.0], [0.0, 9.0]], 20, axis=0)
    >>> embeddings = centres + np.random.default_rng(0).normal(size=(60, 2))
    >>> rows = suggest_labels(embeddings, n=3, random_state=0)
    >>> sorted((rows // 20).tolist())
    [0, 1, 2]
    """
    _check_parameters(n, strategy)
    values = check_array(embeddings, dtype=np.float64, input_name="embeddings")
    codes = _read_labels(y, len(values))
    rng = np.random.RandomState(draw_seed(random_state))
    free = _draw_free(codes, _read_groups(groups, len(values)), rng)
    labelled = np.flatnonzero(codes >= 0)
    rows = np.concatenate([labelled, free])
    values = StandardScaler().fit_transform(values[rows])
    codes = codes[rows]
    near = PCA(min(_COMPONENTS, *values.shape), random_state=rng).fit_transform(values)
    n = min(n, len(free))
    typical = _rank_typical(near, codes, n, rng)
    if strategy == "typical" or (strategy == "auto" and len(labelled) < _FEW):
        return rows[typical[:n]]
    if len(np.unique(codes[codes >= 0])) < 2:
        return rows[typical[:n]]  # one class teaches no doubt
    share = _TYPICAL_SHARE if strategy == "auto" else 0.0
    first = typical[: round(share * n)]
    unsure = _draw_uncertain(values, near, codes, first, n - len(first), rng)
    return rows[_interleave(first, unsure, typical)[:n]]


def _check_parameters(n: int, strategy: str) -> None:
    if not isinstance(n, Integral) or n < 1:
        raise ValueError(f"n={n!r} must be a whole number of at least 1.")
    if strategy not in _STRATEGIES:
        raise ValueError(f"strategy={strategy!r} must be one of {_STRATEGIES}.")


def _read_labels(y: ArrayLike | None, n: int) -> NDArray[np.int64]:
    if y is None:
        return np.full(n, -1)
    values = pd.Series(np.asarray(y).ravel())
    if len(values) != n:
        raise ValueError(
            f"y has {len(values)} labels, but embeddings has {n} rows: pass one a row."
        )
    if (values.isna() | values.isin(["", -1])).all():  # which check_labels refuses
        return np.full(n, -1)
    return check_labels(y)[1]


def _read_groups(groups: ArrayLike | None, n: int) -> NDArray[Any]:
    if groups is None:
        return np.arange(n)
    values = np.asarray(groups)
    if values.shape != (n,):
        raise ValueError(
            f"groups has shape {values.shape}, but embeddings has {n} rows: pass one a row."
        )
    return np.unique(values, return_inverse=True)[1]


def _draw_free(
    codes: NDArray[Any], groups: NDArray[Any], rng: np.random.RandomState
) -> NDArray[np.int64]:
    """Return rows that may be chosen, one of each group, and not too many to cluster."""
    order = rng.permutation(np.flatnonzero(~np.isin(groups, groups[codes >= 0])))
    if not len(order):
        raise ValueError("y leaves no row to label: all rows, or their groups, have labels.")
    firsts = np.unique(groups[order], return_index=True)[1]
    return np.sort(order[np.sort(firsts)[:_ROWS]])


def _rank_typical(
    near: NDArray[Any], codes: NDArray[Any], n: int, rng: np.random.RandomState
) -> NDArray[np.int64]:
    """Order the unlabelled rows: one of each cluster before a second, large clusters first."""
    n_labelled = int((codes >= 0).sum())
    k = min(n_labelled + n, max(_MOST_CLUSTERS, n), len(near))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # equal rows give fewer clusters
        clusters = KMeans(k, n_init=1, random_state=rng).fit_predict(near)
    sizes = np.bincount(clusters, minlength=k)
    turn = np.zeros(len(near), dtype=np.int64)  # labels and better rows of the same cluster
    for cluster in range(k):
        members = np.flatnonzero(clusters == cluster)
        unlabelled = members[codes[members] < 0]
        if not len(unlabelled):
            continue
        # typicality is the inverse mean distance to the neighbours (eq. 1 of TypiClust)
        search = NearestNeighbors(n_neighbors=min(_NEIGHBOURS, len(members))).fit(near[members])
        distance = search.kneighbors(near[unlabelled])[0].mean(axis=1)
        turn[unlabelled[distance.argsort(kind="stable")]] = (
            len(members) - len(unlabelled) + np.arange(len(unlabelled))
        )
    order = np.lexsort((-sizes[clusters], turn))
    return order[codes[order] < 0]


def _draw_uncertain(
    values: NDArray[Any],
    near: NDArray[Any],
    codes: NDArray[Any],
    taken: NDArray[Any],
    n: int,
    rng: np.random.RandomState,
) -> NDArray[np.int64]:
    """Draw rows by k-means++, weighted by the doubt of a probe: unsure, and unlike each other."""
    labelled = codes >= 0
    probe = LinearProbe(_C).fit(values[labelled], codes[labelled])
    free = np.setdiff1d(np.flatnonzero(~labelled), taken)
    if not n or not len(free):
        return free[:0]
    ordered = np.sort(probe.predict_proba(values[free]), axis=1)
    margin = ordered[:, -1] - ordered[:, -2]
    # ranks: how far margins spread depends on the regularisation, their order hardly
    chance = (rankdata(-margin) / len(margin)) ** _SHARPNESS
    _, drawn = kmeans_plusplus(
        near[free], min(n, len(free)), sample_weight=chance, random_state=rng
    )
    return free[drawn]


def _interleave(first: NDArray[Any], second: NDArray[Any], rest: NDArray[Any]) -> NDArray[np.int64]:
    """Merge two lists in proportion; ``rest`` fills up what was drawn twice."""
    place = np.concatenate([(np.arange(len(part)) + 0.5) / len(part) for part in (first, second)])
    merged = np.concatenate([first, second])[place.argsort(kind="stable")]
    merged = np.concatenate([merged, rest])
    return merged[np.sort(np.unique(merged, return_index=True)[1])]
