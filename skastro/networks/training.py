"""The training loop: a skorch net over whole batches of stamps; the only home of skorch."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from time import monotonic
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from skorch import NeuralNet
from skorch.callbacks import Callback, EarlyStopping, LRScheduler, PassthroughScoring, PrintLog
from torch import Tensor, nn

from skastro.networks.augmentation import augment
from skastro.networks.checkpoints import (
    Checkpoint,
    read_generators,
    restore_optimizer,
    set_generators,
)
from skastro.networks.device import keep_memory, resolve_device, to_device, uses_bfloat16
from skastro.networks.inference import prepare_for_inference
from skastro.networks.parallel import Job, agree, gather, rank, share_of, sum_gradients, together
from skastro.stamps.arrays import read_ahead

# a pretext that is trained on and on overfits: on SDSS and EFIGI stamps, pools of 300 to 2,100 gave
# the best representations after 200 to 400 batches (docs/backbones.md)
_PRETEXT_BATCHES = 300
_LEAST_EPOCHS, _MOST_EPOCHS = 6, 50

_CHECKPOINT_SECONDS = 180.0  # between two checkpoints within an epoch
_LEAST_PER_WRITE = 20.0  # times of a checkpoint's own between it and the next: 5 % at most

# what skorch's early stopping keeps between two epochs
_OF_EARLY_STOPPING = ("misses_", "dynamic_threshold_", "best_epoch_", "best_model_weights_")

# torch's global generator serves one fit at a time; threads would only fight for the cores
_TRAINING = threading.RLock()


@dataclass(frozen=True)
class Recipe:
    """How to train: what the estimators' parameters say, resolved.

    ``learning_rate`` is the peak of a one-cycle schedule (Smith & Topin 2018) with AdamW
    (Loshchilov & Hutter 2019); ``patience`` counts epochs without a better validation loss.
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
    net_params: Mapping[str, Any] = field(default_factory=dict)


