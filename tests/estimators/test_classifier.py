import copy
import pickle
from contextlib import nullcontext

import numpy as np
import pandas as pd
import pytest
import torch
from astropy.table import Table
from numpy.testing import assert_allclose, assert_array_equal
from sklearn import config_context
from sklearn.base import clone
from sklearn.frozen import FrozenEstimator
from sklearn.metrics import balanced_accuracy_score
from sklearn.model_selection import cross_val_score

from skastro import (
    KernelProbe,
    LinearProbe,
    PropertyPretrainedEncoder,
    SelfSupervisedClassifier,
    measure_properties,
)
from skastro.estimators import pretrained
from skastro.estimators.encoder import fill_head, measure_spread
from skastro.estimators.morphology import MorphologyTargets
from skastro.networks.teacher import TeacherNetwork
from skastro.probes.cross_validation import make_folds
from tests.conftest import make_stamps, tiny_encoder


def classifier(encoder, **params):
    return SelfSupervisedClassifier(encoder, **{"random_state": 0, "steps": 10, **params})


@pytest.mark.parametrize("strategy", ["probe", "finetune", "scratch", "auto"])
def test_every_strategy_learns(survey, fitted, strategy):
    stamps, labels, _ = survey
    steps = 60 if strategy == "scratch" else 10
    model = classifier(FrozenEstimator(fitted), strategy=strategy, steps=steps)
    model.fit(stamps[:40], labels[:40])
    assert balanced_accuracy_score(labels[40:], model.predict(stamps[40:])) > 0.8
    assert_allclose(model.predict_proba(stamps).sum(1), 1, rtol=1e-6)
    assert (model.network_ is None) == (model.blend_ == 0)
    assert (model.probe_ is None) == (strategy in {"scratch", "finetune"})


@pytest.mark.parametrize("n_classes", [2, 3])  # two classes share one logit, three do not
def test_fine_tuning_starts_at_a_linear_probe(survey, fitted, n_classes):
    stamps, _, _ = survey
    codes = np.arange(60) % n_classes
    encoder = copy.copy(fitted).set_params(average_views=False, precision="float32")
    embeddings = encoder.transform(stamps)
    probe = LinearProbe(0.1).fit(embeddings, codes)
    head = torch.nn.Linear(256, n_classes)
    fill_head(head, probe, encoder)
    with torch.inference_mode():
        start = head(encoder.network_.embed(torch.from_numpy(stamps))).softmax(1)
    assert_allclose(start, probe.predict_proba(embeddings), atol=1e-4)


def test_the_probe_sees_embeddings_and_properties(survey, fitted):
    stamps, labels, _ = survey
    model = classifier(FrozenEstimator(fitted), strategy="probe").fit(stamps, labels)
    embeddings, predicted = fitted.transform(stamps), fitted.predict(stamps)
    measured = measure_properties(stamps)
    assert_allclose(model.describe(stamps), np.hstack([embeddings, predicted, measured]))
    n_properties = predicted.shape[1] + measured.shape[1]
    alone = KernelProbe(n_properties).fit(model.describe(stamps), labels)
    assert_allclose(model.predict_proba(stamps), alone.predict_proba(model.describe(stamps)))


@pytest.fixture
def catalog_survey(survey):
    """Return stamps, classes that depend on the catalogue only, and the catalogue."""
    stamps, _, _ = survey
    rng = np.random.default_rng(1)
    variable = rng.uniform(size=len(stamps)) < 0.5
    catalog = pd.DataFrame(
        {
            "amplitude": np.where(variable, 2.0, 0.0) + 0.2 * rng.normal(size=len(stamps)),
            "period": rng.normal(size=len(stamps)),
        }
    )
    return stamps, np.where(variable, "variable", "constant"), catalog


