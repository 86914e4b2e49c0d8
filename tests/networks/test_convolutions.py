import itertools

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrize
from torch.nn.utils.parametrizations import weight_norm

from skastro.networks.convolutions import (
    TrimmedConv2d,
    TurnedConv2d,
    TurnedNorm,
    fold_network,
    trim_convolutions,
)
from tests.networks.with_statistics import network

KERNELS = [(1, 1), (2, 2), (3, 3), (1, 3), (5, 5), (7, 7)]
SIDES = [(1, 1), (1, 4), (2, 2), (2, 3), (7, 7)]

PADDINGS = [0, 1, (0, 1), 2, 3, "same", "valid"]
PADDINGS_AND_STRIDES = [(p, s) for p in PADDINGS for s in (1, 2, 3) if p != "same" or s == 1]


def pair(*options, **more):
    """Return a convolution and the same, trimmed."""
    whole = nn.Conv2d(*options, **more)
    trimmed = TrimmedConv2d(*options, **more)
    trimmed.load_state_dict(whole.state_dict())
    return whole, trimmed


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel lengths")
@pytest.mark.parametrize(("padding", "stride"), PADDINGS_AND_STRIDES)
@pytest.mark.parametrize("dilation", [1, 2])
def test_a_trimmed_convolution_gives_the_same_numbers_and_gradients(padding, dilation, stride):
    torch.manual_seed(0)
    tried = 0
    for kernel, side in itertools.product(KERNELS, SIDES):
        options = {"stride": stride, "padding": padding, "dilation": dilation, "groups": 2}
        whole, trimmed = pair(4, 6, kernel, **options)
        maps = torch.randn(2, 4, *side)
        try:
            expected = whole(maps)
        except RuntimeError:  # a kernel larger than the padded image
            with pytest.raises(RuntimeError):
                trimmed(maps)
            continue
        tried += 1
        result = trimmed(maps)
        torch.testing.assert_close(result, expected, rtol=1e-4, atol=1e-5)
        expected.square().sum().backward()
        result.square().sum().backward()
        close = {"rtol": 1e-3, "atol": 1e-4}
        torch.testing.assert_close(trimmed.weight.grad, whole.weight.grad, **close)
        torch.testing.assert_close(trimmed.bias.grad, whole.bias.grad, **close)
    assert tried > len(KERNELS)


@pytest.mark.parametrize(
    ("side", "stride", "size", "padding"),
    [
        ((1, 1), 1, (1, 1), (0, 0, 0, 0)),
        ((2, 2), 2, (2, 2), (0, 0, 0, 0)),
        ((1, 2), 1, (1, 3), (1, 1, 0, 0)),
        ((2, 2), 1, (3, 3), (1, 1, 1, 1)),
    ],
)
def test_only_weights_that_meet_pixels_are_used(side, stride, size, padding):
    conv = TrimmedConv2d(4, 4, 3, stride=stride, padding=1)
    weight, remaining = conv.trimmed(*side)
    assert (tuple(weight.shape[2:]), remaining) == (size, padding)
    assert (weight is conv.weight) == (size == (3, 3))


@pytest.mark.parametrize(("side", "stride"), [(1, 1), (2, 2)])
def test_gradients_of_weights_that_meet_padding_are_zero_in_bfloat16(side, stride):
    conv = TrimmedConv2d(64, 64, 3, stride=stride, padding=1)
    for _ in range(3):  # uninitialised memory would differ
        conv.zero_grad()
        with torch.autocast("cpu", torch.bfloat16):
            conv(torch.randn(8, 64, side, side)).float().square().mean().backward()
        unmet = torch.ones(3, 3, dtype=torch.bool)
        unmet[1 : 1 + side, 1 : 1 + side] = False
        assert (conv.weight.grad[:, :, unmet] == 0).all()
        assert (conv.weight.grad[:, :, ~unmet] != 0).any()


class OtherConv2d(nn.Conv2d):
    """A convolution of another package."""


