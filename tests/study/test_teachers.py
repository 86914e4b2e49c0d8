"""Studies that begin with what simulated teachers know."""

from __future__ import annotations

import json
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from skastro import KernelProbe, SelfSupervisedClassifier, make_galaxies
from skastro.study import baselines
from skastro.study.data import StudyData
from skastro.study.run import run_study
from skastro.study.teachers import (
    TeacherProbe,
    Teachers,
    append_columns,
    compare_morphology,
    favoured_teacher,
)
from tests.study.conftest import PLAN

NAMES = {"elliptical": "E", "lenticular": "S0", "spiral": "Sp"}


@pytest.fixture(scope="module")
def galaxies():
    drawn = make_galaxies(80, image_size=24, random_state=1)
    labels = np.array([NAMES.get(kind, "") for kind in drawn.target], dtype=object)
    return StudyData(drawn.images, labels, np.arange(80))


@pytest.fixture(scope="module")
def done(galaxies, tmp_path_factory, quick_probe, quick_umap):  # noqa: ARG001 - they make it quick
    out = tmp_path_factory.mktemp("study") / "out"
    plan = replace(PLAN, label_counts=(0, 12), n_repeats=1, scratch=False)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(baselines, "_IMAGENET_PACKAGE", "no_such_package")
        return out, run_study(galaxies, out, plan=plan)


@pytest.mark.slow
def test_a_study_begins_without_labels(done, galaxies):
    _, study = done
    means = study.curve.summary("balanced_accuracy").pivot(
        index="estimator", columns="n_labels", values="mean"
    )
    rows = ["self-supervised", "self-supervised, teacher alone", "self-supervised, no teacher"]
    assert study.curve.estimators[:3] == rows
    known = means[0].dropna()
    assert sorted(known.index) == sorted(rows[:2])
    model = SelfSupervisedClassifier(pretrained="galaxies", classes=["E", "S0", "Sp"])
    tests = np.flatnonzero((study.split == "test") & (galaxies.labels != ""))
    guesses = model.fit(galaxies.images).predict(galaxies.images[tests])
    recalls = [np.mean(guesses[galaxies.labels[tests] == name] == name) for name in NAMES.values()]
    assert_allclose(known, np.mean(recalls))
    assert "Before the first label, the balanced accuracy is" in repr(study)


@pytest.mark.slow
def test_results_show_morphology_by_name(done):
    out, study = done
    objects, table = (pd.read_csv(out / f"{name}.csv") for name in ("objects", "morphology"))
    assert {"kind", "bulge_fraction", "arm_strength", "inclination"} <= set(objects)
    assert_allclose(objects["dust"], study.morphology["dust"], rtol=1e-4)
    assert list(table) == ["property", "E", "S0", "Sp"]
    config = json.loads((out / "config.json").read_text())
    assert config["morphology"] == "galaxies"
    assert config["units"]["inclination"] == "deg"
    page = (out / "index.html").read_text()
    assert 'id="morphology"' in page
    assert "bulge_fraction" in page
    assert "simulated teacher (galaxies)" in pd.read_csv(out / "representations.csv").to_string()


def test_a_study_may_have_no_teacher(fitted, survey):
    found = Teachers.find("none", fitted, survey[0], survey[1])
    assert (found.encoders, found.kinds, found.embed(survey[0])) == ({}, [], {})
    small = Teachers.find("auto", fitted, survey[0], survey[1])  # stamps of 8 pixels
    assert small.encoders == {}
    probe, columns = small.plan_probe(np.ones((60, 5)), 2, {}, np.arange(30))
    assert (probe.probe.n_properties, columns.shape) == (2, (60, 5))
    assert not probe.knows_classes(["galaxy", "star"])


def test_a_probe_learns_where_there_are_labels():
    rng = np.random.default_rng(0)
    columns = np.abs(rng.normal(size=(40, 4)))
    labels = np.where(columns[:, 0] > columns[:, 1], "b", "a")
    probe = TeacherProbe(KernelProbe(class_columns=[1, 0]))
    few = np.where(np.arange(40) % 2, labels, "")
    assert (probe.fit(columns, few).predict(columns) == labels).mean() > 0.8
    assert_array_equal(probe.classes_, ["a", "b"])
    probe.set_params(classes=["a", "b"]).fit(columns, np.full(40, None))
    assert_array_equal(probe.predict(columns), labels)
    assert probe.knows_classes(["a", "b"])
    assert not TeacherProbe(KernelProbe()).knows_classes(["a", "b"])


@pytest.mark.parametrize(
    ("shares", "named", "expected"),
    [
        ([0.2, 0.1, 0.7], False, "two"),
        ([0.7, 0.2, 0.1], False, None),
        ([0.7, 0.2, 0.1], True, "one"),
        (None, False, "one"),
    ],
)
def test_morphology_is_of_use_where_the_labels_say_so(shares, named, expected):
    probe = None if shares is None else SimpleNamespace(shares_=np.array(shares))
    assert favoured_teacher(["one", "two"], probe, named=named) == expected
    assert favoured_teacher([], probe, named=named) is None


def test_joined_tables_keep_their_units():
    first, second = pd.DataFrame({"a": [1.0]}, index=[5]), pd.DataFrame({"a": [2.0], "b": [3.0]})
    first.attrs["units"], second.attrs["units"] = {"a": "mag"}, {"a": "deg", "b": "pc"}
    joined = append_columns(first, second)
    assert joined.to_dict("records") == [{"a": 1.0, "predicted_a": 2.0, "b": 3.0}]
    assert joined.attrs["units"] == {"a": "mag", "predicted_a": "deg", "b": "pc"}


def test_classes_are_compared_by_what_tells_them_apart():
    rng = np.random.default_rng(0)
    labels = np.array(["x", "y", ""] * 20)
    table = pd.DataFrame(rng.normal(size=(60, 12)), columns=[f"p{i}" for i in range(12)])
    table["angle"] = np.where(labels == "x", 80.0, 20.0) + rng.normal(size=60)
    table["kind"], table["constant"] = "spiral", 1.0
    table.attrs["units"] = {"angle": "deg"}
    compared = compare_morphology(table, labels)
    assert list(compared) == ["property", "x", "y"]
    assert compared["property"][0] == "angle (deg)"
    assert_allclose(compared.loc[0, ["x", "y"]].astype(float), [80, 20], atol=1)
    assert len(compared) == 10
    assert "constant" not in set(compared["property"])
