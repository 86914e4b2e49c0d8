"""The estimators inside pipelines, searches, curves, ensembles and workers of scikit-learn."""

import copy
import pickle
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import joblib
import numpy as np
import pandas as pd
import pytest
import sklearn
import torch
from hdbscan import HDBSCAN
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.base import clone
from sklearn.calibration import CalibratedClassifierCV
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import BaggingClassifier, StackingClassifier, VotingClassifier
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss
from sklearn.model_selection import (
    GridSearchCV,
    KFold,
    StratifiedKFold,
    cross_val_predict,
    cross_val_score,
    cross_validate,
    learning_curve,
)
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.semi_supervised import SelfTrainingClassifier
from torch import nn

from skastro import AsinhScaler, SelfSupervisedClassifier
from tests.conftest import tiny_encoder

FOLDS = StratifiedKFold(2)
COUNTS = Counter()  # of networks built and batches embedded, in this process


class OneConvolution(nn.Module):
    """A backbone that trains in milliseconds and counts its batches."""

    def __init__(self, bands):
        super().__init__()
        COUNTS["built"] += 1
        self.convolution = nn.Conv2d(bands, 16, 3, padding=1)

    def forward(self, stamps):
        COUNTS["batches"] += 1
        return self.convolution(stamps).relu()


def light_encoder(**params):
    return tiny_encoder(**{"backbone": OneConvolution, "average_views": False, **params})


def pipeline(encoder=None, **params):
    encoder = light_encoder() if encoder is None else encoder
    return Pipeline([("enc", encoder), ("clf", LogisticRegression())], **params)


def classifier(encoder, **params):
    defaults = {"strategy": "probe", "steps": 5, "random_state": 0}
    return SelfSupervisedClassifier(encoder, **{**defaults, **params})


def routing(enabled=True):
    return sklearn.config_context(enable_metadata_routing=enabled)


def assert_same_weights(first, second):
    weights, others = first.network_.state_dict(), second.network_.state_dict()
    assert list(weights) == list(others)
    assert all(torch.equal(weights[name], others[name]) for name in weights)


@pytest.fixture(scope="module")
def light(survey):
    """Return a light encoder fitted on the survey."""
    return light_encoder().fit(survey[0], properties=survey[2])


@pytest.fixture
def frozen(light):
    """Return a frozen copy of the light encoder; a test may change its parameters."""
    return FrozenEstimator(copy.copy(light))


@pytest.fixture
def few(survey):
    """Return integer labels of the first 20 rows, and -1 for the other 40."""
    return np.where(np.arange(60) < 20, survey[1] == "star", -1)


# -- pipelines


@pytest.mark.parametrize("dtype", [str, int, float, bool])
def test_a_pipeline_fits_on_stamps_and_labels_alone(survey, dtype):
    stamps, labels, _ = survey
    y = labels if dtype is str else (labels == "star").astype(dtype)
    model = Pipeline([("enc", tiny_encoder()), ("clf", LogisticRegression())])
    model.fit(stamps[:40], y[:40])
    encoder = model.named_steps["enc"]
    assert encoder.property_source_ == "measured"
    assert encoder.property_names_ == tiny_encoder(max_epochs=0).fit(stamps).property_names_
    assert model.score(stamps[40:], y[40:]) > 0.8


def test_properties_reach_the_encoder_of_a_pipeline_without_routing(survey):
    stamps, labels, properties = survey
    errors = np.full(properties.shape, 0.1)
    model = pipeline()
    model.fit(stamps, labels, enc__properties=properties, enc__property_errors=errors)
    direct = light_encoder().fit(stamps, properties=properties, property_errors=errors)
    assert model.named_steps["enc"].property_source_ == "catalog+measured"
    assert_same_weights(model.named_steps["enc"], direct)


def test_properties_are_routed_through_a_pipeline_without_set_fit_request(survey):
    stamps, labels, properties = survey
    errors = np.full(properties.shape, 0.1)
    with routing():
        model = pipeline().fit(stamps, labels, properties=properties, property_errors=errors)
        assert model.score(stamps, labels) > 0.8  # needs no properties
    direct = light_encoder().fit(stamps, properties=properties, property_errors=errors)
    assert model.named_steps["enc"].property_source_ == "catalog+measured"
    assert_same_weights(model.named_steps["enc"], direct)


