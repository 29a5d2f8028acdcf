"""What every executor keeps of a node that failed, and what it says for one that left no result."""

from __future__ import annotations

import traceback as tb
from pathlib import Path
from typing import Any

from colapipe.errors import ParticipantError
from colapipe.run.failures import Failure


class KeepsFailures:
    """Mixed into a plugin of Nipype, before its class: failed nodes are kept in ``failures``."""

    failures: list[Failure]

    def _report_crash(self, node: Any, result: dict[str, Any] | None = None) -> str:
        lines = traceback_lines(result)
        # Nipype adds lines of its own to this list; a string would end the whole run here.
        result = {"result": None, **(result or {}), "traceback": list(lines)}
        crash_file: str = super()._report_crash(node, result=result)  # type: ignore[misc]
        self.failures.append(Failure(str(node.fullname), "".join(lines), Path(crash_file)))
        return crash_file


def no_result(words: str) -> dict[str, Any]:
    """Return what Nipype takes as the result of a node that ended without leaving one.

    Parameters
    ----------
    words : str
        What became of it, for the person at the keyboard.
    """
    return {"result": None, "traceback": tb.format_exception_only(ParticipantError(words))}


def traceback_lines(result: dict[str, Any] | None) -> list[str]:
    """Return the traceback in a result as a list of lines, whether it is one or a text."""
    found = (result or {}).get("traceback") or []
    return [found] if isinstance(found, str) else list(found)
