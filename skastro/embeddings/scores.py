"""How much of the classes an embedding holds, with labels and without."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from sklearn.base import clone
from sklearn.cluster import KMeans
from sklearn.metrics import (
    adjusted_rand_score,
    balanced_accuracy_score,
    normalized_mutual_info_score,
    silhouette_score,
)
from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold, cross_val_predict
from sklearn.neighbors import KNeighborsClassifier
from sklearn.utils.validation import check_array

from skastro.embeddings.clustering import NOISE, EmbeddingClusterer
from skastro.estimators.linear_probe import LinearProbe
from skastro.utils.validation import check_labels, draw_seed

_SILHOUETTE_ROWS = 10_000  # the silhouette is quadratic in the rows
_STARTS = 5  # of k-means
_C = 0.1  # of the linear probe: to choose it in every fold would take most of the time

_Folds = list[tuple[NDArray[np.int64], NDArray[np.int64]]]


def score_embedding(
    E: ArrayLike,
    y: ArrayLike,
    *,
    groups: ArrayLike | None = None,
    n_neighbors: int = 10,
    cv: int = 5,
    clusterer: EmbeddingClusterer | None = None,
    random_state: int | np.random.RandomState | None = 0,
    n_jobs: int | None = None,
) -> pd.Series:
    """Score an embedding by the classes of its objects.

    Parameters
    ----------
    E : array-like of shape (n, d)
        Embeddings of columns on one scale, as `PropertyPretrainedEncoder` gives them.
    y : array-like of shape (n,)
        Classes of any dtype; unlabelled rows (-1, NaN, None or "") are left out of all scores,
        but are clustered with the others.
    groups : array-like of shape (n,), default=None
        Rows of one group stay together in the cross-validation.
    n_neighbors : int, default=10
        Of the k-NN classifier.
    cv : int, default=5
        Folds, stratified; fewer where a class has fewer rows.
    clusterer : EmbeddingClusterer, default=None
        Cloned; None takes the defaults, with ``random_state``.
    random_state : int, RandomState or None, default=0
        Of folds, k-means and clusters.
    n_jobs : int, default=None
        Folds at a time.

    Returns
    -------
    scores : Series of float64
        - ``knn_accuracy``, ``probe_accuracy``: balanced accuracy of k-NN and of `LinearProbe`
          (C = 0.1) over the rows of all folds; 0 to 1, chance is 1 / classes.
        - ``silhouette``: of the classes, in the Euclidean distance, on at most 10,000 rows; -1
          to 1.
        - ``kmeans_ari``, ``kmeans_nmi``: adjusted Rand index and normalised mutual information
          of as many k-means clusters as classes; chance is 0 of the former, above 0 of the
          latter. In the reduced columns of the clusterer, like the following: in all columns
          k-means would part bright from faint.
        - ``hdbscan_ari``, ``hdbscan_nmi``: the same of the clusterer, with noise as one more
          cluster, so that calling much of it noise does not pay.
        - ``hdbscan_clusters``, ``hdbscan_noise``: number of clusters, and share of noise.
        - ``n_labelled``, ``n_classes``.

    Raises
    ------
    ValueError
        Lengths differ, ``E`` is not finite, there is one class only, or a class has one row.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> y = np.array(["star", "galaxy", ""])[np.arange(150) % 3]
    >>> E = rng.normal(size=(150, 8)) + 3 * (y == "star")[:, None]
    >>> score_embedding(E, y)[["knn_accuracy", "probe_accuracy", "n_labelled"]].tolist()
    [1.0, 1.0, 100.0]
    """
    X = check_array(E, dtype=[np.float32, np.float64], input_name="E")
    classes, codes = check_labels(y)
    if len(codes) != len(X):
        raise ValueError(f"y has {len(codes)} labels, but E has {len(X)} rows: pass one for each.")
    labelled = np.flatnonzero(codes >= 0)
    counts = np.bincount(codes[labelled])
    if len(classes) < 2:
        raise ValueError(f"y holds one class only ({classes.item(0)!r}): label rows of two.")
    if counts.min() < 2:
        raise ValueError(
            f"y holds one row only of class {classes.item(counts.argmin())!r}: label two, or leave "
            "the class out."
        )
    seed = draw_seed(random_state)
    if clusterer is None:
        clusterer = EmbeddingClusterer(random_state=seed)
    units = None if groups is None else _check_groups(groups, len(X))[labelled]
    folds = _split(codes[labelled], units, cv, seed)
    k = max(1, min([n_neighbors, *(len(learn) for learn, _ in folds)]))
    known, truth = X[labelled], codes[labelled]
    scores = {
        "knn_accuracy": _judge(KNeighborsClassifier(k), known, truth, folds, n_jobs),
        "probe_accuracy": _judge(LinearProbe(_C), known, truth, folds, n_jobs),
        "silhouette": _silhouette(known, truth, seed),
        **_agree_with_clusters(clone(clusterer).fit(X), X, labelled, truth, seed),
        "n_labelled": len(labelled),
        "n_classes": len(classes),
    }
    return pd.Series(scores, dtype=np.float64, name="score")


def compare_representations(
    embeddings: Mapping[str, ArrayLike], y: ArrayLike, **params: Any
) -> pd.DataFrame:
    """Score several representations of the same objects by `score_embedding`.

    Parameters
    ----------
    embeddings : dict of str to array-like of shape (n, d)
        For example self-supervised, untrained, ImageNet, and pixels + PCA.
    y : array-like of shape (n,)
    **params
        Of `score_embedding`; folds are the same for all.

    Returns
    -------
    table : DataFrame
        A row for each representation, in the order given, a column for each score.

    Raises
    ------
    ValueError
        There is none, or one that `score_embedding` refuses; the message names it.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> y = np.arange(120) % 2
    >>> noise = rng.normal(size=(120, 5))
    >>> table = compare_representations({"noise": noise, "signal": noise + 4 * y[:, None]}, y)
    >>> table["probe_accuracy"].idxmax(), bool(table.loc["noise", "kmeans_ari"] < 0.1)
    ('signal', True)
    """
    if not isinstance(embeddings, Mapping) or not embeddings:
        raise ValueError("embeddings must be a dict of name to array, with at least one entry.")
    seed = draw_seed(params.pop("random_state", 0))
    rows = {}
    for name, E in embeddings.items():
        try:
            rows[name] = score_embedding(E, y, random_state=seed, **params)
        except ValueError as error:
            raise ValueError(f"embeddings[{name!r}]: {error}") from error
    return pd.DataFrame(rows).T.rename_axis("representation")


def _check_groups(groups: ArrayLike, n: int) -> NDArray[Any]:
    units = np.asarray(groups)
    if units.shape != (n,):
        raise ValueError(f"groups has shape {units.shape}, but E has {n} rows: pass one a row.")
    return units


def _split(codes: NDArray[np.int64], units: NDArray[Any] | None, cv: int, seed: int) -> _Folds:
    """Return stratified folds, at most as many as the rarest class has rows or groups."""
    if cv < 2:
        raise ValueError(f"cv={cv!r} must be at least 2.")
    if units is None:
        folds = StratifiedKFold(min(cv, np.bincount(codes).min()), shuffle=True, random_state=seed)
        return list(folds.split(codes, codes))
    fewest = min(len(np.unique(units[codes == code])) for code in np.unique(codes))
    if fewest < 2:
        raise ValueError("groups leaves a class in one group only: it cannot be cross-validated.")
    folds = StratifiedGroupKFold(min(cv, fewest), shuffle=True, random_state=seed)
    return list(folds.split(codes, codes, units))


def _judge(
    model: Any, X: NDArray[Any], truth: NDArray[Any], folds: _Folds, n_jobs: int | None
) -> float:
    predicted = cross_val_predict(model, X, truth, cv=folds, n_jobs=n_jobs)
    return balanced_accuracy_score(truth, predicted)


def _silhouette(X: NDArray[Any], truth: NDArray[Any], seed: int) -> float:
    if len(X) <= _SILHOUETTE_ROWS:
        # a class for each row has no silhouette
        return silhouette_score(X, truth) if len(np.unique(truth)) < len(X) else np.nan
    rows = np.random.default_rng(seed).choice(len(X), _SILHOUETTE_ROWS, replace=False)
    if len(np.unique(truth[rows])) < 2:
        return np.nan
    return silhouette_score(X[rows], truth[rows])


def _agree(truth: NDArray[Any], found: NDArray[Any], name: str) -> dict[str, float]:
    return {
        f"{name}_ari": adjusted_rand_score(truth, found),
        f"{name}_nmi": normalized_mutual_info_score(truth, found),
    }


def _agree_with_clusters(
    clusterer: EmbeddingClusterer,
    X: NDArray[Any],
    labelled: NDArray[Any],
    truth: NDArray[Any],
    seed: int,
) -> dict[str, float]:
    kmeans = KMeans(truth.max() + 1, n_init=_STARTS, random_state=seed)
    found = clusterer.labels_[labelled]
    return {
        **_agree(truth, kmeans.fit_predict(clusterer.reduced(X))[labelled], "kmeans"),
        **_agree(truth, found, "hdbscan"),
        "hdbscan_clusters": clusterer.n_clusters_,
        "hdbscan_noise": np.mean(found == NOISE),
    }