@pytest.mark.parametrize("routed", [False, True])
@pytest.mark.parametrize("kind", ["DataFrame", "array"])
def test_each_fold_gives_the_encoder_the_properties_of_its_rows(survey, routed, kind):
    stamps, labels, properties = survey
    properties = properties.set_axis(range(100, 160)).sample(frac=1, random_state=0)
    if kind == "array":
        properties = properties.to_numpy()
    params = {"properties" if routed else "enc__properties": properties}
    with routing(routed):
        result = cross_validate(
            pipeline(), stamps, labels, params=params, cv=FOLDS,
            return_estimator=True, return_indices=True, error_score="raise",
        )  # fmt: skip
    for model, rows in zip(result["estimator"], result["indices"]["train"], strict=True):
        of_fold = properties[rows] if kind == "array" else properties.iloc[rows]
        direct = light_encoder().fit(stamps[rows], properties=of_fold)
        assert model.named_steps["enc"].property_source_ == "catalog+measured"
        assert_same_weights(model.named_steps["enc"], direct)


def test_pixels_and_catalogue_columns_side_by_side_in_one_table(survey):
    stamps, labels, properties = survey
    pixels = pd.DataFrame(stamps.reshape(60, -1)).add_prefix("pixel_")
    table = pd.concat([pixels, properties], axis=1)
    encoder = light_encoder(image_shape=(3, 8, 8))
    columns = ColumnTransformer(
        [("stamps", encoder, list(pixels)), ("catalog", "passthrough", ["mag_u"])]
    )
    features = columns.fit_transform(table, labels)
    assert_allclose(features[:, :16], light_encoder().fit_transform(stamps), rtol=1e-6)
    assert_allclose(features[:, 16], properties["mag_u"], rtol=1e-6)


def test_scaled_stamps_pass_through_a_pipeline(survey):
    stamps, labels, _ = survey
    model = make_pipeline(AsinhScaler(), tiny_encoder(), LogisticRegression())
    assert model.fit(stamps[:40], labels[:40]).score(stamps[40:], labels[40:]) > 0.8


# -- clone, pickle, frozen encoders, memory


def test_a_clone_is_unfitted_and_fits_to_the_same_weights(survey):
    model = pipeline().fit(*survey[:2])
    again = clone(model)
    assert not hasattr(again.named_steps["enc"], "network_")
    assert again.get_params()["enc__backbone"] is OneConvolution
    again.fit(*survey[:2])
    assert_same_weights(again.named_steps["enc"], model.named_steps["enc"])


@pytest.mark.parametrize("way", ["pickle", "joblib", "joblib memory map", "deepcopy"])
def test_a_fitted_pipeline_is_stored_and_read(survey, way, tmp_path):
    stamps, labels, _ = survey
    model = pipeline().fit(stamps, labels)
    if way == "pickle":
        again = pickle.loads(pickle.dumps(model))
    elif way == "deepcopy":
        again = copy.deepcopy(model)
    else:
        joblib.dump(model, tmp_path / "model.joblib")
        mode = "r" if "map" in way else None
        again = joblib.load(tmp_path / "model.joblib", mmap_mode=mode)
    assert_array_equal(again.predict_proba(stamps), model.predict_proba(stamps))
    assert_array_equal(again.predict(stamps), model.predict(stamps))


def test_a_fitted_classifier_is_stored_and_read(survey, frozen):
    stamps, labels, _ = survey
    model = classifier(frozen, strategy="finetune").fit(stamps, labels)
    again = pickle.loads(pickle.dumps(model))
    assert_array_equal(again.predict_proba(stamps), model.predict_proba(stamps))


def test_a_frozen_encoder_keeps_its_weights_in_clones_folds_and_fits(survey, fitted):
    stamps, labels, _ = survey
    before = fitted.transform(stamps)
    model = clone(pipeline(FrozenEstimator(fitted))).fit(stamps, labels)
    assert model.named_steps["enc"].estimator is fitted
    result = cross_validate(model, stamps, labels, cv=FOLDS, return_estimator=True)
    for fold in result["estimator"]:
        assert_array_equal(fold.named_steps["enc"].transform(stamps), before)
    assert_array_equal(model[:-1].transform(stamps), before)
    assert result["test_score"].min() > 0.8


