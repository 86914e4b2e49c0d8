import numpy as np
import pandas as pd
import pytest
from astropy import units as u
from astropy.coordinates import SkyCoord
from astropy.table import QTable

from skastro.catalogs.columns import find_column, match_columns, match_errors, select_columns


@pytest.mark.parametrize(
    ("properties", "errors", "error_of"),
    [
        (["mag_g", "mag_r"], ["err_r", "err_g"], {"mag_g": "err_g", "mag_r": "err_r"}),
        (["u_g", "mag_g", "mag_r"], ["err_g", "err_r"], {"mag_g": "err_g", "mag_r": "err_r"}),
        (["mag_g", "redshift"], ["redshift_err"], {"redshift": "redshift_err"}),
        (["mag_g", "u_g"], ["err_mag_g", "err_u_g"], {"mag_g": "err_mag_g", "u_g": "err_u_g"}),
        (["mag_g", "ext_g"], ["err_g"], {"mag_g": "err_g"}),
        (["size"], ["err_g"], {}),
    ],
)  # fmt: skip
def test_error_columns_are_matched_to_their_properties(properties, errors, error_of):
    assert match_errors(properties, errors) == error_of


@pytest.mark.parametrize(
    ("patterns", "message"),
    [
        (["magg_*"], r"magg_\*.*mag_g"),
        (["*"], r"label column 'class'"),
        (["zzz"], "choose from class, mag_g"),
    ],
)
def test_errors_name_the_pattern_that_is_wrong(patterns, message):
    with pytest.raises(ValueError, match=message):
        match_columns(["class", "mag_g"], patterns, label="class")


def test_columns_are_found_by_their_usual_names():
    frame = pd.DataFrame(columns=["RAJ2000", "DEJ2000", "Filename", "objID"])
    columns = [find_column(frame, kind) for kind in ("ra", "dec", "file", "id", "x")]
    assert columns == ["RAJ2000", "DEJ2000", "Filename", "objID", None]


@pytest.mark.parametrize(
    "name",
    ["GalaxyID", "TARGETID", "id_str", "objID", "dr8_id", "iauname", "SOURCE_ID", "specObjID",
     "NUMBER", "Object ID", " id ", "DESIGNATION", "coadd_objid"],
)  # fmt: skip
def test_ids_of_surveys_are_found(name):
    frame = pd.DataFrame({"mag": [20.5, 21.5], "field_id": [1, 1], name: ["5", "6"]})
    assert find_column(frame, "id") == name


def test_preferred_ids_come_first_and_names_of_objects_must_differ():
    frame = pd.DataFrame({"dr8_id": ["a", "b"], "specobjid": [1, 2], "objid": [3, 4]})
    assert find_column(frame, "id") == "objid"
    assert find_column(pd.DataFrame({"NUMBER": [1, 1], "name": ["a", "b"]}), "id") == "name"
    assert find_column(pd.DataFrame({"number": [0.5, 1.5], "grid": [1, 2]}), "id") is None


@pytest.mark.parametrize("name", ["file_loc", "filename", "file_name", "path", "image_file"])
def test_names_of_files_are_found_unless_they_are_numbers(name):
    assert find_column(pd.DataFrame({"id": [1], name: ["a.fits"]}), "file") == name
    assert find_column(pd.DataFrame({"id": [1], name: [5]}), "file") is None


SDSS = {"mag_g": [20.5], "mag_r": [19.9], "meas_apmag_u": [-9.0], "u_g": [1.5], "class": ["STAR"]}


@pytest.mark.parametrize(
    ("columns", "expected"),
    [
        ("mag_*", ["mag_g", "mag_r"]),
        ("u_g,mag_*", ["u_g", "mag_g", "mag_r"]),
        (["mag_r", "u_?"], ["mag_r", "u_g"]),
        ("mag_[r]", ["mag_r"]),
    ],
)
@pytest.mark.parametrize(
    "catalog",
    [
        pd.DataFrame(SDSS),
        SDSS,
        QTable({**SDSS, "mag_g": [20.5] * u.mag, "pos": SkyCoord([1], [2], unit="deg")}),
        np.rec.fromarrays(list(SDSS.values()), names=list(SDSS)),
    ],
)
def test_columns_are_selected_by_their_whole_names(catalog, columns, expected):
    table = select_columns(catalog, columns)
    assert table.columns.tolist() == expected
    assert table[expected[-1]].tolist() == SDSS[expected[-1]]


def test_selected_columns_keep_their_units():
    catalog = pd.DataFrame(SDSS)
    catalog.attrs["units"] = {"mag_g": "mag"}
    assert select_columns(catalog, "mag_g").attrs["units"] == {"mag_g": "mag"}
    table = QTable({"mag_g": [20.5] * u.mag})
    assert select_columns(table, "*").attrs["units"] == {"mag_g": "mag"}


@pytest.mark.parametrize(
    ("catalog", "columns", "message"),
    [
        (pd.DataFrame(SDSS), "magg_*", r"columns='magg_\*' matches no column .* did you mean mag_"),
        (pd.DataFrame([[1.0]]), "mag_*", "columns without names"),
    ],
)
def test_patterns_that_select_nothing_are_refused(catalog, columns, message):
    with pytest.raises(ValueError, match=message):
        select_columns(catalog, columns)


def test_names_with_special_characters_are_found_as_they_are():
    assert match_columns(["mag[r]", "mag_r"], ["mag[r]"]) == ["mag[r]"]
