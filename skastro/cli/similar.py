"""The command `skastro similar`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from skastro.cli import options as o
from skastro.cli.terminal import load_libraries, print_line, show_table, talking

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from numpy.typing import NDArray

    from skastro.utils.progress import Say

_DPI = 150
_N_SHOWN = 20
_SHOWN = ["query", "rank", "id", "similarity"]


@dataclass(frozen=True)
class _Described:
    """Objects with what they are compared by, or new ones; None is for what is not there."""

    ids: NDArray[Any]
    embeddings: NDArray[np.float32]
    properties: Any  # a table
    stamps: Any
    table: pd.DataFrame


def similar(
    source: o.Source,
    to: Annotated[str | None, typer.Option(help="Ids of objects, with commas.")] = None,
    to_images: Annotated[
        Path | None,
        typer.Option(help="New stamps, a file or a folder, in place of ids; needs --encoder."),
    ] = None,
    k: Annotated[
        int, typer.Option("-k", "--number", min=1, help="Objects to find for each of them.")
    ] = 10,
    out: Annotated[Path, typer.Option(help="Table for the similar objects.")] = Path("similar.csv"),
    figure: Annotated[
        Path | None, typer.Option(help="Picture of the stamps: .png, .pdf, .svg or .jpg.")
    ] = None,
    encoder: o.Encoder = None,
    catalog: Annotated[
        Path | None, typer.Option(help="Catalogue, whose columns the table gets, too.")
    ] = None,
    images: o.Images = None,
    bands: o.Bands = None,
    hdu: o.Hdu = None,
    axes: o.Axes = None,
    missing_bands: o.MissingBands = "error",
    id: o.Id = None,
    label: o.Label = None,
    samp: o.Samp = False,
    jobs: o.Jobs = None,
    device: o.Device = "auto",
    overwrite: o.Overwrite = False,
    quiet: o.Quiet = False,
    json: o.Json = False,
    debug: o.Debug = False,
) -> None:
    """Find the objects that are most similar to given ones: more like this.

    The similarity is the cosine of standardised embeddings. With --encoder, the properties that
    it predicts and those measured from the pixels weigh as much as the embedding.

    --to names objects that are there; --to-images embeds new stamps, whose names are the queries.

    --figure draws the stamps, with the classes of --label.
    """
    with talking(quiet=quiet, lines=json) as terminal:
        from skastro.catalogs.writing import TABLES, write_table

        target = o.check_target(out, TABLES, overwrite=overwrite)
        picture = figure and o.check_target(figure, o.FIGURES, overwrite=overwrite)
        load_libraries(terminal, jobs, device)
        from skastro.catalogs.samp import send_table
        from skastro.cli import steps
        from skastro.study.teachers import append_columns

        objects, found, new = _find(
            source, to, to_images, k, encoder, device, catalog, images, id, terminal.say,
            bands=bands, hdu=hdu, axes=axes, missing_bands=missing_bands,
        )  # fmt: skip
        table = objects.table
        classes = None if label is None else steps.take_column(table, label, "label")
        if picture and objects.stamps is None:
            raise ValueError(
                "--figure needs stamps: add --images, or name a data folder and its --encoder."
            )
        more = table.drop(columns="id", errors="ignore").iloc[found["row"]]
        more.attrs["units"] = table.attrs.get("units", {})
        named = found if new is None else found.assign(query=new.ids[found["query"]])
        result = append_columns(named[_SHOWN], more)
        write_table(target, result)
        if picture:
            _draw(picture, found, objects.stamps, classes, None if new is None else new.stamps)
        programs = send_table(result, target.name) if samp else []
        terminal.result(out=target, rows=len(result), programs=programs)
    if terminal.prints:
        shown = result[[*_SHOWN, *([label] if label else [])]].head(_N_SHOWN)
        show_table(shown.astype({"query": str, "id": str}))
        if picture:
            print_line(f"Figure: {picture}")
        if programs:
            print_line(f"Sent to {', '.join(programs)}.")
        print_line(f"Similar objects: {target}")


def _find(
    source: Path,
    to: str | None,
    to_images: Path | None,
    k: int,
    encoder: Path | None,
    device: str,
    catalog: Path | None,
    images: list[str] | None,
    id: str | None,
    say: Say,
    **options: Any,
) -> tuple[_Described, pd.DataFrame, _Described | None]:
    """Return all objects, the table of those that are similar, and the new objects if any.

    ``options`` are those of `read_data`.
    """
    from skastro.cli import steps
    from skastro.embeddings.neighbors import find_similar

    if (to is None) == (to_images is None):
        raise ValueError("pass the ids of objects (--to), or new stamps (--to-images).")
    if to_images is not None and encoder is None:
        raise ValueError("--to-images needs the encoder of the embeddings: add --encoder.")
    is_folder = encoder is not None and (to_images is None or not steps.has_embeddings(source))
    if is_folder and images:
        raise ValueError(f"--images is for embeddings: with --encoder those of {source} are used.")
    model = None if encoder is None else steps.load_encoder(encoder, device=device)
    embeddings, kept, table, stamps = steps.join_sources(
        source, catalog, images, id, is_folder=is_folder, say=say, **options
    )

    # find the objects, or open new ones, before stamps are embedded
    ids, rows, new = embeddings.ids[kept], None, None
    if to_images is None:
        rows = _find_ids(str(source), to, ids)
    else:
        theirs = steps.load_new(to_images, say, **options)
        new = _describe(model, theirs.images, theirs.ids, theirs.catalog, has_properties=is_folder)
    if is_folder:
        objects = _describe(model, stamps, ids, table)
    else:
        objects = _Described(ids, embeddings.values[kept], None, stamps, table)
    query, more = (ids[rows], None) if new is None else (new.embeddings, new.properties)
    if more is not None:  # what cannot be measured in any stamp has no column
        more = more.reindex(columns=objects.properties.columns)
    found = find_similar(
        objects.embeddings, query, k, properties=objects.properties, query_properties=more, ids=ids
    )
    return objects, found, new


def _find_ids(source: str, to: str | None, ids: NDArray[Any]) -> NDArray[np.int64]:
    """Return the rows of the objects that ``to`` names."""
    from skastro.catalogs.matching import find_rows

    names = o.split_names(to)
    rows = find_rows(names, ids, name=source)
    if not names or (rows < 0).any():
        absent = repr(names[int(rows.argmin())]) if names else "nothing"
        raise ValueError(f"--to names {absent}: pass ids of {source}, such as {ids[0]}.")
    return rows


def _describe(
    model: Any, stamps: Any, ids: NDArray[Any], table: pd.DataFrame, *, has_properties: bool = True
) -> _Described:
    """Embed stamps, and tell the properties that the encoder predicts and those measured."""
    import numpy as np
    import pandas as pd

    from skastro.stamps.photometry import measure_properties

    values = np.asarray(model.transform(stamps))
    properties = None
    if has_properties:
        predicted = pd.DataFrame(np.asarray(model.predict_embedded(values))).add_prefix(
            "predicted_"
        )
        properties = pd.concat([predicted, measure_properties(stamps)], axis=1)
    return _Described(np.asarray(ids), values, properties, stamps, table)


def _draw(
    path: Path, found: pd.DataFrame, stamps: Any, classes: NDArray[Any] | None, new: Any
) -> None:
    """Write a figure of the stamps; ``new`` are those of the queries if they are new."""
    from skastro.plots.similar import SimilarDisplay
    from skastro.plots.style import import_matplotlib

    pyplot = import_matplotlib("pyplot")
    display = SimilarDisplay.from_result(found, stamps, query_images=new, y=classes)
    drawn = display.figure_
    drawn.savefig(path, dpi=_DPI)
    pyplot.close(drawn)
