"""Write tables in formats that TOPCAT, astropy and pandas read."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from io import BytesIO
from pathlib import Path

import numpy as np
import pandas as pd
from astropy.io import fits
from astropy.io.votable.tree import VOTableFile
from astropy.table import Table
from astropy.units import Unit, UnrecognizedUnit
from pandas.api.types import is_bool_dtype, is_numeric_dtype

from skastro.catalogs.reading import VOPARQUET_CONTENT, VOPARQUET_VERSION
from skastro.utils.files import check_ending, replacing
from skastro.utils.packages import import_optional

_MAX_FITS_COLUMNS = 999  # FITS standard
_UCDS = {  # UCD1+ of usual columns
    "id": "meta.id;meta.main",
    "ra": "pos.eq.ra;meta.main",
    "dec": "pos.eq.dec;meta.main",
    "label": "src.class",
    "prediction": "src.class",
    "most_probable": "src.class",
    "probability": "stat.probability;src.class",
}


def write_table(path: str | os.PathLike[str], table: pd.DataFrame) -> None:
    """Write a table in the format of the ending of its name.

    Parameters
    ----------
    path : str or path-like
        The name ends in ``.csv``, ``.fits``, ``.ecsv``, ``.parquet``, ``.vot`` or ``.xml``. The
        file appears when it is complete, and replaces a file of that name.
    table : DataFrame
        The index is dropped. Missing text becomes empty; missing whole numbers are masked, or
        empty in CSV. Units in ``table.attrs["units"]``, a dict of column to unit, are written in
        all formats but CSV; in Parquet in the form of VOParquet, which TOPCAT reads. A unit that
        astropy does not know goes into the description of its column, where the format has one.
        FITS, VOTable and Parquet get UCDs of ids, positions, classes and their probabilities.

    Raises
    ------
    ValueError
        The ending is unknown, or the table has more columns than FITS can hold.
    OSError
        The file cannot be written.
    ImportError
        The file is Parquet, and pyarrow is not installed.

    Examples
    --------
    >>> import tempfile
    >>> from skastro import read_catalog
    >>> table = pd.DataFrame({"id": ["1237648720693755918", "7"], "p_star": [0.9, 0.2]})
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_table(f"{folder}/predictions.fits", table)
    ...     read_catalog(f"{folder}/predictions.fits")["id"].tolist()
    ['1237648720693755918', '7']
    """
    target = Path(path).expanduser()
    write = _WRITERS[check_ending(target, tuple(_WRITERS))]
    check_width(target, table.shape[1])
    with replacing(target) as temporary:
        write(table.reset_index(drop=True), temporary)


def check_width(path: Path, columns: int) -> None:
    """Refuse to write more columns than the format can hold."""
    if path.suffix.lower() == ".fits" and columns > _MAX_FITS_COLUMNS:
        raise ValueError(
            f"{path} cannot hold {columns:,} columns, FITS has {_MAX_FITS_COLUMNS} at most: write "
            ".parquet or .csv."
        )


def _write_parquet(table: pd.DataFrame, path: Path) -> None:
    arrow = import_optional("pyarrow", extra="data", needed_by="Parquet")
    parquet = import_optional("pyarrow.parquet", extra="data", needed_by="Parquet")
    # a VOTable without data describes the columns (VOParquet, IVOA Note, 2025-01-16)
    description = VOTableFile.from_table(_to_astropy(table.head(1))[:0])
    for field in description.get_first_table().fields:
        if field.datatype == "unicodeChar":  # astropy takes the length of the first text, not "*"
            field.arraysize = str(max(1, *map(len, _fill_missing_text(table[field.name]))))
    content = BytesIO()
    description.to_xml(content)
    metadata = {VOPARQUET_VERSION: "1.0", VOPARQUET_CONTENT: content.getvalue().decode()}
    rows = arrow.Table.from_pandas(table, preserve_index=False)
    rows = rows.replace_schema_metadata({**rows.schema.metadata, **metadata})
    parquet.write_table(rows, path)


def _write_fits(table: pd.DataFrame, path: Path) -> None:
    result = _to_astropy(table)
    for name in result.colnames:
        kind = result[name].dtype.kind
        if kind == "U":  # astropy would refuse letters outside ASCII
            result[name] = np.char.encode(result[name], "utf-8")
        elif kind == "i":  # masked values; astropy's default is 999999
            result[name].fill_value = np.iinfo(result[name].dtype).min
    rows = fits.table_to_hdu(result)
    for name, ucd in _find_ucds(result.colnames).items():
        number = result.colnames.index(name) + 1
        rows.header[f"TUCD{number}"] = ucd  # read by TOPCAT, not in the FITS standard
    rows.writeto(path)


def _write_ecsv(table: pd.DataFrame, path: Path) -> None:
    # on a full disk, astropy 6.0 would not close a file that it has opened
    with path.open("w", encoding="utf-8", newline="") as file:
        _to_astropy(table).write(file, format="ascii.ecsv")


def _write_votable(table: pd.DataFrame, path: Path) -> None:
    _to_astropy(table).write(path, format="votable")


def _to_astropy(table: pd.DataFrame) -> Table:
    """Convert a table to astropy, with units and UCDs."""
    columns = {name: _fill_missing_text(values) for name, values in table.items()}
    result = Table.from_pandas(pd.DataFrame(columns))
    for name in result.colnames:
        if result[name].dtype.kind == "O":  # text, which pandas holds as objects
            result[name] = np.array(result[name].tolist(), dtype=str)
    for name, unit in table.attrs.get("units", {}).items():
        if name in columns and isinstance(Unit(unit, parse_strict="silent"), UnrecognizedUnit):
            result[name].description = f"in units of a {unit}"  # no reader knows it
        elif name in columns:
            result[name].unit = unit
    for name, ucd in _find_ucds(result.colnames).items():
        result[name].meta["ucd"] = ucd
    return result


def _find_ucds(names: Sequence[str]) -> dict[str, str]:
    """Return the UCDs of columns with usual names."""
    ucds = {name: _UCDS[name.lower()] for name in names if name.lower() in _UCDS}
    if "most_probable" in names:  # a table of predictions
        ucds |= {name: _UCDS["probability"] for name in names if name.startswith("p_")}
    return ucds


def _fill_missing_text(values: pd.Series) -> pd.Series:
    """Return numbers unchanged, and all other values as text, with "" for missing ones."""
    if is_numeric_dtype(values) or (is_bool_dtype(values) and not values.isna().any()):
        return values
    return values.astype(object).where(values.notna(), "").astype(str).astype(object)


_WRITERS: dict[str, Callable[[pd.DataFrame, Path], None]] = {
    ".csv": lambda table, path: table.to_csv(path, index=False),
    ".fits": _write_fits,
    ".ecsv": _write_ecsv,
    ".parquet": _write_parquet,
    ".vot": _write_votable,
    ".xml": _write_votable,
}
TABLES = tuple(_WRITERS)
