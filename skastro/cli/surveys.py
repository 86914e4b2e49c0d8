"""The commands `skastro check`, `simulate` and `fetch`."""

from __future__ import annotations

import shlex
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Column, Table

from skastro.cli import options as o
from skastro.cli.terminal import Terminal, load_libraries, talking

if TYPE_CHECKING:
    from skastro.evaluation.encoder_check import EncoderCheck
    from skastro.surveys.inspection import Inspection
    from skastro.surveys.survey import Survey

# options for a study of what `simulate` and `fetch` write
_UNREADABLE_CODE = 2  # as after any data that cannot be used
_STUDY_OPTIONS = ("--label", "class", "--properties", "mag_*", "--errors", "err_*")


def check(
    folder: o.Folder = None,
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
    label: o.Label = None,
    properties: o.Properties = None,
    errors: o.Errors = None,
    encoder: Annotated[
        Path | None,
        typer.Option(help="Also check whether the stamps look like those this encoder learned."),
    ] = None,
    radius: Annotated[
        float, typer.Option(min=0, help="Distance in arcsec within which two rows are one object.")
    ] = 1.0,
    quiet: o.Quiet = False,
    json: o.Json = False,
    debug: o.Debug = False,
) -> None:
    """Check stamps and catalogue before a study; nothing is trained or written.

    With --encoder, noise, zero point, sky, seeing, pixel scale, bands, embeddings and predictions
    are compared with those of the stamps that a saved encoder has learned from.

    The exit code is 2 if stamps cannot be read; the report lists them and goes on.
    """
    with talking(quiet=quiet, lines=json) as terminal:
        terminal.progress("checking the data", 0, None)
        from skastro.catalogs.columns import match_columns
        from skastro.surveys.folders import read_data
        from skastro.surveys.inspection import inspect_survey

        survey, source = read_data(
            folder,
            catalog=catalog,
            images=images,
            id=id,
            ra=ra,
            dec=dec,
            size=size,
            bands=bands,
            hdu=hdu,
            axes=axes,
            missing_bands=missing_bands,
            alone=encoder is not None,
        )
        columns = survey.catalog.columns
        inspection = inspect_survey(
            survey.images,
            survey.catalog,
            label=label,
            properties=match_columns(columns, o.split_names(properties), label=label),
            errors=match_columns(columns, o.split_names(errors), label=label, name="errors"),
            ra=ra,
            dec=dec,
            radius=radius,
            notes=[survey.join],
        )
        compared = None if encoder is None else _compare(encoder, survey, terminal)
        terminal.result(
            stamps=inspection.stamps,
            classes=inspection.classes,
            problems=inspection.problems,
            unreadable=inspection.unreadable,
            **({} if compared is None else {"encoder": _tabulate(compared)}),
        )
    if terminal.prints:
        _show_inspection(inspection, source)
        if compared is not None:
            _show_check(compared, encoder)
    if inspection.unreadable:
        if quiet:
            typer.echo(f"Error: {inspection.problems[0]}", err=True)
        raise typer.Exit(_UNREADABLE_CODE)


def _compare(path: Path, survey: Survey, terminal: Terminal) -> EncoderCheck:
    """Compare stamps with those that a saved encoder has learned from."""
    load_libraries(terminal, None)
    from skastro.cli import steps
    from skastro.evaluation.encoder_check import check_encoder

    return check_encoder(steps.load_encoder(path), survey.images, survey.catalog)


def _tabulate(check: EncoderCheck) -> list[dict[str, Any]]:
    """Return the lines of a check for JSON, where NaN is None."""
    table = check.table.reset_index()
    return table.astype(object).where(table.notna(), None).to_dict("records")


def _show_check(check: EncoderCheck, encoder: Path | None) -> None:
    """Print one line for each thing that was compared, those that differ in yellow."""
    say = partial(Console().print, highlight=False)
    say(f"[bold]{check.n:,} stamps beside those that {escape(str(encoder))} has learned from[/]")
    for line, name in zip(repr(check).splitlines()[1:], check.table.index, strict=True):
        mark = "[yellow]![/] " if name in check.differing else ""
        say(f"{mark}{escape(line)}")


