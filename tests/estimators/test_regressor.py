import numpy as np
import pytest
from numpy.testing import assert_array_equal
from sklearn.frozen import FrozenEstimator

from skastro import PropertyPretrainedEncoder, SelfSupervisedClassifier, SelfSupervisedRegressor
from skastro.networks.weights import REGRESSOR_KEY, read_encoder, write_encoder
from tests.conftest import make_stamps, tiny_encoder

NEW = make_stamps(40, seed=5)


@pytest.fixture(scope="module")
def known(survey):
    """Magnitudes, half of which are known."""
    values = survey[2]["mag_u"].to_numpy().copy()
    values[30:] = np.nan
    return values


@pytest.fixture(scope="module")
def trained(fitted, survey, known):
    catalog = survey[2][["size"]]
    model = SelfSupervisedRegressor(FrozenEstimator(fitted), random_state=0)
    return model.fit(survey[0], known, catalog=catalog)


def test_values_of_new_stamps_are_predicted(trained):
    assert trained.score(NEW[0], NEW[2]["mag_u"]) > 0.5
    assert trained.loo_score_ > 0.5
    values, std = trained.predict(NEW[0], return_std=True)
    assert values.shape == std.shape == (40,)
    assert (std > 0).all()


def test_intervals_grow_with_the_coverage(trained):
    narrow, wide = (trained.predict_interval(NEW[0], coverage=c) for c in (0.5, 0.9))
    assert (wide[:, 0] < narrow[:, 0]).all()
    assert (wide[:, 1] > narrow[:, 1]).all()
    held = (wide[:, 0] <= NEW[2]["mag_u"]) & (NEW[2]["mag_u"] <= wide[:, 1])
    assert held.mean() > 0.6  # the encoder has seen the values of the learned stamps, not these


def test_unknown_values_may_be_masked_or_none(fitted, survey, known):
    model = SelfSupervisedRegressor(FrozenEstimator(fitted), random_state=0)
    masked = np.ma.masked_invalid(known)
    without = [None if np.isnan(value) else value for value in known]
    expected = model.fit(survey[0], known).predict(NEW[0])
    for y in (masked, without):
        assert_array_equal(model.fit(survey[0], y).predict(NEW[0]), expected)


def test_scores_leave_out_rows_without_a_value(trained):
    y = NEW[2]["mag_u"].to_numpy().copy()
    y[20:] = np.nan
    assert trained.score(NEW[0], y) == pytest.approx(trained.score(NEW[0][:20], y[:20]))


def test_a_catalogue_is_used_where_it_is_given(trained):
    alone, joined = trained.predict(NEW[0]), trained.predict(NEW[0], catalog=NEW[2])
    assert (alone != joined).any()
    with pytest.raises(ValueError, match=r"catalog has no column 'size'"):
        trained.predict(NEW[0], catalog=NEW[2][["mag_u"]])


@pytest.mark.parametrize(
    ("y", "message"),
    [
        (None, "requires y to be passed"),
        (np.full(60, np.nan), "known value for 0 samples"),
        (np.ones(7), "y has 7 values, but X has 60 stamps"),
        (["star"] * 60, "'star' in row 0"),
        (np.full(60, np.inf), "is infinite in row 0"),
    ],
)
def test_values_that_cannot_be_learned_are_refused(fitted, survey, y, message):
    with pytest.raises(ValueError, match=message):
        SelfSupervisedRegressor(FrozenEstimator(fitted)).fit(survey[0], y)


def test_values_among_the_properties_are_warned_of(survey, known):
    encoder = tiny_encoder()
    with pytest.warns(UserWarning, match="column 'mag_u' has the values of y"):
        SelfSupervisedRegressor(encoder, random_state=0).fit(survey[0], known, properties=survey[2])


def test_pretraining_freezes_the_encoder(survey, known):
    model = SelfSupervisedRegressor(tiny_encoder(), random_state=0)
    ready = model.pretrain(survey[0], properties=survey[2][["size"]])
    encoder = ready.encoder.estimator
    assert ready.fit(survey[0], known).encoder_ is encoder


@pytest.mark.parametrize("frozen", [True, False])
def test_a_loaded_regressor_predicts_the_same_bit_for_bit(trained, survey, known, tmp_path, frozen):
    model = trained
    if not frozen:
        model = SelfSupervisedRegressor(tiny_encoder(), random_state=0).fit(survey[0], known)
    model.save(tmp_path / "r.safetensors")
    loaded = SelfSupervisedRegressor.load(tmp_path / "r.safetensors")
    for result, expected in zip(
        loaded.predict(NEW[0], return_std=True), model.predict(NEW[0], return_std=True), strict=True
    ):
        assert_array_equal(result, expected)
    assert_array_equal(loaded.predict_interval(NEW[0]), model.predict_interval(NEW[0]))
    assert loaded.loo_score_ == model.loo_score_
    assert loaded.catalog_names_ == model.catalog_names_
    assert isinstance(loaded.encoder, FrozenEstimator if frozen else PropertyPretrainedEncoder)


def test_other_files_are_refused(trained, tmp_path):
    path = tmp_path / "r.safetensors"
    trained.save(path)
    with pytest.raises(ValueError, match="holds no skastro classifier but a regressor"):
        SelfSupervisedClassifier.load(path)
    trained.encoder_.save(path)
    with pytest.raises(ValueError, match="holds no skastro regressor but an encoder"):
        SelfSupervisedRegressor.load(path)


@pytest.mark.parametrize("name", ["params", "probe", "loo_score", "measured_names"])
def test_a_file_without_a_part_is_refused(trained, tmp_path, name):
    path = tmp_path / "r.safetensors"
    trained.save(path)
    tensors, document = read_encoder(path, kind=REGRESSOR_KEY)
    del document[name]
    write_encoder(path, tensors, document, kind=REGRESSOR_KEY)
    with pytest.raises(ValueError, match=f"its {name} is missing"):
        SelfSupervisedRegressor.load(path)
