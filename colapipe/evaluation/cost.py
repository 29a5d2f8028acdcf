"""What a piece of work cost: elapsed time, CPU time, and the largest memory while it ran."""

from __future__ import annotations

import ctypes
import resource
import sys
import time
from pathlib import Path
from types import TracebackType
from typing import Self

_STATUS, _CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")


class Cost:
    """A context that measures what happens in it.

    Attributes
    ----------
    seconds, cpu_seconds : float
        Elapsed time; time of all threads of this process.
    peak_bytes : int
        Largest resident size of the process. Where the system cannot forget the peak of before
        (anything but Linux), that of the whole process so far.
    """

    def __enter__(self) -> Self:
        _forget_peak()
        self._elapsed, self._cpu = time.perf_counter(), time.process_time()
        self.seconds = self.cpu_seconds = 0.0
        self.peak_bytes = 0
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.seconds = time.perf_counter() - self._elapsed
        self.cpu_seconds = time.process_time() - self._cpu
        self.peak_bytes = _peak()


def _forget_peak() -> None:
    """Give back what the last model has freed, and let the peak begin anew (proc(5))."""
    if not sys.platform.startswith("linux"):
        return
    try:
        ctypes.CDLL(None).malloc_trim(0)
        _CLEAR.write_text("5")
    except (OSError, AttributeError):
        return


def _peak() -> int:
    try:
        for line in _STATUS.read_text(encoding="ascii").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    except (OSError, ValueError):
        pass
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
