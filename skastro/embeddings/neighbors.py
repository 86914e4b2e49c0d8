"""Find the objects that are most similar to others: more like this."""

from __future__ import annotations

import os
import warnings
from typing import Any, Self

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from sklearn.decomposition import PCA
from sklearn.neighbors import NearestNeighbors
from sklearn.preprocessing import StandardScaler
from sklearn.utils.validation import check_array
from threadpoolctl import threadpool_limits

from skastro.catalogs.matching import find_rows
from skastro.embeddings.files import Embeddings
from skastro.embeddings.outliers import draw_rows
from skastro.utils.files import load_arrays, save_arrays
from skastro.utils.notebooks import list_some
from skastro.utils.packages import import_optional
from skastro.utils.tables import to_frame
from skastro.utils.validation import check_properties, check_whole_number, plain_rows

_MAX_EXACT_ROWS = 100_000
_MAX_EXACT_QUERIES = 1000  # of one call: to compare these with all rows is faster than an index
# choices of benchmarks/speed/neighbors.py
_N_COMPONENTS = 48  # principal components in the index
_N_SAMPLE = 50_000  # rows from which they are computed
_INDEX = {"n_neighbors": 15, "n_trees": 8, "n_iters": 6, "low_memory": True}
_N_CANDIDATES = 50  # that the index names, at least, and that are compared in all columns
_EPSILON = 0.2  # of the search: larger is slower and finds more
_MIN_SPREAD = 1e-6  # of a column, relative to its mean: smaller is rounding
_CHUNK_SIZE = 50_000  # rows that are scaled at once
_ARRAYS = {"rows", "ids", "named", "center", "scale", "property_names"}  # of a file


