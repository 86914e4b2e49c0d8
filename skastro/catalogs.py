"""Catalogues from disk: every digit of an id, NaN where nothing was measured, rows that match."""

from __future__ import annotations

import difflib
import os
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from astropy import units as u
from astropy.coordinates import Latitude, Longitude, SkyCoord
from astropy.io import fits
from astropy.table import Table
from astropy.utils.exceptions import AstropyWarning
from numpy.typing import ArrayLike, NDArray

from skastro._validation import find_sentinels
from skastro.readers import stem

_FORMATS = {
    ".csv": None,
    ".parquet": None,
    ".fits": "fits",
    ".fit": "fits",
    ".fits.gz": "fits",
    ".ecsv": "ascii.ecsv",
    ".vot": "votable",
    ".votable": "votable",
    ".xml": "votable",
}
_COLUMNS = {  # usual names of what locates an object, in lower case, the best first
    "id": ("id", "objid", "source_id", "object_id"),
    "file": ("file", "filename", "path"),
    "ra": ("ra", "raj2000", "ra_icrs", "alpha_j2000", "ramean", "_raj2000"),
    "dec": ("dec", "dej2000", "decj2000", "de_icrs", "delta_j2000", "decmean", "_dej2000"),
    "x": ("x", "x_image", "xcentroid"),
    "y": ("y", "y_image", "ycentroid"),
}
_PLACEHOLDER_ROWS = 10
_FLOAT_DIGITS = 2**53  # whole numbers beyond it are rounded by float64


def read_catalog(
    path: str | os.PathLike[str],
    *,
    id: str | None = None,  # noqa: A002 - what everybody calls the column
    columns: str | Sequence[str] | None = None,
    units: bool = True,
    placeholders: bool = False,
) -> pd.DataFrame:
    r"""Read a catalogue from a FITS, VOTable, ECSV, CSV or Parquet file.

    Parameters
    ----------
    path : str or path-like
        ``.fits`` (also ``.fits.gz``), ``.vot``, ``.votable``, ``.xml``, ``.ecsv``, ``.csv`` or
        ``.parquet``.
    id : str, default=None
        The column that names the objects. None: columns named ``id`` or ending in ``objid`` or
        ``_id``, whatever the case.
    columns : str or sequence of str, default=None
        Columns to take, or patterns such as ``"mag_*"``; ids are always taken. None takes all.
    units : bool, default=True
        Keep the units of FITS, VOTable and ECSV columns in ``catalog.attrs["units"]``.
    placeholders : bool, default=False
        Read as missing, too, what `find_placeholders` finds in columns of floats: pipelines fill
        failed measurements with one number. Whole numbers are never taken for such.

    Returns
    -------
    catalog : DataFrame
        Masked values are NaN, numbers are in the machine's byte order. The sentinels 99, -99, 999,
        -999 and -9999 are NaN in columns of floats, except positions (``ra``, ``dec``, ``x``,
        ``y`` and their like), and one warning counts them; in columns of whole numbers they may
        be what they say and are left. Ids are int64 if no value is missing, has more than 15
        digits or a leading zero, else text: never float, which cannot hold the 19 digits of SDSS.

    Raises
    ------
    FileNotFoundError
        There is no such file.
    ValueError
        The file is damaged, empty or of an unknown kind, has two columns of one name, arrays in
        a column, or floats as ids; a pattern or ``id`` names no column.
    ImportError
        The file is Parquet and pyarrow is not installed.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     file = Path(folder, "catalog.csv")
    ...     _ = file.write_text("id,mag_r\n1237648720693755918,17.5\n7,\n")
    ...     catalog = read_catalog(file)
    >>> catalog["id"].tolist(), catalog["mag_r"].tolist()
    (['1237648720693755918', '7'], [17.5, nan])
    """
    source = Path(path).expanduser()
    frame = _read_frame(source, id)
    if not len(frame):
        raise ValueError(f"{source} has no row: pass a catalogue with at least one.")
    if id is not None and id not in frame.columns:
        raise ValueError(f"id={id!r} is no column of {source}{_near(id, frame.columns)}")
    attributes = frame.attrs if units else {}
    if columns is not None:
        frame = frame[_select(frame.columns, columns, id, source)].copy()
    frame = _settle_ids(_plain_numbers(frame, id), id, source)
    frame = _without_sentinels(frame, id, source, placeholders=placeholders)
    frame.attrs = {}
    if attributes.get("units"):
        frame.attrs["units"] = {k: v for k, v in attributes["units"].items() if k in frame.columns}
    return frame


