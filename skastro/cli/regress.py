"""The command `skastro regress`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from skastro.cli import options as o
from skastro.cli.terminal import load_libraries, print_line, talking

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from numpy.typing import NDArray

    from skastro.surveys.survey import Survey
    from skastro.utils.progress import Say


def regress(
    folder: o.Folder = None,
    *,
    column: Annotated[str, typer.Option(help="Column of the numbers to predict, as redshift.")],
    out: Annotated[Path, typer.Option(help="Table for the predictions.")] = Path("predictions.csv"),
    labels: Annotated[
        list[Path] | None,
        typer.Option(help="Table with the columns id and --column; once for each table."),
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
    inputs: Annotated[
        str | None,
        typer.Option(help="Columns to predict from, in addition to the stamps: 'mag_*'."),
    ] = None,
    encoder: o.Encoder = None,
    pretrained: o.Pretrained = "auto",
    save_encoder: Annotated[
        Path | None, typer.Option(help="File for the encoder that is pretrained.")
    ] = None,
    save: Annotated[
        Path | None, typer.Option(help="File for the regressor, for `skastro predict`.")
    ] = None,
    backbone: o.Backbone = None,
    epochs: o.Epochs = None,
    interval: o.Interval = 0.9,
    seed: o.Seed = 0,
    jobs: o.Jobs = None,
    device: o.Device = "auto",
    overwrite: o.Overwrite = False,
    quiet: o.Quiet = False,
    json: o.Json = False,
    debug: o.Debug = False,
) -> None:
    """Learn a number, such as a redshift, from the objects that have one, and predict it for all.

    The numbers come from tables (--labels) or from a column of the catalogue, empty where unknown.

    Without --encoder an encoder is pretrained on all stamps. With --save, `skastro predict`
    predicts the number of other stamps later.
    """
    with talking(quiet=quiet, lines=json) as terminal:
        from skastro.catalogs.writing import TABLES, write_table

        target = o.check_target(out, TABLES, overwrite=overwrite)
        kinds = (".safetensors",)
        save_encoder = save_encoder and o.check_target(save_encoder, kinds, overwrite=overwrite)
        save = save and o.check_target(save, kinds, overwrite=overwrite)
        if encoder is not None:
            o.refuse_pretraining(
                "with --encoder", properties, errors, epochs, backbone, save_encoder
            )
        load_libraries(terminal, jobs, device)
        from sklearn.frozen import FrozenEstimator

        from skastro.cli import steps
        from skastro.estimators.regressor import SelfSupervisedRegressor
        from skastro.utils.scoring import measure_outliers, measure_scatter

        weights = o.check_pretrained(pretrained)
        fitted = steps.find_encoder(encoder, backbone, epochs, device, seed)
        survey = steps.load_objects(
            folder, terminal.say, catalog=catalog, images=images, id=id, ra=ra, dec=dec, size=size,
            bands=bands, hdu=hdu, axes=axes, missing_bands=missing_bands,
        )  # fmt: skip
        values = _find_values(survey, column, labels, terminal.say)
        columns = steps.choose_inputs(survey, inputs, column)
        if encoder is None:
            steps.pretrain(fitted, survey, properties, errors, column, terminal.say, save_encoder)
        terminal.progress("learning the numbers", 0, None)
        model = SelfSupervisedRegressor(
            FrozenEstimator(fitted), pretrained=weights, random_state=seed
        ).fit(survey.images, values, catalog=columns)
        if save:
            model.save(save)
        probe = model.catalog_probe_ or model.probe_
        pair = probe.values_, probe.loo_predictions_
        scatter, outliers = measure_scatter(*pair), measure_outliers(*pair)
        predictions = tabulate_values(model, survey, values, catalog=columns, coverage=interval)
        write_table(target, predictions)
        terminal.result(
            out=target, rows=len(predictions), known=len(probe.values_), r2=model.loo_score_,
            scatter=scatter, outliers=outliers,
        )  # fmt: skip
    if terminal.prints:
        print_line(
            f"{len(probe.values_):,} known numbers, each predicted from all others: R2 "
            f"{model.loo_score_:.3f}, scatter {scatter:.3g}, {outliers:.1%} outliers."
        )
        if save:
            print_line(f"Regressor: {save}")
        print_line(f"Predictions: {target}")


def tabulate_values(
    model: Any,
    survey: Survey,
    values: NDArray[np.float64] | None = None,
    *,
    catalog: pd.DataFrame | None = None,
    coverage: float,
) -> pd.DataFrame:
    """Return a table of ``id``, ``prediction``, ``std``, ``low`` and ``high``.

    ``values`` are those that are known, NaN elsewhere; they become the second column.
    """
    import pandas as pd

    predicted, std = model.predict(survey.images, catalog=catalog, return_std=True)
    probe = model.probe_ if catalog is None else model.catalog_probe_
    reach = probe.interval_factor(coverage) * std
    known = {} if values is None else {"value": values}
    numbers = {"prediction": predicted, "std": std, "low": predicted - reach}
    return pd.DataFrame({"id": survey.ids, **known, **numbers, "high": predicted + reach})


def _find_values(
    survey: Survey, column: str, tables: list[Path] | None, say: Say
) -> NDArray[np.float64]:
    """Return the numbers of a column of tables, or else of the catalogue, NaN where unknown."""
    import numpy as np
    import pandas as pd

    from skastro.catalogs.labels import read_labels
    from skastro.cli import steps
    from skastro.utils.validation import check_properties

    if tables:
        found, notes = read_labels(tables, column, survey.ids, numbers=True)
        for note in notes:
            say(note)
    else:
        found = steps.take_column(survey.catalog, column, "column")
    table = check_properties(
        pd.DataFrame({column: found}), len(survey.ids), name="catalog", allow_empty=True
    )
    values = table[column].to_numpy()
    say(f"{np.isfinite(values).sum():,} of {len(values):,} objects have a value of {column}.")
    return values
