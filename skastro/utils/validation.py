"""What comes in: stamps, properties and labels, checked once and worded for people.

The only home of scikit-learn's private and version-dependent imports.
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
from sklearn.utils import _safe_indexing
from sklearn.utils._set_output import ADAPTERS_MANAGER, _get_output_config
from sklearn.utils.multiclass import check_classification_targets, type_of_target
from sklearn.utils.validation import column_or_1d


def name_near(wanted: str, names: Sequence[str]) -> str:
    """Name columns like the wanted one, as the end of a sentence.

    Examples
    --------
    >>> name_near("meg_*", ["id", "mag_g", "class"])
    ': did you mean mag_g?'
    """
    plain = wanted.replace("*", "").replace("?", "").lower()
    folded = {name.lower(): name for name in names}
    near = difflib.get_close_matches(plain, folded, n=3, cutoff=0.5)
    if near:
        return f": did you mean {' or '.join(folded[each] for each in near)}?"
    return f": choose from {', '.join(names)}."


DOCUMENTATION = "https://skastro.readthedocs.io/en/stable"
SENTINELS = (99.0, -99.0, 999.0, -999.0, -9999.0)
UNLABELLED = -1


class Documented:
    """An estimator whose picture in a notebook links to its page of the documentation."""

    _doc_link_module = "skastro"
    _doc_link_template = f"{DOCUMENTATION}/api/generated/skastro.{{estimator_name}}.html"


def contained(estimator: BaseEstimator, output: NDArray[Any], X: Any) -> Any:
    """Return rows in the container that `set_output` asks for; stamps, no table, as they are."""
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
        NaN or masked means not measured; the sentinels 99, -99, 999, -999 and -9999, where
        they lie outside the range of a column's other values, are read as NaN, with one
        warning that counts them.
    n : int
        Number of stamps.
    name : str, default="properties"
        The argument's name in errors.
    allow_empty : bool, default=False
        Whether a column may have no value at all, as of a few objects to predict.

    Returns
    -------
    table : DataFrame of shape (n, p), float64
        Columns without a name are called ``property_0``, ``property_1`` ...; units of an
        astropy Table are in ``table.attrs["units"]``.

    Raises
    ------
    ValueError
        Wrong length, text, infinite values, or a column without any value.
    """
    table = _as_frame(properties, name)
    if len(table) != n:
        raise ValueError(
            f"{name} has {len(table)} rows, but X has {n} stamps: pass one row for each stamp."
        )
    if table.columns.has_duplicates:
        twice = table.columns[table.columns.duplicated()][0]
        raise ValueError(f"{name} has two columns named {twice!r}: rename one of them.")
    for column in table:
        table[column] = _as_floats(table[column], f"{name} column {column!r}")
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
    """Tell which values stand for "not measured": 99, -99, 999, -999 and -9999.

    Only those outside the range of the other values do: 99 among position angles is an angle,
    among magnitudes of 15 to 25 it is none.

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


def _as_frame(properties: Any, name: str) -> pd.DataFrame:
    if hasattr(properties, "detach"):
        properties = properties.detach().cpu().numpy()
    if hasattr(properties, "to_pandas") and hasattr(properties, "colnames"):  # astropy Table
        units = {c: str(properties[c].unit) for c in properties.colnames if properties[c].unit}
        properties = properties.to_pandas(index=False)
        properties.attrs["units"] = units
    if isinstance(properties, pd.Series):
        properties = properties.to_frame(properties.name or "property_0")
    if isinstance(properties, pd.DataFrame):
        frame = properties.copy().reset_index(drop=True)
        frame.columns = [str(column) for column in frame.columns]
        return frame
    values = (
        np.ma.filled(np.ma.asarray(properties), np.nan)
        if np.ma.isMA(properties)
        else (np.asarray(properties))
    )
    if values.ndim == 1:
        values = values[:, None]
    if values.ndim != 2:
        raise ValueError(f"{name} has shape {values.shape}: pass (n,) or (n, properties).")
    return pd.DataFrame(values, columns=[f"property_{i}" for i in range(values.shape[1])])


def _as_floats(column: pd.Series, where: str) -> pd.Series:
    try:
        floats = column.astype(np.float64)
    except (TypeError, ValueError):
        floats = pd.to_numeric(column, errors="coerce")
        bad = floats.isna() & column.notna()
        if bad.any():
            raise ValueError(
                f"{where} holds {column[bad].iloc[0]!r} in row {int(bad.argmax())}: "
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
    """Check 1-sigma errors of properties.

    Parameters
    ----------
    errors : array-like of shape (n, p)
        In the order of the properties; NaN where unknown.
    table : DataFrame of shape (n, p)
        The properties the errors belong to.

    Returns
    -------
    errors : float64 array of shape (n, p)
    """
    frame = _as_frame(errors, "property_errors")
    if frame.shape != table.shape:
        raise ValueError(
            f"property_errors has shape {frame.shape}, but properties has {table.shape}: "
            "pass one error for each property (NaN where there is none)."
        )
    values = np.column_stack([_as_floats(frame[c], f"property_errors column {c!r}") for c in frame])
    values[np.isin(values, SENTINELS)] = np.nan
    if (values < 0).any():
        row, column = np.argwhere(values < 0)[0]
        raise ValueError(
            f"property_errors column {frame.columns[column]!r} is negative in row {row}: "
            "pass 1-sigma errors, or NaN."
        )
    return values


def is_continuous(y: Any) -> bool:
    """Whether ``y`` holds measurements (which a pretext can regress), not class labels."""
    if y is None:
        return False
    values = np.asarray(y)
    if values.dtype.kind != "f" or values.ndim > 2 or values.size == 0:
        return False
    known = values[np.isfinite(values).reshape(len(values), -1).all(axis=1)]
    return len(known) > 0 and type_of_target(known).startswith("continuous")


def check_labels(y: Any) -> tuple[NDArray[Any], NDArray[np.int64]]:
    """Encode class labels, with unlabelled rows apart.

    Parameters
    ----------
    y : array-like of shape (n,)
        Classes of any dtype. Unlabelled rows are -1 for integers (unless -1 and 1 are the
        only values: those are two classes), NaN for floats, and None, NaN or ``""`` for text.

    Returns
    -------
    classes : array of shape (k,)
        The sorted known classes, in the dtype of ``y``.
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
    values = np.asarray(y)
    values = column_or_1d(values, warn=True)
    if values.dtype.kind == "f" and np.isinf(values).any():
        raise ValueError("Input y contains infinity: mark unlabelled rows with NaN.")
    known = ~_is_unlabelled(values)
    if not known.any():
        raise ValueError("y holds no label: label at least one row of each class.")
    if values.dtype.kind == "O":
        kinds = {type(value) for value in values[known]}
        if len(kinds) > 1 and str in kinds:
            raise ValueError("y mixes text and numbers as labels: use one kind of label.")
    labels = values[known]
    if labels.dtype.kind == "O":
        labels = np.array(labels.tolist())
    check_classification_targets(labels)
    classes, positions = np.unique(labels, return_inverse=True)
    codes = np.full(len(values), UNLABELLED, dtype=np.int64)
    codes[known] = positions
    if values.dtype.kind == "O" and classes.dtype.kind == "U":
        classes = classes.astype(object)
    return classes, codes


def _is_unlabelled(values: NDArray[Any]) -> NDArray[np.bool_]:
    if values.dtype.kind in "iu":
        # with -1 and 1 alone there would be one class: they are the two of a binary problem
        binary = set(np.unique(values).tolist()) == {UNLABELLED, 1}
        return np.zeros(len(values), dtype=bool) if binary else values == UNLABELLED
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


def take_rows(X: Any, rows: NDArray[Any]) -> Any:
    """Take rows of an array, DataFrame, list or lazy array-like, staying lazy if X is."""
    if X is None:
        return None
    return _safe_indexing(X, rows)


def draw_seed(random_state: int | np.random.RandomState | None) -> int:
    """Return the seed that a ``random_state`` stands for; None draws a fresh one.

    NumPy's global generator is neither read nor moved.

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
