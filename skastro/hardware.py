"""What the machine offers a network: its device, its precision, and memory that stays at hand."""

from __future__ import annotations

import ctypes
import functools
import platform

import torch
from torch import Tensor, nn

# glibc returns large blocks to the system after each batch, only to ask for them again: keeping
# them makes training and embedding a third faster. The parameters are those of mallopt(3).
_MALLOC_TRIM_THRESHOLD, _MALLOC_TOP_PAD, _MALLOC_MMAP_MAX = -1, -2, -4
_KEPT_BYTES = 2**31 - 1


def resolve_device(device: str) -> str:
    """Return the torch device that ``device`` names; "auto" prefers CUDA, then MPS."""
    if device != "auto":
        return device
    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"


def uses_bfloat16(
    precision: str,
    network: nn.Module,
    device: str,
    *,
    trained_on: tuple[int, int, int] | None = None,
) -> bool:
    """Whether to compute in bfloat16.

    ``"auto"`` does so in training on hardware with bfloat16 products, unless the network has
    depthwise convolutions, which train slower so, or convolutions over fewer pixels than their
    padding, whose gradients are wrong so; embeddings stay float32.

    Parameters
    ----------
    precision : {"auto", "float32", "bfloat16"}
    network : nn.Module
    device : str
    trained_on : tuple (bands, height, width), default=None
        Shape of the stamps in training; None when embedding.
    """
    if precision not in ("auto", "float32", "bfloat16"):
        raise ValueError(f"precision={precision!r} must be 'auto', 'float32' or 'bfloat16'.")
    if precision == "bfloat16":
        if device == "cpu" and trained_on and _pads_beyond_the_image(network, trained_on):
            raise ValueError(
                f"precision='bfloat16' gives wrong gradients for stamps of shape {trained_on}, "
                "which this backbone reduces to single pixels: use 'auto' or 'float32'."
            )
        return True
    if precision == "float32" or trained_on is None or device == "mps":
        return False
    if device.startswith("cuda"):
        return torch.cuda.is_bf16_supported()
    depthwise = any(isinstance(m, nn.Conv2d) and m.groups > 1 for m in network.modules())
    able = bool(torch.cpu.get_capabilities().get("avx512_bf16", False))
    return able and not depthwise and not _pads_beyond_the_image(network, trained_on)


def _pads_beyond_the_image(network: nn.Module, image_shape: tuple[int, int, int]) -> bool:
    """Whether a convolution sees no more pixels than its padding.

    Some of its weights then multiply nothing but padding, and oneDNN leaves their bfloat16
    gradient as it finds the memory (seen with torch 2.14.1 on AVX512-BF16).
    """
    found = []

    def note(conv: nn.Conv2d, inputs: tuple[Tensor, ...]) -> None:
        padding = conv.padding
        if isinstance(padding, str):
            same = padding == "same"
            padding = tuple(
                same * d * (k - 1) // 2
                for k, d in zip(conv.kernel_size, conv.dilation, strict=True)
            )
        sides = inputs[0].shape[2:]
        found.append(any(p >= side for p, side in zip(padding, sides, strict=True)))

    convolutions = [m for m in network.modules() if isinstance(m, nn.Conv2d)]
    hooks = [conv.register_forward_pre_hook(note) for conv in convolutions]
    was_training = network.training
    try:
        with torch.inference_mode():
            network.eval()(torch.zeros(1, *image_shape))
    finally:
        network.train(was_training)
        for hook in hooks:
            hook.remove()
    return any(found)


@functools.cache
def keep_memory() -> None:
    """Keep glibc, where it is in use, from returning freed blocks to the system."""
    if platform.libc_ver()[0] != "glibc":
        return
    libc = ctypes.CDLL(None)
    libc.mallopt(_MALLOC_MMAP_MAX, 0)
    libc.mallopt(_MALLOC_TRIM_THRESHOLD, _KEPT_BYTES)
    libc.mallopt(_MALLOC_TOP_PAD, 2**26)
