import pytest
import torch

from skastro.simulation.draws import Draws


def test_the_same_seed_draws_the_same_numbers():
    one, two, other = (Draws(5, seed).normal(2.0, (3, 1)) for seed in (1, 1, 2))
    assert torch.equal(one, two)
    assert not torch.equal(one, other)


def test_uniform_numbers_lie_between_their_limits():
    numbers = Draws(2000, 0).uniform(-1.0, 3.0)
    assert numbers.shape == (2000, 1, 1)
    assert numbers.min() >= -1
    assert numbers.max() <= 3
    assert numbers.mean() == pytest.approx(1.0, abs=0.1)


def test_log_uniform_numbers_have_uniform_logarithms():
    numbers = Draws(2000, 0).log_uniform(1.0, 100.0)
    assert numbers.median() == pytest.approx(10.0, rel=0.15)


def test_values_are_chosen_by_their_shares():
    chosen = Draws(2000, 0).choose([7.0, 9.0], [0.9, 0.1])
    assert set(chosen.flatten().tolist()) == {7.0, 9.0}
    assert (chosen == 7).float().mean() == pytest.approx(0.9, abs=0.03)


def test_something_happens_with_its_own_probability_in_each_stamp():
    probability = torch.tensor([0.0, 1.0]).repeat(100)[:, None, None]
    assert torch.equal(Draws(200, 0).happens(probability), probability)


def test_a_texture_is_smooth_between_its_cells():
    texture = Draws(50, 0).texture(4, 64)
    step = (texture[:, :, 1:] - texture[:, :, :-1]).std()
    assert texture.shape == (50, 64, 64)
    assert step < 0.2 * texture.std()
