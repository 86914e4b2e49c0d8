"""Simulate radio sources whose structure is known, as an array of antennas sees them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import lazy_loader
import numpy as np

from skastro.simulation.draws import Draws
from skastro.simulation.galaxies import MIN_SIZE, SimulatedStamps, simulate_stamps
from skastro.utils.validation import check_whole_number

if TYPE_CHECKING:
    import torch
    from torch import Tensor
else:
    torch = lazy_loader.load("torch")

RADIO_KINDS = ("compact", "fr1", "fr2", "bent")
# unit and meaning of the truth; NaN where it does not exist
RADIO_PROPERTIES = {
    "length": ("half frame", "from the core to the ends of the jets, blurred by the beam"),
    "core_fraction": ("", "share of the flux in the core, 1 for compact sources"),
    "bending": ("deg", "angle by which the two sides miss a straight line, 0 to 180"),
    "edge_brightening": ("", "place of the brightest parts along the jets: 0 core, 1 end"),
    "flux_ratio": ("", "flux of the fainter side over that of the brighter, 0 to 1"),
    "lobe_width": ("", "standard deviation across the jets over their length"),
    "n_components": ("", "number of peaks above the noise, without unrelated sources"),
}
# What differs between compact sources, FR I, FR II and bent ones: lowest and highest value, and
# the power of the uniform number between them; above 1, low values are more frequent.
_RANGES = {
    # angle by which each jet is swept to one side, and amplitude of the wiggles (rad)
    "turn": ((0, 0, 1), (0, 0.5, 1.8), (0, 0.25, 2), (0.25, 1.6, 1)),
    "wiggle": ((0, 0, 1), (0, 0.5, 2), (0, 0.2, 2), (0, 0.5, 1.5)),
    # along a jet of length 1: its brightest place, and the width of its fall on both sides
    "brightest": ((0, 1, 1), (0, 0.6, 1.2), (0.7, 1, 0.5), (0.1, 1, 1)),
    "inwards": ((0.3, 0.6, 1), (0.2, 0.6, 1), (0.05, 0.5, 1.5), (0.15, 0.6, 1)),
    "outwards": ((0.3, 0.6, 1), (0.15, 0.8, 1), (0.1, 0.4, 1), (0.15, 0.6, 1)),
    # surface brightness of the rest of the jet, and share of the hot spot or knot
    "floor": ((0, 0, 1), (0, 0.25, 2), (0, 0.15, 3), (0, 0.25, 2)),
    "hot_spot": ((0, 0.3, 1), (0, 0.3, 2), (0.05, 0.95, 1), (0, 0.7, 1.5)),
    "core": ((0, 0.9, 1), (0, 0.8, 1.7), (0, 0.6, 3), (0, 0.6, 2)),
    # standard deviation across, where the jet is widest, over the length
    "width": ((0, 0.2, 1), (0.02, 0.2, 1.5), (0.02, 0.28, 1.6), (0.03, 0.18, 1)),
}
# length of a jet in beams: median, scatter of the logarithm, and least
_LENGTHS = ((0.2, 0.5, 0.0), (6.0, 0.7, 0.8), (1.8, 1.2, 0.5), (4.8, 0.6, 1.3))
_MAX_COMPACT = 0.28  # beams
_BENT_FROM = (20.0, 45.0)  # degrees: not all experts draw the same border
_FR2_FROM = 0.6  # of the edge brightening
_POINT_SHARE, _ONE_SIDED_SHARE, _DOUBLE_DOUBLE_SHARE, _DIFFUSE_SHARE = 0.5, 0.1, 0.1, 0.2
_BEAM = (0.6, 4.0)  # full width at half maximum in pixels of a stamp of 64
_MAX_REACH = 1.3  # half frames
_FWHM = 2.355  # full width at half maximum of a Gaussian, in standard deviations
_N_BLOBS = 32  # along a jet
_N_UNRELATED = 4
_OFF_CENTRE_SHARE = 0.06
_FINE = 2  # pixels of the drawing for one of the stamp
_SIGNAL_TO_NOISE = (20.0, 3000.0)  # of the peak
_CLIP = 3.0  # standard deviations of the noise


@dataclass
class _Blobs:
    """Hold Gaussians, (n, k) each: the place (beams), the flux, and the standard deviation."""

    x: Tensor
    y: Tensor
    flux: Tensor
    width: Tensor

    def join(self, other: _Blobs) -> _Blobs:
        """Put the blobs of two lists into one."""
        pairs = zip(vars(self).values(), vars(other).values(), strict=True)
        return _Blobs(*(torch.cat(pair, 1) for pair in pairs))


def make_radio_sources(
    n_sources: int = 1000,
    *,
    image_size: int = 64,
    random_state: int | np.random.RandomState | None = 0,
    device: str = "cpu",
) -> SimulatedStamps:
    """Simulate stamps of radio sources as a survey with an array of antennas shows them.

    Compact sources, FR I (brightest near the core), FR II (brightest at the ends; some with inner
    lobes) and bent sources, about a quarter each. A source counts as bent if its sides miss a
    straight line by more than an angle that is drawn between 20 and 45 degrees. Sources of a few
    pixels to more than the frame are seen by a round or elongated beam, with correlated noise, side
    lobes and unrelated sources. In most stamps the background is clipped at three standard
    deviations, and many are in 256 steps.

    Parameters
    ----------
    n_sources : int, default=1000
    image_size : int, default=64
        Height and width in pixels, at least 16.
    random_state : int, RandomState or None, default=0
        The same integer gives the same sources.
    device : str, default="cpu"
        Device of torch on which to draw.

    Returns
    -------
    sources : SimulatedStamps
        - ``images``: float32 (n_sources, 1, image_size, image_size), finite, with a peak of about
          1: surface brightness, or its square root;
        - ``truth``: DataFrame with these columns, of which a compact source has the first two and
          the last, and NaN for the others: ``length`` (half frames, from the core to the ends of
          the jets, with half the beam added in quadrature), ``core_fraction`` (share of the flux in
          the core), ``bending`` (degrees by which the two sides miss a straight line),
          ``edge_brightening`` (place of the brightest parts along the jets, 0 at the core and 1 at
          the ends), ``flux_ratio`` (flux of the fainter side over that of the brighter),
          ``lobe_width`` (standard deviation across the jets over their length) and
          ``n_components`` (peaks above the noise in the source without noise, 0 if it is too
          faint or outside);
        - ``target``: "compact", "fr1", "fr2" or "bent", array of str (n_sources,);
        - ``target_names``: these four.

    Raises
    ------
    ValueError
        ``n_sources`` or ``image_size`` is out of range.

    Examples
    --------
    >>> from skastro import make_radio_sources
    >>> sources = make_radio_sources(4, image_size=32)
    >>> sources.images.shape, sources.truth.columns.tolist()
    ((4, 1, 32, 32), ['length', 'core_fraction', 'bending', 'edge_brightening', 'flux_ratio',
     'lobe_width', 'n_components'])
    """
    check_whole_number("n_sources", n_sources, least=1)
    check_whole_number("image_size", image_size, least=MIN_SIZE)
    return simulate_stamps(
        n_sources, lambda draws: simulate_radio_sources(draws, image_size), RADIO_KINDS,
        RADIO_PROPERTIES, random_state, device,
    )  # fmt: skip


def simulate_radio_sources(draws: Draws, size: int) -> tuple[Tensor, dict[str, Tensor]]:
    """Draw stamps of radio sources, and the truth about them, all at once.

    Returns
    -------
    stamps : float32 tensor of shape (n, 1, size, size)
        Finite, with a peak of about 1.
    truth : dict of float32 tensors of shape (n,)
        Those of ``RADIO_PROPERTIES`` and ``kind``, an index into ``RADIO_KINDS``.

    Examples
    --------
    >>> stamps, truth = simulate_radio_sources(Draws(2, seed=0), 32)
    >>> stamps.shape, sorted(truth)[:3]
    (torch.Size([2, 1, 32, 32]), ['bending', 'core_fraction', 'edge_brightening'])
    """
    kind = draws.choose(range(len(RADIO_KINDS)))
    length = _draw_length(draws, kind)
    source, truth = _draw_source(draws, kind, length)
    # the frame: a beam of some pixels, such that not too much of the source is outside
    beam = draws.log_uniform(*_BEAM) * size / 64
    beam = torch.minimum(beam, _MAX_REACH * size / 2 / length.clamp(min=0.1)) * _FINE
    _place(draws, source, size * _FINE / beam[..., 0])
    light = _splat(source, beam, size * _FINE)
    unrelated = _draw_unrelated(draws, source, size * _FINE / beam)
    sky = light + _splat(unrelated, beam, size * _FINE)
    stamps, noise = _observe(draws, sky, beam)
    truth["length"] = torch.sqrt(length**2 + 0.25) * beam / (size * _FINE / 2)
    truth["n_components"] = _count_peaks(light, noise)
    truth["kind"] = _tell_kind(draws, kind, truth)
    return stamps, {name: truth[name].reshape(draws.n) for name in (*RADIO_PROPERTIES, "kind")}


def _vary(draws: Draws, kind: Tensor, name: str, shape: tuple[int, ...] = (1, 1)) -> Tensor:
    """Draw numbers in the ranges of the kinds."""
    ranges = torch.tensor(_RANGES[name], device=draws.device).float()[kind.long().flatten()]
    low, high, power = ranges.T[:, :, None, None]
    return low + (high - low) * draws.uniform(shape=shape) ** power


def _draw_length(draws: Draws, kind: Tensor) -> Tensor:
    """Draw the lengths of the jets in beams."""
    lengths = torch.tensor(_LENGTHS, device=draws.device)[kind.long().flatten()]
    median, scatter, least = lengths.T[:, :, None, None]
    length = least + (median - least) * torch.exp(scatter * draws.normal())
    compact = length.clamp(max=_MAX_COMPACT) * draws.happens(1 - _POINT_SHARE)
    return torch.where(kind == 0, compact, length)


def _draw_source(draws: Draws, kind: Tensor, length: Tensor) -> tuple[_Blobs, dict[str, Tensor]]:
    """Draw two jets with hot spots, a core, a few inner lobes, and the truth about them."""
    s = (torch.arange(_N_BLOBS, device=draws.device) + 0.5) / _N_BLOBS
    x, y = _draw_paths(draws, kind, s)
    flux, hot, place = _draw_brightness(draws, kind, s)
    width = _draw_widths(draws, kind, s)
    # irregular: blobs of scattered brightness beside the axis
    rough = draws.uniform(0, 1.1)
    knots = torch.nn.functional.avg_pool1d(draws.normal(2, (2, _N_BLOBS)), 5, 1, 2)
    flux = flux * torch.exp(rough * (knots + draws.normal(0.6, (2, _N_BLOBS))))
    apart = draws.uniform(0, 0.9)
    x, y = (c + draws.normal(shape=(2, _N_BLOBS)) * apart * width for c in (x, y))
    blob_width = width * torch.sqrt(1 - apart**2)
    flux = flux / flux.sum(2, keepdim=True) * (1 - hot)
    # hot spots at the brightest places
    at = (place * _N_BLOBS).long().clamp(max=_N_BLOBS - 1)
    spot_width = width.gather(2, at) * draws.uniform(0, 0.5, (2, 1))
    x, y = (torch.cat([c, c.gather(2, at)], 2) for c in (x, y))
    flux, width, blob_width = (
        torch.cat(pair, 2) for pair in ((flux, hot), (width, spot_width), (blob_width, spot_width))
    )
    # sides of unequal flux and length
    hidden = draws.happens(_ONE_SIDED_SHARE) * draws.uniform(0.7, 0.98)
    ratio = torch.exp(-draws.normal(0.6).abs()) * (1 - hidden)
    core = _vary(draws, kind, "core") * draws.happens(0.8)
    sides = torch.cat([torch.ones_like(ratio), ratio], 1)
    flux = flux * (1 - core) * sides / sides.sum(1, keepdim=True)
    stretch = torch.exp(draws.normal(0.12) * torch.tensor([[1.0], [-1.0]], device=draws.device))
    x, y = x * stretch, y * stretch
    truth = _tell_structure(kind, x, y, flux, width, place, length)
    truth |= {"core_fraction": torch.where(kind == 0, 1.0, core)}
    truth |= {"flux_ratio": torch.where(kind == 0, math.nan, ratio)}
    x, y, width = x * length, y * length, blob_width * length
    source = _Blobs(*(part.flatten(1) for part in (x, y, flux, width)))
    zero = torch.zeros_like(core[..., 0])
    source = source.join(_Blobs(zero, zero, core[..., 0], zero))
    return source.join(_draw_inner_lobes(draws, kind, x, y, length, core)), truth


def _draw_paths(draws: Draws, kind: Tensor, s: Tensor) -> tuple[Tensor, Tensor]:
    """Draw the paths of two jets of length 1, (n, 2, k), swept to the same side."""
    angle = draws.uniform(0, 2 * math.pi)
    # swept at the core, on the way, or abruptly at the end
    turn = _vary(draws, kind, "turn") * torch.exp(draws.normal(0.45, (2, 1)))
    start, pace = draws.uniform(-0.4, 0.7), draws.log_uniform(0.04, 0.5)
    swept = turn.clamp(max=1.75) * torch.sigmoid((s - start) / pace)
    opposite = torch.tensor([[1.0], [-1.0]], device=draws.device)
    heading = angle + (1 - opposite) * math.pi / 2 + swept * opposite
    # S-shapes by precession, and disorder of each side
    phase, cycles = draws.uniform(0, 2 * math.pi), draws.uniform(0.4, 1.6)
    wave = torch.sin(2 * math.pi * cycles * s + phase + draws.normal(0.6, (2, 1)))
    heading = heading + _vary(draws, kind, "wiggle") * wave + draws.normal(0.09, (2, 1))
    step = 1 / _N_BLOBS
    return (torch.cos(heading) * step).cumsum(2), (torch.sin(heading) * step).cumsum(2)


def _draw_brightness(draws: Draws, kind: Tensor, s: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Draw the flux along the jets, the share of the hot spots, and where these are."""
    one = (1, 1)
    place = _vary(draws, kind, "brightest", one) * torch.exp(draws.normal(0.1, (2, 1)))
    place = place.clamp(max=1.0)
    inwards, outwards = (_vary(draws, kind, name, one) for name in ("inwards", "outwards"))
    distance = torch.where(s < place, (place - s) / inwards, (s - place) / outwards)
    profile = torch.exp(-(distance ** draws.uniform(1, 2))) + _vary(draws, kind, "floor")
    hot = (_vary(draws, kind, "hot_spot") + draws.normal(0.12, (2, 1))).clamp(0, 0.97)
    return profile, hot, place