@pytest.mark.filterwarnings("ignore:Persisting input arguments took")  # on a busy machine
def test_a_pipeline_with_memory_trains_once(survey, tmp_path):
    stamps, labels, properties = survey
    model = pipeline(memory=str(tmp_path))
    COUNTS.clear()
    first = clone(model).fit(stamps, labels, enc__properties=properties)
    second = clone(model).fit(stamps, labels, enc__properties=properties)
    assert COUNTS["built"] == 1
    assert first.named_steps["enc"].history_ == second.named_steps["enc"].history_  # durations too
    assert_array_equal(first.predict_proba(stamps), second.predict_proba(stamps))
    clone(model).set_params(clf__C=0.1).fit(stamps, labels, enc__properties=properties)
    assert COUNTS["built"] == 1


def test_memory_trains_again_on_other_stamps_properties_or_parameters(survey, tmp_path):
    stamps, labels, properties = survey
    model = pipeline(memory=str(tmp_path))
    COUNTS.clear()
    model.fit(stamps, labels, enc__properties=properties)
    model.fit(stamps, labels, enc__properties=properties + 0.1)
    model.fit(stamps + 1, labels, enc__properties=properties)
    clone(model).set_params(enc__random_state=1).fit(stamps, labels, enc__properties=properties)
    assert COUNTS["built"] == 4


def test_memory_caches_the_embeddings_of_a_frozen_encoder(survey, tmp_path):
    stamps, labels, properties = survey
    encoder = FrozenEstimator(light_encoder().fit(stamps, properties=properties))
    model = pipeline(encoder, memory=str(tmp_path)).fit(stamps, labels)
    COUNTS.clear()
    clone(model).set_params(clf__C=0.1).fit(stamps, labels)
    assert COUNTS["batches"] == 0


# -- set_output


def test_embeddings_of_stamps_come_as_a_named_table(survey, fitted):
    stamps = survey[0]
    encoder = copy.copy(fitted).set_output(transform="pandas")
    table = encoder.transform(stamps[5:9])
    assert isinstance(table, pd.DataFrame)
    assert list(table) == [f"e{i}" for i in range(256)]
    assert list(table) == list(encoder.get_feature_names_out())
    assert list(table.index) == [0, 1, 2, 3]
    assert (table.dtypes == np.float32).all()
    assert_array_equal(table, fitted.transform(stamps[5:9]))


def test_embeddings_of_rows_keep_the_index_of_their_table(survey):
    stamps, _, properties = survey
    ids = [f"object-{i}" for i in range(60)]
    rows = pd.DataFrame(stamps.reshape(60, -1), index=ids).add_prefix("pixel_")
    encoder = light_encoder(image_shape=(3, 8, 8)).set_output(transform="pandas")
    table = encoder.fit_transform(rows, properties=properties)
    assert list(table.index) == ids
    plain = light_encoder().fit(stamps, properties=properties)
    assert_allclose(table, plain.transform(stamps), rtol=1e-6)


def test_a_whole_pipeline_gives_tables(survey, frozen):
    stamps, labels, _ = survey
    for encoder in (frozen, light_encoder()):
        model = pipeline(encoder).set_output(transform="pandas").fit(stamps, labels)
        names = list(model[:-1].get_feature_names_out())
        assert list(model[:-1].transform(stamps)) == names
        assert list(model.named_steps["clf"].feature_names_in_) == names
        assert model.score(stamps, labels) > 0.8


@pytest.mark.parametrize("strategy", ["probe", "finetune", "auto"])
def test_a_classifier_works_where_tables_are_the_default_output(survey, frozen, strategy):
    stamps, labels, _ = survey
    expected = classifier(frozen, strategy=strategy).fit(stamps, labels).predict_proba(stamps)
    with sklearn.config_context(transform_output="pandas"):
        model = classifier(frozen, strategy=strategy).fit(stamps, labels)
        assert_array_equal(model.predict_proba(stamps), expected)
        assert list(model.transform(stamps)) == list(model.get_feature_names_out())
    assert_array_equal(model.predict_proba(stamps), expected)
    frozen.set_output(transform="pandas")
    model = classifier(frozen, strategy=strategy).fit(stamps, labels)
    assert_array_equal(model.predict_proba(stamps), expected)
    assert isinstance(
        model.transform(stamps), np.ndarray
    )  # set_output was called on the encoder only


