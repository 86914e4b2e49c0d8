"""The kernel probe: exact leave-one-out, the purpose of each kernel, and missing values."""

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.base import clone
from sklearn.metrics import log_loss

from skastro import KernelProbe
from skastro.probes.kernels import KERNEL_CONSTANT


def make_rings(n=200, seed=0):
    """Return a disc within a ring, which no straight line separates."""
    rng = np.random.default_rng(seed)
    ring = np.arange(n) % 2
    angle = rng.uniform(0, 2 * np.pi, n)
    radius = 1 + 1.5 * ring + rng.normal(scale=0.4, size=n)
    return radius[:, None] * np.column_stack([np.cos(angle), np.sin(angle)]), ring


def make_clouds(n=60, columns=200, gap=0.35, seed=0):
    """Return two clouds in many dimensions, a little apart in each: a plane separates them."""
    rng = np.random.default_rng(seed)
    labels = np.arange(n) % 2
    return rng.normal(size=(n, columns)) + gap * (labels[:, None] - 0.5), labels


def test_left_out_rows_are_predicted_as_by_a_fit_without_them():
    """The closed form is exact, if strength, scales and centres stay the same."""
    X, y = make_rings(40)
    probe = KernelProbe().fit(X, y)
    outputs = np.log(probe.loo_probabilities_) / probe.sharpness_
    differences = outputs[:, 1] - outputs[:, 0]
    kernel = probe.groups_[0].kernel(X, X) + KERNEL_CONSTANT
    targets = np.eye(2)[y] - 0.5
    for row in (0, 7, 39):
        others = np.setdiff1d(np.arange(40), row)
        inside = kernel[np.ix_(others, others)] + probe.alpha_ * np.eye(39)
        expected = kernel[row, others] @ np.linalg.solve(inside, targets[others])
        assert_allclose(differences[row], expected[1] - expected[0], rtol=1e-6)


def test_curved_borders_are_learned_from_the_properties():
    X, y = make_rings()
    test, truth = make_rings(1000, seed=1)
    curved = KernelProbe().fit(X, y).score(test, truth)
    noise = np.random.default_rng(0).normal(size=(len(X), 3))
    straight = KernelProbe(n_properties=3).fit(np.hstack([X, noise]), y)
    flat = straight.score(np.hstack([test, np.zeros((len(test), 3))]), truth)
    assert curved > 0.9
    assert flat < 0.7


def test_many_weak_columns_of_the_embedding_add_up():
    X, y = make_clouds()
    test, truth = make_clouds(1000, seed=1)
    assert KernelProbe().fit(X, y).score(test, truth) > 0.9


def test_properties_may_have_any_unit_and_gaps():
    X, y = make_rings()
    embedding = np.random.default_rng(0).normal(size=(len(X), 4))
    stretched = X * [1e-6, 1e6] + [5, -3]
    plain = KernelProbe(2).fit(np.hstack([embedding, X]), y)
    other = KernelProbe(2).fit(np.hstack([embedding, stretched]), y)
    assert_allclose(
        plain.predict_proba(np.hstack([embedding, X])),
        other.predict_proba(np.hstack([embedding, stretched])),
        rtol=1e-5,
    )
    gaps = X.copy()
    gaps[::3, 0] = np.nan
    with_gaps = KernelProbe(2).fit(np.hstack([embedding, gaps]), y)
    mean = np.array([np.nanmean(gaps[:, 0]), 1.0])
    rows = np.hstack([embedding[:2], [[np.nan, 1.0], mean]])
    rows[1, :4] = rows[0, :4]
    first, second = with_gaps.predict_proba(rows)
    assert_allclose(first, second)


def test_constant_and_empty_properties_make_no_difference():
    X, y = make_clouds(columns=20, gap=1.0)
    useless = np.column_stack([np.full(len(X), 7.0), np.full(len(X), np.nan)])
    probe = KernelProbe(2).fit(np.hstack([X, useless]), y)
    other = np.hstack([X, useless + 1])
    assert_allclose(probe.predict_proba(np.hstack([X, useless])), probe.predict_proba(other))


def test_probabilities_are_calibrated():
    X, y = make_rings(400)
    test, truth = make_rings(4000, seed=1)
    probe = KernelProbe().fit(X, y)
    probabilities = probe.predict_proba(test)
    assert abs(log_loss(truth, probabilities) - probe.loo_loss_) < 0.06
    sure = probabilities.max(axis=1)
    for low, high in ((0.6, 0.8), (0.8, 0.95)):
        inside = (sure > low) & (sure < high)
        right = (probabilities.argmax(axis=1) == truth)[inside].mean()
        assert abs(right - sure[inside].mean()) < 0.1


def test_probabilities_are_not_certain_after_a_few_correct_labels():
    X, y = make_clouds(n=20, columns=10, gap=8.0)
    probabilities = KernelProbe().fit(X, y).predict_proba(X)
    assert 0.85 < probabilities.max() < 0.99


