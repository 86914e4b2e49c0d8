"""Time of the search for similar objects among many embeddings, and how many it finds.

    python -m benchmarks.speed.neighbors [--rows 1000000] [--columns 256] [--queries 100]

The simulated mixture of benchmarks/speed/clustering.py. numba compiles before, on few rows. The
processor time says what other work on the machine has hidden.
"""

from __future__ import annotations

import argparse
import os
import time
from pathlib import Path

import numpy as np

from benchmarks._results import write_results
from benchmarks.speed.clustering import simulate
from skastro import SimilarObjects

K = 10
CHUNK_SIZE = 100_000


def main() -> None:
    """Build an index, ask it, and compare with the exact search; write JSON, print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--columns", type=int, default=256)
    parser.add_argument("--queries", type=int, default=100)
    parser.add_argument("--out", type=Path, default=None)
    options = parser.parse_args()

    warm, _ = simulate(3000, options.columns)
    SimilarObjects(warm, exact=False).find([0, 1])
    E = np.empty((options.rows, options.columns), np.float32)
    for start in range(0, options.rows, CHUNK_SIZE):
        stop = min(start + CHUNK_SIZE, options.rows)
        E[start:stop] = simulate(CHUNK_SIZE, options.columns, seed=start)[0][: stop - start]
    rows = np.random.default_rng(0).choice(options.rows, options.queries, replace=False)

    seconds, cpu = {}, {}
    found = {}
    for name, exact in (("index", False), ("exact", True)):
        begin = time.perf_counter(), time.process_time()
        objects = SimilarObjects(E, exact=exact)
        middle = time.perf_counter(), time.process_time()
        found[name] = objects.find(rows, K)["row"].to_numpy().reshape(-1, K)
        end = time.perf_counter(), time.process_time()
        for taken, i in ((seconds, 0), (cpu, 1)):
            taken[f"{name}: build"] = round(middle[i] - begin[i], 2)
            taken[f"{name}: {options.queries} queries"] = round(end[i] - middle[i], 2)
    shares = [len(set(a) & set(b)) / K for a, b in zip(*found.values(), strict=True)]

    result = {
        "rows": options.rows,
        "columns": options.columns,
        "cores": len(os.sched_getaffinity(0)),
        "seconds": seconds,
        "cpu_seconds": cpu,
        "found": round(float(np.mean(shares)), 4),
    }
    lines = [
        f"| step, {options.rows:,} rows of {options.columns} | seconds | processor seconds |",
        "| --- | --- | --- |",
        *(f"| {step} | {taken:.2f} | {cpu[step]:.2f} |" for step, taken in seconds.items()),
        "",
        f"The index finds {100 * result['found']:.1f} % of the {K} nearest of each query.",
    ]
    write_results(options.out, result, "\n".join(lines))


if __name__ == "__main__":
    main()
