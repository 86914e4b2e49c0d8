import warnings

import numpy as np
import pandas as pd
import pytest
from astropy.io import fits
from astropy.io.votable.tree import Resource, TableElement, VOTableFile
from astropy.table import MaskedColumn, Table
from astropy.time import Time, TimeDelta

from skastro import read_catalog


def hdu(name, **columns):
    return fits.table_to_hdu(Table(columns), name=name)


META = hdu("META", key=["author"], value=["me"])
OBJECTS = hdu("CATALOG", NUMBER=np.arange(5), MAG_AUTO=np.arange(5) + 20.5)
LDAC_HEADER = fits.table_to_hdu(Table({"Field Header Card": ["SIMPLE  = T"]}), name="LDAC_IMHEAD")
LDAC_OBJECTS = hdu("LDAC_OBJECTS", NUMBER=np.arange(5), MAG_AUTO=np.arange(5) + 20.5)


def write(path, *hdus):
    fits.HDUList([fits.PrimaryHDU(), *[hdu.copy() for hdu in hdus]]).writeto(path)
    return path


@pytest.mark.parametrize(
    "hdus",
    [
        [LDAC_HEADER, LDAC_OBJECTS],
        [fits.ImageHDU(np.zeros((4, 4))), OBJECTS],
        [fits.CompImageHDU(np.zeros((32, 32), "f4")), OBJECTS],
    ],
)
@pytest.mark.parametrize("ending", ["fits", "cat", "ldac"])
def test_the_only_table_of_objects_is_read_in_silence(tmp_path, hdus, ending):
    path = write(tmp_path / f"c.{ending}", *hdus)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        catalog = read_catalog(path)
    assert catalog["MAG_AUTO"].tolist() == [20.5, 21.5, 22.5, 23.5, 24.5]


def test_a_table_without_ids_and_positions_is_passed_over_with_a_warning(tmp_path):
    path = write(tmp_path / "c.fits", META, OBJECTS)
    with pytest.warns(
        UserWarning, match=r"1 \(META\) of 1 row, 2 \(CATALOG\) of 5 rows: table 2 is"
    ):
        assert len(read_catalog(path)) == 5


@pytest.mark.parametrize("choice", [2, "CATALOG", "catalog"])
def test_tables_are_chosen_by_number_or_name(tmp_path, choice):
    path = write(tmp_path / "c.fits", OBJECTS, OBJECTS)
    fits.setval(path, "EXTNAME", value="OLD", ext=1)
    for catalog in (read_catalog(path, hdu=choice), read_catalog(f"{path}[{choice}]")):
        assert catalog["NUMBER"].tolist() == [0, 1, 2, 3, 4]
    with pytest.raises(ValueError, match=r"hdu=1 and .*c.fits\[2\] name a table each"):
        read_catalog(f"{path}[2]", hdu=1)


def test_several_tables_of_objects_are_refused_with_the_line_to_type(tmp_path):
    path = write(tmp_path / "c.fits", LDAC_HEADER, LDAC_OBJECTS, LDAC_HEADER, LDAC_OBJECTS)
    with pytest.raises(ValueError, match=r"several tables, 2 \(LDAC_OBJECTS\).* such as hdu=2 or"):
        read_catalog(path)
    assert len(read_catalog(path, hdu=4)) == 5
    for wrong, problem in ((0, "is not a table"), ("LDAC_OBJECTS", "is the name of several")):
        with pytest.raises(ValueError, match=f"hdu={wrong!r} {problem}"):
            read_catalog(path, hdu=wrong)
    (tmp_path / "c.csv").write_text("id\n1\n")
    with pytest.raises(ValueError, match=r"c.csv has one table only: leave out hdu=2"):
        read_catalog(tmp_path / "c.csv", hdu=2)


def test_the_table_of_objects_in_a_votable_is_read(tmp_path):
    file = VOTableFile()
    for name, table in (("info", Table({"k": ["x"]})), ("objects", Table({"id": [7, 8]}))):
        resource = Resource()
        element = TableElement.from_table(file, table)
        element.name = name
        resource.tables.append(element)
        file.resources.append(resource)
    file.to_xml(str(tmp_path / "c.vot"))
    with pytest.warns(UserWarning, match="several tables, 1 .info. of 1 row"):
        assert read_catalog(tmp_path / "c.vot")["id"].tolist() == [7, 8]
    assert read_catalog(tmp_path / "c.vot", hdu="info")["k"].tolist() == ["x"]
    assert read_catalog(f"{tmp_path}/c.vot[2]")["id"].tolist() == [7, 8]


