import numpy as np
import pandas as pd
import pytest
from astropy.io import fits

from skastro import inspect_survey, load_folder, open_stamps, read_catalog
from skastro.stamps.bands import BandArray
from tests.conftest import find_data

N = 90


def make_survey():
    rng = np.random.default_rng(0)
    stamps = rng.normal(size=(N, 2, 6, 6)).astype(np.float32)
    labels = np.array(["star", "galaxy", "quasar"])[np.arange(N) % 3]
    catalog = pd.DataFrame(
        {
            "id": np.arange(N),
            "ra": rng.uniform(0, 360, N),
            "dec": rng.uniform(-60, 60, N),
            "field": np.arange(N) // 9,
            "mag_g": rng.normal(20, 1, N),
            "mag_r": rng.normal(20, 1, N),
            "err_g": rng.uniform(0.01, 0.1, N),
            "class": labels,
        }
    )
    return stamps, catalog


def remarks(result, column):
    return result.columns.set_index("column").loc[column, "remarks"]


def test_a_clean_survey_has_no_problem():
    stamps, catalog = make_survey()
    result = inspect_survey(stamps, catalog, label="class", properties=["mag_g"], errors=["err_g"])
    assert result.problems == []
    assert result.classes == {"star": 30, "galaxy": 30, "quasar": 30}
    assert result.duplicates == {"pixels": 0, "sky": 0, "id": 0}
    assert result.groups == {"field": 10}
    assert result.columns["use"].tolist() == ["", "", "", "", "property", "", "error", "label"]
    assert (result.stamps["n"], result.stamps["bands"], result.stamps["dtype"]) == (N, 2, "float32")


def test_odd_columns_are_remarked():
    stamps, catalog = make_survey()
    catalog["mag_g"] = 20.5
    catalog.loc[:11, "mag_r"] = 27.434
    catalog.loc[12:13, "err_g"] = [-999.0, np.nan]
    catalog["empty"] = np.nan
    result = inspect_survey(stamps, catalog, properties=["mag_g", "mag_r"], errors=["err_g"])
    assert remarks(result, "mag_g") == "is constant (20.5)"
    assert remarks(result, "mag_r") == "repeats 27.434 in 12 rows"
    assert remarks(result, "err_g") == "holds -999 (1 row), which may stand for missing values"
    assert remarks(result, "empty") == "has no value"
    assert len(result.problems) == 3
    assert result.columns.set_index("column").loc["err_g", "missing"] == pytest.approx(1 / N)


@pytest.mark.parametrize("kind", ["number", "text", "flag"])
def test_a_column_that_is_the_label_is_remarked(kind):
    stamps, catalog = make_survey()
    if kind == "number":
        catalog["leak"] = pd.factorize(catalog["class"])[0] + np.linspace(0, 0.5, N)
    elif kind == "text":
        catalog["leak"] = catalog["class"].str[:1] + (np.arange(N) % 2).astype(str)
    else:
        catalog["class"] = np.where(catalog["class"] == "star", "star", "other")
        catalog["leak"] = catalog["class"] == "star"
    result = inspect_survey(stamps, catalog, label="class")
    assert remarks(result, "leak") == "predicts the label on its own (balanced accuracy 1.00)"
    assert remarks(result, "mag_g") == ""


def test_copies_and_bad_stamps_are_counted():
    stamps, catalog = make_survey()
    stamps[5] = stamps[4]
    stamps[6] = np.nan
    stamps[7] = 3.0
    stamps[8, 0, 0, 0] = np.inf
    catalog.loc[10, ["ra", "dec"]] = catalog.loc[11, ["ra", "dec"]]
    catalog.loc[20, "id"] = 21
    result = inspect_survey(stamps, catalog)
    assert result.duplicates == {"pixels": 1, "sky": 1, "id": 1}
    assert (result.stamps["empty"], result.stamps["infinite"]) == (2, 1)
    assert result.stamps["missing_pixels"] == pytest.approx(1 / N)
    assert len(result.problems) == 5
    assert result.problems[0].startswith("1 of 90 stamps hold infinite pixels")


