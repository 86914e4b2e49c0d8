"""SelfSupervisedClassifier: pretrain on all stamps, learn the classes from the labelled ones."""

from __future__ import annotations

import copy
from typing import Any, Self

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from sklearn.base import (
    BaseEstimator,
    ClassifierMixin,
    ClassNamePrefixFeaturesOutMixin,
    TransformerMixin,
    clone,
)
from sklearn.frozen import FrozenEstimator
from sklearn.metrics import accuracy_score
from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold
from sklearn.utils.class_weight import compute_sample_weight
from sklearn.utils.metaestimators import available_if
from sklearn.utils.validation import check_is_fitted

from skastro.estimators.encoder import PropertyPretrainedEncoder
from skastro.estimators.kernel_probe import KernelProbe
from skastro.estimators.linear_probe import LinearProbe
from skastro.networks.backbones import StampNetwork, make_network
from skastro.networks.inference import run
from skastro.networks.losses import ClassLoss
from skastro.networks.training import Recipe, seeded, train
from skastro.stamps.arrays import check_images
from skastro.stamps.photometry import measure_properties
from skastro.utils.validation import Documented, check_labels, check_properties, draw_seed

_STRATEGIES = ("auto", "probe", "finetune", "scratch")
_PROBED = ("auto", "probe")
_MIN_STEPS, _MAX_STEPS = 150, 1400
_Fold = tuple[NDArray[np.int64], NDArray[np.int64]]  # rows to learn from, rows to judge by
_BLENDS = (0.0, 1 / 3, 2 / 3, 1.0)  # shares of the network that "auto" compares
_LEAST_JUDGED = 10  # labels of the smallest class: with fewer, "auto" would choose by chance
_C_OF_HEAD = 0.03  # of the linear probe from which fine-tuning starts


def _pretrains(classifier: SelfSupervisedClassifier) -> bool:
    return classifier.strategy != "scratch"


