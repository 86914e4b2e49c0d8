"""Do the work of the commands between reading and writing: no function here prints."""

from __future__ import annotations

from collections.abc import Sequence
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
from skastro.embeddings.clustering import EmbeddingClusterer
from skastro.embeddings.files import Embeddings, join_rows, read_embeddings
from skastro.embeddings.projection import METHOD_NAMES, project_embedding
from skastro.estimators.classifier import SelfSupervisedClassifier
from skastro.estimators.encoder import PropertyPretrainedEncoder
from skastro.evaluation.calibration import tabulate_predictions
from skastro.evaluation.property_scores import GRADE_COLUMNS, grade_properties, join_measured
from skastro.networks.device import check_device
from skastro.pages.explorer import write_explorer
from skastro.stamps.opening import open_stamps
from skastro.stamps.photometry import measure_properties
from skastro.surveys.folders import read_data
from skastro.surveys.survey import Survey
from skastro.utils.progress import Say, report_to
from skastro.utils.validation import check_properties, name_near

_STUDY_EMBEDDINGS, _STUDY_PREDICTIONS = "embeddings.npz", "predictions.csv"
_MIN_LABELS_PER_CLASS = 2
_CLUSTER, _CLUSTER_PROBABILITY = "cluster", "cluster_probability"  # columns of the map


def load_objects(
    folder: Path | None = None,
    *,
    catalog: Path | None = None,
    images: Sequence[str] | None = None,
    id: str | None = None,
    **options: Any,
) -> Survey:
    """Read a data folder, or stamps and their catalogue, as `read_data` does, or stamps alone.

    The ids of stamps without a catalogue are the names of their files, or row numbers.
    """
    if folder is None and catalog is None and images and len(images) == 1 and "=" not in images[0]:
        stamps = open_stamps(images[0], size=options.get("size"))
        ids = np.arange(len(stamps)) if stamps.ids is None else stamps.ids
        return Survey(stamps, pd.DataFrame({"id": ids}), ids, f"{len(stamps):,} stamps.")
    return read_data(folder, catalog=catalog, images=images, id=id, **options)[0]


def load_encoder(path: Path, *, device: str = "auto") -> PropertyPretrainedEncoder:
    """Read a saved encoder, and set the device it computes on."""
    check_device(device)
    return PropertyPretrainedEncoder.load(path).set_params(device=device)


def find_embeddings(source: Path, *, encoder: Path | None = None, device: str) -> Embeddings:
    """Read embeddings from a file or the folder of a study, or embed a data folder.

    A data folder needs an encoder; ValueError if there is none.
    """
    if encoder is not None:
        survey = load_objects(source)
        values = load_encoder(encoder, device=device).transform(survey.images)
        return Embeddings(np.asarray(values), survey.ids)
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
    id: str | None = None,
) -> tuple[NDArray[np.int64], pd.DataFrame, str]:
    """Match the rows of a catalogue with embeddings.

    Returns the rows of the embeddings that the catalogue has, the catalogue with the same rows,
    and a sentence on how they were joined.
    """
    table = read_catalog(path, id=id)
    column = id or find_column(table, "id")
    names = np.arange(len(table)) if column is None else table[column].to_numpy()
    rows, catalog_rows = join_rows(embeddings, names, name=str(path))
    if not embeddings.named:
        return rows, table, f"{len(table):,} rows, taken in the same order."
    note = f"{len(rows):,} of {len(embeddings.ids):,} embeddings have a row in {path}."
    return rows, table.iloc[catalog_rows].reset_index(drop=True), note


def load_embeddings(
    source: Path,
    *,
    encoder: Path | None,
    device: str,
    catalog: Path | None,
    id: str | None,
    say: Say,
) -> tuple[Embeddings, pd.DataFrame | None]:
    """Return embeddings of `find_embeddings`, and the rows of their catalogue if there is one."""
    embeddings = find_embeddings(source, encoder=encoder, device=device)
    if catalog is None:
        return embeddings, None
    rows, table, note = match_catalog(embeddings, catalog, id=id)
    say(note)
    return Embeddings(embeddings.values[rows], embeddings.ids[rows]), table


def pretrain(
    survey: Survey,
    *,
    properties: Sequence[str] = (),
    errors: Sequence[str] = (),
    label: str | None = None,
    say: Say,
    hold_out: float = 0.0,
    seed: int = 0,
    out: Path | None = None,
    **params: Any,
) -> tuple[PropertyPretrainedEncoder, pd.DataFrame]:
    """Pretrain an encoder, and measure what it predicts on the share of rows that is held out.

    ``properties`` and ``errors`` are columns or patterns. ``params`` are parameters of
    `PropertyPretrainedEncoder`, where None keeps the default. The encoder is written to ``out``
    before its predictions are measured. Returns the encoder, and the table of `grade_properties`,
    which is empty if no rows are held out.
    """
    params = {name: value for name, value in params.items() if value is not None}
    check_device(params.get("device", "auto"))
    n = len(survey.ids)
    order = np.random.default_rng(seed).permutation(n)
    n_test = round(hold_out * n)
    train, test = np.sort(order[n_test:]), np.sort(order[:n_test])
    table, spread, _ = take_properties(survey.catalog, properties, errors, label=label, say=say)
    encoder = PropertyPretrainedEncoder(random_state=seed, **params).fit(
        survey.images[train],
        properties=None if table is None else table.iloc[train],
        property_errors=None if spread is None else spread[train],
    )
    if out is not None:
        encoder.save(out)
    if not len(test):
        return encoder, pd.DataFrame(columns=GRADE_COLUMNS)
    stamps = survey.images[test]
    true = join_measured(None if table is None else table.iloc[test], measure_properties(stamps))
    return encoder, grade_properties(true, encoder.predict(stamps))


