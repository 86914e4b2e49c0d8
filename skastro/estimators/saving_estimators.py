"""Write a fitted classifier or regressor, with its encoder, to one file, and load it again.

The container and the encoder in it are those of `skastro.estimators.saving`. As there, no code in
a file runs, and everything is checked before it is used. Teachers that are part of skastro are not
copied: the file holds their names and the SHA-256 of their weights.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import NoneType
from typing import Any, get_type_hints

import numpy as np
import torch
from sklearn.frozen import FrozenEstimator
from torch import Tensor

from skastro.estimators.encoder import PropertyPretrainedEncoder
from skastro.estimators.pretrained import load_pretrained
from skastro.estimators.saving import (
    check_network,
    check_params,
    has_type,
    pack_encoder,
    pack_params,
    restore_network,
    unpack_encoder,
    unpack_params,
)
from skastro.networks.backbones import Backbone, StampNetwork
from skastro.networks.weights import (
    CLASSIFIER_KEY,
    PRETRAINED,
    REGRESSOR_KEY,
    read_encoder,
    write_encoder,
)
from skastro.probes.cross_validation import SetCalibration
from skastro.probes.saving import pack_probe, unpack_probe
from skastro.utils.files import require

# how the names of their tensors begin
_ENCODER, _NETWORK, _TEACHER = "encoder.", "network.", "teacher."
_PROBES = ("probe", "catalog_probe")
_CALIBRATIONS = ("calibration", "catalog_calibration")
_DOCUMENT_TYPES: dict[str, set[type]] = {
    "params": {dict}, "encoder": {dict}, "encoder_param": {dict, str, NoneType},
    "teachers": {list}, "pretrained_param": {str, NoneType}, "kinds": {list},
    "classes": {list}, "classes_dtype": {str}, "n_features_in": {int},
    "image_shape": {list},
    "feature_names_in": {list, NoneType}, "bands": {list, NoneType},
    "measured_names": {list, NoneType}, "catalog_names": {list}, "choice": {str},
    "blend": {float}, "catalog_blend": {float}, "cv_losses": {list}, "catalog_cv_losses": {list},
    "network": {dict, NoneType}, "probe": {dict, NoneType}, "catalog_probe": {dict, NoneType},
}  # fmt: skip
_REGRESSOR_TYPES = {
    name: types
    for name, types in _DOCUMENT_TYPES.items()
    if name in (
        "params", "encoder", "encoder_param", "teachers", "pretrained_param", "n_features_in",
        "image_shape", "feature_names_in", "bands", "catalog_names", "probe", "catalog_probe",
    )
} | {"measured_names": {list}, "loo_score": {float}, "probe": {dict}}  # fmt: skip
# fitted attributes by the way in which the document holds them
_FITTED = ("n_features_in", "choice", "blend", "catalog_blend")
_LISTS = ("feature_names_in", "bands", "measured_names", "catalog_names", "kinds")
_LOSSES = ("cv_losses", "catalog_cv_losses")
_FROZEN = "frozen"  # what stands for a FrozenEstimator among the parameters
_MAX_DTYPE_LENGTH = 8  # characters, such as "<U12"


def save_classifier(classifier: Any, path: Any) -> None:
    """Write a fitted classifier to a file, as `SelfSupervisedClassifier.save` describes."""
    tensors: dict[str, Tensor] = {}
    document = {name: getattr(classifier, f"{name}_") for name in _FITTED}
    document |= _pack_lists(classifier, _LISTS)
    # JSON has text as keys only: dicts become lists of pairs
    document |= {name: [*getattr(classifier, f"{name}_").items()] for name in _LOSSES}
    params = classifier.get_params(deep=False)
    del params["encoder"], params["pretrained"]
    if params["classes"] is not None:
        params["classes"] = np.asarray(params["classes"]).tolist()
    if isinstance(params["class_weight"], Mapping):
        params["class_weight"] = [*params["class_weight"].items()]
    if not isinstance(params["random_state"], int):
        params["random_state"] = None
    document |= {
        "params": params,
        **_pack_encoders(classifier, tensors),
        "classes": classifier.classes_.tolist(),
        "classes_dtype": classifier.classes_.dtype.str,
        "image_shape": list(classifier.image_shape_),
        "network": None,
    }
    if (network := classifier.network_) is not None:
        tensors |= {_NETWORK + name: tensor for name, tensor in network.state_dict().items()}
        document["network"] = {"stretch": network.scaling.stretch, "size": network.backbone.size}
    document |= _pack_probes(classifier, tensors)
    for name in _CALIBRATIONS:
        if (calibration := getattr(classifier, f"{name}_")) is not None:
            parts = vars(calibration).items()
            tensors |= {f"{name}.{part}": torch.tensor(array) for part, array in parts}
    write_encoder(path, tensors, document, kind=CLASSIFIER_KEY)


def save_regressor(regressor: Any, path: Any) -> None:
    """Write a fitted regressor to a file, as `SelfSupervisedRegressor.save` describes."""
    tensors: dict[str, Tensor] = {}
    names = ("n_features_in", "loo_score")
    document = {name: getattr(regressor, f"{name}_") for name in names}
    document |= _pack_lists(regressor, _LISTS[:-1]) | _pack_encoders(regressor, tensors)
    is_seed = isinstance(regressor.random_state, int)
    seed = regressor.random_state if is_seed else None
    document["params"] = {"random_state": seed, "verbose": regressor.verbose}
    document["image_shape"] = list(regressor.image_shape_)
    document |= _pack_probes(regressor, tensors)
    write_encoder(path, tensors, document, kind=REGRESSOR_KEY)


def _pack_lists(model: Any, names: Sequence[str]) -> dict[str, Any]:
    """Return fitted attributes that are lists of text, or None where they are missing."""
    found = {name: getattr(model, f"{name}_", None) for name in names}
    return {name: None if values is None else list(values) for name, values in found.items()}


def _pack_encoders(model: Any, tensors: dict[str, Tensor]) -> dict[str, Any]:
    """Describe the encoder and the teachers, and add their tensors."""
    param, given = model.encoder, model.pretrained
    copied = isinstance(given, FrozenEstimator)
    # without any label and with encoder=None, the encoder is a teacher
    is_teacher = param is None and model.encoder_.image_shape_ is None
    encoder = _pack_teacher(model.encoder_, tensors, _ENCODER, copied=copied or not is_teacher)
    teachers = [
        [name, _pack_teacher(teacher, tensors, f"{_TEACHER}{number}.", copied=copied)]
        for number, (name, teacher) in enumerate(model.teachers_.items())
    ]
    is_unfitted = not (param is None or isinstance(param, FrozenEstimator))
    return {
        "encoder": encoder,
        "encoder_param": pack_params(param) if is_unfitted else param and _FROZEN,
        "teachers": teachers,
        "pretrained_param": _FROZEN if copied else given,
    }


def _pack_teacher(
    encoder: PropertyPretrainedEncoder, tensors: dict[str, Tensor], prefix: str, *, copied: bool
) -> dict[str, Any]:
    """Describe an encoder, and add its tensors, if it is copied; else it is part of skastro."""
    if not copied:
        return {"weights": encoder.weights, "sha256": PRETRAINED[str(encoder.weights)]}
    parts, document = pack_encoder(encoder)
    tensors |= {prefix + name: tensor for name, tensor in parts.items()}
    return document


def _pack_probes(model: Any, tensors: dict[str, Tensor]) -> dict[str, Any]:
    """Describe the probes, and add their arrays to tensors."""
    document: dict[str, Any] = dict.fromkeys(_PROBES)
    for name in _PROBES:
        if (probe := getattr(model, f"{name}_")) is not None:
            document[name], arrays = pack_probe(probe)
            tensors |= {f"{name}.{part}": torch.from_numpy(a) for part, a in arrays.items()}
    return document


def load_classifier(cls: type[Any], path: Any, backbone: Backbone | None) -> Any:
    """Read a file of `save_classifier`, as `SelfSupervisedClassifier.load` describes."""
    tensors, document = read_encoder(path, kind=CLASSIFIER_KEY)
    with _checking(path):
        for name, types in _DOCUMENT_TYPES.items():
            valid = type(document.get(name, ...)) in types
            require(valid, f"its {name} is missing, or of a wrong type")
        params = _unpack_params(document["params"], get_type_hints(cls.__init__))
        fitted = _unpack_fitted(document)
        _check_encoder_param(document)
    fitted |= _unpack_encoders(path, document, tensors, backbone, params)
    # what was learned from the labels
    with _checking(path):
        _check_shape(fitted)
        encoders = (fitted["encoder_"], *fitted["teachers_"].values())
        known = [{*encoder.targets_.names} for encoder in encoders]
        valid = any(names.issuperset(fitted["kinds_"]) for names in known)
        require(valid, "its kinds are not those of a teacher")
        fitted |= _unpack_probes(document, tensors, fitted)
        for name in _CALIBRATIONS:
            parts = _take(tensors, f"{name}.")
            fitted[f"{name}_"] = _unpack_calibration(parts, len(fitted["classes_"]))
    fitted["network_"] = _unpack_network(path, document["network"], tensors, fitted)
    classifier = cls(**params)
    vars(classifier).update(fitted)
    return classifier


def load_regressor(cls: type[Any], path: Any, backbone: Backbone | None) -> Any:
    """Read a file of `save_regressor`, as `SelfSupervisedRegressor.load` describes."""
    tensors, document = read_encoder(path, kind=REGRESSOR_KEY)
    with _checking(path, "regressor"):
        for name, types in _REGRESSOR_TYPES.items():
            valid = type(document.get(name, ...)) in types
            require(valid, f"its {name} is missing, or of a wrong type")
        params = _check_param_types(document["params"], get_type_hints(cls.__init__))
        fitted = {f"{name}_": document[name] for name in ("n_features_in", "loo_score")}
        fitted |= _unpack_lists(document, _LISTS[:-1])
        _check_encoder_param(document)
    fitted |= _unpack_encoders(path, document, tensors, backbone, params)
    with _checking(path, "regressor"):
        _check_shape(fitted)
        fitted |= _unpack_probes(document, tensors, fitted)
    regressor = cls(**params)
    vars(regressor).update(fitted)
    return regressor


def _unpack_encoders(
    path: Any,
    document: dict[str, Any],
    tensors: dict[str, Tensor],
    backbone: Backbone | None,
    params: dict[str, Any],
) -> dict[str, Any]:
    """Return the encoder, the teachers and the shape of stamps; add their parameters."""
    encoder = _unpack_teacher(path, document["encoder"], _take(tensors, _ENCODER), backbone)
    teachers = _unpack_teachers(path, document["teachers"], tensors)
    param, given = document["encoder_param"], document["pretrained_param"]
    if isinstance(param, dict):
        params["encoder"] = PropertyPretrainedEncoder(**unpack_params(path, param, backbone))
    elif param is not None:
        params["encoder"] = FrozenEstimator(encoder)
    is_copy = given == _FROZEN
    params["pretrained"] = FrozenEstimator([*teachers.values(), encoder][0]) if is_copy else given
    # a teacher takes stamps of any shape, but the estimator does not
    shape = tuple(document["image_shape"])
    return {"encoder_": encoder, "teachers_": teachers, "image_shape_": shape}


def _check_encoder_param(document: Mapping[str, Any]) -> None:
    if isinstance(param := document["encoder_param"], dict):
        hints = get_type_hints(PropertyPretrainedEncoder.__init__)
        check_params(param["params"], param["unnamed"], hints)


def _check_shape(fitted: Mapping[str, Any]) -> None:
    """Check that the shape of stamps is that of the encoder and the features."""
    shape = fitted["image_shape_"]
    valid = len(shape) == 3 and all(type(side) is int and side > 0 for side in shape)
    valid = valid and shape == (fitted["encoder_"].image_shape_ or shape)
    require(valid, "its image_shape is not that of stamps")
    n_bands, height, width = shape
    valid = fitted["n_features_in_"] in (n_bands, n_bands * height * width)
    require(valid, "its n_features_in is not that of its stamps")


@contextmanager
def _checking(path: Any, noun: str = "classifier") -> Iterator[None]:
    """Replace errors of checks by one sentence about a file."""
    try:
        yield
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise ValueError(
            f"{path} does not describe a valid {noun} ({error}): copy or save it again."
        ) from None


def _take(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """Return the tensors whose names begin with a prefix, without it."""
    return {k.removeprefix(prefix): t for k, t in tensors.items() if k.startswith(prefix)}


def _unpack_teacher(
    path: Any, document: dict[str, Any], tensors: dict[str, Tensor], backbone: Backbone | None
) -> PropertyPretrainedEncoder:
    """Return an encoder of a file, or one that is part of skastro, as `_pack_teacher` left it."""
    if "sha256" not in document:
        return unpack_encoder(PropertyPretrainedEncoder, path, tensors, document, backbone)
    name = str(document.get("weights"))
    if PRETRAINED.get(name) != document["sha256"]:
        raise ValueError(
            f"{path} needs weights {name[:50]!r} that this version of skastro does not have: "
            "install the version that saved it, or fit again."
        )
    return load_pretrained(name)


def _unpack_teachers(
    path: Any, teachers: list[Any], tensors: Mapping[str, Tensor]
) -> dict[str, PropertyPretrainedEncoder]:
    with _checking(path):
        valid = all(
            type(teacher) is list and [*map(type, teacher)] == [str, dict] for teacher in teachers
        )
        require(valid and len(teachers) <= len(dict(teachers)), "its teachers are not valid")
    return {
        name: _unpack_teacher(path, document, _take(tensors, f"{_TEACHER}{number}."), None)
        for number, (name, document) in enumerate(teachers)
    }


def _unpack_params(params: dict[str, Any], hints: Mapping[str, Any]) -> dict[str, Any]:
    if isinstance(params.get("class_weight"), list):
        params["class_weight"] = dict(params["class_weight"])
    _check_param_types(params, hints)
    valid = params.get("strategy") in ("auto", "probe", "finetune", "scratch")
    require(valid, "its strategy is unknown")
    return params


def _check_param_types(params: dict[str, Any], hints: Mapping[str, Any]) -> dict[str, Any]:
    for name, value in params.items():
        valid = name not in ("encoder", "pretrained") and name in hints
        valid = valid and has_type(value, hints[name])
        require(valid, f"its parameter {name[:50]!r} is unknown, or of a wrong type")
    return params


def _unpack_lists(document: Mapping[str, Any], names: Sequence[str]) -> dict[str, Any]:
    """Return fitted attributes of `_pack_lists`, those that every fit has not if they are None."""
    fitted: dict[str, Any] = {}
    for name in names:
        found = document[name]
        require(all(isinstance(text, str) for text in found or ()), f"its {name} are not text")
        if found is not None or name not in ("feature_names_in", "measured_names"):
            fitted[f"{name}_"] = found
    fitted["bands_"] = document["bands"] and tuple(document["bands"])
    if "feature_names_in_" in fitted:
        fitted["feature_names_in_"] = np.array(fitted["feature_names_in_"], dtype=object)
    return fitted


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
    fitted |= _unpack_lists(document, _LISTS)
    # losses, and shares of the network
    for name in _LOSSES:
        fitted[f"{name}_"] = dict(document[name])
        numbers = [*fitted[f"{name}_"], *fitted[f"{name}_"].values()]
        require({type(number) for number in numbers} <= {float}, f"its {name} are not numbers")
    fitted["kinds_"] = fitted["kinds_"] or []
    require(len(fitted["kinds_"]) in (0, len(values)), "its kinds are not those of its classes")
    by_teacher = bool(fitted["kinds_"]) and not document["network"]
    for probe, share in zip(_PROBES, ("blend", "catalog_blend"), strict=True):
        blend = document[share]
        valid = 0 <= blend <= 1 and (blend == 0 or document["network"] is not None)
        can_predict = document[probe] is not None or by_teacher or probe != "probe"
        valid = valid and (blend == 1 or can_predict)
        require(valid, f"its {share} does not belong to its probe and network")
    return fitted


def _unpack_probes(
    document: Mapping[str, Any], tensors: Mapping[str, Tensor], fitted: Mapping[str, Any]
) -> dict[str, Any]:
    """Return the probes of `_pack_probes`, which belong to the encoder and the teachers."""
    encoders = [fitted["encoder_"], *fitted["teachers_"].values()]
    found: dict[str, Any] = {f"{name}_": None for name in _PROBES}
    for name in _PROBES:
        if (entries := document[name]) is None:
            continue
        sizes = [[len(e.embedding_mean_), len(e.targets_.names)] for e in encoders]
        sizes[0][1] += len(fitted["measured_names_"])
        sizes[0][1] += len(fitted["catalog_names_"]) if name == "catalog_probe" else 0
        parts = {part: tensor.numpy() for part, tensor in _take(tensors, f"{name}.").items()}
        params, classes = document["params"], fitted.get("classes_")
        found[f"{name}_"] = unpack_probe(entries, parts, sizes, params, classes)
    return found


def _unpack_calibration(tensors: Mapping[str, Tensor], k: int) -> SetCalibration | None:
    """Return a calibration for k classes; None if the file, such as an older one, has none."""
    if not tensors:
        return None
    require(set(tensors) == {"codes", "own"}, "a part of its calibration is missing")
    codes, own = tensors["codes"].numpy(), tensors["own"].numpy()
    valid = codes.dtype == "i8" and own.dtype == "f8" and codes.shape == own.shape == (len(own),)
    valid = valid and set(codes.tolist()) == set(range(k)) and bool(((own >= 0) & (own <= 1)).all())
    require(valid, "its calibration is not valid")
    return SetCalibration(codes, own)


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
