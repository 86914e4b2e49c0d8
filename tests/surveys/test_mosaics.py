import bz2
import gzip

import numpy as np
import pandas as pd
import pytest
from astropy.coordinates import SkyCoord
from astropy.io import fits
from astropy.nddata import CCDData, Cutout2D
from astropy.wcs import WCS, Sip

from skastro import cut_stamps
from skastro.surveys.mosaics import describe_grid, open_tiles

SIDE = 200
SCALE = 0.001  # degrees


def make_header(kinds, position, *, side=SIDE, scale=SCALE, middle=None, **cards):
    wcs = WCS(naxis=2)
    wcs.wcs.ctype, wcs.wcs.crval, wcs.wcs.cdelt = kinds, position, [-scale, scale]
    wcs.wcs.crpix = middle or [(side + 1) / 2] * 2
    header = wcs.to_header()
    header.remove("RADESYS", ignore_missing=True)
    header.update(cards)
    return header


def make_pixels(shape=(SIDE, SIDE)):
    return np.random.default_rng(0).normal(size=shape).astype(np.float32)


def write(path, *images):
    """Write one image, or several extensions after an empty one."""
    first = fits.PrimaryHDU(*images[0]) if len(images) == 1 else fits.PrimaryHDU()
    others = [fits.ImageHDU(*image) for image in images] if len(images) > 1 else []
    fits.HDUList([first, *others]).writeto(path)
    return path


def cut(path, sky, **options):
    catalog = pd.DataFrame({"ra": sky.icrs.ra.deg, "dec": sky.icrs.dec.deg})
    return np.asarray(cut_stamps({"r": path}, catalog, size=9, **options))[:, 0]


def cut_by_astropy(pixels, places, wcs=None):
    """Return what Cutout2D cuts at positions of the sky or of pixels."""
    return [
        Cutout2D(pixels, place, 9, wcs=wcs, mode="partial", fill_value=np.nan).data
        for place in places
    ]


RA_DEC = ["RA---TAN", "DEC--TAN"]
HEADER = make_header(RA_DEC, [150, 2])
SKY = WCS(HEADER).pixel_to_world([60.2, 120.3], [90.1, 70.4]).icrs


FRAMES = {
    "equatorial": (RA_DEC, {}),
    "galactic": (["GLON-TAN", "GLAT-TAN"], {}),
    "FK5 of 1975": (RA_DEC, {"RADESYS": "FK5", "EQUINOX": 1975.0}),
    "FK4": (RA_DEC, {"RADESYS": "FK4", "EQUINOX": 1950.0}),
    "FK4 by its equinox": (RA_DEC, {"EQUINOX": 1950.0}),
}


@pytest.mark.parametrize("frame", FRAMES)
@pytest.mark.parametrize("scale", [SCALE, 0.05])
def test_positions_are_transformed_to_the_frame_of_the_mosaic(tmp_path, frame, scale):
    kinds, cards = FRAMES[frame]
    header = make_header(kinds, [150, 2], scale=scale, **cards)
    wcs, pixels = WCS(header), make_pixels()
    sky = wcs.pixel_to_world([60.2, 120.3], [90.1, 70.4]).icrs
    stamps = cut(write(tmp_path / "m.fits", (pixels, header)), sky)
    np.testing.assert_array_equal(stamps, cut_by_astropy(pixels, sky, wcs))


@pytest.mark.parametrize("projection", ["CAR", "AIT", "MOL", "HPX", "CEA", "SFL"])
@pytest.mark.parametrize("axes", [("RA---", "DEC--"), ("GLON-", "GLAT-")])
def test_maps_of_the_whole_sky(tmp_path, projection, axes):
    header = make_header(
        [f"{axis}{projection}" for axis in axes], [0, 0], scale=0.5, middle=[400.5, 200.5]
    )
    pixels = make_pixels((400, 800))
    sky = SkyCoord([10.0, 83.8, 200, 300, 179.5], [41.0, -5.4, -60, 70, 1], unit="deg")
    stamps = cut(write(tmp_path / "m.fits", (pixels, header)), sky)
    np.testing.assert_array_equal(stamps, cut_by_astropy(pixels, sky, WCS(header)))


