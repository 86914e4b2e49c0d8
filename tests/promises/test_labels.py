"""Every entrance for labels takes masked ones as unlabelled, and blanks as no part of a class."""

import json

import numpy as np
import pandas as pd
import pytest
from astropy.io import fits
from astropy.table import MaskedColumn
from astropy.utils.masked import Masked
from sklearn.frozen import FrozenEstimator

from skastro import (
    ConfusionDisplay,
    EmbeddingClusterer,
    KernelProbe,
    LinearProbe,
    ProjectionDisplay,
    SelfSupervisedClassifier,
    accuracy_by_magnitude,
    inspect_survey,
    label_efficiency_curve,
    load_folder,
    score_embedding,
    suggest_labels,
)
from skastro.cli.app import main
from skastro.study.data import load_data
from skastro.utils.validation import check_labels
from tests.conftest import make_stamps

STAMPS, LABELS, PROPERTIES = make_stamps()
N = len(LABELS)
HIDDEN = np.arange(N) % 3 == 0  # unlabelled rows
CLASSES = ["galaxy", "star"]
COLUMNS = np.random.default_rng(0).normal(size=(N, 4)) + 3 * (LABELS == "star")[:, None]
TEXT = np.where(HIDDEN, "??", LABELS)
CODES = np.where(HIDDEN, -999, LABELS == "star").astype(np.int64)


def with_gaps(values, gap):
    return [gap if hidden else value for value, hidden in zip(values, HIDDEN, strict=True)]


def null_column():
    column = fits.Column("class", "J", array=CODES, null=-999)
    table = fits.BinTableHDU.from_columns([column])
    return MaskedColumn(table.data["class"], mask=table.data["class"] == -999)


pyarrow = pytest.importorskip("pyarrow")
MASKED = {  # the same labels, those of the hidden rows masked or missing
    "masked array of integers": np.ma.array(CODES, mask=HIDDEN),
    "masked array of floats": np.ma.array(CODES * 1.0, mask=HIDDEN),
    "masked array of booleans": np.ma.array(CODES == 1, mask=HIDDEN),
    "masked array of text": np.ma.array(TEXT, mask=HIDDEN),
    "masked array of bytes": np.ma.array(TEXT.astype("S"), mask=HIDDEN),
    "MaskedColumn of FITS": null_column(),
    "MaskedColumn of text": MaskedColumn(TEXT, mask=HIDDEN),
    "Masked of astropy": Masked(CODES, mask=HIDDEN),
    "Int64": pd.Series(with_gaps(CODES, None), dtype="Int64"),
    "boolean": pd.Series(with_gaps(CODES == 1, None), dtype="boolean"),
    "Categorical": pd.Series(pd.Categorical(with_gaps(LABELS, None))),
    "Categorical of integers": pd.Series(pd.Categorical(with_gaps(CODES, None))),
    "string": pd.Series(with_gaps(LABELS, None), dtype="string"),
    "pyarrow in pandas": pd.Series(with_gaps(CODES, None), dtype="int64[pyarrow]"),
    "pyarrow": pyarrow.array(with_gaps(CODES.tolist(), None)),
    "pyarrow dictionary": pyarrow.array(with_gaps(LABELS.tolist(), None)).dictionary_encode(),
    "list with None": with_gaps(LABELS.tolist(), None),
    "list with NaN": with_gaps(LABELS.tolist(), np.nan),
    "list with masked": with_gaps(CODES.tolist(), np.ma.masked),
    "array of text with nan": np.array(with_gaps(LABELS.tolist(), np.nan)),
    "blank": np.where(HIDDEN, "  \t", LABELS),
    "-1": np.where(HIDDEN, -1, 2 * CODES),
    "-1.0": np.where(HIDDEN, -1.0, 2 * CODES),
    "-1 beside text": with_gaps(LABELS.tolist(), -1),
}
KINDS_OF_COMMANDS = [MASKED[name] for name in ("masked array of integers", "MaskedColumn of text")]


@pytest.mark.parametrize("name", MASKED)
@pytest.mark.filterwarnings("ignore:.*labels are bytes")
def test_masked_labels_of_every_kind_are_unlabelled(name):
    classes, codes = check_labels(MASKED[name])
    assert len(classes) == 2
    np.testing.assert_array_equal(codes < 0, HIDDEN)
    np.testing.assert_array_equal(codes[~HIDDEN], (LABELS == "star")[~HIDDEN])


def fit_classifier(y, encoder):
    classifier = SelfSupervisedClassifier(FrozenEstimator(encoder), strategy="probe")
    classifier.fit(STAMPS, y)
    return len(classifier.classes_), classifier.score(STAMPS, y)


def fit_probe(probe, y):
    fitted = probe.fit(COLUMNS, y)
    return len(fitted.classes_), fitted.score(COLUMNS, y)


def draw_curve(y):
    curve = label_efficiency_curve(
        {"probe": LinearProbe(C=1.0)}, COLUMNS, y, label_counts=[10], n_repeats=2, random_state=0
    )
    return curve.scores["n_labels"].tolist(), curve.scores["score"].tolist()


