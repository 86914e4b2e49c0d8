"""Embed a survey chunk by chunk, in this process or by the workers of a Dask cluster.

Each chunk is a separate file. Completed chunks are detected from the files present: the same call
after an interruption computes only the missing ones. Workers open the stamps and write the files
themselves.
"""

from __future__ import annotations

import copy
import logging
import multiprocessing
import os
import shutil
import time
import warnings
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from joblib import cpu_count
from numpy.typing import ArrayLike, NDArray
from rich.console import Console
from rich.progress import Progress as Bars
from sklearn.utils.validation import check_is_fitted

from skastro.embeddings.files import Embeddings
from skastro.embeddings.stores import STORES, EmbeddingStore
from skastro.estimators.encoder import PropertyPretrainedEncoder
from skastro.networks.device import resolve_device, uses_bfloat16
from skastro.stamps.arrays import check_images, read_stamps, sample_pixels
from skastro.stamps.opening import open_stamps
from skastro.stamps.stack import Stamps
from skastro.utils.files import check_ending, digest_arrays, writing
from skastro.utils.packages import import_optional
from skastro.utils.progress import Progress, report_to, reporting

_CHUNK_ROWS = 4096
_CHUNKS_PER_THREAD = 2  # sent to a cluster: one is computed, one waits


@dataclass(frozen=True, repr=False)
class EmbeddedSurvey:
    """Where the embeddings of a survey are, and how fast they were computed.

    Parameters
    ----------
    path : Path
        The Zarr store or the folder of files.
    n : int
        Number of objects.
    n_features : int
        Number of columns of the embedding.
    n_resumed : int
        Number of objects that an earlier, interrupted call had embedded.
    seconds : float
        Duration of this call, without the start of the workers.

    Examples
    --------
    >>> EmbeddedSurvey(Path("e.zarr"), n=5000, n_features=256, n_resumed=1000, seconds=2.0)
    EmbeddedSurvey of 5,000 objects in 256 columns: e.zarr (2,000 objects per second)
    """

    path: Path
    n: int
    n_features: int
    n_resumed: int
    seconds: float

    @property
    def rate(self) -> float:
        """Objects per second that this call embedded; NaN if none were left to embed."""
        n = self.n - self.n_resumed
        return n / self.seconds if n else float("nan")

    def __repr__(self) -> str:
        rate = "nothing was left to embed"
        if self.n > self.n_resumed:
            rate = f"{self.rate:,.0f} objects per second"
        return (
            f"EmbeddedSurvey of {self.n:,} objects in {self.n_features} columns: {self.path} "
            f"({rate})"
        )

    def read(self) -> Embeddings:
        """Read all embeddings and their ids into memory.

        Returns
        -------
        embeddings : Embeddings
        """
        return Embeddings(*STORES[self.path.suffix.lower()](self.path, _CHUNK_ROWS).read())


