import pickle

import numpy as np
import pandas as pd
import pytest
from astropy.coordinates import SkyCoord
from astropy.io import fits
from astropy.nddata import Cutout2D
from astropy.table import QTable, Table
from astropy.wcs import WCS

from skastro import cut_stamps

SCALE = 0.3 / 3600  # degrees
RA, DEC = 150.0, 2.0


def make_wcs(side, *, ra=RA, dec=DEC, scale=SCALE, angle=0.0):
    wcs = WCS(naxis=2)
    wcs.wcs.ctype = ["RA---TAN", "DEC--TAN"]
    wcs.wcs.crval = [ra, dec]
    wcs.wcs.crpix = [(side + 1) / 2, (side + 1) / 2]
    turn = np.radians(angle)
    cos, sin = np.cos(turn), np.sin(turn)
    wcs.wcs.cd = scale * np.array([[-cos, sin], [sin, cos]])
    return wcs


def write_mosaic(path, pixels, wcs=None, **header):
    hdu = fits.PrimaryHDU(pixels, header=None if wcs is None else wcs.to_header())
    hdu.header.update(header)
    hdu.writeto(path)
    return path


@pytest.fixture(scope="module")
def survey(tmp_path_factory):
    """Two bands of one field, and sources all over it (in pixels, and on the sky)."""
    folder = tmp_path_factory.mktemp("mosaics")
    rng = np.random.default_rng(0)
    pixels = rng.normal(size=(2, 120, 120)).astype(np.float32)
    wcs = make_wcs(120)
    mosaics = {
        band: write_mosaic(folder / f"{band}.fits", image, wcs)
        for band, image in zip("gr", pixels, strict=True)
    }
    x, y = rng.uniform(20, 100, size=(2, 30))
    ra, dec = wcs.all_pix2world(x, y, 0)
    catalog = pd.DataFrame({"id": np.arange(30) + 100, "ra": ra, "dec": dec, "x": x, "y": y})
    return mosaics, catalog, pixels, wcs


@pytest.mark.parametrize("size", [8, 9, (7, 12)])
def test_stamps_are_those_of_cutout2d(survey, size):
    mosaics, catalog, pixels, wcs = survey
    stamps = cut_stamps(mosaics, catalog, size=size)
    expected = [
        [Cutout2D(image, SkyCoord(o.ra, o.dec, unit="deg"), size, wcs=wcs).data for image in pixels]
        for o in catalog.itertuples()
    ]
    np.testing.assert_array_equal(np.asarray(stamps), expected)
    assert stamps.dtype == np.float32
    assert stamps.bands == ("g", "r")
    assert stamps.ids.tolist() == catalog["id"].tolist()
    assert not stamps.partial.any()
    by_pixel = cut_stamps(mosaics, catalog, size=size, x="x", y="y")
    np.testing.assert_array_equal(np.asarray(by_pixel), expected)


def test_rows_and_bands_are_chosen_lazily(survey):
    mosaics, catalog, _, _ = survey
    stamps = cut_stamps(mosaics, catalog, size=8, bands="rg")
    some = pickle.loads(pickle.dumps(stamps[[5, 2, 2]]))
    np.testing.assert_array_equal(np.asarray(some), np.asarray(stamps)[[5, 2, 2]])
    assert some.catalog_rows.tolist() == [5, 2, 2]
    straight = np.asarray(cut_stamps(mosaics, catalog, size=8))
    np.testing.assert_array_equal(np.asarray(stamps), straight[:, ::-1])


def test_bands_are_found_regardless_of_case(survey):
    mosaics, catalog, _, _ = survey
    stamps = cut_stamps(mosaics, catalog, size=8, bands="RG")
    assert stamps.bands == ("R", "G")
    np.testing.assert_array_equal(stamps, cut_stamps(mosaics, catalog, size=8, bands="rg"))


def test_pixels_and_objects_outside_the_mosaic_are_marked(survey):
    mosaics, _, pixels, wcs = survey
    x, y = np.array([3.0, 60.0, 500.0, 118.0]), np.array([60.0, 60.0, 60.0, 118.0])
    ra, dec = wcs.all_pix2world(x, y, 0)
    table = pd.DataFrame({"RA": [*ra, 330.0], "DEC": [*dec, -2.0]})
    with pytest.warns(UserWarning, match=r"2 of 5 objects \(the first in row 2\) lie outside"):
        stamps = cut_stamps(mosaics, table, size=10)
    assert stamps.catalog_rows.tolist() == [0, 1, 3]
    assert stamps.partial.tolist() == [True, False, True]
    assert stamps.ids is None
    left = np.asarray(stamps)[0, 0]
    assert np.isnan(left[:, :2]).all()
    np.testing.assert_array_equal(left[:, 2:], pixels[0, 55:65, :8])
    with pytest.raises(ValueError, match="none of the 2 objects lies inside a mosaic"):
        cut_stamps(mosaics, table.iloc[[2, 4]], size=10)


