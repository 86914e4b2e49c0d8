"""Draw the stamps of each cluster."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import KW_ONLY, dataclass
from typing import Any, Self

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from skastro.plots import style
from skastro.utils.validation import check_labels

_NOISE = -1
_STAMP_GAP = 0.06  # between stamps, in sides of a stamp


@dataclass(eq=False, repr=False)
class ClusterDisplay(style.Display):
    r"""Contact sheet: a row of stamps for each cluster, the largest first, noise last.

    `from_predictions` or `from_estimator` make and draw it. A new figure fits the sheet.

    Parameters
    ----------
    table : DataFrame
        A row for each cluster shown: ``cluster`` (-1 for noise), ``size``, and optionally
        ``majority`` (class) and ``purity`` (its share of the labelled members).
    pictures : list of list of uint8 array of shape (height, width, 3)
        Pictures of the stamps for each row of ``table``.
    n_hidden : int, default=0
        Number of smaller clusters that are not shown.

    Attributes
    ----------
    ax_, figure_ : matplotlib Axes and Figure
    image_ : AxesImage
        The sheet.

    Examples
    --------
    >>> stamps = np.random.default_rng(0).normal(size=(6, 3, 8, 8))
    >>> display = ClusterDisplay.from_predictions([0, 1, 1, 1, -1, 0], stamps, n_stamps=2)
    >>> [label.get_text() for label in display.ax_.get_yticklabels()]
    ['cluster 1\n3 objects', 'cluster 0\n2 objects', 'in no cluster\n1 object']
    """

    table: pd.DataFrame
    pictures: Sequence[Sequence[NDArray[np.uint8]]]
    _: KW_ONLY
    n_hidden: int = 0

    @classmethod
    def from_predictions(
        cls,
        labels: ArrayLike,
        images: Any,
        *,
        probabilities: ArrayLike | None = None,
        exemplars: Mapping[int, ArrayLike] | Sequence[ArrayLike] | None = None,
        y: ArrayLike | None = None,
        bands: Sequence[int | str] | None = None,
        n_stamps: int = 10,
        max_clusters: int = 12,
        **plot_params: Any,
    ) -> Self:
        """Choose stamps of each cluster, and draw.

        Parameters
        ----------
        labels : int array-like of shape (n,)
            Cluster of each object; -1 is noise.
        images : array-like of shape (n, bands, height, width)
            Stamps, composed by `to_rgb` with one stretch.
        probabilities : array-like of shape (n,), default=None
            Membership strengths: each cluster shows its strongest members. By default, it shows
            members that are evenly spaced in row order.
        exemplars : dict of int to rows, or sequence of rows, default=None
            Rows to show first, by cluster.
        y : array-like of shape (n,), default=None
            Classes, unlabelled rows marked as in `SelfSupervisedClassifier.fit`. The majority
            class of each cluster is written next to it.
        bands : sequence of three int or str, default=None
            Bands shown as red, green and blue, by default those of `write_thumbnails`.
        n_stamps : int, default=10
            Largest number of stamps of a cluster.
        max_clusters : int, default=12
            Number of the largest clusters to show. The number of others is written below.
        **plot_params
            Passed to `plot`.

        Returns
        -------
        display : ClusterDisplay

        Raises
        ------
        ValueError
            Numbers of rows differ.
        """
        labels = np.asarray(labels)
        stack = style.check_stack(images, len(labels))
        style.check_values(len(labels), probabilities=probabilities, y=y)
        # the largest clusters first, noise last
        clusters, sizes = np.unique(labels, return_counts=True)
        order = np.lexsort([-sizes, clusters == _NOISE])
        table = pd.DataFrame({"cluster": clusters, "size": sizes}).iloc[order]
        shown = table[(table["cluster"] == _NOISE) | (np.arange(len(table)) < max_clusters)]
        if y is not None:
            shown = shown.assign(**_find_majorities(labels, y, shown["cluster"]))
        rows = {
            cluster: _order_members(labels, cluster, probabilities, exemplars)
            for cluster in shown["cluster"].tolist()
        }
        spread_out = probabilities is None and exemplars is None
        pictures = style.choose_stamps(stack, rows, n_stamps, bands, spread_out=spread_out)
        display = cls(shown, list(pictures.values()), n_hidden=len(table) - len(shown))
        return display.plot(**plot_params)

    @classmethod
    def from_estimator(cls, clusterer: Any, images: Any, **params: Any) -> Self:
        """Draw the clusters of a fitted clusterer.

        Parameters
        ----------
        clusterer : fitted clusterer
            With ``labels_`` and optionally ``exemplar_indices_`` and ``probabilities_``, such
            as `EmbeddingClusterer`.
        images : array-like of shape (n, bands, height, width)
            Stamps of the objects that the clusterer was fitted on.
        **params
            Passed to `from_predictions`.

        Returns
        -------
        display : ClusterDisplay
        """
        params.setdefault("probabilities", getattr(clusterer, "probabilities_", None))
        params.setdefault("exemplars", getattr(clusterer, "exemplar_indices_", None))
        return cls.from_predictions(clusterer.labels_, images, **params)

    def _sheet_shape(self) -> tuple[int, int, float]:
        """Return the numbers of rows and columns, and the height of a stamp over its width."""
        height, width = self.pictures[0][0].shape[:2]
        return len(self.pictures), max(len(row) for row in self.pictures), height / width

    def _figure_size(self) -> tuple[float, float]:
        n_rows, n_columns, aspect = self._sheet_shape()
        return 0.72 * n_columns + 1.7, 0.72 * aspect * n_rows + 0.4

    def _draw(self, ax: Any) -> None:
        n_rows, n_columns, aspect = self._sheet_shape()
        step = 1 + _STAMP_GAP
        style.frame_pictures(ax)
        extent = (0, n_columns * step, n_rows * step * aspect, 0)
        self.image_ = ax.imshow(_compose_sheet(self.pictures, n_columns), extent=extent)
        places = (np.arange(n_rows) + 0.5) * step * aspect
        names = [_cluster_name(row) for row in self.table.to_dict("records")]
        ax.set_yticks(places, names, color=style.INK, fontsize=9, linespacing=1.3)
        ax.set_xticks([])
        if self.n_hidden:
            noun = "cluster is" if self.n_hidden == 1 else "clusters are"
            ax.set_xlabel(f"{self.n_hidden:,} smaller {noun} not shown", loc="left", fontsize=9)


def _order_members(
    labels: NDArray[Any],
    cluster: int,
    probabilities: ArrayLike | None,
    exemplars: Mapping[int, ArrayLike] | Sequence[ArrayLike] | None,
) -> NDArray[np.intp]:
    """Return the rows of a cluster: exemplars first, then by falling probability."""
    rows = np.flatnonzero(labels == cluster)
    if cluster == _NOISE:  # all objects of the noise are equally typical
        return np.random.default_rng(0).permutation(rows)
    if probabilities is not None:
        rows = rows[np.argsort(-np.asarray(probabilities)[rows], kind="stable")]
    if not isinstance(exemplars, Mapping):
        exemplars = dict(enumerate(() if exemplars is None else exemplars))
    first = np.asarray(exemplars.get(cluster, ()), dtype=np.intp)
    return np.concatenate([first, rows[~np.isin(rows, first)]])


def _find_majorities(labels: NDArray[Any], y: ArrayLike, clusters: pd.Series) -> dict[str, Any]:
    """Return the most frequent class of each cluster and its share of the labelled members."""
    classes, codes = check_labels(y)
    members = [codes[(labels == cluster) & (codes >= 0)] for cluster in clusters]
    counts = np.array([np.bincount(rows, minlength=len(classes)) for rows in members])
    totals = counts.sum(axis=1)
    majority = np.where(totals > 0, classes.astype(str)[counts.argmax(axis=1)], "")
    return {"majority": majority, "purity": counts.max(axis=1) / np.where(totals, totals, np.nan)}


def _compose_sheet(pictures: Sequence[Sequence[NDArray[Any]]], n_columns: int) -> NDArray[np.uint8]:
    """Place rows of pictures on a white sheet, with gaps to the right and below."""
    height, width = pictures[0][0].shape[:2]
    step_y, step_x = (side + max(1, round(_STAMP_GAP * side)) for side in (height, width))
    sheet = np.full((step_y * len(pictures), step_x * n_columns, 3), 255, dtype=np.uint8)
    for i, row in enumerate(pictures):
        for j, picture in enumerate(row):
            top, left = i * step_y, j * step_x
            sheet[top : top + height, left : left + width] = picture
    return sheet


def _cluster_name(row: Mapping[str, Any]) -> str:
    name = "in no cluster" if row["cluster"] == _NOISE else f"cluster {row['cluster']}"
    size = f"{row['size']:,} object{'s' if row['size'] != 1 else ''}"
    if row.get("majority"):
        return f"{name}: {size}\n{100 * row['purity']:.0f} % {row['majority']}"
    return f"{name}\n{size}"
