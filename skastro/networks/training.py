"""Train networks: the loop of skorch over batches of stamps."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from time import monotonic
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from skorch import NeuralNet
from skorch.callbacks import Callback, EarlyStopping, LRScheduler, PassthroughScoring
from torch import Tensor, nn

from skastro.networks import checkpoints, parallel
from skastro.networks.augmentation import augment
from skastro.networks.backbones import synchronise_batch_norms
from skastro.networks.checkpoints import Checkpoint
from skastro.networks.device import keep_memory, resolve_device, to_device, uses_bfloat16
from skastro.networks.inference import prepare_for_inference
from skastro.networks.parallel import n_processes, rank, share_of
from skastro.stamps.arrays import read_ahead
from skastro.utils.files import digest_arrays
from skastro.utils.progress import show_seconds

Targets = tuple[NDArray[Any], ...]  # each of length n

# Longer pretexts overfit: on SDSS and EFIGI stamps, pools of 300 to 2,100 gave the best
# representations after 200 to 400 batches (docs/backbones.md).
_PRETEXT_BATCHES = 300
_MIN_EPOCHS, _MAX_EPOCHS = 6, 50

_CHECKPOINT_SECONDS = 180.0  # between two checkpoints within an epoch
# After a checkpoint that took one second, the next is written 20 s later at the earliest, so that
# checkpoints take at most 5 % of the time.
_MIN_WAIT_RATIO = 20.0

_EARLY_STOPPING_STATE = ("misses_", "dynamic_threshold_", "best_epoch_", "best_model_weights_")

# One training at a time: all threads share torch's global generator, and the cores.
_TRAINING = threading.RLock()


@dataclass(frozen=True)
class Recipe:
    """Settings of a training, resolved from the parameters of an estimator.

    ``learning_rate`` is the peak of a one-cycle schedule (Smith & Topin 2018) with AdamW
    (Loshchilov & Hutter 2019); ``patience`` is the number of epochs without a better validation
    loss after which training stops.
    """

    max_epochs: int
    batch_size: int
    learning_rate: float
    weight_decay: float = 0.05
    augment: bool = True
    patience: int | None = None
    device: str = "auto"
    precision: str = "auto"
    seed: int = 0
    verbose: int = 0
    title: str = "Training"  # printed above the lines of the epochs, such as "Fine-tuning resnet18"
    net_params: Mapping[str, Any] = field(default_factory=dict)


def choose_epochs(n: int, batch_size: int) -> int:
    """Return the number of epochs of a pretext on n stamps: about 300 batches, in 6 to 50 epochs.

    Examples
    --------
    >>> [choose_epochs(n, batch_size=64) for n in (50, 300, 2000, 100_000)]
    [50, 50, 10, 6]
    """
    batches = -(-n // batch_size)
    return int(np.clip(-(-_PRETEXT_BATCHES // batches), _MIN_EPOCHS, _MAX_EPOCHS))


class StampBatches:
    """Batches of stamps and targets, each sliced from the arrays at once.

    ``rows`` are the rows of ``images`` and ``targets`` to use; a single row is used twice. The
    sizes of batches differ by at most one. No batch is a single stamp, because batch
    normalisation needs two. Each of several processes gets its share of each batch.
    """

    def __init__(
        self, images: Any, targets: Targets, rows: NDArray[np.int64], batch_size: int
    ) -> None:
        self.images = images
        self.targets = targets
        self.rows = rows if len(rows) > 1 else np.repeat(rows, 2)
        self.n_batches = max(1, min(-(-len(self.rows) // batch_size), len(self.rows) // 2))
        self.generator: Any = None  # shuffles the rows in each epoch
        self.augment_with: torch.Generator | None = None  # draws the augmentation, if any
        self.n_skipped = 0  # batches that the next epoch skips, as it was interrupted after them

    def __len__(self) -> int:
        return self.n_batches

    def __iter__(self) -> Iterator[tuple[Tensor, tuple[Tensor, ...]]]:
        rows = self.rows if self.generator is None else self.generator.permutation(self.rows)
        n_skipped, self.n_skipped = self.n_skipped, 0
        batches = np.array_split(rows, self.n_batches)[n_skipped:]
        batches = [batch[share_of(len(batch))] for batch in batches]
        for batch, pixels in zip(batches, read_ahead(self.images, iter(batches)), strict=True):
            stamps = torch.from_numpy(pixels)
            if self.augment_with is not None:
                stamps = augment(stamps, self.augment_with)
            yield stamps, tuple(torch.from_numpy(target[batch]) for target in self.targets)


@dataclass
class _CheckpointCallback(Callback):
    """Restore a net from a checkpoint, and write one after each epoch and within long ones.

    It saves the states of the schedule and of early stopping, so they must be called before it.
    """

    checkpoint: Checkpoint
    batches: StampBatches

    def on_train_begin(self, net: NeuralNet, **_: Any) -> None:
        self.begun_: list[dict[str, float]] = []  # batches of an epoch that is not complete
        state, self.checkpoint.state = self.checkpoint.state, None
        if state is not None:
            try:
                self._restore(net, state)
            except (KeyError, TypeError, ValueError, RuntimeError) as error:
                problem = f"{self.checkpoint.path} does not fit the network"
                raise ValueError(f"{problem}: {checkpoints.REMEDY}") from error
        self.written_, self.cost_ = monotonic(), 0.0

    def on_epoch_begin(self, net: NeuralNet, **_: Any) -> None:
        # the state of the generator before it draws the order of this epoch
        self.order_ = self.batches.generator.bit_generator.state
        net.history[-1]["batches"].extend(self.begun_)
        self.begun_ = []

    def on_batch_end(self, net: NeuralNet, training: bool, **_: Any) -> None:
        if training and monotonic() - self.written_ >= _CHECKPOINT_SECONDS:
            self._write(net, self.order_, net.history[-1]["batches"])

    def on_epoch_end(self, net: NeuralNet, **_: Any) -> None:
        if monotonic() - self.written_ >= _MIN_WAIT_RATIO * self.cost_:
            self._write(net, self.batches.generator.bit_generator.state, [])

    def _write(self, net: NeuralNet, order: Any, begun: list[dict[str, float]]) -> None:
        if rank() > 0:
            return
        start = monotonic()
        callbacks, augment_with = dict(net.callbacks_), self.batches.augment_with
        complete = net.history[:-1] if begun else net.history
        generators = checkpoints.global_generators(net.device)
        state: dict[str, Any] = {
            "network": net.module_.state_dict(),
            "loss": net.criterion_.state_dict(),
            "optimizer": net.optimizer_.state_dict(),
            "schedule": callbacks["schedule"].lr_scheduler_.state_dict(),
            "history": [{k: v for k, v in row.items() if k != "batches"} for row in complete],
            "begun": begun,
            "order": order,
            "augmentation": None if augment_with is None else augment_with.get_state(),
            "generators": {kind: module.get_rng_state() for kind, module in generators.items()},
            "bfloat16": net.bfloat16,
        }
        if stop := callbacks.get("early_stopping"):
            state["early_stopping"] = {name: getattr(stop, name) for name in _EARLY_STOPPING_STATE}
        self.checkpoint.write(state)
        self.written_ = monotonic()
        self.cost_ = self.written_ - start

    def _restore(self, net: NeuralNet, state: dict[str, Any]) -> None:
        callbacks = dict(net.callbacks_)
        net.bfloat16 = state["bfloat16"]  # another machine continues in the same precision
        net.module_.load_state_dict(state["network"])
        net.criterion_.load_state_dict(state["loss"])
        checkpoints.restore_optimizer(net.optimizer_, state["optimizer"])
        callbacks["schedule"].lr_scheduler_.load_state_dict(state["schedule"])
        net.history.extend({**row, "batches": []} for row in state["history"])
        self.begun_, self.batches.n_skipped = state["begun"], len(state["begun"])
        self.batches.generator.bit_generator.state = state["order"]
        if self.batches.augment_with is not None:
            self.batches.augment_with.set_state(state["augmentation"])
        if stop := callbacks.get("early_stopping"):
            for name in _EARLY_STOPPING_STATE:
                setattr(stop, name, state["early_stopping"][name])
        for kind, module in checkpoints.global_generators(net.device).items():
            module.set_rng_state(state["generators"][kind])


@dataclass
class _ProgressCallback(Callback):
    """Report after each batch how many stamps were seen, over all epochs."""

    progress: Callable[[int], None]
    n_stamps: int
    n_batches: int  # of an epoch, those for validation included

    def on_batch_end(self, net: NeuralNet, **_: Any) -> None:
        n_epochs = len(net.history) - 1 + len(net.history[-1]["batches"]) / self.n_batches
        self.progress(int(n_epochs * self.n_stamps))


@dataclass
class _PrintCallback(Callback):
    """Print a heading, and a line for each epoch, without colours or other escape codes."""

    title: str
    images: Any
    validates: bool
    sink: Callable[..., None] = print

    def on_train_begin(self, net: NeuralNet, **_: Any) -> None:  # noqa: ARG002
        self.seconds_: list[float] = []  # of each epoch
        self.n_printed_ = 0  # epochs

    def on_epoch_begin(self, net: NeuralNet, **_: Any) -> None:
        if self.seconds_:
            return
        n, bands = self.images.shape[:2]
        self._print(
            f"{self.title} on {n:,} stamps of {bands} {'band' if bands == 1 else 'bands'}, "
            f"{net.max_epochs:,} epochs"
        )
        if done := len(net.history) - 1:
            self._print(f"Epochs 1 to {done:,} are those of the checkpoint.")
        self._print_row("epoch", "loss", "validation", "seconds", "left")

    def on_epoch_end(self, net: NeuralNet, **_: Any) -> None:
        row = net.history[-1]
        self.seconds_.append(row["dur"])
        left = (net.max_epochs - len(net.history)) * float(np.mean(self.seconds_))
        loss, validation = (f"{row.get(f'{n}_loss', np.nan):.4f}" for n in ("train", "valid"))
        seconds, epoch = f"{row['dur']:.1f}", str(len(net.history))
        self._print_row(epoch, loss, validation, seconds, show_seconds(left))
        self.n_printed_ = len(net.history)

    def on_train_end(self, net: NeuralNet, **_: Any) -> None:
        stop = dict(net.callbacks_).get("early_stopping")
        if self.n_printed_ < len(net.history):  # early stopping has ended the epoch before
            self.on_epoch_end(net)
        if stop is not None and len(net.history) < net.max_epochs:
            self._print(f"Stopped early: epoch {stop.best_epoch_} has the least validation loss.")

    def _print_row(self, epoch: str, loss: str, validation: str, seconds: str, left: str) -> None:
        validation = f"{validation:>12}" if self.validates else ""
        self._print(f"{epoch:>7}{loss:>10}{validation}{seconds:>10}{left:>10}")

    def _print(self, line: str) -> None:
        self.sink(line, flush=True)


class _StampNet(NeuralNet):
    """skorch's loop and callbacks over `StampBatches`, in channels-last memory order."""

    def __init__(self, *args: Any, bfloat16: bool = False, **kwargs: Any) -> None:
        self.bfloat16 = bfloat16
        super().__init__(*args, **kwargs)

    def get_split_datasets(self, X: Any, y: Any = None, **_: Any) -> tuple[Any, Any]:
        return X, y

    def get_iterator(self, dataset: Any, training: bool = False) -> Any:  # noqa: ARG002
        return dataset

    def infer(self, x: Tensor, **_: Any) -> Tensor:
        x = to_device(x, self.device)
        with torch.autocast(x.device.type, torch.bfloat16, enabled=self.bfloat16):
            return self.compute_(x).float()

    def get_loss(self, y_pred: Tensor, y_true: Any, *_: Any, **__: Any) -> Tensor:
        return self.criterion_(y_pred, *(part.to(y_pred.device) for part in y_true))

    def on_batch_end(
        self, net: NeuralNet, batch: Any = None, training: bool = False, **_: Any
    ) -> None:
        if n_processes() == 1:
            return
        # all processes record the loss of the whole batch, so that they stop early alike
        name, row = "train" if training else "valid", net.history[-1]["batches"][-1]
        loss, n = parallel.average(row[f"{name}_loss"], len(batch[0]), self.device)
        net.history.record_batch(f"{name}_loss", loss)
        net.history.record_batch(f"{name}_batch_size", n)


