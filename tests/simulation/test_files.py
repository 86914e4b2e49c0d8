"""The simulated survey as files, and the way back to its stamps."""

import numpy as np
import pandas as pd
import pytest
from astropy.io import fits
from astropy.nddata import Cutout2D
from astropy.table import Table
from astropy.wcs import WCS

from skastro.catalogs.reading import read_catalog
from skastro.simulation import files
from skastro.simulation.files import check_out, write_survey
from skastro.simulation.survey import make_survey
from skastro.surveys.cutouts import cut_stamps
from skastro.surveys.folders import load_folder
from tests.conftest import tiny_encoder

pytest.importorskip("galsim", reason="the simulation needs GalSim: the extra 'sim'")

SETTINGS = {"n_objects": 40, "bands": "rg", "image_size": 16, "random_state": 2}


@pytest.fixture(scope="module")
def survey():
    return make_survey(cache=False, **SETTINGS)


@pytest.fixture(scope="module")
def folder(survey, tmp_path_factory):
    return write_survey(survey, tmp_path_factory.mktemp("files") / "survey")


def cut(tiles, catalog, size):
    """Cut out stamps as a user of astropy does, each from the tile of its field."""
    stamps = np.full((len(catalog), size, size), np.nan, dtype=np.float32)
    for file in tiles:
        pixels, header = fits.getdata(file), fits.getheader(file)
        rows = np.flatnonzero(catalog["field"] == header["FIELD"])
        sky = catalog[["ra", "dec"]].to_numpy()[rows]
        for row, (x, y) in zip(rows, WCS(header).all_world2pix(sky, 0), strict=True):
            stamps[row] = Cutout2D(pixels, (x, y), size).data
    return stamps


def list_mosaics(folder):
    """Return the tiles of each band, in the order of the stamps' bands."""
    bands = fits.getheader(folder / "mosaic" / "catalog.fits", 1)["BANDS"]
    return {band: sorted((folder / "mosaic").glob(f"mosaic_{band}_*.fits")) for band in bands}


def read(path):
    table = Table.read(path)
    table.convert_bytestring_to_unicode()
    return table


@pytest.mark.parametrize("size", [8, 11])
def test_plain_cutouts_are_the_stamps_bit_for_bit(size, tmp_path):
    survey = make_survey(60, bands="gi", image_size=size, random_state=size, cache=False)
    folder = write_survey(survey, tmp_path / "survey")
    catalog, stamps = read(folder / "catalog.ecsv").to_pandas(), np.load(folder / "stamps.npy")
    np.testing.assert_array_equal(stamps, survey.images)
    for number, tiles in enumerate(list_mosaics(folder).values()):
        np.testing.assert_array_equal(cut(tiles, catalog, size), stamps[:, number])


def test_cut_stamps_gives_the_stamps_back(survey, folder):
    catalog = read_catalog(folder / "mosaic" / "catalog.fits")
    stamps = cut_stamps(list_mosaics(folder), catalog, size=16)
    assert stamps.shape == survey.images.shape
    assert not stamps.partial.any()
    np.testing.assert_array_equal(np.asarray(stamps), survey.images)


def test_embeddings_of_cut_stamps_are_those_of_the_simulated(survey, folder):
    catalog = read_catalog(folder / "mosaic" / "catalog.fits")
    stamps = cut_stamps(list_mosaics(folder), catalog, size=16)
    magnitudes = catalog.iloc[stamps.catalog_rows].filter(like="mag_")
    encoder = tiny_encoder().fit(stamps, properties=magnitudes)
    expected = tiny_encoder().fit(survey.images, properties=survey.catalog.filter(like="mag_"))
    np.testing.assert_allclose(
        encoder.transform(stamps), expected.transform(survey.images), atol=1e-5
    )


def test_rounded_positions_cut_the_same_stamps(folder):
    # The middle of a stamp is half a pixel away from where the cut-out would slip.
    catalog, stamps = read(folder / "catalog.ecsv").to_pandas(), np.load(folder / "stamps.npy")
    catalog["ra"], catalog["dec"] = catalog["ra"].round(5), catalog["dec"].round(5)
    np.testing.assert_array_equal(cut(list_mosaics(folder)["r"], catalog, 16), stamps[:, 0])


def test_objects_lie_within_half_a_pixel_of_their_position(survey):
    bright = (survey.catalog["mag_r"] < 19.5).to_numpy()
    assert bright.any()
    y, x = np.mgrid[:16, :16] - 7.5
    inner = np.hypot(x, y) < 4
    for stamp in survey.images[bright, 0]:
        weight = np.clip(stamp, 0, None) * inner
        centroid = [np.sum(weight * axis) / weight.sum() for axis in (x, y)]
        assert np.abs(centroid).max() < 0.9


def test_headers_of_tiles_describe_them(folder):
    mosaics = list_mosaics(folder)
    catalog = read(folder / "catalog.ecsv")
    assert len(mosaics["g"]) == len(mosaics["r"]) == len(set(catalog["field"]))
    for band, tiles in mosaics.items():
        for file in tiles:
            header = fits.getheader(file)
            assert (header["BUNIT"], header["MAGZP"]) == ("nanomaggy", 22.5)
            assert header["FILTER"] == band
            assert file.name == f"mosaic_{band}_{header['FIELD']:02d}.fits"
            wcs = WCS(header)
            assert wcs.wcs.ctype[0] == "RA---TAN"
            np.testing.assert_allclose(wcs.proj_plane_pixel_scales()[0].value * 3600, 0.3)


