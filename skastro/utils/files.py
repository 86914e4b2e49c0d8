"""Write files completely or not at all, and turn errors of files into one sentence each."""

from __future__ import annotations

import errno
import glob
import hashlib
import os
import re
import shutil
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import lru_cache
from io import BytesIO
from pathlib import Path
from typing import Any
from zipfile import ZIP_STORED, ZipFile

import numpy as np
from numpy.typing import NDArray

FITS_ENDINGS = (".fits", ".fit", ".fits.gz", ".fit.gz", ".fits.fz", ".fits.bz2")
PICTURE_ENDINGS = (".png", ".jpg", ".jpeg", ".tif", ".tiff")
ENDINGS = (*FITS_ENDINGS, *PICTURE_ENDINGS, ".npy")
TABLE_ENDINGS = (".parquet", ".arrow")  # of tables that may have columns of images
_IMAGE_MARKS = {  # of files of images, and their endings
    b"\x89PNG": ".png", b"\xff\xd8\xff": ".jpg", b"II*\0": ".tif", b"MM\0*": ".tif",
    b"SIMPLE  =": ".fits", b"\x1f\x8b": ".fits.gz", b"\x93NUMPY": ".npy",
}  # fmt: skip
_DISK_FULL = (errno.ENOSPC, errno.EFBIG, errno.EDQUOT)
_SHORT_WRITE = re.compile(r"\d+ requested and \d+ written")  # numpy.save on a full disk
_MAX_REASON_LENGTH = 200  # characters
_SECONDS_PER_DAY = 86_400.0


class EncodedFile(BytesIO):
    """The bytes of a file of an image, in memory; ``where`` stands for it in messages.

    ``suffix`` is the ending of such a file, "" if the first bytes are those of no known kind.

    Examples
    --------
    >>> stamp = EncodedFile(b"SIMPLE  =                    T", "table.parquet, row 3")
    >>> str(stamp), stamp.suffix
    ('table.parquet, row 3', '.fits')
    """

    def __init__(self, content: bytes, where: str) -> None:
        super().__init__(content)
        marks = (mark for mark in _IMAGE_MARKS if content.startswith(mark))
        self.where, self.suffix = where, _IMAGE_MARKS.get(next(marks, b""), "")
        self.name = f"stamp{self.suffix}"

    def __str__(self) -> str:
        return self.where

    def open(self, _mode: str) -> BytesIO:
        """Return the bytes as a file, as `pathlib.Path.open` does."""
        return BytesIO(self.getvalue())


class UnfitError(ValueError):
    """A file can be read, but its content is not usable; the message is a complete sentence."""


@contextmanager
def reading(path: Path, problem: str, remedy: str, *, gone: str) -> Iterator[None]:
    """Replace any error of the block by one sentence about the file that it reads.

    The libraries that read files (zlib, HDF5, ...) raise errors of many kinds. They become a
    ValueError made of ``path``, ``problem``, the first line of the error, and ``remedy``; for a
    missing file, a FileNotFoundError made of ``path`` and ``gone``. `UnfitError`, and ImportError
    for a missing package, pass unchanged.

    Examples
    --------
    >>> with reading(Path("a.npy"), "is not a .npy file", "copy it again", gone="is gone"):
    ...     raise EOFError("No data left in file")
    Traceback (most recent call last):
    ValueError: a.npy is not a .npy file (No data left in file): copy it again.
    """
    try:
        yield
    except (UnfitError, ImportError):
        raise
    except FileNotFoundError as error:
        raise FileNotFoundError(f"{path} {gone}.") from error
    except MemoryError as error:
        raise ValueError(f"{path} asks for more memory than there is: {remedy}.") from error
    except Exception as error:
        raise ValueError(f"{path} {problem} ({first_line(error)}): {remedy}.") from error


