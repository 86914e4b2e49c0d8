"""Draw how accurate a classifier is now, and how accurate more labels would make it."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass
from typing import Any, Self

import numpy as np
import pandas as pd

from skastro.evaluation.label_forecast import LabelForecast
from skastro.plots import style


@dataclass(eq=False, repr=False)
class LabelForecastDisplay(style.Display):
    """Balanced accuracy now, and its forecast against the number of labels.

    `from_result` makes and draws it. A new figure is 6.4 by 4.2 inches.

    Parameters
    ----------
    forecast : LabelForecast
    history : DataFrame, default=None
        What was estimated with fewer labels, or measured with more: columns ``n_labels`` and
        ``value`` (balanced accuracy).

    Attributes
    ----------
    ax_, figure_ : matplotlib Axes and Figure
    now_ : errorbar container
        The present accuracy with its interval.
    line_ : Line2D
        Expected accuracy.
    band_ : PolyCollection
        Its interval.

    Examples
    --------
    >>> from skastro.evaluation.label_forecast import AccuracyEstimate
    >>> table = pd.DataFrame({
    ...     "n_labels": [120, 300], "mean": [0.83, 0.87], "low": [0.76, 0.79], "high": [0.9, 0.93],
    ... })
    >>> forecast = LabelForecast(AccuracyEstimate(0.8, 0.7, 0.88, 0.05, 10), 60, table, 0.9)
    >>> display = LabelForecastDisplay(forecast).plot()
    >>> display.ax_.get_title(loc="left")
    '0.80 now; 60 more labels: 0.76 to 0.90'
    """

    forecast: LabelForecast
    _: KW_ONLY
    history: pd.DataFrame | None = None

    @classmethod
    def from_result(
        cls, forecast: LabelForecast, *, history: pd.DataFrame | None = None, ax: Any = None
    ) -> Self:
        """Draw a forecast.

        Parameters
        ----------
        forecast : LabelForecast
            Result of `forecast_labels`.
        history : DataFrame, default=None
            Points to draw, too, as for the class.
        ax : matplotlib Axes, default=None
            Axes to draw into. By default, a new figure is made.

        Returns
        -------
        display : LabelForecastDisplay

        Raises
        ------
        ValueError
            There were too few labels for a forecast.
        """
        return cls(forecast, history=history).plot(ax)

    def _draw(self, ax: Any) -> None:
        now, n = self.forecast.now, self.forecast.n_labels
        if np.isnan(now.value):
            raise ValueError("forecast has no value: there are too few labels, add some.")
        # the forecast begins at the present accuracy
        start = {"n_labels": n, "mean": now.value, "low": now.low, "high": now.high}
        table = self.forecast.table
        more = table[table["n_labels"] > n].sort_values("n_labels")
        table = pd.concat([pd.DataFrame([start]), more], ignore_index=True)
        colour, share = style.OKABE_ITO[0], f"{self.forecast.coverage:.0%} interval"
        self.band_ = ax.fill_between(
            table["n_labels"], table["low"], table["high"], color=colour, alpha=0.16, linewidth=0,
            label=share,
        )  # fmt: skip
        (self.line_,) = ax.plot(
            table["n_labels"], table["mean"], color=colour, linewidth=1.8, linestyle=(0, (5, 1.6)),
            label="forecast",
        )  # fmt: skip
        reach = [[now.value - now.low], [now.high - now.value]]
        self.now_ = ax.errorbar(
            [n], [now.value], reach, fmt="o", color=colour, markersize=7, markeredgecolor="white",
            elinewidth=1.4, capsize=3, zorder=4, label="now", clip_on=False,
        )  # fmt: skip
        if self.history is not None:
            ax.plot(
                self.history["n_labels"], self.history["value"], linestyle="none", marker="D",
                color=style.OKABE_ITO[1], markersize=6, markeredgecolor="white", zorder=3,
                label="measured",
            )  # fmt: skip
        style.dress_axes(ax)
        ax.set(xlabel="labels", ylabel="balanced accuracy")
        ax.set_title(self.forecast.summary(), loc="left", fontsize=10.5)
        ax.legend(loc="lower right", edgecolor="none", labelcolor=style.INK, fontsize=9)
