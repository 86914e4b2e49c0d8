"""Open FITS mosaics, find positions on the sky in them, and read parts of their pixels."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from astropy import units as u
from astropy.coordinates import (
    BarycentricMeanEcliptic,
    Galactic,
    SkyCoord,
    Supergalactic,
    angular_separation,
)
from astropy.io import fits
from astropy.nddata import NoOverlapError, overlap_slices
from astropy.time import Time
from astropy.utils.exceptions import AstropyWarning
from astropy.wcs import WCS
from astropy.wcs.utils import wcs_to_celestial_frame
from numpy.typing import NDArray

from skastro.stamps.bands import spell_bands
from skastro.stamps.files import Hdu
from skastro.stamps.formats import check_unchanged, native, signature_of
from skastro.utils.files import UnfitError, first_line, reading
from skastro.utils.fits import is_band_name, open_fits

_MAX_GRID_DIFFERENCE = 0.01  # in pixels: 1 % of the scale, or half a degree of orientation
_PERIODIC_PROJECTIONS = ("CAR", "CEA", "MER")  # x is the longitude, which repeats after 360 degrees
_DISTORTION_TABLES = ("WCSDVARR", "D2IMARR")  # extensions that belong to a WCS
_MAX_NAMED_EXTENSIONS = 8  # in a message

Floats = NDArray[np.float64]


class Tile(NamedTuple):
    """An image of a mosaic: its file, extension, pixels and grid on the sky."""

    path: Path
    hdu: int
    shape: tuple[int, int]
    axes: tuple[int, int]  # of the array that are height and width; the others have length 1
    dtype: np.dtype
    blank: int | None  # the stored number that marks missing pixels
    scaling: tuple[float, float]  # BSCALE and BZERO
    matrix: Floats  # (2, 2) degrees to the east and to the north (ICRS) per pixel in x and y
    signature: str

    @property
    def scale(self) -> float:
        """Pixel scale in degrees."""
        return float(pixel_scale(self.matrix))

    @contextmanager
    def open(self) -> Iterator[Any]:
        """Open the file, and yield its image, from which `cut` reads."""
        check_unchanged(self.path, self.signature)
        with (
            open_fits(self.path) as file,
            fits.open(file, memmap=True, do_not_scale_image_data=True) as hdus,
        ):
            image = hdus[self.hdu]
            yield image.section if isinstance(image, fits.CompImageHDU) else image.data

    def cut(
        self, image: Any, position: Sequence[float], size: tuple[int, int], dtype: np.dtype
    ) -> NDArray[Any]:
        """Read the pixels around a position (x, y) from an open image; NaN outside of it."""
        stamp = np.full(size, np.nan, dtype)
        with suppress(NoOverlapError):
            in_tile, in_stamp = overlap_slices(self.shape, size, position[::-1], mode="partial")
            key = [slice(0, 1)] * len(image.shape)
            key[self.axes[0]], key[self.axes[1]] = in_tile
            with reading(self.path, "cannot be read as FITS", "copy it again", gone="is gone"):
                pixels = np.asarray(image[tuple(key)])
            stamp[in_stamp] = self._scaled(pixels).reshape(stamp[in_stamp].shape)
        return stamp

    def _scaled(self, pixels: NDArray[Any]) -> NDArray[Any]:
        """Scale stored numbers as the header says, with NaN where they are blank.

        astropy would do so, but not in parts of a memory-mapped file, and not for blanks that are
        zero or unsigned.
        """
        factor, offset = self.scaling
        values = native(pixels) if (factor, offset) == (1, 0) else pixels.astype(self.dtype)
        if factor != 1:
            values *= factor
        if offset != 0:
            values += offset
        if self.blank is not None:
            values = np.where(pixels == self.blank, np.nan, values)
        return values

    def to_world(self, x: Floats, y: Floats) -> Floats:
        """Return the ICRS positions (n, 2) in degrees of pixels."""
        sky = _open_sky(self.path, self.hdu, self.signature)
        position = sky.wcs.all_pix2world(x, y, 0)[:: sky.order]
        place = SkyCoord(*position, unit="deg", frame=sky.frame).icrs
        return np.column_stack([place.ra.deg, place.dec.deg])

    def to_pixels(self, world: Floats) -> Floats:
        """Return x and y (2, n) of ICRS positions (n, 2) in degrees, NaN where not projected."""
        sky = _open_sky(self.path, self.hdu, self.signature)
        pixels = np.full((2, len(world)), np.nan)
        finite = np.isfinite(world).all(axis=1)
        if not finite.any():
            return pixels
        # transform to the frame and the order of axes of the WCS
        place = SkyCoord(*world[finite].T, unit="deg").transform_to(sky.frame).spherical
        position = [place.lon.deg, place.lat.deg][:: sky.order]
        projected = np.array(sky.wcs.all_world2pix(*position, 0, quiet=True))
        # a tangent plane also shows the far side of the sky, which does not convert back
        back = sky.wcs.all_pix2world(*projected, 0)
        both = np.radians([*position[:: sky.order], *back[:: sky.order]])
        away = np.degrees(angular_separation(*both))
        projected = np.where(away < self.scale, projected, np.nan)
        # a map of the whole sky shows every longitude, wherever its edges are
        for turn in (sky.period, -sky.period):
            moved = projected + turn[:, None]
            is_better = (self.room(projected) < 0) & (self.room(moved) >= 0)
            projected = np.where(is_better, moved, projected)
        pixels[:, finite] = projected
        return pixels

    def room(self, pixels: Floats) -> Floats:
        """Return the distances (n,) of pixel positions (2, n) from the nearest edge."""
        (x, y), (height, width) = pixels, self.shape
        return np.min([x, width - 1 - x, y, height - 1 - y], axis=0)

    def matrices_at(self, world: Floats) -> Floats:
        """Return ``matrix`` at positions (n, 2): an array (n, 2, 2), NaN where not projected."""
        step, (ra, dec) = self.scale, world.T
        to_north = np.where(dec > 0, -step, step)  # never across a pole
        with np.errstate(divide="ignore"):
            east = np.column_stack([ra + step / np.cos(np.radians(dec)), dec])
        north = np.column_stack([ra, dec + to_north])
        here, *moved = (self.to_pixels(place) for place in (world, east, north))
        columns = [(moved[0] - here) / step, (moved[1] - here) / to_north]
        pixels_per_degree = np.moveaxis(np.array(columns), 2, 0).swapaxes(1, 2)
        known = np.flatnonzero(np.nan_to_num(np.linalg.det(pixels_per_degree)))  # neither NaN nor 0
        matrices = np.full(pixels_per_degree.shape, np.nan)
        matrices[known] = np.linalg.inv(pixels_per_degree[known])
        return matrices

    def has_grid_of(self, other: Tile) -> bool:
        """Return whether two tiles have the same pixel scale and orientation."""
        return not differ(self.matrix, other.matrix)


def differ(matrices: Floats, others: Floats) -> Any:
    """Return whether pairs of grids (..., 2, 2) differ in pixel scale or orientation."""
    difference = np.abs(matrices - others).max(axis=(-2, -1))
    return difference > _MAX_GRID_DIFFERENCE * pixel_scale(others)


def pixel_scale(matrices: Floats) -> Any:
    """Return the pixel scale in degrees of grids (..., 2, 2)."""
    return np.sqrt(np.abs(np.linalg.det(matrices)))


def describe_grid(matrix: Floats) -> str:
    """Describe a grid for a message."""
    scale = 3600 * pixel_scale(matrix)
    angle = np.degrees(np.arctan2(matrix[0, 1], matrix[1, 1])).round(1) + 0.0  # never -0.0
    mirrored = ", mirrored" if np.linalg.det(matrix) > 0 else ""
    return f"{scale:.4g} arcsec a pixel at {angle:.1f} degrees{mirrored}"


class _Sky(NamedTuple):
    """The celestial part of a WCS."""

    wcs: WCS
    frame: Any
    fits_axes: tuple[int, int]  # from 0 on, in increasing order
    order: int  # 1 if longitude comes first, else -1
    period: Floats  # (2,) pixels in x and y after which the longitude repeats, or 0


@lru_cache(maxsize=256)
def _open_sky(path: Path, number: int, signature: str) -> _Sky:
    """Read the WCS of an image; ``signature`` distinguishes versions of the file."""
    check_unchanged(path, signature)
    with _open_hdus(path) as hdus:
        header = hdus[number].header
        try:
            full = WCS(header, hdus)
            lon, lat = full.wcs.lng, full.wcs.lat
            wcs = full.celestial if full.has_celestial else full
            wcs.wcs.set()  # finds a singular matrix
        except Exception as error:  # wcslib raises errors of many kinds
            raise UnfitError(
                f"{path} has a WCS that cannot be read ({first_line(error)}): correct its header."
            ) from error
    kinds = [name for name in full.wcs.ctype if name]
    what = f"a WCS without positions on the sky ({', '.join(kinds)})" if kinds else "no WCS"
    if not full.has_celestial:
        raise UnfitError(
            f"{path} has {what}, which ra and dec need: add one to its header, or pass the pixel "
            "positions by x= and y=."
        )
    period = np.zeros(2)
    if full.wcs.ctype[lon][5:8] in _PERIODIC_PROJECTIONS and not wcs.has_distortion:
        period = np.linalg.solve(wcs.pixel_scale_matrix, [360.0, 0.0][:: 1 if lon < lat else -1])
    axes = (min(lon, lat), max(lon, lat))
    return _Sky(wcs, _frame_of(path, wcs), axes, 1 if lon < lat else -1, period)


def _frame_of(path: Path, wcs: WCS) -> Any:
    """Return astropy's frame of a celestial WCS."""
    kind, equinox = wcs.wcs.lngtyp, wcs.wcs.equinox
    # astropy's function takes ecliptic longitudes for right ascensions, and RADESYS, which has no
    # meaning for galactic longitudes, before their name
    if kind == "ELON":
        epoch = 2000.0 if np.isnan(equinox) else equinox
        form = "byear" if wcs.wcs.radesys.startswith("FK4") else "jyear"
        return BarycentricMeanEcliptic(equinox=Time(epoch, format=form))
    if kind in ("GLON", "SLON"):
        return Galactic() if kind == "GLON" else Supergalactic()
    try:
        frame = wcs_to_celestial_frame(wcs)
        SkyCoord(0.0, 0.0, unit="deg").transform_to(frame)
    except Exception as error:  # astropy raises errors of many kinds
        names = ", ".join(filter(None, [*wcs.wcs.ctype, wcs.wcs.radesys]))
        raise UnfitError(
            f"{path} has a WCS of a frame that cannot be used ({names}): reproject it to right "
            "ascension and declination, or pass the pixel positions by x= and y=."
        ) from error
    return frame


