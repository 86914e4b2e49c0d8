"""Load stamps and their catalogue from disk, and join them row by row."""

from __future__ import annotations

import glob
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from skastro.catalogs.matching import join_catalog
from skastro.catalogs.reading import read_catalog
from skastro.stamps.opening import open_stamps
from skastro.surveys.cutouts import cut_stamps
from skastro.surveys.survey import Survey
from skastro.utils.files import ENDINGS

_CATALOG_NAMES = ("catalog.csv", "catalog.fits", "catalog.ecsv", "catalog.parquet")
_STACK_NAMES = ("stamps.npy", "stamps.zarr", "stamps.h5")
_STAMP_FOLDERS = ("stamps", "fits", "images")
_LAYOUT = "catalog.csv, .fits, .ecsv or .parquet, and stamps.npy, .zarr, .h5 or one file per object"


def load_folder(path: str | os.PathLike[str], *, label: str | None = None) -> Survey:
    """Read a data folder: a catalogue and the stamps of its rows.

    Parameters
    ----------
    path : str or path-like
        Folder with one of ``catalog.csv``, ``catalog.fits``, ``catalog.ecsv`` or
        ``catalog.parquet``, and one of ``stamps.npy``, ``stamps.zarr`` and ``stamps.h5`` (the
        same rows in the same order), or a file for each object (``<id>.fits``, ``.png``, ``.jpg``,
        ``.npy`` ...), there or in a subfolder ``stamps``, ``fits`` or ``images``. Such files are
        joined by the column ``file``, or without it by the column ``id``.
    label : str or None, default=None
        Column of the catalogue that holds the classes.

    Returns
    -------
    survey : Survey
        ``images`` are lazy Stamps (n, bands, height, width), ``catalog`` is a DataFrame as
        `read_catalog` returns it, ``path`` is the folder. With ``label``, ``target`` is that column
        as an array (n,), with missing labels unchanged, and ``target_names`` the sorted list of
        the other labels.

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
    survey = load_survey(_find_stamps(folder), _find_catalog(folder))
    survey.path = folder
    if label is not None:
        if label not in survey.catalog.columns:
            raise ValueError(
                f"label={label!r} is not a column of {folder}: choose one of "
                f"{', '.join(map(str, survey.catalog.columns))}."
            )
        survey.target = survey.catalog[label].to_numpy()
        survey.target_names = sorted(survey.catalog[label].dropna().unique().tolist())
    return survey


def load_survey(
    images: Any,
    catalog: str | os.PathLike[str] | pd.DataFrame,
    *,
    id: str | None = None,  # noqa: A002 - the catalogue's word, as in read_catalog
    ra: str | None = None,
    dec: str | None = None,
    size: int | None = None,
    bands: str | Sequence[str] | None = None,
) -> Survey:
    """Open stamps of any kind and join them with their catalogue.

    Parameters
    ----------
    images : path, or mapping of band to path(s)
        A mapping gives the mosaics of each band: `cut_stamps` cuts the stamps at the positions of
        the catalogue. Anything else is opened by `open_stamps`. A stack (``.npy``, Zarr, HDF5)
        must have the rows of the catalogue in the same order. Files of one object each are joined
        by the column ``file``, or without it by the column of the ids.
    catalog : path or DataFrame
        Catalogue of the objects, or its file.
    id : str, default=None
        Column that names the objects. None means the column with a usual name.
    ra, dec : str, default=None
        Columns of the positions. None means the columns with the usual names.
    size : int, default=None
        Height and width of the stamps in pixels; required for mosaics.
    bands : str or sequence of str, default=None
        Names of the bands. For mosaics: the bands to cut; None means all.

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
    table = catalog if isinstance(catalog, pd.DataFrame) else read_catalog(catalog, id=id)
    rows: Any = None
    if isinstance(images, Mapping):
        if size is None:
            raise ValueError("size is missing: pass the height and width of the stamps in pixels.")
        stamps = cut_stamps(images, table, size=size, bands=bands, id=id, ra=ra, dec=dec)
        rows = np.asarray(stamps.catalog_rows)
        join = f"{len(rows):,} of {len(table):,} catalogue rows lie on the mosaics."
    elif (stamps := open_stamps(images, bands=bands, size=size)).ids is None:
        if len(stamps) != len(table):
            name = "the catalogue" if table is catalog else str(catalog)
            raise ValueError(
                f"{name} has {len(table)} rows and {images} has {len(stamps)} stamps: "
                "keep one row for each stamp, in the same order."
            )
        join = f"{len(stamps):,} stamps and catalogue rows, taken in the same order."
    else:
        # Files of one object each are matched with the rows by their names.
        names = np.asarray(stamps.ids)
        on = "file" if id is None and "file" in table.columns else "id"
        match = join_catalog(table, names, on=on, id=id)
        if not len(match.stamp_rows):
            raise ValueError(
                f"no stamp finds its catalogue row by {on} (the first stamp is {names[0]!r}): "
                "name the column of the ids with id=."
            )
        if not np.array_equal(match.stamp_rows, np.arange(len(stamps))):
            stamps = stamps[match.stamp_rows]
        rows, join = match.catalog_rows, match.summary()
    if rows is not None:
        table = table.iloc[rows].reset_index(drop=True)
    ids = None if id is None else table[id].to_numpy()
    return Survey(stamps, table, ids, join)  # type: ignore[arg-type]  # Survey finds ids itself


def _find_catalog(folder: Path) -> Path:
    paths = [folder / name for name in _CATALOG_NAMES if (folder / name).is_file()]
    if not paths:
        raise FileNotFoundError(f"{folder} has no catalogue: a data folder holds {_LAYOUT}.")
    if len(paths) > 1:
        several = " and ".join(path.name for path in paths)
        raise ValueError(f"{folder} has {several}: keep one catalogue.")
    return paths[0]


def _find_stamps(folder: Path) -> Path:
    for name in _STACK_NAMES:
        if (folder / name).exists():
            return folder / name
    for path in (folder, *(folder / name for name in _STAMP_FOLDERS)):
        names = [file.name.lower() for file in path.iterdir()] if path.is_dir() else []
        if any(name.endswith(ENDINGS) and not name.startswith("catalog.") for name in names):
            return path
    raise FileNotFoundError(f"{folder} has no stamps: a data folder holds {_LAYOUT}.")


def read_data(
    folder: str | Path | None = None,
    *,
    catalog: str | Path | None = None,
    images: Sequence[str] | str | Path | None = None,
    id: str | None = None,  # noqa: A002 - the catalogue's word, as in read_catalog
    ra: str | None = None,
    dec: str | None = None,
    size: int | None = None,
) -> tuple[Survey, str]:
    """Read a data folder, or stamps and their catalogue; also return their names for a message.

    ``folder`` is that of `load_folder`. The other arguments, to be passed without a folder, are
    those of `load_survey`. ``images`` may also be mosaics as a sequence of ``"band=path"``, where
    a path may be a pattern such as ``tile_g_*.fits``.
    """
    if folder is not None:
        if catalog is not None or images is not None:
            raise ValueError("pass a folder, or a catalog and images, not both.")
        return load_folder(folder), str(folder)
    if catalog is None or not images:
        missing = "catalog" if catalog is None else "images"
        raise ValueError(f"{missing} is missing: pass both a catalog and images, or a folder.")
    survey = load_survey(_split_bands(images), catalog, id=id, ra=ra, dec=dec, size=size)
    names = images if isinstance(images, (str, Path)) else ", ".join(map(str, images))
    return survey, f"{catalog} and {names}"


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
