"""Contrastive pretraining (SimCLR, VICReg), alone and together with properties, with `lightly`.

    python -m benchmarks.experiments.contrastive sdss --epochs 100 --out contrastive_sdss.json
    python -m benchmarks.experiments.contrastive efigi --arms simclr,vicreg,property

Needs `pip install 'skastro[bench]'`, for lightly's losses and heads. All arms share the backbone,
its asinh scaling, the optimiser and its schedule, precision, the training rows, the mean over the
8 views, and the probe. Two views of a stamp differ by what does not matter to an astronomer: the
symmetries of the frame, a shift of up to 2 pixels, and noise of up to the sky's level; the arm
with jitter also by the brightness and colour of the source, as is usual for photographs.
"""

from __future__ import annotations

import argparse
import copy
import time
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from benchmarks._results import write_results
from benchmarks._stamps import Task
from benchmarks.experiments._arms import load_some, make_parser, standardised
from benchmarks.experiments.real_stamps import fit_encoder, probe_scores, summarise
from skastro import PropertyPretrainedEncoder, measure_properties
from skastro.networks.augmentation import augment
from skastro.networks.backbones import StampNetwork, make_network
from skastro.networks.inference import run
from skastro.networks.losses import PropertyLoss
from skastro.networks.training import Recipe, seeded, train
from skastro.utils.packages import import_optional

BACKBONE = "stamp_resnet18"
LIGHTLY = {"extra": "bench", "needed_by": "This benchmark"}
JITTER = 0.3  # of the logarithm of each band's flux, and of all bands' together
TEMPERATURE = 0.2
ARMS = {
    # objective, jitter, whether the properties are regressed too
    "simclr": ("simclr", False, False),
    "vicreg": ("vicreg", False, False),
    "simclr+jitter": ("simclr", True, False),
    "vicreg+jitter": ("vicreg", True, False),
    "property+simclr": ("simclr", False, True),
    "property+vicreg": ("vicreg", False, True),
}
PLAIN = ("property", "untrained")


class TwoViews(nn.Module):
    """Two random views of each stamp -> their projections, and their predicted properties.

    Parameters
    ----------
    network : StampNetwork
        Its head predicts the properties.
    projector : nn.Module
        Features (n, d) to projections (n, k).
    jitter : bool
        Whether brightness and colours are changed at random.
    seed : int
        Of the views.
    """

    def __init__(
        self, network: StampNetwork, projector: nn.Module, *, jitter: bool, seed: int
    ) -> None:
        super().__init__()
        self.network = network
        self.projector = projector
        self.jitter = jitter
        self.generator = torch.Generator().manual_seed(seed)

    def forward(self, stamps: Tensor) -> Tensor:
        """Map raw pixels (n, bands, height, width) to (n, 2, k + p)."""
        outputs = []
        for _ in range(2):
            features = self.network.embed(self._view(stamps))
            outputs.append(torch.cat([self.projector(features), self.network.head(features)], 1))
        return torch.stack(outputs, dim=1)

    def _view(self, stamps: Tensor) -> Tensor:
        view = augment(stamps, self.generator)
        offset, scale = self.network.scaling.offset, self.network.scaling.scale
        n, bands = stamps.shape[:2]
        if self.jitter:
            gain = self._normal(n, 1, 1, 1) + self._normal(n, bands, 1, 1)
            view = offset + (view - offset) * torch.exp(JITTER * gain)
        level = torch.rand(n, 1, 1, 1, generator=self.generator).to(stamps.device)
        return view + level * scale * self._normal(*stamps.shape)

    def _normal(self, *shape: int) -> Tensor:
        drawn = torch.randn(*shape, generator=self.generator)  # on the CPU, like `augment`
        return drawn.to(self.network.scaling.scale.device)


class TwoViewLoss(nn.Module):
    """Contrastive loss on the projections, and the properties' loss on both views' predictions.

    Parameters
    ----------
    contrastive : nn.Module
        Maps two (n, k) tensors to a scalar.
    width : int
        k.
    weight : float or None
        Of the contrastive loss beside that of the properties; None leaves these out.
    """

    def __init__(self, contrastive: nn.Module, width: int, weight: float | None) -> None:
        super().__init__()
        self.contrastive = contrastive
        self.width = width
        self.weight = weight
        self.property = PropertyLoss()

    def forward(self, output: Tensor, target: Tensor, weight: Tensor) -> Tensor:
        """Return the scalar loss of (n, 2, k + p) outputs."""
        projections = output[:, :, : self.width]
        loss = self.contrastive(projections[:, 0], projections[:, 1])
        if self.weight is None:
            return loss
        predictions = output[:, :, self.width :]
        errors = [self.property(predictions[:, view], target, weight) for view in range(2)]
        return sum(errors) / 2 + self.weight * loss


def make_objective(name: str, n_features: int) -> tuple[nn.Module, nn.Module, int]:
    """Return lightly's projector and loss, and the width of the projections."""
    heads = import_optional("lightly.models.modules.heads", **LIGHTLY)
    losses = import_optional("lightly.loss", **LIGHTLY)
    if name == "simclr":
        # Chen et al. 2020: one hidden layer, 128 outputs
        head = heads.SimCLRProjectionHead(n_features, 512, 128)
        return head, losses.NTXentLoss(temperature=TEMPERATURE), 128
    # Bardes et al. 2022: three layers; 1024 wide, for a backbone an eighth as wide as theirs
    head = heads.VICRegProjectionHead(n_features, 1024, 1024)
    return head, losses.VICRegLoss(), 1024


