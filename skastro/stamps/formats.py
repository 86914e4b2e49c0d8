"""Read stamps from files that hold all of them: `.npy`, `.npz`, Zarr and HDF5.

Opening a source reads its metadata only; pixels are read on demand. A source holds paths and not
pixels, and its pickles are small.
"""

from __future__ import annotations

import hashlib
import os
import warnings
from base64 import b64decode
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from skastro.stamps.axes import (
    arrange,
    arranged_shape,
    axes_of_names,
    axes_of_stamp,
    fit_axes,
    warn_channels_last,
)
from skastro.utils.files import UnfitError, open_npz_array, read_npz_headers, reading
from skastro.utils.fits import is_band_name
from skastro.utils.packages import import_optional

Rows = NDArray[np.int64]
HDF5_ENDINGS = (".h5", ".hdf5", ".hdf")
_MOST_BANDS = 12  # more arrays than these in an HDF5 file are stamps
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
class FileSource:
    """The metadata that all sources in files have."""

    shape: tuple[int, int, int, int]
    dtype: np.dtype
    signature: str
    bands: tuple[str, ...] | None = None
    ids: NDArray[Any] | None = None
    known_axes: str | None = None  # given by the user or the file; None if taken as usual


@dataclass(frozen=True, eq=False, kw_only=True)
class NpyFile(FileSource):
    """A ``.npy`` file of stamps, or an array in an ``.npz`` file.

    Each read opens a new memory map: one that stays open keeps all pages it has read in memory.
    """

    path: Path
    axes: str  # as in skastro.stamps.axes
    name: str | None = None  # in an .npz file

    def read(self, rows: Rows) -> NDArray[Any]:
        """Read some rows of the file."""
        check_unchanged(self.path, self.signature)
        if self.name is None:
            stamps = arrange(np.lib.format.open_memmap(self.path, "r"), self.axes)
        else:
            problem = "has stamps that cannot be read"
            with reading(self.path, problem, "save it again", gone=_DOES_NOT_EXIST):
                stamps = arrange(open_npz_array(self.path, self.name, self.signature), self.axes)
        return native(np.ascontiguousarray(stamps[rows]))


@dataclass(frozen=True, eq=False, kw_only=True)
class ChunkedArray(FileSource):
    """An array of stamps in a Zarr store or an HDF5 file."""

    path: Path
    name: str | None
    axes: str  # as in skastro.stamps.axes
    missing: tuple[float, ...]  # values of pixels that were never measured, or never written
    scale: tuple[float, float] | None  # factor and offset of packed pixels

    def read(self, rows: Rows) -> NDArray[Any]:
        """Read the chunks that hold some rows."""
        check_unchanged(_find_metadata(self.path), self.signature)
        problem = "has stamps that cannot be read"
        with (
            reading(self.path, problem, "copy or save it again", gone=_DOES_NOT_EXIST),
            _open_array(self.path, self.name, len(self.axes)) as array,
        ):
            if "n" in self.axes:
                pixels = arrange(read_sorted(array, rows, self.axes.index("n")), self.axes)
            else:
                pixels = arrange(np.asarray(array[...]), self.axes)[rows]
        return _decode(np.ascontiguousarray(pixels), self.dtype, self.missing, self.scale)


def _decode(
    pixels: NDArray[Any],
    dtype: np.dtype,
    missing: tuple[float, ...],
    scale: tuple[float, float] | None,
) -> NDArray[Any]:
    """Set missing pixels to NaN, and unpack scaled ones."""
    is_missing = np.isin(pixels, missing) if missing else None
    pixels = pixels.astype(dtype, copy=False)
    if scale is not None:
        factor, offset = scale
        pixels = (pixels * factor + offset).astype(dtype, copy=False)
    if is_missing is not None:
        pixels[is_missing] = np.nan
    return pixels


