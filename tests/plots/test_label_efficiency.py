import itertools

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.datasets import load_wine
from sklearn.linear_model import RidgeClassifier
from sklearn.naive_bayes import GaussianNB

from skastro.evaluation.label_efficiency import LabelEfficiencyCurve
from skastro.evaluation.label_saving import label_saving
from skastro.plots import style
from skastro.plots.label_efficiency import (
    LabelEfficiencyDisplay,
    _choose_ticks,
    _push_apart,
    _saving_text,
)

COUNTS = [30, 100, 300, 1000, 3029]
MEANS = {
    "self-supervised": [0.708, 0.795, 0.838, 0.857, 0.868],
    "scratch": [0.697, 0.766, 0.827, 0.854, 0.868],
    "aperture": [0.581, 0.709, 0.725, 0.734, 0.742],
    "imagenet": [0.510, 0.576, 0.601, 0.629, 0.641],
    "catalogue": [0.539, 0.598, 0.615, 0.631, 0.639],
}


@pytest.fixture
def curve():
    rng = np.random.default_rng(0)
    scatter = dict(zip(COUNTS, [0.02, 0.015, 0.01, 0.007, 0.005], strict=True))
    records = [
        (name, n, 0, repeat, metric, score + scatter[n] * rng.normal())
        for name, means in MEANS.items()
        for n, score in zip(COUNTS, means, strict=True)
        for repeat in range(5)
        for metric in ("balanced_accuracy", "f1_macro")
    ]
    columns = ["estimator", "n_labels", "split", "repeat", "metric", "score"]
    return LabelEfficiencyCurve.from_scores(pd.DataFrame(records, columns=columns))


def texts(display):
    return [text.get_text() for text in display.ax_.texts if text.get_text()]


def boxes(display):
    display.figure_.draw_without_rendering()
    return {
        text.get_text(): text.get_window_extent()
        for text in display.ax_.texts
        if text.get_text()
    }  # fmt: skip


def test_lines_and_bands_hold_the_means_and_intervals(curve):
    display = LabelEfficiencyDisplay.from_result(curve, metric="f1_macro")
    summary = curve.summary("f1_macro")
    assert list(display.lines_) == list(display.bands_) == list(MEANS)
    for name, line in display.lines_.items():
        table = summary[summary["estimator"] == name]
        assert_array_equal(line.get_xdata(), COUNTS)
        assert_array_equal(line.get_ydata(), table["mean"])
        corners = display.bands_[name].get_paths()[0].vertices
        for n, low, high in table[["n_labels", "low", "high"]].to_numpy():
            at_count = corners[corners[:, 0] == n, 1]
            assert_allclose([at_count.min(), at_count.max()], [low, high])


def test_bars_reach_over_the_interval(curve):
    display = LabelEfficiencyDisplay.from_result(curve, intervals="bars")
    row = curve.summary("balanced_accuracy").iloc[0]
    (segments,) = display.bands_["self-supervised"].lines[2]
    assert_allclose(segments.get_segments()[0][:, 1], [row["low"], row["high"]])


def test_single_run_is_drawn_without_interval(curve):
    single = LabelEfficiencyCurve.from_scores(curve.scores[curve.scores["repeat"] == 0])
    display = LabelEfficiencyDisplay.from_result(single)
    assert len(display.lines_) == 5
    assert display.bands_ == {}
    assert LabelEfficiencyDisplay.from_result(curve, intervals=None).bands_ == {}


def test_axes_have_names_and_the_label_counts(curve):
    display = LabelEfficiencyDisplay.from_result(curve, of="galaxies")
    ax = display.ax_
    assert ax.get_xscale() == "log"
    assert [label.get_text() for label in ax.get_xticklabels()] == [
        "30", "100", "300", "1,000", "3,029",
    ]  # fmt: skip
    assert ax.get_xlabel() == "labels used for training"
    assert ax.get_ylabel() == "balanced accuracy on unseen galaxies"


def test_names_stand_in_order_of_the_last_score_without_overlap(curve):
    display = LabelEfficiencyDisplay.from_result(curve)
    last = {name: line.get_ydata()[-1] for name, line in display.lines_.items()}
    by_score = sorted(last, key=lambda name: -last[name])
    assert texts(display) == by_score
    extents = boxes(display)
    for upper, lower in itertools.pairwise(by_score):
        assert extents[upper].y0 >= extents[lower].y1
    figure = display.figure_.bbox
    for box in extents.values():
        assert figure.x0 <= box.x0
        assert box.x1 <= figure.x1