def open_tiles(band: str, paths: Any, hdu: Hdu | None, *, sky: bool) -> tuple[Tile, ...]:
    """Read the headers of the mosaics of a band; ``sky`` is whether their WCS is needed."""
    is_one = isinstance(paths, (str, os.PathLike))
    files = [paths] if is_one else list(paths) if isinstance(paths, Sequence) else None
    if files is None or not all(isinstance(path, (str, os.PathLike)) for path in files):
        kind = type(paths if files is None else files[0]).__name__
        raise ValueError(
            f"mosaics[{band!r}] holds a {kind}: write it to a FITS file, and pass the path."
        )
    if not files:
        raise ValueError(f"mosaics[{band!r}] is empty: pass at least one FITS file.")
    tiles = [_open_file(Path(path).expanduser(), band, hdu, sky=sky) for path in files]
    return tuple(tile for tiles_of_file in tiles for tile in tiles_of_file)


def _open_file(path: Path, band: str, hdu: Hdu | None, *, sky: bool) -> list[Tile]:
    with _open_hdus(path) as hdus:
        numbers = _choose_images(path, hdus, band) if hdu is None else _named(path, hdus, hdu)
        if sky and len(numbers) > 1:
            numbers = [n for n in numbers if "CTYPE1" in hdus[n].header] or numbers
        headers = [(number, hdus[number].shape, hdus[number].header.copy()) for number in numbers]
        names = [f"{number} {hdus[number].name}".strip() for number in numbers]
    tiles = [_open_tile(path, *image, sky=sky) for image in headers]
    if len(tiles) > 1 and not isinstance(hdu, list) and (not sky or _overlap(tiles)):
        where = "of the same part of the sky " if sky else ""
        listed = ", ".join(names[:_MAX_NAMED_EXTENSIONS])
        raise UnfitError(
            f"{path} has several images {where}({listed}): choose one with hdu=, such as "
            f"hdu={numbers[0]}."
        )
    return tiles