@dataclass(frozen=True, eq=False, kw_only=True)
class Hdf5Stamps(FileSource):
    """An HDF5 file with a data set for each stamp."""

    path: Path
    names: tuple[str, ...]
    axes: str  # of one stamp

    def read(self, rows: Rows) -> NDArray[Any]:
        """Read the data sets of some rows."""
        check_unchanged(self.path, self.signature)
        h5py = import_optional("h5py", extra="data", needed_by="Reading HDF5 files")
        stamps = np.empty((len(rows), *self.shape[1:]), self.dtype)
        problem = "has stamps that cannot be read"
        with (
            reading(self.path, problem, "copy or save it again", gone=_DOES_NOT_EXIST),
            h5py.File(self.path) as file,
        ):
            for stamp, row in zip(stamps, rows, strict=True):
                stamp[...] = self._read_one(file[self.names[row]])
        return stamps

    def _read_one(self, array: Any) -> NDArray[Any]:
        where = f"{self.path}, data set {array.name}"
        if len(array.shape) != len(self.axes) or (
            arranged_shape(array.shape, self.axes)[1:] != self.shape[1:]
        ):
            raise UnfitError(
                f"{where} has the shape {array.shape}, but those before have stamps of "
                f"{self.shape[1:]}: save stamps of one shape, or choose them with hdu= (--hdu)."
            )
        dtype, missing, scale = _unpacked_type(array)
        if not np.can_cast(dtype, self.dtype, "safe"):
            raise UnfitError(
                f"{where} has {dtype} pixels, but the first stamp has {self.dtype}: save all in "
                "one type."
            )
        return arrange(_decode(np.asarray(array[...]), self.dtype, missing, scale), self.axes)[0]


def _unpacked_type(array: Any) -> tuple[np.dtype, tuple[float, ...], tuple[float, float] | None]:
    """Return the dtype of an array when it is decoded, and what `_decode` needs."""
    dtype = np.dtype(array.dtype)
    missing, scale = _find_packing(array, dict(array.attrs), dtype)
    if (missing or scale) and dtype.kind in "iu":
        dtype = np.result_type(dtype, np.float32)
    return dtype.newbyteorder("="), missing, scale


def find_hdf5_stamps(path: Path, pattern: str | None) -> tuple[str, ...]:
    """Return the names of the data sets of an HDF5 file that hold one stamp each.

    They match ``pattern``, in which "*" stands for any part of a name without "/". Without a
    pattern there are more of them than bands can be, and no stack. The result is empty if the file
    holds a stack, or does not exist.
    """
    if not path.is_file() or (pattern is not None and "*" not in pattern):
        return ()
    h5py = import_optional("h5py", extra="data", needed_by="Reading HDF5 files")
    shapes: dict[str, Any] = {}
    problem, remedy = "cannot be read as HDF5 file of stamps", "copy it again"
    with reading(path, problem, remedy, gone=_DOES_NOT_EXIST), h5py.File(path) as file:
        file.visititems(lambda key, node: shapes.update({key: getattr(node, "shape", None)}))
    images = [name for name, shape in shapes.items() if shape and len(shape) in (2, 3)]
    if pattern is not None:
        wanted = pattern.strip("/")
        names = [n for n in images if n.count("/") == wanted.count("/") and fnmatchcase(n, wanted)]
        if not names:
            raise ValueError(f"{path} has no data set that matches hdu={pattern!r}: correct it.")
        return tuple(names)
    if len(images) <= _MOST_BANDS or any(shape and len(shape) > 3 for shape in shapes.values()):
        return ()
    # data sets of the same name in a group for each object
    ends = {name.rpartition("/")[2] for name in images}
    if len(ends) <= len(images) // 2:
        ends = {end for end in ends if is_band_name(end)}
        images = [name for name in images if name.rpartition("/")[2] in ends]
        if len(ends) > 1:
            raise ValueError(
                f"{path} has several data sets of each object ({', '.join(sorted(ends))}): choose "
                f'one with hdu=, as in hdu="*/{min(ends)}" (--hdu "*/{min(ends)}").'
            )
    return tuple(images)


