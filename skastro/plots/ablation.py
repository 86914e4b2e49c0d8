"""Draw how much each set of properties contributes."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass
from typing import Any, Self

import numpy as np
import pandas as pd

from skastro.evaluation.label_efficiency import metric_name
from skastro.evaluation.property_ablation import PropertyAblation
from skastro.plots import style

_ROW_HEIGHT = 0.34  # inches, of the row of one setting


@dataclass(eq=False, repr=False)
class AblationDisplay(style.Display):
    """Differences of scores by setting, as points with intervals about zero.

    `from_result` makes and draws it. A new figure is 6.4 inches wide.

    Parameters
    ----------
    table : DataFrame
        Columns ``setting`` (drawn from top to bottom in the order of their first rows),
        ``mean``, ``low`` and ``high`` (NaN where there is no interval). With a column
        ``n_labels``, each setting has a point for each number of labels.
    metric : str, default="score"
        Name of the score, for the axis.
    reference : str, default=None
        Setting that the differences are measured from, for the axis.

    Attributes
    ----------
    ax_, figure_ : matplotlib Axes and Figure
    points_ : dict of int to errorbar container
        Points by number of labels; without such a column the only key is None.

    Raises
    ------
    ValueError
        ``table`` lacks a column, or has no row.

    Examples
    --------
    >>> table = pd.DataFrame({
    ...     "setting": ["colours", "sizes"], "mean": [-0.01, -0.09],
    ...     "low": [-0.02, -0.12], "high": [0.01, -0.06],
    ... })
    >>> display = AblationDisplay(table, metric="balanced accuracy", reference="all")
    >>> display.plot().ax_.get_xlabel()
    'difference in balanced accuracy from "all"'
    """

    table: pd.DataFrame
    _: KW_ONLY
    metric: str = "score"
    reference: str | None = None

    def __post_init__(self) -> None:
        needed = ["setting", "mean", "low", "high"]
        if missing := [name for name in needed if name not in self.table.columns]:
            raise ValueError(f"table lacks the column {missing[0]!r}: it needs {needed}.")
        if self.table.empty:
            raise ValueError("table has no row: pass one for each setting.")

    @classmethod
    def from_result(
        cls, ablation: PropertyAblation, *, metric: str | None = None, **plot_params: Any
    ) -> Self:
        """Draw the paired differences of a `property_ablation`.

        Parameters
        ----------
        ablation : PropertyAblation
            Result of `property_ablation`.
        metric : str, default=None
            Metric to draw, by default the first.
        **plot_params
            Passed to `plot`.

        Returns
        -------
        display : AblationDisplay

        Raises
        ------
        ValueError
            The metric is unknown, or the reference is the only set.
        """
        metric = ablation.curve.metrics[0] if metric is None else metric
        summary = ablation.summary(metric)
        others = summary[summary["set"] != ablation.reference]
        columns = {
            "set": "setting", "n_labels": "n_labels", "difference": "mean",
            "difference_low": "low", "difference_high": "high",
        }  # fmt: skip
        display = cls(
            others[list(columns)].rename(columns=columns),
            metric=metric_name(metric),
            reference=ablation.reference,
        )
        return display.plot(**plot_params)

    def _settings(self) -> list[str]:
        return list(dict.fromkeys(self.table["setting"]))

    def _label_counts(self) -> list[Any]:
        return sorted(self.table["n_labels"].unique()) if "n_labels" in self.table else [None]

    def _figure_size(self) -> tuple[float, float]:
        counts = self._label_counts()
        rows = len(self._settings()) * max(1.0, 0.5 * len(counts))
        return 6.4, 1.1 + _ROW_HEIGHT * rows + 0.3 * (counts != [None])

    def _draw(self, ax: Any) -> None:
        settings, counts = self._settings(), self._label_counts()
        # a row for each setting, with a grey stripe behind every other row
        for row in range(0, len(settings), 2):
            ax.axhspan(row - 0.5, row + 0.5, color="#f5f5f5", linewidth=0, zorder=0)
        ax.axvline(0, color=style.MUTED, linewidth=1.1, zorder=1)
        style.dress_axes(ax, grid="x")
        ax.spines["left"].set_visible(False)
        ax.tick_params(axis="y", length=0)
        ax.set_yticks(range(len(settings)), settings)
        ax.set_ylim(len(settings) - 0.5, -0.5)
        # a point for each number of labels
        self.points_ = {}
        shades = np.linspace((0.62, 0.78, 0.91), (0.0, 0.20, 0.42), len(counts))  # light to dark
        colours = shades.tolist() if len(counts) > 1 else [style.OKABE_ITO[0]]
        for i, (count, colour) in enumerate(zip(counts, colours, strict=True)):
            table = self.table if count is None else self.table[self.table["n_labels"] == count]
            rows = np.array([settings.index(setting) for setting in table["setting"]])
            offset = 0.62 * ((i + 0.5) / len(counts) - 0.5)
            mean, low, high = table[["mean", "low", "high"]].to_numpy().T
            self.points_[count] = ax.errorbar(
                mean, rows + offset, xerr=np.stack([mean - low, high - mean]),
                fmt=style.MARKERS[i % len(style.MARKERS)], color=colour, markersize=6,
                markeredgecolor="white", markeredgewidth=0.7, elinewidth=1.8,
                label=None if count is None else f"{count:,}",
            )  # fmt: skip
        origin = "" if self.reference is None else f' from "{self.reference}"'
        ax.set_xlabel(f"difference in {self.metric}{origin}")
        ax.xaxis.set_major_formatter(lambda value, _: style.signed(value, "g") if value else "0")
        if counts != [None]:
            style.place_legend_above(ax, len(counts), title="labels")
