"""The survey behind `make_survey`: pointings, scenes, and what a telescope measures of them."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from skastro.simulation.profiles import PIXEL_SCALE, Canvas, blur, expose, make_canvas, transform
from skastro.simulation.sky import BRIGHTEST, CLASSES, ZERO_POINT, Source, draw_source
from skastro.simulation.spectra import BANDS

# Raise it with every change of the simulated numbers: the cache must not answer with old ones.
SIMULATION_VERSION = 3

FAINTEST = 22.8  # mag in i
_WORTH_PROCESSES = 500  # objects, before which starting processes takes longer than it saves
_CLASS_FRACTIONS = (0.30, 0.55, 0.15)
_N_FIELDS = 24
_FIELD_RADIUS = 1.75  # degrees, Rubin's field of view
_MIN_SNR = 3.0  # fainter is a non-detection
_MAG_FLOOR = 0.005  # mag, systematic: Ivezic et al. 2019

# Ivezic et al. 2019, ApJ 873, 111, table 2: one visit of 30 s, effective seeing in arcsec and the
# magnitude of a point source at 5 sigma.
_SEEING = np.array([0.92, 0.87, 0.83, 0.80, 0.78, 0.76])
_DEPTH = np.array([23.78, 24.81, 24.35, 23.92, 23.34, 22.45])
_GAMMA = 0.039  # equation 5: the sky's share of the 0.04 that five sigma mean


def choose_jobs(n_objects: int) -> int | None:
    """Return the ``n_jobs`` that simulates so many objects in the least time.

    Examples
    --------
    >>> choose_jobs(100), choose_jobs(10_000)
    (None, -1)
    """
    return -1 if n_objects >= _WORTH_PROCESSES else None


class _Scene(NamedTuple):
    kind: int  # index into CLASSES
    target: Source
    neighbours: list[Source]
    place: dict[str, float]  # ra, dec, field, ebv
    seeing: np.ndarray  # (6,) arcsec
    shear: np.ndarray  # (6, 2) of the PSF
    depth: np.ndarray  # (6,) mag
    centre: np.ndarray  # (2,) x and y of the target from the middle of the stamp, pixels
    slips: np.ndarray  # (2,) errors of size and redshift in units of their standard deviation


class Survey(NamedTuple):
    """What all objects of a survey share, and which kind and pointing each of them has."""

    seed: int
    bands: str
    image_size: int
    faintest: float
    fields: dict[str, np.ndarray]
    kinds: np.ndarray  # (n,) index into CLASSES
    pointings: np.ndarray  # (n,) index into the fields


def plan_survey(
    n_objects: int, bands: str, image_size: int, seed: int, *, faintest: float = FAINTEST
) -> Survey:
    """Draw what the objects of a survey share, and which kind and pointing each of them has.

    Parameters
    ----------
    n_objects : int
    bands : str
        Letters out of ``BANDS``, in the order of the stamps.
    image_size : int
        Height and width of a stamp in pixels.
    seed : int
        Of everything that is drawn, here and by `simulate_chunk`.
    faintest : float, default=22.8
        Magnitude in i that no object is fainter than.

    Returns
    -------
    survey : Survey
    """
    rng = np.random.default_rng(np.random.SeedSequence(seed))
    return Survey(
        seed=seed,
        bands=bands,
        image_size=image_size,
        faintest=faintest,
        fields=_draw_fields(rng),
        kinds=rng.choice(len(CLASSES), n_objects, p=_CLASS_FRACTIONS),
        pointings=rng.integers(_N_FIELDS, size=n_objects),
    )


def simulate_chunk(
    survey: Survey, rows: range
) -> tuple[np.ndarray, list[dict[str, Any]], list[dict[str, Any]]]:
    """Simulate some objects of a survey, each from a seed of its own.

    Parameters
    ----------
    survey : Survey
    rows : range
        Which of its objects: their stamps do not depend on the others.

    Returns
    -------
    stamps : float32 array of shape (rows, bands, height, width)
        Nanomaggies, sky-subtracted.
    measured, true : list of dict
        A row of the catalogue, and of the truth behind it, for each stamp.
    """
    results = [_simulate_object(survey, row) for row in rows]
    stamps, measured, true = zip(*results, strict=True)
    return np.stack(stamps), list(measured), list(true)


def _draw_fields(rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Draw the pointings: position, dust, and per band seeing, depth and PSF ellipticity."""
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
        # A slab of dust seen at the latitude b: the cosecant law.
        "ebv": 0.02 / np.abs(sin_b[keep]) * rng.lognormal(0, 0.3, _N_FIELDS),
        "seeing": _SEEING * rng.lognormal(0, 0.10, shape),
        "depth": _DEPTH + rng.normal(0, 0.1, shape),
        "shear": rng.normal(0, 0.015, (*shape, 2)),
    }


