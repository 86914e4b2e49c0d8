"""Open and embed the stamps of a Parquet file: seconds, and peak memory.

    python -m benchmarks.speed.parquet [--rows 100000] [--dtype uint8] [--rows-per-group 0]

The column holds nested lists of 3 x 64 x 64 numbers, without compression. Zero rows in a group
means one group for all rows, which is the hardest case for the memory. A process of its own opens
the table and embeds it with the smallest network, which was trained and saved before; it has one
thread unless ``--threads`` says otherwise.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from benchmarks._results import write_results

_SHAPE = (3, 64, 64)
_N_DIFFERENT = 1000  # stamps, which are repeated
_N_TRAINING = 500


def write_table(path: Path, n: int, dtype: str, rows_per_group: int) -> None:
    """Write n stamps as nested lists, with ids and a column of classes."""
    import pyarrow as pa  # noqa: PLC0415 - is not a part of skastro's core
    from pyarrow import parquet  # noqa: PLC0415

    pixels = np.random.default_rng(0).normal(100, 20, (_N_DIFFERENT, *_SHAPE))
    values = pa.array(pixels.astype(dtype).reshape(-1))
    for length in _SHAPE[::-1]:
        offsets = pa.array(np.arange(0, len(values) + 1, length, dtype=np.int32))
        values = pa.ListArray.from_arrays(offsets, values)
    numbers = np.arange(n)
    table = pa.table(
        {
            "id": numbers,
            "image": pa.chunked_array([values] * (n // _N_DIFFERENT)),
            "label": numbers % 2,
        }
    )
    options = {"compression": "none", "use_dictionary": False}
    parquet.write_table(table, path, row_group_size=rows_per_group or n, **options)


def train_encoder(path: Path) -> None:
    """Train the smallest network on few stamps, and save it."""
    from skastro import PropertyPretrainedEncoder  # noqa: PLC0415 - is imported where it is timed

    stamps = np.random.default_rng(1).normal(100, 20, (_N_TRAINING, *_SHAPE)).astype(np.float32)
    encoder = PropertyPretrainedEncoder("stamp_resnet10", max_epochs=1, random_state=0)
    encoder.fit(stamps).save(path)


def peak_megabytes() -> float:
    """Return the most memory that this process has held, without that of its parent."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1024


def measure(path: Path, saved: Path) -> dict[str, float]:
    """Open the table with its catalogue, and embed all stamps, in this process."""
    from skastro import PropertyPretrainedEncoder, load_survey, open_stamps  # noqa: PLC0415

    encoder = PropertyPretrainedEncoder.load(saved)
    idle = peak_megabytes()
    start = time.perf_counter()
    stamps = open_stamps(path)
    opened = time.perf_counter() - start
    start = time.perf_counter()
    load_survey(path)
    loaded = time.perf_counter() - start
    start = time.perf_counter()
    embeddings = encoder.transform(stamps)
    return {
        "open_seconds": opened,
        "load_survey_seconds": loaded,
        "embed_seconds": time.perf_counter() - start,
        "embeddings": len(embeddings),
        "idle_megabytes": idle,
        "peak_megabytes": peak_megabytes(),
    }


def main() -> None:
    """Measure in a process of its own, print and write JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--dtype", choices=("uint8", "float32"), default="uint8")
    parser.add_argument("--rows-per-group", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument(
        "--files", type=Path, nargs=2, default=None, help="table and encoder to measure, here"
    )
    parser.add_argument("--out", type=Path, default=None)
    options = parser.parse_args()
    if options.files:
        print(json.dumps(measure(*options.files)))
        return
    with tempfile.TemporaryDirectory() as folder:
        path, encoder = Path(folder, "stamps.parquet"), Path(folder, "encoder.safetensors")
        train_encoder(encoder)
        n = options.rows // _N_DIFFERENT * _N_DIFFERENT
        write_table(path, n, options.dtype, options.rows_per_group)
        size = path.stat().st_size / 2**20
        command = [sys.executable, "-m", "benchmarks.speed.parquet"]
        command += ["--files", str(path), str(encoder)]
        environment = {**os.environ, "OMP_NUM_THREADS": str(options.threads)}
        run = subprocess.run(  # noqa: S603 - our own interpreter and script
            command, env=environment, capture_output=True, text=True, check=True
        )
    result = {"file_megabytes": size, **json.loads(run.stdout.splitlines()[-1])}
    lines = [f"| {name.replace('_', ' ')} | {value:,.2f} |" for name, value in result.items()]
    head = [f"| {n:,} stamps of {options.dtype} in Parquet | |", "| --- | --- |"]
    write_results(options.out, result, "\n".join(head + lines))


if __name__ == "__main__":
    main()
