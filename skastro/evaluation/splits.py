"""Rows to test on and nested subsets of labels to learn from, drawn alike for every estimator."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

_GROUP_DRAWS = 10


class Split(NamedTuple):
    """Rows held out, rows to learn from, and the order in which their labels are learned."""

    test: NDArray[np.intp]  # labelled rows, held out
    pool: NDArray[np.intp]  # labelled or not
    orders: list[NDArray[np.intp]]  # of the pool's labelled rows; a prefix is a label subset


def draw_splits(
    classes: NDArray[Any],
    codes: NDArray[Any],
    groups: NDArray[Any] | None,
    *,
    test_size: float,
    seed: int,
    shape: tuple[int, int],
) -> list[Split]:
    """Draw test rows, and on what they leave the chains of nested label subsets.

    Parameters
    ----------
    classes : array of shape (k,)
        For the error's sentence.
    codes : int array of shape (n,)
        Index into ``classes``; -1 is unlabelled.
    groups : int array of shape (n,) or None
        Codes of what stays on one side.
    test_size : float in (0, 1)
        Share of the labelled rows.
    seed : int
    shape : tuple (n_splits, n_repeats)
        More of either leaves the earlier ones as they are.

    Returns
    -------
    splits : list of Split

    Raises
    ------
    ValueError
        A class is too rare to be on both sides.
    """
    n_splits, n_repeats = shape
    splits = []
    for number in range(n_splits):
        # a stream for the test rows and for each chain: asking for more of them, or for
        # other label counts, then leaves the earlier ones as they are
        test_rng, *rngs = [np.random.default_rng([seed, number, i]) for i in range(n_repeats + 1)]
        away = _draw_test(codes, groups, test_size, test_rng)
        test, pool = np.flatnonzero(away & (codes >= 0)), np.flatnonzero(~away)
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
    """Mark the rows that leave the pool: the test rows and all else in their groups."""
    labelled = np.flatnonzero(codes >= 0)
    if groups is None:
        order = labelled[_stratified_order(codes[labelled], rng)]
        test = order[: int(np.ceil(test_size * len(order)))]
        return np.isin(np.arange(len(codes)), test)
    members = np.zeros((groups.max() + 1, codes.max() + 1))
    np.add.at(members, (groups[labelled], codes[labelled]), 1)
    share = members / members.sum(axis=0)
    candidates = np.flatnonzero(members.any(axis=1))
    best, chosen = np.inf, candidates
    for _ in range(_GROUP_DRAWS):
        drawn = rng.permutation(candidates)
        gap = np.abs(share[drawn].cumsum(axis=0) - test_size).max(axis=1)
        if gap.min() < best:
            best, chosen = gap.min(), drawn[: gap.argmin() + 1]
    return np.isin(groups, chosen)


def check_pool(counts: list[int], splits: list[Split], codes: NDArray[Any]) -> None:
    """Refuse label counts beyond the labelled rows that a split leaves to learn from."""
    for number, split in enumerate(splits):
        n_labelled = int((codes[split.pool] >= 0).sum())
        if counts[-1] > n_labelled:
            raise ValueError(
                f"label_counts asks for {counts[-1]} labels, but split {number} leaves "
                f"{n_labelled} labelled rows to learn from: ask for fewer, or lower test_size."
            )
