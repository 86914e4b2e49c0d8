"""Load stamps and their catalogue from disk, and join them row by row."""

from __future__ import annotations

import glob
import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from skastro.catalogs.columns import find_column
from skastro.catalogs.matching import CatalogMatch, join_catalog
from skastro.catalogs.reading import (
    CATALOG_ENDINGS,
    read_catalog,
    read_dataset,
    read_tables,
    tidy_catalog,
)
from skastro.stamps.files import Hdu
from skastro.stamps.formats import HDF5_ENDINGS, read_columns
from skastro.stamps.opening import (
    NAMES_OF_STAMP_FOLDERS,
    STACK_NAMES,
    find_tables,
    list_class_folders,
    open_stamps,
)
from skastro.stamps.stack import Stamps
from skastro.surveys.cutouts import cut_stamps
from skastro.surveys.survey import Survey
from skastro.utils.arrow import is_dataset, refuse_splits
from skastro.utils.files import ENDINGS, list_tables, stem
from skastro.utils.tables import to_frame
from skastro.utils.validation import name_near, plain_labels, warn_of_case

_CATALOG_NAMES = tuple(f"catalog{end}" for end in CATALOG_ENDINGS if end != ".txt")
_LAYOUT = (
    "catalog.csv, .fits, .ecsv or .parquet, and stamps.npy, .zarr, .h5, .npz, .parquet or one file "
    "per object, or a folder of such files for each class"
)
_DATASET = "the data set"  # in messages
_CLASS, _FOLDER = "class", "folder"  # columns for the names of the folders of classes


def load_folder(
    path: str | os.PathLike[str],
    *,
    label: str | None = None,
    id: str | None = None,  # noqa: A002 - the catalogue's word, as in read_catalog
    size: int | tuple[int, int] | None = None,
    bands: str | Sequence[str] | None = None,
    hdu: Hdu | None = None,
    axes: str | None = None,
    missing_bands: str = "error",
) -> Survey:
    """Read a data folder: a catalogue and the stamps of its rows.

    Parameters
    ----------
    path : str or path-like
        Folder with one of ``catalog.csv``, ``catalog.fits``, ``catalog.ecsv``,
        ``catalog.parquet`` or another ending that `read_catalog` reads, and one of ``stamps.npy``,
        ``stamps.zarr``, ``stamps.h5``, ``stamps.npz`` and ``stamps.parquet`` (the same rows in the
        same order), or a file for each object (``<id>.fits``, ``.png``, ``.jpg``, ``.npy`` ...),
        there or in a subfolder such as ``stamps``, ``fits`` or ``images``. Such files are joined by
        the column of their names (``file``, ``filename``, ``file_loc`` ...), or without it by the
        column of ids. Two or more subfolders of files are classes, and then the catalogue may be
        missing. It may also be missing if the stamps are in a table, HDF5 or ``.npz`` file with
        columns beside the images: `load_survey` describes them. A folder of Parquet or Arrow files,
        as HuggingFace or HATS have them, is a data folder, too.
    label : str or None, default=None
        Column of the catalogue that holds the classes. With None, the classes are the subfolders,
        if there are any.
    id : str, default=None
        Column that names the objects. None means the column with a usual name.
    size, bands, hdu, axes : default=None
        Size, bands, extensions and axes of the stamps; see `open_stamps`.
    missing_bands : {"error", "nan"}, default="error"
        What to do with objects that lack a band; see `open_stamps`.

    Returns
    -------
    survey : Survey
        ``images`` are lazy Stamps (n, bands, height, width), ``catalog`` is a DataFrame as
        `read_catalog` returns it, ``path`` is the folder. With ``label``, ``target`` is that column
        as an array (n,), without white space around text and with None for missing text, and
        ``target_names`` the sorted list of its classes: without missing values, blank text and -1.
        Subfolders of classes are the column ``class`` of the catalogue, or ``folder`` if it has a
        ``class``. Files of the same name in two of them have ids such as
        ``"spiral/001"``.

    Raises
    ------
    FileNotFoundError
        The folder, its catalogue or its stamps are missing.
    ValueError
        There are several catalogues, the numbers of rows differ, no stamp matches a row, the
        stamps or the catalogue cannot be used, or ``label`` is not a column.
    ImportError
        A package that the format needs is not installed.

    Examples
    --------
    >>> import tempfile
    >>> import numpy as np
    >>> import pandas as pd
    >>> from skastro import load_folder
    >>> table = pd.DataFrame({"id": [1237648720693755918, 7], "class": ["star", "galaxy"]})
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     np.save(f"{folder}/stamps.npy", np.zeros((2, 1, 8, 8), dtype="float32"))
    ...     table.to_csv(f"{folder}/catalog.csv", index=False)
    ...     survey = load_folder(folder, label="class")
    >>> survey.images.shape, survey.ids.tolist(), survey.target_names
    ((2, 1, 8, 8), ['1237648720693755918', '7'], ['galaxy', 'star'])
    """
    folder = Path(path).expanduser()
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder} is not a folder: pass one that holds {_LAYOUT}.")
    stamps = _find_stamps(folder)
    has_classes = stamps.is_dir() and bool(list_class_folders(stamps))
    catalog = _find_catalog(folder, required=not has_classes and not has_columns(stamps))
    options: dict[str, Any] = {"size": size, "bands": bands, "hdu": hdu, "axes": axes}
    survey = load_survey(stamps, catalog, id=id, missing_bands=missing_bands, **options)
    if not has_classes and catalog is None and list(survey.catalog.columns) == ["id"]:
        _find_catalog(folder, required=True)  # an error: the stamps have no columns
    survey.path = folder
    if label is not None:
        if label not in survey.catalog.columns:
            near = name_near(label, list(map(str, survey.catalog.columns)))
            raise ValueError(f"label={label!r} is not a column of {folder}{near}")
        survey.target, is_labelled = plain_labels(survey.catalog[label])
        survey.target_names = sorted(set(survey.target[is_labelled].tolist()))
        warn_of_case(survey.target_names)
    return survey


