"""Drawing of predicted properties against those of the catalogue."""

from __future__ import annotations

from typing import Any, Self

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from skastro.evaluation.property_scores import residual_bins, robust_sigma
from skastro.plots.style import (
    INK,
    MINUS,
    MUTED,
    OKABE_ITO,
    divide_axes,
    dress_axes,
    make_axes,
    signed,
    with_unit,
)
from skastro.utils.validation import check_properties, check_property_errors

_POINTS = 1500  # objects up to which each is a point
_PALEST = 0.3  # objects of the palest colour of the hexagons
_SHOWN = 0.997  # share of the objects that the axes must hold


class PropertyDisplay:
    """Predicted against catalogued values of a property, above their residuals in bins.

    Made by `from_predictions` or `from_estimator`, which draw it too.

    Parameters
    ----------
    true, predicted : float arrays of shape (n,)
        Without gaps.
    bins : DataFrame
        As of ``residual_bins``.
    name : str, default="property"
    unit : str, default=None
    binned_by : str, default=None
        What the bins are of, with its unit; None for the property itself.
    n_missing : int, default=0
        Objects left out, because the property is not measured.

    Attributes
    ----------
    bias, scatter : float
        Median of all residuals, and 1.4826 times their median absolute deviation.
    ax_ : matplotlib Axes
        Predicted against catalogued.
    residual_ax_ : matplotlib Axes
    figure_ : matplotlib Figure
    objects_ : artist
        Hexagons, or up to 1,500 points.

    Examples
    --------
    >>> true = np.append(np.linspace(18, 22, 40), np.nan)
    >>> display = PropertyDisplay.from_predictions(true, true + 0.1, name="mag_r", unit="mag")
    >>> round(display.bias, 3), display.n_missing, display.ax_.get_ylabel()
    (0.1, 1, 'predicted mag_r (mag)')
    """

    def __init__(
        self,
        true: NDArray[np.float64],
        predicted: NDArray[np.float64],
        bins: pd.DataFrame,
        *,
        name: str = "property",
        unit: str | None = None,
        binned_by: str | None = None,
        n_missing: int = 0,
    ) -> None:
        self.true = true
        self.predicted = predicted
        self.bins = bins
        self.name = name
        self.unit = unit
        self.binned_by = binned_by
        self.n_missing = n_missing

    @classmethod
    def from_predictions(
        cls,
        true: ArrayLike,
        predicted: ArrayLike,
        *,
        errors: ArrayLike | None = None,
        magnitude: ArrayLike | None = None,
        name: str = "property",
        unit: str | None = None,
        magnitude_name: str = "magnitude (mag)",
        n_bins: int = 10,
        **plot_params: Any,
    ) -> Self:
        """Measure the residuals, and draw.

        Parameters
        ----------
        true : array-like of shape (n,)
            The catalogue's values; NaN, and sentinels such as -999, are not measured: these
            objects are left out and counted.
        predicted : array-like of shape (n,)
            In the same unit.
        errors : array-like of shape (n,), default=None
            1-sigma errors of the catalogue, drawn beside the scatter.
        magnitude : array-like of shape (n,), default=None
            What the residuals are binned by, NaN where unknown; None bins by ``true``.
        name : str, default="property"
        unit : str, default=None
        magnitude_name : str, default="magnitude (mag)"
            For the axis of the residuals.
        n_bins : int, default=10
            As in ``residual_bins``.
        **plot_params
            Passed to `plot`.

        Returns
        -------
        display : PropertyDisplay

        Raises
        ------
        ValueError
            Lengths differ, a value is infinite, or fewer than two objects are measured.
        """
        predicted = np.asarray(predicted, dtype=np.float64).ravel()
        table = check_properties(true, len(predicted), name="true").iloc[:, [0]]
        if errors is not None:
            errors = check_property_errors(errors, table)[:, 0]
        values = table.to_numpy()[:, 0]
        known = np.isfinite(values) & np.isfinite(predicted)
        if magnitude is not None:
            magnitude = np.asarray(magnitude, dtype=np.float64)
            if magnitude.shape != values.shape:
                raise ValueError(
                    f"magnitude has shape {magnitude.shape}, but there are {len(values)} "
                    "objects: pass one for each."
                )
        if known.sum() < 2:
            raise ValueError(f"{name} is measured for {known.sum()} objects: it takes two or more.")
        bins = residual_bins(values, predicted, errors=errors, magnitude=magnitude, n_bins=n_bins)
        display = cls(
            values[known],
            predicted[known],
            bins,
            name=name,
            unit=unit,
            binned_by=None if magnitude is None else magnitude_name,
            n_missing=int((~known).sum()),
        )
        return display.plot(**plot_params)

    @classmethod
    def from_estimator(
        cls,
        encoder: Any,
        X: Any,
        properties: Any,
        *,
        name: str,
        property_errors: Any = None,
        **params: Any,
    ) -> Self:
        """Predict a property, measure the residuals, and draw.

        Parameters
        ----------
        encoder : fitted PropertyPretrainedEncoder
        X : array-like of shape (n, bands, height, width) or (n, features)
            Best stamps that it was not pretrained on.
        properties : array-like, DataFrame or astropy Table of shape (n, p)
            With a column ``name``.
        name : str
            The property, one of those that the encoder predicts.
        property_errors : array-like of shape (n, p), default=None
            1-sigma errors, in the order of the properties.
        **params
            Passed to `from_predictions`; the unit is the encoder's if it knows one.

        Returns
        -------
        display : PropertyDisplay

        Raises
        ------
        ValueError
            The encoder does not predict ``name``, or ``properties`` has no such column.
        """
        predicted = encoder.predict(X)
        table = check_properties(properties, len(predicted))
        for columns, whose in ((predicted.columns, "the encoder"), (table.columns, "properties")):
            if name not in columns:
                raise ValueError(f"{name!r} is none of {whose}: choose from {list(columns)}.")
        if property_errors is not None:
            place = table.columns.get_loc(name)
            params["errors"] = check_property_errors(property_errors, table)[:, place]
        params.setdefault("unit", predicted.attrs.get("units", {}).get(name))
        return cls.from_predictions(table[name], predicted[name], name=name, **params)

    @property
    def bias(self) -> float:
        """Median of predicted - catalogue."""
        return float(np.median(self.predicted - self.true))

    @property
    def scatter(self) -> float:
        """Robust standard deviation of predicted - catalogue."""
        return robust_sigma(self.predicted - self.true)

    def plot(self, ax: Any = None) -> Self:
        """Draw into axes.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Replaced by two, one below the other. None makes a figure of 5 by 6 inches.

        Returns
        -------
        display : PropertyDisplay

        Raises
        ------
        ImportError
            matplotlib is not installed.
        ValueError
            The axes are not one of a figure's subplots.
        """
        ax = make_axes(ax, "PropertyDisplay", (5.0, 6.0))
        self.figure_ = ax.figure
        self.ax_, self.residual_ax_ = divide_axes(ax, (2.1, 1))
        limits = _limits(np.concatenate([self.true, self.predicted]))
        self.objects_ = _draw_objects(self.ax_, self.true, self.predicted, limits)
        self.ax_.set_xlabel(with_unit(f"catalogue {self.name}", self.unit))
        self.ax_.set_ylabel(with_unit(f"predicted {self.name}", self.unit))
        self.ax_.text(
            0.035, 0.965, self._summary(limits), transform=self.ax_.transAxes, va="top",
            fontsize=8.5, color=INK, linespacing=1.45,
            bbox={"facecolor": "white", "alpha": 0.8, "linewidth": 0, "pad": 2},
        )  # fmt: skip
        _draw_bins(self.residual_ax_, self.bins)
        self.residual_ax_.set_ylabel(with_unit(f"predicted {MINUS} cat.", self.unit))
        by_itself = with_unit(f"catalogue {self.name}", self.unit)
        self.residual_ax_.set_xlabel(self.binned_by or by_itself)
        if self.binned_by is None:
            self.residual_ax_.set_xlim(limits)
        return self

    def _summary(self, limits: tuple[float, float]) -> str:
        unit = f" {self.unit}" if self.unit else ""
        pairs = np.stack([self.true, self.predicted])
        outside = int(((pairs < limits[0]) | (pairs > limits[1])).any(axis=0).sum())
        lines = [
            f"bias {signed(self.bias)}{unit}",
            f"scatter {self.scatter:.3f}{unit}",
            f"{len(self.true):,} objects",
        ]
        if outside:
            lines.append(f"{outside:,} of them beyond the axes")
        if self.n_missing:
            lines.append(f"{self.n_missing:,} not measured")
        return "\n".join(lines)


