"""Draw confusion matrices with example stamps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import KW_ONLY, dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from skastro.plots import style
from skastro.utils.validation import as_column, check_labels

_TEXT_SHARE = 0.46  # share of the height of a cell for its text, above its stamps
_MAX_PALE_SHARE = 0.55  # cells with larger shares are dark blue: their text is white
_STAMP_GAP = 0.02  # between stamps, in sides of a cell


@dataclass(eq=False, repr=False)
class ConfusionDisplay(style.Display):
    """Confusion matrix, with example stamps of right and wrong predictions.

    `from_predictions` or `from_estimator` make and draw it. A new figure fits the matrix.

    Parameters
    ----------
    counts : int array of shape (n_classes, n_classes)
        Numbers of objects by true class (row) and predicted class (column).
    classes : sequence of length n_classes
    examples : dict of (int, int) to list of uint8 array of shape (h, w, 3), default=None
        Pictures by cell (row, column); cells may be missing.
    n_unlabelled : int, default=0
        Number of objects left out, because they have no label or no prediction.

    Attributes
    ----------
    ax_, figure_ : matplotlib Axes and Figure
    image_ : AxesImage
        Share of each true class by predicted class.
    stamps_ : list of AxesImage

    Examples
    --------
    >>> y = ["star", "star", "galaxy", "galaxy"]
    >>> display = ConfusionDisplay.from_predictions(y, ["star", "galaxy", "galaxy", "galaxy"])
    >>> display.counts
    array([[2, 0],
           [1, 1]])
    >>> [text.get_text() for text in display.ax_.texts][::2]
    ['100 %', '0 %', '50 %', '50 %']
    """

    counts: NDArray[np.int64]
    classes: Sequence[Any]
    _: KW_ONLY
    examples: Mapping[tuple[int, int], list[NDArray[np.uint8]]] | None = None
    n_unlabelled: int = 0

    @classmethod
    def from_predictions(
        cls,
        y_true: ArrayLike,
        y_pred: ArrayLike,
        *,
        images: Any = None,
        bands: Sequence[int | str] | None = None,
        confidence: ArrayLike | None = None,
        n_examples: int = 3,
        **plot_params: Any,
    ) -> Self:
        """Count predictions, choose example stamps, and draw.

        Parameters
        ----------
        y_true, y_pred : array-like of shape (n,)
            True and predicted classes. Rows that are unlabelled in either, marked as in
            `SelfSupervisedClassifier.fit`, are left out and counted.
        images : array-like of shape (n, bands, height, width), default=None
            Stamps to show in the cells, composed by `to_rgb`.
        bands : sequence of three int or str, default=None
            Bands shown as red, green and blue, by default those of `write_thumbnails`.
        confidence : array-like of shape (n,), default=None
            Probability of each prediction. Each cell shows its most probable predictions. By
            default, it shows objects that are evenly spaced in row order.
        n_examples : int, default=3
            Largest number of stamps in a cell.
        **plot_params
            Passed to `plot`.

        Returns
        -------
        display : ConfusionDisplay

        Raises
        ------
        ValueError
            Lengths differ.
        """
        # numbers of objects by true and predicted class
        y_true, y_pred = as_column(y_true), as_column(y_pred)
        n = len(y_true)
        style.check_values(n, y_pred=y_pred, confidence=confidence)
        classes, codes = check_labels([*y_true.tolist(), *y_pred.tolist()])
        true, predicted = codes[:n], codes[n:]
        labelled = (true >= 0) & (predicted >= 0)
        counts = np.zeros((len(classes), len(classes)), dtype=np.int64)
        np.add.at(counts, (true[labelled], predicted[labelled]), 1)
        # example stamps of each cell, the most probable first
        examples = None
        if images is not None:
            order = np.arange(n) if confidence is None else np.argsort(-np.asarray(confidence))
            order = order[labelled[order]]
            cells = {
                (int(row), int(column)): order[(true[order] == row) & (predicted[order] == column)]
                for row, column in np.argwhere(counts)
            }
            stack = style.check_stack(images, n)
            examples = style.choose_stamps(
                stack, cells, n_examples, bands, spread_out=confidence is None
            )
        n_unlabelled = int(n - labelled.sum())
        display = cls(counts, classes.tolist(), examples=examples, n_unlabelled=n_unlabelled)
        return display.plot(**plot_params)

    @classmethod
    def from_estimator(
        cls, classifier: Any, X: Any, y: ArrayLike, *, images: Any = None, **params: Any
    ) -> Self:
        """Predict classes, count them, choose example stamps, and draw.

        Parameters
        ----------
        classifier : fitted classifier
            With ``predict_proba``, each cell shows its most probable predictions.
        X : array-like of n rows
            Objects that the classifier was not fitted on.
        y : array-like of shape (n,)
            True classes.
        images : array-like of shape (n, bands, height, width), default=None
            Stamps to show, which may be ``X`` itself.
        **params
            Passed to `from_predictions`.

        Returns
        -------
        display : ConfusionDisplay
        """
        if hasattr(classifier, "predict_proba"):
            params.setdefault("confidence", np.max(classifier.predict_proba(X), axis=1))
        return cls.from_predictions(y, classifier.predict(X), images=images, **params)

    def _figure_size(self) -> tuple[float, float]:
        side = len(self.classes) * (1.45 if self.examples else 0.85)
        return side + 1.6, side + 0.9

    def _draw(self, ax: Any) -> None:
        k = len(self.classes)
        totals = self.counts.sum(axis=1, keepdims=True)
        shares = self.counts / np.maximum(totals, 1)
        style.frame_pictures(ax)
        self.image_ = ax.imshow(shares, cmap="Blues", vmin=0, vmax=1.15)
        # share and count of each cell, in its middle or above its stamps
        for (row, column), share in np.ndenumerate(shares):
            middle = row - 0.5 + (0.32 if self.examples else 0.5)
            common = {"ha": "center", "color": "white" if share > _MAX_PALE_SHARE else style.INK}
            weight = "bold" if row == column else "normal"
            ax.text(
                column, middle - 0.02, f"{100 * share:.0f} %", va="bottom", fontsize=12,
                fontweight=weight, **common,
            )  # fmt: skip
            count = f"{self.counts[row, column]:,}"
            ax.text(column, middle + 0.02, count, va="top", fontsize=9, **common)
        self.stamps_ = [
            ax.imshow(picture, extent=extent, zorder=2)
            for cell, pictures in (self.examples or {}).items()
            for picture, extent in zip(pictures, _stamp_extents(*cell, pictures), strict=True)
        ]
        # names of the classes, and white lines between the cells
        names = [f"{c}\n({n:,})" for c, n in zip(self.classes, totals[:, 0], strict=True)]
        ax.set_xticks(range(k), [str(label) for label in self.classes])
        ax.set_yticks(range(k), names)
        ax.set(xlabel="predicted class", ylabel="true class (objects)")
        ax.set(xlim=(-0.5, k - 0.5), ylim=(k - 0.5, -0.5))
        for border in np.arange(1, k) - 0.5:
            ax.axhline(border, color="white", linewidth=2)
            ax.axvline(border, color="white", linewidth=2)


def _stamp_extents(
    row: int, column: int, pictures: Sequence[NDArray[Any]]
) -> list[tuple[float, float, float, float]]:
    """Return extents of stamps side by side in the lower part of a cell."""
    number = len(pictures)
    aspect = pictures[0].shape[0] / pictures[0].shape[1]
    width = min(0.92 / max(number, 3) - _STAMP_GAP, (1 - _TEXT_SHARE - 0.06) / aspect)
    step, bottom = width + _STAMP_GAP, row + 0.46
    start = column - (number * step - _STAMP_GAP) / 2
    lefts = [start + i * step for i in range(number)]
    return [(left, left + width, bottom, bottom - width * aspect) for left in lefts]
