"""Surveys embedded by a cluster: two workers, each a process with one thread."""

import os
import signal
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from joblib import parallel_config
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline

from skastro import (
    LinearProbe,
    PropertyPretrainedEncoder,
    embed_survey,
    label_efficiency_curve,
    open_stamps,
)
from skastro.cli.app import main
from skastro.embeddings.files import read_embeddings
from tests.conftest import make_stamps, tiny_encoder

dask = pytest.importorskip("dask.distributed")
zarr = pytest.importorskip("zarr")

CHUNK = 16  # the batch size of the encoder, so that batches are the same
pytestmark = [
    pytest.mark.slow,
    # loops and sockets of Dask that close late
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


@pytest.fixture(scope="module")
def client():
    """Return a client of two worker processes."""
    with (
        dask.LocalCluster(
            n_workers=2,
            threads_per_worker=1,
            memory_limit=0,
            dashboard_address="127.0.0.1:0",
            scheduler_kwargs={"dashboard": False},
        ) as cluster,
        dask.Client(cluster) as found,
    ):
        yield found


@pytest.fixture(scope="module")
def many():
    """Return 200 stamps."""
    return make_stamps(200, seed=3)[0]


@pytest.fixture
def path(many, tmp_path):
    np.save(tmp_path / "stamps.npy", many)
    return tmp_path / "stamps.npy"


def quietly(client, **options):
    return {"client": client, "chunk": CHUNK, "progress": False, **options}


def read(store):
    group = zarr.open_group(store, mode="r")
    return group["ids"][:], group["embeddings"][:]


@pytest.mark.parametrize("kind", ["path", "Stamps", "array"])
def test_embeddings_are_those_of_transform_in_order(client, fitted, many, path, tmp_path, kind):
    stamps = {"path": path, "Stamps": open_stamps(path), "array": many}[kind]
    done = embed_survey(fitted, stamps, tmp_path / "e.zarr", **quietly(client))
    ids, embeddings = read(done.path)
    np.testing.assert_array_equal(ids, np.arange(200))
    np.testing.assert_array_equal(embeddings, fitted.transform(many))
    np.testing.assert_array_equal(done.read().values, embeddings)
    assert (done.n, done.n_features, done.n_resumed) == (200, embeddings.shape[1], 0)
    assert done.rate > 0
    assert not list(tmp_path.rglob("*.partial*"))


def test_a_folder_of_parquet_files_has_ids_and_properties(client, fitted, many, tmp_path):
    fitted.save(tmp_path / "encoder.safetensors")
    ids = np.array([f"object é {i}" for i in range(200)])
    done = embed_survey(
        tmp_path / "encoder.safetensors",
        many,
        tmp_path / "e.parquet",
        ids=ids,
        predict=True,
        **quietly(client, chunk=48),
    )
    table = pd.read_parquet(done.path)
    assert table["id"].tolist() == ids.tolist()
    width = len(fitted.embedding_mean_)
    embeddings = table[[f"e{i}" for i in range(width)]].to_numpy()
    np.testing.assert_allclose(embeddings, fitted.transform(many), atol=1e-5)
    for name, column in fitted.predict(many).items():
        np.testing.assert_allclose(table[name], column, rtol=1e-4, atol=1e-4)
    assert len(list(done.path.glob("*.parquet"))) == 5
    np.testing.assert_array_equal(done.read().values, embeddings)
    assert done.read().ids.tolist() == ids.tolist()


def test_a_zarr_store_has_text_ids_and_properties(client, fitted, many, tmp_path):
    ids = np.array([f"object é {i}" for i in range(200)], dtype=object)
    options = quietly(client, ids=ids, predict=True)
    done = embed_survey(fitted, many, tmp_path / "e.zarr", **options)
    group = zarr.open_group(done.path, mode="r")
    assert done.read().ids.tolist() == ids.tolist()
    assert group.attrs["property_names"] == fitted.property_names_
    np.testing.assert_allclose(group["properties"][:], fitted.predict(many), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("ending", ["zarr", "parquet"])
def test_an_interrupted_call_goes_on_where_it_stopped(client, fitted, path, tmp_path, ending):
    def interrupt(_stage, done, _total):
        if done >= 3 * CHUNK:
            raise KeyboardInterrupt

    out = tmp_path / f"e.{ending}"
    with pytest.raises(KeyboardInterrupt):
        embed_survey(fitted, path, out, **quietly(client, progress=interrupt))
    assert not out.exists()
    told = []
    options = quietly(client, progress=lambda _, done, total: told.append((done, total)))
    done = embed_survey(fitted, path, out, **options)
    assert 3 * CHUNK <= done.n_resumed < 200
    assert told[0] == (done.n_resumed, 200)
    assert told[-1] == (200, 200)
    whole = embed_survey(fitted, path, tmp_path / f"whole.{ending}", **quietly(client))
    if ending == "zarr":
        np.testing.assert_array_equal(read(out)[1], read(whole.path)[1])
    else:
        pd.testing.assert_frame_equal(pd.read_parquet(out), pd.read_parquet(whole.path))
    again = embed_survey(fitted, path, out, **quietly(client))
    assert again.n_resumed == 200


@pytest.mark.parametrize("from_disk", [True, False])
def test_the_death_of_a_worker_loses_nothing(client, fitted, many, path, tmp_path, from_disk):
    victims = []

    def kill(_stage, done, _total):
        if done >= 2 * CHUNK and not victims:
            victims.append(next(iter(client.run(os.getpid).values())))
            os.kill(victims[0], signal.SIGKILL)

    stamps = path if from_disk else many
    done = embed_survey(fitted, stamps, tmp_path / "e.zarr", **quietly(client, progress=kill))
    ids, embeddings = read(done.path)
    np.testing.assert_array_equal(ids, np.arange(200))
    np.testing.assert_array_equal(embeddings, fitted.transform(many))
    assert len(victims) == 1
    client.wait_for_workers(2, timeout=120)
    assert victims[0] not in client.run(os.getpid).values()


def test_the_output_of_another_call_is_refused_and_the_difference_named(
    client, fitted, many, survey, tmp_path
):
    out = tmp_path / "e.zarr"
    first = embed_survey(fitted, many, out, **quietly(client))
    kept = read(first.path)[1]
    with pytest.raises(ValueError, match=r"with chunk=16, and this call has 32"):
        embed_survey(fitted, many, out, **quietly(client, chunk=32))
    with pytest.raises(ValueError, match="with other stamps"):
        embed_survey(fitted, many + 1, out, **quietly(client))
    other = tiny_encoder(random_state=1).fit(survey[0], properties=survey[2])
    with pytest.raises(ValueError, match="by another encoder"):
        embed_survey(other, many, out, **quietly(client))
    np.testing.assert_array_equal(read(out)[1], kept)
    embed_survey(other, many, out, **quietly(client, overwrite=True))
    np.testing.assert_array_equal(read(out)[1], other.transform(many))


def test_a_partial_output_of_another_call_is_refused(client, fitted, many, tmp_path):
    def interrupt(_stage, done, _total):
        if done:
            raise KeyboardInterrupt

    out = tmp_path / "e.parquet"
    with pytest.raises(KeyboardInterrupt):
        embed_survey(fitted, many, out, **quietly(client, progress=interrupt))
    with pytest.raises(ValueError, match="was begun with predict=False, and this call has True"):
        embed_survey(fitted, many, out, **quietly(client, predict=True))


def test_what_is_not_ours_is_never_replaced(client, fitted, many, tmp_path):
    (tmp_path / "mine.parquet").mkdir()
    (tmp_path / "mine.parquet" / "thesis.tex").write_text("years of work")
    with pytest.raises(FileExistsError, match="did not write it"):
        embed_survey(fitted, many, tmp_path / "mine.parquet", **quietly(client, overwrite=True))
    assert (tmp_path / "mine.parquet" / "thesis.tex").exists()


@pytest.mark.parametrize("from_disk", [True, False])
def test_a_bad_stamp_is_named_by_its_row(client, fitted, many, tmp_path, from_disk):
    bad = many.copy()
    bad[101, 0, 2, 2] = np.inf
    stamps = bad
    if from_disk:
        np.save(tmp_path / "bad.npy", bad)
        stamps = tmp_path / "bad.npy"
    with pytest.raises(ValueError, match="infinite pixel in row 101 "):
        embed_survey(fitted, stamps, tmp_path / "e.zarr", **quietly(client))
    assert not (tmp_path / "e.zarr").exists()


def test_few_chunks_are_in_flight_whatever_their_number(
    client, fitted, many, tmp_path, monkeypatch
):
    from skastro.embeddings import distributed  # noqa: PLC0415

    submit, flying = distributed._Run._submit, []

    def watch(self, *args):
        submit(self, *args)
        flying.append(len(self.flying))

    monkeypatch.setattr(distributed._Run, "_submit", watch)
    embed_survey(fitted, many, tmp_path / "e.zarr", **quietly(client, chunk=5))
    assert len(flying) == 40
    assert max(flying) <= 4


def test_wrong_use_is_told_before_a_worker_starts(fitted, many, tmp_path):
    with pytest.raises(ValueError, match=r"must end in \.zarr or \.parquet"):
        embed_survey(fitted, many, tmp_path / "e.csv")
    with pytest.raises(ValueError, match="chunk=0 must be at least 1"):
        embed_survey(fitted, many, tmp_path / "e.zarr", chunk=0)
    with pytest.raises(ValueError, match="X has 2 bands"):
        embed_survey(fitted, many[:, :2], tmp_path / "e.zarr")
    with pytest.raises(ValueError, match=r"ids has shape \(3,\)"):
        embed_survey(fitted, many, tmp_path / "e.zarr", ids=[1, 2, 3])
    with pytest.raises(TypeError, match="pass a fitted PropertyPretrainedEncoder"):
        embed_survey(LinearProbe(), many, tmp_path / "e.zarr")
    assert list(tmp_path.iterdir()) == []


_SCRIPT = """
import sys
from skastro import embed_survey

if __name__ == "__main__":
    encoder, stamps, out = sys.argv[1:]
    done = embed_survey(encoder, stamps, out, n_workers=1, chunk=64, progress=False)
    print(done.n)
"""


def test_without_a_client_a_cluster_is_made_and_ended(fitted, many, path, tmp_path):
    fitted.save(tmp_path / "encoder.safetensors")
    (tmp_path / "script.py").write_text(_SCRIPT)
    command = [tmp_path / "script.py", tmp_path / "encoder.safetensors", path, tmp_path / "e.zarr"]
    result = subprocess.run(  # noqa: S603 - our own interpreter and script
        [sys.executable, *command],
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert result.returncode == 0, result.stderr
    assert result.stdout.split() == ["200"]
    np.testing.assert_allclose(read(tmp_path / "e.zarr")[1], fitted.transform(many), atol=1e-5)


def test_the_command_embeds_by_workers(fitted, many, path, tmp_path, monkeypatch):
    fitted.save(tmp_path / "encoder.safetensors")
    monkeypatch.chdir(tmp_path)
    command = ["embed", "encoder.safetensors", "--images", str(path), "--out", "e.npz"]
    with pytest.raises(SystemExit) as end:
        main([*command, "--workers", "1", "--quiet"])
    assert end.value.code == 0
    found = read_embeddings("e.npz")
    np.testing.assert_allclose(found.values, fitted.transform(many), atol=1e-5)
    assert found.ids.tolist() == list(range(200))
    assert not list(tmp_path.glob("e.npz.*"))


@pytest.mark.usefixtures("client")
def test_a_grid_search_on_dask_finds_what_one_process_finds(survey):
    stamps, labels, properties = survey
    model = make_pipeline(tiny_encoder(max_epochs=1), LinearProbe())
    name = "propertypretrainedencoder__"

    def search(n_jobs):
        found = GridSearchCV(model, {f"{name}learning_rate": [1e-3, 1e-2]}, cv=2, n_jobs=n_jobs)
        return found.fit(stamps, labels, **{f"{name}properties": properties}).cv_results_

    alone = search(1)
    with parallel_config("dask"):
        spread = search(2)
    np.testing.assert_array_equal(spread["mean_test_score"], alone["mean_test_score"])


@pytest.mark.usefixtures("client")
def test_a_label_efficiency_curve_on_dask_is_that_of_one_process(survey):
    stamps, labels, _ = survey

    def curve(n_jobs):
        encoder = PropertyPretrainedEncoder("stamp_resnet10", max_epochs=1, random_state=0)
        return label_efficiency_curve(
            {"probe": make_pipeline(encoder, LinearProbe())},
            stamps,
            labels,
            label_counts=[8, 16],
            n_repeats=2,
            random_state=0,
            n_jobs=n_jobs,
        ).scores.drop(columns="fit_seconds")

    with parallel_config("dask"):
        spread = curve(2)
    columns = ["estimator", "n_labels", "repeat"]
    pd.testing.assert_frame_equal(
        spread.sort_values(columns).reset_index(drop=True),
        curve(1).sort_values(columns).reset_index(drop=True),
    )
