import numpy as np
import pandas as pd
import pytest
import torch
from astropy.table import Table
from sklearn.base import BaseEstimator

from skastro.stamps.arrays import check_images, count_missing_pixels, read_stamps
from skastro.utils.validation import (
    check_labels,
    check_properties,
    check_property_errors,
    draw_seed,
    is_continuous,
)


def check(X, **kwargs):
    return check_images(BaseEstimator(), X, reset=True, **kwargs)


class Lazy:
    """Stamps that are read row by row, and count how many were read at once."""

    dtype = np.dtype("float32")

    def __init__(self, array):
        self.array, self.shape, self.largest = array, array.shape, 0

    def __len__(self):
        return len(self.array)

    def __getitem__(self, rows):
        part = self.array[rows]
        self.largest = max(self.largest, len(part))
        return part


def test_stacks_are_not_copied(tmp_path):
    stamps = np.zeros((4, 2, 8, 8))
    assert check(stamps) is stamps
    np.save(tmp_path / "stamps.npy", stamps)
    assert isinstance(check(np.load(tmp_path / "stamps.npy", mmap_mode="r")), np.memmap)


@pytest.mark.parametrize("make", [torch.from_numpy, list, lambda a: [s.tolist() for s in a]])
def test_tensors_and_lists_are_stacks_too(make):
    stamps = np.arange(2 * 3 * 4 * 4, dtype=np.float32).reshape(2, 3, 4, 4)
    images = check(make(stamps))
    np.testing.assert_array_equal(read_stamps(images, slice(None)), stamps)


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ((5, 8, 8), r"give single-band stamps their band axis with X\[:, None\]"),
        ((5, 64, 64, 3), "looks channels-last"),
        ((0, 3, 8, 8), "holds no pixel"),
        ((2, 2, 2, 2, 2), "stamps are"),
    ],
)
def test_other_shapes_are_refused(shape, message):
    with pytest.raises(ValueError, match=message):
        check(np.zeros(shape))


def test_complex_pixels_are_refused():
    with pytest.raises(ValueError, match="real numbers"):
        check(np.zeros((2, 1, 4, 4), dtype=complex))


def test_rows_fold_into_stamps():
    rows = np.arange(24.0).reshape(2, 12)
    assert check(rows).shape == (2, 1, 1, 12)
    assert check(rows, image_shape=(3, 2, 2)).shape == (2, 3, 2, 2)
    with pytest.raises(ValueError, match="rows of 12 values"):
        check(rows, image_shape=(3, 3, 3))


@pytest.mark.parametrize("dtype", ["uint8", "int16", "float16", ">f4", ">f8", "bool"])
def test_batches_are_native_float32(dtype):
    stamps = read_stamps(np.ones((3, 1, 4, 4)).astype(dtype)[::2], slice(0, 2))
    assert stamps.dtype == np.float32
    assert stamps.dtype.isnative
    assert stamps.flags.c_contiguous
    assert (stamps == 1).all()


def test_infinite_pixels_are_named_by_row():
    stamps = np.zeros((2000, 1, 2, 2), dtype=np.float32)
    stamps[1500, 0, 1, 1] = np.inf
    with pytest.raises(ValueError, match=r"infinite pixel in row 1500 \(1 such rows\)"):
        count_missing_pixels(stamps)


def test_pixels_beyond_float32_are_refused_and_not_turned_into_infinity():
    with pytest.raises(ValueError, match="infinite pixel in row 0"):
        read_stamps(np.full((1, 1, 2, 2), 1e300), slice(None))


def test_empty_stamps_are_named_by_row():
    stamps = np.zeros((5, 1, 2, 2))
    stamps[3] = np.nan
    with pytest.raises(ValueError, match="no finite pixel in row 3"):
        count_missing_pixels(stamps)
    with pytest.raises(ValueError, match="no finite pixel in row 3"):
        read_stamps(stamps, np.array([1, 3]))


def test_masked_pixels_are_missing():
    stamps = np.ma.masked_greater(np.arange(8.0).reshape(1, 2, 2, 2), 5)
    assert count_missing_pixels(stamps) == 2


def test_lazy_stamps_are_read_in_chunks():
    lazy = Lazy(np.zeros((5000, 1, 2, 2), dtype=np.float32))
    count_missing_pixels(check(lazy))
    assert 0 < lazy.largest <= 1024


def test_properties_keep_their_names_and_units():
    table = Table({"mag_r": [20.0, 21.0], "z": [1, 2]}, units={"mag_r": "mag"})
    checked = check_properties(table, 2)
    assert list(checked) == ["mag_r", "z"]
    assert checked.attrs["units"] == {"mag_r": "mag"}
    assert (checked.dtypes == np.float64).all()
    assert list(check_properties(np.zeros((2, 2)), 2)) == ["property_0", "property_1"]
    assert list(check_properties(pd.Series([1.0, 2.0], name="z"), 2)) == ["z"]


