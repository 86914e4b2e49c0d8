"""Cut stamps out of survey mosaics at the positions of a catalogue."""

from __future__ import annotations

import re
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

import numpy as np
import pandas as pd
from astropy.wcs import WCS
from numpy.typing import NDArray
from pandas.api.types import is_numeric_dtype
from scipy.ndimage import map_coordinates

from skastro.catalogs.positions import find_positions
from skastro.catalogs.tables import from_astropy
from skastro.stamps.bands import spell_bands
from skastro.stamps.files import Hdu
from skastro.stamps.formats import Rows
from skastro.stamps.stack import Stamps
from skastro.surveys.mosaics import Floats, Tile, describe_grid, differ, open_tiles
from skastro.utils.validation import name_near

_POSITION_DECIMALS = 6  # in pixels: positions that differ by rounding cut the same stamp
_FROM_ONE = re.compile("x(win)?_image", re.IGNORECASE)  # pixel positions of SExtractor


@dataclass(frozen=True, eq=False)
class MosaicCutouts:
    """Pixel source of `Stamps` that reads sections of mosaics on demand.

    ``tile`` (n, bands) is the number of the tile among the ``tiles`` of its band, -1 if no tile
    shows the object. ``x`` and ``y`` (n, bands) are the positions in that tile, 0-based pixels.
    """

    tiles: tuple[tuple[Tile, ...], ...]
    tile: NDArray[np.int32]
    x: Floats
    y: Floats
    world: Floats  # (n, 2) degrees (ICRS), or pixels if the positions are pixels
    areas: Floats | None  # (n, bands) pixel area over the tile's one, NaN where not resampled
    size: tuple[int, int]
    dtype: np.dtype
    bands: tuple[str, ...]
    ids: NDArray[Any] | None
    catalog_rows: NDArray[np.int64]
    partial: NDArray[np.bool_]

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """Number of stamps, number of bands, height and width."""
        return (len(self.tile), len(self.bands), *self.size)

    def read(self, rows: Rows) -> NDArray[Any]:
        """Read the stamps of some rows, tile by tile."""
        stamps = np.full((len(rows), *self.shape[1:]), np.nan, self.dtype)
        for band, tiles in enumerate(self.tiles):
            numbers = self.tile[rows, band]
            for number in np.unique(numbers[numbers >= 0]):
                places = np.flatnonzero(numbers == number)
                stamps[places, band] = self._read_tile(tiles[number], rows[places], band)
        return stamps

    def _read_tile(self, tile: Tile, rows: Rows, band: int) -> list[NDArray[Any]]:
        positions = zip(self.x[rows, band], self.y[rows, band], strict=True)
        with tile.open() as image:
            return [
                tile.cut(image, position, self.size, self.dtype)
                if self.areas is None or np.isnan(self.areas[row, band])
                else self._resample(image, tile, row) * self.areas[row, band]
                for row, position in zip(rows, positions, strict=True)
            ]

    def _resample(self, image: Any, tile: Tile, row: int) -> Floats:
        """Interpolate the pixels of a tile on the grid of a stamp; NaN outside the tile."""
        x, y = tile.to_pixels(self._grid_of(row)).reshape(2, *self.size)
        seen = np.isfinite(x) & np.isfinite(y)
        if not seen.any():
            return np.full(self.size, np.nan)
        (left, right), (bottom, top) = (
            (int(np.floor(axis[seen].min())), int(np.ceil(axis[seen].max())) + 1) for axis in (x, y)
        )
        height, width = top - bottom, right - left
        middle = (left + width / 2, bottom + height / 2)
        pixels = tile.cut(image, middle, (height, width), np.dtype(np.float64))
        values = map_coordinates(pixels, [y - bottom, x - left], order=1, cval=np.nan)
        return np.where(seen, values, np.nan)

    def _grid_of(self, row: int) -> Floats:
        """Return the positions (height * width, 2) on the sky of the pixels of a stamp."""
        y, x = map(np.ravel, np.indices(self.size))
        number, (height, width) = self.tile[row, 0], self.size
        if number >= 0 and np.isnan(np.asarray(self.areas)[row, 0]):  # its pixels in the first band
            x = x + _first_pixel(self.x[row, 0], width)
            y = y + _first_pixel(self.y[row, 0], height)
            return self.tiles[0][number].to_world(x, y)
        # The first band does not show the object on its grid: such a grid, centred on the object.
        centred = WCS(naxis=2)
        centred.wcs.ctype = ["RA---TAN", "DEC--TAN"]
        centred.wcs.crval = self.world[row]
        centred.wcs.crpix = [width / 2 + 0.5, height / 2 + 0.5]
        centred.wcs.cd = self.tiles[0][0].matrix
        return np.column_stack(centred.all_pix2world(x, y, 0))


