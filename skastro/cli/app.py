"""The ``skastro`` command: it parses, shows progress and reports; the work is in `study`."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from skastro import __version__
from skastro.cli import objects as commands
from skastro.cli import options as o
from skastro.cli.terminal import Terminal, end, talking

if TYPE_CHECKING:
    from skastro.study.results import Study
    from skastro.study.run import Plan
    from skastro.surveys.inspection import Inspection

# of what `simulate` and `fetch` write
_COLUMNS = ("--label", "class", "--properties", "mag_*", "--errors", "err_*")

app = typer.Typer(pretty_exceptions_enable=False)


@app.callback(invoke_without_command=True)
def skastro(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
) -> None:
    """Self-supervised representations of astronomical images."""
    if version:
        typer.echo(f"skastro {__version__}")
    elif context.invoked_subcommand is None:
        typer.echo(context.get_help())


@app.command(
    epilog=o.examples(
        "skastro study --quick",
        "skastro study survey --label class --properties 'mag_*' --errors 'err_*' --out study",
    )
)
def study(
    context: typer.Context,
    folder: Annotated[
        Path | None,
        typer.Argument(help="Data folder (catalog.* and stamps); none: a simulated survey."),
    ] = None,
    out: Annotated[Path, typer.Option(help="Folder for the results.")] = Path("study"),
    catalog: o.Catalog = None,
    images: o.Images = None,
    id: o.Id = None,  # noqa: A002
    ra: o.Ra = None,
    dec: o.Dec = None,
    size: o.CutTo = None,
    label: o.Label = None,
    properties: o.Properties = None,
    errors: o.Errors = None,
    label_counts: Annotated[
        str | None, typer.Option(help="Numbers of labels: 30,100,300,1000.")
    ] = None,
    repeats: Annotated[int | None, typer.Option(min=1, help="Draws of the labels: 5.")] = None,
    groups: Annotated[
        str | None, typer.Option(help="Column of what the test must not tear apart.")
    ] = None,
    classes: Annotated[str | None, typer.Option(help="Restrict the labels to these.")] = None,
    unlabelled: o.Unlabelled = "unknown",
    backbone: o.Backbone = None,
    epochs: o.Epochs = None,
    finetune: Annotated[
        bool | None,
        typer.Option("--finetune/--no-finetune", help="A row for the fine-tuned network, too."),
    ] = None,
    objects: Annotated[
        int | None, typer.Option(min=1, help="Size of the simulated survey: 6000.")
    ] = None,
    seed: o.Seed = 0,
    jobs: o.Jobs = None,
    device: o.Device = "auto",
    quick: Annotated[bool, typer.Option("--quick", help="A small study, in minutes.")] = False,
    quiet: o.Quiet = False,
    json: o.Json = False,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Write among other files of the folder.")
    ] = False,
    debug: o.Debug = False,  # noqa: ARG001
) -> None:
    """Measure how few labels are enough, and write a report.

    Pretrains on the properties, then classifies with few labels, beside networks from
    scratch, the catalogue alone, aperture photometry and ImageNet features.
    """
    with talking(quiet=quiet, lines=json) as terminal:
        terminal.progress("loading the libraries", 0, None)
        from skastro.cli.steps import check_device, use_cores  # noqa: PLC0415
        from skastro.study.data import load_data  # noqa: PLC0415
        from skastro.study.run import check_out, run_study  # noqa: PLC0415 - --help needs no torch

        check_out(out, overwrite=overwrite)
        check_device(device)
        use_cores(jobs)
        plan = _plan(
            quick=quick,
            n_objects=objects,
            label_counts=_integers(label_counts),
            n_repeats=repeats,
            backbone=backbone,
            max_epochs=epochs,
            finetune=finetune,
            device=device,
        )
        terminal.progress(
            "reading the data" if folder or catalog or images else "simulating", 0, None
        )
        data = load_data(
            folder,
            catalog=catalog,
            images=images,
            id=id,
            ra=ra,
            dec=dec,
            size=size,
            label=label,
            properties=o.names(properties) or (),
            errors=o.names(errors) or (),
            unlabelled=o.names(unlabelled) or (),
            classes=o.names(classes),
            groups=groups,
            n_objects=plan.n_objects,
            random_state=seed,
            say=terminal.say,
        )
        found = run_study(
            data,
            out,
            plan=plan,
            random_state=seed,
            overwrite=overwrite,
            command=shlex.join(["skastro", *context.obj]),
            progress=terminal.progress,
            say=terminal.say,
        )
        terminal.result(out=out, scores=found.curve.summary().to_dict("records"))
    if terminal.prints:
        _show(found, out)


@app.command(
    epilog=o.examples(
        "skastro check survey --label class --properties 'mag_*'",
        "skastro check --catalog c.fits --images g=tile_g.fits --images r=tile_r.fits --size 32",
    )
)
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
        from skastro.study.data import read_data, select_columns  # noqa: PLC0415
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


@app.command(
    epilog=o.examples(
        "skastro simulate --objects 2000 --out survey",
        "skastro simulate --bands gri --size 48 --mosaic",
    )
)
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


@app.command(
    epilog=o.examples(
        "skastro fetch --objects 3000 --out sdss",
        "skastro fetch --hips g=CDS/P/PanSTARRS/DR1/g --hips r=CDS/P/PanSTARRS/DR1/r",
    )
)
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


commands.register(app)


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


def _integers(text: str | None) -> tuple[int, ...] | None:
    try:
        counts = tuple(int(part) for part in o.names(text) or ())
    except ValueError:
        counts = (0,)
    if any(count < 1 for count in counts):
        raise ValueError(f"--label-counts {text!r} must be whole numbers: 30,100,300.")
    return counts or None


def _plan(*, quick: bool, **wanted: Any) -> Plan:
    from skastro.study.run import FULL, QUICK  # noqa: PLC0415 - --help needs no torch

    chosen = {name: value for name, value in wanted.items() if value is not None}
    return replace(QUICK if quick else FULL, **chosen)


def _show(found: Study, out: Path) -> None:
    """Print the scores, what they say, and where the rest is."""
    from skastro.pages.report import METRIC_NAMES, score_table, summarise  # noqa: PLC0415

    curve = found.curve
    metric = METRIC_NAMES.get(curve.metrics[0], curve.metrics[0])
    table = Table(padding=(0, 1, 0, 0))  # four counts fit into 80 columns
    table.add_column("labels")
    for count in curve.label_counts:
        table.add_column(f"{count:,}", justify="right", no_wrap=True)
    for row in score_table(curve):
        cells = [f"[bold]{c['text']}[/]" if c["best"] else c["text"] for c in row["cells"]]
        table.add_row(row["name"], *cells)
    console = Console()
    console.print(
        f"{metric.capitalize()} on unseen stamps (mean ± half-width of its 95 % interval)",
        highlight=False,
    )
    console.print(table)
    for sentence in summarise(curve):
        console.print(sentence, highlight=False)
    if steps := found.config["plan"]["steps"]:
        console.print(
            f"A quick study trains from scratch for {steps} steps only: "
            "the saving against it is too high.",
            highlight=False,
        )
    console.print(f"Report: {escape(str(out / 'index.html'))}", soft_wrap=True, highlight=False)


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


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command and exit: 0 if all worked, 2 after wrong use, 130 after Ctrl-C.

    Errors are told in one line on the standard error; 1 is for those that are nobody's wrong use.

    Parameters
    ----------
    arguments : sequence of str, default=None
        None takes those of the process.
    """
    given = list(sys.argv[1:] if arguments is None else arguments)
    try:
        code = typer.main.get_command(app).main(
            given, prog_name="skastro", standalone_mode=False, obj=given
        )
    except (KeyboardInterrupt, Exception) as error:  # noqa: BLE001 - end() tells of it
        code = end(error, given)
    sys.exit(code or 0)
