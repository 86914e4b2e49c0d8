import io
from decimal import Decimal

import astropy.units as u
import numpy as np
import pandas as pd
import pytest
from astropy.coordinates import SkyCoord
from astropy.io import fits
from astropy.table import QTable, Table
from astropy.time import Time
from astropy.utils.masked import Masked

from skastro.utils.tables import to_floats, to_frame

MAG = np.array([17.0, 18.0, 19.0])
COUNT = np.array([1, 2, 3])


class Named:
    """A table of another library, such as polars, that can become one of pandas."""

    def to_pandas(self):
        return pd.DataFrame({"mag": MAG, "n": COUNT})


class Interchanged:
    """A table of another library that knows the interchange protocol only."""

    def __dataframe__(self, **params):
        return pd.DataFrame({"mag": MAG, "n": COUNT}).__dataframe__(**params)


def make_arrow_table():
    pyarrow = pytest.importorskip("pyarrow")
    return pyarrow.table({"mag": MAG, "n": COUNT})


@pytest.mark.parametrize(
    "make",
    [
        lambda: {"mag": MAG, "n": list(COUNT)},
        lambda: Table({"mag": MAG, "n": COUNT}),
        lambda: QTable({"mag": MAG * u.mag, "n": COUNT}),
        lambda: np.rec.fromarrays([MAG, COUNT], names="mag,n"),
        lambda: [{"mag": m, "n": n} for m, n in zip(MAG, COUNT, strict=True)],
        Named,
        Interchanged,
        make_arrow_table,
    ],
)
def test_columns_keep_their_names(make):
    frame = to_frame(make(), "properties")
    assert frame.columns.tolist() == ["mag", "n"]
    np.testing.assert_array_equal(frame.to_numpy(float), np.column_stack([MAG, COUNT]))


class Delayed:
    """An array of a library such as Dask, which names every array, and computes it when asked."""

    name, ndim = "array-34d6910e", 1

    def compute(self):
        return MAG


def test_an_array_that_is_computed_later_has_no_name_of_a_column():
    assert to_frame(Delayed(), "properties").columns.tolist() == ["property_0"]


@pytest.mark.parametrize("make", [lambda t: t["mag"], lambda t: t.to_pandas()["mag"]])
def test_a_column_keeps_its_name(make):
    assert to_frame(make(Table({"mag": MAG})), "properties").columns.tolist() == ["mag"]


def test_arrays_have_columns_with_numbers():
    frame = to_frame(np.ones((3, 2)), "properties")
    assert frame.columns.tolist() == ["property_0", "property_1"]


def test_units_are_kept():
    table = QTable({"mag": MAG * u.mag, "r": Masked(MAG * u.arcsec, mask=[True, False, False])})
    frame = to_frame(table, "properties")
    assert frame.attrs["units"] == {"mag": "mag", "r": "arcsec"}
    assert frame["r"].isna().tolist() == [True, False, False]


def test_null_values_of_a_fits_table_are_missing():
    columns = [fits.Column("n", "J", array=COUNT, null=2), fits.Column("mag", "E", array=MAG)]
    file = io.BytesIO()
    fits.BinTableHDU.from_columns(columns).writeto(file)
    file.seek(0)
    with fits.open(file) as hdus:
        frame = to_frame(hdus[1].data, "properties")
    assert frame["n"].isna().tolist() == [False, True, False]
    assert frame["mag"].tolist() == MAG.tolist()


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (["mag_r", "mag_i"], r"catalog\[\['mag_r', 'mag_i'\]\], or select_columns"),
        (np.array(["mag_r"]), r"holds text \('mag_r'\) instead of values"),
        ("mag_*", r"pass the columns themselves, select_columns\(catalog, 'mag_\*'\)"),
        (["star", "galaxy", "star"], "pass numbers, and class labels as y"),
        ({"mag": MAG, "pos": SkyCoord(MAG, MAG, unit="deg")}, "column 'pos' has the type SkyCoord"),
        (QTable({"time": Time(MAG, format="mjd")}), "column 'time' has the type Time"),
        (Table({"flux": np.ones((3, 2))}), r"'flux' holds an array of shape \(2,\) in each row"),
        ({"mag": MAG, "n": COUNT[:2]}, r"columns of \[2, 3\] rows"),
        ({"mag": 1.0}, "column 'mag' has the type float"),
        (object(), "has the type object"),
        (np.ones((2, 2, 2)), r"has shape \(2, 2, 2\)"),
    ],
)
def test_what_is_no_table_of_numbers_is_refused(values, message):
    with pytest.raises(ValueError, match=message):
        to_frame(values, "properties")


@pytest.mark.parametrize(
    "column",
    [
        pd.Series([1, None, 3], dtype="Int64"),
        pd.Series([1, pd.NA, 3], dtype=object),
        pd.Series(["1", None, "3"]),
        pd.Series([Decimal(1), None, Decimal(3)]),
        pd.Series([True, None, 3], dtype=object),
    ],
)
def test_missing_values_of_pandas_are_nan(column):
    np.testing.assert_array_equal(to_floats(column, "column"), [1, np.nan, 3])


@pytest.mark.parametrize(
    ("column", "message"),
    [
        (pd.Series(pd.date_range("2000", periods=2)), "holds datetime64"),
        (pd.Series([1 + 1j]), "holds complex128"),
        (pd.Series([np.zeros(2)]), "holds an array in row 0"),
        (pd.Series([np.str_("a")], dtype=object), "holds 'a' in row 0"),
        (pd.Series([1.0, np.inf]), "infinite in row 1"),
    ],
)
def test_other_values_are_refused(column, message):
    with pytest.raises(ValueError, match=message):
        to_floats(column, "column")
