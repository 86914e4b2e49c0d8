"""What is learned from predictions of labelled rows that were left out of a fit.

These are the choice of strategy "auto", how much a probe and a fine-tuned network count, and the
thresholds of the sets of classes that `SelfSupervisedClassifier.predict_set` returns.
"""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass, replace
from numbers import Real
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from skastro.utils.validation import count_independent_rows, stratified_folds

Fold = tuple[NDArray[np.int64], NDArray[np.int64]]  # rows to learn from, rows to predict
_NETWORK_SHARES = (0.0, 1 / 3, 2 / 3, 1.0)  # to compare
_LOOK_DEVIATIONS = 1.0  # standard errors by which networks may be worse at the early look
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


def find_predicted(by_network: NDArray[np.float64]) -> NDArray[np.int64]:
    """Return the numbers of the rows that a network has predicted: without NaN."""
    return np.flatnonzero(~np.isnan(by_network).any(axis=1))


def may_help(
    part: LabelledRows,
    by_network: NDArray[np.float64],
    by_probes: list[NDArray[np.float64]],
    test: NDArray[np.int64],
) -> bool:
    """Return whether networks may be of use, by the rows of one fold, ``part`` or ``test`` of all.

    That is where a mean with the first network is better than one of the probes, or worse by less
    than chance explains.
    """
    for by_probe in by_probes:
        losses = [
            _row_losses((1 - share) * by_probe[test] + share * by_network, part.codes)
            for share in _NETWORK_SHARES
        ]
        for loss in losses[1:]:
            excess = part.weights * (loss - losses[0])
            noise = excess.std(ddof=1) / math.sqrt(len(excess))
            if excess.mean() < _LOOK_DEVIATIONS * noise:
                return True
    return False


def explain_choice(
    rows: LabelledRows,
    n_folds: int,
    share: float,
    losses: dict[float, float],
    looked: NDArray[np.int64] | None,
) -> str:
    """Return a sentence that says what strategy "auto" chose and why.

    ``share`` is that of the network, ``losses`` are those of `compare_shares`, and ``looked`` the
    rows of these losses.
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
    if looked is not None and len(looked) < len(rows.codes):
        return (
            f"Strategy auto uses the probe alone, after an early look at one fold of {n_folds}: on "
            f"its {len(looked):,} of {len(rows.codes):,} labels a fine-tuned network does not "
            f"lower the log loss ({', '.join(compared)}), and no other network was trained."
        )
    chosen = names.get(share, f"{share:.0%} fine-tuned network and {1 - share:.0%} probe")
    return (
        f"Strategy auto uses {chosen}, which has the least log loss in {n_folds}-fold "
        f"cross-validation of {len(rows.codes):,} labels: {', '.join(compared)}."
    )


def compare_shares(
    rows: LabelledRows, by_probe: NDArray[np.float64], by_network: NDArray[np.float64]
) -> dict[float, float]:
    """Return, for each share of a network, the weighted log loss of its mean with a probe.

    Both are probabilities (n, k) of all rows, predicted by models that were not trained on them.
    """
    losses = {}
    for share in _NETWORK_SHARES:
        mean = (1 - share) * by_probe + share * by_network
        losses[share] = float(np.average(_row_losses(mean, rows.codes), weights=rows.weights))
    return losses


@dataclass(frozen=True)
class SetCalibration:
    """Probabilities of labelled rows that were left out, which give the thresholds of sets."""

    codes: NDArray[np.int64]  # (n,), classes as numbers from 0 on
    own: NDArray[np.float64]  # (n,), the probability of the class of each row

    @classmethod
    def measure(cls, codes: NDArray[np.int64], probabilities: NDArray[np.float64]) -> Self:
        """Return the calibration by probabilities (n, k) of rows that were left out."""
        return cls(codes, _take_own(probabilities, codes))

    def choose_sets(
        self, probabilities: NDArray[np.float64], coverage: float, classes: NDArray[Any]
    ) -> NDArray[np.bool_]:
        """Return the sets that `SelfSupervisedClassifier.predict_set` describes, (m, k)."""
        # the smallest probability of the true class that is exceeded with the wanted coverage:
        # conformal prediction, class by class (Vovk 2012), with order statistics interpolated
        own = [self.own[self.codes == code] for code in range(len(classes))]
        least = np.array([_find_quantile(values, 1 - coverage) for values in own])
        # few labels of a class promise nothing: take the lower of their minimum and of all rows
        needed = math.ceil(1 / (1 - coverage) - 1 - 1e-9)
        few = [code for code, values in enumerate(own) if len(values) < needed]
        if few:
            least[few] = np.minimum(least[few], _find_quantile(self.own, 1 - coverage))
            names = ", ".join(repr(classes.item(code)) for code in few)
            warnings.warn(
                f"{coverage:.0%} of a class cannot be promised from fewer than {needed} labels of "
                f"it, but {names} has {min(len(own[code]) for code in few)}: label more of it, or "
                "ask for a smaller coverage.",
                stacklevel=3,
            )
        sets = probabilities >= least
        sets[np.arange(len(sets)), probabilities.argmax(axis=1)] = True
        return sets


def find_calibration(classifier: Any, coverage: float, catalog: Any) -> SetCalibration:
    """Return what a fitted classifier needs for sets, with or without a catalogue.

    A coverage that is not between 0 and 1, and a classifier that has no calibration, are a
    ValueError.
    """
    if not (isinstance(coverage, Real) and 0 < coverage < 1):
        raise ValueError(f"coverage={coverage!r} must be between 0 and 1, such as 0.9.")
    by_catalog = catalog is not None and classifier.catalog_probe_ is not None
    found = classifier.catalog_calibration_ if by_catalog else classifier.calibration_
    if found is not None:
        return found
    if classifier.probe_ is None and classifier.network_ is None:
        reason = "has learned from no label: pass labels to fit"
    elif classifier.strategy in ("finetune", "scratch"):
        reason = (
            f"was fitted with strategy={classifier.strategy!r}, which leaves no label out: fit it "
            "with 'auto' or 'probe'"
        )
    else:
        reason = "comes from a file of a version of skastro without predict_set: fit it again"
    raise ValueError(
        f"predict_set needs predictions of labels that were left out, but this classifier {reason}."
    )


def _row_losses(probabilities: NDArray[np.float64], codes: NDArray[np.int64]) -> Any:
    """Return the log loss of each row."""
    return -np.log(np.maximum(_take_own(probabilities, codes), 1e-12))


def _take_own(probabilities: NDArray[np.float64], codes: NDArray[np.int64]) -> Any:
    """Return the probability of the class of each row."""
    return np.take_along_axis(probabilities, codes[:, None], axis=1)[:, 0]


def _find_quantile(values: NDArray[np.float64], share: float) -> float:
    """Return the value below which the next one falls with a probability, within the range."""
    return float(np.quantile(values, share, method="weibull"))
