"""Labels that the others contradict."""

import numpy as np
import pytest
from sklearn.base import clone

from skastro import PropertyPretrainedEncoder, audit_labels


@pytest.fixture(scope="module")
def blobs():
    """Return columns of 300 objects of 3 classes, one of them frequent, and their classes."""
    rng = np.random.default_rng(0)
    codes = rng.choice(3, 300, p=[0.7, 0.2, 0.1])
    centres = np.array([[0, 0, 0], [5, 0, 0], [0, 5, 0]])
    return centres[codes] + rng.normal(size=(300, 3)), np.array(["a", "b", "c"])[codes]


def exchange(labels, n=15, seed=1):
    rng = np.random.default_rng(seed)
    rows = rng.choice(len(labels), n, replace=False)
    spoilt = labels.copy()
    for row in rows:
        spoilt[row] = rng.choice(np.setdiff1d(np.unique(labels), labels[row]))
    return spoilt, rows


def test_exchanged_labels_come_first_with_their_true_class(blobs):
    X, labels = blobs
    spoilt, wrong = exchange(labels)
    table = audit_labels(X, spoilt)
    first = table.head(len(wrong))
    assert np.isin(first["row"], wrong).sum() >= 13
    assert (first["suggested"] == labels[first["row"]]).mean() > 0.8
    assert table["probability"].is_monotonic_decreasing
    assert (table["label"] == spoilt[table["row"]]).all()
    assert (table["label"] != table["suggested"]).all()


def test_clear_labels_are_not_in_the_list(blobs):
    X, labels = blobs
    assert len(audit_labels(X, labels)) < 10


def test_rare_class_is_doubted_before_a_frequent_one():
    # two objects in the middle between the classes: that with the rare label is likelier wrong
    rng = np.random.default_rng(2)
    codes = np.repeat([0, 1], [180, 20])
    X = np.column_stack([3.0 * codes + rng.normal(size=200), rng.normal(size=200)])
    X[[0, 199]] = [1.5, 0.0]
    table = audit_labels(X, codes).set_index("row")
    assert 199 in table.index
    assert 0 not in table.index or table.loc[199, "probability"] > table.loc[0, "probability"]


def test_rows_without_a_label_are_left_out_and_ids_are_given(blobs):
    X, labels = blobs
    spoilt, wrong = exchange(labels)
    ids = np.array([f"object {i}" for i in range(600)])
    rows = np.arange(0, 600, 2)
    y, columns = np.full(600, "", dtype=object), np.full((600, 3), np.inf)
    y[rows], columns[rows] = spoilt, X
    table = audit_labels(columns, y, ids=ids)
    alone = audit_labels(X, spoilt)
    assert table["id"].tolist() == ids[rows[alone["row"]]].tolist()
    assert np.isin(f"object {2 * wrong[0]}", table["id"])
    assert "row" not in table


def test_more_noise_makes_all_labels_more_doubtful_in_the_same_order(blobs):
    X, labels = blobs
    spoilt, _ = exchange(labels)
    little, much = (audit_labels(X, spoilt, noise=noise) for noise in (0.01, 0.2))
    assert little["row"].tolist() == much["row"].tolist()
    assert (little["probability"] < much["probability"]).all()


def test_properties_at_the_end_may_be_missing(blobs):
    X, labels = blobs
    spoilt, wrong = exchange(labels)
    columns = np.column_stack([X, X])
    columns[::3, 4] = np.nan
    table = audit_labels(columns, spoilt, n_properties=3)
    assert np.isin(table["row"].head(12), wrong).mean() > 0.7


def test_stamps_are_described_by_a_fitted_encoder():
    rng = np.random.default_rng(0)
    codes = np.arange(60) % 2
    stamps = rng.normal(size=(60, 1, 8, 8)) + 4.0 * codes[:, None, None, None]
    spoilt = codes.copy()
    spoilt[11] = 0
    encoder = PropertyPretrainedEncoder("stamp_resnet10", max_epochs=2, random_state=0)
    fitted = clone(encoder).fit(stamps)
    for each in (fitted, encoder):  # the latter is pretrained
        table = audit_labels(stamps, spoilt, encoder=each)
        assert table.loc[0, ["row", "label", "suggested"]].tolist() == [11, 0, 1]


def test_unusable_arguments_are_refused(blobs):
    X, labels = blobs
    with pytest.raises(ValueError, match=r"noise=1 must be between 0 and 1"):
        audit_labels(X, labels, noise=1)
    with pytest.raises(ValueError, match=r"ids has 2 values, but y has 300: pass one each"):
        audit_labels(X, labels, ids=["a", "b"])
    with pytest.raises(ValueError, match=r"X has shape \(299, 3\), but y has 300 labels"):
        audit_labels(X[1:], labels)
    with pytest.raises(ValueError, match="one class only"):
        audit_labels(X, np.full(300, "a"))