class SimilarObjects:
    r"""Find the objects of a collection that are most similar to given ones.

    The similarity of two objects is the cosine of the angle between their rows. A row has the
    standardised columns of the embedding and, with ``properties``, those of the properties. Both
    parts weigh the same: each is divided by the square root of the number of its columns.

    Parameters
    ----------
    embeddings : array-like of shape (n, d)
        Finite embeddings, or `Embeddings` of a file, whose ids are used.
    properties : array-like or table of shape (n, p), default=None
        Properties in any units, such as those that the encoder predicts and those of
        `measure_properties`. NaN are missing, and replaced by the mean of the column.
    ids : array-like of shape (n,), default=None
        Ids of the objects. By default those of ``embeddings``, if there are any.
    exact : bool or "auto", default="auto"
        Whether an object is compared with all others. "auto" does so up to 100,000 rows. With more,
        pynndescent builds an index of 48 principal components, and the candidates that it names are
        compared exactly.
    random_state : int, default=0
        Seed of the index.

    Attributes
    ----------
    ids_ : array of shape (n,)
        Ids, or row numbers.

    Raises
    ------
    ValueError
        The embeddings are not finite, or the arguments have different numbers of rows.
    ImportError
        An index is needed, and pynndescent is not installed.

    See Also
    --------
    find_similar : The same in one call.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> E = rng.normal(size=(60, 8)) + 6 * (np.arange(60) % 3 == 0)[:, None]
    >>> objects = SimilarObjects(E, ids=[f"g{i}" for i in range(60)])
    >>> objects
    SimilarObjects of 60 objects in 8 columns, ids g0, g1, g2, g3, g4, g5, g6, g7 and 52 more
    >>> objects.find("g3", k=4)["row"].mod(3).tolist()
    [0, 0, 0, 0]
    """

    def __init__(
        self,
        embeddings: ArrayLike | Embeddings,
        properties: Any = None,
        *,
        ids: ArrayLike | None = None,
        exact: bool | str = "auto",
        random_state: int = 0,
    ) -> None:
        if ids is None and isinstance(embeddings, Embeddings) and embeddings.named:
            ids = embeddings.ids
        values = _check_embeddings(embeddings, "embeddings")
        self._property_names: list[str] = []
        blocks: list[NDArray[Any]] = [values]
        if properties is not None:
            table = check_properties(properties, len(values), allow_empty=True)
            self._property_names = table.columns.tolist()
            blocks.append(table.to_numpy())
        self._named = ids is not None
        self.ids_: NDArray[Any] = np.arange(len(values)) if ids is None else np.asarray(ids)
        if self.ids_.shape != (len(values),):
            raise ValueError(
                f"ids has shape {self.ids_.shape}, but embeddings has {len(values)} rows: pass one "
                "id for each."
            )
        moments = [_measure_block(block) for block in blocks]
        self._center, self._scale = (np.concatenate(part) for part in zip(*moments, strict=True))
        self._rows = self._scale_rows(*blocks)
        self._choose_search(exact, random_state)

    def __repr__(self) -> str:
        ids = f"ids {list_some(self.ids_)}" if self._named else "without ids"
        n, n_columns = self._rows.shape
        return f"SimilarObjects of {n:,} objects in {n_columns} columns, {ids}"

    def find(self, query: Any, k: int = 10, *, properties: Any = None) -> pd.DataFrame:
        """Find the k objects that are most similar to each of some objects.

        Parameters
        ----------
        query : int or str, array-like of shape (m,), or array-like of shape (m, d)
            Ids of objects, or their row numbers if the collection has no ids. Or embeddings of m
            other objects, made by the same encoder: ``encoder.transform(new_stamps)``.
        k : int, default=10
            Number of objects to find for each, fewer if there are not so many.
        properties : array-like or table of shape (m, p), default=None
            Properties of the other objects, with the columns of the collection.

        Returns
        -------
        table : DataFrame of up to m k rows
            ``query``: the id or row number of an object, or the row number of a new embedding;
            ``query_row``: its row in the collection, -1 for a new embedding; ``rank`` from 1, the
            most similar object first; ``row`` of the object that was found, its ``id`` if there
            are ids, and its ``similarity`` from -1 to 1, which is 1 for copies. An object is never
            found as similar to itself.

        Raises
        ------
        ValueError
            An object is not in the collection, the embeddings have another number of columns or
            are not finite, or properties are missing.
        """
        check_whole_number("k", k, least=1)
        names, own, rows = self._read_query(query, properties)
        n_wanted = min(k, len(self._rows) - (own is not None))
        found, similarity = self._search(rows, n_wanted + (own is not None))
        if own is not None:
            # leave each object itself out; if it has many copies, it may not have been found
            others = found != own[:, None]
            others[others.all(axis=1), -1] = False
            found, similarity = (
                part[others].reshape(len(names), n_wanted) for part in (found, similarity)
            )
        table = {
            "query": np.repeat(names, n_wanted),
            "query_row": np.repeat(np.full(len(names), -1) if own is None else own, n_wanted),
            "rank": np.tile(np.arange(1, n_wanted + 1), len(names)),
            "row": found.ravel(),
            "id": self.ids_[found.ravel()],
            "similarity": similarity.ravel(),
        }
        return pd.DataFrame(table).drop(columns=[] if self._named else "id")

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the collection to a file ``.npz``, without the index, which `load` builds again.

        Parameters
        ----------
        path : str or path-like
            File to write.

        Raises
        ------
        ValueError
            The path has another ending.
        OSError
            The file cannot be written.
        """
        ids = self.ids_ if self.ids_.dtype.kind in "iuU" else self.ids_.astype(str)
        arrays = {
            "rows": self._rows, "ids": ids, "named": np.array(self._named),
            "center": self._center, "scale": self._scale,
            "property_names": np.array(self._property_names, dtype=str),
        }  # fmt: skip
        save_arrays(path, arrays)

    @classmethod
    def load(cls, path: str | os.PathLike[str], *, exact: bool | str = "auto") -> Self:
        """Read a collection that `save` has written.

        Parameters
        ----------
        path : str or path-like
            File of `save`.
        exact : bool or "auto", default="auto"
            As in `SimilarObjects`: whether the search is exact, or an index is built.

        Returns
        -------
        objects : SimilarObjects

        Raises
        ------
        FileNotFoundError
            The file does not exist.
        ValueError
            The file is damaged, or another file.
        """
        arrays = load_arrays(path, _ARRAYS, writer="SimilarObjects.save")
        self = cls.__new__(cls)
        self._rows, self.ids_, self._named = arrays["rows"], arrays["ids"], bool(arrays["named"])
        self._center, self._scale = arrays["center"], arrays["scale"]
        self._property_names = arrays["property_names"].tolist()
        self._choose_search(exact, 0)
        return self

    def _choose_search(self, exact: bool | str, seed: int) -> None:
        """Build an index if the rows are too many for an exact search."""
        if exact not in (True, False, "auto"):
            raise ValueError(f"exact={exact!r} must be True, False or 'auto'.")
        is_exact = len(self._rows) <= _MAX_EXACT_ROWS if exact == "auto" else exact
        self._index = None if is_exact else _Index(self._rows, seed)

    def _scale_rows(self, *blocks: NDArray[Any]) -> NDArray[np.float32]:
        """Return rows of unit length from the columns of all blocks, with missing values filled."""
        n = len(blocks[0])
        rows = np.empty((n, len(self._center)), np.float32)
        for start in range(0, n, _CHUNK_SIZE):
            some = np.hstack([block[start : start + _CHUNK_SIZE] for block in blocks])
            some = np.nan_to_num((some - self._center) / self._scale)
            length = np.linalg.norm(some, axis=1, keepdims=True)
            rows[start : start + _CHUNK_SIZE] = some / np.where(length > 0, length, 1)
        return rows

    def _read_query(
        self, query: Any, properties: Any
    ) -> tuple[NDArray[Any], NDArray[np.int64] | None, NDArray[np.float32]]:
        """Return names of the queries, their rows in the collection if they have any, and rows."""
        if np.ndim(getattr(query, "values", query)) > 1:
            rows = self._scale_rows(*self._read_blocks(query, properties))
            return np.arange(len(rows)), None, rows
        if properties is not None:
            raise ValueError(
                "properties= is for embeddings of other objects: leave it out for ids and rows."
            )
        names = np.atleast_1d(np.asarray(query))
        n = len(self.ids_)
        if self._named:
            found = find_rows(names, self.ids_, name="the collection")
            if (found < 0).any():
                raise ValueError(
                    f"query {names[found.argmin()]!s} is not an id of the {n:,} objects: pass ids "
                    f"such as {self.ids_[0]!s}."
                )
        else:
            if names.dtype.kind not in "iu" or ((names < 0) | (names >= n)).any():
                raise ValueError(
                    f"query {list_some(names)} must be row numbers from 0 to {n - 1}, as the "
                    "objects have no ids: or pass ids=."
                )
            found = names.astype(np.int64)
        return self.ids_[found], found, self._rows[found]

    def _read_blocks(self, query: Any, properties: Any) -> list[NDArray[Any]]:
        """Check embeddings, and properties, of other objects."""
        values = _check_embeddings(query, "query")
        n_embedded = len(self._center) - len(self._property_names)
        if values.shape[1] != n_embedded:
            raise ValueError(
                f"query has {values.shape[1]} columns, but embeddings has {n_embedded}: embed the "
                "new stamps by the same encoder."
            )
        if properties is None and self._property_names:
            raise ValueError(
                "the objects are compared by properties, too: pass those of the new ones "
                "(properties= of find, query_properties= of find_similar)."
            )
        if properties is not None and not self._property_names:
            raise ValueError(
                "the objects have no properties: leave those of the new ones out, or pass "
                "properties of both."
            )
        if properties is None:
            return [values]
        table = to_frame(properties, "properties")
        if isinstance(properties, pd.DataFrame):
            absent = [name for name in self._property_names if name not in table]
            if absent:
                raise ValueError(
                    f"properties has no column {absent[0]!r}, which the collection has: add it, "
                    "NaN where it is unknown."
                )
            table = table[self._property_names]
        if table.shape != (len(values), len(self._property_names)):
            raise ValueError(
                f"properties has shape {table.shape}, but there are {len(values)} new objects and "
                f"{len(self._property_names)} properties: pass a row for each object."
            )
        checked = check_properties(table, len(values), allow_empty=True)
        return [values, checked.to_numpy()]

    def _search(
        self, rows: NDArray[np.float32], k: int
    ) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """Return the k most similar rows and their cosines, the most similar first."""
        if self._index is not None:
            candidates = self._index.find(rows, max(_N_CANDIDATES, 2 * k))
            cosines = np.einsum("qcd,qd->qc", self._rows[candidates], rows)
            order = np.argsort(-cosines, axis=1, kind="stable")[:, :k]
            found, cosine = (np.take_along_axis(a, order, 1) for a in (candidates, cosines))
            return found.astype(np.int64), cosine.astype(np.float64)
        model = NearestNeighbors(n_neighbors=k, algorithm="brute").fit(self._rows)
        distance, found = model.kneighbors(rows)
        return found, 1 - distance.astype(np.float64) ** 2 / 2


class _Index:
    """Approximate search for the nearest of many rows of unit length, by pynndescent."""

    def __init__(self, rows: NDArray[np.float32], seed: int) -> None:
        some = rows[draw_rows(len(rows), _N_SAMPLE, seed)]
        pca = PCA(min(_N_COMPONENTS, *some.shape), random_state=seed).fit(some)
        self._axes = pca.components_.T.astype(np.float32)
        # when numba starts it also sets the number of torch's threads: threadpool_limits restores
        with warnings.catch_warnings(), threadpool_limits(limits=None):
            warnings.simplefilter("ignore")  # of numba
            pynndescent = import_optional(
                "pynndescent", extra="projection",
                needed_by=f"The index of more than {_MAX_EXACT_ROWS:,} objects",
            )  # fmt: skip
            self._graph = pynndescent.NNDescent(rows @ self._axes, random_state=seed, **_INDEX)
            self._graph.prepare()

    def find(self, rows: NDArray[np.float32], k: int) -> NDArray[np.intp]:
        """Return the numbers of about the k nearest rows, of shape (m, k)."""
        found, _ = self._graph.query(rows @ self._axes, k=k, epsilon=_EPSILON)
        return np.asarray(found, dtype=np.intp)


def find_similar(
    embeddings: ArrayLike | Embeddings,
    query: Any,
    k: int = 10,
    *,
    properties: Any = None,
    query_properties: Any = None,
    ids: ArrayLike | None = None,
) -> pd.DataFrame:
    """Find the k objects that are most similar to each of some objects.

    The similarity is the cosine of standardised embeddings and, with ``properties``, of
    standardised properties that weigh as much as the embedding. Up to 1,000 queries, or 100,000
    rows, are compared with all rows, and more by an index; use `SimilarObjects` to build it once.

    Parameters
    ----------
    embeddings : array-like of shape (n, d)
        Finite embeddings, or `Embeddings` of a file, whose ids are used.
    query : int or str, array-like of shape (m,), or array-like of shape (m, d)
        Ids of objects, or their row numbers if there are no ids. Or embeddings of m other objects,
        by the same encoder: ``encoder.transform(new_stamps)``.
    k : int, default=10
        Number of objects to find for each, fewer if there are not so many.
    properties : array-like or table of shape (n, p), default=None
        Properties in any units, such as those that the encoder predicts and those of
        `measure_properties`. NaN are missing, and replaced by the mean of the column.
    query_properties : array-like or table of shape (m, p), default=None
        The same properties of other objects.
    ids : array-like of shape (n,), default=None
        Ids of the objects. By default those of ``embeddings``, if there are any.

    Returns
    -------
    table : DataFrame of up to m k rows
        The columns ``query``, ``query_row``, ``rank``, ``row``, ``id`` (if there are ids) and
        ``similarity`` of `SimilarObjects.find`.

    Raises
    ------
    ValueError
        An object does not exist, embeddings are not finite, or the arguments do not fit together.
    ImportError
        An index is needed, and pynndescent is not installed.

    See Also
    --------
    SimilarDisplay : Draws the stamps.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> E = rng.normal(size=(60, 8)) + 6 * (np.arange(60) % 3 == 0)[:, None]
    >>> find_similar(E, [3, 5], k=2)["query"].tolist()
    [3, 3, 5, 5]
    >>> similar = find_similar(E, 3, k=4)
    >>> similar.columns.tolist()
    ['query', 'query_row', 'rank', 'row', 'similarity']
    >>> similar["row"].mod(3).tolist()
    [0, 0, 0, 0]
    """
    m = np.size(query) if np.ndim(getattr(query, "values", query)) < 2 else len(query)
    objects = SimilarObjects(
        embeddings, properties, ids=ids, exact=True if m <= _MAX_EXACT_QUERIES else "auto"
    )
    return objects.find(query, k, properties=query_properties)


def _check_embeddings(values: Any, name: str) -> NDArray[np.float32]:
    """Return finite embeddings of at least one row as float32."""
    return np.asarray(check_array(plain_rows(values, name), dtype=np.float32, input_name=name))


def _measure_block(
    values: NDArray[Any],
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return what columns are reduced by, and divided by: constant columns by infinity.

    Afterwards the mean square length of the rows is 1.
    """
    with np.errstate(invalid="ignore"):  # of columns without any value
        scaler = StandardScaler().fit(values)  # NaN are ignored
    center, spread = np.nan_to_num(scaler.mean_), np.sqrt(scaler.var_)
    varies = spread > _MIN_SPREAD * np.abs(center)
    return center, np.where(varies, spread * np.sqrt(max(varies.sum(), 1)), np.inf)
