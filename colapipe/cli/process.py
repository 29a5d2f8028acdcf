"""What a command tells the C libraries, and asks the system, about its memory and threads."""

from __future__ import annotations

import ctypes
import os
import sys

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
_LARGE = 1 << 30


def keep_freed_memory() -> None:
    """Let glibc keep freed memory for the next layer instead of giving it back each time.

    Networks allocate and free the same large arrays over and over; fetching them anew from the
    system costs up to half of the time. Does nothing where there is no glibc.
    """
    if not sys.platform.startswith("linux"):
        return
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return
    mallopt(_M_MMAP_THRESHOLD, _LARGE)
    mallopt(_M_TRIM_THRESHOLD, _LARGE)


def wait_without_spinning() -> None:
    """Let threads that wait for each other sleep; to be called before torch is imported.

    By default they spin, which is quicker on an idle machine by a little and on a busy one slower
    by much: 80 slices on two threads took 70 s and not 8 at a load of 6 on two cores.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


def peak_memory_bytes() -> int:
    """Return the largest resident size that this process has had."""
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