def first_line(error: BaseException) -> str:
    r"""Return the first line of an error's message, or its kind if it has none.

    Examples
    --------
    >>> first_line(OSError("Truncated.\nSee the manual.")), first_line(EOFError())
    ('Truncated', 'EOFError')
    """
    lines = str(error).strip().splitlines() or [""]
    text = "".join(letter if letter.isprintable() else "?" for letter in lines[0])
    return text[:_MAX_REASON_LENGTH].rstrip(". ") or type(error).__name__


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Replace an OSError of the block by one that names the file and the remedy.

    ``path`` is the file that the user asked for, not a temporary one. The type of the error
    stays. An error without an errno is raised by this package, and passes unchanged.

    Examples
    --------
    >>> with writing(Path("stamps.npy")):
    ...     raise OSError(errno.ENOSPC, "No space left on device")
    Traceback (most recent call last):
    OSError: stamps.npy cannot be written (no space is left): make room, and call again.
    """
    try:
        yield
    except OSError as error:
        is_short = _SHORT_WRITE.fullmatch(str(error))
        if error.errno is None and not is_short:
            raise
        reason, remedy = error.strerror or str(error), "choose a folder that you may write to."
        if error.errno in _DISK_FULL or is_short:
            reason, remedy = "no space is left", "make room, and call again."
        raise type(error)(f"{path} cannot be written ({reason}): {remedy}") from error


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary path that replaces a file when the block ends without an error.

    The temporary path lies in the same folder, which must exist, and has the same ending. After
    an error or a kill the earlier file is unchanged; errors are those of `writing`. Temporary
    files left by a kill are removed by the first call a day later.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     with replacing(Path(folder, "a.txt")) as temporary:
    ...         _ = temporary.write_text("whole")
    ...     print(Path(folder, "a.txt").read_text())
    whole
    """
    with writing(path):
        remove_leftovers(path, older_than=_SECONDS_PER_DAY)
        temporary = path.with_name(f".{os.getpid()}.{path.name}")
        try:
            yield temporary
            with temporary.open("rb+") as file:  # written to the disk before the rename
                os.fsync(file.fileno())
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)


def write_whole(path: Path, content: bytes) -> None:
    """Write a file completely or not at all, with `replacing`."""
    with replacing(path) as temporary:
        temporary.write_bytes(content)


def write_arrays(path: Path, arrays: Mapping[str, NDArray[Any]]) -> None:
    """Write named arrays, whose dtypes need no pickle, to an ``.npz`` file.

    On a full disk `numpy.savez` of NumPy 1.26 would leave the file open.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_arrays(Path(folder, "a.npz"), {"ids": np.arange(3)})
    ...     with np.load(f"{folder}/a.npz") as content:
    ...         print(content["ids"])
    [0 1 2]
    """
    with ZipFile(path, "w") as archive:
        for name, values in arrays.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as file:
                np.lib.format.write_array(file, values, allow_pickle=False)


def save_arrays(path: str | os.PathLike[str], arrays: Mapping[str, NDArray[Any]]) -> None:
    """Write named arrays to an ``.npz`` file, completely or not at all; objects become text."""
    target = Path(path).expanduser()
    check_ending(target, (".npz",))
    plain = {k: v.astype(str) if v.dtype.kind == "O" else v for k, v in arrays.items()}
    with replacing(target) as temporary:
        write_arrays(temporary, plain)


def load_arrays(
    path: str | os.PathLike[str], needed: Collection[str], *, writer: str
) -> dict[str, NDArray[Any]]:
    """Read the arrays of an ``.npz`` file that ``writer`` has written, without pickle.

    A file that is missing, damaged, or without the ``needed`` arrays is an error of one sentence.
    """
    source = Path(path).expanduser()
    if not source.is_file():
        raise FileNotFoundError(f"{source} does not exist: pass a file of {writer}.")
    try:
        with np.load(source) as content:  # pickles are refused
            arrays = {name: content[name] for name in content.files}
        require(set(needed) <= set(arrays), "an array is missing")
    except Exception as error:  # damaged archives raise errors of many kinds
        raise ValueError(
            f"{source} is not a file of {writer}, or it is damaged: save it again."
        ) from error
    return arrays


