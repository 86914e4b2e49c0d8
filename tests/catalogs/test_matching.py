import warnings

import numpy as np
import pandas as pd
import pytest
from astropy import units as u
from astropy.coordinates import SkyCoord
from hypothesis import given, settings, strategies as st

from skastro import CatalogMatch, join_catalog, open_stamps, read_catalog
from skastro.catalogs.matching import find_rows
from tests.conftest import find_data

LONG = 1237648720693755918


@given(
    ids=st.lists(st.integers(0, 10**19), unique=True, min_size=1, max_size=30),
    data=st.data(),
)
@settings(max_examples=60, deadline=None)
def test_every_stamp_finds_its_own_row(ids, data):
    stamps = data.draw(st.permutations(ids))[: data.draw(st.integers(0, len(ids)))]
    n_removed = data.draw(st.integers(0, len(ids)))
    rows = data.draw(st.permutations(ids))[n_removed:]
    catalog = pd.DataFrame({"id": [str(i) for i in rows], "value": np.arange(len(rows))})
    try:
        match = join_catalog(catalog, np.array([str(i) for i in stamps], dtype=object))
    except ValueError as error:  # two ids have the same float, which may be refused
        assert "rounded" in str(error)  # noqa: PT017 - one of two correct outcomes
        assert len({float(i) for i in ids}) < len(ids)
        return
    expected = [(k, rows.index(i)) for k, i in enumerate(stamps) if i in rows]
    assert list(zip(match.stamp_rows, match.catalog_rows, strict=True)) == expected
    assert match.n_unmatched_stamps == len(stamps) - len(expected)
    assert match.n_unmatched_rows == len(rows) - len(expected)


def test_ids_are_compared_digit_by_digit():
    catalog = pd.DataFrame({"id": [7, 8]})
    assert join_catalog(catalog, np.array([8, 7])).catalog_rows.tolist() == [1, 0]
    assert join_catalog(catalog, [b"8 ", "7"]).catalog_rows.tolist() == [1, 0]
    assert join_catalog(pd.DataFrame({"id": [8.0, 7.0, np.nan]}), ["7"]).catalog_rows == [1]


def test_ids_without_their_leading_zeros_match_with_a_warning():
    catalog = pd.DataFrame({"id": [98, 12345, 7]})
    with pytest.warns(UserWarning, match=r"leading zeros \(2, such as '00098' and '98'\)"):
        match = join_catalog(catalog, ["00098", "12345", "00007", "00011"])
    assert match.catalog_rows.tolist() == [0, 1, 2]
    assert match.stamp_rows.tolist() == [0, 1, 2]
    with pytest.warns(UserWarning, match="leading zeros"):
        assert find_rows(["98"], ["0098", "x"], name="t").tolist() == [0]
    with warnings.catch_warnings():  # both ids exist, or two may be meant
        warnings.simplefilter("error")
        match = join_catalog(pd.DataFrame({"id": ["007", "7"]}), ["007", "7"])
        assert match.catalog_rows.tolist() == [0, 1]
        assert not len(join_catalog(pd.DataFrame({"id": ["07", "7"]}), ["007"]).stamp_rows)


