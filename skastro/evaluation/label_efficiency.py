"""Measure the test scores of estimators against the number of labels they learned from."""

from __future__ import annotations

import copy
import inspect
import itertools
from collections.abc import Callable, Hashable, Mapping, MutableMapping, Sequence
from dataclasses import dataclass
from functools import partial, update_wrapper
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
from sklearn.metrics import check_scoring
from sklearn.utils.parallel import Parallel, delayed
from sklearn.utils.validation import has_fit_parameter

from skastro.evaluation.splits import (
    Split,
    check_counts,
    check_strata,
    draw_splits,
    number_groups,
)
from skastro.stamps.containers import to_array
from skastro.utils.files import replacing
from skastro.utils.notebooks import as_html
from skastro.utils.progress import Progress, WorkEstimate, reporting
from skastro.utils.scoring import (
    Scorer,
    Scoring,
    check_scorers,
)
from skastro.utils.validation import (
    check_properties,
    check_property_errors,
    take_rows,
    warn_of_target,
)

METHOD = "self-supervised"  # skastro's own method among the estimators of a study
_METRIC_NAMES = {
    "f1_macro": "macro-F1",
    "f1_weighted": "weighted F1",
    "neg_calibration_error": "negative expected calibration error",
    "neg_log_loss": "\N{MINUS SIGN}log loss",
    "neg_brier_score": "\N{MINUS SIGN}Brier score",
    "roc_auc_ovr": "ROC AUC (one against rest)",
    "r2": "R\N{SUPERSCRIPT TWO}",
    "neg_scatter": "\N{MINUS SIGN}scatter (sigma_NMAD)",
    "neg_outlier_share": "\N{MINUS SIGN}share of outliers",
    "roc_auc_ovo": "ROC AUC (one against one)",
}
# guesses: of a fit on stamps, times the root of the number of labels, and of a pretraining
_NETWORK_SECONDS, _PRETRAINING_SECONDS = 2.0, 60.0
_RUN_COLUMNS = ["estimator", "n_labels", "split", "repeat", "metric"]

Cell = tuple[int, str, int, int]  # number of the split, estimator, number of labels, repeat
Scores = tuple[dict[str, float], float]  # score of each metric, and seconds of the fit


def metric_name(metric: str) -> str:
    """Return the name of a metric for figures and text."""
    return _METRIC_NAMES.get(metric, metric.replace("_", " "))


