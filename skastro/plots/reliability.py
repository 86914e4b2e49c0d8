"""Draw reliability curves."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass
from typing import Any, Self

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from skastro.evaluation.calibration import reliability_curve, top_labels
from skastro.plots import style

_HISTOGRAM_BINS = 20


@dataclass(eq=False, repr=False)
class ReliabilityDisplay(style.Display):
    """Share of right predictions against their predicted probability.

    `from_predictions` or `from_estimator` make and draw it. A new figure is 4.8 by 4.8 inches.

    Parameters
    ----------
    table : DataFrame
        Result of `reliability_curve`.
    confidences : array of shape (n,)
        Probabilities of the predicted classes, for the histogram.
    name : str, default=None
        Name of the classifier, for the title.

    Attributes
    ----------
    error : float
        Expected calibration error.
    ax_, figure_ : matplotlib Axes and Figure
    points_ : errorbar container
        Bins with their 95 % intervals.

    Examples
    --------
    >>> y = ["star", "star", "galaxy", "star"] * 10
    >>> probabilities = [[0.4, 0.6], [0.1, 0.9], [0.4, 0.6], [0.1, 0.9]] * 10
    >>> display = ReliabilityDisplay.from_predictions(y, probabilities, n_bins=2)
    >>> display.ax_.get_title(loc="left")
    'expected calibration error 0.100'
    """

    _size = (4.8, 4.8)
    table: pd.DataFrame
    confidences: NDArray[np.float64]
    _: KW_ONLY
    name: str | None = None

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
        """Measure with `reliability_curve`, and draw.

        Parameters
        ----------
        y_true : array-like of shape (n,)
        probabilities : array-like or DataFrame of shape (n, n_classes)
        classes : array-like of shape (n_classes,), default=None
            Classes of the columns, as in `expected_calibration_error`.
        n_bins : int, default=10
            Number of bins, each with as many objects.
        name : str, default=None
            Name of the classifier, for the title.
        **plot_params
            Passed to `plot`.

        Returns
        -------
        display : ReliabilityDisplay

        Raises
        ------
        ValueError
            `expected_calibration_error` would refuse the data.
        """
        table = reliability_curve(y_true, probabilities, classes=classes, n_bins=n_bins)
        confidences, _ = top_labels(y_true, probabilities, classes)
        return cls(table, confidences, name=name).plot(**plot_params)

    @classmethod
    def from_estimator(cls, classifier: Any, X: Any, y: ArrayLike, **params: Any) -> Self:
        """Predict probabilities, measure with `reliability_curve`, and draw.

        Parameters
        ----------
        classifier : fitted classifier with ``predict_proba``
        X : array-like of n rows
            Objects that the classifier was not fitted on.
        y : array-like of shape (n,)
            True classes.
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

    def _draw(self, ax: Any) -> None:
        table = self.table
        # histogram of the probabilities at the bottom, without a scale
        counts, edges = np.histogram(self.confidences, bins=_HISTOGRAM_BINS, range=(0, 1))
        ax.bar(
            edges[:-1], style.COUNTS_SHARE * counts / counts.max(), width=np.diff(edges),
            align="edge", color="#e6e6e6", edgecolor="white", linewidth=0.8, zorder=1,
            transform=ax.get_xaxis_transform(),
        )  # fmt: skip
        note = "grey: number of objects"
        ax.text(0.06, 0.014, note, transform=ax.transAxes, fontsize=8, color=style.MUTED)
        # curve with intervals, and the diagonal of a calibrated classifier
        ax.plot([0, 1], [0, 1], color=style.MUTED, zorder=2, **style.REFERENCE_LINE)
        reach = [table["accuracy"] - table["low"], table["high"] - table["accuracy"]]
        self.points_ = ax.errorbar(
            table["confidence"], table["accuracy"], yerr=np.maximum(reach, 0), fmt="-o",
            color=style.OKABE_ITO[0], markersize=6, markeredgecolor="white", markeredgewidth=0.8,
            elinewidth=1.4, linewidth=1.4, clip_on=False, zorder=3,
        )  # fmt: skip
        style.dress_axes(ax, grid="both")
        lowest = min(self.confidences.min(), table["low"].min())
        start = max(0.0, np.floor(10 * lowest) / 10)
        ax.set(xlim=(start, 1), ylim=(start, 1))
        ax.set(xlabel="probability of the predicted class", ylabel="share that is right")
        title = f"expected calibration error {self.error:.3f}"
        ax.set_title(f"{self.name}: {title}" if self.name else title, loc="left", fontsize=10.5)
