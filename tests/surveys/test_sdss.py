"""Fetching SDSS from stand-ins for astroquery's clients.

The stand-in for SkyServer runs the query itself, translated from T-SQL, on a small SQLite copy of
the two tables.
"""

import errno
import inspect
import re
import sqlite3
import sys
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from astropy.io import fits
from astropy.table import Table

from skastro import Stamps, load_folder
from skastro.surveys import sdss
from skastro.surveys.sdss import SDSS_CLASSES, SDSS_HIPS, fetch_sdss
from skastro.utils.progress import reporting

pytestmark = pytest.mark.usefixtures("services")

SIZE = 8
BANDS = "gr"
FIRST_ID = 1237648720693755918  # 19 digits: floats would round it
N_OBJECTS = 9


def make_tables():
    """Return a database of 120 spectra and their images, some of which must not be used."""
    rng = np.random.default_rng(0)
    tables = sqlite3.connect(":memory:")
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
    for column, unit in sdss._COLUMNS.values():
        if unit in ("mag", "arcsec"):
            images[column] = rng.uniform(0.1, 20.0, n).round(5)
    images.loc[8, ["modelMag_u", "modelMagErr_u", "petroR50Err_r"]] = -9999.0, -9999.0, -1000.0
    images.to_sql("PhotoPrimary", tables, index=False)
    return tables


def in_sqlite(sql):
    """Translate the query: TOP to LIMIT, at the ends of the two selections."""
    outer, inner = re.findall(r"TOP (\d+) ", sql)
    sql = re.sub(r"TOP \d+ ", "", sql)
    sql = sql.replace("ORDER BY dice,bestObjID)", f"ORDER BY dice,bestObjID LIMIT {inner})")
    return f"{sql} LIMIT {outer}"


def expected_pixels(hips, ra, dec):
    """Return the sky at a position, of shape (SIZE, SIZE), different everywhere."""
    grid = np.arange(SIZE * SIZE, dtype=np.float64).reshape(SIZE, SIZE)
    return (grid + ra + 1000 * dec + sum(hips.encode())).astype(np.float32)


class Services:
    """Both services. ``fault(kind, number, question)`` may raise, or return another answer."""

    def __init__(self):
        self.tables, self.queries, self.cutouts = make_tables(), [], []
        self.fault = lambda *_: None

    def query_sql(self, sql, **_):
        self.queries.append(sql)
        answer = self.fault("query", len(self.queries), sql)
        if answer is not None:
            return answer if len(answer) else None
        return Table.from_pandas(pd.read_sql(in_sqlite(sql), self.tables))

    def query(self, **question):
        self.cutouts.append(question)
        ra, dec = question["ra"].deg, question["dec"].deg
        pixels = self.fault("cutout", len(self.cutouts), question)
        if pixels is None:
            pixels = expected_pixels(question["hips"], ra, dec)
        return fits.HDUList([fits.PrimaryHDU(pixels.astype(">f4"))])


@pytest.fixture
def services(monkeypatch):
    services = Services()
    clients = {
        "astroquery.sdss": SimpleNamespace(SDSS=services),
        "astroquery.hips2fits": SimpleNamespace(hips2fits=services),
    }
    for name, module in clients.items():
        monkeypatch.setitem(sys.modules, name, module)
    pytest.importorskip("matplotlib", reason="hips2fits of astroquery needs it")
    return services


def fetch(out, **changes):
    return fetch_sdss(
        **{"n_objects": N_OBJECTS, "out": out, "bands": BANDS, "size": SIZE, **changes}
    )


def assert_right_pixels(survey, hips=SDSS_HIPS):
    for row, stamp in zip(survey.catalog.itertuples(), np.asarray(survey.images), strict=True):
        for band, pixels in zip(survey.bands, stamp, strict=True):
            np.testing.assert_array_equal(pixels, expected_pixels(hips[band], row.ra, row.dec))


def assert_same_survey(one, other):
    np.testing.assert_array_equal(np.asarray(one.images), np.asarray(other.images))
    pd.testing.assert_frame_equal(one.catalog, other.catalog)
    assert one.left_out == other.left_out


