"""Thumbnails of many stamps in one picture: small enough for a page, quick to look up."""

from __future__ import annotations

import math
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from skastro.stamps.arrays import as_stack
from skastro.stamps.rgb import display_bands, to_rgb
from skastro.utils.files import write_atomically, writing

MAX_BYTES = 8_500_000  # in base64 they leave room for BokehJS and the table below 15 MB
_MAX_SIDE = 16_383  # pixels, of a WebP picture
_MAX_PIXELS = 2**24  # phones shrink larger pictures
# WebP compresses blocks of 16 pixels: tiles of whole blocks do not run into one another
_TILES = (96, 80, 64, 48, 32)
_QUALITIES = (82, 70, 55, 40)
_SAMPLE = 256  # stamps whose compression foretells that of all
_BLOCK = 1024  # stamps composed at once


def write_thumbnails(
    path: str | Path,
    images: Any,
    *,
    bands: Sequence[int | str] | None = None,
    max_bytes: int = MAX_BYTES,
) -> Path:
    """Write thumbnails of all stamps as one WebP picture.

    Parameters
    ----------
    path : path
        For example ``thumbnails.webp``, which `write_report` looks for in the folder of a
        study.
    images : array-like of shape (n, bands, height, width)
    bands : sequence of three int or str, default=None
    max_bytes : int, default=8_500_000
        As in ``encode_thumbnails``.

    Returns
    -------
    path : Path

    Raises
    ------
    ValueError
        As in ``encode_thumbnails``.
    OSError
        The file cannot be written.

    Examples
    --------
    >>> import tempfile
    >>> stamps = np.random.default_rng(0).normal(size=(5, 3, 16, 16))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = write_thumbnails(f"{folder}/thumbnails.webp", stamps)
    ...     with Image.open(path) as picture:
    ...         picture.size  # 3 tiles of 32 pixels a row, 2 rows
    (96, 64)
    """
    path = Path(path).expanduser()
    encoded = encode_thumbnails(images, bands=bands, max_bytes=max_bytes)
    with writing(path):
        write_atomically(path, encoded)
    return path


def encode_thumbnails(
    images: Any, *, bands: Sequence[int | str] | None = None, max_bytes: int = MAX_BYTES
) -> bytes:
    """Compose thumbnails of all stamps into one WebP picture.

    The tiles are squares of 32 to 96 pixels, `sheet_columns` of them in a row, in the order of
    the stamps: the number of stamps is all that is needed to find one again. They get smaller,
    and the compression stronger, until the picture fits.

    Parameters
    ----------
    images : array-like of shape (n, bands, height, width)
        As in `to_rgb`: linear pixels, or uint8 that can be shown as they are.
    bands : sequence of three int or str, default=None
        The bands shown as red, green and blue. None takes 3, 2, 1 of five bands and more
        (i, r, g of ugriz), 2, 1, 0 of fewer, and 0, 1, 2 of uint8.
    max_bytes : int, default=8_500_000
        Of the picture. With very many stamps the smallest tiles may take more.

    Returns
    -------
    picture : bytes
        WebP.

    Raises
    ------
    ValueError
        There are too many stamps for one picture (about 260,000), or no such band.

    Examples
    --------
    >>> stamps = np.random.default_rng(0).normal(size=(5, 3, 16, 16))
    >>> encode_thumbnails(stamps)[8:12]
    b'WEBP'
    """
    stack = as_stack(images)
    n, bands = len(stack), display_bands(stack) if bands is None else bands
    largest = _MAX_SIDE // _TILES[-1]
    if n > largest**2:
        raise ValueError(
            f"images has {n:,} stamps, but one picture holds {largest**2:,} thumbnails: "
            "pass a sample of the objects."
        )
    tile, quality = _choose_setting(stack, bands, max_bytes)
    return _encode(_lay_out(stack, bands, tile), quality)


def sheet_columns(n: int) -> int:
    """Return how many tiles a sheet of n thumbnails has in a row.

    Parameters
    ----------
    n : int

    Returns
    -------
    columns : int
        The rows are as many or one fewer.

    Examples
    --------
    >>> sheet_columns(5000)
    71
    """
    return math.ceil(math.sqrt(n))


def _choose_setting(stack: Any, bands: Sequence[int | str], max_bytes: int) -> tuple[int, int]:
    """Return the largest tile and the best quality that will fit, as a sample says."""
    n = len(stack)
    rows = np.unique(np.linspace(0, n - 1, min(n, _SAMPLE)).astype(int))
    sample, native = stack[rows], max(stack.shape[2:])
    share = max_bytes * len(rows) / n
    tiles = [
        tile
        for tile in _TILES
        if tile < native + 16 and (sheet_columns(n) * tile) ** 2 <= _MAX_PIXELS
    ] or [_TILES[-1]]
    for tile in tiles:
        sheet = _lay_out(sample, bands, tile)
        for quality in _QUALITIES if tile == tiles[-1] else _QUALITIES[:2]:
            if len(_encode(sheet, quality)) <= share:
                return tile, quality
    return tiles[-1], _QUALITIES[-1]


def _lay_out(stack: Any, bands: Sequence[int | str], tile: int) -> NDArray[np.uint8]:
    n, columns = len(stack), sheet_columns(len(stack))
    sheet = np.zeros((-(-n // columns) * tile, columns * tile, 3), dtype=np.uint8)
    for start in range(0, n, _BLOCK):
        pictures = to_rgb(stack[start : start + _BLOCK], bands=bands)
        for row, stamp in enumerate(pictures, start):
            top, left = tile * (row // columns), tile * (row % columns)
            sheet[top : top + tile, left : left + tile] = _shrink(stamp, tile)
    return sheet


def _shrink(stamp: NDArray[np.uint8], tile: int) -> NDArray[np.uint8]:
    """Bring an RGB stamp (3, height, width) to (tile, tile, 3), black where it is no square."""
    picture = Image.fromarray(np.ascontiguousarray(stamp.transpose(1, 2, 0)))
    scale = tile / max(picture.size)
    width, height = (max(1, round(scale * side)) for side in picture.size)
    picture = picture.resize((width, height), Image.Resampling.LANCZOS)
    canvas = Image.new("RGB", (tile, tile))
    canvas.paste(picture, ((tile - width) // 2, (tile - height) // 2))
    return np.asarray(canvas)


def _encode(sheet: NDArray[np.uint8], quality: int) -> bytes:
    stream = BytesIO()
    Image.fromarray(sheet).save(stream, format="WEBP", quality=quality, method=4)
    return stream.getvalue()
