"""The commands end to end, on a survey of 60 stamps."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
import torch

import skastro.cli.steps
from skastro import (
    PropertyPretrainedEncoder,
    SelfSupervisedClassifier,
    embed_survey,
    load_pretrained,
    make_galaxies,
    read_catalog,
)
from skastro.catalogs import writing
from skastro.cli import steps
from skastro.cli.app import main
from skastro.embeddings.files import read_embeddings
from skastro.networks import training
from tests.conftest import make_stamps, tiny_encoder

TINY = ["--backbone", "stamp_resnet10", "--epochs", "1"]


@pytest.fixture(scope="session")
def data(survey, fitted, tmp_path_factory):
    """Return a folder with a data folder, an encoder, embeddings and labels."""
    stamps, labels, properties = survey
    root = tmp_path_factory.mktemp("commands")
    folder = root / "survey"
    folder.mkdir()
    catalog = properties.assign(err_u=0.1, err_g=0.1)
    catalog.insert(0, "id", 1237648720693755900 + np.arange(60))
    catalog["class"] = labels
    catalog["field"] = np.arange(60) // 2
    catalog.to_csv(folder / "catalog.csv", index=False)
    np.save(folder / "stamps.npy", stamps)
    catalog.loc[::3, ["id", "class"]].to_csv(root / "labels.csv", index=False)
    fitted.save(root / "encoder.safetensors")
    return root


@pytest.fixture
def embedded(data):
    path = data / "embeddings.parquet"
    if not path.exists():
        assert run("embed", data / "encoder.safetensors", data / "survey", "--out", path) == 0
    return path


def run(*arguments):
    with pytest.raises(SystemExit) as stop:
        main([str(argument) for argument in arguments])
    return stop.value.code


def events(capsys):
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def test_pretraining_saves_an_encoder_and_prints_its_quality(data, tmp_path, capsys):
    out = tmp_path / "e.safetensors"
    options = ["--properties", "mag_*", "--errors", "err_*", *TINY, "--hold-out", "0.2"]
    assert run("pretrain", data / "survey", *options, "--label", "class", "--out", out) == 0
    printed = capsys.readouterr().out
    for text in ("12 stamps held out", "mag_g", "r2", "scatter", f"Encoder: {out}"):
        assert text in printed.replace("\n", " ")
    encoder = PropertyPretrainedEncoder.load(out)
    assert {"mag_u", "mag_g", "mag_r"} <= set(encoder.property_names_)
    assert encoder.max_epochs == 1


def test_the_same_seed_gives_the_same_encoder(data, tmp_path):
    for name in "ab":
        out = tmp_path / f"{name}.safetensors"
        images = data / "survey" / "stamps.npy"
        assert run("pretrain", "--images", images, *TINY, "--seed", 3, "--quiet", "--out", out) == 0
    a, b = (
        PropertyPretrainedEncoder.load(tmp_path / f"{name}.safetensors").network_.state_dict()
        for name in "ab"
    )
    assert all(bool((a[key] == b[key]).all()) for key in a)


def test_pretraining_resumes_from_its_checkpoint(data, monkeypatch, tmp_path, capsys):
    save = training._CheckpointCallback._write

    def interrupted(*args):
        save(*args)
        raise KeyboardInterrupt

    arguments = ["pretrain", "--images", data / "survey" / "stamps.npy", "--quiet", *TINY]
    arguments += ["--epochs", 2, "--checkpoint-dir", tmp_path / "c"]
    arguments += ["--out", tmp_path / "e.safetensors"]
    with monkeypatch.context() as patch:
        patch.setattr(training._CheckpointCallback, "_write", interrupted)
        assert run(*arguments) == 130
    assert [path.name for path in tmp_path.rglob("*")] == ["c", "training.safetensors"]
    assert run(*arguments, "--seed", 5) == 2
    assert "with random_state=0, and this one has 5: delete" in capsys.readouterr().err
    assert run(*arguments) == 0
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["c", "e.safetensors"]
    assert len(PropertyPretrainedEncoder.load(tmp_path / "e.safetensors").history_) == 2


@pytest.mark.parametrize("ending", [".parquet", ".fits", ".vot", ".csv"])
def test_predicted_properties_are_those_of_the_encoder(data, survey, fitted, tmp_path, ending):
    out = tmp_path / f"p{ending}"
    options = ["--out", tmp_path / "e.npy", "--predicted", out, "--quiet"]
    assert run("embed", data / "encoder.safetensors", data / "survey", *options) == 0
    table = read_catalog(out)
    assert table["id"].tolist() == [str(1237648720693755900 + i) for i in range(60)]
    np.testing.assert_allclose(
        table[list(fitted.targets_.names)], fitted.predict(survey[0]), rtol=1e-4, atol=1e-4
    )


def test_encoders_are_exported(data, tmp_path, capsys):
    runtime = pytest.importorskip("onnxruntime")
    out = tmp_path / "encoder.onnx"
    arguments = ["export", data / "encoder.safetensors", "--out", out, "--bands", "u,g,r", "--json"]
    assert run(*arguments) == 0
    assert events(capsys)[-1] == {"event": "result", "out": str(out), "bytes": out.stat().st_size}
    metadata = runtime.InferenceSession(out).get_modelmeta().custom_metadata_map
    assert json.loads(metadata["bands"]) == ["u", "g", "r"]
    assert run(*arguments) == 2
    assert "is there already" in capsys.readouterr().out


@pytest.mark.parametrize("ending", [".parquet", ".fits", ".csv", ".npz", ".npy"])
def test_embeddings_are_those_of_the_encoder(data, survey, fitted, tmp_path, ending):
    out = tmp_path / f"e{ending}"
    arguments = ["embed", data / "encoder.safetensors", data / "survey", "--out", out, "--quiet"]
    assert run(*arguments) == 0
    embeddings = read_embeddings(out)
    np.testing.assert_allclose(embeddings.values, fitted.transform(survey[0]), atol=1e-5)
    if ending != ".npy":
        assert embeddings.ids.astype(str)[2] == "1237648720693755902"
    assert [path.name for path in tmp_path.iterdir()] == [out.name]


def test_embedding_resumes_where_it_was_interrupted(data, monkeypatch, tmp_path, capsys):
    monkeypatch.setitem(embed_survey.__kwdefaults__, "chunk", 16)
    out = tmp_path / "e.npz"
    arguments = ["embed", data / "encoder.safetensors", data / "survey", "--out", out]
    embed, seen = PropertyPretrainedEncoder.transform, []

    def interrupted(self, images):
        seen.append(len(images))
        if len(seen) == 3:
            raise KeyboardInterrupt
        return embed(self, images)

    monkeypatch.setattr(PropertyPretrainedEncoder, "transform", interrupted)
    assert run(*arguments) == 130
    assert "32 of 60 stamps are embedded; run it again to go on" in capsys.readouterr().err
    (partial,) = tmp_path.iterdir()
    assert partial.name == "e.npz.chunks.partial"
    (partial / ".7.part-0000002.npz").write_bytes(b"half a chunk")
    assert run(*arguments) == 0
    assert seen == [16, 16, 16, 16, 12]
    assert [path.name for path in tmp_path.iterdir()] == ["e.npz"]
    monkeypatch.undo()
    whole = tmp_path / "whole.npz"
    assert run(*arguments[:-1], whole) == 0
    np.testing.assert_allclose(
        read_embeddings(out).values, read_embeddings(whole).values, atol=1e-5
    )


def test_chunks_of_another_encoder_are_computed_again(data, survey, fitted, tmp_path):
    out = tmp_path / "e.npz"
    other = tiny_encoder(random_state=1).fit(survey[0], properties=survey[2])
    embed_survey(other, data / "survey" / "stamps.npy", tmp_path / "e.npz.chunks", progress=False)
    arguments = ["embed", data / "encoder.safetensors", data / "survey", "--out", out, "--quiet"]
    assert run(*arguments) == 0
    np.testing.assert_allclose(read_embeddings(out).values, fitted.transform(survey[0]), atol=1e-5)
    assert [path.name for path in tmp_path.iterdir()] == ["e.npz"]


def test_classes_probabilities_and_abstentions_are_predicted(data, tmp_path, capsys):
    out = tmp_path / "p.fits"
    encoder = ["--encoder", data / "encoder.safetensors", "--strategy", "probe"]
    labels = ["--labels", data / "labels.csv", "--abstain", 0.9]
    assert run("classify", data / "survey", *encoder, *labels, "--out", out) == 0
    printed = capsys.readouterr().out
    assert "Balanced accuracy of the probe, each label predicted from all others" in printed
    table = read_catalog(out)
    assert len(table) == 60
    assert (table["label"].fillna("") != "").sum() == 20
    np.testing.assert_allclose(table["p_star"] + table["p_galaxy"], 1.0)
    sure = table["probability"] >= 0.9
    assert 0 < sure.sum() < 60
    assert (table["prediction"].fillna("") != "").tolist() == sure.tolist()
    truth = read_catalog(data / "survey" / "catalog.csv")["class"]
    assert (table["most_probable"] == truth).mean() > 0.7


def test_columns_of_the_catalogue_help_to_classify(data, tmp_path):
    encoder = ["--encoder", data / "encoder.safetensors", "--strategy", "probe", "--quiet"]
    where = ["classify", data / "survey", "--labels", data / "labels.csv", *encoder]
    catalog = read_catalog(data / "survey" / "catalog.csv")
    assert run(*where, "--out", tmp_path / "alone.csv") == 0
    assert run(*where, "--inputs", "size,mag_?", "--out", tmp_path / "both.csv") == 0
    alone, both = (pd.read_csv(tmp_path / name) for name in ("alone.csv", "both.csv"))
    assert not np.allclose(alone["p_star"], both["p_star"])
    assert (both["most_probable"] == catalog["class"]).mean() > 0.9


def test_without_an_encoder_one_is_pretrained_and_saved(data, tmp_path, capsys):
    out, saved = tmp_path / "p.csv", tmp_path / "e.safetensors"
    options = ["--strategy", "probe", "--properties", "mag_*", *TINY, "--save-encoder", saved]
    assert run("classify", data / "survey", *options, "--out", out, "--json") == 0
    assert PropertyPretrainedEncoder.load(saved).max_epochs == 1
    lines = events(capsys)
    assert lines[-1]["event"] == "result"
    assert (lines[-1]["rows"], lines[-1]["labelled"]) == (60, 60)
    stages = [line["stage"] for line in lines if line["event"] == "progress"]
    assert "pretraining" in stages
    assert "classifying" in stages


@pytest.fixture(scope="session")
def saved(data):
    """Return the file of a classifier that has learned from the stamps and from magnitudes."""
    path = data / "classifier.safetensors"
    options = ["--encoder", data / "encoder.safetensors", "--strategy", "probe", "--quiet"]
    options += ["--labels", data / "labels.csv", "--inputs", "mag_?", "--save", path]
    assert run("classify", data / "survey", *options, "--out", data / "p.csv") == 0
    return path


@pytest.fixture(scope="session")
def new_survey(data):
    """Return a folder with 40 stamps and their catalogue, without any label."""
    folder = data / "new"
    folder.mkdir()
    stamps, labels, properties = make_stamps(40, seed=7)
    np.save(folder / "stamps.npy", stamps)
    properties.insert(0, "id", np.arange(500, 540))
    properties.to_csv(folder / "catalog.csv", index=False)
    return folder, stamps, labels, properties


def test_labels_of_one_folder_serve_another(saved, new_survey, tmp_path, capsys):
    folder, stamps, labels, properties = new_survey
    out = tmp_path / "p.csv"
    assert run("predict", saved, folder, "--out", out, "--abstain", 0.7) == 0
    printed = " ".join(capsys.readouterr().out.split())
    assert "Predicted from the stamps and mag_u, mag_g, mag_r." in printed
    assert f"Predictions: {out}" in printed
    table = pd.read_csv(out, keep_default_na=False)
    assert list(table) == [
        "id", "prediction", "most_probable", "probability", "p_galaxy", "p_star",
    ]  # fmt: skip
    assert table["id"].tolist() == list(range(500, 540))
    assert (table["most_probable"] == labels).mean() > 0.85
    assert ((table["prediction"] == "") == (table["probability"] < 0.7)).all()
    model = SelfSupervisedClassifier.load(saved)
    expected = model.predict_proba(stamps, catalog=properties[["mag_u", "mag_g", "mag_r"]])
    np.testing.assert_allclose(table[["p_galaxy", "p_star"]], expected, rtol=1e-6)


@pytest.mark.filterwarnings("ignore:90% of a class")
def test_sets_of_classes_are_a_column(saved, new_survey, tmp_path, data, capsys):
    folder, stamps, _, properties = new_survey
    out = tmp_path / "p.csv"
    assert run("predict", saved, folder, "--out", out, "--sets", 0.9) == 0
    table = pd.read_csv(out, keep_default_na=False)
    assert list(table)[3:5] == ["probability", "set"]
    model = SelfSupervisedClassifier.load(saved)
    columns = properties[["mag_u", "mag_g", "mag_r"]]
    expected = model.predict_set(stamps, coverage=0.9, catalog=columns)
    assert table["set"].tolist() == ["|".join(model.classes_[row]) for row in expected]
    capsys.readouterr()
    where = ["classify", data / "survey", "--encoder", data / "encoder.safetensors", "--sets", 0.9]
    assert run(*where, "--strategy", "finetune", "--out", tmp_path / "c.csv") == 2
    assert "--sets needs predictions of labels that were left out" in capsys.readouterr().err


@pytest.mark.parametrize("where", ["--images", "folder", "files"])
def test_predictions_need_no_catalogue(saved, new_survey, tmp_path, capsys, where):
    _, stamps, _, _ = new_survey
    folder = tmp_path / "stamps"
    folder.mkdir()
    arguments = [folder] if where == "folder" else ["--images", folder]
    np.save(folder / "stamps.npy", stamps)
    if where == "--images":
        arguments = ["--images", folder / "stamps.npy"]
    if where == "files":
        (folder / "stamps.npy").unlink()
        for number, stamp in enumerate(stamps):
            np.save(folder / f"s{number:02}.npy", stamp)
    assert run("predict", saved, *arguments, "--out", tmp_path / "p.fits", "--json") == 0
    lines = events(capsys)
    said = " ".join(line["text"] for line in lines if line["event"] == "message")
    assert "no column mag_u, mag_g, mag_r" in said
    assert "it predicts from the stamps alone" in said
    assert (lines[-1]["event"], lines[-1]["rows"]) == ("result", 40)
    table = read_catalog(tmp_path / "p.fits")
    if where == "files":
        assert table["id"].tolist()[:2] == ["s00", "s01"]
    expected = SelfSupervisedClassifier.load(saved).predict_proba(stamps)
    np.testing.assert_allclose(table[["p_galaxy", "p_star"]], expected, rtol=1e-5)


def test_a_missing_column_of_the_classifier_is_named(saved, new_survey, tmp_path, capsys):
    folder, _, _, properties = new_survey
    properties.drop(columns="mag_g").to_csv(tmp_path / "c.csv", index=False)
    where = ["--catalog", tmp_path / "c.csv", "--images", folder / "stamps.npy"]
    assert run("predict", saved, *where, "--out", tmp_path / "p.csv") == 2
    assert "the catalogue has no column 'mag_g', from which" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["c.csv"]


@pytest.mark.slow
def test_the_command_classifies_in_a_process_of_its_own(saved, new_survey, tmp_path):
    code = "from skastro.cli.app import main; main()"
    command = [sys.executable, "-c", code, "predict", str(saved), str(new_survey[0])]
    result = subprocess.run(  # noqa: S603 - our own interpreter and code
        command, cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert "Predictions: predictions.csv" in result.stdout
    assert len(pd.read_csv(tmp_path / "predictions.csv")) == 40


def test_auto_says_what_it_chose(data, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("skastro.estimators.classifier._MAX_STEPS", 4)
    monkeypatch.setattr("skastro.probes.cross_validation._LOOK_DEVIATIONS", np.inf)
    options = ["--encoder", data / "encoder.safetensors", "--json", "--out", tmp_path / "p.csv"]
    assert run("classify", data / "survey", *options) == 0
    lines = events(capsys)
    assert "3-fold cross-validation of 60 labels" in lines[-1]["choice"]
    assert {"event": "message", "text": lines[-1]["choice"]} in lines
    stages = [line["stage"] for line in lines if line["event"] == "progress"]
    assert "training fold 2 of 3" in stages


COMMANDS_WITH_DEVICE = {
    "study": ["--label", "class"], "pretrain": [], "classify": [], "cluster": [], "explore": [],
    "suggest": [], "embed": None, "predict": None,
}  # fmt: skip


@pytest.mark.parametrize("device", ["gpu", "cuda:77"])
@pytest.mark.parametrize("command", COMMANDS_WITH_DEVICE)
def test_a_device_that_is_not_there_is_refused_before_data_are_read(
    command, device, tmp_path, capsys
):
    options = COMMANDS_WITH_DEVICE[command]
    file = [] if options is not None else [tmp_path / "nothing"]
    arguments = [*file, tmp_path / "no folder", *(options or []), "--device", device]
    out = tmp_path / ("out" if command == "study" else "out.html" if command == "explore" else "")
    arguments += ["--out", out] if out != tmp_path else []
    assert run(command, *arguments) == 2
    error = capsys.readouterr().err
    assert f"Error: device={device!r} is not there: this machine has 'cpu'" in error
    assert error.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("command", ["study", "pretrain", "classify"])
def test_a_backbone_that_does_not_exist_is_refused_before_data_are_read(command, tmp_path, capsys):
    arguments = [tmp_path / "nothing", "--backbone", "hf-hub:timm/resnet18", "--label", "class"]
    arguments += ["--out", tmp_path / "out"] if command == "study" else []
    assert run(command, *arguments) == 2
    assert "pass 'resnet18', its name in timm" in capsys.readouterr().err


def test_suggestions_come_back_as_labels(data, embedded, tmp_path, capsys):
    out = tmp_path / "s.csv"
    labels = ["--labels", data / "labels.csv"]
    assert run("suggest", embedded, *labels, "-n", 6, "--out", out) == 0
    assert "6 objects to label" in capsys.readouterr().out
    table = read_catalog(out)
    assert table.columns.tolist() == ["id", "class"]
    assert table["class"].isna().all()
    labelled = set(read_catalog(data / "labels.csv")["id"])
    assert not labelled & set(table["id"])
    truth = read_catalog(data / "survey" / "catalog.csv").set_index("id")["class"]
    table["class"] = truth[table["id"]].to_numpy()
    table.to_csv(out, index=False)
    again = tmp_path / "again.csv"
    assert run("suggest", embedded, *labels, "--labels", out, "-n", 40, "--out", again) == 0
    assert len(read_catalog(again)) == 34
    assert not set(read_catalog(again)["id"]) & (labelled | set(table["id"]))


def test_suggestions_without_labels_are_one_of_each_group(data, embedded, tmp_path):
    out = tmp_path / "s.csv"
    catalog = data / "survey" / "catalog.csv"
    columns = ["--catalog", catalog, "--label", "kind", "--groups", "field"]
    assert run("suggest", embedded, *columns, "-n", 60, "--out", out) == 0
    assert len(read_catalog(out)) == 30


def test_clusters_are_written_and_summarised(data, embedded, tmp_path, capsys):
    out = tmp_path / "c.parquet"
    catalog = ["--catalog", data / "survey" / "catalog.csv", "--label", "class"]
    described = tmp_path / "summary.csv"
    options = ["--min-size", 5, "--summary", described, "--out", out]
    assert run("cluster", embedded, *catalog, *options) == 0
    table = read_catalog(out)
    assert table.columns.tolist() == ["id", "cluster", "probability", "outlier_score"]
    assert len(table) == 60
    printed = capsys.readouterr().out
    assert "objects are noise" in printed
    assert "purity" in printed
    assert "Medians of the properties that differ most" in printed
    assert "No room" not in printed
    summary = pd.read_csv(described)
    assert summary["size"].sum() == 60
    assert "median_mag_g" in summary


def test_printed_medians_describe_the_objects():
    rng = np.random.default_rng(0)
    clusters = np.repeat([0, 1, -1], 40)
    catalog = pd.DataFrame({"weak": rng.normal(size=120) + 0.5 * clusters})
    catalog["mag_r"] = rng.normal(size=120) + 5 * clusters
    catalog["mag_i"] = catalog["mag_r"] - 0.2  # says the same
    catalog["purity"] = rng.normal(size=120) + 1.5 * clusters  # also a name of the summary
    catalog["two_values"], catalog["constant"] = np.arange(120) % 2, 3.0
    bookkeeping = (
        "id", "objID", "TARGETID", "ra", "DEC", "RAJ2000", "DE_ICRS", "decDeg", "ra_deg", "glon",
        "gal_b", "l", "x", "y", "x_image", "run", "rerun", "camcol", "field", "plate", "mjd", "MJD",
        "fiber", "fiberID", "tile", "ccd", "err_r", "mag_r_err", "e_Bmag", "redshift_err",
        "modelMagErr_r", "psfMagErr", "flags", "flags_r", "mask", "zWarning", "ext_r",
        "extinction_r", "ebv", "airmass",
    )  # fmt: skip
    for name in bookkeeping:
        catalog[name] = rng.normal(size=120) + 9 * clusters
    summary = catalog.groupby(clusters).median().add_prefix("median_").loc[[0, 1, -1]]
    summary = summary.rename_axis("cluster").reset_index()
    summary.insert(1, "size", 40)
    summary.insert(2, "purity", 0.5)
    assigned = pd.DataFrame({"cluster": clusters})
    shown = steps.choose_columns(summary, assigned, catalog)
    first, *others = ["cluster", "objects", "purity"], "median_purity", "weak"
    assert list(shown) in ([*first, "mag_r", *others], [*first, "mag_i", *others])
    assert list(steps.choose_columns(summary, assigned, None)) == first


@pytest.mark.parametrize(
    "name",
    ["B_T_mag", "y_z", "u_g", "T_type", "redshift", "D25", "colour", "row_scatter", "psfMag_r"],
)
def test_properties_are_not_taken_for_bookkeeping(name):
    assert not steps._BOOKKEEPING.search(name)


def test_a_data_folder_is_clustered_with_an_encoder(data, tmp_path, capsys):
    out = tmp_path / "c.csv"
    encoder = ["--encoder", data / "encoder.safetensors"]
    assert run("cluster", data / "survey", *encoder, "--json", "--out", out) == 0
    assert events(capsys)[-1]["rows"] == 60


def test_a_page_shows_embeddings_catalogue_and_stamps(data, embedded, tmp_path, capsys):
    pytest.importorskip("bokeh")
    out = tmp_path / "explore.html"
    where = ["--catalog", data / "survey" / "catalog.csv"]
    images = ["--images", data / "survey" / "stamps.npy", "--method", "pca"]
    assert run("explore", embedded, *where, *images, "--color", "class", "--out", out) == 0
    assert "trustworthiness of the projection" in capsys.readouterr().out
    page = out.read_text()
    assert "mag_g" in page
    assert "1237648720693755902" in page
    assert "cluster_probability" in page
    assert "outlier_score" in page


def test_a_page_of_some_objects_and_columns(data, embedded, tmp_path, capsys):
    pytest.importorskip("bokeh")
    out = tmp_path / "explore.html"
    where = ["--catalog", data / "survey" / "catalog.csv", "--columns", "class"]
    fewer = ["--objects", 30, "--method", "pca", "--no-clusters", "--color", "outlier_score"]
    assert run("explore", embedded, *where, *fewer, "--json", "--out", out) == 0
    lines = events(capsys)
    assert lines[-1]["rows"] == 30
    assert any("30 of 60 objects are shown" in line.get("text", "") for line in lines)
    page = out.read_text()
    assert "mag_g" not in page
    assert "cluster_probability" not in page


@pytest.fixture(scope="session")
def galaxies(tmp_path_factory):
    """Return a data folder of 40 galaxies, and the morphology that skastro's weights give them."""
    folder = tmp_path_factory.mktemp("galaxies") / "galaxies"  # the name of the weights, too
    folder.mkdir()
    drawn = make_galaxies(40, image_size=24, random_state=1)
    np.save(folder / "stamps.npy", drawn.images)
    table = pd.DataFrame({"id": [f"g{row:02}" for row in range(40)], "inclination": 1.0})
    table.assign(T=drawn.target).to_csv(folder / "catalog.csv", index=False)
    encoder = load_pretrained("galaxies")
    return folder, encoder.transform(drawn.images), encoder.predict(drawn.images)


