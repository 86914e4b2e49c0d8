"""A look at stamps and their catalogue before anything is trained on them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.model_selection import StratifiedKFold, cross_val_score
from sklearn.tree import DecisionTreeClassifier

from skastro.catalogs.columns import find_column, find_placeholders
from skastro.surveys.groups import find_duplicates
from skastro.utils.validation import find_sentinels

_SAMPLE = 2000  # stamps whose pixels are looked at
_LEAK = 0.95  # balanced accuracy of one column from which it all but is the label
_LEAVES = 20  # of the tree that looks for the label in a column of numbers
_ROWS_A_CODE = 10  # text with fewer rows for each of its values is a name, not a code
_FOLDS = 3


@dataclass(frozen=True)
class Inspection:
    """What `inspect_survey` found.

    Parameters
    ----------
    stamps : dict
        ``n``, ``bands``, ``band_names``, ``height``, ``width``, ``dtype``, and of a sample of
        at most 2,000 stamps ``missing_pixels`` (share that is NaN), ``empty`` (stamps without a
        finite pixel or with one value only) and ``infinite`` (stamps with an infinite pixel).
    columns : DataFrame
        A row for each column: ``column``, ``missing`` (share), ``distinct`` (values), ``use``
        ("label", "property", "error" or "") and ``remarks``.
    classes : dict of str to int
        Rows of each class; "" counts those without a label.
    duplicates : dict of str to int
        Superfluous rows by "pixels", "sky" and "id": copies beyond the first.
    groups : dict of str to int
        Columns that could keep a split from leaking, with the number of their groups.
    notes : list of str
        Sentences on the join and the reading.

    Examples
    --------
    >>> catalog = pd.DataFrame({"id": [1, 2, 2], "mag_r": [20.5, np.nan, 21.5]})
    >>> found = inspect_survey(np.arange(192.0).reshape(3, 1, 8, 8), catalog)
    >>> found.duplicates, found.columns["missing"].round(2).tolist()
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
        """Sentences on what should be looked at, worst first."""
        found = []
        for count, what in (
            (self.stamps["infinite"], "stamps hold infinite pixels"),
            (self.stamps["empty"], "stamps are empty (no finite pixel, or one value only)"),
        ):
            if count:
                found.append(f"{count:,} of the sampled {what}: remove or mask them.")
        for kind, count in self.duplicates.items():
            if count:
                found.append(
                    f"{count:,} rows repeat another by {kind}: pass groups= (find_duplicates), "
                    "or test rows will be among the training rows."
                )
        found += [
            f"{row.use} {row.column}: {row.remarks}."
            for row in self.columns.itertuples()
            if row.use in ("property", "error") and row.remarks
        ]
        return found


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
    """Look for what spoils a study: gaps, sentinels, leaks of the label, copies of objects.

    Parameters
    ----------
    images : array-like of shape (n, bands, height, width)
    catalog : DataFrame of n rows
    label : str, default=None
        Column of the classes.
    properties, errors : sequence of str, default=()
        Columns that the pretext would regress, and their errors.
    ra, dec : str, default=None
        Columns of positions; None finds them by their usual names.
    radius : float, default=1.0
        Separation within which two rows are one object, in arcsec.
    notes : sequence of str, default=()
        Handed on.

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
    >>> found = inspect_survey(stamps, catalog, label="class", properties=["mag_r"])
    >>> found.problems
    ['property mag_r: tells the label by itself (balanced accuracy 1.00).']
    """
    if len(images) != len(catalog):
        raise ValueError(
            f"catalog has {len(catalog)} rows, but there are {len(images)} stamps: join them first."
        )
    used = dict.fromkeys(errors, "error") | dict.fromkeys(properties, "property")
    if label is not None:
        used[label] = "label"
    if absent := [name for name in used if name not in catalog.columns]:
        raise ValueError(f"{absent[0]!r} is no column: choose from {', '.join(catalog.columns)}.")
    classes = _classes(catalog, label)
    return Inspection(
        stamps=_look_at_stamps(images),
        columns=_look_at_columns(catalog, used, label),
        classes={} if classes is None else classes.value_counts().to_dict(),
        duplicates=_count_duplicates(images, catalog, ra, dec, radius),
        groups=_find_groups(catalog, label),
        notes=list(notes),
    )


def _classes(catalog: pd.DataFrame, label: str | None) -> pd.Series | None:
    return None if label is None else catalog[label].astype("str").where(catalog[label].notna(), "")


