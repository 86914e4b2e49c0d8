"""Saved encoders off the disk: what a file claims is checked before it is acted upon.

A file may come from anywhere. It names a backbone, sizes and shapes: none of them is taken into
memory, and no weight looked for elsewhere, before they agree with the tensors that are there.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from types import NoneType
from typing import Any, get_args, get_origin

import torch
from torch import Tensor

from skastro.networks.backbones import (
    Backbone,
    InputScaling,
    PooledBackbone,
    StampNetwork,
    first_that_works,
    make_body,
    possible_sizes,
)
from skastro.utils.files import first_line

_MOST_VALUES = 2**28  # pixels of a stamp, in all bands
_FIELDS: dict[str, set[type]] = {
    "params": {dict}, "unnamed": {list}, "seed": {int}, "image_shape": {list},
    "n_features_in": {int}, "targets": {dict}, "property_source": {str},
    "n_missing_pixels": {int}, "history": {list}, "stretch": {bool}, "size": {list, NoneType},
}  # fmt: skip
_NEEDED = {"backbone", "loss", "image_shape", "batch_size"}
_LARGEST_BATCH = 2**16
_FLOATS = (torch.float32, torch.float64)
_WHOLE = (torch.bool, torch.uint8, torch.int32, torch.int64)
_LONGEST_NAME = 200  # of a backbone or a loss
UNNAMED = ("backbone", "loss", "properties")  # what may be code, which is never stored


def check_document(
    path: Any, document: Mapping[str, Any], tensors: Mapping[str, Tensor], hints: Mapping[str, Any]
) -> None:
    """Refuse a description that no encoder has, or that does not fit its tensors.

    Parameters
    ----------
    path : path
        For the error's sentence.
    document : mapping
    tensors : mapping of str to Tensor
    hints : mapping of str to type
        Types of the encoder's parameters.

    Raises
    ------
    ValueError
        The sentence says what is wrong.
    """
    for problem, holds in _claims(document, tensors, hints):
        if not holds:
            raise ValueError(
                f"{path} describes no encoder that can be ({problem}): copy or save it again."
            )


def _claims(
    document: Mapping[str, Any], tensors: Mapping[str, Tensor], hints: Mapping[str, Any]
) -> Iterator[tuple[str, bool]]:
    """Give what could be wrong, and whether it is not: each relies on those before it."""
    for name, kinds in _FIELDS.items():
        there = name in document and type(document[name]) in kinds
        yield f"its {name} is missing, or of another kind", there
    params, unnamed, shape = (document[name] for name in ("params", "unnamed", "image_shape"))
    yield "code is missing that it does not name", all(name in UNNAMED for name in unnamed)
    for name, value in params.items():
        known = name in hints and (name in unnamed or _is_of(value, hints[name]))
        yield f"its parameter {name[:50]!r} is unknown, or of another kind", known
    yield "its parameters lack some", set(params) >= _NEEDED
    yield "its batch_size is beyond reason", 0 < params["batch_size"] <= _LARGEST_BATCH
    for name in UNNAMED:
        text = params.get(name)
        named = isinstance(text, str) and len(text) <= _LONGEST_NAME
        yield f"its {name} is not named", name in unnamed or named
    whole = len(shape) == 3 and all(type(side) is int and side > 0 for side in shape)
    yield "its image_shape is not one of stamps", whole and math.prod(shape) <= _MOST_VALUES
    yield from _claims_of_targets(document["targets"])
    yield from _claims_of_tensors(tensors, shape[0], len(document["targets"]["names"]))


def _is_of(value: Any, hint: Any) -> bool:
    """Whether JSON's value is one of a type, or of a union of types."""
    kinds = {get_origin(kind) or kind for kind in get_args(hint) or (hint,)}
    if get_origin(hint) in (tuple, dict):  # whose arguments are no alternatives
        kinds = {get_origin(hint)}
    kinds |= {int} if float in kinds else set()
    kinds |= {list} if tuple in kinds else set()
    finite = type(value) is not float or math.isfinite(value)
    return type(value) in kinds and finite


def _claims_of_targets(targets: Mapping[str, Any]) -> Iterator[tuple[str, bool]]:
    names: Any = targets.get("names")
    units = targets.get("units")
    texts = isinstance(names, list) and all(isinstance(name, str) for name in names)
    yield "its properties have no names", texts and bool(names) and len(names) == len(set(names))
    yield "its units are no text", isinstance(units, dict) and _all_are(units.values(), str)
    for name in ("center", "scale"):
        values: Any = targets.get(name)
        numbers = isinstance(values, list) and _all_are(values, float, int)
        finite = numbers and len(values) == len(names) and all(map(math.isfinite, values))
        yield f"the {name} of its properties is not finite", finite
    yield "the scale of its properties is not positive", min(targets["scale"]) > 0