def load_survey(
    images: Any,
    catalog: str | os.PathLike[str] | pd.DataFrame | None = None,
    *,
    id: str | None = None,  # noqa: A002 - the catalogue's word, as in read_catalog
    ra: str | None = None,
    dec: str | None = None,
    size: int | tuple[int, int] | None = None,
    bands: str | Sequence[str] | None = None,
    hdu: Hdu | None = None,
    axes: str | None = None,
    missing_bands: str = "error",
) -> Survey:
    """Open stamps of any kind and join them with their catalogue.

    Parameters
    ----------
    images : path, datasets.Dataset, or mapping of band to path(s)
        A mapping gives the mosaics of each band: `cut_stamps` cuts the stamps at the positions of
        the catalogue. Anything else is opened by `open_stamps`. A stack (``.npy``, Zarr, HDF5)
        must have the rows of the catalogue in the same order. Files of one object each are joined
        by the column of their names, or without it by the column of the ids. Subfolders of
        classes become a column, as in `load_folder`. A data set of HuggingFace, or a table of
        pyarrow, is read as its Parquet file would be.
    catalog : path, DataFrame or astropy Table, default=None
        Catalogue of the objects, or its file (``"c.fits[2]"`` is one of its tables). With None it
        is made of the columns beside the images in a data set, or in a Parquet, Arrow, HDF5 or
        ``.npz`` file (classes that HuggingFace writes as numbers by their names, and files named
        train, validation or test as the column ``split``), or else of the ids of the stamps; and
        of the classes of subfolders. With a catalogue, a column of ids beside the images joins
        them.
    id : str, default=None
        Column that names the objects. None means the column with a usual name.
    ra, dec : str, default=None
        Columns of the positions. None means the columns with the usual names.
    size : int or tuple (height, width), default=None
        Size of the stamps in pixels; required for mosaics.
    bands : str or sequence of str, default=None
        Names of the bands. For mosaics: the bands to cut; None means all.
    hdu : int, str, (str, int) or list of these, default=None
        Extensions of the files; see `open_stamps` and `cut_stamps`.
    axes : str, default=None
        Axes of the arrays, such as ``"nhwc"``; see `open_stamps`. Not for mosaics.
    missing_bands : {"error", "nan"}, default="error"
        What to do with objects that lack a band; see `open_stamps`. Not for mosaics.

    Returns
    -------
    survey : Survey
        ``images`` (Stamps), ``catalog`` and ``ids`` (the rows of those stamps, in their order) and
        ``join``, a sentence on how they were joined. Rows without a stamp, and stamps without a
        row, are left out, and ``join`` counts them.

    Raises
    ------
    FileNotFoundError, ValueError, ImportError
        For the reasons see `open_stamps`, `cut_stamps`, `read_catalog` and `join_catalog`.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     for name in (7, 9):
    ...         np.save(f"{folder}/{name}.npy", np.full((1, 8, 8), name))
    ...     table = pd.DataFrame({"id": [9, 8, 7], "mag_r": [21.0, 20.0, 19.0]})
    ...     survey = load_survey(folder, table)
    ...     print(np.asarray(survey.images)[:, 0, 0, 0], survey.catalog["mag_r"].tolist())
    [7 9] [19.0, 21.0]
    """
    refuse_splits(images, "images")
    if isinstance(images, Mapping):
        if size is None:
            raise ValueError("size is missing: pass the height and width of the stamps in pixels.")
        if catalog is None or axes is not None:
            what = "need a catalog" if catalog is None else "have no axes to name"
            raise ValueError(f"mosaics {what}: pass the catalogue of the objects, and no axes=.")
        table = _read_table(catalog, id)
        stamps = cut_stamps(images, table, size=size, bands=bands, id=id, ra=ra, dec=dec, hdu=hdu)
        rows: Any = np.asarray(stamps.catalog_rows)
        join = f"{len(rows):,} of {len(table):,} catalogue rows lie on the mosaics."
        return _make_survey(stamps, table.iloc[rows], id, join)

    # stamps, and the classes of their folders
    folders = _list_classes(images)
    files = [file for files in folders.values() for file in files]
    options: dict[str, Any] = {"hdu": hdu, "axes": axes, "missing_bands": missing_bands}
    stamps = open_stamps(files or images, bands=bands, size=size, **options)
    counts = [len(files) for files in folders.values()]
    classes = np.repeat(np.array(list(folders), dtype=object), counts) if folders else None

    # their rows of the catalogue
    own = _read_beside(images, stamps, hdu, id if catalog is None else None)
    if catalog is None:
        table, join = own, f"{len(stamps):,} stamps with the columns of their file."
        if find_column(own, "id") is None and (own.empty or stamps.ids is not None):
            ids = np.arange(len(stamps)) if stamps.ids is None else stamps.ids
            table = own.assign(id=ids) if len(own) else pd.DataFrame({"id": ids})
            join = f"{len(stamps):,} stamps." if own.empty else join
    else:
        table = _read_table(catalog, id)
        name = str(catalog) if isinstance(catalog, (str, os.PathLike)) else "the catalogue"
        source = _DATASET if is_dataset(images) else images
        rows, table, join = _join_rows(stamps, own, table, id, (name, source))
        if not np.array_equal(rows, np.arange(len(stamps))):
            stamps = stamps[rows]
            classes = None if classes is None else classes[rows]
    if classes is None:
        return _make_survey(stamps, table, id, join)
    name = _FOLDER if _CLASS in table.columns else _CLASS
    join = f"{join} The column {name} holds the {len(folders)} folders ({', '.join(folders)})."
    survey = _make_survey(stamps, table.assign(**{name: classes}), id, join)
    survey.target, survey.target_names = classes, sorted(set(classes))
    return survey