def test_scaled_stamps_stay_arrays_where_tables_are_the_default_output(survey):
    stamps, labels, _ = survey
    with sklearn.config_context(transform_output="pandas"):
        assert AsinhScaler().fit_transform(stamps).shape == stamps.shape
        rows = AsinhScaler(image_shape=(3, 8, 8)).fit_transform(stamps.reshape(60, -1))
        assert isinstance(rows, pd.DataFrame)
    model = make_pipeline(AsinhScaler(), light_encoder()).set_output(transform="pandas")
    table = model.fit(stamps, labels).transform(stamps)
    assert list(table) == list(model.get_feature_names_out())


# -- searches and curves


def test_a_search_over_encoder_parameters_with_routed_properties(survey):
    stamps, labels, properties = survey
    grid = {"enc__max_epochs": [0, 2], "clf__C": [0.1, 1.0]}
    search = GridSearchCV(
        pipeline(), grid, cv=FOLDS, scoring="neg_log_loss", error_score="raise"
    )  # fmt: skip
    with routing():
        search.fit(stamps, labels, properties=properties)
    assert len(set(search.cv_results_["mean_test_score"])) == 4  # every parameter arrives
    best = search.best_estimator_.named_steps["enc"]
    assert best.property_source_ == "catalog+measured"
    direct = light_encoder(max_epochs=best.max_epochs).fit(stamps, properties=properties)
    assert_same_weights(best, direct)
    for number, (learn, test) in enumerate(FOLDS.split(stamps, labels)):
        model = pipeline().set_params(**search.cv_results_["params"][1])
        model.fit(stamps[learn], labels[learn], enc__properties=properties.iloc[learn])
        expected = -log_loss(labels[test], model.predict_proba(stamps[test]))
        assert search.cv_results_[f"split{number}_test_score"][1] == pytest.approx(expected)


def test_a_search_over_the_bare_encoder_scores_the_properties_of_unseen_rows(survey):
    stamps, _, properties = survey
    folds = KFold(2)
    search = GridSearchCV(
        light_encoder(), {"max_epochs": [0, 2]}, cv=folds, error_score="raise"
    )  # fmt: skip
    with routing():
        search.fit(stamps, properties=properties)
        assert np.isfinite(search.score(stamps, properties=properties))
    for number, (learn, test) in enumerate(folds.split(stamps)):
        for place, max_epochs in enumerate([0, 2]):
            encoder = light_encoder(max_epochs=max_epochs)
            encoder.fit(stamps[learn], properties=properties.iloc[learn])
            expected = encoder.score(stamps[test], properties=properties.iloc[test])
            assert search.cv_results_[f"split{number}_test_score"][place] == expected


def test_the_bare_encoder_is_scored_without_routing_when_its_targets_are_y(survey):
    stamps, _, properties = survey
    scores = cross_val_score(light_encoder(), stamps, properties, cv=2, error_score="raise")
    with routing():
        encoder, params = light_encoder(targets="catalog"), {"properties": properties}
        routed = cross_val_score(encoder, stamps, params=params, cv=2, error_score="raise")
    assert_array_equal(scores, routed)
    measured = cross_val_score(light_encoder(), stamps, cv=2, error_score="raise")
    assert np.isfinite(measured).all()


@pytest.mark.parametrize("routed", [False, True])
def test_a_search_over_the_encoder_inside_a_classifier(survey, routed):
    stamps, labels, properties = survey
    weights = [None, {"galaxy": 1.0, "star": 3.0}]
    grid = {"encoder__max_epochs": [0, 1], "class_weight": weights}
    search = GridSearchCV(
        classifier(light_encoder()), grid, cv=FOLDS, scoring="neg_log_loss", error_score="raise"
    )
    with routing(routed):
        search.fit(stamps, labels, properties=properties)
    assert len(set(search.cv_results_["mean_test_score"])) == 4
    assert search.best_estimator_.encoder_.property_source_ == "catalog+measured"


