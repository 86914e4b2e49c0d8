"""Draw the stamps of each cluster."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Self

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from skastro.plots.style import INK, anchor_axes, check_stack, make_axes, show_stamps
from skastro.utils.validation import check_labels

_NOISE = -1
_GAP = 0.06  # between stamps, in sides of a stamp


class ClusterDisplay:
    r"""Contact sheet: a row of stamps for each cluster, the largest first, noise last.

    Made by `from_predictions` or `from_clusterer`, which draw it too.

    Parameters
    ----------
    table : DataFrame
        A row for each cluster shown: ``cluster`` (-1 for noise), ``size``, and perhaps
        ``majority`` (class) and ``purity`` (its share of the labelled members).
    pictures : list of list of uint8 array of shape (height, width, 3)
        Of each row of ``table``.
    n_hidden : int, default=0
        Smaller clusters that are not shown.

    Attributes
    ----------
    ax_ : matplotlib Axes
    figure_ : matplotlib Figure
    image_ : AxesImage
        The sheet.

    Examples
    --------
    >>> stamps = np.random.default_rng(0).normal(size=(6, 3, 8, 8))
    >>> display = ClusterDisplay.from_predictions([0, 1, 1, 1, -1, 0], stamps, n_stamps=2)
    >>> [label.get_text() for label in display.ax_.get_yticklabels()]
    ['cluster 1\n3 objects', 'cluster 0\n2 objects', 'in no cluster\n1 object']
    """

    def __init__(
        self,
        table: pd.DataFrame,
        pictures: Sequence[Sequence[NDArray[np.uint8]]],
        *,
        n_hidden: int = 0,
    ) -> None:
        self.table = table
        self.pictures = pictures
        self.n_hidden = n_hidden

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
            Composed by `to_rgb`, all with one stretch.
        probabilities : array-like of shape (n,), default=None
            Strengths of membership: the strongest members are shown. None shows some at even
            distances in the order of the rows.
        exemplars : dict of int to rows, or sequence of rows, default=None
            Rows by cluster that are shown first.
        y : array-like of shape (n,), default=None
            Classes, unlabelled rows marked as in `SelfSupervisedClassifier.fit`: each cluster's
            majority is written beside it.
        bands : sequence of three int or str, default=None
            As in `ConfusionDisplay.from_predictions`.
        n_stamps : int, default=10
            Stamps of a cluster, at most.
        max_clusters : int, default=12
            The largest are shown, and how many are not is said.
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
        stack = check_stack(images, len(labels))
        for name, values in (("probabilities", probabilities), ("y", y)):
            if values is not None and (n := len(np.asarray(values))) != len(labels):
                raise ValueError(f"{name} has {n} rows for {len(labels)} objects.")
        clusters, sizes = np.unique(labels, return_counts=True)
        table = pd.DataFrame({"cluster": clusters, "size": sizes})
        table["noise"] = table["cluster"] == _NOISE
        table = table.sort_values(["noise", "size"], ascending=[True, False], kind="stable")
        shown = table[table["noise"] | (np.arange(len(table)) < max_clusters)].drop(columns="noise")
        if y is not None:
            shown = shown.assign(**_majorities(labels, y, shown["cluster"]))
        rows = {
            cluster: _members(labels, cluster, probabilities, exemplars)
            for cluster in shown["cluster"].tolist()
        }
        pictures = show_stamps(
            stack, rows, n_stamps, bands, len(labels),
            spread_out=probabilities is None and exemplars is None,
        )  # fmt: skip
        display = cls(shown, list(pictures.values()), n_hidden=len(table) - len(shown))
        return display.plot(**plot_params)

    @classmethod
    def from_clusterer(cls, clusterer: Any, images: Any, **params: Any) -> Self:
        """Draw what a fitted clusterer found.

        Parameters
        ----------
        clusterer : fitted clusterer
            With ``labels_`` and, if it has them, ``exemplar_indices_`` and
            ``probabilities_``, such as `EmbeddingClusterer`.
        images : array-like of shape (n, bands, height, width)
            Stamps of the objects that it was fitted on.
        **params
            Passed to `from_predictions`.

        Returns
        -------
        display : ClusterDisplay
        """
        params.setdefault("probabilities", getattr(clusterer, "probabilities_", None))
        params.setdefault("exemplars", getattr(clusterer, "exemplar_indices_", None))
        return cls.from_predictions(clusterer.labels_, images, **params)

    def plot(self, ax: Any = None) -> Self:
        """Draw into axes.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            None makes a figure whose size is that of the sheet.

        Returns
        -------
        display : ClusterDisplay

        Raises
        ------
        ImportError
            matplotlib is not installed.
        """
        sheet, aspect = _lay_out(self.pictures)
        rows, columns = len(self.pictures), max(len(each) for each in self.pictures)
        ax = make_axes(ax, "ClusterDisplay", (0.72 * columns + 1.7, 0.72 * aspect * rows + 0.4))
        self.ax_, self.figure_ = ax, ax.figure
        step = 1 + _GAP
        anchor_axes(ax)
        self.image_ = ax.imshow(sheet, extent=(0, columns * step, rows * step * aspect, 0))
        places = (np.arange(rows) + 0.5) * step * aspect
        names = [_cluster_name(row) for row in self.table.to_dict("records")]
        ax.set_yticks(places, names, color=INK, fontsize=9, linespacing=1.3)
        ax.tick_params(length=0)
        ax.set_xticks([])
        for spine in ax.spines.values():
            spine.set_visible(False)
        if self.n_hidden:
            what = "cluster is" if self.n_hidden == 1 else "clusters are"
            ax.set_xlabel(f"{self.n_hidden:,} smaller {what} not shown", loc="left", fontsize=9)
        return self


def _members(
    labels: NDArray[Any],
    cluster: int,
    probabilities: ArrayLike | None,
    exemplars: Mapping[int, ArrayLike] | Sequence[ArrayLike] | None,
) -> NDArray[np.intp]:
    """Return the rows of a cluster: exemplars first, then by falling probability."""
    rows = np.flatnonzero(labels == cluster)
    if cluster == _NOISE:
        return np.random.default_rng(0).permutation(rows)  # none is more typical than another
    if probabilities is not None:
        rows = rows[np.argsort(-np.asarray(probabilities)[rows], kind="stable")]
    first = np.empty(0, dtype=np.intp)
    if exemplars is not None:
        known = exemplars.keys() if isinstance(exemplars, Mapping) else range(len(exemplars))
        if cluster in known:
            first = np.asarray(exemplars[cluster], dtype=np.intp)
    return np.concatenate([first, rows[~np.isin(rows, first)]])


def _majorities(labels: NDArray[Any], y: ArrayLike, clusters: pd.Series) -> dict[str, list[Any]]:
    classes, codes = check_labels(y)
    majority, purity = [], []
    for cluster in clusters:
        members = codes[(labels == cluster) & (codes >= 0)]
        counts = np.bincount(members, minlength=len(classes))
        majority.append(str(classes[counts.argmax()]) if len(members) else "")
        purity.append(counts.max() / len(members) if len(members) else np.nan)
    return {"majority": majority, "purity": purity}


def _lay_out(pictures: Sequence[Sequence[NDArray[Any]]]) -> tuple[NDArray[np.uint8], float]:
    """Lay rows of pictures out on white; return the sheet and a picture's height to width."""
    height, width = pictures[0][0].shape[:2]
    columns = max(len(row) for row in pictures)
    gaps = max(1, round(_GAP * height)), max(1, round(_GAP * width))
    steps = height + gaps[0], width + gaps[1]
    sheet = np.full((steps[0] * len(pictures), steps[1] * columns, 3), 255, dtype=np.uint8)
    for i, row in enumerate(pictures):
        for j, picture in enumerate(row):
            sheet[i * steps[0] : i * steps[0] + height, j * steps[1] : j * steps[1] + width] = (
                picture
            )
    return sheet, height / width


def _cluster_name(row: Mapping[str, Any]) -> str:
    name = "in no cluster" if row["cluster"] == _NOISE else f"cluster {row['cluster']}"
    size = f"{row['size']:,} object{'s' if row['size'] != 1 else ''}"
    if row.get("majority"):
        return f"{name}: {size}\n{100 * row['purity']:.0f} % {row['majority']}"
    return f"{name}\n{size}"