def test_cells_left_over_are_empty(survey, folder):
    for file in list_mosaics(folder)["g"]:
        pixels, field = fits.getdata(file), fits.getheader(file)["FIELD"]
        filled = np.isfinite(pixels).sum() / 16**2
        assert filled == np.sum(survey.catalog["field"] == field)


def test_positions_stay_in_their_fields(survey, folder):
    catalog = read(folder / "catalog.ecsv").to_pandas()
    # Rubin's field of view: the tile is in the midst of the objects that were drawn there.
    distance = (catalog["dec"] - survey.catalog["dec"]).abs()
    assert 0 < distance.max() < 3.6
    others = ["ra", "dec"]
    pd.testing.assert_frame_equal(
        catalog.drop(columns=others).fillna({"morphology": ""}),
        survey.catalog.drop(columns=others),
        check_dtype=False,
    )


def test_both_catalogues_hold_the_same_values_and_units(survey, folder):
    ecsv, table = read(folder / "catalog.ecsv"), read(folder / "mosaic" / "catalog.fits")
    assert ecsv.colnames == table.colnames == survey.catalog.columns.tolist()
    for name in ecsv.colnames:
        if ecsv[name].dtype.kind == "f":
            one, other = (np.ma.filled(content[name], np.nan) for content in (ecsv, table))
            np.testing.assert_array_equal(one, other)
        else:
            assert list(ecsv[name]) == list(table[name]), name
        assert ecsv[name].unit == table[name].unit
    assert ecsv["id"].dtype == np.int64
    units = {name: str(ecsv[name].unit) for name in ("ra", "mag_g", "err_r", "size", "redshift")}
    assert units == {
        "ra": "deg", "mag_g": "mag", "err_r": "mag", "size": "arcsec", "redshift": "None",
    }  # fmt: skip
    assert (ecsv.meta["BANDS"], ecsv.meta["MAGZP"]) == ("rg", 22.5)


def test_folder_reads_back_as_a_data_folder(survey, folder):
    data = load_folder(folder, label="morphology")
    np.testing.assert_array_equal(np.asarray(data.images), survey.images)
    assert data.target_names == ["elliptical", "irregular", "lenticular", "spiral"]
    np.testing.assert_array_equal(pd.isna(data.target), survey.target != "galaxy")


def test_files_do_not_depend_on_the_number_of_jobs(folder, tmp_path):
    survey = make_survey(cache=False, n_jobs=2, **SETTINGS)
    again = write_survey(survey, tmp_path / "again")
    names = [path.relative_to(folder) for path in sorted(folder.rglob("*")) if path.is_file()]
    assert names == [path.relative_to(again) for path in sorted(again.rglob("*")) if path.is_file()]
    for name in names:
        assert (folder / name).read_bytes() == (again / name).read_bytes(), name


def test_survey_without_mosaics_keeps_its_positions(survey, tmp_path):
    out = write_survey(survey, tmp_path / "deep" / "plain", mosaic=False)
    assert sorted(path.name for path in out.iterdir()) == ["catalog.ecsv", "stamps.npy"]
    catalog = read(out / "catalog.ecsv")
    np.testing.assert_array_equal(catalog["ra"], survey.catalog["ra"])


def test_folders_of_other_files_are_refused(tmp_path):
    file = tmp_path / "file"
    file.touch()
    with pytest.raises(ValueError, match=r"file' is a file: name a folder"):
        check_out(file, overwrite=False)
    with pytest.raises(ValueError, match=r"holds 'file': choose another folder, or pass overwrite"):
        check_out(tmp_path, overwrite=False)
    (tmp_path / "catalog.csv").touch()
    with pytest.raises(
        ValueError, match=r"holds 'catalog\.csv', which would be mixed .* remove it"
    ):
        check_out(tmp_path, overwrite=True)


def test_overwriting_replaces_the_survey_and_nothing_else(survey, tmp_path):
    write_survey(survey, tmp_path)
    (tmp_path / "notes.txt").write_text("mine")
    write_survey(survey, tmp_path, mosaic=False, overwrite=True)
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == ["catalog.ecsv", "notes.txt", "stamps.npy"]
    assert (tmp_path / "notes.txt").read_text() == "mine"


def test_failures_leave_the_folder_as_it_was(survey, tmp_path, monkeypatch):
    def fill_the_disk(file, *_):
        with open(file, "wb") as half:  # noqa: PTH123 - as np.save does
            half.write(b"half")
        raise OSError(28, "No space left on device")

    out = write_survey(survey, tmp_path / "earlier", mosaic=False)
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    monkeypatch.setattr(files.np, "save", fill_the_disk)
    with pytest.raises(OSError, match=r"\(no space is left\): make room"):
        write_survey(survey, out, overwrite=True)
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before
    with pytest.raises(OSError, match=r"new cannot be written \(no space is left\): make room"):
        write_survey(survey, tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_leftovers_of_a_killed_process_are_replaced(survey, tmp_path):
    (tmp_path / ".partial" / "mosaic").mkdir(parents=True)
    write_survey(survey, tmp_path, mosaic=False)
    assert len(load_folder(tmp_path).images) == len(survey.images)


def test_folders_that_cannot_be_written_are_reported(survey, locked):
    with pytest.raises(OSError, match=r"survey cannot be written \(.*\): choose a folder"):
        write_survey(survey, locked / "survey")
