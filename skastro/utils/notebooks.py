"""Describe results in a few lines of text, and as HTML for notebooks."""

from __future__ import annotations

import base64
import html
from io import BytesIO
from itertools import islice
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from PIL import Image

_MAX_NAMES = 8  # named in a line of text
_STRIP_STAMPS, _STRIP_HEIGHT = 12, 64  # stamps, and pixels of the screen
_WHITE = 0.995  # quantile of the pixels of a stamp that is shown white
_MAX_ROWS, _MAX_COLUMNS = 60, 14  # of a table in a notebook


def list_some(names: Any) -> str:
    """Return the first of some names, with their numbers if they have any, and how many follow.

    ``names`` has a length and can be iterated; a dict holds the number of each name.

    Examples
    --------
    >>> list_some({"star": 1200, "galaxy": 7})
    'star (1,200), galaxy (7)'
    >>> list_some(range(11))
    '0, 1, 2, 3, 4, 5, 6, 7 and 3 more'
    """
    first = list(islice(names, _MAX_NAMES))
    if isinstance(names, dict):
        first = [f"{name} ({names[name]:,})" for name in first]
    rest = len(names) - len(first)
    return ", ".join(map(str, first)) + (f" and {rest:,} more" if rest else "")


def as_html(text: str, *tables_or_pictures: pd.DataFrame | str) -> str:
    """Return HTML of a text, followed by tables (shortened if they are long) and other HTML.

    Examples
    --------
    >>> as_html("2 < 3", "<img>")
    '<div style="overflow-x: auto"><pre>2 &lt; 3</pre><img></div>'
    """
    parts = [
        part
        if isinstance(part, str)
        else part.to_html(max_rows=_MAX_ROWS, max_cols=_MAX_COLUMNS, border=0, float_format="%.6g")
        for part in tables_or_pictures
    ]
    return f'<div style="overflow-x: auto"><pre>{html.escape(text)}</pre>{"".join(parts)}</div>'


def picture_strip(images: Any) -> str:
    """Return HTML that shows some stamps side by side, evenly spaced by row.

    Photographs (uint8 with three bands) are shown unchanged, and otherwise the mean of the bands.
    Nothing is shown of stamps that cannot be read: what a notebook displays must not fail.

    Examples
    --------
    >>> picture_strip(np.random.default_rng(0).normal(size=(20, 3, 8, 8)))[:29]
    '<img alt="some of 20 stamps" '
    """
    n = len(images)
    rows = np.unique(np.linspace(0, max(n - 1, 0), min(n, _STRIP_STAMPS)).astype(np.int64))
    try:
        pixels = np.asarray(images[rows])
        if pixels.dtype != np.uint8 or pixels.shape[1] != 3:
            pixels = _stretch(pixels)
        strip = np.concatenate([_frame(stamp) for stamp in pixels.transpose(0, 2, 3, 1)], axis=1)
    except (OSError, ValueError, IndexError):
        return ""
    picture, stream = Image.fromarray(strip), BytesIO()
    picture.thumbnail((strip.shape[1], _STRIP_HEIGHT))  # a notebook keeps it: large stamps shrink
    picture.save(stream, format="PNG")
    data = base64.b64encode(stream.getvalue()).decode("ascii")
    return (
        f'<img alt="some of {n:,} stamps" src="data:image/png;base64,{data}" '
        f'style="height: {_STRIP_HEIGHT}px; max-width: 100%; image-rendering: pixelated">'
    )


def _stretch(pixels: NDArray[Any]) -> NDArray[np.uint8]:
    """Show the mean of the bands, from the median of each stamp (black) to its bright pixels."""
    finite = np.where(np.isfinite(pixels), pixels, 0).astype(np.float64)
    grey = finite.mean(axis=1, keepdims=True)
    grey -= np.median(grey, axis=(2, 3), keepdims=True)
    white = np.quantile(grey, _WHITE, axis=(2, 3), keepdims=True)
    share = np.sqrt(np.clip(grey / np.where(white > 0, white, 1), 0, 1))
    return np.repeat((255 * share).astype(np.uint8), 3, axis=1)


def _frame(stamp: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Add a white column to the right of a stamp (height, width, 3)."""
    return np.pad(stamp, ((0, 0), (0, 1), (0, 0)), constant_values=255)
