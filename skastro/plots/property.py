"""Draw predicted properties against those of the catalogue."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass
from typing import Any, Self

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from skastro.evaluation.property_scores import residual_bins, robust_sigma
from skastro.plots import style
from skastro.utils.validation import check_properties, check_property_errors

_MAX_POINTS = 1500  # objects drawn as points; more are drawn as hexagons
_MIN_COLOUR_COUNT = 0.3  # objects per hexagon at the palest colour: a single object is visible
_AXES_QUANTILES = (0.0015, 0.9985)  # of the values, between which the axes reach: without outliers
_GAP = 0.4  # between the two axes, in their mean heights, where no layout makes room for the labels


@dataclass(eq=False, repr=False)
class PropertyDisplay(style.Display):
    """Predicted against catalogue values of a property, above their residuals in bins.

    `from_predictions` or `from_estimator` make and draw it. A new figure is 5 by 6 inches;
    given axes are replaced by two, one below the other.

    Parameters
    ----------
    true, predicted : float arrays of shape (n,)
        Values of the catalogue and of the prediction, without NaN.
    bins : DataFrame
        Result of ``residual_bins``.
    name : str, default="property"
    unit : str, default=None
    binned_by : str, default=None
        Quantity of the bins with its unit, for the axis; by default the property itself.
    n_missing : int, default=0
        Number of objects left out, because the property is not measured.

    Attributes
    ----------
    bias, scatter : float
        Median of all residuals, and 1.4826 times their median absolute deviation.
    ax_ : matplotlib Axes
        Axes of predicted against catalogue values.
    residual_ax_ : matplotlib Axes
        Axes of the residuals.
    figure_ : matplotlib Figure
    objects_ : artist
        Hexagons, or points for up to 1,500 objects.

    Examples
    --------
    >>> true = np.append(np.linspace(18, 22, 40), np.nan)
    >>> display = PropertyDisplay.from_predictions(true, true + 0.1, name="mag_r", unit="mag")
    >>> round(display.bias, 3), display.n_missing, display.ax_.get_ylabel()
    (0.1, 1, 'predicted mag_r (mag)')
    """

    _size = (5.0, 6.0)
    true: NDArray[np.float64]
    predicted: NDArray[np.float64]
    bins: pd.DataFrame
    _: KW_ONLY
    name: str = "property"
    unit: str | None = None
    binned_by: str | None = None
    n_missing: int = 0

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
            Values of the catalogue. NaN and sentinels such as -999 are not measured: these
            objects are left out and counted.
        predicted : array-like of shape (n,)
            Predicted values, in the unit of ``true``.
        errors : array-like of shape (n,), default=None
            1-sigma errors of the catalogue, to compare with the scatter.
        magnitude : array-like of shape (n,), default=None
            Quantity to bin the residuals by, NaN where unknown; by default ``true``.
        name : str, default="property"
            Name of the property, for the axes.
        unit : str, default=None
            Unit of the property, for the axes.
        magnitude_name : str, default="magnitude (mag)"
            Name and unit of ``magnitude``, for the axis.
        n_bins : int, default=10
            Number of bins, as in ``residual_bins``.
        **plot_params
            Passed to `plot`.

        Returns
        -------
        display : PropertyDisplay

        Raises
        ------
        ValueError
            Lengths differ, a value is infinite, fewer than two objects are measured, or ``ax``
            is not one of a figure's subplots.
        """
        # the objects that are measured, with errors and magnitudes of all
        predicted = np.asarray(predicted, dtype=np.float64).ravel()
        table = check_properties(true, len(predicted), name="true").iloc[:, [0]]
        if errors is not None:
            errors = check_property_errors(errors, table)[:, 0]
        values = table.to_numpy()[:, 0]
        measured = np.isfinite(values) & np.isfinite(predicted)
        if magnitude is not None:
            magnitude = np.asarray(magnitude, dtype=np.float64)
            style.check_values(len(values), magnitude=magnitude)
        if measured.sum() < 2:
            raise ValueError(f"{name} is measured for {measured.sum()} objects: pass two or more.")
        bins = residual_bins(values, predicted, errors=errors, magnitude=magnitude, n_bins=n_bins)
        display = cls(
            values[measured], predicted[measured], bins, name=name, unit=unit,
            binned_by=None if magnitude is None else magnitude_name,
            n_missing=int((~measured).sum()),
        )  # fmt: skip
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
            Stamps, preferably not those of the pretraining.
        properties : array-like, DataFrame or astropy Table of shape (n, p)
            Properties of the catalogue, with a column ``name``.
        name : str
            Property to draw, one of those that the encoder predicts.
        property_errors : array-like of shape (n, p), default=None
            1-sigma errors of ``properties``, with columns in the same order.
        **params
            Passed to `from_predictions`; ``unit`` is by default that of the encoder.

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
        for columns, owner in ((predicted.columns, "the encoder"), (table.columns, "properties")):
            if name not in columns:
                raise ValueError(f"{name!r} is none of {owner}: choose from {list(columns)}.")
        if property_errors is not None:
            column = table.columns.get_loc(name)
            params["errors"] = check_property_errors(property_errors, table)[:, column]
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

    def _draw(self, ax: Any) -> None:
        # replace the axes by two
        if (place := ax.get_subplotspec()) is None:
            raise ValueError("ax is not one of a figure's subplots: use figure.subplots().")
        ax.set_axis_off()
        gap = None if style.has_room_outside(ax) else _GAP
        grid = place.subgridspec(2, 1, height_ratios=(2.1, 1), hspace=gap)
        self.ax_, self.residual_ax_ = (ax.figure.add_subplot(cell) for cell in grid)
        # above: the objects, and numbers that summarise them
        low, high = np.quantile([self.true, self.predicted], _AXES_QUANTILES)
        margin = 0.06 * (high - low) or 1.0
        limits = float(low - margin), float(high + margin)
        self.objects_ = _draw_objects(self.ax_, self.true, self.predicted, limits)
        catalogue_label = style.with_unit(f"catalogue {self.name}", self.unit)
        self.ax_.set_xlabel(catalogue_label)
        self.ax_.set_ylabel(style.with_unit(f"predicted {self.name}", self.unit))
        self.ax_.text(
            0.035, 0.965, self._summary(limits), transform=self.ax_.transAxes, va="top",
            fontsize=8.5, color=style.INK, linespacing=1.45,
            bbox={"facecolor": "white", "alpha": 0.8, "linewidth": 0, "pad": 2},
        )  # fmt: skip
        # below: the residuals
        _draw_bins(self.residual_ax_, self.bins)
        self.residual_ax_.set_ylabel(style.with_unit(f"predicted {style.MINUS} cat.", self.unit))
        self.residual_ax_.set_xlabel(self.binned_by or catalogue_label)
        if self.binned_by is None:
            self.residual_ax_.set_xlim(limits)

    def _summary(self, limits: tuple[float, float]) -> str:
        unit = f" {self.unit}" if self.unit else ""
        pairs = np.stack([self.true, self.predicted])
        n_outside = int(((pairs < limits[0]) | (pairs > limits[1])).any(axis=0).sum())
        text = f"bias {style.signed(self.bias, '.3f')}{unit}\nscatter {self.scatter:.3f}{unit}"
        text += f"\n{len(self.true):,} objects"
        if n_outside:
            text += f"\n{n_outside:,} of them beyond the axes"
        return f"{text}\n{self.n_missing:,} not measured" if self.n_missing else text