def test_weights_of_skastro_go_by_their_name(galaxies, tmp_path, monkeypatch):
    folder, embedding, morphology = galaxies
    monkeypatch.chdir(folder.parent)  # where a folder has the name of the weights
    out = ["--out", tmp_path / "e.fits", "--predicted", tmp_path / "m.fits", "--quiet"]
    assert run("embed", "galaxies", "galaxies", *out) == 0
    np.testing.assert_allclose(read_embeddings(tmp_path / "e.fits").values, embedding, atol=1e-5)
    table = read_catalog(tmp_path / "m.fits")
    np.testing.assert_allclose(table[list(morphology)], morphology, rtol=1e-4, atol=1e-4)
    assert table.attrs["units"]["inclination"] == "deg"


def test_a_file_of_the_name_of_weights_wins(data, tmp_path, monkeypatch):
    (tmp_path / "galaxies").write_bytes((data / "encoder.safetensors").read_bytes())
    monkeypatch.chdir(tmp_path)
    assert run("embed", "galaxies", data / "survey", "--out", "e.npy", "--quiet") == 0
    assert np.load("e.npy").shape == (60, 256)
    assert run("embed", "galaxie", data / "survey", "--out", "f.npy") == 2


def test_weights_of_skastro_are_not_exported(tmp_path, capsys):
    assert run("export", "galaxies", "--out", tmp_path / "e.onnx") == 2
    assert "takes stamps of any bands and size, which ONNX" in capsys.readouterr().err


