"""Training and embedding against plain skorch, and against the best loop we can write.

    python -m benchmarks.speed.throughput [--stamps 1536] [--rounds 5] [--arms skastro,skorch,loop]

`skorch`, `lightning` and `lightly` are written as a user would write them, on timm's network and
torch's asinh; `skastro` and `loop` share what skastro does to networks
(skastro/networks/convolutions.py).

Each arm runs in a separate process, round by round in turn, on the same stamps (five bands,
random pixels), network and optimiser, with batches of 64 and without augmentation; the ratio is
taken round by round. `defaults` is skastro as it comes: it augments the stamps that it trains on,
and averages embeddings over four views. `memmap` is skastro on stamps in a file. `lightning` is a
LightningModule and a DataLoader, `lightly` SimCLR on RGB images, as in its tutorial: a different
pretext task, with two views of each stamp; both need `pip install 'skastro[bench]'`.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import logging
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.nn import functional
from torch.utils.data import DataLoader, Dataset, TensorDataset

from benchmarks._results import write_results
from skastro import PropertyPretrainedEncoder
from skastro.networks.backbones import InputScaling, StampNetwork, make_backbone, make_network
from skastro.networks.convolutions import fold_network
from skastro.networks.device import keep_memory, uses_bfloat16
from skastro.stamps.scaling import AsinhScaler

BATCH = 64
PROPERTIES = 8
CASES = {"resnet18, 32 px": ("resnet18", 32), "resnet18, 64 px": ("resnet18", 64)}
CASES["resnet10t, 32 px"] = ("resnet10t", 32)
CASES["stamp_resnet18, 32 px"] = ("stamp_resnet18", 32)
NEEDS = {"lightning": "pytorch_lightning", "lightly": "lightly"}

Seconds = tuple[float, float]  # of an epoch, and of embedding; NaN for none


def make_stamps(n: int, side: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return random stamps and properties."""
    rng = np.random.default_rng(0)
    stamps = rng.normal(size=(n, 5, side, side)).astype(np.float32)
    return stamps, rng.normal(size=(n, PROPERTIES)).astype(np.float32)


class Scaling(nn.Module):
    """The scaling of all arms, as a user writes it."""

    def __init__(self, sky: torch.Tensor, noise: torch.Tensor) -> None:
        super().__init__()
        self.register_buffer("sky", sky.float().reshape(-1, 1, 1))
        self.register_buffer("noise", noise.float().reshape(-1, 1, 1))

    def forward(self, stamps: torch.Tensor) -> torch.Tensor:
        """Map raw pixels to network input."""
        return torch.asinh((stamps - self.sky) / self.noise)


def write_net(backbone: str, stamps: NDArray[np.float32]) -> nn.Module:
    """Return the network of all arms, as a user writes it."""
    scaler = AsinhScaler().fit(stamps)
    net, width = make_backbone(backbone, stamps.shape[1:])
    scaling = Scaling(torch.from_numpy(scaler.sky_), torch.from_numpy(scaler.noise_))
    return nn.Sequential(scaling, net, nn.Linear(width, PROPERTIES))


def make_net(backbone: str, stamps: NDArray[np.float32]) -> StampNetwork:
    """Return the same network with what skastro does to it."""
    scaler = AsinhScaler().fit(stamps)
    sky, noise = torch.from_numpy(scaler.sky_), torch.from_numpy(scaler.noise_)
    scaling = InputScaling(sky, noise, stretch=True)
    return make_network(backbone, stamps.shape[1:], PROPERTIES, scaling=scaling)


def clock(call: Callable[[], object]) -> float:
    """Return the seconds a call takes."""
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def by_skastro(backbone: str, stamps: NDArray, targets: NDArray) -> Seconds:
    """Fit the estimator; the epoch's own clock leaves the set-up out, as in all arms."""
    return _time_encoder(backbone, stamps, targets, augment=False, average_views=False)


def by_defaults(backbone: str, stamps: NDArray, targets: NDArray) -> Seconds:
    """Do the same with the default augmentation and views."""
    return _time_encoder(backbone, stamps, targets)


def _time_encoder(backbone: str, stamps: NDArray, targets: NDArray, **settings: bool) -> Seconds:
    encoder = PropertyPretrainedEncoder(
        backbone, targets="catalog", max_epochs=2, random_state=0, **settings
    ).fit(stamps, properties=targets)
    encoder.transform(stamps[:BATCH])
    return encoder.history_[-1]["dur"], clock(lambda: encoder.transform(stamps))


