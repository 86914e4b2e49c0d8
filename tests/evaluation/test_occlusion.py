import numpy as np
import pytest

from skastro.evaluation import occlusion
from skastro.evaluation.occlusion import cover, occlude


def flux_of_band(number):
    def predict(stamps):
        flux = stamps[:, number].max(axis=(1, 2))
        return np.column_stack([flux, 1 - flux])

    return predict


@pytest.fixture
def stamp():
    stamp = np.zeros((2, 24, 24), np.float32)
    stamp[:, 6:8, 15:17] = 1
    return stamp


def test_the_map_shows_the_pixels_and_the_band_that_count(stamp):
    where, bands = occlude(flux_of_band(1), stamp, 0)
    assert where.shape == (24, 24)
    assert where[6:8, 15:17].min() == where.max() >= 0.5
    assert where[14:].max() == where[:, :10].max() == 0
    assert bands[1, 6, 15] >= 0.5
    assert bands[0].max() == 0
    against, _ = occlude(flux_of_band(1), stamp, 1)
    np.testing.assert_allclose(against, -where, atol=1e-6)


def test_few_stamps_at_a_time_give_the_same(stamp, monkeypatch):
    whole = occlude(flux_of_band(0), stamp, 0)
    monkeypatch.setattr(occlusion, "_MAX_PIXELS", 1)
    for ours, theirs in zip(occlude(flux_of_band(0), stamp, 0), whole, strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_stamps_that_are_not_square_are_not_turned(stamp):
    seen = set()

    def predict(stamps):
        seen.add(stamps.shape[1:])
        return flux_of_band(0)(stamps)

    where, _ = occlude(predict, stamp[:, :20], 0)
    assert seen == {(2, 20, 24)}
    assert where[6:8, 15:17].min() == where.max() >= 0.5


def test_a_patch_gets_what_is_around_it():
    slope = np.broadcast_to(np.arange(20, dtype=np.float32), (1, 20, 20)).copy()
    covered = cover(slope, slice(8, 12), slice(8, 12))
    np.testing.assert_allclose(covered[0, 8:12, 8:12], slope[0, 8:12, 8:12], atol=1.5)
    assert (covered == np.rint(covered)).all()  # as all pixels of the stamp are
    outside = np.ones((20, 20), bool)
    outside[8:12, 8:12] = False
    np.testing.assert_array_equal(covered[0][outside], slope[0][outside])


def test_unknown_pixels_fill_nothing():
    stamp = np.full((1, 12, 12), 3, np.float32)
    stamp[0, 4:8, 3] = np.nan
    covered = cover(stamp, slice(4, 8), slice(4, 8))
    np.testing.assert_allclose(covered[0, 4:8, 4:8], 3, rtol=1e-5)
    assert np.isnan(covered[0, 4:8, 3]).all()
    # without any pixel nearby, the median of the stamp
    stamp[0, :9, :9], stamp[0, 9:] = np.nan, 7
    assert cover(stamp, slice(0, 2), slice(0, 2))[0, 0, 0] == 7
