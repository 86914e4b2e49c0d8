"""README and docs: every block of code runs, every command exists, every promise of a file holds.

The blocks of a page are one session, in a folder of its own: Python shares one namespace, and
what one block writes the next may read. ``$ skastro ...`` in a console block goes through the
command line. The surveys and trainings behind are small here, so that all pages take a minute or
two. A block that cannot run says so to the reader by its caption ("Not run by the tests: ...") and
shows up as skipped with that reason.
"""

from __future__ import annotations

import linecache
import re
import runpy
import shlex
import shutil
import sys
import tomllib
from collections import Counter
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import joblib
import pytest
from astropy.table import Table
from markdown_it import MarkdownIt

import skastro
from skastro.cli.app import app, main
from skastro.estimators import classifier, encoder
from skastro.networks.weights import PRETRAINED
from skastro.simulation import survey as simulation_survey
from skastro.study import baselines, data, run

ROOT = Path(__file__).parents[2]
PAGES = [
    *(ROOT / "README.md", ROOT / "CONTRIBUTING.md"),
    *sorted((ROOT / "docs").glob("*.md")),
    *sorted((ROOT / "docs" / "results").glob("*.md")),
]
if not all(page.is_file() for page in PAGES):
    pytest.skip("README and docs are not beside these tests", allow_module_level=True)
BENCHMARKS = sorted((ROOT / "benchmarks").rglob("[!_]*.py"))
NOT_RUN = "Not run by the tests: "
LANGUAGES = {"python", "console", "toml", "bibtex", "text"}
RECIPES = "CONTRIBUTING"  # its Python is what an editor adds to a module, not a session
OPTIONAL = ("matplotlib.pyplot", "galsim", "bokeh", "zarr", "openTSNE")
OF_ONE_PAGE = {"interchange": "onnxruntime"}
SIDE = 12
MOST_OBJECTS = 430  # 301 of them are training rows: enough for 300 labels
MOST_IN_FILES = 240

make_survey = simulation_survey.make_survey
TINY = run.Plan(
    **{**vars(run.QUICK), "n_objects": 120, "label_counts": (30,), "n_repeats": 2, "max_epochs": 1,
       "steps": 2, "scratch": False}
)  # fmt: skip


@dataclass(frozen=True)
class Block:
    page: Path
    line: int
    language: str
    caption: str
    code: str

    def __str__(self):
        return f"{self.page.stem}:{self.line}"

    @property
    def reason(self):
        return self.caption.removeprefix(NOT_RUN) if self.caption.startswith(NOT_RUN) else None


def read_blocks(page):
    """Return the blocks of a page, those in directives such as tabs and notes included."""
    return list(_blocks(page, page.read_text(encoding="utf-8"), 0))


def _blocks(page, text, offset):
    for token in MarkdownIt().parse(text):
        if token.type != "fence":
            continue
        line = offset + token.map[0] + 2
        if match := re.match(r"\{code-block\} (\w+)", token.info):
            head = re.match(r"(?:[ ]*:[\w-]+:.*\n)*\n*", token.content).group()
            caption = re.search(r":caption: \"?(.*?)\"?$", head, re.MULTILINE)
            code = token.content[len(head) :]
            line += head.count("\n")
            yield Block(page, line, match.group(1), caption.group(1) if caption else "", code)
        elif token.info.startswith("{"):
            yield from _blocks(page, token.content, line - 1)
        else:
            yield Block(page, line, token.info, "", token.content)


def join_prompts(code):
    """Return the commands behind the prompts of a console block, without comments."""
    commands = re.findall(r"^\$ ((?:.*\\\n)*.*)", code, re.MULTILINE)
    return [shlex.split(command.replace("\\\n", " "), comments=True) for command in commands]


BLOCKS = [block for page in PAGES for block in read_blocks(page)]


