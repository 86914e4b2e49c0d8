"""The command `skastro explain`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from skastro.cli import options as o
from skastro.cli.terminal import load_libraries, print_line, talking

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from skastro.evaluation.explanation import Explanation

_DPI = 150


def explain(
    classifier: Annotated[Path, typer.Argument(help="File of `skastro classify --save`.")],
    folder: o.Folder = None,
    ids: Annotated[
        str | None, typer.Option(help="Ids of the objects to explain, with commas.")
    ] = None,
    out: Annotated[Path, typer.Option(help="Table for the reasons.")] = Path("explanations.csv"),
    figure: Annotated[
        Path | None,
        typer.Option(help="Picture of stamps, maps and properties: .png, .pdf, .svg or .jpg."),
    ] = None,
    catalog: o.Catalog = None,
    images: o.Images = None,
    id: o.Id = None,
    ra: o.Ra = None,
    dec: o.Dec = None,
    size: o.CutTo = None,
    bands: o.Bands = None,
    hdu: o.Hdu = None,
    axes: o.Axes = None,
    missing_bands: o.MissingBands = "error",
    seed: o.Seed = 0,
    jobs: o.Jobs = None,
    device: o.Device = "auto",
    overwrite: o.Overwrite = False,
    quiet: o.Quiet = False,
    json: o.Json = False,
    debug: o.Debug = False,
) -> None:
    """Explain the classes that a saved classifier gives some objects.

    Prints the properties that speak for and against each class, with what they add to its
    probability, and writes them all. --figure also draws where in the stamp the class is seen.
    """
    with talking(quiet=quiet, lines=json) as terminal:
        from skastro.catalogs.writing import TABLES, write_table

        target = o.check_target(out, TABLES, overwrite=overwrite)
        picture = figure and o.check_target(figure, o.FIGURES, overwrite=overwrite)
        load_libraries(terminal, jobs, device)
        from skastro.catalogs.matching import find_rows
        from skastro.cli import steps
        from skastro.evaluation import explanation

        model = steps.load_classifier(classifier, device=device)
        survey = steps.load_objects(
            folder, terminal.say, catalog=catalog, images=images, id=id, ra=ra, dec=dec, size=size,
            bands=bands, hdu=hdu, axes=axes, missing_bands=missing_bands,
        )  # fmt: skip
        names = o.split_names(ids)
        rows = find_rows(names, survey.ids, name="the survey")
        if not names or (rows < 0).any():
            given = f"names {names[int(rows.argmin())]!r}" if names else "is missing"
            raise ValueError(
                f"--ids {given}: pass ids of the objects to explain, such as {survey.ids[0]}."
            )
        inputs = steps.take_inputs(survey, model, terminal.say)
        stamps = survey.images[rows]
        reasons = explanation.explain(
            model, stamps, catalog=None if inputs is None else inputs.iloc[rows],
            where=picture is not None, random_state=seed,
        )  # fmt: skip
        shown, table = survey.ids[rows], reasons.table.copy()
        table.insert(0, "id", shown[table.pop("object")])
        write_table(target, table)
        if picture:
            _draw(picture, reasons, stamps, shown)
        sentences = dict(zip(map(str, shown), reasons.sentences, strict=True))
        terminal.result(out=target, sentences=sentences)
    if terminal.prints:
        for name, sentence in sentences.items():
            print_line(f"{name}: {sentence}")
        if picture:
            print_line(f"Figure: {picture}")
        print_line(f"Reasons: {target}")


def _draw(path: Path, reasons: Explanation, stamps: Any, ids: NDArray[np.generic]) -> None:
    """Write a figure of all objects."""
    from skastro.plots.explanation import ExplanationDisplay
    from skastro.plots.style import import_matplotlib

    pyplot = import_matplotlib("pyplot")
    drawn = ExplanationDisplay.from_explanation(
        reasons, stamps, ids=ids, max_objects=len(ids)
    ).figure_
    drawn.savefig(path, dpi=_DPI)
    pyplot.close(drawn)
