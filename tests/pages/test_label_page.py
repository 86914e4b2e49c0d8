"""The page of skastro label, in a real browser, on the real server."""

import threading

import numpy as np
import pandas as pd
import pytest

from skastro.catalogs.journal import LabelJournal
from skastro.pages.label_learner import LabelLearner
from skastro.pages.label_page import content_policy, label_page
from skastro.pages.label_session import LabelSession

pytest.importorskip("uvicorn", reason="uvicorn is not installed")
pytest.importorskip("starlette", reason="starlette is not installed")
from skastro.pages.label_server import open_socket, serve

N = 120
TOKEN = "a-token"  # noqa: S105 - of this test
NAMES = np.array(["star", "galaxy", "ring"])
QUIET = "body[aria-busy=false]"


def make_objects(side=12):
    """Return stamps of points, blobs and rings, their classes, and columns that tell them apart."""
    rng = np.random.default_rng(0)
    kind = rng.choice(3, N, p=[0.5, 0.35, 0.15])
    y, x = np.mgrid[:side, :side] - (side - 1) / 2
    radius = np.hypot(x, y)
    shapes = np.exp([-(radius**2) / 2, -(radius**2) / 12, -((radius - 4) ** 2)])
    stamps = 60 * shapes[kind, None] + rng.normal(size=(N, 3, side, side))
    columns = np.eye(3)[kind] + rng.normal(scale=0.1, size=(N, 3))
    return stamps.astype(np.float32), NAMES[kind], columns.astype(np.float32)


class Labelling:
    """A session and its server, which can be stopped and started."""

    def __init__(self, folder, **params):
        stamps, self.truth, self.columns = make_objects()
        catalog = pd.DataFrame({"id": [f"src-{i}" for i in range(N)], "mag_r": 20.25})
        catalog = catalog.assign(ra=np.linspace(0, 350, N), dec=12.5)
        self.journal = LabelJournal(folder / "labels.csv")
        self.session = LabelSession(
            self.journal, catalog["id"], stamps, catalog=catalog, title="my <stamps>", **params
        )
        self.port = 0
        self.start()

    def start(self):
        listener = open_socket(self.port)
        self.port = listener.getsockname()[1]
        self.server = serve(self.session, listener, TOKEN)
        self.thread = threading.Thread(target=lambda: self.server.run(sockets=[listener]))
        self.thread.start()

    def stop(self):
        self.server.should_exit = True
        self.thread.join()

    def begin(self):
        measured = pd.DataFrame({"size": self.columns[:, 0]})
        self.session.begin(LabelLearner(self.columns, pd.DataFrame(index=range(N)), measured))

    def close(self):
        self.stop()
        self.session.close()
        self.journal.close()

    @property
    def address(self):
        return f"http://127.0.0.1:{self.port}/?token={TOKEN}"

    @property
    def labels(self):
        """The journal on the disk: the last line of each object, without those left out."""
        if not self.journal.path.is_file():
            return pd.DataFrame(columns=["class", "how"])
        table = pd.read_csv(self.journal.path, dtype=str, keep_default_na=False)
        return table.drop_duplicates("id", keep="last").set_index("id").query("`class` != ''")


@pytest.fixture
def label(tmp_path, browser):
    """Return a function that serves a session, whose pages must have no faults at the end."""
    started, pages = [], []

    def serve_session(*, ready=True, **params):
        running = Labelling(tmp_path, **params)
        started.append(running)
        if ready:
            running.begin()
        running.look = lambda **window: open_page(running, **window)
        return running

    def open_page(running, *, width=1280, height=800, scheme="light"):
        context = browser.new_context(
            viewport={"width": width, "height": height}, color_scheme=scheme,
            has_touch=width < 500, is_mobile=width < 500,
        )  # fmt: skip
        page = context.new_page()
        page.set_default_timeout(10_000)
        own, faults = (f"http://127.0.0.1:{running.port}/", "data:"), []
        page.faults = faults
        page.on("console", lambda m: faults.append(m.text) if m.type == "error" else None)
        page.on("pageerror", lambda error: faults.append(str(error)))
        page.on("request", lambda r: None if r.url.startswith(own) else faults.append(r.url))
        page.goto(running.address)
        pages.append(page)
        return page

    yield serve_session
    for page in pages:
        page.context.close()
    for running in started:
        running.close()
    assert not [fault for page in pages for fault in page.faults]


