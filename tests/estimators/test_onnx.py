"""ONNX files give the results of the encoders from which they were written."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose
from sklearn.exceptions import NotFittedError
from sklearn.pipeline import make_pipeline
from torch import nn

from skastro import export_onnx
from skastro.estimators import onnx as interchange
from tests.conftest import make_stamps, tiny_encoder

onnx = pytest.importorskip("onnx")
runtime = pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript")

TOLERANCE = 1e-4


def train(backbone, *, n=80, bands=3, shape=(16, 16), **params):
    stamps, _, properties = make_stamps(n, bands, max(shape))
    stamps = stamps[:, :, : shape[0], : shape[1]]
    properties.attrs["units"] = {"mag_u": "mag"}
    params = {"max_epochs": 3, "precision": "float32"} | params
    encoder = tiny_encoder(backbone=backbone, targets="catalog", **params)
    return encoder.fit(stamps, properties=properties), stamps


def small_net():
    return nn.Sequential(nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6), nn.ReLU())


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """Return an encoder, its stamps and its file."""
    encoder, stamps = train("stamp_resnet10")
    path = tmp_path_factory.mktemp("onnx") / "encoder.onnx"
    export_onnx(encoder, path, bands=["u", "g", "r"])
    return encoder, stamps, path


def assert_alike(encoder, stamps, path):
    session = runtime.InferenceSession(path, providers=["CPUExecutionProvider"])
    embedding, properties = session.run(["embedding", "properties"], {"stamps": stamps})
    assert embedding.dtype == np.float32
    assert_allclose(embedding, encoder.transform(stamps), atol=TOLERANCE, rtol=TOLERANCE)
    assert_allclose(properties, encoder.predict(stamps), atol=TOLERANCE)


@pytest.mark.parametrize("n", [1, 2, 7, 80])
def test_the_file_computes_what_the_encoder_does(exported, n):
    encoder, stamps, path = exported
    assert_alike(encoder, stamps[:n], path)


def test_missing_pixels_are_replaced_by_sky(exported):
    encoder, stamps, path = exported
    gaps = stamps[:5].copy()
    gaps[0, 1] = np.nan  # a whole band
    gaps[1:, :, 2:9, ::3] = np.nan
    assert_alike(encoder, gaps, path)


def test_bright_and_negative_pixels_are_stretched_alike(exported):
    encoder, stamps, path = exported
    assert_alike(encoder, np.concatenate([1e4 * stamps[:3], -1e4 * stamps[:3]]), path)


@pytest.mark.slow
@pytest.mark.parametrize("backbone", ["resnet10t", "mobilenetv3_small_050"])
def test_other_backbones_can_be_exported(backbone, tmp_path):
    encoder, stamps = train(backbone, n=20, max_epochs=1, average_views=False)
    export_onnx(encoder, tmp_path / "e.onnx")
    for n in (1, 5):
        assert_alike(encoder, stamps[:n], tmp_path / "e.onnx")


@pytest.mark.parametrize(
    ("shape", "params"),
    [
        ((16, 16), {"average_views": False}),
        ((16, 10), {}),  # 4 views
        ((1, 16), {}),  # strips, 1 view
    ],
)
def test_the_file_averages_over_views_as_the_encoder_does(shape, params, tmp_path):
    net = nn.Conv2d(3, 5, (1, 3))
    encoder, stamps = train(net, shape=shape, **params)
    export_onnx(encoder, tmp_path / "e.onnx")
    assert_alike(encoder, stamps[:4], tmp_path / "e.onnx")


def test_the_file_enlarges_stamps(tmp_path):
    encoder, stamps = train(nn.Conv2d(3, 4, 20), n=20, max_epochs=1, average_views=False)
    assert encoder.network_.backbone.size == (32, 32)
    export_onnx(encoder, tmp_path / "e.onnx")
    assert_alike(encoder, stamps[:4], tmp_path / "e.onnx")


def test_constant_features_are_zero(tmp_path):
    net = nn.Sequential(nn.Conv2d(3, 6, 3), nn.ReLU())
    nn.init.zeros_(net[0].weight[:2])
    nn.init.constant_(net[0].bias[:2], -1.0)
    encoder, stamps = train(net, max_epochs=0, average_views=False)
    assert np.isinf(encoder.embedding_scale_[:2]).all()
    export_onnx(encoder, tmp_path / "e.onnx")
    assert_alike(encoder, stamps[:4], tmp_path / "e.onnx")


def test_the_file_describes_itself(exported):
    encoder, _, path = exported
    session = runtime.InferenceSession(path)
    (given,) = session.get_inputs()
    assert (given.name, given.shape) == ("stamps", ["n", 3, 16, 16])
    assert [(out.name, out.shape[1], out.type) for out in session.get_outputs()] == [
        ("embedding", 256, "tensor(float)"),
        ("properties", 4, "tensor(double)"),
    ]
    metadata = session.get_modelmeta().custom_metadata_map
    assert json.loads(metadata["property_names"]) == list(encoder.targets_.names)
    assert json.loads(metadata["property_units"]) == ["mag", "", "", ""]
    assert json.loads(metadata["bands"]) == ["u", "g", "r"]
    assert json.loads(metadata["image_shape"]) == [3, 16, 16]
    assert json.loads(metadata["average_views"]) is True
    assert (metadata["backbone"], metadata["property_source"]) == ("stamp_resnet10", "catalog")
    assert metadata["skastro_version"]


def test_the_file_is_valid_and_has_no_local_paths(exported):
    _, _, path = exported
    assert [file.name for file in path.parent.iterdir()] == ["encoder.onnx"]
    onnx.checker.check_model(path, full_check=True)
    content = path.read_bytes()
    for trace in (b"site-packages", b"File ", b"skastro/networks/backbones.py"):
        assert trace not in content


def test_the_encoder_and_the_random_generators_are_not_changed(tmp_path):
    encoder, stamps = train(small_net(), n=20, average_views=False)
    before = encoder.transform(stamps)
    state = torch.get_rng_state()
    encoder.set_params(device="cpu").network_.train()
    export_onnx(encoder, tmp_path / "e.onnx")
    assert encoder.network_.training
    encoder.network_.eval()
    assert torch.equal(torch.get_rng_state(), state)
    np.testing.assert_array_equal(encoder.transform(stamps), before)


class Noisy(nn.Module):
    """A network with another result at every call."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Conv2d(3, 4, 3)

    def forward(self, x):
        features = self.layer(x)
        return features + torch.rand_like(features)


