"""Choose the objects to label next: typical ones, and those that a classifier is unsure of."""

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
from skastro.utils.validation import (
    check_groups,
    check_labels,
    draw_seed,
    plain_labels,
    plain_rows,
)

_STRATEGIES = ("auto", "typical", "uncertain")
_MIN_LABELS_FOR_UNCERTAIN = 60  # with fewer, the margins of a classifier mean little
_TYPICAL_SHARE = 0.5  # for "auto": uncertain objects alone miss rare classes for a long time
_MAX_COMPONENTS = 32  # in more dimensions all distances are similar
_MAX_CLUSTERS = 500  # as in the paper
_MAX_NEIGHBORS = 20  # as in the paper
_MAX_ROWS = 20_000  # k-means with hundreds of clusters takes minutes on more
_PROBE_C = 0.03
_WEIGHT_EXPONENT = 8  # the least certain 7 % of the rows have half of the weight


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
        Finite embeddings. Their columns are standardised here.
    y : array-like of shape (n_rows,), default=None
        Classes of any dtype. Unlabelled rows are marked as for `SelfSupervisedClassifier`: -1,
        NaN, None, masked or blank. None means that no row is labelled yet.
    n : int, default=20
        Number of rows to choose.
    strategy : {"auto", "typical", "uncertain"}, default="auto"
        "typical" chooses the densest point of each of the largest clusters without a label
        (TypiClust). "uncertain" trains a `LinearProbe` on the labelled rows, and draws rows at
        random. A row is more probable if the probe is less sure of it (by the rank of the
        margin between the two most probable classes), and if it is far from the rows drawn
        before. "auto" chooses typical rows up to 60 labels, then half of each kind.
    groups : array-like of shape (n_rows,), default=None
        Rows of one group show the same object. At most one of them is chosen, and none if one
        of them has a label.
    random_state : int, RandomState or None, default=None
        Seed of everything that is drawn.

    Returns
    -------
    rows : int64 array of shape (at most n,)
        Row numbers, the most valuable first; fewer than ``n`` if no more rows are left.

    Raises
    ------
    ValueError
        An argument cannot be used, a group is missing, or no unlabelled row is left.

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
    if not isinstance(n, Integral) or n < 1:
        raise ValueError(f"n={n!r} must be a whole number of at least 1.")
    if strategy not in _STRATEGIES:
        raise ValueError(f"strategy={strategy!r} must be one of {_STRATEGIES}.")
    embeddings = plain_rows(embeddings, "embeddings")
    values = check_array(embeddings, dtype=np.float64, input_name="embeddings")
    codes = _read_labels(y, len(values))
    groups = check_groups(groups, len(values), rows_of="embeddings")
    rng = np.random.RandomState(draw_seed(random_state))

    # take the labelled rows, and those that may be chosen
    free = _draw_free(codes, np.arange(len(values)) if groups is None else groups, rng)
    labelled = np.flatnonzero(codes >= 0)
    rows = np.concatenate([labelled, free])
    values, codes = StandardScaler().fit_transform(values[rows]), codes[rows]
    components = PCA(min(_MAX_COMPONENTS, *values.shape), random_state=rng).fit_transform(values)

    # choose typical rows, uncertain ones, or both
    n = min(n, len(free))
    typical = _rank_typical(components, codes, n, rng)
    too_few = strategy == "auto" and len(labelled) < _MIN_LABELS_FOR_UNCERTAIN
    one_class = len(np.unique(codes[codes >= 0])) < 2  # a probe needs two classes
    if strategy == "typical" or too_few or one_class:
        return rows[typical[:n]]
    first = typical[: round(_TYPICAL_SHARE * n) if strategy == "auto" else 0]
    uncertain = _draw_uncertain(values, components, codes, first, n - len(first), rng)
    return rows[_interleave(first, uncertain, typical)[:n]]


