"""The network that learns from simulated stamps: planes of any bands, backbone, and outputs.

It sees three planes instead of bands, framed on the source, so that the same weights serve stamps
of any bands, size, unit and stretch.
"""

from __future__ import annotations

import math
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional

from skastro.networks.backbones import STAMP_BACKBONES, PooledBackbone

PLANE_KINDS = ("colours", "stretches")
N_PLANES, N_SCALARS = 3, 3
_BORDER_SHARE = 10  # the border that shows the sky is a tenth of the stamp
_THRESHOLD = 2.0  # sigma of the sky above which pixels belong to sources
_HALF_LIGHT_PLACE = 0.35  # of half the frame, to which small sources are enlarged
_MAX_ZOOM, _MIN_ZOOM = 4.0, 1.15
_PEAK_QUANTILE = 0.995  # of the pixels: a few may be hit by cosmic rays
_PLANE_LIMITS = (-0.5, 1.7)
_SHARE_LIMITS = (-1.0, 3.0)  # of the peak in the middle
_CONTRAST = 30.0  # peak over the softening of the plane that shows faint parts
_LEAST_NOISE = 1e-3  # of the peak
_DEPTH_SCALE = 3.0  # brings the logarithm of the depth to the scale of the features
_MAX_LOG_SPREAD, _MIN_LOG_SPREAD = 3.0, -4.0


class StampPlanes(nn.Module):
    """Map stamps of any bands and size to three planes of a fixed size.

    Parameters
    ----------
    size : int
        Height and width of the planes in pixels.
    kind : {"colours", "stretches"}, default="colours"
        "colours": a blue, a middle and a red plane, stretched by one asinh. "stretches": the mean
        of the bands in three stretches, for sources of which some parts are far brighter than
        others, such as those of radio surveys.
    """

    def __init__(self, size: int, kind: str = "colours") -> None:
        super().__init__()
        self.size, self.kind = size, kind

    def forward(self, stamps: Tensor) -> tuple[Tensor, Tensor]:
        """Map (n, bands, height, width), in the order of wavelength, to planes and scalars.

        NaN is taken as sky. Returns planes (n, 3, size, size), and what they do not show (n, 3):
        the logarithms of the factor by which small sources were enlarged, of the peak over the
        noise, and of the softening of the asinh over the peak.
        """
        fluxes, noise = subtract_sky(stamps.float())
        sigma = noise.mean(1)[:, None, None]
        if self.kind == "colours":
            thirds = _average_bands(fluxes)
            brightness = thirds.mean(1)
            peak, soft = _choose_stretch(brightness, sigma)
            white = torch.asinh(peak / soft)
            planes = (torch.asinh(thirds / soft[:, None]) / white[:, None]).clamp(*_PLANE_LIMITS)
            shown = torch.asinh(brightness / soft) / white
        else:
            brightness = fluxes.mean(1)
            peak, soft = _find_central_peak(brightness)
            planes = _stretch_three_times((brightness / peak).clamp(*_SHARE_LIMITS))
            shown = planes[:, 0]
        zoom = _find_zoom(shown, sigma / peak)
        depth = (peak / (sigma + _LEAST_NOISE * peak)).log() / _DEPTH_SCALE
        scalars = torch.stack([zoom.log(), depth.flatten(), (soft / peak).log().flatten()], 1)
        return self._frame(planes, zoom), scalars

    def _frame(self, planes: Tensor, zoom: Tensor) -> Tensor:
        """Resample the planes to their size, and enlarge small sources in the middle."""
        size = (self.size, self.size)
        framed = planes
        if planes.shape[2:] != size:
            framed = functional.interpolate(planes, size, mode="area")
        rows = (zoom > _MIN_ZOOM).nonzero().flatten()
        if len(rows):
            shrink = torch.eye(2, 3, device=planes.device) / zoom[rows, None, None]
            grid = functional.affine_grid(shrink, [len(rows), 1, *size], align_corners=False)
            near = functional.grid_sample(
                planes[rows], grid, padding_mode="border", align_corners=False
            )
            framed = framed.index_copy(0, rows, near.to(framed.dtype))
        return framed


