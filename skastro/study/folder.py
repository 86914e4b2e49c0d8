"""Keep the results of a study in a folder, and its finished steps until these are complete."""

from __future__ import annotations

import json
import shutil
from collections import UserDict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skastro.estimators.encoder import PropertyPretrainedEncoder
from skastro.evaluation.label_efficiency import Cell, Scores
from skastro.stamps.arrays import sample_pixels
from skastro.study.data import StudyData
from skastro.study.results import STUDY_FILES
from skastro.utils.files import (
    digest_arrays,
    list_out,
    replacing,
    replacing_folder,
    write_arrays,
    write_whole,
    writing,
)
from skastro.utils.packages import library_versions
from skastro.utils.progress import Say

FINISHED_STEPS = "done"  # folder beside the results until they are written
_CONFIG = "config.json"  # marks the results of a study
_JOB = "job.json"  # describes the study whose steps are finished


@contextmanager
def replace_folder(out: Path, *, overwrite: bool) -> Iterator[Path]:
    """Give a temporary folder that takes the place of ``out`` when all has worked.

    It lies in a folder beside ``out``. After a failure that folder stays, with the finished steps
    of the study, from which the same study resumes.
    """
    check_out(out, overwrite=overwrite)
    out = out.absolute()
    partial = out.with_name(f".{out.name}.partial")
    names = sorted(STUDY_FILES, key=lambda name: name != _CONFIG)
    try:
        with replacing_folder(out, names, temporary=partial / "results") as temporary:
            yield temporary
        shutil.rmtree(partial, ignore_errors=True)
    except BaseException as error:
        if nothing_is_done(partial / FINISHED_STEPS):
            shutil.rmtree(partial, ignore_errors=True)
        if isinstance(error, KeyboardInterrupt) and partial.exists():
            raise KeyboardInterrupt("the same study goes on from here.") from error
        raise


def check_out(out: str | Path, *, overwrite: bool = False) -> None:
    """Refuse a folder for results that holds other files than those of an earlier study.

    Parameters
    ----------
    out : path
        Folder for the results.
    overwrite : bool, default=False
        Whether to accept a folder with other files.

    Raises
    ------
    ValueError
        ``out`` is a file, or holds files that no study has written.
    """
    out = Path(out).expanduser()
    foreign, config = list_out(out), out / _CONFIG
    # Without a config.json of skastro, files of the same names are not results of a study.
    if config.is_file() and '"skastro"' in config.read_text(errors="replace"):
        foreign = [name for name in foreign if name not in STUDY_FILES]
    if foreign and not overwrite:
        raise ValueError(
            f"out={str(out)!r} holds {foreign[0]!r}, which is not an earlier study's: choose "
            "another folder, or overwrite (--overwrite)."
        )


class Unfinished:
    """Finished steps of a study, in a folder from which the same study resumes.

    Parameters
    ----------
    folder : Path
        Its parent exists. Steps of another study in it are deleted.
    job : dict
        What the results depend on, as `describe_job` returns it.
    say : callable
        Called with a sentence if steps of an earlier run are found.

    Attributes
    ----------
    resumed : bool
        Whether steps of an earlier run of this study are used.
    cells : mutable mapping
        ``finished`` of `label_efficiency_curve`, on disk.
    """

    def __init__(self, folder: Path, job: Mapping[str, Any], say: Say) -> None:
        note, text = folder / _JOB, json.dumps(job, indent=1)
        earlier = note.read_text(errors="replace") if note.is_file() else None
        self.folder = folder
        self.resumed = earlier == text
        if earlier is not None:
            action = "goes on from there" if self.resumed else "was another, and begins anew"
            say(f"An interrupted study is in {folder}: this one {action}.")
        if not self.resumed:
            with writing(folder):
                shutil.rmtree(folder, ignore_errors=True)
                folder.mkdir()
            write_whole(note, text.encode())
        self.cells = _Cells(folder / "cells.jsonl")

    def encoder(
        self, train: Callable[[Path], PropertyPretrainedEncoder]
    ) -> PropertyPretrainedEncoder:
        """Return the encoder: read, or trained by a function of the folder for checkpoints."""
        path = self.folder / "encoder.safetensors"
        if not path.is_file():
            train(self.folder).save(path)
        # a new encoder is read too, so that interrupted and whole studies use the same object
        return PropertyPretrainedEncoder.load(path)

    def representations(
        self, compute: Callable[[], Mapping[str, NDArray[Any]]]
    ) -> dict[str, NDArray[Any]]:
        """Return the representations: read, or computed by a function."""
        path = self.folder / "representations.npz"
        if not path.is_file():
            arrays = compute()
            with replacing(path) as temporary:
                write_arrays(temporary, arrays)
        with np.load(path, allow_pickle=False) as file:
            return {key: file[key] for key in file.files}


def nothing_is_done(folder: Path) -> bool:
    """Whether the folder of an `Unfinished` is missing or holds no finished step."""
    return not folder.is_dir() or {path.name for path in folder.iterdir()} <= {_JOB}


class _Cells(UserDict[Cell, Scores]):
    """Scores of the fits of a curve, one line of a file for each fit."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.path = path
        content = path.read_bytes() if path.is_file() else b""
        lines, _, broken = content.rpartition(b"\n")
        if broken:  # by a kill in the middle of a line
            write_whole(path, lines + b"\n" if lines else b"")
        for line in lines.splitlines():
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
    """Return what the results of a study depend on: data, plan, seed and versions, for JSON.

    Of the pixels, 64 stamps are compared.
    """
    job: dict[str, Any] = {
        "images": [list(map(int, data.images.shape)), str(data.images.dtype)],
        "pixels": sample_pixels(data.images),
        "source": [data.source, data.label, data.group_by, data.error_columns],
        "property_names": [] if data.properties is None else list(map(str, data.properties)),
        "plan": asdict(plan) | {"label_counts": list(plan.label_counts)},
        "seed": seed,
        "versions": library_versions(),
    }
    for name in ("labels", "ids", "groups", "properties", "errors"):
        values = getattr(data, name)
        if values is not None:
            values = np.asarray(values)
            numeric = name in ("properties", "errors")
            job[name] = digest_arrays(values if numeric else values.astype(str))
    return job