@pytest.mark.parametrize("strategy", ["probe", "auto"])
def test_a_catalogue_can_help_to_classify(catalog_survey, fitted, strategy):
    stamps, labels, catalog = catalog_survey
    model = classifier(FrozenEstimator(fitted), strategy=strategy)
    model.fit(stamps[:40], labels[:40], catalog=catalog[:40])
    new, new_catalog = stamps[40:], catalog[40:]
    alone = balanced_accuracy_score(labels[40:], model.predict(new))
    together = balanced_accuracy_score(labels[40:], model.predict(new, catalog=new_catalog))
    assert together > 0.85 > alone + 0.1
    assert model.score(new, labels[40:], catalog=new_catalog) > 0.85
    assert_allclose(model.predict_proba(new, catalog=new_catalog).sum(1), 1, rtol=1e-6)
    without = classifier(FrozenEstimator(fitted), strategy=strategy)
    without.fit(stamps[:40], labels[:40])
    assert_array_equal(model.predict_proba(new), without.predict_proba(new))
    assert model.cv_losses_ == without.cv_losses_


def test_columns_of_the_catalogue_are_found_by_name_and_may_be_unknown(catalog_survey, fitted):
    stamps, labels, catalog = catalog_survey
    model = classifier(FrozenEstimator(fitted), strategy="probe")
    model.fit(stamps, labels, catalog=catalog)
    expected = model.predict_proba(stamps, catalog=catalog)
    table = Table.from_pandas(catalog.iloc[:, ::-1].assign(more=1.0))
    assert_array_equal(model.predict_proba(stamps, catalog=table), expected)
    assert model.score(stamps, labels, catalog=table) > 0.85
    columns = np.hstack([model.describe(stamps), catalog])
    alone = KernelProbe(columns.shape[1] - 256).fit(columns, labels)
    assert_allclose(expected, alone.predict_proba(columns))
    unknown = pd.DataFrame({"amplitude": [np.nan], "period": [np.nan]})
    assert_allclose(model.predict_proba(stamps[:1], catalog=unknown).sum(), 1)


@pytest.mark.parametrize(
    ("fitted_with", "given", "words"),
    [
        (None, slice(None), "was fitted without"),
        (slice(None), ["amplitude"], "no column 'period'"),
        (slice(None), "short", "catalog has 3 rows, but X has 60 stamps"),
    ],
)
def test_a_catalogue_that_does_not_fit_is_refused(
    catalog_survey, fitted, fitted_with, given, words
):
    stamps, labels, catalog = catalog_survey
    model = classifier(FrozenEstimator(fitted), strategy="probe")
    model.fit(stamps, labels, catalog=None if fitted_with is None else catalog)
    table = catalog[:3] if given == "short" else catalog.loc[:, given]
    with pytest.raises(ValueError, match=words):
        model.predict(stamps, catalog=table)


def test_networks_ignore_the_catalogue(catalog_survey, fitted):
    stamps, labels, catalog = catalog_survey
    model = classifier(FrozenEstimator(fitted), strategy="finetune")
    model.fit(stamps, labels, catalog=catalog)
    assert model.catalog_probe_ is None
    by_stamps = model.predict_proba(stamps[:5])
    assert_array_equal(model.predict_proba(stamps[:5], catalog=catalog[:5]), by_stamps)


def test_a_catalogue_reaches_scores_by_metadata_routing(catalog_survey, fitted):
    stamps, labels, catalog = catalog_survey
    model = classifier(FrozenEstimator(fitted), strategy="probe")
    with config_context(enable_metadata_routing=True):
        scores = cross_val_score(model, stamps, labels, params={"catalog": catalog}, cv=3)
    assert scores.mean() > 0.85


def test_a_source_whose_shape_cannot_be_measured_is_classified(survey, fitted):
    stamps, labels, _ = survey
    model = classifier(FrozenEstimator(fitted), strategy="probe").fit(stamps, labels)
    dark = -stamps[:1]  # no positive flux: no size, no shape
    assert np.isnan(model.describe(dark)).any()
    assert_allclose(model.predict_proba(dark).sum(), 1)


