"""Show morphology in commands, by the weights that are part of skastro: no function here prints."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.preprocessing import StandardScaler

from skastro.estimators.classifier import SelfSupervisedClassifier
from skastro.estimators.encoder import PropertyPretrainedEncoder
from skastro.estimators.morphology import tabulate_morphology
from skastro.study.teachers import append_columns, favoured_teacher
from skastro.surveys.survey import Survey
from skastro.utils.progress import Say


def describe_morphology(
    encoder: PropertyPretrainedEncoder, embeddings: NDArray[Any]
) -> pd.DataFrame | None:
    """Return the table of `tabulate_morphology`; None for an encoder that was trained by `fit`."""
    is_teacher = encoder.image_shape_ is None
    return tabulate_morphology(encoder, embeddings) if is_teacher else None


def choose_morphology(morphology: pd.DataFrame | None, on: str) -> NDArray[Any] | None:
    """Return the numbers to cluster by: standardised, or the probabilities of "kinds".

    None for the embedding.
    """
    if on == "embedding":
        return None
    if morphology is None:
        raise ValueError(
            f"--on {on} needs a data folder and the encoder that knows it: add --encoder galaxies."
        )
    if on == "kinds":
        return morphology[morphology.attrs["kinds"]].to_numpy()
    return np.asarray(StandardScaler().fit_transform(morphology.select_dtypes("number")))


def append_morphology(
    predictions: pd.DataFrame,
    model: SelfSupervisedClassifier,
    survey: Survey,
    *,
    named: bool = False,
    say: Say,
) -> pd.DataFrame:
    """Append what the weights of skastro say about the stamps, where the classifier uses them.

    ``named`` appends it in any case. ``say`` gets a sentence about the columns.
    """
    encoder = model.encoder_ if model.encoder_.image_shape_ is None else None
    if encoder is None:
        probe = model.catalog_probe_ or model.probe_
        name = favoured_teacher(list(model.teachers_), probe, named=named)
        if name is None:
            return predictions
        encoder = model.teachers_[name]
    morphology = tabulate_morphology(encoder, np.asarray(encoder.transform(survey.images)))
    say(
        f"The morphology by the weights {encoder.weights!r} is in the columns "
        f"{', '.join(morphology.columns[:3])} ... {morphology.columns[-1]}."
    )
    return append_columns(predictions, morphology)
