"""Write a fitted encoder to one safetensors file, and load it again.

The tensors are those of the network and of the scaling of the embeddings; a JSON document in the
header holds the rest. A file may come from anywhere: no code in it runs, and its document is
checked before memory is allocated for the network that it describes. Encoders of `load_pretrained`,
which take stamps of any bands and size, have no ``image_shape``, but the size of their ``planes``.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from types import NoneType
from typing import Any, get_args, get_origin, get_type_hints

import numpy as np
import torch
from torch import Tensor

from skastro.estimators.morphology import MorphologyTargets
from skastro.estimators.targets import PropertyTargets
from skastro.estimators.training_statistics import TrainingStatistics
from skastro.networks.backbones import (
    STAMP_BACKBONES,
    Backbone,
    InputScaling,
    PooledBackbone,
    StampNetwork,
    make_body,
    possible_sizes,
)
from skastro.networks.inference import prepare_for_inference
from skastro.networks.teacher import PLANE_KINDS, TeacherNetwork
from skastro.networks.training import seeded
from skastro.networks.weights import read_encoder, write_encoder
from skastro.utils.files import first_line, require

_CODE_PARAMETERS = ("backbone", "loss", "targets")  # may be code, which is never stored
_DOCUMENT_TYPES: dict[str, set[type]] = {
    "params": {dict}, "unnamed": {list}, "seed": {int}, "image_shape": {list, NoneType},
    "n_features_in": {int, NoneType}, "targets": {dict}, "property_source": {str},
    "n_missing_pixels": {int}, "history": {list}, "stretch": {bool}, "size": {list, NoneType},
    "bands": {list, NoneType}, "planes": {list, NoneType},
    "statistics": {dict, NoneType},
}  # fmt: skip
_EMBEDDING_TENSORS = ("embedding.mean", "embedding.scale")
_SCALING_TENSORS = ("scaling.offset", "scaling.scale")
_DTYPES = {torch.float32, torch.float64, torch.bool, torch.uint8, torch.int32, torch.int64}
_MAX_STAMP_VALUES = 2**28  # pixels of a stamp, in all bands
_PLANE_SIZES = range(8, 513)  # pixels
_MAX_BATCH_SIZE = 2**16
_MAX_NAME_LENGTH = 200  # characters of the name of a backbone, a loss or targets


def save_encoder(encoder: Any, path: Any) -> None:
    """Write a fitted encoder to a file, as `PropertyPretrainedEncoder.save` describes."""
    write_encoder(path, *pack_encoder(encoder))


def pack_encoder(encoder: Any) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Return the tensors and the document of a fitted encoder."""
    tensors = encoder.network_.state_dict()
    tensors["embedding.mean"] = torch.from_numpy(encoder.embedding_mean_)
    tensors["embedding.scale"] = torch.from_numpy(encoder.embedding_scale_)
    targets = vars(encoder.targets_)
    targets = targets | {name: targets[name].tolist() for name in ("center", "scale")}
    network = encoder.network_
    is_teacher = isinstance(network, TeacherNetwork)
    statistics = getattr(encoder, "statistics_", None)
    entries = {
        **pack_params(encoder), "targets": targets,
        "stretch": not is_teacher and network.scaling.stretch, "size": network.backbone.size,
        "bands": getattr(encoder, "bands_", None) and list(encoder.bands_),
        "planes": [network.scaling.size, network.scaling.kind] if is_teacher else None,
        "statistics": None if statistics is None else statistics.pack(),
    }  # fmt: skip
    # the other entries are fitted attributes, of which a teacher lacks the number of features
    for name in _DOCUMENT_TYPES.keys() - entries.keys():
        entries[name] = getattr(encoder, f"{name}_", None)
    return tensors, {name: entries[name] for name in _DOCUMENT_TYPES}


def pack_params(encoder: Any) -> dict[str, Any]:
    """Return the parameters of an encoder; those that are code are listed, but not stored."""
    params = encoder.get_params(deep=False)
    if isinstance(encoder.weights, Path):
        params["weights"] = str(encoder.weights)
    params["checkpoint_dir"] = None  # a folder of this machine
    unnamed = [name for name in _CODE_PARAMETERS if not isinstance(params[name], str)]
    params |= dict.fromkeys(unnamed)
    if not isinstance(encoder.random_state, int):
        params["random_state"] = None
    return {"params": params, "unnamed": unnamed}


