"""Run a trained network over stamps, a batch at a time."""

from __future__ import annotations

import itertools
import threading
import weakref
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from skastro.networks.augmentation import dihedral_views
from skastro.networks.convolutions import fold_network
from skastro.networks.device import keep_memory, resolve_device, to_device, uses_bfloat16
from skastro.stamps.arrays import read_ahead

# copies made ready to run, each with the marks of the weights it was made from
_READY: weakref.WeakKeyDictionary[nn.Module, tuple[Any, nn.Module]] = weakref.WeakKeyDictionary()
_MAKING_READY = threading.Lock()


def prepare_for_inference(network: nn.Module) -> None:
    """Put a network on the CPU, in evaluation mode, in the memory order it computes in."""
    network.cpu().eval().to(memory_format=torch.channels_last)


def run(
    network: nn.Module,
    images: Any,
    output: Callable[[Any, Tensor], Tensor],
    *,
    batch_size: int,
    average_views: bool,
    device: str = "auto",
    precision: str = "auto",
) -> NDArray[np.float32]:
    """Run a network over all stamps, a batch at a time.

    Parameters
    ----------
    network : nn.Module
        Stays as it is: a copy computes, with its batch norms folded, on the device.
    images : array-like of shape (n, bands, height, width)
        Lazy ones are read a batch ahead.
    output : callable
        Network and raw pixels (batch, bands, height, width) to what is wanted (batch, d).
    batch_size : int
    average_views : bool
        Whether the result is the mean over the symmetries of the frame.
    device, precision : str, default="auto"

    Returns
    -------
    result : float32 array of shape (n, d)
    """
    keep_memory()
    device = resolve_device(device)
    shape = tuple(images.shape[1:])
    bfloat16 = uses_bfloat16(precision, network, device, image_shape=shape, training=False)
    ready = _ready(network, device, shape)
    starts = range(0, len(images), batch_size)
    batches = read_ahead(images, (slice(start, start + batch_size) for start in starts))
    result: Any = None
    autocast = torch.autocast(torch.device(device).type, torch.bfloat16, enabled=bfloat16)
    with torch.inference_mode(), autocast:
        for start, stamps in zip(starts, batches, strict=True):
            batch = to_device(torch.from_numpy(_filled_up(stamps, batch_size)), device)
            views = dihedral_views(batch) if average_views else iter([batch])
            outputs = [output(ready, _channels_last(view)).float() for view in views]
            mean = sum(outputs[1:], outputs[0]) / len(outputs)
            if result is None:  # filled in place: a list of parts would be there twice at the end
                result = np.empty((len(images), mean.shape[1]), np.float32)
            result[start : start + len(stamps)] = mean[: len(stamps)].cpu().numpy()
    return result


def _ready(network: nn.Module, device: str, image_shape: tuple[int, ...]) -> nn.Module:
    """Return a copy of a network that computes fast, made anew when its weights have changed."""
    tensors = itertools.chain(network.parameters(), network.buffers())
    marks = device, image_shape, [(tensor.data_ptr(), tensor._version) for tensor in tensors]  # noqa: SLF001
    with _MAKING_READY:
        known = _READY.get(network)
        if known is None or known[0] != marks:
            known = marks, _make_ready(network, device, image_shape)
            _READY[network] = known
    return known[1]


def _make_ready(network: nn.Module, device: str, image_shape: tuple[int, ...]) -> nn.Module:
    with torch.no_grad():
        ready = fold_network(network.cpu().eval(), image_shape)
        return ready.to(device).to(memory_format=torch.channels_last)


def _filled_up(stamps: NDArray[np.float32], batch_size: int) -> NDArray[np.float32]:
    """Repeat the first stamp up to a whole batch.

    Convolutions take other paths, and round otherwise, for other batch sizes: so the numbers
    of a stamp do not depend on how many are asked for.
    """
    missing = batch_size - len(stamps)
    return np.concatenate([stamps, np.repeat(stamps[:1], missing, axis=0)]) if missing else stamps


def _channels_last(stamps: Tensor) -> Tensor:
    return stamps.contiguous(memory_format=torch.channels_last)
