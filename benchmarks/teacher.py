"""Train a network of `load_pretrained` on simulated stamps, and write its weights.

    python benchmarks/teacher.py galaxies --stamps 3e6 --state galaxies.pt
    python benchmarks/teacher.py galaxies --stamps 1e4 --max-seconds 600 --out try.safetensors

A killed training goes on from its state. ``--average`` takes copies of the state that were made on
the way, and writes the mean of their weights and the last. The card of the weights is printed as
Markdown; it belongs into benchmarks/results/weights.md, and its SHA-256 into
skastro/networks/weights.py.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from skastro.estimators.pretrained import export_teacher
from skastro.estimators.teaching import LESSONS, train_teacher


def main() -> None:
    """Train, export, and print the card."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("name", choices=LESSONS)
    parser.add_argument("--stamps", type=float, default=3e6, help="number of stamps to see")
    parser.add_argument("--state", type=Path, help="file to go on from, NAME.pt if not given")
    parser.add_argument("--out", type=Path, help="file to write, NAME.safetensors if not given")
    parser.add_argument(
        "--average",
        type=Path,
        nargs="+",
        default=(),
        help="copies of the state, to average too",
    )
    parser.add_argument("--max-seconds", type=float, default=float("inf"))
    parser.add_argument("--backbone", default="stamp_resnet18")
    parser.add_argument("--size", type=int, default=48, help="pixels of the network's planes")
    parser.add_argument("--repeats", type=int, default=3, help="times that each stamp is seen")
    parser.add_argument("--workers", type=int, help="processes that draw stamps; 1 on a CPU")
    parser.add_argument("--device", default="auto")
    options = parser.parse_args()
    state = options.state or Path(f"{options.name}.pt")
    train_teacher(
        options.name, state, n_stamps=int(options.stamps), backbone=options.backbone,
        size=options.size, repeats=options.repeats, n_workers=options.workers,
        device=options.device, max_seconds=options.max_seconds,
    )  # fmt: skip
    out = options.out or Path(f"{options.name}.safetensors")
    print(export_teacher(options.name, state, out, earlier=options.average), flush=True)


if __name__ == "__main__":
    main()
