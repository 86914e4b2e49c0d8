import pickle
import re
import subprocess
import sys
import threading
from pathlib import Path

import joblib
import numpy as np
import pytest
from astropy.io import fits
from hypothesis import given, settings, strategies as st
from PIL import Image
from sklearn.base import clone
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, StratifiedKFold, learning_curve
from sklearn.pipeline import make_pipeline
from sklearn.utils import _safe_indexing

from skastro import AsinhScaler, PropertyPretrainedEncoder, Stamps, measure_properties, open_stamps
from tests.conftest import find_data

N = 13


def make_stamps(n=N, bands=2, side=6, dtype=np.float32, seed=0):
    rng = np.random.default_rng(seed)
    return (100 * rng.normal(size=(n, bands, side, side))).astype(dtype)


@pytest.fixture
def pixels():
    return make_stamps()


@pytest.fixture
def stamps(pixels, tmp_path):
    np.save(tmp_path / "stamps.npy", pixels)
    return open_stamps(tmp_path / "stamps.npy")


def write_fits(path, bands, names="gr", dtype=np.float32):
    images = [fits.PrimaryHDU()]
    for name, band in zip(names, bands, strict=True):
        image = fits.ImageHDU(band.astype(dtype))
        image.header["FILTER"] = name
        images.append(image)
    fits.HDUList(images).writeto(path)


def write_folder(folder, kind, pixels):
    folder.mkdir(exist_ok=True)
    for number, stamp in enumerate(pixels):
        path = folder / f"object{number:02d}"
        if kind == "fits":
            write_fits(path.with_suffix(".fits"), stamp)
        elif kind == "fits.gz":
            write_fits(f"{path}.fits.gz", stamp)
        elif kind == "cube":
            fits.writeto(path.with_suffix(".fits"), stamp)
        elif kind == "fits.fz":
            images = [
                fits.CompImageHDU(band, compression_type="GZIP_2", quantize_level=0.0)
                for band in stamp
            ]
            fits.HDUList([fits.PrimaryHDU(), *images]).writeto(f"{path}.fits.fz")
        elif kind == "npy":
            np.save(path.with_suffix(".npy"), stamp)
    return folder


# reading


@pytest.mark.parametrize("dtype", ["uint8", "int16", "float16", "float32", "float64", ">f4", ">i2"])
@pytest.mark.parametrize("order", ["C", "F"])
def test_npy_files_are_read_bit_for_bit(tmp_path, dtype, order):
    pixels = np.asarray(make_stamps().astype(dtype), order=order)
    np.save(tmp_path / "s.npy", pixels)
    stamps = open_stamps(tmp_path / "s.npy")
    assert stamps.dtype.isnative
    assert np.asarray(stamps).dtype == stamps.dtype
    np.testing.assert_array_equal(np.asarray(stamps), pixels)
    np.testing.assert_array_equal(np.asarray(stamps[[5, 1, 1]]), pixels[[5, 1, 1]])


@pytest.mark.parametrize("kind", ["fits", "fits.gz", "fits.fz", "cube", "npy"])
def test_folders_are_read_bit_for_bit(tmp_path, pixels, kind):
    stamps = open_stamps(write_folder(tmp_path / "s", kind, pixels))
    assert stamps.shape == pixels.shape
    assert stamps.dtype == pixels.dtype
    np.testing.assert_array_equal(np.asarray(stamps), pixels)
    assert stamps.ids.tolist() == [f"object{i:02d}" for i in range(N)]
    assert stamps.bands == (("g", "r") if kind in ("fits", "fits.gz") else None)


