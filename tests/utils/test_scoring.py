import numpy as np
import pytest

from skastro.utils.scoring import check_scorers, measure_outliers, measure_scatter


def test_the_scatter_is_the_standard_deviation_of_normal_errors():
    errors = np.random.default_rng(0).normal(3.0, 0.5, size=100_000)
    errors[:500] = 1e6
    assert measure_scatter(np.zeros(100_000), errors) == pytest.approx(0.5, rel=0.02)
    assert measure_outliers(np.zeros(100_000), errors) == pytest.approx(0.005, abs=1e-4)


def test_perfect_predictions_have_no_outliers():
    assert measure_outliers([1.0, 2.0], [1.0, 2.0]) == 0


def test_the_usual_scorers_depend_on_what_is_scored():
    assert list(check_scorers(None)) == ["balanced_accuracy"]
    assert list(check_scorers(None, of_values=True)) == ["r2", "neg_scatter", "neg_outlier_share"]


def test_unknown_scorers_are_refused():
    with pytest.raises(ValueError, match="scoring='r3' is not a metric of scikit-learn"):
        check_scorers("r3")
