"""How much of the mean over eight views one pass through the network can give.

    python -m benchmarks.experiments.one_pass sdss --splits 0,1 --out one_pass_sdss.json
    python -m benchmarks.experiments.one_pass efigi --rows "one view;two views;linear map"

All rows have the same splits, label subsets and logistic regression; each split has an encoder of
its own, trained with the defaults on the training rows. Rows of one pass:

- "linear map": the features of one view, mapped linearly to the mean over eight views (ridge
  regression on all views of the training rows).
- "distilled": the network and this map, trained further (`--epochs`) such that the features of a
  turned stamp are the mean over its eight views; batch norms keep their statistics.
- "pulled together": a pretraining whose loss also has the squared difference between the features
  of two random views of a stamp, with as many images in all as the default; `--pull` weighs it.
- "even strides": the default backbone with kernels of 4 x 4 pixels where it has 3 x 3 of stride 2,
  which sample each stamp alike from both sides; the mean of its own eight views is a row as well.
- "turned": the backbone whose features do not depend on quarter turns, and the mean of its views.
"""

from __future__ import annotations

import argparse
import copy
import time
from collections.abc import Callable
from functools import partial
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.linear_model import Ridge
from torch import Tensor, nn

from benchmarks._results import write_results
from benchmarks._stamps import Task
from benchmarks.experiments._arms import load_some, make_parser, rows_of, standardised
from benchmarks.experiments.contrastive import find_targets
from benchmarks.experiments.real_stamps import fit_encoder, probe_scores
from skastro import PropertyPretrainedEncoder
from skastro.networks.augmentation import augment, turned_views
from skastro.networks.backbones import STAMP_BACKBONES, Backbone, StampNetwork, make_network
from skastro.networks.inference import run
from skastro.networks.losses import PropertyLoss
from skastro.networks.training import Recipe, choose_epochs, seeded, train

BATCH, RATE = 64, 2e-3


def make_even(bands: int) -> nn.Module:
    """Build the default backbone with strides that sample a map alike from both of its sides."""
    net = STAMP_BACKBONES["stamp_resnet18"](bands)
    for name, part in list(net.named_modules()):
        if isinstance(part, nn.Conv2d) and part.stride == (2, 2):
            n_in, n_out = part.in_channels, part.out_channels
            even = nn.Conv2d(n_in, n_out, 4, stride=2, padding=1, bias=False)
            nn.init.kaiming_normal_(even.weight, mode="fan_out", nonlinearity="relu")
            shortcut = nn.Sequential(nn.AvgPool2d(2), nn.Conv2d(n_in, n_out, 1, bias=False))
            net.set_submodule(name, even if part.kernel_size == (3, 3) else shortcut)
    return net


# the mean over some of the eight views that `embed_views` returns; the default has four
VIEWS = {
    "eight views": range(8), "four views": range(4), "two views": (0, 7), "one view": (0,),
}  # fmt: skip
OTHERS = ["linear map", "distilled", "pulled together", "even strides", "turned"]
BACKBONES = {"even strides": make_even, "turned": "turned_resnet18"}  # in place of the default
REFERENCE = "eight views"
RIDGE = 1e-3  # of the mean variance of the features


class Distilled(nn.Module):
    """A network and a linear map to the mean over eight views, to be trained further.

    Its batch norms are never in training mode.
    """

    def __init__(
        self, network: StampNetwork, ridge: Ridge, scale: NDArray[np.float32], seed: int
    ) -> None:
        super().__init__()
        self.network = network
        self.map = nn.Linear(*ridge.coef_.shape)
        with torch.no_grad():
            self.map.weight.copy_(torch.from_numpy(ridge.coef_))
            self.map.bias.copy_(torch.from_numpy(ridge.intercept_))
        self.scale = nn.Buffer(torch.from_numpy(scale))
        self.generator = torch.Generator().manual_seed(seed)

    def train(self, mode: bool = True) -> Self:  # noqa: ARG002 - as in torch
        """Stay in evaluation mode."""
        return super().train(False)

    def embed(self, stamps: Tensor) -> Tensor:
        """Map raw pixels to features (n, d)."""
        features = self.network.embed(stamps)
        with torch.autocast(features.device.type, enabled=False):
            return self.map(features.float())

    def forward(self, stamps: Tensor) -> Tensor:
        """Map raw pixels to standardised features (n, d), of a random view in training."""
        if torch.is_grad_enabled():
            stamps = augment(stamps, self.generator, max_shift=0)
        return self.embed(stamps) * self.scale


