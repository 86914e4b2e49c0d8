"""Describe fitted probes by plain numbers and arrays, for files, and make them again."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skastro.probes.kernel_probe import KernelProbe
from skastro.probes.kernel_regression import LINEAR_SHARES, KernelRegression
from skastro.probes.kernels import ColumnGroup
from skastro.utils.files import require

_CLASS_ARRAYS = (
    "shares_", "alpha_", "sharpness_", "class_powers_", "coefs_", "centers_", "loo_probabilities_",
)  # fmt: skip
_ROWS = ("values_", "scores_", "loo_predictions_", "loo_std_")
_NUMBER_ARRAYS = ("shares_", "alpha_", "coefs_", "spread_coef_", "centers_", *_ROWS)
_NUMBERS = ("center_", "scale_", "spread_center_")
_GROUP_ARRAYS = ("center", "scale", "embedding", "properties")


def pack_probe(
    probe: KernelProbe | KernelRegression,
) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
    """Return a document, of what JSON can hold, and the arrays of a fitted probe."""
    odds = [float(other[2]) for other in probe.others]
    if isinstance(probe, KernelProbe):
        columns = probe.class_columns and [int(column) for column in probe.class_columns]
        document = {"loo_loss": probe.loo_loss_, "odds": odds, "class_columns": columns}
    else:
        document = {part: getattr(probe, part) for part in _NUMBERS} | {"odds": odds}
    document["lengths"] = [group.length for group in probe.groups_]
    document["widths"] = [group.width for group in probe.groups_]
    names = _CLASS_ARRAYS if isinstance(probe, KernelProbe) else _NUMBER_ARRAYS
    arrays = {part: getattr(probe, part) for part in names}
    for number, group in enumerate(probe.groups_):
        arrays |= {f"{number}.{part}": getattr(group, part) for part in _GROUP_ARRAYS}
    return document, {name: np.ascontiguousarray(array) for name, array in arrays.items()}


def unpack_probe(
    document: Mapping[str, Any],
    arrays: dict[str, NDArray[Any]],
    sizes: Sequence[Sequence[int]],
    params: Mapping[str, Any],
    classes: NDArray[Any] | None,
) -> KernelProbe | KernelRegression:
    """Return the probe of `pack_probe`, after a check that all its parts belong together.

    ``sizes`` are the numbers of columns of the embedding and of the properties of each
    representation, ``params`` those of the estimator, and ``classes`` None for a regression. Parts
    that do not belong together are a ValueError.
    """
    if classes is None:
        return _unpack_regression(document, arrays, sizes, params)
    k, columns = len(classes), document.get("class_columns")
    odds = _check_numbers(document, (document.get("loo_loss"),), len(sizes))
    n_rows, n_centers = (len(arrays.get(part, ())) for part in ("loo_probabilities_", "centers_"))
    g = len(sizes)
    shapes: dict[str, tuple[int, ...]] = {
        "shares_": (g,), "alpha_": (g,), "sharpness_": (g,), "class_powers_": (g,),
        "coefs_": (g, n_centers, k), "centers_": (n_centers,), "loo_probabilities_": (n_rows, k),
    }  # fmt: skip
    arrays = _check_arrays(arrays, sizes, shapes)
    n_columns = sum(map(sum, sizes))
    if columns is not None:
        valid = type(columns) is list and len(columns) == k
        valid = valid and all(type(c) is int and 0 <= c < n_columns for c in columns)
        require(valid, "the class_columns of its probe are not valid")
    probe = KernelProbe(
        sizes[0][1],
        others=[(*size, odds[number]) for number, size in enumerate(sizes[1:])],
        class_columns=columns,
        class_weight=params["class_weight"],
        random_state=params["random_state"],
    )
    probe.groups_ = _make_groups(document, arrays)
    found = {"loo_loss_": document["loo_loss"], "classes_": classes, "n_features_in_": n_columns}
    probe.__dict__.update(arrays | found)
    return probe


def _unpack_regression(
    document: Mapping[str, Any],
    arrays: dict[str, NDArray[Any]],
    sizes: Sequence[Sequence[int]],
    params: Mapping[str, Any],
) -> KernelRegression:
    numbers = tuple(document.get(part) for part in _NUMBERS)
    odds = _check_numbers(document, numbers, len(sizes))
    n_rows, m = (len(arrays.get(part, ())) for part in ("values_", "centers_"))
    mixes = len(sizes), len(LINEAR_SHARES)
    shapes: dict[str, tuple[int, ...]] = {
        "shares_": mixes, "alpha_": mixes, "coefs_": (*mixes, m), "spread_coef_": (m,),
        "centers_": (m,), **dict.fromkeys(_ROWS, (n_rows,)),
    }  # fmt: skip
    arrays = _check_arrays(arrays, sizes, shapes)
    others = [(*size, odds[number]) for number, size in enumerate(sizes[1:])]
    probe = KernelRegression(sizes[0][1], others=others, random_state=params["random_state"])
    probe.groups_ = _make_groups(document, arrays)
    found = dict(zip(_NUMBERS, numbers, strict=True)) | {"n_features_in_": sum(map(sum, sizes))}
    probe.__dict__.update(arrays | found)
    return probe


def _check_numbers(
    document: Mapping[str, Any], numbers: Sequence[Any], n_groups: int
) -> list[float]:
    """Check the numbers of a probe of some representations; return the odds of the others."""
    sizes = {"lengths": n_groups, "widths": n_groups, "odds": n_groups - 1}
    found: dict[str, Any] = {name: document.get(name) for name in sizes}
    valid = all(type(each) is list and len(each) == sizes[name] for name, each in found.items())
    require(valid, "a part of its probe is missing")
    positive = [number for each in found.values() for number in each]
    valid = all(type(number) is float and math.isfinite(number) for number in (*numbers, *positive))
    require(valid and min(positive) > 0, "a number of its probe is not valid")
    return list(found["odds"])


def _make_groups(document: Mapping[str, Any], arrays: dict[str, Any]) -> list[ColumnGroup]:
    """Return the kernels of a probe, whose arrays are removed from the others."""
    pairs = zip(document["lengths"], document["widths"], strict=True)
    return [
        ColumnGroup(
            length=length, width=width,
            **{part: arrays.pop(f"{number}.{part}") for part in _GROUP_ARRAYS},
        )
        for number, (length, width) in enumerate(pairs)
    ]  # fmt: skip


def _check_arrays(
    arrays: dict[str, Any],
    sizes: Sequence[Sequence[int]],
    shapes: dict[str, tuple[int, ...]],
) -> dict[str, Any]:
    """Check the arrays of a probe of some sizes of representations, and of other shapes."""
    n_centers = shapes["centers_"][0]
    for number, (d, p) in enumerate(sizes):
        shapes |= {
            f"{number}.center": (p,), f"{number}.scale": (p,),
            f"{number}.embedding": (n_centers, d), f"{number}.properties": (n_centers, p),
        }  # fmt: skip
    require(set(arrays) == set(shapes), "a part of its probe is missing")
    for part, shape in shapes.items():
        array, is_scale = arrays[part], part.endswith(".scale")
        valid = array.shape == shape and array.dtype == ("i8" if part == "centers_" else "f8")
        # a constant column has an infinite scale
        valid = valid and len(array) > 0 and (is_scale or bool(np.isfinite(array).all()))
        valid = valid and (not is_scale or bool(array.min() > 0))
        require(valid, f"the {part.strip('_')} of its probe is not valid")
    return arrays
