"""Simulated surveys and data folders."""

import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from astropy.table import MaskedColumn, Table

from skastro import datasets, simulation
from skastro.datasets import load_folder, make_survey

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
    # The outskirts of a galaxy reach the corner here and there: the median of the stamps.
    np.testing.assert_allclose(np.median(noise.std(axis=(2, 3)), axis=0), 1, atol=0.1)
    np.testing.assert_allclose(np.median(noise.mean(axis=(2, 3)), axis=0), 0, atol=0.15)


def test_single_visit_depth_is_the_magnitude_of_five_sigma(survey):
    points = survey.target != "galaxy"
    for band, depth in zip(survey.bands, simulation._DEPTH, strict=True):
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
    assert np.isnan(mags[columns(survey.truth, "mag") > simulation._DEPTH + 2]).all()


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


def test_same_seed_gives_the_same_survey_whatever_the_jobs():
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
    np.testing.assert_array_equal(one.images[:, 0], both.images[:, 1])
    np.testing.assert_array_equal(one.catalog["mag_i"], both.catalog["mag_i"])


def test_global_generator_is_left_alone():
    np.random.seed(0)  # noqa: NPY002 - the global generator is the point
    before = np.random.get_state()[1].copy()  # noqa: NPY002
    make_survey(2, bands="r", image_size=8, cache=False)
    np.testing.assert_array_equal(np.random.get_state()[1], before)  # noqa: NPY002


def test_second_call_comes_from_the_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("SKASTRO_CACHE", str(tmp_path / "kept"))
    first = make_survey(3, bands="gr", image_size=8)

    def refuse(*args):
        raise AssertionError(f"simulated again: {args}")

    monkeypatch.setattr(datasets, "simulate_chunk", refuse)
    assert_same_survey(make_survey(3, bands="gr", image_size=8, n_jobs=1, verbose=0), first)
    with pytest.raises(AssertionError, match="simulated again"):
        make_survey(3, bands="gr", image_size=8, random_state=1)
    with pytest.raises(AssertionError, match="simulated again"):
        make_survey(3, bands="gr", image_size=8, cache=False)
    with pytest.raises(AssertionError, match="simulated again"):
        make_survey(3, bands="gr", image_size=8, cache=tmp_path / "elsewhere")


def test_interrupted_simulation_leaves_nothing_to_answer_with(tmp_path, monkeypatch):
    def interrupt(*args):
        raise KeyboardInterrupt(*args)

    with monkeypatch.context() as patch:
        patch.setattr(datasets, "simulate_chunk", interrupt)
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
    ],
)
def test_arguments_out_of_range_are_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        make_survey(**arguments)


# Data folders

LONG_ID = 1237648720693755918  # 19 digits: a float would end in ...904


def table_of(n_rows=3):
    return pd.DataFrame(
        {
            "id": [LONG_ID + row for row in range(n_rows)],
            "spec_id": np.arange(n_rows),
            "mag_r": np.linspace(18, 20, n_rows),
            "class": [("star", "galaxy")[row % 2] for row in range(n_rows)],
        }
    )


def write_catalog(frame, file):
    if file.suffix == ".csv":
        frame.to_csv(file, index=False)
    elif file.suffix == ".parquet":
        frame.to_parquet(file)
    else:
        Table.from_pandas(frame).write(file)


@pytest.fixture
def folder(tmp_path):
    np.save(tmp_path / "stamps.npy", np.arange(3 * 2 * 8 * 8, dtype=np.float32).reshape(3, 2, 8, 8))
    return tmp_path


@pytest.mark.parametrize("suffix", ["csv", "ecsv", "fits", "parquet"])
def test_folder_round_trip(folder, suffix):
    if suffix == "parquet":
        pytest.importorskip("pyarrow", reason="pandas reads Parquet with pyarrow")
    frame = table_of()
    write_catalog(frame, folder / f"catalog.{suffix}")
    data = load_folder(folder, label="class")
    assert isinstance(data.images, np.memmap)
    np.testing.assert_array_equal(data.images, np.load(folder / "stamps.npy"))
    assert data.catalog["id"].tolist() == [str(number) for number in frame["id"]]
    assert data.catalog["spec_id"].dtype == np.int64
    assert data.catalog["spec_id"].tolist() == [0, 1, 2]
    np.testing.assert_allclose(data.catalog["mag_r"], frame["mag_r"])
    assert data.catalog["mag_r"].dtype == np.dtype("=f8")
    assert list(data.target) == ["star", "galaxy", "star"]
    assert data.target_names == ["galaxy", "star"]
    assert data.path == folder


def test_folder_without_a_label_has_no_target(folder):
    write_catalog(table_of(), folder / "catalog.csv")
    assert "target" not in load_folder(folder)


def test_missing_labels_are_kept_out_of_the_names(folder):
    write_catalog(table_of().assign(**{"class": ["star", None, "star"]}), folder / "catalog.csv")
    data = load_folder(folder, label="class")
    assert data.target_names == ["star"]
    assert pd.isna(data.target).tolist() == [False, True, False]