# For these astropy's Cutout2D cuts elsewhere: it takes ecliptic longitudes for right ascensions,
# believes RADESYS before GLON, and exchanges x and y where declination is the first axis.
OTHER_FRAMES = {
    "ecliptic": (["ELON-TAN", "ELAT-TAN"], {}, "barycentricmeanecliptic"),
    "supergalactic": (["SLON-TAN", "SLAT-TAN"], {}, "supergalactic"),
    "galactic with RADESYS": (["GLON-TAN", "GLAT-TAN"], {"RADESYS": "FK5"}, "galactic"),
    "declination first": (["DEC--TAN", "RA---TAN"], {}, "icrs"),
}


@pytest.mark.parametrize("case", OTHER_FRAMES)
def test_the_pixel_of_a_position_is_in_the_middle(tmp_path, case):
    kinds, cards, frame = OTHER_FRAMES[case]
    header, pixels = make_header(kinds, [30, 5], **cards), make_pixels()
    places = [(60.2, 90.1), (120.3, 70.4)]
    first, second = WCS(header).all_pix2world(*zip(*places, strict=True), 0)
    lon, lat = (second, first) if kinds[0].startswith("DEC") else (first, second)
    stamps = cut(
        write(tmp_path / "m.fits", (pixels, header)), SkyCoord(lon, lat, unit="deg", frame=frame)
    )
    np.testing.assert_array_equal(stamps, cut_by_astropy(pixels, places))


def test_every_longitude_is_found_wherever_the_edge_of_the_map_is(tmp_path):
    header = make_header(["RA---CAR", "DEC--CAR"], [0, 0], scale=0.5, middle=[720.5, 180.5])
    path = write(tmp_path / "m.fits", (make_pixels((360, 720)), header))
    ra = np.arange(1.1, 360, 7.0)
    catalog = pd.DataFrame({"ra": ra, "dec": 10.1})
    stamps = np.asarray(cut_stamps({"r": path}, catalog, size=1))[:, 0, 0, 0]
    x = np.floor(719.5 - ra / 0.5 + 0.5).astype(int)
    np.testing.assert_array_equal(stamps, fits.getdata(path)[200, x])


def test_distortions_are_applied_and_far_objects_left_out(tmp_path):
    header = make_header(["RA---TAN-SIP", "DEC--TAN-SIP"], [150, 2])
    wcs = WCS(header)
    a, b = np.zeros((2, 4, 4))
    a[2, 0], a[1, 1], b[0, 2] = 1e-5, 2e-5, -3e-5
    wcs.sip = Sip(a, b, None, None, wcs.wcs.crpix)
    header, pixels = wcs.to_header(relax=True), make_pixels()
    path = write(tmp_path / "m.fits", (pixels, header))
    rng = np.random.default_rng(0)
    near = wcs.pixel_to_world(*rng.uniform(20, 180, (2, 20))).icrs
    np.testing.assert_array_equal(cut(path, near), cut_by_astropy(pixels, near, WCS(header)))
    far = pd.DataFrame(
        {
            "ra": [*near.ra.deg, *rng.uniform(0, 360, 50)],
            "dec": [*near.dec.deg, *rng.uniform(-80, -10, 50)],
        }
    )
    with pytest.warns(UserWarning, match="50 of 70 objects"):
        stamps = cut_stamps({"r": path}, far, size=9)
    np.testing.assert_array_equal(np.asarray(stamps)[:, 0], cut(path, near))


@pytest.mark.parametrize("order", ["RDFS", "FRDS", "SFRD", "FDSR"])
def test_axes_of_length_one_are_left_out(tmp_path, order):
    axes = {
        "R": ("RA---SIN", 150, -SCALE, 100.5, 200),
        "D": ("DEC--SIN", 2, SCALE, 90.5, 180),
        "F": ("FREQ", 1.4e9, 1e6, 1, 1),
        "S": ("STOKES", 1, 1, 1, 1),
    }
    wcs = WCS(naxis=4)
    kinds, values, steps, middles, lengths = zip(*(axes[axis] for axis in order), strict=True)
    wcs.wcs.ctype, wcs.wcs.crval, wcs.wcs.cdelt, wcs.wcs.crpix = kinds, values, steps, middles
    pixels = make_pixels(lengths[::-1])
    path = write(tmp_path / "m.fits", (pixels, wcs.to_header()))
    places = np.array([[60.2, 90.1], [120.3, 70.4]])
    expected = cut_by_astropy(np.squeeze(pixels), [tuple(place) for place in places])
    world = wcs.celestial.all_pix2world(places, 0).T
    lon, lat = world if order.index("R") < order.index("D") else world[::-1]
    np.testing.assert_array_equal(cut(path, SkyCoord(lon, lat, unit="deg")), expected)
    catalog = pd.DataFrame(places, columns=["x", "y"])
    by_pixel = cut_stamps({"r": path}, catalog, size=9, x="x", y="y")
    np.testing.assert_array_equal(np.asarray(by_pixel)[:, 0], expected)


