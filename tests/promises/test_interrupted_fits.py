"""A fit that an error or Ctrl-C ends leaves the earlier fit whole, or an unfitted estimator."""

import inspect
import sys
from contextlib import contextmanager

import numpy as np
import pytest
import torch
from numpy.testing import assert_array_equal
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.utils.validation import check_is_fitted

import skastro
from skastro import (
    AsinhScaler,
    EmbeddingClusterer,
    KernelProbe,
    LinearProbe,
    PropertyPretrainedEncoder,
    SelfSupervisedClassifier,
    SelfSupervisedRegressor,
)
from skastro.estimators import encoder as encoder_file
from tests.conftest import OneConvolution, make_stamps, tiny_encoder
from tests.project.test_common import _public_estimators

STAMPS, LABELS, PROPERTIES = make_stamps(40)
OTHER = make_stamps(30, seed=1)
POINTS = np.random.default_rng(0).normal(size=(70, 12)) + 4 * np.eye(12)[np.arange(70) % 2]
CODES = np.arange(70) % 2
QUICK = PropertyPretrainedEncoder(
    OneConvolution(), average_views=False, max_epochs=1, random_state=0
)
# estimator, arguments of two fits, and what the estimator then does with the data of the first
CASES = {
    "AsinhScaler": (AsinhScaler(), (STAMPS,), (OTHER[0],), "transform"),
    "EmbeddingClusterer": (
        EmbeddingClusterer(random_state=0), (POINTS,), (POINTS[::2] * 2,), "predict"
    ),
    "KernelProbe": (KernelProbe(2), (POINTS, CODES), (POINTS[9:], CODES[9:]), "predict_proba"),
    "LinearProbe": (LinearProbe(), (POINTS, CODES), (POINTS[9:], CODES[9:]), "predict_proba"),
    "PropertyPretrainedEncoder": (QUICK, (STAMPS,), (OTHER[0],), "transform"),
    "SelfSupervisedClassifier": (
        SelfSupervisedClassifier(QUICK, steps=2, random_state=0),
        (STAMPS, LABELS), OTHER[:2], "predict_proba",
    ),
    "SelfSupervisedRegressor": (
        SelfSupervisedRegressor(QUICK, random_state=0),
        (STAMPS, PROPERTIES["mag_u"]), (OTHER[0], OTHER[2]["mag_u"]), "predict",
    ),
}  # fmt: skip
MOMENTS = (0.05, 0.3, 0.6, 0.9)  # shares of the calls of a fit


def test_every_public_estimator_is_interrupted_here():
    assert {estimator.__name__ for estimator in _public_estimators()} == set(CASES)


@contextmanager
def interrupting(n_calls):
    """Raise KeyboardInterrupt at a call of a function of skastro; yield the number of calls."""
    folder = skastro.__path__[0]
    calls = [0]

    def count(frame, event, _):
        code = frame.f_code
        is_generator = code.co_flags & inspect.CO_GENERATOR  # may be closed by its finaliser
        if event == "call" and code.co_filename.startswith(folder) and not is_generator:
            calls[0] += 1
            if calls[0] == n_calls:
                raise KeyboardInterrupt

    sys.setprofile(count)
    try:
        yield calls
    finally:
        sys.setprofile(None)


@pytest.mark.usefixtures("quick_probe")
@pytest.mark.parametrize("name", CASES)
def test_an_interrupted_fit_changes_nothing(name):
    estimator, first, second, method = CASES[name]
    fitted = clone(estimator).fit(*first)
    before, attributes = getattr(fitted, method)(first[0]), dict(vars(fitted))
    with interrupting(None) as calls:  # the first fit above has filled the caches
        clone(estimator).fit(*second)
    for moment in MOMENTS:
        n_calls = max(1, round(moment * calls[0]))
        fresh = clone(estimator)
        with pytest.raises(KeyboardInterrupt), interrupting(n_calls):
            fresh.fit(*second)
        assert set(vars(fresh)) == set(estimator.get_params(deep=False))
        with pytest.raises(NotFittedError):
            check_is_fitted(fresh)
        with pytest.raises(KeyboardInterrupt), interrupting(n_calls):
            fitted.fit(*second)
        assert vars(fitted).keys() == attributes.keys()
        assert all(vars(fitted)[key] is value for key, value in attributes.items())
        assert_array_equal(getattr(fitted, method)(first[0]), before)


