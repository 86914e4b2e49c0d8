"""Draw objects beside those that are most similar to them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from skastro.plots import style
from skastro.stamps.arrays import as_stack

_GAP = 0.06  # between stamps, in sides of a stamp
_GAP_OF_QUERY = 0.3  # to the right of the query
_SIDE = 0.85  # inches


@dataclass(eq=False, repr=False)
class SimilarDisplay(style.Display):
    """Contact sheet of similar objects: the query at the left, then those found, nearest first.

    `from_result` makes and draws it. A new figure fits the sheet.

    Parameters
    ----------
    table : DataFrame
        The rows of `find_similar` that are shown.
    pictures : list of list of uint8 array of shape (height, width, 3)
        For each query its own picture, then those of the objects found.
    texts : list of list of str
        Text below each picture.

    Attributes
    ----------
    ax_, figure_ : matplotlib Axes and Figure
    images_ : list of AxesImage
        The pictures, row by row.

    Examples
    --------
    >>> from skastro import find_similar
    >>> stamps = np.random.default_rng(0).normal(size=(6, 3, 8, 8))
    >>> similar = find_similar(stamps.mean(axis=(2, 3)), [0, 4], k=3)
    >>> display = SimilarDisplay.from_result(similar, stamps)
    >>> len(display.images_), display.texts[1][0]
    (8, '4')
    """

    table: pd.DataFrame
    pictures: Sequence[Sequence[NDArray[np.uint8]]]
    texts: Sequence[Sequence[str]]

    @classmethod
    def from_result(
        cls,
        similar: pd.DataFrame,
        images: Any,
        *,
        query_images: Any = None,
        y: ArrayLike | None = None,
        bands: Sequence[int | str] | None = None,
        max_queries: int = 8,
        max_similar: int = 10,
        **plot_params: Any,
    ) -> Self:
        """Compose the stamps of a result, and draw.

        Parameters
        ----------
        similar : DataFrame
            Result of `find_similar`.
        images : array-like of shape (n, bands, height, width)
            Stamps of all objects, in the order of their embeddings, composed by `to_rgb` with one
            stretch.
        query_images : array-like of shape (m, bands, height, width), default=None
            Stamps of the queries, if these are other objects than those of ``images``.
        y : array-like of shape (n,), default=None
            Classes or other texts of the objects, to write below their stamps.
        bands : sequence of three int or str, default=None
            Bands shown as red, green and blue, by default those of `write_thumbnails`.
        max_queries : int, default=8
            Largest number of queries, which are the rows of the sheet.
        max_similar : int, default=10
            Largest number of objects found that are shown for a query.
        **plot_params
            Passed to `plot`.

        Returns
        -------
        display : SimilarDisplay

        Raises
        ------
        ValueError
            The result has rows that ``images`` does not have, a query is not among them and
            ``query_images`` is missing, or ``y`` has another number of values.
        """
        stack = as_stack(images, name="images")
        style.check_values(len(stack), y=y)
        if len(similar) and similar["row"].max() >= len(stack):
            raise ValueError(
                f"images has {len(stack)} stamps, but row {similar['row'].max()} was found: pass "
                "the stamps of all objects, in the order of their embeddings."
            )
        groups = list(similar.groupby("query", sort=False))[:max_queries]
        groups = [(name, group.head(max_similar)) for name, group in groups]
        column = "query_row" if query_images is None else "query"
        own = [int(group[column].iloc[0]) for _, group in groups]
        if min(own, default=0) < 0:
            raise ValueError(
                "the queries are not among the objects: pass their stamps as query_images=."
            )

        # compose all pictures
        found = [group["row"].to_numpy() for _, group in groups]
        rows = [] if query_images is not None else own
        pictures = style.compose_stamps(stack, np.concatenate([rows, *found]).astype(int), bands)
        theirs = pictures
        if query_images is not None:
            other = as_stack(query_images, name="query_images")
            theirs = style.compose_stamps(other, np.array(own), bands)
        sheet, texts = [], []
        labels = None if y is None else np.asarray(y).astype(str)
        for row, (name, group) in zip(own, groups, strict=True):
            sheet.append([theirs[row], *(pictures[i] for i in group["row"])])
            below = [f"{value:.2f}" for value in group["similarity"]]
            if labels is not None:
                below = [f"{a}\n{labels[i]}" for a, i in zip(below, group["row"], strict=True)]
            own_text = str(name)
            if labels is not None and query_images is None:
                own_text = f"{name}\n{labels[row]}"
            texts.append([own_text, *below])
        return cls(similar, sheet, texts).plot(**plot_params)

    def _figure_size(self) -> tuple[float, float]:
        height, width, _ = self.pictures[0][0].shape
        lines = 1 + max(text.count("\n") for row in self.texts for text in row)
        n_columns = max(len(row) for row in self.pictures)
        step = _SIDE * height / width + 0.17 * lines + 0.05
        return _SIDE * (n_columns * (1 + _GAP) + _GAP_OF_QUERY) + 0.1, step * len(self.texts) + 0.1

    def _draw(self, ax: Any) -> None:
        height, width, _ = self.pictures[0][0].shape
        lines = 1 + max(text.count("\n") for row in self.texts for text in row)
        aspect = height / width
        step = aspect + (0.17 * lines + 0.05) / _SIDE
        self.images_, right = [], 0.0
        for i, (row, texts) in enumerate(zip(self.pictures, self.texts, strict=True)):
            for j, (picture, text) in enumerate(zip(row, texts, strict=True)):
                left, top = j * (1 + _GAP) + (_GAP_OF_QUERY if j else 0), i * step
                extent = (left, left + 1, top + aspect, top)
                self.images_.append(ax.imshow(picture, extent=extent))
                ax.text(
                    left + 0.5, top + aspect + 0.04, text, ha="center", va="top", fontsize=8,
                    color=style.INK, weight="normal" if j else "bold", linespacing=1.2,
                )  # fmt: skip
                right = max(right, left + 1)
        ax.set(xlim=(0, right), ylim=(len(self.texts) * step, 0), xticks=[], yticks=[])
        style.frame_pictures(ax)