def press(page, *keys):
    """Press keys, each when the page has done what the one before asked for."""
    for key in keys:
        page.keyboard.press(key)
        page.wait_for_selector(QUIET)


def shown_row(page):
    return int(page.inner_text(".one .id").removeprefix("src-"))


def wait_for_question(page):
    page.wait_for_selector(".one .picture img")
    page.wait_for_selector(QUIET)


def answer_by_key(page, truth, classes):
    row = shown_row(page)
    press(page, str(classes.index(truth[row]) + 1))
    return row


def test_the_page_escapes_its_title_and_carries_its_nonce():
    page = label_page("<b>&", nonce="n1")
    assert "<title>&lt;b&gt;&amp;</title>" in page
    assert page.count("<script") == page.count('<script nonce="n1">') == 2
    assert page.count("<style") == page.count('<style nonce="n1">') == 1
    assert "unsafe" not in content_policy("n1")


def test_sixty_labels_from_nothing_by_the_keyboard_alone(label):
    running = label()
    page, truth = running.look(), running.truth
    # two classes on the first screen, which has the focus in its field
    page.wait_for_selector(".first .strip img")
    page.keyboard.type("star, galaxy")
    assert page.locator(".first .chips li").all_inner_texts() == ["1\nstar", "2\ngalaxy"]
    page.keyboard.press("Enter")
    wait_for_question(page)
    classes = ["star", "galaxy"]

    # one by one, and a new class when it is first seen
    while len(running.labels) < 20:
        row = shown_row(page)
        if truth[row] not in classes:
            page.keyboard.press("n")
            page.keyboard.type("ring")
            press(page, "Enter")
            classes.append("ring")
        else:
            answer_by_key(page, truth, classes)
    assert page.locator(".classes button").count() == 3

    # a comment, an answer that is taken back, one left out for now and one for good
    page.keyboard.press("c")
    page.keyboard.type("a bright one, 1 of 3")
    page.keyboard.press("Enter")
    first = answer_by_key(page, truth, classes)
    assert running.labels["comment"][f"src-{first}"] == "a bright one, 1 of 3"
    press(page, "Backspace")
    assert shown_row(page) == first
    assert f"src-{first}" not in running.labels.index
    assert "Taken back" in page.inner_text(".answers .said")
    answer_by_key(page, truth, classes)
    press(page, "s", "u")
    assert len(running.labels) == 21

    # the rest in grids: arrow keys and space mark those that are not
    for number in (1, 2, 3, 1, 2, 3):
        if len(running.labels) >= 60:
            break
        press(page, "g", str(number))
        rows = page.eval_on_selector_all(".cell", "c => c.map(e => Number(e.dataset.row))")
        for i, row in enumerate(rows):
            if i:
                page.keyboard.press("ArrowRight")
            if truth[row] != classes[number - 1]:
                page.keyboard.press(" ")
        press(page, "Enter")
    press(page, "Escape")
    wait_for_question(page)

    labels = running.labels
    assert len(labels) >= 60
    assert labels["class"].tolist() == [truth[int(i.removeprefix("src-"))] for i in labels.index]
    assert {"random", "grid"} <= set(labels["how"])
    assert f"{len(labels)} of 120 objects labelled" in page.inner_text(".tally")
    page.wait_for_selector(".accuracy .figure:not(.none)")
    page.wait_for_selector(".curve svg")


def test_objects_chosen_at_random_show_nothing_that_could_lead(label):
    running = label(classes=("star", "galaxy", "ring"))
    page = running.look()
    wait_for_question(page)
    seen = set()
    for _ in range(13):
        running.session.settle()
        is_random = "random" in page.inner_text(".why")
        if len(running.labels) > 6:
            page.keyboard.press("p")
            bars = page.locator(".bars .bar-row").count()
            near = page.locator(".neighbours li").count()
            assert (bars, near) == (0, 0) if is_random else bars == 3 and near > 0
            page.keyboard.press("p")
            seen.add(is_random)
        answer_by_key(page, running.truth, list(NAMES))
    assert seen == {True, False}


