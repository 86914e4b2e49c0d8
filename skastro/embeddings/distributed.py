"""Embed a survey on many processes or machines, by Dask; the only home of dask.

Workers read their stamps and write their rows themselves: what passes through the scheduler is a
few numbers for each chunk, however large the survey.
"""

from __future__ import annotations

import copy
import logging
import multiprocessing
import os
import shutil
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from rich.console import Console
from rich.progress import Progress as Bars
from sklearn.utils.validation import check_is_fitted

from skastro.embeddings.files import Embeddings
from skastro.embeddings.stores import STORES, Store
from skastro.estimators.encoder import PropertyPretrainedEncoder
from skastro.networks.device import resolve_device, uses_bfloat16
from skastro.stamps.arrays import check_images, read_stamps, sample_pixels
from skastro.stamps.opening import open_stamps
from skastro.stamps.stack import Stamps
from skastro.utils.files import digest_arrays, writing
from skastro.utils.packages import import_optional
from skastro.utils.progress import Progress

_CHUNK = 4096  # stamps
_IN_FLIGHT = 2  # chunks for each thread of the cluster: one computes, one waits
_TRIES = 4  # of a chunk whose stamps or worker got lost; Dask's own number for a worker's deaths


@dataclass(frozen=True)
class EmbeddedSurvey:
    """Where the embeddings of a survey are, and how fast they came.

    Parameters
    ----------
    path : Path
        The Zarr store or the folder of Parquet files.
    n : int
        Number of objects.
    n_features : int
        Numbers of an embedding.
    n_resumed : int
        Objects that an earlier, interrupted call had embedded.
    seconds : float
        What this call took, the start of the workers not counted.

    Examples
    --------
    >>> EmbeddedSurvey(Path("e.zarr"), n=5000, n_features=256, n_resumed=1000, seconds=2.0).rate
    2000.0
    """

    path: Path
    n: int
    n_features: int
    n_resumed: int
    seconds: float

    @property
    def rate(self) -> float:
        """Objects embedded by this call, in a second; NaN if none were left to embed."""
        n = self.n - self.n_resumed
        return n / self.seconds if n else float("nan")

    def read(self) -> Embeddings:
        """Read all embeddings and their ids into memory.

        Returns
        -------
        embeddings : Embeddings
        """
        store: Store = STORES[self.path.suffix](self.path, _CHUNK)
        values, ids = store.read()
        return Embeddings(values, ids)


