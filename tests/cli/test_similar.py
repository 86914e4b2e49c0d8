"""The command `skastro similar`, on stamps of two kinds."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest

import skastro.catalogs.samp
from skastro import read_catalog, write_embeddings
from skastro.cli.app import main

IDS = [str(1237648720693755900 + i) for i in range(12)]


def run(*arguments):
    with pytest.raises(SystemExit) as stop:
        main([str(argument) for argument in arguments])
    return stop.value.code


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Return a folder with embeddings, a catalogue and stamps; even rows are alike."""
    folder = tmp_path_factory.mktemp("similar")
    rng = np.random.default_rng(0)
    kind = np.arange(12) % 2
    values = rng.normal(size=(12, 4)) * 0.2 + np.where(kind, 1, -1)[:, None] * [1, -1, 1, 1]
    write_embeddings(folder / "e.csv", values, IDS)
    catalog = {"id": IDS, "class": np.where(kind, "galaxy", "star"), "rank": np.arange(12.0)}
    pd.DataFrame(catalog).to_csv(folder / "catalog.csv", index=False)
    np.save(folder / "stamps.npy", rng.normal(size=(12, 3, 16, 16)).astype(np.float32))
    return folder


def test_the_table_has_similar_objects_and_their_columns(data, tmp_path, capsys):
    out, where = tmp_path / "s.csv", ["--catalog", data / "catalog.csv"]
    to = f"{IDS[1]},{IDS[4]}"
    assert run("similar", data / "e.csv", "--to", to, "-k", 3, *where, "--out", out) == 0
    table = pd.read_csv(out, dtype={"query": str, "id": str})
    names = ["query", "rank", "id", "similarity", "class", "predicted_rank"]
    assert table.columns.tolist() == names
    assert table["query"].tolist() == [IDS[1]] * 3 + [IDS[4]] * 3
    assert table["class"].tolist() == ["galaxy"] * 3 + ["star"] * 3
    assert not set(table["id"]) & {IDS[1], IDS[4]} - {IDS[4]}
    assert "Similar objects: " in capsys.readouterr().out


def test_a_figure_shows_the_stamps(data, tmp_path):
    pytest.importorskip("matplotlib")
    figure = tmp_path / "s.png"
    stamps = ["--images", data / "stamps.npy", "--catalog", data / "catalog.csv"]
    files = ["--figure", figure, "--out", tmp_path / "s.fits", "--label", "class"]
    assert run("similar", data / "e.csv", "--to", IDS[0], *stamps, *files) == 0
    assert figure.read_bytes()[:4] == b"\x89PNG"
    assert len(read_catalog(tmp_path / "s.fits")) == 10


def test_a_data_folder_is_embedded_and_compared_by_properties_too(tmp_path, fitted):
    folder = tmp_path / "survey"
    folder.mkdir()
    stamps = np.random.default_rng(1).normal(size=(12, *fitted.image_shape_)).astype(np.float32)
    stamps[7] = stamps[3]
    np.save(folder / "stamps.npy", stamps)
    pd.DataFrame({"id": IDS}).to_csv(folder / "catalog.csv", index=False)
    fitted.save(tmp_path / "e.safetensors")
    options = ["--encoder", tmp_path / "e.safetensors", "--out", tmp_path / "s.csv"]
    assert run("similar", folder, *options, "--to", IDS[3], "-k", 1) == 0
    table = pd.read_csv(tmp_path / "s.csv", dtype=str)
    assert table["id"].tolist() == [IDS[7]]
    assert float(table["similarity"][0]) == pytest.approx(1, abs=1e-4)


@pytest.mark.parametrize("form", ["folder", "file"])
def test_new_stamps_find_their_copies(tmp_path, fitted, form):
    pytest.importorskip("matplotlib")
    stamps = np.random.default_rng(2).normal(size=(12, *fitted.image_shape_)).astype(np.float32)
    for folder in ("survey", "new"):
        (tmp_path / folder).mkdir()
    np.save(tmp_path / "survey" / "stamps.npy", stamps)
    pd.DataFrame({"id": IDS}).to_csv(tmp_path / "survey" / "catalog.csv", index=False)
    if form == "folder":
        for name, row in (("b", 8), ("a", 5)):
            np.save(tmp_path / "new" / f"{name}.npy", stamps[row])
    else:
        np.save(tmp_path / "new.npy", stamps[[5, 8]])
    new, queries = (tmp_path / "new", ["a", "b"]) if form == "folder" else (
        tmp_path / "new.npy", ["0", "1"]
    )  # fmt: skip
    fitted.save(tmp_path / "e.safetensors")
    options = ["--encoder", tmp_path / "e.safetensors", "--to-images", new, "-k", 2, "--overwrite"]

    # by embedding and properties, with a figure
    files = ["--out", tmp_path / "s.csv", "--figure", tmp_path / "s.png"]
    assert run("similar", tmp_path / "survey", *options, *files) == 0
    table = pd.read_csv(tmp_path / "s.csv", dtype=str)
    assert table["query"].tolist() == np.repeat(queries, 2).tolist()
    assert table["id"][::2].tolist() == [IDS[5], IDS[8]]
    np.testing.assert_allclose(table["similarity"][::2].astype(float), 1, atol=1e-4)
    assert (tmp_path / "s.png").read_bytes()[:4] == b"\x89PNG"

    # by embeddings that were saved
    write_embeddings(tmp_path / "e.csv", fitted.transform(stamps), IDS)
    assert run("similar", tmp_path / "e.csv", *options, "--out", tmp_path / "s.csv") == 0
    table = pd.read_csv(tmp_path / "s.csv", dtype=str)
    assert table["id"][::2].tolist() == [IDS[5], IDS[8]]


def test_the_table_is_sent_by_samp(data, tmp_path, monkeypatch, capsys):
    sent = []

    def send(table, name):
        sent.append((table, name))
        return ["TOPCAT"]

    monkeypatch.setattr(skastro.catalogs.samp, "send_table", send)
    out = ["--out", tmp_path / "s.csv", "--samp", "--json"]
    assert run("similar", data / "e.csv", "--to", IDS[0], "-k", 2, *out) == 0
    result = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert (result["rows"], result["programs"]) == (2, ["TOPCAT"])
    [(table, name)] = sent
    assert (len(table), name) == (2, "s.csv")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--to", "17"], "--to names '17': pass ids of"),
        (["--to", ","], "--to names nothing"),
        (["--to", IDS[0], "--figure", "s.png"], "--figure needs stamps: add --images"),
        (["--to", IDS[0], "--figure", "s.html"], "must end in"),
        (["--to", IDS[0], "--label", "class"], "pass the catalogue too"),
        (["--to", IDS[0], "-k", "0"], "-k"),
        (["--to", IDS[0], "--encoder", "e", "--images", "s.npy"], "--images is for embeddings"),
        ([], "--to"),
        (["--to", IDS[0], "--to-images", "s.npy"], "--to-images"),
        (["--to-images", "s.npy"], "--to-images needs the encoder of the embeddings"),
    ],
)
def test_wrong_options_are_one_sentence(data, tmp_path, monkeypatch, capsys, arguments, words):
    monkeypatch.chdir(tmp_path)
    assert run("similar", data / "e.csv", *arguments) == 2
    error = capsys.readouterr().err
    assert words in error
    assert error.count("\n") == 1
    assert list(tmp_path.iterdir()) == []