def load_encoder(cls: type[Any], path: Any, backbone: Backbone | None) -> Any:
    """Read a file of `save_encoder`, as `PropertyPretrainedEncoder.load` describes."""
    tensors, document = read_encoder(path)
    _rename_old_parameter(document)
    return unpack_encoder(cls, path, tensors, document, backbone)


def unpack_encoder(
    cls: type[Any],
    path: Any,
    tensors: dict[str, Tensor],
    document: dict[str, Any],
    backbone: Backbone | None,
) -> Any:
    """Return the encoder that `pack_encoder` has described, after a check of all its parts.

    ``path`` names the file in messages; ``backbone`` is needed where it was code.
    """
    document = {"bands": None, "planes": None, "statistics": None, **document}  # of older files
    tensors = {name: t.float() if t.dtype == torch.half else t for name, t in tensors.items()}
    try:
        _check_document(document, tensors, get_type_hints(cls.__init__))
        statistics = _unpack_statistics(document, tensors)
    except ValueError as error:
        raise ValueError(
            f"{path} does not describe a valid encoder ({error}): copy or save it again."
        ) from None
    encoder = cls(**unpack_params(path, document, backbone))
    # what `fit` has learned
    targets = document["targets"]
    parts: dict[str, Any] = {name: tuple(targets[name]) for name in _names_of(document)}
    parts |= {name: np.asarray(targets[name], np.float64) for name in ("center", "scale")}
    kind: Any = PropertyTargets if document["planes"] is None else MorphologyTargets
    encoder.targets_ = kind(**parts, units=targets["units"])
    for name in ("seed", "property_source", "n_missing_pixels", "history"):
        setattr(encoder, f"{name}_", document[name])
    if document["planes"] is None:
        encoder.n_features_in_ = document["n_features_in"]
    encoder.image_shape_ = document["image_shape"] and tuple(document["image_shape"])
    encoder.bands_ = document["bands"] and tuple(document["bands"])
    encoder.statistics_ = statistics
    encoder.embedding_mean_ = tensors.pop("embedding.mean").numpy()
    encoder.embedding_scale_ = tensors.pop("embedding.scale").numpy()
    encoder.network_ = restore_network(path, encoder.backbone, document, tensors)
    return encoder


def _unpack_statistics(
    document: Mapping[str, Any], tensors: Mapping[str, Tensor]
) -> TrainingStatistics | None:
    """Return what is known of the training stamps, None in older files and for teachers."""
    entries = document["statistics"]
    if entries is None:
        return None
    require(document["image_shape"] is not None, "its statistics do not belong to a teacher")
    try:
        n_bands, n_features = document["image_shape"][0], len(tensors["embedding.mean"])
        return TrainingStatistics.unpack(entries, n_bands, n_features)
    except (KeyError, TypeError, AttributeError):
        raise ValueError("its statistics are incomplete") from None


def unpack_params(
    path: Any, document: Mapping[str, Any], backbone: Backbone | None
) -> dict[str, Any]:
    """Return the checked parameters of `pack_params`, with what the file cannot hold."""
    params, unnamed = dict(document["params"]), document["unnamed"]
    if "backbone" in unnamed:
        if backbone is None:
            raise ValueError(
                f"{path} holds the weights of a module of your own: pass it as backbone=."
            )
        params["backbone"] = backbone
    defaults = {"loss": "huber", "targets": "measured"}
    params |= {name: value for name, value in defaults.items() if name in unnamed}
    if params["image_shape"] is not None:
        params["image_shape"] = tuple(params["image_shape"])
    params["checkpoint_dir"] = None  # a file does not say where to write
    return params


def _rename_old_parameter(document: dict[str, Any]) -> None:
    """Rename ``properties`` to ``targets``, as the parameter was called in older files."""
    params, unnamed = document.get("params"), document.get("unnamed")
    if isinstance(params, dict) and "properties" in params:
        params["targets"] = params.pop("properties")
        if isinstance(unnamed, list):
            unnamed[:] = ["targets" if name == "properties" else name for name in unnamed]


