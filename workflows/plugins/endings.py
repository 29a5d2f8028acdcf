"""Words for jobs that ended without leaving what came of their node."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from colapipe.slurm.commands import Ending
from colapipe.workflows.plugins.failures import no_result

_LINES = 20
_MEMORY_WORDS = ("exceeded memory limit", "oom-kill", "oom_kill", "out of memory")
_CAUSES = {
    "OUT_OF_MEMORY": "it needed more memory than the {mem} it had asked for",
    "TIMEOUT": "it took longer than the time it had asked for",
    "DEADLINE": "it took longer than the time it had asked for",
    "CANCELLED": "it was cancelled (scancel)",
    "NODE_FAIL": "the machine it ran on failed",
    "BOOT_FAIL": "the machine it was to run on did not start",
    "PREEMPTED": "a job of higher priority took its place",
}


def describe(number: str, end: Ending | None, log: Path, mem: str) -> dict[str, Any]:
    """Return what Nipype takes as the result of a job that left none, with the end of its log.

    Parameters
    ----------
    number : str
        Of the job.
    end : Ending or None
        What SLURM says; None if it knows nothing any more.
    log : Path
    mem : str
        Memory that it had asked for.
    """
    tail = log_tail(log)
    words = f"SLURM job {number} ended without a result: {cause(end, tail, mem)}"
    if end is not None:
        told = [f"state {end.state}", *([f"reason {end.reason}"] if end.reason else [])]
        told += [f"exit code {end.exit_code}"] if end.exit_code else []
        told += [f"on {end.host}"] if end.host else []
        words += f" ({', '.join(told)})"
    result = no_result(f"{words}. Its log is {log}")
    heading = [f"The end of {log}:\n", *(f"  | {line}\n" for line in tail)] if tail else []
    # The last line is what people are shown.
    return {**result, "traceback": [*heading, *result["traceback"]]}


def cause(end: Ending | None, tail: list[str], mem: str) -> str:
    """Return in words why a job ended, as far as anybody can tell."""
    # Without control groups SLURM itself ends a job that takes too much, and says so in its log.
    if any(words in line.lower() for line in tail for words in _MEMORY_WORDS):
        return _CAUSES["OUT_OF_MEMORY"].format(mem=mem)
    if end is None:
        return "SLURM knows nothing of it any more"
    state = end.state.partition(" ")[0].rstrip("+")
    if state in _CAUSES:
        return _CAUSES[state].format(mem=mem)
    return "its log may tell why"


def log_tail(log: Path) -> list[str]:
    """Return the last lines of a job's log; empty if there is none."""
    try:
        with log.open("rb") as file:
            file.seek(max(0, log.stat().st_size - 8192))
            text = file.read().decode(errors="replace")
    except OSError:
        return []
    return text.splitlines()[-_LINES:]
