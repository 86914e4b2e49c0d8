"""Open stamps from files of any kind."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skastro.stamps.formats import Source, open_chunked, open_files, open_npy
from skastro.stamps.stack import Stamps
from skastro.utils.files import ENDINGS, stem

_HDF5_ENDINGS = (".h5", ".hdf5", ".hdf")
_PREVIEW = 8  # file names that a message shows


def open_stamps(
    path_or_paths: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
    *,
    bands: str | Sequence[str] | None = None,
    size: int | tuple[int, int] | None = None,
    hdu: int | str | None = None,
    resample: bool = False,
    reader: Callable[[Path], NDArray[Any]] | None = None,
) -> Stamps:
    """Open stamps on disk without reading their pixels.

    Parameters
    ----------
    path_or_paths : path, or sequence of paths
        - a ``.npy`` file, a Zarr store (``.zarr``) or an HDF5 file (``.h5``) of shape
          (n, bands, height, width);
        - a folder of FITS files (also ``.fits.gz`` and ``.fits.fz``), of PNG, JPEG or TIFF
          images, or of ``.npy`` files, one for each object; or a list of such files, in order.
          A FITS file holds an image extension for each band, or one cube;
        - a pattern such as ``"cutouts/{id}_{band}.fits"``, with one file for each object and
          band, and then ``bands`` in the order wanted.
    bands : str or sequence of str, default=None
        Names of the bands: of FITS extensions, those to take (by ``FILTER`` or ``EXTNAME``);
        otherwise just names. ``"ugriz"`` are five bands.
    size : int or tuple (height, width), default=None
        Stamps of other sizes are cropped or padded about their centre: with NaN, or with 0 where
        pixels are integers. None takes the first file's, and refuses others when they are read.
    hdu : int or str, default=None
        Extension of FITS files, or name of the array in a Zarr or HDF5 file.
    resample : bool, default=False
        Bring files to ``size`` by resampling instead (it keeps the surface brightness).
    reader : callable, default=None
        For files of other kinds, one for each object: a function from a path to pixels of shape
        (height, width) or (bands, height, width). All files of a folder are then taken.

    Returns
    -------
    stamps : Stamps
        Files of a folder are in the order of their names; ``stamps.ids`` are those names
        without ending.

    Raises
    ------
    FileNotFoundError
        There is no such file, or no stamp in the folder.
    ValueError
        A file is damaged, or not a stack of stamps; files of other sizes or bands than the
        first are told when they are read.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     for name in ("m31", "m33"):
    ...         np.save(f"{folder}/{name}.npy", np.ones((3, 8, 8), np.float32))
    ...     stamps = open_stamps(folder, bands="gri", size=4)
    ...     print(stamps, stamps.ids)
    Stamps(shape=(2, 3, 4, 4), dtype=float32, bands=g/r/i) ['m31' 'm33']
    """
    names = None if bands is None else tuple(map(str, bands))
    box = (size, size) if isinstance(size, (int, np.integer)) else size
    if box is not None and (len(box) != 2 or min(box) < 1):
        raise ValueError(f"size={size!r} must be a positive number of pixels, or two of them.")
    if resample and box is None:
        raise ValueError("resample=True needs a size: pass size= in pixels.")
    options = {"bands": names, "size": box, "hdu": hdu, "resample": resample, "reader": reader}
    source = _open_source(path_or_paths, options)
    return Stamps(_named(source, names, path_or_paths))


def _open_source(paths: Any, options: dict[str, Any]) -> Source:
    if not isinstance(paths, (str, os.PathLike)):
        return _open_list([Path(path).expanduser() for path in paths], options)
    path = Path(paths).expanduser()
    if "{id}" in str(path):
        return _open_pattern(path, options)
    if options["reader"]:
        return _open_list(_all_files(path) if path.is_dir() else [path], options)
    if path.is_dir() and not _holds_zarr(path):
        return _open_folder(path, options)
    if path.name.lower().endswith(ENDINGS) and path.suffix != ".npy":
        return _open_list([path], options)
    return _open_stack(path, options)


def _open_folder(folder: Path, options: dict[str, Any]) -> Source:
    for name in ("stamps.npy", "stamps.zarr"):
        if (folder / name).exists():
            return _open_stack(folder / name, options)
    return _open_list(_list_folder(folder), options)


def _open_stack(path: Path, options: dict[str, Any]) -> Source:
    """Open a file or a store that holds all stamps."""
    hdu, size = options["hdu"], options["size"]
    source: Source
    if path.suffix == ".npy":
        source = open_npy(path)
    elif path.suffix in (".zarr", *_HDF5_ENDINGS) or path.is_dir():
        source = open_chunked(path, None if hdu is None else str(hdu))
    else:
        kinds = ".npy, .zarr, .h5, a folder of stamps, or one of " + ", ".join(ENDINGS)
        raise ValueError(f"{path} has an unknown ending: open {kinds}.")
    if size is not None and source.shape[2:] != size:
        raise ValueError(
            f"{path} has stamps of {source.shape[2]} x {source.shape[3]} pixels, which size= "
            "does not change: crop them once and save them."
        )
    return source


def _holds_zarr(folder: Path) -> bool:
    return any((folder / name).is_file() for name in ("zarr.json", ".zarray", ".zgroup"))


def _named(source: Source, bands: tuple[str, ...] | None, where: Any) -> Source:
    """Give a source the names of its bands."""
    if bands is None or source.bands == bands:
        return source
    if len(bands) != source.shape[1]:
        raise ValueError(
            f"bands names {len(bands)} bands ({', '.join(bands)}), but {_short(where)} has "
            f"{source.shape[1]}: name each of them once."
        )
    vars(source)["bands"] = bands  # a frozen dataclass that nobody has seen yet
    return source


def _short(where: Any) -> str:
    return str(where) if isinstance(where, (str, os.PathLike)) else "the list"


def _list_folder(folder: Path) -> list[Path]:
    """Return the stamp files of a folder, of one kind, in the order of their names."""
    kinds: dict[str, list[Path]] = {}
    for entry in sorted(os.scandir(folder), key=lambda entry: entry.name):
        name = entry.name.lower()
        if name.endswith(ENDINGS) and not name.startswith((".", "catalog.")) and entry.is_file():
            kinds.setdefault(_kind(name), []).append(Path(entry.path))
    if not kinds:
        raise FileNotFoundError(
            f"{folder} has no stamps: put stamps.npy, stamps.zarr or one file an object "
            f"({', '.join(ENDINGS)}) there."
        )
    if len(kinds) > 1:
        found = " and ".join(f"{len(files)} {kind}" for kind, files in kinds.items())
        raise ValueError(f"{folder} has {found} files: pass a list of those to open.")
    return next(iter(kinds.values()))


def _all_files(folder: Path) -> list[Path]:
    names = (entry.name for entry in os.scandir(folder) if entry.is_file())
    return [folder / name for name in sorted(names) if not name.startswith((".", "catalog."))]


def _kind(name: str) -> str:
    for ending, kind in ((".npy", ".npy"), (".png", ".png"), (".jp", "JPEG"), (".tif", "TIFF")):
        if ending in name[-5:]:
            return kind
    return "FITS"


def _open_list(paths: list[Path], options: dict[str, Any]) -> Source:
    if not paths:
        raise ValueError("the list of stamp files is empty: pass at least one path.")
    ids = np.array([path.stem if options["reader"] else stem(path.name) for path in paths])
    if len(set(ids)) < len(ids):
        ids = np.array([str(path) for path in paths])
    folder = Path(os.path.commonpath([path.parent for path in map(Path.absolute, paths)]))
    names = np.array([[str(path.absolute().relative_to(folder))] for path in paths])
    return _open_checked(folder, names, ids, options)


def _open_checked(
    folder: Path, names: NDArray[Any], ids: NDArray[Any], options: dict[str, Any]
) -> Source:
    try:
        return open_files(folder, names, ids, **options)
    except FileNotFoundError as error:
        gone = next(name for name in names.ravel() if not (folder / name).exists())
        raise FileNotFoundError(
            f"{folder / gone} does not exist: correct the list, or put it back."
        ) from error


def _open_pattern(pattern: Path, options: dict[str, Any]) -> Source:
    """Find the files of each object and band by their names."""
    bands = options["bands"]
    if "{band}" not in pattern.name or "{id}" not in pattern.name:
        raise ValueError(f"{pattern} needs {{id}} and {{band}} in the name of the file.")
    if bands is None:
        raise ValueError(f"{pattern} has a {{band}}: pass bands= in the order wanted.")
    found: dict[str, set[str]] = {band: set() for band in bands}
    for entry in os.scandir(pattern.parent):
        for band in bands:
            wanted = re.escape(pattern.name.replace("{band}", band)).replace(r"\{id\}", "(.+)")
            if match := re.fullmatch(wanted, entry.name):
                found[band].add(match[1])
    ids = sorted(set().union(*found.values()))
    if not ids:
        raise FileNotFoundError(f"{pattern} matches no file: correct the pattern or the bands.")
    for band, there in found.items():
        if absent := sorted(set(ids) - there):
            raise ValueError(
                f"{pattern} lacks band {band!r} of {len(absent)} objects "
                f"({', '.join(absent[:_PREVIEW])}): complete them, or move the others away."
            )
    names = np.array(
        [[pattern.name.replace("{id}", i).replace("{band}", b) for b in bands] for i in ids]
    )
    return _open_checked(pattern.parent, names, np.array(ids), options)