def test_bad_arguments_are_refused():
    stamps, catalog = make_survey()
    with pytest.raises(ValueError, match="catalog has 89 rows, but there are 90 stamps"):
        inspect_survey(stamps, catalog.iloc[1:])
    with pytest.raises(ValueError, match="'klass' is not a column"):
        inspect_survey(stamps, catalog, label="klass")


def test_the_types_of_real_galaxies_leak_their_class():
    data = load_folder(find_data("efigi"))
    result = inspect_survey(data.images, data.catalog, label="class", properties=["T_type"])
    assert "predicts the label on its own" in result.problems[-1]
    assert remarks(result, "redshift") == ""


def write_stamps(folder, stamps):
    for name, stamp in zip("abcdefghij", stamps, strict=False):
        fits.writeto(folder / f"{name}.fits", stamp)
    return folder


@pytest.mark.parametrize("first", [0, 1])
def test_damaged_files_are_listed_and_the_others_inspected(tmp_path, first):
    stamps, catalog = make_survey()
    stamps[8] = stamps[9]
    write_stamps(tmp_path, stamps)
    for name in "acef"[first:]:
        (tmp_path / f"{name}.fits").write_bytes(b"<html>503 Service Unavailable</html>")
    result = inspect_survey(open_stamps(tmp_path), catalog[:10], label="class")
    assert list(result.unreadable) == [0, 2, 4, 5][first:]
    for name, text in zip("acef"[first:], result.unreadable.values(), strict=True):
        assert f"{name}.fits cannot be read" in text
    assert result.stamps["n_read"] == 6 + first
    assert result.problems[0].startswith(f"{4 - first} stamps cannot be read (")
    assert "c.fits, e.fits, f.fits); the first: " in result.problems[0]
    assert result.duplicates["pixels"] == 1
    assert result.classes == {"star": 4, "galaxy": 3, "quasar": 3}


def test_faults_of_pixels_are_problems():
    stamps, catalog = make_survey()
    stamps[:9, 1] = 0
    stamps[9:12, :, :4, :4] = -99
    stamps[12:14, 1] = stamps[12:14, 0]
    result = inspect_survey(BandArray.of(stamps, ("g", "r")), catalog)
    counts = {name: result.stamps[name] for name in ("zero_bands", "fill_values", "equal_bands")}
    assert counts == {
        "zero_bands": {"r": 9},
        "fill_values": {-99.0: 3},
        "equal_bands": {"g = r": 2},
    }
    assert len(result.problems) == 3
    assert "band r in 9 of 90 stamps" in result.problems[0]


@pytest.mark.parametrize("bands", [3, 5, 6])
def test_bands_on_the_last_axis_are_remarked(tmp_path, bands):
    rng = np.random.default_rng(0)
    stamps = rng.normal(size=(6, 32, 32, bands)).astype(np.float32)
    catalog = pd.DataFrame({"id": range(6)})
    (problem,) = inspect_survey(stamps, catalog).problems
    assert problem.startswith(f"The stamps of shape (32, 32, {bands}) look channels-last")
    np.save(tmp_path / "stamps.npy", stamps)
    assert inspect_survey(open_stamps(tmp_path / "stamps.npy", axes="nhwc"), catalog).problems == []
    with pytest.warns(UserWarning, match="channels-last"):
        images = open_stamps(tmp_path / "stamps.npy")
    assert inspect_survey(images, catalog).problems == [problem]


@pytest.mark.parametrize("value", ["-99", "99", "-9999", "N/a", "?", -99, 99.0])
def test_labels_that_stand_for_none_are_remarked(value):
    stamps, catalog = make_survey()
    labels = ["star", "galaxy"] if isinstance(value, str) else [0, 1]
    catalog["class"] = np.array([*labels, value], dtype=object)[np.arange(N) % 3].tolist()
    result = inspect_survey(stamps, catalog, label="class")
    name = str(value)
    assert result.problems == [
        f"The class {name!r} (30 rows) seems to stand for no label: make these labels empty."
    ]


