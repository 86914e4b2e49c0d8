"""Files that other astronomical packages ship with their tests are read as astropy reads them."""

from __future__ import annotations

import importlib.util
import warnings
from pathlib import Path

import astropy.units as u
import numpy as np
import pandas as pd
import pytest
from astropy.io import fits, votable
from astropy.nddata import Cutout2D
from astropy.table import Table
from astropy.time import Time
from astropy.wcs import WCS

from skastro import cut_stamps, open_stamps, read_catalog

_ASTROPY = "io/fits/tests/data"
_COMPRESSED = "io/fits/hdu/compressed/tests/data"
_REPROJECTED = "interpolation/tests/reference"

# package, file, extension with the pixels, and why it is difficult
STAMPS = [
    ("astropy", f"{_ASTROPY}/scale.fits", 0, "16-bit integers with BSCALE and BZERO"),
    ("astropy", f"{_ASTROPY}/blank.fits", 0, "64-bit integers with BLANK"),
    ("astropy", f"{_COMPRESSED}/m13_rice.fits", 1, "tile-compressed integers"),
    ("astropy", f"{_COMPRESSED}/compressed_with_nan.fits", 1, "tile-compressed, NaN"),
    ("astropy", "nddata/tests/data/sip-wcs.fits", 0, "unsigned integers"),
    ("astropy", "wcs/tests/data/dist_lookup.fits.gz", "SCI", "distortion tables as images"),
    ("ccdproc", "tests/data/a8280271.fits", 0, "unsigned integers of a camera"),
    ("astroquery", "ukidss/tests/data/image.fits", 1, "32-bit integers with BSCALE"),
    ("astroquery", "image_cutouts/first/tests/data/image.fits", 0, "cut from an image of 4 axes"),
    ("reproject", f"{_REPROJECTED}/test_small_cutout.fits", 0, "FOOTPRINT extension"),
    ("reproject", f"{_REPROJECTED}/test_reproject_celestial_3d_equ2gal.fits", 0, "cube, FOOTPRINT"),
    ("reproject", "tests/data/image_with_distortion_map.fits", 0, "distortion tables as images"),
    ("reproject", "tests/data/aia_171_level1.fits", 0, "BLANK in a header of floats"),
    ("photutils", "psf/tests/data/STDPSF_ACSWFC_F814W_mock.fits", 0, "cube of PSFs"),
]
MOSAICS = [
    ("astropy", "modeling/tests/data/1904-66_AZP.fits", 0, "zenithal perspective projection"),
    ("astropy", "nddata/tests/data/sip-wcs.fits", 0, "SIP distortion, unsigned integers"),
    ("astropy", "wcs/tests/data/dist_lookup.fits.gz", "SCI", "distortion lookup tables"),
    ("astropy", f"{_COMPRESSED}/m13_rice.fits", 1, "tile-compressed integers"),
    ("astropy", f"{_ASTROPY}/scale.fits", 0, "BSCALE and BZERO"),
    ("astroquery", "image_cutouts/first/tests/data/image.fits", 0, "header of 4 axes"),
    ("astroquery", "magpis/tests/data/image.fits", 0, "galactic, a third axis in the header"),
    ("astroquery", "ukidss/tests/data/image.fits", 1, "ZPN projection, BSCALE"),
    ("reproject", "tests/data/galactic_2d.fits", 0, "galactic coordinates"),
    ("reproject", f"{_REPROJECTED}/test_reproject_celestial_2d_gal2equ.fits", 0, "FOOTPRINT"),
    ("reproject", "healpix/tests/data/reference_result.fits", 0, "all-sky CAR map"),
]
CATALOGS = [  # the third is the format for astropy
    ("astropy", f"{_ASTROPY}/tb.fits", "fits", "text, numbers and truth values"),
    ("astropy", "coordinates/tests/accuracy/data/rv.ecsv", "ascii.ecsv", "SkyCoord and Time"),
    ("astropy", "io/ascii/tests/data/daophot.dat", "ascii.daophot", "rows of several lines"),
    ("astropy", "io/ascii/tests/data/cds2.dat", "ascii.cds", "machine-readable, missing values"),
    ("photutils", "datasets/data/4gaussians_params.ecsv", "ascii.ecsv", "units"),
    ("pyvo", "mivot/tests/data/test.mango_annoter.xml", "votable", "Gaia ids of 19 digits"),
    ("pyvo", "mivot/tests/data/test.header_extraction.xml", "votable", "missing values"),
    ("astroquery", "utils/tap/xmlparser/tests/data/1714556098855O-result.csv", "ascii.csv", "ids"),
    ("astroquery", "sdss/tests/data/xid_sp.txt", "ascii.csv", "comment above the names"),
    ("astroquery", "ipac/irsa/tests/data/most_gator.tbl", "ascii.ipac", "IPAC table"),
    ("astroquery", "alfalfa/tests/data/alfalfa_cat_small.txt", "ascii.csv", "names with + and -"),
    ("astroquery", "vizier/tests/data/kang2010.xml", "votable", "VizieR"),
]
_ASTROPY_OPTIONS = {"ascii.csv": {"comment": "#"}}