def _read_table(catalog: Any, id: str | None) -> pd.DataFrame:  # noqa: A002
    if isinstance(catalog, (str, os.PathLike)):
        return read_catalog(catalog, id=id)
    return catalog if isinstance(catalog, pd.DataFrame) else to_frame(catalog, "catalog")


def _join_rows(
    stamps: Stamps,
    own: pd.DataFrame,
    table: pd.DataFrame,
    id: str | None,  # noqa: A002
    names: tuple[str, Any],
) -> tuple[NDArray[np.int64], pd.DataFrame, str]:
    """Return the rows of the stamps that have a row in the catalogue, these, and a sentence.

    Stamps without names have those of the column of ids in their ``own`` table, if the catalogue
    has ids, too. ``names`` are those of the catalogue and the stamps in messages.
    """
    ids, own_id = stamps.ids, find_column(own, "id")
    if ids is None and own_id is not None and (id or find_column(table, "id")):
        ids = own[own_id].to_numpy()
    if ids is not None:
        match = _match_files(table, np.asarray(ids), id)
        return match.stamp_rows, table.iloc[match.catalog_rows], match.summary()
    if len(stamps) != len(table):
        raise ValueError(
            f"{names[0]} has {len(table)} rows and {names[1]} has {len(stamps)} stamps: "
            "keep one row for each stamp, in the same order."
        )
    join = f"{len(stamps):,} stamps and catalogue rows, taken in the same order."
    return np.arange(len(stamps)), table, join


