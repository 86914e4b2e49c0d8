import warnings

import numpy as np
import pandas as pd
import pytest
from astropy import units as u
from astropy.coordinates import SkyCoord
from astropy.io import fits
from astropy.table import MaskedColumn, Table
from hypothesis import given, settings
from hypothesis import strategies as st

from skastro import CatalogMatch, join_catalog, open_stamps, read_catalog, sky_positions
from skastro.catalogs.columns import find_column
from skastro.utils.validation import SENTINELS, find_sentinels
from tests.conftest import find_data

LONG = 1237648720693755918
FORMATS = ["csv", "parquet", "fits", "fits.gz", "ecsv", "vot", "xml"]


def write(frame, path, units=None):
    name = path.name
    if name.endswith("csv") and not name.endswith("ecsv"):
        frame.to_csv(path, index=False)
    elif name.endswith("parquet"):
        pytest.importorskip("pyarrow")
        frame.to_parquet(path)
    else:
        table = Table.from_pandas(frame, units=units)
        kind = {"ecsv": "ascii.ecsv", "vot": "votable", "xml": "votable"}.get(name.split(".")[-1])
        table.write(path, **({"format": kind} if kind else {}))
    return path


def small_catalog():
    return pd.DataFrame(
        {
            "id": [LONG, LONG + 1, LONG + 2],
            "name": ["a", "b b", "ü"],
            "mag_r": [17.5, np.nan, 21.0],
            "run": np.array([99, 999, 5], np.int64),
            "clean": [True, False, True],
        }
    )


# reading


@pytest.mark.parametrize("ending", FORMATS)
def test_every_format_gives_the_same_catalogue(tmp_path, ending):
    frame = small_catalog()
    if ending.startswith("fits"):
        frame["name"] = ["a", "b b", "c"]  # FITS knows no umlauts
    path = write(frame, tmp_path / f"c.{ending}", units={"mag_r": u.mag})
    catalog = read_catalog(path)
    assert list(catalog.columns) == list(frame.columns)
    assert catalog["id"].tolist() == [str(LONG + i) for i in range(3)]
    assert catalog["name"].tolist() == frame["name"].tolist()
    np.testing.assert_array_equal(catalog["mag_r"], frame["mag_r"])
    assert catalog["run"].tolist() == [99, 999, 5]
    assert catalog["clean"].tolist() == [True, False, True]
    assert catalog["mag_r"].dtype == np.float64
    tabular = ending not in ("csv", "parquet")
    assert catalog.attrs == ({"units": {"mag_r": "mag"}} if tabular else {})
    assert read_catalog(path, units=False).attrs == {}


@pytest.mark.parametrize("ending", ["fits", "ecsv", "vot"])
def test_masked_and_big_endian_columns_become_plain(tmp_path, ending):
    table = Table(
        {
            "id": [1, 2, 3],
            "n": MaskedColumn(np.array([5, 6, 7], ">i4"), mask=[False, True, False]),
            "f": MaskedColumn(np.array([5, 6, 7], ">f4"), mask=[False, True, False]),
            "big": np.array([1.5, 2.5, 3.5], ">f8"),
            "t": MaskedColumn(["a", "b", "c"], mask=[False, True, False]),
        }
    )
    kind = {"ecsv": "ascii.ecsv", "vot": "votable"}.get(ending)
    table.write(tmp_path / f"c.{ending}", **({"format": kind} if kind else {}))
    catalog = read_catalog(tmp_path / f"c.{ending}")
    np.testing.assert_array_equal(catalog["n"], [5, np.nan, 7])
    np.testing.assert_array_equal(catalog["f"], [5, np.nan, 7])
    for name in ("id", "n", "f", "big"):
        assert isinstance(catalog[name].dtype, np.dtype)
        assert catalog[name].dtype.isnative
    assert catalog["id"].dtype == np.int64


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("id\n7\n8\n", [7, 8]),
        ("id\n007\n8\n", ["007", "8"]),
        (f"id\n{LONG}\n8\n", [str(LONG), "8"]),
        ("objID\nJ12 \n8\n", ["J12", "8"]),
        ("SOURCE_ID\n-3\n8\n", [-3, 8]),
    ],
)
def test_ids_keep_every_digit(tmp_path, text, expected):
    (tmp_path / "c.csv").write_text(text)
    assert read_catalog(tmp_path / "c.csv").iloc[:, 0].tolist() == expected


