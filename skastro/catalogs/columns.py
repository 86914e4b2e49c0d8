"""Find the columns of a catalogue by their usual names and by patterns."""

from __future__ import annotations

import re
from collections.abc import Sequence
from fnmatch import fnmatchcase
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from pandas.api.types import is_float_dtype, is_numeric_dtype

from skastro.utils.progress import Say, say_nothing
from skastro.utils.tables import to_frame
from skastro.utils.validation import check_properties, check_property_errors, name_near

USUAL_COLUMN_NAMES = {  # in lower case with "_" between words, the preferred name first
    "id": (
        "id", "objid", "source_id", "object_id", "objectid", "sourceid", "galaxyid", "galaxy_id",
        "targetid", "target_id", "specobjid", "id_str", "iauname", "iau_name",
    ),
    "file": (
        "file", "filename", "file_name", "file_loc", "filepath", "file_path", "path", "image_file",
        "image_path", "image_name", "img_path", "image", "stamp_file", "stamp", "cutout",
        "fits_file", "png_loc", "jpg_loc",
    ),
    "ra": (
        "ra", "raj2000", "ra_icrs", "alpha_j2000", "alphawin_j2000", "ramean", "_raj2000",
        "ra_j2000", "ra_deg", "radeg", "target_ra",
    ),
    "dec": (
        "dec", "dej2000", "decj2000", "de_icrs", "delta_j2000", "deltawin_j2000", "decmean",
        "_dej2000", "dec_icrs", "dec_j2000", "dec_deg", "decdeg", "dedeg", "target_dec",
    ),
    "x": ("x", "x_image", "xwin_image", "xcentroid"),
    "y": ("y", "y_image", "ywin_image", "ycentroid"),
}  # fmt: skip
_ID_NAME = re.compile(r"id|.*objid|.*_id|id_.*")  # names of ids that are not usual ones
_NAMES_OF_OBJECTS = ("number", "name", "objname", "object_name", "designation")  # ids if unique
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


def plain_name(column: Any) -> str:
    """Return the name of a column in lower case, with "_" in place of blanks, dots and hyphens.

    Examples
    --------
    >>> plain_name(" Object ID")
    'object_id'
    """
    return re.sub(r"[\s.-]+", "_", str(column).strip().lower())


def is_id_name(column: Any) -> bool:
    """Return whether a column has the name of an id, such as ``objID``, ``TARGETID`` or ``dr8_id``.

    Examples
    --------
    >>> [name for name in ("GalaxyID", "dr8_id", "redshift", "grid") if is_id_name(name)]
    ['GalaxyID', 'dr8_id']
    """
    name = plain_name(column)
    return name in USUAL_COLUMN_NAMES["id"] or _ID_NAME.fullmatch(name) is not None


def find_column(catalog: pd.DataFrame, kind: str) -> str | None:
    """Find a column by the usual names of its kind; return None if the catalogue lacks one.

    The kinds are "id", "file", "ra", "dec", "x" and "y". Upper and lower case are alike, and so
    are blanks, dots, hyphens and "_" between words. The name of a file is text. Without a usual
    name, the ids are the first column without a missing or a repeated value that is named like an
    id (``dr8_id``), or is called ``number``, ``name``, ``objname``, ``object_name`` or
    ``designation``.

    Examples
    --------
    >>> find_column(pd.DataFrame({"RAJ2000": [1.0]}), "ra")
    'RAJ2000'
    >>> find_column(pd.DataFrame({"field_id": [1, 1], "dr8_id": ["a", "b"]}), "id")
    'dr8_id'
    """
    names: dict[str, str] = {}
    for column in catalog.columns:
        names.setdefault(plain_name(column), column)
    usual = [names[name] for name in USUAL_COLUMN_NAMES[kind] if name in names]
    if kind == "file":
        usual = [name for name in usual if not is_numeric_dtype(catalog[name])]
    if usual or kind != "id":
        return usual[0] if usual else None
    # other names of ids, and names of objects
    others = [column for column in catalog.columns if is_id_name(column)]
    others += [names[name] for name in _NAMES_OF_OBJECTS if name in names]
    return next((name for name in others if _is_unique(catalog[name])), None)


