"""Real stamps for benchmarks, from SKASTRO_DATA or ../shared/data, and their splits."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.model_selection import train_test_split

from skastro import load_folder

PROPERTIES = {
    "sdss": (
        [f"mag_{band}" for band in "ugriz"],
        [f"err_{band}" for band in "ugriz"],
    ),
    "efigi": (["redshift", "log_d25_01arcmin", "log_r25", "B_T_mag", "B_V_T"], None),
}
LEFT_OUT = {"sdss": "unknown", "efigi": "dwarf_spheroidal"}


class Task(NamedTuple):
    """Stamps, classes and properties of a task, with its training and test rows."""

    images: NDArray
    labels: NDArray
    properties: pd.DataFrame
    errors: pd.DataFrame | None
    train: NDArray[np.int64]
    test: NDArray[np.int64]
    catalog: pd.DataFrame  # all columns, labels too


def find_folder(name: str) -> Path:
    """Return the folder of "sdss" or "efigi" stamps, or stop with a word on where they belong."""
    roots = [os.environ.get("SKASTRO_DATA"), Path(__file__).parents[2] / "shared" / "data"]
    folder = next((Path(r) / name for r in roots if r and (Path(r) / name).is_dir()), None)
    if folder is None:
        sys.exit(f"the {name} stamps are neither in SKASTRO_DATA nor in ../shared/data: skipped.")
    return folder


def load_task(name: str, seed: int = 0) -> Task:
    """Read "sdss" or "efigi"; 30 % of the rows, stratified, are test rows."""
    data = load_folder(find_folder(name), label="class")
    keep = np.flatnonzero(data.target != LEFT_OUT[name])
    names, errors = PROPERTIES[name]
    catalog = data.catalog.iloc[keep].reset_index(drop=True)
    labels = catalog["class"].to_numpy(dtype=str)
    train, test = train_test_split(
        np.arange(len(keep)), test_size=0.3, stratify=labels, random_state=seed
    )
    return Task(
        np.asarray(data.images[keep]),
        labels,
        catalog[names],
        catalog[errors] if errors else None,
        train,
        test,
        catalog,
    )


def label_subsets(task: Task, count: int, repeats: int) -> list[NDArray[np.int64]]:
    """Return stratified subsets of the training rows, the same for every caller."""
    if count >= len(task.train):
        return [task.train]
    return [
        train_test_split(
            task.train, train_size=count, stratify=task.labels[task.train], random_state=seed
        )[0]
        for seed in range(repeats)
    ]
