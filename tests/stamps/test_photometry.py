import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings, strategies as st
from hypothesis.extra.numpy import arrays

from skastro.stamps import photometry
from skastro.stamps.photometry import measure_properties

DATA = Path(os.environ.get("SKASTRO_DATA", Path(__file__).parents[3] / "shared" / "data"))
SHAPE_COLUMNS = ["half_light_radius", "concentration", "ellipticity", "asymmetry", "peak_offset"]


def gaussian(side=32, sigma=2.0, axis_ratio=1.0, angle=0.0, dx=0.0, dy=0.0):
    """Unit flux, sampled at the pixel centres; sigma is that of the major axis."""
    y, x = np.mgrid[:side, :side] - (side - 1) / 2
    x, y = x - dx, y - dy
    along = x * np.cos(angle) + y * np.sin(angle)
    across = -x * np.sin(angle) + y * np.cos(angle)
    image = np.exp(-(along**2 + (across / axis_ratio) ** 2) / (2 * sigma**2))
    return image / (2 * np.pi * sigma**2 * axis_ratio)


def exponential_disc(side, scale):
    """Unit flux, averaged over 11 x 11 subpixels because of the cusp."""
    step = (np.arange(11) - 5) / 11
    y, x = np.mgrid[:side, :side] - (side - 1) / 2
    image = np.mean(
        [np.exp(-np.hypot(x + dx, y + dy) / scale) for dx in step for dy in step], axis=0
    )
    return image / (2 * np.pi * scale**2)


def survey(n=40, bands=3, side=24, seed=0, noise=0.02):
    rng = np.random.default_rng(seed)
    flux = rng.uniform(5, 80, size=(n, bands, 1, 1))
    sources = np.stack([gaussian(side, sigma) for sigma in rng.uniform(1.2, 2.5, size=n)])
    return flux * sources[:, None] + rng.normal(scale=noise, size=(n, bands, side, side))


def measure_one(image, **options):
    return measure_properties(np.asarray(image)[None, None], **options).iloc[0]


@pytest.mark.parametrize("flux", [1.0, 37.0, 4000.0])
@pytest.mark.parametrize("side", [31, 32, 50])
def test_the_magnitude_of_a_gaussian_is_that_of_its_flux(flux, side):
    row = measure_one(flux * gaussian(side))
    assert row["mag_band0"] == pytest.approx(22.5 - 2.5 * np.log10(flux), abs=0.02)


def test_magnitude_of_an_exponential_disc_is_that_of_its_flux():
    row = measure_one(250 * exponential_disc(64, scale=2.5))
    assert row["mag_band0"] == pytest.approx(22.5 - 2.5 * np.log10(250), abs=0.02)


def test_core_magnitude_is_that_of_the_light_in_the_core():
    row = measure_one(100 * gaussian(64, sigma=3.0), radii=(3.0, 8.0, 20.0))
    inside = 100 * (1 - np.exp(-0.5))
    assert row["mag_core_band0"] == pytest.approx(22.5 - 2.5 * np.log10(inside), abs=0.02)


def test_the_zero_point_shifts_magnitudes_only():
    low, high = (measure_properties(survey(), zero_point=zero) for zero in (0.0, 30.0))
    magnitudes = [column for column in low if column.startswith("mag_")]
    np.testing.assert_allclose(high[magnitudes] - low[magnitudes], 30.0)
    pd.testing.assert_frame_equal(high.drop(columns=magnitudes), low.drop(columns=magnitudes))


def test_colour_is_the_flux_ratio_of_neighbouring_bands():
    stamps = np.array([10.0, 20.0, 80.0])[:, None, None] * gaussian()
    row = measure_properties(stamps[None], bands="gri").iloc[0]
    assert row["g_r"] == pytest.approx(2.5 * np.log10(2), abs=1e-3)
    assert row["r_i"] == pytest.approx(2.5 * np.log10(4), abs=1e-3)


def test_a_constant_sky_is_measured_and_changes_no_other_column():
    stamps = survey()
    without, with_sky = measure_properties(stamps), measure_properties(stamps + 5.0)
    np.testing.assert_allclose(with_sky["sky"] - without["sky"], 5.0, atol=1e-5)
    np.testing.assert_allclose(
        with_sky.drop(columns="sky"), without.drop(columns="sky"), rtol=2e-3, atol=2e-3
    )