def _all_are(values: Any, *kinds: type) -> bool:
    return all(type(value) in kinds for value in values)


def _claims_of_tensors(
    tensors: Mapping[str, Tensor], n_bands: int, n_outputs: int
) -> Iterator[tuple[str, bool]]:
    floats = [name for name, tensor in tensors.items() if tensor.dtype in _FLOATS]
    needed = ["embedding.mean", "embedding.scale", "head.weight", "scaling.offset", "scaling.scale"]
    known = all(tensor.dtype in (*_FLOATS, *_WHOLE) for tensor in tensors.values())
    yield "its tensors are of an odd type", known
    yield "tensors are missing", set(needed) <= set(floats)
    mean, spread, weight, offset, scale = (tensors[name] for name in needed)
    shapes = [(n_outputs, len(mean.flatten())), (n_bands, 1, 1), (n_bands, 1, 1)]
    fit = [tuple(each.shape) for each in (weight, offset, scale)] == shapes
    yield "its tensors have other shapes", fit and mean.ndim == 1 and mean.shape == spread.shape
    for name in floats:
        # a feature that is constant on the training stamps has an infinite scale
        finite = name == "embedding.scale" or bool(tensors[name].float().isfinite().all())
        yield f"its tensor {name[:50]!r} is not finite", finite
    yield "its scales are not positive", bool((spread > 0).all() and (scale > 0).all())


def restore_network(
    path: Any, backbone: Backbone, document: Mapping[str, Any], tensors: Mapping[str, Tensor]
) -> StampNetwork:
    """Build the network of a checked description, and give it its weights.

    Parameters
    ----------
    path : path
        For the error's sentence.
    backbone : str, nn.Module or callable
        A named one is first built without memory: timm knows networks of billions of weights.
    document : mapping
    tensors : mapping of str to Tensor

    Returns
    -------
    network : StampNetwork
        Nothing is downloaded.

    Raises
    ------
    ValueError
        The backbone is unknown, or does not fit the tensors or the stamps.
    """
    bands, height, width = document["image_shape"]
    size = None if document["size"] is None else tuple(document["size"])
    sizes = possible_sizes(backbone, (bands, height, width), None)
    sizes += possible_sizes(backbone, (bands, height, width), "imagenet")
    if size is not None and size not in sizes:
        raise ValueError(
            f"{path} enlarges its stamps beyond reason ({size}): copy or save it again."
        )
    try:
        if isinstance(backbone, str):
            with torch.device("meta"):
                sketch = _assemble(backbone, document, tensors, size)
            _check_fit(sketch, tensors, (bands, height, width))
        network = _assemble(backbone, document, tensors, size)
        if not isinstance(backbone, str):
            body, sizes = network.backbone.body, [size or (height, width)]
            first_that_works(body, (bands, height, width), backbone, sizes)
        network.load_state_dict(tensors)
    except (RuntimeError, AssertionError, TypeError, ValueError) as error:
        raise ValueError(
            f"{path} does not fit the backbone {_name(backbone)} ({first_line(error)}): "
            "pass the architecture it was saved with."
        ) from error
    return network


def _name(backbone: Backbone) -> str:
    return repr(backbone) if isinstance(backbone, str) else type(backbone).__name__


def _assemble(
    backbone: Backbone,
    document: Mapping[str, Any],
    tensors: Mapping[str, Tensor],
    size: tuple[int, int] | None,
) -> StampNetwork:
    bands, height, width = document["image_shape"]
    ones = torch.ones(bands)
    scaling = InputScaling(0 * ones, ones, stretch=document["stretch"])
    body = make_body(backbone, (bands, height, width), None)
    n_outputs, n_features = tensors["head.weight"].shape
    return StampNetwork(scaling, PooledBackbone(body, size), n_features, n_outputs)


def _check_fit(
    sketch: StampNetwork, tensors: Mapping[str, Tensor], image_shape: tuple[int, int, int]
) -> None:
    ours = {name: tensor.shape for name, tensor in sketch.state_dict().items()}
    if ours != {name: tensor.shape for name, tensor in tensors.items()}:
        raise RuntimeError("its tensors have other names or shapes")
    with torch.inference_mode():
        sketch.eval()
        sketch.head(sketch.embed(torch.zeros(1, *image_shape, device="meta")))
