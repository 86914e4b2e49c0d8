"""SelfSupervisedClassifier: pretrain on all stamps, learn the classes from the labelled ones."""

from __future__ import annotations

import copy
import math
import warnings
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, NamedTuple, Self

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.base import ClassifierMixin
from sklearn.frozen import FrozenEstimator
from sklearn.metrics import accuracy_score
from sklearn.model_selection import cross_val_predict
from sklearn.utils.class_weight import compute_sample_weight
from sklearn.utils.validation import check_is_fitted

from skastro.estimators.encoder import (
    PropertyPretrainedEncoder,
    embed_stamps,
    fill_head,
    run_network,
)
from skastro.estimators.morphology import find_kinds, rescale_kinds
from skastro.estimators.pretrained import choose_kinds
from skastro.estimators.representation import RepresentationModel, join_columns
from skastro.estimators.saving_estimators import load_classifier, save_classifier
from skastro.networks.backbones import Backbone, StampNetwork, make_network, name_backbone
from skastro.networks.losses import ClassLoss
from skastro.networks.training import Recipe, seeded, train
from skastro.probes.cross_validation import (
    Fold,
    LabelledRows,
    SetCalibration,
    compare_shares,
    explain_choice,
    find_calibration,
    find_predicted,
    make_folds,
    may_help,
)
from skastro.probes.kernel_probe import KernelProbe
from skastro.probes.linear_probe import LinearProbe
from skastro.stamps.arrays import check_images
from skastro.stamps.containers import to_array
from skastro.stamps.photometry import measure_properties
from skastro.utils.fitting import fits_as_a_whole
from skastro.utils.progress import report_to
from skastro.utils.validation import (
    check_groups,
    check_labels,
    check_properties,
    check_whole_number,
    draw_seed,
    plain_labels,
    warn_of_classes,
    warn_of_order,
)

_STRATEGIES = ("auto", "probe", "finetune", "scratch")
_MIN_STEPS, _MAX_STEPS = 150, 1400
_FOLD_STEPS = 1 / 3  # of the steps of a network, for the networks of the cross-validation
_PRETRAINED_CHOICE = (
    "Strategy auto uses the probe alone: the network of load_pretrained() stays as it is."
)
_N_MEASURED = 1000  # stamps that show which properties can be measured, without labels
_HEAD_C = 0.03  # regularisation of the linear probe from which fine-tuning starts


class _PlannedProbe(NamedTuple):
    """A probe before its fit, its columns, and probabilities of rows that folds left out."""

    probe: KernelProbe
    columns: NDArray[np.float64]  # (n, p)
    left_out: Any  # (n, k); None without folds


