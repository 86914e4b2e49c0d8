"""Lines about the progress of a command where the output is not a terminal."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time

import pandas as pd
import pytest
import typer

from skastro.cli import terminal as terminals
from skastro.cli.app import app
from skastro.cli.terminal import show_table, talking
from skastro.utils.progress import report_to

LINE = re.compile(r"\[ {1,3}\d+:\d\d\] \S.*")


@pytest.fixture
def hasty(monkeypatch):
    """Print lines after fractions of a second."""
    for name, seconds in {
        "_LINE_SECONDS": 0.1, "_NEW_LINE_SECONDS": 0.03, "_LOOK_SECONDS": 0.01,
        "_MIN_ESTIMATE_SECONDS": 0.15, "_MARK_SECONDS": 0.0,
    }.items():  # fmt: skip
        monkeypatch.setattr(terminals, name, seconds)


def wait_for(text, capsys, seconds=20):
    """Return what is printed until it has a text."""
    printed, end = "", time.monotonic() + seconds
    while text not in printed and time.monotonic() < end:
        time.sleep(0.02)
        printed += capsys.readouterr().err
    assert text in printed
    return printed


@pytest.mark.usefixtures("hasty")
def test_lines_say_what_runs_how_far_it_is_and_how_long_it_takes(capsys):
    with talking():
        report_to("reading the data")(0)
        report = report_to("pretraining", 400)
        report(0)
        time.sleep(0.2)
        report(100)
        printed = wait_for("left", capsys)
        report_to("projecting", 4)(0)
        printed += wait_for("projecting, 0 %, for 0:00 so far", capsys)
        report_to("clustering")(0)
        printed += wait_for("clustering, for 0:00 so far", capsys)
    assert "pretraining, 25 %, about 0:0" in printed
    assert all(LINE.fullmatch(line) for line in printed.splitlines()), printed
    assert "\x1b" not in printed


@pytest.mark.usefixtures("hasty")
def test_a_stage_that_reports_nothing_more_prints_lines_too(capsys):
    with talking():
        report_to("clustering")(0)
        wait_for("clustering", capsys)
        wait_for("clustering", capsys)
        wait_for("clustering", capsys)


@pytest.mark.usefixtures("hasty")
@pytest.mark.parametrize("options", [{"quiet": True}, {"lines": True}])
def test_quiet_commands_and_json_print_no_lines(options, capsys):
    with talking(**options):
        report_to("clustering")(0)
        time.sleep(0.3)
    assert capsys.readouterr().err == ""


def test_the_remaining_time_follows_the_pace_of_late():
    stage = terminals._Stage("learning", 100, 0.0)
    for second in range(11):  # ten fits in ten seconds
        stage.advance(float(second), second, 100)
    assert stage.describe(10.0) == "learning, 10 %, about 1:30 left"
    for fit in range(11, 21):  # the next ten take a minute each
        stage.advance(10.0 + 60 * (fit - 10), fit, 100)
    assert stage.describe(610.0) == "learning, 20 %, about 1:20:00 left"
    # nothing was finished for ten minutes more
    assert stage.describe(1210.0) == "learning, 20 %, about 2:48:53 left"


def test_a_command_that_loads_the_libraries_says_so_in_a_log(tmp_path):
    (tmp_path / "wrong.csv").write_text("name\na\nb\n")
    code = (
        "import sys, time\n"
        "from skastro.cli import terminal\n"
        "terminal._NEW_LINE_SECONDS = 0.05\n"
        "from skastro.cli.app import main\n"
        "main(['cluster', 'wrong.csv'])\n"
    )
    done = subprocess.run(  # noqa: S603 - our own interpreter and code
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=tmp_path,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    *lines, error = done.stderr.splitlines()
    assert any("loading the libraries" in line for line in lines)
    assert all(LINE.fullmatch(line) for line in lines)
    assert error.startswith("Error: ")
    assert done.returncode == 2


def test_a_narrow_terminal_names_a_few_of_the_columns_without_room(monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", "40")
    show_table(pd.DataFrame({f"a long column {n}": [1.5] for n in range(9)}))
    printed = " ".join(capsys.readouterr().out.split())
    assert "A wider terminal shows more columns: a long column 2, " in printed
    assert printed.endswith("a long column 6, ...")


COMMANDS = {info.callback.__name__: info for info in app.registered_commands}


@pytest.mark.parametrize("name", COMMANDS)
def test_help_shows_every_default(name):
    command = typer.main.get_command(app).commands[name]
    shown = {parameter.name for parameter in command.params if parameter.show_default}
    for parameter in command.params:
        assert "default" not in (parameter.help or "").lower(), "typer shows defaults"
        if parameter.default not in (None, False, ()):
            assert parameter.name in shown


def test_help_has_no_broken_paragraph(monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", "80")
    with pytest.raises(SystemExit):
        app(["study", "--help"])
    text = capsys.readouterr().out
    assert "compares with networks trained from scratch, the" in " ".join(text.split())
    assert "[default: (0,30,100,300,1000)]" in " ".join(re.sub("[│\n]", " ", text).split())
    assert "networks trained\n" not in re.sub(r" +\n", "\n", text)
