import copy

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_array_equal
from pandas.testing import assert_frame_equal
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.naive_bayes import GaussianNB
from sklearn.preprocessing import StandardScaler

from skastro.estimators.classifier import SelfSupervisedClassifier
from skastro.evaluation.label_efficiency import (
    LabelEfficiencyCurve,
    label_efficiency_curve,
    metric_name,
)
from skastro.evaluation.splits import draw_splits
from tests.conftest import make_stamps, tiny_encoder

COUNTS = [10, 30, 100]
LOG: list[dict] = []  # not a parameter of the estimators, as clone would copy it


@pytest.fixture(autouse=True)
def empty_log():
    LOG.clear()


class Recorder(ClassifierMixin, BaseEstimator):
    """Log the rows it sees: column 0 of X is the row's number."""

    def __init__(self, tag="a"):
        self.tag = tag

    def fit(self, X, y):
        self._log("fit", X, y=y)
        self.classes_ = np.unique(y)
        return self

    def predict(self, X):
        self._log("predict", X)
        return np.full(len(X), self.classes_[0])

    def _log(self, what, X, **more):
        numbers = np.asarray(X).reshape(len(X), -1)[:, 0].astype(int)
        LOG.append({"what": what, "tag": self.tag, "rows": numbers, **more})


class Pretrainable(Recorder):
    def __init__(self, tag="a", encoder=None, random_state=None):
        super().__init__(tag)
        self.encoder = encoder
        self.random_state = random_state

    def pretrain(self, X, *, properties=None, property_errors=None):
        self._log("pretrain", X, properties=properties, property_errors=property_errors)
        return self.__class__(self.tag, FrozenEstimator(StandardScaler().fit(X)), self.random_state)

    def fit(self, X, y):
        super().fit(X, y)
        LOG[-1]["encoder_mean"] = self.encoder.transform(np.zeros((1, X.shape[1])))
        return self


class Knowing(Recorder):
    """Know the classes "a" and "b" without a label."""

    def __init__(self, tag="a", classes=None):
        super().__init__(tag)
        self.classes = classes

    def knows_classes(self, classes, X):  # noqa: ARG002
        return set(classes) <= {"a", "b"}

    def fit(self, X, y):
        super().fit(X, y if self.classes is None else self.classes)
        LOG[-1]["y"] = y
        return self


class PretrainedWithoutFreezing(Pretrainable):
    def pretrain(self, X, *, properties=None, property_errors=None):  # noqa: ARG002
        return PretrainedWithoutFreezing(self.tag, StandardScaler().fit(X))


class Failing(ClassifierMixin, BaseEstimator):
    def fit(self, X, y):  # noqa: ARG002
        raise ZeroDivisionError("no luck")


def logged(what, tag=None):
    return [entry for entry in LOG if entry["what"] == what and tag in (None, entry["tag"])]


def row_numbers(n):
    return np.column_stack([np.arange(n), np.zeros(n)])


def survey(n=200, seed=0):
    rng = np.random.default_rng(seed)
    y = np.repeat(["galaxy", "quasar", "star"], [int(0.7 * n), int(0.2 * n), n - int(0.9 * n)])
    X = rng.normal(size=(n, 4)) + (y == "star")[:, None] - (y == "quasar")[:, None]
    order = rng.permutation(n)
    return X[order], y[order]


def analytic_curve(scores_of, counts=(30, 100, 300, 1000), n_repeats=6, n_splits=1, scatter=0.0):
    rng = np.random.default_rng(0)
    records = [
        (name, n, split, repeat, "accuracy", function(n) + scatter * rng.normal())
        for name, function in scores_of.items()
        for n in counts
        for split in range(n_splits)
        for repeat in range(n_repeats)
    ]
    columns = ["estimator", "n_labels", "split", "repeat", "metric", "score"]
    return LabelEfficiencyCurve.from_scores(pd.DataFrame(records, columns=columns))


def logarithmic(n):
    return 0.3 + 0.1 * np.log10(n)


# subsets and splits


