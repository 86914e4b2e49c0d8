"""What all displays have in common."""

import sys

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

from skastro import (
    AblationDisplay,
    ClusterDisplay,
    ConfusionDisplay,
    LabelEfficiencyDisplay,
    MagnitudeDisplay,
    ProjectionDisplay,
    PropertyDisplay,
    ReliabilityDisplay,
)
from tests.plots.conftest import (
    DIFFERENCES,
    GUESS,
    MAGNITUDE,
    PLANE,
    PROBABILITIES,
    STAMPS,
    TRUTH,
    N,
    lie_inside,
)

SUMMARY = pd.DataFrame(
    {"estimator": "probe", "n_labels": [30, 100], "mean": [0.6, 0.7], "low": 0.5, "high": 0.8}
)
DISPLAYS = {
    "label efficiency": lambda **p: LabelEfficiencyDisplay(SUMMARY).plot(**p),
    "property": lambda **p: PropertyDisplay.from_predictions(MAGNITUDE, MAGNITUDE + 0.1, **p),
    "confusion": lambda **p: ConfusionDisplay.from_predictions(TRUTH, GUESS, **p),
    "confusion with stamps": lambda **p: ConfusionDisplay.from_predictions(
        TRUTH, GUESS, images=STAMPS, **p
    ),
    "cluster": lambda **p: ClusterDisplay.from_predictions(
        np.arange(N) % 5 - 1, STAMPS, y=TRUTH, **p
    ),
    "projection": lambda **p: ProjectionDisplay.from_result(PLANE, color=TRUTH, **p),
    "projection of a property": lambda **p: ProjectionDisplay.from_result(
        PLANE, color=MAGNITUDE, name="r", unit="mag", **p
    ),
    "magnitude": lambda **p: MagnitudeDisplay.from_predictions(
        TRUTH, {"probe": GUESS, "other": TRUTH}, MAGNITUDE, name="r", **p
    ),
    "reliability": lambda **p: ReliabilityDisplay.from_predictions(TRUTH, PROBABILITIES, **p),
    "ablation": lambda **p: AblationDisplay(DIFFERENCES).plot(**p),
}


@pytest.mark.parametrize("draw", DISPLAYS.values(), ids=DISPLAYS)
def test_new_figures_have_names_on_their_axes_and_no_cut_text(draw):
    display = draw()
    assert lie_inside(display.figure_)
    named = [ax for ax in display.figure_.axes if ax.get_xlabel() or ax.get_ylabel()]
    assert named or isinstance(display, ClusterDisplay)


@pytest.mark.parametrize("draw", DISPLAYS.values(), ids=DISPLAYS)
def test_given_axes_are_drawn_into_and_defaults_left_alone(draw):
    before = dict(mpl.rcParams)
    figure, axes = plt.subplots(1, 2, layout="constrained", figsize=(12, 6))
    display = draw(ax=axes[1])
    assert display.figure_ is figure
    assert plt.get_fignums() == [figure.number]
    assert not axes[0].has_data()
    half = axes[1].get_subplotspec()
    assert display.ax_ is axes[1] or display.ax_.get_subplotspec().get_topmost_subplotspec() == half
    assert dict(mpl.rcParams) == before
    assert lie_inside(figure)


@pytest.mark.parametrize("draw", DISPLAYS.values(), ids=DISPLAYS)
def test_legends_and_names_stay_inside_given_axes_without_a_layout(draw):
    figure, axes = plt.subplots(2, 2, figsize=(11, 9))
    display = draw(ax=axes[1, 1])
    figure.draw_without_rendering()
    place = axes[1, 1].get_subplotspec().get_position(figure).transformed(figure.transFigure)
    for ax in {*figure.axes} - {*axes.flat[:3]}:
        if (legend := ax.get_legend()) is not None:
            box = legend.get_window_extent()
            assert place.contains(*box.min)
            assert place.contains(*box.max)
    assert not figure.legends
    assert display.figure_ is figure


CONSTRUCTORS = {
    "from_estimator", "from_predictions", "from_result", "from_embedding", "from_embeddings",
}  # fmt: skip


def test_displays_share_the_names_of_their_constructors():
    displays = {type(draw()) for draw in DISPLAYS.values()}
    for display in displays:
        names = {name for name in dir(display) if name.startswith("from_")}
        assert names
        assert names <= CONSTRUCTORS, display.__name__
        assert "from_estimator" in names or display is AblationDisplay


@pytest.mark.parametrize("draw", DISPLAYS.values(), ids=DISPLAYS)
def test_missing_matplotlib_is_one_sentence(draw, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.pyplot", None)
    with pytest.raises(ImportError, match=r"pip install 'skastro\[report\]'"):
        draw()