@pytest.fixture
def small(monkeypatch, quick_probe, quick_umap, tmp_path, tmp_path_factory):  # noqa: ARG001
    """Make surveys and trainings small, cached in temporary folders; show no windows."""
    for name in OPTIONAL:
        pytest.importorskip(name, reason=f"{name} is not installed")
    plt = sys.modules["matplotlib.pyplot"]
    memory = tmp_path_factory.getbasetemp() / "surveys"

    def make_small_survey(n_objects=3000, *, most=MOST_OBJECTS, image_size=SIDE, **kwargs):
        side = min(image_size, SIDE)
        kwargs = {**kwargs, "cache": memory, "n_jobs": None}
        return make_survey(min(n_objects, most), image_size=side, **kwargs)

    monkeypatch.setattr(skastro, "make_survey", make_small_survey)
    for module in (simulation_survey, data):
        monkeypatch.setattr(module, "make_survey", partial(make_small_survey, most=MOST_IN_FILES))
    for module in (encoder, run):
        monkeypatch.setattr(module, "choose_epochs", lambda *_: 1)
    for name in ("_MIN_STEPS", "_MAX_STEPS"):
        monkeypatch.setattr(classifier, name, 2)
    for name in ("FULL", "QUICK"):
        monkeypatch.setattr(run, name, TINY)
    monkeypatch.setattr(baselines, "_IMAGENET_PACKAGE", "no_such_package")
    monkeypatch.setattr(plt, "show", lambda: None)
    monkeypatch.chdir(tmp_path)
    with joblib.parallel_config(backend="sequential"):
        yield make_small_survey


def run_python(block, namespace):
    """Run a block so that a traceback shows the page and its line."""
    name = str(block.page)
    linecache.cache[name] = (0, None, block.page.read_text("utf-8").splitlines(True), name)
    exec(compile("\n" * (block.line - 1) + block.code, name, "exec"), namespace)  # noqa: S102


def run_console(block):
    """Run what goes through ``skastro``, and look whether there is what the rest names."""
    for command, *arguments in join_prompts(block.code):
        if command == "skastro":
            with pytest.raises(SystemExit) as stop:
                main(arguments)
            assert stop.value.code == 0, f"{block}: skastro {shlex.join(arguments)}"
        else:
            check_command(command, arguments)


def check_command(command, arguments):
    """Look whether a command that takes too long, or changes the machine, is there as written."""
    if command == "make":
        targets = re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
        assert set(arguments) <= set(targets), f"make {arguments} is no task of the Makefile"
    elif command == "pip":
        extras = re.findall(r"\[([\w,]+)\]", " ".join(arguments))
        known = set(skastro_extras())
        assert {name for group in extras for name in group.split(",")} <= known
    elif command.endswith("python") and arguments[1].startswith("benchmarks."):
        script = ROOT / f"{arguments[1].replace('.', '/')}.py"
        sources = [script, *(ROOT / "benchmarks").rglob("_*.py")]
        text = "".join(path.read_text() for path in sources)
        options = [word for word in arguments if word.startswith("--")]
        assert all(f'"{option}"' in text for option in options), f"{arguments}: no such option"
    elif command.endswith("python") and arguments[:2] == ["-m", "pytest"]:
        files = [word for word in arguments[2:] if word.startswith("tests/")]
        assert all((ROOT / name).is_file() for name in files), f"{arguments}: no such file"
    elif command not in {"cd", "git", "source", "python3"}:
        pytest.fail(f"{command!r}: teach the tests of the docs what to make of this command")


def skastro_extras():
    """Return the names of the extras in pyproject.toml."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return project["optional-dependencies"]


def write_tiles(make_small_survey):
    """Write what a telescope's archive holds: a catalogue, and tiles of two bands."""
    survey = make_small_survey(150)
    folder = skastro.write_survey(survey, "telescope", mosaic=True) / "mosaic"
    for path in folder.glob("mosaic_[gr]_*.fits"):
        path.rename(path.name.removeprefix("mosaic_"))
    (folder / "catalog.fits").rename("cat.fits")


def write_readme_data(make_small_survey):
    """Write what the README calls one's own data."""
    skastro.write_survey(make_small_survey(120), "my-folder", mosaic=False)
    write_tiles(make_small_survey)


def write_mosaics(make_small_survey):
    """Write the catalogue and the mosaics of one pointing, as the page on data names them."""
    write_readme_data(make_small_survey)
    catalog = Table.read("cat.fits")
    field = Counter(catalog["field"]).most_common(1)[0][0]
    catalog[catalog["field"] == field].write("catalog.fits")
    tiles = {"g.fits": f"g_{field:02}.fits", "r_1.fits": f"r_{field:02}.fits"}
    tiles["r_2.fits"] = next(
        path.name for path in sorted(Path().glob("r_*.fits")) if path.name != tiles["r_1.fits"]
    )
    for name, tile in tiles.items():
        shutil.copy(tile, name)
    for path in Path().glob("[gr]_[0-9][0-9].fits"):
        path.unlink()


