"""The ``skastro`` command: it parses, shows progress and reports; the work is in `study`."""

from __future__ import annotations

import shlex
import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

from skastro import __version__

if TYPE_CHECKING:
    from skastro.inspection import Inspection
    from skastro.study import Plan, Study

_INTERRUPTED = 130  # as shells have it, and typer
_PARALLEL = 500  # objects from which starting processes pays

# options that several commands have
_Catalog = Annotated[Path | None, typer.Option(help="Catalogue, instead of a folder.")]
_Images = Annotated[
    list[str] | None,
    typer.Option(help="Stamps: a file, a folder, or mosaics as band=path, several times."),
]
_Id = Annotated[str | None, typer.Option(help="Column that names the objects.")]
_Ra = Annotated[str | None, typer.Option(help="Column of right ascension.")]
_Dec = Annotated[str | None, typer.Option(help="Column of declination.")]
_CutTo = Annotated[
    int | None, typer.Option(min=1, help="Pixels of a stamp: of mosaics, or to crop files.")
]
_Label = Annotated[str | None, typer.Option(help="Column of the classes.")]
_Properties = Annotated[str | None, typer.Option(help="Columns to pretrain on: 'mag_*,u_g'.")]
_Errors = Annotated[str | None, typer.Option(help="Columns of their errors: 'err_*'.")]
_Quiet = Annotated[bool, typer.Option("--quiet", help="Print nothing but errors.")]
_Debug = Annotated[bool, typer.Option("--debug", help="Show the traceback of errors.")]

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


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


