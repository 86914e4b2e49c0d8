import copy
import pickle

import numpy as np
import pandas as pd
import pytest
import torch
from astropy.table import Table
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.base import clone
from torch import nn

from skastro import PropertyPretrainedEncoder, measure_properties
from skastro.stamps.bands import BandArray
from tests.conftest import make_stamps, tiny_encoder


def weights_of(encoder):
    return torch.cat([p.detach().flatten() for p in encoder.network_.parameters()])


def test_embeddings_are_standardised_float32(survey, fitted):
    embeddings = fitted.transform(survey[0])
    assert embeddings.shape == (60, 256)
    assert embeddings.dtype == np.float32
    assert_allclose(embeddings.mean(0), 0, atol=1e-4)
    spread = embeddings.std(0)
    assert_allclose(spread[spread > 0], 1, rtol=1e-3)


def test_predictions_are_in_catalogue_units_and_named(survey, fitted):
    stamps, _, properties = survey
    predicted = fitted.predict(stamps)
    assert list(predicted) == list(properties)
    assert_allclose(predicted.median(), properties.median(), atol=2.0)


@pytest.mark.slow
def test_the_pretext_is_learned_on_unseen_stamps():
    stamps, _, properties = make_stamps(400, side=16)
    encoder = tiny_encoder(max_epochs=12).fit(stamps[:300], properties=properties[:300])
    assert encoder.score(stamps[300:], properties=properties[300:]) > 0.5
    losses = [row["train_loss"] for row in encoder.history_]
    assert losses[-1] < 0.5 * losses[0]


@pytest.mark.parametrize(
    ("y", "given", "source", "names"),
    [
        (None, True, "catalog+measured", {"mag_u", "size", "measured_ellipticity"}),
        ("labels", True, "catalog+measured", {"mag_u", "size", "measured_ellipticity"}),
        ("continuous", True, "catalog+measured", {"mag_u", "size", "measured_ellipticity"}),
        ("continuous", False, "y", {"property_0"}),
        ("labels", False, "measured", {"mag_band0", "ellipticity"}),
        ("codes", False, "measured", {"mag_band0", "ellipticity"}),
        (None, False, "measured", {"mag_band0", "ellipticity"}),
    ],
)
def test_auto_regresses_all_properties_and_no_labels(survey, y, given, source, names):
    stamps, labels, properties = survey
    sizes, codes = properties["size"].to_numpy() + 0.01, (labels == "star").astype(int)
    y = {"labels": labels, "codes": codes, "continuous": sizes, None: None}[y]
    encoder = tiny_encoder(max_epochs=0)
    encoder.fit(stamps, y, properties=properties if given else None)
    assert encoder.property_source_ == source
    predicted = set(encoder.predict(stamps[:1]))
    assert names <= predicted
    assert not {"sky", "measured_sky", "peak_offset"} & predicted


def test_catalogue_and_measured_properties_together(survey):
    stamps, _, properties = survey
    encoder = tiny_encoder(targets="catalog+measured", max_epochs=1)
    encoder.fit(stamps, properties=properties, property_errors=np.full(properties.shape, 0.1))
    assert encoder.property_names_ == list(properties)
    assert "measured_ellipticity" in encoder.measured_names_
    names = encoder.property_names_ + encoder.measured_names_
    assert list(encoder.predict(stamps)) == names
    assert np.isfinite(encoder.score(stamps, properties=properties))
    with pytest.raises(ValueError, match="pass properties= along with X"):
        tiny_encoder(targets="catalog").fit(stamps)


def test_measured_properties_that_repeat_the_catalogue_are_left_out(survey):
    stamps = survey[0]
    encoder = tiny_encoder(max_epochs=0)
    catalog = measure_properties(stamps)[["mag_band0"]].rename(columns={"mag_band0": "brightness"})
    encoder.fit(stamps, properties=catalog, property_errors=catalog * 0)
    names = encoder.measured_names_
    assert encoder.property_names_ == ["brightness"]
    assert "measured_mag_band0" not in names
    assert {"measured_mag_band1", "measured_concentration"} <= set(names)
    assert encoder.property_units_["measured_mag_band1"] == "mag"
    catalog.iloc[::5] = np.nan  # now the catalogue has too many gaps
    assert "measured_mag_band0" in encoder.fit(stamps, properties=catalog).measured_names_
    twins = catalog.assign(
        measured_ellipticity=-catalog["brightness"]
    )  # the name of a measured one
    encoder.fit(stamps, properties=twins)
    predicted = list(encoder.predict(stamps[:1]))
    assert predicted[:2] == ["brightness", "measured_ellipticity"]
    assert predicted.count("measured_ellipticity") == 1


