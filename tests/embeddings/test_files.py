import numpy as np
import pandas as pd
import pytest

from skastro.embeddings.files import read_embeddings, write_embeddings

FORMATS = [".csv", ".fits", ".ecsv", ".parquet", ".vot", ".xml"]


@pytest.mark.parametrize("ending", [*FORMATS, ".npz", ".NPZ"])
def test_embeddings_come_back_with_their_ids(tmp_path, ending):
    values = np.random.default_rng(0).normal(size=(4, 12)).astype(np.float32)
    ids = np.array(["1237648720693755918", "1237648720693755919", "a", "b"])
    write_embeddings(tmp_path / f"e{ending}", values, ids)
    back = read_embeddings(tmp_path / f"e{ending}")
    np.testing.assert_array_equal(back.values, values)
    assert back.values.dtype == np.float32
    assert back.ids.astype(str).tolist() == ids.tolist()
    assert back.named


@pytest.mark.parametrize("ending", [".npy", ".NPY"])
def test_arrays_without_ids_have_row_numbers(tmp_path, ending):
    write_embeddings(tmp_path / f"e{ending}", np.eye(3), ["a", "b", "c"])
    back = read_embeddings(tmp_path / f"e{ending}")
    assert back.ids.tolist() == [0, 1, 2]
    assert not back.named


def test_embedding_columns_of_other_programs_are_recognised_by_their_numbers(tmp_path):
    rows = {"id": [1, 2], "mag_1": [9.0, 8.0], "feature2": [2, 3], "feature10": [5, 6]}
    rows |= {f"feature{i}": [i, i + 1] for i in (1, 3, 4, 5, 6, 7, 8, 9)}
    pd.DataFrame(rows).to_csv(tmp_path / "e.csv", index=False)
    back = read_embeddings(tmp_path / "e.csv")
    assert back.values[0].tolist() == [1, 2, 3, 4, 5, 6, 7, 8, 9, 5]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("none.csv", None, "does not exist"),
        ("t.csv", "id,mag\n1,2\n", "no columns numbered like e0"),
        ("t.npz", b"nothing", "cannot be read as arrays"),
        ("t.npy", b"nothing", "cannot be read as arrays"),
        ("t.csv", "id,e0,e1\n1,2,\n", "not finite in row 0"),
        ("t.doc", "e0,e1\n1,2\n", "t.doc is not a file of embeddings"),
        ("", None, "is a folder"),
    ],
)
def test_files_without_embeddings_are_refused(tmp_path, name, content, message):
    if content is not None:
        (tmp_path / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        read_embeddings(tmp_path / name)


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"values": np.eye(3)}, "no array 'embeddings'"),
        ({"embeddings": np.zeros(3)}, r"shape \(3,\)"),
        ({"embeddings": np.eye(3), "ids": [1, 2]}, "3 embeddings and 2 ids"),
        ({"embeddings": np.array([["a"]])}, "embeddings are numbers"),
    ],
)
def test_arrays_without_embeddings_are_refused(tmp_path, arrays, message):
    np.savez(tmp_path / "e.npz", **arrays)
    with pytest.raises(ValueError, match=message):
        read_embeddings(tmp_path / "e.npz")
