"""A network with random statistics in its batch norms, for tests that fold them."""

import torch
from torch import nn

from skastro.networks.backbones import InputScaling, make_network
from skastro.networks.training import seeded


def network(backbone="stamp_resnet10", shape=(3, 16, 16)):
    bands = torch.ones(shape[0])
    with seeded(0):
        net = make_network(backbone, shape, 2, scaling=InputScaling(0 * bands, bands, stretch=True))
        for part in net.modules():  # statistics that an untrained network does not have
            if isinstance(part, nn.BatchNorm2d):
                part.running_mean.normal_(std=0.1)
                part.running_var.uniform_(0.5, 2.0)
    return net.eval()
