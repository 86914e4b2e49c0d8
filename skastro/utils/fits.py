"""Files that cannot be read, in one sentence each: damaged, hostile, or of another kind."""

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

_FITS_BLOCK = 2880  # bytes
_FITS_CARD = 80
_MOST_FITS_COUNTS = 999  # axes and columns that the standard allows
_FITS_COUNT = re.compile(rb"(NAXIS\d*|BITPIX|PCOUNT|GCOUNT|TFIELDS) *= *(-?\d+)", re.IGNORECASE)


@contextmanager
def open_fits(path: Path) -> Iterator[IO[bytes]]:
    """Open a FITS file, unpacked if it is compressed as a whole, after a look at its headers.

    astropy reads what is there of a truncated file, loops over as many axes as it is told, and for
    ever over damaged extensions of a compressed file, whose length it takes for that of the data.

    Parameters
    ----------
    path : Path

    Yields
    ------
    file : binary file
        Of an unpacked one, what its headers count; it is in memory.

    Raises
    ------
    UnfitError
        It is truncated, has more than 999 axes or columns, or a negative number of something.
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
            _check_length(path, packed.seek(end), end)  # which stops where the file does
            packed.seek(0)
            content = packed.read(end + -end % _FITS_BLOCK)
        yield io.BytesIO(content)


def _check_length(path: Path, actual: int, needed: int) -> None:
    if actual < needed:
        raise UnfitError(f"{path} is truncated ({actual:,} of {needed:,} bytes): copy it again.")


def _end_of_data(path: Path, stream: IO[bytes]) -> int:
    """Return where the data end of the last extension that can be recognised as one."""
    end = 0
    while counts := _read_counts(stream):
        backwards = any(n < 0 for name, n in counts.items() if name != "BITPIX")
        most = max(counts.get("NAXIS", 0), counts.get("TFIELDS", 0))
        if backwards or most > _MOST_FITS_COUNTS:
            raise UnfitError(f"{path} has a damaged FITS header: copy it again.")
        end = stream.tell() + _size(counts)
        stream.seek(end + -end % _FITS_BLOCK)
        if stream.tell() < end:  # a packed one has no more
            break
    return end


def _read_counts(stream: IO[bytes]) -> dict[str, int]:
    """Read one header; return what it counts, nothing where there is no further one."""
    counts: dict[str, int] = {}
    while len(block := stream.read(_FITS_BLOCK)) == _FITS_BLOCK:
        if not counts and not block.startswith((b"SIMPLE", b"XTENSION")):
            break
        for start in range(0, _FITS_BLOCK, _FITS_CARD):
            card = block[start : start + _FITS_CARD]
            if match := _FITS_COUNT.match(card):
                counts.setdefault(match[1].decode().upper(), int(match[2]))
            elif card.startswith(b"END     "):
                return counts
    return {}


def _size(counts: dict[str, int]) -> int:
    """Return the bytes of data behind a header (FITS standard 4.0, equation 2)."""
    axes = [counts.get(f"NAXIS{i + 1}", 0) for i in range(counts.get("NAXIS", 0))]
    elements = counts.get("PCOUNT", 0) + (math.prod(axes) if axes else 0)
    return abs(counts.get("BITPIX", 8)) // 8 * counts.get("GCOUNT", 1) * elements
