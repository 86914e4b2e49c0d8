"""The command `skastro explain`, on stamps of stars and galaxies."""

import json

import numpy as np
import pandas as pd
import pytest
from sklearn.frozen import FrozenEstimator

from skastro import SelfSupervisedClassifier
from skastro.cli.app import main


def run(*arguments):
    with pytest.raises(SystemExit) as stop:
        main([str(argument) for argument in arguments])
    return stop.value.code


@pytest.fixture(scope="module")
def data(tmp_path_factory, survey, fitted):
    """Return a folder with a classifier and a data folder."""
    folder = tmp_path_factory.mktemp("explain")
    stamps, labels, _ = survey
    model = SelfSupervisedClassifier(
        FrozenEstimator(fitted), strategy="probe", pretrained=None, random_state=0
    ).fit(stamps, labels)
    model.save(folder / "c.safetensors")
    (folder / "new").mkdir()
    np.save(folder / "new" / "stamps.npy", stamps[:10])
    ids = [str(1237648720693755900 + i) for i in range(10)]
    pd.DataFrame({"id": ids}).to_csv(folder / "new" / "catalog.csv", index=False)
    return folder, ids


def test_reasons_are_printed_written_and_drawn(data, tmp_path, capsys):
    pytest.importorskip("matplotlib")
    (folder, ids), out, figure = data, tmp_path / "e.csv", tmp_path / "e.png"
    files = ["--out", out, "--figure", figure]
    where = [folder / "c.safetensors", folder / "new"]
    assert run("explain", *where, "--ids", f"{ids[7]},{ids[2]}", *files) == 0
    table = pd.read_csv(out, dtype={"id": str})
    assert table["id"].unique().tolist() == [ids[7], ids[2]]
    sums = table.groupby("id", sort=False)[["contribution", "probability"]]
    np.testing.assert_allclose(sums.sum()["contribution"], sums.first()["probability"], atol=1e-4)
    printed = capsys.readouterr().out
    assert f"{ids[7]}: galaxy" in printed
    assert "Figure: " in printed
    assert figure.read_bytes()[:4] == b"\x89PNG"


def test_scripts_get_the_sentences(data, tmp_path, capsys):
    folder, ids = data
    where = [folder / "c.safetensors", folder / "new", "--out", tmp_path / "e.fits"]
    assert run("explain", *where, "--ids", ids[0], "--json") == 0
    result = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert result["sentences"][ids[0]].startswith("star ")


def test_unknown_ids_are_refused(data, tmp_path, capsys):
    folder, ids = data
    where = [folder / "c.safetensors", folder / "new", "--out", tmp_path / "e.csv"]
    assert run("explain", *where, "--ids", f"{ids[0]},5") == 2
    error = " ".join(capsys.readouterr().err.split())
    assert f"--ids names '5': pass ids of the objects to explain, such as {ids[0]}." in error
    assert run("explain", *where) == 2
    assert "--ids is missing" in " ".join(capsys.readouterr().err.split())
