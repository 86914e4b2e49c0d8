"""LinearProbe: classify embeddings by logistic regression."""

from __future__ import annotations

import itertools
from abc import abstractmethod
from numbers import Real
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import accuracy_score, balanced_accuracy_score
from sklearn.utils.validation import check_consistent_length, check_is_fitted, validate_data

from skastro.utils.fitting import fits_as_a_whole
from skastro.utils.validation import (
    Documented,
    check_groups,
    check_labels,
    count_independent_rows,
    draw_seed,
    plain_rows,
    stratified_folds,
    take_rows,
)

_CANDIDATES = tuple(np.geomspace(1e-3, 10, 7).tolist())
_DEFAULT_C = 0.03  # where a class has too few labels for a comparison
_N_FOLDS = 5
_MIN_PREDICTED_ROWS = 200  # the cross-validation is repeated until it has predicted that many,
_MAX_REPEATS = 4  # at most this many times
_Folds = list[tuple[NDArray[np.int64], NDArray[np.int64]]]


class Probe(Documented, ClassifierMixin, BaseEstimator):
    """What `LinearProbe` and `KernelProbe` have in common."""

    @abstractmethod
    def _probabilities(self, X: Any) -> NDArray[np.float64]: ...

    def predict(self, X: Any) -> NDArray[Any]:
        """Return the most probable class of each row.

        Parameters
        ----------
        X : array-like of shape (n, d)
            As in `fit`.

        Returns
        -------
        classes : array of shape (n,)
            In the dtype of the labels.
        """
        probabilities = self.predict_proba(X)
        return self.classes_[probabilities.argmax(axis=1)]

    def predict_proba(self, X: Any) -> NDArray[np.float64]:
        """Return the probability of each class.

        Parameters
        ----------
        X : array-like of shape (n, d)
            As in `fit`.

        Returns
        -------
        probabilities : float64 array of shape (n, k)
            In the order of ``classes_``.
        """
        check_is_fitted(self)
        return self._probabilities(X)

    def score(self, X: Any, y: Any, sample_weight: Any = None) -> float:
        """Return the accuracy on the labelled rows; those without a label are left out.

        Parameters
        ----------
        X : array-like of shape (n, d)
        y : array-like of shape (n,)
            Classes; rows without a label are marked as in `SelfSupervisedClassifier`.
        sample_weight : array-like of shape (n,), default=None

        Returns
        -------
        score : float
        """
        predicted = self.predict(X)
        classes, codes = check_labels(y)
        check_consistent_length(predicted, codes)
        rows = np.flatnonzero(codes >= 0)
        weights = None if sample_weight is None else np.asarray(sample_weight)[rows]
        return float(accuracy_score(classes[codes[rows]], predicted[rows], sample_weight=weights))

    def _check_rows(
        self, X: Any, y: Any, **checks: Any
    ) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        """Set ``classes_``, and return X and the class of each row as a code, -1 for none.

        ``checks`` are passed to `validate_data`.
        """
        if y is None:
            raise ValueError(
                f"{type(self).__name__} requires y to be passed, but the target y is None: label "
                "rows of two classes at least."
            )
        X = validate_data(self, plain_rows(X), dtype=np.float64, **checks)
        classes, codes = check_labels(y)
        check_consistent_length(X, codes)
        if len(classes) < 2:
            raise ValueError(
                f"y holds one class only ({classes.item(0)!r}): label rows of two at least."
            )
        self.classes_ = classes
        return X, codes


