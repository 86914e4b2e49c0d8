"""A whole study in one call: data, pretraining, label-efficiency curve, files and report."""

from __future__ import annotations

from skastro.pages.summary import METHOD
from typing import Any
from numpy.typing import NDArray
from skastro.evaluation.calibration import expected_calibration_error
from collections.abc import Callable
from skastro.study.folder import FINISHED_STEPS
from skastro.study.plan import FULL
from pathlib import Path
from skastro.study.plan import Plan
from skastro.utils.progress import Progress
from skastro.utils.progress import Say
from skastro.study.results import Study
from skastro.study.data import StudyData
from skastro.study.folder import Unfinished
from skastro.utils.progress import Watched
from skastro.study.folder import describe_job
from skastro.evaluation.property_scores import grade_pretext
from skastro.evaluation.label_efficiency import label_efficiency_curve
from skastro.stamps.photometry import measure_properties
import numpy as np
from time import perf_counter
from skastro.study.folder import replace_folder
from skastro.study.results import write_study
from skastro.utils.files import writing
from skastro.utils.packages import import_optional
from skastro.evaluation.splits import Split
from skastro.utils.validation import check_labels
from sklearn.utils import check_random_state
from skastro.evaluation.splits import draw_splits
import pandas as pd
from dataclasses import replace
from skastro.estimators.encoder import PropertyPretrainedEncoder
from skastro.networks.training import choose_epochs
from skastro.study.baselines import represent
from sklearn.frozen import FrozenEstimator
from skastro.estimators.kernel_probe import KernelProbe
from skastro.estimators.linear_probe import LinearProbe
from collections.abc import Mapping
from skastro.estimators.classifier import SelfSupervisedClassifier
from skastro.study.baselines import standardise
from skastro.embeddings.projection import Projection
from skastro.embeddings.projection import project_embedding
from skastro.embeddings.clustering import EmbeddingClusterer
from skastro.embeddings.scores import compare_representations
from dataclasses import asdict
from skastro.utils.packages import library_versions
import torch


TEST_SIZE = 0.3
_NETWORKS = {
    "auto": f"{METHOD}, auto",
    "finetune": f"{METHOD}, fine-tuned",
    "scratch": "scratch",
}
_KNOWN = 0.8  # share of the objects whose magnitude is known, for results by magnitude

def _negative_calibration_error(classifier: Any, X: Any, y: NDArray[Any]) -> float:
    return -expected_calibration_error(y, classifier.predict_proba(X), classes=classifier.classes_)

SCORING: dict[str, str | Callable[..., Any]] = {
    "balanced_accuracy": "balanced_accuracy",
    "f1_macro": "f1_macro",
    "neg_calibration_error": _negative_calibration_error,
}

