"""What a study found, and the files it leaves: tables, figures, thumbnails and the report."""

from __future__ import annotations

from typing import Any
from skastro.evaluation.label_efficiency import LabelEfficiencyCurve
from numpy.typing import NDArray
from skastro.embeddings.projection import Projection
from skastro.estimators.encoder import PropertyPretrainedEncoder
from dataclasses import dataclass
import numpy as np
import pandas as pd
from pathlib import Path
from skastro.study.data import StudyData
import json
from functools import partial
from skastro.utils.files import write_arrays
from skastro.pages.report import write_report
from skastro.pages.thumbnails import write_thumbnails
from skastro.plots.confusion import ConfusionDisplay
from skastro.pages.summary import METHOD
from skastro.plots.magnitude import MagnitudeDisplay
from skastro.plots.reliability import ReliabilityDisplay
from skastro.evaluation.calibration import accuracy_by_magnitude
from skastro.evaluation.calibration import reliability_curve
from skastro.plots.property import PropertyDisplay
from skastro.plots.projection import ProjectionDisplay
from skastro.utils.packages import import_optional
from skastro.plots.label_efficiency import LabelEfficiencyDisplay
from collections.abc import Callable


STUDY_FILES = frozenset(
    [
        "index.html",
        "scores.csv",
        "label_efficiency.png",
        "label_efficiency_phone.png",
        "encoder.safetensors",
        "embeddings.npz",
        "clusters.csv",
        "objects.csv",
        "predictions.csv",
        "pretext.csv",
        "pretext.png",
        "confusion.png",
        "by_magnitude.csv",
        "by_magnitude.png",
        "by_magnitude_phone.png",
        "calibration.csv",
        "calibration.png",
        "representations.csv",
        "representations.png",
        "thumbnails.webp",
        "config.json",
    ]
)
_PHONE = 4.2  # inches: as wide as a phone when text is of the size of the page's

