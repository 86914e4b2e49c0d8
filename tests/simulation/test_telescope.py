"""The physics behind the simulated survey."""

import numpy as np
import pytest
from scipy import ndimage

from skastro.simulation.profiles import Component, blur, expose, make_canvas, transform
from skastro.simulation.sky import MORPHOLOGIES
from skastro.simulation.telescope import plan_survey, simulate_chunk, spectra
from skastro.simulation.telescope import sky as sources
from skastro.simulation.telescope import telescope as simulation

galsim = pytest.importorskip("galsim", reason="the simulation needs GalSim: the extra 'sim'")


def test_flat_spectra_have_no_colour():
    # In AB magnitudes a flat f_nu is a flux of one in every band.
    waves, weights = spectra._bandpasses()
    np.testing.assert_allclose(weights @ waves**-2.0, 1)


def test_cooler_bodies_are_redder():
    hot, cool = spectra.blackbody_fluxes(20_000), spectra.blackbody_fluxes(5_000)
    assert hot[0] / hot[1] > cool[0] / cool[1]


def test_distant_quasars_lose_their_light_below_the_lyman_limit():
    near, far = (spectra.quasar_fluxes(z, -0.45, np.ones(6)) for z in (1, 4.5))
    assert near[0] > 0.3
    assert far[0] < 0.02


# Drawing: GalSim at its best is the reference

KNOTS = np.array([[0.5, -1.0, 0.2, 0.6], [-1.2, 0.3, 0.4, 0.4]])
PARTS = {
    "point": [Component(1.0)],
    "inclined disc": [Component(1.0, 1.0, 1.0, 0.3, 30.0)],
    "elliptical": [Component(1.0, 1.5, 4.0, 0.6, 100.0)],
    "neighbour": [Component(1.0, 0.4, 2.5, 0.6, 160.0, (3.0, -2.0))],
    "knots": [Component(1.0, knots=KNOTS, offset=(0.4, 0.2))],
    "bulge and disc": [Component(0.3, 0.4, 3.0), Component(0.7, 1.2, 1.0, 0.5, 75.0)],
}


def draw_with_galsim(parts, size, centre, fwhm, shear):
    exact = galsim.GSParams(folding_threshold=1e-4, maxk_threshold=1e-5, kvalue_accuracy=1e-6)
    profiles = []
    for part in parts:
        if part.knots is not None:
            gaussians = [galsim.Gaussian(sigma=s, flux=f).shift(x, y) for x, y, s, f in part.knots]
            profile = galsim.Add(gaussians)
        elif part.radius:
            profile = galsim.Sersic(part.index, part.radius, trunc=8 * part.radius)
            profile = profile.shear(q=part.axis_ratio, beta=part.angle * galsim.degrees)
        else:
            profile = galsim.DeltaFunction()
        profiles.append((profile * part.flux).shift(*part.offset))
    psf = galsim.Kolmogorov(fwhm=fwhm, gsparams=exact).shear(g1=shear[0], g2=shear[1])
    scene = galsim.Convolve(galsim.Add(profiles), psf, gsparams=exact)
    image = scene.drawImage(nx=size, ny=size, scale=0.3, offset=tuple(centre), dtype=float)
    return image.array


@pytest.mark.parametrize("size", [24, 25])
@pytest.mark.parametrize("name", PARTS)
def test_drawing_agrees_with_galsim(name, size):
    parts, centre, shear = PARTS[name], np.array([0.3, -0.45]), (0.02, -0.03)
    canvas = make_canvas(parts, size, centre)
    planes = [transform(part, canvas) for part in parts]
    pixels = expose(planes, [part.flux for part in parts], blur(0.7, shear, canvas), canvas)
    expected = draw_with_galsim(parts, size, centre, 0.7, shear)
    np.testing.assert_allclose(pixels, expected, rtol=0, atol=3e-4 * expected.max())


# Objects


def test_objects_do_not_depend_on_the_others_of_their_chunk():
    survey = plan_survey(6, "ri", 8, seed=1)
    stamps, measured, true = simulate_chunk(survey, range(6))
    alone, (row,), (truth,) = simulate_chunk(survey, range(4, 5))
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


# Galaxies bright enough to see what they are


@pytest.fixture(scope="module")
def galaxies():
    """Return r stamps of 64 pixels, their kinds, and the sky noise of each."""
    survey = plan_survey(330, "r", 64, seed=3, faintest=19.0)
    rows = np.flatnonzero(survey.kinds == 1)
    results = [simulate_chunk(survey, range(row, row + 1)) for row in rows]
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
    peaks = np.array([count_peaks(*each) for each in zip(images, sky, strict=True)])
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


# Populations, drawn without an image


@pytest.fixture(scope="module")
def population():
    rng = np.random.default_rng(0)
    return [sources.draw_source(1, (17.5, 22.8), 0.02, rng) for _ in range(1500)]


def test_shares_of_shapes_and_mergers(population):
    shapes = np.array([source.morphology for source in population])
    for shape, share in zip(MORPHOLOGIES, sources._MORPHOLOGY_FRACTIONS, strict=True):
        assert np.mean(shapes == shape) == pytest.approx(share, abs=0.04), shape
    merging = [source.merging for source in population]
    assert np.mean(merging) == pytest.approx(sources._MERGING_FRACTION, abs=0.03)


def test_light_is_within_the_limits_whatever_the_shape(population):
    mags = np.array([22.5 - 2.5 * np.log10(sum(p.flux[3] for p in s.parts)) for s in population])
    assert 17.5 <= mags.min() < 19.5
    assert 22.7 < mags.max() <= 22.8 + 1e-9
    merging = np.array([source.merging for source in population])
    assert np.median(mags[merging]) == pytest.approx(np.median(mags[~merging]), abs=0.3)


def test_colours_run_from_ellipticals_to_irregulars(population):
    colours = {}
    for shape in MORPHOLOGIES:
        totals = [
            np.sum([part.flux for part in source.parts], axis=0)
            for source in population
            if source.morphology == shape and source.redshift < 0.4 and not source.merging
        ]
        colours[shape] = np.median([-2.5 * np.log10(f[1] / f[3]) for f in totals])
    assert colours["elliptical"] > colours["spiral"] + 0.3
    assert colours["lenticular"] > colours["spiral"] + 0.3
    assert colours["spiral"] > colours["irregular"] + 0.1


def test_companions_overlap_and_have_a_quarter_of_the_light_or_more(population):
    for source in (each for each in population if each.merging):
        *galaxies, tidal = source.parts
        there = [part for part in galaxies if part.offset != (0.0, 0.0)]
        here = [part for part in galaxies if part.offset == (0.0, 0.0)]
        ratio = sum(p.flux[3] for p in there) / sum(p.flux[3] for p in here)
        assert 0.249 < ratio < 1.001
        total = sum(part.flux[3] for part in source.parts)
        assert 0.14 < tidal.flux[3] / total < 0.31
        assert tidal.knots[:, 3].sum() == pytest.approx(1)


def test_only_galaxies_have_a_shape():
    rng = np.random.default_rng(0)
    for kind in (0, 2):
        source = sources.draw_source(kind, (17.5, 22.8), 0.0, rng)
        assert (source.morphology, source.merging) == ("", False)


def test_no_object_is_fainter_than_asked():
    survey = plan_survey(30, "i", 8, seed=0, faintest=18.5)
    for row in range(30):
        parts = simulation._draw_scene(survey, row).target.parts
        assert 22.5 - 2.5 * np.log10(sum(part.flux[3] for part in parts)) <= 18.5 + 1e-9
