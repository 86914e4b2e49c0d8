import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from skastro.probes.kernel_regression import KernelRegression
from skastro.probes.kernels import KERNEL_CONSTANT


def make_rows(n, seed=0, noise=0.1):
    generator = np.random.default_rng(seed)
    X = generator.uniform(-2, 2, size=(n, 3))
    return X, np.sin(2 * X[:, 0]) + X[:, 1] + noise * generator.normal(size=n)


@pytest.mark.parametrize("groups", [None, np.arange(40) // 4])
def test_left_out_predictions_are_those_of_fits_without_the_rows(groups):
    X, y = make_rows(40)
    model = KernelRegression().fit(X, y, groups)
    kernel = model._mix([(X, X)])
    targets, expected = (y - model.center_) / model.scale_, np.zeros(40)
    for row in range(40):
        out = np.array([row]) if groups is None else np.flatnonzero(groups == groups[row])
        keep = np.setdiff1d(np.arange(40), out)
        for mix, share in enumerate(model.shares_[0]):
            inner = kernel[0][mix][np.ix_(keep, keep)] + model.alpha_[0, mix] * np.eye(len(keep))
            coef = np.linalg.solve(inner, targets[keep])
            expected[row] += share * kernel[0][mix][row, keep] @ coef
    assert_allclose(model.loo_predictions_, model.center_ + model.scale_ * expected, atol=1e-6)


def test_curves_are_learned_better_than_by_a_constant_kernel():
    (X, y), (X_new, y_new) = make_rows(200), make_rows(200, seed=1)
    model = KernelRegression().fit(X, y)
    assert model.score(X_new, y_new) > 0.95
    assert KERNEL_CONSTANT > 0
    assert model.shares_.sum() == pytest.approx(1)


@pytest.mark.parametrize("n", [30, 150])
def test_intervals_hold_the_share_that_they_promise(n):
    held = []
    for seed in range(12):
        (X, y), (X_new, y_new) = make_rows(n, seed, 0.5), make_rows(400, 100 + seed, 0.5)
        model = KernelRegression().fit(X, y)
        values, std = model.predict(X_new, return_std=True)
        held.append(np.mean(np.abs(values - y_new) <= model.interval_factor(0.9) * std))
    assert 0.86 < np.mean(held) < 0.95


def test_errors_that_differ_from_row_to_row_are_predicted():
    generator = np.random.default_rng(0)
    X = generator.uniform(-2, 2, size=(400, 2))
    y = X[:, 1] + np.where(X[:, 0] > 0, 1.0, 0.1) * generator.normal(size=400)
    model = KernelRegression().fit(X, y)
    _, std = model.predict(np.array([[-1.0, 0.0], [1.0, 0.0]]), return_std=True)
    assert std[0] < 0.4
    assert std[1] > 0.7


def test_unknown_values_and_properties_are_left_out():
    X, y = make_rows(60)
    X[5, 2] = np.nan
    y[40:] = np.nan
    model = KernelRegression(2).fit(X, y)
    assert_array_equal(model.predict(X), KernelRegression(2).fit(X[:40], y[:40]).predict(X))
    assert len(model.loo_predictions_) == 40


def test_a_representation_that_tells_more_gets_the_share():
    X, y = make_rows(100)
    noise = np.random.default_rng(5).normal(size=(100, 2))
    model = KernelRegression(others=[(0, 3)]).fit(np.hstack([noise, X]), y)
    assert model.shares_[1].sum() > 0.99


def test_many_rows_use_some_of_them_as_centres():
    (X, y), (X_new, y_new) = make_rows(300), make_rows(100, seed=1)
    model = KernelRegression(max_centers=60).fit(X, y)
    assert model.coefs_.shape[-1] == len(model.centers_) == 60
    assert model.score(X_new, y_new) > 0.9


@pytest.mark.parametrize("y", [np.arange(5.0), np.ones(5), [1.0, 2.0, 3.0, np.nan, np.nan]])
def test_a_few_values_are_enough(y):
    X = np.arange(10.0).reshape(5, 2)
    values, std = KernelRegression().fit(X, y).predict(X, return_std=True)
    assert np.isfinite(values).all()
    assert (std >= 0).all()


def test_too_few_values_are_refused_and_a_high_coverage_is_warned_of():
    X, y = make_rows(8)
    with pytest.raises(ValueError, match="known value for 2 samples only: pass at least 3"):
        KernelRegression().fit(X[:2], y[:2])
    with pytest.warns(UserWarning, match="fewer than 9 values, but there are 8"):
        KernelRegression().fit(X, y).interval_factor(0.9)
    with pytest.raises(ValueError, match=r"coverage=1.5 must be between"):
        KernelRegression().fit(X, y).interval_factor(1.5)
