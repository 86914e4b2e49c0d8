"""Report the progress of long work to a command, a study or a notebook."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

Progress = Callable[[str, int, int | None], None]  # stage, how much is done, of how much
Say = Callable[[str], None]  # one sentence for a person

_LISTENER: ContextVar[Progress | None] = ContextVar("skastro_progress", default=None)


def say_nothing(_: str) -> None:
    """Discard a message."""


@contextmanager
def reporting(progress: Progress | None) -> Iterator[None]:
    """Send the progress of all work in this block to a function.

    It reaches ``fit`` and ``transform``, whose signatures have no place for such a function. It
    is called as ``progress(stage, done, total)``, where ``total`` is None if it is unknown. With
    None the work in the block reports nothing, such as the many small fits of a curve that
    reports its own progress.

    Examples
    --------
    >>> with reporting(lambda stage, done, total: print(stage, done, total)):
    ...     report_to("embedding", 20)(10)
    embedding 10 20
    """
    token = _LISTENER.set(progress)
    try:
        yield
    finally:
        _LISTENER.reset(token)


def report_to(stage: str, total: int | None = None) -> Callable[[int], None]:
    """Return a function that reports how much of one stage, such as "embedding", is done.

    ``total`` is the whole amount of work, None if unknown. Outside `reporting` it does nothing.
    """
    listener = _LISTENER.get()
    if listener is None:
        return lambda _: None
    return lambda done: listener(stage, done, total)


def show_seconds(seconds: float) -> str:
    """Return a time in words, in seconds, minutes or hours.

    Examples
    --------
    >>> show_seconds(12.3), show_seconds(400), show_seconds(9000)
    ('12 s', '7 min', '2.5 h')
    """
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"