def test_subsets_are_nested_and_the_same_for_every_estimator():
    _, y = survey()
    label_efficiency_curve(
        {"a": Recorder("a"), "b": Recorder("b")},
        row_numbers(200), y, label_counts=COUNTS, n_repeats=3, random_state=0,
    )  # fmt: skip
    fits, fits_of_other = logged("fit", "a"), logged("fit", "b")
    assert [len(entry["rows"]) for entry in fits] == [n for n in COUNTS for _ in range(3)]
    for one, other in zip(fits, fits_of_other, strict=True):
        assert_array_equal(one["rows"], other["rows"])
    chains = [[set(e["rows"]) for e in fits[i::3]] for i in range(3)]
    for small, middle, large in chains:
        assert small < middle < large
    assert chains[0][0] != chains[1][0]


def test_rare_class_is_in_every_subset_and_in_the_test_rows():
    y = np.repeat([0, 1, 2], [150, 47, 3])
    label_efficiency_curve(
        {"a": Recorder()}, row_numbers(200), y, label_counts=[3, 5, 20], random_state=1
    )
    assert len(logged("fit")) == 15
    for entry in LOG:
        assert set(y[entry["rows"]]) == {0, 1, 2}


def test_labels_belong_to_their_rows_and_keep_their_dtype():
    X, y = survey()
    X[:, 0] = np.arange(200)
    label_efficiency_curve({"a": Recorder()}, X, y, label_counts=[50], n_repeats=2)
    for entry in logged("fit"):
        assert_array_equal(entry["y"], y[entry["rows"]])


def test_test_rows_are_never_learned_from():
    _, y = survey()
    estimators = {"a": Recorder("a"), "pretrained": Pretrainable("p")}
    label_efficiency_curve(
        estimators, row_numbers(200), y, label_counts=[20, 140], n_splits=1, random_state=0
    )
    test = set(logged("predict")[0]["rows"])
    assert len(test) == 60
    for entry in LOG:
        if entry["what"] == "predict":
            assert set(entry["rows"]) == test
        else:
            assert not set(entry["rows"]) & test


def test_splits_are_pretrained_and_tested_apart():
    _, y = survey()
    label_efficiency_curve(
        {"p": Pretrainable()}, row_numbers(200), y, label_counts=[20], n_splits=3, n_repeats=2
    )
    pools = [set(entry["rows"]) for entry in logged("pretrain")]
    tests = [set(entry["rows"]) for entry in logged("predict")[::2]]
    assert len(pools) == len(tests) == 3
    for pool, test in zip(pools, tests, strict=True):
        assert pool | test == set(range(200))
        assert not pool & test
    assert tests[0] != tests[1] != tests[2]


@pytest.mark.parametrize(
    ("labels", "unlabelled"), [([5, 7], -1), (["s", "g"], None), (["s", "g"], "")]
)
def test_unlabelled_rows_are_used_by_the_pretraining_only(labels, unlabelled):
    y = np.array(labels * 50 + [unlabelled] * 40, dtype=object if unlabelled is None else None)
    label_efficiency_curve({"p": Pretrainable()}, row_numbers(140), y, label_counts=[10, 70])
    unlabelled_rows = set(range(100, 140))
    assert unlabelled_rows < set(logged("pretrain")[0]["rows"])
    assert len(logged("fit")) == 10
    for entry in logged("fit") + logged("predict"):
        assert not unlabelled_rows & set(entry["rows"])


def test_who_knows_the_classes_begins_without_labels():
    X, y = np.arange(60.0)[:, None], np.array(["a", "b", ""] * 20)
    finished = {}
    curve = label_efficiency_curve(
        {"knows": Knowing(), "learns": Recorder()}, X, y, label_counts=[10, 0], n_repeats=3,
        n_splits=2, random_state=0, scoring="accuracy", finished=finished,
    )  # fmt: skip
    table = curve.scores.groupby(["estimator", "n_labels"])["score"].agg(["size", "nunique"])
    assert dict(table["size"]) == {("knows", 0): 6, ("knows", 10): 6, ("learns", 10): 6}
    assert len(finished) == 2 + 6 + 6  # one fit for all repeats
    fits = [(entry["rows"], entry["y"]) for entry in LOG if entry["what"] == "fit"]
    tests = [set(entry["rows"]) for entry in LOG if entry["what"] == "predict"]
    without = [
        (set(rows), test) for (rows, y), test in zip(fits, tests, strict=True) if y[0] is None
    ]
    assert len(without) == 2
    assert all(rows == set(range(60)) - test for rows, test in without)
    assert curve.summary().iloc[0]["n_labels"] == 0
    assert "\N{EN DASH}" in curve._repr_html_()
    assert "nan" not in repr(curve).lower()


