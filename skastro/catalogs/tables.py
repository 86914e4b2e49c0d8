"""Read tables of FITS files, VOTables and other formats of astropy, and convert them to pandas."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from astropy.coordinates import SkyCoord
from astropy.io import fits, votable
from astropy.io.ascii import read as read_ascii
from astropy.table import Table
from astropy.table.meta import get_header_from_yaml
from astropy.time import Time

from skastro.catalogs.columns import USUAL_COLUMN_NAMES, find_column
from skastro.catalogs.text import check_unique
from skastro.utils.files import UnfitError
from skastro.utils.fits import open_fits

_LDAC_HEADER = ["Field Header Card"]  # columns of the header of an image, as SExtractor keeps it


@dataclass(frozen=True)
class _Part:
    """A table of a file that may hold several."""

    number: int
    name: str
    n_rows: int
    columns: list[str]
    table: Any

    def __str__(self) -> str:
        name = f"{self.number} ({self.name})" if self.name else str(self.number)
        return f"{name} of {self.n_rows:,} row{'s' * (self.n_rows != 1)}"


def read_fits_table(source: Path, hdu: int | str | None) -> Table:
    """Read a table of a FITS file: the one of a name or number, or the catalogue."""
    with open_fits(source) as file, fits.open(file) as hdus:
        parts = [
            _Part(number, part.name, part.header["NAXIS2"], part.columns.names, part)
            for number, part in enumerate(hdus)
            if isinstance(part, (fits.BinTableHDU, fits.TableHDU))
            and not isinstance(part, fits.CompImageHDU)
        ]
        if not parts:
            raise UnfitError(f"{source} holds no table: pass the catalogue, not an image.")
        part = _choose_part(parts, hdu, source)
        check_unique(part.columns, source)
        return Table.read(part.table)


def read_votable(source: Path, hdu: int | str | None) -> Table:
    """Read a table of a VOTable: the one of a name or number, or the catalogue."""
    parts: list[_Part] = []
    for table in votable.parse(source).iter_tables():
        if columns := [column.name for column in table.fields]:
            name = table.name or table.ID or ""
            parts.append(_Part(len(parts) + 1, name, len(table.array), columns, table))
    if not parts:
        raise UnfitError(f"{source} holds no table: pass a catalogue.")
    part = _choose_part(parts, hdu, source)
    check_unique(part.columns, source)
    return part.table.to_table(use_names_over_ids=True)


def read_ascii_table(text: str, form: str, source: Path) -> Table:
    """Read a text in a format that astropy knows by its name."""
    lines = text.splitlines()
    if form == "ecsv":  # astropy renames the second of two columns with one name
        header = [line[2:] for line in takewhile(lambda line: line.startswith("#"), lines)]
        columns = get_header_from_yaml(header)["datatype"]
        check_unique([column["name"] for column in columns], source)
    return read_ascii(lines, format=form, guess=False)


def _choose_part(parts: list[_Part], hdu: int | str | None, source: Path) -> _Part:
    """Return the table that is asked for, or else the only one that can be the catalogue."""
    # the headers of images, which FITS_LDAC holds, are no catalogues
    parts = [part for part in parts if part.columns != _LDAC_HEADER] or parts
    listed = ", ".join(map(str, parts))
    if hdu is not None:
        wanted = str(hdu).strip().casefold()
        chosen = [part for part in parts if wanted in (str(part.number), part.name.casefold())]
        if len(chosen) != 1:
            what = "is the name of several tables" if chosen else "is not a table"
            raise UnfitError(f"hdu={hdu!r} {what} of {source}: choose a number of {listed}.")
        return chosen[0]

    # the only table, or the only one with ids, files or positions of objects
    if len(parts) == 1:
        return parts[0]
    chosen = [part for part in parts if part.n_rows and _has_usual_columns(part.columns)]
    if len(chosen) != 1:
        raise UnfitError(
            f"{source} holds several tables, {listed}: choose one, such as hdu={parts[0].number} "
            f"or {str(source) + f'[{parts[0].number}]'!r}."
        )
    warnings.warn(
        f"{source} holds several tables, {listed}: table {chosen[0].number} is read; choose "
        "another with hdu=.",
        UserWarning,
        stacklevel=5,
    )
    return chosen[0]


def _has_usual_columns(names: list[str]) -> bool:
    table = pd.DataFrame(columns=names)
    return any(find_column(table, kind) is not None for kind in USUAL_COLUMN_NAMES)


def from_astropy(table: Table) -> pd.DataFrame:
    """Convert a table to pandas without its columns of arrays, which ``attrs["arrays"]`` names.

    Coordinates become two columns, right ascension and declination of ICRS in degrees; times
    become text, as in "2026-11-30T12:00:00.000".
    """
    for name in table.colnames:
        if isinstance(table[name], Time):
            table[name] = table[name].isot
        if isinstance(table[name], SkyCoord):  # pandas would keep its numbers without its frame
            sky = table[name].icrs
            place = table.colnames.index(name)
            table.add_columns(
                [sky.ra.to("deg"), sky.dec.to("deg")],
                indexes=[place, place],
                names=[f"{name}.ra", f"{name}.dec"],
            )
            table.remove_column(name)
    for name in table.colnames:  # an array of one element is a value
        if table[name].shape[1:] and np.prod(table[name].shape[1:]) == 1:
            table[name] = table[name].reshape(len(table))
    arrays = [name for name in table.colnames if _holds_arrays(table[name])]
    table.remove_columns(arrays)
    table.convert_bytestring_to_unicode()
    frame = table.to_pandas(index=False)
    # astropy before 8.0 would convert masked whole numbers to floats, and lose digits
    for name in table.colnames:
        column = table[name]
        if np.ma.isMA(column) and column.dtype.kind in "iu":
            values = np.ma.filled(column, 0).astype(column.dtype.newbyteorder("="))
            frame[name] = pd.arrays.IntegerArray(values, np.ma.getmaskarray(column))
    units_of = {name: getattr(table[name], "unit", None) for name in table.colnames}
    units = {name: str(unit) for name, unit in units_of.items() if unit}
    frame.attrs = {"units": units, "arrays": arrays}
    return frame


def _holds_arrays(column: Any) -> bool:
    if not hasattr(column, "dtype"):  # places on Earth, durations and the like
        return True
    values = column if str(column.dtype) == "object" else ()
    return column.ndim > 1 or any(isinstance(value, (np.ndarray, list, dict)) for value in values)