def test_a_training_begins_with_the_weights_of_skastro(galaxies, tmp_path):
    out = tmp_path / "e.safetensors"
    options = ["--weights", "galaxies", "--epochs", 0, "--hold-out", 0, "--quiet"]
    assert run("pretrain", galaxies[0], *options, "--out", out) == 0
    ours, theirs = PropertyPretrainedEncoder.load(out), load_pretrained("galaxies")
    name = "backbone.body.layer1.0.conv1.weight"
    assert torch.equal(ours.network_.state_dict()[name], theirs.network_.state_dict()[name])
    assert (ours.weights, ours.image_shape_) == ("galaxies", (3, 24, 24))


@pytest.mark.parametrize("on", ["embedding", "morphology", "kinds"])
def test_clusters_are_described_by_morphology(galaxies, tmp_path, capsys, on):
    folder, _, morphology = galaxies
    out, summary = tmp_path / "c.csv", tmp_path / "s.csv"
    options = ["--catalog", folder / "catalog.csv", "--min-size", 4, "--on", on]
    options += ["--out", out, "--summary", summary]
    assert run("cluster", folder, "--encoder", "galaxies", *options) == 0
    assert "Medians of the properties that differ most" in capsys.readouterr().out
    table = pd.read_csv(out)
    np.testing.assert_allclose(table["bulge_fraction"], morphology["bulge_fraction"], atol=1e-4)
    assert set(table["kind"]) <= set(load_pretrained().targets_.kinds)
    medians = pd.read_csv(summary)
    assert medians["median_inclination"].dropna().eq(1).all()  # the catalogue's own
    assert medians["median_predicted_inclination"].dropna().gt(1).all()


