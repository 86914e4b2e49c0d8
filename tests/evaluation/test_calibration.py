import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy.stats import binomtest
from sklearn.metrics import balanced_accuracy_score

from skastro import (
    abstain,
    accuracy_by_magnitude,
    expected_calibration_error,
    reliability_curve,
    risk_coverage,
)
from skastro.evaluation.calibration import equal_widths, top_labels


def draw_calibrated(n=20_000, sharpen=1.0, seed=0):
    """Draw labels from probabilities of three classes, and return them with sharpened ones."""
    rng = np.random.default_rng(seed)
    truth = rng.dirichlet([0.6, 0.6, 0.6], size=n)
    y = (rng.random((n, 1)) > truth.cumsum(axis=1)).sum(axis=1)
    sharpened = truth**sharpen
    return y, sharpened / sharpened.sum(axis=1, keepdims=True)


def test_error_is_small_when_probabilities_are_true_and_large_when_sharpened():
    assert expected_calibration_error(*draw_calibrated()) < 0.015
    assert expected_calibration_error(*draw_calibrated(sharpen=4.0)) > 0.1


def test_error_is_the_weighted_gap_of_the_bins():
    y = np.array([0, 0, 1, 1, 0, 0])
    sure = np.array([0.6, 0.6, 0.6, 0.6, 0.9, 0.9])
    probabilities = np.column_stack([sure, 1 - sure])
    # two of the four at 0.6 are right, and both at 0.9
    expected = (4 * 0.1 + 2 * 0.1) / 6
    assert_allclose(expected_calibration_error(y, probabilities, n_bins=2), expected)
    assert_allclose(expected_calibration_error(y, probabilities, n_bins=1), abs(4 / 6 - 0.7))


def test_bins_hold_equal_numbers_and_keep_ties_together():
    y, probabilities = draw_calibrated(1000)
    assert reliability_curve(y, probabilities, n_bins=5)["n"].tolist() == [200] * 5
    same = np.tile([0.7, 0.2, 0.1], (1000, 1))
    table = reliability_curve(y, same, n_bins=5)
    assert table["n"].tolist() == [1000]
    assert_allclose(table["accuracy"], (y == 0).mean())


def test_error_does_not_depend_on_the_order_of_the_rows():
    y, probabilities = draw_calibrated(500)
    probabilities = np.round(probabilities, 1)
    probabilities[:, 2] = 1 - probabilities[:, :2].sum(axis=1)
    probabilities = np.abs(probabilities)
    mixed = np.random.default_rng(1).permutation(500)
    assert_allclose(
        expected_calibration_error(y, probabilities),
        expected_calibration_error(y[mixed], probabilities[mixed]),
    )


def test_intervals_of_the_accuracy_are_those_of_wilson():
    y, probabilities = draw_calibrated(300)
    row = reliability_curve(y, probabilities, n_bins=3).iloc[0]
    exact = binomtest(round(row["accuracy"] * row["n"]), int(row["n"])).proportion_ci(
        method="wilson"
    )
    assert_allclose([row["low"], row["high"]], [exact.low, exact.high])


def test_unlabelled_rows_are_left_out_and_column_names_are_classes():
    probabilities = pd.DataFrame({"star": [0.9, 0.8, 0.3], "galaxy": [0.1, 0.2, 0.7]})
    sure, right = top_labels(["star", "", "star"], probabilities)
    assert_allclose(sure, [0.9, 0.7])
    assert_array_equal(right, [True, False])
    _, swapped = top_labels(["star", "star"], [[0.1, 0.9], [0.2, 0.8]], ["galaxy", "star"])
    assert swapped.all()


def test_abstaining_raises_the_accuracy_of_the_other_predictions():
    y, probabilities = draw_calibrated(5000)
    table = risk_coverage(y, probabilities)
    assert (np.diff(table["threshold"]) < 0).all()
    assert table["coverage"].iloc[-1] == 1
    assert_allclose(table["accuracy"].iloc[-1], (probabilities.argmax(axis=1) == y).mean())
    half = table.iloc[np.searchsorted(table["coverage"], 0.5)]
    is_predicted = probabilities.max(axis=1) >= half["threshold"]
    assert_allclose(is_predicted.mean(), half["coverage"])
    assert_allclose((probabilities.argmax(axis=1) == y)[is_predicted].mean(), half["accuracy"])
    assert half["accuracy"] > table["accuracy"].iloc[-1] + 0.1


@pytest.mark.parametrize(
    ("classes", "expected"),
    [
        (["a", "b"], ["", "b"]),
        (np.array(["a", "b"], dtype=object), ["", "b"]),
        ([0, 1], [-1, 1]),
        (np.array([3, 7], dtype=np.uint8), [-1, 7]),
        ([False, True], ["", True]),
    ],
)
def test_abstentions_are_marked_like_unlabelled_rows(classes, expected):
    predicted = abstain([[0.4, 0.6], [0.1, 0.9]], classes, 0.8)
    assert predicted.tolist() == expected
    everything = abstain([[0.4, 0.6], [0.1, 0.9]], classes, threshold=0.6)
    assert everything.tolist() == [np.asarray(classes)[1]] * 2