def cut_stamps(
    mosaics: Mapping[str, Any],
    catalog: pd.DataFrame,
    *,
    size: int | tuple[int, int],
    bands: str | Sequence[str] | None = None,
    id: str | None = None,  # noqa: A002 - the catalogue's word, as in read_catalog
    ra: str | None = None,
    dec: str | None = None,
    x: str | None = None,
    y: str | None = None,
    hdu: Hdu | None = None,
    reproject: bool = False,
) -> Stamps:
    """Cut stamps out of mosaics at the positions of a catalogue, lazily.

    Parameters
    ----------
    mosaics : dict of str to path, or to sequence of paths
        FITS file of each band, or the files of its tiles. Only the sections of the stamps are read
        (a ``.fits.gz`` is read whole: unpack it first). Axes of length 1 are left out.
    catalog : DataFrame of n rows, or astropy Table
        Catalogue with positions on the sky or in pixels; see ``ra`` and ``x``.
    size : int or tuple (height, width)
        Size of the stamps in pixels.
    bands : str or sequence of str, default=None
        Bands to cut, in this order. None means all, in the order of ``mosaics``.
    id : str, default=None
        Column of names for ``stamps.ids``. None means the column "id", if there is one.
    ra, dec : str, default=None
        Columns of the positions on the sky, for mosaics with a WCS: degrees, unless the column has
        another unit, or sexagesimal text with hours first. None means the columns with the usual
        names. Columns of galactic, ecliptic or B1950 coordinates are known by their names (``l``
        and ``b``, ``glon`` and ``glat``, ``ecl_lon`` and ``ecl_lat``, ``RAB1950`` and ``DEB1950``,
        ...); all others are ICRS or J2000.
    x, y : str, default=None
        Columns of 0-based pixel positions, used instead of the sky: each band needs one tile, and
        all tiles the same pixel grid.
    hdu : int, str, tuple (name, version) or list of these, default=None
        Extension of the images; several are tiles. None means the images of the file: without
        errors, masks, weights and the like, and only those named as the band if there are some.
        They are tiles if they show different parts of the sky, such as those of several detectors,
        and an error if they do not.
    reproject : bool, default=False
        Resample bands of another pixel scale or orientation onto the grid of the first band's
        first tile, with the flux of a pixel scaled by its area, instead of refusing them.

    Returns
    -------
    stamps : Stamps of shape (m, bands, height, width), float32 (float64 if a mosaic is)
        Stamps in the order of the catalogue. Objects that lie outside the tiles in every band are
        left out, and a warning counts them: ``catalog.iloc[stamps.catalog_rows]`` are the rows of
        the stamps. Pixels outside a tile are NaN; ``stamps.partial`` marks the stamps that have
        such pixels. Where tiles overlap, the tile whose edge is furthest away is used.

    Raises
    ------
    FileNotFoundError, ValueError
        A file is missing or damaged, has no image, several images of the same part of the sky, or
        no WCS of the sky; bands differ in pixel scale or orientation; the catalogue is empty, or
        lacks positions; no object lies inside.

    Notes
    -----
    Positions are transformed to the frame of the WCS: equatorial (ICRS, FK5, FK4), galactic,
    supergalactic or ecliptic, in any projection, with distortions. A stamp holds the pixels that
    `astropy.nddata.Cutout2D` cuts: the source is within half a pixel of its middle, and no pixel
    is resampled unless ``reproject`` asks for it. (Cutout2D of astropy 8.0 takes ecliptic
    longitudes for right ascensions, and exchanges x and y where declination is the first axis.)

    Stored integers are scaled by ``BSCALE`` and ``BZERO``, and ``BLANK`` pixels are NaN.

    Examples
    --------
    >>> import tempfile
    >>> from astropy.io import fits
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = f"{folder}/mosaic_r.fits"
    ...     fits.writeto(path, np.arange(10000, dtype=np.float32).reshape(100, 100))
    ...     catalog = pd.DataFrame({"id": [7, 9], "x": [50.0, 3.0], "y": [20.0, 60.0]})
    ...     stamps = cut_stamps({"r": path}, catalog, size=9, x="x", y="y")
    ...     print(np.asarray(stamps)[0, 0, 4, 4], stamps.partial)
    2050.0 [False  True]
    """
    names, keys = _choose_bands(mosaics, bands)
    box, catalog = _check_size(size), _check_catalog(catalog, id)

    # Read the headers of all tiles, and the positions of the objects.
    on_sky = x is None and y is None
    tiles = tuple(
        open_tiles(band, mosaics[key], hdu, sky=on_sky)
        for band, key in zip(names, keys, strict=True)
    )
    if on_sky:
        sky = find_positions(catalog, ra, dec)
        positions = np.column_stack([sky.ra.deg, sky.dec.deg])
    else:
        _check_one_grid(names, tiles)
        positions = _take_pixels(catalog, x, y)

    # Find the tile of each object in each band, and its position there.
    places = [_find_tiles(positions, tiles_of_band, sky=on_sky) for tiles_of_band in tiles]
    tile, px, py = (np.column_stack(parts) for parts in zip(*places, strict=True))

    # Keep the objects that lie on a tile of some band.
    inside, partial = _check_coverage(tiles, tile, px, py, box)
    tile[~inside] = -1
    rows = _rows_inside(inside)
    tile, px, py, positions = tile[rows], px[rows], py[rows], positions[rows]
    areas = _compare_grids(names, tiles, tile, positions, reproject=reproject) if on_sky else None
    id = id or ("id" if "id" in catalog.columns else None)  # noqa: A001
    ids = None if id is None else catalog[id].to_numpy()[rows]
    dtype = np.result_type(np.float32, *{image.dtype for image in chain.from_iterable(tiles)})
    source = MosaicCutouts(
        tiles, tile, px, py, positions, areas, box, dtype, names, ids, rows, partial[rows]
    )
    return Stamps(source)