def test_names_become_a_legend_where_no_layout_makes_room_for_them(curve):
    _, axes = plt.subplots(2, 2)
    display = LabelEfficiencyDisplay.from_result(curve, ax=axes[0, 0])
    assert texts(display) == []
    assert len(display.ax_.get_legend().get_texts()) == len(MEANS)


def test_legend_replaces_the_names(curve):
    display = LabelEfficiencyDisplay.from_result(curve, legend=True)
    assert texts(display) == []
    entries = [text.get_text() for text in display.ax_.get_legend().get_texts()]
    assert sorted(entries) == sorted(MEANS)
    assert entries[2] == "aperture"


@pytest.fixture
def narrow():
    """Return axes of a figure for phones."""
    return plt.figure(figsize=(4.2, 4.8), layout="constrained").subplots()


@pytest.mark.parametrize(("suffix", "columns"), [("", 2), (" of many words, probed", 1)])
def test_a_legend_below_stays_clear_of_the_axes_in_as_many_columns_as_fit(
    curve, narrow, suffix, columns
):
    scores = curve.scores.assign(estimator=curve.scores["estimator"] + suffix)
    curve = LabelEfficiencyCurve.from_scores(scores)
    display = LabelEfficiencyDisplay.from_result(curve, ax=narrow, legend="below")
    display.figure_.draw_without_rendering()
    (legend,) = display.figure_.legends
    axes, names = narrow.get_tightbbox(), legend.get_window_extent()
    figure = display.figure_.bbox
    assert figure.y0 <= names.y0 < names.y1 <= axes.y0 < axes.y1 <= figure.y1
    assert figure.x0 <= names.x0 < names.x1 <= figure.x1
    assert figure.x0 <= axes.x0 < axes.x1 <= figure.x1
    entries = {text.get_text(): text.get_window_extent().x0 for text in legend.get_texts()}
    assert len(set(entries.values())) == columns
    last = {name: line.get_ydata()[-1] for name, line in display.lines_.items()}
    assert list(entries) == sorted(last, key=lambda name: -last[name])
    assert texts(display) == []


def test_numbers_of_narrow_axes_do_not_meet(curve, narrow):
    scores = curve.scores.replace({"n_labels": {1000: 1900}})
    LabelEfficiencyDisplay.from_result(LabelEfficiencyCurve.from_scores(scores), ax=narrow)
    narrow.figure.draw_without_rendering()
    extents = [label.get_window_extent() for label in narrow.get_xticklabels()]
    assert len(extents) == 4
    for left, right in itertools.pairwise(extents):
        assert left.x1 < right.x0


@pytest.mark.parametrize("n_labels", COUNTS)
def test_text_of_the_saving_stays_inside_narrow_axes(curve, narrow, n_labels):
    saving = ("self-supervised", "scratch", n_labels)
    display = LabelEfficiencyDisplay.from_result(curve, saving=saving, ax=narrow, legend="below")
    (box,) = [box for text, box in boxes(display).items() if "labels" in text]
    inside = narrow.get_window_extent()
    assert inside.contains(*box.min)
    assert inside.contains(*box.max)


def test_lines_differ_in_colour_and_without_it():
    summary = pd.DataFrame({"n_labels": [10, 20], "mean": 0.5, "low": 0.4, "high": 0.6})
    many = pd.concat([summary.assign(estimator=f"e{i}") for i in range(15)])
    lines = LabelEfficiencyDisplay(many).plot().lines_.values()
    styles = [(line.get_marker(), line._dash_pattern) for line in lines]
    assert len(set(map(str, styles))) == 15
    assert [line.get_color() for line in lines][:7] == list(style.OKABE_ITO)


def test_axes_of_a_subfigure_can_be_drawn_into(curve):
    figure = plt.figure(layout="constrained")
    ax = figure.subfigures(1, 2)[0].subplots()
    display = LabelEfficiencyDisplay.from_result(
        curve, ax=ax, saving=("self-supervised", "scratch")
    )
    assert len(texts(display)) == 6


