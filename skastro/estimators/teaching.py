"""Train the network of `load_pretrained` on simulated stamps, which are drawn as it learns."""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, IterableDataset

from skastro.estimators.morphology import MorphologyTargets
from skastro.networks.device import resolve_device, uses_bfloat16
from skastro.networks.teacher import N_PLANES, N_SCALARS, StampPlanes, TeacherNetwork, teacher_loss
from skastro.simulation.draws import Draws
from skastro.simulation.galaxies import GALAXY_KINDS, GALAXY_PROPERTIES, simulate_galaxies
from skastro.simulation.observation import observe
from skastro.simulation.pictures import compose_pictures
from skastro.simulation.radio import RADIO_KINDS, RADIO_PROPERTIES, simulate_radio_sources

Truth = dict[str, Tensor]

_CHUNK = 128  # stamps drawn at once, of one size and format
_SIZES, _SIZE_SHARES = (64, 32, 88), (0.8, 0.1, 0.1)  # pixels of simulated stamps
_PICTURE_SHARE, _ONE_BAND_SHARE, _TWO_BAND_SHARE = 0.65, 0.08, 0.06
_GAIN_SCATTER = 0.3  # of the bands of linear stamps, ln
_POOL = 16_384  # stamps from which batches are drawn
_BATCH_SIZE = 128
_PEAK_RATE, _WEIGHT_DECAY, _WARMUP_STEPS = 2e-3, 0.02, 500
_AVERAGING = 0.9995  # of weights over steps; the averaged ones are used
_KIND_WEIGHT = 0.3
_MAX_GRADIENT = 2.0
_SECONDS_BETWEEN_STATES, _SECONDS_BETWEEN_LINES = 120, 5
_N_SCALING_STAMPS = 4096  # for the means and spreads of properties
_SCALING_SEED = 2**40


@dataclass(frozen=True)
class Lesson:
    """What a teacher learns from: a simulation, its properties and kinds.

    ``simulate`` maps (draws, size) to stamps in the order of wavelength and their truth, with the
    kind as an index. ``mirrored`` are properties whose sign changes in a mirror.
    """

    simulate: Callable[[Draws, int], tuple[Tensor, Truth]]
    properties: tuple[str, ...]
    units: dict[str, str]
    kinds: tuple[str, ...]
    mirrored: tuple[str, ...] = ()
    planes: str = "colours"  # or "stretches", see `StampPlanes`


def simulate_observed_galaxies(draws: Draws, size: int) -> tuple[Tensor, Truth]:
    """Simulate galaxies as pictures or linear stamps, of one, two or three bands."""
    fluxes, truth = simulate_galaxies(draws, size)
    stamps, noise = observe(fluxes, draws)
    picture, bands = draws.uniform()[0].item(), draws.uniform()[0].item()
    if picture < _PICTURE_SHARE:
        stamps = compose_pictures(stamps, noise, draws).flip(1)
    else:  # in the units of many cameras
        stamps = stamps * torch.exp(draws.normal(_GAIN_SCATTER, (stamps.shape[1], 1, 1)))
    if bands < _ONE_BAND_SHARE:
        stamps = stamps.mean(1, keepdim=True)
    elif bands < _ONE_BAND_SHARE + _TWO_BAND_SHARE:
        stamps = stamps[:, ::2]
    return stamps, truth


LESSONS = {
    "galaxies": Lesson(
        simulate_observed_galaxies,
        tuple(GALAXY_PROPERTIES),
        {name: unit for name, (unit, _) in GALAXY_PROPERTIES.items()},
        GALAXY_KINDS,
        mirrored=("winding",),
    ),
    "radio": Lesson(
        simulate_radio_sources,
        tuple(RADIO_PROPERTIES),
        {name: unit for name, (unit, _) in RADIO_PROPERTIES.items()},
        RADIO_KINDS,
        planes="stretches",
    ),
}


class SimulatedPlanes(IterableDataset[tuple[Tensor, ...]]):
    """Draw chunks of simulated stamps, as planes, without end.

    ``first`` is the number of the first chunk: a resumed training goes on where it was. They are
    drawn on ``device``.
    """

    def __init__(
        self, lesson: Lesson, targets: MorphologyTargets, size: int, first: int, device: str
    ) -> None:
        self.lesson, self.targets, self.size = lesson, targets, size
        self.first, self.device = first, device

    def __iter__(self) -> Iterator[tuple[Tensor, ...]]:
        """Yield half-precision planes, scalars, standardised properties and kinds."""
        worker = torch.utils.data.get_worker_info()
        if worker:  # a process of its own: the wings of exponentials take half the time otherwise
            torch.set_flush_denormal(True)
        step, chunk = (worker.num_workers, worker.id) if worker else (1, 0)
        planes_of = StampPlanes(self.size, self.lesson.planes)
        number = self.first + chunk
        while True:
            stamps, truth = draw_chunk(self.lesson, number, self.device)
            planes, scalars = planes_of(stamps)
            values = self.targets.standardise(truth)
            yield planes.half(), scalars, values, truth["kind"].long()
            number += step


