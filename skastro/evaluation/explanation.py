"""Explain why a classifier gives a stamp its class: where, by which properties, and like whom."""

from __future__ import annotations

import copy
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.utils.validation import check_is_fitted

from skastro.estimators.classifier import SelfSupervisedClassifier
from skastro.evaluation.occlusion import occlude
from skastro.evaluation.shapley import PropertyShapley
from skastro.probes.kernel_probe import KernelProbe
from skastro.stamps.arrays import check_images
from skastro.stamps.photometry import measure_properties
from skastro.utils.files import load_arrays, save_arrays
from skastro.utils.notebooks import as_html
from skastro.utils.progress import report_to
from skastro.utils.validation import check_properties, check_whole_number

BASE, REST = "typical object", "beyond the named properties"  # rows of the table
_NEAREST = ["object", "rank", "row", "class", "similarity"]
_COLOUR = r"band\d+_band\d+"
_MEASURED = "measured_"  # how the names of predictions begin that repeat a measurement
_N_FOR, _N_AGAINST, _LEAST = 4, 2, 0.005  # properties in a sentence, and their least contribution


@dataclass(eq=False, repr=False)
class Explanation:
    """Hold the reasons for the classes of n stamps, as `explain` finds them.

    Attributes
    ----------
    classes : array of shape (n,)
        The class of each stamp that is explained.
    probabilities : float64 array of shape (n,)
        Its probability.
    table : DataFrame
        One row for each property of each stamp: ``object`` (row of the stamp), ``class``,
        ``probability``, ``property``, ``unit``, ``value``, ``typical`` (the value of the typical
        object) and ``contribution``. The contributions of a stamp add up to its probability. The
        first one is the probability of the typical object, and the last one what the named
        properties do not explain; between them, the properties that speak for the class come first.
        Only these rows, without properties, where the classifier has no probe.
    nearest : DataFrame
        The most similar labelled stamps: ``object``, ``rank``, ``row`` (among the rows of ``fit``
        that had a label), ``class`` (empty for files of versions that did not keep it) and
        ``similarity``, up to 1.
    where : float32 array of shape (n, height, width) or None
        Drop of the probability where patches of all bands are covered.
    bands : float32 array of shape (n, bands, height, width) or None
        Drop of the probability where patches of one band are covered.

    Examples
    --------
    >>> columns = ["object", "class", "probability", "property", "unit", "value", "contribution"]
    >>> table = pd.DataFrame(
    ...     [
    ...         (0, "spiral", 0.9, "typical object", "", np.nan, 0.25),
    ...         (0, "spiral", 0.9, "arm_strength", "", 0.7, 0.6),
    ...         (0, "spiral", 0.9, "beyond the named properties", "", np.nan, 0.05),
    ...     ],
    ...     columns=columns,
    ... )
    >>> Explanation(np.array(["spiral"]), np.array([0.9]), table, pd.DataFrame())
    spiral 0.90: arm strength 0.7 (+0.60)
    """

    classes: NDArray[Any]
    probabilities: NDArray[np.float64]
    table: pd.DataFrame
    nearest: pd.DataFrame
    where: NDArray[np.float32] | None = None
    bands: NDArray[np.float32] | None = None

    @property
    def sentences(self) -> list[str]:
        """Say for each stamp which properties speak for its class, and which against it."""
        groups = self.table.groupby("object", sort=True)
        return [_say(group) for _, group in groups]

    def __repr__(self) -> str:
        return "\n".join(self.sentences)

    def _repr_html_(self) -> str:
        return as_html(repr(self), self.table.drop(columns="probability"), self.nearest)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write tables and maps to a file ``.npz``.

        Parameters
        ----------
        path : str or path-like
            File to write.

        Raises
        ------
        ValueError
            The path has another ending.
        OSError
            The file cannot be written.
        """
        arrays = {"classes": self.classes, "probabilities": self.probabilities}
        arrays |= {f"table.{name}": self.table[name].to_numpy() for name in self.table}
        arrays |= {f"nearest.{name}": self.nearest[name].to_numpy() for name in self.nearest}
        maps = {"where": self.where, "bands": self.bands}
        arrays |= {name: values for name, values in maps.items() if values is not None}
        save_arrays(path, arrays)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Self:
        """Read an explanation that `save` has written.

        Parameters
        ----------
        path : str or path-like
            File of `save`.

        Returns
        -------
        explanation : Explanation

        Raises
        ------
        FileNotFoundError
            The file does not exist.
        ValueError
            The file is damaged, or another file.
        """
        arrays = load_arrays(path, ("classes", "probabilities"), writer="Explanation.save")
        table, nearest = (
            pd.DataFrame({
                name.removeprefix(part): values
                for name, values in arrays.items() if name.startswith(part)
            })
            for part in ("table.", "nearest.")
        )  # fmt: skip
        return cls(
            arrays["classes"], arrays["probabilities"], table, nearest,
            arrays.get("where"), arrays.get("bands"),
        )  # fmt: skip


def explain(
    classifier: SelfSupervisedClassifier,
    X: Any,
    *,
    classes: Any = None,
    catalog: Any = None,
    where: bool = True,
    n_nearest: int = 5,
    random_state: int = 0,
) -> Explanation:
    """Explain the classes of a few stamps: by properties, by pixels and by labelled examples.

    The probability of a class is shared among named properties by Shapley values. What counts for
    a set of properties is the probability at the embedding and the properties that are expected
    when only this set is known (Aas, Jullum & Loland 2021, Artificial Intelligence 298, 103502):
    so they get what the embedding knows about them, too. The expectation is a ridge regression on
    the labelled rows, which the probe of the classifier keeps. Where the pixels matter is found by
    covering patches (Zeiler & Fergus 2014, arXiv:1311.2901).

    Parameters
    ----------
    classifier : SelfSupervisedClassifier
        Fitted. The strategies "finetune" and "scratch", and classifiers without any label, have no
        properties: only the pixels are explained.
    X : array-like of shape (n, bands, height, width) or (n, features)
        Stamps. Each takes hundreds of predictions: pass a few.
    classes : object or array-like of shape (n,), default=None
        The class to explain, or one for each stamp. None explains the predicted class.
    catalog : array-like, DataFrame or astropy Table of shape (n, q), default=None
        As in `SelfSupervisedClassifier.predict`.
    where : bool, default=True
        Whether to cover patches. Without, an explanation takes milliseconds.
    n_nearest : int, default=5
        Number of labelled examples for each stamp.
    random_state : int, default=0
        Seed of the orders of the properties.

    Returns
    -------
    explanation : Explanation

    Raises
    ------
    TypeError
        The classifier is not a `SelfSupervisedClassifier`.
    ValueError
        A class is not one of the classifier's, or stamps and catalogue do not fit.

    See Also
    --------
    ExplanationDisplay : Draw the result.

    Notes
    -----
    A property that is NaN counts as typical. Of properties that correlate by more than 0.9, the
    first one stands for all. The typical object is the mean over the classes. Shapley values tell
    what the classifier uses, which need not be the cause of the class.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> stamps = rng.normal(size=(60, 3, 8, 8)).astype(np.float32)
    >>> labels = np.where(np.arange(60) % 2, "star", "galaxy")
    >>> stamps[labels == "star", :, 3:5, 3:5] += 20.0
    >>> stamps[labels == "galaxy", :, 1:7, 1:7] += 5.0
    >>> from skastro import PropertyPretrainedEncoder
    >>> encoder = PropertyPretrainedEncoder("stamp_resnet10", max_epochs=2, random_state=0)
    >>> classifier = SelfSupervisedClassifier(encoder, strategy="probe").fit(stamps, labels)
    >>> reasons = explain(classifier, stamps[-2:])
    >>> reasons.classes.tolist(), reasons.nearest["class"][0]
    (['galaxy', 'star'], 'galaxy')
    >>> bool(np.allclose(reasons.table.groupby("object")["contribution"].sum(),
    ...                  reasons.probabilities))
    True
    """
    if not isinstance(classifier, SelfSupervisedClassifier):
        raise TypeError(
            f"{type(classifier).__name__} cannot be explained: pass a fitted "
            "SelfSupervisedClassifier."
        )
    check_is_fitted(classifier)
    check_whole_number("n_nearest", n_nearest, least=0)
    images = check_images(classifier, X, reset=False)
    if catalog is not None:
        catalog = check_properties(catalog, len(images), name="catalog", allow_empty=True)
    probabilities = classifier.predict_proba(images, catalog=catalog)
    codes = _find_codes(classifier, classes, probabilities)
    own = probabilities[np.arange(len(codes)), codes]

    # in the language of the catalogue
    probe, blend = classifier.probe_, classifier.blend_
    if catalog is not None and classifier.catalog_probe_ is not None:
        probe, blend = classifier.catalog_probe_, classifier.catalog_blend_
    names = classifier.classes_[codes]
    table, nearest = tabulate_reasons(names, own), pd.DataFrame(columns=_NEAREST)
    if probe is not None and blend < 1:
        table, nearest = _explain_columns(
            classifier, probe, images, catalog, codes, own, 1 - blend, n_nearest, random_state
        )
    if not where:
        return Explanation(names, own, table, nearest)

    # where
    quick, maps = _without_views(classifier), []
    report = report_to("covering patches", len(images))
    for row, code in enumerate(codes.tolist()):
        one = None if catalog is None else catalog.iloc[[row]]

        def predict(stamps: Any, one: Any = one) -> NDArray[np.float64]:
            rows = None if one is None else one.iloc[np.zeros(len(stamps), int)]
            return quick.predict_proba(stamps, catalog=rows)

        maps.append(occlude(predict, np.asarray(images[row : row + 1], np.float32)[0], code))
        report(row + 1)
    whole, single = (np.stack(part) for part in zip(*maps, strict=True))
    return Explanation(names, own, table, nearest, whole, single)


def name_columns(
    encoder: Any,
    measured: Mapping[str, str],
    catalog: Sequence[str] = (),
    teachers: Sequence[tuple[Any, float]] = (),
) -> dict[int, tuple[str, str]]:
    """Return name and unit of the columns of a probe that can explain it, the clearest first.

    Parameters
    ----------
    encoder : PropertyPretrainedEncoder
        Fitted. Its embedding and the properties that it predicts are the first columns.
    measured : mapping of str to str
        Names and units of the measured columns, which follow.
    catalog : sequence of str, default=()
        Names of the columns of a catalogue, which follow.
    teachers : sequence of (PropertyPretrainedEncoder, float), default=()
        Teachers, whose embedding and predictions are the last columns, with their share in the
        probabilities: without any they cannot explain them.

    Returns
    -------
    names : dict of int to (str, str)
        No name twice, no kinds of sources (they are classes), and no prediction that repeats a
        measured property.
    """
    found: list[tuple[int, int, str, str]] = []  # preference, column, name, unit
    used, start = {*measured, *catalog}, 0
    for number, (each, share) in enumerate([(encoder, 1.0), *teachers]):
        targets, start = each.targets_, start + len(each.embedding_mean_)
        kinds = set(getattr(targets, "kinds", ()))
        for column, name in enumerate(targets.names, start):
            if share > 0 and name not in kinds | used and not name.startswith(_MEASURED):
                found.append((1, column, name, targets.units.get(name, "")))
                used.add(name)
        start += len(targets.names)
        if number == 0:
            found += [
                (2 + name.startswith("mag_core"), column, name, unit)
                for column, (name, unit) in enumerate(measured.items(), start)
            ]
            start += len(measured)
            found += [(0, column, name, "") for column, name in enumerate(catalog, start)]
            start += len(catalog)
    return {column: (name, unit) for _, column, name, unit in sorted(found)}


def tabulate_reasons(
    classes: NDArray[Any],
    probabilities: NDArray[np.float64],
    properties: PropertyShapley | None = None,
    columns: Any = None,
    codes: Any = None,
    *,
    units: Mapping[str, str] | None = None,
    share: float = 1.0,
    random_state: int = 0,
) -> pd.DataFrame:
    """Return the table of `Explanation`.

    Parameters
    ----------
    classes : array of shape (n,)
        The class of each object.
    probabilities : float64 array of shape (n,)
        Its probability.
    properties : PropertyShapley, default=None
        What explains the probe; None leaves the properties out.
    columns : float64 array of shape (n, d), default=None
        Columns of the probe.
    codes : int array of shape (n,), default=None
        Number of the class of each object.
    units : mapping of str to str, default=None
        Units of the properties.
    share : float, default=1.0
        Share of the probe in the probabilities.
    random_state : int, default=0
        Seed of the orders of the properties.

    Returns
    -------
    table : DataFrame
    """
    n = len(classes)
    base, added, names = np.zeros(n), np.empty((n, 0)), np.empty(0, dtype=str)
    values, typical = added, np.empty(0)
    if properties is not None:
        base, added, _ = properties.explain(columns, codes, random_state=random_state)
        added, names = share * added, np.array(properties.names_, dtype=str)
        values, typical = columns[:, properties.columns_], properties.typical_
    parts = []
    for row in range(n):
        order = np.argsort(-added[row], kind="stable")
        rest = probabilities[row] - base[row] - added[row].sum()
        part = pd.DataFrame({
            "object": row, "class": classes[row], "probability": probabilities[row],
            "property": [BASE, *names[order], REST],
            "unit": ["", *((units or {}).get(name, "") for name in names[order]), ""],
            "value": [np.nan, *values[row, order], np.nan],
            "typical": [np.nan, *typical[order], np.nan],
            "contribution": [base[row], *added[row, order], rest],
        })  # fmt: skip
        parts.append(part)
    return pd.concat(parts, ignore_index=True)


def _explain_columns(
    classifier: SelfSupervisedClassifier,
    probe: KernelProbe,
    images: Any,
    catalog: pd.DataFrame | None,
    codes: NDArray[np.intp],
    probabilities: NDArray[np.float64],
    share: float,
    n_nearest: int,
    seed: int,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return the table and the nearest labelled examples."""
    units = measure_properties(images[:1]).attrs["units"]
    names = name_columns(
        classifier.encoder_,
        {name: units.get(name, "") for name in classifier.measured_names_},
        () if catalog is None else classifier.catalog_names_,
        list(zip(classifier.teachers_.values(), probe.shares_[1:], strict=True)),
    )
    named = name_bands(
        {k: name for k, (name, _) in names.items()}, getattr(classifier, "bands_", None)
    )
    calibration = classifier.calibration_
    labels = None if calibration is None else calibration.codes[probe.centers_]
    columns = classifier.describe(images, catalog=catalog)
    properties = PropertyShapley(probe, named, labels)
    table = tabulate_reasons(
        classifier.classes_[codes], probabilities, properties, columns, codes,
        units={named[k]: unit for k, (_, unit) in names.items()}, share=share, random_state=seed,
    )  # fmt: skip

    # the most similar centres
    similar = properties.similarities(columns)
    nearest = np.argsort(-similar, axis=1, kind="stable")[:, :n_nearest]
    n, k = nearest.shape
    rows, place = np.repeat(np.arange(n), k), nearest.ravel()
    examples = pd.DataFrame({
        "object": rows, "rank": np.tile(np.arange(1, k + 1), n), "row": probe.centers_[place],
        "class": "" if labels is None else classifier.classes_[labels[place]],
        "similarity": similar[rows, place],
    })  # fmt: skip
    return table, examples


