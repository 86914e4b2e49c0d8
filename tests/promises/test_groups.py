"""Every entrance for groups refuses missing values, which would otherwise become one group."""

import numpy as np
import pandas as pd
import pytest

from skastro import (
    LinearProbe,
    SelfSupervisedClassifier,
    compare_representations,
    label_efficiency_curve,
    property_ablation,
    score_embedding,
    suggest_labels,
)
from skastro.study.data import StudyData, load_data
from skastro.study.run import Plan, run_study
from tests.conftest import make_stamps, tiny_encoder

STAMPS, LABELS, PROPERTIES = make_stamps()
N = len(LABELS)
COLUMNS = np.random.default_rng(0).normal(size=(N, 4))


def load(groups, folder):
    table = PROPERTIES.assign(label=LABELS, field=groups)
    table.to_csv(folder / "catalog.csv", index=False)
    np.save(folder / "stamps.npy", STAMPS)
    return load_data(folder, label="label", groups="field")


ENTRANCES = {
    "curve": lambda groups, _: label_efficiency_curve(
        {"probe": LinearProbe()}, COLUMNS, LABELS, label_counts=[10], groups=groups
    ),
    "ablation": lambda groups, _: property_ablation(
        tiny_encoder(), STAMPS, LABELS, properties=PROPERTIES, sets={"size": "size"},
        label_counts=[10], groups=groups,
    ),
    "classifier": lambda groups, _: SelfSupervisedClassifier(tiny_encoder()).fit(
        STAMPS, LABELS, groups=groups
    ),
    "linear probe": lambda groups, _: LinearProbe().fit(COLUMNS, LABELS, groups=groups),
    "score": lambda groups, _: score_embedding(COLUMNS, LABELS, groups=groups),
    "compare": lambda groups, _: compare_representations(
        {"a": COLUMNS}, LABELS, groups=groups
    ),
    "suggest": lambda groups, _: suggest_labels(COLUMNS, LABELS, n=2, groups=groups),
    "study": lambda groups, folder: run_study(
        StudyData(STAMPS, LABELS, np.arange(N), groups=groups), folder / "out", plan=Plan()
    ),
    "data": load,
}  # fmt: skip


NUMBERS = np.arange(N) % 5.0
TEXT = np.array([f"field {row % 5}" for row in range(N)], dtype=object)


@pytest.mark.parametrize(
    ("groups", "missing"), [(NUMBERS, np.nan), (TEXT, np.nan), (TEXT, None), (TEXT, pd.NA)]
)
@pytest.mark.parametrize("entrance", ENTRANCES.values(), ids=ENTRANCES)
def test_missing_groups_are_refused(entrance, groups, missing, tmp_path):
    groups = groups.copy()
    groups[[4, 7]] = missing
    with pytest.raises(ValueError, match=r"groups has no value in row 4 \(2 such rows\)"):
        entrance(groups, tmp_path)


@pytest.mark.parametrize(
    "name", sorted(set(ENTRANCES) - {"data"})
)  # columns have a value for each row
def test_one_group_a_row_is_asked_for(name, tmp_path):
    with pytest.raises(ValueError, match=r"groups has shape \(3,\), but .* rows"):
        ENTRANCES[name](np.arange(3), tmp_path)