def _limits(values: NDArray[Any]) -> tuple[float, float]:
    """Return limits that hold nearly all values: a single outlier must not squeeze the others."""
    low, high = np.quantile(values, [(1 - _SHOWN) / 2, (1 + _SHOWN) / 2])
    margin = 0.06 * (high - low) or 1.0
    return float(low - margin), float(high + margin)


def _draw_objects(
    ax: Any, true: NDArray[Any], predicted: NDArray[Any], limits: tuple[float, float]
) -> Any:
    if len(true) <= _POINTS:
        artist = ax.plot(
            true, predicted, "o", markersize=4, color=OKABE_ITO[0], alpha=0.45, markeredgewidth=0
        )[0]
    else:
        artist = ax.hexbin(
            true, predicted, gridsize=(52, 30), extent=(*limits, *limits), bins="log", mincnt=1,
            cmap="Blues", linewidths=0.1,
        )  # fmt: skip
        artist.norm.vmin = _PALEST  # one object is no white
        _draw_scale(ax, artist)
    ax.plot(limits, limits, color=INK, linewidth=1, linestyle=(0, (4, 3)))
    ax.set(xlim=limits, ylim=limits)
    dress_axes(ax, grid="both")
    return artist


def _draw_scale(ax: Any, hexagons: Any) -> None:
    """Draw the colours of the hexagons where a tight relation leaves room, below the diagonal."""
    inset = ax.inset_axes((0.62, 0.13, 0.33, 0.028))
    bar = ax.figure.colorbar(hexagons, cax=inset, orientation="horizontal")
    bar.outline.set_visible(False)
    inset.minorticks_off()
    most = hexagons.get_array().max()
    inset.set_xlim(1, most)
    ticks = [tick for tick in (1, 10, 100, 1000, 10000) if tick <= most]
    inset.set_xticks(ticks, [f"{tick:,}" for tick in ticks])
    inset.tick_params(labelsize=8, length=0, labelcolor=MUTED)
    inset.set_title("objects per cell", fontsize=8, color=MUTED, pad=3)


