"""Cluster embeddings without labels."""

from __future__ import annotations

import warnings
from numbers import Integral, Real
from typing import Any, Self

import numpy as np
import pandas as pd
from hdbscan import HDBSCAN, approximate_predict, membership_vector
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, ClusterMixin, clone
from sklearn.decomposition import PCA
from sklearn.neighbors import KNeighborsRegressor
from sklearn.utils.validation import check_is_fitted, validate_data

from skastro.embeddings.outliers import draw_rows, outlier_scores
from skastro.embeddings.projection import has_umap, run_umap
from skastro.utils.fitting import fits_as_a_whole
from skastro.utils.tables import as_frame
from skastro.utils.validation import Documented, check_labels, draw_seed, plain_rows

NOISE = -1

_MAX_UNREDUCED_COLUMNS = 10  # embeddings with more columns are reduced before HDBSCAN
_MIN_UMAP_ROWS = 100  # UMAP learns too little from fewer
_UMAP_INPUT_COLUMNS = 50  # principal components that UMAP starts from
_OUTPUT_COLUMNS = {"umap": 5, "pca": 10}
_UMAP_NEIGHBORS = (15, 100)  # bounds for a tenth of the rows; with fewer, clusters fall apart
_PLACING_NEIGHBORS = 5  # fitted rows that determine the place of a new object


