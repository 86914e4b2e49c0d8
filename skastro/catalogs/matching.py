"""Match stamps to rows of a catalogue by id, by file name or by position on the sky."""

from __future__ import annotations

import re
import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from astropy import units as u
from astropy.coordinates import SkyCoord
from numpy.typing import ArrayLike, NDArray

from skastro.catalogs.columns import are_whole, require_column
from skastro.catalogs.positions import find_positions, sky_positions
from skastro.utils.files import stem
from skastro.utils.tables import as_frame
from skastro.utils.validation import as_column, plain_value

_MAX_HOURS = 24  # of right ascension
_LONG_ID = re.compile(r"[1-9][0-9]{15,19}")
_ROUNDINGS = (  # what other programs make of a long id
    lambda long_id: str(int(float(long_id))),  # float64
    lambda long_id: long_id[:15].ljust(len(long_id), "0"),  # spreadsheets keep 15 digits
)


@dataclass(frozen=True, repr=False)
class CatalogMatch:
    """Pairs of stamps and rows of a catalogue that belong together.

    Parameters
    ----------
    stamp_rows, catalog_rows : int64 arrays of shape (m,)
        Rows of the stamp and of the catalogue of each pair, in the order of the stamps.
    n_stamps, n_rows : int
        Number of all stamps, and of all rows of the catalogue.
    on : str
        How they were matched: "id", "file" or "sky".
    n_ambiguous : int
        Stamps left unmatched because several rows match them, or their row matches several stamps.
    separation : float64 array of shape (m,) or None
        Distance of each pair on the sky in arcsec; None if not matched by position.
    n_duplicates : int
        Stamps and rows left out because an earlier one has the same id or file name.
    n_blank_stamps, n_blank_rows : int
        Stamps and rows without an id, file name or position. They count as unmatched too.

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
        """Describe in a sentence how many stamps and rows are matched, and how many are not.

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
            (self.n_unmatched_rows, "catalogue row", "without a stamp"),
        ):
            if number or what == "without a stamp":
                parts.append(f"{number:,} {noun}{' is' if number == 1 else 's are'} {what}")
        return "; ".join(parts) + "."

    def __repr__(self) -> str:
        return f"CatalogMatch: {self.summary()}"


