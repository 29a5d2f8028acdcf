"""What JSON files say, in words for people; and what a participant's folder holds."""

from __future__ import annotations

import json
from typing import Any

from colapipe.bids.outputs import (
    Derivative,
    SessionFiles,
    read_json,
    read_session,
    read_table,
    session_folders,
)

__all__ = [
    "Derivative",
    "SessionFiles",
    "as_text",
    "flatten",
    "read_json",
    "read_session",
    "read_table",
    "session_folders",
]


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
