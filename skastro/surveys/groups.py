"""Rows that belong on one side of a split: copies of one object, neighbours on the sky."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np
from astropy import units as u
from numpy.typing import ArrayLike, NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from skastro.catalogs.matching import sky_positions
from skastro.stamps.arrays import as_stack
from skastro.utils.packages import import_optional

_AT_ONCE = 1024  # stamps


def find_duplicates(
    stamps: Any = None,
    *,
    ra: ArrayLike | None = None,
    dec: ArrayLike | None = None,
    radius: float = 1.0,
) -> NDArray[np.int64]:
    """Find rows that show one object: the same pixels, or the same place on the sky.

    A copy of a test object among the training rows makes any score too good. What this returns
    can be the ``groups`` of `label_efficiency_curve` and `SelfSupervisedClassifier.fit`.

    Parameters
    ----------
    stamps : array-like of shape (n, bands, height, width), default=None
        Compared to the bit, in chunks; NaN equals NaN.
    ra, dec : array-like of shape (n,), default=None
        Positions in degrees, or sexagesimal text. NaN is nowhere.
    radius : float, default=1.0
        Greatest separation of one object's positions, in arcsec; chains of them are one object.

    Returns
    -------
    groups : int64 array of shape (n,)
        The first row of the group that each row is in: its own number if it is alone.

    Raises
    ------
    ValueError
        Neither stamps nor positions are given, they differ in length, or the radius is not
        positive.

    Examples
    --------
    >>> find_duplicates(ra=[10.0, 20.0, 10.0001], dec=[0.0, 0.0, 0.0])
    array([0, 1, 0])
    """
    if stamps is None and ra is None:
        raise ValueError("nothing to compare: pass stamps, or ra and dec.")
    if (ra is None) != (dec is None):
        raise ValueError("ra and dec belong together: pass both.")
    found = []
    if stamps is not None:
        found.append(_same_pixels(as_stack(stamps)))
    if ra is not None and dec is not None:
        if not radius > 0:
            raise ValueError(f"radius={radius!r} must be positive, in arcsec.")
        found.append(_same_place(ra, dec, radius))
    return merge_groups(*found)


def healpix_groups(ra: ArrayLike, dec: ArrayLike, *, nside: int = 64) -> NDArray[np.int64]:
    """Group rows by the HEALPix pixel of the sky they lie in (Gorski et al. 2005, ApJ 622, 759).

    Parameters
    ----------
    ra, dec : array-like of shape (n,)
        Degrees, or sexagesimal text.
    nside : int, default=64
        Resolution, a power of two: 64 gives pixels of 55 arcmin, 16 of 3.7 degrees.

    Returns
    -------
    groups : int64 array of shape (n,)
        Nested index of the pixel; rows without a position are each alone, numbered below 0.

    Raises
    ------
    ImportError
        astropy-healpix is not installed.
    ValueError
        ``nside`` is no power of two, or a position is impossible.

    Examples
    --------
    >>> healpix_groups([10.0, 10.1, 200.0], [0.2, 0.2, 45.0], nside=16).tolist()
    [1129, 1129, 688]
    """
    if nside < 1 or nside & (nside - 1):
        raise ValueError(f"nside={nside} must be a power of two, such as 64.")
    healpix = import_optional("astropy_healpix", extra="data", needed_by="healpix_groups")
    sky = sky_positions(ra, dec)
    groups = -1 - np.arange(len(sky))
    known = _known(sky)
    grid = healpix.HEALPix(nside, order="nested")
    groups[known] = grid.lonlat_to_healpix(sky.ra[known], sky.dec[known])
    return groups


def merge_groups(*groups: ArrayLike) -> NDArray[np.int64]:
    """Join groupings: rows that any of them puts together, directly or by a chain, are together.

    Parameters
    ----------
    *groups : array-like of shape (n,)
        Of any dtype.

    Returns
    -------
    merged : int64 array of shape (n,)
        The first row of each row's group.

    Raises
    ------
    ValueError
        The groupings differ in length.

    Examples
    --------
    >>> merge_groups(["a", "b", "b", "c"], [1, 1, 2, 3])
    array([0, 0, 0, 3])
    """
    groupings = [np.asarray(each) for each in groups]
    lengths = {len(each) for each in groupings}
    if len(lengths) != 1:
        raise ValueError(f"groups have the lengths {sorted(lengths)}: pass one for each row.")
    n = lengths.pop()
    rows, firsts = [], []
    for each in groupings:
        _, first, code = np.unique(each, return_index=True, return_inverse=True)
        rows.append(np.arange(n))
        firsts.append(first[code])
    return _first_of_each(n, np.concatenate(rows), np.concatenate(firsts))


def _first_of_each(n: int, one: NDArray[Any], other: NDArray[Any]) -> NDArray[np.int64]:
    graph = coo_array((np.ones(len(one), bool), (one, other)), shape=(n, n))
    _, component = connected_components(graph, directed=False)
    _, first, code = np.unique(component, return_index=True, return_inverse=True)
    return first[code].astype(np.int64)


def _same_pixels(images: Any) -> NDArray[np.int64]:
    seen: dict[bytes, int] = {}
    groups = np.empty(len(images), np.int64)
    for start in range(0, len(images), _AT_ONCE):
        chunk = np.ascontiguousarray(images[start : start + _AT_ONCE])
        for row, stamp in enumerate(chunk, start):
            digest = hashlib.blake2b(stamp.tobytes(), digest_size=16).digest()
            groups[row] = seen.setdefault(digest, row)
    return groups


def _same_place(ra: ArrayLike, dec: ArrayLike, radius: float) -> NDArray[np.int64]:
    sky = sky_positions(ra, dec)
    known = np.flatnonzero(_known(sky))
    if len(known) < 2:
        return np.arange(len(sky))
    one, other, _, _ = sky[known].search_around_sky(sky[known], radius * u.arcsec)
    return _first_of_each(len(sky), known[one], known[other])


def _known(sky: Any) -> NDArray[np.bool_]:
    return np.isfinite(sky.ra.deg) & np.isfinite(sky.dec.deg)
