"""What a benchmark has found: a table to read, and its numbers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any


def write_results(out: Path | None, result: Any, markdown: str) -> None:
    """Print a table, and write it beside the JSON."""
    print(markdown, flush=True)
    if out is None:
        return
    out.write_text(json.dumps(result, indent=1) + "\n")
    out.with_suffix(".md").write_text(markdown + "\n")
