"""Damaged and hostile files end in an error of one sentence, without executing code."""

import pytest

from skastro.stamps.formats import _refuse_pickles
from skastro.utils.files import UnfitError
from tests.promises import fuzzing

KINDS = ["catalogs", "stamps", "encoders"]
pytest.importorskip("pyarrow")
pytest.importorskip("zarr")
pytest.importorskip("h5py")


@pytest.mark.parametrize("kind", KINDS)
def test_altered_files_are_read_or_refused_in_a_sentence(kind, tmp_path):
    assert fuzzing.run(kind, 100, tmp_path) == []


@pytest.mark.torture
@pytest.mark.parametrize("kind", KINDS)
def test_ten_thousand_altered_files_are_read_or_refused_in_a_sentence(kind, tmp_path):
    assert fuzzing.run(kind, 10_000, tmp_path) == []


@pytest.mark.parametrize("kind", ["catalogs", "stamps"])
def test_hostile_files_neither_execute_code_nor_use_much_memory(kind, tmp_path):
    assert fuzzing.run(kind, 0, tmp_path) == []


@pytest.mark.parametrize("kind", ["catalogs", "stamps"])
def test_the_fuzzing_notices_wrong_errors(kind, tmp_path):
    good = fuzzing.seeds(kind, tmp_path)[0]

    def wrong(error):
        def read(_):
            raise error

        return fuzzing.judge(read, good)

    assert wrong(ValueError(f"{good} is damaged: copy it again.")) is None
    assert wrong(ValueError("damaged")).startswith("no sentence")
    assert wrong(ValueError("It is damaged.")).startswith("names no file")
    assert wrong(KeyError("a")) == "KeyError: 'a'"
    assert wrong(MemoryError()) == "MemoryError: "


@pytest.mark.parametrize(
    "described",
    [
        {"compressor": {"id": "pickle"}},
        {"filters": [{"id": "zlib"}, {"id": "pickle"}]},
        {"codecs": [{"name": "bytes"}, {"name": "numcodecs.pickle"}]},
    ],
)
def test_codecs_that_execute_what_they_decode_are_refused(described, tmp_path):
    with pytest.raises(UnfitError, match="pickled Python objects, which may execute code"):
        _refuse_pickles(tmp_path, described)
    _refuse_pickles(tmp_path, {"compressor": {"id": "zlib"}, "attributes": {"note": "pickle"}})
