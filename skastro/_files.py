"""Files that cannot be written, in one sentence."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_FULL = (errno.ENOSPC, errno.EFBIG, errno.EDQUOT)


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
        if error.errno is None:
            raise
        reason, remedy = error.strerror or str(error), "choose a folder that you may write to."
        if error.errno in _FULL:
            reason, remedy = "no space is left", "make room, and call again."
        raise type(error)(f"{path} cannot be written ({reason}): {remedy}") from error
