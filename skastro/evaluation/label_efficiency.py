"""How many labels a representation saves: label-efficiency curves and what is read off them."""

from __future__ import annotations

import itertools
import operator
from collections.abc import Callable, Container, Iterator, Mapping, MutableMapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Any, NamedTuple, Self

import joblib
import numpy as np
import pandas as pd
from joblib.parallel import get_active_backend
from numpy.typing import ArrayLike, NDArray
from scipy import stats
from sklearn.base import clone
from sklearn.frozen import FrozenEstimator
from sklearn.metrics import check_scoring, get_scorer, get_scorer_names
from sklearn.utils import check_random_state
from sklearn.utils.parallel import Parallel, delayed
from sklearn.utils.validation import has_fit_parameter

from skastro.evaluation.splits import Split, check_pool, draw_splits
from skastro.utils.files import replacing
from skastro.utils.validation import (
    check_labels,
    check_properties,
    check_property_errors,
    take_rows,
)

_RUN_COLUMNS = ["estimator", "n_labels", "split", "repeat", "metric"]
Scorer = Callable[..., Any]
Scoring = str | Scorer | Sequence[str] | Mapping[str, str | Scorer]

Cell = tuple[int, str, int, int]  # split, estimator, number of labels, repeat
Scores = tuple[dict[str, float], float]  # of each metric, and the seconds of the fit


