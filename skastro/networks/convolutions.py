"""Convolutions that share or leave out weights, and batch norms folded into convolutions."""

from __future__ import annotations

import copy
import math
from contextlib import ExitStack
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.grad import conv2d_input
from torch.nn.utils import parametrize
from torch.nn.utils.fusion import fuse_conv_bn_eval

_MAX_FOLDING_ERROR = 1e-3  # share of the largest output; a larger error is not due to rounding
# limits of `_Convolution`, which would be slower than oneDNN above both of them
_MAX_PRODUCT_PIXELS = 64  # of a map of outputs
_MAX_PRODUCT_CHANNELS = 16  # of the inputs: those of a first layer
N_TURNS = 4  # quarter turns, over which a `TurnedConv2d` shares its weights


class _Convolution(torch.autograd.Function):
    """A convolution without padding whose gradient of the weights is a matrix product.

    For this gradient the threads of oneDNN wait for each other several times in each stamp, on
    small maps and in first layers, and keep their cores busy meanwhile: in bfloat16, beside another
    busy process, one layer takes a hundred times as long as in one thread (torch 2.14.1).
    """

    @staticmethod
    def forward(ctx: Any, maps: Tensor, weight: Tensor, stride: tuple[int, ...]) -> Tensor:
        ctx.save_for_backward(maps, weight)
        ctx.stride = stride
        return functional.conv2d(maps, weight, None, stride)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor, None]:
        maps, weight = ctx.saved_tensors
        of_maps = None
        if ctx.needs_input_grad[0]:
            of_maps = conv2d_input(  # type: ignore[no-untyped-call]
                maps.shape, weight, gradient, ctx.stride
            )
        # the windows of all outputs (n * height * width, rows * columns * in), channels last
        n_out, n_in, rows, columns = weight.shape
        windows = maps.permute(0, 2, 3, 1).unfold(1, rows, ctx.stride[0])
        windows = windows.unfold(2, columns, ctx.stride[1]).permute(0, 1, 2, 4, 5, 3)
        windows = windows.reshape(-1, rows * columns * n_in)
        of_outputs = gradient.permute(0, 2, 3, 1).reshape(-1, n_out)
        of_weight = (of_outputs.t() @ windows).reshape(n_out, rows, columns, n_in)
        return of_maps, of_weight.permute(0, 3, 1, 2), None


class TrimmedConv2d(nn.Conv2d):
    """A convolution that leaves out the weights that are multiplied by padding alone.

    Deep networks reduce small stamps to maps of a pixel or two, on which most of a 3 x 3 kernel
    multiplies zeros: 62 % of the weights of timm's ``resnet18`` on 32 pixels. Here the gradient of
    these weights is zero; in bfloat16 oneDNN leaves it uninitialised (torch 2.14.1). The
    parameters are those of ``torch.nn.Conv2d`` and stay whole; each call uses a part of them.
    """

    def forward(self, maps: Tensor) -> Tensor:
        """Map (n, in, height, width) to (n, out, ...), as ``torch.nn.Conv2d`` does."""
        weight, padding = self.trimmed(*maps.shape[2:])
        by_product = self._waits_in_threads(maps)
        if weight is self.weight and not by_product:
            return super().forward(maps)
        if any(padding):
            maps = functional.pad(maps, padding)
        if by_product:
            result: Tensor = _Convolution.apply(maps.bfloat16(), weight.bfloat16(), self.stride)
            return result
        return functional.conv2d(
            maps, weight, self.bias, self.stride, 0, self.dilation, self.groups
        )

    def _waits_in_threads(self, maps: Tensor) -> bool:
        """Whether the threads of oneDNN would wait for each other, see `_Convolution`."""
        pixels = maps.shape[2] * maps.shape[3] // (self.stride[0] * self.stride[1])
        return (
            self.training
            and torch.is_grad_enabled()
            and maps.device.type == "cpu"
            and torch.is_autocast_enabled("cpu")
            and torch.get_autocast_dtype("cpu") is torch.bfloat16
            and torch.get_num_threads() > 1
            and self.kernel_size != (1, 1)
            and (self.bias, self.groups, self.dilation) == (None, 1, (1, 1))
            and (pixels <= _MAX_PRODUCT_PIXELS or self.in_channels <= _MAX_PRODUCT_CHANNELS)
        )

    def trimmed(self, height: int, width: int) -> tuple[Tensor, tuple[int, int, int, int]]:
        """Return the weights that meet pixels of a map, and the padding that these still need.

        If all weights do, they are the parameter itself. The padding is (left, right, top, bottom).
        """
        rows, top, bottom = self._trim_axis(0, height)
        columns, left, right = self._trim_axis(1, width)
        whole = (rows.stop - rows.start, columns.stop - columns.start) == self.kernel_size
        weight = self.weight if whole else self.weight[:, :, rows, columns]
        return weight, (left, right, top, bottom)

    def _trim_axis(self, axis: int, side: int) -> tuple[slice, int, int]:
        """Return the kernel elements of an axis that meet pixels, and the padding on both sides."""
        kernel, stride, dilation = self.kernel_size[axis], self.stride[axis], self.dilation[axis]
        before, after = _padding_of(self)[axis]
        starts = range(-before, side + after - dilation * (kernel - 1), stride)
        met = [t for t in range(kernel) if any(0 <= s + t * dilation < side for s in starts)]
        if len(met) in {0, kernel}:
            return slice(0, kernel), before, after
        first, last = met[0], met[-1]
        after = starts[-1] + last * dilation + 1 - side
        return slice(first, last + 1), before - first * dilation, after


