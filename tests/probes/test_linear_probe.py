"""The linear probe, and how it chooses its regularisation."""

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from skastro import LinearProbe


def make_rows(n=120, columns=40, useful=40, gap=0.5, seed=0):
    """Return two classes, separated by a gap in some columns; the others are noise."""
    rng = np.random.default_rng(seed)
    labels = np.arange(n) % 2
    rows = rng.normal(size=(n, columns))
    rows[:, :useful] += gap * (labels[:, None] - 0.5)
    return rows, np.where(labels, "galaxy", "star")


def test_it_is_a_balanced_logistic_regression():
    rows, labels = make_rows()
    probe = LinearProbe().fit(rows, labels)
    plain = LogisticRegression(C=probe.C_, class_weight="balanced", max_iter=2000)
    plain.fit(rows, labels)
    np.testing.assert_array_equal(probe.predict(rows), plain.predict(rows))
    np.testing.assert_allclose(probe.predict_proba(rows), plain.predict_proba(rows))
    np.testing.assert_allclose(probe.decision_function(rows), plain.decision_function(rows))
    np.testing.assert_array_equal(probe.coef_, plain.coef_)
    np.testing.assert_array_equal(probe.intercept_, plain.intercept_)
    assert probe.cv_scores_[probe.C_] == max(probe.cv_scores_.values())


def test_weak_signals_in_many_columns_need_more_regularisation():
    weak = LinearProbe().fit(*make_rows(n=40, columns=200, useful=200, gap=0.3))
    strong = LinearProbe().fit(*make_rows(n=400, columns=20, useful=1, gap=3.0))
    assert weak.C_ < strong.C_


def test_the_chosen_strength_is_nearly_the_best_on_unseen_rows():
    few, labels = make_rows(n=120, columns=100, useful=10, gap=1.0)
    test, truth = make_rows(n=2000, columns=100, useful=10, gap=1.0, seed=1)
    chosen = LinearProbe().fit(few, labels)
    scores = [LinearProbe(C).fit(few, labels).score(test, truth) for C in chosen.cv_scores_]
    assert chosen.score(test, truth) > max(scores) - 0.03
    assert max(scores) - min(scores) > 0.03  # else any C would do


def test_nothing_is_compared_if_a_class_has_one_row():
    rows, _ = make_rows(n=9)
    probe = LinearProbe().fit(rows, ["rare"] + ["star"] * 8)
    assert (probe.C_, probe.cv_scores_) == (0.03, {})


def test_nothing_is_compared_if_a_class_has_one_group():
    rows, labels = make_rows(n=40)
    groups = np.where(labels == "star", 0, np.arange(40))
    assert LinearProbe().fit(rows, labels, groups=groups).cv_scores_ == {}


def test_groups_stay_together_in_the_cross_validation():
    """Copies of a row on both sides of a fold would favour the weakest regularisation."""
    rng = np.random.default_rng(0)
    rows = np.repeat(rng.normal(size=(30, 60)), 6, axis=0)
    labels = np.repeat(rng.integers(0, 2, 30), 6)
    groups = np.repeat(np.arange(30), 6)
    grouped = LinearProbe().fit(rows, labels, groups=groups).cv_scores_
    split = LinearProbe().fit(rows, labels).cv_scores_
    assert max(split.values()) > 0.95
    assert max(grouped.values()) < 0.75


def test_the_folds_depend_on_the_seed_only():
    rows, labels = make_rows(n=30)
    scores = [LinearProbe(random_state=seed).fit(rows, labels).cv_scores_ for seed in (0, 0, 1)]
    assert scores[0] == scores[1] != scores[2]


@pytest.mark.parametrize("C", [0, -1.0, "best", None])
def test_bad_strengths_are_refused(C):
    with pytest.raises(ValueError, match="must be positive, or 'auto'"):
        LinearProbe(C).fit(*make_rows(n=10))


def test_each_row_needs_a_group():
    with pytest.raises(ValueError, match=r"groups has shape \(9,\), but X has 10 rows: pass one"):
        LinearProbe().fit(*make_rows(n=10), groups=range(9))
