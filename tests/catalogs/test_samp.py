"""Tables sent to other programs, by a real hub on this machine."""

import pandas as pd
import pytest

from skastro import read_catalog
from skastro.catalogs.samp import find_samp, send_table

SAMP = find_samp()
TABLE = pd.DataFrame({"id": ["a", "b"], "ra": [10.0, 20.5], "similarity": [0.9, 0.8]})


@pytest.fixture(autouse=True)
def _own_hub_file(monkeypatch, tmp_path):
    """Keep away from a hub that the user of this machine runs."""
    monkeypatch.setenv("SAMP_HUB", f"std-lockurl:{(tmp_path / 'samp.lock').as_uri()}")
    with SAMP.conf.set_temp("use_internet", False):
        yield


@pytest.fixture
def hub(tmp_path):
    server = SAMP.SAMPHubServer(
        web_profile=False, addr="127.0.0.1", lockfile=str(tmp_path / "samp.lock")
    )
    server.start()
    yield server
    server.stop()


def connect(reply):
    """Return a program that reads tables, and the list of what it has read."""
    program, read = SAMP.SAMPIntegratedClient(name="Reader", addr="127.0.0.1"), []
    program.connect()

    def load(*call):
        _, _, message_id, _, params, _ = call
        read.append((params["name"], read_catalog(params["url"].removeprefix("file://"))))
        program.reply(message_id, reply)

    program.bind_receive_call("table.load.votable", load)
    return program, read


@pytest.mark.usefixtures("hub")
def test_a_program_reads_the_table():
    program, read = connect({"samp.status": "samp.ok", "samp.result": {}})
    try:
        assert send_table(TABLE, "similar.csv") == ["Reader"]
    finally:
        program.disconnect()
    [(name, table)] = read
    assert name == "similar.csv"
    pd.testing.assert_frame_equal(table, TABLE, check_dtype=False)


@pytest.mark.usefixtures("hub")
def test_a_program_that_cannot_read_it_is_named():
    reply = {"samp.status": "samp.error", "samp.error": {"samp.errortxt": "too large"}}
    program, _ = connect(reply)
    try:
        with pytest.raises(ConnectionError, match=r"Reader could not read the table \(too large\)"):
            send_table(TABLE, "similar.csv")
    finally:
        program.disconnect()


@pytest.mark.usefixtures("hub")
def test_a_hub_without_programs_is_an_error():
    with pytest.raises(ConnectionError, match="no program that reads tables"):
        send_table(TABLE, "similar.csv")


def test_no_hub_is_an_error():
    with pytest.raises(ConnectionError, match="no SAMP hub is running on this machine"):
        send_table(TABLE, "similar.csv")
