"""Properties as the pretext regresses them: standardised, weighted, and back in their units."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Self

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from skastro.stamps.photometry import measure_properties

MEASURED_PREFIX = "measured_"  # of columns beside those of a catalogue
_OF_THE_FRAME = ["sky", "peak_offset"]  # not of the source: as targets they cost 0.01
_NEARLY_ALL = 0.9  # of the rows
_ALIKE = 0.8  # rank correlation of two columns that say the same


def measure_targets(images: Any, *, prefix: str = "") -> tuple[pd.DataFrame, NDArray[np.float64]]:
    """Return what the pixels tell of the source, without empty columns, and its errors."""
    table, errors = measure_properties(images, return_errors=True)
    units = find_units(table)
    table = table.drop(columns=_OF_THE_FRAME, errors="ignore").dropna(axis=1, how="all")
    errors = errors[table.columns].to_numpy()
    table = table.add_prefix(prefix)
    table.attrs["units"] = {prefix + name: unit for name, unit in units.items()}
    return table, errors


def find_redundant_columns(table: pd.DataFrame) -> list[str]:
    """Return the measured columns that a column of the catalogue, known for nearly all, repeats.

    Brightness told three times weighs three times as much as shape.
    """
    measured = [name for name in table if name.startswith(MEASURED_PREFIX)]
    catalog = table.columns.difference(measured, sort=False)
    full = [name for name in catalog if table[name].notna().mean() >= _NEARLY_ALL]
    alike = table[full + measured].rank().corr().loc[measured, full].abs() >= _ALIKE
    return list(alike.index[alike.any(axis=1)])


def find_units(table: pd.DataFrame) -> dict[str, str]:
    """Return the units of a table's columns, where they are known."""
    return table.attrs.get("units", {})


_IQR_TO_SIGMA = 1 / 1.349  # of a normal distribution
# what a network cannot learn of a property anyway, in units of the property's spread: errors
# far below it are all equally good
_ERROR_FLOOR = 0.2


@dataclass(frozen=True)
class PropertyTargets:
    """Names, units, centre and spread of properties.

    Parameters
    ----------
    names : tuple of str
    center, scale : float64 arrays of shape (p,)
        Median and robust standard deviation (interquartile range / 1.349) in the properties'
        own units; the spread of a constant property is 1.
    units : dict of str to str
        Of those properties whose unit is known.

    Examples
    --------
    >>> table = pd.DataFrame({"mag_r": [20.0, 21.0, np.nan, 22.0, 23.0]})
    >>> targets = PropertyTargets.fit(table)
    >>> targets.standardise(table).round(2).ravel()
    array([-1.35, -0.45,   nan,  0.45,  1.35], dtype=float32)
    >>> targets.restore(targets.standardise(table))["mag_r"].tolist()
    [20.0, 21.0, nan, 22.0, 23.0]
    """

    names: tuple[str, ...]
    center: NDArray[np.float64]
    scale: NDArray[np.float64]
    units: dict[str, str] = field(default_factory=dict)

    @classmethod
    def fit(cls, table: pd.DataFrame) -> Self:
        """Measure centre and spread of each column; NaN is ignored."""
        values = table.to_numpy(np.float64)
        low, center, high = np.nanquantile(values, [0.25, 0.5, 0.75], axis=0)
        scale = (high - low) * _IQR_TO_SIGMA
        # a property with the same value in over half of the rows still has a spread
        scale = np.where(scale > 0, scale, np.nanstd(values, axis=0))
        scale = np.where(scale > 0, scale, 1.0)
        units = {name: str(unit) for name, unit in table.attrs.get("units", {}).items()}
        return cls(tuple(table.columns), center, scale, units)

    def standardise(self, table: pd.DataFrame) -> NDArray[np.float32]:
        """Return (n, p) standardised values; NaN stays NaN."""
        return ((table.to_numpy(np.float64) - self.center) / self.scale).astype(np.float32)

    def restore(self, standardised: NDArray[np.floating]) -> pd.DataFrame:
        """Return (n, p) standardised values as float64 columns in catalogue units."""
        table = pd.DataFrame(
            np.asarray(standardised, np.float64) * self.scale + self.center,
            columns=list(self.names),
        )
        table.attrs["units"] = dict(self.units)
        return table

    def weights(self, errors: NDArray[np.float64] | None, n: int) -> NDArray[np.float32]:
        """Return the (n, p) weights of the loss for 1-sigma errors in catalogue units.

        The inverse variance of error and floor together, 1 for an error of zero; an unknown
        error weighs as the median of its column (1 if all are unknown).
        """
        if errors is None:
            return np.ones((n, len(self.names)), dtype=np.float32)
        variance = (errors / self.scale / _ERROR_FLOOR) ** 2
        known = np.isfinite(variance)
        middle = [
            np.median(v[k]) if k.any() else 0.0 for v, k in zip(variance.T, known.T, strict=True)
        ]
        variance = np.where(known, variance, np.asarray(middle))
        return (1.0 / (1.0 + variance)).astype(np.float32)

    def to_dict(self) -> dict[str, Any]:
        """Return what JSON can hold."""
        return {
            "names": list(self.names),
            "center": self.center.tolist(),
            "scale": self.scale.tolist(),
            "units": dict(self.units),
        }

    @classmethod
    def from_dict(cls, document: dict[str, Any]) -> Self:
        """Undo `to_dict`."""
        return cls(
            tuple(document["names"]),
            np.asarray(document["center"], np.float64),
            np.asarray(document["scale"], np.float64),
            dict(document["units"]),
        )
