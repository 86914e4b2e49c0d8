"""Encoders for programs that run no Python: ONNX, raw pixels in, embeddings and properties out."""

from __future__ import annotations

import copy
import json
import os
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.utils.validation import check_is_fitted
from torch import Tensor, nn

from skastro.estimators.encoder import PropertyPretrainedEncoder
from skastro.networks.augmentation import dihedral_views
from skastro.utils.files import check_ending, replacing
from skastro.utils.packages import import_optional

_INPUT = "stamps"
_OUTPUTS = ("embedding", "properties")
_MOST_BYTES = 2**31 - 2**24  # protobuf's limit, less what is no weights
_TOLERANCE = 1e-4  # of the largest feature, and of a property's spread
_TRIED_SIGMAS = 10.0  # pixels of the trial stamps, in units of the sky noise


def export_onnx(
    encoder: PropertyPretrainedEncoder,
    path: str | os.PathLike[str],
    *,
    bands: Sequence[str] | None = None,
) -> None:
    """Write a fitted encoder as an ONNX file, which brokers run without Python.

    Parameters
    ----------
    encoder : PropertyPretrainedEncoder
        Fitted. Its ``average_views`` is part of the file: the views are made inside.
    path : str or path-like
        ``.onnx``; one file with all weights. It appears when it is complete and was tried.
    bands : sequence of str, default=None
        Names of the bands, in the order of the stamps, for those who will use the file.

    Raises
    ------
    ValueError
        The encoder is of another kind, ``bands`` are not as many as the stamps have, the
        network has over 2 GB, ONNX cannot express it, or gives other numbers.
    OSError
        The file cannot be written.
    ImportError
        onnx, onnxscript or onnxruntime is not installed.

    Notes
    -----
    ``stamps``, float32 of shape (n, bands, height, width), are the raw pixels that ``fit`` was
    given, of the same unit and size; NaN is a missing pixel. Infinite pixels and stamps without
    any finite pixel, which ``transform`` refuses, have no meaning. ``embedding``, float32 of
    shape (n, d), and ``properties``, float64 of shape (n, p) in catalogue units, are those of
    ``transform`` and ``predict``, computed in float32.

    The file's metadata, text or JSON, say what it holds: ``property_names``,
    ``property_units`` ("" where unknown), ``bands``, ``image_shape`` (bands, height, width),
    ``average_views``, ``property_source``, ``backbone`` and ``skastro_version``.

    Examples
    --------
    >>> import tempfile, onnxruntime
    >>> stamps = np.random.default_rng(0).normal(size=(40, 2, 8, 8)).astype(np.float32)
    >>> encoder = PropertyPretrainedEncoder(nn.Conv2d(2, 4, 3), max_epochs=1, random_state=0)
    >>> _ = encoder.fit(stamps, properties=stamps.mean((2, 3)))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     export_onnx(encoder, f"{folder}/encoder.onnx", bands=["g", "r"])
    ...     session = onnxruntime.InferenceSession(f"{folder}/encoder.onnx")
    >>> embedding, properties = session.run(None, {"stamps": stamps})
    >>> bool(np.allclose(embedding, encoder.transform(stamps), atol=1e-4))
    True
    >>> session.get_modelmeta().custom_metadata_map["bands"]
    '["g", "r"]'
    """
    target = Path(path).expanduser()
    check_ending(target, (".onnx",))
    if not target.parent.is_dir():
        raise FileNotFoundError(f"the folder {target.parent} does not exist: create it first.")
    _check_encoder(encoder, bands)
    for package in ("onnx", "onnxscript", "onnxruntime"):
        import_optional(package, extra="onnx", needed_by="Export to ONNX")
    network = _ExportedNetwork(encoder).eval()
    content = _describe(_convert(network, encoder), encoder, bands).SerializeToString()
    _check_numbers(content, network, encoder)
    with replacing(target) as temporary:
        temporary.write_bytes(content)


class _ExportedNetwork(nn.Module):
    """Raw pixels to standardised embeddings and properties in catalogue units."""

    mean: Tensor
    scale: Tensor
    spread: Tensor
    center: Tensor
    unit: Tensor

    def __init__(self, encoder: PropertyPretrainedEncoder) -> None:
        super().__init__()
        # a copy: the encoder's own may be on another device, or at work in another thread
        self.network = (
            copy.deepcopy(encoder.network_).cpu().to(memory_format=torch.contiguous_format)
        )
        self.average_views = encoder.average_views
        scale = encoder.embedding_scale_
        self.register_buffer("mean", torch.from_numpy(encoder.embedding_mean_))
        self.register_buffer("scale", torch.from_numpy(scale))
        # a dead feature has an infinite scale: its embedding is 0, and its mean feeds the head
        self.register_buffer("spread", torch.from_numpy(np.where(np.isfinite(scale), scale, 0)))
        self.register_buffer("center", torch.from_numpy(encoder.targets_.center))
        self.register_buffer("unit", torch.from_numpy(encoder.targets_.scale))

    def forward(self, stamps: Tensor) -> tuple[Tensor, Tensor]:
        """Map (n, bands, height, width) to (n, d) and (n, p)."""
        views = list(dihedral_views(stamps)) if self.average_views else [stamps]
        features = self.network.embed(torch.cat(views))
        mean = features.reshape(len(views), stamps.shape[0], -1).mean(0)
        embedding = (mean - self.mean) / self.scale
        outputs = self.network.head(embedding * self.spread + self.mean)
        return embedding, outputs.double() * self.unit + self.center


