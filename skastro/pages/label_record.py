"""LabelRecord: the labels that objects have now, and the journal that they come from."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from skastro.catalogs.journal import Answer, LabelJournal
from skastro.utils.files import write_whole
from skastro.utils.validation import plain_labels

LEFT = ("skip", "unsure")  # why an object has no label although a person has seen it
# keys of the classes, in their order; the other small letters are commands of the page
CLASS_KEYS = "123456789abefhijloqrtvwxABCDEFGHIJKLMNOPQRSTUVWXYZ"
_MAX_CLASSES, _MAX_NAME = len(CLASS_KEYS), 60


class Mark(NamedTuple):
    """What a person says about an object: a class, or "" and why it has none."""

    row: int
    class_: str
    how: str  # why it was shown; "skip" or "unsure" without a class; "undo"


class LabelRecord:
    """Keep the label of each object, and write each change to the journal first.

    Parameters
    ----------
    journal : LabelJournal
        Its answers are taken up first.
    ids : array-like of shape (n,)
    classes : sequence of str, default=()
        Classes to begin with. Those of the journal follow.

    Attributes
    ----------
    classes : list of str
        In the order in which they came.
    codes : int array of shape (n,)
        Number of the class of each object, -1 without a label.
    is_random : bool array of shape (n,)
        Whether the object was labelled because it was drawn at random.
    is_checked : bool array of shape (n,)
        Whether the label was looked at a second time.
    left : dict of int to str
        Rows without a label that a person has seen: "skip" or "unsure".
    steps : list of (int, int, bool)
        Row, code and whether the row was drawn at random, of each answer.
    n_lost : int
        Number of answers in the journal about objects that are not here.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder, LabelJournal(f"{folder}/l.csv") as journal:
    ...     record = LabelRecord(journal, ["a", "b"], ["star"])
    ...     record.write([Mark(1, "star", "random")])
    ...     record.codes.tolist(), record.class_of(1)
    ([-1, 0], 'star')
    """

    def __init__(self, journal: LabelJournal, ids: Any, classes: Sequence[str] = ()) -> None:
        self.journal = journal
        self.ids = [str(value) for value in np.asarray(ids).tolist()]
        self.classes: list[str] = []
        for name in classes:
            self.add_class(name)
        n = len(self.ids)
        self.codes = np.full(n, -1)
        self.is_random, self.is_checked = np.zeros(n, bool), np.zeros(n, bool)
        self.left: dict[int, str] = {}
        self.steps: list[tuple[int, int, bool]] = []
        # take up the classes in their former order, and the journal
        self._class_file = journal.path.with_name(f"{journal.path.stem}.classes.txt")
        self._kept: list[str] = []
        if journal.answers and self._class_file.is_file():
            self._kept = self._class_file.read_text(encoding="utf-8").splitlines()
        for name in filter(str.strip, self._kept):
            self.add_class(name)
        rows = {name: row for row, name in enumerate(self.ids)}
        known = [(rows[answer.id], answer) for answer in journal.answers if answer.id in rows]
        self.n_lost = len(journal.answers) - len(known)
        for row, answer in known:
            self._apply(Mark(row, answer.class_, answer.how))

    @property
    def n_labelled(self) -> int:
        """Number of objects that have a label."""
        return int((self.codes >= 0).sum())

    def class_of(self, row: int) -> str:
        """Return the class of an object, "" without a label."""
        code = self.codes[row]
        return self.classes[code] if code >= 0 else ""

    def counts(self) -> dict[str, int]:
        """Return the number of labels of each class."""
        numbers = np.bincount(self.codes[self.codes >= 0], minlength=len(self.classes))
        return dict(zip(self.classes, numbers.tolist(), strict=True))

    def add_class(self, name: str) -> int:
        """Add a class, unless it is there, and return its number."""
        name = " ".join(str(name).split())
        if name in self.classes:
            return self.classes.index(name)
        same = [each for each in self.classes if each.casefold() == name.casefold()]
        if same:
            raise ValueError(
                f"class {name!r} differs from {same[0]!r} in upper and lower case only: use one."
            )
        if not name or len(name) > _MAX_NAME or not name.isprintable():
            raise ValueError(f"class {name!r} must be a name of 1 to {_MAX_NAME} letters.")
        if not plain_labels([name])[1][0] or name.casefold() == "unknown":
            raise ValueError(f"class {name!r} means no label in tables: choose another name.")
        if len(self.classes) == _MAX_CLASSES:
            raise ValueError(f"there are {_MAX_CLASSES} classes already: use one of them.")
        self.classes.append(name)
        return len(self.classes) - 1

    def write(
        self, marks: Sequence[Mark], *, seconds: float = 0.0, comment: str = "", who: str = ""
    ) -> None:
        """Write what a person says to the journal, and then keep it.

        ``seconds`` are those that the person has looked at each of the objects. The order of the
        classes is kept beside the journal, so that their keys stay the same after a restart.
        """
        shown = f"{min(max(float(seconds), 0.0), 1e5):.1f}"
        self.journal.append(
            Answer(self.ids[m.row], m.class_, who=who, how=m.how, seconds=shown, comment=comment)
            for m in marks
        )
        if self._kept != self.classes:
            write_whole(self._class_file, "".join(f"{name}\n" for name in self.classes).encode())
            self._kept = [*self.classes]
        for mark in marks:
            self._apply(mark)

    def is_repeated(self, mark: Mark) -> bool:
        """Return whether the last line says the same: a page sends it again after a lost reply."""
        if not self.journal.answers:
            return False
        last = self.journal.answers[-1]
        return (last.id, last.class_, last.how) == (self.ids[mark.row], mark.class_, mark.how)

    def start_from(self, labels: NDArray[Any], who: str) -> int:
        """Write labels ("" for none) of objects of which the journal has no line; count them."""
        seen = {answer.id for answer in self.journal.answers}
        marks = [
            Mark(int(row), str(labels[row]), "catalog")
            for row in np.flatnonzero(labels != "")
            if self.ids[row] not in seen
        ]
        if marks:
            self.write(marks, who=who)
        return len(marks)

    def replay(self, counts: Iterable[int]) -> Mapping[int, tuple[NDArray[Any], NDArray[Any]]]:
        """Return codes and random rows as they were at former numbers of labels."""
        wanted, found = set(counts), {}
        codes, is_random = np.full(len(self.codes), -1), np.zeros(len(self.codes), bool)
        n = 0
        for row, code, drawn in self.steps:
            n += int(code >= 0) - int(codes[row] >= 0)
            codes[row] = code
            is_random[row] |= drawn
            if n in wanted:
                found[n] = codes.copy(), is_random.copy()
        return found

    def _apply(self, mark: Mark) -> None:
        """Keep what a line of the journal says."""
        row, is_drawn = mark.row, mark.how == "random"
        self.codes[row] = self.add_class(mark.class_) if mark.class_ else -1
        self.left.pop(row, None)
        if mark.how in LEFT:
            self.left[row] = mark.how
        self.is_random[row] |= is_drawn
        self.is_checked[row] |= mark.how == "second look"
        self.steps.append((row, int(self.codes[row]), is_drawn))