@pytest.mark.usefixtures("quick_probe")
@pytest.mark.parametrize("name", CASES)
def test_an_interrupted_prediction_changes_nothing(name):
    estimator, first, _, method = CASES[name]
    fitted = clone(estimator).fit(*first)
    with interrupting(None) as calls:
        before = getattr(fitted, method)(first[0])
    fitted = clone(estimator).fit(*first)  # without warm caches
    for n_calls in {1, calls[0] // 2, calls[0]} - {0}:
        with pytest.raises(KeyboardInterrupt), interrupting(n_calls):
            getattr(fitted, method)(first[0])
        assert_array_equal(getattr(fitted, method)(first[0]), before)


@pytest.mark.parametrize("error", [KeyboardInterrupt, MemoryError, RuntimeError, ValueError])
@pytest.mark.parametrize("place", ["collect_targets", "train", "run_network"])
def test_an_error_in_any_step_of_the_pretraining_leaves_the_earlier_one(monkeypatch, error, place):
    encoder = tiny_encoder().fit(STAMPS, properties=PROPERTIES)
    before, names = encoder.transform(STAMPS), encoder.property_names_
    work = getattr(encoder_file, place)

    def fail(*args, **kwargs):
        work(*args, **kwargs)  # a network is trained in place
        raise error("out of memory")

    with monkeypatch.context() as patch:
        patch.setattr(encoder_file, place, fail)
        with pytest.raises(error):
            encoder.fit(OTHER[0][:, :2], properties=OTHER[2][["mag_u"]])
    assert encoder.image_shape_ == STAMPS.shape[1:]
    assert encoder.property_names_ == names
    assert_array_equal(encoder.transform(STAMPS), before)


@pytest.mark.parametrize("shared", ["module", "function"])
def test_a_refit_does_not_train_the_network_of_the_earlier_fit(monkeypatch, shared):
    module = OneConvolution()(3)
    encoder = tiny_encoder(backbone=module if shared == "module" else lambda _: module)
    encoder.fit(STAMPS)
    before, network = encoder.transform(STAMPS), encoder.network_
    weights = [part.clone() for part in module.parameters()]
    train = encoder_file.train

    def interrupt(*args, **kwargs):
        train(*args, **kwargs)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(encoder_file, "train", interrupt)
        with pytest.raises(KeyboardInterrupt):
            encoder.fit(OTHER[0])
    assert encoder.network_ is network
    assert_array_equal(encoder.transform(STAMPS), before)
    assert all(map(torch.equal, module.parameters(), weights))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"y": LABELS[:5]}, "y has 5 labels"),
        ({"y": np.full(40, "")}, "no label"),
        ({"y": np.full(40, "star")}, "one class only"),
        ({"X": np.full_like(STAMPS, np.nan)}, "no finite pixel"),
        ({"properties": PROPERTIES[:5]}, "properties has 5 rows"),
        ({"groups": [1, 2]}, "groups has shape"),
    ],
)
def test_bad_input_leaves_the_earlier_classifier(change, message):
    model = SelfSupervisedClassifier(QUICK, strategy="probe", random_state=0)
    arguments = {"X": STAMPS, "y": LABELS, "properties": PROPERTIES}
    model.fit(**arguments)
    before = model.predict_proba(STAMPS)
    with pytest.raises(ValueError, match=message):
        model.fit(**(arguments | change))
    assert_array_equal(model.predict_proba(STAMPS), before)


def test_a_pipeline_whose_first_fit_is_interrupted_is_not_fitted(monkeypatch):
    pipeline = make_pipeline(AsinhScaler(), tiny_encoder(), LogisticRegression())

    def interrupt(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(encoder_file, "train", interrupt)
    with pytest.raises(KeyboardInterrupt):
        pipeline.fit(STAMPS, LABELS)
    with pytest.raises(NotFittedError):
        pipeline.predict(STAMPS)


def test_an_interrupted_classifier_leaves_its_frozen_encoder(monkeypatch):
    encoder = tiny_encoder().fit(STAMPS)
    before = encoder.transform(STAMPS)
    model = SelfSupervisedClassifier(
        FrozenEstimator(encoder), strategy="finetune", steps=3, random_state=0
    )
    monkeypatch.setattr("skastro.estimators.classifier.train", lambda *_, **__: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        model.fit(STAMPS, LABELS)
    with pytest.raises(NotFittedError):
        model.predict(STAMPS)
    assert_array_equal(encoder.transform(STAMPS), before)
