"""Explain the most confident mistakes of a study by properties."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from skastro.estimators.encoder import PropertyPretrainedEncoder
from skastro.evaluation.explanation import Explanation, name_columns, tabulate_reasons
from skastro.evaluation.shapley import PropertyShapley
from skastro.probes.kernel_probe import KernelProbe

_N_MISTAKES = 24


def explain_mistakes(
    predictions: pd.DataFrame,
    probe: KernelProbe,
    columns: NDArray[np.float64],
    encoder: PropertyPretrainedEncoder,
    measured: pd.DataFrame,
    teachers: Sequence[PropertyPretrainedEncoder] = (),
) -> pd.DataFrame:
    """Say which properties made the most confident mistakes.

    Parameters
    ----------
    predictions : DataFrame of n rows
        ``id``, ``split``, ``label``, ``used``, ``prediction`` and the probabilities ``p_<class>``.
    probe : KernelProbe
        What predicted; it has learned from the rows that were ``used``, in their order.
    columns : float64 array of shape (n, d)
        What the probe gets: embedding, properties and measured properties, then those of teachers.
    encoder : PropertyPretrainedEncoder
    measured : DataFrame of n rows
    teachers : sequence of PropertyPretrainedEncoder, default=()

    Returns
    -------
    mistakes : DataFrame
        ``id`` and ``reason``: a sentence for each of at most 24 test rows.
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
    properties = PropertyShapley(probe, {column: name for column, (name, _) in named.items()})
    codes = probabilities.argmax(axis=1)
    own = probabilities[np.arange(len(rows)), codes]
    classes: NDArray[Any] = probe.classes_[codes]
    table = tabulate_reasons(
        classes, own, properties, columns[rows], codes,
        units=dict(named.values()),
    )  # fmt: skip
    sentences = Explanation(classes, own, table, pd.DataFrame()).sentences
    return pd.DataFrame({"id": wrong["id"].to_numpy()[certain], "reason": sentences})
