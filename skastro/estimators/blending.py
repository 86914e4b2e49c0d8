"""The choice of strategy "auto": how much a probe and a fine-tuned network count."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.model_selection import cross_val_predict

from skastro.estimators.kernel_probe import KernelProbe
from skastro.utils.validation import count_independent_rows, stratified_folds

Fold = tuple[NDArray[np.int64], NDArray[np.int64]]  # rows to learn from, rows to predict
_NETWORK_SHARES = (0.0, 1 / 3, 2 / 3, 1.0)  # to compare
_MIN_CLASS_ROWS = 10  # labels of the smallest class; with fewer, chance would decide


@dataclass(frozen=True)
class LabelledRows:
    """What a classifier learns from: n labelled stamps."""

    images: Any  # (n, bands, height, width)
    labels: NDArray[Any]  # (n,)
    codes: NDArray[np.int64]  # (n,), classes as numbers from 0 on
    weights: NDArray[np.float64]  # (n,)
    groups: NDArray[np.int64] | None = None  # (n,), rows that stay together in cross-validation
    embeddings: NDArray[np.float32] | None = None  # (n, d), for networks that were pretrained

    def take(self, rows: NDArray[np.int64]) -> Self:
        """Return some of the rows."""
        parts = {name: part[rows] for name, part in vars(self).items() if part is not None}
        return replace(self, **parts)


def make_folds(rows: LabelledRows, n_folds: int, seed: int) -> list[Fold]:
    """Split labelled rows for cross-validation; no fold if a class has too few of them."""
    too_few = np.bincount(rows.codes).min() < max(n_folds, _MIN_CLASS_ROWS)
    if too_few or count_independent_rows(rows.codes, rows.groups) < n_folds:
        return []
    folds = stratified_folds(rows.codes, n_folds, groups=rows.groups, seed=seed)
    # groups can leave a fold without one of the classes
    return folds if len(folds) == n_folds else []


def explain_choice(
    rows: LabelledRows, n_folds: int, share: float, losses: dict[float, float]
) -> str:
    """Return a sentence that says what strategy "auto" chose and why.

    ``share`` is that of the network, and ``losses`` are those of `compare_shares`.
    """
    if not losses:
        smallest = int(np.bincount(rows.codes).min())
        needed = max(n_folds, _MIN_CLASS_ROWS)
        reason = f"the smallest class has {smallest} labels, and a comparison needs {needed}"
        if smallest >= needed:
            reason = f"the groups cannot be split into {n_folds} folds that all have every class"
        return f"Strategy auto uses the probe alone, without a comparison: {reason}."
    names = {0.0: "the probe alone", 1.0: "the fine-tuned network alone"}
    compared = [
        f"{loss:.3f} by {names.get(s, f'{s:.0%} network and {1 - s:.0%} probe')}"
        for s, loss in losses.items()
    ]
    chosen = names.get(share, f"{share:.0%} fine-tuned network and {1 - share:.0%} probe")
    return (
        f"Strategy auto uses {chosen}, which has the least log loss in {n_folds}-fold "
        f"cross-validation of {len(rows.codes):,} labels: {', '.join(compared)}."
    )


def compare_shares(
    rows: LabelledRows,
    folds: list[Fold],
    probe: KernelProbe,
    columns: NDArray[np.float64],
    by_network: NDArray[np.float64],
) -> dict[float, float]:
    """Return, for each share of a network, the weighted log loss of its mean with a probe.

    The probe learns from ``columns``. ``by_network`` are the probabilities (n, k) of all rows, each
    predicted by a network that was not trained on it.
    """
    by_probe = cross_val_predict(probe, columns, rows.labels, cv=folds, method="predict_proba")
    losses = {}
    for share in _NETWORK_SHARES:
        mean = (1 - share) * by_probe + share * by_network
        true = np.take_along_axis(mean, rows.codes[:, None], axis=1)[:, 0]
        log_likelihood = np.average(np.log(np.maximum(true, 1e-12)), weights=rows.weights)
        losses[share] = -float(log_likelihood)
    return losses
