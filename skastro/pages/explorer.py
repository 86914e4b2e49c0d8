"""Write interactive projections: pages that show which objects are close to each other."""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from astropy.coordinates import SkyCoord
from numpy.typing import ArrayLike, NDArray

from skastro.catalogs.columns import USUAL_COLUMN_NAMES, plain_name
from skastro.catalogs.positions import SKY_PAGES, find_positions, has_positions
from skastro.embeddings.neighbors import SimilarObjects
from skastro.pages.thumbnails import encode_thumbnails, sheet_columns
from skastro.plots.style import OKABE_ITO, check_coordinates
from skastro.stamps.arrays import as_stack
from skastro.utils.files import write_whole
from skastro.utils.packages import import_optional
from skastro.utils.tables import as_frame

# as in the displays, 7 colours and 8 markers make 56 different pairs
_MARKERS = ("circle", "square", "triangle", "diamond", "inverted_triangle", "plus", "hex", "star")
_MAX_CLASSES = len(OKABE_ITO) * len(_MARKERS)
_MAX_INTEGER_CLASSES = 12  # integer columns of more distinct values are numbers
_MAX_CANVAS_POINTS = 8000  # more points are drawn by WebGL
_PADDING = 0.08  # empty share of the canvas in each direction
_DIGITS = 5  # significant digits of the numbers on the page, more if they are large
_DECIMALS_OF_COORDINATES = 7  # of a degree
_DECIMALS_OF_LINKS = 6
_OTHER_COORDINATES = ("l", "b", "glon", "glat", "gal_l", "gal_b", "lon", "lat", "elon", "elat")
_MAX_INTEGER = 2**53  # larger ones are ids, which JavaScript would round
_N_SIMILAR = 12  # objects that the page lists as similar to another
_MAX_SIMILAR_ROWS = 2**16  # more objects would make the page large, and have no such list
_NEEDED = {"extra": "report", "needed_by": "The projection page"}


class ExplorerParts(NamedTuple):
    """Parts of a page with an interactive projection."""

    style: str  # CSS, for a style element
    div: str  # HTML of the projection
    script: str  # script elements for the end of the body, with BokehJS