def test_units_of_a_table_are_kept(survey):
    stamps, _, properties = survey
    table = Table(properties.to_numpy(), names=list(properties), units={"size": "arcsec"})
    encoder = tiny_encoder(max_epochs=0).fit(stamps, properties=table)
    assert encoder.property_units_["size"] == "arcsec"
    assert encoder.predict(stamps).attrs["units"] == encoder.property_units_
    assert set(encoder.property_units_) <= set(encoder.predict(stamps))


def test_the_same_seed_gives_the_same_weights_and_touches_no_global_generator(survey):
    stamps, _, properties = survey
    torch.manual_seed(1)
    before = torch.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
    first = tiny_encoder().fit(stamps, properties=properties)
    torch.manual_seed(2)
    second = tiny_encoder().fit(stamps, properties=properties)
    other = tiny_encoder(random_state=1).fit(stamps, properties=properties)
    assert torch.equal(weights_of(first), weights_of(second))
    assert not torch.equal(weights_of(first), weights_of(other))
    torch.manual_seed(1)
    tiny_encoder(max_epochs=1).fit(stamps, properties=properties)
    assert torch.equal(torch.get_rng_state(), before[0])
    assert_array_equal(np.random.get_state()[1], before[1])  # noqa: NPY002


@pytest.mark.parametrize("batch_size", [1, 7, 200])
def test_embeddings_do_not_depend_on_the_batch_size(survey, fitted, batch_size):
    exact = clone_of(fitted).set_params(precision="float32")
    whole = exact.transform(survey[0])
    other = clone_of(exact).set_params(batch_size=batch_size)
    assert_allclose(other.transform(survey[0]), whole, rtol=5e-5, atol=1e-4)


def clone_of(fitted):
    other = clone(fitted)
    vars(other).update({k: v for k, v in vars(fitted).items() if k.endswith("_")})
    return other


def test_embeddings_do_not_depend_on_the_other_stamps(survey, fitted):
    stamps = survey[0]
    assert_array_equal(fitted.transform(stamps[3:4])[0], fitted.transform(stamps)[3])


@pytest.mark.parametrize("dtype", ["uint8", "float16", "float64", ">f4", ">i2"])
def test_stamps_of_every_dtype_train(survey, dtype):
    stamps = np.clip(survey[0], 0, 250).astype(dtype)
    encoder = tiny_encoder(max_epochs=1).fit(stamps)
    assert np.isfinite(encoder.transform(stamps)).all()
    assert_allclose(encoder.transform(stamps.astype("f4")), encoder.transform(stamps), atol=1e-5)


def test_the_memory_layout_makes_no_difference(survey, fitted, tmp_path):
    stamps = survey[0]
    expected = fitted.transform(stamps)
    strided = np.repeat(stamps, 2, axis=0)[::2]
    fixed = stamps.copy()
    fixed.flags.writeable = False
    np.save(tmp_path / "stamps.npy", stamps)
    mapped = np.load(tmp_path / "stamps.npy", mmap_mode="r")
    turned = np.ascontiguousarray(stamps.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2)
    for other in (strided, fixed, mapped, turned, torch.from_numpy(stamps), list(stamps)):
        assert_array_equal(fitted.transform(other), expected)
    assert_array_equal(
        weights_of(tiny_encoder().fit(mapped)), weights_of(tiny_encoder().fit(stamps))
    )


def test_the_unit_of_the_pixels_makes_no_difference(survey):
    stamps, _, properties = survey
    first = tiny_encoder().fit(stamps, properties=properties)
    scaled = tiny_encoder().fit(stamps * 1000 + 50, properties=properties)
    assert_allclose(scaled.history_[-1]["train_loss"], first.history_[-1]["train_loss"], rtol=0.05)


def test_missing_pixels_are_counted_and_harmless(survey):
    stamps = survey[0].copy()
    stamps[2, 0, :2] = np.nan
    encoder = tiny_encoder(max_epochs=1).fit(stamps)
    assert encoder.n_missing_pixels_ == 16
    assert np.isfinite(encoder.transform(stamps)).all()


def test_errors_name_the_stamps_that_cannot_be_used(survey, fitted):
    stamps = survey[0].copy()
    stamps[41] = np.nan
    for use in (tiny_encoder().fit, fitted.transform, fitted.predict):
        with pytest.raises(ValueError, match="no finite pixel in row 41"):
            use(stamps)
    stamps[41] = np.inf
    for use in (tiny_encoder().fit, fitted.transform):
        with pytest.raises(ValueError, match="infinite pixel in row 41"):
            use(stamps)
    with pytest.raises(ValueError, match=r"X has 2 bands, but .* was fitted with 3"):
        fitted.transform(survey[0][:, :2])
    with pytest.raises(ValueError, match="8 x 7 pixels"):
        fitted.transform(survey[0][..., :7])


