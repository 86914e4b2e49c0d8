"""The projection page, in a browser if one is installed."""

from __future__ import annotations

import json
import re
from io import BytesIO

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from skastro import find_similar
from skastro.catalogs.positions import sky_links, sky_positions
from skastro.pages.explorer import explorer_parts, write_explorer

N = 120
# where a point is on the screen, and what the plot holds
POSITION = """i => {
  const view = [...Bokeh.index.roots ?? Object.values(Bokeh.index)][0];
  const data = view.model.document.get_model_by_name("objects").data;
  const box = view.el.getBoundingClientRect();
  const { x_scale, y_scale } = view.frame;
  return [box.x + x_scale.compute(data.x[i]), box.y + y_scale.compute(data.y[i])];
}"""
COLUMN = """name => {
  const view = [...Bokeh.index.roots ?? Object.values(Bokeh.index)][0];
  return Array.from(view.model.document.get_model_by_name("objects").data[name]);
}"""
SELECTED = """() => {
  const view = [...Bokeh.index.roots ?? Object.values(Bokeh.index)][0];
  return view.model.document.get_model_by_name("objects").selected.indices;
}"""


def make_objects():
    """Two groups of points far apart; ids that only text can hold."""
    rng = np.random.default_rng(0)
    group = np.arange(N) % 2
    points = rng.uniform(-1, 1, size=(N, 2)) + 6 * group[:, None]
    table = pd.DataFrame(
        {
            "id": [str(1237648720693755918 + i) for i in range(N)],
            "label": np.where(np.arange(N) % 5 == 0, "", np.where(group, "galaxy", "star")),
            "cluster": np.where(np.arange(N) % 10 == 0, -1, group),
            "probability": np.linspace(0, 1, N),
            "mag_g": np.where(np.arange(N) % 7 == 0, np.nan, rng.uniform(15, 22, N)),
        }
    )
    images = np.repeat(np.where(group, 200, 60), 3 * 16 * 16).reshape(N, 3, 16, 16)
    return points, table, images.astype(np.uint8)


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    points, table, images = make_objects()
    return write_explorer(
        tmp_path_factory.mktemp("page") / "explore.html",
        points,
        table=table,
        images=images,
        color="label",
        cluster="cluster",
        certainty="probability",
        units={"mag_g": "mag"},
        title="Two <groups>",
    )


@pytest.fixture
def page(path, look):
    return ready(look(path))


def ready(page):
    page.wait_for_selector(".explorer[data-ready]")
    return page


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
def test_the_page_loads_without_faults_and_fits(path, look, width, scheme):
    page = ready(look(path, width=width, scheme=scheme, touch=width == 390))
    page.click(".explorer-legend [data-code='1']")
    page.fill(".explorer-search input", "12376487206937559")
    page.click(".explorer-search button")
    page.wait_for_selector(".explorer-list tr")
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    paper = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (paper == "rgb(255, 255, 255)") == (scheme == "light")
    assert not page.faults
    assert page.inner_text("h1") == "Two <groups>"


def test_hovering_shows_stamp_and_columns(page):
    page.mouse.move(*page.evaluate(POSITION, 3))
    page.wait_for_selector(".explorer-card:visible .stamp")
    text = page.inner_text(".explorer-card")
    for part in ("1237648720693755921", "label", "galaxy", "probability", "0.02521", "mag"):
        assert part in text
    page.mouse.move(2, 2)
    page.wait_for_selector(".explorer-card", state="hidden")


def test_stamps_are_those_of_the_rows(page):
    page.mouse.move(*page.evaluate(POSITION, 3))
    stamp = page.locator(".explorer-card .stamp")
    # a stamp of a galaxy is brighter than one of a star
    assert mean_brightness(stamp) == pytest.approx(200, abs=12)
    page.mouse.move(*page.evaluate(POSITION, 4))
    page.wait_for_function("document.querySelector('.explorer-card').innerText.includes('5922')")
    assert mean_brightness(stamp) == pytest.approx(60, abs=12)


def mean_brightness(locator):
    with Image.open(BytesIO(locator.screenshot())) as picture:
        pixels = np.asarray(picture.convert("L"))
    inside = slice(20, -20)
    return pixels[inside, inside].mean()


