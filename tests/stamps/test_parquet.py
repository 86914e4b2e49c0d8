"""Tables with columns of images: which columns are stamps, their pixels, and what is refused."""

import io
import pickle

import numpy as np
import pytest
from astropy.io import fits
from PIL import Image

from skastro import load_survey, open_stamps
from skastro.stamps import parquet as tables

pa = pytest.importorskip("pyarrow")
pq = pytest.importorskip("pyarrow.parquet")
N, SHAPE = 11, (3, 6, 8)
ROWS = [7, 0, 10, 7]
PIXELS = np.random.default_rng(0).normal(size=(N, *SHAPE)).astype(np.float32)
PICTURES = np.random.default_rng(1).integers(0, 255, (N, 6, 8, 3), dtype=np.uint8)


def write(path, rows_of_group=4, **columns):
    path.parent.mkdir(parents=True, exist_ok=True)
    table = pa.table(columns)
    if path.suffix == ".arrow":
        with pa.OSFile(str(path), "wb") as file, pa.ipc.new_stream(file, table.schema) as stream:
            stream.write_table(table, max_chunksize=rows_of_group)
    else:
        pq.write_table(table, path, row_group_size=rows_of_group)
    return path


def lists(array):
    return pa.array(array.tolist(), pa.list_(pa.list_(pa.list_(pa.float32()))))


def fixed(array):
    values = pa.array(array.ravel())
    for length in array.shape[:0:-1]:
        values = pa.FixedSizeListArray.from_arrays(values, length)
    return values


def tensor(array):
    return pa.FixedShapeTensorArray.from_numpy_ndarray(np.ascontiguousarray(array))


def encode(array, kind="PNG"):
    content = io.BytesIO()
    if kind == "FITS":
        fits.writeto(content, array)
    else:
        Image.fromarray(array).save(content, kind)
    return content.getvalue()


def struct(images, names, *, of_lists):
    """Return images of bands as the Multimodal Universe has them."""
    rows = [
        [{"band": b, "flux": i.tolist(), "ivar": [[1.0]]} for b, i in zip(own, image, strict=True)]
        for image, own in zip(images, names, strict=True)
    ]
    if of_lists:
        return pa.array(
            [{key: [b[key] for b in r] for key in ("band", "flux", "ivar")} for r in rows]
        )
    return pa.array(rows)


def check(stamps, pixels):
    assert stamps.shape == pixels.shape
    np.testing.assert_array_equal(np.asarray(stamps), pixels)
    np.testing.assert_array_equal(np.asarray(stamps[ROWS]), pixels[ROWS])
    np.testing.assert_array_equal(
        np.asarray(pickle.loads(pickle.dumps(stamps))[::-1]), pixels[::-1]
    )
    assert np.asarray(stamps[:0]).shape == (0, *pixels.shape[1:])


@pytest.mark.parametrize("ending", ["parquet", "arrow"])
@pytest.mark.parametrize("make", [lists, fixed, tensor])
@pytest.mark.parametrize("block", [1, 3, 1024])
def test_columns_of_numbers_are_read_whatever_the_groups_and_blocks(
    tmp_path, monkeypatch, ending, make, block
):
    monkeypatch.setattr(tables, "_BLOCK_BYTES", block * PIXELS[0].nbytes)
    monkeypatch.setattr(tables, "_CACHE_BYTES", 2 * block * PIXELS[0].nbytes)
    path = write(tmp_path / f"s.{ending}", image=make(PIXELS), id=np.arange(N))
    stamps = open_stamps(path)
    check(stamps, PIXELS)
    assert stamps.dtype == np.float32
    stamps.save(tmp_path / "again.npy", chunk=5)
    np.testing.assert_array_equal(np.load(tmp_path / "again.npy"), PIXELS)


@pytest.mark.parametrize("make", [lists, fixed, tensor])
def test_axes_are_put_in_order(tmp_path, make):
    path = write(tmp_path / "s.parquet", image=make(PIXELS.transpose(0, 2, 3, 1)))
    check(open_stamps(path, axes="hwc"), PIXELS)
    check(open_stamps(path, axes="nhwc"), PIXELS)
    with pytest.raises(ValueError, match=r"row 0, column image has the shape .* names 2 axes"):
        open_stamps(path, axes="hw")


