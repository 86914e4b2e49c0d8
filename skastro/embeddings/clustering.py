"""EmbeddingClusterer: groups in a survey that nobody has labelled."""

from __future__ import annotations

import warnings
from numbers import Integral, Real
from typing import Any, Self

import numpy as np
import pandas as pd
from hdbscan import HDBSCAN, approximate_predict, membership_vector
from hdbscan.prediction import approximate_predict_scores
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, ClusterMixin, clone
from sklearn.decomposition import PCA
from sklearn.neighbors import KNeighborsRegressor
from sklearn.utils.validation import check_is_fitted, validate_data

from skastro.embeddings.projection import has_umap, run_umap
from skastro.utils.validation import Documented, check_labels, draw_seed

NOISE = -1

_NARROW = 10  # columns that HDBSCAN takes as they are
_FEW = 100  # rows below which UMAP has too little to learn from
_WIDTH = 50  # principal components that UMAP sees
_COMPONENTS = {"umap": 5, "pca": 10}
_NEIGHBORS = (15, 100)  # of UMAP, a tenth of the rows between these: few tear what is one
_PLACED_BY = 5  # neighbours between which a new object is placed


class EmbeddingClusterer(Documented, ClusterMixin, BaseEstimator):
    """Find clusters in embeddings by HDBSCAN, and tell where new objects belong.

    The number of clusters is found, not given; objects that belong to none are noise (-1).
    Embeddings of hundreds of columns are reduced first, because there density says little.

    Parameters
    ----------
    min_cluster_size : int or "auto", default="auto"
        Objects of the smallest cluster, among the rows that are fitted. "auto" is twice the
        square root of their number, at least 5 and at most a sixth of it: 35 of 300, 110 of
        3,000, 283 of 20,000.
    min_samples : int or "auto", default="auto"
        Neighbours over which density is taken: more of them smooth it, so that fewer clusters
        are found, and the same again in another sample. "auto" is ``min_cluster_size``.
    reduce : {"auto", "umap", "pca"} or None, default="auto"
        What comes before HDBSCAN. "auto": nothing up to 10 columns, PCA below 100 rows, and else
        UMAP (or PCA, with a warning, where umap-learn is not installed). UMAP takes its
        neighbours in the first 50 principal components.
    n_components : int or "auto", default="auto"
        Columns that are left: 5 by UMAP, 10 by PCA.
    cluster_selection_method : {"eom", "leaf"}, default="eom"
        How clusters are taken from the tree: "eom" those that last longest, "leaf" the smallest.
    max_cluster_fraction : float, default=0.5
        A cluster of a larger share of the rows is taken apart if it has parts, by "eom" only; 1
        leaves it. A few objects at the edge would else make one cluster of all others.
    max_rows : int, default=20000
        Rows, drawn at random, that reduction and HDBSCAN are fitted on where there are more; the
        others are predicted.
    random_state : int, RandomState or None, default=None
        The same seed gives the same clusters.

    Attributes
    ----------
    labels_ : int64 array of shape (n,)
        Cluster of each row, 0 to ``n_clusters_`` - 1, or -1.
    probabilities_ : float64 array of shape (n,)
        How firmly a row belongs to its cluster, 0 for noise and 1 for the densest.
    outlier_scores_ : float64 array of shape (n,)
        GLOSH, between 0 and 1: how much less dense a place is than its surroundings.
    exemplar_indices_ : list of int64 arrays
        Rows in the densest places of each cluster, the densest first.
    n_clusters_ : int
        Without noise.
    min_cluster_size_ : int
        What was taken.
    reduction_ : str or None
        What was taken: "umap", "pca" or None.
    fitted_rows_ : int64 array
        Rows that were fitted; the others were predicted.
    model_ : HDBSCAN
        Fitted on the reduced rows.
    n_features_in_ : int

    See Also
    --------
    project_embedding : Two columns to look at.
    score_embedding : How well clusters agree with classes.

    Notes
    -----
    A new object is placed, in what UMAP has made, between its five nearest fitted rows (in the
    principal components, weighted by inverse distance), so that its cluster does not depend on
    what else is predicted.

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

    def fit(self, X: Any, y: Any = None) -> Self:  # noqa: ARG002 - the interface has it
        """Reduce the rows, and find their clusters.

        Parameters
        ----------
        X : array-like of shape (n, d)
            Embeddings, n >= 2, finite, of columns on one scale.
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
        self._check_parameters()
        X = validate_data(self, X, dtype=[np.float64, np.float32], ensure_min_samples=2)
        seed = draw_seed(self.random_state)
        self.fitted_rows_ = self._draw_rows(len(X), seed)
        fitted = X[self.fitted_rows_]
        self.min_cluster_size_ = self._choose_size(len(fitted))
        self.reduction_ = self._choose_reduction(*fitted.shape)
        Z = self._fit_reduction(fitted, seed)
        self.model_ = self._fit_model(Z, self.min_cluster_size_)
        self.n_clusters_ = int(self.model_.labels_.max()) + 1
        self._label(X)
        self.exemplar_indices_ = self._find_exemplars()
        return self

    def predict(self, X: Any) -> NDArray[np.int64]:
        """Return the cluster of new objects, -1 for noise.

        Clusters stay as they were fitted. Fitted rows get their ``labels_`` again but for a few
        at the edges of clusters.

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
            The sum of a row is the chance that the object belongs to any; the largest is not
            always the cluster that `predict` names, which also asks how dense the place is.
        """
        Z = self.reduced(X)
        if self.n_clusters_ == 0:
            return np.zeros((len(Z), 0))
        with np.errstate(invalid="ignore", divide="ignore"), warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)  # all are NaN among copies
            strengths = membership_vector(self.model_, Z)
        copies = ~np.isfinite(strengths).all(axis=1)
        if copies.any():  # of an exemplar, infinitely dense: they are of its cluster alone
            labels, probabilities = self._place(Z[copies])
            strengths[copies] = (labels[:, None] == np.arange(self.n_clusters_)) * (
                probabilities[:, None]
            )
        return strengths

    def reduced(self, X: Any) -> NDArray[np.float64]:
        """Return what HDBSCAN sees of objects: the columns that the reduction leaves.

        Parameters
        ----------
        X : array-like of shape (n, d)

        Returns
        -------
        reduced : float64 array of shape (n, n_components)
        """
        check_is_fitted(self)
        X = validate_data(self, X, reset=False, dtype=[np.float64, np.float32])
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
        """Say which clusters are found again in other draws of the same objects.

        Objects are drawn with replacement and clustered (each once: copies would be dense
        places), and each cluster is compared with the most similar that is found, by the Jaccard
        index over the objects drawn (Hennig 2007, section 3.1).

        Parameters
        ----------
        X : array-like of shape (n, d), default=None
            What was fitted: the reduction is then learned anew from each draw, as is honest.
            None keeps the reduction, which takes seconds and is kinder.
        n_resamples : int, default=20
        random_state : int, RandomState or None, default=None

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
        if not _is_whole(n_resamples, 1):
            raise ValueError(f"n_resamples={n_resamples!r} must be a whole number of at least 1.")
        if X is not None:
            X = validate_data(self, X, reset=False, dtype=[np.float64, np.float32])
            self._check_length(len(X), "X")
            X = X[self.fitted_rows_]
        labels = self.model_.labels_
        rng = np.random.default_rng(draw_seed(random_state))
        found = np.zeros((n_resamples, self.n_clusters_))
        for draw in found:
            rows = np.unique(rng.integers(len(labels), size=len(labels)))
            if self.n_clusters_ == 0 or len(rows) < 2:
                continue
            draw[:] = _best_jaccard(labels[rows], self._cluster_again(X, rows), self.n_clusters_)
        index = pd.RangeIndex(self.n_clusters_, name="cluster")
        return pd.Series(found.mean(axis=0), index, name="stability")

    def cluster_summary(self, catalog: Any = None, labels: ArrayLike | None = None) -> pd.DataFrame:
        """Tell what the clusters hold.

        Parameters
        ----------
        catalog : DataFrame, astropy Table or dict of arrays, default=None
            One row for each fitted row.
        labels : array-like of shape (n,), default=None
            Classes, unlabelled rows marked as in `SelfSupervisedClassifier`.

        Returns
        -------
        summary : DataFrame
            One row for each cluster and, last, for noise (-1), indexed by ``cluster``:
            ``size``, ``fraction`` of all rows and ``probability`` (mean of
            ``probabilities_``); with ``labels`` also ``majority_class``, ``purity`` (its share of
            the labelled rows, NaN where there are none) and ``n_labelled``; and
            ``median_<column>`` of each column of numbers but ``id``, without NaN, in its unit.

        Raises
        ------
        ValueError
            ``catalog`` or ``labels`` has another number of rows.
        """
        check_is_fitted(self)
        groups = pd.Series(self.labels_, name="cluster")
        order = pd.Index([*range(self.n_clusters_), NOISE], name="cluster")
        summary = pd.DataFrame({"size": groups.value_counts().reindex(order, fill_value=0)})
        summary["fraction"] = summary["size"] / len(groups)
        summary["probability"] = pd.Series(self.probabilities_).groupby(groups).mean()
        if labels is not None:
            summary = summary.join(self._purities(labels, order))
        if catalog is not None:
            summary = summary.join(self._medians(catalog, groups))
        return summary

    def _purities(self, labels: ArrayLike, order: pd.Index) -> pd.DataFrame:
        classes, codes = check_labels(labels)
        self._check_length(len(codes), "labels")
        rows = {}
        for cluster in order:
            counts = np.bincount(
                codes[(self.labels_ == cluster) & (codes >= 0)], minlength=len(classes)
            )
            n = counts.sum()
            rows[cluster] = (
                classes[counts.argmax()] if n else None,
                counts.max() / n if n else np.nan,
                n,
            )
        names = ["majority_class", "purity", "n_labelled"]
        return pd.DataFrame.from_dict(rows, orient="index", columns=names)

    def _medians(self, catalog: Any, groups: pd.Series) -> pd.DataFrame:
        table = catalog.to_pandas() if hasattr(catalog, "to_pandas") else pd.DataFrame(catalog)
        self._check_length(len(table), "catalog")
        numbers = table.reset_index(drop=True).select_dtypes("number")
        numbers = numbers.drop(columns="id", errors="ignore")
        return numbers.groupby(groups).median().add_prefix("median_")

    def _check_length(self, n: int, name: str) -> None:
        if n != len(self.labels_):
            raise ValueError(
                f"{name} has {n} rows, but {len(self.labels_)} were fitted: pass one for each."
            )

    def _check_parameters(self) -> None:
        if not _is_whole(self.max_rows, 2):
            raise ValueError(f"max_rows={self.max_rows!r} must be a whole number of at least 2.")
        for name, least in (("min_cluster_size", 2), ("min_samples", 1), ("n_components", 1)):
            value = getattr(self, name)
            if value != "auto" and not _is_whole(value, least):
                raise ValueError(
                    f"{name}={value!r} must be 'auto' or a whole number of at least {least}."
                )
        if self.reduce not in ("auto", "umap", "pca", None):
            raise ValueError(f"reduce={self.reduce!r} must be 'auto', 'umap', 'pca' or None.")
        if self.cluster_selection_method not in ("eom", "leaf"):
            raise ValueError(
                f"cluster_selection_method={self.cluster_selection_method!r} must be 'eom' or "
                "'leaf'."
            )
        fraction = self.max_cluster_fraction
        if not isinstance(fraction, Real) or not 0 < fraction <= 1:
            raise ValueError(f"max_cluster_fraction={fraction!r} must be above 0 and at most 1.")

    def _draw_rows(self, n: int, seed: int) -> NDArray[np.int64]:
        if n <= self.max_rows:
            return np.arange(n)
        return np.sort(np.random.default_rng(seed).choice(n, self.max_rows, replace=False))

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
        if d <= _NARROW:
            return None
        if n < _FEW:
            return "pca"
        if not has_umap():
            warnings.warn(
                "umap-learn is not installed: PCA takes its place, after which most objects are "
                "noise; pip install 'skastro[projection]', or pass reduce='pca'.",
                UserWarning,
                stacklevel=3,
            )
            return "pca"
        return "umap"

    def _fit_reduction(self, X: NDArray[Any], seed: int) -> NDArray[np.float64]:
        """Learn to reduce; return the reduced rows."""
        self._pca, self._placement = None, None
        if self.reduction_ is None:
            return X.astype(np.float64)
        wanted = self.n_components
        wanted = _COMPONENTS[self.reduction_] if wanted == "auto" else int(wanted)
        width = _WIDTH if self.reduction_ == "umap" else wanted
        if X.shape[1] > width or self.reduction_ == "pca":
            with np.errstate(invalid="ignore", divide="ignore"):  # of rows that are all equal
                self._pca = PCA(min(width, *X.shape), random_state=seed).fit(X)
            X = self._pca.transform(X)
        if self.reduction_ == "umap":
            near = int(np.clip(len(X) // 10, *_NEIGHBORS))
            Z = run_umap(X, n_components=wanted, n_neighbors=near, min_dist=0.0, seed=seed)
            self._placement = KNeighborsRegressor(min(_PLACED_BY, len(X)), weights="distance")
            X = self._placement.fit(X, Z).predict(X)  # the same way for all, to the last digit
        return X.astype(np.float64)

    def _fit_model(self, Z: NDArray[np.float64], size: int) -> HDBSCAN:
        samples = size if self.min_samples == "auto" else self.min_samples
        model = HDBSCAN(
            min_cluster_size=size,
            # prediction looks at twice as many neighbours
            min_samples=max(1, min(samples, len(Z) // 2)),
            cluster_selection_method=self.cluster_selection_method,
            core_dist_n_jobs=1,
        )
        most = int(self.max_cluster_fraction * len(Z))
        with np.errstate(divide="ignore", invalid="ignore"):  # of rows that are equal
            model.fit(Z)
            if self.cluster_selection_method == "eom" and _largest(model) > most:
                # what has no parts would be called noise
                model.set_params(max_cluster_size=max(most, _largest_without_parts(model))).fit(Z)
            model.generate_prediction_data()
        return model

    def _place(self, Z: NDArray[np.float64]) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """Return cluster and probability of reduced rows."""
        if self.n_clusters_ == 0:
            return np.full(len(Z), NOISE), np.zeros(len(Z))
        labels, probabilities = approximate_predict(self.model_, Z)
        return labels.astype(np.int64), np.nan_to_num(probabilities, nan=1.0)

    def _label(self, X: NDArray[Any]) -> None:
        rows, n = self.fitted_rows_, len(X)
        self.labels_ = np.full(n, NOISE)
        self.probabilities_, self.outlier_scores_ = np.zeros(n), np.zeros(n)
        self.labels_[rows] = self.model_.labels_
        self.probabilities_[rows] = np.nan_to_num(self.model_.probabilities_, nan=1.0)
        with np.errstate(invalid="ignore"):
            self.outlier_scores_[rows] = np.nan_to_num(self.model_.outlier_scores_, nan=0.0)
        others = np.setdiff1d(np.arange(n), rows)
        if len(others):
            Z = self.reduced(X[others])
            self.labels_[others], self.probabilities_[others] = self._place(Z)
            scores = approximate_predict_scores(self.model_, Z)
            self.outlier_scores_[others] = np.clip(np.nan_to_num(scores, nan=0.0), 0, 1)

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

    def _cluster_again(self, X: NDArray[Any] | None, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return clusters of some of the fitted rows, with clusters as small for their number."""
        size = max(2, round(self.min_cluster_size_ * len(rows) / len(self.fitted_rows_)))
        if X is None:
            return self._fit_model(self.model_.prediction_data_.raw_data[rows], size).labels_
        again = clone(self).set_params(
            min_cluster_size=size, reduce=self.reduction_, random_state=len(rows)
        )
        return again.fit(X[rows]).labels_


