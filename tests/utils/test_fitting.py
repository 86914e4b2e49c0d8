import inspect

import pytest
from sklearn.base import BaseEstimator
from sklearn.exceptions import NotFittedError
from sklearn.utils.validation import check_is_fitted

from skastro.utils.fitting import fits_as_a_whole


class Steps(BaseEstimator):
    """An estimator that sets one attribute before and one after a step that may fail."""

    def __init__(self, fails=False):
        self.fails = fails

    @fits_as_a_whole
    def fit(self, X, y=None, *, weights=None):  # noqa: ARG002
        self.first_ = X
        if self.fails:
            raise KeyboardInterrupt
        if weights is not None:
            self.weights_ = weights
        self.second_ = X
        return self


def test_a_first_fit_that_fails_leaves_an_unfitted_estimator():
    steps = Steps(fails=True)
    with pytest.raises(KeyboardInterrupt):
        steps.fit(1)
    assert vars(steps) == {"fails": True}
    with pytest.raises(NotFittedError):
        check_is_fitted(steps)


def test_a_fit_that_fails_leaves_the_earlier_one_as_a_whole():
    steps = Steps().fit(1, weights=5)
    with pytest.raises(KeyboardInterrupt):
        steps.set_params(fails=True).fit(2)
    assert (steps.first_, steps.second_, steps.weights_) == (1, 1, 5)


def test_nothing_of_an_earlier_fit_stays_after_a_new_one():
    steps = Steps()
    assert steps.fit(1, weights=5) is steps
    steps.fit(2)
    assert vars(steps) == {"fails": False, "first_": 2, "second_": 2}


def test_signature_and_docstring_are_those_of_the_method():
    assert list(inspect.signature(Steps.fit).parameters) == ["self", "X", "y", "weights"]
