import numpy as np
import pandas as pd
from numpy.testing import assert_allclose

from skastro.estimators.targets import PropertyTargets


def test_round_trip_in_catalogue_units():
    table = pd.DataFrame({"mag": [18.0, 20.0, np.nan, 25.0], "z": [0.1, 0.2, 0.3, np.nan]})
    targets = PropertyTargets.fit(table)
    pd.testing.assert_frame_equal(targets.restore(targets.standardise(table)), table, rtol=1e-6)


def test_outliers_do_not_set_the_scale():
    values = np.random.default_rng(0).normal(size=1001)
    values[:50] = 1e6
    targets = PropertyTargets.fit(pd.DataFrame({"a": values}))
    assert_allclose(targets.scale, 1.0, rtol=0.15)


def test_constant_and_mostly_constant_properties_have_a_spread():
    table = pd.DataFrame({"constant": np.ones(100), "mostly": [0.0] * 90 + [1.0] * 10})
    targets = PropertyTargets.fit(table)
    assert targets.scale[0] == 1.0
    assert_allclose(targets.scale[1], 0.3)


def test_weights_fall_with_the_error_and_unknown_errors_are_typical():
    table = pd.DataFrame({"mag": np.linspace(15, 25, 101)})
    targets = PropertyTargets.fit(table)
    errors = np.full((101, 1), 0.1)
    errors[:3, 0] = [0.0, 5.0, np.nan]
    weights = targets.weights(errors, 101)[:, 0]
    assert weights[0] == 1.0
    assert weights[1] < 0.2 < weights[3]
    assert_allclose(weights[2], weights[3])
    assert (targets.weights(None, 101) == 1).all()