def are_whole(values: ArrayLike, dtype: Any = np.float64) -> bool:
    """Return whether all floats are whole numbers that a float dtype holds without rounding.

    Examples
    --------
    >>> are_whole([98.0, 2.0**53]), are_whole([98.0]), are_whole([0.5])
    (False, True, False)
    """
    floats = np.asarray(values, dtype=np.float64)
    largest = 2.0 ** (np.finfo(dtype).nmant + 1)
    return bool((floats % 1 == 0).all() and (np.abs(floats) < largest).all())


def require_column(catalog: pd.DataFrame, name: str | None, kind: str, argument: str) -> str:
    """Return the column of a name, or without one the usual column of a kind, if it exists."""
    column = name or find_column(catalog, kind)
    if column is None or column not in catalog.columns:
        nouns = {"ra": "right ascension", "dec": "declination"}
        what = repr(name) if name else f"of {nouns.get(kind, kind)}s"
        raise ValueError(
            f"catalog has no column {what}: name it with {argument}= "
            f"(it has {', '.join(map(str, catalog.columns))})."
        )
    return column


def _is_unique(values: pd.Series) -> bool:
    return bool(values.notna().all()) and not is_float_dtype(values) and values.is_unique


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
    ``label``; see `match_columns`. The results are the checked properties (n, p), None without
    patterns; their float64 errors (n, p), NaN where unknown, None if no property has one; and the
    name of the error column of each property that has one. ``say`` is called with a sentence about
    errors that belong to no property.

    Examples
    --------
    >>> catalog = pd.DataFrame({"mag_g": [20.5, 21.0], "err_g": [0.1, 0.2]})
    >>> take_properties(catalog, ["mag_*"], ["err_*"])[1:]
    (array([[0.1], [0.2]]), {'mag_g': 'err_g'})
    """
    chosen = match_columns(catalog.columns, properties, label=label, name="properties")
    error_columns = match_columns(catalog.columns, errors, label=label, name="errors")
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


def select_columns(catalog: Any, columns: str | Sequence[str]) -> pd.DataFrame:
    """Take columns of a catalogue by their names or by patterns such as ``"mag_*"``.

    Parameters
    ----------
    catalog : DataFrame, astropy Table, dict of columns or other table
        A table of n rows whose columns have names.
    columns : str or sequence of str
        Names and patterns, also as one text with commas between them: ``"mag_*,u_g"``. A pattern
        has to match the whole name, upper and lower case included: ``*`` stands for any letters,
        ``?`` for one letter, and ``[gri]`` for one of these.

    Returns
    -------
    table : DataFrame of n rows
        The columns in the order of the patterns; known units are in ``table.attrs["units"]``.

    Raises
    ------
    ValueError
        A name or pattern matches no column, or the columns have no names.

    Examples
    --------
    >>> catalog = pd.DataFrame({"mag_g": [20.5], "mag_r": [19.9], "meas_apmag_u": [-9.0]})
    >>> select_columns(catalog, "mag_*").columns.tolist()
    ['mag_g', 'mag_r']
    """
    patterns = columns.split(",") if isinstance(columns, str) else columns
    fields = getattr(getattr(catalog, "dtype", None), "names", None)
    fields = fields or getattr(catalog, "column_names", None)  # of pyarrow
    names = list(fields or getattr(catalog, "columns", catalog))
    if not all(isinstance(name, str) for name in names):
        raise ValueError("catalog has columns without names: pass a DataFrame with names.")
    chosen = match_columns(names, [pattern.strip() for pattern in patterns], name="columns")
    if isinstance(catalog, pd.DataFrame):
        return catalog[chosen]
    return to_frame({name: catalog[name] for name in chosen}, "catalog")


def match_columns(
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
    >>> match_columns(["id", "mag_g", "mag_r", "u_g"], ["u_g", "mag_*"])
    ['u_g', 'mag_g', 'mag_r']
    """
    chosen: dict[str, None] = {}
    for pattern in patterns:
        matches = [name for name in columns if name == pattern or fnmatchcase(name, pattern)]
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
