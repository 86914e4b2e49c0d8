"""`Stamps`, a lazy stack of images that scikit-learn can slice."""

from __future__ import annotations

import copy
import json
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import joblib
import numpy as np
from numpy.typing import DTypeLike, NDArray
from rich.console import Console
from rich.progress import track

from skastro.stamps.bands import spell_bands
from skastro.stamps.formats import PixelSource
from skastro.utils.files import remove_leftovers, write_whole, writing
from skastro.utils.notebooks import as_html, picture_strip
from skastro.utils.packages import import_optional

_STAMPS_PER_BATCH = 1024


class Stamps:
    """A lazy, immutable stack of stamps of shape (n, bands, height, width).

    Slices and selections of rows stay lazy. Pixels are read by ``np.asarray``, by the index of a
    single row, and by the estimators, a batch at a time. `open_stamps` and `cut_stamps` return
    stacks of this class. They are pickled as paths and row numbers, which costs joblib's processes
    little, and they serve as X in scikit-learn's splitters, searches and pipelines.

    Parameters
    ----------
    source : object
        Has ``shape``, ``dtype``, ``bands``, ``ids`` and ``read(rows)``; see
        ``skastro.stamps.formats.PixelSource``.
    rows : range or int64 array, default=None
        The rows of the source, in order; with None, all rows.

    Attributes
    ----------
    shape : tuple (n, bands, height, width)
    dtype : NumPy dtype of the pixels, in the machine's byte order
    ndim : int
        4.
    bands : tuple of str or None
    axes : str or None
        Axes of the array in the file, where the user or the file has named them; see `open_stamps`.
    ids : array of shape (n,) or None
        Names of the stamps: file names without ending, or ids of a catalogue.
    catalog_rows : int64 array of shape (n,) or None
        The row of the catalogue that each stamp was cut for; None if there was no catalogue.
    partial : bool array of shape (n,) or None
        Whether a part of the stamp lies outside its mosaic (and is NaN); None if the stamps
        were not cut out of mosaics.

    Examples
    --------
    >>> import tempfile
    >>> from skastro import open_stamps
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     np.save(f"{folder}/stamps.npy", np.arange(96.0).reshape(6, 1, 4, 4))
    ...     stamps = open_stamps(f"{folder}/stamps.npy")
    ...     some = stamps[[4, 0]]  # nothing is read yet
    ...     print(some, np.asarray(some)[:, 0, 0, 0])
    Stamps(shape=(2, 1, 4, 4), dtype=float64) [64.  0.]
    """

    # in a calculation with an array, the array reads the pixels of the stamps
    __array_priority__ = -1.0

    def __init__(self, source: PixelSource, rows: range | NDArray[np.int64] | None = None) -> None:
        self._source = source
        self._rows = range(source.shape[0]) if rows is None else rows
        self._factors: NDArray[np.float64] | None = None  # one for each band

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """Number of stamps, number of bands, height and width."""
        return (len(self._rows), *self._source.shape[1:])

    @property
    def dtype(self) -> np.dtype:
        """The dtype of the pixels, in the machine's byte order."""
        dtype = np.dtype(self._source.dtype).newbyteorder("=")
        return dtype if self._factors is None else np.result_type(dtype, np.float32)

    @property
    def ndim(self) -> int:
        """Always 4."""
        return 4

    @property
    def nbytes(self) -> int:
        """Bytes that all pixels would take in memory."""
        return int(np.prod(self.shape)) * self.dtype.itemsize

    @property
    def bands(self) -> tuple[str, ...] | None:
        """Names of the bands, or None."""
        return self._source.bands

    @property
    def axes(self) -> str | None:
        """Axes of the array in the file if they are known, or None."""
        return getattr(self._source, "known_axes", None)

    @property
    def ids(self) -> NDArray[Any] | None:
        """Names of the stamps, or None."""
        return self._values_of_rows("ids")

    @property
    def catalog_rows(self) -> NDArray[np.int64] | None:
        """Row of the catalogue that each stamp was cut for, or None."""
        return self._values_of_rows("catalog_rows")

    @property
    def partial(self) -> NDArray[np.bool_] | None:
        """Whether a part of the stamp lies outside its mosaic, or None."""
        return self._values_of_rows("partial")

    def _values_of_rows(self, name: str) -> NDArray[Any] | None:
        values = getattr(self._source, name, None)
        return None if values is None else values[_to_array(self._rows)]

    def __len__(self) -> int:
        return len(self._rows)

    def __repr__(self) -> str:
        bands = f", bands={'/'.join(self.bands)}" if self.bands else ""
        return f"Stamps(shape={self.shape}, dtype={self.dtype}{bands})"

    def _repr_html_(self) -> str:
        return as_html(repr(self), picture_strip(self))

    def __getitem__(self, key: Any) -> Any:
        """Take rows (lazily, with NumPy's rules), or read single stamps and pixels."""
        rows, *rest = (key or (Ellipsis,)) if isinstance(key, tuple) else (key,)
        if rows is Ellipsis:
            rows, rest = slice(None), [Ellipsis, *rest]
        # a single stamp
        if isinstance(rows, (int, np.integer)) and not isinstance(rows, bool):
            stamp = self._read(np.array([self._rows[rows]]))[0]
            return stamp[tuple(rest)] if rest else stamp
        # whole stamps stay lazy
        chosen = self._choose(rows)
        slices = [part for part in rest if part is not Ellipsis]
        if all(isinstance(part, slice) and part == slice(None) for part in slices):
            if len(slices) > 3 or len(rest) - len(slices) > 1:
                raise IndexError("too many indices for stamps, which have 4 dimensions.")
            return self._copy(_rows=chosen)
        # parts of stamps: an array of rows is paired with other arrays of indices, as in NumPy
        pixels = self._read(_to_array(chosen))
        first = slice(None) if isinstance(rows, slice) else np.arange(len(pixels))
        return pixels[(first, *rest)]

    def _choose(self, rows: Any) -> range | NDArray[np.int64]:
        if isinstance(rows, slice):
            return self._rows[rows]
        positions = np.arange(len(self))[rows]  # raises NumPy's IndexError
        if positions.ndim != 1:
            raise IndexError(
                f"stamps are indexed by whole numbers, slices and 1-D masks, not by {rows!r}."
            )
        return _to_array(self._rows)[positions]

    def _copy(self, **attributes: Any) -> Stamps:
        result = copy.copy(self)
        vars(result).update(attributes)
        return result

    def _read(self, rows: NDArray[np.int64]) -> NDArray[Any]:
        """Read rows of the source, on the flux scale of these stamps."""
        pixels = self._source.read(rows)
        if self._factors is None:
            return pixels
        factors = self._factors.astype(self.dtype)[:, None, None]
        return pixels.astype(self.dtype, copy=False) * factors

    def __array__(self, dtype: DTypeLike | None = None, copy: bool | None = None) -> NDArray[Any]:
        """Read all pixels."""
        if copy is False:
            raise ValueError("stamps are on disk: they cannot become an array without a copy.")
        pixels = self._read(_to_array(self._rows))
        return pixels if dtype is None else pixels.astype(dtype, copy=False)

    def __iter__(self) -> Iterator[NDArray[Any]]:
        return (stamp for batch in self.batches() for stamp in batch)

    def batches(self, size: int = _STAMPS_PER_BATCH) -> Iterator[NDArray[Any]]:
        """Read the stamps batch by batch.

        Parameters
        ----------
        size : int, default=1024

        Yields
        ------
        stamps : array of shape (at most size, bands, height, width)
        """
        for start in range(0, len(self), size):
            yield np.asarray(self[start : start + size])

    def calibrated(
        self, zero_points: Mapping[str, float] | Sequence[float], *, zero_point: float = 22.5
    ) -> Stamps:
        """Put all bands on one flux scale.

        Parameters
        ----------
        zero_points : mapping of str to float, or sequence of float
            Magnitude of one unit of flux in each band, by the names of the bands or in their
            order. Headers of mosaics often call it ``MAGZP``.
        zero_point : float, default=22.5
            Magnitude of one unit of flux in the result. 22.5 stands for nanomaggies, on the AB
            system if ``zero_points`` are on it.

        Returns
        -------
        stamps : Stamps
            The same rows, lazily; float32, or float64 if the pixels have that many digits.

        Raises
        ------
        ValueError
            The zero point of a band is missing or not finite.

        Examples
        --------
        >>> import tempfile
        >>> from skastro import open_stamps
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     np.save(f"{folder}/stamps.npy", np.ones((2, 2, 4, 4), np.float32))
        ...     stamps = open_stamps(f"{folder}/stamps.npy", bands="gr")
        ...     print(stamps.calibrated({"g": 22.5, "r": 25.0})[0, :, 0, 0].round(3))
        [1.  0.1]
        """
        values = zero_points
        if isinstance(zero_points, Mapping):
            bands = spell_bands(self.bands or (), zero_points)
            values = [zero_points.get(band, np.nan) for band in bands]
        points = np.array(values, dtype=np.float64)
        if len(points) != self.shape[1] or not np.isfinite(points).all():
            raise ValueError(
                f"zero_points={zero_points!r} must give a finite magnitude for each of the "
                f"{self.shape[1]} bands: read them from the headers of the images."
            )
        factors = 10.0 ** (0.4 * (zero_point - points))
        return self._copy(_factors=factors if self._factors is None else factors * self._factors)

    def save(
        self,
        path: str | os.PathLike[str],
        *,
        chunk: int = _STAMPS_PER_BATCH,
        overwrite: bool = False,
        progress: bool = True,
    ) -> None:
        """Write the stamps to a ``.npy`` file or a ``.zarr`` store, chunk by chunk.

        The name of an incomplete result ends in ``.partial``. The same call after an
        interruption resumes it; an incomplete result of other stamps, or of another ``chunk``,
        is discarded.

        Parameters
        ----------
        path : str or path-like
            Ends in ``.npy`` or ``.zarr``.
        chunk : int, default=1024
            Number of stamps in memory at a time, and in each chunk of the Zarr store.
        overwrite : bool, default=False
            Replace a file or store of this name.
        progress : bool, default=True
            Show a progress bar if the standard error is a terminal.

        Raises
        ------
        FileExistsError
            The file or store exists, unless the same call was killed after writing it.
        ValueError
            The path has another ending, or ``chunk`` is not a positive number.
        OSError
            The folder cannot be written to, or is full.
        """
        target = Path(path).expanduser()
        if target.suffix not in (".npy", ".zarr"):
            raise ValueError(f"{target} must end in .npy or .zarr: name it so.")
        if chunk < 1:
            raise ValueError(f"chunk={chunk} must be at least 1.")
        with writing(target):
            _write_chunks(self, target, chunk, overwrite=overwrite, show_bar=progress)


