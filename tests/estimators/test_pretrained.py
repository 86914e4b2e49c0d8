import copy
import json
import pickle
from importlib import resources

import joblib
import numpy as np
import pandas as pd
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal
from safetensors import safe_open
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline

import skastro
from skastro import (
    PropertyPretrainedEncoder,
    SelfSupervisedClassifier,
    Stamps,
    export_onnx,
    list_pretrained,
    load_pretrained,
    make_galaxies,
)
from skastro.estimators import pretrained, teaching
from skastro.estimators.pretrained import _average as average, choose_teacher, export_teacher
from skastro.estimators.teaching import Lesson
from skastro.networks import weights
from skastro.networks.weights import PRETRAINED, hash_file, read_encoder, write_encoder
from skastro.stamps.bands import BandArray
from skastro.stamps.containers import ArraySource
from tests.conftest import tiny_encoder

NAMES = ["bulge_fraction", "inclination", "bar", "round", "flat"]
SIDE = 16


def simulate(draws, size):
    """Draw blobs whose flattening has a name."""
    flat = draws.uniform(0.3, 1.0)
    y, x = torch.meshgrid(*[torch.arange(size) - (size - 1) / 2] * 2, indexing="ij")
    light = torch.exp(-0.5 * (x**2 + (y / flat) ** 2) / (size / 6) ** 2)
    colours = draws.uniform(0.5, 2, (3, 1, 1))
    noise = 0.01 * torch.randn(draws.n, 3, size, size, generator=draws.generator)
    bar = draws.uniform()
    truth = {"bulge_fraction": flat, "inclination": 90 * (1 - flat), "bar": bar}
    truth = {name: value.flatten() for name, value in truth.items()}
    truth["bar"][::3] = torch.nan
    return light[:, None] * colours + noise, {**truth, "kind": (flat < 0.6).flatten().float()}


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    """Train a small teacher, export it as "galaxies", and return its file and its card."""
    lesson = Lesson(simulate, tuple(NAMES[:3]), {"inclination": "deg"}, tuple(NAMES[3:]))
    folder = tmp_path_factory.mktemp("tiny")
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(teaching.LESSONS, "galaxies", lesson)
        for name, value in {
            "_CHUNK": 32, "_BATCH_SIZE": 32, "_POOL": 128, "_WARMUP_STEPS": 3,
            "_N_SCALING_STAMPS": 256,
        }.items():  # fmt: skip
            patch.setattr(teaching, name, value)
        patch.setattr(teaching, "_SIZES", (SIDE, SIDE, SIDE))
        patch.setattr(pretrained, "_STANDARDISING_CHUNKS", range(2**41, 2**41 + 4))
        patch.setattr(pretrained, "_TEST_CHUNKS", range(2**42, 2**42 + 8))
        teaching.train_teacher(
            "galaxies", folder / "state.pt", n_stamps=960, backbone="stamp_resnet10", size=SIDE,
            n_workers=0,
        )  # fmt: skip
        card = export_teacher("galaxies", folder / "state.pt", folder / "galaxies.safetensors")
    return folder / "galaxies.safetensors", card


@pytest.fixture(autouse=True)
def installed(request, monkeypatch):
    """Put the small teacher in the place of the weights, in tests that use it."""
    if "tiny" in request.fixturenames:
        file = request.getfixturevalue("tiny")[0]
        monkeypatch.setattr(weights, "_PRETRAINED_FOLDER", file.parent)
        monkeypatch.setitem(PRETRAINED, "galaxies", hash_file(file))


@pytest.fixture
def encoder(tiny):  # noqa: ARG001 - it is installed
    return load_pretrained()


@pytest.fixture(scope="module")
def images():
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:24, :24] - 11.5
    width = rng.uniform(2, 6, size=(20, 1, 1, 1))
    light = rng.uniform(1, 2, size=(20, 3, 1, 1)) * np.exp(-0.5 * (x**2 + 2 * y**2) / width**2)
    return (light + 0.01 * rng.normal(size=light.shape)).astype(np.float32)


def test_a_loaded_encoder_embeds_and_predicts_at_once(encoder, images):
    embeddings = encoder.transform(images)
    assert (embeddings.shape, embeddings.dtype) == ((20, 259), np.float32)
    predicted = encoder.predict(images)
    assert list(predicted) == NAMES == encoder.property_names_
    assert predicted.attrs["units"] == {"inclination": "deg"} == encoder.property_units_
    assert_allclose(predicted[["round", "flat"]].sum(axis=1), 1)
    assert encoder.measured_names_ == []
    assert_array_equal(encoder.predict_embedded(embeddings), predicted)