def test_a_frozen_encoder_is_not_changed(survey, fitted):
    stamps, labels, _ = survey
    before = {k: v.clone() for k, v in fitted.network_.state_dict().items()}
    model = classifier(FrozenEstimator(fitted), strategy="finetune").fit(stamps, labels)
    assert model.encoder_ is fitted
    assert all(torch.equal(before[k], v) for k, v in fitted.network_.state_dict().items())
    assert_array_equal(model.transform(stamps), fitted.transform(stamps))


def test_unlabelled_rows_are_pretrained_on(survey):
    stamps, labels, properties = survey
    few = np.where(np.arange(60) < 20, labels, "")
    model = classifier(tiny_encoder(), strategy="probe")
    model.fit(stamps, few, properties=properties)
    alone = tiny_encoder().fit(stamps, properties=properties)
    assert_array_equal(model.transform(stamps), alone.transform(stamps))
    assert model.classes_.tolist() == ["galaxy", "star"]
    labelled = classifier(FrozenEstimator(alone), strategy="probe").fit(stamps[:20], labels[:20])
    assert_allclose(model.predict_proba(stamps), labelled.predict_proba(stamps))


def test_a_default_encoder_is_used_if_none_is_given(survey, monkeypatch):
    stamps, labels, _ = survey
    monkeypatch.setattr("skastro.estimators.classifier.PropertyPretrainedEncoder", tiny_encoder)
    model = SelfSupervisedClassifier(strategy="probe", random_state=3).fit(stamps, labels)
    assert model.encoder_.random_state == 3
    assert model.encoder_.property_source_ == "measured"


def test_a_bare_fitted_encoder_is_refused(survey, fitted):
    with pytest.raises(ValueError, match=r"pass FrozenEstimator\(encoder\)"):
        classifier(fitted).fit(*survey[:2])


def test_pretraining_gives_a_copy_with_a_frozen_encoder(survey):
    stamps, labels, properties = survey
    model = classifier(tiny_encoder(), strategy="probe")
    pretrained = model.pretrain(stamps, properties=properties)
    assert isinstance(pretrained.encoder, FrozenEstimator)
    assert not hasattr(model, "encoder_")
    fitted = clone(pretrained).fit(stamps[:30], labels[:30])
    assert fitted.encoder_ is not None
    assert not hasattr(classifier(tiny_encoder(), strategy="scratch"), "pretrain")


def test_scratch_uses_only_the_labelled_rows(survey):
    stamps, labels, properties = survey
    model = classifier(tiny_encoder(), strategy="scratch").fit(stamps[:40], labels[:40])
    again = classifier(tiny_encoder(targets="catalog"), strategy="scratch")
    again.fit(stamps[:40], labels[:40], properties=properties[:40])
    assert_array_equal(model.predict_proba(stamps), again.predict_proba(stamps))


@pytest.mark.parametrize(
    "encode",
    [lambda y: y == "star", lambda y: np.where(y == "star", 7, 3), lambda y: y.astype(object)],
    ids=["bool", "int", "object"],
)
def test_classes_of_any_dtype(survey, fitted, encode):
    stamps, labels, _ = survey
    y = encode(labels)
    model = classifier(FrozenEstimator(fitted), strategy="probe").fit(stamps, y)
    predicted = model.predict(stamps)
    assert predicted.dtype == y.dtype
    assert set(predicted) <= set(y)


def test_class_weights_make_rare_classes_more_probable(fitted):
    stamps, labels, _ = make_stamps(120, seed=1)
    rare = np.flatnonzero(labels == "star")[6:]
    keep = np.setdiff1d(np.arange(120), rare)
    balanced = classifier(FrozenEstimator(fitted), strategy="probe").fit(stamps[keep], labels[keep])
    plain = clone(balanced).set_params(class_weight=None).fit(stamps[keep], labels[keep])
    star = balanced.classes_.tolist().index("star")
    unseen, mean = stamps[rare], lambda m: m.predict_proba(stamps[rare])[:, star].mean()
    assert len(unseen) > 40
    assert mean(balanced) > mean(plain)
    weighted = clone(balanced).set_params(class_weight={"star": 9.0, "galaxy": 1.0})
    assert mean(weighted.fit(stamps[keep], labels[keep])) > mean(plain)


