"""Questions and answers: what is asked, written down and learned."""

from __future__ import annotations

import threading

import numpy as np
import pandas as pd
import pytest

from skastro.catalogs.journal import LabelJournal
from skastro.pages import label_session
from skastro.pages.label_learner import LabelLearner
from skastro.pages.label_session import LabelSession

CLASSES = ("star", "galaxy", "ring")
N = 90


def truth(row):
    return CLASSES[row % 3]


def make_learner(n=N, **params):
    rng = np.random.default_rng(0)
    centres = np.array([[-4, -4, 0], [4, 0, 0], [0, 4, 0]])[np.arange(n) % 3]
    predicted = pd.DataFrame({"size": rng.normal(size=n)})
    predicted.attrs["units"] = {"size": "arcsec"}
    return LabelLearner(centres + rng.normal(size=(n, 3)), predicted, predicted, **params)


@pytest.fixture
def opened(tmp_path):
    """Return a function that starts a session; all are closed at the end."""
    sessions = []

    def start(*, begin=True, n=N, **params):
        for old in sessions:
            close(old)
        journal = LabelJournal(tmp_path / "labels.csv")
        catalog = pd.DataFrame({"id": np.arange(n), "mag": np.linspace(15, 20, n)})
        catalog.loc[3, "mag"] = np.nan
        catalog.attrs["units"] = {"mag": "mag"}
        images = np.random.default_rng(0).normal(size=(n, 3, 8, 8)).astype(np.float32)
        params = {"catalog": catalog, "classes": CLASSES, "who": "Ann"} | params
        session = LabelSession(journal, np.arange(n), images, **params)
        sessions.append(session)
        if begin:
            session.begin(make_learner(n))
        return session

    def close(session):
        session.close()
        session.record.journal.close()

    yield start
    for session in sessions:
        close(session)


def label(session, n, tab="a"):
    """Answer questions truly; return their rows and why they were asked."""
    asked = []
    for _ in range(n):
        question = session.next_question(tab)
        asked.append((question["row"], question["how"]))
        session.answer(tab, *asked[-1], "label", truth(question["row"]), seconds=1.5)
    return asked


def lines(session):
    return [(a.id, a.class_, a.how) for a in session.record.journal.answers]


def test_an_answer_is_in_the_journal_and_another_object_is_asked(opened):
    session = opened()
    first = session.next_question("a")
    assert first == session.next_question("a")
    session.answer("a", first["row"], first["how"], "label", "star", seconds=2.04, comment="hm")
    answer = session.record.journal.answers[-1]
    assert answer.id == str(first["row"])
    assert (answer.class_, answer.who, answer.how) == ("star", "Ann", first["how"])
    assert (answer.seconds, answer.comment) == ("2.0", "hm")
    assert session.next_question("a")["row"] != first["row"]


def test_the_classifier_learns_and_says_how_good_it_is(opened):
    session = opened()
    label(session, 30)
    session.settle()
    state, question = session.state(), session.next_question("a")
    assert state["n_labelled"] == 30
    assert sum(each["n"] for each in state["classes"]) == 30
    accuracy = state["accuracy"]
    assert 0 <= accuracy["low"] <= accuracy["high"] <= 1
    assert accuracy["value"] > 0.8
    assert state["curve"][-1]["n"] == 30
    assert state["forecast"]["text"]
    shown = {each["name"]: each["p"] for each in question["probabilities"]}
    assert max(shown, key=shown.get) == truth(question["row"])
    nearest = question["neighbours"][0]
    assert nearest["label"] == truth(nearest["row"]) == truth(question["row"])


def test_one_question_in_six_is_random_and_only_these_count_for_the_accuracy(opened):
    session = opened()
    asked = label(session, 30)
    drawn = [row for row, how in asked if how == "random"]
    assert len(drawn) == 5
    assert np.flatnonzero(session.record.is_random).tolist() == sorted(drawn)
    session.settle()
    assert session.state()["accuracy"]["n_random"] == 5


def test_a_restart_goes_on_and_draws_the_curve_of_the_past_again(opened):
    session = opened()
    label(session, 25)
    session.settle()
    before = session.state()
    session = opened()
    session.settle()
    after = session.state()
    assert after["n_labelled"] == 25
    assert after["accuracy"] == pytest.approx(before["accuracy"])
    numbers = {point["n"] for point in before["curve"]} - {2, 3}
    assert numbers <= {point["n"] for point in after["curve"]}