@dataclass(frozen=True, repr=False, eq=False)
class LabelEfficiencyCurve:
    """Test scores of several estimators against the number of labels they learned from.

    Made by `label_efficiency_curve`, or by `from_scores` and `from_csv` from a saved table.

    Attributes
    ----------
    scores : DataFrame
        One row for each fit and metric: ``estimator`` (str), ``n_labels``, ``split`` and
        ``repeat`` (int64), ``metric`` (str), ``score`` (float64, in the metric's unit; higher
        is better; NaN where the metric is undefined) and ``fit_seconds`` (float64, without
        the pretraining).

    Examples
    --------
    >>> import pandas as pd
    >>> scores = pd.DataFrame({
    ...     "estimator": "probe", "n_labels": [30, 30, 100, 100], "split": 0,
    ...     "repeat": [0, 1, 0, 1], "metric": "accuracy", "score": [0.6, 0.64, 0.7, 0.72],
    ... })
    >>> curve = LabelEfficiencyCurve.from_scores(scores)
    >>> curve.summary()[["estimator", "n_labels", "mean", "low", "high"]].round(2)
      estimator  n_labels  mean   low  high
    0     probe        30  0.62  0.37  0.87
    1     probe       100  0.71  0.58  0.84
    """

    scores: pd.DataFrame

    @property
    def estimators(self) -> list[str]:
        """Names of the estimators, in the order they were given."""
        return self.scores["estimator"].unique().tolist()

    @property
    def label_counts(self) -> list[int]:
        """Numbers of labels, ascending."""
        return sorted(self.scores["n_labels"].unique().tolist())

    @property
    def metrics(self) -> list[str]:
        """Names of the metrics, in the order they were given."""
        return self.scores["metric"].unique().tolist()

    @classmethod
    def from_scores(cls, scores: pd.DataFrame) -> Self:
        """Make a curve of a table with the columns of ``scores``.

        Parameters
        ----------
        scores : DataFrame
            ``fit_seconds`` may be missing; further columns are kept. Tables of several
            studies can be joined by ``pandas.concat`` if they share the test rows.

        Returns
        -------
        curve : LabelEfficiencyCurve

        Raises
        ------
        ValueError
            A column is missing, or a run appears twice.
        """
        missing = [name for name in [*_RUN_COLUMNS, "score"] if name not in scores]
        if missing:
            raise ValueError(
                f"scores has no column {missing[0]!r}: pass a table like the scores of a curve."
            )
        if scores.duplicated(_RUN_COLUMNS).any():
            run = scores.loc[scores.duplicated(_RUN_COLUMNS), _RUN_COLUMNS].iloc[0].to_dict()
            raise ValueError(f"scores holds a run twice, {run}: keep one row for each run.")
        return cls(scores.reset_index(drop=True))

    @classmethod
    def from_csv(cls, path: str | Path) -> Self:
        """Read what `to_csv` wrote; the numbers come back exactly.

        Parameters
        ----------
        path : path

        Returns
        -------
        curve : LabelEfficiencyCurve
        """
        table = pd.read_csv(
            path,
            dtype={"estimator": str, "metric": str},
            keep_default_na=False,  # an estimator may well be called "None"
            converters={"score": _exact_float, "fit_seconds": _exact_float},
        )
        return cls.from_scores(table)

    def to_csv(self, path: str | Path) -> None:
        """Write the scores as CSV, one run a line; the file appears when it is complete.

        Parameters
        ----------
        path : path

        Raises
        ------
        OSError
            The file cannot be written.
        """
        with replacing(Path(path).expanduser()) as temporary:
            self.scores.to_csv(temporary, index=False)

    def summary(self, metric: str | None = None, *, confidence: float = 0.95) -> pd.DataFrame:
        """Mean score and its t-interval for each estimator and number of labels.

        Parameters
        ----------
        metric : str, default=None
            Summarise one metric only.
        confidence : float in (0, 1), default=0.95
            Probability content of the interval.

        Returns
        -------
        summary : DataFrame
            Columns ``estimator``, ``n_labels``, ``metric``, ``mean``, ``low``, ``high``,
            ``n_runs``. The interval is NaN for a single run; a NaN score makes its mean NaN.

        Raises
        ------
        ValueError
            The curve has no such metric.

        Notes
        -----
        With one test split the interval is over the repeats: it covers another draw of the
        labels (and the estimator's own randomness), and says nothing about other test rows.
        With several splits it is over the means of the splits, because repeats on the same
        test rows are not independent: it then covers another test split too, and is wide
        for two or three of them (Student's t with one or two degrees of freedom). The
        splits are drawn from the same objects, so neither covers another survey.
        """
        scores = self.scores if metric is None else select_metric(self, metric)
        unit = find_independent_unit(self)
        keys, rows = ["estimator", "n_labels", "metric"], []
        for key, runs in scores.groupby(keys, sort=False):
            units = [group.to_numpy() for _, group in runs.groupby(unit)["score"]]
            interval = _t_interval(np.array([group.mean() for group in units]), confidence)
            rows.append((*key, *interval, len(runs)))
        return pd.DataFrame(rows, columns=[*keys, "mean", "low", "high", "n_runs"])

    def difference_to(self, reference: str) -> Self:
        """Return how much better than one estimator each is on the same runs.

        Two estimators of a curve learn from the same labels and are scored on the same rows, so
        that their paired difference is known better than the score of either.

        Parameters
        ----------
        reference : str
            An estimator of the curve.

        Returns
        -------
        differences : LabelEfficiencyCurve
            Of the same runs; ``score`` is that of the estimator minus that of the reference, NaN
            where the reference was not run or has none.

        Raises
        ------
        ValueError
            The curve has no such estimator.

        Examples
        --------
        >>> import pandas as pd
        >>> scores = pd.DataFrame({
        ...     "estimator": ["probe"] * 3 + ["scratch"] * 3, "n_labels": 100, "split": 0,
        ...     "repeat": [0, 1, 2] * 2, "metric": "accuracy",
        ...     "score": [0.70, 0.76, 0.73, 0.69, 0.74, 0.71],
        ... })
        >>> curve = LabelEfficiencyCurve.from_scores(scores).difference_to("scratch")
        >>> curve.summary()[["estimator", "mean", "low", "high"]].round(3)
          estimator   mean    low   high
        0     probe  0.017  0.002  0.031
        1   scratch  0.000  0.000  0.000
        """
        if reference not in self.estimators:
            raise ValueError(
                f"reference={reference!r} is no estimator of the curve: choose from "
                f"{self.estimators}."
            )
        runs = [name for name in _RUN_COLUMNS if name != "estimator"]
        of_reference = self.scores.loc[self.scores["estimator"] == reference, [*runs, "score"]]
        paired = self.scores[runs].merge(of_reference, on=runs, how="left")
        scores = self.scores.assign(score=self.scores["score"] - paired["score"].to_numpy())
        return type(self)(scores)

    def __repr__(self) -> str:
        runs = self.scores[["split", "repeat"]].drop_duplicates()
        text = (
            f"LabelEfficiencyCurve: {len(self.estimators)} estimators, "
            f"{len(self.label_counts)} label counts, {len(runs)} runs"
        )
        for metric in self.metrics:
            means = self.summary(metric).pivot(index="estimator", columns="n_labels", values="mean")
            table = means.reindex(self.estimators).rename_axis(index=None, columns=None)
            text += f"\n\nmean {metric} by number of labels\n{table.to_string(float_format='%.3f')}"
        return text


