"""Draw projected representations: coloured by class, property, cluster or error."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import KW_ONLY, dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from skastro.embeddings.projection import METHOD_NAMES, project_embedding
from skastro.plots import style
from skastro.utils.masks import fill_masked
from skastro.utils.validation import as_column, check_labels, is_continuous

_KINDS = ("class", "property", "cluster", "error")
_RIGHT_COLOUR = "#a9c9dd"
_MAX_LEGEND_ROWS = 18
_PANEL_SIDE = 3.4  # inches
_MAX_GROUPS = len(style.OKABE_ITO) * len(style.MARKERS)  # pairs of colour and marker
_MIN_DISTANCE = 1.25  # between the centres of two thumbnails, in sides of a thumbnail
_MAX_VECTOR_POINTS = 5000  # more points are stored in a PDF as one image
_MAX_CANDIDATES = 20_000  # objects whose positions are tried for thumbnails
_LEGEND = {
    "frameon": False, "fontsize": 9, "title_fontsize": 9, "labelcolor": style.INK,
    "alignment": "left", "handletextpad": 0.3, "borderaxespad": 0.2,
}  # fmt: skip
_INNER_LEGEND_SIZES = (9, 7.5, 6, 5)  # points, of its text: the largest that leaves room
_MARGIN = 0.04  # around the objects, as a share of their extent
_MAX_INNER_LEGEND = 0.35  # share of the height of the axes
_Entry = tuple[str, str, str]  # of a legend: name, colour and marker


@dataclass(eq=False, repr=False)
class ProjectionDisplay:
    """Objects in the plane of a projection, coloured by class, property, cluster or error.

    `from_result`, `from_embedding`, `from_estimator` or `from_embeddings` make and draw it.

    Parameters
    ----------
    coordinates : float array of shape (n, 2)
        Positions of the objects, without NaN.
    color : array of shape (n,), default=None
        Classes, values, clusters or errors, as in `from_result`.
    kind : {"auto", "class", "property", "cluster", "error"}, default="auto"
        Meaning of ``color``.
    name, unit : str, default=None
        Name of ``color`` and unit of a property, for the legend.
    method : str, default=None
        Method of the projection, for the axes.
    trustworthiness : float, default=None
        Trustworthiness of the projection, written below the axes.

    Attributes
    ----------
    ax_, figure_ : matplotlib Axes and Figure
    points_ : PathCollection
        All objects; those whose ``color`` is missing are drawn first.
    entries_ : list of tuple (name, colour, marker)
        Legend entries, with numbers of objects; empty for a property without missing values.
    thumbnails_ : list of AnnotationBbox
    legend_ : Legend, Colorbar or None

    Examples
    --------
    >>> coordinates = np.random.default_rng(0).normal(size=(6, 2))
    >>> display = ProjectionDisplay.from_result(
    ...     coordinates, color=["star", "star", "galaxy", "", "star", "galaxy"], method="tsne"
    ... )
    >>> [text.get_text() for text in display.legend_.get_texts()]
    ['galaxy (2)', 'star (3)', 'unlabelled (1)']
    >>> display.ax_.get_xlabel()
    't-SNE 1'
    """

    coordinates: NDArray[np.floating]
    _: KW_ONLY
    color: ArrayLike | None = None
    kind: str = "auto"
    name: str | None = None
    unit: str | None = None
    method: str | None = None
    trustworthiness: float | None = None

    @classmethod
    def from_result(
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
            Result of `project_embedding`, or coordinates alone.
        color : array-like of shape (n,), default=None
            Classes (unlabelled rows marked as in `SelfSupervisedClassifier.fit`), values of a
            property (NaN where not measured), clusters (-1 is noise), or errors (True where a
            prediction is wrong).
        kind : {"auto", "class", "property", "cluster", "error"}, default="auto"
            Meaning of ``color``. "auto" is "error" for booleans, "property" for numbers with
            fractions or more than 56 values, and "class" for everything else.
        name, unit : str, default=None
            Name of ``color`` and unit of a property, for the legend.
        method : str, default=None
            Method of the projection for the axes, such as "tsne"; by default that of
            ``projection``.
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
        coordinates = style.check_coordinates(
            getattr(projection, "coordinates", projection), np.float64, name="projection"
        )
        if color is not None:
            color = as_column(color, name="color")
            style.check_values(len(coordinates), color=color)
        display = cls(
            coordinates, color=color, kind=_find_kind(color, kind), name=name, unit=unit,
            method=getattr(projection, "method", None) if method is None else method,
            trustworthiness=getattr(projection, "trustworthiness", None),
        )  # fmt: skip
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
            Embedding.
        method : str, default="tsne"
            Method of `project_embedding`.
        random_state : int, RandomState or None, default=None
            Seed of `project_embedding`.
        **params
            Passed to `from_result`.

        Returns
        -------
        display : ProjectionDisplay
        """
        projection = project_embedding(E, method=method, random_state=random_state)
        return cls.from_result(projection, **params)

    @classmethod
    def from_estimator(cls, encoder: Any, X: Any, **params: Any) -> Self:
        """Embed, project, and draw.

        Parameters
        ----------
        encoder : fitted transformer
        X : array-like of n rows
            Input of the transformer, such as stamps of shape (n, bands, height, width).
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
            Representations by name. Embeddings are projected first.
        y : array-like of shape (n,)
            Classes or other values that colour the objects: ``color`` of `from_result`.
        method : str, default="tsne"
            Method of `project_embedding`.
        random_state : int, RandomState or None, default=None
            Seed of `project_embedding`.
        n_columns : int, default=2
            Number of panels in a row.
        figure : matplotlib Figure or SubFigure, default=None
            Empty figure to draw into, preferably with ``layout="constrained"``; by default a
            new one.
        **params
            Passed to `from_result`.

        Returns
        -------
        displays : dict of str to ProjectionDisplay
            Displays by name, all in one figure.

        Raises
        ------
        ValueError
            There is no representation, or `from_result` refuses one.

        Examples
        --------
        >>> from types import SimpleNamespace
        >>> rng = np.random.default_rng(0)
        >>> planes = {name: SimpleNamespace(coordinates=rng.normal(size=(4, 2))) for name in "ab"}
        >>> displays = ProjectionDisplay.from_embeddings(planes, ["star", "galaxy"] * 2)
        >>> [display.ax_.get_title(loc="left") for display in displays.values()]
        ['a', 'b']
        """
        if not embeddings:
            raise ValueError("embeddings is empty: pass at least one representation.")
        n_columns = min(n_columns, len(embeddings))
        n_rows = math.ceil(len(embeddings) / n_columns)
        if figure is None:
            size = (_PANEL_SIDE * n_columns, _PANEL_SIDE * n_rows + 0.6)
            figure = style.import_matplotlib("pyplot").figure(figsize=size, layout="constrained")
        axes = figure.subplots(n_rows, n_columns, squeeze=False).ravel()
        options: dict[str, Any] = {"method": method, "random_state": random_state}
        displays = {}
        for (name, E), ax in zip(embeddings.items(), axes, strict=False):
            common = {"color": y, "ax": ax, "legend": False, **params}
            projection = E if hasattr(E, "coordinates") else project_embedding(E, **options)
            displays[name] = cls.from_result(projection, **common)
            ax.set_title(name, loc="left", fontsize=10.5)
        for ax in axes[len(displays) :]:
            ax.remove()
        legend = _draw_legend(next(iter(displays.values())), list(axes[: len(displays)]))
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
            Axes to draw into, with the legend inside. By default, a new figure of 7.2 by 5.4
            inches is made, with the legend to the right of the axes.
        images : array-like of shape (n, bands, height, width), default=None
            Stamps of the objects. As many as do not overlap are drawn at their positions.
        bands : sequence of three int or str, default=None
            Bands shown as red, green and blue, by default those of `write_thumbnails`.
        thumbnail_size : float, default=0.06
            Height of a drawn stamp, as a share of the height of the axes.
        legend : bool, default=True
            Whether to draw a legend.

        Returns
        -------
        display : ProjectionDisplay

        Raises
        ------
        ImportError
            matplotlib is not installed.
        ValueError
            ``images`` has another length, or ``thumbnail_size`` is not in (0, 1].
        """
        if not 0 < thumbnail_size <= 1:
            raise ValueError(f"thumbnail_size={thumbnail_size} must be in (0, 1].")
        is_given = ax is not None
        self.ax_ = ax = style.make_axes(ax, (7.2, 5.4))
        self.figure_ = ax.figure
        self.thumbnails_: list[Any] = []
        self.entries_ = self._draw_points(ax)
        # axes without numbers, because only neighbourhoods have a meaning
        method = METHOD_NAMES.get(self.method or "", self.method or "projection")
        ax.set(xlabel=f"{method} 1", ylabel=f"{method} 2", xticks=[], yticks=[])
        ax.set_aspect("equal", adjustable="datalim")
        ax.margins(_MARGIN)
        ax.spines[:].set_color("#bbbbbb")
        # notes below the frame, where they cover no objects
        notes = []
        if self.trustworthiness is not None:
            notes.append(f"trustworthiness {self.trustworthiness:.3f}")
        if self.kind == "property" and self.entries_:
            notes.append(f"grey: {self.entries_[0][0]}")
        place: dict[str, Any] = {"transform": ax.transAxes, "ha": "right", "va": "top"}
        ax.text(1, -0.015, "\n".join(notes), fontsize=8, color=style.MUTED, **place)
        draw_legend = _draw_inner_legend if is_given else _draw_legend
        self.legend_ = draw_legend(self) if legend and self.color is not None else None
        if images is not None:
            self._draw_thumbnails(images, bands, thumbnail_size)
        return self

    def _draw_points(self, ax: Any) -> list[_Entry]:
        """Draw all objects as one collection; return the entries of the legend."""
        n = len(self.coordinates)
        entries, codes = self._find_groups()
        # unknown objects first, then the others in random order: no class covers another
        order = np.random.default_rng(0).permutation(n)
        order = order[np.argsort(codes[order] >= 0, kind="stable")]
        inches = ax.get_window_extent().size / ax.figure.dpi
        size = float(np.clip(900 * inches.prod() / n, 3.5, 30))
        look: dict[str, Any] = {"s": size, "linewidths": 0, "rasterized": n > _MAX_VECTOR_POINTS}
        if self.kind == "property":
            values = fill_masked(as_column(self.color)).astype(np.float64)
            look |= {"c": values[order], "plotnonfinite": True, **_colour_scale(values)}
        else:  # code -1 selects the last entry, that of objects of unknown colour
            look["c"] = [entries[code][1] for code in codes[order].tolist()]
        self.points_ = ax.scatter(*self.coordinates[order].T, **look)
        if self.kind != "property":
            make_marker = style.import_matplotlib("markers").MarkerStyle
            markers = [make_marker(marker) for _, _, marker in entries]
            paths = [m.get_path().transformed(m.get_transform()) for m in markers]
            self.points_.set_paths([paths[code] for code in codes[order].tolist()])
        # colours by row, for the frames of thumbnails
        self.points_.update_scalarmappable()
        self._colours = np.empty((n, 4))
        self._colours[order] = np.broadcast_to(self.points_.get_facecolors(), (n, 4))
        return entries

    def _find_groups(self) -> tuple[list[_Entry], NDArray[np.int64]]:
        """Return the legend entries, unknown objects last, and the entry of each object or -1."""
        if self.color is None:
            return [("", style.OKABE_ITO[0], "o")], np.zeros(len(self.coordinates), dtype=np.int64)
        names, looks, unknown, values = [], [], "unlabelled", as_column(self.color)
        if self.kind == "property":
            unknown = "not measured"
            codes = np.where(np.isfinite(fill_masked(values).astype(np.float64)), 0, -1)
        elif self.kind == "error":
            names, codes = ["right", "wrong"], np.where(values.mask, -1, values.astype(bool))
            looks = [(_RIGHT_COLOUR, "o"), (style.OKABE_ITO[1], "X")]
        else:
            classes, codes = check_labels(self.color, name="color")
            names = [str(label) for label in classes.tolist()]
            if self.kind == "cluster":
                names, unknown = [f"cluster {name}" for name in names], "in no cluster"
            if len(names) > _MAX_GROUPS:
                raise ValueError(
                    f"color has {len(names)} classes, of {_MAX_GROUPS} at most: join the rare ones."
                )
            styles = itertools.islice(style.line_styles(), len(names))
            looks = [(look["color"], look["marker"]) for look in styles]
        # the legend, with numbers of objects
        counts = np.bincount(codes[codes >= 0], minlength=len(names))
        entries = [
            (f"{name} ({count:,})", *look)
            for name, count, look in zip(names, counts, looks, strict=False)
        ]
        if n_unknown := int((codes < 0).sum()):
            entries.append((f"{unknown} ({n_unknown:,})", style.UNKNOWN_COLOUR, "o"))
        return entries, codes

    def _draw_thumbnails(self, images: Any, bands: Sequence[int | str] | None, size: float) -> None:
        stack = style.check_stack(images, len(self.coordinates))
        ax, offsetbox = self.ax_, style.import_matplotlib("offsetbox")
        # a constrained layout moves the axes at the first drawing
        ax.figure.canvas.figure.draw_without_rendering()
        window = ax.get_window_extent()
        height = size * window.height
        sides = np.array([height * stack.shape[3] / stack.shape[2], height])
        rows = _choose_apart(ax.transData.transform(self.coordinates), sides, window)
        zoom = height / ax.figure.dpi * 72 / stack.shape[2]
        for row, picture in style.compose_stamps(stack, rows, bands).items():
            box = offsetbox.AnnotationBbox(
                offsetbox.OffsetImage(picture, zoom=zoom), self.coordinates[row], pad=0,
                bboxprops={"edgecolor": self._colours[row], "linewidth": 2}, zorder=5,
            )  # fmt: skip
            box.set_in_layout(False)
            self.thumbnails_.append(ax.add_artist(box))


def _draw_legend(display: ProjectionDisplay, axes: list[Any] | None = None) -> Any:
    """Draw a legend or colour bar to the right of the axes, or one for several axes."""
    if display.kind == "property":
        places = display.ax_ if axes is None else axes
        bar = display.figure_.colorbar(
            display.points_, ax=places, shrink=0.7, aspect=28, pad=0.02,
            label=style.with_unit(display.name or "", display.unit),
        )  # fmt: skip
        bar.outline.set_visible(False)
        return bar
    handles = _legend_handles(display)
    if axes is None:
        columns = math.ceil(len(handles) / _MAX_LEGEND_ROWS)
        place = {"loc": "upper left", "bbox_to_anchor": (1.01, 1.0), "ncols": columns}
        return display.ax_.legend(handles=handles, title=display.name, **place, **_LEGEND)
    place = {"loc": "outside lower center", "ncols": min(len(handles), 4)}
    return display.figure_.legend(handles=handles, title=display.name, **place, **_LEGEND)


def _draw_inner_legend(display: ProjectionDisplay) -> Any:
    """Draw a legend or colour bar in the upper part of the axes, and move the objects below it."""
    ax = display.ax_
    ax.figure.canvas.figure.draw_without_rendering()  # a constrained layout moves the axes
    window = ax.get_window_extent()
    if display.kind == "property":
        inset = ax.inset_axes((0.03, 0.94, 0.45, 0.03))
        label = style.with_unit(display.name or "", display.unit)
        legend = ax.figure.colorbar(display.points_, cax=inset, orientation="horizontal")
        legend.set_label(label, fontsize=8, labelpad=1)
        legend.outline.set_visible(False)
        inset.tick_params(labelsize=7, length=2)
        bottom = inset.get_tightbbox().y0
    else:
        handles = _legend_handles(display)
        look: dict[str, Any] = {"handles": handles, "title": display.name, "loc": "upper left"}
        for size in _INNER_LEGEND_SIZES:
            look |= _LEGEND | {"fontsize": size, "title_fontsize": size, "markerscale": size / 9}
            column = ax.legend(**look).get_window_extent()
            n_columns = max(1, int(0.95 * window.width / column.width))
            legend = ax.legend(ncols=n_columns, **look)
            bottom = legend.get_window_extent().y0
            if window.y1 - bottom <= _MAX_INNER_LEGEND * window.height:
                break
    # let the limits of the data reach so high that all objects lie below the legend
    share = max((bottom - window.y0) / window.height - _MARGIN, 0.3)
    low, high = ax.dataLim.intervaly
    height = (high - low) / (share * (1 + 2 * _MARGIN) - _MARGIN)
    ax.update_datalim([(ax.dataLim.x0, low + height)])
    ax.autoscale_view()
    return legend


def _legend_handles(display: ProjectionDisplay) -> list[Any]:
    return [
        display.ax_.plot([], [], marker, color=colour, markersize=6, label=label)[0]
        for label, colour, marker in display.entries_
    ]


def _find_kind(color: NDArray[Any] | None, kind: str) -> str:
    if kind not in ("auto", *_KINDS):
        raise ValueError(f"kind={kind!r} is unknown: choose 'auto' or one of {_KINDS}.")
    if kind != "auto" or color is None:
        return kind
    if color.dtype.kind == "b":
        return "error"
    many_numbers = color.dtype.kind in "iuf" and len(np.unique(color)) > _MAX_GROUPS
    return "property" if many_numbers or is_continuous(color) else "class"


def _colour_scale(values: NDArray[np.float64]) -> dict[str, Any]:
    """Return a colour map, with grey for missing values, and its limits without outliers."""
    # viridis without its palest end
    shades = style.import_matplotlib("pyplot").get_cmap("viridis")(np.linspace(0, 0.93, 256))
    colours = style.import_matplotlib("colors").ListedColormap(shades)
    finite = values[np.isfinite(values)]
    low, high = np.quantile(finite, [0.01, 0.99]) if len(finite) else (0.0, 1.0)
    colours = colours.with_extremes(bad=style.UNKNOWN_COLOUR)
    return {"cmap": colours, "vmin": low, "vmax": high if high > low else low + 1.0}


def _choose_apart(pixels: NDArray[Any], sides: NDArray[Any], window: Any) -> NDArray[np.intp]:
    """Choose random rows whose pictures do not touch each other and lie inside a window."""
    inside = (pixels > window.min + sides / 2) & (pixels < window.max - sides / 2)
    order = np.random.default_rng(0).permutation(np.flatnonzero(inside.all(axis=1)))
    chosen: list[int] = []
    for row in order[:_MAX_CANDIDATES].tolist():
        distance = np.abs(pixels[chosen] - pixels[row]) / sides
        if not (distance < _MIN_DISTANCE).all(axis=1).any():
            chosen.append(row)
    return np.array(chosen, dtype=np.intp)
