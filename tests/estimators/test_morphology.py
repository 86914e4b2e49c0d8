import numpy as np
import pytest
import torch

from skastro.estimators.morphology import MorphologyTargets, find_kinds
from skastro.simulation.galaxies import GALAXY_KINDS
from skastro.simulation.radio import RADIO_KINDS

TRUTH = {
    "bar": torch.tensor([0.0, 0.04, 0.36, 0.16]),
    "pitch_angle": torch.tensor([10.0, torch.nan, 40.0, 20.0]),
    "inclination": torch.tensor([0.0, 30.0, 60.0, 90.0]),
}


@pytest.fixture
def targets():
    return MorphologyTargets.fit(TRUTH, {"pitch_angle": "deg", "bar": ""}, ("spiral", "irregular"))


def outputs_of(targets, log_spread=-5.0):
    values = targets.standardise(TRUTH).numpy()
    logits = np.array([[0.0, 0.0], [3.0, 0.0], [0.0, 3.0], [9.0, 0.0]])
    return np.hstack([values, np.full(values.shape, log_spread), logits])


def test_restoring_gives_back_the_properties(targets):
    table = targets.restore(outputs_of(targets))
    assert list(table) == ["bar", "pitch_angle", "inclination", "spiral", "irregular"]
    for name, truth in TRUTH.items():
        np.testing.assert_allclose(table[name], truth, rtol=1e-5, atol=1e-4)
    assert table.attrs["units"] == {"pitch_angle": "deg"}


def test_probabilities_of_kinds_add_up_to_one(targets):
    table = targets.restore(outputs_of(targets))[["spiral", "irregular"]]
    np.testing.assert_allclose(table.sum(axis=1), 1.0)
    assert table["spiral"].tolist()[:2] == pytest.approx([0.5, 0.9526], abs=1e-4)


def test_standardised_properties_have_mean_0_and_spread_1(targets):
    values = targets.standardise(TRUTH)
    assert values.isnan().sum() == 1
    np.testing.assert_allclose(np.nanmean(values, axis=0), 0, atol=1e-6)
    np.testing.assert_allclose(np.nanstd(values, axis=0), 1, atol=1e-6)


def test_the_uncertainty_is_in_the_units_of_the_property(targets):
    spread = targets.spread(outputs_of(targets, log_spread=-2.0))
    expected = np.exp(-2.0) * np.std([0, 30, 60, 90])
    np.testing.assert_allclose(spread["inclination"], expected, rtol=1e-6)
    # a logarithm: the larger the angle, the larger its uncertainty
    assert spread["pitch_angle"][2] == pytest.approx(4 * spread["pitch_angle"][0])
    assert spread["spiral"][0] == pytest.approx(0.5)
    assert list(spread) == targets.names


def test_shares_are_between_0_and_1(targets):
    outputs = outputs_of(targets)
    for extreme in (-9.0, 9.0):
        outputs[:, 0] = extreme
        assert targets.restore(outputs)["bar"].between(0, 1).all()


def test_the_mean_of_a_share_grows_with_its_uncertainty(targets):
    # the mean of a square is the square of the mean and the variance
    sure, unsure = (targets.restore(outputs_of(targets, spread))["bar"] for spread in (-5.0, 0.0))
    np.testing.assert_allclose(unsure - sure, targets.scale[0] ** 2, rtol=1e-3)


@pytest.mark.parametrize(
    ("classes", "kinds"),
    [
        (["E", "S0", "Sp"], ["elliptical", "lenticular", "spiral"]),
        (["Ellipticals", "spiral galaxies"], ["elliptical", "spiral"]),
        (["FR I", "FR-II", "Bent", "compact source"], ["fr1", "fr2", "bent", "compact"]),
        (["fr1", "fr2"], ["fr1", "fr2"]),
        (["star", "galaxy", "quasar"], None),
        (["E", "elliptical", "spiral"], None),  # twice the same kind
        (["E", "FR I"], None),
        ([1, 2], None),
        (["galaxies", "E"], None),
    ],
)
def test_classes_are_known_by_usual_names(classes, kinds):
    found = [find_kinds(classes, every) for every in (GALAXY_KINDS, RADIO_KINDS)]
    assert [kind for kind in found if kind is not None] == ([] if kinds is None else [kinds])
