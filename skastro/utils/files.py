"""Files: written as a whole or not at all, and in one sentence if not."""

from __future__ import annotations

import errno
import glob
import hashlib
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import numpy as np
from numpy.typing import NDArray


def digest_arrays(*arrays: NDArray[Any]) -> str:
    """Return a hash of arrays of numbers or text: of shapes, dtypes and values."""
    digest = hashlib.sha256()
    for array in arrays:
        digest.update(f"{array.shape}{array.dtype}".encode())
        digest.update(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)
    return digest.hexdigest()


_LONGEST_REASON = 200  # characters


class UnfitError(ValueError):
    """A file that can be read, but does not hold what is wanted; its sentence is complete."""


@contextmanager
def reading(path: Path, problem: str, remedy: str, *, gone: str) -> Iterator[None]:
    """Turn whatever a reader raises inside into a sentence about the file.

    Formats are read by libraries that stand on other libraries, and the errors of all of them
    come through: of zlib, of the tokenizer, of HDF5, of those that allocate memory.

    Parameters
    ----------
    path : Path
    problem : str
        What is wrong, as in "is no .npy file".
    remedy : str
        What to do, as in "copy it again".
    gone : str
        The same two for a file that is not there.

    Raises
    ------
    FileNotFoundError
        There is no such file.
    ValueError
        Anything else; an `UnfitError` and a missing package (ImportError) stay as they are.

    Examples
    --------
    >>> with reading(Path("a.npy"), "is no .npy file", "copy it again", gone="is gone"):
    ...     raise EOFError("No data left in file")
    Traceback (most recent call last):
    ValueError: a.npy is no .npy file (No data left in file): copy it again.
    """
    try:
        yield
    except (UnfitError, ImportError):
        raise
    except FileNotFoundError as error:
        raise FileNotFoundError(f"{path} {gone}.") from error
    except MemoryError as error:
        raise ValueError(f"{path} asks for more memory than there is: {remedy}.") from error
    except Exception as error:
        raise ValueError(f"{path} {problem} ({first_line(error)}): {remedy}.") from error


def first_line(error: BaseException) -> str:
    r"""Return the first line of what an error says, or else its kind, for use in a sentence.

    Examples
    --------
    >>> first_line(OSError("Truncated.\nSee the manual.")), first_line(EOFError())
    ('Truncated', 'EOFError')
    """
    lines = str(error).strip().splitlines() or [""]
    text = "".join(each if each.isprintable() else "?" for each in lines[0])
    return text[:_LONGEST_REASON].rstrip(". ") or type(error).__name__


_FULL = (errno.ENOSPC, errno.EFBIG, errno.EDQUOT)
_SHORT_WRITE = re.compile(r"\d+ requested and \d+ written")  # all that numpy.save tells of it


def cache_folder() -> Path:
    """Return the folder for what can be computed again: ``SKASTRO_CACHE``, or one in the home."""
    named = os.environ.get("SKASTRO_CACHE")
    return Path(named).expanduser() if named else Path.home() / ".cache" / "skastro"


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn the system's errors inside into a sentence on what could not be written.

    Parameters
    ----------
    path : Path
        What the caller has asked for, not a temporary name.

    Raises
    ------
    OSError
        Of the kind of the system's error; those that are sentences already stay as they are.

    Examples
    --------
    >>> with writing(Path("stamps.npy")):
    ...     raise OSError(errno.ENOSPC, "No space left on device")
    Traceback (most recent call last):
    OSError: stamps.npy cannot be written (no space is left): make room, and call again.
    """
    try:
        yield
    except OSError as error:
        short = _SHORT_WRITE.fullmatch(str(error))
        if error.errno is None and not short:
            raise
        reason, remedy = error.strerror or str(error), "choose a folder that you may write to."
        if error.errno in _FULL or short:
            reason, remedy = "no space is left", "make room, and call again."
        raise type(error)(f"{path} cannot be written ({reason}): {remedy}") from error


def write_atomically(path: Path, content: bytes) -> None:
    """Write a file under a temporary name in its folder, then rename it.

    After a kill there is the file as it was, or as it should be.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with temporary.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def remove_leftovers(path: Path) -> None:
    """Remove what kills in the middle of `write_atomically` left; nobody else may write now."""
    for left in path.parent.glob(f".{glob.escape(path.name)}.*"):
        left.unlink(missing_ok=True)


FITS_ENDINGS = (".fits", ".fit", ".fits.gz", ".fit.gz", ".fits.fz", ".fits.bz2")
PICTURE_ENDINGS = (".png", ".jpg", ".jpeg", ".tif", ".tiff")
ENDINGS = (*FITS_ENDINGS, *PICTURE_ENDINGS, ".npy")


def stem(name: str) -> str:
    """Return a file's name without its folder and its (perhaps double) ending.

    Examples
    --------
    >>> stem("fits/NGC4414_r.fits.gz")
    'NGC4414_r'
    """
    base = Path(name).name
    ending = next((e for e in sorted(ENDINGS, key=len)[::-1] if base.lower().endswith(e)), "")
    return base[: len(base) - len(ending)] if ending else base


def check_ending(path: Path, endings: Sequence[str]) -> str:
    """Return the ending of a file to be written, or say which ones there are."""
    ending = path.suffix.lower()
    if ending not in endings:
        choice = " or ".join(filter(None, [", ".join(endings[:-1]), endings[-1]]))
        raise ValueError(f"{path} must end in {choice}.")
    return ending


@contextmanager
def replacing(target: Path) -> Iterator[Path]:
    """Give a temporary name beside ``target``, of the same ending, that takes its place."""
    temporary = target.with_name(f".{os.getpid()}.{target.name}")
    with writing(target):
        try:
            yield temporary
            temporary.replace(target)
        finally:
            temporary.unlink(missing_ok=True)


def write_arrays(path: Path, arrays: Mapping[str, NDArray[Any]]) -> None:
    """Write named arrays as ``.npz``, and close it whatever happens.

    `numpy.savez` of NumPy 1.26 leaves it open where the disk is full.

    Parameters
    ----------
    path : Path
    arrays : mapping of str to array
        Of dtypes that need no pickle.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_arrays(Path(folder, "a.npz"), {"ids": np.arange(3)})
    ...     with np.load(f"{folder}/a.npz") as found:
    ...         print(found["ids"])
    [0 1 2]
    """
    with ZipFile(path, "w") as archive:
        for name, values in arrays.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as file:
                np.lib.format.write_array(file, values, allow_pickle=False)