def test_classes_count_equally_unless_they_have_weights():
    X, y = make_rings(300)
    rows = np.r_[np.flatnonzero(y == 0), np.flatnonzero(y == 1)[:12]]
    balanced = KernelProbe().fit(X[rows], y[rows])
    plain = clone(balanced).set_params(class_weight=None).fit(X[rows], y[rows])
    weighted = clone(balanced).set_params(class_weight={0: 1.0, 1: 12.5}).fit(X[rows], y[rows])
    test, truth = make_rings(1000, seed=1)
    recall = [(p.predict(test)[truth == 1] == 1).mean() for p in (balanced, plain)]
    assert recall[0] > recall[1] + 0.05
    assert_allclose(balanced.predict_proba(test), weighted.predict_proba(test), rtol=1e-6)


def test_a_few_centres_approximate_the_kernel_of_many_rows():
    X, y = make_rings(600)
    test, truth = make_rings(1000, seed=1)
    few = KernelProbe(max_centers=60).fit(X, y)
    assert len(few.centers_) == 60
    assert len(few.loo_probabilities_) == 600
    assert few.score(test, truth) > KernelProbe().fit(X, y).score(test, truth) - 0.02
    again = KernelProbe(max_centers=60).fit(X, y)
    assert_array_equal(few.predict_proba(test), again.predict_proba(test))
    other = KernelProbe(max_centers=60, random_state=1).fit(X, y)
    assert set(other.centers_) != set(few.centers_)


@pytest.mark.parametrize("n_properties", [-1, 3, 1.5])
def test_n_properties_must_be_a_number_of_columns(n_properties):
    with pytest.raises(ValueError, match=r"must be a number of columns: X has 2"):
        KernelProbe(n_properties).fit(*make_rings(20))


def test_other_bad_input_is_refused():
    X, y = make_rings(20)
    with pytest.raises(ValueError, match="y holds one class only"):
        KernelProbe().fit(X, np.zeros(20))
    with pytest.raises(ValueError, match="max_centers=1 must be at least 2"):
        KernelProbe(max_centers=1).fit(X, y)
    X[3, 0] = np.nan
    with pytest.raises(ValueError, match="X holds NaN in the embedding of row 3"):
        KernelProbe(1).fit(X, y)


def test_another_representation_counts_where_it_tells_the_classes_apart():
    X, y = make_rings(100)
    test, truth = make_rings(1000, seed=1)
    noise = np.random.default_rng(0).normal(size=(1100, 5))
    helpful = KernelProbe(others=[(0, 2)]).fit(np.hstack([noise[:100], X]), y)
    assert_allclose(helpful.shares_.sum(), 1)
    assert helpful.shares_[1] > 0.99
    assert helpful.score(np.hstack([noise[100:], test]), truth) > 0.85
    useless = KernelProbe(2, others=[(5, 0)]).fit(np.hstack([X, noise[:100]]), y)
    assert useless.shares_[0] > 0.5
    alone = KernelProbe(2).fit(X, y).score(test, truth)
    assert useless.score(np.hstack([test, noise[100:]]), truth) > alone - 0.01


def test_the_likeliest_of_several_representations_is_found():
    X, y = make_rings(100)
    noise = np.random.default_rng(0).normal(size=(100, 9))
    columns = np.hstack([noise, X])
    probe = KernelProbe(1, others=[(2, 2), (2, 0), (0, 2)]).fit(columns, y)
    assert probe.shares_.argmax() == 3
    many = KernelProbe(1, others=[(2, 2), (2, 0), (0, 2)], max_centers=50).fit(columns, y)
    assert many.shares_.argmax() == 3
    assert_allclose(many.predict_proba(columns).sum(axis=1), 1)


def test_odds_decide_where_labels_say_nothing():
    X, y = np.random.default_rng(0).normal(size=(40, 4)), np.arange(40) % 2
    even, likely, unlikely = (
        KernelProbe(others=[(2, 0, odds)]).fit(X, y).shares_[1] for odds in (1, 1000, 0.001)
    )
    assert unlikely == 0 < even < 1
    assert likely > 0.98


def test_columns_that_hold_the_classes_count_by_their_evidence():
    X, y = make_clouds(30, columns=50, gap=0.1)
    test, truth = make_clouds(1000, columns=50, gap=0.1, seed=1)

    def add(X, y, wrong):
        guess = np.where(np.random.default_rng(2).uniform(size=len(y)) < wrong, 1 - y, y)
        return np.hstack([X, 0.1 + 0.8 * np.eye(2)[guess]])

    alone = KernelProbe(2, others=[(0, 2)]).fit(add(X, y, 0.1), y)
    probe = KernelProbe(class_columns=[50, 51])
    knowing = clone(probe).fit(add(X, y, 0.1), y)
    guessing = clone(probe).fit(add(X, y, 0.5), y)
    assert alone.class_powers_.tolist() == [0, 0]
    assert guessing.class_powers_[0] < 0.1 < knowing.class_powers_[0]
    assert knowing.score(add(test, truth, 0.1), truth) > 0.8


@pytest.mark.parametrize(
    ("params", "words"),
    [
        ({"others": [(2, 1)]}, r"n_properties=0 and others=\[\(2, 1\)\] must be a number of"),
        ({"others": [(1.5, 0)]}, "must be a number of columns"),
        ({"class_columns": [0]}, "class_columns has 1 columns, but y has 2 classes"),
    ],
)
def test_representations_and_class_columns_must_fit(params, words):
    with pytest.raises(ValueError, match=words):
        KernelProbe(**params).fit(*make_rings(20))
