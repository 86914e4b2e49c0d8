"""Observe the simulated sky with a telescope: pointings, scenes, exposures and measurements."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from skastro.simulation.profiles import PIXEL_SCALE, Canvas, expose, make_canvas, transform
from skastro.simulation.sky import BANDS, BRIGHTEST, CLASSES, ZERO_POINT, SkyObject, draw_object

# Raise it with every change of the simulated numbers, so that the cache returns no old ones.
SIMULATION_VERSION = 3

FAINTEST = 22.8  # mag in i
_MIN_OBJECTS_FOR_PROCESSES = 500  # for fewer, starting processes takes longer than it saves
_CLASS_FRACTIONS = (0.30, 0.55, 0.15)
_N_FIELDS = 24
_FIELD_RADIUS = 1.75  # degrees, Rubin's field of view
_MIN_SNR = 3.0  # objects below it are not detected
_MIN_MAG_ERROR = 0.005  # mag, systematic: Ivezic et al. 2019

# Ivezic et al. 2019, ApJ 873, 111, table 2: one visit of 30 s, effective seeing in arcsec and the
# magnitude of a point source at 5 sigma.
_SEEING = np.array([0.92, 0.87, 0.83, 0.80, 0.78, 0.76])
_DEPTH = np.array([23.78, 24.81, 24.35, 23.92, 23.34, 22.45])
_GAMMA = 0.039  # of equation 5: the sky's part of 0.04, the variance at five sigma


def choose_jobs(n_objects: int) -> int | None:
    """Return the ``n_jobs`` that simulates a number of objects fastest."""
    return -1 if n_objects >= _MIN_OBJECTS_FOR_PROCESSES else None


class SurveyPlan(NamedTuple):
    """The settings and pointings of a survey, and the kind and pointing of each object."""

    seed: int
    bands: str
    image_size: int
    faintest: float
    fields: dict[str, np.ndarray]
    kinds: np.ndarray  # (n,) index into CLASSES
    pointings: np.ndarray  # (n,) index into the fields


class _Scene(NamedTuple):
    kind: int  # index into CLASSES
    target: SkyObject
    neighbours: list[SkyObject]
    place: dict[str, float]  # ra, dec, field, ebv
    seeing: np.ndarray  # (6,) arcsec
    shear: np.ndarray  # (6, 2) of the PSF
    depth: np.ndarray  # (6,) mag
    centre: np.ndarray  # (2,) x and y of the target from the middle of the stamp, pixels
    errors: np.ndarray  # (2,) errors of size and redshift in units of their standard deviation


def plan_survey(
    n_objects: int, bands: str, image_size: int, seed: int, *, faintest: float = FAINTEST
) -> SurveyPlan:
    """Draw the pointings of a survey, and the kind and the pointing of each object.

    ``bands`` are letters out of ``BANDS`` in the order of the stamps, ``image_size`` is in pixels,
    ``faintest`` is an i magnitude. ``seed`` is used for all random numbers, also in
    `simulate_chunk`.
    """
    rng = _generator(seed)
    fields = _draw_fields(rng)
    kinds = rng.choice(len(CLASSES), n_objects, p=_CLASS_FRACTIONS)
    pointings = rng.integers(_N_FIELDS, size=n_objects)
    return SurveyPlan(seed, bands, image_size, faintest, fields, kinds, pointings)


def simulate_chunk(
    plan: SurveyPlan, rows: range
) -> tuple[np.ndarray, list[dict[str, Any]], list[dict[str, Any]]]:
    """Simulate some objects of a survey, each from a seed of its own.

    Return the stamps (rows, bands, height, width), float32 nanomaggies with the sky subtracted,
    and for each stamp a row of the catalogue and a row of the true values.
    """
    stamps, measured, true = zip(*(_simulate_object(plan, row) for row in rows), strict=True)
    return np.stack(stamps), list(measured), list(true)


def _draw_fields(rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Draw position, dust, and per band seeing, depth and PSF ellipticity of the pointings."""
    # More than enough candidates, uniform on the southern sky; the Galactic plane is left out.
    ra = rng.uniform(0, 360, 20 * _N_FIELDS)
    dec = np.degrees(
        np.arcsin(rng.uniform(np.sin(np.radians(-62)), np.sin(np.radians(2)), ra.size))
    )
    sin_b = _sin_galactic_latitude(ra, dec)
    keep = np.flatnonzero(np.abs(sin_b) > np.sin(np.radians(12)))[:_N_FIELDS]
    shape = (_N_FIELDS, len(BANDS))
    return {
        "ra": ra[keep],
        "dec": dec[keep],
        # The cosecant law: a slab of dust, seen at the Galactic latitude b.
        "ebv": 0.02 / np.abs(sin_b[keep]) * rng.lognormal(0, 0.3, _N_FIELDS),
        "seeing": _SEEING * rng.lognormal(0, 0.10, shape),
        "depth": _DEPTH + rng.normal(0, 0.1, shape),
        "shear": rng.normal(0, 0.015, (*shape, 2)),
    }


