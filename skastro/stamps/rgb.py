"""Compose colour images from bands."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from astropy.visualization import make_lupton_rgb
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from skastro.stamps.arrays import as_stack, read_stamps
from skastro.stamps.bands import spell_bands
from skastro.stamps.scaling import measure_sky

_GREY_BELOW = 3.0  # sky noise of the smoothed intensity at which colours are half as strong


def to_rgb(
    stamps: Any,
    *,
    bands: Sequence[int | str] = (2, 1, 0),
    stretch: float = 5.0,
    Q: float = 8.0,
    color_smoothing: float = 1.0,
) -> NDArray[np.uint8]:
    """Compose colour images for display or for networks that were trained on photographs.

    Parameters
    ----------
    stamps : array-like of shape (n, bands, height, width)
        Linear pixels; NaN is shown as sky. Pixels of uint8 are returned without a stretch.
    bands : sequence of three int or str, default=(2, 1, 0)
        The bands shown as red, green and blue, reddest first: their positions, or their names,
        such as ``"irg"``, if the stamps know the names of their bands. Upper and lower case are
        the same, unless the stamps have both.
    stretch : float, default=5.0
        Linear range in units of the sky noise of each band, so that any unit of flux will do.
    Q : float, default=8.0
        Softening of the asinh stretch (Lupton et al. 2004, PASP 116, 133).
    color_smoothing : float, default=1.0
        Standard deviation, in pixels, of the Gaussian that smooths the colours, but not the
        brightness. The colours of pixels without signal fade to grey, so that noise does not look
        like coloured speckles. 0 keeps the colour of each pixel.

    Returns
    -------
    rgb : uint8 array of shape (n, 3, height, width)

    Raises
    ------
    ValueError
        ``bands`` names a band that the stamps do not have, or ``color_smoothing`` is negative.

    Notes
    -----
    The mean of the three bands is stretched. With smoothed bands :math:`b_s` and their mean
    :math:`I_s`, the ratio of a band to the mean is :math:`(b_s I_s + n^2) / (I_s^2 + n^2)`, where
    :math:`n` is three times the noise that is left of the sky in a smoothed band.

    Examples
    --------
    >>> import numpy as np
    >>> stamps = np.random.default_rng(0).normal(size=(2, 5, 8, 8))
    >>> to_rgb(stamps, bands=(3, 2, 1)).shape
    (2, 3, 8, 8)
    """
    if not color_smoothing >= 0:
        raise ValueError(f"color_smoothing={color_smoothing!r} must be a number of pixels, or 0.")
    images = as_stack(stamps, name="stamps")
    pixels = read_stamps(images, slice(None))[:, band_positions(bands, images)]
    if np.dtype(images.dtype) == np.uint8:
        return pixels.astype(np.uint8)
    sky, noise = measure_sky(pixels)
    pixels = np.nan_to_num((pixels - sky[:, None, None]) / noise[:, None, None])
    if color_smoothing > 0:
        pixels = _smooth_colors(pixels, color_smoothing)
    with np.errstate(invalid="ignore"):  # astropy divides by the intensity, zero in empty pixels
        rgb = [make_lupton_rgb(*stamp, stretch=stretch, Q=Q) for stamp in pixels]
    return np.stack(rgb).transpose(0, 3, 1, 2)


def _smooth_colors(pixels: NDArray[Any], sigma: float) -> NDArray[Any]:
    """Return three bands, in units of the sky noise, with the same sum and smoother colours."""
    smooth = gaussian_filter(pixels, (0, 0, sigma, sigma))
    intensity = smooth.mean(axis=1, keepdims=True).clip(0)
    # white noise becomes smaller by 2 sigma sqrt(pi)
    grey = (_GREY_BELOW / max(1.0, 2 * sigma * np.sqrt(np.pi))) ** 2
    ratios = (smooth * intensity + grey) / (intensity**2 + grey)
    return pixels.mean(axis=1, keepdims=True) * ratios.clip(0)


def band_positions(bands: Sequence[int | str], images: Any) -> list[int]:
    """Return the positions of three bands, given by position or by name."""
    names = tuple(getattr(images, "bands", None) or ())
    spelled = [spell_bands([b], names)[0] if isinstance(b, str) else b for b in bands]
    positions: list[Any] = [names.index(band) if band in names else band for band in spelled]
    if len(positions) != 3 or not all(band in range(images.shape[1]) for band in positions):
        given = bands if isinstance(bands, str) else tuple(bands)
        choice = f"three of {', '.join(names)}, or " if names else ""
        advice = "" if names else ", as the stamps do not know the names of their bands"
        raise ValueError(
            f"bands={given!r} must be {choice}three positions below {images.shape[1]}, the "
            f"number of bands of the stamps{advice}."
        )
    return positions


def display_bands(images: Any) -> tuple[int, int, int]:
    """Choose the bands to show as red, green and blue, and return their positions.

    These are i, r and g if the stamps have bands of these names, otherwise the fourth to the
    second of five bands or more, and the third to the first of fewer.

    Examples
    --------
    >>> display_bands(np.zeros((1, 5, 8, 8)))  # i, r, g of ugriz
    (3, 2, 1)
    >>> display_bands(np.zeros((1, 3, 8, 8), dtype=np.uint8))  # a photograph
    (0, 1, 2)
    """
    n_bands, names = images.shape[1], tuple(getattr(images, "bands", None) or ())
    red, green, blue = spell_bands("irg", names)
    if {red, green, blue} <= set(names):
        return (names.index(red), names.index(green), names.index(blue))
    if n_bands < 3:
        return (n_bands - 1, n_bands - 1, 0)
    if np.dtype(images.dtype) == np.uint8:
        return (0, 1, 2)
    return (2, 1, 0) if n_bands < 5 else (3, 2, 1)
