"""ImageNet features in many variants: sizes, bands, stages, frozen and fine-tuned.

    python -m benchmarks.experiments.imagenet sdss --out imagenet_sdss.json
    python -m benchmarks.experiments.imagenet efigi --sides 128,224 --finetune-counts 300,1000

EfficientNet-Lite0 with the weights of its pip package (`skastro[imagenet]`), on stamps enlarged
bicubically. Inputs: colour composites (Lupton et al. 2004) as the weights expect them; of more than
three bands also two composites, whose features are joined, and all bands by a first layer
inflated to them, scaled by asinh to the mean and spread of photographs. Features: the last feature
map pooled, or several stages pooled and joined. All are the mean of 8 views, standardised on the
training rows, and get the same probe. Nothing here is chosen on the test rows: every combination
is in the table. The best of a column is therefore a little optimistic.
"""

from __future__ import annotations

import argparse
import time
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from benchmarks._results import write_results
from benchmarks._stamps import Task
from benchmarks.experiments._arms import load_some, make_parser, standardised
from benchmarks.experiments.real_stamps import network_scores, parse_counts, probe_scores, summarise
from skastro import AsinhScaler, PropertyPretrainedEncoder, to_rgb
from skastro.networks.backbones import InputScaling, make_backbone
from skastro.networks.inference import prepare_for_inference, run

BACKBONE = "tf_efficientnet_lite0"
PHOTOGRAPH = (127.0, 128.0)  # (rgb - 127) / 128 is what the weights were trained on
PHOTOGRAPH_SPREAD = 0.5  # of such pixels, about
COMPOSITES = {"irg": (3, 2, 1), "zru": (4, 2, 0)}  # red, green and blue of ugriz
STAGES = (2, 3, 4)  # 40, 112 and 320 channels, at 1/8, 1/16 and 1/32 of the side


class ImageNetFeatures(nn.Module):
    """Pixels -> scaling -> enlarged -> the pooled last feature map, then pooled stages.

    Parameters
    ----------
    scaling : nn.Module
    body : nn.Module
        An EfficientNet of timm.
    side : int
        Pixels of the longer side after the enlargement.
    """

    def __init__(self, scaling: nn.Module, body: nn.Module, side: int) -> None:
        super().__init__()
        self.scaling = scaling
        self.body = body
        self.side = side

    def forward(self, stamps: Tensor) -> Tensor:
        """Map (n, bands, height, width) to (n, 1280 + 40 + 112 + 320)."""
        factor = self.side / max(stamps.shape[2:])
        size = [round(factor * side) for side in stamps.shape[2:]]
        large = functional.interpolate(
            self.scaling(stamps), size, mode="bicubic", align_corners=False
        )
        last, stages = self.body.forward_intermediates(large, indices=list(STAGES))
        return torch.cat([maps.mean((2, 3)) for maps in (last, *stages)], dim=1)


def make_inputs(task: Task) -> dict[str, tuple[NDArray, nn.Module]]:
    """Return pixels and their scaling by the name of the input."""
    photograph = InputScaling(*(torch.full((3,), v) for v in PHOTOGRAPH), stretch=False)
    if task.images.shape[1] == 3:
        return {"RGB": (task.images, photograph)}
    inputs = {
        f"RGB {name}": (to_rgb(task.images, bands=bands, color_smoothing=0), photograph)
        for name, bands in COMPOSITES.items()
    }
    inputs["all bands, inflated"] = (task.images, _scale_bands(task))
    return inputs


def _scale_bands(task: Task) -> nn.Module:
    """Scale by asinh, then to the mean and spread of photographs, as the training rows say."""
    scaler = AsinhScaler().fit(task.images[task.train])
    sky, noise = torch.from_numpy(scaler.sky_), torch.from_numpy(scaler.noise_)
    stretched = InputScaling(sky, noise, stretch=True)
    with torch.inference_mode():
        pixels = stretched(torch.from_numpy(task.images[task.train].astype(np.float32)))
    spread = pixels.std((0, 2, 3)) / PHOTOGRAPH_SPREAD
    return nn.Sequential(
        stretched, InputScaling(pixels.mean((0, 2, 3)), spread, stretch=False)
    ).eval()