def test_abstentions_of_float_classes_are_nan():
    assert np.isnan(abstain([[0.4, 0.6]], [0.0, 1.0], threshold=0.8)).all()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: expected_calibration_error([0, 1], [[0.5, 0.5]]), "1 rows, but y_true has 2"),
        (lambda: expected_calibration_error([0, 1], [0.5, 0.5]), "shape .2,., but there are 2"),
        (lambda: expected_calibration_error([0, 1], [[2, 1], [0, 1]]), "row 0 do not sum to 1"),
        (
            lambda: expected_calibration_error([0, 1], [[0.5, 0.5]] * 2, classes=[1, 2]),
            "y_true holds 0, but the columns",
        ),
        (
            lambda: reliability_curve([0, 1], [[0.5, 0.5]] * 2, n_bins=0),
            "n_bins=0 must be at least 1",
        ),
        (lambda: abstain([[0.5, 0.5]], [-1, 1], threshold=0.9), "classes holds -1"),
        (lambda: abstain([[0.5, 0.5]], [0, 1], 70), "threshold=70 must be a probability"),
        (
            lambda: accuracy_by_magnitude([0, 1], [0, 1], [20.0]),
            "have 2, 2 and 1 rows",
        ),
        (lambda: accuracy_by_magnitude([0, 1], [0, 1], [np.nan] * 2), "NaN in all labelled rows"),
        (
            lambda: accuracy_by_magnitude([0, 1], [0, 1], [20, 21], bins=[3, 2]),
            "increasing edges",
        ),
        (lambda: accuracy_by_magnitude([0, 1], [0, 1], [20, 21], bins=0), "must be a number of"),
        (lambda: accuracy_by_magnitude([0, 1], [0, 1], [20, 21], bins=[1, 2]), "hold no object"),
    ],
)
def test_wrong_arguments_raise_an_error_with_the_reason(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_accuracy_by_magnitude_is_the_balanced_accuracy_of_each_bin():
    rng = np.random.default_rng(0)
    magnitude = rng.uniform(18, 22, 2000)
    y = rng.choice(["star", "galaxy", "quasar"], size=2000, p=[0.7, 0.2, 0.1])
    fails = rng.random(2000) < (magnitude - 18) / 6
    predicted = np.where(fails, "star", y)
    table = accuracy_by_magnitude(y, predicted, magnitude, bins=[18, 19, 20, 21, 22])
    assert table["n"].sum() == 2000
    for row in table.itertuples():
        inside = (magnitude >= row._2) & (magnitude < row.to)
        assert_allclose(row.score, balanced_accuracy_score(y[inside], predicted[inside]))
        assert row.low < row.score < row.high
    assert table["score"].is_monotonic_decreasing
    plain = accuracy_by_magnitude(y, predicted, magnitude, bins=[18, 22], balanced=False)
    assert_allclose(plain["score"], (y == predicted).mean())
    exact = binomtest(int((y == predicted).sum()), 2000).proportion_ci(method="wilson")
    assert_allclose(plain[["low", "high"]].to_numpy()[0], [exact.low, exact.high])


def test_intervals_of_balanced_accuracy_cover_it_with_their_confidence():
    rng = np.random.default_rng(0)
    y = np.repeat(["star", "galaxy", "quasar"], [60, 25, 12])
    chance = np.repeat([0.95, 0.8, 0.6], [60, 25, 12])
    covered = []
    for _ in range(300):
        predicted = np.where(rng.random(len(y)) < chance, y, "none")
        row = accuracy_by_magnitude(y, predicted, np.full(len(y), 20.0), bins=[19, 21]).iloc[0]
        covered.append(row["low"] <= (0.95 + 0.8 + 0.6) / 3 <= row["high"])
    assert 0.92 < np.mean(covered) < 0.985


def test_faint_outliers_do_not_stretch_the_bins():
    magnitude = np.append(np.linspace(18, 22, 399), 35.0)
    y = np.arange(400) % 2
    table = accuracy_by_magnitude(y, y, magnitude, bins=4)
    assert table["n"].sum() == 400
    assert table["n"].min() > 90
    assert table["to"].iloc[-1] == 35.0
    assert (table[["score", "high"]] == 1).all(axis=None)


def test_unlabelled_and_unmeasured_rows_are_left_out():
    table = accuracy_by_magnitude(
        ["a", "b", "", "a"], ["a", "b", "a", "b"], [20.0, 20.5, 20.2, np.nan], bins=1
    )
    assert table["n"].tolist() == [2]
    assert table["score"].tolist() == [1.0]


def test_one_magnitude_is_one_bin():
    assert equal_widths(np.full(5, 20.0), 4).tolist() == [19.5, 20.5]
    assert accuracy_by_magnitude([0, 1], [0, 0], [20, 20])["n"].tolist() == [2]
