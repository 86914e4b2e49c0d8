"""The command `skastro audit`."""

import json

import numpy as np
import pandas as pd
import pytest

from skastro import PropertyPretrainedEncoder, read_catalog, write_embeddings
from skastro.cli.app import main


def run(*arguments):
    """Run a command; return its exit code."""
    with pytest.raises(SystemExit) as end:
        main([str(argument) for argument in arguments])
    return end.value.code


@pytest.fixture
def survey(tmp_path):
    """Write embeddings of stars and galaxies, and a table of labels in which one is wrong."""
    rng = np.random.default_rng(0)
    is_star = np.arange(60) % 2 == 0
    values = rng.normal(size=(60, 4)) + 6.0 * is_star[:, None]
    ids = np.array([f"object{i}" for i in range(60)])
    write_embeddings(tmp_path / "embeddings.csv", values, ids)
    labels = pd.DataFrame({"id": ids, "class": np.where(is_star, "star", "galaxy")})
    labels.loc[8, "class"] = "galaxy"
    labels.loc[20:25, "class"] = ""
    labels.to_csv(tmp_path / "labels.csv", index=False)
    return tmp_path


def test_wrong_label_is_written_and_printed(survey, capsys):
    out, labels = survey / "doubtful.csv", ["--labels", survey / "labels.csv"]
    assert run("audit", survey / "embeddings.csv", *labels, "--out", out) == 0
    table = read_catalog(out)
    assert table.columns.tolist() == ["id", "label", "suggested", "probability", "p_label"]
    assert table.iloc[0, :3].tolist() == ["object8", "galaxy", "star"]
    printed = capsys.readouterr().out
    assert "object8" in printed
    assert "of 54 labels another class is more probable" in printed
    assert str(out) in printed


def test_json_counts_the_labels(survey, capsys):
    arguments = [survey / "embeddings.csv", "--labels", survey / "labels.csv", "--json"]
    assert run("audit", *arguments, "--out", survey / "d.parquet") == 0
    result = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert result["labels"] == 54
    assert result["doubtful"] == len(read_catalog(survey / "d.parquet"))
    assert 0 < result["expected_wrong"] < 54


def test_labels_may_stand_in_a_catalogue(survey):
    out = survey / "doubtful.csv"
    catalog = ["--catalog", survey / "labels.csv"]
    assert run("audit", survey / "embeddings.csv", *catalog, "--out", out, "--quiet") == 0
    assert read_catalog(out)["id"].iloc[0] == "object8"


def test_encoder_describes_stamps_and_their_catalogue_has_the_labels(tmp_path):
    rng = np.random.default_rng(0)
    codes = np.arange(60) % 2
    stamps = rng.normal(size=(60, 1, 8, 8)) + 4.0 * codes[:, None, None, None]
    labels = np.where(codes, "star", "galaxy")
    labels[11] = "galaxy"
    folder, file = tmp_path / "survey", tmp_path / "encoder.safetensors"
    folder.mkdir()
    np.save(folder / "stamps.npy", stamps)
    pd.DataFrame({"id": np.arange(100, 160), "class": labels}).to_csv(folder / "catalog.csv")
    PropertyPretrainedEncoder("stamp_resnet10", max_epochs=2, random_state=0).fit(stamps).save(file)
    out = tmp_path / "doubtful.csv"
    assert run("audit", folder, "--encoder", file, "--out", out, "--quiet") == 0
    first = read_catalog(out).iloc[0]
    assert (first["id"], first["suggested"]) == (111, "star")


def test_missing_column_of_labels_is_named(survey, capsys):
    arguments = [survey / "embeddings.csv", "--labels", survey / "labels.csv", "--label", "kind"]
    assert run("audit", *arguments, "--out", survey / "d.csv") == 2
    assert "'kind'" in capsys.readouterr().err
    assert not (survey / "d.csv").exists()
