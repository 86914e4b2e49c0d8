"""Threads beside another busy process, and the number of cores."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import joblib
import pytest

from skastro.utils.threads import count_cores, leave_cores_while_waiting

ROOT = Path(__file__).parents[2]
SETTINGS = {"OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME"}

# fits a small network, and prints the seconds of the processor that it needs beside busy processes
FIT = """
import os, subprocess, sys, time
import numpy as np
from skastro import PropertyPretrainedEncoder
import torch
torch.set_num_threads(int(sys.argv[1]))
stamps = np.random.default_rng(0).normal(size=(128, 5, 32, 32)).astype(np.float32)
encoder = PropertyPretrainedEncoder("stamp_resnet10", max_epochs=1, random_state=0)
encoder.fit(stamps[:32])
busy = [
    subprocess.Popen([sys.executable, "-c", "while True: pass"])
    for _ in os.sched_getaffinity(0)
]
try:
    time.sleep(0.5)
    start = time.process_time()
    encoder.fit(stamps)
    print(time.process_time() - start)
finally:
    for process in busy:
        process.kill()
"""


@pytest.fixture
def clean(monkeypatch):
    """Return the environment without settings of OpenMP."""
    for name in (*SETTINGS, "OMP_NUM_THREADS", "MKL_NUM_THREADS"):
        monkeypatch.delenv(name, raising=False)
    return monkeypatch


def run(code, *arguments, **environment):
    done = subprocess.run(  # noqa: S603 - our own interpreter and code
        [sys.executable, "-c", code, *map(str, arguments)],
        capture_output=True, text=True, check=False, cwd=ROOT, env={**os.environ, **environment},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


@pytest.mark.usefixtures("clean")
def test_threads_leave_their_cores_by_default():
    leave_cores_while_waiting()
    assert {name: os.environ.get(name) for name in SETTINGS} == {
        "GOMP_SPINCOUNT": "0", "KMP_BLOCKTIME": "0", "OMP_WAIT_POLICY": None,
    }  # fmt: skip


@pytest.mark.parametrize("name", sorted(SETTINGS))
def test_settings_of_the_user_stay(clean, name):
    clean.setenv(name, "1")
    leave_cores_while_waiting()
    assert SETTINGS & os.environ.keys() == {name}


@pytest.mark.usefixtures("clean")
@pytest.mark.parametrize("module", ["skastro", "skastro.cli.app", "skastro.stamps.arrays"])
def test_whatever_is_imported_sets_them_before_torch_is_loaded(module):
    code = f"import sys, {module}, os; print('torch' in sys.modules, os.environ['GOMP_SPINCOUNT'])"
    assert run(code) == ["False", "0"]


@pytest.mark.usefixtures("clean")
def test_worker_processes_inherit_them():
    code = (
        "import joblib, os, skastro\n"
        "tasks = [joblib.delayed(os.getenv)('GOMP_SPINCOUNT')] * 2\n"
        "print(*joblib.Parallel(n_jobs=2)(tasks))"
    )
    assert run(code) == ["0", "0"]


@pytest.mark.usefixtures("clean")
@pytest.mark.parametrize(
    ("environment", "threads"),
    [({"LOKY_MAX_CPU_COUNT": "1"}, 1), ({"LOKY_MAX_CPU_COUNT": "1", "OMP_NUM_THREADS": "2"}, 2)],
)
def test_torch_uses_the_cores_of_this_process(environment, threads):
    code = "import skastro.networks.device, torch; print(torch.get_num_threads())"
    assert run(code, **environment) == [str(threads)]


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="the system has no affinities")
def test_cores_are_those_of_the_affinity():
    before = os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, [min(before)])
        assert count_cores() == joblib.effective_n_jobs(-1) == 1
    finally:
        os.sched_setaffinity(0, before)


@pytest.mark.slow
@pytest.mark.usefixtures("clean")
@pytest.mark.skipif(count_cores() < 2, reason="there is one core")
def test_two_threads_beside_busy_processes_need_about_the_time_of_one():
    one = float(run(FIT, 1)[0])
    two = float(run(FIT, 2)[0])
    if two >= 3 * one:  # by chance, at the first attempt
        two = float(run(FIT, 2)[0])
    assert two < 3 * one, f"{two:.1f} s of the processor in two threads, {one:.1f} s in one"
