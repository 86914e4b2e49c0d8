"""Open stamps from files of any kind."""

from __future__ import annotations

import glob
import os
import re
import warnings
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from skastro.stamps.axes import parse_axes
from skastro.stamps.bands import spell_bands
from skastro.stamps.containers import DatasetSource, open_dataset
from skastro.stamps.files import Hdu, Reader, StampFiles, open_files
from skastro.stamps.formats import (
    HDF5_ENDINGS,
    ChunkedArray,
    Hdf5Stamps,
    NpyFile,
    find_hdf5_stamps,
    open_chunked,
    open_hdf5_stamps,
    open_npy,
    open_npz,
)
from skastro.stamps.parquet import ImageTable, open_tables
from skastro.stamps.stack import Stamps
from skastro.utils.arrow import is_dataset, refuse_splits
from skastro.utils.files import ENDINGS, FITS_ENDINGS, TABLE_ENDINGS, list_tables, stem

STACK_NAMES = ("stamps.npy", "stamps.zarr", "stamps.h5", "stamps.parquet", "stamps.npz")
_STORE_FILES = ("zarr.json", ".zarray", ".zgroup")  # of Zarr
NAMES_OF_STAMP_FOLDERS = ("stamps", "fits", "images")  # of a data folder
_BAND = re.compile(
    r"[ugrizyUBVRIYJHK]|Ks|NUV|FUV|F\d{3,4}[A-Z]+|W[1-4]|(sdss|des|hsc)?[_-]?[ugrizy]"
)
_KINDS = {".jpg": "JPEG", ".jpeg": "JPEG", ".tif": "TIFF", ".tiff": "TIFF"}  # two endings each
_MAX_EXAMPLE_IDS = 8  # ids that a message names
_DATASET = "the data set"  # in messages


Source = NpyFile | ChunkedArray | Hdf5Stamps | StampFiles | ImageTable | DatasetSource


