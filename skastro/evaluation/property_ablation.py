"""What each kind of property buys as a target of the pretext."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any, Self

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, ClassifierMixin, clone
from sklearn.frozen import FrozenEstimator

from skastro.estimators.encoder import PropertyPretrainedEncoder
from skastro.estimators.linear_probe import LinearProbe
from skastro.evaluation.label_efficiency import (
    LabelEfficiencyCurve,
    Scoring,
    label_efficiency_curve,
)
from skastro.utils.validation import (
    check_labels,
    check_properties,
    check_property_errors,
    draw_seed,
    name_near,
    take_rows,
)

MEASURED = "measured"  # in a set: what the encoder measures from the pixels


@dataclass(frozen=True, repr=False, eq=False)
class PropertyAblation:
    """Test scores after pretraining on one set of properties and on another.

    Made by `property_ablation`.

    Attributes
    ----------
    curve : LabelEfficiencyCurve
        Of a `LinearProbe` on each representation; its estimators are the sets, in their order.
    sets : dict of str to list of str
        The columns of each set; ``"measured"`` for what was measured from the pixels.
    reference : str
        The set that the others are compared with.

    Examples
    --------
    >>> import pandas as pd
    >>> scores = pd.DataFrame({
    ...     "estimator": ["all", "all", "sizes", "sizes"], "n_labels": 30, "split": 0,
    ...     "repeat": [0, 1, 0, 1], "metric": "accuracy", "score": [0.70, 0.74, 0.60, 0.65],
    ... })
    >>> ablation = PropertyAblation(
    ...     LabelEfficiencyCurve.from_scores(scores), {"all": ["r", "r50"], "sizes": ["r50"]}, "all"
    ... )
    >>> ablation.summary()[["set", "mean", "difference", "difference_low"]].round(3)
         set   mean  difference  difference_low
    0    all  0.720       0.000           0.000
    1  sizes  0.625      -0.095          -0.159
    """

    curve: LabelEfficiencyCurve
    sets: Mapping[str, list[str]]
    reference: str

    @property
    def scores(self) -> pd.DataFrame:
        """One row for each probe and metric: the scores of ``curve``, with its column ``set``."""
        return self.curve.scores.rename(columns={"estimator": "set"})

    def summary(self, metric: str | None = None, *, confidence: float = 0.95) -> pd.DataFrame:
        """Mean score of each set, and its mean difference to the reference on the same runs.

        Parameters
        ----------
        metric : str, default=None
            Summarise one metric only.
        confidence : float in (0, 1), default=0.95
            Probability content of the intervals.

        Returns
        -------
        summary : DataFrame
            Columns ``set``, ``n_labels``, ``metric``, ``mean``, ``low``, ``high``, ``n_runs``,
            ``difference``, ``difference_low`` and ``difference_high``. A difference is paired:
            set and reference learn from the same labels and are scored on the same rows, so
            that its interval is narrower than those of the means. What intervals cover, and
            when they are NaN, is said in `LabelEfficiencyCurve.summary`.

        Raises
        ------
        ValueError
            There is no such metric.
        """
        summary = self.curve.summary(metric, confidence=confidence)
        differences = self.curve.difference_to(self.reference).summary(
            metric, confidence=confidence
        )
        for name in ("mean", "low", "high"):
            column = "difference" if name == "mean" else f"difference_{name}"
            summary[column] = differences[name]
        return summary.rename(columns={"estimator": "set"})

    def __repr__(self) -> str:
        text = f"PropertyAblation: {len(self.sets)} sets, compared with {self.reference!r}"
        for metric in self.curve.metrics:
            table = self.summary(metric).pivot(index="set", columns="n_labels", values="mean")
            table = table.reindex(self.curve.estimators).rename_axis(index=None, columns=None)
            text += f"\n\nmean {metric} by number of labels\n{table.to_string(float_format='%.3f')}"
        return text


def property_ablation(
    encoder: PropertyPretrainedEncoder,
    X: Any,
    y: ArrayLike,
    *,
    properties: Any,
    property_errors: Any = None,
    sets: Mapping[str, str | Sequence[str]],
    label_counts: Sequence[int],
    reference: str | None = None,
    n_repeats: int = 5,
    n_splits: int = 1,
    test_size: float = 0.3,
    groups: ArrayLike | None = None,
    scoring: Scoring = "balanced_accuracy",
    random_state: int | np.random.RandomState | None = None,
    n_jobs: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> PropertyAblation:
    """Pretrain on one set of properties after another, and compare what a probe then knows.

    For each set the encoder is pretrained on all rows but the test rows, labelled or not, with
    these properties as targets and from the same weights; a `LinearProbe` on the frozen
    embeddings then learns from the same nested label subsets.

    Parameters
    ----------
    encoder : PropertyPretrainedEncoder
        Cloned for each set. Its ``properties`` says nothing here: the set does.
    X : array-like of shape (n, bands, height, width) or (n, features)
    y : array-like of shape (n,)
        Class labels, with unlabelled rows marked as in `label_efficiency_curve`.
    properties : array-like, DataFrame or astropy Table of shape (n, p)
        Everything that a set may hold; NaN = not measured.
    property_errors : array-like of shape (n, p), default=None
        Their 1-sigma errors.
    sets : dict of str to str or sequence of str
        Columns of ``properties`` or patterns such as ``"mag_*"``, by the name of the set.
        ``"measured"`` stands for what the encoder measures from the pixels: alone for
        ``properties="measured"``, beside columns for ``"catalog+measured"``. An empty
        sequence leaves the network untrained.
    label_counts : sequence of int
        As in `label_efficiency_curve`, like all that is not said here.
    reference : str, default=None
        The set to compare with; None takes the one with the most columns, and with
        ``"measured"`` among equals.
    n_repeats : int, default=5
    n_splits : int, default=1
    test_size : float in (0, 1), default=0.3
    groups : array-like of shape (n,), default=None
    scoring : str, callable, list of str or dict, default="balanced_accuracy"
    random_state : int, RandomState or None, default=None
        Of the splits and subsets, and of the networks where the encoder brings none.
    n_jobs : int, default=None
        Probes at a time; pretrainings run one after another.
    progress : callable, default=None
        Called as ``progress(done, total)`` after each pretraining and each probe.

    Returns
    -------
    ablation : PropertyAblation

    Raises
    ------
    ValueError, TypeError
        The encoder is none, a set names a column that is not there, ``reference`` is no set, or
        anything that `label_efficiency_curve` refuses.

    See Also
    --------
    label_efficiency_curve : Other methods on the same label subsets, for the same seed.

    Notes
    -----
    The sets share one initial network, but one network for each split: how much the scores
    depend on its random numbers is in the intervals only with ``n_splits`` of several.

    Examples
    --------
    >>> import numpy as np
    >>> import pandas as pd
    >>> rng = np.random.default_rng(0)
    >>> stamps = rng.normal(size=(40, 2, 8, 8)).astype(np.float32)
    >>> labels = np.where(np.arange(40) % 2, "star", "galaxy")
    >>> stamps[labels == "star", :, 3:5, 3:5] += 20.0
    >>> flux = stamps.sum((2, 3))
    >>> table = pd.DataFrame({"flux_g": flux[:, 0], "flux_r": flux[:, 1], "r50": rng.random(40)})
    >>> ablation = property_ablation(
    ...     PropertyPretrainedEncoder("stamp_resnet10", max_epochs=1), stamps, labels,
    ...     properties=table, sets={"fluxes": "flux_*", "all": "*", "untrained": []},
    ...     label_counts=[10, 20], n_repeats=2, random_state=0,
    ... )
    >>> ablation.reference, ablation.sets["fluxes"]
    ('all', ['flux_g', 'flux_r'])
    >>> ablation.summary()[["set", "n_labels", "n_runs"]].tail(2)
             set  n_labels  n_runs
    4  untrained        10       2
    5  untrained        20       2
    """
    if not isinstance(encoder, PropertyPretrainedEncoder):
        raise TypeError(
            f"encoder is a {type(encoder).__name__}: pass a PropertyPretrainedEncoder, which every "
            "set of properties pretrains anew."
        )
    _, codes = check_labels(y)
    if (n := X.shape[0] if hasattr(X, "shape") else len(X)) != len(codes):
        raise ValueError(f"X has {n} stamps, but y has {len(codes)} labels: pass one for each.")
    table = check_properties(properties, len(codes))
    errors = None if property_errors is None else check_property_errors(property_errors, table)
    columns = _choose_columns(sets, list(table.columns))
    reference = _choose_reference(reference, columns)
    # one seed for all sets: they shall differ by their targets alone
    seed = draw_seed(random_state if encoder.random_state is None else encoder.random_state)
    encoder = clone(encoder).set_params(random_state=seed)
    rows = _Rows(X, np.arange(len(codes)), np.flatnonzero(codes >= 0))
    curve = label_efficiency_curve(
        {name: _SetProbe(_SetEncoder(encoder, chosen)) for name, chosen in columns.items()},
        rows,
        y,
        label_counts=label_counts,
        n_repeats=n_repeats,
        n_splits=n_splits,
        test_size=test_size,
        groups=groups,
        properties=table,
        property_errors=errors,
        scoring=scoring,
        random_state=random_state,
        n_jobs=n_jobs,
        progress=progress,
    )
    return PropertyAblation(curve, columns, reference)


def _choose_columns(
    sets: Mapping[str, str | Sequence[str]], names: list[str]
) -> dict[str, list[str]]:
    """Return the columns of each set, in the order of the table, and ``"measured"`` last."""
    if not isinstance(sets, Mapping) or not sets:
        raise ValueError("sets must be a dict of name to columns, with at least one entry.")
    if MEASURED in names:
        raise ValueError(
            f"properties has a column {MEASURED!r}, which in sets stands for what is measured from "
            "the pixels: rename it."
        )
    columns = {}
    for name, wanted in sets.items():
        patterns = [wanted] if isinstance(wanted, str) else list(wanted)
        for pattern in patterns:
            if pattern != MEASURED and not any(fnmatchcase(each, pattern) for each in names):
                raise ValueError(
                    f"sets[{name!r}] names {pattern!r}, which is no column of properties"
                    f"{name_near(pattern, names)}"
                )
        found = [each for each in names if any(fnmatchcase(each, p) for p in patterns)]
        columns[str(name)] = found + [MEASURED] * (MEASURED in patterns)
    return columns


def _choose_reference(reference: str | None, columns: dict[str, list[str]]) -> str:
    if reference is None:
        return max(columns, key=lambda name: len(columns[name]))
    if reference not in columns:
        raise ValueError(f"reference={reference!r} is no set: choose from {list(columns)}.")
    return reference


class _Rows:
    """Rows of a stack by their numbers: what is embedded once need not be read again."""

    def __init__(self, images: Any, rows: NDArray[np.intp], embedded: NDArray[np.intp]) -> None:
        self.images = images
        self.rows = rows
        self.embedded = embedded  # rows to embed after pretraining: those with a label
        self.shape = (len(rows), 1)

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, key: Any) -> Self:
        chosen = self.rows[key[0] if isinstance(key, tuple) else key]
        return type(self)(self.images, chosen, self.embedded)

    def __getstate__(self) -> dict[str, Any]:
        # probes in other processes look their rows up: the pixels need not travel
        return {**self.__dict__, "images": None}


class _SetEncoder(BaseEstimator):
    """An encoder pretrained on some of the properties, with its embeddings to look up."""

    def __init__(self, encoder: PropertyPretrainedEncoder, columns: list[str]) -> None:
        self.encoder = encoder
        self.columns = columns

    def fit(self, X: _Rows, *, properties: pd.DataFrame, property_errors: Any = None) -> Self:
        names = [name for name in self.columns if name != MEASURED]
        encoder = clone(self.encoder).set_params(properties=self._source(names))
        if not self.columns:
            encoder.set_params(max_epochs=0)
        if names:
            places = properties.columns.get_indexer(names)
            errors = None if property_errors is None else property_errors[:, places]
            targets = {"properties": properties.iloc[:, places], "property_errors": errors}
        else:
            targets = {}
        encoder.fit(take_rows(X.images, X.rows), **targets)
        self.rows_ = X.embedded
        self.embeddings_ = np.asarray(encoder.transform(take_rows(X.images, X.embedded)))
        return self

    def transform(self, X: _Rows) -> NDArray[np.float32]:
        return self.embeddings_[np.searchsorted(self.rows_, X.rows)]

    def _source(self, names: list[str]) -> str:
        if not names:
            return "measured"
        return "catalog+measured" if MEASURED in self.columns else "catalog"


class _SetProbe(ClassifierMixin, BaseEstimator):
    """A `LinearProbe` on the embeddings of a `_SetEncoder`."""

    def __init__(self, encoder: _SetEncoder | FrozenEstimator) -> None:
        self.encoder = encoder

    def pretrain(self, X: _Rows, *, properties: Any = None, property_errors: Any = None) -> Self:
        fitted = clone(self.encoder).fit(X, properties=properties, property_errors=property_errors)
        return type(self)(FrozenEstimator(fitted))

    def fit(self, X: _Rows, y: NDArray[Any], groups: NDArray[Any] | None = None) -> Self:
        self.probe_ = LinearProbe().fit(self.encoder.transform(X), y, groups=groups)
        self.classes_ = self.probe_.classes_
        return self

    def predict(self, X: _Rows) -> NDArray[Any]:
        return self.probe_.predict(self.encoder.transform(X))

    def predict_proba(self, X: _Rows) -> NDArray[np.float64]:
        return self.probe_.predict_proba(self.encoder.transform(X))

    def decision_function(self, X: _Rows) -> NDArray[np.float64]:
        return self.probe_.decision_function(self.encoder.transform(X))
