import numpy as np
import pytest
import torch
from sklearn.base import BaseEstimator

from skastro.stamps.arrays import (
    check_images,
    count_missing_pixels,
    looks_channels_last,
    read_stamps,
)
from skastro.utils.progress import reporting


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
        ((5, 8, 8), r"use X\[:, None\] for 5 single-band stamps, or X\[None\] for one stamp of 5"),
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


def test_rows_are_reshaped_to_stamps():
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


def test_errors_about_infinite_pixels_give_the_row():
    stamps = np.zeros((2000, 1, 2, 2), dtype=np.float32)
    stamps[1500, 0, 1, 1] = np.inf
    with pytest.raises(ValueError, match=r"infinite pixel in row 1500 \(1 such rows\)"):
        count_missing_pixels(stamps)


def test_pixels_beyond_float32_are_refused():
    with pytest.raises(ValueError, match="infinite pixel in row 0"):
        read_stamps(np.full((1, 1, 2, 2), 1e300), slice(None))


def test_errors_about_empty_stamps_give_the_row():
    stamps = np.zeros((5, 1, 2, 2))
    stamps[3] = np.nan
    with pytest.raises(ValueError, match="no finite pixel in row 3"):
        count_missing_pixels(stamps)
    with pytest.raises(ValueError, match="no finite pixel in row 3"):
        read_stamps(stamps, np.array([1, 3]))


def test_masked_pixels_are_missing():
    stamps = np.ma.masked_greater(np.arange(8.0).reshape(1, 2, 2, 2), 5)
    assert count_missing_pixels(check(stamps)) == 2
    rows = np.ma.masked_greater(np.arange(8.0).reshape(2, 4), 5)
    assert count_missing_pixels(check(rows)) == 2


def test_rows_with_the_bands_last_are_refused():
    rows = np.zeros((2, 192))
    with pytest.raises(ValueError, match=r"X.reshape\(-1, 8, 8, 3\).transpose\(0, 3, 1, 2\)"):
        check(rows, image_shape=(8, 8, 3))


@pytest.mark.parametrize(
    ("shape", "expected"),
    [
        ((9, 32, 32, 12), True),
        ((9, 64, 64, 56), True),
        ((9, 16, 8, 4), True),
        ((9, 5, 32, 32), False),
        ((9, 5, 5, 5), False),
        ((9, 1, 1, 400), False),
        ((9, 6, 40, 3), False),
        ((32, 32), False),
    ],
)
def test_bands_last_are_recognised_by_the_shape(shape, expected):
    assert looks_channels_last(shape) is expected
    assert looks_channels_last(shape[1:]) is (expected and len(shape) > 3)


def test_lazy_stamps_are_read_in_chunks():
    lazy = Lazy(np.zeros((5000, 1, 2, 2), dtype=np.float32))
    count_missing_pixels(check(lazy))
    assert 0 < lazy.largest <= 1024


def test_reading_all_stamps_reports_progress():
    reports = []
    with reporting(lambda *report: reports.append(report)):
        count_missing_pixels(np.zeros((2500, 1, 2, 2)))
    assert reports == [("checking the stamps", done, 2500) for done in (1024, 2048, 2500)]
