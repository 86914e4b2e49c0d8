"""Simulated radio sources."""

import numpy as np
import pytest
import torch

from skastro import make_radio_sources
from skastro.simulation.draws import Draws
from skastro.simulation.radio import (
    RADIO_KINDS,
    RADIO_PROPERTIES,
    simulate_radio_sources,
)

SIZE = 48


@pytest.fixture(scope="module")
def sources():
    return make_radio_sources(800, image_size=SIZE)


def measure(images):
    """Return radius, rms length (pixels) and curvature of the brightest parts of square stamps."""
    light = np.where(images[:, 0] > 0.1, images[:, 0], 0)
    light = light / light.sum((1, 2), keepdims=True)
    axis = np.arange(light.shape[1]) - (light.shape[1] - 1) / 2
    position = np.stack(np.broadcast_arrays(axis, axis[:, None]))
    centre = np.einsum("nyx,cyx->nc", light, position)
    offset = position - centre[:, :, None, None]
    moments = np.einsum("nyx,ncyx,ndyx->ncd", light, offset, offset)
    values, vectors = np.linalg.eigh(moments)
    across, along = np.einsum("ncyx,nck->knyx", offset, vectors)
    length = np.sqrt(values[:, 1])
    radius = (light * np.hypot(*np.moveaxis(offset, 1, 0))).sum((1, 2))
    curvature = np.abs((light * across * along**2).sum((1, 2))) / length**3
    return radius, length, curvature


def test_the_stamps_and_their_truth_belong_together(sources):
    assert sources.images.shape == (800, 1, SIZE, SIZE)
    assert sources.images.dtype == np.float32
    assert np.isfinite(sources.images).all()
    np.testing.assert_allclose(sources.images.max((1, 2, 3)), 1, atol=0.06)
    assert list(sources.truth) == list(RADIO_PROPERTIES)
    assert sources.truth.attrs["units"] == {"length": "half frame", "bending": "deg"}
    assert sources.target_names == RADIO_KINDS
    shares = np.array([(sources.target == kind).mean() for kind in RADIO_KINDS])
    assert (shares > 0.15).all()


def test_the_truth_lies_in_its_range(sources):
    truth, target = sources.truth, sources.target
    shares = truth[["edge_brightening", "core_fraction", "flux_ratio"]]
    assert shares.min().min() >= 0
    assert shares.max().max() <= 1
    assert truth["bending"].dropna().between(0, 180).all()
    assert (truth[["length", "lobe_width"]].dropna() > 0).all(axis=None)
    assert truth["n_components"].between(0, 40).all()
    compact = target == "compact"
    unknown = ["bending", "edge_brightening", "flux_ratio", "lobe_width"]
    assert truth.loc[compact, unknown].isna().all(axis=None)
    assert truth.loc[~compact].notna().all(axis=None)


def test_the_kinds_differ_by_what_defines_them(sources):
    truth, target = sources.truth, sources.target
    assert truth.loc[target == "bent", "bending"].min() > 20
    assert truth.loc[np.isin(target, ["fr1", "fr2"]), "bending"].max() < 45
    fr1, fr2 = (truth.loc[target == kind, "edge_brightening"] for kind in ("fr1", "fr2"))
    assert fr1.max() <= 0.6 < fr2.min()
    assert truth.loc[target == "compact", "core_fraction"].eq(1).all()
    assert truth.loc[target == "compact", "n_components"].max() == 1


def test_the_structure_can_be_seen_in_the_stamps(monkeypatch):
    monkeypatch.setattr("skastro.simulation.radio._SIGNAL_TO_NOISE", (1000.0, 2000.0))
    monkeypatch.setattr("skastro.simulation.radio._BEAM", (1.5, 1.5))
    monkeypatch.setattr("skastro.simulation.radio._N_UNRELATED", 0)
    seen = make_radio_sources(500, image_size=SIZE)
    target, length = seen.target, seen.truth["length"].to_numpy() * SIZE / 2
    radius, extent, curvature = measure(seen.images)
    median = {kind: np.median((radius / length)[target == kind]) for kind in RADIO_KINDS}
    assert median["fr2"] > 1.4 * median["fr1"]
    bend = {kind: np.median(curvature[target == kind]) for kind in RADIO_KINDS}
    assert bend["bent"] > 1.5 * max(bend["fr1"], bend["fr2"])
    compact = target == "compact"
    assert np.quantile(extent[compact], 0.9) < np.quantile(extent[~compact], 0.3)
    # longer sources are longer on the stamp
    short, long = np.quantile(length[~compact], [1 / 3, 2 / 3])
    is_short, is_long = ~compact & (length < short), ~compact & (length > long)
    assert np.median(extent[is_long]) > 1.5 * np.median(extent[is_short])


def test_the_background_of_most_stamps_is_clipped(sources):
    empty = (sources.images == 0).mean((1, 2, 3))
    assert 0.6 < (empty > 0.9).mean() < 0.95
    assert 0.05 < (sources.images.min((1, 2, 3)) < 0).mean() < 0.3


def test_the_same_seed_gives_the_same_sources():
    one, two = (make_radio_sources(3, image_size=16, random_state=5) for _ in range(2))
    other = make_radio_sources(3, image_size=16, random_state=6)
    np.testing.assert_array_equal(one.images, two.images)
    assert one.truth.equals(two.truth)
    assert not np.array_equal(one.images, other.images)


@pytest.mark.parametrize("size", [16, 33, 96])
def test_stamps_of_any_size(size):
    stamps, truth = simulate_radio_sources(Draws(5, 0), size)
    assert stamps.shape == (5, 1, size, size)
    assert stamps.dtype == torch.float32
    assert torch.isfinite(stamps).all()
    assert {len(value) for value in truth.values()} == {5}


def test_the_global_generator_is_left_alone():
    torch.manual_seed(0)
    before = torch.get_rng_state()
    simulate_radio_sources(Draws(2, 1), 16)
    assert torch.equal(before, torch.get_rng_state())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"n_sources": 0}, "n_sources=0 must be a whole number of at least 1"),
        ({"n_sources": 2, "image_size": 8}, "image_size=8 must be a whole number of at least 16"),
    ],
)
def test_arguments_out_of_range(arguments, message):
    with pytest.raises(ValueError, match=message):
        make_radio_sources(**arguments)
