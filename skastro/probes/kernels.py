"""Kernels on an embedding and on properties, for the probe and the regression."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from numbers import Integral
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics.pairwise import euclidean_distances

from skastro.utils.validation import draw_seed

Floats = NDArray[np.float64]
STRENGTHS = np.geomspace(1e-3, 100.0, 16)  # of the regularisation, to compare
KERNEL_CONSTANT = 0.3  # added to the kernel: acts as a weakly regularised intercept
MAX_LEVERAGE = 1 - 1e-9
_MAX_DEVIATIONS = 5.0  # standard deviations at which outliers are clipped
_N_WIDTH_ROWS = 500  # rows whose distances give the width of the radial kernel
_MIN_EIGENVALUE = 1e-10  # of the largest; smaller ones are rounding noise


@dataclass(frozen=True)
class ColumnGroup:
    """Scales and centres of the two kernels of one representation."""

    center: Floats  # (p,), means of the properties
    scale: Floats  # (p,), their standard deviations; infinite for a constant
    length: float  # root mean square length of the embedding
    width: float  # median squared distance of scaled properties
    embedding: Floats  # (m, d) of the m centres, scaled
    properties: Floats  # (m, p)

    @classmethod
    def measure(cls, embedding: Floats, properties: Floats, centers: NDArray[np.int64]) -> Self:
        """Measure the scales of rows, some of which are the centres."""
        values = np.ma.masked_invalid(properties)
        center = values.mean(axis=0).filled(0.0)
        spread = values.std(axis=0).filled(0.0)
        # a constant column is left out by an infinite scale
        scale = np.where(spread > 1e-9 * (1 + np.abs(center)), spread, np.inf)
        length = float(np.sqrt((embedding**2).sum(axis=1).mean())) or 1.0
        scaled = _scale(properties, center, scale)
        sample = scaled[:: -(-len(scaled) // _N_WIDTH_ROWS)]
        distances = euclidean_distances(sample, squared=True)
        width = float(np.median(distances[np.triu_indices(len(sample), 1)])) or 1.0
        return cls(center, scale, length, width, embedding[centers] / length, scaled[centers])

    def kernel(self, embedding: Floats, properties: Floats) -> Floats:
        """Return the mean of the linear and the radial kernel of n rows with the centres (n, m)."""
        linear, radial = self.kernels(embedding, properties)
        return (linear + radial) / 2

    def kernels(self, embedding: Floats, properties: Floats) -> tuple[Floats, Floats]:
        """Return the linear kernel on the embedding and the radial one on the properties."""
        scaled = _scale(properties, self.center, self.scale)
        distances = euclidean_distances(scaled, self.properties, squared=True)
        linear = embedding @ self.embedding.T / self.length
        return linear, np.exp(-distances / self.width)


def check_sizes(n_properties: Any, others: Sequence[Any], n_columns: int) -> None:
    """Refuse parameters of `KernelProbe` that are no numbers of columns."""
    counts: list[Any] = [n_properties, *(count for other in others for count in other[:2])]
    valid = all(isinstance(count, Integral) and int(count) >= 0 for count in counts)
    if not valid or sum(counts) > n_columns:
        given = f"n_properties={n_properties!r}"
        given += f" and others={others!r}" if len(others) else ""
        raise ValueError(f"{given} must be a number of columns: X has {n_columns}.")


def split_columns(
    X: Floats, n_properties: int, others: Sequence[Any]
) -> list[tuple[Floats, Floats]]:
    """Return the embedding and the properties of each representation."""
    sizes = [(int(other[0]), int(other[1])) for other in others]
    first = X.shape[1] - n_properties - sum(map(sum, sizes))
    parts, start = [], 0
    for d, p in [(first, n_properties), *sizes]:
        embedding, properties = X[:, start : start + d], X[:, start + d : start + d + p]
        start += d + p
        if np.isnan(embedding).any():
            row = int(np.flatnonzero(np.isnan(embedding).any(axis=1))[0])
            raise ValueError(f"X holds NaN in the embedding of row {row}: embed it again.")
        # one kind of columns serves both kernels
        parts.append((embedding, properties if p else embedding))
    return parts


def choose_centers(
    n: int, most: int, random_state: int | np.random.RandomState | None
) -> NDArray[np.int64]:
    """Return the rows that are centres of the kernel: all of n, or as many as allowed at random."""
    if n <= most:
        return np.arange(n)
    generator = np.random.default_rng(draw_seed(random_state))
    return np.sort(generator.choice(n, most, replace=False))


def join_kernels(kernels: list[Floats]) -> list[Floats]:
    """Return the first kernel, and its mean with each of the others."""
    first = kernels[0]
    return [k + KERNEL_CONSTANT for k in (first, *((first + other) / 2 for other in kernels[1:]))]


def decompose(
    kernel: Floats, centers: NDArray[np.int64], weights: Floats
) -> tuple[Floats, Floats, Floats]:
    """Return what a ridge regression needs for any strength, of a kernel of n rows and m centres.

    These are the eigenvalues of the weighted kernel (r,), the rows in its basis (n, r), and the
    coefficients of the centres for each vector of the basis (m, r).
    """
    if len(centers) == len(kernel):
        # one eigenproblem, that of the weighted kernel
        roots = np.sqrt(weights)[:, None]
        values, vectors = _large_eigenvectors(roots * kernel * roots.T)
        return values, vectors * np.sqrt(values) / roots, vectors / np.sqrt(values) * roots
    # features in which those of the centres are orthonormal, and their covariance
    values, vectors = _large_eigenvectors(kernel[centers])
    whitening = vectors / np.sqrt(values)
    features = kernel @ whitening
    values, vectors = np.linalg.eigh(features.T @ (weights[:, None] * features))
    return values, features @ vectors, whitening @ vectors


def _scale(properties: Floats, center: Floats, scale: Floats) -> Floats:
    scaled = np.nan_to_num((properties - center) / scale, nan=0.0)
    return scaled.clip(-_MAX_DEVIATIONS, _MAX_DEVIATIONS)


def _large_eigenvectors(matrix: Floats) -> tuple[Floats, Floats]:
    values, vectors = np.linalg.eigh(matrix)
    large = values > _MIN_EIGENVALUE * values[-1]
    return values[large], vectors[:, large]
