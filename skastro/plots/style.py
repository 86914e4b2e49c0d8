"""What the displays have in common: colours, axes, pictures of stamps."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skastro.stamps.arrays import as_stack
from skastro.stamps.rgb import display_bands, to_rgb
from skastro.utils.packages import import_optional

FOOTNOTE_SHARE = 0.2  # of the axes' height, for the numbers of objects
# Okabe & Ito (2008), https://jfly.uni-koeln.de/color/, without its yellow (too pale on white)
OKABE_ITO = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
# numbers of colours and markers without a common divisor: 56 pairs before one comes again
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
_DASHES = ("-", (0, (5, 1.6)), (0, (1.2, 1.4)), (0, (6, 1.5, 1.2, 1.5)), (0, (9, 3)))
INK, MUTED, FAINT = "#222222", "#666666", "#dddddd"
UNKNOWN = "#c4c4c4"  # unlabelled, not measured, in no cluster
MINUS = "\N{MINUS SIGN}"


def make_axes(ax: Any, needed_by: str, figsize: tuple[float, float]) -> Any:
    """Return the axes given, or those of a new figure of ``figsize`` inches."""
    if ax is not None:
        return ax
    pyplot = import_optional("matplotlib.pyplot", extra="report", needed_by=needed_by)
    return pyplot.subplots(figsize=figsize, layout="constrained")[1]


def divide_axes(ax: Any, ratios: Sequence[float]) -> NDArray[Any]:
    """Put axes below each other in the place of one, which is switched off."""
    place = ax.get_subplotspec()
    if place is None:
        raise ValueError("ax is not one of a figure's subplots: make it with figure.subplots().")
    ax.set_axis_off()
    grid = place.subgridspec(len(ratios), 1, height_ratios=ratios)
    return np.array([ax.figure.add_subplot(cell) for cell in grid])


def dress_axes(ax: Any, *, grid: str | None = "y") -> None:
    """Leave two spines, and lines of one direction behind the data."""
    for side in ("top", "right"):
        ax.spines[side].set_visible(False)
    if grid is not None:
        ax.grid(axis=grid, color=FAINT, linewidth=0.7)
    ax.set_axisbelow(True)


def property_map(needed_by: str) -> Any:
    """Return viridis without its palest end, grey where a value is missing."""
    colors = import_optional("matplotlib.colors", extra="report", needed_by=needed_by)
    pyplot = import_optional("matplotlib.pyplot", extra="report", needed_by=needed_by)
    shades = pyplot.get_cmap("viridis")(np.linspace(0, 0.93, 256))
    return colors.ListedColormap(shades).with_extremes(bad=UNKNOWN)


def anchor_axes(ax: Any) -> None:
    """Keep square axes at the corner of their labels, whose room a layout else misjudges."""
    ax.set_anchor("SW")


def line_styles() -> Iterator[dict[str, Any]]:
    """Yield parameters of Line2D that differ in colour and, for grey, in marker and dashes."""
    styles = zip(
        itertools.cycle(OKABE_ITO), itertools.cycle(MARKERS), itertools.cycle(_DASHES), strict=True
    )
    for colour, marker, dashes in styles:
        yield {
            "color": colour, "marker": marker, "linestyle": dashes, "linewidth": 1.8,
            "markersize": 6.5, "markeredgecolor": "white", "markeredgewidth": 0.8,
            "clip_on": False,
        }  # fmt: skip


def with_unit(name: str, unit: str | None) -> str:
    """Write a quantity for an axis.

    Examples
    --------
    >>> with_unit("mag_r", "mag"), with_unit("concentration", None)
    ('mag_r (mag)', 'concentration')
    """
    return f"{name} ({unit})" if unit else name


def signed(value: float, digits: int = 3) -> str:
    """Write a number with its sign, the minus as long as the plus."""
    return f"{value:+.{digits}f}".replace("-", MINUS)


def check_stack(images: Any, n: int) -> Any:
    """Return the stamps uncopied, after a look at their number."""
    stack = as_stack(images)
    if stack.shape[0] != n:
        raise ValueError(
            f"images has {stack.shape[0]} stamps for {n} objects: pass one stamp for each."
        )
    return stack


def compose_stamps(
    images: Any, rows: NDArray[np.intp], bands: Sequence[int | str] | None
) -> dict[int, NDArray[np.uint8]]:
    """Compose colour pictures of some stamps, stretched alike.

    Parameters
    ----------
    images : array-like of shape (n, bands, height, width)
    rows : int array
        Rows to show, in any order.
    bands : sequence of three int or str, or None
        The bands shown as red, green and blue; None chooses as `encode_thumbnails` does.

    Returns
    -------
    pictures : dict of int to uint8 array of shape (height, width, 3)
        By row.

    Examples
    --------
    >>> pictures = compose_stamps(np.zeros((5, 3, 8, 8)), np.array([4, 2]), None)
    >>> pictures[4].shape
    (8, 8, 3)
    """
    rows = np.unique(rows)
    if not len(rows):
        return {}
    bands = display_bands(images) if bands is None else bands
    rgb = to_rgb(images[rows], bands=bands)
    return dict(zip(rows.tolist(), rgb.transpose(0, 2, 3, 1), strict=True))


def spread(rows: NDArray[np.intp], number: int) -> NDArray[np.intp]:
    """Take a number of rows at even distances.

    Examples
    --------
    >>> spread(np.arange(10, 20), 3).tolist()
    [10, 14, 19]
    """
    places = np.linspace(0, len(rows) - 1, min(number, len(rows))).astype(np.intp)
    return rows[np.unique(places)]


def place_legend_above(ax: Any, entries: int, **params: Any) -> None:
    """Place a legend above the axes, in rows of at most four entries."""
    ax.legend(
        loc="lower left", bbox_to_anchor=(-0.02, 1.0), ncols=min(entries, 4), frameon=False,
        handlelength=2.6, labelcolor=INK, fontsize=9, title_fontsize=9, alignment="left",
        columnspacing=1.4, **params,
    )  # fmt: skip


def show_stamps(
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
