"""Everything in torch: backbones, losses, training, inference, checkpoints, devices."""
