"""The parts of a resolved galaxy, as maps of light: spheroid, disc, arms, bar, rings, knots, dust.

All parameters have the shape (n, 1, 1), one for each stamp, and all maps (n, size, size). Lengths
are in pixels, angles in radians.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import lazy_loader

from skastro.simulation.draws import Draws

if TYPE_CHECKING:
    import torch
    from torch import Tensor
else:
    torch = lazy_loader.load("torch")

_N_KNOTS = 20
_N_PATCHES = 3
_N_RADII, _N_ANGLES = 14, 28  # cells of the texture that rotation shears
_SMOOTHING = 0.65  # of the standard deviation, by interpolation between cells
_LOG_RADII = 2.5  # the ratio of the radii that they span, ln
_BEST_SAMPLED_RADIUS = 0.25  # pixels, added to radii: what a pixel makes of a cusp


@dataclass
class Galaxies:
    """What the parts of n galaxies have in common: their kinds, places and shapes."""

    size: int
    elliptical: Tensor  # 1 or 0, as the other kinds
    lenticular: Tensor
    spiral: Tensor
    irregular: Tensor
    dwarf: Tensor
    radius: Tensor  # at which the disc ends
    centre: tuple[Tensor, Tensor]  # x and y from the middle of the stamp
    angle: Tensor  # of the major axis
    cosine: Tensor  # of the inclination
    axis_ratio: Tensor  # of disc or spheroid, as seen
    merging: Tensor  # 1 or 0
    perturbation: Tensor  # 0 to 1
    x: Tensor  # along the major axis, on the sky
    y: Tensor
    rho: Tensor  # distance from the centre in the plane of the disc
    theta: Tensor  # and the angle there
    scale: Tensor  # scale length of the disc

    @property
    def round(self) -> Tensor:
        """1 where there is no disc."""
        return self.elliptical + self.dwarf

    @property
    def face_on(self) -> Tensor:
        """1 for galaxies whose structure is seen, falling to 0 edge-on."""
        return torch.sigmoid((self.cosine - 0.2) / 0.06)


def place_galaxies(draws: Draws, size: int, kind: Tensor) -> Galaxies:
    """Draw place, size, orientation and disturbance of galaxies of kinds 0 to 4 (n, 1, 1)."""
    elliptical, lenticular, spiral, irregular, dwarf = ((kind == k).float() for k in range(5))
    # the frame: most galaxies fill it well, some are small in it, some are larger
    small = draws.happens(0.15)
    radius = torch.where(small > 0, draws.log_uniform(0.18, 0.6), draws.log_uniform(0.6, 1.5))
    radius = radius * size / 2
    x0, y0 = (draws.normal(0.012 * size).clamp(-2 * size / 64, 2 * size / 64) for _ in range(2))
    angle, cosine = draws.uniform(0, math.pi), draws.uniform()
    # discs have a thickness, spheroids an axis ratio
    flat = 0.08 + 0.14 * draws.uniform() + 0.12 * lenticular * draws.uniform()
    flat = flat + 0.3 * irregular * draws.uniform()
    disc_ratio = torch.sqrt(cosine**2 + flat**2 * (1 - cosine**2)).clamp(max=1)
    ratio = torch.where(dwarf > 0, draws.uniform(0.4, 1), 1 - 0.45 * draws.uniform() ** 1.4)
    ratio = torch.where(elliptical + dwarf > 0, ratio, disc_ratio)
    # disturbance: mergers, irregular galaxies and a few spirals
    merging = draws.happens(0.08) * (1 - dwarf)
    perturbation = torch.maximum(irregular * draws.uniform(0.2, 1), spiral * draws.uniform() ** 3)
    perturbation = torch.maximum(perturbation, merging * draws.uniform(0.4, 1))
    pixel = (torch.arange(size, device=draws.device) + 0.5) - size / 2
    dx, dy = pixel[None, None, :] - x0, pixel[None, :, None] - y0
    cos, sin = torch.cos(angle), torch.sin(angle)
    x, y = dx * cos + dy * sin, dy * cos - dx * sin
    # warps bend the outer disc, and one side may be longer than the other
    warp = (spiral + lenticular) * draws.happens(0.15) * draws.uniform(0, 0.12)
    warp = (warp + merging * draws.uniform(0, 0.18)) * draws.sign()
    y = y + warp * x * (x / radius).abs().clamp(max=1.5)
    stretch = 0.35 * perturbation * draws.uniform(0.2, 1) * draws.sign()
    x_plane = x * (1 + stretch * (x / radius).clamp(-1.2, 1.2))
    y_plane = y / ratio.clamp(min=0.06)
    rho = torch.sqrt(x_plane**2 + y_plane**2 + _BEST_SAMPLED_RADIUS**2)
    return Galaxies(
        size, elliptical, lenticular, spiral, irregular, dwarf, radius, (x0, y0), angle, cosine,
        ratio, merging, perturbation, x, y, rho, torch.atan2(y_plane, x_plane),
        scale=radius / draws.uniform(2.8, 5.2),
    )  # fmt: skip


def unit(light: Tensor) -> Tensor:
    """Return maps of light whose sum is 1."""
    return light / light.sum((1, 2), keepdim=True).clamp(min=1e-12)


def draw_spheroid(draws: Draws, g: Galaxies) -> tuple[Tensor, dict[str, Tensor]]:
    """Draw a Sersic profile (Ciotti & Bertin 1999, A&A 352, 447) as a map of unit light.

    Half of the ellipticals have an extended envelope of a lower index, which looks like a face-on
    disc (Huang et al. 2013, ApJ 766, 47). One index does not describe them, so theirs is NaN.
    """
    index = g.elliptical * draws.uniform(4, 9) + g.lenticular * draws.uniform(1.5, 5.5)
    index = index + g.spiral * draws.uniform(0.8, 5) + g.irregular
    index = index + g.dwarf * draws.uniform(0.6, 1.4)
    radius = g.elliptical * g.radius * draws.log_uniform(0.22, 0.7)
    radius = radius + g.dwarf * g.radius * draws.uniform(0.3, 0.5)
    radius = radius + (1 - g.round) * g.scale * draws.log_uniform(0.12, 0.6)
    radius = radius.clamp(min=0.3)
    thickness = draws.uniform(0.5, 0.9)
    bulge_ratio = torch.sqrt(g.cosine**2 + thickness**2 * (1 - g.cosine**2))
    y = g.y / torch.where(g.round > 0, g.axis_ratio, bulge_ratio)
    squared = g.x**2 + y**2
    r = torch.sqrt(squared + _BEST_SAMPLED_RADIUS**2 + 0.02 * radius.clamp(max=2))
    # discy or boxy isophotes
    boxy = (g.elliptical + g.lenticular) * draws.uniform(-0.06, 0.06)
    r = r * (1 + boxy * (1 - 8 * (g.x * y / squared.clamp(min=0.1)) ** 2))
    enveloped = g.elliptical * draws.happens(0.5)
    radius = radius * (1 - 0.5 * enveloped)
    light = unit(_sersic(r / radius, index))
    envelope = _sersic(r / (radius * draws.log_uniform(2.0, 5.0)), draws.uniform(0.8, 2.5))
    share = enveloped * draws.uniform(0.2, 0.75)
    light = (1 - share) * light + share * unit(envelope)
    index, radius = (torch.where(enveloped > 0, math.nan, value) for value in (index, radius))
    return light, {"sersic_index": index, "effective_radius": radius}


def _sersic(r: Tensor, index: Tensor) -> Tensor:
    """Return the profile at radii in units of the half-light radius."""
    b = 2 * index - 1 / 3 + 0.009876 / index
    return torch.exp(-b * torch.pow(r, 1 / index))


@dataclass
class Disc:
    """The disc of n galaxies, in units of the light of its smooth part."""

    smooth: Tensor
    young: Tensor  # arms and star forming regions
    texture: Tensor  # lognormal, of mean about 1
    phase: Tensor  # of the arms: 0 on their ridge
    ramp: Tensor  # 0 at the centre, 1 where there are arms
    arms: Tensor  # strength
    pitch: Tensor
    winding: Tensor
    number: Tensor
    flocculence: Tensor


def draw_disc(draws: Draws, g: Galaxies) -> Disc:
    """Draw an exponential disc that ends at its radius, logarithmic arms, and their texture."""
    edge = torch.sigmoid((1.1 * g.radius - g.rho) / (g.radius * draws.uniform(0.06, 0.2)))
    disc = torch.exp(-g.rho / g.scale) * edge
    # arms begin outside the bulge
    ramp = torch.sigmoid((g.rho - draws.uniform(0.2, 0.8) * g.scale) / (0.15 * g.scale))
    number = draws.choose([1.0, 2, 3, 4, 5], [0.06, 0.6, 0.14, 0.12, 0.08])
    pitch = draws.log_uniform(math.radians(8), math.radians(45))
    winding, arms = draws.sign(), g.spiral * draws.uniform() ** 0.8
    turns = torch.log(g.rho / g.scale) / torch.tan(pitch)
    phase = number * (winding * g.theta - turns) + draws.uniform(0, 2 * math.pi)
    coarse = draws.texture(10, g.size)
    fine = _draw_fine_texture(draws, g, winding, pitch)
    phase = phase + (0.5 * draws.uniform() + 0.5 * g.perturbation) * coarse
    ridge = torch.exp(draws.uniform(0.5, 3.5) * (torch.cos(phase) - 1))
    flocculence = g.spiral * draws.uniform() ** 1.3 + g.irregular * draws.uniform(0.2, 1)
    flocculence = flocculence + 0.3 * g.lenticular * draws.uniform() ** 4
    texture = torch.exp(flocculence * (0.65 * fine + 0.45 * coarse))
    smooth = disc * (1 - 0.75 * arms * ramp) * torch.exp(0.25 * flocculence * coarse)
    young = disc * ridge * arms * ramp * draws.uniform(2.5, 5.0) * texture
    young = young + 0.35 * disc * flocculence * ramp * texture * (g.spiral + g.irregular)
    # one side is brighter, and irregular galaxies have bright patches
    side = torch.cos(g.theta - draws.uniform(0, 2 * math.pi)) * (g.rho / g.scale).clamp(max=2.5)
    side = (1 + 0.6 * g.perturbation * draws.uniform(0.2, 1) * side).clamp(min=0.05)
    patches = torch.zeros_like(disc)
    for _ in range(_N_PATCHES):
        at = [draws.uniform(-0.6, 0.6) * g.radius for _ in range(2)]
        width = g.radius * draws.uniform(0.08, 0.25)
        distance = (g.x - at[0]) ** 2 + (g.y / g.axis_ratio.clamp(min=0.06) - at[1]) ** 2
        patches = patches + draws.uniform(0.1, 1) * torch.exp(-distance / width**2)
    young = young * side + 0.6 * g.irregular * g.perturbation * patches
    total = smooth.sum((1, 2), keepdim=True).clamp(min=1e-9)
    return Disc(
        smooth * side / total, young / total, texture, phase, ramp, arms, pitch, winding, number,
        flocculence,
    )  # fmt: skip


def _draw_fine_texture(draws: Draws, g: Galaxies, winding: Tensor, pitch: Tensor) -> Tensor:
    """Draw random fields of unit variance: patches, or arcs that rotation has sheared."""
    field = draws.normal(shape=(1, _N_RADII, _N_ANGLES))
    field = torch.cat([field, field[..., :2]], 3)  # the angle is periodic
    log_radius = torch.log(g.rho / g.radius)
    turn = winding * log_radius / torch.tan(pitch) / (2 * math.pi)
    angle = torch.remainder(g.theta / (2 * math.pi) - turn, 1.0)
    columns = (angle * _N_ANGLES + 0.5) / (_N_ANGLES + 2)
    rows = 1 + log_radius / _LOG_RADII
    grid = 2 * torch.stack([columns, rows], 3) - 1
    sample = torch.nn.functional.grid_sample
    arcs = sample(field, grid, padding_mode="reflection", align_corners=False)[:, 0] / _SMOOTHING
    patches = torch.where(
        draws.happens(0.5) > 0, draws.texture(18, g.size), draws.texture(30, g.size)
    )
    share = torch.where(g.spiral > 0, draws.uniform(0, 1), draws.uniform(0, 0.3))
    return share.sqrt() * arcs + (1 - share).sqrt() * patches


def draw_bar(draws: Draws, g: Galaxies) -> tuple[Tensor, dict[str, Tensor]]:
    """Draw a bar in the plane of the disc, as a share of the light of the disc."""
    barred = draws.happens(0.45 * g.spiral + 0.35 * g.lenticular + 0.3 * g.irregular)
    length = (g.radius * draws.log_uniform(0.12, 0.6)).clamp(min=1.0)
    angle = g.theta - draws.uniform(0, math.pi)
    along, across = (g.rho * torch.cos(angle)).abs() / length, g.rho * torch.sin(angle)
    width = length * draws.uniform(0.16, 0.34)
    light = torch.exp(-(along**3.5) - (across / width) ** 2) * (1 - 0.4 * along).clamp(min=0.2)
    # longer bars are stronger
    share = barred * draws.uniform(0.15, 0.6) * (length / g.radius).sqrt()
    return share * unit(light), {"bar_length": barred * length, "barred": barred, "bar": share}


def draw_rings(
    draws: Draws, g: Galaxies, bar: dict[str, Tensor], texture: Tensor
) -> tuple[Tensor, dict[str, Tensor]]:
    """Draw an inner ring, at the end of a bar if there is one, and an outer ring."""
    ringed = draws.happens(0.28 * (g.spiral + g.lenticular))
    at_bar = bar["bar_length"] * draws.uniform(0.95, 1.2)
    radius = torch.where(bar["barred"] > 0, at_bar, g.scale * draws.uniform(0.7, 2.2))
    width = (radius * draws.uniform(0.08, 0.2)).clamp(min=0.5)
    inner = torch.exp(-(((g.rho - radius) / width) ** 2)) * (0.7 + 0.3 * texture.clamp(max=3))
    share = ringed * draws.uniform(0.03, 0.25)
    outside = draws.happens(0.14 * (g.spiral + g.lenticular))
    far = torch.maximum(radius * draws.uniform(1.8, 2.4), 2.2 * g.scale)
    outer = torch.exp(-(((g.rho - far) / (0.1 * far)) ** 2))
    outer_share = outside * draws.uniform(0.05, 0.3)
    light = share * unit(inner) + outer_share * unit(outer)
    return light, {"ring": share, "outer_ring": outer_share}


def draw_knots(draws: Draws, g: Galaxies, disc: Disc) -> tuple[Tensor, Tensor]:
    """Draw bright knots, on the arms where there are any; return their light and its share."""
    shape = (_N_KNOTS, 1)
    rho = g.scale * torch.sqrt(draws.uniform(0.05, 8.0, shape))
    arm = torch.floor(draws.uniform(0, 5, shape)) * 2 * math.pi / disc.number
    on_arm = disc.winding * (torch.log(rho / g.scale) / torch.tan(disc.pitch) + arm)
    on_arm = on_arm + draws.normal(0.15, shape)
    anywhere = draws.uniform(0, 2 * math.pi, shape)
    theta = torch.where(g.spiral * disc.arms > 0.2, on_arm, anywhere)
    x, y = rho * torch.cos(theta), rho * torch.sin(theta) * g.axis_ratio.clamp(min=0.06)
    cos, sin = torch.cos(g.angle), torch.sin(g.angle)
    width = draws.log_uniform(0.45, 1.7, shape) * g.size / 64
    height = draws.uniform(0.1, 1, shape) ** 2 * torch.exp(-0.5 * rho / g.scale)
    places = g.centre[0] + x * cos - y * sin, g.centre[1] + x * sin + y * cos
    share = g.spiral * draws.happens(0.6) * draws.uniform() * (0.3 + 0.7 * disc.arms)
    share = 0.25 * (share + g.irregular * draws.happens(0.85) * draws.uniform(0.05, 1)) ** 1.5
    return share * unit(splat(*places, width, height, g.size)), share


def splat(x: Tensor, y: Tensor, width: Tensor, height: Tensor, size: int) -> Tensor:
    """Add up round Gaussians, whose parameters are (n, k, 1), into maps (n, size, size)."""
    pixel = (torch.arange(size, device=x.device) + 0.5) - size / 2
    along = torch.exp((-0.5 * ((pixel - x) / width) ** 2).clamp(min=-30))
    up = height * torch.exp((-0.5 * ((pixel - y) / width) ** 2).clamp(min=-30))
    return torch.einsum("nky,nkx->nyx", up, along)


def draw_companion(draws: Draws, g: Galaxies) -> tuple[Tensor, Tensor]:
    """Draw the second nucleus of mergers and a tidal tail, in units of the light of the first."""
    x = g.radius * draws.uniform(0.3, 0.9) * draws.sign()
    y = g.radius * draws.uniform(-0.7, 0.7)
    r = torch.sqrt((g.x - x) ** 2 + ((g.y - y) / draws.uniform(0.5, 1)) ** 2 + 0.3)
    core = g.radius * draws.uniform(0.08, 0.25)
    mass = g.merging * draws.log_uniform(0.1, 1.0)
    second = mass * unit(torch.exp(-2.67 * torch.pow(r / core, 0.6)))
    # the tail leaves on one side and moves outwards along its arc
    arc = torch.remainder(g.theta - draws.uniform(0, 2 * math.pi), 2 * math.pi)
    at = g.radius * draws.uniform(0.6, 1.0) * (1 + 0.15 * arc)
    tail = torch.exp(-(((g.rho - at) / (0.12 * g.radius)) ** 2) - 0.6 * arc)
    return second, g.merging * draws.uniform(0.02, 0.3) * unit(tail)


def draw_dust(draws: Draws, g: Galaxies, disc: Disc) -> Tensor:
    """Draw the optical depth of dust: a lane in inclined discs, else the inner edge of arms."""
    amount = (g.spiral * draws.happens(0.75) + g.lenticular * draws.happens(0.3)) * draws.uniform()
    inclined = torch.sigmoid((0.4 - g.cosine) / 0.05)
    height = (0.025 + 0.035 * draws.uniform()) * g.radius
    offset = draws.sign() * 0.35 * g.cosine * g.scale
    ends = torch.sigmoid((0.9 * g.radius - g.x.abs()) / (0.1 * g.radius))
    lane = 1.6 * torch.exp(-(((g.y + offset) / height) ** 2)) * ends * inclined
    inner_edge = torch.exp(2.5 * (torch.cos(disc.phase - 0.9 * disc.winding) - 1))
    lane = lane + 0.7 * inner_edge * disc.ramp * disc.arms * (1 - inclined)
    return amount * draws.uniform(0.6, 1.6) * lane * disc.texture.clamp(0.4, 1.6)
