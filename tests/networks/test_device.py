import copy
import json

import pytest
import torch
from torch import nn

from skastro.networks.backbones import device as precision
from skastro.networks.convolutions import trim_convolutions
from skastro.networks.device import measure_seconds, uses_bfloat16

SHAPE = (4, 8, 8)

pytestmark = pytest.mark.usefixtures("able")


@pytest.fixture
def able(monkeypatch, tmp_path):
    """A processor that multiplies in bfloat16, and an empty cache."""
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": True}, raising=False)
    monkeypatch.setenv("SKASTRO_CACHE", str(tmp_path))
    monkeypatch.setattr(precision, "_KNOWN", {})
    return tmp_path / "precision"


@pytest.fixture
def seconds(monkeypatch):
    """What a measurement finds, and how often it was asked."""
    found = {"float32": 2.0, "bfloat16": 1.0, "calls": 0}

    def measure(*_, **__):
        found["calls"] += 1
        return {name: found[name] for name in ("float32", "bfloat16")}

    monkeypatch.setattr(precision, "measure_seconds", measure)
    return found


def decide(choice="auto", network=None, *, training=True, shape=SHAPE):
    network = network or nn.Conv2d(4, 4, 1)
    return uses_bfloat16(choice, network, "cpu", image_shape=shape, training=training)


def forget(monkeypatch):
    """Do as another process would."""
    monkeypatch.setattr(precision, "_KNOWN", {})


@pytest.mark.parametrize("training", [True, False])
def test_auto_takes_what_was_measured_faster(seconds, training):
    assert decide(training=training)
    assert seconds["calls"] == 1
    seconds["bfloat16"] = 1.9  # a twentieth may be noise
    assert not decide(network=nn.Conv2d(4, 4, 2), training=training)
    assert decide(training=training)
    assert seconds["calls"] == 2


def test_what_was_asked_for_is_not_measured(seconds):
    assert decide("bfloat16")
    assert not decide("float32")
    with pytest.raises(ValueError, match="precision='half' must be"):
        decide("half")
    assert seconds["calls"] == 0


def test_a_processor_without_such_products_is_not_measured(seconds, monkeypatch):
    monkeypatch.setattr(torch.cpu, "get_capabilities", dict)
    assert not decide()
    assert seconds["calls"] == 0


def test_the_first_finding_holds_for_all_processes(able, seconds, monkeypatch):
    assert decide()
    (path,) = able.iterdir()
    assert json.loads(path.read_text())["image_shape"] == list(SHAPE)
    seconds["bfloat16"] = 9.0
    forget(monkeypatch)
    assert decide()
    assert seconds["calls"] == 1


@pytest.mark.usefixtures("seconds")
def test_another_process_that_was_first_is_followed(able, monkeypatch):
    decide()
    (path,) = able.iterdir()
    kept = path.read_text()
    path.unlink()
    forget(monkeypatch)

    def measure_late(*_, **__):
        path.write_text(kept)
        return {"float32": 1.0, "bfloat16": 9.0}

    monkeypatch.setattr(precision, "measure_seconds", measure_late)
    assert decide()
    assert path.read_text() == kept
    assert list(able.iterdir()) == [path]


def test_a_damaged_finding_is_measured_again(able, seconds, monkeypatch):
    decide()
    (path,) = able.iterdir()
    path.write_text("{")
    forget(monkeypatch)
    assert decide()
    assert seconds["calls"] == 2


def test_without_a_cache_folder_it_holds_for_the_process(seconds, monkeypatch, tmp_path):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("SKASTRO_CACHE", str(tmp_path / "file"))
    assert decide()
    assert decide()
    assert seconds["calls"] == 1


@pytest.mark.parametrize("training", [True, False])
def test_measuring_leaves_network_and_generators_as_they_are(training):
    network = nn.Sequential(nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4), nn.Dropout(0.5)).eval()
    weights = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    before = torch.get_rng_state()
    seconds = measure_seconds(network, "cpu", SHAPE, training=training)
    assert all(0 < duration < 60 for duration in seconds.values())
    assert torch.equal(torch.get_rng_state(), before)
    assert not network.training
    assert all(part.grad is None for part in network.parameters())
    for name, tensor in network.state_dict().items():
        assert torch.equal(tensor, weights[name])


class NoBfloat16(nn.Module):
    """A network whose operations know float32 alone."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Conv2d(4, 4, 1)

    def forward(self, stamps):
        maps = self.layer(stamps)
        if maps.dtype == torch.bfloat16:
            raise RuntimeError("not implemented for 'BFloat16'")
        return maps


def test_a_network_that_cannot_run_in_bfloat16_does_not():
    assert measure_seconds(NoBfloat16(), "cpu", SHAPE, training=False)["bfloat16"] == float("inf")
    assert not decide(network=NoBfloat16(), training=False)


@pytest.mark.parametrize("padding", [1, "same"])
@pytest.mark.usefixtures("seconds")
def test_convolutions_that_see_padding_alone_are_not_trained_so(padding):
    network = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Conv2d(4, 4, 3, padding=padding)).train()
    assert decide(network=trim_convolutions(copy.deepcopy(network)))
    assert not decide(network=network)
    assert network.training
    with pytest.raises(ValueError, match="wrong gradients for stamps of shape \\(4, 8, 8\\)"):
        decide("bfloat16", network)
    assert decide("bfloat16", network, training=False)  # embedding has no gradient