NUMBERS = {
    "unsigned": (np.arange(40000).reshape(SIDE, SIDE).astype("u2"), None),
    "32 bits, unsigned": (np.arange(40000).reshape(SIDE, SIDE).astype("u4") + 2**31, None),
    "signed bytes": ((np.arange(40000).reshape(SIDE, SIDE) % 200 - 100).astype("i1"), None),
    "blank": (np.arange(40000).reshape(SIDE, SIDE).astype("i4"), 39 * SIDE + 50),
    "blank zero": ((np.arange(40000).reshape(SIDE, SIDE) % 7).astype("i2"), 0),
    "doubles": (np.arange(40000).reshape(SIDE, SIDE).astype("f8") + 0.1, None),
}


@pytest.mark.parametrize("case", NUMBERS)
@pytest.mark.parametrize("packing", ["", "tiles", ".gz", ".bz2"])
def test_stored_numbers_are_scaled_and_blanks_are_nan(tmp_path, case, packing):
    pixels, blank = NUMBERS[case]
    if packing == "tiles" and pixels.dtype in ("f8", "i1"):
        pytest.skip("such images are not tile-compressed without loss, or not at all")
    cards = {} if blank is None else {"BLANK": blank}
    kind = fits.CompImageHDU if packing == "tiles" else fits.ImageHDU
    path = tmp_path / "m.fits"
    fits.HDUList([fits.PrimaryHDU(), kind(pixels, fits.Header(cards))]).writeto(path)
    if packing.startswith("."):
        pack = {".gz": gzip.compress, ".bz2": bz2.compress}[packing]
        content, path = path.read_bytes(), tmp_path / f"m.fits{packing}"
        path.write_bytes(pack(content))
    catalog = pd.DataFrame({"x": [50.0], "y": [40.0]})
    stamp = np.asarray(cut_stamps({"r": path}, catalog, size=3, x="x", y="y"))[0, 0]
    expected = pixels[39:42, 49:52].astype(float)
    expected[expected == blank] = np.nan
    np.testing.assert_array_equal(stamp, expected)
    if blank is not None:
        assert np.isnan(stamp).any()


def test_scaled_integers_equal_getdata(tmp_path):
    image = fits.PrimaryHDU(make_pixels() * 100, HEADER)
    image.scale("int16", bscale=0.013, bzero=2.7)
    image.writeto(tmp_path / "m.fits")
    pixels = fits.getdata(tmp_path / "m.fits")
    expected = cut_by_astropy(pixels, SKY, WCS(HEADER))
    np.testing.assert_array_equal(cut(tmp_path / "m.fits", SKY), expected)


def test_bands_and_tiles_of_several_pixel_types_share_one(tmp_path):
    pixels = np.arange(SIDE**2).reshape(SIDE, SIDE) % 120
    mosaics = {
        kind: write(tmp_path / f"{kind}.fits", (pixels.astype(kind), HEADER))
        for kind in ("u1", "i2", "u2", "i4", "f4", "f8")
    }
    catalog = pd.DataFrame({"ra": SKY.ra.deg, "dec": SKY.dec.deg})
    stamps = cut_stamps(mosaics, catalog, size=9)
    assert stamps.dtype == np.float64
    expected = np.array(cut_by_astropy(pixels, SKY, WCS(HEADER)))
    np.testing.assert_array_equal(np.asarray(stamps), np.repeat(expected[:, None], 6, axis=1))
    small = cut_stamps({kind: mosaics[kind] for kind in ("u1", "u2", "f4")}, catalog, size=9)
    assert small.dtype == np.float32


PIXELS, OTHER = make_pixels(), make_pixels() + 100
IMAGES = {
    "with companions": ([("SCI", PIXELS), ("ERR", OTHER), ("DQ", OTHER), ("WHT", OTHER)], {}),
    "after companions": ([("ERR", OTHER), ("WHT", OTHER), ("SCI", PIXELS)], {}),
    "of the band": ([("G", OTHER), ("R", PIXELS)], {}),
    "chosen by number": ([("FIRST", OTHER), ("SECOND", PIXELS)], {"hdu": 2}),
    "chosen by name": ([("SCI", OTHER), ("ERR", PIXELS)], {"hdu": "err"}),
}


