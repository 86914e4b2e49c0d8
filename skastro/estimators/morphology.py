"""What a network that learned from simulation says about a stamp: properties and kinds."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import pandas as pd
import torch
from numpy.typing import ArrayLike, NDArray
from scipy.special import softmax
from torch import Tensor

# properties that are regressed as a square root or a logarithm, and those that lie in 0 ... 1
_ROOTS = frozenset(
    ("bar", "ring", "outer_ring", "clumpiness", "dust", "lopsidedness", "core_fraction")
)
_LOGARITHMS = frozenset(
    ("pitch_angle", "sersic_index", "half_light_radius", "effective_radius", "length", "lobe_width")
)
_SHARES = _ROOTS | frozenset(
    ("bulge_fraction", "arm_strength", "flocculence", "bar_length", "perturbation", "axis_ratio",
     "merging", "edge_brightening", "flux_ratio")
)  # fmt: skip
# other names of kinds, without case, blanks and punctuation
_SYNONYMS = {
    "elliptical": ("e", "ell"),
    "lenticular": ("s0",),
    "spiral": ("s", "sp"),
    "irregular": ("i", "im", "irr"),
    "dwarf": ("dw",),
    "compact": ("unresolved", "pointlike"),
    "fr1": ("fri",),
    "fr2": ("frii",),
    "bent": ("benttail", "benttailed"),
}
_ENDINGS = re.compile("(galaxy|galaxies|source|type|s)+$")


@dataclass(frozen=True)
class MorphologyTargets:
    """Names, scales and units of p simulated properties, and the names of k kinds of sources.

    Examples
    --------
    >>> truth = {"bar": torch.tensor([0.04, 0.0, 0.36]), "dust": torch.tensor([0.0, 0.09, 0.01])}
    >>> targets = MorphologyTargets.fit(truth, {}, ("spiral", "irregular"))
    >>> outputs = np.hstack([targets.standardise(truth), np.full((3, 2), -5.0), np.zeros((3, 2))])
    >>> targets.restore(outputs).round(2)["bar"].tolist()
    [0.04, 0.0, 0.36]
    """

    properties: tuple[str, ...]
    kinds: tuple[str, ...]
    center: NDArray[np.float64]  # (p,) of the transformed values
    scale: NDArray[np.float64]
    units: dict[str, str]

    @classmethod
    def fit(
        cls, truth: Mapping[str, Tensor], units: Mapping[str, str], kinds: tuple[str, ...]
    ) -> Self:
        """Measure the mean and the spread of transformed properties; NaN is ignored."""
        values = np.column_stack([_transform(name, value) for name, value in truth.items()])
        scale = np.nanstd(values, axis=0)
        named = {name: unit for name, unit in units.items() if name in truth and unit}
        return cls(tuple(truth), kinds, np.nanmean(values, axis=0), scale, named)

    @property
    def names(self) -> list[str]:
        """Names of all columns of `restore`: the properties, then the kinds."""
        return [*self.properties, *self.kinds]

    def standardise(self, truth: Mapping[str, Tensor]) -> Tensor:
        """Return standardised properties (n, p); NaN stays NaN."""
        values = np.column_stack([_transform(name, truth[name]) for name in self.properties])
        return torch.from_numpy((values - self.center) / self.scale).float()

    def restore(self, outputs: NDArray[Any]) -> pd.DataFrame:
        """Return properties in units, and probabilities of kinds, of outputs (n, 2p + k)."""
        values, sigma = self._unpack(outputs)
        columns = {
            name: _invert(name, values[:, k], sigma[:, k]) for k, name in enumerate(self.properties)
        }
        return self._tabulate(columns, self._probabilities(outputs))

    def spread(self, outputs: NDArray[Any]) -> pd.DataFrame:
        """Return the uncertainty of one sigma of each column of `restore`, in its units."""
        values, sigma = self._unpack(outputs)
        columns = {
            name: _invert_spread(name, values[:, k], sigma[:, k])
            for k, name in enumerate(self.properties)
        }
        probabilities = self._probabilities(outputs)
        return self._tabulate(columns, np.sqrt(probabilities * (1 - probabilities)))

    def _unpack(self, outputs: NDArray[Any]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return the transformed values (n, p) and their standard deviations."""
        n = len(self.properties)
        values = outputs[:, :n] * self.scale + self.center
        return values, np.exp(outputs[:, n : 2 * n].clip(-4, 3)) * self.scale

    def _probabilities(self, outputs: NDArray[Any]) -> NDArray[np.float64]:
        logits = outputs[:, 2 * len(self.properties) :].astype(np.float64)
        probabilities: NDArray[np.float64] = softmax(logits, axis=1)
        return probabilities

    def _tabulate(
        self, columns: dict[str, NDArray[Any]], of_kinds: NDArray[np.float64]
    ) -> pd.DataFrame:
        columns |= dict(zip(self.kinds, of_kinds.T, strict=True))
        table = pd.DataFrame(columns, dtype=np.float64)
        table.attrs["units"] = dict(self.units)
        return table