def open_hdf5_stamps(path: Path, names: Sequence[str], axes: str | None) -> Hdf5Stamps:
    """Open data sets of an HDF5 file with one stamp each, by reading the header of the first."""
    h5py = import_optional("h5py", extra="data", needed_by="Reading HDF5 files")
    with h5py.File(path) as file:
        shape, (dtype, _, _) = file[names[0]].shape, _unpacked_type(file[names[0]])
    known = None if axes is None else fit_axes(axes, shape, f"{path}, {names[0]}", stack=False)
    if known is None:
        warn_channels_last(path, shape, "chw"[-len(shape) :])
    own = known or axes_of_stamp(shape) or "hw"
    ids = [name.split("/") for name in names]
    differing = [i for i in range(len(ids[0])) if len({parts[i] for parts in ids}) > 1] or [-1]
    return Hdf5Stamps(
        path=path,
        names=tuple(names),
        axes=own,
        shape=_check_stack(path, (len(names), *shape), dtype, f"n{own}"),
        dtype=dtype,
        signature=signature_of([path]),
        ids=np.array(["/".join(parts[i] for i in differing) for parts in ids]),
        known_axes=axes,
    )


def read_columns(path: Path, n: int, name: str | None = None) -> pd.DataFrame:
    """Return the columns beside the n stamps in an HDF5 or ``.npz`` file.

    They are the arrays of one value for each stamp, or the attributes of the data set of each
    stamp; none if there are no such arrays. ``name`` is the one that the stamps were opened with.
    A warning names arrays of Python objects, which are left out.
    """
    problem, remedy = "has columns that cannot be read", "copy it again, or save it again"
    with reading(path, problem, remedy, gone=_DOES_NOT_EXIST):
        if path.suffix in HDF5_ENDINGS:
            return _read_hdf5_columns(path, n, name)
        if path.suffix != ".npz":
            return pd.DataFrame()
        dtypes = {
            key: kind for key, (shape, kind) in read_npz_headers(path).items() if shape == (n,)
        }
        if objects := [key for key, dtype in dtypes.items() if dtype.hasobject]:
            warnings.warn(
                f"{path} has Python objects in {', '.join(objects)}, which are left out: save them "
                "as numbers or text.",
                UserWarning,
                stacklevel=3,
            )
        with np.load(path, allow_pickle=False) as file:
            return pd.DataFrame({key: file[key] for key in dtypes if key not in objects})


def _read_hdf5_columns(path: Path, n: int, name: str | None) -> pd.DataFrame:
    names = find_hdf5_stamps(path, name)
    h5py = import_optional("h5py", extra="data", needed_by="Reading HDF5 files")
    with h5py.File(path) as file:
        if names:
            rows = [{**file[key].parent.attrs, **file[key].attrs} for key in names]
            keys = dict.fromkeys(key for row in rows for key in row if np.ndim(row[key]) == 0)
            return pd.DataFrame(rows, columns=list(keys))
        nodes: dict[str, Any] = {}
        file.visititems(lambda key, node: nodes.update({key: node}))
        columns = {key: node for key, node in nodes.items() if getattr(node, "shape", 0) == (n,)}
        return pd.DataFrame(
            {
                key: node.asstr()[...] if h5py.check_string_dtype(node.dtype) else node[...]
                for key, node in columns.items()
                if node.dtype.kind in "biufSO"
            }
        )


def read_sorted(array: Any, rows: Rows, axis: int = 0) -> Any:
    """Read rows in any order, along any axis, from an array that reads sorted rows only, or best.

    Each chunk is decoded once. ``array`` is of Zarr, HDF5, Dask or their like.
    """
    wanted, positions = np.unique(rows, return_inverse=True)
    before = (slice(None),) * axis
    if hasattr(array, "oindex"):
        pixels = array.oindex[(*before, wanted)]
    elif len(wanted) and wanted[-1] + 1 - wanted[0] <= 4 * len(wanted):
        # HDF5 picks single rows slowly: read all rows between the first and the last
        pixels = array[(*before, slice(wanted[0], wanted[-1] + 1))]
        pixels = pixels[(*before, wanted - wanted[0])]
    else:
        pixels = array[(*before, wanted if len(wanted) else slice(0))]
    return pixels[(*before, positions)]


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


def open_npy(path: Path, axes: str | None) -> NpyFile:
    """Open a ``.npy`` file of stamps by reading its header."""
    problem = "is not a .npy file, or is truncated"
    remedy = "copy it again, or save the stamps with numpy.save"
    with reading(path, problem, remedy, gone=_DOES_NOT_EXIST):
        pixels = np.lib.format.open_memmap(path, "r")
    all_axes = _find_axes(path, pixels.shape, axes, None)
    return NpyFile(
        path=path,
        shape=_check_stack(path, pixels.shape, pixels.dtype, all_axes),
        dtype=pixels.dtype,
        signature=signature_of([path]),
        axes=all_axes,
        known_axes=axes,
    )