class Branching(nn.Module):
    """A network that depends on its input in a way that no graph can hold."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Conv2d(3, 4, 3)

    def forward(self, x):
        return self.layer(x) if x.mean() > 0 else self.layer(-x)


@pytest.mark.parametrize(
    ("net", "message"),
    [
        (Noisy, r"onnxruntime differs from torch by .* on test stamps: try other"),
        (Branching, r"backbone='Branching' has operations that ONNX does not have: train another"),
    ],
)
def test_a_network_that_onnx_cannot_hold_is_not_written(net, message, tmp_path):
    encoder, _ = train(net(), max_epochs=0, average_views=False)
    with pytest.raises(ValueError, match=message):
        export_onnx(encoder, tmp_path / "e.onnx")
    assert not list(tmp_path.iterdir())


def test_bad_arguments_are_refused_before_the_export(exported, tmp_path, monkeypatch):
    encoder, _, _ = exported
    path = tmp_path / "e.onnx"
    with pytest.raises(ValueError, match=r"encoder=Pipeline cannot be exported: pass the fitted"):
        export_onnx(make_pipeline(encoder), path)
    with pytest.raises(NotFittedError):
        export_onnx(tiny_encoder(), path)
    with pytest.raises(ValueError, match=r"are 2 names, but the stamps have 3 bands: name each"):
        export_onnx(encoder, path, bands="ug")
    with pytest.raises(ValueError, match=r"e\.pb must end in \.onnx"):
        export_onnx(encoder, tmp_path / "e.pb")
    with pytest.raises(FileNotFoundError, match=r"nowhere does not exist: create it first"):
        export_onnx(encoder, tmp_path / "nowhere" / "e.onnx")
    monkeypatch.setattr(interchange, "_MAX_BYTES", 1000)
    with pytest.raises(
        ValueError, match=r"GB of weights, and an ONNX file holds 2: train a smaller"
    ):
        export_onnx(encoder, path)
    assert not list(tmp_path.iterdir())


def test_the_error_names_a_file_that_cannot_be_written(locked):
    encoder, _ = train(small_net(), max_epochs=0, average_views=False)
    with pytest.raises(OSError, match=r"e\.onnx cannot be written"):
        export_onnx(encoder, locked / "e.onnx")
