"""Bring the axes of stamps in files into the order (n, bands, height, width).

Axes are text with one letter for each: ``n`` stamps, ``c`` bands, ``h`` height, ``w`` width, and
``1`` for an axis of length 1 that is left out.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skastro.utils.files import UnfitError

_SYNONYMS = str.maketrans("byx", "chw")
_LETTERS_OF_NAMES = {
    "h": "h y height row rows ny lat dec",
    "w": "w x width col cols column columns nx lon ra",
    "c": "b c band bands channel channels color colour filter filters freq frequency wave "
    "wavelength",
    "n": "batch cutout cutouts example galaxy id ids image images index item n nobj number obj "
    "object objects record sample samples source sources stamp stamps",
}
_LETTER_OF_NAME = {
    name: letter for letter, names in _LETTERS_OF_NAMES.items() for name in names.split()
}

_MAX_LAST_BANDS = 12  # bands on the last axis, where height and width differ
_MIN_SIDE = 8  # pixels, where height and width differ


def parse_axes(axes: str | None) -> str | None:
    """Return axes in the letters n, c, h and w; None stays None.

    ``b`` is another letter for ``c``, ``y`` for ``h``, and ``x`` for ``w``. Axes without height or
    width, with another letter, or with a letter twice, are a ValueError.

    Examples
    --------
    >>> parse_axes("NYXB")
    'nhwc'
    """
    if axes is None:
        return None
    letters = str(axes).lower().translate(_SYNONYMS)
    if not {"h", "w"} <= set(letters) <= set("nchw") or len(set(letters)) < len(letters):
        raise ValueError(
            f"axes={axes!r} must have the letters h (height) and w (width), and may have n "
            '(stamps) and c (bands), each once: pass axes="nhwc" for (n, height, width, bands).'
        )
    return letters


def axes_of_names(names: Sequence[str] | None) -> str | None:
    """Find axes by the names of the dimensions of an array; return None if they say too little.

    One name may be unknown if one axis alone is missing.

    Examples
    --------
    >>> axes_of_names(["object", "y", "x", "band"]), axes_of_names(["galaxies", "c", "pix_y", "x"])
    ('nhwc', 'nchw')
    >>> axes_of_names(["dim_0", "dim_1", "dim_2", "dim_3"]) is None
    True
    """
    letters = [_find_letter(str(name)) for name in names or ()]
    missing = [letter for letter in "nchw" if letter not in letters]
    if letters.count("") == 1 and len(missing) == 1:
        letters[letters.index("")] = missing[0]
    is_clear = "" not in letters and len(set(letters)) == len(letters)
    return "".join(letters) if is_clear and {"h", "w"} <= set(letters) else None


def _find_letter(name: str) -> str:
    words = [name.lower(), *re.findall("[a-z]+", name.lower())]
    if words[0] in _LETTER_OF_NAME:
        return _LETTER_OF_NAME[words[0]]
    found = {_LETTER_OF_NAME.get(word, "") for word in words}
    return next((letter for letter in "hwcn" if letter in found), "")  # x_image is an x


def axes_of_stamp(shape: Sequence[int]) -> str | None:
    """Return the axes of one stamp without names, or None if they are not clear.

    They are (height, width) or (bands, height, width), with any axes of length 1 before, between
    and after them.

    Examples
    --------
    >>> axes_of_stamp((3, 8, 8)), axes_of_stamp((1, 1, 8, 8)), axes_of_stamp((8, 8, 1))
    ('chw', '1chw', 'hw1')
    >>> axes_of_stamp((2, 3, 8, 8)) is None
    True
    """
    n = len(shape)
    if n == 2:
        return "hw"
    if n == 3:
        return "hw1" if shape[2] == 1 < min(shape[:2]) else "chw"
    if n < 2:
        return None
    if shape[0] == 1:
        inner = axes_of_stamp(shape[1:])
        return inner and f"1{inner}"
    long = [i for i, length in enumerate(shape) if length > 1]
    if len(long) not in (2, 3):
        return None
    letters = ["1"] * n
    for i, letter in zip(long, "chw"[-len(long) :], strict=True):
        letters[i] = letter
    return "".join(letters)


def fit_axes(axes: str, shape: Sequence[int], where: Any, *, stack: bool) -> str:
    """Return given axes for an array of this shape, with n added or left out if that is clear."""
    if len(axes) == len(shape):
        return axes
    if stack and "n" not in axes and len(shape) == len(axes) + 1:
        return f"n{axes}"
    if not stack and "n" in axes and len(shape) == len(axes) - 1:
        return axes.replace("n", "")
    raise UnfitError(
        f"{where} has the shape {tuple(shape)}, but axes={axes!r} names {len(axes)} axes: "
        "pass one letter for each axis."
    )


def arrange(array: NDArray[Any], axes: str) -> NDArray[Any]:
    """Return a view of an array, whose axes are named, as (n, bands, height, width).

    Examples
    --------
    >>> arrange(np.zeros((7, 8, 9, 3)), "nhwc").shape, arrange(np.zeros((8, 9, 1)), "hw1").shape
    ((7, 3, 8, 9), (1, 1, 8, 9))
    """
    array = array[tuple(0 if letter == "1" else slice(None) for letter in axes)]
    letters = axes.replace("1", "")
    array = array.transpose([letters.index(letter) for letter in "nchw" if letter in letters])
    return np.expand_dims(array, [i for i, letter in enumerate("nchw") if letter not in letters])


def arranged_shape(shape: Sequence[int], axes: str) -> tuple[int, int, int, int]:
    """Return the shape (n, bands, height, width) of an array whose axes are named."""
    length_of = dict(zip(axes, shape, strict=True))
    n, bands, height, width = (int(length_of.get(letter, 1)) for letter in "nchw")
    return n, bands, height, width


def looks_channels_last(shape: tuple[int, ...]) -> bool:
    """Return whether the last axis of one stamp, or of a stack of stamps, seems to be the bands.

    It has at most 12 elements, and the two axes before it have at least 8, and at least twice as
    many; or the two axes before it are equal, of at least 5 elements, and longer. Only the last
    three axes of ``shape`` are looked at.

    Examples
    --------
    >>> looks_channels_last((100, 48, 64, 5)), looks_channels_last((64, 64, 3))
    (True, True)
    >>> looks_channels_last((100, 5, 48, 64)), looks_channels_last((100, 1, 1, 10))
    (False, False)
    """
    if len(shape) < 3:
        return False
    height, width, bands = shape[-3:]
    if height == width > bands:
        return height > 4
    return bands <= _MAX_LAST_BANDS and min(height, width) >= max(_MIN_SIDE, 2 * bands)


def warn_channels_last(path: Any, shape: tuple[int, ...], axes: str) -> None:
    """Warn if stamps that are read as (bands, height, width) look like (height, width, bands)."""
    if looks_channels_last(arranged_shape(shape, axes)):
        other = axes.translate(str.maketrans("chw", "hwc"))
        warnings.warn(
            f"{path} of shape {shape} looks channels-last: pass axes={other!r} (--axes {other}) if "
            f"its last axis is the bands, or axes={axes!r} if it is the width.",
            UserWarning,
            stacklevel=5,
        )