def _check_document(
    document: Mapping[str, Any], tensors: Mapping[str, Tensor], hints: Mapping[str, Any]
) -> None:
    """Raise a ValueError if `save_encoder` cannot have written such a document and tensors."""
    for name, types in _DOCUMENT_TYPES.items():
        valid = type(document.get(name, ...)) in types
        require(valid, f"its {name} is missing, or of a wrong type")
    check_params(document["params"], document["unnamed"], hints)
    # the stamps, which are of any shape for a teacher
    shape, planes, bands = (document[name] for name in ("image_shape", "planes", "bands"))
    if planes is None:
        valid = shape is not None and len(shape) == 3
        valid = valid and all(type(side) is int and side > 0 for side in shape)
        valid = valid and math.prod(shape) <= _MAX_STAMP_VALUES
        require(valid, "its image_shape is not that of stamps")
        valid = bands is None or (len(bands) == shape[0] and {type(b) for b in bands} == {str})
        require(valid, "its bands have no valid names")
        require(document["n_features_in"] is not None, "its n_features_in is missing")
    else:
        valid = len(planes) == 2 and planes[0] in _PLANE_SIZES and planes[1] in PLANE_KINDS
        valid = valid and document["params"]["backbone"] in STAMP_BACKBONES
        valid = valid and (shape, bands, document["n_features_in"]) == (None, None, None)
        require(valid, "its planes are not those of a teacher")
    # what it predicts
    counts = _check_targets(document["targets"], _names_of(document))
    n_outputs = counts[0] if planes is None else 2 * counts[0] + counts[1]
    _check_tensors(tensors, shape and shape[0], n_outputs)


def _names_of(document: Mapping[str, Any]) -> tuple[str, ...]:
    """Return where the targets have the names of columns: of those that are regressed first."""
    return ("names",) if document["planes"] is None else ("properties", "kinds")


def check_params(params: Mapping[str, Any], unnamed: list[Any], hints: Mapping[str, Any]) -> None:
    """Raise a ValueError if `pack_params` cannot have written such parameters."""
    # of the types in the signature, and of sizes that a machine can hold
    valid = all(name in _CODE_PARAMETERS for name in unnamed)
    require(valid, "a parameter that is not code lacks its value")
    for name, value in params.items():
        valid = name in hints and (name in unnamed or has_type(value, hints[name]))
        require(valid, f"its parameter {name[:50]!r} is unknown, or of a wrong type")
    require({"image_shape", "batch_size"} <= set(params), "a parameter is missing")
    require(0 < params["batch_size"] <= _MAX_BATCH_SIZE, "its batch_size is out of range")
    for name in set(_CODE_PARAMETERS) - set(unnamed):
        text = params.get(name)
        valid = isinstance(text, str) and len(text) <= _MAX_NAME_LENGTH
        require(valid, f"its {name} has no valid name")


def has_type(value: Any, hint: Any) -> bool:
    """Return whether a JSON value has a type, or one type of a union, and is finite."""
    types = {get_origin(kind) or kind for kind in get_args(hint) or (hint,)}
    if get_origin(hint) in (tuple, dict):  # whose arguments are not alternatives
        types = {get_origin(hint)}
    types |= {int} if float in types else set()
    types |= {list} if types & {tuple, Sequence} else set()
    return type(value) in types and (type(value) is not float or math.isfinite(value))


def _check_targets(targets: Mapping[str, Any], lists: tuple[str, ...]) -> list[int]:
    """Check targets whose names are in some lists, and return the lengths of these."""
    found: list[Any] = [targets.get(key) for key in lists]
    units: Any = targets.get("units")
    valid = all(isinstance(part, list) and part for part in found)
    every = [name for part in found for name in part] if valid else []
    valid = valid and all(isinstance(name, str) for name in every)
    require(valid and len(every) == len(set(every)), "its properties have no valid names")
    names = found[0]
    valid = isinstance(units, dict) and all(isinstance(unit, str) for unit in units.values())
    require(valid, "its units are not text")
    for name in ("center", "scale"):
        values: Any = targets.get(name)
        valid = isinstance(values, list) and len(values) == len(names)
        valid = valid and all(type(v) in (int, float) and math.isfinite(v) for v in values)
        require(valid, f"the {name} of its properties is not finite")
    require(min(targets["scale"]) > 0, "the scale of its properties is not positive")
    return list(map(len, found))


def _check_tensors(tensors: Mapping[str, Tensor], n_bands: int | None, n_outputs: int) -> None:
    require(set(_EMBEDDING_TENSORS) <= set(tensors), "tensors are missing")
    network = {name: tensor for name, tensor in tensors.items() if name not in _EMBEDDING_TENSORS}
    mean, spread = (tensors[name] for name in _EMBEDDING_TENSORS)
    check_network(network, n_bands, n_outputs, len(mean) if mean.ndim == 1 else 0)
    valid = mean.dtype == spread.dtype == torch.float32 and mean.shape == spread.shape
    require(valid, "its tensors have other shapes")
    require(mean.isfinite().all(), "its tensor 'embedding.mean' is not finite")
    # a feature that is constant on the training stamps has an infinite scale
    require((spread > 0).all(), "its scales are not positive")


