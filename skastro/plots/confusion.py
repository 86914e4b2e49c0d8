"""Drawings that show stamps: what is taken for what, and what lies in a cluster."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Self

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from skastro.plots.style import INK, anchor_axes, check_stack, compose_stamps, make_axes, spread
from skastro.utils.validation import check_labels

_NOISE = -1
_GAP = 0.06  # between stamps, in sides of a stamp
_TEXT_SHARE = 0.46  # of the height of a cell of the confusion matrix, above its stamps
_PALE = 0.55  # share above which a cell is dark


class ConfusionDisplay:
    """Confusion matrix, with stamps of each kind of right and wrong.

    Made by `from_predictions` or `from_estimator`, which draw it too.

    Parameters
    ----------
    counts : int array of shape (n_classes, n_classes)
        Objects of a true class (row) that were taken for another (column).
    classes : sequence of length n_classes
    examples : dict of (int, int) to list of uint8 array of shape (h, w, 3), default=None
        Pictures for the cells (row, column); cells may be missing.
    n_unlabelled : int, default=0
        Objects left out, because they have no label or no prediction.

    Attributes
    ----------
    ax_ : matplotlib Axes
    figure_ : matplotlib Figure
    image_ : AxesImage
        Shares of the true classes.
    stamps_ : list of AxesImage

    Examples
    --------
    >>> y = ["star", "star", "galaxy", "galaxy"]
    >>> display = ConfusionDisplay.from_predictions(y, ["star", "galaxy", "galaxy", "galaxy"])
    >>> display.counts
    array([[2, 0],
           [1, 1]])
    >>> [text.get_text() for text in display.ax_.texts][::2]
    ['100 %', '0 %', '50 %', '50 %']
    """

    def __init__(
        self,
        counts: NDArray[np.int64],
        classes: Sequence[Any],
        *,
        examples: Mapping[tuple[int, int], list[NDArray[np.uint8]]] | None = None,
        n_unlabelled: int = 0,
    ) -> None:
        self.counts = counts
        self.classes = classes
        self.examples = examples
        self.n_unlabelled = n_unlabelled

    @classmethod
    def from_predictions(
        cls,
        y_true: ArrayLike,
        y_pred: ArrayLike,
        *,
        images: Any = None,
        bands: Sequence[int | str] | None = None,
        confidence: ArrayLike | None = None,
        n_examples: int = 3,
        **plot_params: Any,
    ) -> Self:
        """Count, choose examples, and draw.

        Parameters
        ----------
        y_true, y_pred : array-like of shape (n,)
            Classes; rows where either is marked as unlabelled, as in
            `SelfSupervisedClassifier.fit`, are left out and counted.
        images : array-like of shape (n, bands, height, width), default=None
            Stamps, composed by `to_rgb`.
        bands : sequence of three int or str, default=None
            The bands shown as red, green and blue; None takes 3, 2, 1 of five bands and more.
        confidence : array-like of shape (n,), default=None
            Probability of the prediction: the surest of each cell are shown. None shows some
            at even distances in the order of the rows.
        n_examples : int, default=3
            Stamps in a cell, at most.
        **plot_params
            Passed to `plot`.

        Returns
        -------
        display : ConfusionDisplay

        Raises
        ------
        ValueError
            Lengths differ.
        """
        y_true, y_pred = np.asarray(y_true), np.asarray(y_pred)
        n = len(y_true)
        if len(y_pred) != n or (confidence is not None and len(np.asarray(confidence)) != n):
            raise ValueError(
                f"y_true has {n} labels, but y_pred or confidence has another number of rows: "
                "pass one for each object."
            )
        classes, codes = check_labels(np.concatenate([y_true, y_pred]))
        true, predicted = codes[:n], codes[n:]
        known = (true >= 0) & (predicted >= 0)
        counts = np.zeros((len(classes), len(classes)), dtype=np.int64)
        np.add.at(counts, (true[known], predicted[known]), 1)
        examples = None
        if images is not None:
            order = np.arange(n) if confidence is None else np.argsort(-np.asarray(confidence))
            order = order[known[order]]
            cells = {
                (int(row), int(column)): order[(true[order] == row) & (predicted[order] == column)]
                for row, column in np.argwhere(counts)
            }
            examples = _show(images, cells, n_examples, bands, n, spread_out=confidence is None)
        display = cls(
            counts, classes.tolist(), examples=examples, n_unlabelled=int(n - known.sum())
        )
        return display.plot(**plot_params)

    @classmethod
    def from_estimator(
        cls, classifier: Any, X: Any, y: ArrayLike, *, images: Any = None, **params: Any
    ) -> Self:
        """Predict, count, and draw.

        Parameters
        ----------
        classifier : fitted classifier
            With ``predict_proba`` the surest predictions are shown.
        X : array-like of n rows
            Objects that it has not seen.
        y : array-like of shape (n,)
        images : array-like of shape (n, bands, height, width), default=None
            Stamps to show, which may be ``X`` itself.
        **params
            Passed to `from_predictions`.

        Returns
        -------
        display : ConfusionDisplay
        """
        if hasattr(classifier, "predict_proba"):
            params.setdefault("confidence", np.max(classifier.predict_proba(X), axis=1))
        return cls.from_predictions(y, classifier.predict(X), images=images, **params)

    def plot(self, ax: Any = None) -> Self:
        """Draw into axes.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            None makes a figure whose size is that of the matrix.

        Returns
        -------
        display : ConfusionDisplay

        Raises
        ------
        ImportError
            matplotlib is not installed.
        """
        k = len(self.classes)
        side = k * (1.45 if self.examples else 0.85)
        ax = make_axes(ax, "ConfusionDisplay", (side + 1.6, side + 0.9))
        self.ax_, self.figure_ = ax, ax.figure
        totals = self.counts.sum(axis=1, keepdims=True)
        shares = self.counts / np.maximum(totals, 1)
        anchor_axes(ax)
        self.image_ = ax.imshow(shares, cmap="Blues", vmin=0, vmax=1.15)
        for row, column in np.ndindex(k, k):
            share, count = shares[row, column], self.counts[row, column]
            _write_cell(ax, row, column, share, int(count), low=not self.examples)
        self.stamps_ = [
            ax.imshow(picture, extent=extent, zorder=2)
            for cell, pictures in (self.examples or {}).items()
            for picture, extent in zip(pictures, _places(*cell, pictures), strict=True)
        ]
        _dress_matrix(
            ax,
            [f"{label}\n({n:,})" for label, n in zip(self.classes, totals[:, 0], strict=True)],
            self.classes,
        )
        return self


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
        pictures = _show(
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


def _show(
    images: Any,
    groups: Mapping[Any, NDArray[np.intp]],
    number: int,
    bands: Sequence[int | str] | None,
    n: int,
    *,
    spread_out: bool,
) -> dict[Any, list[NDArray[np.uint8]]]:
    """Compose pictures of the first rows of each group, or of some at even distances."""
    stack = check_stack(images, n)
    chosen = {
        key: spread(rows, number) if spread_out else rows[:number] for key, rows in groups.items()
    }
    pictures = compose_stamps(stack, np.concatenate([*chosen.values(), []]).astype(np.intp), bands)
    return {key: [pictures[row] for row in rows.tolist()] for key, rows in chosen.items()}


def _write_cell(ax: Any, row: int, column: int, share: float, count: int, *, low: bool) -> None:
    colour = "white" if share > _PALE else INK
    middle = row - 0.5 + (0.5 if low else 0.32)
    ax.text(
        column, middle - 0.02, f"{100 * share:.0f} %", ha="center", va="bottom", color=colour,
        fontsize=12, fontweight="bold" if row == column else "normal",
    )  # fmt: skip
    ax.text(column, middle + 0.02, f"{count:,}", ha="center", va="top", color=colour, fontsize=9)


def _places(
    row: int, column: int, pictures: Sequence[NDArray[Any]]
) -> list[tuple[float, float, float, float]]:
    """Return extents of stamps side by side in the lower part of a cell."""
    number = len(pictures)
    aspect = pictures[0].shape[0] / pictures[0].shape[1]
    width = min(0.92 / max(number, 3) - 0.02, (1 - _TEXT_SHARE - 0.06) / aspect)
    start = column - (number * (width + 0.02) - 0.02) / 2
    bottom = row + 0.46
    lefts = [start + i * (width + 0.02) for i in range(number)]
    return [(left, left + width, bottom, bottom - width * aspect) for left in lefts]


def _dress_matrix(ax: Any, rows: list[str], columns: Sequence[Any]) -> None:
    k = len(columns)
    ax.set_xticks(range(k), [str(label) for label in columns])
    ax.set_yticks(range(k), rows)
    ax.set_xlabel("predicted class")
    ax.set_ylabel("true class (objects)")
    ax.tick_params(length=0)
    ax.set(xlim=(-0.5, k - 0.5), ylim=(k - 0.5, -0.5))
    for place in np.arange(1, k) - 0.5:
        ax.axhline(place, color="white", linewidth=2)
        ax.axvline(place, color="white", linewidth=2)
    for spine in ax.spines.values():
        spine.set_visible(False)


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
