from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from skastro.evaluation.label_efficiency import LabelEfficiencyCurve
from skastro.pages.summary import confusion_table, score_table, summarise, text_table


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


def make_noisy(means, counts=(30, 100, 300), jitter=0.05):
    """Return a curve of five draws whose scores scatter independently."""
    rng = np.random.default_rng(0)
    rows = [
        (name, count, 0, repeat, "balanced_accuracy", mean + jitter * rng.normal())
        for name, scores in means.items()
        for count, mean in zip(counts, scores, strict=True)
        for repeat in range(5)
    ]
    columns = ["estimator", "n_labels", "split", "repeat", "metric", "score"]
    return LabelEfficiencyCurve.from_scores(pd.DataFrame(rows, columns=columns))


@pytest.mark.parametrize(
    ("method", "baseline", "words"),
    [
        ((0.7, 0.8, 0.9), (0.5, 0.75, 0.8), "needs 55 labels: 1.8 times fewer"),
        ((0.5, 0.6, 0.7), (0.5, 0.65, 0.8), "needs 173 labels: 1.7 times more"),
        ((0.8, 0.82, 0.85), (0.5, 0.6, 0.7), "needs 30 labels or fewer: at least 3.3 times fewer"),
        ((0.1, 0.2, 0.3), (0.5, 0.6, 0.7), "stays behind, even with 300 labels"),
        ((0.5, 0.6, 0.7), (0.5, 0.6, 0.7), "needs as many labels"),
    ],
)
def test_the_summary_says_the_saving_in_words(method, baseline, words):
    curve = make_curve({"self-supervised": method, "scratch": baseline}, jitter=0)
    first, second = summarise(curve)
    assert first.startswith("With 100 labels, self-supervised classification reaches a balanced")
    assert second.startswith(
        f"Compared with a network trained from scratch ({baseline[1]:.2f} with"
    )
    assert words in second


def test_a_saving_is_measured_on_the_draws_that_both_have():
    scores = make_noisy({"self-supervised": (0.7, 0.8, 0.9), "scratch": (0.5, 0.75, 0.8)}).scores
    slow = (scores["estimator"] == "scratch") & (scores["repeat"] > 0)
    *_, sentence = summarise(LabelEfficiencyCurve.from_scores(scores[~slow]))
    *_, single = summarise(LabelEfficiencyCurve.from_scores(scores[scores["repeat"] == 0]))
    assert sentence == single
    assert sentence.endswith("(in one draw of the labels).")


def test_the_summary_names_the_strongest_baseline_first():
    scores = {
        "self-supervised": (0.7, 0.8, 0.85), "self-supervised + catalogue": (0.8, 0.9, 0.95),
        "scratch": (0.5, 0.6, 0.7), "catalogue": (0.5, 0.65, 0.8), "aperture": (0.6, 0.78, 0.8),
    }  # fmt: skip
    sentences = summarise(make_curve(scores))
    assert sentences[0].endswith("; the strongest baseline, aperture photometry, reaches 0.78.")
    against = [sentence.partition(" (")[0] for sentence in sentences[1:]]
    assert against == [
        "Compared with aperture photometry",
        "Compared with a network trained from scratch",
        "Compared with the catalogue columns alone",
    ]
    assert len(summarise(make_curve({"self-supervised": (0.7, 0.8, 0.85)}))) == 1


def test_the_summary_begins_without_labels_where_it_can():
    with_labels = make_curve({"self-supervised": (0.7, 0.8, 0.85), "scratch": (0.5, 0.6, 0.7)})
    zero = make_curve({"self-supervised": (0.62,)}, counts=(0,), jitter=0)
    curve = LabelEfficiencyCurve.from_scores(pd.concat([zero.scores, with_labels.scores]))
    first, second, *others = summarise(curve)
    assert [first, *others] == summarise(with_labels)
    assert second.startswith("Before the first label, the balanced accuracy is 0.62: ")
    assert summarise(zero) == [second]
    method, scratch = score_table(curve)
    assert method["cells"][0] == {"text": "0.620", "best": False}
    assert scratch["cells"][0] == {"text": "\N{EN DASH}", "best": False}


def test_differences_within_the_uncertainty_are_no_savings():
    scores = {"self-supervised": (0.65, 0.79, 0.9), "aperture": (0.6, 0.75, 0.8)}
    equal = make_noisy(scores, jitter=0.08)
    first, second = summarise(equal)
    assert first.endswith(", a difference within the uncertainty.")
    assert second.endswith(
        "on average, but the draws of labels vary too much to call this a saving."
    )
    assert "times" not in second


