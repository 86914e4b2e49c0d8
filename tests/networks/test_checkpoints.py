"""A fit that was killed resumes, and its result is that of an uninterrupted fit."""

import json
import re

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from skastro import PropertyPretrainedEncoder, SelfSupervisedClassifier
from skastro.networks import training
from skastro.networks.checkpoints import CHECKPOINT
from skastro.networks.training import seeded
from skastro.stamps.arrays import sample_pixels
from skastro.utils.files import digest_arrays
from tests.conftest import tiny_encoder


class KilledError(Exception):
    """Stands for a kill: no code of the fit runs after it."""


@pytest.fixture(autouse=True)
def write_after_each_epoch(monkeypatch):
    """Write a checkpoint after each epoch, even if it is short."""
    monkeypatch.setattr(training, "_MIN_WAIT_RATIO", 0.0)


@pytest.fixture
def kill(monkeypatch):
    """Return a function that makes fits stop after a number of checkpoints."""
    write = training._CheckpointCallback._write

    def set_up(after):
        n_remaining = iter(range(after - 1, -1, -1))

        def killed(saving, *args):
            write(saving, *args)
            if next(n_remaining) == 0:
                raise KilledError

        monkeypatch.setattr(training._CheckpointCallback, "_write", killed)
        return lambda: monkeypatch.setattr(training._CheckpointCallback, "_write", write)

    return set_up


class Dropping(nn.Module):
    """A tiny backbone that draws from torch's global generator, and has tied weights."""

    def __init__(self, bands=3):
        super().__init__()
        self.conv = nn.Conv2d(bands, 8, 3)
        self.same = self.conv
        self.norm = nn.BatchNorm2d(8)
        self.drop = nn.Dropout(0.3)

    def forward(self, x):
        return self.drop(self.norm(self.conv(x)).relu().mean((2, 3)))


def dropping(**params):
    with seeded(0):
        backbone = Dropping()
    return tiny_encoder(**{"backbone": backbone, "targets": "catalog", "max_epochs": 5, **params})


def numbers(encoder):
    weights = [part.numpy() for part in encoder.network_.state_dict().values()]
    return digest_arrays(*weights, encoder.embedding_mean_, encoder.embedding_scale_)


def rows(encoder):
    return [{k: v for k, v in row.items() if k != "dur"} for row in encoder.history_]


@pytest.fixture
def interrupted(survey, kill, tmp_path):
    """Return a folder with the checkpoint of a fit that was killed after an epoch."""
    revive = kill(1)
    with pytest.raises(KilledError):
        dropping(checkpoint_dir=tmp_path).fit(survey[0], properties=survey[2])
    revive()
    return tmp_path


@pytest.mark.parametrize("params", [{}, {"validation_fraction": 0.2, "learning_rate": 0.3}])
@pytest.mark.parametrize("epochs", [1, 3, 5])
def test_a_killed_fit_ends_bit_for_bit_as_an_uninterrupted_one(
    survey, kill, tmp_path, params, epochs
):
    stamps, _, properties = survey
    whole = dropping(**params).fit(stamps, properties=properties)
    revive = kill(epochs)
    encoder = dropping(**params, checkpoint_dir=tmp_path / "new" / "folder")
    with pytest.raises(KilledError):
        encoder.fit(stamps, properties=properties)
    revive()
    resumed = encoder.fit(stamps, properties=properties)
    assert numbers(resumed) == numbers(whole)
    assert rows(resumed) == rows(whole)
    assert list((tmp_path / "new" / "folder").iterdir()) == []


@pytest.mark.parametrize("batches", [1, 4, 7])
def test_a_kill_within_an_epoch_loses_no_batch(survey, kill, tmp_path, monkeypatch, batches):
    stamps, _, properties = survey
    params = {"validation_fraction": 0.2, "batch_size": 8}
    whole = dropping(**params).fit(stamps, properties=properties)
    monkeypatch.setattr(training, "_CHECKPOINT_SECONDS", 0.0)
    revive = kill(batches)
    with pytest.raises(KilledError):
        dropping(**params, checkpoint_dir=tmp_path).fit(stamps, properties=properties)
    revive()
    resumed = dropping(**params, checkpoint_dir=tmp_path).fit(stamps, properties=properties)
    assert numbers(resumed) == numbers(whole)
    assert rows(resumed) == rows(whole)


def test_early_stopping_remembers_its_misses_and_its_best_epoch(survey, kill, tmp_path):
    stamps, _, properties = survey
    noise = properties * 0 + np.random.default_rng(0).normal(size=properties.shape)
    params = {"validation_fraction": 0.3, "max_epochs": 40, "learning_rate": 0.02}
    whole = dropping(**params).fit(stamps, properties=noise)
    assert 12 < len(whole.history_) < 40
    revive = kill(len(whole.history_) - 3)
    with pytest.raises(KilledError):
        dropping(**params, checkpoint_dir=tmp_path).fit(stamps, properties=noise)
    revive()
    resumed = dropping(**params, checkpoint_dir=tmp_path).fit(stamps, properties=noise)
    assert numbers(resumed) == numbers(whole)
    assert len(resumed.history_) == len(whole.history_)


