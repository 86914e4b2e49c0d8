"""Draw accuracy by magnitude."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import KW_ONLY, dataclass
from typing import Any, Self

import pandas as pd
from numpy.typing import ArrayLike

from skastro.evaluation.calibration import accuracy_by_magnitude
from skastro.plots import style


@dataclass(eq=False, repr=False)
class MagnitudeDisplay(style.Display):
    """Accuracy by magnitude, one line for each classifier, above the numbers of objects.

    `from_predictions` or `from_estimator` make and draw it. A new figure is 6.4 by 4.2 inches.

    Parameters
    ----------
    scores : dict of str to DataFrame
        Results of `accuracy_by_magnitude` by classifier, all with the same bins.
    name : str, default="magnitude"
        Name of the magnitude, for the axis.
    unit : str or None, default="mag"
        Unit of the magnitude, for the axis.
    score_name : str, default="balanced accuracy"
        Name of the score, for the axis.

    Attributes
    ----------
    ax_, figure_ : matplotlib Axes and Figure
    lines_ : dict of str to Line2D
        Line of each classifier.
    bands_ : dict of str to artist
        95 % intervals of each classifier.
    counts_ax_ : matplotlib Axes
        Axes of the numbers of objects, with their scale on the right.

    Examples
    --------
    >>> y = ["star", "galaxy"] * 20
    >>> predicted = ["star", "galaxy"] * 10 + ["star"] * 20
    >>> magnitude = [15.0] * 20 + [22.0] * 20
    >>> display = MagnitudeDisplay.from_predictions(y, {"probe": predicted}, magnitude, bins=2)
    >>> display.lines_["probe"].get_ydata()
    array([1. , 0.5])
    """

    scores: Mapping[str, pd.DataFrame]
    _: KW_ONLY
    name: str = "magnitude"
    unit: str | None = "mag"
    score_name: str = "balanced accuracy"

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
        y_pred : array-like of shape (n,), or dict of str to array-like of shape (n,)
            Predictions of one classifier, or of several by name.
        magnitude : array-like of shape (n,)
            Magnitudes, NaN where not measured.
        bins : int or sequence of float, default=8
            Number of bins, or their edges, as in `accuracy_by_magnitude`.
        balanced : bool, default=True
            Whether the score is the balanced accuracy, or else the accuracy.
        name : str, default="magnitude"
            Name of the magnitude, for the axis.
        unit : str or None, default="mag"
            Unit of the magnitude, for the axis.
        **plot_params
            Passed to `plot`.

        Returns
        -------
        display : MagnitudeDisplay

        Raises
        ------
        ValueError
            `accuracy_by_magnitude` refuses the data.
        """
        by_classifier = y_pred if isinstance(y_pred, Mapping) else {"classifier": y_pred}
        scores = {
            classifier: accuracy_by_magnitude(y_true, y, magnitude, bins=bins, balanced=balanced)
            for classifier, y in by_classifier.items()
        }
        score_name = "balanced accuracy" if balanced else "accuracy"
        return cls(scores, name=name, unit=unit, score_name=score_name).plot(**plot_params)

    @classmethod
    def from_estimator(
        cls, classifier: Any, X: Any, y: ArrayLike, magnitude: ArrayLike, **params: Any
    ) -> Self:
        """Predict classes, measure with `accuracy_by_magnitude`, and draw.

        Parameters
        ----------
        classifier : fitted classifier, or dict of str to fitted classifier
        X : array-like of n rows
            Objects that the classifiers were not fitted on.
        y : array-like of shape (n,)
            True classes.
        magnitude : array-like of shape (n,)
            Magnitudes, NaN where not measured.
        **params
            Passed to `from_predictions`.

        Returns
        -------
        display : MagnitudeDisplay
        """
        if not isinstance(classifier, Mapping):
            classifier = {type(classifier).__name__: classifier}
        predicted = {name: fitted.predict(X) for name, fitted in classifier.items()}
        return cls.from_predictions(y, predicted, magnitude, **params)

    def _draw(self, ax: Any) -> None:
        self.lines_, self.bands_ = {}, {}
        self.counts_ax_ = _draw_counts(ax, next(iter(self.scores.values())))
        for (name, scores), look in zip(self.scores.items(), style.line_styles(), strict=False):
            (self.lines_[name],) = ax.plot(scores["magnitude"], scores["score"], label=name, **look)
            self.bands_[name] = ax.fill_between(
                scores["magnitude"], scores["low"], scores["high"], color=look["color"],
                alpha=0.16, linewidth=0, zorder=1.5,
            )  # fmt: skip
        style.dress_axes(ax)
        _limit_axes(ax, list(self.scores.values()))
        ax.set(xlabel=style.with_unit(self.name, self.unit), ylabel=self.score_name)
        if len(self.scores) > 1:
            style.place_legend_above(ax, len(self.scores))


def _draw_counts(ax: Any, table: pd.DataFrame) -> Any:
    """Draw the number of objects in each bin as pale bars at the bottom of the axes."""
    counts_ax = ax.twinx()
    counts_ax.set_zorder(ax.get_zorder() - 1)
    ax.patch.set_visible(False)
    counts_ax.bar(
        table["from"], table["n"], width=table["to"] - table["from"], align="edge",
        color="#e9e9e9", edgecolor="white", linewidth=1,
    )  # fmt: skip
    most = int(table["n"].max())
    counts_ax.set_ylim(0, most / style.COUNTS_SHARE)
    counts_ax.set_yticks([0, most], ["0", f"{most:,}"], color=style.MUTED, fontsize=8.5)
    counts_ax.set_ylabel("objects", color=style.MUTED, loc="bottom", fontsize=9, labelpad=-2)
    counts_ax.tick_params(axis="y", color=style.FAINT, length=3)
    counts_ax.spines[:].set_visible(False)
    return counts_ax


def _limit_axes(ax: Any, scores: list[pd.DataFrame]) -> None:
    """Show the outer bins as wide as the others, and the intervals above the bars."""
    table = scores[0]
    width = (table["to"] - table["from"]).median()
    first, last = table.iloc[0], table.iloc[-1]
    ax.set_xlim(
        max(first["from"], min(first["to"] - width, first["magnitude"] - width / 4)),
        min(last["to"], max(last["from"] + width, last["magnitude"] + width / 4)),
    )
    # the lowest interval ends above the bars
    low = min(table["low"].min() for table in scores)
    high = max(table["high"].max() for table in scores)
    bottom = (low - 1.1 * style.COUNTS_SHARE * high) / (1 - 1.1 * style.COUNTS_SHARE)
    ax.set_ylim(bottom, high + 0.02 * (high - bottom))
    ax.set_yticks([tick for tick in ax.get_yticks() if max(bottom, 0) <= tick <= min(high, 1)])