def test_line_params_change_their_line_only(curve):
    display = LabelEfficiencyDisplay.from_result(curve, line_params={"scratch": {"linewidth": 7}})
    assert display.lines_["scratch"].get_linewidth() == 7
    assert display.lines_["aperture"].get_linewidth() < 7


def test_a_very_small_saving_is_written_without_an_arrow(curve):
    scores = curve.scores[curve.scores["estimator"] == "scratch"]
    twin = scores.assign(estimator="twin", score=scores["score"] - 0.002)
    both = LabelEfficiencyCurve.from_scores(pd.concat([scores, twin]))
    display = LabelEfficiencyDisplay.from_result(both, saving=("twin", "scratch", 100))
    assert not any(
        getattr(note, "arrow_patch", None)
        and note.get_text() == ""
        and note.xy[1] == note.get_position()[1]
        for note in display.ax_.texts
    )
    assert any("labels" in text for text in texts(display))


def test_saving_is_an_arrow_at_the_baselines_score(curve):
    display = LabelEfficiencyDisplay.from_result(
        curve, saving=("self-supervised", "aperture", 1000), metric="balanced_accuracy"
    )
    row = label_saving(curve, "self-supervised", "aperture").set_index("n_labels").loc[1000]
    (arrow,) = [
        note
        for note in display.ax_.texts
        if getattr(note, "arrow_patch", None) and note.xy[0] == row["method_labels"]
    ]
    assert arrow.xy == (row["method_labels"], row["baseline_score"])
    assert arrow.get_position() == (1000, row["baseline_score"])
    (text,) = [text for text in texts(display) if "labels" in text]
    assert text.startswith(f"{row['saving']:.0f}\u00d7 fewer labels (")


def test_text_of_the_saving_stays_clear_of_the_lines(curve):
    display = LabelEfficiencyDisplay.from_result(curve, saving=("self-supervised", "scratch", 100))
    (box,) = [box for text, box in boxes(display).items() if "labels" in text]
    assert display.ax_.get_window_extent().containsx(box.x0)
    assert display.ax_.get_window_extent().containsx(box.x1)
    for line in display.lines_.values():
        path = line.get_transform().transform_path(line.get_path())
        assert not path.intersects_bbox(box, filled=False)


def test_saving_defaults_to_the_fewest_labels_that_measure_it(curve):
    display = LabelEfficiencyDisplay.from_result(curve, saving=("self-supervised", "aperture"))
    assert display.saving["n_labels"] == 100
    assert display.saving["bound"] == "="


def test_a_saving_that_is_only_a_bound_is_written_as_one(curve):
    display = LabelEfficiencyDisplay.from_result(curve, saving=("self-supervised", "catalogue"))
    assert display.saving["bound"] == ">="
    assert "≥ 101\u00d7 fewer labels" in texts(display)


@pytest.mark.parametrize(
    ("saving", "low", "high", "bound", "text"),
    [
        (1.68, 1.23, 2.11, "=", "1.7\u00d7 fewer labels (1.2 to 2.1)"),
        (123.4, 99.0, 1500.0, "=", "123\u00d7 fewer labels (99 to 1,500)"),
        (3.3, 3.3, np.inf, ">=", "≥ 3.3\u00d7 fewer labels"),
        (3.3, 2.0, np.inf, ">=", "≥ 2.0\u00d7 fewer labels"),
        (3.3, 1.0, np.inf, ">=", "fewer labels, not certain"),
        (2.0, np.nan, np.nan, "=", "2.0\u00d7 fewer labels"),
        (0.5, 0.25, 0.8, "=", "2.0\u00d7 more labels (1.2 to 4.0)"),
        (2.0, 1.5, np.inf, "=", "2.0\u00d7 fewer labels (at least 1.5)"),
        (2.0, 0.0, 3.0, "=", "2.0\u00d7 fewer labels (at most 3.0)"),
        (0.5, 0.0, np.inf, "=", "2.0\u00d7 more labels"),
        (0.5, 0.0, 0.8, "=", "2.0\u00d7 more labels (at least 1.2)"),
        (0.5, 0.0, 0.4, "<=", "≥ 2.0\u00d7 more labels"),
        (0.5, 0.0, 0.8, "<=", "≥ 1.2\u00d7 more labels"),
    ],
)
def test_text_of_a_saving(saving, low, high, bound, text):
    row = pd.Series({"saving": saving, "low": low, "high": high, "bound": bound})
    assert _saving_text(row) == text