def test_clusters_of_morphology_need_weights_that_know_it(data, tmp_path, capsys):
    encoder = ["--encoder", data / "encoder.safetensors", "--out", tmp_path / "c.csv"]
    assert run("cluster", data / "survey", *encoder, "--on", "morphology") == 2
    assert "add --encoder galaxies." in capsys.readouterr().err


def test_a_page_shows_morphology_by_name(galaxies, tmp_path):
    pytest.importorskip("bokeh")
    options = ["--encoder", "galaxies", "--method", "pca", "--no-clusters", "--quiet"]
    options += ["--color", "bulge_fraction", "--out", tmp_path / "e.html"]
    assert run("explore", galaxies[0], *options) == 0
    page = (tmp_path / "e.html").read_text()
    for text in (
        '"name":"kind"',
        '"name":"bulge_fraction"',
        '"predicted_inclination","unit":"deg"',
    ):
        assert text in page


def test_objects_to_label_are_suggested_by_the_weights_of_skastro(galaxies, tmp_path):
    options = ["--encoder", "galaxies", "-n", 5, "--label", "kind", "--out", tmp_path / "s.csv"]
    assert run("suggest", galaxies[0], *options, "--quiet") == 0
    assert len(pd.read_csv(tmp_path / "s.csv")) == 5


