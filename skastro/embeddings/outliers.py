"""Find objects that are unlike all others by their embeddings."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.decomposition import PCA
from sklearn.neighbors import LocalOutlierFactor
from sklearn.utils.validation import check_array

from skastro.utils.validation import draw_seed, plain_rows

# the choices of benchmarks/experiments/outliers.py
_COMPONENTS = 20
_NEIGHBORS = 30
_MIN_VARIANCE = 1e-6  # of a component, relative to the first: the rest is rounding
_DIGITS = 3  # of components, in units of the first: rows that agree in these are copies
_CHUNK_SIZE = 50_000  # rows scored at once


def outlier_scores(
    E: ArrayLike,
    *,
    max_rows: int = 20_000,
    random_state: int | np.random.RandomState | None = 0,
) -> NDArray[np.float64]:
    """Score how unlike all others each object is, by the local outlier factor of its embedding.

    The local outlier factor (Breunig et al. 2000, SIGMOD) compares how far away the 30 nearest
    neighbours of an object are with how far theirs are, in the first 20 principal components, each
    scaled to unit variance. Copies of an object count once, so that many equal stamps, such as
    empty ones, are odd too.

    Parameters
    ----------
    E : array-like of shape (n, d)
        Finite embeddings with columns of one scale, as `PropertyPretrainedEncoder` returns them.
    max_rows : int, default=20000
        Number of rows among which neighbours are searched. If there are more, they are drawn at
        random, and the others are compared with them.
    random_state : int, RandomState or None, default=0
        Seed of that draw.

    Returns
    -------
    scores : float64 array of shape (n,)
        About 1 for objects among their like, more for unusual objects: 2 if their neighbours are
        twice as far away as those of the neighbours. The scale differs from survey to survey, so
        rank by it. With fewer than 300 rows, the neighbours are a tenth of the rows, but at least
        five.

    Raises
    ------
    ValueError
        ``E`` is not finite, or has fewer than two rows, or ``max_rows`` is smaller than two.

    See Also
    --------
    EmbeddingClusterer : Has the same scores as its ``outlier_scores_``.

    Examples
    --------
    >>> embeddings = np.random.default_rng(0).normal(size=(300, 8))
    >>> embeddings[7] += 6
    >>> scores = outlier_scores(embeddings)
    >>> int(scores.argmax()), float(np.median(scores).round(1))
    (7, 1.0)
    """
    if max_rows < 2:
        raise ValueError(f"max_rows={max_rows!r} must be a whole number of at least 2.")
    E = plain_rows(E, "E")
    X = check_array(E, dtype=[np.float64, np.float32], ensure_min_samples=2, input_name="E")
    rows = draw_rows(len(X), max_rows, draw_seed(random_state))

    # reduce the rows, and let copies count once
    pca = PCA(min(_COMPONENTS, *X[rows].shape), random_state=0)
    with np.errstate(invalid="ignore", divide="ignore"):  # if all rows are equal
        pca.fit(X[rows])
    unit = np.sqrt(pca.explained_variance_[0]) or 1.0

    def reduce(some: NDArray[np.int64]) -> NDArray[Any]:
        return (pca.transform(X[some]) / unit).round(_DIGITS)

    reduced, copy_of = np.unique(reduce(rows), axis=0, return_inverse=True)
    scores = np.ones(len(X))
    if len(reduced) < 2:
        return scores

    # scale the components to unit variance, without the copies
    scaled = PCA(min(reduced.shape)).fit(reduced)
    kept = scaled.explained_variance_ > _MIN_VARIANCE * scaled.explained_variance_[0]
    axes = scaled.components_[kept].T / np.sqrt(scaled.explained_variance_[kept])

    # compare each row with its neighbours
    n_neighbors = min(_NEIGHBORS, max(5, len(reduced) // 10), len(reduced) - 1)
    model = LocalOutlierFactor(n_neighbors=n_neighbors, novelty=True).fit(reduced @ axes)
    scores[rows] = -model.negative_outlier_factor_[copy_of.ravel()]
    others = np.setdiff1d(np.arange(len(X)), rows)
    for start in range(0, len(others), _CHUNK_SIZE):
        some = others[start : start + _CHUNK_SIZE]
        scores[some] = -model.score_samples(reduce(some) @ axes)
    return scores


def draw_rows(n: int, max_rows: int, seed: int) -> NDArray[np.int64]:
    """Return all of n rows, or ``max_rows`` of them, drawn at random and sorted.

    Examples
    --------
    >>> draw_rows(3, 20, seed=0), len(draw_rows(100, 20, seed=0))
    (array([0, 1, 2]), 20)
    """
    if n <= max_rows:
        return np.arange(n)
    return np.sort(np.random.default_rng(seed).choice(n, max_rows, replace=False))
