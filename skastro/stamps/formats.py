"""Stamps on disk, format by format: what is there is told at once, pixels are read on demand.

Each source knows paths and offsets, never pixels, so that pickling it is cheap. It has the
``shape`` (n, bands, height, width), the ``dtype``, the names of its ``bands`` and the ``ids`` of
its rows (None where nothing tells them), and reads the rows that are asked for.
"""

from __future__ import annotations

import hashlib
import math
import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
from astropy.io import fits
from numpy.typing import NDArray
from PIL import Image

from skastro.utils.files import ENDINGS, FITS_ENDINGS, PICTURE_ENDINGS, UnfitError, reading
from skastro.utils.fits import open_fits
from skastro.utils.packages import import_optional

Rows = NDArray[np.int64]
Reader = Callable[[Path], NDArray[Any]]
_MOST_PIXELS = 2**48  # along one axis
_ABSENT = "does not exist: pass the path of stamps"


class Source(Protocol):
    """Where the pixels of `Stamps` come from."""

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """Number of stamps, of bands, height and width."""

    @property
    def dtype(self) -> np.dtype:
        """Of the pixels."""

    @property
    def bands(self) -> tuple[str, ...] | None:
        """Names of the bands, where they are known."""

    @property
    def ids(self) -> NDArray[Any] | None:
        """What names the stamps, of shape (n,)."""

    def read(self, rows: Rows) -> NDArray[Any]:
        """Return the stamps of some rows, of shape (rows, bands, height, width)."""


@dataclass(frozen=True, eq=False)
class NpyFile:
    """A ``.npy`` file of shape (n, bands, height, width), memory-mapped for each read alone.

    A map that stays open keeps every page it has read resident: one for each read does not.
    """

    path: Path
    shape: tuple[int, int, int, int]
    dtype: np.dtype
    offset: int
    order: Literal["C", "F"]
    signature: str
    bands: tuple[str, ...] | None = None
    ids: NDArray[Any] | None = None

    def read(self, rows: Rows) -> NDArray[Any]:
        """Copy some rows out of the file."""
        check_unchanged(self.path, self.signature)
        pixels = np.memmap(self.path, self.dtype, "r", self.offset, self.shape, order=self.order)
        return native(np.asarray(pixels[rows]))


@dataclass(frozen=True, eq=False)
class ChunkedArray:
    """A 4-D array in a Zarr store or an HDF5 file."""

    path: Path
    name: str | None
    shape: tuple[int, int, int, int]
    dtype: np.dtype
    signature: str
    bands: tuple[str, ...] | None = None
    ids: NDArray[Any] | None = None

    def read(self, rows: Rows) -> NDArray[Any]:
        """Read the chunks that hold some rows."""
        check_unchanged(_anchor(self.path), self.signature)
        # chunks are decoded once each, in the order of the file
        wanted, places = np.unique(rows, return_inverse=True)
        problem = "has stamps that cannot be read"
        with reading(self.path, problem, "copy or save it again", gone=_ABSENT):
            if _is_zarr(self.path):
                array = _open_zarr(self.path, self.name)
                return native(np.asarray(array.oindex[wanted])[places])
            with _h5py().File(self.path) as file:
                return native(_by_span(file[self.name], wanted)[places])


