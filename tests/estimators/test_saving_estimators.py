import json
import pickle

import numpy as np
import pandas as pd
import pytest
import torch
from numpy.testing import assert_array_equal
from safetensors import safe_open
from safetensors.torch import save_file
from sklearn.base import clone
from sklearn.frozen import FrozenEstimator
from torch import nn

from skastro import PropertyPretrainedEncoder, SelfSupervisedClassifier, load_pretrained
from skastro.networks.weights import CLASSIFIER_KEY, PRETRAINED, read_encoder, write_encoder
from tests.conftest import OneConvolution, make_stamps, tiny_encoder

NEW = make_stamps(20, seed=5)


def fit(encoder, labels, strategy="probe", **params):
    stamps, _, properties = make_stamps()
    model = SelfSupervisedClassifier(encoder, strategy=strategy, steps=10, random_state=0, **params)
    return model.fit(stamps, labels, properties=properties, catalog=properties[["mag_u", "size"]])


@pytest.fixture(scope="module")
def trained(fitted, survey):
    return fit(FrozenEstimator(fitted), survey[1], "auto")


@pytest.fixture
def path(trained, tmp_path):
    trained.save(tmp_path / "c.safetensors")
    return tmp_path / "c.safetensors"


@pytest.mark.parametrize("strategy", ["auto", "probe", "finetune", "scratch"])
def test_a_loaded_classifier_predicts_the_same_bit_for_bit(fitted, survey, strategy, tmp_path):
    model = fit(FrozenEstimator(fitted), survey[1], strategy)
    model.blend_ = model.catalog_blend_ = {"auto": 0.3}.get(strategy, model.blend_)
    model.network_ = model.network_ or fit(FrozenEstimator(fitted), survey[1], "finetune").network_
    model.save(tmp_path / "c.safetensors")
    loaded = SelfSupervisedClassifier.load(tmp_path / "c.safetensors")
    catalog = NEW[2][["mag_u", "size"]]
    assert_array_equal(loaded.predict_proba(NEW[0]), model.predict_proba(NEW[0]))
    with_catalog = loaded.predict_proba(NEW[0], catalog=catalog)
    assert_array_equal(with_catalog, model.predict_proba(NEW[0], catalog=catalog))
    assert_array_equal(loaded.transform(NEW[0]), model.transform(NEW[0]))
    assert loaded.score(NEW[0], NEW[1]) == model.score(NEW[0], NEW[1]) > 0.8
    if strategy != "scratch":
        assert_array_equal(loaded.describe(NEW[0]), model.describe(NEW[0]))
    for name in ("cv_losses_", "catalog_cv_losses_", "choice_", "blend_", "catalog_names_"):
        assert getattr(loaded, name) == getattr(model, name)
    assert set(vars(loaded)) == set(vars(model))


@pytest.mark.parametrize(
    "labels",
    [
        np.arange(60) % 3,
        (np.arange(60) % 2).astype(np.int8),
        np.arange(60) % 2 == 0,
        np.arange(60) % 2 + 0.0,
        np.where(np.arange(60) % 2, "é", "bb").astype(object),
        pd.Series(["A", "B"] * 30, dtype="category"),
    ],
    ids=["int64", "int8", "bool", "float", "object", "categories"],
)
def test_classes_keep_their_dtype(fitted, labels, tmp_path):
    model = fit(FrozenEstimator(fitted), labels)
    model.save(tmp_path / "c.safetensors")
    loaded = SelfSupervisedClassifier.load(tmp_path / "c.safetensors")
    assert loaded.classes_.dtype == model.classes_.dtype
    predicted = loaded.predict(NEW[0])
    assert predicted.dtype == model.predict(NEW[0]).dtype
    assert_array_equal(predicted, model.predict(NEW[0]))


def test_a_loaded_classifier_learns_other_labels(trained, path):
    loaded = SelfSupervisedClassifier.load(path)
    assert loaded.encoder.estimator is loaded.encoder_
    labels = np.where(NEW[1] == "star", "point", "extended")
    expected = clone(trained).set_params(strategy="probe").fit(NEW[0], labels)
    loaded.set_params(strategy="probe").fit(NEW[0], labels)
    assert loaded.classes_.tolist() == ["extended", "point"]
    assert_array_equal(loaded.predict_proba(NEW[0]), expected.predict_proba(NEW[0]))


