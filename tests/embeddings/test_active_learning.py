from __future__ import annotations

import numpy as np
import pytest

from skastro import KernelProbe, suggest_labels
from skastro.embeddings.active_learning import LabelQueue


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


def unlabelled(n=200):
    return np.full(n, -1)


# -- LabelQueue


def test_every_sixth_question_is_random_whatever_the_labels_are(blobs):
    embeddings, classes = blobs
    codes = np.unique(classes, return_inverse=True)[1]
    drawn = []
    for labels in (codes, codes[::-1]):
        queue, known = LabelQueue(embeddings, random_state=5), unlabelled()
        asked = []
        for _ in range(20):
            probabilities = np.full((200, 4), 0.25)
            [(row, how)] = queue.next(known, probabilities=probabilities)
            known[row] = labels[row]
            asked.append((row, how))
        assert [n for n, (_, how) in enumerate(asked) if how == "random"] == [0, 6, 12, 18]
        drawn.append([row for row, how in asked if how == "random"])
    assert drawn[0][0] == drawn[1][0]


def test_random_questions_are_uniform(blobs):
    embeddings, classes = blobs
    first = [LabelQueue(embeddings, random_state=s).next(unlabelled())[0][0] for s in range(200)]
    assert 8 <= (classes[first] == "d").sum() <= 34  # 20 expected, standard deviation 4.2
    assert len(set(first)) > 100


def test_a_restart_goes_on_with_one_in_six(blobs):
    embeddings, _ = blobs
    codes = unlabelled()
    codes[:4] = 0
    hows = [how for _, how in LabelQueue(embeddings, random_state=0).next(codes, 10)]
    assert [n for n, how in enumerate(hows) if how == "random"] == [2, 8]


def test_typical_rows_cover_the_clusters(blobs):
    embeddings, classes = blobs
    questions = LabelQueue(embeddings, random_state=0).next(unlabelled(), 5, at_random=False)
    rows = [row for row, _ in questions]
    assert {how for _, how in questions} == {"typical"}
    assert set(classes[rows[:3]]) == set("abc")  # the largest clusters come first
    assert "d" in classes[rows]
    distances = [
        np.linalg.norm(embeddings[row] - embeddings[classes == classes[row]].mean(0))
        for row in rows
    ]
    assert np.median(distances) < 2.3  # that of all rows


def test_properties_are_covered_too():
    rng = np.random.default_rng(2)
    embeddings, properties = rng.normal(size=(300, 4)), rng.normal(size=(300, 2))
    properties[:150] += 9.0
    properties[0, 0] = np.nan
    questions = LabelQueue(embeddings, properties, random_state=0).next(
        unlabelled(300), 2, at_random=False
    )
    assert sum(row < 150 for row, _ in questions) == 1


def test_uncertain_rows_are_asked_for_where_the_classifier_is_unsure():
    rng = np.random.default_rng(1)
    embeddings = rng.normal(size=(400, 2))
    embeddings[200:] += 20.0
    codes = unlabelled(400)
    codes[[0, 1, 200, 201]] = [0, 1, 0, 1]
    probabilities = np.tile([0.5, 0.5], (400, 1))
    probabilities[:200] = [1.0, 0.0]
    queue = LabelQueue(embeddings, random_state=0)
    questions = queue.next(codes, 10, probabilities=probabilities, at_random=False)
    assert {how for _, how in questions} == {"uncertain"}
    assert all(row >= 200 for row, _ in questions)


def test_objects_unlike_all_labelled_ones_come_first_if_all_are_unsure(blobs):
    embeddings, classes = blobs
    codes = np.where(classes == "a", 0, np.where(classes == "b", 1, -1))
    codes[:120:2] = -1  # rows close to labelled ones are left
    probabilities = np.full((200, 2), 0.5)
    queue = LabelQueue(embeddings, random_state=0)
    questions = queue.next(codes, 2, probabilities=probabilities, at_random=False)
    assert set(classes[[row for row, _ in questions]]) == {"c", "d"}


