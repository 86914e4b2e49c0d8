"""Read catalogues with every digit of their ids, and with NaN for missing measurements."""

from __future__ import annotations

import json
import os
import re
import warnings
from collections.abc import Callable, Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from astropy.io import votable
from astropy.utils.exceptions import AstropyWarning
from pandas.api.types import (
    is_bool_dtype,
    is_float_dtype,
    is_integer_dtype,
    is_numeric_dtype,
    is_object_dtype,
)

from skastro.catalogs.columns import (
    USUAL_COLUMN_NAMES,
    are_whole,
    find_column,
    find_placeholders,
    is_id_name,
    match_columns,
    plain_name,
)
from skastro.catalogs.tables import from_astropy, read_ascii_table, read_fits_table, read_votable
from skastro.catalogs.text import check_unique, decode, find_astropy_format, read_separated
from skastro.utils.arrow import DatasetTable, open_table
from skastro.utils.files import (
    FITS_ENDINGS,
    TABLE_ENDINGS,
    EncodedFile,
    UnfitError,
    list_tables,
    reading,
)
from skastro.utils.packages import import_optional
from skastro.utils.validation import count_padded, find_sentinels, name_near

_TEXT_ENDINGS = (".csv", ".tsv", ".txt", ".dat", ".cat", ".ldac", ".tbl", ".asc", ".ascii")
_PACKED_ENDINGS = ("", ".gz", ".bz2", ".xz")
_FORMATS = {  # by the ending
    **{f"{end}{packed}": "text" for end in _TEXT_ENDINGS for packed in _PACKED_ENDINGS},
    **dict.fromkeys(TABLE_ENDINGS, "parquet"),
    **dict.fromkeys(FITS_ENDINGS, "FITS"),
    **dict.fromkeys((".ecsv", ".ecsv.gz"), "text"),
    **dict.fromkeys((".vot", ".votable", ".xml", ".vot.gz", ".xml.gz"), "VOTable"),
}
CATALOG_ENDINGS = tuple(_FORMATS)
_FIRST_BYTES = {b"SIMPLE  =": "FITS", b"<?xml": "VOTable", b"<VOTABLE": "VOTable"}
_PART = re.compile(r"(.+)\[([^\[\]]+)\]")  # a table of a file, as in CFITSIO
_POSITIONS = {"l", "glon"}.union(*(USUAL_COLUMN_NAMES[kind] for kind in ("ra", "dec", "x", "y")))
VOPARQUET_VERSION = "IVOA.VOTable-Parquet.version"
VOPARQUET_CONTENT = "IVOA.VOTable-Parquet.content"
_SPLIT = re.compile(r"(train|test|validation|valid|val|dev)(?![a-zA-Z])")  # in names of files
_MAX_EXACT_FLOAT = 2**53  # float64 rounds larger whole numbers
_FLOAT_ID = r"-?\d+\.0*"
_ROUNDED_ID = r"-?\d\.\d+[eE]\+?\d+"  # spreadsheets write long ids in this form


