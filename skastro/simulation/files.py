"""Write the simulated survey as files: stamps, catalogues, and FITS mosaics to cut stamps from."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pandas as pd
from astropy.io import fits
from astropy.table import Table
from astropy.wcs import WCS

from skastro.surveys.survey import Survey
from skastro.utils.files import list_out, replacing_folder, writing

_STAMPS, _CATALOG, _MOSAIC = "stamps.npy", "catalog.ecsv", "mosaic"
_OTHER_DATA = (
    "catalog.csv",
    "catalog.fits",
    "catalog.parquet",
    "stamps.zarr",
    "stamps.h5",
    "stamps.parquet",
    "stamps.npz",
)
_UNITS = {"ra": "deg", "dec": "deg", "ebv": "mag", "mag": "mag", "err": "mag", "size": "arcsec"}
_DESCRIPTIONS = {
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


def write_survey(
    survey: Survey, out: str | os.PathLike[str], *, mosaic: bool = True, overwrite: bool = False
) -> Path:
    """Write a simulated survey as a data folder, with mosaics to cut the same stamps from.

    Parameters
    ----------
    survey : Survey
        Simulated survey; see `make_survey`.
    out : path
        Folder to write, which is created if it does not exist:

        - ``stamps.npy``: float32 (n, bands, height, width), nanomaggies;
        - ``catalog.ecsv``: the rows of the stamps, with units; NaN = not measured. The morphology
          of stars and quasars is empty;
        - ``mosaic/mosaic_<band>_<field>.fits``: for each band and pointing an image in
          nanomaggies with a TAN projection and the zero point ``MAGZP``. It is a grid of the
          stamps of that pointing; unused cells are NaN;
        - ``mosaic/catalog.fits``: the same rows as ``catalog.ecsv``. It has a folder of its own
          because `load_folder` expects a single catalogue.
    mosaic : bool, default=True
        Whether to write the folder ``mosaic``. If so, ``ra`` and ``dec`` of the catalogues are the
        positions of the middle of each stamp in the mosaic, else the simulated positions.
    overwrite : bool, default=False
        Whether to write into a folder that is not empty, and to replace the files named above.

    Returns
    -------
    out : Path

    Raises
    ------
    ValueError
        ``out`` is a file, is not empty (without ``overwrite``), or holds another catalogue or other
        stamps.
    OSError
        The folder cannot be written. Nothing half-written stays: the files are written into a
        temporary folder, and the catalogue is moved last.

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
    check_out(out, overwrite=overwrite)
    # The first name is removed first and written last: a folder without a catalogue is not read.
    names, temporary = (_CATALOG, _STAMPS, _MOSAIC), out / ".partial"
    with writing(out), replacing_folder(out, names, temporary=temporary) as folder:
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


def _write_mosaics(survey: Survey, folder: Path) -> pd.DataFrame:
    """Write a tile for each band and pointing; return the catalogue with the positions there."""
    catalog = survey.catalog.copy()
    size = survey.images.shape[-1]
    middle = (size - 1) / 2
    for field, rows in catalog.groupby("field").indices.items():
        columns = int(np.ceil(np.sqrt(len(rows))))
        shape = (-(-len(rows) // columns), columns)
        objects = catalog.iloc[rows]
        header = _tile_header(objects["ra"], objects["dec"], shape, survey)
        header["FIELD"] = (int(field), "pointing")
        cell_y, cell_x = np.divmod(np.arange(len(rows)), columns)
        sky = WCS(header).all_pix2world(cell_x * size + middle, cell_y * size + middle, 0)
        catalog.loc[objects.index, ["ra", "dec"]] = np.column_stack(sky)
        # Place the stamps in a grid, row by row; cells without a stamp are NaN.
        cells = np.full((shape[0] * columns, *survey.images.shape[1:]), np.nan, np.float32)
        cells[: len(rows)] = survey.images[rows]
        for number, band in enumerate(survey.bands):
            header["FILTER"] = (band, "LSST band")
            grid = cells[:, number].reshape(*shape, size, size).swapaxes(1, 2)
            tile = grid.reshape(shape[0] * size, columns * size)
            fits.writeto(folder / f"mosaic_{band}_{field:02d}.fits", tile, header)
    return catalog


def _tile_header(
    ra: pd.Series, dec: pd.Series, shape: tuple[int, int], survey: Survey
) -> fits.Header:
    """Return the header of a tile of (rows, columns) stamps, centred on the mean position."""
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


def _as_table(catalog: pd.DataFrame, survey: Survey) -> Table:
    table = Table()
    for name in catalog.columns:
        values = catalog[name]
        text = not (pd.api.types.is_numeric_dtype(values) or pd.api.types.is_bool_dtype(values))
        table[name] = values.to_numpy(dtype=str) if text else values.to_numpy()
        kind = name.partition("_")[0]
        table[name].unit = _UNITS.get(kind)
        table[name].description = _DESCRIPTIONS.get(kind)
    table.meta = {
        "BANDS": "".join(survey.bands),
        "MAGZP": survey.zero_point,
        "PIXSCALE": survey.pixel_scale,
        "STAMPPIX": survey.images.shape[-1],
    }
    return table


def check_out(out: Path, *, overwrite: bool) -> None:
    """Refuse a folder whose files would be lost, or would be mixed with those of a survey."""
    names = list_out(out.expanduser())
    if names and not overwrite:
        raise ValueError(
            f"out={str(out)!r} holds {names[0]!r}: choose another folder, or pass overwrite=True."
        )
    if others := [name for name in names if name in _OTHER_DATA]:
        raise ValueError(
            f"out={str(out)!r} holds {others[0]!r}, which would be mixed with the survey: remove "
            "it, or choose another folder."
        )