def _exact_float(text: str) -> float:
    # the parser of pandas 2 loses the last bit
    return float(text or "nan")


def select_metric(curve: LabelEfficiencyCurve, metric: str | None) -> pd.DataFrame:
    """Return the scores of one metric; None takes the first that was scored."""
    metric = curve.metrics[0] if metric is None else metric
    if metric not in curve.metrics:
        raise ValueError(f"metric={metric!r} was not scored: choose from {curve.metrics}.")
    return curve.scores[curve.scores["metric"] == metric]


def find_independent_unit(curve: LabelEfficiencyCurve) -> str:
    """Return the column whose values are independent draws: the split, if there are several."""
    return "split" if curve.scores["split"].nunique() > 1 else "repeat"


def _t_interval(values: NDArray[Any], confidence: float) -> tuple[float, float, float]:
    mean = float(values.mean())
    if len(values) < 2:
        return mean, np.nan, np.nan
    half = stats.sem(values) * stats.t.ppf((1 + confidence) / 2, len(values) - 1)
    return mean, mean - half, mean + half


class _Entry(NamedTuple):
    name: str
    estimator: Any
    X: Any


def label_efficiency_curve(
    estimators: Mapping[str, Any],
    X: Any,
    y: ArrayLike,
    *,
    label_counts: Sequence[int],
    n_repeats: int = 5,
    n_splits: int = 1,
    test_size: float = 0.3,
    groups: ArrayLike | None = None,
    properties: Any = None,
    property_errors: Any = None,
    scoring: Scoring = "balanced_accuracy",
    random_state: int | np.random.RandomState | None = None,
    n_jobs: int | None = None,
    verbose: int = 0,
    progress: Callable[[int, int], None] | None = None,
    finished: MutableMapping[Cell, Scores] | None = None,
) -> LabelEfficiencyCurve:
    """Score estimators on unseen rows after learning from more and more labels.

    Every estimator learns from the same nested, stratified label subsets and is scored on
    the same test rows, which nothing has seen before: no pretraining, no scaling.

    Parameters
    ----------
    estimators : dict of str to estimator, or to tuple (estimator, X_other)
        ``X_other`` is that estimator's own input with the rows of ``X``: catalogue columns
        beside stamps, for example. Estimators are cloned, their ``random_state`` is kept.
    X : array-like of shape (n, bands, height, width) or (n, features)
        Array, memmap, DataFrame or lazy array-like; only the rows in use are read.
    y : array-like of shape (n,)
        Class labels. Unlabelled rows (-1 for integers, NaN for floats; None, NaN or ``""``
        for text) serve the pretraining only.
    label_counts : sequence of int
        Sizes of the label subsets, in any order: at least one label for each class, at
        most the labelled rows outside the test rows.
    n_repeats : int, default=5
        Chains of nested subsets on each split.
    n_splits : int, default=1
        Independent draws of the test rows. See `LabelEfficiencyCurve.summary` for what the
        interval covers with one and with several.
    test_size : float in (0, 1), default=0.3
        Share of the labelled rows, of every class alike, to test on.
    groups : array-like of shape (n,), default=None
        Rows that belong together (one galaxy, one field): whole groups stay on one side,
        unlabelled rows included. An estimator whose ``fit`` takes ``groups`` gets them, too,
        for its own validation. Of ten random draws of groups the one is taken that is
        most nearly stratified and of ``test_size``.
    properties, property_errors : array-like of shape (n, p), default=None
        Catalogue values and their 1-sigma errors for the pretraining; NaN = not measured.
    scoring : str, callable, list of str or dict, default="balanced_accuracy"
        Scorers as in scikit-learn.
    random_state : int, RandomState or None, default=None
        Draws the splits and subsets; more repeats, splits or counts leave the earlier ones
        as they are.
    n_jobs : int, default=None
        Fits at a time (joblib); the scores do not depend on it. Pretrainings run one after
        another in this process, since a network takes all cores by itself.
    verbose : int, default=0
        Verbosity of joblib.
    progress : callable, default=None
        Called as ``progress(done, total)`` after each pretraining and fit, in this process.
    finished : mutable mapping, default=None
        Fits that are done: (split, estimator, n_labels, repeat) to (dict of metric to score,
        seconds). They are not repeated, and each new one is put there at once, so that a
        mapping that writes to disk makes an interrupted call go on. That they are of the same
        call is for you to vouch.

    Returns
    -------
    curve : LabelEfficiencyCurve

    Raises
    ------
    ValueError
        Unequal lengths, fewer than two classes, a class too rare to be on both sides of a
        split, label counts outside the possible range, or an unknown metric.

    Notes
    -----
    An estimator with a method ``pretrain(X, *, properties, property_errors)``, such as
    `SelfSupervisedClassifier`, is pretrained once on each split, on all its rows but the
    test rows (and their groups), labelled or not. Estimators of the same class, with equal
    ``encoder`` and ``random_state``, on the same input share one pretraining. All others
    see the label subset only, also those with a pretraining inside, as in a Pipeline.

    An ``encoder`` that is a FrozenEstimator already is used as it is. What it was trained
    on cannot be known here: that it has never seen the test rows is for you to vouch.

    A subset is a prefix of one ordering of the labelled rows, by the divisor method of
    Webster and Sainte-Lague: the j-th member of class c stands at (j - 1/2) / n_c, the first
    of each class ahead. Largest remainders are proportional too, but not nested (the Alabama
    paradox: a class can lose a seat when the house grows).

    Examples
    --------
    >>> from sklearn.datasets import load_wine
    >>> from sklearn.linear_model import LogisticRegression
    >>> from sklearn.naive_bayes import GaussianNB
    >>> from sklearn.pipeline import make_pipeline
    >>> from sklearn.preprocessing import StandardScaler
    >>> X, y = load_wine(return_X_y=True)
    >>> linear = make_pipeline(StandardScaler(), LogisticRegression())
    >>> curve = label_efficiency_curve(
    ...     {"linear": linear, "two columns": (GaussianNB(), X[:, :2])}, X, y,
    ...     label_counts=[10, 30, 100], n_repeats=3, random_state=0,
    ... )
    >>> curve.estimators, curve.label_counts, curve.scores.shape
    (['linear', 'two columns'], [10, 30, 100], (18, 7))
    """
    entries = _check_entries(estimators, X)
    classes, codes = check_labels(y)
    group_codes = _check_groups(groups)
    _check_lengths(codes, entries, group_codes)
    _check_amounts(n_repeats, n_splits, test_size)
    counts = _check_counts(label_counts, len(classes))
    scorers = _check_scorers(scoring)
    properties, property_errors = _check_targets(properties, property_errors, len(codes))
    splits = draw_splits(
        classes,
        codes,
        group_codes,
        test_size=test_size,
        seed=check_random_state(random_state).randint(np.iinfo(np.int32).max),
        shape=(n_splits, n_repeats),
    )
    check_pool(counts, splits, codes)

    labels = classes[np.maximum(codes, 0)]
    total = n_splits * (len(entries) * n_repeats * len(counts) + _n_pretrainings(entries))
    report, steps = progress or (lambda _done, _total: None), itertools.count(1)
    cells = itertools.product(entries, counts, range(n_splits), range(n_repeats))
    wanted = [(split, entry.name, count, repeat) for entry, count, split, repeat in cells]
    done = {} if finished is None else finished
    for _ in filter(done.__contains__, wanted):
        report(next(steps), total)
    for number, split in enumerate(splits):
        ready, left = [], _unfinished(entries, number, wanted, done)
        for _ in range(_n_pretrainings(entries) - _n_pretrainings(left)):
            report(next(steps), total)
        for entry, is_new in _pretrain_all(left, split.pool, properties, property_errors):
            ready.append(entry)
            if is_new:
                report(next(steps), total)
        tasks = _fit_tasks(ready, number, split, labels, counts, scorers, group_codes, done)
        parallel = Parallel(n_jobs=n_jobs, verbose=verbose, return_as=_return_as())
        for name, count, repeat, scores, seconds in parallel(tasks):
            done[number, name, count, repeat] = scores, seconds
            report(next(steps), total)
    return LabelEfficiencyCurve(_tidy([(*cell, *done[cell]) for cell in wanted], list(scorers)))


