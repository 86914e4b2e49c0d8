"""Training in two processes: equal weights in both, and those of one process to rounding."""

import subprocess
import sys

import numpy as np
import pytest

from skastro.networks import parallel, training
from skastro.networks.losses import PropertyLoss
from tests.networks.test_training import linear_network, linear_problem, recipe

# "default": batch norms, gaps, errors, and batches that two processes cannot share evenly;
# "plain": none of these, so that the shares of a batch add up to what one process computes
_SCRIPT = """
import sys

import numpy as np
import torch
from torch import nn

from skastro import PropertyPretrainedEncoder, process_group

class Plain(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer, self.unused = nn.Conv2d(3, 8, 3), nn.Linear(8, 8)

    def forward(self, maps):
        return self.layer(maps).relu()


def fit(kind, *, difference=0.0):
    plain = kind == "plain"
    rng = np.random.default_rng(0)
    stamps = rng.normal(size=(80 if plain else 61, 3, 8, 8)).astype(np.float32)
    stamps[::3] *= 3
    properties = np.stack([stamps.mean((1, 2, 3)), stamps.std((1, 2, 3))], 1) + difference
    errors = None
    if not plain:
        properties[::4, 1] = np.nan
        errors = rng.uniform(0.001, 1.0, size=properties.shape)
    torch.manual_seed(0)
    encoder = PropertyPretrainedEncoder(
        Plain() if plain else "stamp_resnet10",
        targets="catalog",
        max_epochs=3,
        batch_size=16 if plain else 15,
        validation_fraction=0.2,
        augment=not plain,
        precision="float32",
        random_state=0 if plain else None,
        checkpoint_dir=f"{folder}/{kind}-checkpoints",
        verbose=1,
    )
    encoder.fit(stamps, properties=properties, property_errors=errors)
    history = [[row["train_loss"], row["valid_loss"]] for row in encoder.history_]
    weights = {name: part.numpy() for name, part in encoder.network_.state_dict().items()}
    embeddings = encoder.transform(stamps)
    np.savez(f"{folder}/{kind}-{rank}.npz", history=history, embeddings=embeddings, **weights)


folder = sys.argv[1]
with process_group() as rank:
    for kind in sys.argv[2:]:
        fit(kind)
    if len(sys.argv) > 3:
        fit("plain", difference=rank)  # the processes get different targets
"""


def run(folder, *kinds, processes):
    """Run the script by torchrun, or alone, and return the result of its process."""
    (folder / "script.py").write_text(_SCRIPT)
    command = [sys.executable]
    if processes > 1:
        command += ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
    result = subprocess.run(  # noqa: S603 - our own interpreter and script
        [*command, folder / "script.py", folder, *kinds],
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    return result


def load(folder, kind):
    """Return what each process has saved of a fit."""
    return [dict(np.load(file)) for file in sorted(folder.glob(f"{kind}-*.npz"))]


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    """Run both kinds of fit, and then one with different data, in two processes."""
    folder = tmp_path_factory.mktemp("two")
    return folder, run(folder, "plain", "default", processes=2)


@pytest.mark.slow
def test_two_processes_train_what_one_does(two, tmp_path):
    result = run(tmp_path, "plain", processes=1)
    assert result.returncode == 0, result.stderr
    (alone,) = load(tmp_path, "plain")
    first, second = load(two[0], "plain")
    assert first.keys() == second.keys() == alone.keys()
    for name in first:
        np.testing.assert_array_equal(first[name], second[name], err_msg=name)
        np.testing.assert_allclose(first[name], alone[name], atol=5e-5, rtol=1e-4, err_msg=name)


@pytest.mark.slow
def test_processes_end_with_the_same_weights(two):
    folder, result = two
    first, second = load(folder, "default")
    assert first.keys() == second.keys()
    for name in first:
        np.testing.assert_array_equal(first[name], second[name], err_msg=name)
    # only process 0 prints, once for each fit, and it removes the checkpoints
    assert result.stdout.count("epoch      loss  validation") == 2
    assert not list((folder / "default-checkpoints").iterdir())


@pytest.mark.slow
def test_processes_with_other_data_are_refused(two):
    _, result = two
    assert result.returncode != 0
    assert "the hash of the targets differs between process 0 ('" in result.stderr


@pytest.mark.parametrize("n", [2, 7, 64])
@pytest.mark.parametrize("processes", [1, 2, 3])
def test_every_row_is_in_one_share(monkeypatch, n, processes):
    monkeypatch.setattr(parallel, "n_processes", lambda: processes)
    rows = []
    for number in range(processes):
        monkeypatch.setattr(parallel, "rank", lambda number=number: number)
        rows += range(n)[parallel.share_of(n)]
    assert rows == list(range(n))


def test_small_batches_are_refused_before_the_processes_wait(monkeypatch):
    monkeypatch.setattr(training, "n_processes", lambda: 4)  # each of which needs two stamps
    stamps, targets = linear_problem(7)
    with pytest.raises(ValueError, match="batches of 7 stamps are too small for 4 processes"):
        training.train(
            linear_network(), stamps, targets, loss=PropertyLoss(), recipe=recipe(device="cpu")
        )


def test_a_script_without_torchrun_is_process_0_of_one():
    with parallel.process_group() as rank:
        assert (rank, parallel.n_processes()) == (0, 1)
