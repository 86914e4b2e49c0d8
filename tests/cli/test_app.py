from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from astropy.io import fits
from astropy.wcs import WCS

from skastro import __version__, load_survey
from skastro.cli.app import main
from skastro.cli.terminal import end, talking
from skastro.study import baselines, run as study_module
from skastro.study.run import QUICK, Plan
from skastro.surveys import sdss
from skastro.surveys.survey import Survey

pytestmark = pytest.mark.usefixtures("quick_probe", "quick_umap")

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
    monkeypatch.setattr(baselines, "_IMAGENET_PACKAGE", "no_such_package")
    monkeypatch.setattr(study_module, "QUICK", TINY)


def run(*arguments):
    with pytest.raises(SystemExit) as stop:
        main([str(argument) for argument in arguments])
    return stop.value.code


def test_a_study_prints_scores_savings_and_notes(folder, tmp_path, capsys):
    assert run("study", folder, *OPTIONS, "--out", tmp_path / "out") == 0
    printed = capsys.readouterr()
    for text in ("self-supervised", "scratch", "catalogue", "aperture", "With 24 labels", "±"):
        assert text in printed.out
    assert "Warning: Sentinels such as -999 in" in printed.out
    assert "2 steps only" in printed.out
    assert printed.err == ""
    page = (tmp_path / "out" / "index.html").read_text(encoding="utf-8")
    assert "2 draws of the labels. Of these draws, scratch learned from the first only." in page
    assert "--label class" in (tmp_path / "out" / "config.json").read_text()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["{folder}/nothing", "--label", "class"], "is not a folder"),
        (["{folder}"], "--label"),
        (["{folder}", "--label", "class", "--properties", "*"], "label column 'class'"),
        (["{folder}", "--label", "class", "--properties", "magg_*"], "did you mean mag_"),
        (["{folder}", "--label", "class", "--label-counts", "30,many"], "whole numbers"),
        (["{folder}", "--label", "class", "--label-counts", "30,-1"], "whole numbers"),
        (["{folder}", "--label", "class", "--label-counts", "0"], "has no count of at least 2"),
        (["{folder}", "--label", "class", "--pretrained", "moon"], "must be auto, none"),
        (["{folder}", "--label", "class", "--backbone", "resnet_99"], "'resnet_99' is unknown"),
        (["{folder}", "--label", "class", "--device", "gpu"], "device='gpu' is not there"),
        (["{folder}", "--label", "klass"], "did you mean class"),
        (["{folder}", "--no-such-option"], "--no-such-option"),
    ],
)
def test_errors_are_one_line_and_leave_nothing(folder, tmp_path, capsys, arguments, words):
    arguments = [argument.format(folder=folder) for argument in arguments]
    assert run("study", *arguments, "--out", tmp_path / "out") == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    assert lines[0].startswith("Error: ")
    assert words in lines[0]
    assert [path.name for path in tmp_path.iterdir()] == ["data"]


def test_a_folder_with_other_files_is_refused_before_anything_is_read(folder, capsys):
    assert run("study", "/nothing", "--label", "class", "--out", folder) == 2
    assert "--overwrite" in capsys.readouterr().err


def test_debug_shows_the_traceback(folder):
    with pytest.raises(ValueError, match="label is missing"):
        main(["study", str(folder), "--debug"])


def test_an_interruption_has_an_exit_code_of_its_own(monkeypatch, folder, tmp_path, capsys):
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
    options = ["--epochs", 5, "--repeats", 4, "--label-counts", "0,10,20", "--seed", 3]
    options += ["--pretrained", "none"]
    columns = ["--label", "class", "--properties", "mag_u,size"]
    assert run("study", folder, *options, *columns, "--out", tmp_path / "out") == 2
    plan = seen["plan"]
    assert (plan.max_epochs, plan.n_repeats, plan.label_counts) == (5, 4, (0, 10, 20))
    assert plan.pretrained == "none"
    assert plan.backbone == study_module.FULL.backbone
    assert seen["random_state"] == 3
    assert seen["data"].properties.columns.tolist() == ["mag_u", "size"]


