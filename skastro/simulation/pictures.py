"""Compose colour pictures of simulated stamps as surveys publish them."""

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

_JPEG_SHARE = 0.6
_JPEG_BLOCK = 8  # pixels
_JPEG_QUALITY = (0.08, 0.9)  # factors of the table: 0.08 is a quality of 96 %, 0.9 of 55 %
_GAINS = (-0.35, 0.0, 0.6)  # of red, green and blue, ln: those of SDSS and the Legacy Surveys
# quantisation of brightness in ITU-T recommendation T.81, table K.1
_JPEG_TABLE = (
    (16, 11, 10, 16, 24, 40, 51, 61), (12, 12, 14, 19, 26, 58, 60, 55),
    (14, 13, 16, 24, 40, 57, 69, 56), (14, 17, 22, 29, 51, 87, 80, 62),
    (18, 22, 37, 56, 68, 109, 103, 77), (24, 35, 55, 64, 81, 104, 113, 92),
    (49, 64, 78, 87, 103, 121, 120, 101), (72, 92, 95, 98, 112, 100, 103, 99),
)  # fmt: skip
_YCC = ((0.299, 0.587, 0.114), (-0.1687, -0.3313, 0.5), (0.5, -0.4187, -0.0813))


def compose_pictures(stamps: Tensor, noise: Tensor, draws: Draws) -> Tensor:
    """Compose three bands (n, 3, height, width) to 8-bit pictures, red first, from 0 to 1.

    By the asinh stretch of Lupton et al. 2004 (PASP 116, 133), of many softenings, black levels
    and saturations; some pictures went through JPEG.
    """
    n = len(stamps)
    gains = torch.tensor(_GAINS, device=draws.device) + draws.normal(0.12, (3,))
    gains = torch.exp(gains)[:, :, None, None]
    fluxes, noise = stamps.flip(1).nan_to_num(0.0) * gains, noise.flip(1) * gains
    noise = noise.mean(1, keepdim=True)
    brightness = fluxes.mean(1, keepdim=True)
    peak = brightness.flatten(1).quantile(0.998, dim=1).reshape(n, 1, 1, 1).clamp(min=1e-9)
    # where asinh turns from linear to logarithmic, and what becomes white
    soft = torch.minimum(draws.log_uniform(0.7, 12.0)[:, None] * noise, peak)
    white = torch.where(
        draws.happens(0.5)[:, None] > 0, peak * draws.log_uniform(0.8, 8.0)[:, None],
        soft * draws.log_uniform(40, 1000)[:, None],
    )  # fmt: skip
    black = (draws.happens(0.6) * draws.uniform(0, 1.5))[:, None] * noise
    level = (brightness + black).clamp(min=0)
    factor = torch.asinh(level / soft) / torch.asinh(white / soft)
    factor = factor / (brightness + black).clamp(min=1e-3 * noise)
    rgb = ((fluxes + black) * factor).clamp(min=0)
    rgb = rgb / rgb.amax(1, keepdim=True).clamp(min=1)
    # some pictures are paler than others, and their sky is not quite black, of any hue
    grey = rgb.mean(1, keepdim=True)
    rgb = grey + draws.uniform(0.5, 1.5)[:, None] * (rgb - grey)
    rgb = (rgb + draws.normal(0.02, (3,)).abs()[:, :, None, None]).clamp(0, 1)
    rows = draws.happens(_JPEG_SHARE).flatten() > 0
    quality = draws.uniform(*_JPEG_QUALITY)[rows]
    rgb[rows] = compress(rgb[rows], quality)
    return torch.round(rgb * 255) / 255


def compress(rgb: Tensor, quality: Tensor) -> Tensor:
    """Lose what JPEG loses: colours at half the resolution, and 8 x 8 cosine transforms."""
    n, _, height, width = rgb.shape
    block, device = _JPEG_BLOCK, rgb.device
    to_ycc = torch.tensor(_YCC, device=device)
    ycc = torch.einsum("ij,njyx->niyx", to_ycc, rgb * 255)
    ycc = torch.nn.functional.pad(ycc, (0, -width % block, 0, -height % block), mode="replicate")
    colour = torch.nn.functional.avg_pool2d(ycc[:, 1:], 2)
    colour = torch.nn.functional.interpolate(colour, scale_factor=2, mode="bilinear")
    ycc = torch.cat([ycc[:, :1] - 128, colour], 1)
    rows, columns = (side // block for side in ycc.shape[2:])
    blocks = ycc.reshape(n, 3, rows, block, columns, block).transpose(3, 4)
    k = torch.arange(block, device=device, dtype=torch.float32)
    cosine = 0.5 * torch.cos((2 * k + 1) * k[:, None] * math.pi / 16)
    cosine[0] /= math.sqrt(2)
    table = torch.tensor(_JPEG_TABLE, device=device, dtype=torch.float32)
    step = (table * quality.reshape(n, 1, 1, 1, 1, 1)).clamp(min=1)
    blocks = cosine.T @ (torch.round(cosine @ blocks @ cosine.T / step) * step) @ cosine
    ycc = blocks.transpose(3, 4).reshape(ycc.shape)[:, :, :height, :width]
    ycc = torch.cat([ycc[:, :1] + 128, ycc[:, 1:]], 1)
    return (torch.einsum("ij,njyx->niyx", torch.linalg.inv(to_ycc), ycc) / 255).clamp(0, 1)
