"""The physics behind the simulated survey."""

import numpy as np
import pytest

from skastro import simulation
from skastro.simulation import plan_survey, simulate_chunk

pytest.importorskip("galsim", reason="the simulation draws with GalSim: the extra 'sim'")


def test_blackbody_has_the_colour_of_planck():
    # A flat f_nu has no colour in AB magnitudes; a cooler body is redder.
    waves, weights = simulation._bandpasses()
    np.testing.assert_allclose(weights @ waves**-2.0, 1)
    hot, cool = (simulation._fluxes(simulation._blackbody(t)) for t in (20_000, 5_000))
    assert hot[0] / hot[1] > cool[0] / cool[1]


def test_distant_quasars_lose_their_light_below_the_lyman_limit():
    strengths = np.ones(6)
    near, far = (
        simulation._fluxes(simulation._quasar_spectrum(z, -0.45, strengths)) for z in (1, 4.5)
    )
    assert near[0] > 0.3
    assert far[0] < 0.02


def test_objects_do_not_depend_on_the_others_of_their_chunk():
    survey = plan_survey(6, "ri", 8, seed=1)
    stamps, measured, true = simulate_chunk(survey, range(6))
    alone, (row,), (truth,) = simulate_chunk(survey, range(4, 5))
    np.testing.assert_array_equal(stamps[4:5], alone)
    assert measured[4]["id"] == row["id"]
    assert true[4] == truth
