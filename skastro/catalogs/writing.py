"""Tables out and in: results that TOPCAT and pandas open, embeddings and labels read back."""

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
from pandas.api.types import is_bool_dtype, is_numeric_dtype

from skastro.catalogs.reading import VOPARQUET_CONTENT, VOPARQUET_VERSION
from skastro.utils.files import check_ending, replacing
from skastro.utils.packages import import_optional

_MOST_FITS_COLUMNS = 999  # the standard's
_UCDS = {
    "id": "meta.id;meta.main",
    "ra": "pos.eq.ra;meta.main",
    "dec": "pos.eq.dec;meta.main",
    "label": "src.class",
    "prediction": "src.class",
    "most_probable": "src.class",
    "probability": "stat.probability;src.class",
}


def write_table(path: str | os.PathLike[str], table: pd.DataFrame) -> None:
    """Write a table in the format that the ending of its name says.

    Parameters
    ----------
    path : str or path-like
        ``.csv``, ``.fits``, ``.ecsv``, ``.parquet``, ``.vot`` or ``.xml``. The file appears when
        it is complete, and replaces one of that name.
    table : DataFrame
        The index is dropped. Missing text is empty; missing whole numbers are masked where the
        format can, else empty. ``table.attrs["units"]``, a dict of column to unit, is kept
        by all but CSV; Parquet keeps it as VOParquet, which TOPCAT reads. Ids, positions, classes
        and their probabilities have UCDs there and in FITS and VOTable.

    Raises
    ------
    ValueError
        The ending is unknown, or FITS cannot hold so many columns.
    OSError
        The file cannot be written.
    ImportError
        The file is Parquet, and pyarrow is not installed.

    Examples
    --------
    >>> import tempfile
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
    """Refuse more columns than the kind of file can hold."""
    if path.suffix.lower() == ".fits" and columns > _MOST_FITS_COLUMNS:
        raise ValueError(
            f"{path} cannot hold {columns:,} columns, FITS has {_MOST_FITS_COLUMNS} at most: write "
            ".parquet or .csv."
        )


def _write_csv(table: pd.DataFrame, path: Path) -> None:
    table.to_csv(path, index=False)


def _write_parquet(table: pd.DataFrame, path: Path) -> None:
    arrow = import_optional("pyarrow", extra="data", needed_by="Parquet")
    parquet = import_optional("pyarrow.parquet", extra="data", needed_by="Parquet")
    rows = arrow.Table.from_pandas(table, preserve_index=False)
    rows = rows.replace_schema_metadata({**rows.schema.metadata, **_vo_metadata(table)})
    parquet.write_table(rows, path)


def _vo_metadata(table: pd.DataFrame) -> dict[str, str]:
    """Describe columns as VOParquet does: by a VOTable without data (IVOA Note, 2025-01-16)."""
    described = VOTableFile.from_table(_as_astropy(table.head(1))[:0])
    for field in described.get_first_table().fields:
        if field.datatype == "unicodeChar":  # of the length of the first text; astropy takes no "*"
            field.arraysize = str(max(1, *map(len, _plain(table[field.name]))))
    content = BytesIO()
    described.to_xml(content)
    return {VOPARQUET_VERSION: "1.0", VOPARQUET_CONTENT: content.getvalue().decode()}


def _write_fits(table: pd.DataFrame, path: Path) -> None:
    result = _as_astropy(table)
    for name in result.colnames:
        kind = result[name].dtype.kind
        if kind == "U":  # astropy would refuse other letters than ASCII's
            result[name] = np.char.encode(result[name], "utf-8")
        elif kind == "i":  # what stands for a missing one, else 999999
            result[name].fill_value = np.iinfo(result[name].dtype).min
    rows = fits.table_to_hdu(result)
    for name, ucd in _find_ucds(result.colnames).items():
        number = result.colnames.index(name) + 1
        rows.header[f"TUCD{number}"] = ucd  # TOPCAT's word: the standard has none
    rows.writeto(path)


def _write_ecsv(table: pd.DataFrame, path: Path) -> None:
    # into a file that is closed whatever happens: astropy 6.0 leaves its own open on a full disk
    with path.open("w", encoding="utf-8", newline="") as file:
        _as_astropy(table).write(file, format="ascii.ecsv")


def _write_votable(table: pd.DataFrame, path: Path) -> None:
    _as_astropy(table).write(path, format="votable")


def _as_astropy(table: pd.DataFrame) -> Table:
    columns = {name: _plain(values) for name, values in table.items()}
    result = Table.from_pandas(pd.DataFrame(columns))
    for name in result.colnames:
        if result[name].dtype.kind == "O":  # text: pandas keeps it as objects
            result[name] = np.array(result[name].tolist(), dtype=str)
    for name, unit in table.attrs.get("units", {}).items():
        if name in columns:
            result[name].unit = unit
    for name, ucd in _find_ucds(result.colnames).items():
        result[name].meta["ucd"] = ucd
    return result


def _find_ucds(names: Sequence[str]) -> dict[str, str]:
    """Return what columns are in the words of the Virtual Observatory (UCD1+), where known."""
    found = {name: _UCDS[name.lower()] for name in names if name.lower() in _UCDS}
    if "most_probable" in names:  # a table of predictions
        found |= {name: _UCDS["probability"] for name in names if name.startswith("p_")}
    return found


def _plain(values: pd.Series) -> pd.Series:
    if is_numeric_dtype(values) or (is_bool_dtype(values) and not values.isna().any()):
        return values
    return values.astype(object).where(values.notna(), "").astype(str).astype(object)


_WRITERS: dict[str, Callable[[pd.DataFrame, Path], None]] = {
    ".csv": _write_csv,
    ".fits": _write_fits,
    ".ecsv": _write_ecsv,
    ".parquet": _write_parquet,
    ".vot": _write_votable,
    ".xml": _write_votable,
}
TABLES = tuple(_WRITERS)