def _read_beside(images: Any, stamps: Stamps, hdu: Any, id: str | None) -> pd.DataFrame:  # noqa: A002
    """Return the columns beside the stamps in their file; none if there are no columns."""
    source: Path | str
    if is_dataset(images):
        frame, source = read_dataset(images, _DATASET), _DATASET
        frame.attrs["arrays"] = []  # the images
    elif tables := find_tables(images):
        frame, source = read_tables(tables), Path(os.path.commonpath(tables))
        frame.attrs["arrays"] = []  # the images
    elif isinstance(images, (str, os.PathLike)):
        source = Path(images).expanduser()
        frame = read_columns(source, len(stamps), None if hdu is None else str(hdu))
    else:
        return pd.DataFrame()
    return frame if frame.columns.empty else tidy_catalog(frame, source, id=id)


def has_columns(images: Any) -> bool:
    """Return whether the file of stamps may hold columns, too: Parquet, Arrow, HDF5 or ``.npz``."""
    is_path = isinstance(images, (str, os.PathLike))
    endings = (".npz", *HDF5_ENDINGS)
    return bool(find_tables(images)) or (is_path and Path(images).suffix in endings)


def _make_survey(stamps: Any, table: pd.DataFrame, id: str | None, join: str) -> Survey:  # noqa: A002
    table = table.reset_index(drop=True)
    ids = None if id is None else table[id].to_numpy()
    return Survey(stamps, table, ids, join)  # type: ignore[arg-type]  # Survey finds ids itself


def _list_classes(images: Any) -> dict[str, list[Path]]:
    """Return the stamp files in subfolders of classes, by class; none if there are no classes."""
    if not isinstance(images, (str, os.PathLike)):
        return {}
    folder = Path(images).expanduser()
    is_stack = any((folder / name).exists() for name in (*STACK_NAMES, "zarr.json", ".zgroup"))
    return {} if is_stack else list_class_folders(folder)


def _match_files(table: pd.DataFrame, names: NDArray[Any], id: str | None) -> CatalogMatch:  # noqa: A002
    """Match stamps with rows by the column of the files if there is one, or else by id.

    Files of the same name in several folders are matched by folder and name.
    """
    column = find_column(table, "file") if id is None else None
    id_column = id or find_column(table, "id")
    on = "id"
    if column is not None:
        name_of = _folder_and_stem if any("/" in name for name in names) else stem
        files = pd.DataFrame({column: table[column].map(lambda path: name_of(str(path)), "ignore")})
        if id_column is None or files[column].dropna().is_unique:
            match = join_catalog(files, [name_of(name) for name in names], id=column)
            if len(match.stamp_rows):
                return replace(match, on="file")
            on = "file"
    if column is None or id_column is not None:
        match = join_catalog(table, names, id=id)
        if len(match.stamp_rows):
            return match
    raise ValueError(
        f"no stamp finds its catalogue row by {on} (the first stamp is {str(names[0])!r}): "
        "name the column of the ids with id=."
    )


def _folder_and_stem(path: Any) -> str:
    """Return the last folder of a path and the name of the file without its ending."""
    return f"{Path(str(path)).parent.name}/{stem(str(path))}"


