"""The content of catalogues is shown as text, is never executed, and never names a file."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
from astropy.io import fits

from skastro import cut_stamps, open_stamps, write_explorer
from skastro.catalogs.writing import write_table
from skastro.embeddings.files import write_embeddings
from skastro.pages.report import write_report
from tests.pages.test_report import CONFIG, folder, full  # noqa: F401 - fixtures

HIT = "window.hit=1"
EVIL = (
    f"""<script>{HIT}</script><img src=x onerror="{HIT}">'"></script></style><b>&amp;{{{{7*7}}}}"""
)
ATTRIBUTE = f"""x" onmouseover="{HIT}" autofocus onfocus='{HIT}' style="""
PATH = "../../outside"
# window.hit is set if a script from the data runs
WATCH = "() => window.hit === undefined && !document.querySelector('img[src=\"x\"], [onerror]')"
SELECT = """rows => {
  const view = [...Bokeh.index.roots ?? Object.values(Bokeh.index)][0];
  view.model.document.get_model_by_name("objects").selected.indices = rows;
}"""


def touch_everything(page):
    """Hover, click and choose everything, so that all parts of the page are made."""
    page.wait_for_selector(".explorer[data-ready]")
    for value in page.eval_on_selector_all(".explorer-by option", "all => all.map(o => o.value)"):
        page.select_option(".explorer-by", value)
        page.evaluate(  # each click draws the buttons again
            """() => {
              const find = () => document.querySelectorAll(".explorer-legend [data-code]");
              for (let i = 0; i < find().length; i++) find()[i].click();
            }"""
        )
    page.evaluate(SELECT, list(range(24)))
    page.fill(".explorer-search input", EVIL)
    page.press(".explorer-search input", "Enter")
    page.mouse.move(400, 400)
    page.wait_for_timeout(200)


def assert_quiet(page):
    assert page.evaluate(WATCH)
    assert not page.faults


@pytest.fixture
def hostile():
    n = 24
    row = np.arange(n)
    return pd.DataFrame(
        {
            "id": [EVIL, ATTRIBUTE, PATH, '=HYPERLINK("http://x","y")', "+1+1", "-2", "@SUM(1)"]
            + [f"{i}{EVIL}" for i in range(n - 7)],
            EVIL: np.where(row % 2, EVIL, ATTRIBUTE),
            ATTRIBUTE: row / 7,
            "__proto__": np.where(row % 3, "constructor", "toString"),
            "text": [f"{EVIL}{i}" for i in range(n)],
        }
    )


def test_the_explorer_shows_hostile_text_as_text(hostile, look, tmp_path):
    rng = np.random.default_rng(0)
    path = write_explorer(
        tmp_path / "explore.html",
        rng.normal(size=(len(hostile), 2)),
        table=hostile,
        images=rng.normal(size=(len(hostile), 3, 16, 16)),
        units={ATTRIBUTE: EVIL},
        title=EVIL,
        projection=EVIL,
    )
    page = look(path)
    touch_everything(page)
    assert page.inner_text("h1") == EVIL
    assert EVIL in page.inner_text(".explorer-selection") or page.query_selector(".explorer-legend")
    assert_quiet(page)


def test_ids_that_a_spreadsheet_would_compute_are_saved_as_text(hostile, look, tmp_path):
    path = write_explorer(tmp_path / "e.html", np.eye(24, 2), table=hostile[["id"]])
    page = look(path)
    page.wait_for_selector(".explorer[data-ready]")
    page.evaluate(SELECT, list(range(24)))
    with page.expect_download() as download:
        page.click(".explorer-save")
    saved = pd.read_csv(download.value.path(), dtype=str)["id"].tolist()
    expected = hostile["id"].tolist()
    for i in (3, 4, 6):
        expected[i] = "'" + expected[i]
    assert saved == expected  # a negative number is not a formula
    assert_quiet(page)


