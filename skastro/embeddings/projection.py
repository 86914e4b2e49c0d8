"""Embeddings in the plane: t-SNE, UMAP and PCA, and how far the picture can be trusted."""

from __future__ import annotations

import importlib.util
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.decomposition import PCA
from sklearn.manifold import trustworthiness
from sklearn.neighbors import NearestNeighbors
from sklearn.utils.validation import check_array
from threadpoolctl import threadpool_limits

from skastro.utils.packages import import_optional
from skastro.utils.validation import draw_seed

METHODS = ("tsne", "umap", "pca")
_WIDTH = 50  # principal components that t-SNE and UMAP see
_EXACT_ROWS = 30_000  # the search of all neighbours is quadratic in the rows
_TRUSTED_ROWS = 3000  # trustworthiness is quadratic in the rows
_TRUSTED_NEIGHBORS = 15


@dataclass(frozen=True, repr=False, eq=False)
class Projection:
    """An embedding in the plane.

    Made by `project_embedding`.

    Attributes
    ----------
    coordinates : float32 array of shape (n, 2)
        Without a unit; of t-SNE and UMAP only neighbourhoods mean something, not distances,
        sizes or densities.
    method : str
        "tsne", "umap" or "pca".
    trustworthiness : float
        Between 0 and 1, about 0.5 for points at random: how few of the 15 nearest neighbours in
        the plane are no neighbours in the embedding (Venna and Kaski 2001). Measured on at most
        3,000 rows.
    params : mapping of str to value
        What the method was run with, the seed among them.

    Examples
    --------
    >>> Projection(np.zeros((4, 2), np.float32), "pca", 0.93, {"seed": 0})
    Projection of 4 rows by pca, trustworthiness 0.93
    """

    coordinates: NDArray[np.float32]
    method: str
    trustworthiness: float
    params: Mapping[str, Any]

    def __repr__(self) -> str:
        return (
            f"Projection of {len(self.coordinates)} rows by {self.method}, "
            f"trustworthiness {self.trustworthiness:.2f}"
        )


def project_embedding(
    E: ArrayLike,
    *,
    method: str = "tsne",
    perplexity: float = 40.0,
    n_neighbors: int = 30,
    min_dist: float = 0.1,
    random_state: int | np.random.RandomState | None = None,
    n_jobs: int | None = None,
) -> Projection:
    """Lay an embedding out in the plane.

    Parameters
    ----------
    E : array-like of shape (n, d)
        Embeddings, n >= 4, of columns on one scale, as `PropertyPretrainedEncoder` gives them.
        Columns beyond 50 are first reduced to 50 principal components.
    method : {"tsne", "umap", "pca"}, default="tsne"
        t-SNE (openTSNE, started from the principal components) shows neighbourhoods best; UMAP
        keeps somewhat more of what lies between them; PCA is linear and takes no time.
    perplexity : float, default=40.0
        Of t-SNE: about how many neighbours count. At most (n - 1) / 3 are taken.
    n_neighbors : int, default=30
        Of UMAP, at most n - 1.
    min_dist : float, default=0.1
        Of UMAP: how close points may lie.
    random_state : int, RandomState or None, default=None
        The same seed gives the same coordinates on one machine.
    n_jobs : int, default=None
        Threads of t-SNE; None is one, -1 all. UMAP uses one, so that a seed fixes its result.

    Returns
    -------
    projection : Projection

    Raises
    ------
    ValueError
        ``E`` is not finite, has fewer than 4 rows or the same values in all of them, or a
        parameter is out of range.
    ImportError
        openTSNE or umap-learn is not installed; the message says how to install it.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> E = rng.normal(size=(60, 20)) + 5 * (np.arange(60) % 2)[:, None]
    >>> projection = project_embedding(E, method="pca")
    >>> projection.coordinates.shape, bool(projection.trustworthiness > 0.5)
    ((60, 2), True)
    """
    if method not in METHODS:
        raise ValueError(f"method={method!r} must be 'tsne', 'umap' or 'pca'.")
    X = check_array(E, dtype=np.float32, ensure_min_samples=4, input_name="E")
    if np.ptp(X, axis=0).max() == 0:
        raise ValueError("E has the same values in every row: there is nothing to project.")
    seed = draw_seed(random_state)
    params: dict[str, Any] = {"seed": seed}
    if method == "tsne":
        params["perplexity"] = _check_perplexity(perplexity, len(X))
        coordinates = _run_tsne(shrink(X, _WIDTH, seed), n_jobs=n_jobs, **params)
    elif method == "umap":
        params |= {"n_neighbors": n_neighbors, "min_dist": min_dist}
        coordinates = run_umap(shrink(X, _WIDTH, seed), n_components=2, **params)
    else:
        coordinates = np.zeros((len(X), 2), np.float32)
        found = PCA(min(2, X.shape[1]), random_state=seed).fit_transform(X)
        coordinates[:, : found.shape[1]] = found
    return Projection(coordinates, method, measure_trust(X, coordinates, seed), params)