def test_unknown_names_are_errors(curve):
    with pytest.raises(ValueError, match="saving asks for 50 labels of 'scratch'"):
        LabelEfficiencyDisplay.from_result(curve, saving=("aperture", "scratch", 50))
    with pytest.raises(ValueError, match="'x' is not in the curve"):
        LabelEfficiencyDisplay.from_result(curve, saving=("x", "scratch"))
    with pytest.raises(ValueError, match="intervals='violin' is unknown"):
        LabelEfficiencyDisplay.from_result(curve, intervals="violin")
    with pytest.raises(ValueError, match="legend='right' is unknown: choose True, False, 'below'"):
        LabelEfficiencyDisplay.from_result(curve, legend="right")
    with pytest.raises(ValueError, match="line_params names 'x'"):
        LabelEfficiencyDisplay.from_result(curve, line_params={"x": {}})


def test_estimators_are_measured_and_drawn():
    X, y = load_wine(return_X_y=True)
    display = LabelEfficiencyDisplay.from_estimator(
        {"bayes": GaussianNB(), "ridge": RidgeClassifier()}, X, y,
        label_counts=[10, 30], n_repeats=2, random_state=0, scoring=["accuracy", "f1_macro"],
    )  # fmt: skip
    assert display.ax_.get_ylabel() == "accuracy on unseen stamps"
    assert display.lines_["bayes"].get_ydata()[1] > 0.9
    one = LabelEfficiencyDisplay.from_estimator(GaussianNB(), X, y, label_counts=[30], n_repeats=2)
    assert list(one.lines_) == ["GaussianNB"]


def test_one_label_count_can_be_drawn(curve):
    one = LabelEfficiencyCurve.from_scores(curve.scores[curve.scores["n_labels"] == 100])
    display = LabelEfficiencyDisplay.from_result(one)
    assert [label.get_text() for label in display.ax_.get_xticklabels()] == ["100"]


def test_crowded_counts_keep_their_ends_and_readable_distances():
    counts = np.arange(100, 2001, 100)
    shown = counts[_choose_ticks(counts, list(map(str, counts)), 440)]
    assert shown[0] == 100
    assert shown[-1] == 2000
    assert np.diff(np.log(shown)).min() >= 0.07 * np.log(20) - 1e-9
    assert len(shown) > 6
    assert _choose_ticks(np.array(COUNTS), list(map(str, COUNTS)), 440) == [0, 1, 2, 3, 4]


def test_no_label_has_a_place_left_of_a_break_of_the_axis(curve):
    zero = curve.scores[(curve.scores["n_labels"] == 30) & (curve.scores["estimator"] == "scratch")]
    scores = pd.concat([zero.assign(n_labels=0, score=0.5), curve.scores])
    display = LabelEfficiencyDisplay.from_result(LabelEfficiencyCurve.from_scores(scores))
    names = [label.get_text() for label in display.ax_.get_xticklabels()]
    assert names == ["0", "30", "100", "300", "1,000", "3,029"]
    ticks = display.ax_.get_xticks()
    assert_allclose(ticks[1] / ticks[0], ticks[2] / ticks[1])
    assert_allclose(display.lines_["scratch"].get_xdata(), ticks)
    assert_array_equal(display.lines_["scratch"].get_ydata()[0], 0.5)
    assert_array_equal(display.lines_["aperture"].get_xdata(), COUNTS)
    assert "//" in texts(display)
    only = LabelEfficiencyCurve.from_scores(zero.assign(n_labels=0))
    (name,) = LabelEfficiencyDisplay.from_result(only).ax_.get_xticklabels()
    assert name.get_text() == "0"


@pytest.mark.parametrize(
    ("places", "expected"),
    [
        ([0.9, 0.5, 0.1], [0.9, 0.5, 0.1]),
        ([0.5, 0.5], [0.55, 0.45]),
        ([0.5, 0.5, 0.5, 0.1], [0.6, 0.5, 0.4, 0.1]),
        ([0.9, 0.55, 0.5], [0.9, 0.575, 0.475]),
    ],
)
def test_names_are_pushed_apart_no_more_than_needed(places, expected):
    assert_allclose(_push_apart(np.array(places), gap=0.1), expected)