def check_network(
    tensors: Mapping[str, Tensor], n_bands: int | None, n_outputs: int, n_features: int
) -> None:
    """Raise a ValueError if the tensors are not those of a network of these dimensions.

    A network for any bands, None, has no scaling.
    """
    require({t.dtype for t in tensors.values()} <= _DTYPES, "its tensors have an unknown dtype")
    floats = {name: tensor for name, tensor in tensors.items() if tensor.is_floating_point()}
    scaling = () if n_bands is None else _SCALING_TENSORS
    require({"head.weight", *scaling} <= set(floats), "tensors are missing")
    valid = tensors["head.weight"].shape == (n_outputs, n_features)
    valid = valid and all(tensors[name].shape == (n_bands, 1, 1) for name in scaling)
    require(valid, "its tensors have other shapes")
    for name, tensor in floats.items():
        require(tensor.float().isfinite().all(), f"its tensor {name[:50]!r} is not finite")
    if scaling:
        require((tensors["scaling.scale"] > 0).all(), "its scales are not positive")


def restore_network(
    path: Any, backbone: Backbone, document: Mapping[str, Any], tensors: Mapping[str, Tensor]
) -> Any:
    """Build a network of checked tensors, to run it; nothing is downloaded.

    ``document`` holds its ``image_shape``, and the ``stretch`` and the ``size`` of its stamps, or
    the size of its ``planes``.
    """
    assemble = _plan_teacher if document.get("planes") else _plan_network
    build = assemble(path, backbone, document, tensors)
    named = isinstance(backbone, str)
    try:
        # named backbones first without memory: timm knows networks with billions of weights
        with seeded(0):
            with torch.device("meta" if named else "cpu"):
                network = build()
                _check_fit(network, tensors, document)
            if named:
                network = build()
        network.load_state_dict(tensors)
        prepare_for_inference(network)
    except (RuntimeError, AssertionError, TypeError, ValueError) as error:
        name = repr(backbone) if named else type(backbone).__name__
        raise ValueError(
            f"{path} does not fit the backbone {name} ({first_line(error)}): "
            "pass the architecture it was saved with."
        ) from error
    return network


def _plan_network(
    path: Any, backbone: Backbone, document: Mapping[str, Any], tensors: Mapping[str, Tensor]
) -> Callable[[], StampNetwork]:
    """Return a function that builds the network of stamps of one shape."""
    image_shape = tuple(document["image_shape"])
    size = None if document["size"] is None else tuple(document["size"])
    sizes = possible_sizes(backbone, image_shape, None)
    sizes += possible_sizes(backbone, image_shape, "imagenet")
    if size is not None and size not in sizes:
        raise ValueError(f"{path} enlarges its stamps to an odd size ({size}): save it again.")

    def build() -> StampNetwork:
        n_bands, stretch = image_shape[0], document["stretch"]
        scaling = InputScaling(torch.zeros(n_bands), torch.ones(n_bands), stretch=stretch)
        body = PooledBackbone(make_body(backbone, image_shape, None), size)
        n_outputs, n_features = tensors["head.weight"].shape
        return StampNetwork(scaling, body, n_features, n_outputs)

    return build


def _plan_teacher(
    _: Any, backbone: Any, document: Mapping[str, Any], __: Mapping[str, Tensor]
) -> Callable[[], TeacherNetwork]:
    """Return a function that builds the network of stamps of any shape."""
    counts = [len(document["targets"][name]) for name in _names_of(document)]
    size, kind = document["planes"]
    return partial(TeacherNetwork, backbone, size, *counts, planes=kind)


def _check_fit(network: Any, tensors: Mapping[str, Tensor], document: Mapping[str, Any]) -> None:
    """Raise an error if a network has other tensors than a file, or does not take the stamps."""
    shapes = {name: tensor.shape for name, tensor in network.state_dict().items()}
    if shapes != {name: tensor.shape for name, tensor in tensors.items()}:
        raise RuntimeError("its tensors have other names or shapes")
    if document["image_shape"] is not None:  # a teacher has run when it was built
        with torch.inference_mode():
            network.eval()
            network.head(network.embed(torch.zeros(1, *document["image_shape"])))