def test_without_labels_nobody_else_has_a_score():
    X, y = np.arange(60.0)[:, None], np.array(["a", "c"] * 30)
    with pytest.raises(ValueError, match="no estimator knows the classes a, c without a label"):
        label_efficiency_curve({"knows": Knowing()}, X, y, label_counts=[0])
    curve = label_efficiency_curve({"knows": Knowing()}, X, y, label_counts=[0, 10], n_repeats=1)
    assert curve.label_counts == [10]


def test_equal_scores_have_an_interval_of_no_width():
    runs = {"estimator": "a", "n_labels": 0, "split": 0, "repeat": range(5), "metric": "accuracy"}
    curve = LabelEfficiencyCurve.from_scores(pd.DataFrame({**runs, "score": 0.6543210987654321}))
    (row,) = curve.summary().to_dict("records")
    assert row["mean"] == row["low"] == row["high"] == 0.6543210987654321


def test_splits_can_be_drawn_beforehand():
    X, y = survey()
    options = {"n_repeats": 2, "n_splits": 2, "test_size": 0.4, "groups": np.arange(200) // 3}
    splits = draw_splits(y, **options, random_state=3)
    drawn, given = (
        label_efficiency_curve({"a": GaussianNB()}, X, y, label_counts=[20, 60], **more).scores
        for more in ({**options, "random_state": 3}, {"splits": splits})
    )
    assert_array_equal(drawn["score"], given["score"])
    assert drawn["split"].nunique() == 2


class CatalogReader(Recorder):
    def fit(self, X, y, catalog=None):
        self._log("catalog", X, catalog=catalog)
        return super().fit(X, y)

    def predict(self, X, catalog=None):
        self._log("catalog", X, catalog=catalog)
        return super().predict(X)


def test_the_catalogue_reaches_estimators_that_take_it_at_fit_and_at_predict():
    _, y = survey()
    table = pd.DataFrame({"redshift": np.arange(200) / 100})
    label_efficiency_curve(
        {"reader": CatalogReader(), "plain": GaussianNB()}, row_numbers(200), y,
        label_counts=[20], n_repeats=2, catalog=table,
    )  # fmt: skip
    assert len(logged("catalog")) == 4
    for entry in logged("catalog"):
        assert_array_equal(entry["catalog"]["redshift"], entry["rows"] / 100)


def test_catalogue_columns_may_be_empty_in_a_subset():
    stamps, labels, properties = make_stamps()
    catalog = properties[["size"]].assign(redshift=np.where(np.arange(60) < 55, np.nan, 0.5))
    encoder = FrozenEstimator(tiny_encoder(targets="measured").fit(stamps))
    curve = label_efficiency_curve(
        {"classifier": SelfSupervisedClassifier(encoder, strategy="probe")}, stamps, labels,
        label_counts=[4], n_repeats=4, catalog=catalog, random_state=0,
    )  # fmt: skip
    assert curve.scores["score"].notna().all()


class GroupReader(LogisticRegression):
    def fit(self, X, y, groups=None):
        LOG.append({"rows": X[:, 0].astype(int), "groups": groups})
        return super().fit(X, y)


def test_groups_reach_estimators_that_take_them():
    rng = np.random.default_rng(0)
    groups = rng.choice(["f1", "f2", "f3", "f4", "f5", "f6"], size=200)
    codes = {name: code for code, name in enumerate(dict.fromkeys(groups))}
    label_efficiency_curve(
        {"reader": GroupReader(), "plain": GaussianNB()}, row_numbers(200),
        np.arange(200) % 2, label_counts=[20], n_repeats=2, groups=groups, random_state=0,
    )  # fmt: skip
    assert len(LOG) == 2
    for entry in LOG:
        assert [codes[name] for name in groups[entry["rows"]]] == entry["groups"].tolist()


def test_groups_are_not_split_even_where_unlabelled():
    rng = np.random.default_rng(0)
    groups = rng.integers(0, 40, size=400)
    y = rng.choice([-1, 0, 1], p=[0.3, 0.5, 0.2], size=400)
    label_efficiency_curve(
        {"p": Pretrainable()}, row_numbers(400), y, label_counts=[20], n_splits=2, groups=groups,
        random_state=0,
    )  # fmt: skip
    for pool, predict in zip(logged("pretrain"), logged("predict")[::5], strict=True):
        assert not set(groups[pool["rows"]]) & set(groups[predict["rows"]])
        assert len(pool["rows"]) < 400 - len(predict["rows"])
        for code in (0, 1):
            assert np.mean(np.isin(np.flatnonzero(y == code), predict["rows"])) == pytest.approx(
                0.3, abs=0.08
            )


def test_more_repeats_splits_and_counts_do_not_change_the_first_runs():
    X, y = survey()
    few = label_efficiency_curve(
        {"a": GaussianNB()}, X, y, label_counts=[30], n_repeats=2, random_state=3
    )
    many = label_efficiency_curve(
        {"a": GaussianNB()}, X, y, label_counts=COUNTS, n_repeats=3, n_splits=2, random_state=3
    )
    keys = ["estimator", "n_labels", "split", "repeat", "metric"]
    both = few.scores.merge(many.scores, on=keys)
    assert len(both) == 2
    assert_array_equal(both["score_x"], both["score_y"])


# pretraining


def test_equal_encoders_share_one_pretraining():
    _, y = survey()
    X = row_numbers(200)
    estimators = {
        "probe": Pretrainable("probe", StandardScaler()),
        "finetune": Pretrainable("finetune", StandardScaler()),
        "other encoder": Pretrainable("other", StandardScaler(with_std=False)),
        "other input": (Pretrainable("input", StandardScaler()), X + 0.1),
        "other seed": Pretrainable("seed", StandardScaler(), random_state=1),
    }
    steps = []
    label_efficiency_curve(
        estimators, X, y, label_counts=[20], n_repeats=1, progress=lambda *step: steps.append(step)
    )
    assert [entry["tag"] for entry in logged("pretrain")] == ["probe", "other", "input", "seed"]
    probe, finetune = logged("fit", "probe")[0], logged("fit", "finetune")[0]
    assert_array_equal(probe["encoder_mean"], finetune["encoder_mean"])
    assert steps == [(i, 9) for i in range(1, 10)]


def test_finished_fits_and_their_pretraining_are_not_repeated():
    _, y = survey()
    estimators = {
        "same": Pretrainable("same", StandardScaler()),
        "other": Pretrainable("other", StandardScaler(with_std=False)),
    }
    finished, steps = {}, []
    options = {"label_counts": [20], "n_repeats": 1, "n_splits": 2, "random_state": 0}
    options |= {"finished": finished, "progress": lambda *step: steps.append(step)}
    whole = label_efficiency_curve(estimators, row_numbers(200), y, **options)
    del finished[1, "other", 20, 0]
    LOG.clear()
    steps.clear()
    again = label_efficiency_curve(estimators, row_numbers(200), y, **options)
    assert [entry["tag"] for entry in logged("pretrain")] == ["other"]
    assert [entry["tag"] for entry in logged("fit")] == ["other"]
    assert steps == [(4, 5), (5, 5)]  # without the pretrainings that are not needed
    pd.testing.assert_series_equal(again.scores["score"], whole.scores["score"])


def test_pretraining_gets_the_properties_of_its_rows():
    _, y = survey()
    table = pd.DataFrame({"mag_r": np.arange(200) + 0.25, "u_g": 1.0})
    errors = np.column_stack([np.arange(200) / 100, np.ones(200)])
    label_efficiency_curve(
        {"p": Pretrainable()}, row_numbers(200), y, label_counts=[20], properties=table,
        property_errors=errors,
    )  # fmt: skip
    (entry,) = logged("pretrain")
    assert_array_equal(entry["properties"]["mag_r"], entry["rows"] + 0.25)
    assert list(entry["properties"]) == ["mag_r", "u_g"]
    assert_array_equal(entry["property_errors"][:, 0], entry["rows"] / 100)


def test_classes_among_the_properties_are_said():
    y = np.tile(["a", "b"], 50)
    table = pd.DataFrame({"mag": np.linspace(18.0, 22.0, 100), "kind": y == "a"})
    with pytest.warns(UserWarning, match="properties column 'kind' has one number for each class"):
        label_efficiency_curve(
            {"p": GaussianNB()}, row_numbers(100), y, label_counts=[20], properties=table
        )


def test_frozen_encoder_and_the_callers_estimators_stay_unchanged():
    _, y = survey()
    X = row_numbers(200)
    frozen = FrozenEstimator(StandardScaler().fit(X + 5))
    estimators = {"given": Pretrainable("given", frozen), "fresh": Pretrainable("fresh")}
    before = copy.deepcopy(estimators["fresh"].get_params())
    label_efficiency_curve(estimators, X, y, label_counts=[20], n_repeats=1)
    assert [entry["tag"] for entry in logged("pretrain")] == ["fresh"]
    zero = frozen.transform(np.zeros((1, 2)))
    assert_array_equal(logged("fit", "given")[0]["encoder_mean"], zero)
    assert estimators["fresh"].get_params() == before
    assert not hasattr(estimators["fresh"], "classes_")


def test_pretraining_that_a_clone_would_lose_is_an_error():
    X, y = survey()
    with pytest.raises(TypeError, match=r"estimators\['not frozen'\].*FrozenEstimator"):
        label_efficiency_curve({"not frozen": PretrainedWithoutFreezing()}, X, y, label_counts=[20])


# inputs, scoring, parallel runs


def test_estimators_may_have_inputs_of_their_own():
    rng = np.random.default_rng(0)
    _, y = survey()
    stamps = rng.normal(size=(200, 2, 5, 5))
    stamps[:, 0, 0, 0] = np.arange(200)
    catalogue = pd.DataFrame(
        {"number": np.arange(200), "code": np.unique(y, return_inverse=True)[1]}
    )
    curve = label_efficiency_curve(
        {"stamps": Recorder(), "catalogue": (GaussianNB(), catalogue[["code"]])},
        stamps, y, label_counts=[20], n_repeats=2,
    )  # fmt: skip
    means = curve.summary().set_index("estimator")["mean"]
    assert means["catalogue"] == 1.0
    assert means["stamps"] == pytest.approx(1 / 3)


def test_scores_are_those_of_scikit_learn():
    X, y = survey()
    numbers = row_numbers(200)
    label_efficiency_curve({"a": Recorder()}, numbers, y, label_counts=[40], random_state=5)
    curve = label_efficiency_curve(
        {"a": GaussianNB()}, X, y, label_counts=[40], random_state=5, scoring="accuracy"
    )
    expected = []
    for fit, predict in zip(logged("fit"), logged("predict"), strict=True):
        model = GaussianNB().fit(X[fit["rows"]], y[fit["rows"]])
        expected.append(model.score(X[predict["rows"]], y[predict["rows"]]))
    assert_array_equal(curve.scores["score"], expected)


def first_class_rate(estimator, X, y):
    return float(np.mean(estimator.predict(X) == y[0]))


@pytest.mark.parametrize(
    ("scoring", "metrics"),
    [
        ("accuracy", ["accuracy"]),
        (["f1_macro", "accuracy"], ["f1_macro", "accuracy"]),
        (first_class_rate, ["first_class_rate"]),
        ({"acc": "accuracy", "mine": first_class_rate}, ["acc", "mine"]),
    ],
)
def test_scoring_takes_what_scikit_learn_takes(scoring, metrics):
    X, y = survey()
    curve = label_efficiency_curve(
        {"a": GaussianNB()}, X, y, label_counts=[40], n_repeats=2, scoring=scoring
    )
    assert curve.metrics == metrics
    assert curve.scores["score"].between(0, 1).all()
    assert len(curve.scores) == 2 * len(metrics)


@pytest.mark.parametrize("seed", [0, np.random.RandomState(0)])
def test_two_jobs_give_the_result_of_one(seed):
    X, y = survey()
    estimators = {"bayes": GaussianNB(), "linear": (LogisticRegression(), pd.DataFrame(X[:, :2]))}
    one, two = (
        label_efficiency_curve(
            estimators, X, y, label_counts=COUNTS, n_repeats=2, n_splits=2, n_jobs=n_jobs,
            random_state=copy.deepcopy(seed),
        )
        for n_jobs in (1, 2)
    )  # fmt: skip
    assert_frame_equal(
        one.scores.drop(columns="fit_seconds"), two.scores.drop(columns="fit_seconds")
    )
    assert one.scores["score"].nunique() > 5


def test_memmap_is_read_by_rows(tmp_path):
    X, y = survey()
    np.save(tmp_path / "stamps.npy", X)
    mapped = np.load(tmp_path / "stamps.npy", mmap_mode="r")
    results = [
        label_efficiency_curve({"a": GaussianNB()}, data, y, label_counts=[30], random_state=0)
        for data in (X, mapped)
    ]
    assert_array_equal(results[0].scores["score"], results[1].scores["score"])


# measurements


def test_measurements_are_scored_by_usual_measures_and_stratified():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(200, 3))
    y = np.exp(X[:, 0]) + 0.1 * rng.normal(size=200)
    y[:20] = np.nan
    curve = label_efficiency_curve(
        {"ridge": Ridge()}, X, y, label_counts=[10, 100], n_repeats=2, random_state=0
    )
    assert curve.metrics == ["r2", "neg_scatter", "neg_outlier_share"]
    assert curve.scores["score"].notna().all()
    scatter = curve.summary("neg_scatter")["mean"]
    assert (scatter < 0).all()
    split = draw_splits(y, n_repeats=1, random_state=0)[0]
    quantile = np.searchsorted(np.nanquantile(y, [0.2, 0.4, 0.6, 0.8]), y[split.orders[0][:5]])
    assert sorted(quantile) == [0, 1, 2, 3, 4]