def open_stamps(
    path_or_paths: Any,
    *,
    bands: str | Sequence[str] | None = None,
    size: int | tuple[int, int] | None = None,
    hdu: Hdu | None = None,
    axes: str | None = None,
    dtype: DTypeLike | None = None,
    resample: bool = False,
    reader: Reader | None = None,
    missing_bands: str = "error",
) -> Stamps:
    """Open stamps on disk without reading their pixels.

    Parameters
    ----------
    path_or_paths : path, sequence of paths, or datasets.Dataset
        - a ``.npy`` or ``.npz`` file, a Zarr store (``.zarr``) or an HDF5 file (``.h5``) of shape
          (n, bands, height, width), or of the ``axes`` that are passed or that the dimensions of
          the array are named after; an HDF5 file with a data set for each stamp (more than 12 of
          them, or those that match ``hdu="*"``), whose names are the ids;
        - a Parquet or Arrow file with a column of images, or one for each band; a folder of such
          files, also in subfolders (HATS, HuggingFace), a pattern or a list of them. Images are
          nested lists, tensors, the bytes of PNG, JPEG, TIFF, FITS or ``.npy`` files, or structs of
          ``band`` and ``flux`` (Multimodal Universe). Flat lists need ``size``;
        - a ``datasets.Dataset`` of HuggingFace, or a table of pyarrow, with such columns;
        - a folder of FITS files (also ``.fits.gz`` and ``.fits.fz``), of PNG, JPEG or TIFF
          images, or of ``.npy`` files, one for each object; a folder of such folders, one for
          each class; or a list of these files, in order. A FITS file holds one image extension
          for each band, or one cube. Extensions that are not bands (``ERR``, ``DQ``, ``MASK``,
          ``IVAR_R`` ...) are left out, and one warning names them. The pages of a TIFF file are
          its bands;
        - a pattern such as ``"cutouts/*.fits"`` for these files, sorted by name;
        - a pattern such as ``"cutouts/{id}_{band}.fits"``, ``"{band}/{id}.fits"`` or
          ``"{id}/{band}.fits"`` for files of one object and one band each; ``bands`` gives the
          order of the bands.
    bands : str or sequence of str, default=None
        Names of the bands; ``"ugriz"`` are five bands. In FITS files with one extension for each
        band only these bands are read, found by their ``FILTER`` or ``EXTNAME``, regardless of
        case.
    size : int or tuple (height, width), default=None
        Size of the stamps in pixels. Files of other sizes are cropped or padded about their
        centre, with NaN, or with 0 where pixels are integers. With None the first file gives the
        size, and reading a file of another size is an error.
    hdu : int, str, (str, int) or list of these, default=None
        Extension of the FITS files, or extensions, one for each band: ``1``, ``"SCI"``,
        ``("SCI", 2)`` or ``["SCI", "ERR"]``; name of the array in the Zarr store, HDF5 or ``.npz``
        file, with "*" for any name of a data set of one stamp; column of images of a table, or
        columns, one for each band; number of the page in the TIFF files.
    axes : str, default=None
        Axes of the arrays, one letter for each: ``n`` stamps, ``c`` bands, ``h`` height, ``w``
        width. ``"nhwc"`` is a stack with the bands last, ``"nhw"`` one of a single band, ``"hwc"``
        a file of one stamp. With None they are found by the names of the dimensions, else they
        are (n, bands, height, width); a warning says if the bands seem to be last. Axes of length
        1 may be anywhere. Pictures do not need it.
    dtype : dtype, default=None
        Type of the pixels of files of one object each. With None it holds all values of all
        files: integers and floats become floats.
    resample : bool, default=False
        Resample files to ``size``, which keeps the surface brightness, instead of cropping.
    reader : callable, default=None
        Reads files of other kinds, one for each object: a function from a path to pixels of shape
        (height, width) or (bands, height, width), or of ``axes``. Masked pixels become NaN. All
        files of a folder are then opened.
    missing_bands : {"error", "nan"}, default="error"
        What to do with objects that lack a band: an error that names one, or NaN in its place.

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
        A file is damaged, or does not hold stamps. Damaged files, and files whose size, bands or
        type of pixels do not fit the others, raise this error when they are read.
    ImportError
        A package that the format needs is not installed.

    Notes
    -----
    The type of the pixels is found in the headers of the files, of 1,000 of them, evenly spread,
    if there are more. A pixel that does not fit is an error, and is never changed.

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
    options = {
        "bands": names,
        "size": box,
        "hdu": hdu,
        "axes": parse_axes(axes),
        "dtype": dtype,
        "resample": resample,
        "reader": reader,
        "missing_bands": missing_bands,
    }
    if missing_bands not in ("error", "nan"):
        raise ValueError(f'missing_bands={missing_bands!r} must be "error" or "nan".')
    source = _open_source(path_or_paths, options)
    if names is not None and source.bands != names:
        if len(names) != source.shape[1]:
            is_path = isinstance(path_or_paths, (str, os.PathLike))
            where = path_or_paths if is_path else getattr(source, "name", "the list")
            raise ValueError(
                f"bands names {len(names)} bands ({', '.join(names)}), but {where} has "
                f"{source.shape[1]}: name each of them once."
            )
        _check_order(names, source.bands or ())
        source = replace(source, bands=names)
    return Stamps(source)


def _check_order(names: Sequence[str], known: Sequence[str]) -> None:
    """Refuse names that are those of the file in another order, as pixels stay in its order."""
    spelled = spell_bands(names, known)
    if set(spelled) == set(known) and tuple(spelled) != tuple(known):
        raise ValueError(
            f"bands={tuple(names)} is not the order of the file, which says {', '.join(known)}: "
            "leave bands= out, and name the bands where you use them."
        )


def find_tables(paths: Any) -> list[Path]:
    """Return the Parquet or Arrow files that a path, pattern, folder or list of files stands for.

    The list is empty if the stamps are in files of another kind.
    """
    if not isinstance(paths, (str, os.PathLike)):
        files = [Path(path).expanduser() for path in paths]
        return files if files and all(file.suffix in TABLE_ENDINGS for file in files) else []
    path = Path(paths).expanduser()
    if path.is_dir():
        holds_others = any((path / name).exists() for name in (*STACK_NAMES, *_STORE_FILES))
        holds_others = holds_others or any(map(_is_stamp, _entries(path)))
        return [] if holds_others or list_class_folders(path) else list_tables(path)
    if path.suffix not in TABLE_ENDINGS:
        return []
    has_pattern = glob.has_magic(str(path)) and not path.exists()
    return [Path(name) for name in _find_files(str(path))] if has_pattern else [path]


def _is_stamp(path: Path) -> bool:
    return path.is_file() and path.name.lower().endswith(ENDINGS)


def _open_source(paths: Any, options: dict[str, Any]) -> Source:
    """Open tables, files in a list, or what a path or a pattern stands for."""
    refuse_splits(paths, "path_or_paths")
    is_data = is_dataset(paths)
    tables = [] if is_data or options["reader"] else find_tables(paths)
    if is_data or tables:
        name = _DATASET if is_data else tables[0]
        table = open_dataset(paths, _DATASET, options) if is_data else open_tables(tables, options)
        if options["missing_bands"] == "nan":
            parts = [table.reader.find_missing(part) for part in table.read_tables()]
            _warn_of_missing(name, np.concatenate(parts), table.bands)
        return table
    if not isinstance(paths, (str, os.PathLike)):
        return _open_list([Path(path).expanduser() for path in paths], options)
    return _open_path(Path(paths).expanduser(), options)


def _open_path(path: Path, options: dict[str, Any]) -> Source:
    """Open a pattern, a folder, a file of one stamp, or a file of all stamps."""
    if "{id}" in str(path):
        return _open_pattern(path, options)
    if glob.has_magic(str(path)) and not path.exists():
        return _open_list([Path(name) for name in _find_files(str(path))], options)
    is_store = any((path / name).is_file() for name in _STORE_FILES)
    if path.is_dir() and (options["reader"] or not is_store):
        return _open_folder(path, options)
    is_stamp_file = path.name.lower().endswith(ENDINGS) and path.suffix != ".npy"
    is_one_stamp = options["reader"] or is_stamp_file
    return _open_list([path], options) if is_one_stamp else _open_stack(path, options)


def _find_files(pattern: str) -> list[str]:
    """Return the files that match a pattern such as ``cutouts/*.fits``, sorted."""
    files = sorted(glob.glob(pattern))  # noqa: PTH207 - a Path has to be split at its first star
    if not files:
        raise FileNotFoundError(f"{pattern} matches no file: correct the pattern.")
    return files


def _open_folder(folder: Path, options: dict[str, Any]) -> Source:
    """Open a folder with a stack, with files of one stamp each, or with one folder a class."""
    if options["reader"]:
        return _open_list(list_stamp_files(folder, any_kind=True), options)
    stacks = [folder / name for name in STACK_NAMES if (folder / name).exists()]
    if stacks:
        return _open_source(stacks[0], options)
    files = [file for files in list_class_folders(folder).values() for file in files]
    return _open_list(files or list_stamp_files(folder), options)


def _open_stack(path: Path, options: dict[str, Any]) -> NpyFile | ChunkedArray | Hdf5Stamps:
    """Open a file or a store that holds all stamps."""
    size, axes = options["size"], options["axes"]
    name = None if options["hdu"] is None else str(options["hdu"])
    source: NpyFile | ChunkedArray | Hdf5Stamps
    if path.suffix in (".npy", ".npz"):
        source = open_npy(path, axes) if path.suffix == ".npy" else open_npz(path, name, axes)
    elif path.suffix in HDF5_ENDINGS and (names := find_hdf5_stamps(path, name)):
        source = open_hdf5_stamps(path, names, axes)
    elif path.suffix in (".zarr", *HDF5_ENDINGS) or path.is_dir():
        source = open_chunked(path, name, axes)
    elif not path.exists():
        raise FileNotFoundError(f"{path} does not exist: correct the path.")
    else:
        kinds = (
            ".npy, .npz, .zarr, .h5, .parquet, .arrow, a folder of stamps, or one of "
            + ", ".join(ENDINGS)
        )
        raise ValueError(f"{path} has an unknown ending: open {kinds}.")
    if size is not None and source.shape[2:] != size:
        raise ValueError(
            f"{path} has stamps of {source.shape[2]} x {source.shape[3]} pixels, which size= "
            "does not change: crop them once and save them."
        )
    if options["dtype"] is not None:
        raise ValueError(f"{path} has one type of pixels: leave dtype= out.")
    return source


def list_stamp_files(folder: Path, *, any_kind: bool = False) -> list[Path]:
    """Return the stamp files of a folder, without hidden ones and catalogues, sorted by name.

    They must be of one kind, unless any kind of file is a stamp.
    """
    names = sorted(entry.name for entry in os.scandir(folder) if entry.is_file())
    paths = [folder / name for name in names if not name.lower().startswith((".", "catalog."))]
    return paths if any_kind else _keep_stamps(folder, paths)


def list_class_folders(folder: Path) -> dict[str, list[Path]]:
    """Return the stamp files in the sub-folders of a folder, by the names of these, sorted.

    The result is empty unless two or more sub-folders hold stamps, and the folder itself none.
    Sub-folders that are named like bands and hold files of the same names are a ValueError.
    """
    if any(map(_is_stamp, _entries(folder))):
        return {}
    folders: dict[str, list[Path]] = {}
    for path in _entries(folder):
        files = [file for file in _entries(path) if file.name.lower().endswith(ENDINGS)]
        if path.name not in NAMES_OF_STAMP_FOLDERS and files:
            folders[path.name] = files
    if len(folders) < 2:
        return {}
    same_files = len({tuple(stem(file.name) for file in files) for files in folders.values()}) == 1
    if same_files and all(map(_BAND.fullmatch, folders)):
        names = ",".join(folders)
        raise ValueError(
            f"{folder} has the sub-folders {', '.join(folders)} with files of the same names: if "
            f'these are bands, open "{folder}/{{band}}/{{id}}{_ending(folders)}" with '
            f"bands={names.split(',')} (--bands {names})."
        )
    _keep_stamps(folder, [file for files in folders.values() for file in files])
    return folders


def _entries(folder: Path) -> list[Path]:
    """Return what is in a folder, without hidden names and catalogues; nothing of a file."""
    if not folder.is_dir():
        return []
    names = sorted(entry.name for entry in os.scandir(folder))
    return [folder / name for name in names if not name.lower().startswith((".", "catalog."))]


def _ending(folders: dict[str, list[Path]]) -> str:
    name = next(iter(folders.values()))[0].name
    return name[len(stem(name)) :]


def _keep_stamps(folder: Path, paths: Sequence[Path]) -> list[Path]:
    """Return the stamp files among paths, which must be of one kind."""
    kinds: dict[str, list[Path]] = {}
    file_of: dict[Path, Path] = {}  # by the name without its ending
    for path in paths:
        name = path.name.lower()
        if name.endswith(ENDINGS):
            ending = path.suffix.lower()
            kind = "FITS" if name.endswith(FITS_ENDINGS) else _KINDS.get(ending, ending)
            kinds.setdefault(kind, []).append(path)
            file_of.setdefault(path.with_name(stem(path.name)), path)
    if not kinds:
        raise FileNotFoundError(
            f"{folder} has no stamps: put {', '.join(STACK_NAMES)} or one file an object "
            f"({', '.join(ENDINGS)}) there, or a folder of such files for each class."
        )
    if len(kinds) > 1:
        counts = " and ".join(f"{len(files)} {kind}" for kind, files in kinds.items())
        raise ValueError(f"{folder} has {counts} files: pass a list of those to open.")
    files = next(iter(kinds.values()))
    if len(file_of) < len(files):
        second = next(p for p in files if file_of[p.with_name(stem(p.name))] != p)
        first = file_of[second.with_name(stem(second.name))]
        raise ValueError(
            f"{first.parent} has {first.name} and {second.name}, which would be one object twice: "
            "remove or rename one of them, or pass a list of the files to open."
        )
    return files


def _open_list(paths: list[Path], options: dict[str, Any]) -> StampFiles:
    """Open files with one stamp each."""
    if not paths:
        raise ValueError("the list of stamp files is empty: pass at least one path.")
    folder = Path(os.path.commonpath([path.absolute().parent for path in paths]))
    names = [path.absolute().relative_to(folder) for path in paths]
    ids = [path.stem if options["reader"] else stem(path.name) for path in names]
    if len(set(ids)) < len(ids):  # the same name in several folders
        ids = [(name.parent / own).as_posix() for name, own in zip(names, ids, strict=True)]
    return _open_files(folder, np.array(names, str)[:, None], ids, options)


def _open_files(
    folder: Path, names: NDArray[np.str_], ids: list[str], options: dict[str, Any]
) -> StampFiles:
    own = {key: value for key, value in options.items() if key != "missing_bands"}
    return open_files(folder, names, np.array(ids), **own)


def _open_pattern(pattern: Path, options: dict[str, Any]) -> StampFiles:
    """Open files with one band of a stamp each, found by their names."""
    bands = options["bands"]
    if "{band}" not in str(pattern):
        raise ValueError(
            f"{pattern} needs {{id}} and {{band}}: write both, such as {{id}}_{{band}}.fits."
        )
    if bands is None:
        raise ValueError(f"{pattern} has a {{band}}: pass bands= in the order wanted.")

    # the file of each object in each band
    folder = next(path for path in pattern.parents if not re.search("{(id|band)}", str(path)))
    files_of = {
        band: _match_files(pattern.relative_to(folder), band, bands, folder) for band in bands
    }
    ids = sorted(set().union(*files_of.values()))

    # every object needs a file of each band
    if not ids:
        raise FileNotFoundError(f"{pattern} matches no file: correct the pattern or the bands.")
    for band, file_of_id in files_of.items():
        absent = sorted(set(ids) - set(file_of_id))
        if absent and options["missing_bands"] == "error":
            raise ValueError(
                f"{pattern} lacks band {band!r} of {len(absent)} objects "
                f"({', '.join(absent[:_MAX_EXAMPLE_IDS])}): complete them, move the others "
                'away, or pass missing_bands="nan".'
            )
    names = np.array([[files_of[band].get(name, "") for band in bands] for name in ids])
    if not (names != "").all(axis=1).any():
        raise ValueError(f"{pattern} has no object with all bands: name fewer with bands=.")
    _warn_of_missing(pattern, names == "", bands)
    return _open_files(folder, names, ids, options)


def _warn_of_missing(where: Any, missing: NDArray[np.bool_], bands: Sequence[str] | None) -> None:
    """Count the objects that lack a band; ``missing`` has the shape (n, bands)."""
    if missing.any():
        names = bands or [str(number) for number in range(missing.shape[1])]
        counts = zip(names, missing.sum(axis=0), strict=True)
        warnings.warn(
            f"{where}: {missing.any(axis=1).sum():,} of {len(missing):,} objects lack a band "
            f"({', '.join(f'{band} {n:,}' for band, n in counts if n)}), whose pixels are NaN.",
            UserWarning,
            stacklevel=5,
        )


def _match_files(pattern: Path, band: str, bands: Sequence[str], folder: Path) -> dict[str, str]:
    """Return the files of one of the bands by the ids in their names, regardless of case."""
    wanted = re.escape(pattern.as_posix())
    for key, value in (("id", "[^/]+"), ("band", f"(?i:{re.escape(band)})")):
        first, *others = wanted.split(rf"\{{{key}\}}")
        wanted = f"{first}(?P<{key}>{value})" + f"(?P={key})".join(others)
    paths = folder.glob("/".join("*" * len(pattern.parts)))
    names = (path.relative_to(folder).as_posix() for path in paths)
    found = [match for name in names if (match := re.fullmatch(wanted, name))]
    spelled = spell_bands(bands, {match["band"] for match in found})[bands.index(band)]
    return {match["id"]: match.string for match in found if match["band"] == spelled}
