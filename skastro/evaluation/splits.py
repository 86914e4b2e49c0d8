"""Draw test rows, and nested subsets of labelled rows to learn from."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from sklearn.utils import check_random_state

from skastro.utils.validation import check_groups, check_labels, is_continuous

_N_GROUP_DRAWS = 10
_N_STRATA = 5  # of measurements, which are divided like classes


class Split(NamedTuple):
    """Test rows, rows to learn from, and the orders in which their labels are used."""

    test: NDArray[np.intp]  # labelled rows to test on
    pool: NDArray[np.intp]  # rows to learn from, labelled or not
    orders: list[NDArray[np.intp]]  # of the pool's labelled rows; each prefix is a label subset


def draw_splits(
    y: ArrayLike,
    *,
    n_repeats: int = 5,
    n_splits: int = 1,
    test_size: float = 0.3,
    groups: ArrayLike | None = None,
    random_state: int | np.random.RandomState | None = None,
) -> list[Split]:
    """Draw test rows, and from the other rows nested label subsets.

    `label_efficiency_curve` describes the parameters, and draws the same splits from the same
    arguments. With more splits or repeats, the first ones stay the same. A class that is too
    rare to be on both sides is an error.

    Examples
    --------
    >>> split = draw_splits(["star", "galaxy"] * 5, n_repeats=2, random_state=0)[0]
    >>> len(split.test), len(split.pool), len(split.orders)
    (3, 7, 2)
    """
    for name, value in (("n_repeats", n_repeats), ("n_splits", n_splits)):
        if value < 1:
            raise ValueError(f"{name}={value} leaves nothing to run: pass at least 1.")
    if not 0 < test_size < 1:
        raise ValueError(f"test_size={test_size} is not a share: pass a number between 0 and 1.")
    classes, codes, _ = check_strata(y)
    group_codes = number_groups(groups, len(codes))
    seed = check_random_state(random_state).randint(np.iinfo(np.int32).max)
    splits = []
    for number in range(n_splits):
        # one random stream for the test rows and one for each order: with more splits, repeats
        # or label counts, the first ones stay the same
        test_rng, *rngs = [np.random.default_rng([seed, number, i]) for i in range(n_repeats + 1)]
        outside = _draw_test(codes, group_codes, test_size, test_rng)
        test, pool = np.flatnonzero(outside & (codes >= 0)), np.flatnonzero(~outside)
        labelled = pool[codes[pool] >= 0]
        for side, rows in (("test", test), ("training", labelled)):
            if absent := set(range(len(classes))) - set(codes[rows].tolist()):
                raise ValueError(
                    f"y has class {classes[min(absent)]} too rarely: no {side} row of split "
                    f"{number} holds it; label more such rows (in more groups) or leave it out."
                )
        orders = [labelled[_stratified_order(codes[labelled], rng)] for rng in rngs]
        splits.append(Split(test, pool, orders))
    return splits


def check_strata(
    y: Any,
) -> tuple[NDArray[Any], NDArray[np.int64], NDArray[np.float64] | None]:
    """Return the classes in y and their codes, as `check_labels` does, and measurements in y.

    Measurements are divided into five classes of as many rows; for labels they are None.

    Examples
    --------
    >>> classes, codes, values = check_strata([0.1, 0.2, 0.3, 0.4, float("nan"), 0.5])
    >>> str(classes[0]), codes.tolist()
    ('values from 0.1', [0, 1, 2, 3, -1, 4])
    """
    if not is_continuous(y):
        return *check_labels(y), None
    values = np.ma.filled(np.ma.asarray(y, dtype=np.float64), np.nan)
    cells, edges = pd.qcut(values, _N_STRATA, labels=False, retbins=True, duplicates="drop")
    codes = np.nan_to_num(cells, nan=-1).astype(np.int64)
    return np.array([f"values from {edge:.4g}" for edge in edges[:-1]]), codes, values


def number_groups(groups: ArrayLike | None, n: int) -> NDArray[np.intp] | None:
    """Check groups, and number them in the order in which they appear."""
    codes = check_groups(groups, n, rows_of="y")
    return None if codes is None else pd.factorize(codes)[0]


def _stratified_order(codes: NDArray[Any], rng: np.random.Generator) -> NDArray[np.intp]:
    """Order rows so that every prefix is stratified and holds all classes it has room for."""
    position = np.empty(len(codes))
    for code in np.unique(codes):
        members = rng.permutation(np.flatnonzero(codes == code))
        position[members] = (np.arange(len(members)) + 0.5) / len(members)
        position[members[0]] = -1.0
    return np.lexsort((rng.random(len(codes)), position))


def _draw_test(
    codes: NDArray[Any], groups: NDArray[Any] | None, test_size: float, rng: np.random.Generator
) -> NDArray[np.bool_]:
    """Mark the rows outside the pool: the test rows and all other rows of their groups."""
    labelled = np.flatnonzero(codes >= 0)
    if groups is None:
        order = labelled[_stratified_order(codes[labelled], rng)]
        test = order[: int(np.ceil(test_size * len(order)))]
        return np.isin(np.arange(len(codes)), test)
    # the share of each class that lies in each group
    members = np.zeros((groups.max() + 1, codes.max() + 1))
    np.add.at(members, (groups[labelled], codes[labelled]), 1)
    share = members / members.sum(axis=0)
    candidates = np.flatnonzero(members.any(axis=1))
    # of several random orders of the groups, take the prefix nearest to test_size in each class
    smallest_gap, chosen = np.inf, candidates
    for _ in range(_N_GROUP_DRAWS):
        drawn = rng.permutation(candidates)
        gap = np.abs(share[drawn].cumsum(axis=0) - test_size).max(axis=1)
        if gap.min() < smallest_gap:
            smallest_gap, chosen = gap.min(), drawn[: gap.argmin() + 1]
    return np.isin(groups, chosen)


def check_counts(
    label_counts: Sequence[int], codes: NDArray[Any], splits: Sequence[Split]
) -> list[int]:
    """Return the sorted label counts; refuse counts that some split cannot provide."""
    n_classes = int(codes.max()) + 1
    if n_classes < 2:
        raise ValueError("y holds one class only: label rows of at least two classes.")
    try:
        counts = sorted({operator.index(count) for count in label_counts})
    except TypeError:
        counts = []
    if not counts:
        raise ValueError(
            f"label_counts={label_counts!r} must be whole numbers, such as [30, 100, 300]."
        )
    too_few = [count for count in counts if count != 0 and count < n_classes]
    if too_few:
        raise ValueError(
            f"label_counts asks for {too_few[0]} labels of {n_classes} classes: "
            f"ask for {n_classes} at least, one of each class, or for 0."
        )
    for number, split in enumerate(splits):
        n_labelled = len(split.orders[0])
        if counts[-1] > n_labelled:
            raise ValueError(
                f"label_counts asks for {counts[-1]} labels, but split {number} leaves "
                f"{n_labelled} labelled rows to learn from: ask for fewer, or lower test_size."
            )
    return counts
