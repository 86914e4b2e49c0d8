"""The commands `skastro classify`, `predict`, `cluster`, `explore` and `suggest`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from skastro.cli import options as o
from skastro.cli.terminal import load_libraries, print_line, show_classes, show_table, talking

if TYPE_CHECKING:
    import pandas as pd


def classify(
    folder: o.Folder = None,
    out: Annotated[Path, typer.Option(help="Table for the predictions.")] = Path("predictions.csv"),
    labels: o.Labels = None,
    label: Annotated[
        str | None, typer.Option(help="Column of the classes.", show_default="class")
    ] = None,
    classes: Annotated[
        str | None,
        typer.Option(
            help="Classes to use, with commas. Without any label: kinds of sources that the "
            "weights --pretrained know.",
            show_default="all",
        ),
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
    properties: o.Properties = None,
    errors: o.Errors = None,
    inputs: o.Inputs = None,
    unlabelled: o.Unlabelled = "unknown",
    encoder: o.Encoder = None,
    pretrained: o.Pretrained = "auto",
    save_encoder: Annotated[
        Path | None, typer.Option(help="File for the encoder that is pretrained.")
    ] = None,
    save: Annotated[
        Path | None, typer.Option(help="File for the classifier, for `skastro predict`.")
    ] = None,
    backbone: o.Backbone = None,
    epochs: o.Epochs = None,
    strategy: Annotated[
        str,
        typer.Option(
            help="How to learn the labels: probe (from the embeddings), finetune, scratch, or auto "
            "(the best in cross-validation)."
        ),
    ] = "auto",
    abstain: Annotated[
        float, typer.Option(min=0, max=1, help="Probability below which no class is predicted.")
    ] = 0.6,
    sets: o.Sets = None,
    seed: o.Seed = 0,
    jobs: o.Jobs = None,
    device: o.Device = "auto",
    overwrite: o.Overwrite = False,
    quiet: o.Quiet = False,
    json: o.Json = False,
    debug: o.Debug = False,
) -> None:
    """Learn from the labelled objects and classify all: class, probabilities, abstentions.

    Labels come from tables (--labels) or from a column of the catalogue.

    Without --encoder an encoder is pretrained on all stamps. With --save, `skastro predict`
    classifies other stamps later.

    Without any label, the classes are the kinds of sources that weights of skastro know.
    """
    with talking(quiet=quiet, lines=json) as terminal:
        from skastro.catalogs.writing import TABLES, write_table

        target = o.check_target(out, TABLES, overwrite=overwrite)
        kinds = (".safetensors",)
        save_encoder = save_encoder and o.check_target(save_encoder, kinds, overwrite=overwrite)
        save = save and o.check_target(save, kinds, overwrite=overwrite)
        o.check_choice("strategy", strategy, ("auto", "probe", "finetune", "scratch"))
        of_pretraining = properties, errors, epochs, backbone, save_encoder
        if encoder is not None:
            o.refuse_pretraining("with --encoder", *of_pretraining)
        load_libraries(terminal, jobs, device)
        from skastro.cli import steps
        from skastro.study.teachers import append_morphology

        weights = o.check_pretrained(pretrained)
        fitted = steps.find_encoder(encoder, backbone, epochs, device, seed)
        survey = steps.load_objects(
            folder, terminal.say, catalog=catalog, images=images, id=id, ra=ra, dec=dec, size=size,
            bands=bands, hdu=hdu, axes=axes, missing_bands=missing_bands,
        )  # fmt: skip
        known = steps.find_labels(
            survey.ids, survey.catalog, labels, label, unlabelled, classes=classes, say=terminal.say
        )
        has_labels = bool((known != "").any())
        o.check_sets(sets, strategy, has_labels=has_labels)
        if not has_labels:
            o.refuse_pretraining("without any label", *of_pretraining)
        label = label or "class"
        columns = steps.choose_inputs(survey, inputs, label)
        if encoder is None and has_labels:
            steps.pretrain(fitted, survey, properties, errors, label, terminal.say, save_encoder)
        model = steps.train_classifier(
            survey, known, fitted if has_labels or encoder is not None else None, catalog=columns,
            strategy=strategy, pretrained=weights, classes=classes, seed=seed,
        )  # fmt: skip
        if model.choice_:
            terminal.say(model.choice_)
        if save:
            model.save(save)
        score = steps.score_probe(model, known)
        predictions = steps.predict_classes(
            model, survey, known, catalog=columns, abstain=abstain, sets=sets
        )
        predictions = append_morphology(
            predictions, model, survey, named=pretrained not in ("auto", "none"), say=terminal.say
        )
        write_table(target, predictions)
        terminal.result(
            out=target,
            labelled=int((known != "").sum()),
            cross_validated=score,
            choice=model.choice_,
            **_count_classes(predictions),
        )
    if terminal.prints:
        show_classes(predictions, abstain, score=score)
        if save:
            print_line(f"Classifier: {save}")
        print_line(f"Predictions: {target}")


def _count_classes(predictions: pd.DataFrame) -> dict[str, Any]:
    """Return the numbers of rows, of rows without a class, and of rows of each class."""
    return {
        "rows": len(predictions),
        "abstained": int((predictions["prediction"] == "").sum()),
        "classes": predictions["most_probable"].value_counts().to_dict(),
    }


def predict(
    model: Annotated[
        Path, typer.Argument(help="File of `skastro classify --save` or `skastro regress --save`.")
    ],
    folder: o.Folder = None,
    out: Annotated[Path, typer.Option(help="Table for the predictions.")] = Path("predictions.csv"),
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
    abstain: Annotated[
        float, typer.Option(min=0, max=1, help="Probability below which no class is predicted.")
    ] = 0.6,
    sets: o.Sets = None,
    interval: o.Interval = 0.9,
    jobs: o.Jobs = None,
    device: o.Device = "auto",
    overwrite: o.Overwrite = False,
    quiet: o.Quiet = False,
    json: o.Json = False,
    debug: o.Debug = False,
) -> None:
    """Predict classes or numbers of new stamps by a saved classifier or regressor.

    No label is needed, and no catalogue. A catalogue is used if the model has learned from its
    columns, too (--inputs).
    """
    with talking(quiet=quiet, lines=json) as terminal:
        from skastro.catalogs.writing import TABLES, write_table

        target = o.check_target(out, TABLES, overwrite=overwrite)
        load_libraries(terminal, jobs, device)
        from skastro.cli import steps
        from skastro.cli.regress import tabulate_values
        from skastro.study.teachers import append_morphology

        fitted = steps.load_model(model, device=device)
        is_classifier = hasattr(fitted, "predict_proba")
        if sets is not None and not is_classifier:
            raise ValueError("--sets is for classes: leave it out, or use --interval for numbers.")
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
        columns = steps.take_inputs(survey, fitted, terminal.say)
        if is_classifier:
            predictions = steps.predict_classes(
                fitted, survey, catalog=columns, abstain=abstain, sets=sets
            )
            predictions = append_morphology(predictions, fitted, survey, say=terminal.say)
        else:
            predictions = tabulate_values(fitted, survey, catalog=columns, coverage=interval)
        write_table(target, predictions)
        counts = _count_classes(predictions) if is_classifier else {"rows": len(predictions)}
        terminal.result(out=target, **counts)
    if terminal.prints:
        if is_classifier:
            show_classes(predictions, abstain)
        print_line(f"Predictions: {target}")


def cluster(
    source: o.Source,
    out: Annotated[Path, typer.Option(help="Table for the clusters.")] = Path("clusters.csv"),
    encoder: o.Encoder = None,
    bands: o.Bands = None,
    hdu: o.Hdu = None,
    axes: o.Axes = None,
    missing_bands: o.MissingBands = "error",
    catalog: o.Catalog = None,
    id: o.Id = None,
    label: o.Label = None,
    on: Annotated[
        str,
        typer.Option(
            help="What makes objects alike: embedding; or, by --encoder galaxies, morphology or "
            "kinds."
        ),
    ] = "embedding",
    summary: Annotated[
        Path | None, typer.Option(help="Table for the properties of each cluster.")
    ] = None,
    min_size: Annotated[
        int | None,
        typer.Option(
            min=2,
            help="Number of objects of the smallest cluster.",
            show_default="by the number of objects",
        ),
    ] = None,
    seed: o.Seed = 0,
    jobs: o.Jobs = None,
    device: o.Device = "auto",
    overwrite: o.Overwrite = False,
    quiet: o.Quiet = False,
    json: o.Json = False,
    debug: o.Debug = False,
) -> None:
    """Find clusters of objects without any label: HDBSCAN on embeddings.

    Writes cluster (-1: noise), probability and outlier score of each object.

    With --catalog it also prints the properties of each cluster, and with --encoder galaxies the
    morphology.
    """
    with talking(quiet=quiet, lines=json) as terminal:
        from skastro.catalogs.writing import TABLES, write_table

        target = o.check_target(out, TABLES, overwrite=overwrite)
        summary_target = summary and o.check_target(summary, TABLES, overwrite=overwrite)
        o.check_choice("on", on, ("embedding", "morphology", "kinds"))
        load_libraries(terminal, jobs, device)
        from skastro.cli import steps
        from skastro.study.teachers import append_columns, choose_morphology

        embeddings, table, morphology = steps.load_embeddings(
            source,
            encoder=encoder,
            device=device,
            catalog=catalog,
            id=id,
            say=terminal.say,
            bands=bands,
            hdu=hdu,
            axes=axes,
            missing_bands=missing_bands,
        )
        columns = choose_morphology(morphology, on)
        if morphology is not None:
            table = morphology if table is None else append_columns(table, morphology)
        clusters, properties = steps.cluster_objects(
            embeddings,
            table,
            label=label,
            on=columns,
            min_size=min_size,
            seed=seed,
        )
        if morphology is not None:
            clusters = append_columns(clusters, morphology)
        write_table(target, clusters)
        if summary_target:
            write_table(summary_target, properties)
        n_noise = int((clusters["cluster"] < 0).sum())
        terminal.result(
            out=target,
            rows=len(clusters),
            clusters=int(clusters["cluster"].max()) + 1,
            noise=n_noise,
            summary=properties.to_dict("records"),
        )
    if terminal.prints:
        columns = steps.choose_columns(properties, clusters, table)
        show_table(columns)
        if table is not None:
            print_line(
                "Medians of the properties that differ most between the clusters; --summary "
                "writes those of all."
            )
        print_line(f"{n_noise:,} of {len(clusters):,} objects are noise, in no cluster.")
        print_line(f"Clusters: {target}")


def explore(
    source: o.Source,
    catalog: Annotated[
        Path | None, typer.Option(help="Catalogue with values to show and to colour by.")
    ] = None,
    images: o.Images = None,
    out: Annotated[Path, typer.Option(help="Page for the browser.")] = Path("explore.html"),
    encoder: o.Encoder = None,
    bands: o.Bands = None,
    hdu: o.Hdu = None,
    axes: o.Axes = None,
    missing_bands: o.MissingBands = "error",
    id: o.Id = None,
    columns: Annotated[
        str | None,
        typer.Option(help="Columns of the catalogue to show: 'mag_*,class'.", show_default="all"),
    ] = None,
    color: Annotated[
        str | None, typer.Option(help="Column that gives the map its first colours.")
    ] = None,
    clusters: Annotated[
        bool,
        typer.Option("--clusters/--no-clusters", help="Find clusters, too, and colour by them."),
    ] = True,
    method: Annotated[str, typer.Option(help="Projection: tsne, umap or pca.")] = "tsne",
    objects: Annotated[
        int, typer.Option(min=3, help="Largest number of objects to show, drawn at random.")
    ] = 20_000,
    title: Annotated[str, typer.Option(help="Title of the page.")] = "Projection of the embeddings",
    samp: o.Samp = False,
    seed: o.Seed = 0,
    jobs: o.Jobs = None,
    device: o.Device = "auto",
    overwrite: o.Overwrite = False,
    quiet: o.Quiet = False,
    json: o.Json = False,
    debug: o.Debug = False,
) -> None:
    """Write an interactive map of embeddings: a page that opens without the internet.

    The pointer shows the stamp and the columns of an object; a box selects objects, to save
    their ids.
    """
    with talking(quiet=quiet, lines=json) as terminal:
        target = o.check_target(out, (".html",), overwrite=overwrite)
        o.check_choice("method", method, ("tsne", "umap", "pca"))
        load_libraries(terminal, jobs, device)
        from skastro.catalogs.samp import send_table
        from skastro.cli import steps
        from skastro.embeddings.projection import METHOD_NAMES, project_embedding
        from skastro.pages.explorer import write_explorer

        values, survey = steps.gather_map(
            source,
            encoder=encoder,
            device=device,
            catalog=catalog,
            images=images,
            id=id,
            columns=columns,
            color=color,
            clusters=clusters,
            max_objects=objects,
            seed=seed,
            say=terminal.say,
            bands=bands,
            hdu=hdu,
            axes=axes,
            missing_bands=missing_bands,
        )

        # project, and write the page
        terminal.progress("projecting", 0, None)
        projection = project_embedding(values, method=method, random_state=seed)
        terminal.progress("writing the page", 0, None)
        write_explorer(
            target,
            projection.coordinates,
            table=survey.catalog,
            images=survey.images,
            embeddings=values,
            color=color,
            cluster=steps.CLUSTER if clusters else None,
            certainty={steps.CLUSTER: steps.CLUSTER_PROBABILITY} if clusters else None,
            units=survey.catalog.attrs["units"],
            title=title,
            projection=METHOD_NAMES[method],
        )
        n, trust = len(values), projection.trustworthiness
        terminal.say(f"{n:,} objects; trustworthiness of the projection {trust:.3f} of 1.")
        terminal.say(f"Page: {target}")
        programs = send_table(survey.catalog, target.name) if samp else []
        if programs:
            terminal.say(f"Sent to {', '.join(programs)}.")
        terminal.result(out=target, rows=n, trustworthiness=trust, programs=programs)


def suggest(
    source: o.Source,
    n: Annotated[int, typer.Option("-n", "--number", min=1, help="Objects to suggest.")] = 20,
    out: Annotated[Path, typer.Option(help="Table for the suggestions.")] = Path("suggested.csv"),
    labels: o.Labels = None,
    label: o.ClassLabel = "class",
    encoder: o.Encoder = None,
    bands: o.Bands = None,
    hdu: o.Hdu = None,
    axes: o.Axes = None,
    missing_bands: o.MissingBands = "error",
    catalog: o.Catalog = None,
    id: o.Id = None,
    unlabelled: o.Unlabelled = "unknown",
    strategy: Annotated[
        str,
        typer.Option(
            help="Objects to suggest: typical, uncertain, or auto (typical until two classes have "
            "labels, then uncertain; one in six at random)."
        ),
    ] = "auto",
    groups: Annotated[
        str | None,
        typer.Option(
            help="Column that is the same in all rows of one object: it is suggested only once."
        ),
    ] = None,
    seed: o.Seed = 0,
    jobs: o.Jobs = None,
    device: o.Device = "auto",
    overwrite: o.Overwrite = False,
    quiet: o.Quiet = False,
    json: o.Json = False,
    debug: o.Debug = False,
) -> None:
    """Choose the objects to label next.

    Fill in the empty label column of the table, and pass the table with --labels next time.
    """
    with talking(quiet=quiet, lines=json) as terminal:
        import pandas as pd

        from skastro.catalogs.writing import TABLES, write_table

        target = o.check_target(out, TABLES, overwrite=overwrite)
        o.check_choice("strategy", strategy, ("auto", "typical", "uncertain"))
        if Path(label).is_file():
            raise ValueError(f"--label {label} is a file: name the column, or use --labels.")
        load_libraries(terminal, jobs, device)
        from skastro.cli import steps
        from skastro.embeddings.active_learning import suggest_labels

        embeddings, table, _ = steps.load_embeddings(
            source,
            encoder=encoder,
            device=device,
            catalog=catalog,
            id=id,
            say=terminal.say,
            bands=bands,
            hdu=hdu,
            axes=axes,
            missing_bands=missing_bands,
        )

        # find the labels, and choose objects without one
        y = None
        if labels or (table is not None and label in table):
            y = steps.find_labels(
                embeddings.ids, table, labels, label, unlabelled, fewest=0, say=terminal.say
            )
        objects = None if groups is None else steps.take_column(table, groups, "groups").astype(str)
        terminal.progress("choosing", 0, None)
        rows = suggest_labels(
            embeddings.values, y, n=n, strategy=strategy, groups=objects, random_state=seed
        )
        suggestions = pd.DataFrame({"id": embeddings.ids[rows], label: ""})
        write_table(target, suggestions)
        terminal.say(
            f"{len(suggestions):,} objects to label, the most valuable first: {target} (fill in "
            f"the column {label}, and pass it with --labels next time)"
        )
        terminal.result(out=target, ids=suggestions["id"].astype(str).tolist())
