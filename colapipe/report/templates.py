"""Fill page templates: everything is escaped, and no script runs but our own."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Any

from jinja2 import Environment, FunctionLoader, StrictUndefined
from markupsafe import Markup

from colapipe.report.text import visible


def render(template: str, context: Mapping[str, Any], script: str | None = None) -> str:
    """Fill a template of ``bids_templates``.

    Parameters
    ----------
    template : str
        Its file name. It may include others, such as ``style.css``, and import macros.
    context : mapping
        What it shows; text is escaped, and hidden characters are shown as codes.
    script : str, optional
        File name of the page's script. The template finds it as ``script``, and its hash, which
        its Content-Security-Policy names, as ``script_hash``.
    """
    environment = Environment(
        loader=FunctionLoader(read_template),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=visible,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    more: dict[str, Any] = {}
    if script is not None:
        text = read_template(script)
        # Our own file, and nothing of a dataset: the one text that is not escaped.
        more = {"script": Markup(text), "script_hash": script_hash(text)}
    return environment.get_template(template).render(**context, **more)


def script_hash(script: str) -> str:
    """Return what a Content-Security-Policy names so that exactly this script may run."""
    digest = hashlib.sha256(script.encode("utf-8")).digest()
    return f"sha256-{base64.b64encode(digest).decode('ascii')}"


def read_template(name: str) -> str:
    """Read a file of ``bids_templates``: as installed, or beside the library in a bare checkout."""
    try:
        room = resources.files("colapipe.bids_templates")
        return room.joinpath(name).read_text(encoding="utf-8")
    except (ModuleNotFoundError, FileNotFoundError):
        checkout = Path(__file__).resolve().parents[2] / "bids_templates"
        return (checkout / name).read_text(encoding="utf-8")
