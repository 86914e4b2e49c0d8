"""Self-contained pages: the templates and how they are filled and written."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from skastro.utils.files import write_atomically, writing
from skastro.utils.packages import import_optional


def render(template: str, content: dict[str, Any], *, needed_by: str = "The report") -> str:
    """Fill one of the package's templates.

    Parameters
    ----------
    template : str
        Name of a file in ``skastro/pages/templates``.
    content : dict
        What the template asks for; text is escaped.
    needed_by : str, default="The report"
        Who wants jinja2, should it be missing.

    Returns
    -------
    text : str

    Raises
    ------
    ImportError
        jinja2 is not installed.
    """
    jinja2 = import_optional("jinja2", extra="report", needed_by=needed_by)
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("skastro.pages"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    return environment.get_template(template).render(content)


def write_page(path: str | Path, page: str) -> Path:
    """Write a page under a temporary name and rename it.

    Parameters
    ----------
    path : path
    page : str

    Returns
    -------
    path : Path

    Raises
    ------
    OSError
        The file cannot be written.
    """
    path = Path(path).expanduser()
    with writing(path):
        write_atomically(path, page.encode())
    return path


def embed_json(content: Any) -> str:
    r"""Return JSON that may stand inside a script element.

    Parameters
    ----------
    content : object
        What JSON can hold; NaN is an error.

    Returns
    -------
    text : str

    Examples
    --------
    >>> embed_json({"id": "</script>"})
    '{"id":"\\u003c/script>"}'
    """
    text = json.dumps(content, allow_nan=False, separators=(",", ":"), ensure_ascii=False)
    return text.replace("<", "\\u003c")
