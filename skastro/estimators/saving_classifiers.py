"""Write a fitted classifier, with its encoder, to one safetensors file, and load it again.

The container and the encoder in it are those of `skastro.estimators.saving`. As there, no code in
a file runs, and everything is checked before it is used. Teachers that are part of skastro are not
copied: the file holds their names and the SHA-256 of their weights.
"""

from __future__ import annotations

import math
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
    require,
    restore_network,
    unpack_encoder,
    unpack_params,
)
from skastro.networks.backbones import Backbone, StampNetwork
from skastro.networks.weights import CLASSIFIER_KEY, PRETRAINED, read_encoder, write_encoder
from skastro.probes.cross_validation import SetCalibration
from skastro.probes.kernel_probe import ColumnGroup, KernelProbe

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
# fitted attributes by the way in which the document holds them
_FITTED = ("n_features_in", "choice", "blend", "catalog_blend")
_LISTS = ("feature_names_in", "bands", "measured_names", "catalog_names", "kinds")
_LOSSES = ("cv_losses", "catalog_cv_losses")
_PROBE_ARRAYS = (
    "shares_", "alpha_", "sharpness_", "class_powers_", "coefs_", "centers_", "loo_probabilities_",
)  # fmt: skip
_GROUP_ARRAYS = ("center", "scale", "embedding", "properties")
_FROZEN = "frozen"  # what stands for a FrozenEstimator among the parameters
_MAX_DTYPE_LENGTH = 8  # characters, such as "<U12"


def save_classifier(classifier: Any, path: Any) -> None:
    """Write a fitted classifier to a file, as `SelfSupervisedClassifier.save` describes."""
    tensors: dict[str, Tensor] = {}
    param, given = classifier.encoder, classifier.pretrained
    copied = isinstance(given, FrozenEstimator)
    # without any label and with encoder=None, the encoder is a teacher
    is_teacher = param is None and classifier.encoder_.image_shape_ is None
    encoder = _pack_teacher(classifier.encoder_, tensors, _ENCODER, copied=copied or not is_teacher)
    teachers = [
        [name, _pack_teacher(teacher, tensors, f"{_TEACHER}{number}.", copied=copied)]
        for number, (name, teacher) in enumerate(classifier.teachers_.items())
    ]
    document = {name: getattr(classifier, f"{name}_") for name in _FITTED}
    for name in _LISTS:
        values = getattr(classifier, f"{name}_", None)
        document[name] = None if values is None else list(values)
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
    is_unfitted = not (param is None or isinstance(param, FrozenEstimator))
    document |= {
        "params": params,
        "encoder": encoder,
        "encoder_param": pack_params(param) if is_unfitted else param and _FROZEN,
        "teachers": teachers,
        "pretrained_param": _FROZEN if copied else given,
        "classes": classifier.classes_.tolist(),
        "classes_dtype": classifier.classes_.dtype.str,
        "image_shape": list(classifier.image_shape_),
        "network": None,
    }
    if (network := classifier.network_) is not None:
        tensors |= {_NETWORK + name: tensor for name, tensor in network.state_dict().items()}
        document["network"] = {"stretch": network.scaling.stretch, "size": network.backbone.size}
    for name in _PROBES:
        probe = getattr(classifier, f"{name}_")
        document[name] = None if probe is None else _pack_probe(probe, tensors, f"{name}.")
    for name in _CALIBRATIONS:
        if (calibration := getattr(classifier, f"{name}_")) is not None:
            parts = vars(calibration).items()
            tensors |= {f"{name}.{part}": torch.tensor(array) for part, array in parts}
    write_encoder(path, tensors, document, kind=CLASSIFIER_KEY)


def _pack_teacher(
    encoder: PropertyPretrainedEncoder, tensors: dict[str, Tensor], prefix: str, *, copied: bool
) -> dict[str, Any]:
    """Describe an encoder, and add its tensors, if it is copied; else it is part of skastro."""
    if not copied:
        return {"weights": encoder.weights, "sha256": PRETRAINED[str(encoder.weights)]}
    parts, document = pack_encoder(encoder)
    tensors |= {prefix + name: tensor for name, tensor in parts.items()}
    return document


