"""Group rows that must stay on one side of a split: copies of an object, sky neighbours."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

import numpy as np
from astropy import units as u
from numpy.typing import ArrayLike, NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from skastro.catalogs.positions import sky_positions
from skastro.stamps.containers import to_array
from skastro.utils.packages import import_optional

_STAMPS_PER_READ = 1024


def find_duplicates(
    stamps: Any = None,
    *,
    ra: ArrayLike | None = None,
    dec: ArrayLike | None = None,
    radius: float = 1.0,
) -> NDArray[np.int64]:
    """Find rows that show the same object: equal pixels, or the same position on the sky.

    A copy of a test object among the training rows makes any score too good. Pass the result as
    ``groups`` to `label_efficiency_curve` and `SelfSupervisedClassifier.fit`.

    Parameters
    ----------
    stamps : array-like of shape (n, bands, height, width), default=None
        Stamps, compared bit by bit; NaN equals NaN.
    ra, dec : array-like of shape (n,), default=None
        Positions in degrees, or sexagesimal text. Rows without a position (NaN) are alone.
    radius : float, default=1.0
        Largest separation in arcsec of two positions of one object. Chains of such pairs are one
        object, too.

    Returns
    -------
    groups : int64 array of shape (n,)
        Number of the first row of each row's group: its own number if the row is alone.

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
    groupings = []
    if stamps is not None:
        groupings.append(_group_by_pixels(to_array(stamps, name="stamps")))
    if ra is not None and dec is not None:
        if not radius > 0:
            raise ValueError(f"radius={radius!r} must be positive, in arcsec.")
        groupings.append(_group_by_position(ra, dec, radius))
    return merge_groups(*groupings)


def healpix_groups(ra: ArrayLike, dec: ArrayLike, *, nside: int = 64) -> NDArray[np.int64]:
    """Group rows by their HEALPix pixel on the sky (Gorski et al. 2005, ApJ 622, 759).

    Parameters
    ----------
    ra, dec : array-like of shape (n,)
        Positions in degrees, or sexagesimal text.
    nside : int, default=64
        Resolution, a power of two: 64 gives pixels of 55 arcmin, 16 pixels of 3.7 degrees.

    Returns
    -------
    groups : int64 array of shape (n,)
        Nested index of the pixel. Each row without a position has a negative number of its own.

    Raises
    ------
    ImportError
        astropy-healpix is not installed.
    ValueError
        ``nside`` is not a power of two, or a position is out of range.

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
    placed = np.isfinite(sky.ra.deg)
    grid = healpix.HEALPix(nside, order="nested")
    groups[placed] = grid.lonlat_to_healpix(sky.ra[placed], sky.dec[placed])
    return groups


def merge_groups(*groups: ArrayLike) -> NDArray[np.int64]:
    """Merge groupings: rows that share a group in any of them, or a chain of groups, are together.

    Parameters
    ----------
    *groups : array-like of shape (n,)
        Group of each row, of any dtype.

    Returns
    -------
    merged : int64 array of shape (n,)
        Number of the first row of each row's group.

    Raises
    ------
    ValueError
        The groupings differ in length.

    Examples
    --------
    >>> merge_groups(["a", "b", "b", "c"], [1, 1, 2, 3])
    array([0, 0, 0, 3])
    """
    groupings = [np.asarray(grouping) for grouping in groups]
    lengths = {len(grouping) for grouping in groupings}
    if len(lengths) != 1:
        raise ValueError(f"groups have the lengths {sorted(lengths)}: pass one for each row.")
    first_rows = []
    for grouping in groupings:
        _, first, code = np.unique(grouping, return_index=True, return_inverse=True)
        first_rows.append(first[code])
    rows = np.arange(lengths.pop())
    return _connect(len(rows), np.tile(rows, len(groupings)), np.concatenate(first_rows))


def _connect(n: int, rows: NDArray[Any], others: NDArray[Any]) -> NDArray[np.int64]:
    """Return the first row of each row's group, from pairs of rows that belong together."""
    graph = coo_array((np.ones(len(rows), bool), (rows, others)), shape=(n, n))
    _, component = connected_components(graph, directed=False)
    _, first, code = np.unique(component, return_index=True, return_inverse=True)
    return first[code].astype(np.int64)


def _group_by_pixels(images: Any) -> NDArray[np.int64]:
    digests: list[bytes] = []
    for start in range(0, len(images), _STAMPS_PER_READ):
        digests += digest_stamps(np.asarray(images[start : start + _STAMPS_PER_READ]))
    return group_equal(digests)


def digest_stamps(stamps: NDArray[Any]) -> list[bytes]:
    """Return a fingerprint of the pixels of each stamp."""
    return [hashlib.blake2b(stamp.tobytes(), digest_size=16).digest() for stamp in stamps]


def group_equal(digests: Sequence[bytes]) -> NDArray[np.int64]:
    """Return the first row of the same fingerprint, for each row.

    Examples
    --------
    >>> group_equal([b"a", b"b", b"a"]).tolist()
    [0, 1, 0]
    """
    first_rows: dict[bytes, int] = {}
    rows = [first_rows.setdefault(digest, row) for row, digest in enumerate(digests)]
    return np.array(rows, np.int64)


def _group_by_position(ra: ArrayLike, dec: ArrayLike, radius: float) -> NDArray[np.int64]:
    sky = sky_positions(ra, dec)
    placed = np.flatnonzero(np.isfinite(sky.ra.deg))
    rows, others, _, _ = sky[placed].search_around_sky(sky[placed], radius * u.arcsec)
    return _connect(len(sky), placed[rows], placed[others])
