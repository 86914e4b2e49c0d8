import warnings

import numpy as np
import pandas as pd
import pytest
from astropy.table import Table

from skastro.utils.validation import (
    check_labels,
    check_properties,
    check_property_errors,
    draw_seed,
    is_continuous,
    plain_rows,
    warn_of_order,
)


def test_properties_keep_their_names_and_units():
    table = Table({"mag_r": [20.0, 21.0], "z": [1, 2]}, units={"mag_r": "mag"})
    checked = check_properties(table, 2)
    assert list(checked) == ["mag_r", "z"]
    assert checked.attrs["units"] == {"mag_r": "mag"}
    assert (checked.dtypes == np.float64).all()
    assert list(check_properties(np.zeros((2, 2)), 2)) == ["property_0", "property_1"]
    assert list(check_properties(pd.Series([1.0, 2.0], name="z"), 2)) == ["z"]


def test_sentinels_become_missing_with_one_message():
    with pytest.warns(UserWarning, match="3 sentinel values") as caught:
        table = check_properties(np.array([[99, 1], [2, -999], [-9999, 3.0]]), 3)
    assert len(caught) == 1
    assert table.isna().to_numpy().sum() == 3


def test_masked_properties_are_missing():
    table = check_properties(np.ma.masked_equal([[1.0, 2.0], [3.0, 4.0]], 4.0), 2)
    assert np.isnan(table.iloc[1, 1])
    masked = Table({"a": np.ma.masked_equal([1, 2, 3], 2)})
    assert np.isnan(check_properties(masked, 3)["a"][1])


@pytest.mark.parametrize(
    ("properties", "message"),
    [
        (np.zeros((3, 1)), "properties has 3 rows, but X has 2 stamps"),
        (pd.DataFrame({"a": [1.0, np.inf]}), "column 'a' is infinite in row 1"),
        (pd.DataFrame({"a": ["faint", "1"]}), "column 'a' holds 'faint' in row 0"),
        (pd.DataFrame({"a": [np.nan, np.nan]}), "column 'a' has no value in any row"),
        (pd.DataFrame([[1, 2], [3, 4]], columns=["a", "a"]), "two columns named 'a'"),
        (np.zeros((2, 2, 2)), "has shape"),
    ],
)
def test_errors_name_the_property_that_is_wrong(properties, message):
    with pytest.raises(ValueError, match=message):
        check_properties(properties, 2)


def test_a_row_without_any_property_is_allowed():
    assert len(check_properties([[1.0, 2.0], [np.nan, np.nan]], 2)) == 2


def test_property_errors_have_the_shape_of_the_properties():
    table = check_properties(np.ones((2, 2)), 2)
    errors = check_property_errors([[0.1, 999], [0.2, np.nan]], table)
    assert np.isnan(errors[:, 1]).all()
    with pytest.raises(ValueError, match="shape"):
        check_property_errors([[0.1], [0.2]], table)
    with pytest.raises(ValueError, match="'property_0' is negative in row 1"):
        check_property_errors([[0.1, 0.1], [-0.2, 0.1]], table)


@pytest.mark.parametrize(
    ("y", "expected"),
    [
        (None, False),
        ([0, 1, 2], False),
        (["a", "b"], False),
        ([0.0, 1.0], False),
        ([0.5, 1.2], True),
        ([[0.5, 1.0], [0.1, 0.2]], True),
        ([0.5, np.nan], True),
    ],
)
def test_only_measurements_are_continuous(y, expected):
    assert is_continuous(y) is expected


@pytest.mark.parametrize(
    ("y", "classes", "codes"),
    [
        ([3, -1, 7], [3, 7], [0, -1, 1]),
        ([1, -1, 1], [-1, 1], [1, 0, 1]),
        ([True, False, True], [False, True], [1, 0, 1]),
        ([1.0, np.nan, 0.0], [0.0, 1.0], [1, -1, 0]),
        (np.array(["b", None, "a", np.nan, ""], dtype=object), ["a", "b"], [1, -1, 0, -1, -1]),
        (pd.Series(["b", None, "a"], dtype="string"), ["a", "b"], [1, -1, 0]),
        (pd.Categorical(["b", "a"]), ["a", "b"], [1, 0]),
        (np.array(["b", "a", "null"], np.dtypes.StringDType()), ["a", "b"], [1, 0, -1]),
        (["b", "a", "NULL", "NA", "n/a"], ["a", "b"], [1, 0, -1, -1, -1]),
    ],
)
def test_labels_may_have_any_dtype(y, classes, codes):
    got_classes, got_codes = check_labels(y)
    assert got_classes.tolist() == classes
    assert got_codes.tolist() == codes


@pytest.mark.parametrize("y", [[-1, -1], ["", ""], [np.nan]])
def test_labels_without_any_class_are_refused(y):
    with pytest.raises(ValueError, match="y holds no label"):
        check_labels(y)


def test_continuous_labels_are_refused():
    with pytest.raises(ValueError, match="Unknown label type"):
        check_labels([0.5, 1.7])


def test_drawing_a_seed_does_not_change_the_global_generator():
    before = np.random.get_state()[1].copy()  # noqa: NPY002
    assert draw_seed(3) == 3
    assert draw_seed(None) != draw_seed(None)
    assert draw_seed(np.random.RandomState(0)) == draw_seed(np.random.RandomState(0))
    np.testing.assert_array_equal(np.random.get_state()[1], before)  # noqa: NPY002
    with pytest.raises(ValueError, match="random_state=-1"):
        draw_seed(-1)


TABLE = pd.DataFrame({"mag_r": [19.0, 20.0, 21.0]}, index=["a", "b", "c"])


class Files(list):
    """Stamps of files, which know the ids of their objects."""

    ids = np.array(["a", "b", "c"])


@pytest.mark.parametrize(
    ("tables", "message"),
    [
        ({"X": [0] * 3, "y": pd.Series([1, 2, 3])[::-1]}, "index of y has the rows of X in"),
        ({"X": Files([0] * 3), "properties": TABLE[::-1]}, "index of properties has the rows of X"),
        ({"properties": TABLE, "property_errors": TABLE.iloc[[1, 0, 2]]}, "rows of properties in"),
    ],
)
def test_rows_in_another_order_are_said_once(tables, message):
    with pytest.warns(UserWarning, match=message) as caught:
        warn_of_order(**tables)
    assert len(caught) == 1


def test_an_index_that_says_nothing_about_the_order_is_accepted():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warn_of_order(X=[0] * 3, y=None, properties=TABLE[::-1])  # names, which X has not
        warn_of_order(X=[0] * 3, properties=TABLE.reset_index().set_index([[5, 3, 4]]))  # a draw
        warn_of_order(X=[0] * 3, properties=TABLE[::-1].reset_index(), y=[3, 1, 2])
        warn_of_order(properties=TABLE, property_errors=TABLE.copy())


def test_files_in_place_of_embeddings_are_refused():
    with pytest.raises(ValueError, match=r"pass read_embeddings\('e.parquet'\)\.values"):
        plain_rows("e.parquet")
