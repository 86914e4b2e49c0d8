"""Cut stamps out of survey mosaics at the positions of a catalogue."""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from astropy.io import fits
from astropy.nddata import NoOverlapError, overlap_slices
from astropy.wcs import WCS, FITSFixedWarning
from numpy.typing import NDArray

from skastro.catalogs.matching import require_column, sky_positions
from skastro.stamps.formats import Rows, check_unchanged, native, signature_of
from skastro.stamps.stack import Stamps
from skastro.utils.files import UnfitError, first_line, reading
from skastro.utils.fits import open_fits
from skastro.utils.packages import import_optional

_MAX_GRID_DIFFERENCE = 0.01  # in pixels: 1 % of the scale, or half a degree of orientation
_POSITION_DECIMALS = 6  # in pixels: positions that differ by rounding cut the same stamp
_REPROJECTION_MARGIN = 1.5  # width of the pixels to resample, in units of the stamp's width

_Floats = NDArray[np.float64]


class _Tile(NamedTuple):
    """An image of a mosaic: its file, extension, size and WCS header."""

    path: Path
    hdu: int
    shape: tuple[int, int]
    header: str
    dtype: np.dtype
    matrix: NDArray[np.float64]  # (2, 2) degrees on the sky per pixel
    signature: str

    @property
    def scale(self) -> float:
        """Pixel scale in degrees."""
        return _pixel_scale(self.matrix)

    def wcs(self) -> WCS:
        return _read_wcs(fits.Header.fromstring(self.header))

    def has_grid_of(self, other: _Tile) -> bool:
        """Return whether two tiles have the same pixel scale and orientation."""
        return bool(abs(self.matrix - other.matrix).max() < _MAX_GRID_DIFFERENCE * other.scale)

    def describe_grid(self) -> str:
        angle = np.degrees(np.arctan2(self.matrix[0, 1], self.matrix[1, 1]))
        return f"{self.scale * 3600:.4g} arcsec a pixel at {angle:.1f} degrees"