def test_a_lower_bound_is_said_once():
    # with 30 labels the mean is better, but not in all draws of the labels
    curve = make_noisy(
        {"self-supervised": (0.66, 0.8, 0.9), "scratch": (0.5, 0.65, 0.7)}, jitter=0.03
    )
    (sentence,) = summarise(curve)[1:]
    assert sentence.count("at least") == 1
    assert sentence.endswith("times fewer, with 95 % confidence.")
    assert "at least 3.3" not in sentence


def test_the_summary_takes_the_count_nearest_to_100():
    curve = make_curve({"self-supervised": (0.5, 0.6), "catalogue": (0.4, 0.5)}, counts=(20, 60))
    first, second = summarise(curve)
    assert first.startswith("With 60 labels")
    assert "the catalogue columns alone (0.50 with 60 labels)" in second


def test_a_better_score_at_the_fewest_labels_is_not_a_measured_saving():
    curve = make_curve({"self-supervised": (0.9,), "scratch": (0.4,)}, counts=(30,))
    assert summarise(curve)[1].endswith("is better with as many labels.")


def test_the_best_of_each_column_is_marked():
    curve = make_curve({"a": (0.7, 0.7, 0.9), "b": (0.6, 0.8, 0.9)})
    best = [[cell["best"] for cell in row["cells"]] for row in score_table(curve)]
    assert best == [[True, False, True], [False, True, True]]


def test_all_that_cannot_be_told_from_the_best_are_marked():
    noisy = make_noisy({"a": (0.75, 0.75, 0.9), "b": (0.74, 0.76, 0.6), "c": (0.2, 0.3, 0.4)})
    best = [[cell["best"] for cell in row["cells"]] for row in score_table(noisy)]
    assert best == [[True, True, True], [True, True, False], [False, False, False]]


def test_errors_are_shown_as_errors_and_the_smallest_is_best():
    rows = [
        (name, 30, 0, repeat, "neg_calibration_error", -error - 0.001 * repeat)
        for name, error in (("a", 0.1), ("b", 0.2))
        for repeat in range(2)
    ]
    columns = ["estimator", "n_labels", "split", "repeat", "metric", "score"]
    curve = LabelEfficiencyCurve.from_scores(pd.DataFrame(rows, columns=columns))
    cells = [row["cells"][0] for row in score_table(curve)]
    assert [cell["text"][:5] for cell in cells] == ["0.101", "0.201"]
    assert [cell["best"] for cell in cells] == [True, False]


def test_a_single_repeat_has_no_interval_and_no_mark():
    scores = make_curve({"a": (0.7, 0.8, 0.9)}).scores.query("repeat == 0")
    (row,) = score_table(LabelEfficiencyCurve.from_scores(scores), "f1_macro")
    assert [cell["text"] for cell in row["cells"]] == ["0.700", "0.800", "0.900"]
    assert not any(cell["best"] for cell in row["cells"])


def test_draws_of_all_labels_have_no_interval_and_no_mark():
    scores = make_noisy({"a": (0.75, 0.9, 0.9), "b": (0.74, 0.6, 0.8)}).scores.copy()
    most = scores["n_labels"] == scores["n_labels"].max()
    scores.loc[most, "score"] = scores["estimator"].map({"a": 0.9, "b": 0.8})
    rows = score_table(LabelEfficiencyCurve.from_scores(scores))
    assert [row["cells"][-1]["text"] for row in rows] == ["0.900", "0.800"]
    assert not any(row["cells"][-1]["best"] for row in rows)
    assert all("±" in row["cells"][0]["text"] for row in rows)


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


def test_tables_are_text_with_scores_in_words():
    frame = pd.DataFrame(
        {
            "which_one": ["a", "b"],
            "k": [-0.5, 0.75],
            "n": [1200, 7],
            "knn_accuracy": [18.25, np.nan],
        }
    )
    table = text_table(frame)
    names = ["which one", "k", "objects", "balanced accuracy of nearest neighbours"]
    assert table["columns"] == names
    minus, dash = "\N{MINUS SIGN}", "\N{EN DASH}"
    assert table["rows"] == [["a", f"{minus}0.500", "1,200", "18.2"], ["b", "0.750", "7", dash]]


def test_a_network_trained_for_few_steps_is_not_marked():
    scores = pd.DataFrame({
        "estimator": ["probe"] * 3 + ["scratch"] * 3, "n_labels": 30, "split": 0,
        "repeat": [0, 1, 2] * 2, "metric": "accuracy", "score": [0.6, 0.7, 0.8, 0.9, 0.7, 0.5],
    })  # fmt: skip
    curve = LabelEfficiencyCurve.from_scores(scores)
    marked = [[row["cells"][0]["best"] for row in score_table(curve, steps=n)] for n in (None, 40)]
    assert marked == [[True, True], [True, False]]