def write_survey_and_encoder(make_small_survey):
    """Write the survey and the trained encoder that the page on many processes starts from."""
    survey = make_small_survey(64)
    skastro.write_survey(survey, "survey", mosaic=False)
    skastro.open_stamps("survey/stamps.npy").save("stamps.zarr")
    skastro.PropertyPretrainedEncoder("stamp_resnet10").fit(survey.images).save(
        "encoder.safetensors"
    )


SETUP = {
    "README": write_readme_data,
    "data": write_mosaics,
    "scale": write_survey_and_encoder,
}


@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_code_of_a_page_runs(page, small, capsys):
    if name := OF_ONE_PAGE.get(page.stem):
        pytest.importorskip(name, reason=f"{name} is not installed")
    blocks = [block for block in BLOCKS if block.page == page and not block.reason]
    namespace = {"__name__": "__main__"}
    SETUP.get(page.stem, lambda _: None)(small)
    for block in blocks:
        if block.language == "python" and page.stem != RECIPES:
            run_python(block, namespace)
        elif block.language == "console":
            run_console(block)
    assert "Traceback" not in capsys.readouterr().err


@pytest.mark.parametrize("block", [block for block in BLOCKS if block.reason], ids=str)
def test_code_that_is_not_run(block):
    pytest.skip(block.reason)


@pytest.mark.parametrize("block", BLOCKS, ids=str)
def test_code_is_of_a_kind_that_is_looked_at(block):
    assert block.language in LANGUAGES, f"{block}: a fence of {block.language!r} is not run"
    if block.language == "python" and block.page.stem != RECIPES:
        compile(block.code, str(block.page), "exec")
    if block.language == "console":
        assert join_prompts(block.code), f"{block}: a command stands behind '$ '"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_files_that_a_page_names_exist(page):
    pattern = r"`((?:skastro|tests|benchmarks|docs|examples|constraints)/[\w./]*(?:\.\w+|/))`"
    names = re.findall(pattern, page.read_text(encoding="utf-8"))
    assert not [name for name in names if not (ROOT / name).exists()]


def test_installation_names_every_extra():
    text = (ROOT / "docs" / "install.md").read_text(encoding="utf-8")
    assert not {name for name in skastro_extras() if f"`{name}`" not in text}


def test_command_line_page_names_every_command():
    text = (ROOT / "docs" / "cli.md").read_text(encoding="utf-8")
    names = [command.name or command.callback.__name__ for command in app.registered_commands]
    assert len(names) > 5
    assert not [name for name in names if f"`skastro {name}`" not in text]


def test_reference_lists_every_public_name_once():
    text = (ROOT / "docs" / "api.md").read_text(encoding="utf-8")
    listed = Counter(re.findall(r"^   (\w+)$", text, re.MULTILINE))
    assert listed == Counter(skastro.__all__)


@pytest.mark.parametrize("script", BENCHMARKS, ids=lambda path: path.stem)
def test_benchmarks_take_what_their_table_says(script, monkeypatch, capsys):
    name = ".".join(script.relative_to(ROOT / "benchmarks").with_suffix("").parts)
    table = (ROOT / "benchmarks" / "README.md").read_text(encoding="utf-8")
    told = re.search(rf"^\| `{name}( TASK| NAME)?`", table, re.MULTILINE)
    assert told, f"benchmarks/README.md says nothing of {name}"
    monkeypatch.syspath_prepend(ROOT)
    monkeypatch.setattr(sys, "argv", [script.name, "--help"])
    with pytest.raises(SystemExit) as stop:
        runpy.run_path(str(script), run_name="__main__")
    assert stop.value.code == 0
    assert ("positional arguments" in capsys.readouterr().out) == bool(told[1])


@pytest.mark.parametrize("name", PRETRAINED)
def test_weights_have_a_card(name):
    page = (ROOT / "benchmarks/results/weights.md").read_text(encoding="utf-8")
    card = re.search(rf"^## `{name}`$.*?(?=^## |\Z)", page, re.MULTILINE | re.DOTALL)
    assert card, f"benchmarks/results/weights.md has no card of {name}"
    row = skastro.list_pretrained().set_index("name").loc[name]
    told = (PRETRAINED[name], row["command"], row["date"], f"{row['n_stamps']:,} simulated", "R2")
    assert all(text in card.group() for text in told), "paste the card of benchmarks/teacher.py"
