"""Start-up time: `import skastro` and `skastro --help`, each in a separate process.

python -m benchmarks.speed.startup [--rounds 10]
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import time
from pathlib import Path

from benchmarks._results import write_results

COMMANDS = {
    "python -c pass": [sys.executable, "-c", "pass"],
    "import skastro": [sys.executable, "-c", "import skastro"],
    "import sklearn": [sys.executable, "-c", "import sklearn"],
    "import torch": [sys.executable, "-c", "import torch"],
    "skastro --help": [str(Path(sys.executable).with_name("skastro")), "--help"],
}


def seconds(command: list[str]) -> float:
    """Return how long a command takes."""
    start = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)  # noqa: S603 - our own
    return time.perf_counter() - start


def main() -> None:
    """Take turns, print a table and write JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--out", type=Path, default=None)
    options = parser.parse_args()
    found: dict[str, list[float]] = {name: [] for name in COMMANDS}
    for _ in range(options.rounds + 1):
        for name, command in COMMANDS.items():
            found[name].append(seconds(command))
    lines = ["| command | seconds, median | range |", "| --- | --- | --- |"]
    for name, durations in found.items():
        warm = durations[1:]  # the first reads the files from the disk
        row = f"| {name} | {statistics.median(warm):.2f} | {min(warm):.2f} to {max(warm):.2f} |"
        lines.append(row)
    write_results(options.out, found, "\n".join(lines))


if __name__ == "__main__":
    main()
