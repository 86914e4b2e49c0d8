"""Run a whole study: pretraining, label-efficiency curve, files and report."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from sklearn.frozen import FrozenEstimator

from skastro.embeddings.clustering import EmbeddingClusterer
from skastro.embeddings.projection import METHOD_NAMES, Projection
from skastro.estimators.classifier import SelfSupervisedClassifier
from skastro.estimators.encoder import PropertyPretrainedEncoder
from skastro.estimators.morphology import tabulate_morphology
from skastro.estimators.representation import join_columns
from skastro.evaluation.calibration import expected_calibration_error, tabulate_predictions
from skastro.evaluation.label_efficiency import METHOD, LabelEfficiencyCurve, label_efficiency_curve
from skastro.evaluation.property_scores import grade_properties, join_measured
from skastro.evaluation.splits import Split, draw_splits
from skastro.networks.training import choose_epochs
from skastro.probes.kernel_probe import KernelProbe
from skastro.probes.linear_probe import LinearProbe
from skastro.stamps.photometry import measure_properties
from skastro.study.baselines import represent, standardise
from skastro.study.data import SURVEY_OBJECTS, StudyData
from skastro.study.folder import FINISHED_STEPS, Unfinished, describe_job, replace_folder
from skastro.study.mistakes import explain_mistakes
from skastro.study.results import Study, write_study
from skastro.study.structure import Structure, finding_structure
from skastro.study.teachers import (
    NO_TEACHER,
    TeacherProbe,
    Teachers,
    append_columns,
    favoured_teacher,
    row_of_teacher,
)
from skastro.utils.files import writing
from skastro.utils.packages import import_optional, library_versions
from skastro.utils.progress import Progress, Say, report_to, reporting, say_nothing

TEST_SIZE = 0.3  # share of the labelled rows
_MIN_MEASURED_SHARE = 0.8  # of the rows, in the magnitude by which results are binned


@dataclass(frozen=True)
class Plan:
    """How much a study computes.

    `PropertyPretrainedEncoder` describes ``backbone``, ``max_epochs`` and ``device``, and
    `SelfSupervisedClassifier` ``pretrained`` and the ``steps`` of the networks that are trained on
    labels.
    """

    n_objects: int = SURVEY_OBJECTS  # size of the simulated survey
    # numbers of labels to learn from; 0 for teachers that know the classes
    label_counts: tuple[int, ...] = (0, 30, 100, 300, 1000)
    n_repeats: int = 5  # number of draws of the labels
    network_repeats: int | None = None  # draws on which networks are trained; None: all of them
    backbone: str = "stamp_resnet18"
    max_epochs: int | None = None
    epoch_share: float = 1.0  # of the number of epochs that the encoder would choose
    steps: int | None = None
    pretrained: str = "auto"  # teacher: a name of `list_pretrained`, "none", or those that help
    # Whether to run `SelfSupervisedClassifier` with these strategies too. Their fits take most of
    # the time of a study, "auto" four times as long as the others.
    finetune: bool = True
    scratch: bool = True
    auto: bool = False
    imagenet: bool = True  # classify by ImageNet features, too
    variants: bool = True  # a linear probe, and the network with random weights, too
    side_by_side: bool = True  # project the other representations too
    device: str = "auto"


# careful networks take most of the time; fine-tuned ones are hardly better than the probe
FULL = Plan(network_repeats=3, finetune=False)
QUICK = Plan(
    n_objects=1500,
    label_counts=(0, 30, 100),
    n_repeats=3,
    network_repeats=1,
    backbone="stamp_resnet10",
    epoch_share=2 / 3,
    finetune=False,
    imagenet=False,
    variants=False,
    side_by_side=False,
)


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
    plan: Plan | None = None,
    random_state: int = 0,
    overwrite: bool = False,
    command: str | None = None,
    progress: Progress | None = None,
    say: Say | None = None,
) -> Study:
    """Pretrain, measure how few labels are enough, and write all results into a folder.

    Parameters
    ----------
    data : StudyData
        Stamps, labels and properties, as `load_data` returns them.
    out : path
        Folder for the results. It appears when all files are written, and replaces an earlier
        study of this name. Finished steps are kept in ``.<name>.partial`` beside it: after an
        interruption the same call resumes there, and gives the same numbers.
    plan : Plan, default=None
        How much to compute; None is a full study.
    random_state : int, default=0
        Seed of all draws and networks.
    overwrite : bool, default=False
        Whether to write into a folder with other files, which stay unchanged.
    command : str, default=None
        Command that repeats the study, for the report.
    progress : callable, default=None
        Called as ``progress(stage, done, total)``. None keeps the function of an enclosing
        ``reporting``.
    say : callable, default=None
        Called with sentences for the user.

    Returns
    -------
    study : Study
        With the fields ``curve``, ``encoder``, ``embeddings``, ``split``, ``predictions``,
        ``pretext``, ``predicted``, ``objects``, ``morphology``, ``projections``,
        ``representations``, ``magnitude`` and ``config``.

    Raises
    ------
    ValueError, OSError
        The data, the folder or the plan cannot be used.

    Examples
    --------
    >>> from skastro import load_data
    >>> data = load_data("survey", label="class", properties=["mag_*"])  # doctest: +SKIP
    >>> study = run_study(data, "study")  # minutes to hours  # doctest: +SKIP
    >>> study.curve.summary()  # doctest: +SKIP
    """
    plan, say, start = plan or FULL, say or say_nothing, perf_counter()
    _check_packages()
    reports = nullcontext() if progress is None else reporting(progress)
    with reports, replace_folder(Path(out).expanduser(), overwrite=overwrite) as folder:
        # settle which rows to test on, and how much to compute
        split = draw_splits(
            data.labels,
            n_repeats=plan.n_repeats,
            test_size=TEST_SIZE,
            groups=data.groups,
            random_state=random_state,
        )[0]
        plan = _settle_plan(plan, data.labels, split.pool, say)
        job = describe_job(data, plan, random_state)
        finished = Unfinished(folder.parent / FINISHED_STEPS, job, say)

        # pretrain, and represent all stamps
        measured = measure_properties(data.images)
        encoder = finished.encoder(
            lambda checkpoints: _pretrain(data, split.pool, plan, random_state, checkpoints)
        )
        rows = np.sort(split.orders[0][: next(count for count in plan.label_counts if count)])
        teachers = Teachers.find(plan.pretrained, encoder, data.images[rows], data.labels[rows])
        representations = finished.representations(
            lambda: (
                represent(
                    data.images, split.pool, encoder, say,
                    imagenet=plan.imagenet, untrained=plan.variants,
                )
                | teachers.embed(data.images)
            )
        )  # fmt: skip
        columns = join_columns(encoder, representations[METHOD], measured)
        learned = _Learned(encoder, teachers, representations, measured, columns)

        # learn from few labels; meanwhile another process looks at what needs no network
        with finding_structure(
            representations,
            data.labels,
            groups=data.groups,
            side_by_side=plan.side_by_side,
            seed=random_state,
        ) as find_structure:
            curve = _measure_curve(data, split, plan, learned, finished)
            structure = find_structure()

        # collect the results, and write them
        study = _collect(data, plan, split, learned, curve, structure)
        study.config["command"] = command
        study.config["resumed"] = finished.resumed
        study.config["seconds"] = round(perf_counter() - start, 1)
        report_to("writing the report")(0)
        with writing(Path(out)):
            write_study(study, data, folder)
    return study


def _check_packages() -> None:
    """Refuse to start without all optional packages that a study needs at its end."""
    for package in ("matplotlib.figure", "jinja2", "bokeh"):
        import_optional(package, extra="report", needed_by="A study")
    import_optional("openTSNE", extra="projection", needed_by="A study")


def _settle_plan(plan: Plan, labels: NDArray[Any], pool: NDArray[Any], say: Say) -> Plan:
    """Limit the label counts to what the data allow, and choose the number of epochs."""
    most, fewest = int((labels[pool] != "").sum()), len(set(labels) - {""})
    counts = tuple(
        sorted({min(count, most) for count in plan.label_counts if count >= fewest or count == 0})
    )
    if not any(counts):
        raise ValueError(
            f"label_counts={list(plan.label_counts)} has no count of at least {fewest}, one "
            "label of each class: ask for more labels."
        )
    if counts != tuple(sorted(set(plan.label_counts))):
        say(
            f"Label counts are {', '.join(map(str, counts))}: there are {fewest} classes, and "
            f"{most:,} labelled rows to learn from."
        )
    epochs = plan.max_epochs
    if epochs is None:
        usual = choose_epochs(len(pool), PropertyPretrainedEncoder().batch_size)
        epochs = max(1, round(plan.epoch_share * usual))
    return replace(plan, label_counts=counts, max_epochs=epochs)


def _pretrain(
    data: StudyData, pool: NDArray[Any], plan: Plan, seed: int, checkpoints: Path
) -> PropertyPretrainedEncoder:
    encoder = PropertyPretrainedEncoder(
        plan.backbone,
        max_epochs=plan.max_epochs,
        device=plan.device,
        checkpoint_dir=checkpoints,
        random_state=seed,
    )
    return encoder.fit(
        data.images[pool],
        properties=None if data.properties is None else data.properties.iloc[pool],
        property_errors=None if data.errors is None else data.errors[pool],
    )


@dataclass(eq=False)
class _Learned:
    """Representations of all stamps, learned without labels."""

    encoder: PropertyPretrainedEncoder
    teachers: Teachers
    representations: Mapping[str, NDArray[np.float32]]  # embeddings (n, d) by their names
    measured: pd.DataFrame  # properties measured from the pixels
    # embeddings and properties by the encoder, as in `SelfSupervisedClassifier.describe`
    columns: NDArray[np.float64]

    @property
    def n_properties(self) -> int:
        return self.columns.shape[1] - self.representations[METHOD].shape[1]

    def plan_probe(
        self, pool: NDArray[Any], catalog: Any = None
    ) -> tuple[TeacherProbe, NDArray[np.float64]]:
        """Return an unfitted probe, like that of `SelfSupervisedClassifier`, and its columns."""
        own, n_properties = self.columns, self.n_properties
        if catalog is not None:
            own, n_properties = np.hstack([own, catalog]), n_properties + catalog.shape[1]
        return self.teachers.plan_probe(own, n_properties, self.representations, pool)


def _choose_methods(
    data: StudyData, pool: NDArray[Any], plan: Plan, learned: _Learned
) -> dict[str, Any]:
    """Return the methods to compare, by name.

    All baselines have the probe of our method, on columns standardised by rows of the pool.
    """
    # our method on the embeddings, also together with the catalogue, and its parts
    methods: dict[str, Any] = {METHOD: learned.plan_probe(pool)}
    if learned.teachers.encoders:
        alone = learned.teachers.plan_probe(None, 0, learned.representations, pool)
        methods[f"{METHOD}, teacher alone"] = alone
        methods[f"{METHOD}, no teacher"] = KernelProbe(learned.n_properties), learned.columns
    if plan.variants:
        methods[f"{METHOD}, linear probe"] = LinearProbe(), learned.representations[METHOD]
    if data.properties is not None:
        both, columns = learned.plan_probe(pool, data.properties)
        methods[f"{METHOD} + catalogue"] = both.probe, columns
    # networks trained on the labels
    names = {"auto": f"{METHOD}, auto", "finetune": f"{METHOD}, fine-tuned", "scratch": "scratch"}
    for strategy, name in names.items():
        if getattr(plan, strategy):
            methods[name] = SelfSupervisedClassifier(
                FrozenEstimator(learned.encoder),
                strategy=strategy,
                pretrained=None if plan.pretrained == NO_TEACHER else plan.pretrained,
                steps=plan.steps,
                random_state=learned.encoder.seed_,
            )
    # baselines without our representation
    if data.properties is not None:
        methods["catalogue"] = KernelProbe(), standardise(data.properties, pool)
    methods["aperture"] = KernelProbe(), standardise(learned.measured, pool)
    if "ImageNet" in learned.representations:
        methods["ImageNet"] = KernelProbe(), learned.representations["ImageNet"]
    return methods


def _measure_curve(
    data: StudyData, split: Split, plan: Plan, learned: _Learned, finished: Unfinished
) -> LabelEfficiencyCurve:
    """Score all methods with growing numbers of labels."""
    methods = _choose_methods(data, split.pool, plan, learned)
    networks = [k for k, v in methods.items() if isinstance(v, SelfSupervisedClassifier)]
    return label_efficiency_curve(
        methods,
        data.images,
        data.labels,
        label_counts=plan.label_counts,
        groups=data.groups,
        scoring=SCORING,
        finished=finished.cells,
        splits=[split],
        max_repeats=dict.fromkeys(networks, plan.network_repeats or plan.n_repeats),
    )


def _collect(
    data: StudyData,
    plan: Plan,
    split: Split,
    learned: _Learned,
    curve: LabelEfficiencyCurve,
    structure: Structure,
) -> Study:
    """Classify all stamps, and return all results of a study."""
    # split, true and predicted properties, and clusters
    embeddings = learned.representations[METHOD]
    sides = np.full(len(data.labels), "aside")
    sides[split.pool], sides[split.test] = "train", "test"
    true = join_measured(data.properties, learned.measured)
    predicted = learned.encoder.predict_embedded(embeddings)
    projection = structure.projections[METHOD]
    objects = _tabulate_objects(data, structure.clusterer, projection, true)
    # classes of all stamps, and what the teacher sees in them if they depend on it
    rows = split.orders[0][: plan.label_counts[-1]]
    predictions, probe, columns = _predict(data, learned, split.pool, rows, sides)
    names, teachers = list(learned.teachers.encoders), learned.teachers.encoders.values()
    mistakes = explain_mistakes(
        predictions,
        probe,
        data.labels[rows],
        columns,
        learned.encoder,
        learned.measured,
        [*teachers],
    )
    teacher = favoured_teacher(names, probe, named=plan.pretrained != "auto")
    morphology = None
    if teacher is not None:
        encoder = learned.teachers.encoders[teacher]
        morphology = tabulate_morphology(encoder, learned.representations[row_of_teacher(teacher)])
        objects = append_columns(objects, morphology)
    # what is needed to repeat the study
    config = _describe(data, sides, plan, learned.encoder.seed_)
    config["projection"] = {
        "method": METHOD_NAMES[projection.method],
        "trustworthiness": round(projection.trustworthiness, 4),
    }
    config["units"] = true.attrs["units"] | objects.attrs.get("units", {})
    config["teachers"] = dict(zip(names, map(float, probe.shares_[1:].round(4)), strict=True))
    config["morphology"] = teacher
    return Study(
        curve=curve,
        encoder=learned.encoder,
        embeddings=embeddings,
        split=sides,
        predictions=predictions,
        mistakes=mistakes,
        pretext=grade_properties(true.iloc[split.test], predicted.iloc[split.test]),
        predicted=predicted,
        objects=objects,
        morphology=morphology,
        projections=structure.projections,
        representations=structure.scores,
        magnitude=_find_magnitude(true),
        config=config,
    )


def _predict(
    data: StudyData,
    learned: _Learned,
    pool: NDArray[Any],
    rows: NDArray[Any],
    sides: NDArray[Any],
) -> tuple[pd.DataFrame, KernelProbe, NDArray[np.float64]]:
    """Classify all stamps with a probe that learns from some labels; return its columns, too."""
    planned, columns = learned.plan_probe(pool)
    probe = planned.probe.fit(columns[rows], data.labels[rows].astype(str))
    probabilities = probe.predict_proba(columns)
    table = tabulate_predictions(data.ids, data.labels, probabilities, probe.classes_)
    table = table.drop(columns=["most_probable", "probability"])
    table.insert(1, "split", sides)
    table.insert(3, "used", np.isin(np.arange(len(table)), rows))
    return table, probe, columns


def _find_magnitude(true: pd.DataFrame) -> str:
    """Choose the property by which results are binned: a magnitude of the middle band."""
    names = [name for name in true if "mag" in name.lower() and "core" not in name]
    measured = [name for name in names if name.startswith("measured_")]
    full = true.columns[true.notna().mean() >= _MIN_MEASURED_SHARE]
    of_catalog = [name for name in names if name in full and name not in measured]
    chosen = of_catalog or measured or names
    return chosen[len(chosen) // 2]


def _tabulate_objects(
    data: StudyData, clusterer: EmbeddingClusterer, projection: Projection, true: pd.DataFrame
) -> pd.DataFrame:
    """Return the projected position, cluster and properties of each object, for the report."""
    table = pd.DataFrame(projection.coordinates, columns=["x", "y"])
    table.insert(0, "id", data.ids)
    table["cluster"] = clusterer.labels_
    table["cluster_probability"] = clusterer.probabilities_
    table["outlier_score"] = clusterer.outlier_scores_
    if data.sky is not None:
        table["ra"], table["dec"] = data.sky.ra.deg, data.sky.dec.deg
    properties = true.drop(columns=list(table), errors="ignore").reset_index(drop=True)
    return pd.concat([table, properties], axis=1)


def _describe(data: StudyData, sides: NDArray[Any], plan: Plan, seed: int) -> dict[str, Any]:
    """Describe the data, the plan and the versions of a study, for JSON."""
    labelled = data.labels != ""
    names, sizes = np.unique(data.labels[labelled].astype(str), return_counts=True)
    return {
        "command": None,
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
        "versions": library_versions(),
    }