def test_zarr_and_hdf5_are_read_bit_for_bit(tmp_path, pixels):
    zarr, h5py = pytest.importorskip("zarr"), pytest.importorskip("h5py")
    zarr.create_array(str(tmp_path / "s.zarr"), data=pixels, chunks=(4, 2, 6, 6))
    group = zarr.create_group(str(tmp_path / "g.zarr"))
    group.create_array("images", data=pixels)
    group.create_array("labels", data=np.arange(N))
    with h5py.File(tmp_path / "s.h5", "w") as file:
        file["survey/images"] = pixels
        file["labels"] = np.arange(N)
    rows = [7, 2, 2, 12, 0]
    for name in ("s.zarr", "g.zarr", "s.h5"):
        stamps = open_stamps(tmp_path / name)
        np.testing.assert_array_equal(np.asarray(stamps), pixels)
        np.testing.assert_array_equal(np.asarray(stamps[rows]), pixels[rows])
        assert np.asarray(stamps[:0]).shape == (0, 2, 6, 6)


def test_one_of_several_stacks_is_chosen_by_name(tmp_path, pixels):
    h5py = pytest.importorskip("h5py")
    with h5py.File(tmp_path / "s.h5", "w") as file:
        file["a"], file["b"] = pixels, pixels + 1
    with pytest.raises(ValueError, match=r"several arrays of stamps \(a, b\).*hdu="):
        open_stamps(tmp_path / "s.h5")
    np.testing.assert_array_equal(np.asarray(open_stamps(tmp_path / "s.h5", hdu="b")), pixels + 1)


@pytest.mark.parametrize("ending", ["png", "tiff"])
def test_pictures_are_read_bit_for_bit(tmp_path, ending):
    pixels = np.random.default_rng(0).integers(0, 256, (4, 3, 9, 7), np.uint8)
    for number, stamp in enumerate(pixels):
        Image.fromarray(stamp.transpose(1, 2, 0)).save(tmp_path / f"{number}.{ending}")
    stamps = open_stamps(tmp_path)
    assert (stamps.shape, stamps.dtype) == ((4, 3, 9, 7), np.uint8)
    np.testing.assert_array_equal(np.asarray(stamps), pixels)


@pytest.mark.parametrize(
    ("mode", "bands", "dtype"),
    [
        ("L", 1, np.uint8),
        ("LA", 1, np.uint8),
        ("P", 3, np.uint8),
        ("RGBA", 3, np.uint8),
        ("CMYK", 3, np.uint8),
        ("I;16", 1, np.uint16),
        ("F", 1, np.float32),
    ],
)
def test_pictures_of_every_mode_become_bands(tmp_path, mode, bands, dtype):
    image = Image.new("F" if mode == "F" else "L", (8, 6), 7)
    image = Image.new(mode, (8, 6)) if mode == "I;16" else image.convert(mode)
    image.save(tmp_path / "a.tiff")
    stamps = open_stamps([tmp_path / "a.tiff"])
    assert stamps.shape == (1, bands, 6, 8)
    assert stamps.dtype == dtype


def test_jpegs_are_read(tmp_path):
    smooth = np.broadcast_to(np.linspace(0, 255, 16).astype(np.uint8), (16, 16))
    Image.fromarray(smooth).convert("RGB").save(tmp_path / "a.JPG", quality=95)
    pixels = np.asarray(open_stamps(tmp_path))[0].astype(int)
    assert np.abs(pixels - smooth).max() < 10


def test_files_of_one_band_each_are_joined(tmp_path, pixels):
    for number, stamp in enumerate(pixels):
        for name, band in zip("gr", stamp, strict=True):
            fits.writeto(tmp_path / f"obj_{number:02d}_{name}_x.fits", band)
    stamps = open_stamps(tmp_path / "obj_{id}_{band}_x.fits", bands="rg")
    np.testing.assert_array_equal(np.asarray(stamps), pixels[:, ::-1])
    assert stamps.ids.tolist() == [f"{i:02d}" for i in range(N)]
    (tmp_path / "obj_03_g_x.fits").unlink()
    with pytest.raises(ValueError, match=r"lacks band 'g' of 1 objects \(03\)"):
        open_stamps(tmp_path / "obj_{id}_{band}_x.fits", bands="rg")