def train(
    network: nn.Module,
    images: Any,
    targets: Targets,
    *,
    loss: nn.Module,
    recipe: Recipe,
    validation_rows: NDArray[np.int64] | None = None,
    checkpoint: Checkpoint | None = None,
    progress: Callable[[int], None] | None = None,
) -> list[dict[str, float]]:
    """Train a network in place, inside `seeded`, so that weights and dropout are reproducible.

    Parameters
    ----------
    network : nn.Module
        Maps raw pixels (n, bands, height, width) to outputs.
    images : array-like of shape (n, bands, height, width)
    targets : tuple of arrays of length n
    loss : nn.Module
        Maps (outputs, *targets) to a scalar.
    recipe : Recipe
    validation_rows : int array, default=None
        Rows to compute the validation loss with, which are not trained on.
    checkpoint : Checkpoint, default=None
        Training resumes from it. It is written after each epoch and every three minutes within
        long epochs; after short epochs less often, so that it takes at most 5 % of the time. The
        caller removes it.
    progress : callable, default=None
        Called after each batch with the number of stamps seen so far in all epochs, those for
        validation included. The last number is ``len(images) * recipe.max_epochs``, also if
        training stops early.

    Returns
    -------
    history : list of dict
        ``epoch``, ``train_loss``, ``lr`` (the mean), ``dur`` (seconds) and, with validation
        rows, ``valid_loss``; one for each epoch.
    """
    keep_memory()
    history: list[dict[str, float]] = []
    if recipe.max_epochs > 0:
        # split the rows into batches for training and for validation
        rows, validation = np.arange(len(images)), None
        if validation_rows is not None:
            rows = np.setdiff1d(rows, validation_rows)
            validation = StampBatches(images, targets, validation_rows, recipe.batch_size)
        batches = StampBatches(images, targets, rows, recipe.batch_size)
        batches.generator = np.random.default_rng(recipe.seed)
        if recipe.augment:
            batches.augment_with = torch.Generator().manual_seed(recipe.seed + rank())
        parts = [part for part in (batches, validation) if part is not None]
        # set up the net and its callbacks
        net = _make_net(network, loss, recipe, batches, validation)
        if checkpoint is not None:
            net.callbacks_.append(("checkpoint", _CheckpointCallback(checkpoint, batches)))
        if progress is not None:
            report = _ProgressCallback(progress, len(images), sum(map(len, parts)))
            net.callbacks_.append(("progress", report))
        # train, but not by `net.fit`: it ignores keyboard interrupts, and the caller would take a
        # half-trained network for a complete one; a checkpoint is restored in on_train_begin
        net.notify("on_train_begin", X=batches, y=validation)
        if n_processes() > 1:
            _check_processes(net, parts)
            torch.manual_seed(recipe.seed + rank())  # dropout differs from process to process
        net.compute_ = parallel.distribute(net.module_).__call__  # skorch takes no second module
        _fit_loop(net, batches, validation)
        net.notify("on_train_end", X=batches, y=validation)
        parallel.copy_from_first(net.module_)
        if net.module_ is not network:  # a copy, with synchronised batch norms
            network.load_state_dict(net.module_.state_dict())
        names = ("epoch", "train_loss", "valid_loss", "event_lr", "dur")
        history = [
            {name.removeprefix("event_"): row[name] for name in names if name in row}
            for row in net.history
        ]
    prepare_for_inference(network)
    if progress is not None:
        progress(len(images) * recipe.max_epochs)
    return history