def with_arrays():
    arrays = {"one": np.ones((2, 1)), "flux": np.ones((2, 3)), "spectrum": np.ones((2, 5, 2))}
    return Table({"id": [1, 2], "mag": [17.5, 18.5], **arrays})


def write_arrays(path):
    kinds = {".fits": "fits", ".vot": "votable", ".ecsv": "ascii.ecsv"}
    if path.suffix == ".parquet":
        pytest.importorskip("pyarrow")
        frame = with_arrays()["id", "mag"].to_pandas().assign(one=1.0)
        frame["flux"], frame["spectrum"] = [[1.0, 2.0]] * 2, [{"a": 1}] * 2
        frame.to_parquet(path)
    else:
        with_arrays().write(path, format=kinds[path.suffix])
    return path


@pytest.mark.parametrize("ending", ["fits", "vot", "ecsv", "parquet"])
def test_columns_of_arrays_are_left_out_with_one_warning(tmp_path, ending):
    path = write_arrays(tmp_path / f"c.{ending}")
    with pytest.warns(UserWarning, match=r"arrays in the columns flux, spectrum, which") as caught:
        catalog = read_catalog(path)
    assert len(caught) == 1
    assert catalog.to_dict("list") == {"id": [1, 2], "mag": [17.5, 18.5], "one": [1.0, 1.0]}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert list(read_catalog(path, columns="mag")) == ["id", "mag"]
    with pytest.raises(ValueError, match="arrays in the columns flux: save each"):
        read_catalog(path, columns=["mag", "flux"])


def test_variable_arrays_and_binary_columns_are_left_out(tmp_path):
    ragged = fits.Column("v", "PE()", array=np.array([np.ones(1), np.ones(2)], object))
    number = fits.Column("id", "J", array=[1, 2])
    fits.BinTableHDU.from_columns([number, ragged]).writeto(tmp_path / "c.fits")
    with pytest.warns(UserWarning, match="arrays in the columns v,"):
        assert list(read_catalog(tmp_path / "c.fits")) == ["id"]
    frame = pd.DataFrame({"id": [1, 2], "class": [b"STAR ", None], "png": [b"\x89PNG\xff", b"a"]})
    pytest.importorskip("pyarrow")
    frame.to_parquet(tmp_path / "c.parquet")
    with pytest.warns(UserWarning, match="arrays in the columns png,"):
        catalog = read_catalog(tmp_path / "c.parquet")
    assert catalog["class"].tolist()[0] == "STAR"
    assert catalog["class"].isna().tolist() == [False, True]


def test_times_are_text_and_durations_are_left_out(tmp_path):
    dates = ["2026-11-30T12:00:00.000", "2026-12-01T00:00:00.000"]
    table = Table({"id": [7, 8], "observed": Time(dates), "step": TimeDelta([1, 2], format="jd")})
    table.write(tmp_path / "c.ecsv")
    with pytest.warns(UserWarning, match="in the columns step, which are left out"):
        catalog = read_catalog(tmp_path / "c.ecsv")
    assert catalog.to_dict("list") == {"id": [7, 8], "observed": dates}


def test_masked_integers_are_missing_in_every_format(tmp_path):
    columns = [
        fits.Column("id", "K", array=[2**60, -1, 3], null=-1),
        fits.Column("class", "J", array=[1, -999, 0], null=-999),
    ]
    fits.BinTableHDU.from_columns(columns).writeto(tmp_path / "c.fits")
    table = Table(
        {"id": MaskedColumn([2**60, -1, 3], mask=[0, 1, 0]),
         "class": MaskedColumn([1, -999, 0], mask=[0, 1, 0])}
    )  # fmt: skip
    table.write(tmp_path / "c.vot", format="votable")
    table.write(tmp_path / "c.ecsv", format="ascii.ecsv")
    for ending in ("fits", "vot", "ecsv"):
        catalog = read_catalog(tmp_path / f"c.{ending}")
        assert catalog["id"].fillna("").tolist() == [str(2**60), "", "3"]
        np.testing.assert_array_equal(catalog["class"], [1, np.nan, 0])