def test_measurements_among_the_properties_are_warned_of():
    X = np.random.default_rng(0).normal(size=(60, 3))
    with pytest.warns(UserWarning, match="column 'z' has the values of y"):
        label_efficiency_curve(
            {"ridge": Ridge()}, X, X[:, 0], label_counts=[10], n_repeats=1,
            properties=pd.DataFrame({"z": X[:, 0]}),
        )  # fmt: skip


# errors

BAD = {
    "count above the pool": ({"label_counts": [10, 500]}, "split 0 leaves 140 labelled rows"),
    "count below the classes": ({"label_counts": [2]}, "ask for 3 at least"),
    "fractional count": ({"label_counts": [0.5]}, "whole numbers"),
    "no count": ({"label_counts": []}, "must be whole numbers"),
    "unknown metric": ({"scoring": "acuracy"}, "scoring='acuracy' is not a metric"),
    "no metric": ({"scoring": []}, "scoring is empty"),
    "no estimator": ({"estimators": {}}, "must be a dict, such as"),
    "one class": ({"y": np.ones(200, dtype=int)}, "one class only"),
    "class of one row": ({"y": [0] * 120 + [1] * 79 + [2]}, "class 2 too rarely: no training"),
    "short y": ({"y": np.array([0, 1, 2] * 20)}, "has 200 rows, but y has 60"),
    "short input": ({"estimators": {"b": (GaussianNB(), np.ones((9, 2)))}}, "input of 'b' has 9"),
    "short groups": ({"groups": np.arange(9)}, "groups has shape .9,., but y has 200 rows"),
    "one group": ({"groups": np.zeros(200)}, "too rarely: no training row"),
    "short properties": ({"properties": np.ones((9, 2))}, "properties has 9 rows"),
    "errors without properties": ({"property_errors": np.ones((200, 2))}, "needs properties"),
    "share above one": ({"test_size": 30}, "test_size=30 is not a share"),
    "no repeats": ({"n_repeats": 0}, "n_repeats=0 leaves nothing"),
    "no splits": ({"n_splits": 0}, "n_splits=0 leaves nothing"),
}  # fmt: skip


