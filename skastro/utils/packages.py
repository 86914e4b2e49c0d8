"""Import optional packages, and return the versions of the main ones."""

from __future__ import annotations

import importlib
import platform
from importlib import metadata
from types import ModuleType

# packages whose versions change results
_LIBRARIES = ("torch", "timm", "skorch", "scikit-learn", "numpy", "pandas", "astropy", "sep")


def import_optional(name: str, *, extra: str, needed_by: str) -> ModuleType:
    """Import a module of a package that one of skastro's extras installs.

    If the package is missing, the ImportError begins with ``needed_by``, such as "The report", and
    gives the command that installs ``extra``.

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
    """Return the versions of Python, skastro, and the packages that its results depend on.

    Examples
    --------
    >>> list(library_versions())[:3]
    ['python', 'skastro', 'torch']
    """
    names = ("skastro", *_LIBRARIES)
    return {"python": platform.python_version()} | {n: metadata.version(n) for n in names}
