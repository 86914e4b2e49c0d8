"""Saved encoders with false metadata are refused: no code, no network, little memory."""

from __future__ import annotations

import pickle
import resource
import socket
import subprocess
import sys
import tracemalloc
from copy import deepcopy
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from skastro import PropertyPretrainedEncoder
from tests.conftest import make_stamps, tiny_encoder
from tests.promises.fuzzing import sign, unpack


@pytest.fixture(scope="module")
def saved(tmp_path_factory, fitted):
    path = tmp_path_factory.mktemp("saved") / "encoder.safetensors"
    fitted.save(path)
    return unpack(path)


@pytest.fixture
def write(saved, tmp_path):
    """Return a function that changes the encoder and writes it with a valid checksum."""

    def change_and_write(change):
        tensors, document = saved[0].copy(), deepcopy(saved[1])
        change(tensors, document)
        path = tmp_path / "encoder.safetensors"
        sign(path, tensors, document)
        return path

    return change_and_write


@pytest.fixture
def offline(monkeypatch):
    """Make every use of the network fail the test."""

    def refuse(*_):
        pytest.fail("the network was asked for something")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


def params(**changes):
    return lambda _, document: document["params"].update(changes)


def described(**changes):
    return lambda _, document: document.update(changes)


def targets(**changes):
    return lambda _, document: document["targets"].update(changes)


def lacking(*keys):
    def drop(_, document):
        for key in keys[:-1]:
            document = document[key]
        del document[keys[-1]]

    return drop


def tensor(name, value):
    return lambda tensors, _: tensors.update({name: value})


# the lowest supported safetensors does not know complex numbers, and refuses them itself
COMPLEX = "have an unknown dtype|is not a safetensors file, or is truncated .*InvalidHeaderDeser"
FALSE = {
    "hub": (params(backbone="hf-hub:timm/resnet18.a1_in1k"), "is unknown"),
    "folder": (params(backbone="local-dir:/tmp"), "is unknown"),
    "code": (params(backbone="os.system"), "is unknown"),
    "long name": (params(backbone="x" * 10**6), "its backbone has no valid name"),
    "no name": (params(backbone=None), "backbone' is unknown, or of a wrong type"),
    "other net": (params(backbone="resnet10t"), "tensors have other names or shapes"),
    "vast net": (params(backbone="vit_giant_patch14_224"), "does not fit the backbone"),
    "unknown parameter": (params(__class__="x"), "its parameter '__class__' is unknown"),
    "text for a number": (params(batch_size="all"), "its parameter 'batch_size' is unknown, or of"),
    "no batch": (params(batch_size=0), "its batch_size is out of range"),
    "vast batch": (params(batch_size=10**12), "its batch_size is out of range"),
    "list for a path": (params(weights=["a"]), "its parameter 'weights' is unknown, or of"),
    "number for a path": (params(weights=3), "its parameter 'weights' is unknown, or of"),
    "infinite rate": (params(learning_rate=float("inf")), "its parameter 'learning_rate'"),
    "code left out": (described(unnamed=["weights"]), "parameter that is not code lacks"),
    "many bands": (described(image_shape=[10**12, 8, 8]), "its image_shape is not that of stamps"),
    "other bands": (described(image_shape=[5, 8, 8]), "its tensors have other shapes"),
    "vast stamps": (described(image_shape=[3, 10**7, 10**7]), "its image_shape is not that"),
    "no pixels": (described(image_shape=[3, 0, 8]), "its image_shape is not that of stamps"),
    "half pixels": (described(image_shape=[3, 8.0, 8]), "its image_shape is not that of stamps"),
    "vast size": (described(size=[10**6, 10**6]), "enlarges its stamps to an odd size"),
    "size of text": (described(size=["a", "b"]), "enlarges its stamps to an odd size"),
    "many outputs": (targets(names=[f"p{i}" for i in range(10**5)]), "center of its properties"),
    "no outputs": (targets(names=[], center=[], scale=[]), "its properties have no valid names"),
    "names twice": (targets(names=["a"] * 4), "its properties have no valid names"),
    "infinite scale": (targets(scale=[1.0, 1.0, 1.0, float("inf")]), "is not finite"),
    "NaN centre": (targets(center=[float("nan")] * 4), "is not finite"),
    "no scale": (targets(scale=[0.0] * 4), "the scale of its properties is not positive"),
    "units": (targets(units={"mag_u": {}}), "its units are not text"),
    "no seed": (lacking("seed"), "its seed is missing"),
    "no size": (lacking("size"), "its size is missing"),
    "no backbone": (lacking("params", "backbone"), "its backbone has no valid name"),
    "format 99": (described(format_version=99), "format 99, but this skastro reads up to"),
    "format text": (described(format_version="1"), "has an invalid format version"),
    "format 0": (described(format_version=0), "has an invalid format version"),
    "format inf": (described(format_version=float("inf")), "has an invalid format version"),
    "NaN weights": (tensor("head.weight", torch.full((4, 256), torch.nan)), "is not finite"),
    "half weights": (tensor("head.weight", torch.ones(4, 256).bfloat16()), "have an unknown dtype"),
    "complex": (tensor("head.bias", torch.ones(4, dtype=torch.complex64)), COMPLEX),
    "head": (tensor("head.weight", torch.zeros(4, 9)), "its tensors have other shapes"),
    "more": (tensor("other", torch.zeros(3)), "tensors have other names or shapes"),
    "less": (lambda tensors, _: tensors.pop("head.bias"), "tensors have other names or shapes"),
    "mean": (lambda tensors, _: tensors.pop("embedding.mean"), "tensors are missing"),
    "scale": (tensor("embedding.scale", torch.zeros(256)), "its scales are not positive"),
    "noise": (tensor("scaling.scale", -torch.ones(3, 1, 1)), "its scales are not positive"),
}  # fmt: skip


