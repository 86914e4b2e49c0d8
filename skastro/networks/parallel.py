"""One training on several processes: each takes its share of every batch.

The outputs of all shares are gathered before the loss, the statistics of batch normalisation and
the gradients are summed: each step is that of one process with the same whole batch, whatever the
loss. Started by ``torchrun``; without a process group there is one process, and nothing to do.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, distributed, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from skastro.utils.files import digest_arrays

T = TypeVar("T")


@contextmanager
def process_group() -> Iterator[int]:
    """Join the processes that ``torchrun`` has started; fits inside share their work.

    Every process runs the same script. `PropertyPretrainedEncoder` and `SelfSupervisedClassifier`
    fitted inside take a share of every batch in each process, and end with the same weights in
    all of them: those of one process with the same batches, to rounding. A process group that is
    there already (`torch.distributed`) is used without this.

    Yields
    ------
    rank : int
        Number of this process. Save and print in process 0 alone.

    Notes
    -----
    On the CPU processes talk by gloo, on GPUs by NCCL, each process with the GPU of its local
    rank. A script that is not started by ``torchrun`` is process 0 of one.

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
    started = {"RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"} <= set(os.environ)
    if n_processes() > 1 or not started or not distributed.is_available():
        yield rank()
        return
    if torch.cuda.is_available():
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))
    distributed.init_process_group("nccl" if torch.cuda.is_available() else "gloo")
    try:
        yield rank()
    finally:
        distributed.destroy_process_group()


def n_processes() -> int:
    """Return the number of processes that train together.

    Examples
    --------
    >>> n_processes()
    1
    """
    joined = distributed.is_available() and distributed.is_initialized()
    return int(distributed.get_world_size()) if joined else 1


def rank() -> int:
    """Return the number of this process among those that train together, from 0.

    Examples
    --------
    >>> rank()
    0
    """
    return int(distributed.get_rank()) if n_processes() > 1 else 0


