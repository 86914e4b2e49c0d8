"""Simulate resolved galaxies whose structure is known."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import lazy_loader
import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.utils import check_random_state, gen_batches

from skastro.simulation.draws import Draws
from skastro.simulation.observation import observe
from skastro.simulation.pictures import compose_pictures
from skastro.simulation.structure import (
    Disc,
    Galaxies,
    draw_bar,
    draw_companion,
    draw_disc,
    draw_dust,
    draw_knots,
    draw_rings,
    draw_spheroid,
    place_galaxies,
)
from skastro.utils.progress import report_to
from skastro.utils.validation import check_whole_number

if TYPE_CHECKING:
    import torch
    from torch import Tensor
else:
    torch = lazy_loader.load("torch")

GALAXY_KINDS = ("elliptical", "lenticular", "spiral", "irregular", "dwarf")
_SHARES = (0.2, 0.22, 0.36, 0.16, 0.06)
# unit and meaning of the truth; NaN where it cannot be seen or does not exist
GALAXY_PROPERTIES = {
    "bulge_fraction": ("", "share of the light in the spheroid, 1 for ellipticals"),
    "arm_strength": ("", "contrast of the spiral arms as they are seen, 0 to 1"),
    "pitch_angle": ("deg", "angle between the arms and circles; large for open arms"),
    "arm_number": ("", "number of arms, 1 to 5"),
    "winding": ("", "1 if the arms turn clockwise outwards with the y axis up, -1 if not"),
    "flocculence": ("", "contrast of irregular structure in the disc, 0 to 1"),
    "bar": ("", "share of the light in the bar"),
    "bar_length": ("", "length of the bar in units of the radius of the disc, 0 without a bar"),
    "ring": ("", "share of the light in an inner ring"),
    "outer_ring": ("", "share of the light in an outer ring"),
    "clumpiness": ("", "share of the light in bright knots"),
    "lopsidedness": ("", "half the light that changes when the galaxy is turned by 180 degrees"),
    "perturbation": ("", "disturbance by a merger, a companion or star formation, 0 to 1"),
    "dust": ("", "share of the light that dust absorbs"),
    "inclination": ("deg", "of the disc, 0 face-on"),
    "axis_ratio": ("", "minor over major axis, as seen"),
    "sersic_index": ("", "of the spheroid"),
    "half_light_radius": ("half frame", "of the whole galaxy along its major axis"),
    "effective_radius": ("half frame", "half-light radius of the spheroid"),
    "youth": ("", "colour of the stars: 0 old, 1 young"),
    "merging": ("", "1 if the galaxy is merging with another"),
}
MAX_BANDS = 6
MIN_SIZE = 16  # pixels
_CHUNK = 128  # galaxies drawn at once
# Natural logarithm of the flux of populations against t, a^T (t, t^2), where t is -1, 0 and 1 in
# g, r and i: roughly the colours of elliptical galaxies, late spirals and young star clusters.
_OLD, _YOUNG, _NEWBORN = (0.53, -0.16), (0.11, -0.06), (-0.225, -0.125)
_BAND_STEP = 0.23  # difference of ln(wavelength) between g and r, and r and i
_MAX_BAND_STEPS = 1.6  # of t on each side: six bands reach from the near u to z
_MAX_REDSHIFT = 0.25
_DUST_SLOPE = -0.38  # of the logarithm of the extinction against t


@dataclass(frozen=True)
class SimulatedStamps:
    """Simulated stamps with the structure behind each.

    Attributes
    ----------
    images : array of shape (n, bands, height, width)
        float32 in arbitrary linear units, or uint8.
    truth : DataFrame of n rows
        What was drawn, NaN where it does not exist or cannot be seen; units in
        ``truth.attrs["units"]``.
    target : array of shape (n,)
        The kind of each source.
    target_names : tuple of str
    """

    images: NDArray[np.generic]
    truth: pd.DataFrame
    target: NDArray[np.str_]
    target_names: tuple[str, ...]


def make_galaxies(
    n_galaxies: int = 1000,
    *,
    image_size: int = 64,
    bands: int = 3,
    pictures: bool = False,
    random_state: int | np.random.RandomState | None = 0,
    device: str = "cpu",
) -> SimulatedStamps:
    """Simulate stamps of resolved galaxies with all that a telescope adds to them.

    Ellipticals, lenticulars, spirals, irregulars and dwarfs have a Sersic spheroid, and a disc
    with arms, bar, rings, knots and dust; some are merging or warped. The stamps have neighbours,
    stars with spikes, seeing, noise of many kinds, and a few have trails, cosmic rays, bad columns
    or a missing edge (NaN). They teach the network of `load_pretrained`.

    Parameters
    ----------
    n_galaxies : int, default=1000
    image_size : int, default=64
        Height and width in pixels, at least 16.
    bands : int, default=3
        Number of bands, 1 to 6, in the order of wavelength.
    pictures : bool, default=False
        Whether to compose 8-bit colour pictures, red first, instead of linear fluxes.
    random_state : int, RandomState or None, default=0
        The same integer gives the same galaxies.
    device : str, default="cpu"
        Device of torch on which to draw.

    Returns
    -------
    galaxies : SimulatedStamps
        - ``images``: float32 (n, bands, size, size) in arbitrary linear units, NaN beyond a missing
          edge; or uint8 (n, 3, size, size);
        - ``truth``: DataFrame with NaN where a property does not exist or cannot be seen. Shares
          of the light: ``bulge_fraction``, ``bar``, ``ring``, ``outer_ring``, ``clumpiness``
          (bright knots), ``dust`` (absorbed), ``lopsidedness`` (half of what changes in a turn by
          180 degrees). Numbers of 0 to 1: ``arm_strength``, ``flocculence``, ``perturbation``,
          ``merging``, ``axis_ratio``, ``bar_length`` (over the radius of the disc). In degrees:
          ``pitch_angle``, ``inclination``. In half frames: ``half_light_radius``,
          ``effective_radius`` (of the spheroid). Others: ``arm_number``, ``winding`` (1 or -1),
          ``sersic_index``, ``youth`` (colour of the stars: 0 old, 1 young);
        - ``target``: the kind of each galaxy; ``target_names``: the five kinds.

    Raises
    ------
    ValueError
        ``n_galaxies``, ``image_size`` or ``bands`` is out of range, or pictures are asked for with
        other than three bands.

    Examples
    --------
    >>> from skastro import make_galaxies
    >>> galaxies = make_galaxies(4, image_size=32)
    >>> galaxies.images.shape, galaxies.truth.attrs["units"]["inclination"]
    ((4, 3, 32, 32), 'deg')
    """
    check_whole_number("bands", bands, least=1)
    if bands > MAX_BANDS or (pictures and bands != 3):
        raise ValueError(
            f"bands={bands} must be at most {MAX_BANDS}, and 3 for pictures: pass another number."
        )

    def simulate(draws: Draws) -> tuple[Tensor, dict[str, Tensor]]:
        fluxes, truth = simulate_galaxies(draws, image_size, bands)
        stamps, noise = observe(fluxes, draws)
        if pictures:
            stamps = (compose_pictures(stamps, noise, draws) * 255).round().byte()
        return stamps, truth

    check_whole_number("n_galaxies", n_galaxies, least=1)
    check_whole_number("image_size", image_size, least=MIN_SIZE)
    return simulate_stamps(
        n_galaxies, simulate, GALAXY_KINDS, GALAXY_PROPERTIES, random_state, device
    )


def simulate_stamps(
    n: int,
    simulate: Callable[[Draws], tuple[Tensor, dict[str, Tensor]]],
    kinds: tuple[str, ...],
    properties: Mapping[str, tuple[str, str]],
    random_state: int | np.random.RandomState | None,
    device: str,
) -> SimulatedStamps:
    """Simulate n stamps in chunks, and collect them and the truth in numpy and pandas.

    ``simulate`` returns stamps and truth, with the ``kind`` as an index into ``kinds``;
    ``properties`` are the unit and the meaning of each.
    """
    seed = int(check_random_state(random_state).randint(2**31))
    report = report_to("simulating", n)
    images, truths = [], []
    for rows in gen_batches(n, _CHUNK):
        stamps, truth = simulate(Draws(rows.stop - rows.start, seed * 2**20 + rows.start, device))
        images.append(stamps.cpu().numpy())
        truths.append(pd.DataFrame({name: value.cpu().numpy() for name, value in truth.items()}))
        report(rows.stop)
    table = pd.concat(truths, ignore_index=True)
    target = np.array(kinds)[table.pop("kind").to_numpy(int)]
    table.attrs["units"] = {name: unit for name, (unit, _) in properties.items() if unit}
    return SimulatedStamps(np.concatenate(images), table, target, kinds)


def simulate_galaxies(draws: Draws, size: int, bands: int = 3) -> tuple[Tensor, dict[str, Tensor]]:
    """Draw the light of galaxies before seeing and noise, and the truth about them.

    Returns
    -------
    fluxes : float32 tensor of shape (n, bands, size, size)
        In the order of wavelength; the light of a galaxy in the middle of the bands is about 1,
        less for faint ones.
    truth : dict of tensors of shape (n,)
        Those of ``GALAXY_PROPERTIES`` and ``kind``, an index into ``GALAXY_KINDS``.
    """
    kind = draws.choose(range(len(GALAXY_KINDS)), _SHARES)
    g = place_galaxies(draws, size, kind)
    spheroid, of_spheroid = draw_spheroid(draws, g)
    disc = draw_disc(draws, g)
    bar, of_bar = draw_bar(draws, g)
    rings, of_rings = draw_rings(draws, g, of_bar, disc.texture)
    knots, clumpiness = draw_knots(draws, g, disc)
    second, tail = draw_companion(draws, g)
    depth = draw_dust(draws, g, disc)
    share = _draw_bulge_share(draws, g)
    in_disc = 1 - share
    parts = [
        share * spheroid, in_disc * disc.smooth, in_disc * (disc.young + rings),
        in_disc * knots, in_disc * bar, second, tail,
    ]  # fmt: skip
    youth = _draw_youth(draws, g)
    light = torch.stack(parts, 1) * _draw_brightness(draws, g)[:, None]
    fluxes = _colour(draws, g, light, youth, depth, bands)
    truth = _tell_structure(g, light, depth, disc) | {"youth": youth, "kind": kind}
    for name, value in {"bar": of_bar["bar"], **of_rings}.items():
        truth[name] = _where((g.cosine > 0.12) | (g.round > 0), value * in_disc)
    truth["clumpiness"] = clumpiness * in_disc
    bar_length = of_bar["bar_length"] / g.radius
    truth["bar_length"] = _where((g.cosine > 0.2) | (g.round > 0), bar_length)
    of_total = torch.where(g.round > 0, 1.0, share)
    truth["sersic_index"] = _where(of_total > 0.15, of_spheroid["sersic_index"])
    truth["effective_radius"] = _where(of_total > 0.1, of_spheroid["effective_radius"] / (size / 2))
    names = [*GALAXY_PROPERTIES, "kind"]
    return fluxes, {name: truth[name].reshape(draws.n) for name in names}


def _where(known: Tensor, value: Tensor) -> Tensor:
    return torch.where(known, value, math.nan)


def _draw_bulge_share(draws: Draws, g: Galaxies) -> Tensor:
    """Draw the share of the light in the spheroid; that of galaxies without a disc is 1."""
    share = g.round + g.spiral * draws.uniform() ** 1.4 * 0.65
    share = share + g.lenticular * draws.uniform(0.25, 0.8)
    return share + g.irregular * draws.happens(0.3) * draws.uniform(0, 0.15)


def _draw_brightness(draws: Draws, g: Galaxies) -> Tensor:
    """Draw the light: irregular and dwarf galaxies, and some spirals, are faint for their size."""
    faintness = (g.irregular + g.dwarf) * draws.uniform(0.3, 2.3) + g.spiral * draws.uniform(0, 1)
    return torch.exp(-faintness)


def _draw_youth(draws: Draws, g: Galaxies) -> Tensor:
    """Draw the colour of the stars outside the bulge: 0 old, 1 young."""
    youth = g.elliptical * draws.uniform(0, 0.15) + g.lenticular * draws.uniform(0, 0.35)
    youth = youth + g.spiral * draws.uniform(0.1, 0.95) + g.irregular * draws.uniform(0.6, 1.4)
    return youth + g.dwarf * draws.uniform(0.1, 0.6)


def _colour(
    draws: Draws, g: Galaxies, light: Tensor, youth: Tensor, depth: Tensor, bands: int
) -> Tensor:
    """Give each part (n, parts, size, size) a stellar population, and redden it by dust."""
    # bands in order of wavelength, as the galaxy emits them
    half = min(0.5 * (bands - 1), _MAX_BAND_STEPS)
    t = torch.linspace(-half, half, bands, device=draws.device)
    redshift = _MAX_REDSHIFT * draws.uniform() ** 3
    emitted = (t - torch.log1p(redshift) / _BAND_STEP).reshape(draws.n, 1, bands)

    def spectrum(coefficients: tuple[float, float]) -> Tensor:
        return coefficients[0] * emitted + coefficients[1] * emitted**2

    old, young = spectrum(_OLD), spectrum(_YOUNG)
    in_bulge = torch.where(g.round > 0, youth, youth * draws.uniform(0, 0.6))
    youths = [
        in_bulge, youth, (youth + 0.5).clamp(max=1.5), youth, 0.5 * youth, draws.uniform(),
        youth + draws.uniform(0, 0.4),
    ]  # fmt: skip
    spectra = [old + value * (young - old) for value in youths]
    spectra[3] = spectrum(_NEWBORN)
    # scatter by metallicity, and calibration of the bands
    tint = draws.normal(0.04, (1, bands)) + draws.normal(0.1) * t
    colours = torch.exp(torch.cat(spectra, 1) + tint)
    fluxes = torch.einsum("npyx,npb->nbyx", light, colours)
    return fluxes * torch.exp(-depth[:, None] * torch.exp(_DUST_SLOPE * t).reshape(-1, 1, 1))


def _tell_structure(g: Galaxies, light: Tensor, depth: Tensor, disc: Disc) -> dict[str, Tensor]:
    """Return what is known of the structure, and what is measured on the light itself."""
    whole = light.sum(1)
    total = whole.sum((1, 2), keepdim=True)
    seen_arms = disc.arms * g.face_on
    open_disc = (g.cosine > 0.3) & (seen_arms > 0.2)
    return {
        "bulge_fraction": _where(g.dwarf == 0, light[:, 0].sum((1, 2))[:, None, None] / total),
        "arm_strength": seen_arms,
        "pitch_angle": _where(open_disc, torch.rad2deg(disc.pitch)),
        "arm_number": _where(open_disc & (seen_arms > 0.3), disc.number),
        "winding": _where(open_disc, disc.winding),
        "flocculence": disc.flocculence,
        "lopsidedness": _measure_asymmetry(g, whole),
        "perturbation": g.perturbation,
        "dust": (whole * (1 - torch.exp(-depth))).sum((1, 2), keepdim=True) / total,
        "inclination": _where(g.round == 0, torch.rad2deg(torch.acos(g.cosine))),
        "axis_ratio": g.axis_ratio,
        "half_light_radius": _measure_half_light(g, whole),
        "merging": g.merging,
    }


def _measure_asymmetry(g: Galaxies, light: Tensor) -> Tensor:
    """Return the asymmetry (Conselice 2003, ApJS 147, 1) of the large scales, halved."""
    n, size, _ = light.shape
    light = torch.nn.functional.avg_pool2d(light[:, None], 5, 1, 2)[:, 0]
    turn = torch.zeros(n, 2, 3, device=light.device)
    turn[:, 0, 0] = turn[:, 1, 1] = -1
    turn[:, :, 2] = torch.cat(g.centre, 1)[:, :, 0] * 4 / size
    grid = torch.nn.functional.affine_grid(turn, [n, 1, size, size], align_corners=False)
    turned = torch.nn.functional.grid_sample(light[:, None], grid, align_corners=False)[:, 0]
    difference = (light - turned).abs().sum((1, 2), keepdim=True)
    return 0.5 * difference / light.sum((1, 2), keepdim=True)


def _measure_half_light(g: Galaxies, light: Tensor) -> Tensor:
    """Return the major axis of the ellipse that holds half the light, in half frames."""
    n, size, _ = light.shape
    r = torch.sqrt(g.x**2 + (g.y / g.axis_ratio.clamp(min=0.06)) ** 2) / (size / 2)
    bins = (r * size).long().clamp(max=4 * size).flatten(1)
    within = torch.zeros(n, 4 * size + 1, device=light.device)
    within = within.scatter_add(1, bins, light.flatten(1)).cumsum(1)
    half = (within < 0.5 * within[:, -1:]).sum(1)
    return (half.float() + 0.5).reshape(n, 1, 1) / size