def test_the_id_column_may_have_any_name(tmp_path):
    (tmp_path / "c.csv").write_text(f"star,mag\n{LONG},1.0\n")
    assert read_catalog(tmp_path / "c.csv", id="star")["star"].tolist() == [str(LONG)]
    with pytest.raises(ValueError, match=r"id='sta' is no column of .*c.csv: did you mean star\?"):
        read_catalog(tmp_path / "c.csv", id="sta")


def test_float_ids_are_refused(tmp_path):
    path = write(pd.DataFrame({"id": [1.0, 2.0]}), tmp_path / "c.fits")
    with pytest.raises(ValueError, match=r"'id' of .*c.fits is float, which cannot hold long ids"):
        read_catalog(path)


def test_columns_are_chosen_by_patterns(tmp_path):
    path = tmp_path / "c.csv"
    path.write_text("id,mag_g,mag_r,err_g,ra\n1,2.5,3.5,4.5,5.5\n")
    assert list(read_catalog(path, columns="mag_*")) == ["id", "mag_g", "mag_r"]
    assert list(read_catalog(path, columns=["ra", "err_?"])) == ["id", "err_g", "ra"]
    with pytest.raises(ValueError, match=r"columns='meg_\*' is no column .* did you mean mag_r or"):
        read_catalog(path, columns=["meg_*"])


def test_whole_numbers_with_gaps_keep_their_digits(tmp_path):
    (tmp_path / "c.csv").write_text(f"id,run,parent,clean,name\n1,752,{LONG},true, a\n2,,,,\n")
    catalog = read_catalog(tmp_path / "c.csv")
    np.testing.assert_array_equal(catalog["run"], [752.0, np.nan])
    assert catalog["parent"].tolist()[0] == str(LONG)
    assert catalog["clean"].tolist()[0] is True
    assert catalog["name"].tolist()[0] == "a"
    assert catalog.isna().iloc[1, 1:].all()


@pytest.mark.parametrize("values", ["1.0\n2.0", "1.23765E+18\n2", "7\n1.5e+18"])
def test_ids_that_went_through_a_float_are_refused(tmp_path, values):
    (tmp_path / "c.csv").write_text(f"id\n{values}\n")
    with pytest.raises(ValueError, match=r"c.csv is float, which cannot hold long ids"):
        read_catalog(tmp_path / "c.csv")


def test_ids_of_a_parquet_index_become_a_column(tmp_path):
    path = tmp_path / "c.parquet"
    pd.DataFrame({"mag": [1.5, 2.5]}, index=pd.Index([LONG, 7], name="objid")).to_parquet(path)
    catalog = read_catalog(path)
    assert catalog["objid"].tolist() == [str(LONG), "7"]
    assert catalog.index.tolist() == [0, 1]


# sentinels


def test_sentinels_are_missing_and_told_once(tmp_path):
    path = tmp_path / "c.csv"
    path.write_text(
        "id,mag_g,mag_r,pos_angle,n,ra,dec\n"
        "1,99.0,20.5,99.0,99,99.0,-20.5\n"
        "2,21.5,-9999.0,171.5,3,10.5,-30.5\n"
        "3,-999,21.5,3.5,5,350.5,30.5\n"
    )
    with pytest.warns(UserWarning, match=r"c.csv are read as missing: mag_g 2, mag_r 1\.") as told:
        catalog = read_catalog(path)
    assert len(told) == 1
    assert catalog["mag_g"].isna().tolist() == [True, False, True]
    assert catalog["mag_r"].isna().tolist() == [False, True, False]
    # a position angle, a number of something and a right ascension may be 99
    assert catalog[["pos_angle", "n", "ra"]].iloc[0].tolist() == [99, 99, 99]