def fail_after(n_cutouts):
    def fault(kind, number, _):
        if kind == "cutout" and number > n_cutouts:
            raise ConnectionError("no route to host")

    return fault


def test_stamps_and_catalogue_belong_together(services, tmp_path):
    survey = fetch(tmp_path)
    assert isinstance(survey.images, Stamps)
    assert (survey.images.shape, survey.images.dtype) == ((N_OBJECTS, 2, SIZE, SIZE), np.float32)
    assert_right_pixels(survey)
    assert survey.catalog["class"].value_counts().to_dict() == dict.fromkeys(SDSS_CLASSES, 3)
    assert survey.target.tolist() == survey.catalog["class"].tolist()
    assert survey.target_names == sorted(SDSS_CLASSES)
    assert survey.ids.tolist() == survey.catalog["id"].tolist()
    assert (survey.bands, survey.pixel_scale, survey.path) == (("g", "r"), 0.396, tmp_path)
    assert survey.left_out == {"empty": [], "failed": []}
    assert "SDSS DR17" in survey.DESCR
    assert len(services.queries[0]) < 2048


@pytest.mark.filterwarnings("ignore:SDSS gave .* objects of the class")
def test_catalogue_holds_clean_objects_of_one_class_and_nan(services, tmp_path):
    survey = fetch(tmp_path, n_objects=99, bands="g")
    catalog = survey.catalog.set_index("id")
    images = pd.read_sql("SELECT * FROM PhotoPrimary", services.tables).astype({"objID": str})
    images = images.set_index("objID")
    assert images.loc[catalog.index, "clean"].all()
    np.testing.assert_allclose(catalog["mag_r"], images.loc[catalog.index, "modelMag_r"])
    ids = images.index
    assert ids[5] not in catalog.index  # spectra of two classes
    assert catalog.index.is_unique
    assert ids[4] in catalog.index  # two spectra of one class
    assert catalog.loc[ids[8], ["mag_u", "err_u", "petro_r50_err"]].isna().all()
    assert np.isnan(catalog.loc[ids[6], "redshift_err"])
    assert Table.read(tmp_path / "catalog.ecsv")["mag_g"].unit == "mag"


def test_seed_chooses_the_objects(tmp_path):
    first, same, other = (
        fetch(tmp_path / name, random_state=seed, bands="g")
        for name, seed in (("one", 1), ("same", 1), ("other", 2))
    )
    assert_same_survey(first, same)
    assert set(first.catalog["id"]) != set(other.catalog["id"])


def test_folder_is_a_data_folder(tmp_path):
    survey = fetch(tmp_path)
    again = load_folder(tmp_path, label="class")
    np.testing.assert_array_equal(np.asarray(again.images), np.asarray(survey.images))
    assert again.catalog["id"].tolist() == survey.catalog["id"].tolist()
    assert again.target.tolist() == survey.target.tolist()


def test_hips_and_pixel_scale_are_passed_on(services, tmp_path):
    hips = {"g": "CDS/P/PanSTARRS/DR1/g"}
    survey = fetch(tmp_path, hips=hips, pixel_scale=0.5)
    assert_right_pixels(survey, {**SDSS_HIPS, **hips})
    question = services.cutouts[0]
    assert (question["width"], question["height"], question["projection"]) == (SIZE, SIZE, "TAN")
    assert question["fov"].arcsec == pytest.approx(SIZE * 0.5)


def test_arguments_are_those_of_astroquery(monkeypatch):
    for name in ("astroquery.sdss", "astroquery.hips2fits"):
        monkeypatch.delitem(sys.modules, name)
    client = pytest.importorskip("astroquery.hips2fits").hips2fitsClass
    services = Services()
    row = SimpleNamespace(ra=10.0, dec=5.0)
    request = {"size": SIZE, "pixel_scale": 0.396, "hips": SDSS_HIPS}
    sdss._cut(SimpleNamespace(hips2fits=services), row, "g", request)
    payload = client().query(**services.cutouts[0], get_query_payload=True)
    assert (payload["ra"], payload["dec"], payload["hips"]) == (10.0, 5.0, "CDS/P/SDSS9/g")
    sql = pytest.importorskip("astroquery.sdss").SDSS.query_sql_async
    inspect.signature(sql).bind("SELECT 1", data_release=17, cache=False)


