"""Files of one stamp each: types of pixels, masks, axes, FITS extensions, pages of pictures."""

import zlib

import numpy as np
import pytest
from astropy.io import fits
from astropy.nddata import CCDData
from astropy.utils.masked import Masked
from PIL import Image

from skastro import open_stamps
from skastro.stamps import files

tifffile = pytest.importorskip("tifffile")
RNG = np.random.default_rng(0)
IMAGE = RNG.normal(size=(16, 12)).astype(np.float32)


def values(stamps):
    """Return the first pixel of each stamp."""
    return np.asarray(stamps)[:, 0, 0, 0].tolist()


def fits_of(path, value, *, dtype="f4", scale=None, blank=None, compress=False):
    """Write 4 x 4 pixels of one value; ``blank`` is a stored number, without BZERO."""
    pixels = np.full((4, 4), value, dtype)
    hdu = fits.CompImageHDU(pixels) if compress else fits.PrimaryHDU(pixels)
    if scale:
        hdu.scale("int16", bscale=scale[0], bzero=scale[1])
    if blank is not None:
        hdu.header["BLANK"] = blank
    (fits.HDUList([fits.PrimaryHDU(), hdu]) if compress else hdu).writeto(path)


# types of pixels

FITS_FILES = [
    ({"dtype": "i2"}, 7, 7),
    ({}, 0.25, 0.25),
    ({"scale": (0.001, 2.0)}, 3.25, 3.25),
    ({"dtype": "i2", "blank": -32768}, -32768, np.nan),
    ({"dtype": "i4", "blank": 5}, 70_000, 70_000),
    ({"dtype": "i2", "blank": 0}, 0, np.nan),
    ({"dtype": "u1", "blank": 255}, 255, np.nan),
    ({"dtype": "u2", "blank": -32768}, 0, np.nan),
    ({"dtype": "u2", "blank": -32768}, 32768, 32768),
    ({"dtype": "u4", "blank": 1 - 2**31}, 1, np.nan),
    ({"scale": (0.5, 2.0), "blank": 0}, 2.0, np.nan),
    ({"dtype": "i4", "blank": 0, "compress": True}, 0, np.nan),
    ({"dtype": "u2"}, 40_000, 40_000),
    ({"dtype": "u1"}, 200, 200),
    ({"dtype": "f8"}, 1 / 3, 1 / 3),
    ({"dtype": "i4", "compress": True}, 123_456, 123_456),
]


@pytest.mark.parametrize("ending", [".fits", ".fits.gz"])
@pytest.mark.parametrize("first", range(len(FITS_FILES)))
def test_fits_files_of_every_type_keep_their_values(tmp_path, first, ending):
    order = [first, *(i for i in range(len(FITS_FILES)) if i != first)]
    for number, i in enumerate(order):
        options, value, _ = FITS_FILES[i]
        fits_of(f"{tmp_path}/{number:02}{ending}", value, **options)
    expected = [FITS_FILES[i][2] for i in order]
    folder, listed = open_stamps(tmp_path), open_stamps(sorted(tmp_path.iterdir()))
    np.testing.assert_allclose(values(folder), expected, rtol=1e-7)
    np.testing.assert_allclose(values(listed), expected, rtol=1e-7)
    for name in ("s.npy", "s.zarr"):
        folder.save(tmp_path / name)
        np.testing.assert_array_equal(np.asarray(open_stamps(tmp_path / name)), np.asarray(folder))


@pytest.mark.parametrize(
    "dtypes", [("u1", "f4"), ("i2", "u2"), ("u1", "i1"), ("f4", "f8"), ("?", "i4")]
)
@pytest.mark.parametrize("turn", [1, -1])
def test_arrays_of_two_types_keep_their_values(tmp_path, dtypes, turn):
    kinds = [np.dtype(dtype) for dtype in dtypes[::turn]]
    expected = []
    for number, kind in enumerate(kinds):
        extreme = kind.type(1 / 3) if kind.kind == "f" else kind.type(1)
        extreme = np.iinfo(kind).max if kind.kind in "iu" else extreme
        np.save(tmp_path / f"{number}.npy", np.full((2, 4, 4), extreme, kind))
        expected.append(float(extreme))
    assert values(open_stamps(tmp_path)) == expected


