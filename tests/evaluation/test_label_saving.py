import numpy as np
import pandas as pd
import pytest

from skastro.evaluation.label_efficiency import LabelEfficiencyCurve
from skastro.evaluation.label_saving import label_saving
from tests.evaluation.test_label_efficiency import analytic_curve, logarithmic


def test_method_that_needs_four_times_fewer_labels_saves_four():
    curve = analytic_curve({"method": lambda n: logarithmic(4 * n), "base": logarithmic})
    table = label_saving(curve, "method", "base").set_index("n_labels")
    assert table.loc[[300, 1000], "saving"].to_numpy() == pytest.approx(4.0)
    assert table.loc[[300, 1000], "method_labels"].to_numpy() == pytest.approx([75, 250])
    assert table.loc[300, "baseline_score"] == pytest.approx(logarithmic(300))
    assert table["bound"].tolist() == [">=", ">=", "=", "="]
    assert table["saving"].iloc[:2].to_numpy() == pytest.approx([1, 100 / 30])
    assert table["low"].to_numpy() == pytest.approx(table["saving"])
    assert np.isinf(table["high"].iloc[:2]).all()
    assert table["high"].iloc[2:].to_numpy() == pytest.approx(4.0)


def test_score_that_the_method_never_reaches_gives_an_upper_bound():
    curve = analytic_curve({"method": lambda n: logarithmic(n / 4), "base": logarithmic})
    table = label_saving(curve, "method", "base").set_index("n_labels")
    assert table["bound"].tolist() == ["=", "=", "<=", "<="]
    assert table.loc[100, "saving"] == pytest.approx(0.25)
    assert table.loc[300, "saving"] == pytest.approx(0.3)
    assert table.loc[300, "low"] == 0.0


@pytest.mark.parametrize("function", [logarithmic, lambda n: 0.7 if n == 100 else 0.6])
def test_curve_saves_no_labels_compared_with_itself(function):
    curve = analytic_curve({"a": function})
    table = label_saving(curve, "a", "a")
    assert table["saving"].tolist() == [1.0] * 4
    assert table["bound"].tolist() == ["="] * 4


def test_estimators_may_differ_in_their_label_counts():
    base = analytic_curve({"base": logarithmic}).scores
    method = analytic_curve({"method": lambda n: logarithmic(4 * n)}, counts=[10, 1000]).scores
    curve = LabelEfficiencyCurve.from_scores(pd.concat([base, method]))
    table = label_saving(curve, "method", "base")
    assert table["n_labels"].tolist() == [30, 100, 300, 1000]
    assert table["saving"].iloc[1:].to_numpy() == pytest.approx(4.0)


def test_scores_without_labels_do_not_count():
    base = analytic_curve({"base": logarithmic}).scores
    method = analytic_curve({"method": lambda n: logarithmic(4 * n)}).scores
    zero = method[method["n_labels"] == 30].assign(n_labels=0)
    curve = LabelEfficiencyCurve.from_scores(pd.concat([base, zero, method]))
    expected = LabelEfficiencyCurve.from_scores(pd.concat([base, method]))
    for pair in (("method", "base"), ("base", "method")):
        pd.testing.assert_frame_equal(label_saving(curve, *pair), label_saving(expected, *pair))
    only = LabelEfficiencyCurve.from_scores(pd.concat([base, zero]))
    with pytest.raises(ValueError, match="'method' has no score with a label"):
        label_saving(only, "method", "base")


@pytest.mark.parametrize("n_splits", [1, 12])
def test_bootstrap_interval_covers_the_truth(n_splits):
    rng = np.random.default_rng(1)
    covered = []
    for _ in range(30):
        curve = analytic_curve(
            {"method": lambda n: logarithmic(4 * n), "base": logarithmic},
            n_repeats=12 // n_splits, n_splits=n_splits,
        )  # fmt: skip
        noisy = curve.scores["score"] + 0.01 * rng.normal(size=len(curve.scores))
        noisy_curve = LabelEfficiencyCurve.from_scores(curve.scores.assign(score=noisy))
        row = label_saving(noisy_curve, "method", "base", n_bootstrap=150).iloc[2]
        assert row["low"] <= row["saving"] <= row["high"]
        covered.append(row["low"] <= 4 <= row["high"])
    assert 0.8 <= np.mean(covered) < 1


def test_bootstrap_resamples_both_curves_together():
    curve = analytic_curve({"method": lambda n: logarithmic(4 * n), "base": logarithmic})
    shift = curve.scores["repeat"] * 0.02  # the same for both, since they share the labels
    table = label_saving(
        LabelEfficiencyCurve.from_scores(curve.scores.assign(score=curve.scores["score"] + shift)),
        "method", "base",
    )  # fmt: skip
    assert table.loc[2, ["low", "high"]].tolist() == pytest.approx([4, 4])


def test_single_run_has_no_bootstrap_interval():
    curve = analytic_curve({"a": logarithmic, "b": logarithmic}, n_repeats=1)
    assert label_saving(curve, "a", "b")[["low", "high"]].isna().to_numpy().all()


def test_runs_that_only_one_of_the_two_has_are_left_out():
    scores = analytic_curve({"a": logarithmic, "b": logarithmic}).scores.copy()
    scores["score"] += np.random.default_rng(0).normal(scale=0.01, size=len(scores))
    fewer = scores[(scores["estimator"] == "a") | (scores["repeat"] < 2)]
    both = scores[scores["repeat"] < 2]
    tables = [label_saving(LabelEfficiencyCurve.from_scores(t), "a", "b") for t in (fewer, both)]
    pd.testing.assert_frame_equal(*tables)


def test_saving_of_unknown_or_separate_runs_is_an_error():
    curve = analytic_curve({"a": logarithmic, "b": logarithmic})
    with pytest.raises(ValueError, match=r"'c' is not in the curve: choose from \['a', 'b'\]"):
        label_saving(curve, "c", "b")
    scores = curve.scores
    apart = scores[(scores["estimator"] == "a") == (scores["repeat"] < 1)]
    with pytest.raises(ValueError, match="no run of both 'a' and 'b'"):
        label_saving(LabelEfficiencyCurve.from_scores(apart), "a", "b")
    with pytest.raises(ValueError, match="lacks a score of 'a'"):
        label_saving(LabelEfficiencyCurve.from_scores(scores.iloc[1:]), "a", "b")