@pytest.mark.parametrize(("n_labels", "n_folds"), [(4, 3), (19, 3), (30, 16)])
def test_auto_uses_the_probe_if_labels_are_too_few_to_compare(survey, fitted, n_labels, n_folds):
    stamps, labels, _ = survey
    model = classifier(FrozenEstimator(fitted), n_folds=n_folds)
    model.fit(stamps[:n_labels], labels[:n_labels])
    assert model.blend_ == 0
    assert model.network_ is None
    assert model.cv_losses_ == {}


def test_auto_compares_from_ten_labels_of_each_class(survey, fitted):
    stamps, labels, _ = survey
    model = classifier(FrozenEstimator(fitted)).fit(stamps[:20], labels[:20])
    assert len(model.cv_losses_) == 4


def test_auto_compares_by_cross_validation(survey, fitted):
    stamps, labels, _ = survey
    model = classifier(FrozenEstimator(fitted)).fit(stamps, labels)
    assert set(model.cv_losses_) == {0.0, 1 / 3, 2 / 3, 1.0}
    assert model.cv_losses_[model.blend_] == min(model.cv_losses_.values())


def test_auto_says_what_it_chose_and_why(survey, fitted, capsys, monkeypatch):
    monkeypatch.setattr("skastro.estimators.classifier.may_help", lambda *_: True)
    stamps, labels, _ = survey
    model = classifier(FrozenEstimator(fitted), verbose=1).fit(stamps, labels)
    loss = f"{model.cv_losses_[model.blend_]:.3f}"
    words = "least log loss in 3-fold cross-validation of 60 labels"
    assert words in model.choice_
    assert loss in model.choice_
    chosen = {0.0: "the probe alone", 1.0: "the fine-tuned network alone"}
    assert f"uses {chosen.get(model.blend_, f'{model.blend_:.0%}')}" in model.choice_
    printed = capsys.readouterr().out.splitlines()
    assert model.choice_ in printed
    headings = [line for line in printed if line.startswith("Fine-tuning")]
    assert headings[:3] == [
        f"Fine-tuning stamp_resnet10, fold {i} of 3, on 40 stamps of 3 bands, 2 epochs"
        for i in (1, 2, 3)
    ]
    few = classifier(FrozenEstimator(fitted)).fit(stamps[:6], labels[:6])
    assert "without a comparison: the smallest class has 3 labels, and a" in few.choice_
    grouped = classifier(FrozenEstimator(fitted)).fit(stamps, labels, groups=labels)
    assert "the groups cannot be split into 3 folds" in grouped.choice_
    assert clone(few).set_params(strategy="probe").fit(stamps[:6], labels[:6]).choice_ == ""
    assert capsys.readouterr().out == ""


def test_no_other_network_is_trained_if_that_of_the_first_fold_says_that_none_helps(
    survey, fitted, monkeypatch, capsys
):
    stamps, labels, properties = survey
    monkeypatch.setattr("skastro.estimators.classifier.may_help", lambda *_: False)
    model = classifier(FrozenEstimator(fitted), verbose=1)
    model.fit(stamps, labels, catalog=properties)
    headings = [line for line in capsys.readouterr().out.splitlines() if "Fine-tuning" in line]
    assert len(headings) == 1
    assert (model.blend_, model.catalog_blend_, model.network_) == (0.0, 0.0, None)
    assert len(model.cv_losses_) == len(model.catalog_cv_losses_) == 4
    assert "after an early look at one fold of 3: on its 20 of 60 labels" in model.choice_
    probe = clone(model).set_params(strategy="probe").fit(stamps, labels, catalog=properties)
    assert_array_equal(model.predict_proba(stamps), probe.predict_proba(stamps))
    assert_array_equal(model.calibration_.own, probe.calibration_.own)


