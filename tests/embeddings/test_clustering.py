"""Find clusters, describe them, and predict those of new objects."""

import pickle

import joblib
import numpy as np
import pandas as pd
import pytest
from astropy.table import Table
from sklearn.base import clone
from sklearn.frozen import FrozenEstimator
from sklearn.metrics import adjusted_rand_score
from sklearn.pipeline import make_pipeline

import skastro.embeddings.clustering
from skastro import EmbeddingClusterer


def blobs(n=150, d=6, k=3, apart=8.0, seed=0):
    """Return k Gaussian blobs of equal size on orthogonal axes, and which is which."""
    rng = np.random.default_rng(seed)
    kind = np.arange(n) % k
    return (rng.normal(size=(n, d)) + apart * np.eye(d)[kind]).astype(np.float32), kind


@pytest.fixture(scope="module")
def fitted_blobs():
    """Return blobs, their kinds and a clusterer fitted on them."""
    X, kind = blobs()
    return X, kind, EmbeddingClusterer(random_state=0).fit(X)


def test_separate_groups_are_found(fitted_blobs):
    _, kind, clusterer = fitted_blobs
    assert clusterer.n_clusters_ == 3
    assert clusterer.labels_.dtype == np.int64
    inside = clusterer.labels_ >= 0
    assert inside.mean() > 0.9
    assert adjusted_rand_score(kind[inside], clusterer.labels_[inside]) == 1


def test_probabilities_are_zero_for_noise_alone(fitted_blobs):
    _, _, clusterer = fitted_blobs
    assert ((clusterer.probabilities_ == 0) == (clusterer.labels_ == -1)).all()
    assert clusterer.probabilities_.max() == 1


def test_exemplars_are_members_of_their_cluster(fitted_blobs):
    _, _, clusterer = fitted_blobs
    assert len(clusterer.exemplar_indices_) == 3
    for cluster, rows in enumerate(clusterer.exemplar_indices_):
        assert len(rows) > 0
        assert (clusterer.labels_[rows] == cluster).all()
        assert (clusterer.probabilities_[rows] == 1).all()


def test_an_object_far_from_all_others_is_noise_and_an_outlier():
    X, _ = blobs()
    X = np.vstack([X, np.full((1, X.shape[1]), -20)])
    clusterer = EmbeddingClusterer().fit(X)
    assert clusterer.labels_[-1] == -1
    assert clusterer.outlier_scores_.argmax() == len(X) - 1
    assert np.median(clusterer.outlier_scores_) == pytest.approx(1, abs=0.05)
    assert clusterer.outlier_scores_[-1] > 3


def test_new_objects_join_the_clusters_of_their_kind(fitted_blobs):
    _, kind, clusterer = fitted_blobs
    X, new = blobs(n=60, seed=1)
    predicted = clusterer.predict(X)
    name = {kind[clusterer.labels_ == c][0]: c for c in range(3)}
    inside = predicted >= 0
    assert inside.mean() > 0.8
    assert (predicted[inside] == [name[k] for k in new[inside]]).all()
    assert clusterer.predict(np.full((1, 6), 50.0)).tolist() == [-1]


def test_fitted_rows_are_predicted_as_they_were_labelled(fitted_blobs):
    X, _, clusterer = fitted_blobs
    assert np.mean(clusterer.predict(X) == clusterer.labels_) > 0.98


def test_membership_is_strongest_in_the_cluster_of_an_object(fitted_blobs):
    X, _, clusterer = fitted_blobs
    strengths = clusterer.predict_membership(X)
    inside = clusterer.labels_ >= 0
    assert strengths.shape == (len(X), 3)
    assert (strengths.sum(axis=1) <= 1 + 1e-9).all()
    assert (strengths.argmax(axis=1)[inside] == clusterer.labels_[inside]).all()


@pytest.mark.parametrize("fraction", [0.5, 1.0])
def test_a_few_objects_at_the_edge_do_not_make_one_cluster_of_the_others(fraction):
    # two groups of many that touch, and a small one far away
    rng = np.random.default_rng(0)
    X = rng.normal(size=(430, 2))
    X[200:400, 0] += 4.5
    X[400:, 1] += 40
    clusterer = EmbeddingClusterer(20, max_cluster_fraction=fraction).fit(X)
    assert clusterer.n_clusters_ == (3 if fraction < 1 else 2)
    assert (clusterer.predict(X) == clusterer.labels_).mean() > 0.98
    assert clusterer.predict_membership(X).shape == (430, clusterer.n_clusters_)


