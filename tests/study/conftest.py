import numpy as np
import pytest

from skastro.study.data import load_data
from skastro.study.run import Plan

PLAN = Plan(
    label_counts=(8, 24), n_repeats=2, backbone="stamp_resnet10", max_epochs=1, steps=2,
    finetune=False, side_by_side=False,
)  # fmt: skip


@pytest.fixture(scope="module")
def folder(survey, tmp_path_factory):
    stamps, labels, properties = survey
    folder = tmp_path_factory.mktemp("data") / "fake"
    folder.mkdir()
    table = properties.assign(
        id=[str(1237648720693755918 + row) for row in range(len(labels))],
        err_u=0.1,
        err_g=0.2,
        field=np.arange(len(labels)) // 5,
        ra=150.1234567 + np.arange(len(labels)) / 10,
        dec=-2.7654321,
    )
    table["class"] = labels
    table.loc[:1, "class"] = "unknown"
    table.loc[2, "class"] = None
    table.loc[3, "mag_u"] = np.nan
    table.to_csv(folder / "catalog.csv", index=False)
    np.save(folder / "stamps.npy", stamps)
    return folder


def read(folder, **options):
    return load_data(
        folder, label="class", properties=["mag_*"], errors=["err_*"], **options
    )  # fmt: skip
