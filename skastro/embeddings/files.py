"""Read and write files of embeddings, and join them with tables by id."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from pandas.api.types import is_numeric_dtype

from skastro.catalogs.columns import find_column
from skastro.catalogs.matching import find_rows
from skastro.catalogs.reading import CATALOG_ENDINGS, read_catalog
from skastro.catalogs.writing import TABLES, write_table
from skastro.utils.files import check_ending, replacing, write_arrays
from skastro.utils.notebooks import list_some
from skastro.utils.validation import plain_rows

_NUMBERED_NAME = re.compile(r"(.*?)(0|[1-9]\d*)")
_ARRAY_FILES = (".npz", ".npy")
EMBEDDING_FILES = (*TABLES, *_ARRAY_FILES)


@dataclass(frozen=True, repr=False)
class Embeddings:
    """Embeddings with the ids of their objects.

    Parameters
    ----------
    values : float32 array of shape (n, d)
        Embeddings.
    ids : array of shape (n,)
        Ids of the objects, or row numbers if the file has no ids.
    named : bool, default=True
        False if the ids are only row numbers.

    Examples
    --------
    >>> Embeddings(np.zeros((2, 3), np.float32), np.arange(2), named=False)
    Embeddings of 2 objects in 3 columns, without ids
    """

    values: NDArray[np.float32]
    ids: NDArray[Any]
    named: bool = True

    def __repr__(self) -> str:
        n, n_columns = self.values.shape
        ids = f"ids {list_some(self.ids)}" if self.named else "without ids"
        return f"Embeddings of {n:,} objects in {n_columns} columns, {ids}"


def write_embeddings(path: str | os.PathLike[str], embeddings: ArrayLike, ids: ArrayLike) -> None:
    """Write embeddings with their ids.

    Parameters
    ----------
    path : str or path-like
        A table (``.csv``, ``.parquet``, ``.fits``, ``.ecsv``, ``.vot`` or ``.xml``) with the
        columns ``id``, ``e0``, ``e1`` ...; ``.npz`` with the arrays ``ids`` and ``embeddings``; or
        ``.npy``, which holds no ids.
    embeddings : array-like of shape (n, d)
        Embeddings, written as float32.
    ids : array-like of shape (n,)
        Ids of the objects, integers or text.

    Raises
    ------
    ValueError
        The path has another ending, or the format cannot hold so many columns.
    OSError
        The file cannot be written.
    ImportError
        The package that the format needs is not installed.

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
    rows = plain_rows(embeddings, "embeddings")
    values, names = np.asarray(rows, dtype=np.float32), np.asarray(ids)
    if ending not in _ARRAY_FILES:
        table = pd.DataFrame(values, columns=[f"e{i}" for i in range(values.shape[1])])
        table.insert(0, "id", names)
        write_table(target, table)
        return
    with replacing(target) as temporary:
        if ending == ".npy":
            with temporary.open("wb") as file:  # np.save appends .npy to a path such as e.NPY
                np.save(file, values)
        else:
            names = names if names.dtype.kind in "iuU" else names.astype(str)  # needs no pickle
            write_arrays(temporary, {"ids": names, "embeddings": values})


def read_embeddings(path: str | os.PathLike[str]) -> Embeddings:
    """Read embeddings written by any program.

    Parameters
    ----------
    path : str or path-like
        A table, with or without an id column, whose longest run of columns numbered from 0 or 1
        (``e0``, ``e1`` ...) is the embedding; ``.npz`` with the array ``embeddings`` and optionally
        ``ids``; or ``.npy`` of shape (n, d).

    Returns
    -------
    embeddings : Embeddings

    Raises
    ------
    FileNotFoundError
        The file does not exist.
    ValueError
        The file holds no embeddings, or some that are not finite.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_embeddings(f"{folder}/e.npz", np.eye(2, 3), [7, 9])
    ...     embeddings = read_embeddings(f"{folder}/e.npz")
    >>> embeddings.values.shape, embeddings.ids.tolist()
    ((2, 3), [7, 9])
    """
    source = Path(path).expanduser()
    if not source.is_file():
        problem = "is a folder" if source.is_dir() else "does not exist"
        raise FileNotFoundError(f"{source} {problem}: pass a file of embeddings.")
    if not source.name.lower().endswith((*CATALOG_ENDINGS, *_ARRAY_FILES)):
        raise ValueError(
            f"{source} is not a file of embeddings: pass one that `skastro embed` has written, "
            "such as embeddings.parquet."
        )
    values, ids = (_read_arrays if source.suffix.lower() in _ARRAY_FILES else _read_columns)(source)
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
    names = np.arange(len(values)) if ids is None else ids
    return Embeddings(values, names, named=ids is not None)


def _read_arrays(source: Path) -> tuple[NDArray[Any], NDArray[Any] | None]:
    try:
        content = np.load(source)  # pickles are refused
        if isinstance(content, np.ndarray):
            return content, None
        with content:
            return content["embeddings"], content.get("ids")
    except KeyError as error:
        raise ValueError(
            f"{source} holds no array 'embeddings': write it with np.savez(ids=, embeddings=)."
        ) from error
    except Exception as error:  # damaged archives raise errors of many kinds
        raise ValueError(f"{source} cannot be read as arrays: copy or save it again.") from error


def _read_columns(source: Path) -> tuple[NDArray[Any], NDArray[Any] | None]:
    table = read_catalog(source)
    runs: dict[str, dict[int, str]] = {}  # columns by number, for each prefix
    for name in table.columns:
        if (match := _NUMBERED_NAME.fullmatch(name)) and is_numeric_dtype(table[name]):
            runs.setdefault(match[1], {})[int(match[2])] = name
    complete = (run for run in runs.values() if min(run) < 2 and max(run) - min(run) < len(run))
    longest = max(complete, key=len, default={})
    if len(longest) < 2:
        raise ValueError(
            f"{source} has no columns numbered like e0, e1, e2: pass a file of `skastro embed`, "
            "or rename the columns."
        )
    column = find_column(table, "id")
    ids = None if column is None else table[column].to_numpy()
    return table[[longest[number] for number in sorted(longest)]].to_numpy(), ids


def join_rows(
    embeddings: Embeddings, ids: ArrayLike, *, name: str
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Join embeddings with the rows of a table by id, or by order if embeddings have no ids.

    Returns the rows of the embeddings that are in the table, and their rows in the table. No
    common id, or different numbers of rows without ids, are a ValueError that calls the table by
    its ``name``.

    Examples
    --------
    >>> rows, table_rows = join_rows(
    ...     Embeddings(np.eye(3), np.array([7, 8, 9])), [9, 7], name="c.csv")
    >>> rows.tolist(), table_rows.tolist()
    ([0, 2], [1, 0])
    """
    n, n_table = len(embeddings.ids), len(np.asarray(ids))
    if not embeddings.named:
        if n != n_table:
            raise ValueError(
                f"{name} has {n_table} rows, and there are {n} embeddings without ids: write the "
                "embeddings with ids (.parquet, .fits, .csv, .npz)."
            )
        return np.arange(n), np.arange(n)
    table_rows = find_rows(embeddings.ids, ids, name=name)
    rows = np.flatnonzero(table_rows >= 0)
    if not len(rows):
        raise ValueError(
            f"{name} has none of the ids of the embeddings (the first is {embeddings.ids[0]!s}): "
            "pass the catalogue too, or name its column of the ids (--id)."
        )
    return rows, table_rows[rows]