@pytest.mark.parametrize("routed", [False, True])
def test_a_learning_curve_gives_each_size_the_properties_of_its_rows(survey, routed):
    stamps, labels, properties = survey
    params = {"properties" if routed else "enc__properties": properties}
    with routing(routed):
        sizes, _, scores = learning_curve(
            pipeline(), stamps, labels, params=params, train_sizes=[10, 30], cv=FOLDS,
            scoring="neg_log_loss", error_score="raise",
        )  # fmt: skip
    assert sizes.tolist() == [10, 30]
    for fold, (learn, test) in enumerate(FOLDS.split(stamps, labels)):
        for place, size in enumerate(sizes):
            rows = learn[:size]
            model = pipeline()
            model.fit(stamps[rows], labels[rows], enc__properties=properties.iloc[rows])
            expected = -log_loss(labels[test], model.predict_proba(stamps[test]))
            assert scores[place, fold] == pytest.approx(expected)


@pytest.mark.parametrize("method", ["predict", "predict_proba"])
def test_cross_validated_predictions_are_those_of_the_other_folds(survey, method):
    stamps, labels, _ = survey
    for model in (pipeline(), classifier(light_encoder(), strategy="finetune")):
        predicted = cross_val_predict(model, stamps, labels, cv=FOLDS, method=method)
        for learn, test in FOLDS.split(stamps, labels):
            alone = clone(model).fit(stamps[learn], labels[learn])
            assert_array_equal(predicted[test], getattr(alone, method)(stamps[test]))


# -- ensembles


def test_every_classifier_can_be_calibrated(survey, frozen):
    stamps, labels, _ = survey
    inside = [classifier(frozen), pipeline(frozen)]
    fitted_once = FrozenEstimator(classifier(frozen).fit(stamps[:20], labels[:20]))
    for model in (*inside, fitted_once):
        calibrated = CalibratedClassifierCV(model, cv=FOLDS).fit(stamps[:40], labels[:40])
        probabilities = calibrated.predict_proba(stamps[40:])
        assert_allclose(probabilities.sum(1), 1)
        assert calibrated.score(stamps[40:], labels[40:]) > 0.8


def test_properties_are_routed_through_calibration_and_voting(survey):
    stamps, labels, properties = survey
    members = [("whole", classifier(light_encoder())), ("parts", pipeline())]
    with routing():
        vote = VotingClassifier(members, voting="soft").fit(stamps, labels, properties=properties)
        calibrated = CalibratedClassifierCV(pipeline(), cv=FOLDS)
        calibrated.fit(stamps, labels, properties=properties)
    whole, parts = vote.estimators_
    direct = light_encoder().fit(stamps, properties=properties)
    assert_same_weights(whole.encoder_, direct)
    assert_same_weights(parts.named_steps["enc"], direct)
    learn, _ = next(FOLDS.split(stamps, labels))
    fold = calibrated.calibrated_classifiers_[0].estimator.named_steps["enc"]
    assert_same_weights(
        fold, light_encoder().fit(stamps[learn], properties=properties.iloc[learn])
    )  # fmt: skip


def test_a_vote_is_the_mean_of_its_members(survey, frozen):
    stamps, labels, _ = survey
    members = [("whole", classifier(frozen)), ("parts", pipeline(frozen))]
    vote = VotingClassifier(members, voting="soft").fit(stamps, labels)
    alone = [clone(model).fit(stamps, labels).predict_proba(stamps) for _, model in members]
    assert_allclose(vote.predict_proba(stamps), np.mean(alone, axis=0), rtol=1e-6)


def test_classifiers_stack_on_a_frozen_encoder(survey, fitted):
    stamps, labels, _ = survey
    frozen = FrozenEstimator(fitted)
    members = [
        ("linear", make_pipeline(frozen, LogisticRegression())),
        ("neighbours", make_pipeline(frozen, KNeighborsClassifier(3))),
        ("whole", classifier(frozen)),
    ]
    stack = StackingClassifier(members, cv=FOLDS).fit(stamps[:40], labels[:40])
    assert stack.estimators_[0][0].estimator is fitted
    assert stack.estimators_[2].encoder_ is fitted
    assert stack.score(stamps[40:], labels[40:]) > 0.8
    above = make_pipeline(frozen, StackingClassifier([("linear", LogisticRegression())], cv=FOLDS))
    assert above.fit(stamps[:40], labels[:40]).score(stamps[40:], labels[40:]) > 0.8