def test_a_single_class_gets_typical_rows(blobs):
    embeddings, _ = blobs
    codes = unlabelled()
    codes[[0, 70]] = 0
    queue, unsure = LabelQueue(embeddings, random_state=0), np.full((200, 2), 0.5)
    assert queue.next(codes, probabilities=unsure, at_random=False)[0][1] == "typical"
    codes[70] = 1
    assert queue.next(codes, probabilities=unsure, at_random=False)[0][1] == "uncertain"


def test_labelled_excluded_and_equal_objects_are_not_asked_for(blobs):
    embeddings, _ = blobs
    groups = np.arange(200) // 4
    codes = unlabelled()
    codes[:8] = 1
    queue = LabelQueue(embeddings, groups=groups, random_state=0)
    rows = [row for row, _ in queue.next(codes, 300, excluded=[9, 20])]
    assert sorted(groups[rows]) == [g for g in range(50) if g not in {0, 1, 2, 5}]
    assert queue.next(np.zeros(200, dtype=int), 3) == []


def test_undone_labels_are_forgotten(blobs):
    embeddings, _ = blobs
    codes = unlabelled()
    codes[:60] = 0
    queue = LabelQueue(embeddings, random_state=0)
    queue.next(codes, at_random=False)
    fresh = LabelQueue(embeddings, random_state=0)
    assert queue.next(unlabelled(), 3, at_random=False) == fresh.next(
        unlabelled(), 3, at_random=False
    )


def test_missing_and_constant_properties_do_no_harm(blobs):
    embeddings, _ = blobs
    properties = np.full((200, 3), np.nan)
    properties[:, 1] = 7.0
    properties[::2, 2] = np.linspace(0, 1, 100)
    with np.errstate(all="raise", under="ignore"):
        rows = [r for r, _ in LabelQueue(embeddings, properties).next(unlabelled(), 20)]
    assert len(set(rows)) == 20
    assert LabelQueue(embeddings, np.empty((200, 0))).next(unlabelled())


# -- the search for rare objects


@pytest.fixture
def needles():
    """Return embeddings (500, 4) the last 10 rows a small cluster, and which they are."""
    rng = np.random.default_rng(4)
    embeddings = rng.normal(size=(500, 4))
    embeddings[490:] = 0.3 * embeddings[490:] + [6.0, 0, 0, 0]
    return embeddings, np.arange(500) >= 490


def search(queue, is_wanted, n, prior=None):
    codes = unlabelled(len(is_wanted))
    for _ in range(n):
        row = queue.rank_rare(codes, 0, prior=prior)[0]
        codes[row] = 0 if is_wanted[row] else 1
    return int((codes == 0).sum())


def test_rare_objects_are_found_without_an_example(needles):
    embeddings, is_wanted = needles
    assert search(LabelQueue(embeddings, random_state=0), is_wanted, 25) == 10


def test_a_prior_leads_to_the_first_example():
    embeddings = np.random.default_rng(6).normal(size=(500, 4))
    is_wanted = np.linalg.norm(embeddings - [1, 0, 0, 0], axis=1) < 0.6  # not odd at all
    prior = np.where(is_wanted, 0.3, 0.1)
    queue = LabelQueue(embeddings, random_state=0)
    assert search(queue, is_wanted, 20, prior) >= 3
    assert search(queue, is_wanted, 20) <= 1


def test_ranked_rows_are_free_and_one_of_each_group(needles):
    embeddings, _ = needles
    groups = np.arange(500) // 2
    queue = LabelQueue(embeddings, groups=groups, random_state=0)
    codes = unlabelled(500)
    codes[[490, 5]] = [0, 1]
    rows = queue.rank_rare(codes, 0, excluded=[498])
    assert len(rows) == len(set(groups[rows])) == 247
    assert not set(groups[rows]) & {245, 2, 249}
    assert set(rows[:3]) <= set(range(490, 500))


