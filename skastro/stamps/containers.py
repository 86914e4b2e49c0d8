"""Find the pixels in the containers of images that people have: lists, data sets, tensors."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from skastro.stamps.axes import arrange, axes_of_names
from skastro.stamps.files import picture_pixels
from skastro.stamps.formats import Rows, open_chunked, read_sorted
from skastro.stamps.parquet import ImageReader, describe_stamps, make_reader
from skastro.stamps.stack import Stamps
from skastro.utils.arrow import DatasetTable, is_dataset, refuse_splits, take_rows
from skastro.utils.files import first_line
from skastro.utils.masks import fill_masked, wraps_an_array

_SHAPE = "(n, bands, height, width)"
_MAX_SHOWN = 3  # shapes or file names in a message
_ROWS_AT_ONCE = 1024  # of a data set


@dataclass(frozen=True, eq=False)
class ArraySource:
    """Stamps in an array that reads its pixels on demand: of HDF5, Zarr, Dask or their like."""

    array: Any
    bands: tuple[str, ...] | None = None
    known_axes: str | None = None  # if they do not have to be guessed from the shape
    ids: None = None

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """The shape of the array."""
        n, bands, height, width = map(int, self.array.shape)
        return (n, bands, height, width)

    @property
    def dtype(self) -> np.dtype:
        """The dtype of the pixels as they are read."""
        dtype = np.dtype(self.array.dtype)
        return np.dtype(np.float32) if dtype.name == "bfloat16" else dtype

    def read(self, rows: NDArray[np.int64]) -> NDArray[Any]:
        """Read some rows, with NaN where they are masked."""
        return fill_masked(read_sorted(self.array, rows))

    def __reduce__(self) -> Any:
        if hasattr(self.array, "file"):  # data sets of h5py cannot be pickled, but opened again
            return open_chunked, (Path(self.array.file.filename), self.array.name)
        return ArraySource, (self.array, self.bands, self.known_axes)


def to_array(X: Any, *, name: str = "X") -> Any:
    """Return stamps, or rows of numbers, in any container as something with a shape and a dtype.

    NumPy arrays, memory maps, `Stamps`, DataFrames and sparse arrays come back as they are, masked
    arrays and the like with NaN where masked. Lists, Series and other sequences of equal images are
    stacked. Arrays of four dimensions that read their pixels on demand become `Stamps`, and so do
    data sets of HuggingFace and tables of pyarrow with a column of images. Everything else is a
    ValueError about the argument ``name``.

    Examples
    --------
    >>> to_array([np.ones((1, 2, 2)), np.ma.masked_less([[[0, 5], [5, 5]]], 1)])[1, 0, 0]
    array([nan,  5.])
    >>> to_array([np.ones((1, 2, 2)), np.ones((1, 2, 3))])
    Traceback (most recent call last):
    ValueError: X holds images of different shapes, such as (1, 2, 2) and (1, 2, 3): crop or pad \
