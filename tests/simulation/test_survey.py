"""Simulated surveys."""

import numpy as np
import pandas as pd
import pytest
from sklearn.ensemble import RandomForestClassifier
from sklearn.model_selection import cross_val_score

from skastro.simulation import survey as simulation
from skastro.simulation.survey import make_survey
from skastro.simulation.telescope import _DEPTH
from skastro.utils.progress import reporting
from skastro.utils.validation import check_labels

pytest.importorskip("galsim", reason="make_survey simulates with GalSim: the extra 'sim'")

N_OBJECTS = 160


@pytest.fixture(scope="module")
def survey():
    return make_survey(N_OBJECTS, random_state=3, cache=False)


def columns(frame, name, bands="ugrizy"):
    return frame[[f"{name}_{band}" for band in bands]].to_numpy()


def assert_same_survey(one, other):
    np.testing.assert_array_equal(one.images, other.images)
    pd.testing.assert_frame_equal(one.catalog, other.catalog)
    pd.testing.assert_frame_equal(one.truth, other.truth)


def test_survey_has_one_row_for_each_stamp(survey):
    assert survey.images.shape == (N_OBJECTS, 6, 32, 32)
    assert survey.images.dtype == np.float32
    assert np.isfinite(survey.images).all()
    assert len(survey.catalog) == len(survey.truth) == len(survey.target) == N_OBJECTS
    assert survey.catalog["id"].dtype == np.int64
    assert survey.catalog["id"].is_unique
    assert set(survey.target) == set(survey.target_names) == {"star", "galaxy", "quasar"}
    assert survey.bands == tuple("ugrizy")
    assert (survey.pixel_scale, survey.zero_point) == (0.3, 22.5)


def test_survey_covers_the_southern_sky_in_pointings(survey):
    catalog = survey.catalog
    assert catalog["ra"].between(0, 360).all()
    assert catalog["dec"].between(-64, 4).all()
    assert catalog["ebv"].between(0, 0.5).all()
    for _, field in catalog.groupby("field"):
        assert np.ptp(field["dec"]) < 3.6


def test_apertures_hold_the_catalogue_fluxes(survey):
    # Stars alone on their stamps: the aperture misses the wings of the seeing and nothing else.
    truth, catalog = survey.truth, survey.catalog
    alone = (survey.target == "star") & (truth["n_neighbours"] == 0) & (catalog["mag_i"] < 20.5)
    assert alone.sum() >= 4
    y, x = np.mgrid[:32, :32] - 15.5
    aperture = np.hypot(x, y) * survey.pixel_scale < 3.0
    for band in "griz":
        pixels = survey.images[alone.to_numpy(), survey.bands.index(band)]
        flux = pixels[:, aperture].sum(axis=1)
        expected = 10 ** (0.4 * (survey.zero_point - catalog.loc[alone, f"mag_{band}"]))
        ratio = flux / expected
        assert 0.95 < np.average(ratio, weights=expected) < 1.01, band
        bright = (catalog.loc[alone, f"mag_{band}"] < 19.5).to_numpy()
        assert (np.abs(ratio[bright] - 0.98) < 0.05).all(), band


def test_empty_corners_have_the_sky_noise_of_the_truth(survey):
    faint = ((survey.truth["mag_i"] > 21) & (survey.truth["n_neighbours"] == 0)).to_numpy()
    assert faint.sum() > 20
    corners = survey.images[faint][:, :, :6, :6]
    noise = corners / columns(survey.truth, "sky")[faint][:, :, np.newaxis, np.newaxis]
    # The outskirts of some galaxies reach the corner: take the median of the stamps.
    np.testing.assert_allclose(np.median(noise.std(axis=(2, 3)), axis=0), 1, atol=0.1)
    np.testing.assert_allclose(np.median(noise.mean(axis=(2, 3)), axis=0), 0, atol=0.15)


def test_single_visit_depth_is_the_magnitude_of_five_sigma(survey):
    points = survey.target != "galaxy"
    for band, depth in zip(survey.bands, _DEPTH, strict=True):
        mag = survey.catalog.loc[points, f"mag_{band}"]
        snr = 2.5 / np.log(10) / survey.catalog.loc[points, f"err_{band}"]
        near = snr.between(4, 8)
        if near.sum() >= 3:
            at_five_sigma = (mag + 2.5 * np.log10(snr / 5))[near]
            assert at_five_sigma.median() == pytest.approx(depth, abs=0.35), band