def _is_id(column: str, id: str | None) -> bool:  # noqa: A002
    if id is not None:
        return column == id or column.lower().endswith("objid")
    name = column.lower()
    return name == "id" or name.endswith(("objid", "_id"))


def _read_frame(source: Path, id: str | None) -> pd.DataFrame:  # noqa: A002
    name = source.name.lower()
    ending = next((e for e in sorted(_FORMATS, key=len)[::-1] if name.endswith(e)), None)
    if ending is None:
        raise ValueError(f"{source} is no catalogue: use one of {', '.join(_FORMATS)}.")
    if not source.is_file():
        raise FileNotFoundError(f"{source} does not exist: pass the path of a catalogue.")
    try:
        if ending == ".csv":
            return _read_csv(source, id)
        if ending == ".parquet":
            return pd.read_parquet(source, dtype_backend="numpy_nullable")
        return _read_table(source, _FORMATS[ending])
    except _UnfitError:
        raise
    except ImportError as error:
        raise ImportError(f"Reading {source} needs pyarrow: pip install 'skastro[data]'") from error
    except Exception as error:  # parsers raise many kinds
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
        raise ValueError(
            f"{source} cannot be read as a {ending} catalogue ({reason}): save or copy it again."
        ) from error


class _UnfitError(ValueError):
    """A file that can be read, but is no catalogue; its sentence is complete."""


def _read_csv(source: Path, id: str | None) -> pd.DataFrame:  # noqa: A002
    names = pd.read_csv(source, nrows=0, header=None).columns
    header = [str(name) for name in pd.read_csv(source, nrows=1, header=None, dtype=str).iloc[0]]
    _check_unique(header, source)
    ids = [name for name in header if _is_id(name, id)]
    frame = pd.read_csv(source, dtype=dict.fromkeys(ids, str))
    if not isinstance(frame.index, pd.RangeIndex) or len(frame.columns) != len(names):
        raise _UnfitError(f"{source} has rows of more values than its header: mend them.")
    return frame


def _check_unique(names: Sequence[str], source: Path) -> None:
    twice = {name for name in names if list(names).count(name) > 1}
    if twice:
        raise _UnfitError(f"{source} has two columns named {min(twice)!r}: rename one of them.")


def _read_table(source: Path, kind: str | None) -> pd.DataFrame:
    with source.open("rb") as file, warnings.catch_warnings():
        warnings.simplefilter("ignore", AstropyWarning)
        _check_complete(source, kind)
        options = {"character_as_bytes": False} if kind == "fits" else {}
        table = Table.read(file if kind == "fits" else source, format=kind, **options)
    table.convert_bytestring_to_unicode()
    arrays = [name for name in table.colnames if len(table[name].shape) > 1]
    if arrays:
        raise _UnfitError(
            f"{source} has arrays in the columns {', '.join(arrays)}: "
            "save each of their elements as a column of its own."
        )
    frame = table.to_pandas(index=False)
    frame.attrs["units"] = {c: str(table[c].unit) for c in table.colnames if table[c].unit}
    return frame


def _check_complete(source: Path, kind: str | None) -> None:
    """Refuse a FITS file that is cut: astropy would read what is there."""
    if kind != "fits" or source.suffix == ".gz":
        return
    with source.open("rb") as file, fits.open(file) as hdus:
        for hdu in hdus:
            place = hdu.fileinfo()
            if source.stat().st_size < place["datLoc"] + hdu.size:
                raise fits.VerifyError("it is truncated")


