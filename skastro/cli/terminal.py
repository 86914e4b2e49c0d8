"""Print the output of a command: progress as bars or lines, text, JSON lines, or nothing."""

from __future__ import annotations

import json
import sys
import threading
import warnings
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from itertools import accumulate
from math import inf
from numbers import Integral
from time import monotonic
from typing import TYPE_CHECKING, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, SpinnerColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

from skastro.utils.progress import reporting

if TYPE_CHECKING:
    import pandas as pd

_INTERRUPTED_CODE = 130  # the convention of shells
_WRONG_USE_CODE = 2  # wrong use, or data that cannot be used
_INTERNAL_ERROR_CODE = 1
_WRONG_USE_ERRORS = (
    ValueError, KeyError, TypeError, ImportError, FileNotFoundError, FileExistsError,
    IsADirectoryError, NotADirectoryError, PermissionError,
)  # fmt: skip
_INTERRUPTED_TEXT = "finished files are kept, and no file is half-written."
_EVENT_SECONDS = 0.5  # between two progress events of one stage
_LINE_SECONDS = 5.0  # between two lines about the progress of one stage
_NEW_LINE_SECONDS = 0.5  # from the last line to that of a new stage
_LOOK_SECONDS = 0.2  # between two looks whether a line is due
_N_MARKS, _MARK_SECONDS = 10, 1.0  # by which the pace is measured, and the time between two
_MIN_ESTIMATE_SECONDS = 3.0  # of a stage, before a line says how long it takes
_N_OMITTED = 5  # names of columns without room that are printed


class InterruptedWorkError(Exception):
    """Ctrl-C with a message; typer drops the message of a KeyboardInterrupt."""


@dataclass
class _Stage:
    """A stage of the work, and how far it is."""

    name: str
    total: int | None
    start: float  # by `monotonic`
    # when how much was done, of late
    marks: deque[tuple[float, int]] = field(default_factory=partial(deque, maxlen=_N_MARKS))
    done: int = 0

    def advance(self, now: float, done: int, total: int | None) -> None:
        """Note how much is done now."""
        last_time, last_done = self.marks[-1] if self.marks else (-inf, -1)
        if done != last_done and now - last_time >= _MARK_SECONDS:
            self.marks.append((now, done))
        self.done, self.total = done, total

    def describe(self, now: float) -> str:
        """Return a line such as "pretraining, 40 %, about 1:20 left"."""
        seconds, text = now - self.start, self.name
        if self.total:
            text += f", {100 * self.done / self.total:.0f} %"
        if seconds < _MIN_ESTIMATE_SECONDS:
            return text
        # the pace of late, because parts of the work may be slower than others
        mark_time, mark_done = self.marks[0]
        advance = self.done - mark_done
        if not self.total or not advance:
            return f"{text}, for {_clock(seconds)} so far"
        return (
            f"{text}, about {_clock((now - mark_time) * (self.total - self.done) / advance)} left"
        )


def _clock(seconds: float) -> str:
    minutes, seconds = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"


