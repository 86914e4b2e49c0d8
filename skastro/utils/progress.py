"""Report the progress of long work to a command, a study or a notebook."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable, Hashable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache
from time import perf_counter
from typing import Any

Progress = Callable[[str, int, int | None], None]  # stage, how much is done, of how much
Say = Callable[[str], None]  # one sentence for a person

_LISTENER: ContextVar[Progress | None] = ContextVar("skastro_progress")
_SECONDS_BEFORE_BAR = 1.0  # of work, after which a notebook shows a bar


def say_nothing(_: str) -> None:
    """Discard a message."""


@contextmanager
def reporting(progress: Progress | None) -> Iterator[None]:
    """Send the progress of all work in this block to a function.

    It reaches ``fit`` and ``transform``, whose signatures have no place for such a function. It
    is called as ``progress(stage, done, total)``, where ``total`` is None if it is unknown. With
    None the work in the block reports nothing, such as the many small fits of a curve that
    reports its own progress. Outside of such blocks, Jupyter notebooks show a bar.

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


def _find_listener() -> Progress | None:
    """Return the function that gets reports: that of `reporting`, or the bar of a notebook."""
    try:
        return _LISTENER.get()
    except LookupError:
        shell = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
        in_notebook = type(shell).__name__ == "ZMQInteractiveShell"  # that of Jupyter's kernels
        return _notebook_bar() if in_notebook else None


@cache
def _notebook_bar() -> NotebookBar:
    return NotebookBar()


class NotebookBar:
    """Show the current stage as a bar of tqdm, once it has taken a second, until it is done."""

    def __init__(self) -> None:
        self._stage = ""
        self._bar: Any = None

    def __call__(self, stage: str, done: int, total: int | None) -> None:
        """Move the bar, and begin a new one where the stage is another, or begins again."""
        if self._bar is None or stage != self._stage or done < self._bar.n:
            self._close()
            self._stage, self._bar = stage, _make_bar(stage, total)
        self._bar.total = total
        self._bar.update(done - self._bar.n)
        if total is not None and done >= total:
            self._close()

    def _close(self) -> None:
        if self._bar is not None:
            self._bar.close()
        self._bar = None


def _make_bar(stage: str, total: int | None) -> Any:
    share = "{percentage:3.0f}% {bar} " if total is not None else ""
    left = ", {remaining} left" if total is not None else ""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # without ipywidgets, tqdm draws the bar as text
        from tqdm.auto import tqdm  # noqa: PLC0415 - only in notebooks

        return tqdm(
            desc=stage, total=total, delay=_SECONDS_BEFORE_BAR, leave=False,
            bar_format=f"{{desc}}: {share}{{elapsed}}{left}",
        )  # fmt: skip


def report_to(stage: str, total: int | None = None) -> Callable[[int], None]:
    """Return a function that reports how much of one stage, such as "embedding", is done.

    ``total`` is the whole amount of work, None if unknown. Outside `reporting` it does nothing,
    except in a notebook.
    """
    listener = _find_listener()
    if listener is None:
        return lambda _: None
    return lambda done: listener(stage, done, total)


class WorkEstimate:
    """Report a stage of many unequal pieces of work in tenths of seconds: those spent, and of all.

    Guesses say how many seconds each piece takes. They are corrected by the time of the pieces
    that are done: those of the same kind, or all if no piece of this kind is done.

    Parameters
    ----------
    stage : str
        What the listener of `reporting` shows.
    guesses : mapping
        Of each piece its kind, and a guess of its seconds.

    Examples
    --------
    >>> guesses = {"a": ("fits", 1.0), "b": ("fits", 3.0)}
    >>> with reporting(lambda stage, done, total: print(stage, done <= total)):
    ...     work = WorkEstimate("learning", guesses)
    ...     work.finish("a")
    learning True
    learning True
    """

    def __init__(self, stage: str, guesses: Mapping[Hashable, tuple[Hashable, float]]) -> None:
        self._listener, self._stage = _find_listener(), stage
        self._left = dict(guesses)
        self._seconds: dict[Hashable, tuple[float, float]] = {}  # of a kind: guessed and spent
        self._spent, self._since = 0.0, perf_counter()
        self._tell(0.0, 0.0)

    def beat(self, piece: Hashable, *_: object) -> None:
        """Report that a piece is still being worked on."""
        elapsed = perf_counter() - self._since
        self._tell(elapsed, max(0.0, elapsed - self._expect(*self._left[piece])))

    def finish(self, piece: Hashable) -> None:
        """Report that a piece is done, and correct the guesses."""
        kind, guess = self._left.pop(piece)
        elapsed, self._since = perf_counter() - self._since, perf_counter()
        self._spent += elapsed
        guessed, spent = self._seconds.get(kind, (0.0, 0.0))
        self._seconds[kind] = guessed + guess, spent + elapsed
        self._tell(0.0, 0.0)

    def _expect(self, kind: Hashable, guess: float) -> float:
        """Return how many seconds a piece will take."""
        known = [self._seconds[kind]] if kind in self._seconds else self._seconds.values()
        guessed, spent = (sum(part) for part in zip(*known, strict=True)) if known else (1.0, 1.0)
        return guess * spent / guessed

    def _tell(self, elapsed: float, excess: float) -> None:
        """Report, where the current piece has taken ``excess`` seconds more than expected."""
        if self._listener is not None:
            done = self._spent + elapsed
            total = self._spent + excess + sum(self._expect(*each) for each in self._left.values())
            self._listener(self._stage, round(10 * done), max(round(10 * total), round(10 * done)))


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
