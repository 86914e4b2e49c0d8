"""What a study learns from: stamps, and columns of their catalogue chosen by name."""

from __future__ import annotations

import glob
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from sklearn.utils import Bunch

from skastro.utils.validation import check_properties, check_property_errors
from skastro.catalogs.reading import name_near
from skastro.simulation.survey import make_survey
from skastro.surveys.folders import load_folder, load_survey
from skastro.simulation.telescope import choose_jobs

MIN_CLASS_ROWS = 20
SURVEY_OBJECTS = 6000
SURVEY_LABEL, SURVEY_PROPERTIES, SURVEY_ERRORS = "class", ("mag_*",), ("err_*",)
_NAMED = 4  # classes that a message names, before it counts the others

Say = Callable[[str], None]


@dataclass(frozen=True)
class StudyData:
    """What a study learns from: stamps and the columns of their catalogue, row by row.

    Parameters
    ----------
    images : array-like of shape (n, bands, height, width)
    labels : object array of shape (n,)
        Classes as text; ``""`` where unlabelled.
    ids : array of shape (n,)
    properties : DataFrame of shape (n, p) or None
        Checked: float64, NaN = not measured.
    errors : float64 array of shape (n, p) or None
        1-sigma errors in the order of the properties; NaN = unknown.
    groups : array of shape (n,) or None
        Rows that belong on one side of the split.
    source : str
        Where the rows come from, for the report.
    label, group_by : str
        Names of the columns that ``labels`` and ``groups`` were; "" without groups.
    error_columns : dict of str to str
        Property to the column of its error.
    """

    images: Any
    labels: NDArray[Any]
    ids: NDArray[Any]
    properties: pd.DataFrame | None = None
    errors: NDArray[Any] | None = None
    groups: NDArray[Any] | None = None
    source: str = "arrays in memory"
    label: str = "labels"
    group_by: str = ""
    error_columns: dict[str, str] = field(default_factory=dict)


def load_data(
    folder: str | Path | None = None,
    *,
    catalog: str | Path | None = None,
    images: Sequence[str] | str | Path | None = None,
    id: str | None = None,  # noqa: A002 - the catalogue's word, as in read_catalog
    ra: str | None = None,
    dec: str | None = None,
    size: int | None = None,
    label: str | None = None,
    properties: Sequence[str] = (),
    errors: Sequence[str] = (),
    unlabelled: Sequence[str] = ("unknown",),
    classes: Sequence[str] | None = None,
    groups: str | None = None,
    n_objects: int = SURVEY_OBJECTS,
    random_state: int = 0,
    say: Say | None = None,
) -> StudyData:
    """Read a data folder or two files, or simulate a survey, and choose its columns.

    Parameters
    ----------
    folder : path, default=None
        A data folder as `load_folder` reads it. Without it and without files a survey is
        simulated, whose columns need not be named.
    catalog : path, default=None
        A catalogue, with ``images``, instead of a folder.
    images : path or sequence of str, default=None
        Stamps: a file, a folder, a pattern, or mosaics as ``"band=path"``; see `load_survey`.
    id, ra, dec, size
        As in `load_survey`.
    label : str, default=None
        Column of the classes.
    properties, errors : sequence of str, default=()
        Columns, or patterns such as ``"mag_*"``; `match_errors` says which error belongs to
        which property.
    unlabelled : sequence of str, default=("unknown",)
        Values of the label column that mean no label, as empty ones do.
    classes : sequence of str, default=None
        Restrict the labels to these.
    groups : str, default=None
        Column of what must not be torn apart by the split.
    n_objects, random_state : int
        Of the simulated survey.
    say : callable, default=None
        Called with a sentence on each thing worth knowing.

    Returns
    -------
    data : StudyData

    Raises
    ------
    ValueError, OSError
        The data cannot be used; the message names the argument and the remedy.
    """
    say = say or _silent
    if folder is None and catalog is None and images is None:
        survey = make_survey(n_objects, random_state=random_state, n_jobs=choose_jobs(n_objects))
        source = f"simulated survey of {n_objects:,} objects (seed {random_state})"
        label = label or SURVEY_LABEL
        if not properties:
            properties, errors = SURVEY_PROPERTIES, SURVEY_ERRORS
        return _choose(survey, source, label, properties, errors, unlabelled, classes, groups, say)
    data, source = read_data(
        folder, catalog=catalog, images=images, id=id, ra=ra, dec=dec, size=size
    )
    say(data.join)
    if label is None:
        raise ValueError(
            "label is missing: name the column of the classes (--label), out of "
            f"{', '.join(data.catalog.columns)}."
        )
    return _choose(data, source, label, properties, errors, unlabelled, classes, groups, say)