class Terminal:
    """Progress and messages of a command.

    Where no bars can be shown, such as in a log, a line every few seconds says what runs, how far
    it is and how long it still takes. ``quiet`` prints neither progress nor messages. ``lines``
    prints JSON lines on the standard output instead of bars and text: objects with an ``event``,
    which is "progress", "message", "result" or "error".

    Examples
    --------
    >>> with talking(lines=True) as terminal:
    ...     terminal.say("60 stamps.")
    {"event": "message", "text": "60 stamps."}
    """

    def __init__(self, bars: Progress, *, quiet: bool = False, lines: bool = False) -> None:
        self.bars = bars
        self.quiet = quiet
        self.lines = lines
        self._messages: set[str] = set()  # those printed
        self._tasks: dict[str, Any] = {}
        self._events: dict[str, tuple[float, int]] = {}  # time and progress of the last, by stage
        self._start = self._last_line = monotonic()
        self._stage: _Stage | None = None
        self._printed_stage = ""  # name of the stage of the last line

    @property
    def prints(self) -> bool:
        """Whether to print tables too, because a person reads the output."""
        return not (self.quiet or self.lines)

    def say(self, text: str) -> None:
        """Print a message in one line, each message only once."""
        line = " ".join(text.split())
        if not self.quiet and line not in self._messages:
            if self.lines:
                emit("message", text=line)
            else:
                typer.echo(line)  # rich puts it above the bars
        self._messages.add(line)

    def progress(self, stage: str, done: int, total: int | None) -> None:
        """Move the bar of a stage; a new stage fills the bars of earlier ones."""
        if self.quiet:
            return
        if self.lines:
            now = monotonic()
            last_time, last_done = self._events.get(stage, (-inf, -1))
            if done != last_done and (done == total or now - last_time > _EVENT_SECONDS):
                self._events[stage] = now, done
                emit("progress", stage=stage, done=done, total=total)
            return
        if self.bars.disable:
            now, current = monotonic(), self._stage
            if current is None or current.name != stage or done < current.done:
                current = _Stage(stage, total, now)
            current.advance(now, done, total)
            self._stage = current
            return
        if stage not in self._tasks:
            for task in self._tasks.values():
                self.bars.update(task, completed=1, total=1)
            self._tasks[stage] = self.bars.add_task(stage, total=total)
        self.bars.update(self._tasks[stage], completed=done, total=total)

    def print_lines(self, over: threading.Event) -> None:
        """Print a line about the stage of the work every few seconds, until the event is set."""
        while not over.wait(_LOOK_SECONDS):
            now, stage = monotonic(), self._stage
            if stage is None:
                continue
            is_new = stage.name != self._printed_stage
            if now - self._last_line >= (_NEW_LINE_SECONDS if is_new else _LINE_SECONDS):
                typer.echo(f"[{_clock(now - self._start):>7}] {stage.describe(now)}", err=True)
                self._last_line, self._printed_stage = now, stage.name

    def result(self, **fields: Any) -> None:
        """Print the result as a JSON line, if the command prints JSON lines."""
        if self.lines:
            emit("result", **fields)

    def warn(self, message: Warning | str, *_: Any, **__: Any) -> None:
        """Print a warning; replaces `warnings.showwarning`."""
        self.say(f"Warning: {message}")


def emit(event: str, **fields: Any) -> None:
    """Print one JSON line, at once."""

    def convert(value: Any) -> Any:  # NumPy scalars to numbers, paths to text
        return value.item() if hasattr(value, "item") else str(value)

    sys.stdout.write(json.dumps({"event": event, **fields}, default=convert) + "\n")
    sys.stdout.flush()


@contextmanager
def talking(*, quiet: bool = False, lines: bool = False) -> Iterator[Terminal]:
    """Show progress, messages and warnings of the work inside."""
    console = Console(stderr=True)
    bars = Progress(
        SpinnerColumn(),
        "{task.description:<28}",
        BarColumn(bar_width=24),
        TimeElapsedColumn(),
        "left",
        TimeRemainingColumn(),
        console=console,
        disable=quiet or lines or not console.is_terminal,
        transient=True,
    )
    terminal = Terminal(bars, quiet=quiet, lines=lines)
    over = threading.Event()
    writer = threading.Thread(target=terminal.print_lines, args=[over], daemon=True)
    if bars.disable and terminal.prints:
        terminal.progress("loading the libraries", 0, None)
        writer.start()
    try:
        with bars, warnings.catch_warnings(), reporting(terminal.progress):
            warnings.simplefilter("default", UserWarning)
            warnings.showwarning = terminal.warn
            yield terminal
    except KeyboardInterrupt as stop:
        raise InterruptedWorkError(str(stop)) from stop
    finally:
        over.set()
        if writer.ident is not None:
            writer.join()


