"""Train one network in several processes, each with its share of every batch.

``torchrun`` starts the processes, and torch's DistributedDataParallel averages their gradients.
Without a process group there is one process, and these functions do nothing.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import distributed, nn

T = TypeVar("T")


@contextmanager
def process_group() -> Iterator[int]:
    """Join the processes that ``torchrun`` has started; fits inside the block share their work.

    Every process runs the same script. In a fit of `PropertyPretrainedEncoder` or
    `SelfSupervisedClassifier`, each process computes a share of every batch, and all processes end
    with the same weights. An existing process group of `torch.distributed` is used without this.

    Yields
    ------
    rank : int
        Number of this process, from 0. Save and print in process 0 only.

    Notes
    -----
    Processes communicate by gloo on the CPU and by NCCL on GPUs, where each process takes the GPU
    of its local rank. A script that was not started by ``torchrun`` is process 0 of one.

    Examples
    --------
    In a script started by ``torchrun --nproc-per-node 2 script.py``:

    >>> import numpy as np
    >>> from skastro import PropertyPretrainedEncoder
    >>> stamps = np.random.default_rng(0).normal(size=(40, 3, 8, 8)).astype(np.float32)
    >>> encoder = PropertyPretrainedEncoder("stamp_resnet10", max_epochs=1, random_state=0)
    >>> with process_group() as rank:
    ...     encoder = encoder.fit(stamps, properties=stamps.mean((2, 3)))
    ...     if rank == 0:
    ...         print(len(encoder.history_))  # or encoder.save("encoder.safetensors")
    1
    """
    started = {"RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"} <= os.environ.keys()
    if n_processes() > 1 or not started or not distributed.is_available():
        yield rank()
        return
    if torch.cuda.is_available():
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))
    distributed.init_process_group()  # gloo for tensors on the CPU, NCCL for those on a GPU
    try:
        yield rank()
    finally:
        distributed.destroy_process_group()


def n_processes() -> int:
    """Return the number of processes that train together."""
    joined = distributed.is_available() and distributed.is_initialized()
    return int(distributed.get_world_size()) if joined else 1


def rank() -> int:
    """Return the number of this process among those that train together, from 0."""
    return int(distributed.get_rank()) if n_processes() > 1 else 0


def share_of(n: int) -> slice:
    """Return the part of ``n`` rows that this process computes."""
    return slice(n * rank() // n_processes(), n * (rank() + 1) // n_processes())


def agree(value: T) -> T:
    """Return the value of process 0 in all processes."""
    return _gather(value)[0]


def gather_rows(share: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the rows of all processes, in the order of `share_of`."""
    return np.concatenate(_gather(share))


def _gather(value: T) -> list[T]:
    if n_processes() == 1:
        return [value]
    values: list[Any] = [None] * n_processes()
    distributed.all_gather_object(values, value)
    return values


def average(value: float, weight: int, device: str) -> tuple[float, int]:
    """Return the weighted mean of a number over all processes, and the sum of the weights."""
    sums = torch.tensor([weight * value, weight], dtype=torch.float64, device=device)
    distributed.all_reduce(sums)
    return float(sums[0] / sums[1]), int(sums[1])


def check_same_work(facts: Mapping[str, Any]) -> None:
    """Raise a ValueError if a named value differs between processes, compared by ``repr``.

    Processes with different work would wait for each other for ever.
    """
    all_facts = _gather({name: repr(value) for name, value in facts.items()})
    for number, others in enumerate(all_facts):
        for name, value in all_facts[0].items():
            if others.get(name) != value:
                raise ValueError(
                    f"{name} differs between process 0 ({value}) and process {number} "
                    f"({others.get(name)}): fit the same data with the same parameters in all."
                )


def distribute(network: nn.Module) -> nn.Module:
    """Wrap a network so that its gradients are averaged over all processes.

    The network starts from the weights of process 0. One process gets the network itself.
    """
    if n_processes() == 1:
        return network
    # a static graph may hold weights that no output depends on, such as unused heads
    return nn.parallel.DistributedDataParallel(network, static_graph=True)


def copy_from_first(network: nn.Module) -> None:
    """Copy the weights and buffers of process 0 to all processes."""
    if n_processes() > 1:
        for tensor in network.state_dict().values():
            copied = tensor.contiguous()
            distributed.broadcast(copied, src=0)
            tensor.copy_(copied)