def run_study(
    data: StudyData,
    out: str | Path,
    *,
    plan: Plan = FULL,
    random_state: int = 0,
    overwrite: bool = False,
    command: str | None = None,
    progress: Progress | None = None,
    say: Say | None = None,
) -> Study:
    """Pretrain, measure how few labels are enough, and write all of it into a folder.

    Parameters
    ----------
    data : StudyData
    out : path
        Folder for the results. It appears only when everything is written; an earlier study
        in it is replaced. What is done so far lies beside it, in ``.<name>.partial``: after an
        interruption the same call repeats neither the pretraining nor a finished row of the
        curve, and ends with the same numbers.
    plan : Plan, default=FULL
    random_state : int, default=0
    overwrite : bool, default=False
        Write among other files, which stay as they are.
    command : str, default=None
        How to repeat the study, for the report.
    progress : callable, default=None
        Called as ``progress(stage, done, total)``.
    say : callable, default=None
        Called with a sentence on each thing worth knowing.

    Returns
    -------
    study : Study

    Raises
    ------
    ValueError, OSError
        The folder or the plan cannot be used.

    Examples
    --------
    >>> from skastro import load_data
    >>> data = load_data("survey", label="class", properties=["mag_*"])  # doctest: +SKIP
    >>> study = run_study(data, "study")  # minutes to hours  # doctest: +SKIP
    >>> study.curve.summary()  # doctest: +SKIP
    """
    progress, say = progress or (lambda *_: None), say or (lambda _: None)
    _check_packages()
    start = perf_counter()
    with replace_folder(Path(out).expanduser(), overwrite=overwrite) as folder:
        split = _draw_split(data, plan, random_state)
        plan = _clip_counts(plan, data.labels, split.pool, say)
        plan = _settle_epochs(plan, len(split.pool))
        kept = Unfinished(folder.parent / FINISHED_STEPS, describe_job(data, plan, random_state), say)
        measured = measure_properties(Watched(data.images, progress, "measuring the stamps"))
        encoder, representations = _learn(data, split.pool, plan, random_state, progress, say, kept)
        described = _describe_objects(encoder, representations[METHOD], measured)
        curve = label_efficiency_curve(
            _estimators(data, split.pool, plan, encoder, representations, described, measured),
            data.images,
            data.labels,
            label_counts=plan.label_counts,
            n_repeats=plan.n_repeats,
            test_size=TEST_SIZE,
            groups=data.groups,
            scoring=SCORING,
            random_state=random_state,
            progress=lambda done, total: progress("learning from few labels", done, total),
            finished=kept.cells,
        )
        sides = np.full(len(data.labels), "aside")
        sides[split.pool], sides[split.test] = "train", "test"
        truth = _known_properties(data, measured)
        predicted = encoder.predict_embedded(representations[METHOD])
        projections = _project(representations, plan, random_state, progress)
        study = Study(
            curve=curve,
            encoder=encoder,
            embeddings=representations[METHOD],
            split=sides,
            predictions=_predict(data, *described, sides, split.orders[0], plan),
            pretext=grade_pretext(truth, predicted, split.test),
            predicted=predicted,
            objects=_gather(data, representations[METHOD], projections, truth, random_state),
            projections=projections,
            representations=_compare(representations, data, random_state, progress),
            magnitude=_find_magnitude(truth),
            config=_describe(data, sides, plan, random_state, command, perf_counter() - start)
            | {
                "projection": {
                    "method": "t-SNE",
                    "trustworthiness": round(projections[METHOD].trustworthiness, 4),
                },
                "units": truth.attrs["units"],
                "resumed": kept.resumed,
            },
        )
        progress("writing", 0, None)
        with writing(Path(out)):
            write_study(study, data, folder)
    return study

def _check_packages() -> None:
    """Ask for all that a study needs before it computes for minutes."""
    for package in ("matplotlib.figure", "jinja2", "bokeh"):
        import_optional(package, extra="report", needed_by="A study")
    import_optional("openTSNE", extra="projection", needed_by="A study")

def _draw_split(data: StudyData, plan: Plan, seed: int) -> Split:
    """Draw the very rows that `label_efficiency_curve` will test on and learn from."""
    groups = None if data.groups is None else pd.factorize(data.groups)[0]
    if groups is not None and (groups < 0).any():
        raise ValueError("groups has missing values: give each such row a group of its own.")
    drawn = check_random_state(seed).randint(np.iinfo(np.int32).max)
    shape = (1, plan.n_repeats)
    return draw_splits(
        *check_labels(data.labels), groups, test_size=TEST_SIZE, seed=drawn, shape=shape
    )[0]

def _clip_counts(plan: Plan, labels: NDArray[Any], pool: NDArray[Any], say: Say) -> Plan:
    most, fewest = int((labels[pool] != "").sum()), len(set(labels) - {""})
    counts = tuple(sorted({min(count, most) for count in plan.label_counts if count >= fewest}))
    if not counts:
        raise ValueError(
            f"label_counts={list(plan.label_counts)} has no count of at least {fewest}, one "
            "label of each class: ask for more labels."
        )
    if counts != tuple(sorted(set(plan.label_counts))):
        say(
            f"Label counts are {', '.join(map(str, counts))}: there are {fewest} classes, and "
            f"{most:,} labelled rows to learn from."
        )
    return replace(plan, label_counts=counts)

