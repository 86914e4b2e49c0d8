"""The commands `skastro classify`, `cluster`, `explore` and `suggest`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from skastro.cli import options as o
from skastro.cli.terminal import (
    Terminal,
    loading_libraries,
    print_line,
    show_classes,
    show_file,
    show_table,
    talking,
)

if TYPE_CHECKING:
    import pandas as pd


_LABEL = "class"


def classify(
    folder: o.Folder = None,
    out: Annotated[Path, typer.Option(help="Table for the predictions.")] = Path("predictions.csv"),
    labels: o.Labels = None,
    label: o.Label = _LABEL,
    catalog: o.Catalog = None,
    images: o.Images = None,
    id: o.Id = None,  # noqa: A002
    ra: o.Ra = None,
    dec: o.Dec = None,
    size: o.CutTo = None,
    properties: o.Properties = None,
    errors: o.Errors = None,
    inputs: o.Inputs = None,
    unlabelled: o.Unlabelled = "unknown",
    encoder: o.Encoder = None,
    save_encoder: Annotated[
        Path | None, typer.Option(help="Keep the encoder that is pretrained, in this file.")
    ] = None,
    backbone: o.Backbone = None,
    epochs: o.Epochs = None,
    strategy: Annotated[str, typer.Option(help="auto, probe, finetune or scratch.")] = "auto",
    abstain: Annotated[
        float, typer.Option(min=0, max=1, help="Probability below which no class is named.")
    ] = 0.6,
    seed: o.Seed = 0,
    jobs: o.Jobs = None,
    device: o.Device = "auto",
    overwrite: o.Overwrite = False,
    quiet: o.Quiet = False,
    json: o.Json = False,
    debug: o.Debug = False,  # noqa: ARG001
) -> None:
    """Learn from the labelled objects and classify all: class, probabilities, abstentions.

    Labels come from tables (--labels) or from a column of the catalogue.

    Without --encoder one is pretrained on all stamps.
    """
    with talking(quiet=quiet, lines=json) as terminal:
        from skastro.catalogs.writing import TABLES, write_table  # noqa: PLC0415

        target = o.target(out, TABLES, overwrite=overwrite)
        kept = o.target(save_encoder, (".safetensors",), overwrite=overwrite)
        o.check_choice("strategy", strategy, ("auto", "probe", "finetune", "scratch"))
        idle: dict[str, object] = {"properties": properties, "errors": errors, "epochs": epochs}
        o.check_pretraining(encoder, idle | {"backbone": backbone, "save-encoder": save_encoder})
        steps = loading_libraries(terminal, jobs)
        fitted = encoder and steps.load_encoder(encoder, device=device)
        objects = steps.load_objects(
            folder, catalog=catalog, images=images, id=id, ra=ra, dec=dec, size=size
        )
        terminal.say(objects.note)
        classes = steps.find_labels(
            objects.ids,
            catalog=objects.catalog,
            tables=labels or (),
            label=label,
            unlabelled=o.names(unlabelled) or (),
            say=terminal.say,
        )
        known = steps.choose_inputs(objects, o.names(inputs) or (), label=label)
        if fitted is None:
            fitted, _ = steps.pretrain(
                objects,
                properties=o.names(properties) or (),
                errors=o.names(errors) or (),
                label=label,
                say=terminal.say,
                seed=seed,
                out=kept,
                progress=terminal.progress,
                backbone=backbone,
                max_epochs=epochs,
                device=device,
            )
        predictions, model = steps.classify(
            objects,
            classes,
            fitted,
            known=known,
            strategy=strategy,
            abstain=abstain,
            seed=seed,
            progress=terminal.progress,
        )
        write_table(target, predictions)
        score = steps.judge_probe(model, classes)
        terminal.result(
            out=target,
            rows=len(predictions),
            labelled=int((classes != "").sum()),
            abstained=int((predictions["prediction"] == "").sum()),
            classes=predictions["most_probable"].value_counts().to_dict(),
            cross_validated=score,
        )
    if terminal.prints:
        show_classes(predictions, score, abstain)
        show_file("Predictions", target)


def cluster(
    source: o.Source,
    out: Annotated[Path, typer.Option(help="Table for the clusters.")] = Path("clusters.csv"),
    encoder: o.Encoder = None,
    catalog: o.Catalog = None,
    id: o.Id = None,  # noqa: A002
    label: o.Label = None,
    summary: Annotated[
        Path | None, typer.Option(help="Table for the properties of each cluster.")
    ] = None,
    min_size: Annotated[
        int | None, typer.Option(min=2, help="Objects of the smallest cluster.")
    ] = None,
    seed: o.Seed = 0,
    jobs: o.Jobs = None,
    device: o.Device = "auto",
    overwrite: o.Overwrite = False,
    quiet: o.Quiet = False,
    json: o.Json = False,
    debug: o.Debug = False,  # noqa: ARG001
) -> None:
    """Find clusters of objects without any label: HDBSCAN on embeddings.

    Writes cluster (-1: noise), probability and outlier score of each object.

    With --catalog it prints what the clusters are.
    """
    with talking(quiet=quiet, lines=json) as terminal:
        from skastro.catalogs.writing import TABLES, write_table  # noqa: PLC0415

        target = o.target(out, TABLES, overwrite=overwrite)
        beside = o.target(summary, TABLES, overwrite=overwrite)
        steps = loading_libraries(terminal, jobs)
        found, table = _embeddings(terminal, steps, source, encoder, device, catalog, id)
        from skastro.cli.map_steps import cluster_objects  # noqa: PLC0415

        clusters, described = cluster_objects(
            found, table, label=label, min_size=min_size, seed=seed, progress=terminal.progress
        )
        write_table(target, clusters)
        if beside:
            write_table(beside, described)
        n_noise = int((clusters["cluster"] < 0).sum())
        terminal.result(
            out=target,
            rows=len(clusters),
            clusters=int(clusters["cluster"].max()) + 1,
            noise=n_noise,
            summary=described.to_dict("records"),
        )
    if terminal.prints:
        show_table(described)
        print_line(f"{n_noise:,} of {len(clusters):,} objects are noise, in no cluster.")
        show_file("Clusters", target)


def explore(
    source: o.Source,
    catalog: Annotated[Path | None, typer.Option(help="Catalogue, to colour by.")] = None,
    images: o.Images = None,
    out: Annotated[Path, typer.Option(help="Page for the browser.")] = Path("explore.html"),
    encoder: o.Encoder = None,
    id: o.Id = None,  # noqa: A002
    columns: Annotated[
        str | None, typer.Option(help="Columns of the catalogue to show: 'mag_*,class'. All.")
    ] = None,
    color: Annotated[str | None, typer.Option(help="Column that colours at first.")] = None,
    clusters: Annotated[
        bool, typer.Option("--clusters/--no-clusters", help="Find clusters, to colour by.")
    ] = True,
    method: Annotated[str, typer.Option(help="tsne, umap or pca.")] = "tsne",
    objects: Annotated[
        int, typer.Option(min=3, help="Objects to show at most, drawn at random.")
    ] = 20_000,
    title: Annotated[str | None, typer.Option(help="Of the page.")] = None,
    seed: o.Seed = 0,
    jobs: o.Jobs = None,
    device: o.Device = "auto",
    overwrite: o.Overwrite = False,
    quiet: o.Quiet = False,
    json: o.Json = False,
    debug: o.Debug = False,  # noqa: ARG001
) -> None:
    """Write an interactive map of embeddings: one page, opened without a network.

    Hover shows stamp and columns, a box selects objects and saves their ids.
    """
    with talking(quiet=quiet, lines=json) as terminal:
        target = o.target(out, (".html",), overwrite=overwrite)
        o.check_choice("method", method, ("tsne", "umap", "pca"))
        loading_libraries(terminal, jobs)
        from skastro.cli import map_steps as views  # noqa: PLC0415

        view = views.gather_view(
            source,
            encoder=encoder,
            device=device,
            catalog=catalog,
            images=images,
            id=id,
            columns=o.names(columns),
            color=color,
            clusters=clusters,
            most=objects,
            seed=seed,
            progress=terminal.progress,
            say=terminal.say,
        )
        trust = views.write_view(
            target,
            view,
            method=method,
            color=color,
            clusters=clusters,
            title=title,
            seed=seed,
            progress=terminal.progress,
        )
        terminal.say(
            f"{len(view.table):,} objects; trustworthiness of the projection {trust:.3f} of 1."
        )
        terminal.say(f"Page: {target}")
        terminal.result(out=target, rows=len(view.table), trustworthiness=trust)


def suggest(
    source: o.Source,
    n: Annotated[int, typer.Option("-n", "--number", min=1, help="Objects to suggest.")] = 20,
    out: Annotated[Path, typer.Option(help="Table for the suggestions.")] = Path("suggested.csv"),
    labels: o.Labels = None,
    label: o.Label = _LABEL,
    encoder: o.Encoder = None,
    catalog: o.Catalog = None,
    id: o.Id = None,  # noqa: A002
    unlabelled: o.Unlabelled = "unknown",
    strategy: Annotated[str, typer.Option(help="auto, typical or uncertain.")] = "auto",
    groups: Annotated[
        str | None, typer.Option(help="Column of the catalogue that is one for one object.")
    ] = None,
    seed: o.Seed = 0,
    jobs: o.Jobs = None,
    device: o.Device = "auto",
    overwrite: o.Overwrite = False,
    quiet: o.Quiet = False,
    json: o.Json = False,
    debug: o.Debug = False,  # noqa: ARG001
) -> None:
    """Say which objects to label next.

    Fill in the empty label column of what it writes, and name the file with --labels next time.
    """
    with talking(quiet=quiet, lines=json) as terminal:
        from skastro.catalogs.writing import TABLES, write_table  # noqa: PLC0415

        target = o.target(out, TABLES, overwrite=overwrite)
        o.check_choice("strategy", strategy, ("auto", "typical", "uncertain"))
        steps = loading_libraries(terminal, jobs)
        found, table = _embeddings(terminal, steps, source, encoder, device, catalog, id)
        suggestions = steps.suggest(
            found,
            table,
            tables=labels or (),
            label=label,
            unlabelled=o.names(unlabelled) or (),
            groups=groups,
            n=n,
            strategy=strategy,
            seed=seed,
            progress=terminal.progress,
            say=terminal.say,
        )
        write_table(target, suggestions)
        terminal.say(
            f"{len(suggestions):,} objects to label, the most valuable first: {target} (fill in "
            f"the column {label}, and pass it with --labels next time)"
        )
        terminal.result(out=target, ids=suggestions["id"].astype(str).tolist())


def _embeddings(
    terminal: Terminal,
    steps: Any,
    source: Path,
    encoder: Path | None,
    device: str,
    catalog: Path | None,
    id: str | None,  # noqa: A002
) -> tuple[Any, pd.DataFrame | None]:
    """Return embeddings, and the rows of their catalogue where there is one."""
    found = steps.find_embeddings(
        source, encoder=encoder, device=device, progress=terminal.progress
    )
    if catalog is None:
        return found, None
    found, table, note = steps.match_catalog(found, catalog, id=id)
    terminal.say(note)
    return found, table