def _sin_galactic_latitude(ra: np.ndarray, dec: np.ndarray) -> np.ndarray:
    alpha, delta, pole = np.radians(ra - 192.859), np.radians(dec), np.radians(27.128)
    return np.sin(delta) * np.sin(pole) + np.cos(delta) * np.cos(pole) * np.cos(alpha)


def _simulate_object(survey: Survey, row: int) -> tuple[np.ndarray, dict[str, Any], dict[str, Any]]:
    """Simulate one stamp (n_bands, size, size), its catalogue row and its true row."""
    scene = _draw_scene(survey, row)
    drawn = _draw_parts(scene, survey.image_size)
    seen = {
        band: _observe(scene, drawn, number, _generator(survey.seed, row, number))
        for number, band in ((BANDS.index(band), band) for band in survey.bands)
    }
    target = scene.target
    best = max(seen.values(), key=lambda band: band["snr"])
    size_error = scene.slips[0] / best["snr"] if best["snr"] >= _MIN_SNR else np.nan
    measured = {"id": scene.place["field"] * 1_000_000 + row, "class": CLASSES[scene.kind]}
    measured |= {"morphology": target.morphology, "merging": target.merging}
    measured |= scene.place
    measured |= {f"mag_{name}": band["mag"] for name, band in seen.items()}
    measured |= {f"err_{name}": band["err"] for name, band in seen.items()}
    measured["size"] = best["size"] * (1 + size_error)
    measured["redshift"] = target.redshift + 5e-4 * (1 + target.redshift) * scene.slips[1]
    true = {"id": measured["id"], "size": best["size"], "n_neighbours": len(scene.neighbours)}
    for key in ("mag", "fwhm", "sky"):
        true |= {f"{key}_{name}": band[f"true_{key}"] for name, band in seen.items()}
    return np.stack([band["pixels"] for band in seen.values()]), measured, true


def _generator(seed: int, *key: int) -> np.random.Generator:
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=key))


def _draw_scene(survey: Survey, row: int) -> _Scene:
    """Draw what is in the sky behind a stamp, and what the atmosphere does to it."""
    rng = _generator(survey.seed, row)
    kind, field = int(survey.kinds[row]), int(survey.pointings[row])
    pointing = {key: values[field] for key, values in survey.fields.items()}
    ebv = pointing["ebv"] * rng.lognormal(0, 0.1)
    radius, angle = _FIELD_RADIUS * np.sqrt(rng.random()), rng.uniform(0, 2 * np.pi)
    dec = pointing["dec"] + radius * np.sin(angle)
    ra = (pointing["ra"] + radius * np.cos(angle) / np.cos(np.radians(dec))) % 360
    target = draw_source(kind, (BRIGHTEST, survey.faintest), ebv, rng)
    return _Scene(
        kind=kind,
        target=target,
        place={"ra": ra, "dec": dec, "field": field, "ebv": ebv},
        seeing=pointing["seeing"] * rng.lognormal(0, 0.02),
        shear=pointing["shear"] + rng.normal(0, 0.005, pointing["shear"].shape),
        depth=pointing["depth"],
        centre=rng.uniform(-0.5, 0.5, 2),  # a stamp is cut at the nearest whole pixel
        slips=rng.normal(size=2),
        # Last, because the number of these draws depends on the size of the stamp.
        neighbours=_draw_neighbours(survey.image_size, ebv, rng),
    )