def _settle_epochs(plan: Plan, n: int) -> Plan:
    if plan.max_epochs is not None:
        return plan
    return replace(plan, max_epochs=choose_epochs(n, PropertyPretrainedEncoder().batch_size))

def _learn(
    data: StudyData,
    pool: NDArray[Any],
    plan: Plan,
    seed: int,
    progress: Progress,
    say: Say,
    kept: Unfinished,
) -> tuple[PropertyPretrainedEncoder, dict[str, NDArray[Any]]]:
    """Pretrain, and represent all stamps, unless an interrupted study has."""
    encoder = kept.encoder(lambda folder: _pretrain(data, pool, plan, seed, progress, folder))
    representations = kept.arrays(
        "representations",
        lambda: represent(data.images, pool, encoder, progress, say, views=plan.imagenet_views),
    )
    return encoder, representations

def _pretrain(
    data: StudyData,
    pool: NDArray[Any],
    plan: Plan,
    seed: int,
    progress: Progress,
    checkpoint: Path,
) -> PropertyPretrainedEncoder:
    encoder = PropertyPretrainedEncoder(
        plan.backbone,
        properties="measured" if data.properties is None else "catalog+measured",
        max_epochs=plan.max_epochs,
        device=plan.device,
        checkpoint_dir=checkpoint,
        random_state=seed,
    )
    # besides the epochs the stamps are read to be checked, measured and embedded
    passes = (plan.max_epochs or 0) + 3
    stamps = Watched(data.images, progress, "pretraining", rows=pool, passes=passes)
    encoder.fit(
        stamps,
        properties=None if data.properties is None else data.properties.iloc[pool],
        property_errors=None if data.errors is None else data.errors[pool],
    )
    progress("pretraining", len(pool) * passes, len(pool) * passes)
    return encoder

def _describe_objects(
    encoder: PropertyPretrainedEncoder, embeddings: NDArray[Any], measured: pd.DataFrame
) -> tuple[NDArray[np.float64], int]:
    """Return what `SelfSupervisedClassifier.describe` does, and how many columns are properties."""
    predicted = encoder.predict_embedded(embeddings)
    columns = np.hstack([embeddings, predicted, measured])
    return columns, predicted.shape[1] + measured.shape[1]

def _estimators(
    data: StudyData,
    pool: NDArray[Any],
    plan: Plan,
    encoder: PropertyPretrainedEncoder,
    representations: Mapping[str, NDArray[Any]],
    described: tuple[NDArray[Any], int],
    measured: pd.DataFrame,
) -> dict[str, Any]:
    """Return the rows of the curve.

    The baselines get the same probe as ours, on columns standardised on the rows of the pool.
    """
    columns, n_properties = described
    rows: dict[str, Any] = {
        METHOD: (KernelProbe(n_properties), columns),
        f"{METHOD}, linear probe": (LinearProbe(), representations[METHOD]),
    }
    if data.properties is not None:
        told = np.hstack([columns, data.properties])
        of_catalog = KernelProbe(n_properties + data.properties.shape[1])
        rows[f"{METHOD} + catalogue"] = (of_catalog, told)
    for strategy, name in _NETWORKS.items():
        if not getattr(plan, strategy):
            continue
        rows[name] = SelfSupervisedClassifier(
            FrozenEstimator(encoder),
            strategy=strategy,
            steps=plan.steps,
            random_state=encoder.seed_,
        )
    if data.properties is not None:
        rows["catalogue"] = (KernelProbe(), standardise(data.properties, pool))
    rows["aperture"] = (KernelProbe(), standardise(measured, pool))
    if "ImageNet" in representations:
        rows["ImageNet"] = (KernelProbe(), representations["ImageNet"])
    return rows