def _select(
    names: Sequence[str],
    patterns: str | Sequence[str],
    id: str | None,  # noqa: A002
    source: Path,
) -> list[str]:
    wanted = [patterns] if isinstance(patterns, str) else list(patterns)
    for pattern in wanted:
        if not any(fnmatchcase(name, pattern) for name in names):
            raise ValueError(f"columns={pattern!r} is no column of {source}{_near(pattern, names)}")
    return [
        name
        for name in names
        if _is_id(name, id) or any(fnmatchcase(name, pattern) for pattern in wanted)
    ]


def _near(wanted: str, names: Sequence[str]) -> str:
    """Name columns like the wanted one, as the end of a sentence."""
    near = difflib.get_close_matches(wanted.replace("*", "").lower(), names, n=3, cutoff=0.5)
    return f": did you mean {' or '.join(near)}?" if near else f": choose from {', '.join(names)}."


def _plain_numbers(frame: pd.DataFrame, id: str | None) -> pd.DataFrame:  # noqa: A002
    """Turn pandas' nullable numbers, which numpy sees as objects, into plain ones."""
    for name in frame.columns:
        dtype = frame[name].dtype
        nullable = isinstance(dtype, pd.api.extensions.ExtensionDtype)
        if nullable and pd.api.types.is_numeric_dtype(dtype) and not _is_id(name, id):
            gaps = frame[name].isna().any()
            plain = np.dtype(np.float64) if gaps else dtype.numpy_dtype
            frame[name] = frame[name].to_numpy(plain, na_value=np.nan if gaps else None)
    return frame


def _settle_ids(frame: pd.DataFrame, id: str | None, source: Path) -> pd.DataFrame:  # noqa: A002
    """Make every id column int64 where that loses nothing, else text; never float."""
    for name in [name for name in frame.columns if _is_id(name, id)]:
        if pd.api.types.is_float_dtype(frame[name].dtype):
            raise ValueError(
                f"The column {name!r} of {source} is float, which cannot hold long ids: "
                "save it as integers or text."
            )
        text = frame[name].astype("str").str.strip().where(frame[name].notna())
        plain = text.str.fullmatch(r"0|-?[1-9]\d{0,14}")
        whole = not frame[name].isna().any() and bool(plain.all())
        frame[name] = text.astype(np.int64) if whole else text
    return frame


def _without_sentinels(
    frame: pd.DataFrame,
    id: str | None,  # noqa: A002
    source: Path,
    *,
    placeholders: bool,
) -> pd.DataFrame:
    """Set what stands for "not measured" to NaN, and tell of it once."""
    places = {name for kind in ("ra", "dec", "x", "y") for name in _COLUMNS[kind]}
    told = []
    for name in frame.columns:
        values = frame[name]
        measured = pd.api.types.is_float_dtype(values) and name.lower() not in places
        if not measured or _is_id(name, id):
            continue
        empty = find_sentinels(values)
        if placeholders:
            empty |= values.isin(find_placeholders(values[~empty]))
        if count := int(empty.sum()):
            frame[name] = values.mask(empty)
            told.append(f"{name} {count:,}")
    if told:
        what = "sentinels and placeholders" if placeholders else "sentinels such as -999"
        warnings.warn(
            f"{what.capitalize()} in {source} are read as missing: {', '.join(told)}.",
            UserWarning,
            stacklevel=3,
        )
    return frame


def find_placeholders(values: pd.Series) -> dict[float, int]:
    """Find fractional values that come back far too often in a column of measurements.

    Returns
    -------
    counts : dict of float to int
        Values that are there at least 10 times, and 5 times as often as 95 % of the others, in a
        column most of whose values are unique; the most frequent first.

    Examples
    --------
    >>> find_placeholders(pd.Series([27.434] * 12 + [20.5, 21.5, 19.25] + list(range(30))))
    {27.434: 12}
    """
    counts = values.value_counts()
    if len(counts) <= counts.sum() / 2:  # rounded so coarsely that values do repeat
        return {}
    limit = max(_PLACEHOLDER_ROWS, 5 * counts.quantile(0.95))
    return {value: int(n) for value, n in counts[counts >= limit].items() if value % 1}