@pytest.mark.parametrize(("wrong", "message"), BAD.values(), ids=BAD)
def test_wrong_arguments_are_named_in_the_error(wrong, message):
    X, y = survey()
    arguments = {"estimators": {"a": GaussianNB()}, "X": X, "y": y, "label_counts": [10]} | wrong
    with pytest.raises(ValueError, match=message):
        label_efficiency_curve(**arguments)


def test_class_in_place_of_an_estimator_is_an_error():
    X, y = survey()
    with pytest.raises(TypeError, match="pass an instance"):
        label_efficiency_curve({"a": GaussianNB}, X, y, label_counts=[10])


def test_error_in_a_fit_names_the_run():
    X, y = survey()
    with pytest.raises(ZeroDivisionError) as caught:
        label_efficiency_curve({"failing": Failing()}, X, y, label_counts=[10])
    assert caught.value.__notes__ == ["raised by 'failing' with 10 labels, repeat 0"]


# the curve


def test_interval_over_repeats_is_students_t():
    curve = analytic_curve({"a": logarithmic}, counts=[10])
    table = curve.scores.assign(score=[0.5, 0.6, 0.7, 0.5, 0.6, 0.7])
    row = LabelEfficiencyCurve.from_scores(table).summary().iloc[0]
    assert row["mean"] == pytest.approx(0.6)
    # t(0.975, 5 degrees of freedom) = 2.5706; standard error sqrt(0.04 / 5 / 6)
    assert row["high"] - row["mean"] == pytest.approx(2.5706 * np.sqrt(0.04 / 30), rel=1e-4)
    assert row["mean"] - row["low"] == pytest.approx(row["high"] - row["mean"])
    assert row["n_runs"] == 6


