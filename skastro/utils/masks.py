"""Read arrays of NumPy, astropy and torch as plain arrays with NaN where they are masked."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


def fill_masked(values: Any) -> NDArray[Any]:
    """Return the values of an array of any kind as a NumPy array, with NaN where masked.

    ``values`` is a NumPy array, a masked array, an astropy Column, Quantity, Masked, NDData,
    CCDData, Cutout2D or image extension, a torch tensor on any device, or anything that
    `numpy.asarray` takes. Units are left out. Nothing is copied, unless a value is masked:
    integers and booleans then become floats, and text becomes objects. Types of torch that NumPy
    lacks, such as bfloat16, become float32.

    Examples
    --------
    >>> fill_masked(np.ma.array([1, 2, 3], mask=[False, True, False]))
    array([ 1., nan,  3.])
    """
    if hasattr(values, "detach"):  # a torch tensor; this folder does not import torch
        return _tensor_to_array(values)
    if hasattr(values, "compute"):  # of Dask, which would drop the mask
        values = values.compute()
    data, mask = values, getattr(values, "mask", None)
    if isinstance(values, np.ma.MaskedArray):
        data = values.data
    elif hasattr(values, "unmasked"):  # Masked of astropy
        data = values.unmasked
    elif not isinstance(values, np.ndarray) and wraps_an_array(values):
        data = values.data
    if callable(mask):  # a method of pandas
        mask = None
    array = np.asarray(data)
    if array.dtype.name == "bfloat16":  # of ml_dtypes, which JAX uses
        array = array.astype(np.float32)
    if mask is None or not np.any(mask):
        return array
    is_number = array.dtype.kind in "biufc"
    array = array.astype(np.result_type(array.dtype, np.float32) if is_number else object)
    array[np.broadcast_to(np.asarray(mask, dtype=bool), array.shape)] = np.nan
    return array


def wraps_an_array(values: Any) -> bool:
    """Return whether values are NDData, Cutout2D or an image extension of a FITS file."""
    has_array = hasattr(getattr(values, "data", None), "shape")
    return has_array and any(hasattr(values, name) for name in ("mask", "wcs", "header"))


def _tensor_to_array(tensor: Any) -> NDArray[Any]:
    tensor = tensor.detach().cpu()
    try:
        return np.asarray(tensor.numpy())
    except TypeError:  # a type that NumPy lacks, or a sparse tensor, whose message says so
        return np.asarray(tensor.float().numpy())
