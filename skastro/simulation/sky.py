"""The objects of the simulated sky: stars, galaxies of all shapes, mergers and quasars.

Their fluxes in the LSST bands come from their spectra.
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np

from skastro.simulation.profiles import Component
from skastro.utils.packages import import_optional

BANDS = "ugrizy"
ZERO_POINT = 22.5  # AB magnitude of one nanomaggy
CLASSES = ("star", "galaxy", "quasar")
MORPHOLOGIES = ("elliptical", "lenticular", "spiral", "irregular")
BRIGHTEST = 17.5  # mag in i

_COUNT_SLOPES = (0.15, 0.35, 0.30)  # dex per mag: number counts rise as 10^(slope i)
_MORPHOLOGY_FRACTIONS = (0.20, 0.15, 0.48, 0.17)
_MERGING_FRACTION = 0.12  # of galaxies: more than in the real sky, enough to learn from
_MIN_LIGHT_SHARE = 0.02  # a fainter part of an object would change nothing
_N_ARM_KNOTS = 30
_N_CLUMPS = 9
_N_TAIL_KNOTS = 16

# A_band / E(B-V) in the LSST bands for R_V = 3.1, the values of rubin_sim.
_EXTINCTION = np.array([4.757, 3.661, 2.701, 2.054, 1.590, 1.308])
# Covey et al. 2007, AJ 134, 2398: the stellar locus, u-g, g-r, r-i and i-z as polynomials in g-i.
_STELLAR_LOCUS = (
    (1.0636113, -1.6267818, 4.9389572, -3.2809081, 0.8725109, -0.0828035),
    (0.4290263, -0.8852323, 2.0740616, -1.1091553, 0.2397461, -0.0183195),
    (-0.4113500, 1.8229991, -1.9989772, 1.0662075, -0.2284455, 0.0172212),
    (-0.2270331, 0.7794558, -0.7350749, 0.3727802, -0.0735412, 0.0049808),
)
# Vanden Berk et al. 2001, AJ 122, 549, table 2: Ly-alpha, C IV, C III], Mg II, H-beta and H-alpha.
_QUASAR_LINES = (
    (121.6, 154.9, 190.9, 279.8, 486.1, 656.3),  # rest wavelength in nm
    (9.3, 2.4, 2.1, 3.2, 4.6, 19.5),  # equivalent width in nm
    (1.9, 1.4, 2.4, 3.5, 4.0, 4.7),  # width in nm
)
# Coleman, Wu & Weedman 1980, ApJS 43, 393, as GalSim ships them.
_SED_FILES = ("CWW_E_ext.sed", "CWW_Sbc_ext.sed", "CWW_Scd_ext.sed", "CWW_Im_ext.sed")


class SkyObject(NamedTuple):
    """A star, galaxy or quasar."""

    parts: list[Component]
    redshift: float = np.nan
    morphology: str = ""  # of galaxies, one of MORPHOLOGIES
    merging: bool = False

    def moved(self, x: float, y: float) -> SkyObject:
        """Return the same object moved by `x` and `y` in arcsec."""
        parts = [
            part._replace(offset=(part.offset[0] + x, part.offset[1] + y)) for part in self.parts
        ]
        return self._replace(parts=parts)

    def dimmed(self, factor: float | np.ndarray) -> SkyObject:
        """Return the same object with its fluxes multiplied by a factor, or by one per band."""
        return self._replace(parts=[part._replace(flux=part.flux * factor) for part in self.parts])


def draw_object(
    kind: int, limits: tuple[float, float], ebv: float, rng: np.random.Generator
) -> SkyObject:
    """Draw a star, galaxy or quasar, with fluxes in nanomaggies.

    ``kind`` is an index into ``CLASSES``, ``limits`` are the brightest and faintest i magnitude,
    extinction included, ``ebv`` is the reddening E(B-V) in mag between the object and us.
    """
    # Number counts rise as 10^(slope mag) between the two magnitudes.
    slope = _COUNT_SLOPES[kind]
    low, high = 10 ** (slope * np.array(limits))
    i_mag = float(np.log10(rng.uniform(low, high)) / slope)
    sky_object = (_draw_star, _draw_galaxy, _draw_quasar)[kind](i_mag, rng)
    # The scatter stands for metallicity, dust and age, which matter most in the ultraviolet.
    scatter = rng.normal(0, [0.10, 0.04, 0.03, 0.03, 0.03, 0.03])
    i_band = BANDS.index("i")
    dimming = scatter - scatter[i_band] + ebv * (_EXTINCTION - _EXTINCTION[i_band])
    return sky_object.dimmed(10 ** (0.4 * (ZERO_POINT - i_mag - dimming)))


def _keep_visible(share: float) -> float:
    return share if share > _MIN_LIGHT_SHARE else 0.0


def _draw_star(i_mag: float, rng: np.random.Generator) -> SkyObject:  # noqa: ARG001
    if rng.random() < 0.04:  # white dwarfs: the blackbodies among the stars
        return SkyObject([Component(_blackbody_fluxes(rng.uniform(7e3, 2.5e4)))])
    # Turn-off stars of the halo and M dwarfs of the disc make two humps.
    g_i = rng.normal(0.75, 0.3) if rng.random() < 0.5 else rng.normal(2.3, 0.6)
    return SkyObject([Component(_stellar_fluxes(np.clip(g_i, 0.1, 4.3)))])


def _draw_quasar(i_mag: float, rng: np.random.Generator) -> SkyObject:
    z = float(np.clip(0.3 + rng.gamma(2.8, 0.6), 0.3, 5))
    host = _keep_visible(0.5 * rng.random() * np.exp(-z / 0.5))  # share of the light in i
    # Vanden Berk et al. 2001 find a slope of -0.44; the tail is reddening by dust in the quasar.
    slope = rng.normal(-0.45, 0.25) - rng.exponential(0.25)
    parts = [Component((1 - host) * _quasar_fluxes(z, slope, rng.lognormal(0, 0.3, 6)))]
    if host:
        radius = float(np.clip(10 ** rng.normal(-0.12 * (i_mag - 19), 0.2), 0.2, 2))
        flux = host * _galaxy_fluxes(rng.uniform(0, 1.5), z)
        parts.append(Component(flux, radius, 2.5, rng.uniform(0.5, 1), rng.uniform(0, 180)))
    return SkyObject(parts, z)


def _draw_galaxy(i_mag: float, rng: np.random.Generator) -> SkyObject:
    # LSST Science Book, section 3.7: n(z) ~ z^2 exp(-z / z0), with a floor for bright galaxies.
    z = float(np.clip(rng.gamma(3, max(0.0417 * i_mag - 0.744, 0.03)), 0.01, 1.5))
    if rng.random() < _MERGING_FRACTION:
        return _draw_merger(i_mag, z, rng)
    return _draw_shape(i_mag, z, rng)[0]


def _draw_shape(i_mag: float, z: float, rng: np.random.Generator) -> tuple[SkyObject, float]:
    """Draw a galaxy (of flux one in i) that is not merging, and its radius in arcsec."""
    radius = float(np.clip(10 ** rng.normal(-0.12 * (i_mag - 20), 0.2), 0.1, 3))
    number = rng.choice(len(MORPHOLOGIES), p=_MORPHOLOGY_FRACTIONS)
    draw_parts = (_draw_elliptical, _draw_lenticular, _draw_spiral, _draw_irregular)[number]
    return SkyObject(draw_parts(radius, z, rng), z, MORPHOLOGIES[number]), radius


def _draw_elliptical(radius: float, z: float, rng: np.random.Generator) -> list[Component]:
    """Draw the profile of de Vaucouleurs 1948, which is Sersic's of index 4."""
    flux = _galaxy_fluxes(rng.uniform(0, 0.5), z)
    return [Component(flux, radius, 4.0, rng.uniform(0.5, 1), rng.uniform(0, 180))]


