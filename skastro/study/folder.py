"""What a study has done so far, kept beside its results until these are written."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from contextlib import contextmanager
import shutil
from skastro.utils.files import writing
from skastro.study.results import STUDY_FILES
from typing import Any
from collections.abc import Callable
from collections.abc import Mapping
from numpy.typing import NDArray
from skastro.estimators.encoder import PropertyPretrainedEncoder
from skastro.utils.progress import Say
import json
import numpy as np
from skastro.utils.files import write_arrays
from skastro.utils.files import write_atomically
from skastro.evaluation.label_efficiency import Cell
from skastro.evaluation.label_efficiency import Scores
from collections import UserDict
from skastro.study.data import StudyData
from dataclasses import asdict
from skastro.utils.files import digest_arrays
from skastro.utils.packages import library_versions
from skastro.stamps.arrays import sample_pixels

FINISHED_STEPS = "done"  # beside the results, until they are written

@contextmanager
def replace_folder(out: Path, *, overwrite: bool) -> Iterator[Path]:
    """Give a temporary folder that takes the place of ``out`` when all has worked.

    It lies in a folder beside ``out`` that stays, with what else is there, if something fails.
    """
    check_out(out, overwrite=overwrite)
    out = out.absolute()
    partial = out.with_name(f".{out.name}.partial")
    temporary = partial / "results"
    with writing(out):
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir(parents=True)
    try:
        yield temporary
        _take_place(temporary, out)
        shutil.rmtree(partial, ignore_errors=True)
    except BaseException as error:
        shutil.rmtree(temporary, ignore_errors=True)
        if nothing_is_done(partial / FINISHED_STEPS):
            shutil.rmtree(partial, ignore_errors=True)
        if isinstance(error, KeyboardInterrupt) and partial.exists():
            raise KeyboardInterrupt("the same study goes on from here.") from error
        raise

def check_out(out: str | Path, *, overwrite: bool = False) -> None:
    """Refuse a folder for results that holds other things than an earlier study.

    Parameters
    ----------
    out : path
    overwrite : bool, default=False
        Allow it.

    Raises
    ------
    ValueError
        It is a file, or holds files that no study has written.
    """
    out = Path(out).expanduser()
    if out.exists() and not out.is_dir():
        raise ValueError(f"out={str(out)!r} is a file: name a folder for the results.")
    foreign = _foreign_files(out)
    if foreign and not overwrite:
        raise ValueError(
            f"out={str(out)!r} holds {foreign[0]!r}, which is not an earlier study's: choose "
            "another folder, or overwrite (--overwrite)."
        )

def _foreign_files(out: Path) -> list[str]:
    names = sorted(path.name for path in out.iterdir()) if out.is_dir() else []
    config = out / "config.json"
    # files of the same names beside a config.json that is not ours are somebody else's
    is_study = config.is_file() and '"skastro"' in config.read_text(errors="replace")
    return [name for name in names if not (is_study and name in STUDY_FILES)]

def _take_place(temporary: Path, out: Path) -> None:
    if _foreign_files(out):
        for name in STUDY_FILES - {path.name for path in temporary.iterdir()}:
            (out / name).unlink(missing_ok=True)
        for path in temporary.iterdir():
            path.replace(out / path.name)
        return
    if out.exists():
        earlier = temporary.with_name(f"{temporary.name}.earlier")
        out.rename(earlier)
        temporary.rename(out)
        shutil.rmtree(earlier)
        return
    temporary.rename(out)

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
