"""Stamps that tell how many of them were read."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

Say = Callable[[str], None]


def say_nothing(_text: str) -> None:
    """Drop a message."""


Progress = Callable[[str, int, int | None], None]


class Watched:
    """Rows of a stack of stamps, read lazily, that tell how many of them were read.

    Parameters
    ----------
    images : array-like of shape (n, bands, height, width)
    progress : callable
        Called as ``progress(stage, done, total)``.
    stage : str
    rows : int array of shape (m,), default=None
        Rows to take; None takes all.
    passes : int, default=1
        How often all rows are going to be read.

    Examples
    --------
    >>> stamps = Watched(np.zeros((4, 1, 8, 8)), lambda *told: print(told), "embedding")
    >>> stamps[:3].shape
    ('embedding', 3, 4)
    (3, 1, 8, 8)
    """

    def __init__(
        self,
        images: Any,
        progress: Progress,
        stage: str,
        *,
        rows: NDArray[Any] | None = None,
        passes: int = 1,
    ) -> None:
        self.images = images
        self.rows = np.arange(len(images)) if rows is None else rows
        self.shape = (len(self.rows), *images.shape[1:])
        self.dtype = images.dtype
        self._read, self._total = 0, passes * len(self.rows)
        self._progress, self._stage = progress, stage

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, key: Any) -> NDArray[Any]:
        rows = self.rows[key]
        self._read += len(rows)
        self._progress(self._stage, min(self._read, self._total), self._total)
        return self.images[rows]
