import copy

import pytest
import torch
from torch import nn

from skastro.networks.backbones import make_backbone
from skastro.networks.convolutions import trim_convolutions
from skastro.networks.device import resolve_device, uses_bfloat16

SHAPE = (4, 8, 8)


@pytest.fixture
def units(monkeypatch):
    """Return the capabilities of the processor, to be changed; it has AVX512-BF16 at first."""
    capabilities = {"avx2": True, "avx512_bf16": True, "amx_bf16": False, "cpu_name": "EPYC"}
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities, raising=False)
    return capabilities


@pytest.mark.parametrize("device", ["gpu", "cuda:7", "tpu", "meta", "", "GPU", None, 3])
def test_a_device_that_is_not_there_is_one_sentence_with_those_that_are(monkeypatch, device):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    with pytest.raises(ValueError, match="this machine has 'cpu'") as caught:
        resolve_device(device)
    assert str(caught.value).startswith(f"device={device!r} is not there: ")
    assert "\n" not in str(caught.value)


def test_the_reason_is_given_where_a_device_is_there_but_fails(monkeypatch):
    def fail(*_, **__):
        raise RuntimeError("CUDA out of memory.\nMore lines.")

    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch, "zeros", fail)
    for device in ("cuda", "cuda:1"):
        with pytest.raises(ValueError, match=r"used \(CUDA out of memory\): .* 'cuda:0', 'cuda:1'"):
            resolve_device(device)
    with pytest.raises(ValueError, match="device='cuda:2' is not there"):
        resolve_device("cuda:2")


def test_devices_may_be_those_of_torch():
    assert resolve_device(torch.device("cpu")) == resolve_device("cpu:0") == "cpu"


def decide(choice="auto", network=None, *, device="cpu", training=True):
    network = network or nn.Conv2d(4, 4, 1)
    return uses_bfloat16(choice, network, device, image_shape=SHAPE, training=training)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize(
    ("present", "expected"), [(["avx512_bf16"], True), (["amx_bf16"], True), ([], False)]
)
def test_auto_depends_on_the_units_of_the_processor(units, present, expected, training):
    units.update(avx512_bf16="avx512_bf16" in present, amx_bf16="amx_bf16" in present)
    assert decide(training=training) == expected


def test_auto_is_float32_where_torch_does_not_know_the_processor(monkeypatch):
    monkeypatch.delattr(torch.cpu, "get_capabilities", raising=False)
    assert not decide()


@pytest.mark.parametrize("native", [True, False])
@pytest.mark.parametrize("device", ["cuda", "cuda:1"])
def test_auto_does_not_use_emulation_on_a_gpu(monkeypatch, device, native):
    monkeypatch.setattr(
        torch.cuda,
        "is_bf16_supported",
        lambda *, including_emulation: including_emulation or native,
    )
    assert decide(device=device) == native


@pytest.mark.usefixtures("units")
def test_auto_is_float32_on_other_devices():
    assert not decide(device="mps")
    assert decide("bfloat16", device="mps")


@pytest.mark.usefixtures("units")
@pytest.mark.parametrize(("backbone", "trains"), [("efficientnet_b0", False), ("resnet10t", True)])
def test_networks_with_depthwise_convolutions_train_in_float32(backbone, trains):
    network, _ = make_backbone(backbone, SHAPE)
    network = trim_convolutions(network)
    assert decide(network=network, training=True) == trains
    assert decide(network=network, training=False)
    assert decide("bfloat16", network, training=True)  # if it is asked for


def test_a_named_precision_is_used_on_any_processor(units):
    units["avx512_bf16"] = False
    assert decide("bfloat16")
    assert not decide("float32")
    with pytest.raises(ValueError, match="precision='half' must be"):
        decide("half")


@pytest.mark.parametrize("padding", [1, "same"])
@pytest.mark.usefixtures("units")
def test_convolutions_that_see_padding_alone_are_not_trained_in_bfloat16(padding):
    network = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Conv2d(4, 4, 3, padding=padding)).train()
    assert decide(network=trim_convolutions(copy.deepcopy(network)))
    assert not decide(network=network)
    assert network.training
    with pytest.raises(ValueError, match="wrong gradients for stamps of shape \\(4, 8, 8\\)"):
        decide("bfloat16", network)
    assert decide("bfloat16", network, training=False)  # embedding has no gradient