def test_a_question_tells_what_is_known_of_the_object(opened):
    session = opened()
    for row, catalog in ((1, [{"name": "mag", "unit": "mag", "value": "15.06"}]), (3, [])):
        question = session._describe(row, "random")
        assert question["catalog"] == catalog
        assert question["morphology"][0]["unit"] == "arcsec"
    assert question["links"] == []


def test_positions_give_links_to_the_sky(opened):
    catalog = pd.DataFrame({"ra": [10.0, np.nan], "dec": [-5.0, np.nan]})
    session = opened(n=2, catalog=catalog, begin=False)
    session._thread.learner = make_learner(2)
    assert "10.000000-5.000000" in session._describe(0, "random")["links"][0]["href"]
    assert session._describe(1, "random")["links"] == []


def test_nothing_is_asked_before_the_stamps_are_described(opened):
    session = opened(begin=False)
    session.report("embedding", 3, 4)
    assert session.next_question("a") is None
    assert session.state()["progress"] == {"text": "Embedding", "share": 0.75}


def test_the_next_question_is_chosen_while_the_person_looks(opened):
    session = opened()
    assert session.rows_ahead("a") == []  # nothing is shown yet
    hows = []
    for _ in range(30):
        question = session.next_question("a")
        (ahead,) = session.rows_ahead("a")
        assert session.rows_ahead("a") == [ahead] != [question["row"]]
        assert session.next_question("b")["row"] not in (ahead, question["row"])
        name = truth(question["row"])
        session.answer("a", question["row"], question["how"], "label", name)
        assert session.next_question("a")["row"] == ahead
        hows.append(question["how"])
    assert hows.count("random") in (5, 6)  # one in six, and one question is shown in the other tab
    last = int(session.record.journal.answers[-1].id)
    session.undo("a")
    assert session.next_question("a")["row"] == last
    assert session.rows_ahead("a") == [ahead]  # which was shown before


def test_a_question_that_is_answered_elsewhere_is_not_asked_although_it_was_chosen(opened):
    session = opened()
    question = session.next_question("a")
    (ahead,) = session.rows_ahead("a")
    session.answer("b", ahead, "uncertain", "label", "star")
    session.answer("a", question["row"], question["how"], "label", "star")
    assert session.next_question("a")["row"] != ahead


def test_a_search_is_ranked_anew_although_pictures_are_fetched_ahead(opened):
    session = opened(find="ring")
    question = session.next_question("a")
    rows = session.rows_ahead("a")
    assert len(set(rows) | {question["row"]}) == 4
    session.answer("a", question["row"], question["how"], "yes")
    session.settle()
    assert session.next_question("a")["row"] == session._thread.known.ranking[0]


def test_objects_like_one_are_shown_with_their_labels_and_can_be_labelled(opened):
    session = opened()
    label(session, 12)
    row = session.next_question("a")["row"]
    skipped = session.next_question("b")["row"]
    session.answer("b", skipped, "uncertain", "skip")
    held = session.next_question("b")["row"]
    cells = session.similar("a", row)
    assert (cells[0]["row"], cells[0]["similarity"], len(cells)) == (row, 1.0, 25)
    assert np.mean([truth(cell["row"]) == truth(row) for cell in cells]) > 0.9
    assert not {skipped, held} & {cell["row"] for cell in cells}
    for cell in cells:
        known = session.record.codes[cell["row"]] >= 0
        assert cell["label"] == (truth(cell["row"]) if known else None)
    free = [cell["row"] for cell in cells if cell["label"] is None]
    assert session.next_question("c")["row"] not in free
    session.answer_grid("a", truth(row), free, [])
    assert session.state()["n_labelled"] == 12 + len(free)
    assert session.next_question("a")["row"] != row
    with pytest.raises(ValueError, match="row=90 must be"):
        session.similar("a", N)


def test_each_class_has_a_key_that_is_no_command(opened):
    session = opened(classes=[f"class {k}" for k in range(50)], begin=False)
    keys = [each["key"] for each in session.state()["classes"]]
    assert keys[:11] == [*"123456789", "a", "b"]
    assert len(set(keys)) == 50
    assert not set("usczndkgpmy0") & set(keys)
    with pytest.raises(ValueError, match="there are 50 classes already"):
        session.add_class("one more")