def _find(package: str, name: str) -> Path:
    spec = importlib.util.find_spec(package)
    path = Path(spec.submodule_search_locations[0], name) if spec else None  # type: ignore[index]
    if path is None or not path.is_file():
        pytest.skip(f"{package} with its test data is not installed")
    return path


def _names(cases: list[tuple]) -> list[str]:
    return [f"{package}-{Path(name).name}" for package, name, *_ in cases]


@pytest.mark.parametrize(("package", "name", "hdu", "_why"), STAMPS, ids=_names(STAMPS))
def test_stamp_file_has_the_pixels_of_getdata(package, name, hdu, _why):
    path = _find(package, name)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        expected = fits.getdata(path, hdu)
        pixels = np.asarray(open_stamps(path))
    np.testing.assert_array_equal(pixels[0], expected if expected.ndim == 3 else expected[None])


@pytest.mark.parametrize(("package", "name", "hdu", "_why"), MOSAICS, ids=_names(MOSAICS))
def test_mosaic_gives_the_pixels_of_cutout2d(package, name, hdu, _why):
    path = _find(package, name)
    with warnings.catch_warnings(), fits.open(path) as hdus:
        warnings.simplefilter("ignore")
        data = np.squeeze(hdus[hdu].data)
        wcs = WCS(hdus[hdu].header, hdus).celestial
        # positions in the inner part, away from pixel borders
        rng = np.random.default_rng(0)
        x, y = (rng.integers(n // 4, 3 * n // 4, 5) + 0.3 for n in data.shape[::-1])
        sky = wcs.pixel_to_world(x, y).icrs
        expected = [Cutout2D(data, position, 5 * u.pix, wcs=wcs).data for position in sky]
        catalog = pd.DataFrame({"ra": sky.ra.deg, "dec": sky.dec.deg})
        stamps = cut_stamps({"r": path}, catalog, size=5)
    np.testing.assert_array_equal(np.asarray(stamps)[:, 0], expected)


@pytest.mark.parametrize(("package", "name", "form", "_why"), CATALOGS, ids=_names(CATALOGS))
def test_catalogue_has_the_values_of_astropy(package, name, form, _why):
    path = _find(package, name)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if form == "votable":
            expected = votable.parse_single_table(path).to_table(use_names_over_ids=True)
        else:
            expected = Table.read(path, format=form, **_ASTROPY_OPTIONS.get(form, {}))
        catalog = read_catalog(path)
    assert len(catalog) == len(expected)
    for column in set(expected.colnames) & set(catalog.columns):
        values = expected[column]
        if isinstance(values, Time):
            assert catalog[column].tolist() == values.isot.tolist()
            continue
        for got, value in zip(catalog[column], values, strict=True):
            if value is np.ma.masked or value != value or value == "":  # noqa: PLR0124 - NaN
                assert pd.isna(got)
            elif values.dtype.kind in "fiu" and not isinstance(got, str):
                assert got == value or (np.isnan(got) and abs(value) in (99, 999, 9999))
            else:  # ids that are too long for floats are text
                assert str(got).strip().lower() == str(value).strip().lower()
    assert len(set(expected.colnames) - set(catalog.columns)) <= 1  # a column of arrays or SkyCoord
