"""Fetching SDSS, from a server on this machine that answers as SkyServer and hips2fits do.

The server runs the very query, translated from T-SQL, on a small SQLite copy of the two tables.
"""

import errno
import io
import json
import re
import shutil
import sqlite3
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from urllib.parse import parse_qs, urlparse

import numpy as np
import pandas as pd
import pytest
from astropy.io import fits
from astropy.table import Table

pytest.importorskip("astroquery", reason="fetch_sdss asks through astroquery: the extra 'data'")
pytest.importorskip("matplotlib", reason="hips2fits of astroquery needs it")

from astroquery.hips2fits import hips2fitsClass
from astroquery.sdss import conf

from skastro import load_folder
from skastro.surveys.sdss import SDSS_CLASSES, fetch_sdss, services
from skastro.surveys.sdss import sdss as surveys
from skastro.surveys.services import Unanswered, _read_fits

pytestmark = pytest.mark.usefixtures("server")

SIZE = 8
BANDS = "gr"
FIRST_ID = 1237648720693755918  # 19 digits: floats would round it
N_OBJECTS = 9
HALF_TABLE = b"#Table1\nobjID,class\n123764"
QUESTION = {"hips": "CDS/P/SDSS9/g", "ra": "10", "dec": "5"}
REFUSAL = {"title": "400 Bad Request", "description": "unknown survey"}


def make_tables():
    """Return a database of 120 spectra and their images, some of them of no use."""
    rng = np.random.default_rng(0)
    tables = sqlite3.connect(":memory:", check_same_thread=False)
    n = 120
    ids = FIRST_ID + rng.permutation(10_000)[:n]
    spectra = pd.DataFrame(
        {
            "bestObjID": ids,
            "class": np.resize(SDSS_CLASSES, n),
            "z": rng.uniform(0, 3, n),
            "zErr": np.where(np.arange(n) == 6, -3.0, 1e-4),
            "zWarning": np.where(np.arange(n) % 10 == 0, 4, 0),
        }
    )
    spectra.loc[1, "bestObjID"] = 0  # has no image
    twice = spectra.iloc[[4, 5]].assign(z=9.0)  # two spectra of one image
    twice.loc[5, "class"] = "GALAXY"  # here with another class
    pd.concat([spectra, twice]).to_sql("SpecObj", tables, index=False)
    images = pd.DataFrame({"objID": ids, "clean": (np.arange(n) % 7 != 0).astype(int)})
    images["ra"], images["dec"] = rng.uniform(0, 360, n), rng.uniform(-10, 60, n)
    images["run"], images["camcol"] = 756, np.arange(n) % 6 + 1
    images["field"] = np.arange(n)
    for column, _ in surveys._MEASURED.values():
        if not column.startswith("redshift"):
            images[column] = rng.uniform(0.1, 20.0, n).round(5)
    images.loc[8, ["modelMag_u", "modelMagErr_u", "petroR50Err_r"]] = -9999.0, -9999.0, -1000.0
    images.to_sql("PhotoPrimary", tables, index=False)
    return tables


def in_sqlite(sql):
    """Translate the query: TOP to LIMIT, at the ends of the two selections."""
    outer, inner = re.findall(r"TOP (\d+) ", sql)
    sql = re.sub(r"TOP \d+ ", "", sql)
    sql = sql.replace("ORDER BY dice,bestObjID)", f"ORDER BY dice,bestObjID LIMIT {inner})")
    return sql.replace("ORDER BY dice,objID)", f"ORDER BY dice,objID LIMIT {outer})")


def expected_pixels(hips, ra, dec):
    """Return what the sky is like there: of shape (SIZE, SIZE), different everywhere."""
    grid = np.arange(SIZE * SIZE, dtype=np.float64).reshape(SIZE, SIZE)
    return (grid + ra + 1000 * dec + sum(hips.encode())).astype(np.float32)