@given(
    values=st.lists(st.floats(-90, 90) | st.sampled_from(SENTINELS), min_size=1),
    shift=st.sampled_from([0.0, 300.0]),
)
@settings(max_examples=100, deadline=None)
def test_a_sentinel_lies_outside_the_range_of_the_others(values, shift):
    column = pd.Series([v if v in SENTINELS else v + shift for v in values])
    found = find_sentinels(column)
    assert set(column[found]) <= set(SENTINELS)
    others = column[~column.isin(SENTINELS)]
    for value in column[column.isin(SENTINELS)]:
        inside = len(others) and others.min() <= value <= others.max()
        assert (column[~found] == value).any() == bool(inside)
    if len(others):
        kept = column[~found]
        assert (kept.min(), kept.max()) == (others.min(), others.max())


def test_placeholders_are_found_when_asked(tmp_path):
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(
        {
            "id": np.arange(300),
            "mag": np.r_[np.full(12, 27.434), rng.normal(20, 1, 288)],
            "coarse": rng.normal(20, 1, 300).round(1),
            "flag": np.r_[np.full(12, 2.0), rng.normal(20, 1, 288)],
        }
    )
    path = write(frame, tmp_path / "c.csv")
    assert read_catalog(path)["mag"].notna().all()
    with pytest.warns(UserWarning, match=r"placeholders in .* are read as missing: mag 12\."):
        catalog = read_catalog(path, placeholders=True)
    assert catalog["mag"].isna().sum() == 12
    assert catalog[["coarse", "flag"]].notna().all(axis=None)


# what cannot be read


@pytest.mark.parametrize("ending", FORMATS)
def test_truncated_files_are_told_in_one_line(tmp_path, ending):
    frame = pd.concat([small_catalog().assign(name=f"n{i}") for i in range(40)])
    path = write(frame.reset_index(drop=True), tmp_path / f"c.{ending}")
    whole, rows = path.read_bytes(), len(read_catalog(path))
    for length in np.random.default_rng(0).integers(0, len(whole), 25):
        path.write_bytes(whole[:length])
        told_or_read(path, ending, rows)


def told_or_read(path, ending, rows):
    try:
        with warnings.catch_warnings():  # a number that lost its end may look like a sentinel
            warnings.simplefilter("ignore", UserWarning)
            catalog = read_catalog(path)
    except ValueError as error:
        told = str(error)
    else:
        # a text file may end at a line; a FITS file may lack padding
        assert ending in ("csv", "ecsv") or len(catalog) == rows
        return
    assert str(path) in told
    assert len(told.splitlines()) == 1


def test_other_trouble_is_told(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"c.csv does not exist"):
        read_catalog(tmp_path / "c.csv")
    with pytest.raises(ValueError, match=r"c.xls is no catalogue: use one of .csv"):
        read_catalog(tmp_path / "c.xls")
    cases = {
        "id,mag\n": "has no row",
        "": "cannot be read as a .csv catalogue",
        "id,mag,mag\n1,2,3\n": "two columns named 'mag'",
        "id,mag\n1,2,3\n": "more values than its header",
        "id,mag,err\n1,2,3\n4,5": "ends within a row, so it is truncated",
    }
    for text, message in cases.items():
        (tmp_path / "c.csv").write_text(text)
        with pytest.raises(ValueError, match=message):
            read_catalog(tmp_path / "c.csv")
    Table({"id": [1], "flux": [[1.0, 2.0]]}).write(tmp_path / "c.fits")
    with pytest.raises(ValueError, match=r"arrays in the columns flux: save each"):
        read_catalog(tmp_path / "c.fits")
    fits.PrimaryHDU(np.zeros((4, 4))).writeto(tmp_path / "image.fits")
    with pytest.raises(ValueError, match=r"image.fits holds no table: pass the catalogue"):
        read_catalog(tmp_path / "image.fits")
    pd.DataFrame({"id": [1], "flux": [[1.0, 2.0]]}).to_parquet(tmp_path / "c.parquet")
    with pytest.raises(ValueError, match=r"arrays in the columns flux: save each"):
        read_catalog(tmp_path / "c.parquet")