def _return_as() -> str:
    """Say how joblib is to return results: as they come, which its Dask backend cannot."""
    backend, _ = get_active_backend()
    return "generator_unordered" if backend.supports_return_generator else "list"


def _check_entries(estimators: Mapping[str, Any], X: Any) -> list[_Entry]:
    if not isinstance(estimators, Mapping) or not estimators:
        raise ValueError("estimators must be a dict of name to estimator with at least one entry.")
    entries = []
    for name, value in estimators.items():
        estimator, own_X = value if isinstance(value, tuple) else (value, X)
        if not hasattr(estimator, "fit") or isinstance(estimator, type):
            raise TypeError(
                f"estimators[{name!r}] is not an estimator: pass an instance with a fit method."
            )
        entries.append(_Entry(str(name), estimator, own_X))
    return entries


def _check_groups(groups: ArrayLike | None) -> NDArray[np.intp] | None:
    if groups is None:
        return None
    codes, _ = pd.factorize(np.asarray(groups))
    if (codes < 0).any():
        raise ValueError("groups has missing values: give each such row a group of its own.")
    return codes


def _check_lengths(codes: NDArray[Any], entries: list[_Entry], groups: NDArray[Any] | None) -> None:
    lengths = {f"the input of {entry.name!r}": _length(entry.X) for entry in entries}
    if groups is not None:
        lengths["groups"] = len(groups)
    for what, length in lengths.items():
        if length != len(codes):
            raise ValueError(
                f"{what} has {length} rows, but y has {len(codes)}: pass one label for each row."
            )