def open_npz(path: Path, name: str | None, axes: str | None) -> NpyFile:
    """Open the array of stamps in an ``.npz`` file by reading the headers of its arrays."""
    problem, remedy = "is not an .npz file, or is truncated", "copy it again, or save it again"
    with reading(path, problem, remedy, gone=_DOES_NOT_EXIST):
        headers = read_npz_headers(path)
        shapes: dict[str, Any] = {key: shape for key, (shape, _) in headers.items()}
        name = _find_name(path, name, shapes, len(axes or "nchw"))
    shape, dtype = headers[name]
    all_axes = _find_axes(path, shape, axes, None)
    return NpyFile(
        path=path,
        name=name,
        shape=_check_stack(path, shape, dtype, all_axes),
        dtype=dtype,
        signature=signature_of([path]),
        axes=all_axes,
        known_axes=axes,
    )


def open_chunked(path: Path, name: str | None, axes: str | None = None) -> ChunkedArray:
    """Open the array of stamps in a Zarr store or an HDF5 file by reading its metadata."""
    kind = "Zarr store" if _is_zarr(path) else "HDF5 file"
    problem = f"cannot be read as {kind} of stamps"
    remedy = "name its array with hdu= (--hdu), or save the stamps again"
    with (
        reading(path, problem, remedy, gone=_DOES_NOT_EXIST),
        _open_array(path, name, len(axes or "nchw")) as array,
    ):
        raw_shape, attributes = tuple(array.shape), dict(array.attrs)
        names = _names_of_dimensions(array, attributes)
        dtype, missing, scale = _unpacked_type(array)
        name = (array.name or "").strip("/") or None
    all_axes = _find_axes(path, raw_shape, axes, names)
    shape = _check_stack(path, raw_shape, dtype, all_axes)
    bands = attributes.get("bands")
    return ChunkedArray(
        path=path,
        name=name,
        shape=shape,
        dtype=dtype,
        signature=signature_of([_find_metadata(path)]),
        bands=None if bands is None else tuple(map(str, bands)),
        axes=all_axes,
        known_axes=axes or axes_of_names(names),
        missing=missing,
        scale=scale,
    )


def _names_of_dimensions(array: Any, attributes: dict[str, Any]) -> list[str]:
    """Return the names that xarray, netCDF and Zarr give the dimensions of an array, or []."""
    if hasattr(array, "dims"):  # HDF5
        scales = [dimension.label or dimension for dimension in array.dims]
        return [
            scale if isinstance(scale, str) else scale[0].name.rsplit("/")[-1] if len(scale) else ""
            for scale in scales
        ]
    names = getattr(array.metadata, "dimension_names", None) or attributes.get("_ARRAY_DIMENSIONS")
    return [name or "" for name in names or ()]


def _find_packing(
    array: Any, attributes: dict[str, Any], dtype: np.dtype
) -> tuple[tuple[float, ...], tuple[float, float] | None]:
    """Return the values of missing pixels, and the factor and offset of packed ones.

    They follow the CF conventions, as xarray and netCDF write them. A fill value of the format,
    other than zero, stands for pixels that were never written; in bytes it may be a value.
    """
    values = [attributes.get("_FillValue"), attributes.get("missing_value")]
    if isinstance(values[0], str):  # xarray writes floats in Zarr 3 as text
        values[0] = np.frombuffer(b64decode(values[0]), "<f8")
    fill = getattr(array, "fillvalue", getattr(array, "fill_value", None))
    if dtype.kind in "iuf" and dtype.itemsize > 1 and fill:
        values.append(fill)
    given = [np.ravel(value) for value in values if value is not None]
    numbers = np.concatenate(given or [np.empty(0)])
    missing: tuple[float, ...] = ()
    if numbers.dtype.kind in "iuf":
        missing = tuple(dict.fromkeys(numbers[np.isfinite(numbers)].tolist()))
    factor = float(np.ravel(attributes.get("scale_factor", 1))[0])
    offset = float(np.ravel(attributes.get("add_offset", 0))[0])
    return missing, None if (factor, offset) == (1, 0) else (factor, offset)