@dataclass(frozen=True, eq=False)
class MosaicCutouts:
    """Pixel source of `Stamps` that reads sections of mosaics on demand.

    ``tile`` (n, bands) is the number of the tile among the ``tiles`` of its band, -1 if no tile
    shows the object. ``x`` and ``y`` (n, bands) are the positions in that tile, 0-based pixels.
    """

    tiles: tuple[tuple[_Tile, ...], ...]
    tile: NDArray[np.int32]
    x: _Floats
    y: _Floats
    world: _Floats | None  # (n, 2) degrees, if stamps are reprojected
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

    def _read_tile(self, tile: _Tile, rows: Rows, band: int) -> list[NDArray[Any]]:
        check_unchanged(tile.path, tile.signature)
        positions = list(zip(self.x[rows, band], self.y[rows, band], strict=True))
        with tile.path.open("rb") as file, fits.open(file, memmap=True) as hdus:
            section = hdus[tile.hdu].section
            if self.world is None or tile.has_grid_of(self.tiles[0][0]):
                return [_extract(section, tile, p, self.size, self.dtype) for p in positions]
            return [
                _reproject(section, tile, position, self._target_wcs(row), self.size)
                for position, row in zip(positions, rows, strict=True)
            ]

    def _target_wcs(self, row: int) -> WCS:
        """Return the WCS of a stamp on the grid of the first band."""
        number, size = self.tile[row, 0], np.array(self.size[::-1])
        wcs = self.tiles[0][max(number, 0)].wcs()
        if number >= 0:  # the stamp's own pixels in the first band
            wcs.wcs.crpix -= _first_pixel(np.array([self.x[row, 0], self.y[row, 0]]), size)
            return wcs
        # The first band does not show the object: a grid of the same scale, centred on it.
        centred = WCS(naxis=2)
        centred.wcs.ctype = ["RA---TAN", "DEC--TAN"]
        centred.wcs.crval = np.asarray(self.world)[row]
        centred.wcs.crpix = size / 2 + 0.5
        centred.wcs.cd = wcs.pixel_scale_matrix
        return centred


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
    hdu: int | str | None = None,
    reproject: bool = False,
) -> Stamps:
    """Cut stamps out of mosaics at the positions of a catalogue, lazily.

    Parameters
    ----------
    mosaics : dict of str to path, or to sequence of paths
        FITS file of each band, or the files of its tiles. Files are memory-mapped, and only the
        sections of the stamps are read (a ``.fits.gz`` is read whole: unpack it first).
    catalog : DataFrame of n rows
        Catalogue with right ascension and declination (degrees, or sexagesimal text with hours
        first), or with pixel positions; see ``ra`` and ``x``.
    size : int or tuple (height, width)
        Size of the stamps in pixels.
    bands : str or sequence of str, default=None
        Bands to cut, in this order. None means all, in the order of ``mosaics``.
    id : str, default=None
        Column of names for ``stamps.ids``. None means the column "id", if there is one.
    ra, dec : str, default=None
        Columns of the positions on the sky, for mosaics with a WCS. None means the columns with
        the usual names.
    x, y : str, default=None
        Columns of 0-based pixel positions, used instead of the sky: each band needs one tile, and
        all tiles the same pixel grid.
    hdu : int or str, default=None
        Extension of the images. None means the first two-dimensional image.
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
        A file is missing or damaged, has no image or no WCS; bands differ in pixel scale or
        orientation; the catalogue is empty, or lacks positions; no object lies inside.

    Notes
    -----
    A stamp holds the pixels that `astropy.nddata.Cutout2D` cuts: the source is within half a
    pixel of its middle, and no pixel is resampled unless ``reproject`` asks for it.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = f"{folder}/mosaic_r.fits"
    ...     fits.writeto(path, np.arange(10000, dtype=np.float32).reshape(100, 100))
    ...     catalog = pd.DataFrame({"id": [7, 9], "x": [50.0, 3.0], "y": [20.0, 60.0]})
    ...     stamps = cut_stamps({"r": path}, catalog, size=9, x="x", y="y")
    ...     print(np.asarray(stamps)[0, 0, 4, 4], stamps.partial)
    2050.0 [False  True]
    """
    names, box = tuple(mosaics) if bands is None else tuple(bands), _check_size(size)
    if absent := [band for band in names if band not in mosaics]:
        choice = ", ".join(map(str, mosaics))
        raise ValueError(f"mosaics has no band {absent[0]!r}: it has {choice}.")
    if not names:
        raise ValueError("mosaics is empty: pass a FITS file for each band.")
    if not len(catalog):
        raise ValueError("catalog is empty: pass one with at least one row.")
    if id is not None and id not in catalog.columns:
        raise ValueError(
            f"id={id!r} is not a column of the catalog: it has {', '.join(catalog.columns)}."
        )

    # Read the headers of all tiles, and the positions of the objects.
    on_sky = x is None and y is None
    tiles = tuple(_open_tiles(band, mosaics[band], hdu, sky=on_sky) for band in names)
    if on_sky:
        if not reproject:
            _check_grids(names, tiles)
        positions = _take_sky(catalog, ra, dec)
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
    id = id or ("id" if "id" in catalog.columns else None)  # noqa: A001
    ids = None if id is None else catalog[id].to_numpy()[rows]
    world = positions[rows] if reproject and on_sky else None
    dtype = np.result_type(np.float32, *{image.dtype for image in chain.from_iterable(tiles)})
    source = MosaicCutouts(
        tiles, tile[rows], px[rows], py[rows], world, box, dtype, names, ids, rows, partial[rows]
    )
    return Stamps(source)


def _check_size(size: int | tuple[int, int]) -> tuple[int, int]:
    box = (size, size) if isinstance(size, (int, np.integer)) else tuple(size)
    if len(box) != 2 or min(box) < 1:
        raise ValueError(f"size={size!r} must be a positive number of pixels, or two of them.")
    return box


