"""Drawings that show stamps: what is taken for what, and what lies in a cluster."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from skastro.plots.style import INK, anchor_axes, make_axes, show_stamps
from skastro.utils.validation import check_labels

_TEXT_SHARE = 0.46  # of the height of a cell of the confusion matrix, above its stamps
_PALE = 0.55  # share above which a cell is dark


class ConfusionDisplay:
    """Confusion matrix, with stamps of each kind of right and wrong.

    Made by `from_predictions` or `from_estimator`, which draw it too.

    Parameters
    ----------
    counts : int array of shape (n_classes, n_classes)
        Objects of a true class (row) that were taken for another (column).
    classes : sequence of length n_classes
    examples : dict of (int, int) to list of uint8 array of shape (h, w, 3), default=None
        Pictures for the cells (row, column); cells may be missing.
    n_unlabelled : int, default=0
        Objects left out, because they have no label or no prediction.

    Attributes
    ----------
    ax_ : matplotlib Axes
    figure_ : matplotlib Figure
    image_ : AxesImage
        Shares of the true classes.
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

    def __init__(
        self,
        counts: NDArray[np.int64],
        classes: Sequence[Any],
        *,
        examples: Mapping[tuple[int, int], list[NDArray[np.uint8]]] | None = None,
        n_unlabelled: int = 0,
    ) -> None:
        self.counts = counts
        self.classes = classes
        self.examples = examples
        self.n_unlabelled = n_unlabelled

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
        """Count, choose examples, and draw.

        Parameters
        ----------
        y_true, y_pred : array-like of shape (n,)
            Classes; rows where either is marked as unlabelled, as in
            `SelfSupervisedClassifier.fit`, are left out and counted.
        images : array-like of shape (n, bands, height, width), default=None
            Stamps, composed by `to_rgb`.
        bands : sequence of three int or str, default=None
            The bands shown as red, green and blue; None takes 3, 2, 1 of five bands and more.
        confidence : array-like of shape (n,), default=None
            Probability of the prediction: the surest of each cell are shown. None shows some
            at even distances in the order of the rows.
        n_examples : int, default=3
            Stamps in a cell, at most.
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
        y_true, y_pred = np.asarray(y_true), np.asarray(y_pred)
        n = len(y_true)
        if len(y_pred) != n or (confidence is not None and len(np.asarray(confidence)) != n):
            raise ValueError(
                f"y_true has {n} labels, but y_pred or confidence has another number of rows: "
                "pass one for each object."
            )
        classes, codes = check_labels(np.concatenate([y_true, y_pred]))
        true, predicted = codes[:n], codes[n:]
        known = (true >= 0) & (predicted >= 0)
        counts = np.zeros((len(classes), len(classes)), dtype=np.int64)
        np.add.at(counts, (true[known], predicted[known]), 1)
        examples = None
        if images is not None:
            order = np.arange(n) if confidence is None else np.argsort(-np.asarray(confidence))
            order = order[known[order]]
            cells = {
                (int(row), int(column)): order[(true[order] == row) & (predicted[order] == column)]
                for row, column in np.argwhere(counts)
            }
            examples = show_stamps(
                images, cells, n_examples, bands, n, spread_out=confidence is None
            )
        display = cls(
            counts, classes.tolist(), examples=examples, n_unlabelled=int(n - known.sum())
        )
        return display.plot(**plot_params)

    @classmethod
    def from_estimator(
        cls, classifier: Any, X: Any, y: ArrayLike, *, images: Any = None, **params: Any
    ) -> Self:
        """Predict, count, and draw.

        Parameters
        ----------
        classifier : fitted classifier
            With ``predict_proba`` the surest predictions are shown.
        X : array-like of n rows
            Objects that it has not seen.
        y : array-like of shape (n,)
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

    def plot(self, ax: Any = None) -> Self:
        """Draw into axes.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            None makes a figure whose size is that of the matrix.

        Returns
        -------
        display : ConfusionDisplay

        Raises
        ------
        ImportError
            matplotlib is not installed.
        """
        k = len(self.classes)
        side = k * (1.45 if self.examples else 0.85)
        ax = make_axes(ax, "ConfusionDisplay", (side + 1.6, side + 0.9))
        self.ax_, self.figure_ = ax, ax.figure
        totals = self.counts.sum(axis=1, keepdims=True)
        shares = self.counts / np.maximum(totals, 1)
        anchor_axes(ax)
        self.image_ = ax.imshow(shares, cmap="Blues", vmin=0, vmax=1.15)
        for row, column in np.ndindex(k, k):
            share, count = shares[row, column], self.counts[row, column]
            _write_cell(ax, row, column, share, int(count), low=not self.examples)
        self.stamps_ = [
            ax.imshow(picture, extent=extent, zorder=2)
            for cell, pictures in (self.examples or {}).items()
            for picture, extent in zip(pictures, _places(*cell, pictures), strict=True)
        ]
        _dress_matrix(
            ax,
            [f"{label}\n({n:,})" for label, n in zip(self.classes, totals[:, 0], strict=True)],
            self.classes,
        )
        return self


def _write_cell(ax: Any, row: int, column: int, share: float, count: int, *, low: bool) -> None:
    colour = "white" if share > _PALE else INK
    middle = row - 0.5 + (0.5 if low else 0.32)
    ax.text(
        column, middle - 0.02, f"{100 * share:.0f} %", ha="center", va="bottom", color=colour,
        fontsize=12, fontweight="bold" if row == column else "normal",
    )  # fmt: skip
    ax.text(column, middle + 0.02, f"{count:,}", ha="center", va="top", color=colour, fontsize=9)


def _places(
    row: int, column: int, pictures: Sequence[NDArray[Any]]
) -> list[tuple[float, float, float, float]]:
    """Return extents of stamps side by side in the lower part of a cell."""
    number = len(pictures)
    aspect = pictures[0].shape[0] / pictures[0].shape[1]
    width = min(0.92 / max(number, 3) - 0.02, (1 - _TEXT_SHARE - 0.06) / aspect)
    start = column - (number * (width + 0.02) - 0.02) / 2
    bottom = row + 0.46
    lefts = [start + i * (width + 0.02) for i in range(number)]
    return [(left, left + width, bottom, bottom - width * aspect) for left in lefts]


def _dress_matrix(ax: Any, rows: list[str], columns: Sequence[Any]) -> None:
    k = len(columns)
    ax.set_xticks(range(k), [str(label) for label in columns])
    ax.set_yticks(range(k), rows)
    ax.set_xlabel("predicted class")
    ax.set_ylabel("true class (objects)")
    ax.tick_params(length=0)
    ax.set(xlim=(-0.5, k - 0.5), ylim=(k - 0.5, -0.5))
    for place in np.arange(1, k) - 0.5:
        ax.axhline(place, color="white", linewidth=2)
        ax.axvline(place, color="white", linewidth=2)
    for spine in ax.spines.values():
        spine.set_visible(False)