def test_bars_are_filled_and_messages_printed_once(capsys):
    with talking() as terminal:
        terminal.bars.disable = False  # as in a terminal
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
        "from skastro.cli.app import main\n"
        "try:\n    main(['study', '--help'])\n"
        "except SystemExit as stop:\n    assert stop.code == 0\n"
        "assert 'torch' not in sys.modules and 'sklearn' not in sys.modules\n"
    )
    result = subprocess.run(  # noqa: S603 - our own interpreter and code
        [sys.executable, "-c", code], capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr
    assert "--label-counts" in result.stdout


def test_a_simulated_survey_needs_no_options_and_quiet_prints_nothing(
    monkeypatch, survey, tmp_path, capsys
):
    stamps, labels, properties = survey
    catalog = pd.concat([properties, pd.DataFrame({"class": labels, "err_g": 0.1})], axis=1)
    monkeypatch.setattr("skastro.study.data.make_survey", lambda *_, **__: Survey(stamps, catalog))
    assert run("study", "--quick", "--quiet", "--out", tmp_path / "out") == 0
    assert capsys.readouterr() == ("", "")
    assert "simulated survey" in (tmp_path / "out" / "config.json").read_text()
    assert (tmp_path / "out" / "scores.csv").is_file()


def test_check_prints_stamps_classes_and_problems(tmp_path, capsys):
    rng = np.random.default_rng(0)
    np.save(tmp_path / "stamps.npy", rng.normal(size=(40, 2, 8, 8)).astype(np.float32))
    catalog = pd.DataFrame({"id": np.arange(40), "class": ["a", "b"] * 20, "mag_r": 20.5})
    catalog.to_csv(tmp_path / "catalog.csv", index=False)
    assert run("check", tmp_path, "--label", "class", "--properties", "mag_*") == 0
    out = capsys.readouterr().out
    for text in ("40 stamps of 2 bands", "Classes: a 20, b 20", "! property mag_r: is constant"):
        assert text in out
    assert run("check", tmp_path, "--label", "klass") == 2
    assert capsys.readouterr().err.startswith("Error: 'klass' is not a column")


@pytest.mark.parametrize("option", ["", "--json", "--quiet"])
def test_check_lists_damaged_files_after_a_whole_report(tmp_path, capsys, option):
    rng = np.random.default_rng(0)
    for row in range(12):
        fits.writeto(tmp_path / f"obj{row}.fits", rng.normal(size=(2, 8, 8)).astype(np.float32))
    for row in (0, 3, 7):
        (tmp_path / f"obj{row}.fits").write_bytes(b"<html>503 Service Unavailable</html>")
    catalog = pd.DataFrame({"id": [f"obj{row}" for row in range(12)], "class": ["a", "b"] * 6})
    catalog.to_csv(tmp_path / "catalog.csv", index=False)
    assert run("check", tmp_path, "--label", "class", *[option] * bool(option)) == 2
    out, err = capsys.readouterr()
    for text in ("3 stamps cannot be read", "obj0.fits", "obj3.fits", "obj7.fits"):
        assert text in (err if option == "--quiet" else " ".join(out.split()))
    if option == "--json":
        result = json.loads(out.splitlines()[-1])
        assert len(result["unreadable"]) == 3
        assert result["stamps"]["n_read"] == 9
    elif not option:
        assert "Classes: a 6, b 6" in out


def write_mosaic(path, kind):
    """Write a mosaic, and return its catalogue of two objects."""
    pixels = np.random.default_rng(0).integers(0, 60000, (200, 200)).astype(np.uint16)
    names = ("GLON-TAN", "GLAT-TAN") if kind == "galactic" else ("RA---TAN", "DEC--TAN")
    header = fits.Header()
    for axis, name, value, step in ((1, names[0], 30, -0.001), (2, names[1], 5, 0.001)):
        header.update({f"CTYPE{axis}": name, f"CRVAL{axis}": value, f"CDELT{axis}": step})
        header[f"CRPIX{axis}"] = 100
    if kind == "companions":
        extensions = [("SCI", pixels), ("ERR", pixels * 0), ("DQ", pixels * 0)]
        images = [fits.ImageHDU(data, header, name) for name, data in extensions]
    elif kind == "tile-compressed":
        images = [fits.CompImageHDU(pixels, header)]
    else:
        images = [fits.ImageHDU(pixels[None, None] if kind == "four axes" else pixels, header)]
    fits.HDUList([fits.PrimaryHDU(), *images]).writeto(path)
    sky = WCS(header).celestial.pixel_to_world([50.2, 120.1], [60.3, 90.4]).icrs
    table = pd.DataFrame({"id": [1, 2], "ra": sky.ra.deg, "dec": sky.dec.deg})
    return table, np.array([pixels[56:65, 46:55], pixels[86:95, 116:125]])


@pytest.mark.parametrize(
    "kind", ["plain", "galactic", "companions", "four axes", "tile-compressed"]
)
def test_mosaics_of_all_kinds_are_read(tmp_path, capsys, kind):
    table, expected = write_mosaic(tmp_path / "m.fits", kind)
    table.to_csv(tmp_path / "c.csv", index=False)
    options = ["--catalog", tmp_path / "c.csv", "--images", f"r={tmp_path / 'm.fits'}"]
    assert run("check", *options, "--size", 9, "--json") == 0
    result = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert (result["stamps"]["n_read"], result["problems"]) == (2, [])
    survey = load_survey({"r": tmp_path / "m.fits"}, tmp_path / "c.csv", size=9)
    np.testing.assert_array_equal(np.asarray(survey.images)[:, 0], expected)


def test_mosaics_of_a_simulated_survey_can_be_checked(tmp_path, capsys):
    pytest.importorskip("galsim")
    out = tmp_path / "survey"
    arguments = ["simulate", "--out", out, "--objects", 30, "--bands", "gr", "--size", 16]
    assert run(*arguments, "--mosaic") == 0
    assert "30 objects in" in capsys.readouterr().out
    assert run(*arguments) == 2
    assert capsys.readouterr().err.startswith("Error: ")
    images = [f"--images={band}={out}/mosaic/mosaic_{band}_*.fits" for band in "gr"]
    catalog = f"--catalog={out}/mosaic/catalog.fits"
    assert run("check", catalog, *images, "--size=16", "--label=class") == 0
    printed = capsys.readouterr().out
    assert "30 of 30 catalogue rows lie on the mosaics." in printed
    assert "30 stamps of 2 bands (g/r), 16 x 16 pixels, float32" in printed


def columns_studied(command, monkeypatch, tmp_path):
    """Run a printed command without the study itself; return the error columns of its data."""
    seen = []

    def record(data, *_, **__):
        seen.append(data)
        raise ValueError("enough")

    monkeypatch.setattr(study_module, "run_study", record)
    program, *arguments = shlex.split(command)
    assert program == "skastro"
    assert run(*arguments, "--out", tmp_path / "out") == 2
    (data,) = seen
    assert data.label == "class"
    return data.error_columns


def test_the_printed_command_studies_a_simulated_survey(monkeypatch, tmp_path, capsys):
    pytest.importorskip("galsim")
    out = tmp_path / "my survey"
    assert run("simulate", "--out", out, "--objects", 90, "--bands", "gr", "--size", 12) == 0
    written, advice = capsys.readouterr().out.splitlines()
    assert written == f"90 objects in {out}; to study them:"
    assert columns_studied(advice, monkeypatch, tmp_path) == {"mag_g": "err_g", "mag_r": "err_r"}


def test_the_printed_command_studies_a_fetched_survey(monkeypatch, tmp_path, capsys):
    out = tmp_path / "my sdss"

    def fetch(n, *, out, **_):
        rows = pd.DataFrame(1.0, range(n), list(sdss._COLUMNS))
        rows["class"] = np.resize(sdss.SDSS_CLASSES, n)
        rows["id"] = np.arange(n)
        stamps = np.zeros((n, 5, 8, 8), np.float32)
        out.mkdir()
        rows.to_csv(out / "catalog.csv", index=False)
        np.save(out / "stamps.npy", stamps)
        return Survey(stamps, rows)

    monkeypatch.setattr(sdss, "fetch_sdss", fetch)
    assert run("fetch", "--out", out, "--objects", 90) == 0
    written, advice = capsys.readouterr().out.splitlines()
    assert written == f"90 objects in {out}; to study them:"
    assert columns_studied(advice, monkeypatch, tmp_path) == {
        f"mag_{band}": f"err_{band}" for band in "ugriz"
    }


WRONG = {
    "check": [
        ([], "catalog is missing"),
        (["none"], "is not a folder"),
        (["--images=a.npy"], "catalog is missing: pass a folder, or both"),
        (["--catalog=c.csv"], "images is missing: pass a folder, or both"),
        (["--catalog=c.csv", "--images=a", "--images=b"], "images='a' must be band=path"),
        (["--catalog=c.csv", "--images=g=x_*.fits"], "matches no file"),
        (["folder", "--catalog=c.csv"], "pass a folder, or a catalog and images"),
        (["folder", "--size=0"], "--size"),
        (["folder", "--radius=-1"], "--radius"),
        (["folder", "more"], "more"),
    ],
    "simulate": [
        (["--objects=0"], "--objects"),
        (["--objects=many"], "--objects"),
        (["--bands=xyz"], "bands"),
        (["--bands="], "bands"),
        (["--size=4"], "--size"),
        (["--faintest=bright"], "--faintest"),
        (["--faintest=3"], "faintest"),
        (["--seed=-1"], "--seed"),
        (["--jobs=0"], "--jobs"),
        (["--mosaics"], "--mosaics"),
    ],
    "fetch": [
        (["--hips=g"], "'g' must be band=name"),
        (["--objects=0"], "--objects"),
        (["--classes="], "classes"),
        (["--classes=PLANET"], "PLANET"),
        (["--bands=xyz"], "the band 'x' has no HiPS"),
        (["--bands="], "bands"),
        (["--size=2"], "--size"),
        (["--seed=-1"], "--seed"),
        (["--size=big"], "--size"),
        (["folder"], "folder"),
    ],
}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [([command, *args], words) for command, cases in WRONG.items() for args, words in cases],
)
def test_wrong_inputs_are_one_line(arguments, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert run(*arguments) == 2
    printed = capsys.readouterr().err
    assert message in printed
    assert len(printed.splitlines()) == 1


def test_json_events_are_lines(capsys):
    with talking(lines=True) as terminal:
        for done in range(50):
            terminal.progress("embedding", done, 49)
        terminal.say("two\nlines")
        terminal.result(rows=np.int64(3), out=Path("a/b"))
    events = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [event["event"] for event in events] == ["progress", "progress", "message", "result"]
    assert events[1] == {"event": "progress", "stage": "embedding", "done": 49, "total": 49}
    assert events[2]["text"] == "two lines"
    assert events[3] == {"event": "result", "rows": 3, "out": "a/b"}


def test_exit_codes_of_defects_interruptions_and_wrong_use(capsys):
    assert end(OSError("the server does not answer"), []) == 1
    assert end(KeyboardInterrupt(), []) == 130
    assert end(ValueError("a\nb"), []) == 2
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "Error: the server does not answer"
    assert lines[1].startswith("Error: interrupted: finished files are kept")
    assert lines[2] == "Error: a b"


def test_shells_can_complete_the_commands():
    environment = {**os.environ, "_SKASTRO_COMPLETE": "complete_bash", "COMP_WORDS": "skastro cl"}
    code = "from skastro.cli.app import main; main([])"
    result = subprocess.run(  # noqa: S603 - our own interpreter and code
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=False,
        env={**environment, "COMP_CWORD": "1"},
    )
    assert result.stdout.split() == ["classify", "cluster"]