def test_the_report_shows_hostile_text_as_text(full, look):  # noqa: F811 - the fixture
    predictions = pd.read_csv(full / "predictions.csv", dtype=str, keep_default_na=False)
    renamed = {"star": EVIL, "galaxy": ATTRIBUTE}
    predictions = predictions.replace({"label": renamed, "prediction": renamed})
    predictions["id"] = [f"{i}{EVIL}" for i in range(len(predictions))]
    predictions.columns = predictions.columns.str.replace("p_star", f"p_{EVIL}")
    predictions.to_csv(full / "predictions.csv", index=False)
    objects = pd.read_csv(full / "objects.csv").assign(id=predictions["id"])
    objects.rename(columns={"mag_g": EVIL}).to_csv(full / "objects.csv", index=False)
    pretext = {"property": [EVIL], "unit": [ATTRIBUTE], "n_test": [9], "r2": [0.5], "scatter": [1]}
    pd.DataFrame(pretext).to_csv(full / "pretext.csv", index=False)
    table = pd.DataFrame({EVIL: [EVIL], ATTRIBUTE: [ATTRIBUTE]})
    for name in ("representations", "ablation", "by_magnitude"):
        table.to_csv(full / f"{name}.csv", index=False)
    scores = pd.read_csv(full / "scores.csv")
    scores["estimator"] = scores["estimator"].replace("scratch", EVIL)
    scores["metric"] = scores["metric"].replace("f1_macro", ATTRIBUTE)
    scores.to_csv(full / "scores.csv", index=False)
    for name in ("javascript:hit=1", f"x'\"><img src=x onerror={HIT}>.csv"):
        (full / name).write_text("")
    (full / "config.json").write_text(json.dumps(with_text_replaced(CONFIG)))
    page = look(write_report(full))
    touch_everything(page)
    assert EVIL in page.inner_text("main")
    schemes = page.eval_on_selector_all("a", "all => all.map(a => a.protocol)")
    assert set(schemes) == {"file:"}
    assert_quiet(page)


def with_text_replaced(value):
    """Return a configuration with hostile text, also in the keys that come from data."""
    if isinstance(value, dict):
        return {
            (EVIL if key in ("galaxy", "skastro") else key): with_text_replaced(item)
            for key, item in value.items()
        }
    if isinstance(value, list):
        return [with_text_replaced(item) for item in value]
    return EVIL if isinstance(value, str) and value else value


def test_ids_never_name_files(tmp_path):
    inside = tmp_path / "a/b/out"
    inside.mkdir(parents=True)
    fits.writeto(inside / "r.fits", np.ones((64, 64), "f4"))
    ids = [PATH, "/" + str(tmp_path / "absolute"), "..", "a/b", "\0", "C:\\x"]
    catalog = pd.DataFrame({"id": ids, "x": 30.0, "y": 30.0})
    stamps = cut_stamps({"r": inside / "r.fits"}, catalog, size=8, x="x", y="y")
    stamps.save(inside / "stamps.npy", progress=False)
    stamps.save(inside / "stamps.zarr", progress=False)
    write_table(inside / "table.csv", catalog)
    write_embeddings(inside / "e.npz", np.zeros((6, 2)), ids)
    write_explorer(inside / "page.html", np.eye(6, 2), table=catalog, images=stamps)
    names = {"r.fits", "stamps.npy", "stamps.zarr", "table.csv", "e.npz", "page.html"}
    assert {path.name for path in inside.iterdir()} == names
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert all(path.is_relative_to(inside) for path in files)
    assert np.load(inside / "e.npz")["ids"].tolist()[0] == PATH


def test_patterns_open_only_files_of_their_folder(tmp_path):
    (tmp_path / "in").mkdir()
    np.save(tmp_path / "secret_g.npy", np.ones((1, 8, 8)))
    np.save(tmp_path / "in/7_g.npy", np.zeros((1, 8, 8)))
    stamps = open_stamps(tmp_path / "in/{id}_{band}.npy", bands=["g"])
    assert stamps.ids.tolist() == ["7"]
    with pytest.raises(FileNotFoundError, match="matches no file"):
        open_stamps(tmp_path / "in/{id}_{band}.npy", bands=["../secret_g"])
