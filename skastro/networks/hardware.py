"""What the machine offers a network: its device, and memory that stays at hand."""

from __future__ import annotations

import ctypes
import functools
import os
import platform

import torch
from torch import Tensor

# glibc returns large blocks to the system after each batch, only to ask for them again: keeping
# them makes training and embedding a third faster. The parameters are those of mallopt(3).
_MALLOC_TRIM_THRESHOLD, _MALLOC_TOP_PAD, _MALLOC_MMAP_MAX = -1, -2, -4
_KEPT_BYTES = 2**31 - 1

# the threads of GNU OpenMP do not live on in a forked process, which would wait for them for ever
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=functools.partial(torch.set_num_threads, 1))


def resolve_device(device: str) -> str:
    """Return the torch device that ``device`` names; "auto" prefers CUDA, then MPS."""
    if device != "auto":
        return device
    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"


def to_device(stamps: Tensor, device: str) -> Tensor:
    """Bring a batch (n, bands, height, width) to a device, channels last.

    Copies to CUDA start from pinned memory, so that they run beside the computation.
    """
    if device.startswith("cuda"):
        stamps = stamps.pin_memory()
    return stamps.to(device, non_blocking=True, memory_format=torch.channels_last)


@functools.cache
def keep_memory() -> None:
    """Keep glibc, where it is in use, from returning freed blocks to the system."""
    if platform.libc_ver()[0] != "glibc":
        return
    libc = ctypes.CDLL(None)
    libc.mallopt(_MALLOC_MMAP_MAX, 0)
    libc.mallopt(_MALLOC_TRIM_THRESHOLD, _KEPT_BYTES)
    libc.mallopt(_MALLOC_TOP_PAD, 2**26)
