"""Colours, axes, legends and pictures of stamps that all displays share."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from types import ModuleType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from skastro.stamps.arrays import as_stack
from skastro.stamps.rgb import display_bands, to_rgb
from skastro.utils.packages import import_optional

COUNTS_SHARE = 0.2  # height of the bars that count objects, as a share of that of the axes
# Okabe & Ito (2008), https://jfly.uni-koeln.de/color/, without its yellow (too pale on white)
OKABE_ITO = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
# 7 colours and 8 markers have no common divisor: they make 56 pairs before one is repeated
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
_DASHES = ("-", (0, (5, 1.6)), (0, (1.2, 1.4)), (0, (6, 1.5, 1.2, 1.5)), (0, (9, 3)))
INK, MUTED, FAINT = "#222222", "#666666", "#dddddd"
UNKNOWN_COLOUR = "#c4c4c4"  # of objects without a label, a measurement or a cluster
REFERENCE_LINE = {"linewidth": 1, "linestyle": (0, (4, 3))}
MINUS = "\N{MINUS SIGN}"


class Display:
    """Base of the displays that draw into one axes, which subclasses do in `_draw`."""

    _size = (6.4, 4.2)  # inches, of a new figure
    ax_: Any
    figure_: Any

    def plot(self, ax: Any = None) -> Self:
        """Draw into axes.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Axes to draw into. By default, a new figure is made.

        Returns
        -------
        display : Display

        Raises
        ------
        ImportError
            matplotlib is not installed.
        """
        self.ax_ = make_axes(ax, self._figure_size())
        self.figure_ = self.ax_.figure
        self._draw(self.ax_)
        return self

    def _figure_size(self) -> tuple[float, float]:
        return self._size

    def _draw(self, ax: Any) -> None:
        raise NotImplementedError


def import_matplotlib(module: str) -> ModuleType:
    """Import a module of matplotlib, or raise an ImportError that says how to install it."""
    return import_optional(f"matplotlib.{module}", extra="report", needed_by="A figure")


def make_axes(ax: Any, size: tuple[float, float]) -> Any:
    """Return the given axes, or those of a new figure (size in inches)."""
    if ax is not None:
        return ax
    return import_matplotlib("pyplot").subplots(figsize=size, layout="constrained")[1]


def has_room_outside(ax: Any) -> bool:
    """Return whether the figure's layout makes room for legends and names outside of its axes."""
    layouts = import_matplotlib("layout_engine")
    kinds = layouts.ConstrainedLayoutEngine, layouts.TightLayoutEngine
    return isinstance(ax.figure.get_layout_engine(), kinds)


def dress_axes(ax: Any, *, grid: str = "y") -> None:
    """Hide the upper and right spines, and draw grid lines behind the data."""
    ax.spines[["top", "right"]].set_visible(False)
    ax.grid(axis=grid, color=FAINT, linewidth=0.7)
    ax.set_axisbelow(True)


def frame_pictures(ax: Any) -> None:
    """Hide spines and ticks of axes that hold pictures."""
    # without an anchor, a constrained layout misplaces the labels of axes with equal scales
    ax.set_anchor("SW")
    ax.spines[:].set_visible(False)
    ax.tick_params(length=0)


def line_styles() -> Iterator[dict[str, Any]]:
    """Yield parameters of Line2D that differ in colour, marker and dashes (readable in grey)."""
    for number in itertools.count():
        yield {
            "color": OKABE_ITO[number % len(OKABE_ITO)], "marker": MARKERS[number % len(MARKERS)],
            "linestyle": _DASHES[number % len(_DASHES)], "linewidth": 1.8, "markersize": 6.5,
            "markeredgecolor": "white", "markeredgewidth": 0.8, "clip_on": False,
        }  # fmt: skip


def with_unit(name: str, unit: str | None) -> str:
    """Return the label of an axis, such as "mag_r (mag)"."""
    return f"{name} ({unit})" if unit else name


def signed(value: float, form: str) -> str:
    """Format a number with its sign; the minus is as wide as the plus."""
    return f"{value:+{form}}".replace("-", MINUS)


def place_legend_above(ax: Any, n_entries: int, **params: Any) -> None:
    """Place a legend above the axes in rows of at most four entries, or inside without room."""
    place = {"loc": "best", "framealpha": 0.8, "edgecolor": "none"}
    if has_room_outside(ax):
        place = {"loc": "lower left", "bbox_to_anchor": (-0.02, 1.0), "frameon": False}
        place["ncols"] = min(n_entries, 4)
    ax.legend(
        handlelength=2.6, labelcolor=INK, fontsize=9, title_fontsize=9, alignment="left",
        columnspacing=1.4, **place, **params,
    )  # fmt: skip


def check_coordinates(coordinates: Any, dtype: Any, *, name: str) -> NDArray[Any]:
    """Return coordinates (n, 2), or raise a ValueError unless there are any and all are finite."""
    points = np.asarray(coordinates, dtype=dtype)
    if points.ndim != 2 or points.shape[1] != 2 or not len(points):
        raise ValueError(f"{name} has shape {points.shape}: pass (n, 2) coordinates.")
    finite = np.isfinite(points).all(axis=1)
    if not finite.all():
        raise ValueError(f"{name} is not finite in row {finite.argmin()}: leave such rows out.")
    return points


def check_values(n: int, **arguments: Any) -> None:
    """Raise a ValueError unless each argument is None or has one value for each of n objects."""
    for name, values in arguments.items():
        if values is not None and (shape := np.shape(values)) != (n,):
            raise ValueError(f"{name} has shape {shape}, but there are {n} objects: pass one each.")


def check_stack(images: Any, n: int) -> Any:
    """Return the stamps without a copy, or raise a ValueError unless there are n of them."""
    stack = as_stack(images, name="images")
    if len(stack) != n:
        raise ValueError(f"images has {len(stack)} stamps for {n} objects: pass one each.")
    return stack


def compose_stamps(
    images: Any, rows: NDArray[np.intp], bands: Sequence[int | str] | None
) -> dict[int, NDArray[np.uint8]]:
    """Compose pictures (height, width, 3) of some rows with one stretch; return them by row."""
    rows = np.unique(rows)
    if not len(rows):
        return {}
    bands = display_bands(images) if bands is None else bands
    rgb = to_rgb(images[rows], bands=bands)
    return dict(zip(rows.tolist(), rgb.transpose(0, 2, 3, 1), strict=True))


def choose_stamps(
    images: Any,
    groups: Mapping[Any, NDArray[np.intp]],
    n_stamps: int,
    bands: Sequence[int | str] | None,
    *,
    spread_out: bool,
) -> dict[Any, list[NDArray[np.uint8]]]:
    """Compose pictures of the first rows of each group, or of evenly spaced ones."""
    chosen = {}
    for key, rows in groups.items():
        chosen[key] = rows[:n_stamps]
        if spread_out:
            places = np.linspace(0, len(rows) - 1, min(n_stamps, len(rows)))
            chosen[key] = rows[np.unique(places.astype(np.intp))]
    pictures = compose_stamps(images, np.concatenate([*chosen.values(), []]).astype(np.intp), bands)
    return {key: [pictures[row] for row in rows.tolist()] for key, rows in chosen.items()}