def test_the_tile_with_most_room_is_taken(tmp_path):
    tiles, centres = [], []
    for number, shift in enumerate((0.0, 80.0)):
        wcs = make_wcs(100, ra=RA + shift * SCALE)
        path = tmp_path / f"tile{number}.fits"
        tiles.append(write_mosaic(path, np.full((100, 100), number, np.float32), wcs))
        centres.append(wcs)
    ra, dec = centres[0].all_pix2world([50.0, 12.0, 3.0], [50.0, 50.0, 50.0], 0)
    # 80 pixels lie between the tiles' centres, so the left edge of one is in the other
    stamps = np.asarray(cut_stamps({"r": tiles}, pd.DataFrame({"ra": ra, "dec": dec}), size=6))
    assert stamps[:, 0, 3, 3].tolist() == [0, 0, 1]
    assert np.isfinite(stamps).all()


def test_sexagesimal_positions_and_compressed_mosaics(survey, tmp_path):
    _, catalog, pixels, wcs = survey
    packed = tmp_path / "g.fits.fz"
    image = fits.CompImageHDU(
        pixels[0], wcs.to_header(), compression_type="GZIP_2", quantize_level=0.0
    )
    fits.HDUList([fits.PrimaryHDU(), image]).writeto(packed)
    sky = SkyCoord(catalog["ra"], catalog["dec"], unit="deg")
    table = pd.DataFrame(
        {
            "ra": sky.ra.to_string("hour", sep=":", precision=8),
            "dec": sky.dec.to_string("deg", sep=":", precision=7),
        }
    )
    stamps = cut_stamps({"g": packed}, table, size=9)
    expected = cut_stamps({"g": survey[0]["g"]}, catalog, size=9)
    np.testing.assert_array_equal(np.asarray(stamps), np.asarray(expected))


def test_positions_at_half_pixels_bear_the_rounding_of_the_sky(survey):
    mosaics, _, pixels, wcs = survey
    grid = np.arange(15.5, 110, 8)
    x, y = (axis.ravel() for axis in np.meshgrid(grid, grid))
    ra, dec = wcs.all_pix2world(x, y, 0)
    stamps = np.asarray(cut_stamps(mosaics, pd.DataFrame({"ra": ra, "dec": dec}), size=8))
    for stamp, i, j in zip(stamps, y, x, strict=True):
        top, left = int(i - 3.5), int(j - 3.5)
        np.testing.assert_array_equal(stamp, pixels[:, top : top + 8, left : left + 8])


@pytest.mark.parametrize(
    ("change", "message"),
    [({"scale": 2 * SCALE}, r"has 0.6 arcsec a pixel"), ({"angle": 30.0}, r"at 30.0 degrees")],
)
def test_other_grids_are_refused_unless_reprojected(tmp_path, change, message):
    y, x = np.mgrid[:200, :200] - 99.5
    fine = np.exp(-(x**2 + y**2) / (2 * 8**2)).astype(np.float32)
    scale = change.get("scale", SCALE) / SCALE
    other = (scale**2 * np.exp(-(x**2 + y**2) * scale**2 / (2 * 8**2))).astype(np.float32)
    mosaics = {
        "g": write_mosaic(tmp_path / "g.fits", fine, make_wcs(200)),
        "r": write_mosaic(tmp_path / "r.fits", other, make_wcs(200, **change)),
    }
    table = pd.DataFrame({"ra": [RA], "dec": [DEC]})
    with pytest.raises(ValueError, match=message + ".*pass reproject=True"):
        cut_stamps(mosaics, table, size=40)
    g, r = np.asarray(cut_stamps(mosaics, table, size=40, reproject=True))[0]
    np.testing.assert_allclose(g, fine[80:120, 80:120])
    # the same source, with the same flux
    np.testing.assert_allclose(r, g, atol=0.03)
    assert r.sum() == pytest.approx(g.sum(), rel=0.01)


def test_integers_and_doubles_keep_their_precision(tmp_path):
    wcs = make_wcs(20)
    for kind, expected in ((np.int16, np.float32), (np.float64, np.float64)):
        path = write_mosaic(
            tmp_path / f"{kind.__name__}.fits", np.arange(400, dtype=kind).reshape(20, 20), wcs
        )
        stamps = cut_stamps({"r": path}, pd.DataFrame({"ra": [RA], "dec": [DEC]}), size=4)
        assert stamps.dtype == expected
        assert np.asarray(stamps)[0, 0, 0].tolist() == [168, 169, 170, 171]


