import numpy as np
import pytest
import torch
from astropy import units as u
from astropy.nddata import CCDData, Cutout2D, NDData
from astropy.table import MaskedColumn
from astropy.utils.masked import Masked

from skastro.utils.masks import fill_masked

VALUES = np.array([[1.0, 2.0], [3.0, 4.0]])
MASK = np.array([[False, True], [False, False]])


@pytest.mark.parametrize(
    "values",
    [
        np.ma.array(VALUES, mask=MASK),
        np.ma.array(VALUES.astype(int), mask=MASK),
        MaskedColumn(VALUES, mask=MASK, unit="Jy"),
        Masked(VALUES, mask=MASK),
        Masked(VALUES * u.Jy, mask=MASK),
        NDData(VALUES, mask=MASK),
        CCDData(VALUES, mask=MASK.astype(np.uint8), unit="adu"),
    ],
)
def test_masked_values_are_missing(values):
    filled = fill_masked(values)
    assert type(filled) is np.ndarray
    np.testing.assert_array_equal(filled, [[1, np.nan], [3, 4]])


@pytest.mark.parametrize(
    "values",
    [
        VALUES * u.Jy,
        NDData(VALUES),
        Cutout2D(VALUES, (0.5, 0.5), 2),
        torch.from_numpy(VALUES).requires_grad_(),
        torch.from_numpy(VALUES).bfloat16(),
        torch.from_numpy(VALUES).half(),
        np.ma.array(VALUES),
    ],
)
def test_other_kinds_of_arrays_keep_their_values(values):
    np.testing.assert_array_equal(fill_masked(values), VALUES)


def test_what_lies_under_a_mask_is_not_read():
    values = np.ma.array([np.inf, 1.0], mask=[True, False])
    np.testing.assert_array_equal(fill_masked(values), [np.nan, 1])


def test_arrays_without_a_mask_are_not_copied():
    assert fill_masked(VALUES) is VALUES
    assert np.shares_memory(fill_masked(np.ma.array(VALUES)), VALUES)