@pytest.mark.parametrize("tool", ["box_select", "lasso_select"])
def test_objects_selected_with_the_pointer_are_listed_and_saved(page, tool):
    points, table, _ = make_objects()
    wanted = np.flatnonzero(points[:, 0] < 2)
    screen = np.array([page.evaluate(POSITION, int(i)) for i in wanted])
    (left, top), (right, bottom) = screen.min(0) - 8, screen.max(0) + 8
    page.click(f"[data-mode={tool}]")
    page.mouse.move(left, top)
    page.mouse.down()
    for corner in ((right, top), (right, bottom), (left, bottom), (left, top)):
        if tool == "lasso_select" or corner == (right, bottom):
            page.mouse.move(*corner, steps=4)
    page.mouse.up()
    page.wait_for_selector(".explorer-list tbody tr")
    assert page.inner_text(".explorer-head h3") == "60 objects selected"
    assert page.locator(".explorer-list tbody tr").count() == 60
    with page.expect_download() as download:
        page.click(".explorer-save")
    saved = pd.read_csv(download.value.path(), dtype=str)
    assert download.value.suggested_filename == "selected_ids.csv"
    assert saved["id"].tolist() == table["id"][wanted].tolist()
    page.click(".explorer-clear")
    assert page.inner_text(".explorer-head h3") == "Nothing selected"


def test_colours_follow_the_column_chosen(page):
    _, table, _ = make_objects()
    by_label = np.array(page.evaluate(COLUMN, "color"))
    label = table["label"].to_numpy()
    assert len({*by_label[label == "star"]}) == len({*by_label[label == "galaxy"]}) == 1
    assert len(set(by_label)) == 3
    before = page.locator(".explorer-plot").screenshot()
    page.select_option(".explorer-by", "mag_g")
    page.wait_for_selector(".explorer-ramp")
    by_magnitude = np.array(page.evaluate(COLUMN, "color"))
    missing = table["mag_g"].isna().to_numpy()
    assert len(set(by_magnitude[missing])) == 1
    assert len(set(by_magnitude)) > 20
    assert "18 objects without a value" in page.inner_text(".explorer-ramp")
    assert page.locator(".explorer-plot").screenshot() != before


def test_a_click_on_a_cluster_shows_its_most_certain_members(page):
    _, table, _ = make_objects()
    page.select_option(".explorer-by", "cluster")
    legend = " ".join(page.inner_text(".explorer-legend").split())
    assert legend == "cluster 0 48 cluster 1 60 noise 12"
    page.click("[data-code='0']")
    assert page.inner_text(".explorer-sheet h3") == "cluster 0"
    ids = page.evaluate(
        "[...document.querySelectorAll('.explorer-stamps button')].map(b => b.title)"
    )
    members = table[table["cluster"] == 0].sort_values("probability", ascending=False)
    assert ids == members["id"].tolist()
    alpha = np.array(page.evaluate(COLUMN, "alpha"))
    assert alpha[table["cluster"] == 0].min() > 2 * alpha[table["cluster"] != 0].max()
    page.click(".explorer-stamps button")
    assert members["id"].iloc[0] in page.inner_text(".explorer-object")
    page.click("[data-code='0']")
    assert page.locator(".explorer-sheet").is_hidden()


def test_objects_are_found_by_id(page):
    page.fill(".explorer-search input", "1237648720693755925")
    page.press(".explorer-search input", "Enter")
    assert page.evaluate(SELECTED) == [7]
    assert "galaxy" in page.inner_text(".explorer-object")
    page.fill(".explorer-search input", "no such id")
    page.click(".explorer-search button")
    assert (
        page.inner_text(".explorer-head h3")
        == "No id contains \N{LEFT DOUBLE QUOTATION MARK}no such id\N{RIGHT DOUBLE QUOTATION MARK}"
    )


def test_zoom_and_reset(page):
    far = page.evaluate(POSITION, 3)
    page.click("[data-zoom='0.67']")
    near = page.evaluate(POSITION, 3)
    assert near != far
    page.click("[data-zoom='']")
    page.wait_for_timeout(100)
    assert page.evaluate(POSITION, 3) == pytest.approx(far, abs=1)


def test_the_theme_can_be_changed(page):
    page.click(".theme")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(20, 24, 29)"
    faint = page.evaluate(COLUMN, "color")[0]
    page.click(".theme")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert page.evaluate(COLUMN, "color")[0] != faint


def test_a_finger_taps_points_and_scrolls_the_page(path, look):
    page = ready(look(path, width=390, height=844, touch=True))
    page.touchscreen.tap(*page.evaluate(POSITION, 3))
    page.wait_for_selector(".explorer-object .stamp")
    assert page.evaluate(SELECTED) == [3]
    action = """() => {
      const view = [...Bokeh.index.roots ?? Object.values(Bokeh.index)][0];
      return getComputedStyle(view.canvas_view.events_el).touchAction;
    }"""
    assert page.evaluate(action) == "auto"
    page.click("[data-mode=pan]")
    assert page.evaluate(action) == "none"


