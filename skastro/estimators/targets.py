"""The properties that the pretext regresses: chosen, standardised, and converted back."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Self

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from skastro.stamps.photometry import measure_by, measure_properties
from skastro.utils.validation import check_properties, check_property_errors, is_continuous

_TARGETS = ("auto", "catalog", "measured", "catalog+measured")
_MEASURED_PREFIX = "measured_"  # of measured columns, where a catalogue has columns, too
# properties of the frame instead of the source: as targets they cost 0.01 in accuracy
_FRAME_COLUMNS = ["sky", "peak_offset"]
_MIN_KNOWN_SHARE = 0.9  # of the rows, in a catalogue column that replaces a measured one
_REDUNDANT_CORRELATION = 0.8  # rank correlation from which a measured column is redundant
_IQR_TO_SIGMA = 1 / 1.349  # of a normal distribution
# error of a network's predictions, in units of the property's spread: catalogue errors far below
# it make no difference
_ERROR_FLOOR = 0.2

Targets = str | Callable[[NDArray[np.float32]], pd.DataFrame]


def collect_targets(
    images: Any, targets: Targets, y: Any, properties: Any, property_errors: Any
) -> tuple[str, pd.DataFrame, NDArray[np.float64] | None]:
    """Return the source of the properties to regress, their table (n, p) and their errors.

    The source is "catalog", "y", "measured" or "catalog+measured". Columns of the catalogue come
    first. Known units are in ``table.attrs["units"]``. Unknown errors are NaN, or None if all are.
    """
    if callable(targets):
        return "measured", check_properties(measure_by(targets, images), len(images)), None
    if targets not in _TARGETS:
        raise ValueError(f"targets={targets!r} must be one of {_TARGETS}, or a function.")
    source = targets
    if source == "auto" and properties is not None:
        source = "catalog+measured"
    elif source == "auto":
        source = "y" if is_continuous(y) else "measured"
    if source == "measured":
        return source, *_measure(images)
    catalog = _check_catalog(images, source, y, properties)
    errors = None
    if property_errors is not None and properties is not None:
        errors = check_property_errors(property_errors, catalog)
    if source != "catalog+measured":
        return source, catalog, errors
    if errors is None:
        errors = np.full(catalog.shape, np.nan)
    measured, measured_errors = _measure_new(images, catalog)
    # redundant columns would make brightness dominate the loss
    is_new = ~measured.columns.isin(_find_redundant_columns(catalog, measured))
    both = pd.concat([catalog, measured.loc[:, is_new]], axis=1)
    both.attrs["units"] = {**catalog.attrs.get("units", {}), **measured.attrs["units"]}
    return source, both, np.hstack([errors, measured_errors[:, is_new]])


def find_true_values(
    images: Any, targets: Targets, source: str, names: list[str], y: Any, properties: Any
) -> pd.DataFrame:
    """Return the true values of fitted properties, in the order of ``names``; NaN where unknown.

    Columns of the catalogue are found by name, or by position if they have other names. Measured
    properties are measured again. Of simulated properties, those that are given are returned.
    """
    if source == "measured":
        targets = targets if callable(targets) else "measured"
        return collect_targets(images, targets, None, None, None)[1].reindex(columns=names)
    if source == "simulation":
        return _find_simulated(len(images), names, properties)
    catalog = _check_catalog(images, source, y, properties)
    wanted, measured = split_names(names, source)
    if not set(wanted) <= set(catalog):
        if catalog.shape[1] != len(wanted):
            raise ValueError(
                f"properties has {catalog.shape[1]} columns, but the encoder was fitted with "
                f"{len(wanted)}: pass {', '.join(wanted)}."
            )
        catalog.columns = wanted
    if measured:
        catalog = pd.concat([catalog, _measure_new(images, catalog)[0]], axis=1)
    return catalog.reindex(columns=names)


def _find_simulated(n: int, names: list[str], properties: Any) -> pd.DataFrame:
    if properties is not None:
        table = check_properties(properties, n)
        if known := [name for name in names if name in table]:
            return table[known]
    raise ValueError(
        "score needs true values of what the network has learned from simulation: pass properties= "
        f"with at least one of the columns {', '.join(names)}."
    )


def split_names(names: Sequence[str], source: str) -> tuple[list[str], list[str]]:
    """Return the names of given properties, and of those that were measured in addition.

    Examples
    --------
    >>> split_names(["mag_r", "measured_asymmetry"], "catalog+measured")
    (['mag_r'], ['measured_asymmetry'])
    """
    both = source == "catalog+measured"
    measured = [name for name in names if both and name.startswith(_MEASURED_PREFIX)]
    return [name for name in names if name not in measured], measured


def _check_catalog(images: Any, source: str, y: Any, properties: Any) -> pd.DataFrame:
    if properties is not None:
        return check_properties(properties, len(images))
    if source == "y":
        return check_properties(y, len(images), name="y")
    raise ValueError(
        f"targets={source!r} needs the properties: pass properties= along with X (searches and "
        "cross-validations pass it on after sklearn.set_config(enable_metadata_routing=True)), or "
        "use targets='measured'."
    )


def _measure(images: Any) -> tuple[pd.DataFrame, NDArray[np.float64]]:
    """Measure the source in each stamp; columns without any value are left out."""
    table, errors = measure_properties(images, return_errors=True)
    units = table.attrs.get("units", {})
    table = table.drop(columns=_FRAME_COLUMNS, errors="ignore").dropna(axis=1, how="all")
    table.attrs["units"] = units
    return table, errors[table.columns].to_numpy()


def _measure_new(images: Any, catalog: pd.DataFrame) -> tuple[pd.DataFrame, NDArray[np.float64]]:
    """Measure under prefixed names, except where the catalogue has a column of that name."""
    table, errors = _measure(images)
    units = table.attrs["units"]
    is_new = [_MEASURED_PREFIX + name not in catalog for name in table]
    table = table.loc[:, is_new].add_prefix(_MEASURED_PREFIX)
    table.attrs["units"] = {_MEASURED_PREFIX + name: unit for name, unit in units.items()}
    return table, errors[:, is_new]


def _find_redundant_columns(catalog: pd.DataFrame, measured: pd.DataFrame) -> list[str]:
    """Return the measured columns that repeat a column of the catalogue, known for most rows."""
    full = catalog.loc[:, catalog.notna().mean() >= _MIN_KNOWN_SHARE]
    correlations = pd.concat([full, measured], axis=1).rank().corr().loc[list(measured), list(full)]
    redundant = (correlations.abs() >= _REDUNDANT_CORRELATION).any(axis=1)
    return list(redundant.index[redundant])


@dataclass(frozen=True)
class PropertyTargets:
    """Names, centre, spread and units of p properties, to standardise and to restore them.

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
    center: NDArray[np.float64]  # (p,), medians, in the properties' own units
    scale: NDArray[np.float64]  # (p,), robust standard deviations; 1 for constant properties
    units: dict[str, str] = field(default_factory=dict)  # where known

    @classmethod
    def fit(cls, table: pd.DataFrame) -> Self:
        """Measure centre and spread of each column; NaN is ignored."""
        values = table.to_numpy(np.float64)
        low, center, high = np.nanquantile(values, [0.25, 0.5, 0.75], axis=0)
        scale = (high - low) * _IQR_TO_SIGMA
        # a property with the same value in over half of the rows still has a spread
        scale = np.where(scale > 0, scale, np.nanstd(values, axis=0))
        scale = np.where(scale > 0, scale, 1.0)
        units = table.attrs.get("units", {})
        units = {name: str(units[name]) for name in table if name in units}
        return cls(tuple(table.columns), center, scale, units)

    def standardise(self, table: pd.DataFrame) -> NDArray[np.float32]:
        """Return (n, p) standardised values; NaN stays NaN."""
        return ((table.to_numpy(np.float64) - self.center) / self.scale).astype(np.float32)

    def restore(self, standardised: NDArray[np.floating]) -> pd.DataFrame:
        """Return (n, p) standardised values as float64 columns in catalogue units."""
        values = np.asarray(standardised, np.float64) * self.scale + self.center
        table = pd.DataFrame(values, columns=list(self.names))
        table.attrs["units"] = dict(self.units)
        return table

    def weights(self, errors: NDArray[np.float64] | None, n: int) -> NDArray[np.float32]:
        """Return the (n, p) weights of the loss for 1-sigma errors in catalogue units.

        A weight is the inverse variance of error and floor together: 1 for an error of zero. An
        unknown error has the weight of its column's median error (1 if all are unknown).
        """
        if errors is None:
            return np.ones((n, len(self.names)), dtype=np.float32)
        variance = (errors / self.scale / _ERROR_FLOOR) ** 2
        medians = [np.median(column[np.isfinite(column)]) if np.isfinite(column).any() else 0.0
                   for column in variance.T]  # fmt: skip
        variance = np.where(np.isfinite(variance), variance, np.asarray(medians))
        return (1.0 / (1.0 + variance)).astype(np.float32)
