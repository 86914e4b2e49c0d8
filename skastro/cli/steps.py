"""Do the work of several commands between reading and writing: no function here prints."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.frozen import FrozenEstimator
from sklearn.metrics import balanced_accuracy_score

from skastro.catalogs.columns import find_column, is_id_name, match_columns, take_properties
from skastro.catalogs.labels import clean_labels, read_labels
from skastro.catalogs.reading import read_catalog
from skastro.cli.options import split_names
from skastro.embeddings.clustering import EmbeddingClusterer
from skastro.embeddings.files import Embeddings, join_rows, read_embeddings
from skastro.embeddings.outliers import outlier_scores
from skastro.estimators.classifier import SelfSupervisedClassifier
from skastro.estimators.encoder import PropertyPretrainedEncoder
from skastro.estimators.pretrained import load_pretrained
from skastro.estimators.regressor import SelfSupervisedRegressor
from skastro.estimators.representation import RepresentationModel
from skastro.evaluation.calibration import tabulate_predictions
from skastro.evaluation.property_scores import GRADE_COLUMNS, grade_properties, join_measured
from skastro.networks.backbones import check_backbone
from skastro.networks.weights import PRETRAINED, holds_regressor
from skastro.probes.cross_validation import find_calibration
from skastro.stamps.photometry import measure_properties
from skastro.study.teachers import append_columns, describe_morphology
from skastro.surveys.folders import read_data
from skastro.surveys.survey import Survey
from skastro.utils.progress import Say, report_to, say_nothing
from skastro.utils.validation import check_properties, name_near

_STUDY_EMBEDDINGS, _STUDY_PREDICTIONS = "embeddings.npz", "predictions.csv"
_CLASS_COLUMN = "class"
_MIN_LABELS_PER_CLASS = 2
_N_MEDIANS = 4  # that are printed of each cluster
_N_CANDIDATES = 50  # properties of which they are chosen
_MAX_CORRELATION = 0.9  # of two properties of which both are printed
# columns that describe the observation or the measurement, not the object
_BOOKKEEPING = re.compile(
    r"""(?ix)
    ^ (?: [lb] | gal_[lb] | [ge]l(?:on|at) | ra | dec | de ) (?: j2000 | _?deg | _icrs ) ? $
    | ^ (?: ra | dec ) _
    | ^ [xy] \d* (?: _? (?: image | win | pix | pos | cen | peak | world ) .* )? $
    | ^ (?: run | rerun | camcol | field | plate | fiber | tile | ccd | chip | row | col | night
        | exp | mjd | jd | date | time | epoch | healpix | hpx | htm | skycell | brick | frame )
        (?: _?(?: id | num | number | \d+ ) ) ? $
    | ^ (?: ext | extinction | ebv | airmass | seeing | psf | sky | depth ) (?: _ | \d* $ )
    | (?: ^ | _ ) (?: e | d | sigma | unc | uncertainty | std | var | ivar | mask | quality
        | warning | zwarning | status | clean ) (?: _ | $ )
    | (?: err | error | errors | flag | flags ) (?: _ | $ )""",
)
# columns of the map
CLUSTER, CLUSTER_PROBABILITY = "cluster", "cluster_probability"
OUTLIER_SCORE = "outlier_score"


def load_objects(
    folder: Path | None = None,
    say: Say = say_nothing,
    *,
    catalog: Path | None = None,
    images: Sequence[str] | None = None,
    **options: Any,
) -> Survey:
    """Read a data folder, or stamps and their catalogue, as `read_data` does, or stamps alone.

    The ids of stamps without a catalogue are the names of their files, or row numbers.
    ``options`` are those of `read_data`. ``say`` gets a sentence on how stamps and catalogue were
    joined.
    """
    survey, _ = read_data(folder, catalog=catalog, images=images, alone=True, **options)
    say(survey.join)
    return survey


def load_encoder(path: Path, *, device: str = "auto") -> PropertyPretrainedEncoder:
    """Read a saved encoder, and set the device it computes on.

    A name of `list_pretrained` stands for the weights that are part of skastro, unless there is a
    file of that name.
    """
    name = str(path)
    if name in PRETRAINED and not path.is_file():
        encoder = load_pretrained(name)
    elif path.exists():
        encoder = PropertyPretrainedEncoder.load(path)
    else:
        raise FileNotFoundError(
            f"{path} does not exist: pass a file of `skastro pretrain`, or the name of weights "
            f"that are part of skastro ({', '.join(PRETRAINED)})."
        )
    return encoder.set_params(device=device)


def load_model(
    path: Path, *, device: str = "auto"
) -> SelfSupervisedClassifier | SelfSupervisedRegressor:
    """Read a saved classifier or regressor, and set the device it computes on."""
    kind = SelfSupervisedRegressor if holds_regressor(path) else SelfSupervisedClassifier
    model: SelfSupervisedClassifier | SelfSupervisedRegressor = kind.load(path)
    for encoder in (model.encoder_, *model.teachers_.values()):
        encoder.set_params(device=device)
    return model


def load_classifier(path: Path, *, device: str = "auto") -> SelfSupervisedClassifier:
    """Read a saved classifier, and set the device it computes on."""
    model = SelfSupervisedClassifier.load(path)
    for encoder in (model.encoder_, *model.teachers_.values()):
        encoder.set_params(device=device)
    return model


def load_new(path: Path, say: Say = say_nothing, **options: Any) -> Survey:
    """Read new stamps: a data folder, a folder of stamps, or a file, as `load_objects` does."""
    images = None if path.is_dir() else [str(path)]
    return load_objects(path if images is None else None, say, images=images, **options)


def has_embeddings(source: Path) -> bool:
    """Return whether a path is a file of embeddings, or the folder of a study that has them."""
    return source.is_file() or (source / _STUDY_EMBEDDINGS).is_file()


def find_embeddings(source: Path) -> Embeddings:
    """Read embeddings from a file or the folder of a study; a data folder is a ValueError."""
    file = source / _STUDY_EMBEDDINGS if source.is_dir() else source
    if source.is_dir() and not file.is_file():
        raise ValueError(
            f"{source} has no {_STUDY_EMBEDDINGS}: pass the folder of a study, or name a saved "
            "encoder for a data folder (--encoder)."
        )
    return read_embeddings(file)


def match_catalog(
    embeddings: Embeddings, path: Path, *, id: str | None = None, say: Say
) -> tuple[NDArray[np.int64], pd.DataFrame]:
    """Return the rows of embeddings that a catalogue has, and the catalogue of these rows.

    ``say`` gets a sentence on how they were joined.
    """
    table = read_catalog(path, id=id)
    column = id or find_column(table, "id")
    names = np.arange(len(table)) if column is None else table[column].to_numpy()
    rows, catalog_rows = join_rows(embeddings, names, name=str(path))
    if not embeddings.named:
        say(f"{len(table):,} rows, taken in the same order.")
        return rows, table
    say(f"{len(rows):,} of {len(embeddings.ids):,} embeddings have a row in {path}.")
    return rows, table.iloc[catalog_rows].reset_index(drop=True)


def load_embeddings(
    source: Path,
    encoder: Path | None,
    device: str,
    catalog: Path | None,
    id: str | None,
    say: Say,
    **options: Any,
) -> tuple[Embeddings, pd.DataFrame | None, pd.DataFrame | None]:
    """Return embeddings, the rows of the catalogue, and the morphology, of the same objects.

    With an encoder, ``source`` is a data folder, which ``options`` of `read_data` describe.
    Embeddings without a row in the catalogue are left out. The catalogue is None if none is named,
    and the morphology is None unless the encoder is one of `load_pretrained`.
    """
    morphology = None
    if encoder is None:
        embeddings = find_embeddings(source)
    else:
        fitted = load_encoder(encoder, device=device)
        survey = load_objects(source, **options)
        embeddings = Embeddings(np.asarray(fitted.transform(survey.images)), survey.ids)
        morphology = describe_morphology(fitted, embeddings.values)
    if catalog is None:
        return embeddings, None, morphology
    rows, table = match_catalog(embeddings, catalog, id=id, say=say)
    if morphology is not None:
        morphology = morphology.iloc[rows].reset_index(drop=True)
    return Embeddings(embeddings.values[rows], embeddings.ids[rows]), table, morphology


def make_encoder(
    backbone: str | None,
    epochs: int | None,
    device: str,
    seed: int,
    checkpoints: Path | None = None,
    weights: str | None = None,
) -> PropertyPretrainedEncoder:
    """Return an encoder to be trained; arguments that are None keep their defaults.

    Weights of `list_pretrained` bring their backbone. A backbone that does not exist is a
    ValueError.
    """
    if backbone is None and weights in PRETRAINED:
        backbone = str(load_pretrained(weights).backbone)
    given = {
        "backbone": backbone, "max_epochs": epochs, "checkpoint_dir": checkpoints,
        "weights": weights,
    }  # fmt: skip
    params: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
    encoder = PropertyPretrainedEncoder(device=device, random_state=seed, **params)
    check_backbone(encoder.backbone, encoder.weights)
    return encoder


def find_encoder(
    path: Path | None, backbone: str | None, epochs: int | None, device: str, seed: int
) -> PropertyPretrainedEncoder:
    """Read a saved encoder, or return one to be trained if there is no path."""
    if path is None:
        return make_encoder(backbone, epochs, device, seed)
    return load_encoder(path, device=device)


def pretrain(
    encoder: PropertyPretrainedEncoder,
    survey: Survey,
    properties: str | None,
    errors: str | None,
    label: str | None,
    say: Say,
    out: Path | None,
    *,
    hold_out: float = 0.0,
) -> pd.DataFrame:
    """Train an encoder, and measure what it predicts on the share of rows that is held out.

    ``properties`` and ``errors`` are columns or patterns, separated by commas. The encoder is
    written to ``out`` before its predictions are measured. Returns the table of
    `grade_properties`, which is empty if no rows are held out.
    """
    # hold rows out
    order = np.random.default_rng(encoder.random_state).permutation(len(survey.ids))
    n_test = round(hold_out * len(order))
    train, test = np.sort(order[n_test:]), np.sort(order[:n_test])

    # train on the others
    table, spread, _ = take_properties(
        survey.catalog, split_names(properties), split_names(errors), label=label, say=say
    )
    encoder.fit(
        survey.images[train],
        properties=None if table is None else table.iloc[train],
        property_errors=None if spread is None else spread[train],
    )
    if out is not None:
        encoder.save(out)

    # test
    if not len(test):
        return pd.DataFrame(columns=GRADE_COLUMNS)
    stamps = survey.images[test]
    true = join_measured(None if table is None else table.iloc[test], measure_properties(stamps))
    return grade_properties(true, encoder.predict(stamps))


def find_labels(
    ids: NDArray[Any],
    catalog: pd.DataFrame | None,
    tables: Sequence[Path] | None,
    label: str | None,
    unlabelled: str,
    *,
    classes: str | None = None,
    fewest: int = _MIN_LABELS_PER_CLASS,
    say: Say,
) -> NDArray[Any]:
    """Return classes as text, "" for none: from tables of labels, or else from the catalogue.

    ``label`` is their column; None is "class", which may be missing. ``unlabelled`` are values
    that mean no label, and ``classes`` those to use, separated by commas.
    """
    name = label or _CLASS_COLUMN
    if tables:
        column, notes = read_labels(tables, name, ids)
        for note in notes:
            say(note)
    elif label is None and (catalog is None or name not in catalog):
        say(f"There is no column {name!r}: if objects have labels, name their column (--label).")
        return np.full(len(ids), "", dtype=object)
    else:
        column = take_column(catalog, name, "label")
    clean = partial(clean_labels, column, unlabelled=split_names(unlabelled), name=name, say=say)
    found = clean(fewest=0)
    if not fewest or not (found != "").any():
        return found
    return clean(classes=split_names(classes) or None, fewest=fewest)


def take_column(catalog: pd.DataFrame | None, name: str, option: str) -> NDArray[Any]:
    """Return a column of a catalogue that the user has named in an option."""
    _check_column(name, () if catalog is None else catalog.columns, option)
    return catalog[name].to_numpy()  # type: ignore[index]  # None has no such column


def _check_column(name: str, columns: Sequence[str], option: str) -> None:
    if name not in columns:
        near = name_near(name, columns) if len(columns) else ": pass the catalogue too."
        raise ValueError(f"{option}={name!r} is not a column{near}")


def choose_inputs(survey: Survey, columns: str | None, label: str) -> pd.DataFrame | None:
    """Return the columns to classify by, as names or patterns with commas; None for none."""
    names = split_names(columns)
    chosen = match_columns(survey.catalog.columns, names, label=label, name="inputs")
    return check_properties(survey.catalog[chosen], len(survey.ids)) if chosen else None


def take_inputs(survey: Survey, model: RepresentationModel, say: Say) -> pd.DataFrame | None:
    """Return the columns that a saved model has learned from, None if it or they are without.

    ``say`` gets a sentence on what is predicted from.
    """
    names = model.catalog_names_
    present = [name for name in names if name in survey.catalog]
    if not present:
        if names:
            say(
                f"There is no column {', '.join(names)}, from which the model also learned: "
                "it predicts from the stamps alone."
            )
        return None
    if missing := [name for name in names if name not in present]:
        raise ValueError(
            f"the catalogue has no column {missing[0]!r}, from which the model learned: add "
            "it, empty where it is unknown, or pass the stamps alone with --images."
        )
    say(f"Predicted from the stamps and {', '.join(names)}.")
    return survey.catalog[names]


def train_classifier(
    survey: Survey,
    labels: NDArray[Any],
    encoder: PropertyPretrainedEncoder | None,
    *,
    catalog: pd.DataFrame | None = None,
    strategy: str,
    pretrained: str | None = "auto",
    classes: str | None = None,
    seed: int,
) -> SelfSupervisedClassifier:
    """Learn from the labelled rows, or without any from the weights ``pretrained`` alone.

    ``labels`` are text, "" for none; ``catalog`` holds the columns of `choose_inputs`. ``classes``,
    separated by commas, are those to tell where no row has a label.
    """
    report_to("learning the labels")(0)
    model = SelfSupervisedClassifier(
        None if encoder is None else FrozenEstimator(encoder),  # is not trained again
        strategy=strategy,
        pretrained=pretrained,
        classes=split_names(classes) or None,
        random_state=seed,
    )
    return model.fit(survey.images, labels if (labels != "").any() else None, catalog=catalog)


def score_probe(model: SelfSupervisedClassifier, labels: NDArray[Any]) -> float | None:
    """Return the balanced accuracy of the probe, where each label is predicted from all others.

    ``labels`` are those of `train_classifier`. None if no probe was trained.
    """
    probe = model.catalog_probe_ or model.probe_
    if probe is None:
        return None
    guesses = model.classes_[probe.loo_probabilities_.argmax(axis=1)].astype(str)
    return float(balanced_accuracy_score(labels[labels != ""].astype(str), guesses))


def predict_classes(
    model: SelfSupervisedClassifier,
    survey: Survey,
    labels: NDArray[Any] | None = None,
    *,
    catalog: pd.DataFrame | None = None,
    abstain: float,
    sets: float | None = None,
) -> pd.DataFrame:
    """Return the table of `tabulate_predictions`, without the column of labels if there are none.

    No class is predicted with a probability below ``abstain``. With a coverage ``sets``, a column
    ``set`` has the classes of `SelfSupervisedClassifier.predict_set`, joined by "|".
    """
    calibration = None if sets is None else find_calibration(model, sets, catalog)
    report_to("classifying")(0)
    probabilities = model.predict_proba(survey.images, catalog=catalog)
    known = np.full(len(survey.ids), "") if labels is None else labels
    predictions = tabulate_predictions(
        survey.ids, known, probabilities, model.classes_.astype(str), threshold=abstain
    )
    if sets is not None and calibration is not None:
        chosen = calibration.choose_sets(probabilities, sets, model.classes_)
        names = model.classes_.astype(str)
        place = predictions.columns.get_loc("probability") + 1
        predictions.insert(place, "set", ["|".join(names[row]) for row in chosen])
    return predictions.drop(columns="label") if labels is None else predictions


def cluster_objects(
    embeddings: Embeddings,
    catalog: pd.DataFrame | None = None,
    *,
    label: str | None = None,
    on: NDArray[Any] | None = None,
    min_size: int | None = None,
    seed: int = 0,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Find clusters, and summarise them with a catalogue of the same rows.

    They are clusters of the embeddings, or of the numbers ``on``.
    Returns a table of ``id``, ``cluster`` (-1 for noise), ``probability`` and ``outlier_score``,
    and the table of `EmbeddingClusterer.cluster_summary`.
    """
    labels = None if label is None else take_column(catalog, label, "label")
    report_to("clustering")(0)
    values = embeddings.values if on is None else on
    model = EmbeddingClusterer(min_size or "auto", random_state=seed).fit(values)
    clusters = {
        "id": embeddings.ids,
        "cluster": model.labels_,
        "probability": model.probabilities_,
        OUTLIER_SCORE: model.outlier_scores_,
    }
    return pd.DataFrame(clusters), model.cluster_summary(catalog, labels).reset_index()