def test_a_button_shows_the_objects_most_like_one_and_links_show_the_sky(tmp_path, look):
    points, table, images = make_objects()
    table["ra"], table["dec"] = np.arange(N) / 2, np.where(np.arange(N) == 4, np.nan, -1.25)
    embeddings = np.random.default_rng(1).normal(size=(N, 5))
    path = write_explorer(
        tmp_path / "explore.html", points, table=table, images=images, embeddings=embeddings
    )
    page = ready(look(path))
    page.fill(".explorer-search input", table["id"][3])
    page.press(".explorer-search input", "Enter")
    links = page.eval_on_selector_all(".explorer-links a", "links => links.map(a => a.href)")
    assert links == [link["href"] for link in sky_links(sky_positions([1.5], [-1.25])[0])]
    page.click(".explorer-alike")
    expected = find_similar(embeddings, 3, k=12)["row"].tolist()
    assert page.evaluate(SELECTED) == [3, *expected]
    title = f"{table['id'][3]} and the 12 objects most like it"
    assert page.inner_text(".explorer-head h3") == title
    listed = page.locator(".explorer-list tbody .id").all_inner_texts()
    assert listed == table["id"][[3, *expected]].tolist()
    # an object without a position has no links
    page.fill(".explorer-search input", table["id"][4])
    page.press(".explorer-search input", "Enter")
    assert page.locator(".explorer-links").count() == 0
    assert page.locator(".explorer-alike").count() == 1
    assert not page.faults


def test_a_page_without_embeddings_and_positions_has_no_such_button(page):
    page.fill(".explorer-search input", "1237648720693755925")
    page.press(".explorer-search input", "Enter")
    assert page.locator(".explorer-object .explorer-title").count() == 1
    assert page.locator(".explorer-alike, .explorer-links").count() == 0


def test_impossible_positions_give_no_links_instead_of_an_error():
    _, table, _ = make_objects()
    assert content(table=table.assign(ra=10.0, dec=-999.0))["sky"] is None
    assert content(table=table.assign(ra=10.0, dec=-9.0))["sky"]["dec"][0] == -9


def test_embeddings_of_other_objects_are_refused():
    with pytest.raises(ValueError, match="embeddings has 5 rows, but table has 120"):
        content(embeddings=np.eye(5))


def content(**params):
    points, table, _ = make_objects()
    parts = explorer_parts(points, **{"table": table, **params})
    return json.loads(re.search(r'explorer-data">(.*?)</script>', parts.script).group(1))


