"""Read tables in Parquet and Arrow files and data sets by part, and nested lists as arrays."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from skastro.utils.files import UnfitError
from skastro.utils.packages import import_optional

_BUFFER_BYTES = 2**20  # of a file that are read at a time


class BlockCache:
    """Decoded blocks of a table, and the place where it is read, which are never pickled."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.blocks: OrderedDict[tuple[int, int], NDArray[Any]] = OrderedDict()
        self.file: tuple[int, Any] | None = None  # number of the file, and the open file
        self.group, self.next = -1, 0  # of the group that is read, and its next block
        self.tables: Iterator[Any] = iter(())

    def __reduce__(self) -> Any:
        return BlockCache, ()


def cut_blocks(batches: Iterator[Any], size: int) -> Iterator[Any]:
    """Yield tables of so many rows, of which the last may have fewer."""
    arrow = import_optional("pyarrow", extra="data", needed_by="Reading tables")
    parts: list[Any] = []
    for batch in batches:
        start = 0
        while start < len(batch):
            parts.append(batch.slice(start, size - sum(map(len, parts))))
            start += len(parts[-1])
            if sum(map(len, parts)) == size:
                yield _check(arrow.Table.from_batches(parts))
                parts = []
    if parts:
        yield _check(arrow.Table.from_batches(parts))


def _check(table: Any) -> Any:
    """Refuse a damaged table, whose lists could lie outside the memory."""
    table.validate(full=True)
    return table


class _ParquetTable:
    """An open Parquet file."""

    def __init__(self, path: Path) -> None:
        parquet = import_optional("pyarrow.parquet", extra="data", needed_by=f"Reading {path}")
        self.path = path
        self.file = parquet.ParquetFile(path, buffer_size=_BUFFER_BYTES, pre_buffer=False)
        self.schema = self.file.schema_arrow
        metadata = self.file.metadata
        self.lengths = [metadata.row_group(i).num_rows for i in range(metadata.num_row_groups)]

    def read_group(self, number: int, size: int, names: Sequence[str]) -> Iterator[Any]:
        return self.file.iter_batches(
            size, row_groups=[number], columns=list(names), use_threads=False
        )

    def read_columns(self, names: Sequence[str] | None) -> pd.DataFrame:
        with self.path.open("rb") as file:  # a path would add columns for folders such as Dir=0
            return pd.read_parquet(
                file, columns=names and list(names), dtype_backend="numpy_nullable"
            )


class _ArrowTable:
    """An open Arrow file, or one in the form of a stream, as ``datasets`` writes it."""

    def __init__(self, path: Path) -> None:
        arrow = import_optional("pyarrow", extra="data", needed_by=f"Reading {path}")
        with path.open("rb") as file:
            is_file = file.read(6) == b"ARROW1"
        memory = arrow.memory_map(str(path))  # pixels stay on the disk
        stream = (arrow.ipc.open_file if is_file else arrow.ipc.open_stream)(memory)
        self.schema = stream.schema
        self.batches = [b for b in stream.read_all().to_batches() if len(b)]
        self.lengths = list(map(len, self.batches))

    def read_group(self, number: int, size: int, names: Sequence[str]) -> Iterator[Any]:
        columns = dict.fromkeys(
            name if name in self.schema.names else name.partition(".")[0] for name in names
        )
        batch = self.batches[number].select(list(columns))
        return (batch.slice(start, size) for start in range(0, len(batch), size))

    def read_columns(self, names: Sequence[str] | None) -> pd.DataFrame:
        arrow = import_optional("pyarrow", extra="data", needed_by="Reading tables")
        table = _check(arrow.Table.from_batches(self.batches, self.schema))
        return _to_frame(table if names is None else table.select(list(names)))


class DatasetTable:
    """A ``datasets.Dataset`` or a table of pyarrow, with the methods of an open file.

    It is one group of rows.
    """

    def __init__(self, data: Any) -> None:
        self.data = data
        self.schema = take_rows(data, [0], data.column_names).schema
        self.lengths = [len(data)]

    def read_group(self, number: int, size: int, names: Sequence[str]) -> Iterator[Any]:
        """Yield parts of the rows as tables."""
        for start in range(0, self.lengths[number], size):
            yield take_rows(self.data, range(start, min(start + size, len(self.data))), names)

    def read_columns(self, names: Sequence[str] | None) -> pd.DataFrame:
        """Return columns of numbers and text."""
        chosen = self.data.column_names if names is None else names
        if not chosen:  # a data set without columns has no rows
            return pd.DataFrame(index=range(len(self.data)))
        return _to_frame(take_rows(self.data, range(len(self.data)), chosen))


