"""Run a trained network over stamps, a batch at a time."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from skastro._validation import read_stamps
from skastro.augmentation import dihedral_views
from skastro.hardware import keep_memory, resolve_device, uses_bfloat16


def prepare_for_inference(network: nn.Module) -> None:
    """Put a network on the CPU, in evaluation mode, in the memory order it computes in."""
    network.cpu().eval().to(memory_format=torch.channels_last)


def run(
    network: nn.Module,
    images: Any,
    output: Callable[[nn.Module, Tensor], Tensor],
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
    images : array-like of shape (n, bands, height, width)
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
    network = network.to(device)
    bfloat16 = uses_bfloat16(precision, network, device)
    kind = torch.device(device).type
    result = None
    with torch.inference_mode(), torch.autocast(kind, torch.bfloat16, enabled=bfloat16):
        for start in range(0, len(images), batch_size):
            stamps = read_stamps(images, slice(start, start + batch_size))
            batch = torch.from_numpy(_filled_up(stamps, batch_size)).to(device)
            views = dihedral_views(batch) if average_views else iter([batch])
            outputs = [output(network, _channels_last(view)).float() for view in views]
            mean = sum(outputs) / len(outputs)
            if result is None:  # filled in place: a list of parts would be there twice at the end
                result = np.empty((len(images), mean.shape[1]), np.float32)
            result[start : start + len(stamps)] = mean[: len(stamps)].cpu().numpy()
    return result


def _filled_up(stamps: NDArray[np.float32], batch_size: int) -> NDArray[np.float32]:
    """Repeat the first stamp up to a whole batch.

    Convolutions take other paths, and round otherwise, for other batch sizes: so the numbers
    of a stamp do not depend on how many are asked for.
    """
    missing = batch_size - len(stamps)
    return np.concatenate([stamps, np.repeat(stamps[:1], missing, axis=0)]) if missing else stamps


def _channels_last(stamps: Tensor) -> Tensor:
    return stamps.contiguous(memory_format=torch.channels_last)