def test_without_any_label_the_classes_are_kinds_of_sources(galaxies, tmp_path, capsys):
    folder, _, morphology = galaxies
    out, saved = tmp_path / "p.csv", tmp_path / "c.safetensors"
    where = [folder, "--classes", "E,Sp", "--save", saved]
    assert run("classify", *where, "--out", out) == 0
    printed = " ".join(capsys.readouterr().out.split())
    for words in ("There is no column 'class'", "No stamp has a label: the classes E, Sp are kinds",
                  "The morphology by the weights 'galaxies'"):  # fmt: skip
        assert words in printed
    table = pd.read_csv(out, keep_default_na=False)
    assert list(table)[5:9] == ["p_E", "p_Sp", "kind", "bulge_fraction"]
    odds = morphology["spiral"] / (morphology["spiral"] + morphology["elliptical"])
    np.testing.assert_allclose(table["p_Sp"], odds, atol=1e-3)
    assert (table["label"] == "").all()
    again = tmp_path / "again.csv"
    assert run("predict", saved, "--images", folder / "stamps.npy", "--out", again) == 0
    assert pd.read_csv(again)["most_probable"].tolist() == table["most_probable"].tolist()
    assert "bulge_fraction" in pd.read_csv(again)


def test_labels_decide_whether_weights_of_skastro_help(galaxies, tmp_path, capsys):
    folder, encoder = galaxies[0], ["--encoder", "galaxies", "--strategy", "probe"]
    options = ["--label", "T", "--out", tmp_path / "p.csv", "--quiet", "--json"]
    assert run("classify", folder, *encoder, *options, "--classes", "spiral,elliptical") == 0
    assert 8 < events(capsys)[-1]["labelled"] < 40
    table = pd.read_csv(tmp_path / "p.csv", keep_default_na=False)
    assert {"p_spiral", "p_elliptical", "kind"} <= set(table)
    assert set(table["label"]) == {"", "spiral", "elliptical"}