@dataclass(frozen=True, eq=False)
class StampFiles:
    """One file, or one for each band, for each stamp.

    ``names`` has the shape (n, files of a stamp), relative to ``folder``.
    """

    folder: Path
    names: NDArray[np.str_]
    shape: tuple[int, int, int, int]
    dtype: np.dtype
    hdu: int | str | None
    resample: bool
    fixed_size: bool  # whether other sizes than the first file's are an error
    signature: str
    bands: tuple[str, ...] | None = None
    ids: NDArray[Any] | None = None
    reader: Reader | None = None  # of files of a kind that this module does not know

    def read(self, rows: Rows) -> NDArray[Any]:
        """Read the files of some rows."""
        stamps = np.empty((len(rows), *self.shape[1:]), self.dtype)
        for stamp, row in zip(stamps, rows, strict=True):
            stamp[:] = self._read_one(row)
        return stamps

    def _read_one(self, row: int) -> NDArray[Any]:
        paths = [self.folder / name for name in self.names[row]]
        bands = self.bands if len(paths) == 1 else None  # else each file is a band
        parts = [read_file(path, self.hdu, bands, self.reader) for path in paths]
        for path, part in zip(paths, parts, strict=True):
            self._check(path, part)
        size = self.shape[2:]
        return np.concatenate([fit_size(part, size, resample=self.resample) for part in parts])

    def _check(self, path: Path, part: NDArray[Any]) -> None:
        bands = self.shape[1] // self.names.shape[1]
        if len(part) != bands:
            raise ValueError(
                f"{path} has {len(part)} bands, but the first file has {bands}: "
                "keep stamps of the same bands together, or name the bands."
            )
        if self.fixed_size and part.shape[1:] != self.shape[2:]:
            raise ValueError(
                f"{path} has {part.shape[1]} x {part.shape[2]} pixels, but the first file has "
                f"{self.shape[2]} x {self.shape[3]}: pass size= to crop or pad all to one size."
            )


@dataclass(frozen=True, eq=False)
class Calibrated:
    """Another source, each band of which is multiplied by a factor."""

    source: Source
    factors: tuple[float, ...]

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """Number of stamps, of bands, height and width."""
        return self.source.shape

    @property
    def dtype(self) -> np.dtype:
        """At least float32."""
        return np.result_type(self.source.dtype, np.float32)

    @property
    def bands(self) -> tuple[str, ...] | None:
        """Names of the bands."""
        return self.source.bands

    @property
    def ids(self) -> NDArray[Any] | None:
        """What names the stamps."""
        return self.source.ids

    @property
    def catalog_rows(self) -> Rows | None:
        """Row of the catalogue of each stamp."""
        return getattr(self.source, "catalog_rows", None)

    @property
    def partial(self) -> NDArray[np.bool_] | None:
        """Whether a part of a stamp lies outside its mosaic."""
        return getattr(self.source, "partial", None)

    def read(self, rows: Rows) -> NDArray[Any]:
        """Read some rows and multiply their bands."""
        factors = np.array(self.factors, self.dtype)[:, None, None]
        return self.source.read(rows).astype(self.dtype, copy=False) * factors


def native(pixels: NDArray[Any]) -> NDArray[Any]:
    """Return pixels in the machine's byte order."""
    return pixels.astype(pixels.dtype.newbyteorder("="), copy=False)


def signature_of(paths: Iterable[str | os.PathLike[str]]) -> str:
    """Tell files apart from later versions of themselves, by their sizes and times."""
    digest = hashlib.sha256()
    for path in paths:
        state = Path(path).stat()
        digest.update(f"{path}|{state.st_size}|{state.st_mtime_ns}\n".encode())
    return digest.hexdigest()


def check_unchanged(path: Path, signature: str) -> None:
    """Refuse to read a file that is not the one that was opened."""
    try:
        same = signature_of([path]) == signature
    except FileNotFoundError:
        raise FileNotFoundError(
            f"{path} is gone since the stamps were opened: put it back, or open others."
        ) from None
    if not same:
        raise ValueError(f"{path} has changed since the stamps were opened: open them again.")


def open_npy(path: Path) -> NpyFile:
    """Read the header of a ``.npy`` file."""
    remedy = "save the stamps with numpy.save"
    with reading(path, "is no .npy file", remedy, gone=_ABSENT), path.open("rb") as file:
        version = np.lib.format.read_magic(file)
        reader: Any = (
            np.lib.format.read_array_header_1_0
            if version == (1, 0)
            else np.lib.format.read_array_header_2_0
        )
        shape, fortran, dtype = reader(file)
        offset = file.tell()
    _check_stack(path, shape, dtype)
    expected = offset + dtype.itemsize * math.prod(shape)
    if (actual := path.stat().st_size) < expected:
        raise ValueError(
            f"{path} is truncated ({actual:,} of {expected:,} bytes): copy or save it again."
        )
    order: Literal["C", "F"] = "F" if fortran else "C"
    return NpyFile(path, shape, dtype, offset, order, signature_of([path]))


