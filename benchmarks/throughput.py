"""Training and embedding against a loop over array slices written by hand, side by side.

    python benchmarks/throughput.py [--stamps 2048] [--rounds 5]

Both use the same network, optimiser, batches, augmentation-free stamps and memory order; the
rounds alternate, and the ratio is taken round by round.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from skastro import PropertyPretrainedEncoder
from skastro.hardware import uses_bfloat16
from skastro.networks import InputScaling, make_network
from skastro.scaling import AsinhScaler

BATCH = 64


def by_hand(stamps: NDArray, targets: NDArray) -> tuple[float, float]:
    """Train one epoch and embed, as short as it can be written; return both seconds."""
    scaler = AsinhScaler().fit(stamps)
    scaling = InputScaling(
        torch.from_numpy(scaler.sky_), torch.from_numpy(scaler.noise_), stretch=True
    )
    net = make_network("stamp_resnet10", stamps.shape[1:], targets.shape[1], scaling=scaling)
    net = net.to(memory_format=torch.channels_last).train()
    optimizer = torch.optim.AdamW(net.parameters(), lr=2e-3, weight_decay=0.05, fused=True)
    x, y = torch.from_numpy(stamps), torch.from_numpy(targets)
    bfloat16 = uses_bfloat16("auto", net, "cpu", trained_on=stamps.shape[1:])

    start = time.perf_counter()
    for rows in torch.randperm(len(x)).split(BATCH):
        optimizer.zero_grad()
        batch = x[rows].contiguous(memory_format=torch.channels_last)
        with torch.autocast("cpu", torch.bfloat16, enabled=bfloat16):
            output = net(batch)
        functional.huber_loss(output.float(), y[rows]).backward()
        optimizer.step()
    trained = time.perf_counter() - start

    net.eval()
    start = time.perf_counter()
    with torch.inference_mode():
        for batch in x.split(BATCH):
            net.embed(batch.contiguous(memory_format=torch.channels_last))
    return trained, time.perf_counter() - start


def by_skastro(stamps: NDArray, targets: NDArray) -> tuple[float, float]:
    """Do the same through the estimator; the epoch's own clock excludes set-up in both."""
    encoder = PropertyPretrainedEncoder(
        "stamp_resnet10", max_epochs=1, augment=False, average_views=False, random_state=0
    ).fit(stamps, properties=targets)
    start = time.perf_counter()
    encoder.transform(stamps)
    return encoder.history_[0]["dur"], time.perf_counter() - start


def rates(run: Callable, stamps: NDArray, targets: NDArray) -> NDArray[np.float64]:
    """Return stamps per second of training and of embedding."""
    return len(stamps) / np.asarray(run(stamps, targets))


def main() -> None:
    """Alternate, print a table and write JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--stamps", type=int, default=2048)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/throughput.json"))
    options = parser.parse_args()
    rng = np.random.default_rng(0)
    stamps = rng.normal(size=(options.stamps, 5, 32, 32)).astype(np.float32)
    targets = rng.normal(size=(options.stamps, 8)).astype(np.float32)
    ours, theirs = [], []
    for number in range(options.rounds + 1):
        order = [by_skastro, by_hand][:: 1 if number % 2 else -1]  # neither is always first
        pair = {run: rates(run, stamps, targets) for run in order}
        if number:  # the first round warms up
            ours.append(pair[by_skastro])
            theirs.append(pair[by_hand])
    ratios = np.asarray(ours) / np.asarray(theirs)
    result = {
        part: {
            "skastro": float(np.median([r[i] for r in ours])),
            "by_hand": float(np.median([r[i] for r in theirs])),
            "ratio_median": float(np.median(ratios[:, i])),
            "ratios": ratios[:, i].round(3).tolist(),
        }
        for i, part in enumerate(["train", "embed"])
    }
    options.out.write_text(json.dumps(result, indent=1))
    print("| | skastro, stamps/s | by hand, stamps/s | ratio, median of rounds |")
    print("| --- | --- | --- | --- |")
    for part, row in result.items():
        print(
            f"| {part} | {row['skastro']:.0f} | {row['by_hand']:.0f} | {row['ratio_median']:.3f} |"
        )


if __name__ == "__main__":
    main()
