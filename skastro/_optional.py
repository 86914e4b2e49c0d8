"""Optional packages: imported where they are needed, missed with one sentence."""

from __future__ import annotations

import importlib
from types import ModuleType


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