def _choose_bands(
    mosaics: Mapping[str, Any], bands: str | Sequence[str] | None
) -> tuple[tuple[str, ...], list[str]]:
    """Return the names of the bands, and their keys in ``mosaics``."""
    if not hasattr(mosaics, "keys"):
        raise ValueError(
            f"mosaics is a {type(mosaics).__name__}: pass a dict of a FITS file for each band, "
            'such as {"r": "mosaic_r.fits"}.'
        )
    names = tuple(mosaics) if bands is None else tuple(bands)
    keys = spell_bands(names, mosaics)
    if absent := [name for name, key in zip(names, keys, strict=True) if key not in mosaics]:
        choice = ", ".join(map(str, mosaics))
        raise ValueError(f"mosaics has no band {absent[0]!r}: it has {choice}.")
    if not names:
        raise ValueError("mosaics is empty: pass a FITS file for each band.")
    return names, keys


def _check_catalog(catalog: Any, id: str | None) -> pd.DataFrame:  # noqa: A002
    """Return a catalogue as a DataFrame with units in its ``attrs``."""
    if hasattr(catalog, "colnames"):  # an astropy Table
        catalog = from_astropy(catalog.copy())
    if not hasattr(catalog, "iloc"):
        raise ValueError(
            f"catalog is a {type(catalog).__name__}: pass a DataFrame, such as read_catalog(path)."
        )
    if not len(catalog):
        raise ValueError("catalog is empty: pass one with at least one row.")
    if id is not None and id not in catalog.columns:
        raise ValueError(f"id={id!r} is not a column of the catalog{name_near(id, catalog)}")
    return catalog


def _check_size(size: int | tuple[int, int]) -> tuple[int, int]:
    box = (size, size) if isinstance(size, (int, np.integer)) else tuple(size)
    if len(box) != 2 or min(box) < 1:
        raise ValueError(f"size={size!r} must be a positive number of pixels, or two of them.")
    return box


def _compare_grids(
    names: tuple[str, ...],
    tiles: tuple[tuple[Tile, ...], ...],
    tile: NDArray[np.int32],
    world: Floats,
    *,
    reproject: bool,
) -> Floats:
    """Compare the pixel scale and orientation of the bands of each stamp.

    Returns ``areas`` of `MosaicCutouts`. A stamp has the grid of the first band where that is the
    grid of its first tile, else that of the first tile. Other grids are an error, unless
    ``reproject``.
    """
    first = tiles[0][0]
    grid = np.tile(first.matrix, (len(world), 1, 1))
    areas = np.full(tile.shape, np.nan)
    for band, tiles_of_band in enumerate(tiles):
        for number, image in enumerate(tiles_of_band):
            rows = np.flatnonzero(tile[:, band] == number)
            if band == 0 and image.has_grid_of(first) and len(names) == 1:
                continue
            local = image.matrices_at(world[rows])
            if band == 0 and image.has_grid_of(first):
                grid[rows] = local
                continue
            others = np.flatnonzero(differ(local, grid[rows]))
            if len(others) and not reproject:
                row = rows[others[0]]
                raise ValueError(
                    f"{image.path} (band {names[band]!r}) has {describe_grid(local[others[0]])}, "
                    f"but {first.path} has {describe_grid(grid[row])}: pass reproject=True to "
                    "bring all to the grid of the first."
                )
            ratio = np.linalg.det(grid[rows]) / np.linalg.det(local)
            areas[rows[others], band] = np.abs(ratio[others])
    return areas


