"""Check properties, labels, groups and seeds.

No other module imports private parts of scikit-learn.
"""

from __future__ import annotations

import difflib
import numbers
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.base import BaseEstimator
from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold
from sklearn.utils import _safe_indexing
from sklearn.utils._set_output import ADAPTERS_MANAGER, _get_output_config
from sklearn.utils.multiclass import check_classification_targets, type_of_target
from sklearn.utils.validation import column_or_1d

DOCUMENTATION = "https://skastro.readthedocs.io/en/stable"
SENTINELS = (99.0, -99.0, 999.0, -999.0, -9999.0)
UNLABELLED = -1


def name_near(wanted: str, names: Sequence[str]) -> str:
    """Suggest names that resemble the wanted one, or list all, as the end of a sentence.

    Examples
    --------
    >>> name_near("meg_*", ["id", "mag_g", "class"])
    ': did you mean mag_g?'
    """
    by_lower = {name.lower(): name for name in names}
    letters = wanted.replace("*", "").replace("?", "").lower()
    near = difflib.get_close_matches(letters, by_lower, n=3, cutoff=0.5)
    if near:
        return f": did you mean {' or '.join(by_lower[name] for name in near)}?"
    return f": choose from {', '.join(names)}."


class Documented:
    """A mixin for estimators: their display in a notebook links to the documentation."""

    _doc_link_module = "skastro"
    _doc_link_template = f"{DOCUMENTATION}/api/generated/skastro.{{estimator_name}}.html"


def contained(estimator: BaseEstimator, output: NDArray[Any], X: Any) -> Any:
    """Return rows in the container that `set_output` asks for; stamps are never put into one."""
    library = _get_output_config("transform", estimator)["dense"]
    if output.ndim != 2 or library == "default":
        return output
    adapter = ADAPTERS_MANAGER.adapters[library]
    return adapter.create_container(output, X, columns=estimator.get_feature_names_out)


def check_properties(
    properties: Any, n: int, *, name: str = "properties", allow_empty: bool = False
) -> pd.DataFrame:
    """Check catalogue properties and return them as float64 columns.

    Parameters
    ----------
    properties : array-like, Series, DataFrame or astropy Table of shape (n, p) or (n,)
        NaN and masked values are missing. The sentinels 99, -99, 999, -999 and -9999 become NaN
        where they lie outside the range of a column's other values, and one warning counts them.
    n : int
        Number of stamps.
    name : str, default="properties"
        The argument's name in errors.
    allow_empty : bool, default=False
        Whether a column may have no value at all, which can happen with few objects.

    Returns
    -------
    table : DataFrame of shape (n, p), float64
        Columns without a name are called ``property_0``, ``property_1`` ...; units of an
        astropy Table are in ``table.attrs["units"]``.

    Raises
    ------
    ValueError
        The number of rows is wrong, a value is text or infinite, or a column has no value.
    """
    table = _to_frame(properties, name)
    if len(table) != n:
        raise ValueError(
            f"{name} has {len(table)} rows, but X has {n} stamps: pass one row for each stamp."
        )
    if table.columns.has_duplicates:
        twice = table.columns[table.columns.duplicated()][0]
        raise ValueError(f"{name} has two columns named {twice!r}: rename one of them.")
    for column in table:
        table[column] = _to_floats(table[column], f"{name} column {column!r}")
    sentinel = table.apply(find_sentinels)
    if count := int(sentinel.to_numpy().sum()):
        warnings.warn(
            f"{count} sentinel values (99, -99, 999, -999 or -9999) in {name} are read as missing.",
            UserWarning,
            stacklevel=3,
        )
        table = table.mask(sentinel)
    empty = table.columns[table.isna().all()]
    if len(empty) and not allow_empty:
        raise ValueError(f"{name} column {empty[0]!r} has no value in any row: leave it out.")
    return table


def find_sentinels(values: pd.Series) -> pd.Series:
    """Find the sentinels 99, -99, 999, -999 and -9999, which mean that nothing was measured.

    They lie outside the range of the other values: 99 is a sentinel among magnitudes of 15 to 25,
    but not among position angles.

    Examples
    --------
    >>> find_sentinels(pd.Series([20.1, 99.0, 21.3])).tolist()
    [False, True, False]
    >>> find_sentinels(pd.Series([20.1, 99.0, 171.3])).tolist()
    [False, False, False]
    """
    sentinel = values.isin(SENTINELS)
    others = values[~sentinel & values.notna()]
    if others.empty:
        return sentinel
    return sentinel & ~values.between(others.min(), others.max())


