"""Scale pixels for a network with an invertible asinh stretch, fitted on the sky of each band."""

from __future__ import annotations

from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, OneToOneFeatureMixin, TransformerMixin
from sklearn.utils.validation import check_is_fitted

from skastro.stamps.arrays import check_images, read_stamps
from skastro.stamps.containers import to_array
from skastro.utils.fitting import fits_as_a_whole
from skastro.utils.validation import Documented, to_container

_MAX_FITTED_STAMPS = 2000
_BORDER_WIDTH = 2  # pixels
MAD_TO_SIGMA = 1.4826  # sigma of a normal distribution in units of its median absolute deviation


class AsinhScaler(  # type: ignore[call-arg]  # scikit-learn reads it, but has no types
    Documented, OneToOneFeatureMixin, TransformerMixin, BaseEstimator, auto_wrap_output_keys=None
):
    r"""Stretch pixels by asinh, in units of the sky noise of each band.

    .. math:: y = \operatorname{asinh}\!\left(\frac{x - s_b}{k\,\sigma_b}\right)

    Here :math:`s_b` is the sky level and :math:`\sigma_b` the noise of band :math:`b`, and
    :math:`k` the softening. The stretch is linear in the noise and logarithmic in bright
    sources, like asinh magnitudes (Lupton, Gunn & Szalay 1999, AJ 118, 1406).

    Parameters
    ----------
    softening : float, default=1.0
        Pixels below ``softening`` times the sky noise are stretched linearly.
    image_shape : tuple (bands, height, width), default=None
        Shape of the stamp in each row of a 2-D X. With None these rows are strips of one band.
    random_state : int, default=0
        Seed of the sample of at most 2,000 stamps on which the sky is measured.

    Attributes
    ----------
    sky_ : float64 array of shape (bands,)
        Median of the pixels on the border of the stamps, in the unit of the pixels.
    noise_ : float64 array of shape (bands,)
        Robust standard deviation (1.4826 MAD) of the same pixels. If it is zero (quantised or
        constant borders), the standard deviation of all pixels instead, or else 1.
    image_shape_ : tuple (bands, height, width)
    bands_ : tuple of str or None
        Names of the bands, where X knew them. After `fit`, stamps that name their bands are put in
        this order, and those that lack one are refused.
    n_features_in_ : int
        Number of bands, or of columns of 2-D rows.

    Notes
    -----
    NaN pixels are ignored in ``fit`` and stay NaN. Integers and float16 become float32; float64
    stays float64.

    Examples
    --------
    >>> import numpy as np
    >>> stamps = np.random.default_rng(0).normal(3.0, 2.0, size=(50, 1, 8, 8))
    >>> scaler = AsinhScaler().fit(stamps)
    >>> scaler.noise_.round(1)
    array([2.])
    >>> np.allclose(scaler.inverse_transform(scaler.transform(stamps)), stamps)
    True
    """

    def __init__(
        self,
        softening: float = 1.0,
        *,
        image_shape: tuple[int, int, int] | None = None,
        random_state: int = 0,
    ) -> None:
        self.softening = softening
        self.image_shape = image_shape
        self.random_state = random_state

    @fits_as_a_whole
    def fit(self, X: Any, y: Any = None) -> Self:  # noqa: ARG002
        """Measure the sky level and noise of each band.

        Parameters
        ----------
        X : array-like of shape (n, bands, height, width) or (n, features)
            Stamps in linear units, any real dtype.
        y : None, default=None
            Ignored.

        Returns
        -------
        self : AsinhScaler

        Raises
        ------
        ValueError
            ``softening`` is not positive, or X is not a stack of usable stamps.
        """
        if not self.softening > 0:
            raise ValueError(f"softening={self.softening!r} must be positive: 1 is a good start.")
        images = check_images(self, X, reset=True, image_shape=self.image_shape)
        self.image_shape_ = tuple(images.shape[1:])
        sample = read_stamps(images, _sample_rows(len(images), self.random_state))
        self.sky_, self.noise_ = measure_sky(sample)
        return self

    def transform(self, X: Any) -> NDArray[Any]:
        """Stretch stamps.

        Parameters
        ----------
        X : array-like of shape (n, bands, height, width) or (n, features)

        Returns
        -------
        stretched : float32 or float64 array of the shape of X
        """
        X = to_array(X)
        pixels, sky, scale = self._prepare(X)
        return to_container(self, _unfold(np.arcsinh((pixels - sky) / scale), X), X)

    def set_output(self, *, transform: str | None = None) -> Self:
        """Set the container of stretched 2-D rows; stamps stay arrays.

        Parameters
        ----------
        transform : {"default", "pandas", "polars"}, default=None
            None changes nothing.

        Returns
        -------
        self : AsinhScaler
        """
        if transform is not None:
            self._sklearn_output_config = {"transform": transform}
        return self

    def inverse_transform(self, X: Any) -> NDArray[Any]:
        """Undo `transform`.

        Parameters
        ----------
        X : array-like of shape (n, bands, height, width) or (n, features)
            Stretched stamps.

        Returns
        -------
        stamps : float32 or float64 array of the shape of X
        """
        X = to_array(X)
        pixels, sky, scale = self._prepare(X)
        return _unfold(sky + scale * np.sinh(pixels), X)

    def _prepare(self, X: Any) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
        """Return checked pixels, and the sky and the scale of each band in their dtype."""
        check_is_fitted(self)
        images = check_images(self, X, reset=False)
        pixels: NDArray[Any] = read_stamps(images, slice(None))
        if images.dtype == np.float64:
            pixels = np.asarray(images[:], dtype=np.float64)
        sky, scale = (
            values.astype(pixels.dtype)[:, None, None]
            for values in (self.sky_, self.softening * self.noise_)
        )
        return pixels, sky, scale

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = True
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        return tags


