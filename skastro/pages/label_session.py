"""LabelSession: what is asked, answered and learned while people label objects."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import islice
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from skastro.catalogs.columns import find_column
from skastro.catalogs.journal import LabelJournal
from skastro.catalogs.positions import find_positions, has_positions, sky_links
from skastro.evaluation.label_forecast import AccuracyEstimate
from skastro.pages.label_learner import LabelLearner
from skastro.pages.label_record import CLASS_KEYS, LEFT, LabelRecord, Mark
from skastro.pages.label_thread import MAX_CURVE_POINTS, LearningThread
from skastro.pages.thumbnails import encode_stamp
from skastro.plots.style import OKABE_ITO
from skastro.stamps.arrays import as_stack
from skastro.utils.progress import Say, say_nothing

_HOWS = ("random", "typical", "uncertain", "second look", "search")
_SURE = 0.6  # probability of a class, as for `skastro classify --abstain`
_GRID_SIZE = 25
_AHEAD_SECONDS = 0.5  # that the choice of the next question waits for the classifier
_N_PROMISING = 3  # of a search, whose pictures are fetched ahead
_HELD_SECONDS = 1800.0  # that a question waits for its tab
_MIN_LABELS_FOR_DOUBT, _QUESTIONS_PER_DOUBT = 40, 10
_MAX_COLUMNS, _MAX_TEXT = 24, 60  # of the catalogue, that are shown


@dataclass
class _Tab:
    """A page in a browser: the questions that it holds, and what it has answered."""

    questions: list[tuple[int, str]] = field(default_factory=list)  # row and how; shown is the last
    ahead: list[tuple[int, str]] = field(default_factory=list)  # chosen for afterwards
    grid: list[int] = field(default_factory=list)
    answers: list[list[tuple[str, Mark]]] = field(default_factory=list)  # how, and what was before
    seen: float = 0.0


class LabelSession:
    """Ask people for labels of objects, write down the answers, and learn from them.

    All methods may be called from several threads. An answer is in the journal before anything
    else happens with it. A `LearningThread` learns: `answer` waits a moment for what it learns.

    Parameters
    ----------
    journal : LabelJournal
        Its answers are taken up first.
    ids : array-like of shape (n,)
    images : array-like of shape (n, bands, height, width)
    catalog : DataFrame of n rows, default=None
        Columns to show beside the stamp, with ``attrs["units"]``.
    title : str, default=""
    classes : sequence of str, default=()
        Classes to begin with, in the order of their keys. Those of the journal follow.
    find : str, default=None
        A rare class to search for, by yes and no.
    who : str, default=""
        Name of the person, for answers that bring none.
    say : callable
        Called with a sentence if the classifier cannot learn.

    Examples
    --------
    >>> import tempfile
    >>> rng = np.random.default_rng(0)
    >>> embeddings = rng.normal(size=(60, 2)) + np.repeat([[0, 0], [6, 0]], 30, axis=0)
    >>> none = pd.DataFrame(index=range(60))
    >>> with tempfile.TemporaryDirectory() as folder, LabelJournal(f"{folder}/l.csv") as journal:
    ...     session = LabelSession(journal, np.arange(60), np.zeros((60, 1, 8, 8)))
    ...     session.add_class("star")
    ...     session.begin(LabelLearner(embeddings, none, none))
    ...     question = session.next_question("tab")
    ...     session.answer("tab", question["row"], question["how"], "label", "star")
    ...     session.close()
    ...     session.state()["n_labelled"], journal.answers[0].class_
    (1, 'star')
    """

    def __init__(
        self,
        journal: LabelJournal,
        ids: Any,
        images: Any,
        *,
        catalog: pd.DataFrame | None = None,
        title: str = "",
        classes: Sequence[str] = (),
        find: str | None = None,
        who: str = "",
        say: Say = say_nothing,
    ) -> None:
        self.record = LabelRecord(journal, ids, (find, f"not {find}") if find else classes)
        self.images = as_stack(images, name="images")
        table = pd.DataFrame(index=range(len(self))) if catalog is None else catalog
        self.catalog = table.drop(columns=find_column(table, "id") or [])  # stands above the others
        self.sky = find_positions(self.catalog) if has_positions(self.catalog) else None
        self.title, self.find, self.who = title, find, who
        names = getattr(images, "bands", None) or range(self.images.shape[1])
        self.bands = [str(name) for name in names]
        self.picture = lru_cache(maxsize=256)(self._draw)

        self._progress: dict[str, Any] | None = {"text": "Starting", "share": 0.0}
        self._lock = threading.RLock()
        self._thread = LearningThread(self.record, self._lock, search=bool(find), say=say)

        # what is asked
        self._tabs: dict[str, _Tab] = {}
        self._later: list[int] = []  # rows of grids that are not what they seemed
        self._n_since_doubt = 0
        self._reading = threading.Lock()

    def __len__(self) -> int:
        return len(self.record.ids)

    # -- the beginning and the end

    def report(self, stage: str, done: int, total: int | None) -> None:
        """Show the progress of the work before the first question."""
        share = min(done / total, 1.0) if total else 0.0
        self._progress = {"text": stage[:1].upper() + stage[1:], "share": share}

    def begin(self, learner: LabelLearner) -> None:
        """Begin to ask: what describes the objects is known now."""
        with self._lock:
            self._progress = None
            self._thread.begin(learner)

    def close(self) -> None:
        """Stop to learn; the journal is not closed."""
        self._thread.close()

    def settle(self, seconds: float = 60.0) -> None:
        """Wait until everything is learned from the labels that there are."""
        self._thread.settle(seconds)

    # -- questions

    def next_question(self, tab: str) -> dict[str, Any] | None:
        """Return the question of a tab: the same one until it is answered. None if all is asked."""
        with self._lock:
            page = self._open(tab)
            page.questions = [each for each in page.questions if not self._is_stale(*each)]
            if self._thread.learner is None:
                return None
            if not page.questions:
                self._look_ahead(page)
                if not page.ahead:
                    return None
                page.questions.append(page.ahead.pop())
            return self._describe(*page.questions[-1])

    def rows_ahead(self, tab: str) -> list[int]:
        """Return rows that are shown next, so that a page can fetch their pictures.

        The next question is chosen here, while the person looks at the present one: it rests on
        all answers before that one. Of a search, whose order changes after each answer, the rows
        are those that are most promising now.
        """
        self._thread.settle(_AHEAD_SECONDS)
        with self._lock:
            page = self._open(tab)
            if self._thread.learner is None or not page.questions:
                return []
            if self.find:
                return self._promising(page)[:_N_PROMISING]
            if len(page.questions) == 1:
                self._look_ahead(page)
                return [row for row, _ in page.ahead]
            return [page.questions[-2][0]]

    def doubtful_question(self, tab: str) -> dict[str, Any] | None:
        """Return the most doubtful label for a second look, None if there is none."""
        with self._lock:
            page = self._open(tab)
            doubtful = self._doubtful(page)
            if not doubtful:
                return None
            page.questions.append((doubtful[0], "second look"))
            return self._describe(*page.questions[-1])

    def grid(self, tab: str, name: str) -> list[dict[str, Any]]:
        """Return up to 25 objects that the classifier takes for a class, the surest first.

        They are spread evenly over all objects that it takes for the class, from the surest to
        the least sure.
        """
        with self._lock:
            page, code, probabilities = self._open(tab), self._code(name), self._probabilities()
            page.grid = []
            if probabilities is None:
                return []
            free = self._free_rows(page)
            free = free[probabilities[free].argmax(axis=1) == code]
            free = free[np.argsort(-probabilities[free, code], kind="stable")]
            places = np.linspace(0, len(free) - 1, min(_GRID_SIZE, len(free))).astype(int)
            page.grid = free[places].tolist()
            return [
                {"row": row, "id": self.record.ids[row], "p": float(probabilities[row, code])}
                for row in page.grid
            ]

    def similar(self, tab: str, row: int) -> list[dict[str, Any]]:
        """Return an object and up to 24 that are most like it, the most similar first.

        Those with a label are among them. Objects that other tabs are looking at, or that were
        skipped, are not.
        """
        with self._lock:
            page, row = self._open(tab), self._check_row(row)
            page.grid = []
            if self._thread.learner is None:
                return []
            hidden = [*self.record.left, *self._held(page)]
            shown = np.setdiff1d(np.arange(len(self)), hidden)
            near = self._thread.learner.neighbours(row, shown, _GRID_SIZE - 1)
            page.grid = [each for each, _ in [(row, 1.0), *near] if self._is_free(each)]
            return [
                {
                    "row": each, "id": self.record.ids[each], "similarity": similarity,
                    "label": self.record.class_of(each) or None,
                }
                for each, similarity in [(row, 1.0), *near]
            ]  # fmt: skip

    # -- answers

    def answer(
        self,
        tab: str,
        row: int,
        how: str,
        kind: str,
        name: str | None = None,
        *,
        seconds: float = 0.0,
        comment: str = "",
        who: str = "",
    ) -> None:
        """Write down one answer, and learn from it.

        Parameters
        ----------
        tab : str
            Name of the page that answers.
        row : int
        how : str
            Why the object was shown, as the question says.
        kind : {"label", "skip", "unsure", "yes", "no"}
            "yes" and "no" are answers of a search.
        name : str, default=None
            The class, for "label".
        seconds : float
            Time that the person has looked.
        comment, who : str

        Raises
        ------
        ValueError
            An argument cannot be used; nothing is written.
        OSError
            The journal cannot be written.
        """
        with self._lock:
            page, row = self._open(tab), self._check_row(row)
            how = dict(page.questions).get(row, how)
            if how not in _HOWS:
                raise ValueError(f"how={how!r} must be one of {', '.join(_HOWS)}.")
            mark = self._read_answer(row, how, kind, name)
            if self.record.is_repeated(mark):
                return
            before = self._before(row)
            self.record.write([mark], seconds=seconds, comment=comment, who=who or self.who)
            page.answers.append([(how, before)])
            page.questions = [each for each in page.questions if each[0] != row]
            self._n_since_doubt = 0 if how == "second look" else self._n_since_doubt + 1
            self._later = [each for each in self._later if each != row]
            self._thread.learn(wait=True)

    def answer_grid(
        self,
        tab: str,
        name: str,
        rows: Sequence[int],
        others: Sequence[int],
        *,
        seconds: float = 0.0,
        who: str = "",
    ) -> None:
        """Label the rows of a grid, without the ``others``, which are asked one by one later."""
        with self._lock:
            page, code = self._open(tab), self._code(name)
            rows, others = ([self._check_row(row) for row in part] for part in (rows, others))
            new = [r for r in dict.fromkeys(rows) if r not in others and self._is_free(r)]
            before = [("uncertain", self._before(row)) for row in new]
            marks = [Mark(row, self.record.classes[code], "grid") for row in new]
            if marks:
                each = float(seconds) / max(len(rows), 1)
                self.record.write(marks, seconds=each, who=who or self.who)
                page.answers.append(before)
            page.grid = []
            self._later += [r for r in others if self._is_free(r) and r not in self._later]
            self._thread.learn(wait=True)

    def undo(self, tab: str, *, who: str = "") -> dict[str, Any]:
        """Take back the last answer of a tab, or its last grid; return how many and which class.

        The question of a single answer is asked again.
        """
        with self._lock:
            page = self._open(tab)
            if not page.answers:
                raise ValueError("there is nothing to undo in this tab.")
            last = page.answers[-1]
            undone = {"n": len(last), "class": self.record.class_of(last[0][1].row)}
            self.record.write([before for _, before in last], who=who or self.who)
            page.answers.pop()
            if len(last) == 1:
                how, before = last[0]
                page.questions.append((before.row, how))
            self._thread.learn(wait=True)
        return undone

    def add_class(self, name: str) -> None:
        """Add a class, with the next key."""
        with self._lock:
            if self.find:
                raise ValueError(f"a search for {self.find!r} has two classes: start another one.")
            self.record.add_class(name)
            self._thread.learn(wait=False)

    # -- what there is to see

    def state(self) -> dict[str, Any]:
        """Return the numbers that stand beside the question."""
        with self._lock:
            record, known = self.record, self._thread.known
            counts = record.counts()
            probabilities, n_unsure = self._probabilities(), 0
            if probabilities is not None:
                is_unsure = probabilities.max(axis=1) < _SURE
                n_unsure = int((is_unsure & (record.codes < 0)).sum())
            curve = [
                {"n": n, "value": found.value, "low": found.low, "high": found.high}
                for n, found in sorted(known.curve.items())
                if n <= record.n_labelled
            ]
            places = np.linspace(0, len(curve) - 1, min(len(curve), MAX_CURVE_POINTS))
            return {
                "mode": "find" if self.find else "classes",
                "find": self._describe_search(counts) if self.find else None,
                "title": self.title,
                "n_objects": len(self),
                "n_labelled": record.n_labelled,
                "n_unsure": n_unsure,
                "n_skipped": len(record.left),
                "progress": self._progress,
                "classes": [
                    {
                        "name": name, "key": CLASS_KEYS[k], "n": counts[name],
                        "color": OKABE_ITO[k % len(OKABE_ITO)],
                    }
                    for k, name in enumerate(record.classes)
                ],
                "accuracy": known.accuracy and _describe_accuracy(known.accuracy),
                "curve": [curve[k] for k in places.astype(int)],
                "forecast": known.forecast,
                "n_doubtful": len(self._doubtful(None)),
                "bands": self.bands,
                "journal": record.journal.path.name,
            }  # fmt: skip

    def _draw(self, row: int, size: int, stretch: float, bands: tuple[str, ...]) -> bytes:
        """Return the PNG of a stamp; as ``picture`` it keeps the latest ones."""
        with self._reading:
            stamp = self.images[[self._check_row(row)]]
        chosen: Any = [self.bands.index(band) for band in bands if band in self.bands]
        if len(chosen) != len(bands) or len(bands) not in (0, 1, 3):
            raise ValueError(
                f"bands={','.join(bands)!r} must be one or three of {', '.join(self.bands)}."
            )
        chosen = chosen * 3 if len(chosen) == 1 else chosen or None
        return encode_stamp(stamp, size=size, stretch=stretch, bands=chosen)

    def _describe_search(self, counts: dict[str, int]) -> dict[str, Any]:
        found, looked = counts[self.record.classes[0]], sum(list(counts.values())[:2])
        by_chance = looked * found / len(self)
        return {
            "name": self.find, "found": found, "looked": looked, "by_chance": round(by_chance, 2),
            "text": f"Among as many drawn at random, {by_chance:.1f} are expected if there are no "
            "more than those found.",
        }  # fmt: skip

    def _describe(self, row: int, how: str) -> dict[str, Any]:
        """Return a question, with all that helps to answer it."""
        record, probabilities = self.record, self._probabilities()
        assert self._thread.learner is not None  # noqa: S101 - there are no questions before
        labelled = np.flatnonzero(record.codes >= 0)
        suggested = [code for r, code, _ in self._thread.known.doubtful if r == row]
        return {
            "row": row,
            "id": record.ids[row],
            "how": how,
            "label": record.class_of(row) or None if how == "second look" else None,
            "suggested": record.classes[suggested[0]]
            if suggested and how == "second look"
            else None,
            "probabilities": []
            if probabilities is None
            else [
                {"name": name, "p": float(p)}
                for name, p in zip(record.classes, probabilities[row], strict=True)
            ],
            "neighbours": [
                {
                    "row": other, "id": record.ids[other], "label": record.class_of(other),
                    "similarity": similarity,
                }
                for other, similarity in self._thread.learner.neighbours(row, labelled)
            ],
            "catalog": _describe_row(self.catalog, row),
            "morphology": _describe_row(self._thread.learner.shown, row, digits=2),
            "morphology_title": self._thread.learner.shown_title,
            "links": [] if self.sky is None else sky_links(self.sky[row]),
        }  # fmt: skip

    # -- help for questions and answers

    def _open(self, tab: str) -> _Tab:
        page = self._tabs.setdefault(str(tab)[:_MAX_TEXT], _Tab())
        page.seen = time.monotonic()
        return page

    def _look_ahead(self, page: _Tab) -> None:
        """Choose what is asked after the questions of a tab, unless that is done."""
        doubtful = self._doubtful(page)
        page.ahead = [
            (row, how)
            for row, how in page.ahead
            if not self._is_stale(row, how) and (how != "second look" or row in doubtful)
        ]
        if not page.ahead and (chosen := self._choose(page)):
            page.ahead = [chosen]

    def _choose(self, page: _Tab) -> tuple[int, str] | None:
        """Choose an object that no tab is looking at, to be asked after the questions of this."""
        record, learner = self.record, self._thread.learner
        assert learner is not None  # noqa: S101 - `next_question` has looked
        own = dict(page.questions)
        doubtful = [row for row in self._doubtful(page) if row not in own]
        is_due = self._n_since_doubt + len(own) >= _QUESTIONS_PER_DOUBT - 1
        is_due &= "second look" not in own.values()
        if doubtful and is_due and record.n_labelled >= _MIN_LABELS_FOR_DOUBT:
            return doubtful[0], "second look"
        if self.find:
            return next(((row, "search") for row in self._promising(page)), None)
        excluded = [*record.left, *self._held(page), *own]
        chosen = learner.queue.next(
            record.codes, 1, probabilities=self._probabilities(), excluded=excluded
        )
        if not chosen:
            return None
        row, how = chosen[0]
        later = [each for each in self._later if self._is_free(each) and each not in excluded]
        return (later[0], "uncertain") if later and how != "random" else (int(row), how)

    def _promising(self, page: _Tab) -> list[int]:
        """Return the first rows of a search that are left, the most promising first."""
        record, learner, ranking = self.record, self._thread.learner, self._thread.known.ranking
        assert learner is not None  # noqa: S101 - nothing is asked before
        if ranking is None:
            ranking = learner.rank(record.codes, record.classes)
        taken = {*record.left, *self._held(page), *dict(page.questions)}
        free = (int(r) for r in ranking if record.codes[r] < 0 and int(r) not in taken)
        return list(islice(free, _N_PROMISING))

    def _held(self, page: _Tab | None) -> set[int]:
        """Return the rows that other tabs are looking at."""
        now = time.monotonic()
        others = [p for p in self._tabs.values() if p is not page and now - p.seen < _HELD_SECONDS]
        asked = {row for p in others for row, _ in (*p.questions, *p.ahead)}
        return asked.union(*(p.grid for p in others))

    def _free_rows(self, page: _Tab) -> NDArray[np.int64]:
        is_free = self.record.codes < 0
        is_free[[*self.record.left, *self._held(page), *self._later]] = False
        return np.flatnonzero(is_free)

    def _is_free(self, row: int) -> bool:
        return bool(self.record.codes[row] < 0) and row not in self.record.left

    def _is_stale(self, row: int, how: str) -> bool:
        """Return whether a question was answered in another tab."""
        return self.record.codes[row] < 0 if how == "second look" else not self._is_free(row)

    def _doubtful(self, page: _Tab | None) -> list[int]:
        """Return rows whose labels are doubtful, and were not looked at a second time."""
        held = self._held(page)
        return [
            row
            for row, code, _ in self._thread.known.doubtful
            if self.record.codes[row] not in (-1, code)
            and not self.record.is_checked[row]
            and row not in held
        ]

    def _read_answer(self, row: int, how: str, kind: str, name: str | None) -> Mark:
        if kind in LEFT:
            # a label that was skipped at the second look stays
            keeps = kind == "skip" and how == "second look"
            return Mark(row, self.record.class_of(row), how) if keeps else Mark(row, "", kind)
        if kind in ("yes", "no") and self.find:
            return Mark(row, self.record.classes[kind == "no"], how)
        if kind != "label":
            raise ValueError(
                f"kind={kind!r} must be label, skip, unsure, or in a search yes or no."
            )
        return Mark(row, self.record.classes[self._code(name)], how)

    def _before(self, row: int) -> Mark:
        """Return the line that restores what is known of a row."""
        return Mark(row, self.record.class_of(row), self.record.left.get(row, "undo"))

    def _check_row(self, row: Any) -> int:
        if isinstance(row, bool) or not isinstance(row, int) or not 0 <= row < len(self):
            raise ValueError(f"row={row!r} must be a whole number from 0 to {len(self) - 1}.")
        return row

    def _code(self, name: Any) -> int:
        if name not in self.record.classes:
            raise ValueError(
                f"class={name!r} must be one of {', '.join(self.record.classes) or 'none yet'}."
            )
        return self.record.classes.index(name)

    def _probabilities(self) -> NDArray[np.float64] | None:
        """Return the latest probabilities, 0 for classes that are newer."""
        known = self._thread.known.probabilities
        n_new = 0 if known is None else len(self.record.classes) - known.shape[1]
        return known if known is None or not n_new else np.pad(known, ((0, 0), (0, n_new)))


def _describe_accuracy(found: AccuracyEstimate) -> dict[str, Any]:
    return {"value": found.value, "low": found.low, "high": found.high, "n_random": found.n}


def _describe_row(table: pd.DataFrame, row: int, digits: int | None = None) -> list[dict[str, str]]:
    """Return name, value and unit of the columns of a row that have a value.

    Predictions have few ``digits`` after the point, columns of a catalogue four significant ones.
    """
    units, cells = table.attrs.get("units", {}), []
    for name in table.columns[:_MAX_COLUMNS]:
        value = table[name].iloc[row]
        if pd.isna(value) or str(value).strip() == "":
            continue
        text = str(value)
        if isinstance(value, float | np.floating):
            number = float(value)
            significant = digits is None or abs(number) >= 100
            text = f"{number:.4g}" if significant else f"{number:.{digits}f}"
        cells.append({
            "name": str(name), "value": text[:_MAX_TEXT], "unit": str(units.get(name) or ""),
        })  # fmt: skip
    return cells
