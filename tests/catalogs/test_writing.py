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
from skastro.catalogs.labels import read_labels
from skastro.catalogs.matching import find_rows
from skastro.catalogs.writing import write_table
from skastro.embeddings.files import read_embeddings, write_embeddings

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


@pytest.mark.parametrize("ending", FORMATS)
def test_tables_come_back_as_they_were(table, tmp_path, ending):
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
    assert [each.name for each in tmp_path.iterdir()] == [path.name]


def test_missing_whole_numbers_are_masked_in_fits(tmp_path):
    write_table(tmp_path / "t.fits", pd.DataFrame({"n": pd.array([1, None, 3], dtype="Int64")}))
    column = Table.read(tmp_path / "t.fits")["n"]
    assert column.dtype.kind == "i"
    assert column.mask.tolist() == [False, True, False]


@pytest.mark.parametrize("ending", [".fits", ".parquet", ".vot"])
def test_the_virtual_observatory_is_told_what_columns_are(table, tmp_path, ending):
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
        found = votable.parse(xml).get_first_table()
        columns = {each.name: (each.unit and str(each.unit), each.ucd) for each in found.fields}
    assert list(columns) == table.columns.tolist()
    assert columns["mag_r"] == ("mag", None)
    assert columns["id"] == (None, "meta.id;meta.main")
    assert columns["p_star"] == (None, "stat.probability;src.class")
    assert columns["most_probable"] == (None, "src.class")


def test_parquet_is_read_by_astropy_with_its_units(table, tmp_path):
    pytest.importorskip("pyarrow")
    pytest.importorskip("astropy", minversion="7.0", reason="this astropy does not know it")
    write_table(tmp_path / "t.parquet", table.fillna({"class": ""}))  # it reads no missing text
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", AstropyWarning)
        back = Table.read(tmp_path / "t.parquet", format="parquet.votable")
    assert back["mag_r"].unit == "mag"
    assert back["id"].tolist() == table["id"].tolist()
    assert back["class"].tolist()[::2] == ["star", "galaxie é"]


def test_no_whole_number_is_taken_for_a_missing_one(tmp_path):
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
    assert [each.name for each in tmp_path.iterdir()] == ["t.csv"]


def test_files_that_cannot_be_written_are_told_of(table, tmp_path, locked):
    with pytest.raises(ValueError, match=r"must end in \.csv, .* or \.xml"):
        write_table(tmp_path / "t.xlsx", table)
    wide = pd.DataFrame(np.zeros((2, 1200)), columns=[f"e{i}" for i in range(1200)])
    with pytest.raises(ValueError, match=r"cannot hold 1,200 columns.*write \.parquet"):
        write_table(tmp_path / "t.fits", wide)
    with pytest.raises(OSError, match="cannot be written"):
        write_table(locked / "t.csv", table)


@pytest.mark.parametrize("ending", [*FORMATS, ".npz", ".NPZ"])
def test_embeddings_come_back_with_their_ids(tmp_path, ending):
    values = np.random.default_rng(0).normal(size=(4, 12)).astype(np.float32)
    ids = np.array(["1237648720693755918", "1237648720693755919", "a", "b"])
    write_embeddings(tmp_path / f"e{ending}", values, ids)
    back = read_embeddings(tmp_path / f"e{ending}")
    np.testing.assert_array_equal(back.values, values)
    assert back.values.dtype == np.float32
    assert back.ids.astype(str).tolist() == ids.tolist()
    assert back.named


@pytest.mark.parametrize("ending", [".npy", ".NPY"])
def test_arrays_without_ids_have_row_numbers(tmp_path, ending):
    write_embeddings(tmp_path / f"e{ending}", np.eye(3), ["a", "b", "c"])
    back = read_embeddings(tmp_path / f"e{ending}")
    assert back.ids.tolist() == [0, 1, 2]
    assert not back.named


def test_embedding_columns_of_others_are_found_by_their_numbers(tmp_path):
    rows = {"id": [1, 2], "mag_1": [9.0, 8.0], "feature2": [2, 3], "feature10": [5, 6]}
    rows |= {f"feature{i}": [i, i + 1] for i in (1, 3, 4, 5, 6, 7, 8, 9)}
    pd.DataFrame(rows).to_csv(tmp_path / "e.csv", index=False)
    back = read_embeddings(tmp_path / "e.csv")
    assert back.values[0].tolist() == [1, 2, 3, 4, 5, 6, 7, 8, 9, 5]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("none.csv", None, "does not exist"),
        ("t.csv", "id,mag\n1,2\n", "no columns numbered like e0"),
        ("t.npz", b"nothing", "cannot be read as arrays"),
        ("t.npy", b"nothing", "cannot be read as arrays"),
        ("t.csv", "id,e0,e1\n1,2,\n", "not finite in row 0"),
        ("t.txt", "e0,e1\n1,2\n", "is no catalogue"),
    ],
)
def test_files_without_embeddings_are_refused(tmp_path, name, content, message):
    if content is not None:
        (tmp_path / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        read_embeddings(tmp_path / name)


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"values": np.eye(3)}, "no array 'embeddings'"),
        ({"embeddings": np.zeros(3)}, r"shape \(3,\)"),
        ({"embeddings": np.eye(3), "ids": [1, 2]}, "3 embeddings and 2 ids"),
        ({"embeddings": np.array([["a"]])}, "embeddings are numbers"),
    ],
)
def test_arrays_that_are_no_embeddings_are_refused(tmp_path, arrays, message):
    np.savez(tmp_path / "e.npz", **arrays)
    with pytest.raises(ValueError, match=message):
        read_embeddings(tmp_path / "e.npz")


def test_ids_are_compared_as_text():
    assert find_rows([7, "x"], ["x", "7"], name="t").tolist() == [1, 0]
    with pytest.raises(ValueError, match="t has the id '7' more than once"):
        find_rows([7], ["7", "7"], name="t")


def write_labels(path, rows, label="class"):
    pd.DataFrame(rows, columns=["id", label]).to_csv(path, index=False)
    return path


def test_labels_of_several_tables_are_joined(tmp_path):
    first = write_labels(tmp_path / "a.csv", [(1, "star"), (2, ""), (9, "galaxy")])
    second = write_labels(tmp_path / "b.csv", [(2, "galaxy"), (1, "star")])
    labels, notes = read_labels([first, second], "class", [2, 1, 3])
    assert labels.tolist() == ["galaxy", "star", None]
    assert notes == [f"1 of the 2 labels in {first} are of other objects."]


@pytest.mark.parametrize(
    ("rows", "label", "message"),
    [
        ([(1, "galaxy")], "class", "labels 1 as 'galaxy', another table as 'star'"),
        ([(7, "star")], "class", "no id of the data"),
        ([(1, "star"), (1, "star")], "class", "the id '1' more than once"),
        ([(1, "star")], "kind", "no column 'class'"),
    ],
)
def test_labels_that_do_not_fit_are_refused(tmp_path, rows, label, message):
    first = write_labels(tmp_path / "a.csv", [(1, "star")])
    second = write_labels(tmp_path / "b.csv", rows, label)
    with pytest.raises(ValueError, match=message):
        read_labels([first, second], "class", [1, 2])
