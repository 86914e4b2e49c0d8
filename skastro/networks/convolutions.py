"""Networks that compute less for the same result: trimmed convolutions, folded batch norms."""

from __future__ import annotations

import copy

from torch import Tensor, nn, ones
from torch.nn import functional
from torch.nn.utils.fusion import fuse_conv_bn_eval

_ROUNDING = 1e-3  # folding is refused where it changes more

Padding = tuple[int, int, int, int]  # left, right, top, bottom, as torch wants it


class TrimmedConv2d(nn.Conv2d):
    """A convolution without those of its weights that meet nothing but padding.

    Deep networks reduce small stamps to maps of a pixel or two, on which most of a 3 x 3 kernel
    multiplies zeros: 62 % of the weights of timm's ``resnet18`` on 32 pixels. Here their gradient
    is zero, where oneDNN leaves it in bfloat16 as it finds the memory (torch 2.14.1).

    Its parameters are those of ``torch.nn.Conv2d`` and stay whole: a call takes what it needs.
    """

    def forward(self, maps: Tensor) -> Tensor:
        """Map (n, in, height, width) to (n, out, ...), as ``torch.nn.Conv2d`` does."""
        weight, padding = self.trimmed(*maps.shape[2:])
        if weight is self.weight:
            return super().forward(maps)
        if any(padding):
            maps = functional.pad(maps, padding)
        return functional.conv2d(
            maps, weight, self.bias, self.stride, 0, self.dilation, self.groups
        )

    def trimmed(self, height: int, width: int) -> tuple[Tensor, Padding]:
        """Return the weights that meet pixels of a map, and the padding that is left for them.

        The weight is the parameter itself where all of it is wanted.
        """
        rows, top, bottom = self._met(0, height)
        columns, left, right = self._met(1, width)
        whole = (rows.stop - rows.start, columns.stop - columns.start) == self.kernel_size
        weight = self.weight if whole else self.weight[:, :, rows, columns]
        return weight, (left, right, top, bottom)

    def _met(self, axis: int, side: int) -> tuple[slice, int, int]:
        """Return the taps of an axis that meet pixels, and the padding before and behind."""
        kernel, stride, dilation = (
            parts[axis] for parts in (self.kernel_size, self.stride, self.dilation)
        )
        before, behind = self._padding(axis)
        reach = dilation * (kernel - 1)
        starts = range(-before, side + behind - reach, stride)
        met = [t for t in range(kernel) if any(0 <= s + t * dilation < side for s in starts)]
        if len(met) in {0, kernel}:
            return slice(0, kernel), before, behind
        first, last = met[0], met[-1]
        left = before - first * dilation
        return slice(first, last + 1), left, starts[-1] + last * dilation + 1 - side

    def _padding(self, axis: int) -> tuple[int, int]:
        if not isinstance(self.padding, str):
            return self.padding[axis], self.padding[axis]
        reach = self.dilation[axis] * (self.kernel_size[axis] - 1)
        return (reach // 2, reach - reach // 2) if self.padding == "same" else (0, 0)


def trim_convolutions(network: nn.Module) -> nn.Module:
    """Make a network's convolutions `TrimmedConv2d`, in place: weights and outputs stay.

    Convolutions of other classes, and those that pad with anything but zeros, stay as they are.

    Parameters
    ----------
    network : nn.Module

    Returns
    -------
    network : nn.Module
        The same.

    Examples
    --------
    >>> trim_convolutions(nn.Sequential(nn.Conv2d(5, 8, 3, padding=1)))
    Sequential(
      (0): TrimmedConv2d(5, 8, kernel_size=(3, 3), stride=(1, 1), padding=(1, 1))
    )
    """
    for part in network.modules():
        if type(part) is nn.Conv2d and part.padding_mode == "zeros":
            part.__class__ = TrimmedConv2d
    return network


def fold_network(network: nn.Module, image_shape: tuple[int, ...]) -> nn.Module:
    """Fold batch norms into the convolutions whose output they take, and trim these for good.

    Parameters
    ----------
    network : nn.Module
        In evaluation mode, on the CPU; stays as it is.
    image_shape : tuple (bands, height, width)
        Of the stamps it will see.

    Returns
    -------
    network : nn.Module
        A copy that gives the same, to rounding.
    """
    stamp = ones(1, *image_shape)
    folded = copy.deepcopy(network)
    for convolution, name in _find_norms(folded, stamp):
        parent, leaf = folded.get_submodule(name.rpartition(".")[0]), name.rpartition(".")[2]
        norm = getattr(parent, leaf)
        fused = fuse_conv_bn_eval(convolution, norm)
        convolution.weight, convolution.bias = fused.weight, fused.bias
        setattr(parent, leaf, getattr(norm, "act", nn.Identity()))  # timm's have an activation
    _cut_for_good(folded, stamp)
    expected = network(stamp)
    error = (folded(stamp) - expected).abs().max()
    # it would be, if a convolution were used twice, or if something else took its output
    return folded if error <= _ROUNDING * expected.abs().max() else copy.deepcopy(network)


def _find_norms(network: nn.Module, stamp: Tensor) -> list[tuple[nn.Conv2d, str]]:
    """Find convolutions and the names of the batch norms that take their output as it is.

    Found by running the network: tracing it would disturb those that run in other threads.
    """
    made: list[tuple[nn.Conv2d, Tensor]] = []
    found: list[tuple[nn.Conv2d, str]] = []
    hooks = []
    for name, part in network.named_modules():
        if isinstance(part, nn.Conv2d):
            hooks.append(
                part.register_forward_hook(lambda conv, _, output: made.append((conv, output)))
            )
        elif isinstance(part, nn.BatchNorm2d) and part.track_running_stats:

            def note(_: nn.Module, inputs: tuple[Tensor, ...], name: str = name) -> None:
                found.extend((conv, name) for conv, output in made if output is inputs[0])

            hooks.append(part.register_forward_pre_hook(note))
    network(stamp)
    for hook in hooks:
        hook.remove()
    return found


def _cut_for_good(network: nn.Module, stamp: Tensor) -> None:
    """Leave weights that meet padding alone out, where nothing is left to pad: each call would."""

    def cut(conv: TrimmedConv2d, inputs: tuple[Tensor, ...]) -> None:
        weight, padding = conv.trimmed(*inputs[0].shape[2:])
        if weight is not conv.weight and not any(padding):
            conv.weight = nn.Parameter(weight.contiguous(), conv.weight.requires_grad)
            conv.kernel_size, conv.padding = (weight.shape[2], weight.shape[3]), (0, 0)

    trimmed = [part for part in network.modules() if isinstance(part, TrimmedConv2d)]
    hooks = [part.register_forward_pre_hook(cut) for part in trimmed]
    network(stamp)
    for hook in hooks:
        hook.remove()