def read_npz_headers(path: Path) -> dict[str, tuple[tuple[int, ...], np.dtype]]:
    """Return the shape and dtype of each array in an ``.npz`` file, by its name."""
    headers = {}
    with ZipFile(path) as archive:
        for name in archive.namelist():
            with archive.open(name) as file:
                shape, _, dtype = _read_npy_header(file)
            headers[name.removesuffix(".npy")] = (shape, dtype)
    return headers


def _read_npy_header(file: Any) -> tuple[tuple[int, ...], bool, np.dtype]:
    """Return the shape, whether the order is that of Fortran, and the dtype of a ``.npy`` file."""
    version = np.lib.format.read_magic(file)
    read = np.lib.format.read_array_header_1_0
    return (read if version == (1, 0) else np.lib.format.read_array_header_2_0)(file)


def open_npz_array(path: Path, name: str, signature: str = "") -> NDArray[Any]:
    """Return an array of an ``.npz`` file: a memory map, or in memory if it is compressed.

    The compressed array that was read last is kept, for the same ``signature`` of the file.
    """
    with ZipFile(path) as archive:
        member = archive.getinfo(f"{name}.npy")
    if member.compress_type != ZIP_STORED:
        return _unpack(path, name, signature)
    with path.open("rb") as file:
        # the header of the member: 30 bytes, its name and extra fields, whose lengths are in it
        file.seek(member.header_offset + 26)
        file.seek(
            int.from_bytes(file.read(2), "little") + int.from_bytes(file.read(2), "little"), 1
        )
        shape, is_fortran, dtype = _read_npy_header(file)
        order: Any = "F" if is_fortran else "C"
        return np.memmap(path, dtype, "r", file.tell(), shape, order)


@lru_cache(maxsize=1)
def _unpack(path: Path, name: str, _signature: str) -> NDArray[Any]:
    with np.load(path, allow_pickle=False) as file:
        return file[name]


def remove_leftovers(path: Path, *, older_than: float = 0.0) -> None:
    """Remove the temporary files of `replacing` that killed processes have left.

    ``older_than`` is their minimum age in seconds. Use 0 only if no other process is writing the
    file.
    """
    now = time.time()
    for leftover in path.parent.glob(f".*.{glob.escape(path.name)}"):
        with suppress(FileNotFoundError):  # another process may have removed it
            has_process_id = leftover.name.split(".")[1].isdigit()
            if has_process_id and now - leftover.stat().st_mtime >= older_than:
                leftover.unlink()


def list_out(out: Path) -> list[str]:
    """Return the sorted names in an output folder without hidden ones; none if it does not exist.

    If ``out`` is a file, a ValueError is raised.
    """
    if out.exists() and not out.is_dir():
        raise ValueError(f"out={str(out)!r} is a file: name a folder.")
    names = (path.name for path in out.iterdir()) if out.is_dir() else ()
    return sorted(name for name in names if not name.startswith("."))


@contextmanager
def replacing_folder(out: Path, names: Sequence[str], *, temporary: Path) -> Iterator[Path]:
    """Yield an empty folder, and move its content to ``out`` when the block ends without an error.

    ``names`` are all files and folders that a result may have. Those of an earlier result are
    removed, other files in ``out`` stay. The first name is the one by which readers recognise a
    result: it is removed first and moved last. ``temporary``, a path in ``out`` or in its parent,
    is the folder to fill. After an error the earlier result is unchanged; errors of the file
    system are those of `writing`.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     out = Path(folder, "results")
    ...     with replacing_folder(out, ["a.txt"], temporary=out / ".partial") as temporary:
    ...         _ = (temporary / "a.txt").write_text("whole")
    ...     print([path.name for path in out.iterdir()])
    ['a.txt']
    """
    is_new = not out.exists()
    try:
        with writing(out):
            shutil.rmtree(temporary, ignore_errors=True)
            temporary.mkdir(parents=True)
        yield temporary
        with writing(out):
            _move_results(temporary, out, names)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
        if is_new:  # after an error it is empty, and is removed
            with suppress(OSError):
                out.rmdir()


