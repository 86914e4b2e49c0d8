from types import SimpleNamespace

import numpy as np
import pytest

from skastro import ClusterDisplay, EmbeddingClusterer
from tests.plots.conftest import PLANE, STAMPS


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
    display = ClusterDisplay.from_estimator(clusterer, STAMPS[:100], y=E[:, 0] > 10)
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
    display = ClusterDisplay.from_estimator(clusterer, stamps, n_stamps=3)
    shown = [[int(picture[0, 0, 0]) for picture in row] for row in display.pictures]
    assert shown == [[2, 3, 1], [5, 4]]
    as_list = ClusterDisplay.from_estimator(clusterer, stamps, exemplars=[[0], [4]], n_stamps=1)
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


def test_other_numbers_of_rows_are_refused():
    with pytest.raises(ValueError, match="images has 400 stamps for 2"):
        ClusterDisplay.from_predictions([0, 1], STAMPS)
    with pytest.raises(ValueError, match=r"y has shape \(1,\), but there are 2 objects"):
        ClusterDisplay.from_predictions([0, 1], STAMPS[:2], y=[0])