@pytest.mark.parametrize("class_weight", [None, "balanced", {"star": 1.0, "galaxy": 3.0}])
def test_parameters_are_those_before(survey, class_weight, tmp_path):
    encoder = tiny_encoder(learning_rate=0.001, image_shape=(3, 8, 8))
    model = fit(encoder, survey[1], class_weight=class_weight, n_folds=np.int64(4))
    model.save(tmp_path / "c.safetensors")
    loaded = SelfSupervisedClassifier.load(tmp_path / "c.safetensors")
    own, other = loaded.get_params(deep=False), model.get_params(deep=False)
    assert own.pop("encoder").get_params() == other.pop("encoder").get_params()
    assert own == other
    assert not hasattr(loaded.encoder, "network_")


def test_tables_of_flat_rows_keep_the_names_of_their_columns(tmp_path):
    stamps, labels, _ = make_stamps()
    rows = pd.DataFrame(stamps.reshape(60, -1)).add_prefix("pixel")
    encoder = tiny_encoder(image_shape=(3, 8, 8))
    model = SelfSupervisedClassifier(encoder, strategy="probe", random_state=0).fit(rows, labels)
    model.save(tmp_path / "c.safetensors")
    loaded = SelfSupervisedClassifier.load(tmp_path / "c.safetensors")
    assert_array_equal(loaded.predict_proba(rows), model.predict_proba(rows))
    assert loaded.feature_names_in_.tolist() == list(rows)


def test_a_backbone_of_your_own_has_to_be_passed_to_load(survey, tmp_path):
    module = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU())
    model = fit(tiny_encoder(backbone=module), survey[1])
    model.save(tmp_path / "c.safetensors")
    with pytest.raises(ValueError, match=r"c\.safetensors holds .* pass it as backbone="):
        SelfSupervisedClassifier.load(tmp_path / "c.safetensors")
    loaded = SelfSupervisedClassifier.load(tmp_path / "c.safetensors", backbone=module)
    assert_array_equal(loaded.predict_proba(NEW[0]), model.predict_proba(NEW[0]))


def test_its_file_is_a_source_of_weights(trained, path):
    encoder = tiny_encoder(weights=path, max_epochs=0).fit(make_stamps()[0])
    state, wanted = (e.network_.backbone.state_dict() for e in (encoder, trained.encoder_))
    assert all(torch.equal(state[name], wanted[name]) for name in wanted)


def test_files_of_another_kind_are_refused_by_name(fitted, path, tmp_path):
    fitted.save(tmp_path / "e.safetensors")
    with pytest.raises(ValueError, match=r"e\.safetensors holds no skastro classifier but a.? enc"):
        SelfSupervisedClassifier.load(tmp_path / "e.safetensors")
    with pytest.raises(ValueError, match=r"c\.safetensors holds no skastro encoder but a class"):
        PropertyPretrainedEncoder.load(path)
    with pytest.raises(FileNotFoundError, match="none does not exist"):
        SelfSupervisedClassifier.load(tmp_path / "none")


def test_truncated_and_altered_files_are_refused(path):
    content = path.read_bytes()
    for size in (0, 8, 1000, len(content) - 1):
        path.write_bytes(content[:size])
        with pytest.raises(ValueError, match=r"c\.safetensors is not a safetensors file"):
            SelfSupervisedClassifier.load(path)
    path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(ValueError, match="was altered after it was saved"):
        SelfSupervisedClassifier.load(path)
    path.write_bytes(pickle.dumps(print))
    with pytest.raises(ValueError, match="is not a safetensors file"):
        SelfSupervisedClassifier.load(path)


def test_newer_files_are_refused(path):
    with safe_open(path, framework="pt") as file:
        header = file.metadata()
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    document = json.loads(header[CLASSIFIER_KEY]) | {"format_version": 99}
    save_file(tensors, path, metadata={**header, CLASSIFIER_KEY: json.dumps(document)})
    with pytest.raises(ValueError, match=r"has format 99, .* pip install --upgrade skastro"):
        SelfSupervisedClassifier.load(path)