def _padding_of(conv: nn.Conv2d) -> tuple[tuple[int, int], tuple[int, int]]:
    """Return the padding above and below, and on the left and right."""
    left, right, top, bottom = conv._reversed_padding_repeated_twice  # noqa: SLF001 - "same" in pixels
    return (top, bottom), (left, right)


def trim_convolutions(network: nn.Module) -> nn.Module:
    """Make a network's convolutions `TrimmedConv2d`, in place, and return the network.

    Convolutions of other classes, and those that pad with anything but zeros, stay as they are.

    Examples
    --------
    >>> trim_convolutions(nn.Conv2d(5, 8, 3, padding=1))
    TrimmedConv2d(5, 8, kernel_size=(3, 3), stride=(1, 1), padding=(1, 1))
    """
    for part in network.modules():
        if type(part) is nn.Conv2d and part.padding_mode == "zeros":
            part.__class__ = TrimmedConv2d  # the lazy modules of torch change their class, too
    return network


class TurnedConv2d(nn.Module):
    """A convolution that is equivariant to quarter turns (Cohen & Welling 2016, arXiv:1602.07576).

    Its channels are fields of four: what a kernel sees in a map, and what its three turns see. A
    turned map gives turned outputs, in another order within each field. So there are a quarter of
    the weights, and a mean over the fields does not depend on how the stamp is turned.

    Parameters
    ----------
    in_fields, out_fields : int
        Number of fields, or of input channels where ``lifting``.
    kernel_size : int
    stride, padding : int
    lifting : bool, default=False
        Whether the inputs are the bands of stamps, which are no fields.
    """

    def __init__(
        self,
        in_fields: int,
        out_fields: int,
        kernel_size: int,
        *,
        stride: int = 1,
        padding: int = 0,
        lifting: bool = False,
    ) -> None:
        super().__init__()
        self.stride, self.padding, self.lifting = stride, padding, lifting
        n_in = in_fields * (1 if lifting else N_TURNS)
        weight = torch.randn(out_fields, n_in, kernel_size, kernel_size)
        self.weight = nn.Parameter(weight * math.sqrt(2 / weight[0].numel()))

    def forward(self, maps: Tensor) -> Tensor:
        """Map (n, in, height, width) to (n, 4 * out_fields, ...)."""
        weight = self.turned().contiguous(memory_format=torch.channels_last)
        return functional.conv2d(maps, weight, None, self.stride, self.padding)

    def turned(self) -> Tensor:
        """Return the weights of all channels (4 * out_fields, in, rows, columns)."""
        n_out, n_in, *size = self.weight.shape
        fields = self.weight.reshape(n_out, -1, 1 if self.lifting else N_TURNS, *size)
        # a turned kernel sees the channels of a field turned back
        turned = [fields.roll(turns, 2).rot90(turns, (3, 4)) for turns in range(N_TURNS)]
        return torch.stack(turned, 1).reshape(n_out * N_TURNS, n_in, *size)

    def plain(self) -> nn.Conv2d:
        """Return an ordinary convolution that does the same."""
        weight = self.turned().detach()
        conv = nn.Conv2d(
            weight.shape[1], len(weight), weight.shape[2], self.stride, self.padding, bias=False
        )
        conv.weight = nn.Parameter(weight, requires_grad=False)
        return conv.eval()


class TurnedNorm(nn.Module):
    """A batch norm that treats the four channels of a field alike, see `TurnedConv2d`.

    In training each channel has the statistics of the batch, which differ by chance alone.
    """

    running_mean: Tensor
    running_var: Tensor

    def __init__(self, n_fields: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(n_fields))
        self.bias = nn.Parameter(torch.zeros(n_fields))
        self.register_buffer("running_mean", torch.zeros(n_fields))
        self.register_buffer("running_var", torch.ones(n_fields))

    def forward(self, maps: Tensor) -> Tensor:
        """Normalise maps (n, 4 * n_fields, height, width)."""
        own = (self.running_mean, self.running_var, self.weight, self.bias)
        mean, variance, weight, bias = (part.repeat_interleave(N_TURNS) for part in own)
        result = functional.batch_norm(maps, mean, variance, weight, bias, self.training)
        if self.training:
            for kept, updated in ((self.running_mean, mean), (self.running_var, variance)):
                kept.copy_(updated.reshape(-1, N_TURNS).mean(1))
        return result

    def plain(self) -> nn.BatchNorm2d:
        """Return an ordinary batch norm that does the same in evaluation mode."""
        norm = nn.BatchNorm2d(len(self.weight) * N_TURNS, device=self.weight.device).eval()
        state = self.state_dict()
        expanded = {name: part.repeat_interleave(N_TURNS) for name, part in state.items()}
        norm.load_state_dict(expanded, strict=False)
        return norm


