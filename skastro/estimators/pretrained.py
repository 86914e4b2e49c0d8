"""Encoders whose weights are part of skastro: load them, list them, and export new ones."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from scipy.stats import spearmanr
from sklearn.frozen import FrozenEstimator
from sklearn.metrics import balanced_accuracy_score, r2_score, recall_score
from torch import Tensor

from skastro.estimators.encoder import PropertyPretrainedEncoder
from skastro.estimators.morphology import MorphologyTargets, explained_share, find_kinds
from skastro.estimators.saving import load_encoder, pack_encoder
from skastro.estimators.teaching import LESSONS, draw_chunk
from skastro.estimators.training_statistics import measure_spread
from skastro.networks.inference import prepare_for_inference
from skastro.networks.teacher import TeacherNetwork
from skastro.networks.weights import (
    PRETRAINED,
    find_pretrained,
    hash_file,
    read_encoder,
    write_encoder,
)

_BANDS = "1 or more, in the order of wavelength"
# numbers of chunks of simulated stamps that no training draws
_STANDARDISING_CHUNKS = range(2**41, 2**41 + 32)
_TEST_CHUNKS = range(2**42, 2**42 + 64)
_MAX_ROUNDING = 1e-2  # of standardised outputs, by weights in half precision
_N_RESAMPLINGS = 100
_MIN_SIDE = 16  # pixels of a stamp that can show the structure of a source
_N_COMPARED = 1000  # stamps by which teachers are compared without labels
_N_TRIED = 300  # by which a teacher is chosen instead of a pretraining
# odds that a teacher helps to classify: 1 at this share of known variance, and its power
_EVEN_SHARE, _ODDS_POWER, _MAX_ODDS = 0.4, 8, 100.0
_WEAK_R2 = 0.3


def load_pretrained(name: str = "galaxies") -> PropertyPretrainedEncoder:
    """Load an encoder that has learned from simulated sources, and needs no training.

    Its weights are part of skastro: nothing is downloaded, and no code in the file is executed.
    It takes stamps of 1 or more bands, of any size and in any unit. The sky is measured on their
    borders, and the source has to be in the middle.

    Parameters
    ----------
    name : str, default="galaxies"
        A name of `list_pretrained`.

    Returns
    -------
    encoder : PropertyPretrainedEncoder
        Fitted. ``transform`` returns float32 (n, d), standardised on simulated stamps, and
        ``predict`` the structure of the sources with units and the probability of each kind;
        ``predict(X, return_std=True)`` adds the uncertainties. 2-D rows need
        ``set_params(image_shape=...)``. A clone is not fitted: its ``fit`` trains an encoder for
        stamps of one shape that begins with these weights.

    Raises
    ------
    ValueError
        The name is unknown, or the file is not the one that was released.

    See Also
    --------
    make_galaxies : The simulated galaxies, with the meaning of each property.

    Notes
    -----
    The network wants bands in the order of wavelength. Bands whose names are those of filters
    (``X.bands``) are sorted. Stamps of three bands whose pixels are those of pictures (uint8, or
    floats of 0 to 1, or whole numbers of 0 to 255, that reach at least half of white) have red
    first, and are turned around. All other stamps are taken to be in order.

    Examples
    --------
    >>> from skastro import load_pretrained, make_galaxies
    >>> galaxies = make_galaxies(8, image_size=32)
    >>> encoder = load_pretrained("galaxies")
    >>> encoder.transform(galaxies.images).shape
    (8, 259)
    >>> morphology, uncertainty = encoder.predict(galaxies.images, return_std=True)
    >>> morphology.attrs["units"]["inclination"], bool((uncertainty["inclination"] > 0).all())
    ('deg', True)
    """
    return load_encoder(PropertyPretrainedEncoder, find_pretrained(name), None)


def list_pretrained() -> pd.DataFrame:
    """List the weights that are part of skastro, with what they know and how they were made.

    Returns
    -------
    weights : DataFrame
        A row for each file, with the columns ``name``; ``knows`` (list of str), the columns that
        its encoder predicts; ``bands`` (str); ``bytes`` (int), the size of the file; ``n_stamps``
        (int), the number of simulated stamps that it has seen; ``command`` (str), which makes it
        again; and ``date`` (str).

    Examples
    --------
    >>> from skastro import list_pretrained
    >>> weights = list_pretrained().set_index("name")
    >>> "bulge_fraction" in weights.loc["galaxies", "knows"]
    True
    """
    rows = []
    for name in PRETRAINED:
        path = find_pretrained(name)
        document = read_encoder(path)[1]
        targets, card = document["targets"], document["card"]
        rows.append({
            "name": name, "knows": targets["properties"] + targets["kinds"], "bands": _BANDS,
            "bytes": path.stat().st_size, **{k: card[k] for k in ("n_stamps", "command", "date")},
        })  # fmt: skip
    return pd.DataFrame(rows)


def check_teacher(given: Any) -> None:
    """Refuse what is no teacher as the parameter ``pretrained`` of a classifier."""
    is_frozen = isinstance(given, FrozenEstimator)
    if hasattr(given, "network_") and not is_frozen:
        raise ValueError(
            "pretrained is a fitted encoder, which clone() would empty: pass "
            "FrozenEstimator(encoder), or a name of list_pretrained()."
        )
    if is_frozen and getattr(given.estimator, "image_shape_", ()) is not None:
        raise ValueError(
            f"pretrained={given!r} is no encoder of load_pretrained(): pass one, or "
            "this as encoder=."
        )


def load_teachers(
    pretrained: str | FrozenEstimator, images: Any
) -> dict[str, PropertyPretrainedEncoder]:
    """Load the encoders that ``pretrained`` of `SelfSupervisedClassifier` stands for, by name.

    "auto" leaves out those that are not made for such ``images`` (None: leaves out none).
    """
    if isinstance(pretrained, FrozenEstimator):
        return {str(pretrained.estimator.weights): pretrained.estimator}
    names = [pretrained]
    if pretrained == "auto":
        names = list(PRETRAINED)
        if images is not None:
            # radio images have one band
            large, one_band = min(images.shape[2:]) >= _MIN_SIDE, images.shape[1] == 1
            names = [name for name in names if large and (one_band or name != "radio")]
    return {name: load_pretrained(name) for name in names}


def choose_kinds(
    teachers: Sequence[Any], classes: Sequence[Any] | None, images: Any
) -> tuple[NDArray[Any], list[str]]:
    """Return classes that teachers know without a label, and the kinds of sources that they are.

    ``classes`` of None stands for all kinds of the teacher that sees most in ``images``. Classes
    that no teacher knows are a ValueError.
    """
    if classes is None:
        best = teachers[0]
        if len(teachers) > 1:
            sample = images[:: -(-len(images) // _N_COMPARED)]
            best = max(
                teachers, key=lambda each: explained_share(*each.predict(sample, return_std=True))
            )
        return np.array(best.targets_.kinds), list(best.targets_.kinds)
    for teacher in teachers:
        found = find_kinds(classes, teacher.targets_.kinds)
        if found is not None and len(found) > 1:
            return np.array(classes), found
    known = "; ".join(", ".join(teacher.targets_.kinds) for teacher in teachers)
    raise ValueError(
        f"classes={list(classes)!r} are not known without a label: pass two or more of {known}, "
        "or label some rows."
    )


def choose_teacher(images: Any) -> PropertyPretrainedEncoder | None:
    """Return the teacher that describes stamps best, None if each of them knows too little.

    It knows at least 40 % of the variance among the stamps, by its own account, which makes it
    as likely as not that it helps to classify them (`measure_odds`).

    Examples
    --------
    >>> choose_teacher(np.zeros((5, 3, 8, 8))) is None  # too small to show any structure
    True
    """
    sample = images[:: -(-len(images) // _N_TRIED)]
    odds = {
        name: (measure_odds(teacher, teacher.transform(sample)), teacher)
        for name, teacher in load_teachers("auto", images).items()
    }
    best, teacher = max(odds.values(), key=lambda pair: pair[0], default=(0.0, None))
    return teacher if best >= 1 else None


def measure_odds(teacher: PropertyPretrainedEncoder, embeddings: Any) -> float:
    """Return the odds that a teacher helps to classify stamps, before labels are seen.

    They are 1 if it knows 40 % of the variance among the stamps, by its own account.
    """
    values, spread = teacher.predict_embedded(embeddings, return_std=True)
    odds = (explained_share(values, spread) / _EVEN_SHARE) ** _ODDS_POWER
    return float(np.clip(odds, 1 / _MAX_ODDS, _MAX_ODDS))


def export_teacher(
    name: str, state: str | Path, path: str | Path, *, earlier: Sequence[str | Path] = ()
) -> str:
    """Write the weights of a training as a file of `load_pretrained`, in half precision.

    Parameters
    ----------
    name : str
        A key of ``LESSONS``.
    state : path
        The file of `train_teacher`, of your own: reading it may execute code.
    path : path
        The file to write.
    earlier : sequence of paths, default=()
        Copies of ``state`` at earlier moments of the training: the mean of the weights is written.

    Returns
    -------
    card : str
        Its description in Markdown: what it saw, how it was made, and how well it does on 8,192
        simulated stamps that no training has seen.

    Raises
    ------
    ValueError
        Half precision changes what the network says.
    """
    content = torch.load(state, map_location="cpu", weights_only=False)
    targets, settings = MorphologyTargets(**content["targets"]), content["settings"]
    counts = len(targets.properties), len(targets.kinds)
    planes = settings.get("planes", LESSONS[name].planes)
    exact = TeacherNetwork(settings["backbone"], settings["size"], *counts, planes=planes)
    others = [torch.load(each, map_location="cpu", weights_only=False) for each in earlier]
    exact.load_state_dict(_average([each["averaged"] for each in (*others, content)]))
    prepare_for_inference(exact)
    network = copy.deepcopy(exact)
    network.half().float()
    features = _check_rounding(name, exact, network)
    # the encoder, as it will be loaded
    encoder: Any = PropertyPretrainedEncoder(
        settings["backbone"], weights=name, average_views=False
    )
    encoder.network_, encoder.targets_, encoder.image_shape_ = network, targets, None
    encoder.embedding_mean_, encoder.embedding_scale_ = measure_spread(features)
    encoder.property_source_, encoder.history_ = "simulation", []
    encoder.seed_ = encoder.n_missing_pixels_ = 0
    # the file, with its card
    command = (
        f"python benchmarks/teacher.py {name} --stamps {settings['n_stamps']} "
        f"--backbone {settings['backbone']} --size {settings['size']} "
        f"--repeats {settings['repeats']}{' --average COPIES' if earlier else ''}"
    )
    card = {
        "n_stamps": content["seen"], "n_planned": settings["n_stamps"], "command": command,
        "averaged": [each["seen"] for each in others],
        "date": datetime.now(UTC).date().isoformat(),
    }  # fmt: skip
    tensors, document = pack_encoder(encoder)
    halved = {k: t.half() if t.is_floating_point() else t for k, t in tensors.items()}
    halved |= {k: t for k, t in tensors.items() if k.startswith("embedding.")}
    write_encoder(path, halved, {**document, "card": card})
    return _write_card(name, Path(path), network, targets, card)


def _average(states: list[dict[str, Tensor]]) -> dict[str, Tensor]:
    """Return the mean of the weights, and the last of what are no weights."""
    last = states[-1]
    return {
        key: torch.stack([state[key] for state in states]).mean(dim=0)
        if value.is_floating_point()
        else value
        for key, value in last.items()
    }


def _draw(name: str, numbers: range) -> Iterator[tuple[Tensor, dict[str, Tensor]]]:
    """Draw chunks of stamps, in the order of wavelength, and their truth."""
    return (draw_chunk(LESSONS[name], number) for number in numbers)


@torch.inference_mode()
def _check_rounding(
    name: str, exact: TeacherNetwork, rounded: TeacherNetwork
) -> NDArray[np.float32]:
    """Compare two networks on simulated stamps, and return the features of the second one."""
    features, largest = [], 0.0
    for stamps, _ in _draw(name, _STANDARDISING_CHUNKS):
        features.append(rounded.embed(stamps))
        difference = rounded.head(features[-1]) - exact(stamps)
        largest = max(largest, float(difference.abs().max()))
    if not largest < _MAX_ROUNDING:
        raise ValueError(
            f"weights in half precision change the outputs by {largest:.2g}, over {_MAX_ROUNDING}: "
            "train on, at a lower learning rate."
        )
    return torch.cat(features).numpy()


@torch.inference_mode()
def _write_card(
    name: str, path: Path, network: TeacherNetwork, targets: MorphologyTargets, card: dict[str, Any]
) -> str:
    """Test a network on simulated stamps, and describe it in Markdown."""
    outputs, truths = [], []
    for stamps, truth in _draw(name, _TEST_CHUNKS):
        outputs.append(network(stamps).numpy())
        truths.append(pd.DataFrame({key: value.numpy() for key, value in truth.items()}))
    result, true = np.concatenate(outputs), pd.concat(truths, ignore_index=True)
    predicted, spread = targets.restore(result), targets.spread(result)
    rows, weak = [], []
    for key in targets.properties:
        s = _score_property(true[key], predicted[key], spread[key])
        rows.append(
            f"| `{key}` | {targets.units.get(key, '')} | {s['r2']:.2f} ± {s['r2_error']:.2f} "
            f"| {s['rank']:.2f} | {s['error']:.2g} | {s['inside']:.0%} |"
        )
        weak += [f"`{key}`"] if s["r2"] < _WEAK_R2 else []
    n_weights = sum(part.numel() for part in network.parameters())
    lines = [
        f"## `{name}`", "", "| | |", "| --- | --- |",
        f"| saw | {card['n_stamps']:,} simulated stamps, and no real one |",
        *_describe_stage(card),
        f"| made by | `{card['command']}` |",
        f"| date | {card['date']} |",
        f"| network | {n_weights / 1e6:.1f} million weights, planes of {network.scaling.size} px |",
        f"| file | {path.stat().st_size / 1e6:.1f} MB in half precision |",
        f"| SHA-256 | `{hash_file(path)}` |", "",
        f"On {len(true):,} simulated stamps that the training has not seen:", "",
        "| property | unit | R2 | rank correlation | mean error | within one sigma |",
        "| --- | --- | --- | --- | --- | --- |", *rows, "",
        _describe_kinds(true["kind"].to_numpy(int), predicted, targets.kinds),
        f"R2 below {_WEAK_R2} even in simulation: {', '.join(weak) or 'none'}.",
    ]  # fmt: skip
    return "\n".join(lines)


def _describe_stage(card: dict[str, Any]) -> list[str]:
    """Return rows about averaged weights, and a training that is still going on; often none."""
    rows = []
    if card["averaged"]:
        moments = ", ".join(f"{seen:,}" for seen in card["averaged"])
        rows.append(f"| weights | mean of those after {moments} and {card['n_stamps']:,} stamps |")
    if card["n_stamps"] < card["n_planned"]:
        planned = f"{card['n_planned']:,}"
        rows.append(f"| stage | stopped early: the training is planned for {planned} stamps |")
    return rows


def _describe_kinds(codes: NDArray[Any], predicted: pd.DataFrame, kinds: tuple[str, ...]) -> str:
    """Return a sentence about how well the kinds of sources are told apart."""
    named = predicted[list(kinds)].to_numpy().argmax(axis=1)
    accuracy, error = _resample(balanced_accuracy_score, codes, named)
    recalls = recall_score(codes, named, labels=range(len(kinds)), average=None)
    each = ", ".join(f"{kind} {recall:.2f}" for kind, recall in zip(kinds, recalls, strict=True))
    return f"Balanced accuracy of the kinds: {accuracy:.3f} ± {error:.3f} (recall: {each})."


def _score_property(true: pd.Series, predicted: pd.Series, spread: pd.Series) -> dict[str, float]:
    """Compare a property with its truth, where this is known."""
    rows = true.notna()
    t, p, sigma = (part[rows].to_numpy(np.float64) for part in (true, predicted, spread))
    r2, r2_error = _resample(r2_score, t, p)
    errors = np.abs(t - p)
    return {
        "r2": r2, "r2_error": r2_error, "rank": spearmanr(t, p)[0], "error": errors.mean(),
        "inside": (errors <= sigma).mean(),
    }  # fmt: skip


def _resample(score: Any, true: NDArray[Any], predicted: NDArray[Any]) -> tuple[float, float]:
    """Return a score and its standard error, by bootstrap."""
    rng = np.random.default_rng(0)
    draws = (rng.integers(len(true), size=len(true)) for _ in range(_N_RESAMPLINGS))
    scores = [score(true[rows], predicted[rows]) for rows in draws]
    return float(score(true, predicted)), float(np.std(scores))