def test_a_tensor_knows_the_names_of_its_axes(tmp_path):
    kind = pa.fixed_shape_tensor(pa.float32(), (6, 8, 3), dim_names=["y", "x", "band"])
    flat = fixed(PIXELS.transpose(0, 2, 3, 1).reshape(N, -1))
    path = write(tmp_path / "s.parquet", image=pa.ExtensionArray.from_storage(kind, flat))
    check(open_stamps(path), PIXELS)


def test_axes_that_look_like_channels_last_are_remarked(tmp_path):
    path = write(tmp_path / "s.parquet", image=tensor(np.zeros((2, 32, 32, 3), np.float32)))
    with pytest.warns(UserWarning, match=r"s\.parquet .*looks channels-last: pass axes='hwc'"):
        open_stamps(path)


def test_flat_lists_need_the_size(tmp_path):
    path = write(tmp_path / "s.parquet", image=fixed(PIXELS.reshape(N, -1)))
    check(open_stamps(path, hdu="image", size=SHAPE[1:]), PIXELS)
    with pytest.raises(ValueError, match=r"no column of images: name one of image with hdu="):
        open_stamps(path)
    with pytest.raises(ValueError, match=r"flat list of 144 values.*pass the height and width"):
        open_stamps(path, hdu="image")


@pytest.mark.parametrize("is_struct", [False, True])
@pytest.mark.parametrize("ending", ["parquet", "arrow"])
def test_pictures_are_decoded(tmp_path, is_struct, ending):
    values = [encode(picture) for picture in PICTURES]
    if is_struct:  # as HuggingFace writes them
        values = [{"bytes": value, "path": f"{i}.png"} for i, value in enumerate(values)]
    stamps = open_stamps(write(tmp_path / f"s.{ending}", image=values, label=[0] * N))
    check(stamps, PICTURES.transpose(0, 3, 1, 2))
    assert stamps.dtype == np.uint8


def test_jpeg_and_fits_are_decoded(tmp_path):
    jpeg = [encode(picture, "JPEG") for picture in PICTURES]
    expected = np.stack([np.asarray(Image.open(io.BytesIO(j))) for j in jpeg]).transpose(0, 3, 1, 2)
    check(open_stamps(write(tmp_path / "j.parquet", image=jpeg)), expected)
    check(open_stamps(write(tmp_path / "f.parquet", x=[encode(p, "FITS") for p in PIXELS])), PIXELS)


def test_bands_of_fits_files_are_found_by_their_names(tmp_path):
    contents = []
    for row, image in enumerate(PIXELS):
        order = [0, 1] if row % 2 else [1, 0]
        hdus = [fits.ImageHDU(image[i], name="gr"[i]) for i in order]
        content = io.BytesIO()
        fits.HDUList([fits.PrimaryHDU(), *hdus]).writeto(content)
        contents.append(content.getvalue())
    path = write(tmp_path / "s.parquet", image=contents)
    check(open_stamps(path, bands="gr"), PIXELS[:, :2])
    stamps = open_stamps(path)  # in the order of the first file
    assert stamps.bands == ("R", "G")
    check(stamps, PIXELS[:, [1, 0]])


def test_stamps_of_several_sizes_need_a_size(tmp_path):
    pictures = [encode(p) for p in (PICTURES[0], PICTURES[1][:4], PICTURES[2])]
    path = write(tmp_path / "s.parquet", image=pictures)
    with pytest.raises(
        ValueError, match=r"s\.parquet, row 1, column image has 4 x 8 pixels.*size="
    ):
        np.asarray(open_stamps(path))
    stamps = np.asarray(open_stamps(path, size=4))
    np.testing.assert_array_equal(stamps[1], PICTURES[1][:4, 2:6].transpose(2, 0, 1))
    ragged = [PIXELS[0].tolist(), PIXELS[1, :, :4].tolist()]
    path = write(tmp_path / "r.parquet", image=pa.array(ragged))
    with pytest.raises(ValueError, match=r"r\.parquet, row 1, column image has 4 x 8 pixels"):
        np.asarray(open_stamps(path))
    assert open_stamps(path, size=4).shape == (2, 3, 4, 4)