def open_chunked(path: Path, name: str | None) -> ChunkedArray:
    """Find the stamps in a Zarr store or an HDF5 file."""
    kind = "Zarr store" if _is_zarr(path) else "HDF5 file"
    problem = f"is no {kind} of stamps that can be read"
    remedy = "name its array with hdu=, or save the stamps again"
    with reading(path, problem, remedy, gone=_ABSENT):
        if _is_zarr(path):
            array = _open_zarr(path, name)
            found = name, tuple(array.shape), np.dtype(array.dtype), array.attrs.get("bands")
        else:
            with _h5py().File(path) as file:
                name = name or _only_stack(path, _h5_arrays(file))
                array = file[name]
                found = name, tuple(array.shape), array.dtype, array.attrs.get("bands")
        names = None if found[-1] is None else tuple(map(str, found[-1]))
    name, shape, dtype, _ = found
    _check_stack(path, shape, dtype)
    dtype = dtype.newbyteorder("=")
    return ChunkedArray(path, name, shape, dtype, signature_of([_anchor(path)]), bands=names)


def _anchor(path: Path) -> Path:
    """Return the file that is written anew when an array is: a store's own description."""
    described = [path / name for name in ("zarr.json", ".zgroup", ".zarray")]
    return next((file for file in described if file.is_file()), path)


def _is_zarr(path: Path) -> bool:
    return path.is_dir() or path.suffix == ".zarr" or path.name.endswith(".zarr.zip")


def _open_zarr(path: Path, name: str | None) -> Any:
    zarr = import_optional("zarr", extra="data", needed_by="Reading Zarr stores")
    node = zarr.open(str(path), mode="r")
    if not isinstance(node, zarr.Array):
        if name is None:
            name = _only_stack(path, {key: array.ndim for key, array in node.arrays()})
        node = node[name]
    _refuse_pickles(path, node.metadata.to_dict())
    return node


def _refuse_pickles(path: Path, described: dict[str, Any]) -> None:
    """Refuse a codec that would execute what it decodes."""
    codecs = [described.get(key) for key in ("compressor", "filters", "codecs")]
    if "pickle" in str(codecs):
        raise UnfitError(
            f"{path} holds pickled Python objects, which may execute code: save it as numbers."
        )


def _h5py() -> Any:
    return import_optional("h5py", extra="data", needed_by="Reading HDF5 files")


def _h5_arrays(file: Any) -> dict[str, int]:
    found: dict[str, int] = {}
    file.visititems(lambda name, node: found.update({name: getattr(node, "ndim", 0)}))
    return found


def _only_stack(path: Path, dimensions: dict[str, int]) -> str:
    stacks = [name for name, ndim in dimensions.items() if ndim == 4]
    if len(stacks) == 1:
        return stacks[0]
    what = f"several arrays of stamps ({', '.join(stacks)})" if stacks else "no 4-D array"
    raise UnfitError(f"{path} has {what}: name one of shape (n, bands, height, width) with hdu=.")


def _by_span(array: Any, wanted: Rows) -> NDArray[Any]:
    """Read increasing rows of an HDF5 dataset, which is slow to pick single ones."""
    if not len(wanted):
        return array[:0]
    span = wanted[-1] + 1 - wanted[0]
    if span <= 4 * len(wanted):
        return array[wanted[0] : wanted[-1] + 1][wanted - wanted[0]]
    return array[wanted]


def _check_stack(path: Path, shape: Sequence[int], dtype: np.dtype) -> None:
    if len(shape) != 4:
        raise ValueError(
            f"{path} has the shape {tuple(shape)}: save stamps as (n, bands, height, width)."
        )
    if dtype.kind not in "biuf":
        raise ValueError(f"{path} holds {dtype} values: save stamps as real numbers.")
    if max(shape) > _MOST_PIXELS:
        raise ValueError(f"{path} has a shape that cannot be, {tuple(shape)}: save it again.")
    if min(shape) < 1:
        raise ValueError(f"{path} of shape {tuple(shape)} holds no pixel: save at least one stamp.")


