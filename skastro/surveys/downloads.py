"""A folder that is being fetched: whole files, their checksums, and a journal to go on from."""

from __future__ import annotations

import hashlib
import io
import json
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skastro.utils.files import writing

_REASONS = ("empty", "failed")


def key_of(request: dict[str, Any]) -> str:
    """Return a short name of a request, the same for the same arguments.

    Examples
    --------
    >>> key_of({"size": 32}) == key_of({"size": 32}) != key_of({"size": 64})
    True
    """
    return hashlib.sha256(json.dumps(request, sort_keys=True).encode()).hexdigest()[:12]


class Store:
    """The files of a fetch, and a manifest of their checksums.

    Parameters
    ----------
    folder : Path
        Made if it is not there.
    request : dict
        What decides on the result, as JSON has it: among others ``bands`` (list of str) and
        ``size`` (pixels).

    Attributes
    ----------
    manifest : dict
        ``request``; ``files``, the SHA-256 of each file by its name; ``left_out``, lists of the
        ids ``"empty"`` and ``"failed"``; ``bunit``, the units of the pixels by band.

    Raises
    ------
    ValueError
        The folder holds data from elsewhere, or of another request.
    OSError
        The folder cannot be made.
    """

    def __init__(self, folder: Path, request: dict[str, Any]) -> None:
        self.folder, self.request = folder, request
        self.parts = f"download-{key_of(request)}"  # parts of two requests are never mixed
        self.manifest = self._read_manifest()
        with writing(folder):
            (folder / self.parts).mkdir(parents=True, exist_ok=True)

    def _read_manifest(self) -> dict[str, Any]:
        left_out: dict[str, list[str]] = {reason: [] for reason in _REASONS}
        empty = {"request": self.request, "files": {}, "left_out": left_out, "bunit": {}}
        path = self.folder / "manifest.json"
        if not path.is_file():
            if (self.folder / "stamps.npy").exists() or any(self.folder.glob("catalog.*")):
                raise ValueError(f"{self.folder} holds data from elsewhere: pass another out.")
            return empty
        try:
            manifest = json.loads(path.read_text(encoding="utf-8"))
            request = dict(manifest["request"])
            whole = {*empty} <= {*manifest} and {*left_out} <= {*manifest["left_out"]}
        except (ValueError, KeyError, TypeError):  # damaged: the checksums are lost, no more
            return empty
        if request != self.request:
            other = [name for name in self.request if request.get(name) != self.request[name]]
            raise ValueError(
                f"{self.folder} holds a fetch with another {' and '.join(other)}: "
                "pass another out, or the same arguments."
            )
        return manifest if whole else empty

    @property
    def left_out(self) -> dict[str, list[str]]:
        """Ids of the objects without stamps, by the reason."""
        return self.manifest["left_out"]

    def is_intact(self, name: str) -> bool:
        """Whether a file is there and has the checksum of the manifest."""
        path, known = self.folder / name, self.manifest["files"].get(name)
        return bool(known) and path.is_file() and _sha256(path) == known

    def is_complete(self) -> bool:
        """Whether the data are there and intact."""
        return self.is_intact("catalog.ecsv") and self.is_intact("stamps.npy")

    def keep(self, name: str, write: Callable[[Path], Any]) -> None:
        """Write a file whole or not at all, and note its checksum.

        Parameters
        ----------
        name : str
            In the folder.
        write : callable
            Writes to the path it is given, which has another name.
        """
        path = self.folder / name
        _replace(path, write)
        self.manifest["files"][name] = _sha256(path)
        text = json.dumps(self.manifest, indent=1) + "\n"
        _replace(self.folder / "manifest.json", lambda path: path.write_text(text, "utf-8"))

    def keep_stamps(self, cutouts: Cutouts, rows: Sequence[int]) -> None:
        """Write the stamps of some objects, and remove what they were collected in."""

        def write(path: Path) -> None:
            with path.open("wb") as file:
                file.write(_npy_header(len(rows), cutouts.shape))
                file.writelines(cutouts.stamp(row) for row in rows)

        self.keep("stamps.npy", write)
        cutouts.remove()

    @contextmanager
    def open_cutouts(self, ids: Sequence[str]) -> Iterator[Cutouts]:
        """Open the cut-outs fetched so far, of the objects of these ids."""
        bands, size = self.request["bands"], self.request["size"]
        folder, shape = self.folder / self.parts, (len(bands), size, size)
        pack, stamps = folder / "cutouts.bin", self.folder / "stamps.npy"
        if not pack.exists() and stamps.exists():
            left = {each for reason in _REASONS for each in self.left_out[reason]}
            _unpack(stamps, pack, [each not in left for each in ids], shape)
        cutouts = Cutouts(folder, [str(each) for each in ids], bands, shape)
        try:
            yield cutouts
        finally:
            cutouts.close()


