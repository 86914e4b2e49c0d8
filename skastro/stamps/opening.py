"""Open stamps from files of any kind."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skastro.stamps.formats import (
    ChunkedArray,
    NpyFile,
    StampFiles,
    open_chunked,
    open_files,
    open_npy,
)
from skastro.stamps.stack import Stamps
from skastro.utils.files import ENDINGS, FITS_ENDINGS, stem

_HDF5_ENDINGS = (".h5", ".hdf5", ".hdf")
_KINDS = {".jpg": "JPEG", ".jpeg": "JPEG", ".tif": "TIFF", ".tiff": "TIFF"}  # two endings each
_MAX_EXAMPLE_IDS = 8  # ids that a message names


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
          images, or of ``.npy`` files, one for each object; or a list of these files, in order.
          A FITS file holds one image extension for each band, or one cube;
        - a pattern such as ``"cutouts/{id}_{band}.fits"`` for files of one object and one band
          each; ``bands`` gives the order of the bands.
    bands : str or sequence of str, default=None
        Names of the bands; ``"ugriz"`` are five bands. In FITS files with one extension for each
        band only these bands are read, found by their ``FILTER`` or ``EXTNAME``.
    size : int or tuple (height, width), default=None
        Size of the stamps in pixels. Files of other sizes are cropped or padded about their
        centre, with NaN, or with 0 where pixels are integers. With None the first file gives the
        size, and reading a file of another size is an error.
    hdu : int or str, default=None
        Extension of the FITS files, or name of the array in the Zarr store or HDF5 file.
    resample : bool, default=False
        Resample files to ``size``, which keeps the surface brightness, instead of cropping.
    reader : callable, default=None
        Reads files of other kinds, one for each object: a function from a path to pixels of shape
        (height, width) or (bands, height, width). All files of a folder are then opened.

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
        A file is damaged, or does not hold stamps. Files whose size or bands differ from those
        of the first file raise this error when they are read.

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
    if names is not None and source.bands != names:
        if len(names) != source.shape[1]:
            where = path_or_paths if isinstance(path_or_paths, (str, os.PathLike)) else "the list"
            raise ValueError(
                f"bands names {len(names)} bands ({', '.join(names)}), but {where} has "
                f"{source.shape[1]}: name each of them once."
            )
        source = replace(source, bands=names)
    return Stamps(source)


def _open_source(paths: Any, options: dict[str, Any]) -> NpyFile | ChunkedArray | StampFiles:
    """Open a list of files, a pattern, a folder, a file of one stamp, or a file of all stamps."""
    if not isinstance(paths, (str, os.PathLike)):
        return _open_list([Path(path).expanduser() for path in paths], options)
    path = Path(paths).expanduser()
    if "{id}" in str(path):
        return _open_pattern(path, options)
    is_store = any((path / name).is_file() for name in ("zarr.json", ".zarray", ".zgroup"))
    if path.is_dir() and (options["reader"] or not is_store):
        stacks = [path / name for name in ("stamps.npy", "stamps.zarr") if (path / name).exists()]
        if stacks and not options["reader"]:
            return _open_stack(stacks[0], options)
        files = _list_folder(path) if options["reader"] else _list_stamp_files(path)
        return _open_list(files, options)
    is_stamp_file = path.name.lower().endswith(ENDINGS) and path.suffix != ".npy"
    if options["reader"] or is_stamp_file:
        return _open_list([path], options)
    return _open_stack(path, options)


def _open_stack(path: Path, options: dict[str, Any]) -> NpyFile | ChunkedArray:
    """Open a file or a store that holds all stamps."""
    hdu, size = options["hdu"], options["size"]
    source: NpyFile | ChunkedArray
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


def _list_folder(folder: Path) -> list[Path]:
    """Return the files of a folder, without hidden ones and catalogues, sorted by name."""
    names = sorted(entry.name for entry in os.scandir(folder) if entry.is_file())
    return [folder / name for name in names if not name.lower().startswith((".", "catalog."))]


def _list_stamp_files(folder: Path) -> list[Path]:
    """Return the stamp files of a folder, which must be of one kind."""
    kinds: dict[str, list[Path]] = {}
    for path in _list_folder(folder):
        name = path.name.lower()
        if name.endswith(ENDINGS):
            ending = path.suffix.lower()
            kind = "FITS" if name.endswith(FITS_ENDINGS) else _KINDS.get(ending, ending)
            kinds.setdefault(kind, []).append(path)
    if not kinds:
        raise FileNotFoundError(
            f"{folder} has no stamps: put stamps.npy, stamps.zarr or one file an object "
            f"({', '.join(ENDINGS)}) there."
        )
    if len(kinds) > 1:
        counts = " and ".join(f"{len(files)} {kind}" for kind, files in kinds.items())
        raise ValueError(f"{folder} has {counts} files: pass a list of those to open.")
    return next(iter(kinds.values()))


def _open_list(paths: list[Path], options: dict[str, Any]) -> StampFiles:
    """Open files with one stamp each."""
    if not paths:
        raise ValueError("the list of stamp files is empty: pass at least one path.")
    ids = np.array([path.stem if options["reader"] else stem(path.name) for path in paths])
    if len(set(ids)) < len(ids):
        ids = np.array([str(path) for path in paths])
    folder = Path(os.path.commonpath([path.absolute().parent for path in paths]))
    names = np.array([[str(path.absolute().relative_to(folder))] for path in paths])
    return open_files(folder, names, ids, **options)


def _open_pattern(pattern: Path, options: dict[str, Any]) -> StampFiles:
    """Open files with one band of a stamp each, found by their names."""
    bands = options["bands"]
    if "{band}" not in pattern.name or "{id}" not in pattern.name:
        raise ValueError(f"{pattern} needs {{id}} and {{band}} in the name of the file.")
    if bands is None:
        raise ValueError(f"{pattern} has a {{band}}: pass bands= in the order wanted.")

    # ids of the files of each band
    ids_of: dict[str, set[str]] = {}
    files = [path.name for path in pattern.parent.iterdir()]
    for band in bands:
        wanted = re.escape(pattern.name.replace("{band}", band)).replace(r"\{id\}", "(.+)")
        ids_of[band] = {match[1] for name in files if (match := re.fullmatch(wanted, name))}
    ids = sorted(set().union(*ids_of.values()))

    # every object needs a file of each band
    if not ids:
        raise FileNotFoundError(f"{pattern} matches no file: correct the pattern or the bands.")
    for band, ids_of_band in ids_of.items():
        if absent := sorted(set(ids) - ids_of_band):
            raise ValueError(
                f"{pattern} lacks band {band!r} of {len(absent)} objects "
                f"({', '.join(absent[:_MAX_EXAMPLE_IDS])}): complete them, or move the others away."
            )
    names = np.array(
        [[pattern.name.replace("{id}", i).replace("{band}", b) for b in bands] for i in ids]
    )
    return open_files(pattern.parent, names, np.array(ids), **options)