def find_column(catalog: pd.DataFrame, kind: str) -> str | None:
    """Find the column of ids, files or positions by its usual names.

    Parameters
    ----------
    catalog : DataFrame
    kind : {"id", "file", "ra", "dec", "x", "y"}

    Returns
    -------
    column : str or None

    Examples
    --------
    >>> find_column(pd.DataFrame({"RAJ2000": [1.0]}), "ra")
    'RAJ2000'
    """
    names = {str(name).lower(): name for name in catalog.columns}
    return next((names[name] for name in _COLUMNS[kind] if name in names), None)


def sky_positions(ra: ArrayLike, dec: ArrayLike) -> SkyCoord:
    """Read positions on the sky.

    Parameters
    ----------
    ra, dec : array-like of shape (n,)
        Numbers, or text of plain numbers, are degrees; sexagesimal text is hours and degrees
        (``"12:34:56.7"``, ``"12h34m56.7s"``). NaN and "" are no position. Right ascension may run
        from -180 to 180 or from 0 to 360.

    Returns
    -------
    sky : SkyCoord of shape (n,), ICRS

    Raises
    ------
    ValueError
        A position is out of range or no number; the message names its row.

    Examples
    --------
    >>> sky_positions(["00:42:44.3"], ["+41:16:09"]).ra.deg.round(3)
    array([10.685])
    """
    east, north = _degrees(ra, "ra", hours=True), _degrees(dec, "dec", hours=False)
    if east.shape != north.shape:
        raise ValueError(f"ra has {len(east)} values and dec has {len(north)}: pass pairs.")
    for name, values, low, high in (("ra", east, -180, 360), ("dec", north, -90, 90)):
        bad = (values < low) | (values > high)
        if bad.any():
            row = int(bad.argmax())
            raise ValueError(
                f"{name} is {values[row]:g} in row {row}, outside {low} to {high} degrees: "
                "correct it, or set it to NaN."
            )
    nowhere = np.isnan(east) | np.isnan(north)
    east, north = (np.where(nowhere, np.nan, values) for values in (east, north))
    return SkyCoord(Longitude(east, u.deg), Latitude(north, u.deg))


def _degrees(values: ArrayLike, name: str, *, hours: bool) -> NDArray[np.float64]:
    column = pd.Series(np.asarray(values).ravel())
    if pd.api.types.is_numeric_dtype(column):
        degrees = column.to_numpy(np.float64)
        return np.where(np.isfinite(degrees), degrees, np.nan)
    text = column.astype("str").str.strip().where(column.notna(), "")
    numbers = pd.to_numeric(text, errors="coerce")
    sexagesimal = numbers.isna() & (text != "") & (text.str.lower() != "nan")
    degrees = numbers.to_numpy(np.float64).copy()
    for row in np.flatnonzero(sexagesimal):
        degrees[row] = _sexagesimal(text[row], name, row, hours=hours)
    return degrees


def _sexagesimal(text: str, name: str, row: int, *, hours: bool) -> float:
    unit = u.hourangle if hours and "d" not in text else u.deg
    try:
        return (Longitude if hours else Latitude)(text, unit).deg
    except Exception as error:  # astropy's parsers raise many kinds
        raise ValueError(
            f"{name} is {text!r} in row {row}, which is no angle: write degrees as a number, or "
            f"{'hours' if hours else 'degrees'} such as 12:34:56.7."
        ) from error