def open_files(
    folder: Path,
    names: NDArray[np.str_],
    ids: NDArray[Any],
    *,
    bands: tuple[str, ...] | None,
    size: tuple[int, int] | None,
    hdu: int | str | None,
    resample: bool,
    reader: Reader | None,
) -> StampFiles:
    """Take bands, size and dtype of stamp files from the first stamp.

    Parameters
    ----------
    folder : Path
    names : array of shape (n, files of a stamp)
        Relative to the folder.
    ids : array of shape (n,)
    bands : tuple of str or None
        With several files of a stamp, the band of each; else the bands to take.
    size : tuple (height, width) or None
    hdu : int, str or None
    resample : bool
    reader : callable or None

    Returns
    -------
    source : StampFiles
    """
    chosen = bands if names.shape[1] == 1 else None
    firsts = [read_file(folder / name, hdu, chosen, reader) for name in names[0]]
    if bands is None and names.shape[1] == 1 and reader is None:
        bands = band_names(folder / names[0, 0], hdu)
        bands = bands if bands and len(bands) == len(firsts[0]) else None
    shape = (len(names), sum(map(len, firsts)), *(size or firsts[0].shape[1:]))
    dtype = np.result_type(*firsts)
    if dtype.kind not in "biuf":
        raise ValueError(f"{folder / names[0, 0]} holds {dtype} values: save real numbers.")
    signature = signature_of(folder / name for name in names.ravel())
    return StampFiles(
        folder, names, shape, dtype, hdu, resample, size is None, signature, bands, ids, reader
    )


def read_file(
    path: Path,
    hdu: int | str | None,
    bands: Sequence[str] | None,
    reader: Reader | None = None,
) -> NDArray[Any]:
    """Read the stamp of one FITS, picture, ``.npy`` or other file as (bands, height, width)."""
    how, read = _reader_of(path) if reader is None else ("with reader=", _of_all_bands(reader))
    problem = f"cannot be read {how}"
    remedy = "copy it again, or leave its row out"
    with reading(path, problem, remedy, gone="is missing: put it back, or leave its row out"):
        pixels = read(path, hdu, bands)
    if pixels.ndim == 2:
        pixels = pixels[None]
    if pixels.ndim != 3 or 0 in pixels.shape:
        raise UnfitError(
            f"{path} has an image of shape {pixels.shape}: "
            "a stamp is (height, width) or (bands, height, width)."
        )
    return native(pixels)


def _of_all_bands(reader: Reader) -> Callable[..., NDArray[Any]]:
    return lambda path, _hdu, _bands: np.asarray(reader(path))


def _reader_of(path: Path) -> tuple[str, Callable[..., NDArray[Any]]]:
    name = path.name.lower()
    if name.endswith(FITS_ENDINGS):
        return "as FITS", _read_fits
    if name.endswith(PICTURE_ENDINGS):
        return f"as {path.suffix.lstrip('.').upper()} image", _read_picture
    if name.endswith(".npy"):
        return "as a .npy array", _read_npy
    raise ValueError(f"{path} is no stamp file: use one of {', '.join(ENDINGS)}.")


def _read_npy(path: Path, _hdu: Any, _bands: Any) -> NDArray[Any]:
    return np.load(path, allow_pickle=False)


def _read_picture(path: Path, _hdu: Any, _bands: Any) -> NDArray[Any]:
    with Image.open(path) as image:
        coded = image.mode in ("P", "CMYK", "YCbCr", "LAB", "HSV")
        pixels = np.asarray(image.convert("RGB") if coded else image)
    if pixels.ndim == 2:
        return pixels[None]
    opaque = pixels.shape[2] - (pixels.shape[2] in (2, 4))  # alpha is no band
    return pixels[..., :opaque].transpose(2, 0, 1)


def _read_fits(path: Path, hdu: int | str | None, bands: Sequence[str] | None) -> NDArray[Any]:
    # a file object of our own is closed even if astropy cannot make sense of it
    with open_fits(path) as file, fits.open(file, memmap=False, lazy_load_hdus=False) as hdus:
        images = _fits_images(path, hdus, hdu, bands)
        sizes = {image.data.shape for image in images}
        if len(sizes) > 1:
            raise UnfitError(f"{path} has bands of other sizes ({sizes}): name those to take.")
        arrays = [image.data for image in images]
    return arrays[0] if len(arrays) == 1 else np.stack(arrays)


