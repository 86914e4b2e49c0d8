"""Encoders on disk: safetensors with a JSON document in the header; reading executes no code.

One file, so that weights and description cannot be parted or half-written.
"""

from __future__ import annotations

import hashlib
import json
import pickle
import warnings
from collections import Counter
from collections.abc import Container, Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save as to_bytes
from torch import Tensor, nn

from skastro.networks.backbones import PooledBackbone, adapt_bands
from skastro.utils.files import reading, write_atomically, writing
from skastro.utils.packages import library_versions


def load_weights(backbone: PooledBackbone, tensors: Mapping[str, Tensor], path: Any) -> None:
    """Load weights of the same architecture, adapting its first layer to the bands.

    Parameters
    ----------
    backbone : PooledBackbone
        Filled in place.
    tensors : mapping of str to Tensor
        Of a saved encoder, a timm model, or a larger model that holds one, such as a Lightning
        module (``encoder.conv1.weight``). Where it holds several of them, a student and its
        teacher, the one with the shortest prefix is taken. Heads are left out.
    path : str or path-like
        For the error's sentence.

    Raises
    ------
    ValueError
        The file holds another architecture, or numbers that are not finite.
    """
    body = backbone.body
    ours = body.state_dict()
    prefix = _find_prefix(tensors, ours)
    theirs = {k.removeprefix(prefix): t for k, t in tensors.items() if k.startswith(prefix)}
    theirs = {k: t for k, t in theirs.items() if k in ours or not _in_a_head(k, body, ours)}
    first = next((name for name, tensor in ours.items() if tensor.ndim == 4), None)
    if first in theirs and theirs[first].ndim == 4:  # only the first layer sees bands
        theirs[first] = adapt_bands(theirs[first], ours[first].shape[1])
    problem = _misfit(theirs, ours)
    if problem:
        raise ValueError(
            f"weights={str(path)!r} holds another architecture ({problem}): "
            "use the backbone it was trained with."
        )
    for name, tensor in theirs.items():
        if not tensor.isfinite().all():
            raise ValueError(
                f"weights={str(path)!r} holds {name}, which is not finite: "
                "take those of a training that converged."
            )
    body.load_state_dict(theirs, strict=False)


def _find_prefix(theirs: Iterable[str], ours: Container[str]) -> str:
    """Return what stands before the names of a backbone in a larger model, as in most cases.

    Zoobot writes "encoder.", Lightning modules what they please, torch's wrappers "module." or
    "_orig_mod.", and saved encoders "backbone.body.".
    """
    found: Counter[str] = Counter()
    for name in theirs:
        parts = name.split(".")
        for i in range(len(parts)):
            if ".".join(parts[i:]) in ours:
                found["".join(f"{part}." for part in parts[:i])] += 1
    return max(found, key=lambda prefix: (found[prefix], -len(prefix)), default="")


def _in_a_head(name: str, body: nn.Module, ours: Iterable[str]) -> bool:
    """Whether a tensor belongs to a head: a part that the backbone does without."""
    heads = (getattr(body, "pretrained_cfg", None) or {}).get("classifier") or ()
    heads = (heads,) if isinstance(heads, str) else heads
    parts = {each.partition(".")[0] for each in ours}
    return name.partition(".")[0] not in parts or name.startswith(tuple(f"{h}." for h in heads))


def _misfit(theirs: Mapping[str, Tensor], ours: Mapping[str, Tensor]) -> str:
    """Say what keeps weights from being loaded; "" if nothing does."""
    # counters of batch normalisation, which old files lack
    lacking = [k for k in ours if k not in theirs and not k.endswith("num_batches_tracked")]
    unknown = [k for k in theirs if k not in ours]
    wrong = [k for k, t in theirs.items() if k in ours and t.shape != ours[k].shape]
    for words, names in (("it lacks", lacking), ("it has besides", unknown)):
        if names:
            more = f" and {len(names) - 1} more" if len(names) > 1 else ""
            return f"{words} {names[0]}{more}"
    if wrong:
        shapes = f"{tuple(theirs[wrong[0]].shape)}, not {tuple(ours[wrong[0]].shape)}"
        return f"its {wrong[0]} is {shapes}"
    return ""


FORMAT_VERSION = 1
_KEY = "skastro"
_CHECKSUM = "sha256"
_TORCH_FILES = (".pt", ".pth", ".ckpt", ".bin")
_STATE_DICTS = ("state_dict", "model_state_dict", "model")  # where checkpoints keep it


