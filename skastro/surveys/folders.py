"""One's own data: stamps and catalogue found on disk, joined row by row."""

from __future__ import annotations

import glob
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from sklearn.utils import Bunch

from skastro.catalogs.matching import join_catalog
from skastro.catalogs.reading import read_catalog
from skastro.stamps.opening import open_stamps
from skastro.stamps.stack import Stamps
from skastro.surveys.cutouts import cut_stamps
from skastro.utils.files import ENDINGS

_CATALOGS = ("catalog.csv", "catalog.fits", "catalog.ecsv", "catalog.parquet")
_STACKS = ("stamps.npy", "stamps.zarr", "stamps.h5")
_SUBFOLDERS = ("stamps", "fits", "images")
_LAYOUT = "catalog.csv, .fits, .ecsv or .parquet, and stamps.npy, stamps.zarr or one file an object"


def load_folder(path: str | os.PathLike[str], *, label: str | None = None) -> Bunch:
    """Read a data folder: a catalogue and the stamps of its rows.

    Parameters
    ----------
    path : str or path-like
        Folder with one of ``catalog.csv``, ``catalog.fits``, ``catalog.ecsv`` or
        ``catalog.parquet``, and one of ``stamps.npy``, ``stamps.zarr`` and ``stamps.h5`` (the
        same rows in the same order), or a file for each object (``<id>.fits``, ``.png``, ``.jpg``,
        ``.npy`` ...), there or in a subfolder ``stamps``, ``fits`` or ``images``, which the
        column ``file`` or else ``id`` joins.
    label : str or None, default=None
        Column of the catalogue to classify by.

    Returns
    -------
    data : Bunch
        - ``images``: Stamps (n, bands, height, width): nothing is read before it is used;
        - ``catalog``: DataFrame of n rows, as `read_catalog` gives it;
        - ``path``: the folder as a Path;
        - ``join``: a sentence on how the stamps found their rows;
        - with ``label``: ``target``, the column as an array (n,), missing labels kept as they are,
          and ``target_names``, the sorted list of the others.

    Raises
    ------
    FileNotFoundError
        The folder, its catalogue or its stamps are missing.
    ValueError
        There are several catalogues, the numbers of rows differ, no stamp finds its row, the
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
    ...     data = load_folder(folder, label="class")
    >>> data.images.shape, data.catalog["id"].tolist(), data.target_names
    ((2, 1, 8, 8), ['1237648720693755918', '7'], ['galaxy', 'star'])
    """
    folder = Path(path).expanduser()
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder} is not a folder: pass one that holds {_LAYOUT}.")
    data = load_survey(_find_stamps(folder), _find_catalog(folder))
    data.path = folder
    if label is not None:
        if label not in data.catalog.columns:
            raise ValueError(
                f"label={label!r} is not a column of {folder}: choose one of "
                f"{', '.join(map(str, data.catalog.columns))}."
            )
        data.target = data.catalog[label].to_numpy()
        data.target_names = sorted(data.catalog[label].dropna().unique().tolist())
    return data


def load_survey(
    images: Any,
    catalog: str | os.PathLike[str] | pd.DataFrame,
    *,
    id: str | None = None,  # noqa: A002 - the catalogue's word, as in read_catalog
    ra: str | None = None,
    dec: str | None = None,
    size: int | None = None,
    bands: str | Sequence[str] | None = None,
) -> Bunch:
    """Open stamps of any kind and join them with their catalogue.

    Parameters
    ----------
    images : path, or mapping of band to path(s)
        A mapping is of mosaics, out of which `cut_stamps` cuts at the catalogue's positions;
        anything else is opened by `open_stamps`. A stack (``.npy``, Zarr, HDF5) has the rows of
        the catalogue; files of one object each are joined by the column ``file`` if there is one,
        else by their names and the id.
    catalog : path or DataFrame
    id : str, default=None
        Column that names the objects.
    ra, dec : str, default=None
        Columns of the positions; None finds them by their usual names.
    size : int, default=None
        Of the stamps in pixels; mosaics need it.
    bands : str or sequence of str, default=None

    Returns
    -------
    data : Bunch
        ``images`` (Stamps), ``catalog`` (the rows of those stamps, in their order) and ``join``, a
        sentence on how they were joined. Rows without a stamp, and stamps without a row, are left
        out and counted there.

    Raises
    ------
    FileNotFoundError, ValueError, ImportError
        As `open_stamps`, `cut_stamps`, `read_catalog` and `join_catalog` do.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     for name in (7, 9):
    ...         np.save(f"{folder}/{name}.npy", np.full((1, 8, 8), name))
    ...     data = load_survey(folder, pd.DataFrame({"id": [9, 8, 7], "mag_r": [21.0, 20.0, 19.0]}))
    ...     print(np.asarray(data.images)[:, 0, 0, 0], data.catalog["mag_r"].tolist())
    [7 9] [19.0, 21.0]
    """
    table = catalog if isinstance(catalog, pd.DataFrame) else read_catalog(catalog, id=id)
    if isinstance(images, Mapping):
        if size is None:
            raise ValueError("size is missing: mosaics are cut to stamps of so many pixels.")
        stamps = cut_stamps(images, table, size=size, bands=bands, id=id, ra=ra, dec=dec)
        rows = np.asarray(stamps.catalog_rows)
        join = f"{len(rows):,} of {len(table):,} catalogue rows lie on the mosaics"
        return Bunch(images=stamps, catalog=_rows_of(table, rows), join=f"{join}.")
    stamps = open_stamps(images, bands=bands, size=size)
    if stamps.ids is None:
        name = "the catalogue" if table is catalog else str(catalog)
        return _same_rows(stamps, table, images, name)
    return _joined(stamps, table, id)


