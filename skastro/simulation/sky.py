"""What the simulated sky is populated with: stars, galaxies of all shapes, mergers, quasars."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from skastro.simulation.profiles import Component
from skastro.simulation.spectra import (
    BANDS,
    EXTINCTION,
    blackbody_fluxes,
    galaxy_fluxes,
    quasar_fluxes,
    stellar_fluxes,
)

ZERO_POINT = 22.5  # AB magnitude of one nanomaggy
CLASSES = ("star", "galaxy", "quasar")
MORPHOLOGIES = ("elliptical", "lenticular", "spiral", "irregular")
BRIGHTEST = 17.5  # mag in i
_COUNT_SLOPES = (0.15, 0.35, 0.30)  # dex per mag: number counts rise as 10^(slope i)
_MORPHOLOGY_FRACTIONS = (0.20, 0.15, 0.48, 0.17)
_MERGING_FRACTION = 0.12  # of galaxies: more than of the sky's, enough to learn from
_ARM_KNOTS = 30
_CLUMPS = 9
_TAIL_KNOTS = 16


class Source(NamedTuple):
    """A star, galaxy or quasar."""

    parts: list[Component]
    redshift: float = np.nan
    morphology: str = ""  # of galaxies, one of MORPHOLOGIES
    merging: bool = False

    def moved(self, x: float, y: float) -> Source:
        """Return the same source elsewhere, `x` and `y` in arcsec from the target."""
        parts = [
            part._replace(offset=(part.offset[0] + x, part.offset[1] + y)) for part in self.parts
        ]
        return self._replace(parts=parts)


def draw_source(
    kind: int, limits: tuple[float, float], ebv: float, rng: np.random.Generator
) -> Source:
    """Draw a star, galaxy or quasar.

    Parameters
    ----------
    kind : int
        Index into ``CLASSES``.
    limits : tuple of float
        Brightest and faintest i magnitude, extinction included.
    ebv : float
        Reddening E(B-V) in mag before the source.
    rng : Generator

    Returns
    -------
    source : Source
        Its fluxes are in nanomaggies.
    """
    # Number counts that rise as 10^(slope mag) between two magnitudes.
    slope = _COUNT_SLOPES[kind]
    low, high = 10 ** (slope * np.array(limits))
    i_mag = float(np.log10(rng.uniform(low, high)) / slope)
    source = (_draw_star, _draw_galaxy, _draw_quasar)[kind](i_mag, rng)
    # What no spectrum here tells: metallicity, dust and age, above all in the ultraviolet.
    scatter = rng.normal(0, [0.10, 0.04, 0.03, 0.03, 0.03, 0.03])
    i_band = BANDS.index("i")
    dimming = scatter - scatter[i_band] + ebv * (EXTINCTION - EXTINCTION[i_band])
    brightness = 10 ** (0.4 * (ZERO_POINT - i_mag - dimming))
    return source._replace(parts=_scaled(source.parts, brightness))


def _scaled(parts: list[Component], factor: float | np.ndarray) -> list[Component]:
    return [part._replace(flux=part.flux * factor) for part in parts]


def _noticed(share: float) -> float:
    """Return a part's share of the light, none where drawing it would change nothing."""
    return share if share > 0.02 else 0.0


def _draw_star(i_mag: float, rng: np.random.Generator) -> Source:  # noqa: ARG001
    if rng.random() < 0.04:  # white dwarfs: the blackbodies among the stars
        return Source([Component(blackbody_fluxes(rng.uniform(7e3, 2.5e4)))])
    # Turn-off stars of the halo and M dwarfs of the disc make two humps.
    g_i = rng.normal(0.75, 0.3) if rng.random() < 0.5 else rng.normal(2.3, 0.6)
    return Source([Component(stellar_fluxes(np.clip(g_i, 0.1, 4.3)))])


def _draw_quasar(i_mag: float, rng: np.random.Generator) -> Source:
    z = float(np.clip(0.3 + rng.gamma(2.8, 0.6), 0.3, 5))
    host = _noticed(0.5 * rng.random() * np.exp(-z / 0.5))  # share of the light in i
    # Vanden Berk et al. 2001 find a slope of -0.44; the tail is dust of the quasar's own.
    slope = rng.normal(-0.45, 0.25) - rng.exponential(0.25)
    parts = [Component((1 - host) * quasar_fluxes(z, slope, rng.lognormal(0, 0.3, 6)))]
    if host:
        radius = float(np.clip(10 ** rng.normal(-0.12 * (i_mag - 19), 0.2), 0.2, 2))
        flux = host * galaxy_fluxes(rng.uniform(0, 1.5), z)
        shape = (radius, 2.5, rng.uniform(0.5, 1), rng.uniform(0, 180))
        parts.append(Component(flux, *shape))
    return Source(parts, z)


def _draw_galaxy(i_mag: float, rng: np.random.Generator) -> Source:
    # LSST Science Book, section 3.7: n(z) ~ z^2 exp(-z / z0), with a floor for bright galaxies.
    z = float(np.clip(rng.gamma(3, max(0.0417 * i_mag - 0.744, 0.03)), 0.01, 1.5))
    if rng.random() < _MERGING_FRACTION:
        return _draw_merger(i_mag, z, rng)
    morphology, parts, _ = _draw_shape(i_mag, z, rng)
    return Source(parts, z, morphology)


def _draw_shape(
    i_mag: float, z: float, rng: np.random.Generator
) -> tuple[str, list[Component], float]:
    """Draw the morphology, the components (of flux one in i) and the radius of a galaxy."""
    radius = float(np.clip(10 ** rng.normal(-0.12 * (i_mag - 20), 0.2), 0.1, 3))
    morphology = str(rng.choice(MORPHOLOGIES, p=_MORPHOLOGY_FRACTIONS))
    return morphology, _SHAPES[morphology](radius, z, rng), radius


