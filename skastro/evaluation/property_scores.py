"""Score predicted properties against the true ones."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from sklearn.metrics import r2_score

from skastro.estimators.encoder import PropertyPretrainedEncoder
from skastro.evaluation.calibration import equal_widths
from skastro.stamps.photometry import measure_properties

MAD_TO_SIGMA = 1.4826  # of a normal distribution
_FEWEST_IN_A_BIN = 5


def residual_bins(
    true: ArrayLike,
    predicted: ArrayLike,
    *,
    errors: ArrayLike | None = None,
    magnitude: ArrayLike | None = None,
    n_bins: int = 10,
) -> pd.DataFrame:
    """Measure bias and scatter of predictions in bins of magnitude.

    Parameters
    ----------
    true, predicted : array-like of shape (n,)
        In one unit; rows where either is NaN are left out.
    errors : array-like of shape (n,), default=None
        1-sigma errors of ``true``; NaN where unknown.
    magnitude : array-like of shape (n,), default=None
        What to bin by; None takes ``true``.
    n_bins : int, default=10
        Bins of equal width over the central 98 % of the objects, the outer two taking in the
        rest; those of fewer than 5 objects are left out.

    Returns
    -------
    bins : DataFrame
        Columns ``magnitude`` (median), ``n``, ``bias`` (median of predicted - true),
        ``bias_error`` (1 sigma), ``scatter`` (1.4826 times the median absolute deviation) and
        ``error`` (median of ``errors``, NaN without).

    Examples
    --------
    >>> true = np.linspace(18, 22, 40)
    >>> residual_bins(true, true + 0.1, n_bins=2)[["magnitude", "n", "bias", "scatter"]].round(2)
       magnitude   n  bias  scatter
    0      18.97  20   0.1      0.0
    1      21.03  20   0.1      0.0
    """
    table = pd.DataFrame(
        {"true": np.asarray(true, float), "predicted": np.asarray(predicted, float)}
    )
    table["error"] = np.nan if errors is None else np.asarray(errors, float)
    table["magnitude"] = table["true"] if magnitude is None else np.asarray(magnitude, float)
    table = table.dropna(subset=["true", "predicted", "magnitude"])
    edges = equal_widths(table["magnitude"].to_numpy(), n_bins)
    number = np.searchsorted(edges[1:-1], table["magnitude"], side="right")
    parts = [table[number == each] for each in np.unique(number)]
    full = [part for part in parts if len(part) >= _FEWEST_IN_A_BIN] or [table]
    return pd.DataFrame([_measure_bin(part) for part in full])


def _measure_bin(part: pd.DataFrame) -> dict[str, float]:
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


def robust_sigma(residual: NDArray[Any]) -> float:
    """Return the standard deviation of a normal distribution with the same median deviation."""
    return float(MAD_TO_SIGMA * np.median(np.abs(residual - np.median(residual))))


def grade_pretext(truth: pd.DataFrame, predicted: pd.DataFrame, test: NDArray[Any]) -> pd.DataFrame:
    """Compare predicted and true properties of the test rows, property by property."""
    units = truth.attrs["units"] | predicted.attrs["units"]
    rows = []
    for name in predicted:
        true, guess = (table[name].to_numpy()[test] for table in (truth, predicted))
        known = np.isfinite(true)
        wrong = guess[known] - true[known]
        scatter = 1.4826 * np.median(np.abs(wrong - np.median(wrong))) if len(wrong) else np.nan
        r2 = r2_score(true[known], guess[known]) if known.sum() > 1 else np.nan
        rows.append((name, units.get(name, ""), int(known.sum()), r2, scatter))
    return pd.DataFrame(rows, columns=["property", "unit", "n_test", "r2", "scatter"])


def grade_properties(
    encoder: PropertyPretrainedEncoder, images: Any, known: pd.DataFrame | None
) -> pd.DataFrame:
    """Compare predicted properties with those of the catalogue or measured from the pixels."""
    columns = ["property", "unit", "n", "r2", "scatter"]
    if not len(images):
        return pd.DataFrame(columns=columns)
    truth = measure_properties(images)
    if known is not None:
        truth = truth.add_prefix("measured_")
        truth = pd.concat([known.reset_index(drop=True), truth], axis=1)
    predicted = encoder.predict(images)
    rows = []
    for name in encoder.property_names_:
        true, guess = truth[name].to_numpy(), predicted[name].to_numpy()
        there = np.isfinite(true)
        wrong = (guess - true)[there]
        scatter = 1.4826 * np.median(np.abs(wrong - np.median(wrong))) if len(wrong) else np.nan
        r2 = r2_score(true[there], guess[there]) if len(wrong) > 1 else np.nan
        rows.append((name, encoder.property_units_.get(name, ""), len(wrong), r2, scatter))
    return pd.DataFrame(rows, columns=columns)
