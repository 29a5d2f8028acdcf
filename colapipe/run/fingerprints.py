"""Whether a file is what it was: by size and times where they are the same, else by content.

Nobody can set the time of the last change of a file's status (ctime), so that content which was
replaced under the old size and the old time of modification is noticed; copies and files that were
only touched are what they were, because their content is.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

Times = list[int]
"""Size in bytes, time of modification and time of status change in ns; empty: no such file."""

Fingerprint = list[Any]
"""`Times` and the SHA-256 of the content, as JSON keeps it; empty: no such file."""

_REST = 2_000_000_000
"""Nanoseconds that a file must have been left alone for its times to be trusted: within one tick of
the clock, a second change would leave no trace in them."""


def times_of(path: Path) -> Times:
    """Return size and times of a file; empty if it is not there."""
    try:
        found = path.stat()
    except OSError:
        return []
    return [found.st_size, found.st_mtime_ns, found.st_ctime_ns]


def fingerprint(path: Path, before: Times | None = None) -> Fingerprint:
    """Return what tells a file from any other.

    Parameters
    ----------
    path : Path
    before : list of int, optional
        Its `times_of` when its content mattered. If it was changed since, the fingerprint is one
        that no file has.
    """
    now = times_of(path)
    if before is not None and now != before:
        return [*(before or [0, 0, 0]), ""]
    if not now:
        return []
    settled = time.time_ns() - now[2] > _REST
    return [*now[:2], now[2] if settled else 0, _sha256(path)]


def is_same(path: Path, known: Sequence[Any]) -> bool:
    """Say whether a file is there, or not there, as it was when its fingerprint was taken."""
    now = times_of(path)
    if not now or not known:
        return not now and not known
    return now == list(known[:3]) or (
        now[0] == known[0] and known[3] != "" and _sha256(path) == known[3]
    )


def refreshed(path: Path, known: Fingerprint) -> Fingerprint:
    """Return the fingerprint of a file that `is_same`, with the times that it has by now."""
    return known if times_of(path) == known[:3] else fingerprint(path)


def _sha256(path: Path) -> str:
    """Return the hash of a file's content; empty, which no file has, if it cannot be read."""
    try:
        with path.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError:
        return ""
