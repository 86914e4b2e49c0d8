"""Keep what describes stamps beside a journal, so that a restart computes nothing again."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from skastro.embeddings.embed_survey import digest_encoder
from skastro.estimators.encoder import PropertyPretrainedEncoder
from skastro.networks.weights import PRETRAINED
from skastro.stamps.photometry import measure_properties
from skastro.utils.files import digest_arrays, replacing, write_arrays
from skastro.utils.progress import report_to

_CHUNK = 512  # stamps that are read at once


class KeptColumns:
    """Embed and measure stamps once, and keep the numbers in a file for the next call.

    The file belongs to the pixels of all stamps and to one encoder. Where either has changed, or
    the file is damaged, all is computed again.

    Parameters
    ----------
    path : path
        File ``.npz``, which need not exist.
    images : array-like of shape (n, bands, height, width)

    Attributes
    ----------
    weights : str
        Name of the weights of `load_pretrained` that have described the same stamps in an earlier
        call, "" if there were none.

    Examples
    --------
    >>> import tempfile
    >>> from skastro import load_pretrained
    >>> stamps = np.random.default_rng(0).normal(size=(5, 1, 32, 32)).astype(np.float32)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     kept = KeptColumns(Path(folder, "columns.npz"), stamps)
    ...     embeddings, measured = kept.describe(load_pretrained("galaxies"))
    ...     again = KeptColumns(Path(folder, "columns.npz"), stamps)
    >>> embeddings.shape, again.weights
    ((5, 259), 'galaxies')
    """

    def __init__(self, path: Path, images: Any) -> None:
        self._path, self._images = path, images
        self._stamps = _digest_stamps(images)
        self._arrays: dict[str, NDArray[Any]] = {}
        if path.is_file():
            try:
                with path.open("rb") as file, np.load(file) as content:  # pickles are refused
                    arrays = {name: content[name] for name in content.files}
                if str(arrays["stamps"]) == self._stamps:
                    self._arrays = arrays
            except Exception:  # noqa: BLE001 - a damaged file raises errors of many kinds
                self._arrays = {}
        self.weights = str(self._arrays.get("weights", ""))

    def describe(self, encoder: PropertyPretrainedEncoder) -> tuple[NDArray[Any], pd.DataFrame]:
        """Return embeddings (n, d) and the properties measured from the pixels, with units.

        Raises
        ------
        OSError
            The file cannot be written.
        """
        digest = f"{digest_encoder(encoder)} {encoder.average_views} {encoder.precision}"
        if str(self._arrays.get("encoder", "")) != digest:
            embeddings = np.asarray(encoder.transform(self._images))
            measured = measure_properties(self._images)
            names = {"names": list(measured.columns), "units": measured.attrs.get("units", {})}
            self.weights = encoder.weights if encoder.weights in PRETRAINED else ""
            if encoder.image_shape_ is not None:  # trained on these stamps, from those weights
                self.weights = ""
            self._arrays = {
                "stamps": np.array(self._stamps), "encoder": np.array(digest),
                "weights": np.array(self.weights), "embeddings": embeddings,
                "measured": measured.to_numpy(np.float64), "columns": np.array(json.dumps(names)),
            }  # fmt: skip
            with replacing(self._path) as temporary:
                write_arrays(temporary, self._arrays)
        names = json.loads(str(self._arrays["columns"]))
        table = pd.DataFrame(self._arrays["measured"], columns=names["names"])
        table.attrs["units"] = names["units"]
        return self._arrays["embeddings"], table


def _digest_stamps(images: Any) -> str:
    """Return a fingerprint of all pixels, in whatever file they are."""
    digest, report = hashlib.sha256(), report_to("comparing the stamps", len(images))
    for start in range(0, len(images), _CHUNK):
        digest.update(digest_arrays(np.asarray(images[start : start + _CHUNK])).encode())
        report(min(start + _CHUNK, len(images)))
    return digest.hexdigest()
