"""Training on two processes against one: the same batches, the same steps, the same weights."""

import subprocess
import sys

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from skastro.networks.backbones import parallel

# numbers of stamps and batches that two processes cannot share evenly; gaps and errors differ from
# row to row, so that shares of a batch have other sums of weights
_SCRIPT = """
import sys

import numpy as np

from skastro import PropertyPretrainedEncoder, process_group

rng = np.random.default_rng(0)
stamps = rng.normal(size=(61, 3, 8, 8)).astype(np.float32)
stamps[::3] *= 3
properties = np.stack([stamps.mean((1, 2, 3)), stamps.std((1, 2, 3))], 1)
properties[::4, 1] = np.nan
errors = rng.uniform(0.001, 1.0, size=properties.shape)

with process_group() as rank:
    encoder = PropertyPretrainedEncoder(
        "stamp_resnet10",
        max_epochs=3,
        batch_size=15,
        validation_fraction=0.2,
        precision="float32",
        random_state=0 if sys.argv[2] == "seeded" else None,
        checkpoint_dir=sys.argv[1] + "/checkpoints",
        verbose=1,
    )
    encoder.fit(stamps, properties=properties, property_errors=errors)
    history = [[row["train_loss"], row["valid_loss"]] for row in encoder.history_]
    weights = {name: part.numpy() for name, part in encoder.network_.state_dict().items()}
    embeddings = encoder.transform(stamps)
    np.savez(f"{sys.argv[1]}/{rank}.npz", history=history, embeddings=embeddings, **weights)
"""


def run(folder, *, processes, seed="seeded", script=_SCRIPT, check=True):
    """Run a script by torchrun, or alone, and return what its processes have saved."""
    folder.mkdir(exist_ok=True)
    (folder / "script.py").write_text(script)
    command = [sys.executable]
    if processes > 1:
        command += ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
    result = subprocess.run(  # noqa: S603 - our own interpreter and script
        [*command, folder / "script.py", folder, seed],
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    if check:
        assert result.returncode == 0, result.stderr
    return [dict(np.load(file)) for file in sorted(folder.glob("*.npz"))], result


@pytest.mark.slow
def test_two_processes_train_what_one_does(tmp_path):
    (alone,), _ = run(tmp_path / "one", processes=1)
    (first, second), result = run(tmp_path / "two", processes=2)
    assert first.keys() == second.keys() == alone.keys()
    for name in first:
        np.testing.assert_array_equal(first[name], second[name], err_msg=name)
        np.testing.assert_allclose(first[name], alone[name], atol=5e-5, rtol=1e-4, err_msg=name)
    np.testing.assert_allclose(first["history"], alone["history"], atol=1e-5)
    # process 0 alone prints, and nothing of the checkpoints is left
    assert result.stdout.count("valid_loss") == 1
    assert not list((tmp_path / "two" / "checkpoints").iterdir())


@pytest.mark.slow
def test_processes_without_a_seed_agree_on_one(tmp_path):
    (first, second), _ = run(tmp_path / "two", processes=2, seed="unseeded")
    for name in first:
        np.testing.assert_array_equal(first[name], second[name], err_msg=name)


@pytest.mark.slow
def test_processes_with_other_data_are_refused(tmp_path):
    script = _SCRIPT.replace(
        "with process_group() as rank:",
        "with process_group() as rank:\n    properties = properties + rank",
    )
    _, result = run(tmp_path / "two", processes=2, script=script, check=False)
    assert result.returncode != 0
    assert "the targets differs between process 0 (checksum" in result.stderr


@pytest.fixture
def alone(tmp_path):
    """Make this process one of a group of one, in which all the same sums are taken."""
    store = f"file://{tmp_path}/store"
    torch.distributed.init_process_group("gloo", init_method=store, rank=0, world_size=1)
    yield
    torch.distributed.destroy_process_group()


@pytest.mark.usefixtures("alone")
@pytest.mark.parametrize("shape", [(6, 3), (6, 3, 4), (4, 3, 5, 5)])
@pytest.mark.parametrize("affine", [True, False])
def test_batch_norm_and_its_gradients_are_those_of_torch(shape, affine):
    def both(normalise):
        torch.manual_seed(0)
        x = (3 + 2 * torch.randn(shape)).requires_grad_()
        net = [nn.BatchNorm1d, nn.BatchNorm1d, nn.BatchNorm2d][len(shape) - 2](3, affine=affine)
        if affine:
            nn.init.uniform_(net.weight), nn.init.uniform_(net.bias)
        y = normalise(net, x)
        (y * torch.linspace(-1, 1, y.numel()).reshape(shape)).sum().backward()
        gradients = [part.grad for part in net.parameters()]
        return [y.detach(), x.grad, *gradients, *net.buffers()]

    def whole(net, x):
        with parallel._WholeBatchNorm():
            return net(x)

    for ours, theirs in zip(both(whole), both(lambda net, x: net(x)), strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-5)


def test_batch_norm_in_evaluation_is_left_alone():
    x, net = torch.randn(4, 3, 5, 5), nn.BatchNorm2d(3).eval()
    with parallel._WholeBatchNorm():
        assert torch.equal(net(x), functional.batch_norm(x, net.running_mean, net.running_var))


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
    monkeypatch.setattr(parallel, "n_processes", lambda: 4)
    job = parallel.Job(smallest_batch=3, facts={}, arrays={})
    with (
        pytest.raises(ValueError, match="batches of 3 stamps are too small for 4 processes"),
        parallel.together(nn.Linear(1, 1), 0, job),
    ):
        pass


def test_a_script_without_torchrun_is_process_0_of_one():
    with parallel.process_group() as rank:
        assert (rank, parallel.n_processes()) == (0, 1)