def find_labels(
    ids: NDArray[Any],
    *,
    catalog: pd.DataFrame | None,
    tables: Sequence[Path],
    label: str,
    unlabelled: Sequence[str],
    say: Say,
    fewest: int = _MIN_LABELS_PER_CLASS,
) -> NDArray[Any]:
    """Return classes as text, "" for none: from tables of labels, or else from the catalogue."""
    if tables:
        column, notes = read_labels(tables, label, ids)
        for note in notes:
            say(note)
    else:
        column = _take_column(catalog, label, "label")
    return settle_labels(column, unlabelled=unlabelled, name=label, say=say, fewest=fewest)


def _take_column(catalog: pd.DataFrame | None, name: str, option: str) -> NDArray[Any]:
    """Return a column of a catalogue that the user has named."""
    _check_column(name, () if catalog is None else catalog.columns, option)
    return catalog[name].to_numpy()  # type: ignore[index]  # None has no such column


def _check_column(name: str, columns: Sequence[str], option: str) -> None:
    if name not in columns:
        near = name_near(name, columns) if len(columns) else ": pass the catalogue too."
        raise ValueError(f"{option}={name!r} is not a column{near}")


def choose_inputs(
    survey: Survey, columns: Sequence[str], *, label: str | None
) -> pd.DataFrame | None:
    """Return the columns to classify by, chosen by name or pattern; None if there are none."""
    chosen = select_columns(survey.catalog.columns, columns, label=label, name="inputs")
    return check_properties(survey.catalog[chosen], len(survey.ids)) if chosen else None


def classify(
    survey: Survey,
    labels: NDArray[Any],
    encoder: PropertyPretrainedEncoder,
    *,
    catalog: pd.DataFrame | None = None,
    strategy: str,
    abstain: float,
    seed: int,
) -> tuple[pd.DataFrame, float | None]:
    """Learn from the labelled rows, and predict the classes of all.

    ``labels`` are text, "" for none; ``catalog`` holds the columns of `choose_inputs`; no class is
    predicted with a probability below ``abstain``. Returns the table of `tabulate_predictions`,
    and the balanced accuracy of the probe, where each label is predicted from all others; None if
    no probe was trained.
    """
    report_to("learning the labels")(0)
    model = SelfSupervisedClassifier(
        FrozenEstimator(encoder), strategy=strategy, random_state=seed
    ).fit(survey.images, labels, catalog=catalog)
    report_to("classifying")(0)
    probabilities = model.predict_proba(survey.images, catalog=catalog)
    predictions = tabulate_predictions(
        survey.ids, labels, probabilities, model.classes_, threshold=abstain
    )
    probe, score = model.catalog_probe_ or model.probe_, None
    if probe is not None:
        guesses = model.classes_[probe.loo_probabilities_.argmax(axis=1)]
        truth = labels[labels != ""].astype(str)
        score = float(balanced_accuracy_score(truth, guesses.astype(str)))
    return predictions, score


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
    say: Say,
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
    group_of_row = None if groups is None else _take_column(catalog, groups, "groups").astype(str)
    report_to("choosing")(0)
    rows = suggest_labels(
        embeddings.values, y, n=n, strategy=strategy, groups=group_of_row, random_state=seed
    )
    return pd.DataFrame({"id": embeddings.ids[rows], label: ""})


