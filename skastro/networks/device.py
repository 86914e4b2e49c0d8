"""Select the torch device, the precision and the memory settings."""

from __future__ import annotations

import copy
import ctypes
import functools
import hashlib
import json
import os
import platform
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from skastro.networks.convolutions import TrimmedConv2d
from skastro.utils.files import cache_folder

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


PRECISIONS = ("auto", "float32", "bfloat16")
_STAMPS = 16  # of a measurement, which is about the ratio, not the rate
_ROUNDS = 3
_WORTH = 1.1  # less of a gain may be noise

_MEASURING = threading.RLock()
_KNOWN: dict[str, bool] = {}


def uses_bfloat16(
    precision: str,
    network: nn.Module,
    device: str,
    *,
    image_shape: tuple[int, ...],
    training: bool,
) -> bool:
    """Whether to compute in bfloat16.

    ``"auto"`` does so on hardware with bfloat16 products if a step on a few stamps is at least a
    tenth faster so: depthwise convolutions, for one, train slower. What was found is kept in the
    cache folder (``SKASTRO_CACHE``), where the first finding stays, so that later runs, and other
    processes, decide alike. Convolutions over fewer pixels than their padding that are not
    `skastro.networks.convolutions.TrimmedConv2d` never train so, as their gradients are wrong.

    Parameters
    ----------
    precision : {"auto", "float32", "bfloat16"}
    network : nn.Module
    device : str
    image_shape : tuple (bands, height, width)
    training : bool

    Returns
    -------
    uses_bfloat16 : bool

    Raises
    ------
    ValueError
        The precision is unknown, or bfloat16 would give wrong gradients.
    """
    if precision not in PRECISIONS:
        raise ValueError(f"precision={precision!r} must be 'auto', 'float32' or 'bfloat16'.")
    if precision == "float32" or (precision == "auto" and not _multiplies_bfloat16(device)):
        return False
    wrong = training and device == "cpu" and _pads_beyond_the_image(network, image_shape)
    if precision == "auto":
        return not wrong and _is_faster(network, device, image_shape, training=training)
    if wrong:
        raise ValueError(
            f"precision='bfloat16' gives wrong gradients for stamps of shape {image_shape}, "
            "which this backbone reduces to single pixels: use 'auto' or 'float32'."
        )
    return True


def _multiplies_bfloat16(device: str) -> bool:
    if device.startswith("cuda"):
        return torch.cuda.is_bf16_supported()
    if device == "cpu":
        told: Any = getattr(torch.cpu, "get_capabilities", dict)()  # older torch tells nothing
        return bool(told.get("avx512_bf16", False))
    return True  # it is tried


def _is_faster(
    network: nn.Module, device: str, image_shape: tuple[int, ...], *, training: bool
) -> bool:
    case = _describe(network, device, image_shape, training=training)
    key = hashlib.sha256(json.dumps(case).encode()).hexdigest()[:24]
    with _MEASURING:
        if key not in _KNOWN:
            path = cache_folder() / "precision" / f"{key}.json"
            seconds = _read(path)
            if seconds is None:
                found = measure_seconds(network, device, image_shape, training=training)
                seconds = _keep(path, found, case)
            _KNOWN[key] = seconds["float32"] > _WORTH * seconds["bfloat16"]
        return _KNOWN[key]


def _describe(
    network: nn.Module, device: str, image_shape: tuple[int, ...], *, training: bool
) -> dict[str, object]:
    processor = platform.processor() or platform.machine()
    name = torch.cuda.get_device_name(device) if device.startswith("cuda") else processor
    return {
        "torch": torch.__version__,
        "device": [device, name, torch.backends.cpu.get_cpu_capability()],
        "image_shape": list(image_shape),
        "training": training,
        "network": repr(getattr(network, "backbone", network)),  # whatever the head
    }


def measure_seconds(
    network: nn.Module, device: str, image_shape: tuple[int, ...], *, training: bool
) -> dict[str, float]:
    """Time a step on a few stamps in both precisions; the network stays as it is.

    Parameters
    ----------
    network : nn.Module
    device : str
    image_shape : tuple (bands, height, width)
    training : bool
        Whether gradients belong to the step.

    Returns
    -------
    seconds : dict of str to float
        Of "float32" and "bfloat16", the fastest of a few rounds each; infinite where the network
        cannot be run so.
    """
    net = copy.deepcopy(network).to(device).to(memory_format=torch.channels_last).train(training)
    stamps = torch.ones(_STAMPS, *image_shape, device=device)
    stamps = stamps.contiguous(memory_format=torch.channels_last)
    seconds = {"float32": float("inf"), "bfloat16": float("inf")}
    with torch.random.fork_rng():  # dropout draws
        for _ in range(1 + _ROUNDS):  # in the first, kernels are chosen and memory is asked for
            for name, fastest in seconds.items():
                duration = _time_step(net, stamps, bfloat16=name == "bfloat16", training=training)
                seconds[name] = min(fastest, duration)
    return seconds


def _time_step(net: nn.Module, stamps: Tensor, *, bfloat16: bool, training: bool) -> float:
    kind = stamps.device.type
    start = time.perf_counter()
    try:
        autocast = torch.autocast(kind, torch.bfloat16, enabled=bfloat16)
        with torch.set_grad_enabled(training), autocast:
            loss = net(stamps).float().square().mean()
        if training:
            loss.backward()
            net.zero_grad()
    except RuntimeError:
        if not bfloat16:
            raise
        return float("inf")
    if kind != "cpu":
        getattr(torch, kind).synchronize()
    return time.perf_counter() - start


def _read(path: Path) -> dict[str, float] | None:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))["seconds"]
        return {name: float(found[name]) for name in ("float32", "bfloat16")}
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _keep(path: Path, seconds: dict[str, float], case: dict[str, object]) -> dict[str, float]:
    """Write a finding unless another process was first, and return the one that holds.

    Where the folder cannot be written to, it holds for this process.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=path.parent)
        try:
            with os.fdopen(handle, "w", encoding="utf-8") as file:
                json.dump({"seconds": seconds, **case}, file, indent=1)
            Path(path).hardlink_to(temporary)  # fails if the file is there; a rename would not
        finally:
            Path(temporary).unlink()
    except OSError:
        pass
    return _read(path) or seconds


def _pads_beyond_the_image(network: nn.Module, image_shape: tuple[int, ...]) -> bool:
    """Whether a convolution that cannot be trimmed sees no more pixels than its padding.

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
    untrimmed = [conv for conv in convolutions if not isinstance(conv, TrimmedConv2d)]
    hooks = [conv.register_forward_pre_hook(note) for conv in untrimmed]
    was_training = network.training
    try:
        with torch.inference_mode():
            network.eval()(torch.zeros(1, *image_shape))
    finally:
        network.train(was_training)
        for hook in hooks:
            hook.remove()
    return any(found)


def check_device(device: str) -> None:
    """Refuse a device that torch does not know or does not find."""
    if device == "auto":
        return
    try:
        torch.zeros(1, device=device)
    except Exception as error:  # torch raises many kinds, of many lines
        raise ValueError(
            f"device={device!r} is not there: choose cpu, or cuda or mps where there is one."
        ) from error


def use_cores(jobs: int | None) -> None:
    """Let torch compute on so many cores."""
    if jobs is not None:
        torch.set_num_threads(jobs)
