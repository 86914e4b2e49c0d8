"""How much slower skastro is when another program keeps one core busy.

    python -m benchmarks.speed.busy [--rounds 5] [--jobs fit,transform,study,tests] [--busy 1]

Each job runs in a process of its own, alone and beside endless loops, in turn; the ratio is taken
round by round. The threads are those that skastro uses by default. On two cores a program that has
one and a half of them left takes 1.33 times as long; threads that wait for each other by spinning
made it ten times and more. `study` is `skastro study --quick`, `tests` is a folder of the tests by
two processes: both take minutes, and have one round unless `--long-rounds` says otherwise.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from benchmarks._results import write_results

SHAPE = (5, 32, 32)
ROOT = Path(__file__).parents[2]
LOOP = [sys.executable, "-c", "while True: pass"]


def make_stamps(n: int) -> np.ndarray:
    """Return random stamps."""
    return np.random.default_rng(0).normal(size=(n, *SHAPE)).astype(np.float32)


def time_fit() -> float:
    """Return the seconds of an epoch of the default pretraining on 2,048 stamps."""
    return float(_fit(make_stamps(2048), max_epochs=2).history_[-1]["dur"])


def time_transform() -> float:
    """Return the seconds to embed 1,024 stamps by the default encoder."""
    stamps = make_stamps(1024)
    encoder = _fit(stamps[:256], max_epochs=0)
    start = time.perf_counter()
    encoder.transform(stamps)
    return time.perf_counter() - start


def _fit(stamps: np.ndarray, max_epochs: int):  # noqa: ANN202 - importing the class takes seconds
    from skastro import PropertyPretrainedEncoder  # noqa: PLC0415

    encoder = PropertyPretrainedEncoder(targets="catalog", max_epochs=max_epochs, random_state=0)
    return encoder.fit(stamps, properties=stamps.mean((2, 3)))


def time_study() -> float:
    """Return the seconds of a small study, with the start of Python."""
    with tempfile.TemporaryDirectory() as folder:
        command = [Path(sys.executable).with_name("skastro"), "study", "--quick", "--out"]
        return _time_command([*map(str, command), str(Path(folder, "study"))])


def time_tests() -> float:
    """Return the seconds of some tests by two processes, with the start of Python."""
    options = ["-q", "--no-header", "--numprocesses", "2", "--dist", "loadfile"]
    options += ["tests/probes", "tests/evaluation"]
    return _time_command([sys.executable, "-m", "pytest", *options])


def _time_command(command: list[str]) -> float:
    start = time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)  # noqa: S603
    if done.returncode:
        sys.exit(f"{done.stdout[-2000:]}\n{done.stderr[-2000:]}")
    return time.perf_counter() - start


JOBS: dict[str, Callable[[], float]] = {
    "fit": time_fit,
    "transform": time_transform,
    "study": time_study,
    "tests": time_tests,
}
LONG = ("study", "tests")


def run_apart(job: str, busy: int) -> float:
    """Run a job in a process of its own, beside some endless loops; return its seconds."""
    loops = [subprocess.Popen(LOOP) for _ in range(busy)]  # noqa: S603
    try:
        command = [sys.executable, "-W", "ignore", "-m", "benchmarks.speed.busy", "--run", job]
        found = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)  # noqa: S603
    finally:
        for loop in loops:
            loop.kill()
            loop.wait()
    return float(found.stdout.split()[-1])


def main() -> None:
    """Alternate, print a table and write it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--long-rounds", type=int, default=1)
    parser.add_argument("--jobs", default=",".join(JOBS))
    parser.add_argument("--busy", type=int, default=1, help="number of endless loops")
    parser.add_argument("--out", type=Path, default=None)
    parser.add_argument("--run", choices=JOBS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.run:
        print(JOBS[options.run]())
        return
    lines = ["| job | alone, s | beside a busy core, s | ratio |", "| --- | ---: | ---: | ---: |"]
    result = {}
    for job in options.jobs.split(","):
        rounds = options.long_rounds if job in LONG else options.rounds
        pairs = [(run_apart(job, 0), run_apart(job, options.busy)) for _ in range(rounds)]
        alone, beside = (statistics.median(column) for column in zip(*pairs, strict=True))
        ratio = statistics.median(second / first for first, second in pairs)
        result[job] = {"pairs": pairs, "ratio": ratio}
        lines.append(f"| {job} | {alone:.1f} | {beside:.1f} | {ratio:.2f} |")
        print(lines[-1], file=sys.stderr, flush=True)
    write_results(options.out, result, "\n".join(lines))


if __name__ == "__main__":
    main()
