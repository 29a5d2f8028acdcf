"""What a piece of work cost: elapsed time, CPU time, and the largest memory while it ran."""

from __future__ import annotations

import ctypes
import sys
import time
from pathlib import Path
from types import TracebackType
from typing import Self

from colapipe.run.resources import peak_memory_bytes

_CLEAR = Path("/proc/self/clear_refs")


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
        self.peak_bytes = peak_memory_bytes()


def _forget_peak() -> None:
    """Give back what the last model has freed, and let the peak begin anew (proc(5))."""
    if not sys.platform.startswith("linux"):
        return
    try:
        ctypes.CDLL(None).malloc_trim(0)
        _CLEAR.write_text("5")
    except (OSError, AttributeError):
        return
