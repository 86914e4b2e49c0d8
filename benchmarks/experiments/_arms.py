"""Options, features and results that the benchmarks of other representations share."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Collection
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import StandardScaler

from benchmarks._stamps import Task, load_task
from benchmarks.experiments.real_stamps import parse_counts


def make_parser(description: str, *, splits: bool = True) -> argparse.ArgumentParser:
    """Return a parser with the options that all have; those that draw no splits lack one."""
    parser = argparse.ArgumentParser(description=description.splitlines()[0])
    parser.add_argument("--counts", type=parse_counts, default="30,100,300,1000")
    parser.add_argument("--repeats", type=int, default=10, help="label subsets of each size")
    if splits:
        text = "seeds of the test rows"
        parser.add_argument("--splits", type=parse_counts, default="0", help=text)
    parser.add_argument("--stamps", type=int, default=None, help="at most so many, for a trial")
    parser.add_argument("--out", type=Path, default=None, help="JSON; Markdown goes beside it")
    return parser


def rows_of(known: Collection[str]) -> Callable[[str], list[str]]:
    """Return a reader of "one row;another" as names of known rows."""

    def parse_rows(text: str) -> list[str]:
        names = [part.strip() for part in text.split(";")]
        if unknown := [name for name in names if name not in known]:
            raise argparse.ArgumentTypeError(f"{unknown[0]!r} is no row of {', '.join(known)}")
        return names

    return parse_rows


def load_some(name: str, split: int, most: int | None) -> Task:
    """Read a task, or a stratified part of its rows."""
    task = load_task(name, split)
    if most is None or most >= len(task.labels):
        return task
    share = most / len(task.labels)
    train, test = (
        np.sort(
            train_test_split(
                rows, train_size=share, stratify=task.labels[rows], random_state=split
            )[0]
        )
        for rows in (task.train, task.test)
    )
    kept = np.concatenate([train, test])
    return Task(
        task.images[kept],
        task.labels[kept],
        task.properties.iloc[kept].reset_index(drop=True),
        None if task.errors is None else task.errors.iloc[kept].reset_index(drop=True),
        np.arange(len(train)),
        np.arange(len(train), len(kept)),
        task.catalog.iloc[kept].reset_index(drop=True),
    )


def standardised(features: NDArray, train: NDArray[np.int64]) -> NDArray[np.float64]:
    """Centre and scale columns as the training rows say, like the embeddings of an encoder."""
    return StandardScaler().fit(features[train]).transform(features)
