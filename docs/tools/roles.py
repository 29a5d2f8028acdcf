"""Roles of reStructuredText in docstrings, such as :func:`name`, become code in the Python page."""

from __future__ import annotations

import re
from typing import Any

ROLE = re.compile(r":(?:func|meth|class|mod|data|attr|exc):<code>~?([\w.]+)</code>")


def on_page_content(html: str, **ignored: Any) -> str:
    """Leave the name and drop the role."""
    return ROLE.sub(r"<code>\1</code>", html)
