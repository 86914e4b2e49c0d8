"""Encoders on disk: safetensors with a JSON document in the header; reading executes no code.

One file, so that weights and description cannot be parted or half-written.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as to_bytes
from torch import Tensor

FORMAT_VERSION = 1
_KEY = "skastro"
_CHECKSUM = "sha256"
_LIBRARIES = ("skastro", "torch", "timm", "scikit-learn", "numpy")


def write_encoder(path: Any, tensors: dict[str, Tensor], document: dict[str, Any]) -> None:
    """Write tensors and a document to one file, atomically.

    Parameters
    ----------
    path : str or path-like
        Its folder must exist.
    tensors : dict of str to Tensor
    document : dict
        What JSON can hold; format and library versions are added.
    """
    path = Path(path)
    if not path.parent.is_dir():
        raise ValueError(f"the folder {path.parent} does not exist: create it first.")
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    text = json.dumps({**document, "format_version": FORMAT_VERSION, "libraries": _libraries()})
    header = {_KEY: text, _CHECKSUM: _checksum(text, tensors)}
    write_atomically(path, to_bytes(tensors, metadata=header))


def write_atomically(path: Path, content: bytes) -> None:
    """Write a file under a temporary name in its folder, then rename it."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with temporary.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def read_encoder(path: Any) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read what `write_encoder` has written.

    Parameters
    ----------
    path : str or path-like

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
    try:
        with safe_open(path, framework="pt") as file:
            header = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError, ValueError) as error:
        raise ValueError(
            f"{path} is no safetensors file, or is truncated ({error}): copy or save it again."
        ) from error
    return tensors, _read_document(path, header, tensors)


def _read_document(path: Path, header: dict[str, str], tensors: dict[str, Tensor]) -> dict:
    if _KEY not in header:
        raise ValueError(f"{path} holds no skastro encoder: pass the path given to save().")
    try:
        document = json.loads(header[_KEY])
        version = int(document["format_version"])
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path} has an unreadable description: save it again.") from error
    if version > FORMAT_VERSION:
        raise ValueError(
            f"{path} has format {version}, but this skastro reads up to {FORMAT_VERSION}: "
            "pip install --upgrade skastro."
        )
    if header.get(_CHECKSUM) != _checksum(header[_KEY], tensors):
        raise ValueError(f"{path} was altered after it was saved: copy or save it again.")
    return document


def _checksum(text: str, tensors: dict[str, Tensor]) -> str:
    digest = hashlib.sha256(text.encode())
    for name in sorted(tensors):
        tensor = tensors[name]
        digest.update(f"{name}{tensor.dtype}{tuple(tensor.shape)}".encode())
        digest.update(np.ascontiguousarray(tensor.numpy()).data)
    return digest.hexdigest()


def _libraries() -> dict[str, str]:
    versions = {name: metadata.version(name) for name in _LIBRARIES}
    return {"python": platform.python_version(), **versions}
