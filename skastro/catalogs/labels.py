"""Read class labels from catalogues and tables, and mark rows without one."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from skastro.catalogs.matching import find_rows
from skastro.catalogs.reading import read_catalog
from skastro.utils.progress import Say, say_nothing
from skastro.utils.validation import name_near

MIN_CLASS_ROWS = 20
_MAX_NAMED_CLASSES = 4  # classes that a message names, before it counts the others


def settle_labels(
    column: ArrayLike,
    *,
    unlabelled: Sequence[str] = ("unknown",),
    classes: Sequence[str] | None = None,
    name: str = "label",
    fewest: int = MIN_CLASS_ROWS,
    say: Say | None = None,
) -> NDArray[Any]:
    """Return classes as text, ``""`` for rows without a usable label.

    Parameters
    ----------
    column : array-like of shape (n,)
        Text, integers or booleans; missing values and -1 mean no label.
    unlabelled, classes
        As in `load_data`.
    name : str, default="label"
        The column's name, for messages.
    fewest : int, default=20
        Rows that a class needs; 0 asks for no class at all.
    say : callable, default=None
        Told of the classes that are left out.

    Returns
    -------
    labels : object array of shape (n,)

    Raises
    ------
    ValueError
        The column holds measurements, lacks one of ``classes``, or fewer than two classes
        have ``fewest`` rows.

    Examples
    --------
    >>> labels = ["star", "galaxy", None, "unknown"] * 20
    >>> settle_labels(labels)[:4].tolist()
    ['star', 'galaxy', '', '']
    """
    say = say or say_nothing
    labels = _as_text(pd.Series(np.asarray(column)), name)
    _blank(labels, labels.isin([*unlabelled]), "taken as unlabelled", say)
    if classes is not None:
        if absent := [each for each in classes if each not in set(labels)]:
            there = ", ".join(sorted(set(labels) - {""}))
            raise ValueError(f"classes names {absent[0]!r}, which {name!r} lacks: it has {there}.")
        _blank(
            labels,
            ~labels.isin(["", *classes]),
            "not among the classes asked for, and taken as unlabelled",
            say,
        )
    sizes = labels[labels != ""].value_counts()
    rare = sizes.index[sizes < fewest]
    if fewest and len(sizes) - len(rare) < 2:
        raise ValueError(
            f"label={name!r} has fewer than two classes of at least {fewest} rows: "
            "choose another column, or label more rows."
        )
    why = f"too rare to learn (under {fewest} rows), and taken as unlabelled"
    _blank(labels, labels.isin(rare), why, say)
    return labels.to_numpy(dtype=object)


def _as_text(series: pd.Series, name: str) -> pd.Series:
    """Return classes as text, "" where there is none."""
    known = series[series.notna()]
    if pd.api.types.is_float_dtype(known):
        if not np.equal(np.mod(known, 1), 0).all():
            raise ValueError(
                f"label={name!r} holds measurements, not classes: choose another column."
            )
        known = known.astype(np.int64)
    text = known.astype(str).str.strip()
    if pd.api.types.is_integer_dtype(known):
        text = text.where(known != -1, "")
    return text.reindex(series.index, fill_value="").astype(object)


def _blank(labels: pd.Series, rows: pd.Series, why: str, say: Say) -> None:
    sizes = labels[rows].value_counts()
    if len(sizes):
        named = [
            f"{value!r} ({_rows(number)})"
            for value, number in sizes.head(_MAX_NAMED_CLASSES).items()
        ]
        if len(sizes) > _MAX_NAMED_CLASSES:
            others = sizes[_MAX_NAMED_CLASSES:]
            named.append(f"{len(others)} others ({_rows(others.sum())})")
        say(f"{', '.join(named)} {'is' if len(sizes) == 1 else 'are'} {why}.")
    labels[rows] = ""


def _rows(number: int) -> str:
    return f"{number:,} row{'s' * (number != 1)}"


_MAX_EXAMPLE_IDS = 3  # ids that a message names


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
        shown = ", ".join(map(str, table["id"].head(_MAX_EXAMPLE_IDS)))
        raise ValueError(f"{path} has no id of the data (but {shown}): check its column id.")
    values = np.array([*table[label], None], dtype=object)
    return values[rows], len(table), len(table) - int((rows >= 0).sum())
