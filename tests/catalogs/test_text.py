import bz2
import gzip
import warnings

import numpy as np
import pytest

from skastro import read_catalog

# each is the table with id 1 and 2, ra 10.5 and 11.25, class star and galaxy
WRITTEN = {
    "title": "SDSS query of May\n\nid,ra,class\n1,10.5,star\n2,11.25,galaxy\n",
    "title with commas": "Stars, of May, by me\nid,ra,class\n1,10.5,star\n2,11.25,galaxy\n",
    "CasJobs": "#Table1\nid,ra,class\n1,10.5,star\n2,11.25,galaxy\n",
    "header behind #": "# id,ra,class\n1,10.5,star\n2,11.25,galaxy\n",
    "decimal comma behind #": "# id;ra;class\n1;10,5;star\n2;11,25;galaxy\n",
    "comment as long as a row": "# a, b, c\nid,ra,class\n1,10.5,star\n2,11.25,galaxy\n",
    "comments among the rows": "id,ra,class\n1,10.5,star\n# 9,9,star\n2,11.25,galaxy\n#end\n",
    "TOPCAT": "# id  ra    class\n  1   10.5  star\n  2   11.25 galaxy\n",
    "semicolons": "id;ra;class\n1;10.5;star\n2;11.25;galaxy\n",
    "decimal comma": "id;ra;class\n1;10,5;star\n2;11,25;galaxy\n",
    "decimal comma and tab": "id\tra\tclass\n1\t10,5\tstar\n2\t11,25\tgalaxy\n",
    "hint for Excel": "sep=;\nid;ra;class\n1;10,5;star\n2;11,25;galaxy\n",
    "tabs": "id\tra\tclass\n1\t10.5\tstar\n2\t11.25\tgalaxy\n",
    "psql": " id | ra | class\n---+---+---\n 1 | 10.5 | star\n 2 |11.25 | galaxy\n(2 rows)\n",
    "Markdown": "| id | ra | class |\n|--|--|--|\n| 1 | 10.5 | star |\n| 2 | 11.25 | galaxy |\n",
    "white space": "id ra class\n1 10.5 star\n2  11.25\tgalaxy\n",
    "IPAC": "|id|   ra| class|\n|i |float|  char|\n  1  10.5   star\n  2 11.25 galaxy\n",
    "trailing separator": "id,ra,class\n1,10.5,star,\n2,11.25,galaxy,\n",
    "trailing separators": "id,ra,class,\n1,10.5,star,\n2,11.25,galaxy,\n",
    "line ends of Windows": "id,ra,class\r\n1,10.5,star\r\n2,11.25,galaxy\r\n",
    "line ends of old Macs": "id,ra,class\r1,10.5,star\r2,11.25,galaxy\r",
    "blank lines": "\n\nid,ra,class\n\n1,10.5,star\n\n2,11.25,galaxy\n\n",
    "padding": " id , ra , class \n1 , 10.5 , star \n2 , 11.25 , galaxy\n",
    "quotes": '"id","ra","class"\n"1","10.5","star"\n"2","11.25","galaxy"\n',
}  # fmt: skip


ECSV = (
    b"# %ECSV 1.0\n# ---\n# datatype:\n# - {name: id, datatype: int64}\n"
    b"# - {name: ra, datatype: float64}\nid ra\n1 10.5\n"
)


def write(path, text):
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


@pytest.mark.parametrize("name", WRITTEN)
def test_a_table_is_the_same_however_it_is_written(tmp_path, name):
    catalog = read_catalog(write(tmp_path / "c.csv", WRITTEN[name]))
    assert catalog.to_dict("list") == {
        "id": [1, 2], "ra": [10.5, 11.25], "class": ["star", "galaxy"]
    }  # fmt: skip


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-le", "utf-16-be"])
def test_every_unicode_is_read(tmp_path, encoding):
    path = write(tmp_path / "c.csv", "id;name\n1;Größe\n2;é\n".encode(encoding))
    assert read_catalog(path)["name"].tolist() == ["Größe", "é"]


