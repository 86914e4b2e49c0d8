"""Stamps: a lazy stack of images that scikit-learn can slice and nothing has to hold."""

from __future__ import annotations

import hashlib
import json
import os
import pickle
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray
from rich.console import Console
from rich.progress import track

from skastro.stamps.formats import Calibrated, Source
from skastro.utils.files import remove_leftovers, write_atomically, writing
from skastro.utils.packages import import_optional

_SAVED_AT_ONCE = 1024  # stamps


class Stamps:
    """A lazy, immutable stack of stamps of shape (n, bands, height, width).

    Slices and selections of rows stay lazy; pixels are read when an array is asked for, by
    ``np.asarray``, by a single row, or a batch at a time by the estimators. Made by
    `open_stamps` and `cut_stamps`. Stamps pickle as paths and row numbers, so they pass cheaply
    to joblib's processes, and are an X for scikit-learn's splitters, searches and pipelines.

    Parameters
    ----------
    source : object
        Has ``shape``, ``dtype``, ``bands``, ``ids`` and ``read(rows)``; see
        ``skastro.stamps.formats.Source``.
    rows : range or int64 array, default=None
        The rows of the source, in order; None takes all.

    Attributes
    ----------
    shape : tuple (n, bands, height, width)
    dtype : NumPy dtype of the pixels, in the machine's byte order
    ndim : int
        4.
    bands : tuple of str or None
    ids : array of shape (n,) or None
        What names the stamps: file names without ending, or ids of a catalogue.
    catalog_rows : int64 array of shape (n,) or None
        Of stamps cut at the positions of a catalogue, the row of each.
    partial : bool array of shape (n,) or None
        Of stamps cut out of mosaics, whether some of it lies outside (and is NaN).

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     np.save(f"{folder}/stamps.npy", np.arange(96.0).reshape(6, 1, 4, 4))
    ...     stamps = open_stamps(f"{folder}/stamps.npy")
    ...     some = stamps[[4, 0]]  # nothing is read yet
    ...     print(some, np.asarray(some)[:, 0, 0, 0])
    Stamps(shape=(2, 1, 4, 4), dtype=float64) [64.  0.]
    """

    # numpy asks a Stamps that meets an array to read itself, and computes with the pixels
    __array_priority__ = -1.0

    def __init__(self, source: Source, rows: range | NDArray[np.int64] | None = None) -> None:
        self._source = source
        self._rows = range(source.shape[0]) if rows is None else rows

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """Number of stamps, of bands, height and width."""
        return (len(self._rows), *self._source.shape[1:])

    @property
    def dtype(self) -> np.dtype:
        """Of the pixels, in the machine's byte order."""
        return np.dtype(self._source.dtype).newbyteorder("=")

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
        """Names of the bands, where they are known."""
        return self._source.bands

    @property
    def ids(self) -> NDArray[Any] | None:
        """What names the stamps, where something does."""
        return self._fact("ids")

    @property
    def catalog_rows(self) -> NDArray[np.int64] | None:
        """Row of the catalogue that each stamp was cut for."""
        return self._fact("catalog_rows")

    @property
    def partial(self) -> NDArray[np.bool_] | None:
        """Whether a part of the stamp lies outside its mosaic."""
        return self._fact("partial")

    def _fact(self, name: str) -> NDArray[Any] | None:
        fact = getattr(self._source, name, None)
        return None if fact is None else fact[_indices(self._rows)]

    def __len__(self) -> int:
        return len(self._rows)

    def __repr__(self) -> str:
        bands = f", bands={'/'.join(self.bands)}" if self.bands else ""
        return f"Stamps(shape={self.shape}, dtype={self.dtype}{bands})"

    def __getitem__(self, key: Any) -> Any:
        """Take rows (lazily, as NumPy would), or read single stamps and pixels."""
        rows, rest = (key[0], key[1:]) if isinstance(key, tuple) and key else (key, ())
        if rows is Ellipsis or (isinstance(key, tuple) and not key):
            rows, rest = slice(None), (Ellipsis, *rest) if rest else ()
        if _is_integer(rows):
            stamp = self._source.read(_indices([self._row(rows)]))[0]
            return stamp[rest] if rest else stamp
        chosen = self._choose(rows)
        if all(part is Ellipsis or _is_everything(part) for part in rest):
            _check_depth(rest)
            return Stamps(self._source, chosen)
        return _pick(self._source.read(_indices(chosen)), rest, paired=not isinstance(rows, slice))

    def _row(self, row: Any) -> int:
        n = len(self)
        if not -n <= row < n:
            raise IndexError(f"index {row} is out of bounds for {n} stamps.")
        return int(self._rows[int(row)])

    def _choose(self, rows: Any) -> range | NDArray[np.int64]:
        if isinstance(rows, slice):
            return self._rows[rows]
        wanted = np.asarray(rows)
        if wanted.size == 0 and wanted.dtype.kind == "f":  # an empty list
            wanted = wanted.astype(np.int64)
        if wanted.ndim != 1 or wanted.dtype.kind not in "biu":
            raise IndexError(
                f"stamps are indexed by whole numbers, slices and 1-D masks, not by {rows!r}."
            )
        n = len(self)
        if wanted.dtype == bool:
            if len(wanted) != n:
                raise IndexError(f"a mask of {len(wanted)} rows does not fit {n} stamps.")
            wanted = np.flatnonzero(wanted)
        wanted = wanted.astype(np.int64)
        if len(wanted) and not (-n <= wanted.min() and wanted.max() < n):
            bad = wanted[(wanted < -n) | (wanted >= n)][0]
            raise IndexError(f"index {bad} is out of bounds for {n} stamps.")
        return _indices(self._rows)[wanted] if n else wanted

    def __array__(self, dtype: DTypeLike | None = None, copy: bool | None = None) -> NDArray[Any]:
        """Read all pixels."""
        if copy is False:
            raise ValueError("stamps are on disk: they cannot become an array without a copy.")
        pixels = self._source.read(_indices(self._rows))
        return pixels if dtype is None else pixels.astype(dtype, copy=False)

    def __iter__(self) -> Iterator[NDArray[Any]]:
        return (stamp for batch in self.batches() for stamp in batch)

    def batches(self, size: int = _SAVED_AT_ONCE) -> Iterator[NDArray[Any]]:
        """Read the stamps batch by batch.

        Parameters
        ----------
        size : int, default=1024

        Yields
        ------
        stamps : array of shape (at most size, bands, height, width)
        """
        for start in range(0, len(self), size):
            yield self._source.read(_indices(self._rows[start : start + size]))

    def calibrated(
        self, zero_points: Mapping[str, float] | Sequence[float], *, zero_point: float = 22.5
    ) -> Stamps:
        """Put all bands on one flux scale.

        Parameters
        ----------
        zero_points : mapping of str to float, or sequence of float
            Magnitude of one unit of flux in each band, by the names of the bands or in their
            order: ``MAGZP`` in the headers of many mosaics.
        zero_point : float, default=22.5
            Magnitude of one unit of flux in the result; 22.5 are nanomaggies, on the AB system if
            the zero points are.

        Returns
        -------
        stamps : Stamps
            Lazy, of the same rows; float32, or float64 if the pixels have that many digits.

        Raises
        ------
        ValueError
            A band has no zero point, or one that is not finite.

        Examples
        --------
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     np.save(f"{folder}/stamps.npy", np.ones((2, 2, 4, 4), np.float32))
        ...     stamps = open_stamps(f"{folder}/stamps.npy", bands="gr")
        ...     print(stamps.calibrated({"g": 22.5, "r": 25.0})[0, :, 0, 0].round(3))
        [1.  0.1]
        """
        points = _in_order_of_bands(zero_points, self.bands)
        if len(points) != self.shape[1] or not np.isfinite(points).all():
            raise ValueError(
                f"zero_points={zero_points!r} must give a finite magnitude for each of the "
                f"{self.shape[1]} bands: read them from the headers of the images."
            )
        factors = 10.0 ** (0.4 * (zero_point - np.array(points)))
        return Stamps(Calibrated(self._source, tuple(factors.tolist())), self._rows)

    def save(
        self,
        path: str | os.PathLike[str],
        *,
        chunk: int = _SAVED_AT_ONCE,
        overwrite: bool = False,
        progress: bool = True,
    ) -> None:
        """Write the stamps to a ``.npy`` file or a ``.zarr`` store, chunk by chunk.

        What is written has a name that ends in ``.partial`` until it is complete. The same call
        after an interruption goes on where it stopped; what is there of other stamps, or of
        another ``chunk``, is begun anew.

        Parameters
        ----------
        path : str or path-like
            Ends in ``.npy`` or ``.zarr``.
        chunk : int, default=1024
            Stamps that are in memory at a time; chunks of the Zarr store are of this length.
        overwrite : bool, default=False
            Replace what is there.
        progress : bool, default=True
            Show a progress bar if the standard error is a terminal.

        Raises
        ------
        FileExistsError
            There is such a file already.
        ValueError
            The path has another ending, or ``chunk`` is no positive number.
        OSError
            The folder cannot be written to, or is full.
        """
        target = Path(path).expanduser()
        if target.suffix not in _WRITERS:
            raise ValueError(f"{target} must end in .npy or .zarr: name it so.")
        if chunk < 1:
            raise ValueError(f"chunk={chunk} must be at least 1.")
        job = {"stamps": _fingerprint(self), "chunk": chunk}
        done = _rows_done(target, job)
        if done == len(self) and target.exists() and not _partial(target).exists():
            _note(target).unlink()  # killed between the last two steps
            return
        if target.exists() and not overwrite:
            raise FileExistsError(f"{target} is there already: pass overwrite=True to replace it.")
        with writing(target):
            _save(self, target, chunk, job, progress=progress)


