"""Where a classifier looks: the drop of a probability while patches of a stamp are covered."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from itertools import islice, pairwise
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

# patches along a side, and how far the grid is shifted, as a share of a patch
_GRIDS = ((8, 0.0), (8, 0.5))
_BAND_GRIDS = ((4, 0.0), (4, 0.5))  # for single bands, of which there may be many
_MAX_PIXELS = 2**24  # of the stamps that are classified at once
_MIN_KNOWN = 1e-3  # share of known pixels around a covered one, below which it gets the median


class _Covered(NamedTuple):
    """A stamp of which a patch is covered, in one band or in all; without a patch, as it is."""

    stamp: NDArray[np.float32]
    grid: int
    rows: slice = slice(0, 0)
    columns: slice = slice(0, 0)
    band: int = -1  # all bands


def occlude(
    predict: Callable[[NDArray[np.float32]], NDArray[Any]],
    stamp: NDArray[np.float32],
    code: int,
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Measure by how much the probability of a class drops where a stamp is covered.

    Patches of an eighth of a side are covered in all bands, and patches of a quarter in each band
    alone, on two grids that are shifted by half a patch. A covered pixel gets the mean of the
    pixels around the patch, weighted by their distance. The stamps of each grid are shown in
    another one of the eight orientations.

    Parameters
    ----------
    predict : callable
        Returns the probabilities (m, k) of stamps (m, bands, height, width).
    stamp : float32 array of shape (bands, height, width)
        NaN pixels are covered, too, but in the stamp without a patch.
    code : int
        Number of the class.

    Returns
    -------
    where : float32 array of shape (height, width)
        Mean drop of the probability over the patches that cover a pixel in all bands; negative
        where covering raises it.
    bands : float32 array of shape (bands, height, width)
        The same for patches in one band.

    Examples
    --------
    >>> stamp = np.zeros((1, 16, 16), np.float32)
    >>> stamp[:, 4:6, 4:6] = 1
    >>> where, bands = occlude(lambda x: x.max(axis=(1, 2, 3))[:, None], stamp, 0)
    >>> bool(where[5, 5] >= 0.5), float(where[12, 12])
    (True, 0.0)
    """
    shape = stamp.shape[1:]
    maps = np.zeros((1 + len(stamp), *shape), np.float32)
    n_grids = [len(_GRIDS), *[len(_BAND_GRIDS)] * len(stamp)]
    stream, start = _cover_patches(stamp), {}
    n_each = max(1, _MAX_PIXELS // stamp.size)
    while covered := list(islice(stream, n_each)):
        shown = np.stack([_turn(each.stamp, each.grid) for each in covered])
        for each, probability in zip(covered, predict(shown)[:, code], strict=True):
            if each.rows == slice(0, 0):
                start[each.grid] = probability
                continue
            layer = 1 + each.band
            drop = (start[each.grid] - probability) / n_grids[layer]
            maps[layer, each.rows, each.columns] += drop
    return maps[0], maps[1:]


def _cover_patches(stamp: NDArray[np.float32]) -> Iterator[_Covered]:
    """Yield the stamp for each grid, and then with each of its patches covered."""
    for grid, (n, shift) in enumerate((*_GRIDS, *_BAND_GRIDS)):
        yield _Covered(stamp, grid)
        for rows in _cut(stamp.shape[1], n, shift):
            for columns in _cut(stamp.shape[2], n, shift):
                covered = cover(stamp, rows, columns)
                if grid < len(_GRIDS):
                    yield _Covered(covered, grid, rows, columns)
                    continue
                for band in range(len(stamp)):
                    single = stamp.copy()
                    single[band] = covered[band]
                    yield _Covered(single, grid, rows, columns, band)


def cover(stamp: NDArray[np.float32], rows: slice, columns: slice) -> NDArray[np.float32]:
    """Return a stamp in which a patch has the mean of the pixels around it.

    Parameters
    ----------
    stamp : float32 array of shape (bands, height, width)
        NaN pixels are unknown, and filled within the patch only.
    rows, columns : slice
        The patch.

    Returns
    -------
    covered : float32 array of shape (bands, height, width)

    Examples
    --------
    >>> stamp = np.ones((2, 8, 8), np.float32)
    >>> stamp[:, 3:5, 3:5] = 9
    >>> float(cover(stamp, slice(3, 5), slice(3, 5)).max())
    1.0
    """
    side = max(rows.stop - rows.start, columns.stop - columns.start)
    near = tuple(
        slice(max(0, part.start - side), min(length, part.stop + side))
        for part, length in zip((rows, columns), stamp.shape[1:], strict=True)
    )
    around = stamp[:, *near]
    patch = tuple(
        slice(part.start - box.start, part.stop - box.start)
        for part, box in zip((rows, columns), near, strict=True)
    )
    known = np.isfinite(around)
    known[:, *patch] = False
    # a Gaussian of half a patch, cut where the box ends
    blur = partial(gaussian_filter, sigma=(0, side / 2, side / 2), mode="constant", truncate=2)
    weight = blur(known.astype(np.float32))[:, *patch]
    total = blur(np.where(known, around, np.float32(0)))[:, *patch]
    filled = total / np.maximum(weight, _MIN_KNOWN)
    if (weight < _MIN_KNOWN).any():
        finite = np.where(np.isfinite(stamp), stamp, np.nan)
        sky = np.nan_to_num(np.nanmedian(finite, axis=(1, 2)))
        filled = np.where(weight < _MIN_KNOWN, sky[:, None, None], filled)
    # photographs and counts stay whole numbers, by which a classifier may recognise them
    if (np.rint(around[known]) == around[known]).all():
        filled = np.rint(filled)
    result = stamp.copy()
    result[:, rows, columns] = filled
    return result


def _cut(length: int, n: int, shift: float) -> list[slice]:
    """Cut a side into n parts, or one more if the grid is shifted."""
    edges = np.round((np.arange(n + 2) - shift) * max(length / n, 1)).astype(int)
    edges = np.unique(edges.clip(0, length))
    return [slice(int(a), int(b)) for a, b in pairwise(edges)]


def _turn(stamp: NDArray[Any], number: int) -> NDArray[Any]:
    """Return one of the orientations of a stamp, which is turned by a quarter only if square."""
    if stamp.shape[1] == stamp.shape[2]:
        stamp = np.rot90(stamp, number, axes=(1, 2))
    elif number & 1:
        stamp = stamp[:, ::-1]
    return stamp[:, :, ::-1] if number & 2 else stamp