def load_libraries(terminal: Terminal, jobs: int | None, device: str = "auto") -> None:
    """Import the libraries, which takes seconds; set the number of processor cores.

    A device that is not there is refused before data are read.
    """
    terminal.progress("loading the libraries", 0, None)
    import skastro.cli.steps  # noqa: F401 - it imports all libraries
    from skastro.networks.device import resolve_device, use_cores

    resolve_device(device)
    use_cores(jobs)
    terminal.progress("reading the data", 0, None)


def print_line(text: str) -> None:
    """Print a line without wrapping it or reading markup in it."""
    Console().print(escape(text), soft_wrap=True, highlight=False)


def show_table(frame: pd.DataFrame) -> None:
    """Print a table, with as many columns as fit into the terminal."""
    # as many columns as fit, from the left
    cells = {name: [_cell(value) for value in frame[name]] for name in map(str, frame.columns)}
    widths = [max(map(len, [name, *column])) + 3 for name, column in cells.items()]
    console = Console()
    n_fitting = max(1, sum(total < console.width for total in accumulate(widths)))
    table = Table()
    for name in list(cells)[:n_fitting]:
        number = frame[name].dtype.kind in "iuf"
        table.add_column(escape(name), justify="right" if number else "left", no_wrap=True)
    for row in zip(*cells.values(), strict=True):
        table.add_row(*map(escape, row[:n_fitting]))
    console.print(table)
    if omitted := list(cells)[n_fitting:]:
        names = ", ".join(omitted[:_N_OMITTED]) + (", ..." if omitted[_N_OMITTED:] else "")
        print_line(f"A wider terminal shows more columns: {names}")


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, float):
        return "" if value != value else f"{value:.3g}"  # noqa: PLR0124 - NaN
    return f"{value:,}" if isinstance(value, Integral) else str(value)


def end(error: BaseException, arguments: list[str]) -> int:
    """Print an error in one line, and return the exit code of the command.

    If ``--debug`` is among the arguments of the command, the error is raised again; with
    ``--json`` it is printed as an event too. The code is 130 after an interruption, 2 for wrong
    use and unusable data, and 1 for all else.
    """
    if isinstance(error, (KeyboardInterrupt, InterruptedWorkError, typer.Abort)):
        text, code = f"interrupted: {str(error) or _INTERRUPTED_TEXT}", _INTERRUPTED_CODE
    elif "--debug" in arguments:
        raise error
    else:
        # typer's own errors, such as unknown options, have a message and a code
        code = getattr(error, "exit_code", _INTERNAL_ERROR_CODE)
        code = _WRONG_USE_CODE if isinstance(error, _WRONG_USE_ERRORS) else code
        text = str(error.args[0] if isinstance(error, KeyError) and error.args else error)
        text = text or f"{type(error).__name__} (--debug shows where)"
        text = error.format_message() if hasattr(error, "format_message") else text
    text = " ".join(text.split())
    if "--json" in arguments:
        emit("error", text=text, code=code)
    typer.echo(f"Error: {text}", err=True)
    return code


def show_classes(predictions: pd.DataFrame, abstain: float, *, score: float | None = None) -> None:
    """Print the number of objects of each class, and the score of the probe, if there is one."""
    probable, abstained = predictions["most_probable"], predictions["prediction"] == ""
    counts = probable.value_counts().rename_axis("class").rename("predicted").reset_index()
    n_abstained = probable[abstained].value_counts()
    if "label" in predictions:
        n_labelled = predictions["label"].value_counts()
        counts.insert(1, "labelled", counts["class"].map(n_labelled).fillna(0).astype(int))
    counts["abstained"] = counts["class"].map(n_abstained).fillna(0).astype(int)
    show_table(counts)
    if score is not None:
        print_line(
            f"Balanced accuracy of the probe, each label predicted from all others: {score:.3f}."
        )
    print_line(
        f"No class has a probability of {abstain:g} for {abstained.sum():,} of "
        f"{len(predictions):,} objects: these have no prediction."
    )