@pytest.mark.parametrize("case", IMAGES)
def test_the_image_of_the_band_is_found(tmp_path, case):
    images, options = IMAGES[case]
    path = write(tmp_path / "m.fits", *((pixels, HEADER, name) for name, pixels in images))
    expected = cut_by_astropy(PIXELS, SKY, WCS(HEADER))
    np.testing.assert_array_equal(cut(path, SKY, **options), expected)


@pytest.mark.parametrize("hdu", [None, "SCI", [1, 3], [("SCI", 1), ("SCI", 2)]])
def test_detectors_in_one_file_are_tiles(tmp_path, hdu):
    images = []
    for version, ra in ((1, 150.1), (2, 149.9)):
        header = make_header(RA_DEC, [ra, 2], EXTVER=version)
        images += [(PIXELS + version, header, "SCI"), (OTHER, header, "ERR")]
    path = write(tmp_path / "m.fits", *images)
    sky = SkyCoord([150.1, 149.9], [2, 2], unit="deg")
    expected = [
        cut_by_astropy(pixels, [place], WCS(header))[0]
        for (pixels, header, _), place in zip(images[::2], sky, strict=True)
    ]
    np.testing.assert_array_equal(cut(path, sky, hdu=hdu), expected)
    catalog = pd.DataFrame({"x": [50], "y": [50]})
    with pytest.raises(ValueError, match=r"several images \(1 SCI, 3 SCI\): choose one with hdu="):
        cut_stamps({"r": path}, catalog, size=9, x="x", y="y")
    assert cut_stamps({"r": path}, catalog, size=9, x="x", y="y", hdu=("SCI", 2)).shape[0] == 1