def _predict(
    data: StudyData,
    columns: NDArray[Any],
    n_properties: int,
    sides: NDArray[Any],
    order: NDArray[Any],
    plan: Plan,
) -> pd.DataFrame:
    """Classify all rows with the probe that learned from the most labels."""
    learned = order[: plan.label_counts[-1]]
    probe = KernelProbe(n_properties).fit(columns[learned], data.labels[learned].astype(str))
    probabilities = probe.predict_proba(columns)
    told = {
        "id": data.ids,
        "split": sides,
        "label": data.labels,
        "used": np.isin(np.arange(len(columns)), learned),
        "prediction": probe.classes_[probabilities.argmax(axis=1)],
    }
    told |= {f"p_{name}": probabilities[:, i] for i, name in enumerate(probe.classes_)}
    return pd.DataFrame(told)

def _known_properties(data: StudyData, measured: pd.DataFrame) -> pd.DataFrame:
    """Return the properties under the names that the encoder has for them."""
    if data.properties is None:
        return measured
    table = pd.concat([data.properties, measured.add_prefix("measured_")], axis=1)
    units = {f"measured_{name}": unit for name, unit in measured.attrs["units"].items()}
    table.attrs["units"] = data.properties.attrs.get("units", {}) | units
    return table

def _find_magnitude(truth: pd.DataFrame) -> str:
    """Choose the property by which results are binned: a magnitude of the middle band."""
    names = [n for n in truth if "mag" in n.lower() and "core" not in n]
    of_catalog = [
        n for n in names if not n.startswith("measured_") and truth[n].notna().mean() >= _KNOWN
    ]
    chosen = of_catalog or [n for n in names if n.startswith("measured_")] or names
    return chosen[len(chosen) // 2]

def _project(
    representations: Mapping[str, NDArray[Any]], plan: Plan, seed: int, progress: Progress
) -> dict[str, Projection]:
    names = list(representations) if plan.side_by_side else [METHOD]
    projections = {}
    for done, name in enumerate(names):
        progress("projecting", done, len(names))
        projections[name] = project_embedding(representations[name], random_state=seed, n_jobs=-1)
    return projections

def _gather(
    data: StudyData,
    embeddings: NDArray[Any],
    projections: Mapping[str, Projection],
    truth: pd.DataFrame,
    seed: int,
) -> pd.DataFrame:
    """Return what the report shows of each object besides its class."""
    clusterer = EmbeddingClusterer(random_state=seed).fit(embeddings)
    x, y = projections[METHOD].coordinates.T
    found = {
        "id": data.ids,
        "x": x,
        "y": y,
        "cluster": clusterer.labels_,
        "cluster_probability": clusterer.probabilities_,
        "outlier_score": clusterer.outlier_scores_,
    }
    clear = truth.drop(columns=list(found), errors="ignore").reset_index(drop=True)
    return pd.concat([pd.DataFrame(found), clear], axis=1)

def _compare(
    representations: Mapping[str, NDArray[Any]], data: StudyData, seed: int, progress: Progress
) -> pd.DataFrame:
    """Score the representations one by one, which takes a while."""
    tables = []
    for done, (name, columns) in enumerate(representations.items()):
        progress("scoring representations", done, len(representations))
        scores = compare_representations(
            {name: columns}, data.labels, groups=data.groups, random_state=seed
        )
        tables.append(scores)
    return pd.concat(tables)

def _describe(
    data: StudyData, sides: NDArray[Any], plan: Plan, seed: int, command: str | None, seconds: float
) -> dict[str, Any]:
    labelled = data.labels != ""
    names, sizes = np.unique(data.labels[labelled].astype(str), return_counts=True)
    return {
        "command": command,
        "seed": seed,
        "plan": asdict(plan),
        "data": {
            "source": data.source,
            "label": data.label,
            "groups": data.group_by,
            "errors": data.error_columns,
            "n_rows": len(data.labels),
            "image_shape": list(map(int, data.images.shape[1:])),
            "classes": dict(zip(names.tolist(), sizes.tolist(), strict=True)),
            "properties": [] if data.properties is None else list(data.properties.columns),
        },
        "split": {
            "n_train": int((sides == "train").sum()),
            "n_train_labelled": int(((sides == "train") & labelled).sum()),
            "n_test": int((sides == "test").sum()),
            "test_size": TEST_SIZE,
        },
        "threads": torch.get_num_threads(),
        "seconds": round(seconds, 1),
        "versions": library_versions(),
    }
