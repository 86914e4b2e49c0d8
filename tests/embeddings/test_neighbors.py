"""Similar objects: exact, by an index, by ids, of new embeddings, and saved."""

from __future__ import annotations

import sys

import numpy as np
import pandas as pd
import pytest
from sklearn.neighbors import NearestNeighbors
from sklearn.preprocessing import StandardScaler

from skastro import Embeddings, SimilarObjects, find_similar
from skastro.embeddings import neighbors

N, D = 200, 12
RNG = np.random.default_rng(0)
E = (RNG.normal(size=(N, D)) * np.geomspace(1, 100, D) + 5).astype(np.float32)
P = pd.DataFrame({"mag": RNG.normal(20, 1, N), "size": RNG.lognormal(0, 1, N)})
IDS = np.array([f"g{i}" for i in range(N)])


def reference(rows, k):
    """Return the nearest rows by cosine of standardised columns, without the row itself."""
    Z = StandardScaler().fit_transform(E)
    _, found = NearestNeighbors(n_neighbors=k + 1, metric="cosine").fit(Z).kneighbors(Z[rows])
    return found[:, 1:]


def test_neighbours_are_those_by_cosine_of_standardised_columns():
    table = find_similar(E, [5, 17, 3], k=7)
    assert table["row"].to_numpy().reshape(3, 7).tolist() == reference([5, 17, 3], 7).tolist()
    assert table["rank"].tolist() == [1, 2, 3, 4, 5, 6, 7] * 3
    assert table["query"].tolist() == [5] * 7 + [17] * 7 + [3] * 7
    falls = table.groupby("query")["similarity"].apply(lambda s: s.is_monotonic_decreasing)
    assert falls.all()
    assert "id" not in table


def test_objects_are_named_by_their_ids():
    embeddings = Embeddings(E, IDS)
    by_id = find_similar(embeddings, ["g5", "g17"], k=4)
    by_row = find_similar(E, [5, 17], k=4)
    assert by_id["row"].tolist() == by_row["row"].tolist()
    assert by_id["id"].tolist() == IDS[by_row["row"]].tolist()
    assert by_id["query"].unique().tolist() == ["g5", "g17"]
    assert by_id["query_row"].unique().tolist() == [5, 17]
    pd.testing.assert_frame_equal(find_similar(E, "g5", k=4, ids=IDS), by_id[:4])


def test_ids_that_are_numbers_are_not_row_numbers():
    table = find_similar(E, 1001, k=3, ids=np.arange(N) + 1000)
    assert table["query_row"].tolist() == [1, 1, 1]
    assert (table["id"] == table["row"] + 1000).all()


def test_new_embeddings_are_compared_with_all_objects():
    table = find_similar(E, E[[4, 9]] + 1e-4, k=2)
    assert table["row"].to_numpy()[[0, 2]].tolist() == [4, 9]
    assert table["similarity"].to_numpy()[[0, 2]] == pytest.approx(1, abs=1e-5)
    assert table["query_row"].unique().tolist() == [-1]


def test_properties_weigh_as_much_as_the_embedding():
    """Whatever the unit, and however many columns the embedding has."""
    wide = np.hstack([E] * 5)
    kind = pd.DataFrame({"mag": np.where(np.arange(N) < 20, 1e6, 0.0)})
    of_kind = find_similar(wide, np.arange(10), k=10, properties=kind)
    assert (of_kind["row"] < 20).mean() > 0.9
    alone = find_similar(wide, np.arange(10), k=10)
    assert (alone["row"] < 20).mean() < 0.4


def test_missing_and_constant_properties_say_nothing():
    same = pd.DataFrame({"empty": np.full(N, np.nan), "constant": np.full(N, 3.0)})
    plain, with_them = (find_similar(E, [0, 1], properties=p) for p in (None, same))
    assert plain["row"].tolist() == with_them["row"].tolist()
    holes = P.mask(np.random.default_rng(1).random(P.shape) < 0.3)
    assert find_similar(E, [0, 1], properties=holes)["similarity"].notna().all()


def test_an_object_is_not_similar_to_itself_even_among_copies():
    copies = E.copy()
    copies[:30] = E[0]
    table = find_similar(copies, np.arange(30), k=5)
    assert len(table) == 150
    assert (table["row"] != table["query"]).all()
    assert table["similarity"].to_numpy() == pytest.approx(1, abs=1e-6)


def test_there_are_fewer_if_there_are_not_so_many():
    assert find_similar(E[:4], [0], k=10)["row"].tolist() == reference_of_four()
    assert len(find_similar(E[:4], E[:1], k=10)) == 4
    assert len(find_similar(E[:1], [0])) == 0