def _sin_galactic_latitude(ra: np.ndarray, dec: np.ndarray) -> np.ndarray:
    alpha, delta, pole = np.radians(ra - 192.859), np.radians(dec), np.radians(27.128)
    return np.sin(delta) * np.sin(pole) + np.cos(delta) * np.cos(pole) * np.cos(alpha)


def _simulate_object(
    plan: SurveyPlan, row: int
) -> tuple[np.ndarray, dict[str, Any], dict[str, Any]]:
    """Simulate one stamp (n_bands, size, size), its catalogue row and its true row."""
    scene = _draw_scene(plan, row)
    target, bands = scene.target, {}
    # The transforms of the components are the same in all bands.
    around = [part for neighbour in scene.neighbours for part in neighbour.parts]
    canvas = make_canvas([*target.parts, *around], plan.image_size, scene.centre)
    layers = [
        [(part.flux, transform(part, canvas)) for part in parts] for parts in (target.parts, around)
    ]
    for name in plan.bands:
        number = BANDS.index(name)
        rng = _generator(plan.seed, row, number)
        bands[name] = _observe(scene, layers, canvas, number, rng)

    # The size in the catalogue is that in the band with the best signal.
    best = max(bands.values(), key=lambda band: band["snr"])
    size_error = scene.errors[0] / best["snr"] if best["snr"] >= _MIN_SNR else np.nan
    measured = {
        "id": scene.place["field"] * 1_000_000 + row,
        "class": CLASSES[scene.kind],
        "morphology": target.morphology,
        "merging": target.merging,
        **scene.place,
        **{f"mag_{name}": band["mag"] for name, band in bands.items()},
        **{f"err_{name}": band["err"] for name, band in bands.items()},
        "size": best["size"] * (1 + size_error),
        "redshift": target.redshift + 5e-4 * (1 + target.redshift) * scene.errors[1],
    }
    true = {"id": measured["id"], "size": best["size"], "n_neighbours": len(scene.neighbours)}
    for key in ("mag", "fwhm", "sky"):
        true |= {f"{key}_{name}": band[f"true_{key}"] for name, band in bands.items()}
    return np.stack([band["pixels"] for band in bands.values()]), measured, true


def _generator(seed: int, *key: int) -> np.random.Generator:
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=key))


def _draw_scene(plan: SurveyPlan, row: int) -> _Scene:
    """Draw the objects on a stamp, the atmosphere and the errors of the catalogue."""
    rng = _generator(plan.seed, row)
    kind, field = int(plan.kinds[row]), int(plan.pointings[row])
    pointing = {key: values[field] for key, values in plan.fields.items()}
    ebv = pointing["ebv"] * rng.lognormal(0, 0.1)
    radius, angle = _FIELD_RADIUS * np.sqrt(rng.random()), rng.uniform(0, 2 * np.pi)
    dec = pointing["dec"] + radius * np.sin(angle)
    ra = (pointing["ra"] + radius * np.cos(angle) / np.cos(np.radians(dec))) % 360
    target = draw_object(kind, (BRIGHTEST, plan.faintest), ebv, rng)
    return _Scene(
        kind=kind,
        target=target,
        place={"ra": ra, "dec": dec, "field": field, "ebv": ebv},
        seeing=pointing["seeing"] * rng.lognormal(0, 0.02),
        shear=pointing["shear"] + rng.normal(0, 0.005, pointing["shear"].shape),
        depth=pointing["depth"],
        centre=rng.uniform(-0.5, 0.5, 2),  # a stamp is cut at the nearest whole pixel
        errors=rng.normal(size=2),
        # Last, because the number of these draws depends on the size of the stamp.
        neighbours=_draw_neighbours(plan.image_size, ebv, rng),
    )


