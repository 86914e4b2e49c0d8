from types import SimpleNamespace

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pytest
from numpy.testing import assert_allclose
from sklearn.datasets import load_wine
from sklearn.decomposition import PCA

from skastro import ProjectionDisplay
from skastro.embeddings.projection import project_embedding
from tests.plots.conftest import GUESS, MAGNITUDE, PLANE, STAMPS, TRUTH, N, lie_inside


def test_points_keep_their_colour_and_marker():
    y = np.array(["star", "galaxy", "", "star"])
    plane = np.array([[0.0, 0], [1, 0], [2, 0], [3, 0]])
    display = ProjectionDisplay.from_result(plane, color=y)
    colours = {
        tuple(place): mpl.colors.to_hex(colour)
        for place, colour in zip(
            display.points_.get_offsets().tolist(), display.points_.get_facecolors(), strict=True
        )
    }
    assert colours[0, 0] == colours[3, 0] == "#d55e00"
    assert colours[1, 0] == "#0072b2"
    assert colours[2, 0] == "#c4c4c4"
    sizes = dict(
        zip(
            map(tuple, display.points_.get_offsets().tolist()),
            [len(path.vertices) for path in display.points_.get_paths()],
            strict=True,
        )
    )
    assert sizes[0, 0] != sizes[1, 0]  # square and circle: different in grey, too
    assert display.points_.get_offsets()[0].tolist() == [2, 0]  # the unlabelled lies below


@pytest.mark.parametrize(
    ("color", "kind"),
    [
        (TRUTH, "class"),
        (np.arange(N) % 3, "class"),
        (MAGNITUDE, "property"),
        (np.arange(N), "property"),
        (TRUTH != GUESS, "error"),
        (None, "auto"),
    ],
)
def test_kind_is_inferred_from_the_values(color, kind):
    assert ProjectionDisplay.from_result(PLANE, color=color).kind == kind


def test_properties_have_a_scale_with_a_unit_and_gaps_in_grey():
    values = np.where(np.arange(N) % 4 == 0, np.nan, MAGNITUDE)
    display = ProjectionDisplay.from_result(PLANE, color=values, name="r", unit="mag")
    assert display.legend_.ax.get_ylabel() == "r (mag)"
    assert [text.get_text() for text in display.ax_.texts] == ["grey: not measured (100)"]
    low, high = display.points_.get_clim()
    assert_allclose([low, high], np.nanquantile(values, [0.01, 0.99]))
    display.figure_.draw_without_rendering()
    grey = (display.points_.get_facecolors() == mpl.colors.to_rgba("#c4c4c4")).all(axis=1)
    assert grey[:100].all()
    assert not grey[100:].any()


def test_clusters_and_errors_are_named():
    labels = np.arange(N) % 4 - 1
    display = ProjectionDisplay.from_result(PLANE, color=labels, kind="cluster")
    entries = [name for name, _, _ in display.entries_]
    assert entries == [*(f"cluster {i} (100)" for i in range(3)), "in no cluster (100)"]
    wrong = ProjectionDisplay.from_result(PLANE, color=TRUTH != GUESS)
    number = (TRUTH != GUESS).sum()
    assert [name for name, _, _ in wrong.entries_] == [f"right ({N - number})", f"wrong ({number})"]


def test_thumbnails_do_not_overlap_and_stay_in_the_axes():
    display = ProjectionDisplay.from_result(PLANE, color=TRUTH, images=STAMPS)
    display.figure_.draw_without_rendering()
    boxes = [box.get_window_extent() for box in display.thumbnails_]
    assert len(boxes) > 20
    axes = display.ax_.get_window_extent().padded(1)
    for i, box in enumerate(boxes):
        assert axes.contains(*box.min)
        assert axes.contains(*box.max)
        assert not any(box.overlaps(other) for other in boxes[:i])
    height = np.mean([box.height for box in boxes])
    assert_allclose(height, 0.06 * display.ax_.get_window_extent().height, rtol=0.1)


def test_method_and_trustworthiness_of_a_projection_are_written():
    projection = SimpleNamespace(coordinates=PLANE, method="umap", trustworthiness=0.9712)
    display = ProjectionDisplay.from_result(projection)
    assert display.ax_.get_ylabel() == "UMAP 2"
    assert display.ax_.texts[0].get_text() == "trustworthiness 0.971"
    assert display.legend_ is None
    assert len(display.ax_.get_xticks()) == 0


