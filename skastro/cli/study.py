"""The command `skastro study`."""

from __future__ import annotations

import shlex
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from skastro.cli import options as o
from skastro.cli.terminal import talking

if TYPE_CHECKING:
    from skastro.study.plan import Plan
    from skastro.study.results import Study


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
        from skastro.networks.device import check_device, use_cores  # noqa: PLC0415
        from skastro.study.data import load_data  # noqa: PLC0415
        from skastro.study.folder import check_out  # noqa: PLC0415 - --help needs no torch
        from skastro.study.run import run_study  # noqa: PLC0415 - --help needs no torch

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


def _integers(text: str | None) -> tuple[int, ...] | None:
    try:
        counts = tuple(int(part) for part in o.names(text) or ())
    except ValueError:
        counts = (0,)
    if any(count < 1 for count in counts):
        raise ValueError(f"--label-counts {text!r} must be whole numbers: 30,100,300.")
    return counts or None


def _plan(*, quick: bool, **wanted: Any) -> Plan:
    from skastro.study.plan import FULL, QUICK  # noqa: PLC0415 - --help needs no torch

    chosen = {name: value for name, value in wanted.items() if value is not None}
    return replace(QUICK if quick else FULL, **chosen)


def _show(found: Study, out: Path) -> None:
    """Print the scores, what they say, and where the rest is."""
    from skastro.pages.summary import METRIC_NAMES, score_table, summarise  # noqa: PLC0415

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
