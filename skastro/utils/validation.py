"""Check properties, labels, groups and seeds; the only file with private parts of scikit-learn."""

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
    """Mixin that links the notebook display of an estimator to its documentation."""

    _doc_link_module = "skastro"
    _doc_link_template = f"{DOCUMENTATION}/api/generated/skastro.{{estimator_name}}.html"


def to_container(estimator: BaseEstimator, output: NDArray[Any], X: Any) -> Any:
    """Return 2-D rows in the container that `set_output` has chosen, and stamps unchanged."""
    library = _get_output_config("transform", estimator)["dense"]
    if output.ndim != 2 or library == "default":
        return output
    adapter = ADAPTERS_MANAGER.adapters[library]
    return adapter.create_container(output, X, columns=estimator.get_feature_names_out)


def check_properties(
    properties: Any, n: int, *, name: str = "properties", allow_empty: bool = False
) -> pd.DataFrame:
    """Check the properties of n stamps, and return them as a DataFrame of float64 columns.

    ``properties`` is an array-like, Series, DataFrame or astropy Table of shape (n, p) or (n,),
    and the argument ``name`` in messages. NaN and masked values are missing. The sentinels 99, -99,
    999, -999 and -9999 become NaN where they lie outside the range of a column's other values, and
    one warning counts them. Columns without a name are called ``property_0``, ``property_1`` ...;
    units of an astropy Table are in ``attrs["units"]`` of the result.

    A wrong number of rows, two columns of one name, text, infinite values and, unless
    ``allow_empty``, a column without any value are a ValueError.
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
    # sentinels become NaN, with one warning
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
    """Find the sentinels 99, -99, 999, -999 and -9999, which stand for missing measurements.

    A sentinel lies outside the range of the other values: 99 is one among magnitudes of 15 to 25,
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
    """Convert properties of any type to a DataFrame with text as names of the columns."""
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
    """Convert a column to float64; refuse text and infinity with an error about ``where``."""
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

    They belong to the columns of ``table``, in the same order. NaN and sentinels mean unknown.
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
    """Return whether ``y`` holds measurements, which a network can regress, and not labels."""
    if y is None:
        return False
    values = np.asarray(y)
    if values.dtype.kind != "f" or values.ndim > 2 or values.size == 0:
        return False
    finite = values[np.isfinite(values).reshape(len(values), -1).all(axis=1)]
    return len(finite) > 0 and type_of_target(finite).startswith("continuous")


def check_labels(y: Any) -> tuple[NDArray[Any], NDArray[np.int64]]:
    """Return the sorted classes in labels, and the class of each row as an int64 code.

    A code is an index into the classes, which have the dtype of ``y``, or -1 for an unlabelled
    row. Unlabelled rows are -1 in integers (unless all values are -1 and 1, which are two
    classes), NaN in floats, and None, NaN or ``""`` in text. Continuous values, several dimensions
    or no label at all are a ValueError.

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
    kind = values.dtype.kind
    missing = pd.isna(values) if kind in "fO" else np.zeros(len(values), dtype=bool)
    # in integers, -1 and 1 alone are the classes of a binary problem
    if kind in "iu" and set(np.unique(values).tolist()) != {UNLABELLED, 1}:
        missing = values == UNLABELLED
    if kind in "UO":
        missing[~missing] = [value in ("", UNLABELLED) for value in values[~missing]]
    return missing


def check_groups(groups: Any, n: int, *, rows_of: str = "X") -> NDArray[np.int64] | None:
    """Check the groups of rows that have to stay together, such as fields of the sky.

    Groups of n rows, values of one kind, are returned as int64 codes from 0 on, in the order of
    the sorted values; None stays None. A wrong number of values, or a missing value, is a
    ValueError that names ``rows_of``, the argument with these rows: rows without a group would all
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
    """Return the number of rows, or of groups, of the rarest class: the largest number of folds.

    ``codes`` are classes as numbers from 0 on, and every class has a row.
    """
    if groups is None:
        return int(np.bincount(codes).min())
    return min(len(np.unique(groups[codes == code])) for code in range(codes.max() + 1))


def stratified_folds(
    codes: NDArray[np.int64], n_folds: int, *, groups: NDArray[Any] | None = None, seed: int
) -> list[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Split rows into stratified folds, pairs of training rows and test rows.

    ``codes`` are classes as numbers from 0 on, ``groups`` those of `check_groups`, and ``n_folds``
    is at most `count_independent_rows`. The rows of a group stay on one side of each fold. A fold
    whose training rows lack a class, which is possible with groups, is left out.
    """
    kind = StratifiedKFold if groups is None else StratifiedGroupKFold
    splitter = kind(n_folds, shuffle=True, random_state=seed)
    folds = list(splitter.split(codes, codes, groups))
    return [fold for fold in folds if len(np.unique(codes[fold[0]])) == codes.max() + 1]


def take_rows(X: Any, rows: NDArray[Any]) -> Any:
    """Take rows of an array, DataFrame, list or lazy array-like; None stays None."""
    return None if X is None else _safe_indexing(X, rows)


def draw_seed(random_state: int | np.random.RandomState | None) -> int:
    """Return an integer seed for a ``random_state``, a random one for None.

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
