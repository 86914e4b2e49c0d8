"""SelfSupervisedRegressor: pretrain on all stamps, learn a number from the few that have one."""

from __future__ import annotations

from typing import Any, Self

import numpy as np
import pandas as pd
from sklearn.base import RegressorMixin
from sklearn.frozen import FrozenEstimator
from sklearn.metrics import r2_score
from sklearn.utils.validation import check_is_fitted

from skastro.estimators.encoder import PropertyPretrainedEncoder, embed_stamps
from skastro.estimators.representation import RepresentationModel, join_columns
from skastro.estimators.saving_estimators import load_regressor, save_regressor
from skastro.networks.backbones import Backbone
from skastro.probes.kernel_regression import KernelRegression, check_count
from skastro.probes.kernels import Floats
from skastro.stamps.arrays import check_images
from skastro.stamps.photometry import measure_properties
from skastro.utils.fitting import fits_as_a_whole
from skastro.utils.validation import (
    as_column,
    check_groups,
    check_properties,
    draw_seed,
    warn_of_order,
    warn_of_target,
)


class SelfSupervisedRegressor(RegressorMixin, RepresentationModel):
    """Predict a number for each stamp, such as a redshift, from few known values.

    The sibling of `SelfSupervisedClassifier`. The encoder is pretrained on every row, whether its
    value is known or not. Then a kernel regression on the embeddings and the properties learns from
    the rows whose value is known.

    Parameters
    ----------
    encoder : PropertyPretrainedEncoder, FrozenEstimator or None, default=None
        None pretrains a default encoder; an unfitted encoder is cloned and pretrained;
        ``FrozenEstimator(fitted)`` is used unchanged.
    pretrained : {"auto", None}, name or FrozenEstimator, default="auto"
        Teachers, as in `SelfSupervisedClassifier`: encoders of `load_pretrained` whose embedding
        and properties the regression gets, too. It gives each a share by evidence.
    random_state : int, RandomState or None, default=None
    verbose : int, default=0
        1 prints a line for each epoch of the pretraining.

    Attributes
    ----------
    encoder_ : PropertyPretrainedEncoder
        The fitted encoder.
    teachers_ : dict of str to PropertyPretrainedEncoder
        The teachers by name.
    probe_ : KernelRegression
        Regression on the columns of ``describe``. Its ``loo_predictions_`` and ``loo_std_`` are
        predictions of the known ``values_``, each from all others.
    catalog_probe_ : KernelRegression or None
        Like ``probe_``, with the catalogue columns as additional features; used for predictions
        with a ``catalog``.
    measured_names_ : list of str
        Properties that ``describe`` measures from the pixels.
    catalog_names_ : list of str
        Columns of the ``catalog`` that was passed to `fit`.
    loo_score_ : float
        R2 of the known values, each predicted from all others; with the ``catalog``, if there is
        one. It is slightly too good, because some parameters are chosen by these predictions.
    n_features_in_ : int

    Notes
    -----
    The values are learned as they are: a logarithm predicted them no better in our measurements.
    Errors of prediction may differ from stamp to stamp; a second regression predicts them from
    those of left-out values, where that is better than one error for all.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> brightness = rng.uniform(5, 10, size=80)
    >>> stamps = rng.normal(size=(80, 1, 8, 8)) + brightness[:, None, None, None]
    >>> values = np.where(np.arange(80) < 40, brightness, np.nan)  # half of them are known
    >>> encoder = PropertyPretrainedEncoder("stamp_resnet10", max_epochs=2, random_state=0)
    >>> regressor = SelfSupervisedRegressor(encoder, random_state=0).fit(stamps, values)
    >>> regressor.score(stamps[40:], brightness[40:]) > 0.9
    True
    >>> interval = regressor.predict_interval(stamps[40:], coverage=0.9)
    >>> interval.shape
    (40, 2)
    """

    _noun = "regressor"
    # routed without set_fit_request and the like
    __metadata_request__fit = dict.fromkeys(
        ("properties", "property_errors", "catalog", "groups"), True
    )
    __metadata_request__predict = {"catalog": True, "return_std": True}  # noqa: RUF012
    __metadata_request__score = {"catalog": True}  # noqa: RUF012

    def __init__(
        self,
        encoder: PropertyPretrainedEncoder | FrozenEstimator | None = None,
        *,
        pretrained: str | FrozenEstimator | None = "auto",
        random_state: int | np.random.RandomState | None = None,
        verbose: int = 0,
    ) -> None:
        self.encoder = encoder
        self.pretrained = pretrained
        self.random_state = random_state
        self.verbose = verbose

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.regressor_tags.poor_score = True  # on rows that are no stamps
        tags.non_deterministic = True  # a float32 network: 1e-7 by how stamps are put into batches
        return tags

    @fits_as_a_whole
    def fit(
        self,
        X: Any,
        y: Any,
        *,
        properties: Any = None,
        property_errors: Any = None,
        catalog: Any = None,
        groups: Any = None,
    ) -> Self:
        """Pretrain the encoder on all rows, unless it is frozen, and learn from the known values.

        Parameters
        ----------
        X : array-like of shape (n, bands, height, width) or (n, features)
        y : array-like of shape (n,)
            Numbers of any unit; NaN, None or masked where unknown.
        properties, property_errors : array-like of shape (n, p), default=None
            Targets of the pretext and their errors, as in `PropertyPretrainedEncoder.fit`. A
            frozen encoder ignores them. ``y`` must not be among them.
        catalog : array-like, DataFrame or astropy Table of shape (n, q), default=None
            Columns to predict from, in addition to the stamps, where `predict` gets them too; NaN
            where unknown.
        groups : array-like of shape (n,), default=None
            Rows of one group (an object, a field) are left out together, when parameters are
            chosen and errors are measured.

        Returns
        -------
        self : SelfSupervisedRegressor

        Raises
        ------
        ValueError
            Fewer than three values are known, a value is infinite or text, or stamps, values,
            properties, catalogue and groups do not belong together.

        Warns
        -----
        UserWarning
            A column of ``properties`` is ``y`` itself: the network would learn the values of all
            rows, also of those on which it is tested later.
        """
        self._check_encoders()
        images = self._open_stamps(X)
        values = _check_values(y, len(images))
        known = np.flatnonzero(~np.isnan(values))
        check_count(len(known))
        warn_of_order(X=X, y=y, catalog=catalog, groups=groups)
        if properties is not None:
            warn_of_target(check_properties(properties, len(images)), values)
        groups = check_groups(groups, len(images))
        if catalog is not None:
            catalog = check_properties(catalog, len(images), name="catalog", allow_empty=True)
            catalog = catalog.iloc[known]
        seed = draw_seed(self.random_state)
        self.encoder_ = self._fit_encoder(images, seed, properties, property_errors)
        # from here on, rows with a value only
        images, values = images[known], values[known]
        groups = None if groups is None else groups[known]
        measured = measure_properties(images)
        self.measured_names_ = measured.columns.tolist()
        embedded = embed_stamps(self.encoder_, check_images(self.encoder_, images, reset=False))
        own = join_columns(self.encoder_, embedded, measured)
        parts = [own, *self._consult_teachers(images)]
        self.catalog_probe_: KernelRegression | None = None
        self.catalog_names_: list[str] = []
        self.probe_ = probe = self._fit_probe(parts, values, groups, seed)
        if catalog is not None:
            parts[0] = np.hstack([own, catalog])
            self.catalog_probe_ = probe = self._fit_probe(parts, values, groups, seed)
            self.catalog_names_ = catalog.columns.tolist()
        self.loo_score_ = float(r2_score(values, probe.loo_predictions_))
        return self

    def predict(self, X: Any, *, catalog: Any = None, return_std: bool = False) -> Any:
        """Predict the value of each stamp.

        Parameters
        ----------
        X : array-like of shape (n, bands, height, width) or (n, features)
        catalog : array-like, DataFrame or astropy Table of shape (n, q), default=None
            The columns that were passed to `fit`, of these objects; NaN where unknown. None
            predicts from the stamps alone.
        return_std : bool, default=False
            Return the standard deviation of the errors, too.

        Returns
        -------
        values : float64 array of shape (n,)
            In the unit of ``y``; never NaN.
        std : float64 array of shape (n,)
            If ``return_std``.

        Raises
        ------
        ValueError
            ``catalog`` lacks a column, or the regressor was fitted without any.
        """
        check_is_fitted(self)
        values, std = self._predict(X, catalog)
        return (values, std) if return_std else values

    def predict_interval(self, X: Any, *, coverage: float = 0.9, catalog: Any = None) -> Floats:
        """Return the interval that holds the true value of each stamp with a probability.

        Parameters
        ----------
        X : array-like of shape (n, bands, height, width) or (n, features)
        coverage : float, default=0.9
            Between 0 and 1.
        catalog : array-like, DataFrame or astropy Table of shape (n, q), default=None
            As in `predict`.

        Returns
        -------
        intervals : float64 array of shape (n, 2)
            Lower and upper limit, in the unit of ``y``.

        Raises
        ------
        ValueError
            ``coverage`` is out of range.

        Warns
        -----
        UserWarning
            Too few values are known for this coverage (9 are needed for 0.9): the intervals then
            reach as far as the largest error of a left-out value.

        Notes
        -----
        These are intervals of conformal prediction: the errors of left-out values, in units of
        their predicted standard deviations, say how many of them an interval needs. The coverage
        holds for stamps that are drawn like those with a known value, on the average over them.
        """
        check_is_fitted(self)
        values, std = self._predict(X, catalog)
        probe: Any = self.probe_ if catalog is None else self.catalog_probe_
        reach = probe.interval_factor(coverage)
        return values[:, None] + reach * std[:, None] * np.array([-1.0, 1.0])

    def score(self, X: Any, y: Any, sample_weight: Any = None, *, catalog: Any = None) -> float:
        """Return R2 on the rows whose value is known; the others are left out.

        Parameters
        ----------
        X : array-like of shape (n, bands, height, width) or (n, features)
        y : array-like of shape (n,)
        sample_weight : array-like of shape (n,), default=None
        catalog : array-like, DataFrame or astropy Table of shape (n, q), default=None
            As in `predict`.

        Returns
        -------
        score : float
        """
        check_is_fitted(self)
        images = check_images(self, X, reset=False)
        values = _check_values(y, len(images))
        known = ~np.isnan(values)
        weights = None if sample_weight is None else np.asarray(sample_weight)[known]
        predicted = self.predict(X, catalog=catalog)
        return float(r2_score(values[known], predicted[known], sample_weight=weights))

    def save(self, path: Any) -> None:
        """Write the fitted regressor, with its encoder, to one safetensors file.

        Parameters
        ----------
        path : str or path-like
            An existing file is replaced when the new one is complete.
        """
        check_is_fitted(self)
        save_regressor(self, path)

    @classmethod
    def load(cls, path: Any, *, backbone: Backbone | None = None) -> Self:
        """Read a regressor that `save` has written; no code in the file is executed.

        Parameters
        ----------
        path : str or path-like
        backbone : nn.Module or callable, default=None
            The architecture of the encoder, if it was a module or a function: code is not saved.

        Returns
        -------
        regressor : SelfSupervisedRegressor
            It predicts as before. `fit` learns other values; a frozen encoder stays frozen.

        Raises
        ------
        FileNotFoundError
            There is no such file.
        ValueError
            The file is truncated, altered, of a newer format, no regressor, or needs ``backbone``.
        """
        return load_regressor(cls, path, backbone)

    def _fit_probe(
        self, parts: list[Floats], values: Floats, groups: Any, seed: int
    ) -> KernelRegression:
        n_properties = parts[0].shape[1] - self._n_features_out
        probe = KernelRegression(n_properties, others=self._list_others(parts), random_state=seed)
        return probe.fit(np.hstack(parts), values, groups)

    def _predict(self, X: Any, catalog: Any) -> tuple[Floats, Floats]:
        """Return values and standard deviations."""
        images = check_images(self, X, reset=False)
        catalog = self._check_catalog(catalog, len(images))
        probe: Any = self.probe_ if catalog is None else self.catalog_probe_
        columns = np.hstack(self._describe(images, catalog))
        return probe.predict(columns, return_std=True)


def _check_values(y: Any, n: int) -> Floats:
    """Return numbers as float64, NaN where unknown."""
    if y is None:
        raise ValueError(
            "SelfSupervisedRegressor requires y to be passed, but the target y is None: pass "
            "numbers, and NaN where they are unknown."
        )
    column = as_column(y)
    if len(column) != n:
        raise ValueError(
            f"y has {len(column)} values, but X has {n} stamps: pass one for each stamp."
        )
    if column.dtype.kind in "OUS":
        column = pd.Series(column.filled(np.nan) if column.dtype.kind == "O" else column.data)
    table = check_properties(column, n, name="y", allow_empty=True)
    return table.iloc[:, 0].to_numpy()
