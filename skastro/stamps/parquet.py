"""Read stamps from Parquet and Arrow files with columns of images."""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skastro.stamps.axes import (
    arrange,
    axes_of_names,
    axes_of_stamp,
    fit_axes,
    warn_channels_last,
)
from skastro.stamps.bands import find_bands, wavelength_of
from skastro.stamps.files import (
    FileOptions,
    convert_pixels,
    find_band_names,
    fit_size,
    read_file,
)
from skastro.stamps.formats import (
    FileSource,
    Rows,
    check_unchanged,
    native,
    signature_of,
)
from skastro.utils.arrow import (
    BlockCache,
    as_array,
    cut_blocks,
    is_list,
    nested_to_arrays,
    open_table,
)
from skastro.utils.files import EncodedFile, UnfitError, reading
from skastro.utils.fits import is_band_name
from skastro.utils.packages import import_optional

_BLOCK_BYTES = 4 * 2**20  # of the stamps that are decoded at a time
_CACHE_BYTES = 64 * 2**20  # of decoded stamps that are kept
_BAND_PARTS = ("band", "bands", "filter", "filters")  # parts of a struct with the names of bands
_PIXEL_PARTS = ("flux", "array", "pixels", "image", "data", "values")  # and with pixels
_PATHS_IN_FILE = ("{}.{}", "{}.list.element.{}", "{}.list.item.{}")  # of a part, in Parquet
_ENCODED = "PNG, JPEG, TIFF, FITS or .npy"
_HOW = "cannot be read as a table of stamps"


@dataclass(frozen=True, kw_only=True)
class ImageColumn:
    """A column of images, or a part of a column of structs."""

    name: str
    kind: str  # "numbers", "flat" numbers, "encoded" files, or "bands" (a struct of MMU)
    part: str = ""  # of a struct, with the pixels
    band_part: str = ""  # with the names of the bands

    def list_paths(self) -> list[str]:
        """Return the names of the column in Arrow, and of its parts in the ways of Parquet."""
        parts = [part for part in (self.part, self.band_part) if part]
        paths = [path.format(self.name, part) for part in parts for path in _PATHS_IN_FILE]
        return paths or [self.name]

    def take_part(self, values: Any, part: str) -> Any:
        """Return a part of a struct of lists, or of a list of structs, as an array of lists."""
        if not part:
            return values
        if hasattr(values, "offsets"):  # a list of structs
            return type(values).from_arrays(values.offsets, values.values.field(part))
        return values.field(part)


def find_columns(schema: Any) -> list[ImageColumn]:
    """Return the columns of a table of pyarrow that may hold images, by their types."""
    found = [_describe(item.name, item.type) for item in schema]
    return [column for column in found if column is not None]


def _describe(name: str, kind: Any) -> ImageColumn | None:
    types = import_optional("pyarrow", extra="data", needed_by="Reading tables of stamps").types
    depth = 0
    while is_list(types, kind) or hasattr(kind, "storage_type"):
        if hasattr(kind, "storage_type"):  # a tensor, or an array of HuggingFace
            depth += len(getattr(kind, "shape", ())) - 1 if hasattr(kind, "value_type") else 0
            kind = kind.storage_type
        else:
            depth, kind = depth + 1, kind.value_type
    if types.is_struct(kind):
        parts = {kind.field(i).name: kind.field(i).type for i in range(kind.num_fields)}
        pixels = next((part for part in _PIXEL_PARTS if part in parts), "")
        bands = next((part for part in _BAND_PARTS if part in parts), "")
        if "bytes" in parts and not depth:
            return ImageColumn(name=name, kind="encoded", part="bytes")
        if not pixels:
            return None
        inner = _describe(name, parts[pixels])
        if inner is None or (inner.kind == "flat" and not depth):
            return None
        return replace(inner, part=pixels, band_part=bands, kind="bands" if bands else inner.kind)
    if types.is_integer(kind) or types.is_floating(kind) or types.is_boolean(kind):
        return ImageColumn(name=name, kind="numbers" if depth > 1 else "flat") if depth else None
    is_bytes = types.is_binary(kind) or types.is_large_binary(kind)
    return ImageColumn(name=name, kind="encoded") if is_bytes and not depth else None


