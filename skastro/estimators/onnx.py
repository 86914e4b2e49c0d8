"""Export encoders to ONNX, for programs without Python."""

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
from sklearn.utils.validation import check_is_fitted
from torch import Tensor, nn

from skastro.estimators.encoder import PropertyPretrainedEncoder
from skastro.networks.augmentation import turned_views
from skastro.utils.files import check_ending, write_whole
from skastro.utils.packages import import_optional

_INPUT = "stamps"
_OUTPUTS = ("embedding", "properties")
_MAX_BYTES = 2**31 - 2**24  # protobuf's limit, minus room for all that is not weights
_TOLERANCE = 1e-4  # of the largest feature, and of a property's spread
_TEST_PIXEL_SIGMA = 10.0  # spread of the pixels of test stamps, in units of the sky noise


def export_onnx(
    encoder: PropertyPretrainedEncoder,
    path: str | os.PathLike[str],
    *,
    bands: Sequence[str] | None = None,
) -> None:
    """Write a fitted encoder to an ONNX file, which brokers can run without Python.

    Parameters
    ----------
    encoder : PropertyPretrainedEncoder
        An encoder that ``fit`` has trained. With ``average_views``, the exported network averages
        over views, too.
    path : str or path-like
        Name of the file, ending in ``.onnx``. It holds all weights, and is written only if the
        exported network passes a test against torch.
    bands : sequence of str, default=None
        Names of the bands, in the order of the stamps, for the users of the file.

    Raises
    ------
    ValueError
        The encoder is of another class or from `load_pretrained`, ``bands`` does not have one name
        for each band, the network has over 2 GB or operations that ONNX lacks, or its results
        differ from torch.
    OSError
        The file cannot be written.
    ImportError
        onnx, onnxscript or onnxruntime is not installed.

    Notes
    -----
    The input ``stamps``, float32 of shape (n, bands, height, width), are raw pixels in the unit and
    size of those in ``fit``; NaN is a missing pixel. Infinite pixels and stamps without any finite
    pixel, which ``transform`` refuses, give undefined results. The outputs ``embedding``, float32
    of shape (n, d), and ``properties``, float64 of shape (n, p) in catalogue units, are those of
    ``transform`` and ``predict``, computed in float32.

    The metadata of the file, text or JSON, are ``property_names``, ``property_units`` ("" where
    unknown), ``bands``, ``image_shape`` (bands, height, width), ``average_views``,
    ``property_source``, ``backbone`` and ``skastro_version``.

    Examples
    --------
    >>> import tempfile, onnxruntime
    >>> stamps = np.random.default_rng(0).normal(size=(40, 2, 8, 8)).astype(np.float32)
    >>> params = {"max_epochs": 1, "precision": "float32", "random_state": 0}
    >>> encoder = PropertyPretrainedEncoder(nn.Conv2d(2, 4, 3), **params)
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
    _check_results(content, network, encoder)
    write_whole(target, content)


class _ExportedNetwork(nn.Module):
    """A network from raw pixels to standardised embeddings and properties in catalogue units."""

    def __init__(self, encoder: PropertyPretrainedEncoder) -> None:
        super().__init__()
        # a copy: the encoder's own may be on another device, or in use by another thread
        network = copy.deepcopy(encoder.network_).cpu()
        self.network = network.to(memory_format=torch.contiguous_format)
        self.average_views = encoder.average_views
        scale = encoder.embedding_scale_
        self.mean = nn.Buffer(torch.from_numpy(encoder.embedding_mean_))
        self.scale = nn.Buffer(torch.from_numpy(scale))
        # a constant feature has an infinite scale: its embedding is 0, the head gets its mean
        self.spread = nn.Buffer(torch.from_numpy(np.where(np.isfinite(scale), scale, 0)))
        self.property_center = nn.Buffer(torch.from_numpy(encoder.targets_.center))
        self.property_scale = nn.Buffer(torch.from_numpy(encoder.targets_.scale))

    def forward(self, stamps: Tensor) -> tuple[Tensor, Tensor]:
        """Map (n, bands, height, width) to (n, d) and (n, p)."""
        views = list(turned_views(stamps)) if self.average_views else [stamps]
        features = self.network.embed(torch.cat(views))
        mean = features.reshape(len(views), stamps.shape[0], -1).mean(0)
        embedding = (mean - self.mean) / self.scale
        outputs = self.network.head(embedding * self.spread + self.mean)
        return embedding, outputs.double() * self.property_scale + self.property_center


def _check_encoder(encoder: Any, bands: Sequence[str] | None) -> None:
    if not isinstance(encoder, PropertyPretrainedEncoder):
        raise ValueError(  # noqa: TRY004 - like other wrong arguments
            f"encoder={type(encoder).__name__} cannot be exported: pass the fitted "
            "PropertyPretrainedEncoder itself."
        )
    check_is_fitted(encoder)
    if encoder.image_shape_ is None:
        raise ValueError(
            "an encoder of load_pretrained() takes stamps of any bands and size, which ONNX has no "
            "operations for: export an encoder that fit() has trained."
        )
    if bands is not None and len(bands) != encoder.image_shape_[0]:
        raise ValueError(
            f"bands={list(bands)} are {len(bands)} names, but the stamps have "
            f"{encoder.image_shape_[0]} bands: name each."
        )
    size = sum(tensor.nbytes for tensor in encoder.network_.state_dict().values())
    if size > _MAX_BYTES:
        raise ValueError(
            f"the network has {size / 2**30:.1f} GB of weights, and an ONNX file holds 2: "
            "train a smaller backbone."
        )


def _convert(network: nn.Module, encoder: PropertyPretrainedEncoder) -> Any:
    """Return the network as an ONNX model."""
    stamps = torch.zeros(2, *encoder.image_shape_)
    try:
        program: Any = torch.onnx.export(
            network, (stamps,), dynamo=True, verbose=False, input_names=[_INPUT],
            output_names=list(_OUTPUTS), dynamic_shapes={_INPUT: {0: torch.export.Dim("n", min=1)}},
        )  # fmt: skip
    except torch.onnx.OnnxExporterError as error:
        name = encoder.backbone
        name = name if isinstance(name, str) else type(encoder.network_.backbone.body).__name__
        raise ValueError(
            f"backbone={name!r} has operations that ONNX does not have: train another backbone."
        ) from error
    model = program.model_proto
    graph = model.graph
    del graph.value_info[:]
    for part in (graph, *graph.node, *graph.input, *graph.output, *graph.initializer):
        part.ClearField("metadata_props")  # the exporter's stack traces, with local paths
    return model


def _describe(model: Any, encoder: PropertyPretrainedEncoder, bands: Sequence[str] | None) -> Any:
    """Add names, units and other metadata to a model."""
    names, units = list(encoder.targets_.names), encoder.property_units_
    version = metadata.version("skastro")
    model.producer_name, model.producer_version = "skastro", version
    model.doc_string = "Embeddings of astronomical stamps, and properties predicted from them."
    entries = {
        "property_names": json.dumps(names),
        "property_units": json.dumps([units.get(name, "") for name in names]),
        "property_source": encoder.property_source_,
        "image_shape": json.dumps(encoder.image_shape_),
        "average_views": json.dumps(bool(encoder.average_views)),
        "backbone": encoder.backbone if isinstance(encoder.backbone, str) else "",
        "skastro_version": version,
    }
    if bands is not None:
        entries["bands"] = json.dumps([str(band) for band in bands])
    for key, value in entries.items():
        model.metadata_props.add(key=key, value=value)
    model.graph.input[0].doc_string = "raw pixels as those trained on; NaN is a missing pixel"
    embedding, properties = model.graph.output
    embedding.doc_string = "mean 0 and standard deviation 1 on the stamps trained on"
    properties.doc_string = "property_names, in property_units"
    return model


def _check_results(
    content: bytes, network: _ExportedNetwork, encoder: PropertyPretrainedEncoder
) -> None:
    """Run a model on stamps of noise with gaps, and refuse it if its results differ."""
    runtime = import_optional("onnxruntime", extra="onnx", needed_by="Export to ONNX")
    session = runtime.InferenceSession(content, providers=["CPUExecutionProvider"])
    scaling = network.network.scaling
    spread, mean = network.spread.numpy(), network.mean.numpy()
    for n in (1, 3):  # a batch of one, and one of another size than the exporter saw
        noise = np.random.default_rng(n).normal(size=(n, *encoder.image_shape_))
        noise[:, :, : encoder.image_shape_[1] // 4] = np.nan
        pixels = torch.from_numpy(noise.astype(np.float32))
        stamps = scaling.offset + _TEST_PIXEL_SIGMA * scaling.scale * pixels
        with torch.inference_mode():
            embedding, properties = (part.numpy() for part in network(stamps))
        onnx_embedding, onnx_properties = session.run(list(_OUTPUTS), {_INPUT: stamps.numpy()})
        # compared before standardisation, which magnifies the rounding of nearly constant features
        largest = np.abs(embedding * spread + mean).max() or 1.0
        feature_error = np.abs((onnx_embedding - embedding) * spread).max() / largest
        property_error = np.abs((onnx_properties - properties) / encoder.targets_.scale).max()
        difference = np.maximum(feature_error, property_error)
        # not >=, because a NaN has to be refused, too
        if not difference < _TOLERANCE:
            raise ValueError(
                f"onnxruntime differs from torch by {difference:.1g} on test stamps: try other "
                "releases of onnxruntime and torch, or another backbone."
            )
