"""The recipes of CONTRIBUTING.md, run as they stand there: extensions from outside the package."""

import pickle
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone

import skastro
from skastro import PropertyPretrainedEncoder, Stamps, open_stamps
from tests.conftest import tiny_encoder

_RECIPES = Path(skastro.__file__).parents[1] / "CONTRIBUTING.md"


@pytest.fixture
def cook():
    """Return a function that runs the code of a recipe and returns its names."""
    if not _RECIPES.is_file():
        pytest.skip("the source tree is not here")
    text = _RECIPES.read_text(encoding="utf-8")

    def run(title):
        section = text.partition(f"### {title}\n")[2].partition("\n### ")[0]
        (code,) = re.findall(r"```python\n(.*?)```", section, flags=re.DOTALL)
        names = {}
        exec(compile(code, f"CONTRIBUTING.md, {title}", "exec"), names)  # noqa: S102 - our text
        return names

    return run


def small(encoder):
    """Return an unfitted copy that trains in a moment."""
    named = {"backbone": "stamp_resnet10"} if isinstance(encoder.backbone, str) else {}
    return clone(encoder).set_params(max_epochs=2, batch_size=16, random_state=0, **named)


def test_a_loss(cook, survey):
    stamps, _, properties = survey
    encoder = small(cook("Add a loss")["encoder"]).fit(stamps, properties=properties)
    other = tiny_encoder().fit(stamps, properties=properties)
    assert np.isfinite(encoder.history_[-1]["train_loss"])
    assert not np.allclose(encoder.transform(stamps), other.transform(stamps))


def test_a_backbone(cook, survey, tmp_path):
    stamps, _, properties = survey
    names = cook("Add a backbone")
    encoder = small(names["encoder"]).fit(stamps, properties=properties)
    embeddings = encoder.transform(stamps)
    assert embeddings.shape == (len(stamps), 64)
    encoder.save(tmp_path / "encoder.safetensors")
    with pytest.raises(ValueError, match="pass it as backbone="):
        PropertyPretrainedEncoder.load(tmp_path / "encoder.safetensors")
    again = PropertyPretrainedEncoder.load(
        tmp_path / "encoder.safetensors", backbone=names["three_layers"]
    )
    np.testing.assert_array_equal(again.transform(stamps), embeddings)


def test_a_measured_property(cook, survey, tmp_path):
    stamps, _, _ = survey
    names = cook("Add a measured property")
    encoder = small(names["encoder"]).fit(stamps)
    assert encoder.property_source_ == "measured"
    assert {"mag_band0", "gini"} <= set(encoder.property_names_)
    assert np.isfinite(encoder.score(stamps))
    # all light in one pixel, and the same in all
    point, flat = np.zeros((2, 1, 8, 8), np.float32)
    point[0, 4, 4], flat[:] = 1, 1
    gini = names["with_gini"](np.stack([point, flat]))["gini"]
    np.testing.assert_allclose(gini, [1, 0], atol=1e-6)
    encoder.save(tmp_path / "encoder.safetensors")
    again = PropertyPretrainedEncoder.load(tmp_path / "encoder.safetensors")
    pd.testing.assert_frame_equal(again.predict(stamps), encoder.predict(stamps))
    again.set_params(targets=names["with_gini"])
    assert again.score(stamps) == encoder.score(stamps)


def total_flux(stamps):
    """Measure one property; of the module, so that it can be pickled."""
    table = pd.DataFrame({"flux": stamps.sum((1, 2, 3))})
    table.attrs["units"] = {"flux": "nmgy"}
    return table


def test_a_function_that_measures_keeps_units_and_is_pickled(survey):
    stamps, _, _ = survey
    encoder = tiny_encoder(targets=total_flux, max_epochs=1).fit(stamps)
    assert encoder.predict(stamps).attrs["units"] == {"flux": "nmgy"}
    again = pickle.loads(pickle.dumps(encoder))
    assert again.score(stamps) == encoder.score(stamps)


@pytest.mark.parametrize(
    "measure", [lambda stamps: stamps.sum((1, 2, 3)), lambda _: pd.DataFrame({"a": [1.0]})]
)
def test_a_function_that_measures_something_else_is_told(survey, measure):
    with pytest.raises(ValueError, match="must return a DataFrame with a row for each stamp"):
        tiny_encoder(targets=measure).fit(survey[0])


def test_a_reader(cook, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("tables").mkdir()
    pixels = np.arange(48.0).reshape(3, 4, 4)
    for name, stamp in zip("abc", pixels, strict=True):
        np.savetxt(f"tables/{name}.txt", stamp)
    stamps = cook("Add a reader")["stamps"]
    assert stamps.ids.tolist() == ["a", "b", "c"]
    np.testing.assert_array_equal(stamps, pixels[:, None])


def read_text(path):
    """Read a stamp; of the module, so that it can be pickled."""
    return np.loadtxt(path)


def test_a_reader_takes_lists_and_patterns_and_its_trouble_is_told(tmp_path):
    for band in "gr":
        np.savetxt(tmp_path / f"7_{band}.txt", np.eye(4))
    pair = open_stamps(tmp_path / "{id}_{band}.txt", bands="gr", size=2, reader=read_text)
    assert (pair.shape, pair.bands, pair.ids.tolist()) == ((1, 2, 2, 2), ("g", "r"), ["7"])
    one = open_stamps([tmp_path / "7_r.txt"], reader=read_text)
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(one)), np.eye(4)[None, None])
    (tmp_path / "7_g.txt").write_text("no number")
    with pytest.raises(ValueError, match=r"7_g\.txt cannot be read with reader= .*no"):
        open_stamps(tmp_path / "7_g.txt", reader=read_text)
    with pytest.raises(ValueError, match="unknown ending"):
        open_stamps(tmp_path / "7_r.txt")


class Ramp:
    """A source that computes its stamps: what `Stamps` asks of one, and no more."""

    shape, dtype, bands, ids = (5, 1, 2, 2), np.dtype(np.float32), None, None

    def read(self, rows):
        """Return stamps that hold their row's number."""
        return np.broadcast_to(rows[:, None, None, None], (len(rows), 1, 2, 2)).astype(self.dtype)


def test_a_source_of_ones_own():
    stamps = Stamps(Ramp())[[3, 1]]
    np.testing.assert_array_equal(np.asarray(stamps)[:, 0, 0, 0], [3, 1])
