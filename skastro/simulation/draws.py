"""Random numbers for many simulated stamps at once, from one seed."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import lazy_loader

if TYPE_CHECKING:
    import torch
    from torch import Tensor
else:
    torch = lazy_loader.load("torch")


class Draws:
    """Draw random numbers of shape (n, 1, 1), one for each of n stamps, on any device.

    They come from one generator of the CPU, so that the same seed draws the same stamps on every
    device, up to rounding.

    Parameters
    ----------
    n : int
        Number of stamps.
    seed : int
    device : str, default="cpu"

    Examples
    --------
    >>> draws = Draws(3, seed=0)
    >>> draws.uniform(1, 2).shape
    torch.Size([3, 1, 1])
    """

    def __init__(self, n: int, seed: int, device: str = "cpu") -> None:
        self.n, self.device = n, device
        self.generator = torch.Generator().manual_seed(seed)

    def uniform(self, low: float = 0.0, high: float = 1.0, shape: Sequence[int] = (1, 1)) -> Tensor:
        """Draw (n, *shape) numbers between two values."""
        numbers = torch.rand(self.n, *shape, generator=self.generator)
        return (low + (high - low) * numbers).to(self.device)

    def log_uniform(self, low: float, high: float, shape: Sequence[int] = (1, 1)) -> Tensor:
        """Draw (n, *shape) numbers between two values whose logarithms are uniform."""
        return self.uniform(math.log(low), math.log(high), shape).exp()

    def normal(self, scale: float = 1.0, shape: Sequence[int] = (1, 1)) -> Tensor:
        """Draw (n, *shape) normal numbers of mean 0 and a standard deviation."""
        numbers = torch.randn(self.n, *shape, generator=self.generator)
        return (scale * numbers).to(self.device)

    def happens(self, probability: float | Tensor) -> Tensor:
        """Draw 1 with a probability, else 0."""
        return (self.uniform() < probability).float()

    def sign(self) -> Tensor:
        """Draw 1 or -1."""
        return 2 * self.happens(0.5) - 1

    def choose(self, values: Sequence[float], shares: Sequence[float] | None = None) -> Tensor:
        """Draw some of the values, with equal or given shares."""
        weights = torch.ones(len(values)) if shares is None else torch.tensor(shares)
        rows = torch.multinomial(weights, self.n, replacement=True, generator=self.generator)
        return torch.tensor(values)[rows][:, None, None].to(self.device)

    def texture(self, cells: int, size: int) -> Tensor:
        """Draw smooth random fields (n, size, size) of unit variance in a number of cells."""
        field = self.normal(shape=(1, cells, cells))
        size_out = (size, size)
        return torch.nn.functional.interpolate(
            field, size_out, mode="bicubic", align_corners=False
        )[:, 0]
