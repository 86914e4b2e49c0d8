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

from skastro.networks.augmentation import turned_views
from skastro.networks.convolutions import fold_network
from skastro.networks.device import keep_memory, resolve_device, to_device, uses_bfloat16
from skastro.stamps.arrays import read_ahead

# The folded copy of each network, after the device, the shape of stamps and the versions of the
# weights that it was made for.
_FOLDED: weakref.WeakKeyDictionary[nn.Module, tuple[Any, nn.Module]] = weakref.WeakKeyDictionary()
_FOLDING = threading.Lock()


def prepare_for_inference(network: nn.Module) -> None:
    """Move a network to the CPU, in evaluation mode and channels-last memory order."""
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
    progress: Callable[[int], None] | None = None,
) -> NDArray[np.float32]:
    """Run a network over all stamps, a batch at a time.

    Parameters
    ----------
    network : nn.Module
        Is not changed: a copy with folded batch norms computes on the device.
    images : array-like of shape (n, bands, height, width)
        A lazy array is read one batch ahead.
    output : callable
        Called with the network and raw pixels (batch, bands, height, width); returns (batch, d).
    average_views : bool
        Whether to return the mean over the `turned_views` of each stamp.
    progress : callable, default=None
        Called after each batch with the number of stamps that are done.

    Returns
    -------
    result : float32 array of shape (n, d)
    """
    keep_memory()
    device = resolve_device(device)
    shape = tuple(images.shape[1:])
    bfloat16 = uses_bfloat16(precision, network, device, image_shape=shape, training=False)
    folded = _fold_once(network, device, shape)
    starts = range(0, len(images), batch_size)
    batches = read_ahead(images, (slice(start, start + batch_size) for start in starts))
    result: Any = None
    autocast = torch.autocast(torch.device(device).type, torch.bfloat16, enabled=bfloat16)
    with torch.inference_mode(), autocast:
        for start, stamps in zip(starts, batches, strict=True):
            batch = to_device(torch.from_numpy(_fill_batch(stamps, batch_size)), device)
            views = turned_views(batch) if average_views else iter([batch])
            views = (view.contiguous(memory_format=torch.channels_last) for view in views)
            outputs = [output(folded, view).float() for view in views]
            mean = sum(outputs[1:], outputs[0]) / len(outputs)
            if result is None:  # joining a list at the end would need twice the memory
                result = np.empty((len(images), mean.shape[1]), np.float32)
            result[start : start + len(stamps)] = mean[: len(stamps)].cpu().numpy()
            if progress is not None:
                progress(start + len(stamps))
    return result


def _fold_once(network: nn.Module, device: str, image_shape: tuple[int, ...]) -> nn.Module:
    """Return the folded copy of a network, made anew when its weights have changed."""
    tensors = itertools.chain(network.parameters(), network.buffers())
    key = device, image_shape, [(tensor.data_ptr(), tensor._version) for tensor in tensors]  # noqa: SLF001
    with _FOLDING, torch.no_grad():
        cached = _FOLDED.get(network)
        if cached is not None and cached[0] == key:
            return cached[1]
        folded = fold_network(network.cpu().eval(), image_shape)
        folded = folded.to(device).to(memory_format=torch.channels_last)
        _FOLDED[network] = key, folded
        return folded


def _fill_batch(stamps: NDArray[np.float32], batch_size: int) -> NDArray[np.float32]:
    """Repeat the first stamp up to a whole batch.

    Convolutions round differently for other batch sizes. With whole batches the numbers of a
    stamp do not depend on how many stamps there are.
    """
    missing = batch_size - len(stamps)
    return np.concatenate([stamps, np.repeat(stamps[:1], missing, axis=0)]) if missing else stamps