def choose_epochs(n: int, batch_size: int) -> int:
    """Return the number of epochs of a pretext: about 300 batches, in 6 to 50 epochs.

    Examples
    --------
    >>> [choose_epochs(n, batch_size=64) for n in (50, 300, 2000, 100_000)]
    [50, 50, 10, 6]
    """
    batches = -(-n // batch_size)
    return int(np.clip(-(-_PRETEXT_BATCHES // batches), _LEAST_EPOCHS, _MOST_EPOCHS))


class StampBatches:
    """Batches of stamps and targets, sliced whole from their arrays, shuffled and augmented.

    Parameters
    ----------
    images : array-like of shape (n, bands, height, width)
    targets : tuple of float or int arrays of length n
        Sliced with the stamps.
    rows : int array
        The rows to go through.
    batch_size : int
        Batches differ by at most one stamp in size; none holds a single stamp, on which
        batch normalisation cannot train.
    generator : numpy Generator or None
        Shuffles; None keeps the order.
    augment_with : torch.Generator or None
        Augments; None leaves the stamps as they are.

    Attributes
    ----------
    done : int
        Batches that the next epoch leaves out: a checkpoint has seen them.
    """

    def __init__(
        self,
        images: Any,
        targets: tuple[NDArray[Any], ...],
        rows: NDArray[np.int64],
        batch_size: int,
        *,
        generator: np.random.Generator | None = None,
        augment_with: torch.Generator | None = None,
    ) -> None:
        self.images = images
        self.targets = targets
        self.rows = rows if len(rows) > 1 else np.repeat(rows, 2)
        self.n_batches = max(1, min(-(-len(self.rows) // batch_size), len(self.rows) // 2))
        self.generator = generator
        self.augment_with = augment_with
        self.done = 0

    def __len__(self) -> int:
        return self.n_batches

    def __iter__(self) -> Iterator[tuple[Tensor, tuple[Tensor, ...]]]:
        rows = self.rows if self.generator is None else self.generator.permutation(self.rows)
        done, self.done = self.done, 0
        parts = np.array_split(rows, self.n_batches)[done:]
        shares = [share_of(len(chosen)) for chosen in parts]
        ours = (chosen[share] for chosen, share in zip(parts, shares, strict=True))
        read = read_ahead(self.images, ours)
        for chosen, share, pixels in zip(parts, shares, read, strict=True):
            stamps, n = torch.from_numpy(pixels), len(chosen)
            if self.augment_with is not None:
                stamps = augment(stamps, self.augment_with, share=share, batch_size=n)
            targets = tuple(torch.from_numpy(target[chosen]) for target in self.targets)
            yield stamps, targets


class _Saving(Callback):
    """Set a net to a checkpoint at first, and write one after each epoch and within long ones.

    It comes behind the schedule and the early stopping, whose states it saves.
    """

    def __init__(self, checkpoint: Checkpoint, batches: StampBatches) -> None:
        self.checkpoint = checkpoint
        self.batches = batches

    def on_train_begin(self, net: NeuralNet, **_: Any) -> None:
        self.begun_: list[dict[str, float]] = []  # batches of an epoch that is not complete
        if (state := self.checkpoint.take()) is not None:
            try:
                self._restore(net, state)
            except (KeyError, TypeError, ValueError, RuntimeError) as error:
                raise ValueError(
                    f"{self.checkpoint.path} does not fit the network: delete the file to begin "
                    "anew, or name another checkpoint_dir."
                ) from error
        self.written_, self.cost_ = monotonic(), 0.0

    def on_epoch_begin(self, net: NeuralNet, **_: Any) -> None:
        self.order_ = _order(self.batches)  # the epoch's, before it is drawn
        net.history[-1]["batches"].extend(self.begun_)
        self.begun_ = []

    def on_batch_end(self, net: NeuralNet, training: bool, **_: Any) -> None:
        if training and monotonic() - self.written_ >= _CHECKPOINT_SECONDS:
            self._write(net, self.order_, net.history[-1]["batches"])

    def on_epoch_end(self, net: NeuralNet, **_: Any) -> None:
        if monotonic() - self.written_ >= _LEAST_PER_WRITE * self.cost_:
            self._write(net, _order(self.batches), [])

    def _write(self, net: NeuralNet, order: Any, begun: list[dict[str, float]]) -> None:
        if rank() > 0:
            return
        start = monotonic()
        named, augment_with = dict(net.callbacks_), self.batches.augment_with
        whole = net.history[:-1] if begun else net.history
        state: dict[str, Any] = {
            "network": net.module_.state_dict(),
            "loss": net.criterion_.state_dict(),
            "optimizer": net.optimizer_.state_dict(),
            "schedule": named["schedule"].lr_scheduler_.state_dict(),
            "history": [{k: v for k, v in row.items() if k != "batches"} for row in whole],
            "begun": begun,
            "order": order,
            "augmentation": None if augment_with is None else augment_with.get_state(),
            "generators": read_generators(net.device),
            "bfloat16": net.bfloat16,
        }
        if stop := named.get("early_stopping"):
            state["early_stopping"] = {name: getattr(stop, name) for name in _OF_EARLY_STOPPING}
        self.checkpoint.write(state)
        self.written_ = monotonic()
        self.cost_ = self.written_ - start

    def _restore(self, net: NeuralNet, state: dict[str, Any]) -> None:
        named = dict(net.callbacks_)
        net.bfloat16 = state["bfloat16"]  # as it was measured then
        net.module_.load_state_dict(state["network"])
        net.criterion_.load_state_dict(state["loss"])
        restore_optimizer(net.optimizer_, state["optimizer"])
        named["schedule"].lr_scheduler_.load_state_dict(state["schedule"])
        net.history.extend({**row, "batches": []} for row in state["history"])
        self.begun_, self.batches.done = state["begun"], len(state["begun"])
        if self.batches.generator is not None:
            self.batches.generator.bit_generator.state = state["order"]
        if self.batches.augment_with is not None:
            self.batches.augment_with.set_state(state["augmentation"])
        if stop := named.get("early_stopping"):
            for name in _OF_EARLY_STOPPING:
                setattr(stop, name, state["early_stopping"][name])
        set_generators(state["generators"])


def _order(batches: StampBatches) -> Any:
    return None if batches.generator is None else batches.generator.bit_generator.state


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
        device = torch.device(self.device)
        x = to_device(x, self.device)
        with torch.autocast(device.type, torch.bfloat16, enabled=self.bfloat16):
            return self.module_(x).float()

    def get_loss(self, y_pred: Tensor, y_true: Any, *_: Any, **__: Any) -> Tensor:
        y_pred = gather(y_pred, len(y_true[0]))  # the loss of the whole batch, in all processes
        return self.criterion_(y_pred, *(part.to(y_pred.device) for part in y_true))

    def on_grad_computed(self, net: NeuralNet, named_parameters: Any, **_: Any) -> None:  # noqa: ARG002
        sum_gradients(parameter for _, parameter in named_parameters)

    def on_batch_end(
        self, net: NeuralNet, batch: Any = None, training: bool = False, **_: Any
    ) -> None:
        # skorch weighs a loss by the stamps that are here, which may be a share of the batch
        name = "train" if training else "valid"
        net.history.record_batch(f"{name}_batch_size", len(batch[1][0]))


def train(
    network: nn.Module,
    images: Any,
    targets: tuple[NDArray[Any], ...],
    *,
    loss: nn.Module,
    recipe: Recipe,
    validation_rows: NDArray[np.int64] | None = None,
    checkpoint: Checkpoint | None = None,
) -> list[dict[str, float]]:
    """Train a network in place.

    Parameters
    ----------
    network : nn.Module
        Raw pixels (n, bands, height, width) to outputs.
    images : array-like of shape (n, bands, height, width)
    targets : tuple of arrays of length n
        What the loss takes behind the outputs.
    loss : nn.Module
        (outputs, *targets) to a scalar.
    recipe : Recipe
    validation_rows : int array, default=None
        Rows kept apart for the validation loss.
    checkpoint : Checkpoint, default=None
        Is gone on from, and written after each epoch (of short ones after several, so that it
        takes at most 5 % of the time) and every three minutes within longer ones. To remove it
        is the caller's.

    Returns
    -------
    history : list of dict
        ``epoch``, ``train_loss``, ``lr`` (the mean), ``dur`` (seconds) and, with validation
        rows, ``valid_loss``; one for each epoch.

    Notes
    -----
    The caller holds `seeded`, so that weights and dropout are reproducible.
    """
    keep_memory()
    rows = np.arange(len(images))
    if validation_rows is not None:
        rows = np.setdiff1d(rows, validation_rows)
    generator = np.random.default_rng(recipe.seed)
    augment_with = torch.Generator().manual_seed(recipe.seed) if recipe.augment else None
    batches = StampBatches(
        images, targets, rows, recipe.batch_size, generator=generator, augment_with=augment_with
    )
    validation = None
    if validation_rows is not None:
        validation = StampBatches(images, targets, validation_rows, recipe.batch_size)
    if recipe.max_epochs > 0:
        shape = tuple(images.shape[1:])
        net = _make_net(network, loss, recipe, shape, len(batches), validation)
        if checkpoint is not None:
            net.callbacks_.append(("checkpoint", _Saving(checkpoint, batches)))
        # not `fit`: it swallows a keyboard interrupt, and half a training looks like a whole one
        net.notify("on_train_begin", X=batches, y=validation)
        with together(network, recipe.seed, _job(net, batches, validation)):
            _fit_loop(net, batches, validation)
        net.notify("on_train_end", X=batches, y=validation)
        history = [_public(row) for row in net.history]
    else:
        history = []
    prepare_for_inference(network)
    return history


def _job(net: NeuralNet, batches: StampBatches, validation: StampBatches | None) -> Job:
    """Say what processes that train together must have in common."""
    parts = [batches] if validation is None else [batches, validation]
    return Job(
        smallest_batch=min(len(part.rows) // len(part) for part in parts),
        facts={
            "the shape of X": tuple(batches.images.shape),
            "max_epochs": net.max_epochs,
            "the learning rate": net.lr,
            "the number of batches": [len(part) for part in parts],
            "the number of epochs in checkpoint_dir": len(net.history),
        },
        arrays={"the targets": batches.targets, "the rows": tuple(part.rows for part in parts)},
    )


def _fit_loop(net: NeuralNet, batches: StampBatches, validation: StampBatches | None) -> None:
    try:
        net.fit_loop(batches, validation, epochs=net.max_epochs - len(net.history))
    except KeyboardInterrupt:
        # skorch's way to stop early; any other is a person's, who wants no half-trained network
        stop = dict(net.callbacks_).get("early_stopping")
        if stop is None or stop.misses_ < stop.patience:
            raise


def _make_net(
    network: nn.Module,
    loss: nn.Module,
    recipe: Recipe,
    shape: tuple[int, int, int],
    n_batches: int,
    validation: StampBatches | None,
) -> NeuralNet:
    device = resolve_device(recipe.device)
    bfloat16 = uses_bfloat16(recipe.precision, network, device, image_shape=shape, training=True)
    verbose = recipe.verbose if rank() == 0 else 0
    schedule = LRScheduler(
        torch.optim.lr_scheduler.OneCycleLR,
        step_every="batch",
        max_lr=recipe.learning_rate,
        total_steps=recipe.max_epochs * n_batches + 1,
    )
    callbacks: list[Any] = [
        ("schedule", schedule),
        ("lr", PassthroughScoring("event_lr", on_train=True)),
    ]
    if validation is not None and recipe.patience is not None:
        stop = EarlyStopping(patience=recipe.patience, load_best=True, sink=_silent)
        callbacks.append(("early_stopping", stop))
    net = _StampNet(
        network.to(memory_format=torch.channels_last),
        criterion=loss,
        optimizer=torch.optim.AdamW,
        optimizer__weight_decay=recipe.weight_decay,
        optimizer__fused=True,
        lr=recipe.learning_rate,
        max_epochs=recipe.max_epochs,
        train_split=None,
        callbacks=callbacks,
        callbacks__print_log=PrintLog(keys_ignored=["event_lr"]) if verbose else None,
        device=device,
        bfloat16=agree(bfloat16),
        verbose=verbose,
    )
    net.set_params(**recipe.net_params)
    net.initialize()
    return net


def _silent(*_: Any) -> None:
    """Drop what a callback would print."""


def _public(row: dict[str, Any]) -> dict[str, float]:
    names = ("epoch", "train_loss", "valid_loss", "event_lr", "dur")
    return {name.removeprefix("event_"): row[name] for name in names if name in row}


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Seed torch's global generators inside, and give them back as they were."""
    with _TRAINING, torch.random.fork_rng():
        torch.manual_seed(seed)
        yield
