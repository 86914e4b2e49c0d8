"""The accuracy of a classifier, and that with more labels."""

from functools import cache

import numpy as np
import pytest
from sklearn.metrics import balanced_accuracy_score

from skastro import AccuracyEstimate, KernelProbe, estimate_accuracy, forecast_labels


def draw(n, seed, *, shares=(0.7, 0.3), distance=2.0):
    """Draw columns and classes of objects."""
    rng = np.random.default_rng(seed)
    codes = rng.choice(len(shares), n, p=shares)
    X = rng.normal(size=(n, 6))
    X[np.arange(n), codes] += distance
    return X, codes


@cache
def look(seed, n=60, *, chosen=True):
    """Label n of 600 objects, one in six at random; return what is known, and the true accuracy."""
    X, codes = draw(2600, seed)
    rng = np.random.default_rng(seed)
    is_random = np.arange(n) % 6 == 0 if chosen else np.full(n, True)
    rows = list(range(n if not chosen else 12))
    while len(rows) < n:
        # one at random, then the next five that the probe is least sure of
        probe = KernelProbe().fit(X[rows], codes[rows])
        rows.append(int(rng.choice(np.setdiff1d(np.arange(600), rows))))
        free = np.setdiff1d(np.arange(600), rows)
        unsure = np.abs(probe.predict_proba(X[free])[:, 0] - 0.5)
        rows += free[unsure.argsort()[:5]].tolist()
    probe = KernelProbe().fit(X[rows], codes[rows])
    free = np.setdiff1d(np.arange(600), rows)
    truth = balanced_accuracy_score(codes[600:], probe.predict(X[600:]))
    known = codes[rows], probe.loo_probabilities_, is_random
    return known, probe.predict_proba(X[free]), truth


def test_interval_holds_the_truth_although_labels_are_chosen():
    held, widths, errors, naive = [], [], [], []
    for seed in range(8):
        known, population, truth = look(seed)
        found = estimate_accuracy(*known, population=population)
        held.append(found.low <= truth <= found.high)
        widths.append(found.high - found.low)
        errors.append(found.value - truth)
        predicted = known[1].argmax(axis=1)
        naive.append(balanced_accuracy_score(known[0], predicted) - truth)
        assert found.n == 10
        assert 0 <= found.low < found.value < found.high <= 1
    assert np.mean(held) >= 0.8
    assert np.mean(widths) < 0.35
    assert abs(np.mean(errors)) < 0.5 * abs(np.mean(naive))  # difficult ones were chosen


def test_interval_of_random_labels_alone_is_wider_but_holds_too():
    held, widths = [], []
    for seed in range(8):
        known, population, truth = look(seed)
        alone, found = estimate_accuracy(*known), estimate_accuracy(*known, population=population)
        widths.append((alone.high - alone.low) / (found.high - found.low))
        held.append(alone.low <= truth <= alone.high)
    assert np.mean(held) >= 0.7
    assert np.median(widths) > 1.2


def test_perfect_predictions_are_not_taken_for_certain():
    codes = np.arange(40) % 2
    probabilities = np.where(np.eye(2)[codes] > 0, 0.999, 0.001)
    random = np.arange(40) % 6 == 0
    for population in (None, np.tile(probabilities, (10, 1))):
        found = estimate_accuracy(codes, probabilities, random, population=population)
        assert 0.3 < found.low < 0.97
        assert found.low < found.value <= found.high <= 1


def test_more_coverage_and_fewer_labels_widen_the_interval():
    known, population, _ = look(0, n=120, chosen=False)
    narrow, wide = (
        estimate_accuracy(*known, population=population, coverage=c) for c in (0.5, 0.95)
    )
    assert wide.low < narrow.low < narrow.high < wide.high
    few = estimate_accuracy(*(part[:30] for part in known), population=population)
    many = estimate_accuracy(*known, population=population)
    assert few.deviation > many.deviation


def test_classes_without_a_label_do_not_count():
    (codes, probabilities, is_random), population, _ = look(0)
    expected = estimate_accuracy(codes, probabilities, is_random, population=population)
    padded = [np.insert(p, 1, 0.0, axis=1) for p in (probabilities, population)]
    found = estimate_accuracy(2 * codes, padded[0], is_random, population=padded[1])
    assert found == expected


