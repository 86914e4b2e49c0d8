"""Clusters and interactive maps of embeddings, joined with what is known of the objects."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from skastro.catalogs.columns import select_columns
from skastro.cli.steps import Objects, find_embeddings, load_encoder, load_objects, match_catalog
from skastro.embeddings.clustering import EmbeddingClusterer
from skastro.embeddings.files import Embeddings, join_rows
from skastro.embeddings.projection import project_embedding
from skastro.pages.explorer import write_explorer
from skastro.utils.progress import Progress, Watched
from skastro.utils.validation import name_near

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
    values : float32 array of shape (n, d)
        The embeddings.
    table : DataFrame of n rows
        What is known of the objects, ``id`` first.
    images : array-like of shape (n, bands, height, width) or None
    """

    values: NDArray[np.float32]
    table: pd.DataFrame
    images: Any


def gather_view(
    source: Path,
    *,
    encoder: Path | None,
    device: str,
    catalog: Path | None,
    images: Sequence[str] | None,
    id: str | None,  # noqa: A002 - the catalogue's word
    columns: Sequence[str] | None,
    color: str | None,
    clusters: bool,
    most: int,
    seed: int,
    progress: Progress,
    say: Any,
) -> View:
    """Join embeddings with their catalogue and stamps; embed the stamps that are shown.

    Parameters
    ----------
    source : Path
        Embeddings, the folder of a study, whose predictions are shown too, or with ``encoder``
        a data folder.
    encoder : Path or None
    device : str
    catalog, images, id
        As in `load_objects`; with ``encoder`` the catalogue stands in for the folder's.
    columns : sequence of str or None
        Columns of the catalogue, or patterns; None takes all.
    color : str or None
        The column that will colour the map.
    clusters : bool
        Whether clusters will be columns, too.
    most : int
        Objects at most; more are drawn at random.
    seed : int
    progress, say : callable

    Returns
    -------
    view : View

    Raises
    ------
    ValueError
        ``color`` or ``columns`` are not there, or the parts do not fit; before stamps are embedded.
    """
    if encoder is not None and images:
        raise ValueError(f"--images is for embeddings: with --encoder the stamps of {source} show.")
    model = None if encoder is None else load_encoder(encoder, device=device)
    if model is None:
        found = find_embeddings(source, encoder=None, device=device, progress=progress)
        found, table, stamps = _join(found, source, catalog, images, id, say)
    else:
        objects = load_objects(source, id=id)
        # the place of each stamp stands for its embedding, which takes long and comes last
        places: NDArray[Any] = np.arange(len(objects.ids))[:, None]
        found = Embeddings(places, objects.ids)
        found, table, stamps = _join_folder(found, objects, catalog, id, say)
    table = _choose_columns(table, found.ids, columns)
    _check_color(color, table, clusters=clusters)
    rows = _draw(len(table), most, seed, say)
    if rows is not None:
        found = Embeddings(found.values[rows], found.ids[rows])
        table, units = table.iloc[rows].reset_index(drop=True), table.attrs["units"]
        table.attrs["units"] = units
        stamps = None if stamps is None else stamps[rows]
    if model is None:
        return View(found.values, table, stamps)
    watched = Watched(stamps, progress, "embedding")
    return View(np.asarray(model.transform(watched)), table, stamps)


def _join(
    found: Embeddings,
    source: Path,
    catalog: Path | None,
    images: Sequence[str] | None,
    id: str | None,  # noqa: A002
    say: Any,
) -> tuple[Embeddings, pd.DataFrame, Any]:
    """Return the embeddings that are known of, their catalogue, and their stamps if any."""
    if images:
        objects = load_objects(catalog=catalog, images=images, id=id)
        say(objects.note)
        kept, rows = join_rows(found, objects.ids, name="the stack of stamps")
        if not found.named:
            return kept, objects.catalog, objects.images
        return kept, objects.catalog.iloc[rows].reset_index(drop=True), objects.images[rows]
    if catalog is None and not (source / _PREDICTIONS).is_file():
        return found, pd.DataFrame(index=range(len(found.ids))), None
    kept, table, note = match_catalog(found, catalog or source / _PREDICTIONS, id=id)
    say(note)
    return kept, table, None


def _join_folder(
    found: Embeddings,
    objects: Objects,
    catalog: Path | None,
    id: str | None,  # noqa: A002
    say: Any,
) -> tuple[Embeddings, pd.DataFrame, Any]:
    """Do as `_join` for a data folder."""
    say(objects.note)
    if catalog is None:
        return found, objects.catalog, objects.images
    kept, table, note = match_catalog(found, catalog, id=id)
    say(note)
    return kept, table, objects.images[kept.values[:, 0]]


def _choose_columns(
    table: pd.DataFrame, ids: NDArray[Any], columns: Sequence[str] | None
) -> pd.DataFrame:
    units = table.attrs.get("units", {})
    if columns is not None:
        table = table[select_columns(table.columns, columns, label=None, name="columns")]
    table = table.drop(columns="id", errors="ignore")
    table.insert(0, "id", ids)
    table.attrs["units"] = units
    return table


def _check_color(color: str | None, table: pd.DataFrame, *, clusters: bool) -> None:
    known = [*table.columns, *((_CLUSTER, _CERTAINTY) if clusters else ())]
    if color is not None and color not in known:
        raise ValueError(f"color={color!r} is no column{name_near(color, known)}")


def _draw(n: int, most: int, seed: int, say: Any) -> NDArray[np.int64] | None:
    if n <= most:
        return None
    say(f"{most:,} of {n:,} objects are shown, drawn at random.")
    return np.sort(np.random.default_rng(seed).choice(n, most, replace=False))


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
        There are too few objects.
    """
    table, certainty = view.table.copy(), None
    if clusters:
        found, _ = cluster_objects(
            Embeddings(view.values, table["id"].to_numpy()), seed=seed, progress=progress
        )
        table[_CLUSTER] = found["cluster"].to_numpy()
        table[_CERTAINTY] = found["probability"].to_numpy()
        certainty = {_CLUSTER: _CERTAINTY}
    progress("projecting", 0, None)
    projection = project_embedding(view.values, method=method, random_state=seed)
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
