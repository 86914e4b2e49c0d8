import numpy as np
import pandas as pd
import pytest
from scipy.ndimage import gaussian_filter, zoom

from skastro import check_encoder, load_pretrained
from skastro.stamps.bands import BandArray
from tests.conftest import tiny_encoder

LINES = ["bands", "pixel scale", "seeing", "zero point", "noise", "sky", "embedding", "predictions"]
PIXEL_LINES = set(LINES[:6])
NOISE = np.array([0.3, 1.0, 2.0])[:, None, None]
Y, X = np.mgrid[:24, :24] - 11.5


def draw(n, seed, scale=1.0, seeing=1.2):
    """Draw noise and round sources of many sizes and fluxes; a ``scale`` of 2 halves the pixels."""
    rng = np.random.default_rng(seed)
    flux = 10 ** rng.uniform(2, 3, (n, 1, 1, 1)) * np.array([0.2, 0.6, 1.0])[:, None, None]
    flux = flux * rng.uniform(0.8, 1.2, (n, 3, 1, 1))
    own = rng.choice([0.0, 1.0, 2.0], (n, 1, 1, 1))
    width = scale * np.hypot(seeing, own)
    source = np.exp(-(X**2 + Y**2) / (2 * width**2)) / (2 * np.pi * width**2)
    noise = NOISE / scale * rng.uniform(0.9, 1.1, (n, 3, 1, 1)) * rng.normal(size=(n, 3, 24, 24))
    return (flux * source + noise).astype(np.float32), np.log10(flux[:, 0, 0])


@pytest.fixture(scope="module")
def encoder():
    stamps, flux = draw(500, 0)
    table = pd.DataFrame(flux, columns=["log_flux"])
    return tiny_encoder(max_epochs=2).fit(BandArray.of(stamps, "gri"), properties=table)


@pytest.fixture(scope="module")
def stamps():
    return draw(100, 1)[0]


def enlarge(x):
    return zoom(x[..., 6:18, 6:18], (1, 1, 2, 2), order=1, mode="nearest", grid_mode=True) / 4


@pytest.mark.parametrize(
    ("line", "change"),
    [
        (None, lambda x: x),
        ("zero point", lambda x: 10 * x),
        ("zero point", lambda x: x * np.array([1, 1, 4])[:, None, None]),
        ("noise", lambda x: x + 2 * NOISE * np.random.default_rng(9).normal(size=x.shape)),
        ("sky", lambda x: x + 5 * NOISE),
        ("seeing", lambda x: gaussian_filter(x, (0, 0, 1, 1))),
        ("seeing", lambda _: draw(100, 2, seeing=2.4)[0]),
        ("pixel scale", enlarge),
        ("pixel scale", lambda _: draw(100, 2, scale=2.0)[0]),
        ("bands", lambda x: x[:, [1, 0, 2]]),
        ("bands", lambda x: x[:, [2, 0, 1]]),
    ],
)
def test_each_change_is_named_by_its_line_alone(encoder, stamps, line, change):
    check = check_encoder(encoder, change(stamps))
    assert list(check.table.index) == LINES
    assert PIXEL_LINES & set(check.differing) == ({line} if line else set())


def test_exchanged_bands_are_named_with_the_remedy(encoder, stamps):
    text = check_encoder(encoder, stamps[:, [1, 0, 2]]).table.loc["bands", "text"]
    assert text.startswith(
        "The bands g and r look as if they are exchanged: use stamps[:, [1, 0, 2]]"
    )
    wrong = stamps[:, [2, 0, 1]]
    text = check_encoder(encoder, wrong).table.loc["bands", "text"]
    assert "use stamps[:, [1, 2, 0]]" in text
    np.testing.assert_array_equal(wrong[:, [1, 2, 0]], stamps)


def test_named_bands_are_in_order_before_they_are_compared(encoder, stamps):
    named = BandArray.of(stamps[:, [2, 0, 1]], "igr")
    assert check_encoder(encoder, named).differing == []


def test_unlike_stamps_lie_beyond_the_training(encoder):
    stripes = 30 * np.sin(np.arange(24)) * np.ones((50, 3, 24, 1))
    check = check_encoder(encoder, stripes + np.random.default_rng(0).normal(size=stripes.shape))
    assert "embedding" in check.differing
    assert check.table.loc["embedding", "value"] > 0.5


@pytest.mark.parametrize("n", [20, 100, 600])
def test_alarms_are_rare_on_stamps_like_the_training(encoder, n):
    alarms = [check_encoder(encoder, draw(n, seed)[0]).differing for seed in range(10, 18)]
    assert sum(map(bool, alarms)) <= 2


def test_predictions_are_compared_with_the_catalogue(encoder, stamps):
    flux = draw(100, 1)[1][:, 0]
    table = pd.DataFrame({"log_flux": flux, "other": 1.0})
    offset = encoder.statistics_.offsets["log_flux"]
    row = check_encoder(encoder, stamps, table).table.loc["predictions"]
    assert row["verdict"] == "looks alike"
    assert row["low"] < offset < row["high"]
    row = check_encoder(encoder, stamps, table.assign(log_flux=flux + 1)).table.loc["predictions"]
    assert row["verdict"] == "differs"
    assert "log_flux" in row["text"]
    row = check_encoder(encoder, stamps, table[["other"]]).table.loc["predictions"]
    assert row["verdict"] == "unknown"


def test_missing_pixels_and_bands_are_no_alarm(encoder, stamps):
    holes = stamps.copy()
    holes[:, :, :2] = np.nan
    assert not PIXEL_LINES & set(check_encoder(encoder, holes).differing)
    holes[:50, 1] = np.nan
    assert not PIXEL_LINES & set(check_encoder(encoder, holes).differing)


def test_teachers_and_old_files_have_no_ranges(stamps):
    teacher = load_pretrained("galaxies").set_params(average_views=False)
    table = check_encoder(teacher, stamps[:20]).table
    assert set(table["verdict"]) == {"unknown"}
    assert table["value"].drop("predictions").notna().all()
    assert "takes stamps of any survey" in table.loc["noise", "text"]
    old = tiny_encoder(max_epochs=0).fit(stamps)
    old.statistics_ = None
    assert "fit it again" in check_encoder(old, stamps).table.loc["noise", "text"]


def test_the_repr_has_a_line_for_each(encoder, stamps):
    check = check_encoder(encoder, stamps)
    first, *lines = repr(check).splitlines()
    assert first == "EncoderCheck of 100 stamps"
    assert [line.partition(":")[0] for line in lines] == LINES
    assert lines[4].startswith("noise: looks alike. noise relative to the training ")
    assert "<table" in check._repr_html_()


def test_what_cannot_be_compared_is_refused(encoder, stamps):
    with pytest.raises(ValueError, match="stamps has 19 stamps: pass at least 20"):
        check_encoder(encoder, stamps[:19])
    with pytest.raises(ValueError, match="catalog has 3 rows, but there are 100 stamps"):
        check_encoder(encoder, stamps, pd.DataFrame({"a": [1, 2, 3]}))
