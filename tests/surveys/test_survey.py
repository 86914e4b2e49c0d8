"""Rows of a survey: the same ones of its stamps, catalogue, ids and classes."""

import numpy as np
import pandas as pd
import pytest

from skastro import Survey, open_stamps

IDS = ["a", "b", "c", "d"]


@pytest.fixture(params=["array", "files"])
def survey(request, tmp_path):
    images = np.arange(4.0)[:, None, None, None] * np.ones((1, 2, 4, 4))
    if request.param == "files":
        np.save(tmp_path / "stamps.npy", images)
        images = open_stamps(tmp_path / "stamps.npy", bands="gr")
    table = pd.DataFrame({"id": IDS, "mag_r": [19.0, 20.0, 21.0, 22.0]})
    table.attrs["units"] = {"mag_r": "mag"}
    target = np.array(["star", "star", "galaxy", None], dtype=object)
    return Survey(images, table, target=target, truth=table[["mag_r"]], bands=("g", "r"))


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        (slice(1, 3), [1, 2]),
        ([3, 0], [3, 0]),
        (np.array([False, True, False, True]), [1, 3]),
        (pd.Series([False, True, False, True]), [1, 3]),
    ],
    ids=["slice", "list", "mask", "Series"],
)
def test_rows_of_all_fields_are_the_same(survey, rows, expected):
    part = survey[rows]
    assert len(part) == len(expected) == len(part.images)
    assert np.asarray(part.images)[:, 0, 0, 0].tolist() == expected
    assert part.images.bands == part.bands == ("g", "r")
    assert part.ids.tolist() == part.catalog["id"].tolist() == [IDS[row] for row in expected]
    assert part.target.tolist() == [survey.target[row] for row in expected]
    assert part.truth["mag_r"].tolist() == [19.0 + row for row in expected]
    assert part.catalog.index.tolist() == list(range(len(expected)))
    assert part.catalog.attrs["units"] == {"mag_r": "mag"}
    assert len(survey) == 4


def test_a_single_row_is_refused_with_the_remedy(survey):
    with pytest.raises(IndexError, match=r"survey\[\[5\]\] takes one"):
        survey[2]
    with pytest.raises(TypeError, match=r"use survey\.images or survey\.catalog"):
        survey["images"]
