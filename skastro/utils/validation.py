"""What comes in: stamps, properties and labels, checked once and worded for people.

The only home of scikit-learn's private and version-dependent imports.
"""

from __future__ import annotations

import numbers
import warnings
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.base import BaseEstimator
from sklearn.utils import _safe_indexing
from sklearn.utils._set_output import ADAPTERS_MANAGER, _get_output_config
from sklearn.utils.multiclass import check_classification_targets, type_of_target
from sklearn.utils.validation import check_array, column_or_1d, validate_data

DOCUMENTATION = "https://skastro.readthedocs.io/en/stable"
SENTINELS = (99.0, -99.0, 999.0, -999.0, -9999.0)
UNLABELLED = -1
_SCAN_ROWS = 1024


class Documented:
    """An estimator whose picture in a notebook links to its page of the documentation."""

    _doc_link_module = "skastro"
    _doc_link_template = f"{DOCUMENTATION}/api/generated/skastro.{{estimator_name}}.html"


def check_images(
    estimator: BaseEstimator,
    X: Any,
    *,
    reset: bool,
    image_shape: tuple[int, int, int] | None = None,
) -> Any:
    """Check stamps and return them as a 4-D array-like that can be sliced by rows.

    Parameters
    ----------
    estimator : estimator
        Its ``n_features_in_`` is set (``reset=True``) or compared (``reset=False``).
    X : array-like of shape (n, bands, height, width) or (n, features)
        NumPy array, memory map, torch tensor, masked array or any lazy array-like with
        ``shape``, ``dtype`` and row indexing. Rows of a 2-D table without an ``image_shape``
        are strip images of shape (1, 1, features).
    reset : bool
        True in ``fit``.
    image_shape : tuple (bands, height, width), default=None
        How 2-D rows fold into stamps; None: strips in ``fit``, and as fitted later.

    Returns
    -------
    images : array-like of shape (n, bands, height, width)
        Not copied and not converted: `read_stamps` does so for the rows it reads.

    Raises
    ------
    ValueError
        The array is not a stack of stamps, or not of the kind seen in ``fit``.
    """
    if _n_dimensions(X) <= 2:
        return _fold_rows(estimator, X, reset=reset, shape=image_shape)
    images = as_stack(X)
    shape = tuple(images.shape[1:])
    if reset:
        estimator.n_features_in_ = shape[0]
        # names of an earlier fit on a table say nothing about stamps
        vars(estimator).pop("feature_names_in_", None)
    else:
        _compare_shape(type(estimator).__name__, shape, estimator.image_shape_)
    return images


def _n_dimensions(X: Any) -> int:
    if hasattr(X, "shape"):
        return len(X.shape)
    return np.ndim(X) if isinstance(X, (list, tuple)) else 0


def as_stack(X: Any) -> Any:
    """Return X as an array-like of real numbers of shape (n, bands, height, width), uncopied."""
    if hasattr(X, "detach"):  # a torch tensor, without importing torch for those who have none
        X = X.detach().cpu().numpy()
    if not hasattr(X, "shape") or not hasattr(X, "dtype"):
        X = np.asarray(X)
    if np.dtype(X.dtype).kind == "O":
        X = np.asarray(X, dtype=np.float64)
    shape = tuple(X.shape)
    if len(shape) != 4:
        raise ValueError(
            f"X has shape {shape}, but stamps are (n, bands, height, width): "
            "give single-band stamps their band axis with X[:, None]."
        )
    if np.dtype(X.dtype).kind not in "biuf":
        raise ValueError(f"X holds {X.dtype} pixels: convert them to real numbers first.")
    if 0 in shape:
        raise ValueError(f"X of shape {shape} holds no pixel: pass at least one stamp.")
    if shape[3] <= 4 < shape[1] == shape[2]:
        raise ValueError(
            f"X of shape {shape} looks channels-last: use X.transpose(0, 3, 1, 2) "
            "for (n, bands, height, width)."
        )
    return X


def _compare_shape(name: str, shape: tuple[int, ...], fitted: tuple[int, ...]) -> None:
    if shape[0] != fitted[0]:
        raise ValueError(
            f"X has {shape[0]} bands, but {name} was fitted with {fitted[0]}: "
            "pass the same bands in the same order."
        )
    if shape != fitted:
        raise ValueError(
            f"X has stamps of {shape[1]} x {shape[2]} pixels, but {name} was fitted with "
            f"{fitted[1]} x {fitted[2]}: crop or resample them to that size."
        )