@dataclass(frozen=True, repr=False, eq=False)
class LabelEfficiencyCurve:
    """Test scores of several estimators against the number of labels they learned from.

    Made by `label_efficiency_curve`, or by `from_scores` and `from_csv` from a saved table.

    Attributes
    ----------
    scores : DataFrame
        One row for each fit and metric: ``estimator`` (str), ``n_labels``, ``split`` and
        ``repeat`` (int64), ``metric`` (str), ``score`` (float64, in the metric's unit; higher
        is better; NaN where the metric is undefined) and ``fit_seconds`` (float64, seconds of
        the fit, without the pretraining).

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
        """Make a curve from a table with the columns of ``scores``.

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
        repeated = scores.loc[scores.duplicated(_RUN_COLUMNS), _RUN_COLUMNS].to_dict("records")
        if repeated:
            raise ValueError(f"scores holds a run twice, {repeated[0]}: keep one row for each run.")
        return cls(scores.reset_index(drop=True))

    @classmethod
    def from_csv(cls, path: str | Path) -> Self:
        """Read a file that `to_csv` wrote; the numbers come back exactly.

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
            keep_default_na=False,  # an estimator may be called "None"
            # the parser of pandas 2 changes the last bit of some numbers
            converters=dict.fromkeys(["score", "fit_seconds"], lambda text: float(text or "nan")),
        )
        return cls.from_scores(table)

    def to_csv(self, path: str | Path) -> None:
        """Write the scores as CSV, one line for each run; the file appears when it is complete.

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
        """Return the mean score and its t-interval for each estimator and number of labels.

        Parameters
        ----------
        metric : str, default=None
            Metric to summarise; None summarises all.
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
        labels (and the estimator's own randomness), but not other test rows. With several
        splits it is over the means of the splits, because repeats on the same test rows are
        not independent: it then also covers another test split, and is wide for two or three
        splits (Student's t with one or two degrees of freedom). All splits are drawn from the
        same objects, and neither interval covers another survey.
        """
        # the mean over the independent units (splits or repeats), and its t-interval
        scores = self.scores if metric is None else select_metric(self, metric)
        unit = find_independent_unit(self)
        keys, rows = ["estimator", "n_labels", "metric"], []
        for key, runs in scores.groupby(keys, sort=False):
            values = np.array([group.to_numpy().mean() for _, group in runs.groupby(unit)["score"]])
            mean, half_width = float(values.mean()), np.nan
            if len(values) > 1:
                half_width = stats.sem(values) * stats.t.ppf((1 + confidence) / 2, len(values) - 1)
            if len(values) > 1 and np.ptp(values) == 0:  # exactly, where the mean is rounded
                mean, half_width = float(values[0]), 0.0
            rows.append((*key, mean, mean - half_width, mean + half_width, len(runs)))
        return pd.DataFrame(rows, columns=[*keys, "mean", "low", "high", "n_runs"])

    def difference_to(self, reference: str) -> Self:
        """Return how much better each estimator is than a reference on the same runs.

        Two estimators of a curve learn from the same labels and are scored on the same rows.
        Their paired difference therefore has a narrower interval than the score of either.

        Parameters
        ----------
        reference : str
            Name of an estimator of the curve.

        Returns
        -------
        differences : LabelEfficiencyCurve
            The same runs, where ``score`` is the score of the estimator minus the score of the
            reference; NaN where the reference has no score.

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
                f"reference={reference!r} is not an estimator of the curve: choose from "
                f"{self.estimators}."
            )
        runs = [name for name in _RUN_COLUMNS if name != "estimator"]
        of_reference = self.scores.loc[self.scores["estimator"] == reference, [*runs, "score"]]
        paired = self.scores[runs].merge(of_reference, on=runs, how="left")
        scores = self.scores.assign(score=self.scores["score"] - paired["score"].to_numpy())
        return type(self)(scores)

    def __repr__(self) -> str:
        runs = self.scores[["split", "repeat"]].drop_duplicates()
        return (
            f"LabelEfficiencyCurve: {len(self.estimators)} estimators, "
            f"{len(self.label_counts)} label counts, {len(runs)} runs{describe_means(self)}"
        )

    def _repr_html_(self) -> str:
        return describe_html(self, repr(self))


def describe_means(curve: LabelEfficiencyCurve) -> str:
    """Return the mean scores of a curve as text, one table for each metric."""
    text = ""
    for metric in curve.metrics:
        means = curve.summary(metric).pivot(index="estimator", columns="n_labels", values="mean")
        table = means.reindex(curve.estimators).rename_axis(index=None, columns=None)
        name = metric_name(metric)
        rows = table.to_string(float_format="%.3f", na_rep="")
        text += f"\n\nmean {name} by number of labels\n{rows}"
    return text


def tabulate_scores(curve: LabelEfficiencyCurve, metric: str, *, sign: int = 1) -> pd.DataFrame:
    """Return the scores as text: a row for each estimator, a column for each number of labels.

    Each cell holds the mean, times ``sign``, and the half-width of its 95 % interval, if it has
    one: draws of all labels are the same draw. Estimators without a score have a dash.
    """
    summary = curve.summary(metric)
    summary["text"] = [
        f"{sign * row.mean:.3f}".replace("-", "\N{MINUS SIGN}")
        + (f" \u00b1 {row.high - row.mean:.3f}" if row.high > row.mean else "")
        for row in summary.itertuples()
    ]
    table = summary.pivot(index="estimator", columns="n_labels", values="text")
    return table.reindex(curve.estimators).fillna("\N{EN DASH}")


def describe_html(curve: LabelEfficiencyCurve, text: str) -> str:
    """Return HTML of a text before its first empty line, and of the scores with 95 % intervals."""
    tables: list[pd.DataFrame | str] = []
    for metric in curve.metrics:
        tables += [
            f"<p>{metric_name(metric)} by number of labels, with 95 % intervals</p>",
            tabulate_scores(curve, metric).rename_axis(index=None, columns=None),
        ]
    return as_html(text.partition("\n\n")[0], *tables)


def select_metric(curve: LabelEfficiencyCurve, metric: str | None) -> pd.DataFrame:
    """Return the scores of one metric, or of the first metric for None."""
    metric = curve.metrics[0] if metric is None else metric
    if metric not in curve.metrics:
        raise ValueError(f"metric={metric!r} was not scored: choose from {curve.metrics}.")
    return curve.scores[curve.scores["metric"] == metric]


def find_independent_unit(curve: LabelEfficiencyCurve) -> str:
    """Return the column of independent draws: the split if there are several, else the repeat."""
    return "split" if curve.scores["split"].nunique() > 1 else "repeat"


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
    catalog: Any = None,
    scoring: Scoring | None = None,
    random_state: int | np.random.RandomState | None = None,
    n_jobs: int | None = None,
    verbose: int = 0,
    progress: Callable[[int, int], None] | None = None,
    finished: MutableMapping[Cell, Scores] | None = None,
    splits: Sequence[Split] | None = None,
    max_repeats: Mapping[str, int] | None = None,
) -> LabelEfficiencyCurve:
    """Score estimators on unseen rows after learning from more and more labels.

    Every estimator learns from the same nested, stratified label subsets and is scored on
    the same test rows, which no other step uses, not even pretraining or scaling.

    Parameters
    ----------
    estimators : dict of str to estimator, or to tuple (estimator, X_other)
        ``X_other`` is that estimator's own input with the rows of ``X``, such as catalogue
        columns instead of stamps. Estimators are cloned, and keep their ``random_state``.
    X : array-like of shape (n, bands, height, width) or (n, features)
        Array, memmap, DataFrame or lazy array-like; only the rows in use are read.
    y : array-like of shape (n,)
        Class labels; or measurements such as redshifts, whose subsets are stratified by five
        quantiles, as if these were classes. Unlabelled rows (-1, NaN, None, masked or blank, as in
        `SelfSupervisedClassifier`; NaN or masked among measurements) are used by the pretraining
        only.
    label_counts : sequence of int
        Sizes of the label subsets, in any order: at least one label for each class, at
        most the labelled rows outside the test rows. 0 scores what is known before the first
        label (see Notes).
    n_repeats : int, default=5
        Number of chains of nested subsets on each split.
    n_splits : int, default=1
        Number of independent draws of the test rows. `LabelEfficiencyCurve.summary` explains
        what the interval covers with one and with several.
    test_size : float in (0, 1), default=0.3
        Share of the labelled rows of each class to test on.
    groups : array-like of shape (n,), default=None
        Rows that belong together (one galaxy, one field). Whole groups stay on one side,
        unlabelled rows included. Out of ten random draws of groups, the one is used whose
        share of each class is nearest to ``test_size``. Estimators whose ``fit`` takes
        ``groups`` receive them for their own validation. Missing values are an error.
    properties, property_errors : array-like of shape (n, p), default=None
        Catalogue values and their 1-sigma errors for the pretraining; NaN = not measured.
    catalog : array-like of shape (n, q), default=None
        Catalogue columns to classify by; NaN = not measured. Estimators whose ``fit`` takes
        ``catalog`` receive them at fit and at prediction.
    scoring : str, callable, list of str or dict, default=None
        Scorers as in scikit-learn, by default "balanced_accuracy". For measurements the default is
        "r2", "neg_scatter" (the negative of sigma_NMAD, 1.4826 times the median absolute deviation
        of the errors) and "neg_outlier_share" (the negative of the share of errors beyond 5 of it).
    random_state : int, RandomState or None, default=None
        Seed of the splits and subsets. With more repeats, splits or counts, the first ones
        stay the same.
    n_jobs : int, default=None
        Number of fits at the same time (joblib); the scores do not depend on it. Pretrainings
        run one after another in this process, since one network uses all cores.
    verbose : int, default=0
        Verbosity of joblib.
    progress : callable, default=None
        Called as ``progress(done, total)`` after each pretraining and fit, in this process.
    finished : mutable mapping, default=None
        Results of an interrupted call: (split, estimator, n_labels, repeat) to (dict of metric
        to score, seconds). These fits are not repeated, and each new result is added at once,
        so a mapping that writes to disk makes the call resumable. The caller must make sure
        that the results are from a call with the same arguments.
    splits : sequence of Split, default=None
        Splits of ``draw_splits`` to use instead of drawing them; ``n_repeats``, ``n_splits``,
        ``test_size`` and ``random_state`` then have no effect.
    max_repeats : mapping of str to int, default=None
        The most draws of the labels from which an estimator learns, where it is slow: the first
        ones of ``n_repeats``.

    Returns
    -------
    curve : LabelEfficiencyCurve

    Raises
    ------
    ValueError
        Unequal lengths, fewer than two classes, a class too rare to be on both sides of a
        split, label counts outside the possible range or only 0 where no estimator can start
        without labels, an unknown metric, or ``max_repeats`` of an unknown estimator or below 1.

    Notes
    -----
    An estimator with a method ``pretrain(X, *, properties, property_errors)``, such as
    `SelfSupervisedClassifier`, is pretrained once on each split, on all its rows but the
    test rows (and their groups), labelled or not. Estimators of the same class, with equal
    ``encoder`` and ``random_state``, on the same input share one pretraining. All others
    see the label subset only, also those with a pretraining inside, as in a Pipeline.

    An ``encoder`` that is a FrozenEstimator is not pretrained again. The caller must make sure
    that it was not trained on the test rows.

    At 0 labels, only those estimators have a score that have a method
    ``knows_classes(classes, X)`` which returns True, such as `SelfSupervisedClassifier` where the
    classes are kinds of sources that `load_pretrained` knows. Their parameter ``classes`` is set
    to the classes of ``y``, and ``fit`` gets all rows outside the test rows, without a label.
    There is one such fit for each split: all its repeats have the same score.

    A subset is a prefix of one ordering of the labelled rows, by the divisor method of
    Webster and Sainte-Lague: the j-th member of class c stands at (j - 1/2) / n_c, and the
    first members of all classes come first. The method of largest remainders is proportional
    too, but not nested: a larger subset can hold fewer rows of a class (Alabama paradox).

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
    # check all arguments before anything is trained
    classes, codes, values = check_strata(y)
    entries = _check_entries(estimators, X, len(codes))
    scorers = check_scorers(scoring, of_values=values is not None)
    targets = _check_targets(properties, property_errors, len(codes))
    if properties is not None:
        warn_of_target(targets["properties"], codes if values is None else values)
    if catalog is not None:
        catalog = check_properties(catalog, len(codes), name="catalog")
    extras = {"groups": number_groups(groups, len(codes)), "catalog": catalog}
    if splits is None:
        splits = draw_splits(
            y, n_repeats=n_repeats, n_splits=n_splits, test_size=test_size, groups=groups,
            random_state=random_state,
        )  # fmt: skip
    counts = check_counts(label_counts, codes, splits)

    # find the fits that are left, and for each split the entries that they need
    results = {} if finished is None else finished
    cells = _list_cells(entries, counts, splits, classes, max_repeats or {})
    left = [cell for cell in cells if cell not in results]
    needed = {cell[:2] for cell in left}
    todo = [[e for e in entries if (i, e.name) in needed] for i in range(len(splits))]

    # prepare the report of the progress
    keys = [{_pretraining_key(e) for e in part} - {None} for part in todo]
    total, done = len(cells) + sum(map(len, keys)), itertools.count(1 + len(cells) - len(left))
    work = WorkEstimate("learning from few labels", _guess_seconds(left, entries, keys))

    def report(piece: Any) -> None:
        work.finish(piece)
        if progress is not None:
            progress(next(done), total)

    # pretrain and fit, split by split
    # no fit uses those of unlabelled rows
    labels = classes[np.maximum(codes, 0)] if values is None else values
    backend, _ = get_active_backend()  # Dask's cannot return each result when it is ready
    return_as = "generator_unordered" if backend.supports_return_generator else "list"
    for number, split in enumerate(splits):
        ready = _pretrain_all(todo[number], number, split.pool, targets, report)
        fit = partial(
            _fit_one, split=split, classes=classes, labels=labels, scorers=scorers, extras=extras
        )
        # fits of other processes cannot report that they go on
        beats = joblib.effective_n_jobs(n_jobs) == 1
        tasks = (
            delayed(fit)(
                ready[name], repeat, split.orders[repeat][:count],
                beat=partial(work.beat, (number, name, count, repeat)) if beats else None,
            )
            for _, name, count, repeat in (cell for cell in left if cell[0] == number)
        )  # fmt: skip
        parallel = Parallel(n_jobs=n_jobs, verbose=verbose, return_as=return_as)
        for name, count, repeat, scores, seconds in parallel(tasks):
            results[number, name, count, repeat] = scores, seconds
            report((number, name, count, repeat))
    return LabelEfficiencyCurve(_tabulate(cells, results, list(scorers), splits))


