"""Stacks of stamps in .npy, Zarr and HDF5: axes, names of dimensions, missing pixels."""

import numpy as np
import pytest

from skastro import measure_properties, open_stamps

zarr = pytest.importorskip("zarr")
h5py = pytest.importorskip("h5py")
N, BANDS, HEIGHT, WIDTH = 7, 3, 12, 16
ROWS = [3, 6, 1, 1]


@pytest.fixture
def pixels():
    return np.random.default_rng(0).normal(size=(N, BANDS, HEIGHT, WIDTH)).astype(np.float32)


def write(path, array, **options):
    if path.suffix == ".npy":
        np.save(path, array)
    elif path.suffix == ".h5":
        with h5py.File(path, "w") as file:
            file.create_dataset("survey/images", data=array)
    else:
        zarr.create_array(str(path), data=array, chunks=(2,) * array.ndim, **options)
    return path


def check(stamps, pixels):
    assert stamps.shape == pixels.shape
    np.testing.assert_array_equal(np.asarray(stamps), pixels)
    np.testing.assert_array_equal(np.asarray(stamps[ROWS]), pixels[ROWS])
    np.testing.assert_array_equal(stamps[5], pixels[5])
    assert np.asarray(stamps[:0]).shape == (0, *pixels.shape[1:])


@pytest.mark.parametrize("kind", ["npy", "zarr", "h5"])
@pytest.mark.parametrize("axes", ["nchw", "nhwc", "hwcn", "cnhw", "nwhc", "hwc"])
def test_stacks_are_read_by_their_axes(tmp_path, pixels, kind, axes):
    order = ["nchw".index(letter) for letter in (axes if "n" in axes else f"n{axes}")]
    path = write(tmp_path / f"s.{kind}", pixels.transpose(order))
    stamps = open_stamps(path, axes=axes)
    check(stamps, pixels)
    stamps.save(tmp_path / "again.npy")
    np.testing.assert_array_equal(np.load(tmp_path / "again.npy"), pixels)


@pytest.mark.parametrize("kind", ["npy", "zarr", "h5"])
def test_stamps_of_one_band_are_read_with_axes_and_refused_without(tmp_path, pixels, kind):
    path = write(tmp_path / f"s.{kind}", pixels[:, 0])
    check(open_stamps(path, axes="nhw"), pixels[:, :1])
    with pytest.raises(ValueError, match=rf"\.{kind} has .*\(7, 12, 16\).*axes=\"nhw\""):
        open_stamps(path)


@pytest.mark.parametrize("kind", ["npy", "zarr", "h5"])
@pytest.mark.parametrize("place", [(0, 1), (4,), (1, 2), (2,)])
def test_axes_of_length_1_do_no_harm(tmp_path, pixels, kind, place):
    array = np.expand_dims(pixels[:, :1], [i for i in place if i]) if place != (4,) else None
    array = pixels[:, 0, ..., None] if array is None else array
    check(open_stamps(write(tmp_path / f"s.{kind}", array)), pixels[:, :1])


@pytest.mark.parametrize("kind", ["npy", "zarr", "h5"])
@pytest.mark.parametrize("bands", [3, 5, 6])
def test_stacks_that_look_channels_last_are_remarked_and_refused(tmp_path, kind, bands):
    path = write(tmp_path / f"s.{kind}", np.random.default_rng(0).normal(size=(4, 32, 24, bands)))
    with pytest.warns(UserWarning, match=r"looks channels-last: pass axes='nhwc' \(--axes nhwc\)"):
        stamps = open_stamps(path)
    with pytest.raises(ValueError, match=r"looks channels-last.*axes=\"nhwc\""):
        measure_properties(stamps)
    measured = measure_properties(open_stamps(path, axes="nhwc"))
    assert measured.filter(regex="^mag_band").shape[1] == bands


def test_wrong_axes_are_refused(tmp_path, pixels):
    path = write(tmp_path / "s.npy", pixels)
    with pytest.raises(ValueError, match=r"axes='nhwz' must have"):
        open_stamps(path, axes="nhwz")
    with pytest.raises(ValueError, match=r"s.npy has the shape .* but axes='hw' names 2 axes"):
        open_stamps(path, axes="hw")


