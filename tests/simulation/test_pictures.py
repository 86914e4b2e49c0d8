import io

import numpy as np
import pytest
import torch
from PIL import Image

from skastro.simulation.draws import Draws
from skastro.simulation.pictures import compose_pictures, compress


@pytest.fixture
def scene():
    """Return a smooth source in three bands and the noise of the sky."""
    y, x = torch.meshgrid(torch.arange(40.0), torch.arange(40.0), indexing="ij")
    source = 50 * torch.exp(-((x - 20) ** 2 + (y - 18) ** 2) / 60)
    stamps = torch.stack([source * f for f in (0.5, 1.0, 1.8)]).repeat(50, 1, 1, 1)
    return stamps, torch.ones(50, 3, 1, 1)


def test_pictures_are_8_bit_red_first_and_show_the_source(scene):
    pictures = compose_pictures(*scene, Draws(50, 0))
    assert pictures.min() >= 0
    assert pictures.max() <= 1
    torch.testing.assert_close(pictures * 255, (pictures * 255).round())
    assert (pictures[:, :, 18, 20] > pictures[:, :, 2, 2]).all()
    assert (pictures[:, 0, 18, 28] > pictures[:, 2, 18, 28]).float().mean() > 0.9


def test_missing_pixels_become_black(scene):
    stamps, noise = scene
    stamps[0, :, :, 35:] = torch.nan
    assert compose_pictures(stamps, noise, Draws(50, 0)).isfinite().all()


def test_compression_loses_what_jpeg_loses():
    rng = np.random.default_rng(0)
    picture = 60 + 30 * np.sin(np.arange(32) / 3)[:, None, None] + rng.normal(0, 8, (32, 32, 3))
    picture = picture.clip(0, 255).astype(np.uint8)
    file = io.BytesIO()
    # quality 75 halves the table of the standard
    Image.fromarray(picture).save(file, "JPEG", quality=75, subsampling=2)
    expected = np.asarray(Image.open(file), float)
    ours = compress(
        torch.from_numpy(picture / 255).permute(2, 0, 1)[None].float(), torch.tensor([0.5])
    )
    ours = ours[0].permute(1, 2, 0).numpy() * 255
    loss = np.std(expected - picture)
    assert np.std(ours - picture) == pytest.approx(loss, rel=0.15)
    assert np.std(ours - expected) < 0.5 * loss