@contextmanager
def _open_hdus(path: Path) -> Iterator[fits.HDUList]:
    """Open a FITS file for reading its headers, without astropy's remarks on them."""
    gone = "does not exist: pass the path of a mosaic"
    with (
        reading(path, "cannot be read as FITS", "copy it again", gone=gone),
        open_fits(path) as file,
        warnings.catch_warnings(),
    ):
        warnings.simplefilter("ignore", AstropyWarning)
        with fits.open(file, do_not_scale_image_data=True) as hdus:
            yield hdus


def _choose_images(path: Path, hdus: fits.HDUList, band: str) -> list[int]:
    """Return the numbers of the extensions that are images of a band."""
    images = [i for i, h in enumerate(hdus) if h.is_image and len(h.shape) > 1 and 0 not in h.shape]
    flat = [number for number in images if _is_flat(hdus[number].shape)]
    chosen = [number for number in flat if is_band_name(hdus[number].name)]
    chosen = [number for number in chosen if hdus[number].name not in _DISTORTION_TABLES]
    if not chosen and len(flat) == 1:
        return flat
    if not chosen:
        shown = ", ".join(f"{number} {_describe_image(hdus[number])}" for number in flat or images)
        what = "no image"
        if images:
            kind = "images that are not of the sky" if flat else "images of more than two axes"
            what = f"only {kind} ({shown})"
        raise UnfitError(f"{path} has {what}: pass hdu=, or write each plane to a 2-D image.")
    of_band = [number for number in chosen if _shows_band(hdus[number], band)]
    return of_band or chosen


