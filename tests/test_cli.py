from __future__ import annotations

import subprocess
import sys

import numpy as np
import pandas as pd
import pytest

from skastro import __version__, cli
from skastro import study as study_module
from skastro.study import QUICK, Plan

TINY = Plan(
    **{**vars(QUICK), "label_counts": (8, 24), "n_repeats": 2, "max_epochs": 1, "steps": 2}
)  # fmt: skip
OPTIONS = ["--label", "class", "--properties", "mag_*", "--errors", "err_*", "--quick"]


@pytest.fixture
def folder(survey, tmp_path):
    stamps, labels, properties = survey
    folder = tmp_path / "data"
    folder.mkdir()
    table = properties.assign(err_u=0.1)
    table["class"] = labels
    table.loc[3, "mag_u"] = -9999
    table.to_csv(folder / "catalog.csv", index=False)
    np.save(folder / "stamps.npy", stamps)
    return folder


@pytest.fixture(autouse=True)
def _tiny_study(monkeypatch):
    monkeypatch.setattr(study_module, "_IMAGENET_PACKAGE", "no_such_package")
    monkeypatch.setattr(study_module, "QUICK", TINY)


def run(*arguments):
    with pytest.raises(SystemExit) as stop:
        cli.main([str(argument) for argument in arguments])
    return stop.value.code


def test_a_study_prints_scores_savings_and_notes(folder, tmp_path, capsys):
    assert run("study", folder, *OPTIONS, "--out", tmp_path / "out") == 0
    printed = capsys.readouterr()
    for text in ("self-supervised", "scratch", "catalogue", "aperture", "With 24 labels", "±"):
        assert text in printed.out
    assert "Warning: Sentinels such as -999 in" in printed.out
    assert "2 steps only" in printed.out
    assert printed.err == ""
    assert (tmp_path / "out" / "index.html").is_file()
    assert "--label class" in (tmp_path / "out" / "config.json").read_text()


def test_quiet_prints_nothing(folder, tmp_path, capsys):
    assert run("study", folder, *OPTIONS, "--quiet", "--out", tmp_path / "out") == 0
    assert capsys.readouterr() == ("", "")
    assert (tmp_path / "out" / "scores.csv").is_file()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["{folder}/nothing", "--label", "class"], "is not a folder"),
        (["{folder}"], "--label"),
        (["{folder}", "--label", "class", "--properties", "*"], "label column 'class'"),
        (["{folder}", "--label", "class", "--properties", "magg_*"], "did you mean mag_"),
        (["{folder}", "--label", "class", "--label-counts", "30,many"], "whole numbers"),
        (["{folder}", "--label", "class", "--label-counts", "0"], "whole numbers"),
        (["{folder}", "--label", "class", "--backbone", "resnet_99"], "'resnet_99' is unknown"),
        (["{folder}", "--no-such-option"], "--no-such-option"),
    ],
)
def test_errors_are_one_line_and_leave_nothing(folder, tmp_path, capsys, arguments, words):
    arguments = [argument.format(folder=folder) for argument in arguments]
    assert run("study", *arguments, "--out", tmp_path / "out") == 1
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    assert lines[0].startswith("Error: ")
    assert words in lines[0]
    assert [path.name for path in tmp_path.iterdir()] == ["data"]


def test_a_folder_with_other_files_is_refused_before_anything_is_read(folder, capsys):
    assert run("study", "/nothing", "--label", "class", "--out", folder) == 1
    assert "--overwrite" in capsys.readouterr().err


def test_debug_shows_the_traceback(folder):
    with pytest.raises(ValueError, match="label is missing"):
        cli.main(["study", str(folder), "--debug"])