def test_pictures_of_two_types_keep_their_values(tmp_path):
    for name, dtype, value in (("a.png", "u1", 200), ("b.png", "u2", 1000)):
        Image.fromarray(np.full((4, 4), value, dtype)).save(tmp_path / name)
    assert values(open_stamps(tmp_path)) == [200, 1000]
    for number, value in enumerate((200, 0.25)):
        dtype = "u1" if number == 0 else "f4"
        Image.fromarray(np.full((4, 4), value, dtype)).save(tmp_path / f"{number}.tiff")
    assert values(open_stamps(sorted(tmp_path.glob("*.tiff")))) == [200, 0.25]


def test_files_of_several_bands_of_two_types_keep_their_values(tmp_path):
    for number in range(3):
        fits_of(tmp_path / f"{number}_g.fits", 7, dtype="i2")
        fits_of(tmp_path / f"{number}_r.fits", 0.25 + number, dtype="f4" if number else "i2")
    pixels = np.asarray(open_stamps(tmp_path / "{id}_{band}.fits", bands="gr"))
    assert pixels[:, :, 0, 0].tolist() == [[7, 0], [7, 1.25], [7, 2.25]]


def test_integers_stay_integers(tmp_path):
    for number, dtype in enumerate(("u1", "i2", "u1")):
        np.save(tmp_path / f"{number}.npy", np.full((4, 4), number, dtype))
    assert open_stamps(tmp_path).dtype == np.int16


@pytest.mark.parametrize("kind", ["npy", "reader"])
def test_a_type_that_was_not_looked_up_is_an_error_unless_the_values_fit(
    tmp_path, kind, monkeypatch
):
    monkeypatch.setattr(files, "_MAX_DESCRIBED_FILES", 2)
    monkeypatch.setattr(files, "_MAX_TRIED_FILES", 2)
    for number in range(5):
        np.save(tmp_path / f"{number}.npy", np.full((4, 4), number, "i2"))
    options = {"reader": np.load} if kind == "reader" else {}
    np.save(tmp_path / "2.npy", np.full((4, 4), 6, "f8"))  # these values fit
    stamps = open_stamps(tmp_path, **options)
    assert (stamps.dtype, values(stamps)) == (np.int16, [0, 1, 6, 3, 4])
    for value in (0.5, np.nan, 1e9):
        np.save(tmp_path / "2.npy", np.full((4, 4), value))
        with pytest.raises(
            ValueError, match=r"2.npy has float64 pixels that int16.*dtype=\"float64\""
        ):
            np.asarray(open_stamps(tmp_path, **options))
        expected = [0, 1, value, 3, 4]
        np.testing.assert_array_equal(
            values(open_stamps(tmp_path, dtype="float64", **options)), expected
        )
        with pytest.raises(ValueError, match=r"2.npy has float64 pixels that uint8"):
            np.asarray(open_stamps(tmp_path, dtype="uint8", **options))


def test_integers_among_floats_are_padded_with_nan(tmp_path):
    np.save(tmp_path / "a.npy", np.full((2, 2), 5, "i2"))
    np.save(tmp_path / "b.npy", np.full((4, 4), 0.5, "f4"))
    padded = np.asarray(open_stamps(tmp_path, size=4))[0, 0]
    assert np.isnan(padded[0]).all()
    assert (padded[1:3, 1:3] == 5).all()


def test_the_type_of_a_stack_is_not_chosen(tmp_path):
    np.save(tmp_path / "stamps.npy", np.zeros((2, 1, 4, 4)))
    with pytest.raises(ValueError, match="leave dtype= out"):
        open_stamps(tmp_path / "stamps.npy", dtype="float32")