def join_catalog(
    catalog: pd.DataFrame,
    stamps: Any,
    *,
    on: str = "id",
    id: str | None = None,  # noqa: A002 - the usual name of the column
    ra: str | None = None,
    dec: str | None = None,
    radius: float = 1.0,
    duplicates: str = "raise",
) -> CatalogMatch:
    """Find the catalogue row of each stamp, and leave out doubtful matches.

    Parameters
    ----------
    catalog : DataFrame of n rows
    stamps : array-like of shape (k,), or tuple (ra, dec)
        The id of each stamp, its file name (with or without folder and ending), or with
        ``on="sky"`` a pair of arrays of positions (see `sky_positions`).
    on : {"id", "file", "sky"}, default="id"
    id : str, default=None
        Column of ids, also of file names with ``on="file"``. With None it is found by its usual
        names.
    ra, dec : str, default=None
        Columns of positions. With None they are found by their usual names.
    radius : float, default=1.0
        Greatest separation of a match on the sky, in arcsec.
    duplicates : {"raise", "first"}, default="raise"
        What to do if several rows, or several stamps, have the same id or file name: raise an
        error, or take the first and count the others. Has no effect with ``on="sky"``.

    Returns
    -------
    match : CatalogMatch
        It also counts stamps without a row, rows without a stamp, and those without an id, file
        name or position. Ids are compared as text, digit by digit: 7 equals "7". "007" equals 7
        only where neither has a match of its own and no other id agrees with them without leading
        zeros; a warning counts such matches. A match on the sky is ambiguous, and left out, if
        there is a second row or a second stamp within the radius.

    Raises
    ------
    ValueError
        An id or a file name occurs twice; ids are floats that are fractions or above 2**53, which
        lose digits, or have been rounded by a float or a spreadsheet; nothing matches on the sky
        because one of the two ``ra`` is in hours; a column is missing.

    Examples
    --------
    >>> catalog = pd.DataFrame({"id": [7, 8, 9], "mag_r": [19.0, 20.0, 21.0]})
    >>> match = join_catalog(catalog, ["9", "7", "5"])
    >>> catalog["mag_r"].iloc[match.catalog_rows].tolist(), match.stamp_rows.tolist()
    ([21.0, 19.0], [0, 1])
    >>> match.summary()
    '2 of 3 stamps matched by id; 1 catalogue row is without a stamp.'
    """
    catalog = as_frame(catalog, "catalog")
    if on == "sky":
        return _match_sky(catalog, stamps, ra, dec, radius)
    if on not in ("id", "file"):
        raise ValueError(f"on={on!r} must be 'id', 'file' or 'sky'.")
    if duplicates not in ("raise", "first"):
        raise ValueError(f"duplicates={duplicates!r} must be 'raise' or 'first'.")
    column = require_column(catalog, id, on, "id")
    where = f"catalog column {column!r}"
    row_names, stamp_names = _read_names(catalog[column], where), _read_names(stamps, "stamps")
    if on == "file":
        row_names, stamp_names = (
            names.map(stem, na_action="ignore") for names in (row_names, stamp_names)
        )
    if duplicates == "raise":
        _refuse_duplicates(row_names, where, "row")
        _refuse_duplicates(stamp_names, "stamps", "stamp")

    # the first row and the first stamp of each name
    row_of = {name: row for row, name in row_names.dropna().drop_duplicates().items()}
    distinct = stamp_names.dropna().drop_duplicates()
    matched = _match_names(distinct, row_of, where)
    matches = distinct[distinct.isin(matched.keys())].map(matched)
    if any(map(_LONG_ID.fullmatch, distinct.drop(matches.index))):  # unmatched long ids
        _refuse_rounded_ids(set(distinct), set(row_of), column)
    n_repeated = row_names.count() - len(row_of) + stamp_names.count() - len(distinct)
    return CatalogMatch(
        matches.index.to_numpy(np.int64),
        matches.to_numpy(np.int64),
        len(stamp_names),
        len(row_names),
        on,
        n_duplicates=int(n_repeated),
        n_blank_stamps=int(stamp_names.isna().sum()),
        n_blank_rows=int(row_names.isna().sum()),
    )


def _read_names(values: ArrayLike, where: str) -> pd.Series:
    """Return ids or file names as text, and missing ones as None."""
    if np.ndim(values) != 1:
        raise ValueError(f"{where} has the shape {np.shape(values)}: pass one id for each row.")
    column = as_column(values)
    names = [plain_value(value) for value in column.tolist()]
    floats = [name for name in names if isinstance(name, float)]
    if not are_whole(floats, column.dtype if column.dtype.kind == "f" else np.float64):
        raise ValueError(f"{where} holds ids as floats, which lose digits: read them as text.")
    names = [int(name) if isinstance(name, float) else name for name in names]
    return pd.Series([None if name is None else str(name) for name in names], dtype=object)


def _match_names(wanted: pd.Series, row_of: dict[str, int], where: str) -> dict[str, int]:
    """Return the row of each wanted name that is among the names of rows.

    Names that agree but for leading zeros, such as "00098" and "98", match with a warning if
    neither has a match of its own, and if no other name agrees with them in this way.
    """
    exact = {name: row_of[name] for name in wanted if name in row_of}
    by_number: list[dict[str, list[str]]] = [{}, {}]
    for names, side in zip((wanted, row_of), by_number, strict=True):
        for name in names:
            if name.isdecimal():
                side.setdefault(name.lstrip("0"), []).append(name)
    partner = {
        names[0]: by_number[1][number][0]
        for number, names in by_number[0].items()
        if len(names) == len(by_number[1].get(number, ())) == 1 and names[0] not in exact
    }
    if partner:
        first = next(iter(partner))
        warnings.warn(
            f"Ids match {where} only without their leading zeros ({len(partner):,}, such as "
            f"{first!r} and {partner[first]!r}): write them alike, or rename those that differ.",
            UserWarning,
            stacklevel=3,
        )
    return exact | {name: row_of[other] for name, other in partner.items()}


def _refuse_duplicates(names: pd.Series, where: str, noun: str) -> None:
    repeated = names[names.notna() & names.duplicated(keep=False)]
    if len(repeated):
        first = repeated.iloc[0]
        rows = repeated.index[repeated == first].tolist()
        raise ValueError(
            f"{where} has {first!r} more than once ({noun}s {', '.join(map(str, rows[:5]))}; "
            f"{len(set(repeated)):,} such ids): keep one of each."
        )


