"""The authors' recipe (arXiv:2004.11336) and the defaults of skastro: accuracy and time.

    python -m benchmarks.experiments.authors_recipe             # two epochs, extrapolated
    python -m benchmarks.experiments.authors_recipe --epochs 25,50,100 --out authors_recipe.json

VGG16 and global average pooling, a dense layer of 1024 (LeakyReLU), dropout of 0.5, outputs
between 0 and 1; magnitudes / 35, mean absolute error, Adam at 1e-4, batches of 32, 100 epochs,
the best by validation loss, as in the public repository label-the-sky (trainer.py). The SDSS
stamps are 32 pixels wide, as theirs are; the five bands enter as calibrated fluxes (nanomaggies),
unnormalised, as theirs do (--input asinh gives them our scaling instead). A tenth of the training
rows is their validation set. Rows that lack a magnitude are lost to the pretraining. Both
representations are frozen and get the same probe on the same label subsets.
"""

from __future__ import annotations

import argparse
import copy
import platform
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from benchmarks._results import write_results
from benchmarks._stamps import Task
from benchmarks.experiments._arms import load_some, make_parser, standardised
from benchmarks.experiments.real_stamps import fit_encoder, parse_counts, probe_scores, summarise
from skastro import AsinhScaler
from skastro.networks.backbones import InputScaling, make_backbone
from skastro.networks.device import keep_memory
from skastro.networks.inference import run
from skastro.networks.training import seeded
from skastro.utils.files import replacing

EPOCHS = 100
BATCH_SIZE = 32
LEARNING_RATE = 1e-4
KERAS_EPSILON = 1e-7  # of Adam
KERAS_LEAK = 0.3  # of LeakyReLU
MAGNITUDE_SCALE = 35.0
VALIDATION_SHARE = 0.1


class AuthorsNetwork(nn.Module):
    """VGG16 -> mean over pixels -> 1024 features -> magnitudes / 35."""

    def __init__(self, scaling: nn.Module, shape: tuple[int, int, int], n_outputs: int) -> None:
        super().__init__()
        self.scaling = scaling
        self.backbone, width = make_backbone("vgg16", shape)  # pools its last feature map
        self.dense = nn.Linear(width, 1024)
        self.head = nn.Linear(1024, n_outputs)
        for module in self.modules():  # as Keras initialises them
            if isinstance(module, nn.Conv2d | nn.Linear):
                nn.init.xavier_uniform_(module.weight)
                nn.init.zeros_(module.bias)

    def embed(self, stamps: Tensor) -> Tensor:
        """Map (n, bands, height, width) to (n, 1024)."""
        features = self.dense(self.backbone(self.scaling(stamps)))
        return nn.functional.leaky_relu(features, KERAS_LEAK)

    def forward(self, stamps: Tensor) -> Tensor:
        """Map (n, bands, height, width) to (n, n_outputs), each between 0 and 1."""
        features = nn.functional.dropout(self.embed(stamps), 0.5, training=self.training)
        return nn.functional.hardtanh(self.head(features), 0.0, 1.0)


class Training:
    """A network on its way, and the best epoch so far.

    Attributes
    ----------
    network : AuthorsNetwork
        As the last epoch left it.
    seconds, valid_mae : list of float
        Of each epoch, the validation included; mean absolute error in mag.
    best_mae_of_bands : list of float
        In mag, of the epoch of the least error.
    """

    def __init__(self, network: AuthorsNetwork, rng: np.random.Generator) -> None:
        self.network, self.rng = network, rng
        self.adam = torch.optim.Adam(network.parameters(), lr=LEARNING_RATE, eps=KERAS_EPSILON)
        self.seconds: list[float] = []
        self.valid_mae: list[float] = []
        self.best_mae_of_bands: list[float] = []
        self._best_weights: dict[str, Tensor] = {}

    def advance(
        self, images: NDArray, targets: NDArray, rows: NDArray[np.int64], valid: NDArray[np.int64]
    ) -> None:
        """Train for an epoch, and keep its weights if it is the best."""
        start = time.perf_counter()
        train_epoch(self.network, self.adam, images, targets, self.rng.permutation(rows))
        of_bands = validate(self.network, images[valid], targets[valid])
        error = float(of_bands.mean())
        if error < min(self.valid_mae, default=np.inf):
            self.best_mae_of_bands = of_bands.tolist()
            self._best_weights = copy.deepcopy(self.network.state_dict())
        self.seconds.append(time.perf_counter() - start)
        self.valid_mae.append(error)

    def best_network(self) -> AuthorsNetwork:
        """Return the network of the best epoch."""
        best = copy.deepcopy(self.network).eval()
        best.load_state_dict(self._best_weights)
        return best

    def save(self, path: Path) -> None:
        """Write all that another process needs to go on as if nothing had happened."""
        content = {
            "network": self.network.state_dict(),
            "adam": self.adam.state_dict(),
            "rng": self.rng.bit_generator.state,
            "torch": torch.get_rng_state(),
            "seconds": self.seconds,
            "valid_mae": self.valid_mae,
            "best": (self.best_mae_of_bands, self._best_weights),
        }
        with replacing(path) as temporary:
            torch.save(content, temporary)

    def resume(self, path: Path) -> None:
        """Take up the weights, random numbers and findings of a file."""
        content = torch.load(path, weights_only=True)
        self.network.load_state_dict(content["network"])
        self.adam.load_state_dict(content["adam"])
        self.rng.bit_generator.state = content["rng"]
        torch.set_rng_state(content["torch"])
        self.seconds, self.valid_mae = content["seconds"], content["valid_mae"]
        self.best_mae_of_bands, self._best_weights = content["best"]
        print(f"  {path} holds {len(self.seconds)} epochs", flush=True)