@contextmanager
def _open_array(path: Path, name: str | None, n_axes: int) -> Iterator[Any]:
    """Open the named array of a Zarr store or HDF5 file, or the only one of so many axes."""
    if _is_zarr(path):
        zarr = import_optional("zarr", extra="data", needed_by="Reading Zarr stores")
        array = zarr.open(str(path), mode="r")
        if not isinstance(array, zarr.Array):
            shapes = {key: child.shape for key, child in array.arrays()}
            array = array[_find_name(path, name, shapes, n_axes)]
        _refuse_pickles(path, array.metadata.to_dict())
        yield array
        return
    h5py = import_optional("h5py", extra="data", needed_by="Reading HDF5 files")
    with h5py.File(path) as file:
        shapes = {}
        if name is None or name not in file:
            file.visititems(lambda key, node: shapes.update({key: getattr(node, "shape", None)}))
            name = _find_name(path, name, shapes, n_axes)
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


def _find_name(
    path: Path, name: str | None, shapes: dict[str, tuple[int, ...] | None], n_axes: int
) -> str:
    """Return the name of an array, without one that of the only array of so many axes."""
    if name is not None and name in shapes:
        return name
    arrays = {key: shape for key, shape in shapes.items() if shape}
    listed = ", ".join(f"{key} {shape}" for key, shape in arrays.items()) or "none"
    if name is not None:
        raise UnfitError(f"{path} has no array {name!r}: name one with hdu= (--hdu) of {listed}.")
    stacks = [key for key, shape in arrays.items() if len(shape) == n_axes]
    # or with the axis of stamps, which axes= may leave out, or with axes of length 1
    stacks = stacks or [key for key, shape in arrays.items() if len(shape) > n_axes]
    images = [key for key in stacks if is_band_name(key)]
    if len(images) == 1:
        if left_out := [key for key in stacks if key not in images]:
            warnings.warn(
                f"{path} has arrays that are not bands, which are left out: {', '.join(left_out)} "
                "(to choose one, pass hdu=, or --hdu).",
                UserWarning,
                stacklevel=2,
            )
        return images[0]
    if len(stacks) == 1:
        return stacks[0]
    if stacks:
        raise UnfitError(
            f"{path} has several arrays of stamps ({', '.join(stacks)}): name one with hdu=, as in "
            f"hdu={stacks[0]!r} (--hdu {stacks[0]})."
        )
    raise UnfitError(
        f"{path} has no {n_axes}-D array (there is {listed}): name one with hdu= (--hdu), and its "
        'axes with axes= (--axes), such as axes="nhw" for stamps of one band.'
    )


def _find_axes(
    path: Path, shape: tuple[int, ...], axes: str | None, names: Sequence[str] | None
) -> str:
    """Return the axes of a stack: those given, those of its dimensions' names, or the usual ones.

    Without either, axes that look like channels last are read as usual, with a warning.
    """
    if axes is not None:
        return fit_axes(axes, shape, path, stack=True)
    if found := axes_of_names(names):
        return found
    inner = axes_of_stamp(shape[1:]) if len(shape) > 3 else None
    if inner is None:
        hint = (
            'axes="nhw" (--axes nhw) if these are stamps of one band, or axes="chw" for one stamp'
        )
        if len(shape) != 3:
            hint = "axes= (--axes) with a letter for each axis"
        raise UnfitError(
            f"{path} has the shape {shape}, but stamps are (n, bands, height, width): pass {hint}."
        )
    if "c" in inner:
        warn_channels_last(path, shape, f"n{inner}")
    return f"n{inner}"


def _check_stack(
    path: Path, raw_shape: tuple[int, ...], dtype: np.dtype, axes: str
) -> tuple[int, int, int, int]:
    """Return the shape (n, bands, height, width) of a stack that can be read."""
    if dtype.kind not in "biuf":
        raise ValueError(f"{path} holds {dtype} values: save stamps as real numbers.")
    shape = arranged_shape(raw_shape, axes)
    if max(shape) > _MAX_AXIS_LENGTH:
        raise ValueError(f"{path} has an impossible shape, {raw_shape}: save it again.")
    if min(shape) < 1:
        raise ValueError(f"{path} of shape {raw_shape} holds no pixel: save at least one stamp.")
    return shape
