"""Check arrays of stamps and read them as float32, in parts."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_array, validate_data

from skastro.utils.files import digest_arrays

_SAMPLED = 64  # stamps by which other pixels are told


def sample_pixels(images: Any) -> str:
    """Return a hash of up to 64 stamps from all over a stack, however large it is.

    Parameters
    ----------
    images : array-like of shape (n, bands, height, width)

    Returns
    -------
    digest : str

    Examples
    --------
    >>> stamps = np.zeros((1000, 1, 4, 4))
    >>> before = sample_pixels(stamps)
    >>> stamps[-1] = 1.0
    >>> sample_pixels(stamps) == before
    False
    """
    rows = np.unique(np.linspace(0, len(images) - 1, min(_SAMPLED, len(images))).astype(np.int64))
    return digest_arrays(read_stamps(images, rows))


_SCAN_ROWS = 1024


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