def test_interval_over_splits_does_not_count_repeats_as_independent():
    curve = analytic_curve({"a": logarithmic}, counts=[10], n_repeats=2, n_splits=3)
    table = curve.scores.assign(score=[0.4, 0.6, 0.5, 0.7, 0.6, 0.8])
    row = LabelEfficiencyCurve.from_scores(table).summary().iloc[0]
    # split means 0.5, 0.6, 0.7; t(0.975, 2 degrees of freedom) = 4.3027
    assert row["mean"] == pytest.approx(0.6)
    assert row["high"] - row["mean"] == pytest.approx(4.3027 * 0.1 / np.sqrt(3), rel=1e-4)
    assert row["n_runs"] == 6


def test_single_run_has_no_interval_and_nan_is_not_skipped():
    single = analytic_curve({"a": logarithmic}, n_repeats=1).summary()
    assert single["mean"].notna().all()
    assert single[["low", "high"]].isna().to_numpy().all()
    curve = analytic_curve({"a": logarithmic})
    table = curve.scores.assign(score=curve.scores["score"].where(curve.scores.index != 0))
    assert LabelEfficiencyCurve.from_scores(table).summary()["mean"].isna().tolist() == [
        True, False, False, False,
    ]  # fmt: skip


def test_csv_gives_the_same_curve_back(tmp_path):
    X, y = survey()
    curve = label_efficiency_curve(
        {"None": GaussianNB(), "7": GaussianNB()}, X, y, label_counts=[40, 20], n_repeats=2,
        scoring=["accuracy", "f1_macro"],
    )  # fmt: skip
    curve.to_csv(tmp_path / "scores.csv")
    back = LabelEfficiencyCurve.from_csv(tmp_path / "scores.csv")
    assert_frame_equal(back.scores, curve.scores)
    assert back.estimators == ["None", "7"]
    assert back.label_counts == [20, 40]
    assert back.metrics == ["accuracy", "f1_macro"]


