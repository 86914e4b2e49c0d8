import numpy as np
import pandas as pd
import pytest

from skastro import Explanation, ExplanationDisplay
from skastro.evaluation.explanation import BASE, REST
from tests.plots.conftest import STAMPS, lie_inside

NAMES = [BASE, "arm_strength", "mag_r", "dust", REST]
TABLE = pd.DataFrame({
    "object": np.repeat([0, 1], 5), "class": "spiral", "probability": 0.9,
    "property": NAMES * 2, "unit": ["", "", "mag", "", ""] * 2,
    "value": [np.nan, 0.7, 17.1, np.nan, np.nan] * 2, "typical": np.nan,
    "contribution": [0.3, 0.4, 0.1, -0.1, 0.2, 0.3, 0.1, 0.05, -0.25, 0.7],
})  # fmt: skip
WHERE = np.zeros((2, 8, 8), np.float32)
WHERE[0, 3:5, 3:5] = 0.5


@pytest.fixture
def reasons():
    return Explanation(
        np.array(["spiral", "spiral"]), np.array([0.9, 0.9]), TABLE, TABLE[:0], WHERE
    )


def test_a_row_has_stamp_map_and_the_largest_contributions(reasons):
    display = ExplanationDisplay.from_explanation(
        reasons, STAMPS[:2], ids=[17, 42], max_properties=3
    )
    assert len(display.images_) == 4
    np.testing.assert_array_equal(display.images_[1].get_array(), WHERE[0])
    assert [len(bars) for bars in display.bars_] == [3, 3]
    widths = [bar.get_width() for bar in display.bars_[1]]
    assert np.abs(widths).tolist() == sorted(np.abs(widths), reverse=True)
    assert widths[1] / widths[0] == pytest.approx(-0.25 / 0.7)
    texts = [text.get_text() for text in display.ax_.texts]
    assert {"17: spiral 0.90", "42: spiral 0.90", "arm strength 0.7", "mag_r 17.1 mag"} <= set(
        texts
    )
    assert {"dust unknown", REST} <= set(texts)
    assert BASE not in texts
    assert lie_inside(display.figure_)


def test_the_map_has_one_scale_for_both_signs(reasons):
    _, strong, _, faint = ExplanationDisplay.from_explanation(reasons, STAMPS[:2]).images_
    assert strong.get_clim() == (-0.5, 0.5)
    assert faint.get_clim() == (-0.1, 0.1)


def test_without_maps_stamps_and_properties_are_drawn(reasons):
    reasons.where = None
    display = ExplanationDisplay.from_explanation(reasons, STAMPS[:2], max_objects=1)
    assert len(display.images_) == len(display.bars_) == 1
    assert lie_inside(display.figure_)


def test_stamps_of_other_objects_are_refused(reasons):
    with pytest.raises(ValueError, match="images has 3 stamps for 2 objects"):
        ExplanationDisplay.from_explanation(reasons, STAMPS[:3])
    with pytest.raises(ValueError, match=r"ids has shape \(1,\), but there are 2 objects"):
        ExplanationDisplay.from_explanation(reasons, STAMPS[:2], ids=[1])
