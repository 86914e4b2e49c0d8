import itertools

import pytest
import torch
from torch import nn

from skastro.networks.convolutions import TrimmedConv2d, fold_network, trim_convolutions
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
