"""Open and embed a stack of stamps that does not fit in memory: seconds, and peak memory.

    python -m benchmarks.speed.memory --stamps 1000000 --embed 100000

The stack is a sparse ``.npy`` file: it takes no space on the disk, but is read like any other file.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from benchmarks._results import write_results

_IDLE = "import skastro, resource; print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)"


def write_sparse(path: Path, shape: tuple[int, int, int, int]) -> None:
    """Write the header of float16 stamps, and a few of their pixels."""
    with path.open("wb") as file:
        header = {"descr": "<f2", "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(file, header)
        offset = file.tell()
        file.truncate(offset + 2 * int(np.prod(shape)))
    pixels = np.memmap(path, "<f2", "r+", offset, shape)
    some = pixels[:: max(1, shape[0] // 2000)][:2000]
    some[:] = np.random.default_rng(0).normal(size=some.shape)
    pixels.flush()


def peak_megabytes() -> float:
    """Return the most memory that this process has held."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def measure(path: Path, n: int) -> dict[str, float]:
    """Open the stack and embed a slice, in this process."""
    from skastro import PropertyPretrainedEncoder, open_stamps  # noqa: PLC0415 - timed apart

    start = time.perf_counter()
    stamps = open_stamps(path)
    opened = time.perf_counter() - start
    encoder = PropertyPretrainedEncoder(
        "stamp_resnet10", max_epochs=1, average_views=False, random_state=0
    ).fit(stamps[:: max(1, len(stamps) // 2000)][:1000])
    start = time.perf_counter()
    embeddings = encoder.transform(stamps[len(stamps) // 2 - n // 2 :][:n])
    return {
        "open_seconds": opened,
        "embed_seconds": time.perf_counter() - start,
        "embeddings": len(embeddings),
        "peak_megabytes": peak_megabytes(),
    }


def main() -> None:
    """Measure in processes of their own, print and write JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--stamps", type=int, default=1_000_000)
    parser.add_argument("--embed", type=int, default=100_000)
    parser.add_argument("--file", type=Path, default=None, help="measure this file, here")
    parser.add_argument("--out", type=Path, default=None)
    options = parser.parse_args()
    if options.file:
        print(json.dumps(measure(options.file, options.embed)))
        return
    idle = subprocess.run(  # noqa: S603 - our own interpreter and code
        [sys.executable, "-c", _IDLE], capture_output=True, text=True, check=True
    )
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "stamps.npy")
        write_sparse(path, (options.stamps, 5, 32, 32))
        command = [
            sys.executable,
            "-m",
            "benchmarks.speed.memory",
            "--file",
            str(path),
            "--embed",
            str(options.embed),
        ]
        run = subprocess.run(command, capture_output=True, text=True, check=True)  # noqa: S603
    result = json.loads(run.stdout.splitlines()[-1])
    result["idle_megabytes"] = int(idle.stdout) / 1024
    result["more_megabytes"] = result["peak_megabytes"] - result["idle_megabytes"]
    lines = [f"| {name.replace('_', ' ')} | {value:,.2f} |" for name, value in result.items()]
    head = [f"| {options.stamps:,} stamps in a file | |", "| --- | --- |"]
    write_results(options.out, result, "\n".join(head + lines))


if __name__ == "__main__":
    main()