def draw_chunk(lesson: Lesson, number: int, device: str = "cpu") -> tuple[Tensor, Truth]:
    """Draw the stamps of a chunk, of one size and format, from its number."""
    draws = Draws(_CHUNK, number, device)
    share = draws.uniform()[0].item()
    place = 0 if share < _SIZE_SHARES[0] else 1 + (share > 1 - _SIZE_SHARES[2])
    return lesson.simulate(draws, _SIZES[place])


class Pool:
    """Keep the latest simulated stamps on a device, and draw batches in random orientations."""

    def __init__(
        self, targets: MorphologyTargets, size: int, mirrored: tuple[str, ...], device: str = "cpu"
    ) -> None:
        shape = (_POOL, N_PLANES, size, size)
        self.planes = torch.empty(shape, dtype=torch.half, device=device)
        self.scalars = torch.empty(_POOL, N_SCALARS, device=device)
        self.kinds = torch.empty(_POOL, dtype=torch.long, device=device)
        self.values = torch.empty(_POOL, len(targets.properties), device=device)
        self.mirrored = [targets.properties.index(name) for name in mirrored]
        self.n_added = 0

    def add(self, planes: Tensor, scalars: Tensor, values: Tensor, kinds: Tensor) -> None:
        """Replace the oldest stamps."""
        rows = torch.arange(self.n_added, self.n_added + len(kinds)) % _POOL
        rows = rows.to(self.planes.device)
        pairs = (self.planes, planes), (self.scalars, scalars), (self.values, values)
        for kept, new in (*pairs, (self.kinds, kinds)):
            kept[rows] = new.to(kept.device)
        self.n_added += len(kinds)

    def batch(self, generator: torch.Generator) -> tuple[Tensor, ...]:
        """Draw a batch, all of it turned and mirrored in the same way."""
        rows = torch.randint(min(self.n_added, _POOL), (_BATCH_SIZE,), generator=generator)
        rows = rows.to(self.planes.device)
        turns, mirror = divmod(int(torch.randint(8, (), generator=generator)), 2)
        planes, values = self.planes[rows].float(), self.values[rows]
        planes = torch.rot90(planes, turns, (2, 3))
        if mirror:
            planes = planes.flip(3)
            values[:, self.mirrored] = -values[:, self.mirrored]  # standardised about 0
        return planes, self.scalars[rows], values, self.kinds[rows]


def learning_rate(seen: int) -> float:
    """Return the learning rate: a short rise, then constant, as the weights are averaged.

    A rate that fell to zero at the end gave better values of simulated stamps, and worse classes
    of real galaxies.
    """
    return _PEAK_RATE * min(1.0, seen / (_WARMUP_STEPS * _BATCH_SIZE))


def train_teacher(
    name: str,
    state: str | Path,
    *,
    n_stamps: int,
    backbone: str = "stamp_resnet18",
    size: int = 48,
    repeats: int = 3,
    n_workers: int | None = None,
    device: str = "auto",
    precision: str = "auto",
    max_seconds: float = math.inf,
    report: Callable[[str], None] = print,
) -> None:
    """Train until a number of stamps has been seen; a killed training goes on where it was.

    Parameters
    ----------
    name : str
        A key of ``LESSONS``.
    state : path
        File of the state of the training, written every two minutes.
    n_stamps : int
        Number of stamps to see; each drawn stamp is seen ``repeats`` times, turned and mirrored.
    backbone : str, default="stamp_resnet18"
    size : int, default=48
        Height and width of the planes in pixels.
    repeats : int, default=3
    n_workers : int, default=None
        Processes that draw stamps on the CPU; 0 draws them in this one, on ``device``. None: one
        for a training on the CPU, and 0 for others.
    device, precision : str
        As in `PropertyPretrainedEncoder`.
    max_seconds : float, default=inf
        Time after which the state is written and the training stops, to go on later.
    report : callable, default=print
        Gets a line about the progress every five seconds.
    """
    lesson, path = LESSONS[name], Path(state)
    device = resolve_device(device)
    report("Preparing the network, and drawing the first stamps, for about half a minute.")
    course = _start(lesson, path, backbone, size, device)
    course.settings |= {"n_stamps": n_stamps, "repeats": repeats}
    if n_workers is None:
        n_workers = int(device == "cpu")
    drawn_on = "cpu" if n_workers else device
    planes = SimulatedPlanes(lesson, course.targets, size, course.chunks, drawn_on)
    prefetch = 4 if n_workers else None
    loader = DataLoader(planes, None, num_workers=n_workers, prefetch_factor=prefetch)
    chunks = iter(loader)
    pool = Pool(course.targets, size, lesson.mirrored, device)
    bfloat16 = uses_bfloat16(
        precision, course.network.backbone, device, image_shape=(N_PLANES, size, size),
        training=True,
    )  # fmt: skip
    generator = torch.Generator().manual_seed(course.seen)
    began = said = saved = time.monotonic()
    first, losses = course.seen, []
    while course.seen < n_stamps and time.monotonic() - began < max_seconds:
        # each stamp is seen several times, and the pool is never small
        while pool.n_added < (course.seen - first) / repeats + _POOL // 4:
            pool.add(*next(chunks))
            course.chunks += 1
        losses.append(course.step(pool.batch(generator), bfloat16=bfloat16))
        now = time.monotonic()
        if now - said > _SECONDS_BETWEEN_LINES:
            speed = (course.seen - first) / (now - began)
            left = (n_stamps - course.seen) / speed / 60
            loss = sum(losses) / len(losses)
            report(
                f"{course.seen:,} of {n_stamps:,} stamps, loss {loss:.4f}, {speed:.0f} a second, "
                f"{left:.0f} minutes left"
            )
            said, losses = now, []
        if now - saved > _SECONDS_BETWEEN_STATES:
            course.save(path)
            saved = now
    course.save(path)