def find_targets(task: Task, encoder: PropertyPretrainedEncoder) -> tuple[NDArray, NDArray]:
    """Return the standardised targets and weights that the encoder has learned from."""
    rows = task.train
    measured, measured_errors = measure_properties(task.images[rows], return_errors=True)
    catalog = task.properties.iloc[rows].reset_index(drop=True)
    errors = pd.DataFrame(np.nan, index=catalog.index, columns=catalog.columns)
    if task.errors is not None:
        errors[:] = task.errors.iloc[rows].to_numpy()
    table = pd.concat([catalog, measured.add_prefix("measured_")], axis=1)
    errors = pd.concat([errors, measured_errors.add_prefix("measured_")], axis=1)
    names = list(encoder.targets_.names)
    weights = encoder.targets_.weights(errors[names].to_numpy(), len(table))
    return encoder.targets_.standardise(table[names]), weights


def pretrain(
    task: Task, encoder: PropertyPretrainedEncoder, arm: str, options: argparse.Namespace
) -> StampNetwork:
    """Train a network like the encoder's by the objective of an arm."""
    objective, jitter, with_properties = ARMS[arm]
    targets = find_targets(task, encoder)
    with seeded(encoder.seed_):
        network = make_network(
            BACKBONE,
            task.images.shape[1:],
            targets[0].shape[1],
            scaling=copy.deepcopy(encoder.network_.scaling),
        )
        projector, contrastive, width = make_objective(objective, network.head.in_features)
        weight = {"simclr": options.simclr_weight, "vicreg": options.vicreg_weight}[objective]
        train(
            TwoViews(network, projector, jitter=jitter, seed=encoder.seed_),
            task.images[task.train],
            targets,
            loss=TwoViewLoss(contrastive, width, weight if with_properties else None),
            recipe=Recipe(
                max_epochs=options.hybrid_epochs if with_properties else options.epochs,
                batch_size=options.batch_size,
                learning_rate=options.learning_rate,
                augment=False,  # the views are drawn inside
                seed=encoder.seed_,
                verbose=options.verbose,
            ),
        )
    return network


def score_split(options: argparse.Namespace, split: int) -> tuple[dict[str, dict], dict[str, Any]]:
    """Return the scores of each arm on one draw of the test rows, and the seconds of each."""
    task = load_some(options.task, split, options.stamps)
    params = {} if options.property_epochs is None else {"max_epochs": options.property_epochs}
    start = time.perf_counter()
    encoder = fit_encoder(task, untrained=False, backbone=BACKBONE, **params)
    seconds = {"property": time.perf_counter() - start}
    rows = {}
    for arm in options.arms:
        start = time.perf_counter()
        if arm == "property":
            embeddings = encoder.transform(task.images)
        elif arm == "untrained":
            embeddings = fit_encoder(task, untrained=True).transform(task.images)
        else:
            network = pretrain(task, encoder, arm, options)
            seconds[arm] = time.perf_counter() - start
            embeddings = embed(network, task)
        rows[arm] = probe_scores(task, embeddings, options.counts, options.repeats)
        print(f"  {arm}, split {split}: {time.perf_counter() - start:.0f} s", flush=True)
    return rows, seconds


def embed(network: StampNetwork, task: Task) -> NDArray[np.float64]:
    """Return the features of all stamps, mean of the 8 views, standardised on the training rows."""
    features = run(network, task.images, StampNetwork.embed, batch_size=64, average_views=True)
    return standardised(features, task.train)


def parse_arms(text: str) -> list[str]:
    """Read "simclr,property" as names of arms."""
    names = text.split(",")
    for name in names:
        if name not in ARMS and name not in PLAIN:
            raise argparse.ArgumentTypeError(
                f"{name!r} is no arm: choose from {', '.join([*ARMS, *PLAIN])}"
            )
    return names


def main() -> None:
    """Run the arms on the same splits, print a table and write it."""
    parser = make_parser(__doc__)
    parser.add_argument("task", choices=["sdss", "efigi"], default="sdss", nargs="?")
    parser.add_argument("--arms", type=parse_arms, default=",".join([*ARMS, *PLAIN]))
    parser.add_argument("--epochs", type=int, default=100, help="of the contrastive arms")
    parser.add_argument("--hybrid-epochs", type=int, default=40, help="of the arms with properties")
    parser.add_argument("--property-epochs", type=int, default=None, help="None is the default's")
    parser.add_argument("--batch-size", type=int, default=256)
    parser.add_argument("--learning-rate", type=float, default=2e-3)
    parser.add_argument("--simclr-weight", type=float, default=0.1, help="beside the properties")
    parser.add_argument("--vicreg-weight", type=float, default=0.02, help="beside the properties")
    parser.add_argument("--verbose", type=int, default=0)
    options = parser.parse_args()
    if set(options.arms) & set(ARMS):
        import_optional("lightly", **LIGHTLY)  # before anything is trained

    found, seconds = [], []
    for split in options.splits:
        rows, took = score_split(options, split)
        found.append(rows)
        seconds.append(took)
        settings = {k: v for k, v in vars(options).items() if k != "out"}
        result = {"settings": settings, "seconds": seconds, "splits": found}
        write_results(options.out, result, summarise(found, options.counts))


if __name__ == "__main__":
    main()
