"""Read catalogues with every digit of their ids, and with NaN for missing measurements."""

from __future__ import annotations

import os
import warnings
from collections import Counter
from collections.abc import Sequence
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

from skastro.catalogs.columns import USUAL_COLUMN_NAMES, find_placeholders, select_columns
from skastro.utils.files import UnfitError, reading
from skastro.utils.fits import open_fits
from skastro.utils.packages import import_optional
from skastro.utils.validation import find_sentinels, name_near

_ENDINGS = (".csv", ".parquet", ".fits", ".fit", ".fits.gz", ".ecsv", ".vot", ".votable", ".xml")
_POSITIONS = {"l", "glon"}.union(*(USUAL_COLUMN_NAMES[kind] for kind in ("ra", "dec", "x", "y")))
VOPARQUET_VERSION = "IVOA.VOTable-Parquet.version"
VOPARQUET_CONTENT = "IVOA.VOTable-Parquet.content"
_MAX_EXACT_FLOAT = 2**53  # float64 rounds larger whole numbers
_FLOAT_ID = r"-?\d+\.0*"
_ROUNDED_ID = r"-?\d\.\d+[eE]\+\d+"  # spreadsheets write long ids in this form


def read_catalog(
    path: str | os.PathLike[str],
    *,
    id: str | None = None,  # noqa: A002 - the usual name of the column
    columns: str | Sequence[str] | None = None,
    units: bool = True,
    placeholders: bool = False,
) -> pd.DataFrame:
    r"""Read a catalogue from a FITS, VOTable, ECSV, CSV or Parquet file.

    Parameters
    ----------
    path : str or path-like
        ``.fits`` (also ``.fits.gz``), ``.vot``, ``.votable``, ``.xml``, ``.ecsv``, ``.csv`` or
        ``.parquet``. The first table of a FITS file or VOTable is read.
    id : str, default=None
        The column of ids. With None, ids are the columns named ``id`` or ending in ``objid`` or
        ``_id``, in upper or lower case.
    columns : str or sequence of str, default=None
        Columns to read, or patterns such as ``"mag_*"``; ids are always read. With None, all
        columns are read.
    units : bool, default=True
        Keep the units of the columns in ``catalog.attrs["units"]``. FITS, VOTable and ECSV have
        units, and so has Parquet in the form of VOParquet.
    placeholders : bool, default=False
        Also read as missing the numbers that pipelines write for failed measurements: fractions
        that are far too frequent in a column of floats. Whole numbers are never placeholders.

    Returns
    -------
    catalog : DataFrame
        Masked values are NaN, and numbers are in the machine's byte order. In columns of floats
        the sentinels 99, -99, 999, -999 and -9999 are NaN where they lie outside the range of the
        column's other values, and one warning counts them. Positions (``ra``, ``dec``, ``x``,
        ``y`` and similar), whole numbers and text keep such values. Whole numbers with missing
        values are floats, or text beyond 2**53. Ids are int64 if no value is missing, has more
        than 15 digits or a leading zero; else text, as floats cannot hold the 19 digits of SDSS.

    Raises
    ------
    FileNotFoundError
        There is no such file.
    ValueError
        The file is damaged, empty or of an unknown kind, has two columns of one name, arrays in
        a column, or floats as ids; a pattern matches no column; ``id`` is not a column.
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
        raise ValueError(f"id={id!r} is not a column of {source}{name_near(id, frame.columns)}")
    all_units = frame.attrs.get("units", {}) if units else {}
    ids = {name for name in frame.columns if _is_id(name, id)}

    # the columns asked for, in the order of the file
    if columns is not None:
        patterns = [columns] if isinstance(columns, str) else columns
        chosen = select_columns(frame.columns, patterns, name="columns", table=str(source))
        frame = frame[[name for name in frame.columns if name in ids.union(chosen)]]

    # ids as whole numbers or text, all others in dtypes of NumPy without sentinels
    whole = {name for name in frame.columns if is_integer_dtype(frame[name].dtype)}
    values_of = {
        name: _convert_ids(values, name, source) if name in ids else _to_numpy_dtype(values)
        for name, values in frame.items()
    }
    frame = _mask_sentinels(pd.DataFrame(values_of), ids | whole, source, placeholders)
    units_of = {name: unit for name, unit in all_units.items() if name in frame.columns}
    frame.attrs = {"units": units_of} if units_of else {}
    return frame


def _is_id(column: str, id: str | None) -> bool:  # noqa: A002
    name = column.lower()
    if id is not None:
        return column == id or name.endswith("objid")
    return name == "id" or name.endswith(("objid", "_id"))


def _read_frame(source: Path, id: str | None) -> pd.DataFrame:  # noqa: A002
    ending = next((end for end in _ENDINGS if source.name.lower().endswith(end)), None)
    if ending is None:
        raise ValueError(f"{source} is not a catalogue: use one of {', '.join(_ENDINGS)}.")
    if not source.is_file():
        raise FileNotFoundError(f"{source} does not exist: pass the path of a catalogue.")
    problem, gone = f"cannot be read as a {ending} catalogue", "is gone: put it back"
    with reading(source, problem, "save or copy it again", gone=gone):
        if ending == ".csv":
            return _read_csv(source, id)
        if ending == ".parquet":
            return _read_parquet(source)
        return _read_astropy(source, ending)


def _read_csv(source: Path, id: str | None) -> pd.DataFrame:  # noqa: A002
    options = {"skipinitialspace": True, "low_memory": False}
    first = pd.read_csv(source, nrows=1, header=None, dtype=str, **options).iloc[0]
    header = [str(name) for name in first]
    _check_unique(header, source)
    ids = [name for name in header if _is_id(name, id)]
    # pandas' nullable dtypes keep the digits of whole numbers where some are missing
    frame = pd.read_csv(
        source, dtype=dict.fromkeys(ids, str), dtype_backend="numpy_nullable", **options
    )
    if not isinstance(frame.index, pd.RangeIndex) or len(frame.columns) != len(header):
        raise UnfitError(f"{source} has rows of more values than its header: correct them.")

    # refuse a file that ends within a row: pandas would take the rest of the row as missing
    with source.open("rb") as file:
        file.seek(max(0, source.stat().st_size - 2**20))
        tail = file.read()
    last = tail.splitlines()[-1].strip()
    is_complete = tail.endswith((b"\n", b"\r")) or not last or b'"' in last
    if not is_complete and last.count(b",") + 1 < len(header):
        raise UnfitError(f"{source} ends within a row, so it is truncated: copy it again.")
    return frame


def _read_parquet(source: Path) -> pd.DataFrame:
    parquet = import_optional("pyarrow.parquet", extra="data", needed_by=f"Reading {source}")
    schema = parquet.read_schema(source)
    _check_unique(schema.names, source)
    frame = pd.read_parquet(source, dtype_backend="numpy_nullable")
    frame = frame.reset_index(drop=not any(frame.index.names))  # ids may have been the index
    frame.columns = frame.columns.map(str)
    _refuse_arrays(frame, frame.columns, source)
    content = (schema.metadata or {}).get(VOPARQUET_CONTENT.encode())
    if content:  # a VOTable without data describes the columns
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", AstropyWarning)
            fields = votable.parse(BytesIO(content)).get_first_table().fields
        frame.attrs = {"units": {field.name: str(field.unit) for field in fields if field.unit}}
    return frame


def _check_unique(names: Sequence[str], source: Path) -> None:
    twice = [name for name, times in Counter(names).items() if times > 1]
    if twice:
        raise UnfitError(f"{source} has two columns named {min(twice)!r}: rename one of them.")


def _refuse_arrays(table: Any, names: Sequence[str], source: Path) -> None:
    def holds_arrays(column: Any) -> bool:
        values = column if column.dtype == object else ()
        return column.ndim > 1 or any(isinstance(v, (np.ndarray, list, dict)) for v in values)

    if arrays := [name for name in names if holds_arrays(table[name])]:
        raise UnfitError(
            f"{source} has arrays in the columns {', '.join(arrays)}: "
            "save each of their elements as a column of its own."
        )


def _read_astropy(source: Path, ending: str) -> pd.DataFrame:
    """Read a FITS, ECSV or VOTable file."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", AstropyWarning)
        if ending == ".ecsv":
            table = _read_ecsv(source)
        else:
            table = _read_fits_table(source) if ".fit" in ending else _read_votable(source)
    table.convert_bytestring_to_unicode()
    _refuse_arrays(table, table.colnames, source)
    frame = table.to_pandas(index=False)
    # astropy before 8.0 would convert masked whole numbers to floats, and lose digits
    for name in table.colnames:
        column = table[name]
        if np.ma.isMA(column) and column.dtype.kind in "iu":
            values = np.ma.filled(column, 0).astype(column.dtype.newbyteorder("="))
            frame[name] = pd.arrays.IntegerArray(values, np.ma.getmaskarray(column))
    frame.attrs["units"] = {c: str(table[c].unit) for c in table.colnames if table[c].unit}
    return frame


