"""Use the encoders of `load_pretrained`, the simulated teachers, in studies and commands."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Self

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, ClassifierMixin, clone
from sklearn.frozen import FrozenEstimator
from sklearn.preprocessing import StandardScaler

from skastro.estimators.classifier import SelfSupervisedClassifier
from skastro.estimators.encoder import PropertyPretrainedEncoder
from skastro.estimators.morphology import rescale_kinds, tabulate_morphology
from skastro.estimators.pretrained import measure_odds
from skastro.probes.kernel_probe import KernelProbe
from skastro.surveys.survey import Survey
from skastro.utils.progress import Say, reporting
from skastro.utils.validation import plain_labels

NO_TEACHER = "none"
_MIN_SHARE = 0.5  # of a teacher in a probe that has learned from it
_N_SHOWN = 10  # properties by which classes are compared


def row_of_teacher(name: str) -> str:
    """Return the name of the embedding of a teacher among the representations of a study."""
    return f"simulated teacher ({name})"


@dataclass(eq=False)
class Teachers:
    """The teachers of a study, and what they know about its classes."""

    encoders: dict[str, PropertyPretrainedEncoder] = field(default_factory=dict)  # by name
    kinds: list[str] = field(default_factory=list)  # that the sorted classes are, if known

    @classmethod
    def find(
        cls,
        pretrained: str,
        encoder: PropertyPretrainedEncoder,
        images: Any,
        labels: NDArray[Any],
    ) -> Self:
        """Find the teachers that `SelfSupervisedClassifier` takes, by a few labelled stamps."""
        if pretrained == NO_TEACHER:
            return cls()
        with reporting(None):
            model = SelfSupervisedClassifier(
                FrozenEstimator(encoder), strategy="probe", pretrained=pretrained, random_state=0
            ).fit(images, labels)
        return cls(model.teachers_, model.kinds_)

    def embed(self, images: Any) -> dict[str, NDArray[np.float32]]:
        """Return the embeddings of stamps, by `row_of_teacher`."""
        return {
            row_of_teacher(k): np.asarray(t.transform(images)) for k, t in self.encoders.items()
        }

    def plan_probe(
        self,
        own: NDArray[Any] | None,
        n_properties: int,
        embeddings: Mapping[str, NDArray[Any]],
        pool: NDArray[np.int64],
    ) -> tuple[TeacherProbe, NDArray[np.float64]]:
        """Return an unfitted probe like that of `SelfSupervisedClassifier`, and its columns.

        ``own`` are columns of the study's own encoder, the last ``n_properties`` of them
        properties; None leaves them out. ``embeddings`` are those of `embed`; the ``pool`` of rows
        shows how much the teachers see.
        """
        parts = [] if own is None else [own]
        others, class_columns = [], None
        for name, teacher in self.encoders.items():
            embedding = embeddings[row_of_teacher(name)]
            table, d = teacher.predict_embedded(embedding), embedding.shape[1]
            if self.kinds and set(self.kinds) <= set(table) and class_columns is None:
                start = d + sum(part.shape[1] for part in parts)
                class_columns = [start + table.columns.get_loc(kind) for kind in self.kinds]
            if parts:
                odds = measure_odds(teacher, embedding[pool])
                others.append((d, table.shape[1], odds))
            else:
                n_properties = table.shape[1]
            parts.append(np.hstack([embedding, table]))
        probe = KernelProbe(n_properties, others=others, class_columns=class_columns)
        return TeacherProbe(probe), np.hstack(parts)


class TeacherProbe(ClassifierMixin, BaseEstimator):
    """Classify columns by a `KernelProbe`; without any label, by its columns of kinds alone.

    Parameters
    ----------
    probe : KernelProbe
    classes : sequence of str, default=None
        Classes where no row has a label.

    Examples
    --------
    >>> kinds = np.array([[0.2, 0.6], [0.3, 0.1]])
    >>> probe = TeacherProbe(KernelProbe(class_columns=[0, 1]), classes=["E", "S"])
    >>> probe.fit(kinds, [None, None]).predict_proba(kinds)
    array([[0.25, 0.75],
           [0.75, 0.25]])
    """

    def __init__(self, probe: KernelProbe, classes: Sequence[str] | None = None) -> None:
        self.probe = probe
        self.classes = classes

    def knows_classes(self, classes: Sequence[Any], X: Any = None) -> bool:  # noqa: ARG002 - of other estimators
        """Return whether the probe needs no label: it has a column for each class."""
        return self.probe.class_columns is not None

    def fit(self, X: Any, y: Any) -> Self:
        """Learn from the labelled rows, if there are any."""
        self.probe_ = clone(self.probe).fit(X, y) if plain_labels(y)[1].any() else None
        self.classes_ = np.array(self.classes) if self.probe_ is None else self.probe_.classes_
        return self

    def predict_proba(self, X: Any) -> NDArray[np.float64]:
        """Return the probability of each class (n, k)."""
        if self.probe_ is not None:
            return self.probe_.predict_proba(X)
        return rescale_kinds(np.asarray(X)[:, self.probe.class_columns])

    def predict(self, X: Any) -> NDArray[Any]:
        """Return the most probable class of each row."""
        return self.classes_[self.predict_proba(X).argmax(axis=1)]


def favoured_teacher(names: Sequence[str], probe: Any, *, named: bool) -> str | None:
    """Return the teacher whose morphology is of use for some stamps, if any.

    That is the one with the largest share in a probe that has learned from ``names``, if this is
    at least a half, or if the user has ``named`` it; and the first if there is no probe, because
    no stamp had a label.
    """
    if not names:
        return None
    if probe is None:
        return names[0]
    shares = dict(zip(names, probe.shares_[1:], strict=True))
    best = max(shares, key=shares.__getitem__)
    return best if named or shares[best] >= _MIN_SHARE else None


def append_columns(table: pd.DataFrame, more: pd.DataFrame) -> pd.DataFrame:
    """Join tables of the same rows; a name that both have gets ``predicted_`` in the second.

    Examples
    --------
    >>> both = pd.DataFrame({"dust": [0.0]})
    >>> append_columns(both, both).columns.tolist()
    ['dust', 'predicted_dust']
    """
    names = {name: f"predicted_{name}" if name in table else name for name in more}
    units = {names[name]: unit for name, unit in more.attrs.get("units", {}).items()}
    parts = [table.reset_index(drop=True), more.rename(columns=names).reset_index(drop=True)]
    joined = pd.concat(parts, axis=1)
    joined.attrs["units"] = table.attrs.get("units", {}) | units
    return joined


def compare_morphology(morphology: pd.DataFrame, labels: ArrayLike) -> pd.DataFrame:
    """Return the mean properties of each class, of those that differ most between the classes.

    ``labels`` are text, "" for none. The columns are ``property``, with its unit, and the classes.

    Examples
    --------
    >>> table = pd.DataFrame({"bar": [0.1, 0.2, 0.1, 0.2], "dust": [0.1, 0.2, 0.8, 0.9]})
    >>> compare_morphology(table, ["E", "E", "S", "S"])
      property     E     S
    0     dust  0.15  0.85
    1      bar  0.15  0.15
    """
    classes = np.asarray(labels, dtype=str)
    known, numbers = classes != "", morphology.select_dtypes("number")
    groups = numbers[known].groupby(classes[known])
    means, inside = groups.mean(), numbers[known].sub(groups.transform("mean")).std()
    scatter = (means.std() / inside.where(inside > 0)).fillna(0)
    shown = scatter.sort_values(ascending=False, kind="stable").index[:_N_SHOWN]
    units = morphology.attrs.get("units", {})
    table = means[shown].T.rename_axis(columns=None)
    names = [f"{name} ({units[name]})" if name in units else name for name in shown]
    table.insert(0, "property", names)
    return table.reset_index(drop=True)


def describe_morphology(
    encoder: PropertyPretrainedEncoder, embeddings: NDArray[Any]
) -> pd.DataFrame | None:
    """Return the table of `tabulate_morphology`; None for an encoder that was trained by `fit`."""
    is_teacher = encoder.image_shape_ is None
    return tabulate_morphology(encoder, embeddings) if is_teacher else None


def choose_morphology(morphology: pd.DataFrame | None, on: str) -> NDArray[Any] | None:
    """Return the numbers to cluster by: standardised, or the probabilities of "kinds".

    None for the embedding.
    """
    if on == "embedding":
        return None
    if morphology is None:
        raise ValueError(
            f"--on {on} needs a data folder and the encoder that knows it: add --encoder galaxies."
        )
    if on == "kinds":
        return morphology[morphology.attrs["kinds"]].to_numpy()
    return np.asarray(StandardScaler().fit_transform(morphology.select_dtypes("number")))


def append_morphology(
    predictions: pd.DataFrame,
    model: SelfSupervisedClassifier,
    survey: Survey,
    *,
    named: bool = False,
    say: Say,
) -> pd.DataFrame:
    """Append what the weights of skastro say about the stamps, where the classifier uses them.

    ``named`` appends it in any case. ``say`` gets a sentence about the columns.
    """
    encoder = model.encoder_ if model.encoder_.image_shape_ is None else None
    if encoder is None:
        probe = model.catalog_probe_ or model.probe_
        name = favoured_teacher(list(model.teachers_), probe, named=named)
        if name is None:
            return predictions
        encoder = model.teachers_[name]
    morphology = tabulate_morphology(encoder, np.asarray(encoder.transform(survey.images)))
    say(
        f"The morphology by the weights {encoder.weights!r} is in the columns "
        f"{', '.join(morphology.columns[:3])} ... {morphology.columns[-1]}."
    )
    return append_columns(predictions, morphology)