@pytest.mark.parametrize(
    ("rows", "is_random"), [(slice(9), True), (slice(60), False)], ids=["few", "none at random"]
)
def test_nothing_is_said_without_enough_labels(rows, is_random):
    (codes, probabilities, _), population, _ = look(0)
    codes = codes[rows]
    drawn = np.full(len(codes), is_random)
    found = estimate_accuracy(codes, probabilities[rows], drawn, population=population)
    assert np.isnan([found.value, found.low, found.high, found.deviation]).all()


def test_forecast_holds_the_later_accuracy():
    held, gains = [], []
    for seed in range(5):
        X, codes = draw(2400, seed)
        labels = np.where(np.arange(2400) < 60, codes, -1)
        labels[400:] = -1
        forecast = forecast_labels(X[:400], labels[:400], label_counts=[60, 300])
        probe = KernelProbe().fit(X[:300], codes[:300])
        later = balanced_accuracy_score(codes[400:], probe.predict(X[400:]))
        first, row = forecast.table.iloc[0], forecast.table.iloc[1]
        held.append(row["low"] <= later <= row["high"])
        gains.append(row["mean"] - first["mean"])
    assert np.mean(held) >= 0.8
    assert min(gains) > 0


def test_forecast_begins_at_the_present_accuracy():
    X, codes = draw(80, 0)
    now = AccuracyEstimate(0.8, 0.72, 0.87, 0.046, 12)
    forecast = forecast_labels(X, codes, now=now, label_counts=[80, 160, 400])
    first, second, last = (row for _, row in forecast.table.iterrows())
    assert first["mean"] == pytest.approx(0.8, abs=0.005)
    assert first["low"] == pytest.approx(0.72, abs=0.01)
    assert first["mean"] < second["mean"] < last["mean"] < 1
    text = f"0.80 now; 80 more labels: {second['low']:.2f} to {second['high']:.2f}"
    assert forecast.summary() == text
    assert repr(forecast) == f"<LabelForecast from 80 labels: {text}>"


def test_same_seed_gives_the_same_forecast():
    X, codes = draw(80, 0)
    tables = [forecast_labels(X, codes, random_state=seed).table for seed in (1, 1, 2)]
    assert tables[0].equals(tables[1])
    assert not tables[0].equals(tables[2])
    assert tables[0]["n_labels"].tolist() == [80, 100, 120, 160, 240, 400]


def test_classes_of_one_label_do_no_harm():
    X, codes = draw(60, 0)
    codes[7] = 2
    forecast = forecast_labels(X, codes)
    assert np.isfinite(forecast.table.to_numpy()).all()


def test_too_few_labels_have_no_forecast():
    X, _ = draw(300, 1)
    labels = np.where(np.arange(300) < 8, np.arange(300) % 2, -1)
    forecast = forecast_labels(X, labels)
    assert forecast.table[["mean", "low", "high"]].isna().all(axis=None)
    assert forecast.summary() == "More labels are needed to say how good the classifier is."


def test_unusable_arguments_are_refused():
    (codes, probabilities, is_random), _, _ = look(0)
    with pytest.raises(ValueError, match="codes, probabilities and is_random have shapes"):
        estimate_accuracy(codes[1:], probabilities, is_random)
    with pytest.raises(ValueError, match="codes must be between 0 and 1"):
        estimate_accuracy(codes - 1, probabilities, is_random)
    with pytest.raises(ValueError, match=r"coverage=1 must be between 0 and 1"):
        estimate_accuracy(codes, probabilities, is_random, coverage=1)
    with pytest.raises(ValueError, match=r"population has shape \(4, 3\)"):
        estimate_accuracy(codes, probabilities, is_random, population=np.ones((4, 3)) / 3)
    X, codes = draw(60, 0)
    with pytest.raises(ValueError, match=r"is_random has shape \(2,\): pass \(60,\)"):
        forecast_labels(X, codes, is_random=[True, False])
    with pytest.raises(ValueError, match="label_counts"):
        forecast_labels(X, codes, label_counts=[0])
