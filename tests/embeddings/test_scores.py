"""Scores are high if an embedding separates the classes, and at chance if it does not."""

import numpy as np
import pandas as pd
import pytest
from sklearn.datasets import make_blobs

import skastro.embeddings.scores
from skastro import EmbeddingClusterer, compare_representations, score_embedding

SCORES = [
    "knn_accuracy", "probe_accuracy", "silhouette", "kmeans_ari", "kmeans_nmi",
    "hdbscan_ari", "hdbscan_nmi", "hdbscan_clusters", "hdbscan_noise", "n_labelled", "n_classes",
]  # fmt: skip


@pytest.fixture(scope="module")
def blobs():
    """Return 150 rows of 6 columns in three groups, and their names."""
    E, kind = make_blobs(150, n_features=6, centers=3, random_state=2)
    return E, np.array(["galaxy", "quasar", "star"])[kind]


def test_an_embedding_of_groups_scores_high(blobs):
    scores = score_embedding(*blobs)
    assert scores.index.tolist() == SCORES
    assert scores.dtype == np.float64
    assert (scores[["knn_accuracy", "probe_accuracy", "kmeans_ari", "kmeans_nmi"]] == 1).all()
    assert scores["hdbscan_ari"] > 0.9
    assert scores["silhouette"] > 0.5
    assert scores["hdbscan_clusters"] == scores["n_classes"] == 3


def test_noise_scores_as_chance():
    rng = np.random.default_rng(0)
    scores = score_embedding(rng.normal(size=(300, 5)), rng.integers(3, size=300))
    assert abs(scores["knn_accuracy"] - 1 / 3) < 0.1
    assert abs(scores["probe_accuracy"] - 1 / 3) < 0.1
    assert abs(scores["silhouette"]) < 0.05
    assert abs(scores["kmeans_ari"]) < 0.05
    assert abs(scores["hdbscan_ari"]) < 0.05


@pytest.mark.parametrize("gap", [-1, np.nan])
def test_unlabelled_rows_are_left_out(blobs, gap):
    E, names = blobs
    y = np.unique(names, return_inverse=True)[1].astype(type(gap))
    y[:50] = gap
    scores = score_embedding(E, y)
    assert scores["n_labelled"] == 100
    assert scores["n_classes"] == 3
    # the scores of the classes do not depend on the unlabelled rows, but clusters may
    moved = E.copy()
    moved[:50] += 1e3
    again = score_embedding(moved, y)
    same = ["knn_accuracy", "probe_accuracy", "silhouette"]
    assert again[same].equals(scores[same])


def test_labelling_most_rows_as_noise_does_not_raise_the_score(blobs):
    E, names = blobs
    strict = EmbeddingClusterer(min_cluster_size=10, min_samples=40)
    scores = score_embedding(E, names, clusterer=strict)
    labels = strict.fit(E).labels_
    assert scores["hdbscan_noise"] == np.mean(labels == -1)
    assert not hasattr(EmbeddingClusterer(), "labels_")
    assert scores["hdbscan_ari"] <= score_embedding(E, names)["hdbscan_ari"]


def test_the_same_seed_gives_the_same_scores(blobs):
    E, names = blobs
    assert score_embedding(E, names, random_state=5).equals(
        score_embedding(E, names, random_state=5)
    )


def test_rows_of_one_object_stay_together():
    # random classes, which k-NN can only get right from the twin of a row
    rng = np.random.default_rng(0)
    E = np.repeat(rng.normal(size=(60, 20)), 2, axis=0)
    y, groups = np.repeat(rng.integers(2, size=60), 2), np.repeat(np.arange(60), 2)
    leaky = score_embedding(E, y, n_neighbors=1)["knn_accuracy"]
    honest = score_embedding(E, y, groups=groups, n_neighbors=1)["knn_accuracy"]
    assert leaky > 0.8
    assert honest < 0.7


def test_silhouette_of_many_rows_is_sampled(monkeypatch, blobs):
    whole = score_embedding(*blobs)["silhouette"]
    monkeypatch.setattr(skastro.embeddings.scores, "_MAX_SILHOUETTE_ROWS", 60)
    sampled = score_embedding(*blobs)["silhouette"]
    assert sampled != whole
    assert abs(sampled - whole) < 0.1


def test_representations_are_compared_on_the_same_folds(blobs):
    E, names = blobs
    noise = np.random.default_rng(0).normal(size=E.shape)
    table = compare_representations({"groups": E, "twice": E, "noise": noise}, names)
    assert table.index.tolist() == ["groups", "twice", "noise"]
    assert table.columns.tolist() == SCORES
    assert table.loc["groups"].equals(table.loc["twice"])
    assert (table.loc["noise", SCORES[:7]] < table.loc["groups", SCORES[:7]]).all()
    pd.testing.assert_series_equal(
        table.loc["groups"], score_embedding(E, names), check_names=False
    )


@pytest.mark.parametrize(
    ("y", "params", "message"),
    [
        (["a"] * 6, {}, "y holds one class only"),
        (["a", "b"] * 2, {}, "y has 4 labels, but E has 6 rows"),
        (["a"] * 5 + ["b"], {}, "y holds one row only of class 'b'"),
        (["a", "b"] * 3, {"cv": 1}, "cv=1 must be at least 2"),
        (["a", "b"] * 3, {"groups": [0, 1]}, r"groups has shape \(2,\), but E has 6 rows"),
        (["a", "b"] * 3, {"groups": [0, 1] * 3}, "groups leaves a class in one group only"),
    ],
)
def test_wrong_input_is_named(y, params, message):
    E = np.random.default_rng(0).normal(size=(6, 3))
    with pytest.raises(ValueError, match=message):
        score_embedding(E, y, **params)


def test_the_representation_that_cannot_be_scored_is_named():
    with pytest.raises(ValueError, match=r"embeddings\['bad'\]: .*NaN"):
        compare_representations({"bad": np.full((4, 2), np.nan)}, [0, 0, 1, 1])
    with pytest.raises(ValueError, match="at least one entry"):
        compare_representations({}, [0, 1])
