import numpy as np
import pytest

from skastro.surveys.pixel_faults import find_pixel_faults

N = 40


def make_stamps(dtype=np.float32):
    return np.random.default_rng(0).normal(1000, 30, size=(N, 3, 32, 32)).astype(dtype)


class DamagedStamps:
    """Stamps of which some rows cannot be read."""

    def __init__(self, stamps, errors):
        self.stamps, self.errors = stamps, errors
        self.shape, self.dtype = stamps.shape, stamps.dtype

    def __len__(self):
        return len(self.stamps)

    def __getitem__(self, rows):
        for row in np.atleast_1d(np.arange(len(self))[rows]):
            if row in self.errors:
                raise self.errors[row]
        return self.stamps[rows]


@pytest.mark.parametrize("dtype", ["f4", "f8", "f2", "i2", "u2", "i4"])
def test_noise_has_no_fault(dtype):
    faults = find_pixel_faults(make_stamps(dtype))
    assert faults.describe(list("gri")) == []
    assert (faults.n_read, faults.unreadable, faults.missing_share) == (N, {}, 0)
    assert faults.groups.tolist() == list(range(N))


def test_stamps_that_cannot_be_read_are_listed_and_left_out():
    stamps = make_stamps()
    stamps[:, 0] = 0
    errors = {
        row: ValueError(f"cutouts/obj {row}.fits cannot be read as FITS (empty): copy it again.")
        for row in range(3, 33, 2)
    } | {36: FileNotFoundError("a.fits is missing: put it back.")}
    faults = find_pixel_faults(DamagedStamps(stamps, errors))
    assert list(faults.unreadable) == list(errors)
    assert faults.n_read == N - 16
    assert faults.zero == {0: N - 16}
    sentence = faults.describe_unreadable()
    assert sentence.startswith("16 stamps cannot be read (obj 3.fits, obj 5.fits, obj 7.fits, ")
    assert "and 8 others); the first: cutouts/obj 3.fits cannot be read as FITS" in sentence


def test_nothing_can_be_read():
    errors = {row: OSError(f"{row}.npy cannot be read") for row in range(N)}
    faults = find_pixel_faults(DamagedStamps(make_stamps(), errors))
    assert faults.n_read == 0
    assert faults.describe(list("gri")) == []


@pytest.mark.parametrize("dtype", ["f4", "i2"])
def test_bands_without_a_signal_are_counted(dtype):
    stamps = make_stamps(dtype)
    stamps[:10, 1] = 0
    stamps[10:15, 2] = -99
    stamps[20] = 7
    faults = find_pixel_faults(stamps)
    assert (faults.zero, faults.constant, faults.empty) == ({1: 10}, {2: 5}, 1)
    assert faults.describe(list("gri")) == [
        "1 of 40 stamps are empty (no finite pixel, or one value only): remove or mask them.",
        "A band is zero everywhere (band r in 10 of 40 stamps): set it to NaN.",
        "A band has a single value, or none (band i in 5 of 40 stamps): set it to NaN.",
    ]


def test_a_band_of_nan_is_counted():
    stamps = make_stamps()
    stamps[:4, 0] = np.nan
    faults = find_pixel_faults(stamps)
    assert faults.constant == {0: 4}
    assert faults.missing_share == pytest.approx(4 / N / 3)


FILLS = {
    "border": np.s_[:12, :, :, :3],
    "dead row": np.s_[:12, :, 17],
    "dead column": np.s_[:12, :, :, 9],
    "corner": np.s_[:12, :, :4, :4],
}


@pytest.mark.parametrize("place", FILLS)
@pytest.mark.parametrize("value", [0, -99, -32768])
@pytest.mark.parametrize("dtype", ["f4", "i2"])
def test_values_that_fill_a_part_are_found(place, value, dtype):
    stamps = make_stamps(dtype)
    stamps[FILLS[place]] = value
    faults = find_pixel_faults(stamps)
    assert faults.fill_values == {value: 12}
    assert f"({value} in 12 of 40 stamps)" in faults.describe(list("gri"))[0]


def test_zeros_among_lower_values_are_found():
    stamps = make_stamps() - 1000
    stamps[:5, :, 10:14, 10:14] = 0
    assert find_pixel_faults(stamps).fill_values == {0: 5}


def test_saturated_blocks_are_counted():
    stamps = make_stamps()
    stamps[:6, 1, 15:18, 15:18] = 65535
    stamps[7, 0, 3, 3] = 65535  # a cosmic ray
    faults = find_pixel_faults(stamps)
    assert (faults.saturated, faults.fill_values) == (6, {})


def test_equal_bands_are_counted():
    stamps = make_stamps()
    stamps[:8, 2] = stamps[:8, 0]
    stamps[3, :, 4] = np.nan
    assert find_pixel_faults(stamps).equal == {(0, 2): 8}


def test_a_dark_sky_in_pictures_is_no_fault_but_a_border_is():
    rng = np.random.default_rng(0)
    pictures = np.clip(rng.normal(0, 3, size=(N, 3, 32, 32)), 0, 255).astype(np.uint8)
    assert find_pixel_faults(pictures).describe(list("rgb")) == []
    pictures[:5, :, :4] = 0
    assert find_pixel_faults(pictures).fill_values == {0: 5}


def test_copies_are_grouped():
    stamps = make_stamps()
    stamps[30] = stamps[2]
    assert find_pixel_faults(stamps).groups[[2, 30]].tolist() == [2, 2]
