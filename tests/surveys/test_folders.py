import json

import numpy as np
import pandas as pd
import pytest
from astropy.io import fits
from astropy.table import MaskedColumn, Table
from astropy.wcs import WCS

from skastro import Stamps, load_folder, load_survey, open_stamps
from skastro.surveys.folders import read_data
from tests.conftest import find_data

LONG_ID = 1237648720693755918  # 19 digits: a float would end in ...904


def table_of(n_rows=3):
    return pd.DataFrame(
        {
            "id": [LONG_ID + row for row in range(n_rows)],
            "spec_id": np.arange(n_rows),
            "mag_r": np.linspace(18, 20, n_rows),
            "class": [("star", "galaxy")[row % 2] for row in range(n_rows)],
        }
    )


def write_catalog(frame, file):
    if file.suffix == ".csv":
        frame.to_csv(file, index=False)
    elif file.suffix == ".parquet":
        frame.to_parquet(file)
    else:
        Table.from_pandas(frame).write(file)


@pytest.fixture
def folder(tmp_path):
    np.save(tmp_path / "stamps.npy", np.arange(3 * 2 * 8 * 8, dtype=np.float32).reshape(3, 2, 8, 8))
    return tmp_path


@pytest.mark.parametrize("suffix", ["csv", "ecsv", "fits", "parquet"])
def test_folder_round_trip(folder, suffix):
    if suffix == "parquet":
        pytest.importorskip("pyarrow", reason="pandas reads Parquet with pyarrow")
    frame = table_of()
    write_catalog(frame, folder / f"catalog.{suffix}")
    data = load_folder(folder, label="class")
    assert isinstance(data.images, Stamps)
    np.testing.assert_array_equal(data.images, np.load(folder / "stamps.npy"))
    assert data.catalog["id"].tolist() == [str(number) for number in frame["id"]]
    assert data.catalog["spec_id"].dtype == np.int64
    assert data.catalog["spec_id"].tolist() == [0, 1, 2]
    np.testing.assert_allclose(data.catalog["mag_r"], frame["mag_r"])
    assert data.catalog["mag_r"].dtype == np.dtype("=f8")
    assert list(data.target) == ["star", "galaxy", "star"]
    assert data.target_names == ["galaxy", "star"]
    assert data.path == folder


def test_folder_without_a_label_has_no_target(folder):
    write_catalog(table_of(), folder / "catalog.csv")
    assert load_folder(folder).target is None


def test_missing_labels_are_kept_out_of_the_names(folder):
    write_catalog(table_of().assign(**{"class": ["star", None, "star"]}), folder / "catalog.csv")
    data = load_folder(folder, label="class")
    assert data.target_names == ["star"]
    assert pd.isna(data.target).tolist() == [False, True, False]


def test_ids_keep_leading_zeros_and_gaps(folder):
    frame = table_of()
    frame["id"] = ["007", "8", "9"]
    frame["spec_id"] = [str(LONG_ID), None, "3"]
    write_catalog(frame, folder / "catalog.csv")
    catalog = load_folder(folder).catalog
    assert catalog["id"].tolist() == ["007", "8", "9"]
    assert catalog["spec_id"].isna().tolist() == [False, True, False]
    assert catalog["spec_id"][0] == str(LONG_ID)


@pytest.mark.parametrize("suffix", ["ecsv", "fits"])
def test_masked_values_become_nan(folder, suffix):
    masked = [False, True, False]
    table = Table(
        {
            "objID": MaskedColumn([LONG_ID, 0, 7], mask=masked),
            "flag": MaskedColumn([1, 2, 3], mask=masked),
            "mag_r": MaskedColumn([18.0, 19.0, 20.0], mask=masked),
        }
    )
    table.write(folder / f"catalog.{suffix}")
    catalog = load_folder(folder).catalog
    assert catalog["flag"].dtype == np.float64
    np.testing.assert_array_equal(catalog["flag"], [1, np.nan, 3])
    np.testing.assert_array_equal(catalog["mag_r"], [18, np.nan, 20])
    assert catalog["objID"][0] == str(LONG_ID)
    assert catalog["objID"].isna().tolist() == masked


def test_float_ids_are_refused(folder):
    Table({"objid": np.array([1.2e18, 2.0, 3.0])}).write(folder / "catalog.fits")
    with pytest.raises(ValueError, match=r"'objid' of .* is float.*save it as integers or text"):
        load_folder(folder)


