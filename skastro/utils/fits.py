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
# words of names of extensions that go with an image, and are not an image of the sky in a band
_COMPANION = re.compile(
    r"area|background|bad|badpix|bg|bkg|bpm|chi|chisq|con|conf|confidence|context|"
    r"cov|coverage|ctx|depth|dq|errors|errs|exp|expmap|exposure|exptime|flag|"
    r"flags|flg|footprint|galdepth|imarr|maskbits|masks|model|msk|ncov|nexp|nimage|nobs|"
    r"noise|psf|psfdepth|psfsize|qual|quality|resid|residual|residuals|rms|samp|"
    r"seg|segm|segmap|segmentation|sig|sigma|sky|snr|stat|std|stddev|stdev|time|unc|"
    r"uncert|uncertainty|wcsdvarr|weights|wgt|wht|wt"
    r"|.*(err|error|mask|var|variance|weight|weightmap|noisemap)"
)
_WORDS = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])")  # also in gErr
_LETTERS = re.compile(r"[A-Za-z]+")
_UNPACKERS: dict[bytes, Any] = {b"\x1f\x8b": gzip.open, b"BZ": bz2.open}  # by first bytes
_TYPE_CARD = re.compile(
    rb"(XTENSION|EXTNAME|EXTVER|FILTER|HDUCLAS2|Z?NAXIS|Z?BITPIX|BSCALE|BZERO|Z?BLANK) *="
)
_COUNT_CARD = re.compile(rb"(NAXIS\d*|BITPIX|PCOUNT|GCOUNT|TFIELDS) *= *(-?\d+)", re.IGNORECASE)


def is_band_name(name: str) -> bool:
    """Return whether an extension of this name may be an image of the sky in a band.

    Errors, masks, weights and the like (``ERR``, ``DQ``, ``IVAR_R``, ``r_mask``) are not. An
    extension without a name may be one.

    Examples
    --------
    >>> [is_band_name(name) for name in ("SCI", "F814W", "", "ERR", "IVAR_R", "stDev", "VAR1")]
    [True, True, True, False, False, False, False]
    """
    words = [word.lower() for word in (*_WORDS.findall(name), *_LETTERS.findall(name))]
    return not any(map(_COMPANION.fullmatch, words))


def read_type_cards(path: Path) -> tuple[bytes, ...]:
    """Return the header cards of a FITS file on the types and the names of its extensions.

    Files with equal cards have pixels of the same types. This is many times faster than astropy.
    """
    cards: list[bytes] = []
    with path.open("rb") as file:
        unpack = _UNPACKERS.get(file.read(2))
        file.seek(0)
        _end_of_data(path, file if unpack is None else unpack(file), cards)
    return tuple(cards)


@contextmanager
def open_fits(path: Path) -> Iterator[IO[bytes]]:
    """Open a FITS file for reading, and unpack it in memory if it is compressed as a whole.

    A file that is truncated, or whose header gives more than 999 axes or columns or a negative
    size, is an `UnfitError`: astropy would return the rest of a truncated file, loop over any
    number of axes, and never end on damaged extensions of a compressed file. An unpacked file
    ends after the data that its headers describe.
    """
    with path.open("rb") as file:
        unpack = _UNPACKERS.get(file.read(2))
        file.seek(0)
        if unpack is None:
            end = _end_of_data(path, file)
            _check_length(path, file.seek(0, io.SEEK_END), end)
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


def _end_of_data(path: Path, stream: IO[bytes], type_cards: list[bytes] | None = None) -> int:
    """Return the position in bytes after the data of the last extension with a FITS header."""
    end = 0
    cards: list[bytes] = [] if type_cards is None else type_cards
    while counts := _read_counts(stream, cards):
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


def _read_counts(stream: IO[bytes], type_cards: list[bytes]) -> dict[str, int]:
    """Return the sizes in the next header, by keyword; an empty dict if no header follows.

    Cards on the type and the name of the extension are added to ``type_cards``.
    """
    counts: dict[str, int] = {}
    while len(block := stream.read(_BLOCK_LENGTH)) == _BLOCK_LENGTH:
        if not counts and not block.startswith((b"SIMPLE", b"XTENSION")):
            break
        for start in range(0, _BLOCK_LENGTH, _CARD_LENGTH):
            card = block[start : start + _CARD_LENGTH]
            if _TYPE_CARD.match(card):
                type_cards.append(card)
            if match := _COUNT_CARD.match(card):
                counts.setdefault(match[1].decode().upper(), int(match[2]))
            elif card.startswith(b"END     "):
                return counts
    return {}