@pytest.mark.parametrize("names", [("image_g", "image_r", "image_z"), ("g", "r", "z")])
def test_one_column_for_each_band(tmp_path, names):
    columns = {name: tensor(PIXELS[:, i]) for i, name in enumerate(names)}
    path = write(tmp_path / "s.parquet", **columns, mag=np.arange(N))
    stamps = open_stamps(path)
    assert stamps.bands == ("g", "r", "z")
    check(stamps, PIXELS)
    check(open_stamps(path, bands="zg"), PIXELS[:, [2, 0]])
    check(open_stamps(path, hdu=[names[1]]), PIXELS[:, 1:2])
    with pytest.raises(ValueError, match=r"no column of the band 'y' \(there is .*g, .*hdu="):
        open_stamps(path, bands="gy")
    with pytest.raises(ValueError, match=r"bands names 3 bands, but hdu= 2 columns of"):
        open_stamps(path, bands="grz", hdu=list(names[:2]))


def test_columns_that_may_all_be_stamps_are_refused_and_masks_left_out(tmp_path):
    path = write(tmp_path / "s.parquet", a=tensor(PIXELS), b=tensor(PIXELS + 1))
    with pytest.raises(ValueError, match=r"several columns of images \(a, b\): .* \(--hdu a\)"):
        open_stamps(path)
    check(open_stamps(path, hdu="b"), PIXELS + 1)
    with pytest.raises(ValueError, match=r"no column of images 'c' \(there is a, b\)"):
        open_stamps(path, hdu="c")
    path = write(tmp_path / "m.parquet", image=tensor(PIXELS), image_mask=tensor(PIXELS))
    with pytest.warns(UserWarning, match=r"are not bands, which are left out: image_mask"):
        stamps = open_stamps(path)
    check(stamps, PIXELS)
    with pytest.raises(ValueError, match=r"has no column of images: open another file"):
        open_stamps(write(tmp_path / "t.parquet", mag=np.arange(3), name=["a", "b", "c"]))


@pytest.mark.parametrize("of_lists", [True, False])
def test_bands_of_the_multimodal_universe_are_ordered_by_their_names(tmp_path, of_lists):
    names = [
        ["des-g", "des-r", "des-z"] if row % 3 else ["des-z", "des-g", "des-r"] for row in range(N)
    ]
    order = [[0, 1, 2] if row % 3 else [2, 0, 1] for row in range(N)]
    images = [image[o] for image, o in zip(PIXELS, order, strict=True)]
    path = write(tmp_path / "s.parquet", image=struct(images, names, of_lists=of_lists))
    stamps = open_stamps(path, bands="grz")
    assert stamps.bands == ("g", "r", "z")
    check(stamps, PIXELS)
    assert open_stamps(path).bands == ("des-z", "des-g", "des-r")
    check(open_stamps(path), PIXELS[:, [2, 0, 1]])
    with pytest.raises(ValueError, match=r"row 0, column image has no band 'i' \(there is des-z"):
        open_stamps(path, bands="gi")


@pytest.mark.parametrize("of_lists", [True, False])
def test_bands_that_objects_lack_are_refused_or_counted_and_nan(tmp_path, of_lists):
    names = [["g", "r", "z"][: 2 if row in (4, 5) else 3] for row in range(N)]
    images = [image[: len(own)] for image, own in zip(PIXELS, names, strict=True)]
    path = write(tmp_path / "s.parquet", image=struct(images, names, of_lists=of_lists))
    with pytest.raises(ValueError, match=r"row 4, column image has no band 'z'.*missing_bands"):
        np.asarray(open_stamps(path))
    with pytest.warns(UserWarning, match=r"2 of 11 objects lack a band \(z 2\), whose pixels are"):
        stamps = open_stamps(path, missing_bands="nan")
    expected = PIXELS.copy()
    expected[4:6, 2] = np.nan
    check(stamps, expected)


def test_bands_that_the_first_object_lacks_are_not_left_out_in_silence(tmp_path):
    names = [["g"], ["g", "r"]]
    images = [PIXELS[0, :1], PIXELS[1, :2]]
    path = write(tmp_path / "s.parquet", image=struct(images, names, of_lists=True))
    with pytest.raises(ValueError, match=r"row 1, column image has the bands g, r, but the first"):
        np.asarray(open_stamps(path))