@pytest.mark.usefixtures("offline")
@pytest.mark.parametrize(("change", "reason"), FALSE.values(), ids=FALSE)
def test_an_encoder_with_false_metadata_is_refused_in_a_sentence(write, change, reason):
    path = write(change)
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match=reason) as caught:
            PropertyPretrainedEncoder.load(path)
        assert tracemalloc.get_traced_memory()[1] < 2**28
    finally:
        tracemalloc.stop()
    text = str(caught.value)
    assert text.startswith(f"{path} ")
    assert text.endswith(".")
    assert "\n" not in text
    assert len(text) < 700


@pytest.mark.parametrize("text", ["[" * 10**5, "[]", '"a"', "null", "{}", "\x00", '{"a": 1e9999}'])
def test_unreadable_descriptions_are_refused(saved, tmp_path, text):
    sign(tmp_path / "e.safetensors", saved[0], text)
    with pytest.raises(ValueError, match=r"e\.safetensors has an unreadable description"):
        PropertyPretrainedEncoder.load(tmp_path / "e.safetensors")


def test_a_vast_network_is_refused_before_it_is_built(write):
    path = write(params(backbone="vit_gigantic_patch14_224"))  # 7 GB of weights
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(ValueError, match="does not fit the backbone 'vit_gigantic_patch14_224'"):
        PropertyPretrainedEncoder.load(path)
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert grown < 500_000  # kilobytes


@pytest.mark.usefixtures("offline")
def test_paths_in_the_file_are_neither_opened_nor_written_to(write, tmp_path, monkeypatch):
    trap = tmp_path / "trap"
    path = write(params(weights="../../../../etc/passwd", checkpoint_dir=str(trap)))
    opened = []
    monkeypatch.setattr(Path, "open", lambda *args, **_: opened.append(args[0]))
    loaded = PropertyPretrainedEncoder.load(path)
    monkeypatch.undo()
    assert not opened
    assert loaded.checkpoint_dir is None
    assert loaded.weights == "../../../../etc/passwd"  # kept as information
    stamps, _, properties = make_stamps(8)
    with pytest.raises((ValueError, FileNotFoundError), match=r"etc/passwd (is no|does not)"):
        loaded.fit(stamps, properties=properties)
    assert not trap.exists()


