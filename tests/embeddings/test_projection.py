"""Projections are repeatable, keep groups together, and name wrong input."""

import os
import subprocess
import sys

import numpy as np
import pytest
from sklearn.neighbors import KNeighborsClassifier

import skastro.embeddings.projection
from skastro import Projection, project_embedding

METHODS = ["pca", "tsne", "umap"]


@pytest.fixture(scope="module")
def embedding():
    """Return three groups of 40 rows in 60 columns, and which is which."""
    kind = np.arange(120) % 3
    noise = np.random.default_rng(0).normal(size=(120, 60))
    return (noise + 10 * np.eye(60)[kind]).astype(np.float32), kind


@pytest.mark.parametrize("method", METHODS)
def test_groups_stay_together(embedding, method):
    E, kind = embedding
    projection = project_embedding(E, method=method, random_state=0)
    assert isinstance(projection, Projection)
    assert projection.coordinates.shape == (120, 2)
    assert projection.coordinates.dtype == np.float32
    assert projection.method == method
    neighbors = KNeighborsClassifier(3).fit(projection.coordinates, kind)
    assert neighbors.score(projection.coordinates, kind) > 0.95
    assert 0.6 < projection.trustworthiness <= 1


@pytest.mark.parametrize("method", METHODS)
def test_the_same_seed_gives_the_same_numbers(embedding, method):
    E, _ = embedding
    before = np.random.get_state()[1].copy()  # noqa: NPY002 - this generator must stay as it is
    first, second = (project_embedding(E, method=method, random_state=4) for _ in range(2))
    assert np.array_equal(first.coordinates, second.coordinates)
    assert first.trustworthiness == second.trustworthiness
    assert first.params["seed"] == 4
    assert np.array_equal(before, np.random.get_state()[1])  # noqa: NPY002


def test_another_seed_gives_other_numbers(embedding):
    E, _ = embedding
    first, second = (project_embedding(E, method="umap", random_state=s) for s in (0, 1))
    assert not np.array_equal(first.coordinates, second.coordinates)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("shape", [(4, 3), (7, 1), (30, 2)])
def test_few_rows_and_columns_are_projected(method, shape):
    E = np.random.default_rng(0).normal(size=shape)
    projection = project_embedding(E, method=method, random_state=0)
    assert projection.coordinates.shape == (shape[0], 2)
    assert np.isfinite(projection.coordinates).all()
    assert 0 <= projection.trustworthiness <= 1


@pytest.mark.parametrize("method", METHODS)
def test_copies_of_objects_are_projected(method):
    E = np.repeat(np.random.default_rng(0).normal(size=(20, 8)), 5, axis=0)
    assert np.isfinite(project_embedding(E, method=method, random_state=0).coordinates).all()


def test_perplexity_is_lower_for_few_rows(embedding):
    E, _ = embedding
    assert project_embedding(E, random_state=0).params["perplexity"] == pytest.approx(119 / 3)
    assert project_embedding(E[:31], random_state=0).params["perplexity"] == pytest.approx(10)


def test_trust_is_measured_on_a_sample_and_falls_for_a_shuffled_plane(monkeypatch, embedding):
    E, _ = embedding
    honest = project_embedding(E, method="pca")
    shuffled = np.random.default_rng(0).permutation(honest.coordinates)
    measure = skastro.embeddings.projection._measure_trust
    assert measure(E, shuffled, 0) < honest.trustworthiness - 0.1
    monkeypatch.setattr(skastro.embeddings.projection, "_MAX_TRUST_ROWS", 60)
    sampled = measure(E, honest.coordinates, 0)
    assert sampled != honest.trustworthiness
    assert abs(sampled - honest.trustworthiness) < 0.15


@pytest.mark.parametrize(
    ("E", "params", "message"),
    [
        (np.eye(5), {"method": "isomap"}, "method='isomap' must be 'tsne', 'umap' or 'pca'"),
        (np.eye(3), {}, "minimum of 4 is required"),
        (np.ones((6, 3)), {}, "same values in every row"),
        (np.full((6, 3), np.nan), {}, "E contains NaN"),
        (np.eye(5), {"perplexity": 0}, "perplexity=0 must be positive"),
        (np.eye(5), {"method": "umap", "n_neighbors": 1}, "n_neighbors=1 must be at least 2"),
        (np.eye(5), {"method": "umap", "min_dist": -1}, "min_dist=-1 must be between 0 and 1"),
    ],
)
def test_wrong_input_is_named(E, params, message):
    with pytest.raises(ValueError, match=message):
        project_embedding(E, **params)


def test_a_missing_package_is_named_with_its_extra(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "openTSNE", None)
    with pytest.raises(ImportError, match=r"needs openTSNE.*skastro\[projection\]"):
        project_embedding(np.eye(6))


@pytest.mark.slow  # a new process, in which numba is not yet started
def test_the_threads_of_torch_stay_as_they_were():
    pytest.importorskip("umap")
    code = (
        "import numpy as np, torch; torch.set_num_threads(1)\n"
        "from skastro import EmbeddingClusterer\n"
        "E = np.random.default_rng(0).normal(size=(150, 20))\n"
        "EmbeddingClusterer(reduce='umap', random_state=0).fit(E)\n"
        "print(torch.get_num_threads())"
    )
    run = subprocess.run(  # noqa: S603 - our own code
        [sys.executable, "-W", "ignore", "-c", code],
        env={**os.environ, "OMP_NUM_THREADS": "2"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert run.stdout.strip() == "1"