class TwoViews(nn.Module):
    """A network on two random views of each stamp, and how much their features differ."""

    def __init__(self, network: StampNetwork, seed: int) -> None:
        super().__init__()
        self.network = network
        self.generator = torch.Generator().manual_seed(seed)

    def forward(self, stamps: Tensor) -> Tensor:
        """Map raw pixels to the outputs for both views and the difference: (n, 2 p + 1)."""
        n, views = len(stamps), [augment(stamps, self.generator) for _ in range(2)]
        features = self.network.embed(torch.cat(views)).float()
        outputs = self.network.head(features)
        spread = features.var(0).detach().clamp(min=1e-6)
        difference = ((features[:n] - features[n:]) ** 2 / spread).mean(1, keepdim=True)
        return torch.cat([outputs[:n], outputs[n:], difference], 1)


class PullingLoss(nn.Module):
    """The loss of the properties of both views, and their difference."""

    def __init__(self, pull: float) -> None:
        super().__init__()
        self.property, self.pull = PropertyLoss(), pull

    def forward(self, output: Tensor, target: Tensor, weight: Tensor) -> Tensor:
        """Return a scalar."""
        first, second = output[:, :-1].chunk(2, dim=1)
        losses = [self.property(part, target, weight) for part in (first, second)]
        return sum(losses) / 2 + self.pull * output[:, -1].mean()


def embed_views(network: nn.Module, images: NDArray[Any]) -> NDArray[np.float32]:
    """Return the features of the eight views of each stamp, (n, 8, d)."""

    def embed_all(net: Any, stamps: Tensor) -> Tensor:
        return torch.cat(
            [
                net.embed(view.contiguous()).float()
                for mirrored in (stamps, stamps.flip(3))
                for view in turned_views(mirrored)
            ],
            1,
        )

    features = run(network, images, embed_all, batch_size=BATCH, average_views=False)
    return features.reshape(len(images), 8, -1)


def fit_map(views: NDArray[np.float32], train_rows: NDArray[np.int64]) -> Ridge:
    """Fit a linear map from the features of one view to the mean over all views."""
    known = views[train_rows].reshape(-1, views.shape[2])
    means = np.repeat(views[train_rows].mean(1), 8, axis=0)
    return Ridge(RIDGE * len(known) * known.var(0).mean()).fit(known, means)


def distil(
    encoder: PropertyPretrainedEncoder, task: Task, views: NDArray[Any], epochs: int
) -> Distilled:
    """Train a copy of the network to give the mean over all views for one."""
    mean = views[task.train].mean(1)
    spread = mean.std(0)
    alive = spread > 1e-4 * spread.max()
    scale = np.where(alive, 1 / np.where(alive, spread, 1), 0).astype(np.float32)
    ridge = fit_map(views, task.train)
    model = Distilled(copy.deepcopy(encoder.network_), ridge, scale, encoder.seed_)
    recipe = Recipe(
        max_epochs=epochs, batch_size=BATCH, learning_rate=RATE, weight_decay=0.0, augment=False,
        seed=encoder.seed_,
    )  # fmt: skip
    with seeded(encoder.seed_):
        train(model, task.images[task.train], (mean * scale,), loss=nn.MSELoss(), recipe=recipe)
    return model


