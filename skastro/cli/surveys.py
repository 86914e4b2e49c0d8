"""The commands `skastro check`, `simulate` and `fetch`."""

from __future__ import annotations

import shlex
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from skastro.cli import options as o
from skastro.cli.terminal import Terminal, talking

if TYPE_CHECKING:
    from skastro.surveys.inspection import Inspection


# of what `simulate` and `fetch` write
_COLUMNS = ("--label", "class", "--properties", "mag_*", "--errors", "err_*")


def check(
    folder: o.Folder = None,
    catalog: o.Catalog = None,
    images: o.Images = None,
    id: o.Id = None,  # noqa: A002
    ra: o.Ra = None,
    dec: o.Dec = None,
    size: o.CutTo = None,
    label: o.Label = None,
    properties: o.Properties = None,
    errors: o.Errors = None,
    radius: Annotated[
        float, typer.Option(min=0, help="Arcsec within which two rows are one object.")
    ] = 1.0,
    quiet: o.Quiet = False,
    json: o.Json = False,
    debug: o.Debug = False,  # noqa: ARG001
) -> None:
    """Look at stamps and catalogue before a study; nothing is trained or written."""
    with talking(quiet=quiet, lines=json) as terminal:
        terminal.progress("looking at the data", 0, None)
        from skastro.catalogs.columns import select_columns  # noqa: PLC0415
        from skastro.surveys.folders import read_data  # noqa: PLC0415
        from skastro.surveys.inspection import inspect_survey  # noqa: PLC0415 - --help needs no scikit-learn

        data, source = read_data(
            folder, catalog=catalog, images=images, id=id, ra=ra, dec=dec, size=size
        )
        columns = data.catalog.columns
        found = inspect_survey(
            data.images,
            data.catalog,
            label=label,
            properties=select_columns(columns, o.names(properties) or (), label=label),
            errors=select_columns(columns, o.names(errors) or (), label=label, name="errors"),
            ra=ra,
            dec=dec,
            radius=radius,
            notes=[data.join],
        )
        terminal.result(stamps=found.stamps, classes=found.classes, problems=found.problems)
    if terminal.prints:
        _show_inspection(found, source)


def simulate(
    out: Annotated[Path, typer.Option(help="Folder for the survey.")] = Path("survey"),
    objects: Annotated[int, typer.Option(min=1, help="Number of objects.")] = 2000,
    bands: Annotated[str, typer.Option(help="Out of ugrizy, in the order wanted.")] = "ugrizy",
    size: Annotated[int, typer.Option(min=8, help="Pixels of a stamp.")] = 32,
    faintest: Annotated[float, typer.Option(help="Magnitude in i of the faintest object.")] = 22.8,
    mosaic: Annotated[
        bool, typer.Option("--mosaic/--no-mosaic", help="Write the mosaics of each band, too.")
    ] = False,
    seed: o.Seed = 0,
    jobs: o.Jobs = None,
    quiet: o.Quiet = False,
    json: o.Json = False,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace an earlier survey of the folder.")
    ] = False,
    debug: o.Debug = False,  # noqa: ARG001
) -> None:
    """Simulate a survey of stars, galaxies and quasars, and write it as files."""
    with talking(quiet=quiet, lines=json) as terminal:
        from skastro.simulation.files import simulate_survey_files  # noqa: PLC0415 - --help needs no GalSim
        from skastro.simulation.telescope import choose_jobs  # noqa: PLC0415

        simulate_survey_files(
            out,
            n_objects=objects,
            bands=bands,
            image_size=size,
            faintest=faintest,
            mosaic=mosaic,
            random_state=seed,
            n_jobs=jobs or choose_jobs(objects),
            progress=partial(terminal.progress, "simulating"),
            overwrite=overwrite,
        )
        _tell_survey(terminal, out, objects)


def fetch(
    out: Annotated[Path, typer.Option(help="Folder for the survey.")] = Path("sdss"),
    objects: Annotated[int, typer.Option(min=1, help="Number of objects.")] = 3000,
    classes: Annotated[str, typer.Option(help="Classes of the SDSS spectra.")] = "STAR,GALAXY,QSO",
    bands: Annotated[str, typer.Option(help="Out of ugriz, in the order wanted.")] = "ugriz",
    size: Annotated[int, typer.Option(min=8, help="Pixels of a stamp.")] = 32,
    hips: Annotated[
        list[str] | None,
        typer.Option(help="Another survey's images as band=name of the HiPS, several times."),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Which objects are drawn.")] = 0,
    quiet: o.Quiet = False,
    json: o.Json = False,
    debug: o.Debug = False,  # noqa: ARG001
) -> None:
    """Fetch stars, galaxies and quasars of SDSS; run again to go on after an interruption."""
    with talking(quiet=quiet, lines=json) as terminal:
        from skastro.surveys.sdss import fetch_sdss  # noqa: PLC0415 - --help needs no astroquery

        data = fetch_sdss(
            objects,
            classes=o.names(classes) or (),
            bands=bands,
            size=size,
            hips=dict(_pair(text) for text in hips) if hips else None,
            out=out,
            random_state=seed,
            progress=terminal.progress,
        )
        _tell_survey(terminal, out, len(data.images))


def _tell_survey(terminal: Terminal, out: Path, n: int) -> None:
    """Say how many objects were written, and on a line of its own how to study them."""
    terminal.say(f"{n:,} objects in {out}; to study them:")
    terminal.say(shlex.join(["skastro", "study", str(out), *_COLUMNS]))
    terminal.result(out=out, rows=n)


def _pair(text: str) -> tuple[str, str]:
    name, found, value = text.partition("=")
    if not found:
        raise ValueError(f"{text!r} must be band=name.")
    return name, value


def _show_inspection(found: Inspection, source: str) -> None:
    """Print what was found, the worst last, where the eye is."""
    console = Console()
    say = partial(console.print, highlight=False)
    stamps = found.stamps
    named = f" ({'/'.join(stamps['band_names'])})" if stamps["band_names"] else ""
    bands = f"{stamps['bands']} band{'s' * (stamps['bands'] != 1)}{named}"
    say(f"[bold]{escape(source)}[/]")
    for note in found.notes:
        say(escape(note))
    say(
        f"{stamps['n']:,} stamps of {bands}, {stamps['height']} x {stamps['width']} pixels, "
        f"{stamps['dtype']}; {stamps['missing_pixels']:.2%} of the pixels of {stamps['sampled']:,} "
        "are missing."
    )
    if found.classes:
        say("Classes: " + ", ".join(f"{k or 'no label'} {n:,}" for k, n in found.classes.items()))
    table = Table("column", "missing", "distinct", "use", "remarks")
    for column in ("missing", "distinct"):
        next(c for c in table.columns if c.header == column).justify = "right"
    for row in found.columns.itertuples():
        share = f"{row.missing:.1%}" if row.missing else ""
        table.add_row(row.column, share, f"{row.distinct:,}", row.use, escape(row.remarks))
    say(table)
    if found.groups:
        named = ", ".join(f"{name} ({n:,})" for name, n in found.groups.items())
        say(f"Columns that could be --groups: {escape(named)}.")
    for problem in found.problems:
        say(f"[yellow]![/] {escape(problem)}")
    if not found.problems:
        say("[green]Nothing stands in the way of a study.[/]")
