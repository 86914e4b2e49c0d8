"""Stamps cut out of survey mosaics at the positions of a catalogue, section by section."""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from astropy.io import fits
from astropy.nddata import NoOverlapError, overlap_slices
from astropy.wcs import WCS, FITSFixedWarning
from astropy.wcs.utils import proj_plane_pixel_scales
from numpy.typing import NDArray

from skastro.catalogs.columns import find_column
from skastro.catalogs.matching import sky_positions
from skastro.stamps.formats import Rows, check_unchanged, native, signature_of
from skastro.stamps.stack import Stamps
from skastro.utils.files import UnfitError, reading
from skastro.utils.fits import open_fits
from skastro.utils.packages import import_optional

_SAME_SCALE = 0.01  # relative
_SAME_ANGLE = 0.5  # degree
_PIXEL_DECIMALS = 6  # of a pixel: coordinates that differ by rounding cut the same stamp
_MARGIN = 1.5  # what a reprojected stamp is made of, in units of its size


class _Tile(NamedTuple):
    """A mosaic's image: its file, extension, size and WCS header."""

    path: Path
    hdu: int
    shape: tuple[int, int]
    header: str
    dtype: np.dtype
    scale: float  # degrees per pixel
    angle: float  # degrees, of the second axis from north
    flipped: bool
    signature: str

    def wcs(self) -> WCS:
        return _wcs_of(fits.Header.fromstring(self.header))


@dataclass(frozen=True, eq=False)
class MosaicCutouts:
    """Where each stamp lies in the tiles of each band: no pixel is read before it is wanted.

    ``tile`` (n, bands) is the number of the tile in ``tiles`` of the band, -1 for none; ``x`` and
    ``y`` (n, bands) are the positions in it, 0-based pixels.
    """

    tiles: tuple[tuple[_Tile, ...], ...]
    tile: NDArray[np.int32]
    x: NDArray[np.float64]
    y: NDArray[np.float64]
    world: NDArray[np.float64] | None  # (n, 2) degrees, if stamps are reprojected
    size: tuple[int, int]
    dtype: np.dtype
    bands: tuple[str, ...]
    ids: NDArray[Any] | None
    catalog_rows: NDArray[np.int64]
    partial: NDArray[np.bool_]

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """Number of stamps, of bands, height and width."""
        return (len(self.tile), len(self.bands), *self.size)

    def read(self, rows: Rows) -> NDArray[Any]:
        """Read the sections of some rows, tile by tile."""
        stamps = np.full((len(rows), *self.shape[1:]), np.nan, self.dtype)
        for band, tiles in enumerate(self.tiles):
            for number in np.unique(self.tile[rows, band]):
                places = np.flatnonzero(self.tile[rows, band] == number)
                if number >= 0:
                    self._read_tile(stamps[:, band], tiles[number], rows, places, band)
        return stamps

    def _read_tile(
        self, stamps: NDArray[Any], tile: _Tile, rows: Rows, places: Rows, band: int
    ) -> None:
        check_unchanged(tile.path, tile.signature)
        with tile.path.open("rb") as file, fits.open(file, memmap=True) as hdus:
            section = hdus[tile.hdu].section
            for place in places:
                stamps[place] = self._cut(section, tile, rows[place], band)

    def _cut(self, section: Any, tile: _Tile, row: int, band: int) -> NDArray[Any]:
        position = self.x[row, band], self.y[row, band]
        if self.world is None or _same_grid(tile, self.tiles[0][0]):
            return _extract(section, tile.shape, position, self.size, self.dtype)
        return _reproject(section, tile, position, self._target(row), self.size)

    def _target(self, row: int) -> WCS:
        """Return the WCS of a stamp on the grid of the first band."""
        number = self.tile[row, 0]
        wcs = self.tiles[0][max(number, 0)].wcs()
        if number >= 0:  # the very pixels that are cut there
            corner = [
                _first_pixel(p, length)
                for p, length in zip((self.x[row, 0], self.y[row, 0]), self.size[::-1], strict=True)
            ]
            wcs.wcs.crpix -= corner
            return wcs
        centred = WCS(naxis=2)
        centred.wcs.ctype = ["RA---TAN", "DEC--TAN"]
        centred.wcs.crval = np.asarray(self.world)[row]
        centred.wcs.crpix = [self.size[1] / 2 + 0.5, self.size[0] / 2 + 0.5]
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
        Band to its FITS file, or to its tiles. Files are opened memory-mapped, and only the
        sections that are wanted are read (of ``.fits.gz`` all: unpack such first).
    catalog : DataFrame of n rows
        With right ascension and declination (degrees, or sexagesimal text with hours first), or
        pixel positions; see ``ra`` and ``x``.
    size : int or tuple (height, width)
        In pixels.
    bands : str or sequence of str, default=None
        Bands in the order wanted; None takes all, in the order of ``mosaics``.
    id : str, default=None
        Column that names the objects, for ``stamps.ids``; None takes "id" if there is one.
    ra, dec : str, default=None
        Columns of the positions on the sky; None finds them by their usual names. The mosaics
        need a WCS then.
    x, y : str, default=None
        Columns of 0-based pixel positions, instead: one tile for each band, on one pixel grid.
    hdu : int or str, default=None
        Extension of the images; None takes the first with two dimensions.
    reproject : bool, default=False
        Resample bands of another pixel scale or orientation onto the grid of the first band's
        first tile, with the flux of a pixel scaled by its area, instead of refusing them.

    Returns
    -------
    stamps : Stamps of shape (m, bands, height, width), float32 (float64 if a mosaic is)
        In the order of the catalogue, without the objects that lie outside the tiles in every
        band, which a warning counts: ``catalog.iloc[stamps.catalog_rows]`` are the rows of the
        stamps. Pixels outside a tile are NaN, and ``stamps.partial`` tells which stamps have
        such. Where tiles overlap, the one whose edge is furthest is taken.

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
    names = tuple(mosaics) if bands is None else tuple(bands)
    if absent := [band for band in names if band not in mosaics]:
        raise ValueError(
            f"mosaics has no band {absent[0]!r}: it has {', '.join(map(str, mosaics))}."
        )
    if not names:
        raise ValueError("mosaics is empty: pass a FITS file for each band.")
    if not len(catalog):
        raise ValueError("catalog is empty: pass one with at least one row.")
    box = (size, size) if isinstance(size, (int, np.integer)) else tuple(size)
    if len(box) != 2 or min(box) < 1:
        raise ValueError(f"size={size!r} must be a positive number of pixels, or two of them.")
    by_pixel = x is not None or y is not None
    tiles = tuple(_open_tiles(band, mosaics[band], hdu, sky=not by_pixel) for band in names)
    if by_pixel:
        world, placed = None, _place_pixels(catalog, x, y, names, tiles)
    else:
        if not reproject:
            _check_grids(names, tiles)
        world = _world(catalog, ra, dec)
        placed = [_place(world, band) for band in tiles]
    tile, px, py = (np.column_stack(parts) for parts in zip(*placed, strict=True))
    inside, partial = _coverage(tiles, tile, px, py, box)
    tile[~inside] = -1
    kept = _kept_rows(inside)
    ids = _ids(catalog, id)
    return Stamps(
        MosaicCutouts(
            tiles,
            tile[kept],
            px[kept],
            py[kept],
            world[kept] if reproject and world is not None else None,
            box,
            np.result_type(np.float32, *{t.dtype for band in tiles for t in band}),
            names,
            None if ids is None else ids[kept],
            kept,
            partial[kept],
        )
    )


