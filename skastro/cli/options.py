"""Define the options that several commands share, and check their values."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from skastro.utils.packages import import_optional

FIGURES = (".png", ".pdf", ".svg", ".jpg")  # endings of pictures
# optional packages, by the ending of the files they write
_WRITER_PACKAGES = {
    ".parquet": {"name": "pyarrow", "extra": "data", "needed_by": "Parquet"},
    **{key: {"name": "matplotlib", "extra": "report", "needed_by": "A figure"} for key in FIGURES},
    ".html": {"name": "bokeh", "extra": "report", "needed_by": "The projection page"},
}


def split_names(text: str | None) -> list[str]:
    """Split a list written with commas.

    Examples
    --------
    >>> split_names("mag_*, u_g"), split_names(None)
    (['mag_*', 'u_g'], [])
    """
    return [name.strip() for name in (text or "").split(",") if name.strip()]


def split_hdu(text: str) -> int | str | tuple[str, int] | list[int | str]:
    """Read extensions: a number, a name, a name and its version, or several with commas.

    Examples
    --------
    >>> split_hdu("1"), split_hdu("SCI,2"), split_hdu("SCI,ERR")
    (1, ('SCI', 2), ['SCI', 'ERR'])
    """
    parts = [int(part) if part.isdecimal() else part for part in split_names(text)]
    if len(parts) == 2 and isinstance(parts[0], str) and isinstance(parts[1], int):
        return parts[0], parts[1]
    return parts[0] if len(parts) == 1 else parts


def split_bands(text: str) -> str | list[str]:
    """Read names of bands: letters, or names with commas.

    Examples
    --------
    >>> split_bands("ugriz"), split_bands("F814W,F606W"), split_bands("SCI,")
    ('ugriz', ['F814W', 'F606W'], ['SCI'])
    """
    return split_names(text) if "," in text else text


_USUAL_NAMES = "found by its usual names"

Folder = Annotated[
    Path | None, typer.Argument(help="Folder with a catalogue (catalog.csv, .fits ...) and stamps.")
]
Catalog = Annotated[
    Path | None,
    typer.Option(help="Catalogue file, instead of a folder; c.fits[2] is its second extension."),
]
Images = Annotated[
    list[str] | None,
    typer.Option(help="Stamps: a file or a folder. Or a mosaic: band=path, once for each band."),
]
Id = Annotated[
    str | None, typer.Option(help="Column of the object ids.", show_default=_USUAL_NAMES)
]
Ra = Annotated[
    str | None, typer.Option(help="Column of right ascension.", show_default=_USUAL_NAMES)
]
Dec = Annotated[str | None, typer.Option(help="Column of declination.", show_default=_USUAL_NAMES)]
CutTo = Annotated[
    int | None,
    typer.Option(
        min=1,
        help="Height and width of a stamp in pixels: mosaics need it, stamps of files are cropped.",
    ),
]
Hdu = Annotated[
    Any,
    typer.Option(
        parser=split_hdu,
        metavar="HDU",
        help="Extensions of FITS files, such as 1, SCI or SCI,ERR; or the array of a .h5, .npz or "
        ".zarr, or the columns of images of a table.",
    ),
]
Bands = Annotated[
    Any,
    typer.Option(
        parser=split_bands, metavar="BANDS", help="Names of the bands: ugriz, or F814W,F606W."
    ),
]
Axes = Annotated[
    str | None,
    typer.Option(help="Axes of arrays: n stamps, c bands, h height, w width, such as nhwc."),
]
MissingBands = Annotated[
    str, typer.Option(help="Objects that lack a band: error, or nan for NaN pixels, counted.")
]
Label = Annotated[str | None, typer.Option(help="Column of the classes.")]
ClassLabel = Annotated[str, typer.Option("--label", help="Column of the classes.")]
Labels = Annotated[
    list[Path] | None,
    typer.Option(help="Table with the columns id and --label; once for each table."),
]
Unlabelled = Annotated[
    str, typer.Option(help="Values of the label column that mean no label, with commas.")
]
Properties = Annotated[
    str | None,
    typer.Option(help="Columns that the network learns to predict, such as 'mag_*,u_g'."),
]
Errors = Annotated[str | None, typer.Option(help="Columns of the errors of --properties: 'err_*'.")]
Inputs = Annotated[
    str | None, typer.Option(help="Columns to classify by, in addition to the stamps: 'mag_*'.")
]
Backbone = Annotated[
    str | None,
    typer.Option(help="Network: one of skastro or of timm.", show_default="stamp_resnet18"),
]
Epochs = Annotated[
    int | None,
    typer.Option(min=0, help="Epochs of the pretraining.", show_default="by the number of stamps"),
]
CheckpointDir = Annotated[
    Path | None,
    typer.Option(help="Folder for the state: the same command goes on after an interruption."),
]
_ENCODER = "Encoder saved by `skastro pretrain`, or weights of skastro: galaxies or radio."
Encoder = Annotated[Path | None, typer.Option(help=_ENCODER)]
SavedEncoder = Annotated[Path, typer.Argument(help=_ENCODER)]
Weights = Annotated[
    str | None,
    typer.Option(
        help="Weights to begin with: a file, imagenet, or those of skastro: galaxies or radio.",
        show_default="random",
    ),
]
Pretrained = Annotated[
    str,
    typer.Option(
        help="Weights of skastro to learn from, too: galaxies, radio, none, or auto for those that "
        "help."
    ),
]
Sets = Annotated[
    float | None,
    typer.Option(
        min=0,
        max=1,
        help="Add a column of the classes that an object may have; the true one is among them for "
        "this share, such as 0.9.",
    ),
]
Interval = Annotated[
    float,
    typer.Option(
        min=0.01, max=0.99, help="Share of the true values that lie in the intervals of numbers."
    ),
]
Source = Annotated[
    Path,
    typer.Argument(
        help="Embeddings (.parquet, .fits, .csv, .npz, .npy), the folder of a study, or a data "
        "folder with --encoder."
    ),
]
Samp = Annotated[
    bool,
    typer.Option("--samp", help="Send the table to TOPCAT and other programs, too, by SAMP."),
]
Seed = Annotated[int, typer.Option(min=0, help="Seed of all random numbers.")]
Workers = Annotated[
    int | None,
    typer.Option(
        min=1, help="Number of processes that embed (Dask).", show_default="this one alone"
    ),
]
Jobs = Annotated[
    int | None, typer.Option(min=1, help="Processor cores to use.", show_default="all")
]
Device = Annotated[
    str, typer.Option(help="Device: cpu, cuda, cuda:1, mps, or auto for the best of them.")
]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace existing files.")]
Quiet = Annotated[bool, typer.Option("--quiet", help="Print nothing but errors.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON lines, for scripts.")]
Debug = Annotated[bool, typer.Option("--debug", help="Show the traceback of errors.")]


def check_sets(coverage: float | None, strategy: str, *, has_labels: bool) -> None:
    """Refuse sets of classes before anything is trained, where no label would be left out."""
    if coverage is not None and (strategy in ("finetune", "scratch") or not has_labels):
        raise ValueError(
            "--sets needs predictions of labels that were left out: pass --labels, and --strategy "
            "auto or probe."
        )


def refuse_pretraining(when: str, *values: object) -> None:
    """Refuse options of the pretraining, because nothing is pretrained."""
    names = ("--properties", "--errors", "--epochs", "--backbone", "--save-encoder")
    given = [name for name, value in zip(names, values, strict=True) if value is not None]
    if given:
        raise ValueError(f"{when} nothing is pretrained: leave out {', '.join(given)}.")


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


def check_pretrained(name: str) -> str | None:
    """Return the name of weights of skastro, or "auto"; None for "none"."""
    from skastro.networks.weights import PRETRAINED

    check_choice("pretrained", name, ("auto", "none", *PRETRAINED))
    return None if name == "none" else name


def check_choice(name: str, value: str, choices: tuple[str, ...]) -> None:
    """Refuse a value that an option does not have."""
    if value not in choices:
        raise ValueError(f"--{name} {value!r} must be {', '.join(choices[:-1])} or {choices[-1]}.")