def test_ids_keep_leading_zeros_and_gaps(folder):
    frame = table_of()
    frame["id"] = ["007", "8", "9"]
    frame["spec_id"] = [str(LONG_ID), None, "3"]
    write_catalog(frame, folder / "catalog.csv")
    catalog = load_folder(folder).catalog
    assert catalog["id"].tolist() == ["007", "8", "9"]
    assert catalog["spec_id"].isna().tolist() == [False, True, False]
    assert catalog["spec_id"][0] == str(LONG_ID)


@pytest.mark.parametrize("suffix", ["ecsv", "fits"])
def test_masked_values_become_nan(folder, suffix):
    masked = [False, True, False]
    table = Table(
        {
            "objID": MaskedColumn([LONG_ID, 0, 7], mask=masked),
            "flag": MaskedColumn([1, 2, 3], mask=masked),
            "mag_r": MaskedColumn([18.0, 19.0, -9999.0], mask=masked),
        }
    )
    table.write(folder / f"catalog.{suffix}")
    catalog = load_folder(folder).catalog
    assert catalog["flag"].dtype == np.float64
    np.testing.assert_array_equal(catalog["flag"], [1, np.nan, 3])
    # Sentinels are the encoder's to find.
    np.testing.assert_array_equal(catalog["mag_r"], [18, np.nan, -9999])
    assert catalog["objID"][0] == str(LONG_ID)
    assert catalog["objID"].isna().tolist() == masked


def test_float_ids_are_refused(folder):
    Table({"objid": np.array([1.2e18, 2.0, 3.0])}).write(folder / "catalog.fits")
    with pytest.raises(ValueError, match=r"'objid' of .* is float.*save it as integers or text"):
        load_folder(folder)


def test_columns_of_arrays_are_refused(folder):
    Table({"id": [1, 2, 3], "flux": np.ones((3, 5))}).write(folder / "catalog.fits")
    with pytest.raises(ValueError, match="arrays in the columns flux"):
        load_folder(folder)


def test_unequal_rows_name_both_counts_and_files(folder):
    write_catalog(table_of(4), folder / "catalog.csv")
    with pytest.raises(ValueError, match=r"catalog\.csv has 4 rows .*stamps\.npy has 3 stamps"):
        load_folder(folder)


def test_unknown_label_names_the_columns(folder):
    write_catalog(table_of(), folder / "catalog.csv")
    with pytest.raises(ValueError, match=r"label='klass' is not a column.*mag_r, class"):
        load_folder(folder, label="klass")


def test_stamps_of_three_dimensions_are_refused(folder):
    write_catalog(table_of(), folder / "catalog.csv")
    np.save(folder / "stamps.npy", np.zeros((3, 8, 8)))
    with pytest.raises(
        ValueError, match=r"\(3, 8, 8\): save stamps as \(n, bands, height, width\)"
    ):
        load_folder(folder)


def test_incomplete_folders_say_what_belongs_in_them(folder):
    with pytest.raises(FileNotFoundError, match=r"is not a folder.*catalog\.csv, \.fits"):
        load_folder(folder / "nowhere")
    with pytest.raises(FileNotFoundError, match=r"has no catalogue: a data folder holds"):
        load_folder(folder)
    write_catalog(table_of(), folder / "catalog.csv")
    (folder / "stamps.npy").unlink()
    with pytest.raises(FileNotFoundError, match=r"has no stamps\.npy: a data folder holds"):
        load_folder(folder)


def test_two_catalogues_are_refused(folder):
    write_catalog(table_of(), folder / "catalog.csv")
    write_catalog(table_of(), folder / "catalog.fits")
    with pytest.raises(ValueError, match=r"catalog\.csv and catalog\.fits: keep one"):
        load_folder(folder)


def real_folder(name):
    beside = Path(__file__).resolve().parents[1].parent / "shared" / "data"
    folder = Path(os.environ.get("SKASTRO_DATA", beside)) / name
    if not folder.is_dir():
        pytest.skip(f"the real data folder {folder} is not here: set SKASTRO_DATA")
    return folder


def test_sdss_folder_keeps_its_ids():
    data = load_folder(real_folder("sdss"), label="class")
    assert data.images.shape == (3066, 5, 32, 32)
    assert data.images.dtype == np.float16
    assert data.catalog["id"].map(len).max() >= 19
    assert data.catalog["id"].is_unique
    assert {"extended", "unknown"} <= set(data.target_names)


def test_efigi_folder_reads_colour_images():
    data = load_folder(real_folder("efigi"), label="class")
    assert data.images.shape == (3113, 3, 88, 88)
    assert data.images.dtype == np.uint8
    assert data.catalog["sdss_objid"].dropna().map(type).eq(str).all()
    assert data.catalog["redshift"].isna().any()
