"""Draw why a classifier gives stamps their classes: stamp, where, and which properties."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from skastro.evaluation.explanation import BASE, REST, Explanation, readable_name
from skastro.plots import style
from skastro.stamps.arrays import as_stack

_INCHES = 1.7  # of the side of a picture, which is the unit of the axes
_GAP, _ABOVE = 0.06, 0.2  # between pictures, and above a row for its title
_LABELS, _BARS, _NUMBERS = 1.55, 1.1, 0.4  # widths of the columns right of the pictures
_FOR, _AGAINST = style.OKABE_ITO[0], style.OKABE_ITO[1]
_LEAST_DROP = 0.1  # of the probability that the darkest colour of a map stands for


@dataclass(eq=False, repr=False)
class ExplanationDisplay(style.Display):
    """Explanations of some stamps, a row for each: stamp, where it matters, and properties.

    In the map, blue pixels speak for the class (covering them lowers its probability), and orange
    ones against it; the darkest colour is the largest drop, at least 0.1. The bars are
    contributions to the probability. `from_explanation` makes and
    draws it. A new figure fits the rows.

    Parameters
    ----------
    explanation : Explanation
    pictures : list of uint8 array of shape (height, width, 3)
        Each stamp.
    rows : int array of shape (m,)
        Which objects of the explanation they are.
    names : sequence of str, default=None
        What to call each of them.
    max_properties : int, default=6

    Attributes
    ----------
    ax_, figure_ : matplotlib Axes and Figure
    images_ : list of AxesImage
        Stamps and maps, row by row.
    bars_ : list of BarContainer
        Bars of each object, the largest contribution first.

    Examples
    --------
    >>> from skastro.evaluation.explanation import tabulate_reasons
    >>> table = tabulate_reasons(np.array(["star"]), np.array([0.9]))
    >>> where = np.zeros((1, 8, 8), np.float32)
    >>> reasons = Explanation(np.array(["star"]), np.array([0.9]), table, table[:0], where)
    >>> stamps = np.random.default_rng(0).normal(size=(1, 3, 8, 8))
    >>> len(ExplanationDisplay.from_explanation(reasons, stamps).images_)
    2
    """

    explanation: Explanation
    pictures: Sequence[NDArray[np.uint8]]
    rows: NDArray[np.intp]
    names: Sequence[str] | None = None
    max_properties: int = 6

    @classmethod
    def from_explanation(
        cls,
        explanation: Explanation,
        images: Any,
        *,
        ids: ArrayLike | None = None,
        bands: Sequence[int | str] | None = None,
        max_objects: int = 6,
        max_properties: int = 6,
        **plot_params: Any,
    ) -> Self:
        """Compose the stamps of an explanation, and draw.

        Parameters
        ----------
        explanation : Explanation
        images : array-like of shape (n, bands, height, width)
            The stamps that were explained, composed by `to_rgb` with one stretch.
        ids : array-like of shape (n,), default=None
            What to write above the stamps.
        bands : sequence of three int or str, default=None
            Bands shown as red, green and blue, by default those of `write_thumbnails`.
        max_objects : int, default=6
            Largest number of objects, the first ones.
        max_properties : int, default=6
            Largest number of bars of an object: those of the largest contributions.
        **plot_params
            Passed to `plot`.

        Returns
        -------
        display : ExplanationDisplay

        Raises
        ------
        ValueError
            There are no stamps, or ``images`` or ``ids`` are of other objects.
        """
        n = len(explanation.classes)
        stack = style.check_stack(as_stack(images, name="images"), n)
        if not n:
            raise ValueError("the explanation is of no stamp: pass some stamps to explain.")
        style.check_values(n, ids=ids)
        rows = np.arange(min(n, max_objects))
        pictures = style.compose_stamps(stack, rows, bands)
        names = None if ids is None else [str(name) for name in np.asarray(ids)[rows]]
        display = cls(
            explanation, [pictures[row] for row in rows.tolist()], rows, names, max_properties
        )
        return display.plot(**plot_params)

    @property
    def _columns(self) -> tuple[float, float, float, float]:
        """Return height of a picture, where the labels of the bars end, their zero, and the end."""
        height, width, _ = self.pictures[0].shape
        pictures = 1 if self.explanation.where is None else 2 + _GAP
        labels_end = pictures + _LABELS
        return height / width, labels_end, labels_end + _BARS / 2, labels_end + _BARS + _NUMBERS

    def _figure_size(self) -> tuple[float, float]:
        aspect, _, _, end = self._columns
        return _INCHES * end + 0.1, _INCHES * (aspect + _ABOVE) * len(self.rows) + 0.1

    def _draw(self, ax: Any) -> None:
        aspect, _, _, end = self._columns
        where = self.explanation.where
        self.images_: list[Any] = []
        self.bars_: list[Any] = []
        colours = style.import_matplotlib("colors")
        between = colours.LinearSegmentedColormap.from_list("", [_AGAINST, "white", _FOR])
        reasons = self.explanation.table[self.explanation.table["property"] != BASE]
        most = max(float(reasons["contribution"].abs().max()), 1e-9)
        for place, (row, picture) in enumerate(zip(self.rows, self.pictures, strict=True)):
            # stamp and map
            top = place * (aspect + _ABOVE) + _ABOVE
            bottom = top + aspect
            ax.text(
                0, top - 0.03, self._title(place, row), va="bottom", fontsize=9, weight="bold",
                color=style.INK,
            )  # fmt: skip
            self.images_.append(ax.imshow(picture, extent=(0, 1, bottom, top)))
            if where is not None:
                left, drop = 1 + _GAP, max(float(np.abs(where[row]).max()), _LEAST_DROP)
                self.images_.append(
                    ax.imshow(
                        where[row], extent=(left, left + 1, bottom, top), cmap=between,
                        vmin=-drop, vmax=drop,
                    )
                )  # fmt: skip
                edge = {"edgecolor": style.FAINT, "fill": False, "linewidth": 0.8}
                ax.add_patch(_rectangle(left, top, aspect, edge))
            # properties
            self._draw_bars(ax, reasons[reasons["object"] == row], top, bottom, most)
        height = len(self.rows) * (aspect + _ABOVE)
        ax.set(xlim=(0, end), ylim=(height, 0), xticks=[], yticks=[], aspect="equal")
        style.frame_pictures(ax)

    def _title(self, place: int, row: int) -> str:
        """Return the name, class and probability of an object."""
        text = f"{self.explanation.classes[row]} {self.explanation.probabilities[row]:.2f}"
        return text if self.names is None else f"{self.names[place]}: {text}"

    def _draw_bars(
        self, ax: Any, reasons: pd.DataFrame, top: float, bottom: float, most: float
    ) -> None:
        """Draw the largest contributions of one object between two heights."""
        order = np.argsort(-reasons["contribution"].abs().to_numpy(), kind="stable")
        shown = reasons.iloc[order[: self.max_properties]]
        step = (bottom - top) / self.max_properties
        middle = top + (np.arange(len(shown)) + 0.5) * step
        added = shown["contribution"].to_numpy()
        _, labels_end, zero, _ = self._columns
        scale = _BARS / 2 / most
        colours = [_FOR if value >= 0 else _AGAINST for value in added]
        self.bars_.append(
            ax.barh(middle, added * scale, 0.7 * step, left=zero, color=colours, linewidth=0)
        )
        ax.plot([zero, zero], [top, bottom], color=style.MUTED, linewidth=0.8)
        for y, (_, reason) in zip(middle, shown.iterrows(), strict=True):
            value, text = reason["value"], readable_name(reason["property"])
            if reason["property"] != REST:
                text += " unknown" if np.isnan(value) else f" {value:.3g} {reason['unit']}".rstrip()
            ax.text(labels_end - 0.05, y, text, ha="right", va="center", fontsize=8.5,
                    color=style.INK)  # fmt: skip
            ax.text(zero + _BARS / 2 + 0.05, y, style.signed(reason["contribution"], ".2f"),
                    va="center", fontsize=8.5, color=style.MUTED)  # fmt: skip


def _rectangle(left: float, top: float, height: float, params: dict[str, Any]) -> Any:
    return style.import_matplotlib("patches").Rectangle((left, top), 1, height, **params)