def test_sentinels_become_missing_with_one_message():
    with pytest.warns(UserWarning, match="3 sentinel values") as caught:
        table = check_properties(np.array([[99, 1], [2, -999], [-9999, 3.0]]), 3)
    assert len(caught) == 1
    assert table.isna().to_numpy().sum() == 3


def test_masked_properties_are_missing():
    table = check_properties(np.ma.masked_equal([[1.0, 2.0], [3.0, 4.0]], 4.0), 2)
    assert np.isnan(table.iloc[1, 1])
    masked = Table({"a": np.ma.masked_equal([1, 2, 3], 2)})
    assert np.isnan(check_properties(masked, 3)["a"][1])


@pytest.mark.parametrize(
    ("properties", "message"),
    [
        (np.zeros((3, 1)), "properties has 3 rows, but X has 2 stamps"),
        (pd.DataFrame({"a": [1.0, np.inf]}), "column 'a' is infinite in row 1"),
        (pd.DataFrame({"a": ["faint", "1"]}), "column 'a' holds 'faint' in row 0"),
        (pd.DataFrame({"a": [np.nan, np.nan]}), "column 'a' has no value in any row"),
        (pd.DataFrame([[1, 2], [3, 4]], columns=["a", "a"]), "two columns named 'a'"),
        (np.zeros((2, 2, 2)), "has shape"),
    ],
)
def test_bad_properties_are_named(properties, message):
    with pytest.raises(ValueError, match=message):
        check_properties(properties, 2)


def test_a_row_without_any_property_is_allowed():
    assert len(check_properties([[1.0, 2.0], [np.nan, np.nan]], 2)) == 2


def test_property_errors_fit_their_properties():
    table = check_properties(np.ones((2, 2)), 2)
    errors = check_property_errors([[0.1, 999], [0.2, np.nan]], table)
    assert np.isnan(errors[:, 1]).all()
    with pytest.raises(ValueError, match="shape"):
        check_property_errors([[0.1], [0.2]], table)
    with pytest.raises(ValueError, match="'property_0' is negative in row 1"):
        check_property_errors([[0.1, 0.1], [-0.2, 0.1]], table)


@pytest.mark.parametrize(
    ("y", "expected"),
    [
        (None, False),
        ([0, 1, 2], False),
        (["a", "b"], False),
        ([0.0, 1.0], False),
        ([0.5, 1.2], True),
        ([[0.5, 1.0], [0.1, 0.2]], True),
        ([0.5, np.nan], True),
    ],
)
def test_only_measurements_are_continuous(y, expected):
    assert is_continuous(y) is expected


@pytest.mark.parametrize(
    ("y", "classes", "codes"),
    [
        ([3, -1, 7], [3, 7], [0, -1, 1]),
        ([1, -1, 1], [-1, 1], [1, 0, 1]),
        ([True, False, True], [False, True], [1, 0, 1]),
        ([1.0, np.nan, 0.0], [0.0, 1.0], [1, -1, 0]),
        (np.array(["b", None, "a", np.nan, ""], dtype=object), ["a", "b"], [1, -1, 0, -1, -1]),
        (pd.Series(["b", None, "a"], dtype="string"), ["a", "b"], [1, -1, 0]),
        (pd.Categorical(["b", "a"]), ["a", "b"], [1, 0]),
    ],
)
def test_labels_of_any_dtype(y, classes, codes):
    got_classes, got_codes = check_labels(y)
    assert got_classes.tolist() == classes
    assert got_codes.tolist() == codes


@pytest.mark.parametrize("y", [[-1, -1], ["", ""], [np.nan]])
def test_labels_are_needed(y):
    with pytest.raises(ValueError, match="y holds no label"):
        check_labels(y)


def test_continuous_labels_are_refused():
    with pytest.raises(ValueError, match="Unknown label type"):
        check_labels([0.5, 1.7])


def test_seeds_leave_the_global_generator_alone():
    before = np.random.get_state()[1].copy()  # noqa: NPY002
    assert draw_seed(3) == 3
    assert draw_seed(None) != draw_seed(None)
    assert draw_seed(np.random.RandomState(0)) == draw_seed(np.random.RandomState(0))
    np.testing.assert_array_equal(np.random.get_state()[1], before)  # noqa: NPY002
    with pytest.raises(ValueError, match="random_state=-1"):
        draw_seed(-1)