REFUSED = {
    "two images": ([(PIXELS, HEADER, "A"), (OTHER, HEADER, "B")], r"several images of the same"),
    "cube": ([(np.stack([PIXELS, OTHER]), HEADER)], r"only images of more than two axes \(0"),
    "companions": ([(PIXELS, HEADER, "ERR"), (OTHER, HEADER, "DQ")], r"not of the sky \(1 ERR"),
    "no sky": ([(PIXELS, make_header(["FREQ", "STOKES"], [1, 1]))], r"\(FREQ, STOKES\), which ra"),
    "the sun": ([(PIXELS, make_header(["HPLN-TAN", "HPLT-TAN"], [0, 0]))], r"\(HPLN-TAN, HPLT"),
    "spectra": (
        [(PIXELS[None], HEADER + fits.Header({"WCSAXES": 3, "CTYPE3": "RA---TAN"}))],
        r"WCS",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_other_images_are_refused_in_one_sentence(tmp_path, case):
    images, message = REFUSED[case]
    path = write(tmp_path / "m.fits", *images)
    with pytest.raises(ValueError, match=message) as caught:
        cut(path, SKY)
    assert "m.fits" in str(caught.value)
    assert str(caught.value).count(". ") == 0


@pytest.mark.parametrize(
    "mosaic", [CCDData(PIXELS, unit="adu"), PIXELS, (PIXELS, WCS(HEADER)), fits.PrimaryHDU(PIXELS)]
)
def test_mosaics_in_memory_are_refused(mosaic):
    with pytest.raises(ValueError, match=r"mosaics\['r'\] holds a \w+: write it to a FITS file"):
        cut(mosaic, SKY)


def test_grids_in_two_frames_are_compared_on_the_sky(tmp_path):
    place = SkyCoord(150, 2, unit="deg").galactic
    header = make_header(["GLON-TAN", "GLAT-TAN"], [place.l.deg, place.b.deg])
    mosaics = {
        "g": write(tmp_path / "g.fits", (PIXELS, HEADER)),
        "r": write(tmp_path / "r.fits", (PIXELS, header)),
    }
    catalog = pd.DataFrame({"ra": [150.0], "dec": [2.0]})
    with pytest.raises(ValueError, match=r"r\.fits \(band 'r'\) has 3.6 arcsec a pixel at 54.4 de"):
        cut_stamps(mosaics, catalog, size=9)


def test_a_position_far_from_the_reference_decides_on_the_grid(tmp_path):
    # two tangent planes that are alike at their reference positions, but not at the object
    mosaics = {
        "g": write(tmp_path / "g.fits", (PIXELS, make_header(RA_DEC, [150, 60]))),
        "r": write(
            tmp_path / "r.fits", (PIXELS, make_header(RA_DEC, [140, 60], middle=[5093, -278]))
        ),
    }
    catalog = pd.DataFrame({"ra": [150.0], "dec": [60.0]})
    with pytest.raises(ValueError, match=r"at -?8\.\d degrees, but .*g\.fits has 3.6 .* at 0.0"):
        cut_stamps(mosaics, catalog, size=9)


@pytest.mark.parametrize("frame", ["galactic", "declination first", "rotated", "coarse"])
def test_resampled_bands_show_the_source_where_it_is(tmp_path, frame):
    place = SkyCoord(150.02, 2.01, unit="deg")
    kinds, position, cards, scale = RA_DEC, [150, 2], {}, SCALE
    if frame == "galactic":
        kinds, position = ["GLON-TAN", "GLAT-TAN"], [place.galactic.l.deg, place.galactic.b.deg]
    elif frame == "declination first":
        kinds, position = kinds[::-1], position[::-1]
    elif frame == "rotated":
        cards = {"PC1_1": 0.8, "PC1_2": -0.6, "PC2_1": 0.6, "PC2_2": 0.8}
    elif frame == "coarse":
        scale = 2 * SCALE

    def draw(header, factor):
        y, x = np.mgrid[:SIDE, :SIDE]
        px, py = WCS(header).world_to_pixel(place)
        return np.exp(-factor * ((x - px) ** 2 + (y - py) ** 2) / (2 * 4**2)) * factor

    header = make_header(kinds, position, scale=scale, **cards)
    mosaics = {
        "g": write(tmp_path / "g.fits", (draw(HEADER, 1), HEADER)),
        "r": write(tmp_path / "r.fits", (draw(header, (scale / SCALE) ** 2), header)),
    }
    catalog = pd.DataFrame({"ra": [place.ra.deg], "dec": [place.dec.deg]})
    for bands in ("gr", "rg"):
        first, second = np.asarray(
            cut_stamps(mosaics, catalog, size=31, bands=bands, reproject=True)
        )[0]
        np.testing.assert_allclose(first, second, atol=0.07)
        y, x = np.mgrid[:31, :31] - 15.0
        centres = [[(axis * s).sum() / s.sum() for axis in (x, y)] for s in (first, second)]
        assert np.abs(np.subtract(*centres)).max() < 0.02


def test_a_tile_of_another_scale_is_brought_to_the_grid_of_the_first(tmp_path):
    tiles = [
        write(tmp_path / "a.fits", (np.ones((SIDE, SIDE)), HEADER)),
        write(
            tmp_path / "b.fits",
            (np.ones((SIDE, SIDE)), make_header(RA_DEC, [150.4, 2], scale=2 * SCALE)),
        ),
    ]
    catalog = pd.DataFrame({"ra": [150.0, 150.4], "dec": [2.0, 2.0]})
    with pytest.raises(ValueError, match=r"b\.fits \(band 'r'\) has 7.2 arcsec a pixel"):
        cut_stamps({"r": tiles}, catalog, size=9)
    stamps = np.asarray(cut_stamps({"r": tiles}, catalog, size=9, reproject=True))
    np.testing.assert_allclose(stamps[0], 1)
    np.testing.assert_allclose(stamps[1], 0.25, rtol=1e-4)


def test_a_grid_is_described_with_its_scale_angle_and_handedness():
    assert describe_grid(np.diag([-1.0, 1.0]) / 3600) == "1 arcsec a pixel at 0.0 degrees"
    assert describe_grid(np.eye(2) / 3600) == "1 arcsec a pixel at 0.0 degrees, mirrored"


def test_units_of_the_wcs_may_be_arcseconds(tmp_path):
    cards = {"CUNIT1": "arcsec", "CUNIT2": "arcsec", "CRVAL1": 540000.0, "CRVAL2": 7200.0}
    header = make_header(RA_DEC, [150, 2], CDELT1=-3.6, CDELT2=3.6, **cards)
    (tile,) = open_tiles("r", write(tmp_path / "m.fits", (PIXELS, header)), None, sky=True)
    assert tile.scale == pytest.approx(SCALE)
    np.testing.assert_array_equal(cut(tile.path, SKY), cut_by_astropy(PIXELS, SKY, WCS(HEADER)))
