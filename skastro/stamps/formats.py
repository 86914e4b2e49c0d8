"""Read stamps from files of each format.

Opening a source reads its metadata only; pixels are read on demand. A source holds paths and not
pixels, and its pickles are small.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from astropy.io import fits
from numpy.typing import NDArray
from PIL import Image

from skastro.utils.files import ENDINGS, FITS_ENDINGS, PICTURE_ENDINGS, UnfitError, reading
from skastro.utils.fits import open_fits
from skastro.utils.packages import import_optional

Rows = NDArray[np.int64]
Reader = Callable[[Path], NDArray[Any]]
_MAX_AXIS_LENGTH = 2**48
_DOES_NOT_EXIST = "does not exist: pass the path of stamps"


class PixelSource(Protocol):
    """What `Stamps` read their pixels from."""

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """Number of stamps, number of bands, height and width."""

    @property
    def dtype(self) -> np.dtype:
        """The dtype of the pixels."""

    @property
    def bands(self) -> tuple[str, ...] | None:
        """Names of the bands; None if they are unknown."""

    @property
    def ids(self) -> NDArray[Any] | None:
        """Names of the stamps, an array of shape (n,); None if they have none."""

    def read(self, rows: Rows) -> NDArray[Any]:
        """Return the stamps of some rows, an array of shape (rows, bands, height, width)."""


@dataclass(frozen=True, eq=False, kw_only=True)
class _FileSource:
    """The metadata that all sources of this module have."""

    shape: tuple[int, int, int, int]
    dtype: np.dtype
    signature: str
    bands: tuple[str, ...] | None = None
    ids: NDArray[Any] | None = None


@dataclass(frozen=True, eq=False, kw_only=True)
class NpyFile(_FileSource):
    """A ``.npy`` file of shape (n, bands, height, width).

    Each read opens a new memory map: one that stays open keeps all pages it has read in memory.
    """

    path: Path

    def read(self, rows: Rows) -> NDArray[Any]:
        """Read some rows of the file."""
        check_unchanged(self.path, self.signature)
        return native(np.asarray(np.lib.format.open_memmap(self.path, "r")[rows]))


@dataclass(frozen=True, eq=False, kw_only=True)
class ChunkedArray(_FileSource):
    """A 4-D array in a Zarr store or an HDF5 file."""

    path: Path
    name: str | None

    def read(self, rows: Rows) -> NDArray[Any]:
        """Read the chunks that hold some rows."""
        check_unchanged(_find_metadata(self.path), self.signature)
        # decode each chunk once, in the order of the file
        wanted, positions = np.unique(rows, return_inverse=True)
        problem = "has stamps that cannot be read"
        with (
            reading(self.path, problem, "copy or save it again", gone=_DOES_NOT_EXIST),
            _open_array(self.path, self.name) as array,
        ):
            if _is_zarr(self.path):
                pixels = np.asarray(array.oindex[wanted])
            elif len(wanted) and wanted[-1] + 1 - wanted[0] <= 4 * len(wanted):
                # HDF5 picks single rows slowly: read all rows between the first and the last
                pixels = array[wanted[0] : wanted[-1] + 1][wanted - wanted[0]]
            else:
                pixels = array[wanted] if len(wanted) else array[:0]
            return native(pixels[positions])


@dataclass(frozen=True, eq=False, kw_only=True)
class StampFiles(_FileSource):
    """Files with one stamp, or with one band of a stamp, each.

    ``names`` are relative to ``folder``, and have the shape (n, files of a stamp).
    """

    folder: Path
    names: NDArray[np.str_]
    hdu: int | str | None
    resample: bool
    fixed_size: bool  # refuse files of another size than the first
    reader: Reader | None = None  # the user's function for files of other kinds

    def read(self, rows: Rows) -> NDArray[Any]:
        """Read the files of some rows."""
        n_bands = self.shape[1] // self.names.shape[1]
        bands = self.bands if self.names.shape[1] == 1 else None  # else each file has one band
        stamps = np.empty((len(rows), *self.shape[1:]), self.dtype)
        for stamp, row in zip(stamps, rows, strict=True):
            for number, name in enumerate(self.names[row]):
                pixels = read_file(self.folder / name, self.hdu, bands, self.reader)
                self._check_shape(self.folder / name, pixels.shape, n_bands)
                pixels = fit_size(pixels, self.shape[2:], resample=self.resample)
                stamp[number * n_bands : (number + 1) * n_bands] = pixels
        return stamps

    def _check_shape(self, path: Path, shape: tuple[int, ...], n_bands: int) -> None:
        if shape[0] != n_bands:
            raise ValueError(
                f"{path} has {shape[0]} bands, but the first file has {n_bands}: "
                "keep stamps of the same bands together, or name the bands."
            )
        if self.fixed_size and shape[1:] != self.shape[2:]:
            raise ValueError(
                f"{path} has {shape[1]} x {shape[2]} pixels, but the first file has "
                f"{self.shape[2]} x {self.shape[3]}: pass size= to crop or pad all to one size."
            )


def native(pixels: NDArray[Any]) -> NDArray[Any]:
    """Return pixels in the machine's byte order."""
    return pixels.astype(pixels.dtype.newbyteorder("="), copy=False)