def is_dataset(X: Any) -> bool:
    """Return whether X is a ``datasets.Dataset`` or a table of pyarrow, by its attributes."""
    is_table = hasattr(X, "column_names") and hasattr(X, "__len__") and not isinstance(X, Mapping)
    return is_table and (hasattr(X, "with_format") or hasattr(X, "combine_chunks"))


def refuse_splits(X: Any, name: str) -> None:
    """Refuse several data sets of HuggingFace, and those that are streamed."""
    if not hasattr(X, "with_format") or is_dataset(X):
        return
    problem = (
        f"is of the type {type(X).__name__}, whose rows cannot be chosen: pass a Dataset, such as "
        f"datasets.Dataset.from_list(list({name}))"
    )
    if isinstance(X, Mapping):
        problem = (
            f"holds the data sets {', '.join(map(repr, X))}: pass one of them, such as "
            f"{name}[{next(iter(X), 'train')!r}], or "
            f"datasets.concatenate_datasets(list({name}.values()))"
        )
    raise ValueError(f"{name} {problem}.")


def take_rows(table: Any, rows: Any, names: Sequence[str]) -> Any:
    """Return some rows and columns of a data set as a table of pyarrow."""
    if hasattr(table, "with_format"):
        chosen = table.select_columns(list(names)) if hasattr(table, "select_columns") else table
        return chosen.with_format("arrow")[np.asarray(rows).tolist()]
    return table.select(list(names)).take(np.asarray(rows))


def _to_frame(table: Any) -> pd.DataFrame:
    """Return a table of pyarrow as a DataFrame, as a Parquet file would be read."""
    parquet = import_optional("pyarrow.parquet", extra="data", needed_by="Reading tables")
    content = BytesIO()
    parquet.write_table(table, content)
    return pd.read_parquet(content, dtype_backend="numpy_nullable")


def open_table(path: Path) -> Any:
    """Open a Parquet or Arrow file by reading its metadata.

    The result has ``schema``, ``lengths`` (the rows of each group of the file), and
    ``read_group(number, size, names)``: the batches of at most ``size`` rows of a group, with the
    columns, or parts of columns in Parquet, of these names; names that the file lacks are ignored.
    ``read_columns(names)`` returns columns of numbers and text as a DataFrame.
    """
    return _ParquetTable(path) if path.suffix == ".parquet" else _ArrowTable(path)


def is_list(types: Any, kind: Any) -> bool:
    """Return whether a type of pyarrow is one of lists; ``types`` is `pyarrow.types`."""
    return types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind)


def as_array(column: Any) -> Any:
    """Return a column of a table as one array of its storage type."""
    array = column.combine_chunks()
    array = array.chunk(0) if hasattr(array, "chunks") else array  # of some versions
    return getattr(array, "storage", array)


def nested_to_array(values: Any) -> NDArray[Any] | None:
    """Return nested lists of pyarrow as an array (rows, ...), with NaN for missing numbers.

    The result is None if a list is missing, or lists have different lengths.

    Examples
    --------
    >>> import pyarrow as pa
    >>> nested_to_array(pa.array([[[1, 2]], [[3, None]]])).tolist()
    [[[1.0, 2.0]], [[3.0, nan]]]
    """
    shape = [len(values)]
    while hasattr(values, "flatten") and hasattr(values.type, "value_type"):
        if values.null_count:
            return None
        if hasattr(values.type, "list_size"):
            length = values.type.list_size
        else:
            lengths = np.asarray(values.value_lengths())
            length = int(lengths[0]) if len(lengths) else 0
            if (lengths != length).any():
                return None
        shape.append(length)
        values = values.flatten()
        values = getattr(values, "storage", values)  # an extension type inside
    return np.asarray(values.to_numpy(zero_copy_only=False)).reshape(shape)


def nested_to_arrays(values: Any, where: Callable[[int], str], tensor: Any = None) -> Any:
    """Return nested lists as one array (rows, ...), or a list of arrays and None for those missing.

    ``where`` returns the words for a row in messages; ``tensor`` is a type of pyarrow that knows
    the shape.
    """
    array = nested_to_array(values)
    if array is None:
        images = [nested_to_array(values.slice(row, 1)) for row in range(len(values))]
        for row, image in enumerate(images):
            if image is None and values[row].is_valid:
                raise UnfitError(
                    f"{where(row)} has lists of different lengths: leave its row out, or save it "
                    "again."
                )
        return [None if image is None else image[0] for image in images]
    if tensor is not None and getattr(tensor, "shape", None):
        array = array.reshape(len(array), *tensor.shape)
        if tensor.permutation:
            array = array.transpose(0, *(axis + 1 for axis in tensor.permutation))
    return array