@app.command()
def study(
    context: typer.Context,
    folder: Annotated[
        Path | None,
        typer.Argument(help="Data folder (catalog.* and stamps); none: a simulated survey."),
    ] = None,
    out: Annotated[Path, typer.Option(help="Folder for the results.")] = Path("study"),
    catalog: _Catalog = None,
    images: _Images = None,
    id: _Id = None,  # noqa: A002
    ra: _Ra = None,
    dec: _Dec = None,
    size: _CutTo = None,
    label: _Label = None,
    properties: _Properties = None,
    errors: _Errors = None,
    label_counts: Annotated[
        str | None, typer.Option(help="Numbers of labels: 30,100,300,1000.")
    ] = None,
    repeats: Annotated[int | None, typer.Option(min=1, help="Draws of the labels: 5.")] = None,
    groups: Annotated[
        str | None, typer.Option(help="Column of what the test must not tear apart.")
    ] = None,
    classes: Annotated[str | None, typer.Option(help="Restrict the labels to these.")] = None,
    unlabelled: Annotated[
        str, typer.Option(help="Values of the label column that mean no label.")
    ] = "unknown",
    backbone: Annotated[str | None, typer.Option(help="Network: stamp_resnet18.")] = None,
    epochs: Annotated[int | None, typer.Option(min=0, help="Of the pretraining.")] = None,
    finetune: Annotated[
        bool | None,
        typer.Option("--finetune/--no-finetune", help="A row for the fine-tuned network, too."),
    ] = None,
    objects: Annotated[
        int | None, typer.Option(min=1, help="Size of the simulated survey: 6000.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of everything random.")] = 0,
    quick: Annotated[bool, typer.Option("--quick", help="A small study, in minutes.")] = False,
    quiet: _Quiet = False,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Write among other files of the folder.")
    ] = False,
    debug: _Debug = False,  # noqa: ARG001
) -> None:
    """Measure how few labels are enough, and write a report.

    Pretrains on the properties, then classifies with few labels, beside networks from
    scratch, the catalogue alone, aperture photometry and ImageNet features.
    """
    with _talking(quiet=quiet) as terminal:
        terminal.progress("loading the libraries", 0, None)
        from skastro.study import check_out, run_study  # noqa: PLC0415 - --help needs no torch
        from skastro.study_data import load_data  # noqa: PLC0415

        check_out(out, overwrite=overwrite)
        plan = _plan(
            quick=quick,
            n_objects=objects,
            label_counts=_integers(label_counts),
            n_repeats=repeats,
            backbone=backbone,
            max_epochs=epochs,
            finetune=finetune,
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
            properties=_names(properties) or (),
            errors=_names(errors) or (),
            unlabelled=_names(unlabelled) or (),
            classes=_names(classes),
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
    if not quiet:
        _show(found, out)


@app.command()
def check(
    folder: Annotated[
        Path | None, typer.Argument(help="Data folder (catalog.* and stamps).")
    ] = None,
    catalog: _Catalog = None,
    images: _Images = None,
    id: _Id = None,  # noqa: A002
    ra: _Ra = None,
    dec: _Dec = None,
    size: _CutTo = None,
    label: _Label = None,
    properties: _Properties = None,
    errors: _Errors = None,
    radius: Annotated[
        float, typer.Option(min=0, help="Arcsec within which two rows are one object.")
    ] = 1.0,
    debug: _Debug = False,  # noqa: ARG001
) -> None:
    """Look at stamps and catalogue before a study; nothing is trained or written."""
    with _talking(quiet=False) as terminal:
        terminal.progress("looking at the data", 0, None)
        from skastro.inspection import inspect_survey  # noqa: PLC0415 - --help needs no scikit-learn
        from skastro.study_data import read_data, select_columns  # noqa: PLC0415

        data, source = read_data(
            folder, catalog=catalog, images=images, id=id, ra=ra, dec=dec, size=size
        )
        columns = data.catalog.columns
        found = inspect_survey(
            data.images,
            data.catalog,
            label=label,
            properties=select_columns(columns, _names(properties) or (), label=label),
            errors=select_columns(columns, _names(errors) or (), label=label, name="errors"),
            ra=ra,
            dec=dec,
            radius=radius,
            notes=[data.join],
        )
    _show_inspection(found, source)


@app.command()
def simulate(
    out: Annotated[Path, typer.Option(help="Folder for the survey.")] = Path("survey"),
    objects: Annotated[int, typer.Option(min=1, help="Number of objects.")] = 2000,
    bands: Annotated[str, typer.Option(help="Out of ugrizy, in the order wanted.")] = "ugrizy",
    size: Annotated[int, typer.Option(min=8, help="Pixels of a stamp.")] = 32,
    faintest: Annotated[float, typer.Option(help="Magnitude in i of the faintest object.")] = 22.8,
    mosaic: Annotated[
        bool, typer.Option("--mosaic/--no-mosaic", help="Write the mosaics of each band, too.")
    ] = False,
    seed: Annotated[int, typer.Option(min=0, help="Of everything random.")] = 0,
    quiet: _Quiet = False,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace an earlier survey of the folder.")
    ] = False,
    debug: _Debug = False,  # noqa: ARG001
) -> None:
    """Simulate a survey of stars, galaxies and quasars, and write it as files."""
    with _talking(quiet=quiet) as terminal:
        from skastro.mosaics import simulate_survey_files  # noqa: PLC0415 - --help needs no GalSim

        simulate_survey_files(
            out,
            n_objects=objects,
            bands=bands,
            image_size=size,
            faintest=faintest,
            mosaic=mosaic,
            random_state=seed,
            n_jobs=-1 if objects >= _PARALLEL else None,
            progress=partial(terminal.progress, "simulating"),
            overwrite=overwrite,
        )
        terminal.say(f"{objects:,} objects in {out}: skastro study {shlex.quote(str(out))}")


@app.command()
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
    quiet: _Quiet = False,
    debug: _Debug = False,  # noqa: ARG001
) -> None:
    """Fetch stars, galaxies and quasars of SDSS; run again to go on after an interruption."""
    with _talking(quiet=quiet) as terminal:
        from skastro.surveys import fetch_sdss  # noqa: PLC0415 - --help needs no astroquery

        data = fetch_sdss(
            objects,
            classes=_names(classes) or (),
            bands=bands,
            size=size,
            hips=dict(_pair(text) for text in hips) if hips else None,
            out=out,
            random_state=seed,
            progress=terminal.progress,
        )
        terminal.say(
            f"{len(data.images):,} objects in {out}: skastro study {shlex.quote(str(out))}"
        )


