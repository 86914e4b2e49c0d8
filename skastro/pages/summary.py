"""Describe the results of a study in sentences and text tables."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from skastro.evaluation.label_efficiency import METHOD, LabelEfficiencyCurve, metric_name
from skastro.evaluation.label_saving import label_saving

_TYPICAL_LABELS = 100  # the summary uses the measured number of labels nearest to it
_BASELINES = {
    "scratch": "a network trained from scratch",
    "catalogue": "the catalogue columns alone",
}
_MIN_SAVING = 1.05  # smaller savings are called "as many"


def text_table(frame: pd.DataFrame, *, best: bool = False) -> dict[str, Any]:
    """Return the cells of a table as text; the first column names the rows.

    ``columns`` are names, and ``rows`` are lists of dicts with ``text`` and ``best`` (whether
    the number is the largest of its column, always False without the option ``best``).

    Examples
    --------
    >>> frame = pd.DataFrame({"row": ["a", "b"], "k_NN": [0.5, 0.75], "n": [1200, 7]})
    >>> table = text_table(frame, best=True)
    >>> table["columns"], [cell["text"] for cell in table["rows"][0]]
    (['row', 'k NN', 'n'], ['a', '0.500', '1,200'])
    """
    numeric = frame.select_dtypes("number").columns.difference(frame.columns[:1])
    largest = frame[numeric].max() if best else {}
    rows = [
        [
            {"text": _cell(row[name]), "best": name in largest and row[name] == largest[name]}
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


def score_table(curve: LabelEfficiencyCurve, metric: str | None = None) -> list[dict[str, Any]]:
    """Return the scores as text, by default of the first metric.

    Each row has the ``name`` of the estimator and its ``cells``, one dict for each number of
    labels: ``text`` (mean ± half-width of the 95 % interval) and ``best`` (bool).

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


def summarise(curve: LabelEfficiencyCurve) -> list[str]:
    """Return sentences about the score of self-supervised classification, and the labels it saves.

    It is compared with scratch and the catalogue, at the measured number of labels nearest to 100.

    Examples
    --------
    >>> scores = pd.DataFrame({
    ...     "estimator": ["self-supervised"] * 2 + ["scratch"] * 2, "n_labels": [30, 100] * 2,
    ...     "split": 0, "repeat": 0, "metric": "accuracy", "score": [0.7, 0.8, 0.5, 0.75],
    ... })
    >>> for sentence in summarise(LabelEfficiencyCurve.from_scores(scores)):
    ...     print(sentence)
    With 100 labels, self-supervised classification reaches an accuracy of 0.80 on unseen stamps.
    A network trained from scratch with 100 labels reaches 0.75: self-supervised needs 55
    labels, 1.8 times fewer.
    """
    counts = np.array(curve.label_counts)
    count = int(counts[np.abs(np.log(counts / _TYPICAL_LABELS)).argmin()])
    summary = curve.summary(curve.metrics[0]).set_index(["estimator", "n_labels"])["mean"]
    metric = metric_name(curve.metrics[0])
    article = "an" if metric[0] in "aeiou" else "a"
    score = summary[METHOD, count]
    reached = f"{METHOD} classification reaches {article} {metric} of {score:.2f}"
    sentences = [f"With {count:,} labels, {reached} on unseen stamps."]
    for baseline, phrase in _BASELINES.items():
        if baseline in curve.estimators:
            saving = label_saving(curve, METHOD, baseline).set_index("n_labels").loc[count]
            verb = "reach" if phrase.startswith("the") else "reaches"
            sentences.append(
                f"{phrase[0].upper()}{phrase[1:]} with {count:,} labels {verb} "
                f"{saving['baseline_score']:.2f}: {_saving_text(saving)}."
            )
    return sentences


def _saving_text(saving: pd.Series) -> str:
    """Compare self-supervised classification with a baseline by one row of `label_saving`."""
    ratio, labels = saving["saving"], f"{saving['method_labels']:,.0f} labels"
    times = f"{ratio:.1f} times fewer" if ratio >= 1 else f"{1 / ratio:.1f} times more"
    if saving["bound"] == "<=":
        return f"{METHOD} does not reach that, even with {labels}"
    if saving["bound"] == ">=" and ratio < _MIN_SAVING:
        return f"{METHOD} is better with as many labels"
    if saving["bound"] == ">=":
        return f"{METHOD} is already better with {labels}, at least {times}{_interval(saving)}"
    if 1 / _MIN_SAVING < ratio < _MIN_SAVING:
        return f"{METHOD} needs as many labels{_interval(saving)}"
    return f"{METHOD} needs {labels}, {times}{_interval(saving)}"


def _interval(saving: pd.Series) -> str:
    low, high = saving["low"], saving["high"]
    if np.isnan([low, high]).any() or (low == 0 and np.isinf(high)):
        return ""
    if np.isinf(high):
        return f" (saving at least {low:.1f}, 95 % bound)"
    if low == 0:
        return f" (saving at most {high:.1f}, 95 % bound)"
    return f" (saving {low:.1f} to {high:.1f}, 95 % interval)"


def confusion_table(predictions: pd.DataFrame) -> dict[str, Any]:
    """Count predicted against true classes of the labelled test rows of ``predictions.csv``.

    The table has ``classes`` and ``rows``: for each true class its ``name``, ``total`` and
    ``cells`` with ``count`` and ``share`` (of the true class).
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