@dataclass(frozen=True, eq=False)
class _BandSource:
    """Some bands of a stack, in another order, as a `PixelSource`."""

    stack: Any
    order: Sequence[int]
    bands: tuple[str, ...] | None

    known_axes = "nchw"  # the stack was checked

    @property
    def shape(self) -> tuple[int, int, int, int]:
        n, _, height, width = map(int, self.stack.shape)
        return (n, len(self.order), height, width)

    @property
    def dtype(self) -> np.dtype:
        return np.dtype(self.stack.dtype)

    def __getattr__(self, name: str) -> Any:
        if name not in ("ids", "catalog_rows", "partial"):
            raise AttributeError(name)
        return getattr(self.stack, name, None)

    def read(self, rows: Any) -> NDArray[Any]:
        return np.asarray(self.stack[rows])[:, self.order]


def take_bands(stack: Any, order: Sequence[int], bands: Sequence[str] | None) -> Stamps:
    """Return some bands of a stack (n, bands, height, width), lazily and in the given order.

    ``bands`` are their names.

    Examples
    --------
    >>> stamps = take_bands(np.arange(12).reshape(1, 3, 2, 2), [2, 0], ("r", "u"))
    >>> stamps, np.asarray(stamps)[0, :, 0, 0].tolist()
    (Stamps(shape=(1, 2, 2, 2), dtype=int64, bands=r/u), [8, 0])
    """
    return Stamps(_BandSource(stack, list(order), None if bands is None else tuple(bands)))