def _check_encoder(encoder: Any, bands: Sequence[str] | None) -> None:
    if not isinstance(encoder, PropertyPretrainedEncoder):
        raise ValueError(  # noqa: TRY004 - as for other arguments
            f"encoder={type(encoder).__name__} cannot be exported: pass the fitted "
            "PropertyPretrainedEncoder itself."
        )
    check_is_fitted(encoder)
    if bands is not None and len(bands) != encoder.image_shape_[0]:
        raise ValueError(
            f"bands={list(bands)} are {len(bands)} names, but the stamps have "
            f"{encoder.image_shape_[0]} bands: name each."
        )
    size = sum(tensor.nbytes for tensor in encoder.network_.state_dict().values())
    if size > _MOST_BYTES:
        raise ValueError(
            f"the network has {size / 2**30:.1f} GB of weights, and an ONNX file holds 2: "
            "train a smaller backbone."
        )


def _convert(network: nn.Module, encoder: PropertyPretrainedEncoder) -> Any:
    """Return the network as an ONNX model, without the traces of how it came about."""
    stamps = torch.zeros(2, *encoder.image_shape_)
    try:
        program: Any = torch.onnx.export(
            network,
            (stamps,),
            dynamo=True,
            verbose=False,
            input_names=[_INPUT],
            output_names=list(_OUTPUTS),
            dynamic_shapes={_INPUT: {0: torch.export.Dim("n", min=1)}},
        )
    except torch.onnx.OnnxExporterError as error:
        raise ValueError(
            f"backbone={_name(encoder) or type(encoder.network_.backbone.body).__name__!r} has "
            "operations that ONNX does not know: train another backbone."
        ) from error
    model = program.model_proto
    graph = model.graph
    del graph.value_info[:]
    for part in (graph, *graph.node, *graph.input, *graph.output, *graph.initializer):
        part.ClearField("metadata_props")  # the exporter's stack traces, with local paths
    return model


def _name(encoder: PropertyPretrainedEncoder) -> str:
    return encoder.backbone if isinstance(encoder.backbone, str) else ""


def _describe(model: Any, encoder: PropertyPretrainedEncoder, bands: Sequence[str] | None) -> Any:
    """Write into a model what it holds."""
    names, units = encoder.property_names_, encoder.property_units_
    version = metadata.version("skastro")
    model.producer_name, model.producer_version = "skastro", version
    model.doc_string = "Embeddings of astronomical stamps, and properties predicted from them."
    what = {
        "property_names": json.dumps(names),
        "property_units": json.dumps([units.get(name, "") for name in names]),
        "property_source": encoder.property_source_,
        "image_shape": json.dumps(encoder.image_shape_),
        "average_views": json.dumps(bool(encoder.average_views)),
        "backbone": _name(encoder),
        "skastro_version": version,
    }
    if bands is not None:
        what["bands"] = json.dumps([str(band) for band in bands])
    for key, value in what.items():
        model.metadata_props.add(key=key, value=value)
    model.graph.input[0].doc_string = "raw pixels as those trained on; NaN is a missing pixel"
    embedding, properties = model.graph.output
    embedding.doc_string = "mean 0 and standard deviation 1 on the stamps trained on"
    properties.doc_string = "property_names, in property_units"
    return model


def _check_numbers(
    content: bytes, network: _ExportedNetwork, encoder: PropertyPretrainedEncoder
) -> None:
    """Run a file on noise with gaps, and refuse it if it computes something else."""
    runtime = import_optional("onnxruntime", extra="onnx", needed_by="Export to ONNX")
    session = runtime.InferenceSession(content, providers=["CPUExecutionProvider"])
    scaling = network.network.scaling
    for n in (1, 3):  # a batch of one, and one of another size than the exporter saw
        noise = _trial_stamps(n, encoder.image_shape_)
        stamps = scaling.offset + _TRIED_SIGMAS * scaling.scale * noise
        with torch.inference_mode():
            expected = [part.numpy() for part in network(stamps)]
        got = session.run(list(_OUTPUTS), {_INPUT: stamps.numpy()})
        # float32 rounds features, not embeddings: those of a nearly dead feature differ more
        spread, mean = network.spread.numpy(), network.mean.numpy()
        largest = np.abs(expected[0] * spread + mean).max() or 1.0
        wrong = np.max(
            [
                np.abs((got[0] - expected[0]) * spread).max() / largest,
                np.abs((got[1] - expected[1]) / encoder.targets_.scale).max(),
            ]
        )
        if not wrong < _TOLERANCE:
            raise ValueError(
                f"onnxruntime differs from torch by {wrong:.1g} on trial stamps: try other "
                "releases of onnxruntime and torch, or another backbone."
            )


def _trial_stamps(n: int, image_shape: tuple[int, int, int]) -> Tensor:
    noise: NDArray[Any] = np.random.default_rng(n).normal(size=(n, *image_shape))
    noise[:, :, : image_shape[1] // 4] = np.nan
    return torch.from_numpy(noise.astype(np.float32))