def _length(X: Any) -> int:
    return X.shape[0] if hasattr(X, "shape") else len(X)


def _check_amounts(n_repeats: int, n_splits: int, test_size: float) -> None:
    for name, value in (("n_repeats", n_repeats), ("n_splits", n_splits)):
        if value < 1:
            raise ValueError(f"{name}={value} leaves nothing to run: pass at least 1.")
    if not 0 < test_size < 1:
        raise ValueError(f"test_size={test_size} is not a share: pass a number between 0 and 1.")


def _check_counts(label_counts: Sequence[int], n_classes: int) -> list[int]:
    if n_classes < 2:
        raise ValueError("y holds one class only: label rows of at least two classes.")
    try:
        counts = sorted({operator.index(count) for count in label_counts})
    except TypeError:
        raise ValueError(
            f"label_counts={label_counts!r} must be whole numbers, such as [30, 100, 300]."
        ) from None
    if not counts:
        raise ValueError("label_counts is empty: pass whole numbers, such as [30, 100, 300].")
    if counts[0] < n_classes:
        raise ValueError(
            f"label_counts asks for {counts[0]} labels of {n_classes} classes: "
            f"ask for {n_classes} at least, one of each class."
        )
    return counts


def _check_scorers(scoring: Scoring) -> dict[str, Scorer]:
    if isinstance(scoring, str):
        scoring = [scoring]
    if callable(scoring):
        scoring = {getattr(scoring, "__name__", "score"): scoring}
    named = dict(scoring) if isinstance(scoring, Mapping) else {str(s): s for s in scoring}
    for scorer in named.values():
        if isinstance(scorer, str) and scorer not in get_scorer_names():
            raise ValueError(
                f"scoring={scorer!r} is no metric of scikit-learn: "
                "see sklearn.metrics.get_scorer_names() for the names."
            )
    if not named:
        raise ValueError("scoring is empty: name at least one metric.")
    return {name: get_scorer(scorer) for name, scorer in named.items()}


def _check_targets(properties: Any, property_errors: Any, n: int) -> tuple[Any, Any]:
    if properties is None:
        if property_errors is not None:
            raise ValueError("property_errors needs properties: pass the values they belong to.")
        return None, None
    table = check_properties(properties, n)
    errors = None if property_errors is None else check_property_errors(property_errors, table)
    return table, errors


