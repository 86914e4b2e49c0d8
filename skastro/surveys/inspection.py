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
from skastro.surveys.groups import find_duplicates
from skastro.utils.validation import find_sentinels, stratified_folds

_MAX_SAMPLED_STAMPS = 2000  # stamps whose pixels are inspected
_LEAK_ACCURACY = 0.95  # balanced accuracy of a column that almost equals the label
_MAX_TREE_LEAVES = 20  # for the tree that predicts the label from a column of numbers
_MIN_ROWS_PER_CODE = 10  # a column of text with fewer rows for each value holds names, not codes
_N_FOLDS = 3
_MIN_GROUPS = 5  # a column of fewer values is not useful for splits by groups


@dataclass(frozen=True)
class Inspection:
    """Result of `inspect_survey`.

    Parameters
    ----------
    stamps : dict
        ``n``, ``bands``, ``band_names``, ``height``, ``width``, ``dtype``, and of a sample of
        at most 2,000 stamps ``missing_pixels`` (share of NaN pixels), ``empty`` (number of stamps
        without a finite pixel or with one value only) and ``infinite`` (number of stamps with an
        infinite pixel).
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

    @property
    def problems(self) -> list[str]:
        """Sentences on what to correct, the worst first."""
        sentences = []
        for count, what in (
            (self.stamps["infinite"], "stamps hold infinite pixels"),
            (self.stamps["empty"], "stamps are empty (no finite pixel, or one value only)"),
        ):
            if count:
                sentences.append(f"{count:,} of the sampled {what}: remove or mask them.")
        for kind, count in self.duplicates.items():
            if count:
                sentences.append(
                    f"{count:,} rows repeat another by {kind}: pass groups= (find_duplicates), "
                    "or test rows will be among the training rows."
                )
        used = self.columns["use"].isin(["property", "error"]) & (self.columns["remarks"] != "")
        sentences += [
            f"{row.use} {row.column}: {row.remarks}." for row in self.columns[used].itertuples()
        ]
        return sentences


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
    """Look for problems in the data: missing values, sentinels, leaks of the label, copies.

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
    if len(images) != len(catalog):
        raise ValueError(
            f"catalog has {len(catalog)} rows, but there are {len(images)} stamps: join them first."
        )
    used = dict.fromkeys(errors, "error") | dict.fromkeys(properties, "property")
    if label is not None:
        used[label] = "label"
    if absent := [name for name in used if name not in catalog.columns]:
        raise ValueError(
            f"{absent[0]!r} is not a column: choose from {', '.join(catalog.columns)}."
        )
    classes = pd.Series("", catalog.index)
    if label is not None:
        classes = catalog[label].astype("str").where(catalog[label].notna(), "")
    return Inspection(
        stamps=_inspect_stamps(images),
        columns=_inspect_columns(catalog, used, classes),
        classes={} if label is None else classes.value_counts().to_dict(),
        duplicates=_count_duplicates(images, catalog, ra, dec, radius),
        groups=_find_groups(catalog.drop(columns=[] if label is None else label)),
        notes=list(notes),
    )


def _inspect_stamps(images: Any) -> dict[str, Any]:
    n, bands, height, width = images.shape
    rows = np.unique(np.linspace(0, n - 1, min(n, _MAX_SAMPLED_STAMPS)).astype(np.int64))
    pixels = np.asarray(images[rows]).reshape(len(rows), -1).astype(np.float64)
    finite = np.isfinite(pixels)
    # Without finite pixels the minimum is above the maximum.
    lowest = np.where(finite, pixels, np.inf).min(axis=1)
    highest = np.where(finite, pixels, -np.inf).max(axis=1)
    return {
        "n": n,
        "bands": bands,
        "band_names": getattr(images, "bands", None),
        "height": height,
        "width": width,
        "dtype": str(images.dtype),
        "sampled": len(rows),
        "missing_pixels": float(np.isnan(pixels).mean()),
        "empty": int((lowest >= highest).sum()),
        "infinite": int(np.isinf(pixels).any(axis=1).sum()),
    }


def _inspect_columns(
    catalog: pd.DataFrame, used: dict[str, str], classes: pd.Series
) -> pd.DataFrame:
    rows = []
    for name in catalog.columns:
        values, use = catalog[name], used.get(name, "")
        remarks = _describe_oddities(values)
        accuracy = 0.0 if use == "label" else _predict_label(values, classes)
        if accuracy >= _LEAK_ACCURACY:
            remarks.append(f"predicts the label on its own (balanced accuracy {accuracy:.2f})")
        rows.append(
            {
                "column": name,
                "missing": float(values.isna().mean()),
                "distinct": int(values.nunique()),
                "use": use,
                "remarks": ", ".join(remarks),
            }
        )
    return pd.DataFrame(rows)


def _describe_oddities(values: pd.Series) -> list[str]:
    """Return remarks on a column whose values are missing, constant or repeated."""
    values = values.dropna()
    if values.empty:
        return ["has no value"]
    if values.nunique() == 1:
        return [f"is constant ({values.iloc[0]})"]
    if not pd.api.types.is_float_dtype(values):
        return []
    remarks = []
    if sentinels := int(find_sentinels(values).sum()):
        remarks.append(f"holds {sentinels} sentinels such as -999")
    placeholders = find_placeholders(values).items()
    return remarks + [f"repeats {value:g} in {n} rows" for value, n in placeholders]


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
    images: Any, catalog: pd.DataFrame, ra: str | None, dec: str | None, radius: float
) -> dict[str, int]:
    groups = {"pixels": find_duplicates(images)}
    ra, dec = ra or find_column(catalog, "ra"), dec or find_column(catalog, "dec")
    if ra is not None and dec is not None:
        groups["sky"] = find_duplicates(ra=catalog[ra], dec=catalog[dec], radius=radius)
    copies = {kind: len(rows) - len(np.unique(rows)) for kind, rows in groups.items()}
    if "id" in catalog.columns:
        copies["id"] = int(catalog["id"].dropna().duplicated().sum())
    return copies


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
