"""Stamps of the simulated sky."""

import numpy as np
import pytest
from scipy import ndimage

from skastro.simulation import telescope
from skastro.simulation.sky import MORPHOLOGIES
from skastro.simulation.telescope import plan_survey, simulate_chunk

pytest.importorskip("galsim", reason="the simulation needs GalSim: the extra 'sim'")


def test_objects_do_not_depend_on_the_others_of_their_chunk():
    plan = plan_survey(6, "ri", 8, seed=1)
    stamps, measured, true = simulate_chunk(plan, range(6))
    alone, (row,), (truth,) = simulate_chunk(plan, range(4, 5))
    np.testing.assert_array_equal(stamps[4:5], alone)
    assert measured[4]["id"] == row["id"]
    assert true[4] == truth


def test_shapes_do_not_depend_on_the_bands_or_the_size_of_the_stamps():
    small, large = plan_survey(12, "i", 16, seed=4), plan_survey(12, "gri", 40, seed=4)
    _, one, _ = simulate_chunk(small, range(12))
    _, other, _ = simulate_chunk(large, range(12))
    for name in ("id", "morphology", "merging", "ra", "redshift"):
        # as text, where nan equals nan
        assert [str(row[name]) for row in one] == [str(row[name]) for row in other]


def test_no_object_is_fainter_than_asked():
    plan = plan_survey(30, "i", 8, seed=0, faintest=18.5)
    for row in range(30):
        parts = telescope._draw_scene(plan, row).target.parts
        assert 22.5 - 2.5 * np.log10(sum(part.flux[3] for part in parts)) <= 18.5 + 1e-9


@pytest.fixture(scope="module")
def galaxies():
    """Return r stamps of 64 pixels, their kinds, and the sky noise of each."""
    plan = plan_survey(330, "r", 64, seed=3, faintest=19.0)
    rows = np.flatnonzero(plan.kinds == 1)
    results = [simulate_chunk(plan, range(row, row + 1)) for row in rows]
    kinds = ["merging" if row["merging"] else row["morphology"] for _, (row,), _ in results]
    sky = np.array([true["sky_r"] for _, _, (true,) in results])
    return np.concatenate([stamps for stamps, _, _ in results])[:, 0], np.array(kinds), sky


def rings(image):
    """Radius by radius, the sum of the pixels and its second harmonic about the middle."""
    y, x = np.mgrid[:64, :64] - 31.5
    radius, angle = np.hypot(x, y), np.arctan2(y, x)
    inside = [(radius >= r) & (radius < r + 1) for r in range(2, 14)]
    waves = [np.sum(image[ring] * np.exp(-2j * angle[ring])) for ring in inside]
    return np.array(waves), sum(image[ring].sum() for ring in inside)


def winding(image):
    """Return the share of light in the second harmonic that turns with the radius."""
    waves, light = rings(image)
    axis = waves.sum() / abs(waves.sum())  # an inclined disc has but one direction
    return np.abs((waves * axis.conj()).imag).sum() / light


def test_arms_wind_in_spirals_alone(galaxies):
    images, kinds, _ = galaxies
    power = {k: [np.abs(rings(i)[0]).sum() / rings(i)[1] for i in images[kinds == k]] for k in
             ("spiral", "lenticular")}  # fmt: skip
    assert np.median(power["spiral"]) > 1.5 * np.median(power["lenticular"])
    turn = {k: [winding(image) for image in images[kinds == k]] for k in MORPHOLOGIES}
    assert np.quantile(turn["spiral"], 0.3) > np.quantile(turn["lenticular"], 0.9)
    assert np.quantile(turn["spiral"], 0.3) > np.quantile(turn["elliptical"], 0.9)


def count_peaks(image, noise):
    smooth = ndimage.gaussian_filter(image, 1.0)
    noise = noise / (2 * np.sqrt(np.pi))  # of the sum over the Gaussian
    peak = (smooth == ndimage.maximum_filter(smooth, size=5)) & (smooth > 8 * noise)
    y, x = np.mgrid[:64, :64] - 31.5
    return np.sum(peak & (np.hypot(x, y) < 20))


def test_most_mergers_have_two_peaks(galaxies):
    images, kinds, sky = galaxies
    peaks = np.array([count_peaks(image, noise) for image, noise in zip(images, sky, strict=True)])
    merging, smooth = kinds == "merging", np.isin(kinds, ["elliptical", "lenticular"])
    assert merging.sum() >= 10
    assert np.mean(peaks[merging] >= 2) > 0.6
    assert np.mean(peaks[smooth] >= 2) < 0.4


def test_irregulars_are_lopsided(galaxies):
    images, kinds, _ = galaxies
    inner = images[:, 16:48, 16:48]
    turned = np.abs(inner - inner[:, ::-1, ::-1]).sum((1, 2)) / np.abs(inner).sum((1, 2))
    medians = {kind: np.median(turned[kinds == kind]) for kind in MORPHOLOGIES}
    assert medians["irregular"] > 1.3 * medians["elliptical"]
    assert medians["irregular"] > 1.3 * medians["lenticular"]
