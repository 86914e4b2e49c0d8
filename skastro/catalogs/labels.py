"""Read class labels from catalogues and tables, and mark rows without one."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from skastro.catalogs.columns import find_column
from skastro.catalogs.journal import is_journal
from skastro.catalogs.matching import find_rows
from skastro.catalogs.reading import read_catalog
from skastro.utils.progress import Say, say_nothing
from skastro.utils.tables import to_floats
from skastro.utils.validation import UNLABELLED, name_near, plain_labels, warn_of_case

MIN_CLASS_ROWS = 20  # rows that a class needs
_MAX_EXAMPLE_CLASSES = 4  # classes that a message names
_MAX_EXAMPLE_IDS = 3  # ids that a message names


def clean_labels(
    column: ArrayLike,
    *,
    unlabelled: Sequence[str] = ("unknown",),
    classes: Sequence[str] | None = None,
    name: str = "label",
    fewest: int = MIN_CLASS_ROWS,
    say: Say = say_nothing,
) -> NDArray[Any]:
    """Return classes as text, ``""`` for rows without a usable label, in an object array.

    White space around a class does not count; a warning names classes that differ only in upper
    and lower case.

    Parameters
    ----------
    column : array-like of shape (n,)
        Text, integers or booleans. Missing, masked and blank values and -1 mean no label.
    unlabelled : sequence of str, default=("unknown",)
        Values that mean no label.
    classes : sequence of str, default=None
        The classes to keep; rows of other classes become unlabelled. With None all are kept.
    name : str, default="label"
        The name of the column, for messages.
    fewest : int, default=20
        Number of rows below which a class is left out. With 0, a column without classes is valid.
    say : callable
        Called with a sentence about classes that are left out.

    Raises
    ------
    ValueError
        The column holds measurements, lacks one of ``classes``, or fewer than two classes
        have ``fewest`` rows.

    Examples
    --------
    >>> labels = ["star", "galaxy", None, "unknown"] * 20
    >>> clean_labels(labels)[:4].tolist()
    ['star', 'galaxy', '', '']
    """
    labels = _read_classes(column, name)
    _remove_labels(labels, labels.isin([*unlabelled]), "", say)
    warn_of_case(sorted(set(labels)))

    # classes that are not asked for
    if classes is not None:
        classes = [str(value) for value in classes]
        present = sorted(set(labels) - {""})
        if absent := [value for value in classes if value not in set(labels)]:
            raise ValueError(
                f"classes names {absent[0]!r}, which {name!r} lacks: it has {', '.join(present)}."
            )
        unwanted = ~labels.isin(["", *classes])
        _remove_labels(labels, unwanted, "not among the classes asked for", say)

    # classes of few rows
    sizes = labels[labels != ""].value_counts()
    rare = sizes.index[sizes < fewest]
    if fewest and len(sizes) - len(rare) < 2:
        raise ValueError(
            f"label={name!r} has fewer than two classes of at least {fewest} rows: "
            "choose another column, or label more rows."
        )
    _remove_labels(labels, labels.isin(rare), f"too rare to learn (under {fewest} rows)", say)
    return labels.to_numpy(dtype=object)


def _read_classes(column: Any, name: str) -> pd.Series:
    """Return classes as text, and missing classes as ""."""
    values, is_labelled = plain_labels(column)
    given = pd.Series(values)[is_labelled].infer_objects()
    if pd.api.types.is_float_dtype(given):
        if not np.equal(np.mod(given, 1), 0).all():
            raise ValueError(
                f"label={name!r} holds measurements, not classes: choose another "
                "column, or predict numbers with `skastro regress`."
            )
        given = given.astype(np.int64)
    text = given.astype(str).replace(str(UNLABELLED), "")
    return text.reindex(range(len(values)), fill_value="").astype(object)


def _remove_labels(labels: pd.Series, rows: pd.Series, reason: str, say: Say) -> None:
    """Remove the labels of some rows, in place, and say which classes they had."""
    sizes = labels[rows].value_counts()
    labels[rows] = ""
    if not len(sizes):
        return
    counts = {repr(value): int(size) for value, size in sizes.head(_MAX_EXAMPLE_CLASSES).items()}
    if len(sizes) > _MAX_EXAMPLE_CLASSES:
        others = sizes[_MAX_EXAMPLE_CLASSES:]
        counts[f"{len(others)} others"] = int(others.sum())
    names = ", ".join(f"{name} ({n:,} row{'s' * (n != 1)})" for name, n in counts.items())
    reason = f"{reason}, and taken as unlabelled" if reason else "taken as unlabelled"
    say(f"{names} {'is' if len(sizes) == 1 else 'are'} {reason}.")


def read_labels(
    paths: Sequence[str | os.PathLike[str]],
    label: str,
    ids: ArrayLike,
    *,
    numbers: bool = False,
) -> tuple[NDArray[Any], list[str]]:
    r"""Read the labels of objects from tables that have the columns ``id`` and ``label``.

    Returns the label of each of ``ids`` as in the tables, text without white space around it, None
    for objects without one, and sentences about labels of other objects. The column of ids may
    have any of the usual names. A table without these columns, with an id twice or with none of
    ``ids``, and two tables that disagree are a ValueError. In a journal of `skastro label` (columns
    ``time`` and ``how``) an id may have several lines, of which the last one counts. With
    ``numbers`` the labels are float64, and text is a ValueError.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     with open(f"{folder}/labels.csv", "w") as file:
    ...         _ = file.write("id,class\n7,star\n8,galaxy\n")
    ...     read_labels([f"{folder}/labels.csv"], "class", [8, 9, 7])[0].tolist()
    ['galaxy', None, 'star']
    """
    labels = np.full(len(np.asarray(ids)), None, dtype=object)
    notes = []
    for path in paths:
        table = read_catalog(path)
        if label not in table.columns:
            raise ValueError(f"{path} has no column {label!r}{name_near(label, table.columns)}")
        id_column = find_column(table, "id")
        if id_column is None:
            raise ValueError(f"{path} has no column of ids: call it 'id'.")
        if is_journal(table.columns):  # of `skastro label`: the last line of an id counts
            table = table[~table[id_column].duplicated(keep="last")]
        if numbers:
            values = to_floats(table[label], f"{path} column {label!r}").to_numpy()
            is_labelled = ~np.isnan(values)
        else:
            values, is_labelled = plain_labels(table[label])
        table, values = table[is_labelled], values[is_labelled].tolist()

        # the labels of the objects asked for
        rows = find_rows(ids, table[id_column], name=str(path))
        if len(table) and (rows < 0).all():
            examples = ", ".join(map(str, table[id_column].head(_MAX_EXAMPLE_IDS)))
            raise ValueError(
                f"{path} has no id of the data (but {examples}): check its column {id_column!r}."
            )
        for row in np.flatnonzero(rows >= 0):
            value = values[rows[row]]
            if labels[row] not in (None, value):
                raise ValueError(
                    f"{path} labels {np.asarray(ids)[row]} as {value!r}, another table as "
                    f"{labels[row]!r}: keep one of them."
                )
            labels[row] = value
        if n_lost := len(table) - int((rows >= 0).sum()):
            notes.append(f"{n_lost:,} of the {len(table):,} labels in {path} are of other objects.")
    return labels, notes
