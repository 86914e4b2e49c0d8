from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from skastro.networks.device import keep_memory, resolve_device
from skastro.networks.losses import PropertyLoss
from skastro.networks.training import Recipe, StampBatches, _PrintCallback, seeded, train


def batches(n, batch_size, *, generator=None):
    stamps = np.arange(n, dtype=np.float32)[:, None, None, None] * np.ones((1, 1, 2, 2), "f4")
    made = StampBatches(stamps, (np.arange(n),), np.arange(n), batch_size)
    made.generator = generator
    return made


@pytest.mark.parametrize(("n", "batch_size"), [(10, 4), (9, 4), (3, 64), (1, 8), (5, 1), (65, 64)])
def test_every_stamp_is_in_one_batch_and_none_is_alone(n, batch_size):
    sizes = [len(stamps) for stamps, _ in batches(n, batch_size)]
    assert sum(sizes) == max(n, 2)
    assert min(sizes) >= 2
    assert len(sizes) == len(batches(n, batch_size))


def test_targets_travel_with_their_stamps():
    for stamps, (rows,) in batches(50, 8, generator=np.random.default_rng(0)):
        assert torch.equal(stamps[:, 0, 0, 0], rows.float())


def test_order_is_new_in_each_epoch_and_that_of_the_rows_without_a_generator():
    shuffled = batches(50, 8, generator=np.random.default_rng(0))
    first, second = ([rows for _, (rows,) in shuffled] for _ in range(2))
    assert not torch.equal(torch.cat(first), torch.cat(second))
    in_order = torch.cat([rows for _, (rows,) in batches(50, 8)])
    assert torch.equal(in_order, torch.arange(50))


def linear_problem(n=64):
    stamps = np.random.default_rng(0).normal(size=(n, 1, 2, 2)).astype(np.float32)
    target = stamps.reshape(n, 4).sum(1, keepdims=True)
    return stamps, (target, np.ones_like(target))


def linear_network(seed=0):
    with seeded(seed):
        return nn.Sequential(nn.Flatten(), nn.Linear(4, 1))


def recipe(**options):
    return Recipe(**{"max_epochs": 30, "batch_size": 16, "learning_rate": 0.1, **options})


def test_training_lowers_the_loss():
    stamps, targets = linear_problem()
    history = train(linear_network(), stamps, targets, loss=PropertyLoss("mse"), recipe=recipe())
    assert len(history) == 30
    assert history[-1]["train_loss"] < 0.02 * history[0]["train_loss"]
    assert [row["epoch"] for row in history] == list(range(1, 31))


def test_training_for_zero_epochs_changes_no_weight():
    stamps, targets = linear_problem()
    network = linear_network()
    before = network[1].weight.clone()
    assert train(network, stamps, targets, loss=PropertyLoss(), recipe=recipe(max_epochs=0)) == []
    assert torch.equal(network[1].weight, before)


def test_the_best_epoch_by_validation_loss_is_kept():
    stamps, (target, weight) = linear_problem()
    noise = np.random.default_rng(1).normal(size=target.shape).astype(np.float32)
    rows, reports = np.arange(40), []
    options = recipe(max_epochs=60, patience=3, augment=False, precision="float32")
    network = linear_network()
    history = train(
        network, stamps, (noise, weight), loss=PropertyLoss("mse"), recipe=options,
        validation_rows=rows, progress=reports.append,
    )  # fmt: skip
    with torch.no_grad():
        final_loss = PropertyLoss("mse")(
            network(torch.from_numpy(stamps[rows])),
            torch.from_numpy(noise[rows]),
            torch.ones(40, 1),
        )
    assert len(history) < 60
    # two batches to train on, and three to validate
    assert reports[:5] == [12, 25, 38, 51, 64]
    assert len(reports) == 5 * len(history) + 1
    assert reports == sorted(reports)
    assert reports[-1] == 64 * 60
    assert final_loss.item() == pytest.approx(min(row["valid_loss"] for row in history), rel=1e-4)


def test_a_keyboard_interrupt_ends_the_training_with_an_error():
    def interrupt(*_):
        raise KeyboardInterrupt

    stamps, targets = linear_problem()
    with pytest.raises(KeyboardInterrupt):
        train(linear_network(), stamps, targets, loss=PropertyLoss(interrupt), recipe=recipe())


def test_lines_of_the_epochs_are_aligned_and_plain(capsys):
    stamps, (target, weight) = linear_problem()
    noise = np.random.default_rng(1).normal(size=target.shape).astype(np.float32)
    options = recipe(verbose=1, title="Pretraining one layer", patience=2, augment=False)
    history = train(
        linear_network(), stamps, (noise, weight), loss=PropertyLoss("mse"), recipe=options,
        validation_rows=np.arange(40),
    )  # fmt: skip
    printed = capsys.readouterr().out
    assert printed.isascii()
    assert "\x1b" not in printed
    heading, columns, *rows, end = printed.splitlines()
    assert heading == "Pretraining one layer on 64 stamps of 1 band, 30 epochs"
    assert columns.split() == ["epoch", "loss", "validation", "seconds", "left"]
    assert {len(row) for row in rows} == {len(columns)}
    assert len(rows) == len(history) < 30
    best = min(history, key=lambda row: row["valid_loss"])
    assert end == f"Stopped early: epoch {best['epoch']} has the least validation loss."
    assert rows[0].split()[:3] == [
        "1",
        *(f"{history[0][f'{n}_loss']:.4f}" for n in ("train", "valid")),
    ]


def test_the_time_that_is_left_is_that_of_the_other_epochs():
    lines = []
    printer = _PrintCallback(
        "t", np.zeros((5, 2, 4, 4)), False, lambda line, **_: lines.append(line)
    )
    net = SimpleNamespace(history=[], max_epochs=41, callbacks_=[])
    printer.on_train_begin(net)
    net.history.append({})
    printer.on_epoch_begin(net)
    net.history[-1].update({"dur": 10.0, "train_loss": 0.5})
    printer.on_epoch_end(net)
    assert lines[2].split() == ["1", "0.5000", "10.0", "7", "min"]


def test_seeds_repeat_and_leave_the_global_generator_alone():
    torch.manual_seed(5)
    before = torch.get_rng_state()
    first, second, other = linear_network(1), linear_network(1), linear_network(2)
    assert torch.equal(first[1].weight, second[1].weight)
    assert not torch.equal(first[1].weight, other[1].weight)
    assert torch.equal(torch.get_rng_state(), before)


def test_a_named_device_is_used():
    assert resolve_device("cpu") == "cpu"
    assert resolve_device("auto") in ("cpu", "cuda", "mps")


def test_memory_is_kept_without_harm():
    keep_memory()
    assert np.ones(10_000_000).sum() == 10_000_000
