import numpy as np
import pandas as pd
import pytest

from skastro.study.data import load_data
from tests.study.conftest import read


def test_errors_come_in_the_order_of_the_properties(folder):
    data = load_data(folder, label="class", properties=["mag_r", "mag_g"], errors=["err_*"])
    assert data.properties.columns.tolist() == ["mag_r", "mag_g"]
    assert np.isnan(data.errors[:, 0]).all()
    assert (data.errors[:, 1] == 0.2).all()


def test_two_files_are_read_like_a_folder(folder):
    data = load_data(
        catalog=folder / "catalog.csv", images=folder / "stamps.npy", label="class"
    )  # fmt: skip
    assert data.images.shape == (60, 3, 8, 8)
    assert data.ids[0] == "1237648720693755918"
    np.testing.assert_array_equal(data.labels, read(folder).labels)


def test_positions_are_kept_for_links_and_impossible_ones_are_not(folder, tmp_path):
    sky = read(folder).sky
    assert sky.ra.deg[3] == pytest.approx(150.4234567)
    catalog = pd.read_csv(folder / "catalog.csv", dtype={"id": str}).assign(dec=-999.0)
    catalog.to_csv(tmp_path / "catalog.csv", index=False)
    stamps = folder / "stamps.npy"
    assert load_data(catalog=tmp_path / "catalog.csv", images=stamps, label="class").sky is None


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "label is missing.*mag_u"),
        ({"label": "klass"}, "did you mean class"),
        ({"label": "class", "groups": "nothing"}, "groups='nothing'"),
        ({"label": "class", "errors": ["err_*"]}, "errors needs properties"),
        ({"label": "class", "catalog": "x.csv"}, "not both"),
        ({"label": "class", "groups": "class"}, "groups has no value in row 2"),
    ],
)
def test_unusable_columns_are_explained(folder, options, message):
    with pytest.raises(ValueError, match=message):
        load_data(folder, **options)


def test_files_that_do_not_fit_are_explained(folder, tmp_path):
    catalog = folder / "catalog.csv"
    np.save(tmp_path / "few.npy", np.zeros((3, 1, 8, 8)))
    with pytest.raises(ValueError, match="images is missing"):
        load_data(catalog=catalog)
    with pytest.raises(FileNotFoundError, match="does not exist"):
        load_data(catalog=catalog, images=tmp_path / "none.npy")
    with pytest.raises(ValueError, match=r"60 rows .* 3 stamps"):
        load_data(catalog=catalog, images=tmp_path / "few.npy", label="class")


def test_without_a_folder_a_survey_is_simulated(monkeypatch, tmp_path):
    pytest.importorskip("galsim")
    monkeypatch.setenv("SKASTRO_CACHE", str(tmp_path))
    data = load_data(n_objects=100, random_state=1)
    assert data.properties.columns.tolist() == [f"mag_{band}" for band in "ugrizy"]
    assert data.errors.shape == (100, 6)
    assert set(data.labels) >= {"star", "galaxy"}