def name_bands(names: Mapping[int, str], bands: Sequence[str] | None) -> dict[int, str]:
    """Write the names of the bands, if known, into those of properties: "u-g" for "band0_band1".

    Examples
    --------
    >>> name_bands({0: "band0_band1", 1: "mag_core_band1"}, ("g", "r"))
    {0: 'g-r', 1: 'mag_core_r'}
    """
    if bands is None:
        return dict(names)
    taken, named = set(names.values()), {}
    for column, name in names.items():
        text = re.sub(r"band(\d+)", lambda found: bands[int(found[1])], name)
        if re.fullmatch(_COLOUR, name):
            text = "-".join(bands[int(number)] for number in re.findall(r"\d+", name))
        named[column] = name if text in taken else text
    return named


def _find_codes(
    classifier: SelfSupervisedClassifier, classes: Any, probabilities: NDArray[np.float64]
) -> NDArray[np.intp]:
    """Return the number of the class of each object that is explained."""
    if classes is None:
        return probabilities.argmax(axis=1)
    wanted, known = np.asarray(classes), classifier.classes_.tolist()
    if wanted.ndim and wanted.shape != (len(probabilities),):
        raise ValueError(
            f"classes has shape {wanted.shape}, but X has {len(probabilities)} stamps: pass one "
            "class, or one for each."
        )
    for name in wanted.ravel().tolist():
        if name not in known:
            raise ValueError(
                f"classes holds {name!r}, which is not a class of the classifier: choose from "
                f"{', '.join(map(str, known))}."
            )
    codes = [known.index(name) for name in wanted.ravel().tolist()]
    return np.broadcast_to(np.array(codes, dtype=np.intp), len(probabilities)).copy()