@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        ((np.zeros(3, dtype=int),), {}, r"codes has shape \(3,\)"),
        ((np.zeros(200),), {}, "dtype float64: pass one whole number"),
        ((np.arange(200) % 3 - 1,), {"probabilities": np.ones((200, 1))}, r"shape \(200, 1\)"),
    ],
)
def test_wrong_codes_and_probabilities_are_named(blobs, arguments, options, message):
    with pytest.raises(ValueError, match=message):
        LabelQueue(blobs[0]).next(*arguments, **options)
    with pytest.raises(ValueError, match=r"prior has shape \(2,\)"):
        LabelQueue(blobs[0]).rank_rare(unlabelled(), 0, prior=[0.1, 0.2])


# -- suggest_labels


def test_suggestions_are_those_of_the_queue(blobs):
    embeddings, classes = blobs
    y = some_labels(classes, 40)
    codes = unlabelled()
    codes[y != ""] = np.unique(y[y != ""], return_inverse=True)[1]
    known = codes >= 0
    values = (embeddings - embeddings.mean(0)) / embeddings.std(0)
    probe = KernelProbe().fit(values[known], codes[known])
    questions = LabelQueue(embeddings, random_state=0).next(
        codes, 12, probabilities=probe.predict_proba(values)
    )
    rows = suggest_labels(embeddings, y, n=12, random_state=0)
    assert rows.tolist() == [row for row, _ in questions]


def test_uncertain_rows_lie_between_the_classes():
    rng = np.random.default_rng(1)
    embeddings = rng.uniform(-1, 1, size=(400, 4))
    y = np.full(400, -1)
    y[:60] = embeddings[:60, 0] > 0
    rows = suggest_labels(embeddings, y, n=30, strategy="uncertain", random_state=0)
    assert (rows >= 60).all()
    typical = suggest_labels(embeddings, y, n=30, strategy="typical", random_state=0)
    assert np.abs(embeddings[rows, 0]).mean() < 0.9 * np.abs(embeddings[typical, 0]).mean()


@pytest.mark.parametrize("strategy", ["auto", "typical", "uncertain"])
def test_rows_are_unlabelled_distinct_and_repeatable(blobs, strategy):
    embeddings, classes = blobs
    y = some_labels(classes, 40)
    options = {"n": 30, "strategy": strategy, "properties": embeddings[:, :2], "random_state": 3}
    rows = suggest_labels(embeddings, y, **options)
    assert rows.tolist() == suggest_labels(embeddings, y, **options).tolist()
    assert len(set(rows)) == 30
    assert (y[rows] == "").all()


def test_one_class_only_gives_typical_rows(blobs):
    embeddings, _ = blobs
    y = unlabelled()
    y[:5] = 2
    options = {"n": 5, "random_state": 0}
    rows = suggest_labels(embeddings, y, strategy="uncertain", **options)
    assert rows.tolist() == suggest_labels(embeddings, y, strategy="typical", **options).tolist()


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


def test_of_many_rows_some_are_compared(monkeypatch, blobs):
    for name in ("_N_CANDIDATES", "_N_CENTERS", "_CHUNK_SIZE"):
        monkeypatch.setattr(f"skastro.embeddings.active_learning.{name}", 30)
    embeddings, classes = blobs
    rows = suggest_labels(embeddings, n=80, strategy="typical", random_state=0)
    assert len(set(rows)) == 80
    assert set(classes[rows[:8]]) >= set("abc")


def test_equal_rows_are_suggested_once_each():
    embeddings = np.repeat(np.eye(3), 20, axis=0)
    y = np.full(60, -1)
    y[::2] = np.arange(60)[::2] // 20
    with np.errstate(all="raise", under="ignore"):
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
        ({"properties": np.zeros((3, 2))}, "properties has 3 rows"),
        ({"random_state": "x"}, "random_state='x' must be"),
    ],
)
def test_wrong_arguments_are_named(blobs, options, message):
    embeddings = options.pop("embeddings", blobs[0])
    with pytest.raises(ValueError, match=message):
        suggest_labels(embeddings, options.pop("y", None), **options)
