"""The simulated survey as files: stamps, catalogues, and FITS mosaics to cut the stamps from."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pandas as pd
from astropy.io import fits
from astropy.table import Table
from astropy.wcs import WCS
from sklearn.utils import Bunch

from skastro.simulation.spectra import BANDS
from skastro.simulation.survey import make_survey
from skastro.simulation.telescope import FAINTEST
from skastro.utils.files import writing

_STAMPS, _CATALOG, _MOSAIC = "stamps.npy", "catalog.ecsv", "mosaic"
_OURS = (_CATALOG, _STAMPS, _MOSAIC)  # a folder without its catalogue is no data folder yet
_RIVALS = ("catalog.csv", "catalog.fits", "catalog.parquet", "stamps.zarr")
_PARTIAL = ".partial-"
_UNITS = {
    "ra": "deg",
    "dec": "deg",
    "ebv": "mag",
    "mag": "mag",
    "err": "mag",
    "size": "arcsec",
}
_MEANINGS = {
    "id": "number of the object",
    "class": "true class",
    "morphology": "of galaxies: elliptical, lenticular, spiral or irregular",
    "merging": "overlaps with a companion, tidal light",
    "ra": "right ascension, ICRS",
    "dec": "declination, ICRS",
    "field": "pointing, the last number in the name of a mosaic's tile",
    "ebv": "reddening E(B-V) by the Galaxy",
    "mag": "AB, not corrected for extinction",
    "err": "one sigma",
    "size": "half-light radius seen through the seeing, in the best band",
    "redshift": "spectroscopic",
}


def simulate_survey_files(
    out: str | os.PathLike[str],
    *,
    n_objects: int = 2000,
    bands: str | Sequence[str] = BANDS,
    image_size: int = 32,
    faintest: float = FAINTEST,
    mosaic: bool = True,
    random_state: int | np.random.RandomState | None = 0,
    n_jobs: int | None = None,
    progress: Callable[[int, int], None] | None = None,
    overwrite: bool = False,
) -> Path:
    """Simulate a survey and write it into a folder.

    Parameters
    ----------
    out : path
        The folder; see `write_survey` for what it holds.
    n_objects, bands, image_size, faintest, random_state, n_jobs
        As `make_survey` takes them; nothing is read from its cache or kept there.
    mosaic : bool, default=True
        Write the mosaics too.
    progress : callable, default=None
        Called as ``progress(done, total)`` with numbers of simulated objects.
    overwrite : bool, default=False
        Replace an earlier survey in ``out``.

    Returns
    -------
    out : Path

    Raises
    ------
    ValueError
        An argument is out of range, or ``out`` is taken; before anything is simulated.
    ImportError
        GalSim is not installed.
    OSError
        The folder cannot be written.
    """
    _check_out(Path(out).expanduser(), overwrite=overwrite)
    survey = make_survey(
        n_objects,
        bands=bands,
        image_size=image_size,
        faintest=faintest,
        random_state=random_state,
        cache=False,
        n_jobs=n_jobs,
        progress=progress,
    )
    return write_survey(survey, out, mosaic=mosaic, overwrite=overwrite)


def write_survey(
    survey: Bunch, out: str | os.PathLike[str], *, mosaic: bool = True, overwrite: bool = False
) -> Path:
    """Write a simulated survey as a data folder, with mosaics to cut the same stamps from.

    Parameters
    ----------
    survey : Bunch
        From `make_survey`.
    out : path
        Folder to write, which is made if it is not there:

        - ``stamps.npy``: float32 (n, bands, height, width), nanomaggies;
        - ``catalog.ecsv``: the rows of the stamps, with units; NaN = not measured, and empty where
          an object that is no galaxy has no morphology;
        - ``mosaic/mosaic_<band>_<field>.fits``: for each band and pointing an image in
          nanomaggies with a TAN projection and the zero point ``MAGZP``. It is a grid of the
          stamps of that pointing; cells left over are NaN;
        - ``mosaic/catalog.fits``: the same rows as ``catalog.ecsv``. It has a folder of its own
          because `load_folder` takes one catalogue.
    mosaic : bool, default=True
        Write the folder ``mosaic``. The catalogues' ``ra`` and ``dec`` are then those of the
        middle of each stamp in the mosaic, else those that were simulated.
    overwrite : bool, default=False
        Write into a folder that is not empty, and replace the files named above there.

    Returns
    -------
    out : Path

    Raises
    ------
    ValueError
        ``out`` is a file, is not empty (without ``overwrite``), or holds another catalogue or other
        stamps.
    OSError
        The folder cannot be written. Nothing half-written stays: the files are made under
        temporary names, and the catalogue takes its place last.

    Notes
    -----
    The middle of a stamp of n pixels that begins at pixel c is at c + (n - 1) / 2.
    `astropy.nddata.Cutout2D` takes the pixels from ceil(x - n / 2) on, which is c for every x
    within half a pixel of the middle, for odd and for even n: the cut-out at ``ra`` and ``dec``
    is the stamp, bit for bit. The object itself is within half a pixel of the middle.

    Examples
    --------
    >>> import tempfile
    >>> from skastro import make_survey
    >>> survey = make_survey(3, bands="gr", image_size=16, cache=False)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     out = write_survey(survey, f"{folder}/survey", mosaic=False)
    ...     print(sorted(path.name for path in out.iterdir()))
    ['catalog.ecsv', 'stamps.npy']
    """
    out = Path(out).expanduser()
    with writing(out), _folder_at_the_end(out, overwrite=overwrite) as folder:
        catalog = survey.catalog
        if mosaic:
            (folder / _MOSAIC).mkdir()
            catalog = _write_mosaics(survey, folder / _MOSAIC)
        table = _as_table(catalog, survey)
        table.write(folder / _CATALOG)
        if mosaic:
            table.write(folder / _MOSAIC / "catalog.fits")
        np.save(folder / _STAMPS, survey.images)
    return out


def list_mosaics(folder: str | os.PathLike[str]) -> dict[str, list[Path]]:
    """Return the mosaics of a survey that `write_survey` has written, as `cut_stamps` takes them.

    Parameters
    ----------
    folder : path
        The survey's folder.

    Returns
    -------
    mosaics : dict of str to list of Path
        Band to its tiles, in the order of the stamps' bands.

    Raises
    ------
    FileNotFoundError
        The folder holds no mosaic.
    """
    mosaic = Path(folder).expanduser() / _MOSAIC
    catalog = mosaic / "catalog.fits"
    if not catalog.is_file():
        raise FileNotFoundError(f"{mosaic} holds no mosaics: write the survey with mosaic=True.")
    bands = fits.getheader(catalog, 1)["BANDS"]
    return {band: sorted(mosaic.glob(f"mosaic_{band}_*.fits")) for band in bands}


def _write_mosaics(survey: Bunch, folder: Path) -> pd.DataFrame:
    """Write a tile for each band and pointing; return the catalogue with the positions there."""
    catalog = survey.catalog.copy()
    size = survey.images.shape[-1]
    for field, rows in catalog.groupby("field").indices.items():
        columns = int(np.ceil(np.sqrt(len(rows))))
        shape = (-(-len(rows) // columns), columns)
        place = catalog.iloc[rows]
        header = _tile_header(place["ra"], place["dec"], shape, survey)
        header["FIELD"] = (int(field), "pointing")
        cell_y, cell_x = np.divmod(np.arange(len(rows)), columns)
        middle = (size - 1) / 2
        sky = WCS(header).all_pix2world(cell_x * size + middle, cell_y * size + middle, 0)
        catalog.loc[place.index, ["ra", "dec"]] = np.column_stack(sky)
        for number, band in enumerate(survey.bands):
            header["FILTER"] = (band, "LSST band")
            tile = _tile(survey.images[rows, number], shape)
            fits.writeto(folder / f"mosaic_{band}_{field:02d}.fits", tile, header)
    return catalog


def _tile_header(
    ra: pd.Series, dec: pd.Series, shape: tuple[int, int], survey: Bunch
) -> fits.Header:
    """Centre a tile of (rows, columns) stamps on the mean position of its objects."""
    alpha, delta = np.radians(ra), np.radians(dec)
    x, y = np.mean(np.cos(delta) * np.cos(alpha)), np.mean(np.cos(delta) * np.sin(alpha))
    north = np.degrees(np.arctan2(np.mean(np.sin(delta)), np.hypot(x, y)))
    step = survey.pixel_scale / 3600
    side = survey.images.shape[-1]
    header = fits.Header()
    header["CTYPE1"], header["CTYPE2"] = "RA---TAN", "DEC--TAN"
    header["CRVAL1"] = (round(np.degrees(np.arctan2(y, x)) % 360, 8), "[deg]")
    header["CRVAL2"] = (round(north, 8), "[deg]")
    header["CRPIX1"] = (shape[1] * side + 1) / 2
    header["CRPIX2"] = (shape[0] * side + 1) / 2
    header["CD1_1"], header["CD1_2"] = (-step, "[deg] east is left"), 0.0
    header["CD2_1"], header["CD2_2"] = 0.0, (step, "[deg] north is up")
    header["CUNIT1"], header["CUNIT2"], header["RADESYS"] = "deg", "deg", "ICRS"
    header["BUNIT"] = "nanomaggy"
    header["MAGZP"] = (survey.zero_point, "AB magnitude of a flux of one")
    header["ORIGIN"] = ("skastro", "simulated")
    return header


def _tile(stamps: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Lay stamps (n, size, size) out row by row; the cells left over are NaN."""
    rows, columns = shape
    size = stamps.shape[-1]
    cells = np.full((rows * columns, size, size), np.nan, dtype=stamps.dtype)
    cells[: len(stamps)] = stamps
    grid = cells.reshape(rows, columns, size, size).swapaxes(1, 2)
    return grid.reshape(rows * size, columns * size)