def test_table_without_a_column_or_with_a_run_twice_is_an_error():
    scores = analytic_curve({"a": logarithmic}).scores
    with pytest.raises(ValueError, match="no column 'split'"):
        LabelEfficiencyCurve.from_scores(scores.drop(columns="split"))
    with pytest.raises(ValueError, match="a run twice"):
        LabelEfficiencyCurve.from_scores(pd.concat([scores, scores]))


def test_unknown_metric_of_a_curve_is_an_error():
    with pytest.raises(ValueError, match=r"choose from \['accuracy'\]"):
        analytic_curve({"a": logarithmic}).summary("f1")


def test_difference_pairs_the_runs():
    methods = {"a": logarithmic, "b": lambda n: logarithmic(n) + 0.02}
    scores = analytic_curve(methods, n_splits=2, scatter=0.1).scores
    curve = LabelEfficiencyCurve.from_scores(scores.sample(frac=1, random_state=0))
    runs = ["estimator", "n_labels", "split", "repeat"]
    before = curve.scores.set_index(runs)["score"]
    after = curve.difference_to("a").scores.set_index(runs)["score"]
    assert_array_equal(after["a"], 0)
    for run, score in after["b"].items():
        assert score == before[("b", *run)] - before[("a", *run)]


def test_difference_to_a_run_that_is_missing_is_nan():
    scores = analytic_curve({"a": logarithmic, "b": logarithmic}).scores
    without = scores[(scores["estimator"] != "a") | (scores["n_labels"] > 30)]
    difference = LabelEfficiencyCurve.from_scores(without).difference_to("a").scores
    of_b = difference[difference["estimator"] == "b"]
    assert_array_equal(of_b["score"].isna(), of_b["n_labels"] == 30)