def test_the_networks_of_the_folds_are_trained_for_a_third_of_the_steps(
    survey, fitted, monkeypatch, capsys
):
    stamps, labels, _ = survey
    monkeypatch.setattr("skastro.estimators.classifier.may_help", lambda *_: True)
    compare = "skastro.estimators.classifier.compare_shares"
    monkeypatch.setattr(compare, lambda *_: {1 / 3: 0.0})
    classifier(FrozenEstimator(fitted), steps=12, verbose=1).fit(stamps, labels)
    headings = [line for line in capsys.readouterr().out.splitlines() if "Fine-tuning" in line]
    assert [line.rpartition(", ")[2] for line in headings] == ["2 epochs"] * 3 + ["6 epochs"]


def test_the_choice_is_that_of_predictions_with_the_catalogue(survey, fitted, monkeypatch):
    monkeypatch.setattr("skastro.estimators.classifier.may_help", lambda *_: True)
    stamps, labels, properties = survey
    losses = iter([{0.0: 0.5, 1.0: 0.4}, {0.0: 0.1, 1.0: 0.4}])
    compare = "skastro.estimators.classifier.compare_shares"
    monkeypatch.setattr(compare, lambda *_: next(losses))
    model = classifier(FrozenEstimator(fitted)).fit(stamps, labels, catalog=properties)
    assert (model.blend_, model.catalog_blend_) == (1.0, 0.0)
    assert model.catalog_cv_losses_ == {0.0: 0.1, 1.0: 0.4}
    assert "uses the probe alone" in model.choice_


def test_a_device_that_is_not_there_is_refused_before_anything_is_read(survey, fitted):
    encoder = copy.copy(fitted).set_params(device="gpu")
    with pytest.raises(ValueError, match="device='gpu' is not there: this machine has 'cpu'"):
        classifier(FrozenEstimator(encoder)).fit(survey[0][:, :1], survey[1])


def test_groups_stay_together_in_the_cross_validation(survey, fitted, monkeypatch):
    stamps, labels, _ = survey
    groups = np.arange(60) // 4
    model = classifier(FrozenEstimator(fitted))
    folds = []

    def watch(*args):
        folds.extend(make_folds(*args))
        return folds

    monkeypatch.setattr("skastro.estimators.classifier.make_folds", watch)
    keep = np.r_[0:30, 32:60]
    model.fit(stamps, np.where(np.isin(np.arange(60), keep), labels, ""), groups=groups)
    groups = groups[keep]
    assert len(folds) == 3
    for learn, test in folds:
        assert not set(groups[learn]) & set(groups[test])
    assert sorted(np.concatenate([test for _, test in folds])) == list(range(58))
    with pytest.raises(ValueError, match=r"groups has shape \(5,\), but X has 60 rows"):
        model.fit(stamps, labels, groups=np.arange(5))


def test_auto_uses_the_probe_if_each_class_is_one_group(survey, fitted):
    stamps, labels, _ = survey
    model = classifier(FrozenEstimator(fitted)).fit(stamps, labels, groups=labels)
    assert model.blend_ == 0


def test_the_blend_is_the_mean_of_probe_and_network(survey, fitted, monkeypatch):
    monkeypatch.setattr("skastro.estimators.classifier.may_help", lambda *_: True)
    stamps, labels, _ = survey
    compare = "skastro.estimators.classifier.compare_shares"
    monkeypatch.setattr(compare, lambda *_: {1 / 3: 0.0})
    blend = classifier(FrozenEstimator(fitted)).fit(stamps, labels)
    probe, network = (
        clone(blend).set_params(strategy=strategy).fit(stamps, labels).predict_proba(stamps)
        for strategy in ("probe", "finetune")
    )
    assert_allclose(blend.predict_proba(stamps), (2 * probe + network) / 3)


