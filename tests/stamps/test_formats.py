"""Stacks of stamps in .npy, Zarr and HDF5: axes, names of dimensions, missing pixels."""

import numpy as np
import pytest

from skastro import load_folder, load_survey, measure_properties, open_stamps

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


def test_arrays_of_errors_beside_those_of_pixels_are_left_out(tmp_path, pixels):
    with h5py.File(tmp_path / "s.h5", "w") as file:  # as the Multimodal Universe names them
        file["image_flux"], file["image_ivar"] = pixels, np.ones_like(pixels)
        file["image_mask"] = np.ones(pixels.shape, bool)
    with pytest.warns(UserWarning, match="are not bands, .* left out: image_ivar, image_mask"):
        check(open_stamps(tmp_path / "s.h5"), pixels)


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_npz_files_are_read_by_the_names_of_their_arrays(tmp_path, pixels, save):
    labels = np.array(["star", "galaxy"] * 3 + ["star"])
    save(tmp_path / "s.npz", images=pixels, label=labels, z=np.arange(N), edges=np.arange(3))
    check(open_stamps(tmp_path / "s.npz"), pixels)
    survey = load_survey(tmp_path / "s.npz")
    assert survey.catalog.columns.tolist() == ["label", "z"]
    assert survey.catalog["label"].tolist() == labels.tolist()
    save(tmp_path / "s.npz", a=pixels.transpose(0, 2, 3, 1), b=np.asfortranarray(pixels))
    check(open_stamps(tmp_path / "s.npz", hdu="b"), pixels)
    check(open_stamps(tmp_path / "s.npz", hdu="a", axes="nhwc"), pixels)
    with pytest.raises(ValueError, match=r"several arrays of stamps \(a, b\).*hdu='a'"):
        open_stamps(tmp_path / "s.npz")
    with pytest.raises(FileNotFoundError, match=r"t\.npz does not exist"):
        open_stamps(tmp_path / "t.npz")
    content = (tmp_path / "s.npz").read_bytes()
    (tmp_path / "t.npz").write_bytes(content[: len(content) // 2])
    with pytest.raises(ValueError, match=r"t\.npz is not an \.npz file, or is truncated"):
        open_stamps(tmp_path / "t.npz")


def test_python_objects_in_npz_files_are_never_unpickled(tmp_path, pixels):
    np.savez(tmp_path / "s.npz", images=pixels, label=np.array([{}] * N), z=np.arange(N))
    with pytest.warns(UserWarning, match=r"Python objects in label, which are left out"):
        assert load_survey(tmp_path / "s.npz").catalog.columns.tolist() == ["z"]


def test_hdf5_files_have_columns_beside_the_images(tmp_path, pixels):
    with h5py.File(tmp_path / "stamps.h5", "w") as file:
        file["images"], file["ans"], file["table/ra"] = pixels, np.arange(N) % 2, np.ones(N)
        file["name"] = [f"g{i}" for i in range(N)]
        file["classes"] = np.arange(2)  # not one for each stamp
    survey = load_folder(tmp_path, label="ans")
    check(survey.images, pixels)
    assert survey.catalog.columns.tolist() == ["ans", "name", "table/ra"]
    assert (survey.ids[3], survey.target.tolist()) == ("g3", [0, 1, 0, 1, 0, 1, 0])


@pytest.mark.parametrize("name", ["{}", "objects/{}", "{}/image"])
def test_hdf5_files_may_have_a_data_set_for_each_object(tmp_path, pixels, name):
    with h5py.File(tmp_path / "s.h5", "w") as file:
        for i in range(N):
            file[name.format(f"g{i}")] = pixels[i]
            file[name.format(f"g{i}")].attrs.update({"class": "ab"[i % 2], "z": i / 10})
    pattern = name.format("*")
    stamps = open_stamps(tmp_path / "s.h5", hdu=pattern)
    check(stamps, pixels)
    assert stamps.ids.tolist() == [f"g{i}" for i in range(N)]
    table = load_survey(tmp_path / "s.h5", hdu=pattern).catalog
    assert table["class"].tolist() == list("abababa")
    assert table.columns.tolist() == ["class", "z", "id"]
    with pytest.raises(ValueError, match=r"no data set that matches hdu='x\*'"):
        open_stamps(tmp_path / "s.h5", hdu="x*")
    with pytest.raises(ValueError, match=r"s\.h5 has no 4-D array"):  # these may be bands
        open_stamps(tmp_path / "s.h5")


def test_many_data_sets_are_objects_without_a_pattern_unless_there_are_several_of_each(tmp_path):
    with h5py.File(tmp_path / "s.h5", "w") as file:
        for i in range(20):
            file[f"g{i:02}/image"], file[f"g{i:02}/mask"] = np.full((3, 4, 4), i), np.ones((4, 4))
    stamps = open_stamps(tmp_path / "s.h5")
    assert (stamps.shape, stamps.ids[2]) == ((20, 3, 4, 4), "g02")
    assert np.asarray(stamps)[:, 0, 0, 0].tolist() == list(range(20))
    with h5py.File(tmp_path / "s.h5", "a") as file:
        file["g07/image2"] = np.ones((3, 4, 4))
    with pytest.raises(ValueError, match=r'several data sets .*hdu="\*/image"'):
        open_stamps(tmp_path / "s.h5")


def test_data_sets_of_another_shape_or_type_are_named(tmp_path, pixels):
    with h5py.File(tmp_path / "s.h5", "w") as file:
        file["a"], file["b"], file["c"] = pixels[0], pixels[1, :, :4], pixels[2].astype(float)
    stamps = open_stamps(tmp_path / "s.h5", hdu="*")
    with pytest.raises(ValueError, match=r"s\.h5, data set /b has the shape \(3, 4, 16\)"):
        stamps[1]
    with pytest.raises(ValueError, match=r"data set /c has float64 pixels, but the first"):
        stamps[2]