def summarise(y):
    summary = EmbeddingClusterer(min_cluster_size=5, random_state=0).fit(COLUMNS)
    summary = summary.cluster_summary(labels=y)
    return int(summary["n_labelled"].sum()), summary["purity"].dropna().tolist()


def count_confusion(y):
    display = ConfusionDisplay.from_predictions(y, y)
    return display.n_unlabelled, display.counts.tolist()


def colour(y):
    display = ProjectionDisplay.from_result(COLUMNS[:, :2], color=y, kind="class")
    return [text.get_text().split("(")[-1] for text in display.legend_.get_texts()]


def inspect(y):
    catalog = pd.DataFrame({"mag": np.arange(N), "class": pd.Series(y.tolist(), dtype=object)})
    return sorted(inspect_survey(STAMPS, catalog, label="class").classes.values())


ENTRANCES = {
    "classifier": fit_classifier,
    "kernel probe": lambda y, _: fit_probe(KernelProbe(), y),
    "linear probe": lambda y, _: fit_probe(LinearProbe(C=1.0), y),
    "curve": lambda y, _: draw_curve(y),
    "score": lambda y, _: score_embedding(COLUMNS, y, random_state=0).tolist(),
    "suggest": lambda y, _: suggest_labels(COLUMNS, y, n=20, random_state=0).tolist(),
    "clusters": lambda y, _: summarise(y),
    "magnitude": lambda y, _: accuracy_by_magnitude(y, y, np.arange(N), bins=2)["n"].tolist(),
    "confusion": lambda y, _: count_confusion(y),
    "projection": lambda y, _: colour(y),
    "check": lambda y, _: inspect(y),
}


@pytest.mark.parametrize("entrance", ENTRANCES)
@pytest.mark.usefixtures("quick_probe")
def test_every_entrance_leaves_masked_labels_out(entrance, fitted):
    run = ENTRANCES[entrance]
    plain = run(np.where(HIDDEN, None, LABELS.astype(object)), fitted)
    assert run(np.ma.array(TEXT, mask=HIDDEN), fitted) == plain
    assert run(np.ma.array(CODES, mask=HIDDEN), fitted) == plain


SOME = np.where(HIDDEN, "", LABELS).astype(object)
PADDED = np.where(np.arange(N) % 4 < 2, SOME + "  \t", "\xa0" + SOME)


@pytest.mark.parametrize("entrance", ENTRANCES)
@pytest.mark.usefixtures("quick_probe")
@pytest.mark.filterwarnings("ignore:.*labels are bytes")
def test_every_entrance_takes_labels_with_blanks_as_one_class(entrance, fitted):
    run = ENTRANCES[entrance]
    assert run(PADDED, fitted) == run(SOME, fitted)
    assert run(np.char.ljust(SOME.astype(str), 9).astype("S"), fitted) == run(SOME, fitted)


def test_labels_with_blanks_are_said_as_comparisons_would_fail():
    with pytest.warns(UserWarning, match="40 labels are bytes or .* such as 'galaxy'"):
        assert LinearProbe(C=1.0).fit(COLUMNS, PADDED).classes_.tolist() == CLASSES
    with pytest.warns(UserWarning, match="count as several: 'Star' and 'star'"):
        LinearProbe(C=1.0).fit(COLUMNS, np.where(np.arange(N) % 4, LABELS, "Star"))


# files and commands


@pytest.fixture(scope="module")
def folder(tmp_path_factory, fitted):
    """Return a data folder of padded labels, some of them missing, and an encoder."""
    root = tmp_path_factory.mktemp("labels")
    (root / "survey").mkdir()
    np.save(root / "survey" / "stamps.npy", STAMPS)
    table = PROPERTIES.assign(id=range(N), **{"class": PADDED})
    table.to_csv(root / "survey" / "catalog.csv", index=False)
    fitted.save(root / "encoder.safetensors")
    table[["id", "class"]].to_csv(root / "labels.tsv", index=False, sep="\t")
    return root


def run(capsys, *arguments):
    with pytest.raises(SystemExit) as stop:
        main([*map(str, arguments), "--json"])
    assert stop.value.code == 0
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def test_folders_and_studies_read_two_classes(folder):
    assert load_folder(folder / "survey", label="class").target_names == CLASSES
    assert set(load_data(folder / "survey", label="class").labels) == {"", *CLASSES}


@pytest.mark.parametrize("options", [[], ["--labels", "labels.tsv"]])
def test_commands_read_two_classes(folder, tmp_path, capsys, monkeypatch, options):
    monkeypatch.chdir(folder)
    run(capsys, "check", "survey", "--label", "class")
    out = tmp_path / "classes.csv"
    run(capsys, "classify", "survey", "--encoder", "encoder.safetensors", "--label", "class",
        "--strategy", "probe", "--out", out, *options)  # fmt: skip
    table = pd.read_csv(out)
    assert {"p_galaxy", "p_star"} == {name for name in table if name.startswith("p_")}
    assert table["label"].isna().sum() == HIDDEN.sum()
    run(capsys, "suggest", "survey", "--encoder", "encoder.safetensors", "--labels", "labels.tsv",
        "-n", "5", "--out", tmp_path / "s.csv")  # fmt: skip
    assert HIDDEN[pd.read_csv(tmp_path / "s.csv")["id"]].all()