def _draw_lenticular(radius: float, z: float, rng: np.random.Generator) -> list[Component]:
    """Draw a disc without arms, and a large bulge."""
    flux, bulge = _galaxy_fluxes(rng.uniform(0, 0.6), z), rng.uniform(0.35, 0.65)
    ratio, angle = rng.uniform(0.2, 1), rng.uniform(0, 180)
    return [
        Component((1 - bulge) * flux, radius, 1.0, ratio, angle),
        Component(bulge * flux, 0.4 * radius, 3.0, 0.5 + 0.5 * ratio, angle),
    ]


def _draw_spiral(radius: float, z: float, rng: np.random.Generator) -> list[Component]:
    """Draw a disc, two arms that are bluer than the disc, and a red bulge."""
    kind, ratio, angle = rng.uniform(0.6, 2.2), rng.uniform(0.2, 1), rng.uniform(0, 180)
    bulge, arms = _keep_visible(rng.beta(1.5, 6)), rng.uniform(0.4, 0.6)
    knots = _incline(_draw_arms(kind, rng) * [radius, radius, radius, 1], ratio, angle)
    parts = [
        Component((1 - bulge) * (1 - arms) * _galaxy_fluxes(kind, z), radius, 1.0, ratio, angle),
        Component((1 - bulge) * arms * _galaxy_fluxes(min(kind + 0.7, 3), z), knots=knots),
    ]
    if bulge:
        red, index = bulge * _galaxy_fluxes(0, z), rng.choice([2.0, 3.0])
        parts.append(Component(red, 0.35 * radius, index, 0.5 + 0.5 * ratio, angle))
    return parts


