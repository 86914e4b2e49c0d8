"""Objects to draw, and checks of figures, that the tests of all displays share."""

import matplotlib as mpl
import numpy as np
import pandas as pd

mpl.use("Agg")


from tests.conftest import make_stamps

RNG = np.random.default_rng(0)
N = 400
MAGNITUDE = RNG.uniform(18, 22, N)
TRUTH = RNG.choice(["star", "galaxy", "quasar"], N, p=[0.6, 0.3, 0.1])
GUESS = np.where(RNG.random(N) < 0.2, "star", TRUTH)
PLANE = RNG.normal(size=(N, 2))
STAMPS, _, _ = make_stamps(N)
PROBABILITIES = RNG.dirichlet([1, 1, 1], N)
DIFFERENCES = pd.DataFrame(
    {
        "setting": ["colours", "colours", "sizes", "sizes"],
        "n_labels": [30, 100, 30, 100],
        "mean": [-0.02, -0.01, -0.1, -0.08],
        "low": [-0.05, -0.02, -0.14, np.nan],
        "high": [0.01, 0.0, -0.06, np.nan],
    }
)


def lie_inside(figure):
    """Whether everything that is drawn, above all text, lies within the figure."""
    figure.draw_without_rendering()
    drawn, edge = figure.get_tightbbox(), figure.bbox_inches.padded(0.01)
    return edge.contains(*drawn.min) and edge.contains(*drawn.max)