def _in_order_of_bands(
    values: Mapping[str, float] | Sequence[float], bands: tuple[str, ...] | None
) -> list[float]:
    if not isinstance(values, Mapping):
        return [float(value) for value in values]
    return [float(values.get(band, np.nan)) for band in bands or ()]


def _indices(rows: Any) -> NDArray[np.int64]:
    if isinstance(rows, range):
        return np.arange(rows.start, rows.stop, rows.step, dtype=np.int64)
    return np.asarray(rows, dtype=np.int64)


def _is_integer(key: Any) -> bool:
    return isinstance(key, (int, np.integer)) and not isinstance(key, (bool, np.bool_))


def _is_everything(part: Any) -> bool:
    return isinstance(part, slice) and part == slice(None)


def _check_depth(rest: tuple[Any, ...]) -> None:
    if len(rest) - rest.count(Ellipsis) > 3 or rest.count(Ellipsis) > 1:
        raise IndexError("too many indices for stamps, which have 4 dimensions.")


def _pick(pixels: NDArray[Any], rest: tuple[Any, ...], *, paired: bool) -> NDArray[Any]:
    """Index pixels behind the row axis as NumPy would, the rows having been chosen."""
    first = np.arange(len(pixels)) if paired else slice(None)
    return pixels[(first, *rest)]


