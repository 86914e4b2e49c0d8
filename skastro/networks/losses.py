"""Losses of properties, which may be missing, and of classes; both with weights."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional

_LOSSES: dict[str, Callable[..., Tensor]] = {
    "huber": functional.huber_loss, "mae": functional.l1_loss, "mse": functional.mse_loss,
}  # fmt: skip


class PropertyLoss(nn.Module):
    """Weighted mean of an elementwise loss over the properties that were measured.

    Parameters
    ----------
    loss : {"huber", "mae", "mse"} or callable
        A callable maps (prediction, target), both (n, p), to the loss of each element (n, p).

    Examples
    --------
    >>> loss = PropertyLoss("mae")
    >>> target = torch.tensor([[1.0, float("nan")], [2.0, 4.0]])
    >>> loss(torch.zeros(2, 2), target, torch.tensor([[1.0, 1.0], [1.0, 0.5]])).item()
    2.0
    """

    def __init__(self, loss: str | Callable[[Tensor, Tensor], Tensor] = "huber") -> None:
        super().__init__()
        if not callable(loss) and loss not in _LOSSES:
            raise ValueError(f"loss={loss!r} is unknown: use one of {sorted(_LOSSES)}.")
        self.elementwise = loss if callable(loss) else partial(_LOSSES[loss], reduction="none")

    def forward(self, prediction: Tensor, target: Tensor, weight: Tensor) -> Tensor:
        """Return the scalar loss of (n, p) predictions; NaN targets are left out."""
        measured = ~torch.isnan(target)
        weight = weight * measured
        # a NaN target makes the gradient NaN, even with a weight of zero
        loss = self.elementwise(prediction, torch.where(measured, target, 0.0))
        return (weight * loss).sum() / weight.sum().clamp(min=1e-6)


class ClassLoss(nn.Module):
    """Weighted cross-entropy on logits, with label smoothing.

    Parameters
    ----------
    label_smoothing : float, default=0.1
        Share of the target's mass that is spread over all classes (Szegedy et al. 2016).

    Examples
    --------
    >>> loss = ClassLoss(label_smoothing=0.0)
    >>> round(loss(torch.zeros(1, 2), torch.tensor([1]), torch.ones(1)).item(), 4)
    0.6931
    """

    def __init__(self, label_smoothing: float = 0.1) -> None:
        super().__init__()
        self.label_smoothing = label_smoothing

    def forward(self, logits: Tensor, code: Tensor, weight: Tensor) -> Tensor:
        """Return the scalar loss of (n, k) logits for (n,) class codes and weights."""
        loss = functional.cross_entropy(
            logits, code, reduction="none", label_smoothing=self.label_smoothing
        )
        return (weight * loss).sum() / weight.sum().clamp(min=1e-6)