def _shows_band(image: Any, band: str) -> bool:
    names = [image.name, str(image.header.get("FILTER", ""))]
    return spell_bands([band], names)[0] in names


def _describe_image(image: Any) -> str:
    return f"{image.name or 'without a name'} {image.shape}"


def _is_flat(shape: Sequence[int]) -> bool:
    return sum(length > 1 for length in shape) <= 2


def _named(path: Path, hdus: fits.HDUList, hdu: Hdu) -> list[int]:
    """Return the numbers of the extensions that a user names; one name may stand for several."""
    numbers = []
    for wanted in hdu if isinstance(hdu, list) else [hdu]:
        same = [i for i, h in enumerate(hdus) if isinstance(wanted, str) and _is_name(h, wanted)]
        try:
            found = same or [hdus.index_of(wanted)]
            shapes = [getattr(hdus[number], "shape", ()) for number in found]
        except (KeyError, IndexError):
            choice = ", ".join(f"{i} {h.name}".strip() for i, h in enumerate(hdus))
            raise UnfitError(
                f"{path} has no extension {wanted!r}: choose another hdu= of {choice}."
            ) from None
        for shape in shapes:
            if len(shape) < 2 or 0 in shape or not _is_flat(shape):
                what = f"data of shape {shape}, not 2-D," if shape else "no image"
                raise UnfitError(
                    f"{path} has {what} in {wanted!r}: choose another hdu=, or write each plane "
                    "to a 2-D image."
                )
        numbers += found
    return numbers


def _is_name(extension: Any, name: str) -> bool:
    return extension.name.strip().casefold() == name.strip().casefold()


def _open_tile(
    path: Path, number: int, shape: tuple[int, ...], header: fits.Header, *, sky: bool
) -> Tile:
    """Describe an image by its header and, if ``sky``, by its WCS."""
    signature, matrix = signature_of([path]), np.eye(2)
    long = [axis for axis, length in enumerate(shape) if length > 1]
    axes = (long[0], long[1]) if len(long) == 2 else (len(shape) - 2, len(shape) - 1)
    if sky:
        part = _open_sky(path, number, signature)
        first, second = part.fits_axes
        axes = (len(shape) - 1 - second, len(shape) - 1 - first)
        if min(axes) < 0 or not set(long) <= set(axes):
            raise UnfitError(
                f"{path} has an image of shape {shape} whose axes are not those of the sky "
                f"(longitude and latitude are its FITS axes {first + 1} and {second + 1}): write "
                "one image of the sky to a file."
            )
        matrix = _matrix_of(part)
    bits = header.get("ZBITPIX", header["BITPIX"])
    blank = header.get("BLANK")
    return Tile(
        path,
        number,
        (shape[axes[0]], shape[axes[1]]),
        axes,
        np.dtype(np.float64 if bits in (-64, 32, 64) else np.float32),
        blank if isinstance(blank, int) and bits > 0 else None,
        (header.get("BSCALE", 1.0), header.get("BZERO", 0.0)),
        matrix,
        signature,
    )


def _matrix_of(sky: _Sky) -> Floats:
    """Return the grid at the reference position of a WCS, in directions of ICRS."""
    own = sky.wcs.pixel_scale_matrix[:: sky.order]
    centre = SkyCoord(*sky.wcs.wcs.crval[:: sky.order], unit="deg", frame=sky.frame)
    north = centre.directional_offset_by(0 * u.deg, 1 * u.arcsec).icrs
    angle = centre.icrs.position_angle(north).rad
    cos, sin = np.cos(angle), np.sin(angle)
    return np.array([[cos, sin], [-sin, cos]]) @ own


def _overlap(tiles: Sequence[Tile]) -> bool:
    """Return whether an image shows the centre of another one."""
    middles = [(np.array([length]) - 1) / 2 for tile in tiles for length in tile.shape[::-1]]
    centres = [
        tile.to_world(x, y) for tile, x, y in zip(tiles, middles[::2], middles[1::2], strict=True)
    ]
    seen = [tile.room(tile.to_pixels(np.concatenate(centres))) > 0 for tile in tiles]
    return bool(np.sum(seen) > len(tiles))  # each shows its own