def test_one_damaged_file_does_not_keep_the_others_from_opening(tmp_path):
    for number in range(6):
        fits_of(tmp_path / f"{number}.fits", number)
    for number in (0, 3):
        (tmp_path / f"{number}.fits").write_bytes(b"<html>503 Service Unavailable</html>")
    stamps = open_stamps(tmp_path)
    assert values(stamps[[1, 2, 4, 5]]) == [1, 2, 4, 5]
    for number in (0, 3):
        with pytest.raises(ValueError, match=rf"{number}.fits cannot be read as FITS file"):
            stamps[number]


# masks


@pytest.mark.parametrize("kind", ["masked array", "Masked", "CCDData"])
@pytest.mark.parametrize("dtype", ["f4", "i2", "i4"])
def test_pixels_that_a_reader_masks_are_nan(tmp_path, kind, dtype):
    def read(path):
        pixels = np.full((4, 4), int(path.stem), dtype)
        mask = np.zeros((4, 4), bool)
        mask[0, 0] = path.stem == "1"
        if kind == "Masked":
            return Masked(pixels, mask)
        return (
            np.ma.array(pixels, mask=mask)
            if kind[0] == "m"
            else CCDData(pixels, unit="adu", mask=mask)
        )

    for number in range(3):
        (tmp_path / f"{number}.bin").write_bytes(b"")
    pixels = np.asarray(open_stamps(tmp_path, reader=read))
    np.testing.assert_array_equal(pixels[:, 0, 0, 0], [0, np.nan, 2])
    np.testing.assert_array_equal(pixels[:, 0, 1, 1], [0, 1, 2])


# axes


def test_a_reader_that_gives_the_bands_last_is_warned_of(tmp_path):
    (tmp_path / "0.bin").write_bytes(b"")
    with pytest.warns(UserWarning, match="looks channels-last: pass axes='hwc'"):
        open_stamps(tmp_path, reader=lambda _: np.zeros((32, 24, 3)))


@pytest.mark.parametrize("kind", ["npy", "fits", "reader"])
def test_files_with_the_bands_last_are_read_by_axes(tmp_path, kind):
    pixels = RNG.normal(size=(3, 5, 32, 24)).astype(np.float32)
    for number, stamp in enumerate(pixels.transpose(0, 2, 3, 1)):
        if kind == "fits":
            fits.writeto(tmp_path / f"{number}.fits", stamp)
        else:
            np.save(tmp_path / f"{number}.npy", stamp)
    options = {"reader": np.load} if kind == "reader" else {}
    for axes in ("hwc", "nhwc"):
        np.testing.assert_array_equal(
            np.asarray(open_stamps(tmp_path, axes=axes, **options)), pixels
        )
    if kind != "reader":
        with pytest.warns(
            UserWarning, match=r"0\..* looks channels-last: pass axes='hwc' \(--axes"
        ):
            open_stamps(tmp_path)
    with pytest.raises(ValueError, match=r"0\..* has the shape \(32, 24, 5\), but axes='hw'"):
        open_stamps(tmp_path, axes="hw", **options)


@pytest.mark.parametrize("ending", ["png", "tiff"])
@pytest.mark.parametrize("width", [1, 7])
def test_pictures_need_no_axes(tmp_path, ending, width):
    pixels = RNG.integers(0, 255, (9, width, 3), np.uint8)
    Image.fromarray(pixels).save(tmp_path / f"a.{ending}")
    for axes in (None, "hwc", "chw"):
        np.testing.assert_array_equal(
            np.asarray(open_stamps(tmp_path, axes=axes))[0], pixels.transpose(2, 0, 1)
        )


@pytest.mark.parametrize("kind", ["npy", "fits"])
@pytest.mark.parametrize(
    "shape", [(1, 1, 16, 12), (1, 16, 12), (1, 1, 1, 16, 12), (1, 16, 12, 1), (16, 12, 1)]
)
def test_axes_of_length_1_are_left_out(tmp_path, kind, shape):
    if kind == "npy":
        np.save(tmp_path / "a.npy", IMAGE.reshape(shape))
    else:
        fits.writeto(tmp_path / "a.fits", IMAGE.reshape(shape))
    np.testing.assert_array_equal(np.asarray(open_stamps(tmp_path)), IMAGE[None, None])