def test_the_buttons_and_the_picture_follow_the_pointer(label):
    running = label(classes=("star", "galaxy"))
    page = running.look()
    wait_for_question(page)
    row = shown_row(page)
    page.click(".bands button >> nth=2")
    page.fill(".stretch", "0.8")
    page.wait_for_selector(".picture img[src*='stretch=0.8'][src*='bands=1']")
    page.dblclick(".plate")
    assert page.evaluate("document.querySelector('.plate').classList.contains('near')")
    page.click(".classes button >> nth=1")
    page.wait_for_selector(QUIET)
    assert running.labels["class"].to_dict() == {f"src-{row}": "galaxy"}
    links = page.eval_on_selector_all(".links a", "a => a.map(e => [e.rel, e.target])")
    assert links
    assert all(link == ["noopener noreferrer", "_blank"] for link in links)


def test_a_second_tab_is_asked_for_another_object(label):
    running = label(classes=("star", "galaxy"))
    one, other = running.look(), running.look()
    for page in (one, other):
        wait_for_question(page)
    row = shown_row(one)
    assert row != shown_row(other)
    one.reload()
    wait_for_question(one)
    assert shown_row(one) == row
    press(one, "1")
    press(other, "2")
    assert set(running.labels["class"]) == {"star", "galaxy"}


def test_the_picture_of_the_next_object_is_there_before_the_answer(label):
    running = label(classes=("star", "galaxy"))
    page = running.look()
    asked = []
    page.on("request", lambda r: asked.append(r.url) if "size=" in r.url else None)
    wait_for_question(page)
    page.wait_for_timeout(700)  # while the person looks
    for _ in range(4):
        (tab,) = running.session._tabs
        (row,) = running.session.rows_ahead(tab)
        before = [url for url in asked if f"/{row}.png" in url]
        press(page, "1")
        assert shown_row(page) == row
        shown = page.get_attribute(".picture img", "src")
        assert any(url.endswith(shown) for url in before)
        assert sum(url.endswith(shown) for url in asked) == 1
        page.wait_for_timeout(700)


def test_classes_from_the_tenth_on_have_keys_whatever_caps_lock_says(label):
    running = label(classes=[f"class {k}" for k in range(26)])
    page = running.look()
    wait_for_question(page)
    texts = page.locator(".classes kbd").all_inner_texts()
    assert (texts[8:11], texts[23:]) == (["9", "a", "b"], ["x", "\u21e7A", "\u21e7B"])
    rows = []
    for key in ("9", "a", "b", "x", "Shift+A", "Shift+B"):
        rows.append(f"src-{shown_row(page)}")
        press(page, key)
    # with Caps Lock, the key a types A
    rows.append(f"src-{shown_row(page)}")
    page.evaluate(
        "document.body.dispatchEvent(new KeyboardEvent('keydown', {key: 'A', bubbles: true}))"
    )
    page.wait_for_selector(".classes button[aria-label='class 9, 2 labels']")
    numbers = [int(name.split()[1]) for name in running.labels["class"][rows]]
    assert numbers == [8, 9, 10, 23, 24, 25, 9]