def test_a_large_group_without_parts_is_not_divided():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(300, 2))
    X[:60, 0] += 12
    clusterer = EmbeddingClusterer(random_state=0).fit(X)
    assert clusterer.n_clusters_ == 2
    assert clusterer.cluster_summary()["size"].max() > 200


@pytest.mark.slow
def test_embeddings_of_many_columns_are_reduced_by_umap():
    pytest.importorskip("umap")
    X, kind = blobs(n=240, d=64)
    clusterer = EmbeddingClusterer(random_state=3).fit(X[:180])
    assert clusterer.reduction_ == "umap"
    assert clusterer.model_.prediction_data_.raw_data.shape == (180, 5)
    assert adjusted_rand_score(kind[:180], clusterer.labels_) > 0.95
    assert np.mean(clusterer.predict(X[:180]) == clusterer.labels_) > 0.98
    assert clusterer.reduced(X[180:]).shape == (60, 5)
    new = clusterer.predict(X[180:])
    assert adjusted_rand_score(kind[180:], new) > 0.9
    # a prediction does not depend on the other rows
    assert (new[:7] == clusterer.predict(X[180:187])).all()
    again = clone(clusterer).fit(X[:180])
    assert np.array_equal(again.labels_, clusterer.labels_)
    assert np.array_equal(again.probabilities_, clusterer.probabilities_)


def test_without_umap_pca_is_used_with_a_warning(monkeypatch):
    monkeypatch.setattr(skastro.embeddings.clustering, "has_umap", lambda: False)
    X, kind = blobs(n=200, d=30)
    with pytest.warns(UserWarning, match=r"umap-learn is not installed.*skastro\[projection\]"):
        clusterer = EmbeddingClusterer().fit(X)
    assert clusterer.reduction_ == "pca"
    assert clusterer.model_.prediction_data_.raw_data.shape == (200, 10)
    inside = clusterer.labels_ >= 0
    assert adjusted_rand_score(kind[inside], clusterer.labels_[inside]) == 1


@pytest.mark.parametrize(
    ("n", "size"), [(2, 2), (8, 4), (20, 5), (60, 10), (300, 34), (3000, 109), (20000, 282)]
)
def test_size_of_the_smallest_cluster_grows_with_the_rows(n, size):
    assert EmbeddingClusterer()._choose_size(n) == size


def test_with_many_rows_some_are_fitted_and_the_others_predicted():
    X, kind = blobs(n=600)
    clusterer = EmbeddingClusterer(max_rows=200, random_state=0).fit(X)
    assert len(clusterer.fitted_rows_) == 200
    assert len(clusterer.labels_) == len(clusterer.outlier_scores_) == 600
    inside = clusterer.labels_ >= 0
    assert inside.mean() > 0.85
    assert adjusted_rand_score(kind[inside], clusterer.labels_[inside]) == 1
    others = np.setdiff1d(np.arange(600), clusterer.fitted_rows_)
    assert (clusterer.labels_[others] == clusterer.predict(X[others])).all()
    for cluster, rows in enumerate(clusterer.exemplar_indices_):
        assert (clusterer.labels_[rows] == cluster).all()


@pytest.mark.parametrize(
    "X",
    [np.ones((40, 3)), np.ones((40, 30)), np.arange(4.0).reshape(2, 2), np.eye(3), np.eye(12)],
    ids=["constant", "constant, wide", "two rows", "three rows", "equal distances"],
)
def test_rows_without_clusters_are_all_noise(X):
    clusterer = EmbeddingClusterer().fit(X)
    assert clusterer.n_clusters_ == 0
    assert (clusterer.labels_ == -1).all()
    assert (clusterer.predict(X) == -1).all()
    assert clusterer.predict_membership(X).shape == (len(X), 0)
    assert clusterer.exemplar_indices_ == []
    assert clusterer.stability().empty
    assert clusterer.cluster_summary()["size"].to_dict() == {-1: len(X)}
    assert np.isfinite(clusterer.outlier_scores_).all()


def test_copies_of_objects_are_clustered():
    X = np.repeat(blobs(n=9, d=3)[0], 20, axis=0)
    clusterer = EmbeddingClusterer(15).fit(X)
    assert clusterer.n_clusters_ == 9
    assert np.isfinite(clusterer.outlier_scores_).all()
    assert (clusterer.predict(X) == clusterer.labels_).all()
    assert np.isfinite(clusterer.predict_membership(X)).all()


