"""Files of weights: the safetensors container of encoders, and weights of other packages.

An encoder is one file, with a JSON document in its header, so that weights and description cannot
be separated. Reading executes no code. The weights that are part of skastro are such files.
"""

from __future__ import annotations

import hashlib
import json
import pickle
import warnings
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as to_bytes
from torch import Tensor, nn

from skastro.networks.backbones import PooledBackbone, adapt_bands
from skastro.utils.files import reading, write_whole
from skastro.utils.packages import library_versions

FORMAT_VERSION = 1
_ENCODER_KEY, _CHECKSUM_KEY = "skastro", "sha256"  # of the header
CLASSIFIER_KEY, REGRESSOR_KEY = "skastro classifier", "skastro regressor"
CHECKPOINT_KEY = "skastro checkpoint"
_KINDS = {
    _ENCODER_KEY: "an encoder",
    CLASSIFIER_KEY: "a classifier",
    REGRESSOR_KEY: "a regressor",
    CHECKPOINT_KEY: "a checkpoint",
}
# SHA-256 of the weights that are part of skastro, by their names
PRETRAINED = {
    "galaxies": "2216a0be68cfbd2f987f8a35e5f7035103c60c9525ab8aca505b93545b73aee4",
    "radio": "7a5b37b283b934c3aec663dbe5e221b2206ebed6508843e328e632767f943a9c",
}
_PRETRAINED_FOLDER = Path(__file__).parent / "pretrained"
_TORCH_ENDINGS = (".pt", ".pth", ".ckpt", ".bin")
_STATE_DICT_KEYS = ("state_dict", "model_state_dict", "model")  # of checkpoints


def load_weights(backbone: PooledBackbone, tensors: Mapping[str, Tensor], path: Any) -> None:
    """Load weights of the same architecture, adapting its first layer to the bands.

    Another architecture, and numbers that are not finite, are a ValueError.

    Parameters
    ----------
    backbone : PooledBackbone
        Filled in place.
    tensors : mapping of str to Tensor
        Weights of a saved encoder, a timm model, or a larger model that contains one, such as a
        Lightning module (``encoder.conv1.weight``). If it contains several, such as a student and
        its teacher, the one with the shortest prefix is taken. Heads are left out.
    path : str or path-like
        File of the weights, for the messages of errors.
    """
    body = backbone.body
    state = body.state_dict()
    prefix = _find_prefix(tensors, state)
    weights = {k.removeprefix(prefix): t for k, t in tensors.items() if k.startswith(prefix)}
    weights = {k: t for k, t in weights.items() if k in state or not _is_in_head(k, body, state)}
    # only the first layer depends on the number of bands
    first = next((name for name, tensor in state.items() if tensor.ndim == 4), None)
    if first in weights and weights[first].ndim == 4:
        weights[first] = adapt_bands(weights[first].float(), state[first].shape[1])
    if difference := _compare_architectures(weights, state):
        remedy = "use the backbone it was trained with"
        if str(path) in PRETRAINED:
            document = read_encoder(find_pretrained(str(path)))[1]
            remedy = f"pass backbone={document['params']['backbone']!r}"
        raise ValueError(
            f"weights={str(path)!r} holds another architecture ({difference}): {remedy}."
        )
    for name, tensor in weights.items():
        if not tensor.isfinite().all():
            raise ValueError(
                f"weights={str(path)!r} holds {name}, which is not finite: "
                "take those of a training that converged."
            )
    body.load_state_dict(weights, strict=False)


def _find_prefix(names: Mapping[str, Tensor], state: Mapping[str, Tensor]) -> str:
    """Return the most frequent prefix of a backbone's names in a larger model.

    Zoobot writes "encoder.", torch's wrappers "module." or "_orig_mod.", and saved encoders
    "backbone.body."; Lightning modules may have any prefix.
    """
    counts: Counter[str] = Counter()
    for name in names:
        parts = name.split(".")
        for i in range(len(parts)):
            if ".".join(parts[i:]) in state:
                counts["".join(f"{part}." for part in parts[:i])] += 1
    return max(counts, key=lambda prefix: (counts[prefix], -len(prefix)), default="")


def _is_in_head(name: str, body: nn.Module, state: Mapping[str, Tensor]) -> bool:
    """Whether a tensor belongs to a head, which is a part that the backbone does not have."""
    heads = (getattr(body, "pretrained_cfg", None) or {}).get("classifier") or ()
    heads = (heads,) if isinstance(heads, str) else heads
    parts = {key.partition(".")[0] for key in state}
    return name.partition(".")[0] not in parts or name.startswith(tuple(f"{h}." for h in heads))


def _compare_architectures(weights: Mapping[str, Tensor], state: Mapping[str, Tensor]) -> str:
    """Return the first difference because of which weights cannot be loaded, or an empty text."""
    # old files lack the counters of batch normalisation
    lacking = [k for k in state if k not in weights and not k.endswith("num_batches_tracked")]
    unknown = [k for k in weights if k not in state]
    for words, names in (("it lacks", lacking), ("it also has", unknown)):
        if names:
            more = f" and {len(names) - 1} more" if len(names) > 1 else ""
            return f"{words} {names[0]}{more}"
    for name, tensor in weights.items():
        if tensor.shape != state[name].shape:
            return f"its {name} is {tuple(tensor.shape)}, not {tuple(state[name].shape)}"
    return ""


