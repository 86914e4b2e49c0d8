import warnings

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy.stats import norm
from sklearn.base import clone
from sklearn.frozen import FrozenEstimator

from skastro import SelfSupervisedClassifier, load_pretrained, make_galaxies
from skastro.networks.weights import CLASSIFIER_KEY, read_encoder, write_encoder
from skastro.probes.cross_validation import LabelledRows, SetCalibration, may_help

CLASSES = np.array(["galaxy", "quasar", "star"])


def draw(n, seed, shares=(0.6, 0.3, 0.1), spreads=(1.0, 2.0, 0.5)):
    """Draw classes, and probabilities by a model that knows neither the shares nor the spreads."""
    rng = np.random.default_rng(seed)
    codes = rng.choice(3, n, p=shares)
    values = 2.0 * codes + rng.normal(size=n) * np.array(spreads)[codes]
    likelihoods = norm.pdf(values[:, None], 2.0 * np.arange(3))
    return codes, likelihoods / likelihoods.sum(axis=1, keepdims=True)


@pytest.mark.parametrize("coverage", [0.8, 0.9])
def test_sets_hold_the_true_class_as_often_as_wanted_in_each_class(coverage):
    found = []
    for seed in range(40):
        codes, probabilities = draw(300, seed)
        calibration = SetCalibration.measure(codes, probabilities)
        true, new = draw(3000, seed + 1000)
        sets = calibration.choose_sets(new, coverage, CLASSES)
        held = sets[np.arange(3000), true]
        found.append([held[true == code].mean() for code in range(3)])
        assert sets.any(axis=1).all()
    # where the most probable class is true more often than that, the coverage is larger
    means = np.mean(found, axis=0)
    assert means.min() > coverage - 0.02
    assert_allclose(means[1], coverage, atol=0.02)


def test_a_larger_coverage_only_adds_classes():
    calibration = SetCalibration.measure(*draw(300, 0))
    _, new = draw(100, 1)
    small, large = (calibration.choose_sets(new, share, CLASSES) for share in (0.7, 0.95))
    assert (large >= small).all()
    assert large.sum() > small.sum()


def test_the_threshold_is_an_order_statistic_of_the_labels_of_the_class():
    own = np.array([0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.55, 0.65])
    calibration = SetCalibration(np.array([0] * 9 + [1] * 2), own)
    new = np.array([[0.35, 0.65], [0.25, 0.75]])
    with pytest.warns(UserWarning, match="'b' has 2"):
        sets = calibration.choose_sets(new, 0.7, np.array(["a", "b"]))  # the third of 9 and 1
    assert_array_equal(sets, [[True, True], [False, True]])


def test_a_class_of_few_labels_is_said_and_not_in_every_set():
    codes, own = np.repeat([0, 1], [40, 8]), np.repeat([0.7, 0.6], [40, 8])
    calibration = SetCalibration(codes, own)
    new = np.array([[0.9, 0.1], [0.35, 0.65], [0.3, 0.7]])
    message = r"90% of a class cannot be promised from fewer than 9 labels .* but 'star' has 8: "
    with pytest.warns(UserWarning, match=message):
        sets = calibration.choose_sets(new, 0.9, CLASSES[[0, 2]])
    assert_array_equal(sets, [[True, False], [False, True], [False, True]])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        SetCalibration(np.repeat([0, 1], [40, 9]), np.full(49, 0.5)).choose_sets(
            new, 0.9, CLASSES[[0, 2]]
        )


def classify(fitted, survey, **params):
    stamps, labels, _ = survey
    model = SelfSupervisedClassifier(FrozenEstimator(fitted), steps=10, random_state=0)
    return model.set_params(**{"strategy": "probe", **params}).fit(stamps, labels)


def test_sets_come_from_probabilities_of_labels_that_were_left_out(fitted, survey):
    model = classify(fitted, survey)
    codes = (survey[1] == model.classes_[1]).astype(int)
    left_out = model.probe_.loo_probabilities_[np.arange(60), codes]
    assert_array_equal(model.calibration_.own, left_out)
    sets = model.predict_set(survey[0])
    assert (sets.shape, sets.dtype) == ((60, 2), bool)
    expected = model.calibration_.choose_sets(model.predict_proba(survey[0]), 0.9, model.classes_)
    assert_array_equal(sets, expected)
    assert sets[np.arange(60), model.predict_proba(survey[0]).argmax(axis=1)].all()


def look(network, probe):
    """Return whether networks may help a probe, by probabilities of the true class of each row."""
    n = len(network)
    rows = LabelledRows(np.zeros(n), np.zeros(n), np.zeros(n, int), np.ones(n))
    pair = [np.column_stack([p, 1 - p]) for p in (np.array(network), np.array(probe))]
    return may_help(rows, pair[0], [pair[1]], np.arange(n))


def test_a_network_may_help_where_its_mean_with_the_probe_is_better():
    assert look([0.9] * 8, [0.6] * 8)
    assert not look([0.3] * 8, [0.6] * 8)
    # worse alone, but right where the probe is wrong
    assert look([0.2, 0.9] * 8, [0.95, 0.05] * 8)