@dataclass(frozen=True)
class CatalogMatch:
    """Which row of a catalogue belongs to which stamp.

    Parameters
    ----------
    stamp_rows, catalog_rows : int64 arrays of shape (m,)
        Pairs, in the order of the stamps.
    n_stamps, n_rows : int
        How many there were on either side.
    n_ambiguous : int
        Stamps left unmatched because more than one row, or stamp, claims the match.
    on : str
        "id", "file" or "sky".
    separation : float64 array of shape (m,) or None
        Arcsec, of a match on the sky.

    Examples
    --------
    >>> match = join_catalog(pd.DataFrame({"id": [7, 8, 9]}), ["9", "5"])
    >>> match.stamp_rows, match.catalog_rows, match.n_unmatched_stamps, match.n_unmatched_rows
    (array([0]), array([2]), 1, 2)
    """

    stamp_rows: NDArray[np.int64]
    catalog_rows: NDArray[np.int64]
    n_stamps: int
    n_rows: int
    n_ambiguous: int
    on: str
    separation: NDArray[np.float64] | None

    @property
    def n_unmatched_stamps(self) -> int:
        """Stamps without a row."""
        return self.n_stamps - len(self.stamp_rows)

    @property
    def n_unmatched_rows(self) -> int:
        """Rows without a stamp."""
        return self.n_rows - len(self.catalog_rows)

    def summary(self) -> str:
        """Say in a sentence how many matched, and how many did not."""
        how = {"id": "id", "file": "file name", "sky": "position"}[self.on]
        parts = [f"{len(self.stamp_rows):,} of {self.n_stamps:,} stamps matched by {how}"]
        if self.n_ambiguous:
            parts.append(f"{self.n_ambiguous:,} are ambiguous")
        parts.append(f"{self.n_unmatched_rows:,} catalogue rows are without a stamp")
        return "; ".join(parts) + "."


def join_catalog(
    catalog: pd.DataFrame,
    stamps: Any,
    *,
    on: str = "id",
    id: str | None = None,  # noqa: A002 - what everybody calls the column
    ra: str | None = None,
    dec: str | None = None,
    radius: float = 1.0,
) -> CatalogMatch:
    """Find the catalogue row of each stamp; never a doubtful one.

    Parameters
    ----------
    catalog : DataFrame of n rows
    stamps : array-like of shape (k,), or tuple (ra, dec)
        What identifies each stamp: its id, its file name (with or without folder and ending), or
        for ``on="sky"`` a pair of arrays of positions (see `sky_positions`).
    on : {"id", "file", "sky"}, default="id"
    id : str, default=None
        Column of ids (``on="id"``) or file names (``on="file"``); None finds it by its usual names.
    ra, dec : str, default=None
        Columns of positions; None finds them by their usual names.
    radius : float, default=1.0
        Greatest separation of a match on the sky, in arcsec.

    Returns
    -------
    match : CatalogMatch
        Stamps without a row, and rows without a stamp, are counted there. Ids are compared as
        text, digit by digit. On the sky a match with a second row, or a second stamp, within the
        radius is ambiguous and left out.

    Raises
    ------
    ValueError
        An id or a file name is there twice; ids have been rounded by a float; a column is missing.

    Examples
    --------
    >>> catalog = pd.DataFrame({"id": [7, 8, 9], "mag_r": [19.0, 20.0, 21.0]})
    >>> match = join_catalog(catalog, ["9", "7", "5"])
    >>> catalog["mag_r"].iloc[match.catalog_rows].tolist(), match.stamp_rows.tolist()
    ([21.0, 19.0], [0, 1])
    >>> match.summary()
    '2 of 3 stamps matched by id; 1 catalogue rows are without a stamp.'
    """
    if on == "sky":
        return _match_sky(catalog, stamps, ra, dec, radius)
    if on not in ("id", "file"):
        raise ValueError(f"on={on!r} must be 'id', 'file' or 'sky'.")
    column = _column(catalog, id, on, "id")
    theirs, ours = _names(catalog[column], f"catalog column {column!r}"), _names(stamps, "stamps")
    if on == "file":
        theirs, ours = theirs.map(stem, na_action="ignore"), ours.map(stem, na_action="ignore")
    _check_no_twins(theirs, f"catalog column {column!r}", "row")
    _check_no_twins(ours, "stamps", "stamp")
    rows = pd.Series(np.arange(len(theirs)), index=theirs)[theirs.notna().to_numpy()]
    found = rows.reindex(ours)
    matched = np.flatnonzero(found.notna() & ours.notna().to_numpy())
    _check_not_rounded(theirs, ours, set(matched), column)
    return CatalogMatch(
        matched.astype(np.int64),
        found.iloc[matched].to_numpy(np.int64),
        len(ours),
        len(theirs),
        0,
        on,
        None,
    )


