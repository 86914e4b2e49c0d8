from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
from sklearn.frozen import FrozenEstimator

from skastro import PropertyPretrainedEncoder, SelfSupervisedClassifier
from skastro.evaluation import label_efficiency
from skastro.evaluation.property_scores import join_measured
from skastro.stamps.photometry import measure_properties
from skastro.study import baselines, run as study_module
from skastro.study.data import StudyData, load_data
from skastro.study.results import STUDY_FILES
from skastro.study.run import Plan, run_study
from tests.study.conftest import PLAN, read

pytestmark = pytest.mark.usefixtures("quick_probe", "quick_umap")


@pytest.fixture(autouse=True)
def _without_imagenet(monkeypatch):
    """Leave out the ImageNet row, whose network is large and slow."""
    monkeypatch.setattr(baselines, "_IMAGENET_PACKAGE", "no_such_package")


@pytest.fixture(scope="module")
def done(folder, tmp_path_factory):
    """Run a study once; return its folder, its result, its messages and its progress."""
    out = tmp_path_factory.mktemp("results") / "out"
    messages, stages = [], {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(baselines, "_IMAGENET_PACKAGE", "no_such_package")
        study = run_study(
            read(folder),
            out,
            plan=PLAN,
            command="skastro study fake",
            say=messages.append,
            progress=lambda stage, done, total: stages.setdefault(stage, []).append((done, total)),
        )
    return out, study, messages, stages


def test_a_study_writes_its_files_and_nothing_else(done):
    out, *_ = done
    assert {path.name for path in out.iterdir()} == {
        "index.html", "scores.csv", "mistakes.csv", "label_efficiency.png",
        "label_efficiency_phone.png",
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


def test_objects_are_projected_clustered_and_described(done, folder):
    out, study, *_ = done
    objects = pd.read_csv(out / "objects.csv", dtype={"id": str})
    catalog = pd.read_csv(folder / "catalog.csv", dtype={"id": str})
    assert objects["id"].tolist() == catalog["id"].tolist()
    np.testing.assert_allclose(objects["mag_u"], catalog["mag_u"], rtol=1e-5)
    assert objects[["x", "y", "outlier_score"]].notna().all().all()
    assert objects["cluster"].ge(-1).all()
    assert "measured_half_light_radius" in objects
    np.testing.assert_allclose(objects["ra"], catalog["ra"], rtol=0, atol=1e-6)
    np.testing.assert_allclose(objects["dec"], -2.765432, rtol=0, atol=1e-6)
    clusters = pd.read_csv(out / "clusters.csv")
    assert clusters["cluster"].tolist() == objects["cluster"].tolist()
    assert study.config["projection"]["method"] == "t-SNE"
    assert 0.5 < study.config["projection"]["trustworthiness"] <= 1


def test_all_representations_are_scored(done):
    table = pd.read_csv(done[0] / "representations.csv")
    assert table["representation"].tolist() == ["self-supervised", "pixels + PCA", "untrained"]
    assert table["probe_accuracy"].between(0, 1).all()


def test_results_are_binned_by_a_magnitude_of_the_middle_band(done, folder):
    assert done[1].magnitude == "mag_g"
    table = pd.read_csv(done[0] / "by_magnitude.csv")
    assert table["n"].sum() == 18
    data = load_data(folder, label="class")
    true = join_measured(data.properties, measure_properties(data.images))
    assert study_module._find_magnitude(true) == "mag_band1"


def test_projections_are_drawn_side_by_side_if_the_plan_asks(folder, tmp_path):
    plan = Plan(**{**vars(PLAN), "label_counts": (8,), "n_repeats": 1, "side_by_side": True})
    study = run_study(read(folder), tmp_path / "out", plan=plan)
    assert list(study.projections) == ["self-supervised", "pixels + PCA", "untrained"]
    assert (tmp_path / "out" / "representations.png").stat().st_size > 10_000


def test_predictions_agree_with_catalogue_and_split(done, folder):
    out, study, *_ = done
    table = pd.read_csv(out / "predictions.csv", dtype={"id": str}, keep_default_na=False)
    catalog = pd.read_csv(folder / "catalog.csv", dtype={"id": str}, keep_default_na=False)
    assert table["id"].tolist() == catalog["id"].tolist()
    assert (table["label"] == catalog["class"].replace("unknown", "")).all()
    assert (table["split"] == "test").sum() == study.config["split"]["n_test"] == 18
    assert (table.loc[table["split"] == "test", "label"] != "").all()
    assert table.loc[table["used"], "split"].eq("train").all()
    assert table["used"].sum() == 24
    np.testing.assert_allclose(table[["p_galaxy", "p_star"]].sum(axis=1), 1, atol=1e-5)


def test_embeddings_are_those_of_the_saved_encoder(done, survey):
    out, *_ = done
    saved = np.load(out / "embeddings.npz")
    encoder = PropertyPretrainedEncoder.load(out / "encoder.safetensors")
    np.testing.assert_allclose(encoder.transform(survey[0]), saved["embeddings"], atol=1e-4)
    assert saved["ids"].dtype.kind == "U"
    assert set(saved["split"]) == {"train", "test"}


def test_the_first_row_is_the_probe_of_the_classifier(done, folder):
    _, study, *_ = done
    data, table = read(folder), study.predictions
    used = table["used"].to_numpy()
    probe = SelfSupervisedClassifier(FrozenEstimator(study.encoder), strategy="probe")
    probabilities = probe.fit(data.images[used], data.labels[used]).predict_proba(data.images)
    np.testing.assert_allclose(table[["p_galaxy", "p_star"]], probabilities, atol=1e-3)


def test_the_encoder_does_not_learn_from_test_rows(folder, done, tmp_path):
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
    study = run_study(data, tmp_path / "out", plan=plan)
    sides = pd.Series(study.split).groupby(data.groups).unique()
    assert all(set(side) <= {"train"} or "train" not in side for side in sides)
    assert "self-supervised, fine-tuned" in study.curve.estimators


def test_a_study_without_properties_measures_them(folder, tmp_path):
    plan = Plan(**{**vars(PLAN), "label_counts": (8,), "n_repeats": 1})
    study = run_study(load_data(folder, label="class"), tmp_path / "out", plan=plan)
    assert study.encoder.property_source_ == "measured"
    assert "catalogue" not in study.curve.estimators


def test_label_counts_are_clipped_to_the_pool(folder, tmp_path):
    messages = []
    plan = Plan(**{**vars(PLAN), "label_counts": (1, 8, 1000), "n_repeats": 1})
    study = run_study(read(folder), tmp_path / "out", plan=plan, say=messages.append)
    assert study.curve.label_counts == [8, 39]
    assert any("8, 39" in text for text in messages)


def test_every_stage_reports_its_progress(done):
    stages = done[3]
    assert list(stages) == [
        "measuring the stamps", "checking the stamps", "pretraining", "embedding",
        "learning from few labels", "projecting", "clustering", "scoring representations",
        "writing the report",
    ]  # fmt: skip
    for name in list(stages)[:5]:
        assert stages[name][-1][0] == stages[name][-1][1], name
    seconds = [done for done, _ in stages["learning from few labels"]]
    assert len(seconds) > 24  # also during the fits of networks
    assert seconds == sorted(seconds)


def test_a_message_says_that_the_imagenet_row_is_left_out(done):
    assert any("skastro[imagenet]" in text for text in done[2])


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


def test_an_interrupted_study_leaves_finished_steps_but_no_results(folder, tmp_path, monkeypatch):
    def interrupt(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(study_module, "label_efficiency_curve", interrupt)
    with pytest.raises(KeyboardInterrupt, match="the same study goes on"):
        run_study(read(folder), tmp_path / "out", plan=PLAN)
    assert [path.name for path in tmp_path.iterdir()] == [".out.partial"]
    assert sorted(path.name for path in (tmp_path / ".out.partial" / "done").iterdir()) == [
        "encoder.safetensors", "job.json", "representations.npz",
    ]  # fmt: skip


def test_a_study_that_cannot_start_leaves_nothing(folder, tmp_path):
    plan = Plan(**{**vars(PLAN), "label_counts": (1,)})
    with pytest.raises(ValueError, match="label_counts"):
        run_study(read(folder), tmp_path / "out", plan=plan)
    assert list(tmp_path.iterdir()) == []


def test_a_resumed_study_repeats_no_finished_step(folder, done, tmp_path, monkeypatch):
    fits, fit_one = [], label_efficiency._fit_one

    def counted(entry, repeat, train, *args, **options):
        if len(fits) == 7:
            raise KeyboardInterrupt
        fits.append((entry.name, len(train), repeat))
        return fit_one(entry, repeat, train, *args, **options)

    monkeypatch.setattr(label_efficiency, "_fit_one", counted)
    with pytest.raises(KeyboardInterrupt):
        run_study(read(folder), tmp_path / "out", plan=PLAN)
    cells = tmp_path / ".out.partial" / "done" / "cells.jsonl"
    cells.write_text(cells.read_text() + "[[0, ")  # killed in the middle of a line
    monkeypatch.setattr(label_efficiency, "_fit_one", fit_one)
    monkeypatch.setattr(study_module, "represent", None)
    monkeypatch.setattr(study_module, "_pretrain", None)
    messages, steps = [], []
    study = run_study(
        read(folder), tmp_path / "out", plan=PLAN, command="skastro study fake",
        say=messages.append, progress=lambda *step: steps.append(step),
    )  # fmt: skip
    assert "they are not repeated" in messages[0]
    learning = [step[1:] for step in steps if step[0] == "learning from few labels"]
    assert learning[0][0] == 0
    assert learning[-1][0] == learning[-1][1]
    assert study.config["resumed"]
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    for whole in done[0].iterdir():
        # the other files hold seconds and dates
        if whole.suffix in (".csv", ".npz"):
            assert whole.read_bytes() == (tmp_path / "out" / whole.name).read_bytes(), whole.name