@pytest.mark.parametrize(
    ("y", "message"),
    [
        (np.full(60, "star"), "y holds one class only"),
        (np.full(60, -1), "y holds no label"),
        (np.arange(59) % 2, "y has 59 labels, but X has 60 stamps"),
        (np.linspace(0, 1, 60), "y holds continuous values: pass classes, and measurements as"),
        ("class", r"y='class' is a single value: .* such as catalog\['class'\]"),
        (np.eye(60, 2), r"got an array of shape \(60, 2\) instead: pass one column"),
    ],
)
def test_bad_labels_are_refused(survey, fitted, y, message):
    with pytest.raises(ValueError, match=message):
        classifier(FrozenEstimator(fitted)).fit(survey[0], y)


@pytest.mark.parametrize(
    "params", [{"strategy": "guess"}, {"steps": 0}, {"n_folds": 1}], ids=lambda p: next(iter(p))
)
def test_bad_parameters_are_refused(survey, fitted, params):
    name, value = next(iter(params.items()))
    with pytest.raises(ValueError, match=f"{name}={value!r}"):
        classifier(FrozenEstimator(fitted), **params).fit(*survey[:2])


@pytest.mark.parametrize("encoder", ["encoder.safetensors", SelfSupervisedClassifier])
def test_what_is_not_an_encoder_is_refused(survey, encoder):
    with pytest.raises(ValueError, match=r"must be an encoder, such as .*Encoder\.load\(path\)"):
        classifier(encoder).fit(*survey[:2])


def test_classes_among_the_properties_are_said(survey, fitted):
    stamps, labels, _ = survey
    codes = np.unique(labels[:60], return_inverse=True)[1]
    model = classifier(FrozenEstimator(fitted), strategy="probe")
    table = pd.DataFrame({"mag": stamps[:60].mean((1, 2, 3)), "kind": codes})
    with pytest.warns(UserWarning, match="properties column 'kind' has one number for each class"):
        model.fit(stamps[:60], labels[:60], properties=table)


def test_labels_in_another_order_than_the_stamps_are_said(survey, fitted):
    stamps, labels, _ = survey
    shuffled = pd.Series(labels[:60]).sample(frac=1, random_state=0)
    with pytest.warns(UserWarning, match="The index of y has the rows of X in another order"):
        classifier(FrozenEstimator(fitted)).fit(stamps[:60], shuffled)


def test_the_same_seed_gives_the_same_probabilities(survey, fitted):
    stamps, labels, _ = survey
    model = classifier(FrozenEstimator(fitted), strategy="finetune").fit(stamps, labels)
    again = clone(model).fit(stamps, labels)
    assert_array_equal(model.predict_proba(stamps), again.predict_proba(stamps))


KINDS = ("elliptical", "spiral", "irregular")


@pytest.fixture(scope="module")
def large():
    """Return stamps that are large enough for teachers, their labels and properties."""
    return make_stamps(side=16, seed=3)


@pytest.fixture(scope="module")
def teacher(large):
    """Return an encoder such as those of `load_pretrained`, with random weights."""
    encoder = PropertyPretrainedEncoder("stamp_resnet10", weights="galaxies", average_views=False)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = TeacherNetwork("stamp_resnet10", 16, 2, len(KINDS)).eval()
        network.head.weight.data *= 5
    with torch.inference_mode():
        features = network.embed(torch.from_numpy(large[0])).numpy()
    encoder.embedding_mean_, encoder.embedding_scale_ = measure_spread(features)
    encoder.network_, encoder.image_shape_, encoder.history_ = network, None, []
    encoder.targets_ = MorphologyTargets(("bar", "dust"), KINDS, np.zeros(2), np.ones(2), {})
    encoder.property_source_, encoder.seed_, encoder.n_missing_pixels_ = "simulation", 0, 0
    return encoder


