"""Files: written as a whole or not at all, and in one sentence if not."""

from __future__ import annotations

import errno
import glob
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

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
