"""Scores of objects that are unlike all others."""

import numpy as np
import pytest

from skastro import EmbeddingClusterer, outlier_scores


@pytest.fixture
def embeddings():
    """Return 600 rows of 30 columns, as correlated as those of an encoder."""
    rng = np.random.default_rng(0)
    return (rng.normal(size=(600, 30)) * 0.8 ** np.arange(30)) @ np.linalg.qr(
        rng.normal(size=(30, 30))
    )[0]


def test_a_few_oddities_alike_come_first(embeddings):
    embeddings[:12] = embeddings[0] + 4 * embeddings.std() + 0.01 * embeddings[:12]
    scores = outlier_scores(embeddings)
    assert set(scores.argsort()[-12:]) == set(range(12))
    assert scores.dtype == np.float64
    assert np.median(scores) == pytest.approx(1, abs=0.05)


def test_an_oddity_in_a_direction_of_small_variance_is_found(embeddings):
    _, spread, axes = np.linalg.svd(embeddings - embeddings.mean(axis=0), full_matrices=False)
    embeddings[5] += 8 * spread[15] / np.sqrt(len(embeddings)) * axes[15]
    assert outlier_scores(embeddings).argmax() == 5


def test_copies_count_once(embeddings):
    """Many empty stamps are odd, and do not make others odd."""
    embeddings[:100] = 3.0
    scores = outlier_scores(embeddings)
    assert (scores[:100] == scores.max()).all()
    assert scores.max() < 10


@pytest.mark.parametrize("n", [2, 3, 6, 40])
def test_few_or_equal_rows_are_scored(n):
    rows = np.random.default_rng(0).normal(size=(n, 50))
    assert np.isfinite(outlier_scores(rows)).all()
    assert outlier_scores(np.zeros((n, 5))).tolist() == [1.0] * n


def test_columns_of_rounding_noise_do_not_count(embeddings):
    noise = np.random.default_rng(1).normal(scale=1e-7, size=embeddings.shape)
    wide = np.hstack([embeddings[:, :3], noise])
    np.testing.assert_allclose(outlier_scores(wide), outlier_scores(embeddings[:, :3]), rtol=1e-2)


def test_rows_beyond_max_rows_are_compared_with_the_drawn_ones(embeddings):
    embeddings[[7, 300]] += 6 * embeddings.std()
    scores = outlier_scores(embeddings, max_rows=200)
    assert set(scores.argsort()[-2:]) == {7, 300}
    assert np.corrcoef(scores, outlier_scores(embeddings))[0, 1] > 0.8
    np.testing.assert_array_equal(scores, outlier_scores(embeddings, max_rows=200))
    assert not np.array_equal(scores, outlier_scores(embeddings, max_rows=200, random_state=1))


def test_the_clusterer_has_the_same_scores(embeddings):
    clusterer = EmbeddingClusterer(reduce="pca", random_state=3).fit(embeddings)
    np.testing.assert_array_equal(clusterer.outlier_scores_, outlier_scores(embeddings))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"E": [[1.0, np.nan], [2.0, 3.0]]}, "E contains NaN"),
        ({"E": [[1.0, 2.0]]}, "minimum of 2"),
        ({"max_rows": 1}, "max_rows=1 must be a whole number of at least 2"),
    ],
)
def test_bad_arguments_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        outlier_scores(**{"E": np.zeros((4, 2)), **change})