def test_sets_with_a_network_come_from_the_folds_of_the_blend(fitted, survey, monkeypatch):
    compared = []

    def compare(_, by_probe, by_network):
        compared.append((2 * by_probe + by_network) / 3)
        return {1 / 3: 0.0}

    monkeypatch.setattr("skastro.estimators.classifier.compare_shares", compare)
    monkeypatch.setattr("skastro.estimators.classifier.may_help", lambda *_: True)
    model = classify(fitted, survey, strategy="auto")
    codes = (survey[1] == model.classes_[1]).astype(int)
    assert_allclose(model.calibration_.own, compared[0][np.arange(60), codes])


def test_rows_of_a_group_are_left_out_together(fitted, survey):
    stamps, labels, _ = survey
    labels = np.random.default_rng(0).permutation(labels)  # nothing can be learned
    model = classify(fitted, (np.repeat(stamps[:30], 2, axis=0), np.repeat(labels[:30], 2), None))
    assert model.calibration_.own.mean() > 0.8  # the other stamp of each pair tells its class
    grouped = clone(model).fit(
        np.repeat(stamps[:30], 2, axis=0), np.repeat(labels[:30], 2), groups=np.arange(60) // 2
    )
    assert grouped.calibration_.own.mean() < 0.7


def test_a_catalogue_has_a_calibration_of_its_own(fitted, survey):
    stamps, labels, properties = survey
    codes = (labels == "star").astype(int)
    shuffled = np.where(np.random.default_rng(0).uniform(size=60) < 0.5, codes, 1 - codes)
    model = classify(fitted, survey)
    catalog = properties[["mag_u"]].assign(answer=shuffled + 0.0)
    model.fit(stamps, shuffled, catalog=catalog)
    alone, together = model.calibration_.own, model.catalog_calibration_.own
    assert together.mean() > alone.mean() + 0.1
    sizes = [model.predict_set(stamps, catalog=table).sum() for table in (None, catalog)]
    assert sizes[1] < sizes[0]
    with pytest.raises(ValueError, match="the classifier was fitted without"):
        classify(fitted, survey).predict_set(stamps, catalog=catalog)


@pytest.mark.parametrize("coverage", [0, 1, 90, -0.1, "0.9", None, np.nan])
def test_a_coverage_out_of_range_is_refused(fitted, survey, coverage):
    model = classify(fitted, survey)
    with pytest.raises(ValueError, match=r"coverage=.* must be between 0 and 1, such as 0\.9"):
        model.predict_set(survey[0], coverage=coverage)


@pytest.mark.parametrize("strategy", ["finetune", "scratch"])
def test_networks_alone_have_left_no_label_out(fitted, survey, strategy):
    model = classify(fitted, survey, strategy=strategy)
    message = f"strategy='{strategy}', which leaves no label out: fit it with 'auto' or 'probe'"
    with pytest.raises(ValueError, match=message):
        model.predict_set(survey[0])


def test_without_any_label_there_are_no_sets():
    stamps = make_galaxies(8, image_size=16, random_state=0).images
    encoder = FrozenEstimator(load_pretrained())
    model = SelfSupervisedClassifier(encoder, classes=["E", "S0"]).fit(stamps)
    with pytest.raises(ValueError, match="has learned from no label: pass labels to fit"):
        model.predict_set(stamps)


def test_sets_of_a_loaded_classifier_are_the_same(fitted, survey, tmp_path):
    stamps, labels, properties = survey
    model = classify(fitted, survey).fit(stamps, labels, catalog=properties[["mag_u"]])
    path = tmp_path / "c.safetensors"
    model.save(path)
    loaded = SelfSupervisedClassifier.load(path)
    assert_array_equal(loaded.predict_set(stamps), model.predict_set(stamps))
    assert_array_equal(loaded.catalog_calibration_.own, model.catalog_calibration_.own)
    # a file of a version without sets
    tensors, document = read_encoder(path, kind=CLASSIFIER_KEY)
    former = {name: t for name, t in tensors.items() if "calibration" not in name}
    write_encoder(path, former, document, kind=CLASSIFIER_KEY)
    loaded = SelfSupervisedClassifier.load(path)
    assert_array_equal(loaded.predict_proba(stamps), model.predict_proba(stamps))
    with pytest.raises(ValueError, match="a version of skastro without predict_set: fit it again"):
        loaded.predict_set(stamps)


def test_calibrations_that_are_not_valid_are_refused(fitted, survey, tmp_path):
    path = tmp_path / "c.safetensors"
    classify(fitted, survey).save(path)
    tensors, document = read_encoder(path, kind=CLASSIFIER_KEY)
    codes, own = tensors["calibration.codes"], tensors["calibration.own"]
    changes = [
        {"calibration.codes": None},
        {"calibration.codes": codes[:-1]},
        {"calibration.codes": codes + 1},
        {"calibration.codes": codes.double()},
        {"calibration.own": own[:, None]},
        {"calibration.own": own + 2},
        {"calibration.own": own * np.nan},
    ]
    for change in changes:
        parts = {name: t for name, t in (tensors | change).items() if t is not None}
        write_encoder(path, parts, document, kind=CLASSIFIER_KEY)
        with pytest.raises(
            ValueError, match=r"c\.safetensors does not describe a valid classifier"
        ):
            SelfSupervisedClassifier.load(path)
