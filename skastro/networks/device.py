"""Choose the device, the precision and the number of threads; keep freed memory (glibc)."""

from __future__ import annotations

import ctypes
import functools
import os
import platform
from typing import Any

import torch
from threadpoolctl import ThreadpoolController
from torch import Tensor, nn

from skastro.networks.convolutions import pads_beyond_maps
from skastro.utils.files import first_line
from skastro.utils.threads import count_cores

# glibc returns large blocks of memory to the system after each batch, and needs them again for the
# next: keeping them makes training and embedding a third faster. Parameters of mallopt(3):
_MALLOC_TRIM_THRESHOLD, _MALLOC_TOP_PAD, _MALLOC_MMAP_MAX = -1, -2, -4
_MAX_KEPT_BYTES, _EXTRA_BYTES = 2**31 - 1, 2**26

PRECISIONS = ("auto", "float32", "bfloat16")
_CPU_BFLOAT16_UNITS = ("avx512_bf16", "amx_bf16")  # as torch.cpu.get_capabilities names them

# torch counts the cores of the machine, but a container may grant fewer
if not {"OMP_NUM_THREADS", "MKL_NUM_THREADS"} & os.environ.keys():
    torch.set_num_threads(min(torch.get_num_threads(), count_cores()))

# A forked process lacks the threads of GNU OpenMP, and would wait for them for ever.
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=functools.partial(torch.set_num_threads, 1))


def resolve_device(device: str) -> str:
    """Return the torch device that ``device`` names; "auto" prefers CUDA, then MPS.

    A device that torch does not know, or cannot use on this machine, is a ValueError that lists
    the devices of the machine.

    Examples
    --------
    >>> resolve_device("tpu:0")
    Traceback (most recent call last):
    ValueError: device='tpu:0' is not there: this machine has 'cpu'...
    """
    if device == "auto":
        if torch.cuda.is_available():
            return "cuda"
        return "mps" if torch.backends.mps.is_available() else "cpu"
    found = _list_devices()
    try:
        torch.zeros(1, device=torch.device(device)).cpu()
    except Exception as error:  # torch raises many kinds, of many lines
        is_known = str(device) in {*found, *(name.partition(":")[0] for name in found)}
        problem = f"cannot be used ({first_line(error)})" if is_known else "is not there"
        raise ValueError(
            f"device={device!r} {problem}: this machine has {', '.join(map(repr, found))}; "
            "pass one of them, or 'auto'."
        ) from error
    kind = torch.device(device).type
    return kind if kind == "cpu" else str(torch.device(device))


def _list_devices() -> list[str]:
    """Return the names of the devices of this machine."""
    gpus = [f"cuda:{number}" for number in range(torch.cuda.device_count())]
    return ["cpu", *gpus, *(["mps"] if torch.backends.mps.is_available() else [])]


def to_device(stamps: Tensor, device: str) -> Tensor:
    """Move a batch (n, bands, height, width) to a device, channels last.

    Copies to CUDA start from pinned memory, so that the GPU can compute at the same time.
    """
    if device.startswith("cuda"):
        stamps = stamps.pin_memory()
    return stamps.to(device, non_blocking=True, memory_format=torch.channels_last)


def use_cores(jobs: int | None) -> None:
    """Set the number of cores that a command computes on, unless it is None.

    The linear algebra of the probes stays in one thread: those of OpenBLAS keep their cores while
    they wait, and gain little on matrices of this size.
    """
    if jobs is not None:
        torch.set_num_threads(jobs)
    ThreadpoolController().select(internal_api="openblas").limit(limits=1)


@functools.cache
def keep_memory() -> None:
    """Prevent glibc, if it is in use, from returning freed memory to the system."""
    if platform.libc_ver()[0] != "glibc":
        return
    libc = ctypes.CDLL(None)
    libc.mallopt(_MALLOC_MMAP_MAX, 0)
    libc.mallopt(_MALLOC_TRIM_THRESHOLD, _MAX_KEPT_BYTES)
    libc.mallopt(_MALLOC_TOP_PAD, _EXTRA_BYTES)


def uses_bfloat16(
    precision: str,
    network: nn.Module,
    device: str,
    *,
    image_shape: tuple[int, ...],
    training: bool,
) -> bool:
    """Whether to compute in bfloat16.

    ``"auto"`` depends on the hardware and the network only, so a machine always decides alike:

    - CUDA GPUs: bfloat16 if they compute in it without emulation.
    - CPUs: bfloat16 if they have AVX512-BF16 or AMX units. Networks with depthwise convolutions
      embed in it, but train in float32, which is up to twice as fast for them (docs/speed.md).
    - Other devices: float32.

    On CPUs, convolutions that are not `TrimmedConv2d` and see fewer pixels than their padding are
    never trained in bfloat16: their gradients would be wrong (oneDNN in torch 2.14.1).
    ``precision="bfloat16"`` is then a ValueError.
    """
    if precision not in PRECISIONS:
        raise ValueError(f"precision={precision!r} must be 'auto', 'float32' or 'bfloat16'.")
    if precision == "float32" or (precision == "auto" and not _has_bfloat16_units(device)):
        return False
    if not training or device != "cpu":
        return True
    if precision == "auto" and _has_depthwise_convolutions(network):
        return False
    wrong = pads_beyond_maps(network, image_shape)
    if wrong and precision == "bfloat16":
        raise ValueError(
            f"precision='bfloat16' gives wrong gradients for stamps of shape {image_shape}, "
            "which this backbone reduces to single pixels: use 'auto' or 'float32'."
        )
    return not wrong


def _has_bfloat16_units(device: str) -> bool:
    if device.startswith("cuda"):
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if device != "cpu":
        return False
    # torch 2.6 cannot say what the processor has
    capabilities: dict[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()
    return any(capabilities.get(unit, False) for unit in _CPU_BFLOAT16_UNITS)


def _has_depthwise_convolutions(network: nn.Module) -> bool:
    convolutions = (part for part in network.modules() if isinstance(part, nn.Conv2d))
    return any(conv.groups == conv.in_channels > 1 for conv in convolutions)
