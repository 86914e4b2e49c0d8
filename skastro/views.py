"""Clusters and interactive maps of embeddings, joined with what is known of the objects."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from skastro.catalogs import name_near
from skastro.clustering import EmbeddingClusterer
from skastro.explorer import write_explorer
from skastro.projections import project_embedding
from skastro.study_data import select_columns
from skastro.tables import Embeddings, join_rows
from skastro.watching import Progress
from skastro.workflows import Objects, load_objects, match_catalog

_PREDICTIONS = "predictions.csv"  # of a study
_NAMES = {"tsne": "t-SNE", "umap": "UMAP", "pca": "PCA"}
_CLUSTER, _CERTAINTY = "cluster", "cluster_probability"  # columns beside the catalogue's


def cluster_objects(
    embeddings: Embeddings,
    catalog: pd.DataFrame | None = None,
    *,
    label: str | None = None,
    min_size: int | None = None,
    seed: int = 0,
    progress: Progress,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Find clusters, and say what they are.

    Parameters
    ----------
    embeddings : Embeddings
    catalog : DataFrame, default=None
        Of the same rows.
    label : str, default=None
        Column of the catalogue with classes, for the purity of the clusters.
    min_size : int, default=None
        Objects of the smallest cluster; None as `EmbeddingClusterer` has it.
    seed : int, default=0
    progress : callable

    Returns
    -------
    clusters : DataFrame
        ``id``, ``cluster`` (-1 = noise), ``probability`` and ``outlier_score``.
    summary : DataFrame
        A row for each cluster and, last, for noise; see `EmbeddingClusterer.cluster_summary`.
    """
    if label is not None and (catalog is None or label not in catalog.columns):
        near = ": pass the catalogue too." if catalog is None else name_near(label, catalog)
        raise ValueError(f"label={label!r} is no column{near}")
    progress("clustering", 0, None)
    size = "auto" if min_size is None else min_size
    model = EmbeddingClusterer(size, random_state=seed).fit(embeddings.values)
    clusters = pd.DataFrame(
        {
            "id": embeddings.ids,
            "cluster": model.labels_,
            "probability": model.probabilities_,
            "outlier_score": model.outlier_scores_,
        }
    )
    labels = None if label is None or catalog is None else catalog[label].to_numpy()
    return clusters, model.cluster_summary(catalog, labels).reset_index()


@dataclass(frozen=True)
class View:
    """What an interactive map shows.

    Parameters
    ----------
    embeddings : Embeddings
    table : DataFrame
        What is known of them, ``id`` first.
    images : array-like of shape (n, bands, height, width) or None
    notes : list of str
        How they were joined.
    """

    embeddings: Embeddings
    table: pd.DataFrame
    images: Any
    notes: list[str]


def gather_view(
    embeddings: Embeddings,
    source: Path,
    *,
    catalog: Path | None,
    images: Sequence[str] | None,
    id: str | None,  # noqa: A002 - the catalogue's word
    columns: Sequence[str] | None,
    embedded: bool,
    most: int,
    seed: int,
) -> View:
    """Join embeddings with their catalogue and stamps.

    Parameters
    ----------
    embeddings : Embeddings
    source : Path
        Where they are from: of a study's folder the predictions are shown too, of a data folder
        its catalogue and stamps.
    catalog, images, id
        As in `load_objects`.
    columns : sequence of str or None
        Columns of the catalogue, or patterns; None takes all.
    embedded : bool
        Whether ``source`` is a data folder that was embedded.
    most : int
        Objects at most; more are drawn at random.
    seed : int

    Returns
    -------
    view : View
    """
    notes: list[str] = []
    stamps = None
    if embedded or images:
        objects = load_objects(
            source if embedded else None, **_where(embedded, catalog, images, id)
        )
        embeddings, table, stamps = _match_objects(embeddings, objects, notes)
    elif catalog is not None or (source / _PREDICTIONS).is_file():
        known = catalog or source / _PREDICTIONS
        embeddings, table, note = match_catalog(embeddings, known, id=id)
        notes.append(note)
    else:
        table = pd.DataFrame(index=range(len(embeddings.ids)))
    units = table.attrs.get("units", {})
    if columns is not None:
        table = table[select_columns(table.columns, columns, label=None, name="columns")]
    table = table.drop(columns="id", errors="ignore")
    table.insert(0, "id", embeddings.ids)
    table.attrs["units"] = units
    return _thinned(View(embeddings, table, stamps, notes), most, seed)


def _where(embedded: bool, catalog: Any, images: Any, id: Any) -> dict[str, Any]:  # noqa: A002
    if embedded:
        return {"id": id}
    return {"catalog": catalog, "images": images, "id": id}


def _match_objects(
    embeddings: Embeddings, objects: Objects, notes: list[str]
) -> tuple[Embeddings, pd.DataFrame, Any]:
    notes.append(objects.note)
    kept, rows = join_rows(embeddings, objects.ids, name="the stack of stamps")
    if not embeddings.named:
        return kept, objects.catalog, objects.images
    return kept, objects.catalog.iloc[rows].reset_index(drop=True), objects.images[rows]


def _thinned(view: View, most: int, seed: int) -> View:
    n = len(view.table)
    if n <= most:
        return view
    rows = np.sort(np.random.default_rng(seed).choice(n, most, replace=False))
    table = view.table.iloc[rows].reset_index(drop=True)
    table.attrs = dict(view.table.attrs)
    return View(
        Embeddings(view.embeddings.values[rows], view.embeddings.ids[rows]),
        table,
        None if view.images is None else view.images[rows],
        [*view.notes, f"{most:,} of {n:,} objects are shown, drawn at random."],
    )


def write_view(
    path: Path,
    view: View,
    *,
    method: str,
    color: str | None,
    clusters: bool,
    title: str | None,
    seed: int,
    progress: Progress,
) -> float:
    """Project, find clusters if wanted, and write the page; return the trustworthiness.

    Raises
    ------
    ValueError
        ``color`` is no column, or there are too few objects.
    """
    table, certainty = view.table.copy(), None
    known = [*table.columns, *((_CLUSTER, _CERTAINTY) if clusters else ())]
    if color is not None and color not in known:
        raise ValueError(f"color={color!r} is no column{name_near(color, known)}")
    if clusters:
        found, _ = cluster_objects(view.embeddings, seed=seed, progress=progress)
        table[_CLUSTER] = found["cluster"].to_numpy()
        table[_CERTAINTY] = found["probability"].to_numpy()
        certainty = {_CLUSTER: _CERTAINTY}
    progress("projecting", 0, None)
    projection = project_embedding(view.embeddings.values, method=method, random_state=seed)
    progress("writing the page", 0, None)
    write_explorer(
        path,
        projection.coordinates,
        table=table,
        images=view.images,
        color=color,
        cluster=_CLUSTER if clusters else None,
        certainty=certainty,
        units={name: unit for name, unit in view.table.attrs["units"].items() if name in table},
        title=title or "Projection of the embeddings",
        projection=_NAMES[method],
    )
    return float(projection.trustworthiness)
