"""What a study learns from: stamps, and columns of their catalogue chosen by name."""

from __future__ import annotations

from typing import Any
from numpy.typing import NDArray
from dataclasses import dataclass
from dataclasses import field
import pandas as pd
from pathlib import Path
from skastro.utils.progress import Say
from collections.abc import Sequence
from skastro.simulation.telescope import choose_jobs
from skastro.simulation.survey import make_survey
from skastro.surveys.folders import read_data
from skastro.utils.progress import say_nothing
from sklearn.utils import Bunch
from skastro.utils.validation import name_near
import numpy as np
from skastro.catalogs.labels import settle_labels
from skastro.catalogs.columns import take_properties

SURVEY_OBJECTS = 6000
SURVEY_LABEL, SURVEY_PROPERTIES, SURVEY_ERRORS = "class", ("mag_*",), ("err_*",)

@dataclass(frozen=True)
class StudyData:
    """What a study learns from: stamps and the columns of their catalogue, row by row.

    Parameters
    ----------
    images : array-like of shape (n, bands, height, width)
    labels : object array of shape (n,)
        Classes as text; ``""`` where unlabelled.
    ids : array of shape (n,)
    properties : DataFrame of shape (n, p) or None
        Checked: float64, NaN = not measured.
    errors : float64 array of shape (n, p) or None
        1-sigma errors in the order of the properties; NaN = unknown.
    groups : array of shape (n,) or None
        Rows that belong on one side of the split.
    source : str
        Where the rows come from, for the report.
    label, group_by : str
        Names of the columns that ``labels`` and ``groups`` were; "" without groups.
    error_columns : dict of str to str
        Property to the column of its error.
    """

    images: Any
    labels: NDArray[Any]
    ids: NDArray[Any]
    properties: pd.DataFrame | None = None
    errors: NDArray[Any] | None = None
    groups: NDArray[Any] | None = None
    source: str = "arrays in memory"
    label: str = "labels"
    group_by: str = ""
    error_columns: dict[str, str] = field(default_factory=dict)

def load_data(
    folder: str | Path | None = None,
    *,
    catalog: str | Path | None = None,
    images: Sequence[str] | str | Path | None = None,
    id: str | None = None,  # noqa: A002 - the catalogue's word, as in read_catalog
    ra: str | None = None,
    dec: str | None = None,
    size: int | None = None,
    label: str | None = None,
    properties: Sequence[str] = (),
    errors: Sequence[str] = (),
    unlabelled: Sequence[str] = ("unknown",),
    classes: Sequence[str] | None = None,
    groups: str | None = None,
    n_objects: int = SURVEY_OBJECTS,
    random_state: int = 0,
    say: Say | None = None,
) -> StudyData:
    """Read a data folder or two files, or simulate a survey, and choose its columns.

    Parameters
    ----------
    folder : path, default=None
        A data folder as `load_folder` reads it. Without it and without files a survey is
        simulated, whose columns need not be named.
    catalog : path, default=None
        A catalogue, with ``images``, instead of a folder.
    images : path or sequence of str, default=None
        Stamps: a file, a folder, a pattern, or mosaics as ``"band=path"``; see `load_survey`.
    id, ra, dec, size
        As in `load_survey`.
    label : str, default=None
        Column of the classes.
    properties, errors : sequence of str, default=()
        Columns, or patterns such as ``"mag_*"``; `match_errors` says which error belongs to
        which property.
    unlabelled : sequence of str, default=("unknown",)
        Values of the label column that mean no label, as empty ones do.
    classes : sequence of str, default=None
        Restrict the labels to these.
    groups : str, default=None
        Column of what must not be torn apart by the split.
    n_objects, random_state : int
        Of the simulated survey.
    say : callable, default=None
        Called with a sentence on each thing worth knowing.

    Returns
    -------
    data : StudyData

    Raises
    ------
    ValueError, OSError
        The data cannot be used; the message names the argument and the remedy.

    Examples
    --------
    >>> import tempfile
    >>> table = pd.DataFrame({"id": range(40), "class": ["star", "galaxy"] * 20, "mag_r": 20.0})
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     np.save(f"{folder}/stamps.npy", np.zeros((40, 1, 8, 8), dtype="float32"))
    ...     table.to_csv(f"{folder}/catalog.csv", index=False)
    ...     data = load_data(folder, label="class", properties=["mag_*"])
    >>> data.images.shape, data.labels[:2].tolist(), data.properties.columns.tolist()
    ((40, 1, 8, 8), ['star', 'galaxy'], ['mag_r'])
    """
    say = say or say_nothing
    if folder is None and catalog is None and images is None:
        survey = make_survey(n_objects, random_state=random_state, n_jobs=choose_jobs(n_objects))
        source = f"simulated survey of {n_objects:,} objects (seed {random_state})"
        label = label or SURVEY_LABEL
        if not properties:
            properties, errors = SURVEY_PROPERTIES, SURVEY_ERRORS
        return _choose(survey, source, label, properties, errors, unlabelled, classes, groups, say)
    data, source = read_data(
        folder, catalog=catalog, images=images, id=id, ra=ra, dec=dec, size=size
    )
    say(data.join)
    if label is None:
        raise ValueError(
            "label is missing: name the column of the classes (--label), out of "
            f"{', '.join(data.catalog.columns)}."
        )
    return _choose(data, source, label, properties, errors, unlabelled, classes, groups, say)

def _choose(
    data: Bunch,
    source: str,
    label: str,
    properties: Sequence[str],
    errors: Sequence[str],
    unlabelled: Sequence[str],
    classes: Sequence[str] | None,
    groups: str | None,
    say: Say,
) -> StudyData:
    """Take the wanted columns out of a catalogue."""
    catalog = data.catalog
    for name, column in (("label", label), ("groups", groups)):
        if column is not None and column not in catalog.columns:
            near = name_near(column, catalog.columns)
            raise ValueError(f"{name}={column!r} is no column{near}")
    labels = settle_labels(
        catalog[label], unlabelled=unlabelled, classes=classes, name=label, say=say
    )
    table, spread, owners = take_properties(catalog, properties, errors, label=label, say=say)
    return StudyData(
        images=data.images,
        labels=labels,
        ids=catalog["id"].to_numpy() if "id" in catalog else np.arange(len(catalog)),
        properties=table,
        errors=spread,
        groups=None if groups is None else catalog[groups].to_numpy(),
        source=source,
        label=label,
        group_by=groups or "",
        error_columns=owners,
    )
