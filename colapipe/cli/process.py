"""What a command does around its work: memory, threads, and the errors of models."""

from __future__ import annotations

import argparse
import ctypes
import os
import sys
from collections.abc import Callable

from colapipe.errors import ModelError, UsageError

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


def ready_for_networks() -> None:
    """Set up memory and threads for networks; to be called before torch is imported."""
    keep_freed_memory()
    wait_without_spinning()


def run_with_models(
    work: Callable[[argparse.Namespace, Callable[[str], None]], None], options: argparse.Namespace
) -> None:
    """Run a command of ``colapipe-model`` that loads models and reports on the screen.

    Raises
    ------
    ModelError
        If a file is not a model.
    UsageError
        If the device is not there.
    """
    ready_for_networks()
    from colapipe.coladiff.checkpoint import CheckpointError
    from colapipe.coladiff.model import DeviceError

    try:
        work(options, lambda line: print(line, flush=True))
    except CheckpointError as error:
        raise ModelError(str(error)) from error
    except DeviceError as error:
        raise UsageError(f"--device: {error}") from error
