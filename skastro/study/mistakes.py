"""Explain the most confident mistakes of a study by properties."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from skastro.estimators.encoder import PropertyPretrainedEncoder
from skastro.evaluation.explanation import (
    list_reasons,
    name_bands,
    name_columns,
    tabulate_reasons,
)
from skastro.evaluation.shapley import PropertyShapley
from skastro.probes.kernel_probe import KernelProbe

_N_MISTAKES = 24
_N_PROPERTIES = 3  # in a reason


def explain_mistakes(
    predictions: pd.DataFrame,
    probe: KernelProbe,
    learned: NDArray[Any],
    columns: NDArray[np.float64],
    encoder: PropertyPretrainedEncoder,
    measured: pd.DataFrame,
    teachers: Sequence[PropertyPretrainedEncoder] = (),
) -> pd.DataFrame:
    """Say which properties made the most confident mistakes.

    Parameters
    ----------
    predictions : DataFrame of n rows
        ``id``, ``split``, ``label``, ``prediction`` and the probabilities ``p_<class>``.
    probe : KernelProbe
        What predicted.
    learned : array of shape (m,)
        The labels from which the probe has learned, in the order of its `fit`.
    columns : float64 array of shape (n, d)
        What the probe gets: embedding, properties and measured properties, then those of teachers.
    encoder : PropertyPretrainedEncoder
    measured : DataFrame of n rows
    teachers : sequence of PropertyPretrainedEncoder, default=()

    Returns
    -------
    mistakes : DataFrame
        ``id`` and ``reason`` of at most 24 test rows: the three properties that speak most for the
        wrong class, such as "arm strength 0.7 (+0.24)", with what they add to its probability.
    """
    known = predictions[(predictions["split"] == "test") & (predictions["label"] != "")]
    wrong = known[known["label"] != known["prediction"]]
    probabilities = wrong[[f"p_{name}" for name in probe.classes_]].to_numpy()
    certain = np.argsort(-probabilities.max(axis=1, initial=0.0), kind="stable")[:_N_MISTAKES]
    rows, probabilities = wrong.index.to_numpy()[certain], probabilities[certain]
    if not len(rows):
        return pd.DataFrame({"id": wrong["id"], "reason": ""})
    units = measured.attrs.get("units", {})
    named: dict[int, tuple[str, str]] = name_columns(
        encoder,
        {str(name): units.get(name, "") for name in measured},
        teachers=list(zip(teachers, probe.shares_[1:], strict=True)),
    )
    bands = getattr(encoder, "bands_", None)
    names = name_bands({column: name for column, (name, _) in named.items()}, bands)
    labels = np.searchsorted(probe.classes_, learned[probe.centers_].astype(str))
    properties = PropertyShapley(probe, names, labels)
    codes = probabilities.argmax(axis=1)
    own = probabilities[np.arange(len(rows)), codes]
    classes: NDArray[Any] = probe.classes_[codes]
    table = tabulate_reasons(
        classes, own, properties, columns[rows], codes,
        units={names[column]: unit for column, (_, unit) in named.items()},
    )  # fmt: skip
    reasons = [
        ", ".join(list_reasons(part)[0][:_N_PROPERTIES])
        for _, part in table.groupby("object", sort=True)
    ]
    return pd.DataFrame({"id": wrong["id"].to_numpy()[certain], "reason": reasons})