def _draw_elliptical(radius: float, z: float, rng: np.random.Generator) -> list[Component]:
    """Draw the profile of de Vaucouleurs 1948, which is Sersic's of index 4."""
    flux = galaxy_fluxes(rng.uniform(0, 0.5), z)
    return [Component(flux, radius, 4.0, rng.uniform(0.5, 1), rng.uniform(0, 180))]


def _draw_lenticular(radius: float, z: float, rng: np.random.Generator) -> list[Component]:
    """Draw a disc without arms, and a large bulge."""
    flux, bulge = galaxy_fluxes(rng.uniform(0, 0.6), z), rng.uniform(0.35, 0.65)
    ratio, angle = rng.uniform(0.2, 1), rng.uniform(0, 180)
    return [
        Component((1 - bulge) * flux, radius, 1.0, ratio, angle),
        Component(bulge * flux, 0.4 * radius, 3.0, 0.5 + 0.5 * ratio, angle),
    ]


def _draw_spiral(radius: float, z: float, rng: np.random.Generator) -> list[Component]:
    """Draw a disc with two arms bluer than itself, and a red bulge."""
    kind, ratio, angle = rng.uniform(0.6, 2.2), rng.uniform(0.2, 1), rng.uniform(0, 180)
    bulge, arms = _noticed(rng.beta(1.5, 6)), rng.uniform(0.4, 0.6)
    knots = _incline(_spiral_arms(kind, rng) * [radius, radius, radius, 1], ratio, angle)
    parts = [
        Component((1 - bulge) * (1 - arms) * galaxy_fluxes(kind, z), radius, 1.0, ratio, angle),
        Component((1 - bulge) * arms * galaxy_fluxes(min(kind + 0.7, 3), z), knots=knots),
    ]
    if bulge:
        red, index = bulge * galaxy_fluxes(0, z), rng.choice([2.0, 3.0])
        parts.append(Component(red, 0.35 * radius, index, 0.5 + 0.5 * ratio, angle))
    return parts


def _spiral_arms(kind: float, rng: np.random.Generator) -> np.ndarray:
    """Draw knots (k, 4) along two logarithmic spirals, seen face-on, in half-light radii."""
    # Kennicutt 1981, AJ 86, 1847: pitch angles grow from Sa to Sc, with much scatter.
    pitch = np.radians(rng.uniform(12, 22) + 7 * (kind - 0.6))
    sense, start = rng.choice([-1, 1]), rng.uniform(0, np.pi)
    # Steps of equal length along r = r_0 exp(theta tan(pitch)).
    radii = np.tile(np.linspace(0.45, 2.6, _ARM_KNOTS), 2)
    arm = np.repeat([0, np.pi], _ARM_KNOTS)
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
    places = radius * (middle + rng.normal(0, 0.6, (_CLUMPS, 2)))
    share = rng.lognormal(0, 0.6, _CLUMPS)
    sigma = radius * rng.uniform(0.12, 0.3, _CLUMPS)
    knots = np.column_stack([places, sigma, share / share.sum()])
    disc = galaxy_fluxes(rng.uniform(2.3, 3), z)
    return [
        Component((1 - young) * disc, radius, 1.0, ratio, angle),
        Component(young * galaxy_fluxes(3, z), knots=knots),
    ]


_SHAPES = {
    "elliptical": _draw_elliptical,
    "lenticular": _draw_lenticular,
    "spiral": _draw_spiral,
    "irregular": _draw_irregular,
}


def _draw_merger(i_mag: float, z: float, rng: np.random.Generator) -> Source:
    """Draw two galaxies that overlap, a bridge between them and a tail behind each."""
    ratio = 10 ** rng.uniform(np.log10(0.25), 0)  # of the companion's light to the galaxy's
    tidal = rng.uniform(0.15, 0.30)
    mags = i_mag + 2.5 * np.log10([1 + ratio, 1 + 1 / ratio])
    morphology, parts, radius = _draw_shape(mags[0], z, rng)
    # A pair's velocities differ by a few hundred km/s: nothing that a colour could tell.
    _, others, other_radius = _draw_shape(mags[1], z, rng)
    angle, distance = rng.uniform(0, 2 * np.pi), radius * rng.uniform(1, 2.5)
    place = (distance * np.cos(angle), distance * np.sin(angle))
    others = [part._replace(offset=place) for part in others]
    knots = _tidal_tails(distance, radius, min(other_radius, 1.5 * radius), rng)
    light = tidal * galaxy_fluxes(rng.uniform(0.8, 2), z)
    parts = [
        *_scaled(parts, (1 - tidal) / (1 + ratio)),
        *_scaled(others, (1 - tidal) * ratio / (1 + ratio)),
        Component(light, knots=_incline(knots, 1.0, np.degrees(angle))),
    ]
    return Source(parts, z, morphology, merging=True)


def _tidal_tails(
    distance: float, radius: float, other_radius: float, rng: np.random.Generator
) -> np.ndarray:
    """Draw knots (k, 4) for a pair at (0, 0) and (distance, 0), after Toomre & Toomre 1972."""
    step = np.linspace(0, 1, _TAIL_KNOTS)
    sense = rng.choice([-1, 1])
    chains = []
    for middle, size, away in ((0.0, radius, np.pi), (distance, other_radius, 0.0)):
        # From the far side of each galaxy the tail swings out, both in the same sense.
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