def _check_processes(net: NeuralNet, parts: list[StampBatches]) -> None:
    """Refuse processes with different work, or with too few stamps for batch normalisation."""
    facts = {
        "the shape of X": tuple(parts[0].images.shape),
        "max_epochs": net.max_epochs,
        "the learning rate": net.lr,
        "the number of batches": [len(part) for part in parts],
        "the number of epochs in checkpoint_dir": len(net.history),
        "the hash of the targets": digest_arrays(*parts[0].targets)[:8],
        "the hash of the rows": digest_arrays(*(part.rows for part in parts))[:8],
    }
    parallel.check_same_work(facts)
    smallest = min(len(part.rows) // len(part) for part in parts)
    if smallest < 2 * n_processes():
        raise ValueError(
            f"batches of {smallest} stamps are too small for {n_processes()} processes: "
            "pass a larger batch_size, or start fewer processes."
        )


def _fit_loop(net: NeuralNet, batches: StampBatches, validation: StampBatches | None) -> None:
    try:
        net.fit_loop(batches, validation, epochs=net.max_epochs - len(net.history))
    except KeyboardInterrupt:
        # early stopping of skorch raises this exception, too; otherwise it comes from the user
        stop = dict(net.callbacks_).get("early_stopping")
        if stop is None or stop.misses_ < stop.patience:
            raise


def _make_net(
    network: nn.Module,
    loss: nn.Module,
    recipe: Recipe,
    batches: StampBatches,
    validation: StampBatches | None,
) -> NeuralNet:
    device, shape = resolve_device(recipe.device), tuple(batches.images.shape[1:])
    bfloat16 = uses_bfloat16(recipe.precision, network, device, image_shape=shape, training=True)
    if n_processes() > 1 and device.startswith("cuda"):
        network = synchronise_batch_norms(network)
    printer = _PrintCallback(recipe.title, batches.images, validation is not None)
    schedule = LRScheduler(
        torch.optim.lr_scheduler.OneCycleLR, step_every="batch", max_lr=recipe.learning_rate,
        total_steps=recipe.max_epochs * len(batches) + 1,
    )  # fmt: skip
    lr = PassthroughScoring("event_lr", on_train=True)
    callbacks: list[Any] = [("schedule", schedule), ("lr", lr)]
    if validation is not None and recipe.patience is not None:
        stop = EarlyStopping(patience=recipe.patience, load_best=True, sink=lambda *_: None)
        callbacks.append(("early_stopping", stop))
    net = _StampNet(
        network.to(memory_format=torch.channels_last), loss, device=device,
        optimizer=torch.optim.AdamW, optimizer__weight_decay=recipe.weight_decay,
        optimizer__fused=True, lr=recipe.learning_rate, max_epochs=recipe.max_epochs,
        train_split=None, bfloat16=parallel.agree(bfloat16), verbose=0, callbacks=callbacks,
        callbacks__print_log=printer if recipe.verbose and rank() == 0 else None,
    )  # fmt: skip
    return net.set_params(**recipe.net_params).initialize()


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Seed torch's global generators inside the block, and restore their states at its end."""
    with _TRAINING, torch.random.fork_rng():
        torch.manual_seed(seed)
        yield
