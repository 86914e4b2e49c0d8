"""PropertyPretrainedEncoder: embed stamps by a CNN that was trained to regress properties."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

import numpy as np
import pandas as pd
import torch
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.metrics import r2_score
from sklearn.utils.validation import check_is_fitted

from skastro.estimators.saving import load_encoder, save_encoder
from skastro.estimators.targets import (
    PropertyTargets,
    Targets,
    collect_targets,
    find_true_values,
    split_names,
)
from skastro.estimators.training_statistics import TrainingStatistics, measure_spread
from skastro.networks.backbones import (
    Backbone,
    InputScaling,
    StampNetwork,
    check_backbone,
    make_network,
    name_backbone,
)
from skastro.networks.checkpoints import Checkpoint, open_checkpoint
from skastro.networks.device import resolve_device
from skastro.networks.inference import run
from skastro.networks.losses import PropertyLoss
from skastro.networks.parallel import agree, gather_rows, share_of
from skastro.networks.training import Recipe, choose_epochs, seeded, train
from skastro.networks.weights import load_weights, read_tensors
from skastro.probes.linear_probe import LinearProbe
from skastro.stamps.arrays import check_images, count_missing_pixels
from skastro.stamps.bands import find_wavelength_order
from skastro.stamps.scaling import AsinhScaler
from skastro.utils.fitting import fits_as_a_whole
from skastro.utils.progress import report_to
from skastro.utils.validation import (
    Documented,
    check_whole_number,
    draw_seed,
    warn_of_order,
)

_MAX_STANDARDISATION_ROWS = 10_000  # enough for the mean and spread of each embedding column
_PATIENCE = 8  # epochs without a better validation loss before training stops
# the weights do not depend on these parameters; the seed is compared separately
_PARAMETERS_WITHOUT_EFFECT = ("average_views", "verbose", "checkpoint_dir", "random_state")


class StampTransformer(Documented, TransformerMixin, BaseEstimator):
    """An estimator whose `transform` returns float32 embeddings of stamps."""

    @property
    def _n_features_out(self) -> int:
        encoder: Any = getattr(self, "encoder_", self)
        return len(encoder.embedding_mean_)

    def get_feature_names_out(self, input_features: Any = None) -> NDArray[np.object_]:  # noqa: ARG002
        """Name the columns of the embedding like those of the tables that are saved.

        Parameters
        ----------
        input_features : ignored
            Pixels have no part in the names.

        Returns
        -------
        names : object array of shape (d,)
            ``"e0"``, ``"e1"`` ...
        """
        check_is_fitted(self)
        return np.array([f"e{i}" for i in range(self._n_features_out)], dtype=object)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = True
        tags.transformer_tags.preserves_dtype = ["float32"]
        return tags

    def transform(self, X: Any) -> NDArray[np.float32]:
        """Embed stamps by the pretrained network.

        Parameters
        ----------
        X : array-like of shape (n, bands, height, width) or (n, features)

        Returns
        -------
        embeddings : float32 array of shape (n, d)
            Columns have mean 0 and standard deviation 1 on the stamps of the pretraining.
        """
        check_is_fitted(self)
        encoder: Any = getattr(self, "encoder_", self)
        return embed_stamps(encoder, check_images(self, X, reset=False))


class PropertyPretrainedEncoder(StampTransformer):
    """Represent stamps by a CNN that was trained to regress their properties.

    The pretext of Martinazzo, Espadoto & Hirata (ICPR 2020, arXiv:2004.11336): surveys measure
    magnitudes, colours and sizes of every object, free of human labels; a network that
    regresses them from the image has learned a representation that classifies with few labels.

    Parameters
    ----------
    backbone : str, nn.Module or callable, default="stamp_resnet18"
        A name of timm, ``"stamp_resnet10"``, ``"stamp_resnet18"`` or ``"turned_resnet18"`` (made
        for small stamps; the features of the last do not depend on quarter turns), a module
        (copied, with its weights) or a callable from the number of bands to a module.
    targets : {"auto", "catalog", "measured", "catalog+measured"} or callable, default="auto"
        Where the properties to regress come from. "catalog": the ``properties`` given to `fit`.
        "measured": measured from the pixels by `measure_properties` (without ``sky`` and
        ``peak_offset``, which describe the frame instead of the source), weighted by their errors.
        "catalog+measured": both, without measured columns that repeat a column of the catalogue
        (rank correlation of at least 0.8, column known for 90 % of the rows); their names begin
        with ``measured_``. "auto": "catalog+measured" if `fit` gets ``properties``, else the ``y``
        of `fit` if it is continuous, else "measured"; class labels are never regressed. A callable
        replaces `measure_properties`: it maps float32 stamps of shape (m, bands, height, width),
        NaN where masked, to a DataFrame of m rows.
    loss : {"huber", "mae", "mse"} or callable, default="huber"
        Loss on standardised properties; a callable maps (prediction, target) to elementwise losses.
    weights : {None, "imagenet"}, name or path, default=None
        Initial weights of the backbone: random, ImageNet, those of a name of `list_pretrained`
        such as ``"galaxies"``, or those in a file: a saved encoder or classifier, or a state dict
        of the same architecture (``.safetensors``, ``.pt``, ``.pth``, ``.ckpt`` or ``.bin``), of
        timm or inside a larger model, such as a checkpoint of Lightning or Zoobot. Heads are left
        out, the first layer is adapted to the bands, and no code is executed. Only ImageNet
        weights are downloaded, where no package has them.
    image_shape : tuple (bands, height, width), default=None
        Shape into which 2-D rows are folded; None reads them as strips of one band.
    max_epochs : int, default=None
        Number of epochs. None trains on about 300 batches, in at least 6 and at most 50 epochs;
        more epochs overfit. 0 leaves the network untrained.
    batch_size : int, default=64
    learning_rate : float, default=2e-3
        Peak of the one-cycle schedule of AdamW.
    augment : bool, default=True
        Whether to rotate, flip and shift (by up to 2 pixels) each stamp at random in each epoch.
    average_views : bool, default=True
        Whether `transform` and `predict` average over the four quarter turns of each stamp (for
        oblong stamps, over the mirrored ones), for 4 times the cost.
    validation_fraction : float, default=None
        Share of the stamps that are set apart to stop training early, at the best epoch.
    device : str, default="auto"
        "auto" prefers CUDA, then MPS, then the CPU. A device that the machine lacks is an error
        that lists those it has.
    precision : {"auto", "float32", "bfloat16"}, default="auto"
        "auto" uses bfloat16, for training and for embedding, where the hardware multiplies in it
        and the network gains from it (docs: Speed and memory).
    checkpoint_dir : path, default=None
        Folder in which `fit` saves the state of its training: after each epoch (or several short
        ones), and every three minutes within long epochs. After a kill the same call resumes
        from there, and ends with the weights of an uninterrupted fit, bit for bit. The file is
        removed when the fit is done. A file from other stamps, targets, parameters or versions is
        refused. Only one fit at a time may use the folder.
    random_state : int, RandomState or None, default=None
        The same seed gives the same weights, bit for bit, on one machine with one number of
        threads. Global generators stay untouched. None uses the seed of the checkpoint from
        which the fit resumes, if there is one.
    verbose : int, default=0
        1 prints a heading and a line for each epoch: its number, losses and seconds, and the time
        that is left.
    net_params : dict, default=None
        More parameters of the skorch net, such as ``{"optimizer__weight_decay": 0.1}``.

    Attributes
    ----------
    network_ : nn.Module
        Maps raw pixels to standardised properties, and with ``network_.embed`` to features.
    property_names_ : list of str
        Names of the properties that were given to `fit`, or of those measured if none were given.
    measured_names_ : list of str
        Names of the properties that were measured from the stamps in addition to the given ones.
    property_units_ : dict of str to str
    seed_ : int
        The seed that was used.
    property_source_ : str
        "catalog", "y", "measured" or "catalog+measured"; "simulation" after `load_pretrained`.
    history_ : list of dict
        ``epoch``, ``train_loss``, ``lr``, ``dur`` (seconds) and, with a ``validation_fraction``,
        ``valid_loss`` of each epoch.
    n_missing_pixels_ : int
        Number of NaN or masked pixels in the training stamps; they enter the network as sky.
    image_shape_ : tuple (bands, height, width) or None
        None after `load_pretrained`: the encoder takes stamps of any bands and size.
    bands_ : tuple of str or None
        Names of the bands, where X knew them. After `fit`, stamps that name their bands are put in
        this order, and those that lack one are refused.
    statistics_ : TrainingStatistics or None
        What `check_encoder` compares with other stamps: quantiles of sky, noise, flux, colour and
        size of the training stamps, and of their distances in the embedding. None after
        `load_pretrained`, and in files of older versions.
    n_features_in_ : int
        Number of bands, or of columns of 2-D rows; missing after `load_pretrained`.

    See Also
    --------
    load_pretrained : An encoder of this class that has learned from simulated sources.
    SelfSupervisedClassifier : Pretraining and classification in one estimator.

    Examples
    --------
    >>> import numpy as np
    >>> rng = np.random.default_rng(0)
    >>> stamps = rng.normal(size=(40, 3, 8, 8)).astype(np.float32)
    >>> encoder = PropertyPretrainedEncoder("stamp_resnet10", max_epochs=1, random_state=0)
    >>> embeddings = encoder.fit(stamps, properties=stamps.mean((2, 3))).transform(stamps)
    >>> embeddings.shape, embeddings.dtype
    ((40, 256), dtype('float32'))
    >>> encoder.predict(stamps).columns[:3].tolist()
    ['property_0', 'property_1', 'property_2']
    """

    # routed through Pipeline, GridSearchCV ... without set_fit_request
    __metadata_request__fit = {"properties": True, "property_errors": True}  # noqa: RUF012
    __metadata_request__score = {"properties": True}  # noqa: RUF012

    def __init__(
        self,
        backbone: Backbone = "stamp_resnet18",
        *,
        targets: Targets = "auto",
        loss: str | Callable[..., torch.Tensor] = "huber",
        weights: str | None = None,
        image_shape: tuple[int, int, int] | None = None,
        max_epochs: int | None = None,
        batch_size: int = 64,
        learning_rate: float = 2e-3,
        augment: bool = True,
        average_views: bool = True,
        validation_fraction: float | None = None,
        device: str = "auto",
        precision: str = "auto",
        checkpoint_dir: str | Path | None = None,
        random_state: int | np.random.RandomState | None = None,
        verbose: int = 0,
        net_params: dict[str, Any] | None = None,
    ) -> None:
        self.backbone = backbone
        self.targets = targets
        self.loss = loss
        self.weights = weights
        self.image_shape = image_shape
        self.max_epochs = max_epochs
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.augment = augment
        self.average_views = average_views
        self.validation_fraction = validation_fraction
        self.device = device
        self.precision = precision
        self.checkpoint_dir = checkpoint_dir
        self.random_state = random_state
        self.verbose = verbose
        self.net_params = net_params

    @fits_as_a_whole
    def fit(
        self, X: Any, y: Any = None, *, properties: Any = None, property_errors: Any = None
    ) -> Self:
        """Train the network to regress properties from stamps.

        Parameters
        ----------
        X : array-like of shape (n, bands, height, width) or (n, features)
            Stamps of any real dtype, in any linear unit; NaN or masked pixels are allowed. Also a
            list of equal stamps, a torch tensor, an array of HDF5, Zarr or Dask, or an
            xarray.DataArray with names of its axes.
        y : array-like of shape (n,) or (n, p), default=None
            Regressed if it is continuous and no ``properties`` are given; class labels and
            None are ignored.
        properties : array-like, DataFrame, astropy Table or other table (n, p), default=None
            Properties to regress, from a catalogue, in any units; NaN or masked means not
            measured. Columns keep their names; `select_columns` chooses some of a catalogue.
        property_errors : array-like of shape (n, p), default=None
            1-sigma errors of ``properties`` in the same units, with the same names, or else in
            the same order; NaN means unknown.

        Returns
        -------
        self : PropertyPretrainedEncoder

        Raises
        ------
        ValueError
            A parameter, the stamps or the properties cannot be used; the message names the
            argument, the row or column, and the remedy.
        OSError
            ``checkpoint_dir`` cannot be written to.
        """
        images = check_images(self, X, reset=True, image_shape=self.image_shape)
        n = len(images)
        self.image_shape_ = tuple(images.shape[1:])
        self._check_parameters(n)
        warn_of_order(X=X, y=y, properties=properties, property_errors=property_errors)
        # the targets, standardised, with weights from their errors
        self.property_source_, table, errors = collect_targets(
            images, self.targets, y, properties, property_errors
        )
        self.targets_ = PropertyTargets.fit(table)
        targets = self.targets_.standardise(table), self.targets_.weights(errors, n)
        self.n_missing_pixels_ = count_missing_pixels(images)
        n_epochs = choose_epochs(n, self.batch_size) if self.max_epochs is None else self.max_epochs
        # a checkpoint of an interrupted fit also gives the seed
        checkpoint = self._open_checkpoint(images, targets, n_epochs)
        self.seed_ = agree(checkpoint.seed if checkpoint else draw_seed(self.random_state))
        validation_rows = None
        if self.validation_fraction is not None:
            shuffled = np.random.default_rng(self.seed_).permutation(n)
            validation_rows = shuffled[: round(self.validation_fraction * n)]
        # the pretraining
        recipe = Recipe(
            max_epochs=n_epochs, batch_size=self.batch_size, learning_rate=self.learning_rate,
            augment=self.augment, patience=_PATIENCE, device=self.device, precision=self.precision,
            seed=self.seed_, verbose=self.verbose, net_params=self.net_params or {},
            title=f"Pretraining {name_backbone(self.backbone)}",
        )  # fmt: skip
        with seeded(self.seed_):
            self.network_ = self._make_network(self._measure_scaling(images), len(table.columns))
            self.history_ = train(
                self.network_, images, targets, loss=PropertyLoss(self.loss), recipe=recipe,
                validation_rows=validation_rows, checkpoint=checkpoint,
                progress=report_to("pretraining", n * n_epochs),
            )  # fmt: skip
        self._standardise_embeddings(images, table)
        if checkpoint:
            checkpoint.remove()
        return self

    def predict(self, X: Any, *, return_std: bool = False) -> Any:
        """Predict the properties of stamps.

        Parameters
        ----------
        X : array-like of shape (n, bands, height, width) or (n, features)
        return_std : bool, default=False
            Whether to return the uncertainties, too, which only encoders of `load_pretrained`
            know.

        Returns
        -------
        properties : DataFrame of shape (n, p), float64
            In catalogue units; known units are in ``properties.attrs["units"]``. The columns are
            ``property_names_`` and then ``measured_names_``. After `load_pretrained` the last
            columns are the probabilities of the kinds of sources, which add up to 1.
        uncertainties : DataFrame of shape (n, p), float64
            With ``return_std``: one standard deviation of each property, in the same units.

        Raises
        ------
        ValueError
            ``return_std`` is asked of an encoder that `fit` has trained, or the stamps cannot be
            used.
        """
        check_is_fitted(self)
        self._check_knows_spread(return_std=return_std)
        embeddings = embed_stamps(self, check_images(self, X, reset=False))
        return self.predict_embedded(embeddings, return_std=return_std)

    def predict_embedded(self, embeddings: ArrayLike, *, return_std: bool = False) -> Any:
        """Predict properties from embeddings, by the linear head of the network.

        Parameters
        ----------
        embeddings : array-like of shape (n, d)
            As `transform` returns them.
        return_std : bool, default=False
            As in `predict`.

        Returns
        -------
        properties : DataFrame of shape (n, p), float64
            As `predict` returns them.
        uncertainties : DataFrame of shape (n, p), float64
            With ``return_std``, as in `predict`.

        Raises
        ------
        ValueError
            ``return_std`` is asked of an encoder that `fit` has trained.
        """
        check_is_fitted(self)
        self._check_knows_spread(return_std=return_std)
        scale = np.where(np.isfinite(self.embedding_scale_), self.embedding_scale_, 0.0)
        features = np.asarray(embeddings, np.float32) * scale + self.embedding_mean_
        head = self.network_.head
        weight, bias = (part.detach().numpy() for part in (head.weight, head.bias))
        outputs = features @ weight.T + bias
        targets: Any = self.targets_
        properties = targets.restore(outputs)
        return (properties, targets.spread(outputs)) if return_std else properties

    def _check_knows_spread(self, *, return_std: bool) -> None:
        if return_std and not hasattr(self.targets_, "spread"):
            raise ValueError(
                "return_std=True needs an encoder of load_pretrained(), because fit() learns no "
                "uncertainties: leave return_std out."
            )

    def score(self, X: Any, y: Any = None, *, properties: Any = None) -> float:
        """Return the coefficient of determination R2, averaged over properties.

        Parameters
        ----------
        X : array-like of shape (n, bands, height, width) or (n, features)
        y : array-like of shape (n,) or (n, p), default=None
            The true properties if the encoder was fitted on a continuous ``y``.
        properties : array-like of shape (n, p), default=None
            The true properties, under the names given to `fit` or in that order; NaN means
            unknown. Properties that were measured from the pixels are measured again. After
            `load_pretrained` some of the columns are enough, under the names of `predict`.

        Returns
        -------
        score : float
            1 at best; NaN if no property is known in at least two rows.

        Raises
        ------
        ValueError
            The true values are missing, or are not those of the fitted properties.
        """
        predicted = self.predict(X)
        images = check_images(self, X, reset=False)
        names, source = list(self.targets_.names), self.property_source_
        true = find_true_values(images, self.targets, source, names, y, properties)
        scores = []
        for name in true:
            rows = np.flatnonzero(true[name].notna())
            if len(rows) > 1:
                scores.append(r2_score(true[name].iloc[rows], predicted[name].iloc[rows]))
        return float(np.mean(scores)) if scores else float("nan")

    @property
    def property_names_(self) -> list[str]:
        """Names of the properties that were given, the first columns of `predict`."""
        return split_names(self.targets_.names, self.property_source_)[0]

    @property
    def measured_names_(self) -> list[str]:
        """Names of the properties that were measured in addition, the other columns."""
        return split_names(self.targets_.names, self.property_source_)[1]

    @property
    def property_units_(self) -> dict[str, str]:
        """Units of those properties whose unit is known."""
        return dict(self.targets_.units)

    def save(self, path: Any) -> None:
        """Write the fitted encoder to one safetensors file, whose header holds the JSON.

        Parameters
        ----------
        path : str or path-like
            An existing file is replaced when the new one is complete.
        """
        check_is_fitted(self)
        save_encoder(self, path)

    @classmethod
    def load(cls, path: Any, *, backbone: Backbone | None = None) -> Self:
        """Read an encoder that `save` has written; no code in the file is executed.

        Parameters
        ----------
        path : str or path-like
        backbone : nn.Module or callable, default=None
            The architecture, if it was a module or a function: code is not saved.

        Returns
        -------
        encoder : PropertyPretrainedEncoder
            If ``targets`` was a function, call ``set_params(targets=function)`` before `score`.

        Raises
        ------
        ValueError
            The file is truncated, altered, of a newer format, or needs ``backbone``.
        """
        return load_encoder(cls, path, backbone)

    def _check_parameters(self, n: int) -> None:
        check_whole_number("max_epochs", self.max_epochs, least=0, or_none=True)
        check_whole_number("batch_size", self.batch_size, least=1)
        if not self.learning_rate > 0:
            raise ValueError(f"learning_rate={self.learning_rate} must be positive.")
        if self.validation_fraction is not None and not 0 < round(self.validation_fraction * n) < n:
            raise ValueError(
                f"validation_fraction={self.validation_fraction} of {n} stamps leaves nothing to "
                "train or to validate on: pass a share between 0 and 1, more stamps, or None."
            )
        # what cannot be had is refused before anything is computed
        resolve_device(self.device)
        check_backbone(self.backbone, self.weights)
        if self.weights is not None:
            ones = torch.ones(self.image_shape_[0])
            with seeded(0):
                self._make_network(InputScaling(ones, ones, stretch=True), 1)

    def _measure_scaling(self, images: Any) -> InputScaling:
        if self.weights == "imagenet" and images.shape[1] == 3 and images.dtype == np.uint8:
            # photographs: what the weights were trained on, (rgb - 127) / 128
            return InputScaling(torch.full((3,), 127.0), torch.full((3,), 128.0), stretch=False)
        scaler = AsinhScaler().fit(images)
        sky, noise = torch.from_numpy(scaler.sky_), torch.from_numpy(scaler.noise_)
        return InputScaling(sky, noise, stretch=True)

    def _make_network(self, scaling: InputScaling, n_outputs: int) -> StampNetwork:
        from_file = self.weights not in (None, "imagenet")
        weights = None if from_file else self.weights
        network = make_network(
            self.backbone, self.image_shape_, n_outputs, scaling=scaling, weights=weights
        )
        if from_file:
            load_weights(network.backbone, read_tensors(self.weights), self.weights)
        return network

    def _open_checkpoint(
        self, images: Any, targets: tuple[NDArray[Any], NDArray[Any]], n_epochs: int
    ) -> Checkpoint | None:
        if self.checkpoint_dir is None or n_epochs == 0:
            return None
        if "callbacks" in (self.net_params or {}):
            raise ValueError(
                "net_params has callbacks, whose state no checkpoint holds: leave out "
                "checkpoint_dir, or the callbacks."
            )
        settings = self.get_params(deep=False)
        for name in _PARAMETERS_WITHOUT_EFFECT:
            del settings[name]
        settings |= {"max_epochs": n_epochs, "device": resolve_device(self.device)}
        settings["property_names"] = list(self.targets_.names)
        return open_checkpoint(
            self.checkpoint_dir, settings, images, targets, random_state=self.random_state
        )

    def _standardise_embeddings(self, images: Any, table: pd.DataFrame) -> None:
        """Measure the mean and spread of each feature on a sample of the training stamps.

        What `check_encoder` compares with other stamps is measured on the same sample.
        """
        every = slice(None, None, -(-len(images) // _MAX_STANDARDISATION_ROWS))
        sample = images[every]
        # each process embeds its share
        features = gather_rows(run_network(self, self.network_, sample[share_of(len(sample))]))
        self.embedding_mean_, self.embedding_scale_ = measure_spread(features)
        embeddings = (features - self.embedding_mean_) / self.embedding_scale_
        residuals = self.predict_embedded(embeddings) - table.to_numpy(np.float64)[every]
        self.statistics_ = TrainingStatistics.measure(sample, embeddings, residuals)


def embed_stamps(encoder: PropertyPretrainedEncoder, images: Any) -> NDArray[np.float32]:
    """Embed checked stamps into an array, also where `set_output` asks `transform` for tables."""
    output = StampNetwork.embed
    if encoder.image_shape_ is None:  # a network that takes any bands, in order of wavelength
        order = find_wavelength_order(images)

        def output(network: Any, stamps: torch.Tensor) -> torch.Tensor:
            return network.embed(stamps[:, order])

    features = run_network(encoder, encoder.network_, images, output)
    features -= encoder.embedding_mean_  # in place: there may be millions of rows
    features /= encoder.embedding_scale_
    return features


def run_network(
    encoder: PropertyPretrainedEncoder,
    network: StampNetwork,
    images: Any,
    output: Callable[[Any, torch.Tensor], torch.Tensor] = StampNetwork.embed,
    stage: str = "embedding",
) -> NDArray[np.float32]:
    """Run a network with the parameters of an encoder, and return its features or ``output``."""
    return run(
        network, images, output, batch_size=encoder.batch_size, average_views=encoder.average_views,
        device=encoder.device, precision=encoder.precision, progress=report_to(stage, len(images)),
    )  # fmt: skip


def fill_head(
    head: torch.nn.Linear, probe: LinearProbe, encoder: PropertyPretrainedEncoder
) -> None:
    """Set the weights of a head such that it gives the logits of a probe on raw features."""
    weight = probe.coef_ / encoder.embedding_scale_
    bias = probe.intercept_ - weight @ encoder.embedding_mean_
    if len(probe.coef_) == 1:  # two classes share one logit
        weight, bias = np.vstack([-weight, weight]) / 2, np.hstack([-bias, bias]) / 2
    with torch.no_grad():
        head.weight.copy_(torch.from_numpy(weight))
        head.bias.copy_(torch.from_numpy(bias))
