"""Accuracy against time of several backbones on real stamps.

    python -m benchmarks.experiments.backbones sdss --out backbones.json
    python -m benchmarks.experiments.backbones efigi --backbones stamp_resnet18,resnet18 --epochs 5

All backbones get the same targets, schedule, stamps and label subsets; test rows (30 %) are not
used in any training.
"""

from __future__ import annotations

import time
from typing import Any

import numpy as np

from benchmarks._results import write_results
from benchmarks._stamps import Task
from benchmarks.experiments._arms import load_some, make_parser
from benchmarks.experiments.real_stamps import fit_encoder, probe_scores

CANDIDATES = "stamp_resnet10,stamp_resnet18,resnet10t,resnet18,regnetx_002,convnext_atto"


def score_backbone(
    task: Task, name: str, epochs: int, counts: list[int], repeats: int
) -> dict[str, Any]:
    """Return the size of a backbone, its seconds and its scores."""
    start = time.perf_counter()
    encoder = fit_encoder(task, untrained=False, backbone=name, max_epochs=epochs)
    fitted = time.perf_counter()
    embeddings = encoder.transform(task.images)
    return {
        "backbone": name,
        "parameters": sum(p.numel() for p in encoder.network_.parameters()),
        "fit_seconds": fitted - start,
        "embed_rate": len(task.images) / (time.perf_counter() - fitted),
        "scores": probe_scores(task, embeddings, counts, repeats),
    }


def tabulate(rows: list[dict[str, Any]], counts: list[int]) -> str:
    """Return a Markdown table, a backbone a line."""
    head = "| backbone | parameters, millions | fit, s | embed, stamps/s | "
    lines = [head + " | ".join(map(str, counts)) + " |", "| --- " * (4 + len(counts)) + "|"]
    for row in rows:
        cost = f"{row['parameters'] / 1e6:.1f} | {row['fit_seconds']:.0f} | {row['embed_rate']:.0f}"
        cells = [f"{np.mean(row['scores'][count]):.3f}" for count in counts]
        lines.append(f"| {row['backbone']} | {cost} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main() -> None:
    """Train each candidate, and print and write what there is after each."""
    parser = make_parser(__doc__, splits=False)
    parser.add_argument("task", choices=["sdss", "efigi"], default="sdss", nargs="?")
    parser.add_argument("--backbones", default=CANDIDATES)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--split", type=int, default=0, help="seed of the test rows")
    options = parser.parse_args()

    task = load_some(options.task, options.split, options.stamps)
    rows = []
    for name in options.backbones.split(","):
        rows.append(score_backbone(task, name, options.epochs, options.counts, options.repeats))
        write_results(options.out, rows, tabulate(rows, options.counts))


if __name__ == "__main__":
    main()
