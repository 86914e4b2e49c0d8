"""Read stamps from files that hold one of them, or one band of one, each."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import numpy as np
from astropy.io import fits
from numpy.typing import DTypeLike, NDArray
from PIL import Image, UnidentifiedImageError

from skastro.stamps.axes import arrange, axes_of_stamp, fit_axes, warn_channels_last
from skastro.stamps.bands import spell_bands
from skastro.stamps.formats import FileSource, Rows, native, signature_of
from skastro.utils.files import ENDINGS, FITS_ENDINGS, PICTURE_ENDINGS, UnfitError, reading
from skastro.utils.fits import is_band_name, open_fits, read_type_cards
from skastro.utils.masks import fill_masked
from skastro.utils.packages import import_optional

Reader = Callable[[Path], Any]
Hdu = int | str | tuple[str, int] | list[int | str | tuple[str, int]]
_MAX_DESCRIBED_FILES = 1000  # files whose pixel type is looked up when stamps are opened
_MAX_TRIED_FILES = 20  # files that are opened with ``reader``, or that may be damaged
_TIFF_ENDINGS = (".tif", ".tiff")
_TIFF_BITS, _TIFF_SAMPLES, _TIFF_FORMAT = 258, 277, 339  # tags
_UNSIGNED, _SIGNED = 1, 2  # values of the tag of the format
_ALPHA = {1, 2}  # values of the tag of extra samples
_UNNAMED = ("", "PRIMARY", "COMPRESSED_IMAGE")  # names that astropy gives to extensions


@dataclass(frozen=True, kw_only=True)
class FileOptions:
    """How to read a file of one stamp; see `open_stamps`."""

    hdu: Hdu | None = None
    bands: tuple[str, ...] | None = None  # to be found in the file
    axes: str | None = None
    reader: Reader | None = None


_NO_OPTIONS = FileOptions()


@dataclass(frozen=True, eq=False, kw_only=True)
class StampFiles(FileSource):
    """Files with one stamp, or with one band of a stamp, each.

    ``names`` are relative to ``folder``, and have the shape (n, files of a stamp); "" stands for a
    band that an object lacks.
    """

    folder: Path
    names: NDArray[np.str_]
    options: FileOptions
    resample: bool
    fixed_size: bool  # refuse files of another size than the first
    rounds: bool  # the user chose the dtype, so that floats may be rounded to it

    def read(self, rows: Rows) -> NDArray[Any]:
        """Read the files of some rows."""
        n_bands = self.shape[1] // self.names.shape[1]
        stamps = np.empty((len(rows), *self.shape[1:]), self.dtype)
        for stamp, row in zip(stamps, rows, strict=True):
            for number, name in enumerate(self.names[row]):
                if not name:  # a band that the object lacks
                    stamp[number * n_bands : (number + 1) * n_bands] = np.nan
                    continue
                path = self.folder / name
                pixels = read_file(path, self.options)
                self._check_shape(path, pixels.shape, n_bands)
                pixels = convert_pixels(path, pixels, self.dtype, rounds=self.rounds)
                pixels = fit_size(pixels, self.shape[2:], resample=self.resample)
                stamp[number * n_bands : (number + 1) * n_bands] = pixels
        return stamps

    def _check_shape(self, path: Path, shape: tuple[int, ...], n_bands: int) -> None:
        if shape[0] != n_bands:
            raise ValueError(
                f"{path} has {shape[0]} bands, but the first file has {n_bands}: "
                "keep stamps of the same bands together, or name the bands."
            )
        if self.fixed_size and shape[1:] != self.shape[2:]:
            raise ValueError(
                f"{path} has {shape[1]} x {shape[2]} pixels, but the first file has "
                f"{self.shape[2]} x {self.shape[3]}: pass size= to crop or pad all to one size."
            )


def convert_pixels(
    path: Any, pixels: NDArray[Any], dtype: np.dtype, *, rounds: bool = False
) -> NDArray[Any]:
    """Convert pixels of a file to the dtype of all files; refuse those whose values would change.

    With ``rounds`` the user has chosen the dtype, so that floats may be rounded to it.
    """
    with np.errstate(invalid="ignore", over="ignore"):
        converted = pixels.astype(dtype, copy=False)
    if (rounds and dtype.kind == "f") or np.can_cast(pixels.dtype, dtype, "safe"):
        return converted
    if not np.array_equal(converted, pixels, equal_nan=True):
        common = np.result_type(dtype, pixels.dtype)
        raise ValueError(
            f"{path} has {pixels.dtype} pixels that {dtype} cannot hold, the type of the "
            f'other files: pass dtype="{common}" to open_stamps, or save all files in one type.'
        )
    return converted


def open_files(
    folder: Path,
    names: NDArray[np.str_],
    ids: NDArray[Any],
    *,
    bands: tuple[str, ...] | None,
    size: tuple[int, int] | None,
    hdu: Hdu | None,
    axes: str | None,
    dtype: DTypeLike | None,
    resample: bool,
    reader: Reader | None,
) -> StampFiles:
    """Open files with one stamp, or with one band of a stamp, each.

    The shape is that of the first stamp that can be read, unless ``size`` is given. ``names`` has
    the shape (n, files of a stamp). If a stamp has several files, ``bands`` are the names of their
    bands, else the bands to read from the file.
    """
    try:
        signature = signature_of(folder / name for name in names.ravel() if name)
    except FileNotFoundError as error:
        raise FileNotFoundError(
            f"{error.filename} does not exist: correct the list, or put it back."
        ) from error

    # shape and bands of the first stamp that can be read
    one_file = names.shape[1] == 1
    options = FileOptions(hdu=hdu, bands=bands if one_file else None, axes=axes, reader=reader)
    paths, firsts = _read_first(folder, names[(names != "").all(axis=1)], options)
    is_picture = reader is None and paths[0].name.lower().endswith(PICTURE_ENDINGS)
    if axes is None and not is_picture:
        warn_channels_last(paths[0], firsts[0].shape, "chw")
    if bands is None and one_file and reader is None:
        bands = find_band_names(paths[0], options)
        bands = bands if bands and len(bands) == len(firsts[0]) else None
        options = replace(options, bands=bands)

    # dtype that holds the pixels of all files
    if dtype is None:
        every = [folder / name for name in names.ravel() if name]
        common = _find_dtype(np.result_type(*firsts), every, options)
        common = common if names.all() else np.result_type(common, np.float32)
    else:
        common = np.dtype(dtype)
    if common.kind not in "biuf":
        raise ValueError(f"{paths[0]} holds {common} values: save real numbers.")
    return StampFiles(
        folder=folder,
        names=names,
        shape=(len(names), sum(map(len, firsts)), *(size or firsts[0].shape[1:])),
        dtype=common,
        options=options,
        resample=resample,
        fixed_size=size is None,
        rounds=dtype is not None,
        signature=signature,
        bands=bands,
        ids=ids,
        known_axes=axes,
    )


def _read_first(
    folder: Path, names: NDArray[np.str_], options: FileOptions
) -> tuple[list[Path], list[NDArray[Any]]]:
    """Return the files and pixels of the first stamp that can be read.

    A damaged file does not keep the others from being opened. If none of the first stamps can be
    read, the error is that of the first one.
    """
    first_error: Exception | None = None
    for row in names[:_MAX_TRIED_FILES]:
        paths = [folder / name for name in row]
        try:
            return paths, [read_file(path, options) for path in paths]
        except (ValueError, OSError) as error:
            first_error = first_error or error
    raise first_error or ValueError("there is no file to open.")


def _find_dtype(first: np.dtype, paths: Sequence[Path], options: FileOptions) -> np.dtype:
    """Return a dtype that holds the pixels of all files, by their headers.

    Of many files only some are looked up, evenly spread, as opening them all takes long: a pixel
    that does not fit is an error when it is read. Warns once of extensions that are not bands.
    """
    n_described = _MAX_TRIED_FILES if options.reader else _MAX_DESCRIBED_FILES
    numbers = np.unique(np.linspace(0, len(paths) - 1, min(n_described, len(paths))).astype(int))
    dtypes, left_out, known = {first}, dict[str, Path](), set[Any]()
    for path in (paths[number] for number in numbers):
        with suppress(Exception):  # reading a damaged file says what is wrong with it
            if options.reader is None and path.name.lower().endswith(FITS_ENDINGS):
                cards = read_type_cards(path)
                if cards not in known:  # astropy reads headers slowly
                    with _open_extensions(path, options) as (images, others):
                        dtypes |= {_dtype_of_extension(image) for image in images}
                    left_out |= dict.fromkeys(others, path)
                    known.add(cards)
            else:
                dtypes.add(_dtype_of_file(path, options))
    if left_out:
        names, path = ", ".join(left_out), next(iter(left_out.values()))
        warnings.warn(
            f"{path} has extensions that are not bands, which are left out: {names} (to choose "
            "extensions, pass hdu=, such as hdu=1, or --hdu 1).",
            UserWarning,
            stacklevel=5,
        )
    return np.result_type(*dtypes)


def _dtype_of_file(path: Path, options: FileOptions) -> np.dtype:
    """Return the dtype of the pixels of a file that is not FITS, by its header if possible."""
    name = path.name.lower()
    if options.reader is None and name.endswith(".npy"):
        return native(np.lib.format.open_memmap(path, "r")[:0]).dtype
    if options.reader is None and not name.endswith(_TIFF_ENDINGS):
        with Image.open(path) as image:
            return native(np.asarray(Image.new(image.mode, (1, 1)))).dtype
    return read_file(path, options).dtype


def read_file(path: Any, options: FileOptions) -> NDArray[Any]:
    """Read the stamp of one FITS, picture, ``.npy`` or other file as (bands, height, width).

    ``path`` is a path, or an `EncodedFile`. Masked pixels are NaN.
    """
    how, read = ("with reader=", options.reader) if options.reader else _find_reader(path, options)
    problem, remedy = f"cannot be read {how}", "copy it again, or leave its row out"
    with reading(path, problem, remedy, gone="is missing: put it back, or leave its row out"):
        pixels = fill_masked(read(path))
    if options.reader is None and path.name.lower().endswith(PICTURE_ENDINGS):
        axes: str | None = "chw"[-pixels.ndim :]
    elif options.axes is not None:
        axes = fit_axes(options.axes, pixels.shape, path, stack=False)
    else:
        axes = axes_of_stamp(pixels.shape)
    if axes is None or 0 in pixels.shape:
        raise UnfitError(
            f"{path} has an image of shape {pixels.shape}: a stamp is (height, width) or "
            "(bands, height, width), or has its axes named with axes= (--axes)."
        )
    stamps = arrange(pixels, axes)
    if len(stamps) > 1:
        raise UnfitError(f"{path} of shape {pixels.shape} holds {len(stamps)} stamps: save one.")
    return native(stamps[0])


def _find_reader(path: Path, options: FileOptions) -> tuple[str, Reader]:
    """Return the kind of file, for messages, and the function that reads it."""
    name = path.name.lower()
    if name.endswith(FITS_ENDINGS):
        return "as FITS file", lambda path: _read_fits_stamp(path, options)
    if name.endswith(_TIFF_ENDINGS):
        return "as TIFF image", lambda path: _read_tiff(path, options.hdu)
    if name.endswith(PICTURE_ENDINGS):
        return f"as {path.suffix.lstrip('.').upper()} image", _read_picture
    if name.endswith(".npy"):
        return "as a .npy array", lambda path: np.load(path, allow_pickle=False)
    raise ValueError(f"{path} is not a stamp file: use one of {', '.join(ENDINGS)}.")


def _read_picture(path: Path) -> NDArray[Any]:
    with Image.open(path) as image:
        n_frames = getattr(image, "n_frames", 1)
        if n_frames > 1 and image.format == "PNG":
            raise UnfitError(
                f"{path} is an animation of {n_frames} pictures: save the one to use on its own."
            )
        if ";16" in str(image.tile) and len(image.getbands()) > 1:
            raise UnfitError(
                f"{path} has colours of 16 bits, of which Pillow reads 8: save it as TIFF, FITS or "
                ".npy, or pass a reader=."
            )
        return picture_pixels(image)


def picture_pixels(image: Image.Image) -> NDArray[Any]:
    """Return the pixels of a picture, (height, width) or (bands, height, width), without alpha."""
    coded = image.mode in ("P", "CMYK", "YCbCr", "LAB", "HSV")
    pixels = np.asarray(image.convert("RGB") if coded else image)
    if pixels.ndim == 2:
        return pixels
    opaque = pixels.shape[2] - (pixels.shape[2] in (2, 4))  # alpha is not a band
    return pixels[..., :opaque].transpose(2, 0, 1)


def _read_tiff(path: Path, page: Any) -> NDArray[Any]:
    """Read the only page of a TIFF file, all its pages as bands, or the page with a number."""
    with suppress(UnidentifiedImageError), Image.open(path) as image:
        if page is None and _reads_exactly(image):
            return picture_pixels(image)
    tifffile = import_optional("tifffile", extra="data", needed_by=f"Reading {path}")
    with tifffile.TiffFile(path) as file:
        if page is None and len(file.series) > 1:
            raise UnfitError(
                f"{path} has {len(file.pages)} pages of several kinds: pass the number of one, as "
                "in hdu=0 (--hdu 0)."
            )
        part = file.series[0] if page is None else file.pages[int(page)]
        axes = "".join({"Y": "h", "X": "w"}.get(letter, "c") for letter in part.axes)
        pixels = part.asarray()
        if part.axes.endswith("S") and _ALPHA & {*getattr(part.keyframe, "extrasamples", ())}:
            pixels = pixels[..., :-1]
        axes = "".join(
            "1" if n == 1 and a == "c" else a for n, a in zip(pixels.shape, axes, strict=True)
        )
        if axes.count("c") > 1:
            raise UnfitError(
                f"{path} has {len(file.pages)} pages in colour: pass the number of one, as in "
                "hdu=0 (--hdu 0)."
            )
        return arrange(pixels, axes)[0]


def _reads_exactly(image: Image.Image) -> bool:
    """Return whether Pillow reads all pages, bands and bits of a TIFF file."""
    tags = image.tag_v2  # type: ignore[attr-defined]  # TIFF files have it
    n_samples = tags.get(_TIFF_SAMPLES, 1)
    if image.n_frames > 1 or n_samples != len(image.getbands()):  # type: ignore[attr-defined]
        return False
    bits, number_format = tags.get(_TIFF_BITS, (1,)), tags.get(_TIFF_FORMAT, (_UNSIGNED,))[0]
    if n_samples > 1:
        return set(bits) == {8} and number_format == _UNSIGNED
    return not (
        (image.mode == "L" and number_format == _SIGNED)
        or (image.mode == "I" and number_format == _UNSIGNED)
    )


def _read_fits_stamp(path: Path, options: FileOptions) -> NDArray[Any]:
    with _open_extensions(path, options) as (images, _):
        sizes = {image.shape for image in images}
        if len(images) > 1 and max(np.prod(shape[:-2]) for shape in sizes) > 1:
            listed = ", ".join(_describe_extension(image) for image in images)
            raise UnfitError(
                f"{path} has several images, of which some have more than one plane ({listed}): "
                "choose one with hdu= (--hdu)."
            )
        if len(sizes) > 1:
            listed = ", ".join(_describe_extension(image) for image in images)
            raise UnfitError(
                f"{path} has bands of different sizes ({listed}): name those to take with bands= "
                "or hdu= (--bands, --hdu)."
            )
        arrays = [_read_pixels(image) for image in images]
    return arrays[0] if len(arrays) == 1 else np.stack(arrays)


@contextmanager
def _open_extensions(path: Path, options: FileOptions) -> Iterator[tuple[list[Any], list[str]]]:
    """Open a FITS file, and choose the extensions of a stamp."""
    # astropy does not close a file that it fails to read: open_fits does
    with open_fits(path) as file, fits.open(file, memmap=False, lazy_load_hdus=False) as hdus:
        yield _choose_extensions(path, hdus, options)


def _choose_extensions(
    path: Path, hdus: fits.HDUList, options: FileOptions
) -> tuple[list[Any], list[str]]:
    """Return the extensions of a stamp, and the names of images that are left out.

    The extensions are one for each band, or the one that holds a cube.
    """
    if options.hdu is not None:
        return [_find_extension(path, hdus, hdu) for hdu in _list_hdus(options.hdu)], []
    images = [h for h in hdus if h.is_image and len(h.shape) >= 2]
    if not images:
        raise UnfitError(f"{path} has no image: pass hdu=, or leave its row out.")
    others = [image for image in images if not _may_be_band(image)]
    images = [image for image in images if _may_be_band(image)]
    left_out = [image.name for image in others]
    if options.bands is not None and not any(np.prod(i.shape[:-2]) > 1 for i in images[:1]):
        chosen = _find_bands(path, hdus, images, others, options.bands)
        return chosen, [
            name for image, name in zip(others, left_out, strict=True) if image not in chosen
        ]
    if not images:
        raise UnfitError(
            f"{path} has no image of a band, only {', '.join(left_out)}: choose one with hdu=, as "
            f"in hdu={left_out[0]!r} (--hdu {left_out[0]})."
        )
    _refuse_detectors(path, hdus, images)
    return images, left_out


def _list_hdus(hdu: Hdu) -> list[int | str | tuple[str, int]]:
    is_name_and_version = isinstance(hdu, tuple) and [type(part) for part in hdu] == [str, int]
    if isinstance(hdu, (int, str, np.integer)) or is_name_and_version:
        return [cast("int | str | tuple[str, int]", hdu)]
    return list(cast("list[int | str | tuple[str, int]]", hdu))


def _find_extension(path: Path, hdus: fits.HDUList, hdu: Any) -> Any:
    try:
        extension = hdus[hdu]
    except (KeyError, IndexError):
        extension = None
    if extension is None or not extension.is_image or len(extension.shape) < 2:
        what = "no extension" if extension is None else "no image in extension"
        choice = ", ".join(f"{i} {h.name}".strip() for i, h in enumerate(hdus))
        raise UnfitError(f"{path} has {what} {hdu!r}: choose one of {choice}.")
    return extension


def _may_be_band(image: Any) -> bool:
    """Return whether an extension is an image, by its name and its HDU class of ESO and OGIP."""
    kind = str(image.header.get("HDUCLAS2", "")).strip().upper()
    return is_band_name(image.name) and kind not in ("ERROR", "QUALITY")


def _find_bands(
    path: Path, hdus: fits.HDUList, images: list[Any], others: list[Any], bands: tuple[str, ...]
) -> list[Any]:
    """Return the extension of each band, by FILTER or EXTNAME, also of ``others``."""
    by_name: dict[str, list[Any]] = {}
    for image in images:
        for name in {_filter_of(image), image.name} - {*_UNNAMED}:
            by_name.setdefault(name, []).append(image)
    for image in others:
        by_name.setdefault(image.name, [image])
    spelled = spell_bands(bands, by_name)
    if absent := [band for band, name in zip(bands, spelled, strict=True) if name not in by_name]:
        if not by_name and len(images) == len(bands):
            return images  # the file has no names: its bands are in the order of ``bands``
        choice = ", ".join(sorted(by_name)) or "none that is named"
        raise UnfitError(
            f"{path} has no band {absent[0]!r} (there is {choice}): name those it has, or choose "
            "extensions with hdu=."
        )
    for name in spelled:
        if len(by_name[name]) > 1:
            _refuse_detectors(path, hdus, by_name[name])
    return [by_name[name][0] for name in spelled]


def _refuse_detectors(path: Path, hdus: fits.HDUList, images: list[Any]) -> None:
    """Refuse images that are not clearly the bands of one stamp."""
    names = [image.name for image in images if image.name not in _UNNAMED]
    unnamed = [image for image in images if image.name in _UNNAMED]
    units = {str(image.header.get("BUNIT", "")).strip() for image in unnamed}
    kinds = [_dtype_of_extension(image).kind for image in unnamed]
    may_be_companions = len(units) > 1 or (kinds[:1] == ["f"] and set(kinds) - {"f"})
    have_filters = len(set(map(_filter_of, images))) == len(images)
    if have_filters or (not may_be_companions and len(set(names)) == len(names)):
        return
    listed = "; ".join(f"{hdus.index(image)}: {_describe_extension(image)}" for image in images)
    first = hdus.index(images[0])
    raise UnfitError(
        f"{path} has {len(images)} images that may be detectors, or an image with its errors, and "
        f"not bands ({listed}): choose with hdu=, as in hdu={first} (--hdu {first})."
    )


def _describe_extension(image: Any) -> str:
    """Return the name, size, type and unit of an extension, for messages."""
    size = " x ".join(map(str, image.shape))
    unit = image.header.get("BUNIT", "")
    return f"{image.name} {size} {_dtype_of_extension(image)} {unit}".strip()


def _dtype_of_extension(image: Any) -> np.dtype:
    """Return the dtype of an image with its scale and blank pixels, by reading one pixel."""
    dtype = native(np.asarray(image.section[(slice(0, 1),) * len(image.shape)])).dtype
    return dtype if _blank_of(image) is None else np.result_type(dtype, np.float32)


def _blank_of(image: Any) -> int | None:
    """Return the stored integer that marks missing pixels, if there is one."""
    blank, bits = image.header.get("BLANK"), image.header["BITPIX"]
    return blank if isinstance(blank, int) and bits > 0 else None


def _read_pixels(image: Any) -> NDArray[Any]:
    """Return the pixels of an image, with NaN where they are blank.

    astropy does so too, but not where the blank is zero or the integers are unsigned.
    """
    blank, zero = _blank_of(image), image.header.get("BZERO", 0)  # reading changes the header
    pixels: NDArray[Any] = image.data
    if blank is None or (blank != 0 and pixels.dtype.kind == "f"):
        return pixels
    missing = pixels == np.asarray(blank + zero).astype(pixels.dtype)
    pixels = pixels.astype(np.result_type(pixels.dtype, np.float32))
    pixels[missing] = np.nan
    return pixels


def _filter_of(image: Any) -> str:
    return str(image.header.get("FILTER", "")).strip()


def find_band_names(path: Any, options: FileOptions = _NO_OPTIONS) -> tuple[str, ...] | None:
    """Return the names of the bands in a FITS file; None if they are missing or not unique."""
    if not path.name.lower().endswith(FITS_ENDINGS):
        return None
    with _open_extensions(path, options) as (images, _):
        extensions = ["" if i.name in _UNNAMED else i.name for i in images]
        filters = [_filter_of(i) or name for i, name in zip(images, extensions, strict=True)]
    unique = (names for names in (filters, extensions) if len(set(names)) == len(names))
    return next((tuple(names) for names in unique if all(names)), None)


def fit_size(
    pixels: NDArray[Any], size: tuple[int, int], *, resample: bool = False
) -> NDArray[Any]:
    """Crop, pad or resample an image of shape (bands, height, width) to a size, in its dtype.

    It is cropped or padded about its centre: with NaN, or with 0 if the dtype has no NaN. After an
    odd difference in size the centre is half a pixel off. ``resample`` resamples it instead
    (bicubic, averaging where it shrinks): this keeps the surface brightness, and a NaN spreads to
    all pixels it is averaged into.

    Examples
    --------
    >>> fit_size(np.ones((1, 2, 2)), (4, 4))[0]
    array([[nan, nan, nan, nan],
           [nan,  1.,  1., nan],
           [nan,  1.,  1., nan],
           [nan, nan, nan, nan]])
    """
    if pixels.shape[1:] == size:
        return pixels
    if resample:
        return np.stack([_resample(band, size) for band in pixels])
    empty = np.nan if pixels.dtype.kind == "f" else 0
    result = np.full((len(pixels), *size), empty, pixels.dtype)
    # the part of each axis that the old and the new image have in common
    before, after = [slice(None)], [slice(None)]
    for old, new in zip(pixels.shape[1:], size, strict=True):
        for part, start in ((before, max(0, (old - new) // 2)), (after, max(0, (new - old) // 2))):
            part.append(slice(start, start + min(old, new)))
    result[tuple(after)] = pixels[tuple(before)]
    return result


def _resample(band: NDArray[Any], size: tuple[int, int]) -> NDArray[Any]:
    height, width = size
    image = Image.fromarray(band.astype(np.float32))
    pixels = np.asarray(image.resize((width, height), Image.Resampling.BICUBIC))
    if band.dtype.kind in "iu":
        limits = np.iinfo(band.dtype)
        pixels = np.clip(np.rint(pixels), limits.min, limits.max)
    return pixels.astype(band.dtype)
