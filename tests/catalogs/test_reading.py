import warnings

import numpy as np
import pandas as pd
import pytest
from astropy import units as u
from astropy.io import fits
from astropy.table import MaskedColumn, Table
from hypothesis import given, settings, strategies as st

from skastro import read_catalog
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
        frame["name"] = ["a", "b b", "c"]  # FITS has no umlauts
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
def test_masked_and_big_endian_columns_become_native_numpy_columns(tmp_path, ending):
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
    with pytest.raises(
        ValueError, match=r"id='sta' is not a column of .*c.csv: did you mean star\?"
    ):
        read_catalog(tmp_path / "c.csv", id="sta")


@pytest.mark.parametrize("values", [[1.5, 2.0], [1.2e18, 2.0], np.array([2.0**25], np.float32)])
def test_float_ids_that_have_lost_digits_are_refused(tmp_path, values):
    path = write(pd.DataFrame({"id": values}), tmp_path / "c.fits")
    with pytest.raises(ValueError, match=r"'id' of .*c.fits is float, which cannot hold long ids"):
        read_catalog(path)


@pytest.mark.parametrize("ending", ["csv", "parquet", "fits"])
def test_floats_that_are_whole_numbers_are_ids(tmp_path, ending):
    path = write(pd.DataFrame({"id": [98.0, 2.0**52]}), tmp_path / f"c.{ending}")
    assert list(map(str, read_catalog(path)["id"])) == ["98", str(2**52)]
    path = write(pd.DataFrame({"id": [98.0, np.nan]}), tmp_path / f"d.{ending}")
    assert read_catalog(path)["id"].fillna("").tolist() == ["98", ""]


def test_other_ids_that_have_lost_digits_do_not_block_the_catalogue(tmp_path):
    (tmp_path / "c.csv").write_text("id,specObjID\n7,1.23765E+18\n8,2.5E+18\n")
    with pytest.warns(UserWarning, match="'specObjID' of .* is float"):
        assert read_catalog(tmp_path / "c.csv")["id"].tolist() == [7, 8]


@pytest.mark.parametrize("ending", FORMATS)
def test_text_has_no_white_space_around_it_in_any_format(tmp_path, ending):
    names = ["STAR  ", "QSO", " STAR", "   "]
    frame = pd.DataFrame({"id": range(4), "class": pd.Series(names, dtype=object)})
    if ending == "csv":
        frame = frame.rename(columns={"class": " class "})
    catalog = read_catalog(write(frame, tmp_path / f"c.{ending}"))
    assert catalog["class"].fillna("").tolist() == ["STAR", "QSO", "STAR", ""]


def test_categories_are_text_or_numbers(tmp_path):
    pytest.importorskip("pyarrow")
    frame = pd.DataFrame({"a": pd.Categorical(["x ", None]), "n": pd.Categorical([5, None])})
    frame.to_parquet(tmp_path / "c.parquet")
    catalog = read_catalog(tmp_path / "c.parquet")
    assert catalog["a"].tolist()[0] == "x"
    np.testing.assert_array_equal(catalog["n"], [5, np.nan])


def test_columns_are_chosen_by_patterns(tmp_path):
    path = tmp_path / "c.csv"
    path.write_text("id,mag_g,mag_r,err_g,ra\n1,2.5,3.5,4.5,5.5\n")
    assert list(read_catalog(path, columns="mag_*")) == ["id", "mag_g", "mag_r"]
    assert list(read_catalog(path, columns=["ra", "err_?"])) == ["id", "err_g", "ra"]
    with pytest.raises(
        ValueError, match=r"columns='meg_\*' matches no column of .*c.csv: did you mean mag_r or"
    ):
        read_catalog(path, columns=["meg_*"])


def test_whole_numbers_keep_their_digits_if_some_are_missing(tmp_path):
    (tmp_path / "c.csv").write_text(f"id,run,parent,clean,name\n1,752,{LONG},true, a\n2,,,,\n")
    catalog = read_catalog(tmp_path / "c.csv")
    np.testing.assert_array_equal(catalog["run"], [752.0, np.nan])
    assert catalog["parent"].tolist()[0] == str(LONG)
    assert catalog["clean"].tolist()[0] is True
    assert catalog["name"].tolist()[0] == "a"
    assert catalog.isna().iloc[1, 1:].all()


@pytest.mark.parametrize(
    "values", ["1.2e+18\n2.0", "1.23765E+18\n2", "7\n1.5e+18", "1.23765e18\n2"]
)
def test_ids_that_were_once_floats_are_refused(tmp_path, values):
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