def test_real_clusters_are_stable_and_clusters_of_noise_are_not():
    X, _ = blobs()
    clusterer = EmbeddingClusterer().fit(X)
    stability = clusterer.stability(n_resamples=5, random_state=0)
    assert stability.index.tolist() == [0, 1, 2]
    assert (stability > 0.9).all()
    assert stability.equals(clusterer.stability(n_resamples=5, random_state=0))
    assert (clusterer.stability(X, n_resamples=3, random_state=0) > 0.9).all()
    noise = np.random.default_rng(1).normal(size=(150, 2))
    doubtful = EmbeddingClusterer(5).fit(noise)
    assert doubtful.n_clusters_ > 0
    assert doubtful.stability(n_resamples=10, random_state=0).mean() < 0.6


def test_summary_has_size_purity_and_medians(fitted_blobs):
    _, kind, clusterer = fitted_blobs
    labels = np.array(["star", "galaxy", "quasar"], dtype=object)[kind]
    labels[:30] = ""
    catalog = pd.DataFrame({"id": np.arange(150), "mag_r": kind + 20.0, "name": "x"})
    catalog.loc[:10, "mag_r"] = np.nan
    summary = clusterer.cluster_summary(catalog, labels)
    assert summary.index.tolist() == [0, 1, 2, -1]
    assert summary["size"].sum() == 150
    assert summary["fraction"].sum() == pytest.approx(1)
    assert summary["n_labelled"].sum() == 120
    assert (summary["purity"].iloc[:3] == 1).all()
    magnitude = {"star": 20, "galaxy": 21, "quasar": 22}
    expected = summary["majority_class"].iloc[:3].map(magnitude)
    assert summary["median_mag_r"].iloc[:3].tolist() == expected.tolist()
    assert [c for c in summary if c.startswith("median_")] == ["median_mag_r"]
    same = clusterer.cluster_summary(Table.from_pandas(catalog), labels)
    pd.testing.assert_frame_equal(same, summary)


def test_summary_refuses_another_number_of_rows(fitted_blobs):
    _, kind, clusterer = fitted_blobs
    with pytest.raises(ValueError, match="labels has 149 rows, but 150 were fitted"):
        clusterer.cluster_summary(labels=kind[1:])
    with pytest.raises(ValueError, match="catalog has 3 rows, but 150 were fitted"):
        clusterer.cluster_summary({"mag": [1, 2, 3]})


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"min_cluster_size": 1}, "min_cluster_size=1 must be 'auto' or a whole number of at"),
        ({"min_cluster_size": 151}, "min_cluster_size=151 is more than the 150 rows"),
        ({"min_samples": 0}, "min_samples=0 must be 'auto' or a whole number of at least 1"),
        ({"reduce": "tsne"}, "reduce='tsne' must be 'auto', 'umap', 'pca' or None"),
        ({"n_components": 2.5}, "n_components=2.5 must be 'auto' or a whole number"),
        ({"cluster_selection_method": "all"}, "must be 'eom' or 'leaf'"),
        ({"max_cluster_fraction": 80}, "max_cluster_fraction=80 must be above 0 and at most 1"),
        ({"max_rows": True}, "max_rows=True must be a whole number of at least 2"),
    ],
)
def test_wrong_parameters_are_named(params, message):
    with pytest.raises(ValueError, match=message):
        EmbeddingClusterer(**params).fit(blobs()[0])


def test_stability_refuses_other_rows_than_those_fitted(fitted_blobs):
    X, _, clusterer = fitted_blobs
    with pytest.raises(ValueError, match="X has 10 rows, but 150 were fitted"):
        clusterer.stability(X[:10])
    with pytest.raises(ValueError, match="n_resamples=0 must be"):
        clusterer.stability(n_resamples=0)


@pytest.mark.parametrize("way", ["pickle", "joblib"])
def test_a_stored_clusterer_predicts_the_same(fitted_blobs, tmp_path, way):
    X, _, clusterer = fitted_blobs
    if way == "pickle":
        copy = pickle.loads(pickle.dumps(clusterer))
    else:
        joblib.dump(clusterer, tmp_path / "clusterer.joblib")
        copy = joblib.load(tmp_path / "clusterer.joblib")
    assert np.array_equal(copy.predict(X), clusterer.predict(X))
    assert np.array_equal(copy.predict_membership(X), clusterer.predict_membership(X))
    assert copy.stability(n_resamples=2, random_state=0).equals(
        clusterer.stability(n_resamples=2, random_state=0)
    )


def test_a_pipeline_with_a_frozen_encoder_clusters_stamps(survey, fitted):
    stamps, _, _ = survey
    pipeline = make_pipeline(FrozenEstimator(fitted), EmbeddingClusterer(random_state=0))
    labels = pipeline.fit_predict(stamps)
    assert np.array_equal(labels, pipeline[-1].labels_)
    assert np.mean(pipeline.predict(stamps) == labels) > 0.95
    assert len(pipeline.predict(stamps[:5])) == 5