def embed(pixels: NDArray, scaling: nn.Module, side: int, *, views: bool) -> NDArray[np.float32]:
    """Return the features of all stages, with the last feature map's first."""
    body = make_backbone(BACKBONE, pixels.shape[1:], weights="imagenet")[0].body
    network = ImageNetFeatures(scaling, body, side)
    prepare_for_inference(network)
    return run(network, pixels, ImageNetFeatures.forward, batch_size=32, average_views=views)


def frozen_scores(
    task: Task, options: argparse.Namespace
) -> tuple[dict[str, dict], dict[str, float]]:
    """Return the scores of each size, input and choice of stages, and the seconds to embed."""
    rows: dict[str, dict] = {}
    seconds = {}
    for side in options.sides:
        found = {}
        for name, (pixels, scaling) in make_inputs(task).items():
            start = time.perf_counter()
            found[name] = embed(pixels, scaling, side, views=not options.one_view)
            seconds[f"{side} px, {name}"] = time.perf_counter() - start
            print(f"  {side} px, {name}: {seconds[f'{side} px, {name}']:.0f} s", flush=True)
        for stages, columns in (("last stage", slice(0, 1280)), ("4 stages", slice(None))):
            features = {name: each[:, columns] for name, each in found.items()}
            pair = [features.pop(f"RGB {name}") for name in COMPOSITES if f"RGB {name}" in features]
            if pair:
                features |= {"RGB irg": pair[0], "RGB irg and zru": np.hstack(pair)}
            for name, each in features.items():
                rows[f"{side} px, {name}, {stages}"] = probe_scores(
                    task, standardised(each, task.train), options.counts, options.repeats
                )
    return rows, seconds


def finetune_scores(task: Task, options: argparse.Namespace) -> dict[str, dict]:
    """Return the scores of the fine-tuned network, which starts from its own frozen probe."""
    name, (pixels, _) = next(iter(make_inputs(task).items()))
    task = task._replace(images=pixels)
    encoder = PropertyPretrainedEncoder(
        BACKBONE, weights="imagenet", targets="measured", max_epochs=0, random_state=0
    ).fit(pixels[task.train])
    scores = network_scores(
        task, encoder, "finetune", options.finetune_counts, options.network_repeats
    )
    return {f"{max(encoder.network_.backbone.size)} px, {name}, fine-tuned": scores}


def score_split(options: argparse.Namespace, split: int) -> tuple[dict[str, Any], dict[str, float]]:
    """Return the scores of each row of the table on one draw of the test rows."""
    task = load_some(options.task, split, options.stamps)
    rows, seconds = frozen_scores(task, options)
    if options.finetune_counts:
        rows |= finetune_scores(task, options)
    return rows, seconds


def main() -> None:
    """Run all combinations on the same splits, print a table and write it."""
    parser = make_parser(__doc__)
    parser.add_argument("task", choices=["sdss", "efigi"], default="sdss", nargs="?")
    parser.add_argument("--sides", type=parse_counts, default="128,160,224")
    parser.add_argument("--one-view", action="store_true", help="no mean of 8 views")
    parser.add_argument("--finetune-counts", type=parse_counts, default="300,1000")
    parser.add_argument("--network-repeats", type=int, default=2)
    options = parser.parse_args()

    found, seconds = [], []
    for split in options.splits:
        rows, took = score_split(options, split)
        found.append(rows)
        seconds.append(took)
        settings = {k: v for k, v in vars(options).items() if k != "out"}
        result = {"settings": settings, "embedding_seconds": seconds, "splits": found}
        counts = sorted({*options.counts, *options.finetune_counts})
        write_results(options.out, result, summarise(found, counts))


if __name__ == "__main__":
    main()
