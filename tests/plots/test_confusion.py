import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.datasets import load_wine
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import confusion_matrix
from sklearn.naive_bayes import GaussianNB

from skastro import ConfusionDisplay
from tests.conftest import find_data
from tests.plots.conftest import GUESS, STAMPS, TRUTH, lie_inside


def test_confusions_are_those_of_scikit_learn():
    display = ConfusionDisplay.from_predictions(TRUTH, GUESS)
    counts = confusion_matrix(TRUTH, GUESS)
    assert_array_equal(display.counts, counts)
    assert display.classes == ["galaxy", "quasar", "star"]
    assert_allclose(display.image_.get_array(), counts / counts.sum(axis=1, keepdims=True))
    written = [text.get_text() for text in display.ax_.texts]
    assert written[1::2] == [f"{count:,}" for count in counts.ravel()]


def test_unlabelled_rows_and_abstentions_are_left_out():
    display = ConfusionDisplay.from_predictions(["a", "b", "", "b"], ["a", "a", "a", ""])
    assert display.counts.tolist() == [[1, 0], [1, 0]]
    assert display.n_unlabelled == 2


def test_surest_stamps_of_each_cell_are_shown():
    stamps = np.zeros((6, 3, 8, 8), dtype=np.uint8)
    stamps += np.arange(6, dtype=np.uint8)[:, None, None, None]  # shown as they are
    display = ConfusionDisplay.from_predictions(
        [0, 0, 0, 0, 1, 1], [0, 0, 0, 1, 1, 1], images=stamps,
        confidence=[0.5, 0.9, 0.7, 0.6, 0.8, 0.9], n_examples=2,
    )  # fmt: skip
    shown = {
        cell: [int(p[0, 0, 0]) for p in pictures] for cell, pictures in display.examples.items()
    }
    assert shown == {(0, 0): [1, 2], (0, 1): [3], (1, 1): [5, 4]}
    extents = [image.get_extent() for image in display.stamps_]
    assert len(extents) == 5
    for (row, column), extent in zip(
        [(0, 0), (0, 0), (0, 1), (1, 1), (1, 1)], extents, strict=True
    ):
        left, right, bottom, top = extent
        assert column - 0.5 < left < right < column + 0.5
        assert row < top < bottom < row + 0.5


def test_classifier_predicts_and_its_probabilities_choose_the_stamps():
    X, y = load_wine(return_X_y=True)
    bayes = GaussianNB().fit(X, y)
    stamps = np.broadcast_to(
        np.arange(len(y), dtype=np.uint8)[:, None, None, None], (len(y), 3, 8, 8)
    )
    display = ConfusionDisplay.from_estimator(bayes, X, y, images=stamps, n_examples=1)
    sure = bayes.predict_proba(X).max(axis=1)
    right = np.flatnonzero((y == 0) & (bayes.predict(X) == 0))
    shown = int(display.examples[0, 0][0][0, 0, 0])
    assert sure[shown] == sure[right].max()
    assert display.ax_.get_xticklabels()[2].get_text() == "2"


def test_other_numbers_of_rows_are_refused():
    with pytest.raises(ValueError, match=r"y_pred has shape \(1,\), but there are 2 objects"):
        ConfusionDisplay.from_predictions([0, 1], [0])
    with pytest.raises(ValueError, match=r"confidence has shape \(1,\), but there are 2 objects"):
        ConfusionDisplay.from_predictions([0, 1], [0, 1], confidence=[0.5])
    with pytest.raises(ValueError, match="images has 400 stamps for 2 objects"):
        ConfusionDisplay.from_predictions([0, 1], [0, 1], images=STAMPS)


def test_real_stamps_are_drawn():
    folder = find_data("sdss")
    stamps = np.load(folder / "stamps.npy", mmap_mode="r")[:300].astype(np.float32)
    catalog = pd.read_csv(folder / "catalog.csv", dtype={"id": str}).iloc[:300]
    flux = np.nan_to_num(stamps.reshape(300, 5, -1).sum(axis=2))
    colours = np.arcsinh(flux)
    probe = LogisticRegression(max_iter=2000).fit(colours[::2], catalog["phot_type"][::2])
    display = ConfusionDisplay.from_estimator(
        probe, colours[1::2], catalog["phot_type"][1::2], images=stamps[1::2]
    )
    assert display.counts.sum() == 150
    assert lie_inside(display.figure_)
    means = {cell: np.mean(pictures) for cell, pictures in display.examples.items()}
    assert all(5 < mean < 250 for mean in means.values())  # neither black nor burnt out