def test_magnitudes_scatter_around_the_truth_by_their_errors(survey):
    # In flux, where the noise is symmetric, and well detected, where the cut does not bite.
    truth = 10 ** (-0.4 * columns(survey.truth, "mag"))
    seen = 10 ** (-0.4 * columns(survey.catalog, "mag"))
    error = seen * columns(survey.catalog, "err") * np.log(10) / 2.5
    pulls = ((seen - truth) / error)[columns(survey.catalog, "err") < 0.1]
    assert pulls.size > 300
    assert abs(pulls.mean()) < 0.2
    assert pulls.std() == pytest.approx(1, abs=0.15)


def test_errors_grow_to_the_faint_end(survey):
    for band in "griz":
        rows = survey.catalog[[f"mag_{band}", f"err_{band}"]].dropna()
        rank = rows.corr("spearman").to_numpy()[0, 1]
        assert rank > 0.8, band
        assert rows[f"err_{band}"].min() > 0.004


def test_non_detections_are_nan_in_magnitude_and_error(survey):
    mags, errors = columns(survey.catalog, "mag"), columns(survey.catalog, "err")
    np.testing.assert_array_equal(np.isnan(mags), np.isnan(errors))
    assert np.isnan(mags[:, 0]).mean() > 0.2
    assert np.nanmax(errors) < 1.09 / 3 + 0.01
    # What is missing is faint: two magnitudes below the depth nothing is left.
    assert np.isnan(mags[columns(survey.truth, "mag") > _DEPTH + 2]).all()


def test_galaxies_are_wider_than_stars(survey):
    size = survey.catalog.groupby(survey.target)["size"]
    assert size.median()["galaxy"] > 1.4 * size.median()["star"]
    assert size.median()["quasar"] == pytest.approx(size.median()["star"], rel=0.2)
    # The pixels say so too: the share of a bright source's light in the inner arcsecond.
    y, x = np.mgrid[:32, :32] - 15.5
    radius = np.hypot(x, y) * survey.pixel_scale
    bright = (survey.catalog["mag_i"] < 21).to_numpy()
    i_band = survey.images[:, survey.bands.index("i")]
    inner = i_band[:, radius < 0.9].sum(axis=1) / i_band[:, radius < 2.7].sum(axis=1)
    stars, galaxies = (np.median(inner[bright & (survey.target == k)]) for k in ("star", "galaxy"))
    assert stars > galaxies + 0.15


def test_quasars_are_bluer_in_the_ultraviolet_than_stars(survey):
    truth = survey.truth
    u_g = truth["mag_u"] - truth["mag_g"]
    low = (survey.target == "quasar") & (survey.catalog["redshift"] < 2.2)
    assert u_g[low].median() < u_g[survey.target == "star"].median() - 0.5


def test_galaxies_redden_with_redshift(survey):
    rows = survey.target == "galaxy"
    g_i = (survey.truth["mag_g"] - survey.truth["mag_i"])[rows]
    z = survey.catalog["redshift"][rows]
    assert g_i[z.between(0.4, 0.8)].median() > g_i[z < 0.2].median() + 0.3


def test_only_stars_have_no_redshift(survey):
    missing = survey.catalog["redshift"].isna().to_numpy()
    np.testing.assert_array_equal(missing, survey.target == "star")


def test_same_seed_gives_the_same_survey_with_any_number_of_jobs():
    one = make_survey(60, bands="ri", image_size=16, random_state=5, cache=False)
    two = make_survey(60, bands="ri", image_size=16, random_state=5, cache=False, n_jobs=2)
    assert_same_survey(one, two)


def test_other_seeds_give_other_surveys():
    settings = {"bands": "r", "image_size": 8, "cache": False}
    first, second = (make_survey(2, random_state=seed, **settings) for seed in (0, 1))
    assert not np.array_equal(first.images, second.images)
    unseeded = [make_survey(2, random_state=None, **settings).images for _ in range(2)]
    assert not np.array_equal(*unseeded)


def test_bands_choose_among_the_same_stamps():
    both = make_survey(4, bands="gi", image_size=16, cache=False)
    one = make_survey(4, bands=["i"], image_size=16, cache=False)
    assert one.bands == ("i",)
    assert make_survey(4, bands="I", image_size=16, cache=False).images.bands == ("i",)
    np.testing.assert_array_equal(one.images[:, 0], both.images[:, 1])
    np.testing.assert_array_equal(one.catalog["mag_i"], both.catalog["mag_i"])


def test_global_generator_is_left_alone():
    np.random.seed(0)  # noqa: NPY002 - the global generator is the point
    before = np.random.get_state()[1].copy()  # noqa: NPY002
    make_survey(2, bands="r", image_size=8, cache=False)
    np.testing.assert_array_equal(np.random.get_state()[1], before)  # noqa: NPY002