def make_scaling(task: Task, kind: str) -> InputScaling:
    """Let fluxes pass as they are (NaN as 0), or scale them as skastro does."""
    bands = task.images.shape[1]
    if kind == "flux":
        return InputScaling(torch.zeros(bands), torch.ones(bands), stretch=False)
    scaler = AsinhScaler().fit(task.images[task.train])
    return InputScaling(
        torch.from_numpy(scaler.sky_), torch.from_numpy(scaler.noise_), stretch=True
    )


def train_authors(
    task: Task, kind: str, milestones: list[int], seed: int, state: Path | None
) -> Iterator[Training]:
    """Train as the authors do, and yield the training at milestones."""
    targets = task.properties.to_numpy(np.float32) / MAGNITUDE_SCALE
    rng = np.random.default_rng(seed)
    rows = rng.permutation(complete_rows(task))
    valid, rows = np.split(rows, [round(VALIDATION_SHARE * len(rows))])
    keep_memory()
    torch.manual_seed(seed)
    network = AuthorsNetwork(make_scaling(task, kind), task.images.shape[1:], targets.shape[1])
    training = Training(network, rng)
    if state is not None and state.exists():
        training.resume(state)
        if len(training.seconds) > milestones[-1]:
            sys.exit(f"{state} holds more epochs than --epochs asks for: ask for as many.")
    while True:
        epoch = len(training.seconds)
        if epoch in milestones:
            yield training
        if epoch >= milestones[-1]:
            return
        training.advance(task.images, targets, rows, valid)
        error, seconds = training.valid_mae[-1], training.seconds[-1]
        print(f"  epoch {epoch + 1}: validation MAE {error:.3f} mag ({seconds:.0f} s)", flush=True)
        if state is not None:
            training.save(state)


def complete_rows(task: Task) -> NDArray[np.int64]:
    """Return the training rows that lack no magnitude; the others are lost to this recipe."""
    known = np.isfinite(task.properties.to_numpy()).all(axis=1)
    return task.train[known[task.train]]


def train_epoch(
    network: AuthorsNetwork,
    adam: torch.optim.Optimizer,
    images: NDArray,
    targets: NDArray,
    rows: NDArray[np.int64],
) -> None:
    """Go through the rows once, in batches of 32."""
    network.train()
    for start in range(0, len(rows), BATCH_SIZE):
        chosen = rows[start : start + BATCH_SIZE]
        stamps = torch.from_numpy(images[chosen].astype(np.float32))
        loss = nn.functional.l1_loss(network(stamps), torch.from_numpy(targets[chosen]))
        adam.zero_grad()
        loss.backward()
        adam.step()


def validate(network: AuthorsNetwork, images: NDArray, targets: NDArray) -> NDArray[np.float64]:
    """Return the mean absolute error of each band, in mag."""
    predicted = run(
        network.eval(), images, AuthorsNetwork.forward, batch_size=64, average_views=False
    )
    return MAGNITUDE_SCALE * np.abs(predicted - targets).mean(axis=0, dtype=np.float64)