class SelfSupervisedClassifier(ClassifierMixin, RepresentationModel):
    """Classify stamps with few labels, on a representation learned from all of them.

    The encoder is pretrained on every row, labelled or not. Then the classes are learned from the
    labelled rows: by a probe on the frozen embeddings and the properties, by fine-tuning the
    network, or by both.

    Encoders that have learned from simulated sources (`load_pretrained`) help where the labelled
    rows say so. Without any label, they name the kinds of sources that the simulation knows.

    Parameters
    ----------
    encoder : PropertyPretrainedEncoder, FrozenEstimator or None, default=None
        None pretrains a default encoder; an unfitted encoder is cloned and pretrained;
        ``FrozenEstimator(fitted)`` is used unchanged.
    strategy : {"auto", "probe", "finetune", "scratch"}, default="auto"
        "probe": a `KernelProbe` on the columns that `describe` returns. "finetune": training of
        all layers, from the encoder's weights and those of a linear probe. "scratch": the same
        network from random weights (the baseline). "auto": the probe, the fine-tuned network, or
        a mean of both, whichever predicts the labelled rows best in cross-validation, for which
        networks are trained for a third of their steps. The probe where the first of them says
        that none helps, and where the smallest class has fewer than ten labels, too few for a
        comparison.
    pretrained : {"auto", None}, name or FrozenEstimator, default="auto"
        Teachers: encoders of `load_pretrained` whose embedding and properties the probe gets, too.
        "auto": those of `list_pretrained` that are made for such stamps, "radio" for those of one
        band only; none for stamps that are smaller than 16 pixels. A name: that one.
        ``FrozenEstimator(encoder)``: such an encoder. None: no teacher. The probe gives each
        teacher a share by evidence (see `KernelProbe`). Where all classes are kinds of sources
        that a teacher knows, its probabilities count as well. The strategies "finetune" and
        "scratch" have no teacher.
    classes : sequence, default=None
        Classes where no row has a label: kinds of sources that a teacher knows, or usual names of
        them, such as "E" or "FR I"; None takes all kinds. Ignored where rows have labels.
    class_weight : dict, "balanced" or None, default="balanced"
        Weights of the classes, as in scikit-learn.
    steps : int, default=None
        Number of batches on which a network is trained. None: 30 times the square root of the
        number of labels, between 150 and 1,400.
    batch_size : int, default=32
    learning_rate : float, default=2e-3
        Peak of the one-cycle schedule.
    label_smoothing : float, default=0.1
    n_folds : int, default=3
        Number of folds in the cross-validation of strategy "auto"; the probe is used where the
        smallest class has fewer labels than that.
    random_state : int, RandomState or None, default=None
    verbose : int, default=0
        1 prints a heading and a line for each epoch of each network, and ``choice_``.

    Attributes
    ----------
    classes_ : array of shape (k,)
    encoder_ : PropertyPretrainedEncoder
        The fitted encoder; without any label and with ``encoder=None``, the teacher.
    teachers_ : dict of str to PropertyPretrainedEncoder
        The teachers by name.
    kinds_ : list of str
        Which kind of the first teacher that knows them all each class is; empty where none does.
    probe_ : KernelProbe or None
        Probe on the columns of `describe`, for the strategies "probe" and "auto"; its ``shares_``
        are those of the kernels without a teacher, and with each of ``teachers_``. None where no
        row had a label.
    measured_names_ : list of str
        Properties that `describe` measures from the pixels.
    catalog_probe_ : KernelProbe or None
        Like ``probe_``, with the catalogue columns as additional features; used for predictions
        with a ``catalog``.
    catalog_names_ : list of str
        Columns of the ``catalog`` that was passed to `fit`.
    network_ : nn.Module or None
        Maps raw pixels to logits, where a network was trained.
    blend_, catalog_blend_ : float
        Share of the network in the probabilities; ``probe_`` or ``catalog_probe_`` has the rest.
    cv_losses_, catalog_cv_losses_ : dict of float to float
        Cross-validated log loss (nat) for each share of the network that "auto" compared, where
        ``probe_`` or ``catalog_probe_`` has the rest; of one fold if its network did not help, and
        empty if nothing was compared.
    bands_ : tuple of str or None
        Names of the bands, where X knew them. After `fit`, stamps that name their bands are put in
        this order, and those that lack one are refused.
    calibration_, catalog_calibration_ : SetCalibration or None
        Labelled rows that were left out, with whose probabilities `predict_set` finds thresholds;
        None where none was.
    choice_ : str
        A sentence that says what "auto" uses for predictions, and why; with a ``catalog``, for
        predictions with it. Without any label it says whose kinds the classes are. Empty for the
        other strategies.
    n_features_in_ : int

    Notes
    -----
    Rows without a label are marked as in `sklearn.semi_supervised`, by -1; or by NaN, None or
    another missing value, a mask, blank text, or text such as "nan", "None", "null", "NA", "N/A"
    or "--". Where -1 and 1 are the only values, they are two classes. White space around a label
    does not count: "star " and "star" are one class.

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

    Without any label:

    >>> from skastro import make_galaxies
    >>> galaxies = make_galaxies(20, image_size=32)
    >>> classifier = SelfSupervisedClassifier(classes=["E", "spiral"]).fit(galaxies.images)
    >>> classifier.predict_proba(galaxies.images).shape
    (20, 2)
    """

    _noun = "classifier"
    # routed without set_fit_request and the like
    __metadata_request__fit = dict.fromkeys(
        ("properties", "property_errors", "catalog", "groups"), True
    )
    __metadata_request__predict = {"catalog": True}  # noqa: RUF012
    __metadata_request__predict_proba = {"catalog": True}  # noqa: RUF012
    __metadata_request__score = {"catalog": True}  # noqa: RUF012

    def __init__(
        self,
        encoder: PropertyPretrainedEncoder | FrozenEstimator | None = None,
        *,
        strategy: str = "auto",
        pretrained: str | FrozenEstimator | None = "auto",
        classes: Sequence[Any] | None = None,
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
        self.pretrained = pretrained
        self.classes = classes
        self.class_weight = class_weight
        self.steps = steps
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.label_smoothing = label_smoothing
        self.n_folds = n_folds
        self.random_state = random_state
        self.verbose = verbose

    @fits_as_a_whole
    def fit(
        self,
        X: Any,
        y: Any = None,
        *,
        properties: Any = None,
        property_errors: Any = None,
        catalog: Any = None,
        groups: Any = None,
    ) -> Self:
        """Pretrain the encoder on all rows, unless it is frozen, and learn from the labelled rows.

        Where no row has a label, nothing is learned from them: a teacher predicts, and nothing is
        pretrained with ``encoder=None``.

        Parameters
        ----------
        X : array-like of shape (n, bands, height, width) or (n, features)
        y : array-like of shape (n,), default=None
            Classes; unlabelled rows are marked (see Notes). None: no row has a label.
        properties, property_errors : array-like of shape (n, p), default=None
            Targets of the pretext and their errors, as in `PropertyPretrainedEncoder.fit`. A
            frozen encoder ignores them.
        catalog : array-like, DataFrame or astropy Table of shape (n, q), default=None
            Columns to classify by, in addition to the stamps, where `predict` gets them too; NaN
            where unknown. Only the probe learns from them: the encoder and the strategies
            "finetune" and "scratch" do not.
        groups : array-like of shape (n,), default=None
            Rows of one group (an object, a field) stay together in the cross-validation of
            strategy "auto".

        Returns
        -------
        self : SelfSupervisedClassifier

        Raises
        ------
        ValueError
            A parameter is out of range, no row has a label and no teacher knows the classes, or
            stamps, labels, properties, catalogue and groups do not belong together.
        """
        self._check_parameters()
        images = self._open_stamps(X)
        codes = self._encode_labels(y, images)
        warn_of_order(X=X, y=y, catalog=catalog, groups=groups)
        if properties is not None:
            warn_of_classes(properties, codes)
        groups = check_groups(groups, len(images))
        if catalog is not None:
            catalog = check_properties(catalog, len(images), name="catalog", allow_empty=True)
        seed = draw_seed(self.random_state)
        labelled = np.flatnonzero(codes >= 0)
        if not len(labelled) and self.encoder is None:
            self.encoder_ = self._kind_teacher()
            names = [name for name, t in self.teachers_.items() if t is not self.encoder_]
            self.teachers_ = {name: self.teachers_[name] for name in names}
        else:
            self.encoder_ = self._fit_encoder(images, seed, properties, property_errors)
        if not len(labelled):
            self._rely_on_teacher(images)
            return self
        # from here on, labelled rows only
        codes = codes[labelled]
        labels = self.classes_[codes]
        weights = compute_sample_weight(self.class_weight, labels)
        groups = None if groups is None else groups[labelled]
        rows = LabelledRows(images[labelled], labels, codes, weights, groups)
        self._fit_strategy(rows, None if catalog is None else catalog.iloc[labelled], seed)
        return self

    def predict_proba(self, X: Any, *, catalog: Any = None) -> NDArray[np.float64]:
        """Return the probability of each class.

        Parameters
        ----------
        X : array-like of shape (n, bands, height, width) or (n, features)
        catalog : array-like, DataFrame or astropy Table of shape (n, q), default=None
            The columns that were passed to `fit`, of these objects; NaN where unknown. None
            classifies by the stamps alone. The strategies "finetune" and "scratch" ignore it.

        Returns
        -------
        probabilities : float64 array of shape (n, k)
            In the order of ``classes_``.

        Raises
        ------
        ValueError
            ``catalog`` lacks a column, or the classifier was fitted without any.
        """
        check_is_fitted(self)
        images = check_images(self, X, reset=False)
        if self.probe_ is None and self.network_ is None:
            return self._name_kinds(images)
        catalog = self._check_catalog(catalog, len(images))
        probe, share = self.probe_, self.blend_
        if catalog is not None:
            probe, share = self.catalog_probe_, self.catalog_blend_
        parts = []
        if probe is not None and share < 1:
            columns = np.hstack(self._describe(images, catalog))
            parts.append((1 - share) * probe.predict_proba(columns))
        if self.network_ is not None and share > 0:
            parts.append(share * self._run_network(self.network_, images))
        return parts[0] if len(parts) == 1 else parts[0] + parts[1]

    def predict(self, X: Any, *, catalog: Any = None) -> NDArray[Any]:
        """Return the most probable class of each stamp.

        Parameters
        ----------
        X : array-like of shape (n, bands, height, width) or (n, features)
        catalog : array-like, DataFrame or astropy Table of shape (n, q), default=None
            As in `predict_proba`.

        Returns
        -------
        classes : array of shape (n,)
            In the dtype of the labels.
        """
        probabilities = self.predict_proba(X, catalog=catalog)
        return self.classes_[probabilities.argmax(axis=1)]

    def predict_set(
        self, X: Any, *, coverage: float = 0.9, catalog: Any = None
    ) -> NDArray[np.bool_]:
        """Return the classes that each stamp may have, so that few true ones are missed.

        A set holds the true class with a probability of ``coverage``, for the stamps of each class
        on their own. Clear stamps have sets of one class, doubtful ones have more.

        Parameters
        ----------
        X : array-like of shape (n, bands, height, width) or (n, features)
        coverage : float, default=0.9
            Between 0 and 1.
        catalog : array-like, DataFrame or astropy Table of shape (n, q), default=None
            As in `predict_proba`.

        Returns
        -------
        sets : bool array of shape (n, k)
            Whether each class, in the order of ``classes_``, belongs to the set of each stamp. The
            most probable class always does.

        Raises
        ------
        ValueError
            ``coverage`` is out of range; no label was left out in `fit`: there was none, or the
            strategy is "finetune" or "scratch"; or `load` read a file of a version before sets.

        Warns
        -----
        UserWarning
            A class has too few labels for this coverage (9 are needed for 0.9). Its threshold is
            then the lower of the probability of all of its labels and that of labels of all
            classes, and its coverage is often smaller.

        Notes
        -----
        These are sets of conformal prediction, class by class. A class belongs to a set where its
        probability is at least a threshold, which the share ``coverage`` of the labelled rows of
        that class reach when they are left out: one at a time, or in the folds of the
        cross-validation where a network counts or `fit` had ``groups``. The coverage holds for
        stamps that are drawn like the labelled ones of their class.

        Examples
        --------
        >>> rng = np.random.default_rng(0)
        >>> brightness = np.repeat([4.0, 0.0], 40)  # stars, galaxies
        >>> brightness[40:50] = 4.0  # some galaxies are as bright
        >>> stamps = rng.normal(size=(80, 1, 8, 8)) + brightness[:, None, None, None]
        >>> labels = np.repeat(["star", "galaxy"], 40)
        >>> encoder = PropertyPretrainedEncoder("stamp_resnet10", max_epochs=2, random_state=0)
        >>> classifier = SelfSupervisedClassifier(encoder, strategy="probe").fit(stamps, labels)
        >>> sets = classifier.predict_set(stamps[[0, -1]], coverage=0.9)
        >>> [classifier.classes_[row].tolist() for row in sets]
        [['galaxy', 'star'], ['galaxy']]
        """
        check_is_fitted(self)
        calibration = find_calibration(self, coverage, catalog)
        probabilities = self.predict_proba(X, catalog=catalog)
        return calibration.choose_sets(probabilities, coverage, self.classes_)

    def knows_classes(self, classes: Sequence[Any], X: Any = None) -> bool:
        """Return whether a teacher can tell classes without any label.

        Parameters
        ----------
        classes : sequence
            Kinds of sources such as "spiral", or usual names of them, such as "Sp" or "FR I".
        X : array-like of shape (n, bands, height, width), default=None
            Stamps, for some of which there is no teacher (see ``pretrained``). None asks whether
            there are any stamps whose classes would be known.

        Returns
        -------
        knows : bool
            Whether `fit` with these ``classes`` needs no label.

        Examples
        --------
        >>> classifier = SelfSupervisedClassifier()
        >>> classifier.knows_classes(["E", "S0"]), classifier.knows_classes(["star", "quasar"])
        (True, False)
        """
        images = None if X is None else to_array(X)
        if images is not None and len(images.shape) < 4:  # rows, of stamps that are not known here
            images = None
        teachers = self._find_teachers(images).values()
        return any(find_kinds(classes, t.targets_.kinds) is not None for t in teachers)

    def score(self, X: Any, y: Any, sample_weight: Any = None, *, catalog: Any = None) -> float:
        """Return the accuracy on the labelled rows; those without a label are left out.

        Parameters
        ----------
        X : array-like of shape (n, bands, height, width) or (n, features)
        y : array-like of shape (n,)
        sample_weight : array-like of shape (n,), default=None
        catalog : array-like, DataFrame or astropy Table of shape (n, q), default=None
            As in `predict_proba`.

        Returns
        -------
        score : float
        """
        check_is_fitted(self)
        images = check_images(self, X, reset=False)
        classes, codes = check_labels(y)
        rows = np.flatnonzero(codes >= 0)
        weights = None if sample_weight is None else np.asarray(sample_weight)[rows]
        if catalog is not None:
            # before rows are left out, because sentinels are detected by the range of all values
            catalog = check_properties(catalog, len(images), name="catalog", allow_empty=True)
            catalog = catalog.iloc[rows]
        predicted = self.predict(images[rows], catalog=catalog)
        return accuracy_score(classes[codes[rows]], predicted, sample_weight=weights)

    def save(self, path: Any) -> None:
        """Write the fitted classifier, with its encoder, to one safetensors file.

        Parameters
        ----------
        path : str or path-like
            An existing file is replaced when the new one is complete.
        """
        check_is_fitted(self)
        save_classifier(self, path)

    @classmethod
    def load(cls, path: Any, *, backbone: Backbone | None = None) -> Self:
        """Read a classifier that `save` has written; no code in the file is executed.

        Parameters
        ----------
        path : str or path-like
        backbone : nn.Module or callable, default=None
            The architecture of the encoder, if it was a module or a function: code is not saved.

        Returns
        -------
        classifier : SelfSupervisedClassifier
            It predicts as before. `fit` learns other labels; a frozen encoder stays frozen.

        Raises
        ------
        FileNotFoundError
            There is no such file.
        ValueError
            The file is truncated, altered, of a newer format, no classifier, or needs
            ``backbone``.
        """
        return load_classifier(cls, path, backbone)

    def _check_parameters(self) -> None:
        if self.strategy not in _STRATEGIES:
            raise ValueError(f"strategy={self.strategy!r} must be one of {_STRATEGIES}.")
        check_whole_number("steps", self.steps, least=1, or_none=True)
        check_whole_number("n_folds", self.n_folds, least=2)
        self._check_encoders()

    def _encode_labels(self, y: Any, images: Any) -> NDArray[np.int64]:
        """Set the classes and their kinds; return a code for each row, -1 without a label."""
        n, kinds = len(images), None
        labelled = np.zeros(n, bool) if y is None else plain_labels(y)[1]
        if labelled.any() or (y is not None and not self._teachers()):
            classes, codes = check_labels(y)
            if len(classes) < 2:
                raise ValueError(
                    f"y holds one class only ({classes.item(0)!r}): label stamps of at least two "
                    "classes."
                )
            found = [find_kinds(classes.tolist(), t.targets_.kinds) for t in self._teachers()]
            kinds = next((kinds for kinds in found if kinds is not None), None)
        else:
            if not self._teachers():
                raise ValueError(
                    "SelfSupervisedClassifier requires y to be passed, but the target y is None: "
                    "label some rows, and mark the others as unlabelled."
                )
            classes, kinds = choose_kinds(self._teachers(), self.classes, images)
            codes = np.full(len(labelled), -1)
        if len(codes) != n:
            raise ValueError(
                f"y has {len(codes)} labels, but X has {n} stamps: pass one for each stamp."
            )
        if y is not None and codes.max() < 0 and self.classes is None:
            warnings.warn(
                f"y has no label: the classes are {', '.join(map(str, classes))}, the kinds of "
                "sources in a simulation; pass classes= if that is meant, or other labels.",
                stacklevel=4,
            )
        self.classes_, self.kinds_ = classes, kinds or []
        return codes

    def _teachers(self) -> list[Any]:
        """Return the encoder, if it is of `load_pretrained`, and the teachers."""
        encoder = getattr(self, "encoder_", None) or getattr(self.encoder, "estimator", None)
        is_teacher = getattr(encoder, "image_shape_", ()) is None
        others = [teacher for teacher in self.teachers_.values() if teacher is not encoder]
        return [encoder, *others] if is_teacher else others

    def _kind_teacher(self) -> Any:
        """Return the teacher whose kinds the classes are."""
        return next(t for t in self._teachers() if set(self.kinds_) <= set(t.targets_.kinds))

    def _name_kinds(self, images: Any) -> NDArray[np.float64]:
        """Return the probability of each class by the teacher that knows it."""
        teacher = self._kind_teacher()
        table = teacher.predict_embedded(embed_stamps(teacher, images))
        return rescale_kinds(table[self.kinds_])

    def _rely_on_teacher(self, images: Any) -> None:
        """Set the fitted attributes where no row has a label."""
        self._reset()
        sample = images[:: -(-len(images) // _N_MEASURED)]
        self.measured_names_ = measure_properties(sample).columns.tolist()
        self.blend_ = self.catalog_blend_ = 0.0
        self.choice_ = (
            f"No stamp has a label: the classes {', '.join(map(str, self.classes_))} are kinds of "
            f"sources in the simulation of {self._kind_teacher().weights!r}, whose probabilities "
            "are used as they are."
        )
        self._say(self.choice_)

    def _reset(self) -> None:
        self.probe_: KernelProbe | None = None
        self.catalog_probe_: KernelProbe | None = None
        self.catalog_names_: list[str] = []
        self.network_: StampNetwork | None = None
        self.blend_ = self.catalog_blend_ = 1.0
        self.cv_losses_: dict[float, float] = {}
        self.catalog_cv_losses_: dict[float, float] = {}
        self.calibration_: SetCalibration | None = None
        self.catalog_calibration_: SetCalibration | None = None
        self.choice_ = ""

    def _fit_strategy(self, rows: LabelledRows, catalog: pd.DataFrame | None, seed: int) -> None:
        """Fit the probes and the network that the strategy needs."""
        self._reset()
        if self.strategy != "scratch":
            measured = measure_properties(rows.images)
            self.measured_names_ = measured.columns.tolist()
            images = check_images(self.encoder_, rows.images, reset=False)
            rows = replace(rows, embeddings=embed_stamps(self.encoder_, images))
        if self.strategy in ("auto", "probe"):
            compares = self.strategy == "auto" and self.encoder_.image_shape_ is not None
            needs_folds = compares or rows.groups is not None
            folds = make_folds(rows, self.n_folds, seed) if needs_folds else []
            # the columns of the probes, and what they predict of rows that are left out in folds
            own = join_columns(self.encoder_, rows.embeddings, measured)
            tables = [[own, *self._consult_teachers(rows.images)]]
            if catalog is not None:
                tables.append([np.hstack([own, catalog]), *tables[0][1:]])
                self.catalog_names_ = catalog.columns.tolist()
            probes = [self._plan_probe(rows, parts, folds, seed) for parts in tables]
            # let networks predict these rows, too, and choose the shares of the network
            by_network = None
            if compares and folds:
                by_network = self._predict_folds(rows, folds, [p.left_out for p in probes], seed)
            fitted = [self._fit_probe(rows, probe, by_network) for probe in probes]
            self.probe_, self.calibration_, self.blend_, self.cv_losses_ = fitted[0]
            self.catalog_blend_ = 0.0
            if catalog is not None:
                self.catalog_probe_, self.catalog_calibration_ = fitted[1][:2]
                self.catalog_blend_, self.catalog_cv_losses_ = fitted[1][2:]
            if self.strategy == "auto":
                self.choice_ = _PRETRAINED_CHOICE
                if compares:
                    looked = None if by_network is None else find_predicted(by_network)
                    self.choice_ = explain_choice(rows, self.n_folds, *fitted[-1][2:], looked)
                self.choice_ += self._explain_teachers(fitted[-1][0])
                self._say(self.choice_)
        if max(self.blend_, self.catalog_blend_) > 0:
            self.network_ = self._train_network(rows, seed)

    def _plan_probe(
        self, rows: LabelledRows, parts: list[Any], folds: list[Fold], seed: int
    ) -> _PlannedProbe:
        """Return an unfitted probe with its columns; ``parts`` are those of `_describe`."""
        # the columns of the kinds that the classes are
        class_columns, start = None, 0
        kind_teacher: Any = self._kind_teacher() if self.kinds_ else None
        encoders = [self.encoder_, *self.teachers_.values()]
        for encoder, part in zip(encoders, parts, strict=True):
            if encoder is kind_teacher:
                names, first = list(encoder.targets_.names), start + len(encoder.embedding_mean_)
                class_columns = [first + names.index(kind) for kind in self.kinds_]
            start += part.shape[1]
        n_properties = parts[0].shape[1] - self._n_features_out
        probe = KernelProbe(
            n_properties, others=self._list_others(parts), class_columns=class_columns,
            class_weight=self.class_weight, random_state=seed,
        )  # fmt: skip
        # rows that are left out: in folds, to compare with the network or to keep groups together
        columns, left_out = np.hstack(parts), None
        if folds:
            proba = "predict_proba"
            left_out = cross_val_predict(probe, columns, rows.labels, cv=folds, method=proba)
        return _PlannedProbe(probe, columns, left_out)

    def _predict_folds(
        self, rows: LabelledRows, folds: list[Fold], by_probes: list[Any], seed: int
    ) -> NDArray[np.float64]:
        """Return the probabilities of rows that networks were not trained on (n, k).

        The networks are trained for fewer steps than the final one. If that of the first fold says
        that no network will help any of the probes, the other rows stay NaN.
        """
        by_network = np.full((len(rows.codes), len(self.classes_)), np.nan)
        for number, (learn, test) in enumerate(folds, start=1):
            part = f"fold {number} of {len(folds)}"
            network = self._train_network(rows.take(learn), seed, part, steps_share=_FOLD_STEPS)
            by_network[test] = self._run_network(network, rows.images[test])
            if number == 1 and not may_help(rows.take(test), by_network[test], by_probes, test):
                break
        return by_network

    def _fit_probe(
        self, rows: LabelledRows, planned: _PlannedProbe, by_network: Any
    ) -> tuple[KernelProbe, SetCalibration, float, dict[float, float]]:
        """Fit a probe; return it, its calibration, the share of the network, and losses of shares.

        Without a prediction of all rows by networks, the share is 0.
        """
        probe, left_out = planned.probe.fit(planned.columns, rows.labels), planned.left_out
        losses, share = {}, 0.0
        if by_network is not None:
            seen = find_predicted(by_network)
            losses = compare_shares(rows.take(seen), left_out[seen], by_network[seen])
            share = min(losses, key=losses.__getitem__) if len(seen) == len(rows.codes) else 0.0
        if share > 0:
            left_out = (1 - share) * left_out + share * by_network
        elif rows.groups is None or left_out is None:  # or each row alone
            left_out = probe.loo_probabilities_
        return probe, SetCalibration.measure(rows.codes, left_out), share, losses

    def _explain_teachers(self, probe: KernelProbe) -> str:
        """Return a sentence about the shares of teachers, after a blank; empty without any."""
        if not self.teachers_:
            return ""
        shares = zip(self.teachers_, probe.shares_[1:], strict=True)
        text = " and ".join(f"a share of {share:.0%} to {name!r}" for name, share in shares)
        return f" The probe gives {text}."

    def _train_network(
        self, rows: LabelledRows, seed: int, part: str = "", *, steps_share: float = 1.0
    ) -> StampNetwork:
        """Train all layers: from the encoder's weights if embeddings are given, or random ones.

        ``part`` is what the messages call it, such as "fold 1 of 3".
        """
        encoder, n = self.encoder_, len(rows.codes)
        kind = "Training" if rows.embeddings is None else "Fine-tuning"
        title = f"{kind} {name_backbone(encoder.backbone)}{part and f', {part},'}"
        steps = self.steps or int(np.clip(30 * np.sqrt(n), _MIN_STEPS, _MAX_STEPS))
        steps, steps_per_epoch = math.ceil(steps_share * steps), -(-n // self.batch_size)
        recipe = Recipe(
            max_epochs=-(-steps // steps_per_epoch), batch_size=self.batch_size,
            learning_rate=self.learning_rate, augment=encoder.augment, device=encoder.device,
            precision=encoder.precision, seed=seed, verbose=self.verbose, title=title,
        )  # fmt: skip
        with seeded(seed):
            scaling = copy.deepcopy(encoder.network_.scaling)
            network = make_network(
                encoder.backbone, encoder.image_shape_, len(self.classes_), scaling=scaling
            )
            if rows.embeddings is not None:
                network.backbone = copy.deepcopy(encoder.network_.backbone)
                probe = LinearProbe(_HEAD_C, class_weight=self.class_weight)
                fill_head(network.head, probe.fit(rows.embeddings, rows.labels), encoder)
            targets = rows.codes, rows.weights.astype(np.float32)
            loss = ClassLoss(self.label_smoothing)
            progress = report_to(f"training {part or 'the network'}", n * recipe.max_epochs)
            train(network, rows.images, targets, loss=loss, recipe=recipe, progress=progress)
        return network

    def _run_network(self, network: StampNetwork, images: Any) -> NDArray[np.float64]:
        """Return the class probabilities of a network, averaged over views like embeddings."""
        probabilities = run_network(
            self.encoder_, network, images, lambda net, x: net(x).softmax(dim=1), "classifying"
        ).astype(np.float64)
        return probabilities / probabilities.sum(axis=1, keepdims=True)
