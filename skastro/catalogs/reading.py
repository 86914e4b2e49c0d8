"""Catalogues from disk: every digit of an id, NaN where nothing was measured."""

from __future__ import annotations

import os
import warnings
from collections import Counter
from collections.abc import Sequence
from fnmatch import fnmatchcase
from io import BytesIO
from itertools import takewhile
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from astropy.io import fits, votable
from astropy.table import Table
from astropy.table.meta import get_header_from_yaml
from astropy.utils.exceptions import AstropyWarning
from pandas.api.types import is_bool_dtype, is_float_dtype, is_integer_dtype, is_numeric_dtype

from skastro.catalogs.columns import USUAL_COLUMN_NAMES, find_placeholders
from skastro.utils.files import UnfitError, reading
from skastro.utils.fits import open_fits
from skastro.utils.packages import import_optional
from skastro.utils.validation import find_sentinels, name_near

_ENDINGS = (".csv", ".parquet", ".fits", ".fit", ".fits.gz", ".ecsv", ".vot", ".votable", ".xml")
_PLACES = {name for kind in ("ra", "dec", "x", "y") for name in USUAL_COLUMN_NAMES[kind]} | {
    "l",
    "glon",
}
VOPARQUET_VERSION = "IVOA.VOTable-Parquet.version"
VOPARQUET_CONTENT = "IVOA.VOTable-Parquet.content"
_FLOAT_DIGITS = 2**53  # whole numbers beyond it are rounded by float64
_FLOAT_ID = r"-?\d+\.0*"
_ROUNDED_ID = r"-?\d\.\d+[eE]\+\d+"  # what spreadsheets make of long ids


def read_catalog(
    path: str | os.PathLike[str],
    *,
    id: str | None = None,  # noqa: A002 - what everybody calls the column
    columns: str | Sequence[str] | None = None,
    units: bool = True,
    placeholders: bool = False,
) -> pd.DataFrame:
    r"""Read a catalogue from a FITS, VOTable, ECSV, CSV or Parquet file.

    Parameters
    ----------
    path : str or path-like
        ``.fits`` (also ``.fits.gz``), ``.vot``, ``.votable``, ``.xml``, ``.ecsv``, ``.csv`` or
        ``.parquet``. Of a FITS file or VOTable the first table is read.
    id : str, default=None
        The column that names the objects. None: columns named ``id`` or ending in ``objid`` or
        ``_id``, whatever the case.
    columns : str or sequence of str, default=None
        Columns to take, or patterns such as ``"mag_*"``; ids are always taken. None takes all.
    units : bool, default=True
        Keep the units of the columns in ``catalog.attrs["units"]``: of FITS, VOTable and ECSV, and
        of Parquet that holds them as VOParquet does.
    placeholders : bool, default=False
        Read as missing, too, what ``find_placeholders`` finds in columns of floats: pipelines fill
        failed measurements with one number. Whole numbers are never taken for such.

    Returns
    -------
    catalog : DataFrame
        Masked values are NaN, numbers are in the machine's byte order. The sentinels 99, -99, 999,
        -999 and -9999, where they lie outside the range of a column's other values, are NaN in
        columns of floats, except positions (``ra``, ``dec``, ``x``, ``y`` and their like), and one
        warning counts them; in columns of whole numbers they may be what they say and are left,
        as is all text. Whole numbers with gaps are floats, or text beyond 2**53. Ids are int64 if
        no value is missing, has more than 15 digits or a leading zero, else text: never float,
        which cannot hold the 19 digits of SDSS.

    Raises
    ------
    FileNotFoundError
        There is no such file.
    ValueError
        The file is damaged, empty or of an unknown kind, has two columns of one name, arrays in
        a column, or floats as ids; a pattern or ``id`` names no column.
    ImportError
        The file is Parquet and pyarrow is not installed.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     file = Path(folder, "catalog.csv")
    ...     _ = file.write_text("id,mag_r\n1237648720693755918,17.5\n7,\n")
    ...     catalog = read_catalog(file)
    >>> catalog["id"].tolist(), catalog["mag_r"].tolist()
    (['1237648720693755918', '7'], [17.5, nan])
    """
    source = Path(path).expanduser()
    frame = _read_frame(source, id)
    if not len(frame):
        raise ValueError(f"{source} has no row: pass a catalogue with at least one.")
    if id is not None and id not in frame.columns:
        raise ValueError(f"id={id!r} is no column of {source}{name_near(id, frame.columns)}")
    known = frame.attrs.get("units", {}) if units else {}
    ids = {name for name in frame.columns if _is_id(name, id)}
    if columns is not None:
        frame = frame[_select(frame.columns, columns, ids, source)].copy()
    whole = {name for name in frame.columns if is_integer_dtype(frame[name].dtype)}
    columns_of = {
        name: _settle_id(values, name, source) if name in ids else _plain(values)
        for name, values in frame.items()
    }
    frame = _without_sentinels(pd.DataFrame(columns_of), ids | whole, source, placeholders)
    known = {name: unit for name, unit in known.items() if name in frame.columns}
    frame.attrs = {"units": known} if known else {}
    return frame


