"""LabelJournal: the answers of people, one line of a CSV file each, written before all else."""

from __future__ import annotations

import codecs
import csv
import os
from collections.abc import Iterable, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from io import StringIO
from pathlib import Path
from typing import Any, NamedTuple, Self

from skastro.utils.files import writing
from skastro.utils.packages import import_optional

JOURNAL_COLUMNS = ("id", "class", "time", "who", "how", "seconds", "comment")
_MARKS = {"time", "how"}  # columns by which a table is taken for a journal
_MAX_TEXT = 500  # characters of a cell


class Answer(NamedTuple):
    """One answer of a person: a line of the journal.

    ``class_`` is empty where the object has no label after it, and ``how`` says why it was shown
    ("random", "typical", ...), or what became of it ("skip", "unsure", "undo").
    """

    id: str
    class_: str
    time: str = ""  # UTC, ISO 8601
    who: str = ""
    how: str = ""
    seconds: str = ""
    comment: str = ""


class LabelJournal:
    r"""Append answers to a CSV file, and read those that it holds.

    Each answer is one line, written and synced to the disk before `append` returns. The last line
    of an id counts. While a journal is open, no second process can open it. The comment is the
    last column: a line that a kill has cut off inside of it still holds its label, and is kept.

    Parameters
    ----------
    path : path
        A file that exists is gone on with. A new one is made by the first answer.

    Attributes
    ----------
    answers : list of Answer
        All lines, the oldest first.
    notes : list of str
        Sentences about what was repaired while the file was opened.

    Raises
    ------
    ValueError
        The file is no journal, or is damaged (the message gives the line).
    FileExistsError
        Another process has the journal open.
    ImportError
        filelock is not installed.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     with LabelJournal(f"{folder}/labels.csv") as journal:
    ...         journal.append([Answer("7", "star"), Answer("8", "star"), Answer("8", "galaxy")])
    ...     with LabelJournal(f"{folder}/labels.csv") as journal:
    ...         [(answer.id, answer.class_) for answer in journal.answers]
    [('7', 'star'), ('8', 'star'), ('8', 'galaxy')]
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path).expanduser()
        self.notes: list[str] = []
        self._lock = self._take_lock()
        try:
            self.answers = self._read()
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let other processes open the journal."""
        self._lock.release()

    def append(self, answers: Iterable[Answer]) -> None:
        """Write answers at the end of the file, in one piece, and sync it to the disk.

        An empty ``time`` becomes the present one. If the file has gone, all earlier answers are
        written again. If the disk is full, the file is left as it was, and the OSError names it.
        """
        now = datetime.now(UTC).isoformat(timespec="milliseconds")
        new = [Answer(*map(_clean, a._replace(time=a.time or now))) for a in answers]
        with writing(self.path):
            is_there = self.path.exists() and self.path.stat().st_size > 0
            rows = new if is_there else [*self.answers, *new]
            text = ("" if is_there else _to_csv([JOURNAL_COLUMNS])) + _to_csv(rows)
            with self.path.open("ab+", buffering=0) as file:
                end = file.seek(0, os.SEEK_END)
                try:
                    if end and _last_byte(file, end) != b"\n":  # edited in the meantime
                        text = "\n" + text
                    content = text.encode()
                    while content:
                        content = content[file.write(content) :]
                    os.fsync(file.fileno())
                except BaseException:
                    with suppress(OSError):
                        file.truncate(end)
                    raise
        self.answers += new

    def _take_lock(self) -> Any:
        """Lock the journal for this process; the lock ends with the process, also by a kill."""
        filelock = import_optional("filelock", extra="label", needed_by="The journal of labels")
        with writing(self.path):
            lock = filelock.FileLock(
                self.path.with_name(f".{self.path.name}.lock"), timeout=0, thread_local=False
            )
        try:
            with writing(self.path):
                lock.acquire()
        except filelock.Timeout as error:
            raise FileExistsError(
                f"{self.path} is open in another `skastro label`: use that one or end it, or name "
                "another file with --labels-out."
            ) from error
        return lock

    def _read(self) -> list[Answer]:
        """Read the file, and repair its last line if it was cut off."""
        content = self.path.read_bytes() if self.path.exists() else b""
        header = _to_csv([JOURNAL_COLUMNS]).encode()
        if header.startswith(content):  # new, or killed in the first line
            if content and content != header:
                self.path.unlink()
            return []
        first = content.removeprefix(codecs.BOM_UTF8).splitlines()[0]
        if first != header.rstrip():
            raise ValueError(
                f"{self.path} is no journal of `skastro label`, as its first line is not "
                f"{','.join(JOURNAL_COLUMNS)}: name another file with --labels-out (--labels "
                "takes over the labels of this one)."
            )
        if not content.endswith(b"\n"):
            content = self._repair_end(content)
        try:
            text = content.decode("utf-8-sig")
            rows = list(csv.reader(StringIO(text, newline=""), strict=True))
        except (UnicodeDecodeError, csv.Error) as error:
            raise ValueError(
                f"{self.path} cannot be read as a journal ({error}): correct it in an editor, or "
                "name another file with --labels-out."
            ) from error
        for number, row in enumerate(rows, 1):
            if row and len(row) != len(JOURNAL_COLUMNS):
                raise ValueError(
                    f"{self.path} has {len(row)} cells in line {number}, not "
                    f"{len(JOURNAL_COLUMNS)}: correct this line in an editor."
                )
        return [Answer(*row) for row in rows[1:] if row]

    def _repair_end(self, content: bytes) -> bytes:
        """Complete the last line if it holds a whole answer, or else cut it off."""
        end = content.rfind(b"\n") + 1
        line = content[end:].decode("utf-8", errors="replace")
        cells = next(csv.reader([line]), [])
        if len(cells) == len(JOURNAL_COLUMNS):  # only the comment may be shorter than it was
            content = content[:end] + _to_csv([cells]).encode()
        else:
            content = content[:end]
            self.notes.append(
                f"The last line of {self.path} was cut off by an interruption, and is removed: "
                f"{line[:80]!r}."
            )
        with writing(self.path), self.path.open("rb+") as file:
            file.write(content)
            file.truncate()
            file.flush()
            os.fsync(file.fileno())
        return content


def is_journal(columns: Iterable[Any]) -> bool:
    """Return whether a table with these columns is a journal, of which the last line counts.

    Examples
    --------
    >>> is_journal(JOURNAL_COLUMNS), is_journal(["id", "class", "time"])
    (True, False)
    """
    return {*columns} >= _MARKS


def _to_csv(rows: Sequence[Sequence[str]]) -> str:
    stream = StringIO()
    csv.writer(stream, lineterminator="\n").writerows(rows)
    return stream.getvalue()


def _last_byte(file: Any, end: int) -> bytes:
    file.seek(end - 1)
    return bytes(file.read(1))


def _clean(text: str) -> str:
    """Return text without line breaks and other control characters, in one line."""
    printable = "".join(letter if letter.isprintable() else " " for letter in str(text))
    return " ".join(printable.split())[:_MAX_TEXT]