def make_fits(question, value=None, size=SIZE):
    pixels = expected_pixels(question["hips"], float(question["ra"]), float(question["dec"]))
    pixels = pixels if value is None else np.full((size, size), value, np.float32)
    file = io.BytesIO()
    hdu = fits.PrimaryHDU(pixels)
    hdu.header["BUNIT"] = "nanomaggy"
    hdu.writeto(file)
    return file.getvalue()


class Handler(BaseHTTPRequestHandler):
    """Answers both services, or fails as the test wants it."""

    def do_GET(self):
        server = self.server
        question = {name: values[0] for name, values in parse_qs(urlparse(self.path).query).items()}
        kind = "cutout" if "hips" in question else "query"
        with server.lock:
            number = sum(seen == kind for seen, _ in server.asked)
            server.asked.append((kind, question))
            server.paths.append(self.path)
        fault = server.fault(kind, number, question)
        body = self.query(question) if kind == "query" else make_fits(question)
        if isinstance(fault, bytes):
            body = fault
        elif fault == "slow":
            server.stop.wait(5)
            return
        elif fault == "hang up":
            self.close_connection = True
            return
        elif isinstance(fault, int):
            self.answer(fault, json.dumps(REFUSAL).encode())
            return
        self.answer(200, body, half=fault == "half", length=fault != "no length")

    def query(self, question):
        with self.server.lock:
            rows = pd.read_sql(in_sqlite(question["cmd"]), self.server.tables)
        return b"#Table1\n" + rows.to_csv(index=False, lineterminator="\n").encode()

    def answer(self, code, body, *, half=False, length=True):
        self.send_response(code)
        if length:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body[: len(body) // 2] if half else body)

    def log_message(self, *_):
        pass


@pytest.fixture(scope="module")
def running():
    """Return a server that astroquery is pointed at."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.tables, server.lock, server.stop = make_tables(), threading.Lock(), threading.Event()
    forget(server)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    url = f"http://127.0.0.1:{server.server_port}"
    with pytest.MonkeyPatch.context() as patch, conf.set_temp("skyserver_baseurl", url):
        patch.setenv("NO_PROXY", "127.0.0.1")
        patch.setattr(services, "_BACKOFF", 0.005)
        patch.setattr(hips2fitsClass, "server", f"{url}/hips-image-services/hips2fits")
        yield server
    server.stop.set()
    server.shutdown()
    thread.join()
    server.server_close()
    server.tables.close()


def forget(server):
    server.asked, server.paths = [], []
    server.fault = lambda *_: None


@pytest.fixture(scope="module")
def complete(running, tmp_path_factory):
    """Return what a fetch without faults gives; not to be changed."""
    forget(running)
    data = fetch(tmp_path_factory.mktemp("complete"))
    data.asked = running.asked
    return data


@pytest.fixture
def copied(complete, tmp_path):
    """Return a folder that a fetch without faults has filled."""
    return Path(shutil.copytree(complete.path, tmp_path / "copied"))


@pytest.fixture
def server(running, complete):  # noqa: ARG001 - which is fetched before the log is cleared
    forget(running)
    return running


def fetch(out, **changes):
    options = {"bands": BANDS, "size": SIZE, "min_interval": 0, "timeout": 10, "retries": 2}
    return fetch_sdss(**{"n_objects": N_OBJECTS, "out": out, **options, **changes})


def count(server, kind):
    return sum(each == kind for each, _ in server.asked)


def asked_cutouts(server):
    return [
        (question["hips"], question["ra"]) for kind, question in server.asked if kind == "cutout"
    ]


def assert_right_pixels(data, hips=surveys.SDSS_HIPS):
    for stamp, (_, row) in zip(data.images, data.catalog.iterrows(), strict=True):
        for pixels, band in zip(stamp, data.bands, strict=True):
            np.testing.assert_array_equal(
                pixels, expected_pixels(hips[band], row["ra"], row["dec"])
            )


def assert_same_data(one, other):
    np.testing.assert_array_equal(one.images, other.images)
    pd.testing.assert_frame_equal(one.catalog, other.catalog)


def truth(server):
    with server.lock:
        joined = "SELECT * FROM PhotoPrimary JOIN SpecObj ON objID=bestObjID"
        return pd.read_sql(joined, server.tables)


def test_stamps_are_those_of_their_rows(complete):
    assert complete.images.shape == (N_OBJECTS, 2, SIZE, SIZE)
    assert complete.images.dtype == np.float32
    assert_right_pixels(complete)
    assert complete.bands == ("g", "r")
    assert complete.bunit == {"g": ["nanomaggy"], "r": ["nanomaggy"]}
    assert "CDS/P/SDSS9/g" in complete.DESCR


def test_classes_are_equally_many(tmp_path):
    data = fetch(tmp_path, n_objects=10)
    assert data.catalog["class"].value_counts().to_dict() == {"STAR": 4, "GALAXY": 3, "QSO": 3}
    assert data.target_names == ["GALAXY", "QSO", "STAR"]
    np.testing.assert_array_equal(data.target, data.catalog["class"])
    assert (data.target[:3] != data.target[0]).any()  # the rows are shuffled


@pytest.fixture(scope="module")
def everything(running, complete, tmp_path_factory):  # noqa: ARG001 - the log is cleared later
    """Return a fetch of all that the server has, which is less than was asked for."""
    with pytest.warns(UserWarning, match=r"of the class \w+ instead of 100"):
        return fetch(tmp_path_factory.mktemp("everything"), n_objects=300, bands="g")


def test_catalogue_is_that_of_sdss(server, everything):
    sky = truth(server).drop_duplicates("objID").set_index("objID")
    catalog = everything.catalog.set_index(everything.catalog["id"].astype(np.int64))
    sky = sky.loc[catalog.index]
    for column, (theirs, _) in surveys._MEASURED.items():
        known = sky[theirs.replace("redshift_err", "zErr").replace("redshift", "z")]
        known = known.where(known > 0)
        np.testing.assert_array_equal(catalog[column], known, err_msg=column)
    for column in ("ra", "dec", "run", "camcol", "field", "class"):
        np.testing.assert_array_equal(catalog[column], sky[column], err_msg=column)
    assert catalog["mag_u"].isna().sum() == catalog["petro_r50_err"].isna().sum() == 1


def test_only_objects_of_use_are_taken(server, everything):
    sky = truth(server)
    good = sky[(sky["clean"] == 1) & (sky["zWarning"] == 0)]
    of_two_classes = good.groupby("objID")["class"].nunique() > 1
    good = good[~good["objID"].isin(of_two_classes.index[of_two_classes])]
    assert set(everything.catalog["id"]) == set(good["objID"].astype(str))
    assert everything.catalog["id"].is_unique


def test_ids_keep_all_digits(server, complete):
    assert complete.catalog["id"].str.fullmatch(r"\d{19}").all()
    assert set(complete.catalog["id"]) <= set(truth(server)["objID"].astype(str))


def test_seed_decides_on_the_objects(complete, tmp_path):
    assert_same_data(fetch(tmp_path / "same"), complete)
    other = fetch(tmp_path / "other", random_state=1)
    assert set(other.catalog["id"]) != set(complete.catalog["id"])


def test_query_fits_a_url_and_does_not_overflow(server, tmp_path):
    fetch(tmp_path, n_objects=3, bands="g", release=16)
    assert max(map(len, server.paths)) < 2048
    assert all("/dr16/" in path for path in server.paths if "hips" not in path)
    prime = surveys._PRIME
    assert (prime - 1) ** 2 + prime < 2**63


def test_cutouts_are_asked_for_in_the_services_terms(server, tmp_path):
    hips = {"w": "CDS/P/allWISE/W1"}
    data = fetch(tmp_path, bands=("r", "w"), hips=hips, pixel_scale=0.5)
    _, question = next(each for each in server.asked if each[0] == "cutout")
    assert float(question["fov"]) == pytest.approx(SIZE * 0.5 / 3600)
    assert question["width"] == question["height"] == str(SIZE)
    assert (question["projection"], question["format"]) == ("TAN", "fits")
    assert_right_pixels(data, {**surveys.SDSS_HIPS, **hips})
    assert data.pixel_scale == 0.5


def test_folder_is_a_data_folder(complete):
    loaded = load_folder(complete.path, label="class")
    np.testing.assert_array_equal(np.asarray(loaded.images), complete.images)
    assert loaded.catalog["id"].tolist() == complete.catalog["id"].tolist()
    assert loaded.target.tolist() == complete.target.tolist()
    assert Table.read(complete.path / "catalog.ecsv")["mag_g"].unit == "mag"


def test_complete_folder_asks_nobody(server, complete):
    assert len(complete.asked) == 3 + 2 * N_OBJECTS
    assert_same_data(fetch(complete.path), complete)
    assert not server.asked


def test_default_folder_is_found_again(server, tmp_path, monkeypatch):
    monkeypatch.setenv("SKASTRO_CACHE", str(tmp_path))
    few = {"n_objects": 3, "bands": "g"}
    data = fetch(None, **few)
    assert data.path.is_relative_to(tmp_path)
    asked = len(server.asked)
    assert_same_data(fetch(None, **few), data)
    assert len(server.asked) == asked
    assert fetch(None, **few, random_state=1).path != data.path


def test_progress_is_told(tmp_path):
    told = []
    fetch(tmp_path, progress=lambda *each: told.append(each))
    assert told[:4] == [("asking SDSS for the catalogue", done, 3) for done in range(4)]
    assert told[4:] == [("fetching cut-outs", done, N_OBJECTS) for done in range(N_OBJECTS + 1)]


def test_requests_keep_their_distance(tmp_path, monkeypatch):
    now, slept = [100.0], []

    def sleep(seconds):
        slept.append(seconds)
        now[0] += seconds

    clock = SimpleNamespace(monotonic=lambda: now[0], sleep=sleep)
    monkeypatch.setattr("skastro.surveys.services.time", clock)
    fetch(tmp_path, n_objects=3, bands="g", min_interval=0.05)
    assert slept[1:] == pytest.approx([0.05] * 5)  # three queries, three cut-outs


def test_passing_faults_are_overcome(server, complete, tmp_path):
    faults = [500, 503, 429, "half", "hang up", b"", b"SIMPLE  = F", b"<html>busy</html>"]
    shapes = [make_fits(QUESTION, 1.0, size=size) for size in (SIZE - 1, SIZE + 1)]
    twice = [fault for fault in faults for _ in range(2)]
    plan = dict(enumerate([*faults, *shapes, *twice]))
    plan = {3 * (each // 2) + each % 2: fault for each, fault in plan.items()}
    server.fault = lambda kind, number, _: plan.get(number) if kind == "cutout" else None
    assert_same_data(fetch(tmp_path), complete)
    assert count(server, "cutout") == 2 * N_OBJECTS + len(plan)


def test_passing_faults_of_the_query_are_overcome(server, complete, tmp_path):
    plan = {0: 502, 1: "half", 3: b"", 4: b"<html>", 6: HALF_TABLE, 7: "hang up"}
    server.fault = lambda kind, number, _: plan.get(number) if kind == "query" else None
    assert_same_data(fetch(tmp_path), complete)
    assert count(server, "query") == 3 + len(plan)


def test_silence_is_overcome(server, complete, tmp_path, monkeypatch):
    monkeypatch.setattr(services, "_QUERY_PATIENCE", 1)
    server.fault = lambda kind, number, _: (
        "slow" if (kind, number) in {("query", 1), ("cutout", 4)} else None
    )
    assert_same_data(fetch(tmp_path, timeout=0.5, retries=4), complete)
    assert len(server.asked) >= 3 + 2 * N_OBJECTS + 2


def csv_of(server, complete, name="STAR"):
    """Return the answer to the query of a class."""
    sql = next(q["cmd"] for kind, q in complete.asked if kind == "query" and name in q["cmd"])
    with server.lock:
        return pd.read_sql(in_sqlite(sql), server.tables).to_csv(index=False)


def test_half_a_table_is_told_wherever_it_ends(server, complete):
    whole = csv_of(server, complete)
    assert len(surveys._tidy(Table.read(whole, format="ascii.csv"), "STAR")) == 3
    first = whole.index("\n") + 2
    lines = [first + line.end() for line in re.finditer("\n", whole[first:-1])]
    for end in [
        *lines,
        *range(first, len(whole) - 12, 41),
        *range(len(whole) - 12, len(whole) - 1),
    ]:
        with pytest.raises((Unanswered, ValueError)):
            surveys._tidy(Table.read(whole[:end], format="ascii.csv"), "STAR")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("modelMag_g", "nothing"), "has no modelmag_g"),
        ((",STAR,", ",GALAXY,"), "of another class"),
        (("123764", "x123764"), "objid that is no such thing"),
        (("123764", "0.123764"), "objid that is no such thing"),
    ],
)
def test_wrong_tables_are_refused(server, complete, change, message):
    text = csv_of(server, complete).replace(*change)
    with pytest.raises(Unanswered, match=message):
        surveys._tidy(Table.read(text, format="ascii.csv"), "STAR")


def test_refused_query_is_not_repeated(server, tmp_path):
    server.fault = lambda *_: b"error_message\n\"Incorrect syntax near ','\"\n"
    with pytest.raises(ConnectionError, match=r"did not give the STAR .*Incorrect syntax"):
        fetch(tmp_path)
    assert count(server, "query") == 1


def test_query_without_rows_is_told(server, tmp_path):
    columns = ",".join(column for column, _ in surveys._MEASURED.values())
    server.fault = lambda *_: f"#Table1\nobjID,class,{columns}\n".encode()
    with pytest.raises(ValueError, match="SDSS DR17 gave no clean STAR objects"):
        fetch(tmp_path)


def test_half_a_fits_file_is_told_at_every_length():
    whole = make_fits(QUESTION)
    pixels, _ = _read_fits(whole, SIZE)
    for end in range(0, len(whole), 37):
        try:
            read, _ = _read_fits(whole[:end], SIZE)
        except Unanswered:
            continue
        np.testing.assert_array_equal(read, pixels)  # only what follows the pixels is gone
        assert end >= 2880 + 4 * SIZE * SIZE


@pytest.mark.parametrize("value", [np.nan, 0.0])
def test_empty_cutouts_are_left_out_and_told(server, complete, tmp_path, value):
    row = complete.catalog.iloc[4]

    def fault(kind, _, question):
        there = kind == "cutout" and float(question["ra"]) == row["ra"]
        return make_fits(question, value) if there else None

    server.fault = fault
    with pytest.warns(UserWarning, match=rf"^1 of 9 objects .* empty .*: {row['id']} \(left_out"):
        data = fetch(tmp_path / "holes")
    assert data.left_out == {"empty": [row["id"]], "failed": []}
    assert data.catalog["id"].tolist() == complete.catalog["id"].drop(4).tolist()
    assert_right_pixels(data)
    assert count(server, "cutout") == 2 * N_OBJECTS - 1  # its other band is not asked for
    assert fetch(tmp_path / "holes").left_out == data.left_out


def test_survey_without_the_objects_is_told(server, tmp_path):
    server.fault = lambda kind, _, q: make_fits(q, 0.0) if kind == "cutout" else None
    for _ in range(2):
        with pytest.raises(ValueError, match="none of 9 objects has pixels in all of g, r"):
            fetch(tmp_path)
    assert count(server, "cutout") == N_OBJECTS
    assert not (tmp_path / "stamps.npy").exists()


def test_failed_objects_are_left_out_and_asked_for_again_on_demand(server, complete, tmp_path):
    row = complete.catalog.iloc[0]
    server.fault = lambda kind, _, q: (
        500 if kind == "cutout" and float(q["ra"]) == row["ra"] else None
    )
    with pytest.warns(UserWarning, match=f"1 of 9 objects .* failed .*: {row['id']}"):
        data = fetch(tmp_path / "holes")
    assert count(server, "cutout") == 2 * (N_OBJECTS - 1) + 3
    assert data.left_out == {"empty": [], "failed": [row["id"]]}
    assert len(data.images) == N_OBJECTS - 1
    assert_right_pixels(data)

    forget(server)
    assert len(fetch(tmp_path / "holes").images) == N_OBJECTS - 1
    assert not server.asked
    assert_same_data(fetch(tmp_path / "holes", retry_failed=True), complete)
    assert len(server.asked) == 2


def test_dead_service_ends_the_fetch_with_what_to_do(server, tmp_path):
    server.fault = lambda kind, number, _: (
        503 if (kind == "cutout" and number >= 6) or (kind == "query" and number >= 3) else None
    )
    with pytest.raises(ConnectionError, match=r"3 objects in a row \(HTTP 503.*run it again to go"):
        fetch(tmp_path)
    assert count(server, "cutout") == 6 + 3 * 3
    assert not (tmp_path / "stamps.npy").exists()
    got = set(asked_cutouts(server)[:6])

    forget(server)
    assert_right_pixels(fetch(tmp_path))
    assert count(server, "query") == 0
    assert count(server, "cutout") == 2 * N_OBJECTS - 6
    assert not got & set(asked_cutouts(server))


def test_unknown_hips_is_not_asked_for_again(server, tmp_path):
    server.fault = lambda kind, *_: 400 if kind == "cutout" else None
    with pytest.raises(ConnectionError, match=r"HTTP 400.*unknown survey"):
        fetch(tmp_path)
    assert count(server, "cutout") == 3


def test_no_network_is_told_in_one_sentence(tmp_path):
    with (
        conf.set_temp("skyserver_baseurl", "http://127.0.0.1:9"),
        pytest.raises(ConnectionError, match=r"is there a network.*run it again to") as caught,
    ):
        fetch(tmp_path, retries=0)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("stop", [0, 2, 3, 12])
def test_interrupted_fetch_goes_on_where_it_stopped(server, complete, tmp_path, monkeypatch, stop):
    ask = services.Services._until_answered

    def interrupt(self, attempt):
        if len(server.asked) == stop:
            raise KeyboardInterrupt
        return ask(self, attempt)

    with monkeypatch.context() as patch:
        patch.setattr(services.Services, "_until_answered", interrupt)
        with pytest.raises(KeyboardInterrupt):
            fetch(tmp_path / "again")
    assert not (tmp_path / "again" / "stamps.npy").exists()
    assert_same_data(fetch(tmp_path / "again"), complete)
    questions = {json.dumps(question) for _, question in server.asked}
    assert len(server.asked) == len(questions) == 3 + 2 * N_OBJECTS


def test_killed_fetch_asks_again_only_for_what_was_not_whole(server, complete, tmp_path):
    server.fault = lambda kind, number, _: 500 if kind == "cutout" and number >= 10 else None
    with pytest.raises(ConnectionError):
        fetch(tmp_path / "killed")
    (parts,) = (tmp_path / "killed").glob("download-*")
    journal, pack = parts / "journal.jsonl", parts / "cutouts.bin"
    lines = journal.read_bytes()
    assert lines.count(b"\n") == 10
    journal.write_bytes(lines[:-20])  # the last line is half written
    pixels = bytearray(pack.read_bytes())
    pixels[5] ^= 1  # and a pixel of the first cut-out is not
    pack.write_bytes(pixels)

    forget(server)
    assert_same_data(fetch(tmp_path / "killed"), complete)
    assert len(server.asked) == 2 * N_OBJECTS - 8


def damage(path, how):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    if how == "cut":
        path.write_bytes(content[: len(content) // 2])
    elif how == "lost":
        path.unlink()
    else:
        path.write_bytes(content)


@pytest.mark.parametrize("how", ["bit", "cut"])
def test_damaged_stamps_are_mended(server, complete, copied, how):
    damage(copied / "stamps.npy", how)
    assert_same_data(fetch(copied), complete)
    assert len(server.asked) == {"bit": 1, "cut": N_OBJECTS + 1}[how]


@pytest.mark.parametrize("how", ["bit", "cut", "lost"])
def test_damaged_catalogue_costs_no_request(server, complete, copied, how):
    damage(copied / "catalog.ecsv", how)
    assert_same_data(fetch(copied), complete)
    assert not server.asked


@pytest.mark.parametrize("how", ["bit", "lost"])
def test_damaged_answer_of_sdss_is_fetched_again(server, complete, copied, how):
    damage(next(copied.glob("download-*/QSO.ecsv")), how)
    damage(copied / "catalog.ecsv", how)
    assert_same_data(fetch(copied), complete)
    assert [kind for kind, _ in server.asked] == ["query"]


def test_damaged_manifest_costs_only_the_catalogue(server, complete, copied):
    damage(copied / "manifest.json", "cut")
    assert_same_data(fetch(copied), complete)
    assert [kind for kind, _ in server.asked] == ["query"] * 3


def test_folder_of_another_fetch_is_refused(complete):
    with pytest.raises(ValueError, match="holds a fetch with another random_state"):
        fetch(complete.path, random_state=5)


def test_folder_of_other_data_is_refused(tmp_path):
    (tmp_path / "catalog.csv").write_text("id\n1\n")
    with pytest.raises(ValueError, match="holds data from elsewhere"):
        fetch(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["catalog.csv"]


def test_folder_that_cannot_be_made_is_told(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match=r"cannot be written \(.*\): choose a folder"):
        fetch(tmp_path / "file" / "folder")


@pytest.mark.parametrize("writer", ["_npy_header", "Cutouts._seek"])
def test_full_disk_leaves_nothing_half_written(complete, tmp_path, monkeypatch, writer):
    def fail(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(f"skastro.downloads.{writer}", fail)
        with pytest.raises(OSError, match=r"cannot be written \(no space is left\): make room"):
            fetch(tmp_path / "full")
    assert not (tmp_path / "full" / "stamps.npy").exists()
    assert not list((tmp_path / "full").rglob("*.partial"))
    assert_same_data(fetch(tmp_path / "full"), complete)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"n_objects": 2}, "n_objects must be a whole number of at least 3"),
        ({"n_objects": 3.5}, "n_objects must be a whole number"),
        ({"size": 4}, "size must be a whole number of at least 8"),
        ({"random_state": None}, "random_state must be a whole number"),
        ({"classes": "STAR"}, "classes must be some of STAR, GALAXY, QSO"),
        ({"classes": ("STAR", "COMET")}, "classes must be some of"),
        ({"classes": ("STAR", "STAR")}, "classes must be different"),
        ({"bands": ""}, "bands must be different"),
        ({"bands": "gg"}, "bands must be different"),
        ({"bands": "gy"}, "the band 'y' has no HiPS"),
        ({"pixel_scale": 0}, "pixel_scale must be a positive"),
        ({"timeout": 0}, "timeout above 0"),
        ({"retries": -1}, "retries must be at least 0"),
    ],
)
def test_wrong_arguments_are_refused(tmp_path, changes, message):
    with pytest.raises(ValueError, match=message):
        fetch(tmp_path / "new", **changes)
    assert not (tmp_path / "new").exists()


def test_missing_astroquery_is_told(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "astroquery.sdss", None)
    with pytest.raises(ImportError, match=r"needs astroquery.*pip install 'skastro\[data\]'"):
        fetch(tmp_path)