BAD = {
    "no band": ({"bands": "gz"}, r"mosaics has no band 'z': it has g, r"),
    "size": ({"size": 0}, r"size=0 must be"),
    "id": ({"id": "name"}, r"id='name' is not a column"),
    "ra": ({"ra": "alpha"}, r"no column 'alpha': name it with ra="),
    "x without y": ({"x": "x"}, r"no column 'y': pass both"),
    "hdu": ({"hdu": 3}, r"g.fits has no extension 3"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_arguments_are_refused(survey, case):
    mosaics, catalog, _, _ = survey
    change, message = BAD[case]
    with pytest.raises(ValueError, match=message):
        cut_stamps(mosaics, catalog, **{"size": 8, **change})


def test_bad_mosaics_are_refused(survey, tmp_path):
    mosaics, catalog, pixels, wcs = survey
    with pytest.raises(ValueError, match="catalog is empty"):
        cut_stamps(mosaics, catalog.iloc[:0], size=8)
    with pytest.raises(ValueError, match="mosaics is empty"):
        cut_stamps({}, catalog, size=8)
    with pytest.raises(FileNotFoundError, match=r"nothing.fits does not exist"):
        cut_stamps({"g": tmp_path / "nothing.fits"}, catalog, size=8)
    bare = write_mosaic(tmp_path / "bare.fits", pixels[0])
    with pytest.raises(ValueError, match=r"bare.fits has no WCS, which ra and dec need"):
        cut_stamps({"g": bare}, catalog, size=8)
    assert cut_stamps({"g": bare}, catalog, size=8, x="x", y="y").shape == (30, 1, 8, 8)
    cube = write_mosaic(tmp_path / "cube.fits", pixels)
    with pytest.raises(ValueError, match=r"cube.fits has only images of more than two axes"):
        cut_stamps({"g": cube}, catalog, size=8)
    path = write_mosaic(tmp_path / "cut.fits", pixels[0], wcs)
    whole = path.read_bytes()
    for length in np.random.default_rng(0).integers(0, 50000, 50):
        path.write_bytes(whole[:length])
        with pytest.raises(ValueError, match=r"cut.fits") as caught:
            cut_stamps({"g": path}, catalog, size=8)
        assert len(str(caught.value).splitlines()) == 1


def test_a_mosaic_that_has_changed_is_refused(survey, tmp_path):
    _, catalog, pixels, wcs = survey
    path = write_mosaic(tmp_path / "m.fits", pixels[0], wcs)
    stamps = cut_stamps({"g": path}, catalog, size=8)
    path.unlink()
    write_mosaic(path, pixels[0, :50], wcs)
    with pytest.raises(ValueError, match=r"has changed since"):
        np.asarray(stamps)


TABLES = {
    "degrees": lambda sky: Table({"ra": sky.ra.deg, "dec": sky.dec.deg}),
    "radians": lambda sky: Table({"ra": sky.ra.to("rad"), "dec": sky.dec.to("rad")}),
    "hours": lambda sky: QTable({"ra": sky.ra.to("hourangle"), "dec": sky.dec}),
    "coordinates": lambda sky: QTable({"sky": sky}),
    "galactic coordinates": lambda sky: QTable({"sky": sky.galactic}),
    "galactic columns": lambda sky: pd.DataFrame(
        {"GLON": sky.galactic.l.deg, "GLAT": sky.galactic.b.deg}
    ),
}


@pytest.mark.parametrize("kind", TABLES)
def test_positions_of_tables_are_those_of_their_units_and_frames(survey, kind):
    mosaics, catalog, _, _ = survey
    sky = SkyCoord(catalog["ra"], catalog["dec"], unit="deg")
    stamps = cut_stamps(mosaics, TABLES[kind](sky), size=9)
    np.testing.assert_array_equal(stamps, cut_stamps(mosaics, catalog, size=9))


def test_arguments_of_other_types_are_refused(survey):
    mosaics, catalog, _, _ = survey
    for wrong in (mosaics["g"], [mosaics["g"]]):
        with pytest.raises(ValueError, match=r"mosaics is a \w+: pass a dict"):
            cut_stamps(wrong, catalog, size=8)
    with pytest.raises(ValueError, match="catalog is a str: pass a DataFrame"):
        cut_stamps(mosaics, "catalog.csv", size=8)
    words = catalog.assign(x="left")
    with pytest.raises(ValueError, match="x='x' is a column of text"):
        cut_stamps(mosaics, words, size=8, x="x", y="y")


def test_positions_counted_from_one_are_warned_of(survey):
    mosaics, catalog, _, _ = survey
    table = catalog.rename(columns={"x": "X_IMAGE", "y": "Y_IMAGE"})
    with pytest.warns(UserWarning, match="X_IMAGE of SExtractor counts pixels from 1"):
        cut_stamps(mosaics, table, size=8, x="X_IMAGE", y="Y_IMAGE")


def test_ra_in_hours_is_refused(survey):
    mosaics, catalog, _, _ = survey
    hours = catalog.assign(ra=catalog["ra"] / 15)
    with pytest.raises(ValueError, match="check that the positions are in degrees"):
        cut_stamps(mosaics, hours, size=8)