def _ids(catalog: pd.DataFrame, column: str | None) -> NDArray[Any] | None:
    if column is not None and column not in catalog.columns:
        raise ValueError(
            f"id={column!r} is no column of the catalog: it has {', '.join(catalog.columns)}."
        )
    column = column or ("id" if "id" in catalog.columns else None)
    return None if column is None else catalog[column].to_numpy()


def _open_tiles(band: str, paths: Any, hdu: int | str | None, *, sky: bool) -> tuple[_Tile, ...]:
    several = [paths] if isinstance(paths, (str, os.PathLike)) else list(paths)
    if not several:
        raise ValueError(f"mosaics[{band!r}] is empty: pass at least one FITS file.")
    return tuple(_open_tile(Path(path).expanduser(), hdu, sky=sky) for path in several)


def _open_tile(path: Path, hdu: int | str | None, *, sky: bool) -> _Tile:
    """Read the headers of a mosaic."""
    gone = "does not exist: pass the path of a mosaic"
    with (
        reading(path, "cannot be read as FITS", "copy it again", gone=gone),
        open_fits(path) as file,
        fits.open(file) as hdus,
    ):
        number = _image_number(path, hdus, hdu)
        header, shape = hdus[number].header, hdus[number].shape
        bits = header.get("ZBITPIX", header["BITPIX"])
    scale, angle, flipped = _geometry(path, header) if sky else (0.0, 0.0, False)
    dtype = np.dtype(np.float64 if bits in (-64, 32, 64) else np.float32)
    state = signature_of([path])
    return _Tile(path, number, shape, header.tostring(), dtype, scale, angle, flipped, state)