def test_latin_1_is_read_with_a_warning(tmp_path):
    path = write(tmp_path / "c.csv", "id,name\n1,Größe\n".encode("latin-1"))
    with pytest.warns(UserWarning, match=r"c.csv is not UTF-8, and is read as Latin-1"):
        assert read_catalog(path)["name"].tolist() == ["Größe"]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("c.csv.gz", gzip.compress(b"id,ra\n1,10.5\n", mtime=0)),
        ("c.csv.bz2", bz2.compress(b"id,ra\n1,10.5\n")),
        ("c.csv", gzip.compress(b"id,ra\n1,10.5\n", mtime=0)),
        ("c.tsv", b"id\tra\n1\t10.5\n"),
        ("c.dat", b"id ra\n1 10.5\n"),
        ("C.TXT", b"id;ra\n1;10,5\n"),
        ("c.txt", ECSV),
    ],
)
def test_endings_of_text_are_read(tmp_path, name, content):
    assert read_catalog(write(tmp_path / name, content)).to_dict("list") == {
        "id": [1], "ra": [10.5]
    }  # fmt: skip


def test_catalogues_of_sextractor_have_names_and_units(tmp_path):
    header = (
        "#   1 NUMBER     Running object number\n"
        "#   2 X_IMAGE    Object position along x  [pixel]\n"
        "#   3 MAG_AUTO   Kron-like magnitude      [mag]\n"
    )
    catalog = read_catalog(write(tmp_path / "test.cat", f"{header} 1 10.5 20.5\n 2 11.5 21.5\n"))
    assert catalog.to_dict("list") == {
        "NUMBER": [1, 2], "X_IMAGE": [10.5, 11.5], "MAG_AUTO": [20.5, 21.5]
    }  # fmt: skip
    assert catalog.attrs["units"]["MAG_AUTO"] == "mag"


@pytest.mark.parametrize(
    "text",
    [
        "id,ra,mag\n,deg,mag\n1,10.5,20.5\n2,11.5,\n",
        "#\n# VizieR\n\nid\tra\tmag\n \tdeg\tmag\n---\t---\t---\n1\t10.5\t20.5\n2\t11.5\t    \n",
    ],
)
def test_units_under_the_names_are_no_object(tmp_path, text):
    with pytest.warns(UserWarning, match=r"units under its names \(deg, mag\)"):
        catalog = read_catalog(write(tmp_path / "c.csv", text))
    assert catalog["id"].tolist() == [1, 2]
    np.testing.assert_array_equal(catalog["mag"], [20.5, np.nan])
    assert catalog.attrs["units"] == {"ra": "deg", "mag": "mag"}


def test_values_that_look_like_units_stay_values(tmp_path):
    assert read_catalog(write(tmp_path / "c.csv", "id\nJ12\n8\n"))["id"].tolist() == ["J12", "8"]
    catalog = read_catalog(write(tmp_path / "c.csv", "flag,class\nm,s\ng,deg\n"))
    assert catalog["flag"].tolist() == ["m", "g"]


def test_line_ends_and_separators_in_quotes_belong_to_the_value(tmp_path):
    text = 'id,note,mag\n1,"a\nb",10.5\n2,"c, d",11.5\n'
    catalog = read_catalog(write(tmp_path / "c.csv", text))
    assert catalog["note"].tolist() == ["a\nb", "c, d"]
    assert catalog["mag"].tolist() == [10.5, 11.5]


def test_marks_of_missing_values_leave_a_column_numbers(tmp_path):
    text = "id,mag,z,n\n1,---,null,3\n2,20.5,0.25,--\n3, 21.5 ,INDEF, 4 \n"
    catalog = read_catalog(write(tmp_path / "c.csv", text))
    np.testing.assert_array_equal(catalog["mag"], [np.nan, 20.5, 21.5])
    np.testing.assert_array_equal(catalog["z"], [np.nan, 0.25, np.nan])
    np.testing.assert_array_equal(catalog["n"], [3, np.nan, 4])


def test_numbers_of_fortran_are_numbers(tmp_path):
    text = "id,flux,mag,kind\n1,1.5D+02,,1D2\n2,-.25d0,2.0D01,2D3\n"
    catalog = read_catalog(write(tmp_path / "c.csv", text))
    np.testing.assert_array_equal(catalog["flux"], [150, -0.25])
    np.testing.assert_array_equal(catalog["mag"], [np.nan, 20])
    assert catalog["kind"].tolist() == ["1D2", "2D3"]  # without a point, not a number