def test_columns_of_arrays_are_left_out(folder):
    Table({"id": [1, 2, 3], "flux": np.ones((3, 5))}).write(folder / "catalog.fits")
    with pytest.warns(UserWarning, match="arrays in the columns flux"):
        assert load_folder(folder).catalog.columns.tolist() == ["id"]


def test_classes_of_a_folder_have_no_white_space_around_them(folder):
    table = table_of().assign(**{"class": ["STAR  ", "STAR", "-1"]})
    table.to_csv(folder / "catalog.tsv", index=False, sep="\t")
    survey = load_folder(folder, label="class")
    assert survey.target.tolist() == ["STAR", "STAR", None]
    assert survey.target_names == ["STAR"]


def test_a_table_of_a_file_and_a_table_in_memory_are_catalogues(folder):
    table = Table({"NUMBER": [4, 5, 6]})
    hdus = [fits.PrimaryHDU(), fits.table_to_hdu(table), fits.table_to_hdu(table)]
    fits.HDUList(hdus).writeto(folder / "c.fits")
    for catalog in (f"{folder}/c.fits[2]", table):
        assert load_survey(folder / "stamps.npy", catalog).ids.tolist() == [4, 5, 6]
    with pytest.raises(ValueError, match=r"several tables, 1 of 3 rows, 2 of 3 rows: choose one"):
        load_survey(folder / "stamps.npy", folder / "c.fits")


def test_files_with_leading_zeros_find_their_rows_with_a_warning(tmp_path):
    for number in (98, 7):
        np.save(tmp_path / f"{number:05d}.npy", np.full((1, 8, 8), number, np.float32))
    table = pd.DataFrame({"GalaxyID": [7, 98], "mag": [20.5, 21.5]})
    with pytest.warns(UserWarning, match=r"leading zeros \(2, such as '00007' and '7'\)"):
        survey = load_survey(tmp_path, table)
    assert np.asarray(survey.images)[:, 0, 0, 0].tolist() == survey.ids.tolist() == [7, 98]


def test_unequal_rows_name_both_counts_and_files(folder):
    write_catalog(table_of(4), folder / "catalog.csv")
    with pytest.raises(ValueError, match=r"catalog\.csv has 4 rows .*stamps\.npy has 3 stamps"):
        load_folder(folder)


@pytest.mark.parametrize(
    ("label", "end"),
    [("klass", "did you mean class"), ("morphology", "choose from .*mag_r, class")],
)
def test_an_unknown_label_names_similar_columns_or_all(folder, label, end):
    write_catalog(table_of(), folder / "catalog.csv")
    with pytest.raises(ValueError, match=f"label='{label}' is not a column.*{end}"):
        load_folder(folder, label=label)


def test_stamps_of_three_dimensions_are_refused(folder):
    write_catalog(table_of(), folder / "catalog.csv")
    np.save(folder / "stamps.npy", np.zeros((3, 8, 8)))
    with pytest.raises(
        ValueError, match=r"\(3, 8, 8\), but stamps are \(n, bands, height, width\).*axes=\"nhw\""
    ):
        load_folder(folder)
    assert load_folder(folder, axes="nhw").images.shape == (3, 1, 8, 8)


def test_incomplete_folders_say_what_belongs_in_them(folder):
    with pytest.raises(FileNotFoundError, match=r"is not a folder.*catalog\.csv, \.fits"):
        load_folder(folder / "nowhere")
    with pytest.raises(FileNotFoundError, match=r"has no catalogue: a data folder holds"):
        load_folder(folder)
    write_catalog(table_of(), folder / "catalog.csv")
    (folder / "stamps.npy").unlink()
    with pytest.raises(FileNotFoundError, match=r"has no stamps: a data folder holds"):
        load_folder(folder)


def test_two_catalogues_are_refused(folder):
    write_catalog(table_of(), folder / "catalog.csv")
    write_catalog(table_of(), folder / "catalog.fits")
    with pytest.raises(ValueError, match=r"catalog\.csv and catalog\.fits: keep one"):
        load_folder(folder)


def write_stamps(folder, frame, ending=".npy"):
    folder.mkdir(exist_ok=True)
    for number, name in enumerate(frame["id"]):
        stamp = np.full((2, 8, 8), number, np.float32)
        if ending == ".npy":
            np.save(folder / f"{name}.npy", stamp)
        else:
            fits.writeto(folder / f"{name}{ending}", stamp)