them to one size, or open their files with open_stamps(paths, size=...).
    """
    is_plain = isinstance(X, np.ndarray) and not hasattr(X, "mask") and not hasattr(X, "unit")
    if is_plain and X.dtype.names:
        raise ValueError(_describe_table(name, X.dtype.names))
    is_column = getattr(X, "ndim", 0) == 1 and np.asarray(X).dtype.kind in "OUS"
    if isinstance(X, pd.DataFrame) and (text := _columns_of_text(X)):
        raise ValueError(
            f"{name} is a table with text in column {text[0]!r}, not a stack of stamps {_SHAPE}: "
            f"pass the stamps as {name}, and columns of numbers as properties= or catalog=."
        )
    if isinstance(X, (Stamps, pd.DataFrame)) or hasattr(X, "tocsr") or (is_plain and not is_column):
        return X
    refuse_splits(X, name)
    if is_dataset(X):
        return Stamps(open_dataset(X, name))
    _refuse(X, name)
    if _is_labelled(X):
        return _read_named_axes(X, name) if has_named_axes(X) else to_array(X.data, name=name)
    if _is_lazy(X):
        return Stamps(ArraySource(X))
    has_array = hasattr(X, "shape") or hasattr(X, "__array__") or wraps_an_array(X)
    return _stack(X, name) if is_column or not has_array else _convert(X, name)


def write_selection(X: Any, name: str, axes: str) -> str:
    """Return the code that brings axes into the order (n, bands, height, width).

    Examples
    --------
    >>> write_selection(np.zeros((2, 9, 9, 3)), "X", "0, 3, 1, 2")
    'X.transpose(0, 3, 1, 2)'
    """
    if hasattr(X, "detach"):
        return f"{name}.permute({axes})"
    if isinstance(X, np.ndarray):
        return f"{name}.transpose({axes})"
    is_lazy = hasattr(X, "shape") and not isinstance(X, pd.Series)
    return f"{name}[:].transpose({axes})" if is_lazy else f"np.stack({name}).transpose({axes})"


def _is_lazy(X: Any) -> bool:
    """Return whether X is a 4-D array of another library, whose pixels are read when needed."""
    in_memory = isinstance(X, np.ndarray) or any(
        hasattr(X, name) for name in ("detach", "mask", "unmasked")
    )
    return not in_memory and hasattr(X, "dtype") and len(getattr(X, "shape", ())) == 4


def has_named_axes(X: Any) -> bool:
    """Return whether X is an xarray.DataArray whose axes were given names."""
    names = X.dims if _is_labelled(X) else ()
    return any(str(label) != f"dim_{axis}" for axis, label in enumerate(names))


def _is_labelled(X: Any) -> bool:
    return isinstance(getattr(X, "dims", None), tuple) and hasattr(X, "data")


def _convert(values: Any, name: str) -> NDArray[Any]:
    """Convert one array of any library to a NumPy array, with NaN where masked."""
    try:
        return fill_masked(values)
    except Exception as error:
        raise ValueError(
            f"{name} of the type {type(values).__name__} cannot be read ({first_line(error)}): "
            f"convert it to a NumPy array of shape {_SHAPE}."
        ) from error


def _refuse(X: Any, name: str) -> None:
    """Refuse objects that may hold images, but are not images."""
    kind = type(X).__name__
    if names := getattr(X, "colnames", None) or getattr(X, "column_names", None):
        raise ValueError(_describe_table(name, names))
    if isinstance(X, (str, os.PathLike)):
        problem, remedy = "is the name of a file", f"pass open_stamps({os.fspath(X)!r})"
    elif hasattr(X, "images"):
        problem, remedy = f"has the type {kind}", f"pass its stamps, {name}.images"
    elif hasattr(X, "keys") and not isinstance(X, pd.Series):
        keys = [str(key) for key in X]
        problem = f"has the type {kind}, with {', '.join(keys[:_MAX_SHOWN]) or 'nothing'}"
        remedy = f"pass its stamps, such as {name}[{keys[0] if keys else 'images'!r}]"
        if keys and all(np.ndim(X[key]) == 3 for key in X):  # a stack for each band
            remedy = f"pass np.stack(list({name}.values()), axis=1)"
    elif hasattr(X, "__next__") or isinstance(X, (set, frozenset)):
        problem, remedy = f"has the type {kind}", f"pass np.stack(list({name}))"
    elif not any(hasattr(X, method) for method in ("shape", "__array__", "__getitem__", "data")):
        problem = "is None" if X is None else f"has the type {kind}"
        remedy = "pass an array, or open_stamps(paths)"
    else:
        return
    raise ValueError(f"{name} {problem}, not a stack of stamps {_SHAPE}: {remedy}.")


def _columns_of_text(table: pd.DataFrame) -> list[str]:
    """Return the names of the columns of a table that begin with text."""
    others = table.select_dtypes(exclude=["number", "bool"]).head(1)
    return [str(name) for name in others if isinstance(others[name].squeeze(), str)]


def _describe_table(name: str, columns: Any) -> str:
    return (
        f"{name} is a table ({', '.join(map(str, columns[:_MAX_SHOWN]))}), not a stack of stamps "
        f"{_SHAPE}: pass the column of the stamps, such as {name}[{str(columns[0])!r}]."
    )


def _stack(X: Any, name: str) -> NDArray[Any]:
    """Stack the images of a sequence, which must have one shape."""
    try:
        items = X.tolist() if isinstance(X, pd.Series) else [X[i] for i in range(len(X))]
    except Exception as error:
        raise ValueError(
            f"{name} of the type {type(X).__name__} cannot be read ({first_line(error)}): pass an "
            f"array of shape {_SHAPE}."
        ) from error
    if not items:
        raise ValueError(f"{name} is empty: pass at least one stamp.")
    images = [_read_item(item, f"{name}[{row}]", name) for row, item in enumerate(items)]
    _check_shapes(images, name)
    units = [getattr(item, "unit", None) for item in items]
    for row, unit in enumerate(units):
        if unit != units[0]:
            images[row] = images[row] * _find_factor(unit, units[0], row, name)
    return np.stack(images)


def _read_item(item: Any, where: str, name: str) -> NDArray[Any]:
    """Return one image of a sequence, or one of its nested parts, as an array."""
    _refuse_item(item, where, name)
    if hasattr(item, "getbands"):  # a picture of Pillow
        pixels = picture_pixels(item)
        return pixels[None] if pixels.ndim == 2 else pixels
    if has_named_axes(item):
        return np.asarray(arrange(item.data, _find_axes(item, where))[0])
    if isinstance(item, (list, tuple)) and len(item) and not np.isscalar(item[0]):
        parts = [_read_item(part, where, name) for part in item]
        _check_shapes(parts, name)
        return np.stack(parts)
    pixels = _convert(item, where)
    if pixels.dtype.kind in "USM" or (pixels.dtype == object and pixels.ndim == 0):
        raise ValueError(
            f"{where} has the type {type(item).__name__}: pass images of real numbers."
        )
    return pixels


def _refuse_item(item: Any, where: str, name: str) -> None:
    """Refuse what people have in place of an image."""
    if isinstance(item, os.PathLike) or (isinstance(item, str) and Path(item).suffix):
        problem, remedy = f"is the name of a file, {str(item)!r}", f"pass open_stamps({name})"
    elif isinstance(item, str):
        problem = f"is the text {str(item)!r}"
        remedy = "pass the stamps first and class labels second, as in fit(stamps, labels)"
    elif item is None:
        problem, remedy = "is None", "leave its row out"
    elif isinstance(item, Mapping):
        keys = [str(key) for key in item]
        problem = f"is a dict of {', '.join(keys[:_MAX_SHOWN])}"
        remedy = f"pass [item[{keys[0] if keys else 'image'!r}] for item in {name}]"
    elif isinstance(item, tuple) and len({np.ndim(part) for part in item}) > 1:
        problem = "is a tuple, such as of a stamp and its label"
        remedy = f"pass [item[0] for item in {name}]"
    else:
        return
    raise ValueError(f"{where} {problem}, not an image: {remedy}.")


def _check_shapes(images: list[NDArray[Any]], name: str) -> None:
    shapes = Counter(image.shape for image in images)
    if len(shapes) > 1:
        common = " and ".join(str(shape) for shape, _ in shapes.most_common(_MAX_SHOWN))
        raise ValueError(
            f"{name} holds images of different shapes, such as {common}: crop or pad them to one "
            "size, or open their files with open_stamps(paths, size=...)."
        )


def _find_factor(unit: Any, first: Any, row: int, name: str) -> float:
    """Return the factor from the unit of a stamp to that of the first one."""
    try:
        return float(unit.to(first))
    except Exception as error:  # of astropy.units, or None has no unit
        raise ValueError(
            f"{name}[{row}] has the unit {unit}, but the first stamp has {first}: bring all stamps "
            "to one unit."
        ) from error


def _read_named_axes(X: Any, name: str) -> Stamps:
    """Bring the axes of an xarray.DataArray into order, and take the names of its bands."""
    axes = _find_axes(X, name)
    label = X.dims[axes.index("c")] if "c" in axes else None
    bands = tuple(map(str, np.asarray(X.coords[label]))) if label in X.coords else None
    return Stamps(ArraySource(arrange(X.data, axes), bands, axes))


def _find_axes(X: Any, name: str) -> str:
    axes = axes_of_names(X.dims)
    if axes is None:
        raise ValueError(
            f"{name} has the dimensions {', '.join(map(str, X.dims))}, which are not clearly those "
            f'of stamps: rename them to "n", "band", "y" and "x" with {name}.rename(...).'
        )
    return axes


@dataclass(frozen=True, eq=False)
class DatasetSource:
    """Stamps in a ``datasets.Dataset`` or a table of pyarrow."""

    table: Any
    reader: ImageReader
    name: str
    bands: tuple[str, ...] | None = None
    known_axes: str | None = None
    ids: None = None

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """Number of stamps, bands, height and width."""
        return (len(self.table), *self.reader.shape)

    @property
    def dtype(self) -> np.dtype:
        """The dtype of the pixels."""
        return self.reader.dtype

    def read(self, rows: Rows) -> NDArray[Any]:
        """Read some rows."""
        table = take_rows(self.table, rows, self.reader.list_names())
        return self.reader.read(table, lambda row: f"{self.name}, row {rows[row]}")

    def read_tables(self) -> Iterator[Any]:
        """Yield all rows of the columns of images, in parts, as tables."""
        table = DatasetTable(self.table)
        return table.read_group(0, _ROWS_AT_ONCE, self.reader.list_names())


def open_dataset(X: Any, name: str, options: Mapping[str, Any] | None = None) -> DatasetSource:
    """Open the stamps of a data set; ``name`` is that of the argument in messages."""
    if not len(X):
        raise ValueError(f"{name} is empty: pass at least one stamp.")
    keys = ("bands", "size", "hdu", "axes", "reader", "dtype")
    chosen = {**dict.fromkeys(keys), "resample": False, "missing_bands": "error", **(options or {})}
    schema = take_rows(X, [0], X.column_names).schema
    reader = make_reader(schema, name, chosen)
    first = take_rows(X, [0], reader.list_names())
    reader = describe_stamps(reader, first, name, chosen["dtype"])
    axes = "nchw" if reader.has_known_axes else None
    return DatasetSource(X, reader, name, reader.bands, axes)