def test_only_galaxies_have_a_morphology_and_merge(survey):
    catalog, galaxy = survey.catalog, survey.target == "galaxy"
    assert (catalog["morphology"][~galaxy] == "").all()
    assert not catalog["merging"][~galaxy].any()
    assert catalog["merging"].dtype == bool
    shares = catalog["morphology"][galaxy].value_counts(normalize=True)
    assert set(shares.index) == {"elliptical", "lenticular", "spiral", "irregular"}
    assert shares.idxmax() == "spiral"
    assert 0.03 < catalog["merging"][galaxy].mean() < 0.25


def test_classifiers_treat_objects_without_a_morphology_as_unlabelled(survey):
    classes, codes = check_labels(survey.catalog["morphology"])
    assert classes.tolist() == ["elliptical", "irregular", "lenticular", "spiral"]
    np.testing.assert_array_equal(codes == -1, survey.target != "galaxy")


def test_faintest_object_is_as_asked():
    survey = make_survey(20, bands="i", image_size=8, faintest=19.0, cache=False)
    assert survey.truth["mag_i"].between(17.5, 19.0).all()


def test_magnitudes_alone_do_not_give_the_classes_away():
    survey = make_survey(400, image_size=16, cache=False)
    mags = survey.catalog.filter(like="mag_").fillna(30)
    forest = RandomForestClassifier(100, class_weight="balanced", random_state=0)
    accuracy = cross_val_score(forest, mags, survey.target, scoring="balanced_accuracy", cv=3)
    assert 0.6 < accuracy.mean() < 0.97


def test_progress_counts_objects():
    calls, reports = [], []
    with reporting(lambda *report: reports.append(report)):
        make_survey(30, bands="r", image_size=8, cache=False, progress=lambda *n: calls.append(n))
    assert calls == [(25, 30), (30, 30)]
    assert reports == [("simulating", done, 30) for done in (25, 30)]


def test_second_call_comes_from_the_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("SKASTRO_CACHE", str(tmp_path / "cache"))
    first = make_survey(3, bands="gr", image_size=8)

    def refuse(*args):
        raise AssertionError(f"simulated again: {args}")

    monkeypatch.setattr(simulation, "simulate_chunk", refuse)
    assert_same_survey(make_survey(3, bands="gr", image_size=8, n_jobs=1, verbose=0), first)
    with pytest.raises(AssertionError, match="simulated again"):
        make_survey(3, bands="gr", image_size=8, random_state=1)
    with pytest.raises(AssertionError, match="simulated again"):
        make_survey(3, bands="gr", image_size=8, cache=False)
    with pytest.raises(AssertionError, match="simulated again"):
        make_survey(3, bands="gr", image_size=8, cache=tmp_path / "elsewhere")


def test_interrupted_simulation_is_not_cached(tmp_path, monkeypatch):
    def interrupt(*args):
        raise KeyboardInterrupt(*args)

    with monkeypatch.context() as patch:
        patch.setattr(simulation, "simulate_chunk", interrupt)
        with pytest.raises(KeyboardInterrupt):
            make_survey(2, bands="r", image_size=8, cache=tmp_path)
    assert not list(tmp_path.rglob("output.pkl"))
    assert make_survey(2, bands="r", image_size=8, cache=tmp_path).images.shape == (2, 1, 8, 8)


def test_survey_without_a_seed_or_a_cache_writes_nothing(tmp_path, monkeypatch):
    monkeypatch.setenv("SKASTRO_CACHE", str(tmp_path))
    make_survey(1, bands="r", image_size=8, random_state=None)
    make_survey(1, bands="r", image_size=8, cache=False)
    assert not list(tmp_path.iterdir())


def test_cache_that_cannot_be_written_is_a_warning(tmp_path):
    file = tmp_path / "file"
    file.touch()
    with pytest.warns(UserWarning, match="pass cache=False"):
        survey = make_survey(1, bands="r", image_size=8, cache=file)
    assert survey.images.shape == (1, 1, 8, 8)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"n_objects": 0}, "n_objects must be a whole number of at least 1, got 0"),
        ({"n_objects": 2.5}, "n_objects must be a whole number"),
        ({"image_size": 7}, "image_size must be a whole number of at least 8, got 7"),
        ({"bands": "ugx"}, "bands must be different letters out of 'ugrizy', got 'ugx'"),
        ({"bands": "gg"}, "bands must be different letters"),
        ({"bands": ""}, "bands must be different letters"),
        ({"faintest": 17.5}, r"faintest must be an i magnitude above 17\.5 and up to 25"),
        ({"faintest": 26}, "faintest must be an i magnitude .* got 26"),
        ({"faintest": "20"}, "faintest must be an i magnitude"),
    ],
)
def test_arguments_out_of_range_are_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        make_survey(**arguments)
