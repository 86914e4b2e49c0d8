"""A training that was killed goes on: one file with all that its next batch depends on."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from skastro.networks.weights import read_encoder, write_encoder
from skastro.stamps.arrays import sample_pixels
from skastro.utils.files import digest_arrays, remove_leftovers, writing
from skastro.utils.validation import draw_seed

CHECKPOINT = "training.safetensors"
_KIND = "skastro checkpoint"
_LIBRARIES = ("skastro", "torch", "timm", "skorch", "numpy")
_TENSOR = "__tensor__"
_BEGIN_ANEW = "delete the file to begin anew, or name another checkpoint_dir."


@dataclass
class Checkpoint:
    """The state of one training in a file, which is replaced as a whole.

    Made by `open_checkpoint`.

    Parameters
    ----------
    path : Path
    job : dict
        What the training depends on: ``settings``, ``data`` and ``versions``.
    seed : int
        Of the training.
    state : dict or None
        What an earlier training has left, until `take` takes it.
    """

    path: Path
    job: dict[str, dict[str, Any]]
    seed: int
    state: dict[str, Any] | None = None

    def take(self) -> dict[str, Any] | None:
        """Return what an earlier training has left, or None, and forget it."""
        state, self.state = self.state, None
        return state

    def write(self, state: Mapping[str, Any]) -> None:
        """Write nested dicts and lists of tensors, numbers and text."""
        tensors: dict[str, Tensor] = {}
        document = {"job": self.job, "seed": self.seed, "state": _pack(state, "", tensors)}
        with writing(self.path):
            write_encoder(self.path, tensors, document, kind=_KIND)

    def remove(self) -> None:
        """Delete the file: what it was for is done."""
        self.path.unlink(missing_ok=True)


def open_checkpoint(
    folder: Any,
    settings: Mapping[str, Any],
    images: Any,
    targets: tuple[NDArray[Any], ...],
    *,
    random_state: int | np.random.RandomState | None = None,
) -> Checkpoint:
    """Make sure that a folder can be written to, and read what an earlier training has left.

    Parameters
    ----------
    folder : str or path-like
        Is created. One training at a time may use it.
    settings : mapping of str to object
        Parameters of the training; of code the name is compared, of modules the weights too.
    images : array-like of shape (n, bands, height, width)
        Compared by shape, dtype and 64 of the stamps.
    targets : tuple of arrays of length n
        Compared whole.
    random_state : int, RandomState or None, default=None
        None takes the seed of the earlier training, or draws one.

    Returns
    -------
    checkpoint : Checkpoint

    Raises
    ------
    ValueError
        The earlier training was another one, or its file is damaged.
    OSError
        The folder cannot be written to.
    """
    path = Path(folder).expanduser() / CHECKPOINT
    with writing(path.parent):
        path.parent.mkdir(parents=True, exist_ok=True)
        remove_leftovers(path)
        tempfile.TemporaryFile(dir=path.parent).close()
    job = {
        "settings": describe(settings),
        "data": {
            "shape": list(map(int, images.shape)),
            "dtype": str(np.dtype(images.dtype)),
            "pixels": sample_pixels(images),
            "targets": digest_arrays(*targets),
        },
        "versions": {name: metadata.version(name) for name in _LIBRARIES},
    }
    seed = draw_seed(random_state)
    if not path.is_file():
        return Checkpoint(path, job, seed)
    earlier = _read(path)
    if random_state is not None and seed != earlier["seed"]:
        raise ValueError(
            f"{path} is of a training with random_state={earlier['seed']}, and this one has "
            f"{seed}: {_BEGIN_ANEW}"
        )
    _compare(path, job, earlier["job"])
    return Checkpoint(path, job, earlier["seed"], earlier["state"])


def _read(path: Path) -> dict[str, Any]:
    try:
        tensors, document = read_encoder(path, kind=_KIND)
        return {
            "job": {name: dict(part) for name, part in document["job"].items()},
            "seed": int(document["seed"]),
            "state": _unpack(document["state"], tensors),
        }
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{path} is damaged, or no checkpoint: {_BEGIN_ANEW}") from error


def _compare(path: Path, job: dict[str, dict[str, Any]], earlier: dict[str, Any]) -> None:
    """Refuse a checkpoint of another training, and name the first difference."""
    for part, wanted in json.loads(json.dumps(job)).items():
        found = earlier.get(part, {})
        for name in {**wanted, **found}:
            now, then = wanted.get(name), found.get(name)
            if now == then:
                continue
            if part == "versions":
                what = f"was written with {name} {then}, and this is {now}"
            elif name in ("pixels", "targets"):
                what = f"is of a training on other {name}"
            else:
                what = f"is of a training with {name}={then!r}, and this one has {now!r}"
            raise ValueError(f"{path} {what}: {_BEGIN_ANEW}")


def describe(value: Any) -> Any:
    """Return what JSON can hold of a parameter: of code the name, of a module the weights too.

    Examples
    --------
    >>> describe({"lr": np.float64(0.1), "optimizer": torch.optim.SGD, "shape": (3, 8)})
    {'lr': 0.1, 'optimizer': 'torch.optim.sgd.SGD', 'shape': [3, 8]}
    """
    if isinstance(value, np.generic):
        value = value.item()
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, Mapping):
        return {str(name): describe(part) for name, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [describe(part) for part in value]
    code = value if hasattr(value, "__qualname__") else type(value)
    name = f"{code.__module__}.{code.__qualname__}"
    if isinstance(value, nn.Module):
        weights = [part.detach().cpu().numpy() for part in value.state_dict().values()]
        return f"{name} {digest_arrays(*weights)}"
    return name


def _pack(value: Any, name: str, tensors: dict[str, Tensor]) -> Any:
    """Move the tensors of nested dicts and lists into a flat dict; copies, in plain order."""
    if isinstance(value, Tensor):
        # copies: safetensors refuses tensors that share memory, as tied weights do
        plain = torch.contiguous_format
        tensors[name] = value.detach().to("cpu", copy=True, memory_format=plain)
        return {_TENSOR: name}
    if isinstance(value, Mapping):
        return {str(key): _pack(part, f"{name}.{key}", tensors) for key, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [_pack(part, f"{name}.{i}", tensors) for i, part in enumerate(value)]
    return value


def _unpack(tree: Any, tensors: Mapping[str, Tensor]) -> Any:
    if isinstance(tree, dict):
        if _TENSOR in tree:
            return tensors[tree[_TENSOR]]
        return {key: _unpack(part, tensors) for key, part in tree.items()}
    return [_unpack(part, tensors) for part in tree] if isinstance(tree, list) else tree


def read_generators(device: str) -> dict[str, Tensor]:
    """Return the states of torch's global generators: the CPU's, and that of the device."""
    found = {"cpu": torch.get_rng_state()}
    kind = torch.device(device).type
    if kind != "cpu":
        found[kind] = torch.get_device_module(kind).get_rng_state()
    return found


def set_generators(states: Mapping[str, Tensor]) -> None:
    """Set torch's global generators to what `read_generators` has returned."""
    for kind, state in states.items():
        module = torch.random if kind == "cpu" else torch.get_device_module(kind)
        module.set_rng_state(state)


def restore_optimizer(optimizer: torch.optim.Optimizer, state: Mapping[str, Any]) -> None:
    """Set an optimiser to a state that went through JSON."""
    groups = [
        {name: tuple(v) if name == "betas" else v for name, v in group.items()}
        for group in state["param_groups"]
    ]
    numbered = {int(number): values for number, values in state["state"].items()}
    optimizer.load_state_dict({"state": numbered, "param_groups": groups})
    # the fused kernels walk through weight and moment alike: both in one memory order
    for weight, values in optimizer.state.items():
        for name, value in values.items():
            if isinstance(value, Tensor) and value.shape == weight.shape:
                values[name] = torch.empty_like(weight).copy_(value)