def test_one_stamp_can_be_fitted_and_embedded(survey):
    stamps = survey[0][:1]
    encoder = tiny_encoder(max_epochs=1).fit(stamps)
    assert np.isfinite(encoder.transform(stamps)).all()


def test_properties_may_have_gaps(survey):
    stamps, _, properties = survey
    gappy = properties.copy()
    gappy.iloc[::2, 0] = np.nan
    gappy.iloc[5] = np.nan
    encoder = tiny_encoder().fit(stamps, properties=gappy)
    assert torch.isfinite(weights_of(encoder)).all()
    assert np.isfinite(encoder.score(stamps, properties=gappy))
    with pytest.raises(ValueError, match="properties has 3 columns, but the encoder was fitted"):
        encoder.score(stamps, properties=gappy.iloc[:, :3])


def test_true_properties_are_found_by_name_or_by_position(survey):
    stamps, _, properties = survey
    encoder = tiny_encoder(max_epochs=1).fit(stamps, properties=properties)
    score = encoder.score(stamps, properties=properties)
    assert encoder.score(stamps, properties=properties.iloc[:, ::-1].assign(more=1.0)) == score
    assert encoder.score(stamps, properties=properties.to_numpy()) == score


def test_sentinels_are_missing_values(survey):
    stamps, _, properties = survey
    gappy = properties.copy()
    gappy.iloc[:7, 0] = 99.0
    gappy.iloc[7, 1] = -9999
    with pytest.warns(UserWarning, match="8 sentinel values"):
        encoder = tiny_encoder(max_epochs=1).fit(stamps, properties=gappy)
    assert encoder.targets_.center[0] < 22


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"targets": "labels"}, "targets='labels' must be one of"),
        ({"max_epochs": -1}, "max_epochs=-1"),
        ({"max_epochs": "3"}, "max_epochs='3' must be a whole number of at least 0, or None"),
        ({"batch_size": 0}, "batch_size=0"),
        ({"learning_rate": 0}, "learning_rate=0"),
        ({"validation_fraction": 1.5}, "validation_fraction=1.5"),
        ({"validation_fraction": 0.001}, "leaves nothing"),
        ({"backbone": "resnet_999"}, "backbone='resnet_999' is unknown"),
        ({"loss": "hinge"}, "loss='hinge' is unknown"),
        ({"precision": "half"}, "precision='half'"),
    ],
)
def test_bad_parameters_are_refused(survey, params, message):
    with pytest.raises(ValueError, match=message):
        tiny_encoder(**params).fit(survey[0])


def test_the_validation_loss_is_recorded(survey):
    stamps, _, properties = survey
    encoder = tiny_encoder(validation_fraction=0.3, max_epochs=3)
    encoder.fit(stamps, properties=properties)
    assert all(np.isfinite(row["valid_loss"]) for row in encoder.history_)


def test_progress_is_printed_when_asked(survey, capsys):
    tiny_encoder(max_epochs=1).fit(survey[0])
    assert capsys.readouterr().out == ""
    tiny_encoder(max_epochs=2, verbose=1).fit(survey[0])
    heading, columns, *rows = capsys.readouterr().out.splitlines()
    assert heading == "Pretraining stamp_resnet10 on 60 stamps of 3 bands, 2 epochs"
    assert columns.split() == ["epoch", "loss", "seconds", "left"]
    assert [row.split()[0] for row in rows] == ["1", "2"]


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"device": "gpu"}, "device='gpu' is not there: this machine has 'cpu'"),
        ({"device": "cuda:77"}, "device='cuda:77' is not there: this machine has 'cpu'"),
        ({"backbone": "resnet18x"}, "did you mean .*resnet18"),
        ({"backbone": "hf-hub:timm/resnet18"}, "pass 'resnet18', its name in timm"),
        ({"weights": "imagenet"}, "needs a timm backbone"),
        ({"weights": "hf_hub:a/b"}, "weights='hf_hub:a/b' does not exist, and nothing is downl"),
        ({"weights": "w.pt"}, "weights='w.pt' does not exist"),
        ({"weights": "{other}"}, "other.safetensors' holds another architecture"),
    ],
)
def test_what_cannot_be_had_is_refused_before_anything_is_computed(
    survey, fitted, tmp_path, monkeypatch, params, message
):
    def fail(*_, **__):
        raise AssertionError("something was computed")

    monkeypatch.setattr("skastro.estimators.encoder.collect_targets", fail)
    monkeypatch.setattr("skastro.estimators.encoder.AsinhScaler.fit", fail)
    if "{other}" in params.values():
        fitted.save(tmp_path / "other.safetensors")
        params = {"weights": tmp_path / "other.safetensors", "backbone": "stamp_resnet18"}
    with pytest.raises((ValueError, FileNotFoundError), match=message) as caught:
        tiny_encoder(**params).fit(survey[0])
    assert "\n" not in str(caught.value)