def test_a_file_of_several_stamps_is_refused(tmp_path):
    fits.writeto(tmp_path / "a.fits", np.zeros((2, 3, 8, 8), "f4"))
    with pytest.raises(ValueError, match=r"shape \(2, 3, 8, 8\): a stamp is"):
        open_stamps(tmp_path)
    with pytest.raises(ValueError, match=r"holds 2 stamps"):
        open_stamps(tmp_path, axes="nchw")


# FITS extensions


def write_extensions(path, *names, image=IMAGE):
    """Write extensions by name, or (name, version); each has its number as an added constant."""
    hdus = [fits.PrimaryHDU()]
    for number, full_name in enumerate(names):
        name, version = full_name if isinstance(full_name, tuple) else (full_name, 1)
        hdus.append(fits.ImageHDU(image + number, name=name, ver=version))
    fits.HDUList(hdus).writeto(path)


@pytest.mark.parametrize(
    ("names", "bands"),
    [
        (["SCI", "ERR", "DQ"], [0]),
        (["IMAGE", "MASK", "VARIANCE"], [0]),
        (["SCI", "VAR", "WHT", "CTX"], [0]),
        (["DATA", "STAT", "DQ"], [0]),
        (["g", "r", "g_err", "r_err"], [0, 1]),
        (["IMAGE_G", "IVAR_G", "IMAGE_R", "IVAR_R"], [0, 2]),
        (["r", "PSF", "SKY", "SEGMENTATION", "CHI2", "NEXP"], [0]),
        (["COVERAGE", "VIS.SCI", "VIS.RMS", "VIS.FLG"], [1]),
        (["F814W", "WEIGHTMAP", "expMap", "BKG"], [0]),
        (["r", "MASKBITS", "SNR_R"], [0]),
    ],
)
@pytest.mark.parametrize("n", [1, 3])
def test_extensions_that_are_not_bands_are_left_out_with_one_warning(tmp_path, names, bands, n):
    for number in range(n):
        write_extensions(tmp_path / f"{number}.fits", *names)
    with pytest.warns(UserWarning, match="extensions that are not bands") as caught:
        stamps = open_stamps(tmp_path)
    assert len(caught) == 1
    left_out = [name.upper() for number, name in enumerate(names) if number not in bands]
    assert f"left out: {', '.join(left_out)} (" in str(caught[0].message)
    np.testing.assert_array_equal(np.asarray(stamps)[0], [IMAGE + number for number in bands])
    assert stamps.bands == tuple(names[number].upper() for number in bands)


def test_companions_of_an_image_in_the_primary_extension_are_left_out(tmp_path):
    hdus = [fits.PrimaryHDU(IMAGE), fits.ImageHDU((IMAGE < 9).astype("f4"), name="FOOTPRINT")]
    fits.HDUList(hdus).writeto(tmp_path / "a.fits")
    with pytest.warns(UserWarning, match="left out: FOOTPRINT"):
        np.testing.assert_array_equal(np.asarray(open_stamps(tmp_path)), IMAGE[None, None])


def test_companions_are_known_by_their_hdu_class(tmp_path):
    header = fits.Header({"HDUCLAS2": "ERROR"})
    hdus = [fits.PrimaryHDU(IMAGE), fits.ImageHDU(IMAGE, header, name="SIGNAL2")]
    fits.HDUList(hdus).writeto(tmp_path / "a.fits")
    with pytest.warns(UserWarning, match="left out: SIGNAL2"):
        assert open_stamps(tmp_path).shape == (1, 1, 16, 12)


@pytest.mark.parametrize(
    ("hdu", "numbers"),
    [
        ("SCI", [0]),
        (2, [1]),
        ("ERR", [1]),
        (("SCI", 2), [2]),
        (["SCI", "ERR"], [0, 1]),
        ([1, ("SCI", 2)], [0, 2]),
        (("ERR", "SCI"), [1, 0]),
    ],
)
def test_extensions_are_chosen(tmp_path, hdu, numbers):
    write_extensions(tmp_path / "a.fits", "SCI", "ERR", ("SCI", 2))
    stamps = open_stamps(tmp_path, hdu=hdu)
    np.testing.assert_array_equal(np.asarray(stamps)[0], [IMAGE + number for number in numbers])


