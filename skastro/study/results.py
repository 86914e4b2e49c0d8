"""Hold the results of a study, and write its tables, figures, thumbnails and report."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from skastro.embeddings.projection import Projection
from skastro.estimators.encoder import PropertyPretrainedEncoder
from skastro.evaluation.calibration import accuracy_by_magnitude, reliability_curve
from skastro.evaluation.label_efficiency import METHOD, LabelEfficiencyCurve, describe_html
from skastro.pages.report import write_report
from skastro.pages.summary import row_name, summarise
from skastro.pages.thumbnails import write_thumbnails
from skastro.plots.confusion import ConfusionDisplay
from skastro.plots.label_efficiency import LabelEfficiencyDisplay
from skastro.plots.magnitude import MagnitudeDisplay
from skastro.plots.projection import ProjectionDisplay
from skastro.plots.property import PropertyDisplay
from skastro.plots.reliability import ReliabilityDisplay
from skastro.study.data import StudyData
from skastro.study.teachers import compare_morphology
from skastro.utils.files import write_arrays
from skastro.utils.packages import import_optional

_TABLES = (
    "scores", "predictions", "mistakes", "pretext", "objects", "clusters", "representations",
)  # fmt: skip
_TWO_WIDTHS = ("label_efficiency", "by_magnitude")  # figures for screens and for phones
STUDY_FILES = frozenset(
    ["index.html", "config.json", "encoder.safetensors", "embeddings.npz", "thumbnails.webp"]
    + [f"{name}.csv" for name in (*_TABLES, "by_magnitude", "calibration", "morphology")]
    + [f"{name}.png" for name in ("pretext", "confusion", "calibration", "representations")]
    + [f"{name}{ending}" for name in _TWO_WIDTHS for ending in (".png", "_phone.png")]
)
_PHONE_WIDTH = 4.2  # inches; at this width the text of a figure is readable on a phone


@dataclass(frozen=True, repr=False, eq=False)
class Study:
    """Results of a study of n stamps, as `run_study` returns them."""

    curve: LabelEfficiencyCurve
    encoder: PropertyPretrainedEncoder  # pretrained on the rows whose `split` is "train"
    embeddings: NDArray[np.float32]  # (n, d)
    # (n,) "train" (labelled or not), "test", or "aside" for unlabelled rows of the test groups
    split: NDArray[Any]
    # columns id, split, label, used (whether the classifier learned from the row), prediction,
    # and the probabilities p_<class>
    predictions: pd.DataFrame
    mistakes: pd.DataFrame  # id and reason of the most confident mistakes, by `explain_mistakes`
    pretext: pd.DataFrame  # quality of the properties predicted on test rows: `grade_properties`
    predicted: pd.DataFrame  # (n, p) properties predicted by the encoder, in their units
    # columns id, x and y of the projection, cluster (-1 = noise), cluster_probability,
    # outlier_score, the properties, and the morphology
    objects: pd.DataFrame
    # (n, q) what a simulated teacher sees, where the classes depend on it, with units in `attrs`
    morphology: pd.DataFrame | None
    projections: dict[str, Projection]
    representations: pd.DataFrame  # scores of each representation, by `score_embedding`
    magnitude: str  # property by which results are binned
    config: dict[str, Any]  # what is needed to repeat the study, for JSON

    def __repr__(self) -> str:
        sentences = summarise(self.curve, steps=self.config["plan"]["steps"])
        return "\n".join([f"Study of {len(self.embeddings):,} stamps", *sentences])

    def _repr_html_(self) -> str:
        return describe_html(self.curve, repr(self))


def write_study(study: Study, data: StudyData, folder: Path) -> None:
    """Write all files of a study of some data into an empty folder."""
    _write_tables(study, folder)
    study.encoder.save(folder / "encoder.safetensors")
    ids = data.ids if data.ids.dtype.kind in "iu" else data.ids.astype(str)
    arrays = {"ids": ids, "embeddings": study.embeddings, "split": study.split}
    write_arrays(folder / "embeddings.npz", arrays)
    (folder / "config.json").write_text(json.dumps(study.config, indent=2) + "\n")
    write_thumbnails(folder / "thumbnails.webp", data.images)
    _draw_curve(study, folder)
    _write_test_results(study, data, folder)
    _draw_pretext(study, folder)
    _draw_projections(study, folder)
    write_report(folder)


def _write_tables(study: Study, folder: Path) -> None:
    # without the seconds, which differ from run to run, the same seed gives the same file
    scores = study.curve.scores.drop(columns="fit_seconds", errors="ignore")
    clusters = study.objects[["id", "cluster", "cluster_probability", "outlier_score"]]
    angles = {
        name: study.objects[name].map("{:.6f}".format)  # of a degree
        for name in ("ra", "dec")
        if name in study.objects
    }
    for name, table, digits in (
        ("scores", scores, None),
        ("predictions", study.predictions, "%.6f"),
        ("mistakes", study.mistakes, None),
        ("pretext", study.pretext, "%.6g"),
        ("objects", study.objects.assign(**angles), "%.6g"),
        ("clusters", clusters, "%.6g"),
        ("representations", study.representations.reset_index(), "%.4g"),
    ):
        table.to_csv(folder / f"{name}.csv", index=False, float_format=digits)
    if study.morphology is not None:
        table = compare_morphology(study.morphology, study.predictions["label"])
        table.to_csv(folder / "morphology.csv", index=False, float_format="%.4g")


def _draw_curve(study: Study, folder: Path) -> None:
    # compared with a network trained for a few steps only, any method seems to save labels
    plan = study.config["plan"]
    is_fair = plan["scratch"] and not plan["steps"] and len(study.curve.label_counts) > 1
    saving = (METHOD, "scratch") if is_fair else None
    names = [row_name(name, plan["steps"]) for name in study.curve.scores["estimator"]]
    curve = LabelEfficiencyCurve(study.curve.scores.assign(estimator=names))
    for ending, size, legend in (("", (8.0, 4.6), False), ("_phone", (_PHONE_WIDTH, 4.8), "below")):
        with _new_figure(folder / f"label_efficiency{ending}.png", size) as figure:
            LabelEfficiencyDisplay.from_result(
                curve, saving=saving, legend=legend, ax=figure.subplots()
            )


def _write_test_results(study: Study, data: StudyData, folder: Path) -> None:
    """Write tables and figures of the classification of the test rows."""
    rows = np.flatnonzero((study.split == "test") & (study.predictions["label"] != ""))
    table = study.predictions.iloc[rows]
    true, predicted = table["label"].to_numpy(), table["prediction"].to_numpy()
    probabilities = table.filter(regex="^p_").rename(columns=lambda name: name.removeprefix("p_"))

    # accuracy by magnitude
    magnitude = study.objects[study.magnitude].to_numpy()[rows]
    if np.isfinite(magnitude).any():
        bins = accuracy_by_magnitude(true, predicted, magnitude)
        bins.to_csv(folder / "by_magnitude.csv", index=False, float_format="%.4f")
        methods, name = {METHOD: predicted}, study.magnitude
        for ending, size in (("", (7.0, 4.0)), ("_phone", (_PHONE_WIDTH, 3.6))):
            with _new_figure(folder / f"by_magnitude{ending}.png", size) as figure:
                MagnitudeDisplay.from_predictions(
                    true, methods, magnitude, name=name, unit=None, ax=figure.subplots()
                )

    # calibration of the probabilities
    bins = reliability_curve(true, probabilities)
    bins.to_csv(folder / "calibration.csv", index=False, float_format="%.4f")
    with _new_figure(folder / "calibration.png", (5.0, 4.6)) as figure:
        ReliabilityDisplay.from_predictions(true, probabilities, ax=figure.subplots())

    # confusion of the classes, with example stamps
    width, confidence = 1.7 * len(set(true) | set(predicted)), probabilities.max(axis=1).to_numpy()
    with _new_figure(folder / "confusion.png", (2.2 + width, 1.2 + width)) as figure:
        ConfusionDisplay.from_predictions(
            true, predicted, images=data.images[rows], confidence=confidence, ax=figure.subplots()
        )


def _draw_pretext(study: Study, folder: Path) -> None:
    """Draw the best predicted property among those with about the most true values."""
    quality = study.pretext[study.pretext["n_test"] > 1]
    if quality.empty:
        return
    most = quality[quality["n_test"] >= 0.9 * quality["n_test"].max()]
    best = most.loc[most["r2"].idxmax()]
    test, name = study.split == "test", best["property"]
    true, predicted = study.objects.loc[test, name], study.predicted.loc[test, name]
    with _new_figure(folder / "pretext.png", (5.2, 6.0)) as figure:
        PropertyDisplay.from_predictions(
            true, predicted, name=name, unit=best["unit"] or None, ax=figure.subplots()
        )


def _draw_projections(study: Study, folder: Path) -> None:
    """Draw projections of several representations side by side."""
    if len(study.projections) > 1:
        labels = study.predictions["label"].to_numpy()
        with _new_figure(folder / "representations.png", (9.0, 8.4), dpi=110) as figure:
            ProjectionDisplay.from_embeddings(study.projections, labels, figure=figure)


@contextmanager
def _new_figure(path: Path, size: tuple[float, float], *, dpi: int = 140) -> Iterator[Any]:
    """Yield a new figure of a size in inches, and save it.

    It is made without pyplot, which would keep it in memory and need a screen.
    """
    matplotlib = import_optional("matplotlib.figure", extra="report", needed_by="A study")
    figure = matplotlib.Figure(figsize=size, layout="constrained")
    yield figure
    figure.savefig(path, dpi=dpi)