def test_a_residual_network_in_channels_last_order_resumes(survey, kill, tmp_path):
    stamps, _, properties = survey
    whole = tiny_encoder().fit(stamps, properties=properties)
    revive = kill(1)
    with pytest.raises(KilledError):
        tiny_encoder(checkpoint_dir=tmp_path).fit(stamps, properties=properties)
    revive()
    resumed = tiny_encoder(checkpoint_dir=tmp_path).fit(stamps, properties=properties)
    assert numbers(resumed) == numbers(whole)


def test_precision_stays_that_of_the_first_machine(survey, interrupted, monkeypatch):
    whole = dropping().fit(survey[0], properties=survey[2])
    monkeypatch.setattr(training, "uses_bfloat16", lambda *_, **__: True)
    resumed = dropping(checkpoint_dir=interrupted).fit(survey[0], properties=survey[2])
    assert numbers(resumed) == numbers(whole)


def test_without_a_random_state_the_seed_of_the_checkpoint_is_used(survey, kill, tmp_path):
    stamps, _, properties = survey
    encoder = dropping(random_state=None, checkpoint_dir=tmp_path)
    revive = kill(2)
    with pytest.raises(KilledError):
        encoder.fit(stamps, properties=properties)
    revive()
    seed = read(tmp_path)["seed"]
    encoder.fit(stamps, properties=properties)
    assert encoder.seed_ == seed
    whole = dropping(random_state=seed).fit(stamps, properties=properties)
    assert numbers(encoder) == numbers(whole)
    assert encoder.fit(stamps, properties=properties).seed_ != seed


def read(folder):
    content = (folder / CHECKPOINT).read_bytes()
    size = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + size])["__metadata__"]
    return json.loads(header["skastro checkpoint"])


def test_a_classifier_resumes_the_fit_of_its_encoder(survey, kill, tmp_path):
    stamps, labels, properties = survey

    def fit(**params):
        classifier = SelfSupervisedClassifier(dropping(**params), strategy="probe", random_state=0)
        return classifier.fit(stamps, labels, properties=properties)

    whole = fit()
    revive = kill(2)
    with pytest.raises(KilledError):
        fit(checkpoint_dir=tmp_path)
    revive()
    resumed = fit(checkpoint_dir=tmp_path)
    assert numbers(resumed.encoder_) == numbers(whole.encoder_)
    np.testing.assert_array_equal(resumed.predict_proba(stamps), whole.predict_proba(stamps))


def test_the_file_holds_no_code(interrupted):
    assert [path.name for path in interrupted.iterdir()] == [CHECKPOINT]
    assert load_file(interrupted / CHECKPOINT)  # safetensors, with JSON in the header
    assert read(interrupted)["job"]["settings"]["batch_size"] == 16


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"batch_size": 8}, "with batch_size=16, and this one has 8: delete the file"),
        ({"max_epochs": 6}, "with max_epochs=5, and this one has 6"),
        ({"random_state": 1}, "with random_state=0, and this one has 1"),
        ({"loss": "mse"}, "with loss='huber', and this one has 'mse'"),
        ({"net_params": {"optimizer": torch.optim.SGD}}, "has {'optimizer': 'torch.optim.sgd.SGD'"),
        (
            {"backbone": Dropping()},
            r"with backbone='tests\.networks\.test_checkpoints\.Dropping \w+', and",
        ),
        ({"backbone": "stamp_resnet10"}, "and this one has 'stamp_resnet10'"),
    ],
)
def test_a_checkpoint_of_other_parameters_is_refused(survey, interrupted, params, message):
    encoder = dropping(checkpoint_dir=interrupted, **params)
    with pytest.raises(ValueError, match=message) as error:
        encoder.fit(survey[0], properties=survey[2])
    assert str(error.value).startswith(str(interrupted / CHECKPOINT))
    assert (interrupted / CHECKPOINT).exists()


def test_a_checkpoint_of_other_data_is_refused(survey, interrupted):
    stamps, _, properties = survey
    encoder = dropping(checkpoint_dir=interrupted)
    with pytest.raises(ValueError, match="of a training on other pixels"):
        encoder.fit(stamps + 1, properties=properties)
    with pytest.raises(ValueError, match="of a training on other targets"):
        encoder.fit(stamps, properties=properties**2)
    with pytest.raises(ValueError, match="of a training on other targets"):
        encoder.fit(stamps, properties=properties, property_errors=properties * 0 + 1)
    with pytest.raises(ValueError, match=r"with shape=\[60, 3, 8, 8\], and this one has \[59, "):
        encoder.fit(stamps[1:], properties=properties[1:])
    with pytest.raises(ValueError, match="with dtype='float32', and this one has 'float64'"):
        encoder.fit(stamps.astype(np.float64), properties=properties)
    with pytest.raises(ValueError, match=r"with property_names=.*'mag_u'.* has .*'other'"):
        encoder.fit(stamps, properties=properties.rename(columns={"mag_u": "other"}))


