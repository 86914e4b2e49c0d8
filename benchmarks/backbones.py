"""Accuracy against time of several backbones on real five-band stamps of 32 pixels.

    python benchmarks/backbones.py --epochs 10 --out benchmarks/backbones.json

The same pretext, schedule, stamps and label subsets for all; test rows (30 %) are seen by nothing.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import numpy as np
from _stamps import load_task
from real_stamps import fit_encoder, parse_counts, probe_scores

CANDIDATES = "stamp_resnet10,stamp_resnet18,resnet10t,resnet18,regnetx_002,convnext_atto"


def main() -> None:
    """Train each candidate, print a table and write JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--backbones", default=CANDIDATES)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--counts", type=parse_counts, default="30,100,300,1000")
    parser.add_argument("--repeats", type=int, default=10)
    parser.add_argument("--split", type=int, default=0, help="seed of the test rows")
    parser.add_argument("--out", type=Path, default=None)
    options = parser.parse_args()

    task = load_task("sdss", options.split)
    rows = []
    print("| backbone | parameters, millions | fit, s | embed, stamps/s | ", end="")
    print(" | ".join(map(str, options.counts)) + " |")
    print("| --- " * (4 + len(options.counts)) + "|")
    for name in options.backbones.split(","):
        start = time.perf_counter()
        encoder = fit_encoder(task, untrained=False, backbone=name, max_epochs=options.epochs)
        fitted = time.perf_counter()
        embeddings = encoder.transform(task.images)
        row = {
            "backbone": name,
            "parameters": sum(p.numel() for p in encoder.network_.parameters()),
            "fit_seconds": fitted - start,
            "embed_rate": len(task.images) / (time.perf_counter() - fitted),
            "scores": probe_scores(task, embeddings, options.counts, options.repeats),
        }
        rows.append(row)
        cells = [f"{np.mean(row['scores'][count]):.3f}" for count in options.counts]
        print(
            f"| {name} | {row['parameters'] / 1e6:.1f} | {row['fit_seconds']:.0f} | "
            f"{row['embed_rate']:.0f} | " + " | ".join(cells) + " |",
            flush=True,
        )
        if options.out:
            options.out.write_text(json.dumps(rows, indent=1))


if __name__ == "__main__":
    main()