def test_the_embedding_is_standardised_on_simulated_stamps(encoder):
    stamps = simulate(teaching.Draws(400, 5), SIDE)[0].numpy()
    embeddings = encoder.transform(stamps)
    assert abs(embeddings.mean()) < 0.1
    spread = embeddings.std(0)
    assert 0.8 < spread[spread > 0].mean() < 1.2  # without features that are constant


@pytest.mark.parametrize("shape", [(1, 24, 24), (2, 9, 9), (5, 40, 40), (7, 2, 2), (3, 1, 1)])
@pytest.mark.parametrize("dtype", [np.float64, np.uint16, np.int32, bool])
def test_stamps_of_any_bands_size_and_dtype_are_taken(encoder, shape, dtype):
    stamps = np.random.default_rng(0).uniform(0, 300, size=(3, *shape)).astype(dtype)
    values, spread = encoder.predict(stamps, return_std=True)
    assert np.isfinite(values.to_numpy()).all()
    assert np.isfinite(spread.to_numpy()).all()
    assert np.isfinite(encoder.transform(stamps)).all()


@pytest.mark.parametrize("factor", [1e-30, 1e-17, 1e6, 1e35])
def test_the_unit_and_the_sky_do_not_matter(encoder, images, factor):
    encoder.set_params(precision="float32")
    expected = encoder.transform(images)
    assert_allclose(encoder.transform(images * np.float32(factor)), expected, atol=1e-3)
    assert_allclose(encoder.transform(images + 100), expected, atol=0.3)


def test_blank_stamps_give_numbers(encoder):
    assert np.isfinite(encoder.transform(np.zeros((2, 3, 16, 16)))).all()
    with pytest.raises(ValueError, match="has no finite pixel in row 1"):
        encoder.transform(np.array([0, np.nan])[:, None, None, None] * np.ones((2, 3, 8, 8)))


def test_missing_pixels_are_sky(encoder, images):
    gaps = images.copy()
    gaps[:, :, :3] = np.nan
    assert np.isfinite(encoder.transform(gaps)).all()
    assert not np.array_equal(encoder.transform(gaps), encoder.transform(images))


def test_of_stamps_that_are_not_square_the_middle_counts(encoder, images):
    wide = np.pad(images, [(0, 0), (0, 0), (0, 0), (5, 5)], constant_values=9)
    assert_array_equal(encoder.transform(wide), encoder.transform(images))


def test_a_stamp_has_the_same_numbers_alone(encoder, images):
    assert_array_equal(encoder.transform(images[3:4])[0], encoder.transform(images)[3])


def test_pictures_are_turned_around(encoder, images):
    linear = np.clip(255 * images / images.max(), 0, 255).astype(np.uint8)
    expected = encoder.transform(linear.astype(np.int64))
    assert_array_equal(encoder.transform(linear[:, ::-1]), expected)
    assert not np.array_equal(encoder.transform(linear), expected)
    assert_allclose(encoder.transform(linear[:, ::-1] / 255), expected, atol=0.3)


def test_bands_are_sorted_by_their_names(encoder, images):
    expected = encoder.transform(images)
    stack = BandArray.of(np.ascontiguousarray(images[:, [1, 2, 0]]), "riu")
    assert_array_equal(encoder.transform(stack), expected)
    lazy = Stamps(ArraySource(np.asarray(stack), ("r", "i", "u")))
    assert_array_equal(encoder.transform(lazy), expected)


def test_rows_of_numbers_need_a_shape(encoder, images):
    rows = images.reshape(20, -1)
    with pytest.raises(ValueError, match=r"not known: pass stamps of shape .* set_params\(image_s"):
        encoder.transform(rows)
    shaped = copy.deepcopy(encoder).set_params(image_shape=(3, 24, 24))
    assert_array_equal(shaped.transform(rows), encoder.transform(images))
    with pytest.raises(ValueError, match="rows of 1728 values, but stamps of shape"):
        shaped.set_params(image_shape=(3, 24, 25)).transform(rows)


def test_uncertainties_are_those_of_trained_stamps(encoder, fitted, survey):
    stamps, truth = simulate(teaching.Draws(300, 6), SIDE)
    values, spread = encoder.predict(stamps.numpy(), return_std=True)
    assert list(spread) == NAMES
    assert spread.attrs["units"] == {"inclination": "deg"}
    assert (spread.to_numpy() > 0).all()
    errors = np.abs(values["inclination"] - truth["inclination"].numpy())
    assert 0.1 < errors.mean() / spread["inclination"].mean() < 10
    with pytest.raises(ValueError, match="return_std=True needs an encoder of load_pretrained"):
        fitted.predict(survey[0], return_std=True)


