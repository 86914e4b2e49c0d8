import pandas as pd
import pytest

from skastro.catalogs.columns import find_column, match_errors, select_columns


@pytest.mark.parametrize(
    ("properties", "errors", "error_of"),
    [
        (["mag_g", "mag_r"], ["err_r", "err_g"], {"mag_g": "err_g", "mag_r": "err_r"}),
        (["u_g", "mag_g", "mag_r"], ["err_g", "err_r"], {"mag_g": "err_g", "mag_r": "err_r"}),
        (["mag_g", "redshift"], ["redshift_err"], {"redshift": "redshift_err"}),
        (["mag_g", "u_g"], ["err_mag_g", "err_u_g"], {"mag_g": "err_mag_g", "u_g": "err_u_g"}),
        (["mag_g", "ext_g"], ["err_g"], {"mag_g": "err_g"}),
        (["size"], ["err_g"], {}),
    ],
)  # fmt: skip
def test_error_columns_are_matched_to_their_properties(properties, errors, error_of):
    assert match_errors(properties, errors) == error_of


@pytest.mark.parametrize(
    ("patterns", "message"),
    [
        (["magg_*"], r"magg_\*.*mag_g"),
        (["*"], r"label column 'class'"),
        (["zzz"], "choose from class, mag_g"),
    ],
)
def test_errors_name_the_pattern_that_is_wrong(patterns, message):
    with pytest.raises(ValueError, match=message):
        select_columns(["class", "mag_g"], patterns, label="class")


def test_columns_are_found_by_their_usual_names():
    frame = pd.DataFrame(columns=["RAJ2000", "DEJ2000", "Filename", "objID"])
    columns = [find_column(frame, kind) for kind in ("ra", "dec", "file", "id", "x")]
    assert columns == ["RAJ2000", "DEJ2000", "Filename", "objID", None]
