import joblib
import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose
from pandas.testing import assert_frame_equal
from sklearn.base import BaseEstimator, ClassifierMixin, clone
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression

from skastro import (
    LinearProbe,
    PropertyPretrainedEncoder,
    label_efficiency_curve,
    property_ablation,
)
from skastro.evaluation.label_efficiency import LabelEfficiencyCurve
from skastro.evaluation.property_ablation import PropertyAblation
from tests.conftest import tiny_encoder

COUNTS = [6, 20]
SETS = {"magnitudes": "mag_*", "size": ["size"], "both": ["size", "measured"], "untrained": []}


class ProbeByHand(ClassifierMixin, BaseEstimator):
    """Pretrain on all properties, and embed anew for each fit."""

    def __init__(self, encoder):
        self.encoder = encoder

    def pretrain(self, X, *, properties=None, property_errors=None):  # noqa: ARG002
        encoder = clone(self.encoder).fit(X, properties=properties)
        return ProbeByHand(FrozenEstimator(encoder))

    def fit(self, X, y):
        self.probe_ = LinearProbe().fit(self.encoder.transform(X), y)
        self.classes_ = self.probe_.classes_
        return self

    def predict(self, X):
        return self.probe_.predict(self.encoder.transform(X))


@pytest.fixture
def fits(monkeypatch):
    """Return a list to which every pretraining appends its arguments."""
    calls = []
    plain = PropertyPretrainedEncoder.fit

    def fit(self, X, y=None, *, properties=None, property_errors=None):
        calls.append({"encoder": self, "X": X, "table": properties, "errors": property_errors})
        return plain(self, X, y, properties=properties, property_errors=property_errors)

    monkeypatch.setattr(PropertyPretrainedEncoder, "fit", fit)
    return calls


def ablate(survey, sets=None, **params):
    stamps, labels, properties = survey
    defaults = {"properties": properties, "label_counts": COUNTS, "n_repeats": 2, "random_state": 0}
    sets = SETS if sets is None else sets
    return property_ablation(
        tiny_encoder(max_epochs=1, average_views=False),
        stamps,
        labels,
        sets=sets,
        **{**defaults, **params},
    )


# pretraining and probes


def test_each_set_is_pretrained_on_its_own_properties(survey, fits):
    ablation = ablate(survey, label_counts=[6], n_repeats=1)
    assert ablation.sets == {
        "magnitudes": ["mag_u", "mag_g", "mag_r"],
        "size": ["size"],
        "both": ["size", "measured"],
        "untrained": [],
    }
    assert [fit["encoder"].property_source_ for fit in fits] == [
        "catalog", "catalog", "catalog+measured", "measured",
    ]  # fmt: skip
    assert fits[0]["encoder"].property_names_ == ["mag_u", "mag_g", "mag_r"]
    assert "measured_mag_band0" in fits[2]["encoder"].measured_names_
    assert fits[3]["encoder"].history_ == []
    assert len({fit["encoder"].seed_ for fit in fits}) == 1


def test_errors_go_with_their_properties(survey, fits):
    errors = survey[2] * 0 + [0.1, 0.2, 0.3, 0.4]
    ablate(survey, {"red": ["size", "mag_r"]}, property_errors=errors)
    assert list(fits[0]["table"].columns) == ["mag_r", "size"]
    assert_allclose(np.unique(fits[0]["errors"], axis=0), [[0.3, 0.4]])


