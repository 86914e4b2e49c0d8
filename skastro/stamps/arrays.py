"""Check arrays of stamps, and read them in parts as float32."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_array, validate_data

from skastro.utils.files import digest_arrays
from skastro.utils.progress import report_to

_MAX_HASHED_STAMPS = 64
_CHECKED_AT_ONCE = 1024  # stamps


def sample_pixels(images: Any) -> str:
    """Return a hash of at most 64 stamps, spread evenly over a stack.

    Examples
    --------
    >>> stamps = np.zeros((1000, 1, 4, 4))
    >>> before = sample_pixels(stamps)
    >>> stamps[-1] = 1.0
    >>> sample_pixels(stamps) == before
    False
    """
    n_hashed = min(_MAX_HASHED_STAMPS, len(images))
    rows = np.unique(np.linspace(0, len(images) - 1, n_hashed).astype(np.int64))
    return digest_arrays(read_stamps(images, rows))


def check_images(
    estimator: BaseEstimator,
    X: Any,
    *,
    reset: bool,
    image_shape: tuple[int, int, int] | None = None,
) -> Any:
    """Check stamps and return them as a 4-D array-like that can be sliced by rows.

    X of shape (n, bands, height, width) or (n, features) is a NumPy array, memory map, torch
    tensor, masked array or any lazy array-like with ``shape``, ``dtype`` and row indexing. It is
    neither copied nor converted: `read_stamps` converts the rows that it reads.

    In ``fit``, with ``reset``, the ``n_features_in_`` of the estimator is set, and rows of a 2-D
    table are stamps of ``image_shape``, or with None strips of shape (1, 1, features). After
    ``fit`` stamps of another shape are refused.
    """
    if _count_dimensions(X) <= 2:
        return _fold_rows(estimator, X, reset=reset, shape=image_shape)
    images = as_stack(X)
    shape = tuple(images.shape[1:])
    if reset:
        estimator.n_features_in_ = shape[0]
        # remove the names of columns that an earlier fit on a table has left
        vars(estimator).pop("feature_names_in_", None)
    elif shape != (fitted := estimator.image_shape_):
        name = type(estimator).__name__
        if shape[0] != fitted[0]:
            raise ValueError(
                f"X has {shape[0]} bands, but {name} was fitted with {fitted[0]}: "
                "pass the same bands in the same order."
            )
        raise ValueError(
            f"X has stamps of {shape[1]} x {shape[2]} pixels, but {name} was fitted with "
            f"{fitted[1]} x {fitted[2]}: crop or resample them to that size."
        )
    return images


def _count_dimensions(X: Any) -> int:
    if hasattr(X, "shape"):
        return len(X.shape)
    return np.ndim(X) if isinstance(X, (list, tuple)) else 0


def as_stack(X: Any) -> Any:
    """Check that X has the shape (n, bands, height, width) and real numbers, without a copy."""
    if hasattr(X, "detach"):  # a torch tensor; this folder does not import torch
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


def _fold_rows(
    estimator: BaseEstimator, X: Any, *, reset: bool, shape: tuple[int, int, int] | None
) -> NDArray[Any]:
    """Check a 2-D table and reshape its rows to stamps."""
    options: dict[str, Any] = {"dtype": "numeric", "ensure_all_finite": "allow-nan"}
    if reset or estimator.image_shape_[:2] == (1, 1):
        rows = validate_data(estimator, X, reset=reset, **options)
    else:  # after a fit on stamps there are no columns to compare with
        rows = check_array(X, **options)
    shape = (shape or (1, 1, rows.shape[1])) if reset else estimator.image_shape_
    if np.prod(shape) != rows.shape[1]:
        raise ValueError(
            f"X has rows of {rows.shape[1]} values, but stamps of shape {tuple(shape)} have "
            f"{np.prod(shape)}: correct image_shape=(bands, height, width), or the rows."
        )
    return rows.reshape(len(rows), *shape)


def unfold_like(stamps: NDArray[Any], X: Any) -> NDArray[Any]:
    """Return 4-D stamps as flat rows if X was given as flat rows."""
    return stamps.reshape(len(stamps), -1) if _count_dimensions(X) <= 2 else stamps


def read_stamps(
    images: Any, rows: slice | NDArray[Any], *, first_row: int = 0
) -> NDArray[np.float32]:
    """Read some stamps as float32 pixels in the machine's byte order, with NaN where masked.

    A stamp with an infinite pixel or without any finite pixel is a ValueError. Its message has the
    number of the row, to which ``first_row`` is added. Do not write to the result: it may be a
    view of ``images``.
    """
    raw = images[rows]
    if isinstance(raw, np.ma.MaskedArray):
        raw = np.ma.filled(raw.astype(np.float32), np.nan)
    is_float = np.dtype(raw.dtype).kind == "f"
    with np.errstate(over="ignore"):  # pixels beyond float32 become infinite, and are refused
        stamps = np.asarray(raw).astype(np.float32, order="C", copy=False)
    if not stamps.flags.writeable:  # torch needs writable arrays
        stamps = stamps.copy()
    if is_float:
        _check_pixels(stamps, rows, first_row)
    return stamps


def read_chunks(images: Any, size: int, stage: str) -> Iterator[NDArray[np.float32]]:
    """Read all stamps with `read_stamps`, ``size`` at a time, and report the progress."""
    report = report_to(stage, len(images))
    for start in range(0, len(images), size):
        yield read_stamps(images, slice(start, start + size))
        report(min(start + size, len(images)))


def read_ahead(images: Any, parts: Iterable[slice | NDArray[Any]]) -> Iterator[NDArray[np.float32]]:
    """Read the stamps of each part in turn with `read_stamps`.

    While the caller uses a part of a lazy stack, a thread already reads the next one.
    """
    if type(images) is np.ndarray:  # a memory map is read from the disk
        yield from (read_stamps(images, rows) for rows in parts)
        return
    with ThreadPoolExecutor(1, thread_name_prefix="skastro-read") as reader:
        waiting: Future[NDArray[np.float32]] | None = None
        for rows in parts:
            previous, waiting = waiting, reader.submit(read_stamps, images, rows)
            if previous:
                yield previous.result()
        if waiting:
            yield waiting.result()


def _check_pixels(stamps: NDArray[np.float32], rows: slice | NDArray[Any], first_row: int) -> None:
    """Refuse stamps with an infinite pixel or without a finite one."""
    # if the sum of all pixels is finite, as nearly always, no masks are needed; it may overflow
    with np.errstate(over="ignore", invalid="ignore"):
        if np.isfinite(stamps.sum()):
            return

    # find the first unusable stamp
    if isinstance(rows, slice):
        numbers = np.arange(len(stamps)) + (rows.start or 0) + first_row
    else:
        numbers = np.flatnonzero(rows) if rows.dtype == bool else rows
    flat = stamps.reshape(len(stamps), -1)
    for unusable, problem, remedy in (
        (np.isinf(flat).any(axis=1), "holds an infinite pixel", "mask it with NaN"),
        (np.isnan(flat).all(axis=1), "has no finite pixel", "remove such stamps"),
    ):
        if unusable.any():
            where = f"in row {numbers[unusable.argmax()]} ({unusable.sum()} such rows)"
            raise ValueError(f"X {problem} {where}: {remedy}.")


def count_missing_pixels(images: Any) -> int:
    """Read all stamps once, refuse unusable ones, and return the number of NaN pixels."""
    if np.dtype(images.dtype).kind != "f" and not isinstance(images, np.ma.MaskedArray):
        return 0
    chunks = read_chunks(images, _CHECKED_AT_ONCE, "checking the stamps")
    return sum(int(np.isnan(stamps).sum()) for stamps in chunks)