def embed_survey(
    encoder: PropertyPretrainedEncoder | str | os.PathLike[str],
    stamps: Any,
    out: str | os.PathLike[str],
    *,
    ids: ArrayLike | None = None,
    predict: bool = False,
    client: Any = None,
    n_workers: int | None = None,
    chunk: int = _CHUNK,
    overwrite: bool = False,
    progress: bool | Progress = True,
) -> EmbeddedSurvey:
    """Embed stamps on the workers of a Dask cluster, chunk by chunk, into files.

    Each object is written exactly once, in the order of the stamps. The memory needed does not
    grow with their number. What is written has a name that ends in ``.partial`` until it is
    complete; the same call after an interruption goes on with the chunks that are not there. A
    worker may die: its chunk is embedded by another.

    Parameters
    ----------
    encoder : PropertyPretrainedEncoder or path
        Fitted, or the file of a saved one.
    stamps : path, Stamps or array-like of shape (n, bands, height, width)
        Workers open paths and `Stamps` themselves, and have to see the same files. Of an array
        they are sent a chunk at a time.
    out : path
        A Zarr store (``.zarr``) with the arrays ``embeddings`` (n, d), float32, and ``ids``
        (n,); or a folder of Parquet files (``.parquet``), one for each chunk, with the columns
        ``id``, ``e0``, ``e1`` ... Workers have to see its folder, which must exist.
    ids : array-like of shape (n,), default=None
        Integers or text. None takes ``stamps.ids``, or row numbers where there are none.
    predict : bool, default=False
        Write the predicted properties too, in catalogue units: to the array ``properties``
        (n, p), float32, with ``property_names`` and ``property_units`` among the attributes of
        the store; or to columns of their names.
    client : dask.distributed.Client, default=None
        Of the cluster to use. None starts a process for each core, with one thread each, and
        ends them at the end; a script then needs ``if __name__ == "__main__":``.
    n_workers : int, default=None
        Processes to start without a ``client``; None: one for each core.
    chunk : int, default=4096
        Stamps of a task and rows of a file. Large surveys want larger ones, for less files.
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
        The stamps do not fit the encoder, a stamp cannot be used (the row is named), ``out`` has
        another ending or holds the embeddings of another call (the difference is named).
    FileExistsError
        ``out`` is there, and was not written by this function.
    OSError
        The stamps cannot be read, or the folder cannot be written to.
    RuntimeError
        Workers died again and again.

    Notes
    -----
    The embeddings are those of ``encoder.transform`` on one thread, bit for bit if ``chunk`` is
    a multiple of the encoder's batch size and the machines are of one kind; else to rounding.

    Examples
    --------
    >>> import tempfile
    >>> import zarr
    >>> from dask.distributed import Client
    >>> stamps = np.random.default_rng(0).normal(size=(40, 3, 8, 8)).astype(np.float32)
    >>> encoder = PropertyPretrainedEncoder("stamp_resnet10", max_epochs=1, random_state=0)
    >>> encoder = encoder.fit(stamps, properties=stamps.mean((2, 3)))
    >>> client = Client(processes=False, dashboard_address=None)
    >>> with client, tempfile.TemporaryDirectory() as folder:
    ...     done = embed_survey(encoder, stamps, f"{folder}/e.zarr", client=client, chunk=16)
    ...     store = zarr.open_group(done.path, mode="r")  # done.read() reads it whole
    ...     print(done.n, store["embeddings"].shape, store["ids"][-3:])
    40 (40, 256) [37 38 39]
    """
    target = Path(out).expanduser().absolute()
    if target.suffix not in STORES:
        raise ValueError(f"{out} must end in .zarr or .parquet: name it so.")
    if not target.parent.is_dir():
        raise FileNotFoundError(f"the folder {target.parent} does not exist: create it first.")
    if chunk < 1:
        raise ValueError(f"chunk={chunk} must be at least 1.")
    encoder = _fitted(encoder)
    opened = open_stamps(stamps) if isinstance(stamps, (str, os.PathLike)) else stamps
    images = check_images(encoder, opened, reset=False)
    encoder = _settled(encoder, images)
    names = _checked_ids(getattr(images, "ids", None) if ids is None else ids, len(images))
    job = _describe(encoder, images, names, chunk=chunk, predict=predict)
    n_features = len(encoder.embedding_mean_)
    store: Store = STORES[target.suffix](target.with_name(f"{target.name}.partial"), chunk)
    if _is_complete(STORES[target.suffix](target, chunk), job, overwrite=overwrite):
        return EmbeddedSurvey(target, len(images), n_features, len(images), 0.0)
    with writing(target):
        done = _begin(store, job, encoder, names, overwrite=overwrite)
    task = _Task(store, encoder, images if isinstance(images, Stamps) else None, predict=predict)
    with _cluster(client, n_workers) as workers, _told(progress, len(images)) as tell:
        start = time.perf_counter()
        n_resumed = _Run(workers, task, images, names, done).embed(tell)
        seconds = time.perf_counter() - start
    with writing(target):
        store.finish()
        if target.exists():
            shutil.rmtree(target)
        store.path.rename(target)
    return EmbeddedSurvey(target, len(images), n_features, n_resumed, seconds)


def _fitted(encoder: Any) -> PropertyPretrainedEncoder:
    if isinstance(encoder, (str, os.PathLike)):
        return PropertyPretrainedEncoder.load(encoder)
    if not isinstance(encoder, PropertyPretrainedEncoder):
        raise TypeError(
            f"encoder is a {type(encoder).__name__}: pass a fitted PropertyPretrainedEncoder, or "
            "the path of a saved one."
        )
    check_is_fitted(encoder)
    return encoder


def _settled(encoder: PropertyPretrainedEncoder, images: Any) -> PropertyPretrainedEncoder:
    """Decide on the precision here: machines of several kinds could decide otherwise."""
    bfloat16 = uses_bfloat16(
        encoder.precision,
        encoder.network_,
        resolve_device(encoder.device),
        image_shape=tuple(images.shape[1:]),
        training=False,
    )
    return copy.copy(encoder).set_params(precision="bfloat16" if bfloat16 else "float32")


def _checked_ids(ids: Any, n: int) -> NDArray[Any] | None:
    """Return ids as integers or text; None for row numbers."""
    if ids is None:
        return None
    values = np.asarray(ids)
    if values.shape != (n,):
        raise ValueError(f"ids has shape {values.shape}, but there are {n} stamps: pass one each.")
    return values if values.dtype.kind in "iu" else values.astype(str)


