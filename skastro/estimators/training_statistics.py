"""What an encoder remembers of its training stamps, to tell whether others look like them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.utils.extmath import randomized_svd

from skastro.stamps.arrays import read_stamps
from skastro.surveys.pixel_statistics import (
    BAND_STATISTICS,
    LEVELS,
    STAMP_STATISTICS,
    choose_rows,
    measure_pixels,
    take_quantiles,
)

_N_DIRECTIONS = 8  # of the largest variance of the embeddings
_STAMPS_PER_DIRECTION = 50
_DIGITS = 5  # of the numbers in a file


@dataclass(frozen=True)
class TrainingStatistics:
    """Quantiles of what is measured on the training stamps, and of their embeddings.

    Attributes
    ----------
    n : int
        Number of stamps that were measured.
    pixels : dict of str to float64 array of shape (levels,) or (levels, bands)
        Quantiles of the statistics of `measure_pixels`.
    directions : float64 array of shape (k, d)
        Directions of the largest variance of the embeddings.
    variances : float64 array of shape (k + 1,)
        Variances along them, and the mean variance along all others.
    distances : float64 array of shape (levels,)
        Quantiles of `measure_distances`.
    offsets : dict of str to float
        Median of predicted minus given values of each property.
    """

    n: int
    pixels: dict[str, NDArray[np.float64]]
    directions: NDArray[np.float64]
    variances: NDArray[np.float64]
    distances: NDArray[np.float64]
    offsets: dict[str, float]

    @classmethod
    def measure(cls, images: Any, embeddings: NDArray[np.float32], residuals: pd.DataFrame) -> Self:
        """Measure a sample of stamps; ``embeddings`` and ``residuals`` have the rows of images."""
        rows = choose_rows(tuple(images.shape))
        pixels = measure_pixels(read_stamps(images, rows))
        values = embeddings[rows].astype(np.float64)
        # the distance of probabilistic principal components (Tipping & Bishop 1999)
        k = min(_N_DIRECTIONS, len(rows) // _STAMPS_PER_DIRECTION, values.shape[1] - 1)
        _, spreads, directions = randomized_svd(values, max(k, 1), random_state=0)
        powers = spreads[:k] ** 2 / len(rows)
        others = ((values**2).sum() / len(rows) - powers.sum()) / (values.shape[1] - k)
        statistics = cls(
            n=len(rows),
            pixels={name: take_quantiles(column) for name, column in pixels.items()},
            directions=directions[:k],
            variances=np.maximum([*powers, others], 1e-12),
            distances=np.empty(0),
            offsets={str(name): float(column.median()) for name, column in residuals.items()},
        )
        distances = take_quantiles(statistics.measure_distances(values))
        return cls(**{**vars(statistics), "distances": distances})

    def measure_distances(self, embeddings: NDArray[np.floating]) -> NDArray[np.float64]:
        """Return how far embeddings (n, d) are from the middle of those of the training: (n,).

        The typical distance of a training stamp is about 1.
        """
        values = np.asarray(embeddings, np.float64)
        along = values @ self.directions.T
        across = (values**2).sum(1) - (along**2).sum(1)
        squares = (along**2 / self.variances[:-1]).sum(1) + across / self.variances[-1]
        return np.asarray(np.sqrt(np.maximum(squares, 0.0) / values.shape[1]))

    def pack(self) -> dict[str, Any]:
        """Return all parts as lists of numbers for JSON, with None in place of NaN."""
        return {name: _to_lists(value) for name, value in vars(self).items()}

    @classmethod
    def unpack(cls, entries: Mapping[str, Any], n_bands: int, n_features: int) -> Self:
        """Read the parts that `pack` has made; anything else is a ValueError."""
        n, found, offsets = entries["n"], entries["pixels"], entries["offsets"]
        shapes: dict[str, tuple[int, ...]]
        shapes = {name: (len(LEVELS), n_bands) for name in BAND_STATISTICS}
        shapes |= {name: (len(LEVELS),) for name in STAMP_STATISTICS}
        pixels = {name: _to_array(found[name], shape) for name, shape in shapes.items()}
        k = len(entries["variances"]) - 1
        directions = np.reshape(entries["directions"], (-1, n_features))
        valid = type(n) is int and n > 0 and 0 <= k == len(directions)
        kinds = {(type(key), type(value)) for key, value in offsets.items()}
        if not valid or not kinds <= {(str, float), (str, int), (str, type(None))}:
            raise ValueError("its statistics are not those of training stamps")
        return cls(
            n=n,
            pixels=pixels,
            directions=_to_array(directions, (k, n_features)),
            variances=_to_array(entries["variances"], (k + 1,)),
            distances=_to_array(entries["distances"], (len(LEVELS),)),
            offsets={key: float("nan" if value is None else value) for key, value in
                     offsets.items()},
        )  # fmt: skip


def _to_lists(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _to_lists(part) for name, part in value.items()}
    if isinstance(value, np.ndarray):
        return [_to_lists(part) for part in value.tolist()]
    if isinstance(value, list):
        return [_to_lists(part) for part in value]
    if isinstance(value, float):
        return float(f"{value:.{_DIGITS}g}") if np.isfinite(value) else None
    return value


def _to_array(values: Any, shape: tuple[int, ...]) -> NDArray[np.float64]:
    """Return nested lists of numbers as an array of a known shape."""
    array = np.array(values, dtype=np.float64)
    if array.shape != shape:
        raise ValueError("its statistics have other shapes")
    return array


def measure_spread(
    features: NDArray[np.float32],
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return the mean and the standard deviation of each feature, infinite if it is constant."""
    spread = features.std(0)
    # the spread of a feature that is (nearly) constant is rounding noise
    alive = spread > 1e-4 * max(spread.max(), 1e-12)
    return features.mean(0), np.where(alive, spread, np.inf).astype(np.float32)
