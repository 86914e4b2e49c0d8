"""Stamps in odd files and folders of classes, in every command that reads stamps."""

from __future__ import annotations

import inspect
import json

import numpy as np
import pandas as pd
import pytest
from astropy.io import fits

from skastro import open_stamps, read_catalog
from skastro.cli.app import app, main
from skastro.cli.options import split_bands, split_hdu
from skastro.embeddings.files import read_embeddings
from tests.conftest import make_stamps

pytestmark = pytest.mark.usefixtures("quick_probe", "quick_umap")


def run(*arguments):
    with pytest.raises(SystemExit) as stop:
        main([str(argument) for argument in arguments])
    return stop.value.code


@pytest.fixture(scope="module")
def places(fitted, tmp_path_factory):
    """Return a folder with an encoder, the stamps in odd files, and the embeddings of them."""
    root = tmp_path_factory.mktemp("odd")
    stamps, labels, properties = make_stamps()
    fitted.save(root / "encoder.safetensors")
    table = properties.assign(id=[f"o{i:02d}" for i in range(60)], **{"class": labels})

    # a stack with the bands last, FITS cubes with companions, and a folder for each class
    for name in ("last", "fits", "classes"):
        (root / name).mkdir()
    np.save(root / "last" / "stamps.npy", stamps.transpose(0, 2, 3, 1))
    for name in ("last", "fits"):
        table.to_csv(root / name / "catalog.csv", index=False)
    for stamp, row in zip(stamps, table.itertuples(), strict=True):
        # in the errors are the pixels, and the other way round
        extensions = [fits.ImageHDU(stamp * 0, name="SCI"), fits.ImageHDU(stamp, name="ERR")]
        path = root / "fits" / f"{row.id}.fits"
        fits.HDUList([fits.PrimaryHDU(), *extensions]).writeto(path)
        folder = root / "classes" / table.loc[row.Index, "class"]
        folder.mkdir(exist_ok=True)
        np.save(folder / f"{row.Index // 2}.npy", stamp)
    return root


ODD = {"last": ["--axes", "nhwc"], "fits": ["--hdu", "ERR"]}


def test_hdus_and_bands_are_read_from_text():
    assert [split_hdu(text) for text in ("0", "SCI", "1,2", "SCI, ERR", "SCI,2")] == [
        0, "SCI", [1, 2], ["SCI", "ERR"], ("SCI", 2),
    ]  # fmt: skip
    assert [split_bands(text) for text in ("gri", "g,r", "F814W,")] == [
        "gri",
        ["g", "r"],
        ["F814W"],
    ]


@pytest.mark.parametrize("name", ODD)
def test_check_reads_stamps_with_the_options(places, name, capsys):
    options = ["--label", "class", "--bands", "gri", *ODD[name], "--json", "--quiet"]
    assert run("check", places / name, *options) == 0
    result = json.loads(capsys.readouterr().out)
    stamps = result["stamps"]
    assert (stamps["n"], stamps["bands"], stamps["height"]) == (60, 3, 8)
    assert stamps["band_names"] == ["g", "r", "i"]
    assert stamps["empty"] == 0


@pytest.mark.parametrize("name", ODD)
def test_embed_pretrain_and_classify_read_stamps_with_the_options(places, name, fitted, tmp_path):
    out = tmp_path / "e.npz"
    options = ODD[name]
    assert run("embed", places / "encoder.safetensors", places / name, "--out", out, *options) == 0
    expected = fitted.transform(make_stamps()[0])
    np.testing.assert_allclose(read_embeddings(out).values, expected, atol=1e-4)

    out, tiny = tmp_path / "e.safetensors", ["--epochs", "1", "--backbone", "stamp_resnet10"]
    assert run("pretrain", places / name, "--out", out, *tiny, *options) == 0
    assert out.is_file()

    out, encoder = tmp_path / "p.csv", ["--encoder", places / "encoder.safetensors"]
    encoder += ["--strategy", "probe"]
    assert run("classify", places / name, "--out", out, *encoder, *options) == 0
    assert len(pd.read_csv(out)) == 60


@pytest.mark.parametrize("name", ODD)
@pytest.mark.parametrize("command", ["cluster", "suggest", "explore"])
def test_commands_that_embed_a_folder_read_it_with_the_options(places, name, command, tmp_path):
    pytest.importorskip("bokeh")
    out = tmp_path / ("page.html" if command == "explore" else "table.csv")
    options = ["--encoder", places / "encoder.safetensors", *ODD[name]]
    options += ["--method", "pca"] if command == "explore" else []
    assert run(command, places / name, "--out", out, *options) == 0
    assert out.is_file()


