"""scikit-learn's checks over every public estimator, discovered and not listed."""

import inspect

import numpy as np
import pytest
from numpydoc.docscrape import ClassDoc
from sklearn.base import BaseEstimator
from sklearn.utils.estimator_checks import parametrize_with_checks

import skastro
from skastro import PropertyPretrainedEncoder

# what makes an estimator cheap enough for fifty fits; no check is marked as expected to fail
_FAST = {
    "PropertyPretrainedEncoder": {
        "backbone": "stamp_resnet10",
        "max_epochs": 1,
        "random_state": 0,
    },
    "SelfSupervisedClassifier": {
        "encoder": PropertyPretrainedEncoder("stamp_resnet10", max_epochs=1, random_state=0),
        "steps": 2,
        "random_state": 0,
    },
}


def _public_estimators():
    objects = [getattr(skastro, name) for name in skastro.__all__]
    return [o for o in objects if inspect.isclass(o) and issubclass(o, BaseEstimator)]


def test_every_estimator_is_discovered():
    names = {estimator.__name__ for estimator in _public_estimators()}
    assert {"AsinhScaler", "PropertyPretrainedEncoder", "SelfSupervisedClassifier"} <= names


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@parametrize_with_checks(
    [estimator(**_FAST.get(estimator.__name__, {})) for estimator in _public_estimators()]
)
def test_scikit_learn_compatible(estimator, check):
    check(estimator)


@pytest.mark.parametrize("estimator", _public_estimators(), ids=lambda e: e.__name__)
def test_documented_defaults_are_the_signature(estimator):
    documented = {p.name: p.type for p in ClassDoc(estimator)["Parameters"]}
    for name, parameter in inspect.signature(estimator).parameters.items():
        assert name in documented, f"{estimator.__name__}: {name} is not documented"
        default = documented[name].rpartition("default=")[2]
        assert default.strip('"') == str(parameter.default).strip("'") or np.isclose(
            float(default), parameter.default
        )
