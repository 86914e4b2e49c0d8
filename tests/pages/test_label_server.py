"""The server of `skastro label`: it answers its own page, and refuses everything else."""

from __future__ import annotations

import json
import threading
from http.client import HTTPConnection
from io import BytesIO

import numpy as np
import pytest
from PIL import Image

from skastro.catalogs.journal import LabelJournal
from skastro.pages import label_server
from skastro.pages.label_server import open_socket, serve
from skastro.pages.label_session import LabelSession
from tests.pages.test_label_session import CLASSES, N, make_learner, truth

TOKEN = "a-secret-of-this-test"  # noqa: S105


class Client:
    """Send requests as a browser does, or as one that was led astray."""

    def __init__(self, session, port):
        self.session, self.port = session, port

    def send(self, path, body=None, *, method=None, token=TOKEN, host=None, **headers):
        """Return the status, the headers and the content of a reply."""
        connection = HTTPConnection("127.0.0.1", self.port, timeout=20)
        headers = {name.replace("_", "-"): value for name, value in headers.items()}
        headers["Host"] = host or f"127.0.0.1:{self.port}"
        if token is not None:
            headers["X-Token"] = token
        if body is not None:
            body = body if isinstance(body, bytes) else json.dumps(body).encode()
            headers.setdefault("Content-Type", "application/json")
        try:
            connection.request(method or ("POST" if body else "GET"), path, body, headers)
            reply = connection.getresponse()
            return reply.status, reply.headers, reply.read()
        finally:
            connection.close()

    def ask(self, path, body=None):
        status, _, content = self.send(path, body)
        assert status == 200, content
        return json.loads(content)


@pytest.fixture(scope="module")
def client(tmp_path_factory):
    images = np.random.default_rng(0).normal(size=(N, 3, 8, 8)).astype(np.float32)
    path = tmp_path_factory.mktemp("label") / "labels.csv"
    with LabelJournal(path) as journal, open_socket() as listener:
        session = LabelSession(journal, np.arange(N), images, classes=CLASSES, title="<b>mine</b>")
        session.begin(make_learner())
        server = serve(session, listener, TOKEN)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        yield Client(session, listener.getsockname()[1])
        server.should_exit = True
        thread.join()
        session.close()


def answer(question, tab="a", **changes):
    body = {"tab": tab, "row": question["row"], "how": question["how"], "kind": "label"}
    return body | {"class": truth(question["row"]), "seconds": 1.5, "comment": ""} | changes


def test_a_person_labels_undoes_and_uses_a_grid(client):
    reply = client.ask("/api/next?tab=a")
    for _ in range(20):
        before = reply["state"]["n_labelled"]
        reply = client.ask("/api/answer", answer(reply["question"]))
        assert reply["state"]["n_labelled"] == before + 1
    undone = client.ask("/api/undo", {"tab": "a"})
    assert undone["undone"]["n"] == 1
    assert undone["state"]["n_labelled"] == before
    client.session.settle()
    grid = client.ask("/api/grid?tab=a&class=ring")
    rows = [cell["row"] for cell in grid["cells"]]
    body = {"tab": "a", "class": "ring", "rows": rows, "not": rows[:1], "seconds": 9}
    assert client.ask("/api/grid", body)["n_labelled"] == before + len(rows) - 1
    assert client.ask("/api/doubtful?tab=a")["state"]["mode"] == "classes"
    assert client.ask("/api/class", {"name": "quasar"})["classes"][-1]["name"] == "quasar"


def test_the_page_is_served_with_its_token_in_the_address(client):
    status, headers, content = client.send(f"/?token={TOKEN}", token=None)
    assert status == 200
    assert b"<b>mine</b>" not in content
    assert "nonce-" in headers["content-security-policy"]
    assert client.send("/", token=None)[0] == 403


def test_pictures_have_the_size_that_is_asked_for(client):
    path = f"/api/stamp/3.png?size=96&stretch=0.8&bands=2,1,0&token={TOKEN}"
    status, headers, content = client.send(path, token=None)
    assert (status, headers["content-type"]) == (200, "image/png")
    assert Image.open(BytesIO(content)).size == (96, 96)
    status, _, content = client.send("/api/stamp/3.png?size=1e9")
    assert max(Image.open(BytesIO(content)).size) == label_server._MAX_SIZE


