"""The stamps of a survey together with the catalogue of their objects."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from skastro.catalogs.columns import find_column


@dataclass(eq=False)
class Survey:
    """Stamps and the catalogue rows of the same objects, in the same order.

    `load_folder`, `load_survey`, `make_survey` and `fetch_sdss` return it. The first four fields
    are always there; each function describes which of the others it fills in.

    Parameters
    ----------
    images : array-like of shape (n, bands, height, width)
        Stamps, as an array or as lazy `Stamps`.
    catalog : DataFrame of n rows
        Columns of the catalogue. NaN marks values that were not measured.
    ids : array of shape (n,), default=None
        Names of the objects. None means the id column of the catalogue, or row numbers if it has
        none.
    join : str, default=""
        Sentence on how the stamps were joined with the catalogue.
    target : array of shape (n,), default=None
        Class of each object. None if no column of classes was named.
    target_names : list
        Sorted classes; empty without a target.
    truth : DataFrame of n rows, default=None
        Values without noise. None if the survey is not simulated.
    bands : tuple of str, default=()
        Names of the bands. Left empty, it becomes the ``bands`` of the stamps, if they have any.
    pixel_scale : float
        Size of a pixel in arcsec. NaN if unknown.
    zero_point : float
        AB magnitude of a flux of one. NaN if unknown.
    left_out : dict of str to list
        Ids of the objects that have no stamp, by the reason.
    path : Path, default=None
        Folder of the survey. None if it is in memory only.
    DESCR : str, default=""
        Description of the data for people.

    Examples
    --------
    >>> survey = Survey(np.zeros((2, 1, 8, 8)), pd.DataFrame({"id": [7, 9], "mag_r": [20.1, 19.4]}))
    >>> survey.ids.tolist(), survey.catalog["mag_r"].tolist(), survey.target is None
    ([7, 9], [20.1, 19.4], True)
    """

    images: Any
    catalog: pd.DataFrame
    ids: NDArray[Any] = None  # type: ignore[assignment]  # __post_init__ fills it in
    join: str = ""
    target: NDArray[Any] | None = None
    target_names: list[Any] = field(default_factory=list)
    truth: pd.DataFrame | None = None
    bands: tuple[str, ...] = ()
    pixel_scale: float = math.nan
    zero_point: float = math.nan
    left_out: dict[str, list[str]] = field(default_factory=dict)
    path: Path | None = None
    DESCR: str = ""

    def __post_init__(self) -> None:
        if self.ids is None:
            column = find_column(self.catalog, "id")
            rows = np.arange(len(self.catalog))
            self.ids = rows if column is None else self.catalog[column].to_numpy()
        self.bands = self.bands or tuple(getattr(self.images, "bands", None) or ())