def test_quiet_json_prints_only_the_result(data, tmp_path, capsys):
    out = tmp_path / "e.npz"
    arguments = ["embed", data / "encoder.safetensors", data / "survey", "--out", out]
    assert run(*arguments, "--quiet", "--json") == 0
    (line,) = events(capsys)
    assert line == {"event": "result", "out": str(out), "rows": 60, "columns": 256}


def test_an_error_is_an_event_too(data, tmp_path, capsys):
    assert run("embed", data / "none", data / "survey", "--json", "--out", tmp_path / "e.npz") == 2
    printed = capsys.readouterr()
    line = json.loads(printed.out.splitlines()[-1])
    assert (line["event"], line["code"]) == ("error", 2)
    assert printed.err == f"Error: {line['text']}\n"


# the package is checked before any input is read: none of these files exists
@pytest.mark.parametrize(
    ("package", "arguments"),
    [
        ("pyarrow", ["embed", "none.safetensors", "none"]),
        ("pyarrow", ["embed", "none.safetensors", "none", "--out=e.npz", "--predicted=p.parquet"]),
        ("pyarrow", ["classify", "none", "--out=p.parquet"]),
        ("pyarrow", ["cluster", "none.csv", "--out=c.parquet"]),
        ("pyarrow", ["cluster", "none.csv", "--summary=s.parquet"]),
        ("pyarrow", ["suggest", "none.csv", "--out=s.parquet"]),
        ("bokeh", ["explore", "none.csv"]),
    ],
)
def test_a_missing_package_for_the_output_is_named_before_the_work(
    package, arguments, tmp_path, monkeypatch, capsys
):
    monkeypatch.setitem(sys.modules, package, None)
    monkeypatch.chdir(tmp_path)
    assert run(*arguments) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert f"needs {package}, which is not installed: pip install" in line
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("color", "words"),
    [("klass", "did you mean class"), ("cluster_prob", "did you mean cluster_probability")],
)
def test_the_colour_is_checked_before_clusters_are_computed(
    data, embedded, color, words, tmp_path, monkeypatch, capsys
):
    monkeypatch.setattr(skastro.cli.steps, "cluster_objects", None)
    where = ["--catalog", data / "survey" / "catalog.csv", "--out", tmp_path / "explore.html"]
    assert run("explore", embedded, *where, "--color", color) == 2
    assert words in capsys.readouterr().err


