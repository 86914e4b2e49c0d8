from __future__ import annotations

import json
import re

import numpy as np
import pandas as pd
import pytest

from skastro.evaluation import LabelEfficiencyCurve
from skastro.report import confusion_table, score_table, summarise, write_report

CONFIG = {
    "command": "skastro study <mine> --quick",
    "seed": 0,
    "plan": {"n_repeats": 2, "backbone": "net", "max_epochs": 3, "steps": None, "finetune": True},
    "data": {
        "source": "a <b>survey</b>",
        "label": "class",
        "groups": "",
        "n_rows": 60,
        "image_shape": [1, 8, 8],
        "classes": {"galaxy": 30, "star": 30},
        "properties": ["mag_g"],
    },
    "split": {"n_train": 42, "n_train_labelled": 40, "n_test": 18, "test_size": 0.3},
    "threads": 1,
    "seconds": 12.3,
    "versions": {"python": "3.11", "skastro": "0"},
}


def make_curve(means, counts=(30, 100, 300), jitter=0.002):
    rows = [
        (name, count, 0, repeat, metric, mean + jitter * repeat)
        for name, scores in means.items()
        for count, mean in zip(counts, scores, strict=True)
        for repeat in range(2)
        for metric in ("balanced_accuracy", "f1_macro")
    ]
    columns = ["estimator", "n_labels", "split", "repeat", "metric", "score"]
    return LabelEfficiencyCurve.from_scores(pd.DataFrame(rows, columns=columns))


@pytest.fixture
def folder(tmp_path):
    curve = make_curve({"self-supervised": (0.7, 0.8, 0.85), "scratch": (0.5, 0.75, 0.85)})
    curve.to_csv(tmp_path / "scores.csv")
    (tmp_path / "config.json").write_text(json.dumps(CONFIG))
    (tmp_path / "label_efficiency.png").write_bytes(b"picture")
    pd.DataFrame(
        {
            "id": ["1", "2", "3", "4"],
            "split": ["test", "test", "test", "train"],
            "label": ["star", "star", "galaxy", ""],
            "prediction": ["star", "galaxy", "galaxy", "star"],
        }
    ).to_csv(tmp_path / "predictions.csv", index=False)
    pd.DataFrame(
        {
            "property": ["mag_g", "empty"],
            "unit": ["mag", ""],
            "n_test": [18, 0],
            "r2": [-0.25, np.nan],
            "scatter": [0.1, np.nan],
        }
    ).to_csv(tmp_path / "pretext.csv", index=False)
    return tmp_path


def test_the_page_needs_no_network(folder):
    page = write_report(folder).read_text()
    links = re.findall(r"""(?:href|src)=["']([^"']*)""", page)
    assert "url(" not in page
    assert any(link.startswith("data:image/png;base64,") for link in links)
    assert not [link for link in links if re.match(r"(https?:)?//", link)]
    assert {link for link in links if not link.startswith("data:")} <= {
        path.name for path in folder.iterdir()
    }


def test_the_page_holds_numbers_command_and_a_described_figure(folder):
    page = write_report(folder).read_text()
    assert "With 100 labels, self-supervised classification" in page
    assert "skastro study &lt;mine&gt; --quick" in page
    assert "a &lt;b&gt;survey&lt;/b&gt;" in page
    assert "<b>survey" not in page
    assert re.search(r'alt="Balanced accuracy .* self-supervised, scratch', page)
    assert "0.801 ± 0.013" in page
    assert "\N{MINUS SIGN}0.250" in page
    assert ">nan" not in page


def test_a_quick_study_says_that_its_baseline_is_weak(folder):
    quick = {**CONFIG, "plan": {**CONFIG["plan"], "steps": 40}}
    assert "saving against it too high" not in write_report(folder).read_text()
    (folder / "config.json").write_text(json.dumps(quick))
    assert "saving against it too high" in write_report(folder).read_text()


def test_an_unfinished_study_is_refused(folder):
    (folder / "scores.csv").unlink()
    with pytest.raises(FileNotFoundError, match=r"scores\.csv"):
        write_report(folder)
    assert not (folder / "index.html").exists()


@pytest.mark.parametrize(
    ("ours", "theirs", "words"),
    [
        ((0.7, 0.8, 0.9), (0.5, 0.75, 0.8), "takes 55, 1.8 times fewer"),
        ((0.5, 0.6, 0.7), (0.5, 0.65, 0.8), "times more"),
        ((0.8, 0.82, 0.85), (0.5, 0.6, 0.7), "better already with 30, at least 3.3 times fewer"),
        ((0.1, 0.2, 0.3), (0.5, 0.6, 0.7), "does not reach that, even with 300"),
        ((0.5, 0.6, 0.7), (0.5, 0.6, 0.7), "takes as many"),
    ],
)
def test_the_summary_says_the_saving_in_words(ours, theirs, words):
    curve = make_curve({"self-supervised": ours, "scratch": theirs}, jitter=0)
    first, second = summarise(curve)
    assert first.startswith("With 100 labels, self-supervised classification reaches a balanced")
    assert words in second


def test_the_summary_takes_the_count_nearest_to_100():
    curve = make_curve({"self-supervised": (0.5, 0.6), "catalogue": (0.4, 0.5)}, counts=(20, 60))
    assert "With 60 labels" in summarise(curve)[0]
    assert "catalogue columns alone with 60 labels reach 0.5" in summarise(curve)[1]


def test_better_at_the_fewest_labels_is_no_saving_that_was_measured():
    curve = make_curve({"self-supervised": (0.9,), "scratch": (0.4,)}, counts=(30,))
    assert summarise(curve)[1].endswith("self-supervised is better with as many.")


def test_the_best_of_each_column_is_marked():
    curve = make_curve({"a": (0.7, 0.7, 0.9), "b": (0.6, 0.8, 0.9)})
    best = [[cell["best"] for cell in row["cells"]] for row in score_table(curve)]
    assert best == [[True, False, True], [False, True, True]]


def test_a_single_repeat_has_no_interval():
    scores = make_curve({"a": (0.7, 0.8, 0.9)}).scores.query("repeat == 0")
    table = score_table(LabelEfficiencyCurve.from_scores(scores), "f1_macro")
    assert [cell["text"] for cell in table[0]["cells"]] == ["0.700", "0.800", "0.900"]


def test_confusion_counts_test_rows_only():
    table = confusion_table(
        pd.DataFrame(
            {
                "split": ["test", "test", "test", "train"],
                "label": ["a", "a", "b", "b"],
                "prediction": ["a", "b", "b", "a"],
            }
        )
    )
    assert table["classes"] == ["a", "b"]
    counts = [[cell["count"] for cell in row["cells"]] for row in table["rows"]]
    assert counts == [[1, 1], [0, 1]]
    assert table["rows"][0]["cells"][0]["share"] == 0.5
