"""The checks of scikit-learn for every public estimator."""

import inspect

import pytest
from sklearn.base import BaseEstimator
from sklearn.utils.estimator_checks import parametrize_with_checks

import skastro
from skastro import PropertyPretrainedEncoder
from tests.conftest import OneConvolution

# parameters that make an estimator cheap enough for fifty fits; no check is expected to fail
_FAST_PARAMETERS = {
    "PropertyPretrainedEncoder": {
        "backbone": "stamp_resnet10",
        "max_epochs": 1,
        "random_state": 0,
    },
    "SelfSupervisedClassifier": {
        "encoder": PropertyPretrainedEncoder(
            OneConvolution(), average_views=False, max_epochs=1, random_state=0
        ),
        "steps": 2,
        "random_state": 0,
    },
    "SelfSupervisedRegressor": {
        "encoder": PropertyPretrainedEncoder(
            OneConvolution(), average_views=False, max_epochs=1, random_state=0
        ),
        "random_state": 0,
    },
}


def _public_estimators():
    objects = [getattr(skastro, name) for name in skastro.__all__]
    return [o for o in objects if inspect.isclass(o) and issubclass(o, BaseEstimator)]


def test_every_estimator_is_discovered():
    names = {estimator.__name__ for estimator in _public_estimators()}
    assert {"AsinhScaler", "PropertyPretrainedEncoder", "SelfSupervisedClassifier"} <= names
    assert "SelfSupervisedRegressor" in names


@pytest.mark.slow
@pytest.mark.usefixtures("quick_probe")
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@parametrize_with_checks(
    [
        estimator(**_FAST_PARAMETERS.get(estimator.__name__, {}))
        for estimator in _public_estimators()
    ]
)
def test_scikit_learn_compatible(estimator, check):
    check(estimator)
