"""What the commands do between reading and writing: each step a function, none of them prints."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.frozen import FrozenEstimator
from sklearn.metrics import balanced_accuracy_score

from skastro.catalogs.columns import find_column, select_columns, take_properties
from skastro.catalogs.labels import read_labels, settle_labels
from skastro.catalogs.reading import read_catalog
from skastro.embeddings.active_learning import suggest_labels
from skastro.embeddings.files import Embeddings, join_rows, read_embeddings
from skastro.estimators.classifier import SelfSupervisedClassifier
from skastro.estimators.encoder import PropertyPretrainedEncoder
from skastro.evaluation.property_scores import grade_properties
from skastro.networks.device import check_device
from skastro.networks.training import choose_epochs
from skastro.stamps.opening import open_stamps
from skastro.surveys.folders import read_data
from skastro.utils.progress import Progress, Watched
from skastro.utils.validation import check_properties, name_near

_STUDY_EMBEDDINGS = "embeddings.npz"
_FEWEST = 2  # labels of a class


@dataclass(frozen=True)
class Objects:
    """Stamps and what is known of them, row by row.

    Parameters
    ----------
    images : array-like of shape (n, bands, height, width)
    catalog : DataFrame of n rows
    ids : array of shape (n,)
    note : str
        How stamps and rows were joined.
    """

    images: Any
    catalog: pd.DataFrame
    ids: NDArray[Any]
    note: str


def load_objects(
    folder: Path | None = None,
    *,
    catalog: Path | None = None,
    images: Sequence[str] | None = None,
    id: str | None = None,  # noqa: A002 - the catalogue's word
    **where: Any,
) -> Objects:
    """Read a data folder, stamps and their catalogue, or stamps alone.

    Parameters
    ----------
    folder, catalog, images, id
        As in `read_data`; without a catalogue the stamps are named by their files.
    **where
        ``ra``, ``dec`` and ``size`` of `read_data`.

    Returns
    -------
    objects : Objects
    """
    if folder is None and catalog is None and images and len(images) == 1 and "=" not in images[0]:
        stamps = open_stamps(images[0], size=where.get("size"))
        ids = np.arange(len(stamps)) if stamps.ids is None else stamps.ids
        return Objects(stamps, pd.DataFrame({"id": ids}), ids, f"{len(stamps):,} stamps.")
    data, _ = read_data(folder, catalog=catalog, images=images, id=id, **where)
    ids = name_rows(data.catalog, id)
    return Objects(data.images, data.catalog, ids, data.join)


def name_rows(catalog: pd.DataFrame, id: str | None = None) -> NDArray[Any]:  # noqa: A002
    """Return the ids of a catalogue, or row numbers where it has none."""
    column = id or find_column(catalog, "id")
    return np.arange(len(catalog)) if column is None else catalog[column].to_numpy()


def load_encoder(path: Path, *, device: str = "auto") -> PropertyPretrainedEncoder:
    """Read a saved encoder, to compute on a device."""
    check_device(device)
    return PropertyPretrainedEncoder.load(path).set_params(device=device)


def pretrain(
    objects: Objects,
    *,
    properties: Sequence[str] = (),
    errors: Sequence[str] = (),
    label: str | None = None,
    say: Any = None,
    hold_out: float = 0.0,
    seed: int = 0,
    out: Path | None = None,
    progress: Progress,
    **params: Any,
) -> tuple[PropertyPretrainedEncoder, pd.DataFrame]:
    """Pretrain an encoder, and judge what it predicts on rows held out.

    Parameters
    ----------
    objects : Objects
    properties, errors : sequence of str, default=()
        Columns or patterns; none: what is measured from the pixels alone.
    label : str, default=None
        Column that must not be among them.
    say : callable, default=None
    hold_out : float, default=0
        Share of the rows that is not trained on.
    seed : int, default=0
    out : Path, default=None
        File for the encoder, which is written before it is judged.
    progress : callable
    **params
        Of `PropertyPretrainedEncoder`; None is left to its default.

    Returns
    -------
    encoder : PropertyPretrainedEncoder
    quality : DataFrame
        ``property``, ``unit``, ``n``, ``r2`` and ``scatter`` on the rows held out; empty
        without any.
    """
    params = {name: value for name, value in params.items() if value is not None}
    check_device(params.get("device", "auto"))
    n = len(objects.ids)
    order = np.random.default_rng(seed).permutation(n)
    n_out = round(hold_out * n)
    train, test = np.sort(order[n_out:]), np.sort(order[:n_out])
    table, spread, _ = take_properties(objects.catalog, properties, errors, label=label, say=say)
    source = "measured" if table is None else "catalog+measured"
    encoder = PropertyPretrainedEncoder(properties=source, random_state=seed, **params)
    epochs = encoder.max_epochs
    if epochs is None:
        epochs = choose_epochs(len(train), encoder.batch_size)
    # besides the epochs the stamps are read to be checked, measured and embedded
    passes = epochs + 3
    encoder.fit(
        Watched(objects.images, progress, "pretraining", rows=train, passes=passes),
        properties=None if table is None else table.iloc[train],
        property_errors=None if spread is None else spread[train],
    )
    if out is not None:
        encoder.save(out)
    progress("pretraining", len(train) * passes, len(train) * passes)
    known = None if table is None else table.iloc[test]
    stamps = Watched(objects.images, progress, "judging the properties", rows=test, passes=2)
    return encoder, grade_properties(encoder, stamps, known)


def fingerprint(encoder_path: Path, objects: Objects) -> str:
    """Return what embeddings depend on, as a short text."""
    digest = hashlib.sha256(encoder_path.read_bytes())
    digest.update(repr((objects.images.shape, str(objects.images.dtype))).encode())
    digest.update("\n".join(objects.ids.astype(str)).encode())
    digest.update(np.ascontiguousarray(objects.images[0]).tobytes())
    digest.update(np.ascontiguousarray(objects.images[len(objects.ids) - 1]).tobytes())
    return digest.hexdigest()


def find_embeddings(
    source: Path, *, encoder: Path | None, device: str, progress: Progress
) -> Embeddings:
    """Read embeddings from a file or the folder of a study, or embed a data folder.

    Parameters
    ----------
    source : Path
    encoder : Path or None
        Saved encoder, for a data folder.
    device : str
    progress : callable

    Returns
    -------
    embeddings : Embeddings

    Raises
    ------
    ValueError, OSError
        There are none, and nothing to make them with.
    """
    if encoder is not None:
        objects = load_objects(source)
        watched = Watched(objects.images, progress, "embedding")
        values = np.asarray(load_encoder(encoder, device=device).transform(watched))
        return Embeddings(values, objects.ids)
    if source.is_dir():
        if not (source / _STUDY_EMBEDDINGS).is_file():
            raise ValueError(
                f"{source} has no {_STUDY_EMBEDDINGS}: pass the folder of a study, or name a "
                "saved encoder for a data folder (--encoder)."
            )
        source = source / _STUDY_EMBEDDINGS
    return read_embeddings(source)


def match_catalog(
    embeddings: Embeddings,
    path: Path,
    *,
    id: str | None = None,  # noqa: A002 - the catalogue's word
) -> tuple[Embeddings, pd.DataFrame, str]:
    """Put the rows of a catalogue into the order of embeddings.

    Returns
    -------
    embeddings : Embeddings
        Without the rows that the catalogue lacks.
    catalog : DataFrame
        With the same rows.
    note : str
        How they were joined.

    Raises
    ------
    ValueError
        No row, or without ids another number of rows, is there.
    """
    table = read_catalog(path, id=id)
    if not embeddings.named:
        kept, _ = join_rows(embeddings, table.index, name=str(path))
        return kept, table, f"{len(table):,} rows, taken in the same order."
    kept, rows = join_rows(embeddings, name_rows(table, id), name=str(path))
    note = f"{len(rows):,} of {len(embeddings.ids):,} embeddings have a row in {path}."
    return kept, table.iloc[rows].reset_index(drop=True), note


def find_labels(
    ids: NDArray[Any],
    *,
    catalog: pd.DataFrame | None,
    tables: Sequence[Path],
    label: str,
    unlabelled: Sequence[str],
    say: Any,
    fewest: int = _FEWEST,
) -> NDArray[Any]:
    """Return classes as text from tables of labels, else from the catalogue; "" for none."""
    if tables:
        column, notes = read_labels(tables, label, ids)
        for note in notes:
            say(note)
    elif catalog is not None and label in catalog.columns:
        column = catalog[label].to_numpy()
    else:
        near = name_near(label, catalog.columns) if catalog is not None else "."
        raise ValueError(f"label={label!r} is no column of the catalogue{near}")
    return settle_labels(column, unlabelled=unlabelled, name=label, say=say, fewest=fewest)


def choose_inputs(
    objects: Objects, columns: Sequence[str], *, label: str | None
) -> pd.DataFrame | None:
    """Return columns of the catalogue by name or pattern; None where none is asked for."""
    chosen = select_columns(objects.catalog.columns, columns, label=label, name="inputs")
    return check_properties(objects.catalog[chosen], len(objects.ids)) if chosen else None


def classify(
    objects: Objects,
    labels: NDArray[Any],
    encoder: PropertyPretrainedEncoder,
    *,
    known: pd.DataFrame | None = None,
    strategy: str,
    abstain: float,
    seed: int,
    progress: Progress,
) -> tuple[pd.DataFrame, SelfSupervisedClassifier]:
    """Learn from the labelled rows and predict all.

    Parameters
    ----------
    objects : Objects
    labels : array of str of shape (n,)
        "" for none.
    encoder : PropertyPretrainedEncoder
        Fitted.
    known : DataFrame of shape (n, p), default=None
        Columns of the catalogue that help to classify.
    strategy : str
    abstain : float
        Probability below which no class is named.
    seed : int
    progress : callable

    Returns
    -------
    predictions : DataFrame
        ``id``, ``label`` ("" for none), ``prediction`` ("" where the classifier abstains),
        ``most_probable``, ``probability`` of it, and ``p_<class>``.
    classifier : SelfSupervisedClassifier
        Fitted.
    """
    progress("learning the labels", 0, None)
    model = SelfSupervisedClassifier(
        FrozenEstimator(encoder), strategy=strategy, random_state=seed
    ).fit(objects.images, labels, properties=known)
    # the network reads the stamps once, the probe twice: it embeds and it measures
    blend = model.blend_ if known is None else model.catalog_blend_
    watched = Watched(
        objects.images, progress, "classifying", passes={0.0: 2, 1.0: 1}.get(blend, 3)
    )
    probabilities = model.predict_proba(watched, properties=known)
    best = probabilities.max(axis=1)
    likely = model.classes_[probabilities.argmax(axis=1)].astype(object)
    columns = {
        "id": objects.ids,
        "label": labels,
        "prediction": np.where(best >= abstain, likely, ""),
        "most_probable": likely,
        "probability": best,
    }
    columns |= {f"p_{name}": probabilities[:, i] for i, name in enumerate(model.classes_)}
    return pd.DataFrame(columns), model


def judge_probe(model: SelfSupervisedClassifier, labels: NDArray[Any]) -> float | None:
    """Return the balanced accuracy of the probe, each label predicted from all others.

    None where no probe was trained.
    """
    probe = model.catalog_probe_ or model.probe_
    if probe is None:
        return None
    predicted = model.classes_[probe.loo_probabilities_.argmax(axis=1)]
    return float(balanced_accuracy_score(labels[labels != ""].astype(str), predicted.astype(str)))


def suggest(
    embeddings: Embeddings,
    catalog: pd.DataFrame | None,
    *,
    tables: Sequence[Path],
    label: str,
    unlabelled: Sequence[str],
    groups: str | None,
    n: int,
    strategy: str,
    seed: int,
    progress: Progress,
    say: Any,
) -> pd.DataFrame:
    """Return the objects to label next, the most valuable first: ``id`` and an empty label."""
    y = None
    if tables or (catalog is not None and label in catalog.columns):
        y = find_labels(
            embeddings.ids,
            catalog=catalog,
            tables=tables,
            label=label,
            unlabelled=unlabelled,
            say=say,
            fewest=0,
        )
    parts = None
    if groups is not None:
        if catalog is None or groups not in catalog.columns:
            near = ": pass the catalogue too." if catalog is None else name_near(groups, catalog)
            raise ValueError(f"groups={groups!r} is no column{near}")
        parts = catalog[groups].to_numpy().astype(str)
    progress("choosing", 0, None)
    rows = suggest_labels(
        embeddings.values, y, n=n, strategy=strategy, groups=parts, random_state=seed
    )
    return pd.DataFrame({"id": embeddings.ids[rows], label: ""})
