"""Fill and write self-contained HTML pages."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from skastro.utils.files import write_whole
from skastro.utils.packages import import_optional


def render(template: str, content: dict[str, Any], *, needed_by: str = "The report") -> str:
    """Fill a file of ``skastro/pages/templates``; text is escaped.

    Without jinja2, an ImportError says that ``needed_by`` needs it and how to install it.
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
    """Write a page as a whole, and return its path."""
    path = Path(path).expanduser()
    write_whole(path, page.encode())
    return path


def embed_json(content: Any) -> str:
    r"""Return JSON for a script element; NaN is a ValueError.

    Examples
    --------
    >>> embed_json({"id": "</script>"})
    '{"id":"\\u003c/script>"}'
    """
    text = json.dumps(content, allow_nan=False, separators=(",", ":"), ensure_ascii=False)
    return text.replace("<", "\\u003c")