class EmbeddingClusterer(Documented, ClusterMixin, BaseEstimator):
    """Find clusters in embeddings by HDBSCAN, and the clusters of new objects.

    The number of clusters is not given beforehand. Objects that belong to no cluster are noise
    (-1). Embeddings with hundreds of columns are reduced first, because densities mean little
    in so many dimensions.

    Parameters
    ----------
    min_cluster_size : int or "auto", default="auto"
        Number of objects of the smallest cluster, among the fitted rows. "auto" takes twice the
        square root of their number, at least 5 and at most a sixth of it: 34 of 300, 109 of
        3,000, 282 of 20,000.
    min_samples : int or "auto", default="auto"
        Number of neighbours from which densities are estimated. Larger values smooth more: there
        are fewer clusters, and another sample gives the same ones. "auto" takes
        ``min_cluster_size``.
    reduce : {"auto", "umap", "pca"} or None, default="auto"
        Reduction before HDBSCAN. "auto" takes none for up to 10 columns, PCA for fewer than 100
        rows, and UMAP otherwise (or PCA, with a warning, if umap-learn is not installed). UMAP
        searches its neighbours in the first 50 principal components.
    n_components : int or "auto", default="auto"
        Number of columns after the reduction; "auto" takes 5 for UMAP and 10 for PCA.
    cluster_selection_method : {"eom", "leaf"}, default="eom"
        How clusters are selected from the tree: "eom" takes the most persistent, "leaf" the
        smallest.
    max_cluster_fraction : float, default=0.5
        A cluster with a larger share of the rows is divided if it has parts ("eom" only); 1
        divides none. Without this limit, a few objects at the edge can make one cluster of all
        others.
    max_rows : int, default=20000
        Number of rows to fit reduction and HDBSCAN on. If there are more, they are drawn at
        random, and the others are predicted.
    random_state : int, RandomState or None, default=None
        The same seed gives the same clusters.

    Attributes
    ----------
    labels_ : int64 array of shape (n,)
        Cluster of each row, 0 to ``n_clusters_`` - 1, or -1 for noise.
    probabilities_ : float64 array of shape (n,)
        Strength with which a row belongs to its cluster, 0 for noise to 1 in the densest place.
    outlier_scores_ : float64 array of shape (n,)
        How unlike all others a row is, by `outlier_scores`: about 1 for rows among their like,
        more for unusual ones. They come from the embeddings, not from the clusters: HDBSCAN's own
        scores, those of ``model_``, miss most oddities after the reduction.
    exemplar_indices_ : list of int64 arrays
        Rows in the densest places of each cluster, the densest first.
    n_clusters_ : int
        Number of clusters without noise.
    min_cluster_size_ : int
        Smallest cluster size that was used.
    reduction_ : str or None
        Reduction that was used: "umap", "pca" or None.
    fitted_rows_ : int64 array
        Rows that were fitted; the others were predicted.
    model_ : HDBSCAN
        Model fitted on the reduced rows.
    n_features_in_ : int
        Number of columns of the embeddings.

    See Also
    --------
    outlier_scores : Score how unlike all others each object is, without clusters.
    project_embedding : Project embeddings onto a plane to look at.
    score_embedding : Measure how well clusters agree with classes.

    Notes
    -----
    After a reduction by UMAP, a new object is placed between its five nearest fitted rows
    (nearest in the principal components, weighted by inverse distance). Its cluster therefore
    does not depend on the other objects that are predicted.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> kind = np.arange(90) % 3
    >>> embeddings = rng.normal(size=(90, 40)) + 6 * np.eye(40)[kind]
    >>> clusterer = EmbeddingClusterer(random_state=0).fit(embeddings[:75])
    >>> clusterer.n_clusters_, clusterer.reduction_
    (3, 'pca')
    >>> clusterer.cluster_summary(labels=kind[:75])["purity"].tolist()[:3]
    [1.0, 1.0, 1.0]
    >>> len(set(clusterer.predict(embeddings[75:])) - {-1})
    3
    """

    def __init__(
        self,
        min_cluster_size: int | str = "auto",
        *,
        min_samples: int | str = "auto",
        reduce: str | None = "auto",
        n_components: int | str = "auto",
        cluster_selection_method: str = "eom",
        max_cluster_fraction: float = 0.5,
        max_rows: int = 20000,
        random_state: int | np.random.RandomState | None = None,
    ) -> None:
        self.min_cluster_size = min_cluster_size
        self.min_samples = min_samples
        self.reduce = reduce
        self.n_components = n_components
        self.cluster_selection_method = cluster_selection_method
        self.max_cluster_fraction = max_cluster_fraction
        self.max_rows = max_rows
        self.random_state = random_state

    @fits_as_a_whole
    def fit(self, X: Any, y: Any = None) -> Self:  # noqa: ARG002 - scikit-learn passes it
        """Reduce the rows, and find their clusters.

        Parameters
        ----------
        X : array-like of shape (n, d)
            Finite embeddings with columns of one scale, n >= 2.
        y : None, default=None
            Ignored.

        Returns
        -------
        self : EmbeddingClusterer

        Raises
        ------
        ValueError
            A parameter is out of range, or there are fewer rows than ``min_cluster_size``.
        ImportError
            ``reduce="umap"``, and umap-learn is not installed.
        """
        # check, and draw the rows to fit
        self._check_parameters()
        X = validate_data(self, plain_rows(X), dtype=[np.float64, np.float32], ensure_min_samples=2)
        seed = draw_seed(self.random_state)
        self.fitted_rows_ = rows = draw_rows(len(X), self.max_rows, seed)

        # reduce and cluster them
        self.min_cluster_size_ = self._choose_size(len(rows))
        self.reduction_ = self._choose_reduction(len(rows), X.shape[1])
        reduced = self._fit_reduction(X[rows], seed)
        self.model_ = self._fit_model(reduced, self.min_cluster_size_)
        self.n_clusters_ = int(self.model_.labels_.max()) + 1

        # label all rows
        self._label(X)
        self.outlier_scores_ = outlier_scores(X, max_rows=self.max_rows, random_state=seed)
        self.exemplar_indices_ = self._find_exemplars()
        return self

    def predict(self, X: Any) -> NDArray[np.int64]:
        """Return the clusters of new objects, -1 for noise.

        Clusters stay as they were fitted. Fitted rows get their ``labels_`` again, except for a
        few at the edges of clusters.

        Parameters
        ----------
        X : array-like of shape (n, d)

        Returns
        -------
        labels : int64 array of shape (n,)
        """
        return self._place(self.reduced(X))[0]

    def predict_membership(self, X: Any) -> NDArray[np.float64]:
        """Return how strongly new objects belong to each cluster.

        Parameters
        ----------
        X : array-like of shape (n, d)

        Returns
        -------
        strengths : float64 array of shape (n, clusters)
            The sum of a row is the probability that the object belongs to any cluster. The
            strongest cluster can differ from that of `predict`, which also takes the local
            density into account.
        """
        reduced = self.reduced(X)
        if self.n_clusters_ == 0:
            return np.zeros((len(reduced), 0))
        with np.errstate(invalid="ignore", divide="ignore"), warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)  # copies of one object give NaN
            strengths = membership_vector(self.model_, reduced)
        # copies of an exemplar have an infinite density: they belong to its cluster alone
        copies = ~np.isfinite(strengths).all(axis=1)
        if copies.any():
            labels, probabilities = self._place(reduced[copies])
            members = labels[:, None] == np.arange(self.n_clusters_)
            strengths[copies] = members * probabilities[:, None]
        return strengths

    def reduced(self, X: Any) -> NDArray[np.float64]:
        """Return the reduced columns of objects, which HDBSCAN clusters.

        Parameters
        ----------
        X : array-like of shape (n, d)

        Returns
        -------
        reduced : float64 array of shape (n, n_components)
        """
        check_is_fitted(self)
        X = validate_data(self, plain_rows(X), reset=False, dtype=[np.float64, np.float32])
        X = X if self._pca is None else self._pca.transform(X)
        X = X if self._placement is None else self._placement.predict(X)
        return X.astype(np.float64)

    def stability(
        self,
        X: Any = None,
        *,
        n_resamples: int = 20,
        random_state: int | np.random.RandomState | None = None,
    ) -> pd.Series:
        """Measure how well each cluster is found again in other samples of the same objects.

        Objects are drawn with replacement and clustered again (each once, because copies would
        be dense places). Each cluster is compared with the most similar one of the sample by the
        Jaccard index over the drawn objects (Hennig 2007, section 3.1).

        Parameters
        ----------
        X : array-like of shape (n, d), default=None
            The fitted embeddings, to fit the reduction again for each sample. None keeps the
            reduction, which is faster, but overestimates the stability.
        n_resamples : int, default=20
            Number of samples.
        random_state : int, RandomState or None, default=None
            Seed of the samples.

        Returns
        -------
        stability : Series of float64
            Mean Jaccard index by cluster, 0 to 1. Above 0.75 a cluster is found again; below
            0.6 it should not be believed.

        Raises
        ------
        ValueError
            ``X`` is not what was fitted, or ``n_resamples`` is not positive.
        """
        check_is_fitted(self)
        if not _is_integer(n_resamples, 1):
            raise ValueError(f"n_resamples={n_resamples!r} must be a whole number of at least 1.")
        if X is not None:
            X = validate_data(self, plain_rows(X), reset=False, dtype=[np.float64, np.float32])
            self._check_length(len(X), "X")
            X = X[self.fitted_rows_]
        labels = self.model_.labels_
        rng = np.random.default_rng(draw_seed(random_state))
        indices = np.zeros((n_resamples, self.n_clusters_))
        for sample in indices:
            rows = np.unique(rng.integers(len(labels), size=len(labels)))
            if self.n_clusters_ and len(rows) > 1:
                again = self._cluster_again(X, rows)
                sample[:] = _best_jaccard(labels[rows], again, self.n_clusters_)
        clusters = pd.RangeIndex(self.n_clusters_, name="cluster")
        return pd.Series(indices.mean(axis=0), clusters, name="stability")

    def _cluster_again(self, X: NDArray[Any] | None, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        """Cluster some of the fitted rows, with a cluster size in proportion to their number."""
        size = max(2, round(self.min_cluster_size_ * len(rows) / len(self.fitted_rows_)))
        if X is None:
            return self._fit_model(self.model_.prediction_data_.raw_data[rows], size).labels_
        params = {"min_cluster_size": size, "reduce": self.reduction_, "random_state": len(rows)}
        return clone(self).set_params(**params).fit(X[rows]).labels_

    def cluster_summary(self, catalog: Any = None, labels: ArrayLike | None = None) -> pd.DataFrame:
        """Summarise the objects of each cluster.

        Parameters
        ----------
        catalog : DataFrame, astropy Table or dict of arrays, default=None
            Catalogue with one row for each fitted row.
        labels : array-like of shape (n,), default=None
            Classes; unlabelled rows are marked as in `SelfSupervisedClassifier`.

        Returns
        -------
        summary : DataFrame
            One row for each cluster and, last, for noise (-1), indexed by ``cluster``:
            ``size``, ``fraction`` of all rows and ``probability`` (mean of ``probabilities_``).
            With ``labels`` also ``majority_class``, its ``purity`` (share of the labelled rows,
            NaN if there are none) and ``n_labelled``. With ``catalog`` also ``median_<column>``
            of each numeric column except ``id``, without NaN, in the unit of the column.

        Raises
        ------
        ValueError
            ``catalog`` or ``labels`` has another number of rows.
        """
        check_is_fitted(self)
        clusters = pd.Series(self.labels_, name="cluster")
        order = pd.Index([*range(self.n_clusters_), NOISE], name="cluster")
        summary = pd.DataFrame({"size": clusters.value_counts().reindex(order, fill_value=0)})
        summary["fraction"] = summary["size"] / len(clusters)
        summary["probability"] = pd.Series(self.probabilities_).groupby(clusters).mean()
        if labels is not None:
            classes, codes = check_labels(labels)
            self._check_length(len(codes), "labels")
            labelled = codes >= 0
            counts = np.zeros((len(order), len(classes)), np.int64)
            np.add.at(counts, (self.labels_[labelled], codes[labelled]), 1)  # noise, -1, is last
            summary["majority_class"] = [classes[n.argmax()] if n.any() else None for n in counts]
            summary["n_labelled"] = counts.sum(axis=1)
            purity = counts.max(axis=1) / summary["n_labelled"]
            summary.insert(summary.columns.get_loc("n_labelled"), "purity", purity)
        if catalog is not None:
            table = as_frame(catalog, "catalog")
            self._check_length(len(table), "catalog")
            numbers = table.reset_index(drop=True).select_dtypes("number")
            numbers = numbers.drop(columns="id", errors="ignore")
            summary = summary.join(numbers.groupby(clusters).median().add_prefix("median_"))
        return summary

    def _check_length(self, n: int, name: str) -> None:
        n_fitted = len(self.labels_)
        if n != n_fitted:
            raise ValueError(f"{name} has {n} rows, but {n_fitted} were fitted: pass one for each.")

    def _check_parameters(self) -> None:
        if not _is_integer(self.max_rows, 2):
            raise ValueError(f"max_rows={self.max_rows!r} must be a whole number of at least 2.")
        for name, least in (("min_cluster_size", 2), ("min_samples", 1), ("n_components", 1)):
            value = getattr(self, name)
            if value != "auto" and not _is_integer(value, least):
                raise ValueError(
                    f"{name}={value!r} must be 'auto' or a whole number of at least {least}."
                )
        if self.reduce not in ("auto", "umap", "pca", None):
            raise ValueError(f"reduce={self.reduce!r} must be 'auto', 'umap', 'pca' or None.")
        method = self.cluster_selection_method
        if method not in ("eom", "leaf"):
            raise ValueError(f"cluster_selection_method={method!r} must be 'eom' or 'leaf'.")
        fraction = self.max_cluster_fraction
        if not isinstance(fraction, Real) or not 0 < fraction <= 1:
            raise ValueError(f"max_cluster_fraction={fraction!r} must be above 0 and at most 1.")

    def _choose_size(self, n: int) -> int:
        if isinstance(self.min_cluster_size, str):  # "auto"
            return int(min(max(5, min(2 * np.sqrt(n), n // 6)), max(2, n // 2)))
        if self.min_cluster_size > n:
            raise ValueError(
                f"min_cluster_size={self.min_cluster_size} is more than the {n} rows: lower it, "
                "or pass more rows."
            )
        return int(self.min_cluster_size)

    def _choose_reduction(self, n: int, d: int) -> str | None:
        if self.reduce != "auto":
            return self.reduce
        if d <= _MAX_UNREDUCED_COLUMNS:
            return None
        if n < _MIN_UMAP_ROWS:
            return "pca"
        if not has_umap():
            warnings.warn(
                "umap-learn is not installed, so PCA is used, which leaves most objects as noise: "
                "pip install 'skastro[projection]', or pass reduce='pca'.",
                UserWarning,
                stacklevel=4,
            )
            return "pca"
        return "umap"

    def _fit_reduction(self, X: NDArray[Any], seed: int) -> NDArray[np.float64]:
        """Learn the reduction; return the reduced rows."""
        self._pca, self._placement = None, None
        if self.reduction_ is None:
            return X.astype(np.float64)
        n_columns = self.n_components
        n_columns = _OUTPUT_COLUMNS[self.reduction_] if n_columns == "auto" else int(n_columns)
        width = _UMAP_INPUT_COLUMNS if self.reduction_ == "umap" else n_columns
        if X.shape[1] > width or self.reduction_ == "pca":
            with np.errstate(invalid="ignore", divide="ignore"):  # if all rows are equal
                self._pca = PCA(min(width, *X.shape), random_state=seed).fit(X)
            X = self._pca.transform(X)
        if self.reduction_ == "umap":
            n_neighbors = int(np.clip(len(X) // 10, *_UMAP_NEIGHBORS))
            placed = run_umap(
                X, n_components=n_columns, n_neighbors=n_neighbors, min_dist=0.0, seed=seed
            )
            placing = KNeighborsRegressor(min(_PLACING_NEIGHBORS, len(X)), weights="distance")
            self._placement = placing.fit(X, placed)
            X = self._placement.predict(X)  # new objects get exactly the same coordinates
        return X.astype(np.float64)

    def _fit_model(self, reduced: NDArray[np.float64], size: int) -> HDBSCAN:
        n, samples = len(reduced), size if self.min_samples == "auto" else self.min_samples
        model = HDBSCAN(
            min_cluster_size=size,
            min_samples=max(1, min(samples, n // 2)),  # prediction takes twice as many neighbours
            cluster_selection_method=self.cluster_selection_method,
            core_dist_n_jobs=1,
        )
        limit = int(self.max_cluster_fraction * n)
        with np.errstate(divide="ignore", invalid="ignore"):  # if rows are equal
            largest = np.bincount(model.fit(reduced).labels_ + 1)[1:].max(initial=0)
            if self.cluster_selection_method == "eom" and largest > limit:
                # allow the size of clusters without parts: HDBSCAN would turn them into noise
                tree = model.condensed_tree_.to_numpy()
                clusters = tree[tree["child_size"] > 1]
                whole = ~np.isin(clusters["child"], clusters["parent"])
                limit = max(limit, int(clusters["child_size"][whole].max(initial=0)))
                model.set_params(max_cluster_size=limit).fit(reduced)
            model.generate_prediction_data()
        return model

    def _place(self, reduced: NDArray[np.float64]) -> tuple[NDArray[np.int64], NDArray[Any]]:
        """Return clusters and probabilities of reduced rows."""
        if self.n_clusters_ == 0:
            return np.full(len(reduced), NOISE), np.zeros(len(reduced))
        labels, probabilities = approximate_predict(self.model_, reduced)
        return labels.astype(np.int64), np.nan_to_num(probabilities, nan=1.0)

    def _label(self, X: NDArray[Any]) -> None:
        """Set labels and probabilities of all rows; those that were not fitted are predicted."""
        rows, n = self.fitted_rows_, len(X)
        self.labels_, self.probabilities_ = np.full(n, NOISE), np.zeros(n)
        self.labels_[rows] = self.model_.labels_
        self.probabilities_[rows] = np.nan_to_num(self.model_.probabilities_, nan=1.0)
        others = np.setdiff1d(np.arange(n), rows)
        if len(others):
            reduced = self.reduced(X[others])
            self.labels_[others], self.probabilities_[others] = self._place(reduced)

    def _find_exemplars(self) -> list[NDArray[np.int64]]:
        if self.n_clusters_ == 0:
            return []
        data = self.model_.prediction_data_
        exemplars = []
        for points in data.exemplars:
            rows = np.unique(data.tree.query(points, k=1)[1])
            rows = rows[np.argsort(data.core_distances[rows], kind="stable")]
            exemplars.append(self.fitted_rows_[rows])
        return exemplars


def _is_integer(value: Any, least: int) -> bool:
    return isinstance(value, Integral) and not isinstance(value, bool) and int(value) >= least


def _best_jaccard(
    fitted: NDArray[np.int64], sample: NDArray[np.int64], n_clusters: int
) -> NDArray[np.float64]:
    """Return the Jaccard index of each fitted cluster with the most similar one of a sample."""
    if sample.max() < 0:
        return np.zeros(n_clusters)
    both = np.zeros((n_clusters + 1, sample.max() + 2))
    np.add.at(both, (fitted, sample), 1)  # noise, -1, is last
    either = both.sum(axis=1)[:, None] + both.sum(axis=0)[None] - both
    return (both / np.maximum(either, 1))[:-1, :-1].max(axis=1, initial=0.0)
