"""Write a fitted classifier, with its encoder, to one safetensors file, and load it again.

The container and the encoder in it are those of `skastro.estimators.saving`. As there, no code in
a file runs, and everything is checked before it is used.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from types import NoneType
from typing import Any, get_type_hints

import numpy as np
import torch
from sklearn.frozen import FrozenEstimator
from torch import Tensor

from skastro.estimators.encoder import PropertyPretrainedEncoder
from skastro.estimators.kernel_probe import KernelProbe
from skastro.estimators.saving import (
    check_network,
    check_params,
    has_type,
    pack_encoder,
    pack_params,
    require,
    restore_network,
    unpack_encoder,
    unpack_params,
)
from skastro.networks.backbones import Backbone, StampNetwork
from skastro.networks.weights import CLASSIFIER_KEY, read_encoder, write_encoder

_ENCODER, _NETWORK = "encoder.", "network."  # how the names of their tensors begin
_PROBES = ("probe", "catalog_probe")
_DOCUMENT_TYPES: dict[str, set[type]] = {
    "params": {dict}, "encoder": {dict}, "encoder_param": {dict, str, NoneType},
    "classes": {list}, "classes_dtype": {str}, "n_features_in": {int},
    "feature_names_in": {list, NoneType}, "bands": {list, NoneType},
    "measured_names": {list, NoneType}, "catalog_names": {list}, "choice": {str},
    "blend": {float}, "catalog_blend": {float}, "cv_losses": {list}, "catalog_cv_losses": {list},
    "network": {dict, NoneType}, "probe": {dict, NoneType}, "catalog_probe": {dict, NoneType},
}  # fmt: skip
# fitted attributes by the way in which the document holds them
_FITTED = ("n_features_in", "choice", "blend", "catalog_blend")
_LISTS = ("feature_names_in", "bands", "measured_names", "catalog_names")
_LOSSES = ("cv_losses", "catalog_cv_losses")
_PROBE_NUMBERS = ("alpha_", "sharpness_", "loo_loss_", "length_", "width_")
_PROBE_ARRAYS = (
    "center_", "scale_", "centers_", "loo_probabilities_", "_center_embedding",
    "_center_properties", "_coef",
)  # fmt: skip
_MAX_DTYPE_LENGTH = 8  # characters, such as "<U12"


def save_classifier(classifier: Any, path: Any) -> None:
    """Write a fitted classifier to a file, as `SelfSupervisedClassifier.save` describes."""
    tensors, encoder = pack_encoder(classifier.encoder_)
    tensors = {_ENCODER + name: tensor for name, tensor in tensors.items()}
    document = {name: getattr(classifier, f"{name}_") for name in _FITTED}
    for name in _LISTS:
        values = getattr(classifier, f"{name}_", None)
        document[name] = None if values is None else list(values)
    # JSON has text as keys only: dicts become lists of pairs
    document |= {name: [*getattr(classifier, f"{name}_").items()] for name in _LOSSES}
    params = classifier.get_params(deep=False)
    param = params.pop("encoder")
    if isinstance(params["class_weight"], Mapping):
        params["class_weight"] = [*params["class_weight"].items()]
    if not isinstance(params["random_state"], int):
        params["random_state"] = None
    is_unfitted = not (param is None or isinstance(param, FrozenEstimator))
    document |= {
        "params": params,
        "encoder": encoder,
        "encoder_param": pack_params(param) if is_unfitted else param and "frozen",
        "classes": classifier.classes_.tolist(),
        "classes_dtype": classifier.classes_.dtype.str,
        "network": None,
    }
    if (network := classifier.network_) is not None:
        tensors |= {_NETWORK + name: tensor for name, tensor in network.state_dict().items()}
        document["network"] = {"stretch": network.scaling.stretch, "size": network.backbone.size}
    for name in _PROBES:
        probe = getattr(classifier, f"{name}_")
        document[name] = None
        if probe is not None:
            state = vars(probe)
            for part in _PROBE_ARRAYS:
                tensors[f"{name}.{part}"] = torch.from_numpy(np.ascontiguousarray(state[part]))
            document[name] = {part: float(state[part]) for part in _PROBE_NUMBERS}
    write_encoder(path, tensors, document, kind=CLASSIFIER_KEY)


def load_classifier(cls: type[Any], path: Any, backbone: Backbone | None) -> Any:
    """Read a file of `save_classifier`, as `SelfSupervisedClassifier.load` describes."""
    tensors, document = read_encoder(path, kind=CLASSIFIER_KEY)
    with _checking(path):
        for name, types in _DOCUMENT_TYPES.items():
            valid = type(document.get(name, ...)) in types
            require(valid, f"its {name} is missing, or of a wrong type")
        params = _unpack_params(document["params"], get_type_hints(cls.__init__))
        fitted = _unpack_fitted(document)
        if isinstance(param := document["encoder_param"], dict):
            hints = get_type_hints(PropertyPretrainedEncoder.__init__)
            check_params(param["params"], param["unnamed"], hints)
    # the encoder
    encoder = unpack_encoder(
        PropertyPretrainedEncoder, path, _take(tensors, _ENCODER), document["encoder"], backbone
    )
    fitted |= {"encoder_": encoder, "image_shape_": encoder.image_shape_}
    if isinstance(param, dict):
        params["encoder"] = PropertyPretrainedEncoder(**unpack_params(path, param, backbone))
    elif param is not None:
        params["encoder"] = FrozenEstimator(encoder)
    # what was learned from the labels
    with _checking(path):
        n_bands, height, width = encoder.image_shape_
        valid = fitted["n_features_in_"] in (n_bands, n_bands * height * width)
        require(valid, "its n_features_in is not that of its stamps")
        for name in _PROBES:
            fitted[f"{name}_"] = _unpack_probe(name, document, tensors, fitted)
    fitted["network_"] = _unpack_network(path, document["network"], tensors, fitted)
    classifier = cls(**params)
    vars(classifier).update(fitted)
    return classifier


@contextmanager
def _checking(path: Any) -> Iterator[None]:
    """Replace errors of checks by one sentence about a file."""
    try:
        yield
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise ValueError(
            f"{path} does not describe a valid classifier ({error}): copy or save it again."
        ) from None


def _take(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """Return the tensors whose names begin with a prefix, without it."""
    return {k.removeprefix(prefix): t for k, t in tensors.items() if k.startswith(prefix)}


def _unpack_params(params: dict[str, Any], hints: Mapping[str, Any]) -> dict[str, Any]:
    if isinstance(params.get("class_weight"), list):
        params["class_weight"] = dict(params["class_weight"])
    for name, value in params.items():
        valid = name != "encoder" and name in hints and has_type(value, hints[name])
        require(valid, f"its parameter {name[:50]!r} is unknown, or of a wrong type")
    valid = params.get("strategy") in ("auto", "probe", "finetune", "scratch")
    require(valid, "its strategy is unknown")
    return params


def _unpack_fitted(document: Mapping[str, Any]) -> dict[str, Any]:
    """Return checked attributes of a fitted classifier, without its networks and probes."""
    fitted = {f"{name}_": document[name] for name in _FITTED}
    # classes
    values, dtype = document["classes"], document["classes_dtype"]
    kind = dtype[1:2]
    kinds = {"b": bool, "i": int, "u": int, "f": float, "U": str, "O": str}
    valid = kind in kinds and {type(value) for value in values} == {kinds[kind]}
    valid = valid and 1 < len(values) == len(set(values))
    require(valid and len(dtype) <= _MAX_DTYPE_LENGTH, "its classes are not valid")
    fitted["classes_"] = np.array(values, object if kind == "O" else f"={dtype[1:]}")
    # names of columns and bands
    for name in _LISTS:
        names = document[name]
        require(all(isinstance(text, str) for text in names or ()), f"its {name} are not text")
        fitted[f"{name}_"] = names
    fitted["bands_"] = document["bands"] and tuple(document["bands"])
    for name in ("feature_names_in_", "measured_names_"):
        if fitted[name] is None:
            del fitted[name]
        elif name == "feature_names_in_":
            fitted[name] = np.array(fitted[name], dtype=object)
    # losses, and shares of the network
    for name in _LOSSES:
        fitted[f"{name}_"] = dict(document[name])
        numbers = [*fitted[f"{name}_"], *fitted[f"{name}_"].values()]
        require({type(number) for number in numbers} <= {float}, f"its {name} are not numbers")
    for probe, share in zip(_PROBES, ("blend", "catalog_blend"), strict=True):
        blend = document[share]
        valid = 0 <= blend <= 1 and (blend == 0 or document["network"] is not None)
        valid = valid and (blend == 1 or document[probe] is not None or probe != "probe")
        require(valid, f"its {share} does not belong to its probe and network")
    return fitted


def _unpack_probe(
    name: str, document: Mapping[str, Any], tensors: Mapping[str, Tensor], fitted: Mapping[str, Any]
) -> KernelProbe | None:
    """Return a probe, if there is one, after a check that all its parts belong together."""
    numbers, tensors = document[name], _take(tensors, f"{name}.")
    if numbers is None:
        return None
    valid = set(numbers) == set(_PROBE_NUMBERS) and set(tensors) == set(_PROBE_ARRAYS)
    require(valid, "a part of its probe is missing")
    valid = all(type(number) is float and math.isfinite(number) for number in numbers.values())
    require(valid, "a number of its probe is not finite")
    arrays = {part: tensor.numpy() for part, tensor in tensors.items()}
    # sizes
    encoder, k = fitted["encoder_"], len(fitted["classes_"])
    n_features, n_rows = len(encoder.embedding_mean_), len(arrays["loo_probabilities_"])
    n_properties = len(encoder.targets_.names) + len(fitted["measured_names_"])
    n_properties += len(fitted["catalog_names_"]) if name == "catalog_probe" else 0
    n_centers = len(arrays["centers_"])
    shapes = {
        "center_": (n_properties,), "scale_": (n_properties,), "centers_": (n_centers,),
        "loo_probabilities_": (n_rows, k), "_center_embedding": (n_centers, n_features),
        "_center_properties": (n_centers, n_properties), "_coef": (n_centers, k),
    }  # fmt: skip
    for part, shape in shapes.items():
        array = arrays[part]
        valid = array.shape == shape and array.dtype == ("i8" if part == "centers_" else "f8")
        # a constant column has an infinite scale
        valid = valid and len(array) > 0 and (part == "scale_" or bool(np.isfinite(array).all()))
        require(valid, f"the {part.strip('_')} of its probe is not valid")
    scales = [arrays["scale_"].min(), numbers["length_"], numbers["width_"]]
    require(min(scales) > 0, "the scales of its probe are not positive")
    params = document["params"]
    probe = KernelProbe(
        n_properties, class_weight=params["class_weight"], random_state=params["random_state"]
    )
    classes = {"classes_": fitted["classes_"], "n_features_in_": n_features + n_properties}
    for attribute, value in (arrays | numbers | classes).items():
        setattr(probe, attribute, value)
    return probe


def _unpack_network(
    path: Any, network: dict[str, Any] | None, tensors: Mapping[str, Tensor], fitted: dict[str, Any]
) -> StampNetwork | None:
    if network is None:
        return None
    encoder, tensors = fitted["encoder_"], _take(tensors, _NETWORK)
    with _checking(path):
        n_classes, n_features = len(fitted["classes_"]), len(encoder.embedding_mean_)
        check_network(tensors, encoder.image_shape_[0], n_classes, n_features)
        size = network["size"]
        valid = size is None or (type(size) is list and len(size) == 2)
        require(valid and type(network["stretch"]) is bool, "its network is of a wrong type")
    document = {**network, "image_shape": encoder.image_shape_}
    return restore_network(path, encoder.backbone, document, tensors)