@pytest.mark.parametrize(
    ("catalog", "stamps", "message"),
    [
        (["1", "2", "1"], ["1"], r"catalog column 'id' has '1' more than once \(rows 0, 2; 1"),
        (["1", "2"], ["2", "2"], r"stamps has '2' more than once \(stamps 0, 1; 1 such ids\)"),
        ([str(LONG)], [str(LONG // 10**4 * 10**4)], r"only when rounded, as floats and"),
        (
            [str(LONG)],
            [str(int(float(LONG)))],
            r"only when rounded, as floats and spreadsheets do: read both",
        ),
        (["1"], [1.5], r"stamps holds ids as floats"),
        (["1"], [1.2e18], r"stamps holds ids as floats"),
        (["1"], np.array([2.0**25], np.float32), r"stamps holds ids as floats"),
    ],
)
def test_doubtful_ids_are_refused(catalog, stamps, message):
    with pytest.raises(ValueError, match=message):
        join_catalog(pd.DataFrame({"id": catalog}), stamps)


def test_neighbouring_long_ids_do_not_match():
    match = join_catalog(pd.DataFrame({"id": [str(LONG), str(LONG + 2)]}), [str(LONG + 1)])
    assert match.n_unmatched_stamps == 1


def test_missing_columns_of_ids_are_refused():
    frame = pd.DataFrame({"galaxy": ["a"]})
    with pytest.raises(ValueError, match=r"no column of ids: name it with id= \(it has galaxy\)"):
        join_catalog(frame, ["a"])
    with pytest.raises(ValueError, match=r"no column 'objid'"):
        join_catalog(frame, ["a"], id="objid")
    with pytest.raises(ValueError, match="on='name' must be"):
        join_catalog(frame, ["a"], on="name")
    assert join_catalog(frame, ["a"], id="galaxy").catalog_rows.tolist() == [0]


def test_files_are_joined_without_folder_and_ending():
    catalog = pd.DataFrame({"file": ["x/a.fits.gz", "b.jpg", "c"]})
    match = join_catalog(catalog, ["c.fits.fz", "stamps/a.fits", "d.png"], on="file")
    assert match.catalog_rows.tolist() == [2, 0]
    assert match.summary() == (
        "2 of 3 stamps matched by file name; 1 catalogue row is without a stamp."
    )


def test_positions_are_joined_unless_they_are_ambiguous():
    arcsec = 1 / 3600
    catalog = pd.DataFrame(
        {"ra": [10.0, 20.0, 30.0, 30.0 + 0.5 * arcsec, 40.0, np.nan], "dec": [0.0] * 6}
    )
    ra = np.array([20.0 + 0.4 * arcsec, 10.0, 30.0, 40.0, 40.0 + 0.1 * arcsec, np.nan, 50.0])
    match = join_catalog(catalog, (ra, np.zeros(7)), on="sky")
    assert match.stamp_rows.tolist() == [0, 1]
    assert match.catalog_rows.tolist() == [1, 0]
    np.testing.assert_allclose(match.separation, [0.4, 0.0], atol=1e-6)
    assert match.n_ambiguous == 3  # between two rows; two stamps of one row
    assert match.summary() == (
        "2 of 7 stamps matched by position; 3 stamps are ambiguous; 1 stamp is without position; "
        "1 catalogue row is without position; 4 catalogue rows are without a stamp."
    )
    assert isinstance(match, CatalogMatch)
    with pytest.raises(ValueError, match="radius=-1"):
        join_catalog(catalog, (ra, ra), on="sky", radius=-1)
    with pytest.raises(ValueError, match="must be a pair"):
        join_catalog(catalog, ra, on="sky")


@given(seed=st.integers(0, 1000), n=st.integers(1, 40))
@settings(max_examples=25, deadline=None)
def test_positions_anywhere_find_their_own_row(seed, n):
    rng = np.random.default_rng(seed)
    ra, dec = rng.uniform(0, 360, n), np.degrees(np.arcsin(rng.uniform(-1, 1, n)))
    order = rng.permutation(n)
    sky = SkyCoord(ra, dec, unit="deg").directional_offset_by(
        rng.uniform(0, 360, n) * u.deg, 0.5 * u.arcsec
    )
    catalog = pd.DataFrame({"ra": ra[order], "dec": dec[order]})
    match = join_catalog(catalog, (sky.ra.deg, sky.dec.deg), on="sky", radius=0.6)
    assert len(match.stamp_rows) == n  # random positions on the whole sky are never so close
    assert order[match.catalog_rows].tolist() == match.stamp_rows.tolist()


def test_duplicates_may_be_left_out_and_are_counted():
    catalog = pd.DataFrame({"id": ["a", "b", "a", "", None]})
    match = join_catalog(catalog, ["b", "a", "b", None], duplicates="first")
    assert match.stamp_rows.tolist() == [0, 1]
    assert match.catalog_rows.tolist() == [1, 0]
    assert (match.n_duplicates, match.n_blank_stamps, match.n_blank_rows) == (2, 1, 2)
    assert match.summary() == (
        "2 of 4 stamps matched by id; 2 duplicates are left out; 1 stamp is without id; "
        "2 catalogue rows are without id; 3 catalogue rows are without a stamp."
    )
    with pytest.raises(ValueError, match="duplicates='last' must be"):
        join_catalog(catalog, ["b"], duplicates="last")


def test_masked_ids_match_nothing():
    catalog = pd.DataFrame({"id": [1, 2]})
    match = join_catalog(catalog, np.ma.masked_array([1, 2], mask=[True, False]))
    assert (match.stamp_rows.tolist(), match.n_blank_stamps) == ([1], 1)
    with pytest.raises(
        ValueError, match=r"stamps has the shape \(1, 2\): pass one id for each row"
    ):
        join_catalog(catalog, [[1, 2]])


@pytest.mark.parametrize("hours_of", ["stamps", "catalog"])
def test_right_ascensions_in_hours_are_refused(hours_of):
    stamp_ra = row_ra = np.array([150.0, 300.0])
    if hours_of == "stamps":
        stamp_ra = stamp_ra / 15
    else:
        row_ra = row_ra / 15
    catalog = pd.DataFrame({"ra": row_ra, "dec": [1.0, 2.0]})
    with pytest.raises(ValueError, match=f"ra of {hours_of} is in hours: multiply it by 15"):
        join_catalog(catalog, (stamp_ra, [1.0, 2.0]), on="sky")
    far = join_catalog(catalog, (stamp_ra, [51.0, 52.0]), on="sky")
    assert far.n_unmatched_stamps == 2


def test_real_files_find_their_rows():
    folder = find_data("sdss")
    catalog = read_catalog(folder / "catalog.csv")
    stamps = open_stamps(folder / "fits")
    match = join_catalog(catalog, stamps.ids)
    assert match.n_unmatched_stamps == 0
    assert match.n_unmatched_rows == 3006
    assert catalog["id"].iloc[match.catalog_rows].tolist() == stamps.ids.tolist()


def test_rows_are_found_by_ids_as_text():
    assert find_rows([7, "x"], ["x", "7"], name="t").tolist() == [1, 0]
    masked = np.ma.array([7, 8], mask=[False, True])
    assert find_rows(masked, [b"7 ", b"8"], name="t").tolist() == [0, -1]
    with pytest.raises(ValueError, match="t has the id '7' more than once"):
        find_rows([7], ["7", "7"], name="t")
