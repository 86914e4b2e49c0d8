"""Draw label-efficiency curves."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import KW_ONLY, dataclass
from typing import Any, Self

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from sklearn.isotonic import isotonic_regression

from skastro.evaluation.label_efficiency import (
    LabelEfficiencyCurve,
    label_efficiency_curve,
    metric_name,
)
from skastro.evaluation.label_saving import label_saving
from skastro.plots import style

_NAME_SIZE = 9.5  # points, of the names at the ends of the lines
_OUTSIDE_COST = 1e6  # cost of a text that reaches out of the axes: higher than any other
_MIN_SAVING = 1.05  # a smaller factor is no saving
_AXIS_DISTANCE = 6  # points, between the axes and the lines through them
_LONE_STEP = 3.0  # factor between the place of 0 labels and the only other number
_MIN_ARROW_FACTOR = 1.2  # for smaller savings, the arrow would be shorter than its head


@dataclass(eq=False, repr=False)
class LabelEfficiencyDisplay:
    """Test score against the number of labels, one line for each estimator.

    `from_result` or `from_estimator` make and draw it.

    Parameters
    ----------
    summary : DataFrame
        Result of `LabelEfficiencyCurve.summary` for one metric: columns ``estimator``,
        ``n_labels``, ``mean``, ``low``, ``high``, in the unit of the metric. Intervals that are
        NaN are not drawn. 0 labels have a place of their own at the left of the logarithmic axis.
    metric : str, default="score"
        Name of the score, for the axis.
    saving : Series, default=None
        One row of `label_saving`, drawn as an arrow between the two lines.

    Attributes
    ----------
    ax_, figure_ : matplotlib Axes and Figure
    lines_ : dict of str to Line2D
        Line of the mean scores of each estimator.
    bands_ : dict of str to artist
        Intervals of each estimator that has any.

    Examples
    --------
    >>> summary = pd.DataFrame({
    ...     "estimator": "probe", "n_labels": [30, 100], "mean": [0.6, 0.7],
    ...     "low": [0.5, 0.65], "high": [0.7, 0.75],
    ... })
    >>> display = LabelEfficiencyDisplay(summary, metric="balanced_accuracy").plot()
    >>> display.ax_.get_ylabel()
    'balanced accuracy on unseen stamps'
    """

    summary: pd.DataFrame
    _: KW_ONLY
    metric: str = "score"
    saving: pd.Series | None = None

    @classmethod
    def from_result(
        cls,
        curve: LabelEfficiencyCurve,
        *,
        metric: str | None = None,
        saving: tuple[str, str] | tuple[str, str, int] | None = None,
        confidence: float = 0.95,
        **plot_params: Any,
    ) -> Self:
        """Draw a measured curve.

        Parameters
        ----------
        curve : LabelEfficiencyCurve
        metric : str, default=None
            Metric to draw, by default the first.
        saving : tuple (method, baseline) or (method, baseline, n_labels), default=None
            Draw how many times fewer labels ``method`` needs to reach the score of ``baseline``
            with ``n_labels`` labels. By default, ``n_labels`` is the smallest number at which
            the saving is measured and not a bound, or else the largest at which it is a lower
            bound.
        confidence : float in (0, 1), default=0.95
            Probability content of all intervals.
        **plot_params
            Passed to `plot`.

        Returns
        -------
        display : LabelEfficiencyDisplay

        Raises
        ------
        ValueError
            A metric or estimator is unknown, or ``n_labels`` was not measured.
        """
        metric = curve.metrics[0] if metric is None else metric
        summary = curve.summary(metric, confidence=confidence)
        row = None if saving is None else _choose_saving(curve, saving, metric, confidence)
        return cls(summary, metric=metric, saving=row).plot(**plot_params)

    @classmethod
    def from_estimator(
        cls,
        estimators: Any,
        X: Any,
        y: ArrayLike,
        *,
        saving: tuple[str, str] | tuple[str, str, int] | None = None,
        ax: Any = None,
        **curve_params: Any,
    ) -> Self:
        """Measure with `label_efficiency_curve`, and draw.

        Parameters
        ----------
        estimators : estimator, or dict of str to estimator
            One estimator, which is named after its class, or several by name.
        X : array-like of n rows
        y : array-like of shape (n,)
        saving : tuple, default=None
            Saving to draw, as in `from_result`.
        ax : matplotlib Axes, default=None
            Axes to draw into. By default, a new figure is made.
        **curve_params
            Passed to `label_efficiency_curve`; ``label_counts`` is required. With several
            metrics the first is drawn.

        Returns
        -------
        display : LabelEfficiencyDisplay
        """
        if not isinstance(estimators, Mapping):
            estimators = {type(estimators).__name__: estimators}
        curve = label_efficiency_curve(estimators, X, y, **curve_params)
        return cls.from_result(curve, saving=saving, ax=ax)

    def plot(
        self,
        ax: Any = None,
        *,
        intervals: str | None = "band",
        legend: bool | str | None = None,
        of: str = "stamps",
        line_params: Mapping[str, Mapping[str, Any]] | None = None,
    ) -> Self:
        """Draw into axes.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Axes to draw into. By default, a new figure of 7.2 by 4.4 inches is made.
        intervals : {"band", "bars"} or None, default="band"
            How the intervals are drawn; None draws none.
        legend : bool, "below" or None, default=None
            True draws a legend inside the axes, "below" one below them, for narrow figures.
            False writes the names at the ends of the lines, right of the axes. None does that if
            the figure has ``layout="constrained"``, which makes room for the names, and draws a
            legend inside the axes otherwise.
        of : str, default="stamps"
            Objects that were scored, for the axis.
        line_params : dict of str to dict, default=None
            Parameters of Line2D by estimator.

        Returns
        -------
        display : LabelEfficiencyDisplay

        Raises
        ------
        ImportError
            matplotlib is not installed.
        ValueError
            ``intervals`` or ``legend`` is unknown, or ``line_params`` names no estimator.
        """
        names, line_params = self.summary["estimator"].unique().tolist(), line_params or {}
        if intervals not in ("band", "bars", None):
            raise ValueError(f"intervals={intervals!r} is unknown: choose 'band', 'bars' or None.")
        if legend not in (True, False, "below", None):
            raise ValueError(f"legend={legend!r} is unknown: choose True, False, 'below' or None.")
        if unknown := [name for name in line_params if name not in names]:
            raise ValueError(f"line_params names {unknown[0]!r}: choose from {names}.")
        self.ax_ = ax = style.make_axes(ax, (7.2, 4.4))
        self.figure_ = ax.figure
        self.lines_, self.bands_ = {}, {}
        counts = np.sort(self.summary["n_labels"].unique())
        summary = self.summary.assign(place=_place(self.summary["n_labels"], counts))
        for number, (name, look) in enumerate(zip(names, style.line_styles(), strict=False)):
            table = summary[summary["estimator"] == name].sort_values("n_labels")
            look["zorder"] = 4 - number / len(names)  # the first stays visible where lines meet
            look |= dict(line_params.get(name, {}))
            (self.lines_[name],) = ax.plot(table["place"], table["mean"], label=name, **look)
            if intervals is not None and table["low"].notna().any():
                self.bands_[name] = _draw_interval(ax, table, self.lines_[name], intervals)
        _set_label_axis(ax, counts)
        style.dress_axes(ax)
        ax.spines[["bottom", "left"]].set_position(("outward", _AXIS_DISTANCE))
        ax.set_ylabel(f"{metric_name(self.metric)} on unseen {of}")
        # names of the lines, that with the best score at the end first
        by_score = sorted(self.lines_.values(), key=lambda line: -line.get_ydata()[-1])
        if legend is None:
            legend = not style.has_room_outside(ax)
        if legend:
            _draw_legend(ax, by_score, below=legend == "below")
        else:
            _name_lines(ax, by_score)
        if self.saving is not None:
            _draw_saving(ax, self.saving, by_score)
        return self


def _choose_saving(
    curve: LabelEfficiencyCurve, saving: tuple[Any, ...], metric: str, confidence: float
) -> pd.Series:
    """Return the row of `label_saving` that the argument ``saving`` asks for."""
    method, baseline, *count = saving
    table = label_saving(curve, method, baseline, metric=metric, confidence=confidence)
    if count:
        chosen = table[table["n_labels"] == count[0]]
        if chosen.empty:
            raise ValueError(
                f"saving asks for {count[0]} labels of {baseline!r}: "
                f"choose from {table['n_labels'].tolist()}."
            )
        return chosen.iloc[0]
    measured, at_least = (table[table["bound"] == bound] for bound in ("=", ">="))
    if measured.empty and not at_least.empty:
        return at_least.iloc[-1]
    return (table if measured.empty else measured).iloc[0]


def _draw_interval(ax: Any, table: pd.DataFrame, line: Any, kind: str) -> Any:
    """Draw the intervals of one estimator as a band or as bars."""
    colour, x = line.get_color(), table["place"]
    if kind == "band":
        return ax.fill_between(
            x, table["low"], table["high"], color=colour, alpha=0.16, linewidth=0, zorder=2
        )
    reach = [table["mean"] - table["low"], table["high"] - table["mean"]]
    return ax.errorbar(
        x, table["mean"], reach, fmt="none", ecolor=colour, elinewidth=1.1, capsize=3, zorder=2
    )


def _place(n_labels: Any, counts: NDArray[Any]) -> NDArray[np.float64]:
    """Return places on the logarithmic axis; that of 0 is one step to the left of the others."""
    positive = counts[counts > 0]
    step = positive[1] / positive[0] if len(positive) > 1 else _LONE_STEP
    zero = positive[0] / step if len(positive) else 1.0
    return np.where(np.asarray(n_labels) > 0, n_labels, zero)


def _set_label_axis(ax: Any, counts: NDArray[Any]) -> None:
    """Make the x axis logarithmic, with ticks at the numbers of labels."""
    places = _place(counts, counts)
    ax.set_xscale("log")
    ax.set_xlabel("labels used for training")
    if len(counts) > 1:
        ax.set_xlim(places[0], places[-1])
    shown = _choose_ticks(places, [f"{count:,}" for count in counts], _size_in_points(ax)[0])
    ax.set_xticks(places[shown], [f"{count:,}" for count in counts[shown]])
    ax.set_xticks([], minor=True)
    if counts[0] == 0 and len(counts) > 1:  # the axis is broken there
        ax.annotate(
            "//", (np.sqrt(places[0] * places[1]), 0), (0, -_AXIS_DISTANCE),
            xycoords=ax.get_xaxis_transform(), textcoords="offset points", fontsize=8,
            color=style.INK, ha="center", va="center", annotation_clip=False,
            bbox={"facecolor": ax.figure.get_facecolor(), "edgecolor": "none", "pad": 0.5},
        )  # fmt: skip


def _size_in_points(ax: Any) -> NDArray[np.float64]:
    """Return width and height of axes in points, the unit of font sizes."""
    return ax.get_window_extent().size / ax.figure.dpi * 72


def _choose_ticks(places: NDArray[Any], names: list[str], width: float) -> list[int]:
    """Drop ticks whose names would be too close on an axis of ``width`` points."""
    position = np.log(places / places[0]) / max(np.log(places[-1] / places[0]), 1e-9)
    text_width = [(4 + 6 * len(name)) / width for name in names]

    def apart(left: int, right: int) -> bool:
        needed = max(0.07, (text_width[left] + text_width[right]) / 2)
        return bool(position[right] - position[left] >= needed)

    # from the largest count to the smallest, which both have a tick
    shown = [len(places) - 1]
    for i in range(len(places) - 2, -1, -1):
        if apart(i, shown[-1]) and (i == 0 or apart(0, i)):
            shown.append(i)
    return shown[::-1]


def _draw_legend(ax: Any, lines: list[Any], *, below: bool) -> None:
    """Draw a legend inside the axes, or below them in as many columns as fit."""
    look = {"handlelength": 3.2, "labelcolor": style.INK, "edgecolor": "none", "fontsize": 9}
    if not below:
        ax.legend(handles=lines, **look)
        return
    for columns in range(len(lines), 0, -1):
        legend = ax.figure.legend(handles=lines, loc="outside lower center", ncols=columns, **look)
        if columns == 1 or legend.get_window_extent().width <= ax.figure.bbox.width:
            return
        legend.remove()


def _name_lines(ax: Any, lines: list[Any]) -> None:
    """Write the names at the ends of the lines, pushed apart where the lines meet."""
    ends = np.array([line.get_ydata()[-1] for line in lines])
    low, high = ax.get_ylim()
    heights = _push_apart((ends - low) / (high - low), 1.5 * _NAME_SIZE / _size_in_points(ax)[1])
    for line, y in zip(lines, heights, strict=True):
        ax.annotate(
            "", xy=(line.get_xdata()[-1], line.get_ydata()[-1]), xytext=(1.06, y),
            textcoords="axes fraction", annotation_clip=False,
            arrowprops={
                "arrowstyle": "-", "color": line.get_color(), "linewidth": 1.1, "alpha": 0.8,
                "shrinkA": 3, "shrinkB": 6,
            },
        )  # fmt: skip
        # the marker is repeated next to the name: printed in grey, the colour is not enough
        ax.plot(
            1.06, y, transform=ax.transAxes, color=line.get_color(), marker=line.get_marker(),
            markersize=line.get_markersize(), markeredgecolor="white", clip_on=False,
        )  # fmt: skip
        ax.text(
            1.08, y, line.get_label(), transform=ax.transAxes, fontsize=_NAME_SIZE, color=style.INK,
            va="center",
        )  # fmt: skip


def _push_apart(positions: NDArray[Any], gap: float) -> NDArray[Any]:
    """Move descending positions as little as possible until ``gap`` lies between neighbours."""
    # without the gaps, the nearest descending positions are an isotonic regression
    gaps = gap * np.arange(len(positions))
    return isotonic_regression(positions + gaps, increasing=False) - gaps


def _draw_saving(ax: Any, saving: pd.Series, lines: list[Any]) -> None:
    """Draw an arrow from the labels of the baseline to those of the method, and the factor."""
    start, end, score = saving["n_labels"], saving["method_labels"], saving["baseline_score"]
    anchors = [(start, score), (end, score)]
    if not 1 / _MIN_ARROW_FACTOR < end / start < _MIN_ARROW_FACTOR:
        ax.annotate(
            "", xy=anchors[1], xytext=anchors[0], zorder=5,
            arrowprops={
                "arrowstyle": "-|>", "color": style.INK, "linewidth": 1.3, "shrinkA": 4,
                "shrinkB": 0, "mutation_scale": 12,
            },
        )  # fmt: skip
    text = ax.annotate(
        _saving_text(saving), xy=(start, score), xytext=(0, 0), textcoords="offset points",
        fontsize=9, color=style.INK, zorder=6,
    )  # fmt: skip
    _place_text(ax, text, lines, anchors)


def _place_text(ax: Any, text: Any, lines: list[Any], anchors: list[tuple[float, float]]) -> None:
    """Move a text above or below one of the anchors, to where it covers the lines least.

    If one line of text does not fit into the axes, the part in brackets goes to a second line.
    """
    # a constrained layout moves the axes at the first drawing
    ax.figure.canvas.figure.draw_without_rendering()
    paths = [line.get_transform().transform_path(line.get_path()) for line in lines]
    dots = np.concatenate([path.interpolated(60).vertices for path in paths])
    inside = ax.get_window_extent()

    def move(distance: float, anchor: tuple[float, float], right: int, up: int) -> float:
        """Move the text, and return the cost of its new position."""
        text.xy = anchor
        text.set_position((6 * right, distance * up))
        text.set(ha="left" if right > 0 else "right", va="bottom" if up > 0 else "top")
        box = text.get_window_extent().padded(3)
        n_covered = ((dots > box.min) & (dots < box.max)).all(axis=1).sum()
        reaches_out = (box.min < inside.min).any() or (box.max > inside.max).any()
        return float(n_covered + _OUTSIDE_COST * reaches_out)

    places = list(itertools.product((5, 14, 24), anchors, (1, -1), (1, -1)))
    costs = [move(*place) for place in places]
    if min(costs) >= _OUTSIDE_COST:
        text.set_text(text.get_text().replace(" (", "\n("))
        costs = [move(*place) for place in places]
    move(*places[int(np.argmin(costs))])


def _saving_text(saving: pd.Series) -> str:
    """Return a text such as "2.0x fewer labels (1.5 to 2.5)", or "more" for a saving below 1."""
    values = np.array([saving["saving"], saving["low"], saving["high"]], dtype=float)
    bound, noun = saving["bound"], "fewer labels"
    if values[0] < 1:
        with np.errstate(divide="ignore"):
            values = 1 / values[[0, 2, 1]]
        bound, noun = {"<=": ">=", ">=": "<="}.get(bound, bound), "more labels"
    if bound == ">=":  # a bound counts as far as its interval confirms it
        values[0] = np.fmin(values[0], values[1])
        if values[0] < _MIN_SAVING:
            return f"{noun}, not certain"
    signs = {"=": "", ">=": "\N{GREATER-THAN OR EQUAL TO} ", "<=": "\N{LESS-THAN OR EQUAL TO} "}
    factor, low, high = (f"{v:.1f}" if v < 9.95 else f"{v:,.0f}" for v in values)
    text = f"{signs[bound]}{factor}\N{MULTIPLICATION SIGN} {noun}"
    if bound != "=" or np.isnan(values).any() or (values[1] == 0 and np.isinf(values[2])):
        return text
    if np.isinf(values[2]):
        return f"{text} (at least {low})"
    return f"{text} (at most {high})" if values[1] == 0 else f"{text} ({low} to {high})"