def test_bands_missing_in_columns_are_refused_or_counted_and_nan(tmp_path):
    red = [None if row in (0, 9) else image.tolist() for row, image in enumerate(PIXELS[:, 1])]
    path = write(tmp_path / "s.parquet", g=pa.array(PIXELS[:, 0].tolist()), r=pa.array(red))
    with pytest.raises(ValueError, match=r"row 0, column r is empty: leave its row out"):
        open_stamps(path)
    with pytest.warns(UserWarning, match=r"2 of 11 objects lack a band \(r 2\)"):
        stamps = open_stamps(path, missing_bands="nan")
    expected = PIXELS[:, :2].astype(np.float64)
    expected[[0, 9], 1] = np.nan
    check(stamps, expected)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (None, r"row 2, column image is empty: leave its row out"),
        ({"bytes": None, "path": "2.png"}, r"row 2, column image holds no bytes: save it with"),
        ({"bytes": b"hello", "path": ""}, r"row 2, column image is no PNG, JPEG, TIFF, FITS"),
        ({"bytes": encode(PICTURES[0])[:60], "path": ""}, r"row 2, column image cannot be read as"),
        ({"bytes": encode(PICTURES[0, ..., 0]), "path": ""}, r"row 2, column image has 1 bands"),
    ],
)
def test_a_stamp_that_cannot_be_read_is_named_by_its_row(tmp_path, value, message):
    values = [{"bytes": encode(picture), "path": ""} for picture in PICTURES]
    values[2] = value
    stamps = open_stamps(write(tmp_path / "s.parquet", image=values))
    with pytest.raises(ValueError, match=rf"s\.parquet, {message}"):
        stamps[2]
    np.testing.assert_array_equal(stamps[5], PICTURES[5].transpose(2, 0, 1))


def test_partitions_are_read_in_the_order_of_their_names_with_their_columns(tmp_path):
    paths = [f"dataset/Norder=1/Dir=0/Npix={number}.parquet" for number in (7, 12, 101)]
    for path, rows in zip(paths, np.split(np.arange(N), [3, 7]), strict=True):
        write(tmp_path / path, image=tensor(PIXELS[rows]), object_id=rows, Norder=[1] * len(rows))
    (tmp_path / "dataset/_metadata").touch()
    check(open_stamps(tmp_path), PIXELS)
    check(open_stamps([tmp_path / path for path in paths]), PIXELS)
    assert len(open_stamps(f"{tmp_path}/dataset/*/Dir=0/Npix=1*.parquet")) == 8
    survey = load_survey(tmp_path)
    assert survey.catalog.columns.tolist() == ["object_id", "Norder"]
    assert survey.ids.tolist() == list(range(N))
    path = tmp_path / "dataset/Norder=2/Dir=0/Npix=1.parquet"
    write(path, image=[encode(picture) for picture in PICTURES], object_id=[0] * N)
    with pytest.raises(ValueError, match=r"Norder=2.*has no column 'image' of the same type as"):
        open_stamps(tmp_path)


def test_changed_empty_and_damaged_tables_are_refused(tmp_path):
    path = write(tmp_path / "s.parquet", image=tensor(PIXELS))
    stamps = open_stamps(path)
    write(path, image=tensor(PIXELS[:5]))
    with pytest.raises(ValueError, match=r"has changed since the stamps were opened"):
        stamps[0]
    with pytest.raises(ValueError, match=r"e\.parquet has no row"):
        open_stamps(write(tmp_path / "e.parquet", image=tensor(PIXELS)[:0]))
    for ending in ("parquet", "arrow"):
        (tmp_path / f"d.{ending}").write_bytes(path.read_bytes()[:-200])
        with pytest.raises(ValueError, match=rf"d\.{ending} cannot be read as a table of stamps"):
            open_stamps(tmp_path / f"d.{ending}")
    with pytest.raises(FileNotFoundError, match=r"x\.parquet does not exist"):
        open_stamps(tmp_path / "x.parquet")


def test_pixels_that_are_missing_are_nan_in_floats_and_refused_in_integers(tmp_path):
    kinds = {"f": pa.float32(), "i": pa.int16()}
    for name, kind in kinds.items():
        values = pa.array([[[1, 2], [3, 4]], [[1, None], [3, 4]]], pa.list_(pa.list_(kind)))
        write(tmp_path / f"{name}.parquet", image=values)
    assert np.isnan(np.asarray(open_stamps(tmp_path / "f.parquet"))[1, 0, 0, 1])
    with pytest.raises(ValueError, match=r"i\.parquet.* pixels that int16 cannot hold.*dtype="):
        np.asarray(open_stamps(tmp_path / "i.parquet"))
    stamps = open_stamps(tmp_path / "i.parquet", dtype="float32")
    np.testing.assert_array_equal(np.asarray(stamps)[1, 0], [[1, np.nan], [3, 4]])
