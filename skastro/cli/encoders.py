"""The commands `skastro pretrain`, `embed` and `export`."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Annotated

import typer

from skastro.cli import options as o
from skastro.cli.terminal import load_libraries, print_line, show_table, talking


def pretrain(
    folder: o.Folder = None,
    out: Annotated[Path, typer.Option(help="File for the encoder.")] = Path("encoder.safetensors"),
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
    backbone: o.Backbone = None,
    weights: o.Weights = None,
    epochs: o.Epochs = None,
    hold_out: Annotated[
        float, typer.Option(min=0, max=0.9, help="Share of the rows that tests the encoder.")
    ] = 0.1,
    checkpoint_dir: o.CheckpointDir = None,
    seed: o.Seed = 0,
    jobs: o.Jobs = None,
    device: o.Device = "auto",
    overwrite: o.Overwrite = False,
    quiet: o.Quiet = False,
    json: o.Json = False,
    debug: o.Debug = False,
) -> None:
    """Train an encoder on the properties of a catalogue, and save it.

    Without --properties the encoder learns properties that are measured from the pixels.
    """
    with talking(quiet=quiet, lines=json) as terminal:
        target = o.check_target(out, (".safetensors",), overwrite=overwrite)
        load_libraries(terminal, jobs, device)
        from skastro.cli import steps

        encoder = steps.make_encoder(backbone, epochs, device, seed, checkpoint_dir, weights)
        survey = steps.load_objects(
            folder,
            terminal.say,
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
        )
        if label is not None:
            steps.take_column(survey.catalog, label, "label")
        quality = steps.pretrain(
            encoder, survey, properties, errors, label, terminal.say, target, hold_out=hold_out
        )
        terminal.result(out=target, properties=quality.to_dict("records"))
    if terminal.prints:
        if len(quality):
            print_line(f"Properties of {quality['n_test'].max():,} stamps held out:")
            show_table(quality)
        print_line(f"Encoder: {target}")


def embed(
    encoder: o.SavedEncoder,
    folder: o.Folder = None,
    out: Annotated[
        Path, typer.Option(help="Table (.parquet, .fits, .csv, .ecsv, .vot), .npz or .npy.")
    ] = Path("embeddings.parquet"),
    predicted: Annotated[
        Path | None, typer.Option(help="Table for the predicted properties, with their units.")
    ] = None,
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
    workers: o.Workers = None,
    jobs: o.Jobs = None,
    device: o.Device = "auto",
    overwrite: o.Overwrite = False,
    quiet: o.Quiet = False,
    json: o.Json = False,
    debug: o.Debug = False,
) -> None:
    """Write the embeddings of stamps, each row with its id.

    After an interruption the same command goes on where it stopped.
    """
    with talking(quiet=quiet, lines=json) as terminal:
        from skastro.catalogs.writing import TABLES, check_width, write_table
        from skastro.embeddings.files import EMBEDDING_FILES, write_embeddings

        target = o.check_target(out, EMBEDDING_FILES, overwrite=overwrite)
        properties_target = predicted and o.check_target(predicted, TABLES, overwrite=overwrite)
        load_libraries(terminal, jobs, device)
        from skastro.cli import steps
        from skastro.embeddings.embed_survey import embed_survey

        fitted = steps.load_encoder(encoder, device=device)
        check_width(target, 1 + len(fitted.embedding_mean_))
        survey = steps.load_objects(
            folder,
            terminal.say,
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
        )

        # chunks are kept next to the output, where an interrupted command resumes
        chunks = embed_survey(
            fitted,
            survey.images,
            target.with_name(f"{target.name}.chunks"),
            ids=survey.ids,
            n_workers=workers,
            overwrite=True,
            progress=False,
        )
        values = chunks.read().values
        if properties_target:
            properties = fitted.predict_embedded(values)
            properties.insert(0, "id", survey.ids)
            write_table(properties_target, properties)
        write_embeddings(target, values, survey.ids)
        shutil.rmtree(chunks.path)
        terminal.say(f"{len(values):,} embeddings of {values.shape[1]} numbers: {target}")
        terminal.result(out=target, rows=len(values), columns=values.shape[1])


def export(
    encoder: o.SavedEncoder,
    out: Annotated[Path, typer.Option(help="File for the model: .onnx.")] = Path("encoder.onnx"),
    bands: Annotated[
        str | None, typer.Option(help="Names of the bands, to store in the file: 'u,g,r'.")
    ] = None,
    overwrite: o.Overwrite = False,
    quiet: o.Quiet = False,
    json: o.Json = False,
    debug: o.Debug = False,
) -> None:
    """Write an encoder as ONNX, for programs without Python.

    The model turns raw pixels into embeddings and properties. It is tested with onnxruntime
    before the file is written.
    """
    with talking(quiet=quiet, lines=json) as terminal:
        target = o.check_target(out, (".onnx",), overwrite=overwrite)
        load_libraries(terminal, None)
        from skastro.cli import steps
        from skastro.estimators.onnx import export_onnx

        fitted = steps.load_encoder(encoder)
        terminal.progress("converting", 0, None)
        export_onnx(fitted, target, bands=o.split_names(bands) or None)
        terminal.say(f"Encoder: {target}")
        terminal.result(out=target, bytes=target.stat().st_size)
