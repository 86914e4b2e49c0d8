"""Read catalogues of text as people have them: any separator, encoding, title, header or units."""

from __future__ import annotations

import bz2
import csv
import gzip
import io
import lzma
import re
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import pandas as pd
from astropy import units as u

from skastro.catalogs.columns import USUAL_COLUMN_NAMES, is_id_name, plain_name
from skastro.utils.files import UnfitError

_UNPACKERS: dict[bytes, Callable[[bytes], bytes]] = {
    b"\x1f\x8b": gzip.decompress, b"BZh": bz2.decompress, b"\xfd7zXZ": lzma.decompress,
}  # fmt: skip
_UTF16_MARKS = (b"\xff\xfe", b"\xfe\xff")
_CONTROL = re.compile(r"[\x00-\x08\x0e-\x1f]")  # characters that no text has
_SEPARATORS = (",", "\t", ";", "|", None)  # None is white space
_SAMPLE_LINES = 200  # of a file, to find its columns
_SAMPLE_LENGTH = 2**22  # characters
_MIN_SHARE = 0.5  # of the lines that fit the columns
_UNNAMED = "Unnamed: "  # name of a column without one, as in pandas
_MISSING = (
    "", "-", "--", "---", "...", "NA", "N/A", "n/a", "nan", "NaN", "null", "NULL", "None", "<NA>",
    r"\N", "INDEF",
)  # fmt: skip
_NUMBER = (  # Fortran writes D for E
    r"[+-]?(\d+([eE][+-]?\d+)?|(\d+\.\d*|\.\d+)([eEdD][+-]?\d+)?)"
)
_DECIMAL_COMMA = r"[+-]?\d*,\d+([eE][+-]?\d+)?"
_NAME = re.compile(r"\w[\w.()\[\]/-]*( [\w.()\[\]/-]+){,2}")  # of the only column, and no sentence
_THOUSANDS = (  # whole numbers in groups of three digits, with a decimal part or not
    r"[+-]?[1-9]\d{0,2}"
    r"((,\d{3})+(\.\d*)?|(\.\d{3})+,\d*|(['\u2019\u00a0\u202f]\d{3})+([.,]\d*)?)"
)
_NO_OBJECT = re.compile(r"\s*#|\(\d+ rows?\)\s*$")  # a comment, and the last line of psql
_ASTROPY_FORMATS = {  # by the beginning of the text
    "ecsv": re.compile(r"# %ECSV"),
    "sextractor": re.compile(r"#\s+\d+\s+[A-Z0-9_]{2,}\s"),
    "daophot": re.compile(r"#K "),
    "mrt": re.compile(r"(?s).{,9999}\nByte-by-byte Description"),
    "ipac": re.compile(r"\\|\|[^\n]*\|[ \t]*\n(\|[^\n]*\|[ \t]*\n)+(?=[^|])"),
}


@dataclass(frozen=True)
class _Row:
    """The values of one line of a text."""

    fields: list[str]
    is_comment: bool
    end: int  # number of the line after it

    def __len__(self) -> int:
        return len(self.fields)


@dataclass
class _Layout:
    """Where the columns of a text are."""

    separator: str | None  # None is white space
    names: list[str]
    start: int  # number of the first line of objects
    share: float  # of the lines of objects that have this number of values
    units: dict[str, str] = field(default_factory=dict)

    def rank(self) -> tuple[bool, float, bool]:
        """Return how plausible it is, to be compared with others."""
        has_digits = any(name[:1].isdecimal() for name in self.names)
        return len(self.names) > 1, self.share, not has_digits


def decode(path: Path) -> str:
    """Return the text of a file, unpacked if it is compressed, with line feeds as line ends.

    The text is UTF-8 or UTF-16, or else Windows-1252 (with Latin-1 as a part), with a warning.
    """
    content = path.read_bytes()
    for mark, unpack in _UNPACKERS.items():
        if content.startswith(mark):
            content = unpack(content)
    try:
        text = content.decode(_find_encoding(content))
    except UnicodeDecodeError as error:
        if error.reason == "unexpected end of data":
            raise UnfitError(f"{path} ends within a letter: copy it again.") from error
        text = content.decode("cp1252")
        if not _CONTROL.search(text[:_SAMPLE_LENGTH]):
            warnings.warn(
                f"{path} is not UTF-8, and is read as Latin-1: save it as UTF-8 if letters are "
                "wrong.",
                UserWarning,
                stacklevel=5,
            )
    if _CONTROL.search(text[:_SAMPLE_LENGTH]):
        raise UnfitError(f"{path} holds no text: save it as CSV in UTF-8.")
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    return re.sub(r"^sep=.?\n", "", text)  # a hint for spreadsheets


