import pickle
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from astropy import units as u
from astropy.io import fits
from astropy.nddata import CCDData, Cutout2D, NDData
from astropy.table import Table
from astropy.utils.masked import Masked
from PIL import Image

from skastro import Stamps
from skastro.stamps.arrays import as_stack, read_stamps
from skastro.stamps.containers import to_array
from skastro.utils.packages import import_optional

STAMPS = np.random.default_rng(0).normal(size=(6, 3, 12, 16)).astype(np.float32)
MASK = np.zeros(STAMPS.shape, dtype=bool)
MASK[2, 1, 4:6] = True
MISSING = np.where(MASK, np.nan, STAMPS)
SHUFFLED = np.array([4, 1, 1, 0, 5])


class Rows:
    """A sequence without a shape, such as a column of a data set of Hugging Face."""

    def __init__(self, items):
        self.items = items

    def __len__(self):
        return len(self.items)

    def __getitem__(self, row):
        return self.items[row]


class Labelled:
    """An array with named axes that has what xarray.DataArray has."""

    def __init__(self, data, dims, **coords):
        self.data, self.dims, self.coords = data, dims, coords
        self.shape, self.dtype, self.ndim = data.shape, data.dtype, data.ndim


def read(X, rows=slice(None)):
    return read_stamps(as_stack(X), rows)


@pytest.mark.parametrize(
    "X",
    [
        np.ma.array(STAMPS, mask=MASK),
        [np.ma.array(s, mask=m) for s, m in zip(STAMPS, MASK, strict=True)],
        [
            [np.ma.array(b, mask=m) for b, m in zip(*part, strict=True)]
            for part in zip(STAMPS, MASK, strict=True)
        ],
        [CCDData(s, mask=m, unit="adu") for s, m in zip(STAMPS, MASK, strict=True)],
        (NDData(s, mask=m) for s, m in zip(STAMPS, MASK, strict=True)),
        NDData(STAMPS, mask=MASK),
        CCDData(STAMPS, mask=MASK, unit="adu"),
        Masked(STAMPS, mask=MASK),
        Masked(STAMPS * u.nJy, mask=MASK),
        [Masked(s * u.nJy, mask=m) for s, m in zip(STAMPS, MASK, strict=True)],
        Table({"image": np.ma.array(STAMPS, mask=MASK)}, masked=True)["image"],
        pd.Series([np.ma.array(s, mask=m) for s, m in zip(STAMPS, MASK, strict=True)]),
    ],
)
def test_masked_pixels_are_missing(X):
    X = list(X) if hasattr(X, "__next__") else X
    np.testing.assert_array_equal(read(X), MISSING)


def test_masked_integers_are_missing():
    counts = np.ma.array((100 * STAMPS).astype(np.int16), mask=MASK)
    np.testing.assert_array_equal(read(counts), np.where(MASK, np.nan, counts.data))


@pytest.mark.parametrize(
    "X",
    [
        list(STAMPS),
        tuple(STAMPS),
        STAMPS.tolist(),
        [list(stamp) for stamp in STAMPS],
        pd.Series(list(STAMPS), index=range(10, 16)),
        pd.DataFrame({"image": list(STAMPS)})["image"].to_numpy(),
        Rows(STAMPS),
        Rows([torch.from_numpy(stamp) for stamp in STAMPS]),
        STAMPS * u.nJy,
        STAMPS.astype(">f8"),
        STAMPS[::-1][::-1],
        torch.from_numpy(STAMPS).requires_grad_(),
        torch.from_numpy(STAMPS).contiguous(memory_format=torch.channels_last),
    ],
)
def test_stamps_are_read_from_any_container(X):
    np.testing.assert_array_equal(read(X), STAMPS)
    np.testing.assert_array_equal(read(X, SHUFFLED), STAMPS[SHUFFLED])


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_short_floats_of_torch_are_read(dtype):
    tensor = torch.from_numpy(STAMPS).to(dtype)
    np.testing.assert_array_equal(read(tensor), tensor.float().numpy())


def make_hdf5(folder):
    h5py = pytest.importorskip("h5py")
    with h5py.File(folder / "stamps.h5", "w") as file:
        file["group/stamps"] = STAMPS
    return h5py.File(folder / "stamps.h5")["group/stamps"]


def make_zarr(folder, zarr_format=3):
    zarr = pytest.importorskip("zarr")
    array = zarr.create_array(
        str(folder / "stamps.zarr"), shape=STAMPS.shape, dtype=STAMPS.dtype,
        chunks=(2, 3, 12, 16), zarr_format=zarr_format,
    )  # fmt: skip
    array[:] = STAMPS
    return array


def make_dask(folder):  # noqa: ARG001
    dask = pytest.importorskip("dask.array")
    return dask.from_array(STAMPS, chunks=2)


LAZY = [make_hdf5, make_zarr, lambda folder: make_zarr(folder, zarr_format=2), make_dask]


