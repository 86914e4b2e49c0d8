"""What describes stamps is kept, and computed again when stamps or encoder change."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from skastro import PropertyPretrainedEncoder, load_pretrained
from skastro.pages import label_columns
from skastro.pages.label_columns import KeptColumns


@pytest.fixture
def calls(monkeypatch):
    """Count the measurements."""
    counted = []
    measure = label_columns.measure_properties

    def count(images):
        counted.append(len(images))
        return measure(images)

    monkeypatch.setattr(label_columns, "measure_properties", count)
    return counted


def test_a_restart_computes_nothing_again(survey, fitted, tmp_path, calls):
    images, file = survey[0][:40], tmp_path / "columns.npz"
    embeddings, measured = KeptColumns(file, images).describe(fitted)
    np.testing.assert_array_equal(embeddings, fitted.transform(images))
    again = KeptColumns(file, images)
    assert again.weights == ""
    values, table = again.describe(fitted)
    assert calls == [40]
    np.testing.assert_array_equal(values, embeddings)
    pd.testing.assert_frame_equal(table, measured)
    assert table.attrs["units"] == measured.attrs["units"] != {}


@pytest.mark.parametrize("change", ["pixel", "order", "number", "encoder", "damage"])
def test_what_has_changed_is_noticed(survey, fitted, tmp_path, calls, change):
    images, file, encoder = survey[0][:40].copy(), tmp_path / "columns.npz", fitted
    KeptColumns(file, images).describe(encoder)
    if change == "pixel":
        images[37, 0, 3, 3] += 1
    elif change == "order":
        images[[1, 2]] = images[[2, 1]]
    elif change == "number":
        images = images[:30]
    elif change == "damage":
        file.write_bytes(file.read_bytes()[:2000])
    else:
        fitted.save(tmp_path / "encoder.safetensors")
        encoder = PropertyPretrainedEncoder.load(tmp_path / "encoder.safetensors")
        encoder.embedding_mean_ = encoder.embedding_mean_ + 1
    embeddings, _ = KeptColumns(file, images).describe(encoder)
    assert len(calls) == 2
    np.testing.assert_array_equal(embeddings, encoder.transform(images))


def test_the_name_of_released_weights_is_kept_for_the_same_stamps(tmp_path):
    images = np.random.default_rng(0).normal(size=(4, 1, 32, 32)).astype(np.float32)
    KeptColumns(tmp_path / "c.npz", images).describe(load_pretrained("galaxies"))
    assert KeptColumns(tmp_path / "c.npz", images).weights == "galaxies"
    assert KeptColumns(tmp_path / "c.npz", images[:3]).weights == ""