def _draw_objects(
    ax: Any, true: NDArray[Any], predicted: NDArray[Any], limits: tuple[float, float]
) -> Any:
    """Draw points, or hexagons with a scale of their counts, and the diagonal."""
    if len(true) <= _MAX_POINTS:
        (artist,) = ax.plot(
            true, predicted, "o", markersize=4, color=style.OKABE_ITO[0], alpha=0.45,
            markeredgewidth=0,
        )  # fmt: skip
    else:
        artist = ax.hexbin(
            true, predicted, gridsize=(52, 30), extent=(*limits, *limits), bins="log", mincnt=1,
            cmap="Blues", linewidths=0.1,
        )  # fmt: skip
        artist.norm.vmin = _MIN_COLOUR_COUNT
        # the scale lies below the diagonal, where a good prediction leaves room
        inset = ax.inset_axes((0.62, 0.13, 0.33, 0.028))
        bar = ax.figure.colorbar(artist, cax=inset, orientation="horizontal")
        bar.outline.set_visible(False)
        inset.minorticks_off()
        most = artist.get_array().max()
        inset.set_xlim(1, most)
        ticks = [tick for tick in (1, 10, 100, 1000, 10000) if tick <= most]
        inset.set_xticks(ticks, [f"{tick:,}" for tick in ticks])
        inset.tick_params(labelsize=8, length=0, labelcolor=style.MUTED)
        inset.set_title("objects per cell", fontsize=8, color=style.MUTED, pad=3)
    ax.plot(limits, limits, color=style.INK, **style.REFERENCE_LINE)
    ax.set(xlim=limits, ylim=limits)
    style.dress_axes(ax, grid="both")
    return artist


def _draw_bins(ax: Any, bins: pd.DataFrame) -> None:
    """Draw bias and scatter of the residuals, and the errors of the catalogue if known."""
    x, bias, scatter = bins["magnitude"], bins["bias"], bins["scatter"]
    blue, vermilion = style.OKABE_ITO[:2]
    ax.axhline(0, color=style.INK, **style.REFERENCE_LINE)
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
    style.dress_axes(ax)
    style.place_legend_above(ax, 3)