def test_convolutions_of_other_kinds_stay_as_they_are():
    round_about = nn.Conv2d(3, 3, 3, padding=1, padding_mode="circular")
    net = nn.Sequential(nn.Conv2d(3, 3, 3), round_about, OtherConv2d(3, 3, 3))
    assert trim_convolutions(net) is net
    assert [type(part) for part in net] == [TrimmedConv2d, nn.Conv2d, OtherConv2d]


def norms(net):
    return sum(isinstance(part, nn.BatchNorm2d) for part in net.modules())


@pytest.mark.parametrize(
    "backbone", ["stamp_resnet10", "resnet10t", "resnet18", "densenet121", "efficientnet_b0"]
)
def test_batch_norms_are_folded_without_changing_the_numbers(backbone):
    stamps = torch.randn(4, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    net = network(backbone, (3, 32, 32))
    before, expected = norms(net), net(stamps)
    folded = fold_network(net, (3, 32, 32))
    assert norms(folded) < before
    torch.testing.assert_close(folded(stamps), expected, rtol=1e-4, atol=1e-4)


def test_weights_with_a_parametrization_are_folded_and_stay_trainable():
    net = nn.Sequential(weight_norm(nn.Conv2d(3, 8, 3)), nn.BatchNorm2d(8), nn.ReLU()).eval()
    stamps = torch.randn(4, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    expected = net(stamps)
    with torch.no_grad():
        folded = fold_network(net, (3, 8, 8))
    assert norms(folded) == 0
    torch.testing.assert_close(folded(stamps), expected)
    assert parametrize.is_parametrized(net[0])
    torch.testing.assert_close(net(stamps), expected, rtol=0, atol=0)


def turn_fields(maps, turns):
    """Turn maps, and the channels of each field with them."""
    fields = maps.unflatten(1, (-1, 4)).roll(turns, 2).flatten(1, 2)
    return fields.rot90(turns, (2, 3))


@pytest.mark.parametrize("turns", [1, 2, 3])
@pytest.mark.parametrize("kernel", [3, 4])
def test_a_turned_map_gives_turned_outputs(turns, kernel):
    stamps = torch.randn(2, 5, 8, 8, generator=torch.Generator().manual_seed(0))
    lift, conv = TurnedConv2d(5, 3, kernel, lifting=True), TurnedConv2d(3, 2, kernel, padding=1)
    norm = TurnedNorm(2)
    norm.running_mean.normal_()
    norm.running_var.uniform_(1, 2)
    network = nn.Sequential(lift, nn.ReLU(), conv, norm).eval()
    with torch.no_grad():
        outputs, turned = network(stamps), network(stamps.rot90(turns, (2, 3)))
    torch.testing.assert_close(turned, turn_fields(outputs, turns))
    assert not torch.allclose(turned, outputs.rot90(turns, (2, 3)), atol=0.1)


def test_folding_turns_shared_weights_into_plain_convolutions():
    net = network("turned_resnet18", (3, 32, 32))
    for part in net.modules():
        if isinstance(part, TurnedNorm):
            part.running_mean.normal_(std=0.1)
    stamps = torch.randn(4, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        folded, expected = fold_network(net, (3, 32, 32)), net(stamps)
    assert norms(folded) == 0
    assert not any(isinstance(part, TurnedConv2d) for part in folded.modules())
    torch.testing.assert_close(folded(stamps), expected, rtol=1e-4, atol=1e-4)


def test_the_statistics_of_a_field_are_the_means_over_its_turns():
    maps = torch.randn(8, 8, 4, 4, generator=torch.Generator().manual_seed(0)) + torch.arange(
        8
    ).reshape(-1, 1, 1)
    norm, usual = TurnedNorm(2).train(), nn.BatchNorm2d(8).train()
    torch.testing.assert_close(norm(maps), usual(maps))
    torch.testing.assert_close(norm.running_mean, usual.running_mean.reshape(2, 4).mean(1))
    torch.testing.assert_close(norm.running_var, usual.running_var.reshape(2, 4).mean(1))


class WithAndWithoutNorm(nn.Module):
    """A network that uses the output of its convolution with and without the norm."""

    def __init__(self):
        super().__init__()
        self.convolution, self.norm = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)

    def forward(self, stamps):
        maps = self.convolution(stamps)
        return self.norm(maps) + maps


def test_a_norm_that_cannot_be_folded_stays():
    net = network(WithAndWithoutNorm(), (3, 16, 16))
    assert norms(fold_network(net, (3, 16, 16))) == 1


def count(net):
    return sum(parameter.numel() for parameter in net.parameters())


def test_weights_that_meet_padding_alone_are_left_out_for_good():
    net = network("resnet18", (3, 32, 32))
    assert count(fold_network(net, (3, 32, 32))) < 0.5 * count(net)
    assert count(net) == count(network("resnet18", (3, 64, 64)))  # which stays whole


class Twice(nn.Module):
    """A network with one convolution, on maps of two sizes."""

    def __init__(self):
        super().__init__()
        self.convolution = nn.Conv2d(3, 3, 3, padding=1)

    def forward(self, stamps):
        one = nn.functional.adaptive_avg_pool2d(stamps, 1)
        return self.convolution(one) + self.convolution(stamps)


def test_a_convolution_on_maps_of_two_sizes_is_not_trimmed():
    net = network(Twice(), (3, 8, 8))
    assert count(fold_network(net, (3, 8, 8))) == count(net)


@pytest.fixture
def two_threads():
    """Let torch compute in two threads, in which bfloat16 has a gradient of its own."""
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def count_products(conv, maps):
    """Return whether the gradient of the weights is computed as a matrix product."""
    with torch.autocast("cpu", torch.bfloat16):
        return type(conv(maps).grad_fn).__name__ == "_ConvolutionBackward"


@pytest.mark.usefixtures("two_threads")
@pytest.mark.parametrize(
    ("side", "kernel", "stride", "padding"),
    [
        ((8, 8), 3, 1, 1), ((8, 8), 3, 2, 1), ((9, 6), 3, 2, 1), ((2, 2), 3, 1, 1),
        ((1, 1), 3, 1, 1), ((16, 16), (3, 7), (2, 3), (0, 3)), ((7, 7), 3, 1, "same"),
    ],
)  # fmt: skip
def test_gradients_by_products_are_those_of_float32(side, kernel, stride, padding):
    torch.manual_seed(0)
    whole, trimmed = pair(6, 12, kernel, stride=stride, padding=padding, bias=False)
    trimmed.to(memory_format=torch.channels_last)
    maps = torch.randn(16, 6, *side, requires_grad=True)
    others = maps.detach().clone(memory_format=torch.channels_last).requires_grad_()
    assert count_products(trimmed, others)
    expected = whole(maps)
    factors = torch.randn_like(expected)
    (expected * factors).sum().backward()
    with torch.autocast("cpu", torch.bfloat16):
        result = trimmed(others)
    (result.float() * factors).sum().backward()
    assert trimmed.weight.grad.dtype == torch.float32
    for one, other in ((trimmed.weight, whole.weight), (others, maps)):
        error = (one.grad - other.grad).abs().max() / other.grad.abs().max()
        assert error < 0.01  # bfloat16 has three digits


@pytest.mark.usefixtures("two_threads")
def test_products_are_for_training_in_bfloat16_on_small_maps_alone():
    _, conv = pair(32, 8, 3, padding=1, bias=False)
    small, large = torch.randn(2, 32, 8, 8), torch.randn(2, 32, 16, 16)
    assert count_products(conv, small)
    assert not count_products(conv, large)
    assert count_products(pair(5, 8, 3, padding=1, bias=False)[1], large[:, :5])  # a first layer
    assert not count_products(pair(32, 8, 1, bias=False)[1], small)
    assert not count_products(pair(32, 8, 3, padding=1, groups=2, bias=False)[1], small)
    assert type(conv(small).grad_fn).__name__ == "ConvolutionBackward0"  # float32
    assert not count_products(conv.eval(), small)
    torch.set_num_threads(1)
    assert not count_products(conv.train(), small)
