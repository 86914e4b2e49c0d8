"""Write a fitted encoder to one safetensors file, and load it again.

The tensors are those of the network and of the scaling of the embeddings; a JSON document in the
header holds the rest. A file may come from anywhere: no code in it runs, and its document is
checked before memory is allocated for the network that it describes.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from types import NoneType
from typing import Any, get_args, get_origin, get_type_hints

import numpy as np
import torch
from torch import Tensor

from skastro.estimators.targets import PropertyTargets
from skastro.networks.backbones import (
    Backbone,
    InputScaling,
    PooledBackbone,
    StampNetwork,
    make_body,
    possible_sizes,
)
from skastro.networks.inference import prepare_for_inference
from skastro.networks.training import seeded
from skastro.networks.weights import read_encoder, write_encoder
from skastro.utils.files import first_line

_CODE_PARAMETERS = ("backbone", "loss", "targets")  # may be code, which is never stored
_DOCUMENT_TYPES: dict[str, set[type]] = {
    "params": {dict}, "unnamed": {list}, "seed": {int}, "image_shape": {list},
    "n_features_in": {int}, "targets": {dict}, "property_source": {str},
    "n_missing_pixels": {int}, "history": {list}, "stretch": {bool}, "size": {list, NoneType},
}  # fmt: skip
_REQUIRED_TENSORS = (
    "embedding.mean", "embedding.scale", "head.weight", "scaling.offset", "scaling.scale"
)  # fmt: skip
_DTYPES = {torch.float32, torch.float64, torch.bool, torch.uint8, torch.int32, torch.int64}
_MAX_STAMP_VALUES = 2**28  # pixels of a stamp, in all bands
_MAX_BATCH_SIZE = 2**16
_MAX_NAME_LENGTH = 200  # characters of the name of a backbone, a loss or targets


def save_encoder(encoder: Any, path: Any) -> None:
    """Write a fitted encoder to a file, as `PropertyPretrainedEncoder.save` describes."""
    tensors = encoder.network_.state_dict()
    tensors["embedding.mean"] = torch.from_numpy(encoder.embedding_mean_)
    tensors["embedding.scale"] = torch.from_numpy(encoder.embedding_scale_)
    # parameters that are code are listed, but not stored
    params = encoder.get_params(deep=False)
    if isinstance(encoder.weights, Path):
        params["weights"] = str(encoder.weights)
    params["checkpoint_dir"] = None  # a folder of this machine
    unnamed = [name for name in _CODE_PARAMETERS if not isinstance(params[name], str)]
    params |= dict.fromkeys(unnamed)
    if not isinstance(encoder.random_state, int):
        params["random_state"] = None
    targets = vars(encoder.targets_)
    targets = targets | {name: targets[name].tolist() for name in ("center", "scale")}
    network = encoder.network_
    entries = {
        "params": params, "unnamed": unnamed, "targets": targets,
        "stretch": network.scaling.stretch, "size": network.backbone.size,
    }  # fmt: skip
    # the other entries are fitted attributes
    for name in _DOCUMENT_TYPES.keys() - entries.keys():
        entries[name] = getattr(encoder, f"{name}_")
    write_encoder(path, tensors, {name: entries[name] for name in _DOCUMENT_TYPES})


def load_encoder(cls: type[Any], path: Any, backbone: Backbone | None) -> Any:
    """Read a file of `save_encoder`, as `PropertyPretrainedEncoder.load` describes."""
    tensors, document = read_encoder(path)
    _rename_old_parameter(document)
    try:
        _check_document(document, tensors, get_type_hints(cls.__init__))
    except ValueError as error:
        raise ValueError(
            f"{path} does not describe a valid encoder ({error}): copy or save it again."
        ) from None
    # parameters that are not in the file
    params, unnamed = document["params"], document["unnamed"]
    if "backbone" in unnamed:
        if backbone is None:
            raise ValueError(
                f"{path} holds the weights of a module of your own: pass it as backbone=."
            )
        params["backbone"] = backbone
    for name, default in (("loss", "huber"), ("targets", "measured")):
        if name in unnamed:
            params[name] = default
    if params["image_shape"] is not None:
        params["image_shape"] = tuple(params["image_shape"])
    params["checkpoint_dir"] = None  # a file does not say where to write
    # what `fit` has learned
    encoder = cls(**params)
    targets = document["targets"]
    center, scale = (np.asarray(targets[name], np.float64) for name in ("center", "scale"))
    encoder.targets_ = PropertyTargets(tuple(targets["names"]), center, scale, targets["units"])
    for name in ("seed", "n_features_in", "property_source", "n_missing_pixels", "history"):
        setattr(encoder, f"{name}_", document[name])
    encoder.image_shape_ = tuple(document["image_shape"])
    encoder.embedding_mean_ = tensors.pop("embedding.mean").numpy()
    encoder.embedding_scale_ = tensors.pop("embedding.scale").numpy()
    with seeded(0):
        encoder.network_ = _restore_network(path, encoder.backbone, document, tensors)
    prepare_for_inference(encoder.network_)
    return encoder


def _rename_old_parameter(document: dict[str, Any]) -> None:
    """Rename ``properties`` to ``targets``, as the parameter was called in older files."""
    params, unnamed = document.get("params"), document.get("unnamed")
    if isinstance(params, dict) and "properties" in params:
        params["targets"] = params.pop("properties")
        if isinstance(unnamed, list):
            unnamed[:] = ["targets" if name == "properties" else name for name in unnamed]


def _require(condition: object, problem: str) -> None:
    if not condition:
        raise ValueError(problem)


def _check_document(
    document: Mapping[str, Any], tensors: Mapping[str, Tensor], hints: Mapping[str, Any]
) -> None:
    """Raise a ValueError if `save_encoder` cannot have written such a document and tensors."""
    for name, types in _DOCUMENT_TYPES.items():
        valid = type(document.get(name, ...)) in types
        _require(valid, f"its {name} is missing, or of a wrong type")
    params, unnamed, shape = (document[name] for name in ("params", "unnamed", "image_shape"))
    # parameters: of the types in the signature, and of sizes that a machine can hold
    valid = all(name in _CODE_PARAMETERS for name in unnamed)
    _require(valid, "a parameter that is not code lacks its value")
    for name, value in params.items():
        valid = name in hints and (name in unnamed or _has_type(value, hints[name]))
        _require(valid, f"its parameter {name[:50]!r} is unknown, or of a wrong type")
    _require({"image_shape", "batch_size"} <= set(params), "a parameter is missing")
    _require(0 < params["batch_size"] <= _MAX_BATCH_SIZE, "its batch_size is out of range")
    for name in set(_CODE_PARAMETERS) - set(unnamed):
        text = params.get(name)
        valid = isinstance(text, str) and len(text) <= _MAX_NAME_LENGTH
        _require(valid, f"its {name} has no valid name")
    valid = len(shape) == 3 and all(type(side) is int and side > 0 for side in shape)
    valid = valid and math.prod(shape) <= _MAX_STAMP_VALUES
    _require(valid, "its image_shape is not that of stamps")
    _check_targets(document["targets"])
    _check_tensors(tensors, shape[0], len(document["targets"]["names"]))


def _has_type(value: Any, hint: Any) -> bool:
    """Return whether a JSON value has a type, or one type of a union, and is finite."""
    types = {get_origin(kind) or kind for kind in get_args(hint) or (hint,)}
    if get_origin(hint) in (tuple, dict):  # whose arguments are not alternatives
        types = {get_origin(hint)}
    types |= {int} if float in types else set()
    types |= {list} if tuple in types else set()
    return type(value) in types and (type(value) is not float or math.isfinite(value))


def _check_targets(targets: Mapping[str, Any]) -> None:
    names: Any = targets.get("names")
    units: Any = targets.get("units")
    valid = isinstance(names, list) and bool(names) and all(isinstance(name, str) for name in names)
    _require(valid and len(names) == len(set(names)), "its properties have no valid names")
    valid = isinstance(units, dict) and all(isinstance(unit, str) for unit in units.values())
    _require(valid, "its units are not text")
    for name in ("center", "scale"):
        values: Any = targets.get(name)
        valid = isinstance(values, list) and len(values) == len(names)
        valid = valid and all(type(v) in (int, float) and math.isfinite(v) for v in values)
        _require(valid, f"the {name} of its properties is not finite")
    _require(min(targets["scale"]) > 0, "the scale of its properties is not positive")


def _check_tensors(tensors: Mapping[str, Tensor], n_bands: int, n_outputs: int) -> None:
    _require({t.dtype for t in tensors.values()} <= _DTYPES, "its tensors have an unknown dtype")
    floats = {name: tensor for name, tensor in tensors.items() if tensor.is_floating_point()}
    _require(set(_REQUIRED_TENSORS) <= set(floats), "tensors are missing")
    mean, spread, weight, offset, scale = (tensors[name] for name in _REQUIRED_TENSORS)
    valid = mean.ndim == 1 and mean.shape == spread.shape
    valid = valid and weight.shape == (n_outputs, len(mean))
    valid = valid and offset.shape == scale.shape == (n_bands, 1, 1)
    _require(valid, "its tensors have other shapes")
    for name, tensor in floats.items():
        # a feature that is constant on the training stamps has an infinite scale
        valid = name == "embedding.scale" or bool(tensor.float().isfinite().all())
        _require(valid, f"its tensor {name[:50]!r} is not finite")
    _require((spread > 0).all() and (scale > 0).all(), "its scales are not positive")


def _restore_network(
    path: Any, backbone: Backbone, document: Mapping[str, Any], tensors: Mapping[str, Tensor]
) -> StampNetwork:
    """Build the network of a checked document and load its weights; nothing is downloaded."""
    image_shape = tuple(document["image_shape"])
    size = None if document["size"] is None else tuple(document["size"])
    sizes = possible_sizes(backbone, image_shape, None)
    sizes += possible_sizes(backbone, image_shape, "imagenet")
    if size is not None and size not in sizes:
        raise ValueError(f"{path} enlarges its stamps to an odd size ({size}): save it again.")

    def assemble() -> StampNetwork:
        n_bands, stretch = image_shape[0], document["stretch"]
        scaling = InputScaling(torch.zeros(n_bands), torch.ones(n_bands), stretch=stretch)
        body = PooledBackbone(make_body(backbone, image_shape, None), size)
        n_outputs, n_features = tensors["head.weight"].shape
        return StampNetwork(scaling, body, n_features, n_outputs)

    named = isinstance(backbone, str)
    try:
        # named backbones first without memory: timm knows networks with billions of weights
        with torch.device("meta" if named else "cpu"):
            network = assemble()
            _check_fit(network, tensors, image_shape)
        if named:
            network = assemble()
        network.load_state_dict(tensors)
    except (RuntimeError, AssertionError, TypeError, ValueError) as error:
        name = repr(backbone) if named else type(backbone).__name__
        raise ValueError(
            f"{path} does not fit the backbone {name} ({first_line(error)}): "
            "pass the architecture it was saved with."
        ) from error
    return network


def _check_fit(
    network: StampNetwork, tensors: Mapping[str, Tensor], image_shape: tuple[int, int, int]
) -> None:
    """Raise an error if a network has other tensors than a file, or does not take the stamps."""
    shapes = {name: tensor.shape for name, tensor in network.state_dict().items()}
    if shapes != {name: tensor.shape for name, tensor in tensors.items()}:
        raise RuntimeError("its tensors have other names or shapes")
    with torch.inference_mode():
        network.eval()
        network.head(network.embed(torch.zeros(1, *image_shape)))
