import pytest
import torch

from skastro.estimators import teaching
from skastro.estimators.teaching import LESSONS, Pool, draw_chunk, learning_rate, train_teacher


@pytest.fixture(autouse=True)
def small(monkeypatch):
    """Make chunks, batches and pools small."""
    values = {
        "_CHUNK": 8, "_BATCH_SIZE": 8, "_POOL": 32, "_N_SCALING_STAMPS": 64, "_SIZES": (16, 16, 16)
    }  # fmt: skip
    for name, value in values.items():
        monkeypatch.setattr(teaching, name, value)


def options(**more):
    return {"n_stamps": 48, "backbone": "stamp_resnet10", "size": 16, "n_workers": 0, **more}


def read(path):
    return torch.load(path, weights_only=False)


@pytest.mark.parametrize("name", LESSONS)
def test_chunks_are_the_same_for_the_same_number(name):
    lesson = LESSONS[name]
    (one, truth), (two, _), (other, _) = (draw_chunk(lesson, number) for number in (3, 3, 4))
    torch.testing.assert_close(one, two, equal_nan=True)
    assert one.shape != other.shape or not torch.equal(one, other)
    assert {"kind", *lesson.properties} <= set(truth)


def test_training_ends_with_all_stamps_seen_and_a_state(tmp_path):
    train_teacher("galaxies", tmp_path / "state.pt", **options())
    state = read(tmp_path / "state.pt")
    assert state["seen"] == 48
    assert state["settings"] == {
        "backbone": "stamp_resnet10", "size": 16, "planes": "colours", "n_stamps": 48, "repeats": 3
    }  # fmt: skip
    floats = [t for t in state["averaged"].values() if t.is_floating_point()]
    assert all(t.isfinite().all() for t in floats)
    assert not torch.equal(state["averaged"]["head.weight"], state["network"]["head.weight"])


def test_a_stopped_training_goes_on_where_it_was(tmp_path):
    path = tmp_path / "state.pt"
    train_teacher("galaxies", path, **options(n_stamps=16))
    first = read(path)
    train_teacher("galaxies", path, **options(n_stamps=32))
    second = read(path)
    assert (first["seen"], second["seen"]) == (16, 32)
    assert second["chunks"] > first["chunks"]
    steps = [s["optimizer"]["state"][0]["step"].item() for s in (first, second)]
    assert steps == [2, 4]
    # nothing is left to do
    train_teacher("galaxies", path, **options(n_stamps=32))
    assert torch.equal(read(path)["network"]["head.weight"], second["network"]["head.weight"])


def test_workers_draw_stamps_in_another_process(tmp_path):
    train_teacher("galaxies", tmp_path / "state.pt", **options(n_workers=1))
    assert read(tmp_path / "state.pt")["seen"] == 48


def test_the_learning_rate_rises_and_stays():
    peak = learning_rate(10**9)
    assert learning_rate(0) == 0
    assert 0 < learning_rate(3_000) < peak
    assert learning_rate(10**6) == peak


def test_a_mirror_changes_the_winding_and_a_turn_does_not():
    truth = {name: torch.rand(8) for name in LESSONS["galaxies"].properties}
    targets = teaching.MorphologyTargets.fit(truth, {}, LESSONS["galaxies"].kinds)
    pool = Pool(targets, 4, ("winding",))
    planes = torch.arange(16.0).reshape(1, 1, 4, 4).expand(8, 3, 4, 4).half()
    values = torch.ones(8, len(truth))
    pool.add(planes, torch.ones(8, 3), values, torch.zeros(8, dtype=torch.long))
    column, signs = list(truth).index("winding"), set()
    for seed in range(20):
        seen, _, answers, _ = pool.batch(torch.Generator().manual_seed(seed))
        mirrored = torch.det(_map_between(planes[0, 0].float(), seen[0, 0])) < 0
        sign = -1.0 if mirrored else 1.0
        assert (answers[:, column] == sign).all()
        others = torch.cat([answers[:, :column], answers[:, column + 1 :]], 1)
        assert (others == 1).all()
        signs.add(sign)
    assert signs == {-1.0, 1.0}
    assert (pool.values == 1)[: pool.n_added].all()


def _map_between(before, after):
    """Return the 2 x 2 matrix of gradients of `after` in terms of those of `before`."""
    steps = [(image[1, 0] - image[0, 0], image[0, 1] - image[0, 0]) for image in (before, after)]
    down, right = steps[0]
    rows = [[float(a == down) - float(a == -down), float(a == right) - float(a == -right)]
            for a in steps[1]]  # fmt: skip
    return torch.tensor(rows)
