"""One process with all threads against as many processes with one thread each, side by side.

    python -m benchmarks.speed.scaling [--stamps 8192] [--pretext 4096] [--rounds 3] [--workers 2]

Embedding: `embed_survey` on Dask workers against `PropertyPretrainedEncoder.transform`, from the
same file. Training: `torchrun` against one process, with the same batches. The rounds alternate,
and the ratio is taken round by round. Needs as many cores as workers, and nothing else on them.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks._results import write_results

SHAPE = (5, 32, 32)
CHUNK = 512
BATCH = 64


def make_encoder(**params: Any) -> Any:
    """Return the default network, so that rates are those of the default."""
    from skastro import PropertyPretrainedEncoder  # noqa: PLC0415 - each process imports its own

    return PropertyPretrainedEncoder(targets="catalog", random_state=0, batch_size=BATCH, **params)


def write_stamps(path: Path, n: int) -> None:
    """Write n stamps of noise, float32."""
    file = np.lib.format.open_memmap(path, "w+", np.float32, (n, *SHAPE))
    rng = np.random.default_rng(0)
    for start in range(0, n, CHUNK):
        file[start : start + CHUNK] = rng.normal(size=file[start : start + CHUNK].shape)
    file.flush()


def embed(path: Path, workers: int, rounds: int, folder: Path) -> dict[str, Any]:
    """Return stamps per second of one process and of workers, round by round."""
    import torch  # noqa: PLC0415
    from dask.distributed import Client, LocalCluster  # noqa: PLC0415

    from skastro import embed_survey, open_stamps  # noqa: PLC0415

    torch.set_num_threads(workers)
    stamps = open_stamps(path)
    sample = np.asarray(stamps[:256])
    encoder = make_encoder(max_epochs=0).fit(sample, properties=sample.mean((2, 3)))
    rates: dict[str, list[float]] = {"one": [], "workers": []}
    options = {"threads_per_worker": 1, "memory_limit": 0, "dashboard_address": "127.0.0.1:0"}
    with LocalCluster(n_workers=workers, **options) as cluster, Client(cluster) as client:

        def by_workers(rows: Any, name: str) -> float:
            out = folder / f"{name}.zarr"
            done = embed_survey(encoder, rows, out, client=client, chunk=CHUNK, progress=False)
            return done.rate

        def by_one(rows: Any, _: str) -> float:
            start = time.perf_counter()
            encoder.transform(rows)
            return len(rows) / (time.perf_counter() - start)

        for warm_up in (by_workers, by_one):
            warm_up(stamps[: CHUNK * workers], "warm")
        for number in range(rounds):
            pair = [("one", by_one), ("workers", by_workers)][:: 1 if number % 2 else -1]
            for name, run in pair:
                rates[name].append(run(stamps, str(number)))
    return compare(rates["one"], rates["workers"])


def train(path: Path, n: int, processes: int, rounds: int) -> dict[str, Any]:
    """Return stamps per second of an epoch in one process and shared by several."""
    rates: dict[int, list[float]] = {1: [], processes: []}
    for number in range(rounds):
        for count in list(rates)[:: 1 if number % 2 else -1]:
            rates[count].append(train_once(path, n, count, threads=processes // count))
    return compare(rates[1], rates[processes])


def train_once(path: Path, n: int, processes: int, threads: int) -> float:
    """Train in processes of their own; return stamps per second of the best epoch but the first."""
    launcher = [sys.executable]
    if processes > 1:
        launcher += ["-m", "torch.distributed.run", "--standalone"]
        launcher += ["--nproc-per-node", str(processes)]
    command = [
        *launcher,
        "-m",
        "benchmarks.speed.scaling",
        "--train",
        str(path),
        "--pretext",
        str(n),
    ]
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads)}
    found = subprocess.run(command, env=environment, check=True, capture_output=True, text=True)  # noqa: S603
    return n / float(found.stdout.split()[-1])


def print_epoch(path: Path, n: int) -> None:
    """Train, and print the seconds of the fastest epoch."""
    from skastro import open_stamps, process_group  # noqa: PLC0415

    with process_group() as rank:
        stamps = np.asarray(open_stamps(path)[:n])
        encoder = make_encoder(max_epochs=3).fit(stamps, properties=stamps.mean((2, 3)))
        if rank == 0:
            print(min(row["dur"] for row in encoder.history_[1:]))


def compare(one: list[float], many: list[float]) -> dict[str, Any]:
    """Return the medians, and the ratios of the rounds."""
    ratios = np.array(many) / np.array(one)
    return {
        "one": float(np.median(one)),
        "workers": float(np.median(many)),
        "ratio_median": float(np.median(ratios)),
        "ratios": ratios.round(3).tolist(),
    }


def main() -> None:
    """Measure, print a table and write JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--stamps", type=int, default=8192)
    parser.add_argument("--pretext", type=int, default=4096)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--train", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--out", type=Path, default=None)
    options = parser.parse_args()
    if options.train:
        print_epoch(options.train, options.pretext)
        return
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch, "stamps.npy")
        write_stamps(path, max(options.stamps, options.pretext))
        result = {
            "embed": embed(path, options.workers, options.rounds, Path(scratch)),
            "train": train(path, options.pretext, options.workers, options.rounds),
        }
    settings = {name: getattr(options, name) for name in ("stamps", "pretext", "workers")}
    n = options.workers
    lines = [
        f"| | 1 process, {n} threads | {n} processes, 1 thread each | ratio, median of rounds |",
        "| --- | --- | --- | --- |",
    ]
    for part, row in result.items():
        rates = f"{row['one']:.0f} stamps/s | {row['workers']:.0f} stamps/s"
        lines.append(f"| {part} | {rates} | {row['ratio_median']:.3f} |")
    write_results(options.out, {**settings, **result}, "\n".join(lines))


if __name__ == "__main__":
    main()
