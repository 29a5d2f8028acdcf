"""Whose node failed, and what it said."""

from __future__ import annotations

import re
import signal
from dataclasses import dataclass
from pathlib import Path

_LAST_LINE = re.compile(r"^\s*(?:[A-Za-z_][\w.]*\.)?([A-Z]\w*)(?::\s+(.*))?$")
_NODE = re.compile(
    r"^colapipe\.sub_([a-zA-Z0-9-]+?)(?:_ses_([a-zA-Z0-9-]+))?(?:_wf\b|_report$|_outputs$)"
)
_FAULT = "a fault in a program or a library"
_MEANINGS = {
    "SIGKILL": "most likely for want of memory (--mem and --nprocs say how much runs at once)",
    "SIGSEGV": _FAULT,
    "SIGBUS": _FAULT,
    "SIGILL": "an instruction that this processor does not know",
    "SIGABRT": _FAULT,
    "SIGFPE": _FAULT,
    "SIGXCPU": "the limit of CPU time",
}


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


def node_name(participant: str, session: str | None = None) -> str:
    """Return how the names of a participant's nodes begin; `participant_of` reads it again.

    BIDS allows ``+`` in labels and Nipype does not in names; for ``-`` it is the other way round.

    Examples
    --------
    >>> node_name("01+02", "A")
    'sub_01-02_ses_A'
    """
    name = f"sub_{participant}" + (f"_ses_{session}" if session else "")
    return name.replace("+", "-")


def participant_of(node: str) -> tuple[str, str | None]:
    """Return participant and session from the full name of a node.

    Examples
    --------
    >>> participant_of("colapipe.sub_01_ses_A_wf.scan_T1w_wf.load_scan")
    ('01', 'A')
    >>> participant_of("colapipe.sub_01-02_report")
    ('01+02', None)
    """
    match = _NODE.match(node)
    if match is None:
        return "", None
    participant, session = (label and label.replace("-", "+") for label in match.groups())
    return participant, session


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


def describe_exit(code: int) -> tuple[str, str]:
    """Return the name and the meaning of the exit code of a process that left no result.

    Parameters
    ----------
    code : int
        Negative for a signal, as `subprocess` has it; shells add 128 instead.

    Examples
    --------
    >>> describe_exit(-11)
    ('SIGSEGV', 'was ended by SIGSEGV, a fault in a program or a library')
    >>> describe_exit(3)
    ('3', 'ended with exit code 3')
    """
    number = -code if code < 0 else code - 128
    try:
        name = signal.Signals(number).name
    except ValueError:
        return str(code), f"ended with exit code {code}"
    meaning = _MEANINGS.get(name, "")
    return name, f"was ended by {name}" + (f", {meaning}" if meaning else "")
