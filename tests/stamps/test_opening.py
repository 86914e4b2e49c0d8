"""Folders, lists and patterns of files: which files are stamps, and what they are called."""

import numpy as np
import pytest
from astropy.io import fits

from skastro import open_stamps
from skastro.stamps.opening import list_class_folders


def write(path, value):
    path.parent.mkdir(parents=True, exist_ok=True)
    np.save(path, np.full((1, 4, 4), value, np.float32))


def values(stamps):
    return np.asarray(stamps)[:, :, 0, 0].tolist()


def test_folders_of_classes_are_opened_with_ids_that_occur_once(tmp_path):
    for number, name in enumerate(("spiral/1", "spiral/2", "elliptical/1")):
        write(tmp_path / f"{name}.npy", number)
    stamps = open_stamps(tmp_path)
    assert stamps.ids.tolist() == ["elliptical/1", "spiral/1", "spiral/2"]
    assert values(stamps) == [[2], [0], [1]]
    (tmp_path / "elliptical/1.npy").rename(tmp_path / "elliptical/3.npy")
    assert open_stamps(tmp_path).ids.tolist() == ["3", "1", "2"]


def test_hidden_folders_and_folders_without_stamps_are_no_classes(tmp_path):
    for name in ("a/1", "b/1", ".trash/1", "stamps/1"):
        write(tmp_path / f"{name}.npy", 0)
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "read.txt").write_text("hello")
    assert list(list_class_folders(tmp_path)) == ["a", "b"]
    write(tmp_path / "0.npy", 0)  # files beside the folders are the stamps
    assert list_class_folders(tmp_path) == {}
    assert open_stamps(tmp_path).ids.tolist() == ["0"]


def test_folders_of_bands_are_not_taken_for_classes(tmp_path):
    for band, value in (("g", 0), ("r", 10)):
        for number in range(3):
            write(tmp_path / band / f"{number}.npy", value + number)
    with pytest.raises(
        ValueError, match=r"if these are bands, open \".*{band}/{id}.npy\" with bands"
    ):
        open_stamps(tmp_path)
    stamps = open_stamps(tmp_path / "{band}" / "{id}.npy", bands="rg")
    assert (stamps.bands, stamps.ids.tolist()) == (("r", "g"), ["0", "1", "2"])
    assert values(stamps) == [[10, 0], [11, 1], [12, 2]]


@pytest.mark.parametrize(
    "pattern", ["{id}/{band}.npy", "{id}/{id}_{band}.npy", "x/{id}-{band}.npy"]
)
def test_patterns_may_have_the_id_in_a_folder(tmp_path, pattern):
    for number, name in enumerate(("a", "b")):
        for band in "gr":
            path = pattern.replace("{id}", name).replace("{band}", band)
            write(tmp_path / path, number + 10 * (band == "r"))
    stamps = open_stamps(tmp_path / pattern, bands="gr")
    assert (stamps.ids.tolist(), values(stamps)) == (["a", "b"], [[0, 10], [1, 11]])


def test_a_pattern_of_the_shell_opens_the_files_that_match(tmp_path):
    for number, name in enumerate(("b", "a", "c-mask")):
        write(tmp_path / f"x/{name}.npy", number)
    stamps = open_stamps(tmp_path / "*/?.npy")
    assert stamps.ids.tolist() == ["a", "b"]
    assert values(stamps) == [[1], [0]]
    with pytest.raises(FileNotFoundError, match=r"\*\.png matches no file: correct the pattern"):
        open_stamps(f"{tmp_path}/x/*.png")


def test_patterns_need_the_band(tmp_path):
    with pytest.raises(ValueError, match=r"needs {id} and {band}: write both"):
        open_stamps(tmp_path / "{id}.npy")


def test_files_of_one_name_in_a_list_have_different_ids(tmp_path):
    for name in ("a/1", "b/1"):
        write(tmp_path / f"{name}.npy", 0)
    paths = [tmp_path / "b/1.npy", tmp_path / "a/1.npy"]
    assert open_stamps(paths).ids.tolist() == ["b/1", "a/1"]


def test_folders_of_two_kinds_of_files_are_refused(tmp_path):
    write(tmp_path / "a/1.npy", 0)
    (tmp_path / "b").mkdir()
    (tmp_path / "b/1.png").write_bytes(b"")
    with pytest.raises(ValueError, match=r"has 1 \.npy and 1 \.png files"):
        open_stamps(tmp_path)


def test_two_files_of_one_object_are_refused(tmp_path):
    for name in ("7.fits", "7.fits.gz", "8.fits"):
        fits.writeto(tmp_path / name, np.zeros((4, 4)))
    with pytest.raises(ValueError, match=r"has 7\.fits and 7\.fits\.gz, .* one object twice"):
        open_stamps(tmp_path)
    assert len(open_stamps([tmp_path / "7.fits", tmp_path / "8.fits"])) == 2


def test_a_folder_that_is_missing_is_said_to_be_missing(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"cutouts does not exist: correct the path"):
        open_stamps(tmp_path / "cutouts")


def test_bands_that_objects_lack_are_nan_and_counted_if_asked(tmp_path):
    for number, name in enumerate(("a_g", "b_g", "b_r", "c_g")):
        write(tmp_path / f"{name}.npy", number)
    with pytest.raises(ValueError, match=r"lacks band 'r' of 2 objects .*missing_bands=\"nan\""):
        open_stamps(tmp_path / "{id}_{band}.npy", bands="gr")
    with pytest.warns(UserWarning, match=r"2 of 3 objects lack a band \(r 2\), whose pixels are"):
        stamps = open_stamps(tmp_path / "{id}_{band}.npy", bands="gr", missing_bands="nan")
    np.testing.assert_array_equal(values(stamps), [[0, np.nan], [1, 2], [3, np.nan]])
    with pytest.raises(ValueError, match=r"missing_bands='zero' must be"):
        open_stamps(tmp_path, missing_bands="zero")


def test_integers_become_floats_if_a_band_is_missing(tmp_path):
    for name in ("a_g", "b_g", "b_r"):
        np.save(tmp_path / f"{name}.npy", np.ones((4, 4), np.int16))
    with pytest.warns(UserWarning, match="lack a band"):
        stamps = open_stamps(tmp_path / "{id}_{band}.npy", bands="gr", missing_bands="nan")
    np.testing.assert_array_equal(values(stamps), [[1, np.nan], [1, 1]])