class LinearProbe(Probe):
    """Classify by logistic regression, regularised by cross-validation on the labels.

    Tasks differ in how many columns of an embedding are useful: with 30 labels of noisy galaxies
    the best C is a hundredth of that for stars and quasars.

    Parameters
    ----------
    C : float or "auto", default="auto"
        Inverse regularisation. "auto" compares seven values between 0.001 and 10 by their balanced
        accuracy in stratified 5-fold cross-validation (repeated below 200 rows, with fewer folds
        where a class has fewer rows); ties go to the strongest regularisation. It is 0.03 where a
        class has one row only.
    class_weight : dict, "balanced" or None, default="balanced"
        Weights of the classes, as in scikit-learn.
    random_state : int, RandomState or None, default=0
        Seed of the folds.

    Attributes
    ----------
    classes_ : array of shape (k,)
    C_ : float
        The inverse regularisation that was used.
    cv_scores_ : dict of float to float
        Cross-validated balanced accuracy of each C; empty where nothing was compared.
    model_ : LogisticRegression
        The fitted model.
    coef_, intercept_ : float64 arrays of shape (k, d) and (k,), or (1, d) and (1,) for two classes
    n_features_in_ : int

    Examples
    --------
    >>> import numpy as np
    >>> rng = np.random.default_rng(0)
    >>> labels = np.arange(60) % 2
    >>> embeddings = rng.normal(size=(60, 20)) + 2 * labels[:, None]
    >>> probe = LinearProbe().fit(embeddings[:40], labels[:40])
    >>> probe.C_, probe.score(embeddings[40:], labels[40:])
    (0.001, 1.0)
    """

    # routed without set_fit_request
    __metadata_request__fit = {"groups": True}  # noqa: RUF012

    def __init__(
        self,
        C: float | str = "auto",
        *,
        class_weight: dict[Any, float] | str | None = "balanced",
        random_state: int | np.random.RandomState | None = 0,
    ) -> None:
        self.C = C
        self.class_weight = class_weight
        self.random_state = random_state

    @fits_as_a_whole
    def fit(self, X: Any, y: Any, *, groups: Any = None) -> Self:
        """Choose C, if it is "auto", and learn from the labelled rows.

        Parameters
        ----------
        X : array-like of shape (n, d)
            Columns with a mean of about 0 and a standard deviation of about 1.
        y : array-like of shape (n,)
            Classes of any dtype; rows without a label, which are left out, are marked as in
            `SelfSupervisedClassifier`.
        groups : array-like of shape (n,), default=None
            Rows of one group stay together in the cross-validation.

        Returns
        -------
        self : LinearProbe

        Raises
        ------
        ValueError
            ``C`` is neither positive nor "auto", there is one class only, or ``groups`` does not
            have one value for each row.
        """
        if self.C != "auto" and not (isinstance(self.C, Real) and self.C > 0):
            raise ValueError(f"C={self.C!r} must be positive, or 'auto'.")
        # float64: the solver's stopping rule is lost in float32 rounding
        X, codes = self._check_rows(X, y)
        labelled = np.flatnonzero(codes >= 0)
        groups = take_rows(check_groups(groups, len(X)), labelled)
        X, codes = X[labelled], codes[labelled]
        y = self.classes_[codes]
        folds = self._make_folds(codes, groups) if self.C == "auto" else []
        self.cv_scores_ = self._compare(X, y, folds) if folds else {}
        best = max(self.cv_scores_, key=self.cv_scores_.__getitem__, default=_DEFAULT_C)
        self.C_ = best if self.C == "auto" else float(self.C)
        self.model_ = self._model(C=self.C_).fit(X, y)
        self.coef_, self.intercept_ = self.model_.coef_, self.model_.intercept_
        return self

    def decision_function(self, X: Any) -> NDArray[np.float64]:
        """Return the logits, whose softmax are the probabilities.

        Parameters
        ----------
        X : array-like of shape (n, d)
            As in `fit`.

        Returns
        -------
        logits : float64 array of shape (n, k), or (n,) for two classes
        """
        check_is_fitted(self)
        X = validate_data(self, plain_rows(X), reset=False, dtype=np.float64)
        return self.model_.decision_function(X)

    def _probabilities(self, X: Any) -> NDArray[np.float64]:
        X = validate_data(self, plain_rows(X), reset=False, dtype=np.float64)
        return self.model_.predict_proba(X)

    def _model(self, **params: Any) -> LogisticRegression:
        return LogisticRegression(class_weight=self.class_weight, max_iter=2000, **params)

    def _make_folds(self, codes: NDArray[np.intp], groups: NDArray[np.int64] | None) -> _Folds:
        """Split the rows; no fold where a class has too few rows or groups for a comparison."""
        n_folds = min(_N_FOLDS, count_independent_rows(codes, groups))
        if n_folds < 2:
            return []
        n_repeats = np.clip(_MIN_PREDICTED_ROWS // len(codes), 1, _MAX_REPEATS)
        seeds = np.random.RandomState(draw_seed(self.random_state)).randint(2**31, size=n_repeats)
        repeats = (stratified_folds(codes, n_folds, groups=groups, seed=int(s)) for s in seeds)
        return list(itertools.chain.from_iterable(repeats))

    def _compare(self, X: NDArray[Any], y: NDArray[Any], folds: _Folds) -> dict[float, float]:
        """Return the balanced accuracy of each C over the rows of all folds."""
        predicted: dict[float, list[NDArray[Any]]] = {C: [] for C in _CANDIDATES}
        for learn, test in folds:
            model = self._model(warm_start=True)  # each C starts from the weights of the last
            for C in _CANDIDATES:
                model.set_params(C=C).fit(X[learn], y[learn])
                predicted[C].append(model.predict(X[test]))
        true = np.concatenate([y[test] for _, test in folds])
        return {
            C: float(balanced_accuracy_score(true, np.concatenate(parts)))
            for C, parts in predicted.items()
        }
