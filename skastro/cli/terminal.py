"""What a command says: progress bars and messages, JSON lines for scripts, or nothing."""

from __future__ import annotations

import json
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import accumulate
from numbers import Integral
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import (
    BarColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table

if TYPE_CHECKING:
    import pandas as pd


_INTERRUPTED = 130  # as shells have it, and typer
_WRONG = 2  # wrong use, or data that cannot be used
_DEFECT = 1
_WRONG_USE = (
    ValueError,
    KeyError,
    TypeError,
    ImportError,
    FileNotFoundError,
    FileExistsError,
    IsADirectoryError,
    NotADirectoryError,
    PermissionError,
)
_KEPT = "finished files are kept, no half-written one."
_PAUSE = 0.5  # seconds between two events of one stage


class InterruptedWorkError(Exception):
    """What Ctrl-C left; not a KeyboardInterrupt, of which typer keeps the exit code only."""

    exit_code = _INTERRUPTED


class Terminal:
    """Progress and messages of a command.

    Parameters
    ----------
    bars : rich.progress.Progress
        Its bars are drawn on the standard error, where that is a terminal.
    quiet : bool, default=False
        Neither progress nor messages.
    lines : bool, default=False
        JSON lines on the standard output instead of bars and text: objects with an ``event``,
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
        self.said: set[str] = set()
        self.tasks: dict[str, Any] = {}
        self._told: dict[str, float] = {}

    @property
    def prints(self) -> bool:
        """Whether tables and the like are to be printed for a person."""
        return not (self.quiet or self.lines)

    def say(self, text: str) -> None:
        """Print a message, each only once."""
        line = " ".join(text.split())
        if not self.quiet and line not in self.said:
            if self.lines:
                emit("message", text=line)
            else:
                typer.echo(line)  # where bars are drawn, rich puts it above them
        self.said.add(line)

    def progress(self, stage: str, done: int, total: int | None) -> None:
        """Move the bar of a stage; a new stage ends those before."""
        if self.quiet:
            return
        if self.lines:
            self._emit_progress(stage, done, total)
            return
        if stage not in self.tasks:
            self.finish()
            self.tasks[stage] = self.bars.add_task(stage, total=total)
        self.bars.update(self.tasks[stage], completed=done, total=total)

    def finish(self) -> None:
        """Fill the bars of all stages."""
        for task in self.tasks.values():
            self.bars.update(task, completed=1, total=1)

    def result(self, **found: Any) -> None:
        """Tell a script what came out; a person reads messages and tables."""
        if self.lines:
            emit("result", **found)

    def warn(self, message: Warning | str, *_: Any, **__: Any) -> None:
        """Stand in for `warnings.showwarning`."""
        self.say(f"Warning: {message}")

    def _emit_progress(self, stage: str, done: int, total: int | None) -> None:
        now = monotonic()
        if stage not in self._told or done == total or now - self._told[stage] > _PAUSE:
            self._told[stage] = now
            emit("progress", stage=stage, done=done, total=total)


def emit(event: str, **fields: Any) -> None:
    """Print one JSON line, at once."""
    sys.stdout.write(json.dumps({"event": event, **fields}, default=_plain) + "\n")
    sys.stdout.flush()


def _plain(value: Any) -> Any:
    return value.item() if hasattr(value, "item") else str(value)


@contextmanager
def talking(*, quiet: bool = False, lines: bool = False) -> Iterator[Terminal]:
    """Draw progress bars and catch warnings while a command works."""
    console = Console(stderr=True)
    columns = (SpinnerColumn(), TextColumn("{task.description:<28}"), BarColumn(bar_width=24))
    bars = Progress(
        *columns,
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        console=console,
        disable=quiet or lines or not console.is_terminal,
        transient=True,
    )
    terminal = Terminal(bars, quiet=quiet, lines=lines)
    try:
        with bars, warnings.catch_warnings():
            warnings.simplefilter("default", UserWarning)
            warnings.showwarning = terminal.warn
            yield terminal
    except KeyboardInterrupt as stop:
        raise InterruptedWorkError(str(stop)) from stop


def print_line(text: str) -> None:
    """Print a line as it is, however long."""
    Console().print(escape(text), soft_wrap=True, highlight=False)


def show_table(frame: pd.DataFrame) -> None:
    """Print a table of numbers and names, as many columns as there is room for."""
    cells = {name: [_cell(value) for value in frame[name]] for name in map(str, frame.columns)}
    widths = [max(map(len, [name, *column])) + 3 for name, column in cells.items()]
    console = Console()
    room = max(1, sum(total < console.width for total in accumulate(widths)))
    table = Table()
    for name in list(cells)[:room]:
        number = frame[name].dtype.kind in "iuf"
        table.add_column(escape(name), justify="right" if number else "left", no_wrap=True)
    for row in zip(*cells.values(), strict=True):
        table.add_row(*map(escape, row[:room]))
    console.print(table)
    if left := list(cells)[room:]:
        print_line(f"No room for {', '.join(left)}.")


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, float):
        return "" if value != value else f"{value:.3g}"  # noqa: PLR0124 - NaN
    return f"{value:,}" if isinstance(value, Integral) else str(value)


def end(error: BaseException, given: list[str]) -> int:
    """Tell of an error in one line, and return the exit code of the command.

    Parameters
    ----------
    error : BaseException
    given : list of str
        The command's arguments: ``--debug`` shows the traceback, ``--json`` wants the
        error as an event too.

    Returns
    -------
    code : int
        130 after an interruption, 2 for wrong use and unusable data, 1 for all else.
    """
    if isinstance(error, (KeyboardInterrupt, InterruptedWorkError, typer.Abort)):
        text, code = f"interrupted: {str(error) or _KEPT}", _INTERRUPTED
    else:
        if "--debug" in given:
            raise error
        text, code = _wording(error), _code(error)
    text = " ".join(text.split())
    if "--json" in given:
        emit("error", text=text, code=code)
    typer.echo(f"Error: {text}", err=True)
    return code


def _code(error: BaseException) -> int:
    if isinstance(error, _WRONG_USE):
        return _WRONG
    return getattr(error, "exit_code", _DEFECT)  # typer's own errors have one


def _wording(error: BaseException) -> str:
    if hasattr(error, "format_message"):  # typer's own errors: unknown options and the like
        return error.format_message()
    text = str(error.args[0]) if isinstance(error, KeyError) and error.args else str(error)
    return text or f"{type(error).__name__} (--debug shows where)"


def show_quality(quality: pd.DataFrame) -> None:
    """Print how well each property is predicted on rows that were not trained on."""
    if not len(quality):
        return
    print_line(f"Properties of {quality['n'].max():,} stamps held out:")
    show_table(quality)


def show_classes(predictions: pd.DataFrame, score: float | None, abstain: float) -> None:
    """Print how many objects each class has, and how far to trust it."""
    likely, blank = predictions["most_probable"], predictions["prediction"] == ""
    counts = likely.value_counts().rename_axis("class").rename("predicted").reset_index()
    known = predictions["label"].value_counts()
    counts.insert(1, "labelled", counts["class"].map(known).fillna(0).astype(int))
    undecided = likely[blank].value_counts()
    counts["abstained"] = counts["class"].map(undecided).fillna(0).astype(int)
    show_table(counts)
    if score is not None:
        print_line(
            f"Balanced accuracy of the probe, each label predicted from all others: {score:.3f}."
        )
    print_line(f"{blank.sum():,} of {len(predictions):,} have no probability of {abstain:g}.")


def loading_libraries(terminal: Terminal, jobs: int | None) -> Any:
    """Import the libraries, which takes seconds, and return the steps of the work."""
    terminal.progress("loading the libraries", 0, None)
    from skastro.cli import steps  # noqa: PLC0415 - --help needs no torch
    from skastro.networks.device import use_cores  # noqa: PLC0415

    use_cores(jobs)
    terminal.progress("reading the data", 0, None)
    return steps


def show_file(what: str, path: Path) -> None:
    """Print where a file was written."""
    print_line(f"{what}: {path}")