def _as_table(catalog: pd.DataFrame, survey: Bunch) -> Table:
    table = Table()
    for name in catalog.columns:
        values = catalog[name]
        text = not (pd.api.types.is_numeric_dtype(values) or pd.api.types.is_bool_dtype(values))
        table[name] = values.to_numpy(dtype=str) if text else values.to_numpy()
        kind = name.partition("_")[0]
        table[name].unit = _UNITS.get(kind)
        table[name].description = _MEANINGS.get(kind)
    table.meta = {
        "BANDS": "".join(survey.bands),
        "MAGZP": survey.zero_point,
        "PIXSCALE": survey.pixel_scale,
        "STAMPPIX": survey.images.shape[-1],
    }
    return table


def _check_out(out: Path, *, overwrite: bool) -> None:
    """Refuse a folder whose files would be lost, or would make the survey ambiguous."""
    if out.exists() and not out.is_dir():
        raise ValueError(f"out={str(out)!r} is a file: name a folder for the survey.")
    names = sorted(path.name for path in out.iterdir()) if out.is_dir() else []
    held = [name for name in names if not name.startswith(_PARTIAL)]  # of a survey cut short
    if held and not overwrite:
        raise ValueError(
            f"out={str(out)!r} holds {held[0]!r}: choose another folder, or pass overwrite=True."
        )
    if rivals := [name for name in held if name in _RIVALS]:
        raise ValueError(
            f"out={str(out)!r} holds {rivals[0]!r}, beside which the survey could not be read: "
            "remove it, or choose another folder."
        )


@contextmanager
def _folder_at_the_end(out: Path, *, overwrite: bool) -> Iterator[Path]:
    """Give a temporary folder inside ``out``, whose files take their places when all has worked."""
    _check_out(out, overwrite=overwrite)
    is_new = not out.exists()
    partial = out / f"{_PARTIAL}{os.getpid()}"
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    try:
        yield partial
        earlier = partial / "earlier"
        earlier.mkdir()
        for name in _OURS:  # the catalogue goes first and comes last
            if (out / name).exists():
                (out / name).rename(earlier / name)
        for name in reversed(_OURS):
            if (partial / name).exists():
                (partial / name).rename(out / name)
    except BaseException:
        if is_new:
            shutil.rmtree(out, ignore_errors=True)
        raise
    finally:
        shutil.rmtree(partial, ignore_errors=True)
