"""The training loop: a skorch net over whole batches of stamps; the only home of skorch."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from skorch import NeuralNet
from skorch.callbacks import EarlyStopping, LRScheduler, PrintLog
from torch import Tensor, nn

from skastro._validation import read_stamps
from skastro.augmentation import augment
from skastro.hardware import keep_memory, resolve_device, uses_bfloat16
from skastro.inference import prepare_for_inference

# a pretext that is trained on and on overfits: on SDSS and EFIGI stamps, pools of 300 to 2,100 gave
# the best representations after 200 to 400 batches (docs/backbones.md)
_PRETEXT_BATCHES = 300
_LEAST_EPOCHS, _MOST_EPOCHS = 6, 50

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
    """

    def __init__(
        self,
        images: Any,
        targets: tuple[NDArray, ...],
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

    def __len__(self) -> int:
        return self.n_batches

    def __iter__(self) -> Iterator[tuple[Tensor, tuple[Tensor, ...]]]:
        rows = self.rows if self.generator is None else self.generator.permutation(self.rows)
        for chosen in np.array_split(rows, self.n_batches):
            stamps = torch.from_numpy(read_stamps(self.images, chosen))
            if self.augment_with is not None:
                stamps = augment(stamps, self.augment_with)
            targets = tuple(torch.from_numpy(target[chosen]) for target in self.targets)
            yield stamps, targets


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
        x = x.to(device, memory_format=torch.channels_last)
        with torch.autocast(device.type, torch.bfloat16, enabled=self.bfloat16):
            return self.module_(x).float()

    def get_loss(self, y_pred: Tensor, y_true: Any, *_: Any, **__: Any) -> Tensor:
        return self.criterion_(y_pred, *(part.to(y_pred.device) for part in y_true))


def train(
    network: nn.Module,
    images: Any,
    targets: tuple[NDArray, ...],
    *,
    loss: nn.Module,
    recipe: Recipe,
    validation_rows: NDArray[np.int64] | None = None,
    learning_rates: Callable[[nn.Module], list[dict[str, Any]]] | None = None,
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
    learning_rates : callable, default=None
        Network to AdamW's parameter groups, each with its ``lr``.

    Returns
    -------
    history : list of dict
        ``epoch``, ``train_loss``, ``lr``, ``dur`` (seconds) and, with validation rows,
        ``valid_loss``; one for each epoch.

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
        net = _make_net(network, loss, recipe, shape, len(batches), validation, learning_rates)
        # not `fit`: it swallows a keyboard interrupt, and half a training looks like a whole one
        net.notify("on_train_begin", X=batches, y=validation)
        _fit_loop(net, batches, validation)
        net.notify("on_train_end", X=batches, y=validation)
        history = [_public(row) for row in net.history]
    else:
        history = []
    prepare_for_inference(network)
    return history


def _fit_loop(net: NeuralNet, batches: StampBatches, validation: StampBatches | None) -> None:
    try:
        net.fit_loop(batches, validation)
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
    learning_rates: Callable[[nn.Module], list[dict[str, Any]]] | None,
) -> NeuralNet:
    device = resolve_device(recipe.device)
    groups = learning_rates(network) if learning_rates else None
    schedule = LRScheduler(
        torch.optim.lr_scheduler.OneCycleLR,
        step_every="batch",
        max_lr=[g["lr"] for g in groups] if groups else recipe.learning_rate,
        total_steps=recipe.max_epochs * n_batches + 1,
    )
    callbacks: list[Any] = [("schedule", schedule)]
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
        callbacks__print_log=PrintLog() if recipe.verbose else None,
        device=device,
        bfloat16=uses_bfloat16(recipe.precision, network, device, trained_on=shape),
        verbose=recipe.verbose,
    )
    net.set_params(**recipe.net_params)
    if groups:
        net.set_params(optimizer=lambda _, **options: torch.optim.AdamW(groups, **options))
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
