"""Hold the results of a study, and write its tables, figures, thumbnails and report."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from skastro.embeddings.projection import Projection
from skastro.estimators.encoder import PropertyPretrainedEncoder
from skastro.evaluation.calibration import accuracy_by_magnitude, reliability_curve
from skastro.evaluation.label_efficiency import METHOD, LabelEfficiencyCurve
from skastro.pages.report import write_report
from skastro.pages.thumbnails import write_thumbnails
from skastro.plots.confusion import ConfusionDisplay
from skastro.plots.label_efficiency import LabelEfficiencyDisplay
from skastro.plots.magnitude import MagnitudeDisplay
from skastro.plots.projection import ProjectionDisplay
from skastro.plots.property import PropertyDisplay
from skastro.plots.reliability import ReliabilityDisplay
from skastro.study.data import StudyData
from skastro.utils.files import write_arrays
from skastro.utils.packages import import_optional

_TABLES = ("scores", "predictions", "pretext", "objects", "clusters", "representations")
_TWO_WIDTHS = ("label_efficiency", "by_magnitude")  # figures for screens and for phones
STUDY_FILES = frozenset(
    ["index.html", "config.json", "encoder.safetensors", "embeddings.npz", "thumbnails.webp"]
    + [f"{name}.csv" for name in (*_TABLES, "by_magnitude", "calibration")]
    + [f"{name}.png" for name in ("pretext", "confusion", "calibration", "representations")]
    + [f"{name}{ending}" for name in _TWO_WIDTHS for ending in (".png", "_phone.png")]
)
_PHONE_WIDTH = 4.2  # inches; at this width the text of a figure is readable on a phone


@dataclass(frozen=True)
class Study:
    """Results of a study.

    Parameters
    ----------
    curve : LabelEfficiencyCurve
    encoder : PropertyPretrainedEncoder
        Pretrained on the rows whose ``split`` is "train".
    embeddings : float32 array of shape (n, d)
    split : array of shape (n,)
        "train" (labelled or not), "test", or "aside" for unlabelled rows of the test groups.
    predictions : DataFrame
        ``id``, ``split``, ``label``, ``used`` (whether the classifier learned from the row),
        ``prediction`` and the probabilities ``p_<class>``.
    pretext : DataFrame
        Quality of the predicted properties on the test rows; see `grade_properties`.
    predicted : DataFrame of shape (n, p)
        Properties predicted by the encoder, in their units.
    objects : DataFrame
        ``id``, ``x`` and ``y`` of the projection, ``cluster`` (-1 = noise),
        ``cluster_probability``, ``outlier_score``, and the properties.
    projections : dict of str to Projection
    representations : DataFrame
        Scores of each representation; see `score_embedding`.
    magnitude : str
        Property by which results are binned.
    config : dict
        Everything needed to repeat the study, for JSON.
    """

    curve: LabelEfficiencyCurve
    encoder: PropertyPretrainedEncoder
    embeddings: NDArray[np.float32]
    split: NDArray[Any]
    predictions: pd.DataFrame
    pretext: pd.DataFrame
    predicted: pd.DataFrame
    objects: pd.DataFrame
    projections: dict[str, Projection]
    representations: pd.DataFrame
    magnitude: str
    config: dict[str, Any]


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
    # seconds differ from run to run; without them the same seed gives the same file
    scores = study.curve.scores.drop(columns="fit_seconds", errors="ignore")
    clusters = study.objects[["id", "cluster", "cluster_probability", "outlier_score"]]
    for name, table, digits in (
        ("scores", scores, None),
        ("predictions", study.predictions, "%.6f"),
        ("pretext", study.pretext, "%.6g"),
        ("objects", study.objects, "%.6g"),
        ("clusters", clusters, "%.6g"),
        ("representations", study.representations.reset_index(), "%.4g"),
    ):
        table.to_csv(folder / f"{name}.csv", index=False, float_format=digits)


def _draw_curve(study: Study, folder: Path) -> None:
    # compared with a network trained for a few steps only, any method seems to save labels
    plan = study.config["plan"]
    is_fair = plan["scratch"] and not plan["steps"] and len(study.curve.label_counts) > 1
    draw = partial(
        LabelEfficiencyDisplay.from_curve,
        study.curve,
        saving=(METHOD, "scratch") if is_fair else None,
    )
    _save_figure(folder / "label_efficiency.png", partial(draw, legend=False), size=(8.0, 4.6))
    narrow = partial(draw, legend="below")
    _save_figure(folder / "label_efficiency_phone.png", narrow, size=(_PHONE_WIDTH, 4.8))


def _write_test_results(study: Study, data: StudyData, folder: Path) -> None:
    """Write tables and figures of the classification of the test rows."""
    rows = np.flatnonzero((study.split == "test") & (study.predictions["label"] != ""))
    table = study.predictions.iloc[rows]
    true, predicted = table["label"].to_numpy(), table["prediction"].to_numpy()
    probabilities = table.filter(regex="^p_").rename(columns=lambda name: name.removeprefix("p_"))

    # by magnitude
    draw: Callable[..., Any]
    magnitude = study.objects[study.magnitude].to_numpy()[rows]
    if np.isfinite(magnitude).any():
        accuracy_by_magnitude(true, predicted, magnitude).to_csv(
            folder / "by_magnitude.csv", index=False, float_format="%.4f"
        )
        draw = partial(
            MagnitudeDisplay.from_predictions,
            true,
            {METHOD: predicted},
            magnitude,
            name=study.magnitude,
            unit=None,
        )
        _save_figure(folder / "by_magnitude.png", draw, size=(7.0, 4.0))
        _save_figure(folder / "by_magnitude_phone.png", draw, size=(_PHONE_WIDTH, 3.6))

    # calibration
    reliability_curve(true, probabilities).to_csv(
        folder / "calibration.csv", index=False, float_format="%.4f"
    )
    draw = partial(ReliabilityDisplay.from_predictions, true, probabilities)
    _save_figure(folder / "calibration.png", draw, size=(5.0, 4.6))

    # confusion
    draw = partial(
        ConfusionDisplay.from_predictions,
        true,
        predicted,
        images=data.images[rows],
        confidence=probabilities.max(axis=1).to_numpy(),
    )
    width = 1.7 * len(set(true) | set(predicted))
    _save_figure(folder / "confusion.png", draw, size=(2.2 + width, 1.2 + width))


def _draw_pretext(study: Study, folder: Path) -> None:
    """Draw the best predicted property of those with most values."""
    quality = study.pretext[study.pretext["n_test"] > 1]
    if quality.empty:
        return
    most = quality[quality["n_test"] >= 0.9 * quality["n_test"].max()]
    best = most.loc[most["r2"].idxmax()]
    test = study.split == "test"
    draw = partial(
        PropertyDisplay.from_predictions,
        study.objects.loc[test, best["property"]],
        study.predicted.loc[test, best["property"]],
        name=best["property"],
        unit=best["unit"] or None,
    )
    _save_figure(folder / "pretext.png", draw, size=(5.2, 6.0))


def _draw_projections(study: Study, folder: Path) -> None:
    """Draw projections of several representations side by side."""
    if len(study.projections) > 1:
        figure = _make_figure((9.0, 8.4))
        labels = study.predictions["label"].to_numpy()
        ProjectionDisplay.from_embeddings(study.projections, labels, figure=figure)
        figure.savefig(folder / "representations.png", dpi=110)


def _save_figure(path: Path, draw: Callable[..., Any], *, size: tuple[float, float]) -> None:
    """Draw into a new figure of some size in inches, and save it."""
    figure = _make_figure(size)
    draw(ax=figure.subplots())
    figure.savefig(path, dpi=140)


def _make_figure(size: tuple[float, float]) -> Any:
    """Return a figure without pyplot, which would keep it and need a screen."""
    matplotlib = import_optional("matplotlib.figure", extra="report", needed_by="A study")
    return matplotlib.Figure(figsize=size, layout="constrained")