def rescale_kinds(probabilities: ArrayLike) -> NDArray[np.float64]:
    """Return probabilities of some kinds (n, k), each row divided by its sum.

    >>> rescale_kinds([[0.1, 0.3], [0.0, 0.0]])
    array([[0.25, 0.75],
           [0.5 , 0.5 ]])
    """
    shares = np.asarray(probabilities, dtype=float) + np.finfo(np.float32).tiny
    return shares / shares.sum(axis=1, keepdims=True)


def find_kinds(classes: Sequence[Any], kinds: Sequence[str]) -> list[str] | None:
    """Return which kind of simulated source each class is, by its name or a usual synonym.

    None unless each class is a kind of its own.

    Examples
    --------
    >>> kinds = ("elliptical", "lenticular", "spiral", "irregular", "dwarf")
    >>> find_kinds(["E", "S0", "Spiral galaxies"], kinds)
    ['elliptical', 'lenticular', 'spiral']
    >>> find_kinds(["star", "spiral"], kinds) is None, find_kinds(["FR-I", "FRII"], ("fr1", "fr2"))
    (True, ['fr1', 'fr2'])
    """
    names = {name: kind for kind in kinds for name in (kind, *_SYNONYMS.get(kind, ()))}
    found = []
    for label in classes:
        plain = re.sub(r"[\W_]", "", str(label)).lower()
        found.append(names.get(plain) or names.get(_ENDINGS.sub("", plain)))
    known = [kind for kind in found if kind is not None]
    return known if len(set(known)) == len(found) else None


def explained_share(values: pd.DataFrame, spread: pd.DataFrame) -> float:
    """Return the share of the variance among stamps that a network knows, by its own account.

    That is the variance of its predictions over the sum of this and of its mean squared
    uncertainty, averaged over the columns; ``values`` and ``spread`` are those of `predict`.

    Examples
    --------
    >>> values, spread = pd.DataFrame({"dust": [0.0, 2.0]}), pd.DataFrame({"dust": [1.0, 1.0]})
    >>> explained_share(values, spread)
    0.5
    """
    known = values.to_numpy().var(axis=0)
    unknown = (spread.to_numpy() ** 2).mean(axis=0)
    return float(np.mean(known / np.maximum(known + unknown, np.finfo(float).tiny)))


def tabulate_morphology(encoder: Any, embeddings: NDArray[Any]) -> pd.DataFrame:
    """Return what an encoder of `load_pretrained` says by embeddings, and the probable kind.

    ``kind`` is the first column. Units are in ``attrs["units"]``, and the columns of the
    probabilities of kinds in ``attrs["kinds"]``.
    """
    table = encoder.predict_embedded(embeddings)
    kinds = np.array(encoder.targets_.kinds)
    table.attrs["kinds"] = kinds.tolist()
    table.insert(0, "kind", kinds[table[list(kinds)].to_numpy().argmax(axis=1)])
    return table


def _transform(name: str, values: Tensor) -> NDArray[np.float64]:
    numbers = values.cpu().numpy().astype(np.float64)
    if name in _ROOTS:
        return np.sqrt(numbers)
    return np.log(numbers) if name in _LOGARITHMS else numbers


def _invert(name: str, values: NDArray[Any], sigma: NDArray[Any]) -> NDArray[Any]:
    """Return a property from its transformed values: the mean of a square, the median else."""
    if name in _ROOTS:
        values = values**2 + sigma**2
    elif name in _LOGARITHMS:
        values = np.exp(values)
    return values.clip(0, 1) if name in _SHARES else values


def _invert_spread(name: str, values: NDArray[Any], sigma: NDArray[Any]) -> NDArray[Any]:
    """Return the standard deviation of a property, for a normal distribution before `_invert`."""
    if name in _ROOTS:
        spread: NDArray[Any] = np.sqrt(4 * values**2 * sigma**2 + 2 * sigma**4)
        return spread
    return np.exp(values) * np.sinh(sigma) if name in _LOGARITHMS else sigma