def test_kinds_of_columns():
    _, table, _ = make_objects()
    table["name"] = [f"object {i}" for i in range(N)]
    table["flag"] = np.arange(N) % 3 == 0
    table["run"] = np.arange(N)
    table["stars"] = pd.array([1, 2, 3, None] * (N // 4), dtype="Int64")
    kinds = {column["name"]: column for column in content(table=table)["columns"]}
    assert [kinds[name]["kind"] for name in ("label", "flag", "stars")] == ["class"] * 3
    assert [kinds[name]["kind"] for name in ("run", "mag_g", "probability")] == ["number"] * 3
    assert kinds["name"]["kind"] == "text"
    assert kinds["stars"]["levels"] == ["1", "2", "3"]
    assert kinds["stars"]["values"][:4] == [0, 1, 2, -1]
    assert kinds["mag_g"]["values"][0] is None


def test_coordinates_and_large_numbers_keep_their_digits():
    _, table, _ = make_objects()
    table["RAJ2000"] = 150.1234567 + np.arange(N) / 1000
    table["dec"] = np.float32(-2.25)
    table.loc[0, "dec"] = -0.0000123
    table["mjd"] = 58849.1234567 + np.arange(N)
    table["count"] = 1234567 + np.arange(N)
    table["field"] = 1234567 + np.arange(N) % 2
    table["objid"] = 1237648720693755918 + np.arange(N)
    columns = {column["name"]: column for column in content(table=table)["columns"]}
    assert columns["RAJ2000"]["values"][:2] == [150.1234567, 150.1244567]
    assert columns["dec"]["values"][0] == pytest.approx(-0.0000123)
    assert columns["RAJ2000"]["exact"]
    assert columns["mjd"]["values"][0] == 58849.123
    assert columns["count"]["values"][:2] == [1234567, 1234568]
    assert columns["field"]["levels"] == ["1234567", "1234568"]
    assert columns["objid"]["values"][:2] == ["1237648720693755918", "1237648720693755919"]


def test_the_page_shows_all_digits_of_coordinates_and_counts(tmp_path, look):
    points, table, _ = make_objects()
    table["ra"] = 150.1234567 + np.arange(N) / 1000
    table["count"] = 1234567 + np.arange(N)
    path = write_explorer(tmp_path / "explore.html", points, table=table, color="label")
    page = ready(look(path))
    page.locator(".explorer-search input").fill(table["id"][1])
    page.get_by_text("Find", exact=True).click()
    facts = page.locator(".explorer-object .explorer-facts").inner_text()
    assert "150.1244567" in facts
    assert "1234568" in facts


def test_the_points_fill_the_plot(page):
    """The longer side of the screen is used, too."""
    places = np.array([page.evaluate(POSITION, i) for i in range(N)])
    box = page.locator(".explorer-plot").bounding_box()
    assert np.ptp(places[:, 0]) > 0.8 * box["width"]
    assert np.ptp(places[:, 1]) > 0.8 * box["height"]


def test_ids_are_not_broken_into_lines(page):
    page.locator(".explorer-search input").fill("1237648720693755918")
    page.get_by_text("Find", exact=True).click()
    title = page.locator(".explorer-object .explorer-title span").last
    assert title.bounding_box()["height"] < 30


def test_clusters_are_classes_and_minus_one_is_noise():
    (cluster,) = (c for c in content(cluster="cluster")["columns"] if c["name"] == "cluster")
    assert cluster["levels"] == ["0", "1"]
    assert cluster["missing"] == "noise"
    assert cluster["values"][:3] == [-1, 1, 0]
    assert content(cluster="cluster")["color"] == "cluster"


def test_text_of_a_catalogue_is_escaped():
    _, table, _ = make_objects()
    table["label"] = "</script><script>alert(1)"
    points, _, _ = make_objects()
    script = explorer_parts(points, table=table).script
    assert "</script><script>alert" not in script
    assert content(table=table)["columns"][0]["levels"] == ["</script><script>alert(1)"]


@pytest.mark.parametrize(
    ("params", "words"),
    [
        ({"color": "colour"}, "color='colour' is not a column of table"),
        ({"certainty": {"label": "p"}}, "certainty='p' is not a column"),
        ({"table": pd.DataFrame({"id": ["a"]})}, "coordinates has 120 rows, but table has 1"),
    ],
)
def test_wrong_arguments_raise_one_sentence(params, words):
    with pytest.raises(ValueError, match=re.escape(words)):
        content(**params)


def test_coordinates_and_stamps_of_other_shapes_are_refused():
    points, table, images = make_objects()
    points[5, 1] = np.nan
    with pytest.raises(ValueError, match="not finite in row 5"):
        explorer_parts(points, table=table)
    with pytest.raises(ValueError, match="images has 3 rows"):
        write_explorer("never.html", points, table=table, images=images[:3])
    with pytest.raises(ValueError, match=r"pass \(n, 2\) coordinates"):
        explorer_parts(np.zeros((N, 3)), table=table)


@pytest.mark.slow
def test_five_thousand_objects_stay_fluid_and_below_15_mb(tmp_path, look):
    rng = np.random.default_rng(0)
    n = 5000
    # sky noise of photographs compresses worst
    images = rng.integers(0, 60, size=(n, 3, 64, 64), dtype=np.uint8)
    table = pd.DataFrame({f"property_{i}": rng.normal(size=n) for i in range(20)})
    table["class"] = rng.choice(["star", "galaxy", "quasar"], n)
    path = write_explorer(
        tmp_path / "explore.html", rng.normal(size=(n, 2)), table=table, images=images
    )
    assert path.stat().st_size < 15e6
    page = ready(look(path))
    frame = """() => new Promise((resolve) => {
      const { model } = [...Bokeh.index.roots ?? Object.values(Bokeh.index)][0];
      const times = [];
      const draw = () => {
        model.x_range.setv({ start: model.x_range.start + 0.01, end: model.x_range.end + 0.01 });
        times.push(performance.now());
        if (times.length < 20) requestAnimationFrame(draw);
        else resolve(times.slice(1).map((t, i) => t - times[i]).sort((a, b) => a - b)[9]);
      };
      draw();
    })"""
    assert page.evaluate(frame) < 400  # milliseconds, by software on a busy core