def test_the_score_takes_some_of_the_columns(encoder):
    stamps, truth = simulate(teaching.Draws(200, 7), SIDE)
    known = pd.DataFrame({"inclination": truth["inclination"].numpy(), "other": 1.0})
    score = encoder.score(stamps.numpy(), properties=known)
    shuffled = known.sample(frac=1, random_state=0)
    assert encoder.score(stamps.numpy(), properties=shuffled) < score - 0.2
    for properties in (None, known[["other"]]):
        with pytest.raises(ValueError, match="at least one of the columns bulge_fraction, incl"):
            encoder.score(stamps.numpy(), properties=properties)


@pytest.mark.parametrize("how", ["pickle", "joblib", "deepcopy", "save"])
def test_copies_give_the_same(encoder, images, tmp_path, how):
    if how == "pickle":
        other = pickle.loads(pickle.dumps(encoder))
    elif how == "joblib":
        joblib.dump(encoder, tmp_path / "encoder.joblib")
        other = joblib.load(tmp_path / "encoder.joblib")
    elif how == "deepcopy":
        other = copy.deepcopy(encoder)
    else:
        encoder.save(tmp_path / "encoder.safetensors")
        other = PropertyPretrainedEncoder.load(tmp_path / "encoder.safetensors")
    assert_array_equal(other.transform(images), encoder.transform(images))
    for one, two in zip(
        *[e.predict(images, return_std=True) for e in (other, encoder)], strict=True
    ):
        pd.testing.assert_frame_equal(one, two)
    assert other.get_params() == encoder.get_params()
    assert other.image_shape_ is None
    assert not hasattr(other, "n_features_in_")


def test_it_is_an_encoder_like_others(encoder, images):
    assert type(encoder) is PropertyPretrainedEncoder
    assert repr(encoder) == (
        "PropertyPretrainedEncoder(average_views=False, backbone='stamp_resnet10',\n"
        "                          weights='galaxies')"
    )
    assert "&#x27;galaxies&#x27;" in encoder._repr_html_()
    table = copy.deepcopy(encoder).set_output(transform="pandas").transform(images)
    assert list(table) == encoder.get_feature_names_out().tolist()
    assert table.shape == (20, 259)


def test_it_works_in_pipelines(encoder, images):
    labels = np.arange(20) % 2
    model = make_pipeline(FrozenEstimator(encoder), LogisticRegression()).fit(images, labels)
    assert model.predict(images).shape == (20,)
    assert clone(model)[0].estimator is encoder


@pytest.mark.parametrize("strategy", ["auto", "probe"])
def test_a_classifier_can_start_from_it(encoder, images, tmp_path, strategy):
    labels = np.array(["a", "b"])[np.arange(20) % 2]
    model = SelfSupervisedClassifier(FrozenEstimator(encoder), strategy=strategy, random_state=0)
    model.fit(images, labels)
    model.save(tmp_path / "model.safetensors")
    loaded = SelfSupervisedClassifier.load(tmp_path / "model.safetensors")
    assert_allclose(loaded.predict_proba(images), model.predict_proba(images))
    assert loaded.image_shape_ == model.image_shape_ == (3, 24, 24)


def test_a_classifier_does_not_train_its_network(encoder, images):
    model = SelfSupervisedClassifier(FrozenEstimator(encoder), strategy="finetune")
    with pytest.raises(ValueError, match=r"strategy='finetune' trains .* or encoder=clone"):
        model.fit(images, np.arange(20) % 2)


def test_a_clone_pretrains_from_its_weights(encoder, images):
    other = clone(encoder)
    assert (other.weights, other.average_views) == ("galaxies", False)
    with pytest.raises(NotFittedError):
        other.transform(images)
    other.set_params(max_epochs=0).fit(images[:, :1])
    name = "backbone.body.layer1.0.conv1.weight"
    theirs, ours = (e.network_.state_dict()[name] for e in (encoder, other))
    assert torch.equal(theirs, ours)
    assert other.image_shape_ == (1, 24, 24)
    assert other.property_source_ == "measured"
    with pytest.raises(ValueError, match="X has 3 bands, but"):
        other.transform(images)


def test_a_fit_makes_it_an_encoder_of_one_shape(encoder, images):
    fitted = copy.deepcopy(encoder).set_params(max_epochs=0).fit(images)
    assert fitted.image_shape_ == (3, 24, 24)
    with pytest.raises(ValueError, match="return_std=True needs"):
        fitted.predict(images, return_std=True)
    with pytest.raises(ValueError, match=r"another architecture .* backbone='stamp_resnet10'"):
        tiny_encoder(backbone="stamp_resnet18", weights="galaxies").fit(images)