def test_difference_to_an_unknown_estimator_is_an_error():
    with pytest.raises(ValueError, match=r"reference='b' is not .* choose from \['a'\]"):
        analytic_curve({"a": logarithmic}).difference_to("b")


def test_repr_shows_the_means():
    text = repr(analytic_curve({"probe": logarithmic, "scratch": lambda n: logarithmic(n) - 0.1}))
    assert "2 estimators, 4 label counts, 6 runs" in text
    assert "scratch 0.348 0.400 0.448 0.500" in text


@pytest.mark.parametrize(
    ("metric", "name"),
    [("neg_calibration_error", "negative expected calibration error"), ("top_2", "top 2")],
)
def test_metrics_have_readable_names(metric, name):
    assert metric_name(metric) == name


class Counting(GaussianNB):
    """Predict the most probable class, and count how often probabilities are computed."""

    def predict_proba(self, X):
        LOG.append({"what": "predict_proba"})
        return super().predict_proba(X)

    def predict(self, X):
        return self.classes_[self.predict_proba(X).argmax(axis=1)]


def test_a_model_predicts_once_for_all_metrics():
    X, y = survey()

    def confidence(model, X, _):
        return model.predict_proba(X).max(axis=1).mean()

    scoring = {"f1": "f1_macro", "confidence": confidence, "loss": "neg_log_loss"}
    LOG.clear()
    once = label_efficiency_curve(
        {"counting": Counting()}, X, y,
        label_counts=[50], n_repeats=1, scoring=scoring, random_state=0,
    )  # fmt: skip
    assert len(LOG) == 1
    plain = label_efficiency_curve(
        {"counting": GaussianNB()}, X, y,
        label_counts=[50], n_repeats=1, scoring=scoring, random_state=0,
    )  # fmt: skip
    assert_array_equal(once.scores["score"], plain.scores["score"])


def test_a_slow_estimator_can_learn_from_fewer_draws():
    X, y = survey()
    steps = []
    curve = label_efficiency_curve(
        {"fast": GaussianNB(), "slow": GaussianNB()}, X, y,
        label_counts=[20, 50], n_repeats=3, random_state=0, max_repeats={"slow": 1},
        progress=lambda *step: steps.append(step),
    )  # fmt: skip
    assert curve.scores.groupby("estimator").size().to_dict() == {"fast": 6, "slow": 2}
    assert steps[-1] == (8, 8)
    # on the same runs as the other
    assert_array_equal(curve.difference_to("fast").scores["score"], 0.0)
    with pytest.raises(ValueError, match=r"max_repeats=\{'other': 1\} must name estimators"):
        label_efficiency_curve(
            {"fast": GaussianNB()}, X, y, label_counts=[20], max_repeats={"other": 1}
        )