def reference_of_four():
    Z = StandardScaler().fit_transform(E[:4])
    Z /= np.linalg.norm(Z, axis=1, keepdims=True)
    return (np.argsort(-(Z[1:] @ Z[0])) + 1).tolist()


@pytest.fixture
def untraced():
    """Stop measuring the coverage, because numba compiles several times slower beside it."""
    trace = sys.gettrace()
    sys.settrace(None)
    yield
    sys.settrace(trace)


@pytest.mark.usefixtures("untraced")
def test_the_index_finds_what_the_exact_search_finds():
    pytest.importorskip("pynndescent")
    rng = np.random.default_rng(0)
    many = rng.normal(size=(3000, 6)) @ rng.normal(size=(6, 64)) + 0.1 * rng.normal(size=(3000, 64))
    rows = np.arange(0, 3000, 100)
    exact, fast = (SimilarObjects(many, exact=e).find(rows, 8) for e in (True, False))
    assert (fast["query"] == exact["query"]).all()
    assert (fast["row"] != fast["query"]).all()
    pairs = zip(*(t["row"].to_numpy().reshape(-1, 8) for t in (exact, fast)), strict=True)
    assert np.mean([len(set(a) & set(b)) / 8 for a, b in pairs]) > 0.97
    both = exact.merge(fast, on=["query", "row"])
    assert both["similarity_x"].to_numpy() == pytest.approx(both["similarity_y"], abs=1e-4)


def test_many_rows_need_an_index_unless_few_are_asked_for(monkeypatch):
    monkeypatch.setattr(neighbors, "_MAX_EXACT_ROWS", 100)
    monkeypatch.setitem(sys.modules, "pynndescent", None)
    assert len(find_similar(E, [0, 1], k=3)) == 6
    with pytest.raises(ImportError, match=r"needs pynndescent.*pip install 'skastro\[projection\]"):
        SimilarObjects(E)


@pytest.mark.parametrize("properties", [None, P])
def test_a_saved_collection_finds_the_same(tmp_path, properties):
    objects = SimilarObjects(E, properties, ids=IDS)
    objects.save(tmp_path / "s.npz")
    loaded = SimilarObjects.load(tmp_path / "s.npz")
    assert repr(loaded) == repr(objects)
    pd.testing.assert_frame_equal(loaded.find(["g3", "g8"]), objects.find(["g3", "g8"]))
    new = {"properties": properties if properties is None else properties[:2]}
    pd.testing.assert_frame_equal(loaded.find(E[:2], **new), objects.find(E[:2], **new))


def test_other_files_are_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"pass a file of SimilarObjects\.save"):
        SimilarObjects.load(tmp_path / "none.npz")
    np.savez(tmp_path / "other.npz", rows=np.eye(3))
    with pytest.raises(ValueError, match=r"is not a file of SimilarObjects\.save"):
        SimilarObjects.load(tmp_path / "other.npz")
    with pytest.raises(ValueError, match=r"must end in \.npz"):
        SimilarObjects(E).save(tmp_path / "s.pkl")


@pytest.mark.parametrize(
    ("query", "options", "words"),
    [
        ([0, N], {}, f"must be row numbers from 0 to {N - 1}"),
        (["g5"], {}, "the objects have no ids: or pass ids="),
        (["g5", "x"], {"ids": IDS}, "query x is not an id of the 200 objects: pass ids such as g0"),
        ([0], {"ids": IDS[:3]}, r"ids has shape \(3,\), but embeddings has 200 rows"),
        (E[:, :3], {}, "query has 3 columns, but embeddings has 12"),
        (np.zeros((2, 3, 8, 8)), {}, r"encoder.transform\(stamps\)"),
        (np.full((1, D), np.nan), {}, "query contains NaN"),
        ([0], {"k": 0}, "k=0 must be a whole number of at least 1"),
        ([0], {"query_properties": P}, "leave it out for ids and rows"),
        (E[:2], {"properties": P}, "pass those of the new ones"),
        (E[:2], {"query_properties": P[:2]}, "the objects have no properties"),
        (E[:2], {"properties": P, "query_properties": P}, r"properties has shape \(200, 2\)"),
        (E[:2], {"properties": P, "query_properties": P[:2][["mag"]]}, "has no column 'size'"),
        ([0], {"properties": P[:5]}, "properties has 5 rows"),
    ],
)
def test_wrong_arguments_are_one_sentence(query, options, words):
    with pytest.raises(ValueError, match=words):
        find_similar(E, query, **options)