def _draw_arms(kind: float, rng: np.random.Generator) -> np.ndarray:
    """Draw knots (k, 4) along two logarithmic spirals, seen face-on, in half-light radii."""
    # Kennicutt 1981, AJ 86, 1847: pitch angles grow from Sa to Sc, with much scatter.
    pitch = np.radians(rng.uniform(12, 22) + 7 * (kind - 0.6))
    sense, start = rng.choice([-1, 1]), rng.uniform(0, np.pi)
    # Steps of equal length along r = r_0 exp(theta tan(pitch)).
    radii = np.tile(np.linspace(0.45, 2.6, _N_ARM_KNOTS), 2)
    arm = np.repeat([0, np.pi], _N_ARM_KNOTS)
    theta = start + arm + sense * np.log(radii / radii[0]) / np.tan(pitch)
    x, y = radii * [np.cos(theta), np.sin(theta)] + rng.normal(0, 0.04, (2, radii.size))
    # An exponential disc, whose scale length is its half-light radius / 1.678.
    share = np.exp(-1.678 * radii) * radii * rng.lognormal(0, 0.4, radii.size)
    return np.column_stack([x, y, 0.10 + 0.05 * radii, share / share.sum()])


def _incline(knots: np.ndarray, ratio: float, angle: float) -> np.ndarray:
    """Tilt knots (k, 4) with the disc they lie in; the area of the ellipse stays."""
    x, y, sigma, share = knots.T
    x, y, sigma = x / np.sqrt(ratio), y * np.sqrt(ratio), sigma * np.sqrt(ratio)
    cos, sin = np.cos(np.radians(angle)), np.sin(np.radians(angle))
    return np.column_stack([cos * x - sin * y, sin * x + cos * y, sigma, share])


def _draw_irregular(radius: float, z: float, rng: np.random.Generator) -> list[Component]:
    """Draw a disc, and regions of young stars to one side of its centre."""
    ratio, angle = rng.uniform(0.4, 1), rng.uniform(0, 180)
    young, side = rng.uniform(0.4, 0.65), rng.uniform(0, 2 * np.pi)
    middle = rng.uniform(0.3, 0.8) * np.array([np.cos(side), np.sin(side)])
    places = radius * (middle + rng.normal(0, 0.6, (_N_CLUMPS, 2)))
    share = rng.lognormal(0, 0.6, _N_CLUMPS)
    sigma = radius * rng.uniform(0.12, 0.3, _N_CLUMPS)
    knots = np.column_stack([places, sigma, share / share.sum()])
    disc = _galaxy_fluxes(rng.uniform(2.3, 3), z)
    return [
        Component((1 - young) * disc, radius, 1.0, ratio, angle),
        Component(young * _galaxy_fluxes(3, z), knots=knots),
    ]


