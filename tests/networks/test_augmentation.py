import torch

from skastro.networks.augmentation import augment, turned_views


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def symmetries(stamps):
    """Return stamps turned by all quarter turns, also after mirroring."""
    return [torch.rot90(s, k, (2, 3)) for s in (stamps, stamps.flip(3)) for k in range(4)]


def test_views_are_the_quarter_turns():
    stamp = torch.randn(1, 2, 5, 5, generator=generator())
    for view, expected in zip(turned_views(stamp), symmetries(stamp)[:4], strict=True):
        assert torch.equal(view, expected)


def test_oblong_stamps_are_mirrored_and_strips_left_alone():
    stamp = torch.randn(1, 1, 4, 6, generator=generator())
    views = list(turned_views(stamp))
    assert [view.shape for view in views] == [(1, 1, 4, 6)] * 4
    assert torch.equal(views[3], torch.rot90(stamp, 2, (2, 3)))
    strip = torch.randn(3, 1, 1, 7)
    assert len(list(turned_views(strip))) == 1
    assert augment(strip, generator()) is strip


def test_every_stamp_draws_its_own_element():
    stamps = torch.randn(1, 1, 4, 4, generator=generator()).expand(400, 1, 4, 4)
    views = augment(stamps, generator(1), max_shift=0)
    counts = [sum(torch.equal(v, w[0]) for v in views) for w in symmetries(stamps[:1])]
    assert sum(counts) == 400
    assert min(counts) > 20


def test_bands_move_together():
    stamp = torch.randn(20, 1, 8, 8, generator=generator())
    views = augment(stamp.expand(20, 3, 8, 8), generator(2))
    assert torch.equal(views[:, 0], views[:, 2])


def test_shifts_are_bounded_and_reflect_the_border():
    stamps = torch.zeros(300, 1, 16, 16)
    stamps[:, :, 8, 8] = 1
    moved = augment(stamps, generator(), max_shift=2).reshape(300, 16, 16)
    peaks = moved.flatten(1).argmax(1)
    rows, columns = peaks // 16, peaks % 16
    assert set(rows.tolist()) == set(columns.tolist()) == set(range(5, 11))
    assert (moved.sum((1, 2)) == 1).all()


def test_augmentation_repeats_with_its_seed():
    stamps = torch.randn(10, 2, 8, 8)
    assert torch.equal(augment(stamps, generator(3)), augment(stamps, generator(3)))
    assert not torch.equal(augment(stamps, generator(3)), augment(stamps, generator(4)))
