"""Define the options that several commands share, and check their values."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from skastro.utils.packages import import_optional

# optional packages, by the ending of the files they write
_WRITER_PACKAGES = {
    ".parquet": {"name": "pyarrow", "extra": "data", "needed_by": "Parquet"},
    ".html": {"name": "bokeh", "extra": "report", "needed_by": "The projection page"},
}

Folder = Annotated[Path | None, typer.Argument(help="Data folder (catalog.* and stamps).")]
Catalog = Annotated[Path | None, typer.Option(help="Catalogue, instead of a folder.")]
Images = Annotated[
    list[str] | None,
    typer.Option(help="Stamps: a file or a folder; or mosaics as band=path, repeatable."),
]
Id = Annotated[str | None, typer.Option(help="Column of the object ids.")]
Ra = Annotated[str | None, typer.Option(help="Column of right ascension.")]
Dec = Annotated[str | None, typer.Option(help="Column of declination.")]
CutTo = Annotated[
    int | None, typer.Option(min=1, help="Pixels of a stamp, to cut mosaics or to crop files.")
]
Label = Annotated[str | None, typer.Option(help="Column of the classes.")]
ClassLabel = Annotated[str, typer.Option("--label", help="Column of the classes.")]
Labels = Annotated[
    list[Path] | None, typer.Option(help="Table with id and the label column, repeatable.")
]
Unlabelled = Annotated[str, typer.Option(help="Values of the label column that mean no label.")]
Properties = Annotated[str | None, typer.Option(help="Columns to pretrain on: 'mag_*,u_g'.")]
Errors = Annotated[str | None, typer.Option(help="Columns of their errors: 'err_*'.")]
Inputs = Annotated[
    str | None, typer.Option(help="Columns to classify by, besides the stamps: 'mag_*'.")
]
Backbone = Annotated[str | None, typer.Option(help="Network; default: stamp_resnet18.")]
Epochs = Annotated[int | None, typer.Option(min=0, help="Epochs of the pretraining.")]
CheckpointDir = Annotated[
    Path | None, typer.Option(help="Folder from which the same command resumes after a kill.")
]
Encoder = Annotated[Path | None, typer.Option(help="Encoder saved by `skastro pretrain`.")]
SavedEncoder = Annotated[Path, typer.Argument(help="Encoder saved by `skastro pretrain`.")]
Source = Annotated[
    Path,
    typer.Argument(
        help="Embeddings (.parquet, .fits, .csv, .npz, .npy), the folder of a study, or a data "
        "folder with --encoder."
    ),
]
Seed = Annotated[int, typer.Option(min=0, help="Seed of all random numbers.")]
Workers = Annotated[
    int | None, typer.Option(min=1, help="Worker processes to embed with, by Dask; default: none.")
]
Jobs = Annotated[int | None, typer.Option(min=1, help="Processor cores to use; default: all.")]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1 or mps.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace existing files.")]
Quiet = Annotated[bool, typer.Option("--quiet", help="Print nothing but errors.")]
Json = Annotated[bool, typer.Option("--json", help="Print events as JSON lines, for scripts.")]
Debug = Annotated[bool, typer.Option("--debug", help="Show the traceback of errors.")]


def split_names(text: str | None) -> list[str]:
    """Split a list written with commas.

    Examples
    --------
    >>> split_names("mag_*, u_g"), split_names(None)
    (['mag_*', 'u_g'], [])
    """
    return [name.strip() for name in (text or "").split(",") if name.strip()]


def check_target(path: Path, endings: tuple[str, ...], *, overwrite: bool) -> Path:
    """Refuse a file that cannot be written, before anything is computed."""
    from skastro.utils.files import check_ending

    path = path.expanduser()
    if path.is_dir():
        raise ValueError(f"{path} is a folder: name a file.")
    ending = check_ending(path, endings)
    if path.exists() and not overwrite:
        raise FileExistsError(f"{path} is there already: name another file, or --overwrite it.")
    if not path.absolute().parent.is_dir():
        raise FileNotFoundError(f"the folder {path.parent} does not exist: create it first.")
    if ending in _WRITER_PACKAGES:
        import_optional(**_WRITER_PACKAGES[ending])
    return path


def check_choice(name: str, value: str, choices: tuple[str, ...]) -> None:
    """Refuse a value that an option does not have."""
    if value not in choices:
        raise ValueError(f"--{name} {value!r} must be {', '.join(choices[:-1])} or {choices[-1]}.")