def test_a_neighbour_in_the_border_hardly_changes_the_sky():
    image = 100 * gaussian() + np.random.default_rng(0).normal(scale=0.02, size=(32, 32))
    crowded = image + 100 * gaussian(dx=14, dy=14)
    alone, with_neighbour = measure_one(image), measure_one(crowded)
    assert with_neighbour["mag_band0"] == pytest.approx(alone["mag_band0"], abs=0.03)
    assert with_neighbour["sky"] == pytest.approx(alone["sky"], abs=0.005)


def test_neighbouring_stamps_do_not_change_a_measurement():
    faint, bright = gaussian(16), np.full((16, 16), 1e9)
    alone = measure_properties(faint[None, None], radii=(2.0, 5.0, 8.0))
    between = measure_properties(np.stack([bright, faint, bright])[:, None], radii=(2.0, 5.0, 8.0))
    pd.testing.assert_frame_equal(between.iloc[[1]].reset_index(drop=True), alone, check_exact=True)


@pytest.mark.parametrize("sigma", [1.5, 2.5, 4.0])
def test_half_light_radius_of_a_gaussian(sigma):
    row = measure_one(gaussian(64, sigma))
    width = np.sqrt(sigma**2 + 1 / 12)  # apertures spread each sample over its square pixel
    assert row["half_light_radius"] == pytest.approx(np.sqrt(2 * np.log(2)) * width, rel=0.02)


def test_half_light_radius_and_concentration_of_an_exponential_disc():
    row = measure_one(exponential_disc(96, scale=3.0))
    assert row["half_light_radius"] == pytest.approx(1.678 * 3.0, rel=0.02)
    # r80 = 2.994 h and r20 = 0.824 h
    assert row["concentration"] == pytest.approx(5 * np.log10(2.994 / 0.824), abs=0.08)


def test_a_disc_is_more_concentrated_than_a_gaussian():
    disc, blob = measure_one(exponential_disc(64, 2.5)), measure_one(gaussian(64, 3.5))
    assert disc["concentration"] > blob["concentration"] + 0.4


@pytest.mark.parametrize("axis_ratio", [1.0, 0.7, 0.4])
@pytest.mark.parametrize("angle", [0.0, 0.6, np.pi / 2])
def test_ellipticity_is_one_minus_the_axis_ratio(axis_ratio, angle):
    row = measure_one(gaussian(64, 5.0, axis_ratio, angle))
    assert row["ellipticity"] == pytest.approx(1 - axis_ratio, abs=0.01)


@pytest.mark.parametrize("side", [31, 32])
@pytest.mark.parametrize(("dx", "dy"), [(0, 0), (3, -4), (1.3, 0.4), (-9, 0)])
def test_peak_offset_is_the_distance_from_the_centre(side, dx, dy):
    row = measure_one(gaussian(side, dx=dx, dy=dy))
    assert row["peak_offset"] == pytest.approx(np.hypot(dx, dy), abs=0.1)


def test_asymmetry_is_small_for_symmetric_and_large_for_one_sided_sources():
    noise = np.random.default_rng(0).normal(scale=0.02, size=(48, 48))
    whole = 100 * gaussian(48, 4.0)
    half = np.where(np.arange(48) < 24, whole, 0.0)
    assert abs(measure_one(whole + noise)["asymmetry"]) < 0.03
    assert measure_one(half)["asymmetry"] > 0.99
    assert measure_one(half + noise)["asymmetry"] > 0.7


def test_asymmetry_of_pure_noise_is_zero_on_average():
    noise = np.random.default_rng(0).normal(size=(200, 1, 32, 32))
    assert abs(measure_properties(noise)["asymmetry"].mean()) < 0.05


def test_magnitudes_of_negative_and_zero_flux_are_finite_and_fainter():
    noise = np.random.default_rng(0).normal(scale=0.1, size=(32, 32))
    values = [measure_one(flux * gaussian() + noise)["mag_band0"] for flux in (50, 0, -50)]
    assert np.isfinite(values).all()
    assert values[0] < values[1] < values[2]