def choose_columns(
    summary: pd.DataFrame, clusters: pd.DataFrame, catalog: pd.DataFrame | None
) -> pd.DataFrame:
    """Return what a person reads first of the two tables of `cluster_objects`.

    These are the sizes, the classes, and the medians of properties of the objects, those that
    differ most between the clusters first. Of similar properties one is taken. Ids, positions,
    errors, flags, and numbers of the observation and of the processing are left out.
    """
    shown = ["cluster", "size", "majority_class", "purity"]
    frame = summary[[name for name in shown if name in summary]].rename(columns={"size": "objects"})
    if catalog is None:
        return frame
    numbers = catalog.select_dtypes("number")
    is_property = [
        not _BOOKKEEPING.search(str(name)) and not is_id_name(name) and numbers[name].nunique() > 2
        for name in numbers
    ]
    numbers = numbers.loc[:, is_property]

    # sort by the scatter of the medians, in units of the scatter inside the clusters
    medians = summary.loc[summary["cluster"] >= 0, [f"median_{name}" for name in numbers]]
    assigned = clusters["cluster"].to_numpy()
    inside = numbers.sub(numbers.groupby(assigned).transform("median")).abs().median()
    scatter = medians.set_axis(numbers.columns, axis=1).std() / inside.where(inside > 0)
    first = scatter.sort_values(ascending=False, kind="stable").index[:_N_CANDIDATES]
    similar = numbers[first].corr("spearman").abs() > _MAX_CORRELATION
    chosen: list[Any] = []
    for name in first:
        if not similar.loc[name, chosen].any():
            chosen.append(name)
    chosen = chosen[:_N_MEDIANS]
    for name in chosen:
        frame[f"median_{name}" if name in frame else name] = summary[f"median_{name}"]
    return frame


