"""Inspect stamps and their catalogue before training."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
from sklearn.model_selection import cross_val_score
from sklearn.tree import DecisionTreeClassifier

from skastro.catalogs.columns import find_column, find_placeholders
from skastro.catalogs.positions import find_positions, has_positions
from skastro.stamps.arrays import as_stack, has_known_axes
from skastro.stamps.axes import looks_channels_last
from skastro.stamps.containers import to_array
from skastro.surveys.groups import find_duplicates
from skastro.surveys.pixel_faults import PixelFaults, find_pixel_faults
from skastro.utils.files import first_line
from skastro.utils.notebooks import as_html, list_some
from skastro.utils.tables import as_frame
from skastro.utils.validation import (
    SENTINELS,
    UNLABELLED,
    count_padded,
    find_sentinels,
    name_near,
    plain_labels,
    stratified_folds,
)

_LEAK_ACCURACY = 0.95  # balanced accuracy of a column that almost equals the label
_MAX_TREE_LEAVES = 20  # for the tree that predicts the label from a column of numbers
_MIN_ROWS_PER_CODE = 10  # a column of text with fewer rows for each value holds names, not codes
_N_FOLDS = 3
_MIN_GROUPS = 5  # a column of fewer values is not useful for splits by groups
_MIN_COMMON_SHARE = 0.3  # of the rows of a column with many other values
_MIN_DISTINCT = 10  # values of a column of measurements
_FAR_AWAY = 3  # ranges of all other values
_FILL_VALUES = (*SENTINELS, 9999.0, -1.0)  # numbers that often stand for a missing one
_FILL_TEXTS = ("none", "nan", "null", "n/a", "na", "--", "-", "?", "<na>", "masked")


@dataclass(frozen=True, repr=False)
class Inspection:
    """Result of `inspect_survey`.

    Parameters
    ----------
    stamps : dict
        ``n``, ``bands``, ``band_names``, ``height``, ``width``, ``dtype``, and of the ``n_read``
        stamps that could be read ``missing_pixels`` (share of NaN pixels) and numbers of stamps:
        ``empty`` (no finite pixel, or one value only), ``infinite`` (an infinite pixel),
        ``saturated`` (a block of the highest value), ``zero_bands`` and ``constant_bands`` (by
        band), ``fill_values`` (by the value of a block, row or column of equal pixels) and
        ``equal_bands`` (by the two bands that hold the same pixels).
    columns : DataFrame
        One row for each column of the catalogue: ``column``, ``missing`` (share of NaN),
        ``distinct`` (number of values), ``use`` ("label", "property", "error" or "") and
        ``remarks``.
    classes : dict of str to int
        Number of rows of each class; "" counts the rows without a label.
    duplicates : dict of str to int
        Number of copies beyond the first, by "pixels", "sky" and "id".
    groups : dict of str to int
        Columns that could serve as ``groups=`` of a split, with the number of their values.
    notes : list of str
        Sentences on how stamps and catalogue were read and joined.
    unreadable : dict of int to str
        The error of each row whose stamp cannot be read.
    problems : list of str
        Sentences on what to correct, the worst first.
    n_padded_labels : int
        Number of labels with white space around them, which is no part of their class.

    Examples
    --------
    >>> catalog = pd.DataFrame({"id": [1, 2, 2], "mag_r": [20.5, np.nan, 21.5]})
    >>> inspection = inspect_survey(np.arange(192.0).reshape(3, 1, 8, 8), catalog)
    >>> inspection.duplicates, inspection.columns["missing"].round(2).tolist()
    ({'pixels': 0, 'id': 1}, [0.0, 0.33])
    """

    stamps: dict[str, Any]
    columns: pd.DataFrame
    classes: dict[str, int] = field(default_factory=dict)
    duplicates: dict[str, int] = field(default_factory=dict)
    groups: dict[str, int] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    unreadable: dict[int, str] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    n_padded_labels: int = 0

    def __repr__(self) -> str:
        n, n_problems = self.stamps["n"], len(self.problems)
        found = f"{n_problems or 'no'} problem{'s' if n_problems != 1 else ''}"
        lines = [f"Inspection of {n:,} stamps and {len(self.columns)} columns: {found}"]
        lines += [f"- {problem}" for problem in self.problems]
        if self.classes:
            lines.append(f"classes: {list_some(self.classes)}")
        if self.groups:
            lines.append(f"groups: {list_some(self.groups)}")
        return "\n".join([*lines, *self.notes])

    def _repr_html_(self) -> str:
        return as_html(repr(self), self.columns)


def inspect_survey(
    images: Any,
    catalog: pd.DataFrame,
    *,
    label: str | None = None,
    properties: Sequence[str] = (),
    errors: Sequence[str] = (),
    ra: str | None = None,
    dec: str | None = None,
    radius: float = 1.0,
    notes: Sequence[str] = (),
) -> Inspection:
    """Look for problems in the data: damaged files, fill values, leaks of the label, copies.

    All stamps are read once. Those that cannot be read are listed, and all others inspected.

    Parameters
    ----------
    images : array-like of shape (n, bands, height, width)
        Stamps.
    catalog : DataFrame of n rows
        Catalogue of the same objects, in the same order.
    label : str, default=None
        Column of the classes.
    properties, errors : sequence of str, default=()
        Columns of the pretext targets, and of their errors.
    ra, dec : str, default=None
        Columns of the positions. None means the columns with the usual names.
    radius : float, default=1.0
        Largest separation in arcsec of two rows that show one object.
    notes : sequence of str, default=()
        Sentences to add to the result.

    Returns
    -------
    inspection : Inspection

    Raises
    ------
    ValueError
        Stamps and catalogue differ in length, or a named column is missing.

    Examples
    --------
    >>> stamps = np.random.default_rng(0).normal(size=(40, 1, 8, 8))
    >>> catalog = pd.DataFrame({"class": ["a", "b"] * 20, "mag_r": np.arange(40) % 2 + 20.5})
    >>> inspect_survey(stamps, catalog, label="class", properties=["mag_r"]).problems
    ['property mag_r: predicts the label on its own (balanced accuracy 1.00).']
    """
    images, catalog = to_array(images, name="images"), as_frame(catalog, "catalog")
    if not _may_be_channels_last(images):
        images = as_stack(images, name="images")
    if len(images) != len(catalog):
        raise ValueError(
            f"catalog has {len(catalog)} rows, but there are {len(images)} stamps: join them first."
        )
    used = dict.fromkeys(errors, "error") | dict.fromkeys(properties, "property")
    if label is not None:
        used[label] = "label"
    if absent := [name for name in used if name not in catalog.columns]:
        near = name_near(absent[0], list(map(str, catalog.columns)))
        raise ValueError(f"{absent[0]!r} is not a column{near}")
    classes = pd.Series("", catalog.index)
    if label is not None:
        values, is_labelled = plain_labels(catalog[label])
        classes = pd.Series(values, catalog.index).astype("str").where(is_labelled, "")
    faults = find_pixel_faults(images)
    columns = _inspect_columns(catalog, used, classes)
    duplicates, problem_of_sky = _count_duplicates(faults, catalog, ra, dec, radius)
    return Inspection(
        stamps=_summarise_stamps(images, faults),
        columns=columns,
        classes={} if label is None else classes.value_counts().to_dict(),
        duplicates=duplicates,
        groups=_find_groups(catalog.drop(columns=[] if label is None else label)),
        notes=[*notes, *([] if label is None else _describe_unlabelled(catalog[label], classes))],
        unreadable=faults.unreadable,
        problems=[
            *_describe_stamps(images, faults),
            *problem_of_sky,
            *([] if label is None else _describe_labels(catalog[label], classes)),
            *_describe_rows(duplicates, columns),
        ],
        n_padded_labels=0 if label is None else _count_padded_labels(catalog, label),
    )


def _count_padded_labels(catalog: pd.DataFrame, label: str) -> int:
    """Return the number of labels with white space around them, in the table or in its file."""
    return catalog.attrs.get("padded", {}).get(label, 0) or count_padded(catalog[label])


def _summarise_stamps(images: Any, faults: PixelFaults) -> dict[str, Any]:
    """Return ``stamps`` of `Inspection`."""
    n, bands, height, width = images.shape
    names = _name_bands(images)
    return {
        "n": n,
        "bands": bands,
        "band_names": getattr(images, "bands", None),
        "height": height,
        "width": width,
        "dtype": str(images.dtype),
        "n_read": faults.n_read,
        "missing_pixels": faults.missing_share,
        "empty": faults.empty,
        "infinite": faults.infinite,
        "saturated": faults.saturated,
        "zero_bands": {names[band]: n for band, n in faults.zero.items()},
        "constant_bands": {names[band]: n for band, n in faults.constant.items()},
        "fill_values": dict(faults.fill_values),
        "equal_bands": {f"{names[a]} = {names[b]}": n for (a, b), n in faults.equal.items()},
    }


def _may_be_channels_last(images: Any) -> bool:
    is_stack = len(images.shape) == 4
    return is_stack and looks_channels_last(images.shape) and not has_known_axes(images)


def _name_bands(images: Any) -> list[str]:
    return list(getattr(images, "bands", None) or map(str, range(images.shape[1])))


def _describe_stamps(images: Any, faults: PixelFaults) -> list[str]:
    """Return sentences on the problems of stamps."""
    sentences = [faults.describe_unreadable()] if faults.unreadable else []
    if _may_be_channels_last(images):
        sentences.append(
            f"The stamps of shape {tuple(images.shape[1:])} look channels-last, but are taken as "
            '(bands, height, width): open their files with axes="nhwc", or axes="hwc" for files of '
            "one stamp (--axes), and use X.transpose(0, 3, 1, 2) on arrays."
        )
    return sentences + faults.describe(_name_bands(images))


def _describe_labels(column: pd.Series, classes: pd.Series) -> list[str]:
    """Return sentences on labels that stand for no label, or that differ in spelling only."""
    sentences = []
    counts = classes[classes != ""].value_counts()
    for name, n in counts.items():
        if _is_fill(name) and float(UNLABELLED) != _to_number(name):  # which is a class beside 1
            sentences.append(
                f"The class {name!r} ({n:,} rows) seems to stand for no label: make these labels "
                "empty."
            )
    by_letters = counts.index.to_series().groupby(counts.index.str.casefold())
    sentences += [
        f"The classes {' and '.join(map(repr, sorted(names)))} differ only in upper and lower "
        "case: write them alike if they are one class."
        for _, names in by_letters
        if len(names) > 1
    ]
    if n_blank := sum(isinstance(value, str) and value != value.strip() for value in column):
        sentences.append(
            f"{n_blank:,} labels have blanks around them, which do not count: remove them."
        )
    return sentences


def _describe_unlabelled(column: pd.Series, classes: pd.Series) -> list[str]:
    """Return a sentence on the values of the label column that are taken for no label."""
    values = column[(classes == "") & column.notna()].astype("str")
    counts = values[values.str.strip() != ""].value_counts()
    if counts.empty:
        return []
    listed = ", ".join(f"{value!r} in {n:,} rows" for value, n in counts.items())
    return [f"The label column has values that count as no label: {listed}."]


def _is_fill(value: Any) -> bool:
    """Return whether a value, also as text, often stands for a missing one."""
    number = _to_number(value)
    if number is None:
        return str(value).strip().lower() in _FILL_TEXTS
    return number in _FILL_VALUES or not np.isfinite(number)


def _to_number(value: Any) -> float | None:
    try:
        return float(value)
    except ValueError:
        return None


def _describe_rows(duplicates: dict[str, int], columns: pd.DataFrame) -> list[str]:
    """Return sentences on the copies of rows, and on the columns that are used."""
    sentences = [
        f"{count:,} rows repeat another by {kind}: pass groups= (find_duplicates), "
        "or test rows will be among the training rows."
        for kind, count in duplicates.items()
        if count
    ]
    used = columns[(columns["use"] != "") & (columns["remarks"] != "")]
    return sentences + [f"{row.use} {row.column}: {row.remarks}." for row in used.itertuples()]


def _inspect_columns(
    catalog: pd.DataFrame, used: dict[str, str], classes: pd.Series
) -> pd.DataFrame:
    rows = []
    for name in catalog.columns:
        values, use = catalog[name], used.get(name, "")
        missing = float(values.isna().mean())
        remarks = _describe_oddities(values, use)
        if use in ("property", "error") and _MIN_COMMON_SHARE <= missing < 1:
            remarks.append(f"has no value in {missing:.0%} of the rows")
        accuracy = 0.0 if use == "label" else _predict_label(values, classes)
        if accuracy >= _LEAK_ACCURACY:
            remarks.append(f"predicts the label on its own (balanced accuracy {accuracy:.2f})")
        rows.append(
            {
                "column": name,
                "missing": missing,
                "distinct": int(values.nunique()),
                "use": use,
                "remarks": ", ".join(remarks),
            }
        )
    return pd.DataFrame(rows)


def _describe_oddities(values: pd.Series, use: str) -> list[str]:
    """Return remarks on a column whose values are missing, constant or repeated."""
    values = values.dropna()
    if values.empty:
        return ["has no value"]
    if values.nunique() == 1:
        return [f"is constant ({values.iloc[0]})"]
    if use == "label":  # see _describe_labels
        return []
    counts = values.value_counts()
    if not pd.api.types.is_numeric_dtype(values) or pd.api.types.is_bool_dtype(values):
        is_fill = counts.index.map(lambda value: isinstance(value, str) and _is_fill(value))
        return _describe_fills(counts[np.array(is_fill, dtype=bool)])
    fills = _find_fills(values, counts)
    if not pd.api.types.is_float_dtype(values):
        return _describe_fills(fills)
    placeholders = find_placeholders(values[~values.isin(fills.index)]).items()
    return _describe_fills(fills) + [f"repeats {value:g} in {n} rows" for value, n in placeholders]


def _find_fills(values: pd.Series, counts: pd.Series) -> pd.Series:
    """Return the numbers that seem to stand for missing values, and in how many rows they are."""
    is_float = pd.api.types.is_float_dtype(values)
    fills = set(values[find_sentinels(values)]) if is_float else set()
    # numbers that are far from all others, and not alone
    for number in (values.min(), values.max()):
        others = values[values != number]
        span = others.max() - others.min()
        distance = (others - number).abs().min()
        if counts[number] > 1 and others.nunique() > 1 and distance > _FAR_AWAY * span:
            fills.add(number)
    # numbers in a large share of the rows
    common = counts[counts >= _MIN_COMMON_SHARE * len(values)]
    if len(counts) >= _MIN_DISTINCT:
        fills |= {number for number in common.index if is_float or _is_fill(number)}
    return counts[counts.index.isin(fills)]


def _describe_fills(counts: pd.Series) -> list[str]:
    if counts.empty:
        return []
    values = [
        f"{repr(value) if isinstance(value, str) else format(value, 'g')} ({n:,} rows)"
        for value, n in counts.items()
    ]
    text = ", ".join(values).replace("(1 rows)", "(1 row)")
    return [f"holds {text}, which may stand for missing values"]


def _predict_label(values: pd.Series, classes: pd.Series) -> float:
    """Return the balanced accuracy with which a tree predicts the label from one column."""
    # Make numbers of the column.
    leaves = _MAX_TREE_LEAVES
    if pd.api.types.is_numeric_dtype(values) or pd.api.types.is_bool_dtype(values):
        column = values.to_numpy(np.float64)
    elif values.nunique() <= len(values) / _MIN_ROWS_PER_CODE:
        leaves = max(2, 2 * values.nunique())
        column = pd.factorize(values.where(classes != ""))[0].astype(np.float64)
    else:
        return 0.0
    # Classes that are too small for every fold are left out.
    frequent = (classes != "") & (classes.map(classes.value_counts()) >= 2 * _N_FOLDS)
    names, codes = np.unique(classes[frequent], return_inverse=True)
    if len(names) < 2:
        return 0.0
    score = cross_val_score(
        DecisionTreeClassifier(max_leaf_nodes=leaves, class_weight="balanced", random_state=0),
        np.where(np.isinf(column), np.nan, column)[frequent, None],
        codes,
        scoring="balanced_accuracy",
        cv=stratified_folds(codes, _N_FOLDS, seed=0),
    )
    return float(score.mean())


def _count_duplicates(
    faults: PixelFaults, catalog: pd.DataFrame, ra: str | None, dec: str | None, radius: float
) -> tuple[dict[str, int], list[str]]:
    """Return the copies beyond the first, and a sentence on positions that cannot be read."""
    groups, problems = {"pixels": faults.groups}, []
    try:
        if ra or dec or has_positions(catalog):
            sky = find_positions(catalog, ra, dec)
            groups["sky"] = find_duplicates(ra=sky.ra, dec=sky.dec, radius=radius)
    except ValueError as error:
        if ra or dec:
            raise
        problems.append(f"The positions cannot be read ({first_line(error)}).")
    copies = {kind: len(rows) - len(np.unique(rows)) for kind, rows in groups.items()}
    if (column := find_column(catalog, "id")) is not None:
        copies["id"] = int(catalog[column].dropna().duplicated().sum())
    return copies, problems


def _find_groups(catalog: pd.DataFrame) -> dict[str, int]:
    """Return columns of whole numbers or text that repeat, with the number of their values."""
    groups = {}
    for name in catalog.columns:
        values = catalog[name]
        if (
            not (pd.api.types.is_float_dtype(values) or pd.api.types.is_bool_dtype(values))
            and not values.isna().any()
            and _MIN_GROUPS <= values.nunique() <= len(catalog) / 2
        ):
            groups[name] = int(values.nunique())
    return groups