def _find_encoding(content: bytes) -> str:
    if content.startswith(_UTF16_MARKS):
        return "utf-16"
    # most characters have a zero byte in UTF-16
    for first, encoding in ((1, "utf-16-le"), (0, "utf-16-be")):
        half = content[first:_SAMPLE_LINES:2]
        if half.count(0) > len(half) / 2:
            return encoding
    return "utf-8-sig"


def find_astropy_format(text: str) -> str | None:
    """Return astropy's name of the format of a text, None for a table of separated values.

    Examples
    --------
    >>> find_astropy_format("#   1 NUMBER   Running object number"), find_astropy_format("id,ra")
    ('sextractor', None)
    """
    return next((name for name, start in _ASTROPY_FORMATS.items() if start.match(text)), None)


def check_unique(names: Iterable[str], path: Path | str) -> None:
    """Refuse two columns of one name."""
    twice = [name for name, times in Counter(map(str.strip, names)).items() if times > 1]
    if twice:
        raise UnfitError(f"{path} has two columns named {min(twice)!r}: rename one of them.")


def read_separated(text: str, path: Path, is_id: Callable[[str], bool]) -> pd.DataFrame:
    r"""Read a table whose values are separated by commas, tabs, semicolons, "|" or white space.

    Lines of a title or of comments may come before the line of names, which may begin with "#";
    units and a line of hyphens may follow it. Columns for which ``is_id`` is true stay text, the
    others get pandas' nullable dtypes. Numbers may have a decimal comma where no comma separates
    the values. ``attrs`` of the result holds the ``units``, and ``problems``: a sentence on each
    column of numbers that may be read in two ways. ``path`` is for messages.

    Examples
    --------
    >>> read_separated("# made in May\n# id;mag\n7;20,5\n", Path("c.csv"), lambda name: False)
       id   mag
    0   7  20.5
    """
    if not text.strip():
        raise ValueError("it is empty")
    if text.lstrip().startswith("<"):
        raise UnfitError(f"{path} is a web page or XML, not a table of text: download it again.")
    layout = _find_layout(text, path)
    check_unique(layout.names, path)
    frame = pd.read_csv(
        io.StringIO(_take_objects(text, layout, path)),
        sep=layout.separator or r"\s+",
        header=None,
        names=layout.names,
        dtype={name: str for name in layout.names if is_id(name)},
        dtype_backend="numpy_nullable",
        skipinitialspace=True,
        low_memory=False,
    )
    unnamed = [name for name in frame if name.startswith(_UNNAMED) and frame[name].isna().all()]
    frame = frame.drop(columns=unnamed)
    problems = _convert_text_to_numbers(frame, layout.separator, path, is_id)
    frame.attrs = {"units": layout.units, "problems": problems}
    return frame


def _find_layout(text: str, path: Path) -> _Layout:
    """Find the separator that gives most lines the same number of values, and the columns."""
    lines = list(islice(io.StringIO(text[:_SAMPLE_LENGTH]), _SAMPLE_LINES))
    layouts = [layout for sep in _SEPARATORS if (layout := _try_separator(lines, sep))]
    if not layouts:
        raise UnfitError(
            f"{path} has rows of more values than its header, or no line of names: begin it with "
            "one line of a name for each column, such as id,ra,dec."
        )
    layout = max(layouts, key=_Layout.rank)
    if layout.units:
        warnings.warn(
            f"{path} has units under its names ({', '.join(layout.units.values())}), which are "
            "not read as an object.",
            UserWarning,
            stacklevel=6,
        )
    return layout


def _split(lines: Iterable[str], separator: str | None) -> Any:
    """Return a reader of the values in lines, without the "#" of comments."""
    if separator is None:
        lines = (" ".join(line.split()) for line in lines)
    lines = (re.sub(r"^\s*#+", "", line) for line in lines)
    return csv.reader(lines, delimiter=separator or " ", skipinitialspace=True)