def _move_results(temporary: Path, out: Path, names: Sequence[str]) -> None:
    """Move the content of a folder to ``out``, in place of an earlier result."""
    earlier = temporary.with_name(f"{temporary.name}.earlier")
    shutil.rmtree(earlier, ignore_errors=True)
    if not out.exists():
        temporary.rename(out)
        return
    if {path.name for path in out.iterdir()} <= {*names}:
        # the folder holds nothing but a result: replace the whole folder
        out.rename(earlier)
        temporary.rename(out)
    else:
        earlier.mkdir()
        for name in names:
            if (out / name).exists():
                (out / name).rename(earlier / name)
        for name in reversed(names):
            if (temporary / name).exists():
                (temporary / name).rename(out / name)
    shutil.rmtree(earlier)


def stem(name: str) -> str:
    """Return the name of a file without its folder and without its ending, such as ``.fits.gz``.

    Examples
    --------
    >>> stem("fits/NGC4414_r.fits.gz")
    'NGC4414_r'
    """
    base = Path(name).name
    endings = [ending for ending in ENDINGS if base.lower().endswith(ending)]
    return base[: len(base) - max(map(len, endings), default=0)]


def list_tables(folder: Path) -> list[Path]:
    """Return the Parquet files in a folder and its subfolders, or else the Arrow files.

    They are in the order of their names, in which numbers count as numbers. Catalogues
    (``catalog.parquet``), the cache of ``datasets``, and names that begin with "." or "_" are
    left out.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     for name in ("part-10.parquet", "part-9.parquet", "_metadata"):
    ...         Path(folder, name).touch()
    ...     print([path.name for path in list_tables(Path(folder))])
    ['part-9.parquet', 'part-10.parquet']
    """
    if not folder.is_dir():
        return []
    names = sorted(
        (path.relative_to(folder) for path in folder.rglob("*") if path.suffix in TABLE_ENDINGS),
        key=lambda name: [part.zfill(20) for part in re.split(r"(\d+)", name.as_posix())],
    )
    files = [
        folder / name
        for name in names
        if not any(part.startswith((".", "_")) for part in name.parts)
        and not name.name.startswith(("catalog.", "cache-"))
    ]
    files = [file for file in files if file.is_file()]
    return [file for file in files if file.suffix == ".parquet"] or files


def check_ending(path: Path, endings: Sequence[str]) -> str:
    """Return the ending of an output file in lower case; refuse one that is not among these."""
    ending = path.suffix.lower()
    if ending not in endings:
        choice = " or ".join(filter(None, [", ".join(endings[:-1]), endings[-1]]))
        raise ValueError(f"{path} must end in {choice}.")
    return ending


def cache_folder() -> Path:
    """Return the cache folder: the environment's ``SKASTRO_CACHE``, or ``~/.cache/skastro``."""
    return Path(os.environ.get("SKASTRO_CACHE") or "~/.cache/skastro").expanduser()


def digest_arrays(*arrays: NDArray[Any]) -> str:
    """Return a fingerprint of the shapes, dtypes and values of arrays of numbers or text."""
    digest = hashlib.sha256()
    for array in arrays:
        digest.update(f"{array.shape}{array.dtype}".encode())
        digest.update(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)
    return digest.hexdigest()


def require(condition: object, problem: str) -> None:
    """Raise a ValueError about a part of a file, unless a condition holds.

    Examples
    --------
    >>> require(1 > 2, "its classes are not valid")
    Traceback (most recent call last):
    ValueError: its classes are not valid
    """
    if not condition:
        raise ValueError(problem)
