"""The most confident mistakes of a study are explained by properties."""

import numpy as np
import pandas as pd
import pytest

from skastro import KernelProbe, PropertyPretrainedEncoder, measure_properties
from skastro.study.mistakes import explain_mistakes


@pytest.fixture(scope="module")
def study():
    """Return the arguments of `explain_mistakes` for blurred stars that are taken for galaxies."""
    rng = np.random.default_rng(0)
    stamps = rng.normal(size=(80, 2, 8, 8)).astype(np.float32)
    is_star = np.arange(80) % 2 == 0
    stamps[is_star, :, 3:5, 3:5] += 20.0
    stamps[~is_star, :, 1:7, 1:7] += 5.0
    labels = np.where(is_star, "star", "galaxy")
    labels[[61, 63]] = "star"  # galaxies with the label of another class
    encoder = PropertyPretrainedEncoder("stamp_resnet10", max_epochs=2, random_state=0).fit(stamps)
    measured = measure_properties(stamps)
    columns = np.hstack([encoder.transform(stamps), encoder.predict(stamps), measured])
    probe = KernelProbe(columns.shape[1] - len(encoder.embedding_mean_))
    probe.fit(columns[:60], labels[:60])
    table = pd.DataFrame({"id": np.arange(100, 180).astype(str), "label": labels})
    table["split"] = np.where(np.arange(80) < 60, "train", "test")
    table["prediction"] = probe.predict(columns)
    table[["p_galaxy", "p_star"]] = probe.predict_proba(columns)
    return table, probe, labels[:60], columns, encoder, measured


def test_mistakes_among_test_rows_get_a_sentence(study):
    found = explain_mistakes(*study)
    assert sorted(found["id"]) == ["161", "163"]
    assert found["reason"].str.fullmatch(r"\w.+ \S+ \(\+\d\.\d\d\)(, .+\)){0,2}").all()


def test_a_study_without_mistakes_has_none_to_explain(study):
    table, *rest = study
    right = table.assign(label=table["prediction"])
    assert explain_mistakes(right, *rest).empty