def _image_number(path: Path, hdus: fits.HDUList, hdu: int | str | None) -> int:
    if hdu is not None:
        try:
            number = hdus.index_of(hdu)
            shape = hdus[number].shape
        except (KeyError, IndexError):
            raise UnfitError(f"{path} has no extension {hdu!r}: choose another hdu=.") from None
        if len(shape) != 2:
            raise UnfitError(f"{path} has an image of shape {shape} in {hdu!r}: mosaics are 2-D.")
        return number
    for number, each in enumerate(hdus):
        if each.is_image and len(each.shape) == 2:
            return number
    raise UnfitError(f"{path} has no 2-D image: pass hdu=, or another file.")


def _wcs_of(header: fits.Header) -> WCS:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FITSFixedWarning)
        return WCS(header, naxis=2)


def _geometry(path: Path, header: fits.Header) -> tuple[float, float, bool]:
    """Return pixel scale (degrees), angle of the second axis (degrees) and handedness."""
    try:
        wcs = _wcs_of(header)
    except Exception as error:  # wcslib has many kinds
        raise UnfitError(
            f"{path} has a WCS that cannot be read ({str(error).splitlines()[0]}): mend its header."
        ) from error
    if not wcs.has_celestial:
        raise UnfitError(
            f"{path} has no WCS, which ra and dec need: add one to its header, or pass the pixel "
            "positions by x= and y=."
        )
    matrix = wcs.pixel_scale_matrix
    scale = float(np.sqrt(np.prod(proj_plane_pixel_scales(wcs))))
    angle = float(np.degrees(np.arctan2(matrix[0, 1], matrix[1, 1])))
    return scale, angle, bool(np.linalg.det(matrix) > 0)


def _same_grid(one: _Tile, other: _Tile) -> bool:
    turn = (one.angle - other.angle + 180) % 360 - 180
    near = abs(one.scale / other.scale - 1) < _SAME_SCALE and abs(turn) < _SAME_ANGLE
    return near and one.flipped == other.flipped


def _check_grids(names: tuple[str, ...], tiles: tuple[tuple[_Tile, ...], ...]) -> None:
    first = tiles[0][0]
    for band, each in zip(names, tiles, strict=True):
        for tile in each:
            if not _same_grid(tile, first):
                raise ValueError(
                    f"{tile.path} (band {band!r}) has {tile.scale * 3600:.4g} arcsec a pixel at "
                    f"{tile.angle:.1f} degrees, but {first.path} has {first.scale * 3600:.4g} at "
                    f"{first.angle:.1f}: pass reproject=True to bring all to the grid of the first."
                )


def _world(catalog: pd.DataFrame, ra: str | None, dec: str | None) -> NDArray[np.float64]:
    names = []
    for name, kind in ((ra, "ra"), (dec, "dec")):
        found = name or find_column(catalog, kind)
        if found is None or found not in catalog.columns:
            raise ValueError(
                f"catalog has no column {name or kind!r} of positions: pass {kind}= "
                f"(it has {', '.join(map(str, catalog.columns))})."
            )
        names.append(found)
    sky = sky_positions(*(catalog[name] for name in names))
    return np.column_stack([sky.ra.deg, sky.dec.deg])


def _place(
    world: NDArray[np.float64], tiles: tuple[_Tile, ...]
) -> tuple[NDArray[np.int32], NDArray[np.float64], NDArray[np.float64]]:
    """Return the tile of each object in which its stamp fits best, and its place there."""
    number = np.full(len(world), -1, np.int32)
    best = np.full(len(world), -np.inf)
    x, y = np.full((2, len(world)), np.nan)
    for index, tile in enumerate(tiles):
        px, py = _to_pixels(tile, world)
        height, width = tile.shape
        # distance to the nearest edge; NaN (behind the tangent plane, no position) is outside
        room = np.min([px, width - 1 - px, py, height - 1 - py], axis=0)
        nearer = room > best
        number[nearer], best[nearer] = index, room[nearer]
        x[nearer], y[nearer] = px[nearer], py[nearer]
    return number, x, y


def _to_pixels(tile: _Tile, world: NDArray[np.float64]) -> NDArray[np.float64]:
    known = np.isfinite(world).all(axis=1)
    pixels = np.full((2, len(world)), np.nan)
    if known.any():
        wcs = tile.wcs()
        pixels[:, known] = wcs.all_world2pix(world[known], 0, quiet=True).T
        # a tangent plane shows the far side of the sky, too
        back = np.full((len(world), 2), np.nan)
        back[known] = wcs.all_pix2world(pixels[:, known].T, 0)
        turn = (back[:, 0] - world[:, 0] + 180) % 360 - 180
        away = np.hypot(turn * np.cos(np.radians(world[:, 1])), back[:, 1] - world[:, 1])
        pixels[:, ~(away < tile.scale)] = np.nan
    return np.round(pixels, _PIXEL_DECIMALS)


