"""Draw light profiles as seen through the atmosphere, in Fourier space.

One transform of a profile serves all bands.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from scipy import fft

from skastro.utils.packages import import_optional

PIXEL_SCALE = 0.3  # arcsec: 32 pixels hold a galaxy of i = 18 and its sky
_OVERSAMPLING = 2  # the best seeing has no power beyond the Nyquist frequency of half a pixel
_STEP = PIXEL_SCALE / _OVERSAMPLING  # arcsec
_TRUNCATION = 8  # half-light radii, where profiles end: galaxies lack de Vaucouleurs' far wings
_SEEING_MARGIN = 4.0  # arcsec, for the wings of the seeing


class Component(NamedTuple):
    """A part of an object with one spectrum: a point, a Sersic profile, or a chain of knots."""

    flux: np.ndarray  # (6,) nanomaggies in ugrizy
    radius: float = 0.0  # half-light radius in arcsec; 0 is a point
    index: float = 1.0  # type: ignore[assignment]  # of Sersic's profile; hides tuple.index
    axis_ratio: float = 1.0
    angle: float = 0.0  # degrees from x to y
    offset: tuple[float, float] = (0.0, 0.0)  # arcsec from the target
    # (k, 4) x, y and sigma in arcsec, and share of the flux, of Gaussians instead of a profile
    knots: np.ndarray | None = None


class Canvas(NamedTuple):
    """The frequencies at which a stamp is drawn."""

    size: int  # pixels of the stamp
    centre: tuple[float, float]  # of the target from the middle of the stamp, arcsec
    kx: np.ndarray  # (1, n // 2 + 1) per arcsec
    ky: np.ndarray  # (n, 1)
    pixel: np.ndarray  # (n, n // 2 + 1) transform of a pixel


def make_canvas(parts: Sequence[Component], size: int, centre: np.ndarray) -> Canvas:
    """Choose a grid that is large enough: light leaving it on one side would return on the other.

    ``parts`` are all components that will be drawn, ``size`` is the height and width of the stamp
    in pixels, ``centre`` (2,) the position x and y of the target from its middle in pixels.
    """
    half = size * PIXEL_SCALE / 2
    side = max(half + max(map(_reach, parts), default=0.0), 2 * half + _SEEING_MARGIN)
    kx, ky, pixel = _frequencies(2 * fft.next_fast_len(int(np.ceil(side / _STEP / 2))))
    x, y = (float(value) * PIXEL_SCALE for value in centre)
    return Canvas(size, (x, y), kx, ky, pixel)


def _reach(part: Component) -> float:
    """Return the distance in arcsec from the target to the edge of a component."""
    extent = _TRUNCATION * part.radius / np.sqrt(part.axis_ratio)
    if part.knots is not None:
        x, y, sigma, _ = part.knots.T
        extent = np.max(np.hypot(x, y) + 4 * sigma)
    return float(np.hypot(*part.offset) + extent)


@lru_cache(maxsize=64)
def _frequencies(n: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    kx = 2 * np.pi * fft.rfftfreq(n, _STEP)[np.newaxis, :]
    ky = 2 * np.pi * fft.fftfreq(n, _STEP)[:, np.newaxis]
    cycles = PIXEL_SCALE / (2 * np.pi)  # numpy.sinc counts in cycles, not in radians
    return kx, ky, np.sinc(cycles * kx) * np.sinc(cycles * ky)


def transform(part: Component, canvas: Canvas) -> np.ndarray:
    """Return the Fourier transform (n, n // 2 + 1) of a component of unit flux, for all bands."""
    middle = PIXEL_SCALE * (canvas.size - 1) / 2
    x, y = (middle + c + o for c, o in zip(canvas.centre, part.offset, strict=True))
    if part.knots is not None:
        return _transform_knots(part.knots + np.array([x, y, 0, 0]), canvas)
    phase = np.exp(-1j * canvas.ky * y) * np.exp(-1j * canvas.kx * x)
    if part.radius == 0:
        return phase
    cos, sin = np.cos(np.radians(part.angle)), np.sin(np.radians(part.angle))
    stretch = np.sqrt(part.axis_ratio)  # keeps the area, as GalSim's shear does
    along = (canvas.kx * cos + canvas.ky * sin) / stretch
    across = (canvas.ky * cos - canvas.kx * sin) * stretch
    k = part.radius * np.sqrt(along**2 + across**2)
    return phase * np.interp(k, *_sersic(float(part.index)))


def _transform_knots(knots: np.ndarray, canvas: Canvas) -> np.ndarray:
    """Return the transform of Gaussians (k, 4): products of a factor along x and one along y."""
    x, y, sigma, share = knots.T
    along = np.exp(-0.5 * (canvas.kx.T * sigma) ** 2 - 1j * canvas.kx.T * x)
    up = share * np.exp(-0.5 * (canvas.ky * sigma) ** 2 - 1j * canvas.ky * y)
    # Not by BLAS, whose sums depend on the number of threads.
    return np.einsum("jk,ik->ji", up, along)


@lru_cache(maxsize=16)
def _sersic(index: float) -> tuple[np.ndarray, np.ndarray]:
    """Tabulate the Hankel transform of a Sersic profile: k times the half-light radius, value."""
    galsim = import_optional("galsim", extra="sim", needed_by="make_survey")
    profile = galsim.Sersic(index, half_light_radius=1.0, trunc=_TRUNCATION)
    k = np.concatenate([[0.0], np.geomspace(0.01, 1000, 1500)])
    return k, np.array([profile.kValue(value, 0.0).real for value in k])


def expose(
    planes: Sequence[np.ndarray], fluxes: Sequence[float], psf: np.ndarray, canvas: Canvas
) -> np.ndarray:
    """Return the noiseless image (size, size) of components through the PSF of a band.

    ``planes`` are the transforms of the components, ``psf`` that of the PSF; ``fluxes`` are in
    nanomaggies.
    """
    if not planes:
        return np.zeros((canvas.size, canvas.size))
    total = sum(flux * plane for flux, plane in zip(fluxes, planes, strict=True))
    n = len(canvas.ky)
    image = fft.irfft2(total * psf, s=(n, n), overwrite_x=True)
    used = slice(0, _OVERSAMPLING * canvas.size, _OVERSAMPLING)
    return image[used, used] * _OVERSAMPLING**2