@pytest.mark.parametrize("where", ["", "stamps", "fits", "images"])
@pytest.mark.parametrize("ending", [".npy", ".fits.gz"])
def test_files_of_a_folder_find_their_rows(tmp_path, where, ending):
    frame = table_of(5)
    write_stamps(tmp_path / where, frame.iloc[[4, 1, 3]], ending)
    write_catalog(frame.iloc[::-1], tmp_path / "catalog.csv")
    data = load_folder(tmp_path, label="class")
    assert data.catalog["id"].tolist() == data.images.ids.tolist()
    assert np.asarray(data.images)[:, 0, 0, 0].tolist() == [1, 2, 0]
    assert data.catalog["spec_id"].tolist() == [1, 3, 4]
    assert data.join == "3 of 3 stamps matched by id; 2 catalogue rows are without a stamp."


def test_stamps_without_a_row_are_left_out_and_counted(tmp_path):
    frame = table_of(4)
    write_stamps(tmp_path / "s", frame)
    data = load_survey(tmp_path / "s", frame.iloc[[3, 0]].astype({"id": str}))
    assert np.asarray(data.images)[:, 0, 0, 0].tolist() == [0, 3]
    assert data.catalog["spec_id"].tolist() == [0, 3]
    assert data.join.startswith("2 of 4 stamps matched by id; 0 catalogue rows")
    with pytest.raises(ValueError, match="no stamp finds its catalogue row by id"):
        load_survey(tmp_path / "s", frame.assign(id=["a", "b", "c", "d"]))


def test_a_column_of_files_joins_before_the_ids(tmp_path):
    frame = table_of(3)
    write_stamps(tmp_path / "s", frame)
    frame["file"] = [f"s/{name}.npy" for name in frame["id"][::-1]]
    assert load_survey(tmp_path / "s", frame).catalog["spec_id"].tolist() == [2, 1, 0]
    frame["id"] = frame["id"].astype(str)
    assert load_survey(tmp_path / "s", frame, id="id").catalog["spec_id"].tolist() == [0, 1, 2]


@pytest.mark.parametrize(
    ("columns", "ids"),
    [
        ({"file_loc": ["/data/c.jpg", "/data/a.jpg", "x/y/b.fits"]}, [0, 1, 2]),
        ({"filename": ["c.npy", "a.npy", "b.npy"], "objid": [7, 8, 9]}, [7, 8, 9]),
        ({"file": ["frame1", "frame1", "frame2"], "id": ["c", "a", "b"]}, ["c", "a", "b"]),
        ({"path": ["1.fits", "2.fits", "3.fits"], "id": ["c", "a", "b"]}, ["c", "a", "b"]),
    ],
)
def test_files_are_joined_by_the_column_that_names_them(tmp_path, columns, ids):
    write_stamps(tmp_path, pd.DataFrame({"id": ["a", "b", "c"]}))
    survey = load_survey(tmp_path, pd.DataFrame({**columns, "n": [2, 0, 1]}))
    assert survey.catalog["n"].tolist() == [0, 1, 2]
    assert np.asarray(survey.images)[:, 0, 0, 0].tolist() == [0, 1, 2]
    if "id" in columns or "objid" in columns:
        assert survey.ids.tolist() == [ids[1], ids[2], ids[0]]


def write_classes(folder):
    """Write stamps of two classes, of which two have one name; each has its own value."""
    for number, name in enumerate(("spiral/1", "spiral/2", "elliptical/1", "elliptical/3")):
        path = folder / f"{name}.npy"
        path.parent.mkdir(parents=True, exist_ok=True)
        np.save(path, np.full((1, 8, 8), number, np.float32))


@pytest.mark.parametrize("where", ["", "images", "stamps"])
def test_subfolders_are_classes_without_a_catalogue(tmp_path, where):
    write_classes(tmp_path / where)
    for survey in (load_folder(tmp_path), load_survey(tmp_path / where)):
        assert survey.target.tolist() == ["elliptical", "elliptical", "spiral", "spiral"]
        assert survey.target_names == ["elliptical", "spiral"]
        assert survey.ids.tolist() == ["elliptical/1", "elliptical/3", "spiral/1", "spiral/2"]
        assert survey.catalog["class"].tolist() == survey.target.tolist()
        assert np.asarray(survey.images)[:, 0, 0, 0].tolist() == [2, 3, 0, 1]
        assert "2 folders (elliptical, spiral)" in survey.join