def embed_survey(
    encoder: PropertyPretrainedEncoder | str | os.PathLike[str],
    stamps: Any,
    out: str | os.PathLike[str],
    *,
    ids: ArrayLike | None = None,
    predict: bool = False,
    client: Any = None,
    n_workers: int | None = None,
    chunk: int = _CHUNK_ROWS,
    overwrite: bool = False,
    progress: bool | Progress = True,
) -> EmbeddedSurvey:
    """Embed stamps chunk by chunk into files, in this process or on a Dask cluster.

    Each object is written exactly once, in the order of the stamps. The memory needed does not
    grow with their number. Unfinished output has a name that ends in ``.partial``; the same call
    after an interruption computes only the missing chunks. If a worker dies, another one embeds
    its chunk.

    Parameters
    ----------
    encoder : PropertyPretrainedEncoder or path
        A fitted encoder, or the file of a saved one.
    stamps : path, Stamps or array-like of shape (n, bands, height, width)
        Workers open paths and `Stamps` themselves, and have to see the same files. Arrays are
        sent to them one chunk at a time.
    out : path
        A Zarr store (``.zarr``) with the arrays ``embeddings`` (n, d), float32, and ``ids``
        (n,); a folder of Parquet files (``.parquet``), one for each chunk, with the columns
        ``id``, ``e0``, ``e1`` ...; or a folder of NumPy files (``.chunks``) with the arrays
        ``ids`` and ``embeddings``, which needs no further package. Its parent folder must exist.
    ids : array-like of shape (n,), default=None
        Names of the objects, integers or text. Without them ``stamps.ids`` are used, or row
        numbers if the stamps have no ids.
    predict : bool, default=False
        Write the predicted properties too, float32, in catalogue units: an array ``properties``
        (n, p), with ``property_names`` and ``property_units`` among the attributes of the Zarr
        store or in ``_skastro.json``; or Parquet columns with their names.
    client : dask.distributed.Client, default=None
        Client of the Dask cluster to use.
    n_workers : int, default=None
        Number of worker processes to start if no ``client`` is given, each with one thread; -1
        starts one for each core. They end with the call. A script that starts workers needs
        ``if __name__ == "__main__":``. None embeds in this process, without Dask.
    chunk : int, default=4096
        Number of stamps in a task, and of rows in a file. Large surveys need larger chunks, to
        have fewer files.
    overwrite : bool, default=False
        Replace the embeddings of another encoder or of other stamps.
    progress : bool or callable, default=True
        True shows a progress bar if the standard error is a terminal; a callable is called as
        ``progress("embedding", done, n)``.

    Returns
    -------
    result : EmbeddedSurvey

    Raises
    ------
    ValueError
        The stamps do not fit the encoder, a stamp cannot be used (the message names its row),
        or ``out`` has another ending or was written by another call (the message names the
        difference).
    FileExistsError
        ``out`` exists, and was not written by this function.
    OSError
        The stamps cannot be read, or the folder cannot be written to.
    RuntimeError
        Workers died repeatedly.

    Notes
    -----
    The embeddings are those of ``encoder.transform``: bit for bit on machines of one kind if
    ``chunk`` is a multiple of the encoder's batch size, otherwise up to rounding.

    Examples
    --------
    >>> import tempfile
    >>> stamps = np.random.default_rng(0).normal(size=(40, 3, 8, 8)).astype(np.float32)
    >>> encoder = PropertyPretrainedEncoder("stamp_resnet10", max_epochs=1, random_state=0)
    >>> encoder = encoder.fit(stamps, properties=stamps.mean((2, 3)))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     result = embed_survey(encoder, stamps, f"{folder}/e.chunks", chunk=16)
    ...     embeddings = result.read()
    >>> result.n, embeddings.values.shape, embeddings.ids[-3:]
    (40, (40, 256), array([37, 38, 39]))
    """
    target = Path(out).expanduser().absolute()
    make_store = STORES[check_ending(target, tuple(STORES))]
    if not target.parent.is_dir():
        raise FileNotFoundError(f"the folder {target.parent} does not exist: create it first.")
    if chunk < 1:
        raise ValueError(f"chunk={chunk} must be at least 1.")
    if n_workers is not None and n_workers < 1 and n_workers != -1:
        raise ValueError(f"n_workers={n_workers} must be at least 1, or -1 for all cores.")
    encoder, images = _check_inputs(encoder, stamps)
    names = _check_ids(getattr(images, "ids", None) if ids is None else ids, len(images))
    manifest = _describe_call(encoder, images, names, chunk=chunk, predict=predict)

    # compare with the output of earlier calls
    n, n_features = len(images), len(encoder.embedding_mean_)
    complete = make_store(target, chunk)
    if target.exists() and complete.manifest() is None:
        raise FileExistsError(
            f"{target} is there already, and embed_survey did not write it: name another out."
        )
    if _belongs_to(complete, manifest, "written", overwrite=overwrite):
        return EmbeddedSurvey(target, n, n_features, n, 0.0)
    store = make_store(target.with_name(f"{target.name}.partial"), chunk)
    with writing(target):
        if not _belongs_to(store, manifest, "begun", overwrite=overwrite):
            if store.path.exists():
                shutil.rmtree(store.path)
            store.create(manifest, encoder, np.asarray(names[:1]).dtype)

    # embed the missing chunks
    job = _Job(store, encoder, images, names, n, predict=predict)
    missing = job.missing()
    with _shown(progress):
        seconds = _embed(job, missing, client, n_workers)

    # give the complete output its name
    with writing(target):
        store.remove_leftovers()
        if target.exists():
            shutil.rmtree(target)
        store.path.rename(target)
    return EmbeddedSurvey(target, n, n_features, n - job.count_rows(missing), seconds)


def _check_inputs(encoder: Any, stamps: Any) -> tuple[PropertyPretrainedEncoder, Any]:
    """Return a fitted encoder whose precision is settled, and checked stamps."""
    if isinstance(encoder, (str, os.PathLike)):
        encoder = PropertyPretrainedEncoder.load(encoder)
    if not isinstance(encoder, PropertyPretrainedEncoder):
        raise TypeError(
            f"encoder is a {type(encoder).__name__}: pass a fitted PropertyPretrainedEncoder, or "
            "the path of a saved one."
        )
    check_is_fitted(encoder)
    opened = open_stamps(stamps) if isinstance(stamps, (str, os.PathLike)) else stamps
    images = check_images(encoder, opened, reset=False)
    # precision="auto" is decided here: machines of other kinds might decide otherwise
    device, shape = resolve_device(encoder.device), tuple(images.shape[1:])
    bfloat16 = uses_bfloat16(
        encoder.precision, encoder.network_, device, image_shape=shape, training=False
    )
    precision = "bfloat16" if bfloat16 else "float32"
    return copy.copy(encoder).set_params(precision=precision), images