def _without_views(classifier: SelfSupervisedClassifier) -> SelfSupervisedClassifier:
    """Return a copy that sees each stamp in one orientation, which takes an eighth of the time."""
    quick = copy.copy(classifier)
    encoders = [copy.copy(each) for each in (quick.encoder_, *quick.teachers_.values())]
    for encoder in encoders:
        encoder.average_views = False
    quick.encoder_ = encoders[0]
    quick.teachers_ = dict(zip(quick.teachers_, encoders[1:], strict=True))
    return quick


def _say(reasons: pd.DataFrame) -> str:
    """Return the sentence on one object."""
    first = reasons.iloc[0]
    speak_for, against = list_reasons(reasons)
    parts = [", ".join(speak_for[:_N_FOR])] if speak_for else []
    parts += [f"against it {', '.join(against[:_N_AGAINST])}"] if against else []
    start = f"{first['class']} {first['probability']:.2f}"
    return f"{start}: {'; '.join(parts)}" if parts else start


def list_reasons(reasons: pd.DataFrame) -> tuple[list[str], list[str]]:
    """Return what speaks for the class of one object, and against it, the strongest first.

    Each is a text such as "arm strength 0.7 (+0.24)"; ``reasons`` are rows of `tabulate_reasons`.
    """
    named = reasons[~reasons["property"].isin([BASE, REST])]
    names = [readable_name(name) for name in named["property"]]
    texts = [
        f"{name} {'unknown' if np.isnan(value) else format(value, '.3g')} ({added:+.2f})"
        for name, value, added in zip(names, named["value"], named["contribution"], strict=True)
    ]
    added = named["contribution"].to_numpy()
    speak_for = [texts[k] for k in np.flatnonzero(added >= _LEAST)]
    return speak_for, [texts[k] for k in np.flatnonzero(added <= -_LEAST)[::-1]]


def readable_name(name: str) -> str:
    """Return the name of a property as text: colours with a minus, words with blanks.

    Examples
    --------
    >>> readable_name("arm_strength"), readable_name("band0_band1"), readable_name("mag_r")
    ('arm strength', 'band0-band1', 'mag_r')
    """
    if re.fullmatch(_COLOUR, name):
        return name.replace("_", "-")
    return name if name.startswith(("mag_", "err_")) else name.replace("_", " ")