def _draw_merger(i_mag: float, z: float, rng: np.random.Generator) -> SkyObject:
    """Draw two galaxies that overlap, a bridge between them and a tail behind each."""
    ratio = 10 ** rng.uniform(np.log10(0.25), 0)  # light of the companion / light of the galaxy
    tidal = rng.uniform(0.15, 0.30)  # share of the light in bridge and tails
    mags = i_mag + 2.5 * np.log10([1 + ratio, 1 + 1 / ratio])
    galaxy, radius = _draw_shape(mags[0], z, rng)
    # The velocities differ by a few hundred km/s, too little to change a colour: one redshift.
    companion, companion_radius = _draw_shape(mags[1], z, rng)
    angle, distance = rng.uniform(0, 2 * np.pi), radius * rng.uniform(1, 2.5)
    knots = _draw_tails(distance, radius, min(companion_radius, 1.5 * radius), rng)
    light = tidal * _galaxy_fluxes(rng.uniform(0.8, 2), z)
    companion = companion.moved(distance * np.cos(angle), distance * np.sin(angle))
    parts = [
        *galaxy.dimmed((1 - tidal) / (1 + ratio)).parts,
        *companion.dimmed((1 - tidal) * ratio / (1 + ratio)).parts,
        Component(light, knots=_incline(knots, 1.0, np.degrees(angle))),
    ]
    return galaxy._replace(parts=parts, merging=True)


def _draw_tails(
    distance: float, radius: float, companion_radius: float, rng: np.random.Generator
) -> np.ndarray:
    """Draw knots (k, 4) for a pair at (0, 0) and (distance, 0), after Toomre & Toomre 1972."""
    step = np.linspace(0, 1, _N_TAIL_KNOTS)
    sense = rng.choice([-1, 1])
    chains = []
    for middle, size, away in ((0.0, radius, np.pi), (distance, companion_radius, 0.0)):
        # The tail swings out from the far side of each galaxy, both in the same sense.
        angle = away + sense * (rng.uniform(-0.3, 0.5) + rng.uniform(0.8, 1.8) * step)
        reach = size * (0.9 + rng.uniform(2.5, 4.0) * step)
        x, y = middle + reach * np.cos(angle), reach * np.sin(angle)
        chains.append([x, y, size * (0.2 + 0.2 * step)])
    bow = sense * rng.uniform(0.1, 0.4) * radius
    chains.append([distance * step, 4 * bow * step * (1 - step), np.full_like(step, 0.25 * radius)])
    x, y, sigma = np.concatenate(chains, axis=1)
    share = np.concatenate([1.5 - step, 1.5 - step, np.full_like(step, 0.5)])
    share *= rng.lognormal(0, 0.3, share.size)
    return np.column_stack([x, y, sigma, share / share.sum()])


# Fluxes (6,) in ugrizy, in units of the flux in i


def _stellar_fluxes(g_i: float) -> np.ndarray:
    """Return the fluxes of a star on the stellar locus, of g-i from 0.1 (F) to 4.3 (M dwarfs)."""
    u_g, g_r, r_i, i_z = np.polynomial.polynomial.polyval(g_i, np.transpose(_STELLAR_LOCUS))
    z_y = 0.5 * i_z
    mags = np.array([u_g + g_r + r_i, g_r + r_i, r_i, 0.0, -i_z, -i_z - z_y])
    return 10 ** (-0.4 * mags)


def _blackbody_fluxes(temperature: float) -> np.ndarray:
    """Return the fluxes of a blackbody of a temperature in kelvin."""
    waves = _bandpasses()[0]
    return _fluxes(waves**-5 / np.expm1(1.4387769e7 / (waves * temperature)))