def _draw_bins(ax: Any, bins: pd.DataFrame) -> None:
    x, bias, scatter = bins["magnitude"], bins["bias"], bins["scatter"]
    blue, vermilion = OKABE_ITO[:2]
    ax.axhline(0, color=INK, linewidth=1, linestyle=(0, (4, 3)))
    ax.fill_between(
        x, bias - scatter, bias + scatter, color=blue, alpha=0.2, linewidth=0, label="scatter"
    )
    ax.errorbar(
        x, bias, bins["bias_error"], fmt="-o", color=blue, markersize=5, linewidth=1.6,
        markeredgecolor="white", markeredgewidth=0.7, label="bias",
    )  # fmt: skip
    reach = (np.abs(bias) + scatter).max()
    if bins["error"].notna().any():
        ax.plot(x, bins["error"], "-.", color=vermilion, linewidth=1.6, label="catalogue's error")
        ax.plot(x, -bins["error"], "-.", color=vermilion, linewidth=1.6)
        reach = max(reach, bins["error"].max())
    reach = reach or 1.0
    ax.set_ylim(-1.15 * reach, 1.15 * reach)
    dress_axes(ax)
    ax.legend(
        loc="lower left", bbox_to_anchor=(-0.02, 0.98), ncols=3, frameon=False, fontsize=8.5,
        labelcolor=INK, handlelength=2.2, columnspacing=1.4,
    )  # fmt: skip
