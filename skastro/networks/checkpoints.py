"""Checkpoints of a training: one file with everything that its next batch depends on."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from skastro.networks.weights import CHECKPOINT_KEY, read_encoder, write_encoder
from skastro.stamps.arrays import sample_pixels
from skastro.utils.files import digest_arrays, remove_leftovers, writing
from skastro.utils.validation import draw_seed

CHECKPOINT = "training.safetensors"
_LIBRARIES = ("skastro", "torch", "timm", "skorch", "numpy")
_TENSOR_KEY = "__tensor__"
REMEDY = "delete the file to begin anew, or name another checkpoint_dir."


@dataclass
class Checkpoint:
    """The file that holds the state of one training; see `open_checkpoint`."""

    path: Path
    job: dict[str, dict[str, Any]]  # settings, data and versions that the training depends on
    seed: int
    state: dict[str, Any] | None = None  # of an interrupted training

    def write(self, state: Mapping[str, Any]) -> None:
        """Replace the file by one with nested dicts and lists of tensors, numbers and text."""
        tensors: dict[str, Tensor] = {}

        def take_out(tensor: Tensor) -> dict[str, str]:
            # copies, because safetensors refuses tensors that share memory, such as tied weights
            name, plain = str(len(tensors)), torch.contiguous_format
            tensors[name] = tensor.detach().to("cpu", copy=True, memory_format=plain)
            return {_TENSOR_KEY: name}

        document = {"job": self.job, "seed": self.seed, "state": _to_json(state, take_out)}
        write_encoder(self.path, tensors, document, kind=CHECKPOINT_KEY)

    def remove(self) -> None:
        """Delete the file, when the training is complete."""
        self.path.unlink(missing_ok=True)


def open_checkpoint(
    folder: Any,
    settings: Mapping[str, Any],
    images: Any,
    targets: tuple[NDArray[Any], ...],
    *,
    random_state: int | np.random.RandomState | None = None,
) -> Checkpoint:
    """Check that a folder can be written to, and read the state of an interrupted training.

    A file that is damaged, or of a training with other parameters or data, is a ValueError; a
    folder that cannot be written to is an OSError.

    Parameters
    ----------
    folder : str or path-like
        Is created. Only one training at a time may use it.
    settings : mapping of str to object
        Parameters of the training. Code is compared by its name, modules also by their weights.
    images : array-like of shape (n, bands, height, width)
        Compared by shape, dtype and the pixels of 64 stamps.
    targets : tuple of arrays of length n
        Compared as a whole.
    random_state : int, RandomState or None, default=None
        By default, the seed is that of the interrupted training, or a new one.
    """
    path = Path(folder).expanduser() / CHECKPOINT
    with writing(path.parent):
        path.parent.mkdir(parents=True, exist_ok=True)
        remove_leftovers(path)
        tempfile.TemporaryFile(dir=path.parent).close()
    data = {"shape": list(map(int, images.shape)), "dtype": str(np.dtype(images.dtype))}
    hashes = {"pixels": sample_pixels(images), "targets": digest_arrays(*targets)}
    versions = {name: metadata.version(name) for name in _LIBRARIES}
    job = {"settings": settings, "data": data | hashes, "versions": versions}
    checkpoint = Checkpoint(path, _to_json(job, _describe), draw_seed(random_state))
    if path.is_file():
        _read(checkpoint, check_seed=random_state is not None)
    return checkpoint


def _read(checkpoint: Checkpoint, *, check_seed: bool) -> None:
    """Take the state and the seed from the file, if it is of the same training."""
    path = checkpoint.path
    try:
        tensors, document = read_encoder(path, kind=CHECKPOINT_KEY)
        earlier = {part: dict(values) for part, values in document["job"].items()}
        seed = int(document["seed"])
        # each tensor returns to its place
        checkpoint.state = json.loads(
            json.dumps(document["state"]),
            object_hook=lambda part: tensors[part[_TENSOR_KEY]] if _TENSOR_KEY in part else part,
        )
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{path} is damaged, or not a checkpoint: {REMEDY}") from error
    job = checkpoint.job | {"settings": dict(checkpoint.job["settings"])}
    if check_seed:
        job["settings"]["random_state"] = checkpoint.seed
        earlier.get("settings", {})["random_state"] = seed
    for part, wanted in job.items():
        _compare(path, part, wanted, earlier.get(part, {}))
    checkpoint.seed = seed


def _compare(path: Path, part: str, wanted: dict[str, Any], earlier: dict[str, Any]) -> None:
    for name in {**wanted, **earlier}:
        now, before = wanted.get(name), earlier.get(name)
        if now == before:
            continue
        if part == "versions":
            difference = f"was written with {name} {before}, and this is {now}"
        elif name in ("pixels", "targets"):
            difference = f"is of a training on other {name}"
        else:
            difference = f"is of a training with {name}={before!r}, and this one has {now!r}"
        raise ValueError(f"{path} {difference}: {REMEDY}")


def _to_json(tree: Any, describe: Callable[[Any], Any]) -> Any:
    """Return a tree as JSON holds it; ``describe`` replaces the values that JSON lacks."""
    return json.loads(json.dumps(tree, default=describe))


def _describe(value: Any) -> Any:
    """Describe a parameter that JSON lacks: code by its name, a module also by its weights."""
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, Mapping):
        return dict(value)
    code = value if hasattr(value, "__qualname__") else type(value)
    name = f"{code.__module__}.{code.__qualname__}"
    if isinstance(value, nn.Module):
        weights = [part.detach().cpu().numpy() for part in value.state_dict().values()]
        return f"{name} {digest_arrays(*weights)}"
    return name


def global_generators(device: str) -> dict[str, Any]:
    """Return the modules with torch's global generators: of the CPU and of the device."""
    kind = torch.device(device).type
    modules = {} if kind == "cpu" else {kind: torch.get_device_module(kind)}
    return {"cpu": torch.random, **modules}


def restore_optimizer(optimizer: torch.optim.Optimizer, state: Mapping[str, Any]) -> None:
    """Set an optimiser to a state that was stored as JSON, in which all keys are text."""
    numbered = {int(number): values for number, values in state["state"].items()}
    optimizer.load_state_dict({"state": numbered, "param_groups": state["param_groups"]})
    # the fused kernels need a weight and its moments in the same memory order
    for weight, values in optimizer.state.items():
        for name, value in values.items():
            if isinstance(value, Tensor) and value.shape == weight.shape:
                values[name] = torch.empty_like(weight).copy_(value)
