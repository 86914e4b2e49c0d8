"""Sphinx configuration: ``make docs`` builds it without a network."""

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
    "numpydoc",
    "sphinx_gallery.gen_gallery",
]
exclude_patterns = ["_build", "_templates", "auto_examples/*.ipynb", "auto_examples/*.py"]
templates_path = ["_templates"]
default_role = "py:obj"  # `name` in a docstring links if the name is documented
nitpicky = False

autosummary_generate = True
autodoc_typehints = "none"  # numpydoc's sections say it with shapes and units
numpydoc_show_class_members = False
myst_enable_extensions = ["colon_fence", "deflist", "dollarmath"]
myst_heading_anchors = 3

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
    "remove_config_comments": True,
    "show_memory": False,
}

html_theme = "pydata_sphinx_theme"
html_title = f"skastro {release}"
html_show_sourcelink = False
html_theme_options = {
    "navigation_with_keys": False,
    "show_prev_next": True,
    "secondary_sidebar_items": ["page-toc"],
}
