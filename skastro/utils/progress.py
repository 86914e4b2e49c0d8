"""Report the progress of long work to whoever asked for it: a command, a study, a notebook."""

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
    """Send the progress of all work inside to a function.

    Estimators have scikit-learn's signatures, so that a progress function cannot be handed to
    ``fit`` or ``transform``: they take the one that is in force here.

    Parameters
    ----------
    progress : callable or None
        Called as ``progress(stage, done, total)``; ``total`` is None where it is unknown. None
        silences the work inside, such as the many small fits of a curve that reports for itself.

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
    """Return a function of how much is done, which reports one stage of the work.

    Parameters
    ----------
    stage : str
        What is being done, for people: "embedding".
    total : int or None, default=None
        How much there is to do; None where it is unknown.

    Returns
    -------
    report : callable
        Does nothing outside `reporting`.
    """
    listener = _LISTENER.get()
    if listener is None:
        return lambda _: None
    return lambda done: listener(stage, done, total)