def _check_entries(estimators: Mapping[str, Any], X: Any, n: int) -> list[_Entry]:
    if not isinstance(estimators, Mapping) or not estimators:
        raise ValueError('estimators must be a dict, such as {"probe": LinearProbe()}.')
    X = _open_stamps(X)
    entries = []
    for name, value in estimators.items():
        estimator, own_X = value if isinstance(value, tuple) else (value, X)
        own_X = _open_stamps(own_X)
        if not hasattr(estimator, "fit") or isinstance(estimator, type):
            raise TypeError(
                f"estimators[{name!r}] is not an estimator: pass an instance with a fit method."
            )
        length = own_X.shape[0] if hasattr(own_X, "shape") else len(own_X)
        if length != n:
            raise ValueError(
                f"the input of {name!r} has {length} rows, but y has {n}: pass one label for each."
            )
        entries.append(_Entry(str(name), estimator, own_X))
    return entries


def _open_stamps(X: Any) -> Any:
    """Return stamps of four dimensions such that any rows can be taken, in any order."""
    return to_array(X) if len(getattr(X, "shape", ())) == 4 else X


def _check_targets(properties: Any, property_errors: Any, n: int) -> dict[str, Any]:
    if properties is not None:
        properties = check_properties(properties, n)
    if property_errors is not None:
        if properties is None:
            raise ValueError("property_errors needs properties: pass the values they belong to.")
        property_errors = check_property_errors(property_errors, properties)
    return {"properties": properties, "property_errors": property_errors}


