import numpy as np
import pandas as pd
from numpy.testing import assert_allclose

from skastro.evaluation.property_scores import (
    grade_properties,
    join_measured,
    residual_bins,
    robust_sigma,
)


def test_robust_sigma_is_that_of_a_normal_distribution():
    residuals = np.random.default_rng(0).normal(3.0, 2.0, size=20_000)
    residuals[:200] = 1e6
    assert abs(robust_sigma(residuals) - 2.0) < 0.05


def test_missing_true_values_are_left_out_of_the_grades():
    true = pd.DataFrame(
        {"a": [1.0, 2.0, 3.0, np.nan], "b": [np.nan, np.nan, np.nan, 1.0], "c": np.nan}
    )
    true.attrs["units"] = {"a": "mag"}
    quality = grade_properties(true, pd.DataFrame({"a": [1.0, 2.0, 3.0, 9.0], "b": 1.0, "c": 1.0}))
    assert quality["n_test"].tolist() == [3, 1, 0]
    assert quality["unit"].tolist() == ["mag", "", ""]
    assert quality.loc[0, ["r2", "scatter"]].tolist() == [1.0, 0.0]
    assert quality["r2"].isna().tolist() == [False, True, True]
    assert quality["scatter"].isna().tolist() == [False, True, True]


def test_measured_properties_are_named_as_the_encoder_names_them():
    measured = pd.DataFrame({"size": [1.0, 2.0], "flux": [3.0, 4.0]})
    measured.attrs["units"] = {"size": "pixel"}
    catalog = pd.DataFrame({"size": [5.0, 6.0], "measured_flux": [7.0, 8.0]}, index=[8, 9])
    table = join_measured(catalog, measured)
    assert table.columns.tolist() == ["size", "measured_flux", "measured_size"]
    assert table.attrs["units"] == {"measured_size": "pixel"}
    assert table.to_numpy().tolist() == [[5, 7, 1], [6, 8, 2]]
    assert join_measured(None, measured) is measured


def test_residuals_are_measured_in_bins():
    true = np.linspace(18, 22, 4000)
    noise = np.random.default_rng(1).normal(size=4000)
    predicted = true + 0.2 + np.where(true < 20, 0.05, 0.3) * noise
    bins = residual_bins(true, predicted, errors=np.full(4000, 0.1), n_bins=2)
    assert bins["n"].sum() == 4000
    assert_allclose(bins["bias"], 0.2, atol=0.03)
    assert_allclose(bins["scatter"], [0.05, 0.3], rtol=0.05)
    assert_allclose(bins["error"], 0.1)
    assert_allclose(bins["bias_error"], 1.2533 * bins["scatter"] / np.sqrt(bins["n"]), rtol=1e-3)
    by_other = residual_bins(true, predicted, magnitude=-true, n_bins=2)
    assert by_other["scatter"].is_monotonic_decreasing