def test_test_rows_and_their_groups_are_not_pretrained_on(survey, fits):
    stamps, labels, properties = survey
    rows = np.arange(len(stamps))
    marked = (stamps, labels, properties.assign(row=rows))
    groups = rows // 4
    ablation = ablate(
        marked, {"a": ["row"], "b": ["row", "size"]}, groups=groups, n_splits=2, n_repeats=1
    )
    assert ablation.curve.scores["split"].nunique() == 2
    pools = [set(fit["table"]["row"]) for fit in fits]
    assert pools[0] == pools[1] != pools[2]
    for pool in pools:
        inside = {int(row) // 4 for row in pool}
        outside = {row // 4 for row in rows if row not in pool}
        assert not inside & outside
        assert 0.2 < 1 - len(pool) / len(rows) < 0.4


def test_unlabelled_rows_are_pretrained_on(survey, fits):
    stamps, labels, properties = survey
    labels = labels.copy()
    labels[:20] = ""
    ablate((stamps, labels, properties), {"size": "size"}, label_counts=[6])
    assert len(fits[0]["X"]) == 60 - 12


def test_scores_are_those_of_the_label_efficiency_curve(survey):
    stamps, labels, properties = survey
    encoder = tiny_encoder(max_epochs=1, average_views=False, targets="catalog")
    by_hand = label_efficiency_curve(
        {"all": ProbeByHand(encoder)},
        stamps,
        labels,
        label_counts=COUNTS,
        n_repeats=2,
        properties=properties,
        random_state=0,
    )
    ablation = ablate(survey, {"all": "*"})
    columns = ["n_labels", "split", "repeat", "score"]
    assert_frame_equal(ablation.scores[columns], by_hand.scores[columns])


def test_probes_may_run_at_the_same_time(survey):
    with joblib.parallel_config(backend="threading"):
        scores = [ablate(survey, {"size": "size"}, n_jobs=n).scores for n in (1, 2)]
    assert_frame_equal(*(table.drop(columns="fit_seconds") for table in scores))


def test_encoder_without_a_seed_uses_random_state(survey):
    stamps, labels, properties = survey
    encoder = tiny_encoder(max_epochs=1, average_views=False, random_state=None)
    first, second = (
        property_ablation(
            encoder, stamps, labels, properties=properties, sets={"size": "size"},
            label_counts=[10], n_repeats=1, random_state=5,
        ).scores.drop(columns="fit_seconds")
        for _ in range(2)
    )  # fmt: skip
    assert_frame_equal(first, second)


def test_progress_counts_pretrainings_and_probes(survey):
    steps = []
    ablate(survey, {"size": "size"}, progress=lambda *step: steps.append(step))
    assert steps == [(number, 5) for number in range(1, 6)]


# the result


def make_ablation(noise=0.0):
    rng = np.random.default_rng(0)
    shifts = rng.normal(scale=0.1, size=(2, 8))
    records = [
        (name, n, 0, repeat, "accuracy", 0.5 + gain + shifts[i, repeat] + noise * rng.normal())
        for name, gain in (("all", 0.1), ("sizes", 0.0))
        for i, n in enumerate((10, 30))
        for repeat in range(8)
    ]
    columns = ["estimator", "n_labels", "split", "repeat", "metric", "score"]
    curve = LabelEfficiencyCurve.from_scores(pd.DataFrame(records, columns=columns))
    return PropertyAblation(curve, {"all": ["r", "r50"], "sizes": ["r50"]}, "all")


def test_differences_are_paired():
    summary = make_ablation(noise=0.001).summary().set_index(["set", "n_labels"])
    assert_allclose(summary.loc["all", "difference"], 0.0)
    assert_allclose(summary.loc["sizes", "difference"], -0.1, atol=0.002)
    # the shifts of the draws, which both share, widen the intervals of the means only
    width = summary["difference_high"] - summary["difference_low"]
    assert (width < 0.01 * 8**-0.5 * 2).all()
    assert (summary["high"] - summary["low"] > 0.05).all()


def test_interval_is_wider_with_a_higher_confidence():
    ablation = make_ablation(noise=0.05)
    narrow, wide = (
        ablation.summary(confidence=c).set_index("set").loc["sizes"] for c in (0.5, 0.99)
    )
    assert (narrow["difference_low"] > wide["difference_low"]).all()


def test_repr_shows_the_means():
    assert "2 sets, compared with 'all'" in repr(make_ablation())
    assert "sizes" in repr(make_ablation())


@pytest.mark.parametrize(
    ("sets", "reference"),
    [
        ({"a": "size", "b": "*"}, "b"),
        ({"a": "mag_*", "b": ["mag_*", "measured"], "c": "measured"}, "b"),
        ({"a": "size", "b": "mag_u"}, "a"),
    ],
)
def test_default_reference_is_the_set_with_most_entries(survey, sets, reference):
    assert ablate(survey, sets, label_counts=[6], n_repeats=1).reference == reference


# errors


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"sets": {}}, "sets must be a dict of name to columns"),
        (
            {"sets": {"a": "sise"}},
            r"sets\['a'\]='sise' matches no column of properties: did you mean size",
        ),
        ({"reference": "none"}, "reference='none' is not a set: choose from"),
        ({"label_counts": [1]}, "label_counts asks for 1 labels of 2 classes"),
    ],
)
def test_wrong_arguments_are_named(survey, params, message):
    with pytest.raises(ValueError, match=message):
        ablate(survey, **params)


def test_metric_must_have_been_scored():
    with pytest.raises(ValueError, match=r"metric='f1' was not scored"):
        make_ablation().summary("f1")


def test_a_column_may_not_be_called_measured(survey):
    stamps, labels, properties = survey
    with pytest.raises(ValueError, match="properties has a column 'measured'"):
        ablate((stamps, labels, properties.assign(measured=1.0)))


def test_lengths_must_agree(survey):
    stamps, labels, properties = survey
    with pytest.raises(ValueError, match="X has 60 stamps, but y has 50 labels"):
        ablate((stamps, labels[:50], properties))


@pytest.mark.parametrize("encoder", [LogisticRegression(), LinearProbe()])
def test_encoder_must_be_a_property_pretrained_encoder(survey, encoder):
    stamps, labels, properties = survey
    for wrong in (encoder, FrozenEstimator(encoder)):
        with pytest.raises(TypeError, match="pass a PropertyPretrainedEncoder"):
            property_ablation(
                wrong, stamps, labels, properties=properties, sets=SETS, label_counts=[6]
            )