def _read_fits_table(source: Path) -> Table:
    with open_fits(source) as file, fits.open(file) as hdus:
        tables = [hdu for hdu in hdus if isinstance(hdu, (fits.BinTableHDU, fits.TableHDU))]
        if not tables:
            raise UnfitError(f"{source} holds no table: pass the catalogue, not an image.")
        _check_unique(tables[0].columns.names, source)
        return Table.read(tables[0])


def _read_ecsv(source: Path) -> Table:
    table = Table.read(source, format="ascii.ecsv")
    # astropy renames the second of two columns with one name: check the names in the header
    with source.open(encoding="utf-8") as file:
        header = [line[2:].rstrip() for line in takewhile(lambda line: line[0] == "#", file)]
    _check_unique([column["name"] for column in get_header_from_yaml(header)["datatype"]], source)
    return table


def _read_votable(source: Path) -> Table:
    table = next(votable.parse(source).iter_tables(), None)
    if table is None:
        raise UnfitError(f"{source} holds no table: pass a catalogue.")
    _check_unique([field.name for field in table.fields], source)
    return table.to_table(use_names_over_ids=True)


def _to_numpy_dtype(values: pd.Series) -> pd.Series:
    """Convert pandas' nullable dtypes, which NumPy reads as objects, to NumPy's."""
    dtype = values.dtype
    is_number = isinstance(dtype, pd.api.extensions.ExtensionDtype) and is_numeric_dtype(dtype)
    if is_number and not values.isna().any():
        return values.astype(dtype.numpy_dtype)
    if is_number and is_integer_dtype(dtype) and (values.abs() > _MAX_EXACT_FLOAT).any():
        return _to_text(values)
    if is_number or isinstance(dtype, pd.StringDtype):
        kind = np.float64 if is_number and not is_bool_dtype(dtype) else object
        return pd.Series(values.to_numpy(kind, na_value=np.nan))
    return values