def _is_whole(value: Any, least: int) -> bool:
    return isinstance(value, Integral) and not isinstance(value, bool) and int(value) >= least


def _largest(model: HDBSCAN) -> int:
    """Return how many rows the largest cluster has."""
    return int(np.bincount(model.labels_ + 1)[1:].max(initial=0))


def _largest_without_parts(model: HDBSCAN) -> int:
    """Return the rows of the largest cluster in the tree that does not split any further."""
    tree = model.condensed_tree_.to_numpy()
    clusters = tree[tree["child_size"] > 1]
    whole = ~np.isin(clusters["child"], clusters["parent"])
    return int(clusters["child_size"][whole].max(initial=0))


def _best_jaccard(
    known: NDArray[np.int64], found: NDArray[np.int64], n_clusters: int
) -> NDArray[np.float64]:
    """Return for each known cluster the Jaccard index of the one found that is most like it."""
    if found.max() < 0:
        return np.zeros(n_clusters)
    together = np.zeros((n_clusters + 1, found.max() + 2))
    np.add.at(together, (known, found), 1)  # -1, noise, is the last
    either = together.sum(axis=1)[:, None] + together.sum(axis=0)[None] - together
    return (together / np.maximum(either, 1))[:-1, :-1].max(axis=1, initial=0.0)
