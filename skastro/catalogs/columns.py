"""Find the columns of a catalogue by their usual names and by patterns."""

from __future__ import annotations

from collections.abc import Sequence
from fnmatch import fnmatchcase
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from skastro.utils.progress import Say, say_nothing
from skastro.utils.validation import check_properties, check_property_errors, name_near

USUAL_COLUMN_NAMES = {  # usual names of what locates an object, in lower case, the best first
    "id": ("id", "objid", "source_id", "object_id", "objectid", "sourceid"),
    "file": ("file", "filename", "path"),
    "ra": ("ra", "raj2000", "ra_icrs", "alpha_j2000", "ramean", "_raj2000"),
    "dec": ("dec", "dej2000", "decj2000", "de_icrs", "delta_j2000", "decmean", "_dej2000"),
    "x": ("x", "x_image", "xcentroid"),
    "y": ("y", "y_image", "ycentroid"),
}
_PLACEHOLDER_ROWS = 10


def find_placeholders(values: pd.Series) -> dict[float, int]:
    """Find fractional values that come back far too often in a column of measurements.

    Returns
    -------
    counts : dict of float to int
        Values that are there at least 10 times, and 5 times as often as 95 % of the others, in a
        column most of whose other values are unique; the most frequent first.

    Examples
    --------
    >>> find_placeholders(pd.Series([27.434] * 12 + [20.5, 21.5, 19.25] + list(range(30))))
    {27.434: 12}
    """
    counts = values.value_counts()
    often = counts >= max(_PLACEHOLDER_ROWS, 5 * counts.quantile(0.95))
    others = counts[~often]
    if len(others) <= others.sum() / 2:  # rounded so coarsely that values do repeat
        return {}
    return {value: int(n) for value, n in counts[often].items() if value % 1}


def find_column(catalog: pd.DataFrame, kind: str) -> str | None:
    """Find the column of ids, files or positions by its usual names.

    Parameters
    ----------
    catalog : DataFrame
    kind : {"id", "file", "ra", "dec", "x", "y"}

    Returns
    -------
    column : str or None

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
    say: Say | None = None,
) -> tuple[pd.DataFrame | None, NDArray[np.float64] | None, dict[str, str]]:
    """Take the columns of properties and of their errors out of a catalogue.

    Parameters
    ----------
    catalog : DataFrame of n rows
    properties, errors, label
        As in `load_data`.
    say : callable, default=None
        Told of errors that belong to no property.

    Returns
    -------
    table : DataFrame of shape (n, p) or None
        None where no property is asked for.
    spread : float64 array of shape (n, p) or None
        Their errors; NaN = unknown.
    owners : dict of str to str
        Property to the column of its error.

    Raises
    ------
    ValueError
        A pattern matches nothing or the label, or there are errors without properties.

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
    owners = match_errors(chosen, error_columns)
    if idle := [column for column in error_columns if column not in owners.values()]:
        (say or say_nothing)(
            f"No property belongs to the errors {', '.join(idle)}: they are not used."
        )
    table = check_properties(catalog[chosen], len(catalog)) if chosen else None
    return table, _take_errors(catalog, table, owners) if owners else None, owners


def select_columns(
    columns: Sequence[str], patterns: Sequence[str], *, label: str | None, name: str = "properties"
) -> list[str]:
    """Return the columns that patterns such as ``"mag_*"`` name, in the order of the patterns.

    Raises
    ------
    ValueError
        A pattern matches nothing, or the label column.

    Examples
    --------
    >>> select_columns(["id", "mag_g", "mag_r", "u_g"], ["u_g", "mag_*"], label=None)
    ['u_g', 'mag_g', 'mag_r']
    """
    chosen: dict[str, None] = {}
    for pattern in patterns:
        found = [column for column in columns if fnmatchcase(column, pattern)]
        if not found:
            near = name_near(pattern, columns)
            raise ValueError(f"{name}={pattern!r} matches no column{near}")
        if label in found:
            raise ValueError(
                f"{name}={pattern!r} takes in the label column {label!r}: name the columns so "
                "that it stays out, or the classes would be learned from themselves."
            )
        chosen |= dict.fromkeys(found)
    return list(chosen)


def match_errors(properties: Sequence[str], errors: Sequence[str]) -> dict[str, str]:
    """Find the error column of each property by its name.

    An error whose name holds a property's name (``err_mag_g``, ``redshift_err``) is that
    property's. Others are matched by their ending, all to properties of one kind, which is the
    one with most matches: ``err_g`` is the error of ``mag_g``, not of the colour ``u_g``.

    Returns
    -------
    owners : dict of str to str
        Property to error column; properties without one are left out.

    Examples
    --------
    >>> match_errors(["u_g", "mag_g", "mag_r"], ["err_g", "err_r"])
    {'mag_g': 'err_g', 'mag_r': 'err_r'}
    """
    found, by_ending = {}, {}
    for column in errors:
        _, _, ending = column.partition("_")
        beginning, _, _ = column.rpartition("_")
        same = [name for name in (ending, beginning) if name in properties and name != column]
        if same:
            found[same[0]] = column
        elif ending:
            by_ending[ending] = column
    kinds: dict[str, dict[str, str]] = {}
    for name in properties:
        for ending, column in by_ending.items():
            if name.endswith(f"_{ending}") and name not in found:
                kinds.setdefault(name.removesuffix(f"_{ending}"), {})[name] = column
    best = max(kinds.values(), key=len, default={})
    return {name: (found | best)[name] for name in properties if name in found | best}


def _take_errors(
    catalog: pd.DataFrame, table: pd.DataFrame, owners: dict[str, str]
) -> NDArray[Any]:
    unknown = np.full(len(catalog), np.nan)
    columns = {
        name: catalog[owners[name]].to_numpy() if name in owners else unknown for name in table
    }
    return check_property_errors(pd.DataFrame(columns), table)
