"""Explanations by a tiny classifier of stars and galaxies."""

import numpy as np
import pandas as pd
import pytest
from sklearn.frozen import FrozenEstimator

from skastro import SelfSupervisedClassifier, explain
from skastro.evaluation.explanation import (
    BASE,
    REST,
    Explanation,
    name_columns,
    tabulate_reasons,
)


@pytest.fixture(scope="module")
def classifier(survey, fitted):
    stamps, labels, _ = survey
    return SelfSupervisedClassifier(
        FrozenEstimator(fitted), strategy="probe", pretrained=None, random_state=0
    ).fit(stamps[:40], labels[:40])


def test_contributions_add_up_to_the_probability(classifier, survey):
    stamps = survey[0][40:46]
    reasons = explain(classifier, stamps, where=False)
    np.testing.assert_array_equal(reasons.classes, classifier.predict(stamps))
    probabilities = classifier.predict_proba(stamps)
    np.testing.assert_allclose(reasons.probabilities, probabilities.max(axis=1))
    groups = reasons.table.groupby("object")
    np.testing.assert_allclose(groups["contribution"].sum(), reasons.probabilities)
    assert reasons.where is None
    for _, rows in groups:
        assert rows["property"].iloc[0] == BASE
        assert rows["property"].iloc[-1] == REST
        assert rows["contribution"].iloc[1:-1].is_monotonic_decreasing
    units = reasons.table.groupby("property")["unit"].first()
    # measured magnitudes have a unit, those of the catalogue of this survey have none
    assert set(units[units.index.str.startswith("mag_")]) == {"", "mag"}
    assert (units[[BASE, REST]] == "").all()


def test_sizes_tell_stars_from_galaxies(classifier, survey):
    reasons = explain(classifier, survey[0][40:60], where=False)
    total = reasons.table.assign(size=reasons.table["contribution"].abs())
    total = total[~total["property"].isin([BASE, REST])].groupby("property")["size"].mean()
    assert total.idxmax() in {"size", "concentration", "half_light_radius", "measured_size"}
    assert reasons.sentences[0].startswith(f"{reasons.classes[0]} {reasons.probabilities[0]:.2f}: ")
    assert "size" in " ".join(reasons.sentences) or "concentration" in " ".join(reasons.sentences)


def test_another_class_can_be_explained(classifier, survey):
    stamps = survey[0][40:43]
    reasons = explain(classifier, stamps, classes="star", where=False)
    assert reasons.classes.tolist() == ["star"] * 3
    np.testing.assert_allclose(reasons.probabilities, classifier.predict_proba(stamps)[:, 1])
    each = explain(classifier, stamps, classes=["star", "galaxy", "star"], where=False)
    assert each.classes.tolist() == ["star", "galaxy", "star"]
    with pytest.raises(ValueError, match="'quasar', which is not a class of the classifier"):
        explain(classifier, stamps, classes="quasar")
    with pytest.raises(ValueError, match=r"classes has shape \(2,\), but X has 3 stamps"):
        explain(classifier, stamps, classes=["star", "star"])


def test_the_nearest_example_of_a_labelled_stamp_is_itself(classifier, survey):
    stamps, labels, _ = survey
    reasons = explain(classifier, stamps[:3], where=False, n_nearest=2)
    first = reasons.nearest[reasons.nearest["rank"] == 1]
    assert first["row"].tolist() == [0, 1, 2]
    assert first["similarity"].to_numpy() == pytest.approx(1, abs=1e-4)
    assert reasons.nearest["class"].tolist() == labels[reasons.nearest["row"]].tolist()


def test_a_loaded_classifier_gives_the_same_reasons(classifier, survey, tmp_path):
    classifier.save(tmp_path / "c.safetensors")
    loaded = SelfSupervisedClassifier.load(tmp_path / "c.safetensors")
    ours, theirs = (explain(c, survey[0][:2], where=False) for c in (classifier, loaded))
    np.testing.assert_allclose(ours.table["contribution"], theirs.table["contribution"], atol=1e-6)
    assert ours.nearest["class"].tolist() == theirs.nearest["class"].tolist()


