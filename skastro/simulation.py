"""The sky behind `make_survey`: spectra, populations, and what a telescope measures of them."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from skastro._optional import import_optional

# Raise it with every change of the simulated numbers: the cache must not answer with old ones.
SIMULATION_VERSION = 1

ZERO_POINT = 22.5  # AB magnitude of one nanomaggy
PIXEL_SCALE = 0.3  # arcsec: 32 pixels hold a galaxy of i = 18 and its sky
CLASSES = ("star", "galaxy", "quasar")
_CLASS_FRACTIONS = (0.30, 0.55, 0.15)
_COUNT_SLOPES = (0.15, 0.35, 0.30)  # dex per mag: number counts rise as 10^(slope i)
_I_RANGE = (17.5, 22.8)
_N_FIELDS = 24
_FIELD_RADIUS = 1.75  # degrees, Rubin's field of view
_MIN_SNR = 3.0  # fainter is a non-detection
_MAG_FLOOR = 0.005  # mag, systematic: Ivezic et al. 2019

BANDS = "ugrizy"
# Ivezic et al. 2019, ApJ 873, 111, table 2: one visit of 30 s, effective seeing in arcsec and the
# magnitude of a point source at 5 sigma.
_SEEING = np.array([0.92, 0.87, 0.83, 0.80, 0.78, 0.76])
_DEPTH = np.array([23.78, 24.81, 24.35, 23.92, 23.34, 22.45])
_GAMMA = 0.039  # equation 5: the sky's share of the 0.04 that five sigma mean
# A_band / E(B-V) in the LSST bands for R_V = 3.1, as rubin_sim has them.
_EXTINCTION = np.array([4.757, 3.661, 2.701, 2.054, 1.590, 1.308])
# Covey et al. 2007, AJ 134, 2398: the stellar locus, u-g, g-r, r-i and i-z as polynomials in g-i.
_LOCUS = np.array(
    [
        [1.0636113, -1.6267818, 4.9389572, -3.2809081, 0.8725109, -0.0828035],
        [0.4290263, -0.8852323, 2.0740616, -1.1091553, 0.2397461, -0.0183195],
        [-0.4113500, 1.8229991, -1.9989772, 1.0662075, -0.2284455, 0.0172212],
        [-0.2270331, 0.7794558, -0.7350749, 0.3727802, -0.0735412, 0.0049808],
    ]
)
# Vanden Berk et al. 2001, AJ 122, 549, table 2: rest wavelength in nm, equivalent width in nm and
# width in nm of Ly-alpha, C IV, C III], Mg II, H-beta and H-alpha.
_QUASAR_LINES = np.array(
    [
        [121.6, 9.3, 1.9],
        [154.9, 2.4, 1.4],
        [190.9, 2.1, 2.4],
        [279.8, 3.2, 3.5],
        [486.1, 4.6, 4.0],
        [656.3, 19.5, 4.7],
    ]
)
_SED_FILES = ("CWW_E_ext.sed", "CWW_Sbc_ext.sed", "CWW_Scd_ext.sed", "CWW_Im_ext.sed")


class _Component(NamedTuple):
    flux: np.ndarray  # (6,) nanomaggies in ugrizy
    radius: float = 0.0  # half-light radius in arcsec; 0 is a point
    index: float = 1.0
    axis_ratio: float = 1.0
    angle: float = 0.0  # degrees
    offset: tuple[float, float] = (0.0, 0.0)  # arcsec from the target


class _Scene(NamedTuple):
    kind: int  # index into CLASSES
    redshift: float  # NaN for stars
    target: list[_Component]
    neighbours: list[_Component]
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
    fields: dict[str, np.ndarray]
    kinds: np.ndarray  # (n,) index into CLASSES
    pointings: np.ndarray  # (n,) index into the fields


def plan_survey(n_objects: int, bands: str, image_size: int, seed: int) -> Survey:
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

    Returns
    -------
    survey : Survey
    """
    rng = np.random.default_rng(np.random.SeedSequence(seed))
    return Survey(
        seed=seed,
        bands=bands,
        image_size=image_size,
        fields=_draw_fields(rng),
        kinds=rng.choice(len(CLASSES), n_objects, p=_CLASS_FRACTIONS),
        pointings=rng.integers(_N_FIELDS, size=n_objects),
    )


def simulate_chunk(survey: Survey, rows: range) -> tuple[np.ndarray, list[dict], list[dict]]:
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


