import numpy as np
import pytest

from skastro import Stamps
from skastro.stamps.bands import BandArray
from skastro.stamps.containers import ArraySource
from skastro.stamps.wavelengths import find_wavelength_order, wavelength_of


@pytest.mark.parametrize(
    ("bands", "order"),
    [
        ("ugriz", [0, 1, 2, 3, 4]),
        ("zirgu", [4, 3, 2, 1, 0]),
        ("GRI", [0, 1, 2]),  # as FITS writes names of extensions
        ("RGB", [2, 1, 0]),
        (("red", "green", "blue"), [2, 1, 0]),
        ("IVB", [2, 1, 0]),
        (("NUV", "FUV"), [1, 0]),
        (("Ks", "J", "H"), [1, 2, 0]),
        (("F160W", "F606W", "F814W"), [1, 2, 0]),
        (("F444W", "F090W", "F200W", "F1000W"), [1, 2, 0, 3]),
        (("NIRCam F200W", "ACS/F435W"), [1, 0]),
        (("i DECam SDSS c0003 7835.0 1470.0", "g DECam SDSS c0001 4720.0 1520.0"), [1, 0]),
        (("r", "halpha", "g"), [0, 1, 2]),  # one that is not known
    ],
)
def test_bands_are_sorted_by_the_names_of_their_filters(bands, order):
    stamps = BandArray.of(np.zeros((4, len(bands), 8, 8), np.float32), tuple(bands))
    assert find_wavelength_order(stamps) == order


def test_names_count_more_than_pixels():
    pictures = np.zeros((4, 3, 8, 8), np.uint8)
    assert find_wavelength_order(BandArray.of(pictures, "gri")) == [0, 1, 2]
    assert find_wavelength_order(BandArray.of(pictures, ("1", "2", "3"))) == [2, 1, 0]


@pytest.mark.parametrize(
    ("change", "is_picture"),
    [
        (lambda x: (255 * x).astype(np.uint8), True),
        (lambda x: x, True),
        (lambda x: (255 * x).round(), True),
        (lambda x: np.where(x < 0.1, np.nan, x), True),
        (lambda x: 0.4 * x, False),
        (lambda x: x - 0.1, False),
        (lambda x: 2 * x, False),
        (lambda x: 254.5 * x, False),
        (lambda x: (255 * x).astype(np.int16), False),
        (lambda x: x[:, :2], False),
        (lambda x: np.concatenate([x, x]), True),
        (lambda x: np.concatenate([x, x], axis=1), False),
    ],
)
def test_pictures_have_red_first(change, is_picture):
    stamps = np.random.default_rng(0).random((70, 3, 6, 6), dtype=np.float32)
    stamps[0, 0, 0, 0] = 1.0
    images = change(stamps)
    order = list(range(images.shape[1]))
    assert find_wavelength_order(images) == (order[::-1] if is_picture else order)


def test_few_stamps_of_a_lazy_stack_are_read():
    class Source(ArraySource):
        n_read = 0

        def read(self, rows):
            Source.n_read += len(rows)
            return super().read(rows)

    stamps = Stamps(Source(np.random.default_rng(0).random((500, 3, 4, 4))))
    assert find_wavelength_order(stamps) == [2, 1, 0]
    assert Source.n_read == 64


def test_names_of_several_filters_are_not_known():
    assert wavelength_of("g minus r") is None
    assert wavelength_of("") is None