def choose_columns(
    columns: list[ImageColumn], hdu: Any, bands: Sequence[str] | None, where: Any
) -> list[ImageColumn]:
    """Return the column of the stamps, or one for each band.

    They are named by ``hdu``, the only one of images, those that end in the names of ``bands``, or
    those that all end in the name of a filter. A warning names masks and the like.
    """
    by_name = {column.name: column for column in columns}
    listed = ", ".join(by_name) or "none"
    if hdu is not None:
        wanted = [str(name) for name in (hdu if isinstance(hdu, (list, tuple)) else [hdu])]
        if absent := [name for name in wanted if name not in by_name]:
            raise UnfitError(
                f"{where} has no column of images {absent[0]!r} (there is {listed}): name one with "
                "hdu= (--hdu)."
            )
        return [by_name[name] for name in wanted]
    images = [column for column in columns if column.kind != "flat" or bands]
    chosen = [column for column in images if is_band_name(column.name)]
    if left_out := [column.name for column in images if column not in chosen]:
        warnings.warn(
            f"{where} has columns that are not bands, which are left out: {', '.join(left_out)} "
            "(to choose columns, pass hdu=, or --hdu).",
            UserWarning,
            stacklevel=6,
        )
    if bands is not None and len(chosen) > 1:
        places = find_bands(bands, [column.name for column in chosen])
        if None in places:
            raise UnfitError(
                f"{where} has no column of the band {list(bands)[places.index(None)]!r} (there is "
                f"{', '.join(column.name for column in chosen)}): name the columns with hdu= "
                "(--hdu)."
            )
        return [chosen[place] for place in places if place is not None]
    chosen = [column for column in chosen if column.kind != "flat"]
    wavelengths = [wavelength_of(column.name) for column in chosen]
    if len(chosen) == 1 or (chosen and len({*wavelengths, None}) == len(chosen) + 1):
        return chosen
    if chosen:
        raise UnfitError(
            f"{where} has several columns of images ({', '.join(c.name for c in chosen)}): name "
            f"one, or one for each band, with hdu=, as in hdu={chosen[0].name!r} "
            f"(--hdu {chosen[0].name})."
        )
    hint = f"name one of {listed} with hdu= (--hdu)" if columns else "open another file"
    raise UnfitError(f"{where} has no column of images: {hint}.")