def by_memmap(backbone: str, stamps: NDArray, targets: NDArray) -> Seconds:
    """Do the same from a file."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "stamps.npy")
        np.save(path, stamps)
        return by_skastro(backbone, np.load(path, mmap_mode="r"), targets)


def by_skorch(backbone: str, stamps: NDArray, targets: NDArray) -> Seconds:
    """Fit skorch's net as its documentation shows it."""
    from skorch import NeuralNetRegressor  # noqa: PLC0415 - other arms do without

    net = NeuralNetRegressor(
        write_net(backbone, stamps),
        criterion=nn.HuberLoss,
        optimizer=torch.optim.AdamW,
        lr=2e-3,
        batch_size=BATCH,
        max_epochs=2,
        iterator_train__shuffle=True,
        train_split=None,
        verbose=0,
    ).fit(stamps, targets)
    net.predict(stamps[:BATCH])
    return net.history[-1, "dur"], clock(lambda: net.predict(stamps))


def by_loop(backbone: str, stamps: NDArray, targets: NDArray) -> Seconds:
    """Write the loop by hand, with all that is known to help."""
    keep_memory()
    net = make_net(backbone, stamps).to(memory_format=torch.channels_last).train()
    optimizer = torch.optim.AdamW(net.parameters(), lr=2e-3, weight_decay=0.05, fused=True)
    x, y = torch.from_numpy(stamps), torch.from_numpy(targets)
    shape = stamps.shape[1:]
    bfloat16 = uses_bfloat16("auto", net, "cpu", image_shape=shape, training=True)

    def train() -> None:
        for rows in torch.randperm(len(x)).split(BATCH):
            optimizer.zero_grad()
            batch = x[rows].contiguous(memory_format=torch.channels_last)
            with torch.autocast("cpu", torch.bfloat16, enabled=bfloat16):
                output = net(batch)
            functional.huber_loss(output.float(), y[rows]).backward()
            optimizer.step()

    train()
    trained = clock(train)
    bfloat16 = uses_bfloat16("auto", net, "cpu", image_shape=shape, training=False)
    with torch.no_grad():
        net = fold_network(net.eval(), shape).to(memory_format=torch.channels_last)

    def embed(stamps: torch.Tensor) -> None:
        with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=bfloat16):
            for batch in stamps.split(BATCH):
                net.embed(batch.contiguous(memory_format=torch.channels_last))

    embed(x[:BATCH])
    return trained, clock(lambda: embed(x))


def by_lightning(backbone: str, stamps: NDArray, targets: NDArray) -> Seconds:
    """Write a LightningModule; the second epoch and a loop of predictions are timed."""
    import pytorch_lightning as lightning  # noqa: PLC0415 - optional

    class Regression(lightning.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.net = write_net(backbone, stamps)
            self.starts: list[float] = []

        def training_step(self, batch: list[torch.Tensor], _: int) -> torch.Tensor:
            images, values = batch
            return functional.huber_loss(self.net(images), values)

        def predict_step(self, batch: list[torch.Tensor], _: int) -> torch.Tensor:
            return self.net(batch[0])

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return torch.optim.AdamW(self.parameters(), lr=2e-3)

        def on_train_epoch_start(self) -> None:
            self.starts.append(time.perf_counter())

    logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)
    data = TensorDataset(torch.from_numpy(stamps), torch.from_numpy(targets))
    options = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    quiet = {"enable_model_summary": False, "accelerator": "cpu"}
    trainer = lightning.Trainer(max_epochs=2, **options, **quiet)
    model = Regression()
    trainer.fit(model, DataLoader(data, BATCH, shuffle=True))
    trained = time.perf_counter() - model.starts[-1]
    loader = DataLoader(data, BATCH)
    return trained, clock(lambda: trainer.predict(model, loader))


