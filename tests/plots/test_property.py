import matplotlib.pyplot as plt
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from skastro import PropertyDisplay
from tests.plots.conftest import MAGNITUDE, N


def test_unmeasured_objects_are_left_out_and_counted():
    true = np.append(MAGNITUDE, [np.nan, 20.0])
    predicted = np.append(MAGNITUDE + 0.1, [20.0, np.nan])
    display = PropertyDisplay.from_predictions(true, predicted, name="mag_r", unit="mag")
    assert display.n_missing == 2
    assert len(display.true) == N
    assert_allclose([display.bias, display.scatter], [0.1, 0], atol=1e-9)
    (text,) = [text.get_text() for text in display.ax_.texts]
    assert text.splitlines() == [
        "bias +0.100 mag", "scatter 0.000 mag", "400 objects", "2 not measured"
    ]  # fmt: skip
    assert display.ax_.get_xlabel() == "catalogue mag_r (mag)"
    assert display.residual_ax_.get_xlim() == display.ax_.get_xlim()


def test_sentinels_are_not_measured():
    true = np.append(MAGNITUDE, -999.0)
    with pytest.warns(UserWarning, match="1 sentinel values"):
        display = PropertyDisplay.from_predictions(true, np.append(MAGNITUDE, 20.0))
    assert display.n_missing == 1


def test_far_outliers_are_counted_and_do_not_set_the_scale():
    true = np.linspace(18, 22, 2000)
    predicted = np.where(np.arange(2000) == 5, 500.0, true)
    display = PropertyDisplay.from_predictions(true, predicted)
    assert display.ax_.get_ylim()[1] < 23
    assert "1 of them beyond the axes" in display.ax_.texts[0].get_text()
    counts = display.objects_.get_array()  # hexagons
    assert 1900 < counts.sum() < 2000


def test_catalogue_errors_are_drawn_with_the_scatter():
    display = PropertyDisplay.from_predictions(
        MAGNITUDE, MAGNITUDE, errors=np.full(N, 0.25), magnitude=MAGNITUDE, magnitude_name="r (mag)"
    )
    assert display.residual_ax_.get_xlabel() == "r (mag)"
    lines = {line.get_label(): line.get_ydata() for line in display.residual_ax_.lines}
    assert_allclose(lines["catalogue's error"], 0.25)
    assert display.residual_ax_.get_ylim()[1] > 0.25


def test_encoder_and_catalogue_are_matched_by_name(fitted, survey):
    stamps, _, properties = survey
    errors = properties * 0 + 0.3
    display = PropertyDisplay.from_estimator(
        fitted, stamps, properties[["size", "mag_g"]], name="mag_g",
        property_errors=errors[["size", "mag_g"]],
    )  # fmt: skip
    assert_array_equal(display.true, properties["mag_g"])
    assert_allclose(display.predicted, fitted.predict(stamps)["mag_g"])
    assert_allclose(display.bins["error"], 0.3)
    with pytest.raises(ValueError, match="'x' is none of the encoder"):
        PropertyDisplay.from_estimator(fitted, stamps, properties, name="x")
    with pytest.raises(ValueError, match="'mag_g' is none of properties"):
        PropertyDisplay.from_estimator(fitted, stamps, properties[["size"]], name="mag_g")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([np.nan, 1.0, 2.0], [1.0, 1.0, np.nan], {}), "property is measured for 1 objects"),
        (([1.0, 2.0], [1.0, 2.0], {"magnitude": [1.0]}), "magnitude has shape .1,., but there"),
    ],
)
def test_wrong_arguments_raise_one_sentence(arguments, message):
    true, predicted, params = arguments
    with pytest.raises(ValueError, match=message):
        PropertyDisplay.from_predictions(true, predicted, **params)


def test_axes_outside_of_a_grid_are_refused():
    with pytest.raises(ValueError, match="ax is not one of a figure's subplots"):
        PropertyDisplay.from_predictions(
            MAGNITUDE, MAGNITUDE, ax=plt.figure().add_axes((0, 0, 1, 1))
        )
