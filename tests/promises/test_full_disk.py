"""On a full disk, writers raise an error of one sentence and leave no incomplete file."""

from __future__ import annotations

import resource
from contextlib import contextmanager

import numpy as np
import pandas as pd
import pytest

from skastro import open_stamps, write_explorer
from skastro.catalogs.writing import write_table
from skastro.embeddings.files import write_embeddings
from skastro.evaluation.label_efficiency import LabelEfficiencyCurve
from skastro.pages.thumbnails import write_thumbnails
from skastro.study import baselines
from skastro.study.run import run_study
from tests.study.conftest import PLAN, folder, read  # noqa: F401 - a fixture

ROWS = 3000


@contextmanager
def full_after(size):
    """Let no file grow beyond a size in bytes; the system's error is like that of a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def _noise(shape):
    return np.random.default_rng(0).normal(size=shape).astype("f4")


def save_encoder(path, fitted):
    fitted.save(path)


def save_stamps(path, _):
    np.save(path.parent / "whole.npy", _noise((60, 3, 8, 8)))
    with full_after(5000):
        open_stamps(path.parent / "whole.npy").save(path, chunk=30, progress=False)


def write_a_table(path, _):
    frame = pd.DataFrame({"id": np.arange(ROWS).astype(str), "mag_g": _noise(ROWS)})
    write_table(path, frame)


def write_some_embeddings(path, _):
    write_embeddings(path, _noise((ROWS, 4)), np.arange(ROWS))


def write_scores(path, _):
    runs = pd.DataFrame(
        {"estimator": "a", "n_labels": 30, "split": 0, "repeat": np.arange(ROWS), "metric": "m"}
    )
    LabelEfficiencyCurve.from_scores(runs.assign(score=0.123456789)).to_csv(path)


def write_a_projection(path, _):
    write_explorer(path, np.zeros((3, 2)), table=pd.DataFrame({"id": ["a", "b", "c"]}))


def write_a_sheet(path, _):
    write_thumbnails(path, _noise((50, 3, 32, 32)))


WRITERS = [
    ("encoder.safetensors", save_encoder),
    ("stamps.npy", save_stamps),
    ("stamps.zarr", save_stamps),
    *((f"table.{ending}", write_a_table) for ending in ("csv", "fits", "ecsv", "parquet", "vot")),
    ("e.npz", write_some_embeddings),
    ("e.npy", write_some_embeddings),
    ("scores.csv", write_scores),
    ("explore.html", write_a_projection),
    ("thumbnails.webp", write_a_sheet),
]


@pytest.mark.parametrize(("name", "write"), WRITERS, ids=[name for name, _ in WRITERS])
def test_a_full_disk_is_an_error_of_one_sentence_and_leaves_no_incomplete_file(
    name, write, fitted, tmp_path
):
    path = tmp_path / name
    limit = 10**5 if write is save_stamps else 5000  # save_stamps writes its input first
    with full_after(limit), pytest.raises(OSError, match="cannot be written") as caught:
        write(path, fitted)
    text = str(caught.value)
    assert text.startswith(f"{path} cannot be written (no space is left): make room")
    assert "\n" not in text
    # the partial files from which Stamps.save resumes may stay
    names = {file.name for file in tmp_path.iterdir() if "partial" not in file.name}
    assert names <= {"whole.npy"}
    if write is not save_stamps:
        write(path, fitted)  # there is room now
        assert path.exists()


def test_a_study_on_a_full_disk_names_the_file_and_leaves_no_results(
    folder,  # noqa: F811 - the fixture
    tmp_path,
    monkeypatch,
):
    monkeypatch.setattr(baselines, "_IMAGENET_PACKAGE", "no_such_package")
    out = tmp_path / "out"
    data = read(folder)
    with full_after(5000), pytest.raises(OSError, match="no space is left") as caught:
        run_study(data, out, plan=PLAN)
    assert str(caught.value).startswith(str(tmp_path))
    assert not out.exists()
