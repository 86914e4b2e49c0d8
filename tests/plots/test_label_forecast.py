"""The figure of a forecast."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

from skastro import AccuracyEstimate, LabelForecast, LabelForecastDisplay

NOW = AccuracyEstimate(0.8, 0.7, 0.88, 0.05, 10)
TABLE = pd.DataFrame(
    {
        "n_labels": [300, 60, 120],
        "mean": [0.87, 0.81, 0.83],
        "low": [0.8, 0.7, 0.76],
        "high": [0.93, 0.88, 0.9],
    }
)


def test_line_leads_from_now_over_the_forecast():
    display = LabelForecastDisplay.from_result(LabelForecast(NOW, 60, TABLE, 0.9))
    assert display.line_.get_xydata().tolist() == [[60, 0.8], [120, 0.83], [300, 0.87]]
    corners = display.band_.get_paths()[0].vertices
    assert corners[:, 1].min() == 0.7
    assert corners[:, 1].max() == 0.93
    names = [text.get_text() for text in display.ax_.get_legend().get_texts()]
    assert names == ["90% interval", "forecast", "now"]
    assert display.ax_.get_title(loc="left") == "0.80 now; 60 more labels: 0.76 to 0.90"


def test_measured_points_are_drawn_into_given_axes():
    ax = plt.figure().subplots()
    history = pd.DataFrame({"n_labels": [60, 300], "value": [0.79, 0.88]})
    forecast = LabelForecast(NOW, 60, TABLE, 0.9)
    display = LabelForecastDisplay.from_result(forecast, history=history, ax=ax)
    assert display.ax_ is ax
    points = next(line for line in ax.lines if line.get_label() == "measured")
    assert points.get_ydata().tolist() == [0.79, 0.88]


def test_forecast_without_a_value_is_refused():
    nothing = AccuracyEstimate(np.nan, np.nan, np.nan, np.nan, 0)
    with pytest.raises(ValueError, match="too few labels"):
        LabelForecastDisplay.from_result(LabelForecast(nothing, 5, TABLE, 0.9))