def _unfold(stamps: NDArray[Any], X: Any) -> NDArray[Any]:
    """Return stamps as flat rows if X is a table of rows."""
    return stamps.reshape(len(stamps), -1) if len(X.shape) == 2 else stamps


def measure_sky(stamps: NDArray[np.floating]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Measure the sky level and noise of each band on the border of stamps; NaN is ignored.

    Returns the median and 1.4826 MAD, two float64 arrays of shape (bands,). A noise of zero is
    replaced by the standard deviation of all pixels of the band, or by 1 if that is zero too.

    Examples
    --------
    >>> import numpy as np
    >>> sky, noise = measure_sky(np.tile([[1.0, 2.0], [3.0, 2.0]], (4, 1, 1, 1)))
    >>> sky, noise.round(2)
    (array([2.]), array([0.74]))
    """
    n_bands, height, width = stamps.shape[1:]
    # in a stamp too small to have an inside, all pixels are border
    border = np.ones((height, width), dtype=bool)
    border[_BORDER_WIDTH:-_BORDER_WIDTH, _BORDER_WIDTH:-_BORDER_WIDTH] = False
    sky, noise = np.zeros(n_bands), np.ones(n_bands)
    for band in range(n_bands):
        pixels = stamps[:, band].astype(np.float64)
        sample = pixels[:, border]
        if not np.isfinite(sample).any():  # all borders of the band are masked
            sample = pixels
        sample = sample[np.isfinite(sample)]
        if len(sample):
            sky[band] = np.median(sample)
            spread = MAD_TO_SIGMA * np.median(np.abs(sample - sky[band]))
            noise[band] = spread or np.nanstd(pixels) or 1.0
    return sky, noise


def _sample_rows(n: int, random_state: int) -> NDArray[np.int64]:
    if n <= _MAX_FITTED_STAMPS:
        return np.arange(n)
    rng = np.random.default_rng(random_state)
    return np.sort(rng.choice(n, _MAX_FITTED_STAMPS, replace=False))