def halve(maps: Tensor) -> Tensor:
    """Halve maps (n, channels, height, width) alike from all sides, as strides do not."""
    pools = [(2, 0) if side % 2 == 0 else (3, 1) for side in maps.shape[2:]]
    size, padding = zip(*pools, strict=True)
    return functional.avg_pool2d(maps, size, 2, padding, count_include_pad=False)


def pads_beyond_maps(network: nn.Module, image_shape: tuple[int, ...]) -> bool:
    """Whether a convolution that is not trimmed sees no more pixels than its padding.

    Some of its weights are then multiplied by padding alone, see `TrimmedConv2d`.
    """
    answers: list[bool] = []

    def compare(conv: nn.Conv2d, inputs: tuple[Tensor, ...]) -> None:
        sides = zip(_padding_of(conv), inputs[0].shape[2:], strict=True)
        answers.append(any(max(padding) >= side for padding, side in sides))

    was_training = network.training
    with ExitStack() as hooks, torch.inference_mode():
        hooks.callback(network.train, was_training)
        for conv in network.modules():
            if isinstance(conv, nn.Conv2d) and not isinstance(conv, TrimmedConv2d):
                hooks.enter_context(conv.register_forward_pre_hook(compare))
        network.eval()(torch.zeros(1, *image_shape))
    return any(answers)


def fold_network(network: nn.Module, image_shape: tuple[int, ...]) -> nn.Module:
    """Return a copy of a network with batch norms folded into the convolutions before them.

    Weights that `TrimmedConv2d` leaves out for stamps of ``image_shape`` (bands, height, width)
    are removed for good. The network must be in evaluation mode on the CPU. The outputs stay the
    same, except for rounding.
    """
    stamp = torch.ones(1, *image_shape)
    folded = _compute_weights(copy.deepcopy(network))
    for conv, name in _trim_and_pair(folded, stamp):
        norm: Any = folded.get_submodule(name)
        fused = fuse_conv_bn_eval(conv, norm)
        conv.weight, conv.bias = fused.weight, fused.bias
        parent, _, leaf = name.rpartition(".")
        # the batch norms of timm hold an activation
        setattr(folded.get_submodule(parent), leaf, getattr(norm, "act", nn.Identity()))
    expected = network(stamp)
    error = (folded(stamp) - expected).abs().max()
    # the outputs differ if a convolution is used twice, or if its output is used elsewhere, too
    close = error <= _MAX_FOLDING_ERROR * expected.abs().max()
    return folded if close else copy.deepcopy(network)


def _compute_weights(network: nn.Module) -> nn.Module:
    """Replace shared weights and parametrizations by the weights that they give, in place."""
    for name, part in list(network.named_modules()):
        if isinstance(part, TurnedConv2d | TurnedNorm):
            network.set_submodule(name, part.plain())
        if parametrize.is_parametrized(part):
            weights = {name: getattr(part, name).detach() for name in part.parametrizations}
            # `remove_parametrizations` would change the class, which the network is one of, too
            part.__class__ = parametrize.type_before_parametrizations(part)
            del part.parametrizations
            for key, weight in weights.items():
                part.register_parameter(key, nn.Parameter(weight, requires_grad=False))
    return network


def _trim_and_pair(network: nn.Module, stamp: Tensor) -> list[tuple[nn.Conv2d, str]]:
    """Trim convolutions for good, and pair them with the names of the batch norms after them.

    Both need the sizes and the order of the maps, which hooks see while the network runs. Tracing
    (torch.fx) would disturb networks in other threads, and fails where Python code branches.
    """
    outputs: list[tuple[nn.Conv2d, Tensor]] = []
    pairs: list[tuple[nn.Conv2d, str]] = []

    def trim(conv: TrimmedConv2d, inputs: tuple[Tensor, ...]) -> None:
        weight, padding = conv.trimmed(*inputs[0].shape[2:])
        if weight is not conv.weight and not any(padding):
            conv.weight = nn.Parameter(weight.contiguous(), conv.weight.requires_grad)
            conv.kernel_size, conv.padding = (weight.shape[2], weight.shape[3]), (0, 0)
            conv._reversed_padding_repeated_twice = [0, 0, 0, 0]  # noqa: SLF001

    def pair(_: nn.Module, inputs: tuple[Tensor, ...], name: str) -> None:
        pairs.extend((conv, name) for conv, output in outputs if output is inputs[0])

    with ExitStack() as hooks:
        for name, part in network.named_modules():
            if isinstance(part, TrimmedConv2d):
                hooks.enter_context(part.register_forward_pre_hook(trim))
            if isinstance(part, nn.Conv2d):
                keep = part.register_forward_hook(
                    lambda conv, _, maps: outputs.append((conv, maps))
                )
                hooks.enter_context(keep)
            elif isinstance(part, nn.BatchNorm2d) and part.track_running_stats:
                hooks.enter_context(part.register_forward_pre_hook(partial(pair, name=name)))
        network(stamp)
    return pairs
