"""Measure sky, noise, flux, colour, smoothing and size of stamps, to compare two surveys."""

from __future__ import annotations

import warnings
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from skastro.stamps.arrays import read_stamps
from skastro.stamps.photometry import measure_properties
from skastro.stamps.scaling import MAD_TO_SIGMA

_Floats: TypeAlias = NDArray[np.float64]

BAND_STATISTICS = ("sky", "noise", "noise_share", "flux", "colour")
STAMP_STATISTICS = ("correlation", "size")
# levels of the quantiles that describe a distribution
LEVELS = np.array(
    [0.01, 0.05, 0.1, 0.16, 0.25, 0.35, 0.45, 0.5, 0.55, 0.65, 0.75, 0.84, 0.9, 0.95, 0.99]
)
_CLIP_SIGMA = 3.0
_BORDER_SHARE = 8  # the border is this part of the shorter side wide
_APERTURE_SHARE = 6
_MAX_STAMPS, _MAX_PIXELS = 2000, 2**26
_CHUNK_PIXELS = 2**22


def choose_rows(shape: tuple[int, ...]) -> NDArray[np.int64]:
    """Return the rows of a stack that are measured: at most 2,000, spread evenly over it.

    Of large stamps there are fewer, but at least 200.

    Examples
    --------
    >>> choose_rows((5, 1, 8, 8)).tolist(), len(choose_rows((10_000, 5, 32, 32)))
    ([0, 1, 2, 3, 4], 2000)
    """
    most = max(200, _MAX_PIXELS // int(np.prod(shape[1:])))
    n = min(shape[0], _MAX_STAMPS, most)
    return np.linspace(0, shape[0] - 1, n).astype(np.int64)


def measure_pixels(images: Any) -> dict[str, _Floats]:
    """Measure what differs between surveys, for each stamp of a stack.

    Parameters
    ----------
    images : array-like of shape (n, bands, height, width)
        In any unit; NaN pixels are missing.

    Returns
    -------
    statistics : dict of str to float64 array
        Of shape (n, bands): ``sky`` (median of the border, an eighth of the shorter side wide),
        ``noise`` (1.4826 MAD of the border) and ``flux`` (above the sky, in a circle with a radius
        of a sixth of the shorter side), in the unit of the pixels; ``noise_share`` and ``colour``,
        the shares of the bands in noise and in absolute flux. Of shape (n,): ``correlation`` of
        neighbouring pixels of the border, a mean over bands, which is 0 for independent noise, and
        ``size``, the half-light radius in pixels. NaN where a band or a border has
        no pixels; shares are NaN where any band has none.

    Examples
    --------
    >>> noise = np.random.default_rng(0).normal(5, 2, size=(200, 2, 32, 32))
    >>> found = measure_pixels(noise)
    >>> np.median(found["sky"], 0).round(1), np.median(found["noise"], 0).round(1)
    (array([5., 5.]), array([2., 2.]))
    >>> np.median(found["noise_share"], 0).round(1), abs(np.median(found["correlation"])) < 0.02
    (array([0.5, 0.5]), np.True_)
    """
    size = max(1, _CHUNK_PIXELS // int(np.prod(images.shape[1:])))
    parts = []
    with warnings.catch_warnings(), np.errstate(invalid="ignore", divide="ignore"):
        warnings.filterwarnings("ignore", "(Mean of empty|All-NaN) slice", RuntimeWarning)
        for start in range(0, len(images), size):
            stamps = read_stamps(images, slice(start, start + size)).astype(np.float64)
            parts.append(_measure(stamps))
    result = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    table = measure_properties(images)
    unknown = np.full(len(images), np.nan)
    result["size"] = np.asarray(table.get("half_light_radius", unknown), np.float64)
    return result


def _measure(stamps: _Floats) -> dict[str, _Floats]:
    height, width = stamps.shape[2:]
    side = min(height, width)
    # the sky and its noise
    thickness = max(2, side // _BORDER_SHARE)
    border = np.ones((height, width), dtype=bool)
    border[thickness:-thickness, thickness:-thickness] = False
    pixels = stamps[..., border]
    sky = np.nanmedian(pixels, axis=-1)
    noise = MAD_TO_SIGMA * np.nanmedian(np.abs(pixels - sky[..., None]), axis=-1)
    # the flux of the source
    above = stamps - sky[..., None, None]
    y, x = np.ogrid[:height, :width]
    distance = np.hypot(y - (height - 1) / 2, x - (width - 1) / 2)
    circle = distance <= max(side / _APERTURE_SHARE, 1.0)
    flux = np.nanmean(above[..., circle], axis=-1) * circle.sum()
    # neighbouring pixels of the border, without sources
    scaled = above / np.where(noise > 0, noise, np.nan)[..., None, None]
    scaled[~(border & (np.abs(scaled) < _CLIP_SIGMA))] = np.nan
    products = [scaled[..., 1:, :] * scaled[..., :-1, :], scaled[..., 1:] * scaled[..., :-1]]
    product = np.concatenate([part.reshape(*sky.shape, -1) for part in products], axis=-1)
    correlation = np.nanmean(product, axis=-1) / np.nanmean(scaled**2, axis=(-2, -1))
    return {
        "sky": sky,
        "noise": noise,
        "noise_share": noise / noise.sum(axis=1, keepdims=True),
        "flux": flux,
        "colour": flux / np.abs(flux).sum(axis=1, keepdims=True),
        "correlation": np.nanmean(correlation, axis=1),
    }


def take_quantiles(values: _Floats) -> _Floats:
    """Return the quantiles at ``LEVELS`` of each column, NaN where a column has no finite value.

    Examples
    --------
    >>> quantiles = take_quantiles(np.array([[1.0, np.nan], [3.0, np.nan]]))
    >>> quantiles.shape, quantiles[7]
    ((15, 2), array([ 2., nan]))
    """
    values = np.where(np.isfinite(values), values, np.nan)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "All-NaN slice", RuntimeWarning)
        return np.asarray(np.nanquantile(values, LEVELS, axis=0), np.float64)
