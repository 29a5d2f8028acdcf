"""What a dataset holds as text for people, made safe to look at."""

from __future__ import annotations

import json
from typing import Any

from markupsafe import Markup

# Characters that reorder or hide the text around them: names from a dataset show them as codes.
_DISGUISES = {
    code: f"\\u{code:04x}"
    for code in (
        *range(0x00, 0x09),
        *range(0x0B, 0x20),
        *range(0x7F, 0xA0),
        *range(0x200B, 0x2010),
        *range(0x202A, 0x202F),
        *range(0x2066, 0x206A),
        0xFEFF,
    )
}


def visible(value: object) -> object:
    """Make text from a dataset safe to look at: no hidden or reordering characters.

    HTML is escaped later, by the template engine. Undecodable bytes of file names, which cannot be
    written as UTF-8, become codes too.
    """
    if isinstance(value, str) and not isinstance(value, Markup):
        return value.translate(_DISGUISES).encode("utf-8", "backslashreplace").decode("utf-8")
    return value


def flatten(content: dict[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    """Turn nested settings or a sidecar into (dotted name, text) pairs, in their order."""
    pairs: list[tuple[str, str]] = []
    for key, value in content.items():
        name = f"{prefix}{key}"
        if isinstance(value, dict) and value:
            pairs.extend(flatten(value, f"{name}."))
        elif isinstance(value, (list, tuple)) and all(not isinstance(v, dict) for v in value):
            pairs.append((name, ", ".join(as_text(v) for v in value) or "none"))
        else:
            pairs.append((name, as_text(value)))
    return pairs


def as_text(value: object) -> str:
    """Write one JSON value for people."""
    if value is None:
        return "not set"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, (dict, list, tuple)):
        return json.dumps(value, ensure_ascii=False, default=str)
    return str(value)
