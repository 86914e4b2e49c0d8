"""Describe the results of a study in sentences and text tables."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from skastro.evaluation.label_efficiency import (
    METHOD,
    LabelEfficiencyCurve,
    metric_name,
    tabulate_scores,
)
from skastro.evaluation.label_saving import label_saving

_TYPICAL_LABELS = 100  # the summary uses the measured number of labels nearest to it
_SCRATCH = "scratch"
_BASELINES = {
    _SCRATCH: "a network trained from scratch",
    "catalogue": "the catalogue columns alone",
    "aperture": "aperture photometry",
    "ImageNet": "ImageNet features",
}
_ONE_DRAW = " (in one draw of the labels)"  # which has no interval
_ALWAYS_COMPARED = (_SCRATCH, "catalogue")
_MIN_SAVING = 1.05  # a smaller factor is no saving
_COLUMN_NAMES = {
    "score": "balanced accuracy",
    "low": "95 % interval from",
    "high": "95 % interval to",
    "n": "objects",
    "knn_accuracy": "balanced accuracy of nearest neighbours",
    "probe_accuracy": "balanced accuracy of a linear probe",
    "silhouette": "silhouette of the classes",
    "kmeans_ari": "k-means: adjusted Rand index",
    "kmeans_nmi": "k-means: normalised mutual information",
    "hdbscan_ari": "HDBSCAN: adjusted Rand index",
    "hdbscan_nmi": "HDBSCAN: normalised mutual information",
    "hdbscan_clusters": "HDBSCAN: clusters",
    "hdbscan_noise": "HDBSCAN: share in no cluster",
    "n_labelled": "labelled objects",
    "n_classes": "classes",
}


def text_table(frame: pd.DataFrame) -> dict[str, Any]:
    """Return the cells of a table as text; the first column names the rows.

    ``columns`` are the names of the columns in words, and ``rows`` are lists of texts.

    Examples
    --------
    >>> table = text_table(pd.DataFrame({"row": ["a", "b"], "k_NN": [0.5, 0.75], "n": [1200, 7]}))
    >>> table["columns"], table["rows"][0]
    (['row', 'k NN', 'objects'], ['a', '0.500', '1,200'])
    """
    names = [_COLUMN_NAMES.get(name, name.replace("_", " ")) for name in map(str, frame.columns)]
    rows = [[_cell(value) for value in row.values()] for row in frame.to_dict("records")]
    return {"columns": names, "rows": rows}


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


def score_table(
    curve: LabelEfficiencyCurve, metric: str | None = None, *, steps: int | None = None
) -> list[dict[str, Any]]:
    """Return the scores as text, by default of the first metric.

    Each row has the ``name`` of the estimator and its ``cells``, one dict for each number of
    labels: ``text`` (mean ± half-width of the 95 % interval) and ``best`` (bool). The best mean
    is marked together with all that cannot be told from it: the 95 % interval of the paired
    difference includes zero. Nothing is marked where a single run, or draws that hold all labels
    each, leave that open. A negated error, such as ``neg_log_loss``, is shown as the error.
    ``steps`` tells that the network from scratch was trained for so few steps only, and
    is therefore not marked.

    Examples
    --------
    >>> scores = pd.DataFrame({
    ...     "estimator": ["probe", "probe", "scratch", "scratch"], "n_labels": 30, "split": 0,
    ...     "repeat": [0, 1, 0, 1], "metric": "accuracy", "score": [0.6, 0.62, 0.4, 0.42],
    ... })
    >>> for row in score_table(LabelEfficiencyCurve.from_scores(scores), steps=40):
    ...     print(row)
    {'name': 'probe', 'cells': [{'text': '0.610 ± 0.127', 'best': True}]}
    {'name': 'scratch (40 steps only)', 'cells': [{'text': '0.410 ± 0.127', 'best': False}]}
    """
    metric = metric or curve.metrics[0]
    sign = -1 if metric.startswith("neg_") else 1
    texts, best = tabulate_scores(curve, metric, sign=sign), _find_best(curve, metric)
    if steps:
        best = {(name, count) for name, count in best if name != _SCRATCH}
    rows = []
    for name in curve.estimators:
        cells = [
            {"text": text, "best": (name, count) in best} for count, text in texts.loc[name].items()
        ]
        rows.append({"name": row_name(name, steps), "cells": cells})
    return rows


def row_name(estimator: str, steps: int | None) -> str:
    """Return the name of an estimator in tables and figures, with the ``steps`` of scratch if few.

    Examples
    --------
    >>> row_name("aperture", 40), row_name("scratch", 40), row_name("scratch", None)
    ('aperture', 'scratch (40 steps only)', 'scratch')
    """
    return f"{estimator} ({steps} steps only)" if steps and estimator == _SCRATCH else estimator


def metric_title(metric: str) -> str:
    """Return the name of a metric as `score_table` shows it.

    Examples
    --------
    >>> metric_title("f1_macro"), metric_title("neg_calibration_error")
    ('macro-F1', 'expected calibration error (lower is better)')
    """
    name = metric_name(metric)
    if not metric.startswith("neg_"):
        return name
    return f"{name.removeprefix('negative ').lstrip(chr(0x2212))} (lower is better)"


def _find_best(curve: LabelEfficiencyCurve, metric: str) -> set[tuple[str, int]]:
    """Return the estimators, by number of labels, that cannot be told from the best."""
    summary = curve.summary(metric).dropna(subset="mean")
    found = set()
    # rows of one draw, or with the same score in all draws of all labels, have no interval
    summary = summary[summary["high"] > summary["mean"]]
    for count, means in summary.groupby("n_labels"):
        best = means.loc[means["mean"].idxmax()]
        paired = curve.difference_to(best["estimator"]).summary(metric)
        equal = paired[(paired["n_labels"] == count) & (paired["high"] >= 0)]
        found |= {(name, count) for name in equal["estimator"]}
    return found


def summarise(curve: LabelEfficiencyCurve, *, steps: int | None = None) -> list[str]:
    """Return sentences about the score of self-supervised classification, and the labels it saves.

    The first names the strongest baseline. The second is about the score without any label, if
    there is one. The others compare the method with the strongest baseline, with scratch and with
    the catalogue. Scores are those at the measured number of labels nearest to 100. ``steps`` tells
    that the network from scratch was trained for so few steps only, as in a quick study.

    Examples
    --------
    >>> scores = pd.DataFrame({
    ...     "estimator": ["self-supervised"] * 2 + ["scratch"] * 2, "n_labels": [30, 100] * 2,
    ...     "split": 0, "repeat": 0, "metric": "accuracy", "score": [0.7, 0.8, 0.5, 0.75],
    ... })
    >>> for sentence in summarise(LabelEfficiencyCurve.from_scores(scores)):
    ...     print(sentence)
    With 100 labels, self-supervised classification reaches an accuracy of 0.80 on unseen
    stamps; the strongest baseline, a network trained from scratch, reaches 0.75.
    Compared with a network trained from scratch (0.75 with 100 labels), self-supervised
    classification needs 55 labels: 1.8 times fewer (in one draw of the labels).
    """
    counts = np.array([count for count in curve.label_counts if count])
    without = _describe_no_labels(curve)
    if not len(counts):
        return without
    count = int(counts[np.abs(np.log(counts / _TYPICAL_LABELS)).argmin()])
    means = _of_count(curve, count)["mean"]
    differences = _of_count(curve.difference_to(METHOD), count)
    equal = (differences["low"] <= 0) & (differences["high"] >= 0)
    phrases = {name: _BASELINES.get(name, name) for name in means.index}
    if steps and _SCRATCH in phrases:
        phrases[_SCRATCH] += f" for {steps} steps only, as this is a quick study"

    # our score, and that of the strongest baseline
    metric = metric_name(curve.metrics[0])
    score = f"{'an' if metric[0] in 'aeiou' else 'a'} {metric} of {means[METHOD]:.2f}"
    headline = f"With {count:,} labels, {METHOD} classification reaches {score} on unseen stamps"
    baselines = means.drop([name for name in means.index if name.startswith(METHOD)]).dropna()
    if baselines.empty:
        return [f"{headline}.", *without]
    strongest = baselines.idxmax()
    rival = f"the strongest baseline, {phrases[strongest]}, reaches {baselines[strongest]:.2f}"
    n_runs, ending = differences["n_runs"], ""
    if equal[strongest]:
        ending = ", a difference within the uncertainty"
    elif n_runs[strongest] == 1 < n_runs[METHOD]:
        ending = _ONE_DRAW
    sentences = [f"{headline}; {rival}{ending}.", *without]

    # the labels that are saved
    for name in dict.fromkeys([strongest, *_ALWAYS_COMPARED]):
        if name not in baselines:
            continue
        reached = f"{baselines[name]:.2f} with {count:,} labels"
        if steps and name == _SCRATCH:
            text = f"{phrases[name]}, reaches {reached}: too few steps for a fair comparison."
            sentences.append(text[0].upper() + text[1:])
            continue
        saving = label_saving(curve, METHOD, name).set_index("n_labels").loc[count]
        text = _saving_text(saving, equal=bool(equal[name]))
        text += _ONE_DRAW if np.isnan(saving["low"]) else ""
        sentences.append(
            f"Compared with {phrases[name]} ({reached}), {METHOD} classification {text}."
        )
    return sentences


def _describe_no_labels(curve: LabelEfficiencyCurve) -> list[str]:
    """Return a sentence about the score without any label, if the method has one."""
    summary = _of_count(curve, 0)["mean"]
    if METHOD not in summary:
        return []
    score = f"{metric_name(curve.metrics[0])} is {summary[METHOD]:.2f}"
    reason = "the classes are kinds of sources that the simulated teacher of skastro knows"
    return [f"Before the first label, the {score}: {reason}."]


def _of_count(curve: LabelEfficiencyCurve, count: int) -> pd.DataFrame:
    """Return the summary of the first metric at one number of labels, by estimator."""
    summary = curve.summary(curve.metrics[0])
    return summary[summary["n_labels"] == count].set_index("estimator")


def _saving_text(saving: pd.Series, *, equal: bool) -> str:
    """Say by one row of `label_saving` what the method needs; ``equal`` scores leave it open."""
    ratio, low, high = saving["saving"], saving["low"], saving["high"]
    at_least, labels = saving["bound"] == ">=", f"{saving['method_labels']:,.0f} labels"
    uncertain = equal or (low < _MIN_SAVING if ratio > 1 else high > 1 / _MIN_SAVING)
    if saving["bound"] == "<=":
        return f"stays behind{' on average' if uncertain else ''}, even with {labels}"
    if 1 / _MIN_SAVING < ratio < _MIN_SAVING:
        if not at_least:
            return "needs as many labels"
        return f"is {'as good' if equal else 'better'} with as many labels"
    needs = f"needs {labels}{' or fewer' if at_least else ''}"
    if uncertain:
        noun = "a saving" if ratio > 1 else "a loss"
        return f"{needs} on average, but the draws of labels vary too much to call this {noun}"
    if at_least:
        sure, extent = (low, ", with 95 % confidence") if low < ratio else (ratio, "")
        return f"{needs}: at least {sure:.1f} times fewer{extent}"
    noun = "times fewer"
    if ratio < 1:
        noun, ratio, low, high = "times more", 1 / ratio, 1 / high, 1 / low if low else np.inf
    return f"{needs}: {ratio:.1f} {noun}{_interval(low, high)}"


def _interval(low: float, high: float) -> str:
    if np.isnan(low):
        return ""
    if np.isinf(high):
        return f" (at least {low:.1f}, 95 % bound)"
    return f" ({low:.1f} to {high:.1f}, 95 % interval)"


def magnitude_sentence(bins: pd.DataFrame) -> str:
    """Say whether the scores of the brightest and of the faintest bin differ.

    Bins without ``score``, ``low`` and ``high`` give an empty sentence.

    Examples
    --------
    >>> bins = pd.DataFrame({"score": [0.9, 0.8, 0.6], "low": [0.8, 0.7, 0.5], "high": 0.95})
    >>> magnitude_sentence(bins.assign(high=[0.95, 0.9, 0.7]))
    'The score falls from 0.90 in the brightest bin to 0.60 in the faintest.'
    >>> print(magnitude_sentence(bins))
    The score of the faintest bin (0.60) cannot be told from that of the brightest (0.90): their
    95 % intervals overlap.
    """
    if not {"score", "low", "high"} <= set(bins.columns):
        return ""
    known = bins.dropna(subset=["score", "low", "high"])
    if len(known) < 2:
        return ""
    bright, faint = known.iloc[0], known.iloc[-1]
    ends = f"{bright['score']:.2f} in the brightest bin to {faint['score']:.2f} in the faintest"
    if bright["low"] > faint["high"]:
        return f"The score falls from {ends}."
    if bright["high"] < faint["low"]:
        return f"The score rises from {ends}."
    return (
        f"The score of the faintest bin ({faint['score']:.2f}) cannot be told from that of the "
        f"brightest ({bright['score']:.2f}): their 95 % intervals overlap."
    )


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
