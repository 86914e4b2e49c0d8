import numpy as np
import pytest
from numpy.testing import assert_allclose

from skastro import AsinhScaler
from skastro.stamps.scaling import measure_sky

# sky 0, noise 1: pixel, softening, asinh(pixel / softening)
RESULTS = [
    (0.0, 1.0, 0.0),
    (1.0, 1.0, 0.881373587),
    (-1.0, 1.0, -0.881373587),
    (10.0, 1.0, 2.998222950),
    (1000.0, 1.0, 7.600902710),
    (1.0, 10.0, 0.099834079),
    (1000.0, 10.0, 5.298342366),
    (np.nan, 1.0, np.nan),
]


def unit_scaler(softening):
    scaler = AsinhScaler(softening).fit(np.zeros((1, 1, 4, 4)))
    scaler.sky_, scaler.noise_ = np.zeros(1), np.ones(1)
    return scaler


@pytest.mark.parametrize(("pixel", "softening", "stretched"), RESULTS)
def test_the_stretch_is_asinh_and_has_an_inverse(pixel, softening, stretched):
    scaler = unit_scaler(softening)
    stamp = np.zeros((1, 1, 4, 4))
    stamp[0, 0, 1, 2] = pixel
    result = scaler.transform(stamp)
    assert_allclose(result[0, 0, 1, 2], stretched, rtol=1e-8)
    assert_allclose(scaler.inverse_transform(result), stamp, rtol=1e-12)


@pytest.mark.parametrize(
    ("dtype", "out", "rtol"),
    [("uint8", "f4", 1e-4), ("f2", "f4", 1e-4), (">f4", "f4", 1e-4), ("f8", "f8", 1e-10)],
)
def test_the_inverse_returns_pixels_of_every_dtype(dtype, out, rtol):
    stamps = np.random.default_rng(0).uniform(0, 250, size=(20, 3, 8, 8)).astype(dtype)
    scaler = AsinhScaler().fit(stamps)
    stretched = scaler.transform(stamps)
    assert stretched.dtype == np.dtype(out)
    assert_allclose(scaler.inverse_transform(stretched), stamps.astype("f8"), rtol=rtol, atol=1e-2)


def test_sky_and_noise_of_a_band_do_not_depend_on_sources():
    rng = np.random.default_rng(0)
    stamps = rng.normal([[[[5.0]], [[100.0]]]], [[[[1.0]], [[20.0]]]], size=(300, 2, 16, 16))
    stamps[:, :, 6:10, 6:10] += 1e5
    sky, noise = measure_sky(stamps)
    assert_allclose(sky, [5, 100], atol=0.5)
    assert_allclose(noise, [1, 20], rtol=0.02)


def test_any_linear_unit_gives_the_same_stretch():
    stamps = np.random.default_rng(0).normal(size=(50, 2, 8, 8))
    first = AsinhScaler().fit_transform(stamps)
    assert_allclose(AsinhScaler().fit_transform(stamps * 1e4 + 300), first, atol=1e-8)


def test_missing_pixels_stay_missing_and_do_not_change_the_fit():
    stamps = np.random.default_rng(0).normal(size=(50, 1, 8, 8))
    holed = stamps.copy()
    holed[3, 0, 2:5] = np.nan
    scaler = AsinhScaler().fit(holed)
    assert_allclose(scaler.noise_, AsinhScaler().fit(stamps).noise_, rtol=0.05)
    assert np.isnan(scaler.transform(holed)[3, 0, 2:5]).all()


def test_a_band_without_any_pixel_is_not_scaled():
    stamps = np.ones((4, 2, 8, 8))
    stamps[:, 1] = np.nan
    scaler = AsinhScaler().fit(stamps)
    assert scaler.noise_.tolist() == [1.0, 1.0]


def test_softening_must_be_positive():
    with pytest.raises(ValueError, match="softening=0 must be positive"):
        AsinhScaler(0).fit(np.zeros((2, 1, 4, 4)))


def test_other_bands_and_sizes_than_those_fitted_are_refused():
    scaler = AsinhScaler().fit(np.zeros((2, 5, 8, 8)))
    with pytest.raises(ValueError, match="X has 3 bands, but AsinhScaler was fitted with 5"):
        scaler.transform(np.zeros((2, 3, 8, 8)))
    with pytest.raises(ValueError, match="9 x 9 pixels, but AsinhScaler was fitted with 8 x 8"):
        scaler.transform(np.zeros((2, 5, 9, 9)))