def test_bands_are_chosen_by_name_and_extension(tmp_path, pixels):
    folder = write_folder(tmp_path / "s", "fits", pixels)
    np.testing.assert_array_equal(np.asarray(open_stamps(folder, bands="r")), pixels[:, 1:])
    np.testing.assert_array_equal(np.asarray(open_stamps(folder, hdu=1)), pixels[:, :1])
    with pytest.raises(ValueError, match=r"object00.fits has no band 'z' \(there is g, r\)"):
        open_stamps(folder, bands="gz")
    with pytest.raises(ValueError, match=r"no extension 7: choose one of 0"):
        open_stamps(folder, hdu=7)


@pytest.mark.usefixtures("stamps")
def test_names_of_bands_must_fit_the_array(tmp_path):
    assert open_stamps(tmp_path / "stamps.npy", bands="ui").bands == ("u", "i")
    with pytest.raises(ValueError, match=r"bands names 3 bands \(u, g, r\).* has 2"):
        open_stamps(tmp_path / "stamps.npy", bands="ugr")


# sizes


@pytest.mark.parametrize("size", [4, 5, 6, 7, 9, (4, 9)])
def test_stamps_are_cropped_or_padded_about_the_centre(tmp_path, pixels, size):
    folder = write_folder(tmp_path / "s", "npy", pixels)
    stamps = np.asarray(open_stamps(folder, size=size))
    height, width = (size, size) if isinstance(size, int) else size
    assert stamps.shape == (N, 2, height, width)
    middle = stamps[..., height // 2, width // 2]
    even = height % 2 == width % 2 == 0
    if even:
        np.testing.assert_array_equal(middle, pixels[..., 3, 3])
    if height <= 6 and width <= 6:
        y, x = (6 - height) // 2, (6 - width) // 2
        np.testing.assert_array_equal(stamps, pixels[..., y : y + height, x : x + width])
    assert np.isfinite(stamps).sum() == N * 2 * min(6, height) * min(6, width)


def test_files_of_other_sizes_need_a_size(tmp_path, pixels):
    folder = write_folder(tmp_path / "s", "npy", pixels)
    np.save(folder / "object05.npy", pixels[5, :, :4])
    with pytest.raises(ValueError, match=r"object05.npy has 4 x 6 pixels.*6 x 6: pass size="):
        np.asarray(open_stamps(folder))
    assert np.asarray(open_stamps(folder, size=4)).shape == (N, 2, 4, 4)


def test_resampling_keeps_the_surface_brightness(tmp_path):
    pixels = np.full((2, 1, 8, 8), 3.5, np.float32)
    folder = write_folder(tmp_path / "s", "npy", pixels)
    smaller = np.asarray(open_stamps(folder, size=4, resample=True))
    np.testing.assert_allclose(smaller, 3.5, rtol=1e-6)
    with pytest.raises(ValueError, match="needs a size"):
        open_stamps(folder, resample=True)
    with pytest.raises(ValueError, match="size=0 must be"):
        open_stamps(folder, size=0)


@pytest.mark.usefixtures("stamps")
def test_the_size_of_an_array_cannot_be_changed(tmp_path):
    with pytest.raises(ValueError, match="crop them once and save"):
        open_stamps(tmp_path / "stamps.npy", size=4)


# indexing

INDEX = st.one_of(
    st.integers(-N, N - 1),
    st.slices(N),
    st.lists(st.integers(-N, N - 1), max_size=20),
    st.lists(st.booleans(), min_size=N, max_size=N).map(np.array),
    st.lists(st.integers(-N, N - 1), min_size=1).map(np.array),
    st.just(Ellipsis),
)
REST = st.one_of(
    st.just(()),
    st.just((Ellipsis,)),
    st.just((slice(None),)),
    st.just((slice(None), Ellipsis)),
    st.just((0,)),
    st.just((Ellipsis, slice(1, 4))),
    st.just((1, slice(None), 2)),
)


@given(first=INDEX, rest=REST, second=st.slices(N))
@settings(max_examples=150, deadline=None)
def test_indexing_follows_numpy(shared_stamps, first, rest, second):
    pixels, stamps = shared_stamps
    if first is Ellipsis and rest and Ellipsis in rest:
        rest = ()
    key = (first, *rest) if rest or first is Ellipsis else first
    expected, part = pixels[key], stamps[key]
    assert part.shape == expected.shape
    np.testing.assert_array_equal(np.asarray(part), expected)
    if isinstance(part, Stamps):
        np.testing.assert_array_equal(np.asarray(part[second]), expected[second])
        np.testing.assert_array_equal(part[second].ids, part.ids[second])


@pytest.fixture(scope="module")
def shared_stamps(tmp_path_factory):
    pixels = make_stamps()
    return pixels, open_stamps(
        write_folder(tmp_path_factory.mktemp("indexing") / "s", "npy", pixels)
    )


@pytest.mark.parametrize(
    "key",
    [
        N,
        -N - 1,
        [0, N],
        [-N - 1],
        [0.5],
        np.zeros((2, 2), int),
        "a",
        np.ones(3, bool),
        (slice(None),) * 5,
    ],
)
def test_indices_that_numpy_refuses_are_refused(stamps, key):
    with pytest.raises(IndexError):
        stamps[key]


def test_rows_stay_lazy(stamps, monkeypatch):
    def fail(*_):
        raise AssertionError("pixels were read")

    monkeypatch.setattr(type(stamps._source), "read", fail)
    for part in (stamps[3:8], stamps[[1, 2]], stamps[::2][np.array([0, 1])], stamps[:5, ...]):
        assert isinstance(part, Stamps)
    assert len(stamps[np.arange(N) % 2 == 0]) == 7
    assert "float32" in repr(stamps)
    assert stamps.nbytes == N * 2 * 36 * 4


def test_stamps_are_iterated_and_read_in_batches(stamps, pixels):
    np.testing.assert_array_equal(np.stack(list(stamps)), pixels)
    assert [len(batch) for batch in stamps.batches(5)] == [5, 5, 3]
    with pytest.raises(ValueError, match="without a copy"):
        stamps.__array__(copy=False)  # a call of NumPy 2
    assert np.asarray(stamps, np.float64).dtype == np.float64


def test_pickles_are_small_and_hashes_depend_on_the_content(stamps, pixels, tmp_path):
    some = stamps[[3, 1]]
    data = pickle.dumps(some)
    assert len(data) < 2000
    again = pickle.loads(data)
    np.testing.assert_array_equal(np.asarray(again), pixels[[3, 1]])
    assert joblib.hash(again) == joblib.hash(some) != joblib.hash(stamps[[3, 2]])
    np.save(tmp_path / "stamps.npy", pixels + 1)
    assert joblib.hash(open_stamps(tmp_path / "stamps.npy")[[3, 1]]) != joblib.hash(some)


def test_a_file_that_has_changed_or_is_gone_is_refused(stamps, pixels, tmp_path):
    np.save(tmp_path / "stamps.npy", pixels[:5])
    with pytest.raises(ValueError, match=r"has changed since the stamps were opened"):
        np.asarray(stamps)
    (tmp_path / "stamps.npy").unlink()
    with pytest.raises(FileNotFoundError, match="is gone"):
        np.asarray(stamps)


# files that cannot be read


def test_paths_without_stamps_are_refused(tmp_path):
    (tmp_path / "notes.txt").write_text("hello")
    with pytest.raises(FileNotFoundError, match=r"has no stamps: put stamps\.npy"):
        open_stamps(tmp_path)
    with pytest.raises(ValueError, match="the list of stamp files is empty"):
        open_stamps([])
    with pytest.raises(ValueError, match="unknown ending"):
        open_stamps(tmp_path / "notes.txt")
    for name in ("a.npy", "a.fits", "a.png"):
        with pytest.raises(FileNotFoundError, match=rf"{re.escape(name)} does not exist"):
            open_stamps(tmp_path / name)


def test_files_of_several_kinds_are_refused(tmp_path):
    np.save(tmp_path / "a.npy", np.ones((1, 4, 4)))
    fits.writeto(tmp_path / "b.fits", np.ones((4, 4)))
    with pytest.raises(ValueError, match=r"has 1 \.npy and 1 FITS files: pass a list"):
        open_stamps(tmp_path)


def test_a_file_that_is_not_a_picture_is_refused(tmp_path):
    (tmp_path / "a.png").write_bytes(b"<html>not found</html>")
    with pytest.raises(ValueError, match=r"a.png cannot be read as PNG image .*copy it again"):
        open_stamps(tmp_path)


def test_files_with_other_numbers_of_bands_are_refused(tmp_path):
    for name, mode in (("a", "RGB"), ("b", "L")):
        Image.new(mode, (5, 5)).save(tmp_path / f"{name}.png")
    with pytest.raises(ValueError, match=r"b.png has 1 bands, but the first file has 3"):
        np.asarray(open_stamps(tmp_path))


@pytest.mark.parametrize("shape", [(4, 4), (3, 4, 4), (2, 1, 0, 4)])
def test_arrays_of_other_shapes_are_refused(tmp_path, shape):
    np.save(tmp_path / "stamps.npy", np.zeros(shape))
    with pytest.raises(ValueError, match=r"but stamps are|holds no pixel|a stamp is"):
        open_stamps(tmp_path / "stamps.npy")


def test_arrays_of_text_are_refused(tmp_path):
    np.save(tmp_path / "s.npy", np.full((2, 1, 4, 4), "a"))
    with pytest.raises(ValueError, match="save stamps as real numbers"):
        open_stamps(tmp_path / "s.npy")


@pytest.mark.parametrize("kind", ["fits", "cube", "npy", "png"])
def test_truncated_files_are_refused_in_one_line(tmp_path, kind):
    path = tmp_path / f"a.{'fits' if kind == 'cube' else kind}"
    stamp = make_stamps(1, 2, 40)[0]
    if kind == "npy":
        np.save(path, stamp)
    elif kind == "png":
        Image.fromarray(np.random.default_rng(0).integers(0, 255, (40, 40), np.uint8)).save(path)
    elif kind == "cube":
        fits.writeto(path, stamp)
    else:
        write_fits(path, stamp)
    whole, expected = path.read_bytes(), np.asarray(open_stamps([path]))
    for length in np.random.default_rng(1).integers(0, len(whole), 50):
        path.write_bytes(whole[:length])
        try:
            pixels = np.asarray(open_stamps([path]))
        except (ValueError, FileNotFoundError) as error:
            message = str(error)
        else:  # only padding is missing
            np.testing.assert_array_equal(pixels, expected)
            continue
        assert path.name in message
        assert len(message.splitlines()) == 1


def test_a_truncated_stack_is_refused(tmp_path, pixels):
    path = tmp_path / "s.npy"
    np.save(path, pixels)
    whole = path.read_bytes()
    for length in (0, 5, 100, len(whole) - 1):
        path.write_bytes(whole[:length])
        with pytest.raises(ValueError, match=r"is not a \.npy file, or is truncated") as caught:
            open_stamps(path)
        assert len(str(caught.value).splitlines()) == 1


# saving


@pytest.mark.parametrize("name", ["s.npy", "s.zarr"])
@pytest.mark.parametrize("chunk", [1, 4, 100])
def test_saved_stamps_are_the_same(tmp_path, stamps, pixels, name, chunk):
    some = stamps[::-1]
    some.save(tmp_path / name, chunk=chunk)
    again = open_stamps(tmp_path / name)
    np.testing.assert_array_equal(np.asarray(again), pixels[::-1])
    assert again.dtype == stamps.dtype
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted(["stamps.npy", name])
    with pytest.raises(FileExistsError, match="pass overwrite=True"):
        some.save(tmp_path / name)
    stamps.save(tmp_path / name, overwrite=True)
    np.testing.assert_array_equal(np.asarray(open_stamps(tmp_path / name)), pixels)


@pytest.mark.parametrize("name", ["s.npy", "s.zarr"])
def test_an_interrupted_save_resumes(tmp_path, stamps, pixels, name, monkeypatch):
    kind, read = type(stamps._source), type(stamps._source).read
    rows_read = []

    def stop(source, rows):
        rows_read.append(rows.tolist())
        if len(rows_read) == 3:
            raise KeyboardInterrupt
        return read(source, rows)

    monkeypatch.setattr(kind, "read", stop)
    with pytest.raises(KeyboardInterrupt):
        stamps.save(tmp_path / name, chunk=4)
    assert not (tmp_path / name).exists()
    if name == "s.npy":  # killed in the middle of a write
        with (tmp_path / "s.npy.partial").open("ab") as file:
            file.write(b"half a stamp")
    else:
        (tmp_path / "s.zarr.partial" / "c" / "9.5a.partial").write_bytes(b"half a chunk")
    stamps.save(tmp_path / name, chunk=4)
    assert rows_read == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9, 10, 11], [8, 9, 10, 11], [12]]
    np.testing.assert_array_equal(np.asarray(open_stamps(tmp_path / name)), pixels)


