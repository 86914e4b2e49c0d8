"""Embed stamps chunk by chunk into a file."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skastro.estimators.encoder import PropertyPretrainedEncoder
from skastro.utils.files import write_atomically, writing
from skastro.utils.progress import Progress

_CHUNK = 1024  # stamps that are embedded between two looks at the disk


def embed_into(
    partial: Path,
    encoder: PropertyPretrainedEncoder,
    images: Any,
    *,
    made_of: str,
    progress: Progress,
    workers: int | None = None,
) -> NDArray[np.float32]:
    """Embed stamps chunk by chunk into a file that the same call continues after an interruption.

    Parameters
    ----------
    partial : Path
        Holds a line of JSON and the rows that are done, float32.
    encoder : PropertyPretrainedEncoder
    images : array-like of shape (n, bands, height, width)
    made_of : str
        What the rows depend on; a file of something else is begun anew.
    progress : callable
    workers : int, default=None
        Processes to embed what is not there yet; None: this one.

    Returns
    -------
    embeddings : float32 array of shape (n, d)

    Raises
    ------
    KeyboardInterrupt
        It says how far it got.
    """
    n, width = len(images), len(encoder.embedding_mean_)
    head = json.dumps({"of": made_of, "n": n, "columns": width}).encode() + b"\n"
    done = _rows_done(partial, head, width)
    progress("embedding", done, n)
    if workers is not None and done < n:
        _embed_by_workers(partial, head, encoder, images, workers, progress)
        done = n
    try:
        with writing(partial):
            if not done:
                partial.write_bytes(head)
            with partial.open("r+b") as file:
                file.truncate(len(head) + done * width * 4)
                file.seek(0, 2)
                while done < n:
                    rows = np.asarray(encoder.transform(images[done : done + _CHUNK]))
                    file.write(rows.astype("<f4").tobytes())
                    file.flush()
                    done += len(rows)
                    progress("embedding", done, n)
    except KeyboardInterrupt as stop:
        raise KeyboardInterrupt(
            f"{done:,} of {n:,} stamps are embedded; the same command goes on from there."
        ) from stop
    rows = np.fromfile(partial, dtype="<f4", offset=len(head))
    return rows.reshape(n, width).astype(np.float32, copy=False)


def _embed_by_workers(
    partial: Path,
    head: bytes,
    encoder: PropertyPretrainedEncoder,
    images: Any,
    workers: int,
    progress: Progress,
) -> None:
    """Embed into a Zarr store beside the file, which then takes all rows from there."""
    from skastro.embeddings.distributed import embed_survey  # noqa: PLC0415 - few need it

    store = partial.with_name(f"{partial.name}.zarr")
    found = embed_survey(
        encoder, images, store, n_workers=workers, overwrite=True, progress=progress
    )
    with writing(partial):
        write_atomically(partial, head + found.read().values.astype("<f4").tobytes())
    shutil.rmtree(store)


def _rows_done(partial: Path, head: bytes, width: int) -> int:
    if not partial.is_file():
        return 0
    with partial.open("rb") as file:
        same = file.read(len(head)) == head
    return (partial.stat().st_size - len(head)) // (4 * width) if same else 0