class Cutouts:
    """Pixels fetched so far: a file of all cut-outs in order, and a journal of their checksums.

    A cut-out counts as fetched if its pixels have the checksum of the journal: so a fetch may be
    killed between the writing of the one and of the other.

    Parameters
    ----------
    folder : Path
        Holds ``cutouts.bin`` and ``journal.jsonl``, or will.
    ids : list of str
        Of the objects, in order.
    bands : list of str
    shape : tuple (bands, height, width)
    """

    def __init__(
        self, folder: Path, ids: list[str], bands: list[str], shape: tuple[int, int, int]
    ) -> None:
        self.ids, self.bands, self.shape = ids, bands, shape
        self._bytes = 4 * shape[1] * shape[2]
        self._pack_path, self._journal_path = folder / "cutouts.bin", folder / "journal.jsonl"
        self._pack_path.touch()
        self._pack = self._pack_path.open("r+b")
        try:
            self._notes = self._read_journal()
            lines = "".join(json.dumps(note) + "\n" for note in self._notes.values())
            # a killed fetch may have left half a line, to which nothing must be appended
            _replace(self._journal_path, lambda path: path.write_text(lines, "utf-8"))
            self._journal = self._journal_path.open("a", encoding="utf-8")
        except BaseException:
            self._pack.close()
            raise

    def _read_journal(self) -> dict[tuple[int, int], dict[str, Any]]:
        """Return the notes whose cut-out is intact, by object and band."""
        rows = {each: row for row, each in enumerate(self.ids)}
        columns = {band: column for column, band in enumerate(self.bands)}
        lines = self._journal_path.read_bytes() if self._journal_path.exists() else b""
        notes = {}
        for line in lines.splitlines():
            try:
                note = json.loads(line)
                place = rows[note["id"]], columns[note["band"]]
                checksum, _ = note["sha256"], note["bunit"]
            except (ValueError, KeyError, TypeError):
                continue
            if checksum is None or hashlib.sha256(self._read(*place)).hexdigest() == checksum:
                notes[place] = note
        return notes

    def _seek(self, row: int, column: int) -> None:
        self._pack.seek((row * len(self.bands) + column) * self._bytes)

    def _read(self, row: int, column: int) -> bytes:
        self._seek(row, column)
        return self._pack.read(self._bytes)

    def put(self, row: int, column: int, pixels: NDArray[np.float32], bunit: str) -> None:
        """Keep a cut-out; of one without light, only that it is so.

        Parameters
        ----------
        row, column : int
            Object and band.
        pixels : float32 array of shape (height, width)
            Empty if no pixel is other than NaN, infinite and 0.
        bunit : str
            Unit of the pixels, "" if unknown.

        Raises
        ------
        OSError
            The disk is full.
        """
        checksum = None
        with writing(self._pack_path.parent):
            if np.any(np.isfinite(pixels) & (pixels != 0)):
                raw = pixels.astype("<f4").tobytes()
                checksum = hashlib.sha256(raw).hexdigest()
                self._seek(row, column)
                self._pack.write(raw)
                self._pack.flush()
            names = {"id": self.ids[row], "band": self.bands[column]}
            note = {**names, "sha256": checksum, "bunit": bunit}
            self._journal.write(json.dumps(note) + "\n")
            self._journal.flush()
        self._notes[row, column] = note

    def missing(self, row: int) -> list[int]:
        """Return the bands to be fetched yet; none of an object with an empty cut-out."""
        columns = range(len(self.bands))
        return [] if self.is_empty(row) else [c for c in columns if (row, c) not in self._notes]

    def is_empty(self, row: int) -> bool:
        """Whether an object has a cut-out without light."""
        notes = (self._notes.get((row, column)) for column in range(len(self.bands)))
        return any(note is not None and note["sha256"] is None for note in notes)

    def stamp(self, row: int) -> bytes:
        """Return the pixels of all bands of an object."""
        return b"".join(self._read(row, column) for column in range(len(self.bands)))

    def bunit(self) -> dict[str, list[str]]:
        """Return the units that the pixels of each band came with."""
        found: dict[str, set[str]] = {band: set() for band in self.bands}
        for note in self._notes.values():
            found[note["band"]] |= {note["bunit"]} - {""}
        return {band: sorted(names) for band, names in found.items()}

    def close(self) -> None:
        """Close the files."""
        self._pack.close()
        self._journal.close()

    def remove(self) -> None:
        """Remove the pixels; the journal stays."""
        self._pack.close()
        self._pack_path.unlink()


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _replace(path: Path, write: Callable[[Path], Any]) -> None:
    """Write a file whole or not at all."""
    partial = path.with_name(f"{path.name}.partial")
    try:
        with writing(path):
            write(partial)
            partial.replace(path)
    except OSError:
        partial.unlink(missing_ok=True)
        raise


def _npy_header(n: int, shape: tuple[int, int, int]) -> bytes:
    header = io.BytesIO()
    facts = {"descr": "<f4", "fortran_order": False, "shape": (n, *shape)}
    np.lib.format.write_array_header_1_0(header, facts)
    return header.getvalue()


def _unpack(stamps: Path, pack: Path, kept: list[bool], shape: tuple[int, int, int]) -> None:
    """Bring stamps back to the places of their objects, whatever state they are in."""
    step = 4 * math.prod(shape)

    def write(path: Path) -> None:
        with stamps.open("rb") as source, path.open("wb") as target:
            source.seek(len(_npy_header(sum(kept), shape)))
            for row in np.flatnonzero(kept):
                target.seek(int(row) * step)
                target.write(source.read(step))

    _replace(pack, write)
