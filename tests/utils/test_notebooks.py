"""What Jupyter and a terminal show of the results."""

from __future__ import annotations

import base64
import re
from dataclasses import fields
from io import BytesIO
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from skastro import (
    CatalogMatch,
    EmbeddedSurvey,
    Embeddings,
    LabelEfficiencyCurve,
    PropertyAblation,
    Survey,
    inspect_survey,
    open_stamps,
)
from skastro.study.data import StudyData
from skastro.study.results import Study
from skastro.utils.notebooks import as_html, picture_strip
from tests.conftest import make_stamps

N = 3000


def make_results(folder):
    """Return one result of each kind that holds long arrays or tables."""
    stamps, labels, properties = make_stamps(N)
    catalog = properties.assign(id=np.arange(N), klass=labels)
    np.save(folder / "stamps.npy", stamps)
    lazy = open_stamps(folder / "stamps.npy", bands="gri")
    rows = [
        (name, count, 0, repeat, "balanced_accuracy", 0.5 + 0.01 * repeat)
        for name in ("all", "<sizes>")
        for count in (30, 100)
        for repeat in range(3)
    ]
    columns = ["estimator", "n_labels", "split", "repeat", "metric", "score"]
    curve = LabelEfficiencyCurve.from_scores(pd.DataFrame(rows, columns=columns))
    index = np.arange(N)
    names = {"all": "self-supervised", "<sizes>": "scratch"}
    by_method = LabelEfficiencyCurve(curve.scores.replace({"estimator": names}))
    unused = dict.fromkeys(field.name for field in fields(Study))
    plan = {"plan": {"steps": 40}}
    study = Study(**unused | {"curve": by_method, "embeddings": index[:, None], "config": plan})
    return {
        "study": study,
        "data": StudyData(stamps, labels.astype(object), index, properties),
        "array": Survey(stamps, catalog, bands=("g", "r", "i"), target=labels, path=folder),
        "lazy": Survey(lazy, catalog, left_out={"empty": ["7", "9"]}),
        "stamps": lazy,
        "inspection": inspect_survey(stamps, catalog, label="klass", properties=["size"]),
        "curve": curve,
        "ablation": PropertyAblation(curve, {"all": ["r"], "<sizes>": ["r50"]}, "all"),
        "match": CatalogMatch(index, index, N, N, "sky", separation=np.zeros(N)),
        "embeddings": Embeddings(np.zeros((N, 9), np.float32), index),
        "embedded": EmbeddedSurvey(Path("e.zarr"), N, 9, 0, 2.0),
    }


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    return make_results(tmp_path_factory.mktemp("results"))


def test_text_is_short_and_names_what_is_there(results):
    texts = {name: repr(result) for name, result in results.items()}
    for text in texts.values():
        assert len(text.splitlines()) <= 8
        assert max(map(len, text.splitlines())) < 300
    assert texts["array"].splitlines()[:3] == [
        "Survey of 3,000 stamps in 3 bands g/r/i, 8 x 8 pixels",
        "target: star (1,500), galaxy (1,500)",
        "catalog: 6 columns, mag_u, mag_g, mag_r, size, id, klass",
    ]
    assert texts["study"].startswith("Study of 3,000 stamps\nWith 100 labels, self-supervised")
    assert texts["data"].splitlines() == [
        "StudyData of 3,000 stamps: arrays in memory",
        "labels: star (1,500), galaxy (1,500)",
        "properties: mag_u, mag_g, mag_r, size",
    ]
    assert texts["lazy"].endswith("left_out: empty (2)")
    assert texts["inspection"].startswith("Inspection of 3,000 stamps and 6 columns: 1 problem\n- ")
    assert "mean balanced accuracy by number of labels" in texts["curve"]
    assert texts["match"].startswith("CatalogMatch: 3,000 of 3,000 stamps matched by position;")
    assert texts["embeddings"] == (
        "Embeddings of 3,000 objects in 9 columns, ids 0, 1, 2, 3, 4, 5, 6, 7 and 2,992 more"
    )
    assert "1,500 objects per second" in texts["embedded"]


def test_notebooks_show_stamps_and_tables(results):
    for name in ("array", "lazy", "stamps", "data"):
        page = results[name]._repr_html_()
        (picture,) = re.findall(r'src="data:image/png;base64,([^"]+)"', page)
        with Image.open(BytesIO(base64.b64decode(picture))) as strip:
            assert strip.size == (12 * 9, 8)  # 12 stamps of 8 pixels, with a gap of one
        assert ("<th>mag_u</th>" in page) == (name in ("array", "lazy"))
    curve = results["curve"]._repr_html_()
    assert "<td>0.510 ± 0.025</td>" in curve
    assert "&lt;sizes&gt;" in curve
    assert "<sizes>" not in curve + results["ablation"]._repr_html_()
    assert "<td>mag_u</td>" in results["inspection"]._repr_html_()
    assert max(len(results[name]._repr_html_()) for name in ("curve", "inspection")) < 20_000


def test_pictures_of_large_stamps_are_small():
    noise = np.random.default_rng(0).integers(0, 256, (20, 3, 200, 150), dtype=np.uint8)
    assert len(picture_strip(noise)) < 300_000


def test_stamps_that_cannot_be_read_are_shown_without_a_picture(tmp_path):
    np.save(tmp_path / "stamps.npy", np.zeros((3, 3, 8, 8)))
    stamps = open_stamps(tmp_path / "stamps.npy")
    (tmp_path / "stamps.npy").unlink()
    assert stamps._repr_html_().endswith(f"<pre>{stamps!r}</pre></div>")
    assert "Survey of 0 stamps" in Survey(stamps[:0], pd.DataFrame({"id": []}))._repr_html_()


def test_long_tables_are_shortened():
    page = as_html("", pd.DataFrame(np.zeros((5000, 300))))
    assert page.count("<tr>") < 80
    assert page.count("<th>") < 120