def test_a_device_that_is_gone_is_an_error_of_transform(survey, fitted):
    other = copy.copy(fitted).set_params(device="cuda:77")
    with pytest.raises(ValueError, match="device='cuda:77' is not there: this machine has 'cpu'"):
        other.transform(survey[0])


def test_bands_are_put_in_order_by_their_names(survey):
    stamps = BandArray.of(survey[0], "ugr")
    encoder = tiny_encoder(max_epochs=0).fit(stamps)
    assert encoder.bands_ == ("u", "g", "r")
    expected = encoder.transform(survey[0])
    assert_array_equal(encoder.transform(BandArray.of(survey[0], "UGR")), expected)
    # another order, other bands beside them, and names that hold those of the bands
    swapped = survey[0][:, [2, 0, 1]]
    assert_array_equal(encoder.transform(BandArray.of(swapped, "rug")), expected)
    more = BandArray.of(np.hstack([swapped, swapped[:, :1]]), ["hsc-r", "hsc-u", "hsc-g", "hsc-z"])
    assert_array_equal(encoder.transform(more), expected)
    assert encoder.predict(more).equals(encoder.predict(stamps))


def test_stamps_that_lack_a_band_are_refused(survey):
    encoder = tiny_encoder(max_epochs=0).fit(BandArray.of(survey[0], "ugr"))
    with pytest.raises(ValueError, match=r"X has the bands g, r, i, .* pass stamps with u, or"):
        encoder.transform(BandArray.of(survey[0], "gri"))
    with pytest.warns(UserWarning, match=r"X has the bands x, y, z, .* the same filters"):
        encoder.transform(BandArray.of(survey[0], "xyz"))


def test_the_encoder_remembers_its_training_stamps(fitted):
    known = fitted.statistics_
    assert known.n == 60
    assert known.pixels["noise"].shape == (15, 3)
    assert known.offsets.keys() == {"mag_u", "mag_g", "mag_r", "size"}


def test_net_params_are_passed_to_skorch(survey):
    plain = tiny_encoder().fit(survey[0])
    decayed = tiny_encoder(net_params={"optimizer__weight_decay": 5.0}).fit(survey[0])
    assert weights_of(decayed).abs().sum() < weights_of(plain).abs().sum()


def test_flat_rows_are_folded_into_stamps(survey):
    stamps, _, properties = survey
    flat = stamps.reshape(60, -1)
    folded = tiny_encoder(image_shape=(3, 8, 8)).fit(flat, properties=properties)
    straight = tiny_encoder().fit(stamps, properties=properties)
    assert torch.equal(weights_of(folded), weights_of(straight))
    assert_array_equal(straight.transform(flat), straight.transform(stamps))


def test_a_module_is_copied_before_training(survey):
    module = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.ReLU())
    before = module[0].weight.clone()
    encoder = PropertyPretrainedEncoder(module, max_epochs=2, random_state=0).fit(survey[0])
    assert torch.equal(module[0].weight, before)
    assert not torch.equal(encoder.network_.backbone.body[0].weight, before)
    assert encoder.transform(survey[0]).shape == (60, 4)


def test_nothing_keeps_the_training_stamps(fitted):
    network = sum(p.numel() * 4 for p in fitted.network_.parameters())
    assert len(pickle.dumps(fitted)) < network + 200_000
    assert not any(isinstance(v, (np.ndarray, pd.DataFrame)) and len(v) == 60
                   for v in vars(fitted).values())  # fmt: skip


def test_measured_properties_that_are_empty_on_the_scored_rows_are_left_out(survey):
    encoder = tiny_encoder(max_epochs=1).fit(survey[0])
    blank = -np.abs(survey[0][:4])  # no positive flux: neither size nor shape can be measured
    assert "half_light_radius" in encoder.property_names_
    assert "half_light_radius" not in measure_properties(blank)
    assert np.isfinite(encoder.score(blank))
