"""The command `skastro similar`."""

from __future__ import annotations

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


def similar(
    source: o.Source,
    to: Annotated[str, typer.Option(help="Ids of objects, with commas.")],
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

    --figure draws the stamps, with the classes of --label.
    """
    with talking(quiet=quiet, lines=json) as terminal:
        from skastro.catalogs.writing import TABLES, write_table

        target = o.check_target(out, TABLES, overwrite=overwrite)
        picture = figure and o.check_target(figure, o.FIGURES, overwrite=overwrite)
        load_libraries(terminal, jobs, device)
        from skastro.catalogs.samp import send_table
        from skastro.cli import steps
        from skastro.embeddings.neighbors import find_similar
        from skastro.study.teachers import append_columns

        ids, rows, embeddings, properties, table, stamps = _load_rows(
            source, to, encoder, device, catalog, images, id, terminal.say, bands=bands, hdu=hdu,
            axes=axes,
        )  # fmt: skip
        classes = None if label is None else steps.take_column(table, label, "label")
        if picture and stamps is None:
            raise ValueError(
                "--figure needs stamps: add --images, or name a data folder and its --encoder."
            )
        found = find_similar(embeddings, ids[rows], k, properties=properties, ids=ids)
        more = table.drop(columns="id", errors="ignore").iloc[found["row"]]
        more.attrs["units"] = table.attrs.get("units", {})
        result = append_columns(found[_SHOWN], more)
        write_table(target, result)
        if picture:
            _draw(picture, found, stamps, classes)
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


def _load_rows(
    source: Path,
    to: str,
    encoder: Path | None,
    device: str,
    catalog: Path | None,
    images: list[str] | None,
    id: str | None,
    say: Say,
    **options: Any,
) -> tuple[
    NDArray[Any], NDArray[np.int64], NDArray[np.float32], NDArray[Any] | None, pd.DataFrame, Any
]:
    """Return ids, the rows of those wanted, embeddings, properties, catalogue and stamps.

    Without an encoder there are no properties; stamps are None if none are named. ``options`` are
    those of `read_data`.
    """
    import numpy as np

    from skastro.catalogs.matching import find_rows
    from skastro.cli import steps
    from skastro.stamps.photometry import measure_properties

    if encoder is not None and images:
        raise ValueError(f"--images is for embeddings: with --encoder those of {source} are used.")
    model = None if encoder is None else steps.load_encoder(encoder, device=device)
    embeddings, kept, table, stamps = steps.join_sources(
        source, catalog, images, id, is_folder=model is not None, say=say, **options
    )

    # find the objects before stamps are embedded
    ids, names = embeddings.ids[kept], o.split_names(to)
    rows = find_rows(names, ids, name=str(source))
    if not names or (rows < 0).any():
        absent = repr(names[int(rows.argmin())]) if names else "nothing"
        raise ValueError(f"--to names {absent}: pass ids of {source}, such as {ids[0]}.")

    # describe all objects
    if model is None:
        return ids, rows, embeddings.values[kept], None, table, stamps
    values = np.asarray(model.transform(stamps))
    properties = np.hstack([model.predict_embedded(values), measure_properties(stamps)])
    return ids, rows, values, properties, table, stamps


def _draw(path: Path, found: pd.DataFrame, stamps: Any, classes: NDArray[Any] | None) -> None:
    """Write a figure of the stamps."""
    from skastro.plots.similar import SimilarDisplay
    from skastro.plots.style import import_matplotlib

    pyplot = import_matplotlib("pyplot")
    drawn = SimilarDisplay.from_result(found, stamps, y=classes).figure_
    drawn.savefig(path, dpi=_DPI)
    pyplot.close(drawn)
