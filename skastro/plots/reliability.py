"""Draw reliability curves."""

from __future__ import annotations

from typing import Any, Self

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from skastro.evaluation.calibration import reliability_curve, top_labels
from skastro.plots.style import FOOTNOTE_SHARE, MUTED, OKABE_ITO, dress_axes, make_axes

_CONFIDENCES = 20  # bars of the histogram below a reliability curve


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


def _draw_confidences(ax: Any, confidences: NDArray[Any]) -> None:
    """Draw a histogram at the foot of the axes, without a scale."""
    counts, edges = np.histogram(confidences, bins=_CONFIDENCES, range=(0, 1))
    ax.bar(
        edges[:-1], FOOTNOTE_SHARE * counts / counts.max(), width=np.diff(edges), align="edge",
        color="#e6e6e6", edgecolor="white", linewidth=0.8, zorder=1,
        transform=ax.get_xaxis_transform(),
    )  # fmt: skip
    ax.text(
        0.06, 0.014, "grey: number of objects", transform=ax.transAxes, fontsize=8, color=MUTED
    )  # fmt: skip


def _axis_start(lowest: float) -> float:
    return max(0.0, np.floor(10 * lowest) / 10)
