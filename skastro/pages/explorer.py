"""The interactive projection: one page that shows which objects lie together, and what they are."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from skastro.pages.html import embed_json, render, write_page
from skastro.pages.thumbnails import encode_thumbnails, sheet_columns
from skastro.plots.style import OKABE_ITO
from skastro.utils.packages import import_optional

# as the displays have them: 7 colours and 8 forms have no common divisor, 56 pairs are different
_MARKERS = ("circle", "square", "triangle", "diamond", "inverted_triangle", "plus", "hex", "star")
_MOST_CLASSES = len(OKABE_ITO) * len(_MARKERS)
_FEW_INTEGERS = 12  # distinct values of an integer column that is a class, not a number
_MOST_ON_CANVAS = 8000  # points
_DIGITS = 5  # significant, of the numbers on the page
_NEEDED = {"extra": "report", "needed_by": "The projection page"}


@dataclass(frozen=True)
class ExplorerParts:
    """What a page needs to show the interactive projection.

    Parameters
    ----------
    style : str
        CSS, for a ``style`` element.
    div : str
        HTML, for the place where the projection shall stand.
    script : str
        HTML: ``script`` elements for the end of the body, BokehJS among them.

    Examples
    --------
    >>> parts = explorer_parts([[0, 0], [1, 2]], table=pd.DataFrame({"id": ["a", "b"]}))
    >>> parts.div.startswith("<div")
    True
    """

    style: str
    div: str
    script: str


def write_explorer(
    path: str | Path,
    coordinates: ArrayLike,
    *,
    table: pd.DataFrame,
    images: Any = None,
    bands: Any = None,
    color: str | None = None,
    cluster: str | None = None,
    certainty: str | Mapping[str, str] | None = None,
    units: Mapping[str, str] | None = None,
    title: str = "Projection of the embeddings",
    projection: str = "t-SNE",
) -> Path:
    """Write a projection as one interactive page that needs no network.

    Hovering shows an object's stamp and columns; the colour can be that of any column; objects
    are selected by box, lasso or id, listed, and their ids saved as CSV; a click on a class
    or cluster shows its contact sheet.

    Parameters
    ----------
    path : path
        For example ``explore.html``.
    coordinates : array-like of shape (n, 2)
        As `project_embedding` gives them; no NaN.
    table : DataFrame of n rows
        What is known of the objects, in the order of ``coordinates``: column ``id`` (row
        numbers where there is none) and any others. Text, booleans and integers of few
        distinct values are classes, missing where empty or NaN.
    images : array-like of shape (n, bands, height, width), default=None
        The stamps; None shows none.
    bands : sequence of three int or str, default=None
        As in ``encode_thumbnails``.
    color : str, default=None
        The column that colours the points at first. None takes ``cluster`` or the first class.
    cluster : str, default=None
        The column with the clusters, in which -1 is noise.
    certainty : str or mapping of str to str, default=None
        A numeric column: contact sheets begin with its largest values. A mapping gives each
        class column (``{"cluster": "probability"}``) its own. None keeps the order.
    units : mapping of str to str, default=None
        Units of columns.
    title : str, default="Projection of the embeddings"
    projection : str, default="t-SNE"
        What the coordinates are.

    Returns
    -------
    path : Path

    Raises
    ------
    ValueError
        The rows of the arguments differ, a column does not exist, or coordinates are not finite.
    ImportError
        bokeh is not installed.

    Examples
    --------
    >>> import tempfile
    >>> from skastro import write_explorer
    >>> table = pd.DataFrame({"id": ["a", "b", "c"], "class": ["star", "star", "galaxy"]})
    >>> points = [[0.0, 1.0], [0.2, 1.1], [3.0, 2.0]]
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     page = write_explorer(f"{folder}/explore.html", points, table=table, color="class")
    ...     "</html>" in page.read_text()
    True
    """
    sheet = None
    if images is not None:
        _check_rows("images", len(images), len(table))
        sheet = encode_thumbnails(images, bands=bands)
    parts = explorer_parts(
        coordinates,
        table=table,
        sheet=sheet,
        color=color,
        cluster=cluster,
        certainty=certainty,
        units=units,
        projection=projection,
    )
    content = {"title": title, "parts": parts, "n": len(table)}
    return write_page(path, render("explorer_page.html", content, needed_by="The projection page"))


def explorer_parts(
    coordinates: ArrayLike,
    *,
    table: pd.DataFrame,
    sheet: bytes | None = None,
    style: bool = True,
    color: str | None = None,
    cluster: str | None = None,
    certainty: str | Mapping[str, str] | None = None,
    units: Mapping[str, str] | None = None,
    projection: str = "t-SNE",
) -> ExplorerParts:
    """Make the interactive projection as parts of a page.

    Parameters
    ----------
    sheet : bytes, default=None
        The picture that ``encode_thumbnails`` makes of the n stamps.
    style : bool, default=True
        Whether the style holds that picture; False where the page has `stamp_style` already.
    coordinates, table, color, cluster, certainty, units, projection
        As in `write_explorer`.

    Returns
    -------
    parts : ExplorerParts

    Raises
    ------
    ValueError, ImportError
        As `write_explorer`.

    Examples
    --------
    >>> parts = explorer_parts([[0, 0], [1, 2]], table=pd.DataFrame({"size": [1.5, 2.0]}))
    >>> "Bokeh" in parts.script
    True
    """
    points = _check_coordinates(coordinates, len(table))
    table = table.reset_index(drop=True)
    _check_names(table, color=color, cluster=cluster, certainty=certainty)
    columns = [
        _describe_column(table[name], unit=(units or {}).get(name), cluster=name == cluster)
        for name in table.columns
        if name != "id"
    ]
    ids = table["id"] if "id" in table.columns else pd.RangeIndex(len(table)).to_series()
    content = {
        "ids": ids.astype(str).tolist(),
        "columns": columns,
        "color": _first_color(columns, color, cluster),
        "cluster": cluster,
        "certainty": certainty if isinstance(certainty, Mapping) else {"*": certainty},
        "sheet": None if sheet is None else sheet_columns(len(table)),
        "colors": list(OKABE_ITO),
        "markers": list(_MARKERS),
        "ramp": _ramp(),
        "plot": _draw(points),
    }
    page = {"projection": projection, "n": len(table), "stamps": sheet is not None}
    pictures = stamp_style(sheet, len(table)) if style and sheet is not None else ""
    return ExplorerParts(
        style=render("explorer.css", {}) + pictures,
        div=render("explorer.html", page),
        script=_bokeh() + render("explorer_script.html", {"data": embed_json(content)}),
    )


def stamp_style(sheet: bytes, n: int) -> str:
    """Return the CSS that shows thumbnails of a sheet.

    An element ``<span class="stamp" style="--c: 3; --r: 1">`` is the stamp in column 3 of row
    1 of the sheet, whatever the size of the element.

    Parameters
    ----------
    sheet : bytes
        WebP, as ``encode_thumbnails`` makes it.
    n : int
        Number of stamps on it.

    Returns
    -------
    style : str

    Examples
    --------
    >>> stamp_style(b"...", 10)[:7]
    '.stamp '
    """
    columns = sheet_columns(n)
    rows = -(-n // columns)
    # in percent, an offset counts in units of what the background is larger than its element
    x, y = 100 / max(columns - 1, 1), 100 / max(rows - 1, 1)
    picture = base64.b64encode(sheet).decode("ascii")
    return (
        f".stamp {{ background-image: url(data:image/webp;base64,{picture}); "
        f"background-size: {100 * columns}% {100 * rows}%; "
        f"background-position: calc(var(--c) * {x:.6f}%) calc(var(--r) * {y:.6f}%); }}\n"
    )


def _check_rows(name: str, rows: int, expected: int) -> None:
    if rows != expected:
        raise ValueError(
            f"{name} has {rows:,} rows, but table has {expected:,}: pass the same objects in "
            "the same order."
        )


def _check_names(table: pd.DataFrame, **arguments: str | Mapping[str, str] | None) -> None:
    for argument, value in arguments.items():
        pairs = value.items() if isinstance(value, Mapping) else [(value,)]
        for name in (name for pair in pairs for name in pair if name is not None):
            if name not in table.columns:
                known = ", ".join(map(str, table.columns))
                raise ValueError(f"{argument}={name!r} is no column of table: choose of {known}.")


def _check_coordinates(coordinates: ArrayLike, n: int) -> NDArray[np.float32]:
    points = np.asarray(coordinates, dtype=np.float32)
    if points.ndim != 2 or points.shape[1] != 2:
        raise ValueError(f"coordinates has shape {points.shape}, but points are (n, 2).")
    _check_rows("coordinates", len(points), n)
    if not len(points):
        raise ValueError("table has no row: pass at least one object.")
    lost = np.flatnonzero(~np.isfinite(points).all(axis=1))
    if len(lost):
        raise ValueError(f"coordinates has no finite point in row {lost[0]}: leave the row out.")
    return points


def _describe_column(values: pd.Series, *, unit: str | None, cluster: bool) -> dict[str, Any]:
    """Return a column as JSON: numbers, or codes of its classes (-1 = missing)."""
    column = {"name": str(values.name), "unit": unit or ""}
    present = values.notna() & (values.astype(str) != "")
    if cluster:
        present &= values.astype(str) != "-1"
    if not cluster and _is_number(values, present):
        return column | {"kind": "number", "values": _round(values)}
    kept = values[present]
    if pd.api.types.is_numeric_dtype(kept.dtype) and not pd.api.types.is_bool_dtype(kept.dtype):
        levels = [f"{level:g}" for level in sorted(kept.unique())]
        text = kept.map("{:g}".format)
    else:
        text = kept.astype(str)
        levels = sorted(text.unique())
    if len(levels) > _MOST_CLASSES:
        return column | {"kind": "text", "values": values.where(present, "").astype(str).tolist()}
    codes = pd.Categorical(text.reindex(values.index), categories=levels).codes
    missing = "noise" if cluster else "none"
    return column | {
        "kind": "class",
        "levels": levels,
        "missing": missing,
        "values": codes.tolist(),
    }


def _is_number(values: pd.Series, present: pd.Series) -> bool:
    if pd.api.types.is_bool_dtype(values.dtype) or not pd.api.types.is_numeric_dtype(values.dtype):
        return False
    distinct = values[present].unique()
    whole = (np.asarray(distinct, dtype=np.float64) % 1 == 0).all()
    return not whole or len(distinct) > _FEW_INTEGERS


def _round(values: pd.Series) -> list[float | None]:
    numbers = values.to_numpy(dtype=np.float64, na_value=np.nan)
    return [float(f"{x:.{_DIGITS}g}") if np.isfinite(x) else None for x in numbers]


def _first_color(
    columns: list[dict[str, Any]], color: str | None, cluster: str | None
) -> str | None:
    kinds = {column["name"]: column["kind"] for column in columns}
    wanted = color if color is not None else cluster
    if wanted in kinds and kinds[wanted] != "text":
        return wanted
    by_kind = sorted((name for name in kinds if kinds[name] != "text"), key=kinds.__getitem__)
    return by_kind[0] if by_kind else None


def _ramp() -> list[str]:
    palettes = import_optional("bokeh.palettes", **_NEEDED)
    return list(palettes.viridis(64))


def _draw(points: NDArray[np.float32]) -> dict[str, Any]:
    """Return the scatter plot as JSON for BokehJS; explorer.js gives it colours and life."""
    plotting = import_optional("bokeh.plotting", **_NEEDED)
    models = import_optional("bokeh.models", **_NEEDED)
    embed = import_optional("bokeh.embed", **_NEEDED)
    n = len(points)
    source = plotting.ColumnDataSource(
        {
            "x": points[:, 0],
            "y": points[:, 1],
            "color": ["gray"] * n,
            "marker": ["circle"] * n,
            "alpha": np.full(n, 0.8, dtype=np.float32),
        },
        name="objects",
    )
    figure = plotting.figure(
        tools="pan,wheel_zoom,box_select,lasso_select,tap,reset",
        active_drag=None,
        toolbar_location=None,
        sizing_mode="stretch_both",
        min_height=200,
        # explorer.js falls back on the canvas where there is no graphics card
        output_backend="canvas" if len(points) <= _MOST_ON_CANVAS else "webgl",
        match_aspect=True,
        background_fill_color=None,
        border_fill_color=None,
        outline_line_color=None,
        name="projection",
    )
    figure.add_tools(models.HoverTool(tooltips=None))
    figure.axis.visible = False
    figure.grid.visible = False
    figure.scatter(
        "x", "y", source=source, name="points", size=5, marker="marker",
        fill_color="color", line_color="color", line_width=0.6,
        fill_alpha="alpha", line_alpha="alpha",
        selection_fill_alpha=1, selection_line_alpha=1,
        nonselection_fill_alpha=0.12, nonselection_line_alpha=0.12,
    )  # fmt: skip
    return embed.json_item(figure)


def _bokeh() -> str:
    """Return BokehJS as script elements."""
    resources = import_optional("bokeh.resources", **_NEEDED)
    inline = resources.Resources(mode="inline", components=["bokeh", "bokeh-gl"], log_level="error")
    return inline.render_js()
