"""Which row of a catalogue belongs to which stamp: by id, by file name, by position on the sky."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from astropy import units as u
from astropy.coordinates import Latitude, Longitude, SkyCoord
from numpy.typing import ArrayLike, NDArray
from pandas.api.types import is_float_dtype, is_numeric_dtype

from skastro.catalogs.columns import find_column
from skastro.utils.files import stem

_HOURS = 24
_LONG_ID = re.compile(r"[1-9][0-9]{15,19}")
_ROUNDINGS = (  # by float64, and by spreadsheets to 15 digits
    lambda name: str(int(float(name))),
    lambda name: name[:15].ljust(len(name), "0"),
)


def sky_positions(ra: ArrayLike, dec: ArrayLike) -> SkyCoord:
    """Read positions on the sky.

    Parameters
    ----------
    ra, dec : array-like, Quantity or Series of shape (n,)
        Numbers, or text of plain numbers, are degrees, unless a Quantity, an astropy Column or
        ``attrs["units"]`` of the Series' table gives numbers another unit; sexagesimal text is
        hours and degrees (``"12:34:56.7"``, ``"12h34m56.7s"``). Masked, NaN and "" are no
        position. Right ascension may run from -180 to 180 or from 0 to 360.

    Returns
    -------
    sky : SkyCoord of shape (n,), ICRS

    Raises
    ------
    ValueError
        A position is out of range or no number; the message names its row. A unit is no angle's.

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


def _degrees(values: Any, name: str, *, hours: bool) -> NDArray[np.float64]:
    factor = _degrees_per_unit(values, name)
    if hasattr(values, "filled"):  # masked
        kind = np.asarray(values).dtype.kind
        values = values.filled("") if kind in "US" else values.astype(np.float64).filled(np.nan)
    column = pd.Series(np.asarray(values).ravel())
    if is_numeric_dtype(column):
        return column.to_numpy(np.float64) * factor
    text = column.astype("str").str.strip().where(column.notna(), "")
    numbers = pd.to_numeric(text, errors="coerce")
    sexagesimal = numbers.isna() & (text != "") & (text.str.lower() != "nan")
    degrees = numbers.to_numpy(np.float64).copy()
    for row in np.flatnonzero(sexagesimal):
        degrees[row] = _sexagesimal(text[row], name, int(row), hours=hours)
    return degrees


def _degrees_per_unit(values: Any, name: str) -> float:
    told = getattr(values, "unit", None)
    if isinstance(values, pd.Series):
        told = values.attrs.get("units", {}).get(values.name)
    text = "" if told is None else str(told).strip().lower()
    if not text or "deg" in text or not is_numeric_dtype(np.asarray(values)):
        return 1.0
    hours = text in ("h", "hr", "hour", "hours")  # of time, says astropy
    unit = u.hourangle if hours else u.Unit(text, parse_strict="silent")
    if not unit.is_equivalent(u.deg):
        raise ValueError(f"{name} has the unit {text!r}, which is no angle's: give degrees.")
    return unit.to(u.deg)


def _sexagesimal(text: str, name: str, row: int, *, hours: bool) -> float:
    unit = u.hourangle if hours and "d" not in text else u.deg
    try:
        if not hours and "h" in text.lower():
            raise ValueError("a declination is not in hours")  # noqa: TRY301 - as astropy would
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
    on : str
        "id", "file" or "sky".
    n_ambiguous : int
        Stamps left unmatched because more than one row, or stamp, claims the match.
    separation : float64 array of shape (m,) or None
        Arcsec, of a match on the sky.
    n_duplicates : int
        Stamps and rows left out because another before them has their id or file name.
    n_blank_stamps, n_blank_rows : int
        Those without an id, file name or position to match by; they are unmatched, too.

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
    on: str
    n_ambiguous: int = 0
    separation: NDArray[np.float64] | None = None
    n_duplicates: int = 0
    n_blank_stamps: int = 0
    n_blank_rows: int = 0

    @property
    def n_unmatched_stamps(self) -> int:
        """Stamps without a row."""
        return self.n_stamps - len(self.stamp_rows)

    @property
    def n_unmatched_rows(self) -> int:
        """Rows without a stamp."""
        return self.n_rows - len(self.catalog_rows)

    def summary(self) -> str:
        """Say in a sentence how many matched, and how many did not.

        Returns
        -------
        sentence : str
        """
        how = {"id": "id", "file": "file name", "sky": "position"}[self.on]
        parts = [f"{len(self.stamp_rows):,} of {self.n_stamps:,} stamps matched by {how}"]
        for number, noun, what in (
            (self.n_duplicates, "duplicate", "left out"),
            (self.n_ambiguous, "stamp", "ambiguous"),
            (self.n_blank_stamps, "stamp", f"without {how}"),
            (self.n_blank_rows, "catalogue row", f"without {how}"),
        ):
            if number:
                parts.append(f"{_are(number, noun)} {what}")
        parts.append(f"{_are(self.n_unmatched_rows, 'catalogue row')} without a stamp")
        return "; ".join(parts) + "."


