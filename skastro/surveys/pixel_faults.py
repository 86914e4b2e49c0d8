"""Find faults in the pixels of stamps: files that cannot be read, and values that fill gaps."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skastro.surveys.groups import digest_stamps, group_equal
from skastro.utils.masks import fill_masked
from skastro.utils.progress import report_to

_PIXELS_PER_READ = 2**22
_MAX_STAMPS_PER_READ = 1024
_MIN_FILLED_SHARE = 0.04  # of a band's pixels, in blocks of one value
_MIN_USUAL_PIXELS = 9  # in blocks of zero or of a band's lowest value, which often fill gaps
_MIN_LINE_LENGTH = 8  # pixels of a row or column of one value
_MIN_SATURATED_PIXELS = 4
_MAX_BANDS_COMPARED = 12
_MAX_NAMES = 8  # files or values that a message names
_NAME_OF_FILE = re.compile(r"(.+?) (cannot be|is|has|holds|asks) ")  # the beginning of an error

_Flags = NDArray[np.bool_]


@dataclass
class PixelFaults:
    """Faults in the pixels of ``n_read`` stamps that could be read.

    ``unreadable`` has the error of each other row. ``groups`` (n,) has for each row the first
    row with the same pixels. All other numbers count stamps: those ``empty`` (no finite pixel, or
    one value only) and ``infinite`` (an infinite pixel); of each band those where it is ``zero``
    or another ``constant``, though other bands are not; those with a block or a line of one value,
    by ``fill_values``; those with a block of their highest value (``saturated``); and those where
    two bands are ``equal``.
    """

    n_read: int = 0
    unreadable: dict[int, str] = field(default_factory=dict)
    groups: NDArray[np.int64] = field(default_factory=lambda: np.empty(0, np.int64))
    missing_share: float = np.nan
    empty: int = 0
    infinite: int = 0
    zero: Counter[int] = field(default_factory=Counter)
    constant: Counter[int] = field(default_factory=Counter)
    fill_values: Counter[float] = field(default_factory=Counter)
    saturated: int = 0
    equal: Counter[tuple[int, int]] = field(default_factory=Counter)

    def describe_unreadable(self) -> str:
        """Return a sentence that names the files that cannot be read."""
        files = list(dict.fromkeys(map(_name_of_file, self.unreadable.items())))
        names = ", ".join(files[:_MAX_NAMES])
        more = f" and {len(files) - _MAX_NAMES:,} others" if len(files) > _MAX_NAMES else ""
        first = next(iter(self.unreadable.values())).rstrip(".")
        n = len(self.unreadable)
        if n == 1:
            return f"1 stamp cannot be read: {first}."
        return f"{n:,} stamps cannot be read ({names}{more}); the first: {first}."

    def describe(self, names: list[str]) -> list[str]:
        """Return sentences on all other faults; ``names`` are those of the bands."""
        n, sentences = f"of {self.n_read:,} stamps", []
        for count, what in (
            (self.infinite, "hold infinite pixels"),
            (self.empty, "are empty (no finite pixel, or one value only)"),
        ):
            if count:
                sentences.append(f"{count:,} {n} {what}: remove or mask them.")
        for counts, what in (
            (self.zero, "is zero everywhere"),
            (self.constant, "has a single value, or none"),
        ):
            if counts:
                bands = [f"band {names[band]} in {k:,}" for band, k in sorted(counts.items())]
                sentences.append(f"A band {what} ({', '.join(bands)} {n}): set it to NaN.")
        if self.fill_values:
            common = self.fill_values.most_common(_MAX_NAMES)
            values = ", ".join(f"{value:g} in {count:,}" for value, count in common)
            sentences.append(
                f"Blocks, rows or columns of pixels have one value ({values} {n}): set them to NaN "
                "if they stand for missing pixels."
            )
        if self.saturated:
            sentences.append(
                f"{self.saturated:,} {n} have a block of pixels of their highest value: they may "
                "be saturated."
            )
        for (one, other), count in sorted(self.equal.items()):
            sentences.append(
                f"The bands {names[one]} and {names[other]} hold the same pixels in {count:,} {n}: "
                "keep one of them."
            )
        return sentences


def find_pixel_faults(images: Any) -> PixelFaults:
    """Read all stamps once, and find faults in their pixels.

    Stamps that cannot be read are left out and listed. In 8-bit pictures, whose few values repeat
    anyway, only rows and columns of one value in every band are faults, and not if most pictures
    have them.

    Examples
    --------
    >>> stamps = np.random.default_rng(0).normal(size=(5, 2, 8, 8))
    >>> stamps[3, 1] = 0
    >>> stamps[4, :, :3] = -99
    >>> faults = find_pixel_faults(stamps)
    >>> dict(faults.zero), dict(faults.fill_values)
    ({1: 1}, {-99.0: 1})
    """
    faults, n = PixelFaults(), len(images)
    faults.groups = np.arange(n)
    rows_read: list[int] = []
    digests: list[bytes] = []
    n_pixels = n_missing = 0
    for rows, pixels in _read_parts(images, faults.unreadable):
        rows_read += rows
        digests += digest_stamps(pixels)
        n_pixels += pixels.size
        n_missing += int(np.isnan(pixels).sum())
        _inspect(pixels, faults)
    faults.n_read = len(rows_read)
    if images.dtype.itemsize == 1:
        usual = [v for v, count in faults.fill_values.items() if 2 * count > faults.n_read]
        faults.fill_values = faults.fill_values - Counter(dict.fromkeys(usual, faults.n_read))
    if rows_read:
        faults.missing_share = n_missing / n_pixels
        faults.groups[rows_read] = np.array(rows_read)[group_equal(digests)]
    return faults


def _read_parts(images: Any, errors: dict[int, str]) -> Iterator[tuple[list[int], NDArray[Any]]]:
    """Yield the rows that can be read and their pixels, and note the errors of the others."""
    n, report = len(images), report_to("reading the stamps", len(images))
    per_stamp = max(1, int(np.prod(images.shape[1:])))
    step = int(np.clip(_PIXELS_PER_READ // per_stamp, 1, _MAX_STAMPS_PER_READ))
    for start in range(0, n, step):
        rows = range(start, min(start + step, n))
        try:
            yield list(rows), fill_masked(images[start : start + step])
        except (ValueError, OSError):
            yield from _read_singly(images, rows, errors)
        report(rows.stop)


def _read_singly(
    images: Any, rows: range, errors: dict[int, str]
) -> Iterator[tuple[list[int], NDArray[Any]]]:
    for row in rows:
        try:
            pixels = fill_masked(images[row])[None]
        except (ValueError, OSError) as error:
            errors[row] = " ".join(str(error).split())
        else:
            yield [row], pixels


def _name_of_file(error_of_row: tuple[int, str]) -> str:
    row, error = error_of_row
    match = _NAME_OF_FILE.match(error)
    return Path(match[1]).name if match else f"row {row}"


def _inspect(pixels: NDArray[Any], faults: PixelFaults) -> None:
    """Add the faults of some stamps (n, bands, height, width)."""
    pixels = pixels.astype(np.float32) if pixels.dtype == np.float16 else pixels  # which is slow
    finite = np.isfinite(pixels)
    lowest = np.where(finite, pixels, np.inf).min(axis=(2, 3))
    highest = np.where(finite, pixels, -np.inf).max(axis=(2, 3))
    is_constant = lowest >= highest  # without finite pixels the lowest is above the highest
    is_empty = lowest.min(axis=1) >= highest.max(axis=1)
    faults.empty += int(is_empty.sum())
    faults.infinite += int(np.isinf(pixels).any(axis=(1, 2, 3)).sum())

    # bands that hold nothing, beside others that do
    is_dead = is_constant & ~is_empty[:, None]
    is_zero = is_dead & (lowest == 0) & (highest == 0)
    for counts, flags in ((faults.zero, is_zero), (faults.constant, is_dead & ~is_zero)):
        counts.update({int(b): int(flags[:, b].sum()) for b in np.flatnonzero(flags.any(axis=0))})
    n_bands = pixels.shape[1]
    if n_bands <= _MAX_BANDS_COMPARED:
        for one, other in combinations(range(n_bands), 2):
            same = (pixels[:, one] == pixels[:, other]) | ~finite[:, one] & ~finite[:, other]
            if count := int((same.all(axis=(1, 2)) & ~is_constant[:, one]).sum()):
                faults.equal[one, other] += count
    _find_fills(pixels, lowest, highest, ~is_constant, faults)


def _find_fills(
    pixels: NDArray[Any],
    lowest: NDArray[Any],
    highest: NDArray[Any],
    usable: _Flags,
    faults: PixelFaults,
) -> None:
    """Add the values that fill blocks and lines of the usable bands (n, bands)."""
    blocks, lines = _equal_blocks(pixels), _equal_lines(pixels)
    is_picture = pixels.dtype.itemsize == 1
    if is_picture:  # the values of a dark sky repeat
        lines &= lines.all(axis=1, keepdims=True)
        blocks[:] = False
    fills: dict[int, set[float]] = {}
    # zero, or the lowest value, in a small block
    for usual in (lowest, np.zeros_like(lowest)):
        is_usual = blocks & (pixels == usual[..., None, None])
        for row, band in np.argwhere(usable & (is_usual.sum(axis=(2, 3)) >= _MIN_USUAL_PIXELS)):
            fills.setdefault(int(row), set()).add(float(usual[row, band]))
    # any value in a line or in large blocks
    has_line = np.asarray(lines.any(axis=(2, 3)))
    is_large = blocks.mean(axis=(2, 3)) >= _MIN_FILLED_SHARE
    for row, band in np.argwhere(usable & (has_line | is_large)):
        filled = (lines if has_line[row, band] else blocks)[row, band]
        values, counts = np.unique(pixels[row, band][filled], return_counts=True)
        value, share = float(values[counts.argmax()]), counts.max() / filled.size
        if (has_line[row, band] or share >= _MIN_FILLED_SHARE) and value != highest[row, band]:
            fills.setdefault(int(row), set()).add(value)
    for found in fills.values():
        faults.fill_values.update(found)
    # the highest value in a block
    if not is_picture:
        is_high = (blocks & (pixels == highest[..., None, None])).sum(axis=(2, 3))
        faults.saturated += int((usable & (is_high >= _MIN_SATURATED_PIXELS)).any(axis=1).sum())


def _equal_blocks(pixels: NDArray[Any]) -> _Flags:
    """Return which pixels lie in a block of 2 x 2 pixels of one value."""
    right, below = (
        pixels[..., :, 1:] == pixels[..., :, :-1],
        pixels[..., 1:, :] == pixels[..., :-1, :],
    )
    corner = right[..., 1:, :] & right[..., :-1, :] & below[..., :, :-1]
    covered = np.zeros(pixels.shape, bool)
    height, width = corner.shape[-2:]
    for y, x in ((0, 0), (0, 1), (1, 0), (1, 1)):
        covered[..., y : y + height, x : x + width] |= corner
    return covered & np.isfinite(pixels)


def _equal_lines(pixels: NDArray[Any]) -> _Flags:
    """Return which pixels lie in a row or a column of one value."""
    flags = np.zeros(pixels.shape, bool)
    for axis in (2, 3):
        if pixels.shape[axis] >= _MIN_LINE_LENGTH:
            flags |= (pixels == pixels.take([0], axis=axis)).all(axis=axis, keepdims=True)
    return flags & np.isfinite(pixels)