def test_size_and_shape_of_a_negative_source_are_unknown():
    table = measure_properties(np.array([-50.0, 50.0])[:, None, None, None] * gaussian())
    assert table.loc[0, SHAPE_COLUMNS].isna().all()
    assert table.loc[1, SHAPE_COLUMNS].notna().all()
    assert np.isfinite(table["mag_band0"]).all()


def test_formal_errors_describe_the_scatter():
    rng = np.random.default_rng(0)
    stamps = 20 * gaussian() + rng.normal(scale=0.02, size=(1500, 2, 32, 32))
    # formal errors do not include the aperture correction, so the core magnitude is tested;
    # the core is large, so that the error of the sky matters
    values, errors = measure_properties(
        stamps, bands="gr", radii=(9.0, 9.5, 10.0), return_errors=True
    )
    scatter, formal = values["mag_core_g"].std(), errors["mag_core_g"].median()
    assert scatter == pytest.approx(formal, rel=0.1)
    assert values["g_r"].std() == pytest.approx(errors["g_r"].median(), rel=0.1)


def test_errors_have_the_columns_of_the_values_and_are_nan_for_shapes():
    values, errors = measure_properties(survey(), return_errors=True)
    pd.testing.assert_index_equal(values.columns, errors.columns)
    pd.testing.assert_frame_equal(values, measure_properties(survey()))
    assert errors[[*SHAPE_COLUMNS, "sky"]].isna().all(axis=None)
    assert (errors.drop(columns=[*SHAPE_COLUMNS, "sky"]) > 0).all(axis=None)


def test_a_few_missing_pixels_change_little():
    stamps = survey(side=32)
    holes = stamps.copy()
    rng = np.random.default_rng(1)
    holes[rng.random(stamps.shape) < 0.02] = np.nan
    whole, masked = measure_properties(stamps), measure_properties(holes)
    assert masked.notna().all(axis=None)
    change = (masked - whole).abs().median()
    assert (change.filter(like="mag_") < 0.03).all()
    assert change["half_light_radius"] < 0.1
    assert change["ellipticity"] < 0.05


def test_a_masked_centre_is_filled_from_its_surroundings():
    image = 100 * gaussian(31)
    hole = image.copy()
    hole[15, 15] = np.nan
    whole, masked = measure_one(image), measure_one(hole)
    assert masked["mag_band0"] == pytest.approx(whole["mag_band0"], abs=0.02)


def test_masked_arrays_are_read_like_nan():
    stamps = survey()
    mask = np.random.default_rng(1).random(stamps.shape) < 0.05
    pd.testing.assert_frame_equal(
        measure_properties(np.ma.array(stamps, mask=mask)),
        measure_properties(np.where(mask, np.nan, stamps)),
    )


def test_a_band_without_valid_pixels_is_nan_and_the_others_are_not():
    stamps = survey(n=6)
    whole = measure_properties(stamps[:, [0, 2]], bands="gi")
    stamps[:, 1] = np.nan
    table = measure_properties(stamps, bands="gri")
    assert table[["mag_r", "mag_core_r"]].isna().all(axis=None)
    assert not {"g_r", "r_i"} & set(table)
    for column in ("mag_g", "mag_i", "mag_core_i", "half_light_radius", "ellipticity", "sky"):
        np.testing.assert_allclose(table[column], whole[column], rtol=1e-6)


def test_mostly_masked_apertures_are_nan_and_keep_the_columns_of_magnitudes():
    image = 100 * gaussian()
    hole = image.copy()
    hole[8:24, 8:24] = np.nan
    both = measure_properties(np.stack([hole, image])[:, None])
    assert both.loc[0].isna().all()
    assert both.loc[1].notna().all()
    assert list(measure_one(hole).index) == ["mag_band0", "mag_core_band0"]


@pytest.mark.parametrize("dtype", ["u1", "i2", "i4", "u8", "f2", "f4", "f8", ">f4", ">i2", ">f8"])
def test_all_dtypes_agree(dtype):
    rng = np.random.default_rng(0)
    counts = np.rint(survey(seed=3, noise=0.0) * 20 + rng.normal(20, 2, size=(40, 3, 24, 24)))
    counts = counts.clip(0, 255)
    expected = measure_properties(counts)
    pd.testing.assert_frame_equal(measure_properties(counts.astype(dtype)), expected)