def _place_pixels(
    catalog: pd.DataFrame,
    x: str | None,
    y: str | None,
    names: tuple[str, ...],
    tiles: tuple[tuple[_Tile, ...], ...],
) -> list[tuple[NDArray[np.int32], NDArray[np.float64], NDArray[np.float64]]]:
    for name, kind in ((x, "x"), (y, "y")):
        if name is None or name not in catalog.columns:
            raise ValueError(f"catalog has no column {name or kind!r}: pass both x= and y=.")
    for band, each in zip(names, tiles, strict=True):
        if len(each) > 1:
            raise ValueError(f"band {band!r} has {len(each)} tiles: pixel positions need one.")
        if each[0].shape != tiles[0][0].shape:
            raise ValueError(
                f"{each[0].path} has {each[0].shape} pixels, but {tiles[0][0].path} has "
                f"{tiles[0][0].shape}: one pixel position needs one grid; pass ra= and dec=."
            )
    places = [np.round(catalog[name].to_numpy(np.float64), _PIXEL_DECIMALS) for name in (x, y)]
    return [(np.zeros(len(catalog), np.int32), *(p.copy() for p in places)) for _ in tiles]


def _coverage(
    tiles: tuple[tuple[_Tile, ...], ...],
    tile: NDArray[np.int32],
    x: NDArray[np.float64],
    y: NDArray[np.float64],
    size: tuple[int, int],
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Return where a stamp has pixels in a band (n, bands), and which stamps lack some (n,)."""
    shapes = [np.array([t.shape for t in band]) for band in tiles]
    limits = np.stack([s[np.maximum(tile[:, b], 0)] for b, s in enumerate(shapes)], axis=1)
    inside = (tile >= 0) & np.isfinite(x) & np.isfinite(y)
    whole: Any = inside
    for position, length, limit in ((y, size[0], limits[..., 0]), (x, size[1], limits[..., 1])):
        start = _first_pixel(position, length)
        inside = inside & (start + length > 0) & (start < limit)
        whole = whole & (start >= 0) & (start + length <= limit)
    return inside, ~whole.all(axis=1)


def _first_pixel(position: Any, length: int) -> Any:
    """Return where a section begins, as astropy.nddata.overlap_slices has it."""
    return np.ceil(position - length / 2)


def _kept_rows(inside: NDArray[np.bool_]) -> NDArray[np.int64]:
    kept = np.flatnonzero(inside.any(axis=1))
    away = len(inside) - len(kept)
    if not len(kept):
        raise ValueError(
            f"none of the {away:,} objects lies inside a mosaic: are the positions degrees, and "
            "the mosaics those of this catalogue?"
        )
    if away:
        first = int(np.flatnonzero(~inside.any(axis=1))[0])
        warnings.warn(
            f"{away:,} of {len(inside):,} objects (the first in row {first}) lie outside every "
            "mosaic and are left out: stamps.catalog_rows tells the rows of the others.",
            stacklevel=3,
        )
    return kept


def _extract(
    section: Any,
    shape: tuple[int, int],
    position: tuple[float, float],
    size: tuple[int, int],
    dtype: np.dtype,
) -> NDArray[Any]:
    """Read the pixels around a position; NaN outside the image."""
    stamp = np.full(size, np.nan, dtype)
    try:
        there, here = overlap_slices(shape, size, position[::-1], mode="partial")
    except NoOverlapError:
        return stamp
    stamp[here] = native(np.asarray(section[there]))
    return stamp


def _reproject(
    section: Any, tile: _Tile, position: tuple[float, float], target: WCS, size: tuple[int, int]
) -> NDArray[Any]:
    """Resample the surroundings of a position onto the grid of a stamp."""
    reproject = import_optional("reproject", extra="data", needed_by="reproject=True")
    scale = float(np.sqrt(np.prod(proj_plane_pixel_scales(target))))
    side = int(np.ceil(_MARGIN * max(size) * scale / tile.scale)) + 4
    pixels = _extract(section, tile.shape, position, (side, side), np.dtype(np.float64))
    source = tile.wcs()
    source.wcs.crpix -= [_first_pixel(p, side) for p in position]
    out, _ = reproject.reproject_interp((pixels, source), target, shape_out=size)
    return out * (scale / tile.scale) ** 2