def _to_frame(properties: Any, name: str) -> pd.DataFrame:
    if hasattr(properties, "detach"):  # a torch tensor
        properties = properties.detach().cpu().numpy()
    if hasattr(properties, "to_pandas") and hasattr(properties, "colnames"):  # an astropy Table
        units = {c: str(properties[c].unit) for c in properties.colnames if properties[c].unit}
        properties = properties.to_pandas(index=False)
        properties.attrs["units"] = units
    if isinstance(properties, pd.Series):
        properties = properties.to_frame(properties.name or "property_0")
    if isinstance(properties, pd.DataFrame):
        frame = properties.copy().reset_index(drop=True)
        frame.columns = [str(column) for column in frame.columns]
        return frame
    is_masked = np.ma.isMA(properties)
    values = np.ma.filled(properties, np.nan) if is_masked else np.asarray(properties)
    if values.ndim == 1:
        values = values[:, None]
    if values.ndim != 2:
        raise ValueError(f"{name} has shape {values.shape}: pass (n,) or (n, properties).")
    return pd.DataFrame(values, columns=[f"property_{i}" for i in range(values.shape[1])])


def _to_floats(column: pd.Series, where: str) -> pd.Series:
    try:
        floats = column.astype(np.float64)
    except (TypeError, ValueError):
        floats = pd.to_numeric(column, errors="coerce")
        is_text = floats.isna() & column.notna()
        if is_text.any():
            raise ValueError(
                f"{where} holds {column[is_text].iloc[0]!r} in row {int(is_text.argmax())}: "
                "pass numbers, or leave the column out."
            ) from None
        floats = floats.astype(np.float64)
    infinite = np.isinf(floats)
    if infinite.any():
        raise ValueError(
            f"{where} is infinite in row {int(infinite.argmax())}: set it to NaN if not measured."
        )
    return floats


def check_property_errors(errors: Any, table: pd.DataFrame) -> NDArray[np.float64]:
    """Check 1-sigma errors of properties, and return them as a float64 array of shape (n, p).

    They are in the order of the columns of ``table``, the properties; NaN means unknown, and
    sentinels become NaN.
    """
    frame = _to_frame(errors, "property_errors")
    if frame.shape != table.shape:
        raise ValueError(
            f"property_errors has shape {frame.shape}, but properties has {table.shape}: "
            "pass one error for each property (NaN where there is none)."
        )
    values = np.column_stack([_to_floats(frame[c], f"property_errors column {c!r}") for c in frame])
    values[np.isin(values, SENTINELS)] = np.nan
    if (values < 0).any():
        row, column = np.argwhere(values < 0)[0]
        raise ValueError(
            f"property_errors column {frame.columns[column]!r} is negative in row {row}: "
            "pass 1-sigma errors, or NaN."
        )
    return values


def is_continuous(y: Any) -> bool:
    """Return whether ``y`` holds measurements, which a pretext can regress, and not labels."""
    if y is None:
        return False
    values = np.asarray(y)
    if values.dtype.kind != "f" or values.ndim > 2 or values.size == 0:
        return False
    finite = values[np.isfinite(values).reshape(len(values), -1).all(axis=1)]
    return len(finite) > 0 and type_of_target(finite).startswith("continuous")


def check_labels(y: Any) -> tuple[NDArray[Any], NDArray[np.int64]]:
    """Encode class labels as numbers, and unlabelled rows as -1.

    Parameters
    ----------
    y : array-like of shape (n,)
        Classes of any dtype. Unlabelled rows are -1 for integers (unless the only values are -1
        and 1, which are two classes), NaN for floats, and None, NaN or ``""`` for text.

    Returns
    -------
    classes : array of shape (k,)
        The classes in sorted order, in the dtype of ``y``.
    codes : int64 array of shape (n,)
        Index into ``classes``, -1 where unlabelled.

    Raises
    ------
    ValueError
        ``y`` is continuous, of more than one dimension, or holds no label at all.

    Examples
    --------
    >>> import numpy as np
    >>> classes, codes = check_labels(np.array(["star", "", "galaxy", "star"]))
    >>> classes.tolist(), codes.tolist()
    (['galaxy', 'star'], [1, -1, 0, 1])
    """
    values = column_or_1d(np.asarray(y), warn=True)
    if values.dtype.kind == "f" and np.isinf(values).any():
        raise ValueError("Input y contains infinity: mark unlabelled rows with NaN.")
    is_labelled = ~_is_unlabelled(values)
    labels = values[is_labelled]
    if not len(labels):
        raise ValueError("y holds no label: label at least one row of each class.")
    if labels.dtype.kind == "O":
        kinds = {type(value) for value in labels}
        if len(kinds) > 1 and str in kinds:
            raise ValueError("y mixes text and numbers as labels: use one kind of label.")
        labels = np.array(labels.tolist())
    check_classification_targets(labels)
    classes, positions = np.unique(labels, return_inverse=True)
    codes = np.full(len(values), UNLABELLED, dtype=np.int64)
    codes[is_labelled] = positions
    if values.dtype.kind == "O" and classes.dtype.kind == "U":
        classes = classes.astype(object)
    return classes, codes