@pytest.mark.parametrize("make", LAZY)
@pytest.mark.parametrize(
    "rows",
    [slice(1, 4), SHUFFLED, np.array([5, 0]), np.arange(6) % 2 == 0, np.array([], dtype=int)],
)
def test_arrays_on_disk_are_read_in_any_order(tmp_path, make, rows):
    stamps = as_stack(make(tmp_path))
    assert isinstance(stamps, Stamps)
    np.testing.assert_array_equal(read_stamps(stamps, rows), STAMPS[rows])


@pytest.mark.parametrize("make", LAZY)
def test_arrays_on_disk_can_be_pickled(tmp_path, make):
    stamps = pickle.loads(pickle.dumps(as_stack(make(tmp_path))[[3, 2]]))
    np.testing.assert_array_equal(np.asarray(stamps), STAMPS[[3, 2]])


def test_masked_arrays_of_dask_are_missing():
    dask = import_optional("dask.array", extra="distributed", needed_by="this test")
    X = dask.ma.masked_array(dask.from_array(STAMPS, chunks=2), MASK)
    np.testing.assert_array_equal(read(X), MISSING)


@pytest.mark.parametrize(
    ("axes", "dims"),
    [
        ((0, 1, 2, 3), ("object", "band", "y", "x")),
        ((0, 2, 3, 1), ("sample", "height", "width", "channel")),
        ((3, 2, 1, 0), ("x", "y", "band", "n")),
        ((0, 1, 2, 3), ("dim_0", "dim_1", "dim_2", "dim_3")),
    ],
)
def test_named_axes_are_brought_into_order(axes, dims):
    X = Labelled(STAMPS.transpose(axes), dims)
    np.testing.assert_array_equal(read(X), STAMPS)


def test_named_axes_may_lack_the_bands_and_name_them():
    one_band = Labelled(STAMPS[:, 0].transpose(1, 2, 0), ("y", "x", "n"))
    np.testing.assert_array_equal(read(one_band), STAMPS[:, :1])
    named = Labelled(STAMPS, ("n", "band", "y", "x"), band=np.array(["g", "r", "i"]))
    assert as_stack(named).bands == ("g", "r", "i")
    each = [Labelled(np.moveaxis(stamp, 0, 2), ("y", "x", "band")) for stamp in STAMPS]
    np.testing.assert_array_equal(read(each), STAMPS)


def test_unknown_names_of_axes_are_refused():
    with pytest.raises(ValueError, match=r"dimensions a, b, c, d, .* rename them"):
        as_stack(Labelled(STAMPS, ("a", "b", "c", "d")))


def test_pictures_have_their_bands_first():
    pixels = np.random.default_rng(0).integers(0, 255, (2, 9, 10, 3), dtype=np.uint8)
    colour = [Image.fromarray(image) for image in pixels]
    np.testing.assert_array_equal(read(colour), pixels.transpose(0, 3, 1, 2))
    grey = [Image.fromarray(image[..., 0]) for image in pixels]
    np.testing.assert_array_equal(read(grey), pixels[:, None, :, :, 0])


def test_units_are_brought_to_that_of_the_first_stamp():
    X = [STAMPS[0] * u.Jy, (STAMPS[1] * u.Jy).to(u.mJy), CCDData(STAMPS[2], unit="Jy")]
    np.testing.assert_allclose(read(X), STAMPS[:3], rtol=1e-6)
    with pytest.raises(ValueError, match=r"X\[1\] has the unit adu, but the first stamp has Jy"):
        as_stack([STAMPS[0] * u.Jy, CCDData(STAMPS[1], unit="adu")])
    with pytest.raises(ValueError, match=r"X\[1\] has the unit None"):
        as_stack([STAMPS[0] * u.Jy, STAMPS[1]])