def test_a_checkpoint_of_another_version_is_refused(survey, interrupted, monkeypatch):
    version = training.Checkpoint.__module__
    monkeypatch.setattr(f"{version}.metadata.version", lambda name: f"9.{len(name)}")
    with pytest.raises(ValueError, match=r"was written with skastro \S+, and this is 9\.7: delete"):
        dropping(checkpoint_dir=interrupted).fit(survey[0], properties=survey[2])


def alter(content, how):
    if how == "empty":
        return b""
    if how == "truncated":
        return content[: len(content) // 2]
    middle = len(content) - 40
    return content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]


@pytest.mark.parametrize("how", ["empty", "truncated", "flipped"])
def test_a_damaged_checkpoint_is_refused(survey, interrupted, how):
    path = interrupted / CHECKPOINT
    path.write_bytes(alter(path.read_bytes(), how))
    with pytest.raises(ValueError, match="is damaged, or not a checkpoint: delete the file"):
        dropping(checkpoint_dir=interrupted).fit(survey[0], properties=survey[2])


def test_another_file_of_that_name_is_refused(survey, tmp_path):
    save_file({"a": torch.zeros(3)}, tmp_path / CHECKPOINT)
    with pytest.raises(ValueError, match="is damaged, or not a checkpoint"):
        dropping(checkpoint_dir=tmp_path).fit(survey[0], properties=survey[2])


def test_a_checkpoint_is_not_an_encoder(interrupted):
    with pytest.raises(ValueError, match="holds no skastro encoder"):
        PropertyPretrainedEncoder.load(interrupted / CHECKPOINT)


def test_a_folder_that_cannot_be_written_to_is_refused_before_training(survey, locked, monkeypatch):
    monkeypatch.setattr("skastro.estimators.encoder.train", None)
    encoder = dropping(checkpoint_dir=locked / "new")
    with pytest.raises(OSError, match=f"{re.escape(str(locked))}.*cannot be written"):
        encoder.fit(survey[0], properties=survey[2])


def test_a_file_in_place_of_the_folder_is_refused(survey, tmp_path):
    (tmp_path / "taken").write_text("")
    with pytest.raises(OSError, match="taken cannot be written"):
        dropping(checkpoint_dir=tmp_path / "taken").fit(survey[0], properties=survey[2])


def test_callbacks_whose_state_cannot_be_saved_are_refused(survey, tmp_path):
    encoder = dropping(checkpoint_dir=tmp_path, net_params={"callbacks": []})
    with pytest.raises(ValueError, match="net_params has callbacks"):
        encoder.fit(survey[0], properties=survey[2])


def test_a_leftover_of_a_kill_during_a_write_is_removed(survey, interrupted):
    (interrupted / f".123.{CHECKPOINT}").write_bytes(b"half")
    dropping(checkpoint_dir=interrupted).fit(survey[0], properties=survey[2])
    assert list(interrupted.iterdir()) == []


def test_an_untrained_network_needs_no_checkpoint(survey, interrupted):
    dropping(checkpoint_dir=interrupted, max_epochs=0).fit(survey[0], properties=survey[2])
    assert (interrupted / CHECKPOINT).exists()


def test_a_saved_encoder_does_not_contain_the_checkpoint_folder(survey, tmp_path):
    encoder = tiny_encoder(max_epochs=1, checkpoint_dir=tmp_path)
    encoder.fit(survey[0], properties=survey[2]).save(tmp_path / "e.safetensors")
    assert str(tmp_path).encode() not in (tmp_path / "e.safetensors").read_bytes()
    assert PropertyPretrainedEncoder.load(tmp_path / "e.safetensors").checkpoint_dir is None


def test_checkpoints_take_little_of_the_time(survey, tmp_path, monkeypatch):
    monkeypatch.setattr(training, "_MIN_WAIT_RATIO", 20.0)
    clock = iter(np.arange(1000.0))  # an epoch and a checkpoint take some seconds each
    monkeypatch.setattr(training, "monotonic", lambda: float(next(clock)))
    written = []
    write = training.Checkpoint.write
    monkeypatch.setattr(training.Checkpoint, "write", lambda *a: (written.append(1), write(*a)))
    dropping(max_epochs=12, batch_size=64, checkpoint_dir=tmp_path).fit(
        survey[0], properties=survey[2]
    )
    assert 1 < len(written) < 6


@pytest.mark.parametrize("n", [1, 60, 500])
def test_a_sample_of_pixels_contains_the_first_and_last_stamp(n):
    stamps = np.zeros((n, 1, 4, 4), np.float32)
    before = sample_pixels(stamps)
    for row in (0, -1):
        other = stamps.copy()
        other[row, 0, 0, 0] = 1.0
        assert sample_pixels(other) != before
    assert sample_pixels(stamps.copy()) == before