def _is_unlabelled(values: NDArray[Any]) -> NDArray[np.bool_]:
    if values.dtype.kind in "iu":
        # -1 and 1 alone are the classes of a binary problem
        is_binary = set(np.unique(values).tolist()) == {UNLABELLED, 1}
        return np.zeros(len(values), dtype=bool) if is_binary else values == UNLABELLED
    if values.dtype.kind == "f":
        return np.isnan(values)
    if values.dtype.kind == "U":
        return values == ""
    if values.dtype.kind == "O":
        return np.array(
            [v is None or v is pd.NA or v != v or v in ("", UNLABELLED) for v in values],  # noqa: PLR0124
            dtype=bool,
        )
    return np.zeros(len(values), dtype=bool)


def check_groups(groups: Any, n: int, *, rows_of: str = "X") -> NDArray[np.int64] | None:
    """Check the groups of rows that have to stay together, such as fields of the sky.

    Parameters
    ----------
    groups : array-like of shape (n,) or None
        Values of one kind, text or numbers.
    n : int
        Number of rows.
    rows_of : str, default="X"
        The argument that has these rows, for errors.

    Returns
    -------
    codes : int64 array of shape (n,) or None
        One number from 0 on for each group, in the order of the sorted values.

    Raises
    ------
    ValueError
        The number of values is wrong, or a value is missing: rows without a group would all
        become one group.

    Examples
    --------
    >>> check_groups(["south", "north", "south"], 3).tolist()
    [1, 0, 1]
    >>> check_groups([1.0, float("nan")], 2)
    Traceback (most recent call last):
    ValueError: groups has no value in row 1 (1 such rows): give each such row a group of its own.
    """
    if groups is None:
        return None
    values = np.asarray(groups)
    if values.shape != (n,):
        raise ValueError(
            f"groups has shape {values.shape}, but {rows_of} has {n} rows: pass one group for "
            "each row."
        )
    missing = pd.isna(values) | np.ma.getmaskarray(groups)
    if missing.any():
        raise ValueError(
            f"groups has no value in row {int(missing.argmax())} ({missing.sum()} such rows): "
            "give each such row a group of its own."
        )
    try:
        return np.unique(values, return_inverse=True)[1].astype(np.int64)
    except TypeError as error:
        raise ValueError("groups mixes text and numbers: use one kind of value.") from error


def count_independent_rows(codes: NDArray[np.int64], groups: NDArray[Any] | None) -> int:
    """Return the number of rows, or of groups of rows, of the rarest class.

    It is the largest number of stratified folds. ``codes`` are classes as numbers from 0 on,
    each of which occurs.
    """
    if groups is None:
        return int(np.bincount(codes).min())
    return min(len(np.unique(groups[codes == code])) for code in range(codes.max() + 1))


def stratified_folds(
    codes: NDArray[np.int64], n_folds: int, *, groups: NDArray[Any] | None = None, seed: int
) -> list[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Split rows into stratified folds for cross-validation.

    Parameters
    ----------
    codes : int64 array of shape (n,)
        Classes as numbers from 0 on.
    n_folds : int
        Number of folds, at most `count_independent_rows`.
    groups : int array of shape (n,), default=None
        Groups of rows that stay on one side of each fold, as returned by `check_groups`.
    seed : int
        Seed of the shuffling.

    Returns
    -------
    folds : list of (training rows, test rows)
        Folds whose training rows lack a class, which is possible with groups, are left out.
    """
    kind = StratifiedKFold if groups is None else StratifiedGroupKFold
    splitter = kind(n_folds, shuffle=True, random_state=seed)
    folds = list(splitter.split(codes, codes, groups))
    return [fold for fold in folds if len(np.unique(codes[fold[0]])) == codes.max() + 1]


def take_rows(X: Any, rows: NDArray[Any]) -> Any:
    """Take rows of an array, DataFrame, list or lazy array-like (lazily); None stays None."""
    return None if X is None else _safe_indexing(X, rows)


def draw_seed(random_state: int | np.random.RandomState | None) -> int:
    """Return an integer seed for a ``random_state``; None gives a random one.

    NumPy's global generator is neither used nor changed.

    Examples
    --------
    >>> draw_seed(7)
    7
    """
    if random_state is None:
        return int(np.random.default_rng().integers(2**31))
    if isinstance(random_state, np.random.RandomState):
        return int(random_state.randint(2**31 - 1))
    if isinstance(random_state, numbers.Integral) and random_state >= 0:
        return int(random_state)
    raise ValueError(
        f"random_state={random_state!r} must be None, an integer of at least 0 or a RandomState."
    )
