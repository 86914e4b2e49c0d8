"""What a CUDA machine can show: speed, mixed precision, copies, and the same scores as on a CPU.

    make gpu
    python -m benchmarks.speed.gpu --out gpu.json   # the table to send is in gpu.md

Without a CUDA device it says so and ends. ``--device cpu`` tries the script itself.
"""

from __future__ import annotations

import argparse
import platform
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.metrics import balanced_accuracy_score
from torch.nn import functional

from benchmarks._results import write_results
from benchmarks.speed.throughput import make_net, make_stamps
from skastro import LinearProbe, PropertyPretrainedEncoder, load_pretrained, make_survey
from skastro.networks.device import to_device

BACKBONES = {"default, 32 px": ("stamp_resnet18", 32), "resnet18, 64 px": ("resnet18", 64)}
BATCH = 256
N_LABELS = 300


def clock(call: Callable[[], object], device: str) -> float:
    """Return the seconds a call takes, with what it has left on the device."""
    start = time.perf_counter()
    call()
    if device.startswith("cuda"):
        torch.cuda.synchronize()
    return time.perf_counter() - start


def time_skastro(
    backbone: str, stamps: NDArray, targets: NDArray, device: str, precision: str
) -> tuple[float, float]:
    """Return the rates of an epoch and of embedding."""
    encoder = PropertyPretrainedEncoder(
        backbone, targets="catalog", max_epochs=3, batch_size=BATCH, augment=False,
        average_views=False, device=device, precision=precision, random_state=0,
    ).fit(stamps, properties=targets)  # fmt: skip
    encoder.transform(stamps[:BATCH])
    seconds = clock(lambda: encoder.transform(stamps), device)
    return len(stamps) / encoder.history_[-1]["dur"], len(stamps) / seconds


def time_loop(backbone: str, stamps: NDArray, targets: NDArray, device: str) -> float:
    """Return the rate of an epoch of a loop by hand, in bfloat16, with all stamps on the device."""
    net = make_net(backbone, stamps).to(device, memory_format=torch.channels_last).train()
    optimizer = torch.optim.AdamW(net.parameters(), lr=2e-3, fused=True)
    x, y = torch.from_numpy(stamps).to(device), torch.from_numpy(targets).to(device)
    kind = torch.device(device).type

    def train() -> None:
        for rows in torch.randperm(len(x), device=device).split(BATCH):
            optimizer.zero_grad()
            batch = x[rows].contiguous(memory_format=torch.channels_last)
            with torch.autocast(kind, torch.bfloat16):
                output = net(batch)
            functional.huber_loss(output.float(), y[rows]).backward()
            optimizer.step()

    train()
    return len(x) / clock(train, device)


def time_copies(stamps: NDArray, device: str) -> tuple[float, float]:
    """Return the rates at which batches reach the device, from pinned and from other memory."""
    batches = torch.from_numpy(stamps).split(BATCH)
    rates = []
    for copy in (to_device, lambda batch, where: batch.to(where)):
        copy(batches[0], device)
        seconds = clock(lambda copy=copy: [copy(batch, device) for batch in batches], device)
        rates.append(len(stamps) / seconds)
    return rates[0], rates[1]


def compare_scores(device: str, seeds: int) -> list[tuple[float, float]]:
    """Return balanced accuracies of encoders that were trained on the device and on the CPU."""
    survey = make_survey(3000, random_state=0)
    found = []
    for seed in range(seeds):
        rows = np.random.default_rng(seed).permutation(len(survey))
        train, test = rows[:2000], rows[2000:]
        pair = []
        for where in (device, "cpu"):
            encoder = PropertyPretrainedEncoder(device=where, random_state=seed)
            encoder.fit(survey.images[train])
            probe = LinearProbe().fit(
                encoder.transform(survey.images[train[:N_LABELS]]), survey.target[train[:N_LABELS]]
            )
            predicted = probe.predict(encoder.transform(survey.images[test]))
            pair.append(float(balanced_accuracy_score(survey.target[test], predicted)))
        found.append((pair[0], pair[1]))
    return found


def compare_teacher(device: str) -> float:
    """Return the smallest cosine between embeddings of the shipped weights on both devices."""
    stamps = np.random.default_rng(0).normal(size=(64, 3, 64, 64)).astype(np.float32)
    stamps[:, :, 24:40, 24:40] += 10.0
    teachers = [load_pretrained("galaxies").set_params(device=where) for where in (device, "cpu")]
    both = [teacher.transform(stamps) for teacher in teachers]
    a, b = (each / np.linalg.norm(each, axis=1, keepdims=True) for each in both)
    return float((a * b).sum(axis=1).min())


def name_device(device: str) -> str:
    """Return the name of the device, for the table."""
    if device.startswith("cuda"):
        return torch.cuda.get_device_name(device)
    return platform.processor() or platform.machine()


def main() -> None:
    """Measure, print a table and write JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--stamps", type=int, default=16_384)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--out", type=Path, default=None)
    options = parser.parse_args()
    device = options.device
    if device.startswith("cuda") and not torch.cuda.is_available():
        sys.exit("torch finds no CUDA device here, so nothing was measured.")

    lines = ["| what | number |", "| --- | --- |", f"| device | {name_device(device)} |"]
    lines.append(f"| torch | {torch.__version__} |")
    result: dict[str, Any] = {"device": name_device(device), "torch": torch.__version__}
    for case, (backbone, side) in BACKBONES.items():
        stamps, targets = make_stamps(options.stamps, side)
        fit, embed = time_skastro(backbone, stamps, targets, device, "auto")
        exact_fit, exact_embed = time_skastro(backbone, stamps, targets, device, "float32")
        loop = time_loop(backbone, stamps, targets, device)
        pinned, pageable = time_copies(stamps, device)
        numbers = {
            "training, stamps a second": fit,
            "training, mixed precision / float32": fit / exact_fit,
            "training / loop by hand": fit / loop,
            "embedding, stamps a second": embed,
            "embedding, mixed precision / float32": embed / exact_embed,
            "copies from pinned / other memory": pinned / pageable,
        }
        result[case] = numbers
        lines += [f"| {case}: {name} | {number:,.2f} |" for name, number in numbers.items()]
    pairs = np.array(compare_scores(device, options.seeds))
    differences = pairs[:, 0] - pairs[:, 1]
    result |= {"scores": pairs.tolist(), "smallest_cosine": compare_teacher(device)}
    each = ", ".join(f"{difference:+.3f}" for difference in differences)
    what = f"balanced accuracy with {N_LABELS} labels, device minus CPU, {len(pairs)} seeds"
    lines.append(f"| {what} | {differences.mean():+.3f} ({each}) |")
    what = "smallest cosine of embeddings by the shipped weights, device and CPU"
    lines.append(f"| {what} | {result['smallest_cosine']:.5f} |")
    write_results(options.out, result, "\n".join(lines))


if __name__ == "__main__":
    main()
