"""Compose colour images from bands."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from astropy.visualization import make_lupton_rgb
from numpy.typing import NDArray

from skastro.stamps.arrays import as_stack, read_stamps
from skastro.stamps.scaling import measure_sky


def to_rgb(
    stamps: Any,
    *,
    bands: Sequence[int | str] = (2, 1, 0),
    stretch: float = 5.0,
    Q: float = 8.0,
) -> NDArray[np.uint8]:
    """Compose colour images for display or for networks that were trained on photographs.

    Parameters
    ----------
    stamps : array-like of shape (n, bands, height, width)
        Linear pixels; NaN is shown as sky. Pixels of uint8 are returned without a stretch.
    bands : sequence of three int or str, default=(2, 1, 0)
        The bands shown as red, green and blue, reddest first: their positions, or their names,
        such as ``"irg"``, if the `Stamps` have names of bands.
    stretch : float, default=5.0
        Linear range in units of the sky noise of each band, so that any unit of flux will do.
    Q : float, default=8.0
        Softening of the asinh stretch (Lupton et al. 2004, PASP 116, 133).

    Returns
    -------
    rgb : uint8 array of shape (n, 3, height, width)

    Raises
    ------
    ValueError
        ``bands`` names a band that the stamps do not have.

    Examples
    --------
    >>> import numpy as np
    >>> stamps = np.random.default_rng(0).normal(size=(2, 5, 8, 8))
    >>> to_rgb(stamps, bands=(3, 2, 1)).shape
    (2, 3, 8, 8)
    """
    images = as_stack(stamps)
    pixels = read_stamps(images, slice(None))[:, _positions(bands, images)]
    if np.dtype(images.dtype) == np.uint8:
        return pixels.astype(np.uint8)
    sky, noise = measure_sky(pixels)
    pixels = np.nan_to_num((pixels - sky[:, None, None]) / noise[:, None, None])
    with np.errstate(invalid="ignore"):  # astropy divides by the intensity, zero in empty pixels
        rgb = [make_lupton_rgb(*stamp, stretch=stretch, Q=Q) for stamp in pixels]
    return np.stack(rgb).transpose(0, 3, 1, 2)


def _positions(bands: Sequence[int | str], images: Any) -> list[Any]:
    """Return the positions of three bands, given by position or name."""
    names = getattr(images, "bands", None) or ()
    positions = [names.index(band) if band in names else band for band in bands]
    if len(positions) != 3 or not all(band in range(images.shape[1]) for band in positions):
        choice = f"three of {', '.join(names)}, or " if names else ""
        raise ValueError(
            f"bands={tuple(bands)} must be {choice}three positions below {images.shape[1]}, the "
            "number of bands of the stamps."
        )
    return positions


def display_bands(images: Any) -> tuple[int, int, int]:
    """Choose the bands to show as red, green and blue, and return their positions.

    Examples
    --------
    >>> display_bands(np.zeros((1, 5, 8, 8)))  # i, r, g of ugriz
    (3, 2, 1)
    >>> display_bands(np.zeros((1, 3, 8, 8), dtype=np.uint8))  # a photograph
    (0, 1, 2)
    """
    n_bands = images.shape[1]
    if n_bands < 3:
        return (n_bands - 1, n_bands - 1, 0)
    if np.dtype(images.dtype) == np.uint8:
        return (0, 1, 2)
    return (2, 1, 0) if n_bands < 5 else (3, 2, 1)