def score_authors(
    task: Task, options: argparse.Namespace, split: int
) -> tuple[dict[str, dict], dict[str, Any]]:
    """Return the scores of the authors' features, and what they cost."""
    milestones = sorted(options.epochs) or [options.time_epochs]
    state = options.state and options.state.with_name(f"{options.state.name}.{split}")
    rows: dict[str, dict] = {}
    with seeded(split):
        for training in train_authors(task, options.input, milestones, split, state):
            if options.epochs:  # a network of two epochs says nothing about the recipe
                rows |= probe_authors(task, training, options)
                print(summarise([rows], options.counts), flush=True)
    pace = float(np.mean(training.seconds))
    return rows, {
        "epochs_run": milestones[-1],
        "seconds_per_epoch": pace,
        "seconds": pace * EPOCHS,
        "extrapolated": milestones[-1] < EPOCHS,
        "rows_lost": len(task.train) - len(complete_rows(task)),
        "valid_mae": training.valid_mae,
        "best_valid_mae_of_bands": training.best_mae_of_bands,
    }


def probe_authors(
    task: Task, training: Training, options: argparse.Namespace
) -> dict[str, dict[int, list[float]]]:
    """Return the scores of a probe on frozen features, of one view and of four."""
    network, rows = training.best_network(), {}
    for name, views in (("", False), (", mean of 4 views", True)):
        features = run(
            network,
            task.images,
            AuthorsNetwork.embed,
            batch_size=64,
            average_views=views,
        )
        features = standardised(features, task.train)
        scores = probe_scores(task, features, options.counts, options.repeats)
        rows[f"authors' recipe, {len(training.seconds)} epochs{name}"] = scores
    return rows


def score_ours(
    task: Task, options: argparse.Namespace
) -> tuple[dict[str, dict], dict[str, dict[str, float]]]:
    """Return the scores of skastro's defaults, on the same and on more targets, and their cost."""
    rows, cost = {}, {}
    params = {} if options.our_epochs is None else {"max_epochs": options.our_epochs}
    for targets, name in (
        ("catalog", "skastro, the same magnitudes"),
        ("catalog+measured", "skastro, catalogue + measured"),
    ):
        start = time.perf_counter()
        encoder = fit_encoder(task, untrained=False, targets=targets, **params)
        fitted = time.perf_counter()
        embeddings = encoder.transform(task.images)
        cost[name] = {
            "seconds": fitted - start,
            "embedding_seconds": time.perf_counter() - fitted,
            "epochs": len(encoder.history_),
        }
        rows[name] = probe_scores(task, embeddings, options.counts, options.repeats)
    return rows, cost


def describe_cost(theirs: list[dict], ours: list[dict]) -> str:
    """Return a Markdown table of the seconds of pretraining."""
    how = "extrapolated" if theirs[0]["extrapolated"] else "measured"
    total = np.mean([cost["seconds"] for cost in theirs])
    run_here = f"from {theirs[0]['epochs_run']} epochs" if how == "extrapolated" else "all run"
    lines = [
        "| pretraining | seconds | authors' / this |",
        "| --- | --- | --- |",
        f"| authors' recipe ({how}, {run_here}) | {total:.0f} | 1 |",
    ]
    for name in ours[0]:
        seconds = np.mean([cost[name]["seconds"] for cost in ours])
        lines.append(f"| {name} (measured) | {seconds:.0f} | {total / seconds:.1f} |")
    return "\n".join(lines)


def main() -> None:
    """Run both on the same splits, print tables and write them."""
    parser = make_parser(__doc__)
    text = "train to the last of these, and score what there is after each"
    parser.add_argument("--epochs", type=parse_counts, default="", help=text)
    text = "keep the training in this file (and the split's number), to go on if it is cut off"
    parser.add_argument("--state", type=Path, default=None, help=text)
    parser.add_argument("--time-epochs", type=int, default=2, help="without --epochs: time so many")
    parser.add_argument("--our-epochs", type=int, default=None, help="of skastro, for a trial")
    parser.add_argument("--input", choices=["flux", "asinh"], default="flux")
    options = parser.parse_args()

    found, theirs, ours = [], [], []
    for split in options.splits:
        task = load_some("sdss", split, options.stamps)
        rows, cost = score_authors(task, options, split)
        more, our_cost = score_ours(task, options)
        found.append(rows | more)
        theirs.append(cost)
        ours.append(our_cost)
        markdown = f"{summarise(found, options.counts)}\n\n{describe_cost(theirs, ours)}"
        result = {
            "task": "sdss class",
            "input": options.input,
            "threads": torch.get_num_threads(),
            "machine": platform.processor() or platform.machine(),
            "authors": theirs,
            "skastro": ours,
            "splits": found,
        }
        write_results(options.out, result, markdown)


if __name__ == "__main__":
    main()