def test_subfolders_are_classes_beside_a_catalogue(tmp_path):
    write_classes(tmp_path)
    frame = pd.DataFrame(
        {
            "file_loc": ["/data/spiral/2.png", "/x/elliptical/1.png", "spiral/1.npy", "no/1.npy"],
            "mag_r": [1.0, 2.0, 0.0, 9.0],
            "class": ["a", "b", "c", "d"],
        }
    )
    frame.drop(columns="class").to_csv(tmp_path / "catalog.csv", index=False)
    survey = load_folder(tmp_path)
    assert survey.catalog["mag_r"].tolist() == [2, 0, 1]
    assert np.asarray(survey.images)[:, 0, 0, 0].tolist() == [2, 0, 1]
    assert survey.target.tolist() == ["elliptical", "spiral", "spiral"]
    assert survey.catalog["class"].tolist() == survey.target.tolist()

    # a column of classes stays what it is
    frame.to_csv(tmp_path / "catalog.csv", index=False)
    survey = load_folder(tmp_path)
    assert survey.target.tolist() == ["elliptical", "spiral", "spiral"]
    assert survey.catalog["folder"].tolist() == survey.target.tolist()
    assert load_folder(tmp_path, label="class").target.tolist() == ["b", "c", "a"]


def test_the_only_subfolder_with_stamps_holds_those_of_the_catalogue(tmp_path):
    frame = table_of(3)
    write_stamps(tmp_path / "cutouts", frame)
    write_catalog(frame, tmp_path / "catalog.csv")
    survey = load_folder(tmp_path)
    assert (survey.target, len(survey.images)) == (None, 3)


def test_extensions_bands_axes_and_size_are_passed_on(tmp_path):
    frame = table_of(3)
    write_catalog(frame, tmp_path / "catalog.csv")
    for number, name in enumerate(frame["id"]):
        pixels = np.full((8, 9, 2), number, np.float32)
        extensions = [fits.ImageHDU(pixels + i, name=kind) for i, kind in enumerate(("SCI", "ERR"))]
        fits.HDUList([fits.PrimaryHDU(), *extensions]).writeto(tmp_path / f"{name}.fits")
    options = {"hdu": "ERR", "axes": "hwc", "bands": "gr", "size": 4}
    for survey in (
        load_folder(tmp_path, **options),
        load_survey(tmp_path, tmp_path / "catalog.csv", **options),
    ):
        assert (survey.images.shape, survey.bands) == ((3, 2, 4, 4), ("g", "r"))
        assert np.asarray(survey.images)[:, 0, 0, 0].tolist() == [1, 2, 3]


def test_stacks_of_every_kind_are_found(folder):
    pytest.importorskip("zarr")
    write_catalog(table_of(), folder / "catalog.csv")
    expected = np.load(folder / "stamps.npy")
    open_stamps(folder / "stamps.npy").save(folder / "stamps.zarr")
    (folder / "stamps.npy").unlink()
    np.testing.assert_array_equal(load_folder(folder).images, expected)


def test_mosaics_are_cut_for_the_rows_that_lie_on_them(tmp_path):
    pixels = np.arange(2500, dtype=np.float32).reshape(50, 50)
    wcs = WCS(naxis=2)
    wcs.wcs.ctype, wcs.wcs.crval = ["RA---TAN", "DEC--TAN"], [10, 0]
    wcs.wcs.crpix, wcs.wcs.cdelt = [25.5, 25.5], [-1e-4, 1e-4]
    fits.writeto(tmp_path / "r.fits", pixels, wcs.to_header())
    frame = table_of(3).assign(ra=[10.0, 50.0, 10.0005], dec=0.0)
    with pytest.warns(UserWarning, match="1 of 3 objects"):
        data = load_survey({"r": tmp_path / "r.fits"}, frame, size=8)
    assert data.catalog["spec_id"].tolist() == [0, 2]
    assert data.images.shape == (2, 1, 8, 8)
    assert data.join == "2 of 3 catalogue rows lie on the mosaics."
    with pytest.raises(ValueError, match="size is missing"):
        load_survey({"r": tmp_path / "r.fits"}, frame)
    with pytest.raises(ValueError, match=r"mosaics have no axes to name"):
        load_survey({"r": tmp_path / "r.fits"}, frame, size=8, axes="hw")
    with pytest.raises(ValueError, match=r"mosaics need a catalog"):
        load_survey({"r": tmp_path / "r.fits"}, size=8)


