from __future__ import annotations

import warnings
from io import BytesIO

import numpy as np
import pandas as pd
import pytest
from astropy.io import fits, votable
from astropy.table import Table
from astropy.utils.exceptions import AstropyWarning

from skastro import read_catalog
from skastro.catalogs.writing import write_table

FORMATS = [".csv", ".fits", ".ecsv", ".parquet", ".vot", ".xml"]


@pytest.fixture
def table():
    frame = pd.DataFrame(
        {
            "id": ["1237648720693755918", "7", "0012"],
            "class": ["star", None, "galaxie é"],
            "mag_r": [17.25, np.nan, 21.5],
            "p_star": np.array([0.5, 0.25, 1.0], np.float32),
            "n": [3, -1, 2**40],
            "clean": [True, False, True],
        },
        index=[5, 6, 7],
    )
    frame.attrs["units"] = {"mag_r": "mag", "gone": "s"}
    return frame


@pytest.mark.parametrize("ending", [".fits", ".ecsv", ".vot", ".parquet"])
def test_units_of_no_standard_are_words(tmp_path, ending):
    table = pd.DataFrame({"id": ["a"], "size": [0.5], "angle": [30.0]})
    table.attrs["units"] = {"size": "half frame", "angle": "deg"}
    write_table(tmp_path / f"t{ending}", table)
    assert read_catalog(tmp_path / f"t{ending}").attrs["units"] == {"angle": "deg"}
    if ending in (".ecsv", ".vot"):
        assert "in units of a half frame" in (tmp_path / f"t{ending}").read_text()


@pytest.mark.parametrize("ending", FORMATS)
def test_tables_are_read_as_they_were_written(table, tmp_path, ending):
    path = tmp_path / f"table{ending}"
    write_table(path, table)
    back = read_catalog(path)
    assert back.columns.tolist() == table.columns.tolist()
    assert back["id"].tolist() == table["id"].tolist()
    assert back["class"].fillna("").tolist() == ["star", "", "galaxie é"]
    assert back["n"].tolist() == table["n"].tolist()
    assert back["clean"].astype(bool).tolist() == [True, False, True]
    np.testing.assert_array_equal(back["mag_r"], table["mag_r"])
    np.testing.assert_array_equal(back["p_star"], table["p_star"])
    if ending != ".csv":
        assert back.attrs["units"] == {"mag_r": "mag"}
    assert [file.name for file in tmp_path.iterdir()] == [path.name]


def test_missing_whole_numbers_are_masked_in_fits(tmp_path):
    write_table(tmp_path / "t.fits", pd.DataFrame({"n": pd.array([1, None, 3], dtype="Int64")}))
    column = Table.read(tmp_path / "t.fits")["n"]
    assert column.dtype.kind == "i"
    assert column.mask.tolist() == [False, True, False]


@pytest.mark.parametrize("ending", [".fits", ".parquet", ".vot"])
def test_columns_have_units_and_ucds_of_the_virtual_observatory(table, tmp_path, ending):
    path = tmp_path / f"t{ending}"
    table["most_probable"] = ["star", "star", "galaxy"]
    write_table(path, table)
    if ending == ".fits":
        header = fits.getheader(path, 1)
        columns = {
            header[f"TTYPE{i}"]: (header.get(f"TUNIT{i}"), header.get(f"TUCD{i}"))
            for i in range(1, 8)
        }
    else:
        xml = path
        if ending == ".parquet":
            parquet = pytest.importorskip("pyarrow.parquet")
            meta = parquet.read_schema(path).metadata
            assert meta[b"IVOA.VOTable-Parquet.version"] == b"1.0"
            xml = BytesIO(meta[b"IVOA.VOTable-Parquet.content"])
            assert b"<DATA" not in xml.getvalue()
        fields = votable.parse(xml).get_first_table().fields
        columns = {field.name: (field.unit and str(field.unit), field.ucd) for field in fields}
    assert list(columns) == table.columns.tolist()
    assert columns["mag_r"] == ("mag", None)
    assert columns["id"] == (None, "meta.id;meta.main")
    assert columns["p_star"] == (None, "stat.probability;src.class")
    assert columns["most_probable"] == (None, "src.class")


def test_parquet_is_read_by_astropy_with_its_units(table, tmp_path):
    pytest.importorskip("pyarrow")
    pytest.importorskip("astropy", minversion="7.0", reason="this astropy has no VOParquet")
    table = table.fillna({"class": ""})  # astropy fails on missing text
    write_table(tmp_path / "t.parquet", table)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", AstropyWarning)
        back = Table.read(tmp_path / "t.parquet", format="parquet.votable")
    assert back["mag_r"].unit == "mag"
    assert back["id"].tolist() == table["id"].tolist()
    assert back["class"].tolist()[::2] == ["star", "galaxie é"]


def test_no_whole_number_is_read_as_missing(tmp_path):
    values = pd.DataFrame({"n": pd.array([999999, None, 3], dtype="Int64")})
    write_table(tmp_path / "t.fits", values)
    assert read_catalog(tmp_path / "t.fits")["n"].tolist()[::2] == [999999, 3]


def test_an_earlier_file_stays_when_writing_fails(tmp_path, monkeypatch):
    def write_half(_, path, **__):
        path.write_text("half")
        raise RuntimeError

    path = tmp_path / "t.csv"
    path.write_text("earlier")
    monkeypatch.setattr(pd.DataFrame, "to_csv", write_half)
    with pytest.raises(RuntimeError):
        write_table(path, pd.DataFrame({"a": [1]}))
    assert path.read_text() == "earlier"
    assert [file.name for file in tmp_path.iterdir()] == ["t.csv"]


def test_files_that_cannot_be_written_are_refused(table, tmp_path, locked):
    with pytest.raises(ValueError, match=r"must end in \.csv, .* or \.xml"):
        write_table(tmp_path / "t.xlsx", table)
    wide = pd.DataFrame(np.zeros((2, 1200)), columns=[f"e{i}" for i in range(1200)])
    with pytest.raises(ValueError, match=r"cannot hold 1,200 columns.*write \.parquet"):
        write_table(tmp_path / "t.fits", wide)
    with pytest.raises(OSError, match="cannot be written"):
        write_table(locked / "t.csv", table)