def test_it_is_not_exported_to_onnx(encoder, tmp_path):
    with pytest.raises(ValueError, match=r"load_pretrained\(\) takes stamps of any bands and size"):
        export_onnx(encoder, tmp_path / "encoder.onnx")


def test_unknown_names_are_refused():
    with pytest.raises(ValueError, match="name='galaxy' is unknown: pass 'galaxies' or 'radio'"):
        load_pretrained("galaxy")


def test_other_files_are_refused(tiny, tmp_path, monkeypatch):
    monkeypatch.setattr(weights, "_PRETRAINED_FOLDER", tmp_path)
    with pytest.raises(FileNotFoundError, match="is gone: install skastro again"):
        load_pretrained()
    path = tmp_path / "galaxies.safetensors"
    path.write_bytes(tiny[0].read_bytes()[:-1])
    with pytest.raises(ValueError, match="is not the file that skastro was released with"):
        load_pretrained()
    with pytest.raises(ValueError, match="is not the file that skastro was released with"):
        tiny_encoder(weights="galaxies").fit(np.zeros((20, 1, 8, 8)))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"planes": [10**6, "colours"]}, "its planes are not"),
        ({"planes": [48, "odours"]}, "its planes are not"),
        ({"planes": None}, "its image_shape is not"),
        ({"image_shape": [3, 8, 8]}, "its planes are not"),
        ({"n_features_in": 3}, "its planes are not"),
        ({"planes": 1.5}, "its planes is missing, or of a wrong type"),
        ({"targets": {}}, "its properties have no valid names"),
    ],
)
def test_other_documents_are_refused(tiny, tmp_path, change, message):
    tensors, document = read_encoder(tiny[0])
    path = tmp_path / "altered.safetensors"
    write_encoder(path, tensors, {**document, **change})
    with pytest.raises(ValueError, match=message):
        PropertyPretrainedEncoder.load(path)


def test_other_tensors_are_refused(tiny, tmp_path):
    tensors, document = read_encoder(tiny[0])
    path = tmp_path / "altered.safetensors"
    for name, value, message in (
        ("head.weight", torch.zeros(3, 259), "its tensors have other shapes"),
        ("head.bias", torch.zeros(3), "does not fit the backbone"),
        ("head.bias", torch.full((8,), torch.nan), "is not finite"),
    ):
        write_encoder(path, {**tensors, name: value}, document)
        with pytest.raises(ValueError, match=message):
            PropertyPretrainedEncoder.load(path)


def test_the_card_says_what_the_network_saw(tiny):
    file, card = tiny
    assert "saw | 960 simulated stamps, and no real one" in card
    assert "`python benchmarks/teacher.py galaxies --stamps 960 --backbone stamp_resn" in card
    assert "| `inclination` | deg | " in card
    assert "Balanced accuracy of the kinds: " in card
    assert f"`{hash_file(file)}`" in card


def test_the_file_has_half_precision_and_a_description(tiny):
    with safe_open(tiny[0], framework="pt") as file:
        kinds = {file.get_tensor(name).dtype for name in file.keys()  # noqa: SIM118
                 if not name.startswith("embedding.")}  # fmt: skip
        document = json.loads(file.metadata()["skastro"])
    assert kinds == {torch.float16, torch.int64}
    assert document["card"]["n_stamps"] == 960


def test_weights_that_half_precision_changes_are_not_exported(tiny, tmp_path, monkeypatch):
    monkeypatch.setattr(pretrained, "_MAX_ROUNDING", 1e-9)
    monkeypatch.setattr(pretrained, "_STANDARDISING_CHUNKS", range(1))
    lesson = Lesson(simulate, tuple(NAMES[:3]), {}, tuple(NAMES[3:]))
    monkeypatch.setitem(teaching.LESSONS, "galaxies", lesson)
    with pytest.raises(ValueError, match=r"half precision change the outputs by .* train on"):
        export_teacher("galaxies", tiny[0].parent / "state.pt", tmp_path / "new.safetensors")
    assert not list(tmp_path.iterdir())


