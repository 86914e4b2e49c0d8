"""Print the output of a command: progress bars and text, JSON lines for scripts, or nothing."""

from __future__ import annotations

import json
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
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


class InterruptedWorkError(Exception):
    """Ctrl-C with a message; typer drops the message of a KeyboardInterrupt."""


class Terminal:
    """Progress and messages of a command.

    ``quiet`` prints neither progress nor messages. ``lines`` prints JSON lines on the standard
    output instead of bars and text: objects with an ``event``, which is "progress", "message",
    "result" or "error".

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
        if stage not in self._tasks:
            for task in self._tasks.values():
                self.bars.update(task, completed=1, total=1)
            self._tasks[stage] = self.bars.add_task(stage, total=total)
        self.bars.update(self._tasks[stage], completed=done, total=total)

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
    try:
        with bars, warnings.catch_warnings(), reporting(terminal.progress):
            warnings.simplefilter("default", UserWarning)
            warnings.showwarning = terminal.warn
            yield terminal
    except KeyboardInterrupt as stop:
        raise InterruptedWorkError(str(stop)) from stop


def load_libraries(terminal: Terminal, jobs: int | None) -> None:
    """Import the libraries, which takes seconds, and set the number of processor cores."""
    terminal.progress("loading the libraries", 0, None)
    import skastro.cli.steps  # noqa: F401 - it imports all libraries
    from skastro.networks.device import use_cores

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
        print_line(f"No room for {', '.join(omitted)}.")


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


def show_classes(predictions: pd.DataFrame, score: float | None, abstain: float) -> None:
    """Print the number of objects of each class, and the score of the probe."""
    probable, abstained = predictions["most_probable"], predictions["prediction"] == ""
    counts = probable.value_counts().rename_axis("class").rename("predicted").reset_index()
    n_labelled = predictions["label"].value_counts()
    n_abstained = probable[abstained].value_counts()
    counts.insert(1, "labelled", counts["class"].map(n_labelled).fillna(0).astype(int))
    counts["abstained"] = counts["class"].map(n_abstained).fillna(0).astype(int)
    show_table(counts)
    if score is not None:
        print_line(
            f"Balanced accuracy of the probe, each label predicted from all others: {score:.3f}."
        )
    print_line(f"{abstained.sum():,} of {len(predictions):,} have no probability of {abstain:g}.")