def _list_cells(
    entries: list[_Entry],
    counts: list[int],
    splits: Sequence[Split],
    classes: NDArray[Any],
    most: Mapping[str, int],
) -> list[Cell]:
    """Return all fits; without labels, one for each split and estimator that knows the classes."""
    if not set(most) <= {entry.name for entry in entries} or min(most.values(), default=1) < 1:
        raise ValueError(
            f"max_repeats={dict(most)!r} must name estimators, and give each at least 1 draw."
        )
    cells = [
        (number, entry.name, count, repeat)
        for entry, count, number in itertools.product(entries, counts, range(len(splits)))
        if count or _knows_classes(entry, classes)
        for repeat in range(len(splits[number].orders[: most.get(entry.name)]) if count else 1)
    ]
    if not cells:
        raise ValueError(
            "label_counts asks for 0 labels only, and no estimator knows the classes "
            f"{', '.join(map(str, classes))} without a label: ask for more."
        )
    return cells


def _knows_classes(entry: _Entry, classes: NDArray[Any]) -> bool:
    """Return whether an estimator can tell classes of its X before it has seen a label."""
    knows = getattr(entry.estimator, "knows_classes", None)
    return knows is not None and bool(knows(classes, entry.X))


def _guess_seconds(
    cells: list[Cell], entries: list[_Entry], pretrainings: Sequence[set[Any]]
) -> dict[Hashable, tuple[str, float]]:
    """Return the kind of each fit and pretraining, and a guess of its seconds.

    The fits that are done correct the guesses: only the ratios of fits of one estimator matter.
    """
    reads_stamps = {entry.name: len(getattr(entry.X, "shape", ())) > 2 for entry in entries}
    guesses: dict[Hashable, tuple[str, float]] = {
        cell: (cell[1], _NETWORK_SECONDS * np.sqrt(cell[2] + 1) if reads_stamps[cell[1]] else 0.1)
        for cell in cells
    }
    for number, keys in enumerate(pretrainings):
        guesses |= {(number, key): ("pretraining", _PRETRAINING_SECONDS) for key in keys}
    return guesses


