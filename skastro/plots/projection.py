"""Drawings of projected representations: by class, property, cluster or error."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from skastro.embeddings.projection import project_embedding
from skastro.plots.style import (
    INK,
    MARKERS,
    MUTED,
    OKABE_ITO,
    UNKNOWN,
    check_stack,
    compose_stamps,
    make_axes,
    property_map,
    with_unit,
)
from skastro.utils.packages import import_optional
from skastro.utils.validation import check_labels, is_continuous

_KINDS = ("class", "property", "cluster", "error")
_NAMES = {"tsne": "t-SNE", "umap": "UMAP", "pca": "PCA"}
_RIGHT = "#a9c9dd"
_LONGEST_LEGEND = 18
_PANEL = 3.4  # inches
_MOST_GROUPS = len(OKABE_ITO) * len(MARKERS)  # that colour and marker tell apart
_APART = 1.25  # least distance of thumbnails, in their sides
_VECTORS = 5000  # points that a PDF keeps as such
_CANDIDATES = 20_000  # objects among which room for thumbnails is looked for
_LEGEND = {
    "frameon": False, "fontsize": 9, "title_fontsize": 9, "labelcolor": INK, "alignment": "left",
    "handletextpad": 0.3, "borderaxespad": 0.2,
}  # fmt: skip


class ProjectionDisplay:
    """Objects in the plane of a projection, coloured by what is known of them.

    Made by `from_projection`, `from_embedding`, `from_estimator` or `from_embeddings`, which
    draw it too.

    Parameters
    ----------
    coordinates : float array of shape (n, 2)
    color : array of shape (n,), default=None
        As in `from_projection`.
    kind : {"auto", "class", "property", "cluster", "error"}, default="auto"
    name : str, default=None
        Of what the colour is, for the legend.
    unit : str, default=None
        Of a property.
    method : str, default=None
        Of the projection, for the axes.
    trustworthiness : float, default=None
        Share of neighbourhoods kept by the projection, written into a corner.

    Attributes
    ----------
    ax_ : matplotlib Axes
    figure_ : matplotlib Figure
    points_ : PathCollection
        All objects, those that nothing is known of first.
    entries_ : list of tuple (name, colour, marker)
        What the colours mean, with numbers of objects; empty for a property known everywhere.
    thumbnails_ : list of AnnotationBbox
    legend_ : Legend, Colorbar or None

    Examples
    --------
    >>> coordinates = np.random.default_rng(0).normal(size=(6, 2))
    >>> display = ProjectionDisplay.from_projection(
    ...     coordinates, color=["star", "star", "galaxy", "", "star", "galaxy"], method="tsne"
    ... )
    >>> [text.get_text() for text in display.legend_.get_texts()]
    ['galaxy (2)', 'star (3)', 'unlabelled (1)']
    >>> display.ax_.get_xlabel()
    't-SNE 1'
    """

    def __init__(
        self,
        coordinates: NDArray[np.floating],
        *,
        color: ArrayLike | None = None,
        kind: str = "auto",
        name: str | None = None,
        unit: str | None = None,
        method: str | None = None,
        trustworthiness: float | None = None,
    ) -> None:
        self.coordinates = coordinates
        self.color = color
        self.kind = kind
        self.name = name
        self.unit = unit
        self.method = method
        self.trustworthiness = trustworthiness

    @classmethod
    def from_projection(
        cls,
        projection: Any,
        *,
        color: ArrayLike | None = None,
        kind: str = "auto",
        name: str | None = None,
        unit: str | None = None,
        method: str | None = None,
        **plot_params: Any,
    ) -> Self:
        """Draw a projection.

        Parameters
        ----------
        projection : Projection or array-like of shape (n, 2)
            As of `project_embedding`, or coordinates alone.
        color : array-like of shape (n,), default=None
            Classes, unlabelled rows marked as in `SelfSupervisedClassifier.fit`; or a
            property, NaN where not measured; or clusters, -1 for noise; or whether a
            prediction is wrong.
        kind : {"auto", "class", "property", "cluster", "error"}, default="auto"
            What ``color`` is: by default "error" for bool, "property" for floats that are no
            whole numbers and for numbers of more than 56 values, and else "class".
        name : str, default=None
            Of ``color``, for the legend.
        unit : str, default=None
            Of a property.
        method : str, default=None
            Of the projection, such as "tsne", for the axes; None takes the projection's own.
        **plot_params
            Passed to `plot`.

        Returns
        -------
        display : ProjectionDisplay

        Raises
        ------
        ValueError
            Shapes do not fit, a coordinate is not finite, or ``kind`` is unknown.
        """
        coordinates = np.asarray(getattr(projection, "coordinates", projection), dtype=np.float64)
        if coordinates.ndim != 2 or coordinates.shape[1] != 2 or not len(coordinates):
            raise ValueError(f"projection has shape {coordinates.shape}: pass (n, 2) coordinates.")
        if not np.isfinite(coordinates).all():
            row = int((~np.isfinite(coordinates)).any(axis=1).argmax())
            raise ValueError(f"projection is not finite in row {row}: leave such rows out.")
        if color is not None:
            color = np.asarray(color)
            if color.shape != (len(coordinates),):
                raise ValueError(
                    f"color has shape {color.shape}, but there are {len(coordinates)} objects: "
                    "pass one value for each."
                )
        display = cls(
            coordinates,
            color=color,
            kind=_find_kind(color, kind),
            name=name,
            unit=unit,
            method=getattr(projection, "method", None) if method is None else method,
            trustworthiness=getattr(projection, "trustworthiness", None),
        )
        return display.plot(**plot_params)

    @classmethod
    def from_embedding(
        cls,
        E: ArrayLike,
        *,
        method: str = "tsne",
        random_state: int | np.random.RandomState | None = None,
        **params: Any,
    ) -> Self:
        """Project with `project_embedding`, and draw.

        Parameters
        ----------
        E : array-like of shape (n, d)
        method : str, default="tsne"
        random_state : int, RandomState or None, default=None
            As in `project_embedding`, like all above.
        **params
            Passed to `from_projection`.

        Returns
        -------
        display : ProjectionDisplay
        """
        projection = project_embedding(E, method=method, random_state=random_state)
        return cls.from_projection(projection, **params)

    @classmethod
    def from_estimator(cls, encoder: Any, X: Any, **params: Any) -> Self:
        """Embed, project, and draw.

        Parameters
        ----------
        encoder : fitted transformer
        X : array-like of n rows
            What it transforms, such as stamps of shape (n, bands, height, width).
        **params
            Passed to `from_embedding`.

        Returns
        -------
        display : ProjectionDisplay
        """
        return cls.from_embedding(np.asarray(encoder.transform(X)), **params)

    @classmethod
    def from_embeddings(
        cls,
        embeddings: Mapping[str, Any],
        y: ArrayLike,
        *,
        method: str = "tsne",
        random_state: int | np.random.RandomState | None = None,
        n_columns: int = 2,
        figure: Any = None,
        **params: Any,
    ) -> dict[str, Self]:
        """Draw several representations of the same objects side by side, with one legend.

        Parameters
        ----------
        embeddings : dict of str to array-like of shape (n, d), or to Projection
            Representations, projected where they are not yet.
        y : array-like of shape (n,)
            As ``color`` in `from_projection`.
        method : str, default="tsne"
        random_state : int, RandomState or None, default=None
            As in `project_embedding`, like ``method``.
        n_columns : int, default=2
            Panels in a row.
        figure : matplotlib Figure or SubFigure, default=None
            Empty, and best with ``layout="constrained"``; None makes one.
        **params
            Passed to `from_projection`.

        Returns
        -------
        displays : dict of str to ProjectionDisplay
            All in one figure.

        Raises
        ------
        ValueError
            There is no representation, or anything that `from_projection` refuses.

        Examples
        --------
        >>> from types import SimpleNamespace
        >>> rng = np.random.default_rng(0)
        >>> flat = {each: SimpleNamespace(coordinates=rng.normal(size=(4, 2))) for each in "ab"}
        >>> displays = ProjectionDisplay.from_embeddings(flat, ["star", "galaxy"] * 2)
        >>> [display.ax_.get_title(loc="left") for display in displays.values()]
        ['a', 'b']
        """
        if not embeddings:
            raise ValueError("embeddings is empty: pass at least one representation.")
        axes = _make_panels(len(embeddings), n_columns, figure)
        displays = {}
        for (name, E), ax in zip(embeddings.items(), axes, strict=True):
            common = {"color": y, "ax": ax, "legend": False, **params}
            if hasattr(E, "coordinates"):
                displays[name] = cls.from_projection(E, **common)
            else:
                displays[name] = cls.from_embedding(
                    E, method=method, random_state=random_state, **common
                )
            ax.set_title(name, loc="left", fontsize=10.5)
        legend = _draw_legend(next(iter(displays.values())), list(axes))
        for display in displays.values():
            display.legend_ = legend
        return displays

    def plot(
        self,
        ax: Any = None,
        *,
        images: Any = None,
        bands: Sequence[int | str] | None = None,
        thumbnail_size: float = 0.06,
        legend: bool = True,
    ) -> Self:
        """Draw into axes.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            None makes a figure of 7.2 by 5.4 inches.
        images : array-like of shape (n, bands, height, width), default=None
            Stamps, some of which are drawn at their places, where they do not overlap.
        bands : sequence of three int or str, default=None
            The bands shown as red, green and blue; None takes 3, 2, 1 of five bands and more.
        thumbnail_size : float, default=0.06
            Height of a thumbnail, in heights of the axes.
        legend : bool, default=True
            Explain the colours, right of the axes.

        Returns
        -------
        display : ProjectionDisplay

        Raises
        ------
        ImportError
            matplotlib is not installed.
        ValueError
            ``images`` is of another length, or ``thumbnail_size`` not in (0, 1].
        """
        if not 0 < thumbnail_size <= 1:
            raise ValueError(f"thumbnail_size={thumbnail_size} must be in (0, 1].")
        ax = make_axes(ax, "ProjectionDisplay", (7.2, 5.4))
        self.ax_, self.figure_ = ax, ax.figure
        self.thumbnails_: list[Any] = []
        self.entries_ = self._draw_points(ax)
        _dress_plane(ax, self.method, self._notes())
        self.legend_ = _draw_legend(self) if legend else None
        if images is not None:
            self._draw_thumbnails(images, bands, thumbnail_size)
        return self

    def _draw_points(self, ax: Any) -> list[tuple[str, str, str]]:
        """Draw all objects as one collection; return name, colour and marker for a legend."""
        n = len(self.coordinates)
        groups, codes = self._groups()
        order = np.random.default_rng(0).permutation(n)  # no class shall cover the others
        order = order[np.argsort(codes[order] >= 0, kind="stable")]
        inches = ax.get_window_extent().size / ax.figure.dpi
        style: dict[str, Any] = {
            "s": float(np.clip(900 * inches.prod() / n, 3.5, 30)),
            "linewidths": 0,
            "rasterized": n > _VECTORS,
        }
        if self.kind == "property":
            values = np.asarray(self.color, dtype=np.float64)
            style |= {"c": values[order], "cmap": property_map("ProjectionDisplay")}
            style |= {"plotnonfinite": True, **_range(values)}
        else:
            colours = np.array([UNKNOWN, *(colour for _, colour, _ in groups)])
            style["c"] = colours[codes[order] + 1].tolist()
        self.points_ = ax.scatter(*self.coordinates[order].T, **style)
        if self.kind != "property":
            markers = np.array(["o", *(marker for _, _, marker in groups)])
            _set_markers(self.points_, markers[codes[order] + 1])
        self._colours = np.empty((n, 4))
        self.points_.update_scalarmappable()
        self._colours[order] = np.broadcast_to(self.points_.get_facecolors(), (n, 4))
        return groups + self._unknown(codes)

    def _groups(self) -> tuple[list[tuple[str, str, str]], NDArray[np.int64]]:
        """Return name, colour and marker of each group, and each object's group or -1."""
        if self.color is None:
            return [("", OKABE_ITO[0], "o")], np.zeros(len(self.coordinates), dtype=np.int64)
        if self.kind == "property":
            return [], np.where(np.isfinite(np.asarray(self.color, dtype=np.float64)), 0, -1)
        if self.kind == "error":
            names, codes = ["right", "wrong"], np.asarray(self.color).astype(bool).astype(np.int64)
            styles = [(_RIGHT, "o"), (OKABE_ITO[1], "X")]
        else:
            classes, codes = check_labels(self.color)
            names = [f"cluster {c}" if self.kind == "cluster" else str(c) for c in classes.tolist()]
            if len(names) > _MOST_GROUPS:
                raise ValueError(
                    f"color has {len(names)} classes, of which {_MOST_GROUPS} can be told apart: "
                    "join the rare ones."
                )
            pairs = zip(itertools.cycle(OKABE_ITO), itertools.cycle(MARKERS), strict=True)
            styles = list(itertools.islice(pairs, len(names)))
        counts = np.bincount(codes[codes >= 0], minlength=len(names))
        groups = [
            (f"{name} ({count:,})", *style)
            for name, count, style in zip(names, counts, styles, strict=False)
        ]
        return groups, codes

    def _notes(self) -> list[str]:
        notes = []
        if self.trustworthiness is not None:
            notes.append(f"trustworthiness {self.trustworthiness:.3f}")
        if self.kind == "property" and self.entries_:
            notes.append(f"grey: {self.entries_[0][0]}")
        return notes

    def _unknown(self, codes: NDArray[np.int64]) -> list[tuple[str, str, str]]:
        if not (number := int((codes < 0).sum())):
            return []
        name = {"cluster": "in no cluster", "property": "not measured"}.get(self.kind, "unlabelled")
        return [(f"{name} ({number:,})", UNKNOWN, "o")]

    def _draw_thumbnails(self, images: Any, bands: Sequence[int | str] | None, size: float) -> None:
        offsetbox = import_optional(
            "matplotlib.offsetbox", extra="report", needed_by="ProjectionDisplay"
        )
        stack = check_stack(images, len(self.coordinates))
        ax = self.ax_
        # a layout moves the axes at the first drawing
        ax.figure.canvas.figure.draw_without_rendering()
        window = ax.get_window_extent()
        height = size * window.height
        sides = np.array([height * stack.shape[3] / stack.shape[2], height])
        rows = _choose_apart(ax.transData.transform(self.coordinates), sides, window)
        zoom = height / ax.figure.dpi * 72 / stack.shape[2]
        for row, picture in compose_stamps(stack, rows, bands).items():
            box = offsetbox.AnnotationBbox(
                offsetbox.OffsetImage(picture, zoom=zoom), self.coordinates[row], pad=0,
                bboxprops={"edgecolor": self._colours[row], "linewidth": 2}, zorder=5,
            )  # fmt: skip
            box.set_in_layout(False)
            self.thumbnails_.append(ax.add_artist(box))