def write_explorer(
    path: str | Path,
    coordinates: ArrayLike,
    *,
    table: pd.DataFrame,
    images: Any = None,
    bands: Any = None,
    embeddings: ArrayLike | None = None,
    color: str | None = None,
    cluster: str | None = None,
    certainty: str | Mapping[str, str] | None = None,
    units: Mapping[str, str] | None = None,
    title: str = "Projection of the embeddings",
    projection: str = "t-SNE",
) -> Path:
    """Write a projection as one interactive page that needs no network.

    The page shows the stamp and the columns of the object under the pointer, and colours the
    objects by any column. Objects are selected by box, lasso or id, listed, and their ids saved
    as CSV. A click on a class or cluster shows its contact sheet. Objects with a position have
    links to pages of the sky, which the browser opens when they are clicked.

    Parameters
    ----------
    path : path
        File to write, for example ``explore.html``.
    coordinates : array-like of shape (n, 2)
        Positions of the objects, such as those of `project_embedding`; no NaN.
    table : DataFrame of n rows
        Columns to show, in the order of ``coordinates``: ``id`` (by default row numbers) and
        any others. Text, booleans and integers of few distinct values are classes, missing
        where empty or NaN.
    images : array-like of shape (n, bands, height, width), default=None
        Stamps of the objects; by default the page has no stamps.
    bands : sequence of three int or str, default=None
        Bands shown as red, green and blue, by default those of `write_thumbnails`.
    embeddings : array-like of shape (n, d), default=None
        Finite embeddings of the objects. With them, the button "More like this" shows the 12
        objects that are most similar to the selected one, by `find_similar`. Not with more than
        65,536 objects.
    color : str, default=None
        Column that colours the objects first; by default ``cluster`` or the first class.
    cluster : str, default=None
        Column of the clusters, in which -1 is noise.
    certainty : str or mapping of str to str, default=None
        Numeric column by which contact sheets are sorted, the largest values first. A mapping
        names one for each class column (``{"cluster": "probability"}``). By default, contact
        sheets have the order of the rows.
    units : mapping of str to str, default=None
        Units by column.
    title : str, default="Projection of the embeddings"
        Title of the page.
    projection : str, default="t-SNE"
        Name of the projection, for the axes.

    Returns
    -------
    path : Path

    Raises
    ------
    ValueError
        The rows of the arguments differ, a column does not exist, or coordinates are not finite.
    ImportError
        bokeh or jinja2 is not installed.

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
    sheet, table = None, as_frame(table, "table")
    if images is not None:
        images = as_stack(images, name="images")
        _check_rows("images", len(images), len(table))
        sheet = encode_thumbnails(images, bands=bands)
    parts = explorer_parts(
        coordinates, table=table, sheet=sheet, embeddings=embeddings, color=color, cluster=cluster,
        certainty=certainty, units=units, projection=projection,
    )  # fmt: skip
    content = {"title": title, "parts": parts, "n": len(table)}
    page = render("explorer_page.html", content, needed_by="The projection page")
    path = Path(path).expanduser()
    write_whole(path, page.encode())
    return path


def explorer_parts(
    coordinates: ArrayLike,
    *,
    table: pd.DataFrame,
    sheet: bytes | None = None,
    style: bool = True,
    embeddings: ArrayLike | None = None,
    color: str | None = None,
    cluster: str | None = None,
    certainty: str | Mapping[str, str] | None = None,
    units: Mapping[str, str] | None = None,
    projection: str = "t-SNE",
) -> ExplorerParts:
    """Return the parts of the page that `write_explorer` writes.

    ``sheet`` is the result of `encode_thumbnails`. Without ``style``, the CSS does not contain this
    picture, for pages that contain `stamp_style` already.

    Examples
    --------
    >>> parts = explorer_parts([[0, 0], [1, 2]], table=pd.DataFrame({"size": [1.5, 2.0]}))
    >>> "Bokeh" in parts.script
    True
    """
    points = check_coordinates(coordinates, np.float32, name="coordinates")
    _check_rows("coordinates", len(points), len(table))
    table = table.reset_index(drop=True)
    _check_names(table, color=color, cluster=cluster, certainty=certainty)
    columns = [
        _describe_column(table[name], unit=(units or {}).get(name), cluster=name == cluster)
        for name in table.columns.drop("id", errors="ignore")
    ]
    ids = table["id"] if "id" in table.columns else pd.RangeIndex(len(table)).to_series()
    content = {
        "ids": ids.astype(str).tolist(),
        "columns": columns,
        "color": _first_color(columns, color, cluster),
        "cluster": cluster,
        "similar": _embed_similar(embeddings, len(table)),
        "sky": _find_sky(table),
        "certainty": certainty if isinstance(certainty, Mapping) else {"*": certainty},
        "sheet": None if sheet is None else sheet_columns(len(table)),
        "colors": list(OKABE_ITO),
        "markers": list(_MARKERS),
        "ramp": list(import_optional("bokeh.palettes", **_NEEDED).viridis(64)),
        "plot": _scatter_plot(points),
    }
    # fill the templates
    page = {"projection": projection, "n": len(table), "stamps": sheet is not None}
    pictures = stamp_style(sheet, len(table)) if style and sheet is not None else ""
    bokeh_js = import_optional("bokeh.resources", **_NEEDED).Resources(
        mode="inline", components=["bokeh", "bokeh-gl"], log_level="error"
    )
    data = render("explorer_script.html", {"data": _embed_json(content)})
    return ExplorerParts(
        style=render("explorer.css", {}) + pictures,
        div=render("explorer.html", page),
        script=bokeh_js.render_js() + data,
    )


def stamp_style(sheet: bytes, n: int) -> str:
    """Return CSS that shows n thumbnails of a WebP sheet.

    An element ``<span class="stamp" style="--c: 3; --r: 1">`` of any size shows the stamp in
    column 3 and row 1 of the sheet.

    Examples
    --------
    >>> stamp_style(b"...", 10)[:7]
    '.stamp '
    """
    columns = sheet_columns(n)
    rows = -(-n // columns)
    # offsets in percent are relative to the difference of the sizes of background and element
    x, y = 100 / max(columns - 1, 1), 100 / max(rows - 1, 1)
    picture = base64.b64encode(sheet).decode("ascii")
    return (
        f".stamp {{ background-image: url(data:image/webp;base64,{picture}); "
        f"background-size: {100 * columns}% {100 * rows}%; "
        f"background-position: calc(var(--c) * {x:.6f}%) calc(var(--r) * {y:.6f}%); }}\n"
    )


def find_sky(table: pd.DataFrame, ra: str | None = None, dec: str | None = None) -> SkyCoord | None:
    """Return the positions of objects; None if there are no columns of positions, or wrong ones.

    ``ra`` and ``dec`` are columns, found by their usual names if None.

    Examples
    --------
    >>> find_sky(pd.DataFrame({"ra": [10.5], "dec": [-999.0]})) is None
    True
    """
    try:
        return find_positions(table, ra, dec) if ra or has_positions(table) else None
    except ValueError:  # such as -999 for none: the page can do without links
        return None


def _find_sky(table: pd.DataFrame) -> dict[str, Any] | None:
    """Return positions as JSON, and the pages of the sky that can show them."""
    sky = find_sky(table)
    if sky is None:
        return None
    ra, dec = (
        [round(x, _DECIMALS_OF_LINKS) if np.isfinite(x) else None for x in values.tolist()]
        for values in (sky.ra.deg, sky.dec.deg)
    )
    return {"ra": ra, "dec": dec, "pages": SKY_PAGES}


def _embed_similar(embeddings: ArrayLike | None, n: int) -> str | None:
    """Return the rows of the objects most similar to each of n, as 16-bit integers in base 64."""
    if embeddings is None or not 1 < n <= _MAX_SIMILAR_ROWS:
        return None
    objects = SimilarObjects(embeddings)
    _check_rows("embeddings", len(objects.ids_), n)
    rows = objects.find(np.arange(n), _N_SIMILAR)["row"].to_numpy("<u2")
    return base64.b64encode(rows.tobytes()).decode("ascii")


def _check_rows(name: str, n: int, expected: int) -> None:
    if n != expected:
        raise ValueError(
            f"{name} has {n:,} rows, but table has {expected:,}: pass the same objects in "
            "the same order."
        )


def _check_names(table: pd.DataFrame, **arguments: str | Mapping[str, str] | None) -> None:
    """Raise a ValueError if an argument names a column that does not exist."""
    for argument, value in arguments.items():
        names = [*value, *value.values()] if isinstance(value, Mapping) else [value]
        for name in names:
            if name is not None and name not in table.columns:
                raise ValueError(
                    f"{argument}={name!r} is not a column of table: choose one of "
                    f"{', '.join(map(str, table.columns))}."
                )


def _describe_column(values: pd.Series, *, unit: str | None, cluster: bool) -> dict[str, Any]:
    """Return a column as JSON: numbers, codes of classes (-1 = missing), or text.

    Numbers that are ``exact`` are shown with all their digits. Integers that JavaScript would round
    are text.
    """
    column: dict[str, Any] = {"name": str(values.name), "unit": unit or ""}
    present = values.notna() & (values.astype(str) != "")
    if cluster:
        present &= values.astype(str) != "-1"
    is_numeric = values.dtype.kind in "iuf"
    distinct = values[present].unique()
    form: Callable[[Any], str] = str
    if is_numeric and not cluster:
        whole = (np.asarray(distinct, dtype=np.float64) % 1 == 0).all()
        is_id = whole and len(distinct) and abs(distinct).max() > _MAX_INTEGER
        if not whole or (len(distinct) > _MAX_INTEGER_CLASSES and not is_id):
            exact = _is_coordinate(values.name)
            numbers = values.to_numpy(dtype=np.float64, na_value=np.nan)
            rounded = [_round(x, exact=exact) if np.isfinite(x) else None for x in numbers]
            return column | {"kind": "number", "exact": exact, "values": rounded}
    if is_numeric:
        form = _format_integer
    # sort numbers as numbers, and show 2.0 as 2
    levels = list(dict.fromkeys(map(form, sorted(distinct if is_numeric else map(str, distinct)))))
    if len(levels) > _MAX_CLASSES:
        return column | {
            "kind": "text",
            "values": [form(x) if there else "" for x, there in zip(values, present, strict=True)],
        }
    text = values[present].map(form).reindex(values.index)
    codes = pd.Categorical(text, categories=levels).codes.tolist()
    missing = "noise" if cluster else "none"
    return column | {"kind": "class", "levels": levels, "missing": missing, "values": codes}


def _is_coordinate(name: Any) -> bool:
    usual = (*USUAL_COLUMN_NAMES["ra"], *USUAL_COLUMN_NAMES["dec"], *_OTHER_COORDINATES)
    return plain_name(name) in usual


def _format_integer(x: float) -> str:
    return str(int(x))


def _round(x: float, *, exact: bool) -> float:
    """Round a coordinate to seven decimals, others to five digits, at least three after the point.

    Examples
    --------
    >>> [_round(x, exact=False) for x in (0.0012345678, 58849.1234567, 1234567.0)]
    [0.0012346, 58849.123, 1234567.0]
    """
    if exact:
        return round(x, _DECIMALS_OF_COORDINATES)
    n_whole = math.floor(math.log10(abs(x))) + 1 if x else 0
    return float(f"{x:.{max(_DIGITS, n_whole + 3)}g}")


def _first_color(
    columns: list[dict[str, Any]], color: str | None, cluster: str | None
) -> str | None:
    """Return the column that colours the objects first, if any column can."""
    kinds = {column["name"]: column["kind"] for column in columns if column["kind"] != "text"}
    wanted = color if color is not None else cluster
    if wanted in kinds:
        return wanted
    return min(kinds, key=kinds.__getitem__, default=None)  # "class" comes before "number"


def _scatter_plot(points: NDArray[np.float32]) -> dict[str, Any]:
    """Return the scatter plot as JSON for BokehJS; explorer.js sets colours and reacts to users."""
    plotting = import_optional("bokeh.plotting", **_NEEDED)
    models = import_optional("bokeh.models", **_NEEDED)
    embed = import_optional("bokeh.embed", **_NEEDED)
    n = len(points)
    columns = {
        "x": points[:, 0], "y": points[:, 1], "color": ["gray"] * n, "marker": ["circle"] * n,
        "alpha": np.full(n, 0.8, dtype=np.float32),
    }  # fmt: skip
    source = plotting.ColumnDataSource(columns, name="objects")
    figure = plotting.figure(
        tools="pan,wheel_zoom,box_select,lasso_select,tap,reset", active_drag=None,
        toolbar_location=None, sizing_mode="stretch_both", min_height=200,
        background_fill_color=None, border_fill_color=None, outline_line_color=None,
        # without a graphics card, explorer.js uses the canvas
        output_backend="canvas" if n <= _MAX_CANVAS_POINTS else "webgl", name="projection",
    )  # fmt: skip
    figure.add_tools(models.HoverTool(tooltips=None))
    for axis_range in (figure.x_range, figure.y_range):  # the axes have no unit: fill the canvas
        axis_range.range_padding = _PADDING
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


def render(template: str, content: dict[str, Any], *, needed_by: str = "The report") -> str:
    """Fill a file of ``skastro/pages/templates``; text is escaped.

    Without jinja2, an ImportError says that ``needed_by`` needs it and how to install it.
    """
    jinja2 = import_optional("jinja2", extra="report", needed_by=needed_by)
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("skastro.pages"), autoescape=True, trim_blocks=True,
        lstrip_blocks=True, undefined=jinja2.StrictUndefined,
    )  # fmt: skip
    return environment.get_template(template).render(content)


def _embed_json(content: Any) -> str:
    r"""Return JSON that a script element can hold; NaN is a ValueError.

    Examples
    --------
    >>> _embed_json({"id": "</script>"})
    '{"id":"\\u003c/script>"}'
    """
    text = json.dumps(content, allow_nan=False, separators=(",", ":"), ensure_ascii=False)
    return text.replace("<", "\\u003c")
