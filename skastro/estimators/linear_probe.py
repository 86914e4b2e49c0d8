"""LinearProbe: what a frozen representation knows, read out by logistic regression."""

from __future__ import annotations

from numbers import Real
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import balanced_accuracy_score
from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, validate_data

from skastro.utils.validation import Documented, draw_seed

_CANDIDATES = tuple(np.geomspace(1e-3, 10, 7).tolist())
_FEW = 0.03  # C where a class has too few labels to compare by
_FOLDS = 5
_COMPARED_ROWS = 200  # few rows are split again until so many have been judged ...
_MOST_REPEATS = 4  # ... or so often
_Folds = list[tuple[NDArray[np.int64], NDArray[np.int64]]]


class LinearProbe(Documented, ClassifierMixin, BaseEstimator):
    """Classify by logistic regression, regularised as cross-validation on the labels says.

    Columns of an embedding differ from task to task in how many of them are of use: with 30
    labels of noisy galaxies the best C is a hundredth of that for stars and quasars.

    Parameters
    ----------
    C : float or "auto", default="auto"
        Inverse regularisation. "auto" takes the one of seven between 0.001 and 10 with the best
        balanced accuracy in stratified 5-fold cross-validation (repeated below 200 rows, with
        fewer folds where a class has fewer rows; the strongest regularisation wins ties), and
        0.03 where a class has one row only.
    class_weight : dict, "balanced" or None, default="balanced"
        As in scikit-learn.
    random_state : int, RandomState or None, default=0
        Of the folds.

    Attributes
    ----------
    classes_ : array of shape (k,)
    C_ : float
        What was taken.
    cv_scores_ : dict of float to float
        Cross-validated balanced accuracy of each C; empty where nothing was compared.
    model_ : LogisticRegression
        Fitted.
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

    def fit(self, X: Any, y: Any, *, groups: Any = None) -> Self:
        """Choose C, if it is "auto", and learn from all rows.

        Parameters
        ----------
        X : array-like of shape (n, d)
            Columns of mean 0 and standard deviation 1, about.
        y : array-like of shape (n,)
            Classes of any dtype.
        groups : array-like of shape (n,), default=None
            Rows of one group stay together in the cross-validation.

        Returns
        -------
        self : LinearProbe

        Raises
        ------
        ValueError
            ``C`` is neither positive nor "auto", there is one class only, or ``groups`` are not
            one a row.
        """
        self._check_parameters()
        # float64: the solver's stopping rule is lost in float32 rounding
        X, y = validate_data(self, X, y, dtype=np.float64)
        check_classification_targets(y)
        self.classes_, codes = np.unique(y, return_inverse=True)
        if len(self.classes_) < 2:
            raise ValueError(
                f"y holds one class only ({self.classes_[0]!r}): label rows of two at least."
            )
        self.cv_scores_: dict[float, float] = {}
        if self.C == "auto":
            self.cv_scores_ = self._compare(X, y, self._folds(codes, groups))
            self.C_ = max(self.cv_scores_, key=self.cv_scores_.__getitem__, default=_FEW)
        else:
            self.C_ = float(self.C)
        self.model_ = self._model(C=self.C_).fit(X, y)
        return self

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
        check_is_fitted(self)
        return self.model_.predict(self._rows(X))

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
        return self.model_.predict_proba(self._rows(X))

    def decision_function(self, X: Any) -> NDArray[np.float64]:
        """Return the logits, of which the softmax are the probabilities.

        Parameters
        ----------
        X : array-like of shape (n, d)
            As in `fit`.

        Returns
        -------
        logits : float64 array of shape (n, k), or (n,) of two classes
        """
        check_is_fitted(self)
        return self.model_.decision_function(self._rows(X))

    @property
    def coef_(self) -> NDArray[np.float64]:
        """Weights of shape (k, d), or (1, d) of two classes."""
        return self.model_.coef_

    @property
    def intercept_(self) -> NDArray[np.float64]:
        """Biases of shape (k,), or (1,) of two classes."""
        return self.model_.intercept_

    def _check_parameters(self) -> None:
        number = isinstance(self.C, Real) and self.C > 0
        if not number and self.C != "auto":
            raise ValueError(f"C={self.C!r} must be positive, or 'auto'.")

    def _rows(self, X: Any) -> NDArray[np.float64]:
        return validate_data(self, X, reset=False, dtype=np.float64)

    def _model(self, **params: Any) -> LogisticRegression:
        return LogisticRegression(class_weight=self.class_weight, max_iter=2000, **params)

    def _folds(self, codes: NDArray[np.int64], groups: Any) -> _Folds:
        """Split the rows; no fold where a class, or its groups, are too few to compare by."""
        units = np.arange(len(codes)) if groups is None else np.asarray(groups)
        if units.shape != codes.shape:
            raise ValueError(
                f"groups has shape {units.shape}, but X has {len(codes)} rows: pass one a row."
            )
        fewest = min(len(np.unique(units[codes == code])) for code in range(codes.max() + 1))
        if fewest < 2:
            return []
        kind = StratifiedKFold if groups is None else StratifiedGroupKFold
        seeds = np.random.RandomState(draw_seed(self.random_state))
        folds: _Folds = []
        for _ in range(np.clip(_COMPARED_ROWS // len(codes), 1, _MOST_REPEATS)):
            splitter = kind(min(_FOLDS, fewest), shuffle=True, random_state=seeds.randint(2**31))
            folds += splitter.split(codes, codes, groups)
        return [fold for fold in folds if len(np.unique(codes[fold[0]])) == codes.max() + 1]

    def _compare(self, X: NDArray[Any], y: NDArray[Any], folds: _Folds) -> dict[float, float]:
        """Return the balanced accuracy of each C over the rows of all folds."""
        if not folds:
            return {}
        true: list[NDArray[Any]] = []
        predicted: dict[float, list[NDArray[Any]]] = {C: [] for C in _CANDIDATES}
        for learn, judge in folds:
            true.append(y[judge])
            model = self._model(warm_start=True)
            for C, found in predicted.items():  # each starts from the weights of the last
                found.append(model.set_params(C=C).fit(X[learn], y[learn]).predict(X[judge]))
        return {
            C: float(balanced_accuracy_score(np.concatenate(true), np.concatenate(found)))
            for C, found in predicted.items()
        }
