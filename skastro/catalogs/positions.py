"""Read positions on the sky from the columns of a catalogue."""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import quote

import numpy as np
import pandas as pd
from astropy import units as u
from astropy.coordinates import (
    FK4,
    BarycentricMeanEcliptic,
    Galactic,
    Latitude,
    Longitude,
    SkyCoord,
)
from numpy.typing import ArrayLike, NDArray
from pandas.api.types import is_numeric_dtype

from skastro.catalogs.columns import find_column, require_column

# names, in lower case, of longitudes and latitudes that are not of ICRS or J2000
_SYSTEMS = {
    "galactic": (
        re.compile(r"(.*\.)?l|_?glon|gal(actic)?_?(l|lon|longitude)"),
        re.compile(r"(.*\.)?b|_?glat|gal(actic)?_?(b|lat|latitude)"),
    ),
    "ecliptic": (
        re.compile(r"_?elon(2000)?|ecl(iptic)?_?(lon|longitude)"),
        re.compile(r"_?elat(2000)?|ecl(iptic)?_?(lat|latitude)"),
    ),
    "B1950": (
        re.compile(r"_?ra_?(b?1950|fk4)"),
        re.compile(r"_?dec?_?(b?1950|fk4)"),
    ),
}
_FRAMES = {"galactic": Galactic(), "ecliptic": BarycentricMeanEcliptic(), "B1950": FK4()}
_OF_SKYCOORD = (re.compile(r".*\.ra"), re.compile(r".*\.dec"))  # columns that Table.to_pandas makes
# pages of the sky, with a field of 0.05 degrees; signed_dec begins with %2B (plus) or a minus
SKY_PAGES = {
    "Aladin": "https://aladin.cds.unistra.fr/AladinLite/?target={ra}{signed_dec}&fov=0.05",
    "ESASky": "https://sky.esa.int/esasky/?target={ra}%20{dec}&fov=0.05&cooframe=J2000",
    "Legacy Surveys": "https://www.legacysurvey.org/viewer?ra={ra}&dec={dec}&zoom=15"
    "&mark={ra},{dec}",
    "SkyServer": "https://skyserver.sdss.org/dr18/VisualTools/navi?ra={ra}&dec={dec}&scale=0.2",
}
_UNIT_IN_NAME = re.compile(r".*[_ (\[](rad|radians?|hrs?|hours?)[)\]]?", re.IGNORECASE)


def sky_positions(ra: ArrayLike, dec: ArrayLike) -> SkyCoord:
    """Read positions on the sky from numbers or text.

    Parameters
    ----------
    ra, dec : array-like, Quantity or Series of shape (n,)
        Numbers, also as text, are degrees, unless a Quantity, an astropy Column or
        ``attrs["units"]`` of a Series gives another unit. Sexagesimal text is in hours for ``ra``
        and in degrees for ``dec`` (``"12:34:56.7"``, ``"12h34m56.7s"``). Masked values, NaN and ""
        mean no position. Right ascensions lie between -180 and 360 degrees.

    Returns
    -------
    sky : SkyCoord of shape (n,), ICRS

    Raises
    ------
    ValueError
        A position is out of range or not an angle (the message gives its row), or the unit is
        not an angle.

    Examples
    --------
    >>> sky_positions(["00:42:44.3"], ["+41:16:09"]).ra.deg.round(3)
    array([10.685])
    """
    return SkyCoord(*_read_angles(ra, dec))


def find_positions(
    catalog: pd.DataFrame, ra: str | None = None, dec: str | None = None
) -> SkyCoord:
    """Read the positions of a catalogue, in the coordinate system that its columns are named after.

    ``ra`` and ``dec`` are columns; with None they are found by their usual names, or as galactic,
    ecliptic or B1950 coordinates. Their numbers and units are those of `sky_positions`. The result
    is a SkyCoord (n,) of ICRS. A catalogue without positions, columns of two coordinate systems
    and impossible positions are a ValueError.

    Examples
    --------
    >>> find_positions(pd.DataFrame({"l": [0.0], "b": [90.0]})).dec.deg.round(2)
    array([27.13])
    """
    columns: list[Any] = [ra or find_column(catalog, "ra"), dec or find_column(catalog, "dec")]
    if columns == [None, None]:
        columns = _find_pair(catalog) or columns
    pair = [
        require_column(catalog, name, kind, kind)
        for name, kind in zip(columns, ("ra", "dec"), strict=True)
    ]
    longitude, latitude = (
        [system for system, names in _SYSTEMS.items() if names[axis].fullmatch(name.lower())]
        for axis, name in enumerate(pair)
    )
    if longitude != latitude:
        raise ValueError(
            f"ra={pair[0]!r} and dec={pair[1]!r} are of different coordinate systems: name two "
            "columns of one system."
        )
    if pair[0].lower() == "rah" or pair[1].lower() == "ded":
        raise ValueError(
            f"ra={pair[0]!r} and dec={pair[1]!r} lack the minutes and seconds, which are columns "
            "of their own: make columns of degrees, and name those."
        )
    if not longitude:
        return sky_positions(*(catalog[name] for name in pair))
    system, values = longitude[0], [catalog[name] for name in pair]
    angles = _read_angles(*values, names=(pair[0], pair[1]), hours=system == "B1950")
    return SkyCoord(*angles, frame=_FRAMES[system]).icrs


def has_positions(catalog: pd.DataFrame) -> bool:
    """Return whether `find_positions` finds columns in a catalogue without their names."""
    usual = [find_column(catalog, "ra"), find_column(catalog, "dec")]
    return None not in usual or _find_pair(catalog) is not None


