"""PropertyPretrainedEncoder: a CNN that has learned to regress properties, as a transformer."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Self, get_type_hints

import numpy as np
import pandas as pd
import torch
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.metrics import r2_score
from sklearn.utils.validation import check_is_fitted

from skastro.estimators.saving import UNNAMED, check_document, restore_network
from skastro.estimators.targets import (
    MEASURED_PREFIX,
    PropertyTargets,
    find_redundant_columns,
    find_units,
    measure_targets,
)
from skastro.networks.backbones import Backbone, InputScaling, StampNetwork, make_network
from skastro.networks.checkpoints import Checkpoint, open_checkpoint
from skastro.networks.device import resolve_device
from skastro.networks.inference import prepare_for_inference, run
from skastro.networks.losses import PropertyLoss
from skastro.networks.parallel import agree, gather_rows, share_of
from skastro.networks.training import Recipe, choose_epochs, seeded, train
from skastro.networks.weights import load_weights, read_encoder, read_tensors, write_encoder
from skastro.stamps.arrays import check_images, count_missing_pixels
from skastro.stamps.photometry import measure_by
from skastro.stamps.scaling import AsinhScaler
from skastro.utils.validation import (
    Documented,
    check_properties,
    check_property_errors,
    draw_seed,
    is_continuous,
)

_SOURCES = ("auto", "catalog", "measured", "catalog+measured")
_STANDARDISED_ON = 10_000  # stamps: enough for a mean and a spread of each column
_PATIENCE = 8
# parameters that no weight depends on, or (the seed) compared apart
_OF_NO_WEIGHT = ("average_views", "verbose", "checkpoint_dir", "random_state")


class PropertyPretrainedEncoder(
    Documented, ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator
):
    """Represent stamps by a CNN that was trained to regress their properties.

    The pretext of Martinazzo, Espadoto & Hirata (ICPR 2020, arXiv:2004.11336): surveys measure
    magnitudes, colours and sizes of every object, free of human labels; a network that
    regresses them from the image has learned a representation that classifies with few labels.

    Parameters
    ----------
    backbone : str, nn.Module or callable, default="stamp_resnet18"
        A name of timm, ``"stamp_resnet10"`` or ``"stamp_resnet18"`` (made for small stamps), a
        module (copied, with its weights) or a callable from the number of bands to a module.
    properties : {"auto", "catalog", "measured", "catalog+measured"} or callable, default="auto"
        Where the targets come from. "auto": the ``properties`` given to `fit`, else its ``y``
        if continuous, else measured from the pixels by `measure_properties` (without ``sky`` and
        ``peak_offset``, which are not of the source), weighted by their errors. Class labels are
        never regressed. "catalog+measured" leaves out what is measured where a column of the
        catalogue tells the same (a rank correlation of 0.8, known for 90 % of the rows). A
        callable measures them instead of `measure_properties`: from float32 stamps of shape
        (m, bands, height, width), NaN where masked, to a DataFrame of m rows.
    loss : {"huber", "mae", "mse"} or callable, default="huber"
        On standardised properties; a callable maps (prediction, target) to elementwise losses.
    weights : {None, "imagenet"} or path, default=None
        Initial weights of the backbone: random, ImageNet, or those in a file: a saved encoder, or
        a state dict of the same architecture (``.safetensors``, ``.pt``, ``.pth``, ``.ckpt`` or
        ``.bin``), of timm or inside a larger model, such as a checkpoint of Lightning or Zoobot.
        Heads are left out, the first layer is adapted to the bands, and no code is executed.
    image_shape : tuple (bands, height, width), default=None
        How 2-D rows fold into stamps; None reads them as strips of one band.
    max_epochs : int, default=None
        None trains on about 300 batches, in at least 6 and at most 50 epochs; more learns the
        stamps by heart. 0 leaves the network untrained.
    batch_size : int, default=64
    learning_rate : float, default=2e-3
        Peak of the one-cycle schedule of AdamW.
    augment : bool, default=True
        Turn, flip and shift (by up to 2 pixels) each stamp anew in each epoch.
    average_views : bool, default=True
        Whether `transform` and `predict` average over the symmetries of the frame (8 views of
        square stamps), for 8 times the cost.
    validation_fraction : float, default=None
        Share of the stamps kept apart to stop early, at the best epoch.
    device : str, default="auto"
        "auto" prefers CUDA, then MPS, then the CPU.
    precision : {"auto", "float32", "bfloat16"}, default="auto"
        "auto" takes bfloat16, for training and for embedding, where the hardware multiplies in it
        and a short measurement finds it faster; the finding is kept (docs: Speed and memory).
    checkpoint_dir : path, default=None
        Folder in which `fit` keeps the state of its training, after each epoch (of short ones
        after several) and every three minutes within longer ones. After a kill the same call
        goes on from there, and ends with the weights of an uninterrupted one, bit for bit. The
        file is removed when the fit is done; one of other stamps, targets, parameters or
        versions is refused. One fit at a time may use the folder.
    random_state : int, RandomState or None, default=None
        The same seed gives the same weights, bit for bit, on one machine with one number of
        threads. Global generators stay untouched. None takes the seed of the checkpoint that
        it goes on from.
    verbose : int, default=0
        1 prints a line for each epoch.
    net_params : dict, default=None
        More parameters of the skorch net, such as ``{"optimizer__weight_decay": 0.1}``.

    Attributes
    ----------
    network_ : nn.Module
        Raw pixels to standardised properties; ``network_.embed`` to features.
    property_names_ : list of str
    property_units_ : dict of str to str
    seed_ : int
        What ``random_state`` came to.
    property_source_ : str
        "catalog", "y", "measured" or "catalog+measured".
    history_ : list of dict
        ``epoch``, ``train_loss``, ``lr``, ``dur`` and ``valid_loss`` of each epoch.
    n_missing_pixels_ : int
        NaN or masked pixels of the training stamps; they enter the network as sky.
    image_shape_ : tuple (bands, height, width)
    n_features_in_ : int
        Number of bands, or of columns of 2-D rows.

    See Also
    --------
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
    >>> encoder.predict(stamps).columns.tolist()
    ['property_0', 'property_1', 'property_2']
    """

    # routed through Pipeline, GridSearchCV ... without set_fit_request
    __metadata_request__fit = {"properties": True, "property_errors": True}  # noqa: RUF012
    __metadata_request__score = {"properties": True}  # noqa: RUF012

    def __init__(
        self,
        backbone: Backbone = "stamp_resnet18",
        *,
        properties: str | Callable[[NDArray[np.float32]], pd.DataFrame] = "auto",
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
        self.properties = properties
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

    def fit(
        self, X: Any, y: Any = None, *, properties: Any = None, property_errors: Any = None
    ) -> Self:
        """Train the network to regress properties from stamps.

        Parameters
        ----------
        X : array-like of shape (n, bands, height, width) or (n, features)
            Stamps of any real dtype, in any linear unit; NaN or masked pixels are allowed.
        y : array-like of shape (n,) or (n, p), default=None
            Regressed if it is continuous and no ``properties`` are given; class labels and
            None are ignored.
        properties : array-like, DataFrame or astropy Table of shape (n, p), default=None
            Catalogue properties in any units; NaN means not measured.
        property_errors : array-like of shape (n, p), default=None
            Their 1-sigma errors, in the same units and order; NaN means unknown.

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
        self._check_parameters()
        table, errors = self._find_properties(images, y, properties, property_errors)
        self.n_missing_pixels_ = count_missing_pixels(images)
        self.image_shape_ = tuple(images.shape[1:])
        self.targets_ = PropertyTargets.fit(table)
        targets = self.targets_.standardise(table), self.targets_.weights(errors, len(table))
        checkpoint = self._open_checkpoint(images, targets)
        self.seed_ = agree(checkpoint.seed if checkpoint else draw_seed(self.random_state))
        with seeded(self.seed_):
            self.network_ = self._make_network(images)
            self.history_ = self._train(images, targets, checkpoint)
        self._standardise_embeddings(images)
        if checkpoint:
            checkpoint.remove()
        return self

    def transform(self, X: Any) -> NDArray[np.float32]:
        """Embed stamps.

        Parameters
        ----------
        X : array-like of shape (n, bands, height, width) or (n, features)

        Returns
        -------
        embeddings : float32 array of shape (n, d)
            Columns have mean 0 and standard deviation 1 on the training stamps.
        """
        return self._embed(X)

    def predict(self, X: Any) -> pd.DataFrame:
        """Predict the properties of stamps.

        Parameters
        ----------
        X : array-like of shape (n, bands, height, width) or (n, features)

        Returns
        -------
        properties : DataFrame of shape (n, p), float64
            In catalogue units, which are in ``properties.attrs["units"]`` where known.
        """
        return self.predict_embedded(self._embed(X))

    def predict_embedded(self, embeddings: ArrayLike) -> pd.DataFrame:
        """Predict the properties of embeddings, off which a linear head reads them.

        Parameters
        ----------
        embeddings : array-like of shape (n, d)
            As `transform` returns them.

        Returns
        -------
        properties : DataFrame of shape (n, p), float64
            As `predict` returns them.
        """
        check_is_fitted(self)
        scale = np.where(np.isfinite(self.embedding_scale_), self.embedding_scale_, 0.0)
        features = np.asarray(embeddings, np.float32) * scale + self.embedding_mean_
        head = self.network_.head
        weight, bias = (part.detach().numpy() for part in (head.weight, head.bias))
        return self.targets_.restore(features @ weight.T + bias)

    def score(self, X: Any, y: Any = None, *, properties: Any = None) -> float:
        """Return the coefficient of determination R2, averaged over properties.

        Parameters
        ----------
        X : array-like of shape (n, bands, height, width) or (n, features)
        y : array-like of shape (n,) or (n, p), default=None
            The true properties if the encoder was fitted on a continuous ``y``.
        properties : array-like of shape (n, p), default=None
            The true properties, in the order given to `fit`; NaN rows are left out. Those
            that were measured from the pixels are measured again.

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
        true, _ = self._targets_of(images, y, properties, None, self.property_source_)
        if "measured" in self.property_source_:  # a column may be empty here, but not in fit
            true = true.reindex(columns=self.property_names_)
        if true.shape[1] != predicted.shape[1]:
            raise ValueError(
                f"properties has {true.shape[1]} columns, but the encoder was fitted with "
                f"{predicted.shape[1]}: pass {', '.join(self.property_names_)}."
            )
        scores = []
        for column in range(true.shape[1]):
            known = true.iloc[:, column].notna().to_numpy()
            if known.sum() > 1:
                scores.append(
                    r2_score(true.iloc[known, column], predicted.to_numpy()[known, column])
                )
        return float(np.mean(scores)) if scores else float("nan")

    @property
    def property_names_(self) -> list[str]:
        """Names of the properties, in the order of `predict`."""
        return list(self.targets_.names)

    @property
    def property_units_(self) -> dict[str, str]:
        """Units of those properties whose unit is known."""
        return dict(self.targets_.units)

    def save(self, path: Any) -> None:
        """Write the fitted encoder to one safetensors file, whose header holds the JSON.

        Parameters
        ----------
        path : str or path-like
            Written under a temporary name and renamed.
        """
        check_is_fitted(self)
        tensors = self.network_.state_dict()
        tensors["embedding.mean"] = torch.from_numpy(self.embedding_mean_)
        tensors["embedding.scale"] = torch.from_numpy(self.embedding_scale_)
        write_encoder(path, tensors, self._document())

    @classmethod
    def load(cls, path: Any, *, backbone: Backbone | None = None) -> Self:
        """Read an encoder that `save` has written; no code in the file is executed.

        Parameters
        ----------
        path : str or path-like
        backbone : nn.Module or callable, default=None
            The architecture, if it was no name: code is never stored.

        Returns
        -------
        encoder : PropertyPretrainedEncoder
            Nor is a function of yours in the file: to `score` by one that measures the
            properties, call ``set_params(properties=...)`` before.

        Raises
        ------
        ValueError
            The file is truncated, altered, of a newer format, or needs ``backbone``.
        """
        tensors, document = read_encoder(path)
        return cls._from_document(tensors, document, backbone, path)

    def _document(self) -> dict[str, Any]:
        params = self.get_params(deep=False)
        if isinstance(self.weights, Path):
            params["weights"] = str(self.weights)
        params["checkpoint_dir"] = None  # a folder of this machine
        unnamed = [name for name in UNNAMED if not isinstance(params[name], str)]
        for name in unnamed:
            params[name] = None
        if not isinstance(self.random_state, int):
            params["random_state"] = None
        return {
            "params": params,
            "unnamed": unnamed,
            "seed": self.seed_,
            "image_shape": self.image_shape_,
            "n_features_in": self.n_features_in_,
            "targets": self.targets_.to_dict(),
            "property_source": self.property_source_,
            "n_missing_pixels": self.n_missing_pixels_,
            "history": self.history_,
            "stretch": self.network_.scaling.stretch,
            "size": self.network_.backbone.size,
        }

    @classmethod
    def _from_document(
        cls, tensors: dict[str, Any], document: dict[str, Any], backbone: Any, path: Any
    ) -> Self:
        check_document(path, document, tensors, get_type_hints(cls.__init__))
        params = document["params"]
        if "backbone" in document["unnamed"]:
            if backbone is None:
                raise ValueError(
                    f"{path} holds the weights of a module of your own: pass it as backbone=."
                )
            params["backbone"] = backbone
        if "loss" in document["unnamed"]:
            params["loss"] = "huber"
        if "properties" in document["unnamed"]:
            params["properties"] = "measured"
        if params["image_shape"] is not None:
            params["image_shape"] = tuple(params["image_shape"])
        params["checkpoint_dir"] = None  # a file does not say where to write
        encoder = cls(**params)
        encoder.seed_ = document["seed"]
        encoder.image_shape_ = tuple(document["image_shape"])
        encoder.n_features_in_ = document["n_features_in"]
        encoder.targets_ = PropertyTargets.from_dict(document["targets"])
        encoder.property_source_ = document["property_source"]
        encoder.n_missing_pixels_ = document["n_missing_pixels"]
        encoder.history_ = document["history"]
        encoder.embedding_mean_ = tensors.pop("embedding.mean").numpy()
        encoder.embedding_scale_ = tensors.pop("embedding.scale").numpy()
        with seeded(0):
            encoder.network_ = restore_network(path, encoder.backbone, document, tensors)
        prepare_for_inference(encoder.network_)
        return encoder

    def _check_parameters(self) -> None:
        if not callable(self.properties) and self.properties not in _SOURCES:
            raise ValueError(
                f"properties={self.properties!r} must be one of {_SOURCES}, or a function."
            )
        if self.max_epochs is not None and self.max_epochs < 0:
            raise ValueError(f"max_epochs={self.max_epochs} must be at least 0, or None.")
        if self.batch_size < 1:
            raise ValueError(f"batch_size={self.batch_size} must be at least 1.")
        if not self.learning_rate > 0:
            raise ValueError(f"learning_rate={self.learning_rate} must be positive.")
        if self.validation_fraction is not None and not 0 < self.validation_fraction < 1:
            raise ValueError(
                f"validation_fraction={self.validation_fraction} must lie between 0 and 1, "
                "or be None."
            )

    def _find_properties(
        self, images: Any, y: Any, properties: Any, property_errors: Any
    ) -> tuple[pd.DataFrame, NDArray[Any] | None]:
        source = "measured" if callable(self.properties) else self.properties
        if source == "auto":
            if properties is not None:
                source = "catalog"
            else:
                source = "y" if is_continuous(y) else "measured"
        self.property_source_ = source
        table, errors = self._targets_of(images, y, properties, property_errors, source)
        if source != "catalog+measured":
            return table, errors
        kept = ~table.columns.isin(find_redundant_columns(table))
        units = find_units(table)
        table = table.loc[:, kept]
        table.attrs["units"] = {name: unit for name, unit in units.items() if name in table}
        return table, None if errors is None else errors[:, kept]

    def _targets_of(
        self, images: Any, y: Any, properties: Any, property_errors: Any, source: str
    ) -> tuple[pd.DataFrame, NDArray[Any] | None]:
        """Return the properties of one source, and their errors if any are known."""
        if source == "measured":
            if callable(self.properties):
                table = measure_by(self.properties, images)
                return check_properties(table, len(images)), None
            return measure_targets(images)
        if source == "y" and properties is None:
            return check_properties(y, len(images), name="y"), None
        if properties is None:
            raise ValueError(
                f"properties={self.properties!r} needs the properties: "
                "pass properties= along with X, or use properties='measured'."
            )
        table = check_properties(properties, len(images))
        errors = None
        if property_errors is not None:
            errors = check_property_errors(property_errors, table)
        if source != "catalog+measured":
            return table, errors
        measured, measured_errors = measure_targets(images, prefix=MEASURED_PREFIX)
        if errors is None:
            errors = np.full(table.shape, np.nan)
        errors = np.hstack([errors, measured_errors])
        both = pd.concat([table, measured], axis=1)
        both.attrs["units"] = {**find_units(table), **find_units(measured)}
        return both, errors

    def _make_network(self, images: Any) -> StampNetwork:
        named = self.weights in (None, "imagenet")
        network = make_network(
            self.backbone,
            self.image_shape_,
            len(self.targets_.names),
            scaling=self._make_scaling(images),
            weights=self.weights if named else None,
        )
        if not named:
            load_weights(network.backbone, read_tensors(self.weights), self.weights)
        return network

    def _make_scaling(self, images: Any) -> InputScaling:
        if self.weights == "imagenet" and images.shape[1] == 3 and images.dtype == np.uint8:
            # photographs: what the weights were trained on, (rgb - 127) / 128
            return InputScaling(torch.full((3,), 127.0), torch.full((3,), 128.0), stretch=False)
        scaler = AsinhScaler().fit(images)
        return InputScaling(
            torch.from_numpy(scaler.sky_), torch.from_numpy(scaler.noise_), stretch=True
        )

    def _n_epochs(self, n: int) -> int:
        return choose_epochs(n, self.batch_size) if self.max_epochs is None else self.max_epochs

    def _open_checkpoint(
        self, images: Any, targets: tuple[NDArray[Any], NDArray[Any]]
    ) -> Checkpoint | None:
        epochs = self._n_epochs(len(images))
        if self.checkpoint_dir is None or epochs == 0:
            return None
        if "callbacks" in (self.net_params or {}):
            raise ValueError(
                "net_params has callbacks, whose state no checkpoint holds: leave out "
                "checkpoint_dir, or the callbacks."
            )
        settings = self.get_params(deep=False)
        for name in _OF_NO_WEIGHT:
            del settings[name]
        settings |= {"max_epochs": epochs, "device": resolve_device(self.device)}
        settings["property_names"] = self.property_names_
        return open_checkpoint(
            self.checkpoint_dir, settings, images, targets, random_state=self.random_state
        )

    def _train(
        self,
        images: Any,
        targets: tuple[NDArray[Any], NDArray[Any]],
        checkpoint: Checkpoint | None,
    ) -> list[dict[str, float]]:
        return train(
            self.network_,
            images,
            targets,
            loss=PropertyLoss(self.loss),
            recipe=Recipe(
                max_epochs=self._n_epochs(len(images)),
                batch_size=self.batch_size,
                learning_rate=self.learning_rate,
                augment=self.augment,
                patience=_PATIENCE,
                device=self.device,
                precision=self.precision,
                seed=self.seed_,
                verbose=self.verbose,
                net_params=self.net_params or {},
            ),
            validation_rows=self._validation_rows(len(images)),
            checkpoint=checkpoint,
        )

    def _validation_rows(self, n: int) -> NDArray[np.int64] | None:
        if self.validation_fraction is None:
            return None
        n_rows = round(self.validation_fraction * n)
        if not 0 < n_rows < n:
            raise ValueError(
                f"validation_fraction={self.validation_fraction} of {n} stamps leaves nothing "
                "to train or to validate on: pass more stamps, or None."
            )
        return np.random.default_rng(self.seed_).permutation(n)[:n_rows]

    def _standardise_embeddings(self, images: Any) -> None:
        step = -(-len(images) // _STANDARDISED_ON)
        sample = images[::step]
        share = self._run(StampNetwork.embed, sample[share_of(len(sample))])
        sample = gather_rows(share, len(sample))
        self.embedding_mean_ = sample.mean(0)
        spread = sample.std(0)
        # a feature that is (nearly) constant on the training stamps is rounding noise
        alive = spread > 1e-4 * max(spread.max(), 1e-12)
        self.embedding_scale_ = np.where(alive, spread, np.inf).astype(np.float32)

    def _embed(self, X: Any) -> NDArray[np.float32]:
        """Embed stamps into an array, whatever container `transform` is told to return."""
        check_is_fitted(self)
        images = check_images(self, X, reset=False)
        return self._standardised(self._run(StampNetwork.embed, images))

    def _standardised(self, features: NDArray[np.float32]) -> NDArray[np.float32]:
        features -= self.embedding_mean_  # in place: they may be millions
        features /= self.embedding_scale_
        return features

    def _run(
        self, output: Callable[[StampNetwork, torch.Tensor], torch.Tensor], images: Any
    ) -> NDArray[np.float32]:
        return run(
            self.network_,
            images,
            output,
            batch_size=self.batch_size,
            average_views=self.average_views,
            device=self.device,
            precision=self.precision,
        )

    @property
    def _n_features_out(self) -> int:
        return len(self.embedding_mean_)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = True
        tags.transformer_tags.preserves_dtype = ["float32"]
        return tags