def test_self_training_after_a_frozen_encoder(survey, fitted, few):
    stamps, labels, _ = survey
    before = fitted.transform(stamps)
    model = make_pipeline(FrozenEstimator(fitted), SelfTrainingClassifier(LogisticRegression()))
    model.fit(stamps, few)
    assert (model[-1].transduction_ != -1).sum() > 20  # rows were labelled by the model
    assert model.score(stamps[20:], labels[20:] == "star") > 0.8
    assert_array_equal(fitted.transform(stamps), before)


def test_flat_rows_work_where_stamps_do_not(survey, frozen, few):
    stamps, labels, _ = survey
    flat = stamps.reshape(60, -1)
    with pytest.raises(ValueError, match="dim 4"):  # if this changes, tell users in the docs
        SelfTrainingClassifier(classifier(frozen)).fit(stamps, few)
    trained = SelfTrainingClassifier(classifier(frozen)).fit(flat, few)
    assert trained.score(flat[20:], labels[20:] == "star") > 0.8
    bag = BaggingClassifier(classifier(frozen), n_estimators=2, random_state=0)
    assert bag.fit(flat[:40], labels[:40]).score(flat[40:], labels[40:]) > 0.8
    unfrozen = BaggingClassifier(
        classifier(light_encoder(image_shape=(3, 8, 8))), n_estimators=2, random_state=0
    ).fit(flat, labels)
    assert unfrozen.estimators_[0].encoder_.image_shape_ == (3, 8, 8)


# -- unlabelled rows


@pytest.mark.parametrize("mark", [-1, np.nan, None, ""])
def test_folds_with_unlabelled_rows_are_scored_on_the_labelled(survey, few, mark):
    stamps, labels, properties = survey
    if mark == -1:
        y = few
    elif mark in (None, ""):
        y = np.where(few == -1, mark, labels)
    else:
        y = np.where(few == -1, np.nan, few)
    folds = KFold(3, shuffle=True, random_state=0)  # the stratified one refuses None and NaN
    result = cross_validate(
        classifier(light_encoder()), stamps, y, params={"properties": properties}, cv=folds,
        return_estimator=True, return_indices=True, error_score="raise",
    )  # fmt: skip
    for number, model in enumerate(result["estimator"]):
        learn, test = (result["indices"][part][number] for part in ("train", "test"))
        direct = light_encoder().fit(stamps[learn], properties=properties.iloc[learn])
        assert_same_weights(model.encoder_, direct)  # pretrained on unlabelled rows too
        labelled = test[few[test] != -1]
        expected = np.mean(model.predict(stamps[labelled]) == y[labelled])
        assert result["test_score"][number] == expected


def test_every_row_gets_a_class_from_the_other_folds(survey, frozen, few):
    stamps, labels, _ = survey
    predicted = cross_val_predict(classifier(frozen), stamps, few, cv=FOLDS)
    assert set(predicted) == {0, 1}  # no row is predicted to be unlabelled
    assert np.mean(predicted == (labels == "star")) > 0.8


def test_every_scorer_works_if_only_labelled_rows_are_scored(survey, frozen, few):
    stamps = survey[0]
    unlabelled, labelled = np.flatnonzero(few == -1), np.flatnonzero(few != -1)
    folds = [
        (np.r_[labelled[learn], unlabelled], labelled[test])
        for learn, test in FOLDS.split(labelled, few[labelled])
    ]
    model = classifier(frozen)
    scores = cross_val_score(model, stamps, few, cv=folds, scoring="neg_log_loss")
    alone = cross_val_score(
        model, stamps[labelled], few[labelled], cv=FOLDS, scoring="neg_log_loss"
    )  # fmt: skip
    assert_allclose(scores, alone)


# -- memory maps, threads, processes


