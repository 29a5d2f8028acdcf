"""How much memory processes and their children hold, as Linux tells it."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Collection
from pathlib import Path

INTERVAL = 0.2
"""Seconds between two looks."""


class PeakMemory(threading.Thread):
    """Look again and again at running nodes, and keep the most that each has held.

    A node that dies cannot tell any more, so this is seen from outside.

    Parameters
    ----------
    running : callable
        Returns the process ids of the nodes that run now.
    """

    def __init__(self, running: Callable[[], Collection[int]]) -> None:
        super().__init__(daemon=True)
        self._running = running
        self._peaks: dict[int, float] = {}
        self._stopped = threading.Event()

    def run(self) -> None:
        while not self._stopped.wait(INTERVAL):
            for pid in self._running():
                self._peaks[pid] = max(self._peaks.get(pid, 0.0), tree_memory_gb(pid))

    def take(self, pid: int) -> float:
        """Return the peak of one node in GB and forget it; 0 if it was never seen."""
        return self._peaks.pop(pid, 0.0)

    def stop(self) -> None:
        """Look no more."""
        self._stopped.set()


def tree_memory_gb(pid: int) -> float:
    """Return what a process and all its children hold, in GB.

    Memory that processes share is divided among them (the proportional set size); where the
    system does not tell this, the resident size counts.
    """
    return sum(_memory_kb(each) for each in [pid, *descendants(pid)]) / 1024**2


def descendants(pid: int) -> list[int]:
    """Return the children of a process, their children, and so on."""
    found: list[int] = []
    # A process may end between two looks.
    with contextlib.suppress(OSError):
        for task in Path(f"/proc/{pid}/task").iterdir():
            for word in _read(task / "children").split():
                found += [int(word), *descendants(int(word))]
    return found


def _memory_kb(pid: int) -> int:
    for name, field in (("smaps_rollup", "Pss:"), ("status", "VmRSS:")):
        for line in _read(Path(f"/proc/{pid}/{name}")).splitlines():
            if line.startswith(field):
                return int(line.split()[1])
    return 0


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii", errors="replace")
    except OSError:
        return ""