def share_of(n: int) -> slice:
    """Return which of ``n`` rows are this process's.

    Examples
    --------
    >>> share_of(64)
    slice(0, 64, None)
    """
    here, all_of_them = rank(), n_processes()
    return slice(n * here // all_of_them, n * (here + 1) // all_of_them)


def agree(value: T) -> T:
    """Return the value of process 0 in all processes.

    Examples
    --------
    >>> agree(7)
    7
    """
    if n_processes() == 1:
        return value
    values = [value]
    distributed.broadcast_object_list(values)
    return values[0]


def gather_rows(share: NDArray[np.float32], n: int) -> NDArray[np.float32]:
    """Return the rows of all processes, in order; see `share_of`."""
    if n_processes() == 1:
        return share
    return gather(torch.from_numpy(share), n).numpy()


def gather(share: Tensor, n: int) -> Tensor:
    """Return the rows of all processes, in order, differentiably.

    Parameters
    ----------
    share : Tensor of shape (rows of this process, ...)
    n : int
        Rows of all processes.

    Returns
    -------
    rows : Tensor of shape (n, ...)
        What each process computes of them must be the same: its gradient is that of its share.
    """
    return share if n_processes() == 1 else cast("Tensor", _Gathered.apply(share, n))


class _Gathered(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, share: Tensor, n: int) -> Tensor:
        ctx.n = n
        rows = share.new_zeros(n, *share.shape[1:])
        rows[share_of(n)] = share
        return _summed(rows)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return gradient[share_of(ctx.n)], None


def sum_gradients(parameters: Iterable[nn.Parameter]) -> None:
    """Add up the gradients of all processes, in place."""
    if n_processes() == 1:
        return
    gradients = [p.grad for p in parameters if p.grad is not None]
    total = _summed(torch.cat([g.reshape(-1) for g in gradients]))
    parts = torch.split(total, [g.numel() for g in gradients])
    for gradient, part in zip(gradients, parts, strict=True):
        gradient.copy_(part.reshape(gradient.shape))


@dataclass(frozen=True)
class Job:
    """What processes that train together must have in common.

    Parameters
    ----------
    smallest_batch : int
        Stamps of the smallest batch.
    facts : dict of str to object
        Compared by their ``repr``.
    arrays : dict of str to tuple of arrays
        Compared by their contents.
    """

    smallest_batch: int
    facts: dict[str, Any]
    arrays: dict[str, tuple[NDArray[Any], ...]]


@contextmanager
def together(network: nn.Module, seed: int, job: Job) -> Iterator[None]:
    """Train a network alike in all processes.

    Parameters
    ----------
    network : nn.Module
        Starts from the weights of process 0, and ends with them.
    seed : int
        Of this training; dropout and the like differ from process to process.
    job : Job
        Compared with that of the other processes.

    Raises
    ------
    ValueError
        A batch has less stamps than there are processes, or processes differ in their data or
        parameters.
    """
    if n_processes() == 1:
        yield
        return
    if job.smallest_batch < n_processes():
        raise ValueError(
            f"batches of {job.smallest_batch} stamps are too small for {n_processes()} processes: "
            "pass a larger batch_size, or start fewer processes."
        )
    _compare(job)
    _copy_from_first(network)
    torch.manual_seed(seed + rank())
    with _WholeBatchNorm():
        yield
    _copy_from_first(network)


def _compare(job: Job) -> None:
    """Refuse processes that were given other work, instead of letting them wait for ever."""
    mine = {name: repr(value) for name, value in job.facts.items()}
    mine |= {name: f"checksum {digest_arrays(*arrays)[:8]}" for name, arrays in job.arrays.items()}
    found: list[Any] = [None] * n_processes()
    distributed.all_gather_object(found, mine)
    for number, theirs in enumerate(found):
        for name, value in found[0].items():
            if theirs.get(name) != value:
                raise ValueError(
                    f"{name} differs between process 0 ({value}) and process {number} "
                    f"({theirs.get(name)}): fit the same data with the same parameters in all."
                )


def _copy_from_first(network: nn.Module) -> None:
    with torch.no_grad():
        for tensor in network.state_dict().values():
            copied = _where_the_group_is(tensor.contiguous())
            distributed.broadcast(copied, src=0)
            tensor.copy_(copied)


def _summed(tensor: Tensor) -> Tensor:
    """Return the sum of a tensor over the processes; the tensor may be overwritten."""
    there = _where_the_group_is(tensor)
    distributed.all_reduce(there)
    return there.to(tensor.device)


def _where_the_group_is(tensor: Tensor) -> Tensor:
    return tensor.cuda() if distributed.get_backend() == "nccl" else tensor.cpu()


class _WholeBatchNorm(TorchFunctionMode):
    """Batch normalisation, of whatever module, by the statistics of the whole batch.

    torch's SyncBatchNorm does so on GPUs alone, and would have to replace the modules.
    """

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return (_batch_norm if func is functional.batch_norm else func)(*args, **(kwargs or {}))


def _batch_norm(
    x: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Tensor:
    """Stand in for ``torch.nn.functional.batch_norm``."""
    if not training:
        return functional.batch_norm(x, running_mean, running_var, weight, bias, False, 0.0, eps)
    with torch.no_grad():
        mean, var, n = _statistics(x)
        if running_mean is not None and running_var is not None:
            running_mean.lerp_(mean.to(running_mean.dtype), momentum)
            running_var.lerp_((var * n / max(n - 1, 1)).to(running_var.dtype), momentum)
    if weight is None:
        weight = torch.ones_like(mean)
    return cast("Tensor", _Normalised.apply(x, weight, bias, mean, var, n, eps))


def _statistics(x: Tensor) -> tuple[Tensor, Tensor, int]:
    """Return mean and variance of each channel of the whole batch, and the values in each."""
    mean, var = torch.batch_norm_update_stats(x.float(), None, None, 0.0)
    n = x.numel() // x.shape[1]
    moments = torch.stack([mean.double(), var.double() + mean.double() ** 2])
    total = _summed(torch.cat([n * moments, torch.full_like(moments[:1], n)]))
    mean, square = total[:2] / total[2]
    return mean.float(), (square - mean**2).clamp(min=0).float(), int(total[2, 0])


class _Normalised(torch.autograd.Function):
    """(x - mean) / sqrt(var + eps) * weight + bias, where mean and var depend on all shares."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        mean: Tensor,
        var: Tensor,
        n: int,
        eps: float,
    ) -> Tensor:
        ctx.save_for_backward(x, weight, mean, torch.rsqrt(var + eps))
        ctx.n, ctx.eps, ctx.shifts = n, eps, bias is not None
        return functional.batch_norm(x, mean, var, weight, bias, False, 0.0, eps)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        # Ioffe & Szegedy 2015, the equations behind algorithm 1, in sums over the whole batch
        x, weight, mean, inverse = ctx.saved_tensors
        wanted = [False, True, True]
        _, of_weight, of_bias = torch.ops.aten.native_batch_norm_backward(
            gradient, x, weight, None, None, mean, inverse, True, ctx.eps, wanted
        )
        sums = _summed(torch.stack([of_weight, of_bias]).double()) / ctx.n
        shape = (1, -1, *[1] * (x.ndim - 2))
        scale = (weight * inverse).double()
        slope = -scale * inverse * sums[0]
        start = -scale * sums[1] - slope * mean
        scale, slope, start = (part.float().reshape(shape) for part in (scale, slope, start))
        of_x = torch.addcmul(start, x.float(), slope).addcmul_(gradient.float(), scale)
        shift = of_bias if ctx.shifts else None
        return of_x.to(x.dtype), of_weight, shift, None, None, None, None
