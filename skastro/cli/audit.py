"""The command `skastro audit`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from skastro.cli import options as o
from skastro.cli.terminal import load_libraries, print_line, show_table, talking

if TYPE_CHECKING:
    import pandas as pd

    from skastro.embeddings.files import Embeddings
    from skastro.utils.progress import Say

_N_SHOWN = 20


def audit(
    source: o.Source,
    out: Annotated[Path, typer.Option(help="Table for the doubtful labels.")] = Path(
        "doubtful.csv"
    ),
    labels: o.Labels = None,
    label: o.ClassLabel = "class",
    encoder: o.Encoder = None,
    bands: o.Bands = None,
    hdu: o.Hdu = None,
    axes: o.Axes = None,
    catalog: o.Catalog = None,
    id: o.Id = None,
    unlabelled: o.Unlabelled = "unknown",
    noise: Annotated[
        float, typer.Option(min=0.001, max=0.5, help="Share of wrong labels that you expect.")
    ] = 0.05,
    seed: o.Seed = 0,
    jobs: o.Jobs = None,
    device: o.Device = "auto",
    overwrite: o.Overwrite = False,
    quiet: o.Quiet = False,
    json: o.Json = False,
    debug: o.Debug = False,
) -> None:
    """Find labels that are probably wrong, and the class that they would be.

    Each label is predicted from all others. The table has the labels for which another class is
    more probable, most likely wrong first: look at them again.
    """
    with talking(quiet=quiet, lines=json) as terminal:
        from skastro.catalogs.writing import TABLES, write_table

        target = o.check_target(out, TABLES, overwrite=overwrite)
        load_libraries(terminal, jobs, device)
        from skastro.cli import steps
        from skastro.evaluation.label_audit import audit_labels

        rows, table, n_properties = _load_rows(
            source, encoder, device, catalog, id, terminal.say, bands=bands, hdu=hdu, axes=axes
        )
        known = steps.find_labels(rows.ids, table, labels, label, unlabelled, say=terminal.say)
        terminal.progress("auditing", 0, None)
        doubtful = audit_labels(
            rows.values, known, n_properties=n_properties, ids=rows.ids, noise=noise,
            random_state=seed,
        )  # fmt: skip
        write_table(target, doubtful)
        n_labels = int((known != "").sum())
        terminal.result(
            out=target, labels=n_labels, doubtful=len(doubtful),
            expected_wrong=round(float(doubtful["probability"].sum()), 1),
        )  # fmt: skip
    if terminal.prints:
        if len(doubtful):
            show_table(doubtful.head(_N_SHOWN))
        print_line(
            f"For {len(doubtful):,} of {n_labels:,} labels another class is more probable, as the "
            "other labels tell."
        )
        print_line(f"Doubtful labels: {target}")


def _load_rows(
    source: Path,
    encoder: Path | None,
    device: str,
    catalog: Path | None,
    id: str | None,
    say: Say,
    **options: Any,
) -> tuple[Embeddings, pd.DataFrame | None, int]:
    """Return columns that describe objects, their catalogue, and how many are properties.

    With an encoder, the properties that it predicts and those measured from the pixels are columns
    after the embedding. ``options`` are those of `read_data`.
    """
    import numpy as np

    from skastro.cli import steps
    from skastro.embeddings.files import Embeddings
    from skastro.estimators.classifier import join_columns
    from skastro.stamps.photometry import measure_properties

    if encoder is None:
        rows, table, n_properties = steps.find_embeddings(source), None, 0
    else:
        fitted = steps.load_encoder(encoder, device=device)
        survey = steps.load_objects(source, say, **options)
        embeddings = np.asarray(fitted.transform(survey.images))
        columns = join_columns(fitted, embeddings, measure_properties(survey.images))
        rows, table = Embeddings(columns.astype(np.float32), survey.ids), survey.catalog
        n_properties = columns.shape[1] - embeddings.shape[1]
    if catalog is not None:
        kept, table = steps.match_catalog(rows, catalog, id=id, say=say)
        rows = Embeddings(rows.values[kept], rows.ids[kept])
    return rows, table, n_properties
