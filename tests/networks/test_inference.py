import threading

import numpy as np
import pytest
import torch
from torch import nn

from skastro.networks.backbones import StampNetwork
from skastro.networks.inference import run
from skastro.stamps.arrays import read_ahead
from tests.networks.with_statistics import network


def test_running_averages_over_views_and_keeps_rows_apart():
    stamps = np.random.default_rng(0).normal(size=(7, 1, 3, 3)).astype(np.float32)
    corner = lambda _, batch: batch[:, :, 0, 0]  # noqa: E731
    reports = []
    one = run(
        nn.Identity(), stamps, corner, batch_size=4, average_views=False, progress=reports.append
    )
    assert reports == [4, 7]
    np.testing.assert_array_equal(one[:, 0], stamps[:, 0, 0, 0])
    mean = run(nn.Identity(), stamps, corner, batch_size=4, average_views=True)
    corners = stamps[:, 0, [0, 0, 2, 2], [0, 2, 0, 2]].mean(1)
    np.testing.assert_allclose(mean[:, 0], corners, rtol=1e-5, atol=1e-6)


def embed(net, stamps, **options):
    options = {"batch_size": 8, "average_views": False, "precision": "float32", **options}
    return run(net, stamps, StampNetwork.embed, **options)


def some_stamps(n=20):
    return np.random.default_rng(0).normal(size=(n, 3, 16, 16)).astype(np.float32)


def test_running_does_not_change_the_network_and_uses_new_weights():
    net, stamps = network(), some_stamps()
    first = embed(net, stamps)
    assert any(isinstance(part, nn.BatchNorm2d) for part in net.modules())
    np.testing.assert_array_equal(embed(net, stamps), first)
    with torch.no_grad():
        net.backbone.body.conv1.weight.mul_(2.0)
    second = embed(net, stamps)
    assert not np.allclose(second, first)
    net.backbone.body.conv1.weight.data = net.backbone.body.conv1.weight.data / 2
    np.testing.assert_allclose(embed(net, stamps), first, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_numbers_do_not_depend_on_the_batch_size(precision):
    net, stamps = network(), some_stamps()
    close = {"float32": 1e-5, "bfloat16": 1e-2}[precision]
    expected = embed(net, stamps, precision=precision)
    other = embed(net, stamps, precision=precision, batch_size=3)
    np.testing.assert_allclose(other, expected, rtol=close, atol=close * expected.std())


class Lazy:
    """An array that records which rows are read, and in which thread."""

    def __init__(self, stamps):
        self.stamps, self.reads, self.threads = stamps, [], set()
        self.shape, self.dtype = stamps.shape, stamps.dtype

    def __len__(self):
        return len(self.stamps)

    def __getitem__(self, rows):
        self.reads.append(rows)
        self.threads.add(threading.get_ident())
        return self.stamps[rows]


def test_lazy_stamps_are_read_one_batch_ahead_in_another_thread():
    lazy = Lazy(some_stamps())
    parts = [slice(start, start + 5) for start in range(0, 20, 5)]
    for number, stamps in enumerate(read_ahead(lazy, parts)):
        np.testing.assert_array_equal(stamps, lazy.stamps[parts[number]])
        assert len(lazy.reads) <= number + 2
    assert lazy.reads == parts
    assert threading.get_ident() not in lazy.threads
    np.testing.assert_array_equal(embed(network(), lazy), embed(network(), lazy.stamps))


def test_an_error_of_reading_ahead_is_raised_at_its_batch():
    stamps = some_stamps()
    stamps[12] = np.nan
    read = read_ahead(Lazy(stamps), [slice(0, 10), slice(10, 20)])
    assert len(next(read)) == 10
    with pytest.raises(ValueError, match="row 12"):
        next(read)