def _to_text(values: pd.Series) -> pd.Series:
    """Return values as text without blanks around it, and missing values as NaN."""
    return values.astype("str").str.strip().where(values.notna())


def _convert_ids(values: pd.Series, name: str, source: Path) -> pd.Series:
    """Convert ids to int64 if that loses no digit, else to text; refuse floats."""
    text = _to_text(values)
    ids = text.dropna().astype("str").str
    is_float = is_float_dtype(values.dtype) or ids.fullmatch(_FLOAT_ID).all()
    if text.notna().any() and (is_float or ids.fullmatch(_ROUNDED_ID).any()):
        raise ValueError(
            f"The column {name!r} of {source} is float, which cannot hold long ids: "
            "save it as integers or text."
        )
    is_short = ids.fullmatch(r"0|-?[1-9]\d{0,14}").all()
    return text.astype(np.int64) if is_short and text.notna().all() else text


def _mask_sentinels(
    frame: pd.DataFrame, excluded: set[str], source: Path, placeholders: bool
) -> pd.DataFrame:
    """Set sentinels and placeholders to NaN, and warn once with their numbers."""
    counts = []
    for name, values in frame.items():
        if name in excluded or name.lower() in _POSITIONS or not is_float_dtype(values):
            continue
        missing = find_sentinels(values)
        if placeholders:
            missing |= values.isin(find_placeholders(values[~missing]))
        if count := int(missing.sum()):
            frame[name] = values.mask(missing)
            counts.append(f"{name} {count:,}")
    if counts:
        what = "Sentinels and placeholders" if placeholders else "Sentinels such as -999"
        text = f"{what} in {source} are read as missing: {', '.join(counts)}."
        warnings.warn(text, UserWarning, stacklevel=3)
    return frame