def test_sdss_folder_keeps_its_ids():
    data = load_folder(find_data("sdss"), label="class")
    assert data.images.shape == (3066, 5, 32, 32)
    assert data.images.dtype == np.float16
    assert data.catalog["id"].map(len).max() >= 19
    assert data.catalog["id"].is_unique
    assert {"extended", "unknown"} <= set(data.target_names)


def test_efigi_folder_reads_colour_images():
    data = load_folder(find_data("efigi"), label="class")
    assert data.images.shape == (3113, 3, 88, 88)
    assert data.images.dtype == np.uint8
    assert data.catalog["sdss_objid"].dropna().map(type).eq(str).all()
    assert data.catalog["redshift"].isna().any()


def test_real_files_are_joined_with_the_whole_catalogue():
    folder = find_data("sdss")
    data = load_survey(folder / "fits", folder / "catalog.csv")
    assert data.join == "60 of 60 stamps matched by id; 3,006 catalogue rows are without a stamp."
    whole = load_folder(folder)
    rows = [whole.catalog["id"].tolist().index(name) for name in data.images.ids]
    np.testing.assert_array_equal(
        np.asarray(data.images), np.asarray(whole.images[rows]).astype(np.float32)
    )
    pd.testing.assert_frame_equal(
        data.catalog, whole.catalog.iloc[rows].reset_index(drop=True), check_dtype=False
    )


PIXELS = np.random.default_rng(0).normal(size=(6, 2, 8, 8)).astype(np.float32)
HUGGINGFACE = {
    "info": {"features": {"label": {"names": ["star", "galaxy"], "_type": "ClassLabel"}}}
}


def write_table(path, rows, **columns):
    """Write a table as HuggingFace does, with classes as numbers."""
    pa = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    path.parent.mkdir(parents=True, exist_ok=True)
    table = pa.table({"image": PIXELS[rows].tolist(), "label": np.array(rows) % 2, **columns})
    parquet.write_table(
        table.replace_schema_metadata({"huggingface": json.dumps(HUGGINGFACE)}), path
    )


@pytest.mark.parametrize("name", ["stamps.parquet", "any.parquet", "stamps.parquet/part-0.parquet"])
def test_a_table_of_stamps_is_a_folder_with_its_own_catalogue(tmp_path, name):
    write_table(tmp_path / name, range(6), objid=[10 * row for row in range(6)], ra=np.ones(6))
    survey = load_folder(tmp_path, label="label")
    np.testing.assert_allclose(np.asarray(survey.images), PIXELS)
    assert survey.catalog.columns.tolist() == ["label", "objid", "ra"]
    assert survey.target.tolist() == ["star", "galaxy"] * 3
    assert survey.ids.tolist() == [0, 10, 20, 30, 40, 50]
    survey, _ = read_data(images=str(tmp_path / name))
    assert len(survey.catalog.columns) == 3


def test_the_splits_of_huggingface_are_a_column(tmp_path):
    write_table(tmp_path / "data/train-00000-of-00002.parquet", range(3))
    write_table(tmp_path / "data/train-00001-of-00002.parquet", range(3, 5))
    write_table(tmp_path / "data/test-00000-of-00001.parquet", [5])
    survey = load_folder(tmp_path)
    assert survey.catalog["split"].tolist() == ["test"] + ["train"] * 5
    np.testing.assert_allclose(np.asarray(survey.images), PIXELS[[5, 0, 1, 2, 3, 4]])


def test_a_table_of_stamps_is_joined_with_another_catalogue_by_ids_or_rows(tmp_path):
    write_table(tmp_path / "stamps.parquet", range(6), objid=[f"a{row}" for row in range(6)])
    table = pd.DataFrame({"id": ["a4", "b", "a1"], "mag": [4.0, 0.0, 1.0]})
    table.to_csv(tmp_path / "catalog.csv", index=False)
    survey = load_folder(tmp_path)
    np.testing.assert_allclose(np.asarray(survey.images), PIXELS[[1, 4]])
    assert survey.catalog["mag"].tolist() == [1, 4]
    assert len(load_survey(tmp_path / "stamps.parquet", pd.DataFrame({"mag": np.ones(6)}))) == 6
    with pytest.raises(ValueError, match=r"has 5 rows and .* has 6 stamps"):
        load_survey(tmp_path / "stamps.parquet", pd.DataFrame({"mag": np.ones(5)}))
    with pytest.raises(ValueError, match="no stamp finds its catalogue row by id"):
        load_survey(tmp_path / "stamps.parquet", pd.DataFrame({"id": [1, 2, 3, 4, 5, 6]}))


