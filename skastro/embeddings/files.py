"""Read and write embeddings."""

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

from skastro.catalogs.matching import find_rows
from skastro.catalogs.reading import read_catalog
from skastro.catalogs.writing import TABLES, write_table
from skastro.utils.files import check_ending, replacing, write_arrays

_NUMBERED = re.compile(r"(.*?)(0|[1-9]\d*)")
_ARRAYS = (".npz", ".npy")
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
