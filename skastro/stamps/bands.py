"""Names of bands: spell them, keep them with an array, and order them by wavelength."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

# Wavelengths in micrometres, only to sort by: letters mean the same in all systems of filters, and
# red, green and blue have the order of R, G and B.
_WAVELENGTHS = {
    "fuv": 0.153, "nuv": 0.231, "uvw2": 0.203, "uvm2": 0.223, "uvw1": 0.260,
    "u": 0.36, "b": 0.44, "g": 0.48, "v": 0.55, "r": 0.63, "i": 0.77, "z": 0.9, "y": 1.0,
    "blue": 0.44, "green": 0.55, "red": 0.63, "vis": 0.72, "nir": 0.85,
    "j": 1.25, "h": 1.65, "k": 2.15, "ks": 2.15, "kp": 2.15,
    "w1": 3.4, "w2": 4.6, "w3": 12.0, "w4": 22.0,
}  # fmt: skip
_SPACE_FILTER = re.compile(r"f(\d{3,4})(?:w2?|m|n|lp|x)")  # such as F606W, of Hubble and Webb
_SHORTEST_HUBBLE = 200  # nanometres; smaller numbers are tens of nanometres, also of Hubble
# filters of Webb whose numbers Hubble could have, too
_WEBB = frozenset(
    (200, 210, 212, 250, 277, 300, 322, 323, 335, 356, 360, 405, 410, 430, 444, 460, 466, 470, 480,
     560, 770)
)  # fmt: skip
_MAX_CHECKED_STAMPS = 64
_LEAST_MAXIMUM = 0.5  # of pictures, as a share of white


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


def find_bands(bands: Iterable[str], known: Sequence[str]) -> list[int | None]:
    """Return the place of each band among names such as ``flux_g`` and ``des-g``; None if unclear.

    Examples
    --------
    >>> find_bands("rgz", ["des-g", "des-r", "des-i"])
    [1, 0, None]
    """
    last = [re.split(r"[-_. ]", name)[-1] for name in known]
    places: list[int | None] = []
    for band in bands:
        found = next(
            (spelled for names in (known, last) if (spelled := spell_bands([band], names)[0])
             in names), None
        )  # fmt: skip
        names = known if found in known else last
        places.append(list(names).index(found) if found and list(names).count(found) == 1 else None)
    return places


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


def find_wavelength_order(images: Any) -> list[int]:
    """Return the positions of the bands of a stack (n, bands, height, width) by wavelength.

    Names of filters, where the stack knows them all, are sorted. Else a stack that looks like
    pictures is turned around, because pictures have red first, and any other stack is taken to be
    in order already. Pictures have three bands of uint8, or of floats that lie in 0 ... 1, or are
    whole numbers in 0 ... 255, and reach at least half of white. At most 64 stamps, spread evenly
    over the stack, are read.

    Examples
    --------
    >>> stamps = np.zeros((5, 3, 8, 8))
    >>> find_wavelength_order(BandArray.of(stamps, ["i", "g", "r"]))
    [1, 2, 0]
    >>> find_wavelength_order(stamps), find_wavelength_order(stamps.astype(np.uint8))
    ([0, 1, 2], [2, 1, 0])
    """
    n_bands = images.shape[1]
    names = getattr(images, "bands", None)
    wavelengths = [wavelength_of(name) for name in names or ()]
    if names and None not in wavelengths:
        return [int(place) for place in np.argsort(np.array(wavelengths, float), kind="stable")]
    in_order = list(range(n_bands))
    return in_order[::-1] if n_bands == 3 and _are_pictures(images) else in_order


def wavelength_of(name: str) -> float | None:
    """Return the wavelength of a filter in micrometres, None if its name is not known.

    The name may be a part of a longer one, and upper and lower case are the same.

    Examples
    --------
    >>> wavelength_of("HSC-G"), wavelength_of("ACS F814W"), wavelength_of("F160W")
    (0.48, 0.814, 1.6)
    >>> wavelength_of("band 1") is None
    True
    """
    found = {_look_up(word) for word in re.findall(r"[a-z0-9]+", str(name).lower())} - {None}
    return found.pop() if len(found) == 1 else None


def _look_up(word: str) -> float | None:
    if match := _SPACE_FILTER.fullmatch(word):
        number = int(match[1])
        is_nanometres = _SHORTEST_HUBBLE <= number < 1000 and number not in _WEBB
        return number / (1000 if is_nanometres else 100)
    return _WAVELENGTHS.get(word)


def _are_pictures(images: Any) -> bool:
    """Return whether the pixels of a stack of three bands are those of colour pictures."""
    dtype = np.dtype(images.dtype)
    if dtype.kind != "f":
        return dtype == np.uint8
    rows = np.unique(np.linspace(0, len(images) - 1, min(len(images), _MAX_CHECKED_STAMPS)))
    pixels = np.asarray(images[rows.astype(np.int64)])
    pixels = pixels[np.isfinite(pixels)]
    if not pixels.size or pixels.min() < 0:
        return False
    white = 255 if (pixels == np.round(pixels)).all() else 1
    return bool(_LEAST_MAXIMUM * white < pixels.max() <= white)