def test_two_columns_of_one_name_are_told_in_every_format(tmp_path):
    Table({"mag": [1.0], "err": [2.0]}).write(tmp_path / "c.fits")
    whole = (tmp_path / "c.fits").read_bytes()
    (tmp_path / "c.fits").write_bytes(whole.replace(b"'err     '", b"'mag     '"))
    header = (
        "# %ECSV 1.0\n# ---\n# datatype:\n"
        "# - {name: mag, datatype: float64}\n# - {name: mag, datatype: float64}\n"
    )
    (tmp_path / "c.ecsv").write_text(f"{header}mag mag\n1 2\n")
    for name in ("c.fits", "c.ecsv"):
        with pytest.raises(ValueError, match=rf"{name} has two columns named 'mag'"):
            read_catalog(tmp_path / name)


# positions


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
    with pytest.raises(ValueError, match="ra has the unit 'mag', which is no angle's"):
        sky_positions(frame["ra"], frame["dec"])


@pytest.mark.parametrize(
    ("ra", "dec", "message"),
    [
        (["1"], ["2h0m0s"], r"dec is '2h0m0s' in row 0, which is no angle"),
        ([10, 400], [0, 0], r"ra is 400 in row 1, outside -180 to 360"),
        ([10, 40], [0, -99], r"dec is -99 in row 1, outside -90 to 90"),
        (["12:99:99"], ["0"], r"ra is '12:99:99' in row 0, which is no angle"),
        (["1"], ["north"], r"dec is 'north' in row 0, which is no angle"),
        ([1, 2], [1], r"ra has 2 values and dec has 1"),
    ],
)
def test_impossible_positions_are_told(ra, dec, message):
    with pytest.raises(ValueError, match=message):
        sky_positions(ra, dec)


def test_columns_are_found_by_their_usual_names():
    frame = pd.DataFrame(columns=["RAJ2000", "DEJ2000", "Filename", "objID"])
    found = [find_column(frame, kind) for kind in ("ra", "dec", "file", "id", "x")]
    assert found == ["RAJ2000", "DEJ2000", "Filename", "objID", None]


# joining


@given(
    ids=st.lists(st.integers(0, 10**19), unique=True, min_size=1, max_size=30),
    data=st.data(),
)
@settings(max_examples=60, deadline=None)
def test_every_stamp_finds_its_own_row(ids, data):
    stamps = data.draw(st.permutations(ids))[: data.draw(st.integers(0, len(ids)))]
    away = data.draw(st.integers(0, len(ids)))
    rows = data.draw(st.permutations(ids))[away:]
    catalog = pd.DataFrame({"id": [str(i) for i in rows], "value": np.arange(len(rows))})
    try:
        match = join_catalog(catalog, np.array([str(i) for i in stamps], dtype=object))
    except ValueError as error:  # two ids that are one float
        assert "rounded" in str(error)  # noqa: PT017 - a legitimate outcome of two
        assert len({float(i) for i in ids}) < len(ids)
        return
    expected = [(k, rows.index(i)) for k, i in enumerate(stamps) if i in rows]
    assert list(zip(match.stamp_rows, match.catalog_rows, strict=True)) == expected
    assert match.n_unmatched_stamps == len(stamps) - len(expected)
    assert match.n_unmatched_rows == len(rows) - len(expected)