def read_data(
    folder: str | Path | None = None,
    *,
    catalog: str | Path | None = None,
    images: Sequence[str] | str | Path | None = None,
    id: str | None = None,  # noqa: A002 - the catalogue's word, as in read_catalog
    ra: str | None = None,
    dec: str | None = None,
    size: int | None = None,
) -> tuple[Bunch, str]:
    """Read a data folder, or stamps of any kind and their catalogue.

    Parameters
    ----------
    folder : path, default=None
        As `load_folder` reads it.
    catalog, images, id, ra, dec, size
        As `load_survey` takes them; ``images`` may be mosaics as a sequence of ``"band=path"``,
        where a path may be a pattern such as ``tile_g_*.fits``.

    Returns
    -------
    data : Bunch
        ``images``, ``catalog`` and ``join``.
    source : str
        Where they come from.
    """
    if folder is not None:
        if catalog is not None or images is not None:
            raise ValueError("pass a folder, or a catalog and images, not both.")
        return load_folder(folder), str(folder)
    if catalog is None or not images:
        missing = "catalog" if catalog is None else "images"
        raise ValueError(f"{missing} is missing: pass both a catalog and images, or a folder.")
    data = load_survey(_mosaics(images), catalog, id=id, ra=ra, dec=dec, size=size)
    shown = images if isinstance(images, (str, Path)) else ", ".join(map(str, images))
    return data, f"{catalog} and {shown}"


def _mosaics(images: Sequence[str] | str | Path) -> Any:
    """Tell mosaics, given as "band=path" (several times for several tiles), from one path."""
    given = [images] if isinstance(images, (str, Path)) else list(images)
    mosaics: dict[str, list[str]] = {}
    for text in map(str, given):
        band, found, path = text.partition("=")
        if not found:
            if len(given) > 1:
                raise ValueError(f"images={text!r} must be band=path, where several are given.")
            return text
        # a pattern that the shell could not expand behind the "=" is expanded here
        tiles = sorted(glob.glob(path)) if glob.has_magic(path) else [path]  # noqa: PTH207
        if not tiles:
            raise ValueError(f"images={text!r} matches no file: correct the pattern.")
        mosaics.setdefault(band, []).extend(tiles)
    return mosaics


def _choose(
    data: Bunch,
    source: str,
    label: str,
    properties: Sequence[str],
    errors: Sequence[str],
    unlabelled: Sequence[str],
    classes: Sequence[str] | None,
    groups: str | None,
    say: Say,
) -> StudyData:
    """Take the wanted columns out of a catalogue."""
    catalog = data.catalog
    for name, column in (("label", label), ("groups", groups)):
        if column is not None and column not in catalog.columns:
            near = name_near(column, catalog.columns)
            raise ValueError(f"{name}={column!r} is no column{near}")
    labels = settle_labels(
        catalog[label], unlabelled=unlabelled, classes=classes, name=label, say=say
    )
    table, spread, owners = take_properties(catalog, properties, errors, label=label, say=say)
    return StudyData(
        images=data.images,
        labels=labels,
        ids=catalog["id"].to_numpy() if "id" in catalog else np.arange(len(catalog)),
        properties=table,
        errors=spread,
        groups=None if groups is None else catalog[groups].to_numpy(),
        source=source,
        label=label,
        group_by=groups or "",
        error_columns=owners,
    )


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
        (say or _silent)(f"No property belongs to the errors {', '.join(idle)}: they are not used.")
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
    say = say or _silent
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
        named = [f"{value!r} ({_rows(number)})" for value, number in sizes.head(_NAMED).items()]
        if len(sizes) > _NAMED:
            named.append(f"{len(sizes) - _NAMED} others ({_rows(sizes[_NAMED:].sum())})")
        say(f"{', '.join(named)} {'is' if len(sizes) == 1 else 'are'} {why}.")
    labels[rows] = ""


def _silent(_text: str) -> None:
    """Drop a message."""


def _rows(number: int) -> str:
    return f"{number:,} row{'s' * (number != 1)}"