def _pair(text: str) -> tuple[str, str]:
    name, found, value = text.partition("=")
    if not found:
        raise ValueError(f"{text!r} must be band=name.")
    return name, value


def _names(text: str | None) -> list[str] | None:
    if text is None:
        return None
    return [name.strip() for name in text.split(",") if name.strip()]


def _integers(text: str | None) -> tuple[int, ...] | None:
    try:
        counts = tuple(int(part) for part in _names(text) or ())
    except ValueError:
        counts = (0,)
    if any(count < 1 for count in counts):
        raise ValueError(f"--label-counts {text!r} must be whole numbers: 30,100,300.")
    return counts or None


def _plan(*, quick: bool, **wanted: Any) -> Plan:
    from skastro.study import FULL, QUICK  # noqa: PLC0415 - --help needs no torch

    chosen = {name: value for name, value in wanted.items() if value is not None}
    return replace(QUICK if quick else FULL, **chosen)


class _Terminal:
    """Progress bars and messages on the standard error, or nothing at all."""

    def __init__(self, bars: Progress | None) -> None:
        self.bars = bars
        self.said: set[str] = set()
        self.tasks: dict[str, Any] = {}

    def say(self, text: str) -> None:
        """Print a message, each only once."""
        line = " ".join(text.split())
        if self.bars is not None and line not in self.said:
            typer.echo(line)  # where bars are drawn, rich puts it above them
        self.said.add(line)

    def progress(self, stage: str, done: int, total: int | None) -> None:
        """Move the bar of a stage; a new stage ends those before."""
        if self.bars is None:
            return
        if stage not in self.tasks:
            self.finish()
            self.tasks[stage] = self.bars.add_task(stage, total=total)
        self.bars.update(self.tasks[stage], completed=done, total=total)

    def finish(self) -> None:
        """Fill the bars of all stages."""
        for task in self.tasks.values():
            self.bars.update(task, completed=1, total=1)

    def warn(self, message: Warning | str, *_: Any, **__: Any) -> None:
        """Stand in for `warnings.showwarning`."""
        self.say(f"Warning: {message}")


@contextmanager
def _talking(*, quiet: bool) -> Iterator[_Terminal]:
    console = Console(stderr=True)
    columns = (SpinnerColumn(), TextColumn("{task.description:<32}"), BarColumn())
    bars = Progress(
        *columns,
        TimeElapsedColumn(),
        console=console,
        disable=quiet or not console.is_terminal,
        transient=True,
    )
    terminal = _Terminal(None if quiet else bars)
    with bars, warnings.catch_warnings():
        warnings.simplefilter("default", UserWarning)
        warnings.showwarning = terminal.warn
        yield terminal


def _show(found: Study, out: Path) -> None:
    """Print the scores, what they say, and where the rest is."""
    from skastro.report import METRIC_NAMES, score_table, summarise  # noqa: PLC0415

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
    """Run the command and exit: 0 if all worked, 1 after an error, told in one line.

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
    except (KeyboardInterrupt, typer.Abort):
        code = _INTERRUPTED
    except Exception as error:
        if "--debug" in given:
            raise
        _complain(_wording(error))
        code = 1
    if code == _INTERRUPTED:
        _complain("interrupted: nothing was written.")
    sys.exit(code or 0)


def _wording(error: Exception) -> str:
    if hasattr(error, "format_message"):  # typer's own errors: unknown options and the like
        return error.format_message()
    text = str(error.args[0]) if isinstance(error, KeyError) and error.args else str(error)
    return text or f"{type(error).__name__} (--debug shows where)"


def _complain(text: str) -> None:
    typer.echo(f"Error: {' '.join(text.split())}", err=True)