def _describe(
    encoder: PropertyPretrainedEncoder,
    images: Any,
    ids: NDArray[Any] | None,
    *,
    chunk: int,
    predict: bool,
) -> dict[str, Any]:
    """Return what the files depend on, as JSON holds it."""
    weights = [part.detach().cpu().numpy() for part in encoder.network_.state_dict().values()]
    return {
        "encoder": digest_arrays(*weights, encoder.embedding_mean_, encoder.embedding_scale_),
        "average_views": bool(encoder.average_views),
        "precision": encoder.precision,
        "n": len(images),
        "stamps": f"{np.dtype(images.dtype)} {sample_pixels(images)}",
        "ids": "row numbers" if ids is None else digest_arrays(ids),
        "chunk": int(chunk),
        "predict": bool(predict),
    }


def _difference(job: Mapping[str, Any], other: Mapping[str, Any]) -> str | None:
    """Say in what another call's files differ from what this one would write."""
    for name, value in job.items():
        if other.get(name) == value:
            continue
        if name in ("encoder", "stamps", "ids"):
            return f"with other {name}" if name != "encoder" else "by another encoder"
        return f"with {name}={other.get(name)!r}, and this call has {value!r}"
    return None


def _is_complete(store: Store, job: dict[str, Any], *, overwrite: bool) -> bool:
    """Tell whether all is there already; refuse what is not ours, or of another call."""
    if not store.path.exists():
        return False
    earlier = store.manifest()
    if earlier is None:
        raise FileExistsError(
            f"{store.path} is there already, and embed_survey did not write it: name another out."
        )
    other = _difference(job, earlier)
    if other is None:
        return True
    if not overwrite:
        raise ValueError(
            f"{store.path} was written {other}: name another out, or pass overwrite=True."
        )
    return False


def _begin(
    store: Store,
    job: dict[str, Any],
    encoder: PropertyPretrainedEncoder,
    ids: NDArray[Any] | None,
    *,
    overwrite: bool,
) -> set[int]:
    """Return the chunks that an earlier call has written; make the store if there is none."""
    earlier = store.manifest() if store.path.exists() else None
    if earlier is not None and (other := _difference(job, earlier)):
        if not overwrite:
            raise ValueError(
                f"{store.path} was begun {other}: name another out, delete it, or pass "
                "overwrite=True."
            )
        earlier = None
    if earlier is not None:
        return store.done()
    if store.path.exists():
        shutil.rmtree(store.path)
    store.create(job, encoder, "int64" if ids is None else ids.dtype)
    return set()


def _dask() -> Any:
    return import_optional("dask.distributed", extra="distributed", needed_by="embed_survey")


@dataclass(frozen=True)
class _Task:
    """What each worker is given once: all that the chunks have in common."""

    store: Store
    encoder: PropertyPretrainedEncoder
    stamps: Stamps | None  # None: arrays come with the chunks
    predict: bool

    def embed(self, number: int, ids: NDArray[Any], stamps: Any) -> None:
        """Embed and write a chunk, on one thread: Dask has as many as the machine."""
        first = number * self.store.chunk
        if stamps is None:
            stamps = self.stamps[first : first + len(ids)]  # type: ignore[index]
        threads = torch.get_num_threads()
        torch.set_num_threads(1)
        try:
            values = np.asarray(self.encoder.transform(stamps))
            table = self.encoder.predict_embedded(values) if self.predict else None
        except ValueError:
            read_stamps(stamps, slice(None), first_row=first)  # names the row of the survey
            raise
        finally:
            torch.set_num_threads(threads)
        self.store.write(number, ids, values, table)


def _embed_chunk(run: str, number: int, ids: NDArray[Any], stamps: Any) -> int:
    """Do a chunk on a worker, where the plugin of the run has brought the task."""
    _dask().get_worker().plugins[run].task.embed(number, ids, stamps)
    return number