def test_estimator_is_projected_before_it_is_drawn():
    X, y = load_wine(return_X_y=True)
    display = ProjectionDisplay.from_estimator(
        PCA(5).fit(X), X, method="pca", random_state=3, color=y
    )
    expected = project_embedding(PCA(5).fit_transform(X), method="pca", random_state=3)
    assert_allclose(display.coordinates, expected.coordinates, rtol=1e-4, atol=1e-3)
    assert display.ax_.get_xlabel() == "PCA 1"
    assert display.trustworthiness == pytest.approx(expected.trustworthiness, abs=0.01)
    several = ProjectionDisplay.from_embeddings(
        {"raw": X, "done": SimpleNamespace(coordinates=X[:, :2])}, y, method="pca"
    )
    assert_allclose(several["done"].coordinates, X[:, :2])
    assert several["raw"].method == "pca"
    assert several["done"].method is None


def test_representations_share_one_figure_and_legend():
    flat = {name: SimpleNamespace(coordinates=PLANE) for name in ("a", "b", "c")}
    displays = ProjectionDisplay.from_embeddings(flat, TRUTH, name="class")
    figures = {display.figure_ for display in displays.values()}
    assert len(figures) == 1
    (figure,) = figures
    assert len(figure.axes) == 3
    assert len(figure.legends) == 1
    assert all(display.legend_ is figure.legends[0] for display in displays.values())
    assert figure.legends[0].get_title().get_text() == "class"
    assert all(display.ax_.get_legend() is None for display in displays.values())
    assert lie_inside(figure)
    by_property = ProjectionDisplay.from_embeddings(flat, MAGNITUDE, name="r", unit="mag")
    assert by_property["a"].legend_.ax.get_ylabel() == "r (mag)"


@pytest.mark.parametrize(
    ("projection", "params", "message"),
    [
        (np.zeros((3, 3)), {}, "shape .3, 3."),
        ([[0, np.nan]], {}, "not finite in row 0"),
        (PLANE, {"color": [0]}, "color has shape .1,."),
        (PLANE, {"color": "class"}, "color='class' is a single value: pass one value for each row"),
        (PLANE, {"color": TRUTH, "kind": "klass"}, "kind='klass' is unknown"),
        (PLANE, {"color": [f"s{i // 4}" for i in range(N)]}, "color has 100 classes, of 56 at"),
        (PLANE, {"images": STAMPS, "thumbnail_size": 0}, "thumbnail_size=0 must be"),
        (PLANE, {"images": STAMPS[:3]}, "images has 3 stamps for 400 objects"),
    ],
)
def test_wrong_arguments_raise_one_sentence(projection, params, message):
    with pytest.raises(ValueError, match=message):
        ProjectionDisplay.from_result(projection, **params)


MANY = np.array([f"class number {i}" for i in range(18)])[np.arange(N) % 18]


@pytest.mark.parametrize("layout", [None, "constrained"])
@pytest.mark.parametrize("color", [TRUTH, MANY, MAGNITUDE, TRUTH != GUESS], ids="123E")
def test_the_legend_stays_inside_given_axes_and_above_the_objects(color, layout):
    figure, axes = plt.subplots(2, 2, figsize=(8, 7), layout=layout)
    places = [ax.get_position().bounds for ax in axes.flat]
    display = ProjectionDisplay.from_result(PLANE, color=color, name="r", ax=axes[0, 1])
    figure.draw_without_rendering()
    legend, window = display.legend_, display.ax_.get_window_extent()
    box = legend.ax.get_tightbbox() if color is MAGNITUDE else legend.get_window_extent()
    assert window.contains(*box.min)
    assert window.contains(*box.max)
    points = display.ax_.transData.transform(display.coordinates)
    assert points[:, 1].max() < box.y0
    assert (points > window.min).all()
    assert (points < window.max).all()
    if layout is None:
        assert [ax.get_position().bounds for ax in axes.flat] == places


def test_no_representation_is_refused():
    with pytest.raises(ValueError, match="embeddings is empty"):
        ProjectionDisplay.from_embeddings({}, TRUTH)
