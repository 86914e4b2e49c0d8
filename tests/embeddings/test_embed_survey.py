"""Embed surveys in this process, and by a cluster of two workers with one thread each."""

import json
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

CHUNK = 16  # the batch size of the encoder, so that batches are the same
ENDINGS = ["zarr", "parquet", "chunks"]
pytestmark = [
    # loops and sockets of Dask that close late
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


@pytest.fixture(scope="module")
def client():
    """Return a client of two worker processes."""
    dask = pytest.importorskip("dask.distributed")
    with (
        dask.LocalCluster(
            n_workers=2,
            threads_per_worker=1,
            memory_limit=0,
            dashboard_address="127.0.0.1:0",
            scheduler_kwargs={"dashboard": False},
        ) as cluster,
        dask.Client(cluster) as client,
    ):
        yield client


@pytest.fixture(scope="module")
def many():
    """Return 200 stamps."""
    return make_stamps(200, seed=3)[0]


@pytest.fixture
def path(many, tmp_path):
    np.save(tmp_path / "stamps.npy", many)
    return tmp_path / "stamps.npy"


def embed(encoder, stamps, out, **options):
    """Embed in this process if no client is passed."""
    return embed_survey(encoder, stamps, out, **{"chunk": CHUNK, "progress": False, **options})


def interrupt_after(rows):
    """Return a progress function that interrupts the work."""

    def interrupt(_stage, done, _total):
        if done >= rows:
            raise KeyboardInterrupt

    return interrupt


@pytest.mark.parametrize("kind", ["path", "Stamps", "array"])
@pytest.mark.parametrize("on_cluster", [False, True])
def test_embeddings_are_those_of_transform_in_order(
    fitted, many, path, tmp_path, kind, on_cluster, request
):
    stamps = {"path": path, "Stamps": open_stamps(path), "array": many}[kind]
    client = request.getfixturevalue("client") if on_cluster else None
    result = embed(fitted, stamps, tmp_path / "e.chunks", client=client)
    embeddings = result.read()
    np.testing.assert_array_equal(embeddings.ids, np.arange(200))
    np.testing.assert_array_equal(embeddings.values, fitted.transform(many))
    assert (result.n, result.n_features, result.n_resumed) == (200, 256, 0)
    assert result.rate > 0
    assert not list(tmp_path.rglob("*.partial*"))


@pytest.mark.parametrize("ending", ENDINGS)
def test_stores_have_text_ids_and_properties(fitted, many, tmp_path, ending):
    fitted.save(tmp_path / "encoder.safetensors")
    ids = np.array([f"object é {i}" for i in range(200)], dtype=object)
    encoder, out = tmp_path / "encoder.safetensors", tmp_path / f"e.{ending}"
    embeddings = embed(encoder, many, out, ids=ids, predict=True, chunk=48).read()
    assert embeddings.ids.tolist() == ids.tolist()
    np.testing.assert_allclose(embeddings.values, fitted.transform(many), atol=1e-5)
    properties = fitted.predict(many)
    names = list(properties)
    if ending == "parquet":
        written = pd.read_parquet(out)[names]
        assert len(list(out.glob("*.parquet"))) == 5
    elif ending == "zarr":
        group = pytest.importorskip("zarr").open_group(out, mode="r")
        assert group.attrs["property_names"] == names
        written = group["properties"][:]
    else:
        assert json.loads((out / "_skastro.json").read_text())["property_names"] == names
        parts = [np.load(file)["properties"] for file in sorted(out.glob("*.npz"))]
        written = np.concatenate(parts)
    np.testing.assert_allclose(written, properties, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("ending", "on_cluster"), [*((ending, False) for ending in ENDINGS), ("zarr", True)]
)
def test_an_interrupted_call_resumes_where_it_stopped(
    fitted, path, tmp_path, ending, on_cluster, request
):
    client = request.getfixturevalue("client") if on_cluster else None
    out, reports = tmp_path / f"e.{ending}", []
    with pytest.raises(KeyboardInterrupt, match="of 200 stamps are embedded; run it again"):
        embed(fitted, path, out, client=client, progress=interrupt_after(3 * CHUNK + 1))
    assert not out.exists()
    (tmp_path / f"e.{ending}.partial" / ".7.part-0000009").write_text("left by a killed worker")
    result = embed(
        fitted, path, out, client=client,
        progress=lambda stage, done, total: reports.append((stage, done, total)),
    )  # fmt: skip
    assert 3 * CHUNK <= result.n_resumed < 200
    assert reports[0] == ("embedding", result.n_resumed, 200)
    assert reports[-1] == ("embedding", 200, 200)
    whole = embed(fitted, path, tmp_path / f"whole.{ending}")
    np.testing.assert_array_equal(result.read().values, whole.read().values)
    np.testing.assert_array_equal(result.read().ids, whole.read().ids)
    assert embed(fitted, path, out).n_resumed == 200


@pytest.mark.slow
@pytest.mark.parametrize("from_disk", [True, False])
def test_the_death_of_a_worker_loses_nothing(client, fitted, many, path, tmp_path, from_disk):
    victims = []

    def kill(_stage, done, _total):
        if done >= 2 * CHUNK and not victims:
            victims.append(next(iter(client.run(os.getpid).values())))
            os.kill(victims[0], signal.SIGKILL)

    stamps = path if from_disk else many
    result = embed(fitted, stamps, tmp_path / "e.chunks", client=client, progress=kill)
    np.testing.assert_array_equal(result.read().ids, np.arange(200))
    np.testing.assert_array_equal(result.read().values, fitted.transform(many))
    assert len(victims) == 1
    client.wait_for_workers(2, timeout=120)
    assert victims[0] not in client.run(os.getpid).values()


def test_the_output_of_another_call_is_refused_and_the_difference_named(
    fitted, many, survey, tmp_path
):
    out = tmp_path / "e.chunks"
    before = embed(fitted, many, out).read().values
    with pytest.raises(ValueError, match=r"with chunk=16, and this call has 32"):
        embed(fitted, many, out, chunk=32)
    with pytest.raises(ValueError, match="with other stamps"):
        embed(fitted, many + 1, out)
    other = tiny_encoder(random_state=1).fit(survey[0], properties=survey[2])
    with pytest.raises(ValueError, match="by another encoder"):
        embed(other, many, out)
    np.testing.assert_array_equal(embed(fitted, many, out).read().values, before)
    after = embed(other, many, out, overwrite=True).read().values
    np.testing.assert_array_equal(after, other.transform(many))


def test_a_partial_output_of_another_call_is_refused(fitted, many, tmp_path):
    out = tmp_path / "e.chunks"
    with pytest.raises(KeyboardInterrupt):
        embed(fitted, many, out, progress=interrupt_after(1))
    with pytest.raises(ValueError, match="was begun with predict=False, and this call has True"):
        embed(fitted, many, out, predict=True)


def test_a_folder_of_other_files_is_never_replaced(fitted, many, tmp_path):
    (tmp_path / "mine.parquet").mkdir()
    (tmp_path / "mine.parquet" / "thesis.tex").write_text("years of work")
    with pytest.raises(FileExistsError, match="did not write it"):
        embed(fitted, many, tmp_path / "mine.parquet", overwrite=True)
    assert (tmp_path / "mine.parquet" / "thesis.tex").exists()


@pytest.mark.parametrize("kind", ["path", "array"])
@pytest.mark.parametrize("on_cluster", [False, True])
def test_a_bad_stamp_is_named_by_its_row(fitted, many, tmp_path, kind, on_cluster, request):
    client = request.getfixturevalue("client") if on_cluster else None
    bad = many.copy()
    bad[101, 0, 2, 2] = np.inf
    np.save(tmp_path / "bad.npy", bad)
    stamps = {"path": tmp_path / "bad.npy", "array": bad}[kind]
    with pytest.raises(ValueError, match="infinite pixel in row 101 "):
        embed(fitted, stamps, tmp_path / "e.chunks", client=client)
    assert not (tmp_path / "e.chunks").exists()


def test_few_chunks_are_in_flight_for_any_number_of_chunks(
    client, fitted, many, tmp_path, monkeypatch
):
    from skastro.embeddings import embed_survey as module  # noqa: PLC0415

    submit, submitted, n_done, in_flight = module._submit, [], [0], []

    def watch(*args):
        submitted.append(args)
        in_flight.append(len(submitted) - n_done[-1] // 5)
        return submit(*args)

    monkeypatch.setattr(module, "_submit", watch)
    progress = lambda _stage, done, _total: n_done.append(done)  # noqa: E731
    embed(fitted, many, tmp_path / "e.chunks", client=client, chunk=5, progress=progress)
    assert len(submitted) == 40
    assert max(in_flight) <= 4


def test_wrong_use_is_refused_before_a_worker_starts(fitted, many, tmp_path):
    with pytest.raises(ValueError, match=r"must end in \.zarr, \.parquet or \.chunks"):
        embed_survey(fitted, many, tmp_path / "e.csv")
    with pytest.raises(ValueError, match="chunk=0 must be at least 1"):
        embed_survey(fitted, many, tmp_path / "e.zarr", chunk=0)
    with pytest.raises(ValueError, match="n_workers=0 must be at least 1, or -1"):
        embed_survey(fitted, many, tmp_path / "e.zarr", n_workers=0)
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
    result = embed_survey(encoder, stamps, out, n_workers=1, chunk=64, progress=False)
    print(result.n)
"""


@pytest.mark.slow
def test_a_script_starts_a_worker_and_ends_it(fitted, many, path, tmp_path):
    pytest.importorskip("dask.distributed")
    fitted.save(tmp_path / "encoder.safetensors")
    (tmp_path / "script.py").write_text(_SCRIPT)
    names = ("script.py", "encoder.safetensors", "e.chunks")
    script, encoder, out = (tmp_path / name for name in names)
    result = subprocess.run(  # noqa: S603 - our own interpreter and script
        [sys.executable, script, encoder, path, out],
        capture_output=True, text=True, check=False, timeout=300,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    assert result.stdout.split() == ["200"]
    embeddings = embed(fitted, path, tmp_path / "e.chunks", chunk=64)  # reads what the script wrote
    assert embeddings.n_resumed == 200
    np.testing.assert_allclose(embeddings.read().values, fitted.transform(many), atol=1e-5)


@pytest.mark.slow
def test_the_command_embeds_by_workers(fitted, many, path, tmp_path, monkeypatch):
    pytest.importorskip("dask.distributed")
    fitted.save(tmp_path / "encoder.safetensors")
    monkeypatch.chdir(tmp_path)
    command = ["embed", "encoder.safetensors", "--images", str(path), "--out", "e.npz"]
    with pytest.raises(SystemExit) as end:
        main([*command, "--workers", "1", "--quiet"])
    assert end.value.code == 0
    embeddings = read_embeddings("e.npz")
    np.testing.assert_allclose(embeddings.values, fitted.transform(many), atol=1e-5)
    assert embeddings.ids.tolist() == list(range(200))
    assert not list(tmp_path.glob("e.npz.*"))


@pytest.mark.slow
@pytest.mark.usefixtures("client")
def test_a_grid_search_on_dask_has_the_scores_of_one_process(survey):
    stamps, labels, properties = survey
    model = make_pipeline(tiny_encoder(max_epochs=1), LinearProbe())
    name = "propertypretrainedencoder__"

    def search(n_jobs):
        grid = GridSearchCV(model, {f"{name}learning_rate": [1e-3, 1e-2]}, cv=2, n_jobs=n_jobs)
        return grid.fit(stamps, labels, **{f"{name}properties": properties}).cv_results_

    alone = search(1)
    with parallel_config("dask"):
        spread = search(2)
    np.testing.assert_array_equal(spread["mean_test_score"], alone["mean_test_score"])


@pytest.mark.slow
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