@dataclass(frozen=True, eq=False, kw_only=True)
class ImageReader:
    """How to read stamps from the columns of a table; see `open_stamps`."""

    columns: tuple[ImageColumn, ...]
    bands: tuple[str, ...] | None = None  # of the stamps, in order
    axes: str | None = None
    size: tuple[int, int] | None = None
    chosen: bool = False  # the bands, by the user
    has_known_axes: bool = False
    resample: bool = False
    missing_bands: str = "error"
    shape: tuple[int, int, int] = (0, 0, 0)
    dtype: np.dtype = field(default_factory=lambda: np.dtype(np.float32))
    rounds: bool = False

    def list_names(self) -> list[str]:
        """Return the names of the columns."""
        return [column.name for column in self.columns]

    def list_paths(self) -> list[str]:
        """Return the names of the columns in a Parquet file."""
        return [path for column in self.columns for path in column.list_paths()]

    def read(self, table: Any, where: Callable[[int], str]) -> NDArray[Any]:
        """Decode the stamps of a table: an array (rows, bands, height, width).

        ``where`` returns the words for a row in messages.
        """
        stamps = np.empty((table.num_rows, *self.shape), self.dtype)
        n_bands = self.shape[0] // len(self.columns)
        for number, column in enumerate(self.columns):
            place = partial(_name_cell, where, column.name)
            images = self.decode(column, table.column(column.name), place)
            part = stamps[:, number * n_bands : (number + 1) * n_bands]
            if isinstance(images, np.ndarray) and images.shape == part.shape:
                part[...] = convert_pixels(place(0), images, self.dtype, rounds=self.rounds)
                continue
            for row, image in enumerate(images):
                part[row] = self._fit(image, n_bands, place(row))
        return stamps

    def find_missing(self, table: Any) -> NDArray[np.bool_]:
        """Return which bands are missing in the rows of a table: an array (rows, bands)."""
        column = self.columns[0]
        values = [as_array(table.column(column.name)) for column in self.columns]
        if column.kind == "bands":
            names = column.take_part(values[0], column.band_part).to_pylist()
            orders = [find_bands(self.bands or own, own) for own in names]
            return np.array([[place is None for place in order] for order in orders])
        parts = [c.take_part(v, c.part) for c, v in zip(self.columns, values, strict=True)]
        return np.column_stack([np.asarray(part.is_null()) for part in parts])

    def _fit(self, image: NDArray[Any], n_bands: int, where: str) -> NDArray[Any]:
        """Bring one image to the size and dtype of the stamps."""
        if len(image) != n_bands:
            raise UnfitError(
                f"{where} has {len(image)} bands, but the first stamp has {n_bands}: keep stamps "
                "of the same bands together."
            )
        if image.shape[1:] != self.shape[1:] and self.size is None:
            raise UnfitError(
                f"{where} has {image.shape[1]} x {image.shape[2]} pixels, but the first stamp has "
                f"{self.shape[1]} x {self.shape[2]}: pass size= to crop or pad all to one size."
            )
        pixels = convert_pixels(where, image, self.dtype, rounds=self.rounds)
        return fit_size(pixels, self.shape[1:], resample=self.resample)

    def decode(
        self, column: ImageColumn, values: Any, where: Callable[[int], str]
    ) -> NDArray[Any] | list[NDArray[Any]]:
        """Return the images of a column, each (bands, height, width), stacked if they are equal."""
        tensor = values.type if hasattr(values.type, "permutation") else None
        values = as_array(values)
        missing = np.asarray(values.is_null())
        if missing.any() and not (self.missing_bands == "nan" and len(self.columns) > 1):
            raise UnfitError(f"{where(int(missing.argmax()))} is empty: leave its row out.")
        if column.kind == "encoded":
            return self._decode_files(column.take_part(values, column.part), where)
        pixels = column.take_part(values, column.part)
        images = nested_to_arrays(pixels, where, tensor)
        if column.kind == "bands":
            names = column.take_part(values, column.band_part).to_pylist()
            return self._order_bands(images, names, where)
        return self._arrange(images, where, tensor)

    def _decode_files(self, values: Any, where: Callable[[int], str]) -> list[NDArray[Any]]:
        """Decode images that are files, such as PNG or FITS; those missing are planes of NaN."""
        images = []
        bands = self.bands if len(self.columns) == 1 else None  # those of FITS files
        options = FileOptions(axes=self.axes, bands=bands)
        for row, value in enumerate(values):
            content = value.as_py()
            if content is None and self.missing_bands == "nan" and len(self.columns) > 1:
                images.append(self._empty())
                continue
            stamp = EncodedFile(content or b"", where(row))
            if not stamp.suffix:
                what = "holds no bytes" if not content else f"is no {_ENCODED} file"
                remedy = "save it with its bytes, not by its name alone, or leave its row out"
                raise UnfitError(f"{where(row)} {what}: {remedy}.")
            images.append(read_file(stamp, options))
        return images

    def _empty(self) -> NDArray[Any]:
        """Return a band of NaN in place of one that is missing."""
        shape = (max(1, self.shape[0] // len(self.columns)), *self.shape[1:])
        return np.full(shape, np.nan, np.float32)

    def _arrange(
        self, images: Any, where: Callable[[int], str], tensor: Any
    ) -> NDArray[Any] | list[NDArray[Any]]:
        """Bring the axes of images of numbers into order."""
        if isinstance(images, list):
            return [
                self._empty() if image is None
                else self._arrange(image[None], partial(_name_one, where, row), tensor)[0]
                for row, image in enumerate(images)
            ]  # fmt: skip
        shape = images.shape[1:]
        if len(shape) == 1:  # rows of a flat list
            if self.size is None or shape[0] % (pixels := self.size[0] * self.size[1]):
                raise UnfitError(
                    f"{where(0)} is a flat list of {shape[0]} values, whose shape is not known: "
                    "pass the height and width of the stamps with size=."
                )
            axes = (self.axes or "chw").replace("n", "")
            length = {"c": shape[0] // pixels, "h": self.size[0], "w": self.size[1]}
            shape = tuple(length[letter] for letter in axes)
            images = images.reshape(len(images), *shape)
        elif self.axes is not None:
            axes = fit_axes(self.axes, shape, where(0), stack=False)
        else:
            named = axes_of_names(getattr(tensor, "dim_names", None))
            found = named or axes_of_stamp(shape)
            if found is None or "n" in found:
                raise UnfitError(
                    f"{where(0)} has the shape {shape}: a stamp is (height, width) or (bands, "
                    "height, width), or has its axes named with axes= (--axes)."
                )
            axes = found
        return native(np.ascontiguousarray(arrange(images, f"n{axes}")))

    def _order_bands(
        self, images: Any, names: list[list[str]], where: Callable[[int], str]
    ) -> NDArray[Any] | list[NDArray[Any]]:
        """Bring the bands of a struct into the order of the stamps, by their names."""
        orders = [find_bands(self.bands or own, own) for own in names]
        if not isinstance(images, list) and all(order == orders[0] for order in orders):
            images = self._arrange(images, where, None)
            if None not in orders[0] and len(images[0]) == len(names[0]):
                return images[:, orders[0]]
        ordered = []
        for row, (image, own, order) in enumerate(zip(images, names, orders, strict=True)):
            if None in order and (self.missing_bands == "error" or not own):
                absent = (self.bands or own)[order.index(None)] if order else "of any name"
                raise UnfitError(
                    f"{where(row)} has no band {absent!r} (there is {', '.join(own) or 'none'}): "
                    'name those it has, leave its row out, or pass missing_bands="nan".'
                )
            if image is None or len(image) != len(own):
                n = 0 if image is None else len(image)
                raise UnfitError(
                    f"{where(row)} has {len(own)} names for {n} bands: leave its row out."
                )
            if not self.chosen and self.bands and len(own) > len(self.bands):
                raise UnfitError(
                    f"{where(row)} has the bands {', '.join(own)}, but the first stamp has "
                    f"{', '.join(self.bands)}: name those to read with bands= (--bands)."
                )
            dtype = np.result_type(image, np.float32) if None in order else image.dtype
            stamp = np.full((len(order), *image.shape[1:]), np.nan if None in order else 0, dtype)
            for place, source in enumerate(order):
                if source is not None:
                    stamp[place] = image[source]
            ordered.append(stamp)
        return ordered


def _name_one(where: Callable[[int], str], row: int, _: int) -> str:
    return where(row)


def _name_cell(where: Callable[[int], str], column: str, row: int) -> str:
    return f"{where(row)}, column {column}"


def describe_stamps(reader: ImageReader, first: Any, where: Any, dtype: Any) -> ImageReader:
    """Complete a reader by the first row of a table: shape and dtype, and names of the bands."""
    column = reader.columns[0]
    names = reader.bands
    if column.kind == "bands" and names is None:
        own = column.take_part(as_array(first.column(column.name)), column.band_part)
        names = tuple(map(str, own[0].as_py()))
    elif len(reader.columns) > 1 and names is None:
        ends = tuple(re.split(r"[-_. ]", column.name)[-1] for column in reader.columns)
        names = ends if all(map(wavelength_of, ends)) and len({*ends}) == len(ends) else None
    elif column.kind == "encoded" and names is None:
        value = column.take_part(as_array(first.column(column.name)), column.part)[0]
        names = find_band_names(EncodedFile(value.as_py() or b"", f"{where}, row 0"))
    reader = replace(reader, bands=names)

    # the pixels of the first stamp
    images = []
    for column in reader.columns:
        place = partial(_name_cell, lambda row: f"{where}, row {row}", column.name)
        images.append(reader.decode(column, first.column(column.name), place)[0])
    image = max(images, key=np.size)
    if not reader.has_known_axes:
        warn_channels_last(where, image.shape, "chw")
    common = np.result_type(*images) if dtype is None else np.dtype(dtype)
    if dtype is None and reader.missing_bands == "nan":
        common = np.result_type(common, np.float32)
    if common.kind not in "biuf" or not image.size:
        what = f"holds {common} values" if image.size else "has no pixel"
        raise UnfitError(f"{place(0)} {what}: save stamps as real numbers.")
    n_bands, size = len(image) * len(reader.columns), reader.size or image.shape[1:]
    return replace(reader, shape=(n_bands, *size), dtype=common, rounds=dtype is not None)


def make_reader(schema: Any, where: Any, options: dict[str, Any]) -> ImageReader:
    """Choose the columns of stamps in a table of pyarrow, by its schema."""
    if options["reader"] is not None:
        raise ValueError(
            f"{where} is a table of stamps, which reader= does not read: leave it out."
        )
    bands = options["bands"]
    columns = find_columns(schema)
    chosen = choose_columns(columns, options["hdu"], bands, where)
    if bands is not None and len(chosen) not in (1, len(bands)):
        raise ValueError(
            f"bands names {len(bands)} bands, but hdu= {len(chosen)} columns of {where}: name one "
            "for each band."
        )
    is_plain = len(chosen) == 1 and chosen[0].kind in ("numbers", "flat")
    tensor = schema.field(chosen[0].name).type
    return ImageReader(
        columns=tuple(chosen),
        bands=None if is_plain else bands,  # which then are only names
        chosen=bands is not None,
        has_known_axes=bool(
            options["axes"]
            or chosen[0].kind in ("bands", "encoded")
            or axes_of_names(getattr(tensor, "dim_names", None))
        ),
        axes=options["axes"],
        size=options["size"],
        resample=options["resample"],
        missing_bands=options["missing_bands"],
    )


@dataclass(frozen=True, eq=False, kw_only=True)
class ImageTable(FileSource):
    """Parquet or Arrow files with columns of images.

    Files have groups of rows, which are decoded in blocks. ``groups`` has the number of the file,
    of the group in this file, and of its first row among all, for each group.
    """

    paths: tuple[Path, ...]
    signatures: tuple[str, ...]
    groups: NDArray[np.int64]
    reader: ImageReader
    block: int  # rows
    cache: BlockCache = field(default_factory=BlockCache)

    def read(self, rows: Rows) -> NDArray[Any]:
        """Read the blocks that hold some rows."""
        stamps = np.empty((len(rows), *self.shape[1:]), self.dtype)
        group_of = np.searchsorted(self.groups[:, 2], rows, side="right") - 1
        place = rows - self.groups[group_of, 2]
        keys = np.stack([group_of, place // self.block], axis=1)
        with self.cache.lock:
            blocks, block_of = np.unique(keys, axis=0, return_inverse=True)
            for number, (group, block) in enumerate(blocks.tolist()):
                wanted = block_of.reshape(-1) == number
                stamps[wanted] = self._load(group, block)[place[wanted] % self.block]
        return stamps

    def _load(self, group: int, block: int) -> NDArray[Any]:
        """Return a block of stamps, which is kept for the next read."""
        cache = self.cache
        number = int(self.groups[group, 0])
        check_unchanged(self.paths[number], self.signatures[number])
        if (group, block) in cache.blocks:
            cache.blocks.move_to_end((group, block))
            return cache.blocks[group, block]
        path = self.paths[number]
        with reading(path, _HOW, "copy it again, or write it again", gone="is gone: put it back"):
            if cache.group != group or cache.next > block:
                cache.group, cache.next = group, 0
                cache.tables = self._open_group(group)
            while cache.next <= block:  # blocks of a group are read in order
                cache.next += 1
                table = next(cache.tables)
            first = int(self.groups[group, 2] - self._first_row(number)) + block * self.block
            stamps = self.reader.read(table, lambda row: f"{path}, row {first + row}")
        cache.blocks[group, block] = stamps
        while sum(b.nbytes for b in cache.blocks.values()) > _CACHE_BYTES and len(cache.blocks) > 1:
            cache.blocks.popitem(last=False)
        return stamps

    def read_tables(self) -> Iterator[Any]:
        """Yield all rows of the columns of images, in parts, as tables."""
        for group in range(len(self.groups)):
            yield from self._open_group(group)

    def _first_row(self, number: int) -> int:
        """Return the row among all of the first row of a file."""
        return int(self.groups[self.groups[:, 0] == number, 2][0])

    def _open_group(self, group: int) -> Iterator[Any]:
        """Yield the blocks of a group as tables."""
        number, own = map(int, self.groups[group, :2])
        if self.cache.file is None or self.cache.file[0] != number:
            self.cache.file = number, open_table(self.paths[number])
        file = self.cache.file[1]
        return cut_blocks(file.read_group(own, self.block, self.reader.list_paths()), self.block)


def open_tables(paths: Sequence[Path], options: dict[str, Any]) -> ImageTable:
    """Open the stamps in Parquet or Arrow files, whose rows follow each other."""
    reader: ImageReader | None = None
    groups: list[tuple[int, int]] = []
    lengths: list[int] = []
    first = None
    for number, path in enumerate(paths):
        remedy = "copy it again, or write it again with pyarrow"
        with reading(path, _HOW, remedy, gone="does not exist: correct the path"):
            file = open_table(path)
            if reader is None:
                reader = make_reader(file.schema, path, options)
            _check_schema(path, file.schema, reader, paths[0])
            groups += [(number, own) for own, n in enumerate(file.lengths) if n]
            lengths += [n for n in file.lengths if n]
            if first is None and groups:
                batch = next(iter(file.read_group(groups[0][1], 1, reader.list_paths())))
                first = next(cut_blocks(iter([batch]), 1))
                reader = describe_stamps(reader, first, path, options["dtype"])
    if reader is None or first is None:
        raise ValueError(f"{paths[0]} has no row: open a table of stamps.")
    starts = np.cumsum([0, *lengths])
    bytes_of_stamp = int(np.prod(reader.shape)) * reader.dtype.itemsize
    signatures = tuple(signature_of([path]) for path in paths)
    return ImageTable(
        paths=tuple(paths),
        signatures=signatures,
        signature="".join(signatures) if len(paths) == 1 else signature_of(paths),
        groups=np.column_stack([np.array(groups), starts[:-1]]).astype(np.int64),
        reader=reader,
        block=max(1, min(1024, _BLOCK_BYTES // max(1, bytes_of_stamp))),
        shape=(int(starts[-1]), *reader.shape),
        dtype=reader.dtype,
        bands=reader.bands,
        known_axes="nchw" if reader.has_known_axes else None,
    )


def _check_schema(path: Path, schema: Any, reader: ImageReader, first: Path) -> None:
    """Refuse a file whose columns of images are not those of the first file."""
    own = find_columns(schema)
    for column in reader.columns:
        if column not in own:
            raise UnfitError(
                f"{path} has no column {column.name!r} of the same type as {first}: open files of "
                "one table only."
            )