def _try_separator(lines: list[str], separator: str | None) -> _Layout | None:
    """Return the columns that a separator gives; None if the lines do not fit it."""
    rows = _find_rows(lines, separator)
    objects = [row for row in rows if not row.is_comment]
    if not objects:
        return None
    sizes = Counter(map(len, objects))
    n_columns = max(sizes, key=lambda size: (sizes[size], size))
    share = sizes[n_columns] / len(objects)

    # the line of names, which may be a comment or lack the separator at the end of all others
    first = rows.index(next(row for row in objects if len(row) == n_columns))
    below = [row.fields for row in rows[first:] if len(row) == n_columns]
    before = rows[first - 1] if first else _Row([], is_comment=False, end=0)
    is_comment = before.is_comment and len(before) == n_columns
    is_shorter = 0 < len(before) == n_columns - 1 and not any(row[-1] for row in below)
    if (is_comment or is_shorter) and _holds_values(below):
        number = first - 1
    else:
        number, below = first, below[1:]
    if _find_numbers(below[1:]) and _has_usual_name(below[0]):
        # the line above is a title with as many separators
        number, below = next(i for i, row in enumerate(rows) if row.fields == below[0]), below[1:]
    names = rows[number].fields + [""] * (n_columns - len(rows[number]))
    has_title = any(not row.is_comment for row in rows[:number])
    is_unsplit = n_columns == 1 and (
        not _NAME.fullmatch(names[0]) or all(map(_is_number, names[0].split()))
    )
    if share < _MIN_SHARE or is_unsplit or not _are_names(names, below, has_title=has_title):
        return None
    names = [name or f"{_UNNAMED}{i}" for i, name in enumerate(names)]
    layout = _Layout(separator, names, rows[number].end, share)
    _skip_units(layout, rows[number + 1 :])
    return layout


def _find_rows(lines: list[str], separator: str | None) -> list[_Row]:
    """Return the values of each line that is not blank."""
    reader, rows, start = _split(lines, separator), [], 0
    for fields in reader:
        if any(value.strip() for value in fields):
            is_comment = lines[start].lstrip().startswith("#")
            rows.append(_Row([value.strip() for value in fields], is_comment, reader.line_num))
        start = reader.line_num
    return rows


def _skip_units(layout: _Layout, rows: Sequence[_Row]) -> None:
    """Read a line of units under the names, if there is one, and skip lines of hyphens."""
    for i, row in enumerate(rows):
        line = " ".join(row.fields)
        is_rule = ("--" in line or "==" in line) and not line.strip("-=+:|;, ")
        if not is_rule:
            if layout.units or len(row) != len(layout.names):
                return
            below = [other.fields for other in rows[i + 1 :] if len(other) == len(layout.names)]
            layout.units = _find_units(layout.names, row.fields, below)
            if not layout.units:
                return
        layout.start = row.end


def _is_number(value: str) -> bool:
    return re.fullmatch(f"{_NUMBER}|{_DECIMAL_COMMA}", value) is not None


def _find_numbers(rows: Sequence[Sequence[str]]) -> list[int]:
    """Return the columns whose values are all numbers, or missing."""
    columns = enumerate(zip(*rows, strict=True))
    known = {i: [value for value in values if value not in _MISSING] for i, values in columns}
    return [i for i, values in known.items() if values and all(map(_is_number, values))]


def _holds_values(rows: Sequence[Sequence[str]]) -> bool:
    """Return whether the first of these rows is an object, and not names of columns."""
    return any(map(_is_number, rows[0])) or not _find_numbers(rows[1:])


def _are_names(names: Sequence[str], below: Sequence[Sequence[str]], *, has_title: bool) -> bool:
    """Return whether these are names of columns, and not values.

    Numbers may be among them if they are in order, as in a table made of an array, or beside a
    name of ids or positions. Under a title, names are text, and numbers are among the values below.
    """
    numbers = [name for name in names if _is_number(name)]
    if has_title:
        return not numbers and bool(_find_numbers(below))
    in_order = [[str(i + first) for i in range(len(numbers))] for first in (0, 1)]
    return numbers in in_order or _has_usual_name(names)


def _has_usual_name(values: Sequence[str]) -> bool:
    """Return whether a name of ids or of positions is among values."""
    usual = {*USUAL_COLUMN_NAMES["ra"], *USUAL_COLUMN_NAMES["dec"]}
    return any(is_id_name(value) or plain_name(value) in usual for value in values)


def _find_units(
    names: Sequence[str], values: Sequence[str], below: Sequence[Sequence[str]]
) -> dict[str, str]:
    """Return the units of columns, if these values are units; else an empty dict."""
    numbers = _find_numbers(below)
    ids = [i for i, name in enumerate(names) if is_id_name(name)]
    if any(_is_number(values[i]) for i in numbers) or any(values[i] not in _MISSING for i in ids):
        return {}
    texts = {names[i]: values[i].strip("[]()") for i in numbers if values[i] not in _MISSING}
    return {
        name: text
        for name, text in texts.items()
        if not isinstance(u.Unit(text, parse_strict="silent"), u.UnrecognizedUnit)
    }


