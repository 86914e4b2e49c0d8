"""Read tables of numbers of any library as DataFrames, with the names and units of columns."""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from skastro.utils.masks import fill_masked

_MAX_NAMES = 3  # in a message
_REMEDY = "pass numbers, or leave the column out (select_columns chooses columns)"


def to_frame(values: Any, name: str) -> pd.DataFrame:
    """Return a table of any kind as a DataFrame whose columns have text as names.

    ``values`` is a DataFrame or Series, an astropy Table, a structured array such as FITS_rec, a
    dict of columns, a list of dicts, a table of pyarrow, polars, xarray or any library with
    ``to_pandas`` or ``__dataframe__``, or an array of shape (n, p) or (n,). Masked values become
    NaN. Units are in ``attrs["units"]``. Columns without a name are ``property_0``,
    ``property_1`` and so on. Anything else is a ValueError about the argument ``name``.

    Examples
    --------
    >>> to_frame({"mag_r": np.ma.array([20.5, 21.0], mask=[False, True])}, "properties")
       mag_r
    0   20.5
    1    NaN
    """
    values = _unify(values, name)
    if isinstance(values, pd.DataFrame):
        frame = values.copy().reset_index(drop=True)
        frame.columns = [str(column) for column in frame.columns]
        return frame
    if isinstance(values, Mapping):
        columns = {str(key): _to_column(values[key], f"{name} column {key!r}") for key in values}
        if len(lengths := {len(column) for column in columns.values()}) > 1:
            raise ValueError(f"{name} has columns of {sorted(lengths)} rows: pass equal columns.")
        frame = pd.DataFrame(columns)
        units = {str(key): getattr(values[key], "unit", None) for key in values}
        frame.attrs["units"] = {key: str(unit) for key, unit in units.items() if unit}
        return frame
    array = fill_masked(values)
    if array.ndim not in (1, 2):
        kind = f"has shape {array.shape}" if array.ndim else f"has the type {type(values).__name__}"
        raise ValueError(f"{name} {kind}: pass values of shape (n,) or (n, properties).")
    array = array.reshape(len(array), -1)
    return pd.DataFrame(array, columns=[f"property_{i}" for i in range(array.shape[1])])


def as_frame(table: Any, name: str) -> pd.DataFrame:
    """Return a DataFrame as it is, and a table of another kind as `to_frame` reads it."""
    return table if isinstance(table, pd.DataFrame) else to_frame(table, name)


def to_floats(column: pd.Series, where: str) -> pd.Series:
    """Convert a column to float64; refuse text, arrays and infinity with an error on ``where``.

    Examples
    --------
    >>> to_floats(pd.Series([1, None], dtype="Int64"), "column 'n'").tolist()
    [1.0, nan]
    """
    kind = getattr(column.dtype, "kind", "O")
    if kind in "mMc":
        raise ValueError(f"{where} holds {column.dtype} values: {_REMEDY}.")
    try:
        floats = column.astype(np.float64)
    except (TypeError, ValueError):
        floats = pd.to_numeric(column.map(_to_number), errors="coerce").astype(np.float64)
        is_other = floats.isna() & column.notna()
        if is_other.any():
            row = int(is_other.to_numpy().argmax())
            value = column.iloc[row]
            if np.ndim(value):
                raise ValueError(f"{where} holds an array in row {row}: {_REMEDY}.") from None
            shown = str(value) if isinstance(value, str) else value
            raise ValueError(f"{where} holds {shown!r} in row {row}: {_REMEDY}.") from None
    infinite = np.isinf(floats)
    if infinite.any():
        raise ValueError(
            f"{where} is infinite in row {int(infinite.argmax())}: set it to NaN if not measured."
        )
    return floats


def _to_number(value: Any) -> Any:
    """Return a cell if `pandas.to_numeric` can read it, and else text."""
    return str(value) if np.ndim(value) or isinstance(value, complex) else value


def _unify(values: Any, name: str) -> Any:
    """Return a table as a DataFrame or as a dict of columns, and arrays as they are."""
    _refuse(values, name)
    values = values.compute() if hasattr(values, "compute") else values
    column_name = getattr(values, "name", None)
    if hasattr(values, "colnames"):  # of astropy: its to_pandas refuses coordinates and arrays
        result: Any = {column: values[column] for column in values.colnames}
    elif getattr(getattr(values, "dtype", None), "names", None):
        result = {column: _take_field(values, column) for column in values.dtype.names}
    elif isinstance(values, pd.Series) or (isinstance(column_name, str) and np.ndim(values) == 1):
        result = {column_name or "property_0": values}
    elif isinstance(values, (Mapping, pd.DataFrame)) or hasattr(values, "detach"):
        result = values
    elif callable(getattr(values, "to_pandas", None)):
        result = _unify(values.to_pandas(), name)
    elif hasattr(values, "__dataframe__"):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # pandas 3 wants tables of Arrow instead
            result = pd.api.interchange.from_dataframe(values)
    elif isinstance(values, (list, tuple)) and values and isinstance(values[0], Mapping):
        result = pd.DataFrame(list(values))
    else:
        result = values
    return result


def _refuse(values: Any, name: str) -> None:
    """Refuse names of columns, and names of files, in place of values."""
    names = [values] if isinstance(values, str) else values
    is_sequence = isinstance(names, (list, tuple, np.ndarray, pd.Index)) and len(names) > 0
    problem = remedy = ""
    if isinstance(values, os.PathLike):
        problem, remedy = "is the name of a file", f"columns of read_catalog({str(values)!r})"
    elif is_sequence and all(isinstance(text, str) and not _is_number(text) for text in names):
        shown = [str(text) for text in names[:_MAX_NAMES]]
        problem = f"holds text ({', '.join(map(repr, shown))}) instead of values"
        if len(set(names)) < len(names):
            raise ValueError(f"{name} {problem}: pass numbers, and class labels as y.")
        table = "table" if name == "catalog" else "catalog"
        wanted = repr(values) if isinstance(values, str) else repr(shown)
        if len(names) > _MAX_NAMES:
            wanted = "names"
        remedy = f"select_columns({table}, {wanted})"
        if not any("*" in text for text in names):
            remedy = f"{table}[{wanted if len(names) > 1 else shown}], or {remedy}"
    if problem:
        raise ValueError(f"{name} {problem}: pass the columns themselves, {remedy}.")


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _take_field(table: Any, name: str) -> Any:
    """Return a field of a structured array; the null value of a FITS_rec is masked."""
    field = table[name]
    columns: Any = getattr(table, "columns", None)
    null: Any = columns[name].null if hasattr(columns, "names") else None
    has_null = null is not None and field.dtype.kind in "iu"
    return np.ma.masked_equal(field, null) if has_null else field


def _to_column(values: Any, where: str) -> pd.Series | NDArray[Any]:
    """Return one column as a Series or as an array of shape (n,) in the machine's byte order."""
    if isinstance(values, pd.Series):
        return values.reset_index(drop=True)
    has_values = hasattr(values, "dtype") or not hasattr(values, "info")  # coordinates, times
    array = fill_masked(values) if has_values else np.array(None)
    if array.ndim == 0:
        raise ValueError(f"{where} has the type {type(values).__name__}: {_REMEDY}.")
    if array.ndim > 1:
        raise ValueError(
            f"{where} holds an array of shape {array.shape[1:]} in each row: {_REMEDY}."
        )
    if array.dtype.kind == "S":
        return np.char.decode(array, "utf-8", "replace")
    return array.astype(array.dtype.newbyteorder("="), copy=False)