def signature_of(paths: Iterable[str | os.PathLike[str]]) -> str:
    """Return a fingerprint of the paths, sizes and modification times of files."""
    digest = hashlib.sha256()
    for path in paths:
        state = Path(path).stat()
        digest.update(f"{path}|{state.st_size}|{state.st_mtime_ns}\n".encode())
    return digest.hexdigest()


def check_unchanged(path: Path, signature: str) -> None:
    """Refuse to read a file that has changed since it was opened."""
    try:
        unchanged = signature_of([path]) == signature
    except FileNotFoundError:
        raise FileNotFoundError(
            f"{path} is gone since the stamps were opened: put it back, or open others."
        ) from None
    if not unchanged:
        raise ValueError(f"{path} has changed since the stamps were opened: open them again.")


def open_npy(path: Path) -> NpyFile:
    """Open a ``.npy`` file of stamps by reading its header."""
    problem = "is not a .npy file, or is truncated"
    remedy = "copy it again, or save the stamps with numpy.save"
    with reading(path, problem, remedy, gone=_DOES_NOT_EXIST):
        pixels = np.lib.format.open_memmap(path, "r")
    _check_stack(path, pixels.shape, pixels.dtype)
    return NpyFile(
        path=path, shape=pixels.shape, dtype=pixels.dtype, signature=signature_of([path])
    )


def open_chunked(path: Path, name: str | None) -> ChunkedArray:
    """Open the array of stamps in a Zarr store or an HDF5 file by reading its metadata."""
    kind = "Zarr store" if _is_zarr(path) else "HDF5 file"
    problem = f"cannot be read as {kind} of stamps"
    remedy = "name its array with hdu=, or save the stamps again"
    with (
        reading(path, problem, remedy, gone=_DOES_NOT_EXIST),
        _open_array(path, name) as array,
    ):
        shape, dtype, bands = tuple(array.shape), np.dtype(array.dtype), array.attrs.get("bands")
        name = (array.name or "").strip("/") or None
        bands = None if bands is None else tuple(map(str, bands))
    _check_stack(path, shape, dtype)
    return ChunkedArray(
        path=path,
        name=name,
        shape=shape,
        dtype=dtype.newbyteorder("="),
        signature=signature_of([_find_metadata(path)]),
        bands=bands,
    )


@contextmanager
def _open_array(path: Path, name: str | None) -> Iterator[Any]:
    """Open the named array, or without a name the only 4-D one, of a Zarr store or HDF5 file."""
    if _is_zarr(path):
        zarr = import_optional("zarr", extra="data", needed_by="Reading Zarr stores")
        array = zarr.open(str(path), mode="r")
        if not isinstance(array, zarr.Array):
            name = name or _only_stack(path, {key: child.ndim for key, child in array.arrays()})
            array = array[name]
        _refuse_pickles(path, array.metadata.to_dict())
        yield array
        return
    h5py = import_optional("h5py", extra="data", needed_by="Reading HDF5 files")
    with h5py.File(path) as file:
        if name is None:
            dimensions: dict[str, int] = {}
            file.visititems(lambda key, node: dimensions.update({key: getattr(node, "ndim", 0)}))
            name = _only_stack(path, dimensions)
        yield file[name]


def _find_metadata(path: Path) -> Path:
    """Return the file that changes when the array is written again: in a store its metadata."""
    candidates = [path / name for name in ("zarr.json", ".zgroup", ".zarray")]
    return next((file for file in candidates if file.is_file()), path)


def _is_zarr(path: Path) -> bool:
    return path.is_dir() or path.suffix == ".zarr" or path.name.endswith(".zarr.zip")