def _take_objects(text: str, layout: _Layout, path: Path) -> str:
    """Return the lines of objects without comments; refuse rows of other numbers of values."""
    n_columns, separator = len(layout.names), layout.separator
    lines = list(islice(io.StringIO(text), layout.start, None))
    if "#" in text or "(" in text:
        lines = [line for line in lines if not _NO_OBJECT.match(line)] or lines
    if '"' in text:
        sizes = [len(fields) for fields in _split(lines, separator) if fields]
    elif separator is None:
        sizes = [size for line in lines if (size := len(line.split()))]
    else:
        sizes = [line.count(separator) + 1 for line in lines if line.strip()]
    short = [row for row, size in enumerate(sizes) if size < n_columns]
    if sizes and max(sizes) > n_columns:
        raise UnfitError(f"{path} has rows of more values than its header: correct them.")
    if short and short[-1] == len(sizes) - 1 and not text.endswith("\n"):
        raise UnfitError(f"{path} ends within a row, so it is truncated: copy it again.")
    if short and separator is None:
        raise UnfitError(
            f"{path} has fewer values than its header in row {short[0]}: separate them by commas, "
            "with nothing between two commas where a value is missing."
        )
    if short and n_columns > 1:
        warnings.warn(
            f"{path} has fewer values than its header in row {short[0]} ({len(short):,} such "
            "rows): the values at the end are read as missing.",
            UserWarning,
            stacklevel=6,
        )
    return "".join(lines)


def _convert_text_to_numbers(
    frame: pd.DataFrame, separator: str | None, path: Path, is_id: Callable[[str], bool]
) -> dict[str, str]:
    """Convert columns that pandas reads as text, though all their values are numbers, in place.

    These are padded numbers, numbers beside the marks of missing values, and decimal commas.
    Returns a sentence on each column with groups of thousands, or with commas of which it is not
    clear what they mean.
    """
    has_points = any(
        pd.api.types.is_float_dtype(values.dtype) and values.notna().any()
        for _, values in frame.items()
    )
    with_comma: dict[str, pd.Series] = {}
    for name in frame:
        if is_id(name) or not isinstance(frame[name].dtype, pd.StringDtype):
            continue
        values = frame[name].dropna().str.strip()
        values = values[~values.isin(_MISSING)]
        distinct = values.drop_duplicates()
        rest = distinct[~distinct.str.fullmatch(_NUMBER)]
        if len(values) and rest.empty:
            frame[name] = _to_numbers(values).reindex(frame.index)
        elif len(rest) and rest.str.fullmatch(f"{_THOUSANDS}|{_DECIMAL_COMMA}").all():
            with_comma[name] = values

    # decimal commas, if at least one cannot be a comma of thousands
    problems = {}
    is_clear = any((~v.str.fullmatch(f"{_THOUSANDS}|{_NUMBER}")).any() for v in with_comma.values())
    for name, values in with_comma.items():
        commas = values[~values.str.fullmatch(_NUMBER)]
        is_decimal = commas.str.fullmatch(_DECIMAL_COMMA).all()
        is_whole = values.str.fullmatch(rf"[+-]?\d+|{_DECIMAL_COMMA}").all()
        if separator == "," and is_decimal and not commas.str.fullmatch(_THOUSANDS).all():
            warnings.warn(
                f"The column {name!r} of {path} is text, such as {commas.iloc[0]!r}: write numbers "
                "with a decimal point.",
                UserWarning,
                stacklevel=6,
            )
        elif separator == "," or not (is_clear and is_decimal and is_whole) or has_points:
            problems[name] = (
                f"{path} has {commas.iloc[0]!r} in the column {name!r}, which may be read in two "
                "ways: write numbers with a decimal point and without separators of thousands, or "
                "choose other columns with columns=."
            )
        else:
            frame[name] = _to_numbers(values).reindex(frame.index)
    return problems


def _to_numbers(values: pd.Series) -> pd.Series:
    """Convert text such as "0.5", "0,5" or Fortran's "5.0D-01" to numbers."""
    plain = values.str.replace(",", ".").str.replace("[dD]", "e", regex=True)
    return pd.to_numeric(plain, dtype_backend="numpy_nullable")