def simulate(
    out: Annotated[Path, typer.Option(help="Folder for the survey.")] = Path("survey"),
    objects: Annotated[int, typer.Option(min=1, help="Number of objects.")] = 2000,
    bands: Annotated[str, typer.Option(help="Bands: letters of ugrizy, in any order.")] = "ugrizy",
    size: Annotated[int, typer.Option(min=8, help="Height and width of a stamp in pixels.")] = 32,
    faintest: Annotated[float, typer.Option(help="Magnitude in i of the faintest object.")] = 22.8,
    mosaic: Annotated[
        bool, typer.Option("--mosaic/--no-mosaic", help="Also write mosaics of each band.")
    ] = False,
    seed: o.Seed = 0,
    jobs: o.Jobs = None,
    quiet: o.Quiet = False,
    json: o.Json = False,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace an earlier survey in the folder.")
    ] = False,
    debug: o.Debug = False,
) -> None:
    """Simulate a survey of stars, galaxies and quasars, and write it as files."""
    with talking(quiet=quiet, lines=json) as terminal:
        from skastro.simulation.files import check_out, write_survey
        from skastro.simulation.survey import make_survey
        from skastro.simulation.telescope import choose_jobs

        check_out(out, overwrite=overwrite)
        survey = make_survey(
            objects,
            bands=bands,
            image_size=size,
            faintest=faintest,
            random_state=seed,
            cache=False,
            n_jobs=jobs or choose_jobs(objects),
        )
        write_survey(survey, out, mosaic=mosaic, overwrite=overwrite)
        _advise(terminal, out, objects)


def fetch(
    out: Annotated[Path, typer.Option(help="Folder for the survey.")] = Path("sdss"),
    objects: Annotated[int, typer.Option(min=1, help="Number of objects.")] = 3000,
    classes: Annotated[str, typer.Option(help="Classes of the SDSS spectra.")] = "STAR,GALAXY,QSO",
    bands: Annotated[str, typer.Option(help="Bands: letters of ugriz, in any order.")] = "ugriz",
    size: Annotated[int, typer.Option(min=8, help="Height and width of a stamp in pixels.")] = 32,
    hips: Annotated[
        list[str] | None,
        typer.Option(
            help="Take the images from another survey: band=name of its HiPS, once for each band."
        ),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the random choice of objects.")] = 0,
    quiet: o.Quiet = False,
    json: o.Json = False,
    debug: o.Debug = False,
) -> None:
    """Fetch stars, galaxies and quasars of SDSS; run again to go on after an interruption."""
    with talking(quiet=quiet, lines=json) as terminal:
        from skastro.surveys.sdss import fetch_sdss

        survey = fetch_sdss(
            objects,
            classes=o.split_names(classes),
            bands=bands,
            size=size,
            hips=dict(_split_pair(text) for text in hips) if hips else None,
            out=out,
            random_state=seed,
        )
        _advise(terminal, out, len(survey.images))


def _advise(terminal: Terminal, out: Path, n: int) -> None:
    """Print how many objects were written, and the command to study them."""
    terminal.say(f"{n:,} objects in {out}; to study them:")
    terminal.say(shlex.join(["skastro", "study", str(out), *_STUDY_OPTIONS]))
    terminal.result(out=out, rows=n)


def _split_pair(text: str) -> tuple[str, str]:
    name, equals_sign, value = text.partition("=")
    if not equals_sign:
        raise ValueError(f"{text!r} must be band=name.")
    return name, value


def _show_inspection(inspection: Inspection, source: str) -> None:
    """Print the inspection, with the problems last."""
    say = partial(Console().print, highlight=False)
    stamps = inspection.stamps
    names = f" ({'/'.join(stamps['band_names'])})" if stamps["band_names"] else ""
    bands = f"{stamps['bands']} band{'s' * (stamps['bands'] != 1)}{names}"
    say(f"[bold]{escape(source)}[/]")
    for note in inspection.notes:
        say(escape(note))
    say(
        f"{stamps['n']:,} stamps of {bands}, {stamps['height']} x {stamps['width']} pixels, "
        f"{stamps['dtype']}; {stamps['missing_pixels']:.2%} of the pixels are missing."
    )
    if inspection.classes:
        counts = (f"{name or 'no label'} {n:,}" for name, n in inspection.classes.items())
        n_padded = inspection.n_padded_labels
        note = f" (white space around {n_padded:,} labels is left out)" if n_padded else ""
        say(f"Classes: {escape(', '.join(counts))}{note}")
    missing, distinct = (Column(name, justify="right") for name in ("missing", "distinct"))
    table = Table("column", missing, distinct, "use", "remarks")
    for row in inspection.columns.itertuples():
        share = f"{row.missing:.1%}" if row.missing else ""
        table.add_row(row.column, share, f"{row.distinct:,}", row.use, escape(row.remarks))
    say(table)
    if inspection.groups:
        names = ", ".join(f"{name} ({n:,})" for name, n in inspection.groups.items())
        say(f"Columns that could be --groups: {escape(names)}.")
    for problem in inspection.problems:
        say(f"[yellow]![/] {escape(problem)}")
    if not inspection.problems:
        say("[green]Nothing stands in the way of a study.[/]")
