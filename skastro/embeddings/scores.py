"""Score how well an embedding separates the classes, with labels and without."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from sklearn import metrics
from sklearn.base import clone
from sklearn.cluster import KMeans
from sklearn.model_selection import cross_val_predict
from sklearn.neighbors import KNeighborsClassifier
from sklearn.utils.validation import check_array

from skastro.embeddings.clustering import NOISE, EmbeddingClusterer
from skastro.probes.linear_probe import LinearProbe
from skastro.utils.progress import report_to
from skastro.utils.validation import (
    check_groups,
    check_labels,
    count_independent_rows,
    draw_seed,
    plain_rows,
    stratified_folds,
)

_MAX_SILHOUETTE_ROWS = 10_000  # the silhouette is quadratic in the rows
_KMEANS_STARTS = 5
_PROBE_C = 0.1  # choosing it in every fold would take most of the time


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
        Embeddings with columns of one scale, as `PropertyPretrainedEncoder` returns them.
    y : array-like of shape (n,)
        Classes of any dtype. Unlabelled rows (-1, NaN, None, masked or blank) count in no score,
        but are clustered with the others.
    groups : array-like of shape (n,), default=None
        Groups of rows that stay together in the cross-validation.
    n_neighbors : int, default=10
        Number of neighbours of the k-NN classifier.
    cv : int, default=5
        Number of stratified folds; fewer if a class has fewer rows (or groups).
    clusterer : EmbeddingClusterer, default=None
        Clusterer to clone and fit; None uses the default one, seeded with ``random_state``.
    random_state : int, RandomState or None, default=0
        Seed of the folds, of k-means and of the clusterer.
    n_jobs : int, default=None
        Number of folds that are computed at the same time.

    Returns
    -------
    scores : Series of float64
        - ``knn_accuracy``, ``probe_accuracy``: balanced accuracy of k-NN and of `LinearProbe`
          (C = 0.1) over the rows of all folds; 0 to 1, chance is 1 / classes.
        - ``silhouette``: silhouette of the classes by Euclidean distance, on at most 10,000
          rows; -1 to 1.
        - ``kmeans_ari``, ``kmeans_nmi``: adjusted Rand index and normalised mutual information
          of k-means with as many clusters as there are classes; chance is 0 for the former,
          above 0 for the latter. k-means uses the reduced columns of the clusterer: in all
          columns it would separate bright from faint objects.
        - ``hdbscan_ari``, ``hdbscan_nmi``: the same two scores of the clusterer. Noise counts as
          one more cluster, so that labelling many rows as noise does not pay.
        - ``hdbscan_clusters``, ``hdbscan_noise``: number of clusters, and share of noise.
        - ``n_labelled``, ``n_classes``: number of labelled rows and of classes.

    Raises
    ------
    ValueError
        Lengths differ, ``E`` is not finite, a group is missing, there is one class only, or a
        class has one row (or group) only.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> y = np.array(["star", "galaxy", ""])[np.arange(150) % 3]
    >>> E = rng.normal(size=(150, 8)) + 3 * (y == "star")[:, None]
    >>> score_embedding(E, y)[["knn_accuracy", "probe_accuracy", "n_labelled"]].tolist()
    [1.0, 1.0, 100.0]
    """
    X = check_array(plain_rows(E, "E"), dtype=[np.float32, np.float64], input_name="E")
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
    groups = check_groups(groups, len(X), rows_of="E")
    X_labelled, truth = X[labelled], codes[labelled]
    folds = _split(truth, None if groups is None else groups[labelled], cv, seed)

    # scores that use labels: cross-validated classifiers
    k = max(1, min([n_neighbors, *(len(train) for train, _ in folds)]))
    scores: dict[str, float] = {}
    for name, model in (("knn", KNeighborsClassifier(k)), ("probe", LinearProbe(_PROBE_C))):
        predicted = cross_val_predict(model, X_labelled, truth, cv=folds, n_jobs=n_jobs)
        scores[f"{name}_accuracy"] = metrics.balanced_accuracy_score(truth, predicted)

    # scores of methods without labels: how well clusters agree with the classes
    scores["silhouette"] = _silhouette(X_labelled, truth, seed)
    clusterer = clone(clusterer).fit(X, None)  # a frozen one needs both
    kmeans = KMeans(len(classes), n_init=_KMEANS_STARTS, random_state=seed)
    clusters = {"kmeans": kmeans.fit_predict(clusterer.reduced(X)), "hdbscan": clusterer.labels_}
    for name, cluster_of_row in clusters.items():
        scores[f"{name}_ari"] = metrics.adjusted_rand_score(truth, cluster_of_row[labelled])
        scores[f"{name}_nmi"] = metrics.normalized_mutual_info_score(
            truth, cluster_of_row[labelled]
        )
    scores["hdbscan_clusters"] = clusterer.n_clusters_
    scores["hdbscan_noise"] = np.mean(clusterer.labels_[labelled] == NOISE)
    scores |= {"n_labelled": len(labelled), "n_classes": len(classes)}
    return pd.Series(scores, dtype=np.float64, name="score")


def compare_representations(
    embeddings: Mapping[str, ArrayLike], y: ArrayLike, **params: Any
) -> pd.DataFrame:
    """Score several representations of the same objects by `score_embedding`.

    Parameters
    ----------
    embeddings : dict of str to array-like of shape (n, d)
        Embeddings by name, for example self-supervised, untrained, ImageNet, and pixels + PCA.
    y : array-like of shape (n,)
        Classes of the objects.
    **params
        Other parameters of `score_embedding`. The folds are the same for all representations.

    Returns
    -------
    table : DataFrame
        One row for each representation, in the order given, and one column for each score.

    Raises
    ------
    ValueError
        ``embeddings`` is empty, or `score_embedding` refuses one of them; the message names it.

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
    report = report_to("scoring representations", len(embeddings))
    rows: dict[str, pd.Series] = {}
    for name, E in embeddings.items():
        report(len(rows))
        try:
            rows[name] = score_embedding(E, y, random_state=seed, **params)
        except ValueError as error:
            raise ValueError(f"embeddings[{name!r}]: {error}") from error
    return pd.DataFrame(rows).T.rename_axis("representation")


def _split(
    codes: NDArray[np.int64], groups: NDArray[np.int64] | None, cv: int, seed: int
) -> list[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Return stratified folds, at most as many as the rarest class has rows or groups."""
    if cv < 2:
        raise ValueError(f"cv={cv!r} must be at least 2.")
    fewest = count_independent_rows(codes, groups)
    if fewest < 2:
        raise ValueError("groups leaves a class in one group only: it cannot be cross-validated.")
    folds = stratified_folds(codes, min(cv, fewest), groups=groups, seed=seed)
    if sum(len(test) for _, test in folds) < len(codes):
        raise ValueError("groups leaves a class out of the training rows of a fold: change cv.")
    return folds


def _silhouette(X: NDArray[Any], truth: NDArray[Any], seed: int) -> float:
    if len(X) > _MAX_SILHOUETTE_ROWS:
        rows = np.random.default_rng(seed).choice(len(X), _MAX_SILHOUETTE_ROWS, replace=False)
        X, truth = X[rows], truth[rows]
    # undefined for a single class, and if each row has a class of its own
    return metrics.silhouette_score(X, truth) if 1 < len(np.unique(truth)) < len(X) else np.nan