def _draw_neighbours(size: int, ebv: float, rng: np.random.Generator) -> list[Source]:
    """Draw what else falls on the stamp: galaxies to i = 24, and a few stars."""
    side = size * PIXEL_SCALE + 2  # the light of those just outside comes in
    # LSST Science Book, section 3.7: 42.9 * 10^(0.359 (i - 25)) galaxies per square arcmin.
    per_arcmin2 = np.array([1.5, 42.9 * 10 ** (0.359 * (24 - 25))])
    found = []
    for kind, number in enumerate(rng.poisson(per_arcmin2 * (side / 60) ** 2)):
        for _ in range(number):
            source = draw_source(kind, (18.0, 24.0), ebv, rng)
            found.append(source.moved(*rng.uniform(-side / 2, side / 2, 2)))
    return found


class _Drawn(NamedTuple):
    """The transforms of a scene's components, which all bands share."""

    canvas: Canvas
    target: list[np.ndarray]
    neighbours: list[np.ndarray]


def _draw_parts(scene: _Scene, size: int) -> _Drawn:
    around = [part for source in scene.neighbours for part in source.parts]
    canvas = make_canvas([*scene.target.parts, *around], size, scene.centre)
    target = [transform(part, canvas) for part in scene.target.parts]
    return _Drawn(canvas, target, [transform(part, canvas) for part in around])


def _observe(scene: _Scene, drawn: _Drawn, band: int, rng: np.random.Generator) -> dict[str, Any]:
    """Expose a scene in one band; measure the target on the pixels."""
    # Ivezic et al. 2019: the geometric width of the effective seeing.
    seeing = blur(0.822 * scene.seeing[band] + 0.052, scene.shear[band], drawn.canvas)
    fluxes = [part.flux[band] for part in scene.target.parts]
    around = [part.flux[band] for source in scene.neighbours for part in source.parts]
    model = expose(drawn.target, fluxes, seeing, drawn.canvas)
    others = expose(drawn.neighbours, around, seeing, drawn.canvas)
    flux = sum(fluxes)
    limit = 10 ** (0.4 * (ZERO_POINT - scene.depth[band]))
    # Ivezic et al. 2019, equation 5 multiplied out: var = (0.04 - gamma) f5 f + gamma f5^2. The
    # first term is the source's own photons, the second the sky within an aperture of n_eff pixels.
    gain = 1 / ((0.04 - _GAMMA) * limit)
    n_eff = 2.266 * (_SEEING[band] / PIXEL_SCALE) ** 2
    sky = _GAMMA * limit**2 / n_eff
    expected = np.clip(model + others + sky * gain, 0, None)  # an FFT may ring below zero
    pixels = rng.poisson(gain * expected) / gain - sky * gain
    fitted, error = _fit_profile(model / flux, pixels - others, expected / gain)
    slip = _MAG_FLOOR * rng.normal()
    seen = fitted >= _MIN_SNR * error
    return {
        "pixels": pixels.astype(np.float32),
        "snr": fitted / error,
        "mag": ZERO_POINT - 2.5 * np.log10(fitted) + slip if seen else np.nan,
        "err": np.hypot(2.5 / np.log(10) * error / fitted, _MAG_FLOOR) if seen else np.nan,
        "size": _half_light_radius(model, flux, scene.centre),
        "true_mag": ZERO_POINT - 2.5 * np.log10(flux),
        "true_fwhm": scene.seeing[band],
        "true_sky": np.sqrt(sky),
    }


def _fit_profile(
    profile: np.ndarray, pixels: np.ndarray, variance: np.ndarray
) -> tuple[float, float]:
    """Fit the flux, and its error, of a known profile to pixels without neighbours."""
    power = np.sum(profile**2)
    return np.sum(profile * pixels) / power, np.sqrt(np.sum(profile**2 * variance)) / power


def _half_light_radius(model: np.ndarray, flux: float, centre: np.ndarray) -> float:
    """Radius in arcsec that holds half of `flux`, from the pixels around `centre`."""
    axis = np.arange(len(model)) - (len(model) - 1) / 2
    radius = np.hypot(axis[np.newaxis, :] - centre[0], axis[:, np.newaxis] - centre[1]).ravel()
    order = np.argsort(radius, kind="stable")
    # The area of a pixel counts, not its place in the order: a growth curve free of steps.
    growth = np.cumsum(model.ravel()[order]) / flux
    enclosed = np.sqrt(np.arange(1, radius.size + 1) / np.pi)
    return float(PIXEL_SCALE * np.interp(0.5, growth, enclosed))