@dataclass(frozen=True)
class Study:
    """What a study found.

    Parameters
    ----------
    curve : LabelEfficiencyCurve
    encoder : PropertyPretrainedEncoder
        Pretrained on the rows whose ``split`` is "train".
    embeddings : float32 array of shape (n, d)
    split : array of shape (n,)
        "train" (labelled or not), "test", or "aside": unlabelled rows of the test groups.
    predictions : DataFrame
        ``id``, ``split``, ``label``, ``used`` (whether the classifier learned from it),
        ``prediction`` and the probabilities ``p_<class>``.
    pretext : DataFrame
        Quality of the regressed properties on the test rows.
    predicted : DataFrame of shape (n, p)
        The regressed properties as the encoder sees them, in their units.
    objects : DataFrame
        Row by row with ``predictions``: ``id``, ``x`` and ``y`` of the projection, ``cluster``
        (-1 = noise), ``cluster_probability``, ``outlier_score``, and the properties.
    projections : dict of str to Projection
        Of each representation that was projected.
    representations : DataFrame
        What `score_embedding` says of each representation.
    magnitude : str
        The property by which results are binned.
    config : dict
        What JSON can hold: all that is needed to repeat the study.
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
    """Write all files of a study.

    Parameters
    ----------
    study : Study
    data : StudyData
        What was studied.
    folder : Path
        Exists, and is empty.
    """
    _write_tables(study, folder)
    study.encoder.save(folder / "encoder.safetensors")
    ids = data.ids if data.ids.dtype.kind in "iu" else data.ids.astype(str)
    arrays = {"ids": ids, "embeddings": study.embeddings, "split": study.split}
    write_arrays(folder / "embeddings.npz", arrays)
    (folder / "config.json").write_text(json.dumps(study.config, indent=2) + "\n")
    write_thumbnails(folder / "thumbnails.webp", data.images)
    _draw(folder / "label_efficiency.png", partial(_draw_curve, study), size=(8.0, 4.6))
    narrow = partial(_draw_curve, study, legend="below")
    _draw(folder / "label_efficiency_phone.png", narrow, size=(_PHONE, 4.8))
    _judge(study, data, folder)
    write_report(folder)

def _write_tables(study: Study, folder: Path) -> None:
    # without the seconds, which differ from run to run: the same seed gives the same file
    scores = study.curve.scores.drop(columns="fit_seconds", errors="ignore")
    scores.to_csv(folder / "scores.csv", index=False)
    study.predictions.to_csv(folder / "predictions.csv", index=False, float_format="%.6f")
    study.pretext.to_csv(folder / "pretext.csv", index=False, float_format="%.6g")
    study.objects.to_csv(folder / "objects.csv", index=False, float_format="%.6g")
    of_clusters = ["id", "cluster", "cluster_probability", "outlier_score"]
    study.objects[of_clusters].to_csv(folder / "clusters.csv", index=False, float_format="%.6g")
    study.representations.reset_index().to_csv(
        folder / "representations.csv", index=False, float_format="%.4g"
    )

def _judge(study: Study, data: StudyData, folder: Path) -> None:
    """Write tables and figures of how good the classifier and the pretext are on test rows."""
    labelled = (study.predictions["label"] != "").to_numpy()
    rows = np.flatnonzero((study.split == "test") & labelled)
    told = study.predictions.iloc[rows]
    truth, guess = told["label"].to_numpy(), told["prediction"].to_numpy()
    probabilities = told.filter(regex="^p_").rename(columns=lambda name: name.removeprefix("p_"))
    magnitude = study.objects[study.magnitude].to_numpy()[rows]
    if np.isfinite(magnitude).any():
        accuracy_by_magnitude(truth, guess, magnitude).to_csv(
            folder / "by_magnitude.csv", index=False, float_format="%.4f"
        )
        by_magnitude = partial(
            MagnitudeDisplay.from_predictions,
            truth,
            {METHOD: guess},
            magnitude,
            name=study.magnitude,
            unit=None,
        )
        _draw(folder / "by_magnitude.png", by_magnitude, size=(7.0, 4.0))
        _draw(folder / "by_magnitude_phone.png", by_magnitude, size=(_PHONE, 3.6))
    reliability_curve(truth, probabilities).to_csv(
        folder / "calibration.csv", index=False, float_format="%.4f"
    )
    reliability = partial(ReliabilityDisplay.from_predictions, truth, probabilities)
    _draw(folder / "calibration.png", reliability, size=(5.0, 4.6))
    confusion = partial(
        ConfusionDisplay.from_predictions,
        truth,
        guess,
        images=data.images[rows],
        confidence=probabilities.max(axis=1).to_numpy(),
    )
    n_classes = len(set(truth) | set(guess))
    _draw(folder / "confusion.png", confusion, size=(2.2 + 1.7 * n_classes, 1.2 + 1.7 * n_classes))
    _draw_pretext(study, folder)
    _draw_projections(study, folder)

def _draw_pretext(study: Study, folder: Path) -> None:
    """Draw the best told property of those with most values."""
    quality = study.pretext[study.pretext["n_test"] > 1]
    if quality.empty:
        return
    most = quality[quality["n_test"] >= 0.9 * quality["n_test"].max()]
    best = most.loc[most["r2"].idxmax()]
    test = study.split == "test"
    display = partial(
        PropertyDisplay.from_predictions,
        study.objects.loc[test, best["property"]],
        study.predicted.loc[test, best["property"]],
        name=best["property"],
        unit=best["unit"] or None,
    )
    _draw(folder / "pretext.png", display, size=(5.2, 6.0))

def _draw_projections(study: Study, folder: Path) -> None:
    """Draw the paper's figure: several representations of the same objects side by side."""
    if len(study.projections) < 2:
        return
    matplotlib = import_optional("matplotlib.figure", extra="report", needed_by="A study")
    figure = matplotlib.Figure(figsize=(9.0, 8.4), layout="constrained")
    labels = study.predictions["label"].to_numpy()
    ProjectionDisplay.from_embeddings(study.projections, labels, figure=figure)
    figure.savefig(folder / "representations.png", dpi=110)

def _draw_curve(study: Study, ax: Any, *, legend: bool | str = False) -> None:
    # against a network that was trained for a few steps only, any method saves labels
    plan, several = study.config["plan"], len(study.curve.label_counts) > 1
    careful = plan["scratch"] and not plan["steps"]
    saving = (METHOD, "scratch") if careful and several else None
    LabelEfficiencyDisplay.from_curve(study.curve, saving=saving, ax=ax, legend=legend)

def _draw(path: Path, draw: Callable[..., Any], *, size: tuple[float, float]) -> None:
    """Draw into a figure of its own."""
    matplotlib = import_optional("matplotlib.figure", extra="report", needed_by="A study")
    # not pyplot: it would keep the figure, and look for a screen
    figure = matplotlib.Figure(figsize=size, layout="constrained")
    draw(ax=figure.subplots())
    figure.savefig(path, dpi=140)