def test_ids_are_compared_digit_by_digit():
    catalog = pd.DataFrame({"id": [7, 8]})
    assert join_catalog(catalog, ["007", "8"]).catalog_rows.tolist() == [1]
    assert join_catalog(catalog, np.array([8, 7])).catalog_rows.tolist() == [1, 0]


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
        (["1"], [1.0], r"stamps holds ids as floats"),
    ],
)
def test_doubtful_ids_are_refused(catalog, stamps, message):
    with pytest.raises(ValueError, match=message):
        join_catalog(pd.DataFrame({"id": catalog}), stamps)


def test_neighbouring_long_ids_are_two_objects():
    match = join_catalog(pd.DataFrame({"id": [str(LONG), str(LONG + 2)]}), [str(LONG + 1)])
    assert match.n_unmatched_stamps == 1


def test_columns_of_ids_must_be_there():
    frame = pd.DataFrame({"name": ["a"]})
    with pytest.raises(ValueError, match=r"no column of ids: name it with id= \(it has name\)"):
        join_catalog(frame, ["a"])
    with pytest.raises(ValueError, match=r"no column 'objid'"):
        join_catalog(frame, ["a"], id="objid")
    with pytest.raises(ValueError, match="on='name' must be"):
        join_catalog(frame, ["a"], on="name")
    assert join_catalog(frame, ["a"], id="name").catalog_rows.tolist() == [0]


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
def test_positions_find_their_own_row_anywhere(seed, n):
    rng = np.random.default_rng(seed)
    ra, dec = rng.uniform(0, 360, n), np.degrees(np.arcsin(rng.uniform(-1, 1, n)))
    order = rng.permutation(n)
    sky = SkyCoord(ra, dec, unit="deg").directional_offset_by(
        rng.uniform(0, 360, n) * u.deg, 0.5 * u.arcsec
    )
    catalog = pd.DataFrame({"ra": ra[order], "dec": dec[order]})
    match = join_catalog(catalog, (sky.ra.deg, sky.dec.deg), on="sky", radius=0.6)
    assert len(match.stamp_rows) == n  # n places on the whole sky are never so near
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
def test_right_ascensions_in_hours_are_told(hours_of):
    degrees = np.array([150.0, 300.0])
    ours, theirs = (degrees / 15, degrees) if hours_of == "stamps" else (degrees, degrees / 15)
    catalog = pd.DataFrame({"ra": theirs, "dec": [1.0, 2.0]})
    with pytest.raises(ValueError, match=f"ra of {hours_of} is in hours: multiply it by 15"):
        join_catalog(catalog, (ours, [1.0, 2.0]), on="sky")
    far = join_catalog(catalog, (ours, [51.0, 52.0]), on="sky")
    assert far.n_unmatched_stamps == 2


# real catalogues


def test_real_files_find_their_rows():
    folder = find_data("sdss")
    catalog = read_catalog(folder / "catalog.csv")
    stamps = open_stamps(folder / "fits")
    match = join_catalog(catalog, stamps.ids)
    assert match.n_unmatched_stamps == 0
    assert match.n_unmatched_rows == 3006
    assert catalog["id"].iloc[match.catalog_rows].tolist() == stamps.ids.tolist()


def test_real_placeholders_are_those_of_the_unknown():
    path = find_data("sdss") / "catalog.csv"
    with pytest.warns(UserWarning, match="placeholders"):
        catalog = read_catalog(path, placeholders=True)
    unknown = catalog["class"] == "unknown"
    assert unknown.sum() == 37
    assert catalog.loc[unknown, ["mag_g", "mag_r", "mag_i"]].isna().all(axis=None)
    assert catalog["mag_r"].isna().sum() < 40


def test_real_position_angles_keep_their_99():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        catalog = read_catalog(find_data("efigi") / "catalog.csv")
    assert (catalog["pos_angle"] == 99).sum() == 3