def write_encoder(
    path: Any, tensors: dict[str, Tensor], document: dict[str, Any], *, kind: str = _KEY
) -> None:
    """Write tensors and a document to one file, atomically.

    Parameters
    ----------
    path : str or path-like
        Its folder must exist.
    tensors : dict of str to Tensor
    document : dict
        What JSON can hold; format and library versions are added.
    kind : str, default="skastro"
        What the document is called in the header; an encoder is none of another kind.
    """
    path = Path(path)
    if not path.parent.is_dir():
        raise ValueError(f"the folder {path.parent} does not exist: create it first.")
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    made_by = {"format_version": FORMAT_VERSION, "libraries": library_versions()}
    text = json.dumps({**document, **made_by})
    header = {kind: text, _CHECKSUM: _checksum(text, tensors)}
    content = to_bytes(tensors, metadata=header)
    with writing(path):
        write_atomically(path, content)


def read_encoder(path: Any, *, kind: str = _KEY) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read what `write_encoder` has written.

    Parameters
    ----------
    path : str or path-like
    kind : str, default="skastro"

    Returns
    -------
    tensors : dict of str to Tensor
    document : dict

    Raises
    ------
    FileNotFoundError
        There is no such file.
    ValueError
        The file is no encoder, truncated, altered, or of a newer format.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path} does not exist: pass the path given to save().")
    tensors, header = _read_safetensors(path)
    return tensors, _read_document(path, header, tensors, kind)


def read_tensors(path: Any) -> dict[str, Tensor]:
    """Read the named tensors of a file of weights; no code in it is executed.

    Parameters
    ----------
    path : str or path-like
        ``.pt``, ``.pth``, ``.ckpt`` or ``.bin`` of `torch.save`: a state dict, or a checkpoint that
        holds one as ``state_dict``, ``model_state_dict`` or ``model``. Any other name is that of a
        safetensors file; a saved encoder is checked as `read_encoder` does.

    Returns
    -------
    tensors : dict of str to Tensor
        On the CPU.

    Raises
    ------
    FileNotFoundError
        There is no such file.
    ValueError
        The file is damaged, altered, holds no tensors, or objects beside them that only code can
        make.
    """
    path = Path(path).expanduser()
    if not path.is_file():
        raise FileNotFoundError(
            f"{path} does not exist: pass 'imagenet' or the path of a file of weights."
        )
    if path.suffix.lower() in _TORCH_FILES:
        return _read_torch(path)
    tensors, header = _read_safetensors(path)
    if _KEY in header:
        _read_document(path, header, tensors, _KEY)
    return tensors


def _read_safetensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    problem, remedy = "is no safetensors file, or is truncated", "copy or save it again"
    with (
        reading(path, problem, remedy, gone="is gone: put it back"),
        safe_open(path, framework="pt") as file,
    ):
        header = file.metadata() or {}
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    return tensors, header


def _read_torch(path: Path) -> dict[str, Tensor]:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # on old formats
            found = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise ValueError(
            f"{path} is damaged, or holds more than tensors, which is not read because it could "
            "run code: write its state dict to a .safetensors file, if you trust it."
        ) from error
    except Exception as error:  # damaged files raise many kinds
        raise ValueError(f"{path} cannot be read by torch: copy or save it again.") from error
    for name in _STATE_DICTS:
        if isinstance(found, dict) and isinstance(found.get(name), dict):
            found = found[name]
            break
    tensors = found if isinstance(found, dict) else {}
    tensors = {k: t for k, t in tensors.items() if isinstance(k, str) and isinstance(t, Tensor)}
    if not tensors:
        raise ValueError(f"{path} holds no state dict: save model.state_dict() in it.")
    return tensors


def _read_document(
    path: Path, header: dict[str, str], tensors: dict[str, Tensor], kind: str
) -> dict[str, Any]:
    if kind not in header:
        raise ValueError(f"{path} holds no skastro encoder: pass the path given to save().")
    try:
        document = json.loads(header[kind])
        version = document["format_version"]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise ValueError(f"{path} has an unreadable description: save it again.") from error
    if type(version) is not int or version < 1:
        raise ValueError(f"{path} has a format that never was: save it again.")
    if version > FORMAT_VERSION:
        raise ValueError(
            f"{path} has format {version}, but this skastro reads up to {FORMAT_VERSION}: "
            "pip install --upgrade skastro."
        )
    if header.get(_CHECKSUM) != _checksum(header[kind], tensors):
        raise ValueError(f"{path} was altered after it was saved: copy or save it again.")
    return document


def _checksum(text: str, tensors: dict[str, Tensor]) -> str:
    digest = hashlib.sha256(text.encode())
    for name in sorted(tensors):
        tensor = tensors[name]
        digest.update(f"{name}{tensor.dtype}{tuple(tensor.shape)}".encode())
        # as bytes: numpy has not all the types that a file may hold
        digest.update(tensor.contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()