def _draw_legend(display: ProjectionDisplay, axes: list[Any] | None = None) -> Any:
    """Explain the colours beside the axes, or below several."""
    figure = display.ax_.figure
    if display.color is None:
        return None
    if display.kind == "property":
        places = display.ax_ if axes is None else axes
        bar = figure.colorbar(display.points_, ax=places, shrink=0.7, aspect=28, pad=0.02)
        bar.set_label(with_unit(display.name or "", display.unit))
        bar.outline.set_visible(False)
        return bar
    handles = [
        display.ax_.plot([], [], marker, color=colour, markersize=6, label=label)[0]
        for label, colour, marker in display.entries_
    ]
    if axes is None:
        columns = math.ceil(len(handles) / _LONGEST_LEGEND)
        place = {"loc": "upper left", "bbox_to_anchor": (1.01, 1.0), "ncols": columns}
        return display.ax_.legend(handles=handles, title=display.name, **place, **_LEGEND)
    place = {"loc": "outside lower center", "ncols": min(len(handles), 4)}
    return figure.legend(handles=handles, title=display.name, **place, **_LEGEND)


def _find_kind(color: NDArray[Any] | None, kind: str) -> str:
    if kind not in ("auto", *_KINDS):
        raise ValueError(f"kind={kind!r} is unknown: choose 'auto' or one of {_KINDS}.")
    if kind != "auto" or color is None:
        return kind
    if color.dtype.kind == "b":
        return "error"
    if color.dtype.kind in "iuf" and len(np.unique(color)) > _MOST_GROUPS:
        return "property"
    return "property" if is_continuous(color) else "class"


