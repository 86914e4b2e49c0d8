"""Estimates of how long work takes."""

import sys
from types import SimpleNamespace

import pytest

from skastro.utils import progress
from skastro.utils.progress import WorkEstimate, report_to, reporting, show_seconds


def test_the_first_pieces_of_a_kind_correct_the_guesses_of_the_others(monkeypatch):
    now, seen = [0.0], []
    monkeypatch.setattr(progress, "perf_counter", lambda: now[0])
    guesses = {"p1": ("probe", 1.0), "p2": ("probe", 1.0), "n1": ("net", 4.0), "n2": ("net", 8.0)}
    with reporting(lambda *step: seen.append(step)):
        work = WorkEstimate("learning", guesses)
        for piece, seconds in {"p1": 0.5, "n1": 40.0, "p2": 0.5, "n2": 80.0}.items():
            now[0] += seconds
            work.finish(piece)
    assert {stage for stage, _, _ in seen} == {"learning"}
    # tenths of seconds: guesses, then halved by the first probe, then each kind by its own pace
    assert [step[1:] for step in seen] == [
        (0, 140), (5, 5 + 65), (405, 405 + 805), (410, 1210), (1210, 1210),
    ]  # fmt: skip


def test_a_piece_that_goes_on_moves_the_progress_and_never_passes_the_total(monkeypatch):
    now, seen = [0.0], []
    monkeypatch.setattr(progress, "perf_counter", lambda: now[0])
    with reporting(lambda _, *step: seen.append(step)):
        work = WorkEstimate("learning", {"a": ("net", 2.0), "b": ("net", 2.0)})
        for now[0] in (1.0, 5.0):
            work.beat("a", "training", 1, 2)
        work.finish("a")
    assert seen == [(0, 40), (10, 40), (50, 70), (50, 100)]


def test_without_a_listener_nothing_is_reported():
    work = WorkEstimate("learning", {"a": ("net", 2.0)})
    work.beat("a")
    work.finish("a")


def test_times_are_given_in_words():
    assert [show_seconds(s) for s in (12.3, 400, 9000)] == ["12 s", "7 min", "2.5 h"]


@pytest.fixture
def notebook(monkeypatch):
    """Pretend to be in a notebook, and return the bars that it shows."""
    shell = type("ZMQInteractiveShell", (), {})()
    monkeypatch.setitem(sys.modules, "IPython", SimpleNamespace(get_ipython=lambda: shell))
    shown = []

    class Bar:
        n = 0

        def __init__(self, **settings):
            self.stage, self.closed = settings["desc"], False
            shown.append(self)

        def update(self, more):
            self.n += more

        def close(self):
            self.closed = True

    monkeypatch.setitem(sys.modules, "tqdm.auto", SimpleNamespace(tqdm=Bar))
    progress._notebook_bar.cache_clear()
    yield shown
    progress._notebook_bar.cache_clear()


def test_a_notebook_shows_a_bar_for_each_stage(notebook):
    for stage in ("pretraining", "embedding", "embedding"):
        report = report_to(stage, 3)
        for done in range(4):
            report(done)
    report_to("clustering")(0)
    assert [bar.stage for bar in notebook] == [
        "pretraining",
        "embedding",
        "embedding",
        "clustering",
    ]
    assert [bar.n for bar in notebook] == [3, 3, 3, 0]
    assert [bar.closed for bar in notebook] == [True, True, True, False]


def test_a_listener_replaces_the_bars_of_a_notebook(notebook):
    seen = []
    with reporting(lambda *step: seen.append(step)):
        report_to("embedding", 3)(1)
    with reporting(None):
        report_to("embedding", 3)(2)
    assert (notebook, seen) == ([], [("embedding", 1, 3)])