def write_encoder(
    path: Any, tensors: dict[str, Tensor], document: dict[str, Any], *, kind: str = _ENCODER_KEY
) -> None:
    """Write tensors and a JSON document to one file, which replaces an earlier one as a whole.

    Format and library versions are added to the document. ``kind`` is its name in the header, and
    `read_encoder` has to ask for the same. The folder must exist. NumPy scalars become plain
    numbers.
    """
    path = Path(path)
    if not path.parent.is_dir():
        raise ValueError(f"the folder {path.parent} does not exist: create it first.")
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    versions = {"format_version": FORMAT_VERSION, "libraries": library_versions()}
    text = json.dumps({**document, **versions}, default=lambda value: value.item())
    header = {kind: text, _CHECKSUM_KEY: _checksum(text, tensors)}
    write_whole(path, to_bytes(tensors, metadata=header))


def read_encoder(
    path: Any, *, kind: str = _ENCODER_KEY
) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read the tensors and the document that `write_encoder` has written.

    A file of another kind or a newer format, or one that is truncated or altered, is a ValueError.
    """
    path = Path(path)
    if not path.is_file():
        problem = "is a folder" if path.is_dir() else "does not exist"
        raise FileNotFoundError(f"{path} {problem}: pass the file that save() has written.")
    tensors, header = _read_safetensors(path)
    return tensors, _read_document(path, header, tensors, kind)


def holds_regressor(path: Any) -> bool:
    """Return whether a safetensors file holds a regressor; what is wrong with others, loading says.

    Files that cannot be read hold none.
    """
    try:
        with safe_open(Path(path), framework="pt") as file:
            return REGRESSOR_KEY in (file.metadata() or {})
    except (OSError, SafetensorError):
        return False


def find_pretrained(name: str) -> Path:
    """Return the file of weights that are part of skastro, after a check of its bytes."""
    if name not in PRETRAINED:
        known = " or ".join(map(repr, PRETRAINED))
        raise ValueError(f"name={name!r} is unknown: pass {known}.")
    path = _PRETRAINED_FOLDER / f"{name}.safetensors"
    remedy = "install skastro again"
    with reading(path, "cannot be read", remedy, gone=f"is gone: {remedy}"):
        digest = hash_file(path)
    if digest != PRETRAINED[name]:
        raise ValueError(f"{path} is not the file that skastro was released with: {remedy}.")
    return path


def hash_file(path: Path) -> str:
    """Return the SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_tensors(path: Any) -> dict[str, Tensor]:
    """Read the named tensors of a file of weights to the CPU; no code in it is executed.

    A name of ``PRETRAINED`` stands for the file of that name in skastro.
    Files ``.pt``, ``.pth``, ``.ckpt`` and ``.bin`` are those of `torch.save`: a state dict, or a
    checkpoint that holds one as ``state_dict``, ``model_state_dict`` or ``model``. Any other ending
    is read as safetensors; a saved encoder is checked as `read_encoder` does. A file that is
    damaged, has no tensors, or has objects that only code can make, is a ValueError.
    """
    name = str(path)
    path = find_pretrained(name) if name in PRETRAINED else Path(path).expanduser()
    if not path.is_file():
        raise FileNotFoundError(
            f"weights={name!r} does not exist, and nothing is downloaded: pass the path of a "
            "file of weights, a name of list_pretrained(), or 'imagenet'."
        )
    if path.suffix.lower() in _TORCH_ENDINGS:
        return _read_torch(path)
    tensors, header = _read_safetensors(path)
    for kind in _KINDS.keys() & header.keys():
        _read_document(path, header, tensors, kind)
    return tensors


def _read_safetensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    problem, remedy = "is not a safetensors file, or is truncated", "copy or save it again"
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
            warnings.simplefilter("ignore")  # about old formats
            content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise ValueError(
            f"{path} is damaged, or holds more than tensors, which is not read because it could "
            "run code: write its state dict to a .safetensors file, if you trust it."
        ) from error
    except Exception as error:  # damaged files raise many kinds
        raise ValueError(f"{path} cannot be read by torch: copy or save it again.") from error
    content = content if isinstance(content, dict) else {}
    state_dicts = (content[k] for k in _STATE_DICT_KEYS if isinstance(content.get(k), dict))
    content = next(state_dicts, content)
    tensors = {k: t for k, t in content.items() if isinstance(k, str) and isinstance(t, Tensor)}
    if not tensors:
        raise ValueError(f"{path} holds no state dict: save model.state_dict() in it.")
    return tensors


def _read_document(
    path: Path, header: dict[str, str], tensors: dict[str, Tensor], kind: str
) -> dict[str, Any]:
    if kind not in header:
        other = next((f" but {noun}" for key, noun in _KINDS.items() if key in header), "")
        own = _KINDS[kind].split()[-1]
        raise ValueError(
            f"{path} holds no skastro {own}{other}: pass a file that save() of the {own} has "
            "written."
        )
    try:
        document = json.loads(header[kind])
        version = document["format_version"]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise ValueError(f"{path} has an unreadable description: save it again.") from error
    if type(version) is not int or version < 1:
        raise ValueError(f"{path} has an invalid format version: save it again.")
    if version > FORMAT_VERSION:
        raise ValueError(
            f"{path} has format {version}, but this skastro reads up to {FORMAT_VERSION}: "
            "pip install --upgrade skastro."
        )
    if header.get(_CHECKSUM_KEY) != _checksum(header[kind], tensors):
        raise ValueError(f"{path} was altered after it was saved: copy or save it again.")
    return document


def _checksum(text: str, tensors: dict[str, Tensor]) -> str:
    digest = hashlib.sha256(text.encode())
    for name in sorted(tensors):
        tensor = tensors[name]
        digest.update(f"{name}{tensor.dtype}{tuple(tensor.shape)}".encode())
        # as bytes, because numpy lacks some of the dtypes that a file may hold
        digest.update(tensor.contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()