def read_catalog(
    path: str | os.PathLike[str],
    *,
    hdu: int | str | None = None,
    id: str | None = None,  # noqa: A002 - the usual name of the column
    columns: str | Sequence[str] | None = None,
    units: bool = True,
    placeholders: bool = False,
) -> pd.DataFrame:
    r"""Read a catalogue from a FITS, VOTable, ECSV, CSV, other text or Parquet file.

    Parameters
    ----------
    path : str or path-like
        ``.fits``, ``.fit`` (also ``.gz``, ``.bz2``, ``.fz``), ``.vot``, ``.votable``, ``.xml``,
        ``.ecsv``, ``.parquet``, ``.arrow``, a folder of Parquet or Arrow files, or a text such as
        ``.csv``, ``.tsv``, ``.txt``, ``.dat`` or ``.cat`` (also ``.gz``, ``.bz2``, ``.xz``). The
        values of a text are separated by commas, tabs, semicolons, "|" or white space; titles,
        comments and units around the names of the columns are skipped, and catalogues of SExtractor
        and DAOPHOT, IPAC tables and machine-readable tables of journals are read too.
        ``"file.fits[NAME]"`` or ``"file.fits[2]"`` names a table, as ``hdu`` does.
    hdu : int or str, default=None
        Table of a FITS file or VOTable: its name, the number of the HDU in FITS, or the number of
        the table in a VOTable, from 1 on. With None it is the only table; or with a warning the
        only one with columns of ids, files or positions. Headers of FITS_LDAC do not count.
    id : str, default=None
        Column of ids. With None, ids are the columns with a usual name such as ``id``,
        ``source_id``, ``GalaxyID`` or ``TARGETID``, or ending in ``objid`` or ``_id``, in upper or
        lower case.
    columns : str or sequence of str, default=None
        Columns to read, or patterns such as ``"mag_*"``; ids are always read. With None, all
        columns are read. Columns of arrays are left out with a warning.
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
        The file is damaged, empty or of an unknown kind, has two columns of one name, several
        tables that may be the catalogue, or ids that floats have rounded; a number may be read in
        two ways (``1,234``); a column that is named holds arrays; a pattern matches no column;
        ``id`` is not a column.
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
    source, hdu = _split_part(Path(path).expanduser(), hdu)
    frame = _read_frame(source, hdu, id)
    return tidy_catalog(
        frame, source, id=id, columns=columns, units=units, placeholders=placeholders
    )


def tidy_catalog(
    frame: pd.DataFrame,
    source: Path | str,
    *,
    id: str | None = None,  # noqa: A002
    columns: str | Sequence[str] | None = None,
    units: bool = True,
    placeholders: bool = False,
) -> pd.DataFrame:
    """Return a table that was read from a file in the form of `read_catalog`; see there.

    ``frame.attrs`` may have the ``units``, the names of columns of ``arrays``, which were left out,
    and the ``problems`` of columns that cannot be read.
    """
    if not len(frame):
        raise ValueError(f"{source} has no row: pass a catalogue with at least one.")
    if id is not None and id not in frame.columns:
        raise ValueError(f"id={id!r} is not a column of {source}{name_near(id, frame.columns)}")
    all_units = frame.attrs.get("units", {}) if units else {}
    ids = {name for name in frame.columns if _is_id(name, id)}

    # the columns asked for, in the order of the file
    arrays, problems = frame.attrs.get("arrays", []), frame.attrs.get("problems", {})
    if columns is not None:
        patterns = [columns] if isinstance(columns, str) else columns
        names = [*frame.columns, *arrays]
        chosen = match_columns(names, patterns, name="columns", table=str(source))
        arrays = [name for name in arrays if name in chosen]
        if wanted := [name for name in arrays if name in patterns]:
            raise ValueError(
                f"{source} has arrays in the columns {', '.join(wanted)}: save each of their "
                "elements as a column of its own."
            )
        frame = frame[[name for name in frame.columns if name in ids.union(chosen)]]
    if unclear := [name for name in frame.columns if name in problems]:
        raise ValueError(problems[unclear[0]])
    if arrays:
        warnings.warn(
            f"{source} has arrays in the columns {', '.join(arrays)}, which are left out.",
            UserWarning,
            stacklevel=3,
        )

    # ids as whole numbers or text, all others in dtypes of NumPy without sentinels
    whole = {name for name in frame.columns if is_integer_dtype(frame[name].dtype)}
    id_column = id or find_column(frame, "id")
    values_of = {
        name: _convert_ids(values, source, is_needed=name == id_column)
        if name in ids
        else _to_numpy_dtype(values)
        for name, values in frame.items()
    }
    read = frame
    frame = _mask_sentinels(pd.DataFrame(values_of), ids | whole, source, placeholders)
    units_of = {name: unit for name, unit in all_units.items() if name in frame.columns}
    padded = {name: n for name in values_of if (n := count_padded(read[name]))}
    attributes = {"units": units_of, "padded": padded}
    frame.attrs = {name: value for name, value in attributes.items() if value}
    return frame


def _is_id(column: str, id: str | None) -> bool:  # noqa: A002
    if id is not None:
        return column == id or plain_name(column).endswith("objid")
    return is_id_name(column)


def _split_part(path: Path, hdu: int | str | None) -> tuple[Path, int | str | None]:
    """Split a path such as "file.fits[NAME]" into the path of the file and the table."""
    match = _PART.fullmatch(str(path))
    if match is None or path.exists():
        return path, hdu
    if hdu is not None:
        raise ValueError(f"hdu={hdu!r} and {path} name a table each: keep one of them.")
    return Path(match[1]), int(match[2]) if match[2].isdecimal() else match[2]


def _read_frame(source: Path, hdu: int | str | None, id: str | None) -> pd.DataFrame:  # noqa: A002
    """Read all columns; those of arrays are named in ``attrs["arrays"]`` instead."""
    ending = max((e for e in _FORMATS if source.name.lower().endswith(e)), key=len, default=None)
    if source.is_dir() and (tables := list_tables(source)):
        return read_tables(tables)
    if ending is None and source.is_dir():
        raise ValueError(f"{source} is a folder: read it with load_folder, or name its catalogue.")
    if ending is None:
        unpacked = [end for end in CATALOG_ENDINGS if not end.endswith(_PACKED_ENDINGS[1:])]
        raise ValueError(f"{source} is not a catalogue: use one of {', '.join(unpacked)}.")
    if not source.is_file():
        raise FileNotFoundError(f"{source} does not exist: pass the path of a catalogue.")
    problem, gone = f"cannot be read as a {ending} catalogue", "is gone: put it back"
    with reading(source, problem, "save or copy it again", gone=gone):
        kind = _FORMATS[ending]
        if kind == "text":  # SExtractor writes FITS_LDAC with the ending .cat
            with source.open("rb") as file:
                start = file.read(max(map(len, _FIRST_BYTES)))
            kind = next((k for mark, k in _FIRST_BYTES.items() if start.startswith(mark)), kind)
        if hdu is not None and kind not in ("FITS", "VOTable"):
            raise UnfitError(f"{source} has one table only: leave out hdu={hdu!r}.")
        frame = _read_columns(source, kind, hdu, lambda name: _is_id(name, id))
    units = frame.attrs.get("units", {})
    frame.attrs["units"] = {name.strip(): unit for name, unit in units.items()}
    return frame.rename(columns=str.strip)


def _read_columns(
    source: Path, kind: str, hdu: int | str | None, is_id: Callable[[str], bool]
) -> pd.DataFrame:
    if kind == "parquet":
        return _tabulate(open_table(source), source)
    text = decode(source) if kind == "text" else ""
    form = find_astropy_format(text)
    if kind == "text" and form is None:
        return read_separated(text, source, is_id)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", AstropyWarning)
        if form is not None:
            return from_astropy(read_ascii_table(text, form, source))
        read = read_fits_table if kind == "FITS" else read_votable
        return from_astropy(read(source, hdu))


def read_tables(paths: Sequence[Path]) -> pd.DataFrame:
    """Read Parquet or Arrow files, whose rows follow each other, for `tidy_catalog`.

    Columns of arrays and images are named in ``attrs["arrays"]``. If the names of the files begin
    with train, validation or test, as those of HuggingFace do, a column ``split`` says so.
    """
    frames = []
    for path in paths:
        problem, remedy = "cannot be read as a table", "copy it again, or write it again"
        with reading(path, problem, remedy, gone="does not exist: correct the path"):
            frames.append(_tabulate(open_table(path), path))
    if differing := [n for n, f in enumerate(frames) if {*f.columns} != {*frames[0].columns}]:
        raise ValueError(
            f"{paths[differing[0]]} has other columns than {paths[0]}: open files of one table."
        )
    attributes = frames[0].attrs
    frame = pd.concat(frames, ignore_index=True) if len(frames) > 1 else frames[0]
    splits = [_SPLIT.match(path.name) for path in paths]
    if all(splits) and len(frames) > 1 and "split" not in frame.columns:
        names = [match[1] for match in splits if match]
        frame["split"] = np.repeat(names, list(map(len, frames)))
    frame.attrs = attributes
    return frame


def read_dataset(data: Any, name: str) -> pd.DataFrame:
    """Read a ``datasets.Dataset``, or a table of pyarrow, like `read_tables`.

    ``name`` is that of the data set in messages.
    """
    return _tabulate(DatasetTable(data), name)


def _tabulate(file: Any, source: Path | str) -> pd.DataFrame:
    """Read the columns of numbers and text of what `open_table` returns."""
    arrow = import_optional("pyarrow", extra="data", needed_by=f"Reading {source}")
    schema = file.schema
    check_unique(schema.names, source)
    is_nested = {f.name for f in schema if hasattr(f.type, "storage_type")}
    is_nested |= {f.name for f in schema if arrow.types.is_nested(f.type)}
    binary = [f.name for f in schema if "binary" in str(f.type) and f.name not in is_nested]
    if binary and file.lengths:  # images would fill the memory
        first = next(iter(file.read_group(0, 1, binary))).to_pylist()[0]
        is_nested |= {name for name in binary if EncodedFile(first[name] or b"", "").suffix}
    arrays = [name for name in schema.names if name in is_nested]
    binary = [name for name in binary if name not in is_nested]
    frame = file.read_columns([n for n in schema.names if n not in is_nested] if arrays else None)
    frame = frame.reset_index(drop=not any(frame.index.names))  # ids may have been the index
    frame.columns = frame.columns.map(str)
    for name in binary:  # text, or else images and the like
        try:
            frame[name] = frame[name].map(bytes.decode, na_action="ignore")
        except UnicodeDecodeError:
            frame = frame.drop(columns=name)
            arrays.append(name)
    for name, classes in _read_class_names(schema).items():
        if name in frame.columns:
            frame[name] = frame[name].map(dict(enumerate(classes)))  # -1 is no class
    frame.attrs = {"arrays": arrays}
    content = (schema.metadata or {}).get(VOPARQUET_CONTENT.encode())
    if content:  # a VOTable without data describes the columns
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", AstropyWarning)
            fields = votable.parse(BytesIO(content)).get_first_table().fields
        frame.attrs["units"] = {field.name: str(field.unit) for field in fields if field.unit}
    return frame


def _read_class_names(schema: Any) -> dict[str, list[str]]:
    """Return the names of the classes of columns that HuggingFace has written as numbers."""
    try:
        features = json.loads(schema.metadata[b"huggingface"])["info"]["features"]
    except (KeyError, TypeError, ValueError):
        return {}
    labels = {key: f for key, f in features.items() if isinstance(f, dict)}
    return {key: f["names"] for key, f in labels.items() if f.get("_type") == "ClassLabel"}


def _to_numpy_dtype(values: pd.Series) -> pd.Series:
    """Convert pandas' own dtypes, which NumPy reads as objects, to NumPy's; tidy text."""
    if isinstance(values.dtype, pd.CategoricalDtype):
        values = pd.Series(pd.array(values.astype(object)))
    dtype = values.dtype
    is_number = isinstance(dtype, pd.api.extensions.ExtensionDtype) and is_numeric_dtype(dtype)
    if is_number and not values.isna().any():
        return values.astype(dtype.numpy_dtype)
    if is_number and is_integer_dtype(dtype) and (values.abs() > _MAX_EXACT_FLOAT).any():
        return _to_text(values)
    if is_number and not is_bool_dtype(dtype):
        return pd.Series(values.to_numpy(np.float64, na_value=np.nan))
    if is_number or isinstance(dtype, pd.StringDtype) or is_object_dtype(dtype):
        plain = [v.strip() if isinstance(v, str) else v for v in values.astype(object)]
        return pd.Series(
            [np.nan if v is None or v is pd.NA or v == "" else v for v in plain], dtype=object
        )
    return values


def _to_text(values: pd.Series) -> pd.Series:
    """Return values as text without white space around it, and missing or blank ones as NaN."""
    text = values.astype("str").str.strip()
    return text.where(values.notna() & (text != ""))


def _convert_ids(values: pd.Series, source: Path | str, *, is_needed: bool) -> pd.Series:
    """Convert ids to int64 if that loses no digit, else to text.

    Floats that are whole numbers with all their digits are whole numbers. Other floats are
    refused in the column of ids that ``is_needed``, and stay floats, with a warning, in others.
    """
    text = _to_text(values)
    ids = text.dropna().astype("str").str
    is_rounded = ids.fullmatch(_ROUNDED_ID).any()
    if len(text.dropna()) and (
        is_float_dtype(values.dtype) or is_rounded or ids.fullmatch(_FLOAT_ID).all()
    ):
        floats = pd.to_numeric(text, errors="coerce")
        dtype = getattr(values.dtype, "numpy_dtype", values.dtype)
        dtype = dtype if is_float_dtype(dtype) else np.float64
        if not is_rounded and are_whole(floats.dropna(), dtype):
            text = _to_text(floats.astype("Int64"))
            ids = text.dropna().astype("str").str
        else:
            problem = f"The column {values.name!r} of {source} is float, which cannot hold long ids"
            if is_needed:
                raise ValueError(f"{problem}: save it as integers or text.")
            warnings.warn(f"{problem}: use no ids of it.", UserWarning, stacklevel=5)
            return floats.astype(np.float64)
    is_short = ids.fullmatch(r"0|-?[1-9]\d{0,14}").all()
    return text.astype(np.int64) if is_short and text.notna().all() else text


def _mask_sentinels(
    frame: pd.DataFrame, excluded: set[str], source: Path | str, placeholders: bool
) -> pd.DataFrame:
    """Set sentinels and placeholders to NaN, and warn once with their numbers."""
    counts = []
    for name, values in frame.items():
        if name in excluded or plain_name(name) in _POSITIONS or not is_float_dtype(values):
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
        warnings.warn(text, UserWarning, stacklevel=4)
    return frame
