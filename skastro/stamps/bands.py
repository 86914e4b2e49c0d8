"""Names of bands: find them regardless of case, and keep them with an array of stamps."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray


def spell_bands(bands: Iterable[str], known: Iterable[str]) -> list[str]:
    """Return names of bands in the spelling of known names, regardless of case.

    A name stays as it is if it is known, if no known name has these letters, or if several have.

    Examples
    --------
    >>> spell_bands("GrX", ["g", "r", "i"]), spell_bands("rR", ["R", "r"])
    (['g', 'r', 'X'], ['r', 'R'])
    """
    bands, known = list(map(str, bands)), list(known)
    spelled = []
    for band in bands:
        near = [] if band in known else [name for name in known if _folded(name) == _folded(band)]
        free = [name for name in near if name not in bands]
        spelled.append(free[0] if len(near) == 1 and free else band)
    return spelled


def _folded(name: str) -> str:
    return name.strip().casefold()


class BandArray(np.ndarray):
    """An array of stamps (n, bands, height, width) that knows the names of its bands.

    It is a NumPy array in every respect. Selected rows, cropped stamps, and copies keep the names.
    All other indexing, and calculations, give arrays without names.

    Examples
    --------
    >>> stamps = BandArray.of(np.zeros((3, 2, 8, 8)), ("g", "r"))
    >>> stamps.bands, stamps[[2, 0], :, 2:6, 2:6].bands, type(stamps[:, 0]).__name__
    (('g', 'r'), ('g', 'r'), 'ndarray')
    """

    bands: tuple[str, ...] | None = None

    @classmethod
    def of(cls, stamps: NDArray[Any], bands: Sequence[str] | None) -> BandArray:
        """Return a view of stamps with names of their bands."""
        array = stamps.view(cls)
        array.bands = None if bands is None else tuple(bands)
        return array

    def __getitem__(self, key: Any) -> Any:
        part = super().__getitem__(key)
        if not isinstance(part, BandArray):
            return part
        keeps = self.bands and part.ndim == self.ndim == 4 and _keeps_bands(key)
        return BandArray.of(part, self.bands) if keeps else part.view(np.ndarray)

    def astype(self, *args: Any, **kwargs: Any) -> BandArray:
        """Convert the pixels to another dtype."""
        return BandArray.of(super().astype(*args, **kwargs), self.bands)

    def copy(self, *args: Any, **kwargs: Any) -> BandArray:
        """Copy the pixels."""
        return BandArray.of(super().copy(*args, **kwargs), self.bands)

    def __array_wrap__(self, result: Any, context: Any = None, return_scalar: bool = False) -> Any:
        """Return the result of a calculation as a plain array, unless it was made in place."""
        if result is self:
            return self
        plain = np.asarray(result)
        return plain[()] if return_scalar or plain.ndim == 0 else plain

    def __reduce__(self) -> Any:
        # the plain array inside is shared with other processes by joblib
        return BandArray.of, (self.view(np.ndarray), self.bands)


def _keeps_bands(key: Any) -> bool:
    """Return whether an index selects rows, and crops stamps at most."""
    first, *rest = key if isinstance(key, tuple) else (key,)
    if first is None or any(part is None for part in rest):
        return False
    if first is Ellipsis or any(part is Ellipsis for part in rest):
        sliced = [part for part in rest if part is not Ellipsis]
        return all(isinstance(part, slice) and part == slice(None) for part in sliced)
    return all(isinstance(part, slice) for part in rest) and rest[:1] in ([], [slice(None)])