@pytest.fixture
def small(survey, tmp_path):
    """Return the file of a classifier with a network of one layer, and a function that loads it."""
    backbone, path = OneConvolution(), tmp_path / "small.safetensors"
    model = fit(tiny_encoder(backbone=backbone), survey[1])
    model.network_, model.blend_ = fit(model.encoder, survey[1], "finetune").network_, 0.5
    model.save(path)
    return path, lambda: SelfSupervisedClassifier.load(path, backbone=backbone)


INVALID = r"small\.safetensors does not describe a valid"


def test_invalid_documents_are_refused_in_one_sentence(small):
    path, load = small
    tensors, document = read_encoder(path, kind=CLASSIFIER_KEY)
    load()
    for name in document.keys() - {"format_version", "libraries"}:
        for value in (-1, [1, "a"], float("nan"), {"a": 1}):
            write_encoder(path, tensors, document | {name: value}, kind=CLASSIFIER_KEY)
            with pytest.raises(ValueError, match=INVALID):
                load()


def test_invalid_tensors_are_refused(small):
    path, load = small
    tensors, document = read_encoder(path, kind=CLASSIFIER_KEY)
    names = [name for name in tensors if name.startswith(("probe.", "catalog_probe."))]
    assert len(names) == 22
    for name in names:
        tensor = tensors[name]
        others = [tensor[:0], tensor.float()[..., None], None]
        if tensor.is_floating_point() and not name.endswith(".scale"):
            others.append(torch.full_like(tensor, torch.nan))
        for other in others:
            changed = {key: t for key, t in (tensors | {name: other}).items() if t is not None}
            write_encoder(path, changed, document, kind=CLASSIFIER_KEY)
            with pytest.raises(ValueError, match=INVALID):
                load()


def test_an_unfitted_classifier_cannot_be_saved(tmp_path):
    with pytest.raises(ValueError, match="not fitted"):
        SelfSupervisedClassifier().save(tmp_path / "c.safetensors")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("n_labels", [0, 60])
def test_teachers_of_skastro_are_saved_by_name(n_labels, tmp_path, monkeypatch):
    stamps, labels, _ = make_stamps(side=16)
    labels = labels if n_labels else None
    encoder = FrozenEstimator(tiny_encoder().fit(stamps)) if n_labels else None
    model = SelfSupervisedClassifier(encoder, strategy="probe", pretrained="galaxies")
    model.fit(stamps, labels)
    path = tmp_path / "c.safetensors"
    model.save(path)
    if not n_labels:
        assert path.stat().st_size < 1e5
    loaded = SelfSupervisedClassifier.load(path)
    assert_array_equal(loaded.predict_proba(stamps), model.predict_proba(stamps))
    assert_array_equal(loaded.describe(stamps), model.describe(stamps))
    assert loaded.pretrained == "galaxies"
    assert loaded.teachers_.keys() == model.teachers_.keys()
    assert set(vars(loaded)) == set(vars(model))
    monkeypatch.setitem(PRETRAINED, "galaxies", "0" * 64)
    with pytest.raises(ValueError, match=r"c\.safetensors needs weights 'galaxies' that this"):
        SelfSupervisedClassifier.load(path)


def test_a_teacher_of_your_own_is_copied(tmp_path):
    stamps, labels, _ = make_stamps(side=16)
    encoder = FrozenEstimator(tiny_encoder().fit(stamps))
    teacher = load_pretrained("galaxies")
    model = SelfSupervisedClassifier(
        encoder, strategy="probe", pretrained=FrozenEstimator(teacher)
    ).fit(stamps, labels)
    model.save(tmp_path / "c.safetensors")
    loaded = SelfSupervisedClassifier.load(tmp_path / "c.safetensors")
    assert_array_equal(loaded.predict_proba(stamps), model.predict_proba(stamps))
    assert loaded.pretrained.estimator is loaded.teachers_["galaxies"]
