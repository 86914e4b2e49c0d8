"""The objects of the simulated sky, drawn without an image."""

import numpy as np
import pytest

from skastro.simulation import sky

pytest.importorskip("galsim", reason="the simulation needs GalSim: the extra 'sim'")


def test_flat_spectra_have_no_colour():
    # In AB magnitudes a flat f_nu is a flux of one in every band.
    waves, weights = sky._bandpasses()
    np.testing.assert_allclose(weights @ waves**-2.0, 1)


def test_cooler_bodies_are_redder():
    hot, cool = sky._blackbody_fluxes(20_000), sky._blackbody_fluxes(5_000)
    assert hot[0] / hot[1] > cool[0] / cool[1]


def test_distant_quasars_lose_their_light_below_the_lyman_limit():
    near, far = (sky._quasar_fluxes(z, -0.45, np.ones(6)) for z in (1, 4.5))
    assert near[0] > 0.3
    assert far[0] < 0.02


@pytest.fixture(scope="module")
def population():
    rng = np.random.default_rng(0)
    return [sky.draw_object(1, (17.5, 22.8), 0.02, rng) for _ in range(1500)]


def test_shares_of_shapes_and_mergers(population):
    shapes = np.array([galaxy.morphology for galaxy in population])
    for shape, share in zip(sky.MORPHOLOGIES, sky._MORPHOLOGY_FRACTIONS, strict=True):
        assert np.mean(shapes == shape) == pytest.approx(share, abs=0.04), shape
    merging = [galaxy.merging for galaxy in population]
    assert np.mean(merging) == pytest.approx(sky._MERGING_FRACTION, abs=0.03)


def test_light_of_every_shape_is_within_the_limits(population):
    mags = np.array([22.5 - 2.5 * np.log10(sum(p.flux[3] for p in s.parts)) for s in population])
    assert 17.5 <= mags.min() < 19.5
    assert 22.7 < mags.max() <= 22.8 + 1e-9
    merging = np.array([galaxy.merging for galaxy in population])
    assert np.median(mags[merging]) == pytest.approx(np.median(mags[~merging]), abs=0.3)


def test_colours_run_from_ellipticals_to_irregulars(population):
    colours = {}
    for shape in sky.MORPHOLOGIES:
        totals = [
            np.sum([part.flux for part in galaxy.parts], axis=0)
            for galaxy in population
            if galaxy.morphology == shape and galaxy.redshift < 0.4 and not galaxy.merging
        ]
        colours[shape] = np.median([-2.5 * np.log10(f[1] / f[3]) for f in totals])
    assert colours["elliptical"] > colours["spiral"] + 0.3
    assert colours["lenticular"] > colours["spiral"] + 0.3
    assert colours["spiral"] > colours["irregular"] + 0.1


def test_companions_overlap_and_have_a_quarter_of_the_light_or_more(population):
    for merger in (galaxy for galaxy in population if galaxy.merging):
        *galaxies, tidal = merger.parts
        companion = [part for part in galaxies if part.offset != (0.0, 0.0)]
        main = [part for part in galaxies if part.offset == (0.0, 0.0)]
        ratio = sum(p.flux[3] for p in companion) / sum(p.flux[3] for p in main)
        assert 0.249 < ratio < 1.001
        total = sum(part.flux[3] for part in merger.parts)
        assert 0.14 < tidal.flux[3] / total < 0.31
        assert tidal.knots[:, 3].sum() == pytest.approx(1)


def test_only_galaxies_have_a_shape():
    rng = np.random.default_rng(0)
    for kind in (0, 2):
        drawn = sky.draw_object(kind, (17.5, 22.8), 0.0, rng)
        assert (drawn.morphology, drawn.merging) == ("", False)
