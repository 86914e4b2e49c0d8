"""Augment batches: each stamp gets its own flips, turn and shift."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor


def augment(stamps: Tensor, generator: torch.Generator, *, max_shift: int = 2) -> Tensor:
    """Turn, flip and shift each stamp at random, in one gather for the whole batch.

    Parameters
    ----------
    stamps : Tensor of shape (n, bands, height, width)
        Strips of height 1 are tables, not images, and are returned unchanged.
    generator : torch.Generator
        A generator of the CPU.
    max_shift : int, default=2
        Largest shift in each direction, in pixels, and at most an eighth of the stamp. Pixels
        from outside of the stamp are those reflected at its border.

    Examples
    --------
    >>> stamps = torch.arange(16.0).reshape(1, 1, 4, 4)
    >>> view = augment(stamps, torch.Generator().manual_seed(0), max_shift=0)
    >>> bool((view.sort().values.sum() == stamps.sum()).item())
    True
    """
    n, bands, height, width = stamps.shape
    if height == 1:
        return stamps
    limit = min(max_shift, height // 8, width // 8)
    flip = torch.randint(0, 2, (3, n, 1, 1), generator=generator, dtype=torch.bool)
    shift = torch.randint(-limit, limit + 1, (2, n, 1, 1), generator=generator)
    # row and column of the pixel that each pixel is taken from
    y = torch.arange(height).reshape(1, height, 1).expand(n, height, width)
    x = torch.arange(width).reshape(1, 1, width).expand(n, height, width)
    if height == width:
        y, x = torch.where(flip[0], x, y), torch.where(flip[0], y, x)
    y = _reflect(torch.where(flip[1], height - 1 - y, y) + shift[0], height)
    x = _reflect(torch.where(flip[2], width - 1 - x, x) + shift[1], width)
    index = (y * width + x).reshape(n, 1, height * width).to(stamps.device)
    flat = stamps.reshape(n, bands, height * width)
    return flat.gather(2, index.expand(n, bands, -1)).reshape(n, bands, height, width)


def _reflect(index: Tensor, size: int) -> Tensor:
    index = index.abs()
    return torch.where(index >= size, 2 * (size - 1) - index, index)


def turned_views(stamps: Tensor) -> Iterator[Tensor]:
    """Yield four views of stamps (n, bands, height, width): as they are, and by quarter turns.

    Oblong stamps are mirrored in each axis and in both instead, because a quarter turn changes
    their shape. Strips of height 1 (tables) have one view.

    Examples
    --------
    >>> len(list(turned_views(torch.zeros(1, 3, 4, 4))))
    4
    """
    height, width = stamps.shape[2:]
    yield stamps
    if height == width > 1:
        yield from (torch.rot90(stamps, k, (2, 3)) for k in (1, 2, 3))
    elif height > 1:
        yield from (stamps.flip(axes) for axes in [(2,), (3,), (2, 3)])
