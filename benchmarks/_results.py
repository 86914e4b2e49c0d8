"""Write the result of a benchmark: a Markdown table, and its numbers as JSON."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any


def write_results(out: Path | None, result: Any, markdown: str) -> None:
    """Print a table; write it and the numbers, if there is a file to write to."""
    print(markdown, flush=True)
    if out is None:
        return
    out.write_text(json.dumps(result, indent=1) + "\n")
    out.with_suffix(".md").write_text(markdown + "\n")
