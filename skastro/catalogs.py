"""Catalogues from disk: every digit of an id, NaN where nothing was measured."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pandas as pd
from astropy.table import Table


def read_table(path: str | os.PathLike[str]) -> pd.DataFrame:
    r"""Read a catalogue from a CSV, Parquet, FITS or ECSV file.

    Parameters
    ----------
    path : str or path-like
        ``.csv``, ``.parquet``, or a file that astropy knows by its name.

    Returns
    -------
    catalog : DataFrame
        Masked values are NaN, numbers are in the machine's byte order. Columns named ``id`` or
        ending in ``objid`` or ``_id`` (whatever the case) are int64 if no value is missing, has
        more than 15 digits or a leading zero, else text: never float, which cannot hold the 19
        digits of SDSS. Sentinels such as -9999 are left as they are.

    Raises
    ------
    ValueError
        An id column is float, or a column holds arrays.
    ImportError
        The file is Parquet and pyarrow is not installed.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     file = Path(folder, "catalog.csv")
    ...     _ = file.write_text("id,mag_r\n1237648720693755918,17.5\n7,\n")
    ...     catalog = read_table(file)
    >>> catalog["id"].tolist(), catalog["mag_r"].tolist()
    (['1237648720693755918', '7'], [17.5, nan])
    """
    source = Path(path).expanduser()
    return _settle_ids(_read_columns(source), source)


def _is_id(column: str) -> bool:
    name = str(column).lower()
    return name == "id" or name.endswith(("objid", "_id"))


def _read_columns(source: Path) -> pd.DataFrame:
    """Read a catalogue; id columns keep all their digits, other gaps become NaN."""
    if source.suffix == ".csv":
        ids = [name for name in pd.read_csv(source, nrows=0).columns if _is_id(name)]
        return pd.read_csv(source, dtype=dict.fromkeys(ids, str))
    if source.suffix == ".parquet":
        try:
            frame = pd.read_parquet(source, dtype_backend="numpy_nullable")
        except ImportError as error:
            raise ImportError(f"Reading {source} needs pyarrow: pip install pyarrow") from error
    else:
        table = Table.read(source)
        table.convert_bytestring_to_unicode()
        arrays = [name for name in table.colnames if len(table[name].shape) > 1]
        if arrays:
            raise ValueError(
                f"{source} has arrays in the columns {', '.join(arrays)}: "
                "save each of their elements as a column of its own."
            )
        frame = table.to_pandas()
    for name in frame.columns:
        # Masked numbers arrive in pandas' nullable types, which numpy sees as objects.
        dtype = frame[name].dtype
        nullable = isinstance(dtype, pd.api.extensions.ExtensionDtype)
        if nullable and pd.api.types.is_numeric_dtype(dtype) and not _is_id(name):
            gaps = frame[name].isna().any()
            plain = np.dtype(np.float64) if gaps else dtype.numpy_dtype
            frame[name] = frame[name].to_numpy(plain, na_value=np.nan if gaps else None)
    return frame


def _settle_ids(frame: pd.DataFrame, source: Path) -> pd.DataFrame:
    """Make every id column int64 where that loses nothing, else text; never float."""
    for name in filter(_is_id, frame.columns):
        if pd.api.types.is_float_dtype(frame[name].dtype):
            raise ValueError(
                f"The column {name!r} of {source} is float, which cannot hold long ids: "
                "save it as integers or text."
            )
        text = frame[name].astype("str").str.strip().where(frame[name].notna())
        plain = text.str.fullmatch(r"0|-?[1-9]\d{0,14}")
        whole = not frame[name].isna().any() and bool(plain.all())
        frame[name] = text.astype(np.int64) if whole else text
    return frame
