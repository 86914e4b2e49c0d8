"""Public names are fully documented, and estimators are displayed well in notebooks."""

import ast
import builtins
import dataclasses
import inspect
import re
import textwrap
import tomllib
from html import unescape
from pathlib import Path

import numpy as np
import pytest
from numpydoc.docscrape import ClassDoc, FunctionDoc
from numpydoc.validate import validate
from sklearn.base import BaseEstimator
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline

import skastro
from skastro.utils.validation import DOCUMENTATION
from tests.conftest import tiny_encoder

# checks of numpydoc that are left out, and why
_IGNORED_CHECKS = {
    "ES01": "one sentence is enough for a simple function",
    "EX01": "methods are shown in the example of their class, which test_house requires",
    "PR07": "a name and a type with its shape may say it all",
    "RT02": "what is returned has a name",
    "RT03": "likewise",
    "SA01": "links stand in the text",
}
_MADE_BY_SKLEARN = re.compile(r"set_\w+_request")


def _public_objects():
    """Yield the name and the object of all public functions, classes and methods."""
    for name in skastro.__all__:
        thing = getattr(skastro, name)
        yield name, thing
        if inspect.isclass(thing):
            for attribute in vars(thing):
                if not attribute.startswith("_") and not _MADE_BY_SKLEARN.fullmatch(attribute):
                    yield f"{name}.{attribute}", getattr(thing, attribute)


OBJECTS = {name: thing for name, thing in _public_objects() if callable(thing)}
ESTIMATORS = [
    thing
    for thing in OBJECTS.values()
    if inspect.isclass(thing) and issubclass(thing, BaseEstimator)
]


def _documented(thing):
    """Return the types of the documented parameters; a dataclass may call them attributes."""
    docs = (ClassDoc if inspect.isclass(thing) else FunctionDoc)(thing)
    entries = [*docs["Parameters"]]
    if dataclasses.is_dataclass(thing):
        entries += docs["Attributes"]
    return {name: entry.type for entry in entries for name in entry.name.split(", ")}


@pytest.mark.parametrize("name", OBJECTS)
def test_docstrings_have_the_sections_of_numpydoc(name):
    errors = dict(validate(f"skastro.{name}")["errors"])
    if dataclasses.is_dataclass(OBJECTS[name]):  # its parameters may be its attributes
        errors.pop("PR01", None)
        assert set(inspect.signature(OBJECTS[name]).parameters) <= set(_documented(OBJECTS[name]))
    assert not {code: text for code, text in errors.items() if code not in _IGNORED_CHECKS}


@pytest.mark.parametrize("name", OBJECTS)
def test_documented_defaults_are_those_of_the_signature(name):
    documented = _documented(OBJECTS[name])
    for parameter in inspect.signature(OBJECTS[name]).parameters.values():
        text = documented.get(parameter.name, "")
        default = text.rpartition("default=")[2] if "default=" in text else None
        if parameter.default is inspect.Parameter.empty:
            assert default is None, f"{parameter.name} has no default"
        elif default is not None or not dataclasses.is_dataclass(OBJECTS[name]):
            assert default is not None, f"the default of {parameter.name} is not documented"
            assert ast.literal_eval(default) == parameter.default, parameter.name


@pytest.mark.parametrize("name", [name for name in OBJECTS if not inspect.isclass(OBJECTS[name])])
def test_raised_errors_are_documented(name):
    function = inspect.unwrap(OBJECTS[name])
    source = ast.parse(textwrap.dedent(inspect.getsource(function)))
    raised = {
        node.exc.func.id
        for node in ast.walk(source)
        if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call)
        if isinstance(node.exc.func, ast.Name)
    }
    documented = re.findall(
        r"\w+", " ".join(entry.type for entry in FunctionDoc(function)["Raises"])
    )
    kinds = tuple(getattr(builtins, kind) for kind in documented)
    assert not [error for error in raised if not issubclass(getattr(builtins, error), kinds)]


@pytest.mark.parametrize("estimator", ESTIMATORS, ids=lambda e: e.__name__)
def test_displays_of_estimators_link_to_the_documentation(estimator):
    display = unescape(estimator()._repr_html_())
    page = f"{DOCUMENTATION}/api/generated/skastro.{estimator.__name__}.html"
    assert f'href="{page}' in display


def test_displays_of_fitted_estimators_show_fitted_attributes(survey):
    stamps, _, properties = survey
    encoder = tiny_encoder(max_epochs=0)
    assert "Not fitted" in encoder._repr_html_()
    display = encoder.fit(stamps, properties=properties)._repr_html_()
    assert "Not fitted" not in display
    assert "max_epochs" in display
    if "fitted-attributes" not in display and "Fitted attributes" not in display:
        pytest.skip("this scikit-learn shows parameters only")
    assert "property_source_" in display
    assert "embedding_mean_" in display


def test_the_display_of_a_pipeline_names_its_steps(survey):
    stamps, labels, _ = survey
    pipeline = make_pipeline(tiny_encoder(max_epochs=0), LogisticRegression()).fit(stamps, labels)
    display = pipeline._repr_html_()
    assert "PropertyPretrainedEncoder" in display
    assert "LogisticRegression" in display
    assert np.isin(pipeline.predict(stamps[:2]), labels).all()


def test_the_documentation_has_one_address():
    path = Path(skastro.__file__).parents[1] / "pyproject.toml"
    if not path.is_file():
        pytest.skip("the source tree is not here")
    urls = tomllib.loads(path.read_text(encoding="utf-8"))["project"]["urls"]
    assert urls["Documentation"] == DOCUMENTATION
