"""Check the headers of FITS files before astropy reads them, as it trusts damaged ones."""

from __future__ import annotations

import bz2
import gzip
import io
import math
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from skastro.utils.files import UnfitError

_BLOCK_LENGTH = 2880  # bytes
_CARD_LENGTH = 80  # bytes
_MAX_COUNT = 999  # of axes, and of columns, in the FITS standard
_COUNT_CARD = re.compile(rb"(NAXIS\d*|BITPIX|PCOUNT|GCOUNT|TFIELDS) *= *(-?\d+)", re.IGNORECASE)


@contextmanager
def open_fits(path: Path) -> Iterator[IO[bytes]]:
    """Open a FITS file for reading, and unpack it in memory if it is compressed as a whole.

    A file that is truncated, or whose header gives more than 999 axes or columns or a negative
    size, is an `UnfitError`: astropy would return the rest of a truncated file, loop over any
    number of axes, and never end on damaged extensions of a compressed file. An unpacked file
    ends after the data that its headers describe.
    """
    with path.open("rb") as file:
        readers: dict[bytes, Any] = {b"\x1f\x8b": gzip.open, b"BZ": bz2.open}
        unpack = readers.get(file.read(2))
        file.seek(0)
        if unpack is None:
            _check_length(path, path.stat().st_size, _end_of_data(path, file))
            file.seek(0)
            yield file
            return
        with unpack(file) as packed:
            end = _end_of_data(path, packed)
            _check_length(path, packed.seek(end), end)  # seek stops at the end of the file
            packed.seek(0)
            content = packed.read(end + -end % _BLOCK_LENGTH)
        yield io.BytesIO(content)


def _check_length(path: Path, actual: int, needed: int) -> None:
    if actual < needed:
        raise UnfitError(f"{path} is truncated ({actual:,} of {needed:,} bytes): copy it again.")


def _end_of_data(path: Path, stream: IO[bytes]) -> int:
    """Return the position in bytes after the data of the last extension with a FITS header."""
    end = 0
    while counts := _read_counts(stream):
        is_negative = any(n < 0 for name, n in counts.items() if name != "BITPIX")
        largest = max(counts.get("NAXIS", 0), counts.get("TFIELDS", 0))
        if is_negative or largest > _MAX_COUNT:
            raise UnfitError(f"{path} has a damaged FITS header: copy it again.")
        # size of the data (FITS standard 4.0, equation 2)
        axes = [counts.get(f"NAXIS{i + 1}", 0) for i in range(counts.get("NAXIS", 0))]
        elements = counts.get("PCOUNT", 0) + (math.prod(axes) if axes else 0)
        size = abs(counts.get("BITPIX", 8)) // 8 * counts.get("GCOUNT", 1) * elements
        end = stream.tell() + size
        stream.seek(end + -end % _BLOCK_LENGTH)
        if stream.tell() < end:  # a truncated compressed file
            break
    return end


def _read_counts(stream: IO[bytes]) -> dict[str, int]:
    """Return the sizes in the next header, by keyword; an empty dict if no header follows."""
    counts: dict[str, int] = {}
    while len(block := stream.read(_BLOCK_LENGTH)) == _BLOCK_LENGTH:
        if not counts and not block.startswith((b"SIMPLE", b"XTENSION")):
            break
        for start in range(0, _BLOCK_LENGTH, _CARD_LENGTH):
            card = block[start : start + _CARD_LENGTH]
            if match := _COUNT_CARD.match(card):
                counts.setdefault(match[1].decode().upper(), int(match[2]))
            elif card.startswith(b"END     "):
                return counts
    return {}