class SelfSupervisedClassifier(
    Documented, ClassNamePrefixFeaturesOutMixin, TransformerMixin, ClassifierMixin, BaseEstimator
):
    """Classify stamps with few labels, on a representation learned from all of them.

    The encoder is pretrained on every row, labelled or not; then the classes are learned from
    the labelled rows, by a probe on the frozen embeddings and the properties, by fine-tuning the
    network, or by both.

    Parameters
    ----------
    encoder : PropertyPretrainedEncoder, FrozenEstimator or None, default=None
        None pretrains a default encoder, on the properties passed to `fit` and those measured
        from the pixels; an unfitted encoder is cloned and pretrained;
        ``FrozenEstimator(fitted)`` is used as it is.
    strategy : {"auto", "probe", "finetune", "scratch"}, default="auto"
        "probe": a `KernelProbe` on what `describe` returns. "finetune": all layers, from the
        encoder's weights and those of a linear probe. "scratch": the same network from random
        weights (the baseline). "auto": the probe, the fine-tuned network, or a
        mean of both, whichever predicts the labelled rows best in cross-validation; the probe
        where the smallest class has fewer than ten labels, too few to judge by.
    class_weight : dict, "balanced" or None, default="balanced"
        As in scikit-learn.
    steps : int, default=None
        Batches to train a network on. None: 30 times the square root of the number of
        labels, between 150 and 1,400.
    batch_size : int, default=32
    learning_rate : float, default=2e-3
        At its peak.
    label_smoothing : float, default=0.1
    n_folds : int, default=3
        Of the cross-validation of strategy "auto", which takes the probe where the smallest
        class has fewer labels, too.
    random_state : int, RandomState or None, default=None
    verbose : int, default=0

    Attributes
    ----------
    classes_ : array of shape (k,)
    encoder_ : PropertyPretrainedEncoder
        Fitted.
    probe_ : KernelProbe or None
        On the columns of `describe`, for the strategies "probe" and "auto".
    measured_names_ : list of str
        The properties that are measured from the pixels, for `describe`.
    catalog_probe_ : KernelProbe or None
        The same with the columns of the catalogue beside, where ``properties`` were passed to
        `fit`; it takes the place of ``probe_`` where they are passed to `predict`, too.
    catalog_names_ : list of str
        Those columns.
    network_ : nn.Module or None
        Raw pixels to logits, where a network was trained.
    blend_, catalog_blend_ : float
        Share of the network in the probabilities, beside either probe, which has the rest.
    cv_losses_ : dict of float to float
        Cross-validated log loss of each share that "auto" compared beside ``probe_``; empty
        otherwise.
    n_features_in_ : int

    Notes
    -----
    Rows without a label are marked as in `sklearn.semi_supervised`: -1 for integers, NaN for
    floats, and None, NaN or ``""`` for text.

    Examples
    --------
    >>> import numpy as np
    >>> rng = np.random.default_rng(0)
    >>> stamps = rng.normal(size=(60, 3, 8, 8)).astype(np.float32)
    >>> labels = np.where(np.arange(60) % 2, "star", "galaxy")
    >>> stamps[labels == "star", :, 3:5, 3:5] += 20.0
    >>> stamps[labels == "galaxy", :, 1:7, 1:7] += 5.0
    >>> labels[20:] = ""  # unlabelled
    >>> encoder = PropertyPretrainedEncoder("stamp_resnet10", max_epochs=2, random_state=0)
    >>> classifier = SelfSupervisedClassifier(encoder, strategy="probe").fit(stamps, labels)
    >>> classifier.predict(stamps[-2:]).tolist()
    ['galaxy', 'star']
    """

    __metadata_request__fit = {  # noqa: RUF012
        "properties": True,
        "property_errors": True,
        "groups": True,
    }
    __metadata_request__predict = {"properties": True}  # noqa: RUF012
    __metadata_request__predict_proba = {"properties": True}  # noqa: RUF012
    __metadata_request__score = {"properties": True}  # noqa: RUF012

    def __init__(
        self,
        encoder: PropertyPretrainedEncoder | FrozenEstimator | None = None,
        *,
        strategy: str = "auto",
        class_weight: dict[Any, float] | str | None = "balanced",
        steps: int | None = None,
        batch_size: int = 32,
        learning_rate: float = 2e-3,
        label_smoothing: float = 0.1,
        n_folds: int = 3,
        random_state: int | np.random.RandomState | None = None,
        verbose: int = 0,
    ) -> None:
        self.encoder = encoder
        self.strategy = strategy
        self.class_weight = class_weight
        self.steps = steps
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.label_smoothing = label_smoothing
        self.n_folds = n_folds
        self.random_state = random_state
        self.verbose = verbose

    @available_if(_pretrains)  # type: ignore[untyped-decorator]  # scikit-learn has no types
    def pretrain(self, X: Any, *, properties: Any = None, property_errors: Any = None) -> Self:
        """Return an unfitted copy whose encoder is pretrained on these stamps, and frozen.

        For studies that fit on many subsets of labels after one pretraining.

        Parameters
        ----------
        X : array-like of shape (n, bands, height, width) or (n, features)
        properties, property_errors : array-like of shape (n, p), default=None
            As in `PropertyPretrainedEncoder.fit`.

        Returns
        -------
        classifier : SelfSupervisedClassifier
        """
        encoder = self._fit_encoder(X, draw_seed(self.random_state), properties, property_errors)
        return clone(self).set_params(encoder=FrozenEstimator(encoder))

    def fit(
        self,
        X: Any,
        y: Any,
        *,
        properties: Any = None,
        property_errors: Any = None,
        groups: Any = None,
    ) -> Self:
        """Pretrain on all rows, if the encoder is not frozen, and learn from the labelled.

        Parameters
        ----------
        X : array-like of shape (n, bands, height, width) or (n, features)
        y : array-like of shape (n,)
            Classes; unlabelled rows are marked (see Notes).
        properties, property_errors : array-like of shape (n, p), default=None
            As in `PropertyPretrainedEncoder.fit`. The values beside labels also teach the probe
            what the catalogue tells of a class, for predictions with ``properties``. A frozen
            encoder learns nothing from them: freeze it where objects shall be classified by other
            columns than were regressed (a redshift that is known of labelled objects only must
            be none of them).
        groups : array-like of shape (n,), default=None
            Rows of one group (an object, a field) stay together in the cross-validation of
            strategy "auto".

        Returns
        -------
        self : SelfSupervisedClassifier

        Raises
        ------
        ValueError
            A parameter is out of range, no row has a label, or stamps, labels and properties
            do not belong together.
        """
        if y is None:
            raise ValueError(
                "SelfSupervisedClassifier requires y to be passed, but the target y is None: "
                "label some rows, and mark the others as unlabelled."
            )
        self._check_parameters()
        images = check_images(self, X, reset=True, image_shape=self._image_shape())
        self.image_shape_ = tuple(images.shape[1:])
        codes = self._encode_labels(y, len(images))
        rows = np.flatnonzero(codes >= 0)
        weights = self._row_weights(codes[rows])
        groups = _check_groups(groups, len(codes))
        groups = None if groups is None else groups[rows]
        seed = draw_seed(self.random_state)
        if properties is not None and self.strategy in _PROBED:
            properties = check_properties(properties, len(images))
            catalog = properties.iloc[rows]
        else:
            catalog = None
        self.encoder_ = self._fit_encoder(images, seed, properties, property_errors)
        folds = self._folds(codes[rows], groups, seed)
        self._fit_strategy(images[rows], catalog, codes[rows], weights, seed, folds)
        return self

    def predict_proba(self, X: Any, *, properties: Any = None) -> NDArray[np.float64]:
        """Return the probability of each class.

        Parameters
        ----------
        X : array-like of shape (n, bands, height, width) or (n, features)
        properties : array-like, DataFrame or astropy Table of shape (n, p), default=None
            What the catalogue tells of these objects, in the columns that were passed to `fit`;
            NaN where it does not. None: the stamps alone decide. Networks see only the stamps,
            so of the strategies "finetune" and "scratch" it changes nothing.

        Returns
        -------
        probabilities : float64 array of shape (n, k)
            In the order of ``classes_``.

        Raises
        ------
        ValueError
            ``properties`` lack a column, or the classifier was fitted without any.
        """
        check_is_fitted(self)
        images = check_images(self, X, reset=False)
        catalog = self._check_catalog(properties, len(images))
        probe, blend = self.probe_, self.blend_
        if catalog is not None:
            probe, blend = self.catalog_probe_, self.catalog_blend_
        parts = []
        if probe is not None and blend < 1:
            columns = _beside(self.describe(images), catalog)
            parts.append((1 - blend) * probe.predict_proba(columns))
        if self.network_ is not None and blend > 0:
            parts.append(blend * self._run_network(self.network_, images))
        return parts[0] if len(parts) == 1 else parts[0] + parts[1]

    def predict(self, X: Any, *, properties: Any = None) -> NDArray[Any]:
        """Return the most probable class of each stamp.

        Parameters
        ----------
        X : array-like of shape (n, bands, height, width) or (n, features)
        properties : array-like, DataFrame or astropy Table of shape (n, p), default=None
            As in `predict_proba`.

        Returns
        -------
        classes : array of shape (n,)
            In the dtype of the labels.
        """
        probabilities = self.predict_proba(X, properties=properties)
        return self.classes_[probabilities.argmax(axis=1)]

    def transform(self, X: Any) -> NDArray[np.float32]:
        """Return the embeddings of the pretrained encoder.

        Parameters
        ----------
        X : array-like of shape (n, bands, height, width) or (n, features)

        Returns
        -------
        embeddings : float32 array of shape (n, d)
        """
        check_is_fitted(self)
        return _embed(self.encoder_, check_images(self, X, reset=False))

    @available_if(_pretrains)  # type: ignore[untyped-decorator]  # scikit-learn has no types
    def describe(self, X: Any) -> NDArray[np.float64]:
        """Return what the probe sees of each stamp: the embedding, and all known properties.

        Parameters
        ----------
        X : array-like of shape (n, bands, height, width) or (n, features)

        Returns
        -------
        columns : float64 array of shape (n, d + p + m)
            The embedding, the p properties that the encoder predicts (in their units) and the
            m that `measure_properties` finds in the pixels, NaN where it cannot.
        """
        check_is_fitted(self)
        embeddings, measured = self._embed_and_measure(check_images(self, X, reset=False))
        # a column without a value in any row of these stamps is left out of their table
        return self._joined(embeddings, measured.reindex(columns=self.measured_names_))

    def score(self, X: Any, y: Any, sample_weight: Any = None, *, properties: Any = None) -> float:
        """Return the accuracy on the labelled rows; those without a label are left out.

        Parameters
        ----------
        X : array-like of shape (n, bands, height, width) or (n, features)
        y : array-like of shape (n,)
        sample_weight : array-like of shape (n,), default=None
        properties : array-like, DataFrame or astropy Table of shape (n, p), default=None
            As in `predict_proba`.

        Returns
        -------
        score : float
        """
        check_is_fitted(self)
        images = check_images(self, X, reset=False)
        _, codes = check_labels(y)
        rows = np.flatnonzero(codes >= 0)
        weights = None if sample_weight is None else np.asarray(sample_weight)[rows]
        if properties is not None:
            properties = check_properties(properties, len(images), allow_empty=True).iloc[rows]
        predicted = self.predict(images[rows], properties=properties)
        return accuracy_score(np.asarray(y)[rows], predicted, sample_weight=weights)

    def _check_parameters(self) -> None:
        if self.strategy not in _STRATEGIES:
            raise ValueError(f"strategy={self.strategy!r} must be one of {_STRATEGIES}.")
        if self.steps is not None and self.steps < 1:
            raise ValueError(f"steps={self.steps} must be at least 1, or None.")
        if self.n_folds < 2:
            raise ValueError(f"n_folds={self.n_folds} must be at least 2.")

    def _check_catalog(self, properties: Any, n: int) -> NDArray[np.float64] | None:
        """Return the columns that the catalogue probe learned from, in its order."""
        if properties is None or self.strategy not in _PROBED:
            return None
        if self.catalog_probe_ is None:
            raise ValueError(
                "properties cannot be used, as the classifier was fitted without: pass them to "
                "fit, too."
            )
        table = check_properties(properties, n, allow_empty=True)
        lacking = [name for name in self.catalog_names_ if name not in table]
        if lacking:
            raise ValueError(
                f"properties has no column {lacking[0]!r}: pass those of fit, "
                f"{', '.join(self.catalog_names_)} (NaN where unknown)."
            )
        return table[self.catalog_names_].to_numpy()

    def _image_shape(self) -> tuple[int, int, int] | None:
        if isinstance(self.encoder, FrozenEstimator):
            return getattr(self.encoder.estimator, "image_shape_", None)
        return getattr(self.encoder, "image_shape", None)

    def _encode_labels(self, y: Any, n: int) -> NDArray[np.int64]:
        classes, codes = check_labels(y)
        if len(codes) != n:
            raise ValueError(f"y has {len(codes)} labels, but X has {n} stamps: pass one a stamp.")
        if len(classes) < 2:
            raise ValueError(
                f"y holds one class only ({classes[0]!r}): label stamps of at least two classes."
            )
        self.classes_ = classes
        return codes

    def _fit_encoder(
        self, X: Any, seed: int, properties: Any, property_errors: Any
    ) -> PropertyPretrainedEncoder:
        encoder = self.encoder
        if isinstance(encoder, FrozenEstimator):
            check_is_fitted(encoder.estimator)
            return encoder.estimator
        if encoder is None:
            encoder = PropertyPretrainedEncoder(
                properties="auto" if properties is None else "catalog+measured",
                random_state=seed,
                verbose=self.verbose,
            )
        if hasattr(encoder, "network_"):
            raise ValueError(
                "encoder is fitted, and would be trained anew: pass FrozenEstimator(encoder) to "
                "keep its weights, or sklearn.base.clone(encoder) to train another."
            )
        encoder = clone(encoder)
        if self.strategy == "scratch":  # only its scaling and architecture are used
            encoder.set_params(max_epochs=0, properties="measured", checkpoint_dir=None)
            return encoder.fit(X)
        return encoder.fit(X, properties=properties, property_errors=property_errors)

    def _fit_strategy(
        self,
        images: Any,
        catalog: pd.DataFrame | None,
        codes: NDArray[np.int64],
        weights: NDArray[np.float64],
        seed: int,
        folds: list[_Fold],
    ) -> None:
        """Fit probes and network as the strategy wants, on labelled rows alone."""
        self.probe_: KernelProbe | None = None
        self.catalog_probe_: KernelProbe | None = None
        self.catalog_names_ = [] if catalog is None else catalog.columns.tolist()
        self.network_: StampNetwork | None = None
        self.blend_ = self.catalog_blend_ = 1.0
        self.cv_losses_: dict[float, float] = {}
        if self.strategy == "scratch":
            self.network_ = self._train_network(images, codes, weights, seed, embeddings=None)
            return
        embeddings, measured = self._embed_and_measure(images)
        self.measured_names_ = measured.columns.tolist()
        if self.strategy in _PROBED:
            described = self._joined(embeddings, measured)
            told = None if catalog is None else _beside(described, catalog.to_numpy())
            self._fit_probes(described, told, codes, seed)
            if self.strategy == "auto" and folds:
                by_network = self._cross_predict(images, embeddings, codes, weights, seed, folds)
                self._blend(by_network, described, told, codes, weights, seed, folds)
        if max(self.blend_, self.catalog_blend_) > 0:
            self.network_ = self._train_network(images, codes, weights, seed, embeddings=embeddings)

    def _fit_probes(
        self,
        described: NDArray[Any],
        told: NDArray[Any] | None,
        codes: NDArray[np.int64],
        seed: int,
    ) -> None:
        """Fit the probe, and if a catalogue has told more, one that knows it, too."""
        self.blend_ = self.catalog_blend_ = 0.0
        self.probe_ = self._fit_probe(described, codes, seed)
        if told is not None:
            self.catalog_probe_ = self._fit_probe(told, codes, seed)

    def _embed_and_measure(self, images: Any) -> tuple[NDArray[np.float32], pd.DataFrame]:
        return _embed(self.encoder_, images), measure_properties(images)

    def _joined(self, embeddings: NDArray[Any], measured: pd.DataFrame) -> NDArray[np.float64]:
        return np.hstack([embeddings, self.encoder_.predict_embedded(embeddings), measured])

    def _fit_probe(
        self, described: NDArray[Any], codes: NDArray[np.int64], seed: int
    ) -> KernelProbe:
        return KernelProbe(
            described.shape[1] - self._n_features_out,
            class_weight=self._class_weight_of_codes(),
            random_state=seed,
        ).fit(described, codes)

    def _blend(
        self,
        by_network: NDArray[np.float64],
        described: NDArray[Any],
        told: NDArray[Any] | None,
        codes: NDArray[np.int64],
        weights: NDArray[np.float64],
        seed: int,
        folds: list[_Fold],
    ) -> None:
        """Take the shares of the network, beside either probe, with the least log loss."""
        rest = by_network, codes, weights, seed, folds
        self.cv_losses_ = self._compare_blends(described, *rest)
        self.blend_ = min(self.cv_losses_, key=self.cv_losses_.__getitem__)
        if told is not None:
            losses = self._compare_blends(told, *rest)
            self.catalog_blend_ = min(losses, key=losses.__getitem__)

    def _cross_predict(
        self,
        images: Any,
        embeddings: NDArray[Any],
        codes: NDArray[np.int64],
        weights: NDArray[np.float64],
        seed: int,
        folds: list[_Fold],
    ) -> NDArray[np.float64]:
        """Return what networks say of the labelled rows that they have not learned from."""
        by_network = np.zeros((len(codes), len(self.classes_)))
        for learn, judge in folds:
            network = self._train_network(
                images[learn], codes[learn], weights[learn], seed, embeddings=embeddings[learn]
            )
            by_network[judge] = self._run_network(network, images[judge])
        return by_network

    def _compare_blends(
        self,
        columns: NDArray[Any],
        by_network: NDArray[np.float64],
        codes: NDArray[np.int64],
        weights: NDArray[np.float64],
        seed: int,
        folds: list[_Fold],
    ) -> dict[float, float]:
        """Return the cross-validated log loss of means of a probe and the network."""
        by_probe = np.zeros_like(by_network)
        for learn, judge in folds:
            probe = self._fit_probe(columns[learn], codes[learn], seed)
            by_probe[judge] = probe.predict_proba(columns[judge])
        means = {share: (1 - share) * by_probe + share * by_network for share in _BLENDS}
        return {share: _log_loss(codes, mean, weights) for share, mean in means.items()}

    def _folds(
        self, codes: NDArray[np.int64], groups: NDArray[Any] | None, seed: int
    ) -> list[_Fold]:
        """Split the labelled rows for strategy "auto"; no fold if there are too few of a class."""
        too_few = np.bincount(codes).min() < max(self.n_folds, _LEAST_JUDGED)
        if groups is not None:
            # one class of one group only would be missing where the group is judged
            spread = [len(np.unique(groups[codes == code])) for code in range(codes.max() + 1)]
            too_few |= min(spread) < self.n_folds
        if too_few:
            return []
        kind = StratifiedKFold if groups is None else StratifiedGroupKFold
        splitter = kind(self.n_folds, shuffle=True, random_state=seed)
        folds = list(splitter.split(codes, codes, groups))
        complete = all(len(np.unique(codes[learn])) == codes.max() + 1 for learn, _ in folds)
        return folds if complete else []

    def _class_weight_of_codes(self) -> dict[int, float] | str | None:
        if not isinstance(self.class_weight, dict):
            return self.class_weight
        codes_of = {label: code for code, label in enumerate(self.classes_)}
        return {codes_of[label]: weight for label, weight in self.class_weight.items()}

    def _row_weights(self, codes: NDArray[np.int64]) -> NDArray[np.float64]:
        return compute_sample_weight(self._class_weight_of_codes(), codes)

    def _train_network(
        self,
        images: Any,
        codes: NDArray[np.int64],
        weights: NDArray[np.float64],
        seed: int,
        *,
        embeddings: NDArray[Any] | None,
    ) -> StampNetwork:
        """Train all layers: from the encoder's weights if embeddings are given, or random ones."""
        encoder = self.encoder_
        with seeded(seed):
            network = make_network(
                encoder.backbone,
                encoder.image_shape_,
                len(self.classes_),
                scaling=copy.deepcopy(encoder.network_.scaling),
            )
            if embeddings is not None:
                network.backbone = copy.deepcopy(encoder.network_.backbone)
                probe = LinearProbe(_C_OF_HEAD, class_weight=self._class_weight_of_codes())
                _fold_probe(network.head, probe.fit(embeddings, codes), encoder)
            train(
                network,
                images,
                (codes, weights.astype(np.float32)),
                loss=ClassLoss(self.label_smoothing),
                recipe=self._recipe(len(codes), seed),
            )
        return network

    def _recipe(self, n: int, seed: int) -> Recipe:
        steps = self.steps
        if steps is None:
            steps = int(np.clip(30 * np.sqrt(n), _MIN_STEPS, _MAX_STEPS))
        steps_per_epoch = -(-n // self.batch_size)
        return Recipe(
            max_epochs=-(-steps // steps_per_epoch),
            batch_size=self.batch_size,
            learning_rate=self.learning_rate,
            augment=self.encoder_.augment,
            device=self.encoder_.device,
            precision=self.encoder_.precision,
            seed=seed,
            verbose=self.verbose,
        )

    def _run_network(self, network: StampNetwork, images: Any) -> NDArray[np.float64]:
        """Return the class probabilities of a network, averaged over views as the encoder's."""
        probabilities = run(
            network,
            images,
            lambda net, stamps: net(stamps).softmax(dim=1),
            batch_size=self.encoder_.batch_size,
            average_views=self.encoder_.average_views,
            device=self.encoder_.device,
            precision=self.encoder_.precision,
        ).astype(np.float64)
        return probabilities / probabilities.sum(axis=1, keepdims=True)

    @property
    def _n_features_out(self) -> int:
        return len(self.encoder_.embedding_mean_)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = True
        tags.transformer_tags.preserves_dtype = ["float32"]
        return tags


def _check_groups(groups: Any, n: int) -> NDArray[Any] | None:
    if groups is None:
        return None
    values = np.asarray(groups)
    if values.shape != (n,):
        raise ValueError(
            f"groups has shape {values.shape}, but X has {n} stamps: pass one a stamp."
        )
    return np.unique(values, return_inverse=True)[1]


def _beside(columns: NDArray[Any], catalog: NDArray[Any] | None) -> NDArray[np.float64]:
    return columns if catalog is None else np.hstack([columns, catalog])


def _embed(encoder: PropertyPretrainedEncoder, images: Any) -> NDArray[np.float32]:
    """Return embeddings as an array, whatever container scikit-learn is told to return."""
    return np.asarray(encoder.transform(images))


def _fold_probe(
    head: torch.nn.Linear, probe: LinearProbe, encoder: PropertyPretrainedEncoder
) -> None:
    """Set a head to the probe's decision on raw features, standardisation included."""
    weight = probe.coef_ / encoder.embedding_scale_
    bias = probe.intercept_ - weight @ encoder.embedding_mean_
    if len(probe.coef_) == 1:  # two classes share one logit
        weight, bias = np.vstack([-weight, weight]) / 2, np.hstack([-bias, bias]) / 2
    with torch.no_grad():
        head.weight.copy_(torch.from_numpy(weight))
        head.bias.copy_(torch.from_numpy(bias))


def _log_loss(
    codes: NDArray[np.int64], probabilities: NDArray[np.float64], weights: NDArray[np.float64]
) -> float:
    true = np.take_along_axis(probabilities, codes[:, None], axis=1)[:, 0]
    return -float(np.average(np.log(np.maximum(true, 1e-12)), weights=weights))
