"""The command `skastro study`."""

from __future__ import annotations

import shlex
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from skastro.cli import options as o
from skastro.cli.terminal import talking

if TYPE_CHECKING:
    from skastro.study.results import Study


def study(
    context: typer.Context,
    folder: Annotated[
        Path | None,
        typer.Argument(
            help="Folder with a catalogue (catalog.csv, .fits ...) and stamps.",
            show_default="a simulated survey",
        ),
    ] = None,
    out: Annotated[Path, typer.Option(help="Folder for the results.")] = Path("study"),
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
    label_counts: Annotated[
        str | None,
        typer.Option(help="Numbers of labels to learn from.", show_default="0,30,100,300,1000"),
    ] = None,
    repeats: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="How often each number of labels is drawn; networks learn from the first three "
            "draws, with --quick from the first.",
            show_default="5",
        ),
    ] = None,
    groups: Annotated[
        str | None,
        typer.Option(
            help="Column of groups, such as images of one object: a group is either in the "
            "training or in the test."
        ),
    ] = None,
    classes: Annotated[
        str | None, typer.Option(help="Classes to use, with commas.", show_default="all")
    ] = None,
    unlabelled: o.Unlabelled = "unknown",
    backbone: o.Backbone = None,
    pretrained: o.Pretrained = "auto",
    epochs: o.Epochs = None,
    finetune: Annotated[
        bool | None,
        typer.Option(
            "--finetune/--no-finetune",
            help="Compare with the fine-tuned network, too.",
            show_default="no-finetune",
        ),
    ] = None,
    objects: Annotated[
        int | None,
        typer.Option(min=1, help="Number of simulated objects.", show_default="6000"),
    ] = None,
    seed: o.Seed = 0,
    jobs: o.Jobs = None,
    device: o.Device = "auto",
    quick: Annotated[
        bool,
        typer.Option(
            "--quick",
            help="A small study, in minutes: 1500 simulated objects, at most 100 labels, drawn 3 "
            "times (once for networks), and the network stamp_resnet10.",
        ),
    ] = False,
    quiet: o.Quiet = False,
    json: o.Json = False,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Write into a folder with other files.")
    ] = False,
    debug: o.Debug = False,
) -> None:
    """Measure how few labels are enough, and write a report.

    Pretrains on the properties, classifies with few labels, and compares with networks trained
    from scratch, the catalogue alone, aperture photometry and ImageNet features.
    """
    with talking(quiet=quiet, lines=json) as terminal:
        terminal.progress("loading the libraries", 0, None)
        from skastro.networks.backbones import check_backbone
        from skastro.networks.device import resolve_device, use_cores
        from skastro.study.data import load_data
        from skastro.study.folder import check_out
        from skastro.study.run import FULL, QUICK, run_study

        check_out(out, overwrite=overwrite)
        o.check_pretrained(pretrained)
        resolve_device(device)
        use_cores(jobs)
        choices: dict[str, Any] = {
            "n_objects": objects,
            "label_counts": _split_counts(label_counts),
            "n_repeats": repeats,
            "backbone": backbone,
            "pretrained": pretrained,
            "max_epochs": epochs,
            "finetune": finetune,
            "device": device,
        }
        given = {name: value for name, value in choices.items() if value is not None}
        plan = replace(QUICK if quick else FULL, **given)
        check_backbone(plan.backbone, None)

        # read the data, and run the study
        stage = "reading the data" if folder or catalog or images else "simulating"
        terminal.progress(stage, 0, None)
        data = load_data(
            folder, catalog=catalog, images=images, id=id, ra=ra, dec=dec, size=size, bands=bands,
            hdu=hdu, axes=axes, missing_bands=missing_bands, label=label,
            properties=o.split_names(properties), errors=o.split_names(errors),
            unlabelled=o.split_names(unlabelled), classes=o.split_names(classes) or None,
            groups=groups, n_objects=plan.n_objects, random_state=seed, say=terminal.say,
        )  # fmt: skip
        result = run_study(
            data,
            out,
            plan=plan,
            random_state=seed,
            overwrite=overwrite,
            command=shlex.join(["skastro", *context.obj]),
            say=terminal.say,
        )
        terminal.result(out=out, scores=result.curve.summary().to_dict("records"))
    if terminal.prints:
        _show(result, out)


def _split_counts(text: str | None) -> tuple[int, ...] | None:
    try:
        counts = tuple(int(part) for part in o.split_names(text))
    except ValueError:
        counts = (-1,)
    if any(count < 0 for count in counts):
        raise ValueError(f"--label-counts {text!r} must be whole numbers: 30,100,300.")
    return counts or None


def _show(result: Study, out: Path) -> None:
    """Print the scores, a summary in sentences, and where the report is."""
    from skastro.evaluation.label_efficiency import metric_name
    from skastro.pages.summary import score_table, summarise

    curve, steps = result.curve, result.config["plan"]["steps"]
    metric = metric_name(curve.metrics[0])
    table = Table(padding=(0, 1, 0, 0))  # four counts fit into 80 columns
    table.add_column("labels")
    for count in curve.label_counts:
        table.add_column(f"{count:,}", justify="right", no_wrap=True)
    for row in score_table(curve, steps=steps):
        cells = [f"[bold]{c['text']}[/]" if c["best"] else c["text"] for c in row["cells"]]
        table.add_row(row["name"], *cells)
    say = partial(Console().print, highlight=False)
    say(f"{metric.capitalize()} on unseen stamps (mean ± half-width of its 95 % interval)")
    say(table)
    for sentence in summarise(curve, steps=steps):
        say(sentence)
    say(f"Report: {escape(str(out / 'index.html'))}", soft_wrap=True)