def _refuse_pickles(path: Path, metadata: dict[str, Any]) -> None:
    """Refuse a codec that may execute code when it decodes pixels."""
    codecs = [metadata.get(key) for key in ("compressor", "filters", "codecs")]
    if "pickle" in str(codecs):
        raise UnfitError(
            f"{path} holds pickled Python objects, which may execute code: save it as numbers."
        )


def _only_stack(path: Path, dimensions: dict[str, int]) -> str:
    """Return the name of the only 4-D array, from the number of dimensions of each array."""
    stacks = [name for name, ndim in dimensions.items() if ndim == 4]
    if len(stacks) == 1:
        return stacks[0]
    what = f"several arrays of stamps ({', '.join(stacks)})" if stacks else "no 4-D array"
    raise UnfitError(f"{path} has {what}: name one of shape (n, bands, height, width) with hdu=.")


def _check_stack(path: Path, shape: Sequence[int], dtype: np.dtype) -> None:
    if len(shape) != 4:
        raise ValueError(
            f"{path} has the shape {tuple(shape)}: save stamps as (n, bands, height, width)."
        )
    if dtype.kind not in "biuf":
        raise ValueError(f"{path} holds {dtype} values: save stamps as real numbers.")
    if max(shape) > _MAX_AXIS_LENGTH:
        raise ValueError(f"{path} has an impossible shape, {tuple(shape)}: save it again.")
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
    """Open files with one stamp, or with one band of a stamp, each.

    Shape and dtype are those of the first stamp, unless ``size`` is given. ``names`` has the shape
    (n, files of a stamp). If a stamp has several files, ``bands`` are the names of their bands,
    else the bands to read from the file.
    """
    try:
        signature = signature_of(folder / name for name in names.ravel())
    except FileNotFoundError as error:
        raise FileNotFoundError(
            f"{error.filename} does not exist: correct the list, or put it back."
        ) from error

    # bands and dtype of the first stamp
    one_file = names.shape[1] == 1
    firsts = [
        read_file(folder / name, hdu, bands if one_file else None, reader) for name in names[0]
    ]
    if bands is None and one_file and reader is None:
        bands = band_names(folder / names[0, 0], hdu)
        bands = bands if bands and len(bands) == len(firsts[0]) else None
    dtype = np.result_type(*firsts)
    if dtype.kind not in "biuf":
        raise ValueError(f"{folder / names[0, 0]} holds {dtype} values: save real numbers.")
    return StampFiles(
        folder=folder,
        names=names,
        shape=(len(names), sum(map(len, firsts)), *(size or firsts[0].shape[1:])),
        dtype=dtype,
        hdu=hdu,
        resample=resample,
        fixed_size=size is None,
        signature=signature,
        bands=bands,
        ids=ids,
        reader=reader,
    )


def read_file(
    path: Path,
    hdu: int | str | None,
    bands: Sequence[str] | None,
    reader: Reader | None = None,
) -> NDArray[Any]:
    """Read the stamp of one FITS, picture, ``.npy`` or other file as (bands, height, width)."""
    how, read = ("with reader=", reader) if reader else _find_reader(path, hdu, bands)
    problem, remedy = f"cannot be read {how}", "copy it again, or leave its row out"
    with reading(path, problem, remedy, gone="is missing: put it back, or leave its row out"):
        pixels = np.asarray(read(path))
    if pixels.ndim == 2:
        pixels = pixels[None]
    if pixels.ndim != 3 or 0 in pixels.shape:
        raise UnfitError(
            f"{path} has an image of shape {pixels.shape}: "
            "a stamp is (height, width) or (bands, height, width)."
        )
    return native(pixels)


def _find_reader(
    path: Path, hdu: int | str | None, bands: Sequence[str] | None
) -> tuple[str, Reader]:
    """Return the kind of file, for messages, and the function that reads it."""
    name = path.name.lower()
    if name.endswith(FITS_ENDINGS):
        return "as FITS", lambda path: _read_fits_stamp(path, hdu, bands)
    if name.endswith(PICTURE_ENDINGS):
        return f"as {path.suffix.lstrip('.').upper()} image", _read_picture
    if name.endswith(".npy"):
        return "as a .npy array", lambda path: np.load(path, allow_pickle=False)
    raise ValueError(f"{path} is not a stamp file: use one of {', '.join(ENDINGS)}.")