def _look_at_stamps(images: Any) -> dict[str, Any]:
    n, bands, height, width = images.shape
    rows = np.unique(np.linspace(0, n - 1, min(n, _SAMPLE)).astype(np.int64))
    pixels = np.asarray(images[rows]).reshape(len(rows), -1).astype(np.float64)
    finite = np.isfinite(pixels)
    known = np.where(finite, pixels, np.nan)
    some = finite.any(axis=1)
    flat = np.full(len(rows), True)
    flat[some] = np.nanmax(known[some], axis=1) == np.nanmin(known[some], axis=1)
    return {
        "n": n,
        "bands": bands,
        "band_names": getattr(images, "bands", None),
        "height": height,
        "width": width,
        "dtype": str(images.dtype),
        "sampled": len(rows),
        "missing_pixels": float(np.isnan(pixels).mean()),
        "empty": int(flat.sum()),
        "infinite": int(np.isinf(pixels).any(axis=1).sum()),
    }


def _look_at_columns(
    catalog: pd.DataFrame, used: dict[str, str], label: str | None
) -> pd.DataFrame:
    classes = _classes(catalog, label)
    rows = []
    for name in catalog.columns:
        values = catalog[name]
        use = used.get(name, "")
        remarks = _remarks(values)
        if classes is not None and use != "label" and (leak := _leak(values, classes)):
            remarks.append(f"tells the label by itself (balanced accuracy {leak:.2f})")
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


def _remarks(values: pd.Series) -> list[str]:
    """Say what is odd about a column."""
    known = values.dropna()
    if known.empty:
        return ["has no value"]
    if known.nunique() == 1:
        return [f"is constant ({known.iloc[0]})"]
    if not pd.api.types.is_float_dtype(known):
        return []
    remarks = []
    sentinels = int(find_sentinels(known).sum())
    if sentinels:
        remarks.append(f"holds {sentinels} sentinels such as -999")
    remarks += [f"repeats {value:g} in {n} rows" for value, n in find_placeholders(known).items()]
    return remarks


def _leak(values: pd.Series, classes: pd.Series) -> float:
    """Return the balanced accuracy of one column if it all but is the label, else 0."""
    labelled = (classes != "").to_numpy()
    codes = classes[labelled].to_numpy()
    if len(np.unique(codes)) < 2:
        return 0.0
    leaves = _LEAVES
    if pd.api.types.is_numeric_dtype(values) or pd.api.types.is_bool_dtype(values):
        column = values[labelled].to_numpy(np.float64)
    elif values.nunique() <= len(values) / _ROWS_A_CODE:
        leaves = max(2, 2 * values.nunique())
        column = pd.factorize(values[labelled])[0].astype(np.float64)
    else:
        return 0.0
    sizes = pd.Series(codes).value_counts()
    usual = np.isin(codes, sizes.index[sizes >= 2 * _FOLDS])
    if len(np.unique(codes[usual])) < 2:
        return 0.0
    score = cross_val_score(
        DecisionTreeClassifier(max_leaf_nodes=leaves, class_weight="balanced", random_state=0),
        np.where(np.isinf(column), np.nan, column)[usual, None],
        codes[usual],
        scoring="balanced_accuracy",
        cv=StratifiedKFold(_FOLDS, shuffle=True, random_state=0),
    ).mean()
    return float(score) if score >= _LEAK else 0.0


def _count_duplicates(
    images: Any, catalog: pd.DataFrame, ra: str | None, dec: str | None, radius: float
) -> dict[str, int]:
    found = {"pixels": _superfluous(find_duplicates(images))}
    ra, dec = ra or find_column(catalog, "ra"), dec or find_column(catalog, "dec")
    if ra is not None and dec is not None:
        found["sky"] = _superfluous(
            find_duplicates(ra=catalog[ra], dec=catalog[dec], radius=radius)
        )
    if "id" in catalog.columns:
        found["id"] = int(catalog["id"].dropna().duplicated().sum())
    return found


def _superfluous(groups: NDArray[Any]) -> int:
    return len(groups) - len(np.unique(groups))


def _find_groups(catalog: pd.DataFrame, label: str | None) -> dict[str, int]:
    """Return columns of repeated whole numbers or text, by which one could split."""
    found = {}
    for name in catalog.columns:
        values = catalog[name]
        number = values.nunique()
        plain = pd.api.types.is_float_dtype(values) or pd.api.types.is_bool_dtype(values)
        if name == label or plain or values.isna().any():
            continue
        if 5 <= number <= len(catalog) / 2:
            found[name] = int(number)
    return found