@pytest.mark.parametrize("name", ["s.npy", "s.zarr"])
def test_a_save_killed_before_the_rename_reads_nothing_again(
    tmp_path, stamps, pixels, name, monkeypatch
):
    stamps[:4].save(tmp_path / name)
    with monkeypatch.context() as patch:
        patch.setattr("skastro.stamps.stack.remove_leftovers", lambda _: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            stamps.save(tmp_path / name, overwrite=True)
    with monkeypatch.context() as patch:
        patch.setattr(type(stamps._source), "read", lambda *_: 1 / 0)
        stamps.save(tmp_path / name, overwrite=True)
    np.testing.assert_array_equal(np.asarray(open_stamps(tmp_path / name)), pixels)
    assert {path.name for path in tmp_path.iterdir()} == {"stamps.npy", name}


@pytest.mark.parametrize("name", ["s.npy", "s.zarr"])
def test_a_save_killed_after_the_rename_succeeds_when_called_again(
    tmp_path, stamps, pixels, name, monkeypatch
):
    unlink = Path.unlink

    def fail_at_the_note(path, *, missing_ok=False):
        if path.name == f"{name}.partial.json" and not missing_ok:
            raise KeyboardInterrupt
        unlink(path, missing_ok=missing_ok)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "unlink", fail_at_the_note)
        with pytest.raises(KeyboardInterrupt):
            stamps.save(tmp_path / name)
    assert (tmp_path / name).exists()
    with pytest.raises(FileExistsError, match="pass overwrite=True"):
        stamps[:4].save(tmp_path / name)
    stamps.save(tmp_path / name)
    np.testing.assert_array_equal(np.asarray(open_stamps(tmp_path / name)), pixels)
    assert {path.name for path in tmp_path.iterdir()} == {"stamps.npy", name}
    with pytest.raises(FileExistsError, match="pass overwrite=True"):
        stamps.save(tmp_path / name)


