import json

import numpy as np
import pandas as pd
import pytest

from skastro.estimators.training_statistics import TrainingStatistics


@pytest.fixture
def parts():
    rng = np.random.default_rng(0)
    spread = np.array([5.0, 3.0] + [1.0] * 18)
    embeddings = (rng.normal(size=(400, 20)) * spread).astype(np.float32)
    return rng.normal(size=(400, 2, 8, 8)), embeddings, pd.DataFrame({"a": rng.normal(size=400)})


def test_distances_take_the_spread_of_each_direction_into_account(parts):
    known = TrainingStatistics.measure(*parts)
    along, across = np.zeros((2, 20))
    along[0] = across[10] = 12.0
    assert known.measure_distances(along[None]) < known.distances[-1]
    assert known.measure_distances(across[None]) > known.distances[-1]
    assert known.distances[7] == pytest.approx(1, abs=0.1)


def test_few_stamps_have_no_directions(parts):
    images, embeddings, residuals = (part[:40] for part in parts)
    known = TrainingStatistics.measure(images, embeddings, residuals)
    assert known.directions.shape == (0, 20)
    assert np.isfinite(known.distances).all()


def test_packed_parts_are_small_and_become_the_same(parts):
    images, embeddings, residuals = parts
    images[:, 1] = np.nan  # a band without pixels
    known = TrainingStatistics.measure(images, embeddings, residuals)
    text = json.dumps(known.pack(), allow_nan=False)
    assert len(text) < 10_000
    other = TrainingStatistics.unpack(json.loads(text), 2, 20)
    assert np.isnan(other.pixels["sky"][:, 1]).all()
    np.testing.assert_allclose(other.pixels["sky"][:, 0], known.pixels["sky"][:, 0], rtol=1e-4)
    np.testing.assert_allclose(
        other.measure_distances(embeddings), known.measure_distances(embeddings), rtol=1e-3
    )