def test_memory_mapped_stamps_are_cross_validated(survey, tmp_path):
    stamps, labels, _ = survey
    np.save(tmp_path / "stamps.npy", stamps)
    mapped = np.load(tmp_path / "stamps.npy", mmap_mode="r")
    for model in (pipeline(), classifier(light_encoder())):
        scores, expected = (
            cross_val_score(model, X, labels, cv=FOLDS, scoring="neg_log_loss", error_score="raise")
            for X in (mapped, stamps)
        )
        assert_array_equal(scores, expected)


def test_many_threads_share_one_fitted_encoder(survey, fitted):
    stamps = survey[0]
    parts = [stamps[i:] for i in range(8)]
    expected = [fitted.transform(part) for part in parts]
    with ThreadPoolExecutor(8) as threads:
        for result, alone in zip(threads.map(fitted.transform, parts), expected, strict=True):
            assert_array_equal(result, alone)


def test_threads_that_fit_at_once_get_the_weights_of_their_seeds(survey):
    stamps, _, properties = survey

    def fit(seed):
        return light_encoder(random_state=seed).fit(stamps, properties=properties)

    with ThreadPoolExecutor(4) as threads:
        together = list(threads.map(fit, [0, 1, 2, 3, 0, 1, 2, 3]))
    for seed in range(4):
        assert_same_weights(together[seed], together[seed + 4])
        assert_same_weights(together[seed], fit(seed))


@pytest.fixture
def _workers():
    """Give each process of joblib one thread, as here, because threads change the order of sums."""
    with joblib.parallel_config("loky", inner_max_num_threads=1):
        yield


@pytest.mark.slow  # two processes start, and import torch
@pytest.mark.usefixtures("_workers")
def test_two_processes_search_with_the_result_of_one(survey):
    stamps, labels, properties = survey
    grid = {"enc__max_epochs": [0, 2], "enc__learning_rate": [1e-3, 1e-2]}

    def search(n_jobs):
        scoring = "neg_log_loss"
        tool = GridSearchCV(pipeline(), grid, cv=FOLDS, scoring=scoring, n_jobs=n_jobs)
        with routing():
            return tool.fit(stamps, labels, properties=properties)

    alone, together = search(1), search(2)
    assert_array_equal(
        together.cv_results_["mean_test_score"], alone.cv_results_["mean_test_score"]
    )
    assert together.best_params_ == alone.best_params_
    assert_same_weights(together.best_estimator_[0], alone.best_estimator_[0])


@pytest.mark.slow  # two processes start, and import torch
@pytest.mark.usefixtures("_workers")
def test_two_processes_cross_validate_with_the_result_of_one(survey, frozen):
    stamps, labels, _ = survey
    for model in (pipeline(tiny_encoder()), classifier(frozen, strategy="finetune")):
        alone, together = (
            cross_val_score(
                model, stamps, labels, cv=FOLDS, scoring="neg_log_loss", n_jobs=n_jobs
            )
            for n_jobs in (1, 2)
        )  # fmt: skip
        assert_array_equal(together, alone)


def test_two_threads_search_with_the_result_of_one(survey):
    stamps, labels, _ = survey
    search = GridSearchCV(
        pipeline(), {"enc__max_epochs": [0, 1, 2]}, cv=FOLDS, scoring="neg_log_loss"
    )
    alone = clone(search).fit(stamps, labels).cv_results_["mean_test_score"]
    with joblib.parallel_config("threading", n_jobs=2):
        together = clone(search).fit(stamps, labels).cv_results_["mean_test_score"]
    assert_array_equal(together, alone)


# -- clusters


def test_hdbscan_clusters_the_embeddings_of_a_frozen_encoder(survey, fitted):
    stamps, labels, _ = survey
    model = make_pipeline(FrozenEstimator(fitted), HDBSCAN(min_cluster_size=5))
    clusters = model.fit_predict(stamps)
    assert_array_equal(clusters, HDBSCAN(min_cluster_size=5).fit(fitted.transform(stamps)).labels_)
    assert_array_equal(model.fit(stamps)[-1].labels_, clusters)
    numbers = clusters[clusters >= 0]
    assert len(set(numbers)) >= 2
    for cluster in set(numbers):  # mostly of one class
        _, members = np.unique(labels[clusters == cluster], return_counts=True)
        assert members.max() / members.sum() > 0.8
