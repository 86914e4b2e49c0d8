"""Check properties, labels, groups and seeds; the only file with private parts of scikit-learn."""

from __future__ import annotations

import difflib
import itertools
import numbers
import os
import warnings
from collections.abc import Mapping, Sequence
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

from skastro.utils.masks import fill_masked
from skastro.utils.tables import to_floats, to_frame

DOCUMENTATION = "https://skastro.readthedocs.io/en/stable"
SENTINELS = (99.0, -99.0, 999.0, -999.0, -9999.0)
UNLABELLED = -1
_FEWEST_OF_A_CLASS = 5  # labels from which a column can be recognised as the classes
_MIN_PAIRS = 3  # values from which a property can be recognised as what is predicted
_SAME_RANKS = 0.999  # correlation of the ranks of such a property
_MISSING_LABELS = ("", "nan", "NaN", "None", "null", "NULL", "<NA>", "NA", "N/A", "n/a", "--")
_INVISIBLE = "\0\ufeff\u200b"  # padding, byte order mark and zero-width space


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


def check_whole_number(name: str, value: Any, *, least: int, or_none: bool = False) -> None:
    """Refuse a parameter that is not a whole number of at least ``least``, or None if allowed.

    Examples
    --------
    >>> check_whole_number("max_epochs", "3", least=0, or_none=True)
    Traceback (most recent call last):
    ValueError: max_epochs='3' must be a whole number of at least 0, or None.
    """
    if value is None and or_none:
        return
    if not isinstance(value, numbers.Integral) or value < least:
        end = ", or None" if or_none else ""
        raise ValueError(f"{name}={value!r} must be a whole number of at least {least}{end}.")


def warn_of_order(**tables: Any) -> None:
    """Warn if tables, or a table and X, have the same index in another order.

    Rows are taken in their order, as everywhere in scikit-learn, and never by the index of pandas.
    ``X`` has the rows 0, 1 and so on, and its ``ids``, if it has any.

    Examples
    --------
    >>> table = pd.DataFrame({"mag_r": [19.0, 20.0]})
    >>> with warnings.catch_warnings(record=True) as caught:
    ...     warnings.simplefilter("always")
    ...     warn_of_order(X=np.zeros((2, 1, 8, 8)), properties=table[::-1])
    >>> print(caught[0].message)
    The index of properties has the rows of X in another order, and rows are not sorted by it: if \
they are in the wrong order, sort them, else call properties.reset_index(drop=True).
    """
    known: list[tuple[str, pd.Index]] = []
    for name, table in tables.items():
        index = getattr(table, "index", None)
        own = [index] if isinstance(index, pd.Index) else []
        if name == "X" and not own:
            own = [pd.RangeIndex(len(table))] if hasattr(table, "__len__") else []
            if isinstance(ids := getattr(table, "ids", None), np.ndarray):
                own.append(pd.Index(ids))
        for mine, (other, theirs) in itertools.product(own, known):
            if mine.equals(theirs) or len(mine) != len(theirs) or set(mine) != set(theirs):
                continue
            warnings.warn(
                f"The index of {name} has the rows of {other} in another order, and rows are not "
                f"sorted by it: if they are in the wrong order, sort them, else call "
                f"{name}.reset_index(drop=True).",
                UserWarning,
                stacklevel=4,
            )
            return
        known += [(name, index) for index in own]


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


def plain_rows(X: Any, name: str = "X") -> Any:
    """Return embeddings or other rows of numbers as an array or a DataFrame, NaN where masked.

    Tables with names of columns become DataFrames, the `Embeddings` of a file their values. Stamps
    are a ValueError that says how to embed them. The numbers themselves are checked by
    scikit-learn.

    Examples
    --------
    >>> plain_rows(np.zeros((5, 3, 16, 16)), "embeddings")
    Traceback (most recent call last):
    ValueError: embeddings has shape (5, 3, 16, 16), like stamps: pass their embeddings, \
encoder.transform(stamps), one row for each.
    """
    if isinstance(X, pd.DataFrame) or hasattr(X, "tocsr"):
        return X
    if hasattr(X, "ids") and hasattr(X, "values"):
        X = X.values
    if isinstance(X, (str, os.PathLike)):
        raise ValueError(  # noqa: TRY004 - as for other values
            f"{name} is the name of a file: pass read_embeddings({os.fspath(X)!r}).values."
        )
    has_columns = hasattr(X, "colnames") or hasattr(X, "column_names") or isinstance(X, Mapping)
    if has_columns or getattr(getattr(X, "dtype", None), "names", None):
        return to_frame(X, name)
    shape = getattr(X, "shape", ())
    if len(shape) > 2:
        raise ValueError(
            f"{name} has shape {tuple(shape)}, like stamps: pass their embeddings, "
            "encoder.transform(stamps), one row for each."
        )
    has_mask = any(hasattr(X, attribute) for attribute in ("mask", "unmasked", "detach"))
    return fill_masked(X) if has_mask else X


