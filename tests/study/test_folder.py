from dataclasses import replace

import numpy as np
import pytest

from skastro.study.folder import Unfinished, check_out, describe_job, replace_folder
from tests.study.conftest import PLAN, read


@pytest.mark.parametrize("change", ["seed", "plan", "labels", "errors", "pixels"])
def test_steps_of_another_study_are_deleted(folder, tmp_path, change):
    data, plan, messages = read(folder), PLAN, []
    Unfinished(tmp_path / "done", describe_job(data, plan, 0), messages.append).cells[
        (0, "probe", 8, 0)
    ] = {"accuracy": 0.5}, 1.0
    same = Unfinished(tmp_path / "done", describe_job(read(folder), plan, 0), messages.append)
    assert (same.resumed, dict(same.cells)) == (True, {(0, "probe", 8, 0): ({"accuracy": 0.5}, 1)})
    if change == "plan":
        plan = replace(plan, steps=3)
    elif change == "pixels":
        data = replace(data, images=np.asarray(data.images) + 1)
    elif change != "seed":
        other = getattr(data, change).copy()
        other[0] = 0.5 if change == "errors" else "star"
        data = replace(data, **{change: other})
    job = describe_job(data, plan, int(change == "seed"))
    other = Unfinished(tmp_path / "done", job, messages.append)
    assert (other.resumed, dict(other.cells)) == (False, {})
    assert "they are not repeated" in messages[0]
    assert "steps of another study: they are deleted" in messages[1]


def replace_with(out, *, overwrite=False):
    with replace_folder(out, overwrite=overwrite) as temporary:
        (temporary / "scores.csv").write_text("new")
        (temporary / "config.json").write_text('{"versions": {"skastro": "1"}}')


def test_an_earlier_study_is_replaced_as_a_whole(tmp_path):
    out = tmp_path / "out"
    replace_with(out)
    (out / "clusters.csv").write_text("old")
    replace_with(out)
    assert sorted(path.name for path in out.iterdir()) == ["config.json", "scores.csv"]
    assert list(tmp_path.iterdir()) == [out]


def test_foreign_files_are_refused_and_stay_when_overwriting(tmp_path):
    (tmp_path / "thesis.tex").write_text("mine")
    with pytest.raises(ValueError, match=r"thesis\.tex.*--overwrite"):
        check_out(tmp_path)
    replace_with(tmp_path, overwrite=True)
    assert (tmp_path / "thesis.tex").read_text() == "mine"
    assert (tmp_path / "scores.csv").read_text() == "new"


def test_a_folder_with_another_program_s_scores_is_refused(tmp_path):
    (tmp_path / "scores.csv").write_text("mine")
    with pytest.raises(ValueError, match=r"scores\.csv"):
        check_out(tmp_path)


def test_a_file_is_not_accepted_as_the_folder(tmp_path):
    (tmp_path / "out").write_text("")
    with pytest.raises(ValueError, match="is a file"):
        check_out(tmp_path / "out")
