"""Catalogues read from disk; every kind of file is read in test_datasets."""

import pandas as pd
import pytest
from astropy.table import Table

from skastro.catalogs import read_table

LONG_ID = 1237648720693755918  # 19 digits: a float would end in ...904


@pytest.mark.parametrize("suffix", ["csv", "ecsv", "fits"])
def test_long_ids_keep_their_digits_and_short_ones_are_numbers(tmp_path, suffix):
    file = tmp_path / f"any.{suffix}"
    table = Table({"objid": [LONG_ID, 3], "field_id": [1, 2], "mag_r": [18.5, -9999.0]})
    table.write(file)
    catalog = read_table(file)
    assert catalog["objid"].tolist() == [str(LONG_ID), "3"]
    assert catalog["field_id"].dtype == "int64"
    assert catalog["mag_r"].tolist() == [18.5, -9999.0]  # sentinels are the encoder's to find


def test_path_may_be_text_and_gaps_become_nan(tmp_path):
    pd.DataFrame({"id": [1, 2], "mag_r": [18.5, None]}).to_csv(tmp_path / "c.csv", index=False)
    assert read_table(str(tmp_path / "c.csv"))["mag_r"].isna().tolist() == [False, True]