def _pack_probe(probe: KernelProbe, tensors: dict[str, Tensor], prefix: str) -> dict[str, Any]:
    """Describe a probe, and add its arrays to tensors."""
    arrays = {part: getattr(probe, part) for part in _PROBE_ARRAYS}
    for number, group in enumerate(probe.groups_):
        arrays |= {f"{number}.{part}": getattr(group, part) for part in _GROUP_ARRAYS}
    for name, array in arrays.items():
        tensors[prefix + name] = torch.from_numpy(np.ascontiguousarray(array))
    return {
        "loo_loss": probe.loo_loss_,
        "odds": [float(other[2]) for other in probe.others],
        "class_columns": probe.class_columns and [int(column) for column in probe.class_columns],
        "lengths": [group.length for group in probe.groups_],
        "widths": [group.width for group in probe.groups_],
    }


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
    encoder = _unpack_teacher(path, document["encoder"], _take(tensors, _ENCODER), backbone)
    fitted["teachers_"] = _unpack_teachers(path, document["teachers"], tensors)
    # a teacher takes stamps of any shape, but the classifier does not
    shape = tuple(document["image_shape"])
    fitted |= {"encoder_": encoder, "image_shape_": shape}
    if isinstance(param, dict):
        params["encoder"] = PropertyPretrainedEncoder(**unpack_params(path, param, backbone))
    elif param is not None:
        params["encoder"] = FrozenEstimator(encoder)
    params["pretrained"] = document["pretrained_param"]
    if params["pretrained"] == _FROZEN:
        teachers = [*fitted["teachers_"].values(), encoder]
        params["pretrained"] = FrozenEstimator(teachers[0])
    # what was learned from the labels
    with _checking(path):
        valid = len(shape) == 3 and all(type(side) is int and side > 0 for side in shape)
        valid = valid and shape == (encoder.image_shape_ or shape)
        require(valid, "its image_shape is not that of stamps")
        n_bands, height, width = shape
        valid = fitted["n_features_in_"] in (n_bands, n_bands * height * width)
        require(valid, "its n_features_in is not that of its stamps")
        known = [{*e.targets_.names} for e in (encoder, *fitted["teachers_"].values())]
        valid = any(names.issuperset(fitted["kinds_"]) for names in known)
        require(valid, "its kinds are not those of a teacher")
        for name in _PROBES:
            fitted[f"{name}_"] = _unpack_probe(name, document, tensors, fitted)
        for name in _CALIBRATIONS:
            parts = _take(tensors, f"{name}.")
            fitted[f"{name}_"] = _unpack_calibration(parts, len(fitted["classes_"]))
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
            "install the version that saved it, or fit the classifier again."
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
    for name, value in params.items():
        valid = name not in ("encoder", "pretrained") and name in hints
        valid = valid and has_type(value, hints[name])
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


def _unpack_probe(
    name: str, document: Mapping[str, Any], tensors: Mapping[str, Tensor], fitted: Mapping[str, Any]
) -> KernelProbe | None:
    """Return a probe, if there is one, after a check that all its parts belong together."""
    entries, tensors = document[name], _take(tensors, f"{name}.")
    if entries is None:
        return None
    encoders = [fitted["encoder_"], *fitted["teachers_"].values()]
    n_groups, k = len(encoders), len(fitted["classes_"])
    # numbers
    loss, odds, columns, lengths, widths = (
        entries.get(key) for key in ("loo_loss", "odds", "class_columns", "lengths", "widths")
    )
    lists = [(lengths, n_groups), (widths, n_groups), (odds, n_groups - 1)]
    valid = all(type(each) is list and len(each) == size for each, size in lists)
    require(valid, "a part of its probe is missing")
    numbers = [loss, *lengths, *widths, *odds]
    valid = all(type(number) is float and math.isfinite(number) for number in numbers)
    require(valid and min(numbers[1:]) > 0, "a number of its probe is not valid")
    # arrays
    sizes = [[len(e.embedding_mean_), len(e.targets_.names)] for e in encoders]
    sizes[0][1] += len(fitted["measured_names_"])
    sizes[0][1] += len(fitted["catalog_names_"]) if name == "catalog_probe" else 0
    arrays = _check_probe_arrays(tensors, sizes, k)
    n_columns = sum(map(sum, sizes))
    if columns is not None:
        valid = type(columns) is list and len(columns) == k
        valid = valid and all(type(c) is int and 0 <= c < n_columns for c in columns)
        require(valid, "the class_columns of its probe are not valid")
    params = document["params"]
    probe = KernelProbe(
        sizes[0][1],
        others=[(*size, odds[number]) for number, size in enumerate(sizes[1:])],
        class_columns=columns,
        class_weight=params["class_weight"],
        random_state=params["random_state"],
    )
    probe.groups_ = [
        ColumnGroup(
            length=lengths[number], width=widths[number],
            **{part: arrays.pop(f"{number}.{part}") for part in _GROUP_ARRAYS},
        )
        for number in range(n_groups)
    ]  # fmt: skip
    others = {"loo_loss_": loss, "classes_": fitted["classes_"], "n_features_in_": n_columns}
    for attribute, value in (arrays | others).items():
        setattr(probe, attribute, value)
    return probe


def _check_probe_arrays(
    tensors: Mapping[str, Tensor], sizes: Sequence[Sequence[int]], k: int
) -> dict[str, Any]:
    """Check the arrays of a probe of some sizes of representations and k classes."""
    n_rows, n_centers = (len(tensors.get(part, ())) for part in ("loo_probabilities_", "centers_"))
    g = len(sizes)
    shapes: dict[str, tuple[int, ...]] = {
        "shares_": (g,), "alpha_": (g,), "sharpness_": (g,), "class_powers_": (g,),
        "coefs_": (g, n_centers, k), "centers_": (n_centers,), "loo_probabilities_": (n_rows, k),
    }  # fmt: skip
    for number, (d, p) in enumerate(sizes):
        shapes |= {
            f"{number}.center": (p,), f"{number}.scale": (p,),
            f"{number}.embedding": (n_centers, d), f"{number}.properties": (n_centers, p),
        }  # fmt: skip
    require(set(tensors) == set(shapes), "a part of its probe is missing")
    arrays = {part: tensor.numpy() for part, tensor in tensors.items()}
    for part, shape in shapes.items():
        array, is_scale = arrays[part], part.endswith(".scale")
        valid = array.shape == shape and array.dtype == ("i8" if part == "centers_" else "f8")
        # a constant column has an infinite scale
        valid = valid and len(array) > 0 and (is_scale or bool(np.isfinite(array).all()))
        valid = valid and (not is_scale or bool(array.min() > 0))
        require(valid, f"the {part.strip('_')} of its probe is not valid")
    return arrays


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