def _unfinished(
    entries: list[_Entry], number: int, wanted: list[Cell], done: Container[Cell]
) -> list[_Entry]:
    """Return the entries that have a fit to do on a split."""
    left = {cell[1] for cell in wanted if cell[0] == number and cell not in done}
    return [entry for entry in entries if entry.name in left]


def _pretraining_key(entry: _Entry) -> tuple[Any, ...] | None:
    if not hasattr(entry.estimator, "pretrain"):
        return None
    params = entry.estimator.get_params(deep=False)
    encoder = params.get("encoder")
    if isinstance(encoder, FrozenEstimator):
        return None
    same = joblib.hash((encoder, params.get("random_state")))
    return type(entry.estimator), id(entry.X), same


def _n_pretrainings(entries: list[_Entry]) -> int:
    return len({_pretraining_key(entry) for entry in entries} - {None})


def _pretrain_all(
    entries: list[_Entry], pool: NDArray[Any], properties: Any, property_errors: Any
) -> Iterator[tuple[_Entry, bool]]:
    """Yield the entries ready to fit, and whether each took a pretraining of its own."""
    shared: dict[tuple[Any, ...], FrozenEstimator] = {}
    for entry in entries:
        key = _pretraining_key(entry)
        if key is None:
            yield entry, False
            continue
        is_new = key not in shared
        if is_new:
            shared[key] = _pretrain(entry, pool, properties, property_errors)
        ready = clone(entry.estimator).set_params(encoder=shared[key])
        yield entry._replace(estimator=ready), is_new


def _pretrain(entry: _Entry, pool: NDArray[Any], properties: Any, errors: Any) -> FrozenEstimator:
    pretrained = clone(entry.estimator).pretrain(
        take_rows(entry.X, pool),
        properties=take_rows(properties, pool),
        property_errors=take_rows(errors, pool),
    )
    encoder = pretrained.get_params(deep=False).get("encoder")
    if not isinstance(encoder, FrozenEstimator):
        raise TypeError(
            f"estimators[{entry.name!r}].pretrain must return an estimator whose encoder is a "
            "FrozenEstimator: a bare one would be emptied by clone."
        )
    return encoder


def _fit_tasks(
    entries: list[_Entry],
    number: int,
    split: Split,
    labels: NDArray[Any],
    counts: list[int],
    scorers: dict[str, Scorer],
    groups: NDArray[Any] | None,
    done: Container[Cell],
) -> Iterator[tuple[Any, ...]]:
    cells = itertools.product(entries, enumerate(split.orders), counts)
    for entry, (repeat, order), count in cells:
        if (number, entry.name, count, repeat) in done:
            continue
        train = order[:count]
        params = {} if groups is None else {"groups": groups[train]}
        yield delayed(_fit_one)(
            entry, repeat, train, split.test, labels, scorers=scorers, params=params
        )


def _fit_one(
    entry: _Entry,
    repeat: int,
    train: NDArray[Any],
    test: NDArray[Any],
    labels: NDArray[Any],
    *,
    scorers: dict[str, Scorer],
    params: dict[str, NDArray[Any]],
) -> tuple[str, int, int, dict[str, float], float]:
    try:
        model = clone(entry.estimator)
        wanted = {name: value for name, value in params.items() if has_fit_parameter(model, name)}
        start = perf_counter()
        model.fit(take_rows(entry.X, train), labels[train], **wanted)
        seconds = perf_counter() - start
        # one scorer for all metrics predicts once, which is what costs with a network
        scores = check_scoring(model, scoring=scorers)(
            model, take_rows(entry.X, test), labels[test]
        )
    except Exception as error:
        error.add_note(f"raised by {entry.name!r} with {len(train)} labels, repeat {repeat}")
        raise
    return entry.name, len(train), repeat, scores, seconds


def _tidy(rows: list[tuple[Any, ...]], metrics: list[str]) -> pd.DataFrame:
    records = [
        (name, count, split, repeat, metric, float(scores[metric]), seconds)
        for split, name, count, repeat, scores, seconds in rows
        for metric in metrics
    ]
    return pd.DataFrame(records, columns=[*_RUN_COLUMNS, "score", "fit_seconds"])
