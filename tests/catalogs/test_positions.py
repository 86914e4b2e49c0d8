import numpy as np
import pandas as pd
import pytest
from astropy import units as u
from astropy.coordinates import SkyCoord
from astropy.table import MaskedColumn, QTable

from skastro import join_catalog, read_catalog, sky_positions
from skastro.catalogs.positions import find_positions, has_positions, sky_links


def test_positions_are_degrees_or_sexagesimal():
    sky = sky_positions(
        ["10.5", "00:42:00", "0h42m0s", "", -10.0], ["1.5", "+1:30:00", "1d30m", 2, 0]
    )
    np.testing.assert_allclose(sky.ra.deg[[0, 1, 2, 4]], [10.5, 10.5, 10.5, 350])
    np.testing.assert_allclose(sky.dec.deg[:3], 1.5)
    assert np.isnan(sky.ra.deg[3])
    assert np.isnan(sky_positions([np.nan], [1.0]).dec.deg[0])


def test_units_and_masks_of_positions_are_respected():
    radians = np.radians([10.0, 20.0]) * u.rad
    np.testing.assert_allclose(sky_positions(radians, [0, 0]).ra.deg, [10, 20])
    hours = MaskedColumn([1.0, 2.0], unit="hour", mask=[False, True])
    ra = sky_positions(hours, [0.0, 0.0]).ra.deg
    np.testing.assert_allclose(ra, [15, np.nan])
    frame = pd.DataFrame({"ra": [1.0], "dec": [2.0]})
    frame.attrs["units"] = {"ra": "hourangle", "dec": "deg"}
    np.testing.assert_allclose(sky_positions(frame["ra"], frame["dec"]).ra.deg, 15)
    frame = frame.copy()
    frame.attrs["units"] = {"ra": "mag"}
    with pytest.raises(ValueError, match="ra has the unit 'mag', not one of angles"):
        sky_positions(frame["ra"], frame["dec"])


@pytest.mark.parametrize(
    ("ra", "dec", "message"),
    [
        (["1"], ["2h0m0s"], r"dec is '2h0m0s' in row 0, not an angle"),
        ([10, 400], [0, 0], r"ra is 400 in row 1, outside -180 to 360"),
        ([10, 40], [0, -99], r"dec is -99 in row 1, outside -90 to 90"),
        (["12:99:99"], ["0"], r"ra is '12:99:99' in row 0, not an angle"),
        (["1"], ["north"], r"dec is 'north' in row 0, not an angle"),
        ([1, 2], [1], r"ra has 2 values and dec has 1"),
    ],
)
def test_impossible_positions_are_refused(ra, dec, message):
    with pytest.raises(ValueError, match=message):
        sky_positions(ra, dec)


@pytest.mark.parametrize(
    ("unit", "factor"),
    [("mdeg", 1000), ("degrees", 1), ("[deg]", 1), ("radians", np.pi / 180), ("hours", 1 / 15)],
)
def test_names_of_units_are_understood(unit, factor):
    frame = pd.DataFrame({"ra": np.array([15.0]) * factor, "dec": [0.0]})
    frame.attrs["units"] = {"ra": unit}
    np.testing.assert_allclose(sky_positions(frame["ra"], frame["dec"]).ra.deg, 15)


SKY = SkyCoord([150.0, 10.0], [2.0, -60.0], unit="deg")
ECLIPTIC, FK4 = SKY.barycentricmeanecliptic, SKY.fk4
PAIRS = {
    ("RAJ2000", "DEJ2000"): (SKY.ra.deg, SKY.dec.deg),
    ("RA_ICRS", "DE_ICRS"): (SKY.ra.deg, SKY.dec.deg),
    ("sky.ra", "sky.dec"): (SKY.ra.deg, SKY.dec.deg),
    ("l", "b"): (SKY.galactic.l.deg, SKY.galactic.b.deg),
    ("GLON", "GLAT"): (SKY.galactic.l.deg, SKY.galactic.b.deg),
    ("sky.l", "sky.b"): (SKY.galactic.l.deg, SKY.galactic.b.deg),
    ("ecl_lon", "ecl_lat"): (ECLIPTIC.lon.deg, ECLIPTIC.lat.deg),
    ("RAB1950", "DEB1950"): (FK4.ra.deg, FK4.dec.deg),
    ("_RAB1950", "_DEB1950"): (
        FK4.ra.to_string("hour", sep=":", precision=8),
        FK4.dec.to_string(sep=" ", precision=7),
    ),
    ("ra_hours", "dec"): (SKY.ra.hour, SKY.dec.deg),
    ("ra_rad", "dec_rad"): (SKY.ra.rad, SKY.dec.rad),
}


@pytest.mark.parametrize("names", PAIRS)
def test_the_names_of_columns_give_the_coordinate_system(names):
    catalog = pd.DataFrame({**dict(zip(names, PAIRS[names], strict=True)), "mag_l": 1.0})
    for chosen in [names, (None, None)][: 1 + has_positions(catalog)]:
        found = find_positions(catalog, *chosen)
        assert found.separation(SKY).arcsec.max() < 1e-3
    assert has_positions(catalog) == ("rad" not in names[1] and "hours" not in names[0])
    match = join_catalog(catalog, (SKY.ra, SKY.dec), on="sky", ra=names[0], dec=names[1])
    assert match.catalog_rows.tolist() == [0, 1]


def test_equatorial_columns_come_before_others():
    catalog = pd.DataFrame({"l": [1.0], "b": [2.0], "ra": [150.0], "dec": [2.0]})
    assert find_positions(catalog).ra.deg == 150


@pytest.mark.parametrize(
    ("ra", "dec", "message"),
    [
        ("l", "dec", "ra='l' and dec='dec' are of different coordinate systems"),
        ("RAh", "DEd", "lack the minutes and seconds"),
        ("alpha", "dec", "no column 'alpha'"),
        (None, "dec", "no column of right ascensions"),
    ],
)
def test_doubtful_columns_are_refused(ra, dec, message):
    catalog = pd.DataFrame({"l": [1.0], "dec": [2.0], "RAh": [10], "DEd": [2]})
    with pytest.raises(ValueError, match=message):
        find_positions(catalog, ra, dec)


@pytest.mark.parametrize("frame", ["icrs", "galactic", "fk4"])
@pytest.mark.parametrize("ending", ["ecsv", "fits"])
def test_coordinates_in_files_keep_their_frame(tmp_path, frame, ending):
    path = tmp_path / f"catalog.{ending}"
    QTable({"id": [1, 2], "sky": SKY.transform_to(frame)}).write(path)
    catalog = read_catalog(path)
    assert catalog.columns.tolist() == ["id", "sky.ra", "sky.dec"]
    assert find_positions(catalog).separation(SKY).arcsec.max() < 1e-6


def test_links_point_at_the_position_and_there_are_none_without_one():
    sky = sky_positions([-0.5, np.nan], [-12.25, 0])
    links = {link["name"]: link["href"] for link in sky_links(sky[0])}
    assert "359.500000-12.250000" in links["Aladin"]
    assert "359.500000%20-12.250000" in links["ESASky"]
    for name in ("Legacy Surveys", "SkyServer"):
        assert "ra=359.500000&dec=-12.250000" in links[name]
    assert all(href.startswith("https://") for href in links.values())
    assert sky_links(sky[1]) == []