def test_weights_of_several_moments_are_averaged(tiny, tmp_path, monkeypatch):
    state = torch.load(tiny[0].parent / "state.pt", weights_only=False)
    name = next(k for k, v in state["averaged"].items() if v.is_floating_point() and v.ndim == 4)
    early = {**state["averaged"], name: state["averaged"][name] + 0.5}
    torch.save({**state, "averaged": early, "seen": 480}, tmp_path / "early.pt")
    chunks = {"_STANDARDISING_CHUNKS": range(1), "_TEST_CHUNKS": range(2**42, 2**42 + 8)}
    for key, value in chunks.items():
        monkeypatch.setattr(pretrained, key, value)
    lesson = Lesson(simulate, tuple(NAMES[:3]), {}, tuple(NAMES[3:]))
    monkeypatch.setitem(teaching.LESSONS, "galaxies", lesson)
    states: list = []
    monkeypatch.setattr(pretrained, "_average", lambda s: states.extend(s) or average(s))
    out = tmp_path / "mean.safetensors"
    card = export_teacher(
        "galaxies", tiny[0].parent / "state.pt", out, earlier=[tmp_path / "early.pt"]
    )
    assert_allclose(average(states)[name], state["averaged"][name] + 0.25, rtol=1e-5)
    assert "| weights | mean of those after 480 and 960 stamps |" in card
    assert "--average COPIES" in card


# what is part of the package


@pytest.mark.parametrize("name", PRETRAINED)
def test_the_package_has_the_weights_that_were_released(name):
    files = resources.files(skastro) / "networks" / "pretrained"
    assert {file.name for file in files.iterdir()} == {f"{k}.safetensors" for k in PRETRAINED}
    assert load_pretrained(name).weights == name
    assert sum(len(file.read_bytes()) for file in files.iterdir()) < 15e6


def test_the_list_says_what_weights_know():
    table = list_pretrained().set_index("name")
    assert list(table.index) == list(PRETRAINED)
    for name in PRETRAINED:
        row = table.loc[name]
        assert row["knows"] == load_pretrained(name).property_names_
        assert f"benchmarks/teacher.py {name} --stamps " in row["command"]


@pytest.fixture(scope="module")
def galaxies():
    """Return a function that draws galaxies of 64 px with a Sersic profile, (n, 3, 64, 64)."""

    def draw(axis_ratio=1.0, sersic=1.0, fluxes=(1, 1, 1), n=24):
        rng = np.random.default_rng(0)
        y, x = np.mgrid[:64, :64] - 31.5
        angle = rng.uniform(0, np.pi, size=(n, 1, 1))
        along = x * np.cos(angle) + y * np.sin(angle)
        across = y * np.cos(angle) - x * np.sin(angle)
        r = np.hypot(along, across / axis_ratio) / rng.uniform(6, 9, size=(n, 1, 1))
        light = np.exp(-(2 * sersic - 1 / 3) * (r ** (1 / sersic) - 1))
        light = np.minimum(light, light.max() / 3)  # seeing
        stamps = light[:, None] * np.reshape(fluxes, (3, 1, 1))
        return (stamps + 0.02 * rng.normal(size=stamps.shape)).astype(np.float32)

    return draw


def test_edge_on_discs_are_more_inclined_than_those_face_on(galaxies):
    encoder = load_pretrained("galaxies")
    face, edge = (encoder.predict(galaxies(ratio))["inclination"] for ratio in (0.95, 0.2))
    assert edge.min() > face.median() + 20


def test_ellipticals_have_more_of_a_bulge_than_exponential_discs(galaxies):
    encoder = load_pretrained("galaxies")
    disc, elliptical = (encoder.predict(galaxies(*shape)) for shape in ((0.4, 1), (0.8, 4)))
    assert elliptical["bulge_fraction"].median() > disc["bulge_fraction"].median() + 0.2


def test_blue_galaxies_are_younger_and_bands_have_an_order(galaxies):
    encoder = load_pretrained("galaxies")
    stamps = galaxies(0.4, fluxes=(2.0, 1.0, 0.5))  # in the order of wavelength
    blue, red = (encoder.predict(x)["youth"].median() for x in (stamps, stamps[:, ::-1]))
    assert blue > red + 0.1
    named = BandArray.of(np.ascontiguousarray(stamps[:, ::-1]), "irg")
    assert encoder.predict(named)["youth"].median() == pytest.approx(blue)


def test_a_teacher_is_chosen_for_stamps_of_which_it_knows_enough():
    galaxies = make_galaxies(24, image_size=32, random_state=0).images
    assert choose_teacher(galaxies).weights == "galaxies"
    noise = np.random.default_rng(0).normal(size=(24, 3, 32, 32)).astype(np.float32)
    assert choose_teacher(noise) is None
    assert choose_teacher(galaxies[:, :, :12, :12]) is None
