"""Drawings of scores: by magnitude, by setting, and of probabilities against truth."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Self

import pandas as pd
from numpy.typing import ArrayLike

from skastro.evaluation.calibration import accuracy_by_magnitude
from skastro.plots.style import (
    FAINT,
    FOOTNOTE_SHARE,
    MUTED,
    dress_axes,
    line_styles,
    make_axes,
    place_legend_above,
    with_unit,
)


class MagnitudeDisplay:
    """Accuracy by magnitude, one line for each classifier, above the number of objects.

    Made by `from_predictions`, which draws it too.

    Parameters
    ----------
    scores : dict of str to DataFrame
        As of `accuracy_by_magnitude`, by classifier; all with the same bins.
    name : str, default="magnitude"
        Of the magnitude, for the axis.
    unit : str or None, default="mag"
    score_name : str, default="balanced accuracy"

    Attributes
    ----------
    ax_ : matplotlib Axes
    figure_ : matplotlib Figure
    lines_ : dict of str to Line2D
    bands_ : dict of str to artist
        The 95 % intervals.
    counts_ax_ : matplotlib Axes
        Of the numbers of objects, on the right.

    Examples
    --------
    >>> y = ["star", "galaxy"] * 20
    >>> predicted = ["star", "galaxy"] * 10 + ["star"] * 20
    >>> display = MagnitudeDisplay.from_predictions(
    ...     y, {"probe": predicted}, np.linspace(15, 22, 40), bins=2, name="r"
    ... )
    >>> display.lines_["probe"].get_ydata()
    array([1. , 0.5])
    """

    def __init__(
        self,
        scores: Mapping[str, pd.DataFrame],
        *,
        name: str = "magnitude",
        unit: str | None = "mag",
        score_name: str = "balanced accuracy",
    ) -> None:
        self.scores = scores
        self.name = name
        self.unit = unit
        self.score_name = score_name

    @classmethod
    def from_predictions(
        cls,
        y_true: ArrayLike,
        y_pred: Mapping[str, ArrayLike] | ArrayLike,
        magnitude: ArrayLike,
        *,
        bins: int | Sequence[float] = 8,
        balanced: bool = True,
        name: str = "magnitude",
        unit: str | None = "mag",
        **plot_params: Any,
    ) -> Self:
        """Measure with `accuracy_by_magnitude`, and draw.

        Parameters
        ----------
        y_true : array-like of shape (n,)
        y_pred : array-like of shape (n,), or dict of str to such
            Of one classifier, or of several by name.
        magnitude : array-like of shape (n,)
            NaN where it is not measured.
        bins : int or sequence of float, default=8
        balanced : bool, default=True
            As in `accuracy_by_magnitude`, like all above.
        name : str, default="magnitude"
        unit : str or None, default="mag"
        **plot_params
            Passed to `plot`.

        Returns
        -------
        display : MagnitudeDisplay

        Raises
        ------
        ValueError
            As in `accuracy_by_magnitude`.
        """
        several = y_pred if isinstance(y_pred, Mapping) else {"classifier": y_pred}
        scores = {
            each: accuracy_by_magnitude(y_true, values, magnitude, bins=bins, balanced=balanced)
            for each, values in several.items()
        }
        score_name = "balanced accuracy" if balanced else "accuracy"
        display = cls(scores, name=name, unit=unit, score_name=score_name)
        return display.plot(**plot_params)

    def plot(self, ax: Any = None) -> Self:
        """Draw into axes.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            None makes a figure of 6.4 by 4.2 inches.

        Returns
        -------
        display : MagnitudeDisplay

        Raises
        ------
        ImportError
            matplotlib is not installed.
        """
        ax = make_axes(ax, "MagnitudeDisplay", (6.4, 4.2))
        self.ax_, self.figure_ = ax, ax.figure
        self.lines_, self.bands_ = {}, {}
        table = next(iter(self.scores.values()))
        self.counts_ax_ = _draw_counts(ax, table)
        for (name, scores), style in zip(self.scores.items(), line_styles(), strict=False):
            (self.lines_[name],) = ax.plot(
                scores["magnitude"], scores["score"], label=name, **style
            )
            self.bands_[name] = ax.fill_between(
                scores["magnitude"], scores["low"], scores["high"], color=style["color"],
                alpha=0.16, linewidth=0, zorder=1.5,
            )  # fmt: skip
        dress_axes(ax)
        _limit_axes(ax, list(self.scores.values()))
        ax.set_xlabel(with_unit(self.name, self.unit))
        ax.set_ylabel(self.score_name)
        if len(self.scores) > 1:
            place_legend_above(ax, len(self.scores))
        return self


def _draw_counts(ax: Any, table: pd.DataFrame) -> Any:
    """Draw the number of objects of each bin, faintly at the foot of the axes."""
    counts_ax = ax.twinx()
    counts_ax.set_zorder(ax.get_zorder() - 1)
    ax.patch.set_visible(False)
    counts_ax.bar(
        table["from"], table["n"], width=table["to"] - table["from"], align="edge",
        color="#e9e9e9", edgecolor="white", linewidth=1,
    )  # fmt: skip
    most = int(table["n"].max())
    counts_ax.set_ylim(0, most / FOOTNOTE_SHARE)
    counts_ax.set_yticks([0, most], ["0", f"{most:,}"], color=MUTED, fontsize=8.5)
    counts_ax.set_ylabel("objects", color=MUTED, loc="bottom", fontsize=9, labelpad=-2)
    counts_ax.tick_params(axis="y", color=FAINT, length=3)
    for spine in counts_ax.spines.values():
        spine.set_visible(False)
    return counts_ax


def _limit_axes(ax: Any, scores: list[pd.DataFrame]) -> None:
    """Show the outer bins as wide as the others, and the intervals above the foot."""
    table = scores[0]
    width = (table["to"] - table["from"]).median()
    first, last = table.iloc[0], table.iloc[-1]
    ax.set_xlim(
        max(first["from"], min(first["to"] - width, first["magnitude"] - width / 4)),
        min(last["to"], max(last["from"] + width, last["magnitude"] + width / 4)),
    )
    low = min(each["low"].min() for each in scores)
    high = max(each["high"].max() for each in scores)
    bottom = (low - 1.1 * FOOTNOTE_SHARE * high) / (1 - 1.1 * FOOTNOTE_SHARE)
    ax.set_ylim(bottom, high + 0.02 * (high - bottom))
    ax.set_yticks([tick for tick in ax.get_yticks() if max(bottom, 0) <= tick <= min(high, 1)])