def by_lightly(backbone: str, stamps: NDArray, targets: NDArray) -> Seconds:  # noqa: ARG001
    """Write SimCLR as in lightly's tutorial: views of RGB images by torchvision."""
    from lightly.loss import NTXentLoss  # noqa: PLC0415 - optional
    from lightly.models.modules.heads import SimCLRProjectionHead  # noqa: PLC0415
    from lightly.transforms import SimCLRTransform  # noqa: PLC0415
    from PIL import Image  # noqa: PLC0415

    side = stamps.shape[-1]
    pixels = np.clip(stamps[:, :3] * 40 + 128, 0, 255).astype(np.uint8).transpose(0, 2, 3, 1)

    class Views(Dataset):
        transform = SimCLRTransform(input_size=side)

        def __len__(self) -> int:
            return len(pixels)

        def __getitem__(self, row: int) -> list[torch.Tensor]:
            return self.transform(Image.fromarray(pixels[row]))

    net, width = make_backbone(backbone, (3, side, side))
    model = nn.Sequential(net, SimCLRProjectionHead(width, 512, 128))
    criterion = NTXentLoss(temperature=0.5)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.06)

    def train() -> None:
        for first, second in DataLoader(Views(), BATCH, shuffle=True, drop_last=True):
            loss = criterion(model(first), model(second))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()

    return clock(train), float("nan")


ARMS = {
    "skastro": by_skastro,
    "defaults": by_defaults,
    "memmap": by_memmap,
    "skorch": by_skorch,
    "loop": by_loop,
    "lightning": by_lightning,
    "lightly": by_lightly,
}


def run_here(arm: str, case: str, n: int) -> None:
    """Run one arm and print the stamps per second of training and of embedding."""
    backbone, side = CASES[case]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        seconds = ARMS[arm](backbone, *make_stamps(n, side))
    print(json.dumps([n / duration for duration in seconds]))


def run_apart(arm: str, case: str, n: int) -> list[float]:
    """Run one arm in a process of its own."""
    command = [
        sys.executable,
        "-m",
        "benchmarks.speed.throughput",
        "--run",
        f"{arm}|{case}",
        "--stamps",
        str(n),
    ]
    result = subprocess.run(command, capture_output=True, text=True, check=True)  # noqa: S603
    return json.loads(result.stdout.splitlines()[-1])


def measure(case: str, arms: list[str], options: argparse.Namespace) -> dict[str, object]:
    """Return rates (round, part) of each arm, and skastro's ratios to the others."""
    rates: dict[str, list[list[float]]] = {arm: [] for arm in arms}
    for number in range(options.rounds):
        for arm in arms[:: 1 if number % 2 else -1]:  # none is always first
            rates[arm].append(run_apart(arm, case, options.stamps))
    ours = np.asarray(rates["skastro"])
    return {
        arm: {
            part: {
                "rate": float(np.median(found[:, i])),
                "skastro_is_faster_by": float(np.median(ours[:, i] / found[:, i])),
                "rounds": (ours[:, i] / found[:, i]).round(3).tolist(),
            }
            for i, part in enumerate(["train", "embed"])
        }
        for arm, found in ((arm, np.asarray(rates[arm])) for arm in arms)
    }


def as_markdown(results: dict[str, dict[str, dict]]) -> str:
    """Return a table of rates and of skastro's ratios to them."""
    lines = [
        "| network | | train, stamps/s | skastro / it | embed, stamps/s | skastro / it |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for case, arms in results.items():
        for arm, parts in arms.items():
            cells = []
            for part in parts.values():
                if np.isnan(part["rate"]):
                    cells += ["", ""]
                else:
                    cells += [f"{part['rate']:.0f}", f"{part['skastro_is_faster_by']:.2f}"]
            lines.append(f"| {case} | {arm} | {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    """Alternate, print a table and write JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--stamps", type=int, default=1536)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--arms", default=",".join(ARMS))
    parser.add_argument("--cases", default="|".join(CASES), help="separated by |")
    parser.add_argument("--out", type=Path, default=None)
    parser.add_argument("--run", default=None, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.run:
        run_here(*options.run.split("|"), options.stamps)
        return
    arms = [
        arm
        for arm in options.arms.split(",")
        if arm not in NEEDS or importlib.util.find_spec(NEEDS[arm])
    ]
    results = {}
    for case in options.cases.split("|"):
        results[case] = measure(case, arms, options)
        print(as_markdown({case: results[case]}), file=sys.stderr, flush=True)
    result = {"threads": torch.get_num_threads(), "stamps": options.stamps, **results}
    write_results(options.out, result, as_markdown(results))


if __name__ == "__main__":
    main()