def _draw_widths(draws: Draws, kind: Tensor, s: Tensor) -> Tensor:
    """Draw the widths along the jets: plumes widen outwards, lobes are widest before their end."""
    width = _vary(draws, kind, "width") * torch.exp(draws.normal(0.2, (2, 1)))
    diffuse = (kind == 1) * draws.happens(_DIFFUSE_SHARE) * draws.uniform(1, 4)
    plume = s ** draws.uniform(0.4, 1.5) * (1 + diffuse)
    lobe = 1 - 0.8 * (s - draws.uniform(0.6, 1)).abs()
    return width * torch.where(kind == 2, lobe, plume)


def _tell_structure(
    kind: Tensor, x: Tensor, y: Tensor, flux: Tensor, width: Tensor, place: Tensor, length: Tensor
) -> dict[str, Tensor]:
    """Return what is known of the jets, (n, 2, k) with the hot spots last, in lengths."""
    # the bend between the lines from the core to the outer half of each side
    half = slice(_N_BLOBS // 2, None)
    east, north = (c[..., half].mean(2, keepdim=True) for c in (x, y))
    angle = torch.atan2(north, east)
    bending = ((angle[:, :1] - angle[:, 1:]).remainder(2 * math.pi) - math.pi).abs()
    # brightest where the surface brightness seen through the beam is highest
    s = (torch.arange(_N_BLOBS, device=x.device) + 0.5) / _N_BLOBS
    s = torch.cat([s.expand_as(x[..., :-1]), place], 2)
    beam = 1 / (_FWHM * length.clamp(min=0.1))
    weight = flux**2 / (width**2 + beam**2)

    def average(values: Tensor, weights: Tensor) -> Tensor:
        return (values * weights).sum((1, 2)) / weights.sum((1, 2)).clamp(min=1e-12)

    known = {
        "bending": torch.rad2deg(bending)[:, 0, 0],
        "edge_brightening": average(s, weight),
        "lobe_width": average(width, flux),
    }
    compact = kind[:, 0, 0] == 0
    return {name: torch.where(compact, math.nan, value) for name, value in known.items()}


def _tell_kind(draws: Draws, kind: Tensor, truth: dict[str, Tensor]) -> Tensor:
    """Name the kind by what is drawn; FR I and II as Fanaroff & Riley 1974 (MNRAS 167, 31P)."""
    bent = truth["bending"] > draws.uniform(*_BENT_FROM)[:, 0, 0]
    straight = torch.where(truth["edge_brightening"] > _FR2_FROM, 2.0, 1.0)
    return torch.where(kind[:, 0, 0] == 0, 0.0, torch.where(bent, 3.0, straight))


def _draw_inner_lobes(
    draws: Draws, kind: Tensor, x: Tensor, y: Tensor, length: Tensor, core: Tensor
) -> _Blobs:
    """Draw the inner lobes of double-double sources, along the line of the outer ones."""
    present = draws.happens(_DOUBLE_DOUBLE_SHARE) * (kind == 2) * (length > 2)
    inner = draws.uniform(0.15, 0.5) * torch.exp(draws.normal(0.15, (2, 1)))
    flux = present * draws.uniform(0.05, 0.3, (2, 1)) * (1 - core)
    width = draws.uniform(0, 0.04) * length.expand(-1, 2, -1)
    places = x[..., -1:] * inner, y[..., -1:] * inner
    return _Blobs(*(part.flatten(1) for part in (*places, flux, width)))


def _place(draws: Draws, source: _Blobs, frame: Tensor) -> None:
    """Move the core, the centre of light, what is between or, in a few, an end to the middle."""
    total = source.flux.sum(1, keepdim=True)
    mix = (1.6 * draws.uniform()[..., 0] - 0.3).clamp(0, 1)
    at_end = draws.happens(_OFF_CENTRE_SHARE)[..., 0] > 0
    for name in ("x", "y"):
        places = getattr(source, name)
        centre = mix * (places * source.flux).sum(1, keepdim=True) / total
        # the hot spot of the brighter side
        centre = torch.where(at_end, places[:, _N_BLOBS, None], centre)
        shift = draws.normal(0.008)[..., 0].clamp(-0.033, 0.033) * frame
        setattr(source, name, places - centre + shift)


def _draw_unrelated(draws: Draws, source: _Blobs, frame: Tensor) -> _Blobs:
    """Draw single and double sources anywhere in the frame, few in most stamps."""
    shape = (_N_UNRELATED, 1)
    present = (draws.uniform(shape=shape) < draws.log_uniform(0.03, 0.6)).float()
    total = source.flux.sum(1)[:, None, None]
    flux = present * total * 10 ** draws.uniform(-2, 0.3, shape)
    x, y = (draws.uniform(-0.5, 0.5, shape) * frame for _ in range(2))
    width = draws.uniform(shape=shape) ** 3
    # a second component beside some
    angle = draws.uniform(0, 2 * math.pi, shape)
    apart = draws.log_uniform(0.8, 4, shape)
    ratio = (draws.uniform(shape=shape) < 0.35) * draws.uniform(0.2, 1, shape)
    first = _Blobs(*(part[..., 0] for part in (x, y, flux, width)))
    x, y = x + apart * torch.cos(angle), y + apart * torch.sin(angle)
    return first.join(_Blobs(*(part[..., 0] for part in (x, y, flux * ratio, width))))


def _splat(blobs: _Blobs, beam: Tensor, size: int) -> Tensor:
    """Draw blobs, seen by a round beam of a width (n, 1, 1) in pixels, as maps (n, size, size)."""
    axis = (torch.arange(size, device=beam.device) + 0.5 - size / 2) / beam
    width = torch.sqrt(blobs.width**2 + _FWHM**-2)[..., None]
    rows, columns = (
        torch.exp((-0.5 * ((axis - place[..., None]) / width) ** 2).clamp(min=-40))
        for place in (blobs.y, blobs.x)
    )
    peak = blobs.flux[..., None] / (_FWHM * width) ** 2  # of a point source: its flux
    return (peak * rows).mT @ columns


def _observe(draws: Draws, sky: Tensor, beam: Tensor) -> tuple[Tensor, Tensor]:
    """Add beam shape, noise, side lobes and clipping, and reduce to the stamp; return its noise."""
    size = sky.shape[-1]
    fy = torch.fft.fftfreq(size, device=sky.device)[:, None]
    fx = torch.fft.rfftfreq(size, device=sky.device)
    # the beam is longer than it is wide in some surveys: blur along one axis
    longer = 1 + draws.happens(0.3) * draws.uniform(0.05, 0.6)
    angle = draws.uniform(0, math.pi)
    along = (torch.cos(angle) * fx + torch.sin(angle) * fy) ** 2
    sigma = beam / _FWHM
    extra = torch.exp((-2 * (math.pi * sigma) ** 2 * (longer**2 - 1) * along).clamp(min=-40))
    round_beam = torch.exp((-2 * (math.pi * sigma) ** 2 * (fx**2 + fy**2)).clamp(min=-40))
    sky = torch.fft.irfft2(torch.fft.rfft2(sky) * extra, s=(size, size))
    white = torch.fft.rfft2(draws.normal(shape=(size, size)))
    noise = torch.fft.irfft2(white * round_beam * extra, s=(size, size))
    noise = noise / noise.std((1, 2), keepdim=True)
    peak = sky.amax((1, 2), keepdim=True)
    level = peak / draws.log_uniform(*_SIGNAL_TO_NOISE)
    seen = _add_side_lobes(draws, sky, beam) + level * noise
    # clipped before or after the reduction to the pixels of the stamp, or not at all
    when = draws.choose([0, 1, 2], [0.5, 0.35, 0.15])
    threshold = draws.uniform(0.8, 1.2) * _CLIP * level
    seen = torch.where((when > 0) | (seen > threshold), seen, 0.0)
    seen = torch.nn.functional.avg_pool2d(seen, _FINE)
    seen = torch.where((when != 1) | (seen > threshold), seen, 0.0)
    return _scale(draws, seen)[:, None], level


def _add_side_lobes(draws: Draws, sky: Tensor, beam: Tensor) -> Tensor:
    """Add rings or stripes of some percent of the peak around the brightest place of some maps."""
    strength = 10 ** draws.uniform(-2.8, -1.3)
    wave = draws.uniform(1.5, 6) * beam
    angle, phase = draws.uniform(0, math.pi), draws.uniform(0, 2 * math.pi)
    kind = draws.choose([0, 1, 2], [0.75, 0.08, 0.17])
    reach = draws.uniform(2, 15) * beam
    rows = kind.flatten() > 0
    n, size, _ = sky[rows].shape
    if n == 0:
        return sky
    peak, where = sky[rows].flatten(1).max(1)
    axis = torch.arange(size, device=sky.device)
    dx = (axis - (where % size)[:, None])[:, None, :]
    dy = (axis - (where // size)[:, None])[:, :, None]
    radius = torch.sqrt((dx**2 + dy**2).float())
    cosine, sine = torch.cos(angle[rows]), torch.sin(angle[rows])
    along, across = dx * cosine + dy * sine, dy * cosine - dx * sine
    waves = torch.cos(2 * math.pi * radius / wave[rows] + phase[rows])
    rings = waves * torch.exp(-(radius / reach[rows]).clamp(max=40))
    narrow = torch.exp((-0.5 * (across / (0.6 * beam[rows])) ** 2).clamp(min=-40))
    waves = torch.cos(2 * math.pi * along / wave[rows] + phase[rows])
    stripes = narrow * waves * torch.exp(-(along.abs() / reach[rows]).clamp(max=40))
    pattern = torch.where(kind[rows] == 1, rings, stripes) * (radius > beam[rows])
    lobes = strength[rows] * peak[:, None, None] * pattern
    return sky.index_add(0, rows.nonzero().flatten(), lobes)


def _scale(draws: Draws, seen: Tensor) -> Tensor:
    """Scale to a peak of 1, and show some as square roots and in up to 256 steps."""
    values = seen / seen.amax((1, 2), keepdim=True).clamp(min=1e-12)
    root = values.abs().sqrt() * values.sign()
    values = torch.where(draws.happens(0.2) > 0, root, values)
    # fewer steps where a brighter source outside the stamp has set the scale
    steps = 255 * torch.where(draws.happens(0.8) > 0, 1.0, draws.log_uniform(0.1, 1))
    eight_bit = torch.floor(values.clamp(min=0) * steps + 0.5) / steps
    return torch.where(draws.happens(0.7) > 0, eight_bit, values)


def _count_peaks(light: Tensor, noise: Tensor) -> Tensor:
    """Count the local maxima of noise-free maps above the noise and 3 % of the highest."""
    highest = torch.nn.functional.max_pool2d(light[:, None], 3, 1, 1)[:, 0]
    least = torch.maximum(_CLIP * noise, 0.03 * light.amax((1, 2), keepdim=True))
    return ((light == highest) & (light > least)).sum((1, 2)).float()
