import numpy as np
import pandas as pd
import pytest

from skastro import inspect_survey, load_folder
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
    assert remarks(result, "err_g") == "holds 1 sentinels such as -999"
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
    assert result.problems[0].startswith("1 of the sampled stamps hold infinite pixels")


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
