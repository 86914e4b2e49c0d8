"""Drawings of scores: by magnitude, by setting, and of probabilities against truth."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Self

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from skastro.evaluation.calibration import accuracy_by_magnitude, reliability_curve, top_labels
from skastro.plots.style import (
    FAINT,
    INK,
    MARKERS,
    MINUS,
    MUTED,
    OKABE_ITO,
    dress_axes,
    line_styles,
    make_axes,
    with_unit,
)

_ROW_HEIGHT = 0.34  # inches, of one interval of an ablation
_FOOT = 0.2  # of the axes' height, for the numbers of objects
_CONFIDENCES = 20  # bars of the histogram below a reliability curve


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
            _legend_above(ax, len(self.scores))
        return self


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
            _legend_above(ax, len(counts), title="labels")
        return self


class ReliabilityDisplay:
    """How often predictions are right against how probable they were said to be.

    Made by `from_predictions` or `from_estimator`, which draw it too.

    Parameters
    ----------
    table : DataFrame
        As of `reliability_curve`.
    confidences : array of shape (n,)
        Probabilities of the predicted classes, for the histogram.
    name : str, default=None
        Of the classifier, for the title.

    Attributes
    ----------
    error : float
        The expected calibration error.
    ax_ : matplotlib Axes
    figure_ : matplotlib Figure
    points_ : errorbar container
        The bins with their 95 % intervals.

    Examples
    --------
    >>> y = ["star", "star", "galaxy", "star"] * 10
    >>> probabilities = [[0.4, 0.6], [0.1, 0.9], [0.4, 0.6], [0.1, 0.9]] * 10
    >>> display = ReliabilityDisplay.from_predictions(y, probabilities, n_bins=2)
    >>> display.ax_.get_title(loc="left")
    'expected calibration error 0.100'
    """

    def __init__(
        self, table: pd.DataFrame, confidences: NDArray[np.float64], *, name: str | None = None
    ) -> None:
        self.table = table
        self.confidences = confidences
        self.name = name

    @classmethod
    def from_predictions(
        cls,
        y_true: ArrayLike,
        probabilities: ArrayLike,
        *,
        classes: ArrayLike | None = None,
        n_bins: int = 10,
        name: str | None = None,
        **plot_params: Any,
    ) -> Self:
        """Bin and draw.

        Parameters
        ----------
        y_true : array-like of shape (n,)
        probabilities : array-like or DataFrame of shape (n, n_classes)
        classes : array-like of shape (n_classes,), default=None
        n_bins : int, default=10
            As in `expected_calibration_error`.
        name : str, default=None
            Of the classifier, for the title.
        **plot_params
            Passed to `plot`.

        Returns
        -------
        display : ReliabilityDisplay

        Raises
        ------
        ValueError
            As in `expected_calibration_error`.
        """
        table = reliability_curve(y_true, probabilities, classes=classes, n_bins=n_bins)
        confidences, _ = top_labels(y_true, probabilities, classes)
        return cls(table, confidences, name=name).plot(**plot_params)

    @classmethod
    def from_estimator(cls, classifier: Any, X: Any, y: ArrayLike, **params: Any) -> Self:
        """Predict, bin and draw.

        Parameters
        ----------
        classifier : fitted classifier with ``predict_proba``
        X : array-like of n rows
            Objects that it has not seen.
        y : array-like of shape (n,)
        **params
            Passed to `from_predictions`.

        Returns
        -------
        display : ReliabilityDisplay
        """
        probabilities = classifier.predict_proba(X)
        return cls.from_predictions(y, probabilities, classes=classifier.classes_, **params)

    @property
    def error(self) -> float:
        """Mean gap between accuracy and probability over all objects."""
        gaps = (self.table["accuracy"] - self.table["confidence"]).abs()
        return float(np.average(gaps, weights=self.table["n"]))

    def plot(self, ax: Any = None) -> Self:
        """Draw into axes.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            None makes a figure of 4.8 by 4.8 inches.

        Returns
        -------
        display : ReliabilityDisplay

        Raises
        ------
        ImportError
            matplotlib is not installed.
        """
        ax = make_axes(ax, "ReliabilityDisplay", (4.8, 4.8))
        self.ax_, self.figure_ = ax, ax.figure
        table = self.table
        _draw_confidences(ax, self.confidences)
        ax.plot([0, 1], [0, 1], color=MUTED, linewidth=1, linestyle=(0, (4, 3)), zorder=2)
        reach = [table["accuracy"] - table["low"], table["high"] - table["accuracy"]]
        self.points_ = ax.errorbar(
            table["confidence"], table["accuracy"], yerr=np.maximum(reach, 0), fmt="-o",
            color=OKABE_ITO[0], markersize=6, markeredgecolor="white", markeredgewidth=0.8,
            elinewidth=1.4, linewidth=1.4, clip_on=False, zorder=3,
        )  # fmt: skip
        dress_axes(ax, grid="both")
        start = _axis_start(min(self.confidences.min(), table["low"].min()))
        ax.set(xlim=(start, 1), ylim=(start, 1))
        ax.set_xlabel("probability of the predicted class")
        ax.set_ylabel("share that is right")
        title = f"expected calibration error {self.error:.3f}"
        ax.set_title(f"{self.name}: {title}" if self.name else title, loc="left", fontsize=10.5)
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
    counts_ax.set_ylim(0, most / _FOOT)
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
    bottom = (low - 1.1 * _FOOT * high) / (1 - 1.1 * _FOOT)
    ax.set_ylim(bottom, high + 0.02 * (high - bottom))
    ax.set_yticks([tick for tick in ax.get_yticks() if max(bottom, 0) <= tick <= min(high, 1)])


def _legend_above(ax: Any, entries: int, **params: Any) -> None:
    ax.legend(
        loc="lower left", bbox_to_anchor=(-0.02, 1.0), ncols=min(entries, 4), frameon=False,
        handlelength=2.6, labelcolor=INK, fontsize=9, title_fontsize=9, alignment="left",
        columnspacing=1.4, **params,
    )  # fmt: skip


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


def _draw_confidences(ax: Any, confidences: NDArray[Any]) -> None:
    """Draw a histogram at the foot of the axes, without a scale."""
    counts, edges = np.histogram(confidences, bins=_CONFIDENCES, range=(0, 1))
    ax.bar(
        edges[:-1], _FOOT * counts / counts.max(), width=np.diff(edges), align="edge",
        color="#e6e6e6", edgecolor="white", linewidth=0.8, zorder=1,
        transform=ax.get_xaxis_transform(),
    )  # fmt: skip
    ax.text(
        0.06, 0.014, "grey: number of objects", transform=ax.transAxes, fontsize=8, color=MUTED
    )  # fmt: skip


def _signed_tick(value: float, _: int) -> str:
    return f"{value:+g}".replace("-", MINUS) if value else "0"


def _axis_start(lowest: float) -> float:
    return max(0.0, np.floor(10 * lowest) / 10)