def _check_ids(ids: Any, n: int) -> NDArray[Any] | range:
    """Return ids as integers or text; a range of row numbers, which needs no memory, for None."""
    if ids is None:
        return range(n)
    values = np.asarray(ids)
    if values.shape != (n,):
        raise ValueError(f"ids has shape {values.shape}, but there are {n} stamps: pass one each.")
    return values if values.dtype.kind in "iu" else values.astype(str)


def digest_encoder(encoder: PropertyPretrainedEncoder) -> str:
    """Return a fingerprint of the weights of a fitted encoder."""
    weights = [part.detach().cpu().numpy() for part in encoder.network_.state_dict().values()]
    return digest_arrays(*weights, encoder.embedding_mean_, encoder.embedding_scale_)


def _describe_call(
    encoder: PropertyPretrainedEncoder, images: Any, ids: Any, *, chunk: int, predict: bool
) -> dict[str, Any]:
    """Return the manifest: what the files depend on, as values for JSON."""
    return {
        "encoder": digest_encoder(encoder),
        "average_views": bool(encoder.average_views),
        "precision": encoder.precision,
        "n": len(images),
        "stamps": f"{np.dtype(images.dtype)} {sample_pixels(images)}",
        "ids": "row numbers" if isinstance(ids, range) else digest_arrays(ids),
        "chunk": int(chunk),
        "predict": bool(predict),
    }


def _belongs_to(
    store: EmbeddingStore, manifest: Mapping[str, Any], verb: str, *, overwrite: bool
) -> bool:
    """Return whether the same call made a store; refuse a store of another call."""
    earlier = store.manifest()
    if earlier is None:
        return False
    differing = next((name for name in manifest if earlier.get(name) != manifest[name]), None)
    if differing is None or overwrite:
        return differing is None
    text = {"encoder": "by another encoder", "stamps": "with other stamps", "ids": "with other ids"}
    values = f"{earlier.get(differing)!r}, and this call has {manifest[differing]!r}"
    difference = text.get(differing, f"with {differing}={values}")
    raise ValueError(
        f"{store.path} was {verb} {difference}: name another out, or pass overwrite=True."
    )