def _rows_of(table: pd.DataFrame, rows: Any) -> pd.DataFrame:
    chosen = table.iloc[rows].reset_index(drop=True)
    chosen.attrs = dict(table.attrs)
    return chosen


def _same_rows(stamps: Stamps, table: pd.DataFrame, where: Any, name: str) -> Bunch:
    if len(stamps) != len(table):
        raise ValueError(
            f"{name} has {len(table)} rows and {where} has {len(stamps)} stamps: "
            "keep one row for each stamp, in the same order."
        )
    join = f"{len(stamps):,} stamps and catalogue rows, taken in the same order."
    return Bunch(images=stamps, catalog=table, join=join)


def _joined(stamps: Stamps, table: pd.DataFrame, id: str | None) -> Bunch:  # noqa: A002
    by_file = id is None and "file" in table.columns
    ids = np.asarray(stamps.ids)
    match = join_catalog(table, ids, on="file" if by_file else "id", id=id)
    if not len(match.stamp_rows):
        raise ValueError(
            f"no stamp finds its catalogue row by {'file' if by_file else 'id'} (the first stamp "
            f"is {ids[0]!r}): name the column of the ids with id=."
        )
    rows = np.asarray(match.stamp_rows)
    whole = len(rows) == len(stamps) and (rows == np.arange(len(rows))).all()
    return Bunch(
        images=stamps if whole else stamps[rows],
        catalog=_rows_of(table, match.catalog_rows),
        join=match.summary(),
    )


def _find_catalog(folder: Path) -> Path:
    found = [folder / name for name in _CATALOGS if (folder / name).is_file()]
    if not found:
        raise FileNotFoundError(f"{folder} has no catalogue: a data folder holds {_LAYOUT}.")
    if len(found) > 1:
        several = " and ".join(file.name for file in found)
        raise ValueError(f"{folder} has {several}: keep one catalogue.")
    return found[0]


def _find_stamps(folder: Path) -> Path:
    for name in _STACKS:
        if (folder / name).exists():
            return folder / name
    for each in (folder, *(folder / name for name in _SUBFOLDERS)):
        if each.is_dir() and _has_stamps(each):
            return each
    raise FileNotFoundError(f"{folder} has no stamps: a data folder holds {_LAYOUT}.")


def _has_stamps(folder: Path) -> bool:
    with os.scandir(folder) as entries:
        names = [entry.name.lower() for entry in entries if entry.is_file()]
    return any(name.endswith(ENDINGS) and not name.startswith("catalog.") for name in names)


def read_data(
    folder: str | Path | None = None,
    *,
    catalog: str | Path | None = None,
    images: Sequence[str] | str | Path | None = None,
    id: str | None = None,  # noqa: A002 - the catalogue's word, as in read_catalog
    ra: str | None = None,
    dec: str | None = None,
    size: int | None = None,
) -> tuple[Bunch, str]:
    """Read a data folder, or stamps of any kind and their catalogue.

    Parameters
    ----------
    folder : path, default=None
        As `load_folder` reads it.
    catalog, images, id, ra, dec, size
        As `load_survey` takes them; ``images`` may be mosaics as a sequence of ``"band=path"``,
        where a path may be a pattern such as ``tile_g_*.fits``.

    Returns
    -------
    data : Bunch
        ``images``, ``catalog`` and ``join``.
    source : str
        Where they come from.
    """
    if folder is not None:
        if catalog is not None or images is not None:
            raise ValueError("pass a folder, or a catalog and images, not both.")
        return load_folder(folder), str(folder)
    if catalog is None or not images:
        missing = "catalog" if catalog is None else "images"
        raise ValueError(f"{missing} is missing: pass both a catalog and images, or a folder.")
    data = load_survey(_mosaics(images), catalog, id=id, ra=ra, dec=dec, size=size)
    shown = images if isinstance(images, (str, Path)) else ", ".join(map(str, images))
    return data, f"{catalog} and {shown}"


def _mosaics(images: Sequence[str] | str | Path) -> Any:
    """Tell mosaics, given as "band=path" (several times for several tiles), from one path."""
    given = [images] if isinstance(images, (str, Path)) else list(images)
    mosaics: dict[str, list[str]] = {}
    for text in map(str, given):
        band, found, path = text.partition("=")
        if not found:
            if len(given) > 1:
                raise ValueError(f"images={text!r} must be band=path, where several are given.")
            return text
        # a pattern that the shell could not expand behind the "=" is expanded here
        tiles = sorted(glob.glob(path)) if glob.has_magic(path) else [path]  # noqa: PTH207
        if not tiles:
            raise ValueError(f"images={text!r} matches no file: correct the pattern.")
        mosaics.setdefault(band, []).extend(tiles)
    return mosaics
