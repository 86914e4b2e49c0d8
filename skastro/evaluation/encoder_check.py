"""Check whether stamps look like those that an encoder has learned from."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment
from scipy.stats import binom, norm
from sklearn.utils.validation import check_is_fitted

from skastro.estimators.training_statistics import TrainingStatistics
from skastro.stamps.arrays import check_images, read_stamps
from skastro.stamps.bands import wavelength_of
from skastro.stamps.scaling import MAD_TO_SIGMA
from skastro.surveys.pixel_statistics import LEVELS, choose_rows, measure_pixels, take_quantiles
from skastro.utils.notebooks import as_html
from skastro.utils.tables import to_frame

_Floats: TypeAlias = NDArray[np.float64]

_LINES = (
    "bands", "pixel scale", "seeing", "zero point", "noise", "sky", "embedding", "predictions",
)  # fmt: skip
_LEAST = 20  # stamps
_FALSE_ALARMS = 0.05  # of all lines together
# differences that do not matter, however many stamps there are
_FACTOR = 1.1  # of noise and sizes, and of fluxes
_COLOUR, _CORRELATION, _SKY_SIGMA = 0.02, 0.05, 0.25
_PROPERTY_SPREADS = 0.1
_BEYOND = 0.05  # share of stamps
_MIDDLE, _LOW, _HIGH = (int(np.flatnonzero(level == LEVELS)[0]) for level in (0.5, 0.16, 0.84))
_LEAST_LOSS, _MOST_LOSS = 0.4, 2.5  # of noise for smaller pixels, as a power of their scale
_TOTAL_RADIUS = 5 / 16  # of the shorter side, in which `measure_properties` measures sizes
_SMOOTHED_AREA = 2 * np.log(2)  # squared half-light radius of a Gaussian with a sigma of 1
_ALIKE, _DIFFERS, _FOLLOWS, _UNKNOWN = "looks alike", "differs", "follows", "unknown"


@dataclass(frozen=True)
class EncoderCheck:
    """The result of `check_encoder`.

    Attributes
    ----------
    table : DataFrame
        One row for each of the lines bands, pixel scale, seeing, zero point, noise, sky, embedding
        and predictions (its index): ``value``, its expected range ``low`` to ``high``, ``measure``
        (what the value is), ``verdict`` and ``text``. The verdict is "looks alike", "differs",
        "follows" (it differs because of another line) or "unknown".
    n : int
        Number of stamps that were measured.

    Examples
    --------
    >>> line = {"value": 5.0, "low": -0.3, "high": 0.3, "measure": "sky level in sigma"}
    >>> line |= {"verdict": "differs", "text": "Subtract it."}
    >>> check = EncoderCheck(pd.DataFrame([line], index=["sky"]), 100)
    >>> check
    EncoderCheck of 100 stamps
    sky: differs. sky level in sigma 5 (expected -0.3 to 0.3). Subtract it.
    >>> check.differing
    ['sky']
    """

    table: pd.DataFrame
    n: int

    @property
    def differing(self) -> list[str]:
        """Names of the lines that differ."""
        return list(self.table.index[self.table["verdict"] == _DIFFERS])

    def __repr__(self) -> str:
        lines = [f"EncoderCheck of {self.n:,} stamps"]
        for name, row in self.table.iterrows():
            number = "" if np.isnan(row["value"]) else f"{row['measure']} {row['value']:.3g}"
            if np.isfinite([row["low"], row["high"]]).all():
                number += f" (expected {row['low']:.3g} to {row['high']:.3g})"
            text = f"{number}. {row['text']}" if number else row["text"]
            lines.append(f"{name}: {row['verdict']}. {text}")
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        return as_html(f"EncoderCheck of {self.n:,} stamps", self.table)


def check_encoder(encoder: Any, stamps: Any, catalog: Any = None) -> EncoderCheck:
    r"""Check whether stamps look like those that an encoder has learned from.

    An encoder describes stamps of another unit, seeing, pixel scale or order of bands as readily
    as its own, and wrongly. Medians of what is measured on the stamps are compared with the
    quantiles that the encoder keeps of its training stamps. The ranges are wide enough that all
    lines together differ for at most 5 % of the samples of stamps like those of the training, and
    wide enough to let differences pass that do not matter. A change that another one explains,
    such as the lower noise of smoothed stamps, is not reported twice: its verdict is "follows".

    Parameters
    ----------
    encoder : PropertyPretrainedEncoder, or an estimator that holds one as ``encoder_``
        Encoders of `load_pretrained`, and files of older versions, keep no statistics: the lines
        have numbers, but no ranges.
    stamps : array-like of shape (n, bands, height, width)
        At least 20. At most 2,000 of them, spread evenly, are measured. NaN pixels are missing.
    catalog : DataFrame or other table of n rows, default=None
        The same objects, in the same order. Its columns with names of the encoder's properties are
        compared with what the encoder predicts; NaN means not measured.

    Returns
    -------
    check : EncoderCheck

    Raises
    ------
    ValueError
        There are fewer than 20 stamps, they do not fit the encoder, or the catalogue has another
        number of rows.

    Notes
    -----
    A line differs if the median of the stamps leaves the training quantiles at 0.5 - d to 0.5 + d,
    where :math:`d = z\sqrt{1/n + 1/N} / 2` is the error of the rank of a median of n stamps,
    compared with N of the training; z is a normal quantile for 5 %, divided by the number of
    comparisons.

    Examples
    --------
    >>> import numpy as np
    >>> from skastro import PropertyPretrainedEncoder
    >>> stamps = np.random.default_rng(0).normal(size=(60, 2, 16, 16)).astype(np.float32)
    >>> encoder = PropertyPretrainedEncoder("stamp_resnet10", max_epochs=0).fit(stamps)
    >>> check_encoder(encoder, stamps).differing
    []
    >>> check_encoder(encoder, stamps + 5).table.loc[["sky"], ["value", "verdict"]].round(1)
         value  verdict
    line
    sky    5.0  differs
    """
    encoder = getattr(encoder, "encoder_", encoder)
    check_is_fitted(encoder)
    images = check_images(encoder, stamps, reset=False)
    if len(images) < _LEAST:
        raise ValueError(f"stamps has {len(images)} stamps: pass at least {_LEAST}.")
    table = None if catalog is None else to_frame(catalog, "catalog")
    if table is not None and len(table) != len(images):
        raise ValueError(
            f"catalog has {len(table)} rows, but there are {len(images)} stamps: pass one row for "
            "each stamp, in the same order."
        )
    rows = choose_rows(tuple(images.shape))
    sample = images[rows] if len(rows) < len(images) else images
    embeddings = np.asarray(encoder.transform(sample), np.float64)
    pixels = measure_pixels(read_stamps(sample, slice(None)))
    check = _Comparison(encoder, pixels, images.shape[1], min(images.shape[2:]))
    check.compare_pixels()
    check.compare_embeddings(embeddings)
    check.compare_properties(embeddings, None if table is None else table.iloc[rows])
    result = pd.DataFrame.from_dict(check.lines, orient="index").rename_axis("line")
    return EncoderCheck(result.loc[list(_LINES)], len(rows))


@dataclass
class _Comparison:
    """The stamps, the training statistics, and the lines about their differences."""

    encoder: Any
    pixels: dict[str, _Floats]
    n_bands: int
    side: int  # pixels of the shorter side
    lines: dict[str, dict[str, Any]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.known: TrainingStatistics | None = getattr(self.encoder, "statistics_", None)
        self.n = len(self.pixels["size"])
        names = getattr(self.encoder, "bands_", None)
        self.bands = names or tuple(f"band {i}" for i in range(self.n_bands))
        self.quantiles = {name: take_quantiles(values) for name, values in self.pixels.items()}
        n_targets = len(self.encoder.targets_.names)
        n_tests = 5 * self.n_bands + 3 + n_targets
        self.level = _FALSE_ALARMS / n_tests
        self.z = float(norm.isf(self.level / 2))
        # training quantiles, later with bands in the order that they seem to have
        self.trained = {} if self.known is None else dict(self.known.pixels)

    # ranges
    def now(self, name: str) -> Any:
        """Return the median of the stamps, of each band where there are bands."""
        return self.quantiles[name][_MIDDLE]

    def then(self, name: str) -> Any:
        """Return the median of the training stamps."""
        return self.trained[name][_MIDDLE]

    def span(self, name: str) -> tuple[Any, Any]:
        """Return the range in which the median is expected."""
        assert self.known is not None  # noqa: S101 - for mypy
        half = 0.5 * self.z * np.sqrt(1 / self.n + 1 / self.known.n)
        table = np.atleast_2d(self.trained[name].T)
        low, high = (
            np.array([np.interp(level, LEVELS, column) for column in table]).reshape(
                np.shape(self.then(name))
            )
            for level in (0.5 - half, 0.5 + half)
        )
        if name in ("noise", "noise_share", "size"):
            return low / _FACTOR, high * _FACTOR
        tolerance = {
            "sky": _SKY_SIGMA * self.trained["noise"][_MIDDLE],
            "flux": (_FACTOR - 1) * np.abs(self.then("flux")),
            "colour": _COLOUR,
            "correlation": _CORRELATION,
        }[name]
        return low - tolerance, high + tolerance

    def is_off(self, name: str, values: Any = None) -> Any:
        """Return whether medians lie outside their range; unknown ones do not."""
        values = self.now(name) if values is None else values
        low, high = self.span(name)
        return (values < low) | (values > high)

    def add(
        self,
        line: str,
        measure: str,
        value: float,
        text: str,
        verdict: str = _ALIKE,
        span: tuple[float, float] = (np.nan, np.nan),
    ) -> None:
        """Add a line."""
        self.lines[line] = {
            "value": float(value), "low": float(span[0]), "high": float(span[1]),
            "measure": measure, "verdict": verdict, "text": text,
        }  # fmt: skip

    # lines
    def compare_pixels(self) -> None:
        """Add the lines of what is measured on the pixels: what explains others comes first."""
        if self.known is None:
            self.describe_pixels()
            return
        order = self.find_order()
        self.trained = {
            name: table[:, order] if table.ndim == 2 else table
            for name, table in self.trained.items()
        }
        self.compare_shapes()
        factors = self.compare_fluxes()
        self.compare_sky(factors)
        self.compare_bands(order)

    def describe_pixels(self) -> None:
        """Add lines without ranges, for encoders that keep no statistics."""
        text = "The encoder keeps no statistics of its training stamps"
        if self.encoder.image_shape_ is None:
            text += ", as it takes stamps of any survey."
        else:
            text += ", because an older version has saved it: fit it again."
        known = [name for name in self.bands if wavelength_of(name) is not None]
        self.add("bands", "bands of the stamps", self.n_bands, text, _UNKNOWN)
        if self.encoder.bands_ is None and not known:
            self.lines["bands"]["text"] += " Its bands have no names."
        sky, noise, flux = (self.now(name) for name in ("sky", "noise", "flux"))
        ratio = np.nanmedian(sky / np.where(noise > 0, noise, np.nan)) if noise.any() else np.nan
        for line, measure, value in (
            ("pixel scale", "half-light radius in pixels", self.now("size")),
            ("seeing", "correlation of neighbouring pixels", self.now("correlation")),
            ("zero point", "flux in the unit of the pixels", np.nanmedian(flux)),
            ("noise", "noise in the unit of the pixels", np.nanmedian(noise)),
            ("sky", "sky level in sigma of the noise", ratio),
        ):
            self.add(line, measure, value, text, _UNKNOWN)

    def find_order(self) -> NDArray[np.intp]:
        """Return the training band that each band looks like: its own, unless it does not fit."""
        identity = np.arange(self.n_bands)
        names = ("noise_share", "colour")
        if not any(self.is_off(name).any() for name in names):
            return identity
        cost = np.zeros((self.n_bands, self.n_bands))
        for name in names:
            table = self.trained[name]
            spread = np.maximum(table[_HIGH] - table[_LOW], 1e-6) / 2
            distance = (self.now(name)[:, None] - table[_MIDDLE][None]) / spread[None]
            cost += np.minimum(np.nan_to_num(distance), 10) ** 2
        order: NDArray[np.intp] = linear_sum_assignment(cost)[1]
        # another order is believed only where it explains most of the difference
        best, own = cost[identity, order].sum(), cost[identity, identity].sum()
        return order if best < own / 4 and best < self.n_bands else identity

    def compare_bands(self, order: NDArray[np.intp]) -> None:
        """Add the line of the bands, when all others are known."""
        moved = np.flatnonzero(order != np.arange(self.n_bands))
        measure = "bands in the place of another"
        if len(moved):
            names = " and ".join(self.bands[i] for i in moved)
            what = "are exchanged" if len(moved) == 2 else "have another order"
            text = (
                f"The bands {names} look as if they {what}: use stamps[:, "
                f"{np.argsort(order).tolist()}], or name the bands (bands=, --bands) when the "
                "encoder is fitted and here, and they are put in order."
            )
            self.add("bands", measure, len(moved), text, _DIFFERS, (0, 0))
            return
        named = "their names are known" if self.encoder.bands_ else "they have no names"
        off = self.is_off("colour") | self.is_off("noise_share")
        if not off.any():
            self.add("bands", measure, 0, f"Colours and noise fit, and {named}.", span=(0, 0))
            return
        causes = [line for line in _LINES if self.lines.get(line, {}).get("verdict") == _DIFFERS]
        names = ", ".join(np.array(self.bands)[off])
        if causes:
            text = f"Shares of {names} in flux and noise change with the line {causes[0]}."
            self.add("bands", measure, 0, text, _FOLLOWS, (0, 0))
        else:
            text = (
                f"The shares of {names} in flux and noise differ, and no other order fits better: "
                "compare filters and the kind of sources."
            )
            self.add("bands", measure, 0, text, _DIFFERS, (0, 0))

    def compare_shapes(self) -> None:
        """Add the lines of pixel scale and seeing, which both change the sizes of sources."""
        size, correlation = self.now("size"), self.now("correlation")
        size_off, smooth_off = bool(self.is_off("size")), bool(self.is_off("correlation"))
        ratio = size / self.then("size")
        cause = self._explain_sizes(smooth_off=smooth_off) if size_off else "seeing"
        # pixel scale
        text = "Sources are as large as those of the training."
        verdict = _ALIKE
        if size_off and cause == "pixel scale":
            verdict = _DIFFERS
            text = (
                f"Sources have {ratio:.2g} times the size in pixels: compare the pixel scales "
                "(arcsec per pixel), and resample the stamps to that of the training."
            )
        elif size_off:
            verdict, text = _FOLLOWS, "The seeing explains the sizes of the sources."
        span = tuple(edge / self.then("size") for edge in self.span("size"))
        self.add("pixel scale", "size relative to the training", ratio, text, verdict, span)
        # seeing
        scaled = verdict == _DIFFERS
        text, verdict = "Noise and sources are as sharp as those of the training.", _ALIKE
        if scaled and smooth_off:
            verdict, text = _FOLLOWS, "Neighbouring pixels are correlated as after resampling."
        elif smooth_off or (size_off and not scaled):
            verdict = _DIFFERS
            smoothed = ratio > 1 or correlation > self.then("correlation")
            kind = "less sharp" if smoothed else "sharper"
            text = (
                f"Stamps are {kind} (sources have {ratio:.2g} times the size): compare the seeing, "
                "and whether stamps were smoothed or resampled."
            )
        measure = "correlation of neighbouring pixels"
        self.add("seeing", measure, correlation, text, verdict, self.span("correlation"))

    def _explain_sizes(self, *, smooth_off: bool) -> str:
        """Return whether the pixel scale or the seeing explains other sizes of sources."""
        now, then = (
            _complete(table["size"][2:-2], _TOTAL_RADIUS * self.side)
            for table in (self.quantiles, self.trained)
        )
        if smooth_off:
            # noise that was smoothed says by how much
            added = _area_of(self.now("correlation")) - _area_of(self.then("correlation"))
            expected = np.sqrt(np.maximum(then[len(then) // 2] ** 2 + added, 0.25))
            agrees = abs(np.log(now[len(now) // 2] / expected)) < np.log(1.25)
            return "seeing" if agrees else "pixel scale"
        # smaller pixels hold less of the sky and its noise, and the seeing leaves it as it is
        growth = np.log(self.now("size") / self.then("size"))
        with np.errstate(divide="ignore", invalid="ignore"):
            loss = -np.nanmedian(np.log(self.now("noise") / self.then("noise")))
        if _LEAST_LOSS < loss / growth < _MOST_LOSS:
            return "pixel scale"
        # the seeing adds to the squares of all sizes, and the pixel scale multiplies all sizes
        squares = then**2 + np.median(now**2 - then**2)
        by_seeing = np.log(now / np.sqrt(np.maximum(squares, 0.25)))
        by_scale = np.log(now / then) - np.median(np.log(now / then))
        return "seeing" if np.abs(by_seeing).mean() < np.abs(by_scale).mean() else "pixel scale"

    def compare_fluxes(self) -> _Floats:
        """Add the lines of zero point and noise; return the factor of the unit in each band."""
        noise, flux = (self.now(name) for name in ("noise", "flux"))
        ratio = noise / np.where(self.then("noise") > 0, self.then("noise"), np.nan)
        noise_off, flux_off = self.is_off("noise"), self.is_off("flux")
        reason = next(
            (line for line in ("pixel scale", "seeing") if self.lines[line]["verdict"] == _DIFFERS),
            None,
        )
        # a unit changes noise and flux alike
        alike = noise_off & flux_off & ~self.is_off("flux", flux / ratio)
        alike &= (ratio > 1) == (flux > self.then("flux"))
        if reason:
            alike[:] = False
        factors = np.where(alike, ratio, 1.0)
        if alike.any():
            common = np.median(ratio[alike])
            near = np.abs(np.log(ratio / common)) < np.log(2 * _FACTOR - 1)
            factors[near & noise_off] = ratio[near & noise_off]
            alike |= near & noise_off
        self._add_zero_point(alike, flux_off & ~alike, ratio, reason)
        self._add_noise(noise_off, alike, ratio, reason)
        return factors

    def _add_zero_point(
        self, alike: NDArray[np.bool_], off: NDArray[np.bool_], ratio: _Floats, reason: str | None
    ) -> None:
        flux, measure = self.now("flux"), "flux relative to the training"
        then = np.where(self.then("flux") != 0, self.then("flux"), np.nan)
        low, high = self.span("flux")
        worst = _find_worst(np.where(alike, ratio, flux / then), alike | off)
        span = tuple(sorted((low[worst] / then[worst], high[worst] / then[worst])))
        value = ratio[worst] if alike[worst] else flux[worst] / then[worst]
        text, verdict = "Sources are as bright as those of the training.", _ALIKE
        if alike.any():
            verdict = _DIFFERS
            text = (
                f"Flux and noise of {self._name(alike)} are {value:.3g} times those of the "
                f"training ({-2.5 * np.log10(value):+.2f} mag): compare units and zero points, and "
                f"multiply by {1 / value:.3g}."
            )
        elif off.any() and reason:
            verdict, text = _FOLLOWS, f"Fluxes can be compared when the {reason} agrees."
        elif off.any():
            verdict = _DIFFERS
            text = (
                f"Sources have {value:.3g} times the flux in {self._name(off)}, and the noise does "
                "not change with it: compare zero points, and the range of magnitudes."
            )
        self.add("zero point", measure, value, text, verdict, span)

    def _add_noise(
        self, off: NDArray[np.bool_], unit: NDArray[np.bool_], ratio: _Floats, reason: str | None
    ) -> None:
        low, high = (edge / self.then("noise") for edge in self.span("noise"))
        left = off & ~unit
        worst = _find_worst(ratio, left if left.any() else off)
        text, verdict = "The noise is that of the training.", _ALIKE
        if left.any() and reason:
            verdict, text = _FOLLOWS, f"The noise can be compared when the {reason} agrees."
        elif left.any():
            verdict = _DIFFERS
            text = (
                f"The noise of {self._name(left)} is {ratio[worst]:.3g} times that of the "
                "training: compare exposure times and depth, and the unit of the pixels."
            )
        elif off.any():
            verdict, text = _FOLLOWS, "The zero point explains the noise."
        span = (low[worst], high[worst])
        self.add("noise", "noise relative to the training", ratio[worst], text, verdict, span)

    def compare_sky(self, factors: _Floats) -> None:
        """Add the line of the sky, in the unit of the training and in sigma of its noise."""
        noise = np.where(self.then("noise") > 0, self.then("noise"), np.nan)
        sky = self.now("sky") / factors
        off = self.is_off("sky", sky)
        low, high = (edge / noise for edge in self.span("sky"))
        worst = _find_worst(np.exp(np.clip((sky - self.then("sky")) / noise, -50, 50)), off)
        value = sky[worst] / noise[worst]
        text, verdict = "The sky level is that of the training.", _ALIKE
        scaled = self.lines["pixel scale"]["verdict"] == _DIFFERS
        if off.any() and scaled:
            verdict, text = _FOLLOWS, "The sky can be compared when the pixel scale agrees."
        elif off.any():
            verdict = _DIFFERS
            text = (
                f"The sky of {self._name(off)} is {value:.3g} sigma, and "
                f"{self.then('sky')[worst] / noise[worst]:.3g} sigma in the training: subtract it "
                "in the same way."
            )
        self.add(
            "sky",
            "sky level in sigma of the noise",
            value,
            text,
            verdict,
            (low[worst], high[worst]),
        )

    def compare_embeddings(self, embeddings: _Floats) -> None:
        """Add the line of the stamps that lie beyond the embedding of the training stamps."""
        if self.known is None:
            spread = float(np.sqrt((embeddings**2).mean()))
            text = "Numbers far from 1 would mean stamps unlike those of the training."
            self.add("embedding", "spread of the embedding", spread, text, _UNKNOWN)
            return
        distances = self.known.measure_distances(embeddings)
        share = float((distances > self.known.distances[-1]).mean())
        expected = 1 - LEVELS[-1]
        high = max(_BEYOND, binom.isf(self.level, self.n, expected) / self.n)
        text, verdict = "The stamps lie among those of the training.", _ALIKE
        if share > high:
            verdict = _DIFFERS
            text = (
                f"{share:.0%} of the stamps lie beyond 99 % of those of the training, so that "
                "their embeddings and predictions mean little: put the other lines right, or "
                "train an encoder on these stamps."
            )
        measure = "share of stamps beyond the training"
        self.add("embedding", measure, share, text, verdict, (0.0, high))

    def compare_properties(self, embeddings: _Floats, table: pd.DataFrame | None) -> None:
        """Add the line of predicted properties that the catalogue has, too."""
        targets = self.encoder.targets_
        names = [name for name in targets.names if table is not None and name in table.columns]
        found = []
        if table is not None and names:
            predicted = self.encoder.predict_embedded(embeddings)
            given = table[names].apply(pd.to_numeric, errors="coerce")
            scales = dict(zip(targets.names, targets.scale, strict=False))
            for name in names:
                residual = predicted[name].to_numpy() - given[name].to_numpy(np.float64)
                residual = residual[np.isfinite(residual)]
                if len(residual) >= _LEAST and name in scales:
                    found.append((name, *self._compare_residual(name, residual, scales[name])))
        if not found:
            missing = "the catalogue has" if table is not None else "no catalogue was given with"
            text = f"Nothing to compare: {missing} {'none' if table is not None else 'columns'} of "
            text += f"the properties of the encoder ({', '.join(targets.names[:3])} ...)."
            self.add("predictions", "predicted minus catalogue", np.nan, text, _UNKNOWN)
            return
        off = [name for name, value, low, high in found if not low <= value <= high]
        name, value, low, high = max(
            found, key=lambda row: abs(row[1] - (row[2] + row[3]) / 2) / (row[3] - row[2])
        )
        unit = targets.units.get(name, "")
        measure = f"median of predicted minus catalogue {name}" + (f" in {unit}" if unit else "")
        text, verdict = f"None of {len(found)} compared properties differs.", _ALIKE
        if off:
            verdict = _DIFFERS
            text = (
                f"Predictions of {', '.join(off)} differ from the catalogue: compare its "
                "photometric system and units, and put the other lines right."
            )
        self.add("predictions", measure, value, text, verdict, (low, high))

    def _compare_residual(
        self, name: str, residual: _Floats, scale: float
    ) -> tuple[float, float, float]:
        """Return the median of residuals, and the range in which it is expected."""
        value = float(np.median(residual))
        offset = self.known.offsets.get(name, 0.0) if self.known else 0.0
        offset = offset if np.isfinite(offset) else 0.0
        spread = MAD_TO_SIGMA * float(np.median(np.abs(residual - value)))
        n_known = self.known.n if self.known else np.inf
        error = np.sqrt(np.pi / 2) * spread * np.sqrt(1 / len(residual) + 1 / n_known)
        width = max(_PROPERTY_SPREADS * scale, self.z * error)
        return value, offset - width, offset + width

    def _name(self, which: NDArray[np.bool_]) -> str:
        """Return the names of some bands."""
        if which.all():
            return "all bands" if len(which) > 1 else "the band"
        return ", ".join(np.array(self.bands)[which])


def _complete(sizes: _Floats, radius: float) -> _Floats:
    """Return half-light radii of whole sources, from those of their light inside a radius.

    The sources are taken to be Gaussian.
    """
    whole = np.linspace(0.05, 3, 200) * radius
    inside = 1 - 0.5 ** ((radius / whole) ** 2)
    measured = whole * np.sqrt(-np.log2(1 - inside / 2))
    return np.asarray(np.interp(sizes, measured, whole))


def _area_of(correlation: float) -> float:
    """Return the squared half-light radius of the smoothing that correlates white noise."""
    clipped = min(max(correlation, 1e-3), 0.999)
    return float(_SMOOTHED_AREA / (-4 * np.log(clipped))) if correlation > _CORRELATION else 0.0


def _find_worst(ratios: _Floats, which: NDArray[np.bool_]) -> int:
    """Return the band with the most extreme ratio, among some bands if there are any."""
    extreme = np.abs(np.log(np.maximum(np.nan_to_num(ratios, nan=1.0), 1e-9)))
    return int(np.where(which, 1e3 + extreme, extreme).argmax())
