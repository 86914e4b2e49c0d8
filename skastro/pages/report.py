"""One self-contained page from the folder of a study: no network, nothing to install."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import pandas as pd

from skastro.evaluation.label_efficiency import LabelEfficiencyCurve
from skastro.pages.html import render, write_page
from skastro.pages.objects import ReportObjects
from skastro.pages.summary import confusion_table, metric_name, score_table, summarise, text_table

_EXTRAS = ("by_magnitude", "calibration", "representations", "ablation")  # sections, if there


def write_report(folder: str | Path) -> Path:
    """Write ``index.html`` from the other files of a study.

    Parameters
    ----------
    folder : path
        With ``config.json``, ``scores.csv``, ``label_efficiency.png``, ``pretext.csv`` and
        ``predictions.csv``, as ``run_study`` writes them. What else there is gets a section each:

        - ``objects.csv``: the ``id`` of ``predictions.csv``, row by row, and any of ``x`` and
          ``y`` (the interactive projection), ``cluster`` (-1 = noise), ``cluster_probability``,
          ``outlier_score`` and properties;
        - ``thumbnails.webp``, of the same rows, as `write_thumbnails` makes it: hovering, contact
          sheets, the most confident mistakes and the strangest objects;
        - ``by_magnitude.csv``, ``calibration.csv``, ``representations.csv``, ``ablation.csv``:
          tables of any columns, the first with names; with ``confidence``, ``accuracy`` and
          ``n`` of bins in ``calibration.csv`` the calibration error is said too;
        - ``.png`` of the names of these tables, and ``pretext.png`` and ``confusion.png``.

        A picture that has a narrow version beside it, ``<name>_phone.png``, is replaced by it on
        phones.

    Returns
    -------
    page : Path
        The page; pictures and scripts are inside.

    Raises
    ------
    FileNotFoundError
        A file is missing.
    ValueError
        The rows of ``objects.csv`` are not those of ``predictions.csv``.
    ImportError
        jinja2 is not installed, or bokeh, where there is a projection.

    Examples
    --------
    >>> write_report("no-study")
    Traceback (most recent call last):
    FileNotFoundError: no-study has no config.json: pass the folder of a finished study.
    """
    folder = Path(folder)
    needed = ("config.json", "scores.csv", "label_efficiency.png", "pretext.csv", "predictions.csv")
    for name in needed:
        if not (folder / name).is_file():
            raise FileNotFoundError(f"{folder} has no {name}: pass the folder of a finished study.")
    return write_page(folder / "index.html", render("report.html", _content(folder)))


def _content(folder: Path) -> dict[str, Any]:
    config = json.loads((folder / "config.json").read_text("utf-8"))
    curve = LabelEfficiencyCurve.from_csv(folder / "scores.csv")
    predictions = pd.read_csv(folder / "predictions.csv", dtype=str, keep_default_na=False)
    pretext = pd.read_csv(
        folder / "pretext.csv", keep_default_na=False, na_values={"r2": [""], "scatter": [""]}
    )
    return {
        "config": config,
        "sentences": summarise(curve),
        "figure": _embed_figure(folder / "label_efficiency.png"),
        "alt": _alt_text(curve),
        "counts": curve.label_counts,
        "tables": [(metric_name(metric), score_table(curve, metric)) for metric in curve.metrics],
        "pretext": pretext.sort_values("r2", ascending=False).to_dict("records"),
        "pretext_figure": _embed_figure(folder / "pretext.png"),
        "confusion": confusion_table(predictions),
        "confusion_figure": _embed_figure(folder / "confusion.png"),
        "extras": _extras(folder),
        **_objects(ReportObjects.read(folder, config)),
        "files": sorted(
            path.name
            for path in folder.iterdir()
            if path.name != "index.html" and not path.name.startswith(".")
        ),
    }


def _objects(objects: ReportObjects) -> dict[str, Any]:
    return {
        "projection": objects.projection,
        "explorer": objects.explorer(),
        "stamp_style": objects.style(),
        "clusters": objects.clusters(),
        "noise": objects.noise(),
        "mistakes": objects.mistakes(),
        "strangest": objects.strangest(),
    }


def _extras(folder: Path) -> dict[str, Any]:
    """Return the sections that a study may have or not."""
    sections = {}
    for name in _EXTRAS:
        table, figure = folder / f"{name}.csv", _embed_figure(folder / f"{name}.png")
        frame = pd.read_csv(table) if table.is_file() else None
        if frame is None and figure is None:
            continue
        sections[name] = {
            "sentence": _calibration_sentence(frame) if name == "calibration" else "",
            "figure": figure,
            "table": None if frame is None else text_table(frame, best=name == "representations"),
        }
    return sections


def _embed_figure(path: Path) -> dict[str, str | None] | None:
    """Return a picture, and its narrow version for phones if there is one."""
    wide, phone = _embed(path), _embed(path.with_stem(f"{path.stem}_phone"))
    return None if wide is None else {"wide": wide, "phone": phone}


def _embed(path: Path) -> str | None:
    if not path.is_file():
        return None
    return f"data:image/png;base64,{base64.b64encode(path.read_bytes()).decode('ascii')}"


def _calibration_sentence(bins: pd.DataFrame | None) -> str:
    """Say the expected calibration error (Naeini et al. 2015) of each group of bins."""
    if bins is None or not {"confidence", "accuracy", "n"} <= set(bins.columns):
        return ""
    groups = [name for name in bins.columns if name in {"estimator", "n_labels"}]
    parts = []
    for key, group in bins.groupby(groups, sort=False) if groups else [((), bins)]:
        distance = (group["confidence"] - group["accuracy"]).abs()
        error = (distance * group["n"]).sum() / group["n"].sum()
        named = zip(groups, key if isinstance(key, tuple) else (key,), strict=True)
        what = ", ".join(f"{v:,} labels" if g == "n_labels" else str(v) for g, v in named)
        parts.append(f"{error:.3f}" + (f" ({what})" if what else ""))
    return f"Expected calibration error: {', '.join(parts)}."


def _alt_text(curve: LabelEfficiencyCurve) -> str:
    return (
        f"{metric_name(curve.metrics[0]).capitalize()} on unseen stamps against the number of "
        f"labels, one line each for {', '.join(curve.estimators)}. The same numbers are in the "
        "table below."
    )