def _open_tiles(band: str, paths: Any, hdu: int | str | None, *, sky: bool) -> tuple[_Tile, ...]:
    paths = [paths] if isinstance(paths, (str, os.PathLike)) else list(paths)
    if not paths:
        raise ValueError(f"mosaics[{band!r}] is empty: pass at least one FITS file.")
    return tuple(_open_tile(Path(path).expanduser(), hdu, sky=sky) for path in paths)


def _open_tile(path: Path, hdu: int | str | None, *, sky: bool) -> _Tile:
    """Read the headers of a mosaic."""
    gone = "does not exist: pass the path of a mosaic"
    with (
        reading(path, "cannot be read as FITS", "copy it again", gone=gone),
        open_fits(path) as file,
        fits.open(file) as hdus,
    ):
        number = _find_image(path, hdus, hdu)
        header, shape = hdus[number].header, hdus[number].shape
        bits = header.get("ZBITPIX", header["BITPIX"])
    matrix = _pixel_matrix(path, header) if sky else np.eye(2)
    dtype = np.dtype(np.float64 if bits in (-64, 32, 64) else np.float32)
    return _Tile(path, number, shape, header.tostring(), dtype, matrix, signature_of([path]))


def _find_image(path: Path, hdus: fits.HDUList, hdu: int | str | None) -> int:
    """Return the number of the extension that holds the image."""
    if hdu is None:
        for number, extension in enumerate(hdus):
            if extension.is_image and len(extension.shape) == 2:
                return number
        raise UnfitError(f"{path} has no 2-D image: pass hdu=, or another file.")
    try:
        number = hdus.index_of(hdu)
        shape = hdus[number].shape
    except (KeyError, IndexError):
        raise UnfitError(f"{path} has no extension {hdu!r}: choose another hdu=.") from None
    if len(shape) != 2:
        raise UnfitError(f"{path} has an image of shape {shape} in {hdu!r}: mosaics are 2-D.")
    return number


def _read_wcs(header: fits.Header) -> WCS:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FITSFixedWarning)
        return WCS(header, naxis=2)


def _pixel_scale(matrix: _Floats) -> float:
    return float(np.sqrt(np.prod(np.sqrt((matrix**2).sum(axis=0)))))


def _pixel_matrix(path: Path, header: fits.Header) -> _Floats:
    try:
        wcs = _read_wcs(header)
    except Exception as error:  # wcslib raises errors of many kinds
        raise UnfitError(
            f"{path} has a WCS that cannot be read ({first_line(error)}): correct its header."
        ) from error
    if not wcs.has_celestial:
        raise UnfitError(
            f"{path} has no WCS, which ra and dec need: add one to its header, or pass the pixel "
            "positions by x= and y=."
        )
    return wcs.pixel_scale_matrix


def _check_grids(names: tuple[str, ...], tiles: tuple[tuple[_Tile, ...], ...]) -> None:
    first = tiles[0][0]
    for band, tiles_of_band in zip(names, tiles, strict=True):
        for tile in tiles_of_band:
            if not tile.has_grid_of(first):
                raise ValueError(
                    f"{tile.path} (band {band!r}) has {tile.describe_grid()}, but {first.path} "
                    f"has {first.describe_grid()}: pass reproject=True to bring all to the grid of "
                    "the first."
                )


def _check_one_grid(names: tuple[str, ...], tiles: tuple[tuple[_Tile, ...], ...]) -> None:
    first = tiles[0][0]
    for band, (tile, *more) in zip(names, tiles, strict=True):
        if more:
            raise ValueError(f"band {band!r} has {len(more) + 1} tiles: pixel positions need one.")
        if tile.shape != first.shape:
            raise ValueError(
                f"{tile.path} has {tile.shape} pixels, but {first.path} has {first.shape}: "
                "one pixel position needs one grid; pass ra= and dec=."
            )


