import math

import pytest
import torch

from skastro.simulation import structure
from skastro.simulation.draws import Draws

KINDS = {"elliptical": 0, "lenticular": 1, "spiral": 2, "irregular": 3, "dwarf": 4}


def place(kind, n=64, size=64, seed=0):
    draws = Draws(n, seed)
    return draws, structure.place_galaxies(draws, size, torch.full((n, 1, 1), KINDS[kind]))


@pytest.mark.parametrize("kind", KINDS)
def test_all_parts_are_finite_and_never_negative(kind):
    draws, galaxies = place(kind)
    disc = structure.draw_disc(draws, galaxies)
    bar, of_bar = structure.draw_bar(draws, galaxies)
    maps = [
        structure.draw_spheroid(draws, galaxies)[0], disc.smooth, disc.young, bar,
        structure.draw_rings(draws, galaxies, of_bar, disc.texture)[0],
        structure.draw_knots(draws, galaxies, disc)[0],
        *structure.draw_companion(draws, galaxies), structure.draw_dust(draws, galaxies, disc),
    ]  # fmt: skip
    for light in maps:
        assert light.shape == (64, 64, 64)
        assert light.isfinite().all()
        assert light.min() >= 0


def test_an_inclined_disc_is_seen_flat():
    draws, galaxies = place("spiral", n=400)
    disc = structure.draw_disc(draws, galaxies).smooth
    disc = disc / disc.sum((1, 2), keepdim=True)
    flattening = ((disc * galaxies.y**2).sum((1, 2)) / (disc * galaxies.x**2).sum((1, 2))).sqrt()
    cosine = galaxies.cosine.flatten()
    assert flattening[cosine < 0.2].median() < 0.4
    assert flattening[cosine > 0.9].median() > 0.8


def test_arms_wind_by_their_pitch_and_number():
    draws, galaxies = place("spiral", n=200)
    disc = structure.draw_disc(draws, galaxies)
    # along a circle the phase makes as many turns as there are arms
    ring = (galaxies.rho - galaxies.scale).abs() < 0.7
    row = int(torch.argmax(galaxies.cosine.flatten() - galaxies.perturbation.flatten()))
    turns = disc.phase[row][ring[row]]
    expected = float(disc.number[row]) * 2 * math.pi
    assert float(turns.max() - turns.min()) == pytest.approx(expected, rel=0.35)


def test_only_barred_galaxies_have_the_light_of_a_bar():
    draws, galaxies = place("spiral", n=200)
    bar, truth = structure.draw_bar(draws, galaxies)
    barred = truth["barred"].flatten() > 0
    assert 0.3 < barred.float().mean() < 0.6
    torch.testing.assert_close(bar.sum((1, 2)), truth["bar"].flatten())
    assert (bar[~barred] == 0).all()


def test_ellipticals_have_neither_bar_nor_ring_nor_dust():
    draws, galaxies = place("elliptical")
    disc = structure.draw_disc(draws, galaxies)
    bar, truth = structure.draw_bar(draws, galaxies)
    rings, _ = structure.draw_rings(draws, galaxies, truth, disc.texture)
    for light in (bar, rings, structure.draw_dust(draws, galaxies, disc), disc.young):
        assert (light == 0).all()


def test_gaussians_are_placed_where_they_are_asked_for():
    x = torch.tensor([[[3.5]], [[-8.5]]])
    y = torch.tensor([[[0.5]], [[2.5]]])
    light = structure.splat(x, y, torch.ones(2, 1, 1), torch.tensor([[[2.0]], [[5.0]]]), 32)
    assert divmod(int(light[0].argmax()), 32) == (16, 19)
    assert divmod(int(light[1].argmax()), 32) == (18, 7)
    assert light.amax((1, 2)).tolist() == [2.0, 5.0]