@dataclass(frozen=True)
class _Job:
    """The survey to embed, and how to embed one chunk of it."""

    store: EmbeddingStore
    encoder: PropertyPretrainedEncoder
    images: Any
    ids: NDArray[Any] | range
    n: int
    predict: bool

    def rows(self, number: int) -> slice:
        """Return the rows of a chunk."""
        first = number * self.store.chunk
        return slice(first, min(first + self.store.chunk, self.n))

    def count_rows(self, numbers: Collection[int]) -> int:
        """Return how many rows some chunks have."""
        return sum(self.rows(number).stop - self.rows(number).start for number in numbers)

    def missing(self) -> list[int]:
        """Return the chunks that are still to be embedded."""
        completed = self.store.completed()
        return [i for i in range(-(-self.n // self.store.chunk)) if i not in completed]

    def embed(self, number: int, ids: Any, stamps: Any) -> None:
        """Embed and write a chunk."""
        try:
            values = np.asarray(self.encoder.transform(stamps))
            properties = self.encoder.predict_embedded(values) if self.predict else None
        except ValueError:
            # raise the error for the row of the survey, not for that of the chunk
            read_stamps(stamps, slice(None), first_row=number * self.store.chunk)
            raise
        with writing(self.store.path):
            self.store.write(number, np.asarray(ids), values, properties)


def _embed(job: _Job, missing: list[int], client: Any, n_workers: int | None) -> float:
    """Embed chunks, here or on a cluster; return the seconds without the start of workers."""
    with _cluster(client, n_workers) as workers:
        start = time.perf_counter()
        try:
            if workers is None:
                _embed_here(job, missing)
            else:
                _embed_on_cluster(job, missing, workers)
        except KeyboardInterrupt as stop:
            done = job.n - job.count_rows(job.missing())
            raise KeyboardInterrupt(
                f"{done:,} of {job.n:,} stamps are embedded; run it again to go on from there."
            ) from stop
        return time.perf_counter() - start


def _embed_here(job: _Job, missing: list[int]) -> None:
    """Embed chunks in this process, and report the progress inside a chunk too."""
    report = report_to("embedding", job.n)
    done = job.n - job.count_rows(missing)
    report(done)

    def report_chunk(stage: str, rows: int, _: int | None) -> None:
        if stage == "embedding":
            report(done + rows)

    for number in missing:
        rows = job.rows(number)
        with reporting(report_chunk):
            job.embed(number, job.ids[rows], job.images[rows])
        done += rows.stop - rows.start
        report(done)


def _dask() -> Any:
    return import_optional(
        "dask.distributed", extra="distributed", needed_by="embed_survey with workers"
    )


def _embed_on_cluster(job: _Job, missing: list[int], client: Any) -> None:
    """Embed chunks by workers, a bounded number of chunks at a time."""
    dask = _dask()
    report = report_to("embedding", job.n)
    n_done = job.n - job.count_rows(missing)
    report(n_done)
    # Dask gives a plugin to all workers, also to those that come later
    plugin = type("SurveyPlugin", (dask.WorkerPlugin,), {})()
    images = job.images if isinstance(job.images, Stamps) else None
    plugin.job = replace(job, images=images, ids=range(0))
    name = f"skastro-{os.getpid()}-{id(job)}"
    client.register_plugin(plugin, name=name)
    # keep all workers busy, and send the next chunk when one is complete
    waiting = iter(missing)
    in_flight: dict[Any, int] = {}  # chunks, by their futures
    completed = dask.as_completed(loop=client.loop)
    try:
        while True:
            limit = _CHUNKS_PER_THREAD * max(1, sum(client.nthreads().values()))
            for number in islice(waiting, max(0, limit - len(in_flight))):
                future = _submit(job, client, name, number)
                in_flight[future] = number
                completed.add(future)
            if not in_flight:
                break
            future = next(completed)
            rows = job.rows(in_flight.pop(future))
            try:
                future.result()
            except dask.KilledWorker as error:
                raise RuntimeError(
                    f"workers died repeatedly at rows {rows.start} to {rows.stop - 1}: give them "
                    "more memory, or pass a smaller chunk; the same call resumes there."
                ) from error
            n_done += rows.stop - rows.start
            report(n_done)
    finally:
        client.cancel(list(in_flight))
        client.unregister_worker_plugin(name)
    if lost := job.missing():
        raise OSError(
            f"{job.store.path} lacks {len(lost)} chunks that workers have written: name an out "
            "that all machines see as the same folder."
        )


def _submit(job: _Job, client: Any, plugin: str, number: int) -> Any:
    """Send a chunk to the cluster, with its pixels if they are in memory here."""
    rows = job.rows(number)
    pixels = None if isinstance(job.images, Stamps) else np.asarray(job.images[rows])
    with warnings.catch_warnings():
        # pixels are sent with the task: if a worker dies, the scheduler still has them
        warnings.filterwarnings("ignore", "Sending large graph")
        return client.submit(_embed_on_worker, plugin, number, job.ids[rows], pixels, pure=False)


def _embed_on_worker(plugin: str, number: int, ids: Any, pixels: Any) -> None:
    """Embed a chunk on a worker, on one thread: Dask has as many threads as there are cores."""
    job: _Job = _dask().get_worker().plugins[plugin].job
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        job.embed(number, ids, job.images[job.rows(number)] if pixels is None else pixels)
    finally:
        torch.set_num_threads(threads)


@contextmanager
def _cluster(client: Any, n_workers: int | None) -> Iterator[Any]:
    """Yield the client of a cluster, which is started if necessary; None without workers."""
    if client is not None or n_workers is None:
        yield client
        return
    if getattr(multiprocessing.current_process(), "_inheriting", False):
        raise RuntimeError(
            "embed_survey starts processes that import this script again: put what it does under "
            "if __name__ == '__main__':"
        )
    dask = _dask()
    cluster = dask.LocalCluster(
        n_workers=cpu_count() if n_workers == -1 else n_workers,
        threads_per_worker=1,
        silence_logs=logging.ERROR,
        memory_limit=0,  # chunks bound it; freed memory that malloc keeps would count against it
        dashboard_address="127.0.0.1:0",
        scheduler_kwargs={"dashboard": False},  # it would cost seconds
    )
    with cluster, dask.Client(cluster, set_as_default=False) as started:
        yield started


@contextmanager
def _shown(progress: bool | Progress) -> Iterator[None]:
    """Report progress by a bar or a function; with neither, the caller's `reporting` remains."""
    console = Console(stderr=True)
    if callable(progress):
        with reporting(progress):
            yield
    elif progress and console.is_terminal:
        with Bars(console=console, transient=True) as bars:
            bar = bars.add_task("embedding")
            with reporting(lambda _, done, total: bars.update(bar, completed=done, total=total)):
                yield
    else:
        yield
