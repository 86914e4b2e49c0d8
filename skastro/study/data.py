"""Choose the data of a study: stamps, and columns of their catalogue by name."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd
from astropy.coordinates import SkyCoord
from numpy.typing import NDArray

from skastro.catalogs.columns import take_properties
from skastro.catalogs.labels import clean_labels
from skastro.pages.explorer import find_sky
from skastro.simulation.survey import make_survey
from skastro.simulation.telescope import choose_jobs
from skastro.surveys.folders import read_data
from skastro.utils.notebooks import as_html, list_some, picture_strip
from skastro.utils.progress import Say, say_nothing
from skastro.utils.validation import check_groups, name_near

SURVEY_OBJECTS = 6000


@dataclass(frozen=True, repr=False, eq=False)
class StudyData:
    """Stamps of a study and the columns of their catalogue: n rows of the same objects."""

    images: Any  # array-like of shape (n, bands, height, width)
    labels: NDArray[Any]  # (n,) classes as text, dtype object; "" where unlabelled
    ids: NDArray[Any]  # (n,)
    properties: pd.DataFrame | None = None  # (n, p) checked, float64; NaN = not measured
    errors: NDArray[Any] | None = None  # (n, p) their 1-sigma errors, float64; NaN = unknown
    groups: NDArray[Any] | None = None  # (n,) groups of rows that stay on one side of the split
    source: str = "arrays in memory"  # where the rows come from, for the report
    label: str = "labels"  # name of the column of the labels
    group_by: str = ""  # name of the column of the groups; "" without groups
    error_columns: dict[str, str] = field(default_factory=dict)  # by the name of the property
    sky: SkyCoord | None = None  # (n,) positions, for links in the report

    def __repr__(self) -> str:
        classes = pd.Series(self.labels).value_counts().drop("", errors="ignore")
        lines = [
            f"StudyData of {len(self.labels):,} stamps: {self.source}",
            f"{self.label}: {list_some(classes.to_dict())}",
        ]
        if self.properties is not None:
            lines.append(f"properties: {list_some(self.properties.columns)}")
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        return as_html(repr(self), picture_strip(self.images))


def load_data(
    folder: str | Path | None = None,
    *,
    catalog: str | Path | None = None,
    images: Sequence[str] | str | Path | None = None,
    id: str | None = None,  # noqa: A002 - the catalogue's word, as in read_catalog
    ra: str | None = None,
    dec: str | None = None,
    label: str | None = None,
    properties: Sequence[str] = (),
    errors: Sequence[str] = (),
    unlabelled: Sequence[str] = ("unknown",),
    classes: Sequence[str] | None = None,
    groups: str | None = None,
    n_objects: int = SURVEY_OBJECTS,
    random_state: int = 0,
    say: Say | None = None,
    **options: Any,
) -> StudyData:
    """Read a data folder or two files, or simulate a survey, and choose its columns.

    Parameters
    ----------
    folder : path, default=None
        A data folder as `load_folder` reads it. Without a folder and without files a survey is
        simulated, whose columns need not be named.
    catalog : path, default=None
        A catalogue, together with ``images``, instead of a folder.
    images : path or sequence of str, default=None
        Stamps: a file, a folder, a pattern, or mosaics as ``"band=path"``; see `load_survey`.
    id, ra, dec : str, default=None
        Columns of the ids and positions; None finds them by their usual names.
    label : str, default=None
        Column of the classes.
    properties, errors : sequence of str, default=()
        Columns of properties and of their 1-sigma errors, or patterns such as ``"mag_*"``. An
        error belongs to the property whose name it shares: ``err_g`` to ``mag_g``.
    unlabelled : sequence of str, default=("unknown",)
        Values of the label column that mean no label; empty values always do.
    classes : sequence of str, default=None
        Classes to use; rows of other classes count as unlabelled. None uses all.
    groups : str, default=None
        Column of groups that stay on one side of the split; missing values are an error.
    n_objects : int, default=6000
        Number of objects of the simulated survey.
    random_state : int, default=0
        Seed of the simulated survey.
    say : callable, default=None
        Called with sentences for the user.
    **options
        ``size`` of the stamps in pixels, which mosaics require, ``bands``, ``hdu`` and ``axes``;
        see `load_survey`.

    Returns
    -------
    data : StudyData
        With the fields ``images``, ``labels`` (text; ``""`` where unlabelled), ``ids``,
        ``properties``, ``errors`` and ``groups``, one row for each object.

    Raises
    ------
    ValueError, OSError
        The data cannot be used; the message names the argument and the remedy.

    Examples
    --------
    >>> import tempfile
    >>> import numpy as np
    >>> table = pd.DataFrame({"id": range(40), "class": ["star", "galaxy"] * 20, "mag_r": 20.0})
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     np.save(f"{folder}/stamps.npy", np.zeros((40, 1, 8, 8), dtype="float32"))
    ...     table.to_csv(f"{folder}/catalog.csv", index=False)
    ...     data = load_data(folder, label="class", properties=["mag_*"])
    >>> data.images.shape, data.labels[:2].tolist(), data.properties.columns.tolist()
    ((40, 1, 8, 8), ['star', 'galaxy'], ['mag_r'])
    """
    say = say or say_nothing
    # read or simulate the data
    if folder is None and catalog is None and images is None:
        survey = make_survey(n_objects, random_state=random_state, n_jobs=choose_jobs(n_objects))
        source, sky = f"simulated survey of {n_objects:,} objects (seed {random_state})", None
        label = label or "class"
        if not properties:
            properties, errors = ("mag_*",), ("err_*",)
    else:
        survey, source = read_data(
            folder, catalog=catalog, images=images, id=id, ra=ra, dec=dec, **options
        )
        say(survey.join)
        sky = find_sky(survey.catalog, ra, dec)
        if label is None:
            raise ValueError(
                "label is missing: name the column of the classes (--label), out of "
                f"{', '.join(survey.catalog.columns)}."
            )

    # choose the columns
    table = survey.catalog
    for name, column in (("label", label), ("groups", groups)):
        if column is not None and column not in table.columns:
            near = name_near(column, table.columns)
            raise ValueError(f"{name}={column!r} is not a column{near}")
    labels = clean_labels(table[label], unlabelled=unlabelled, classes=classes, name=label, say=say)
    chosen, chosen_errors, error_columns = take_properties(
        table, properties, errors, label=label, say=say
    )
    group_values = None if groups is None else table[groups].to_numpy()
    check_groups(group_values, len(table), rows_of="the catalogue")
    return StudyData(
        images=survey.images,
        labels=labels,
        ids=survey.ids,
        properties=chosen,
        errors=chosen_errors,
        groups=group_values,
        source=source,
        label=label,
        group_by=groups or "",
        error_columns=error_columns,
        sky=sky,
    )
