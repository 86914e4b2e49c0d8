"""Colour images of three bands."""

import numpy as np
import pandas as pd
import pytest

from skastro import Survey, make_survey, open_stamps, to_rgb
from skastro.stamps.bands import BandArray
from skastro.stamps.rgb import display_bands


def test_rgb_shows_the_reddest_band_in_red():
    stamps = np.random.default_rng(0).normal(size=(3, 5, 16, 16))
    stamps[:, 3, 8, 8] += 200
    rgb = to_rgb(stamps, bands=(3, 2, 1))
    assert rgb.dtype == np.uint8
    assert (rgb[:, 0, 8, 8] > 200).all()
    assert (rgb[:, 1:, 8, 8] < 100).all()


def test_rgb_of_8_bit_images_is_unchanged():
    picture = np.arange(48, dtype=np.uint8).reshape(1, 3, 4, 4)
    np.testing.assert_array_equal(to_rgb(picture, bands=(0, 1, 2)), picture)
    with pytest.raises(ValueError, match="must be three positions below 3"):
        to_rgb(picture, bands=(0, 1, 3))


def test_rgb_takes_bands_by_their_names(tmp_path):
    pixels = np.random.default_rng(0).normal(size=(3, 4, 8, 8))
    np.save(tmp_path / "s.npy", pixels)
    stamps = open_stamps(tmp_path / "s.npy", bands="ugri")
    by_name = to_rgb(stamps, bands=("i", "r", "g"))
    np.testing.assert_array_equal(by_name, to_rgb(pixels, bands=(3, 2, 1)))
    np.testing.assert_array_equal(by_name, to_rgb(stamps, bands="irg"))
    with pytest.raises(ValueError, match="must be three of u, g, r, i, or three positions below 4"):
        to_rgb(stamps, bands="zrg")
    with pytest.raises(ValueError, match="must be three positions below 4"):
        to_rgb(pixels, bands="irg")


def test_a_pixel_empty_in_all_bands_is_black_without_a_warning():
    stamps = np.random.default_rng(0).normal(size=(1, 3, 16, 16))
    stamps[0, :, 5, 5] = np.nan
    assert (to_rgb(stamps)[0, :, 5, 5] == 0).all()


@pytest.mark.parametrize("bands", ["irg", "IRG", ("I", "r", "G"), (2, "R", 0)])
def test_bands_are_found_regardless_of_case(tmp_path, bands):
    pixels = np.random.default_rng(0).normal(size=(3, 3, 8, 8))
    np.save(tmp_path / "s.npy", pixels)
    expected = to_rgb(pixels, bands=(2, 1, 0))
    for names in ("gri", "GRI"):
        stamps = open_stamps(tmp_path / "s.npy", bands=names)
        np.testing.assert_array_equal(to_rgb(stamps, bands=bands), expected)
        survey = Survey(pixels, pd.DataFrame({"id": [1, 2, 3]}), bands=tuple(names))
        np.testing.assert_array_equal(to_rgb(survey.images, bands=bands), expected)


def test_bands_that_differ_in_case_alone_are_two_bands():
    pixels = np.random.default_rng(0).normal(size=(3, 3, 8, 8))
    survey = Survey(pixels, pd.DataFrame({"id": [1, 2, 3]}), bands=("R", "r", "g"))
    rgb = to_rgb(survey.images, bands="rRg")
    np.testing.assert_array_equal(rgb, to_rgb(pixels, bands=(1, 0, 2)))
    with pytest.raises(ValueError, match="bands='rRz' must be three of R, r, g"):
        to_rgb(survey.images, bands="rRz")


def test_the_simulated_survey_knows_its_bands():
    survey = make_survey(4, bands="girz", image_size=16, cache=False)
    rgb = to_rgb(survey.images[1:], bands="irg")
    np.testing.assert_array_equal(rgb, to_rgb(np.asarray(survey.images)[1:], bands=(1, 2, 0)))


@pytest.mark.parametrize(
    ("names", "shown"), [("zirgu", (1, 2, 3)), ("GRIZY", (2, 1, 0)), ("YJHKs", (3, 2, 1))]
)
def test_bands_are_displayed_by_their_names(names, shown):
    images = BandArray.of(np.zeros((1, len(names), 8, 8)), names)
    assert display_bands(images) == shown


def faint_and_bright():
    """Return stamps of noise, and of a red galaxy."""
    stamps = np.random.default_rng(0).normal(size=(20, 3, 32, 32))
    y, x = np.indices((32, 32)) - 15.5
    profile = np.exp(-(x**2 + y**2) / 32)
    stamps[10:] += np.array([10, 20, 60])[:, None, None] * profile
    return stamps


def colorfulness(rgb):
    """Return the mean difference between the largest and the smallest channel."""
    return np.ptp(rgb.astype(float), axis=1).mean()


def test_noise_is_grey_and_a_bright_object_keeps_its_color():
    stamps = faint_and_bright()
    plain, smooth = to_rgb(stamps, color_smoothing=0), to_rgb(stamps)
    assert colorfulness(smooth[:10]) < 0.2 * colorfulness(plain[:10])
    inside = (slice(10, None), slice(None), slice(14, 18), slice(14, 18))
    color, expected = (rgb[inside].mean(axis=(0, 2, 3)) for rgb in (smooth, plain))
    np.testing.assert_allclose(color, expected, atol=8)
    assert color[0] > 2 * color[2]


def test_smoothing_the_colors_keeps_the_brightness():
    stamps = faint_and_bright()[10:, :, 8:24, 8:24]
    plain, smooth = (to_rgb(stamps, color_smoothing=s).mean(axis=1) for s in (0, 1.0))
    assert np.corrcoef(plain.ravel(), smooth.ravel())[0, 1] > 0.98


@pytest.mark.parametrize("color_smoothing", [-1, np.nan])
def test_color_smoothing_is_not_negative(color_smoothing):
    with pytest.raises(ValueError, match=r"color_smoothing=.* must be a number of pixels, or 0"):
        to_rgb(np.zeros((1, 3, 8, 8)), color_smoothing=color_smoothing)