def test_a_partial_file_of_other_stamps_is_discarded(tmp_path, stamps, pixels, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr("skastro.stamps.stack.remove_leftovers", lambda _: 1 / 0)
        for some in (stamps, stamps[::-1]):
            with pytest.raises(ZeroDivisionError):
                some.save(tmp_path / "s.npy", chunk=4)
    assert (tmp_path / "s.npy.partial").exists()
    stamps[:4].save(tmp_path / "s.npy")
    np.testing.assert_array_equal(np.asarray(open_stamps(tmp_path / "s.npy")), pixels[:4])


@pytest.mark.parametrize("name", ["s.npy", "s.zarr"])
def test_an_empty_stack_can_be_saved(tmp_path, stamps, name):
    stamps[:0].save(tmp_path / name)
    assert [path.name for path in tmp_path.glob("s.*")] == [name]


def test_a_full_disk_is_an_error_and_writes_no_file_of_the_final_name(tmp_path, stamps):
    code = (
        "import resource, signal, sys\n"
        "from skastro import open_stamps\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (2000, 2000))\n"
        "open_stamps(sys.argv[1]).save(sys.argv[2], chunk=4)\n"
    )
    target = tmp_path / "copy.npy"
    result = subprocess.run(  # noqa: S603 - the interpreter and the code of this test
        [sys.executable, "-c", code, str(tmp_path / "stamps.npy"), str(target)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert "(no space is left): make room, and call again." in result.stderr.splitlines()[-1]
    assert not target.exists()
    stamps.save(target, chunk=4)
    np.testing.assert_array_equal(np.asarray(open_stamps(target)), np.asarray(stamps))


def test_zero_points_put_bands_on_one_scale(tmp_path):
    pixels = np.random.default_rng(0).normal(size=(5, 3, 4, 4)).astype(">f4")
    pixels[0, 0, 0, 0] = np.nan
    np.save(tmp_path / "s.npy", pixels)
    stamps = open_stamps(tmp_path / "s.npy", bands="gri")
    scaled = stamps.calibrated({"r": 25.0, "g": 22.5, "i": 20.0})
    assert isinstance(scaled[1:], Stamps)
    assert (scaled.shape, scaled.bands, scaled.dtype) == (stamps.shape, ("g", "r", "i"), np.float32)
    expected = pixels * np.array([1, 0.1, 10], np.float32)[:, None, None]
    np.testing.assert_allclose(np.asarray(scaled), expected, rtol=1e-6)
    np.testing.assert_array_equal(
        np.asarray(stamps.calibrated([22.5, 25.0, 20.0])[[3, 1]]), np.asarray(scaled)[[3, 1]]
    )
    assert len(pickle.dumps(scaled)) < 2000


@pytest.mark.parametrize("zero_points", [{"g": 22.5}, [22.5, 25.0], [22.5, np.nan, 22.5]])
def test_every_band_needs_a_zero_point(tmp_path, zero_points):
    np.save(tmp_path / "s.npy", np.ones((2, 3, 4, 4)))
    stamps = open_stamps(tmp_path / "s.npy", bands="gri")
    with pytest.raises(ValueError, match="must give a finite magnitude for each of the 3 bands"):
        stamps.calibrated(zero_points)


def test_unusable_targets_of_a_save_are_refused(tmp_path, stamps):
    with pytest.raises(ValueError, match=r"must end in \.npy or \.zarr"):
        stamps.save(tmp_path / "s.fits")
    with pytest.raises(ValueError, match="chunk=0"):
        stamps.save(tmp_path / "s.npy", chunk=0)
    with pytest.raises(OSError, match=r"cannot be written \(.*\): choose a folder"):
        stamps.save(tmp_path / "nowhere" / "s.npy")


def test_a_save_into_a_read_only_folder_is_refused(locked, stamps):
    with pytest.raises(PermissionError, match="choose a folder that you may write to"):
        stamps.save(locked / "s.npy")


# stamps as X of estimators


@pytest.fixture(scope="module")
def task(tmp_path_factory):
    rng = np.random.default_rng(0)
    pixels = rng.normal(size=(60, 3, 8, 8)).astype(np.float32)
    labels = np.arange(60) % 2
    pixels[labels == 1, :, 3:5, 3:5] += 5
    path = tmp_path_factory.mktemp("task") / "stamps.npy"
    np.save(path, pixels)
    return open_stamps(path), pixels, labels


def small_encoder(**params):
    return PropertyPretrainedEncoder("stamp_resnet10", max_epochs=1, random_state=0, **params)


def test_estimators_give_the_same_results_for_stamps_and_their_pixels(task):
    stamps, pixels, _ = task
    encoder = small_encoder()
    expected = clone(encoder).fit(pixels).transform(pixels)
    np.testing.assert_array_equal(encoder.fit(stamps).transform(stamps), expected)
    scaler = AsinhScaler()
    np.testing.assert_array_equal(
        scaler.fit(stamps).transform(stamps), AsinhScaler().fit_transform(pixels)
    )
    np.testing.assert_array_equal(measure_properties(stamps), measure_properties(pixels))


def test_the_encoder_never_reads_all_stamps_at_once(task, monkeypatch):
    stamps, _, _ = task
    read, lengths = type(stamps._source).read, []

    def watch(source, rows):
        lengths.append(len(rows))
        return read(source, rows)

    monkeypatch.setattr(type(stamps._source), "read", watch)
    monkeypatch.setattr("skastro.stamps.arrays._CHECKED_AT_ONCE", 16)
    monkeypatch.setattr("skastro.stamps.scaling._MAX_FITTED_STAMPS", 16)
    monkeypatch.setattr("skastro.stamps.photometry._MAX_CHUNK", 16)
    monkeypatch.setattr("skastro.surveys.pixel_statistics._MAX_STAMPS", 16)
    encoder = small_encoder(batch_size=8).fit(stamps)
    encoder.transform(stamps)
    assert max(lengths) <= 16


@pytest.mark.slow
def test_searches_and_curves_take_stamps(task, tmp_path):
    stamps, _, labels = task
    encoder = small_encoder(batch_size=10).set_params(max_epochs=20)
    frozen = FrozenEstimator(encoder.fit(stamps))
    pipeline = make_pipeline(frozen, LogisticRegression(max_iter=50), memory=str(tmp_path))
    folds = StratifiedKFold(3)
    search = GridSearchCV(pipeline, {"logisticregression__C": [0.01, 1.0]}, cv=folds)
    assert search.fit(stamps, labels).best_score_ > 0.8
    _, _, scores = learning_curve(pipeline, stamps, labels, cv=folds, train_sizes=[0.5, 1.0])
    assert np.isfinite(scores).all()
    assert _safe_indexing(stamps, [1, 2]).shape == (2, 3, 8, 8)


def test_threads_may_read_at_once(stamps, pixels):
    parts = {}

    def read(start):
        parts[start] = np.asarray(stamps[start::4])

    threads = [threading.Thread(target=read, args=(start,)) for start in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for start, part in parts.items():
        np.testing.assert_array_equal(part, pixels[start::4])


# real stamps


def test_the_fits_files_of_real_stamps_hold_the_pixels_of_the_array():
    folder = find_data("sdss")
    files, array = open_stamps(folder / "fits"), open_stamps(folder)
    ids = np.loadtxt(folder / "catalog.csv", str, delimiter=",", skiprows=1, usecols=0)
    rows = [np.flatnonzero(ids == file_id).item() for file_id in files.ids]
    assert files.shape == (60, 5, 32, 32)
    assert files.bands == tuple("ugriz")
    np.testing.assert_array_equal(
        np.asarray(files), np.asarray(array[rows]).astype(np.float32), strict=True
    )


def test_a_pool_of_real_pictures_opens():
    stamps = open_stamps(find_data("sdss_pool") / "stamps")
    assert stamps.shape == (9700, 3, 64, 64)
    assert np.asarray(stamps[::1000]).std() > 1
