import sys
from types import SimpleNamespace

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.datasets import load_wine
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import confusion_matrix
from sklearn.naive_bayes import GaussianNB

mpl.use("Agg")

import matplotlib.pyplot as plt

from skastro import (
    AblationDisplay,
    ClusterDisplay,
    ConfusionDisplay,
    EmbeddingClusterer,
    MagnitudeDisplay,
    ProjectionDisplay,
    PropertyDisplay,
    ReliabilityDisplay,
    accuracy_by_magnitude,
    expected_calibration_error,
)
from skastro.embeddings.projection import project_embedding
from skastro.evaluation.label_efficiency import LabelEfficiencyCurve
from skastro.evaluation.property_ablation import PropertyAblation
from skastro.evaluation.property_scores import residual_bins
from tests.conftest import find_data, make_stamps

RNG = np.random.default_rng(0)
N = 400
MAGNITUDE = RNG.uniform(18, 22, N)
TRUTH = RNG.choice(["star", "galaxy", "quasar"], N, p=[0.6, 0.3, 0.1])
GUESS = np.where(RNG.random(N) < 0.2, "star", TRUTH)
PLANE = RNG.normal(size=(N, 2))
STAMPS, _, _ = make_stamps(N)
PROBABILITIES = RNG.dirichlet([1, 1, 1], N)

SIMPLE = {
    "property": lambda **p: PropertyDisplay.from_predictions(MAGNITUDE, MAGNITUDE + 0.1, **p),
    "confusion": lambda **p: ConfusionDisplay.from_predictions(TRUTH, GUESS, **p),
    "confusion with stamps": lambda **p: ConfusionDisplay.from_predictions(
        TRUTH, GUESS, images=STAMPS, **p
    ),
    "cluster": lambda **p: ClusterDisplay.from_predictions(
        np.arange(N) % 5 - 1, STAMPS, y=TRUTH, **p
    ),
    "projection": lambda **p: ProjectionDisplay.from_projection(PLANE, color=TRUTH, **p),
    "projection of a property": lambda **p: ProjectionDisplay.from_projection(
        PLANE, color=MAGNITUDE, name="r", unit="mag", **p
    ),
    "magnitude": lambda **p: MagnitudeDisplay.from_predictions(
        TRUTH, {"probe": GUESS, "other": TRUTH}, MAGNITUDE, name="r", **p
    ),
    "reliability": lambda **p: ReliabilityDisplay.from_predictions(TRUTH, PROBABILITIES, **p),
    "ablation": lambda **p: AblationDisplay.from_scores(ablation_table(), **p),
}


@pytest.fixture(autouse=True)
def close_figures():
    yield
    plt.close("all")


def ablation_table():
    return pd.DataFrame(
        {
            "setting": ["colours", "colours", "sizes", "sizes"],
            "n_labels": [30, 100, 30, 100],
            "mean": [-0.02, -0.01, -0.1, -0.08],
            "low": [-0.05, -0.02, -0.14, np.nan],
            "high": [0.01, 0.0, -0.06, np.nan],
        }
    )


def lie_inside(figure):
    """Whether all that is drawn, text above all, lies within the figure."""
    figure.draw_without_rendering()
    drawn, edge = figure.get_tightbbox(), figure.bbox_inches.padded(0.01)
    return edge.contains(*drawn.min) and edge.contains(*drawn.max)


@pytest.mark.parametrize("draw", SIMPLE.values(), ids=SIMPLE)
def test_new_figures_have_names_on_their_axes_and_no_cut_text(draw):
    display = draw()
    assert lie_inside(display.figure_)
    named = [ax for ax in display.figure_.axes if ax.get_xlabel() or ax.get_ylabel()]
    assert named or isinstance(display, ClusterDisplay)


@pytest.mark.parametrize("draw", SIMPLE.values(), ids=SIMPLE)
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


