"""LearningThread: learn in the background while people label."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skastro.evaluation.label_forecast import AccuracyEstimate
from skastro.pages.label_learner import LabelLearner, Lesson
from skastro.pages.label_record import LabelRecord
from skastro.utils.files import first_line
from skastro.utils.progress import Say

_WAIT_SECONDS = 0.1  # for the classifier, before a reply goes without what it has learned
_FIRST_POINT = 4  # fewest labels of a point of the curve
MAX_CURVE_POINTS = 40


@dataclass
class Known:
    """What was learned from the labels."""

    probabilities: NDArray[np.float64] | None = None  # (n, k)
    ranking: NDArray[np.int64] | None = None  # of a search: rows, the most likely first
    accuracy: AccuracyEstimate | None = None
    forecast: dict[str, Any] | None = None
    doubtful: list[tuple[int, int, float]] = field(default_factory=list)
    curve: dict[int, AccuracyEstimate] = field(default_factory=dict)  # by the number of labels


class LearningThread:
    """Learn from the labels of a record whenever there are new ones.

    Parameters
    ----------
    record : LabelRecord
    lock : RLock
        It is held by whoever changes the record.
    search : bool
        Whether the first class is searched for: the rows are ranked, and nothing is forecast.
    say : callable
        Called with a sentence if nothing can be learned.

    Attributes
    ----------
    known : Known
    learner : LabelLearner or None
        None before `begin`.
    """

    def __init__(self, record: LabelRecord, lock: Any, *, search: bool, say: Say) -> None:
        self.known = Known()
        self.learner: LabelLearner | None = None
        self._record, self._search, self._say = record, search, say
        self._news = threading.Condition(lock)
        self._wanted = self._judged = self._learned = 0  # numbers of lessons
        self._past: list[int] = []  # former numbers of labels, for the curve
        self._is_over = False
        self._thread = threading.Thread(target=self._run, daemon=True)

    def begin(self, learner: LabelLearner) -> None:
        """Learn from the labels that there are, and wait for others."""
        with self._news:
            self.learner, n = learner, self._record.n_labelled
            counts = np.linspace(_FIRST_POINT, max(n - 1, _FIRST_POINT), MAX_CURVE_POINTS)
            self._past = [count for count in np.unique(counts.astype(int)).tolist() if count < n]
            self._wanted += 1
        self._thread.start()

    def close(self) -> None:
        """Stop to learn."""
        with self._news:
            self._is_over = True
            self._news.notify_all()
        if self._thread.ident is not None:
            self._thread.join()

    def settle(self, seconds: float) -> None:
        """Wait until everything is learned from the labels that there are."""
        with self._news:
            self._news.wait_for(lambda: self._learned == self._wanted, seconds)

    def learn(self, *, wait: bool) -> None:
        """Learn from new labels; wait a moment until the accuracy is known, without the lock."""
        with self._news:
            self._wanted += 1
            number = self._wanted
            self._news.notify_all()
            if wait and self.learner is not None:
                self._news.wait_for(lambda: self._judged >= number, _WAIT_SECONDS)

    def _run(self) -> None:
        while True:
            with self._news:
                self._news.wait_for(lambda: self._is_over or self._learned != self._wanted)
                if self._is_over:
                    return
                number = self._wanted
                codes, is_random = self._record.codes.copy(), self._record.is_random.copy()
                classes = list(self._record.classes)
            try:
                self._learn_once(number, codes, is_random, classes)
            except Exception as error:  # noqa: BLE001 - labels are worth more than the classifier
                self._say(f"The classifier could not learn from the labels: {first_line(error)}.")
            with self._news:
                self._judged = self._learned = number
                self._news.notify_all()

    def _learn_once(
        self, number: int, codes: NDArray[Any], is_random: NDArray[Any], classes: list[str]
    ) -> None:
        """Learn what is needed at once first; what is for later only if no new label waits."""
        learner, known = self.learner, self.known
        assert learner is not None  # noqa: S101 - the thread starts after it is there
        lesson = learner.learn(codes, classes)
        accuracy = learner.estimate(lesson, is_random)
        with self._news:
            known.accuracy, self._judged = accuracy, number
            self._add_point(int((codes >= 0).sum()), accuracy)
            self._news.notify_all()
        known.probabilities = learner.predict(lesson, classes)
        if self._search:
            with self._news:  # a queue serves one thread at a time
                known.ranking = learner.rank(codes, classes)
        if not self._is_late(number):
            known.doubtful = learner.doubt(lesson)
        if not self._is_late(number) and not self._search:
            known.forecast = learner.forecast(lesson, is_random, accuracy)
        while self._past and not self._is_late(number):
            self._look_back(learner, self._past.pop(), classes)

    def _is_late(self, number: int) -> bool:
        """Return whether there are newer labels, or all is over."""
        return self._wanted != number or self._is_over

    def _look_back(self, learner: LabelLearner, n: int, classes: list[str]) -> None:
        """Compute a point of the curve that a former process has seen."""
        with self._news:
            former = self._record.replay([n]).get(n)
        if former is not None:
            lesson: Lesson | None = learner.learn(former[0], classes)
            accuracy = learner.estimate(lesson, former[1])
            with self._news:
                self._add_point(n, accuracy)

    def _add_point(self, n: int, accuracy: AccuracyEstimate | None) -> None:
        """Add the accuracy at a number of labels to the curve."""
        self.known.curve.pop(n, None)
        if accuracy is not None:
            self.known.curve[n] = accuracy
