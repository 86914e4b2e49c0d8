"""Project embeddings onto a plane by t-SNE, UMAP or PCA, and measure how faithful that is."""

from __future__ import annotations

import importlib.util
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from joblib import effective_n_jobs
from numpy.typing import ArrayLike, NDArray
from sklearn.decomposition import PCA
from sklearn.manifold import trustworthiness
from sklearn.neighbors import NearestNeighbors
from sklearn.utils.validation import check_array
from threadpoolctl import threadpool_limits

from skastro.utils.packages import import_optional
from skastro.utils.validation import draw_seed, plain_rows

METHOD_NAMES = {"tsne": "t-SNE", "umap": "UMAP", "pca": "PCA"}  # as people write them
_MAX_COMPONENTS = 50  # principal components that t-SNE and UMAP start from
_MAX_EXACT_ROWS = 30_000  # the exact search for neighbours is quadratic in the rows
_MAX_TRUST_ROWS = 3000  # trustworthiness is quadratic in the rows
_TRUST_NEIGHBORS = 15


@dataclass(frozen=True, repr=False, eq=False)
class Projection:
    """An embedding in the plane, as `project_embedding` returns it.

    Attributes
    ----------
    coordinates : float32 array of shape (n, 2)
        Coordinates without a unit. In t-SNE and UMAP only neighbourhoods have a meaning;
        distances, sizes and densities have none.
    method : str
        "tsne", "umap" or "pca".
    trustworthiness : float
        Score between 0 and 1, about 0.5 for random points. It is high if few of the 15 nearest
        neighbours in the plane are far away in the embedding (Venna and Kaski 2001). Measured
        on at most 3,000 rows.
    params : mapping of str to value
        Parameters of the method, with the seed.

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
    """Project an embedding onto a plane.

    Parameters
    ----------
    E : array-like of shape (n, d)
        Embeddings, n >= 4, with columns of one scale, as `PropertyPretrainedEncoder` returns
        them. For t-SNE and UMAP, more than 50 columns are first reduced to 50 principal
        components.
    method : {"tsne", "umap", "pca"}, default="tsne"
        t-SNE (openTSNE, initialised with the principal components) shows neighbourhoods best.
        UMAP keeps somewhat more of the large-scale structure. PCA is linear and fast.
    perplexity : float, default=40.0
        Effective number of neighbours in t-SNE; reduced to (n - 1) / 3 if there are few rows.
    n_neighbors : int, default=30
        Number of neighbours in UMAP; reduced to n - 1 if there are few rows.
    min_dist : float, default=0.1
        Smallest distance of points in UMAP, 0 to 1.
    random_state : int, RandomState or None, default=None
        The same seed gives the same coordinates on one machine.
    n_jobs : int, default=None
        Number of threads of t-SNE; None uses one, -1 all. UMAP always uses one, because its
        result would differ from run to run otherwise.

    Returns
    -------
    projection : Projection

    Raises
    ------
    ValueError
        ``E`` is not finite, has fewer than 4 rows, or has the same values in every row; or a
        parameter is out of range.
    ImportError
        openTSNE or umap-learn is not installed.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> E = rng.normal(size=(60, 20)) + 5 * (np.arange(60) % 2)[:, None]
    >>> projection = project_embedding(E, method="pca")
    >>> projection.coordinates.shape, bool(projection.trustworthiness > 0.5)
    ((60, 2), True)
    """
    if method not in METHOD_NAMES:
        raise ValueError(f"method={method!r} must be 'tsne', 'umap' or 'pca'.")
    if method == "tsne" and not perplexity > 0:
        raise ValueError(f"perplexity={perplexity!r} must be positive.")
    X = check_array(plain_rows(E, "E"), dtype=np.float32, ensure_min_samples=4, input_name="E")
    if np.ptp(X, axis=0).max() == 0:
        raise ValueError("E has the same values in every row: there is nothing to project.")
    seed = draw_seed(random_state)
    params: dict[str, Any] = {"seed": seed}
    if method == "pca":
        n_columns = min(2, X.shape[1])
        coordinates = np.zeros((len(X), 2), np.float32)
        coordinates[:, :n_columns] = PCA(n_columns, random_state=seed).fit_transform(X)
    else:
        narrow = X
        if X.shape[1] > _MAX_COMPONENTS:
            narrow = PCA(min(_MAX_COMPONENTS, len(X)), random_state=seed).fit_transform(X)
        if method == "tsne":
            params["perplexity"] = float(min(perplexity, (len(X) - 1) / 3))
            coordinates = _run_tsne(narrow, n_jobs=n_jobs, **params)
        else:
            params |= {"n_neighbors": n_neighbors, "min_dist": min_dist}
            coordinates = run_umap(narrow, n_components=2, **params)
    return Projection(coordinates, method, _measure_trust(X, coordinates, seed), params)


def _run_tsne(
    X: NDArray[Any], *, perplexity: float, seed: int, n_jobs: int | None
) -> NDArray[np.float32]:
    opentsne = import_optional("openTSNE", extra="projection", needed_by="method='tsne'")
    # the initial coordinates need two columns
    X = X if X.shape[1] > 1 else np.column_stack([X, np.zeros(len(X), X.dtype)])
    model = opentsne.TSNE(perplexity=perplexity, random_state=seed, n_jobs=effective_n_jobs(n_jobs))
    return np.asarray(model.fit(X), dtype=np.float32)


def has_umap() -> bool:
    """Return whether umap-learn is installed."""
    return importlib.util.find_spec("umap") is not None


def run_umap(
    X: NDArray[Any], *, n_components: int, n_neighbors: int, min_dist: float, seed: int
) -> NDArray[np.float32]:
    """Return UMAP coordinates of shape (n, n_components), which depend on the seed alone."""
    if n_neighbors < 2:
        raise ValueError(f"n_neighbors={n_neighbors!r} must be at least 2.")
    if not 0 <= min_dist <= 1:
        raise ValueError(f"min_dist={min_dist!r} must be between 0 and 1.")
    n_neighbors = min(n_neighbors, len(X) - 1)
    neighbors: dict[str, Any] = {}
    if len(X) <= _MAX_EXACT_ROWS:  # scikit-learn needs a tenth of UMAP's time
        distances, rows = NearestNeighbors(n_neighbors=n_neighbors).fit(X).kneighbors(X)
        neighbors = {"precomputed_knn": (rows, distances), "force_approximation_algorithm": True}
    # when numba starts it also sets the number of torch's threads: threadpool_limits restores it
    with warnings.catch_warnings(), threadpool_limits(limits=None):
        warnings.simplefilter("ignore")  # of numba, and of parts of UMAP that are not used here
        umap = import_optional("umap", extra="projection", needed_by="UMAP")
        model = umap.UMAP(
            n_components=n_components,
            n_neighbors=n_neighbors,
            min_dist=min_dist,
            # the spectral initialisation needs more rows than columns
            init="spectral" if len(X) > 10 * n_components else "random",
            random_state=seed,
            n_jobs=1,
            **neighbors,
        )
        return np.asarray(model.fit_transform(X), dtype=np.float32)


def _measure_trust(X: NDArray[Any], coordinates: NDArray[Any], seed: int) -> float:
    rows = np.arange(len(X))
    if len(X) > _MAX_TRUST_ROWS:
        rows = np.sort(np.random.default_rng(seed).choice(rows, _MAX_TRUST_ROWS, replace=False))
    n_neighbors = min(_TRUST_NEIGHBORS, (len(rows) - 1) // 2)
    return float(trustworthiness(X[rows], coordinates[rows], n_neighbors=n_neighbors))