def _read_picture(path: Path) -> NDArray[Any]:
    with Image.open(path) as image:
        coded = image.mode in ("P", "CMYK", "YCbCr", "LAB", "HSV")
        pixels = np.asarray(image.convert("RGB") if coded else image)
    if pixels.ndim == 2:
        return pixels
    opaque = pixels.shape[2] - (pixels.shape[2] in (2, 4))  # alpha is not a band
    return pixels[..., :opaque].transpose(2, 0, 1)


def _read_fits_stamp(
    path: Path, hdu: int | str | None, bands: Sequence[str] | None
) -> NDArray[Any]:
    # astropy does not close a file that it fails to read: open_fits does
    with open_fits(path) as file, fits.open(file, memmap=False, lazy_load_hdus=False) as hdus:
        images = _fits_images(path, hdus, hdu, bands)
        sizes = {image.data.shape for image in images}
        if len(sizes) > 1:
            raise UnfitError(f"{path} has bands of different sizes ({sizes}): name those to take.")
        arrays = [image.data for image in images]
    return arrays[0] if len(arrays) == 1 else np.stack(arrays)


def _fits_images(
    path: Path, hdus: fits.HDUList, hdu: int | str | None, bands: Sequence[str] | None
) -> list[Any]:
    """Return the image extensions of a stamp, one for each band, or the one that holds a cube."""
    if hdu is not None:
        try:
            return [hdus[hdu]]
        except (KeyError, IndexError):
            choice = ", ".join(f"{i} {h.name}".strip() for i, h in enumerate(hdus))
            raise UnfitError(f"{path} has no extension {hdu!r}: choose one of {choice}.") from None
    images = [h for h in hdus if h.is_image and len(h.shape) in (2, 3)]
    if not images:
        raise UnfitError(f"{path} has no image: pass hdu=, or leave its row out.")
    if bands is None or len(images[0].shape) == 3:
        return images
    by_name = {_band_of(image): image for image in images}
    if absent := [band for band in bands if band not in by_name]:
        if set(by_name) == {""} and len(images) == len(bands):
            return images  # the file has no names: its bands are in the order of ``bands``
        choice = ", ".join(sorted(filter(None, by_name))) or "none that is named"
        raise UnfitError(
            f"{path} has no band {absent[0]!r} (there is {choice}): name those it has."
        )
    return [by_name[band] for band in bands]


def _band_of(image: Any) -> str:
    return str(image.header.get("FILTER") or image.name.removeprefix("PRIMARY")).strip()


def band_names(path: Path, hdu: int | str | None) -> tuple[str, ...] | None:
    """Return the names of the bands in a FITS file; None if they are missing or not unique."""
    if hdu is not None or not path.name.lower().endswith(FITS_ENDINGS):
        return None
    with open_fits(path) as file, fits.open(file) as hdus:
        names = tuple(_band_of(image) for image in _fits_images(path, hdus, None, None))
    return names if all(names) and len(set(names)) == len(names) else None


def fit_size(
    pixels: NDArray[Any], size: tuple[int, int], *, resample: bool = False
) -> NDArray[Any]:
    """Crop, pad or resample an image of shape (bands, height, width) to a size, in its dtype.

    It is cropped or padded about its centre: with NaN, or with 0 if the dtype has no NaN. After an
    odd difference in size the centre is half a pixel off. ``resample`` resamples it instead
    (bicubic, averaging where it shrinks): this keeps the surface brightness, and a NaN spreads to
    all pixels it is averaged into.

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
        return np.stack([_resample(band, size) for band in pixels])
    empty = np.nan if pixels.dtype.kind == "f" else 0
    result = np.full((len(pixels), *size), empty, pixels.dtype)
    # the part of each axis that the old and the new image have in common
    before, after = [slice(None)], [slice(None)]
    for old, new in zip(pixels.shape[1:], size, strict=True):
        for part, start in ((before, max(0, (old - new) // 2)), (after, max(0, (new - old) // 2))):
            part.append(slice(start, start + min(old, new)))
    result[tuple(after)] = pixels[tuple(before)]
    return result


def _resample(band: NDArray[Any], size: tuple[int, int]) -> NDArray[Any]:
    height, width = size
    image = Image.fromarray(band.astype(np.float32))
    pixels = np.asarray(image.resize((width, height), Image.Resampling.BICUBIC))
    if band.dtype.kind in "iu":
        limits = np.iinfo(band.dtype)
        pixels = np.clip(np.rint(pixels), limits.min, limits.max)
    return pixels.astype(band.dtype)