def test_bands_choose_extensions_too(tmp_path):
    write_extensions(tmp_path / "a.fits", "SCI", "ERR")
    stamps = open_stamps(tmp_path, bands=["err", "SCI"])
    np.testing.assert_array_equal(np.asarray(stamps)[0], [IMAGE + 1, IMAGE])


@pytest.mark.parametrize(
    ("names", "words"),
    [
        (["ERR", "DQ"], r"no image of a band, only ERR, DQ: choose one with hdu=, as in hdu='ERR'"),
        (["SCI", "ERR", ("SCI", 2)], r"2 images that may be detectors.*\(1: SCI.*; 3: SCI.*hdu=1"),
    ],
)
def test_images_that_are_not_clearly_bands_are_refused(tmp_path, names, words):
    write_extensions(tmp_path / "a.fits", *names)
    with pytest.raises(ValueError, match=words):
        open_stamps(tmp_path)


@pytest.mark.parametrize("unit", ["1/nmgy^2", None])
def test_an_image_without_name_beside_its_errors_or_mask_is_refused(tmp_path, unit):
    first = fits.PrimaryHDU(IMAGE)
    second = fits.ImageHDU(IMAGE if unit else (IMAGE > 0).astype("i2"))
    first.header["BUNIT"] = "nmgy"
    second.header["BUNIT"] = unit or "nmgy"
    fits.HDUList([first, second]).writeto(tmp_path / "a.fits")
    with pytest.raises(ValueError, match=r"an image with its errors.*\(0: PRIMARY.*hdu=0"):
        open_stamps(tmp_path)
    assert open_stamps(tmp_path, hdu=0).shape == (1, 1, 16, 12)


def test_detectors_of_several_sizes_are_refused(tmp_path):
    hdus = [fits.PrimaryHDU(), fits.ImageHDU(IMAGE, name="A"), fits.ImageHDU(IMAGE[:8], name="B")]
    fits.HDUList(hdus).writeto(tmp_path / "a.fits")
    with pytest.raises(ValueError, match=r"bands of different sizes \(A 16 x 12.*B 8 x 12.*hdu="):
        open_stamps(tmp_path)
    assert open_stamps(tmp_path, hdu="B").shape == (1, 1, 8, 12)


def test_several_cubes_are_refused(tmp_path):
    write_extensions(tmp_path / "a.fits", "A", "B", image=np.stack([IMAGE] * 3))
    with pytest.raises(ValueError, match=r"A 3 x 16 x 12.*B 3 x 16 x 12.*choose one with hdu="):
        open_stamps(tmp_path)
    assert open_stamps(tmp_path, hdu="B").shape == (1, 3, 16, 12)


def test_extensions_without_an_image_are_refused(tmp_path):
    table = fits.BinTableHDU.from_columns([fits.Column("a", "E", array=[1.0])], name="T")
    fits.HDUList([fits.PrimaryHDU(), fits.ImageHDU(IMAGE, name="SCI"), table]).writeto(
        tmp_path / "a.fits"
    )
    for hdu in (0, "T"):
        with pytest.raises(ValueError, match=rf"no image in extension {hdu!r}: choose one of 0"):
            open_stamps(tmp_path, hdu=hdu)


def test_bands_are_named_by_the_keyword_that_tells_them_apart(tmp_path):
    header = fits.Header({"FILTER": "clear"})
    hdus = [fits.PrimaryHDU(), *(fits.ImageHDU(IMAGE, header, name=name) for name in "GR")]
    fits.HDUList(hdus).writeto(tmp_path / "a.fits")
    assert open_stamps(tmp_path).bands == ("G", "R")


# pictures