def _fold_rows(
    estimator: BaseEstimator, X: Any, *, reset: bool, shape: tuple[int, int, int] | None
) -> NDArray[Any]:
    # fitted on stamps and asked with their flat rows: only the number of values can be compared
    compare = not reset and estimator.image_shape_[:2] == (1, 1)
    if reset or compare:
        rows = validate_data(
            estimator, X, reset=reset, dtype="numeric", ensure_all_finite="allow-nan"
        )
    else:
        rows = check_array(X, dtype="numeric", ensure_all_finite="allow-nan")
    if not reset:
        shape = estimator.image_shape_
    if shape is None:
        shape = (1, 1, rows.shape[1])
    if np.prod(shape) != rows.shape[1]:
        raise ValueError(
            f"X has rows of {rows.shape[1]} values, but stamps of shape {tuple(shape)} have "
            f"{np.prod(shape)}: correct image_shape=(bands, height, width), or the rows."
        )
    return rows.reshape(len(rows), *shape)


def unfold_like(stamps: NDArray[Any], X: Any) -> NDArray[Any]:
    """Return 4-D stamps as flat rows if X was given as flat rows."""
    return stamps.reshape(len(stamps), -1) if _n_dimensions(X) <= 2 else stamps


def contained(estimator: BaseEstimator, output: NDArray[Any], X: Any) -> Any:
    """Return rows in the container that `set_output` asks for; stamps, no table, as they are."""
    library = _get_output_config("transform", estimator)["dense"]
    if output.ndim != 2 or library == "default":
        return output
    adapter = ADAPTERS_MANAGER.adapters[library]
    return adapter.create_container(output, X, columns=estimator.get_feature_names_out)


def read_stamps(
    images: Any, rows: slice | NDArray[Any], *, first_row: int = 0
) -> NDArray[np.float32]:
    """Read some stamps as native float32 pixels, refusing what no network can use.

    Parameters
    ----------
    images : array-like of shape (n, bands, height, width)
        As returned by `check_images`.
    rows : slice or int array
        The rows to read.
    first_row : int, default=0
        What to add to a row's number in an error.

    Returns
    -------
    stamps : float32 array of shape (rows, bands, height, width)
        Masked pixels are NaN. Not to be written to: it may be a view of ``images``.

    Raises
    ------
    ValueError
        A pixel is infinite, or a stamp has no finite pixel.
    """
    raw = images[rows]
    if isinstance(raw, np.ma.MaskedArray):
        raw = np.ma.filled(raw.astype(np.float32), np.nan)
    is_float = np.dtype(raw.dtype).kind == "f"
    with np.errstate(over="ignore"):  # beyond float32 is caught as infinite below
        stamps = np.asarray(raw).astype(np.float32, order="C", copy=False)
    if not stamps.flags.writeable:  # a view of read-only pixels, which torch does not take
        stamps = stamps.copy()
    if is_float:
        _check_pixels(stamps, rows, first_row)
    return stamps


def read_ahead(images: Any, parts: Iterable[slice | NDArray[Any]]) -> Iterator[NDArray[np.float32]]:
    """Read the stamps of each part in turn, lazy ones while the last part is in use.

    Parameters
    ----------
    images : array-like of shape (n, bands, height, width)
        As returned by `check_images`.
    parts : iterable of slice or int array
        Rows.

    Yields
    ------
    stamps : float32 array of shape (rows, bands, height, width)
        As returned by `read_stamps`.
    """
    if type(images) is np.ndarray:  # a memory map is read from the disk
        yield from (read_stamps(images, rows) for rows in parts)
        return
    with ThreadPoolExecutor(1, thread_name_prefix="skastro-read") as reader:
        waiting: deque[Future[NDArray[np.float32]]] = deque()
        for rows in parts:
            waiting.append(reader.submit(read_stamps, images, rows))
            if len(waiting) > 1:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


def _check_pixels(stamps: NDArray[np.float32], rows: slice | NDArray[Any], first_row: int) -> None:
    # the sum is finite almost always, and costs far less than two full masks
    with np.errstate(over="ignore", invalid="ignore"):  # it may overflow: then the masks tell
        if np.isfinite(stamps.sum()):
            return
    flat = stamps.reshape(len(stamps), -1)
    numbers = np.arange(flat.shape[0]) + first_row
    if isinstance(rows, np.ndarray):
        numbers = np.flatnonzero(rows) if rows.dtype == bool else rows
    elif rows.start:
        numbers = numbers + rows.start
    infinite = np.isinf(flat).any(axis=1)
    if infinite.any():
        raise ValueError(
            f"X holds an infinite pixel in row {numbers[infinite.argmax()]} "
            f"({infinite.sum()} such rows): mask it with NaN."
        )
    empty = np.isnan(flat).all(axis=1)
    if empty.any():
        raise ValueError(
            f"X has no finite pixel in row {numbers[empty.argmax()]} "
            f"({empty.sum()} such rows): remove such stamps."
        )


def count_missing_pixels(images: Any) -> int:
    """Read every stamp once, in chunks: raise on bad ones, count the pixels that are NaN."""
    if np.dtype(images.dtype).kind != "f" and not isinstance(images, np.ma.MaskedArray):
        return 0
    missing = 0
    for start in range(0, len(images), _SCAN_ROWS):
        missing += int(np.isnan(read_stamps(images, slice(start, start + _SCAN_ROWS))).sum())
    return missing


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
