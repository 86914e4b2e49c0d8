"""The `skastro` command: register its subcommands, run them, and set the exit code."""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Callable, Sequence
from typing import Annotated

import typer

from skastro import __version__
from skastro.cli.encoders import embed, export, pretrain
from skastro.cli.explain import explain
from skastro.cli.labels import audit, label
from skastro.cli.objects import classify, cluster, explore, predict, suggest
from skastro.cli.regress import regress
from skastro.cli.similar import similar
from skastro.cli.study import study
from skastro.cli.surveys import check, fetch, simulate
from skastro.cli.terminal import end

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


# all commands, with the examples at the end of their help
_EXAMPLES: dict[Callable[..., None], tuple[str, ...]] = {
    study: (
        "skastro study --quick",
        "skastro study survey --label class --properties 'mag_*' --errors 'err_*' --out study",
    ),
    check: (
        "skastro check survey --label class --properties 'mag_*'",
        "skastro check --catalog c.fits --images g=tile_g.fits --images r=tile_r.fits --size 32",
        "skastro check new_stamps --encoder encoder.safetensors",
    ),
    simulate: (
        "skastro simulate --objects 2000 --out survey",
        "skastro simulate --bands gri --size 48 --mosaic",
    ),
    fetch: (
        "skastro fetch --objects 3000 --out sdss",
        "skastro fetch --hips g=CDS/P/PanSTARRS/DR1/g --hips r=CDS/P/PanSTARRS/DR1/r",
    ),
    pretrain: (
        "skastro pretrain survey --properties 'mag_*' --errors 'err_*'",
        "skastro pretrain --catalog c.fits --images stamps/ --out encoder.safetensors",
    ),
    embed: (
        "skastro embed encoder.safetensors survey --out embeddings.parquet",
        "skastro embed encoder.safetensors --images new_stamps.npy --out embeddings.fits",
    ),
    classify: (
        "skastro classify survey --labels labels.csv --label class",
        "skastro classify survey --encoder encoder.safetensors --abstain 0.8 --out p.fits",
        "skastro classify survey --labels labels.csv --properties 'mag_*' --inputs 'mag_*'",
        "skastro classify survey --labels labels.csv --save classifier.safetensors",
    ),
    regress: (
        "skastro regress survey --labels redshifts.csv --column redshift",
        "skastro regress survey --column redshift --encoder galaxies --save regressor.safetensors",
    ),
    label: (
        "skastro label survey --classes star,galaxy,quasar",
        "skastro label survey --encoder encoder.safetensors --labels-out mine.csv",
        "skastro label survey --find lens --labels-out lenses.csv",
    ),
    predict: (
        "skastro predict classifier.safetensors new_survey",
        "skastro predict classifier.safetensors --images new_stamps.npy --out p.fits",
        "skastro predict regressor.safetensors new_survey --interval 0.68",
    ),
    explain: (
        "skastro explain classifier.safetensors new_survey --ids 17,42",
        "skastro explain classifier.safetensors survey --ids 17 --figure explain.png --out e.fits",
    ),
    cluster: (
        "skastro cluster embeddings.parquet",
        "skastro cluster embeddings.parquet --catalog catalog.csv --label class",
    ),
    explore: (
        "skastro explore embeddings.parquet --catalog catalog.csv --images stamps.npy",
        "skastro explore study --catalog survey/catalog.csv --method umap",
    ),
    similar: (
        "skastro similar embeddings.parquet --to 17,42",
        "skastro similar survey --encoder galaxies --to 17 -k 20 --figure similar.png",
        "skastro similar survey --encoder galaxies --to-images new_stamps",
    ),
    suggest: (
        "skastro suggest embeddings.parquet -n 30",
        "skastro suggest embeddings.parquet --labels labels.csv --labels suggested.csv --out b.csv",
    ),
    audit: (
        "skastro audit embeddings.parquet --labels labels.csv",
        "skastro audit survey --encoder galaxies --labels labels.csv --out doubtful.csv",
    ),
    export: (
        "skastro export encoder.safetensors --out encoder.onnx",
        "skastro export encoder.safetensors --bands u,g,r,i,z",
    ),
}
for command, lines in _EXAMPLES.items():
    # typer keeps the line breaks of a docstring: the terminal breaks paragraphs instead
    text = re.sub(r"(?<!\n)\n(?!\n)", " ", inspect.getdoc(command) or "")
    app.command(help=text, epilog="\n\n".join(["[bold]Examples[/bold]", *lines]))(command)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command and exit: 0 if everything worked, 2 after wrong use, 130 after Ctrl-C.

    An error is printed as one line on the standard error; exit code 1 means an internal error.
    The arguments are those of the process if none are passed.
    """
    texts = list(sys.argv[1:] if arguments is None else arguments)
    try:
        code = typer.main.get_command(app).main(
            texts, prog_name="skastro", standalone_mode=False, obj=texts
        )
    except (KeyboardInterrupt, Exception) as error:  # noqa: BLE001 - end() prints it
        code = end(error, texts)
    sys.exit(code or 0)
