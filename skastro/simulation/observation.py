"""What a telescope makes of simulated light: neighbours, stars, seeing, noise and faults."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import lazy_loader

from skastro.simulation.draws import Draws

if TYPE_CHECKING:
    import torch
    from torch import Tensor
else:
    torch = lazy_loader.load("torch")

_N_NEIGHBOURS = 10
_COLOUR_SLOPE = 0.45  # change of ln(flux) from one band to the next, for one sigma of colour
_BRIGHT_STAR_SHARE = 0.06
_TRAIL_SHARE, _COSMIC_RAY_SHARE, _COLUMN_SHARE, _EDGE_SHARE = 0.03, 0.05, 0.02, 0.03
_SEEING = (0.5, 3.0)  # full width at half maximum, pixels
_MARGIN = 4  # pixels around a stamp for the seeing
_WING_SHARE, _WING_WIDTH = 0.12, 2.4  # of the seeing, in units of the core's width
_SIGNAL_TO_NOISE = (15.0, 2000.0)  # of the brightest hundredth of the pixels, at unit light


def observe(fluxes: Tensor, draws: Draws) -> tuple[Tensor, Tensor]:
    """Observe light (n, bands, size, size): return linear stamps, and their noise (n, bands, 1, 1).

    A few stamps have a missing edge, which is NaN.
    """
    fluxes = add_neighbours(fluxes, draws)
    fluxes = add_bright_stars(fluxes, draws)
    fluxes = blur(fluxes, draws)
    stamps, noise = add_noise(fluxes, draws)
    return spoil(stamps, noise, draws), noise


def _colours(draws: Draws, shape: tuple[int, ...]) -> Tensor:
    """Draw the fluxes of bands for sources of random colour; the last axis are the bands."""
    bands = shape[-1]
    t = torch.linspace(-0.5, 0.5, bands, device=draws.device) * max(bands - 1, 0)
    return torch.exp(_COLOUR_SLOPE * draws.normal(shape=(*shape[:-1], 1)) * t)


def _axis(size: int, device: str) -> Tensor:
    return torch.arange(size, device=device) + 0.5 - size / 2


def add_neighbours(fluxes: Tensor, draws: Draws) -> Tensor:
    """Add stars and small galaxies, few in most stamps and many in some."""
    _, bands, size, _ = fluxes.shape
    shape = (_N_NEIGHBOURS, 1)
    total = fluxes.sum((2, 3)).mean(1)[:, None, None]
    crowding = draws.log_uniform(0.02, 0.6)
    present = (draws.uniform(shape=shape) < crowding).float()
    flux = present * total * 10 ** draws.uniform(-3.3, -1.3, shape)
    x, y = (draws.uniform(-0.5, 0.5, shape) * size for _ in range(2))
    extended = (draws.uniform(shape=shape) < 0.3) * draws.uniform(0.3, 2.2, shape) * size / 64
    # Gaussians along the axes, so that a map is a product of a row and a column
    width = 0.35 + extended * draws.uniform(0.5, 1, shape)
    height = 0.35 + extended * draws.uniform(0.5, 1, shape)
    axis = _axis(size, draws.device)
    along = torch.exp((-0.5 * ((axis - x) / width) ** 2).clamp(min=-30)) / width
    up = torch.exp((-0.5 * ((axis - y) / height) ** 2).clamp(min=-30)) / height
    colours = _colours(draws, (_N_NEIGHBOURS, bands)) * flux / (2 * math.pi)
    return fluxes + torch.einsum("nkb,nky,nkx->nbyx", colours, up, along)


def add_bright_stars(fluxes: Tensor, draws: Draws) -> Tensor:
    """Add stars with a halo and spikes to a few stamps."""
    _, bands, size, _ = fluxes.shape
    rows = (draws.uniform() < _BRIGHT_STAR_SHARE).flatten()
    x, y = (draws.uniform(-0.6, 0.6) * size for _ in range(2))
    flux = fluxes.sum((2, 3)).mean(1)[:, None, None] * 10 ** draws.uniform(-1.5, 1.0)
    angle, colours = draws.uniform(0, math.pi / 2)[rows], _colours(draws, (1, bands))[rows]
    axis = _axis(size, draws.device)
    dx, dy = axis[None, None, :] - x[rows], axis[None, :, None] - y[rows]
    u = (dx * torch.cos(angle) + dy * torch.sin(angle)).abs() * 64 / size
    v = (dy * torch.cos(angle) - dx * torch.sin(angle)).abs() * 64 / size
    halo = 1 / (1 + (u**2 + v**2) / 0.64) ** 1.5
    spikes = torch.exp(-u / 0.35 - v / 9) + torch.exp(-v / 0.35 - u / 9)
    light = halo + 0.25 * spikes
    light = flux[rows] * light / light.sum((1, 2), keepdim=True)
    return fluxes.index_add(
        0, rows.nonzero().flatten(), light[:, None] * colours[:, 0, :, None, None]
    )


def blur(fluxes: Tensor, draws: Draws) -> Tensor:
    """Convolve with the seeing: a Gaussian core and wings, a little different in each band."""
    _, bands, size, _ = fluxes.shape
    best, worst = _SEEING  # good seeing is more frequent
    seeing = best * (worst / best) ** (draws.uniform() ** 1.5) * (size / 64) ** 0.5
    sigma = seeing * torch.exp(draws.normal(0.06, (bands, 1))) / 2.355
    side = size + 2 * _MARGIN
    fy = torch.fft.fftfreq(side, device=draws.device)[:, None]
    fx = torch.fft.rfftfreq(side, device=draws.device)[None]
    # slightly elongated by guiding errors, along the pixels
    longer = 1 + draws.uniform(0, 0.15)[:, None] * draws.sign()[:, None]
    exponent = -2 * (math.pi * sigma[..., None]) ** 2 * (fx**2 * longer + fy**2 / longer)
    wings = torch.exp((exponent * _WING_WIDTH**2).clamp(min=-30))
    kernel = (1 - _WING_SHARE) * torch.exp(exponent.clamp(min=-30)) + _WING_SHARE * wings
    padded = torch.nn.functional.pad(fluxes, [_MARGIN] * 4, mode="replicate")
    blurred = torch.fft.irfft2(torch.fft.rfft2(padded) * kernel, s=(side, side))
    inside = slice(_MARGIN, -_MARGIN)
    return blurred[:, :, inside, inside]


def add_noise(fluxes: Tensor, draws: Draws) -> tuple[Tensor, Tensor]:
    """Add noise of sky and source, correlated in some stamps, and what sky subtraction leaves."""
    n, bands, size, _ = fluxes.shape
    brightest = fluxes.mean(1).flatten(1).topk(max(4, size * size // 100), dim=1).values
    # relative to a galaxy of unit light, so that faint ones are noisier
    bright = brightest.mean(1) / fluxes.sum((2, 3)).mean(1)
    level = bright.reshape(n, 1, 1, 1) / draws.log_uniform(*_SIGNAL_TO_NOISE)[:, None]
    sigma = level * torch.exp(draws.normal(0.3, (bands, 1, 1)))
    noise = draws.normal(shape=(bands, size, size))
    # resampled images: neighbouring pixels share their noise
    smooth = (draws.happens(0.5) * draws.uniform(0, 0.9))[:, None]
    row = torch.tensor([0.25, 0.5, 0.25], device=draws.device)
    kernel = (row[:, None] * row)[None, None]
    soft = torch.nn.functional.conv2d(noise.flatten(0, 1)[:, None], kernel, padding=1)
    noise = (1 - smooth) * noise + smooth * soft.reshape(noise.shape) / 0.375
    noise = noise / noise.std((2, 3), keepdim=True)
    photons = draws.log_uniform(0.003, 0.6)[:, None]  # the source's own noise
    stamps = fluxes + noise * torch.sqrt(sigma**2 + photons * sigma * fluxes.clamp(min=0))
    ramp = torch.linspace(-0.5, 0.5, size, device=draws.device)
    tilt = draws.normal(0.25)[:, None] * ramp + draws.normal(0.25)[:, None] * ramp[:, None]
    return stamps + (draws.normal(0.25, (bands, 1, 1)) + tilt) * sigma, sigma


def spoil(stamps: Tensor, noise: Tensor, draws: Draws) -> Tensor:
    """Add faults to a few stamps, in place."""
    for add_fault in (_add_trails, _add_cosmic_rays, _add_bad_columns, _cut_edges):
        add_fault(stamps, noise, draws)
    return stamps


def _rows(draws: Draws, share: float) -> Tensor:
    """Draw the numbers of the stamps in which something happens."""
    return draws.happens(share).flatten().nonzero().flatten()


def _one_band(draws: Draws, bands: int) -> Tensor:
    """Draw 1 for one band of each stamp and 0 for the others, (n, bands, 1, 1)."""
    band = torch.randint(bands, (draws.n,), generator=draws.generator)
    chosen = torch.nn.functional.one_hot(band, bands).float().to(draws.device)
    return chosen[:, :, None, None]


def _add_trails(stamps: Tensor, noise: Tensor, draws: Draws) -> None:
    """Add the trails of satellites, each in one band."""
    rows, axis = _rows(draws, _TRAIL_SHARE), _axis(stamps.shape[-1], draws.device)
    angle, place = draws.uniform(0, math.pi)[rows], draws.uniform(-0.5, 0.5)[rows]
    height = 10 ** draws.uniform(0.3, 1.6)[rows]
    across = axis[:, None] * torch.cos(angle) - axis * torch.sin(angle) - place * len(axis)
    trail = height * torch.exp((-0.5 * (across / 0.9) ** 2).clamp(min=-30))
    stamps[rows] += trail[:, None] * noise[rows] * _one_band(draws, stamps.shape[1])[rows]


def _add_cosmic_rays(stamps: Tensor, noise: Tensor, draws: Draws) -> None:
    """Add one or two bright pixels to each band."""
    rows = _rows(draws, _COSMIC_RAY_SHARE)
    where = torch.rand(len(rows), *stamps.shape[1:], generator=draws.generator)
    hit = where.to(draws.device) < 1.5 / stamps.shape[-1] ** 2
    stamps[rows] += 40 * noise[rows] * hit


def _add_bad_columns(stamps: Tensor, noise: Tensor, draws: Draws) -> None:
    """Set a column of all bands to a high value."""
    rows, size = _rows(draws, _COLUMN_SHARE), stamps.shape[-1]
    column = torch.floor(draws.uniform(0, size)[rows])
    bad = torch.arange(size, device=draws.device) == column
    stamps[rows] = torch.where(bad[:, None], 30 * noise[rows], stamps[rows])


def _cut_edges(stamps: Tensor, noise: Tensor, draws: Draws) -> None:
    """Set one side to NaN, in units beyond the edge of the frame."""
    del noise  # all faults have the same arguments
    rows, size = _rows(draws, _EDGE_SHARE), stamps.shape[-1]
    first = draws.uniform(0.7, 0.98)[rows, 0] * size
    missing = (torch.arange(size, device=draws.device) >= first).float()
    side = torch.randint(4, (draws.n,), generator=draws.generator).to(draws.device)[rows]
    masks = [torch.rot90(missing[:, None].expand(-1, size, -1), k, (1, 2)) for k in range(4)]
    mask = torch.stack(masks)[side, torch.arange(len(rows), device=draws.device)]
    stamps[rows] = torch.where(mask[:, None] > 0, math.nan, stamps[rows])
