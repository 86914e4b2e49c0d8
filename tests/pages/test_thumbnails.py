from __future__ import annotations

from io import BytesIO

import numpy as np
import pytest
from PIL import Image

from skastro.pages.thumbnails import (
    encode_stamp,
    encode_thumbnails,
    sheet_columns,
    write_thumbnails,
)
from skastro.stamps.rgb import display_bands

COLORS = [(250, 20, 20), (20, 250, 20), (20, 20, 250), (240, 240, 20), (20, 240, 240)]


def plain(side=32, n=5):
    """Stamps of one colour each, that can be shown as they are."""
    colors = np.array(COLORS[:n], dtype=np.uint8)
    return np.broadcast_to(colors[:, :, None, None], (n, 3, side, side))


def read(encoded):
    with Image.open(BytesIO(encoded)) as picture:
        return np.asarray(picture.convert("RGB")).astype(int)


def test_each_stamp_is_found_by_its_row():
    sheet = read(encode_thumbnails(plain()))
    assert sheet.shape == (64, 96, 3)  # two rows of three tiles
    for row, color in enumerate(COLORS):
        top, left = 32 * (row // 3), 32 * (row % 3)
        # but for the very edge, where colours are interpolated
        assert np.abs(sheet[top + 1 : top + 31, left + 1 : left + 31] - color).max() < 25
    assert sheet[36:, 68:].max() < 10


def test_stamps_that_are_not_square_keep_their_shape():
    wide = np.full((1, 3, 16, 32), 255, dtype=np.uint8)
    sheet = read(encode_thumbnails(wide))
    assert sheet.shape == (32, 32, 3)
    assert sheet[10:22].min() > 240
    assert sheet[:6].max() < 15


def test_linear_pixels_are_stretched():
    stamps = np.random.default_rng(0).normal(10, 1, size=(4, 5, 32, 32))
    stamps[:, :, 14:18, 14:18] += 200
    sheet = read(encode_thumbnails(stamps))
    assert sheet[15, 15].min() > 200
    assert sheet[2:8, 2:8].mean() < 60


def test_large_stamps_get_large_tiles_while_there_is_room():
    noise = np.random.default_rng(0).integers(0, 256, (30, 3, 96, 96), dtype=np.uint8)
    full, small = encode_thumbnails(noise), encode_thumbnails(noise, max_bytes=60_000)
    assert read(full).shape[1] == 96 * sheet_columns(30)
    assert read(small).shape[1] < read(full).shape[1]
    assert len(small) < 66_000 < len(full)


@pytest.mark.parametrize(
    ("n_bands", "dtype", "bands"),
    [
        (1, float, (0, 0, 0)),
        (2, float, (1, 1, 0)),
        (3, float, (2, 1, 0)),
        (3, np.uint8, (0, 1, 2)),
        (6, float, (3, 2, 1)),
    ],
)
def test_bands_shown(n_bands, dtype, bands):
    stamps = np.ones((2, n_bands, 8, 8), dtype=dtype)
    assert display_bands(stamps) == bands
    assert read(encode_thumbnails(stamps)).max() < 5  # nothing but sky is black


def test_unknown_bands_are_refused():
    with pytest.raises(ValueError, match="below 3"):
        encode_thumbnails(plain(), bands=(0, 1, 7))


def test_the_file_appears_whole(tmp_path):
    path = write_thumbnails(tmp_path / "thumbnails.webp", plain())
    assert read(path.read_bytes()).shape == (64, 96, 3)
    assert [path.name for path in tmp_path.iterdir()] == ["thumbnails.webp"]


def test_a_folder_that_cannot_be_written_is_an_error(locked):
    with pytest.raises(OSError, match=r"thumbnails\.webp cannot be written"):
        write_thumbnails(locked / "thumbnails.webp", plain())


def test_a_single_stamp_shows_its_pixels_as_squares_if_it_is_much_larger():
    stamp = np.zeros((1, 1, 4, 4), dtype=np.uint8)
    stamp[0, 0, 1, 2] = 200
    picture = read(encode_stamp(stamp, size=40))
    assert np.array_equal(picture[10:20, 20:30, 0], np.full((10, 10), 200))
    assert np.count_nonzero(picture[..., 0]) == 100
    assert np.count_nonzero(read(encode_stamp(stamp, size=12))[..., 0]) > 9  # smooth


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_a_stretch_shows_fainter_parts_of_a_single_stamp(dtype):
    y, x = np.mgrid[:16, :16] - 7.5
    stamp = 150 * np.exp(-(x**2 + y**2) / 20) + np.random.default_rng(0).normal(
        10, 1, (1, 3, 16, 16)
    )
    faint, usual, bright = (
        read(encode_stamp(stamp.astype(dtype), size=16, stretch=s)).mean() for s in (1, 0.5, 0)
    )
    assert faint > 1.1 * usual > 1.1**2 * bright