def check_properties(
    properties: Any, n: int, *, name: str = "properties", allow_empty: bool = False
) -> pd.DataFrame:
    """Check the properties of n stamps, and return them as a DataFrame of float64 columns.

    ``properties`` is a table or an array of any kind that `to_frame` knows, of shape (n, p) or
    (n,), and the argument ``name`` in messages. NaN and masked values are missing. The sentinels
    99, -99, 999, -999 and -9999 become NaN where they lie outside the range of a column's other
    values, and one warning counts them. Known units are in ``attrs["units"]`` of the result.

    A wrong number of rows, two columns of one name, text, infinite values and, unless
    ``allow_empty``, a column without any value are a ValueError.
    """
    table = to_frame(properties, name)
    if not len(table.columns):
        raise ValueError(f"{name} has no column: pass at least one, or leave {name} out.")
    if len(table) != n:
        raise ValueError(
            f"{name} has {len(table)} rows, but X has {n} stamps: pass one row for each stamp."
        )
    if table.columns.has_duplicates:
        twice = table.columns[table.columns.duplicated()][0]
        raise ValueError(f"{name} has two columns named {twice!r}: rename one of them.")
    for column in table:
        table[column] = to_floats(table[column], f"{name} column {column!r}")
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


def warn_of_classes(properties: Any, codes: NDArray[np.int64]) -> None:
    """Warn of a property that holds the classes as numbers: one whole number for each class.

    ``codes`` are those of `check_labels`. Classes with fewer than five labels prove nothing.

    Examples
    --------
    >>> with warnings.catch_warnings(record=True) as caught:
    ...     warnings.simplefilter("always")
    ...     warn_of_classes({"kind": [7, 3] * 5, "mag": range(10)}, np.tile([0, 1], 5))
    >>> print(caught[0].message)
    properties column 'kind' has one number for each class of y: leave it out, or the network \
learns the classes from all rows, those of the test included.
    """
    labelled = np.flatnonzero(codes >= 0)
    counts = np.bincount(codes[labelled])
    table = to_frame(properties, "properties")
    if len(counts) < 2 or counts.min() < _FEWEST_OF_A_CLASS or len(table) != len(codes):
        return
    for column in table:
        pairs = set(zip(codes[labelled].tolist(), table[column].iloc[labelled], strict=True))
        values = {value for _, value in pairs}
        if len(pairs) == len(counts) == len(values) and all(value % 1 == 0 for value in values):
            warnings.warn(
                f"properties column {column!r} has one number for each class of y: leave it out, "
                "or the network learns the classes from all rows, those of the test included.",
                UserWarning,
                stacklevel=4,
            )


def warn_of_target(properties: pd.DataFrame, y: NDArray[Any]) -> None:
    """Warn of a property that is what is to be predicted.

    ``y`` are codes of classes, as for `warn_of_classes`, or float64 values, NaN where unknown, of
    which a property has the ranks.

    Examples
    --------
    >>> with warnings.catch_warnings(record=True) as caught:
    ...     warnings.simplefilter("always")
    ...     warn_of_target(pd.DataFrame({"z": [0.1, 0.4, 0.2, 0.3]}), np.array([1, 4, np.nan, 3.0]))
    >>> print(caught[0].message)
    properties column 'z' has the values of y or their ranks: leave it out, or the network learns \
those of all rows, of the test too.
    """
    if y.dtype.kind != "f":
        warn_of_classes(properties, y)
        return
    for name, column in properties.items():
        both = column.notna().to_numpy() & ~np.isnan(y)
        ranks = pd.Series(y[both]).rank(), column[both].reset_index(drop=True).rank()
        if both.sum() >= _MIN_PAIRS and abs(ranks[0].corr(ranks[1])) > _SAME_RANKS:
            warnings.warn(
                f"properties column {str(name)!r} has the values of y or their ranks: leave it "
                "out, or the network learns those of all rows, of the test too.",
                UserWarning,
                stacklevel=4,
            )