def _is_id(column: str, id: str | None) -> bool:  # noqa: A002
    if id is not None:
        return column == id or column.lower().endswith("objid")
    name = column.lower()
    return name == "id" or name.endswith(("objid", "_id"))


def _read_frame(source: Path, id: str | None) -> pd.DataFrame:  # noqa: A002
    ending = next((each for each in _ENDINGS if source.name.lower().endswith(each)), None)
    if ending is None:
        raise ValueError(f"{source} is no catalogue: use one of {', '.join(_ENDINGS)}.")
    if not source.is_file():
        raise FileNotFoundError(f"{source} does not exist: pass the path of a catalogue.")
    problem, gone = f"cannot be read as a {ending} catalogue", "is gone: put it back"
    with reading(source, problem, "save or copy it again", gone=gone):
        if ending == ".csv":
            return _read_csv(source, id)
        if ending == ".parquet":
            return _read_parquet(source)
        return _read_table(source, ending)


def _read_csv(source: Path, id: str | None) -> pd.DataFrame:  # noqa: A002
    options = {"skipinitialspace": True, "low_memory": False}
    first = pd.read_csv(source, nrows=1, header=None, dtype=str, **options).iloc[0]
    header = [str(name) for name in first]
    _check_unique(header, source)
    ids = [name for name in header if _is_id(name, id)]
    # nullable: whole numbers with gaps are told from floats, and keep their digits
    frame = pd.read_csv(
        source, dtype=dict.fromkeys(ids, str), dtype_backend="numpy_nullable", **options
    )
    if not isinstance(frame.index, pd.RangeIndex) or len(frame.columns) != len(header):
        raise UnfitError(f"{source} has rows of more values than its header: mend them.")
    _check_last_row(source, len(header))
    return frame


def _check_last_row(source: Path, columns: int) -> None:
    """Refuse a file that ends within a row: pandas would fill it up."""
    with source.open("rb") as file:
        file.seek(max(0, source.stat().st_size - 2**20))
        tail = file.read()
    last = tail.splitlines()[-1].strip()
    ended = tail.endswith((b"\n", b"\r")) or not last or b'"' in last
    if not ended and last.count(b",") + 1 < columns:
        raise UnfitError(f"{source} ends within a row, so it is truncated: copy it again.")


def _read_parquet(source: Path) -> pd.DataFrame:
    parquet = import_optional("pyarrow.parquet", extra="data", needed_by=f"Reading {source}")
    schema = parquet.read_schema(source)
    _check_unique(schema.names, source)
    frame = pd.read_parquet(source, dtype_backend="numpy_nullable")
    frame = frame.reset_index(drop=not any(frame.index.names))  # ids may have been the index
    frame.columns = frame.columns.map(str)
    _refuse_arrays(frame, frame.columns, source)
    frame.attrs = {"units": _vo_units((schema.metadata or {}).get(VOPARQUET_CONTENT.encode()))}
    return frame