def test_companions_are_named_once(places, capsys):
    assert run("check", places / "fits", "--label", "class") == 0
    printed = capsys.readouterr()
    assert (printed.out + printed.err).count("not bands") == 1


def test_wrong_options_end_in_one_sentence(places, capsys):
    for options, words in (
        (["--axes", "nhw"], "names 3 axes"),
        (["--axes", "abc"], "must have the letters"),
        (["--bands", "gr"], "bands names 2 bands"),
    ):
        assert run("check", places / "last", *options) == 2
        message = capsys.readouterr().err.strip()
        assert words in message.replace("\n", " ")
    assert run("check", places / "fits", "--hdu", "VAR") == 2
    assert "no extension 'VAR': choose one of 0 PRIMARY, 1 SCI" in capsys.readouterr().err


@pytest.mark.parametrize("how", ["folder", "--images"])
def test_folders_of_classes_are_checked_and_classified(places, how, tmp_path, capsys):
    where = [places / "classes"] if how == "folder" else ["--images", places / "classes"]
    assert run("check", *where, "--label", "class", "--json", "--quiet") == 0
    result = json.loads(capsys.readouterr().out)
    assert result["classes"] == {"galaxy": 30, "star": 30}

    out = tmp_path / "p.csv"
    encoder = ["--encoder", places / "encoder.safetensors", "--strategy", "probe"]
    assert run("classify", *where, *encoder, "--out", out) == 0
    table = read_catalog(out, id="id").set_index("id")
    assert set(table.index) == set(open_stamps(places / "classes").ids)
    assert (table.index.str.partition("/").get_level_values(0) == table["label"]).all()


@pytest.mark.slow
def test_folders_of_classes_are_studied(places, tmp_path):
    options = ["--label", "class", "--quick", "--label-counts", "8,16", "--repeats", "1"]
    options += ["--epochs", "1", "--backbone", "stamp_resnet10"]
    assert run("study", places / "classes", *options, "--out", tmp_path / "out") == 0
    assert (tmp_path / "out" / "index.html").is_file()


def test_commands_that_open_stamps_share_their_options():
    shared = {"images", "bands", "hdu", "axes", "missing_bands"}
    commands = {command.callback.__name__: command for command in app.registered_commands}
    opening = {"study", "check", "pretrain", "embed", "classify", "predict", "label", "similar"}
    for name in opening:
        options = set(inspect.signature(commands[name].callback).parameters)
        assert shared <= options, f"{name} lacks {shared - options}"


def test_objects_that_lack_a_band_are_read_if_asked(tmp_path, capsys):
    rng = np.random.default_rng(0)
    for row in range(30):
        for band in "gr" if row else "g":
            np.save(tmp_path / f"o{row}_{band}.npy", rng.normal(size=(8, 8)))
    pd.DataFrame({"id": [f"o{row}" for row in range(30)], "mag_r": np.arange(30.0)}).to_csv(
        tmp_path / "c.csv", index=False
    )
    pattern = tmp_path / "{id}_{band}.npy"
    options = ["--catalog", tmp_path / "c.csv", "--images", pattern, "--bands", "gr", "--quiet"]
    assert run("check", *options) == 2
    assert "nan" in capsys.readouterr().err
    assert run("check", *options, "--json", "--missing-bands", "nan") == 0
    stamps = json.loads(capsys.readouterr().out)["stamps"]
    assert stamps["missing_pixels"] == pytest.approx(1 / 60, rel=1e-3)


def test_check_compares_stamps_with_those_of_an_encoder(places, capsys):
    folder, encoder = places / "last", places / "encoder.safetensors"
    options = ["--axes", "nhwc", "--encoder", encoder]
    assert run("check", folder, *options) == 0
    out = capsys.readouterr().out
    assert "60 stamps beside those that" in " ".join(out.split())
    assert "noise: looks alike." in out
    assert run("check", folder, *options, "--json", "--quiet") == 0
    lines = json.loads(capsys.readouterr().out)["encoder"]
    assert [line["line"] for line in lines][:3] == ["bands", "pixel scale", "seeing"]
    assert lines[-1]["verdict"] == "looks alike"  # predictions, as in the catalogue