def write_png(path, pixels):
    """Write a PNG file of 16-bit colours, which Pillow does not write."""
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in pixels)
    height, width, bands = pixels.shape
    header = np.array([width, height], ">u4").tobytes() + bytes([16, {3: 2, 4: 6}[bands], 0, 0, 0])
    content = b"\x89PNG\r\n\x1a\n"
    for kind, data in ((b"IHDR", header), (b"IDAT", zlib.compress(rows)), (b"IEND", b"")):
        check = zlib.crc32(kind + data).to_bytes(4, "big")
        content += len(data).to_bytes(4, "big") + kind + data + check
    path.write_bytes(content)


@pytest.mark.parametrize("bands", [3, 4])
def test_colours_of_16_bits_in_png_are_refused(tmp_path, bands):
    write_png(tmp_path / "a.png", RNG.integers(0, 65535, (8, 9, bands), np.uint16))
    with pytest.raises(ValueError, match=r"a.png has colours of 16 bits, of which Pillow reads 8"):
        open_stamps(tmp_path)


def test_an_animation_is_refused(tmp_path):
    pictures = [Image.fromarray(np.full((8, 8), value, np.uint8)) for value in (1, 2, 3)]
    pictures[0].save(tmp_path / "a.png", save_all=True, append_images=pictures[1:])
    with pytest.raises(ValueError, match=r"a.png is an animation of 3 pictures"):
        open_stamps(tmp_path)


COLOURS = RNG.integers(0, 65535, (9, 7, 5), np.uint16)


@pytest.mark.parametrize(
    ("pixels", "options", "expected"),
    [
        (COLOURS[..., :3], {"photometric": "rgb"}, COLOURS[..., :3]),
        (COLOURS, {"photometric": "minisblack", "planarconfig": "contig"}, COLOURS),
        (
            COLOURS.transpose(2, 0, 1),
            {"photometric": "minisblack", "planarconfig": "separate"},
            COLOURS,
        ),
        (COLOURS.transpose(2, 0, 1), {"photometric": "minisblack"}, COLOURS),  # pages
        (COLOURS.transpose(2, 0, 1) / 7, {"photometric": "minisblack"}, COLOURS / 7),
        (
            COLOURS[..., :4],
            {"photometric": "rgb", "extrasamples": ["unassalpha"]},
            COLOURS[..., :3],
        ),
        (
            COLOURS[..., :4].astype("u1"),
            {"photometric": "rgb", "extrasamples": ["unspecified"]},
            COLOURS[..., :4].astype("u1"),
        ),
        (COLOURS[..., 0].astype("u4") * 60_000, {}, COLOURS[..., :1].astype("u4") * 60_000),
        (COLOURS[..., 0].astype("i1"), {}, COLOURS[..., :1].astype("i1")),
    ],
)
def test_tiff_files_are_read_with_all_pages_bands_and_bits(tmp_path, pixels, options, expected):
    tifffile.imwrite(tmp_path / "a.tif", pixels, **options)
    stamps = open_stamps(tmp_path)
    assert stamps.dtype == expected.dtype
    np.testing.assert_array_equal(np.asarray(stamps)[0], expected.transpose(2, 0, 1))


def test_one_page_of_a_tiff_file_is_chosen(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", COLOURS.transpose(2, 0, 1), photometric="minisblack")
    np.testing.assert_array_equal(np.asarray(open_stamps(tmp_path, hdu=3))[0, 0], COLOURS[..., 3])


def test_pages_in_colour_or_of_several_sizes_are_refused(tmp_path):
    pages = np.stack([COLOURS[..., :3]] * 4)
    tifffile.imwrite(tmp_path / "a.tif", pages, photometric="rgb")
    with pytest.raises(ValueError, match=r"a.tif has 4 pages in colour.*hdu=0 \(--hdu 0\)"):
        open_stamps(tmp_path)
    assert open_stamps(tmp_path, hdu=1).shape == (1, 3, 9, 7)
    with tifffile.TiffWriter(tmp_path / "a.tif") as file:
        file.write(COLOURS[..., 0])
        file.write(COLOURS[:5, :6, 0])
    with pytest.raises(ValueError, match=r"a.tif has 2 pages of several kinds"):
        open_stamps(tmp_path)