@pytest.fixture(scope="module")
def own(large):
    return FrozenEstimator(tiny_encoder().fit(large[0], properties=large[2]))


def taught(own, teacher, **params):
    params = {"strategy": "probe", "pretrained": FrozenEstimator(teacher), **params}
    return SelfSupervisedClassifier(own, random_state=0, **params)


def test_the_probe_sees_the_teacher_beside_its_own_columns(large, own, teacher):
    stamps, labels, properties = large
    model = taught(own, teacher).fit(stamps, labels, catalog=properties)
    assert model.teachers_ == {"galaxies": teacher}
    alone = taught(own, teacher, pretrained=None).fit(stamps, labels)
    consulted = np.hstack([teacher.transform(stamps), teacher.predict(stamps)])
    columns = model.describe(stamps)
    assert_allclose(columns, np.hstack([alone.describe(stamps), consulted]))
    assert_array_equal(model.transform(stamps), own.estimator.transform(stamps))
    assert_allclose(model.predict_proba(stamps), model.probe_.predict_proba(columns))
    assert len(model.probe_.shares_) == 2
    # columns of a catalogue stand before those of the teacher
    columns = np.hstack([alone.describe(stamps), properties, consulted])
    assert_allclose(
        model.predict_proba(stamps, catalog=properties), model.catalog_probe_.predict_proba(columns)
    )


def test_a_teacher_counts_where_labels_speak_for_it(large, own, teacher):
    stamps, _, _ = large
    first = teacher.transform(stamps)
    by_teacher = np.where(first[:, 0] > np.median(first[:, 0]), "a", "b")
    helped = taught(own, teacher).fit(stamps, by_teacher)
    by_chance = np.random.default_rng(0).permutation(by_teacher)
    random = taught(own, teacher).fit(stamps, by_chance)
    assert helped.probe_.shares_[1] > random.probe_.shares_[1]
    assert helped.kinds_ == []


def test_classes_that_are_kinds_of_the_teacher_are_known_before_labels(large, own, teacher):
    stamps, labels, _ = large
    named = np.where(labels == "star", "E", "Spiral galaxies")
    model = taught(own, teacher, strategy="auto", steps=4).fit(stamps[:30], named[:30])
    assert model.kinds_ == ["elliptical", "spiral"]
    known = model.describe(stamps)[:, model.probe_.class_columns]
    assert_allclose(known, teacher.predict(stamps)[model.kinds_], rtol=1e-6)
    assert "The probe gives a share of" in model.choice_
    assert model.knows_classes(["S", "Irr"])
    assert not model.knows_classes(["S", "quasar"])


def test_no_class_is_known_of_stamps_that_have_no_teacher():
    model = SelfSupervisedClassifier()
    assert model.knows_classes(["S", "Irr"], np.zeros((2, 3, 16, 16)))
    assert not model.knows_classes(["S", "Irr"], np.zeros((2, 3, 15, 16)))
    assert model.knows_classes(["FR I", "FR II"], np.zeros((2, 1, 16, 16)))
    assert not model.knows_classes(["FR I", "FR II"], np.zeros((2, 3, 16, 16)))
    assert not model.set_params(pretrained=None).knows_classes(["S", "Irr"])


@pytest.mark.parametrize("y", [None, np.full(60, -1), [""] * 60])
def test_without_labels_the_teacher_names_its_kinds(large, teacher, y):
    stamps, _, properties = large
    # missing labels may be a mistake, unlike None
    warns = nullcontext() if y is None else pytest.warns(UserWarning, match="y has no label: the")
    with warns:
        model = taught(None, teacher).fit(stamps, y, catalog=properties)
    assert model.classes_.tolist() == list(KINDS)
    kinds = teacher.predict(stamps)[list(KINDS)].to_numpy()
    assert_allclose(model.predict_proba(stamps), kinds, rtol=1e-6)
    assert_array_equal(model.predict(stamps), np.array(KINDS)[kinds.argmax(axis=1)])
    assert_array_equal(model.predict(stamps, catalog=properties), model.predict(stamps))
    assert "No stamp has a label" in model.choice_
    assert model.encoder_ is teacher
    columns = np.hstack([teacher.transform(stamps), teacher.predict(stamps)])
    assert_allclose(model.describe(stamps)[:, : columns.shape[1]], columns)
    assert_array_equal(model.transform(stamps), teacher.transform(stamps))
    assert model.score(stamps, model.predict(stamps)) == 1


