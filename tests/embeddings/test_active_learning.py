from __future__ import annotations

import numpy as np
import pytest

from skastro import suggest_labels


@pytest.fixture
def blobs():
    """Return embeddings (200, 6) of four clusters, the last of 20 rows only, and their classes."""
    rng = np.random.default_rng(0)
    classes = np.repeat(["a", "b", "c", "d"], (60, 60, 60, 20))
    centres = 8.0 * np.eye(4, 6)
    return centres[np.unique(classes, return_inverse=True)[1]] + rng.normal(size=(200, 6)), classes


def some_labels(classes, count):
    y = np.full(len(classes), "", dtype=object)
    rows = np.linspace(0, len(classes) - 1, count).astype(int)
    y[rows] = classes[rows]
    return y


def test_the_first_labels_cover_the_clusters(blobs):
    embeddings, classes = blobs
    rows = suggest_labels(embeddings, n=4, random_state=0)
    assert set(classes[rows]) == set("abcd")
    assert classes[rows[-1]] == "d"  # the largest cluster comes first
    distances = [
        np.linalg.norm(embeddings[row] - embeddings[classes == classes[row]].mean(0))
        for row in rows
    ]
    assert max(distances) < 2.0  # typical rows lie near the centre: the median of all is 2.3


def test_typical_rows_leave_out_clusters_with_labels(blobs):
    embeddings, classes = blobs
    y = np.where(np.isin(np.arange(200), [5, 70]), classes, "")
    rows = suggest_labels(embeddings, y, n=2, strategy="typical", random_state=0)
    assert not set(rows) & {5, 70}
    assert "c" in classes[rows]


def test_uncertain_rows_lie_between_the_classes():
    rng = np.random.default_rng(1)
    embeddings = rng.uniform(-1, 1, size=(400, 4))
    y = np.full(400, -1)
    y[:60] = embeddings[:60, 0] > 0
    rows = suggest_labels(embeddings, y, n=30, strategy="uncertain", random_state=0)
    assert (rows >= 60).all()
    assert np.abs(embeddings[rows, 0]).mean() < 0.6 * np.abs(embeddings[60:, 0]).mean()


@pytest.mark.parametrize("strategy", ["auto", "typical", "uncertain"])
def test_rows_are_unlabelled_distinct_and_repeatable(blobs, strategy):
    embeddings, classes = blobs
    y = some_labels(classes, 40)
    rows = suggest_labels(embeddings, y, n=30, strategy=strategy, random_state=3)
    again = suggest_labels(embeddings, y, n=30, strategy=strategy, random_state=3)
    assert rows.tolist() == again.tolist()
    assert len(set(rows)) == 30
    assert (y[rows] == "").all()


def test_auto_goes_from_typical_to_uncertain(blobs):
    embeddings, classes = blobs
    options = {"n": 12, "random_state": 0}
    few, more = some_labels(classes, 40), some_labels(classes, 80)

    def chosen(y, strategy):
        return set(suggest_labels(embeddings, y, strategy=strategy, **options))

    assert chosen(few, "auto") == chosen(few, "typical")
    assert len(chosen(more, "auto") & chosen(more, "typical")) >= 6
    assert chosen(more, "auto") != chosen(more, "typical")


def test_one_class_only_gives_typical_rows(blobs):
    embeddings, _ = blobs
    y = np.full(200, -1)
    y[:5] = 2
    rows = suggest_labels(embeddings, y, n=5, strategy="uncertain", random_state=0)
    assert len(set(rows)) == 5


def test_a_group_is_suggested_once_and_not_if_it_has_a_label(blobs):
    embeddings, classes = blobs
    groups = np.arange(200) // 4
    y = np.where(np.arange(200) == 8, classes, "")
    rows = suggest_labels(embeddings, y, n=200, groups=groups, random_state=0)
    assert sorted(groups[rows]) == [g for g in range(50) if g != 2]


def test_all_unlabelled_rows_are_returned_if_more_are_asked_for(blobs):
    embeddings, classes = blobs
    y = classes.astype(object)
    y[:7] = None
    assert sorted(suggest_labels(embeddings, y, n=20, random_state=0)) == list(range(7))


def test_many_rows_are_sampled(monkeypatch, blobs):
    monkeypatch.setattr("skastro.embeddings.active_learning._MAX_ROWS", 50)
    embeddings, _ = blobs
    rows = suggest_labels(embeddings, n=80, random_state=0)
    assert len(rows) == 50


def test_equal_rows_are_suggested_once_each():
    embeddings = np.repeat(np.eye(3), 20, axis=0)
    y = np.full(60, -1)
    y[::2] = np.arange(60)[::2] // 20
    with np.errstate(all="raise"):
        rows = suggest_labels(embeddings, y, n=10, random_state=0)
    assert len(set(rows)) == 10


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"n": 0}, "n=0 must be a whole number"),
        ({"n": 2.5}, r"n=2\.5 must be a whole number"),
        ({"strategy": "best"}, "strategy='best' must be one of"),
        ({"y": ["a", "b"]}, "y has 2 labels, but embeddings has 200 rows"),
        ({"y": np.repeat(["a", "b"], 100)}, "y leaves no row to label"),
        ({"groups": [1, 2]}, r"groups has shape \(2,\), but embeddings has 200 rows"),
        ({"embeddings": np.full((200, 3), np.nan)}, "embeddings contains NaN"),
        ({"embeddings": np.zeros(200)}, "Expected 2D array"),
        ({"random_state": "x"}, "random_state='x' must be"),
    ],
)
def test_wrong_arguments_are_named(blobs, options, message):
    embeddings = options.pop("embeddings", blobs[0])
    with pytest.raises(ValueError, match=message):
        suggest_labels(embeddings, options.pop("y", None), **options)