def test_stamps_without_columns_need_a_catalogue(tmp_path):
    np.savez(tmp_path / "stamps.npz", images=PIXELS)
    with pytest.raises(FileNotFoundError, match="has no catalogue"):
        load_folder(tmp_path)
    assert len(load_survey(tmp_path / "stamps.npz")) == 6


def test_a_data_set_of_pyarrow_has_its_own_catalogue():
    pa = pytest.importorskip("pyarrow")
    columns = {"image": PIXELS.tolist(), "label": np.arange(6) % 2, "objid": np.arange(6) * 10**17}
    table = pa.table(columns).replace_schema_metadata({"huggingface": json.dumps(HUGGINGFACE)})
    survey = load_survey(table, bands="gr")
    np.testing.assert_array_equal(np.asarray(survey.images, np.float32), PIXELS)
    assert survey.bands == ("g", "r")
    assert survey.catalog.columns.tolist() == ["label", "objid"]
    assert survey.catalog["label"].tolist() == ["star", "galaxy"] * 3
    assert survey.ids.tolist() == ["0", *(str(row * 10**17) for row in range(1, 6))]
    assert load_survey(table.select(["image"])).ids.tolist() == list(range(6))

    # another catalogue, joined by ids or rows
    other = pd.DataFrame({"id": [4 * 10**17, 7, 10**17], "mag": [4.0, 0.0, 1.0]})
    joined = load_survey(table, other)
    assert joined.catalog["mag"].tolist() == [1, 4]
    np.testing.assert_array_equal(np.asarray(joined.images, np.float32), PIXELS[[1, 4]])
    with pytest.raises(ValueError, match="catalogue has 5 rows and the data set has 6 stamps"):
        load_survey(table, pd.DataFrame({"mag": np.ones(5)}))


def test_a_data_set_that_lacks_bands_has_nan():
    pa = pytest.importorskip("pyarrow")
    table = pa.table({"g": [*PIXELS[:5, 0].tolist(), None], "r": PIXELS[:, 1].tolist()})
    with pytest.raises(ValueError, match=r"row 5, column g is empty"):
        np.asarray(load_survey(table).images)
    with pytest.warns(UserWarning, match=r"the data set: 1 of 6 objects lack a band \(g 1\)"):
        survey = load_survey(table, missing_bands="nan")
    expected = PIXELS.copy()
    expected[5, 0] = np.nan
    np.testing.assert_array_equal(np.asarray(survey.images, np.float32), expected)


def test_a_data_set_of_huggingface_is_a_survey():
    datasets = pytest.importorskip("datasets")
    kinds = {
        "image": datasets.Array3D((2, 8, 8), "float32"),
        "label": datasets.ClassLabel(names=["star", "galaxy"]),
    }
    content = {"image": list(PIXELS), "label": [0, 1] * 3}
    data = datasets.Dataset.from_dict(content, features=datasets.Features(kinds))
    survey = load_survey(data.select([4, 1]))
    np.testing.assert_array_equal(np.asarray(survey.images), PIXELS[[4, 1]])
    assert survey.catalog["label"].tolist() == ["star", "galaxy"]
    with pytest.raises(ValueError, match=r"such as images\['train'\]"):
        load_survey(datasets.DatasetDict({"train": data}))
    with pytest.raises(ValueError, match="IterableDataset, whose rows cannot be chosen"):
        load_survey(data.to_iterable_dataset())


@pytest.mark.parametrize("name", ["catalog.csv.gz", "catalog.tsv", "catalog.tsv.gz"])
def test_packed_catalogues_and_those_with_tabs_are_found(folder, name):
    separator = "\t" if ".tsv" in name else ","
    table_of().to_csv(folder / name, index=False, sep=separator)
    assert load_folder(folder, label="class").target.tolist() == ["star", "galaxy", "star"]
