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

FINISHED_STEPS = "done"  # folder of the finished steps of a study, until its results are written
_CONFIG = "config.json"  # every folder of results has it
_JOB = "job.json"  # describes the study to which the finished steps belong


@contextmanager
def replace_folder(out: Path, *, overwrite: bool) -> Iterator[Path]:
    """Yield a temporary folder that replaces ``out`` when the block ends without an error.

    It is ``.<name>.partial/results`` in the parent of ``out``. After an error ``.<name>.partial``
    stays if it has finished steps of the study, from which the same study resumes.
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
    """Refuse a folder for results that is a file, or holds files that no study has written.

    ``overwrite`` accepts such files.
    """
    out = Path(out).expanduser()
    foreign, config = list_out(out), out / _CONFIG
    # without a config.json of skastro, files of the same names are not results of a study
    if config.is_file() and '"skastro"' in config.read_text(errors="replace"):
        foreign = [name for name in foreign if name not in STUDY_FILES]
    if foreign and not overwrite:
        raise ValueError(
            f"out={str(out)!r} holds {foreign[0]!r}, which is not an earlier study's: choose "
            "another folder, or overwrite (--overwrite)."
        )


class Unfinished:
    """Finished steps of a study, in a folder from which the same study resumes.

    ``job`` is what the results depend on, by `describe_job`. Steps of another job are deleted.
    ``cells`` is the mapping ``finished`` of `label_efficiency_curve`, on disk.
    """

    def __init__(self, folder: Path, job: Mapping[str, Any], say: Say) -> None:
        note, text = folder / _JOB, json.dumps(job, indent=1)
        earlier = note.read_text(errors="replace") if note.is_file() else None
        self.folder = folder
        self.resumed = earlier == text  # whether steps of an earlier run are used
        if earlier is not None:
            if self.resumed:
                say(f"{folder} holds finished steps of this study: they are not repeated.")
            else:
                say(f"{folder} holds steps of another study: they are deleted.")
        if not self.resumed:
            with writing(folder):
                shutil.rmtree(folder, ignore_errors=True)
                folder.mkdir()
            write_whole(note, text.encode())
        self.cells = _Cells(folder / "cells.jsonl")

    def encoder(
        self, train: Callable[[Path], PropertyPretrainedEncoder]
    ) -> PropertyPretrainedEncoder:
        """Read the encoder, after training it with checkpoints in this folder if none is saved."""
        path = self.folder / "encoder.safetensors"
        if not path.is_file():
            train(self.folder).save(path)
        # a new encoder is read too: resumed and uninterrupted studies then use the same object
        return PropertyPretrainedEncoder.load(path)

    def representations(
        self, compute: Callable[[], Mapping[str, NDArray[Any]]]
    ) -> dict[str, NDArray[Any]]:
        """Read the representations, after computing them if none are saved."""
        path = self.folder / "representations.npz"
        if not path.is_file():
            arrays = compute()
            with replacing(path) as temporary:
                write_arrays(temporary, arrays)
        with np.load(path, allow_pickle=False) as file:
            return {key: file[key] for key in file.files}


def nothing_is_done(folder: Path) -> bool:
    """Return whether the folder of an `Unfinished` is missing or holds no finished step."""
    return not folder.is_dir() or {path.name for path in folder.iterdir()} <= {_JOB}


class _Cells(UserDict[Cell, Scores]):
    """Scores of the fits of a curve, also written to a file with one line for each fit."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.path = path
        content = path.read_bytes() if path.is_file() else b""
        lines, _, broken = content.rpartition(b"\n")
        if broken:  # the earlier process was killed while it wrote this line
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

    The pixels are represented by those of 64 stamps.
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