def test_complete_folder_asks_no_service(tmp_path, monkeypatch):
    survey = fetch(tmp_path)
    monkeypatch.setitem(sys.modules, "astroquery.sdss", None)
    monkeypatch.setitem(sys.modules, "astroquery.hips2fits", None)
    assert_same_survey(fetch(tmp_path), survey)


def test_default_folder_is_found_again(services, tmp_path, monkeypatch):
    monkeypatch.setenv("SKASTRO_CACHE", str(tmp_path))
    survey = fetch(None)
    assert survey.path.is_relative_to(tmp_path)
    n_cutouts = len(services.cutouts)
    assert_same_survey(fetch(None), survey)
    assert len(services.cutouts) == n_cutouts
    assert fetch(None, random_state=1).path != survey.path


def test_progress_is_reported(tmp_path):
    calls, reports = [], []
    with reporting(lambda *report: reports.append(report)):
        fetch(tmp_path / "one")
    fetch(tmp_path / "other", progress=lambda *report: calls.append(report))
    assert calls == reports
    assert calls[:4] == [("asking SDSS for the catalogue", done, 3) for done in range(4)]
    assert calls[4:] == [("fetching cut-outs", done, N_OBJECTS) for done in range(N_OBJECTS + 1)]


def test_interrupted_fetch_goes_on_where_it_stopped(services, tmp_path):
    expected = fetch(tmp_path / "expected")
    services.queries.clear()
    services.cutouts.clear()
    services.fault = fail_after(7)  # three objects, and one band of the fourth
    with pytest.raises(
        ConnectionError, match=r"3 objects in a row \(no route to host\): call again .* 3 of 9"
    ) as caught:
        fetch(tmp_path / "out")
    assert "\n" not in str(caught.value)
    services.fault = fail_after(np.inf)
    services.cutouts.clear()
    assert_same_survey(fetch(tmp_path / "out"), expected)
    assert (len(services.queries), len(services.cutouts)) == (3, 2 * (N_OBJECTS - 3))


def test_failed_objects_are_left_out_and_asked_for_again(services, tmp_path):
    expected = fetch(tmp_path / "expected")
    row = expected.catalog.iloc[4]

    def fault(kind, _, question):
        if kind == "cutout" and question["ra"].deg == row["ra"]:
            raise ValueError("half a file")

    services.fault = fault
    with pytest.warns(UserWarning, match=r"^1 of 9 .* failed \(call again\) and are left out"):
        survey = fetch(tmp_path / "out")
    assert survey.left_out == {"empty": [], "failed": [row["id"]]}
    assert survey.catalog["id"].tolist() == expected.catalog["id"].drop(4).tolist()
    assert_right_pixels(survey)
    services.fault = fail_after(np.inf)
    assert_same_survey(fetch(tmp_path / "out"), expected)


@pytest.mark.parametrize("value", [np.nan, 0.0])
def test_empty_cutouts_are_left_out(services, tmp_path, value):
    row = fetch(tmp_path / "expected").catalog.iloc[4]
    services.fault = lambda kind, _, question: (
        np.full((SIZE, SIZE), value)
        if kind == "cutout" and question["ra"].deg == row["ra"] and question["hips"][-1] == "r"
        else None
    )
    with pytest.warns(UserWarning, match=r"^1 of 9 objects have an empty cut-out"):
        survey = fetch(tmp_path / "out")
    assert survey.left_out == {"empty": [row["id"]], "failed": []}
    assert_right_pixels(survey)
    services.cutouts.clear()
    with pytest.warns(UserWarning, match="1 of 9 objects have an empty"):
        assert_same_survey(fetch(tmp_path / "out"), survey)
    assert not services.cutouts