@pytest.mark.parametrize("draw", SIMPLE.values(), ids=SIMPLE)
def test_missing_matplotlib_is_one_sentence(draw, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.pyplot", None)
    with pytest.raises(ImportError, match=r"pip install 'skastro\[report\]'"):
        draw()


def test_residuals_are_measured_in_bins():
    true = np.linspace(18, 22, 4000)
    noise = np.random.default_rng(1).normal(size=4000)
    predicted = true + 0.2 + np.where(true < 20, 0.05, 0.3) * noise
    bins = residual_bins(true, predicted, errors=np.full(4000, 0.1), n_bins=2)
    assert bins["n"].sum() == 4000
    assert_allclose(bins["bias"], 0.2, atol=0.03)
    assert_allclose(bins["scatter"], [0.05, 0.3], rtol=0.05)
    assert_allclose(bins["error"], 0.1)
    assert_allclose(bins["bias_error"], 1.2533 * bins["scatter"] / np.sqrt(bins["n"]), rtol=1e-3)
    by_other = residual_bins(true, predicted, magnitude=-true, n_bins=2)
    assert by_other["scatter"].is_monotonic_decreasing


def test_unmeasured_objects_are_left_out_and_counted():
    true = np.append(MAGNITUDE, [np.nan, 20.0])
    predicted = np.append(MAGNITUDE + 0.1, [20.0, np.nan])
    display = PropertyDisplay.from_predictions(true, predicted, name="mag_r", unit="mag")
    assert display.n_missing == 2
    assert len(display.true) == N
    assert_allclose([display.bias, display.scatter], [0.1, 0], atol=1e-9)
    (text,) = [text.get_text() for text in display.ax_.texts]
    assert text.splitlines() == [
        "bias +0.100 mag", "scatter 0.000 mag", "400 objects", "2 not measured"
    ]  # fmt: skip
    assert display.ax_.get_xlabel() == "catalogue mag_r (mag)"
    assert display.residual_ax_.get_xlim() == display.ax_.get_xlim()


def test_sentinels_are_not_measured():
    true = np.append(MAGNITUDE, -999.0)
    with pytest.warns(UserWarning, match="1 sentinel values"):
        display = PropertyDisplay.from_predictions(true, np.append(MAGNITUDE, 20.0))
    assert display.n_missing == 1


def test_far_outliers_are_counted_instead_of_squeezing_the_rest():
    true = np.linspace(18, 22, 2000)
    predicted = np.where(np.arange(2000) == 5, 500.0, true)
    display = PropertyDisplay.from_predictions(true, predicted)
    assert display.ax_.get_ylim()[1] < 23
    assert "1 of them beyond the axes" in display.ax_.texts[0].get_text()
    counts = display.objects_.get_array()  # hexagons
    assert 1900 < counts.sum() < 2000


def test_catalogue_errors_stand_beside_the_scatter():
    display = PropertyDisplay.from_predictions(
        MAGNITUDE, MAGNITUDE, errors=np.full(N, 0.25), magnitude=MAGNITUDE, magnitude_name="r (mag)"
    )
    assert display.residual_ax_.get_xlabel() == "r (mag)"
    lines = {line.get_label(): line.get_ydata() for line in display.residual_ax_.lines}
    assert_allclose(lines["catalogue's error"], 0.25)
    assert display.residual_ax_.get_ylim()[1] > 0.25


def test_encoder_and_catalogue_are_matched_by_name(fitted, survey):
    stamps, _, properties = survey
    errors = properties * 0 + 0.3
    display = PropertyDisplay.from_estimator(
        fitted, stamps, properties[["size", "mag_g"]], name="mag_g",
        property_errors=errors[["size", "mag_g"]],
    )  # fmt: skip
    assert_array_equal(display.true, properties["mag_g"])
    assert_allclose(display.predicted, fitted.predict(stamps)["mag_g"])
    assert_allclose(display.bins["error"], 0.3)
    with pytest.raises(ValueError, match="'x' is none of the encoder"):
        PropertyDisplay.from_estimator(fitted, stamps, properties, name="x")
    with pytest.raises(ValueError, match="'mag_g' is none of properties"):
        PropertyDisplay.from_estimator(fitted, stamps, properties[["size"]], name="mag_g")


def test_confusions_are_those_of_scikit_learn():
    display = ConfusionDisplay.from_predictions(TRUTH, GUESS)
    counts = confusion_matrix(TRUTH, GUESS)
    assert_array_equal(display.counts, counts)
    assert display.classes == ["galaxy", "quasar", "star"]
    assert_allclose(display.image_.get_array(), counts / counts.sum(axis=1, keepdims=True))
    written = [text.get_text() for text in display.ax_.texts]
    assert written[1::2] == [f"{count:,}" for count in counts.ravel()]


def test_unlabelled_rows_and_abstentions_are_left_out():
    display = ConfusionDisplay.from_predictions(["a", "b", "", "b"], ["a", "a", "a", ""])
    assert display.counts.tolist() == [[1, 0], [1, 0]]
    assert display.n_unlabelled == 2


def test_surest_stamps_of_each_cell_are_shown():
    stamps = np.zeros((6, 3, 8, 8), dtype=np.uint8)
    stamps += np.arange(6, dtype=np.uint8)[:, None, None, None]  # shown as they are
    display = ConfusionDisplay.from_predictions(
        [0, 0, 0, 0, 1, 1], [0, 0, 0, 1, 1, 1], images=stamps,
        confidence=[0.5, 0.9, 0.7, 0.6, 0.8, 0.9], n_examples=2,
    )  # fmt: skip
    shown = {cell: [int(p[0, 0, 0]) for p in each] for cell, each in display.examples.items()}
    assert shown == {(0, 0): [1, 2], (0, 1): [3], (1, 1): [5, 4]}
    extents = [image.get_extent() for image in display.stamps_]
    assert len(extents) == 5
    for (row, column), extent in zip(
        [(0, 0), (0, 0), (0, 1), (1, 1), (1, 1)], extents, strict=True
    ):
        left, right, bottom, top = extent
        assert column - 0.5 < left < right < column + 0.5
        assert row < top < bottom < row + 0.5


def test_classifier_predicts_and_its_probabilities_choose_the_stamps():
    X, y = load_wine(return_X_y=True)
    bayes = GaussianNB().fit(X, y)
    stamps = np.broadcast_to(
        np.arange(len(y), dtype=np.uint8)[:, None, None, None], (len(y), 3, 8, 8)
    )
    display = ConfusionDisplay.from_estimator(bayes, X, y, images=stamps, n_examples=1)
    sure = bayes.predict_proba(X).max(axis=1)
    right = np.flatnonzero((y == 0) & (bayes.predict(X) == 0))
    shown = int(display.examples[0, 0][0][0, 0, 0])
    assert sure[shown] == sure[right].max()
    assert display.ax_.get_xticklabels()[2].get_text() == "2"


def test_clusters_stand_by_size_and_noise_is_last():
    labels = np.array([3] * 5 + [0] * 8 + [-1] * 20 + [7] * 2)
    stamps = STAMPS[: len(labels)]
    display = ClusterDisplay.from_predictions(labels, stamps, max_clusters=2, n_stamps=4)
    assert display.table["cluster"].tolist() == [0, 3, -1]
    assert display.table["size"].tolist() == [8, 5, 20]
    assert display.n_hidden == 1
    assert display.ax_.get_xlabel() == "1 smaller cluster is not shown"
    assert [len(row) for row in display.pictures] == [4, 4, 4]


def test_fitted_clusterer_is_drawn():
    E = np.repeat([[0.0, 0], [20, 20]], [60, 40], axis=0) + PLANE[:100]
    clusterer = EmbeddingClusterer(random_state=0).fit(E)
    display = ClusterDisplay.from_clusterer(clusterer, STAMPS[:100], y=E[:, 0] > 10)
    clusters = display.table[display.table["cluster"] >= 0]
    assert len(clusters) == clusterer.n_clusters_ >= 2
    assert (clusters["purity"] == 1).all()
    assert display.table["size"].sum() == 100


def test_exemplars_come_first_and_then_the_strongest_members():
    stamps = np.broadcast_to(np.arange(6, dtype=np.uint8)[:, None, None, None], (6, 3, 8, 8))
    clusterer = SimpleNamespace(
        labels_=np.array([0, 0, 0, 0, 1, 1]),
        probabilities_=np.array([0.2, 0.9, 0.5, 1.0, 0.1, 0.3]),
        exemplar_indices_={0: np.array([2])},
    )
    display = ClusterDisplay.from_clusterer(clusterer, stamps, n_stamps=3)
    shown = [[int(picture[0, 0, 0]) for picture in row] for row in display.pictures]
    assert shown == [[2, 3, 1], [5, 4]]
    as_list = ClusterDisplay.from_clusterer(clusterer, stamps, exemplars=[[0], [4]], n_stamps=1)
    assert [int(row[0][0, 0, 0]) for row in as_list.pictures] == [0, 4]


def test_majorities_are_of_the_labelled_members():
    display = ClusterDisplay.from_predictions(
        [0, 0, 0, 0, 1, 1], STAMPS[:6], y=["a", "a", "b", "", "", ""]
    )
    names = [label.get_text() for label in display.ax_.get_yticklabels()]
    assert names == ["cluster 0: 4 objects\n67 % a", "cluster 1\n2 objects"]


def test_masked_stamps_can_be_shown():
    stamps = STAMPS[:4].copy()
    stamps[:, :, :3] = np.nan
    display = ClusterDisplay.from_predictions([0, 0, 1, 1], stamps)
    assert display.image_.get_array().shape[2] == 3


def test_points_keep_their_colour_and_marker():
    y = np.array(["star", "galaxy", "", "star"])
    plane = np.array([[0.0, 0], [1, 0], [2, 0], [3, 0]])
    display = ProjectionDisplay.from_projection(plane, color=y)
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
    assert sizes[0, 0] != sizes[1, 0]  # square and circle: told apart in grey too
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
def test_kind_is_told_by_the_values(color, kind):
    assert ProjectionDisplay.from_projection(PLANE, color=color).kind == kind


def test_properties_have_a_scale_with_a_unit_and_gaps_in_grey():
    values = np.where(np.arange(N) % 4 == 0, np.nan, MAGNITUDE)
    display = ProjectionDisplay.from_projection(PLANE, color=values, name="r", unit="mag")
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
    display = ProjectionDisplay.from_projection(PLANE, color=labels, kind="cluster")
    entries = [name for name, _, _ in display.entries_]
    assert entries == [*(f"cluster {i} (100)" for i in range(3)), "in no cluster (100)"]
    wrong = ProjectionDisplay.from_projection(PLANE, color=TRUTH != GUESS)
    number = (TRUTH != GUESS).sum()
    assert [name for name, _, _ in wrong.entries_] == [f"right ({N - number})", f"wrong ({number})"]


def test_thumbnails_do_not_overlap_and_stay_in_the_axes():
    display = ProjectionDisplay.from_projection(PLANE, color=TRUTH, images=STAMPS)
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


def test_projection_says_how_it_was_made():
    projection = SimpleNamespace(coordinates=PLANE, method="umap", trustworthiness=0.9712)
    display = ProjectionDisplay.from_projection(projection)
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


def test_accuracies_by_magnitude_are_drawn_for_each_classifier():
    display = MagnitudeDisplay.from_predictions(
        TRUTH, {"probe": GUESS, "perfect": TRUTH}, MAGNITUDE, bins=[18, 19, 20, 21, 22], name="r"
    )
    table = accuracy_by_magnitude(TRUTH, GUESS, MAGNITUDE, bins=[18, 19, 20, 21, 22])
    assert_allclose(display.lines_["probe"].get_ydata(), table["score"])
    assert_allclose(display.lines_["perfect"].get_ydata(), 1)
    assert_array_equal([bar.get_height() for bar in display.counts_ax_.patches], table["n"])
    assert display.ax_.get_xlabel() == "r (mag)"
    assert display.ax_.get_ylabel() == "balanced accuracy"
    lowest = min(table["low"])
    foot = display.ax_.transData.transform((20, lowest))[1]
    tallest = max(bar.get_window_extent().y1 for bar in display.counts_ax_.patches)
    assert foot > tallest  # the numbers of objects do not hide the curves
    entries = [text.get_text() for text in display.ax_.get_legend().get_texts()]
    assert entries == ["probe", "perfect"]
    single = MagnitudeDisplay.from_predictions(TRUTH, GUESS, MAGNITUDE, balanced=False)
    assert single.ax_.get_legend() is None
    assert single.ax_.get_ylabel() == "accuracy"


def test_reliability_holds_the_bins_and_their_error():
    display = ReliabilityDisplay.from_predictions(TRUTH, PROBABILITIES, n_bins=4, name="dice")
    error = expected_calibration_error(TRUTH, PROBABILITIES, n_bins=4)
    assert_allclose(display.error, error)
    assert display.ax_.get_title(loc="left") == f"dice: expected calibration error {error:.3f}"
    assert_allclose(display.points_.lines[0].get_xydata()[:, 1], display.table["accuracy"])
    assert_allclose(display.points_.lines[0].get_xydata()[:, 0], display.table["confidence"])


def test_reliability_of_an_estimator_uses_its_classes():
    X, y = load_wine(return_X_y=True)
    names = np.array(["c", "a", "b"])[y]
    bayes = GaussianNB().fit(X, names)
    display = ReliabilityDisplay.from_estimator(bayes, X[::2], names[::2])
    assert_allclose(
        display.error,
        expected_calibration_error(names[::2], bayes.predict_proba(X[::2]), classes=bayes.classes_),
    )


def test_settings_stand_in_order_with_a_point_for_each_number_of_labels():
    display = AblationDisplay.from_scores(ablation_table(), reference="all")
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
    one = AblationDisplay.from_scores(ablation_table().drop(columns="n_labels").iloc[[0, 2]])
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
    display = AblationDisplay.from_ablation(
        PropertyAblation(curve, {"all": ["r", "r50"], "sizes": ["r50"]}, "all")
    )
    assert display.table["setting"].tolist() == ["sizes"]
    assert_allclose(display.points_[30].lines[0].get_xydata()[:, 0], [-0.1])
    assert display.ax_.get_xlabel() == 'difference in balanced accuracy from "all"'


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: PropertyDisplay.from_predictions([np.nan, 1.0, 2.0], [1.0, 1.0, np.nan]),
            "property is measured for 1 objects",
        ),
        (
            lambda: PropertyDisplay.from_predictions([1.0, 2.0], [1.0, 2.0], magnitude=[1.0]),
            "magnitude has shape .1,., but there are 2",
        ),
        (
            lambda: PropertyDisplay.from_predictions(
                MAGNITUDE, MAGNITUDE, ax=plt.figure().add_axes((0, 0, 1, 1))
            ),
            "ax is not one of a figure's subplots",
        ),
        (lambda: ConfusionDisplay.from_predictions([0, 1], [0]), "y_true has 2 labels"),
        (
            lambda: ConfusionDisplay.from_predictions([0, 1], [0, 1], images=STAMPS),
            "images has 400 stamps for 2 objects",
        ),
        (lambda: ClusterDisplay.from_predictions([0, 1], STAMPS), "images has 400 stamps for 2"),
        (
            lambda: ClusterDisplay.from_predictions([0, 1], STAMPS[:2], y=[0]),
            "y has 1 rows for 2 objects",
        ),
        (lambda: ProjectionDisplay.from_projection(np.zeros((3, 3))), "shape .3, 3."),
        (lambda: ProjectionDisplay.from_projection([[0, np.nan]]), "not finite in row 0"),
        (lambda: ProjectionDisplay.from_projection(PLANE, color=[0]), "color has shape .1,."),
        (
            lambda: ProjectionDisplay.from_projection(PLANE, color=TRUTH, kind="klass"),
            "kind='klass' is unknown",
        ),
        (
            lambda: ProjectionDisplay.from_projection(
                PLANE, color=[f"s{i // 4}" for i in range(N)]
            ),
            "color has 100 classes",
        ),
        (
            lambda: ProjectionDisplay.from_projection(PLANE, images=STAMPS, thumbnail_size=0),
            "thumbnail_size=0 must be",
        ),
        (lambda: ProjectionDisplay.from_embeddings({}, TRUTH), "embeddings is empty"),
        (
            lambda: AblationDisplay.from_scores(ablation_table().drop(columns="low")),
            "table lacks the column 'low'",
        ),
        (lambda: AblationDisplay.from_scores(ablation_table()[:0]), "table has no row"),
    ],
)
def test_what_does_not_fit_is_one_sentence(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_real_stamps_are_drawn():
    folder = find_data("sdss")
    stamps = np.load(folder / "stamps.npy", mmap_mode="r")[:300].astype(np.float32)
    catalog = pd.read_csv(folder / "catalog.csv", dtype={"id": str}).iloc[:300]
    flux = np.nan_to_num(stamps.reshape(300, 5, -1).sum(axis=2))
    colours = np.arcsinh(flux)
    probe = LogisticRegression(max_iter=2000).fit(colours[::2], catalog["phot_type"][::2])
    display = ConfusionDisplay.from_estimator(
        probe, colours[1::2], catalog["phot_type"][1::2], images=stamps[1::2]
    )
    assert display.counts.sum() == 150
    assert lie_inside(display.figure_)
    means = {cell: np.mean(pictures) for cell, pictures in display.examples.items()}
    assert all(5 < mean < 250 for mean in means.values())  # neither black nor burnt out
