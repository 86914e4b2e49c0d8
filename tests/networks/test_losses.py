import pytest
import torch

from skastro.networks.losses import ClassLoss, PropertyLoss

NAN = float("nan")


@pytest.mark.parametrize(
    ("loss", "expected"), [("mae", 2.0), ("mse", 4.0), ("huber", 1.5), (torch.sub, -2.0)]
)
def test_loss_of_one_property(loss, expected):
    value = PropertyLoss(loss)(torch.zeros(1, 1), torch.full((1, 1), 2.0), torch.ones(1, 1))
    assert value.item() == pytest.approx(expected)


def test_missing_targets_have_neither_loss_nor_gradient():
    prediction = torch.ones(2, 2, requires_grad=True)
    target = torch.tensor([[3.0, NAN], [NAN, NAN]])
    value = PropertyLoss("mse")(prediction, target, torch.ones(2, 2))
    value.backward()
    assert value.item() == pytest.approx(4.0)
    assert prediction.grad.tolist() == [[-4.0, 0.0], [0.0, 0.0]]


def test_a_batch_without_any_measurement_trains_nothing():
    prediction = torch.ones(2, 1, requires_grad=True)
    PropertyLoss()(prediction, torch.full((2, 1), NAN), torch.ones(2, 1)).backward()
    assert prediction.grad.abs().sum() == 0


def test_weights_are_relative():
    prediction, target = torch.zeros(2, 1), torch.tensor([[1.0], [3.0]])
    loss = PropertyLoss("mae")
    assert loss(prediction, target, torch.tensor([[3.0], [1.0]])).item() == pytest.approx(1.5)
    assert loss(prediction, target, torch.tensor([[6.0], [2.0]])).item() == pytest.approx(1.5)


def test_unknown_losses_are_refused():
    with pytest.raises(ValueError, match="loss='hinge' is unknown"):
        PropertyLoss("hinge")


def test_class_loss_is_weighted_cross_entropy():
    logits = torch.tensor([[2.0, 0.0], [0.0, 1.0]])
    codes, weight = torch.tensor([0, 0]), torch.tensor([1.0, 3.0])
    expected = torch.nn.functional.cross_entropy(logits, codes, reduction="none")
    expected = (expected * weight).sum() / 4
    torch.testing.assert_close(ClassLoss(0.0)(logits, codes, weight), expected)
