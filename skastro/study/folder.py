"""What a study has done so far, kept beside its results until these are written."""

from __future__ import annotations

import json
import shutil
from collections import UserDict
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skastro.utils.files import write_atomically, writing
from skastro.utils.packages import library_versions
from skastro.networks.checkpoints import digest_arrays, sample_pixels
from skastro.estimators.encoder import PropertyPretrainedEncoder
from skastro.evaluation.label_efficiency import Cell, Scores
from skastro.study.data import Say, StudyData
from skastro.catalogs.writing import write_arrays

_JOB = "job.json"


class Unfinished:
    """The finished steps of a study, in a folder that the same study goes on from.

    Parameters
    ----------
    folder : Path
        Its parent exists. What another study has left there is deleted.
    job : dict
        What the study depends on, as `describe_job` returns it.
    say : callable
        Told of what was found.

    Attributes
    ----------
    resumed : bool
        Whether an earlier run has left something.
    cells : mutable mapping
        ``finished`` of `label_efficiency_curve`, on disk.
    """

    def __init__(self, folder: Path, job: Mapping[str, Any], say: Say) -> None:
        note, text = folder / _JOB, json.dumps(job, indent=1)
        left = note.read_text(errors="replace") if note.is_file() else None
        self.folder = folder
        self.resumed = left == text
        if left is not None:
            again = "goes on from there" if self.resumed else "was another, and begins anew"
            say(f"An interrupted study is in {folder}: this one {again}.")
        if not self.resumed:
            with writing(folder):
                shutil.rmtree(folder, ignore_errors=True)
                folder.mkdir()
                write_atomically(note, text.encode())
        self.cells = _Cells(folder / "cells.jsonl")

    def encoder(
        self, train: Callable[[Path], PropertyPretrainedEncoder]
    ) -> PropertyPretrainedEncoder:
        """Return the encoder, trained by a function of the folder for its checkpoint, or read."""
        path = self.folder / "encoder.safetensors"
        if not path.is_file():
            encoder = train(self.folder)
            with writing(path):
                encoder.save(path)
        # read in any case: an uninterrupted study computes with the same object
        return PropertyPretrainedEncoder.load(path)

    def arrays(
        self, name: str, compute: Callable[[], Mapping[str, NDArray[Any]]]
    ) -> dict[str, NDArray[Any]]:
        """Return named arrays, computed or read."""
        path = self.folder / f"{name}.npz"
        if not path.is_file():
            partial = self.folder / f"{name}.partial.npz"
            with writing(path):
                write_arrays(partial, compute())
                partial.replace(path)
        with np.load(path, allow_pickle=False) as file:
            return {key: file[key] for key in file.files}


def nothing_is_done(folder: Path) -> bool:
    """Whether there is no finished step in the folder of an `Unfinished`, or no such folder."""
    return not folder.is_dir() or {path.name for path in folder.iterdir()} <= {_JOB}


class _Cells(UserDict[Cell, Scores]):
    """Scores by split, estimator, number of labels and repeat; each a line of a file."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.path = path
        content = path.read_bytes() if path.is_file() else b""
        whole = content[: content.rfind(b"\n") + 1]
        if whole != content:  # killed in the middle of a line
            write_atomically(path, whole)
        for line in whole.splitlines():
            cell, scores, seconds = json.loads(line)
            self.data[tuple(cell)] = scores, seconds

    def __setitem__(self, cell: Cell, result: Scores) -> None:
        scores, seconds = result
        plain = {name: float(score) for name, score in scores.items()}
        line = json.dumps([cell, plain, float(seconds)]) + "\n"
        with writing(self.path), self.path.open("a", encoding="utf-8") as file:
            file.write(line)
        self.data[cell] = plain, float(seconds)


def describe_job(data: StudyData, plan: Any, seed: int) -> dict[str, Any]:
    """Return what the numbers of a study depend on: data, plan, seed and versions.

    Parameters
    ----------
    data : StudyData
        Of the stamps, 64 are compared.
    plan : Plan
    seed : int

    Returns
    -------
    job : dict
        What JSON can hold.
    """
    columns = {"labels": data.labels, "ids": data.ids, "groups": data.groups}
    tables = {"properties": data.properties, "errors": data.errors}
    return {
        "images": [list(map(int, data.images.shape)), str(data.images.dtype)],
        "pixels": sample_pixels(data.images),
        "source": [data.source, data.label, data.group_by, data.error_columns],
        "property_names": [] if data.properties is None else list(map(str, data.properties)),
        **{
            name: None if values is None else digest_arrays(np.asarray(values).astype(str))
            for name, values in columns.items()
        },
        **{
            name: None if values is None else digest_arrays(np.asarray(values))
            for name, values in tables.items()
        },
        "plan": asdict(plan) | {"label_counts": list(plan.label_counts)},
        "seed": seed,
        "versions": library_versions(),
    }
