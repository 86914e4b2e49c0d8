"""Let `fit` of an estimator happen as a whole or not at all."""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable
from typing import Any, TypeVar, cast

Fit = TypeVar("Fit", bound=Callable[..., Any])


def fits_as_a_whole(fit: Fit) -> Fit:
    """Decorate the ``fit`` of an estimator, so that it assigns all attributes together, at its end.

    It works on a copy without the attributes of an earlier fit, whose names end in ``_``. If an
    error or Ctrl-C ends it, the estimator is what it was before: fitted as a whole, or not fitted.
    What the earlier fit has learned must not be changed in place; a subclass sets attributes of its
    own after it has called ``super().fit()``.

    Examples
    --------
    >>> from sklearn.base import BaseEstimator
    >>> class Mean(BaseEstimator):
    ...     @fits_as_a_whole
    ...     def fit(self, X, y=None):
    ...         self.n_ = len(X)
    ...         self.mean_ = sum(X) / self.n_
    ...         return self
    >>> mean = Mean().fit([1.0, 3.0])
    >>> mean.fit([])
    Traceback (most recent call last):
    ZeroDivisionError: division by zero
    >>> mean.n_, mean.mean_
    (2, 2.0)
    """

    @functools.wraps(fit)
    def fit_copy(self: Any, *args: Any, **kwargs: Any) -> Any:
        fitted = copy.copy(self)
        for name in [name for name in vars(fitted) if name.endswith("_")]:
            delattr(fitted, name)
        fit(fitted, *args, **kwargs)
        self.__dict__ = vars(fitted)  # one step, which no Ctrl-C divides
        return self

    return cast("Fit", fit_copy)
