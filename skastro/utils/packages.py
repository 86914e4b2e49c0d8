"""Packages: optional ones, missed with one sentence, and the versions of those that matter."""

from __future__ import annotations

import importlib
import platform
from importlib import metadata
from types import ModuleType

# what the numbers depend on
_LIBRARIES = ("torch", "timm", "skorch", "scikit-learn", "numpy", "pandas", "astropy", "sep")


def import_optional(name: str, *, extra: str, needed_by: str) -> ModuleType:
    """Import a package of one of the project's extras.

    Parameters
    ----------
    name : str
        Module to import, for example ``"matplotlib.pyplot"``.
    extra : str
        The extra of skastro that installs it.
    needed_by : str
        What the caller wanted to do, as the subject of the error's sentence.

    Returns
    -------
    module : module

    Raises
    ------
    ImportError
        The package is not installed; the message says how to install it.

    Examples
    --------
    >>> import_optional("json", extra="report", needed_by="The report").__name__
    'json'
    """
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        package = name.partition(".")[0]
        raise ImportError(
            f"{needed_by} needs {package}, which is not installed: pip install 'skastro[{extra}]'"
        ) from error


def library_versions() -> dict[str, str]:
    """Return the versions of Python, skastro, and the packages that its numbers depend on.

    Returns
    -------
    versions : dict of str to str

    Examples
    --------
    >>> list(library_versions())[:3]
    ['python', 'skastro', 'torch']
    """
    names = ("skastro", *_LIBRARIES)
    return {"python": platform.python_version()} | {n: metadata.version(n) for n in names}
