"""Check arrays of stamps, and read them in parts as float32."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_array, validate_data

from skastro.stamps.axes import looks_channels_last
from skastro.stamps.bands import find_bands
from skastro.stamps.containers import has_named_axes, to_array, write_selection
from skastro.stamps.stack import Stamps, take_bands
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

    X of shape (n, bands, height, width) or (n, features) is in any container that `to_array`
    knows. Arrays and `Stamps` are neither copied nor converted: `read_stamps` converts the rows
    that it reads.

    In ``fit``, with ``reset``, ``n_features_in_`` and, where X has names of its bands, ``bands_``
    of the estimator are set, and rows of a 2-D table are stamps of ``image_shape``, or with None
    strips of shape (1, 1, features). After ``fit`` bands that have names are put in the order of
    ``fit``, lazily; others than those of ``fit`` are left out, and stamps that lack one are
    refused, as are those of another shape. A warning says that all bands have other names. An
    estimator whose ``image_shape_`` is None takes stamps of any bands and size, and 2-D rows in the
    shape of its parameter ``image_shape``.
    """
    images = to_array(X)
    if len(images.shape) <= 2:
        return _fold_rows(estimator, images, reset=reset, shape=image_shape)
    images = _check_stack(images, X, "X")
    bands = getattr(images, "bands", None)
    if reset:
        estimator.n_features_in_ = images.shape[1]
        estimator.bands_ = None if bands is None else tuple(map(str, bands))
    elif estimator.image_shape_ is not None:
        if bands is not None and getattr(estimator, "bands_", None) is not None:
            images = _order_bands(images, tuple(map(str, bands)), estimator)
        _check_shape(tuple(images.shape[1:]), estimator)
    return images


def _check_shape(shape: tuple[int, ...], estimator: BaseEstimator) -> None:
    """Refuse stamps of another shape than in `fit`."""
    fitted, name = estimator.image_shape_, type(estimator).__name__
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


def _order_bands(images: Any, bands: tuple[str, ...], estimator: BaseEstimator) -> Any:
    """Put bands in the order of `fit` by their names; refuse stamps that lack one of them."""
    fitted = estimator.bands_
    places = find_bands(fitted, bands)
    if places == list(range(len(bands))):
        return images
    found = [place for place in places if place is not None]
    both = (
        f"X has the bands {', '.join(bands)}, but {type(estimator).__name__} was fitted with "
        f"{', '.join(fitted)}"
    )
    if not found:
        warnings.warn(
            f"{both}: make sure that they are the same filters in the same order.",
            UserWarning,
            stacklevel=4,
        )
        return images
    if len(set(found)) < len(fitted):
        lacking = [name for name, place in zip(fitted, places, strict=True) if place is None]
        raise ValueError(
            f"{both}: pass stamps with {', '.join(lacking) or 'each of these bands'}, or give "
            "filters that are the same the same names (bands= of open_stamps, --bands of the "
            "commands)."
        )
    return take_bands(images, found, fitted)


def as_stack(X: Any, *, name: str = "X") -> Any:
    """Return stamps in any container as an array-like (n, bands, height, width) of real numbers.

    See `to_array` for the containers. What is not a stack of stamps, or has its bands last, is a
    ValueError about the argument ``name``.
    """
    return _check_stack(to_array(X, name=name), X, name)


def _check_stack(images: Any, X: Any, name: str) -> Any:
    """Check the shape and dtype of stamps that `to_array` has made of X."""
    if np.dtype(images.dtype if hasattr(images, "dtype") else "f8").kind == "O":
        images = np.asarray(images, dtype=np.float64)
    shape = tuple(images.shape)
    if len(shape) != 4:
        raise ValueError(
            f"{name} has shape {shape}, but stamps are (n, bands, height, width): "
            f"{_suggest_shape(X, name, shape)}."
        )
    if np.dtype(images.dtype).kind not in "biuf":
        raise ValueError(f"{name} holds {images.dtype} pixels: convert them to real numbers first.")
    if 0 in shape:
        raise ValueError(f"{name} of shape {shape} holds no pixel: pass at least one stamp.")
    if looks_channels_last(shape) and not has_known_axes(X):
        remedy = write_selection(X, name, "0, 3, 1, 2")
        if isinstance(X, Stamps):
            remedy = 'open_stamps(..., axes="nhwc"), or axes="hwc" for files of one stamp,'
        raise ValueError(
            f"{name} of shape {shape} looks channels-last: use {remedy} for "
            "(n, bands, height, width)."
        )
    return images