def cluster_objects(
    embeddings: Embeddings,
    catalog: pd.DataFrame | None = None,
    *,
    label: str | None = None,
    min_size: int | None = None,
    seed: int = 0,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Find clusters, and summarise them with a catalogue of the same rows.

    Returns a table of ``id``, ``cluster`` (-1 for noise), ``probability`` and ``outlier_score``,
    and the table of `EmbeddingClusterer.cluster_summary`.
    """
    labels = None if label is None else _take_column(catalog, label, "label")
    report_to("clustering")(0)
    size = "auto" if min_size is None else min_size
    model = EmbeddingClusterer(size, random_state=seed).fit(embeddings.values)
    clusters = {
        "id": embeddings.ids,
        "cluster": model.labels_,
        "probability": model.probabilities_,
        "outlier_score": model.outlier_scores_,
    }
    return pd.DataFrame(clusters), model.cluster_summary(catalog, labels).reset_index()


def gather_map(
    source: Path,
    *,
    encoder: Path | None,
    device: str,
    catalog: Path | None,
    images: Sequence[str] | None,
    id: str | None,
    columns: Sequence[str] | None,
    color: str | None,
    clusters: bool,
    max_objects: int,
    seed: int,
    say: Say,
) -> tuple[NDArray[np.float32], Survey]:
    """Return what a map shows: embeddings, and a survey of their ids, catalogue and stamps.

    With an encoder, ``source`` is a data folder, whose stamps are embedded after everything else
    was checked; a ``catalog`` replaces that of the folder. ``columns`` are columns of the catalogue
    or patterns; None takes all. If ``clusters`` will be added, ``color`` may name their columns.
    The catalogue begins with ``id``; the stamps are None if there are none.
    """
    if encoder is not None and images:
        raise ValueError(f"--images is for embeddings: with --encoder the stamps of {source} show.")
    model = None if encoder is None else load_encoder(encoder, device=device)
    embeddings, rows, table, stamps = _join_sources(
        source, catalog, images, id, device=device, is_folder=encoder is not None, say=say
    )

    # choose columns, and check them before stamps are embedded
    units = table.attrs.get("units", {})
    if columns is not None:
        table = table[select_columns(table.columns, columns, label=None, name="columns")]
    table = table.drop(columns="id", errors="ignore")
    table.insert(0, "id", embeddings.ids[rows])
    if color is not None:
        added = (_CLUSTER, _CLUSTER_PROBABILITY) if clusters else ()
        _check_column(color, [*table.columns, *added], "color")

    # choose objects
    if len(table) > max_objects:
        say(f"{max_objects:,} of {len(table):,} objects are shown, drawn at random.")
        drawn = np.random.default_rng(seed).choice(len(table), max_objects, replace=False)
        drawn = np.sort(drawn)
        rows, table = rows[drawn], table.iloc[drawn].reset_index(drop=True)
        stamps = None if stamps is None else stamps[drawn]
    table.attrs["units"] = units
    values = embeddings.values[rows] if model is None else np.asarray(model.transform(stamps))
    return values, Survey(stamps, table, embeddings.ids[rows])


def _join_sources(
    source: Path,
    catalog: Path | None,
    images: Sequence[str] | None,
    id: str | None,
    *,
    device: str,
    is_folder: bool,
    say: Say,
) -> tuple[Embeddings, NDArray[np.int64], pd.DataFrame, Any]:
    """Return embeddings, their rows that are in the catalogue, and catalogue and stamps of these.

    Embeddings of a data folder have no columns: its stamps are embedded later.
    """
    table: pd.DataFrame | None = None
    stamps = None
    if is_folder:
        survey = load_objects(source, id=id)
        say(survey.join)
        embeddings = Embeddings(np.empty((len(survey.ids), 0), np.float32), survey.ids)
        table, stamps = survey.catalog, survey.images
    else:
        embeddings = find_embeddings(source, device=device)
        if not images and catalog is None and (source / _STUDY_PREDICTIONS).is_file():
            catalog = source / _STUDY_PREDICTIONS
    rows: NDArray[np.int64] = np.arange(len(embeddings.ids))
    if images:
        survey = load_objects(catalog=catalog, images=images, id=id)
        say(survey.join)
        rows, order = join_rows(embeddings, survey.ids, name="the stack of stamps")
        table = survey.catalog.iloc[order].reset_index(drop=True)
        stamps = survey.images[order]
    elif catalog is not None:
        rows, table, note = match_catalog(embeddings, catalog, id=id)
        say(note)
        stamps = None if stamps is None else stamps[rows]
    elif table is None:
        table = pd.DataFrame(index=rows)
    return embeddings, rows, table, stamps


def write_map(
    path: Path,
    values: NDArray[np.float32],
    survey: Survey,
    *,
    method: str,
    color: str | None,
    clusters: bool,
    title: str | None,
    seed: int,
) -> float:
    """Project, find clusters if wanted, and write the page; return the trustworthiness."""
    table, units = survey.catalog.copy(), survey.catalog.attrs["units"]
    if clusters:
        assigned, _ = cluster_objects(Embeddings(values, survey.ids), seed=seed)
        table[_CLUSTER] = assigned["cluster"].to_numpy()
        table[_CLUSTER_PROBABILITY] = assigned["probability"].to_numpy()
    report_to("projecting")(0)
    projection = project_embedding(values, method=method, random_state=seed)
    report_to("writing the page")(0)
    write_explorer(
        path,
        projection.coordinates,
        table=table,
        images=survey.images,
        color=color,
        cluster=_CLUSTER if clusters else None,
        certainty={_CLUSTER: _CLUSTER_PROBABILITY} if clusters else None,
        units={name: unit for name, unit in units.items() if name in table},
        title=title or "Projection of the embeddings",
        projection=METHOD_NAMES[method],
    )
    return projection.trustworthiness