def test_an_explanation_is_saved_and_loaded(classifier, survey, tmp_path):
    reasons = explain(classifier, survey[0][40:42])
    reasons.save(tmp_path / "reasons.npz")
    again = Explanation.load(tmp_path / "reasons.npz")
    assert repr(again) == repr(reasons)
    for name in ("classes", "probabilities", "where", "bands"):
        np.testing.assert_array_equal(getattr(again, name), getattr(reasons, name))
    for name in ("table", "nearest"):
        pd.testing.assert_frame_equal(
            getattr(again, name), getattr(reasons, name), check_dtype=False
        )
    explain(classifier, survey[0][40:41], where=False).save(tmp_path / "reasons.npz")
    assert Explanation.load(tmp_path / "reasons.npz").where is None


def test_other_files_are_no_explanations(classifier, survey, tmp_path):
    reasons = explain(classifier, survey[0][40:41], where=False)
    with pytest.raises(ValueError, match=r"reasons\.csv.*\.npz"):
        reasons.save(tmp_path / "reasons.csv")
    with pytest.raises(FileNotFoundError, match=r"pass a file of Explanation\.save"):
        Explanation.load(tmp_path / "missing.npz")
    np.savez(tmp_path / "other.npz", a=np.arange(3))
    with pytest.raises(ValueError, match=r"other\.npz is not a file of Explanation\.save"):
        Explanation.load(tmp_path / "other.npz")


def test_maps_have_the_shape_of_the_stamps_and_leave_the_encoder_alone(classifier, survey):
    reasons = explain(classifier, survey[0][40:42])
    assert reasons.where.shape == (2, 8, 8)
    assert reasons.bands.shape == (2, 3, 8, 8)
    assert np.abs(reasons.where).max() > 0
    assert classifier.encoder_.average_views
    assert "<table" in reasons._repr_html_()


def test_a_network_alone_is_explained_by_its_pixels(survey, fitted):
    stamps, labels, _ = survey
    model = SelfSupervisedClassifier(
        FrozenEstimator(fitted), strategy="finetune", steps=2, random_state=0
    ).fit(stamps[:20], labels[:20])
    reasons = explain(model, stamps[:1])
    assert reasons.table["property"].tolist() == [BASE, REST]
    assert reasons.sentences == [f"{reasons.classes[0]} {reasons.probabilities[0]:.2f}"]
    assert len(reasons.nearest) == 0
    assert reasons.where.shape == (1, 8, 8)


def test_the_catalogue_explains_too(survey, fitted):
    stamps, labels, properties = survey
    catalog = properties[["size"]].rename(columns={"size": "extent"})
    model = SelfSupervisedClassifier(
        FrozenEstimator(fitted), strategy="probe", pretrained=None, random_state=0
    ).fit(stamps, labels, catalog=catalog)
    reasons = explain(model, stamps[:2], catalog=catalog[:2])
    rows = reasons.table[reasons.table["property"] == "extent"]
    np.testing.assert_allclose(rows["value"], catalog["extent"][:2])
    assert rows["contribution"].abs().min() > 0.01
    np.testing.assert_allclose(
        reasons.probabilities, model.predict_proba(stamps[:2], catalog=catalog[:2]).max(axis=1)
    )


def test_names_of_bands_are_written_into_the_properties(survey, fitted):
    stamps, labels, _ = survey
    model = SelfSupervisedClassifier(
        FrozenEstimator(fitted), strategy="probe", pretrained=None, random_state=0
    ).fit(stamps, labels)
    model.bands_ = ("u", "g", "r")
    table = explain(model, stamps[:2], where=False).table
    assert {"u-g", "g-r"} <= set(table["property"])


def test_columns_are_named_by_what_is_clear(fitted):
    d = len(fitted.embedding_mean_)
    names = name_columns(fitted, {"mag_core_u": "mag", "sky": ""}, ["z"], [(fitted, 0.0)])
    assert names == {
        d + 6: ("z", ""), d: ("mag_u", ""), d + 1: ("mag_g", ""), d + 2: ("mag_r", ""),
        d + 3: ("size", ""), d + 5: ("sky", ""), d + 4: ("mag_core_u", "mag"),
    }  # fmt: skip
    assert next(iter(names)) == d + 6


def test_without_a_probe_all_is_beyond_the_properties():
    table = tabulate_reasons(np.array(["a"]), np.array([0.7]))
    assert table["contribution"].tolist() == [0, 0.7]


def test_other_estimators_are_refused(fitted, survey):
    with pytest.raises(TypeError, match="PropertyPretrainedEncoder cannot be explained"):
        explain(fitted, survey[0])
