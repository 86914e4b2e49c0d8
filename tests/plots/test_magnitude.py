from numpy.testing import assert_allclose, assert_array_equal
from sklearn.naive_bayes import GaussianNB

from skastro import MagnitudeDisplay, accuracy_by_magnitude
from tests.plots.conftest import GUESS, MAGNITUDE, TRUTH


def test_accuracies_by_magnitude_are_drawn_for_each_classifier():
    display = MagnitudeDisplay.from_predictions(
        TRUTH, {"probe": GUESS, "perfect": TRUTH}, MAGNITUDE, bins=[18, 19, 20, 21, 22], name="r"
    )
    table = accuracy_by_magnitude(TRUTH, GUESS, MAGNITUDE, bins=[18, 19, 20, 21, 22])
    assert_allclose(display.lines_["probe"].get_ydata(), table["score"])
    assert_allclose(display.lines_["perfect"].get_ydata(), 1)
    assert_array_equal([bar.get_height() for bar in display.counts_ax_.patches], table["n"])
    assert display.ax_.get_xlabel() == "r (mag)"
    assert display.ax_.get_ylabel() == "balanced accuracy"
    lowest = min(table["low"])
    foot = display.ax_.transData.transform((20, lowest))[1]
    tallest = max(bar.get_window_extent().y1 for bar in display.counts_ax_.patches)
    assert foot > tallest  # the numbers of objects do not hide the curves
    entries = [text.get_text() for text in display.ax_.get_legend().get_texts()]
    assert entries == ["probe", "perfect"]
    single = MagnitudeDisplay.from_predictions(TRUTH, GUESS, MAGNITUDE, balanced=False)
    assert single.ax_.get_legend() is None
    assert single.ax_.get_ylabel() == "accuracy"


def test_fitted_classifiers_predict_before_they_are_drawn():
    classifier = GaussianNB().fit(MAGNITUDE[:, None], TRUTH)
    display = MagnitudeDisplay.from_estimator(
        classifier, MAGNITUDE[:, None], TRUTH, MAGNITUDE, bins=4
    )
    table = accuracy_by_magnitude(TRUTH, classifier.predict(MAGNITUDE[:, None]), MAGNITUDE, bins=4)
    assert_allclose(display.lines_["GaussianNB"].get_ydata(), table["score"])
