"""One self-contained page from the folder of a study: no network, nothing to install."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from skastro.evaluation.label_efficiency import LabelEfficiencyCurve, label_saving
from skastro.pages.html import render, write_page
from skastro.pages.objects import ReportObjects

METHOD = "self-supervised"
METRIC_NAMES = {
    "balanced_accuracy": "balanced accuracy",
    "f1_macro": "macro-F1",
    "neg_calibration_error": "negative expected calibration error",
}
_REFERENCE = 100  # labels, of the summary
_BASELINES = {
    "scratch": "a network trained from scratch",
    "catalogue": "the catalogue columns alone",
}
_ABOUT_EQUAL = 1.05  # savings below it are none


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
        "tables": [(_metric_name(metric), score_table(curve, metric)) for metric in curve.metrics],
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


def text_table(frame: pd.DataFrame, *, best: bool = False) -> dict[str, Any]:
    """Return a table as text.

    Parameters
    ----------
    frame : DataFrame
        The first column names the rows.
    best : bool, default=False
        Whether the largest number of each column is marked.

    Returns
    -------
    table : dict
        ``columns``, names; ``rows``, lists of dicts with ``text`` and ``best``.

    Examples
    --------
    >>> frame = pd.DataFrame({"row": ["a", "b"], "k_NN": [0.5, 0.75], "n": [1200, 7]})
    >>> table = text_table(frame, best=True)
    >>> table["columns"], [cell["text"] for cell in table["rows"][0]]
    (['row', 'k NN', 'n'], ['a', '0.500', '1,200'])
    """
    numeric = frame.select_dtypes("number").columns.difference(frame.columns[:1])
    tops = frame[numeric].max() if best else {}
    rows = [
        [
            {"text": _cell(row[name]), "best": name in tops and row[name] == tops[name]}
            for name in row
        ]
        for row in frame.to_dict("records")
    ]
    return {"columns": [str(name).replace("_", " ") for name in frame.columns], "rows": rows}


def _cell(value: Any) -> str:
    if isinstance(value, str):
        return value
    if pd.isna(value):
        return "\N{EN DASH}"
    if isinstance(value, bool | np.bool_):
        return "yes" if value else "no"
    whole = isinstance(value, int | np.integer)
    text = f"{value:,}" if whole else f"{value:.3f}" if abs(value) < 10 else f"{value:.1f}"
    return text.replace("-", "\N{MINUS SIGN}")


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


def _metric_name(metric: str) -> str:
    return METRIC_NAMES.get(metric, metric.replace("_", " "))


def score_table(curve: LabelEfficiencyCurve, metric: str | None = None) -> list[dict[str, Any]]:
    """Return the scores as text, for terminals and pages.

    Parameters
    ----------
    curve : LabelEfficiencyCurve
    metric : str, default=None
        None takes the first.

    Returns
    -------
    rows : list of dict
        ``name`` of the estimator and its ``cells``, one dict for each number of labels:
        ``text`` (mean ± half-width of the 95 % interval) and ``best`` (bool).

    Examples
    --------
    >>> scores = pd.DataFrame({
    ...     "estimator": ["probe", "probe", "scratch", "scratch"], "n_labels": 30, "split": 0,
    ...     "repeat": [0, 1, 0, 1], "metric": "accuracy", "score": [0.6, 0.62, 0.4, 0.5],
    ... })
    >>> score_table(LabelEfficiencyCurve.from_scores(scores))[0]
    {'name': 'probe', 'cells': [{'text': '0.610 ± 0.127', 'best': True}]}
    """
    summary = curve.summary(metric or curve.metrics[0])
    best = summary.groupby("n_labels")["mean"].max()
    rows = []
    for name in curve.estimators:
        cells = []
        for row in summary[summary["estimator"] == name].sort_values("n_labels").itertuples():
            half = row.high - row.mean
            text = f"{row.mean:.3f}" if np.isnan(half) else f"{row.mean:.3f} ± {half:.3f}"
            cells.append({"text": text, "best": bool(row.mean == best[row.n_labels])})
        rows.append({"name": name, "cells": cells})
    return rows


def summarise(curve: LabelEfficiencyCurve, method: str = METHOD) -> list[str]:
    """Say in sentences what a method reaches, and how many labels it saves.

    Parameters
    ----------
    curve : LabelEfficiencyCurve
    method : str, default="self-supervised"

    Returns
    -------
    sentences : list of str
        At the measured count nearest to 100 labels, against scratch and the catalogue.

    Examples
    --------
    >>> scores = pd.DataFrame({
    ...     "estimator": ["self-supervised"] * 2 + ["scratch"] * 2, "n_labels": [30, 100] * 2,
    ...     "split": 0, "repeat": 0, "metric": "accuracy", "score": [0.7, 0.8, 0.5, 0.75],
    ... })
    >>> for sentence in summarise(LabelEfficiencyCurve.from_scores(scores)):
    ...     print(sentence)
    With 100 labels, self-supervised classification reaches an accuracy of 0.80 on unseen stamps.
    A network trained from scratch with 100 labels reaches 0.75: self-supervised takes 55, 1.8
    times fewer.
    """
    counts = np.array(curve.label_counts)
    count = int(counts[np.abs(np.log(counts / _REFERENCE)).argmin()])
    summary = curve.summary(curve.metrics[0]).set_index(["estimator", "n_labels"])["mean"]
    metric = _metric_name(curve.metrics[0])
    article = "an" if metric[0] in "aeiou" else "a"
    score = summary[method, count]
    reached = f"{method} classification reaches {article} {metric} of {score:.2f}"
    sentences = [f"With {count:,} labels, {reached} on unseen stamps."]
    for baseline, phrase in _BASELINES.items():
        if baseline in curve.estimators:
            saving = label_saving(curve, method, baseline).set_index("n_labels").loc[count]
            verb = "reach" if phrase.startswith("the") else "reaches"
            sentences.append(
                f"{phrase[0].upper()}{phrase[1:]} with {count:,} labels {verb} "
                f"{saving['baseline_score']:.2f}: {_saving_text(saving, method)}."
            )
    return sentences


def _saving_text(saving: pd.Series, method: str) -> str:
    ratio, labels = saving["saving"], f"{saving['method_labels']:,.0f}"
    if saving["bound"] == "<=":
        return f"{method} does not reach that, even with {labels}"
    if saving["bound"] == ">=" and ratio < _ABOUT_EQUAL:
        return f"{method} is better with as many"
    if saving["bound"] == ">=":
        return (
            f"{method} is better already with {labels}, at least "
            f"{_times_fewer(ratio)}{_interval(saving)}"
        )
    if 1 / _ABOUT_EQUAL < ratio < _ABOUT_EQUAL:
        return f"{method} takes as many{_interval(saving)}"
    return f"{method} takes {labels}, {_times_fewer(ratio)}{_interval(saving)}"


def _times_fewer(ratio: float) -> str:
    return f"{ratio:.1f} times fewer" if ratio >= 1 else f"{1 / ratio:.1f} times more"


def _interval(saving: pd.Series) -> str:
    low, high = saving["low"], saving["high"]
    if np.isnan([low, high]).any() or (low == 0 and np.isinf(high)):
        return ""
    if np.isinf(high):
        return f" (saving at least {low:.1f}, 95 % bound)"
    if low == 0:
        return f" (saving at most {high:.1f}, 95 % bound)"
    return f" (saving {low:.1f} to {high:.1f}, 95 % interval)"


def _alt_text(curve: LabelEfficiencyCurve) -> str:
    return (
        f"{_metric_name(curve.metrics[0]).capitalize()} on unseen stamps against the number of "
        f"labels, one line each for {', '.join(curve.estimators)}. The same numbers are in the "
        "table below."
    )


def confusion_table(predictions: pd.DataFrame) -> dict[str, Any]:
    """Count predicted against true classes on the labelled test rows.

    Parameters
    ----------
    predictions : DataFrame
        As in ``predictions.csv``: columns ``split``, ``label`` and ``prediction``.

    Returns
    -------
    table : dict
        ``classes``, and ``rows``: for each true class its ``name``, ``total`` and ``cells``
        with ``count`` and ``share`` (of the true class).
    """
    test = predictions[(predictions["split"] == "test") & (predictions["label"] != "")]
    classes = sorted(set(test["label"]) | set(test["prediction"]))
    counts = pd.crosstab(test["label"], test["prediction"])
    counts = counts.reindex(index=classes, columns=classes, fill_value=0)
    rows = []
    for name in classes:
        total = int(counts.loc[name].sum())
        cells = [{"count": int(n), "share": n / max(total, 1)} for n in counts.loc[name]]
        rows.append({"name": name, "total": total, "cells": cells})
    return {"classes": classes, "rows": rows}