def test_labels_without_a_value_are_no_class():
    stamps, catalog = make_survey()
    labels = np.array(["star", "None", "nan", None, " star "], dtype=object)
    catalog["class"] = labels[np.arange(N) % 5]
    result = inspect_survey(stamps, catalog, label="class")
    assert result.classes == {"": 54, "star": 36}
    assert "18 labels have blanks around them" in result.problems[0]
    assert result.notes == [
        "The label column has values that count as no label: 'None' in 18 rows, 'nan' in 18 rows."
    ]
    catalog["class"] = np.array([0, 1, -1])[np.arange(N) % 3]
    assert inspect_survey(stamps, catalog, label="class").classes[""] == 30
    catalog["class"] = np.array([1, -1])[np.arange(N) % 2]
    result = inspect_survey(stamps, catalog, label="class")
    assert (result.classes, result.notes, result.problems) == ({"1": 45, "-1": 45}, [], [])


def test_labels_that_differ_in_case_are_remarked():
    stamps, catalog = make_survey()
    catalog["class"] = np.array(["Star", "star", "galaxy"])[np.arange(N) % 3]
    result = inspect_survey(stamps, catalog, label="class")
    assert "'Star' and 'star' differ only in upper and lower case" in result.problems[0]


FILLS = {
    "half": (np.where(np.arange(N) % 2, -99.0, np.linspace(15, 20, N)), "-99 (45 rows)"),
    "whole numbers": (np.where(np.arange(N) % 2, -1, np.arange(N)), "-1 (45 rows)"),
    "two whole numbers": (np.where(np.arange(N) < 2, -9999, np.arange(N)), "-9999 (2 rows)"),
    "netCDF": (np.where(np.arange(N) < 3, 1e36, np.linspace(0, 1, N)), "1e+36 (3 rows)"),
    "text": (np.array(["None", "a", "b"])[np.arange(N) % 3], "'None' (30 rows)"),
}


@pytest.mark.parametrize("case", FILLS)
def test_values_that_stand_for_missing_ones_are_remarked(case):
    stamps, catalog = make_survey()
    catalog["column"], shown = FILLS[case]
    result = inspect_survey(stamps, catalog)
    assert remarks(result, "column") == f"holds {shown}, which may stand for missing values"


def test_properties_that_are_often_missing_are_problems():
    stamps, catalog = make_survey()
    catalog.loc[:44, "mag_g"] = np.nan
    result = inspect_survey(stamps, catalog, properties=["mag_g", "mag_r"])
    assert result.problems == ["property mag_g: has no value in 50% of the rows."]


def test_positions_that_cannot_be_read_are_a_problem():
    stamps, catalog = make_survey()
    catalog.loc[3, "dec"] = -999
    result = inspect_survey(stamps, catalog)
    assert "The positions cannot be read (dec is -999 in row 3" in result.problems[0]
    with pytest.raises(ValueError, match="dec is -999 in row 3"):
        inspect_survey(stamps, catalog, ra="ra", dec="dec")
    galactic = catalog.rename(columns={"ra": "l", "dec": "b"}).assign(b=10.0)
    galactic.loc[4, "l"] = galactic.loc[5, "l"]
    assert inspect_survey(stamps, galactic).duplicates["sky"] == 1


def test_labels_with_white_space_around_them_are_counted(tmp_path):
    catalog = pd.DataFrame({"id": range(6), "class": ["STAR", "STAR ", " QSO", "QSO", "QSO", "x"]})
    catalog.to_csv(tmp_path / "catalog.csv", index=False)
    images = np.arange(6 * 64.0).reshape(6, 1, 8, 8)
    # a file is read without the white space after its commas
    for table, n_padded in ((catalog, 2), (read_catalog(tmp_path / "catalog.csv"), 1)):
        inspection = inspect_survey(images, table, label="class")
        assert inspection.n_padded_labels == n_padded
        assert inspection.classes == {"QSO": 3, "STAR": 2, "x": 1}
