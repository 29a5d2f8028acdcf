"""No page for addresses that do not exist: the manual has no address of its own.

mkdocs' theme writes one for a web server, whose search form would go to the machine "search.html".
"""

from __future__ import annotations

from pathlib import Path
from typing import Any


def on_post_build(config: Any) -> None:
    """Remove the page once the manual is built."""
    (Path(config["site_dir"]) / "404.html").unlink(missing_ok=True)
