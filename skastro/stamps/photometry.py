"""Measure magnitudes, colours, size, concentration and shape from the pixels.

Every stamp is measured alone, so that inside a pipeline nothing leaks from test rows to training
rows.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any, Literal, TypeAlias, overload

import numpy as np
import pandas as pd
import sep
from numpy.typing import NDArray

from skastro.stamps.arrays import as_stack, read_chunks
from skastro.stamps.scaling import MAD_TO_SIGMA

_Floats: TypeAlias = NDArray[np.float64]

_POGSON = 2.5 / np.log(10.0)
_OPTIMAL_SOFTENING = np.sqrt(_POGSON)  # 1.042, in sigma: Lupton, Gunn & Szalay (1999)
_CLIP_SIGMA = 3.0
_MIN_NOISE_SHARE = 1e-4  # of the range of the pixels, or noiseless bands had infinite weight
_DEFAULT_RADII = (1 / 16, 5 / 32, 5 / 16)  # core, middle and total aperture, of the shorter side
_SKY_WIDTH = 1 / 8  # of the shorter side
_MIN_RADIUS = 0.5  # pixels, below which no size is resolved
_MIN_SIDE = 5  # pixels, below which a border and apertures do not fit
_MIN_VALID_SHARE = 0.5  # of the area of an aperture
_SHAPE_UNITS = {
    "half_light_radius": "pixel",
    "concentration": "",
    "ellipticity": "",
    "asymmetry": "",
    "peak_offset": "pixel",
    "sky": "flux / pixel",
}
_MAX_CHUNK_PIXELS = 2**22
_MAX_CHUNK = 512  # stamps
_STAGE = "measuring the stamps"


@overload
def measure_properties(
    stamps: Any,
    *,
    bands: Sequence[str] | None = None,
    zero_point: float = 22.5,
    radii: tuple[float, float, float] | None = None,
    return_errors: Literal[False] = False,
) -> pd.DataFrame: ...


@overload
def measure_properties(
    stamps: Any,
    *,
    bands: Sequence[str] | None = None,
    zero_point: float = 22.5,
    radii: tuple[float, float, float] | None = None,
    return_errors: Literal[True],
) -> tuple[pd.DataFrame, pd.DataFrame]: ...


def measure_properties(
    stamps: Any,
    *,
    bands: Sequence[str] | None = None,
    zero_point: float = 22.5,
    radii: tuple[float, float, float] | None = None,
    return_errors: bool = False,
) -> pd.DataFrame | tuple[pd.DataFrame, pd.DataFrame]:
    r"""Measure magnitudes, colours, size, concentration and shape of centred sources.

    Apertures lie at the centre of the stamp in all bands (forced photometry). The sky of each
    stamp and band is the 3-sigma-clipped mean of the border, which is an eighth of the shorter
    side wide. A flux :math:`f` with the error :math:`\sigma_f` has the magnitude

    .. math:: m = m_0 - \frac{2.5}{\ln 10}
              \left[\operatorname{asinh}\!\left(\frac{f}{2b}\right) + \ln b\right],
              \qquad b = 1.042\,\sigma_f

    (Lupton, Gunn & Szalay 1999, AJ 118, 1406). It is the usual magnitude for a bright source, and
    finite for a negative flux. The total flux is the flux in the middle aperture, where faint
    sources have the least noise, times an aperture correction. The correction is the curve of
    growth of the source from the middle to the total aperture, in the sum of all bands, each
    divided by its noise. Size and shape are measured on the same sum. Apertures and half-light
    radii are computed by sep (Barbary 2016, JOSS 1, 58), the library of SExtractor. The default
    radii and the columns were chosen on SDSS and EFIGI stamps: the figures for these in the docs
    are therefore a little optimistic.

    Parameters
    ----------
    stamps : array-like of shape (n, bands, height, width)
        Linear pixels of any real dtype, with the source in the middle: an array, memory map or
        any lazy array-like, which is read in chunks. NaN and masked pixels are replaced by the
        mean of the valid pixels at their distance from the centre.
    bands : str or sequence of str, default=None
        One name for each band, such as ``"ugriz"`` or ``["F606W", "F814W"]``. With None the names
        are ``band0``, ``band1`` and so on. Two columns must not get the same name.
    zero_point : float, default=22.5
        Magnitude of a source of one unit of flux: 22.5 for nanomaggies. For normalised stamps
        or 8-bit colours only differences of magnitudes have a meaning.
    radii : tuple (core, middle, total), default=None
        Aperture radii in pixels. With None they are 1/16, 5/32 and 5/16 of the shorter side.
    return_errors : bool, default=False
        Also return formal errors, which can weight the loss.

    Returns
    -------
    properties : DataFrame of shape (n, p), float64
        ``mag_<band>`` (total) and ``mag_core_<band>`` (core aperture) in mag, colours of
        neighbouring bands ``<band>_<next>`` in mag, ``half_light_radius`` in pixels,
        ``concentration``, ``ellipticity``, ``asymmetry``, ``peak_offset`` in pixels, and
        ``sky``, the mean over bands, in flux per pixel. ``properties.attrs["units"]`` has the
        units, docs/properties.md the formulae. No value is infinite. Values are NaN where less
        than half of an aperture is valid; size and shape also where the flux in the total
        aperture is not positive. A column without a value in any row is left out, except for
        magnitudes. Stamps with a side of less than 5 pixels have no room for a sky: they only get
        the ``mag_<band>`` of the sum of all pixels, with b = 1, and the colours of these.
    errors : DataFrame of shape (n, p), float64
        Returned if ``return_errors``, with the same columns: 1-sigma errors of magnitudes and
        colours from the sky noise alone, without the photon noise of the source and the error
        of the aperture correction; NaN in the other columns.

    Raises
    ------
    ValueError
        The stamps are not a stack of usable images, ``bands`` has another number of names or
        leads to two columns of one name, or the radii do not fit into the stamp.

    Examples
    --------
    The second band has a Gaussian source of 100 nanomaggies, a magnitude of 17.5:

    >>> import numpy as np
    >>> y, x = np.mgrid[:32, :32] - 15.5
    >>> source = np.exp(-(x**2 + y**2) / (2 * 2.0**2)) / (2 * np.pi * 2.0**2)
    >>> noise = np.random.default_rng(0).normal(scale=0.01, size=(1, 2, 32, 32))
    >>> stamps = np.array([50.0, 100.0])[:, None, None] * source + noise
    >>> table = measure_properties(stamps, bands="gr")
    >>> table[["mag_g", "mag_r", "g_r", "half_light_radius"]].round(1).to_numpy()
    array([[18.3, 17.5,  0.8,  2.4]])
    >>> table.attrs["units"]["half_light_radius"]
    'pixel'
    """
    images = as_stack(stamps, name="stamps")
    n_bands, height, width = images.shape[1:]
    apertures = _aperture_radii(height, width, radii)
    units = _name_columns(bands, n_bands, with_shapes=apertures is not None)
    chunk = max(1, min(_MAX_CHUNK, _MAX_CHUNK_PIXELS // (n_bands * height * width)))
    parts = [_measure(part, apertures, zero_point) for part in read_chunks(images, chunk, _STAGE)]
    tables = [
        pd.DataFrame(np.concatenate(columns), columns=list(units))
        for columns in zip(*parts, strict=True)
    ]
    # columns without any value are left out
    names = [name for name in units if name.startswith("mag_") or tables[0][name].notna().any()]
    values, errors = (table[names] for table in tables)
    for table in (values, errors):
        table.attrs["units"] = {name: units[name] for name in names}
    return (values, errors) if return_errors else values


def measure_by(measure: Callable[[NDArray[np.float32]], pd.DataFrame], stamps: Any) -> pd.DataFrame:
    """Measure properties with a function of the user, chunk by chunk.

    The function must return a DataFrame of m rows for float32 stamps of shape (m, bands, height,
    width), NaN where masked; else a ValueError is raised. Columns without any value are left out.

    Examples
    --------
    >>> stamps = np.ones((600, 1, 4, 4))
    >>> table = measure_by(lambda s: pd.DataFrame({"total": s.sum((1, 2, 3))}), stamps)
    >>> table.shape, float(table["total"].iloc[0])
    ((600, 1), 16.0)
    """
    parts = []
    for chunk in read_chunks(as_stack(stamps), _MAX_CHUNK, _STAGE):
        parts.append(measure(chunk))
        if not isinstance(parts[-1], pd.DataFrame) or len(parts[-1]) != len(chunk):
            raise ValueError(
                f"targets={measure!r} must return a DataFrame with a row for each stamp, but "
                f"gave {type(parts[-1]).__name__} of shape {np.shape(parts[-1])} for "
                f"{len(chunk)} stamps."
            )
    units = parts[0].attrs.get("units", {})
    table = pd.concat(parts, ignore_index=True).dropna(axis=1, how="all")
    table.attrs["units"] = {name: unit for name, unit in units.items() if name in table}
    return table


def _name_columns(
    bands: Sequence[str] | None, n_bands: int, *, with_shapes: bool
) -> dict[str, str]:
    """Return the names of the columns, in order, and their units."""
    names = [f"band{i}" for i in range(n_bands)] if bands is None else [str(b) for b in bands]
    if len(names) != n_bands:
        raise ValueError(
            f"bands names {len(names)} bands ({', '.join(names)}), but the stamps have {n_bands}: "
            "pass one name for each band."
        )
    magnitudes = [f"mag_{name}" for name in names]
    cores = [f"mag_core_{name}" for name in names] if with_shapes else []
    shapes = _SHAPE_UNITS if with_shapes else {}
    columns = [*magnitudes, *cores, *(f"{a}_{b}" for a, b in pairwise(names)), *shapes]
    units = dict.fromkeys(columns, "mag") | shapes
    if len(units) < len(columns):
        twice = next(column for column in columns if columns.count(column) > 1)
        raise ValueError(f"bands={bands!r} gives two columns named {twice!r}: rename a band.")
    return units


def _aperture_radii(
    height: int, width: int, radii: tuple[float, float, float] | None
) -> _Floats | None:
    """Return core, middle and total radius in pixels; None for stamps too small for them."""
    side = min(height, width)
    if side < _MIN_SIDE:
        return None
    apertures = (
        np.multiply(_DEFAULT_RADII, side) if radii is None else np.asarray(radii, dtype=np.float64)
    )
    if apertures.shape != (3,) or not 0.1 <= apertures[0] < apertures[1] < apertures[2] <= side / 2:
        raise ValueError(
            f"radii={radii!r} do not fit into stamps of {height} x {width} pixels: pass "
            f"(core, middle, total) with 0.1 <= core < middle < total <= {side / 2:g}."
        )
    return apertures


def _measure(
    stamps: NDArray[np.float32], radii: _Floats | None, zero_point: float
) -> tuple[_Floats, _Floats]:
    """Return values and errors, (n, p) each, in the columns of `_name_columns`."""
    pixels = stamps.astype(np.float64)
    if radii is None:
        return _measure_sums(pixels, zero_point)

    # find the core and total magnitudes with enough valid pixels
    covered = np.ones((*pixels.shape[:2], 2), dtype=bool)
    missing = np.isnan(pixels)
    if missing.any():
        valid_area = _sum_apertures(1.0 - missing, radii)
        core, middle, total = np.moveaxis(valid_area >= _MIN_VALID_SHARE * np.pi * radii**2, -1, 0)
        covered = np.stack([core, middle & total], axis=-1)
        _fill_missing(pixels, missing)

    # magnitudes of each band; size and shape of the sum of the bands
    sky, noise = _local_sky(pixels)
    pixels -= sky[..., None, None]
    detection = (pixels / noise[..., None, None]).sum(axis=1)
    magnitude, error = _photometry(pixels, noise, detection, radii, zero_point)
    magnitude, error = (np.where(covered, column, np.nan) for column in (magnitude, error))
    shape = _measure_shape(detection, radii)
    shape[~covered.any(axis=(1, 2))] = np.nan
    mean_sky = np.ma.array(sky, mask=~covered[..., 1]).mean(axis=1, keepdims=True).filled(np.nan)

    core, total = magnitude[..., 0], magnitude[..., 1]
    values = np.hstack([total, core, -np.diff(total, axis=1), shape, mean_sky])
    colour_error = np.hypot(error[:, :-1, 1], error[:, 1:, 1])
    unknown = np.full((len(shape), len(_SHAPE_UNITS)), np.nan)
    return values, np.hstack([error[..., 1], error[..., 0], colour_error, unknown])


def _measure_sums(pixels: _Floats, zero_point: float) -> tuple[_Floats, _Floats]:
    """Return magnitudes and colours of the sums of all pixels, and errors, which are NaN."""
    flat = pixels.reshape(*pixels.shape[:2], -1)
    total = flat.shape[-1] * np.ma.masked_invalid(flat).mean(axis=-1).filled(np.nan)
    unknown = np.full_like(total, np.nan)
    # without a sky there is no noise to soften by: one unit of flux keeps magnitudes monotonic
    magnitude, error = _asinh_magnitude(total, unknown, np.ones_like(total), zero_point)
    return np.hstack([magnitude, -np.diff(magnitude)]), np.hstack([error, unknown[:, 1:]])


def _photometry(
    pixels: _Floats, noise: _Floats, detection: _Floats, radii: _Floats, zero_point: float
) -> tuple[_Floats, _Floats]:
    """Return magnitudes and errors of core and total flux, (n, bands, 2) each."""
    area = np.pi * radii[:2] ** 2
    flux = _sum_apertures(pixels, radii[:2])
    # the sky is a mean of the border: all pixels of the aperture share its error
    n_sky = _border(*pixels.shape[2:]).sum()
    flux_error = noise[..., None] * np.sqrt(area + area**2 / n_sky)

    # the aperture correction is between that of a point and that of uniform brightness
    middle, total = _sum_apertures(detection, radii[1:]).T
    correction = np.divide(total, middle, out=np.ones_like(total), where=middle > 0)
    scale = np.ones((len(total), 1, 2))
    scale[:, 0, 1] = np.clip(correction, 1.0, (radii[2] / radii[1]) ** 2)
    softening = _OPTIMAL_SOFTENING * flux_error * scale
    return _asinh_magnitude(flux * scale, flux_error * scale, softening, zero_point)


def _asinh_magnitude(
    flux: _Floats, flux_error: _Floats, softening: _Floats, zero_point: float
) -> tuple[_Floats, _Floats]:
    # Lupton, Gunn & Szalay (1999); the error is |dm/df| sigma_f
    magnitude = zero_point - _POGSON * (np.arcsinh(flux / (2 * softening)) + np.log(softening))
    return magnitude, _POGSON * flux_error / np.hypot(flux, 2 * softening)


def _mosaic(images: _Floats) -> tuple[_Floats, _Floats, _Floats]:
    """Stack images (..., height, width) into one for sep, and return the x and y of centres."""
    height, width = images.shape[-2:]
    mosaic = np.ascontiguousarray(images).reshape(-1, width)
    y = np.arange(0.0, len(mosaic), height) + (height - 1) / 2
    return mosaic, np.full_like(y, (width - 1) / 2), y


def _sum_apertures(images: _Floats, radii: _Floats) -> _Floats:
    """Sum images (..., height, width) in circles about their centres: (..., radii)."""
    mosaic, x, y = _mosaic(images)
    sums = np.column_stack([sep.sum_circle(mosaic, x, y, r, subpix=0)[0] for r in radii])
    return sums.reshape(*images.shape[:-2], len(radii))


def _fill_missing(pixels: _Floats, missing: NDArray[np.bool_]) -> None:
    """Replace NaN in place by the mean of the valid pixels of the band at the same radius."""
    y, x = _offsets(*pixels.shape[2:])
    ring = np.rint(np.hypot(y, x)).astype(np.int64)
    for row, band in np.argwhere(missing.any(axis=(2, 3))):
        image, hole = pixels[row, band], missing[row, band]
        if hole.all():
            image[:] = 0.0  # its results become NaN later
            continue
        count = np.bincount(ring[~hole], minlength=ring.max() + 1)
        total = np.bincount(ring[~hole], image[~hole], minlength=ring.max() + 1)
        radius = np.flatnonzero(count)
        image[hole] = np.interp(ring[hole], radius, total[radius] / count[radius])


def _offsets(height: int, width: int) -> tuple[_Floats, _Floats]:
    """Return the distances y (height, 1) and x (1, width) of pixels from the centre."""
    y, x = np.ogrid[:height, :width]
    return y - (height - 1) / 2, x - (width - 1) / 2


def _border(height: int, width: int) -> NDArray[np.bool_]:
    """Return a mask of the pixels that measure the sky."""
    thickness = max(2, int(_SKY_WIDTH * min(height, width)))
    border = np.ones((height, width), dtype=bool)
    border[thickness:-thickness, thickness:-thickness] = False
    return border


def _local_sky(pixels: _Floats) -> tuple[_Floats, _Floats]:
    """Measure level and noise of the sky of images (..., height, width): (...) each."""
    sky = np.ascontiguousarray(pixels[..., _border(*pixels.shape[-2:])])
    level = np.median(sky, axis=-1, keepdims=True)
    distance = np.abs(sky - level)
    noise = MAD_TO_SIGMA * np.median(distance, axis=-1, keepdims=True)
    # the clipped mean has two thirds of the variance of the median; this matters for faint
    # sources, as the error of the sky enters with every pixel of the aperture
    is_sky = distance <= _CLIP_SIGMA * noise
    level = (sky * is_sky).sum(axis=-1) / is_sky.sum(axis=-1)
    floor = _MIN_NOISE_SHARE * np.ptp(pixels, axis=(-2, -1))
    noise = np.maximum(noise[..., 0], floor)
    return level, np.where(noise > 0, noise, 1.0)


def _measure_shape(detection: _Floats, radii: _Floats) -> _Floats:
    """Return half-light radius, concentration, ellipticity, asymmetry, peak offset: (n, 5)."""
    mosaic, x, y = _mosaic(detection)
    total = _sum_apertures(detection, radii[2:])[:, 0]
    enclosing, _ = sep.flux_radius(
        mosaic, x, y, np.full_like(y, radii[2]), [0.2, 0.5, 0.8], normflux=total
    )
    r20, r50, r80 = np.maximum(enclosing, _MIN_RADIUS).T
    concentration = 5 * np.log10(r80 / r20)  # Conselice (2003), ApJS 147, 1
    ellipticity, asymmetry = _ellipticity(detection, r50), _asymmetry(detection, radii[2:])
    shape = np.column_stack([r50, concentration, ellipticity, asymmetry, _peak_offset(detection)])
    shape[total <= 0] = np.nan
    return shape


def _ellipticity(images: _Floats, half_light_radius: _Floats) -> _Floats:
    """Measure 1 - b/a by second moments with a round Gaussian weight, corrected for the weight."""
    variance = np.maximum(half_light_radius, 1.0) ** 2
    by_y, by_x = (
        _moment_weights(offset.ravel(), variance) for offset in _offsets(*images.shape[1:])
    )
    moments = by_y.transpose(0, 2, 1) @ (images @ by_x)
    flux = np.where(moments[:, 0, 0] > 0, moments[:, 0, 0], np.nan)
    x, y = moments[:, 0, 1] / flux, moments[:, 1, 0] / flux
    xx, yy = moments[:, 0, 2] / flux - x**2, moments[:, 2, 0] / flux - y**2
    xy = moments[:, 1, 1] / flux - x * y
    mean, spread = (xx + yy) / 2, np.hypot((xx - yy) / 2, xy)
    # correct for the weight, exactly for a Gaussian source: the inverse covariances of two
    # Gaussians add up in their product; noise needs the clipping
    major, minor = (
        1 / (1 / np.clip(axis, 1 / 12, 0.95 * variance) - 1 / variance)
        for axis in (mean + spread, mean - spread)
    )
    return 1 - np.sqrt(minor / major)


def _moment_weights(position: _Floats, variance: _Floats) -> _Floats:
    """Return a Gaussian weight times position to the powers 0, 1 and 2: (n, positions, 3)."""
    gauss = np.exp(-(position**2) / (2 * variance[:, None]))
    return gauss[..., None] * position[:, None] ** np.arange(3)


def _asymmetry(detection: _Floats, radius: _Floats) -> _Floats:
    """Measure the 180-degree asymmetry of Conselice (2003) about the centre in one aperture."""
    turned = detection[:, ::-1, ::-1]
    difference = _sum_apertures(np.abs(detection - turned), radius)[:, 0]
    light = _sum_apertures(np.abs(detection), radius)[:, 0]
    _, noise = _local_sky(detection)
    # the mean |difference| of two normal deviates is 2 sigma / sqrt(pi)
    background = np.pi * radius**2 * 2 * noise / np.sqrt(np.pi)
    asymmetry = (difference - background) / np.where(light > 0, 2 * light, np.nan)
    # a neighbour in the border can make the noise, and with it the background, too large
    return np.clip(asymmetry, -1.0, 1.0)


def _peak_offset(images: _Floats) -> _Floats:
    """Measure the distance of the brightest 3 x 3 pixels from the centre, in parts of a pixel."""
    rows_of_three = images[:, :-2] + images[:, 1:-1] + images[:, 2:]
    inner = rows_of_three[..., :-2] + rows_of_three[..., 1:-1] + rows_of_three[..., 2:]
    n, height, width = inner.shape
    row, y, x = np.arange(n), *np.divmod(inner.reshape(n, -1).argmax(axis=1), width)
    smooth = np.pad(inner, ((0, 0), (1, 1), (1, 1)))
    peak = inner[row, y, x]
    # the padding has moved row y of `inner` to row y + 1
    dy = _vertex(smooth[row, y, x + 1], peak, smooth[row, y + 2, x + 1])
    dx = _vertex(smooth[row, y + 1, x], peak, smooth[row, y + 1, x + 2])
    return np.hypot(y + dy - (height - 1) / 2, x + dx - (width - 1) / 2)


def _vertex(before: _Floats, peak: _Floats, after: _Floats) -> _Floats:
    """Return the maximum of the parabola through three pixels, relative to the middle one."""
    curvature = before - 2 * peak + after
    slope = (before - after) / 2
    shift = np.divide(slope, curvature, out=np.zeros_like(peak), where=curvature < 0)
    return np.clip(shift, -0.5, 0.5)
