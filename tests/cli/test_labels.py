"""`skastro label` as a process, which is killed and goes on, and `skastro audit`."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from contextlib import ExitStack, closing
from http.client import HTTPConnection
from time import monotonic, sleep
from urllib.parse import parse_qs, urlsplit

import numpy as np
import pandas as pd
import pytest

from skastro import PropertyPretrainedEncoder, make_galaxies, read_catalog, write_embeddings
from skastro.catalogs.journal import LabelJournal
from skastro.catalogs.labels import read_labels
from skastro.cli import labels
from skastro.cli.app import main
from skastro.pages.label_session import LabelSession

CLASSES = ("star", "galaxy")


@pytest.fixture(scope="session")
def folder(survey, fitted, tmp_path_factory):
    """Return a folder with a data folder and an encoder."""
    stamps, labels, properties = survey
    root = tmp_path_factory.mktemp("label")
    (root / "survey").mkdir()
    catalog = properties.assign(id=np.arange(len(labels)) + 1000, kind=labels)
    catalog.to_csv(root / "survey" / "catalog.csv", index=False)
    np.save(root / "survey" / "stamps.npy", stamps)
    fitted.save(root / "encoder.safetensors")
    return root


class Process:
    """The command in a process of its own."""

    def __init__(self, *arguments):
        # Ctrl-C is ignored by default where the tests run in the background of a shell
        code = "import signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler); "
        code += "from skastro.cli.app import main; main(sys.argv[1:])"
        self._process = subprocess.Popen(  # noqa: S603 - our own interpreter and arguments
            [sys.executable, "-c", code, "label", *map(str, arguments), "--no-browser", "--json"],
            stdout=subprocess.PIPE, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"},
        )  # fmt: skip
        events = map(json.loads, self._process.stdout)
        address = next((each["address"] for each in events if "address" in each), None)
        if address is None:
            self.close()
            pytest.fail("the command ended before it asked")
        self._port = urlsplit(address).port
        self._token = parse_qs(urlsplit(address).query)["token"][0]
        end = monotonic() + 120
        while self.send("/api/state")["progress"] and monotonic() < end:
            sleep(0.1)

    def send(self, path, body=None):
        connection = HTTPConnection("127.0.0.1", self._port, timeout=30)
        headers = {"X-Token": self._token, "Content-Type": "application/json"}
        content = None if body is None else json.dumps(body)
        connection.request("GET" if body is None else "POST", path, content, headers)
        reply = connection.getresponse()
        content = reply.read()
        connection.close()
        assert reply.status == 200, content
        return json.loads(content)

    def label(self, n):
        """Answer questions; return the ids in the order of the answers."""
        asked, question = [], self.send("/api/next?tab=a")["question"]
        for k in range(n):
            asked.append(question["id"])
            body = {"tab": "a", "row": question["row"], "how": question["how"], "kind": "label"}
            question = self.send("/api/answer", body | {"class": CLASSES[k % 2]})["question"]
        return asked

    def end(self, number):
        self._process.send_signal(number)
        rest, _ = self._process.communicate(timeout=60)
        return self._process.returncode, rest

    def close(self):
        self._process.kill()
        self._process.communicate()


@pytest.fixture
def start():
    """Return a function that starts the command; what still runs is killed at the end."""
    with ExitStack() as stack:
        yield lambda *arguments: stack.enter_context(closing(Process(*arguments)))


@pytest.mark.slow
def test_a_killed_server_has_lost_nothing_and_goes_on(folder, start, tmp_path):
    journal = tmp_path / "labels.csv"
    options = [folder / "survey", "--encoder", folder / "encoder.safetensors", "--who", "Ann"]
    options += ["--classes", ",".join(CLASSES), "--labels-out", journal]
    first = start(*options)
    asked = first.label(7)
    assert first.end(signal.SIGKILL)[0] == -signal.SIGKILL
    assert pd.read_csv(journal)["id"].astype(str).tolist() == asked
    second = start(*options)
    assert second.send("/api/state")["n_labelled"] == 7
    asked += second.label(3)
    code, rest = second.end(signal.SIGINT)
    assert code == 0
    result = json.loads(rest.splitlines()[-1])
    assert (result["labelled"], result["classes"]) == (10, {"star": 6, "galaxy": 4})
    table = pd.read_csv(journal)
    assert table["id"].astype(str).tolist() == asked
    assert table["id"].is_unique
    assert set(table["who"]) == {"Ann"}


def run(*arguments):
    with pytest.raises(SystemExit) as stop:
        main([str(argument) for argument in arguments])
    return stop.value.code


@pytest.fixture
def in_process(monkeypatch, tmp_path):
    """Let the command end as soon as it asks, and return its sessions."""
    sessions, begin = [], LabelSession.begin

    def begin_and_keep(session, learner):
        sessions.append(session)
        begin(session, learner)

    monkeypatch.setattr(LabelSession, "begin", begin_and_keep)
    monkeypatch.setattr(labels, "_wait", lambda _: sessions[-1].settle())
    monkeypatch.chdir(tmp_path)
    return sessions


def test_labels_of_a_column_begin_the_journal(folder, in_process, capsys):
    encoder = folder / "encoder.safetensors"
    options = [folder / "survey", "--encoder", encoder, "--label", "kind", "--no-browser"]
    assert run("label", *options) == 0
    printed = capsys.readouterr().out
    assert "60 labels are taken over into labels.csv." in printed
    assert "Label here: http://127.0.0.1:" in printed
    assert "60 labels are in labels.csv" in printed
    with LabelJournal("labels.csv") as journal:
        assert {answer.how for answer in journal.answers} == {"catalog"}
    assert in_process[0].next_question("a") is None
    assert "kind" not in in_process[0].catalog
    labels, _ = read_labels(["labels.csv"], "class", [1000, 1001])
    assert labels.tolist() == ["star", "galaxy"]
    assert run("label", *options) == 0
    assert "0 labels are taken over" in capsys.readouterr().out


def test_stamps_that_no_weights_know_are_pretrained_once(folder, in_process, capsys):
    options = [folder / "survey", "--backbone", "stamp_resnet10", "--epochs", "1", "--no-browser"]
    assert run("label", *options, "--classes", "star,galaxy") == 0
    assert "An encoder is pretrained on the stamps, and kept in" in capsys.readouterr().out
    assert run("label", *options) == 0
    assert "The encoder of an earlier call describes the stamps" in capsys.readouterr().out
    assert len(in_process) == 2


def test_galaxies_are_described_by_the_weights_that_know_them(tmp_path, in_process, capsys):
    np.save(tmp_path / "stamps.npy", make_galaxies(24, image_size=32, random_state=0).images)
    options = ["--images", tmp_path / "stamps.npy", "--find", "irregular", "--no-browser"]
    assert run("label", *options) == 0
    assert "The weights 'galaxies' of skastro describe the stamps." in capsys.readouterr().out
    question = in_process[0].next_question("a")
    assert question["how"] == "search"
    assert {"arm_strength", "inclination"} <= {each["name"] for each in question["morphology"]}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--find", "lens", "--classes", "a,b"], "--find searches for one class"),
        (["--labels-out", "catalog.csv"], "is no journal of `skastro label`"),
        (["--encoder", "nothing.safetensors"], "does not exist"),
        (["--label", "nothing"], "is not a column"),
    ],
)
def test_wrong_use_is_one_line(folder, tmp_path, monkeypatch, capsys, options, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "catalog.csv").write_text("id,class\n1,star\n")
    assert run("label", folder / "survey", *options, "--no-browser") == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


@pytest.fixture
def labelled(tmp_path):
    """Write embeddings of stars and galaxies, and a table of labels in which one is wrong."""
    rng = np.random.default_rng(0)
    is_star = np.arange(60) % 2 == 0
    values = rng.normal(size=(60, 4)) + 6.0 * is_star[:, None]
    ids = np.array([f"object{i}" for i in range(60)])
    write_embeddings(tmp_path / "embeddings.csv", values, ids)
    labels = pd.DataFrame({"id": ids, "class": np.where(is_star, "star", "galaxy")})
    labels.loc[8, "class"] = "galaxy"
    labels.loc[20:25, "class"] = ""
    labels.to_csv(tmp_path / "labels.csv", index=False)
    return tmp_path


def test_wrong_label_is_written_and_printed(labelled, capsys):
    out, labels = labelled / "doubtful.csv", ["--labels", labelled / "labels.csv"]
    assert run("audit", labelled / "embeddings.csv", *labels, "--out", out) == 0
    table = read_catalog(out)
    assert table.columns.tolist() == ["id", "label", "suggested", "probability", "p_label"]
    assert table.iloc[0, :3].tolist() == ["object8", "galaxy", "star"]
    printed = capsys.readouterr().out
    assert "object8" in printed
    assert "of 54 labels another class is more probable" in printed
    assert str(out) in printed


def test_json_counts_the_labels(labelled, capsys):
    arguments = [labelled / "embeddings.csv", "--labels", labelled / "labels.csv", "--json"]
    assert run("audit", *arguments, "--out", labelled / "d.parquet") == 0
    result = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert result["labels"] == 54
    assert result["doubtful"] == len(read_catalog(labelled / "d.parquet"))
    assert 0 < result["expected_wrong"] < 54


def test_labels_may_stand_in_a_catalogue(labelled):
    out = labelled / "doubtful.csv"
    catalog = ["--catalog", labelled / "labels.csv"]
    assert run("audit", labelled / "embeddings.csv", *catalog, "--out", out, "--quiet") == 0
    assert read_catalog(out)["id"].iloc[0] == "object8"


def test_encoder_describes_stamps_and_their_catalogue_has_the_labels(tmp_path):
    rng = np.random.default_rng(0)
    codes = np.arange(60) % 2
    stamps = rng.normal(size=(60, 1, 8, 8)) + 4.0 * codes[:, None, None, None]
    labels = np.where(codes, "star", "galaxy")
    labels[11] = "galaxy"
    folder, file = tmp_path / "survey", tmp_path / "encoder.safetensors"
    folder.mkdir()
    np.save(folder / "stamps.npy", stamps)
    pd.DataFrame({"id": np.arange(100, 160), "class": labels}).to_csv(folder / "catalog.csv")
    PropertyPretrainedEncoder("stamp_resnet10", max_epochs=2, random_state=0).fit(stamps).save(file)
    out = tmp_path / "doubtful.csv"
    assert run("audit", folder, "--encoder", file, "--out", out, "--quiet") == 0
    first = read_catalog(out).iloc[0]
    assert (first["id"], first["suggested"]) == (111, "star")


def test_missing_column_of_labels_is_named(labelled, capsys):
    table, out = labelled / "labels.csv", labelled / "d.csv"
    arguments = [labelled / "embeddings.csv", "--labels", table, "--label", "kind"]
    assert run("audit", *arguments, "--out", out) == 2
    assert "'kind'" in capsys.readouterr().err
    assert not out.exists()