def check_property_errors(errors: Any, table: pd.DataFrame) -> NDArray[np.float64]:
    """Check 1-sigma errors of properties, and return them as a float64 array of shape (n, p).

    They belong to the columns of ``table`` of the same names, or else to those in the same order.
    NaN and sentinels mean unknown.
    """
    frame = to_frame(errors, "property_errors")
    if set(frame.columns) == set(table.columns):  # the same names, perhaps in another order
        frame = frame[table.columns]
    if frame.shape != table.shape:
        raise ValueError(
            f"property_errors has shape {frame.shape}, but properties has {table.shape}: "
            "pass one error for each property (NaN where there is none)."
        )
    values = np.column_stack([to_floats(frame[c], f"property_errors column {c!r}") for c in frame])
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
    values = np.where(np.ma.getmaskarray(y), np.nan, values)
    finite = values[np.isfinite(values).reshape(len(values), -1).all(axis=1)]
    return len(finite) > 0 and type_of_target(finite).startswith("continuous")


def check_labels(y: Any, *, name: str = "y") -> tuple[NDArray[Any], NDArray[np.int64]]:
    """Return the sorted classes in labels, and the class of each row as an int64 code.

    A code is an index into the classes, which have the dtype of ``y`` (text for bytes), or -1 for
    an unlabelled row; see `plain_labels`. Continuous values, several dimensions or no label at all
    are a ValueError. One warning counts labels that have white space around them or are bytes,
    another one names classes that differ only in upper and lower case.

    Examples
    --------
    >>> import numpy as np
    >>> classes, codes = check_labels(np.array(["star", "", "galaxy", "star"]))
    >>> classes.tolist(), codes.tolist()
    (['galaxy', 'star'], [1, -1, 0, 1])
    """
    column = as_column(y, name=name)
    values, is_labelled = plain_labels(column)
    labels = values[is_labelled]
    if not len(labels):
        raise ValueError(f"{name} holds no label: label at least one row of each class.")
    if labels.dtype.kind == "O":
        kinds = {type(value) for value in labels}
        if len(kinds) > 1 and str in kinds:
            raise ValueError(f"{name} mixes text and numbers as labels: use one kind of label.")
        labels = np.array(labels.tolist())
    if is_continuous(labels):
        raise ValueError(
            f"Unknown label type: {name} holds continuous values: pass classes, and measurements "
            "as properties=."
        )
    check_classification_targets(labels)
    classes, positions = np.unique(labels, return_inverse=True)
    codes = np.full(len(values), UNLABELLED, dtype=np.int64)
    codes[is_labelled] = positions
    if values.dtype.kind == "O" and classes.dtype.kind == "U":
        classes = classes.astype(object)
    if classes.dtype.kind in "UO":
        _warn_of_untidy_labels(column[is_labelled].tolist(), labels.tolist())
        warn_of_case(classes.tolist())
    return classes, codes


def plain_labels(y: Any) -> tuple[NDArray[Any], NDArray[np.bool_]]:
    """Return labels of any kind as an array of plain values, and whether each row is labelled.

    ``y`` is as in `as_column`. Bytes become text; white space around a text is removed, and
    inside it becomes single blanks. A row is unlabelled if its value is masked; None, NaN or
    another missing value; -1 (unless 1 is the only other value: -1 and 1 are two classes); blank;
    or text such as "nan", "None", "null", "NA", "N/A" or "--", as other programs write a
    missing value.

    Examples
    --------
    >>> values, is_labelled = plain_labels(np.ma.array([b"STAR  ", b"QSO"], mask=[False, True]))
    >>> values.tolist(), is_labelled.tolist()
    (['STAR', ''], [True, False])
    """
    column = as_column(y)
    kind, values, missing = column.dtype.kind, column.data, np.ma.getmaskarray(column)
    if kind == "f":
        if np.isinf(values[~missing]).any():
            raise ValueError("Input y contains infinity: mark unlabelled rows with NaN.")
        missing = missing | np.isnan(values)
    if kind in "USO":
        values = np.array([plain_value(value) for value in column.tolist()], dtype=object)
        missing = np.array([value is None for value in values.tolist()], dtype=bool)
    # -1 and 1 alone are the classes of a binary problem
    unlabelled = np.array([v in (UNLABELLED, str(UNLABELLED)) for v in values.tolist()], dtype=bool)
    if set(values[~missing & ~unlabelled].tolist()) not in ({1}, {str(1)}):
        missing = missing | unlabelled
    if kind in "USO":
        values[missing] = None if kind == "O" else ""
        values = values if kind == "O" else values.astype(str)
    return values, ~missing