def _check_one_grid(names: tuple[str, ...], tiles: tuple[tuple[Tile, ...], ...]) -> None:
    first = tiles[0][0]
    for band, (tile, *more) in zip(names, tiles, strict=True):
        if more:
            raise ValueError(f"band {band!r} has {len(more) + 1} tiles: pixel positions need one.")
        if tile.shape != first.shape:
            raise ValueError(
                f"{tile.path} has {tile.shape} pixels, but {first.path} has {first.shape}: "
                "one pixel position needs one grid; pass ra= and dec=."
            )


def _take_pixels(catalog: pd.DataFrame, x: str | None, y: str | None) -> Floats:
    """Return the pixel positions (n, 2) of a catalogue."""
    for name, kind in ((x, "x"), (y, "y")):
        if name is None or name not in catalog.columns:
            raise ValueError(f"catalog has no column {name or kind!r}: pass both x= and y=.")
        if not is_numeric_dtype(catalog[name]):
            raise ValueError(f"{kind}={name!r} is a column of text: pass one of pixel positions.")
    if _FROM_ONE.fullmatch(str(x)):
        warnings.warn(
            f"{x} of SExtractor counts pixels from 1, but positions are taken as counted from 0: "
            "subtract 1 from both columns, unless you have done so.",
            UserWarning,
            stacklevel=3,
        )
    return catalog[[x, y]].to_numpy(np.float64, na_value=np.nan)


def _find_tiles(
    positions: Floats, tiles: tuple[Tile, ...], *, sky: bool
) -> tuple[NDArray[np.int32], Floats, Floats]:
    """Return the tile of each object with the most room around it, and its position there."""
    number = np.full(len(positions), -1, np.int32)
    best_room = np.full(len(positions), -np.inf)
    x, y = np.full((2, len(positions)), np.nan)
    for index, tile in enumerate(tiles):
        pixels = tile.to_pixels(positions) if sky else positions.T
        px, py = np.round(pixels, _POSITION_DECIMALS)
        room = tile.room(np.array([px, py]))
        better = room > best_room  # never without a position (NaN)
        number[better], best_room[better] = index, room[better]
        x[better], y[better] = px[better], py[better]
    return number, x, y


def _check_coverage(
    tiles: tuple[tuple[Tile, ...], ...],
    tile: NDArray[np.int32],
    x: Floats,
    y: Floats,
    size: tuple[int, int],
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Return which bands of a stamp have pixels (n, bands), and which stamps lack some (n,)."""
    shapes = [np.array([t.shape for t in tiles_of_band]) for tiles_of_band in tiles]
    limits = np.stack([s[np.maximum(tile[:, b], 0)] for b, s in enumerate(shapes)], axis=1)
    inside = (tile >= 0) & np.isfinite(x) & np.isfinite(y)
    whole: Any = inside
    for position, length, limit in ((y, size[0], limits[..., 0]), (x, size[1], limits[..., 1])):
        start = _first_pixel(position, length)
        inside = inside & (start + length > 0) & (start < limit)
        whole = whole & (start >= 0) & (start + length <= limit)
    return inside, ~whole.all(axis=1)


def _first_pixel(position: Any, length: Any) -> Any:
    """Return the first pixel of a section, the same as that of astropy.nddata.overlap_slices."""
    return np.ceil(position - length / 2)


def _rows_inside(inside: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Return the rows that lie on a mosaic, and warn of the others."""
    outside = ~inside.any(axis=1)
    if outside.all():
        raise ValueError(
            f"none of the {len(inside):,} objects lies inside a mosaic: check that the "
            "positions are in degrees, and that the mosaics belong to this catalogue."
        )
    if outside.any():
        warnings.warn(
            f"{outside.sum():,} of {len(inside):,} objects (the first in row {outside.argmax()}) "
            "lie outside every mosaic and are left out: stamps.catalog_rows has the rows of the "
            "others.",
            stacklevel=3,
        )
    return np.flatnonzero(~outside)
