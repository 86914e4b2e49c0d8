"""What estimators that learn from few labels share: an encoder, teachers, and their columns."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.base import clone
from sklearn.frozen import FrozenEstimator
from sklearn.utils.metaestimators import available_if
from sklearn.utils.validation import check_is_fitted

from skastro.estimators.encoder import (
    PropertyPretrainedEncoder,
    StampTransformer,
    embed_stamps,
)
from skastro.estimators.pretrained import check_teacher, load_teachers, measure_odds
from skastro.networks.device import resolve_device
from skastro.stamps.arrays import check_images
from skastro.stamps.photometry import measure_properties
from skastro.utils.validation import check_properties, draw_seed

if TYPE_CHECKING:
    from skastro.probes.kernel_probe import KernelProbe
    from skastro.probes.kernel_regression import KernelRegression


def _pretrains(model: RepresentationModel) -> bool:
    return model.strategy != "scratch"


class RepresentationModel(StampTransformer):
    """An estimator that learns from few labels, on a representation learned from all stamps.

    Subclasses set ``catalog_probe_`` and ``catalog_names_`` and ``measured_names_`` in `fit`.
    """

    encoder: PropertyPretrainedEncoder | FrozenEstimator | None
    pretrained: str | FrozenEstimator | None
    random_state: int | np.random.RandomState | None
    verbose: int
    strategy: str = "probe"  # of estimators that have no choice
    _noun = "model"  # what messages call the estimator

    teachers_: dict[str, PropertyPretrainedEncoder]
    encoder_: PropertyPretrainedEncoder
    measured_names_: list[str]
    catalog_names_: list[str]
    catalog_probe_: KernelProbe | KernelRegression | None

    @available_if(_pretrains)  # type: ignore[untyped-decorator]  # scikit-learn has no types
    def pretrain(self, X: Any, *, properties: Any = None, property_errors: Any = None) -> Self:
        """Return an unfitted copy whose encoder is pretrained on these stamps, and frozen.

        For studies that learn from many subsets of labels after one pretraining.

        Parameters
        ----------
        X : array-like of shape (n, bands, height, width) or (n, features)
        properties, property_errors : array-like of shape (n, p), default=None
            As in `PropertyPretrainedEncoder.fit`.

        Returns
        -------
        model : estimator of the same class
        """
        encoder = self._fit_encoder(X, draw_seed(self.random_state), properties, property_errors)
        return clone(self).set_params(encoder=FrozenEstimator(encoder))

    @available_if(_pretrains)  # type: ignore[untyped-decorator]  # scikit-learn has no types
    def describe(self, X: Any, *, catalog: Any = None) -> NDArray[np.float64]:
        """Return the columns from which the probe learns: embeddings and all properties.

        Parameters
        ----------
        X : array-like of shape (n, bands, height, width) or (n, features)
        catalog : array-like, DataFrame or astropy Table of shape (n, q), default=None
            As in `predict`: with it, the columns from which ``catalog_probe_`` learns.

        Returns
        -------
        columns : float64 array of shape (n, d + p + m + q + t)
            The embedding, the p properties that the encoder predicts (in their units), the m that
            `measure_properties` measures, NaN where it cannot, and the q of ``catalog``. Then the
            embedding of each teacher, and the properties and kinds that it predicts (t columns in
            all).
        """
        check_is_fitted(self)
        images = check_images(self, X, reset=False)
        return np.hstack(self._describe(images, self._check_catalog(catalog, len(images))))

    def _open_stamps(self, X: Any) -> Any:
        """Check the stamps of `fit`, and find the teachers for them; return the stamps."""
        encoder = getattr(self.encoder, "estimator", self.encoder)  # without FrozenEstimator
        image_shape = getattr(encoder, "image_shape_", None) or getattr(
            encoder, "image_shape", None
        )
        resolve_device(getattr(encoder, "device", "auto"))
        images = check_images(self, X, reset=True, image_shape=image_shape)
        self.image_shape_ = tuple(images.shape[1:])
        self.teachers_ = self._find_teachers(images)
        return images

    def _check_encoders(self) -> None:
        """Refuse an ``encoder`` or ``pretrained`` that is none."""
        is_estimator = hasattr(self.encoder, "get_params") and not isinstance(self.encoder, type)
        if self.encoder is not None and not is_estimator:
            raise ValueError(
                f"encoder={self.encoder!r} must be an encoder, such as PropertyPretrainedEncoder() "
                "or FrozenEstimator(PropertyPretrainedEncoder.load(path))."
            )
        check_teacher(self.pretrained)

    def _find_teachers(self, images: Any) -> dict[str, Any]:
        """Return the teachers for stamps, by name; all that may be used for stamps of None."""
        if self.pretrained is None or self.strategy in ("finetune", "scratch"):
            return {}
        teachers = load_teachers(self.pretrained, images)
        # a teacher that is the encoder itself needs no second place
        encoder: Any = getattr(self.encoder, "estimator", None)
        if getattr(encoder, "image_shape_", ()) is None and images is not None:
            teachers = {n: t for n, t in teachers.items() if n != encoder.weights}
        return teachers

    def _check_catalog(self, catalog: Any, n: int) -> NDArray[np.float64] | None:
        """Return a catalogue in the column order of `fit`; None if there is none, or no probe."""
        if catalog is None or self.strategy in ("finetune", "scratch"):
            return None
        if self.catalog_probe_ is None:
            raise ValueError(
                f"catalog cannot be used, as the {self._noun} was fitted without: pass it to fit, "
                "too."
            )
        table = check_properties(catalog, n, name="catalog", allow_empty=True)
        missing = [name for name in self.catalog_names_ if name not in table]
        if missing:
            raise ValueError(
                f"catalog has no column {missing[0]!r}: pass those of fit, "
                f"{', '.join(self.catalog_names_)} (NaN where unknown)."
            )
        return table[self.catalog_names_].to_numpy()

    def _fit_encoder(
        self, X: Any, seed: int, properties: Any, property_errors: Any
    ) -> PropertyPretrainedEncoder:
        encoder = self.encoder
        if isinstance(encoder, FrozenEstimator):
            check_is_fitted(encoder.estimator)
            if encoder.estimator.image_shape_ is None and self.strategy in ("finetune", "scratch"):
                raise ValueError(
                    f"strategy={self.strategy!r} trains the network of the encoder, but those of "
                    "load_pretrained() stay as they are: use strategy='auto' or 'probe', or "
                    "encoder=clone(encoder), whose fit begins with their weights."
                )
            return encoder.estimator
        if encoder is None:
            encoder = PropertyPretrainedEncoder(random_state=seed, verbose=self.verbose)
        if hasattr(encoder, "network_"):
            raise ValueError(
                "encoder is fitted, and would be trained anew: pass FrozenEstimator(encoder) to "
                "keep its weights, or sklearn.base.clone(encoder) to train another."
            )
        encoder = clone(encoder)
        if self.strategy == "scratch":  # only the scaling and the architecture are used
            encoder.set_params(max_epochs=0, targets="measured", checkpoint_dir=None)
            return encoder.fit(X)
        return encoder.fit(X, properties=properties, property_errors=property_errors)

    def _describe(self, images: Any, catalog: Any) -> list[NDArray[np.float64]]:
        """Return the columns of the encoder, with the catalogue, and those of each teacher."""
        # a column without a value in any row of these stamps is left out of their table
        measured = measure_properties(images).reindex(columns=self.measured_names_)
        own = join_columns(self.encoder_, embed_stamps(self.encoder_, images), measured)
        parts = [own if catalog is None else np.hstack([own, catalog])]
        return parts + self._consult_teachers(images)

    def _consult_teachers(self, images: Any) -> list[NDArray[np.float64]]:
        """Return the embedding by each teacher, with the properties and kinds that it predicts."""
        embeddings = [
            (teacher, embed_stamps(teacher, images)) for teacher in self.teachers_.values()
        ]
        return [np.hstack([each, t.predict_embedded(each)]) for t, each in embeddings]

    def _list_others(self, parts: list[NDArray[np.float64]]) -> list[tuple[int, int, float]]:
        """Return the representations of the teachers, as `KernelProbe` needs them.

        ``parts`` are those of `_describe`. Each has the numbers of columns of the embedding and of
        the properties, and the odds that it helps.
        """
        others = []
        for teacher, part in zip(self.teachers_.values(), parts[1:], strict=True):
            d = len(teacher.embedding_mean_)
            others.append((d, part.shape[1] - d, measure_odds(teacher, part[:, :d])))
        return others

    def _say(self, text: str) -> None:
        if self.verbose:
            sys.stdout.write(f"{text}\n")
            sys.stdout.flush()


def join_columns(
    encoder: PropertyPretrainedEncoder, embeddings: Any, measured: pd.DataFrame
) -> NDArray[np.float64]:
    """Join embeddings, the properties predicted from them, and measured properties."""
    return np.hstack([embeddings, encoder.predict_embedded(embeddings), measured])
