"""Write thumbnails of many stamps as one picture, for pages."""

from __future__ import annotations

import math
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from skastro.stamps.arrays import as_stack
from skastro.stamps.rgb import display_bands, to_rgb
from skastro.utils.files import write_whole

MAX_BYTES = 8_500_000  # as base64, this leaves room for BokehJS and the table below 15 MB
_MAX_SIDE = 16_383  # pixels, of a WebP picture
_MAX_PIXELS = 2**24  # phones reduce larger pictures
# WebP compresses blocks of 16 pixels: tiles of whole blocks do not blur into their neighbours
_TILES = (96, 80, 64, 48, 32)
_QUALITIES = (82, 70, 55, 40)
_SAMPLE_SIZE = 256  # stamps that predict the size of the compressed picture
_STRETCH, _GAMMA_POWER = 5.0, 0.35  # of single stamps: of linear pixels, and of pictures
_MAX_SMOOTHED = 8.0  # enlargement of a stamp above which its pixels are shown as squares
_CHUNK_SIZE = 1024  # stamps composed at once


def write_thumbnails(
    path: str | Path,
    images: Any,
    *,
    bands: Sequence[int | str] | None = None,
    max_bytes: int = MAX_BYTES,
) -> Path:
    """Write thumbnails of all stamps as one WebP picture.

    The thumbnails are square tiles of 32 to 96 pixels, row by row in the order of the stamps,
    with ceil(sqrt(n)) tiles in a row. The tiles get smaller, and the compression stronger,
    until the picture fits into ``max_bytes``.

    Parameters
    ----------
    path : path
        File to write. `write_report` looks for ``thumbnails.webp`` in the folder of a study.
    images : array-like of shape (n, bands, height, width)
        Stamps for `to_rgb`: linear pixels, or uint8 pixels that are shown unchanged.
    bands : sequence of three int or str, default=None
        Bands shown as red, green and blue. By default, those named i, r and g, if there are; else
        3, 2, 1 of five bands or more, 2, 1, 0 of fewer bands, and 0, 1, 2 of uint8 pixels.
    max_bytes : int, default=8_500_000
        Largest size of the picture. Very many stamps may need more with the smallest tiles.

    Returns
    -------
    path : Path

    Raises
    ------
    ValueError
        There are too many stamps for one picture (about 260,000), or a band does not exist.
    OSError
        The file cannot be written.

    Examples
    --------
    >>> import tempfile
    >>> stamps = np.random.default_rng(0).normal(size=(5, 3, 16, 16))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = write_thumbnails(f"{folder}/thumbnails.webp", stamps)
    ...     with Image.open(path) as picture:
    ...         picture.size  # 3 tiles of 32 pixels in a row, 2 rows
    (96, 64)
    """
    path = Path(path).expanduser()
    write_whole(path, encode_thumbnails(images, bands=bands, max_bytes=max_bytes))
    return path


def encode_thumbnails(
    images: Any, *, bands: Sequence[int | str] | None = None, max_bytes: int = MAX_BYTES
) -> bytes:
    """Return the WebP picture that `write_thumbnails` writes."""
    stack = as_stack(images, name="images")
    n, bands = len(stack), display_bands(stack) if bands is None else bands
    max_columns = _MAX_SIDE // _TILES[-1]
    if n > max_columns**2:
        raise ValueError(
            f"images has {n:,} stamps, but one picture holds {max_columns**2:,} thumbnails: "
            "pass a sample of the objects."
        )
    tile, quality = _choose_setting(stack, bands, max_bytes)
    return _encode(_compose_sheet(stack, bands, tile), quality)


def encode_stamp(
    images: Any, *, size: int = 320, stretch: float = 0.5, bands: Sequence[int | str] | None = None
) -> bytes:
    """Return the first of some stamps as a PNG, with a longer side of ``size`` pixels.

    Stamps that are enlarged by more than eight are not smoothed: their pixels are squares. A
    ``stretch`` of 0 shows bright parts, 1 faint ones, and 0.5 is that of thumbnails. ``bands``
    are those of `write_thumbnails`.

    Examples
    --------
    >>> png = encode_stamp(np.random.default_rng(0).normal(size=(1, 3, 16, 12)), size=64)
    >>> Image.open(BytesIO(png)).size
    (48, 64)
    """
    stack = as_stack(images, name="images")[:1]
    bands = display_bands(stack) if bands is None else bands
    factor = 10 ** (2 * stretch - 1)
    pixels = to_rgb(stack, bands=bands, stretch=_STRETCH / factor)[0].transpose(1, 2, 0)
    if np.dtype(stack.dtype) == np.uint8:  # a picture is shown as it is: make it brighter or darker
        pixels = (255 * (pixels / 255) ** (factor**-_GAMMA_POWER)).round().astype(np.uint8)
    scale = size / max(pixels.shape[:2])
    height, width = (max(1, round(scale * side)) for side in pixels.shape[:2])
    smoothing = Image.Resampling.NEAREST if scale > _MAX_SMOOTHED else Image.Resampling.LANCZOS
    picture = Image.fromarray(np.ascontiguousarray(pixels)).resize((width, height), smoothing)
    stream = BytesIO()
    picture.save(stream, format="PNG", compress_level=1)
    return stream.getvalue()


def sheet_columns(n: int) -> int:
    """Return how many of n thumbnails are in a row."""
    return math.ceil(math.sqrt(n))


def _choose_setting(stack: Any, bands: Sequence[int | str], max_bytes: int) -> tuple[int, int]:
    """Return the largest tile and the best quality that will fit, estimated from a sample."""
    n = len(stack)
    rows = np.unique(np.linspace(0, n - 1, min(n, _SAMPLE_SIZE)).astype(int))
    sample, stamp_side = stack[rows], max(stack.shape[2:])
    max_sample_bytes = max_bytes * len(rows) / n
    tiles = [
        tile
        for tile in _TILES
        if tile < stamp_side + 16 and (sheet_columns(n) * tile) ** 2 <= _MAX_PIXELS
    ] or [_TILES[-1]]
    for tile in tiles:
        sheet = _compose_sheet(sample, bands, tile)
        # strong compression looks worse than smaller tiles, and is used with the smallest only
        for quality in _QUALITIES if tile == tiles[-1] else _QUALITIES[:2]:
            if len(_encode(sheet, quality)) <= max_sample_bytes:
                return tile, quality
    return tiles[-1], _QUALITIES[-1]


def _compose_sheet(stack: Any, bands: Sequence[int | str], tile: int) -> Image.Image:
    """Place a tile of each stamp on a black sheet; stamps that are not square have black bars."""
    n, n_columns = len(stack), sheet_columns(len(stack))
    sheet = Image.new("RGB", (n_columns * tile, -(-n // n_columns) * tile))
    scale = tile / max(stack.shape[2:])
    height, width = (max(1, round(scale * side)) for side in stack.shape[2:])
    for start in range(0, n, _CHUNK_SIZE):
        pictures = to_rgb(stack[start : start + _CHUNK_SIZE], bands=bands)
        for row, pixels in enumerate(pictures.transpose(0, 2, 3, 1), start):
            picture = Image.fromarray(np.ascontiguousarray(pixels))
            top, left = tile * (row // n_columns), tile * (row % n_columns)
            place = left + (tile - width) // 2, top + (tile - height) // 2
            sheet.paste(picture.resize((width, height), Image.Resampling.LANCZOS), place)
    return sheet


def _encode(sheet: Image.Image, quality: int) -> bytes:
    stream = BytesIO()
    sheet.save(stream, format="WEBP", quality=quality, method=4)
    return stream.getvalue()
