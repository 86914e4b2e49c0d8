"""The stamps of a survey together with the catalogue of their objects."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from skastro.catalogs.columns import find_column
from skastro.stamps.bands import BandArray
from skastro.utils.notebooks import as_html, list_some, picture_strip


@dataclass(eq=False, repr=False)
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
        Names of the bands, which an array of stamps then has as ``images.bands``. Left empty, it
        becomes the ``bands`` of the stamps, if they have any.
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
    >>> survey
    Survey of 2 stamps in 1 band, 8 x 8 pixels
    catalog: 2 columns, id, mag_r
    >>> survey.ids.tolist(), survey.catalog["mag_r"].tolist(), survey.target is None
    ([7, 9], [20.1, 19.4], True)

    A slice, a mask or row numbers take the same rows of all fields:

    >>> survey[survey.catalog["mag_r"] < 20]
    Survey of 1 stamp in 1 band, 8 x 8 pixels
    catalog: 2 columns, id, mag_r
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
        if self.bands and type(self.images) is np.ndarray:
            self.images = BandArray.of(self.images, self.bands)

    def __len__(self) -> int:
        return len(self.catalog)

    def __getitem__(self, rows: Any) -> Survey:
        """Take rows by a slice, a mask or row numbers: the same ones of all fields."""
        if isinstance(rows, str):
            raise TypeError(f"a survey is indexed by rows: use survey.{rows} or survey.catalog.")
        rows = np.arange(len(self))[rows]
        if rows.ndim != 1:
            raise IndexError(
                "a survey is indexed by a slice, a mask or a list of rows: survey[[5]] takes one."
            )
        catalog, truth = self.catalog.iloc[rows].reset_index(drop=True), self.truth
        return replace(
            self,
            images=self.images[rows],
            catalog=catalog,
            ids=np.asarray(self.ids)[rows],
            target=None if self.target is None else self.target[rows],
            truth=None if truth is None else truth.iloc[rows].reset_index(drop=True),
        )

    def __repr__(self) -> str:
        n, n_bands, height, width = self.images.shape
        bands = f" {'/'.join(self.bands)}" if self.bands else ""
        noun = f"{n_bands} band{'s' if n_bands != 1 else ''}{bands}"
        stamps = f"{n:,} stamp{'s' if n != 1 else ''}"
        lines = [f"Survey of {stamps} in {noun}, {height} x {width} pixels"]
        if self.target is not None:
            counts = pd.Series(self.target).value_counts()
            lines.append(f"target: {list_some(counts.to_dict())}")
        columns = self.catalog.columns
        lines.append(
            f"catalog: {len(columns)} column{'s' if len(columns) != 1 else ''}, "
            f"{list_some(columns)}"
        )
        if any(self.left_out.values()):
            reasons = {reason: len(ids) for reason, ids in self.left_out.items()}
            lines.append(f"left_out: {list_some(reasons)}")
        if self.path is not None:
            lines.append(f"path: {self.path}")
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        return as_html(repr(self), picture_strip(self.images), self.catalog.head())