def _are(number: int, noun: str) -> str:
    return f"{number:,} {noun} is" if number == 1 else f"{number:,} {noun}s are"


def join_catalog(
    catalog: pd.DataFrame,
    stamps: Any,
    *,
    on: str = "id",
    id: str | None = None,  # noqa: A002 - what everybody calls the column
    ra: str | None = None,
    dec: str | None = None,
    radius: float = 1.0,
    duplicates: str = "raise",
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
    duplicates : {"raise", "first"}, default="raise"
        What to do about an id or a file name that several rows, or stamps, have: raise an error,
        or take the first and count the others. On the sky such are ambiguous in any case.

    Returns
    -------
    match : CatalogMatch
        Stamps without a row, and rows without a stamp, are counted there, and so are those with
        nothing to match by. Ids are compared as text, digit by digit: 7 is "7", not "007". On the
        sky a match with a second row, or a second stamp, within the radius is ambiguous and left
        out.

    Raises
    ------
    ValueError
        An id or a file name is there twice; ids have been rounded by a float or a spreadsheet;
        nothing matches on the sky, but would if ``ra`` of one side were in hours; a column is
        missing.

    Examples
    --------
    >>> catalog = pd.DataFrame({"id": [7, 8, 9], "mag_r": [19.0, 20.0, 21.0]})
    >>> match = join_catalog(catalog, ["9", "7", "5"])
    >>> catalog["mag_r"].iloc[match.catalog_rows].tolist(), match.stamp_rows.tolist()
    ([21.0, 19.0], [0, 1])
    >>> match.summary()
    '2 of 3 stamps matched by id; 1 catalogue row is without a stamp.'
    """
    if on == "sky":
        return _match_sky(catalog, stamps, ra, dec, radius)
    if on not in ("id", "file"):
        raise ValueError(f"on={on!r} must be 'id', 'file' or 'sky'.")
    if duplicates not in ("raise", "first"):
        raise ValueError(f"duplicates={duplicates!r} must be 'raise' or 'first'.")
    column = _column(catalog, id, on, "id")
    where = f"catalog column {column!r}"
    theirs, ours = _names(catalog[column], where), _names(stamps, "stamps")
    if on == "file":
        theirs, ours = theirs.map(stem, na_action="ignore"), ours.map(stem, na_action="ignore")
    if duplicates == "raise":
        _check_no_twins(theirs, where, "row")
        _check_no_twins(ours, "stamps", "stamp")
    row_of = {name: row for row, name in theirs.dropna().drop_duplicates().items()}
    once = ours.dropna().drop_duplicates()
    found = once[once.isin(row_of.keys())].map(row_of)
    if any(map(_LONG_ID.fullmatch, once.drop(found.index))):
        _check_not_rounded(set(row_of), set(once), column)
    repeated = theirs.count() - len(row_of) + ours.count() - len(once)
    return CatalogMatch(
        found.index.to_numpy(np.int64),
        found.to_numpy(np.int64),
        len(ours),
        len(theirs),
        on,
        n_duplicates=int(repeated),
        n_blank_stamps=int(ours.isna().sum()),
        n_blank_rows=int(theirs.isna().sum()),
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
    if np.ma.isMA(values):
        plain = np.ma.getdata(values).astype(object)
        plain[np.ma.getmaskarray(values)] = None
        values = plain
    if np.ndim(values) != 1:
        raise ValueError(f"{where} has the shape {np.shape(values)}: pass one id for each row.")
    column = pd.Series(np.asarray(values))
    if is_float_dtype(column) and column.notna().any():
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


def _check_not_rounded(theirs: set[str], ours: set[str], column: str) -> None:
    """Refuse ids that would agree if a float or a spreadsheet had rounded those of one side."""
    for rounded in _ROUNDINGS:
        left: dict[str, set[str]] = {}
        right: dict[str, set[str]] = {}
        for groups, names in ((left, ours), (right, theirs)):
            for name in filter(_LONG_ID.fullmatch, names):
                groups.setdefault(rounded(name), set()).add(name)
        near = sorted(key for key in left.keys() & right if left[key].isdisjoint(right[key]))
        wrong = [key for key in near if {key} in (left[key], right[key])]
        # neighbouring ids are two objects: few of them are the other's rounding by chance
        if wrong and 2 * len(wrong) >= len(near):
            raise ValueError(
                f"stamp id {min(left[wrong[0]])} agrees with {min(right[wrong[0]])} of catalog "
                f"column {column!r} only when rounded, as floats and spreadsheets do: "
                "read both as text."
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
    our_rows, their_rows = (np.flatnonzero(np.isfinite(sky.ra.deg)) for sky in (ours, theirs))
    places = ours[our_rows], theirs[their_rows]
    stamp, row, separation, _ = places[1].search_around_sky(places[0], radius * u.arcsec)
    if not len(stamp):
        _check_not_hours(*places, radius)
    stamp, row = our_rows[stamp], their_rows[row]
    per_stamp = np.bincount(stamp, minlength=len(ours))
    single = np.flatnonzero((per_stamp[stamp] == 1) & (np.bincount(row)[row] == 1))
    single = single[np.argsort(stamp[single])]
    return CatalogMatch(
        stamp[single],
        row[single],
        len(ours),
        len(theirs),
        "sky",
        n_ambiguous=int((per_stamp > 0).sum()) - len(single),
        separation=separation.arcsec[single],
        n_blank_stamps=len(ours) - len(our_rows),
        n_blank_rows=len(theirs) - len(their_rows),
    )


def _check_not_hours(ours: SkyCoord, theirs: SkyCoord, radius: float) -> None:
    """Refuse positions that would match if the right ascensions of one side were hours."""
    for side, other, name in ((ours, theirs, "stamps"), (theirs, ours, "catalog")):
        if len(side) and len(other) and side.ra.deg.max() <= _HOURS:
            as_hours = SkyCoord(15 * side.ra, side.dec)
            if len(other.search_around_sky(as_hours, radius * u.arcsec)[0]):
                raise ValueError(
                    f"ra of {name} is in hours: multiply it by 15, or give its column the unit."
                )


def find_rows(wanted: ArrayLike, ids: ArrayLike, *, name: str) -> NDArray[np.int64]:
    """Return the row of each wanted id, compared as text; -1 where there is none.

    Parameters
    ----------
    wanted : array-like of shape (m,)
    ids : array-like of shape (n,)
        Each only once.
    name : str
        Where the ids stand, for the error's sentence.

    Raises
    ------
    ValueError
        An id is there twice.

    Examples
    --------
    >>> find_rows([7, 8, 9], ["9", "7"], name="labels.csv").tolist()
    [1, -1, 0]
    """
    index = pd.Index(_as_text(ids))
    if not index.is_unique:
        twice = index[index.duplicated()][0]
        raise ValueError(f"{name} has the id {twice!r} more than once: keep one row an object.")
    return index.get_indexer(_as_text(wanted)).astype(np.int64)


def _as_text(ids: ArrayLike) -> NDArray[Any]:
    return np.asarray(ids).astype(str).astype(object)