def _check_perplexity(perplexity: float, n: int) -> float:
    if not perplexity > 0:
        raise ValueError(f"perplexity={perplexity!r} must be positive.")
    return float(min(perplexity, (n - 1) / 3))


def shrink(X: NDArray[Any], width: int, seed: int) -> NDArray[Any]:
    """Return the first principal components where there are more columns than ``width``.

    Examples
    --------
    >>> shrink(np.random.default_rng(0).normal(size=(9, 4)), 2, seed=0).shape
    (9, 2)
    """
    if min(X.shape) <= width and X.shape[1] <= width:
        return X
    return PCA(min(width, *X.shape), random_state=seed).fit_transform(X)


def _run_tsne(
    X: NDArray[Any], *, perplexity: float, seed: int, n_jobs: int | None
) -> NDArray[np.float32]:
    opentsne = import_optional("openTSNE", extra="projection", needed_by="method='tsne'")
    # a plane needs two columns to start from
    X = X if X.shape[1] > 1 else np.column_stack([X, np.zeros(len(X), X.dtype)])
    model = opentsne.TSNE(perplexity=perplexity, random_state=seed, n_jobs=n_jobs or 1)
    return np.asarray(model.fit(X), dtype=np.float32)


def has_umap() -> bool:
    """Whether umap-learn is installed."""
    return importlib.util.find_spec("umap") is not None


def run_umap(
    X: NDArray[Any], *, n_components: int, n_neighbors: int, min_dist: float, seed: int
) -> NDArray[np.float32]:
    """Return UMAP coordinates of shape (n, n_components); the same seed gives the same numbers.

    Raises
    ------
    ValueError
        ``n_neighbors`` or ``min_dist`` is out of range.
    ImportError
        umap-learn is not installed.
    """
    if n_neighbors < 2:
        raise ValueError(f"n_neighbors={n_neighbors!r} must be at least 2.")
    if not 0 <= min_dist <= 1:
        raise ValueError(f"min_dist={min_dist!r} must be between 0 and 1.")
    n_neighbors = min(n_neighbors, len(X) - 1)
    neighbors: dict[str, Any] = {}
    if len(X) <= _EXACT_ROWS:  # scikit-learn finds them in a tenth of UMAP's time
        distances, rows = NearestNeighbors(n_neighbors=n_neighbors).fit(X).kneighbors(X)
        neighbors = {"precomputed_knn": (rows, distances), "force_approximation_algorithm": True}
    # numba, when it starts, sets the number of threads of torch too: set back at the end
    with warnings.catch_warnings(), threadpool_limits(limits=None):
        # what numba and the parts of UMAP that are not used here have to say is of no use here
        warnings.simplefilter("ignore")
        umap = import_optional("umap", extra="projection", needed_by="UMAP")
        model = umap.UMAP(
            n_components=n_components,
            n_neighbors=n_neighbors,
            min_dist=min_dist,
            # the spectral start wants more rows than it has columns to find
            init="spectral" if len(X) > 10 * n_components else "random",
            random_state=seed,
            n_jobs=1,
            **neighbors,
        )
        return np.asarray(model.fit_transform(X), dtype=np.float32)


def measure_trust(X: NDArray[Any], coordinates: NDArray[Any], seed: int) -> float:
    """Trustworthiness of coordinates of shape (n, 2), on a sample where there are many rows."""
    rows = np.arange(len(X))
    if len(X) > _TRUSTED_ROWS:
        rows = np.sort(np.random.default_rng(seed).choice(rows, _TRUSTED_ROWS, replace=False))
    n_neighbors = min(_TRUSTED_NEIGHBORS, (len(rows) - 1) // 2)
    return float(trustworthiness(X[rows], coordinates[rows], n_neighbors=n_neighbors))
