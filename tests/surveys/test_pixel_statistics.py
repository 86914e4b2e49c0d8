import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy.ndimage import gaussian_filter

from skastro.surveys.pixel_statistics import LEVELS, choose_rows, measure_pixels, take_quantiles

Y, X = np.mgrid[:24, :24] - 11.5


@pytest.fixture(scope="module")
def stamps():
    rng = np.random.default_rng(0)
    source = np.exp(-(X**2 + Y**2) / (2 * 1.5**2)) / (2 * np.pi * 1.5**2)
    flux = np.array([100.0, 300.0])[:, None, None]
    noise = rng.normal(size=(200, 2, 24, 24)) * np.array([0.5, 1.0])[:, None, None]
    return (flux * source + noise + 7).astype(np.float32)


def median(stamps):
    return {name: np.nanmedian(values, axis=0) for name, values in measure_pixels(stamps).items()}


def test_what_is_put_in_is_measured(stamps):
    found = median(stamps)
    assert_allclose(found["sky"], 7, atol=0.05)
    assert_allclose(found["noise"], [0.5, 1.0], rtol=0.03)
    assert_allclose(found["noise_share"], [1 / 3, 2 / 3], rtol=0.03)
    assert_allclose(found["flux"], [97, 291], rtol=0.03)  # a circle of 4 pixels has 97 %
    assert_allclose(found["colour"], [0.25, 0.75], rtol=0.03)
    assert found["correlation"] == pytest.approx(0, abs=0.01)
    assert found["size"] == pytest.approx(1.177 * 1.5, rel=0.1)


def test_a_unit_a_sky_and_a_blur_change_what_they_should(stamps):
    before, unit, sky = (median(x) for x in (stamps, stamps * 10, stamps + 3))
    for name in ("noise", "flux", "sky"):
        assert_allclose(unit[name], 10 * before[name], rtol=1e-3)
    for name in ("noise_share", "colour", "correlation", "size"):
        assert_allclose(unit[name], before[name], rtol=1e-2, atol=1e-3)
    assert_allclose(sky["sky"], before["sky"] + 3, rtol=1e-4)
    assert_allclose(sky["flux"], before["flux"], rtol=1e-2)
    blurred = median(gaussian_filter(stamps, (0, 0, 1, 1)))
    assert blurred["correlation"] > 0.6
    assert blurred["size"] > 1.1 * before["size"]


@pytest.mark.filterwarnings("ignore:All-NaN slice")  # of the medians of this test
def test_missing_pixels_are_left_out(stamps):
    holes = stamps.copy()
    holes[:, 0] = np.nan
    holes[:, 1, :3] = np.nan
    found = median(holes)
    assert np.isnan([found[name][0] for name in ("sky", "noise", "flux")]).all()
    assert found["noise"][1] == pytest.approx(1, rel=0.05)
    assert np.isfinite(found["correlation"])


@pytest.mark.parametrize("shape", [(30, 1, 3, 3), (30, 2, 4, 9)])
def test_tiny_stamps_have_statistics(shape):
    found = measure_pixels(np.random.default_rng(0).normal(size=shape))
    assert {len(values) for values in found.values()} == {30}
    assert np.isfinite(found["noise"]).all()


def test_large_stamps_are_fewer():
    assert len(choose_rows((10_000, 3, 400, 400))) == 200
    assert len(choose_rows((10_000, 3, 200, 200))) == 559


def test_quantiles_leave_out_what_is_not_finite():
    values = np.append(np.arange(101.0), [np.nan, np.inf])
    assert_allclose(take_quantiles(values), 100 * LEVELS)
