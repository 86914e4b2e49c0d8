"""Find the columns of a catalogue by their usual names and by patterns."""

from __future__ import annotations

from collections.abc import Sequence
from fnmatch import fnmatchcase

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from skastro.utils.progress import Say, say_nothing
from skastro.utils.validation import check_properties, check_property_errors, name_near

USUAL_COLUMN_NAMES = {  # in lower case, the preferred name first
    "id": ("id", "objid", "source_id", "object_id", "objectid", "sourceid"),
    "file": ("file", "filename", "path"),
    "ra": ("ra", "raj2000", "ra_icrs", "alpha_j2000", "ramean", "_raj2000"),
    "dec": ("dec", "dej2000", "decj2000", "de_icrs", "delta_j2000", "decmean", "_dej2000"),
    "x": ("x", "x_image", "xcentroid"),
    "y": ("y", "y_image", "ycentroid"),
}
_MIN_PLACEHOLDER_ROWS = 10  # rows with the same value


def find_placeholders(values: pd.Series) -> dict[float, int]:
    """Count the fractional values that are far too frequent in a column of measurements.

    They occur at least 10 times, and 5 times as often as 95 % of all values. The most frequent
    value comes first. A column whose other values mostly repeat too has no placeholders.

    Examples
    --------
    >>> find_placeholders(pd.Series([27.434] * 12 + [20.5, 21.5, 19.25] + list(range(30))))
    {27.434: 12}
    """
    counts = values.value_counts()
    is_frequent = counts >= max(_MIN_PLACEHOLDER_ROWS, 5 * counts.quantile(0.95))
    others = counts[~is_frequent]
    if len(others) <= others.sum() / 2:  # coarsely rounded values repeat anyway
        return {}
    return {value: int(n) for value, n in counts[is_frequent].items() if value % 1}


def find_column(catalog: pd.DataFrame, kind: str) -> str | None:
    """Find a column by the usual names of its kind; return None if the catalogue lacks one.

    The kinds are "id", "file", "ra", "dec", "x" and "y".

    Examples
    --------
    >>> find_column(pd.DataFrame({"RAJ2000": [1.0]}), "ra")
    'RAJ2000'
    """
    names = {str(name).lower(): name for name in catalog.columns}
    return next((names[name] for name in USUAL_COLUMN_NAMES[kind] if name in names), None)


def take_properties(
    catalog: pd.DataFrame,
    properties: Sequence[str],
    errors: Sequence[str] = (),
    *,
    label: str | None = None,
    say: Say = say_nothing,
) -> tuple[pd.DataFrame | None, NDArray[np.float64] | None, dict[str, str]]:
    """Take the columns of properties and of their errors out of a catalogue.

    ``properties`` and ``errors`` are names of columns or patterns, which must not match the column
    ``label``; see `select_columns`. The results are the checked properties (n, p), None without
    patterns; their float64 errors (n, p), NaN where unknown, None if no property has one; and the
    name of the error column of each property that has one. ``say`` is called with a sentence about
    errors that belong to no property.

    Examples
    --------
    >>> catalog = pd.DataFrame({"mag_g": [20.5, 21.0], "err_g": [0.1, 0.2]})
    >>> take_properties(catalog, ["mag_*"], ["err_*"])[1:]
    (array([[0.1], [0.2]]), {'mag_g': 'err_g'})
    """
    chosen = select_columns(catalog.columns, properties, label=label, name="properties")
    error_columns = select_columns(catalog.columns, errors, label=label, name="errors")
    if error_columns and not chosen:
        raise ValueError("errors needs properties: name the columns they belong to (--properties).")
    error_of = match_errors(chosen, error_columns)
    if unused := [column for column in error_columns if column not in error_of.values()]:
        say(f"No property belongs to the errors {', '.join(unused)}: they are not used.")
    table = check_properties(catalog[chosen], len(catalog)) if chosen else None
    if table is None or not error_of:
        return table, None, error_of
    columns = {name: catalog[error_of[name]] if name in error_of else np.nan for name in table}
    spread = check_property_errors(pd.DataFrame(columns, index=catalog.index), table)
    return table, spread, error_of


def select_columns(
    columns: Sequence[str],
    patterns: Sequence[str],
    *,
    label: str | None = None,
    name: str = "properties",
    table: str = "the catalogue",
) -> list[str]:
    """Return the columns that match patterns such as ``"mag_*"``, in the order of the patterns.

    A pattern that matches no column, or matches the column ``label``, is a ValueError. Its message
    uses ``name`` for the argument and ``table`` for the table.

    Examples
    --------
    >>> select_columns(["id", "mag_g", "mag_r", "u_g"], ["u_g", "mag_*"])
    ['u_g', 'mag_g', 'mag_r']
    """
    chosen: dict[str, None] = {}
    for pattern in patterns:
        matches = [column for column in columns if fnmatchcase(column, pattern)]
        if not matches:
            near = name_near(pattern, columns)
            raise ValueError(f"{name}={pattern!r} matches no column of {table}{near}")
        if label in matches:
            raise ValueError(
                f"{name}={pattern!r} takes in the label column {label!r}: name the columns so "
                "that it stays out, or the classes would be learned from themselves."
            )
        chosen |= dict.fromkeys(matches)
    return list(chosen)


def match_errors(properties: Sequence[str], errors: Sequence[str]) -> dict[str, str]:
    """Find the error column of each property by its name.

    The name of an error column may contain the name of its property (``err_mag_g``,
    ``redshift_err``). All other error columns are matched by their ending to properties with one
    beginning, the beginning with most matches: ``err_g`` belongs to ``mag_g``, not to the colour
    ``u_g``. Properties without an error column are left out of the result.

    Examples
    --------
    >>> match_errors(["u_g", "mag_g", "mag_r"], ["err_g", "err_r"])
    {'mag_g': 'err_g', 'mag_r': 'err_r'}
    """
    # error columns whose name contains the name of a property
    error_of, by_ending = {}, {}
    for column in errors:
        beginning, ending = column.rpartition("_")[0], column.partition("_")[2]
        same = [name for name in (ending, beginning) if name in properties and name != column]
        if same:
            error_of[same[0]] = column
        elif ending:
            by_ending[ending] = column

    # the other error columns, by their ending and the beginning with most matches
    by_beginning: dict[str, dict[str, str]] = {}
    for name in properties:
        for ending, column in by_ending.items():
            if name.endswith(f"_{ending}") and name not in error_of:
                beginning = name.removesuffix(f"_{ending}")
                by_beginning.setdefault(beginning, {})[name] = column
    best: dict[str, str] = max(by_beginning.values(), key=len, default={})
    error_of |= best
    return {name: error_of[name] for name in properties if name in error_of}