def test_objects_like_the_one_shown_are_labelled_by_the_keyboard(label):
    running = label(classes=list(NAMES))
    page, truth = running.look(), running.truth
    wait_for_question(page)
    assert page.locator(".like").is_hidden()  # the first one is drawn at random
    press(page, "m")
    assert page.locator("section.one").is_visible()
    while page.locator(".like").is_hidden() or len(running.labels) < 8:
        answer_by_key(page, truth, list(NAMES))
    row = shown_row(page)
    known = len(running.labels)
    press(page, "m")
    cells = page.eval_on_selector_all(".cell", "c => c.map(e => Number(e.dataset.row))")
    assert (cells[0], len(cells)) == (row, 25)
    assert page.inner_text("#grid-title") == f"src-{row}, and the objects most like it"
    assert page.locator("[data-do=send]").is_disabled()
    press(page, "Enter")  # no class is named yet
    assert len(running.labels) == known
    n_marked = 0
    for k, cell in enumerate(cells):
        if k:
            page.keyboard.press("ArrowRight")
        if f"src-{cell}" not in running.labels.index and truth[cell] != truth[row]:
            page.keyboard.press(" ")
            n_marked += 1
    n_given = page.locator(".cell .given").count()
    press(page, str(list(NAMES).index(truth[row]) + 1), "Enter")
    wait_for_question(page)
    labels = running.labels
    assert len(labels) == known + 25 - n_given - n_marked
    assert labels["class"].tolist() == [truth[int(i.removeprefix("src-"))] for i in labels.index]
    press(page, "z")
    assert len(running.labels) == known


def test_a_search_by_yes_and_no(label):
    running = label(find="ring")
    page = running.look()
    wait_for_question(page)
    for _ in range(8):
        press(page, "y" if running.truth[shown_row(page)] == "ring" else "n")
    n_found = int((running.labels["class"] == "ring").sum())
    assert " ".join(page.inner_text(".hunt .figure").split()) == f"{n_found} found in 8 looked at"
    assert page.locator(".views").is_hidden()


def test_progress_is_shown_until_the_first_question(label):
    running = label(ready=False, classes=("star", "galaxy"))
    running.session.report("embedding", 30, 120)
    page = running.look()
    page.wait_for_selector(".wait progress")
    assert "25\N{NO-BREAK SPACE}% done" in page.inner_text(".wait .note")
    running.begin()
    wait_for_question(page)


def test_a_server_that_is_gone_loses_no_answer(label):
    running = label(classes=("star", "galaxy"))
    page = running.look()
    wait_for_question(page)
    row = shown_row(page)
    running.stop()
    page.keyboard.press("2")
    page.wait_for_selector(".banner:visible")
    assert "Your last answer (galaxy) is not saved yet" in page.inner_text(".banner")
    page.keyboard.press("1")  # nothing can be answered in between
    assert running.labels.empty
    running.start()
    page.click(".banner button")
    page.wait_for_selector(QUIET)
    assert page.locator(".banner").is_hidden()
    assert running.labels["class"].to_dict() == {f"src-{row}": "galaxy"}
    assert all("ERR_CONNECTION" in text for text in page.faults)
    page.faults.clear()


def test_a_second_look_keeps_or_changes_a_label(label):
    running = label(classes=("star", "galaxy"))
    page = running.look()
    wait_for_question(page)
    row = answer_by_key(page, np.full(N, "star"), ["star", "galaxy"])
    running.session.settle()
    running.session._thread.known.doubtful = [(row, 1, 0.9)]
    page.reload()
    wait_for_question(page)
    press(page, "d")
    assert shown_row(page) == row
    text = " ".join(page.inner_text(".second").split())
    assert text.startswith("You called this one star. The labels of objects like it say galaxy.")
    press(page, "2")
    assert running.labels.loc[f"src-{row}", ["class", "how"]].tolist() == ["galaxy", "second look"]


def test_a_phone_shows_stamp_and_buttons_at_once(label):
    running = label(classes=NAMES)
    page = running.look(width=390, height=844, scheme="dark")
    wait_for_question(page)
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    for part in (".plate", ".classes button >> nth=2", ".one [data-do=undo]"):
        box = page.locator(part).bounding_box()
        assert box["y"] >= 0
        assert box["y"] + box["height"] <= 844
    page.tap(".classes button >> nth=0")
    page.wait_for_selector(QUIET)
    assert len(running.labels) == 1
    page.tap(".facts summary")
    assert page.locator(".catalog").is_visible()
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    page.tap("[data-do=help]")
    page.wait_for_selector("dialog.help[open]")
    paper = "getComputedStyle(document.body).backgroundColor"
    assert page.evaluate(paper) == "rgb(20, 24, 29)"
