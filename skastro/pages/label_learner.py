"""LabelLearner: learn from labels as they come, and say how good the classifier is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Self

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from skastro.embeddings.active_learning import LabelQueue
from skastro.estimators.encoder import PropertyPretrainedEncoder
from skastro.estimators.morphology import find_kinds, rescale_kinds
from skastro.evaluation.label_audit import audit_labels
from skastro.evaluation.label_forecast import (
    AccuracyEstimate,
    estimate_accuracy,
    forecast_labels,
    predict_population,
)
from skastro.pages.label_columns import KeptColumns
from skastro.probes.kernel_probe import KernelProbe
from skastro.utils.progress import report_to

_CHUNK = 2048  # rows whose kernels fit into the caches of a processor
_MAX_POPULATION = 1000  # rows that stand for all others in the estimate of the accuracy
_MIN_DOUBT = 0.5  # probability of a label to be wrong, of one that is asked again


@dataclass(frozen=True)
class Lesson:
    """A classifier, and the labels that it has learned from."""

    rows: NDArray[np.int64]  # (m,), that have a label
    codes: NDArray[np.int64]  # (m,)
    loo: NDArray[np.float64]  # (m, k), of each label by the others; 0 for classes without any
    present: NDArray[np.int64]  # codes of the classes that have labels
    probe: KernelProbe


class LabelLearner:
    """Learn classes of stamps from columns that describe them.

    No method changes the object: each can run in any thread.

    Parameters
    ----------
    embeddings : array of shape (n, d)
    predicted, measured : DataFrame of n rows
        Properties that the encoder predicts, and those measured from the pixels, NaN where unknown.
    kinds : sequence of str, default=()
        Columns of ``predicted`` that are probabilities of kinds of sources. Where classes are
        named after them, they are known before there is any label.
    random_state : int, default=0

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> embeddings = rng.normal(size=(50, 2)) + np.repeat([[0, 0], [6, 0]], 25, axis=0)
    >>> learner = LabelLearner(embeddings, pd.DataFrame(index=range(50)), pd.DataFrame())
    >>> codes = np.full(50, -1)
    >>> codes[[3, 4, 30, 31]] = [0, 0, 1, 1]
    >>> lesson = learner.learn(codes, ["star", "galaxy"])
    >>> learner.predict(lesson, ["star", "galaxy"]).argmax(axis=1)[[0, 49]].tolist()
    [0, 1]
    """

    def __init__(
        self,
        embeddings: NDArray[Any],
        predicted: pd.DataFrame,
        measured: pd.DataFrame,
        *,
        kinds: Sequence[str] = (),
        random_state: int = 0,
    ) -> None:
        tables = [table.dropna(axis=1, how="all") for table in (predicted, measured)]
        tables = [table for table in tables if table.shape[1]]
        properties = np.hstack([np.empty((len(embeddings), 0)), *tables])
        self.columns = np.hstack([embeddings, properties]).astype(np.float64)
        self.n_properties = properties.shape[1]
        self.queue = LabelQueue(embeddings, properties, random_state=random_state)
        self.shown = predicted if kinds else measured  # what a person is told of an object
        self.shown_title = "Morphology, as the network sees it" if kinds else "Measured from pixels"
        # probabilities that are columns, by kind
        first = np.shape(embeddings)[1]
        self._kinds = {kind: first + list(predicted.columns).index(kind) for kind in kinds}
        lengths = np.linalg.norm(embeddings, axis=1, keepdims=True)
        self._directions = np.asarray(embeddings / np.maximum(lengths, 1e-12), dtype=np.float32)

    @classmethod
    def from_encoder(
        cls, encoder: PropertyPretrainedEncoder, kept: KeptColumns, *, random_state: int = 0
    ) -> Self:
        """Describe stamps by an encoder, and by what is measured from the pixels."""
        embeddings, measured = kept.describe(encoder)
        kinds = encoder.targets_.kinds if encoder.image_shape_ is None else ()
        predicted = encoder.predict_embedded(embeddings)
        report_to("finding typical objects")(0)
        return cls(embeddings, predicted, measured, kinds=kinds, random_state=random_state)

    def learn(self, codes: NDArray[Any], classes: Sequence[str]) -> Lesson | None:
        """Fit the probe on the labelled rows; None if fewer than two classes have labels.

        ``codes`` are numbers of ``classes``, -1 for rows without a label.
        """
        rows = np.flatnonzero(codes >= 0)
        present = np.unique(codes[rows])
        if len(present) < 2:
            return None
        known = self._known_columns(classes)
        probe = KernelProbe(
            self.n_properties,
            class_columns=None if known is None else [known[code] for code in present],
        ).fit(self.columns[rows], codes[rows])
        loo = np.zeros((len(rows), len(classes)))
        loo[:, present] = probe.loo_probabilities_
        return Lesson(rows, codes[rows], loo, present, probe)

    def predict(self, lesson: Lesson | None, classes: Sequence[str]) -> NDArray[np.float64] | None:
        """Return the probability of each class for all rows (n, k); None if nothing is known."""
        if lesson is None:
            known = self._known_columns(classes)
            if known is None or len(known) < 2:
                return None
            return rescale_kinds(self.columns[:, known])
        return self._predict(lesson, np.arange(len(self.columns)))

    def estimate(self, lesson: Lesson | None, is_random: NDArray[Any]) -> AccuracyEstimate | None:
        """Return the balanced accuracy that random labels and probabilities of all rows show.

        None if there are too few labels. The interval is one of 90 %.
        """
        if lesson is None:
            return None
        free = np.setdiff1d(np.arange(len(self.columns)), lesson.rows)
        found = estimate_accuracy(
            lesson.codes, lesson.loo, is_random[lesson.rows],
            population=predict_population(partial(self._predict, lesson), free, _MAX_POPULATION),
        )  # fmt: skip
        return found if np.isfinite([found.value, found.low, found.high]).all() else None

    def forecast(
        self, lesson: Lesson | None, is_random: NDArray[Any], now: AccuracyEstimate | None
    ) -> dict[str, Any] | None:
        """Return where more labels would lead: a sentence, and a table of numbers of labels."""
        if lesson is None or now is None:
            return None
        found = forecast_labels(
            self.columns[lesson.rows], lesson.codes, n_properties=self.n_properties,
            is_random=is_random[lesson.rows], now=now,
        )  # fmt: skip
        points = found.table.rename(columns={"n_labels": "n"})[["n", "mean", "low", "high"]]
        points = points[np.isfinite(points).all(axis=1)]
        return {"text": found.summary(), "points": points.to_dict("records")}

    def doubt(self, lesson: Lesson | None) -> list[tuple[int, int, float]]:
        """Return labels that are probably wrong: row, code that it would have, probability."""
        if lesson is None:
            return []
        table = audit_labels(
            self.columns[lesson.rows], lesson.codes, n_properties=self.n_properties
        )
        table = table[table["probability"] > _MIN_DOUBT]
        return [
            (int(lesson.rows[row]), int(code), float(probability))
            for row, code, probability in zip(
                table["row"], table["suggested"], table["probability"], strict=True
            )
        ]

    def rank(self, codes: NDArray[Any], classes: Sequence[str]) -> NDArray[np.int64]:
        """Return the rows without a label that may be of the first class, most likely first."""
        prior = None
        if (known := self._known_columns(classes[:1])) is not None:
            prior = self.columns[:, known[0]]
        codes = np.minimum(codes, 1)  # all other classes are not the one that is searched for
        return np.asarray(self.queue.rank_rare(codes, 0, prior=prior), dtype=np.int64)

    def neighbours(
        self, row: int, labelled: NDArray[np.int64], n: int = 4
    ) -> list[tuple[int, float]]:
        """Return the labelled rows whose embeddings are most similar, and their cosine with it."""
        labelled = labelled[labelled != row]
        cosines = self._directions[labelled] @ self._directions[row]
        return [(int(labelled[k]), float(cosines[k])) for k in np.argsort(-cosines)[:n]]

    def _predict(self, lesson: Lesson, rows: NDArray[np.int64]) -> NDArray[np.float64]:
        """Return probabilities of rows, 0 for classes without labels."""
        probabilities = np.zeros((len(rows), lesson.loo.shape[1]))
        for start in range(0, len(rows), _CHUNK):
            part = lesson.probe.predict_proba(self.columns[rows[start : start + _CHUNK]])
            probabilities[start : start + _CHUNK, lesson.present] = part
        return probabilities

    def _known_columns(self, classes: Sequence[str]) -> list[int] | None:
        """Return the columns that hold the probabilities of classes, if there is one for each."""
        found = find_kinds(classes, list(self._kinds)) if self._kinds and classes else None
        return None if found is None else [self._kinds[kind] for kind in found]