def gather_map(
    source: Path,
    *,
    encoder: Path | None,
    device: str,
    catalog: Path | None,
    images: Sequence[str] | None,
    id: str | None,
    columns: str | None,
    color: str | None,
    clusters: bool,
    max_objects: int,
    seed: int,
    say: Say,
    **options: Any,
) -> tuple[NDArray[np.float32], Survey]:
    """Return what a map shows: embeddings, and a survey of their ids, catalogue and stamps.

    With an encoder, ``source`` is a data folder, whose stamps are embedded after everything else
    was checked; a ``catalog`` replaces that of the folder. ``columns`` are columns of the catalogue
    or patterns, separated by commas; without them all are shown. The outlier score of the
    embeddings and, with ``clusters``, their clusters become columns too, which ``color`` may name.
    The catalogue begins with
    ``id``; the stamps are None if there are none. ``options`` are those of `read_data`.
    """
    if encoder is not None and images:
        raise ValueError(f"--images is for embeddings: with --encoder the stamps of {source} show.")
    model = None if encoder is None else load_encoder(encoder, device=device)
    embeddings, rows, table, stamps = join_sources(
        source, catalog, images, id, is_folder=model is not None, say=say, **options
    )

    # choose columns, and check them before stamps are embedded
    units = table.attrs.get("units", {})
    if names := split_names(columns):
        table = table[match_columns(table.columns, names, label=None, name="columns")]
    table = table.drop(columns="id", errors="ignore")
    table.insert(0, "id", embeddings.ids[rows])
    if color is not None:
        added = [CLUSTER, CLUSTER_PROBABILITY] if clusters else []
        if model is not None and model.image_shape_ is None:
            added += ["kind", *model.property_names_]
        _check_column(color, [*table.columns, *added, OUTLIER_SCORE], "color")

    # choose objects
    if len(table) > max_objects:
        say(f"{max_objects:,} of {len(table):,} objects are shown, drawn at random.")
        drawn = np.random.default_rng(seed).choice(len(table), max_objects, replace=False)
        drawn.sort()
        rows, table = rows[drawn], table.iloc[drawn].reset_index(drop=True)
        stamps = None if stamps is None else stamps[drawn]

    # embed and cluster them
    values = embeddings.values[rows] if model is None else np.asarray(model.transform(stamps))
    ids = embeddings.ids[rows]
    if model is not None and (morphology := describe_morphology(model, values)) is not None:
        table.attrs["units"] = units
        table = append_columns(table, morphology)
        units = table.attrs["units"]
    if clusters:
        assigned, _ = cluster_objects(Embeddings(values, ids), seed=seed)
        table[CLUSTER] = assigned["cluster"].to_numpy()
        table[CLUSTER_PROBABILITY] = assigned["probability"].to_numpy()
    table[OUTLIER_SCORE] = outlier_scores(values, random_state=seed)
    table.attrs["units"] = {name: unit for name, unit in units.items() if name in table}
    return values, Survey(stamps, table, ids)


