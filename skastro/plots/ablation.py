"""Draw what each property is worth."""

from __future__ import annotations

from typing import Any, Self

import numpy as np
import pandas as pd

from skastro.plots.style import (
    MARKERS,
    MINUS,
    MUTED,
    OKABE_ITO,
    dress_axes,
    make_axes,
    place_legend_above,
)

_ROW_HEIGHT = 0.34  # inches, of one interval of an ablation


class AblationDisplay:
    """Differences of scores by setting, as points with intervals about zero.

    Made by `from_scores` or `from_ablation`, which draw it too.

    Parameters
    ----------
    table : DataFrame
        As in `from_scores`.
    metric : str, default="score"
        Of what these are differences, for the axis.
    reference : str, default=None
        What they are differences from, for the axis.

    Attributes
    ----------
    ax_ : matplotlib Axes
    figure_ : matplotlib Figure
    points_ : dict
        The errorbar container of each number of labels; of ``None`` without such a column.

    Examples
    --------
    >>> table = pd.DataFrame({
    ...     "setting": ["colours", "sizes"], "mean": [-0.01, -0.09],
    ...     "low": [-0.02, -0.12], "high": [0.01, -0.06],
    ... })
    >>> display = AblationDisplay.from_scores(table, metric="balanced accuracy", reference="all")
    >>> display.ax_.get_xlabel()
    'difference in balanced accuracy from "all"'
    """

    def __init__(
        self, table: pd.DataFrame, *, metric: str = "score", reference: str | None = None
    ) -> None:
        self.table = table
        self.metric = metric
        self.reference = reference

    @classmethod
    def from_scores(
        cls,
        table: pd.DataFrame,
        *,
        metric: str = "score",
        reference: str | None = None,
        **plot_params: Any,
    ) -> Self:
        """Draw a table.

        Parameters
        ----------
        table : DataFrame
            Columns ``setting`` (drawn from top to bottom in the order of their first rows),
            ``mean``, ``low`` and ``high`` (NaN where there is no interval), and perhaps
            ``n_labels``: then each setting has a point for each number of labels.
        metric : str, default="score"
        reference : str, default=None
        **plot_params
            Passed to `plot`.

        Returns
        -------
        display : AblationDisplay

        Raises
        ------
        ValueError
            A column is missing, or there is no row.
        """
        needed = ["setting", "mean", "low", "high"]
        if missing := [name for name in needed if name not in table.columns]:
            raise ValueError(f"table lacks the column {missing[0]!r}: it needs {needed}.")
        if table.empty:
            raise ValueError("table has no row: pass one for each setting.")
        return cls(table, metric=metric, reference=reference).plot(**plot_params)

    @classmethod
    def from_ablation(cls, ablation: Any, *, metric: str | None = None, **plot_params: Any) -> Self:
        """Draw the paired differences of a `property_ablation`.

        Parameters
        ----------
        ablation : PropertyAblation
        metric : str, default=None
            None takes the first.
        **plot_params
            Passed to `plot`.

        Returns
        -------
        display : AblationDisplay

        Raises
        ------
        ValueError
            There is no such metric, or nothing beside the reference.
        """
        metric = ablation.curve.metrics[0] if metric is None else metric
        summary = ablation.summary(metric)
        others = summary[summary["set"] != ablation.reference]
        table = pd.DataFrame(
            {
                "setting": others["set"],
                "n_labels": others["n_labels"],
                "mean": others["difference"],
                "low": others["difference_low"],
                "high": others["difference_high"],
            }
        )
        return cls.from_scores(
            table, metric=metric.replace("_", " "), reference=ablation.reference, **plot_params
        )

    def plot(self, ax: Any = None) -> Self:
        """Draw into axes.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            None makes a figure 6.4 inches wide, and as high as the rows need.

        Returns
        -------
        display : AblationDisplay

        Raises
        ------
        ImportError
            matplotlib is not installed.
        """
        settings = list(dict.fromkeys(self.table["setting"]))
        has_counts = "n_labels" in self.table.columns
        counts = sorted(self.table["n_labels"].unique()) if has_counts else [None]
        height = 1.1 + _ROW_HEIGHT * len(settings) * max(1.0, 0.5 * len(counts))
        ax = make_axes(ax, "AblationDisplay", (6.4, height + 0.3 * has_counts))
        self.ax_, self.figure_, self.points_ = ax, ax.figure, {}
        _draw_rows(ax, settings)
        styles = zip(_shades(len(counts)), np.resize(MARKERS, len(counts)), strict=True)
        for place, (count, (colour, marker)) in enumerate(zip(counts, styles, strict=True)):
            table = self.table[self.table["n_labels"] == count] if has_counts else self.table
            rows = np.array([settings.index(setting) for setting in table["setting"]])
            offset = 0.62 * ((place + 0.5) / len(counts) - 0.5)
            mean, low, high = table[["mean", "low", "high"]].to_numpy().T
            reach = np.stack([mean - low, high - mean])
            self.points_[count] = ax.errorbar(
                mean, rows + offset, xerr=reach, fmt=marker, color=colour, markersize=6,
                markeredgecolor="white", markeredgewidth=0.7, elinewidth=1.8,
                label=None if count is None else f"{count:,}",
            )  # fmt: skip
        ax.set_xlabel(f"difference in {self.metric}" + _named(self.reference))
        ax.xaxis.set_major_formatter(_signed_tick)
        if has_counts:
            place_legend_above(ax, len(counts), title="labels")
        return self


def _draw_rows(ax: Any, settings: list[str]) -> None:
    for row in range(0, len(settings), 2):  # stripes lead the eye from the name to the point
        ax.axhspan(row - 0.5, row + 0.5, color="#f5f5f5", linewidth=0, zorder=0)
    ax.axvline(0, color=MUTED, linewidth=1.1, zorder=1)
    dress_axes(ax, grid="x")
    ax.spines["left"].set_visible(False)
    ax.tick_params(axis="y", length=0)
    ax.set_yticks(range(len(settings)), settings)
    ax.set_ylim(len(settings) - 0.5, -0.5)


def _shades(number: int) -> list[Any]:
    """Return one colour, or several from light to dark."""
    if number == 1:
        return [OKABE_ITO[0]]
    light, dark = np.array([0.62, 0.78, 0.91]), np.array([0.0, 0.20, 0.42])
    return [tuple(light + share * (dark - light)) for share in np.linspace(0, 1, number)]


def _named(reference: str | None) -> str:
    return "" if reference is None else f' from "{reference}"'


def _signed_tick(value: float, _: int) -> str:
    return f"{value:+g}".replace("-", MINUS) if value else "0"
