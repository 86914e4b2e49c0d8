"""Options that several commands have, each stated once."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, overload

import typer

from skastro.utils.packages import import_optional

# packages that are not always there, by the ending of what they write
_WRITERS = {
    ".parquet": {"name": "pyarrow", "extra": "data", "needed_by": "Parquet"},
    ".html": {"name": "bokeh", "extra": "report", "needed_by": "The projection page"},
}

Folder = Annotated[Path | None, typer.Argument(help="Data folder (catalog.* and stamps).")]
Catalog = Annotated[Path | None, typer.Option(help="Catalogue, instead of a folder.")]
Images = Annotated[
    list[str] | None,
    typer.Option(help="Stamps: a file, a folder, or mosaics as band=path, several times."),
]
Id = Annotated[str | None, typer.Option(help="Column that names the objects.")]
Ra = Annotated[str | None, typer.Option(help="Column of right ascension.")]
Dec = Annotated[str | None, typer.Option(help="Column of declination.")]
CutTo = Annotated[
    int | None, typer.Option(min=1, help="Pixels of a stamp: of mosaics, or to crop files.")
]
Label = Annotated[str | None, typer.Option(help="Column of the classes.")]
Labels = Annotated[
    list[Path] | None,
    typer.Option(help="Table with id and the label column; several times, where in parts."),
]
Unlabelled = Annotated[str, typer.Option(help="Values of the label column that mean no label.")]
Properties = Annotated[str | None, typer.Option(help="Columns to pretrain on: 'mag_*,u_g'.")]
Errors = Annotated[str | None, typer.Option(help="Columns of their errors: 'err_*'.")]
Inputs = Annotated[
    str | None, typer.Option(help="Columns to classify by, too: 'mag_*'. None: stamps alone.")
]
Backbone = Annotated[str | None, typer.Option(help="Network: stamp_resnet18.")]
Epochs = Annotated[int | None, typer.Option(min=0, help="Of the pretraining.")]
CheckpointDir = Annotated[
    Path | None, typer.Option(help="Folder from which the same command goes on after a kill.")
]
Encoder = Annotated[Path | None, typer.Option(help="Saved encoder, of `skastro pretrain`.")]
Source = Annotated[
    Path,
    typer.Argument(
        help="Embeddings (.parquet, .fits, .csv, .npz, .npy), the folder of a study, or a data "
        "folder with --encoder."
    ),
]
Seed = Annotated[int, typer.Option(min=0, help="Of everything random.")]
Workers = Annotated[
    int | None, typer.Option(min=1, help="Processes to embed with, by Dask: none but this one.")
]
Jobs = Annotated[int | None, typer.Option(min=1, help="Processor cores to use: all.")]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1, mps.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace the file if it is there.")]
Quiet = Annotated[bool, typer.Option("--quiet", help="Print nothing but errors.")]
Json = Annotated[bool, typer.Option("--json", help="Print events as JSON lines, for scripts.")]
Debug = Annotated[bool, typer.Option("--debug", help="Show the traceback of errors.")]


def names(text: str | None) -> list[str] | None:
    """Read a list written with commas.

    Examples
    --------
    >>> names("mag_*, u_g")
    ['mag_*', 'u_g']
    """
    if text is None:
        return None
    return [name.strip() for name in text.split(",") if name.strip()]


@overload
def target(path: Path, endings: tuple[str, ...], *, overwrite: bool) -> Path: ...


@overload
def target(path: None, endings: tuple[str, ...], *, overwrite: bool) -> None: ...


def target(path: Path | None, endings: tuple[str, ...], *, overwrite: bool) -> Path | None:
    """Refuse a file that cannot be written, before anything is computed."""
    if path is None:
        return None
    path = path.expanduser()
    if path.is_dir():
        raise ValueError(f"{path} is a folder: name a file.")
    ending = path.suffix.lower()
    if ending not in endings:
        raise ValueError(f"{path} must end in {' or '.join(endings)}.")
    if path.exists() and not overwrite:
        raise FileExistsError(f"{path} is there already: name another file, or --overwrite it.")
    if not path.absolute().parent.is_dir():
        raise FileNotFoundError(f"the folder {path.parent} does not exist: create it first.")
    if ending in _WRITERS:
        import_optional(**_WRITERS[ending])
    return path


def check_choice(name: str, value: str, choices: tuple[str, ...]) -> None:
    """Refuse a value that an option does not have."""
    if value not in choices:
        raise ValueError(f"--{name} {value!r} must be {', '.join(choices[:-1])} or {choices[-1]}.")


def check_pretraining(encoder: Path | None, options: dict[str, object]) -> None:
    """Refuse options of the pretraining where an encoder is given that needs none."""
    idle = [f"--{name}" for name, value in options.items() if value is not None]
    if encoder is not None and idle:
        raise ValueError(f"with --encoder nothing is pretrained: leave out {', '.join(idle)}.")


def examples(*lines: str) -> str:
    """Return the end of a command's help: examples, a line each."""
    return "\n\n".join(["[bold]Examples[/bold]", *lines])