@dataclass
class Course:
    """A training under way."""

    network: TeacherNetwork
    averaged: TeacherNetwork
    optimizer: torch.optim.Optimizer
    targets: MorphologyTargets
    settings: dict[str, Any]
    seen: int = 0
    chunks: int = 0

    def step(self, batch: tuple[Tensor, ...], *, bfloat16: bool) -> float:
        """Learn from a batch, and return its loss."""
        device = self.network.head.weight.device
        planes, scalars, values, kinds = batch
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate(self.seen)
        planes = planes.contiguous(memory_format=torch.channels_last)
        with torch.autocast(device.type, torch.bfloat16, enabled=bfloat16):
            features = self.network.embed_planes(planes, scalars)
        parts = self.network.split(self.network.head(features.float()))
        loss = teacher_loss(parts, values, kinds, _KIND_WEIGHT)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(self.network.parameters(), _MAX_GRADIENT)
        self.optimizer.step()
        self.seen += len(kinds)
        self._average()
        return float(loss.detach())

    @torch.no_grad()
    def _average(self) -> None:
        """Move the averaged weights towards those of the network, faster at the beginning."""
        share = 1 - min(_AVERAGING, self.seen / (self.seen + 10 * _BATCH_SIZE))
        ours, theirs = self.averaged.state_dict(), self.network.state_dict()
        floats = [name for name, value in ours.items() if value.is_floating_point()]
        torch._foreach_lerp_([ours[k] for k in floats], [theirs[k] for k in floats], share)

    def save(self, path: Path) -> None:
        """Write the state; a kill leaves the last one whole."""
        partial = path.with_suffix(".partial")
        document = {
            "network": self.network.state_dict(), "averaged": self.averaged.state_dict(),
            "optimizer": self.optimizer.state_dict(), "targets": vars(self.targets),
            "settings": self.settings, "seen": self.seen, "chunks": self.chunks,
        }  # fmt: skip
        torch.save(document, partial)
        partial.replace(path)


def _start(lesson: Lesson, path: Path, backbone: str, size: int, device: str) -> Course:
    """Begin a training, or read the state of one that was stopped."""
    torch.manual_seed(0)
    saved = torch.load(path, weights_only=False) if path.exists() else None
    targets = MorphologyTargets(**saved["targets"]) if saved else _measure_targets(lesson)
    n_values, n_kinds = len(targets.properties), len(targets.kinds)
    network = TeacherNetwork(backbone, size, n_values, n_kinds, planes=lesson.planes).to(device)
    network = network.to(memory_format=torch.channels_last)
    averaged = copy.deepcopy(network)
    optimizer = torch.optim.AdamW(network.parameters(), _PEAK_RATE, weight_decay=_WEIGHT_DECAY)
    settings = {"backbone": backbone, "size": size, "planes": lesson.planes}
    course = Course(network, averaged, optimizer, targets, settings)
    if saved:
        network.load_state_dict(saved["network"])
        averaged.load_state_dict(saved["averaged"])
        optimizer.load_state_dict(saved["optimizer"])
        course.seen, course.chunks = saved["seen"], saved["chunks"]
    return course


def _measure_targets(lesson: Lesson) -> MorphologyTargets:
    """Measure the scale of each property on stamps that no training sees."""
    truths = [draw_chunk(lesson, _SCALING_SEED + k)[1] for k in range(_N_SCALING_STAMPS // _CHUNK)]
    truth = {name: torch.cat([part[name] for part in truths]) for name in lesson.properties}
    targets = MorphologyTargets.fit(truth, lesson.units, lesson.kinds)
    # the sign of a mirrored property changes about zero
    for name in lesson.mirrored:
        targets.center[targets.properties.index(name)] = 0.0
    return targets
