import numpy as np
import pytest
import torch

from skastro import make_galaxies
from skastro.simulation.draws import Draws
from skastro.simulation.galaxies import GALAXY_KINDS, GALAXY_PROPERTIES, simulate_galaxies


@pytest.fixture(scope="module")
def galaxies():
    return make_galaxies(300, image_size=48)


def test_the_stamps_and_their_truth_belong_together(galaxies):
    assert galaxies.images.shape == (300, 3, 48, 48)
    assert galaxies.images.dtype == np.float32
    assert list(galaxies.truth) == list(GALAXY_PROPERTIES)
    assert galaxies.truth.attrs["units"]["inclination"] == "deg"
    assert set(galaxies.target) == set(GALAXY_KINDS) == set(galaxies.target_names)


def test_the_truth_lies_in_its_range_and_has_what_a_kind_has(galaxies):
    truth, target = galaxies.truth, galaxies.target
    shares = [
        "bulge_fraction", "arm_strength", "flocculence", "bar", "ring", "clumpiness", "dust",
        "lopsidedness", "perturbation", "axis_ratio", "merging",
    ]  # fmt: skip
    assert truth[shares].min().min() >= 0
    assert truth[shares].max().max() <= 1
    assert (truth.loc[target == "elliptical", "bulge_fraction"] > 0.4).all()
    assert truth.loc[target == "elliptical", "inclination"].isna().all()
    assert (truth.loc[target != "spiral", "arm_strength"] == 0).all()
    assert truth.loc[truth["arm_strength"] < 0.2, "pitch_angle"].isna().all()
    assert truth["pitch_angle"].notna().any()
    irregular, elliptical = (truth["youth"][target == k] for k in ("irregular", "elliptical"))
    assert irregular.min() > elliptical.max()


def test_the_same_seed_gives_the_same_galaxies():
    one, two = (make_galaxies(3, image_size=16, random_state=5) for _ in range(2))
    other = make_galaxies(3, image_size=16, random_state=6)
    np.testing.assert_array_equal(one.images, two.images)
    assert not np.array_equal(one.images, other.images)


@pytest.mark.parametrize("bands", [1, 2, 4, 6])
def test_any_number_of_bands(bands):
    images = make_galaxies(4, image_size=16, bands=bands).images
    assert images.shape == (4, bands, 16, 16)


def test_pictures_are_8_bit_and_not_black():
    images = make_galaxies(20, image_size=32, pictures=True).images
    assert images.dtype == np.uint8
    assert images.max() > 150


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"n_galaxies": 0}, "n_galaxies"),
        ({"image_size": 8}, "image_size"),
        ({"bands": 7}, "bands=7 must be at most 6"),
        ({"bands": 1, "pictures": True}, "3 for pictures"),
    ],
)
def test_impossible_requests_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        make_galaxies(**{"n_galaxies": 2, **arguments})


def test_young_galaxies_are_bluer():
    fluxes, truth = simulate_galaxies(Draws(300, 1), 32)
    colour = torch.log(fluxes[:, 0].sum((1, 2)) / fluxes[:, 2].sum((1, 2)))  # blue over red
    youth = truth["youth"]
    assert colour[youth > 0.7].mean() > colour[youth < 0.2].mean() + 0.4


def test_disturbed_galaxies_are_lopsided():
    _, truth = simulate_galaxies(Draws(300, 1), 32)
    disturbed = truth["perturbation"] > 0.5
    assert truth["lopsidedness"][disturbed].mean() > 2 * truth["lopsidedness"][~disturbed].mean()


def test_half_the_light_is_within_the_half_light_radius():
    fluxes, truth = simulate_galaxies(Draws(100, 2), 64)
    round_ones = (truth["axis_ratio"] > 0.95) & (truth["merging"] == 0)
    light = fluxes[round_ones].mean(1)
    pixel = (torch.arange(64) + 0.5) / 32 - 1
    r = torch.sqrt(pixel**2 + pixel[:, None] ** 2)
    inside = (light * (r < truth["half_light_radius"][round_ones][:, None, None])).sum((1, 2))
    assert (inside / light.sum((1, 2))).median() == pytest.approx(0.5, abs=0.06)