def _refuse_rounded_ids(stamp_ids: set[str], row_ids: set[str], column: str) -> None:
    """Refuse ids that do not match because a float or a spreadsheet has rounded one of the two."""
    for rounded in _ROUNDINGS:
        # long ids of stamps and of rows by their rounded value
        stamps: dict[str, set[str]] = {}
        rows: dict[str, set[str]] = {}
        for by_rounded, ids in ((stamps, stamp_ids), (rows, row_ids)):
            for long_id in filter(_LONG_ID.fullmatch, ids):
                by_rounded.setdefault(rounded(long_id), set()).add(long_id)
        near = sorted(key for key in stamps.keys() & rows if stamps[key].isdisjoint(rows[key]))
        wrong = [key for key in near if {key} in (stamps[key], rows[key])]
        # ids of neighbouring objects rarely equal each other's rounded value
        if wrong and 2 * len(wrong) >= len(near):
            raise ValueError(
                f"stamp id {min(stamps[wrong[0]])} agrees with {min(rows[wrong[0]])} of catalog "
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
    sky_of_stamps, sky_of_rows = sky_positions(*stamps), find_positions(catalog, ra, dec)

    # all pairs within the radius, among the stamps and rows that have a position
    placed_stamps, placed_rows = (
        np.flatnonzero(np.isfinite(sky.ra.deg)) for sky in (sky_of_stamps, sky_of_rows)
    )
    sides = sky_of_stamps[placed_stamps], sky_of_rows[placed_rows]
    stamp, row, separation, _ = sides[1].search_around_sky(sides[0], radius * u.arcsec)
    if not len(stamp):
        _refuse_hours(*sides, radius)
    stamp, row = placed_stamps[stamp], placed_rows[row]

    # pairs whose stamp and row have no other candidate
    per_stamp = np.bincount(stamp, minlength=len(sky_of_stamps))
    single = np.flatnonzero((per_stamp[stamp] == 1) & (np.bincount(row)[row] == 1))
    single = single[np.argsort(stamp[single])]
    return CatalogMatch(
        stamp[single],
        row[single],
        len(sky_of_stamps),
        len(sky_of_rows),
        "sky",
        n_ambiguous=int((per_stamp > 0).sum()) - len(single),
        separation=separation.arcsec[single],
        n_blank_stamps=len(sky_of_stamps) - len(placed_stamps),
        n_blank_rows=len(sky_of_rows) - len(placed_rows),
    )


def _refuse_hours(stamps: SkyCoord, rows: SkyCoord, radius: float) -> None:
    """Refuse positions that do not match because the right ascensions of one table are in hours."""
    for side, other, name in ((stamps, rows, "stamps"), (rows, stamps, "catalog")):
        if len(side) and len(other) and side.ra.deg.max() <= _MAX_HOURS:
            as_hours = SkyCoord(15 * side.ra, side.dec)
            if len(other.search_around_sky(as_hours, radius * u.arcsec)[0]):
                raise ValueError(
                    f"ra of {name} is in hours: multiply it by 15, or give its column the unit."
                )


def find_rows(wanted: ArrayLike, ids: ArrayLike, *, name: str) -> NDArray[np.int64]:
    """Return the row of each wanted id among ``ids``, compared as text; -1 for an absent id.

    White space around ids does not count; for leading zeros see `join_catalog`. Two rows with the
    same id are a ValueError. Its message uses ``name`` for the table of ``ids``.

    Examples
    --------
    >>> find_rows([7, 8, 9], ["9", "7"], name="labels.csv").tolist()
    [1, -1, 0]
    """
    wanted_names, names = _read_names(wanted, "ids"), _read_names(ids, name).dropna()
    if len(twice := names[names.duplicated()]):
        raise ValueError(f"{name} has the id {twice.iloc[0]!r} more than once: keep one row each.")
    row_of = {text: row for row, text in names.items()}
    matched = _match_names(wanted_names.dropna().drop_duplicates(), row_of, name)
    return np.array([matched.get(text, -1) for text in wanted_names], dtype=np.int64)
