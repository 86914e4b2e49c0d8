import math

import pytest
import torch

from skastro.networks.teacher import (
    StampPlanes,
    TeacherNetwork,
    subtract_sky,
    teacher_loss,
)


def source(n=1, size=64, sigma=8.0, bands=3, height=100.0):
    """Return Gaussian sources on a flat sky of 10."""
    pixel = torch.arange(size) + 0.5 - size / 2
    light = torch.exp(-0.5 * (pixel**2 + pixel[:, None] ** 2) / sigma**2)
    return (10 + height * light).expand(n, bands, size, size).clone()


def test_the_sky_is_that_of_the_border_whatever_is_missing():
    stamps = source()
    stamps[:, :, :5] = torch.nan
    fluxes, _ = subtract_sky(stamps)
    assert fluxes.isfinite().all()
    assert fluxes[0, 0, -1, 0] == pytest.approx(0.0, abs=0.1)
    assert fluxes[0, 0, 32, 32] == pytest.approx(100.0, rel=0.02)
    assert (fluxes[:, :, :5] == 0).all()


def test_the_noise_is_measured_on_the_border():
    noisy = source(50) + 3 * torch.randn(50, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    assert subtract_sky(noisy)[1].mean() == pytest.approx(3.0, rel=0.1)


@pytest.mark.parametrize("factor", [1e-6, 1.0, 1e6])
def test_planes_do_not_depend_on_the_unit(factor):
    expected, scalars = StampPlanes(48)(source())
    planes, other_scalars = StampPlanes(48)(source() * factor)
    torch.testing.assert_close(planes, expected, atol=1e-3, rtol=1e-3)
    torch.testing.assert_close(scalars, other_scalars, atol=1e-2, rtol=1e-2)


@pytest.mark.parametrize("shape", [(1, 1), (3, 5), (20, 40), (64, 64), (150, 150)])
@pytest.mark.parametrize("bands", [1, 2, 3, 5, 12])
def test_stamps_of_any_shape_become_planes(bands, shape):
    planes, scalars = StampPlanes(16)(torch.rand(2, bands, *shape))
    assert planes.shape == (2, 3, 16, 16)
    assert scalars.shape == (2, 3)
    assert planes.isfinite().all()
    assert scalars.isfinite().all()


def test_stamps_without_any_value_are_dark():
    for value in (torch.nan, 0.0, 7.0):
        planes, scalars = StampPlanes(16)(torch.full((1, 3, 20, 20), value))
        assert (planes == 0).all()
        assert scalars.isfinite().all()


def test_a_small_source_is_enlarged():
    small, large = StampPlanes(64)(source(sigma=2.0)), StampPlanes(64)(source(sigma=12.0))
    assert small[1][0, 0].exp() > 2
    assert large[1][0, 0] == 0
    width = [(planes[0, 0, 32] > 0.5).sum().item() for planes in (small[0], large[0])]
    assert width[0] > 12  # it would be 6 pixels wide


def test_the_planes_are_blue_middle_and_red():
    red = source()
    red[:, 2] += 2 * (red[:, 2] - 10)
    blue, middle, reddest = StampPlanes(64)(red)[0][0, :, 32, 32].tolist()
    assert blue == pytest.approx(middle)
    assert reddest > middle + 0.2


def test_the_depth_of_a_stamp_is_known():
    noise = torch.randn(20, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    shallow, deep = (StampPlanes(32)(source(20) + sigma * noise)[1] for sigma in (10.0, 1.0))
    difference = 3 * (deep[:, 1] - shallow[:, 1]).mean()
    assert difference.item() == pytest.approx(math.log(10), abs=0.4)


def test_many_bands_are_averaged_to_three_colours():
    three = source()
    three[:, 0] *= 2
    three[:, 2] *= 3
    nine = three.repeat_interleave(3, dim=1)
    torch.testing.assert_close(StampPlanes(32)(nine), StampPlanes(32)(three))


def test_one_band_has_no_colour():
    planes, _ = StampPlanes(32)(source(bands=1))
    assert torch.equal(planes[:, 0], planes[:, 1])
    assert torch.equal(planes[:, 0], planes[:, 2])
    assert planes.max() > 0.9


def test_the_network_gives_values_spreads_and_kinds():
    network = TeacherNetwork("stamp_resnet10", 16, n_values=4, n_kinds=3).eval()
    outputs = network(torch.rand(5, 2, 24, 24))
    values, spread, logits = network.split(outputs)
    assert (values.shape, spread.shape, logits.shape) == ((5, 4), (5, 4), (5, 3))
    features = network.embed(torch.rand(5, 2, 24, 24))
    assert features.shape == (5, network.head.in_features)


def test_the_loss_ignores_unknown_values_and_rewards_an_honest_spread():
    kinds, logits = torch.tensor([0, 1]), torch.zeros(2, 2)
    values = torch.tensor([[1.0, torch.nan], [1.0, torch.nan]])
    mean = torch.tensor([[0.0, 5.0], [0.0, -5.0]], requires_grad=True)

    def loss(log_spread):
        spread = torch.full((2, 2), log_spread)
        return teacher_loss((mean, spread, logits), values, kinds, kind_weight=0.0)

    gradient = torch.autograd.grad(loss(0.0), mean)[0]
    assert (gradient[:, 1] == 0).all()
    assert (gradient[:, 0] < 0).all()
    # the error is 1: at a spread of 1 the likelihood has its minimum, weights left aside
    assert loss(0.0) < loss(1.0)
    with_kinds = teacher_loss((mean, torch.zeros(2, 2), logits), values, kinds, kind_weight=1.0)
    assert (with_kinds - loss(0.0)).item() == pytest.approx(0.693, abs=1e-3)