def as_column(y: Any, *, name: str = "y") -> np.ma.MaskedArray:
    """Return a column of labels or ids as a one-dimensional masked array of the same values.

    ``y`` is an array, a list, or a column of NumPy (also masked), pandas, astropy or pyarrow.
    Anything else is a ValueError about the argument ``name``.

    Examples
    --------
    >>> as_column(["star", None, "galaxy"]).data
    array(['star', None, 'galaxy'], dtype=object)
    """
    if hasattr(y, "unmasked"):  # astropy's Masked
        y = np.ma.array(y.unmasked, mask=y.mask)
    if hasattr(y, "to_pylist"):  # NumPy would make floats of pyarrow's whole numbers
        y = y.to_pylist()
    if isinstance(getattr(y, "dtype", None), pd.api.extensions.ExtensionDtype):
        y = y.astype(object)
    if isinstance(y, (list, tuple)) and len({type(value) for value in y}) > 1:
        y = pd.Series(y, dtype=object).to_numpy()  # NumPy would make the text "nan" of NaN
    values = np.asarray(y)
    if values.dtype.kind == "T":  # of NumPy's StringDType, which scikit-learn does not know
        y = values = values.astype(object)
    if values.ndim == 0:
        raise ValueError(
            f"{name}={y!r} is a single value: pass one value for each row, such as "
            f"catalog[{y if isinstance(y, str) else 'class'!r}]."
        )
    if values.ndim > 2 or values.shape[1:] not in ((), (1,)):
        raise ValueError(
            f"{name} should be a 1d array, got an array of shape {values.shape} instead: pass one "
            "column, with one value for each row."
        )
    mask = np.ma.getmaskarray(np.ma.asarray(y)).ravel()
    return np.ma.array(column_or_1d(values, warn=True), mask=mask)


def plain_value(value: Any) -> Any:
    """Return a label or an id as plain text or number, None for a missing one.

    Examples
    --------
    >>> plain_value(b"NGC  4414 "), plain_value(np.int64(7)), plain_value(float("nan"))
    ('NGC 4414', 7, None)
    """
    if isinstance(value, bytes):
        value = value.decode("utf-8", "replace")
    if isinstance(value, str):
        text = " ".join(value.strip(_INVISIBLE).split())
        return None if text in _MISSING_LABELS else text
    if value is np.ma.masked or (pd.api.types.is_scalar(value) and pd.isna(value)):
        return None
    return value.item() if hasattr(value, "item") else value


def count_padded(values: pd.Series) -> int:
    """Return the number of texts in a column that begin or end with white space.

    Examples
    --------
    >>> count_padded(pd.Series(["STAR", "QSO  ", 3.0, None]))
    1
    """
    if pd.api.types.is_numeric_dtype(values.dtype):
        return 0
    return sum(isinstance(value, str) and value != value.strip() for value in values)


def _warn_of_untidy_labels(given: list[Any], labels: list[Any]) -> None:
    changed = [new for old, new in zip(given, labels, strict=True) if old != new]
    if changed:
        warnings.warn(
            f"{len(changed):,} labels are bytes or have white space around them, and are read as "
            f"plain text such as {changed[0]!r}: change them before you compare predictions with "
            "them.",
            UserWarning,
            stacklevel=4,
        )


def warn_of_case(classes: Sequence[Any]) -> None:
    """Warn of classes that differ only in upper and lower case, such as "Star" and "star"."""
    alike: dict[str, list[str]] = {}
    for name in filter(lambda value: isinstance(value, str), classes):
        alike.setdefault(name.casefold(), []).append(name)
    if several := [names for names in alike.values() if len(names) > 1]:
        names = "; ".join(" and ".join(map(repr, names)) for names in several)
        warnings.warn(
            f"Classes differ only in upper and lower case, and count as several: {names}. Write "
            "them alike if they are one class.",
            UserWarning,
            stacklevel=4,
        )


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