@pytest.mark.parametrize("version", [2, 3])
def test_zarr_arrays_are_read_by_the_names_of_their_dimensions(tmp_path, pixels, version):
    names = ["galaxy", "y", "x", "channel"]
    options = {"dimension_names": names}
    if version == 2:
        options = {"zarr_format": 2, "attributes": {"_ARRAY_DIMENSIONS": names}}
    array = zarr.create_array(
        str(tmp_path / "s.zarr"), shape=(N, HEIGHT, WIDTH, BANDS), dtype="f4", **options
    )
    array[:] = pixels.transpose(0, 2, 3, 1)
    stamps = open_stamps(tmp_path / "s.zarr")
    check(stamps, pixels)
    assert stamps.axes == "nhwc"


@pytest.mark.parametrize("scales", [False, True])
def test_hdf5_arrays_are_read_by_the_names_of_their_dimensions(tmp_path, pixels, scales):
    with h5py.File(tmp_path / "s.h5", "w") as file:
        file["images"] = pixels.transpose(3, 2, 1, 0)
        for axis, name in enumerate(["x", "y", "band", "object"]):
            if scales:  # as netCDF writes them
                file[name] = np.arange(file["images"].shape[axis])
                file[name].make_scale(name)
                file["images"].dims[axis].attach_scale(file[name])
            else:
                file["images"].dims[axis].label = name
    check(open_stamps(tmp_path / "s.h5"), pixels)


@pytest.mark.parametrize("kind", ["zarr", "h5"])
def test_missing_and_packed_pixels_are_decoded(tmp_path, kind):
    packed = np.arange(N * 4 * 4, dtype=np.int16).reshape(N, 1, 4, 4)
    packed[2], packed[3, 0, 0] = -999, -1
    expected = 0.5 * packed.astype(float) + 10
    expected[2], expected[3, 0, 0] = np.nan, np.nan
    attributes = {"_FillValue": -999, "missing_value": -1, "scale_factor": 0.5, "add_offset": 10.0}
    if kind == "zarr":
        zarr.create_array(str(tmp_path / "s.zarr"), data=packed, attributes=attributes)
    else:
        with h5py.File(tmp_path / "s.h5", "w") as file:
            file.create_dataset("images", data=packed).attrs.update(attributes)
    stamps = open_stamps(tmp_path / f"s.{kind}")
    assert stamps.dtype == np.float32
    np.testing.assert_array_equal(np.asarray(stamps), expected)
    np.testing.assert_array_equal(np.asarray(stamps[ROWS]), expected[ROWS])
    stamps.save(tmp_path / "again.npy")
    np.testing.assert_array_equal(np.load(tmp_path / "again.npy"), expected)


@pytest.mark.parametrize("kind", ["zarr", "h5"])
def test_chunks_that_were_never_written_are_missing(tmp_path, kind):
    options = {"shape": (N, 1, 4, 4), "chunks": (1, 1, 4, 4), "dtype": "i2"}
    if kind == "zarr":
        array = zarr.create_array(str(tmp_path / "s.zarr"), fill_value=-1, **options)
        array[:4] = 7
    else:
        with h5py.File(tmp_path / "s.h5", "w") as file:
            file.create_dataset("images", fillvalue=-1, **options)[:4] = 7
    means = np.asarray(open_stamps(tmp_path / f"s.{kind}")).mean(axis=(1, 2, 3))
    np.testing.assert_array_equal(means, [7] * 4 + [np.nan] * 3)


def test_one_of_several_arrays_is_chosen_by_name_and_number_of_axes(tmp_path, pixels):
    with h5py.File(tmp_path / "s.h5", "w") as file:
        file["g"], file["r"] = pixels[:, 0], pixels[:, 1]
    check(open_stamps(tmp_path / "s.h5", hdu="r", axes="nhw"), pixels[:, 1:2])
    with pytest.raises(ValueError, match=r"no 4-D array \(there is g \(7, 12, 16\), r"):
        open_stamps(tmp_path / "s.h5")
    with pytest.raises(ValueError, match=r"several arrays of stamps \(g, r\).*hdu='g' \(--hdu g\)"):
        open_stamps(tmp_path / "s.h5", axes="nhw")
    with pytest.raises(ValueError, match=r"no array 'z': name one with hdu=.* of g "):
        open_stamps(tmp_path / "s.h5", hdu="z")
