"""Cost of embedding and training for more stamps, larger stamps and more bands.

    python -m benchmarks.speed.growth [--most 1000000] [--parts n,side,bands]

Each case runs in a separate process, on a sparse file of float16 stamps that is read when needed,
with the default backbone and one view for each stamp. Memory is the difference of the peak memory
to that of a process that has done the same with few stamps.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from benchmarks._results import write_results
from benchmarks.speed.memory import peak_megabytes, write_sparse

COUNTS = [1_000, 10_000, 100_000, 1_000_000]
SIDES = [32, 64, 128, 224]
BANDS = [1, 3, 5, 12]
FEW = 256
HEAD = (
    "| what grows | stamps | shape | embed, stamps/s | train, stamps/s | seconds | memory, MB |",
    "| --- | --- | --- | --- | --- | --- | --- |",
)


def run_here(path: Path, side: int) -> None:
    """Embed all stamps of a file, train an epoch on some, and print rates and memory."""
    import time  # noqa: PLC0415 - beside what is timed

    from skastro import PropertyPretrainedEncoder, open_stamps  # noqa: PLC0415

    stamps = open_stamps(path)
    encoder = PropertyPretrainedEncoder(
        targets="catalog", average_views=False, max_epochs=1, random_state=0
    )
    targets = np.random.default_rng(0).normal(size=(len(stamps), 8))
    some = stamps[: 2048 if side <= 64 else 512]
    encoder.fit(some, properties=targets[: len(some)])
    trained = encoder.history_[-1]["dur"]
    encoder.transform(stamps[:FEW])
    idle = peak_megabytes()
    start = time.perf_counter()
    encoder.transform(stamps)
    seconds = time.perf_counter() - start
    result = {"seconds": seconds, "embed_rate": len(stamps) / seconds}
    result |= {"train_rate": len(some) / trained, "megabytes": peak_megabytes() - idle}
    print(json.dumps(result))


def cases(parts: list[str], most: int) -> Iterator[tuple[str, int, int, int]]:
    """Yield what grows, and n, side and bands."""
    if "n" in parts:
        yield from (("n", n, 32, 5) for n in COUNTS if n <= most)
    if "side" in parts:
        yield from (("side", 64 * (1024 // side), side, 5) for side in SIDES)  # whole batches
    if "bands" in parts:
        yield from (("bands", 4_000, 32, bands) for bands in BANDS)


def main() -> None:
    """Measure each case, print a table and write JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--most", type=int, default=1_000_000)
    parser.add_argument("--parts", default="n,side,bands")
    parser.add_argument("--out", type=Path, default=None)
    parser.add_argument("--run", nargs=2, default=None, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.run:
        run_here(Path(options.run[0]), int(options.run[1]))
        return
    rows, lines = [], list(HEAD)
    for what, n, side, bands in cases(options.parts.split(","), options.most):
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, "stamps.npy")
            write_sparse(path, (n, bands, side, side))
            command = [
                sys.executable,
                "-m",
                "benchmarks.speed.growth",
                "--run",
                str(path),
                str(side),
            ]
            result = subprocess.run(command, capture_output=True, text=True, check=True)  # noqa: S603
        row = json.loads(result.stdout.splitlines()[-1])
        rows.append({"grows": what, "n": n, "shape": [bands, side, side], **row})
        lines.append(
            f"| {what} | {n:,} | {bands} x {side} x {side} | {row['embed_rate']:.0f} "
            f"| {row['train_rate']:.0f} | {row['seconds']:.1f} | {row['megabytes']:.0f} |"
        )
        print(lines[-1], file=sys.stderr, flush=True)
    write_results(options.out, rows, "\n".join(lines))


if __name__ == "__main__":
    main()
