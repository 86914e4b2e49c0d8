"""Orders of rows whose prefixes are label subsets."""

import numpy as np
from hypothesis import given, settings, strategies as st
from numpy.testing import assert_array_equal

from skastro.evaluation.splits import _stratified_order


@settings(max_examples=60, deadline=None)
@given(class_sizes=st.lists(st.integers(1, 60), min_size=2, max_size=8), seed=st.integers(0, 2**31))
def test_every_prefix_is_stratified_and_holds_all_classes(class_sizes, seed):
    codes = np.repeat(np.arange(len(class_sizes)), class_sizes)
    order = _stratified_order(codes, np.random.default_rng(seed))
    assert_array_equal(np.sort(order), np.arange(len(codes)))
    taken = np.cumsum(np.eye(len(class_sizes))[codes[order]], axis=0)
    assert (taken[len(class_sizes) - 1 :] >= 1).all()
    share = np.arange(1, len(codes) + 1)[:, None] * np.array(class_sizes) / len(codes)
    # the first rows of all classes come first, and move the others by one place per class at most
    assert np.abs(taken - share).max() < len(class_sizes)


def test_prefix_follows_the_class_shares():
    codes = np.repeat([0, 1, 2], [700, 200, 100])
    order = _stratified_order(codes, np.random.default_rng(0))
    assert np.bincount(codes[order[:100]]).tolist() == [70, 20, 10]
