"""Tables out and in: results that TOPCAT and pandas open, embeddings and labels read back."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import numpy as np
import pandas as pd
from astropy.io import fits
from astropy.io.votable.tree import VOTableFile
from astropy.table import Table
from numpy.typing import ArrayLike, NDArray
from pandas.api.types import is_bool_dtype, is_numeric_dtype

from skastro.catalogs.reading import VOPARQUET_CONTENT, VOPARQUET_VERSION, name_near, read_catalog
from skastro.utils.files import writing
from skastro.utils.packages import import_optional

_MOST_FITS_COLUMNS = 999  # the standard's
_NUMBERED = re.compile(r"(.*?)(0|[1-9]\d*)")
_NAMED = 3  # ids that a message names
_ARRAYS = (".npz", ".npy")
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


def check_ending(path: Path, endings: Sequence[str]) -> str:
    """Return the ending of a file to be written, or say which ones there are."""
    ending = path.suffix.lower()
    if ending not in endings:
        choice = " or ".join(filter(None, [", ".join(endings[:-1]), endings[-1]]))
        raise ValueError(f"{path} must end in {choice}.")
    return ending


@contextmanager
def replacing(target: Path) -> Iterator[Path]:
    """Give a temporary name beside ``target``, of the same ending, that takes its place."""
    temporary = target.with_name(f".{os.getpid()}.{target.name}")
    with writing(target):
        try:
            yield temporary
            temporary.replace(target)
        finally:
            temporary.unlink(missing_ok=True)


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
EMBEDDING_FILES = (*TABLES, *_ARRAYS)


@dataclass(frozen=True)
class Embeddings:
    """Embeddings and what names their rows.

    Parameters
    ----------
    values : float32 array of shape (n, d)
    ids : array of shape (n,)
        Row numbers where the file has no ids.
    named : bool
        Whether the ids are more than row numbers.

    Examples
    --------
    >>> Embeddings(np.zeros((2, 3), np.float32), np.arange(2), named=False).values.shape
    (2, 3)
    """

    values: NDArray[np.float32]
    ids: NDArray[Any]
    named: bool = True


def write_embeddings(path: str | os.PathLike[str], embeddings: ArrayLike, ids: ArrayLike) -> None:
    """Write embeddings with their ids.

    Parameters
    ----------
    path : str or path-like
        A table as for `write_table`, with the columns ``id``, ``e0``, ``e1`` ...; ``.npz`` with the
        arrays ``ids`` and ``embeddings``; or ``.npy``, which holds no ids.
    embeddings : array-like of shape (n, d)
    ids : array-like of shape (n,)

    Raises
    ------
    ValueError, OSError, ImportError
        As for `write_table`.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_embeddings(f"{folder}/e.csv", np.eye(2, 3, dtype="f4"), ["a", "b"])
    ...     print(Path(folder, "e.csv").read_text())
    id,e0,e1,e2
    a,1.0,0.0,0.0
    b,0.0,1.0,0.0
    """
    target = Path(path).expanduser()
    ending = check_ending(target, EMBEDDING_FILES)
    values = np.asarray(embeddings, dtype=np.float32)
    if ending not in _ARRAYS:
        columns = [f"e{i}" for i in range(values.shape[1])]
        table = pd.DataFrame(values, columns=columns)
        table.insert(0, "id", np.asarray(ids))
        write_table(target, table)
        return
    with replacing(target) as temporary:
        if ending == ".npy":
            with temporary.open("wb") as file:  # by a path of `.NPY` it would be named otherwise
                np.save(file, values)
        else:
            write_arrays(temporary, {"ids": _fixed(ids), "embeddings": values})


def write_arrays(path: Path, arrays: Mapping[str, NDArray[Any]]) -> None:
    """Write named arrays as ``.npz``, and close it whatever happens.

    `numpy.savez` of NumPy 1.26 leaves it open where the disk is full.

    Parameters
    ----------
    path : Path
    arrays : mapping of str to array
        Of dtypes that need no pickle.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_arrays(Path(folder, "a.npz"), {"ids": np.arange(3)})
    ...     with np.load(f"{folder}/a.npz") as found:
    ...         print(found["ids"])
    [0 1 2]
    """
    with ZipFile(path, "w") as archive:
        for name, values in arrays.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as file:
                np.lib.format.write_array(file, values, allow_pickle=False)


def _fixed(ids: ArrayLike) -> NDArray[Any]:
    """Return ids in a dtype that needs no pickle."""
    values = np.asarray(ids)
    return values if values.dtype.kind in "iuU" else values.astype(str)


def read_embeddings(path: str | os.PathLike[str]) -> Embeddings:
    """Read embeddings of any origin.

    Parameters
    ----------
    path : str or path-like
        A table whose embedding is the longest run of columns numbered from 0 or 1 (``e0``,
        ``e1`` ...), with an id column or none; ``.npz`` with ``embeddings`` and, maybe, ``ids``; or
        ``.npy`` of shape (n, d).

    Returns
    -------
    embeddings : Embeddings

    Raises
    ------
    FileNotFoundError
        There is no such file.
    ValueError
        It holds no embeddings, or some that are not finite.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_embeddings(f"{folder}/e.npz", np.eye(2, 3), [7, 9])
    ...     found = read_embeddings(f"{folder}/e.npz")
    >>> found.values.shape, found.ids.tolist()
    ((2, 3), [7, 9])
    """
    source = Path(path).expanduser()
    if not source.is_file():
        raise FileNotFoundError(f"{source} does not exist: pass a file of embeddings.")
    values, ids = (_read_arrays if source.suffix.lower() in _ARRAYS else _read_columns)(source)
    if values.ndim != 2 or values.dtype.kind not in "fiu" or not values.size:
        raise ValueError(
            f"{source} holds {values.dtype} of shape {values.shape}: embeddings are numbers of "
            "shape (n, d)."
        )
    bad = ~np.isfinite(values).all(axis=1)
    if bad.any():
        raise ValueError(f"{source} is not finite in row {int(bad.argmax())}: leave that row out.")
    if ids is not None and len(ids) != len(values):
        raise ValueError(
            f"{source} has {len(values)} embeddings and {len(ids)} ids: write it again."
        )
    values = values.astype(np.float32, copy=False)
    if ids is None:
        return Embeddings(values, np.arange(len(values)), named=False)
    return Embeddings(values, ids, named=True)


def _read_arrays(source: Path) -> tuple[NDArray[Any], NDArray[Any] | None]:
    try:
        found = np.load(source)  # pickles are refused
        if isinstance(found, np.ndarray):
            return found, None
        with found:
            return found["embeddings"], found.get("ids")
    except KeyError as error:
        raise ValueError(
            f"{source} holds no array 'embeddings': write it with np.savez(ids=, embeddings=)."
        ) from error
    except Exception as error:  # damaged archives raise many kinds
        raise ValueError(f"{source} cannot be read as arrays: copy or save it again.") from error


def _read_columns(source: Path) -> tuple[NDArray[Any], NDArray[Any] | None]:
    table = read_catalog(source)
    runs: dict[str, dict[int, str]] = {}
    for name in table.columns:
        if (match := _NUMBERED.fullmatch(name)) and is_numeric_dtype(table[name]):
            runs.setdefault(match[1], {})[int(match[2])] = name
    whole = [
        run for run in runs.values() if sorted(run) == list(range(min(run), min(run) + len(run)))
    ]
    best = max((run for run in whole if min(run) < 2), key=len, default={})
    if len(best) < 2:
        raise ValueError(
            f"{source} has no columns numbered like e0, e1, e2: pass what `skastro embed` wrote, "
            "or name them so."
        )
    ids = table["id"].to_numpy() if "id" in table else None
    return table[[best[number] for number in sorted(best)]].to_numpy(), ids


def find_rows(wanted: ArrayLike, ids: ArrayLike, *, name: str) -> NDArray[np.int64]:
    """Return the row of each wanted id, compared as text; -1 where there is none.

    Parameters
    ----------
    wanted : array-like of shape (m,)
    ids : array-like of shape (n,)
        Each only once.
    name : str
        Where the ids stand, for the error's sentence.

    Raises
    ------
    ValueError
        An id is there twice.

    Examples
    --------
    >>> find_rows([7, 8, 9], ["9", "7"], name="labels.csv").tolist()
    [1, -1, 0]
    """
    index = pd.Index(_as_text(ids))
    if not index.is_unique:
        twice = index[index.duplicated()][0]
        raise ValueError(f"{name} has the id {twice!r} more than once: keep one row an object.")
    return index.get_indexer(_as_text(wanted)).astype(np.int64)


def join_rows(
    embeddings: Embeddings, ids: ArrayLike, *, name: str
) -> tuple[Embeddings, NDArray[np.int64]]:
    """Find the row of each embedding in a table, by id, or by order where embeddings have none.

    Parameters
    ----------
    embeddings : Embeddings
    ids : array-like of shape (n,)
        Of the table, each only once.
    name : str
        What the table is, for the error's sentence.

    Returns
    -------
    kept : Embeddings
        Those that have a row.
    rows : int64 array
        The row of each.

    Raises
    ------
    ValueError
        None has a row, or without ids their number is another.

    Examples
    --------
    >>> kept, rows = join_rows(Embeddings(np.eye(3), np.array([7, 8, 9])), [9, 7], name="c.csv")
    >>> kept.ids.tolist(), rows.tolist()
    ([7, 9], [1, 0])
    """
    if not embeddings.named:
        if len(embeddings.ids) != len(np.asarray(ids)):
            raise ValueError(
                f"{name} has {len(np.asarray(ids))} rows, and there are {len(embeddings.ids)} "
                "embeddings without ids: write the embeddings with ids (.parquet, .fits, .csv, "
                ".npz)."
            )
        return embeddings, np.arange(len(embeddings.ids))
    rows = find_rows(embeddings.ids, ids, name=name)
    found = rows >= 0
    if not found.any():
        raise ValueError(
            f"{name} has none of the ids of the embeddings (the first is {embeddings.ids[0]!s}): "
            "pass the catalogue too, or name its column of the ids (--id)."
        )
    return Embeddings(embeddings.values[found], embeddings.ids[found]), rows[found]


def _as_text(ids: ArrayLike) -> NDArray[Any]:
    return np.asarray(ids).astype(str).astype(object)


def read_labels(
    paths: Sequence[str | os.PathLike[str]], label: str, ids: ArrayLike
) -> tuple[NDArray[Any], list[str]]:
    r"""Read labels that stand beside ids, and put them in the order of other rows.

    Parameters
    ----------
    paths : sequence of str or path-like
        Tables with the columns ``id`` and ``label``; labels may be missing.
    label : str
    ids : array-like of shape (n,)
        Of the rows to label.

    Returns
    -------
    labels : object array of shape (n,)
        As they stand in the tables, None where there is none.
    notes : list of str
        A sentence on each thing worth knowing.

    Raises
    ------
    FileNotFoundError, ValueError
        A table cannot be read, lacks a column, has an id twice or none of the ids, or two
        tables disagree.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     _ = Path(folder, "labels.csv").write_text("id,class\n7,star\n8,galaxy\n")
    ...     read_labels([f"{folder}/labels.csv"], "class", [8, 9, 7])[0].tolist()
    ['galaxy', None, 'star']
    """
    labels = np.full(len(np.asarray(ids)), None, dtype=object)
    notes = []
    for path in paths:
        given, n_labels, n_lost = _labels_of(path, label, ids)
        for row in np.flatnonzero([value is not None for value in given]):
            if labels[row] not in (None, given[row]):
                raise ValueError(
                    f"{path} labels {np.asarray(ids)[row]} as {given[row]!r}, another table as "
                    f"{labels[row]!r}: keep one of them."
                )
            labels[row] = given[row]
        if n_lost:
            notes.append(f"{n_lost:,} of the {n_labels:,} labels in {path} are of other objects.")
    return labels, notes


def _labels_of(path: Any, label: str, ids: ArrayLike) -> tuple[NDArray[Any], int, int]:
    """Return labels row by row, their number in the table, and how many found no row."""
    table = read_catalog(path)
    for name in ("id", label):
        if name not in table.columns:
            raise ValueError(f"{path} has no column {name!r}{name_near(name, table.columns)}")
    table = table[table[label].notna() & (table[label].astype(str).str.strip() != "")]
    rows = find_rows(ids, table["id"], name=str(path))
    if len(table) and (rows < 0).all():
        shown = ", ".join(map(str, table["id"].head(_NAMED)))
        raise ValueError(f"{path} has no id of the data (but {shown}): check its column id.")
    values = np.array([*table[label], None], dtype=object)
    return values[rows], len(table), len(table) - int((rows >= 0).sum())