def test_two_tabs_never_get_the_same_object(opened):
    session = opened()
    rows = {session.next_question(tab)["row"] for tab in "abcdef"}
    grid = {cell["row"] for cell in session.grid("g", "star")}
    assert len(rows) == 6
    assert not rows & grid


def test_many_people_at_once_lose_no_answer(opened):
    session = opened()
    threads = [threading.Thread(target=label, args=(session, 6, tab)) for tab in "abcd"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    written = [name for name, _, _ in lines(session)]
    assert len(set(written)) == len(written) == session.state()["n_labelled"] == 24


def test_a_question_that_another_tab_has_answered_is_not_asked_again(opened):
    session = opened()
    question = session.next_question("a")
    session.answer("b", question["row"], "uncertain", "label", "star")
    assert session.next_question("a")["row"] != question["row"]


def test_an_answer_that_comes_twice_is_written_once(opened):
    session = opened()
    question = session.next_question("a")
    for _ in range(2):
        session.answer("a", question["row"], question["how"], "label", "star")
    assert len(lines(session)) == 1
    session.undo("a")
    assert session.next_question("a") == question


def test_answers_of_an_earlier_server_are_taken(opened):
    question = opened().next_question("a")
    session = opened()
    session.answer("a", question["row"], question["how"], "label", "star")
    assert session.record.class_of(question["row"]) == "star"


@pytest.mark.parametrize("kind", ["skip", "unsure"])
def test_objects_without_an_answer_are_not_asked_again(opened, kind):
    session = opened(n=6)
    for _ in range(6):
        question = session.next_question("a")
        session.answer("a", question["row"], question["how"], kind)
    assert {how for _, _, how in lines(session)} == {kind}
    assert session.next_question("a") is None
    assert (session.state()["n_labelled"], session.state()["n_skipped"]) == (0, 6)


def test_undo_takes_back_the_last_answer_and_asks_again(opened):
    session = opened()
    label(session, 3)
    following = session.next_question("a")
    last = session.record.journal.answers[-1]
    assert session.undo("a") == {"n": 1, "class": last.class_}
    assert lines(session)[-1] == (last.id, "", "undo")
    again = session.next_question("a")
    assert (str(again["row"]), again["how"]) == (last.id, last.how)
    session.answer("a", again["row"], again["how"], "skip")
    assert session.next_question("a")["row"] == following["row"]
    session.undo("a")
    session.undo("a")
    assert session.state()["n_labelled"] == 1
    session.undo("a")
    with pytest.raises(ValueError, match="nothing to undo in this tab"):
        session.undo("a")


def test_a_grid_labels_many_at_once_and_asks_for_the_others_later(opened):
    session = opened()
    label(session, 24)
    session.settle()
    cells = session.grid("a", "ring")
    rows = [cell["row"] for cell in cells]
    assert 0 < len(rows) <= 25
    assert [cell["p"] for cell in cells] == sorted((cell["p"] for cell in cells), reverse=True)
    others = rows[:2]
    session.answer_grid("a", "ring", rows, others, seconds=len(rows))
    for _ in range(2):  # the second time says nothing new
        assert session.state()["n_labelled"] == 24 + len(rows) - 2
        session.answer_grid("a", "ring", rows, others)
    assert lines(session)[-1][2] == "grid"
    assert session.record.journal.answers[-1].seconds == "1.0"
    assert not session.record.is_random[rows[2:]].any()
    assert set(others) <= {row for row, _ in label(session, 6)}


def test_undo_takes_back_a_whole_grid(opened):
    session = opened()
    label(session, 24)
    session.settle()
    rows = [cell["row"] for cell in session.grid("a", "ring")]
    session.answer_grid("a", "ring", rows, [])
    assert session.undo("a") == {"n": len(rows), "class": "ring"}
    assert session.state()["n_labelled"] == 24


def test_doubtful_labels_come_back_for_a_second_look(opened, monkeypatch):
    monkeypatch.setattr(label_session, "_MIN_LABELS_FOR_DOUBT", 20)
    session = opened()
    label(session, 20)
    session.settle()
    row = int(np.flatnonzero(session.record.codes >= 0)[0])
    wrong = CLASSES[(row + 1) % 3]
    monkeypatch.setattr(LabelLearner, "doubt", lambda *_: [(row, CLASSES.index(truth(row)), 0.9)])
    session.answer("b", row, "uncertain", "label", wrong)
    session.settle()
    assert session.state()["n_doubtful"] == 1
    asked = label(session, 10)
    assert asked.count((row, "second look")) == 1
    assert session.record.class_of(row) == truth(row)
    assert session.state()["n_doubtful"] == 0
    assert session.doubtful_question("a") is None


def test_a_second_look_says_what_the_label_would_be_and_may_be_skipped(opened, monkeypatch):
    session = opened()
    label(session, 12)
    row = int(np.flatnonzero(session.record.codes == 0)[0])
    monkeypatch.setattr(LabelLearner, "doubt", lambda *_: [(row, 1, 0.9)])
    label(session, 1)
    session.settle()
    question = session.doubtful_question("a")
    assert (question["row"], question["how"]) == (row, "second look")
    assert (question["label"], question["suggested"]) == ("star", "galaxy")
    session.answer("a", row, "second look", "skip")
    assert session.record.class_of(row) == "star"
    assert session.state()["n_doubtful"] == 0


def test_a_search_asks_for_the_likely_ones_and_counts_what_was_found(opened):
    session = opened(find="ring")
    for _ in range(24):
        question = session.next_question("a")
        kind = "yes" if truth(question["row"]) == "ring" else "no"
        session.answer("a", question["row"], question["how"], kind)
        session.settle()
    found = session.state()["find"]
    assert found["looked"] == 24
    assert found["found"] > 12  # 8 of 24 are expected at random
    assert found["by_chance"] == pytest.approx(24 * found["found"] / N, abs=0.01)
    assert {class_ for _, class_, _ in lines(session)} == {"ring", "not ring"}


def test_classes_come_while_people_label(opened):
    session = opened(classes=())
    session.add_class("star")
    label_of = session.next_question("a")
    session.answer("a", label_of["row"], label_of["how"], "label", "star")
    session.add_class("galaxy")
    assert [each["key"] for each in session.state()["classes"]] == ["1", "2"]
    with pytest.raises(ValueError, match="must be one of star, galaxy"):
        session.answer("a", 1, "random", "label", "quasar")


def test_kinds_that_the_encoder_knows_have_probabilities_before_any_label(opened):
    session = opened(begin=False, classes=("elliptical", "spiral"))
    p = np.linspace(0, 1, N)
    predicted = pd.DataFrame({"elliptical": p, "spiral": 1 - p})
    session.begin(LabelLearner(np.zeros((N, 2)), predicted, pd.DataFrame(), kinds=tuple(predicted)))
    session.settle()
    shown = session._describe(9, "random")["probabilities"]
    assert shown[1]["p"] == pytest.approx(1 - p[9])


@pytest.mark.parametrize(
    ("row", "how", "kind", "name", "message"),
    [
        (N, "random", "label", "star", "row=90 must be a whole number from 0 to 89"),
        (True, "random", "label", "star", "row=True"),
        ("../1", "random", "label", "star", "row='../1'"),
        (1, "because", "label", "star", "how='because' must be one of random"),
        (1, "random", "maybe", "star", "kind='maybe' must be"),
        (1, "random", "yes", None, "kind='yes' must be"),
        (1, "random", "label", "quasar", "class='quasar' must be one of star, galaxy, ring"),
    ],
)
def test_answers_that_cannot_be_used_are_refused(opened, row, how, kind, name, message):
    session = opened()
    with pytest.raises(ValueError, match=message):
        session.answer("a", row, how, kind, name)
    assert lines(session) == []


def test_labels_are_written_even_if_the_classifier_fails(opened, monkeypatch):
    said = []
    monkeypatch.setattr(LabelLearner, "learn", lambda *_: 1 / 0)
    session = opened(say=said.append)
    label(session, 5)
    session.settle()
    assert len(lines(session)) == 5
    assert said[0] == "The classifier could not learn from the labels: division by zero."


def test_pictures_are_those_of_the_bands_that_are_asked_for(opened):
    session = opened(begin=False)
    colours = session.picture(1, 64, 0.5, ("2", "1", "0"))
    assert colours == session.picture(1, 64, 0.5, ())
    assert colours != session.picture(1, 64, 0.5, ("1",))
    assert colours != session.picture(1, 64, 0.9, ())
    with pytest.raises(ValueError, match="must be one or three of 0, 1, 2"):
        session.picture(1, 64, 0.5, ("0", "5", "1"))