def _take_pixels(catalog: pd.DataFrame, x: str | None, y: str | None) -> _Floats:
    """Return the pixel positions (n, 2) of a catalogue."""
    for name, kind in ((x, "x"), (y, "y")):
        if name is None or name not in catalog.columns:
            raise ValueError(f"catalog has no column {name or kind!r}: pass both x= and y=.")
    return catalog[[x, y]].to_numpy(np.float64)


def _take_sky(catalog: pd.DataFrame, ra: str | None, dec: str | None) -> _Floats:
    """Return the positions (n, 2) of a catalogue on the sky in degrees."""
    named = {"ra": ra, "dec": dec}
    columns = [require_column(catalog, name, kind, kind) for kind, name in named.items()]
    sky = sky_positions(*(catalog[column] for column in columns))
    return np.column_stack([sky.ra.deg, sky.dec.deg])


def _find_tiles(
    positions: _Floats, tiles: tuple[_Tile, ...], *, sky: bool
) -> tuple[NDArray[np.int32], _Floats, _Floats]:
    """Return the tile of each object with the most room around it, and its position there."""
    number = np.full(len(positions), -1, np.int32)
    best_room = np.full(len(positions), -np.inf)
    x, y = np.full((2, len(positions)), np.nan)
    for index, tile in enumerate(tiles):
        pixels = _to_pixels(tile, positions) if sky else positions.T
        px, py = np.round(pixels, _POSITION_DECIMALS)
        height, width = tile.shape
        # Room is the distance to the nearest edge; NaN (no position) is never better.
        room = np.min([px, width - 1 - px, py, height - 1 - py], axis=0)
        better = room > best_room
        number[better], best_room[better] = index, room[better]
        x[better], y[better] = px[better], py[better]
    return number, x, y


def _to_pixels(tile: _Tile, world: _Floats) -> _Floats:
    """Return x and y (2, n) of positions on the sky in a tile, NaN where it does not show them."""
    finite = np.isfinite(world).all(axis=1)
    pixels = np.full((2, len(world)), np.nan)
    if finite.any():
        wcs, (ra, dec) = tile.wcs(), world[finite].T
        projected = wcs.all_world2pix(ra, dec, 0, quiet=True)
        # A tangent plane also shows the far side of the sky, which does not convert back.
        back_ra, back_dec = wcs.all_pix2world(*projected, 0)
        turn = (back_ra - ra + 180) % 360 - 180
        away = np.hypot(turn * np.cos(np.radians(dec)), back_dec - dec)
        pixels[:, finite] = np.where(away < tile.scale, projected, np.nan)
    return pixels


def _check_coverage(
    tiles: tuple[tuple[_Tile, ...], ...],
    tile: NDArray[np.int32],
    x: _Floats,
    y: _Floats,
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


def _extract(
    section: Any, tile: _Tile, position: tuple[float, float], size: tuple[int, int], dtype: np.dtype
) -> NDArray[Any]:
    """Read the pixels around a position; NaN outside the image."""
    stamp = np.full(size, np.nan, dtype)
    with suppress(NoOverlapError):
        in_tile, in_stamp = overlap_slices(tile.shape, size, position[::-1], mode="partial")
        stamp[in_stamp] = native(np.asarray(section[in_tile]))
    return stamp


def _reproject(
    section: Any, tile: _Tile, position: tuple[float, float], target: WCS, size: tuple[int, int]
) -> NDArray[Any]:
    """Resample the pixels around a position onto the grid of a stamp."""
    reproject = import_optional("reproject", extra="data", needed_by="reproject=True")
    scale = _pixel_scale(target.pixel_scale_matrix)
    side = int(np.ceil(_REPROJECTION_MARGIN * max(size) * scale / tile.scale)) + 4
    pixels = _extract(section, tile, position, (side, side), np.dtype(np.float64))
    wcs = tile.wcs()
    wcs.wcs.crpix -= _first_pixel(np.array(position), side)
    out, _ = reproject.reproject_interp((pixels, wcs), target, shape_out=size)
    return out * (scale / tile.scale) ** 2