@pytest.mark.filterwarnings("ignore:9 of 9 objects have an empty cut-out")
def test_survey_without_the_objects_is_refused(services, tmp_path):
    services.fault = lambda kind, *_: np.zeros((SIZE, SIZE)) if kind == "cutout" else None
    with pytest.raises(ValueError, match="none of 9 objects has pixels in all of g, r"):
        fetch(tmp_path)


def test_cutouts_of_another_shape_are_refused(services, tmp_path):
    services.fault = lambda kind, *_: np.ones((SIZE, 7)) if kind == "cutout" else None
    with pytest.raises(ConnectionError, match=r"shape \(8, 7\) instead of \(8, 8\)"):
        fetch(tmp_path)


WRONG_TABLES = {
    "no rows": (lambda table: table[:0], "SDSS DR17 has no clean STAR objects"),
    "no column": (lambda table: table.drop(columns="modelMag_g"), r"STAR .*modelmag_g.*: call"),
    "other class": (lambda table: table.assign(**{"class": "QSO"}), "other classes"),
    "ids as text": (lambda table: table.assign(objID="../../x"), "ids that are not whole"),
}


@pytest.mark.parametrize("case", WRONG_TABLES)
def test_wrong_tables_are_refused(services, tmp_path, case):
    change, message = WRONG_TABLES[case]
    services.fault = lambda _, __, sql: Table.from_pandas(
        change(pd.read_sql(in_sqlite(sql), services.tables))
    )
    with pytest.raises((ConnectionError, ValueError), match=message):
        fetch(tmp_path / "out")
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["request.json"]


@pytest.mark.filterwarnings("ignore:SDSS gave .* objects of the class (GALAXY|QSO)")
def test_fewer_objects_than_asked_for_are_counted(tmp_path):
    with pytest.warns(UserWarning, match=r"SDSS gave \d+ objects of the class STAR instead of 100"):
        fetch(tmp_path, n_objects=300, bands="g")


def test_folder_of_another_fetch_is_refused(tmp_path):
    fetch(tmp_path)
    with pytest.raises(ValueError, match="holds a fetch with other arguments"):
        fetch(tmp_path, random_state=5)


@pytest.mark.parametrize("name", ["catalog.csv", "catalog.ecsv"])
def test_folder_of_other_data_is_refused(tmp_path, name):
    Table({"id": [1]}).write(tmp_path / name)
    with pytest.raises(ValueError, match="holds data from elsewhere"):
        fetch(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_damaged_catalogue_is_explained(tmp_path):
    fetch(tmp_path)
    path = tmp_path / "catalog.ecsv"
    path.write_bytes(path.read_bytes()[:900])
    with pytest.raises(ValueError, match=r"catalog\.ecsv "):
        fetch(tmp_path)


def test_ids_of_a_foreign_catalogue_name_no_file_outside(tmp_path):
    fetch(tmp_path / "out")
    path = tmp_path / "out" / "catalog.ecsv"
    table = Table.read(path)
    table["id"] = table["id"].astype("U99")
    table["id"][0] = "../../outside"
    table.write(path, overwrite=True)
    with pytest.raises(ValueError, match="ids that are not whole numbers: delete"):
        fetch(tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_folder_that_cannot_be_made_is_explained(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match=r"cannot be written \(.*\): choose a folder"):
        fetch(tmp_path / "file" / "folder")


def test_full_disk_leaves_nothing_half_written(tmp_path, monkeypatch):
    def fill_the_disk(path, _):
        path.write_bytes(b"half")
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(sdss.np, "save", fill_the_disk)
        with pytest.raises(OSError, match=r"cannot be written \(no space is left\): make room"):
            fetch(tmp_path)
    assert not list((tmp_path / "stamps").iterdir())
    assert_right_pixels(fetch(tmp_path))


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
    ],
)
def test_wrong_arguments_are_refused(tmp_path, changes, message):
    with pytest.raises(ValueError, match=message):
        fetch(tmp_path / "new", **changes)
    assert not (tmp_path / "new").exists()


def test_missing_astroquery_is_explained(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "astroquery.sdss", None)
    with pytest.raises(ImportError, match=r"needs astroquery.*pip install 'skastro\[data\]'"):
        fetch(tmp_path)