class _Run:
    """The chunks on their way through a cluster, a bounded number at a time."""

    def __init__(
        self, client: Any, task: _Task, images: Any, ids: NDArray[Any] | None, done: set[int]
    ) -> None:
        self.client = client
        self.task = task
        self.images = images
        self.ids = ids
        self.done = done
        self.chunk = task.store.chunk
        self.tries: dict[int, int] = {}
        self.flying: dict[Any, tuple[Any, int]] = {}

    def embed(self, tell: Any) -> int:
        """Embed all chunks that are not done; return the number of objects that were."""
        n_chunks = -(-len(self.images) // self.chunk)
        n_resumed = n_done = sum(self._size(number) for number in self.done)
        tell(n_done)
        waiting = (number for number in range(n_chunks) if number not in self.done)
        dask = _dask()
        plugin = type("SurveyPlugin", (dask.WorkerPlugin,), {})()
        plugin.task = self.task  # Dask brings it to workers that come later, too
        name = f"skastro-{os.getpid()}-{id(self)}"
        self.client.register_plugin(plugin, name=name)
        completed = dask.as_completed(loop=self.client.loop)
        try:
            self._launch(name, waiting, completed)
            for future in completed:
                _, number = self.flying.pop(future.key)
                if self._is_lost(future, number):
                    self._submit(name, number, completed)
                    continue
                n_done += self._size(number)
                tell(n_done)
                self._launch(name, waiting, completed)
        finally:
            self.client.cancel([future for future, _ in self.flying.values()])
            self.client.unregister_worker_plugin(name)
        self._check_files(n_chunks)
        return n_resumed

    def _size(self, number: int) -> int:
        return min(self.chunk, len(self.images) - number * self.chunk)

    def _launch(self, name: str, waiting: Iterator[int], completed: Any) -> None:
        most = _IN_FLIGHT * max(1, sum(self.client.nthreads().values()))
        while len(self.flying) < most and (number := next(waiting, None)) is not None:
            self._submit(name, number, completed)

    def _submit(self, name: str, number: int, completed: Any) -> None:
        self.tries[number] = self.tries.get(number, 0) + 1
        first = number * self.chunk
        rows = slice(first, first + self._size(number))
        ids = np.arange(rows.start, rows.stop) if self.ids is None else self.ids[rows]
        stamps = None
        if self.task.stamps is None:
            stamps = self._send(np.asarray(self.images[rows]))
        future = self.client.submit(_embed_chunk, name, number, ids, stamps, pure=False)
        self.flying[future.key] = future, number
        completed.add(future)

    def _send(self, stamps: NDArray[Any]) -> Any:
        for _ in range(_TRIES - 1):
            try:
                return self.client.scatter(stamps, hash=False)
            except OSError:  # the worker has just died, and the scheduler does not know yet
                time.sleep(1)
        return self.client.scatter(stamps, hash=False)

    def _is_lost(self, future: Any, number: int) -> bool:
        """Whether a chunk has to be sent again; its other errors are raised."""
        first, last = number * self.chunk, number * self.chunk + self._size(number) - 1
        lost = future.status in ("cancelled", "lost")
        if lost and self.tries[number] < _TRIES:
            return True
        problem = None if lost else future.exception()
        if lost or isinstance(problem, _dask().KilledWorker):
            raise RuntimeError(
                f"workers died {_TRIES} times over the rows {first} to {last}: give them more "
                "memory, or pass a smaller chunk; the same call goes on from there."
            )
        if problem is not None:
            raise problem
        self.tries.pop(number)
        return False

    def _check_files(self, n_chunks: int) -> None:
        absent = set(range(n_chunks)) - self.task.store.done()
        if absent:
            raise OSError(
                f"{self.task.store.path} lacks {len(absent)} chunks that workers have written: "
                "name an out that all machines see as the same folder."
            )


@contextmanager
def _cluster(client: Any, n_workers: int | None) -> Iterator[Any]:
    """Give the client, or that of processes of our own with one thread each."""
    if client is not None:
        yield client
        return
    if getattr(multiprocessing.current_process(), "_inheriting", False):
        raise RuntimeError(
            "embed_survey starts processes that import this script again: put what it does under "
            "if __name__ == '__main__':"
        )
    dask = _dask()
    if n_workers is None:
        system = import_optional("dask.system", extra="distributed", needed_by="embed_survey")
        n_workers = system.CPU_COUNT
    with (
        _local_cluster(dask, n_workers) as cluster,
        dask.Client(cluster, set_as_default=False) as own,
    ):
        yield own


def _local_cluster(dask: Any, n_workers: int) -> Any:
    try:
        return dask.LocalCluster(
            n_workers=n_workers,
            threads_per_worker=1,
            silence_logs=logging.ERROR,
            memory_limit=0,  # chunks bound it, and what malloc keeps would count against it
            dashboard_address="127.0.0.1:0",
            scheduler_kwargs={"dashboard": False},  # nobody looks at it, and it costs seconds
        )
    except RuntimeError as error:
        raise RuntimeError(
            "the worker processes did not start, for the reason they have printed: a script has "
            "to call embed_survey under if __name__ == '__main__':"
        ) from error


@contextmanager
def _told(progress: bool | Progress, n: int) -> Iterator[Any]:
    """Give a function of the number of objects that are done, which shows it."""
    if callable(progress):
        yield lambda done: progress("embedding", done, n)
        return
    console = Console(stderr=True)
    hidden = not progress or not console.is_terminal
    with Bars(console=console, transient=True, disable=hidden) as bars:
        bar = bars.add_task("embedding", total=n)
        yield lambda done: bars.update(bar, completed=done)
