"""How many stamps a second of one core `measure_properties` measures.

Run ``python -m benchmarks.speed.photometry --stamps 20000``.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np

from benchmarks._results import write_results
from skastro import measure_properties


def make_stamps(n: int, bands: int, side: int) -> np.ndarray:
    """Gaussian sources of many sizes and fluxes on noise."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:side, :side] - (side - 1) / 2
    width = rng.uniform(1.0, side / 10, size=(n, 1, 1, 1))
    flux = 10 ** rng.uniform(1, 4, size=(n, bands, 1, 1))
    profile = np.exp(-0.5 * (x**2 + y**2) / width**2) / (2 * np.pi * width**2)
    return (flux * profile + rng.normal(size=(n, bands, side, side))).astype(np.float32)


def main() -> None:
    """Measure several times and print the rates."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--stamps", type=int, default=20_000)
    parser.add_argument("--bands", type=int, default=5)
    parser.add_argument("--side", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--out", type=Path, default=None)
    options = parser.parse_args()
    stamps = make_stamps(options.stamps, options.bands, options.side)
    rates = []
    for _ in range(options.rounds):
        start = time.process_time()  # of all threads: a second core would not help
        measure_properties(stamps)
        rates.append(options.stamps / (time.process_time() - start))
    row = f"| {options.bands} bands, {options.side} px | {np.median(rates):,.0f} "
    lines = ["| measure_properties | stamps a second of one core | range |", "| --- | --- | --- |"]
    lines.append(f"{row}| {min(rates):,.0f} to {max(rates):,.0f} |")
    write_results(options.out, {**vars(options), "out": None, "rates": rates}, "\n".join(lines))


if __name__ == "__main__":
    main()
