import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose

from skastro import AblationDisplay
from skastro.evaluation.label_efficiency import LabelEfficiencyCurve
from skastro.evaluation.property_ablation import PropertyAblation
from tests.plots.conftest import DIFFERENCES


def test_settings_stand_in_order_with_a_point_for_each_number_of_labels():
    display = AblationDisplay(DIFFERENCES, reference="all").plot()
    assert [label.get_text() for label in display.ax_.get_yticklabels()] == ["colours", "sizes"]
    assert list(display.points_) == [30, 100]
    assert_allclose(display.points_[30].lines[0].get_xydata()[:, 0], [-0.02, -0.1])
    (segments,) = display.points_[30].lines[2]
    assert_allclose(segments.get_segments()[1][:, 0], [-0.14, -0.06])
    upper, lower = (display.points_[n].lines[0].get_xydata()[:, 1] for n in (30, 100))
    assert (upper < lower).all()
    assert (np.abs(upper - [0, 1]) < 0.5).all()
    assert display.ax_.get_ylim() == (1.5, -0.5)
    assert display.ax_.get_xlabel() == 'difference in score from "all"'
    one = AblationDisplay(DIFFERENCES.drop(columns="n_labels").iloc[[0, 2]]).plot()
    assert list(one.points_) == [None]
    assert one.ax_.get_legend() is None


def test_property_ablation_is_drawn_as_paired_differences():
    scores = pd.DataFrame(
        [
            (name, 30, 0, repeat, "balanced_accuracy", base + 0.01 * repeat)
            for name, base in (("all", 0.7), ("sizes", 0.6))
            for repeat in range(3)
        ],
        columns=["estimator", "n_labels", "split", "repeat", "metric", "score"],
    )
    curve = LabelEfficiencyCurve.from_scores(scores)
    display = AblationDisplay.from_result(
        PropertyAblation(curve, {"all": ["r", "r50"], "sizes": ["r50"]}, "all")
    )
    assert display.table["setting"].tolist() == ["sizes"]
    assert_allclose(display.points_[30].lines[0].get_xydata()[:, 0], [-0.1])
    assert display.ax_.get_xlabel() == 'difference in balanced accuracy from "all"'


def test_tables_without_columns_or_rows_are_refused():
    with pytest.raises(ValueError, match="table lacks the column 'low'"):
        AblationDisplay(DIFFERENCES.drop(columns="low"))
    with pytest.raises(ValueError, match="table has no row"):
        AblationDisplay(DIFFERENCES[:0])