def _partial(target: Path) -> Path:
    return target.with_name(f"{target.name}.partial")


def _note(target: Path) -> Path:
    """Return the file that says what a partial one is of, and how far it got."""
    return target.with_name(f"{target.name}.partial.json")


def _rows_done(target: Path, job: dict[str, Any]) -> int | None:
    """Return how many stamps an interrupted call with the same job has written."""
    try:
        note = json.loads(_note(target).read_bytes())
        return int(note["rows"]) if note["job"] == job else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _save(stamps: Stamps, target: Path, chunk: int, job: dict[str, Any], *, progress: bool) -> None:
    partial, note = _partial(target), _note(target)
    begin, write = _WRITERS[target.suffix]
    done = _rows_done(target, job) or 0
    if not done or not partial.exists():
        done = 0
        _remove(partial)
        _tell(note, job, done)
        begin(stamps, partial, chunk)
    bar = track(
        range(done, len(stamps), chunk),
        description=f"writing {target.name}",
        console=Console(stderr=True),
        transient=True,
        disable=not progress or not Console(stderr=True).is_terminal,
    )
    for start in bar:
        pixels = np.asarray(stamps[start : start + chunk])
        write(partial, start, pixels)
        _tell(note, job, start + len(pixels))
    remove_leftovers(note)
    _remove(target)
    partial.rename(target)
    note.unlink()


def _tell(note: Path, job: dict[str, Any], rows: int) -> None:
    write_atomically(note, json.dumps({"job": job, "rows": rows}).encode())


def _fingerprint(stamps: Stamps) -> str:
    return hashlib.sha256(pickle.dumps(stamps)).hexdigest()


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _begin_npy(stamps: Stamps, partial: Path, _chunk: int) -> None:
    header = {
        "descr": np.lib.format.dtype_to_descr(stamps.dtype),
        "fortran_order": False,
        "shape": stamps.shape,
    }
    with partial.open("wb") as file:
        np.lib.format.write_array_header_1_0(file, header)


def _write_npy(partial: Path, start: int, pixels: NDArray[Any]) -> None:
    # plain writes, not a memory map: a full disk is then an error and not the end of the process
    with partial.open("r+b") as file:
        np.lib.format.read_magic(file)
        np.lib.format.read_array_header_1_0(file)
        file.seek(start * pixels[0].nbytes, os.SEEK_CUR)
        file.write(np.ascontiguousarray(pixels).data)


def _begin_zarr(stamps: Stamps, partial: Path, chunk: int) -> None:
    zarr = import_optional("zarr", extra="data", needed_by="Writing Zarr stores")
    zarr.create_array(
        str(partial),
        shape=stamps.shape,
        dtype=stamps.dtype,
        chunks=(min(chunk, max(1, len(stamps))), *stamps.shape[1:]),
        attributes={"bands": list(stamps.bands)} if stamps.bands else None,
    )


def _write_zarr(partial: Path, start: int, pixels: NDArray[Any]) -> None:
    zarr = import_optional("zarr", extra="data", needed_by="Writing Zarr stores")
    for left in partial.glob("c/**/*.partial"):  # of a kill in the middle of a chunk
        left.unlink()
    array = zarr.open_array(str(partial), mode="r+")
    array[start : start + len(pixels)] = pixels


_WRITERS: dict[str, tuple[Callable[..., None], Callable[..., None]]] = {
    ".npy": (_begin_npy, _write_npy),
    ".zarr": (_begin_zarr, _write_zarr),
}
