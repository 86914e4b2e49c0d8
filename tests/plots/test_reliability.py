import numpy as np
from numpy.testing import assert_allclose
from sklearn.datasets import load_wine
from sklearn.naive_bayes import GaussianNB

from skastro import ReliabilityDisplay, expected_calibration_error
from tests.plots.conftest import PROBABILITIES, TRUTH


def test_reliability_holds_the_bins_and_their_error():
    display = ReliabilityDisplay.from_predictions(TRUTH, PROBABILITIES, n_bins=4, name="dice")
    error = expected_calibration_error(TRUTH, PROBABILITIES, n_bins=4)
    assert_allclose(display.error, error)
    assert display.ax_.get_title(loc="left") == f"dice: expected calibration error {error:.3f}"
    assert_allclose(display.points_.lines[0].get_xydata()[:, 1], display.table["accuracy"])
    assert_allclose(display.points_.lines[0].get_xydata()[:, 0], display.table["confidence"])


def test_reliability_of_an_estimator_uses_its_classes():
    X, y = load_wine(return_X_y=True)
    names = np.array(["c", "a", "b"])[y]
    bayes = GaussianNB().fit(X, names)
    display = ReliabilityDisplay.from_estimator(bayes, X[::2], names[::2])
    assert_allclose(
        display.error,
        expected_calibration_error(names[::2], bayes.predict_proba(X[::2]), classes=bayes.classes_),
    )
