"""Whose node failed, and what it said."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

_LAST_LINE = re.compile(r"^\s*(?:[A-Za-z_][\w.]*\.)?([A-Z]\w*)(?::\s+(.*))?$")
_NODE = re.compile(
    r"^colapipe\.sub_([a-zA-Z0-9+]+?)(?:_ses_([a-zA-Z0-9+]+))?(?:_wf\b|_report$|_outputs$)"
)


@dataclass(frozen=True)
class Failure:
    """A node that failed.

    Parameters
    ----------
    node : str
        Its full name: ``colapipe.sub_01_wf.scan_T1w_wf.load_scan``.
    traceback : str
    crash_file : Path
    """

    node: str
    traceback: str
    crash_file: Path


def participant_of(node: str) -> tuple[str, str | None]:
    """Return participant and session from the full name of a node.

    Examples
    --------
    >>> participant_of("colapipe.sub_01_ses_A_wf.scan_T1w_wf.load_scan")
    ('01', 'A')
    """
    match = _NODE.match(node)
    return (match[1], match[2]) if match else ("", None)


def last_words(traceback: str) -> str:
    """Return what the innermost error of a traceback says, for the person at the keyboard.

    Examples
    --------
    >>> last_words("Traceback:\\n  File x\\n    colapipe.errors.InputFileError: a.nii: broken\\n")
    'a.nii: broken'
    >>> last_words("Traceback:\\n    ValueError: no\\n")
    'ValueError: no'
    """
    lines = traceback.splitlines()
    for number in range(len(lines) - 1, -1, -1):
        match = _LAST_LINE.match(lines[number])
        if match and (match[1].endswith(("Error", "Exception")) or match[1] == "MemoryError"):
            rest = [line.strip() for line in lines[number + 1 :] if line.strip()]
            words = " ".join([match[2] or "", *rest]).strip()
            ours = "colapipe.errors." in lines[number]
            return words if ours and words else f"{match[1]}: {words}".rstrip(": ")
    return lines[-1].strip() if lines else "it left no message"