def _column(catalog: pd.DataFrame, name: str | None, kind: str, argument: str) -> str:
    found = name or find_column(catalog, kind)
    if found is None or found not in catalog.columns:
        what = repr(name) if name else f"of {kind}s"
        raise ValueError(
            f"catalog has no column {what}: name it with {argument}= "
            f"(it has {', '.join(map(str, catalog.columns))})."
        )
    return found


def _names(values: ArrayLike, where: str) -> pd.Series:
    """Return ids as text; NaN where there is none."""
    column = pd.Series(np.asarray(values)).reset_index(drop=True)
    if pd.api.types.is_float_dtype(column) and column.notna().any():
        raise ValueError(f"{where} holds ids as floats, which lose digits: read them as text.")
    text = column.astype("str").str.strip().astype(object)
    return text.where(column.notna() & (text != ""), None)


def _check_no_twins(names: pd.Series, where: str, each: str) -> None:
    known = names.dropna()
    twins = known[known.duplicated(keep=False)]
    if len(twins):
        first = twins.iloc[0]
        rows = twins.index[twins == first].tolist()
        raise ValueError(
            f"{where} has {first!r} more than once ({each}s {', '.join(map(str, rows[:5]))}; "
            f"{len(set(twins)):,} such ids): keep one of each."
        )


def _check_not_rounded(theirs: pd.Series, ours: pd.Series, matched: set[int], column: str) -> None:
    """Refuse ids that agree only when they are rounded to floats, as spreadsheets do."""
    long = [name for name in theirs.dropna() if name.isdigit() and int(name) > _FLOAT_DIGITS]
    if not long:
        return
    by_float: dict[float, list[str]] = {}
    for name in long:
        by_float.setdefault(float(name), []).append(name)
    for row, name in ours.dropna().items():
        if row in matched or not name.isdigit():
            continue
        for near in by_float.get(float(name), []):
            # neighbouring ids are two objects, unless one of them is the other's rounding
            if int(float(name)) in (int(name), int(near)):
                raise ValueError(
                    f"stamp {row} has the id {name}, which agrees with {near} of catalog column "
                    f"{column!r} only when rounded to a float: read both sides as text."
                )


def _match_sky(
    catalog: pd.DataFrame, stamps: Any, ra: str | None, dec: str | None, radius: float
) -> CatalogMatch:
    if not radius > 0:
        raise ValueError(f"radius={radius!r} must be positive, in arcsec.")
    if not isinstance(stamps, (tuple, list)) or len(stamps) != 2:
        raise ValueError("stamps must be a pair (ra, dec) of arrays with on='sky'.")
    names = [_column(catalog, name, kind, kind) for name, kind in ((ra, "ra"), (dec, "dec"))]
    theirs, ours = sky_positions(*(catalog[name] for name in names)), sky_positions(*stamps)
    their_rows, our_rows = (np.flatnonzero(np.isfinite(sky.ra.deg)) for sky in (theirs, ours))
    pairs = np.zeros((0, 2), np.int64)
    if len(their_rows) and len(our_rows):
        stamp, row, _, _ = theirs[their_rows].search_around_sky(ours[our_rows], radius * u.arcsec)
        pairs = np.column_stack([our_rows[stamp], their_rows[row]])
    per_stamp = np.bincount(pairs[:, 0], minlength=len(ours))
    per_row = np.bincount(pairs[:, 1], minlength=len(theirs))
    single = (per_stamp[pairs[:, 0]] == 1) & (per_row[pairs[:, 1]] == 1)
    ambiguous = len(np.unique(pairs[~single, 0]))
    stamp_rows, catalog_rows = pairs[single][np.argsort(pairs[single][:, 0])].T
    separation = np.zeros(0)
    if len(stamp_rows):
        nearest, separation, _ = ours[stamp_rows].match_to_catalog_sky(theirs[catalog_rows])
        catalog_rows, separation = catalog_rows[nearest], separation.arcsec
    return CatalogMatch(
        stamp_rows, catalog_rows, len(ours), len(theirs), ambiguous, "sky", separation
    )