def _pretraining_key(entry: _Entry) -> tuple[Any, ...] | None:
    """Return a key that is equal for entries with the same pretraining; None without one."""
    params = entry.estimator.get_params(deep=False)
    encoder = params.get("encoder")
    if not hasattr(entry.estimator, "pretrain") or isinstance(encoder, FrozenEstimator):
        return None
    return type(entry.estimator), id(entry.X), joblib.hash((encoder, params.get("random_state")))


def _pretrain_all(
    entries: list[_Entry],
    number: int,
    pool: NDArray[Any],
    targets: dict[str, Any],
    report: Callable[[Any], None],
) -> dict[str, _Entry]:
    """Return the entries of a split by name, with pretrained encoders; report each pretraining."""
    encoders: dict[tuple[Any, ...], FrozenEstimator] = {}
    ready = {entry.name: entry for entry in entries}
    for entry in entries:
        if (key := _pretraining_key(entry)) is None:
            continue
        if key not in encoders:
            pretrained = clone(entry.estimator).pretrain(
                take_rows(entry.X, pool),
                **{name: take_rows(values, pool) for name, values in targets.items()},
            )
            encoders[key] = pretrained.get_params(deep=False).get("encoder")
            if not isinstance(encoders[key], FrozenEstimator):
                raise TypeError(
                    f"estimators[{entry.name!r}].pretrain must return an estimator whose encoder "
                    "is a FrozenEstimator: clone would discard the training of any other."
                )
            report((number, key))
        estimator = clone(entry.estimator).set_params(encoder=encoders[key])
        ready[entry.name] = entry._replace(estimator=estimator)
    return ready


