"""Embeddings on disk in chunks, each of which is there as a whole or not at all.

A store is written by many processes at once, each its own chunks; which are done is read from it.
"""

from __future__ import annotations

import json
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from skastro.catalogs.writing import write_table
from skastro.estimators.encoder import PropertyPretrainedEncoder
from skastro.utils.files import write_atomically
from skastro.utils.packages import import_optional

_MANIFEST = "_skastro.json"  # of a folder of Parquet files, where readers skip it
_KEY = "skastro"  # of the manifest among the attributes of a Zarr store


class Store(Protocol):
    """Rows on disk in chunks, each of which is there as a whole or not at all."""

    path: Path
    chunk: int

    def manifest(self) -> dict[str, Any] | None:
        """Return what the rows depend on, or None if nothing tells."""

    def create(self, job: dict[str, Any], encoder: PropertyPretrainedEncoder, ids: Any) -> None:
        """Make an empty store."""

    def done(self) -> set[int]:
        """Return the numbers of the chunks that are there."""

    def write(
        self, number: int, ids: NDArray[Any], embeddings: NDArray[Any], table: pd.DataFrame | None
    ) -> None:
        """Write a chunk."""

    def finish(self) -> None:
        """Remove what a killed worker has left half written."""

    def read(self) -> tuple[NDArray[np.float32], NDArray[Any]]:
        """Return all embeddings and ids."""


@dataclass(frozen=True)
class _ZarrStore:
    """A Zarr group of arrays with a file for each chunk, which zarr renames into its place."""

    path: Path
    chunk: int

    def manifest(self) -> dict[str, Any] | None:
        if not (self.path / "zarr.json").is_file():
            return None
        found = _zarr().open_group(str(self.path), mode="r").attrs.get(_KEY)
        return dict(found) if isinstance(found, dict) else None

    def create(self, job: dict[str, Any], encoder: PropertyPretrainedEncoder, ids: Any) -> None:
        attributes: dict[str, Any] = {}
        if job["predict"]:
            attributes["property_names"] = encoder.property_names_
            attributes["property_units"] = encoder.property_units_
        group = _zarr().create_group(str(self.path), attributes=attributes)
        n, width = job["n"], len(encoder.embedding_mean_)
        arrays: dict[str, tuple[Any, tuple[int, ...]]] = {
            "ids": (str if np.dtype(ids).kind == "U" else ids, ()),
            "embeddings": ("float32", (width,)),
        }
        if job["predict"]:
            arrays["properties"] = "float32", (len(encoder.property_names_),)
        for name, (dtype, rest) in arrays.items():
            group.create_array(
                name,
                shape=(n, *rest),
                dtype=dtype,
                chunks=(self.chunk, *rest),
                compressors=None if rest else "auto",  # floats of a network hardly compress
                fill_value=float("nan") if rest else None,
                chunk_key_encoding={"name": "default", "separator": "."},  # no folder for each
            )
        group.attrs[_KEY] = job  # last: with it the store is whole

    def done(self) -> set[int]:
        names = (entry.name.split(".") for entry in os.scandir(self.path / "embeddings"))
        return {int(name[1]) for name in names if name[0] == "c" and name[-1] == "0"}

    def write(
        self, number: int, ids: NDArray[Any], embeddings: NDArray[Any], table: pd.DataFrame | None
    ) -> None:
        group = _zarr().open_group(str(self.path), mode="r+")
        rows = slice(number * self.chunk, number * self.chunk + len(ids))
        group["ids"][rows] = ids
        if table is not None:
            group["properties"][rows] = table.to_numpy(np.float32)
        group["embeddings"][rows] = embeddings  # last: its file says that the chunk is done

    def finish(self) -> None:
        for left in self.path.glob("*/*.partial"):
            left.unlink(missing_ok=True)

    def read(self) -> tuple[NDArray[np.float32], NDArray[Any]]:
        group = _zarr().open_group(str(self.path), mode="r")
        ids = group["ids"][:]
        return group["embeddings"][:], ids if ids.dtype.kind in "iu" else np.array(ids.tolist())


@dataclass(frozen=True)
class _ParquetFolder:
    """A folder of Parquet files, one for each chunk."""

    path: Path
    chunk: int

    def manifest(self) -> dict[str, Any] | None:
        file = self.path / _MANIFEST
        return dict(json.loads(file.read_text(encoding="utf-8"))) if file.is_file() else None

    def create(self, job: dict[str, Any], encoder: PropertyPretrainedEncoder, ids: Any) -> None:  # noqa: ARG002
        self.path.mkdir()
        write_atomically(self.path / _MANIFEST, json.dumps(job).encode())

    def done(self) -> set[int]:
        return {int(file.stem.partition("-")[2]) for file in self.path.glob("part-*.parquet")}

    def write(
        self, number: int, ids: NDArray[Any], embeddings: NDArray[Any], table: pd.DataFrame | None
    ) -> None:
        columns = {f"e{i}": column for i, column in enumerate(embeddings.T)}
        part = pd.DataFrame({"id": ids, **columns})
        if table is not None:
            part = pd.concat([part, table], axis=1)
            part.attrs["units"] = table.attrs.get("units", {})
        write_table(self.path / f"part-{number:07d}.parquet", part)

    def finish(self) -> None:
        for left in self.path.glob(".*"):
            left.unlink(missing_ok=True)

    def read(self) -> tuple[NDArray[np.float32], NDArray[Any]]:
        table = pd.read_parquet(self.path)
        width = sum(re.fullmatch(r"e\d+", str(name)) is not None for name in table)
        names = [f"e{i}" for i in range(width)]
        return table[names].to_numpy(np.float32), table["id"].to_numpy()


STORES: dict[str, Any] = {".zarr": _ZarrStore, ".parquet": _ParquetFolder}


def _zarr() -> Any:
    return import_optional("zarr", extra="distributed", needed_by="embed_survey")
