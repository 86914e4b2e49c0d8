"""Structure is the same from a process beside this one, which ends with its context."""

import numpy as np
import pandas as pd
import pytest

from skastro.evaluation.label_efficiency import METHOD
from skastro.study import structure
from skastro.utils.progress import reporting

rng = np.random.default_rng(0)
LABELS = np.array(["star", "galaxy"])[np.arange(60) % 2]
EMBEDDING = rng.normal(size=(60, 5)).astype(np.float32) + 3 * (LABELS == "star")[:, None]
REPRESENTATIONS = {METHOD: EMBEDDING, "noise": rng.normal(size=(60, 3)).astype(np.float32)}
SETTINGS = {"groups": None, "side_by_side": True, "seed": 0}


@pytest.fixture
def apart(monkeypatch):
    """Let a process of its own do the work, though there is little."""
    monkeypatch.setattr(structure, "_MIN_ROWS_APART", 0)
    monkeypatch.setattr(structure, "count_cores", lambda: 2)


def wait(labels=LABELS):
    with structure.finding_structure(REPRESENTATIONS, labels, **SETTINGS) as find:
        return find()


@pytest.mark.slow
@pytest.mark.usefixtures("apart")
def test_another_process_finds_the_same_structure():
    stages = []
    with reporting(lambda stage, *_: stages.append(stage)):
        found = wait()
    assert stages == ["projecting and clustering"]  # this process only waited
    same = structure.find_structure(REPRESENTATIONS, LABELS, **SETTINGS)
    assert list(found.projections) == list(REPRESENTATIONS)
    for name, projection in found.projections.items():
        np.testing.assert_array_equal(projection.coordinates, same.projections[name].coordinates)
    np.testing.assert_array_equal(found.clusterer.labels_, same.clusterer.labels_)
    pd.testing.assert_frame_equal(found.scores, same.scores)


@pytest.mark.slow
@pytest.mark.usefixtures("apart")
def test_an_error_of_the_other_process_is_raised_here():
    with pytest.raises(ValueError, match=r"'self-supervised'.*one class only"):
        wait(np.full(60, "star"))


@pytest.mark.slow
@pytest.mark.usefixtures("apart")
def test_work_that_nobody_waits_for_is_given_up_in_silence():
    with (
        pytest.raises(KeyboardInterrupt),
        structure.finding_structure(REPRESENTATIONS, LABELS, **SETTINGS),
    ):
        raise KeyboardInterrupt
    assert wait().scores.loc[METHOD, "knn_accuracy"] > 0.9  # the next call works


@pytest.mark.parametrize(("cores", "fewest"), [(1, 0), (2, 1000)])
def test_one_core_or_few_rows_start_no_process(monkeypatch, cores, fewest):
    monkeypatch.setattr(structure, "_MIN_ROWS_APART", fewest)
    monkeypatch.setattr(structure, "count_cores", lambda: cores)
    monkeypatch.setattr(structure, "Parallel", None)
    assert wait().clusterer.labels_.shape == (60,)