class LazyStamps:
    """Stamps that refuse to become one array, and record the length of the longest slice read."""

    def __init__(self, stamps):
        self._stamps, self.longest = stamps, 0
        self.shape, self.dtype = stamps.shape, stamps.dtype

    def __len__(self):
        return self.shape[0]

    def __getitem__(self, rows):
        part = self._stamps[rows]
        self.longest = max(self.longest, len(part))
        return part

    def __array__(self, *args, **kwargs):
        raise AssertionError("all stamps were read at once")


def test_lazy_stamps_are_read_in_chunks():
    stamps = survey(n=700, bands=1, side=12)
    lazy = LazyStamps(stamps)
    pd.testing.assert_frame_equal(measure_properties(lazy), measure_properties(stamps))
    assert 0 < lazy.longest <= photometry._MAX_CHUNK < len(stamps)


def test_large_stamps_are_read_a_few_at_a_time():
    lazy = LazyStamps(np.broadcast_to(np.float32(gaussian(600)), (20, 1, 600, 600)))
    measure_properties(lazy)
    assert lazy.longest * 600 * 600 <= photometry._MAX_CHUNK_PIXELS


@pytest.mark.parametrize("chunk", [1, 7, 39])
@pytest.mark.parametrize("missing", [0.0, 0.03])
@pytest.mark.parametrize("bands", [1, 5])
def test_results_do_not_depend_on_the_chunks(monkeypatch, chunk, missing, bands):
    stamps = survey(bands=bands)
    stamps[np.random.default_rng(0).random(stamps.shape) < missing] = np.nan
    expected = measure_properties(stamps)
    monkeypatch.setattr(photometry, "_MAX_CHUNK", chunk)
    pd.testing.assert_frame_equal(measure_properties(stamps), expected, check_exact=True)


def test_results_do_not_depend_on_the_other_rows():
    stamps = survey()
    expected = measure_properties(stamps)
    order = np.random.default_rng(0).permutation(len(stamps))[:11]
    pd.testing.assert_frame_equal(
        measure_properties(stamps[order]),
        expected.iloc[order].reset_index(drop=True),
        check_exact=True,
    )


def test_the_input_is_not_changed():
    stamps = survey()
    before = stamps.copy()
    stamps.setflags(write=False)
    measure_properties(stamps)
    np.testing.assert_array_equal(stamps, before)


@pytest.mark.parametrize("features", [1, 2, 3, 10, 64])
def test_strips_give_finite_columns_that_vary(features):
    strips = np.random.default_rng(0).normal(size=(30, 1, 1, features))
    measured = measure_properties(strips)
    assert list(measured) == ["mag_band0"]
    assert np.isfinite(measured).all(axis=None)
    assert measured["mag_band0"].nunique() == 30


@pytest.mark.parametrize(
    "shape", [(1, 1, 40), (3, 40, 1), (2, 4, 4), (1, 5, 5), (2, 5, 64), (3, 33, 20)]
)
def test_odd_shapes_give_finite_magnitudes(shape):
    stamps = np.random.default_rng(0).normal(3, 1, size=(20, *shape))
    table, errors = measure_properties(stamps, return_errors=True)
    assert np.isfinite(table.filter(like="mag_")).all(axis=None)
    assert table.shape == errors.shape
    assert list(table.attrs["units"]) == list(table)


@pytest.mark.parametrize("value", [0, 1, -3.5, 200])
def test_columns_of_constant_stamps_without_any_value_are_left_out(value):
    table, errors = measure_properties(np.full((3, 2, 16, 16), value), return_errors=True)
    magnitudes = ["mag_band0", "mag_band1", "mag_core_band0", "mag_core_band1"]
    assert list(table) == list(errors) == [*magnitudes, "band0_band1", "sky"]
    assert list(table.attrs["units"]) == list(table)
    assert np.isfinite(table).all(axis=None)
    np.testing.assert_allclose(table["sky"], value)


