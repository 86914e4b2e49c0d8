"""Whole-batch augmentation: every stamp its own element of the dihedral group and its own shift."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor


def augment(
    stamps: Tensor,
    generator: torch.Generator,
    *,
    max_shift: int = 2,
    share: slice | None = None,
    batch_size: int | None = None,
) -> Tensor:
    """Turn, flip and shift each stamp at random, in one gather for the whole batch.

    Parameters
    ----------
    stamps : Tensor of shape (n, bands, height, width)
        Strips of height 1 are tables, not images, and are returned as they are.
    generator : torch.Generator
        On the CPU.
    max_shift : int, default=2
        Largest shift in each direction, in pixels; pixels from outside are the reflected
        ones. At most an eighth of the stamp.
    share : slice, default=None
        Which stamps of a batch of ``batch_size`` these are: they are turned as they would be if
        the whole batch were here. None: they are the batch.
    batch_size : int, default=None

    Returns
    -------
    stamps : Tensor of the same shape

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
    drawn = n if batch_size is None else batch_size
    flip = torch.randint(0, 2, (3, drawn, 1, 1), generator=generator, dtype=torch.bool)
    shift = torch.randint(-limit, limit + 1, (2, drawn, 1, 1), generator=generator)
    if share is not None:
        flip, shift = flip[:, share], shift[:, share]
    y, x = _source_pixels(height, width, flip, shift)
    index = (y * width + x).reshape(n, 1, height * width).to(stamps.device)
    flat = stamps.reshape(n, bands, height * width)
    return flat.gather(2, index.expand(n, bands, -1)).reshape(n, bands, height, width)


def _source_pixels(height: int, width: int, flip: Tensor, shift: Tensor) -> tuple[Tensor, Tensor]:
    """Return for each pixel of each stamp the row and column it is taken from."""
    n = flip.shape[1]
    y = torch.arange(height).reshape(1, height, 1).expand(n, height, width)
    x = torch.arange(width).reshape(1, 1, width).expand(n, height, width)
    if height == width:
        y, x = torch.where(flip[0], x, y), torch.where(flip[0], y, x)
    y = torch.where(flip[1], height - 1 - y, y)
    x = torch.where(flip[2], width - 1 - x, x)
    return _reflect(y + shift[0], height), _reflect(x + shift[1], width)


def _reflect(index: Tensor, size: int) -> Tensor:
    index = index.abs()
    return torch.where(index >= size, 2 * (size - 1) - index, index)


def dihedral_views(stamps: Tensor) -> Iterator[Tensor]:
    """Yield the views of stamps under the symmetries of their frame.

    Parameters
    ----------
    stamps : Tensor of shape (n, bands, height, width)

    Yields
    ------
    view : Tensor of shape (n, bands, height, width)
        8 views of square stamps, 4 of oblong ones, 1 of strips of height 1 (tables).

    Examples
    --------
    >>> len(list(dihedral_views(torch.zeros(1, 3, 4, 4))))
    8
    """
    height, width = stamps.shape[2:]
    yield stamps
    if height == 1:
        return
    flips = [(2,), (3,), (2, 3)]
    yield from (stamps.flip(axes) for axes in flips)
    if height == width:
        turned = stamps.transpose(2, 3)
        yield turned
        yield from (turned.flip(axes) for axes in flips)
