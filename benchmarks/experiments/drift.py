"""Whether `check_encoder` names what was changed, and how often it is wrong on unchanged stamps.

    python -m benchmarks.experiments.drift --out drift.json

An encoder is trained on half of the SDSS stamps. Draws of the other half are checked with their
catalogue, unchanged and after each change. The first table has the share of draws whose line of
the change differs, and the share in which another line about the pixels differs, too. The second
one has the share of unchanged draws in which any of the eight lines differs.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import ndimage

from benchmarks._results import write_results
from benchmarks._stamps import Task, find_folder, load_task
from skastro import PropertyPretrainedEncoder, check_encoder, load_folder

Stamps = NDArray[np.floating]
PIXEL_LINES = {"bands", "pixel scale", "seeing", "zero point", "noise", "sky"}
SIZES = {20: 200, 100: 200, 1000: 20}  # stamps of a draw, and draws


def enlarge(stamps: Stamps) -> Stamps:
    """Halve the pixel scale of the middle of the stamps, by cubic splines."""
    side = stamps.shape[-1]
    middle = stamps[..., side // 4 : -side // 4, side // 4 : -side // 4]
    options: dict[str, Any] = {"order": 3, "mode": "nearest", "grid_mode": True}
    return ndimage.zoom(middle, (1, 1, 2, 2), **options) / 4


def bin_pixels(stamps: Stamps) -> Stamps:
    """Add up pixels two by two."""
    n, n_bands, height, width = stamps.shape
    return stamps.reshape(n, n_bands, height // 2, 2, width // 2, 2).sum((3, 5))


def read_efigi() -> Stamps:
    """Read EFIGI's pictures with the size and the number of bands of the SDSS stamps."""
    images = load_folder(find_folder("efigi")).images
    pictures = np.asarray(images[:: len(images) // 300], np.float32)[..., 4:84, 4:84]
    return ndimage.zoom(pictures, (1, 1, 0.4, 0.4), order=1)[:, [2, 2, 1, 0, 0]]


def make_changes(noise: Stamps) -> dict[str, tuple[str, Callable[[Stamps], Stamps]]]:
    """Return the line and the function of each change."""
    sky = 5 * noise[:, None, None]
    return {
        "fluxes times 10": ("zero point", lambda x: x * 10),
        "5 sigma of sky added": ("sky", lambda x: x + sky),
        "blurred by a pixel": ("seeing", lambda x: ndimage.gaussian_filter(x, (0, 0, 1, 1))),
        "g and r exchanged": ("bands", lambda x: x[:, [0, 2, 1, 3, 4]]),
        "r and i exchanged": ("bands", lambda x: x[:, [0, 1, 3, 2, 4]]),
        "half the pixel scale, resampled": ("pixel scale", enlarge),
        "twice the noise": (
            "noise",
            lambda x: x + np.random.default_rng(0).normal(size=x.shape) * np.sqrt(3) * sky / 5,
        ),
    }


def count_lines(
    encoder: PropertyPretrainedEncoder, draws: list[tuple[Stamps, pd.DataFrame | None]], line: str
) -> tuple[float, float]:
    """Return the share of draws with a line that differs, and with others about the pixels."""
    found = [set(check_encoder(encoder, *draw).differing) for draw in draws]
    right = np.mean([line in names for names in found])
    wrong = np.mean([bool(names & (PIXEL_LINES - {line})) for names in found])
    return float(right), float(wrong)


def run(task: Task, options: argparse.Namespace) -> dict[str, Any]:
    """Train the encoders, and check all draws."""
    rng = np.random.default_rng(options.seed)
    images = task.images.astype(np.float32)
    half, other = np.array_split(rng.permutation(len(images)), 2)
    make = PropertyPretrainedEncoder
    encoder = make(max_epochs=options.epochs, random_state=0, average_views=False)
    encoder.fit(images[half], properties=task.properties.iloc[half])

    def draw(n: int, count: int) -> list[NDArray[np.int64]]:
        return [rng.choice(other, n, replace=False) for _ in range(count)]

    # changes
    changed = {}
    rows = draw(100, options.draws)
    noise = np.median(encoder.statistics_.pixels["noise"], axis=0)
    for name, (line, change) in make_changes(noise).items():
        draws = [(change(images[some]), task.properties.iloc[some]) for some in rows]
        changed[name] = (line, *count_lines(encoder, draws, line))
    pictures = read_efigi()
    draws = [(pictures[rng.choice(len(pictures), 100, replace=False)], None) for _ in rows]
    changed["EFIGI"] = ("embedding", *count_lines(encoder, draws, "embedding"))
    # a survey of twice the pixel scale learns, and real pixels of half of it come
    coarse = make(max_epochs=options.epochs, random_state=0, average_views=False)
    coarse.fit(bin_pixels(images[half]), properties=task.properties.iloc[half])
    draws = [(images[some][..., 8:24, 8:24], task.properties.iloc[some]) for some in rows]
    name = "half the pixel scale, real pixels"
    changed[name] = ("pixel scale", *count_lines(coarse, draws, "pixel scale"))
    # false alarms
    alarms = {}
    for n, count in SIZES.items():
        found = [
            check_encoder(encoder, images[some], task.properties.iloc[some]).differing
            for some in draw(n, count)
        ]
        alarms[n] = {"draws": count, "share": float(np.mean([bool(names) for names in found]))}
        alarms[n]["lines"] = (
            pd.Series([name for names in found for name in names]).value_counts().to_dict()
        )
    return {"changes": changed, "alarms": alarms}


def main() -> None:
    """Check changed and unchanged stamps, and write the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--epochs", type=int, default=3, help="of the pretext")
    parser.add_argument("--draws", type=int, default=20, help="of each change")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=None, help="JSON; Markdown goes beside it")
    options = parser.parse_args()
    result = run(load_task("sdss"), options)
    lines = ["| change | line | named | another line, too |", "| --- | --- | --- | --- |"]
    for name, (line, right, wrong) in result["changes"].items():
        lines.append(f"| {name} | {line} | {right:.0%} | {wrong:.0%} |")
    lines += [
        "",
        "| stamps of a draw | draws | false alarms | lines |",
        "| --- | --- | --- | --- |",
    ]
    for n, row in result["alarms"].items():
        names = ", ".join(f"{name} {count}" for name, count in row["lines"].items())
        lines.append(f"| {n:,} | {row['draws']} | {row['share']:.1%} | {names} |")
    write_results(options.out, result, "\n".join(lines))


if __name__ == "__main__":
    main()
