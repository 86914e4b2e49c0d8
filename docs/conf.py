"""Sphinx configuration: ``make docs`` builds it without a network."""

import re
from pathlib import Path

import jupytext
from sphinx.application import Sphinx

import skastro

project = "skastro"
author = "The skastro developers"
project_copyright = author
version = release = skastro.__version__

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.mathjax",
    "sphinx_copybutton",
    "sphinx_design",
    "sphinxcontrib.bibtex",
    "numpydoc",
    "sphinx_gallery.gen_gallery",
]
exclude_patterns = [
    "_build",
    "_templates",
    "auto_examples/*.ipynb",
    "auto_examples/*.py",
    "records/*.ipynb",
]
templates_path = ["_templates"]
default_role = "py:obj"  # `name` in a docstring links if the name is documented
nitpicky = True
# other projects' names: their inventories are on the network, which a build does without
nitpick_ignore_regex = [("py:.*", r"(sklearn|numpy|pandas|astropy|torch|matplotlib)\..*")]

autosummary_generate = True
toc_object_entries_show_parents = "hide"
autodoc_typehints = "none"  # numpydoc's sections say it with shapes and units
numpydoc_show_class_members = False
myst_enable_extensions = ["attrs_block", "colon_fence", "deflist", "dollarmath"]
myst_heading_anchors = 3
copybutton_prompt_text = "$ "
bibtex_bibfiles = ["references.bib"]
bibtex_default_style = "alpha"
bibtex_reference_style = "author_year"

# the examples are run, which takes some minutes; -D plot_gallery=0 (without -W) leaves that out
sphinx_gallery_conf = {
    "examples_dirs": "../examples",
    "gallery_dirs": "auto_examples",
    "filename_pattern": r"plot_\d",
    "within_subsection_order": "FileNameSortKey",
    "plot_gallery": True,
    "reset_modules": ("matplotlib",),
    "capture_repr": (),  # examples print what is to be seen
    "doc_module": ("skastro",),
    "backreferences_dir": "api/generated/examples",
    "remove_config_comments": True,
    "show_memory": False,
}

html_theme = "pydata_sphinx_theme"
html_title = f"skastro {release}"
html_static_path = ["_static"]
html_css_files = ["skastro.css"]
html_logo = html_favicon = "_static/logo.svg"
html_show_sourcelink = False
html_theme_options = {
    "logo": {"text": "skastro"},
    "navigation_with_keys": False,
    "show_prev_next": True,
    "header_links_before_dropdown": 6,
    "secondary_sidebar_items": ["page-toc"],
    "navbar_align": "left",
    "footer_start": ["copyright"],
    "footer_end": ["sphinx-version"],
    "pygments_light_style": "a11y-high-contrast-light",
    "pygments_dark_style": "a11y-high-contrast-dark",
}
html_sidebars = {"index": [], "install": [], "tour": [], "api": []}

# the raw records of the benchmarks become pages; in the sources, links lead to the files themselves
DOCS = Path(__file__).parent


def write_records() -> None:
    """Copy each raw record into a page, with a title and links from the folder of these pages."""
    (DOCS / "records").mkdir(exist_ok=True)
    for path in (DOCS.parent / "benchmarks" / "results").glob("*.md"):
        text = path.read_text(encoding="utf-8").replace("](../../docs/", "](/")
        if not text.startswith("# "):
            text = f"# Raw record: {path.stem}\n\n{text}"
        page = DOCS / "records" / path.name
        if not page.exists() or page.read_text(encoding="utf-8") != text:
            page.write_text(text, encoding="utf-8")


def link_records(app: Sphinx, docname: str, source: list[str]) -> None:  # noqa: ARG001
    """Let a link to the file of a raw record lead to its page."""
    source[0] = re.sub(r"\]\((\.\./)+benchmarks/results/(?=\w+\.md)", "](/records/", source[0])


def offer_notebook(app: Sphinx, docname: str, source: list[str]) -> None:  # noqa: ARG001
    """Write the page of ten minutes as a notebook, too, and link to it."""
    if docname == "tour":
        (DOCS / "records").mkdir(exist_ok=True)
        jupytext.write(jupytext.read(DOCS / "tour.md"), DOCS / "records" / "tour.ipynb")
        title, rest = source[0].split("\n", 1)
        link = "{download}`Download this page as a notebook <records/tour.ipynb>`"
        source[0] = f"{title}\n\n{link}\n{rest}"


def setup(app: Sphinx) -> None:
    """Write the pages of the raw records before the pages are read."""
    write_records()
    app.connect("source-read", offer_notebook)
    app.connect("source-read", link_records)
