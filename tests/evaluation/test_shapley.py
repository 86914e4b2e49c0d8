from itertools import combinations
from math import comb

import numpy as np
import pytest

from skastro import KernelProbe
from skastro.evaluation import shapley
from skastro.evaluation.shapley import PropertyShapley

RNG = np.random.default_rng(0)
COLUMNS = RNG.normal(size=(150, 6))  # an embedding of two columns, and four properties
COLUMNS[:, 0] += 2 * COLUMNS[:, 2]
COLUMNS[:, 5] = 3 * COLUMNS[:, 2] + 0.1 * RNG.normal(size=150)
LABELS = np.where(COLUMNS[:, 2] + 0.3 * COLUMNS[:, 3] > 0, "a", "b")
NAMES = {2: "flux", 3: "size", 4: "noise", 5: "flux_again"}


@pytest.fixture(scope="module")
def properties():
    probe = KernelProbe(4).fit(COLUMNS, LABELS)
    return PropertyShapley(probe, NAMES, np.unique(LABELS, return_inverse=True)[1])


def test_contributions_add_up_and_name_what_decides(properties):
    base, added, known = properties.explain(COLUMNS[:20], np.zeros(20, int))
    np.testing.assert_allclose(base + added.sum(axis=1), known)
    assert base == pytest.approx(base[0])
    flux, size, noise = np.abs(added).mean(axis=0)
    assert flux > size > 2 * noise
    # the embedding repeats the flux: what is known is all
    full = properties.probe.predict_proba(COLUMNS[:20])[:, 0]
    assert np.corrcoef(known, full)[0, 1] > 0.95


def test_correlated_properties_stand_under_the_first_name(properties):
    assert properties.names_ == ["flux", "size", "noise"]
    assert properties.columns_.tolist() == [2, 3, 4]


def test_exact_values_are_those_of_the_definition(properties):
    base, added, _ = properties.explain(COLUMNS[:1], [0])

    def worth(known):
        columns = properties.columns_[list(known)]
        mean, spread = properties._mean, properties._covariance
        away = properties._scale_rows(COLUMNS[:1])[0, columns] - mean[columns]
        matrix = spread[np.ix_(columns, columns)] * (1 + 0.1 * np.eye(len(columns)))
        row = mean + np.linalg.solve(matrix, away) @ spread[columns]
        return properties.probe.predict_proba(properties._restore(row[None]))[0, 0]

    assert base[0] == pytest.approx(worth([]))
    for player in range(3):
        others = [k for k in range(3) if k != player]
        value = sum(
            (worth([*known, player]) - worth(known)) / (3 * comb(2, size))
            for size in range(3)
            for known in combinations(others, size)
        )
        assert added[0, player] == pytest.approx(value)


def test_sampled_values_are_close_to_the_exact_ones(properties, monkeypatch):
    base, exact, known = properties.explain(COLUMNS[:10], np.zeros(10, int))
    monkeypatch.setattr(shapley, "_MAX_EXACT", 0)
    monkeypatch.setattr(shapley, "_MAX_CHUNK", 1)  # one object at a time
    sampled = properties.explain(COLUMNS[:10], np.zeros(10, int), random_state=1)
    np.testing.assert_allclose(sampled[0], base)
    np.testing.assert_allclose(sampled[1], exact, atol=0.05)
    np.testing.assert_allclose(sampled[0] + sampled[1].sum(axis=1), known)


def test_a_changed_property_takes_the_embedding_along(properties):
    changed = properties.change(COLUMNS[:5], "flux", 2.0)
    np.testing.assert_allclose(changed[:, 2], 2.0)
    moved = (changed - COLUMNS[:5])[:, 0] / (2.0 - COLUMNS[:5, 2])
    assert moved == pytest.approx(2, abs=0.3)
    assert (properties.probe.predict(changed) == "a").mean() > 0.7


def test_unknown_properties_count_as_typical(properties):
    row = COLUMNS[:1].copy()
    row[0, 2] = np.nan
    typical = row.copy()
    typical[0, 2] = properties.probe.groups_[0].center[0]
    for ours, theirs in zip(
        properties.explain(row, [0]), properties.explain(typical, [0]), strict=True
    ):
        np.testing.assert_allclose(ours, theirs)


def test_similarity_is_one_for_the_row_itself(properties):
    similar = properties.similarities(COLUMNS[:5])
    np.testing.assert_allclose(np.diag(similar[:, :5]), 1)
    assert similar.max() <= 1 + 1e-9


def test_other_representations_are_split_off():
    both = np.hstack([COLUMNS, COLUMNS[:, :3]])
    probe = KernelProbe(4, others=[(2, 1)]).fit(both, LABELS)
    properties = PropertyShapley(probe, {2: "flux", 8: "theirs"})
    np.testing.assert_allclose(np.diag(properties.similarities(both[:9])[:, :9]), 1)
    np.testing.assert_allclose(properties.change(both[:9], "flux", both[:9, 2]), both[:9])
    assert properties.names_ == ["flux"]  # the other one is the same