def pull_together(encoder: PropertyPretrainedEncoder, task: Task, pull: float) -> StampNetwork:
    """Pretrain a network anew, with the same targets, on two views of each stamp."""
    targets, images = find_targets(task, encoder), task.images[task.train]
    epochs = -(-choose_epochs(len(images), BATCH) // 2)
    with seeded(encoder.seed_):
        scaling = copy.deepcopy(encoder.network_.scaling)
        network = make_network(
            encoder.backbone, images.shape[1:], targets[0].shape[1], scaling=scaling
        )
        recipe = Recipe(
            max_epochs=epochs, batch_size=BATCH // 2, learning_rate=RATE, augment=False,
            seed=encoder.seed_,
        )  # fmt: skip
        model = TwoViews(network, encoder.seed_)
        train(model, images, targets, loss=PullingLoss(pull), recipe=recipe)
    return network


def fit_network(task: Task, split: int, backbone: Backbone) -> nn.Module:
    """Pretrain the network of another backbone."""
    return fit_encoder(task, untrained=False, random_state=split, backbone=backbone).network_


def compute_rows(
    options: argparse.Namespace, split: int, task: Task
) -> tuple[dict[str, NDArray[Any]], dict[str, float]]:
    """Return the features of all stamps in each row, and the seconds of each training."""
    start, seconds = time.perf_counter(), {}
    encoder = fit_encoder(task, untrained=False, random_state=split)
    seconds["pretraining"] = time.perf_counter() - start
    views = embed_views(encoder.network_, task.images)
    rows = {name: views[:, list(chosen)].mean(1) for name, chosen in VIEWS.items()}
    rows["linear map"] = fit_map(views, task.train).predict(views[:, 0])
    makers: dict[str, Callable[[], nn.Module]] = {
        "distilled": lambda: distil(encoder, task, views, options.epochs),
        "pulled together": lambda: pull_together(encoder, task, options.pull),
    }
    for name, backbone in BACKBONES.items():
        makers[name] = partial(fit_network, task, split, backbone)
    for name in (name for name in makers if name in options.rows):
        start = time.perf_counter()
        network = makers[name]()
        seconds[name] = time.perf_counter() - start
        seen = embed_views(network, task.images)
        rows[name] = seen[:, 0]
        if name in BACKBONES:
            rows[f"{name}, eight views"] = seen.mean(1)
        print(f"  {name}, split {split}: {seconds[name]:.0f} s", flush=True)
    wanted = {REFERENCE, *options.rows, *(f"{name}, eight views" for name in options.rows)}
    return {name: rows[name] for name in rows if name in wanted}, seconds


def tabulate(found: list[dict[str, dict[int, list[float]]]], counts: list[int]) -> str:
    """Return a Markdown table: the scores of eight views, and the differences of the others."""
    lines = ["| | " + " | ".join(map(str, counts)) + " |", "| --- " * (len(counts) + 1) + "|"]
    for name in found[0]:
        cells = []
        for count in counts:
            score = np.mean([scores[name][count] for scores in found])
            reference = np.mean([scores[REFERENCE][count] for scores in found])
            difference = score - reference
            cells.append(f"{score:.3f}" if name == REFERENCE else f"{difference:+.3f}")
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main() -> None:
    """Run all rows on each split, print a table and write it."""
    parser = make_parser(__doc__)
    parser.set_defaults(counts="100,300,1000", splits="0,1,2,3,4")
    parser.add_argument("task", choices=["sdss", "efigi"], default="sdss", nargs="?")
    every = [*VIEWS, *OTHERS]
    text = "besides the mean of eight views"
    parser.add_argument("--rows", type=rows_of(every), default=";".join(every), help=text)
    parser.add_argument("--epochs", type=int, default=12, help="of the distilling")
    text = "weight of the difference between two views"
    parser.add_argument("--pull", type=float, default=0.3, help=text)
    options = parser.parse_args()

    found, seconds = [], []
    for split in options.splits:
        task = load_some(options.task, split, options.stamps)
        rows, took = compute_rows(options, split, task)
        found.append(
            {
                name: probe_scores(
                    task, standardised(features, task.train), options.counts, options.repeats
                )
                for name, features in rows.items()
            }
        )
        seconds.append(took)
        result = {"settings": vars(options) | {"out": None}, "seconds": seconds, "splits": found}
        write_results(options.out, result, tabulate(found, options.counts))


if __name__ == "__main__":
    main()
