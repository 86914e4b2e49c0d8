"""Store embeddings on disk in chunks, each of them complete or missing."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from skastro.catalogs.writing import write_table
from skastro.utils.files import replacing, write_arrays, write_whole
from skastro.utils.packages import import_optional

_MANIFEST_FILE = "_skastro.json"  # readers of Parquet folders skip names that begin with _
_MANIFEST_ATTRIBUTE = "skastro"  # of a Zarr group


@dataclass(frozen=True)
class EmbeddingStore:
    """A folder of ``.npz`` files on disk, one for each chunk of embeddings.

    A chunk is complete or missing. Several processes may write to a store at the same time, each
    its own chunks. Subclasses store chunks in other formats.
    """

    path: Path
    chunk: int  # rows
    ending: ClassVar[str] = ".npz"

    def manifest(self) -> dict[str, Any] | None:
        """Return what the embeddings depend on; None if `embed_survey` did not write the store."""
        file = self.path / _MANIFEST_FILE
        return dict(json.loads(file.read_text(encoding="utf-8"))) if file.is_file() else None

    def create(self, manifest: dict[str, Any], encoder: Any, id_dtype: Any) -> None:  # noqa: ARG002
        """Make an empty store. The manifest is written last."""
        self.path.mkdir()
        if manifest["predict"]:
            names, units = list(encoder.targets_.names), encoder.property_units_
            manifest = {**manifest, "property_names": names, "property_units": units}
        write_whole(self.path / _MANIFEST_FILE, json.dumps(manifest).encode())

    def completed(self) -> set[int]:
        """Return the numbers of the complete chunks."""
        return {int(file.stem.partition("-")[2]) for file in self.path.glob("part-*")}

    def file(self, number: int) -> Path:
        """Return the file of a chunk."""
        return self.path / f"part-{number:07d}{self.ending}"

    def write(self, number: int, ids: Any, values: Any, table: pd.DataFrame | None) -> None:
        """Write a chunk. ``table`` holds its predicted properties, if there are any."""
        arrays = {"ids": ids, "embeddings": values}
        if table is not None:
            arrays["properties"] = table.to_numpy(np.float32)
        with replacing(self.file(number)) as temporary:
            write_arrays(temporary, arrays)

    def read_file(self, path: Path) -> tuple[NDArray[np.float32], NDArray[Any]]:
        """Return embeddings and ids of a chunk."""
        with np.load(path) as arrays:
            return arrays["embeddings"], arrays["ids"]

    def read(self) -> tuple[NDArray[np.float32], NDArray[Any]]:
        """Return all embeddings and ids."""
        n, start, all_ids = (self.manifest() or {})["n"], 0, []
        for number in sorted(self.completed()):
            values, ids = self.read_file(self.file(number))
            if not start:  # one array is filled: a list of parts would need the memory twice
                all_values = np.empty((n, values.shape[1]), np.float32)
            all_values[start : start + len(values)] = values
            all_ids.append(ids)
            start += len(values)
        return all_values, np.concatenate(all_ids)

    def remove_leftovers(self) -> None:
        """Remove the incomplete files of killed workers."""
        for leftover in self.path.glob(".*"):
            leftover.unlink(missing_ok=True)


class _ParquetStore(EmbeddingStore):
    """A folder of Parquet files, which other programs read as one table."""

    ending = ".parquet"

    def write(self, number: int, ids: Any, values: Any, table: pd.DataFrame | None) -> None:
        rows = pd.DataFrame({"id": ids, **{f"e{i}": e for i, e in enumerate(values.T)}})
        if table is not None:
            rows = pd.concat([rows, table], axis=1)
            rows.attrs["units"] = table.attrs.get("units", {})
        write_table(self.file(number), rows)

    def read_file(self, path: Path) -> tuple[NDArray[np.float32], NDArray[Any]]:
        table = pd.read_parquet(path)
        return table.filter(regex=r"^e\d+$").to_numpy(np.float32), table["id"].to_numpy()


class _ZarrStore(EmbeddingStore):
    """A Zarr group of arrays with a file for each chunk, which zarr writes completely."""

    def manifest(self) -> dict[str, Any] | None:
        if not (self.path / "zarr.json").is_file():
            return None
        manifest = _zarr().open_group(str(self.path), mode="r").attrs.get(_MANIFEST_ATTRIBUTE)
        return dict(manifest) if isinstance(manifest, dict) else None

    def create(self, manifest: dict[str, Any], encoder: Any, id_dtype: Any) -> None:
        group = _zarr().create_group(str(self.path))
        arrays: dict[str, tuple[Any, tuple[int, ...]]] = {
            "ids": (str if np.dtype(id_dtype).kind == "U" else id_dtype, ()),
            "embeddings": ("float32", (len(encoder.embedding_mean_),)),
        }
        if manifest["predict"]:
            group.attrs["property_names"] = list(encoder.targets_.names)
            group.attrs["property_units"] = encoder.property_units_
            arrays["properties"] = "float32", (len(encoder.targets_.names),)
        for name, (dtype, width) in arrays.items():
            group.create_array(
                name,
                shape=(manifest["n"], *width),
                dtype=dtype,
                chunks=(self.chunk, *width),
                compressors=None if width else "auto",  # floats of a network hardly compress
                fill_value=float("nan") if width else None,
                chunk_key_encoding={"name": "default", "separator": "."},  # all in one folder
            )
        group.attrs[_MANIFEST_ATTRIBUTE] = manifest

    def completed(self) -> set[int]:
        names = (entry.name.split(".") for entry in os.scandir(self.path / "embeddings"))
        return {int(name[1]) for name in names if name[0] == "c" and name[-1] == "0"}

    def write(self, number: int, ids: Any, values: Any, table: pd.DataFrame | None) -> None:
        group = _zarr().open_group(str(self.path), mode="r+")
        rows = slice(number * self.chunk, number * self.chunk + len(ids))
        group["ids"][rows] = ids
        if table is not None:
            group["properties"][rows] = table.to_numpy(np.float32)
        group["embeddings"][rows] = values  # last, as its file marks the chunk as completed

    def remove_leftovers(self) -> None:
        for leftover in self.path.glob("*/*.partial"):
            leftover.unlink(missing_ok=True)

    def read(self) -> tuple[NDArray[np.float32], NDArray[Any]]:
        group = _zarr().open_group(str(self.path), mode="r")
        ids = group["ids"][:]
        return group["embeddings"][:], ids if ids.dtype.kind in "iu" else np.array(ids.tolist())


STORES = {".zarr": _ZarrStore, ".parquet": _ParquetStore, ".chunks": EmbeddingStore}


def _zarr() -> Any:
    return import_optional("zarr", extra="distributed", needed_by="A .zarr store")
