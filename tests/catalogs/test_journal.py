"""Journals of answers: nothing is lost, whenever the process is killed or the disk is full."""

from __future__ import annotations

import os

import pytest

from skastro.catalogs.journal import JOURNAL_COLUMNS, Answer, LabelJournal
from skastro.catalogs.labels import read_labels

HEADER = ",".join(JOURNAL_COLUMNS) + "\n"
ANSWERS = [
    Answer("7", "star", who="Ann", how="random", seconds="1.5"),
    Answer("8", "", how="skip", comment='a "bright", blue one'),
    Answer("7", "galaxy", who="Zoë", how="undo"),
]


@pytest.fixture
def path(tmp_path):
    return tmp_path / "labels.csv"


def write(path, answers=ANSWERS):
    with LabelJournal(path) as journal:
        journal.append(answers)


def test_answers_are_read_again_in_their_order(path):
    write(path)
    with LabelJournal(path) as journal:
        read = [answer._replace(time="") for answer in journal.answers]
        assert read == ANSWERS
        assert all(answer.time.endswith("+00:00") for answer in journal.answers)
        assert not journal.notes


def test_each_answer_is_one_line_that_is_synced_before_the_next(path, monkeypatch):
    synced = []
    monkeypatch.setattr(os, "fsync", lambda _: synced.append(path.read_text()))
    with LabelJournal(path) as journal:
        for answer in ANSWERS:
            journal.append([answer._replace(comment="two\r\nlines\x00")])
    assert [text.count("\n") for text in synced] == [2, 3, 4]
    assert synced[0].startswith(HEADER)
    assert "two lines\n" in synced[-1]


@pytest.mark.parametrize("share", [0.0, 0.05, 0.3, 0.6, 0.9, 0.999])
def test_a_journal_goes_on_wherever_a_kill_has_cut_it_off(path, share):
    write(path)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(share * len(whole))])
    n_whole = max(path.read_text().count("\n") - 1, 0)
    with LabelJournal(path) as journal:
        assert n_whole <= len(journal.answers) <= n_whole + 1
        journal.append([Answer("9", "quasar")])
        kept = list(journal.answers)
    with LabelJournal(path) as journal:
        assert journal.answers == kept
        assert not journal.notes


def test_a_torn_line_is_removed_with_a_message(path):
    write(path)
    with path.open("a") as file:
        file.write("9,qua")
    with LabelJournal(path) as journal:
        assert len(journal.answers) == 3
        assert "was cut off by an interruption, and is removed: '9,qua'." in journal.notes[0]
    assert path.read_text().endswith("\n")


def test_an_answer_whose_comment_alone_is_torn_is_kept(path):
    path.write_text(HEADER + '9,quasar,2026-01-01T00:00:00+00:00,Ann,random,1.0,"very bl')
    with LabelJournal(path) as journal:
        assert journal.answers[0].class_ == "quasar"


def test_a_second_process_is_refused_until_the_first_ends(path):
    with LabelJournal(path), pytest.raises(FileExistsError, match=r"is open in another `skastro"):
        LabelJournal(path)
    LabelJournal(path).close()


@pytest.mark.parametrize("content", ["id,class\n7,star\n", "id,class\n", "SIMPLE  =  T", "\n\n"])
def test_a_file_that_is_no_journal_is_refused_and_left_alone(path, content):
    path.write_text(content)
    with pytest.raises(ValueError, match=r"is no journal of `skastro label`"):
        LabelJournal(path)
    assert path.read_text() == content
    path.unlink()
    LabelJournal(path).close()  # the lock was given back


def test_a_damaged_line_is_named(path):
    path.write_text(HEADER + "7,star,,,,,\n8,galaxy\n")
    with pytest.raises(ValueError, match="has 2 cells in line 3, not 7: correct this line"):
        LabelJournal(path)


def test_lines_that_an_editor_saved_are_read(path):
    path.write_bytes(
        b"\xef\xbb\xbf" + HEADER.replace("\n", "\r\n").encode() + b"7,star,,,,,\r\n\r\n"
    )
    with LabelJournal(path) as journal:
        assert [answer.id for answer in journal.answers] == ["7"]


def test_a_journal_that_was_edited_or_removed_meanwhile_loses_no_answer(path):
    with LabelJournal(path) as journal:
        journal.append(ANSWERS[:1])
        path.write_text(path.read_text().rstrip("\n"))
        journal.append(ANSWERS[1:2])
        assert path.read_text().count("\n") == 3
        path.unlink()
        journal.append(ANSWERS[2:])
    with LabelJournal(path) as journal:
        assert [answer._replace(time="") for answer in journal.answers] == ANSWERS


def test_a_full_disk_leaves_the_journal_as_it_was(path, monkeypatch):
    def fail(_):
        raise OSError(28, "No space left on device")

    with LabelJournal(path) as journal:
        journal.append(ANSWERS[:1])
        before = path.read_bytes()
        with monkeypatch.context() as patch:
            patch.setattr(os, "fsync", fail)
            with pytest.raises(OSError, match=r"labels.csv cannot be written \(no space is left\)"):
                journal.append(ANSWERS[1:])
        assert path.read_bytes() == before
        journal.append(ANSWERS[1:])
        assert len(journal.answers) == 3


def test_classify_reads_the_last_line_of_each_id(path):
    write(path, [*ANSWERS, Answer("9", "star"), Answer("9", "", how="unsure"), Answer("8", "star")])
    assert read_labels([path], "class", [7, 8, 9, 10])[0].tolist() == ["galaxy", "star", None, None]