@pytest.mark.parametrize(
    ("X", "message"),
    [
        (None, "X is None, not a stack of stamps"),
        ("cutouts/", r"pass open_stamps\('cutouts/'\)"),
        (["a.fits", "b.fits"], r"X\[0\] is the name of a file, 'a.fits', .* open_stamps\(X\)"),
        (np.array(["a.fits", "b.fits"]), r"open_stamps\(X\)"),
        (["star", "galaxy"], r"X\[0\] is the text 'star', .* as in fit\(stamps, labels\)"),
        (pd.DataFrame({"mag": [1.0], "class": ["star"]}), "a table with text in column 'class'"),
        (pd.Series(["a.fits", "b.fits"]), r"open_stamps\(X\)"),
        ([], "X is empty: pass at least one stamp"),
        ([STAMPS[0], None], r"X\[1\] is None, not an image: leave its row out"),
        ([STAMPS[0], STAMPS[1, :, 1:]], r"shapes, such as \(3, 12, 16\) and \(3, 11, 16\): crop"),
        ([*STAMPS[:1].tolist(), [[[1.0]]]], "images of different shapes"),
        ([[STAMPS[0, 0], STAMPS[0, 1, 1:]]], "images of different shapes"),
        ((stamp for stamp in STAMPS), r"has the type generator, .* pass np.stack\(list\(X\)\)"),
        ({"g": STAMPS[:, 0], "r": STAMPS[:, 1]}, r"np.stack\(list\(X.values\(\)\), axis=1\)"),
        ({"images": STAMPS, "labels": []}, r"pass its stamps, such as X\['images'\]"),
        (SimpleNamespace(images=STAMPS), r"pass its stamps, X.images"),
        (Table({"image": STAMPS}), r"X is a table \(image\), .* such as X\['image'\]"),
        (np.zeros(3, dtype=[("image", "f4", (8, 8))]), r"X is a table \(image\)"),
        ([{"image": STAMPS[0]}], r"X\[0\] is a dict of image, .* \[item\['image'\] for item in X"),
        ([(STAMPS[0], 1)], r"X\[0\] is a tuple, .* pass \[item\[0\] for item in X\]"),
        (Rows([(torch.zeros(3, 8, 8), "star")]), r"X\[0\] is a tuple"),
        ([fits.PrimaryHDU()], r"X\[0\] has the type PrimaryHDU: pass images of real numbers"),
        (5, "X has the type int, not a stack"),
        (torch.ones(2, 1, 8, 8).to_sparse(), "X of the type Tensor cannot be read"),
        (STAMPS.astype(complex), "convert them to real numbers"),
    ],
)
def test_what_is_no_stack_is_refused_with_the_remedy(X, message):
    with pytest.raises(ValueError, match=message) as caught:
        as_stack(X)
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize(
    ("X", "line"),
    [
        (np.zeros((4, 32, 32, 5)), "X.transpose(0, 3, 1, 2)"),
        (np.zeros((4, 48, 64, 6)), "X.transpose(0, 3, 1, 2)"),
        (np.zeros((4, 32, 32, 1)), "X.transpose(0, 3, 1, 2)"),
        (list(np.zeros((4, 32, 40, 3))), "np.stack(X).transpose(0, 3, 1, 2)"),
        (torch.zeros((4, 32, 32, 3)), "X.permute(0, 3, 1, 2)"),
        (np.zeros((32, 32, 3)), "X.transpose(2, 0, 1)[None]"),
        (np.zeros((3, 32, 32)), "X[:, None] for 3 single-band stamps, or X[None] for one stamp"),
        (np.zeros((32, 32)), "X[None, None]"),
        (np.zeros((4, 1, 3, 32, 32)), "np.squeeze(X, axis=1)"),
    ],
)
def test_the_line_to_type_brings_the_axes_into_order(X, line):
    with pytest.raises(ValueError, match=r"stamps are|looks channels-last") as caught:
        as_stack(X)
    assert line in str(caught.value)
    code = line.split(" for ")[0]
    assert np.ndim(eval(code, {"np": np, "X": X})) == 4  # noqa: S307


def test_cutouts_and_extensions_are_images():
    image = np.random.default_rng(0).normal(size=(20, 20))
    X = [[Cutout2D(image, (10, 10), 8), fits.ImageHDU(image[6:14, 6:14])]]
    np.testing.assert_array_equal(to_array(X)[0], [image[6:14, 6:14]] * 2)


class HuggingFaceDataset:
    """What `to_array` needs of ``datasets.Dataset``."""

    def __init__(self, table, rows):
        self.table, self.rows, self.column_names = table, np.asarray(rows), table.column_names

    def __len__(self):
        return len(self.rows)

    def select_columns(self, names):
        return HuggingFaceDataset(self.table.select(names), self.rows)

    def with_format(self, kind):
        assert kind == "arrow"
        return self

    def __getitem__(self, rows):
        return self.table.take(self.rows[rows])


@pytest.mark.parametrize("make", [lambda table: HuggingFaceDataset(table, [4, 1, 3, 0, 2]), None])
def test_data_sets_of_huggingface_and_tables_of_pyarrow_are_read_lazily(make):
    pa = pytest.importorskip("pyarrow")
    pixels = np.random.default_rng(0).normal(size=(5, 2, 4, 6)).astype(np.float32)
    table = pa.table({"label": [0, 1, 0, 1, 0], "image": pixels.tolist()})
    X = make(table) if make else table
    stamps = to_array(X)
    assert isinstance(stamps, Stamps)
    expected = pixels[[4, 1, 3, 0, 2]] if make else pixels
    np.testing.assert_array_equal(np.asarray(stamps, np.float32), expected)
    np.testing.assert_array_equal(np.asarray(stamps[[3, 0]], np.float32), expected[[3, 0]])
    with pytest.raises(ValueError, match=r"pixels has no column of images: open another file"):
        to_array(pa.table({"label": [0, 1]}), name="pixels")
    with pytest.raises(ValueError, match="X is empty: pass at least one stamp"):
        to_array(table.slice(0, 0))