def _draw_neighbours(size: int, ebv: float, rng: np.random.Generator) -> list[SkyObject]:
    """Draw the other objects on the stamp: galaxies to i = 24, and a few stars."""
    side = size * PIXEL_SCALE + 2  # objects just outside still shine onto the stamp
    # LSST Science Book, section 3.7: 42.9 * 10^(0.359 (i - 25)) galaxies per square arcmin.
    per_arcmin2 = np.array([1.5, 42.9 * 10 ** (0.359 * (24 - 25))])
    neighbours = []
    for kind, number in enumerate(rng.poisson(per_arcmin2 * (side / 60) ** 2)):
        for _ in range(number):
            neighbour = draw_object(kind, (18.0, 24.0), ebv, rng)
            neighbours.append(neighbour.moved(*rng.uniform(-side / 2, side / 2, 2)))
    return neighbours


def _observe(
    scene: _Scene,
    layers: list[list[tuple[np.ndarray, np.ndarray]]],
    canvas: Canvas,
    band: int,
    rng: np.random.Generator,
) -> dict[str, Any]:
    """Expose a scene in one band; measure the target on the pixels.

    ``layers`` are the fluxes (6,) and transforms of the components of the target, and of those of
    its neighbours.
    """
    # Ivezic et al. 2019: the geometric width of the effective seeing.
    psf = transform_psf(0.822 * scene.seeing[band] + 0.052, scene.shear[band], canvas)
    model, others = (
        expose([plane for _, plane in layer], [flux[band] for flux, _ in layer], psf, canvas)
        for layer in layers
    )
    flux = sum(part.flux[band] for part in scene.target.parts)
    limit = 10 ** (0.4 * (ZERO_POINT - scene.depth[band]))
    # Ivezic et al. 2019, equation 5 multiplied out: var = (0.04 - gamma) f5 f + gamma f5^2. The
    # first term is the object's own photons, the second the sky within an aperture of n_eff pixels.
    gain = 1 / ((0.04 - _GAMMA) * limit)
    n_eff = 2.266 * (_SEEING[band] / PIXEL_SCALE) ** 2
    sky = _GAMMA * limit**2 / n_eff
    expected = np.clip(model + others + sky * gain, 0, None)  # an FFT may ring below zero
    pixels = rng.poisson(gain * expected) / gain - sky * gain
    # Fit the flux of the known profile to the pixels without the neighbours.
    profile, variance = model / flux, expected / gain
    power = np.sum(profile**2)
    fitted = np.sum(profile * (pixels - others)) / power
    error = np.sqrt(np.sum(profile**2 * variance)) / power
    mag_error = _MIN_MAG_ERROR * rng.normal()
    detected = fitted >= _MIN_SNR * error
    return {
        "pixels": pixels.astype(np.float32),
        "snr": fitted / error,
        "mag": ZERO_POINT - 2.5 * np.log10(fitted) + mag_error if detected else np.nan,
        "err": np.hypot(2.5 / np.log(10) * error / fitted, _MIN_MAG_ERROR) if detected else np.nan,
        "size": _half_light_radius(model, flux, scene.centre),
        "true_mag": ZERO_POINT - 2.5 * np.log10(flux),
        "true_fwhm": scene.seeing[band],
        "true_sky": np.sqrt(sky),
    }


def transform_psf(fwhm: float, shear: np.ndarray, canvas: Canvas) -> np.ndarray:
    """Return the Fourier transform (n, n // 2 + 1) of the PSF: the seeing and the pixel.

    ``fwhm`` is that of the Kolmogorov profile in arcsec, ``shear`` (2,) its ellipticity g1 and g2.
    """
    g1, g2 = shear
    norm = 1 / (1 - g1**2 - g2**2)
    u = (1 + g1) * canvas.kx + g2 * canvas.ky
    v = g2 * canvas.kx + (1 - g1) * canvas.ky
    # exp(-3.44 (k lambda / 2 pi r0)^(5/3)) with fwhm = 0.975865 lambda / r0: Fried 1966, JOSA 56,
    # 1372, with the numbers of Racine 1996, PASP 108, 699.
    squared = (u**2 + v**2) * (norm * (fwhm / 2.92069) ** 2)
    return canvas.pixel * np.exp(-(squared ** (5 / 6)))


def _half_light_radius(model: np.ndarray, flux: float, centre: np.ndarray) -> float:
    """Return the radius in arcsec around ``centre`` that encloses half of ``flux``."""
    axis = np.arange(len(model)) - (len(model) - 1) / 2
    radius = np.hypot(axis[np.newaxis, :] - centre[0], axis[:, np.newaxis] - centre[1]).ravel()
    order = np.argsort(radius, kind="stable")
    # The enclosed pixels count as a disc of the same area, which gives a smooth growth curve.
    growth = np.cumsum(model.ravel()[order]) / flux
    enclosed = np.sqrt(np.arange(1, radius.size + 1) / np.pi)
    return float(PIXEL_SCALE * np.interp(0.5, growth, enclosed))
