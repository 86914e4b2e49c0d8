"""Drawings of results: data in, axes out, in the manner of scikit-learn's displays."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import Any, Self

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from skastro.evaluation.label_efficiency import LabelEfficiencyCurve, label_efficiency_curve
from skastro.evaluation.label_saving import label_saving
from skastro.plots.style import INK, dress_axes, line_styles, make_axes

_METRIC_NAMES = {
    "f1_macro": "macro-F1",
    "f1_weighted": "weighted F1",
    "neg_log_loss": "\N{MINUS SIGN}log loss",
    "neg_brier_score": "\N{MINUS SIGN}Brier score",
    "roc_auc_ovr": "ROC AUC (one against rest)",
    "roc_auc_ovo": "ROC AUC (one against one)",
}

_OUTSIDE = 1e6  # the cost of a text that leaves the axes: more than that of any lines covered
_SHORT = 1.2  # an arrow over a smaller factor is all head, and lies under the markers


class LabelEfficiencyDisplay:
    """Test score against the number of labels, one line for each estimator.

    Made by `from_curve` or `from_estimators`, which draw it too.

    Parameters
    ----------
    summary : DataFrame
        As of `LabelEfficiencyCurve.summary` for one metric: columns ``estimator``,
        ``n_labels``, ``mean``, ``low``, ``high``, scores in the metric's unit; rows whose
        interval is NaN are drawn without one.
    metric : str, default="score"
        Name of the score, for the axis.
    saving : Series, default=None
        One row of `label_saving`, drawn as an arrow between the two lines.

    Attributes
    ----------
    ax_ : matplotlib Axes
    figure_ : matplotlib Figure
    lines_ : dict of str to Line2D
        The mean line of each estimator.
    bands_ : dict of str to artist
        The interval of each estimator that has one.

    Examples
    --------
    >>> import pandas as pd
    >>> summary = pd.DataFrame({
    ...     "estimator": "probe", "n_labels": [30, 100], "mean": [0.6, 0.7],
    ...     "low": [0.5, 0.65], "high": [0.7, 0.75],
    ... })
    >>> display = LabelEfficiencyDisplay(summary, metric="balanced_accuracy").plot()
    >>> display.ax_.get_ylabel()
    'balanced accuracy on unseen stamps'
    """

    def __init__(
        self, summary: pd.DataFrame, *, metric: str = "score", saving: pd.Series | None = None
    ) -> None:
        self.summary = summary
        self.metric = metric
        self.saving = saving

    @classmethod
    def from_curve(
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
            None takes the first.
        saving : tuple (method, baseline) or (method, baseline, n_labels), default=None
            Draw how many times fewer labels ``method`` needs for the score of ``baseline``
            with ``n_labels`` labels; by default the fewest at which the saving is measured
            and not a bound, or else the most at which it is a lower bound.
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
            Unknown metric or estimator, or ``n_labels`` was not measured.
        """
        metric = curve.metrics[0] if metric is None else metric
        summary = curve.summary(metric, confidence=confidence)
        arrow = None if saving is None else _pick_saving(curve, saving, metric, confidence)
        return cls(summary, metric=metric, saving=arrow).plot(**plot_params)

    @classmethod
    def from_estimators(
        cls,
        estimators: Mapping[str, Any],
        X: Any,
        y: ArrayLike,
        *,
        saving: tuple[str, str] | tuple[str, str, int] | None = None,
        ax: Any = None,
        **curve_params: Any,
    ) -> Self:
        """Measure and draw: `label_efficiency_curve`, then `from_curve`.

        Parameters
        ----------
        estimators : dict of str to estimator
        X : array-like of n rows
        y : array-like of shape (n,)
            As in `label_efficiency_curve`.
        saving : tuple, default=None
            As in `from_curve`.
        ax : matplotlib Axes, default=None
            As in `plot`.
        **curve_params
            Passed to `label_efficiency_curve`; ``label_counts`` is needed. With several
            metrics the first is drawn.

        Returns
        -------
        display : LabelEfficiencyDisplay
        """
        curve = label_efficiency_curve(estimators, X, y, **curve_params)
        return cls.from_curve(curve, saving=saving, ax=ax)

    def plot(
        self,
        ax: Any = None,
        *,
        intervals: str | None = "band",
        legend: bool | str = False,
        of: str = "stamps",
        line_params: Mapping[str, Mapping[str, Any]] | None = None,
    ) -> Self:
        """Draw into axes.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            None makes a figure of 7.2 by 4.4 inches.
        intervals : {"band", "bars"} or None, default="band"
            How the intervals are drawn.
        legend : bool or "below", default=False
            True draws a legend inside the axes, "below" one below them, for narrow figures.
            By default the names stand at the ends of the lines, right of the axes. For names
            outside of the axes a given figure needs ``layout="constrained"`` to make room.
        of : str, default="stamps"
            What was scored, for the axis.
        line_params : dict of str to dict, default=None
            Parameters of Line2D for single estimators.

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
        names = self.summary["estimator"].unique().tolist()
        _check_drawing(intervals, legend, line_params or {}, names)
        ax = make_axes(ax, "LabelEfficiencyDisplay", (7.2, 4.4))
        self.ax_, self.figure_ = ax, ax.figure
        self.lines_, self.bands_ = {}, {}
        for number, (name, style) in enumerate(zip(names, line_styles(), strict=False)):
            table = self.summary[self.summary["estimator"] == name].sort_values("n_labels")
            style["zorder"] = 4 - number / len(names)  # the first stays visible where lines meet
            params = style | dict((line_params or {}).get(name, {}))
            (self.lines_[name],) = ax.plot(table["n_labels"], table["mean"], label=name, **params)
            if intervals is not None and table["low"].notna().any():
                self.bands_[name] = _draw_interval(ax, table, self.lines_[name], intervals)
        _dress_axes(ax, np.sort(self.summary["n_labels"].unique()))
        ax.set_xlabel("labels used for training")
        ax.set_ylabel(f"{_metric_name(self.metric)} on unseen {of}")
        by_score = sorted(self.lines_.values(), key=lambda line: -line.get_ydata()[-1])
        if legend:
            _draw_legend(ax, by_score, below=legend == "below")
        else:
            _name_lines(ax, by_score)
        if self.saving is not None:
            _draw_saving(ax, self.saving, by_score)
        return self


def _pick_saving(
    curve: LabelEfficiencyCurve, saving: tuple[Any, ...], metric: str, confidence: float
) -> pd.Series:
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


def _check_drawing(
    intervals: str | None, legend: bool | str, line_params: Mapping[str, Any], names: list[str]
) -> None:
    if intervals not in ("band", "bars", None):
        raise ValueError(f"intervals={intervals!r} is unknown: choose 'band', 'bars' or None.")
    if legend not in (True, False, "below"):
        raise ValueError(f"legend={legend!r} is unknown: choose True, False or 'below'.")
    if unknown := [name for name in line_params if name not in names]:
        raise ValueError(f"line_params names {unknown[0]!r}: choose from {names}.")


def _metric_name(metric: str) -> str:
    return _METRIC_NAMES.get(metric, metric.replace("_", " "))


def _draw_interval(ax: Any, table: pd.DataFrame, line: Any, kind: str) -> Any:
    colour, x = line.get_color(), table["n_labels"]
    if kind == "band":
        return ax.fill_between(
            x, table["low"], table["high"], color=colour, alpha=0.16, linewidth=0, zorder=2
        )
    reach = [table["mean"] - table["low"], table["high"] - table["mean"]]
    return ax.errorbar(
        x, table["mean"], reach, fmt="none", ecolor=colour, elinewidth=1.1, capsize=3, zorder=2
    )


def _dress_axes(ax: Any, counts: NDArray[Any]) -> None:
    ax.set_xscale("log")
    if len(counts) > 1:
        ax.set_xlim(counts[0], counts[-1])
    width = ax.get_window_extent().width / ax.figure.dpi * 72  # in points, like the font
    shown = _spread_ticks(counts, width)
    ax.set_xticks(shown, [f"{count:,}" for count in shown])
    ax.set_xticks([], minor=True)
    dress_axes(ax)
    ax.spines["bottom"].set_position(("outward", 6))
    ax.spines["left"].set_position(("outward", 6))


def _spread_ticks(counts: NDArray[Any], width: float) -> list[int]:
    """Drop counts too close for their numbers on a logarithmic axis of ``width`` points."""
    place = np.log(counts / counts[0]) / max(np.log(counts[-1] / counts[0]), 1e-9)
    room = [(4 + 6 * len(f"{count:,}")) / width for count in counts]

    def apart(left: int, right: int) -> bool:
        return bool(place[right] - place[left] >= max(0.07, (room[left] + room[right]) / 2))

    shown = [len(counts) - 1]
    for i in range(len(counts) - 2, -1, -1):
        if apart(i, shown[-1]) and (i == 0 or apart(0, i)):
            shown.append(i)
    return counts[shown[::-1]].tolist()


def _draw_legend(ax: Any, lines: list[Any], *, below: bool) -> None:
    style = {"handlelength": 3.2, "labelcolor": INK, "edgecolor": "none", "fontsize": 9}
    if not below:
        ax.legend(handles=lines, **style)
        return
    figure = ax.figure
    for columns in range(len(lines), 0, -1):
        legend = figure.legend(handles=lines, loc="outside lower center", ncols=columns, **style)
        if columns == 1 or legend.get_window_extent().width <= figure.bbox.width:
            return
        legend.remove()


def _name_lines(ax: Any, lines: list[Any]) -> None:
    """Write the names at the ends of the lines, pushed apart where these meet."""
    ends = np.array([line.get_ydata()[-1] for line in lines])
    low, high = ax.get_ylim()
    height = ax.get_window_extent().height / ax.figure.dpi * 72  # in points, like the font
    size = 9.5
    heights = _push_apart((ends - low) / (high - low), gap=1.5 * size / height)
    for line, y in zip(lines, heights, strict=True):
        ax.annotate(
            "",
            xy=(line.get_xdata()[-1], line.get_ydata()[-1]),
            xytext=(1.06, y),
            textcoords="axes fraction",
            annotation_clip=False,
            arrowprops={
                "arrowstyle": "-", "color": line.get_color(), "linewidth": 1.1, "alpha": 0.8,
                "shrinkA": 3, "shrinkB": 6,
            },
        )  # fmt: skip
        # the marker again beside the name: in grey the colour of the leader tells nothing
        ax.plot(
            1.06, y, transform=ax.transAxes, color=line.get_color(), marker=line.get_marker(),
            markersize=line.get_markersize(), markeredgecolor="white", clip_on=False,
        )  # fmt: skip
        ax.text(
            1.08, y, line.get_label(), transform=ax.transAxes, fontsize=size, color=INK,
            va="center",
        )  # fmt: skip


def _push_apart(places: NDArray[Any], gap: float) -> NDArray[Any]:
    """Move descending places as little as possible until ``gap`` lies between neighbours."""
    # with the gaps taken out the problem is isotonic regression, solved by pooling
    shifted = places + gap * np.arange(len(places))
    pools: list[list[float]] = []
    for value in shifted:
        pools.append([value])
        while len(pools) > 1 and np.mean(pools[-2]) < np.mean(pools[-1]):
            pools[-2:] = [pools[-2] + pools[-1]]
    level = np.concatenate([np.full(len(pool), np.mean(pool)) for pool in pools])
    return level - gap * np.arange(len(places))


def _draw_saving(ax: Any, saving: pd.Series, lines: list[Any]) -> None:
    start, end, score = saving["n_labels"], saving["method_labels"], saving["baseline_score"]
    anchors = [(start, score), (end, score)]
    if not 1 / _SHORT < end / start < _SHORT:
        ax.annotate(
            "",
            xy=anchors[1],
            xytext=anchors[0],
            arrowprops={
                "arrowstyle": "-|>", "color": INK, "linewidth": 1.3, "shrinkA": 4, "shrinkB": 0,
                "mutation_scale": 12,
            },
            zorder=5,
        )  # fmt: skip
    text = ax.annotate(
        _saving_text(saving),
        xy=(start, score),
        xytext=(0, 0),
        textcoords="offset points",
        fontsize=9,
        color=INK,
        zorder=6,
    )
    _find_room(ax, text, lines, anchors)


def _find_room(ax: Any, text: Any, lines: list[Any], anchors: list[tuple[float, float]]) -> None:
    """Move a text to where it covers least of the lines, above or below its anchors.

    What stands in brackets goes to a second line where one line does not fit into the axes.
    """
    # a constrained layout moves the axes at the first drawing
    ax.figure.canvas.figure.draw_without_rendering()
    dots = np.concatenate([_dots_along(line) for line in lines])
    inside = ax.get_window_extent()

    def cost(place: tuple[Any, ...]) -> float:
        _place_text(text, *place)
        box = text.get_window_extent().padded(3)
        covered = ((dots > box.min) & (dots < box.max)).all(axis=1).sum()
        leaves = (box.min < inside.min).any() or (box.max > inside.max).any()
        return float(covered + _OUTSIDE * leaves)

    places = list(itertools.product((5, 14, 24), anchors, (1, -1), (1, -1)))
    costs = [cost(place) for place in places]
    if min(costs) >= _OUTSIDE:
        text.set_text(text.get_text().replace(" (", "\n("))
        costs = [cost(place) for place in places]
    _place_text(text, *places[int(np.argmin(costs))])


def _place_text(
    text: Any, distance: float, anchor: tuple[float, float], right: int, up: int
) -> None:
    text.xy = anchor
    text.set_position((6 * right, distance * up))
    text.set(ha="left" if right > 0 else "right", va="bottom" if up > 0 else "top")


def _dots_along(line: Any) -> NDArray[np.float64]:
    corners = line.axes.transData.transform(line.get_xydata())
    along = np.linspace(0, len(corners) - 1, 60 * len(corners))
    return np.column_stack([np.interp(along, range(len(corners)), c) for c in corners.T])


def _saving_text(saving: pd.Series) -> str:
    values = np.array([saving["saving"], saving["low"], saving["high"]], dtype=float)
    bound, kind = saving["bound"], "fewer"
    if values[0] < 1:
        with np.errstate(divide="ignore"):
            values = 1 / values[[0, 2, 1]]
        bound, kind = {"<=": ">=", ">=": "<="}.get(bound, bound), "more"
    sign = {"=": "", ">=": "\N{GREATER-THAN OR EQUAL TO} ", "<=": "\N{LESS-THAN OR EQUAL TO} "}[
        bound
    ]
    factor, low, high = (f"{v:.1f}" if v < 9.95 else f"{v:,.0f}" for v in values)
    text = f"{sign}{factor}\N{MULTIPLICATION SIGN} {kind} labels"
    if bound != "=" or np.isnan(values).any() or (values[1] == 0 and np.isinf(values[2])):
        return text
    if np.isinf(values[2]):
        return f"{text} (at least {low})"
    return f"{text} (at most {high})" if values[1] == 0 else f"{text} ({low} to {high})"
