"""Processes killed at random moments: the same call again gives the results of a quiet run.

Each job runs in a separate process, forked from one that has imported torch.
"""

import hashlib
import multiprocessing
import os
import signal
import time
from contextlib import suppress

import numpy as np
import pandas as pd
import pytest
import torch

from skastro import PropertyPretrainedEncoder, embed_survey, open_stamps
from skastro.networks.checkpoints import CHECKPOINT
from skastro.study import baselines
from skastro.study.data import StudyData
from skastro.study.run import Plan, run_study
from skastro.utils.files import digest_arrays
from tests.conftest import make_stamps, tiny_encoder
from tests.networks.test_checkpoints import dropping

pytestmark = pytest.mark.skipif(os.name != "posix", reason="there is no SIGKILL on this system")

_MAX_SECONDS = 300  # a job that takes longer hangs
_FORKS = multiprocessing.get_context("forkserver")
_FORKS.set_forkserver_preload(
    ["skastro.study.run", "skastro.pages.report", "tests.promises.test_kills"]
)


def fit(folder, make, epochs):
    """Fit an encoder, with a validation loss and augmentation."""
    stamps, _, properties = make_stamps()
    encoder = make(
        max_epochs=epochs, validation_fraction=0.2, checkpoint_dir=folder / "checkpoint"
    ).fit(stamps, properties=properties)
    weights = [part.numpy() for part in encoder.network_.state_dict().values()]
    return [
        digest_arrays(*weights, encoder.embedding_mean_),
        [(row["train_loss"], row["valid_loss"]) for row in encoder.history_],
        list((folder / "checkpoint").iterdir()),
    ]


def save(folder, name):
    """Write stamps chunk by chunk."""
    source = folder.parent / "source.npy"
    with suppress(FileExistsError):  # killed when all was done
        open_stamps(source, bands="gri").save(folder / name, chunk=8, progress=False)
    return contents(folder)


def embed(folder, name):
    """Embed stamps chunk by chunk, with a cluster in this process."""
    distributed = pytest.importorskip("dask.distributed")
    out = folder / name
    with distributed.Client(processes=False, dashboard_address=None) as client:
        encoder = PropertyPretrainedEncoder.load(folder.parent / "encoder.safetensors")
        source = folder.parent / "source.npy"
        done = embed_survey(encoder, source, out, client=client, chunk=16, progress=False)
    result = done.read()
    return digest_arrays(result.values, result.ids), [path.name for path in folder.iterdir()]


def study(folder):
    """Run a small study without pictures of stamps."""
    baselines._IMAGENET_PACKAGE = "no_such_package"  # its weights are large
    stamps, labels, properties = make_stamps()
    data = StudyData(stamps, labels.astype(object), np.arange(60), properties)
    plan = Plan(
        label_counts=(8, 24), n_repeats=2, backbone="stamp_resnet10", max_epochs=3, steps=2,
        finetune=False, side_by_side=False,
    )  # fmt: skip
    result = run_study(data, folder / "out", plan=plan)
    tables = [pd.read_csv(path) for path in sorted((folder / "out").glob("*.csv"))]
    return [
        [table.to_csv() for table in tables],
        digest_arrays(result.embeddings, result.projections["self-supervised"].coordinates),
        sorted(path.name for path in folder.iterdir()),
    ]


def contents(folder):
    """Return the names of all files of a folder, and a hash of their contents."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    names = [str(path.relative_to(folder)) for path in files]
    return names, hashlib.sha256(b"".join(path.read_bytes() for path in files)).hexdigest()


def work(job, args, folder, sender):
    """Do a job in this process; send a note when it starts, and its result."""
    torch.set_num_threads(1)
    sender.send("begun")
    sender.send(job(folder, *args))


def run(job, args, folder, *, kill_after=None):
    """Run a job in a process; return its result (None if it was killed) and its seconds."""
    listen, sender = _FORKS.Pipe(duplex=False)
    process = _FORKS.Process(target=work, args=(job, args, folder, sender))
    process.start()
    sender.close()
    assert listen.poll(_MAX_SECONDS)
    assert listen.recv() == "begun"
    start = time.perf_counter()
    if not listen.poll(_MAX_SECONDS if kill_after is None else kill_after):
        os.kill(process.pid, signal.SIGKILL)
        process.join(_MAX_SECONDS)
        assert process.exitcode in (0, -signal.SIGKILL)
    try:
        return listen.recv(), time.perf_counter() - start
    except EOFError:
        assert process.exitcode == -signal.SIGKILL
        return None, kill_after


def kill_and_repeat(job, args, folder, *, times):
    """Kill a job at random moments, repeat it, and compare its result with that of a quiet run.

    Each repetition has its own folder. Return the names of the files that each kill left behind.
    """
    np.save(folder / "source.npy", make_stamps(n=1200)[0])
    (folder / "whole").mkdir()
    whole, seconds = run(job, args, folder / "whole")
    rng = np.random.default_rng(times)
    leftovers = []
    for number in range(times):
        place = folder / f"{number}"
        place.mkdir()
        # the moments are spread over the whole time, and every fourth job is killed twice
        share = (number + rng.random()) / times
        result = None
        for _ in range(1 + (number % 4 == 3)):
            result = result or run(job, args, place, kill_after=share * seconds)[0]
            leftovers.append({path.name for path in place.rglob("*")})
        result = result or run(job, args, place)[0]
        assert result == whole, f"after a kill at {share:.0%} of the time, with {leftovers[-1]}"
    return leftovers


def test_a_fit_killed_at_random_moments_ends_bit_for_bit_alike(tmp_path):
    leftovers = kill_and_repeat(fit, (dropping, 25), tmp_path, times=3)
    assert any(CHECKPOINT in names for names in leftovers)


@pytest.mark.torture
def test_a_fit_survives_twenty_kills(tmp_path):
    leftovers = kill_and_repeat(fit, (tiny_encoder, 12), tmp_path, times=20)
    assert sum(CHECKPOINT in names for names in leftovers) > 10


@pytest.mark.torture
@pytest.mark.parametrize("name", ["copy.npy", "copy.zarr"])
def test_saving_stamps_survives_twenty_kills(tmp_path, name):
    leftovers = kill_and_repeat(save, (name,), tmp_path, times=20)
    assert sum(f"{name}.partial" in names for names in leftovers) > 10


@pytest.mark.torture
@pytest.mark.parametrize("name", ["e.zarr", "e.parquet"])
def test_embedding_a_survey_survives_twenty_kills(tmp_path, fitted, name):
    fitted.save(tmp_path / "encoder.safetensors")
    leftovers = kill_and_repeat(embed, (name,), tmp_path, times=20)
    assert sum(f"{name}.partial" in names for names in leftovers) > 10


@pytest.mark.torture
def test_a_study_survives_twenty_kills(tmp_path):
    leftovers = kill_and_repeat(study, (), tmp_path, times=20)
    assert sum("cells.jsonl" in names for names in leftovers) > 5