def test_without_labels_classes_can_be_chosen(large, own, teacher):
    stamps, _, _ = large
    model = taught(own, teacher, classes=["Sp", "E"]).fit(stamps, [None] * 60)
    kinds = teacher.predict(stamps)[["spiral", "elliptical"]].to_numpy()
    expected = kinds / kinds.sum(axis=1, keepdims=True)
    assert model.classes_.tolist() == ["Sp", "E"]
    assert_allclose(model.predict_proba(stamps), expected, rtol=1e-5)
    assert model.encoder_ is own.estimator
    for classes in (["Sp", "quasar"], ["Sp"]):
        with pytest.raises(ValueError, match="are not known without a label: pass two or more of"):
            model.set_params(classes=classes).fit(stamps)


def test_without_labels_and_teacher_nothing_can_be_learned(large, own, teacher):
    stamps, labels, _ = large
    with pytest.raises(ValueError, match="requires y to be passed, but the target y is None"):
        taught(own, teacher, pretrained=None).fit(stamps)
    with pytest.raises(ValueError, match="y holds no label"):
        taught(own, teacher, strategy="scratch").fit(stamps, [""] * 60)
    with pytest.raises(ValueError, match="y has 3 labels, but X has 60 stamps"):
        taught(own, teacher).fit(stamps, [""] * 3)
    with pytest.raises(ValueError, match=r"pass FrozenEstimator\(encoder\)"):
        taught(own, teacher, pretrained=teacher).fit(stamps, labels)
    with pytest.raises(ValueError, match="name='stars' is unknown"):
        taught(own, teacher, pretrained="stars").fit(stamps, labels)
    with pytest.raises(ValueError, match="is no encoder of load_pretrained"):
        taught(own, teacher, pretrained=own).fit(stamps, labels)


def test_teachers_are_asked_about_stamps_that_they_are_made_for(
    survey, large, own, fitted, teacher, monkeypatch
):
    monkeypatch.setattr(pretrained, "PRETRAINED", {"galaxies": "", "radio": ""})
    monkeypatch.setattr(pretrained, "load_pretrained", lambda name: teacher)  # noqa: ARG005
    stamps, labels, _ = large
    assert list(taught(own, None, pretrained="auto").fit(stamps, labels).teachers_) == ["galaxies"]
    encoder = tiny_encoder(targets="measured").fit(stamps[:, :1])
    one_band = taught(FrozenEstimator(encoder), None, pretrained="auto")
    assert list(one_band.fit(stamps[:, :1], labels).teachers_) == ["galaxies", "radio"]
    assert len(one_band.probe_.shares_) == 3
    # too small
    small = classifier(FrozenEstimator(fitted), strategy="probe").fit(*survey[:2])
    assert small.teachers_ == {}
    # the encoder itself
    itself = taught(FrozenEstimator(teacher), None, pretrained="auto").fit(stamps, labels)
    assert itself.teachers_ == {}


def test_a_classifier_with_a_teacher_is_cloned_and_pickled(large, own, teacher):
    stamps, labels, _ = large
    model = taught(own, teacher).fit(stamps, labels)
    assert_array_equal(
        pickle.loads(pickle.dumps(model)).predict_proba(stamps), model.predict_proba(stamps)
    )
    again = clone(model).fit(stamps, labels)
    assert again.teachers_["galaxies"] is not None
    assert_array_equal(again.predict_proba(stamps), model.predict_proba(stamps))