def test_columns_of_an_array_have_numbers_as_names(tmp_path):
    catalog = read_catalog(write(tmp_path / "c.csv", "0,1,2\n1.5,2.5,3.5\n"))
    assert catalog.to_dict("list") == {"0": [1.5], "1": [2.5], "2": [3.5]}


def test_a_list_of_names_is_a_catalogue(tmp_path):
    catalog = read_catalog(write(tmp_path / "c.csv", "name\nNGC 4414\nM 31\n"))
    assert catalog.to_dict("list") == {"name": ["NGC 4414", "M 31"]}


def test_decimal_commas_of_three_digits_are_read_beside_clear_ones(tmp_path):
    catalog = read_catalog(write(tmp_path / "c.csv", "id;ra;z\n1;10,684;0,5\n2;11,123;0,25\n"))
    assert catalog["ra"].tolist() == [10.684, 11.123]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('id,flux\n1,"1,234"\n2,"2,500"\n', "has '1,234' in the column 'flux', .* in two ways"),
        ('id,flux\n1,"1,234.5"\n2,12.5\n', r"has '1,234\.5' in the column 'flux'"),
        ("id;flux\n1;1,234\n2;2,500\n", "without separators of thousands"),
        ("id;flux\n1;1.234,5\n2;2,5\n", r"has '1\.234,5' in the column 'flux'"),
        ("id;a;b\n1;1,5;2.5\n2;2,5;3.5\n", "has '1,5' in the column 'a'"),
        ("id\tflux\n1\t1'234\n2\t2'500\n", "has \"1'234\" in the column 'flux'"),
        ("1,10.5,2\n2,11.5,3\n", "no line of names: begin it with one line"),
        ("1 10.5\n2 11.5\n", "no line of names: begin it with one line"),
        ("NGC4414,10.5\nM31,11.5\n", "no line of names: begin it with one line"),
        ("NGC 4414 10.5 3.2\nM 31 Andromeda 11.5 3.3\n", "no line of names: begin it with one"),
        ("{\n'id': 7\n}\n", "no line of names: begin it with one"),
        ("id,class\nA,star,x\nB,galaxy,y\n", "rows of more values than its header"),
        ("id name z\n1 NGC 4414 2\n2 M31 3\n", "rows of more values than its header"),
        ("id name z\n1 2\n2 M31 3\n3 M33 4\n", "fewer values than its header in row 0"),
        ("id,ra, ra \n1,2,3\n", "two columns named 'ra': rename one"),
        ("<!DOCTYPE html>\n<html>Sorry, no rows</html>\n", "is a web page or XML"),
        (b"id,ra\n\x00\x01\x02\x03,5\n", "holds no text"),
    ],
)
def test_texts_that_may_be_read_wrong_are_refused(tmp_path, text, message):
    with pytest.raises(ValueError, match=message):
        read_catalog(write(tmp_path / "c.csv", text))


def test_columns_that_may_be_read_wrong_block_no_other_column(tmp_path):
    path = write(tmp_path / "c.csv", 'id,mag,flux\n1,20.5,"1,234"\n2,21.5,"2,500"\n')
    assert read_catalog(path, columns="mag")["mag"].tolist() == [20.5, 21.5]


def test_numbers_are_names_beside_a_name_of_ids(tmp_path):
    catalog = read_catalog(write(tmp_path / "c.csv", "id,3.6,4.5\n7,20.5,21.5\n"))
    assert catalog.to_dict("list") == {"id": [7], "3.6": [20.5], "4.5": [21.5]}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('id,flux\n1,"1,5"\n2,"2,25"\n', "column 'flux' of .* is text, such as '1,5'"),
        ("id,ra,z\n1,10.5\n2,11.5,3\n3,5,6\n", "fewer values than its header in row 0"),
    ],
)
def test_texts_that_lose_values_say_so(tmp_path, text, message):
    with pytest.warns(UserWarning, match=message):
        assert len(read_catalog(write(tmp_path / "c.csv", text))) > 1


def test_ordinary_texts_give_no_warning(tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        read_catalog(write(tmp_path / "c.csv", 'id,tags,time\n1,a;b,"2020-01-01 10:00"\n2,c;d,\n'))