def _range(values: NDArray[Any]) -> dict[str, float]:
    """Return the range of the colours, which a few outliers do not stretch."""
    known = values[np.isfinite(values)]
    low, high = np.quantile(known, [0.01, 0.99]) if len(known) else (0.0, 1.0)
    return {"vmin": low, "vmax": high if high > low else low + 1.0}


def _set_markers(points: Any, markers: NDArray[Any]) -> None:
    """Give each point of a collection its marker."""
    styles = import_optional("matplotlib.markers", extra="report", needed_by="ProjectionDisplay")
    paths = {}
    for marker in np.unique(markers).tolist():
        style = styles.MarkerStyle(marker)
        paths[marker] = style.get_path().transformed(style.get_transform())
    points.set_paths([paths[marker] for marker in markers.tolist()])


def _dress_plane(ax: Any, method: str | None, notes: list[str]) -> None:
    """Name the axes, without numbers: only who lies beside whom has a meaning."""
    name = "projection" if method is None else _NAMES.get(method, method)
    ax.set(xlabel=f"{name} 1", ylabel=f"{name} 2", xticks=[], yticks=[])
    ax.set_aspect("equal", adjustable="datalim")
    ax.margins(0.04)
    for spine in ax.spines.values():
        spine.set_color("#bbbbbb")
    if notes:  # below the frame, within which they would cover objects
        ax.text(
            1, -0.015, "\n".join(notes), transform=ax.transAxes, ha="right", va="top",
            fontsize=8, color=MUTED,
        )  # fmt: skip


def _make_panels(number: int, n_columns: int, figure: Any) -> NDArray[Any]:
    columns = min(n_columns, number)
    rows = math.ceil(number / columns)
    if figure is None:
        pyplot = import_optional("matplotlib.pyplot", extra="report", needed_by="ProjectionDisplay")
        size = (_PANEL * columns, _PANEL * rows + 0.6)
        figure = pyplot.figure(figsize=size, layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False).ravel()
    for ax in axes[number:]:
        ax.remove()
    return axes[:number]


def _choose_apart(pixels: NDArray[Any], sides: NDArray[Any], window: Any) -> NDArray[np.intp]:
    """Choose rows at random whose pictures do not touch, and lie inside a window."""
    inside = (pixels > window.min + sides / 2) & (pixels < window.max - sides / 2)
    order = np.random.default_rng(0).permutation(np.flatnonzero(inside.all(axis=1)))
    chosen: list[int] = []
    for row in order[:_CANDIDATES].tolist():
        distance = np.abs(pixels[chosen] - pixels[row]) / sides
        if not (distance < _APART).all(axis=1).any():
            chosen.append(row)
    return np.array(chosen, dtype=np.intp)
