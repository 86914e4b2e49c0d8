"""Compare sets of properties as targets of the pretraining."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from sklearn.base import clone

from skastro.catalogs.columns import match_columns
from skastro.estimators.encoder import PropertyPretrainedEncoder
from skastro.evaluation.label_efficiency import (
    LabelEfficiencyCurve,
    describe_html,
    describe_means,
    label_efficiency_curve,
)
from skastro.evaluation.splits import check_counts, draw_splits
from skastro.probes.linear_probe import LinearProbe
from skastro.stamps.containers import to_array
from skastro.utils.scoring import Scoring, check_scorers
from skastro.utils.validation import (
    check_labels,
    check_properties,
    check_property_errors,
    draw_seed,
    take_rows,
)

MEASURED = "measured"  # in a set: the properties that the encoder measures from the pixels


@dataclass(frozen=True, repr=False, eq=False)
class PropertyAblation:
    """Test scores after pretraining on different sets of properties.

    Made by `property_ablation`.

    Attributes
    ----------
    curve : LabelEfficiencyCurve
        Scores of a `LinearProbe` on each representation; its estimators are the sets, in order.
    sets : dict of str to list of str
        The columns of each set; ``"measured"`` stands for properties measured from the pixels.
    reference : str
        The set with which the others are compared.

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
        """Scores of ``curve``, one row for each probe and metric, with a column ``set``."""
        return self.curve.scores.rename(columns={"estimator": "set"})

    def summary(self, metric: str | None = None, *, confidence: float = 0.95) -> pd.DataFrame:
        """Return the mean score of each set and its mean difference from the reference.

        Parameters
        ----------
        metric : str, default=None
            Metric to summarise; None summarises all.
        confidence : float in (0, 1), default=0.95
            Probability content of the intervals.

        Returns
        -------
        summary : DataFrame
            Columns ``set``, ``n_labels``, ``metric``, ``mean``, ``low``, ``high``, ``n_runs``,
            ``difference``, ``difference_low`` and ``difference_high``. Differences are paired:
            set and reference learn from the same labels and are scored on the same rows, so
            their intervals are narrower than those of the means. `LabelEfficiencyCurve.summary`
            explains what intervals cover, and when they are NaN.

        Raises
        ------
        ValueError
            The metric was not scored.
        """
        summary = self.curve.summary(metric, confidence=confidence)
        paired = self.curve.difference_to(self.reference).summary(metric, confidence=confidence)
        summary["difference"] = paired["mean"]
        summary[["difference_low", "difference_high"]] = paired[["low", "high"]]
        return summary.rename(columns={"estimator": "set"})

    def __repr__(self) -> str:
        means = describe_means(self.curve)
        return f"PropertyAblation: {len(self.sets)} sets, compared with {self.reference!r}{means}"

    def _repr_html_(self) -> str:
        return describe_html(self.curve, repr(self))


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
    """Pretrain on one set of properties after another, and compare the scores of a probe.

    For each set the encoder is pretrained on all rows but the test rows, labelled or not, with
    these properties as targets and from the same weights; a `LinearProbe` on the frozen
    embeddings then learns from the same nested label subsets.

    Parameters
    ----------
    encoder : PropertyPretrainedEncoder
        Cloned for each set, which replaces its ``targets``.
    X : array-like of shape (n, bands, height, width) or (n, features)
    y : array-like of shape (n,)
        Class labels, with unlabelled rows marked as in `label_efficiency_curve`.
    properties : array-like, DataFrame or astropy Table of shape (n, p)
        All columns from which the sets choose; NaN = not measured.
    property_errors : array-like of shape (n, p), default=None
        1-sigma errors of ``properties``.
    sets : dict of str to str or sequence of str
        For each name of a set, columns of ``properties`` or patterns such as ``"mag_*"``.
        ``"measured"`` stands for the properties that the encoder measures from the pixels. An
        empty sequence leaves the network untrained.
    label_counts : sequence of int
        As in `label_efficiency_curve`, like the parameters without a description below.
    reference : str, default=None
        The set to compare with; None chooses the set with the most entries.
    n_repeats : int, default=5
    n_splits : int, default=1
    test_size : float in (0, 1), default=0.3
    groups : array-like of shape (n,), default=None
    scoring : str, callable, list of str or dict, default="balanced_accuracy"
    random_state : int, RandomState or None, default=None
        Seed of the splits and subsets, and of the networks if the encoder has none.
    n_jobs : int, default=None
        Number of probes fitted at the same time; pretrainings run one after another.
    progress : callable, default=None
        Called as ``progress(done, total)`` after each pretraining and each probe.

    Returns
    -------
    ablation : PropertyAblation

    Raises
    ------
    ValueError, TypeError
        ``encoder`` has another type, a set names an unknown column, ``reference`` is not a
        set, or `label_efficiency_curve` refuses an argument.

    See Also
    --------
    label_efficiency_curve : With the same seed, scores other methods on the same label subsets.

    Notes
    -----
    All sets start from the same initial weights, and each set is pretrained once on a split.
    The intervals cover the randomness of the pretraining only with several splits.

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
    # check all arguments before anything is pretrained
    if not isinstance(encoder, PropertyPretrainedEncoder):
        raise TypeError(
            f"encoder is a {type(encoder).__name__}: pass a PropertyPretrainedEncoder, which is "
            "pretrained anew on every set of properties."
        )
    _, codes = check_labels(y)
    if (n := (X := to_array(X)).shape[0]) != len(codes):
        raise ValueError(f"X has {n} stamps, but y has {len(codes)} labels: pass one for each.")
    table = check_properties(properties, len(codes))
    errors = None if property_errors is None else check_property_errors(property_errors, table)
    columns = _choose_columns(sets, list(table.columns))
    if reference is None:
        reference = max(columns, key=lambda name: len(columns[name]))
    if reference not in columns:
        raise ValueError(f"reference={reference!r} is not a set: choose from {list(columns)}.")
    scorers = check_scorers(scoring)
    # all sets start from the same weights, and differ by their targets alone
    seed = draw_seed(random_state if encoder.random_state is None else encoder.random_state)
    encoder = clone(encoder).set_params(random_state=seed)
    splits = draw_splits(
        y,
        n_repeats=n_repeats,
        n_splits=n_splits,
        test_size=test_size,
        groups=groups,
        random_state=random_state,
    )
    counts = check_counts(label_counts, codes, splits)

    # on each split: pretrain on every set, then run the probes on the embeddings
    total = n_splits * len(columns) * (1 + len(counts) * n_repeats)
    report, done = progress or (lambda _done, _total: None), itertools.count(1)
    labelled, tables = np.flatnonzero(codes >= 0), []
    for number, split in enumerate(splits):
        probes = {}
        for name, chosen in columns.items():
            model = _pretrain(encoder, X, split.pool, chosen, table, errors)
            embeddings = np.asarray(model.transform(take_rows(X, labelled)))
            # the zeros of unlabelled rows take no memory, as nothing is written there
            values = np.zeros((n, embeddings.shape[1]), dtype=embeddings.dtype)
            values[labelled] = embeddings
            probes[name] = LinearProbe(), values
            report(next(done), total)
        curve = label_efficiency_curve(
            probes,
            X,
            y,
            label_counts=counts,
            groups=groups,
            scoring=scorers,
            n_jobs=n_jobs,
            progress=lambda _done, _total: report(next(done), total),
            splits=[split],
        )
        tables.append(curve.scores.assign(split=number))
    # put the splits of each set and label count together
    parts = pd.concat(tables).groupby(["estimator", "n_labels"], sort=False)
    scores = pd.concat([part for _, part in parts])
    return PropertyAblation(LabelEfficiencyCurve.from_scores(scores), columns, reference)


def _pretrain(
    encoder: PropertyPretrainedEncoder,
    X: Any,
    pool: NDArray[np.intp],
    columns: list[str],
    table: pd.DataFrame,
    errors: NDArray[np.float64] | None,
) -> PropertyPretrainedEncoder:
    """Fit a clone of the encoder on one set of properties; an empty set leaves it untrained."""
    encoder, stamps = clone(encoder), take_rows(X, pool)
    if not columns:
        return encoder.set_params(targets="measured", max_epochs=0).fit(stamps)
    if columns == [MEASURED]:
        return encoder.set_params(targets="measured").fit(stamps)
    encoder.set_params(targets="catalog+measured" if MEASURED in columns else "catalog")
    places = table.columns.get_indexer([name for name in columns if name != MEASURED])
    return encoder.fit(
        stamps,
        properties=table.iloc[pool, places],
        property_errors=None if errors is None else errors[np.ix_(pool, places)],
    )


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
    # find the columns of the catalogue by their names or patterns
    columns = {}
    for name, wanted in sets.items():
        patterns = [wanted] if isinstance(wanted, str) else list(wanted)
        of_catalog = [pattern for pattern in patterns if pattern != MEASURED]
        chosen = match_columns(names, of_catalog, name=f"sets[{name!r}]", table="properties")
        in_order = [column for column in names if column in chosen]
        columns[str(name)] = in_order + [MEASURED] * (MEASURED in patterns)
    return columns