def _vo_units(content: bytes | None) -> dict[str, str]:
    """Read units from a VOTable without data."""
    if content is None:
        return {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", AstropyWarning)
        described = votable.parse(BytesIO(content)).get_first_table()
    return {field.name: str(field.unit) for field in described.fields if field.unit}


def _check_unique(names: Sequence[str], source: Path) -> None:
    twice = [name for name, times in Counter(names).items() if times > 1]
    if twice:
        raise UnfitError(f"{source} has two columns named {min(twice)!r}: rename one of them.")


def _refuse_arrays(table: Any, names: Sequence[str], source: Path) -> None:
    kinds = (np.ndarray, list, dict)
    arrays = [
        name
        for name in names
        if table[name].ndim > 1
        or (table[name].dtype == object and any(isinstance(each, kinds) for each in table[name]))
    ]
    if arrays:
        raise UnfitError(
            f"{source} has arrays in the columns {', '.join(arrays)}: "
            "save each of their elements as a column of its own."
        )


def _read_table(source: Path, ending: str) -> pd.DataFrame:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", AstropyWarning)
        if ending == ".ecsv":
            table = _read_ecsv(source)
        else:
            table = _read_fits(source) if ending.startswith(".fit") else _read_votable(source)
    table.convert_bytestring_to_unicode()
    _refuse_arrays(table, table.colnames, source)
    frame = table.to_pandas(index=False)
    for name in table.colnames:  # astropy before 8.0 takes them through floats, and loses digits
        column = table[name]
        if np.ma.isMA(column) and column.dtype.kind in "iu":
            values = np.ma.filled(column, 0).astype(column.dtype.newbyteorder("="))
            frame[name] = pd.arrays.IntegerArray(values, np.ma.getmaskarray(column))
    frame.attrs["units"] = {c: str(table[c].unit) for c in table.colnames if table[c].unit}
    return frame


def _read_fits(source: Path) -> Table:
    with open_fits(source) as file, fits.open(file) as hdus:
        tables = [hdu for hdu in hdus if isinstance(hdu, (fits.BinTableHDU, fits.TableHDU))]
        if not tables:
            raise UnfitError(f"{source} holds no table: pass the catalogue, not an image.")
        _check_unique(tables[0].columns.names, source)
        return Table.read(tables[0])


def _read_ecsv(source: Path) -> Table:
    table = Table.read(source, format="ascii.ecsv")
    with source.open(encoding="utf-8") as file:
        header = [line[2:].rstrip() for line in takewhile(lambda line: line[0] == "#", file)]
    # astropy renames the second column of one name
    _check_unique([each["name"] for each in get_header_from_yaml(header)["datatype"]], source)
    return table


def _read_votable(source: Path) -> Table:
    table = next(votable.parse(source).iter_tables(), None)
    if table is None:
        raise UnfitError(f"{source} holds no table: pass a catalogue.")
    _check_unique([field.name for field in table.fields], source)
    return table.to_table(use_names_over_ids=True)


def _select(
    names: Sequence[str], patterns: str | Sequence[str], ids: set[str], source: Path
) -> list[str]:
    wanted = [patterns] if isinstance(patterns, str) else list(patterns)
    for pattern in wanted:
        if not any(fnmatchcase(name, pattern) for name in names):
            raise ValueError(
                f"columns={pattern!r} is no column of {source}{name_near(pattern, names)}"
            )
    return [n for n in names if n in ids or any(fnmatchcase(n, pattern) for pattern in wanted)]


def _plain(values: pd.Series) -> pd.Series:
    """Turn pandas' nullable values, which numpy sees as objects, into plain ones."""
    dtype = values.dtype
    number = isinstance(dtype, pd.api.extensions.ExtensionDtype) and is_numeric_dtype(dtype)
    if number and not values.isna().any():
        return values.astype(dtype.numpy_dtype)
    if number and is_integer_dtype(dtype) and (values.abs() > _FLOAT_DIGITS).any():
        return _as_text(values)
    if number or isinstance(dtype, pd.StringDtype):
        kind = np.float64 if number and not is_bool_dtype(dtype) else object
        return pd.Series(values.to_numpy(kind, na_value=np.nan))
    return values


def _as_text(values: pd.Series) -> pd.Series:
    """Return values as text without blanks around it, NaN where there is none."""
    return values.astype("str").str.strip().where(values.notna())


def _settle_id(values: pd.Series, name: str, source: Path) -> pd.Series:
    """Make ids int64 where that loses nothing, else text; never float."""
    text = _as_text(values)
    known = text.dropna().astype("str").str
    floats = is_float_dtype(values.dtype) or known.fullmatch(_FLOAT_ID).all()
    if text.notna().any() and (floats or known.fullmatch(_ROUNDED_ID).any()):
        raise ValueError(
            f"The column {name!r} of {source} is float, which cannot hold long ids: "
            "save it as integers or text."
        )
    plain = known.fullmatch(r"0|-?[1-9]\d{0,14}").all()
    return text.astype(np.int64) if plain and text.notna().all() else text


def _without_sentinels(
    frame: pd.DataFrame,
    others: set[str],
    source: Path,
    placeholders: bool,
) -> pd.DataFrame:
    """Set what stands for "not measured" to NaN, except in others, and tell of it once."""
    told = []
    for name, values in frame.items():
        if name in others or name.lower() in _PLACES or not is_float_dtype(values):
            continue
        empty = find_sentinels(values)
        if placeholders:
            empty |= values.isin(find_placeholders(values[~empty]))
        if count := int(empty.sum()):
            frame[name] = values.mask(empty)
            told.append(f"{name} {count:,}")
    if told:
        what = "Sentinels and placeholders" if placeholders else "Sentinels such as -999"
        text = f"{what} in {source} are read as missing: {', '.join(told)}."
        warnings.warn(text, UserWarning, stacklevel=3)
    return frame