def sky_links(position: SkyCoord) -> list[dict[str, str]]:
    """Return the addresses of a position in four pages that show the sky around it.

    ``position`` is one of ICRS. The result has a ``name`` and an address ``href`` for Aladin Lite,
    ESASky, the viewer of the Legacy Surveys and SkyServer of SDSS; it is empty if the position is
    NaN.

    Examples
    --------
    >>> [link["name"] for link in sky_links(sky_positions([10.685], [41.269])[0])]
    ['Aladin', 'ESASky', 'Legacy Surveys', 'SkyServer']
    >>> sky_links(sky_positions([10.685], [41.269])[0])[0]["href"]
    'https://aladin.cds.unistra.fr/AladinLite/?target=10.685000%2B41.269000&fov=0.05'
    """
    ra, dec = float(position.ra.deg) % 360, float(position.dec.deg)
    if not np.isfinite([ra, dec]).all():
        return []
    numbers = {"ra": f"{ra:.6f}", "dec": f"{dec:.6f}", "signed_dec": quote(f"{dec:+.6f}")}
    return [{"name": name, "href": page.format(**numbers)} for name, page in SKY_PAGES.items()]


def _find_pair(catalog: pd.DataFrame) -> list[str] | None:
    """Return the first longitude and latitude of a coordinate system that is known by its names."""
    for axes in (_OF_SKYCOORD, *_SYSTEMS.values()):
        found = [[n for n in catalog.columns if axis.fullmatch(str(n).lower())] for axis in axes]
        if all(found):
            return [found[0][0], found[1][0]]
    return None


def _read_angles(
    longitudes: ArrayLike,
    latitudes: ArrayLike,
    *,
    names: tuple[str, str] = ("ra", "dec"),
    hours: bool = True,
) -> tuple[Longitude, Latitude]:
    """Read longitudes and latitudes; ``hours`` is the meaning of sexagesimal longitudes."""
    lon = _to_degrees(longitudes, names[0], hours=hours)
    lat = _to_degrees(latitudes, names[1], hours=False)
    if lon.shape != lat.shape:
        raise ValueError(
            f"{names[0]} has {len(lon)} values and {names[1]} has {len(lat)}: pass pairs."
        )
    for name, values, low, high in ((names[0], lon, -180, 360), (names[1], lat, -90, 90)):
        bad = (values < low) | (values > high)
        if bad.any():
            row = int(bad.argmax())
            raise ValueError(
                f"{name} is {values[row]:g} in row {row}, outside {low} to {high} degrees: "
                "correct it, or set it to NaN."
            )
    missing = np.isnan(lon) | np.isnan(lat)
    lon, lat = (np.where(missing, np.nan, values) for values in (lon, lat))
    return Longitude(lon, u.deg), Latitude(lat, u.deg)


def _to_degrees(values: Any, name: str, *, hours: bool) -> NDArray[np.float64]:
    """Convert numbers or text to degrees; ``hours`` is the meaning of sexagesimal text."""
    factor = _degrees_per_unit(values, name)
    if hasattr(values, "filled"):  # a masked array or column
        kind = np.asarray(values).dtype.kind
        values = values.filled("") if kind in "US" else values.astype(np.float64).filled(np.nan)
    column = pd.Series(np.asarray(values).ravel())
    if is_numeric_dtype(column):
        return column.to_numpy(np.float64) * factor
    text = column.astype("str").str.strip().where(column.notna(), "")
    numbers = pd.to_numeric(text, errors="coerce")
    degrees = numbers.to_numpy(np.float64).copy()
    for row in np.flatnonzero(numbers.isna() & ~text.str.lower().isin(["", "nan"])):
        degrees[row] = _parse_sexagesimal(text[row], name, int(row), hours=hours)
    return degrees


def _degrees_per_unit(values: Any, name: str) -> float:
    """Return the unit of an array of numbers in degrees; 1 for text, which has no unit."""
    unit = getattr(values, "unit", None)
    if isinstance(values, pd.Series):
        in_name = _UNIT_IN_NAME.fullmatch(str(values.name))
        unit = values.attrs.get("units", {}).get(values.name) or (in_name and in_name[1])
    text = "" if unit is None else str(unit).strip().lower()
    if not text or re.search(r"\bdeg", text) or not is_numeric_dtype(np.asarray(values)):
        return 1.0
    text = text.removesuffix("s") if text.endswith(("hours", "hrs", "radians")) else text
    is_hour = text in ("h", "hr", "hour")  # astropy reads them as hours of time
    unit = u.hourangle if is_hour else u.Unit(text, parse_strict="silent")
    if not unit.is_equivalent(u.deg):
        raise ValueError(f"{name} has the unit {text!r}, not one of angles: give degrees.")
    return unit.to(u.deg)


def _parse_sexagesimal(text: str, name: str, row: int, *, hours: bool) -> float:
    unit = u.hourangle if hours and "d" not in text else u.deg
    try:
        if not hours and "h" in text.lower():
            raise ValueError("a declination is not in hours")  # noqa: TRY301 - handled below
        return (Longitude if hours else Latitude)(text, unit).deg
    except Exception as error:  # astropy's parsers raise many kinds
        raise ValueError(
            f"{name} is {text!r} in row {row}, not an angle: write degrees as a number, or "
            f"{'hours' if hours else 'degrees'} such as 12:34:56.7."
        ) from error