def _fits_images(
    path: Path, hdus: fits.HDUList, hdu: int | str | None, bands: Sequence[str] | None
) -> list[Any]:
    """Return the image extensions of a stamp, a band each, or the one that holds a cube."""
    if hdu is not None:
        try:
            return [hdus[hdu]]
        except (KeyError, IndexError):
            there = ", ".join(f"{i} {h.name}".strip() for i, h in enumerate(hdus))
            raise UnfitError(f"{path} has no extension {hdu!r}: choose one of {there}.") from None
    images = [h for h in hdus if h.is_image and len(h.shape) in (2, 3)]
    if not images:
        raise UnfitError(f"{path} has no image: pass hdu=, or leave its row out.")
    if bands is None or len(images[0].shape) == 3:
        return images
    named = {_band_of(image): image for image in images}
    if absent := [band for band in bands if band not in named]:
        if set(named) == {""} and len(images) == len(bands):
            return images  # nothing names the bands: they are in the order of the file
        there = ", ".join(sorted(filter(None, named))) or "none that is named"
        raise UnfitError(f"{path} has no band {absent[0]!r} (there is {there}): name those it has.")
    return [named[band] for band in bands]


def _band_of(image: Any) -> str:
    return str(image.header.get("FILTER") or image.name.removeprefix("PRIMARY")).strip()


def band_names(path: Path, hdu: int | str | None) -> tuple[str, ...] | None:
    """Return the names that a file gives its bands, if it does."""
    if path.name.lower().endswith(PICTURE_ENDINGS):
        return None
    if not path.name.lower().endswith(FITS_ENDINGS) or hdu is not None:
        return None
    with open_fits(path) as file, fits.open(file) as hdus:
        names = tuple(_band_of(image) for image in _fits_images(path, hdus, None, None))
    return names if all(names) and len(set(names)) == len(names) else None


def fit_size(
    pixels: NDArray[Any], size: tuple[int, int], *, resample: bool = False
) -> NDArray[Any]:
    """Crop or pad images about their centre, or resample them, to one size.

    Parameters
    ----------
    pixels : array of shape (bands, height, width)
    size : tuple (height, width)
    resample : bool, default=False
        Resample (bicubic, averaging where it shrinks) instead; surface brightness is kept,
        and a NaN spreads to what it is averaged into.

    Returns
    -------
    pixels : array of shape (bands, *size), same dtype
        Padded with NaN, or with 0 where the dtype has none. An odd difference leaves the
        centre half a pixel off.

    Examples
    --------
    >>> fit_size(np.ones((1, 2, 2)), (4, 4))[0]
    array([[nan, nan, nan, nan],
           [nan,  1.,  1., nan],
           [nan,  1.,  1., nan],
           [nan, nan, nan, nan]])
    """
    if pixels.shape[1:] == size:
        return pixels
    if resample:
        return np.stack([_resampled(band, size) for band in pixels])
    height, width = pixels.shape[1:]
    empty = np.nan if pixels.dtype.kind == "f" else 0
    out = np.full((len(pixels), *size), empty, pixels.dtype)
    (into_y, from_y), (into_x, from_x) = _overlap(height, size[0]), _overlap(width, size[1])
    out[:, into_y, into_x] = pixels[:, from_y, from_x]
    return out


def _overlap(old: int, new: int) -> tuple[slice, slice]:
    """Return where the pixels of one axis go, and where they come from."""
    into, start = max(0, (new - old) // 2), max(0, (old - new) // 2)
    length = min(old, new)
    return slice(into, into + length), slice(start, start + length)


def _resampled(band: NDArray[Any], size: tuple[int, int]) -> NDArray[Any]:
    height, width = size
    image = Image.fromarray(band.astype(np.float32))
    pixels = np.asarray(image.resize((width, height), Image.Resampling.BICUBIC))
    if band.dtype.kind in "iu":
        limits = np.iinfo(band.dtype)
        pixels = np.clip(np.rint(pixels), limits.min, limits.max)
    return pixels.astype(band.dtype)
