"""The command `skastro regress`, and `skastro predict` with what it has saved."""

import json

import numpy as np
import pandas as pd
import pytest

from skastro import SelfSupervisedRegressor
from skastro.cli.app import main
from tests.conftest import make_stamps, tiny_encoder


def run(*arguments):
    with pytest.raises(SystemExit) as stop:
        main([str(argument) for argument in arguments])
    return stop.value.code


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Return a folder with stamps, a catalogue, an encoder and values of half of the objects."""
    folder = tmp_path_factory.mktemp("regress")
    stamps, _, properties = make_stamps(60)
    (folder / "survey").mkdir()
    np.save(folder / "survey" / "stamps.npy", stamps)
    properties.insert(0, "id", np.arange(100, 160))
    properties.to_csv(folder / "survey" / "catalog.csv", index=False)
    values = pd.DataFrame({"id": np.arange(100, 130), "flux": properties["mag_u"][:30] - 16})
    values.loc[3, "flux"] = -1.0  # a number like any other
    values.to_csv(folder / "values.csv", index=False)
    tiny_encoder(targets="measured").fit(stamps).save(folder / "encoder.safetensors")
    return folder


@pytest.fixture(scope="module")
def saved(data):
    path = data / "regressor.safetensors"
    options = ["--labels", data / "values.csv", "--column", "flux", "--save", path]
    options += ["--encoder", data / "encoder.safetensors", "--quiet"]
    assert run("regress", data / "survey", *options, "--out", data / "p.csv") == 0
    return path


def test_all_objects_get_a_number_and_its_error(data, saved):
    table = pd.read_csv(data / "p.csv")
    assert list(table) == ["id", "value", "prediction", "std", "low", "high"]
    assert len(table) == 60
    assert table["value"].notna().sum() == 30
    assert table["value"][3] == -1
    assert (table["low"] < table["prediction"]).all()
    assert (table["prediction"] < table["high"]).all()
    assert SelfSupervisedRegressor.load(saved).probe_.values_[3] == -1


def test_a_saved_regressor_predicts_another_folder(data, saved, tmp_path, capsys):
    out = tmp_path / "n.csv"
    assert run("predict", saved, data / "survey", "--out", out, "--interval", 0.5) == 0
    assert "Predictions:" in capsys.readouterr().out
    table, first = pd.read_csv(out), pd.read_csv(data / "p.csv")
    assert list(table) == ["id", "prediction", "std", "low", "high"]
    np.testing.assert_allclose(table["prediction"], first["prediction"], rtol=1e-6)
    assert (table["high"] < first["high"]).all()


def test_columns_of_the_catalogue_may_be_what_is_learned_and_used(data, tmp_path, capsys):
    out = tmp_path / "p.csv"
    options = ["--column", "mag_u", "--inputs", "mag_g,mag_r", "--json"]
    options += ["--encoder", data / "encoder.safetensors", "--out", out]
    assert run("regress", data / "survey", *options) == 0
    result = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert (result["rows"], result["known"]) == (60, 60)
    assert result["r2"] > 0
    assert result["scatter"] > 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--column", "mag_x"], "column='mag_x' is not a column"),
        (["--column", "size", "--epochs", "3"], "nothing is pretrained: leave out --epochs"),
        (["--column", "class", "--labels", "words.csv"], "holds 'star' in row 0"),
    ],
)
def test_wrong_use_is_one_sentence(data, tmp_path, capsys, monkeypatch, options, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "words.csv").write_text("id,class\n100,star\n101,galaxy\n")
    code = run("regress", data / "survey", *options, "--encoder", data / "encoder.safetensors")
    assert code == 2
    assert message in " ".join(capsys.readouterr().err.split())


def test_sets_are_not_for_numbers(saved, data, tmp_path, capsys):
    out = tmp_path / "n.csv"
    assert run("predict", saved, data / "survey", "--out", out, "--sets", 0.9) == 2
    assert "--sets is for classes" in capsys.readouterr().err


def test_measurements_are_no_classes(data, tmp_path, capsys):
    code = run("classify", data / "survey", "--label", "mag_u", "--out", tmp_path / "p.csv")
    assert code == 2
    assert "predict numbers with `skastro regress`" in " ".join(capsys.readouterr().err.split())