def _simulate_object(survey: Survey, row: int) -> tuple[np.ndarray, dict, dict]:
    """Simulate one stamp (n_bands, size, size), its catalogue row and its true row."""
    scene = _draw_scene(survey, row)
    seen = {
        band: _observe(scene, BANDS.index(band), survey.image_size, _generator(survey.seed, row, b))
        for b, band in ((BANDS.index(band), band) for band in survey.bands)
    }
    best = max(seen.values(), key=lambda band: band["snr"])
    size_error = scene.slips[0] / best["snr"] if best["snr"] >= _MIN_SNR else np.nan
    measured = {"id": scene.place["field"] * 1_000_000 + row, "class": CLASSES[scene.kind]}
    measured |= scene.place
    measured |= {f"mag_{name}": band["mag"] for name, band in seen.items()}
    measured |= {f"err_{name}": band["err"] for name, band in seen.items()}
    measured["size"] = best["size"] * (1 + size_error)
    measured["redshift"] = scene.redshift + 5e-4 * (1 + scene.redshift) * scene.slips[1]
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
    target, redshift = _draw_source(
        kind, _draw_magnitude(_COUNT_SLOPES[kind], _I_RANGE, rng), ebv, rng
    )
    return _Scene(
        kind=kind,
        redshift=redshift,
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


def _draw_magnitude(slope: float, limits: tuple[float, float], rng: np.random.Generator) -> float:
    """Draw from number counts that rise as 10^(slope mag) between two magnitudes."""
    low, high = 10 ** (slope * np.array(limits))
    return float(np.log10(rng.uniform(low, high)) / slope)


def _draw_source(
    kind: int, i_mag: float, ebv: float, rng: np.random.Generator
) -> tuple[list[_Component], float]:
    """Draw a star, galaxy or quasar of the observed magnitude `i_mag`; also its redshift."""
    draw = (_draw_star, _draw_galaxy, _draw_quasar)[kind]
    components, redshift = draw(i_mag, rng)
    # What no spectrum here tells: metallicity, dust and age, above all in the ultraviolet.
    scatter = rng.normal(0, [0.10, 0.04, 0.03, 0.03, 0.03, 0.03])
    i_band = BANDS.index("i")
    dimming = scatter - scatter[i_band] + ebv * (_EXTINCTION - _EXTINCTION[i_band])
    brightness = 10 ** (0.4 * (ZERO_POINT - i_mag - dimming))
    return [part._replace(flux=part.flux * brightness) for part in components], redshift


def _draw_star(i_mag: float, rng: np.random.Generator) -> tuple[list[_Component], float]:  # noqa: ARG001
    if rng.random() < 0.04:  # white dwarfs: the blackbodies among the stars
        return [_Component(_fluxes(_blackbody(rng.uniform(7e3, 2.5e4))))], np.nan
    # Turn-off stars of the halo and M dwarfs of the disc make two humps.
    g_i = rng.normal(0.75, 0.3) if rng.random() < 0.5 else rng.normal(2.3, 0.6)
    u_g, g_r, r_i, i_z = np.polynomial.polynomial.polyval(np.clip(g_i, 0.1, 4.3), _LOCUS.T)
    z_y = 0.5 * i_z
    mags = np.array([u_g + g_r + r_i, g_r + r_i, r_i, 0.0, -i_z, -i_z - z_y])
    return [_Component(10 ** (-0.4 * mags))], np.nan


def _draw_galaxy(i_mag: float, rng: np.random.Generator) -> tuple[list[_Component], float]:
    # LSST Science Book, section 3.7: n(z) ~ z^2 exp(-z / z0), with a floor for bright galaxies.
    z = float(np.clip(rng.gamma(3, max(0.0417 * i_mag - 0.744, 0.03)), 0.01, 1.5))
    radius = float(np.clip(10 ** rng.normal(-0.12 * (i_mag - 20), 0.2), 0.1, 3))
    angle = rng.uniform(0, 180)
    if rng.random() < 0.35:
        # Indices stand on a grid: GalSim tabulates each new one, which costs more than the drawing.
        index, ratio = rng.choice([2.5, 3.0, 3.5, 4.0]), rng.uniform(0.5, 1)
        flux = _fluxes(_galaxy_spectrum(rng.uniform(0, 0.5), z))
        return [_Component(flux, radius, index, ratio, angle)], z
    kind, ratio = rng.uniform(0.8, 3), rng.uniform(0.2, 1)
    bulge = rng.beta(1.5, 6) if kind < 2.5 else 0.0  # late irregulars have none
    flux = _fluxes(_galaxy_spectrum(kind, z))
    parts = [_Component((1 - bulge) * flux, radius, 1.0, ratio, angle)]
    if bulge > 0.02:
        red, index = _fluxes(_galaxy_spectrum(0, z)), rng.choice([2.0, 3.0])
        parts.append(_Component(bulge * red, 0.35 * radius, index, 0.5 + 0.5 * ratio, angle))
    return parts, z


def _draw_quasar(i_mag: float, rng: np.random.Generator) -> tuple[list[_Component], float]:
    z = float(np.clip(0.3 + rng.gamma(2.8, 0.6), 0.3, 5))
    host = 0.5 * rng.random() * np.exp(-z / 0.5)  # share of the light in i
    # Vanden Berk et al. 2001 find a slope of -0.44; the tail is dust of the quasar's own.
    slope = rng.normal(-0.45, 0.25) - rng.exponential(0.25)
    parts = [_Component((1 - host) * _fluxes(_quasar_spectrum(z, slope, rng.lognormal(0, 0.3, 6))))]
    if host > 0.02:
        radius = float(np.clip(10 ** rng.normal(-0.12 * (i_mag - 19), 0.2), 0.2, 2))
        flux = host * _fluxes(_galaxy_spectrum(rng.uniform(0, 1.5), z))
        shape = (radius, 2.5, rng.uniform(0.5, 1), rng.uniform(0, 180))
        parts.append(_Component(flux, *shape))
    return parts, z


def _draw_neighbours(size: int, ebv: float, rng: np.random.Generator) -> list[_Component]:
    """Draw what else falls on the stamp: galaxies to i = 24, and a few stars."""
    side = size * PIXEL_SCALE + 2  # the light of those just outside comes in
    # LSST Science Book, section 3.7: 42.9 * 10^(0.359 (i - 25)) galaxies per square arcmin.
    per_arcmin2 = np.array([1.5, 42.9 * 10 ** (0.359 * (24 - 25))])
    found = []
    for kind, number in enumerate(rng.poisson(per_arcmin2 * (side / 60) ** 2)):
        for _ in range(number):
            i_mag = _draw_magnitude(_COUNT_SLOPES[kind], (18.0, 24.0), rng)
            source, _ = _draw_source(kind, i_mag, ebv, rng)
            offset = tuple(rng.uniform(-side / 2, side / 2, 2))
            found += [part._replace(offset=offset) for part in source]
    return found


@lru_cache(maxsize=1)
def _bandpasses() -> tuple[np.ndarray, np.ndarray]:
    """Wavelengths in nm (m,) and the weights (6, m) that make f_lambda a flux in each band."""
    waves = np.arange(300.0, 1101.0)
    weights = []
    for band in BANDS:
        through = np.interp(waves, *_share("bandpasses", f"LSST_{band}.dat"), left=0, right=0)
        # Photons counted, over those of a flat f_nu: the definition of an AB magnitude.
        weights.append(waves * through / np.sum(through / waves))
    return waves, np.array(weights)


@lru_cache(maxsize=16)
def _share(*path: str) -> tuple[np.ndarray, np.ndarray]:
    """Read two columns of a file that GalSim ships."""
    galsim = import_optional("galsim", extra="sim", needed_by="make_survey")
    first, second = np.loadtxt(Path(galsim.meta_data.share_dir, *path), unpack=True)
    return first, second


def _fluxes(spectrum: np.ndarray) -> np.ndarray:
    """Flux (6,) in ugrizy of a spectrum f_lambda on the grid of `_bandpasses`; one in i."""
    fluxes = _bandpasses()[1] @ spectrum
    return fluxes / fluxes[BANDS.index("i")]


def _blackbody(temperature: float) -> np.ndarray:
    waves = _bandpasses()[0]
    return waves**-5 / np.expm1(1.4387769e7 / (waves * temperature))


def _galaxy_spectrum(kind: float, z: float) -> np.ndarray:
    """Spectrum between the types E = 0, Sbc = 1, Scd = 2 and Im = 3 at a redshift."""
    rest = 10 * _bandpasses()[0] / (1 + z)  # the files are in angstrom
    first = min(int(kind), len(_SED_FILES) - 2)
    pair = []
    for name in _SED_FILES[first : first + 2]:
        waves, flux = _share("SEDs", name)
        pair.append(np.interp(rest, waves, flux) / np.interp(5500.0, waves, flux))
    return (first + 1 - kind) * pair[0] + (kind - first) * pair[1]


def _quasar_spectrum(z: float, slope: float, strengths: np.ndarray) -> np.ndarray:
    """Power law f_nu ~ nu^slope with broad lines, absorbed between the quasar and us."""
    waves = _bandpasses()[0]
    rest = waves / (1 + z)
    centres, widths, sigmas = _QUASAR_LINES.T[:, :, np.newaxis]
    profiles = np.exp(-0.5 * ((rest - centres) / sigmas) ** 2) / (np.sqrt(2 * np.pi) * sigmas)
    lines = np.sum(strengths[:, np.newaxis] * widths * profiles, axis=0)
    # Becker et al. 2013, MNRAS 430, 2067, equation 5: the mean opacity of Ly-alpha.
    tau = 0.751 * np.clip((waves / 121.567) / 4.5, 0, None) ** 2.90 - 0.132
    tau = np.where(rest < 121.567, np.clip(tau, 0, None), 0.0)
    # The higher Lyman lines add about a half; beyond the limit the hydrogen is ionised.
    tau = np.where(rest < 102.6, 1.5, 1.0) * tau + _lyman_continuum(waves / 91.2, 1 + z)
    return rest ** (-2 - slope) * (1 + lines) * np.exp(-tau)


def _lyman_continuum(x: np.ndarray, x_source: float) -> np.ndarray:
    """Opacity at 91.2 x nm before a source at 1 + z = x_source; Madau 1995, ApJ 441, 18, note 3."""
    x = np.clip(x, 1.0, x_source)  # zero from the limit of the source on, where x = x_source
    return (
        0.25 * x**3 * (x_source**0.46 - x**0.46)
        + 9.4 * x**1.5 * (x_source**0.18 - x**0.18)
        - 0.7 * x**3 * (x**-1.32 - x_source**-1.32)
        - 0.023 * (x_source**1.68 - x**1.68)
    )


def _observe(scene: _Scene, band: int, size: int, rng: np.random.Generator) -> dict[str, Any]:
    """Expose a scene in one band; measure the target on the pixels."""
    model = _draw_pixels(scene.target, scene, band, size)
    others = _draw_pixels(scene.neighbours, scene, band, size)
    flux = sum(part.flux[band] for part in scene.target)
    limit = 10 ** (0.4 * (ZERO_POINT - scene.depth[band]))
    # Ivezic et al. 2019, equation 5 multiplied out: var = (0.04 - gamma) f5 f + gamma f5^2. The
    # first term is the source's own photons, the second the sky within an aperture of n_eff pixels.
    gain = 1 / ((0.04 - _GAMMA) * limit)
    n_eff = 2.266 * (_SEEING[band] / PIXEL_SCALE) ** 2
    sky = _GAMMA * limit**2 / n_eff
    expected = np.clip(model + others + sky * gain, 0, None)  # an FFT may ring below zero
    pixels = rng.poisson(gain * expected) / gain - sky * gain

    # A fit of the true profile to the pixels, the neighbours perfectly taken away.
    profile = model / flux
    power = np.sum(profile**2)
    fitted = np.sum(profile * (pixels - others)) / power
    error = np.sqrt(np.sum(profile**2 * expected / gain)) / power
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


def _draw_pixels(parts: list[_Component], scene: _Scene, band: int, size: int) -> np.ndarray:
    """Draw sources through the seeing of a band without noise: (size, size) in nanomaggies."""
    if not parts:
        return np.zeros((size, size))
    galsim = import_optional("galsim", extra="sim", needed_by="make_survey")
    # Coarser than GalSim's own choice; measured against 1e-3, the pixels agree to 1e-4.
    accuracy = galsim.GSParams(folding_threshold=1e-2, maxk_threshold=2e-3)
    seeing = 0.822 * scene.seeing[band] + 0.052  # Ivezic et al. 2019: the geometric FWHM
    psf = galsim.Kolmogorov(fwhm=seeing, gsparams=accuracy)
    psf = psf.shear(g1=scene.shear[band, 0], g2=scene.shear[band, 1])
    profiles = []
    for part in parts:
        profile = galsim.DeltaFunction(flux=part.flux[band])
        if part.radius > 0:
            # Cut at 8 radii: the far wings of de Vaucouleurs take 4 times longer to draw.
            profile = galsim.Sersic(
                part.index, part.radius, flux=part.flux[band], trunc=8 * part.radius
            )
            profile = profile.shear(q=part.axis_ratio, beta=part.angle * galsim.degrees)
        profiles.append(profile.shift(*part.offset))
    scene_profile = galsim.Convolve(galsim.Add(profiles), psf, gsparams=accuracy)
    image = scene_profile.drawImage(
        nx=size, ny=size, scale=PIXEL_SCALE, offset=tuple(scene.centre), dtype=float
    )
    return image.array


def _half_light_radius(model: np.ndarray, flux: float, centre: np.ndarray) -> float:
    """Radius in arcsec that holds half of `flux`, from the pixels around `centre`."""
    axis = np.arange(len(model)) - (len(model) - 1) / 2
    radius = np.hypot(axis[np.newaxis, :] - centre[0], axis[:, np.newaxis] - centre[1]).ravel()
    order = np.argsort(radius, kind="stable")
    # The area of a pixel counts, not its place in the order: a growth curve free of steps.
    growth = np.cumsum(model.ravel()[order]) / flux
    enclosed = np.sqrt(np.arange(1, radius.size + 1) / np.pi)
    return float(PIXEL_SCALE * np.interp(0.5, growth, enclosed))