def has_known_axes(X: Any) -> bool:
    """Return whether the order of the axes does not have to be guessed from the shape."""
    return getattr(X, "axes", None) is not None or has_named_axes(X)


def _suggest_shape(X: Any, name: str, shape: tuple[int, ...]) -> str:
    """Return what to do with stamps that do not have four axes."""
    if len(shape) == 1:
        return "pass the stamps themselves"
    if len(shape) == 2:
        return f"use {name}[None, None] for one stamp of one band"
    if len(shape) == 3 and looks_channels_last(shape):
        return f"use {write_selection(X, name, '2, 0, 1')}[None] for one stamp with its bands last"
    if len(shape) == 3:
        array = name if hasattr(X, "shape") else f"np.stack({name})"
        return (
            f"use {array}[:, None] for {shape[0]} single-band stamps, or {array}[None] for one "
            f"stamp of {shape[0]} bands"
        )
    if len(shape) == 5 and 1 in shape[1:]:
        return f"remove the axis of length 1 with np.squeeze({name}, axis={shape.index(1, 1)})"
    return "bring them into this shape"


def _fold_rows(
    estimator: BaseEstimator, X: Any, *, reset: bool, shape: tuple[int, int, int] | None
) -> NDArray[Any]:
    """Check a 2-D table and reshape its rows to stamps."""
    options: dict[str, Any] = {"dtype": "numeric", "ensure_all_finite": "allow-nan"}
    fitted: Any = None if reset else estimator.image_shape_ or estimator.image_shape
    if not reset and fitted is None:
        raise ValueError(
            "X has rows of numbers, whose shape as stamps is not known: pass stamps of shape (n, "
            "bands, height, width), or call set_params(image_shape=(bands, height, width)) first."
        )
    if reset or fitted[:2] == (1, 1):
        rows = validate_data(estimator, X, reset=reset, **options)
    else:  # after a fit on stamps there are no columns to compare with
        rows = check_array(X, **options)
    shape = tuple(shape or (1, 1, rows.shape[1])) if reset else tuple(fitted)
    if looks_channels_last(shape):
        raise ValueError(
            f"image_shape={shape} looks like (height, width, bands), but rows hold (bands, height, "
            f"width): pass X.reshape(-1, {', '.join(map(str, shape))}).transpose(0, 3, 1, 2)."
        )
    if np.prod(shape) != rows.shape[1]:
        raise ValueError(
            f"X has rows of {rows.shape[1]} values, but stamps of shape {tuple(shape)} have "
            f"{np.prod(shape)}: correct image_shape=(bands, height, width), or the rows."
        )
    return rows.reshape(len(rows), *shape)


def read_stamps(
    images: Any, rows: slice | NDArray[Any], *, first_row: int = 0
) -> NDArray[np.float32]:
    """Read some stamps as float32 pixels in the machine's byte order, with NaN where masked.

    A stamp with an infinite pixel or without any finite pixel is a ValueError. Its message has the
    number of the row, to which ``first_row`` is added. Do not write to the result: it may be a
    view of ``images``.
    """
    raw = images[rows]
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
    if np.dtype(images.dtype).kind != "f":
        return 0
    chunks = read_chunks(images, _CHECKED_AT_ONCE, "checking the stamps")
    return sum(int(np.isnan(stamps).sum()) for stamps in chunks)