def join_sources(
    source: Path,
    catalog: Path | None,
    images: Sequence[str] | None,
    id: str | None,
    *,
    is_folder: bool,
    say: Say,
    **options: Any,
) -> tuple[Embeddings, NDArray[np.int64], pd.DataFrame, Any]:
    """Return embeddings, their rows that the catalogue has, and its rows and stamps of these.

    Embeddings of a data folder have no columns: its stamps are embedded later.
    """
    table, stamps = None, None
    if is_folder:
        survey = load_objects(source, say, id=id, **options)
        embeddings = Embeddings(np.empty((len(survey.ids), 0), np.float32), survey.ids)
        table, stamps = survey.catalog, survey.images
    else:
        embeddings = find_embeddings(source)
        if not images and catalog is None and (source / _STUDY_PREDICTIONS).is_file():
            catalog = source / _STUDY_PREDICTIONS
    rows: NDArray[np.int64] = np.arange(len(embeddings.ids))
    if images:
        survey = load_objects(None, say, catalog=catalog, images=images, id=id, **options)
        rows, order = join_rows(embeddings, survey.ids, name="the stack of stamps")
        table = survey.catalog.iloc[order].reset_index(drop=True)
        stamps = survey.images[order]
    elif catalog is not None:
        rows, table = match_catalog(embeddings, catalog, id=id, say=say)
        stamps = None if stamps is None else stamps[rows]
    return embeddings, rows, pd.DataFrame(index=rows) if table is None else table, stamps