def test_sentinels_become_missing_with_one_warning(tmp_path):
    path = tmp_path / "c.csv"
    path.write_text(
        "id,mag_g,mag_r,pos_angle,n,ra,dec\n"
        "1,99.0,20.5,99.0,99,99.0,-20.5\n"
        "2,21.5,-9999.0,171.5,3,10.5,-30.5\n"
        "3,-999,21.5,3.5,5,350.5,30.5\n"
    )
    message = r"c.csv are read as missing: mag_g 2, mag_r 1\."
    with pytest.warns(UserWarning, match=message) as caught:
        catalog = read_catalog(path)
    assert len(caught) == 1
    assert catalog["mag_g"].isna().tolist() == [True, False, True]
    assert catalog["mag_r"].isna().tolist() == [False, True, False]
    # position angles, whole numbers and right ascensions may be 99
    assert catalog[["pos_angle", "n", "ra"]].iloc[0].tolist() == [99, 99, 99]


@given(
    values=st.lists(st.floats(-90, 90) | st.sampled_from(SENTINELS), min_size=1),
    shift=st.sampled_from([0.0, 300.0]),
)
@settings(max_examples=100, deadline=None)
def test_a_sentinel_lies_outside_the_range_of_the_others(values, shift):
    column = pd.Series([v if v in SENTINELS else v + shift for v in values])
    is_sentinel = find_sentinels(column)
    assert set(column[is_sentinel]) <= set(SENTINELS)
    others = column[~column.isin(SENTINELS)]
    for value in column[column.isin(SENTINELS)]:
        inside = len(others) and others.min() <= value <= others.max()
        assert (column[~is_sentinel] == value).any() == bool(inside)
    if len(others):
        rest = column[~is_sentinel]
        assert (rest.min(), rest.max()) == (others.min(), others.max())


def test_placeholders_become_missing_on_request(tmp_path):
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
def test_truncated_files_are_refused_in_one_line(tmp_path, ending):
    frame = pd.concat([small_catalog().assign(name=f"n{i}") for i in range(40)])
    path = write(frame.reset_index(drop=True), tmp_path / f"c.{ending}")
    whole, rows = path.read_bytes(), len(read_catalog(path))
    for length in np.random.default_rng(0).integers(0, len(whole), 25):
        path.write_bytes(whole[:length])
        read_or_refuse(path, ending, rows)


def read_or_refuse(path, ending, rows):
    """Read a truncated file; check either the number of rows or the message."""
    try:
        with warnings.catch_warnings():  # a truncated number may look like a sentinel
            warnings.simplefilter("ignore", UserWarning)
            catalog = read_catalog(path)
    except ValueError as error:
        message = str(error)
    else:
        # a text file may end after a line; a FITS file may lack its padding
        assert ending in ("csv", "ecsv") or len(catalog) == rows
        return
    assert str(path) in message
    assert len(message.splitlines()) == 1


def test_files_that_are_not_catalogues_are_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"c.csv does not exist"):
        read_catalog(tmp_path / "c.csv")
    with pytest.raises(ValueError, match=r"c.xls is not a catalogue: use one of .csv"):
        read_catalog(tmp_path / "c.xls")
    cases = {
        "id,mag\n": "has no row",
        "": "cannot be read as a .csv catalogue",
        "id,mag,mag\n1,2,3\n": "two columns named 'mag'",
        "id,mag\n1,2,3\n": "more values than its header",
        "id,mag,err\n1,2,3\n4,5,6\n7,8": "ends within a row, so it is truncated",
    }
    for text, message in cases.items():
        (tmp_path / "c.csv").write_text(text)
        with pytest.raises(ValueError, match=message):
            read_catalog(tmp_path / "c.csv")
    fits.PrimaryHDU(np.zeros((4, 4))).writeto(tmp_path / "image.fits")
    with pytest.raises(ValueError, match=r"image.fits holds no table: pass the catalogue"):
        read_catalog(tmp_path / "image.fits")


def test_two_columns_of_one_name_are_refused_in_every_format(tmp_path):
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


def test_placeholders_of_real_data_are_in_rows_of_unknown_class():
    path = find_data("sdss") / "catalog.csv"
    with pytest.warns(UserWarning, match="placeholders"):
        catalog = read_catalog(path, placeholders=True)
    unknown = catalog["class"] == "unknown"
    assert unknown.sum() == 37
    assert catalog.loc[unknown, ["mag_g", "mag_r", "mag_i"]].isna().all(axis=None)
    assert catalog["mag_r"].isna().sum() < 40


def test_position_angles_of_99_in_real_data_are_kept():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        catalog = read_catalog(find_data("efigi") / "catalog.csv")
    assert (catalog["pos_angle"] == 99).sum() == 3