def test_an_interruption_is_no_success(monkeypatch, folder, tmp_path, capsys):
    def interrupt(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(study_module, "run_study", interrupt)
    assert run("study", folder, *OPTIONS, "--out", tmp_path / "out") == 130
    assert "interrupted" in capsys.readouterr().err


def test_options_reach_the_study(monkeypatch, folder, tmp_path):
    seen = {}

    def record(data, out, **options):
        seen.update(options, data=data, out=out)
        raise ValueError("enough")

    monkeypatch.setattr(study_module, "run_study", record)
    options = ["--epochs", 5, "--repeats", 4, "--label-counts", "10,20", "--seed", 3]
    columns = ["--label", "class", "--properties", "mag_u,size"]
    assert run("study", folder, *options, *columns, "--out", tmp_path / "out") == 1
    plan = seen["plan"]
    assert (plan.max_epochs, plan.n_repeats, plan.label_counts) == (5, 4, (10, 20))
    assert plan.backbone == study_module.FULL.backbone
    assert seen["random_state"] == 3
    assert seen["data"].properties.columns.tolist() == ["mag_u", "size"]


def test_bars_are_filled_and_notes_said_once(capsys):
    with cli._talking(quiet=False) as terminal:
        terminal.progress("pretraining", 1, 4)
        terminal.progress("embedding", 1, 2)
        terminal.say("a [red] note\nof two lines")
        terminal.say("a [red] note of two lines")
        assert [task.finished for task in terminal.bars.tasks] == [True, False]
    assert capsys.readouterr().out == "a [red] note of two lines\n"


def test_version_and_help_are_printed(capsys):
    assert run("--version") == 0
    assert capsys.readouterr().out.strip() == f"skastro {__version__}"
    assert run() == 0
    assert "study" in capsys.readouterr().out


def test_help_needs_no_torch():
    code = (
        "import sys\n"
        "from skastro.cli import main\n"
        "try:\n    main(['study', '--help'])\n"
        "except SystemExit as stop:\n    assert stop.code == 0\n"
        "assert 'torch' not in sys.modules and 'sklearn' not in sys.modules\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)  # noqa: S603
    assert done.returncode == 0, done.stderr
    assert "--label-counts" in done.stdout


def test_the_catalogue_of_a_survey_needs_no_options(monkeypatch, survey, tmp_path):
    stamps, labels, properties = survey
    catalog = pd.concat([properties, pd.DataFrame({"class": labels, "err_g": 0.1})], axis=1)
    monkeypatch.setattr(
        "skastro.study_data.make_survey",
        lambda *_, **__: type("Survey", (), {"images": stamps, "catalog": catalog}),
    )
    assert run("study", "--quick", "--quiet", "--out", tmp_path / "out") == 0
    assert "simulated survey" in (tmp_path / "out" / "config.json").read_text()


def test_check_prints_what_it_finds(tmp_path, capsys):
    rng = np.random.default_rng(0)
    np.save(tmp_path / "stamps.npy", rng.normal(size=(40, 2, 8, 8)).astype(np.float32))
    catalog = pd.DataFrame({"id": np.arange(40), "class": ["a", "b"] * 20, "mag_r": 20.5})
    catalog.to_csv(tmp_path / "catalog.csv", index=False)
    with pytest.raises(SystemExit) as exit_:
        cli.main(["check", str(tmp_path), "--label", "class", "--properties", "mag_*"])
    assert exit_.value.code == 0
    out = capsys.readouterr().out
    for text in ("40 stamps of 2 bands", "Classes: a 20, b 20", "! property mag_r: is constant"):
        assert text in out
    with pytest.raises(SystemExit) as exit_:
        cli.main(["check", str(tmp_path), "--label", "klass"])
    assert exit_.value.code == 1
    assert capsys.readouterr().err.startswith("Error: 'klass' is no column")


def test_a_simulated_survey_goes_from_mosaics_to_a_look(tmp_path, capsys):
    pytest.importorskip("galsim")
    out = tmp_path / "survey"
    arguments = ["simulate", "--out", str(out), "--objects", "30", "--bands", "gr", "--size", "16"]
    with pytest.raises(SystemExit) as exit_:
        cli.main([*arguments, "--mosaic"])
    assert exit_.value.code == 0
    assert "30 objects in" in capsys.readouterr().out
    with pytest.raises(SystemExit) as exit_:
        cli.main([*arguments])
    assert exit_.value.code == 1
    assert capsys.readouterr().err.startswith("Error: ")
    images = [f"--images={band}={out}/mosaic/mosaic_{band}_*.fits" for band in "gr"]
    catalog = f"--catalog={out}/mosaic/catalog.fits"
    with pytest.raises(SystemExit) as exit_:
        cli.main(["check", catalog, *images, "--size=16", "--label=class"])
    assert exit_.value.code == 0
    found = capsys.readouterr().out
    assert "30 of 30 catalogue rows lie on the mosaics." in found
    assert "30 stamps of 2 bands (g/r), 16 x 16 pixels, float32" in found


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["check", "--images=a.npy"], "catalog is missing: pass both"),
        (["check", "--catalog=c.csv", "--images=a", "--images=b"], "images='a' must be band=path"),
        (["check", "--catalog=c.csv", "--images=g=x_*.fits"], "matches no file"),
        (["check", "folder", "--catalog=c.csv"], "pass a folder, or a catalog and images"),
        (["fetch", "--hips=g"], "'g' must be band=name"),
    ],
)
def test_wrong_inputs_are_one_line(arguments, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as exit_:
        cli.main(arguments)
    assert exit_.value.code == 1
    told = capsys.readouterr().err
    assert message in told
    assert len(told.splitlines()) == 1
