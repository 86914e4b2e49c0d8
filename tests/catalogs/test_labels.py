import numpy as np
import pandas as pd
import pytest

from skastro.catalogs.labels import clean_labels, read_labels


def test_labels_of_any_type_become_text():
    assert set(clean_labels(np.repeat([0, 1, -1], 20))) == {"0", "1", ""}
    assert set(clean_labels(np.repeat([0.0, 1.0, np.nan], 20))) == {"0", "1", ""}
    assert set(clean_labels(np.repeat([True, False], 20))) == {"True", "False"}


def test_missing_classes_of_any_kind_are_unlabelled():
    masked = np.ma.array([0, 1, 99] * 20, mask=[False, False, True] * 20)
    text = np.ma.array(["a", "b", "??"] * 20, mask=[False, False, True] * 20)
    assert set(clean_labels(masked)) == {"0", "1", ""}
    assert set(clean_labels(text)) == {"a", "b", ""}
    assert set(clean_labels(pd.Series([0, 1, None] * 20, dtype="Int64"))) == {"0", "1", ""}
    assert set(clean_labels(["a", "b", None, np.nan, " ", "-1"] * 20)) == {"a", "b", ""}


def test_white_space_makes_no_class_and_case_gives_a_warning():
    column = ["STAR", "STAR  ", "\xa0STAR", b"STAR", "QSO\t", "QSO"] * 20
    assert pd.Series(clean_labels(column)).value_counts().to_dict() == {"STAR": 80, "QSO": 40}
    with pytest.warns(UserWarning, match="count as several: 'Star' and 'star'"):
        clean_labels(["Star", "star"] * 20)


def test_rare_and_unwanted_classes_become_unlabelled_with_a_message():
    messages = []
    column = np.array(["a"] * 30 + ["b"] * 30 + ["c"] * 30 + ["rare"] * 19, dtype=object)
    assert set(clean_labels(column, say=messages.append)) == {"a", "b", "c", ""}
    assert "rare" in messages[0]
    assert set(clean_labels(column, classes=["a", "c"])) == {"a", "c", ""}


@pytest.mark.parametrize(
    ("column", "options", "message"),
    [
        (np.linspace(0, 1, 60), {}, "measurements"),
        (np.arange(60), {}, "fewer than two classes"),
        (np.repeat(["a", "b"], 30), {"classes": ["a", "z"]}, "'z'.* it has a, b"),
    ],
)
def test_unusable_labels_are_refused(column, options, message):
    with pytest.raises(ValueError, match=message):
        clean_labels(column, **options)


def write_labels(path, rows, label="class"):
    pd.DataFrame(rows, columns=["id", label]).to_csv(path, index=False)
    return path


def test_labels_of_several_tables_are_joined(tmp_path):
    first = write_labels(tmp_path / "a.csv", [(1, "star"), (2, ""), (9, "galaxy")])
    second = write_labels(tmp_path / "b.csv", [(2, "galaxy"), (1, "star")])
    labels, notes = read_labels([first, second], "class", [2, 1, 3])
    assert labels.tolist() == ["galaxy", "star", None]
    assert notes == [f"1 of the 2 labels in {first} are of other objects."]


@pytest.mark.parametrize(
    ("rows", "label", "message"),
    [
        ([(1, "galaxy")], "class", "labels 1 as 'galaxy', another table as 'star'"),
        ([(7, "star")], "class", "no id of the data"),
        ([(1, "star"), (1, "star")], "class", "the id '1' more than once"),
        ([(1, "star")], "kind", "no column 'class'"),
        ([], "class", "has no row"),
    ],
)
def test_tables_of_labels_that_do_not_fit_are_refused(tmp_path, rows, label, message):
    first = write_labels(tmp_path / "a.csv", [(1, "star")])
    second = write_labels(tmp_path / "b.csv", rows, label)
    with pytest.raises(ValueError, match=message):
        read_labels([first, second], "class", [1, 2])


def test_tables_of_labels_may_have_other_names_of_ids_and_padding(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("objID,class\n1 , star\n2,galaxy  \n3,  \n4,nan\n")
    labels, _ = read_labels([path], "class", ["1", " 2", 3, 4])
    assert labels.tolist() == ["star", "galaxy", None, None]
    path.write_text("colour,class\nred,star\n")
    with pytest.raises(ValueError, match="has no column of ids: call it 'id'"):
        read_labels([path], "class", [1])


def test_the_message_about_rare_classes_names_some_and_counts_the_others():
    messages = []
    clean_labels([*"ab" * 20, *"ccdefghi"], say=messages.append)
    assert messages[0].startswith("'c' (2 rows), ")
    assert "(1 row), 3 others (3 rows) are too rare to learn (under 20 rows)" in messages[0]
