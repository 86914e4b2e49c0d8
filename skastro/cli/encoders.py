"""The commands `skastro pretrain`, `embed` and `export`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from skastro.cli import options as o
from skastro.cli.terminal import loading_libraries, show_file, show_quality, talking


def pretrain(
    folder: o.Folder = None,
    out: Annotated[Path, typer.Option(help="File for the encoder.")] = Path("encoder.safetensors"),
    catalog: o.Catalog = None,
    images: o.Images = None,
    id: o.Id = None,  # noqa: A002
    ra: o.Ra = None,
    dec: o.Dec = None,
    size: o.CutTo = None,
    label: o.Label = None,
    properties: o.Properties = None,
    errors: o.Errors = None,
    backbone: o.Backbone = None,
    epochs: o.Epochs = None,
    hold_out: Annotated[
        float, typer.Option(min=0, max=0.9, help="Share of the rows to judge the encoder by.")
    ] = 0.1,
    checkpoint_dir: o.CheckpointDir = None,
    seed: o.Seed = 0,
    jobs: o.Jobs = None,
    device: o.Device = "auto",
    overwrite: o.Overwrite = False,
    quiet: o.Quiet = False,
    json: o.Json = False,
    debug: o.Debug = False,  # noqa: ARG001
) -> None:
    """Train an encoder on the properties of a catalogue, and save it.

    Without --properties it learns what can be measured from the pixels.
    """
    with talking(quiet=quiet, lines=json) as terminal:
        target = o.target(out, (".safetensors",), overwrite=overwrite)
        steps = loading_libraries(terminal, jobs)
        objects = steps.load_objects(
            folder, catalog=catalog, images=images, id=id, ra=ra, dec=dec, size=size
        )
        terminal.say(objects.note)
        _, quality = steps.pretrain(
            objects,
            properties=o.names(properties) or (),
            errors=o.names(errors) or (),
            label=label,
            say=terminal.say,
            hold_out=hold_out,
            seed=seed,
            out=target,
            progress=terminal.progress,
            backbone=backbone,
            max_epochs=epochs,
            device=device,
            checkpoint_dir=checkpoint_dir,
        )
        terminal.result(out=target, properties=quality.to_dict("records"))
    if terminal.prints:
        show_quality(quality)
        show_file("Encoder", target)


def embed(
    encoder: Annotated[Path, typer.Argument(help="Saved encoder, of `skastro pretrain`.")],
    folder: o.Folder = None,
    out: Annotated[
        Path, typer.Option(help="Table (.parquet, .fits, .csv, .ecsv, .vot), .npz or .npy.")
    ] = Path("embeddings.parquet"),
    predicted: Annotated[
        Path | None, typer.Option(help="Table for the properties predicted, in their units.")
    ] = None,
    catalog: o.Catalog = None,
    images: o.Images = None,
    id: o.Id = None,  # noqa: A002
    ra: o.Ra = None,
    dec: o.Dec = None,
    size: o.CutTo = None,
    workers: o.Workers = None,
    jobs: o.Jobs = None,
    device: o.Device = "auto",
    overwrite: o.Overwrite = False,
    quiet: o.Quiet = False,
    json: o.Json = False,
    debug: o.Debug = False,  # noqa: ARG001
) -> None:
    """Write the embeddings of stamps, each row with its id.

    After an interruption the same command goes on where it stopped.
    """
    with talking(quiet=quiet, lines=json) as terminal:
        from skastro.catalogs.writing import TABLES, check_width, write_table  # noqa: PLC0415
        from skastro.embeddings.files import EMBEDDING_FILES, write_embeddings  # noqa: PLC0415

        target = o.target(out, EMBEDDING_FILES, overwrite=overwrite)
        beside = o.target(predicted, TABLES, overwrite=overwrite)
        steps = loading_libraries(terminal, jobs)
        from skastro.embeddings.chunks import embed_into  # noqa: PLC0415

        fitted = steps.load_encoder(encoder, device=device)
        check_width(target, 1 + len(fitted.embedding_mean_))
        objects = steps.load_objects(
            folder, catalog=catalog, images=images, id=id, ra=ra, dec=dec, size=size
        )
        terminal.say(objects.note)
        partial = target.with_name(f"{target.name}.partial")
        values = embed_into(
            partial,
            fitted,
            objects.images,
            made_of=steps.fingerprint(encoder, objects),
            progress=terminal.progress,
            workers=workers,
        )
        if beside:
            properties = fitted.predict_embedded(values)
            properties.insert(0, "id", objects.ids)
            write_table(beside, properties)
        write_embeddings(target, values, objects.ids)
        partial.unlink()
        terminal.say(f"{len(values):,} embeddings of {values.shape[1]} numbers: {target}")
        terminal.result(out=target, rows=len(values), columns=values.shape[1])


def export(
    encoder: Annotated[Path, typer.Argument(help="Saved encoder, of `skastro pretrain`.")],
    out: Annotated[Path, typer.Argument(help="File to write: .onnx.")] = Path("encoder.onnx"),
    bands: Annotated[
        str | None, typer.Option(help="Names of the bands, kept in the file: 'u,g,r'.")
    ] = None,
    overwrite: o.Overwrite = False,
    quiet: o.Quiet = False,
    json: o.Json = False,
    debug: o.Debug = False,  # noqa: ARG001
) -> None:
    """Write an encoder as ONNX, for programs that run no Python.

    Raw pixels in, embeddings and properties out; tried with onnxruntime before it is kept.
    """
    with talking(quiet=quiet, lines=json) as terminal:
        target = o.target(out, (".onnx",), overwrite=overwrite)
        steps = loading_libraries(terminal, None)
        from skastro.estimators.onnx import export_onnx  # noqa: PLC0415

        fitted = steps.load_encoder(encoder)
        terminal.progress("converting", 0, None)
        export_onnx(fitted, target, bands=o.names(bands))
        terminal.say(f"Encoder: {target}")
        terminal.result(out=target, bytes=target.stat().st_size)