@settings(max_examples=60, deadline=None)
@given(
    arrays(
        np.float32,
        st.tuples(st.integers(1, 3), st.integers(1, 3), st.integers(1, 9), st.integers(5, 9)),
        elements=st.floats(-(2.0**99), 2.0**99, width=32) | st.just(np.nan) | st.just(1.0),
    )
)
def test_no_value_is_ever_infinite(stamps):
    stamps[:, 0, 0, 0] = 1.0  # a stamp without a valid pixel is an error
    table, errors = measure_properties(stamps, return_errors=True)
    assert not np.isinf(table).any(axis=None)
    assert not np.isinf(errors).any(axis=None)
    assert (table.dtypes == np.float64).all()
    if "ellipticity" in table:
        assert table["ellipticity"].dropna().between(0, 1).all()
        assert table["asymmetry"].dropna().between(-1, 1).all()


@pytest.mark.parametrize("bands", ["gri", ["g", "r", "i"], None])
def test_every_column_has_a_unit(bands):
    table = measure_properties(survey(n=3), bands=bands)
    names = list(bands or ["band0", "band1", "band2"])
    a, b, c = names
    assert list(table) == [
        *(f"mag_{name}" for name in names),
        *(f"mag_core_{name}" for name in names),
        f"{a}_{b}",
        f"{b}_{c}",
        *SHAPE_COLUMNS,
        "sky",
    ]
    units = table.attrs["units"]
    assert list(units) == list(table)
    assert units[f"mag_{a}"] == units[f"{a}_{b}"] == "mag"
    assert units["half_light_radius"] == units["peak_offset"] == "pixel"
    assert units["ellipticity"] == ""


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"bands": "ugriz"}, r"bands names 5 bands \(u, g, r, i, z\), but the stamps have 3"),
        ({"bands": ["g", "r", "g"]}, "two columns named 'mag_g': rename a band"),
        ({"bands": ["g", "core_g", "r"]}, "two columns named 'mag_core_g'"),
        ({"bands": ["mag", "g", "r"]}, "two columns named 'mag_g'"),
        ({"bands": ["g", "peak", "offset"]}, "two columns named 'peak_offset'"),
        ({"radii": (5.0, 2.0, 8.0)}, r"radii=.* pass \(core, middle, total\)"),
        ({"radii": (0.01, 5.0, 8.0)}, "0.1 <= core"),
        ({"radii": (2.0, 5.0)}, r"radii=.* pass \(core, middle, total\)"),
        ({"radii": (2.0, 5.0, 13.0)}, "total <= 12"),
    ],
)
def test_wrong_options_are_refused_with_a_remedy(options, message):
    with pytest.raises(ValueError, match=message):
        measure_properties(survey(), **options)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_errors_about_unusable_stamps_give_the_row(bad):
    stamps = survey(n=600, side=8)
    stamps[555] = bad
    with pytest.raises(ValueError, match="row 555"):
        measure_properties(stamps)


@pytest.fixture(scope="module")
def sdss():
    if not (DATA / "sdss" / "stamps.npy").exists():
        pytest.skip(f"no SDSS stamps in {DATA}: point SKASTRO_DATA to the folder of data sets")
    stamps = np.load(DATA / "sdss" / "stamps.npy", mmap_mode="r")
    catalog = pd.read_csv(DATA / "sdss" / "catalog.csv", dtype={"id": str})
    return measure_properties(stamps, bands="ugriz"), catalog


@pytest.mark.parametrize("band", list("griz"))
def test_point_sources_have_their_catalogue_magnitude(sdss, band):
    table, catalog = sdss
    catalogued = catalog[f"mag_{band}"]
    bright = (catalog["phot_type"] == "star") & (catalogued < 21)
    difference = (table[f"mag_{band}"] - catalogued)[bright]
    assert bright.sum() > 500
    assert abs(difference.median()) < 0.05
    scatter = 1.4826 * (difference - difference.median()).abs().median()
    assert scatter < {"g": 0.08, "r": 0.1, "i": 0.12, "z": 0.2}[band]


def test_nearly_all_real_stamps_are_measured(sdss):
    table, _ = sdss
    assert (table.notna().mean() > 0.99).all()


def test_extended_sources_are_larger_than_point_sources(sdss):
    table, catalog = sdss
    radius = table["half_light_radius"].groupby(catalog["phot_type"]).median()
    assert radius["galaxy"] > 1.2 * radius["star"]
