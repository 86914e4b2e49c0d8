"""The labels that objects have, and the journal that they come from."""

from __future__ import annotations

import numpy as np
import pytest

from skastro.catalogs.journal import Answer, LabelJournal
from skastro.pages.label_record import LabelRecord, Mark


@pytest.fixture
def journal(tmp_path):
    with LabelJournal(tmp_path / "labels.csv") as journal:
        yield journal


def test_a_record_is_the_same_after_a_restart(journal):
    record = LabelRecord(journal, range(5), ["star"])
    record.write([Mark(0, "star", "random")])
    record.write([Mark(1, "galaxy", "typical"), Mark(2, "", "skip"), Mark(3, "", "unsure")])
    record.write([Mark(0, "galaxy", "second look")])
    record.write([Mark(1, "", "undo")])
    for each in (record, LabelRecord(journal, range(5), ["star"])):
        assert each.classes == ["star", "galaxy"]
        assert each.codes.tolist() == [1, -1, -1, -1, -1]
        assert each.is_random.tolist() == [True, False, False, False, False]
        assert each.is_checked.tolist() == [True, False, False, False, False]
        assert each.left == {2: "skip", 3: "unsure"}
        assert each.counts() == {"star": 0, "galaxy": 1}


def test_classes_keep_their_order_after_a_restart(journal):
    record = LabelRecord(journal, range(5), ["star", "galaxy"])
    record.add_class("quasar")
    record.write([Mark(0, "quasar", "random")])
    record.add_class("ring")
    record.write([Mark(1, "galaxy", "random")])
    names = journal.path.with_name("labels.classes.txt")
    assert names.read_text() == "star\ngalaxy\nquasar\nring\n"
    assert LabelRecord(journal, range(5)).classes == ["star", "galaxy", "quasar", "ring"]
    names.unlink()
    assert LabelRecord(journal, range(5)).classes == ["quasar", "galaxy"]


def test_answers_about_other_objects_are_counted(journal):
    journal.append([Answer("x", "star"), Answer("1", "star")])
    record = LabelRecord(journal, ["1", "2"])
    assert (record.n_lost, record.n_labelled) == (1, 1)


def test_labels_of_a_table_do_not_replace_answers(journal):
    record = LabelRecord(journal, range(4))
    record.write([Mark(0, "star", "random"), Mark(1, "", "skip")])
    labels = np.array(["galaxy", "galaxy", "galaxy", ""], dtype=object)
    assert record.start_from(labels, "Ann") == 1
    assert [record.class_of(row) for row in range(4)] == ["star", "", "galaxy", ""]
    assert record.start_from(labels, "Ann") == 0
    assert not record.is_random[2]


def test_former_labels_are_replayed(journal):
    record = LabelRecord(journal, range(4))
    record.write([Mark(0, "star", "random"), Mark(1, "galaxy", "typical")])
    record.write([Mark(0, "galaxy", "second look")])
    found = record.replay([1, 2, 3])
    assert found[1][0].tolist() == [0, -1, -1, -1]
    assert found[2][0].tolist() == [1, 1, -1, -1]
    assert found[2][1].tolist() == [True, False, False, False]
    assert 3 not in found


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("", "must be a name"),
        ("a" * 61, "must be a name"),
        ("unknown", "means no label"),
        ("nan", "means no label"),
        ("STAR", "upper and lower case only"),
    ],
)
def test_names_that_are_no_classes_are_refused(journal, name, message):
    with pytest.raises(ValueError, match=message):
        LabelRecord(journal, range(2), ["star"]).add_class(name)


def test_a_class_that_is_there_keeps_its_number(journal):
    assert LabelRecord(journal, range(2), ["star", "ring galaxy"]).add_class(" ring  galaxy") == 1


def test_what_was_not_written_is_not_kept(journal, monkeypatch):
    def fail(_):
        raise OSError(28, "full")

    record = LabelRecord(journal, range(2), ["star"])
    monkeypatch.setattr(journal, "append", fail)
    with pytest.raises(OSError, match="full"):
        record.write([Mark(0, "star", "random")])
    assert record.n_labelled == 0