@pytest.mark.parametrize(
    "request_of_another",
    [
        {"token": None},
        {"token": "wrong"},
        {"token": TOKEN + "x"},
        {"token": ""},
        {"host": "evil.example:80"},
        {"host": "127.0.0.1"},
        {"host": "localhost.evil.example:{port}"},
        {"Origin": "http://evil.example"},
        {"Origin": "null"},
        {"Origin": "https://127.0.0.1:{port}"},
        {"Origin": "http://127.0.0.1:1"},
        {"Sec_Fetch_Site": "cross-site"},
    ],
)
def test_requests_of_other_pages_are_refused(client, request_of_another):
    changed = {
        name: value and value.format(port=client.port) for name, value in request_of_another.items()
    }
    n = client.session.state()["n_labelled"]
    question = {"row": N - 1, "how": "random"}
    for path, body in (("/api/state", None), ("/api/answer", answer(question))):
        status, headers, content = client.send(path, body, **changed)
        assert status == 403
        assert json.loads(content)["error"]
        assert "access-control-allow-origin" not in headers
    assert client.session.state()["n_labelled"] == n


def test_the_page_itself_may_send_its_origin(client):
    for host in (f"127.0.0.1:{client.port}", f"localhost:{client.port}"):
        assert client.send("/api/state", host=host, Origin=f"http://{host}")[0] == 200


@pytest.mark.parametrize(
    "path",
    [
        "/../../etc/passwd",
        "/..%2f..%2fetc/passwd",
        "/labels.csv",
        "/static/label.js",
        "/api/stamp/..%2f..%2flabels.csv",
        "/api/stamp/-1.png",
        "//etc/passwd",
    ],
)
def test_no_file_of_the_machine_has_an_address(client, path):
    status, _, content = client.send(path)
    assert status == 404
    assert json.loads(content) == {"error": "there is nothing at this address."}


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        ("/api/stamp/90.png", None, 400),
        ("/api/stamp/1.png?bands=x", None, 400),
        ("/api/stamp/1.png?stretch=nan", None, 400),
        ("/api/grid?tab=a&class=blazar", None, 400),
        ("/api/answer", b"no JSON", 400),
        ("/api/answer", b"[1]", 400),
        ("/api/answer", {"row": "1"}, 400),
        ("/api/grid", {"class": "star", "rows": 3}, 400),
        ("/api/class", {"name": "x" * 1000}, 400),
        ("/api/undo", {"tab": "new"}, 400),
        ("/api/answer", b"{" + b" " * 200_000 + b"}", 413),
        ("/api/state", {"a": 1}, 404),
    ],
)
def test_requests_that_cannot_be_used_get_one_sentence(client, path, body, status):
    found, _, content = client.send(path, body)
    assert found == status
    assert json.loads(content)["error"].endswith(".")


def test_a_form_of_another_page_is_no_json(client):
    assert client.send("/api/undo", b'{"tab": "a"}', Content_Type="text/plain")[0] == 415


def test_every_reply_has_the_headers_of_security(client):
    for path in (f"/?token={TOKEN}", "/api/state", "/nothing"):
        _, headers, _ = client.send(path)
        assert headers["cache-control"] == "no-store"
        assert headers["referrer-policy"] == "no-referrer"
        assert headers["x-content-type-options"] == "nosniff"
        assert "default-src 'none'" in headers["content-security-policy"]
        assert "server" not in headers


def test_errors_of_the_disk_and_of_the_program_are_one_sentence(client, monkeypatch):
    for error, status in ((OSError(28, "labels.csv cannot be written"), 507), (KeyError("x"), 500)):

        def fail(*_, error=error, **__):
            raise error

        monkeypatch.setattr(client.session.record.journal, "append", fail)
        found, _, content = client.send("/api/answer", answer({"row": N - 2, "how": "random"}))
        assert found == status
        assert "Traceback" not in json.loads(content)["error"]


def test_a_port_in_use_is_refused():
    with open_socket() as first:
        port = first.getsockname()[1]
        with pytest.raises(ValueError, match=f"port {port} cannot be used"):
            open_socket(port)
