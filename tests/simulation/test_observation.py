import pytest
import torch

from skastro.simulation import observation
from skastro.simulation.draws import Draws


@pytest.fixture
def points():
    """Return a point of unit light in the middle of each stamp, in two bands."""
    light = torch.zeros(200, 2, 33, 33)
    light[:, :, 16, 16] = 1.0
    return light


def test_the_seeing_keeps_the_light_and_widens_it(points):
    seen = observation.blur(points, Draws(200, 0))
    assert seen.sum((2, 3)).mean() == pytest.approx(1.0, abs=0.02)
    peaks = seen.amax((1, 2, 3))
    assert peaks.max() < 1.0
    assert peaks.min() < 0.2
    assert divmod(int(seen[0, 0].argmax()), 33) == (16, 16)


def test_the_noise_is_what_it_is_said_to_be(points):
    stamps, noise = observation.add_noise(points, Draws(200, 0))
    ratio = stamps[:, :, :12].std((2, 3)) / noise[:, :, 0, 0]  # of the sky
    assert ratio.median() == pytest.approx(1.0, abs=0.25)


def test_some_stamps_have_correlated_noise(points):
    stamps, _ = observation.add_noise(torch.full_like(points, 1e-3), Draws(200, 0))
    residual = stamps - stamps.mean((2, 3), keepdim=True)
    neighbours = (residual[..., 1:] * residual[..., :-1]).mean((1, 2, 3))
    correlation = neighbours / (residual**2).mean((1, 2, 3))
    assert correlation.min() < 0.15
    assert correlation.max() > 0.35


def test_a_few_stamps_have_faults_and_most_have_none():
    clean, noise = torch.zeros(1000, 2, 24, 24), torch.ones(1000, 2, 1, 1)
    spoilt = observation.spoil(clean.clone(), noise, Draws(1000, 0))
    cut = spoilt.isnan().flatten(1).any(1)
    assert 0.01 < cut.float().mean() < 0.06
    touched = (spoilt.nan_to_num(99.0) != 0).flatten(1).any(1)
    assert 0.06 < touched.float().mean() < 0.2
    # a missing edge is missing in all bands, and never the middle of the stamp
    missing = spoilt[cut].isnan()
    assert torch.equal(missing[:, 0], missing[:, 1])
    assert not missing[:, :, 12, 12].any()


def test_neighbours_and_stars_only_add_light(points):
    light = 0.01 * torch.ones_like(points)
    for add in (observation.add_neighbours, observation.add_bright_stars):
        more = add(light, Draws(200, 3)) - light
        assert more.min() > -1e-6
        assert 0 < (more.flatten(1).amax(1) > 0.01).float().mean() < 1