def _read_labels(y: ArrayLike | None, n: int) -> NDArray[np.int64]:
    """Return classes as codes, -1 for none. Unlike in `check_labels`, all may be unlabelled."""
    if y is None:
        return np.full(n, -1)
    _, is_labelled = plain_labels(y)
    if len(is_labelled) != n:
        raise ValueError(
            f"y has {len(is_labelled)} labels, but embeddings has {n} rows: pass one each."
        )
    return check_labels(y)[1] if is_labelled.any() else np.full(n, -1)


def _draw_free(
    codes: NDArray[Any], groups: NDArray[Any], rng: np.random.RandomState
) -> NDArray[np.int64]:
    """Draw the rows that may be chosen: one of each group without labels, at most `_MAX_ROWS`."""
    order = rng.permutation(np.flatnonzero(~np.isin(groups, groups[codes >= 0])))
    if not len(order):
        raise ValueError("y leaves no row to label: all rows, or their groups, have labels.")
    return np.sort(order[~pd.Index(groups[order]).duplicated()][:_MAX_ROWS])


def _rank_typical(
    components: NDArray[Any], codes: NDArray[Any], n: int, rng: np.random.RandomState
) -> NDArray[np.int64]:
    """Order the unlabelled rows: first one of each cluster, the largest first, then a second."""
    n_labelled = int((codes >= 0).sum())
    k = min(n_labelled + n, max(_MAX_CLUSTERS, n), len(components))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # equal rows give fewer clusters
        clusters = KMeans(k, n_init=1, random_state=rng).fit_predict(components)
    sizes = np.bincount(clusters, minlength=k)
    rank = np.zeros(len(components), dtype=np.int64)  # labelled and denser rows of the cluster
    for cluster in range(k):
        members = np.flatnonzero(clusters == cluster)
        unlabelled = members[codes[members] < 0]
        if not len(unlabelled):
            continue
        # typicality is the inverse mean distance to the neighbours (eq. 1 of TypiClust)
        n_neighbors = min(_MAX_NEIGHBORS, len(members))
        search = NearestNeighbors(n_neighbors=n_neighbors).fit(components[members])
        distance = search.kneighbors(components[unlabelled])[0].mean(axis=1)
        n_before = len(members) - len(unlabelled)
        rank[unlabelled[distance.argsort(kind="stable")]] = np.arange(n_before, len(members))
    order = np.lexsort((-sizes[clusters], rank))
    return order[codes[order] < 0]


def _draw_uncertain(
    values: NDArray[Any],
    components: NDArray[Any],
    codes: NDArray[Any],
    excluded: NDArray[Any],
    n: int,
    rng: np.random.RandomState,
) -> NDArray[np.int64]:
    """Draw rows that a probe is unsure of, and that differ from each other (k-means++)."""
    labelled = codes >= 0
    probe = LinearProbe(_PROBE_C).fit(values[labelled], codes[labelled])
    free = np.setdiff1d(np.flatnonzero(~labelled), excluded)
    if not n or not len(free):
        return free[:0]
    ordered = np.sort(probe.predict_proba(values[free]), axis=1)
    margin = ordered[:, -1] - ordered[:, -2]
    # use the ranks of the margins: unlike the margins, they hardly depend on the regularisation
    weights = (rankdata(-margin) / len(margin)) ** _WEIGHT_EXPONENT
    _, drawn = kmeans_plusplus(
        components[free], min(n, len(free)), sample_weight=weights, random_state=rng
    )
    return free[drawn]


def _interleave(first: NDArray[Any], second: NDArray[Any], rest: NDArray[Any]) -> NDArray[np.int64]:
    """Merge two lists in proportion to their lengths, without repeats, and append the rest."""
    positions = [(np.arange(len(part)) + 0.5) / len(part) for part in (first, second)]
    merged = np.concatenate([first, second])[np.concatenate(positions).argsort(kind="stable")]
    return pd.unique(np.concatenate([merged, rest]))