def _find_catalog(folder: Path, *, required: bool) -> Path | None:
    paths = [folder / name for name in _CATALOG_NAMES if (folder / name).is_file()]
    if not paths and required:
        raise FileNotFoundError(f"{folder} has no catalogue: a data folder holds {_LAYOUT}.")
    if len(paths) > 1:
        several = " and ".join(path.name for path in paths)
        raise ValueError(f"{folder} has {several}: keep one catalogue.")
    return paths[0] if paths else None


def _find_stamps(folder: Path) -> Path:
    for name in STACK_NAMES:
        if (folder / name).exists():
            return folder / name
    usual = [folder / name for name in NAMES_OF_STAMP_FOLDERS]
    places = [path for path in (folder, *usual) if path.is_dir()]
    for path in places:
        if _holds_stamps(path) or list_class_folders(path):
            return path
    others = [path for path in sorted(folder.iterdir()) if path.is_dir() and _holds_stamps(path)]
    if len(others) == 1:
        return others[0]
    if list_tables(folder):
        return folder
    raise FileNotFoundError(f"{folder} has no stamps: a data folder holds {_LAYOUT}.")


def _holds_stamps(folder: Path) -> bool:
    names = (path.name.lower() for path in folder.iterdir())
    return any(name.endswith(ENDINGS) and not name.startswith((".", "catalog.")) for name in names)


def read_data(
    folder: str | Path | None = None,
    *,
    catalog: str | Path | None = None,
    images: Sequence[str] | str | Path | None = None,
    id: str | None = None,  # noqa: A002 - the catalogue's word, as in read_catalog
    ra: str | None = None,
    dec: str | None = None,
    alone: bool = False,
    **options: Any,
) -> tuple[Survey, str]:
    """Read a data folder, or stamps and their catalogue; also return their names for a message.

    ``folder`` is that of `load_folder`. The other arguments, to be passed without a folder, are
    those of `load_survey`. ``images`` may also be mosaics as a sequence of ``"band=path"``, where
    a path may be a pattern such as ``tile_g_*.fits``. With ``alone`` stamps need no catalogue, and
    without it only those in subfolders of classes. ``options`` are ``size``, ``bands``, ``hdu``
    and ``axes``.
    """
    if folder is not None:
        if catalog is not None or images is not None:
            raise ValueError("pass a folder, or a catalog and images, not both.")
        path = Path(folder).expanduser()
        if alone and path.is_dir() and _find_catalog(path, required=False) is None:
            survey = load_survey(_find_stamps(path), None, id=id, **options)
            survey.join = f"{survey.join} {folder} has no catalogue."
            return survey, str(folder)
        return load_folder(folder, id=id, **options), str(folder)
    stamps = _split_bands(images) if images else None
    needs_none = stamps is not None and not isinstance(stamps, Mapping) and alone
    has_own = stamps is not None and (bool(_list_classes(stamps)) or has_columns(stamps))
    if stamps is None or (catalog is None and not needs_none and not has_own):
        missing = "images" if alone or catalog is not None else "catalog"
        both = "images" if alone else "both a catalog and images"
        raise ValueError(f"{missing} is missing: pass a folder, or {both}.")
    survey = load_survey(stamps, catalog, id=id, ra=ra, dec=dec, **options)
    names = str(images) if isinstance(images, (str, Path)) else ", ".join(map(str, images or ()))
    return survey, names if catalog is None else f"{catalog} and {names}"


def _split_bands(images: Sequence[str] | str | Path) -> Any:
    """Return mosaics by band if they are given as "band=path", else the one path."""
    texts = [images] if isinstance(images, (str, Path)) else list(images)
    mosaics: dict[str, list[str]] = {}
    for text in map(str, texts):
        band, equals_sign, path = text.partition("=")
        if not equals_sign:
            if len(texts) > 1:
                raise ValueError(f"images={text!r} must be band=path, because several are given.")
            return text
        # A shell does not expand a pattern that follows the "=".
        tiles = sorted(glob.glob(path)) if glob.has_magic(path) else [path]  # noqa: PTH207
        if not tiles:
            raise ValueError(f"images={text!r} matches no file: correct the pattern.")
        mosaics.setdefault(band, []).extend(tiles)
    return mosaics
