"""Names of bands, and arrays that keep them."""

import pickle

import h5py
import joblib
import numpy as np
import pytest
import torch
from astropy.io import fits
from sklearn.model_selection import train_test_split

from skastro import Stamps, open_stamps
from skastro.stamps.bands import BandArray, find_wavelength_order, spell_bands, wavelength_of
from skastro.stamps.containers import ArraySource


@pytest.fixture
def stamps():
    return BandArray.of(np.random.default_rng(0).normal(size=(6, 3, 8, 8)), "gri")


@pytest.mark.parametrize(
    ("bands", "known", "spelled"),
    [
        ("GRI", "gri", "gri"),
        ("rR", "Rr", "rR"),  # two bands
        ("Rr", "rg", "Rr"),  # both are not the one r
        (["f814w"], ["F606W", "F814W "], ["F814W "]),
        (["ks"], ["Ks", "KS"], ["ks"]),  # which of the two?
        ("z", "gri", "z"),
    ],
)
def test_names_are_found_regardless_of_case_where_only_one_can_be_meant(bands, known, spelled):
    assert spell_bands(bands, known) == list(spelled)


@pytest.mark.parametrize(
    "key",
    [
        slice(1, 3),
        [2, 0],
        np.arange(6) > 2,
        Ellipsis,
        ([1, 2], Ellipsis),
        (slice(None), slice(None), slice(2, 6), slice(2, 6)),
    ],
)
def test_rows_and_crops_keep_the_names(stamps, key):
    assert stamps[key].bands == ("g", "r", "i")
    np.testing.assert_array_equal(stamps[key], np.asarray(stamps)[key])


@pytest.mark.parametrize(
    "key",
    [
        0,
        (slice(None), [2, 1, 0]),
        (slice(None), slice(None, None, -1)),
        (Ellipsis, [2, 1, 0], slice(None), slice(None)),
        (slice(None), 1),
        (None, 0),
        np.ones((6, 3), bool),
    ],
)
def test_other_bands_lose_the_names(stamps, key):
    assert type(stamps[key]) is np.ndarray
    np.testing.assert_array_equal(stamps[key], np.asarray(stamps)[key])


@pytest.mark.parametrize(
    "change",
    [
        lambda stamps: stamps * 2,
        lambda stamps: stamps.mean(axis=0),
        lambda stamps: np.flip(stamps, 1),
        lambda stamps: np.roll(stamps, 1, axis=1),
        lambda stamps: stamps.take([2, 1, 0], axis=1),
        lambda stamps: stamps.transpose(0, 2, 3, 1),
        lambda stamps: np.concatenate([stamps, stamps]),
        lambda stamps: stamps.reshape(6, -1),
    ],
)
def test_no_calculation_gives_wrong_names(stamps, change):
    assert getattr(change(stamps), "bands", None) is None
    np.testing.assert_array_equal(change(stamps), change(np.asarray(stamps)))


def test_copies_and_changes_in_place_keep_the_names(stamps):
    assert stamps.astype(np.float16).bands == stamps.copy().bands == ("g", "r", "i")
    stamps += 1
    stamps[0] = 0
    assert stamps.bands == ("g", "r", "i")
    assert type(stamps.sum()) is np.float64


def test_names_go_where_the_array_goes(stamps, tmp_path):
    assert pickle.loads(pickle.dumps(stamps)).bands == ("g", "r", "i")
    joblib.dump(stamps, tmp_path / "stamps.joblib")
    assert joblib.load(tmp_path / "stamps.joblib").bands == ("g", "r", "i")
    train, test = train_test_split(stamps, random_state=0)
    assert train.bands == test.bands == ("g", "r", "i")
    assert torch.from_numpy(stamps).shape == (6, 3, 8, 8)


def _describe(stamps):
    return stamps.bands, type(stamps.base)


def test_processes_share_the_pixels():
    stamps = BandArray.of(np.zeros((400, 3, 32, 32)), "gri")
    run = joblib.Parallel(n_jobs=2, max_nbytes=1000)
    assert run([joblib.delayed(_describe)(stamps)] * 2) == [(("g", "r", "i"), np.memmap)] * 2


def write_extensions(path, pixels):
    bands = [fits.ImageHDU(pixels[0], name="G"), fits.ImageHDU(pixels[1], name="R")]
    fits.HDUList([fits.PrimaryHDU(), *bands]).writeto(path)


def write_files(path, pixels):
    for band, image in zip("GR", pixels, strict=True):
        np.save(path.with_name(f"a_{band}.npy"), image)


def write_store(path, pixels):
    store = h5py.File(path, "w")
    store["stamps"] = pixels[None]
    store["stamps"].attrs["bands"] = ["G", "R"]
    store.close()


@pytest.mark.parametrize("bands", ["gr", "GR", "Gr"])
@pytest.mark.parametrize(
    ("name", "write", "opened"),
    [
        ("a.fits", write_extensions, "a.fits"),
        ("a.npy", write_files, "{id}_{band}.npy"),
        ("a.h5", write_store, "a.h5"),
    ],
)
def test_readers_find_bands_regardless_of_case(tmp_path, name, write, opened, bands):
    pixels = np.arange(128, dtype=np.float32).reshape(2, 8, 8)
    write(tmp_path / name, pixels)
    stamps = open_stamps(tmp_path / opened, bands=bands)
    assert stamps.bands == tuple(bands)
    np.testing.assert_array_equal(stamps[0], pixels)
    dimmed = stamps.calibrated({"g": 22.5, "r": 25.0})
    np.testing.assert_allclose(dimmed[0], pixels * np.array([1, 0.1])[:, None, None], rtol=1e-6)


def test_names_in_another_order_than_that_of_the_file_are_refused(tmp_path):
    write_store(tmp_path / "a.h5", np.zeros((2, 8, 8)))
    with pytest.raises(ValueError, match=r"not the order of the file, which says G, R: leave"):
        open_stamps(tmp_path / "a.h5", bands="rg")
    assert open_stamps(tmp_path / "a.h5", bands="xy").bands == ("x", "y")  # other names are new


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