def subtract_sky(stamps: Tensor) -> tuple[Tensor, Tensor]:
    """Subtract the sky of each band; return the rest, and the noise of the sky (n, bands).

    Both are measured on the border of the stamp, by quantiles, which neighbours change little.
    """
    height, width = stamps.shape[2:]
    b, a = max(1, height // _BORDER_SHARE), max(1, width // _BORDER_SHARE)
    sides = (
        stamps[:, :, :b], stamps[:, :, -b:], stamps[:, :, b:-b, :a], stamps[:, :, b:-b, -a:]
    )  # fmt: skip
    border = torch.cat([side.flatten(2) for side in sides], 2)
    # missing pixels do not count; a border without any pixel has a sky of 0
    missing = border.isnan()
    n_known = (~missing).sum(2, keepdim=True)
    ordered = border.nan_to_num(torch.inf).sort(2).values

    def quantile(share: float) -> Tensor:
        place = (share * (n_known - 1).clamp(min=0)).long()
        return ordered.gather(2, place)[..., 0].nan_to_num(0.0, posinf=0.0)

    sky = quantile(0.5)
    noise = sky - quantile(0.16)
    return (stamps - sky[..., None, None]).nan_to_num(0.0), noise


def _average_bands(fluxes: Tensor) -> Tensor:
    """Average bands to a blue, a middle and a red third (n, 3, height, width).

    One band is all three, and of two bands the mean is the middle.
    """
    n_bands = fluxes.shape[1]
    if n_bands == 1:
        return fluxes.expand(-1, N_PLANES, -1, -1)
    if n_bands == 2:
        return torch.stack([fluxes[:, 0], fluxes.mean(1), fluxes[:, 1]], 1)
    edges = [round(k * n_bands / N_PLANES) for k in range(N_PLANES + 1)]
    return torch.stack([fluxes[:, first:last].mean(1) for first, last in pairwise(edges)], 1)


def _choose_stretch(brightness: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
    """Return the peak of each stamp, and the softening of its asinh: half the mean of sources."""
    n = len(brightness)
    flat = brightness.flatten(1)
    rank = max(1, round(_PEAK_QUANTILE * flat.shape[1]))
    peak = flat.kthvalue(rank, dim=1).values.reshape(n, 1, 1)
    peak = torch.maximum(peak, noise).clamp(min=1e-20)
    source = (brightness > _THRESHOLD * noise + 0.01 * peak).float()
    total = (brightness * source).sum((1, 2), keepdim=True)
    mean = total / source.sum((1, 2), keepdim=True).clamp(min=1)
    return peak, 0.5 * torch.minimum(torch.maximum(mean, 0.01 * peak), peak)


def _find_central_peak(brightness: Tensor) -> tuple[Tensor, Tensor]:
    """Return the largest value in the middle half of each stamp, and the mean of what is there."""
    height, width = brightness.shape[1:]
    top, left = height // 4, width // 4
    middle = brightness[:, top : height - top, left : width - left]
    peak = middle.amax((1, 2), keepdim=True).clamp(min=1e-20)
    return peak, middle.clamp(min=0).mean((1, 2), keepdim=True) + _LEAST_NOISE * peak


def _stretch_three_times(shares: Tensor) -> Tensor:
    """Stretch shares of the peak by asinh, by a square root, and not at all."""
    logarithmic = torch.asinh(_CONTRAST * shares) / math.asinh(_CONTRAST)
    return torch.stack([logarithmic, shares.abs().sqrt() * shares.sign(), shares], 1)


def _find_zoom(bright: Tensor, noise: Tensor) -> Tensor:
    """Return the factor (n,) that brings half of the stretched light to its place in the frame."""
    n, height, width = bright.shape
    y = (torch.arange(height, device=bright.device) + 0.5) / height * 2 - 1
    x = (torch.arange(width, device=bright.device) + 0.5) / width * 2 - 1
    distance = torch.sqrt(x**2 + y[:, None] ** 2)
    # light far from the middle belongs to others
    weight = (bright - torch.maximum(3 * noise, 0.1 * torch.ones_like(noise))).clamp(min=0)
    weight = (weight * (distance < 1)).flatten(1)
    rings = (distance.flatten() * 32).long().clamp(max=45)
    within = torch.zeros(n, 46, device=bright.device).index_add(1, rings, weight).cumsum(1)
    half = ((within < 0.5 * within[:, -1:]).sum(1) + 0.5) / 32
    zoom = (_HALF_LIGHT_PLACE / half).clamp(1.0, _MAX_ZOOM)
    return torch.where((within[:, -1] > 0) & (zoom > _MIN_ZOOM), zoom, torch.ones_like(zoom))


class TeacherNetwork(nn.Module):
    """Map stamps to values, uncertainties and kinds of simulated sources.

    Parameters
    ----------
    backbone : str
        A stamp backbone, such as "stamp_resnet18".
    size : int
        Height and width of the planes in pixels.
    n_values, n_kinds : int
        Number of properties, and of kinds of sources.
    planes : {"colours", "stretches"}, default="colours"
        What the planes show.
    """

    def __init__(
        self, backbone: str, size: int, n_values: int, n_kinds: int, *, planes: str = "colours"
    ) -> None:
        super().__init__()
        self.scaling = StampPlanes(size, planes)
        self.backbone = PooledBackbone(STAMP_BACKBONES[backbone](N_PLANES))
        with torch.no_grad():
            self.backbone.eval()
            n_features = self.backbone(torch.zeros(1, N_PLANES, size, size)).shape[1] + N_SCALARS
            self.backbone.train()
        self.n_values, self.n_kinds = n_values, n_kinds
        self.head = nn.Linear(n_features, 2 * n_values + n_kinds)

    def embed(self, stamps: Tensor) -> Tensor:
        """Map stamps (n, bands, height, width) to features (n, d); the last three are scalars.

        Their unit does not matter; of stamps that are not square, the square in the middle counts.
        """
        stamps = _crop_to_square(stamps)
        largest = stamps.abs().nan_to_num(0.0).amax((1, 2, 3), keepdim=True)
        stamps = stamps / largest.clamp(min=torch.finfo(torch.float32).tiny)
        with torch.autocast(stamps.device.type, enabled=False):  # bfloat16 has 3 digits
            planes, scalars = self.scaling(stamps)
        return self.embed_planes(planes, scalars)

    def embed_planes(self, planes: Tensor, scalars: Tensor) -> Tensor:
        """Map planes (n, 3, size, size) and scalars (n, 3) to features (n, d)."""
        return torch.cat([self.backbone(planes).float(), scalars], 1)

    def forward(self, stamps: Tensor) -> Tensor:
        """Map stamps to outputs (n, 2 p + k): values, logarithms of their spread, and logits."""
        outputs: Tensor = self.head(self.embed(stamps))
        return outputs

    def split(self, outputs: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Split outputs into values (n, p), logarithms of their spread, and logits of kinds."""
        sizes = [self.n_values, self.n_values, self.n_kinds]
        values, spread, logits = torch.split(outputs, sizes, dim=1)
        return values, spread.clamp(_MIN_LOG_SPREAD, _MAX_LOG_SPREAD), logits


def _crop_to_square(stamps: Tensor) -> Tensor:
    """Cut the longer side of stamps (n, bands, height, width) down to the shorter one."""
    height, width = stamps.shape[2:]
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    return stamps[:, :, top : top + side, left : left + side]


def teacher_loss(
    parts: tuple[Tensor, Tensor, Tensor], values: Tensor, kinds: Tensor, kind_weight: float
) -> Tensor:
    """Return the loss of `TeacherNetwork.split` against standardised values and kinds.

    The normal log likelihood of values with a spread of their own, in the form that learns the
    mean well, beta-NLL with beta = 0.5 (Seitzer et al. 2022, arXiv:2203.09168), where values are
    known (not NaN), and the cross-entropy of kinds.
    """
    mean, log_spread, logits = parts
    known = values.isfinite()
    error = values.nan_to_num(0.0) - mean
    likelihood = 0.5 * error**2 * torch.exp(-2 * log_spread) + log_spread
    weighted = likelihood * torch.exp(log_spread).detach() * known
    cross_entropy = functional.cross_entropy(logits, kinds, label_smoothing=0.02)
    return weighted.sum() / known.sum().clamp(min=1) + kind_weight * cross_entropy