def test_a_data_folder_is_embedded_after_all_checks(data, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(PropertyPretrainedEncoder, "transform", None)
    where = [data / "survey", "--encoder", data / "encoder.safetensors"]
    assert run("explore", *where, "--color", "klass", "--out", tmp_path / "e.html") == 2
    assert "did you mean class" in capsys.readouterr().err


def test_a_data_folder_is_shown_with_another_catalogue(data, tmp_path, monkeypatch, capsys):
    pytest.importorskip("bokeh")
    catalog = read_catalog(data / "survey" / "catalog.csv").iloc[::-2]
    catalog[["id"]].assign(colour=np.linspace(-1.5, 2.5, 30)).to_csv(tmp_path / "c.csv")
    embedded = []
    transform = PropertyPretrainedEncoder.transform

    def embed(self, images):
        embedded.append(len(images))
        return transform(self, images)

    monkeypatch.setattr(PropertyPretrainedEncoder, "transform", embed)
    where = [data / "survey", "--encoder", data / "encoder.safetensors", "--color", "colour"]
    out = ["--catalog", tmp_path / "c.csv", "--objects", 20, "--method", "pca"]
    assert run("explore", *where, *out, "--out", tmp_path / "e.html") == 0
    assert "20 of 30 objects are shown" in capsys.readouterr().out
    assert embedded == [20]
    page = (tmp_path / "e.html").read_text()
    assert "colour" in page
    assert "mag_g" not in page


def test_too_many_columns_for_fits_are_refused_before_stamps_are_read(
    data, tmp_path, monkeypatch, capsys
):
    monkeypatch.setattr(writing, "_MAX_FITS_COLUMNS", 100)
    encoder = data / "encoder.safetensors"
    assert run("embed", encoder, tmp_path / "none", "--out", tmp_path / "e.fits") == 2
    assert "cannot hold 257 columns, FITS has 100 at most" in capsys.readouterr().err


def test_a_page_is_coloured_by_clusters(embedded, tmp_path):
    pytest.importorskip("bokeh")
    out = tmp_path / "explore.html"
    where = ["--color", "cluster_probability", "--method", "pca", "--quiet", "--out", out]
    assert run("explore", embedded, *where) == 0
    assert "cluster_probability" in out.read_text()


@pytest.mark.parametrize(
    "command", ["pretrain", "embed", "classify", "predict", "cluster", "explore"]
)
def test_help_ends_with_examples(command, capsys):
    assert run(command, "--help") == 0
    printed = capsys.readouterr().out
    assert "Examples" in printed
    assert f"skastro {command} " in printed


EMBEDDINGS = "{data}/embeddings.parquet"
ENCODER = "{data}/encoder.safetensors"
SURVEY = "{data}/survey"
CATALOG = "--catalog={data}/survey/catalog.csv"
LABELS = "--labels={data}/labels.csv"
WRONG = {
    "pretrain": [
        ([], "images is missing"),
        (["{data}/none"], "is not a folder"),
        ([SURVEY, "--properties", "magg_*"], "did you mean mag_"),
        ([SURVEY, "--label", "klass"], "label='klass' is not a column: did you mean class"),
        ([SURVEY, "--properties", "*", "--label", "class"], "label column 'class'"),
        ([SURVEY, "--errors", "err_*"], "errors needs properties"),
        ([SURVEY, "--backbone", "resnet_99"], "'resnet_99' is unknown"),
        ([SURVEY, "--device", "gpu"], "device='gpu' is not there"),
        ([SURVEY, "--epochs", "-1"], "--epochs"),
        ([SURVEY, "--hold-out", "2"], "--hold-out"),
        ([SURVEY, "--out", "e.txt"], "must end in .safetensors"),
    ],
    "embed": [
        ([], "encoder"),
        ([ENCODER], "images is missing"),
        (["{data}/none", SURVEY], "does not exist"),
        (["galaxy", SURVEY], "the name of weights that are part of skastro ("),
        ([SURVEY, ENCODER], "survey is a folder"),
        (["{data}/labels.csv", SURVEY], "is not a safetensors file"),
        ([ENCODER, "{data}/none"], "is not a folder"),
        ([ENCODER, "--images={data}/none.npy"], "none.npy"),
        ([ENCODER, SURVEY, "--out", "e.txt"], "must end in"),
        ([ENCODER, SURVEY, "--out", "none/e.csv"], "the folder none does not exist"),
        ([ENCODER, SURVEY, "--out={data}/labels.csv"], "is there already"),
        ([ENCODER, SURVEY, "--jobs", "0"], "--jobs"),
    ],
    "predict": [
        ([], "model"),
        (["{data}/none", SURVEY], "does not exist"),
        ([ENCODER, SURVEY], "holds no skastro classifier but an encoder: pass a file"),
        (["{data}/labels.csv", SURVEY], "is not a safetensors file"),
    ],
    "classify": [
        ([], "images is missing"),
        (["{data}/none"], "is not a folder"),
        ([SURVEY, "--label", "klass"], "did you mean class"),
        ([SURVEY, "--label", "mag_g"], "holds measurements"),
        ([SURVEY, "--labels={data}/none.csv"], "does not exist"),
        ([SURVEY, LABELS, "--label", "kind"], "no column 'kind'"),
        ([SURVEY, "--strategy", "best"], "--strategy 'best' must be"),
        ([SURVEY, "--pretrained", "moon"], "--pretrained 'moon' must be auto, none"),
        (["--images={data}/survey/stamps.npy", *TINY], "without any label nothing is pretrained"),
        ([SURVEY, "--classes", "star,quasar"], "classes names 'quasar'"),
        ([SURVEY, "--abstain", "7"], "--abstain"),
        ([SURVEY, "--inputs", "magg_*"], "inputs='magg_*' matches no column"),
        ([SURVEY, "--inputs", "class"], "takes in the label column"),
        ([SURVEY, "--encoder={data}/none"], "does not exist"),
        ([SURVEY, "--save-encoder", "e.pkl"], "must end in .safetensors"),
        ([SURVEY, "--save", "c.pkl"], "must end in .safetensors"),
        ([SURVEY, f"--encoder={ENCODER}", "--properties", "mag_*"], "leave out --properties."),
        ([SURVEY, f"--encoder={ENCODER}", "--errors", "err_*"], "leave out --errors."),
        ([SURVEY, f"--encoder={ENCODER}", *TINY], "leave out --epochs, --backbone."),
        ([f"--encoder={ENCODER}", "--save-encoder", "e.safetensors"], "leave out --save-encoder."),
    ],
    "cluster": [
        ([], "source"),
        (["{data}/none.csv"], "does not exist"),
        ([SURVEY], "name a saved encoder"),
        ([SURVEY, "--encoder={data}/none"], "does not exist"),
        (["{data}/labels.csv"], "no columns numbered like e0"),
        ([EMBEDDINGS, "--label", "class"], "pass the catalogue too"),
        ([EMBEDDINGS, CATALOG, "--label", "klass"], "did you mean class"),
        ([EMBEDDINGS, "--catalog={data}/none.csv"], "does not exist"),
        ([EMBEDDINGS, CATALOG, "--id", "field"], "more than once"),
        ([EMBEDDINGS, "--min-size", "1"], "--min-size"),
        ([EMBEDDINGS, "--on", "colour"], "--on 'colour' must be embedding, morphology or kinds"),
        ([EMBEDDINGS, "--on", "morphology"], "add --encoder galaxies"),
    ],
    "explore": [
        ([], "source"),
        (["{data}/none.csv"], "does not exist"),
        ([SURVEY], "name a saved encoder"),
        ([EMBEDDINGS, "--method", "mds"], "--method 'mds' must be"),
        ([EMBEDDINGS, CATALOG, "--color", "klass", "--no-clusters"], "did you mean class"),
        ([EMBEDDINGS, CATALOG, "--columns", "magg_*"], "did you mean mag_"),
        ([EMBEDDINGS, "--catalog={data}/none.csv"], "does not exist"),
        ([EMBEDDINGS, "--images={data}/survey/stamps.npy"], "stamps has none of the ids"),
        ([EMBEDDINGS, "--out", "page.pdf"], "must end in .html"),
        ([EMBEDDINGS, "--objects", "1"], "--objects"),
        ([SURVEY, f"--encoder={ENCODER}", "--images=s.npy"], "--images is for embeddings"),
    ],
    "suggest": [
        ([], "source"),
        (["{data}/none.csv"], "does not exist"),
        ([SURVEY], "name a saved encoder"),
        ([ENCODER], "encoder.safetensors is not a file of embeddings"),
        ([EMBEDDINGS, "--label={data}/labels.csv"], "is a file: name the column, or use --labels"),
        ([EMBEDDINGS, "-n", "0"], "-n"),
        ([EMBEDDINGS, "--strategy", "best"], "--strategy 'best' must be"),
        ([EMBEDDINGS, "--labels={data}/none.csv"], "does not exist"),
        ([EMBEDDINGS, LABELS, "--label", "kind"], "no column 'kind'"),
        ([EMBEDDINGS, CATALOG], "no row to label"),
        ([EMBEDDINGS, "--groups", "field"], "pass the catalogue too"),
        ([EMBEDDINGS, "--out={data}"], "is a folder"),
    ],
}


@pytest.mark.parametrize(
    ("command", "arguments", "words"),
    [(command, *case) for command, cases in WRONG.items() for case in cases],
)
def test_wrong_use_is_one_line(
    data, embedded, command, arguments, words, tmp_path, monkeypatch, capsys
):
    assert embedded.is_file()
    capsys.readouterr()
    monkeypatch.chdir(tmp_path)
    assert run(command, *(argument.format(data=data) for argument in arguments)) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    assert lines[0].startswith("Error: ")
    assert words.lower() in lines[0].lower()  # typer before 0.29 writes ENCODER
    assert list(tmp_path.iterdir()) == []