def _galaxy_fluxes(kind: float, z: float) -> np.ndarray:
    """Return the fluxes of a galaxy of type E = 0, Sbc = 1, Scd = 2, Im = 3 or in between."""
    rest = 10 * _bandpasses()[0] / (1 + z)  # the files are in angstrom
    first = min(int(kind), len(_SED_FILES) - 2)
    pair = []
    for name in _SED_FILES[first : first + 2]:
        waves, flux = _read_columns("SEDs", name)
        pair.append(np.interp(rest, waves, flux) / np.interp(5500.0, waves, flux))
    return _fluxes((first + 1 - kind) * pair[0] + (kind - first) * pair[1])


def _quasar_fluxes(z: float, slope: float, strengths: np.ndarray) -> np.ndarray:
    """Return the fluxes of a power law f_nu ~ nu^slope with broad lines, absorbed by hydrogen.

    ``strengths`` (6,) multiply the equivalent widths of ``_QUASAR_LINES``.
    """
    waves = _bandpasses()[0]
    rest = waves / (1 + z)
    centres, widths, sigmas = np.array(_QUASAR_LINES)[:, :, np.newaxis]
    profiles = np.exp(-0.5 * ((rest - centres) / sigmas) ** 2) / (np.sqrt(2 * np.pi) * sigmas)
    lines = np.sum(strengths[:, np.newaxis] * widths * profiles, axis=0)
    # Becker et al. 2013, MNRAS 430, 2067, equation 5: the mean opacity of Ly-alpha.
    tau = 0.751 * np.clip((waves / 121.567) / 4.5, 0, None) ** 2.90 - 0.132
    tau = np.where(rest < 121.567, np.clip(tau, 0, None), 0.0)
    # The higher Lyman lines add about a half; beyond the limit the hydrogen is ionised.
    tau = np.where(rest < 102.6, 1.5, 1.0) * tau + _lyman_continuum(waves / 91.2, 1 + z)
    return _fluxes(rest ** (-2 - slope) * (1 + lines) * np.exp(-tau))


def _lyman_continuum(x: np.ndarray, x_quasar: float) -> np.ndarray:
    """Return the opacity at 91.2 x nm up to 1 + z = x_quasar; Madau 1995, ApJ 441, 18, note 3."""
    x = np.clip(x, 1.0, x_quasar)  # zero from the limit of the quasar on, where x = x_quasar
    return (
        0.25 * x**3 * (x_quasar**0.46 - x**0.46)
        + 9.4 * x**1.5 * (x_quasar**0.18 - x**0.18)
        - 0.7 * x**3 * (x**-1.32 - x_quasar**-1.32)
        - 0.023 * (x_quasar**1.68 - x**1.68)
    )


def _fluxes(spectrum: np.ndarray) -> np.ndarray:
    """Return the fluxes of a spectrum f_lambda on the wavelengths of `_bandpasses`."""
    fluxes = _bandpasses()[1] @ spectrum
    return fluxes / fluxes[BANDS.index("i")]


@lru_cache(maxsize=1)
def _bandpasses() -> tuple[np.ndarray, np.ndarray]:
    """Return wavelengths in nm (m,) and the weights (6, m) that make f_lambda a flux per band."""
    waves = np.arange(300.0, 1101.0)
    weights = []
    for band in BANDS:
        columns = _read_columns("bandpasses", f"LSST_{band}.dat")
        throughput = np.interp(waves, *columns, left=0, right=0)
        # AB magnitudes compare the number of photons with that of a flat f_nu.
        weights.append(waves * throughput / np.sum(throughput / waves))
    return waves, np.array(weights)


@lru_cache(maxsize=16)
def _read_columns(*path: str) -> tuple[np.ndarray, np.ndarray]:
    """Read the two columns of a file that GalSim ships."""
    galsim = import_optional("galsim", extra="sim", needed_by="make_survey")
    first, second = np.loadtxt(Path(galsim.meta_data.share_dir, *path), unpack=True)
    return first, second