def _fit_one(
    entry: _Entry,
    repeat: int,
    train: NDArray[Any],
    *,
    split: Split,
    classes: NDArray[Any],
    labels: NDArray[Any],
    scorers: dict[str, Scorer],
    extras: dict[str, Any],
    beat: Progress | None = None,
) -> tuple[str, int, int, dict[str, float], float]:
    """Fit a clone on the training rows, and score it on the test rows.

    Without any training row, it is fitted on all rows outside the test, without their labels.
    ``extras`` are values of all rows, for estimators whose ``fit`` takes a parameter of that name.
    ``beat`` is called with the progress of the fit.
    """
    try:
        model, test = clone(entry.estimator), split.test
        rows, known = train, labels[train]
        if not len(train):
            model.set_params(classes=classes.tolist())
            rows, known = split.pool, np.full(len(split.pool), None, dtype=object)
        params = {
            name: take_rows(values, rows)
            for name, values in extras.items()
            if values is not None and has_fit_parameter(model, name)
        }
        with reporting(beat):  # the curve itself reports its progress
            start = perf_counter()
            model.fit(take_rows(entry.X, rows), known, **params)
            seconds = perf_counter() - start
            if "catalog" in params:
                model = _with_catalog(model, take_rows(extras["catalog"], test))
            # a network predicts only once for all metrics
            model = _remember(model)
            scorer = check_scoring(model, scoring=scorers)
            scores = scorer(model, take_rows(entry.X, test), labels[test])
    except Exception as error:
        error.add_note(f"raised by {entry.name!r} with {len(train)} labels, repeat {repeat}")
        raise
    return entry.name, len(train), repeat, scores, seconds


def _with_catalog(model: Any, catalog: pd.DataFrame) -> Any:
    """Return a copy of a fitted model that predicts with a catalogue when called with X alone."""
    model = copy.copy(model)
    for name in ("predict", "predict_proba", "decision_function"):
        method = getattr(model, name, None)
        if method is not None and "catalog" in inspect.signature(method).parameters:
            # scorers also read the name of the method
            setattr(model, name, update_wrapper(partial(method, catalog=catalog), method))
    return model


def _remember(model: Any) -> Any:
    """Return a copy of a fitted model that keeps the probabilities of the last X, for `predict`."""
    if not hasattr(model, "predict_proba"):
        return model
    model = copy.copy(model)
    last: list[Any] = []  # X and its probabilities
    predict_proba = model.predict_proba

    def remembered(X: Any, **params: Any) -> Any:
        if not last or last[0] is not X:
            last[:] = [X, predict_proba(X, **params)]
        return last[1]

    model.predict_proba = update_wrapper(remembered, predict_proba)
    return model


def _tabulate(
    cells: list[Cell], results: Mapping[Cell, Scores], metrics: list[str], splits: Sequence[Split]
) -> pd.DataFrame:
    records = [
        (name, count, number, draw, metric, float(scores[metric]), seconds)
        for (number, name, count, repeat), (scores, seconds) in ((c, results[c]) for c in cells)
        # no label is drawn in any repeat: they have the same fit
        for draw in ([repeat] if count else range(len(splits[number].orders)))
        for metric in metrics
    ]
    return pd.DataFrame(records, columns=[*_RUN_COLUMNS, "score", "fit_seconds"])
