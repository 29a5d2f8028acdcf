"""Tables of columns, made from the dictionaries that the app writes beside its own tables.

mkdocs calls :func:`on_page_markdown` for each page (``hooks`` in ``mkdocs.yml``). A page says where
a table goes, and of which dictionary: ``<!-- columns: colapipe.quality.columns.COLUMNS -->``; of
some of its columns: ``<!-- columns: colapipe.quality.scores.SCORE_COLUMNS psnr ssim -->``.
"""

from __future__ import annotations

import importlib
import re
import sys
from pathlib import Path
from typing import Any

MARKER = re.compile(r"<!-- columns: ([\w.]+)\.(\w+)([\w ]*) -->")


def on_page_markdown(markdown: str, **ignored: Any) -> str:
    """Put a table where a page has a marker."""
    return MARKER.sub(lambda found: table(*found.groups()), markdown)


def table(module: str, name: str, columns: str = "") -> str:
    """Return the columns of a BIDS data dictionary as a Markdown table."""
    described = getattr(importlib.import_module(module), name)
    chosen = columns.split() or list(described)
    rows = [f"| `{column}` | {_meaning(described[column])} |" for column in chosen]
    return "\n".join(["| column | meaning |", "|---|---|", *rows])


def _meaning(described: dict[str, Any]) -> str:
    words = described["Description"].rstrip(".") + "."
    if "Units" in described:
        words += f" In {described['Units']}."
    if "Levels" in described:
        levels = (f"{level}: {text.rstrip('.')}" for level, text in described["Levels"].items())
        words += f" {'; '.join(levels)}."
    words = words.replace("&", "&amp;").replace("<", "&lt;").replace("|", "&#124;")
    return re.sub(r"([\\`*_\[\]])", r"\\\1", words)


if __name__ == "__main__":
    print(on_page_markdown(Path(sys.argv[1]).read_text(encoding="utf-8")))
