"""Regression losses that skip what was not measured and weigh what was."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional

_ELEMENTWISE: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "huber": lambda prediction, target: functional.huber_loss(prediction, target, reduction="none"),
    "mae": lambda prediction, target: functional.l1_loss(prediction, target, reduction="none"),
    "mse": lambda prediction, target: functional.mse_loss(prediction, target, reduction="none"),
}


class PropertyLoss(nn.Module):
    """Mean over measured properties of an elementwise loss, weighted.

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
        if not callable(loss) and loss not in _ELEMENTWISE:
            raise ValueError(f"loss={loss!r} is unknown: use one of {sorted(_ELEMENTWISE)}.")
        self.elementwise = loss if callable(loss) else _ELEMENTWISE[loss]

    def forward(self, prediction: Tensor, target: Tensor, weight: Tensor) -> Tensor:
        """Return the scalar loss of (n, p) predictions; NaN targets count for nothing."""
        measured = ~torch.isnan(target)
        weight = weight * measured
        # a NaN target would poison the gradient even under a weight of zero
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