def _to_array(rows: range | NDArray[np.int64]) -> NDArray[np.int64]:
    if isinstance(rows, range):
        return np.arange(rows.start, rows.stop, rows.step, dtype=np.int64)
    return rows


def _write_chunks(
    stamps: Stamps, target: Path, chunk: int, *, overwrite: bool, show_bar: bool
) -> None:
    """Write stamps under a temporary name, and the number of stamps written to a second file."""
    partial = target.with_name(f"{target.name}.partial")
    note = target.with_name(f"{partial.name}.json")
    write = _write_zarr if target.suffix == ".zarr" else _write_npy
    job = {"stamps": joblib.hash(stamps), "chunk": chunk}

    # find what an interrupted call with the same job has written
    try:
        noted = json.loads(note.read_bytes())
        done = int(noted["rows"]) if noted["job"] == job else 0
    except (OSError, ValueError, KeyError, TypeError):
        done = 0
    if target.exists() and not overwrite:
        if 0 < done == len(stamps) and not partial.exists():  # killed after the rename
            note.unlink()
            return
        raise FileExistsError(f"{target} is there already: pass overwrite=True to replace it.")
    if not done or not partial.exists():
        done = 0
        _remove(note)
        _remove(partial)

    # write the missing chunks
    console = Console(stderr=True)
    for start in track(
        range(done, max(1, len(stamps)), chunk),
        description=f"writing {target.name}",
        console=console,
        transient=True,
        disable=not show_bar or not console.is_terminal,
    ):
        write(partial, stamps, start, chunk)
        written = min(start + chunk, len(stamps))
        write_whole(note, json.dumps({"job": job, "rows": written}).encode())

    # rename the result; after a kill in these lines the same call finishes them
    if target.is_dir():
        shutil.rmtree(target)
    remove_leftovers(note)
    partial.replace(target)
    note.unlink()


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _write_npy(path: Path, stamps: Stamps, start: int, chunk: int) -> None:
    """Write one chunk of stamps, and before the first one the header.

    On a full disk this raises an error, while writing to a memory map would end the process.
    """
    header = {"descr": stamps.dtype.str, "fortran_order": False, "shape": stamps.shape}
    with path.open("r+b" if start else "wb") as file:
        np.lib.format.write_array_header_1_0(file, header)
        file.seek(start * stamps[:1].nbytes, os.SEEK_CUR)
        file.write(np.ascontiguousarray(stamps[start : start + chunk]).data)


def _write_zarr(path: Path, stamps: Stamps, start: int, chunk: int) -> None:
    """Write one chunk of stamps, and before the first one the metadata of the store."""
    zarr = import_optional("zarr", extra="data", needed_by="Writing Zarr stores")
    if not start:
        zarr.create_array(
            str(path),
            shape=stamps.shape,
            dtype=stamps.dtype,
            chunks=(max(1, min(chunk, len(stamps))), *stamps.shape[1:]),
            attributes={"bands": list(stamps.bands)} if stamps.bands else None,
        )
    for leftover in path.glob("c/**/*.partial"):  # left by a kill in the middle of a chunk
        leftover.unlink()
    array = zarr.open_array(str(path), mode="r+")
    array[start : start + chunk] = np.asarray(stamps[start : start + chunk])
