"""Compare predicted properties with the true ones."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from sklearn.metrics import r2_score

from skastro.evaluation.calibration import equal_widths
from skastro.stamps.scaling import MAD_TO_SIGMA

GRADE_COLUMNS = ["property", "unit", "n_test", "r2", "scatter"]
_MIN_BIN_OBJECTS = 5


def residual_bins(
    true: ArrayLike,
    predicted: ArrayLike,
    *,
    errors: ArrayLike | None = None,
    magnitude: ArrayLike | None = None,
    n_bins: int = 10,
) -> pd.DataFrame:
    """Measure bias and scatter of predictions in bins of magnitude.

    All arrays have shape (n,). ``errors`` are 1-sigma errors of ``true``; NaN where unknown. The
    bins are those of ``magnitude``, or of ``true`` if there is none: they have equal widths over
    the central 98 % of the objects, and the outer two include the rest. Rows with a NaN in the
    other arrays and bins of fewer than 5 objects are left out.

    Returns a table of the columns ``magnitude`` (median), ``n``, ``bias`` (median of predicted -
    true), ``bias_error`` (1 sigma), ``scatter`` (1.4826 times the median absolute deviation) and
    ``error`` (median of ``errors``; NaN where they are unknown).

    Examples
    --------
    >>> true = np.linspace(18, 22, 40)
    >>> residual_bins(true, true + 0.1, n_bins=2)[["magnitude", "n", "bias", "scatter"]].round(2)
       magnitude   n  bias  scatter
    0      18.97  20   0.1      0.0
    1      21.03  20   0.1      0.0
    """
    # collect the usable rows
    table = pd.DataFrame(
        {"true": np.asarray(true, float), "predicted": np.asarray(predicted, float)}
    )
    table["error"] = np.nan if errors is None else np.asarray(errors, float)
    table["magnitude"] = table["true"] if magnitude is None else np.asarray(magnitude, float)
    table = table.dropna(subset=["true", "predicted", "magnitude"])
    # measure each bin that is full enough, or all rows together
    edges = equal_widths(table["magnitude"].to_numpy(), n_bins)
    number = np.searchsorted(edges[1:-1], table["magnitude"], side="right")
    parts = [table[number == bin_] for bin_ in np.unique(number)]
    full = [part for part in parts if len(part) >= _MIN_BIN_OBJECTS] or [table]
    return pd.DataFrame([_measure_bin(part) for part in full])


def _measure_bin(part: pd.DataFrame) -> dict[str, float]:
    """Return one row of `residual_bins`."""
    residual = (part["predicted"] - part["true"]).to_numpy()
    scatter = robust_sigma(residual)
    return {
        "magnitude": part["magnitude"].median(),
        "n": len(part),
        "bias": np.median(residual),
        # the variance of a median is pi / 2 times that of a mean
        "bias_error": np.sqrt(np.pi / 2) * scatter / np.sqrt(len(part)),
        "scatter": scatter,
        "error": part["error"].median() if part["error"].notna().any() else np.nan,
    }


def robust_sigma(residuals: NDArray[Any]) -> float:
    """Return 1.4826 times the median absolute deviation; NaN without residuals."""
    if not len(residuals):
        return np.nan
    return float(MAD_TO_SIGMA * np.median(np.abs(residuals - np.median(residuals))))


def join_measured(properties: pd.DataFrame | None, measured: pd.DataFrame) -> pd.DataFrame:
    """Join properties of the catalogue and of the pixels, named as the encoder names them."""
    if properties is None:
        return measured
    units = {f"measured_{name}": unit for name, unit in measured.attrs["units"].items()}
    new = measured.add_prefix("measured_").drop(columns=list(properties), errors="ignore")
    table = pd.concat([properties.reset_index(drop=True), new], axis=1)
    table.attrs["units"] = properties.attrs.get("units", {}) | units
    return table


def grade_properties(true: pd.DataFrame, predicted: pd.DataFrame) -> pd.DataFrame:
    """Measure how well each property is predicted, in the units of the tables' ``attrs``.

    Returns one row for each predicted property: ``property``, ``unit``, ``n_test`` (rows with a
    true value), ``r2`` and ``scatter`` (robust standard deviation of the error); both are NaN for
    fewer than two rows.

    Examples
    --------
    >>> true = pd.DataFrame({"mag_r": [20.0, 21.0, np.nan]})
    >>> grade_properties(true, pd.DataFrame({"mag_r": [20.0, 21.0, 22.0]}))
      property unit  n_test   r2  scatter
    0    mag_r            2  1.0      0.0
    """
    units = true.attrs.get("units", {}) | predicted.attrs.get("units", {})
    rows = []
    for name in predicted:
        is_measured = np.isfinite(true[name].to_numpy())
        values, guesses = (table[name].to_numpy()[is_measured] for table in (true, predicted))
        r2 = scatter = np.nan
        if len(values) > 1:
            r2, scatter = r2_score(values, guesses), robust_sigma(guesses - values)
        rows.append((name, units.get(name, ""), len(values), r2, scatter))
    return pd.DataFrame(rows, columns=GRADE_COLUMNS)