@pytest.mark.usefixtures("offline")
def test_imagenet_in_the_file_fetches_nothing(write):
    loaded = PropertyPretrainedEncoder.load(write(params(weights="imagenet")))
    assert loaded.transform(make_stamps(2)[0]).shape == (2, 256)


@pytest.mark.parametrize("name", ["e.safetensors", "e.pt", "e.ckpt", "e.bin"])
@pytest.mark.parametrize("how", ["load", "weights"])
def test_a_pickle_in_disguise_is_not_executed(tmp_path, name, how):
    mark, path = tmp_path / "executed", tmp_path / name
    path.write_bytes(pickle.dumps(Bomb(mark)))
    stamps, _, properties = make_stamps(8)

    def fit():
        return tiny_encoder(weights=str(path)).fit(stamps, properties=properties)

    with pytest.raises(ValueError, match=name):
        PropertyPretrainedEncoder.load(path) if how == "load" else fit()
    torch.save({"state_dict": {"a": Bomb(mark)}}, path)
    with pytest.raises(ValueError, match=name):
        fit()
    assert not mark.exists()


class Bomb:
    """Writes a file when it is unpickled."""

    def __init__(self, mark):
        self.mark = mark

    def __reduce__(self):
        return Path.touch, (self.mark,)


def test_the_bomb_would_go_off(tmp_path):
    pickle.loads(pickle.dumps(Bomb(tmp_path / "executed")))
    assert (tmp_path / "executed").exists()


@pytest.mark.parametrize(
    "change",
    [
        lambda tensors: tensors.update({"backbone.body.conv1.weight": torch.zeros(64, 0, 3, 3)}),
        lambda tensors: tensors.update({"backbone.body.conv1.weight": torch.zeros(1)}),
        lambda tensors: tensors.update(
            {"backbone.body.conv1.weight": torch.full((64, 3, 3, 3), torch.nan)}
        ),
        lambda tensors: tensors.clear(),
    ],
)
def test_unfit_weights_are_refused(saved, tmp_path, change):
    tensors = saved[0].copy()
    change(tensors)
    save_file(tensors, tmp_path / "w.safetensors")
    stamps, _, properties = make_stamps(8)
    encoder = tiny_encoder(weights=str(tmp_path / "w.safetensors"))
    with pytest.raises(ValueError, match=r"w\.safetensors"):
        encoder.fit(stamps, properties=properties)


def test_headers_that_announce_too_much_are_refused(tmp_path):
    path = tmp_path / "e.safetensors"
    for length in (2**60, 2**64 - 1, 10**8 + 1, 50):
        path.write_bytes(length.to_bytes(8, "little") + b'{"a":1}')
        with pytest.raises(ValueError, match=r"e\.safetensors is not a safetensors file"):
            PropertyPretrainedEncoder.load(path)
    header = b'{"a":{"dtype":"F32","shape":[1000000000000],"data_offsets":[0,4]}}'
    path.write_bytes(len(header).to_bytes(8, "little") + header + bytes(4))
    with pytest.raises(ValueError, match=r"e\.safetensors is not a safetensors file"):
        PropertyPretrainedEncoder.load(path)


def test_loading_imports_no_module_that_a_file_names(write, tmp_path):
    (tmp_path / "trap.py").write_text("raise SystemExit('imported')")
    path = write(params(backbone="trap"))
    load = f"PropertyPretrainedEncoder.load({str(path)!r})"
    code = (
        f"from skastro import PropertyPretrainedEncoder\n"
        f"try: {load}\nexcept ValueError: print('refused')"
    )
    done = subprocess.run(  # noqa: S603 - our own interpreter and code
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=tmp_path
    )
    assert done.stdout == "refused\n"


def test_an_unaltered_encoder_is_loaded(write, fitted):
    stamps = make_stamps(4)[0]
    loaded = PropertyPretrainedEncoder.load(write(lambda *_: None))
    np.testing.assert_array_equal(loaded.transform(stamps), fitted.transform(stamps))
